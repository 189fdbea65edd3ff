"""Benchmarks as files: downloading their archives, checking their pictures, and making LR pictures."""

import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from srcli.config.presets import preset_folders
from srcli.data.benchmarks import Benchmark, Spec, read_rgb, write_png
from srcli.data.layouts import PairedFolders, pictures
from srcli.data.reduce import REDUCTIONS, cropped_to_scale, reduce_by
from srcli.errors import ModelError, NothingToDoError, ResourceError, SrcliError
from srcli.files import sha256
from srcli.geometry import Size

U8 = NDArray[np.uint8]


@dataclass(frozen=True)
class Finding:
    """A problem that `verify` found with one file or pair."""

    name: str
    problem: str


@dataclass(frozen=True)
class Verdict:
    """The result of `verify`: how many pictures and known hashes were checked, and what is wrong."""

    pictures: int
    hashed: int
    findings: list[Finding]


def known_hashes(spec: Spec) -> dict[str, str]:
    """SHA-256 by file name, for the files whose hashes are known."""
    path = preset_folders()[-1] / "benchmarks" / "hashes" / f"{spec.title.lower()}.txt"
    if not path.is_file():
        return {}
    return {name: digest for digest, name in (line.split() for line in path.read_text("utf-8").splitlines())}


def verify(
    spec: Spec, folder: Path, scales: Sequence[float], hashes: Mapping[str, str] | None = None
) -> Verdict:
    """Read every picture of a benchmark and compare sizes, numbers and, where they are known, hashes."""
    hashes = known_hashes(spec) if hashes is None else hashes
    findings: list[Finding] = []
    hashed = 0
    count = 0
    paths = PairedFolders(folder, spec.hr, spec.lr)
    benchmark = Benchmark(spec.title, spec.protocol, paths, made=spec.made)
    seen: set[Path] = set()
    for scale in scales:
        try:
            items = paths.items(scale)
        except SrcliError as error:
            findings.append(Finding(f"x{scale:g}", str(error)))
            continue
        count = max(count, len(items))
        for item in items:
            try:
                benchmark.load(item, scale, "pillow-bicubic")
            except SrcliError as error:
                findings.append(Finding(item.name, str(error)))
            files = [path for path in (item.hr, item.lr) if isinstance(path, Path) and path not in seen]
            seen.update(files)
            for path in files:
                if path.name in hashes:
                    hashed += 1
                    if sha256(path) != hashes[path.name]:
                        findings.append(Finding(path.name, "is not the file it should be (SHA-256 differs)"))
    if spec.images is not None and count != spec.images:
        findings.append(Finding(spec.title, f"has {count} pictures, not {spec.images}"))
    return Verdict(count, hashed, findings)


def make_lr(
    hr: Path, output: Path, scales: Sequence[float], method: str, *, seed: int = 0, overwrite: bool = False
) -> Iterator[Path]:
    """Write the LR pictures of a folder of HR ones as ``<output>/X<scale>/<name>.png``; yields those that were written.

    `method`: a reduction, or a degradation, drawn from the seed and the picture's number. Raises NothingToDoError (no
    HR picture), ImageError (one cannot be read, or is too small), ResourceError (the disk), UsageError (an unknown
    method).
    """
    files = pictures(hr)
    if not files:
        raise NothingToDoError(f"the folder {hr} holds no image.")
    make = (
        (lambda hr, size, _: reduce_by(method, hr, size))
        if method in REDUCTIONS
        else _degrading(method, seed)
    )
    for scale in scales:
        for number, file in enumerate(files):
            target = output / f"X{scale:g}" / f"{file.stem}.png"
            if target.exists() and not overwrite:
                continue
            crop, size = cropped_to_scale(read_rgb(file), scale)
            write_png(target, make(crop, size, number))
            yield target


def _degrading(method: str, seed: int) -> Callable[[U8, Size, int], U8]:
    import torch

    from srcli.degradations.apply import degrade
    from srcli.degradations.draw import draw, numbered
    from srcli.degradations.presets import find_degradation

    ranges = find_degradation(method)

    def make(hr: U8, size: Size, number: int) -> U8:
        done = replace(draw(ranges, numbered(seed, number)), sharpen=False)  # sharpening is for training
        lr, _ = degrade(torch.from_numpy(hr.copy()), done, size)
        return lr.numpy()

    return make


def fetch(
    spec: Spec, folder: Path, download: Callable[[str, Path], None], say: Callable[[str], None]
) -> list[Path]:
    """Fetch and unpack the archives of a benchmark into `folder`; those that are unpacked already are left alone.

    Raises ModelError (no direct link, no answer, or a damaged archive), ResourceError (it cannot be written).
    """
    if not spec.urls:
        raise ModelError(
            f"{spec.title} has no direct link.",
            hint=f"Get it from {spec.source} ({spec.license}) and put its pictures in {folder}.",
        )
    done = []
    for url in spec.urls:
        archive = folder / url.rpartition("/")[2]
        mark = archive.with_name(f"{archive.name}.done")
        if not mark.exists():
            say(f"{url} ({spec.license})")
            download(url, archive)
            _unpack(archive, folder)
            archive.unlink()
            mark.touch()
        done.append(archive.with_suffix(""))
    return done


def _unpack(archive: Path, folder: Path) -> None:
    try:
        with zipfile.ZipFile(archive) as file:
            for name in file.namelist():
                if not (folder / name).resolve().is_relative_to(folder.resolve()):
                    raise ModelError(f"{archive} holds a file outside its own folder: {name}.")
            file.extractall(folder)
    except zipfile.BadZipFile as error:
        archive.unlink()
        raise ModelError(f"{archive} is no archive, or is damaged.", hint="Fetch it again.") from error
    except OSError as error:
        raise ResourceError(f"cannot unpack {archive}: {error.strerror}.") from error
