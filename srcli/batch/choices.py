"""Files about the choice of branches: a map in colours, the map over the result, and the scores."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from srcli.batch.naming import check_links
from srcli.batch.task import Record, SelectionFiles, Settings, Task
from srcli.engine.branch_map import Selection, in_words
from srcli.errors import UsageError
from srcli.files import atomic_write
from srcli.image.formats import format_of
from srcli.image.metadata import PROVENANCE_KEY
from srcli.image.provenance import check_own, recorded_write
from srcli.image.write import write_image
from srcli.resources import made_folder

if TYPE_CHECKING:
    from srcli.batch.render import Engine

MAP, OVER, SCORES = "_selection.png", "_selection_overlay.png", "_scores.npy"


class ChoiceOutputs:
    """What was chosen for one picture, gathered and then written.

    Args:
        selection: takes the scores.
        files: what is wanted.
        task: for names.
    """

    def __init__(self, selection: Selection, files: SelectionFiles, task: Task) -> None:
        self.selection = selection
        self.files = files
        self.task = task
        self.result = None if files.overlay is None else np.empty((*selection.size, 3), np.uint8)

    def see(self, top: int, rows: np.ndarray) -> None:
        """Rows of the result, floats around [0, 1] or bytes, for the overlay."""
        if self.result is None:
            return
        if rows.dtype != np.uint8:
            rows = np.rint(np.clip(rows, 0, 1) * 255).astype(np.uint8)
        self.result[top : top + len(rows)] = rows

    def conclude(self, record: Record, *, replace: bool) -> None:
        """Write what is wanted, and put the shares into the record.

        Raises:
            ExistsError: there is a file that srcli did not write.
            ResourceError: it cannot be written.
        """
        percent = self.selection.shares()
        record.selection = {name: round(value, 3) for name, value in percent.items()}
        record.notes.append(f"chosen: {in_words(percent)}")
        about = {name: getattr(record, name) for name in ("selection", "fingerprint", "in_content")}
        files = self.files
        if files.map is not None:
            path = self._free(files.map, MAP, replace=replace)
            self._write_map(path, about)
            record.notes.append(f"map in {path}: {self.selection.legend()}")
        if files.overlay is not None:
            assert self.result is not None
            path = self._free(files.overlay, OVER, replace=replace)
            found = format_of(path)
            with recorded_write(path, about) as stream:
                write_image(
                    stream,
                    self.selection.over(self.result),
                    output_format=found and found.name,
                    provenance=about,
                )
        if files.scores is not None:
            path = self._free(files.scores, SCORES, replace=True)
            with atomic_write(path) as file:
                np.save(file, self.selection.scores)  # type: ignore[arg-type]  # kept: it was asked for

    def _free(self, asked: Path, suffix: str, *, replace: bool) -> Path:
        """Where a file goes, its folder made."""
        path = asked
        if not asked.suffix:
            path = asked / f"{_stem(self.task)}{suffix}"
            check_links(path, asked)
        check_own(path, replace=replace)
        with made_folder(path.parent):
            return path

    def _write_map(self, path: Path, about: dict[str, Any]) -> None:
        """The branches as a PNG with a palette."""
        picture = Image.fromarray(self.selection.index, mode="L")
        picture.putpalette(self.selection.palette().tobytes())
        text = PngInfo()
        with recorded_write(path, about) as file:
            text.add_itxt(PROVENANCE_KEY, json.dumps(about))
            picture.save(file, "PNG", pnginfo=text, optimize=True)


def choices_of(task: Task, settings: Settings, engine: Engine | None) -> ChoiceOutputs | None:
    """What gathers the choices of a picture; None where nobody asked or no network runs.

    Raises:
        UsageError: the engine chooses nothing.
    """
    if settings.selection is None or engine is None:
        return None
    if not engine.selects:
        raise UsageError(f"'{task.preset.name}' chooses no branch for each pixel.")
    selection = Selection(
        task.target.size, engine.branches, keep_scores=settings.selection.scores is not None
    )
    return ChoiceOutputs(selection, settings.selection, task)


def _stem(task: Task) -> str:
    named = task.path or task.source.path
    return "stdin" if named is None else named.stem
