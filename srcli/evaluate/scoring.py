"""Scoring existing pictures, whatever made them, against the true ones."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from srcli import __version__
from srcli.data.benchmarks import read_rgb
from srcli.data.layouts import Item, by_name, pair, pictures, some
from srcli.data.reduce import cropped_to_scale
from srcli.errors import ImageError, ModelError, NothingToDoError, SrcliError
from srcli.evaluate.rows import Row
from srcli.evaluate.run import (
    Evaluation,
    Failure,
    Features,
    Picture,
    Report,
    features_of,
    metrics_called,
    picture_key,
    with_set_metrics,
)
from srcli.metrics import PROTOCOLS, Metric, Protocol, Scene, find_protocol, measure


def score_pictures(
    results: Path,
    truth: Path,
    scale: float | None,
    *,
    protocol: Protocol | str = "rgb",
    metrics: Sequence[Metric | str] = ("psnr", "psnr-y", "ssim"),
    limit: int | None = None,
    allow_missing: bool = False,
    report: Report | None = None,
) -> Evaluation:
    """Measure the pictures in folder `results` against those of the same names in folder `truth`.

    With a protocol that crops, true pictures may be larger than results by a fraction of an LR pixel. Only the first
    `limit` pictures of `truth` count. `scale` decides the border; None is 1, with any scale in file names. Metrics that
    need LR pictures cannot be measured. With `allow_missing`, results may be missing, which a note says. Raises
    NothingToDoError (a folder does not exist or holds no picture), ModelError (a picture without its counterpart),
    UsageError (an unknown protocol or metric).
    """
    how = protocol if isinstance(protocol, Protocol) else find_protocol(protocol)
    chosen = metrics_called(metrics)
    evaluation = Evaluation(protocols={how.label: how}, metrics=chosen)
    items, missing = _scored_items(results, truth, scale, limit, allow_missing=allow_missing)
    evaluation.whole[truth.name, scale or 1.0] = len(pictures(truth))
    if missing:
        evaluation.notes.append(
            f"{len(missing)} of {len(items) + len(missing)} results missing: {some(missing)}"
        )
    features: dict[Picture, Features] = {}
    for number, item in enumerate(items, 1):
        outcome: Row | Failure
        try:
            outcome, scene = _score(item, results, truth, scale or 1.0, how, chosen)
        except SrcliError as error:
            outcome = Failure(truth.name, item.name, scale or 1.0, str(error), results.name)
            evaluation.failures.append(outcome)
        else:
            evaluation.rows.append(outcome)
            if any("set" in m.needs for m in chosen):
                features[picture_key(outcome)] = features_of(scene)
        if report:
            report(outcome, number, len(items))
    evaluation.rows = with_set_metrics(evaluation.rows, features, chosen)
    return evaluation


def _scored_items(
    results: Path, truth: Path, scale: float | None, limit: int | None, *, allow_missing: bool
) -> tuple[list[Item], list[str]]:
    """Results beside their truth, and the names of the results that are missing."""
    for folder in (results, truth):
        if not folder.is_dir():
            raise NothingToDoError(f"{folder} is no folder.")
        if not pictures(folder):
            raise NothingToDoError(f"the folder {folder} holds no image.")
    kinds = ("reference", "result")
    known = by_name(pictures(truth), scale)
    wanted = by_name(pictures(results), scale)
    left_out = sorted(known)[limit:] if limit else []
    known, wanted = ({n: file for n, file in each.items() if n not in left_out} for each in (known, wanted))
    missing = sorted(known.keys() - wanted.keys()) if allow_missing else []
    known = {name: file for name, file in known.items() if name not in missing}
    try:
        return pair(known.values(), wanted.values(), scale, results, kinds=kinds), missing
    except ModelError as error:
        if allow_missing or wanted.keys() - known.keys():
            raise
        raise ModelError(error.message, hint="Those that are there alone: --allow-missing") from None


def _score(
    item: Item, results: Path, truth: Path, scale: float, protocol: Protocol, metrics: list[Metric]
) -> tuple[Row, Scene]:
    assert item.lr is not None  # the result; both were paired
    sr, hr = read_rgb(item.lr), read_rgb(item.hr)
    if sr.shape != hr.shape:
        whole = cropped_to_scale(hr, scale)[0]
        if sr.shape != whole.shape or not protocol.crops:
            cropping = ", ".join(p.name for p in PROTOCOLS.values() if p.crops)
            hint = f"{protocol.name} does not crop; {cropping} do." if sr.shape == whole.shape else None
            raise ImageError(f"{item.lr} has {_size(sr)} pixels, {item.hr} {_size(hr)}.", hint=hint)
        hr = np.ascontiguousarray(whole)
    scene = Scene(sr, hr, scale, protocol)
    row = Row(
        results.name,
        truth.name,
        item.name,
        scale,
        protocol.label,
        metrics=measure(scene, [m for m in metrics if "set" not in m.needs], item.name),
        family="pictures",
        width=sr.shape[1],
        height=sr.shape[0],
        srcli=__version__,
    )
    return row, scene


def _size(pixels: np.ndarray) -> str:
    return f"{pixels.shape[1]}x{pixels.shape[0]}"
