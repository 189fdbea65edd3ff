"""A network as ONNX or as a program of torch.export, for other programs: sides, target size and place are inputs.

    joined    image (1, 3, h, w), size (2,) int64 -> sr (1, 3, H, W)
    encoder   image (1, 3, h, w) -> features (1, C, h, w), of a tile or the whole picture
    decoder   features and image of a box of the picture; whole (2,), the picture's sides; corner (2,), the box's place in
              it; size (2,), the output's sides; box (4,): top, left, bottom, right of what is asked for -> sr of that

Pixels lie in [0, 1], pairs are (vertical, horizontal), sides are 2 at least. A decoder's features reach `halo` LR pixels
around what is asked for, where the picture does. A network with a second body for small factors has an encoder more, and a
decoder that takes the channels of both, the small one's first; those of a body that does not count are anything finite.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from srcli import __version__
from srcli.config.presets import Preset
from srcli.engine.upscaler import Upscaler
from srcli.errors import CheckError, UsageError
from srcli.files import atomic_write
from srcli.geometry import Axis, Grid, Size, output_size
from srcli.models.sr import NativeEncoder
from srcli.models.traced import TracedAxis, TracedFrame, TracedGrid

Array = NDArray[Any]
Call = Callable[[Mapping[str, Array]], Array]

SUFFIXES = (".onnx", ".pt2")
EXACT = 1e-4  # largest difference to the engine, of values in [0, 1]
CASES = (((24, 33), 2.0), ((47, 30), 3.3), ((36, 64), 1.37), ((28, 25), (2.2, 5.0)), ((31, 26), 4.0))


@dataclass(frozen=True)
class Program:
    """A part of a network, and what it was traced with."""

    traced: Any  # torch.export.ExportedProgram
    example: dict[str, Tensor]

    @property
    def output(self) -> str:
        return "sr" if "size" in self.example else "features"

    def __call__(self, given: Mapping[str, Array]) -> Array:
        with torch.no_grad():
            out: Tensor = self.traced.module()(**{key: torch.from_numpy(each) for key, each in given.items()})
        return out.numpy()


@dataclass(frozen=True)
class Exported:
    """What was written, and how far it is from the engine: the largest difference, and PSNR in dB."""

    paths: list[Path]
    difference: float
    psnr: float


class Encoding(nn.Module):
    """An encoder, of pixels in [0, 1]."""

    def __init__(self, encoder: nn.Module, preset: Preset) -> None:
        super().__init__()
        self.encoder = encoder
        self.shift, self.factor = (nn.Buffer(torch.tensor(v).reshape(1, 3, 1, 1)) for v in preset.mean_std)

    def forward(self, image: Tensor) -> Tensor:
        return cast("Tensor", self.encoder((image - self.shift) / self.factor))


class Decoding(nn.Module):
    """The decoder, for a rectangle of the output."""

    def __init__(self, upscaler: Upscaler) -> None:
        super().__init__()
        self.decoder, self.clip = upscaler.network.decoder, upscaler.preset.engine.cell_clip
        self.shift, self.factor = (
            nn.Buffer(torch.tensor(v).reshape(1, 3, 1, 1)) for v in upscaler.preset.mean_std
        )

    def forward(
        self, features: Tensor, image: Tensor, whole: Tensor, corner: Tensor, size: Tensor, box: Tensor
    ) -> Tensor:
        axes = []
        for i in (0, 1):
            length = cast("int", (box[i + 2] - box[i]).item())
            torch._check(length > 1)
            axes.append(TracedAxis(whole[i], size[i], box[i], length, corner[i]))
        cell = 2 / size.float()
        if self.clip is not None:
            cell = cell * (size / whole / self.clip).clamp(min=1)
        nowhere: Any = None  # local decoders do not ask for the box
        frame = TracedFrame(size=whole, box=nowhere, cell=cell.unsqueeze(0), target=size)
        prepared = self.decoder.prepare(features, (image - self.shift) / self.factor, frame)
        colours = self.decoder.render(prepared, cast("Grid", TracedGrid(*axes)))
        return (colours * self.factor + self.shift).clamp(0, 1)


class Joined(nn.Module):
    """The whole network; of two bodies both are computed, whatever the scale."""

    def __init__(self, encoders: Mapping[str, nn.Module], decoding: Decoding) -> None:
        super().__init__()
        self.encoders, self.decoding = nn.ModuleList(encoders.values()), decoding

    def forward(self, image: Tensor, size: Tensor) -> Tensor:
        features = torch.cat([encoder(image) for encoder in self.encoders], dim=1)
        whole = torch.stack([torch.scalar_tensor(side, dtype=torch.int64) for side in image.shape[2:]])
        nothing = torch.zeros(2, dtype=torch.int64)
        return cast(
            "Tensor", self.decoding(features, image, whole, nothing, size, torch.cat([nothing, size]))
        )


def check_exportable(preset: Preset) -> None:
    """UsageError for a network that is sampled; its weights need not be here."""
    if preset.generator is not None:
        raise UsageError(
            f"'{preset.name}' is a diffusion model and cannot be exported: a picture takes many calls of it.",
            hint="Other models can be: srcli models list",
        )


def part_paths(path: Path, parts: Iterable[str]) -> dict[str, Path]:
    """Files of the parts of a network, the name of each before the suffix."""
    return {part: path.with_suffix(f".{part}{path.suffix}") for part in parts}


def export(upscaler: Upscaler, path: Path, *, apart: bool = False, int8: bool = False) -> Exported:
    """Write a network (on the CPU, in fp32) to `path`, or its parts beside it, once it was compared with the engine.

    `path` ends with one of `SUFFIXES`. `int8`: weights and activations of its layers by onnxruntime's dynamic
    quantisation, whose distance is told. Raises UsageError (it cannot be exported), ResourceError (a package is missing,
    a file cannot be written), CheckError (it does not give what the engine gives within `EXACT`; nothing is written).
    """
    encoders, decoding = _parts(upscaler)
    contents: dict[str, Any]  # files as bytes, or programs
    calls: dict[str, Any]
    with ExitStack() as stack:
        paths = part_paths(path, [*encoders, "decoder"]) if apart else {"": path}
        files = {part: stack.enter_context(atomic_write(each)) for part, each in paths.items()}
        if path.suffix == ".onnx":
            from srcli.engine import onnx_file

            onnx_file.check_packages()
            programs = _traced_parts(upscaler, encoders, decoding)
            shrunk = onnx_file.quantised if int8 else onnx_file.compacted
            contents = {
                part: shrunk(onnx_file.converted(each, about(upscaler))) for part, each in programs.items()
            }
            if not apart:
                contents = {"": onnx_file.joined(contents)}
            calls = {part: onnx_file.session(content) for part, content in contents.items()}
        else:
            contents = calls = (
                _traced_parts(upscaler, encoders, decoding)
                if apart
                else {"": _traced(upscaler, Joined(encoders, decoding), ("image", "size"))}
            )
        difference, psnr = compared(upscaler, calls)
        if difference > EXACT and not int8:
            raise CheckError(
                f"{path} would differ from the engine by {difference:.1e} (at most {EXACT:g}); nothing is written.",
                hint="Please report this, with the output of srcli doctor.",
            )
        for part, content in contents.items():
            if isinstance(content, Program):
                with warnings.catch_warnings():  # of weights that are views of others
                    warnings.simplefilter("ignore")
                    torch.export.save(content.traced, cast("Any", files[part]))
            else:
                files[part].write(content)
    return Exported(list(paths.values()), difference, psnr)


def about(upscaler: Upscaler) -> dict[str, str]:
    """What a file says of itself."""
    preset, network = upscaler.preset, upscaler.network
    return {
        "srcli": __version__,
        "model": preset.name,
        "weights_sha256": upscaler.weights_sha256 or "",
        "weights_license": preset.weights.license,
        "encoder_halo": str(upscaler.halo),
        "tile_multiple": str(upscaler.network.encoder.tile_multiple),
        "decoder_halo": str(network.decoder.halo),
    }


def _parts(upscaler: Upscaler) -> tuple[dict[str, nn.Module], Decoding]:
    encoder, decoder = upscaler.network.encoder, upscaler.network.decoder
    why = None
    if not decoder.local or decoder.tiling is not None:
        why = "its decoder looks at the whole picture"
    elif encoder.multiple_of > 1:
        why = f"its encoder takes sides that are multiples of {encoder.multiple_of}"
    if why is not None:
        raise UsageError(f"'{upscaler.preset.name}' cannot be exported: {why}.")
    small = encoder.small if isinstance(encoder, NativeEncoder) else None
    bodies: dict[str, nn.Module] = {} if small is None else {"encoder-small": small}
    bodies["encoder"] = encoder
    return {key: Encoding(body, upscaler.preset) for key, body in bodies.items()}, Decoding(upscaler)


def _traced_parts(
    upscaler: Upscaler, encoders: Mapping[str, nn.Module], decoding: Decoding
) -> dict[str, Program]:
    programs = {part: _traced(upscaler, each, ("image",)) for part, each in encoders.items()}
    names = ("features", "image", "whole", "corner", "size", "box")
    channels = sum(cast("Any", each).encoder.out_dim for each in encoders.values())
    return {**programs, "decoder": _traced(upscaler, decoding, names, channels)}


def _traced(upscaler: Upscaler, module: nn.Module, names: tuple[str, ...], channels: int = 0) -> Program:
    example = {
        "features": torch.rand(1, channels, 40, 52),
        "image": torch.rand(1, 3, 40, 52),
        "whole": torch.tensor([50, 61]),
        "corner": torch.tensor([3, 5]),
        "size": torch.tensor([120, 150]),
        "box": torch.tensor([20, 30, 70, 97]),
    }
    example = {name: example[name] for name in names}
    dynamic: Any = torch.export.Dim.DYNAMIC
    shapes = {name: {2: dynamic, 3: dynamic} if each.ndim == 4 else {} for name, each in example.items()}
    module = module.eval().requires_grad_(requires_grad=False)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            traced = torch.export.export(module, (), example, dynamic_shapes=shapes, strict=False)
    except Exception as error:  # a tracer raises whatever it meets
        raise UsageError(
            f"'{upscaler.preset.name}' cannot be exported: torch.export cannot follow its encoder "
            f"'{upscaler.preset.encoder.name}' or decoder '{upscaler.preset.decoder.name}'.",
            hint="Decoders native, liif, lte and blend can be, on edsr and rlfn.",
        ) from error
    return Program(traced, example)


def compared(upscaler: Upscaler, calls: Mapping[str, Call]) -> tuple[float, float]:
    """The largest difference between the parts of an export and the engine, and PSNR in dB, over `CASES`."""
    worst, squares = 0.0, []
    for (height, width), scale in CASES:
        image = _picture(Size(height, width))
        target = output_size(Size(height, width), scale)
        wanted = upscaler.upscale(torch.from_numpy(image), size=target).numpy()
        if "" in calls:
            found = calls[""]({"image": image, "size": np.array(target)})
        else:
            found = _by_parts(upscaler, calls, image, target)
        worst = max(worst, float(np.abs(found - wanted).max()))
        squares.append(((found - wanted) ** 2).mean())
    return worst, float(-10 * np.log10(max(np.mean(squares), 1e-12)))


def _by_parts(upscaler: Upscaler, calls: Mapping[str, Call], image: Array, target: Size) -> Array:
    """The output in two halves, each from the features around it."""
    features = np.concatenate([calls[part]({"image": image}) for part in calls if part != "decoder"], axis=1)
    whole, halves, middle = np.array(image.shape[2:]), [], target.w // 2
    for left, right in ((0, middle), (middle, target.w)):
        first, last = Axis(image.shape[3], target.w, left, right).source(upscaler.network.decoder.halo)
        place = {
            "whole": whole, "corner": np.array([0, first]), "size": np.array(target),
            "box": np.array([0, left, target.h, right]),
        }  # fmt: skip
        near = {key: np.ascontiguousarray(each[..., first:last]) for key, each in
                (("features", features), ("image", image))}  # fmt: skip
        halves.append(calls["decoder"]({**near, **place}))
    return np.concatenate(halves, axis=3)


def _picture(size: Size) -> Array:
    """A picture (1, 3, h, w) with what networks and limits treat apart: noise, a slope, few colours, gray."""
    rng = np.random.default_rng(0)
    picture = 0.4 * rng.random((1, 3, *size)) + 0.6 * np.linspace(0, 1, size.w)
    picture[..., : size.h // 2, : size.w // 2] = rng.integers(0, 2, (1, 1, size.h // 2, size.w // 2))
    picture[..., size.h // 2 :, : size.w // 2] = picture[:, :1, size.h // 2 :, : size.w // 2]
    return (np.rint(picture * 255) / 255).astype(np.float32)
