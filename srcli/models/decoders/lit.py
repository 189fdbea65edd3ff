"""LIT and CLIT: every query weighs a window of features by cross-scale attention, in one or more branches.

Chen et al., "Cascaded Local Implicit Transformer for Arbitrary-Scale Super-Resolution", CVPR 2023,
https://arxiv.org/abs/2303.16513. Written from the paper; keys of the authors' release, which builds LIT as a CLIT of
one branch. Each further branch looks at the features enlarged to the size that the stage before it reaches; all
branches are asked at the same places, and the answer of each counts 0.75 of the next one's.
"""

import warnings
from dataclasses import replace
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from srcli.geometry import I64, Axis, Box, Size
from srcli.models.attention import (
    FREQUENCIES,
    PUBLISHED_FREQUENCIES,
    PositionBias,
    Scattered,
    budget,
    present_in,
    resample,
    seen_through,
    window_maps,
)
from srcli.models.attention_grid import Maps, Table, parts_of, pieces
from srcli.models.layers import (
    MLP,
    bilinear_at,
    bilinear_grid,
    conv,
    ensemble_weights,
    last_linear,
    linear,
    sample_nearest,
    sample_neighbours,
)
from srcli.models.sr import Decoder, Frame, Grid

DISCOUNT = 0.75  # of the answer of all branches before
STAGE = 4  # the largest factor of a stage but the last


class Stage(NamedTuple):
    """What a branch looks at: the size of its map, and which part of it can be made from the box at hand."""

    size: Size
    present: Box


class LITField(NamedTuple):
    """The features that all branches start from, of the frame's box."""

    feat: Tensor  # (B, C, h, w)
    lr: Tensor  # (B, 3, h, w)
    frame: Frame
    stages: tuple[Stage, ...]


class LIT(Decoder):
    """LIT (one branch), CLIT-2, CLIT-3; 5,328,651 parameters with one branch.

    All branches start from the same features and none reads another's answer, so that each is local and tiles show in
    none. `variant`: how offsets are encoded: "code", by the 16 frequencies 2^(2m/3) - 1 of the authors' release, or
    "paper", by 2^l, l = 0 .. 9, of its eq. 6. Nothing that was published has weights for the latter.
    """

    title, cascade_title = "LIT", "CLIT"
    kept = 128 << 20  # bytes of weighted values for the gradient; beyond, they are computed again

    def __init__(
        self,
        *,
        in_dim: int,
        branches: int = 1,
        base_dim: int = 256,
        n_heads: int = 8,
        side: int = 7,  # of the window in pixels, odd, 1 to 25
        hidden: tuple[int, ...] = (256, 256, 256, 256),
        attention: bool = True,  # weigh the window; otherwise the nearest pixel's value answers alone
        cell: bool = True,  # the MLPs are told the size of an HR pixel
        local_ensemble: bool = False,  # mix the answers of the windows around the four nearest pixels
        variant: Literal["code", "paper"] = "code",
    ) -> None:
        super().__init__()
        if side not in range(1, 26, 2):
            raise ValueError(f"side must be odd, 1 to 25, got {side}")
        if branches < 1 or n_heads < 1 or base_dim % n_heads or not hidden:
            raise ValueError(
                f"cannot make {branches} branches of {base_dim} channels, {n_heads} heads and {len(hidden)} hidden layers"
            )
        self.has_windows = self.attention = attention and side > 1  # one pixel weighs 1 whatever its key
        self.reach = side // 2 if self.attention else 0
        self.n_heads, self.cell, self.local_ensemble = n_heads, cell, local_ensemble
        area = (2 * self.reach + 1) ** 2
        self.conv_ch = nn.Conv2d(in_dim, base_dim, 3, padding=1)
        self.conv_vs = _convs(branches, base_dim)
        if self.attention:
            self.conv_qs, self.conv_ks = _convs(branches, base_dim), _convs(branches, base_dim)
            self.pb_encoder = PositionBias(
                n_heads, PUBLISHED_FREQUENCIES if variant == "paper" else FREQUENCIES
            )
        self.imnets = nn.ModuleList(
            MLP(area * base_dim + 2 * cell, hidden, 3, activation=nn.GELU) for _ in range(branches)
        )
        # Two convolutions around the window; later branches also interpolate, never on a map below the LR's size.
        self.halo = max(self.reach + local_ensemble, int(self.attention)) + 2 + (branches > 1)

    @property
    def n_branches(self) -> int:  # type: ignore[override]
        return len(self.imnets)

    def prepare(self, feat: Tensor, lr: Tensor, frame: Frame) -> LITField:
        """Warns at the image's corner if the scale needs more branches; ValueError for scales with different stages."""
        sizes, lacking = self._sizes(frame)
        if lacking and frame.box.top == frame.box.left == 0:
            warnings.warn(
                f"The scale needs {self.n_branches + lacking} stages and this network has {self.n_branches}: "
                "the last one enlarges beyond what it was trained for.",
                RuntimeWarning,
                stacklevel=2,
            )
        first = Stage(frame.size, frame.box)
        rest = (Stage(size, present_in(frame.box, frame.size, size)) for size in sizes)
        return LITField(conv(self.conv_ch, feat), lr, frame, (first, *rest))

    def _sizes(self, frame: Frame) -> tuple[tuple[Size, ...], int]:
        """Sizes of the maps of the second and further branches, and how many branches are lacking."""
        if frame.stages is not None:
            if len(frame.stages) >= self.n_branches:
                raise ValueError(
                    f"{len(frame.stages) + 1} stages given to a network of {self.n_branches} branches"
                )
            return frame.stages, 0
        if self.n_branches == 1:
            return (), 0
        targets = (
            {frame.target}
            if frame.target
            else {Size(round(2 / y), round(2 / x)) for y, x in frame.cell.tolist()}
        )
        found = {stage_sizes(frame.size, target, self.n_branches) for target in targets}
        if len(found) > 1:
            raise ValueError("a batch of one LR size needs one scale, or the sizes of its stages")
        wanted = max(stages_needed(frame.size, target) for target in targets)
        return found.pop(), max(0, wanted - self.n_branches)

    def query(self, prepared: LITField, coord: Tensor) -> Tensor:
        sr = torch.zeros((), device=coord.device)
        for branch in range(len(prepared.stages)):
            sr = DISCOUNT * sr + self._answers(prepared, branch, coord)
        return sr + bilinear_at(prepared.lr, coord)

    def render(self, prepared: LITField, grid: Grid) -> Tensor:
        images = []
        for i in range(len(prepared.feat)):
            image = _image(prepared, i)
            sr = torch.zeros((), device=prepared.lr.device)
            for branch in range(len(prepared.stages)):
                sr = DISCOUNT * sr + self._rendered(image, branch, grid)
            images.append(sr)
        return torch.stack(images).permute(0, 3, 1, 2) + bilinear_grid(prepared.lr, grid)

    def attention_at(self, prepared: LITField, coord: Tensor) -> list[Tensor]:
        """How queries at coord (B, Q, 2) weigh their windows, (B, Q, heads, side, side), for each branch in use."""
        if not self.attention:
            raise ValueError("this network has no attention")
        side, pictures = 2 * self.reach + 1, []
        for branch, stage in enumerate(prepared.stages):
            maps, box = self._maps(prepared, branch, stage.present)
            near = Scattered.around(sample_nearest(coord, stage.size), coord, stage.size, box, self.reach)
            weights = near.weights(near.bilinear(_rows(maps, 0)), _rows(maps, 1), self.pb_encoder)
            pictures.append(weights.transpose(2, 3).unflatten(-1, (side, side)))
        return pictures

    # --- what both ways of asking share ----------------------------------------------------------------------

    def _maps(self, prepared: LITField, branch: int, cells: Box) -> tuple[Tensor, Box]:
        """Queries, keys and values of a branch's map (B, h, w, 3, C), only values (.., 1, C) without attention.

        They fill all windows around `cells`; the second result says which box that is.
        """
        size, present = prepared.stages[branch]
        window = cells.grow(self.reach)
        seen = seen_through(window, present)
        if branch == 0:
            rows, cols = seen.relative_to(prepared.frame.box).slices
            feat = prepared.feat[:, :, rows, cols]
        else:
            feat = resample(prepared.feat, prepared.frame.box, prepared.frame.size, size, seen)
        convs = (self.conv_qs, self.conv_ks, self.conv_vs) if self.attention else (self.conv_vs,)
        return window_maps(feat, seen, window, [_conv(layers, branch) for layers in convs]), window

    def _mlp(self, branch: int) -> MLP:
        mlp = self.imnets[branch]
        assert isinstance(mlp, MLP)
        return mlp

    def _first(self, branch: int) -> Tensor:
        """The first layer's columns for the values: (width, area * C)."""
        weight = self._mlp(branch).linears[0].weight
        return weight[:, : weight.shape[1] - 2 * self.cell]

    def _constant(self, prepared: LITField, branch: int) -> Tensor:
        """What the first layer adds for its bias and the cell: (B or 1, width) float32."""
        layer, cell = self._mlp(branch).linears[0], prepared.frame.cell
        if not self.cell:
            return layer.bias.float()[None]
        with torch.autocast(cell.device.type, enabled=False):
            rel_cell = cell * cell.new_tensor(prepared.stages[branch].size)
            return F.linear(rel_cell, layer.weight[:, -2:].float(), layer.bias.float())

    def _tail(self, branch: int, hidden: Tensor) -> Tensor:
        """The MLP from the first layer's output (.., width) on: colours (.., 3) float32."""
        *middle, last = self._mlp(branch).linears[1:]
        hidden = F.gelu(hidden)
        for layer in middle:
            hidden = F.gelu(linear(layer, hidden))
        return last_linear(last, hidden)

    # --- scattered queries -----------------------------------------------------------------------------------

    def _answers(self, prepared: LITField, branch: int, coord: Tensor) -> Tensor:
        """A branch's colours (B, Q, 3) at coord (B, Q, 2)."""
        stage = prepared.stages[branch]
        maps, box = self._maps(prepared, branch, stage.present)
        q, k, v = (_rows(maps, i) for i in range(3)) if self.attention else 3 * [_rows(maps, 0)]
        first, constant = self._first(branch), self._constant(prepared, branch)[:, None]

        def answer(near: Scattered) -> Tensor:
            values = F.embedding(near.pixels, v)
            if self.attention:
                asked = F.embedding(near.middle, q) if self.local_ensemble else near.bilinear(q)
                weights = near.weights(asked, k, self.pb_encoder).to(values.dtype)
                values = (values.unflatten(-1, (self.n_heads, -1)) * weights.unsqueeze(-1)).flatten(-2)
            hidden = F.linear(values.flatten(2), first.to(values.dtype))
            return self._tail(branch, hidden + constant.to(hidden.dtype))

        def mixed(part: Tensor) -> Tensor:
            if not self.local_ensemble:
                sample = sample_nearest(part, stage.size)
                return answer(Scattered.around(sample, part, stage.size, box, self.reach))
            samples, shares = sample_neighbours(part, stage.size)
            near = [Scattered.around(sample, part, stage.size, box, self.reach) for sample in samples]
            return (torch.stack([answer(one) for one in near], dim=-1) * shares.unsqueeze(2)).sum(-1)

        per_query = len(coord) * first.shape[1] * v.element_size()
        parts = coord.split(max(1, budget(v).gathered // per_query), dim=1)
        if torch.is_grad_enabled() and coord.shape[1] * per_query > self.kept:
            again = [checkpoint(mixed, part, use_reentrant=False, preserve_rng_state=False) for part in parts]
            return torch.cat(again, dim=1)
        return torch.cat([mixed(part) for part in parts], dim=1)

    # --- a grid ----------------------------------------------------------------------------------------------

    def _rendered(self, image: LITField, branch: int, grid: Grid) -> Tensor:
        """A branch's colours (H, W, 3) on a grid, of one image."""
        layer = self._first(branch).unflatten(1, (-1, self.n_heads, image.feat.shape[1] // self.n_heads))
        layer = layer.permute(2, 1, 3, 0).to(image.feat.dtype).contiguous()
        constant = self._constant(image, branch)[0]
        out = torch.empty(*grid.size, 3, device=image.feat.device)
        for rows, cols, part in parts_of(grid, image.stages[branch].size, budget(out).side):
            out[rows, cols] = self._part(image, branch, part, layer, constant)
        return out

    def _part(self, image: LITField, branch: int, part: Grid, layer: Tensor, constant: Tensor) -> Tensor:
        """Colours (H, W, 3) of a rectangle; `layer` (heads, area, d, width) is the first one's for the values."""
        middles = [self._middles(axis) for axis in part]
        cells = Box(*(int(side[0].min()) for side in middles), *(int(side[-1].max()) + 1 for side in middles))
        stacked, box = self._maps(image, branch, cells)
        maps = Maps.of(stacked[0], self.n_heads)
        bias = self.pb_encoder if self.attention else None
        tables = [
            [
                Table.of(axis, middle, edge, self.reach, bias, number, own=self.local_ensemble)
                for middle in side
            ]
            for number, (axis, side, edge) in enumerate(zip(part, middles, (box.top, box.left), strict=True))
        ]
        out = torch.zeros(*part.size, 3, device=constant.device)
        shares = ensemble_weights(part, out) if self.local_ensemble else out.new_ones(1, *part.size)
        looks = [(rows, cols) for rows in tables[0] for cols in tables[1]]
        for share, (rows, cols) in zip(shares, looks, strict=True):
            for piece in pieces(maps, rows, cols, self.reach, self.n_heads):
                hidden = piece.project(maps.v, maps.width, layer) + constant
                colours = piece.on_grid(self._tail(branch, hidden.to(layer.dtype)))
                at = (piece.rows[:, None], piece.cols)
                out[at] += share[at].unsqueeze(-1) * colours
        return out

    def _middles(self, axis: Axis) -> list[I64]:
        """The middle of each query's window, for every look at an axis."""
        return [*axis.neighbours().index] if self.local_ensemble else [axis.nearest().index]


def _convs(count: int, dim: int) -> nn.ModuleList:
    return nn.ModuleList(nn.Conv2d(dim, dim, 3, padding=1) for _ in range(count))


def _conv(layers: nn.ModuleList, number: int) -> nn.Conv2d:
    layer = layers[number]
    assert isinstance(layer, nn.Conv2d)
    return layer


def _rows(maps: Tensor, which: int) -> Tensor:
    """One of the maps (B, h, w, n, C) as rows (B * h * w, C)."""
    return maps[..., which, :].flatten(0, 2)


def _image(prepared: LITField, number: int) -> LITField:
    feat, lr, frame, stages = prepared
    cell = frame.cell[number : number + 1] if len(frame.cell) > 1 else frame.cell
    one = slice(number, number + 1)
    return LITField(feat[one], lr[one], replace(frame, cell=cell), stages)


def stages_needed(lr: Size, target: Size) -> int:
    """How many stages a scale has: the larger one of the axes decides, each stage but the last takes 4 of it."""
    stages = 1
    while any(n * STAGE**stages < m for n, m in zip(lr, target, strict=True)):
        stages += 1
    return stages


def stage_sizes(lr: Size, target: Size, branches: int) -> tuple[Size, ...]:
    """What the stages before the last one reach, and the maps of the second and further branches therefore are.

    Each axis is enlarged by 4 per stage, or by what is left of its scale; the last stage takes the rest. Where the
    scale has more stages than there are branches, the last branch takes all that is left.
    """

    def side(n: int, m: int, stage: int) -> int:
        return min(n * STAGE**stage, max(n, m))  # an axis that shrinks does so in the last stage

    count = min(stages_needed(lr, target), branches)
    return tuple(Size(side(lr.h, target.h, i), side(lr.w, target.w, i)) for i in range(1, count))
