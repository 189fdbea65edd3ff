"""`srcli models export`: a network for other programs."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from srcli.cli import options
from srcli.cli.command import argument, option
from srcli.cli.console import say
from srcli.cli.options import check_free, current
from srcli.errors import UsageError
from srcli.files import write_error
from srcli.resources import check_folder

if TYPE_CHECKING:
    from srcli.engine.upscaler import Upscaler


def export(
    name: str = argument("A preset, its TOML file, or a weights file.", "NAME"),
    output: Path = option("What to write: .onnx, or .pt2 for torch.export.", "-o"),
    parts: Literal["joined", "apart"] = option(
        "apart: encoder and decoder in files of their own, for tiles; their names stand before the suffix.",
        default="joined",
    ),
    int8: bool = option("ONNX in 8 bits: a smaller file, colours a little off."),
    overwrite: options.Overwrite = False,
) -> None:
    """Write a network as ONNX or for torch.export, for pictures and targets of any size.

    What was made is compared with srcli's own answer at five sizes and scales before it is written.
    """
    from srcli.engine.export import SUFFIXES, part_paths
    from srcli.engine.export import export as write

    if output.suffix not in SUFFIXES:
        raise UsageError(
            f"{output} ends with neither {' nor '.join(SUFFIXES)}.", hint="Such as -o model.onnx"
        )
    if int8 and output.suffix != ".onnx":
        raise UsageError("--int8 is of ONNX files.", hint="Such as -o model.onnx")
    inside = ("encoder", "encoder-small", "decoder")
    for path in part_paths(output, inside).values() if parts == "apart" else (output,):
        check_free(path, overwrite=overwrite)
    if not output.parent.is_dir():
        raise write_error(output, FileNotFoundError(errno.ENOENT, ""))
    check_folder(output.parent)
    upscaler = exportable(name)
    say(f"exporting '{upscaler.preset.name}', which takes a minute or two")
    written = write(upscaler, output, apart=parts == "apart", int8=int8)
    for path in written.paths:
        print(path)
    if int8:
        say(
            f"{written.psnr:.1f} dB from srcli's own answer, at most {255 * written.difference:.1f} of 255 levels"
        )
    else:
        say(f"at most {written.difference:.1e} from srcli's own answer")
    say(f"licence: weights {upscaler.preset.weights.license}")


def exportable(name: str) -> Upscaler:
    """The engine of a model that can be exported; raises as `load_upscaler`, and UsageError for one that cannot."""
    from srcli.engine.export import check_exportable
    from srcli.engine.load import load_upscaler
    from srcli.weights.files import resolve

    name = current(name)
    check_exportable(resolve(name))
    return load_upscaler(name, device="cpu", precision="fp32")
