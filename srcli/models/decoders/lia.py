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

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from srcli.models.attention import PositionBias, budget
from srcli.models.decoders.lia_ablations import Ensemble, Modulation
from srcli.models.decoders.lia_grid import rendered
from srcli.models.decoders.lia_plain import plain
from srcli.models.decoders.native import HALO, NativePicture
from srcli.models.layers import MLP, bilinear_at, bilinear_grid, conv, last_linear, linear
from srcli.models.sr import Decoder, Frame, Grid, SelectiveDecoder

BRANCHES = {  # name -> stream of the query, stream of keys and values; in the order of the votes
    "f": ("fid", "fid"),
    "p": ("perc", "perc"),
    "pf": ("perc", "fid"),
    "fp": ("fid", "perc"),
}
SELECTED = "selected"
KEPT = 128 << 20  # bytes of windows that training keeps; beyond, they are computed again for the gradient


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

    `in_dim`: channels of the features, both streams.
    `perc_dim`: how many of them, at the end, are the perceptual stream.
    `branches`: any of f, p, pf, fp; one alone needs no choice.
    `radius`: LR pixels of a window on each side of its middle, 1 to 12.
    `variant`: see above.
    `attention`: "fpam", or "liif" for LIIF's four neighbours in its place, which `render` does not speed up.
    `select`: "pixel" chooses one branch for all channels of a pixel, "channel" one for each channel; "concat" and "sft"
    do not choose: a linear layer on all branches, or the first one scaled and shifted by the others.
    `temperature`: of the Gumbel noise in training, where branches vote; a buffer, so that training resumes with it.
    `gains`: factors on what the branches add to a native picture; None: they add to the bilinear image, as published.
    Raises ValueError (no or unknown branches, a branch without its stream, or sizes that do not fit each other).
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
        perc_dim: int = 0,
        branches: tuple[str, ...] = ("f", "p", "pf", "fp"),
        dim: int = 256,
        n_heads: int = 8,
        radius: int = 3,
        hidden: tuple[int, ...] = (256, 256, 256, 256),
        variant: Literal["code", "paper"] = "code",
        attention: Literal["fpam", "liif"] = "fpam",
        select: Literal["pixel", "channel", "concat", "sft"] = "pixel",
    ) -> None:
        super().__init__()
        self.branches = tuple(name for name in BRANCHES if name in branches)
        if set(branches) != set(self.branches) or not branches:
            raise ValueError(
                f"branches must be some of {', '.join(BRANCHES)}, got {', '.join(branches) or 'none'}"
            )
        if radius not in range(1, 13) or n_heads < 1 or dim % n_heads or not hidden:
            raise ValueError(f"cannot make {n_heads} heads of {dim} channels, radius {radius}")
        self.widths = {"fid": in_dim - perc_dim, "perc": perc_dim}
        used = dict.fromkeys(stream for name in self.branches for stream in BRANCHES[name])
        missing = [stream for stream in used if self.widths[stream] < 1]
        if missing:
            raise ValueError(f"branches {', '.join(self.branches)} need features for '{missing[0]}'")
        self.dim, self.reach, self.n_heads = dim, radius, n_heads
        self.variant, self.attention, self.select = variant, attention, select
        self.halo = (radius if attention == "fpam" else 1) + 2
        self.area = (2 * radius + 1) ** 2
        self.streams = nn.ModuleDict({name: nn.Conv2d(self.widths[name], dim, 3, padding=1) for name in used})
        if attention == "fpam":
            self._make_windows()
        else:
            self._make_ensembles()
        count = len(self.branches)
        if self.votes and variant == "code":
            scores = self._score_width
            self.vote = nn.Sequential(nn.LayerNorm(count * dim), nn.SiLU(), nn.Linear(count * dim, scores))
        elif count > 1 and not self.votes:
            self.merge = nn.Linear(count * dim, dim) if select == "concat" else Modulation(count, dim)
        self.norm = nn.LayerNorm(dim)
        self.mlp = MLP(dim, hidden, 3, activation=nn.ReLU if variant == "code" else nn.GELU)
        self.gains: nn.Parameter | None = None
        self.temperature: Tensor
        if self.votes:
            self.register_buffer("temperature", torch.ones(()))

    def _make_windows(self) -> None:
        dim, width = self.dim, self.area * self.dim + 2
        roles = "qkvc" if self.votes else "qkv"
        keys = dict.fromkeys(self.key(name, role) for name in self.branches for role in roles)
        self.convs = nn.ModuleDict({key: nn.Conv2d(dim, dim, 3, padding=1) for key in keys})
        self.position = PositionBias(self.n_heads)
        self.features = nn.ModuleDict({name: nn.Linear(width, dim) for name in self.branches})
        if self.votes:
            votes = self._vote_width
            self.confidence = nn.ModuleDict({name: nn.Linear(width, votes) for name in self.branches})

    def _make_ensembles(self) -> None:
        dims = {name: self.dim * len(set(BRANCHES[name])) for name in self.branches}
        self.features = nn.ModuleDict({name: Ensemble(dims[name], self.dim) for name in self.branches})
        if self.votes:
            votes = self._vote_width
            self.confidence = nn.ModuleDict({name: Ensemble(dims[name], votes) for name in self.branches})

    @property
    def _score_width(self) -> int:
        return len(self.branches) * (self.dim if self.select == "channel" else 1)

    @property
    def _vote_width(self) -> int:
        """Channels of a branch's part in the scores: in the paper their sum is the scores."""
        return self.dim if self.variant == "code" else self._score_width

    def key(self, name: str, role: str) -> str:
        """Which convolution gives a branch its queries (q), keys (k), values (v) or confidence (c)."""
        stream = BRANCHES[name][0 if role == "q" else 1]
        return f"{name if self.variant == 'code' else stream}_{role}"

    @property
    def votes(self) -> bool:
        """Whether branches vote."""
        return len(self.branches) > 1 and self.select in ("pixel", "channel")

    @property
    def selects(self) -> bool:
        return self.votes and self.select == "pixel"

    def branch(self, name: str) -> Decoder:
        return OneBranch(self, name)

    def needs_latent(self, name: str) -> bool:
        return "perc" in BRANCHES[name]

    def render_scored(self, prepared: LIAField, grid: Grid) -> tuple[Tensor, Tensor]:
        colours, scores = self.render_chosen(prepared, grid)
        assert scores is not None
        return colours, scores

    def stand_on_native(self) -> None:
        """Add to the native picture behind the features instead of the bilinear image; branch f begins as the picture.

        Raises ValueError (branches are joined or mixed, so that none has an answer of its own).
        """
        if len(self.branches) > 1 and not self.selects:
            raise ValueError("branches on a native picture are chosen for every pixel")
        self.gains = nn.Parameter(torch.tensor([float(name != "f") for name in self.branches]))
        self.halo = max(self.halo, HALO)

    def prepare(self, feat: Tensor, lr: Tensor, frame: Frame) -> LIAField:
        fid, perc = self.widths["fid"], self.widths["perc"]
        parts = {"fid": feat[:, :fid], "perc": feat[:, fid : fid + perc]}
        streams = {name: conv(_conv(self.streams, name), parts[name]) for name in self.streams}
        native = None if self.gains is None else NativePicture.of(feat[:, fid + perc :], frame)
        return LIAField(streams, lr, frame, native)

    def query(self, prepared: LIAField, coord: Tensor) -> Tensor:
        """The slow, plain form, of which memory is bounded, also in training."""
        return self.answers(prepared, coord, (SELECTED,))[SELECTED]

    def answers(self, prepared: LIAField, coord: Tensor, names: Sequence[str]) -> dict[str, Tensor]:
        """Colours (B, Q, 3) float32 of some branches and of what is selected, at coord (B, Q, 2).

        In training the selection is drawn with Gumbel noise from torch's global generator, at `temperature`, and
        gradients pass to all branches; in evaluation it is the branch with the highest score. `prepared`: see
        `prepare`. `names`: any of the branches, and "selected". Raises ValueError (there is no such branch).
        """
        wanted = (
            self.branches if SELECTED in names else tuple(name for name in self.branches if name in names)
        )
        for name in names:
            self.check(name)
        look = plain(self, prepared, wanted, votes=self.votes and SELECTED in names)
        noise = None
        if self.training and self.votes and SELECTED in names:
            shape = (*coord.shape[:2], len(wanted), *([self.dim] if self.select == "channel" else []))
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

    def render(self, prepared: LIAField, grid: Grid) -> Tensor:
        """Only the selected branch is decoded."""
        return self.render_chosen(prepared, grid).colours

    def render_chosen(self, prepared: LIAField, grid: Grid, name: str = SELECTED) -> Rendered:
        """A rectangle of HR pixels: the answers of what is selected, or of one branch, and the votes.

        The fast form of `query`: values pass the linear layers once per LR pixel and offset in the window. `prepared`:
        see `prepare`. `name`: a branch, whose votes then are not computed, or "selected". Raises ValueError (there is
        no such branch).
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

    def scores(self, votes: Sequence[Tensor]) -> Tensor:
        """Scores (.., n) or (.., n, dim) float32 from the branches' votes (.., width)."""
        if self.variant == "paper":
            scores = torch.stack([vote.float() for vote in votes]).sum(0)
        else:
            norm, _, last = self.vote
            assert isinstance(norm, nn.LayerNorm)
            assert isinstance(last, nn.Linear)
            joined = torch.cat([vote.float() for vote in votes], dim=-1)
            joined = F.layer_norm(joined, norm.normalized_shape, norm.weight, norm.bias, norm.eps)
            scores = last_linear(last, F.silu(joined))
        return scores if self.select == "pixel" else scores.unflatten(-1, (len(self.branches), self.dim))

    def mixed(self, features: Sequence[Tensor], scores: Tensor | None, noise: Tensor | None) -> Tensor:
        """What is selected of all branches' features (.., dim); with noise as in training."""
        if len(features) == 1:
            return features[0]
        if scores is None:
            return self.merge(torch.cat([*features], dim=-1))
        dim = -1 if self.select == "pixel" else -2
        share = F.one_hot(scores.argmax(dim), len(features)).movedim(-1, dim).to(features[0].dtype)
        if noise is not None:
            soft = ((scores + noise) / self.temperature).softmax(dim)
            hard = torch.zeros_like(soft).scatter_(dim, soft.argmax(dim, keepdim=True), 1.0)
            share = soft if self.variant == "paper" else hard + (soft - soft.detach())
        shares = share.to(features[0].dtype).unbind(dim)
        if self.select == "pixel":
            shares = tuple(each.unsqueeze(-1) for each in shares)
        return torch.stack([f * each for f, each in zip(features, shares, strict=True)]).sum(0)

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

    def streams_of(self, name: str) -> tuple[str, ...]:
        """The streams that a branch looks at."""
        return tuple(dict.fromkeys(BRANCHES[name]))

    def convolution(self, key: str) -> nn.Conv2d:
        """The convolution of this key; see `key`."""
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
    """One image of a batch, as a batch of one."""
    streams, lr, frame, _ = prepared
    cell = frame.cell[number : number + 1] if len(frame.cell) > 1 else frame.cell
    one = slice(number, number + 1)
    return LIAField({name: each[one] for name, each in streams.items()}, lr[one], replace(frame, cell=cell))
