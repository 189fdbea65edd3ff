"""Backbones of learned metrics: where their files are, what they hash to, how to get them.

LPIPS and DISTS compare features of ImageNet classifiers. Their packages would download those on first use; here nothing
is downloaded without being asked: `srcli models pull metrics` does it, and files that torchvision has downloaded before
(below `TORCH_HOME`) are used as they are.
"""

import importlib
import importlib.metadata
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from srcli.errors import TORCHVISION, ModelError
from srcli.files import sha256
from srcli.weights.files import models_folder

PULL = "srcli models pull metrics"
_named: dict[str, Path] = {}  # files given to `use`


@dataclass(frozen=True)
class Backbone:
    """Published weights of an ImageNet classifier, and the package that defines its network.

    The name of the file ends in the first eight digits of its SHA-256.
    """

    file: str
    url: str
    license: str = "BSD-3-Clause (torchvision); trained on ImageNet"
    package: str = "torchvision"

    @property
    def digits(self) -> str:
        return self.file.rpartition("-")[2].removesuffix(".pth")


BACKBONES = {
    name: Backbone(file, f"https://download.pytorch.org/models/{file}")
    for name, file in (
        ("alex", "alexnet-owt-7be5be79.pth"),
        ("vgg", "vgg16-397923af.pth"),
        ("squeeze", "squeezenet1_1-b8a52dc0.pth"),
    )
}
BACKBONES["inception"] = Backbone(
    "weights-inception-2015-12-05-6726825d.pth",
    "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/weights-inception-2015-12-05-6726825d.pth",
    "Apache-2.0 (TensorFlow's models); trained on ImageNet",
    "torch-fidelity",
)


def folders() -> list[Path]:
    """Where backbones are looked for: in our folder of models, then in torchvision's cache."""
    home = os.environ.get("TORCH_HOME")
    cache = Path(home) if home else Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "torch"
    return [models_folder() / "metrics" / "checkpoints", cache / "hub" / "checkpoints"]


def use(path: Path) -> None:
    """Use a file as the backbone with its hash; ModelError if there is no such backbone, or no such file."""
    if not path.is_file():
        raise ModelError(f"the backbone {path} does not exist.")
    found = sha256(path)
    name = next((name for name, each in BACKBONES.items() if found.startswith(each.digits)), None)
    if name is None:
        known = ", ".join(each.file for each in BACKBONES.values())
        raise ModelError(f"{path} is none of the backbones {known}: SHA-256 {found[:12]}...")
    _named[name] = path.absolute()
    checked.cache_clear()


def locate(name: str) -> Path | None:
    """The file of a backbone, or None."""
    if name in _named:
        return _named[name]
    file = BACKBONES[name].file
    return next((folder / file for folder in folders() if (folder / file).is_file()), None)


@lru_cache(maxsize=8)
def checked(name: str) -> Path:
    """The file of a backbone, its hash checked; ModelError if it is missing or has another hash."""
    path = locate(name)
    if path is None:
        raise ModelError(f"{BACKBONES[name].file} is not here.", hint=f"Get it: {PULL}")
    found = sha256(path)
    if not found.startswith(BACKBONES[name].digits):
        raise ModelError(
            f"{path} is not the file it should be: SHA-256 {found[:12]}.., expected {BACKBONES[name].digits}..",
            hint=f"Delete it and get it again: {PULL}",
        )
    return path


@contextmanager
def as_torch_home(path: Path) -> Iterator[None]:
    """Inside, torchvision finds `path`, a file of `checked`, instead of downloading it."""
    import torch

    before = torch.hub.get_dir()
    torch.hub.set_dir(str(path.parent.parent))
    try:
        yield
    finally:
        torch.hub.set_dir(before)


def missing(name: str, package: str, *, asked: bool = False) -> str | None:
    """Why a metric with a backbone cannot be measured; `package` is imported (seconds) only if needed or `asked` for."""
    here = locate(name) is not None
    have = " (or name the file that you have: --lpips-backbone FILE)" if package == "lpips" else ""
    problems = [] if here else [f"its backbone {BACKBONES[name].file} is not here. Get it: {PULL}{have}"]
    if asked or here:
        problems.insert(0, import_problem(package) or "")
    return "; and ".join(filter(None, problems)) or None


def import_problem(package: str) -> str | None:
    """Why a package that needs torchvision cannot be imported, with the command that helps; None if it can."""
    try:
        importlib.import_module(package)
    except ImportError as error:
        return f"{package} cannot be imported ({error}). Install it: pip install {error.name or package}"
    except RuntimeError as error:  # a torchvision built for another torch: operator torchvision::nms ..
        pair = " and ".join(f"{name} {_version(name)}" for name in ("torch", "torchvision"))
        return (
            f"{pair} do not belong together ({str(error).splitlines()[0]}). {TORCHVISION} "
            "Install a matching pair: pip install --force-reinstall torch torchvision"
        )
    return None


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "(none)"


def pull(
    fetch: Callable[[str, Path], None], *, to: Path | None = None, overwrite: bool = False
) -> list[Path]:
    """Download missing backbones (with `overwrite` all of them) to the folder `to` or that of models.

    `fetch` downloads an address to a file, continuing a partial one; its errors are passed on. Raises ModelError (a
    download with another hash than expected).
    """
    done = []
    for name, backbone in BACKBONES.items():
        path = locate(name) if to is None else to / backbone.file
        if path is not None and path.is_file() and not overwrite:
            done.append(path)
            continue
        path = (to or folders()[0]) / backbone.file
        part = path.with_name(f"{path.name}.download")
        fetch(backbone.url, part)
        found = sha256(part)
        if not found.startswith(backbone.digits):
            part.unlink()
            raise ModelError(f"{backbone.url} gave another file than expected: SHA-256 {found[:12]}...")
        part.replace(path)
        done.append(path)
    checked.cache_clear()
    return done
