"""Rows: one measured picture each, their means, and files of them: `pareto` reads what `eval` writes.

Rows are also cached from one run to the next, so that an evaluation can be stopped, continued and extended.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from statistics import fmean
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from srcli import __version__
from srcli.errors import ResourceError, UsageError
from srcli.files import atomic_write, cache_folder

T = TypeVar("T")
GIVEN, MADE = "given", "made here"


@dataclass(frozen=True)
class Row:
    """What was measured on one picture.

    Attributes:
        scale: HR pixels per LR pixel.
        protocol: name and version.
        lr: "given", or "made here (<how>)".
        temperature: of the noise of `seed`; None where none is drawn.
        steps: of a diffusion sampler; None for other models.
        seconds: for the whole picture; encode, generate and decode are its parts where a model has them.
        memory: peak bytes, of the device or of the process.
        family: regression, flow, diffusion, real-world or interpolation.
        params: parameters of the model.
        weights: first digits of the weights' SHA-256.
        width: of the HR picture after cropping; so is `height`.
        srcli: the version that measured.
    """

    model: str
    benchmark: str
    image: str
    scale: float
    protocol: str
    lr: str = GIVEN
    temperature: float | None = None
    seed: int | None = None
    steps: int | None = None
    metrics: dict[str, float] = field(default_factory=dict)
    seconds: float | None = None
    encode: float | None = None
    generate: float | None = None
    decode: float | None = None
    memory: int | None = None
    family: str = "regression"
    params: int | None = None
    device: str | None = None
    precision: str | None = None
    weights: str | None = None
    width: int | None = None
    height: int | None = None
    srcli: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Flat plain values; metrics stand under their own names, infinity is the text "inf"."""
        plain = asdict(self)
        metrics = plain.pop("metrics")
        at = list(plain).index("seconds")
        items = list(plain.items())
        return dict([*items[:at], *finite(metrics).items(), *items[at:]])

    @staticmethod
    def from_dict(table: Mapping[str, Any]) -> Row:
        """The row of a table from `to_dict` or CSV; unknown columns are metrics. UsageError if one is no number."""
        known = {f.name: str(f.type) for f in fields(Row)}
        own: dict[str, Any] = {}
        metrics: dict[str, float] = {}
        try:
            for key, value in table.items():
                if value is None or value == "":
                    continue
                if key in known and key != "metrics":
                    own[key] = _typed(value, known[key])
                else:
                    metrics[key] = float(value)
            return Row(**own, metrics=metrics)
        except (TypeError, ValueError) as error:
            raise UsageError(f"not a row of an evaluation: {error}.") from error


@dataclass(frozen=True)
class Mean:
    """Means over the pictures of one benchmark at one scale: first over seeds per picture, then over pictures.

    `row`: the means, as a row without a picture. `images`: number of pictures. `seeds`: number of seeds. `deviation`:
    standard deviation, over the seeds, of the mean over pictures; empty for one seed.
    """

    row: Row
    images: int
    seeds: int = 1
    deviation: dict[str, float] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Flat plain values."""
        plain = self.row.to_dict()
        for key in ("image", "seed", "width", "height"):
            plain.pop(key)
        spread = {f"{name} std": value for name, value in self.deviation.items()}
        return {**plain, "images": self.images, "seeds": self.seeds, **spread}


def set_key(row: Row) -> tuple[Any, ...]:
    """What rows must have in common to be compared."""
    return row.protocol, row.benchmark, row.scale, row.lr


def group_key(row: Row) -> tuple[Any, ...]:
    """What rows must have in common to be averaged."""
    return (*set_key(row), row.model, row.temperature, row.steps)


def grouped(items: Iterable[T], key: Callable[[T], object]) -> list[list[T]]:
    """Items of equal keys together, in order of first appearance."""
    groups: dict[object, list[T]] = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    return list(groups.values())


def means(rows: Iterable[Row]) -> list[Mean]:
    """One mean per group, in order of first appearance."""
    return [_mean(group) for group in grouped(rows, group_key)]


def _mean(rows: list[Row]) -> Mean:
    by_image, by_seed = grouped(rows, lambda row: row.image), grouped(rows, lambda row: row.seed)
    names = [name for name in rows[0].metrics if all(name in row.metrics for row in rows)]
    values = {name: fmean(fmean(r.metrics[name] for r in rs) for rs in by_image) for name in names}
    deviation = {}
    if len(by_seed) > 1:
        per_seed = {n: [fmean(r.metrics[n] for r in rs) for rs in by_seed] for n in names}
        deviation = {name: _deviation(v) for name, v in per_seed.items()}
    parts = {part: _known_mean(rows, part) for part in ("seconds", "encode", "generate", "decode")}
    memory = max((row.memory for row in rows if row.memory is not None), default=None)
    first = asdict(rows[0]) | parts | {"image": "", "seed": None, "metrics": values, "memory": memory}
    return Mean(Row(**first), len(by_image), len(by_seed), deviation)


def _deviation(values: list[float]) -> float:
    centre = fmean(values)
    return math.sqrt(math.fsum((v - centre) ** 2 for v in values) / (len(values) - 1))


def _known_mean(rows: list[Row], part: str) -> float | None:
    known = [getattr(row, part) for row in rows if getattr(row, part) is not None]
    return fmean(known) if known else None


def finite(table: Mapping[str, object]) -> dict[str, Any]:
    """The table, also within, with None for NaN and the text "inf" for infinity, which JSON cannot hold."""

    def plain(x: object) -> object:
        if isinstance(x, float) and not math.isfinite(x):
            return None if math.isnan(x) else str(x)
        if isinstance(x, Mapping):
            return finite(x)
        return [plain(v) for v in x] if isinstance(x, list | tuple) else x

    return {key: plain(value) for key, value in table.items()}


def _typed(value: Any, hint: str) -> Any:
    kinds: dict[str, Callable[[Any], Any]] = {"int": int, "float": float, "str": str}
    return kinds[hint.partition(" ")[0]](value)


# --- reading ------------------------------------------------------------------------------------------------------


def read_rows(path: Path) -> list[Row]:
    """The rows in a file that `eval` or `sweep-temperature` wrote: JSON, JSON lines or CSV; UsageError for others."""
    try:
        text = path.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read the rows in {path}: {error}.") from error
    try:
        if path.suffix.lower() == ".csv":
            tables: list[Any] = list(csv.DictReader(io.StringIO(text)))
        elif path.suffix.lower() == ".json":
            whole = json.loads(text)
            tables = whole["rows"] if isinstance(whole, dict) else whole
        else:
            tables = [json.loads(line) for line in text.splitlines() if line.strip()]
        rows = [Row.from_dict(_old_names(table)) for table in tables]
    except (json.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(f"{path} is no file of rows: {error}.") from error
    if not rows:
        raise UsageError(f"{path} holds no rows.")
    return rows


def _old_names(table: Mapping[str, Any]) -> Mapping[str, Any]:
    """A sweep calls the model `preset`, and its CSV does not state the protocol; its JSON does."""
    if "preset" not in table:
        return table
    return {"protocol": "unstated", **{("model" if key == "preset" else key): v for key, v in table.items()}}


# --- writing ------------------------------------------------------------------------------------------------------


def json_text(value: Any) -> str:
    """JSON for people and programs: two spaces, no NaN."""
    return json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)


def jsonl_text(rows: Iterable[Row]) -> str:
    """One row per line."""
    return "".join(json.dumps(r.to_dict(), ensure_ascii=False, allow_nan=False) + "\n" for r in rows)


def csv_text(tables: Sequence[Mapping[str, Any]]) -> str:
    """One line per table, columns in order of first appearance, empty where unknown."""
    columns = list(dict.fromkeys(key for table in tables for key in table))
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(tables)
    return buffer.getvalue()


# --- cached from one run to the next -------------------------------------------------------------------------------


def row_key(*parts: object) -> str:
    """A hash of everything that a row depends on, the program's version included."""
    text = json.dumps([__version__, *map(str, parts)])
    return hashlib.blake2b(text.encode(), digest_size=20).hexdigest()


def digest(pixels: NDArray[np.uint8]) -> str:
    """A hash of the pixels of a picture."""
    shape = repr(pixels.shape).encode()
    return hashlib.blake2b(shape + np.ascontiguousarray(pixels).data, digest_size=16).hexdigest()


class RowCache:
    """Rows in a folder, one small file each; a file that is damaged counts as absent."""

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder or cache_folder("eval")

    def get(self, key: str, metrics: Iterable[str]) -> Row | None:
        """The row with at least these metrics, in this order, or None."""
        row = self._read(key)
        wanted = list(metrics)
        if row is None or any(name not in row.metrics for name in wanted):
            return None
        return replace(row, metrics={name: row.metrics[name] for name in wanted})

    def put(self, key: str, row: Row) -> None:
        """Store a row; metrics of an earlier one with the same key stay.

        A cache that cannot be written (a full disk, somebody else's folder) costs time, not results: no error.
        """
        before = self._read(key)
        merged = {**(before.metrics if before else {}), **row.metrics}
        path = self._path(key)
        with suppress(ResourceError, OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            with atomic_write(path) as file:
                file.write(json.dumps(replace(row, metrics=merged).to_dict()).encode())

    def _read(self, key: str) -> Row | None:
        try:
            return Row.from_dict(json.loads(self._path(key).read_text("utf-8")))
        except (OSError, ValueError, AttributeError, UsageError):
            return None

    def _path(self, key: str) -> Path:
        return self.folder / key[:2] / f"{key}.json"
