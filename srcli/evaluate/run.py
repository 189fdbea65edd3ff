"""`evaluate`: models, benchmarks and scales in, one row per picture out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from srcli import __version__
from srcli.data.benchmarks import Benchmark, Pair, open_benchmark, open_folder, write_png
from srcli.data.layouts import Item
from srcli.data.reduce import REDUCTIONS
from srcli.engine.branch_map import Choices
from srcli.engine.upscaler import Upscaler
from srcli.errors import SrcliError, UsageError
from srcli.evaluate.models import Draw, Model, as_model
from srcli.evaluate.rows import GIVEN, MADE, Mean, Row, RowCache, digest, group_key, grouped, row_key
from srcli.geometry import Size
from srcli.metrics import METRICS, Metric, Protocol, Scene, find_metrics, find_protocol, measure
from srcli.metrics.distributions import diversity
from srcli.metrics.sets import SET_METRICS, inception_features
from srcli.processes import Ranks

U8 = NDArray[np.uint8]


@dataclass(frozen=True)
class Failure:
    """A picture that could not be measured, and why."""

    benchmark: str
    image: str
    scale: float
    message: str
    model: str | None = None


@dataclass
class Evaluation:
    """The result of `evaluate`.

    Attributes:
        rows: by benchmark, scale, model and picture.
        protocols: those that were used, by label.
        cached: how many rows an earlier run had measured.
        choices: how many pixels of each picture each branch answered, if that is counted.
        notes: further lines for above a table.
        whole: how many pictures a benchmark has at a scale, measured or not.
        absent: metrics that were asked for but cannot be measured here, with the reason.
    """

    rows: list[Row] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    protocols: dict[str, Protocol] = field(default_factory=dict)
    metrics: list[Metric] = field(default_factory=list)
    cached: int = 0
    choices: list[Choices] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    whole: dict[tuple[str, float], int] = field(default_factory=dict)
    absent: dict[str, str] = field(default_factory=dict)

    def left_out(self, mean: Mean) -> int:
        """How many pictures of its set a mean leaves out: beyond a limit, missing or failed."""
        return max(self.whole.get((mean.row.benchmark, mean.row.scale), 0) - mean.images, 0)


Report = Callable[[Row | Failure, int, int], None]  # the outcome, how many pictures are done, of how many
Order = tuple[int, int, int, int, int]  # benchmark, scale, model, picture, draw
Picture = tuple[object, ...]
Features = tuple[NDArray[np.float64], NDArray[np.float64]]  # of a result and of its truth


def evaluate(
    models: Sequence[Model | Upscaler | str],
    benchmarks: Sequence[Benchmark | Path | str],
    scales: Sequence[float],
    *,
    protocol: Protocol | str | None = None,
    metrics: Sequence[Metric | str] = ("psnr", "psnr-y", "ssim", "lr-psnr"),
    temperatures: Sequence[float] = (),
    seeds: Sequence[int] = (),
    steps: Sequence[int] = (),
    limit: int | None = None,
    cache: RowCache | None = None,
    save_images: Path | None = None,
    ranks: Ranks = Ranks(),  # noqa: B008 - an immutable value
    report: Report | None = None,
) -> Evaluation:
    """Measure every model on every picture of every benchmark at every scale.

    Models and benchmarks are opened already or given by name (preset, weights file or interpolation; a path is a folder
    of pictures). Models that draw noise do so at all `temperatures` (by default their own) and with all `seeds`,
    diffusion models with all `steps`. Only the first `limit` pictures of a benchmark count; its own protocol is used
    unless another is given. A picture that fails is listed in `failures`, and the others go on. Rows are stored in
    `cache` and taken from it, unless a metric needs whole sets or must not be cached. Results are written to the folder
    `save_images` as 8-bit PNG. `ranks` share the work, and each returns all rows; `report` is called with every row and
    failure of this process. Raises NothingToDoError (a benchmark's folder is empty), ModelError (HR and LR
    files do not pair up), UsageError (an unknown protocol or metric).
    """
    opened = [as_model(model) for model in models]
    sets = [_as_benchmark(benchmark) for benchmark in benchmarks]
    chosen = metrics_called(metrics)
    if any("set" in m.needs or not m.kept or m.name in METRICS.foreign for m in chosen):
        cache = None
    run = _Run(chosen, (temperatures, seeds, steps), cache, save_images)
    tasks = list(_tasks(sets, scales, protocol, limit))
    mine = [task for at, task in enumerate(tasks) if ranks.mine(at)]
    found: list[tuple[Order, Row | Failure]] = []
    for number, task in enumerate(mine):
        for order, outcome in run.picture(task, opened):
            found.append((order, outcome))
            if report:
                report(outcome, number + 1, len(mine))
    # Processes finish in any order; sorted, the rows are those of one process.
    outcomes = [outcome for _, outcome in sorted(ranks.gathered(found), key=lambda pair: pair[0])]
    rows = [o for o in outcomes if isinstance(o, Row)]
    return Evaluation(
        with_set_metrics(rows, dict(ranks.gathered(list(run.features.items()))), chosen),
        [o for o in outcomes if isinstance(o, Failure)],
        {task.protocol.label: task.protocol for task in tasks},
        chosen,
        sum(ranks.gathered([run.cached])),
        [choices for _, choices in sorted(ranks.gathered(run.choices), key=lambda pair: pair[0])],
        whole={(b.name, scale): len(b.items(scale)) for b in sets for scale in scales},
    )


def _as_benchmark(given: Benchmark | Path | str) -> Benchmark:
    if isinstance(given, Benchmark):
        return given
    return open_folder(given) if isinstance(given, Path) else open_benchmark(given)


def metrics_called(names: Iterable[Metric | str]) -> list[Metric]:
    """The metrics, names looked up."""
    return [m if isinstance(m, Metric) else find_metrics([m])[0] for m in names]


@dataclass(frozen=True)
class _Task:
    """One picture of one benchmark at one scale; `order` is their indices, which rows are sorted by."""

    benchmark: Benchmark
    item: Item
    scale: float
    protocol: Protocol
    order: tuple[int, int, int]


def _tasks(
    benchmarks: Sequence[Benchmark],
    scales: Sequence[float],
    protocol: Protocol | str | None,
    limit: int | None,
) -> Iterator[_Task]:
    for b, benchmark in enumerate(benchmarks):
        how = protocol if protocol is not None else benchmark.protocol
        how = how if isinstance(how, Protocol) else find_protocol(how)
        for s, scale in enumerate(scales):
            for i, item in enumerate(benchmark.items(scale)[:limit]):
                yield _Task(benchmark, item, scale, how, (b, s, i))


class _Run:
    """Measures picture by picture; `settings` are temperatures, seeds and steps."""

    def __init__(
        self,
        metrics: list[Metric],
        settings: tuple[Sequence[float], Sequence[int], Sequence[int]],
        cache: RowCache | None,
        save_images: Path | None,
    ) -> None:
        self.metrics, self.settings, self.cache, self.save_images = metrics, settings, cache, save_images
        self.cached = 0
        self.features: dict[Picture, Features] = {}
        self.choices: list[tuple[tuple[int, int, int], Choices]] = []

    def picture(self, task: _Task, models: Sequence[Model]) -> Iterator[tuple[Order, Row | Failure]]:
        """Rows and failures of all models on one picture."""
        b, s, i = task.order
        try:
            loaded = task.benchmark.load(task.item, task.scale, task.protocol.reduction)
        except SrcliError as error:
            yield (b, s, -1, i, 0), _failure(task, error)
            return
        for m, model in enumerate(models):
            try:
                for d, row in enumerate(self._rows(task, loaded, model)):
                    yield (b, s, m, i, d), row
            except (SrcliError, MemoryError) as error:
                yield (b, s, m, i, 0), _failure(task, error, model.name)

    def _rows(self, task: _Task, loaded: Pair, model: Model) -> Iterator[Row]:
        draws = model.draws(task.scale, *self.settings)
        for group in grouped(draws, lambda draw: draw._replace(seed=None)):
            yield from self._seeds(task, loaded, model, group)

    def _seeds(self, task: _Task, loaded: Pair, model: Model, draws: list[Draw]) -> Iterator[Row]:
        """Rows of results that differ in the seed alone; `diversity` looks at them together."""
        several = [m for m in self.metrics if "samples" in m.needs]
        # Part of the key: diversity is of these.
        together = f"{[draw.seed for draw in draws]}" if several else ""
        keys = [self._key(task, loaded, model, draw, together) for draw in draws]
        known = [self._from_cache(task, model, draw, key) for draw, key in zip(draws, keys, strict=True)]
        # `diversity` needs the pixels of all seeds: then all rows come from the cache, or none.
        if None not in known or not several:
            for draw, key, row in zip(draws, keys, known, strict=True):
                if row is not None:
                    self.cached += 1
                    yield row
                else:
                    yield self._to_cache(key, self._measured(task, loaded, model, draw)[0])
            return
        fresh = [self._measured(task, loaded, model, draw) for draw in draws]
        value = _diversity([pixels for _, pixels in fresh], draws)
        for key, (row, _) in zip(keys, fresh, strict=True):
            values = {**row.metrics, **{m.name: value for m in several}}
            yield self._to_cache(key, replace(row, metrics=values))

    def _key(self, task: _Task, loaded: Pair, model: Model, draw: Draw, together: str) -> str | None:
        if self.cache is None or model.identity is None:
            return None
        pixels = digest(loaded.hr), digest(loaded.lr)
        return row_key(
            model.identity, *pixels, task.scale, draw, task.protocol.label, loaded.reduction, together
        )

    def _from_cache(self, task: _Task, model: Model, draw: Draw, key: str | None) -> Row | None:
        """The row of an earlier run, if it has all metrics and its picture, where pictures are saved."""
        if self.cache is None or key is None:
            return None
        target = self._target(task, model, draw)
        if target is not None and not target.exists():
            return None
        row = self.cache.get(key, [m.name for m in self.metrics])
        return row and replace(
            row, model=model.name, benchmark=task.benchmark.name, image=task.item.name, weights=_short(model)
        )

    def _to_cache(self, key: str | None, row: Row) -> Row:
        if self.cache is not None and key is not None:
            self.cache.put(key, row)
        return row

    def _measured(self, task: _Task, loaded: Pair, model: Model, draw: Draw) -> tuple[Row, U8]:
        h, w = loaded.hr.shape[:2]
        result = model.enlarge(loaded.lr, Size(h, w), draw)
        if result.choices is not None:
            choices = Choices(model.name, task.benchmark.name, task.scale, result.choices)
            self.choices.append((task.order, choices))
        reduce = REDUCTIONS[loaded.reduction]
        scene = Scene(result.pixels, loaded.hr, task.scale, task.protocol, loaded.lr, reduce)
        alone = [m for m in self.metrics if not {"samples", "set"} & m.needs]
        values = measure(scene, alone, f"{task.item.name} at x{task.scale:g} by {model.name}")
        target = self._target(task, model, draw)
        if target is not None:
            write_png(target, scene.sr_8bit)
        row = Row(
            model=model.name,
            benchmark=task.benchmark.name,
            image=task.item.name,
            scale=task.scale,
            protocol=task.protocol.label,
            lr=GIVEN if loaded.given else f"{MADE} ({loaded.reduction})",
            **draw._asdict(),
            metrics=values,
            **vars(result.cost),
            **{name: getattr(model, name) for name in ("family", "params", "device", "precision")},
            weights=_short(model),
            width=result.pixels.shape[1],
            height=result.pixels.shape[0],
            srcli=__version__,
        )
        if any("set" in m.needs for m in self.metrics):
            self.features[picture_key(row)] = features_of(scene)
        return row, scene.sr_8bit

    def _target(self, task: _Task, model: Model, draw: Draw) -> Path | None:
        if self.save_images is None:
            return None
        parts = zip(("t", "seed", "steps"), draw, strict=True)
        drawn = "".join(f"_{short}{value:g}" for short, value in parts if value is not None)
        model_name, benchmark, image = map(_file_name, (model.name, task.benchmark.name, task.item.name))
        return self.save_images / model_name / benchmark / f"x{task.scale:g}" / f"{image}{drawn}.png"


def _failure(task: _Task, error: BaseException, model: str | None = None) -> Failure:
    message = str(error) or "out of memory."
    return Failure(task.benchmark.name, task.item.name, task.scale, message, model)


def _diversity(results: list[U8], draws: list[Draw]) -> float:
    """0 for a deterministic model."""
    if draws[0].seed is None:
        return 0.0
    if len(results) < 2:
        raise UsageError("diversity needs at least two seeds.", hint="Ask for more: --seeds 5")
    return diversity(np.stack(results))


def _short(model: Model) -> str | None:
    return model.weights[:12] if model.weights else None


def _file_name(name: str) -> str:
    return "".join(c if c.isalnum() or c in "-_.+@" else "_" for c in name)


# --- metrics of whole sets ----------------------------------------------------------------------------


def picture_key(row: Row) -> Picture:
    """A key for one result, different from all others."""
    return (*group_key(row), row.seed, row.image)


def features_of(scene: Scene) -> Features:
    """What metrics of whole sets compare."""
    return inception_features(scene.sr_8bit), inception_features(scene.truth)


def with_set_metrics(
    rows: list[Row], features: Mapping[Picture, Features], metrics: Sequence[Metric]
) -> list[Row]:
    """The rows with the values of their whole sets, in the order of `metrics`.

    Raises UsageError (a set of one picture).
    """
    asked = [m.name for m in metrics if "set" in m.needs]
    if not asked:
        return rows
    values = {}
    for members in grouped(rows, lambda row: picture_key(row)[:-1]):
        sr, hr = map(np.stack, zip(*(features[picture_key(row)] for row in members), strict=True))
        try:
            of_the_set = {name: SET_METRICS[name](sr, hr) for name in asked}
        except ValueError as error:
            raise UsageError(f"{', '.join(asked)} of {members[0].benchmark}: {error}.") from error
        values[picture_key(members[0])[:-1]] = of_the_set
    found = []
    for row in rows:
        every = row.metrics | values[picture_key(row)[:-1]]
        found.append(replace(row, metrics={m.name: every[m.name] for m in metrics if m.name in every}))
    return found
