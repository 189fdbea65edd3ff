"""Benchmarks: TOML files that describe them, and the folders where their pictures are.

A benchmark is a file in `presets/benchmarks`. Its pictures are looked for in a folder of its name below `--data`,
`$SRCLI_DATA_DIR`, `data_dir` of the user's configuration and the cache; `srcli.data.layouts` knows how such a folder may
be laid out. Nothing is downloaded here.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from srcli.config.presets import preset_folders
from srcli.config.toml import read_section, read_toml, user_path
from srcli.data.layouts import Item, PairedFolders, folders_like
from srcli.data.reduce import cropped_to_scale, reduce_by
from srcli.errors import ImageError, ModelError, NothingToDoError, ResourceError, UsageError, suggest
from srcli.files import atomic_write, cache_folder
from srcli.geometry import Size

U8 = NDArray[np.uint8]


@dataclass(frozen=True)
class Spec:
    """The description of a benchmark, as in its TOML file."""

    title: str  # its name in tables
    license: str  # terms of its pictures, in words
    source: str  # where people get it
    aliases: tuple[str, ...] = ()  # other names
    images: int | None = None  # how many there are
    protocol: str = "liif-benchmark"  # the one its published figures use
    urls: tuple[str, ...] = ()  # files that `bench fetch` takes
    paper: str | None = None  # that introduced it
    hr: tuple[str, ...] = ()  # patterns of HR folders besides the usual ones; `{scale}` stands for the scale
    lr: tuple[str, ...] = ()  # patterns of LR folders
    made: Literal["bicubic", "camera", "synthetic"] = "bicubic"  # how its LR files were made
    # if `bench make-lr` makes its pairs: the benchmark whose HR pictures they are cut from
    cut_from: str | None = None

    @property
    def names(self) -> tuple[str, ...]:
        return self.title, *self.aliases


class MissingBenchmarkError(ModelError):
    """A known benchmark whose pictures are not here."""


@dataclass(frozen=True)
class Pair:
    """One picture to measure with."""

    name: str  # of the picture
    hr: U8  # (H, W, 3) 8-bit, cropped to what the LR covers
    lr: U8  # (h, w, 3) 8-bit
    given: bool  # whether the LR came as a file; otherwise it was made here
    reduction: str  # how LR was made, as far as `lr-psnr` is concerned


@dataclass(frozen=True)
class Benchmark:
    """A set of pictures that can be evaluated on, in folders or in memory."""

    name: str  # as printed
    protocol: str = "rgb"  # name of the protocol that its figures use
    folders: PairedFolders | None = None  # where the pictures are; None for pictures in memory
    arrays: Mapping[str, U8] = field(default_factory=dict)  # pictures in memory, (H, W, 3) 8-bit, by name
    made: str = "bicubic"  # how given LR files were made

    def items(self, scale: float) -> list[Item]:
        """Its pictures at a scale, by name. Raises NothingToDoError (none), ModelError (LR and HR do not pair up)."""
        if self.folders is None:
            return [Item(name, hr) for name, hr in self.arrays.items()]
        return self.folders.items(scale)

    def load(self, item: Item, scale: float, reduction: str) -> Pair:
        """The pictures of an item; LR is made by `reduction` where none is given. Raises ImageError."""
        hr = read_rgb(item.hr)
        if item.lr is None:
            crop, size = cropped_to_scale(hr, scale)
            return Pair(item.name, crop, reduce_by(reduction, crop, size), given=False, reduction=reduction)
        lr = read_rgb(item.lr)
        crop = cropped_to_lr(hr, lr, scale, f"{item.hr} and {item.lr}")
        made = "matlab-bicubic" if self.made == "bicubic" else reduction
        return Pair(item.name, crop, lr, given=True, reduction=made)


def cropped_to_lr(hr: U8, lr: U8, scale: float, where: str) -> U8:
    """The top left part of an HR picture that an LR picture covers. Raises ImageError (sizes that do not fit)."""
    target = Size(round(lr.shape[0] * scale), round(lr.shape[1] * scale))
    rest = hr.shape[0] - target.h, hr.shape[1] - target.w
    if min(rest) < 0 or max(rest) >= max(scale, 1):
        raise ImageError(
            f"{where}: HR of {hr.shape[1]}x{hr.shape[0]} and LR of {lr.shape[1]}x{lr.shape[0]} pixels "
            f"do not belong together at x{scale:g}."
        )
    return hr[: target.h, : target.w]


def read_rgb(source: Path | U8) -> U8:
    """A picture as (h, w, 3) 8-bit, as published evaluations read files: gray repeated, profile and rotation ignored.

    Raises ImageError (no picture, truncated, or of more than 8 bits).
    """
    if not isinstance(source, Path):
        return source
    from PIL import Image

    try:
        with Image.open(source) as image:
            deep = image.mode.startswith(("I", "F")) or any(";16" in str(tile[3]) for tile in image.tile)
            pixels = np.asarray(image.convert("RGB"))
    except FileNotFoundError as error:
        raise ImageError(f"{source} does not exist.") from error
    except Exception as error:  # whatever a decoder raises
        raise ImageError(f"{source} cannot be read: {str(error).rstrip('.')}.") from error
    if deep:
        raise ImageError(f"{source} has more than 8 bits per sample, which no protocol knows.")
    return pixels


def write_png(path: Path, pixels: U8) -> None:
    """Write a picture (h, w, 3) as PNG, whole or not at all, and make its folder. Raises ResourceError."""
    from PIL import Image

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ResourceError(f"cannot make the folder {path.parent}: {error.strerror}.") from error
    with atomic_write(path) as stream:
        Image.fromarray(np.ascontiguousarray(pixels)).save(stream, "PNG")


# --- names to folders ---------------------------------------------------------------------------------------------


def known_benchmarks() -> list[Spec]:
    """All benchmarks that have a file, by title; files in `$SRCLI_PRESETS_DIR` replace packaged ones."""
    files: dict[str, Path] = {}
    for folder in reversed(preset_folders()):
        files.update({path.stem: path for path in (folder / "benchmarks").glob("*.toml")})
    specs = [read_section(Spec, read_toml(path), str(path)) for path in files.values()]
    return sorted(specs, key=lambda spec: spec.title.lower())


def find_spec(name: str) -> Spec:
    """The benchmark called `name` or an alias of it, in any case. Raises UsageError (an unknown name)."""
    specs = known_benchmarks()
    for spec in specs:
        if _plain(name) in map(_plain, spec.names):
            return spec
    names = [known for spec in specs for known in spec.names]
    raise UsageError(f"unknown benchmark '{name}'.", hint=suggest(name, names))


def _plain(name: str) -> str:
    return name.lower().replace("_", "-")


def data_roots(data: Path | None = None) -> list[Path]:
    """The folders that benchmarks are looked for in: `data` alone if given, else those of the environment."""
    if data is not None:
        return [data]
    own = os.environ.get("SRCLI_DATA_DIR")
    named = [Path(own) if own else None, user_path("data_dir")]
    return [*(root for root in named if root is not None), cache_folder("benchmarks")]


def locate(spec: Spec, roots: Sequence[Path]) -> Path | None:
    """The folder of a benchmark: of one of its names below a root, or a root that is one itself."""
    for root in roots:
        for folder in (root, root / "benchmark"):  # the usual archive unpacks to benchmark/Set5, ..
            for name in spec.names:
                found = folders_like(folder, name)
                if found:
                    return found[0]
        itself = _plain(root.name) in map(_plain, spec.names)
        if root.is_dir() and (itself or any(folders_like(root, pattern) for pattern in spec.hr)):
            return root
    return None


def open_benchmark(name: str, data: Path | None = None) -> Benchmark:
    """The benchmark called `name`, or the pictures in the folder `name`.

    Raises UsageError (an unknown name), MissingBenchmarkError (not here; says where it was looked for, and is got).
    """
    if os.sep in name and Path(name).is_dir():
        return open_folder(Path(name))
    spec = find_spec(name)
    roots = data_roots(data)
    folder = locate(spec, roots)
    if folder is None:
        looked = ", ".join(str(root / spec.title) for root in roots)
        raise MissingBenchmarkError(
            f"{spec.title} is not here; looked for {looked}.",
            hint=f"Get its pictures from {spec.source} ({spec.license}) and put them in "
            f"{roots[0] / spec.title}, or say where they are with --data.",
        )
    return Benchmark(spec.title, spec.protocol, PairedFolders(folder, spec.hr, spec.lr), made=spec.made)


def open_folder(hr: Path, lr: Path | None = None, *, name: str | None = None) -> Benchmark:
    """Pictures in a folder of any known layout, or HR and LR in two. Raises NothingToDoError (no folder)."""
    for folder in (hr, lr):
        if folder is not None and not folder.is_dir():
            raise NothingToDoError(f"{folder} is no folder.")
    folders = PairedFolders(hr) if lr is None else PairedFolders(hr, (".",), (str(lr.absolute()),))
    return Benchmark(name or hr.name or str(hr), "rgb", folders)


def open_benchmarks(names: Sequence[str], data: Path | None = None) -> list[Benchmark]:
    """The benchmarks of these names; "all" is every known one that is here. Raises as `open_benchmark`."""
    if [name.lower() for name in names] != ["all"]:
        return [open_benchmark(name, data) for name in names]
    roots = data_roots(data)
    here = [spec.title for spec in known_benchmarks() if locate(spec, roots)]
    if not here:
        raise MissingBenchmarkError(
            f"no benchmark is here; looked in {', '.join(map(str, roots))}.",
            hint="See what there is: srcli bench list",
        )
    return [open_benchmark(name, data) for name in here]
