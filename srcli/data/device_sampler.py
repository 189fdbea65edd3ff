"""Samples cut on the network's device: all photos as 8-bit numbers in one tensor, no loader in between.

The crops are those of `Sampler` for the same random numbers, and are reduced to the same bits. The places of queries
and the dither come from counter-based random numbers instead, so that the device needs only a few numbers from the CPU
for each sample.
"""

from collections.abc import Iterable, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from srcli.data.photos import Photo
from srcli.data.reduce import batch_taps, resize
from srcli.data.samples import WHOLE_STEP, Batch, Cut, Range, Sampler, SampleSettings
from srcli.degradations.apply import degrade
from srcli.degradations.counter import bits, bits_at, uniform
from srcli.degradations.draw import Degradation, draw
from srcli.errors import ResourceError
from srcli.geometry import Size

_NEVER = torch.iinfo(torch.int64).max
_COLUMN_BITS = 15  # a place is row * 2^15 + column
_PLACE = (1 << 2 * _COLUMN_BITS) - 1


def make_sampler(photos: Sequence[Photo], settings: SampleSettings, device: torch.device | str) -> Sampler:
    """The sampler that `settings` ask for; its batches lie on `device` if `settings.on_device`, else on the CPU."""
    return DeviceSampler(photos, settings, device) if settings.on_device else Sampler(photos, settings)


class DeviceSampler(Sampler):
    """`Sampler` on a device. Raises ResourceError (the photos do not fit into its memory), and as `Sampler`."""

    def __init__(self, photos: Sequence[Photo], settings: SampleSettings, device: torch.device | str) -> None:
        super().__init__(photos, settings)
        self.device = torch.device(device)
        counts = [photo.pixels.shape[0] * photo.pixels.shape[1] for photo in photos]
        self.starts = np.cumsum([0, *counts])
        try:
            self.pixels = torch.empty((sum(counts), 3), dtype=torch.uint8, device=self.device)
        except torch.OutOfMemoryError as error:
            raise ResourceError(
                f"{sum(counts) / 1e6:.0f} megapixels of photos do not fit into the memory of {device}.",
                hint="Train without --data-on-device.",
            ) from error
        for photo, start, count in zip(photos, self.starts, counts, strict=False):
            flat = np.ascontiguousarray(photo.pixels).reshape(-1, 3)
            self.pixels[start : start + count].copy_(torch.tensor(flat))

    @torch.no_grad()
    def _make(self, rngs: Sequence[np.random.Generator], scales: Range) -> Batch:
        cuts: list[Cut] = []
        degradations: list[Degradation] = []
        keys = []
        for rng in rngs:
            cuts.append(self.cut(rng, scales))
            if self.ranges is not None:
                degradations.append(draw(self.ranges, rng))
            keys.append(int(rng.integers(1 << 62)))
        hr = self._crops(cuts)
        if degradations:
            lr = self._degraded(hr, cuts, degradations)
        else:
            taps = batch_taps([(cut.side, self.settings.patch) for cut in cuts], self.device)
            lr = resize(hr, taps, taps)
        streams, sides = self._on_device(keys), self._on_device([cut.side for cut in cuts])
        iy, ix = self._queries(streams, sides, hr.shape[1], min(cut.side for cut in cuts))
        colours = self._colours(hr, iy, ix, sides, streams)
        # The arithmetic of `geometry.centres`: double precision for an axis, single for its pixels.
        ends = [(2 / cut.side, -1 + 1 / cut.side) for cut in cuts]
        step, first = torch.tensor(ends).to(self.device, non_blocking=True).view(-1, 2, 1).unbind(1)
        coord = torch.stack([step * at.float() + first for at in (iy, ix)], dim=-1)
        picture = None
        if self.settings.picture:
            taps = batch_taps([(cut.side, self.settings.picture) for cut in cuts], self.device)
            picture = resize(hr, taps, taps).permute(0, 3, 1, 2).float() / 255
        lr = lr.permute(0, 3, 1, 2).float() / 255
        return Batch(lr, colours / 255, coord, step.repeat(1, 2), picture=picture)

    def _on_device(self, numbers: Sequence[int]) -> Tensor:
        return torch.tensor(numbers, dtype=torch.int64).to(self.device, non_blocking=True)

    # --- pixels ---------------------------------------------------------------------------------------------------

    def _crops(self, cuts: Sequence[Cut]) -> Tensor:
        """HR crops (B, S, S, 3) uint8, each in the top left corner of a square that holds the largest."""
        largest = max(cut.side for cut in cuts)
        widths = [self.photos[cut.photo].pixels.shape[1] for cut in cuts]
        starts = [int(self.starts[c.photo]) + c.top * w + c.left for c, w in zip(cuts, widths, strict=True)]
        hr = torch.empty((len(cuts), largest, largest, 3), dtype=torch.uint8, device=self.device)
        plain = [k for k, cut in enumerate(cuts) if cut.source == cut.side]
        shrunk = [k for k, cut in enumerate(cuts) if cut.source != cut.side]
        if plain:
            at = [(starts[k], widths[k], cuts[k].side, cuts[k].turn) for k in plain]
            hr[self._on_device(plain)] = self._squares(self.pixels, at, largest)
        if shrunk:
            sources = [(starts[k], widths[k], cuts[k].source, 0) for k in shrunk]
            whole = self._squares(self.pixels, sources, max(cuts[k].source for k in shrunk))
            taps = batch_taps([(cuts[k].source, cuts[k].side) for k in shrunk], self.device)
            small = resize(whole, taps, taps).contiguous()
            side = small.shape[1]
            at = [(place * side * side, side, cuts[k].side, cuts[k].turn) for place, k in enumerate(shrunk)]
            hr[self._on_device(shrunk)] = self._squares(small.reshape(-1, 3), at, largest)
        return hr

    def _squares(self, pixels: Tensor, where: Iterable[tuple[int, int, int, int]], largest: int) -> Tensor:
        """Squares (n, S, S, 3) of pixels (N, 3), turned as `dihedral` does."""
        table = torch.tensor(list(where), dtype=torch.int64).to(self.device, non_blocking=True)
        first, width, side, turn = (column.view(-1, 1, 1) for column in table.unbind(1))
        axis = torch.arange(largest, device=self.device)
        last = side - 1
        row, col = axis.view(1, -1, 1).minimum(last), axis.view(1, 1, -1).minimum(last)
        # The source of each pixel: `dihedral` flips rows (1) and columns (2), then transposes (4).
        y = torch.where(turn & 4 > 0, col, row)
        x = torch.where(turn & 4 > 0, row, col)
        y = torch.where(turn & 1 > 0, last - y, y)
        x = torch.where(turn & 2 > 0, last - x, x)
        return pixels[first + y * width + x]

    def _degraded(self, hr: Tensor, cuts: Sequence[Cut], degradations: Sequence[Degradation]) -> Tensor:
        """LR patches; `hr` is changed in place where a degradation sharpens it."""
        patch = Size(self.settings.patch, self.settings.patch)
        made = []
        for place, (cut, degradation) in enumerate(zip(cuts, degradations, strict=True)):
            square = hr[place, : cut.side, : cut.side]
            lr, shown = degrade(square, degradation, patch)
            square.copy_(shown)
            made.append(lr)
        return torch.stack(made)

    # --- queries --------------------------------------------------------------------------------------------------

    def _queries(self, keys: Tensor, sides: Tensor, largest: int, smallest: int) -> tuple[Tensor, Tensor]:
        """Rows and columns (B, Q) of the pixels whose colours are the targets."""
        settings = self.settings
        if settings.block:
            room = (sides - settings.block + 1)[:, None]
            corner = (bits(keys, 2) * room) >> 32
            middles = torch.arange(settings.around // 2, settings.block, settings.around, device=self.device)
            iy = (corner[:, :1] + middles).repeat_interleave(middles.numel(), dim=1)
            return iy, (corner[:, 1:] + middles).repeat(1, middles.numel())
        few = smallest * smallest < settings.queries
        order = _shuffled(keys, sides, largest)
        chosen = (_with_repeats if few else _without_repeats)(order, keys, sides, settings.queries)
        return chosen >> _COLUMN_BITS, chosen & (1 << _COLUMN_BITS) - 1

    def _colours(self, hr: Tensor, iy: Tensor, ix: Tensor, sides: Tensor, keys: Tensor) -> Tensor:
        """Colours (B, Q, 3), or patches (B, Q, around^2, 3), in levels."""
        around, largest = self.settings.around, hr.shape[1]
        steps = torch.arange(around, device=self.device) - around // 2
        last = (sides - 1)[:, None, None]
        rows, cols = ((at[..., None] + steps).clamp(min=0).minimum(last) for at in (iy, ix))
        index = (rows[..., :, None] * largest + cols[..., None, :]).flatten(1)
        colours = hr.flatten(1, 2).gather(1, index[..., None].expand(-1, -1, 3)).float()
        if self.settings.dither:
            noise = uniform(keys ^ WHOLE_STEP, colours[0].numel())  # another stream than that of the places
            colours = colours + noise.view_as(colours) - 0.5
        return colours if around == 1 else colours.unflatten(1, (iy.shape[1], around * around))


def _shuffled(keys: Tensor, sides: Tensor, largest: int) -> Tensor:
    """For each place of squares (side, side) a random number, whose last bits are its row and column."""
    axis = torch.arange(largest, device=keys.device)
    place = (axis[:, None] << _COLUMN_BITS | axis).flatten()
    # Crops are smaller than the batch's largest.
    inside = axis[:, None].maximum(axis).flatten() < sides[:, None]
    return torch.where(inside, bits_at(keys, place) << 2 * _COLUMN_BITS | place, _NEVER)


def _without_repeats(order: Tensor, _keys: Tensor, _sides: Tensor, count: int) -> Tensor:
    """Places (B, count), no place twice: those with the smallest random numbers."""
    return order.topk(count, dim=1, largest=False).values & _PLACE


def _with_repeats(order: Tensor, keys: Tensor, sides: Tensor, count: int) -> Tensor:
    """As `_without_repeats` if there may be fewer places than `count`: all places, then further draws of any."""
    taken = order.sort(dim=1).values[:, :count] & _PLACE
    taken = pad(taken, (0, count - taken.shape[1]))
    squares, side = (sides * sides)[:, None], sides[:, None]
    again = (bits(keys ^ 1, count) * squares) >> 32
    again = again // side << _COLUMN_BITS | again % side
    return torch.where(torch.arange(count, device=keys.device) < squares, taken, again)
