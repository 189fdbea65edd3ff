"""Which branch of a decoder answered where: counts, a map in colours, and shares by what the picture shows there.

FPLIA's decoder has four branches and takes at every pixel the answer of the one with the highest score. The authors
report the shares over DIV2K's validation set (FPLIA, arXiv 2606.21910, Table 2) without saying whether pictures or
pixels weigh the same there; both are given here.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from srcli.config.presets import Preset, unsuitable
from srcli.engine.request import Source
from srcli.engine.temperature_map import contrasts
from srcli.errors import UsageError, suggest
from srcli.geometry import Size, nearest

U8 = NDArray[np.uint8]

# Of Okabe and Ito, who see to it that all eyes tell them apart.
PALETTE = {"f": "#0072B2", "p": "#D55E00", "pf": "#CC79A7", "fp": "#009E73"}
ABOUT = {
    "f": "fidelity",
    "p": "perception",
    "pf": "perception asks fidelity",
    "fp": "fidelity asks perception",
}
KINDS = ("flat", "edge", "texture")
FLAT = 0.02  # contrast per LR pixel below which an area is flat
DIRECTED = 0.35  # weaker over stronger contrast, below which it is an edge and not texture
OVERLAY = 0.5  # share of the map in the picture that lies over the result

PUBLISHED: dict[float, dict[str, float]] = {  # FPLIA, Table 2, percent by scale
    2: {"f": 47.35, "p": 28.92, "pf": 1.21, "fp": 22.52},
    4: {"f": 37.34, "p": 19.09, "pf": 2.42, "fp": 41.15},
    6: {"f": 34.02, "p": 16.96, "pf": 2.91, "fp": 46.11},
    8: {"f": 32.27, "p": 16.97, "pf": 3.29, "fp": 47.48},
    12: {"f": 32.60, "p": 17.05, "pf": 3.64, "fp": 46.71},
    16: {"f": 33.49, "p": 17.53, "pf": 3.87, "fp": 45.11},
}


class Selection:
    """The choices of one picture, gathered from top to bottom. `branches`: their names, in the order of the scores."""

    def __init__(self, size: Size, branches: Sequence[str], *, keep_scores: bool = False) -> None:
        self.size = size
        self.branches = tuple(branches)
        self.index: U8 = np.zeros(size, np.uint8)
        self.scores: NDArray[np.float32] | None = None
        if keep_scores:
            self.scores = np.zeros((len(branches), *size), np.float32)

    def add(self, top: int, scores: NDArray[np.float32]) -> None:
        """Scores (n, rows, W) from row `top` on."""
        bottom = top + scores.shape[1]
        self.index[top:bottom] = scores.argmax(axis=0)
        if self.scores is not None:
            self.scores[:, top:bottom] = scores

    def counts(self) -> dict[str, int]:
        counted = np.bincount(self.index.ravel(), minlength=len(self.branches))
        return dict(zip(self.branches, counted.tolist(), strict=True))

    def shares(self) -> dict[str, float]:
        return shares(self.counts())

    def counts_by_kind(self, lr: Source) -> dict[str, dict[str, int]]:
        """Pixels of each branch on flat areas, edges and texture of the LR picture; see `kinds`."""
        kind = kinds(lr)
        rows, columns = (nearest(*axis).index for axis in zip(lr.size, self.size, strict=True))
        joint = np.zeros(len(KINDS) * len(self.branches), np.int64)
        for top in range(0, self.size.h, 256):
            band = kind[rows[top : top + 256]][:, columns].astype(np.int64)
            both = band * len(self.branches) + self.index[top : top + 256]
            joint += np.bincount(both.ravel(), minlength=len(joint))
        table = joint.reshape(len(KINDS), -1).tolist()
        return {k: dict(zip(self.branches, each, strict=True)) for k, each in zip(KINDS, table, strict=True)}

    def palette(self) -> U8:
        return np.array([[*bytes.fromhex(PALETTE[name][1:])] for name in self.branches], np.uint8)

    def over(self, result: U8) -> U8:
        """The colours of the branches, half transparent over a result (H, W, 3)."""
        colours = self.palette().astype(np.float32)[self.index]
        return np.rint(result * (1 - OVERLAY) + colours * OVERLAY).astype(np.uint8)

    def legend(self) -> str:
        return ", ".join(f"{name} {PALETTE[name]} ({ABOUT[name]})" for name in self.branches)


def shares(counts: Mapping[str, float]) -> dict[str, float]:
    """Percentages; zeros where nothing was counted."""
    total = sum(counts.values())
    return {name: 100 * count / total if total else 0.0 for name, count in counts.items()}


def in_words(percent: Mapping[str, float]) -> str:
    """Percentages in a line: ``f 47.4 %, p 28.9 %``."""
    return ", ".join(f"{name} {value:.1f} %" for name, value in percent.items())


def kinds(lr: Source) -> U8:
    """What pixels of an LR picture belong to, into `KINDS`: flat, or contrast high in one direction (edge) or both."""
    stronger, weaker = contrasts(lr, 0, lr.size[0])
    kind = np.where(weaker < DIRECTED * stronger, 1, 2)
    return np.where(stronger < FLAT, 0, kind).astype(np.uint8)


@dataclass(frozen=True)
class Choices:
    """What was chosen on one picture of an evaluation."""

    model: str  # its name
    benchmark: str  # of the picture
    scale: float  # of the output
    counts: dict[str, dict[str, int]]  # pixels by kind of content and branch


def summary(choices: Sequence[Choices]) -> list[dict[str, object]]:
    """Shares in percent by model, benchmark and scale: by pixels, by pictures, by kind, and the published ones.

    Each entry has `model`, `benchmark`, `scale`, `pictures`, `of` (pixels, pictures, flat, edge, texture or
    published), and one number for each branch; for kinds also `part`, their percentage of all pixels.
    """
    groups: dict[tuple[str, str, float], list[Choices]] = {}
    for each in choices:
        groups.setdefault((each.model, each.benchmark, each.scale), []).append(each)
    lines: list[dict[str, object]] = []
    for (model, benchmark, scale), group in groups.items():
        about = {"model": model, "benchmark": benchmark, "scale": scale, "pictures": len(group)}
        by_kind = {kind: _sum([each.counts[kind] for each in group]) for kind in KINDS}
        alone = [shares(_sum(list(each.counts.values()))) for each in group]
        mean = {name: value / len(group) for name, value in _sum(alone).items()}
        total = _sum(list(by_kind.values()))
        lines.append({**about, "of": "pixels", **shares(total)})
        lines.append({**about, "of": "pictures", **mean})
        everything = sum(total.values())
        for kind, counted in by_kind.items():
            part = 100 * sum(counted.values()) / everything if everything else 0.0
            lines.append({**about, "of": kind, "part": part, **shares(counted)})
        if scale in PUBLISHED:
            lines.append({**about, "of": "published", **PUBLISHED[scale]})
    return lines


def _sum(tables: Sequence[Mapping[str, float]]) -> dict[str, float]:
    return {name: sum(table[name] for table in tables) for name in tables[0]}


# --- options ------------------------------------------------------------------------------------------------------


def parse_branch(preset: Preset, branch: str | None) -> str | None:
    """The branch of a decoder that has several; None: all, chosen pixel by pixel. UsageError for others."""
    if branch is None:
        return None
    known = _branches(preset, "--branch")
    if branch not in (*known, "selected"):
        raise UsageError(f"unknown branch '{branch}'.", hint=suggest(branch, [*known, "selected"]))
    return None if branch == "selected" else branch


def check_selects(preset: Preset, option: str) -> None:
    """Raise UsageError for an option about the choice of branches where there is nothing to choose."""
    if len(_branches(preset, option)) < 2:
        raise UsageError(f"{option}: '{preset.name}' chooses no branch for each pixel.")


def _branches(preset: Preset, option: str) -> tuple[str, ...]:
    from srcli.weights.build import branches_of  # brings torch

    if not (found := branches_of(preset)):
        problem = f"{option}: the decoder of '{preset.name}' has no branches."
        raise unsuitable(
            problem, lambda known: bool(branches_of(known)), "with some", "No preset here has some."
        )
    return found
