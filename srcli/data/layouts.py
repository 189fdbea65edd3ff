"""How folders of HR and LR pictures are laid out, and which file belongs to which.

Known are: `image_SRF_<s>` with `*_HR` and `*_LR` files (SelfExSR); `HR` with `LR_bicubic/X<s>` (EDSR); DIV2K's own;
`*_HR` and `*_LR<s>` side by side (RealSR); two folders with the same names; and HR pictures alone, from which LR is
made. Files are paired by name, never by position.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from srcli.errors import ModelError, NothingToDoError
from srcli.files import JUNK_FILES, PICTURES

U8 = NDArray[np.uint8]

HR_FOLDERS = ("HR", "GT", "GTmod12", "HR_mod*")
LR_FOLDERS = (
    "LR_bicubic/X{scale}",
    "LRbicx{scale}",
    "LR_bicubic_X{scale}",
    "LR/X{scale}",
    "LR_X{scale}",
    "X{scale}",
    "LR",
)
SHOWN = 5  # names in a message


class Item(NamedTuple):
    """One picture of a benchmark: files, or pixels in memory; without `lr`, LR is made from HR."""

    name: str
    hr: Path | U8
    lr: Path | U8 | None = None


@dataclass(frozen=True)
class PairedFolders:
    """A folder that holds HR pictures and perhaps LR ones, in one of the known layouts."""

    folder: Path  # where to look
    hr: tuple[str, ...] = ()  # patterns of HR folders that come before the usual ones
    # patterns of LR folders; `{scale}` stands for the scale, an absolute path for itself
    lr: tuple[str, ...] = ()

    def items(self, scale: float) -> list[Item]:
        """The pictures at `scale`, by name. Raises NothingToDoError (none), ModelError (files that do not pair up)."""
        items = self._by_scale(scale) or self._beside(scale) or self._in_folders(scale)
        if not items:
            raise NothingToDoError(f"the folder {self.folder} holds no image that an evaluation can use.")
        return items

    def _by_scale(self, scale: float) -> list[Item]:
        """`image_SRF_<s>`: the folder of this scale, or HR from the smallest scale there is."""
        found = {_scale_of(path): path for path in folders_like(self.folder, "image_SRF_*")}
        if not found:
            return []
        if scale in found:
            files = pictures(found[scale])
            return pair(_ending(files, "HR"), _ending(files, "LR"), scale, found[scale])
        smallest = found[min(found)]
        return [Item(name, file) for name, file in by_name(_ending(pictures(smallest), "HR"), 1).items()]

    def _beside(self, scale: float) -> list[Item]:
        """`*_HR` and `*_LR<s>` in one folder, or in several such folders."""
        items: list[Item] = []
        names = [pattern.replace("{scale}", f"{scale:g}") for pattern in self.lr]
        for folder in [self.folder, *(found for name in names for found in folders_like(self.folder, name))]:
            hr = _ending(pictures(folder), "HR")
            lr = [file for file in pictures(folder) if re.search(rf"_LR({scale:g})?$", file.stem)]
            if hr and lr:
                items += pair(hr, lr, scale, folder)
        return sorted(items)

    def _in_folders(self, scale: float) -> list[Item]:
        """HR pictures in a folder of theirs, or directly; LR in another, or none."""
        hr_folders = _first(self.folder, (*self.hr, *HR_FOLDERS), scale) or [self.folder]
        hr = [file for folder in hr_folders for file in pictures(folder)]
        lr_folders = _first(self.folder, (*self.lr, *LR_FOLDERS), scale)
        lr = [file for folder in lr_folders for file in pictures(folder)]
        if lr and hr:
            return pair(hr, lr, scale, self.folder)
        return [Item(name, file) for name, file in by_name(hr, 1).items()]


def pair(
    hr: Iterable[Path],
    lr: Iterable[Path],
    scale: float | None,
    where: Path,
    *,
    kinds: tuple[str, str] = ("HR", "LR"),
) -> list[Item]:
    """HR and LR files of the same names; `kinds` is what messages call them. Raises ModelError (no pairs)."""
    high, low = by_name(hr, scale), by_name(lr, scale)
    problems = [
        f"{len(names)} {kind} without {other} ({some(sorted(names))})"
        for kind, other, names in (
            (*kinds, high.keys() - low.keys()),
            (*kinds[::-1], low.keys() - high.keys()),
        )
        if names
    ]
    if problems:
        raise ModelError(
            f"the pictures in {where} do not pair up: {', '.join(problems)}.",
            hint=f"Each {kinds[0]} picture needs its {kinds[1]} of the same name.",
        )
    return [Item(name, high[name], low[name]) for name in sorted(high)]


def some(names: Sequence[str]) -> str:
    """The first few names."""
    return ", ".join(names[:SHOWN]) + ", .." * (len(names) > SHOWN)


def by_name(files: Iterable[Path], scale: float | None) -> dict[str, Path]:
    """Files by the name of their picture. Raises ModelError (two files of one name)."""
    found: dict[str, Path] = {}
    for file in sorted(files):
        name = picture_name(file.stem, scale)
        if name in found:
            raise ModelError(
                f"{found[name]} and {file} are both called '{name}'.", hint="Remove one of them."
            )
        found[name] = file
    return found


def picture_name(stem: str, scale: float | None) -> str:
    """A file's stem without the marks of HR, LR or a scale: 0801x2, baby_LR, img_001_SRF_4_HR, Canon_001_LR4.

    Only the factor `scale` is taken for one; any number is if it is None.
    """
    factor = r"\d+(\.\d+)?" if scale is None else re.escape(f"{scale:g}")
    stem = re.sub(r"_SRF_[\d.]+_(HR|LR)$", "", stem)  # SelfExSR's files of Set5 and others
    stem = re.sub(rf"_(HR|LR)({factor})?$", "", stem)
    return re.sub(rf"(?<=.)[_-]?x(1|{factor})$", "", stem)


def pictures(folder: Path) -> list[Path]:
    """The image files directly in a folder, sorted; nothing if it is no folder."""
    if not folder.is_dir():
        return []
    return sorted(
        path
        for path in folder.iterdir()
        if path.suffix.lower() in PICTURES
        and not path.name.startswith(".")
        and path.name.lower() not in JUNK_FILES
        and path.is_file()
    )


def folders_like(folder: Path, pattern: str) -> list[Path]:
    """Folders below `folder` whose path matches a pattern such as ``*/Test/4``, in any case, sorted."""
    if Path(pattern).is_absolute():
        return [Path(pattern)] if Path(pattern).is_dir() else []
    found = [folder] if folder.is_dir() else []
    for part in Path(pattern).parts:
        found = [
            path
            for parent in found
            for path in sorted(parent.iterdir())
            if path.is_dir() and fnmatch(path.name.lower(), part.lower())
        ]
    return found


def _first(folder: Path, patterns: Sequence[str], scale: float) -> list[Path]:
    for pattern in patterns:
        found = folders_like(folder, pattern.replace("{scale}", f"{scale:g}"))
        if found:
            return found
    return []


def _ending(files: Iterable[Path], word: str) -> list[Path]:
    return [file for file in files if file.stem.endswith(f"_{word}")]


def _scale_of(folder: Path) -> float:
    try:
        return float(folder.name.rpartition("_")[2])
    except ValueError:
        return float("inf")  # not a scale: never chosen while there is another
