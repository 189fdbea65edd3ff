"""Pictures as networks see them, and what `Upscaler.upscale` takes: paths, arrays, PIL images, tensors."""

from collections.abc import Callable
from copy import copy
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image as Pillow
from torch import Tensor

from srcli.engine.request import Source
from srcli.geometry import Box, Size, mirrored
from srcli.image.read import Image, bleed, read_image
from srcli.image.resize import resize

MODES = ("L", "LA", "RGB", "RGBA")  # of PIL, that come back as they are


class TensorSource:
    """A tensor (1, 3, h, w) in [0, 1] as a `Source`."""

    def __init__(self, lr: Tensor) -> None:
        self.pixels = lr[0].detach().permute(1, 2, 0).cpu().float().numpy()
        self.size = Size(*self.pixels.shape[:2])

    def strip(self, top: int, bottom: int) -> np.ndarray:
        return self.pixels[top:bottom]


def read_mirrored(source: Source, box: Box, *, repeat_edge: bool) -> np.ndarray:
    """Pixels (h, w, 3) of a box that may reach beyond the bottom and the right, where the image goes on mirrored."""
    height, width = source.size
    rows = mirrored(box.top, box.bottom, height, repeat_edge=repeat_edge)
    columns = mirrored(box.left, box.right, width, repeat_edge=repeat_edge)
    first = int(rows.min())
    return source.strip(first, int(rows.max()) + 1)[rows - first][:, columns]


class NormalisedImage:
    """The LR image as the network sees it, normalised, mirrored at the bottom and right to a multiple.

    `latent`: (1, z, h, w) behind the three colours, for encoders of diffusion models.
    """

    latent: Tensor | None = None

    def __init__(
        self, source: Source, mean: Tensor, std: Tensor, multiple: int, *, repeat_edge: bool = True
    ) -> None:
        self.repeat_edge = repeat_edge
        self.source = source
        self.mean = mean.reshape(1, 3, 1, 1)
        self.std = std.reshape(1, 3, 1, 1)
        self.inside = Size(*source.size)
        h, w = (-(-side // multiple) * multiple for side in self.inside)
        self.size = Size(h, w)

    def beside(self, latent: Tensor) -> Self:
        """The image with a latent."""
        both = copy(self)
        both.latent = latent
        return both

    def box(self, box: Box) -> Tensor:
        """Pixels (1, 3 + z, h, w) of a box of the padded image, channels_last."""
        pixels = read_mirrored(self.source, box, repeat_edge=self.repeat_edge)
        x = torch.from_numpy(np.ascontiguousarray(pixels, dtype=np.float32)).to(self.mean.device)
        x = (x.permute(2, 0, 1).unsqueeze(0) - self.mean) / self.std
        if self.latent is not None:
            x = torch.cat([x, self.latent[(..., *box.slices)].to(x)], dim=1)
        return x.contiguous(memory_format=torch.channels_last)


class Picture(NamedTuple):
    """Colours (n, 3, h, w) in [0, 1], and what makes of enlarged ones (n, 3, H, W) the form that was given."""

    colours: Tensor
    restore: Callable[[Tensor], Any]


def picture_of(given: Any) -> Picture:
    """A path, `srcli.image.Image`, PIL image, array (h, w), (h, w, c) or (n, h, w, c), or tensor (3, h, w) or (n, 3, h, w).

    Arrays have 1 (gray), 2 (and alpha), 3 or 4 (and alpha) channels; integers count up to white, floats lie in [0, 1].
    A path or an `Image` gives an array (H, W, 3) or with alpha (H, W, 4), sRGB, in the depth of the file. Raises
    ValueError (another shape), TypeError (another type), SrcliError (a file that cannot be read).
    """
    if isinstance(given, Tensor):
        return _of_tensor(given)
    if isinstance(given, (str, Path)):
        given = read_image(given)
    if isinstance(given, Image):
        return _of_image(given)
    if isinstance(given, Pillow.Image):
        return _of_pillow(given)
    if isinstance(given, np.ndarray):
        return _of_array(given)
    raise TypeError(f"expected a path, a PIL image, an array or a tensor, got {type(given).__name__}")


def _of_tensor(given: Tensor) -> Picture:
    batch = given if given.ndim == 4 else given.unsqueeze(0)
    if given.ndim not in (3, 4) or batch.shape[1] != 3 or 0 in batch.shape:
        raise ValueError(f"expected a tensor (n, 3, h, w) or (3, h, w), got {tuple(given.shape)}")
    dtype, most = given.dtype, 1.0
    if not given.is_floating_point():
        most = float(torch.iinfo(dtype).max)

    def restore(sr: Tensor) -> Tensor:
        sr = sr if given.ndim == 4 else sr[0]
        return sr if most == 1 else sr.mul(most).round().to(dtype)

    return Picture(batch.float() / most if most != 1 else batch, restore)


def _of_image(given: Image) -> Picture:
    colours = given.strip(0, given.size[0])[None]
    alpha = None if given.alpha is None else given.alpha_strip(0, given.size[0])[None]
    return _of_channels(colours, alpha, lambda out: _as(out[0], given.pixels.dtype))


def _of_pillow(given: Pillow.Image) -> Picture:
    if given.mode not in MODES and not given.mode.startswith(("I;16", "F")):
        given = given.convert("RGBA" if given.has_transparency_data else "RGB")
    picture = _of_array(np.asarray(given))
    return Picture(picture.colours, lambda sr: Pillow.fromarray(picture.restore(sr)))


def _of_array(given: NDArray[Any]) -> Picture:
    channels = 1 if given.ndim == 2 else given.shape[-1] if given.ndim in (3, 4) else 0
    if channels not in (1, 2, 3, 4) or 0 in given.shape:
        raise ValueError(f"expected an array (h, w, 3), or a batch (n, h, w, 3), got {given.shape}")
    most = float(np.iinfo(given.dtype).max) if np.issubdtype(given.dtype, np.integer) else 1.0
    sides = given.shape[-3:-1] if given.ndim > 2 else given.shape
    values = (given / most).astype(np.float32).reshape(-1, *sides, channels)
    has_alpha = channels in (2, 4)
    colours, alpha = values[..., : channels - has_alpha], values[..., -1] if has_alpha else None
    gray = colours.shape[-1] == 1

    def restore(out: NDArray[np.float32]) -> NDArray[Any]:
        if gray:  # the mean of what the network makes of three equal channels
            out = np.concatenate([out[..., :3].mean(-1, keepdims=True), out[..., 3:]], axis=-1)
        out = out if given.ndim == 4 else out[0]
        return _as(out[..., 0] if given.ndim == 2 else out, given.dtype)

    return _of_channels(np.repeat(colours, 3, axis=-1) if gray else colours, alpha, restore)


def _of_channels(
    colours: NDArray[np.float32],
    alpha: NDArray[np.float32] | None,
    restore: Callable[[NDArray[np.float32]], Any],
) -> Picture:
    """Of colours (n, h, w, 3) and alpha (n, h, w), which is resized; `restore` gets (n, H, W, 3 or 4)."""
    if alpha is not None:
        colours = np.stack([bleed(*pair) for pair in zip(colours, alpha, strict=True)])

    def joined(sr: Tensor) -> Any:
        out = sr.permute(0, 2, 3, 1).numpy()
        if alpha is not None:
            size = Size(*out.shape[1:3])
            layers = np.stack([resize(layer, size) for layer in alpha])
            out = np.concatenate([out, np.clip(layers, 0, 1)[..., None]], axis=-1)
        return restore(out)

    return Picture(torch.from_numpy(np.ascontiguousarray(colours)).permute(0, 3, 1, 2), joined)


def _as(values: NDArray[np.float32], dtype: np.dtype[Any]) -> NDArray[Any]:
    if np.issubdtype(dtype, np.integer):
        values = np.rint(values.astype(np.float64) * np.iinfo(dtype).max)
    return values.astype(dtype)
