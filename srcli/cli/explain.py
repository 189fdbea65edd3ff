"""`srcli explain`: a picture of what a network looks at."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from srcli.cli import options
from srcli.cli.console import Console
from srcli.errors import ExistsError, UsageError

if TYPE_CHECKING:
    from srcli.engine.upscaler import Upscaler
    from srcli.geometry import Size
    from srcli.image.read import Image

POINT = re.compile(r"\s*(-?\d+(?:\.\d+)?)\s*[, ]\s*(-?\d+(?:\.\d+)?)\s*")


def explain(
    photo: Annotated[Path, typer.Argument(metavar="INPUT", help="A picture.", show_default=False)],
    model: Annotated[
        str,
        options.option(
            "--model",
            "-m",
            metavar="NAME|FILE",
            help="A network with a LIT or CLIT decoder, or with LGCAA.",
            show_default=False,
        ),
    ],
    at: Annotated[
        str | None,
        options.option(
            metavar="X,Y",
            help="The point, in pixels of the picture from its top left; fractions lie between pixels. "
            "Without it LGCAA's outputs are drawn by their length.",
            show_default=False,
        ),
    ] = None,
    scale: Annotated[
        str,
        options.option(
            "--scale",
            "-s",
            metavar="FACTOR",
            help="4.3, 4.3x or 430%; decides how many branches a CLIT uses.",
        ),
    ] = "4",
    output: Annotated[
        Path | None,
        options.option("--output", "-o", metavar="FILE", help="A PNG. (default: INPUT_attention.png)"),
    ] = None,
    overwrite: Annotated[bool, options.option("--overwrite", help="Replace an existing file.")] = False,
    device: options.Device = "auto",
    precision: options.Precision = "auto",
    offline: options.Offline = False,
    quiet: options.Quiet = False,
) -> None:
    """Draw what attention looks at: windows of LIT and CLIT at a point, or the outputs of LGCAA.

    srcli explain photo.png --at 120,80 -m my-lit.safetensors -s 6
    """
    point = None if at is None else parse_point(at)
    target = output or photo.with_name(f"{photo.stem}_attention.png")
    if target.suffix.lower() != ".png":
        raise UsageError(f"the picture is a PNG, not {target.name}.", hint="End --output with .png")
    if target.exists() and not overwrite:
        raise ExistsError(f"{target} exists.", hint="Give --overwrite or another --output.")
    if offline:
        options.go_offline()
    from srcli.batch.sizes import parse_scale
    from srcli.engine.upscaler import Upscaler
    from srcli.files import atomic_write
    from srcli.geometry import Size, output_size
    from srcli.image.read import read_image

    factor = parse_scale(scale)
    image = read_image(photo)
    console = Console(quiet=quiet)
    for note in image.notes:
        console.note(note)
    upscaler = Upscaler.from_preset(options.current(model, console.note), device=device, precision=precision)
    title = f"{upscaler.preset.title}, x{factor:g}"
    title += "" if point is None else f", at {point[0]:g},{point[1]:g}"
    content = _drawn(upscaler, image, point, output_size(Size(*image.size), factor), title)
    with atomic_write(target) as file:
        file.write(content)
    console.result(str(target), asked=True)


def _drawn(
    upscaler: Upscaler, image: Image, point: tuple[float, float] | None, target: Size, title: str
) -> bytes:
    """The picture, as PNG."""
    if upscaler.preset.kind == "restoration":
        from srcli.engine.restorer import Restorer
        from srcli.evaluate.attention import attention_maps, maps_picture

        assert isinstance(upscaler, Restorer)
        maps = attention_maps(upscaler, image, target, at=point)
        return maps_picture(image, maps, title=title, at=point)
    from srcli.evaluate.attention import attention_windows, windows_picture

    if point is None:
        raise UsageError(f"'{upscaler.preset.name}' is explained at a point.", hint="Give --at X,Y.")
    return windows_picture(image, attention_windows(upscaler, image, point, target), title=title)


def parse_point(text: str) -> tuple[float, float]:
    """(x, y) from ``120,80``.

    Raises:
        UsageError: not two numbers.
    """
    match = POINT.fullmatch(text)
    if match is None:
        raise UsageError(f"--at {text!r} is no point.", hint="Write X,Y such as 120,80.")
    return float(match[1]), float(match[2])
