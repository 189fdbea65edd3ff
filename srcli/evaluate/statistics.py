"""Whether a difference is significant: bootstrap intervals, the Wilcoxon test; and gains by family."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable
from dataclasses import dataclass
from statistics import fmean

import numpy as np
from numpy.typing import NDArray

from srcli.evaluate.rows import Mean, Row, group_key, grouped, set_key
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
    """Model `a` against model `b` (with their temperatures), picture by picture, over the pictures that both have.

    `difference` is the mean of a - b with its paired bootstrap interval; `p` that of the two-sided Wilcoxon
    signed-rank test, None where all pictures tie or there are fewer than two.
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
    """The mean with its percentile bootstrap interval from 10,000 resamples, the same for the same seed."""
    found = np.asarray(list(values), np.float64)
    if len(found) == 0:
        return Interval(math.nan, math.nan, math.nan)
    if not np.isfinite(found).all() or len(found) < 2:  # equal pictures have an infinite PSNR
        return Interval(fmean(found.tolist()), math.nan, math.nan)
    rng = np.random.default_rng(seed)
    index = rng.integers(0, len(found), (RESAMPLES, len(found)))
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(found[index].mean(axis=1), (tail, 1 - tail))
    return Interval(fmean(found.tolist()), float(low), float(high))


def per_image(rows: Iterable[Row], metric: str) -> dict[str, float]:
    """The value of each picture, mean over seeds; none for a metric that only a whole set has."""
    if metric in METRICS and "set" in METRICS[metric].needs:
        return {}
    measured = grouped((row for row in rows if metric in row.metrics), lambda row: row.image)
    return {same[0].image: fmean(row.metrics[metric] for row in same) for same in measured}


def interval_of(rows: Iterable[Row], metric: str) -> Interval | None:
    """The bootstrap interval of the mean over pictures; None for fewer than two, or infinite values."""
    found = bootstrap(per_image(rows, metric).values())
    return None if math.isnan(found.low) else found


def label(row: Row) -> str:
    """The model's name with temperature and steps."""
    extras = [f"t={row.temperature:g}"] if row.temperature is not None else []
    extras += [f"{row.steps} steps"] if row.steps is not None else []
    return " ".join([row.model, *extras])


def compare(rows: Iterable[Row], metric: str) -> list[Comparison]:
    """Every pair of models that was measured on the same pictures by the same protocol."""
    pairs = itertools.combinations(grouped(rows, group_key), 2)
    found = [_pair(a, b, metric) for a, b in pairs if set_key(a[0]) == set_key(b[0])]
    return [comparison for comparison in found if comparison is not None]


def _pair(a: list[Row], b: list[Row], metric: str) -> Comparison | None:
    left, right = per_image(a, metric), per_image(b, metric)
    images = sorted(left.keys() & right.keys())
    differences = np.array([left[i] - right[i] for i in images])
    if len(differences) == 0 or not np.isfinite(differences).all():
        return None
    row, interval = a[0], bootstrap(differences.tolist())
    names = label(row), label(b[0])
    return Comparison(row.benchmark, row.scale, metric, *names, interval, wilcoxon(differences), len(images))


def wilcoxon(differences: NDArray[np.float64]) -> float | None:
    """The p-value of the two-sided signed-rank test; None if fewer than two pictures differ."""
    if np.count_nonzero(differences) < 2:
        return None
    from scipy import stats

    return float(stats.wilcoxon(differences, zero_method="wilcox", method="auto").pvalue)


def gain(mean: Mean, others: Iterable[Mean], family: str, metric: str) -> float | None:
    """How much better a mean is than the best of a family on the same set, in percent; positive is better.

    None where the family was not measured.
    """
    family_rows = (o.row for o in others if o.row.family == family and set_key(o.row) == set_key(mean.row))
    values = [row.metrics[metric] for row in family_rows if metric in row.metrics]
    if not values or metric not in mean.row.metrics:
        return None
    best = METRICS[metric].best(values)
    if best == 0 or not math.isfinite(best):
        return None
    percent = 100 * (mean.row.metrics[metric] - best) / best
    return percent if METRICS[metric].higher_is_better else -percent
