"""Which scales a training step sees.

    uniform 1:4             every step draws from 1 to 4
    alternate 1:4|4:12      steps take the groups in turn
    cumulative 1:4|4:12     groups join one after the other, and those that have joined take turns

The last is the strategy of Chen et al. (CLIT, CVPR 2023), for any network. A group of several factors, `1:4x1:2`, is
a cascade in training: every factor is drawn, a branch answers for each, and their product is the scale.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import accumulate, pairwise
from operator import mul

from srcli.data.samples import WHOLE_STEP, Range, batch_rng
from srcli.errors import UsageError, suggest
from srcli.geometry import Size

Group = tuple[Range, ...]  # one factor for each branch
KINDS = ("uniform", "alternate", "cumulative")
FACTORS = WHOLE_STEP - 1  # the number of the random numbers that factors are drawn with
DEFAULTS = {"uniform": "1:4", "alternate": "1:4|4:12", "cumulative": "1:4|4:12"}


@dataclass(frozen=True)
class StepScales:
    """Scales of one step: the range that samples draw from, and the sizes that a cascade's stages reach."""

    scales: Range
    stages: tuple[Size, ...] | None = None


@dataclass(frozen=True)
class ScaleSchedule:
    """What `parse` read."""

    kind: str  # uniform, alternate or cumulative
    groups: tuple[Group, ...]  # ranges of scales; one for `uniform`
    # for `cumulative`, the share of all steps at which each group joins; the first is 0
    joins: tuple[float, ...]

    @staticmethod
    def parse(text: str, joins: tuple[float, ...] = ()) -> ScaleSchedule:
        """The schedule that `text` describes, see the module; `1:4` alone is uniform, joins are equal by default.

        Raises UsageError (an unknown kind, a range that is no range, or shares that do not rise from 0).
        """
        words = text.split()
        if len(words) == 1 and words[0][0].isdigit():
            words = ["uniform", *words]
        if not words or words[0] not in KINDS or len(words) > 2:
            known = words[0] if words else ""
            raise UsageError(
                f"'{text}' is no schedule of scales.",
                hint=f"{suggest(known, KINDS)} Such as: alternate 1:4|4:12",
            )
        kind, *rest = words
        groups = tuple(
            tuple(_range(part, text) for part in group.split("x"))
            for group in (rest[0] if rest else DEFAULTS[kind]).split("|")
        )
        if (kind == "uniform") != (len(groups) == 1):
            raise UsageError(f"'{text}': uniform has one group of scales, {KINDS[1]} and {KINDS[2]} several.")
        shares = joins or tuple(i / len(groups) for i in range(len(groups)))
        rising = all(a < b for a, b in pairwise(shares))
        if len(shares) != len(groups) or shares[0] != 0 or not rising or shares[-1] >= 1:
            raise UsageError(
                f"{list(shares)} are no shares at which {len(groups)} groups of scales join.",
                hint="They rise from 0 and stay below 1.",
            )
        return ScaleSchedule(kind, groups, shares)

    @property
    def branches(self) -> int:
        return max(map(len, self.groups))

    @property
    def highest(self) -> float:
        """The largest scale that can be drawn."""
        return max(math.prod(high for _, high in group) for group in self.groups)

    def group(self, step: int, steps: int) -> Group:
        """The group of step `step` of `steps`."""
        if self.kind != "cumulative":
            return self.groups[step % len(self.groups)]
        joined = sum(share * steps <= step for share in self.joins)
        newest, *others = self.groups[joined - 1], *self.groups[: joined - 1]
        return [newest, *others][step % joined]

    def at(self, step: int, steps: int, *, seed: int, patch: int, largest: float = math.inf) -> StepScales:
        """What step `step` of `steps` sees.

        `patch`, of the LR patch, decides the sizes of a cascade's stages, whose first factor gives way to the photos'
        `largest`.
        """
        group = self.group(step, steps)
        if len(group) == 1:
            return StepScales(group[0])
        rng = batch_rng(seed, step, FACTORS)
        return _cascade([float(rng.uniform(low, high)) for low, high in group], patch, largest)

    def heaviest(self, *, patch: int, largest: float = math.inf) -> StepScales:
        """What the step sees that asks most of a network: the longest cascade at its largest factors; see `at`."""
        factors = max(
            ([high for _, high in group] for group in self.groups), key=lambda f: (len(f), math.prod(f))
        )
        return _cascade(factors, patch, largest) if len(factors) > 1 else StepScales((factors[0], factors[0]))

    def __str__(self) -> str:
        groups = ("x".join(f"{low:g}:{high:g}" for low, high in group) for group in self.groups)
        return f"{self.kind} {'|'.join(groups)}"


def _cascade(factors: list[float], patch: int, largest: float) -> StepScales:
    """A cascade of these factors, of which the first gives way to the largest scale that the photos allow."""
    rest = math.prod(factors[1:])
    if factors[0] * rest > largest:
        factors = [max(1.0, largest / rest), *factors[1:]]
    *stages, scale = accumulate(factors, mul)
    return StepScales((scale, scale), tuple(Size(round(patch * s), round(patch * s)) for s in stages))


def _range(text: str, where: str) -> Range:
    try:
        low, high = (float(word) for word in text.split(":"))
    except ValueError:
        raise UsageError(f"'{where}': '{text}' is no range of scales.", hint="Such as: 1:4") from None
    if not 1 <= low <= high < math.inf:
        raise UsageError(
            f"'{where}': scales begin at 1 and rise, got {text}.",
            hint=f"Did you mean {high:g}:{low:g}?" if 1 <= high < low else "Such as: 1:4",
        )
    return low, high
