"""Scoring pictures that are already there, whatever made them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from srcli import __version__
from srcli.data.benchmarks import Item, read_rgb
from srcli.data.layouts import by_name, pair, pictures
from srcli.errors import ImageError, NothingToDoError, SrcliError
from srcli.evaluate.run import Evaluation, Failure, Report, measure
from srcli.evaluate.sets import Features, Picture, features_of, picture_key, with_set_metrics
from srcli.metrics import Metric, Protocol, Scene, find_metrics, find_protocol
from srcli.report import Row


def score_pictures(
    results: Path,
    truth: Path,
    scale: float | None,
    *,
    protocol: Protocol | str = "rgb",
    metrics: Sequence[Metric | str] = ("psnr", "psnr-y", "ssim"),
    limit: int | None = None,
    report: Report | None = None,
) -> Evaluation:
    """Measure the pictures in one folder against those of the same names in another; any tool may have made them.

    Args:
        results: folder of results.
        truth: folder of HR pictures; up to a scale's rest larger than the results, then cropped.
        scale: decides the border; None is 1 and any scale in file names.
        protocol: how.
        metrics: what; none that needs LR pictures.
        limit: only so many.
        report: told about every row and failure.

    Raises:
        NothingToDoError: a folder does not exist or holds no picture.
        ModelError: a picture without its counterpart.
        UsageError: an unknown protocol or metric.
    """
    how = protocol if isinstance(protocol, Protocol) else find_protocol(protocol)
    chosen = [m if isinstance(m, Metric) else find_metrics([m])[0] for m in metrics]
    evaluation = Evaluation(protocols={how.label: how}, metrics=chosen)
    items = _scored_items(results, truth, scale)[:limit]
    features: dict[Picture, Features] = {}
    for number, item in enumerate(items):
        outcome = _score(item, results, truth, scale or 1.0, how, chosen, features)
        (evaluation.rows if isinstance(outcome, Row) else evaluation.failures).append(outcome)  # type: ignore[arg-type]
        if report:
            report(outcome, number + 1, len(items))
    evaluation.rows = with_set_metrics(evaluation.rows, features, chosen)
    return evaluation


def _scored_items(results: Path, truth: Path, scale: float | None) -> list[Item]:
    for folder in (results, truth):
        if not folder.is_dir():
            raise NothingToDoError(f"{folder} is no folder.")
        if not pictures(folder):
            raise NothingToDoError(f"the folder {folder} holds no image.")
    kinds = ("reference", "result")
    known = by_name(pictures(truth), scale)
    wanted = by_name(pictures(results), scale)
    if wanted.keys() <= known.keys():  # a part of the reference may be scored
        known = {name: known[name] for name in wanted}
    return pair(known.values(), wanted.values(), scale, results, kinds=kinds)


def _score(
    item: Item,
    results: Path,
    truth: Path,
    scale: float,
    protocol: Protocol,
    metrics: list[Metric],
    features: dict[Picture, Features],
) -> Row | Failure:
    assert item.lr is not None  # the result; both were paired
    try:
        sr, hr = read_rgb(item.lr), read_rgb(item.hr)
        if sr.shape != hr.shape:  # results of a cropped picture
            rest = [a - b for a, b in zip(hr.shape, sr.shape, strict=True)]
            if min(rest) < 0 or max(rest) >= scale:
                raise ImageError(
                    f"{item.lr} has {sr.shape[1]}x{sr.shape[0]} pixels, {item.hr} {hr.shape[1]}x{hr.shape[0]}."
                )
            hr = np.ascontiguousarray(hr[: sr.shape[0], : sr.shape[1]])
        scene = Scene(sr, hr, scale, protocol)
        values = measure(scene, [m for m in metrics if "set" not in m.needs], item.name)
    except SrcliError as error:
        return Failure(truth.name, item.name, scale, str(error), results.name)
    row = Row(
        results.name,
        truth.name,
        item.name,
        scale,
        protocol.label,
        metrics=values,
        family="pictures",
        width=sr.shape[1],
        height=sr.shape[0],
        srcli=__version__,
    )
    if any("set" in m.needs for m in metrics):
        features[picture_key(row)] = features_of(scene)
    return row
