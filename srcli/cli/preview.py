"""`srcli upscale --preview`: a part of the picture in seconds, by the model that was named or by all that are here."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from srcli.cli.console import Console
from srcli.cli.options import check_png, current
from srcli.cli.upscale_options import Request
from srcli.config.presets import DEFAULT_PRESET, REAL_WORLD_PRESET, list_presets
from srcli.errors import NothingToDoError, UsageError
from srcli.files import write_atomically

if TYPE_CHECKING:
    from srcli.batch.sizes import SizeRule


def show_part(request: Request, rule: SizeRule, console: Console) -> None:
    """Write the sheet of --preview, beside the input or to the PNG file that --output names."""
    from srcli.evaluate.contact_sheet import png
    from srcli.evaluate.preview import preview
    from srcli.geometry import Size

    words = request.inputs or []
    if len(words) != 1 or Path(words[0]).is_dir():
        raise UsageError(
            "--preview takes one picture.", hint="Name a file: srcli upscale photo.png --preview"
        )
    photo = Path(words[0])
    if not photo.exists():
        raise NothingToDoError(f"{photo} does not exist.", hint="Check the path.")
    target = Path(request.output) if request.output else photo.with_name(f"{photo.stem}_preview.png")
    check_png(target, overwrite=request.overwrite is True)
    sheet = preview(
        photo,
        [current(request.model, console.note)] if request.model else usable(request.degradation),
        lambda size: rule.target(Size(*size)).scale,
        at=_place(request.preview),
        device=request.device,
        precision=request.precision,
        report=console.note,
    )
    write_atomically(target, png(sheet))
    console.result(str(target), asked=True)


def usable(degradation: str | None) -> list[str]:
    """Models whose weights are here, less experimental ones, the one that would be taken first."""
    from srcli.weights.files import locate

    first = REAL_WORLD_PRESET if degradation == "real" else DEFAULT_PRESET
    presets = [preset for preset in list_presets() if not preset.training.experimental]
    names = [preset.name for preset in presets if locate(preset) is not None]
    return sorted(names, key=lambda name: name != first)


def _place(text: str | None) -> tuple[int, int] | None:
    if text in (None, "auto"):
        return None
    found = re.fullmatch(r"(\d+)\s*,\s*(\d+)", text or "")
    if found is None:
        raise UsageError(f"--preview takes X,Y in pixels of the picture, got '{text}'.")
    return int(found[1]), int(found[2])
