"""Metrics that only a whole set of pictures has: features are gathered picture by picture, the value comes last."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from srcli.errors import UsageError
from srcli.evaluate.rows import Row, group_key
from srcli.metrics import Metric, Scene
from srcli.metrics.sets import SET_METRICS, inception_features

Picture = tuple[object, ...]
Features = tuple[NDArray[np.float64], NDArray[np.float64]]  # of a result and of its truth


def picture_key(row: Row) -> Picture:
    """What tells a result from all others."""
    return (*group_key(row), row.seed, row.image)


def features_of(scene: Scene) -> Features:
    """What metrics of whole sets look at."""
    return inception_features(scene.sr_8bit), inception_features(scene.truth)


def with_set_metrics(
    rows: list[Row], features: Mapping[Picture, Features], metrics: Sequence[Metric]
) -> list[Row]:
    """The rows with the value of their whole set, in the order in which metrics were asked for.

    Raises:
        UsageError: a set of one picture.
    """
    asked = [m.name for m in metrics if "set" in m.needs]
    if not asked:
        return rows
    sets: dict[Picture, list[Row]] = {}
    for row in rows:
        sets.setdefault(picture_key(row)[:-1], []).append(row)
    values = {}
    for key, members in sets.items():
        sr, hr = (
            np.stack(side) for side in zip(*(features[picture_key(row)] for row in members), strict=True)
        )
        try:
            values[key] = {name: SET_METRICS[name](sr, hr) for name in asked}
        except ValueError as error:
            raise UsageError(f"{', '.join(asked)} of {members[0].benchmark}: {error}.") from error
    found = []
    for row in rows:
        all_of_it = row.metrics | values[picture_key(row)[:-1]]
        ordered = {m.name: all_of_it[m.name] for m in metrics if m.name in all_of_it}
        found.append(replace(row, metrics=ordered))
    return found
