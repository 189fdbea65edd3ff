"""LIA, FPLIA's decoder: attention within and across two streams of features, and a choice between the results.

"FPLIA", arXiv 2606.21910. Written from the paper. One stream is about fidelity (features of the LR image), one about
perception (features of a latent). Four branches attend: each asks one stream for its query and one for keys and values
(`BRANCHES`), by the local attention of `srcli.models.attention`, whose weighted values are not summed but go into a
linear layer (FPAM). From the same weights and a further map of confidence each branch gets a vote; the votes decide
which branch answers at a pixel (FPSM). All branches share a norm and an MLP for colours.

`variant = "code"` is the authors' release and what their weights need; `variant = "paper"` is the text: queries, keys,
values and confidence belong to the streams and not to the branches, votes are one linear layer on everything, the MLP
has GELU, and training mixes branches softly instead of choosing.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from srcli.models.attention import PositionBias, Scattered, budget, window_maps
from srcli.models.decoders.lia_grid import rendered
from srcli.models.decoders.native import HALO, NativePicture
from srcli.models.layers import MLP, bilinear_at, bilinear_grid, conv, last_linear, linear, sample_nearest
from srcli.models.sr import Decoder, Frame, Grid, SelectiveDecoder

BRANCHES = {  # name -> stream of the query, stream of keys and values; in the order of the votes
    "f": ("fid", "fid"),
    "p": ("perc", "perc"),
    "pf": ("perc", "fid"),
    "fp": ("fid", "perc"),
}
SELECTED = "selected"
KEPT = 128 << 20  # bytes of windows that training keeps; beyond, they are computed again for the gradient

Look = Callable[[Tensor], tuple[list[Tensor], Tensor | None]]


class LIAField(NamedTuple):
    """Both streams at the decoder's width, of the frame's box, and the image for the skip, or a native picture."""

    streams: dict[str, Tensor]  # (B, dim, h, w)
    lr: Tensor  # (B, 3, h, w)
    frame: Frame
    native: NativePicture | None = None


class Rendered(NamedTuple):
    """Colours (B, 3, H, W), and the votes (B, n, H, W) of the branches in their order, where there are any."""

    colours: Tensor
    scores: Tensor | None


class LIA(SelectiveDecoder):
    """FPAM, FPSM and the MLP; 35,851,535 parameters at the published sizes with all branches.

    `temperature`: of the Gumbel noise in training; a buffer, so that training resumes with it. `gains`: factors on what
    the branches add to a native picture; None: they add to the bilinear image, as published.
    """

    every_branch = tuple(BRANCHES)

    # A checkpoint of the authors' first stage, whose LIA has the branch f alone; see srcli.weights.official_fplia for whole ones.
    UPSTREAM_KEYS = (
        (r"^fid_encoder\.", "encoder."),
        (r"^lia\.pb_encoder\.", "decoder.position."),
        (r"^lia\.imnet_de\.", "decoder.mlp."),
        (r"^lia\.feat_norm\.", "decoder.norm."),
        (r"^lia\.fid_conv_proj\.", "decoder.streams.fid."),
        (r"^lia\.fid_conv_([qkv])\.", r"decoder.convs.f_\1."),
        (r"^lia\.fid_proj\.", "decoder.features.f."),
    )

    def __init__(
        self,
        *,
        in_dim: int,
        perc_dim: int = 0,  # how many of the features are the perceptual stream, at their end
        branches: tuple[str, ...] = ("f", "p", "pf", "fp"),  # any of f, p, pf, fp; one alone needs no choice
        dim: int = 256,
        n_heads: int = 8,
        radius: int = 3,  # LR pixels of a window on each side of its middle, 1 to 12
        hidden: tuple[int, ...] = (256, 256, 256, 256),
        variant: Literal["code", "paper"] = "code",  # see above
    ) -> None:
        super().__init__()
        self.branches = tuple(name for name in BRANCHES if name in branches)
        if set(branches) != set(self.branches) or not branches:
            raise ValueError(
                f"branches must be some of {', '.join(BRANCHES)}, got {', '.join(branches) or 'none'}"
            )
        if radius not in range(1, 13) or n_heads < 1 or dim % n_heads or not hidden:
            raise ValueError(f"cannot make {n_heads} heads of {dim} channels, radius {radius}")
        count = len(self.branches)
        self.widths = {"fid": in_dim - perc_dim, "perc": perc_dim}
        used = dict.fromkeys(stream for name in self.branches for stream in BRANCHES[name])
        missing = [stream for stream in used if self.widths[stream] < 1]
        if missing:
            raise ValueError(f"branches {', '.join(self.branches)} need features for '{missing[0]}'")
        self.dim, self.reach, self.n_heads, self.variant = dim, radius, n_heads, variant
        self.halo = radius + 2
        self.area = (2 * radius + 1) ** 2
        self.streams = nn.ModuleDict({name: nn.Conv2d(self.widths[name], dim, 3, padding=1) for name in used})
        width = self.area * dim + 2
        roles = "qkvc" if self.selects else "qkv"
        keys = dict.fromkeys(self.key(name, role) for name in self.branches for role in roles)
        self.convs = nn.ModuleDict({key: nn.Conv2d(dim, dim, 3, padding=1) for key in keys})
        self.position = PositionBias(n_heads)
        self.features = nn.ModuleDict({name: nn.Linear(width, dim) for name in self.branches})
        if self.selects:
            votes = dim if variant == "code" else count  # in the paper their sum is the scores
            self.confidence = nn.ModuleDict({name: nn.Linear(width, votes) for name in self.branches})
            if variant == "code":
                joined = count * dim
                self.vote = nn.Sequential(nn.LayerNorm(joined), nn.SiLU(), nn.Linear(joined, count))
            self.temperature: Tensor
            self.register_buffer("temperature", torch.ones(()))
        self.norm = nn.LayerNorm(dim)
        self.mlp = MLP(dim, hidden, 3, activation=nn.ReLU if variant == "code" else nn.GELU)
        self.gains: nn.Parameter | None = None

    def key(self, name: str, role: str) -> str:
        """Which convolution gives a branch its queries (q), keys (k), values (v) or confidence (c)."""
        stream = BRANCHES[name][0 if role == "q" else 1]
        return f"{name if self.variant == 'code' else stream}_{role}"

    @property
    def selects(self) -> bool:
        return len(self.branches) > 1

    def branch(self, name: str) -> Decoder:
        return OneBranch(self, name)

    def needs_latent(self, name: str) -> bool:
        return "perc" in BRANCHES[name]

    def render_scored(self, prepared: LIAField, grid: Grid) -> tuple[Tensor, Tensor]:
        colours, scores = self.render_chosen(prepared, grid)
        assert scores is not None
        return colours, scores

    def stand_on_native(self) -> None:
        """Add to the native picture behind the features instead of the bilinear image; branch f begins as the picture."""
        self.gains = nn.Parameter(torch.tensor([float(name != "f") for name in self.branches]))
        self.halo = max(self.halo, HALO)

    def prepare(self, feat: Tensor, lr: Tensor, frame: Frame) -> LIAField:
        fid, perc = self.widths["fid"], self.widths["perc"]
        parts = {"fid": feat[:, :fid], "perc": feat[:, fid : fid + perc]}
        streams = {name: conv(_conv(self.streams, name), parts[name]) for name in self.streams}
        native = None if self.gains is None else NativePicture.of(feat[:, fid + perc :], frame)
        return LIAField(streams, lr, frame, native)

    def query(self, prepared: LIAField, coord: Tensor) -> Tensor:
        return self.answers(prepared, coord, (SELECTED,))[SELECTED]

    def answers(self, prepared: LIAField, coord: Tensor, names: Sequence[str]) -> dict[str, Tensor]:
        """Colours (B, Q, 3) float32 of some branches, and of "selected", at coord (B, Q, 2).

        In training the selection is drawn with Gumbel noise from torch's global generator, at `temperature`, and
        gradients pass to all branches; in evaluation it is the branch with the highest score.
        """
        wanted = tuple(name for name in self.branches if name in names or SELECTED in names)
        for name in names:
            self.check(name)
        votes = self.selects and SELECTED in names
        look = self.look(prepared, wanted, votes=votes)
        noise = None
        if self.training and votes:
            shape = (*coord.shape[:2], *self.score_shape)
            noise = -torch.empty(shape, device=coord.device).exponential_().log()

        def answer(part: Tensor, drawn: Tensor | None) -> tuple[Tensor, ...]:
            features, scores = look(part)
            features = [self.with_gain(each, name) for each, name in zip(features, wanted, strict=True)]
            mixed = dict(zip(wanted, features, strict=True))
            if SELECTED in names:
                mixed[SELECTED] = self.mixed(features, scores, drawn)
            return tuple(self.colours(mixed[name], prepared) for name in names)

        per_query = len(coord) * 3 * len(wanted) * self.area * self.dim * prepared.lr.element_size()
        step = max(1, budget(coord).gathered // per_query)
        again = torch.is_grad_enabled() and coord.shape[1] * per_query > KEPT
        answered = []
        for first in range(0, coord.shape[1], step):
            part = coord[:, first : first + step]
            drawn = None if noise is None else noise[:, first : first + step]
            if again:
                answered.append(
                    checkpoint(answer, part, drawn, use_reentrant=False, preserve_rng_state=False)
                )
            else:
                answered.append(answer(part, drawn))
        skip = prepared.native.at(coord) if prepared.native else bilinear_at(prepared.lr, coord)
        columns = zip(*answered, strict=True)
        return {name: torch.cat(parts, dim=1) + skip for name, parts in zip(names, columns, strict=True)}

    def look(self, prepared: LIAField, names: Sequence[str], *, votes: bool) -> Look:
        """The function from coordinates (B, Q, 2) to features (B, Q, dim) of some branches, and their scores, if any."""
        frame, order = prepared.frame, self.keys(names, "qkvc" if votes else "qkv")
        window = frame.box.grow(self.reach)
        rows: dict[str, tuple[Tensor, Tensor]] = {}
        asked = {stream: [key for key in keys if key.endswith("q")] for stream, keys in order.items()}
        for stream, keys in order.items():
            layers = [self.convolution(key) for key in keys]
            maps = window_maps(prepared.streams[stream], frame.box, window, layers).flatten(0, 2).flatten(1)
            cut = len(asked[stream]) * self.dim
            rows[stream] = maps[:, :cut], maps[:, cut:]

        def look(coord: Tensor) -> tuple[list[Tensor], Tensor | None]:
            near = Scattered.around(sample_nearest(coord, frame.size), coord, frame.size, window, self.reach)
            seen: dict[str, Tensor] = {}
            for stream, keys in order.items():
                ask, others = asked[stream], keys[len(asked[stream]) :]
                queries, values = rows[stream]
                if ask:
                    seen.update(zip(ask, near.bilinear(queries).split(self.dim, dim=-1), strict=True))
                if others:
                    windows = F.embedding(near.pixels, values).split(self.dim, dim=-1)
                    seen.update(zip(others, windows, strict=True))
            bias = near.bias(self.position)
            features, confidence = [], []
            for name in names:
                q, k, v = (seen[self.key(name, role)] for role in "qkv")
                # Repeated for each channel of a head: a product that broadcasts takes four times as long here.
                weights = near.weigh(q, k, bias).to(v.dtype).repeat_interleave(self.dim // self.n_heads, -1)
                features.append(self._joined(v * weights, self.features[name], frame))
                if votes:
                    trust = seen[self.key(name, "c")]
                    confidence.append(self._joined(trust * weights, self.confidence[name], frame))
            return features, self.scores(confidence) if votes else None

        return look

    def _joined(self, weighted: Tensor, layer: nn.Module, frame: Frame) -> Tensor:
        """A branch's linear layer at the weighted values (B, Q, area, dim): (B, Q, out)."""
        assert isinstance(layer, nn.Linear)
        out = F.linear(weighted.flatten(2), layer.weight[:, :-2].to(weighted.dtype))
        return out + self.constant(layer, frame)[:, None].to(out.dtype)

    def render(self, prepared: LIAField, grid: Grid) -> Tensor:
        return self.render_chosen(prepared, grid).colours

    def render_chosen(self, prepared: LIAField, grid: Grid, name: str = SELECTED) -> Rendered:
        """A rectangle of HR pixels: the answers of what is selected, or of one branch, and the votes if selected.

        The fast form of `query`: values pass the linear layers once per LR pixel and offset in the window.
        """
        self.check(name)
        images = [rendered(self, _one(prepared, i), grid, name) for i in range(len(prepared.lr))]
        colours = torch.stack([each for each, _ in images]).permute(0, 3, 1, 2)
        scores = [each.permute(2, 0, 1) for _, each in images if each is not None]
        skip = prepared.native.grid(grid) if prepared.native else bilinear_grid(prepared.lr, grid)
        return Rendered(colours + skip, torch.stack(scores) if scores else None)

    def check(self, name: str) -> None:
        """Raise ValueError unless `name` is a branch or `SELECTED`."""
        if name != SELECTED and name not in self.branches:
            raise ValueError(f"no branch '{name}': there are {', '.join(self.branches)}, and '{SELECTED}'")

    @property
    def score_shape(self) -> tuple[int, ...]:
        return (len(self.branches),)

    def scores(self, votes: Sequence[Tensor]) -> Tensor:
        """Scores (.., n) float32 from the branches' votes (.., width)."""
        if self.variant == "paper":
            return torch.stack([vote.float() for vote in votes]).sum(0)
        norm, _, last = self.vote
        assert isinstance(norm, nn.LayerNorm)
        assert isinstance(last, nn.Linear)
        joined = torch.cat([vote.float() for vote in votes], dim=-1)
        joined = F.layer_norm(joined, norm.normalized_shape, norm.weight, norm.bias, norm.eps)
        return last_linear(last, F.silu(joined))

    def mixed(self, features: Sequence[Tensor], scores: Tensor | None, noise: Tensor | None) -> Tensor:
        """What is selected of all branches' features (.., dim); with noise as in training."""
        if scores is None:
            return features[0]
        share = self.share(scores, noise, -1).to(features[0].dtype)
        return torch.stack(
            [f * s.unsqueeze(-1) for f, s in zip(features, share.unbind(-1), strict=True)]
        ).sum(0)

    def share(self, scores: Tensor, noise: Tensor | None, dim: int) -> Tensor:
        """Shares of the branches along `dim` of their scores: one of them has all, or in training as drawn."""
        if noise is None:
            return F.one_hot(scores.argmax(dim), scores.shape[dim]).movedim(-1, dim)
        soft = ((scores + noise) / self.temperature).softmax(dim)
        if self.variant == "paper":
            return soft
        hard = torch.zeros_like(soft).scatter_(dim, soft.argmax(dim, keepdim=True), 1.0)
        return hard + (soft - soft.detach())

    def with_gain(self, features: Tensor, name: str) -> Tensor:
        """Features (.., dim) of a branch with its factor behind them, where it has one, so that both are chosen together."""
        if self.gains is None:
            return features
        gain = self.gains[self.branches.index(name)].to(features.dtype)
        return torch.cat([features, gain.expand(*features.shape[:-1], 1)], dim=-1)

    def colours(self, features: Tensor, prepared: LIAField) -> Tensor:
        """Features (.., dim), see `with_gain`, through the norm and the MLP: (.., 3) float32, without the skip."""
        norm, gain = self.norm, features[..., self.dim :].float()
        features = features[..., : self.dim]
        hidden = F.layer_norm(features.float(), norm.normalized_shape, norm.weight, norm.bias, norm.eps)
        hidden = hidden.to(next(iter(prepared.streams.values())).dtype)
        *inner, last = self.mlp.linears
        for layer in inner:
            hidden = linear(layer, hidden)
            hidden = F.relu(hidden) if self.variant == "code" else F.gelu(hidden)
        colours = last_linear(last, hidden)
        return colours if self.gains is None else colours * gain

    def keys(self, names: Sequence[str], roles: str) -> dict[str, list[str]]:
        """The convolutions of each stream that some branches need, those of queries first."""
        keys: dict[str, dict[str, None]] = {stream: {} for stream in self.streams}
        for role in roles:
            for name in names:
                keys[BRANCHES[name][0 if role == "q" else 1]][self.key(name, role)] = None
        return {stream: list(each) for stream, each in keys.items() if each}

    def convolution(self, key: str) -> nn.Conv2d:
        return _conv(self.convs, key)

    def constant(self, layer: nn.Linear, frame: Frame) -> Tensor:
        """What a branch's linear layer adds for its bias and the cell: (B or 1, out) float32."""
        with torch.autocast(frame.cell.device.type, enabled=False):
            return F.linear(frame.rel_cell, layer.weight[:, -2:].float(), layer.bias.float())


class OneBranch(Decoder):
    """A decoder that gives one branch's answer and shares the weights of the one with all branches."""

    def __init__(self, lia: LIA, name: str) -> None:
        super().__init__()
        lia.check(name)
        self.lia, self.name, self.halo = lia, name, lia.halo

    def prepare(self, feat: Tensor, lr: Tensor, frame: Frame) -> LIAField:
        return self.lia.prepare(feat, lr, frame)

    def query(self, prepared: LIAField, coord: Tensor) -> Tensor:
        return self.lia.answers(prepared, coord, (self.name,))[self.name]

    def render(self, prepared: LIAField, grid: Grid) -> Tensor:
        return self.lia.render_chosen(prepared, grid, self.name).colours


def _conv(layers: nn.ModuleDict, key: str) -> nn.Conv2d:
    layer = layers[key]
    assert isinstance(layer, nn.Conv2d)
    return layer


def _one(prepared: LIAField, number: int) -> LIAField:
    streams, lr, frame, _ = prepared
    cell = frame.cell[number : number + 1] if len(frame.cell) > 1 else frame.cell
    one = slice(number, number + 1)
    return LIAField({name: each[one] for name, each in streams.items()}, lr[one], replace(frame, cell=cell))
