"""Options, defined once: types that several commands have, and how a dataclass of options becomes a command.

Every option can also be given by the environment, as SRCLI_<COMMAND>_<OPTION>; the shell's command line wins.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from srcli.cli.command import DIFFUSION, NOISE, option
from srcli.cli.console import say
from srcli.config.presets import Preset, successor
from srcli.config.sampling import Sampling, check_sampled, choose_sampling
from srcli.errors import ExistsError, ModelError, UsageError, suggest
from srcli.weights.files import allows_commercial_use, resolve

RUN, OUTPUT, REPORT = "Running", "Output", "Reporting"

SAMPLING = ("sampler", "steps", "eta", "average", "fidelity", "branch")

Number = TypeVar("Number", int, float)


def words(*texts: str | None) -> list[str]:
    """What stands between the commas of texts."""
    return [word.strip() for text in texts if text for word in text.split(",") if word.strip()]


def parse_scales(text: str | None) -> list[float]:
    """Factors, such as 4.3, 4.3x or 430%, from what stands between commas; DEFAULT_SCALE where nothing was typed."""
    from srcli.batch.sizes import DEFAULT_SCALE, parse_scale

    return [parse_scale(word) for word in words(text)] or [DEFAULT_SCALE]


def settings(
    name: str, texts: Sequence[str] | None, keys: Sequence[str], flags: Sequence[str] = ()
) -> dict[str, str]:
    """What an option such as ``--encode chroma=420,dither`` says, the last of each: ``{"chroma": "420", "dither": ""}``.

    `name`: of the option. `texts`: as typed; a comma separates where a key or a flag follows it. `keys`: words that
    take a value. `flags`: words that take none.
    """
    comma = re.compile(rf",\s*(?=(?:{'|'.join(map(re.escape, (*keys, *flags)))})\s*(?:=|,|$))")
    found = {}
    for word in (word.strip() for text in texts or () for word in comma.split(text)):
        key, equals, value = word.partition("=")
        if key not in (keys if equals else flags) or (equals and not value):
            known = ", ".join([*(f"{key}=.." for key in keys), *flags])
            raise UsageError(f"{name} does not know '{word}'.", hint=f"It takes {known}.")
        found[key] = value
    return found


def number(name: str, given: Mapping[str, str], key: str, kind: type[Number]) -> Number | None:
    """The number that `given` has for a key of the option `name`; None where it has none."""
    if key not in given:
        return None
    try:
        return kind(given[key])
    except ValueError:
        raise UsageError(f"{name} {key} takes a number, got '{given[key]}'.") from None


def parse_bytes(option: str, text: str) -> int:
    """A number of bytes from ``500M``, ``2 GB``, ``800kB``, ``2MiB`` or ``1000``; `option` is for the message."""
    found = re.fullmatch(r"\s*(\d{1,15}(?:\.\d{1,9})?)\s*([kmg]?)(i?)b?\s*", text.lower())
    base = 0 if found is None or (found[3] and not found[2]) else 1024 if found[3] else 1000
    size = int(float(found[1]) * base ** "_kmg".index(found[2] or "_")) if found and base else 0
    if size < 1:
        raise UsageError(f"{option} '{text}' is no size.", hint="Write it such as 5MB, 800kB or 2MiB.")
    return size


def parse_colour(option: str, name: str) -> tuple[float, float, float]:
    """Red, green and blue in [0, 1] from ``white`` or ``#1e90ff``; `option` is for the message."""
    from PIL import ImageColor

    try:
        red, green, blue = ImageColor.getrgb(name)[:3]
    except ValueError:
        hint = "Write a name or #rrggbb, such as white or #1e90ff."
        raise UsageError(f"{option} '{name}' is no colour.", hint=hint) from None
    return red / 255, green / 255, blue / 255


def chosen_format(asked: str, output: Path | None, suffixes: Mapping[str, str]) -> Any:
    """The format that was `asked` for, or that of the suffix of a file to write, or a table on standard output."""
    if asked != "auto":
        return asked
    if output is None:
        return "table"
    if output.suffix.lower() not in suffixes:
        raise UsageError(
            f"--output {output}: the suffix does not say which format.",
            hint=f"Use one of {', '.join(suffixes)}, or --format.",
        )
    return suffixes[output.suffix.lower()]


def check_png(path: Path, *, overwrite: bool) -> None:
    """Check that a picture can be written as PNG to a path where nothing is, or that may be overwritten."""
    if path.suffix.lower() != ".png":
        raise UsageError(f"the picture is a PNG, not {path.name}.", hint="End --output with .png")
    check_free(path, overwrite=overwrite)


def check_free(path: Path, *, overwrite: bool) -> None:
    """Check that nothing is at a path, or that it may be overwritten."""
    if path.exists() and not overwrite:
        raise ExistsError(f"{path} exists.", hint="Give --overwrite or another name.")


def one_of(option: str, value: str, known: Sequence[str]) -> str:
    """`value`, which must be among those that are known."""
    if value not in known:
        raise UsageError(f"{option}={value} is unknown.", hint=suggest(value, known))
    return value


def parse_sampling(
    preset: Preset, texts: Sequence[str] | None, *, steps: bool = True, official: bool = False
) -> Sampling | None:
    """How a diffusion model is sampled; None where nothing was asked for.

    `preset`: the model. `texts`: of --sampling. `steps`: whether they may say the number of steps. `official`: sample
    as the authors do.
    """
    if not texts and not official:
        return None
    given = settings("--sampling", texts, SAMPLING if steps else [key for key in SAMPLING if key != "steps"])
    given.pop("branch", None)
    if not given and not official:
        return None
    fidelity, average = (
        number("--sampling", given, "fidelity", float),
        number("--sampling", given, "average", int),
    )
    if fidelity is None or len(given) > 1:
        check_sampled(preset, "--sampling")
    return choose_sampling(
        preset,
        sampler=given.get("sampler"),
        steps=number("--sampling", given, "steps", int),
        eta=number("--sampling", given, "eta", float),
        average=1 if average is None else average,
        official=official,
        fidelity=fidelity,
    )


def sampling_branch(texts: Sequence[str] | None) -> str | None:
    """The branch that --sampling names, if it does."""
    return settings("--sampling", texts, SAMPLING).get("branch") if texts else None


def licensed(model: str, wanted: str) -> Preset:
    """The preset of a name or file, whose weights must allow commercial use where `wanted` is "commercial"."""
    preset = resolve(model)
    if wanted == "commercial" and not allows_commercial_use(preset.weights.license):
        raise ModelError(
            f"the weights of '{preset.name}' have the licence '{preset.weights.license}', "
            "which is not known to allow commercial use.",
            hint="See: srcli models list --license commercial",
        )
    return preset


def go_offline() -> None:
    """Use no network from here on, in libraries neither."""
    os.environ["SRCLI_OFFLINE"] = os.environ["HF_HUB_OFFLINE"] = "1"


def current(model: str, note: Callable[[str], None] = say) -> str:
    """The model to use for one that was named: itself, or the successor of one that is gone, with a note."""
    new = successor(model)
    if new is not None:
        note(f"'{model}' has been replaced; its successor '{new}' is used")
    return new or model


Device = Annotated[
    str, option("Where to run.", "-d auto|cpu|cuda[:N]|mps|xpu", envvar="SRCLI_DEVICE", panel=RUN)
]
Precision = Annotated[
    Literal["auto", "fp32", "bf16", "fp16"],
    option(
        "Arithmetic; auto is bf16 where the device has it (on a CPU: for models checked in it), else fp32.",
        panel=RUN,
    ),
]
Tile = Annotated[
    str,
    option(
        "Side of the pieces that are looked at; changes memory and time, and the picture only of diffusion models.",
        "-t auto|none|PX",
        panel=RUN,
    ),
]
Seed = Annotated[int, option("For models that draw random numbers; recorded in the output.", panel=NOISE)]
SamplingWords = Annotated[
    list[str] | None,
    option(
        "How a sample is drawn (default: the model's own). sampler=ddim|ddpm|dpm++|dpm++-sde|unipc|euler; steps=N: calls "
        "of the generator; eta=0..1: fresh noise in the steps of ddim; average=K: the mean of K samples, closer to the "
        "original and smoother, K times the time; fidelity=F: for models that restore an enlarged picture, 0 starts from "
        "noise alone, near 1 changes little; branch=f|p|pf|fp|selected: the answer of one branch of FPLIA's decoder, "
        "f is faithful, p invents most.",
        "KEY=VALUE,..",
        panel=DIFFUSION,
    ),
]
Offline = Annotated[bool, option("Never use the network.", envvar="SRCLI_OFFLINE", panel=RUN)]
Quiet = Annotated[bool, option("Only errors on stderr.", "-q", panel=REPORT)]
Json = Annotated[bool, option("Machine-readable output.", panel=REPORT)]
Overwrite = Annotated[bool, option("Replace what is there.", panel=OUTPUT)]
Progress = Annotated[
    Literal["auto", "rich", "plain", "json", "none"], option("Progress on stderr.", panel=REPORT)
]
Yes = Annotated[bool, option("Do not ask.", "-y")]
