"""Published points for a panel: methods of which one table prints both of its metrics."""

from __future__ import annotations

from collections.abc import Iterable

from srcli.evaluate.reference import Figure, References
from srcli.pareto import Panel, Point
from srcli.report import Row

# Families of published methods; whatever is not named is a regression.
FAMILIES = {
    "Bicubic": "interpolation",
    "LINF": "flow",
    "SRFlow": "flow",
    "HCFlow": "flow",
    "HCFlow+": "flow",
    "HCFlow++": "flow",
    "LAR-SR": "autoregressive",
    "ESRGAN": "adversarial",
    "RankSRGAN": "adversarial",
    "SRDiff": "diffusion",
    "IDM": "diffusion",
    "Kim et al.": "diffusion",
    "FPLIA": "diffusion",
    "BSRGAN": "real-world",
    "Real-ESRGAN": "real-world",
    "LDL": "real-world",
    "DASR": "real-world",
    "LDM": "diffusion",
    "StableSR": "diffusion",
    "ResShift": "diffusion",
    "PASD": "diffusion",
    "SeeSR": "diffusion",
    "LGCAA": "diffusion",
}

Name = tuple[str, str, str | None, str | None, float | None]  # source, method, encoder, variant, temperature


def published_points(panel: Panel, figures: Iterable[Figure]) -> list[Point]:
    """Points of other papers for a panel, compared only where its protocol measures what they print.

    A method that several tables print alike appears once.
    """
    groups: dict[Name, list[Figure]] = {}
    for figure in figures:
        if figure.benchmark == panel.benchmark and figure.scale == panel.scale:
            name = (figure.source, figure.method, figure.encoder, figure.variant, figure.temperature)
            groups.setdefault(name, []).append(figure)
    found: dict[tuple[object, ...], Point] = {}
    for name, group in groups.items():
        point = _point(panel, name, group)
        if point is not None:
            found.setdefault((name[1], point.temperature, point.x, point.y), point)
    return list(found.values())


def _point(panel: Panel, name: Name, figures: list[Figure]) -> Point | None:
    source, method, encoder, variant, temperature = name
    text = method if encoder in (None, method) else f"{encoder} {method}"
    if variant is not None and not variant.startswith("tau="):  # the temperature says that
        text += f" {variant}"
    model = text
    if temperature is not None:
        text += f" t={temperature:g}"
    look_up = References(figures, {text: (method, encoder)})
    row = Row(
        model=text,
        benchmark=panel.benchmark,
        image="",
        scale=panel.scale,
        protocol=panel.protocols[0],
        temperature=temperature,
    )
    x, y = look_up.find(row, panel.x.name), look_up.find(row, panel.y.name)
    if x is None or y is None:
        return None
    return Point(
        label=text,
        model=model,
        family=FAMILIES.get(method, "regression"),
        x=x.value,
        y=y.value,
        temperature=temperature,
        source=source,
    )
