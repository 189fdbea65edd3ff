"""Whether a difference means something: bootstrap intervals, the Wilcoxon test, and gains by family."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from srcli.evaluate.rows import Mean, Row, average, group_key
from srcli.metrics import METRICS

RESAMPLES = 10_000
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Interval:
    """A mean over pictures with its 95 % bootstrap interval."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class Comparison:
    """Model `a` against model `b`, picture by picture.

    Attributes:
        benchmark: the set.
        scale: the scale.
        metric: what is compared.
        a: one model (with its temperature, if it has one).
        b: the other.
        difference: mean of a - b, with its paired bootstrap interval.
        p: of the two-sided Wilcoxon signed-rank test; None where all pictures tie or there are fewer than two.
        images: number of pictures that both have.
    """

    benchmark: str
    scale: float
    metric: str
    a: str
    b: str
    difference: Interval
    p: float | None
    images: int


def bootstrap(values: Iterable[float], *, seed: int = 0) -> Interval:
    """The mean with its percentile bootstrap interval, from 10,000 resamplings; repeatable by its seed."""
    found = np.asarray(list(values), np.float64)
    if len(found) == 0:
        return Interval(math.nan, math.nan, math.nan)
    if not np.isfinite(found).all() or len(found) < 2:
        return Interval(average(found.tolist()), math.nan, math.nan)
    rng = np.random.default_rng(seed)
    index = rng.integers(0, len(found), (RESAMPLES, len(found)))
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(found[index].mean(axis=1), (tail, 1 - tail))
    return Interval(average(found.tolist()), float(low), float(high))


def per_image(rows: Iterable[Row], metric: str) -> dict[str, float]:
    """The value of each picture, mean over seeds; none for a metric that only a whole set has."""
    if metric in METRICS and "set" in METRICS[metric].needs:
        return {}
    found: dict[str, list[float]] = {}
    for row in rows:
        if metric in row.metrics:
            found.setdefault(row.image, []).append(row.metrics[metric])
    return {image: average(values) for image, values in found.items()}


def label(row: Row) -> str:
    """A model with what tells its rows apart."""
    extras = [f"t={row.temperature:g}"] if row.temperature is not None else []
    extras += [f"{row.steps} steps"] if row.steps is not None else []
    return " ".join([row.model, *extras])


def compare(rows: Iterable[Row], metric: str) -> list[Comparison]:
    """Every pair of models that was measured on the same pictures by the same protocol."""
    groups: dict[tuple[object, ...], list[Row]] = {}
    for row in rows:
        groups.setdefault(group_key(row), []).append(row)
    found = []
    for (key_a, a), (key_b, b) in itertools.combinations(groups.items(), 2):
        if key_a[:4] == key_b[:4]:  # protocol, benchmark, scale and LR
            comparison = _pair(a, b, metric)
            if comparison is not None:
                found.append(comparison)
    return found


def _pair(a: list[Row], b: list[Row], metric: str) -> Comparison | None:
    left, right = per_image(a, metric), per_image(b, metric)
    images = sorted(left.keys() & right.keys())
    differences = np.array([left[i] - right[i] for i in images])
    if len(differences) == 0 or not np.isfinite(differences).all():
        return None
    row = a[0]
    return Comparison(
        row.benchmark,
        row.scale,
        metric,
        label(row),
        label(b[0]),
        bootstrap(differences.tolist()),
        wilcoxon(differences),
        len(images),
    )


def wilcoxon(differences: NDArray[np.float64]) -> float | None:
    """P of the two-sided signed-rank test; None if fewer than two pictures differ."""
    if np.count_nonzero(differences) < 2:
        return None
    from scipy import stats

    return float(stats.wilcoxon(differences, zero_method="wilcox", method="auto").pvalue)


def gain(mean: Mean, others: Iterable[Mean], family: str, metric: str) -> float | None:
    """How much better a mean is than the best of a family on the same set, in percent; positive is better.

    None where the family was not measured.
    """
    wanted = group_key(mean.row)[:4]
    values = [
        o.row.metrics[metric]
        for o in others
        if o.row.family == family and group_key(o.row)[:4] == wanted and metric in o.row.metrics
    ]
    if not values or metric not in mean.row.metrics:
        return None
    higher = METRICS[metric].higher_is_better
    best = max(values) if higher else min(values)
    if best == 0 or not math.isfinite(best):
        return None
    percent = 100 * (mean.row.metrics[metric] - best) / best
    return percent if higher else -percent
