"""`srcli explain`: a picture of what a network looks at, which of its branches answers, or how sure it is."""

from __future__ import annotations

import re
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

from srcli.cli import options
from srcli.cli.command import argument, option, single
from srcli.cli.console import Console
from srcli.errors import UsageError
from srcli.files import write_atomically

if TYPE_CHECKING:
    from srcli.config.presets import Preset
    from srcli.engine.upscaler import Upscaler
    from srcli.geometry import Size
    from srcli.image.read import Image

POINT = re.compile(r"\s*(-?\d+(?:\.\d+)?)\s*[, ]\s*(-?\d+(?:\.\d+)?)\s*")


@dataclass(frozen=True)
class Request:
    """The options, in the order of their help."""

    photo: Path = argument("A picture.", "INPUT")
    model: str = option(
        "A network with a LIT or CLIT decoder, with LGCAA, or with branches (FPLIA); with --samples, any that draws "
        "noise.",
        "-m NAME|FILE",
    )
    at: str | None = option(
        "The point, in pixels of the picture from its top left; fractions lie between pixels. Without it LGCAA's "
        "outputs are drawn by their length.",
        "X,Y",
    )
    samples: int | None = option(
        "Draw how far so many samples differ, in 8-bit levels: 8 shades of gray a level.", min=2
    )
    field: bool = option("Draw how steep the field of a network with a Thera decoder is.")
    scores: Path | None = option("Store the scores of all branches.", "FILE.npy")
    seed: options.Seed = 0
    scale: str = option("4.3, 4.3x or 430%; decides how many branches a CLIT uses.", "-s FACTOR", default="4")
    output: Path | None = option(
        "A PNG. (default: INPUT_attention.png, _selection.png, _uncertainty.png or _field.png)", "-o"
    )
    overwrite: options.Overwrite = False
    device: options.Device = "auto"
    precision: options.Precision = "auto"
    offline: options.Offline = False
    quiet: options.Quiet = False


def explain(request: Request) -> None:
    """Draw what a network looks at, which branch answers, or how samples differ.

    Attention is drawn of LIT, CLIT and LGCAA, branches of FPLIA.

    srcli explain photo.png --at 120,80 -m my-lit.safetensors -s 6

    srcli explain photo.png -m rlfn-linf-s --samples 5
    """
    from srcli.batch.sizes import parse_scale
    from srcli.engine.load import load_upscaler
    from srcli.geometry import Size, output_size
    from srcli.image.read import read_image
    from srcli.weights.files import resolve

    point = None if request.at is None else parse_point(request.at)
    factor, console = parse_scale(request.scale), Console(quiet=request.quiet)
    if request.offline:
        options.go_offline()
    model = options.current(request.model, console.note)
    target = _target(request, resolve(model))
    image = read_image(request.photo)
    for note in image.notes:
        console.note(note)
    upscaler = load_upscaler(model, device=request.device, precision=request.precision)
    size = output_size(Size(*image.size), factor)
    if request.samples is not None:
        from srcli.evaluate.draws import deviation_picture

        content, told = deviation_picture(upscaler, image, size, request.samples, seed=request.seed)
        console.note(told)
    elif request.field:
        from srcli.evaluate.draws import field_picture

        content, told = field_picture(upscaler, image, size)
        console.note(told)
    elif upscaler.selects or request.scores is not None:
        content = _selection(upscaler, image, size, request, console)
    else:
        content = _attention(upscaler, image, point, size, factor)
    write_atomically(target, content)
    console.result(str(target), asked=True)


def _target(request: Request, preset: Preset) -> Path:
    from srcli.config.sampling import is_sampled
    from srcli.config.temperature import check_generative
    from srcli.weights.build import branches_of

    if request.samples is not None and not is_sampled(preset):
        check_generative(preset, "--samples")
    what = "selection" if branches_of(preset) else "attention"
    what = "field" if request.field else "uncertainty" if request.samples else what
    target = request.output or request.photo.with_name(f"{request.photo.stem}_{what}.png")
    options.check_png(target, overwrite=request.overwrite)
    if request.scores is not None:
        if request.scores.suffix != ".npy":
            raise UsageError(f"--scores writes .npy files, not '{request.scores.suffix}'.")
        options.check_free(request.scores, overwrite=request.overwrite)
    return target


def _selection(upscaler: Upscaler, image: Image, size: Size, request: Request, console: Console) -> bytes:
    import numpy as np

    from srcli.evaluate.draws import selection_picture

    content, told, scores = selection_picture(upscaler, image, size, seed=request.seed)
    console.note(told)
    if request.scores is not None:
        stored = BytesIO()
        np.save(stored, scores)
        write_atomically(request.scores, stored.getvalue())
    return content


def _attention(
    upscaler: Upscaler, image: Image, point: tuple[float, float] | None, size: Size, factor: float
) -> bytes:
    title = f"{upscaler.preset.title}, x{factor:g}"
    title += "" if point is None else f", at {point[0]:g},{point[1]:g}"
    if upscaler.preset.kind == "restoration":
        from srcli.engine.restorer import Restorer
        from srcli.evaluate.attention import attention_maps, maps_picture

        assert isinstance(upscaler, Restorer)
        return maps_picture(image, attention_maps(upscaler, image, size, at=point), title=title, at=point)
    from srcli.evaluate.attention import attention_windows, windows_picture

    if point is None:
        raise UsageError(f"'{upscaler.preset.name}' is explained at a point.", hint="Give --at X,Y.")
    return windows_picture(image, attention_windows(upscaler, image, point, size), title=title)


def parse_point(text: str) -> tuple[float, float]:
    """(x, y) from ``120,80``.

    Raises UsageError (not two numbers).
    """
    match = POINT.fullmatch(text)
    if match is None:
        raise UsageError(f"--at {text!r} is no point.", hint="Write X,Y such as 120,80.")
    return float(match[1]), float(match[2])


app = single(explain, Request)
