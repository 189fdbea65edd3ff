"""Features of an image, made in tiles from top to bottom and dropped when no output row needs them."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from srcli.engine.device import Precision, is_finite, is_out_of_memory, with_fallback
from srcli.engine.normalised_image import NormalisedImage
from srcli.engine.request import RenderStats
from srcli.engine.tiling import tile_rows
from srcli.errors import ModelError, ResourceError
from srcli.geometry import SMALLEST_TILE, Box, Size


class Features:
    """A window of feature rows that moves down the image; tiles that were computed again are counted in `stats`."""

    def __init__(
        self,
        encoder: Callable[[Tensor], Tensor],
        pixels: NormalisedImage,
        tile: Size,
        stats: RenderStats,
        *,
        halo: int,
        multiple: int,
        device: torch.device,
        precision: Precision,
    ) -> None:
        self.encoder = encoder
        self.pixels = pixels
        self.halo = -(-halo // multiple) * multiple  # a margin of whole windows keeps their phase
        self.multiple = multiple
        self.device = device
        self.precision = precision
        self.stats = stats
        self._tiles: Iterator[list[Box]] = tile_rows(pixels.size, tile)
        self._strips: list[tuple[int, Tensor]] = []  # (top row, features (1, C, rows, w))
        self._done = 0

    def whole(self) -> Tensor:
        """All features (1, C, h, w), those of the rows and columns that complete the image included."""
        return self._rows(0, self.pixels.size.h)

    def rows(self, top: int, bottom: int) -> Tensor:
        """Feature rows (1, C, bottom - top, w); rows above `top` are forgotten for good."""
        return self._rows(top, bottom)[..., : self.pixels.inside.w]

    def _rows(self, top: int, bottom: int) -> Tensor:
        while self._done < bottom:
            tiles = next(self._tiles)
            whole = Box(tiles[0].top, 0, tiles[0].bottom, self.pixels.size.w)
            self._strips.append((whole.top, _assembled(whole, [(box, self._tile(box)) for box in tiles])))
            self._done = tiles[0].bottom
        self._strips = [(at, strip) for at, strip in self._strips if at + strip.shape[2] > top]
        parts = [strip[:, :, max(0, top - at) : bottom - at] for at, strip in self._strips if at < bottom]
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=2)

    def _tile(self, box: Box) -> Tensor:
        try:
            return self._encode(box)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
        # Outside the handler, so that the failed tile's tensors are free by now.
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        quarters = _quarters(box, self.multiple)
        if max(box.size) <= SMALLEST_TILE or len(quarters) == 1:
            raise ResourceError(
                f"Out of memory on {self.device} even with a tile of {box.size.w}x{box.size.h} pixels.",
                hint="Close other programs, use --device cpu, or a smaller model.",
            )
        self.stats.tile_retries += 1
        return _assembled(box, [(part, self._tile(part)) for part in quarters])

    def _encode(self, box: Box) -> Tensor:
        outer = box.grow(self.halo, self.pixels.size)
        rows, cols = box.relative_to(outer).slices
        x = self.pixels.box(outer)
        features = with_fallback(
            lambda _: self.encoder(x)[:, :, rows, cols],
            self.device,
            self.precision,
            what="those tiles are",
            stats=self.stats,
        )
        if not is_finite(features):
            raise ModelError("The encoder gives NaN or infinity in fp32: the weights are damaged.")
        return features.contiguous(memory_format=torch.channels_last)


def _assembled(whole: Box, parts: list[tuple[Box, Tensor]]) -> Tensor:
    if len(parts) == 1:
        return parts[0][1]
    first = parts[0][1]
    # A tile that fell back to float32 keeps its range only in a float32 whole.
    dtype = torch.float32 if any(f.dtype == torch.float32 for _, f in parts) else first.dtype
    shape = (1, first.shape[1], *whole.size)
    out = torch.empty(shape, dtype=dtype, device=first.device, memory_format=torch.channels_last)
    for box, features in parts:
        rows, cols = box.relative_to(whole).slices
        out[:, :, rows, cols] = features
    return out


def _quarters(box: Box, multiple: int) -> list[Box]:
    def cut(start: int, stop: int) -> list[tuple[int, int]]:
        middle = start + -(-(stop - start) // 2 // multiple) * multiple
        return [(start, stop)] if not start < middle < stop else [(start, middle), (middle, stop)]

    rows, columns = cut(box.top, box.bottom), cut(box.left, box.right)
    return [Box(top, left, bottom, right) for top, bottom in rows for left, right in columns]
