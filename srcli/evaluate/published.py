"""Published figures: which table prints the same model, benchmark, scale and metric as a mean of ours."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from srcli.config.presets import Preset, preset_folders
from srcli.errors import UsageError
from srcli.evaluate.rows import Row, grouped

LUMA_SETS = "Set5", "Set14", "B100", "Urban100"  # PSNR on these is on luma, even if a paper does not say so
GENERATIVE = "linf/2", "linf/4", "collected/generative"  # border = scale; all other DIV2K figures: scale + 6
REAL_WORLD = "lgcaa/I"  # prints no scale: its sets are x4
HUNDREDFOLD = "printed x100"  # in the column `protocol`: a fraction as per cent
FAMILIES = {  # of published methods; all others are regression
    method: family
    for family, methods in {
        "interpolation": "Bicubic",
        "flow": "LINF, SRFlow, HCFlow, HCFlow+, HCFlow++",
        "autoregressive": "LAR-SR",
        "adversarial": "ESRGAN, RankSRGAN",
        "diffusion": "SRDiff, IDM, Kim et al., FPLIA, LDM, StableSR, ResShift, PASD, SeeSR, LGCAA",
        "real-world": "BSRGAN, Real-ESRGAN, LDL, DASR",
    }.items()
    for method in methods.split(", ")
}


@dataclass(frozen=True)
class Figure:
    """One published number; `source` is a table, as in `sources.toml`."""

    source: str
    method: str
    encoder: str | None
    variant: str | None
    benchmark: str | None
    scale: float | None
    temperature: float | None
    metric: str
    value: float
    protocol: str | None = None


def published() -> list[Figure]:
    """The figures that came with the package."""
    return read_figures(preset_folders()[-1] / "reference" / "published.csv")


def read_figures(path: Path) -> list[Figure]:
    """Figures from CSV; UsageError for another file, or one where a number or a column that is needed is missing."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            return [_figure(line) for line in csv.DictReader(file)]
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read the published figures in {path}: {error}.") from error
    except (KeyError, ValueError, TypeError) as error:
        raise UsageError(
            f"{path} is no table of figures: {error}.",
            hint="It needs the columns method, benchmark, scale, metric and value.",
        ) from error


def _figure(line: Mapping[str, str]) -> Figure:
    value, protocol = float(line["value"]), line.get("protocol") or None
    scale = line.get("scale") or ("4" if line.get("source") == REAL_WORLD else None)
    temperature = line.get("temperature")
    return Figure(
        source=line.get("source") or "file",
        method=line["method"],
        encoder=line.get("encoder") or None,
        variant=line.get("variant") or None,
        benchmark=line["benchmark"] or None,
        scale=float(scale) if scale else None,
        temperature=float(temperature) if temperature else None,
        metric=line["metric"].replace("-", "_"),
        value=round(value / 100, 6) if protocol == HUNDREDFOLD else value,
        protocol=protocol,
    )


def published_name(preset: Preset) -> tuple[str, str | None] | None:
    """Method and encoder as tables print them; None for a model that is in no table."""
    if preset.name == "lgcaa":  # restores pictures: no encoder to choose
        return "LGCAA", None
    (method, body), args = published_kind(preset), preset.encoder.args
    full = preset.encoder.name != "edsr" or (args.get("n_resblocks", 16), args.get("n_feats", 64)) == (16, 64)
    return None if preset.generator or method is None or body is None or not full else (method, body)


def published_kind(preset: Preset) -> tuple[str | None, str | None]:
    """Method and encoder as tables print them for networks of this kind, whatever their size."""
    if preset.kind == "restoration":  # there is no encoder to choose
        return "LGCAA", None
    from srcli.weights.build import titles  # brings torch

    return titles(preset)


@dataclass(frozen=True)
class PublishedRow:
    """One method's figures in one table, on one benchmark at one scale, by the names of our metrics."""

    label: str
    method: str
    encoder: str | None
    source: str
    temperature: float | None
    family: str
    values: dict[str, float]


def published_rows(figures: Iterable[Figure], like: Row, metrics: Sequence[str]) -> list[PublishedRow]:
    """Published rows on the benchmark and scale of `like` whose figures its protocol can be compared with.

    Variants of a method that differ in anything but the temperature are left out.
    """
    here = (f for f in figures if f.benchmark == like.benchmark and f.scale == like.scale)
    found = []
    for group in grouped(here, lambda f: (f.source, f.method, f.encoder, f.variant, f.temperature)):
        first = group[0]
        method, encoder = first.method, first.encoder
        label = method if encoder in (None, method) else f"{encoder} {method}"
        if first.variant is not None and not first.variant.startswith("tau="):  # the temperature says that
            label += f" {first.variant}"
        names = References(group, {label: (method, encoder)})
        row = replace(like, model=label, temperature=first.temperature)
        known = {metric: names.find(row, metric) for metric in metrics}
        values = {metric: figure.value for metric, figure in known.items() if figure is not None}
        if values:
            family = FAMILIES.get(method, "regression")
            found.append(
                PublishedRow(label, method, encoder, first.source, first.temperature, family, values)
            )
    return found


class References:
    """Looks up the published figure for a mean.

    `figures`: in order of preference. `names`: what tables call our models; a model without an entry is looked up
    under its own name. `kinds`: method and encoder of models that are in no table, see `published_kind`.
    """

    def __init__(
        self,
        figures: Iterable[Figure],
        names: Mapping[str, tuple[str, str | None]],
        kinds: Mapping[str, tuple[str | None, str | None]] = MappingProxyType({}),
    ) -> None:
        self.figures = list(figures)
        self.names = dict(names)
        self.kinds = dict(kinds)

    def find(self, mean: Row, metric: str) -> Figure | None:
        """The first figure of the same model, set, scale, temperature and metric, or None."""
        wanted = (*self.names.get(mean.model, (mean.model, None)), mean.benchmark, mean.scale)
        same = (f for f in self.figures if (f.method, f.encoder, f.benchmark, f.scale) == wanted)
        return next((f for f in same if _same_temperature(f, mean) and _same_metric(f, mean, metric)), None)

    def beside(self, means: Sequence[Row], metrics: Sequence[str]) -> list[tuple[Row, PublishedRow]]:
        """Published rows to compare models with that are in no table, each once, with the first mean it belongs to.

        These are rows of the same method or, if there are none, of the same family and encoder.
        """
        found: dict[tuple[Any, ...], tuple[Row, PublishedRow]] = {}
        for mean in means:
            if mean.model not in self.kinds or any(self.find(mean, metric) for metric in metrics):
                continue
            method, encoder = self.kinds[mean.model]
            rows = [row for row in published_rows(self.figures, mean, metrics) if row.family == mean.family]
            same = [row for row in rows if row.method == method]
            for row in same or [row for row in rows if row.encoder == encoder]:
                where = (mean.benchmark, mean.scale, mean.protocol)
                found.setdefault((*where, row.label, row.temperature, *row.values.items()), (mean, row))
        return list(found.values())


def _same_temperature(figure: Figure, mean: Row) -> bool:
    if mean.temperature is None:
        return figure.temperature is None and figure.variant is None
    return figure.temperature is not None and abs(figure.temperature - mean.temperature) < 1e-9


def _same_metric(figure: Figure, mean: Row, metric: str) -> bool:
    protocol = mean.protocol.partition("/")[0].partition("+")[0]
    wanted = {metric.replace("-", "_")}
    if metric in ("ssim-clit", "ssim-linf"):  # tables say SSIM for both forms; which one is decided below
        wanted = {"ssim"}
    if mean.benchmark in LUMA_SETS and metric in ("psnr", "psnr-y"):
        wanted = {"psnr_y", "psnr"} if metric == "psnr-y" else set()
    if figure.metric not in wanted:
        return False
    if figure.metric == "ssim":
        form = metric if metric != "ssim" else ("ssim-clit" if protocol == "fplia" else "ssim-linf")
        padded = "zero padding" in (figure.protocol or "")
        return padded == (form == "ssim-clit")
    # The border is that of LINF's protocol, or LIIF's.
    if mean.benchmark == "DIV2K" and figure.metric == "psnr":
        return (figure.source in GENERATIVE) == (protocol == "linf")
    return True
