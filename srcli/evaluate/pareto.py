"""Fidelity against perception: which models nothing else beats in both, from the rows that `eval` writes.

A panel holds the points of one benchmark at one scale with one kind of LR; fronts never reach across panels. All
functions are pure; `pareto_plot` draws what they find.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from srcli.errors import UsageError, suggest
from srcli.evaluate.rows import GIVEN, Row, group_key, means
from srcli.evaluate.statistics import bootstrap, label, per_image
from srcli.metrics import METRICS, check_niqe

Cost = Literal["seconds", "params", "memory", "flops"]

LOWER = frozenset({"seconds", "params", "memory", "flops"})  # is better, of columns that are no metrics
OF_A_ROW = frozenset({"seconds", "params", "memory"})
# What the axes are by default, the usual one first.
FIDELITY = ("psnr", "psnr-y", "ssim", "lr-psnr")
PERCEPTION = (
    "lpips", "lpips-vgg", "dists", "niqe", "niqe-srcli", "spectrum", "ssim", "lr-psnr", "psnr-y", "psnr",
)  # fmt: skip
SAME = 1e-6  # two measurements of one picture that differ by less are one


@dataclass(frozen=True)
class Axis:
    """What is drawn along one side.

    Attributes:
        name: of the metric or cost.
        higher_is_better: its direction.
        unit: "" for none.
    """

    name: str
    higher_is_better: bool
    unit: str = ""

    def gain(self, value: float) -> float:
        """The value, turned so that higher is better."""
        return value if self.higher_is_better else -value

    @property
    def title(self) -> str:
        """Name, unit and direction."""
        unit = f" ({self.unit})" if self.unit else ""
        return f"{self.name}{unit} {'↑' if self.higher_is_better else '↓'}"


@dataclass(frozen=True)
class Point:
    """One model at one setting: means over the pictures of a set.

    Attributes:
        label: unique within its panel.
        model: without its setting; points of one model may form a curve.
        family: regression, flow, diffusion, real-world, interpolation, or another word.
        x: value on the first axis.
        y: value on the second.
        protocol: that both were measured by; "" for published figures.
        cost: size of the marker, None where unknown.
        temperature: of the noise.
        steps: of the sampler.
        images: number of pictures.
        x_interval: 95 % bootstrap interval of x, None for too few pictures.
        y_interval: the same of y.
        source: the table it was published in; None for one that was measured.
    """

    label: str
    model: str
    family: str
    x: float
    y: float
    protocol: str = ""
    cost: float | None = None
    temperature: float | None = None
    steps: int | None = None
    images: int = 0
    x_interval: tuple[float, float] | None = None
    y_interval: tuple[float, float] | None = None
    source: str | None = None


@dataclass(frozen=True)
class Panel:
    """The points of one benchmark at one scale.

    Attributes:
        benchmark: the set.
        scale: the scale.
        lr: "given" or how it was made.
        x: the first axis.
        y: the second.
        points: those that were measured; only they form the front.
        published: those from papers.
        notes: what a reader has to know.
        cost: what the size of a marker says.
        usual: the protocol of a panel without measured points.
    """

    benchmark: str
    scale: float
    lr: str
    x: Axis
    y: Axis
    points: list[Point]
    published: list[Point] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    cost: Cost | None = None
    usual: str = ""

    @property
    def title(self) -> str:
        """Benchmark and scale, and how LR was made if it was."""
        return f"{self.benchmark} x{self.scale:g}" + ("" if self.lr == GIVEN else f", LR {self.lr}")

    @property
    def protocols(self) -> list[str]:
        """By which the points were measured, in order of appearance."""
        return list(dict.fromkeys(point.protocol for point in self.points)) or [self.usual]

    def gains(self) -> list[tuple[float, float]]:
        """Both values of each point, turned so that higher is better."""
        return [(self.x.gain(p.x), self.y.gain(p.y)) for p in self.points]

    @property
    def front(self) -> list[Point]:
        """Points that no other dominates, along the first axis."""
        kept = front(self.gains())
        return sorted((self.points[i] for i in kept), key=lambda p: (p.x, p.y))

    @property
    def dominated(self) -> dict[str, list[str]]:
        """Labels of points that others dominate, with the labels of those others, the ones of the front first."""
        gains = self.gains()
        best = front(gains)
        order = sorted(range(len(gains)), key=lambda i: i not in best)
        found = {}
        for point, own in zip(self.points, gains, strict=True):
            by = [self.points[i].label for i in order if dominates(gains[i], own)]
            if by:
                found[point.label] = by
        return found

    @property
    def worst(self) -> tuple[float, float]:
        """The worst value on each axis among the points: where the hypervolume is measured from by default."""
        gains = self.gains()
        return (
            self.x.gain(min(gain for gain, _ in gains)),
            self.y.gain(min(gain for _, gain in gains)),
        )

    def hypervolume(self, origin: tuple[float, float] | None = None) -> float:
        """The area between the front and `origin`, by default the worst values."""
        x, y = self.worst if origin is None else origin
        return hypervolume(self.gains(), (self.x.gain(x), self.y.gain(y)))


# --- the front ----------------------------------------------------------------------------------------------------


def dominates(a: tuple[float, float], b: tuple[float, float]) -> bool:
    """Whether `a` is nowhere worse than `b` and somewhere better; higher is better in both."""
    return a[0] >= b[0] and a[1] >= b[1] and a != b


def front(gains: Sequence[tuple[float, float]]) -> set[int]:
    """Indices of the points that no other dominates; higher is better in both values. Equal points stay together."""
    kept: set[int] = set()
    last: tuple[float, float] | None = None
    best = -math.inf
    for i in sorted(range(len(gains)), key=lambda i: gains[i], reverse=True):  # by x, then by y
        if gains[i][1] > best or gains[i] == last:
            kept.add(i)
            best, last = gains[i][1], gains[i]
    return kept


def hypervolume(gains: Sequence[tuple[float, float]], origin: tuple[float, float]) -> float:
    """Area that the points dominate and that dominates `origin` (Zitzler and Thiele, 1998); higher is better."""
    area = 0.0
    height = origin[1]
    for x, y in sorted((gains[i] for i in front(gains)), reverse=True):
        if x > origin[0] and y > height:
            area += (x - origin[0]) * (y - height)
            height = y
    return area


def curves(points: Iterable[Point]) -> list[list[Point]]:
    """Points of one model that differ in a single setting, along it: a trade-off that one can dial.

    With several temperatures and several steps there is a curve over temperature for each number of steps, and the
    other way round.
    """
    found: dict[tuple[object, ...], list[Point]] = {}
    for p in points:
        same = (p.model, p.protocol, p.source)
        if p.temperature is not None:
            found.setdefault((*same, "temperature", p.steps), []).append(p)
        if p.steps is not None:
            found.setdefault((*same, "steps", p.temperature), []).append(p)
    lines = []
    for key, group in found.items():
        if len(group) > 1:
            setting = str(key[3])
            lines.append(sorted(group, key=lambda p: getattr(p, setting)))
    return lines


# --- from rows to panels ------------------------------------------------------------------------------------------


def axis(word: str) -> Axis:
    """The axis called so; ``name:higher`` or ``name:lower`` says which way is better for an unknown column.

    Raises:
        UsageError: a name whose direction is unknown.
    """
    name, colon, way = word.strip().lower().partition(":")
    name = name.replace("_", "-")
    if colon:
        if way not in ("higher", "lower"):
            raise UsageError(f"'{word}': after the colon stands higher or lower, whichever is better.")
        return Axis(name, way == "higher", METRICS[name].unit if name in METRICS else "")
    if name in METRICS:
        return Axis(name, METRICS[name].higher_is_better, METRICS[name].unit)
    if name in LOWER:
        return Axis(name, higher_is_better=False, unit="s" if name == "seconds" else "")
    raise UsageError(
        f"unknown metric '{word}'.",
        hint=f"{suggest(name, {*METRICS, *LOWER})} For any other, say which way is better: {name}:lower",
    )


def panels(
    rows: Sequence[Row],
    x: Axis,
    y: Axis,
    *,
    cost: Cost | None = None,
    mix_protocols: bool = False,
    intervals: bool = False,
) -> list[Panel]:
    """One panel per benchmark, scale and kind of LR, in order of first appearance.

    Args:
        rows: measurements of single pictures, from any number of files.
        x: the first axis.
        y: the second.
        cost: what the size of a marker says.
        mix_protocols: allow points of unlike protocols in one panel.
        intervals: find the bootstrap intervals of the means.

    Raises:
        UsageError: no row has both values, one is NaN, protocols are mixed, or points share no picture.
    """
    check_niqe((x.name, y.name))
    groups: dict[tuple[str, float, str], list[Row]] = {}
    for row in rows:
        groups.setdefault((row.benchmark, row.scale, row.lr), []).append(row)
    found = []
    for (benchmark, scale, lr), group in groups.items():
        panel = Panel(benchmark, scale, lr, x, y, [], cost=cost)
        panel.points.extend(_points(group, panel, intervals=intervals, mix=mix_protocols))
        if panel.points:
            found.append(panel)
    if not found:
        raise UsageError(f"no row has both {x.name} and {y.name}.", hint=_what_there_is(rows))
    return found


def value_of(row: Row, name: str) -> float | None:
    """A metric or cost of a row, None if it has none."""
    value = getattr(row, name) if name in OF_A_ROW else row.metrics.get(name)
    return None if value is None else float(value)


def _points(rows: Sequence[Row], panel: Panel, *, intervals: bool, mix: bool) -> list[Point]:
    groups: dict[tuple[object, ...], list[Row]] = {}
    for row in _joined(rows, panel.notes):
        groups.setdefault(_key(row), []).append(row)
    names = (panel.x.name, panel.y.name)
    chosen = [group for group in groups.values() if _is_complete(group, names, panel.notes)]
    if not chosen:
        return []
    if not mix:
        _check_protocols(chosen, panel.title)
    chosen = _common_pictures(chosen, panel)
    labels = _labels([group[0] for group in chosen])
    points = [
        _point(text, group, names, panel.cost, intervals=intervals)
        for text, group in zip(labels, chosen, strict=True)
    ]
    drawn = [p for p in points if math.isfinite(p.x) and math.isfinite(p.y)]
    for point in points:
        if point not in drawn:
            panel.notes.append(f"{point.label} is left out: it is infinite ({point.x:g}, {point.y:g})")
    return drawn


def _key(row: Row) -> tuple[object, ...]:
    """What the rows of one point share: a name may stand for other weights in another file."""
    return (*group_key(row), row.weights, row.device, row.precision)


def _joined(rows: Iterable[Row], notes: list[str]) -> list[Row]:
    """Each measurement once: files may repeat each other, or hold different metrics of the same results."""
    found: dict[tuple[object, ...], Row] = {}
    disagree: set[str] = set()
    for row in rows:
        for name, value in row.metrics.items():
            if math.isnan(value):
                where = f"{row.model} on {row.benchmark} {row.image} at x{row.scale:g}"
                raise UsageError(f"{name} of {where} is not a number (NaN).", hint="Measure it again.")
        key = (*_key(row), row.image, row.seed)
        earlier = found.get(key)
        if earlier is not None:
            shared = earlier.metrics.keys() & row.metrics.keys()
            disagree |= {f"{row.model} {n}" for n in shared if not _same(earlier.metrics[n], row.metrics[n])}
            row = replace(row, metrics=earlier.metrics | row.metrics)
        found[key] = row
    notes += [f"{name} has two values for one picture; the later file counts" for name in sorted(disagree)]
    return list(found.values())


def _same(a: float, b: float) -> bool:
    return a == b or abs(a - b) <= SAME


def _is_complete(group: list[Row], names: Sequence[str], notes: list[str]) -> bool:
    missing = [n for n in names if any(value_of(row, n) is None for row in group)]
    if missing:
        notes.append(f"{label(group[0])} is left out: it has no {' and no '.join(missing)}")
    return not missing


def _check_protocols(groups: Iterable[list[Row]], title: str) -> None:
    by_protocol: dict[str, list[str]] = {}
    for group in groups:
        by_protocol.setdefault(group[0].protocol, []).append(label(group[0]))
    if len(by_protocol) > 1:
        shown = "; ".join(f"{name}: {', '.join(models)}" for name, models in by_protocol.items())
        raise UsageError(
            f"{title} was measured by unlike protocols ({shown}).",
            hint="Choose one with --protocol, measure alike, or give --mix-protocols.",
        )


def _common_pictures(groups: list[list[Row]], panel: Panel) -> list[list[Row]]:
    """Means over different pictures say nothing about models: keep the pictures that all points have."""
    sets = [{row.image for row in group} for group in groups]
    common = set.intersection(*sets)
    if not common:
        counts = ", ".join(f"{label(g[0])}: {len(s)}" for g, s in zip(groups, sets, strict=True))
        raise UsageError(
            f"{panel.title}: no picture was measured with every model ({counts}).",
            hint="Measure them on the same pictures.",
        )
    if any(s != common for s in sets):
        panel.notes.append(f"means over the {len(common)} pictures that every model was measured on")
    return [[row for row in group if row.image in common] for group in groups]


def _labels(rows: Sequence[Row]) -> list[str]:
    """Names that differ: with the weights, then the device, then the protocol, where the plain ones do not."""
    names = [label(row) for row in rows]
    extras: tuple[Callable[[Row], str], ...] = (
        lambda r: f"@{r.weights[:8]}" if r.weights else "",
        lambda r: f" {r.device} {r.precision or ''}".rstrip() if r.device else "",
        lambda r: f" ({r.protocol})",
    )
    for extra in extras:
        double = {n for n in names if names.count(n) > 1}
        names = [f"{n}{extra(r)}" if n in double else n for n, r in zip(names, rows, strict=True)]
    return names


def _point(
    text: str, group: list[Row], names: tuple[str, str], cost: Cost | None, *, intervals: bool
) -> Point:
    mean = means(group)[0]
    row = mean.row
    x, y = (value_of(row, name) for name in names)
    assert x is not None  # groups are complete
    assert y is not None
    return Point(
        label=text,
        model=row.model if row.weights is None else f"{row.model}@{row.weights}",
        family=row.family,
        x=x,
        y=y,
        protocol=row.protocol,
        cost=None if cost is None else value_of(row, cost),
        temperature=row.temperature,
        steps=row.steps,
        images=mean.images,
        x_interval=_interval(group, names[0]) if intervals else None,
        y_interval=_interval(group, names[1]) if intervals else None,
    )


def _interval(group: list[Row], name: str) -> tuple[float, float] | None:
    if name in OF_A_ROW:
        return None
    interval = bootstrap(per_image(group, name).values())
    return None if math.isnan(interval.low) else (interval.low, interval.high)


def _what_there_is(rows: Sequence[Row]) -> str:
    there = dict.fromkeys(name for row in rows for name in row.metrics)
    return (
        f"They have {', '.join(there)}: choose two with --x and --y, or measure with 'srcli eval --metrics'."
    )
