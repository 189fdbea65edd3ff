"""The temperature of presets that draw noise: which value is meant, and who said so.

A temperature is the factor on the noise: 0 is the faithful mean, 1 is what the network was trained for. `choose` finds
the one for a picture: what was asked for, else what the preset records for its scale (`srcli sweep-temperature
--write-preset` puts it there), else the values that LINF's authors use (Yao et al., CVPR 2023, Tables 1 and 3).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from srcli.config.presets import Preset, unsuitable
from srcli.errors import UsageError

Asked = float | Literal["auto"] | None

PUBLISHED_PIXEL = ((4.0, 0.5), (6.0, 0.4), (8.0, 0.2))  # (scale, temperature) of flows over single pixels
PUBLISHED_PATCH = 0.8  # at x4, of flows over patches of 3x3; beyond it falls as that of pixels does
UNUSUAL = 2.0  # more than this is noise rather than detail
DECIMALS = 6  # of an interpolated temperature: 0.64 rather than 0.6400000000000001
MOST = 1001  # temperatures in one list


@dataclass(frozen=True)
class Chosen:
    """A temperature, and where it came from: "as asked", "from the preset" or "published policy"."""

    value: float
    origin: str


def is_generative(preset: Preset) -> bool:
    """Whether the preset's results depend on a temperature and a seed."""
    return preset.kind == "flow"


def check_generative(preset: Preset, option: str) -> None:
    """Refuse an option that only presets with a temperature have: UsageError, with a hint that lists them."""
    if not is_generative(preset):
        problem = f"{option}: the preset '{preset.name}' has no temperature."
        raise unsuitable(problem, is_generative, "with one", "No preset here has one.")


def choose(preset: Preset, scale: float, asked: Asked = None) -> Chosen | None:
    """The temperature for a scale; None for a preset that draws no noise. "auto" and None: the preset's own."""
    if not is_generative(preset):
        return None
    if isinstance(asked, float | int):
        return Chosen(float(asked), "as asked")
    own = preset.temperature
    if own is not None and own.scales:
        table = sorted((float(key), value) for key, value in own.scales.items())
        return Chosen(round(_interpolated(table, scale), DECIMALS), "from the preset")
    if own is not None and own.default is not None:
        return Chosen(own.default, "from the preset")
    value = published(scale, patch=int(preset.decoder.args.get("patch", 1)))
    return Chosen(round(value, DECIMALS), "published policy")


def published(scale: float, *, patch: int) -> float:
    """LINF's authors' temperature, interpolated over the scale; `patch`: side of what the flow draws at once."""
    pixel = _interpolated(PUBLISHED_PIXEL, scale)
    return pixel if patch == 1 else PUBLISHED_PATCH * pixel / PUBLISHED_PIXEL[0][1]


def _interpolated(table: Sequence[tuple[float, float]], scale: float) -> float:
    """The value at `scale` on straight lines between the entries, level beyond the first and the last."""
    if scale <= table[0][0]:
        return table[0][1]
    for (low, before), (high, after) in pairwise(table):
        if scale <= high:
            return before + (after - before) * (scale - low) / (high - low)
    return table[-1][1]


# --- words to values ----------------------------------------------------------------------------------------------


def parse_temperature(text: str, option: str = "--temperature") -> float | Literal["auto"]:
    """A temperature as typed: a number from 0 on, or "auto". Raises UsageError (anything else)."""
    word = text.strip().lower()
    return "auto" if word == "auto" else _number(word, option, "a number from 0 on, or auto")


def parse_temperatures(text: str, option: str = "--temps") -> list[float]:
    """Temperatures in rising order, of ``0,.2,.4``, ``0:1:0.05`` (the end included), or both. Raises UsageError."""
    found: set[float] = set()
    for word in text.split(","):
        if word.strip():
            found.update(_range(word, option))
    if not found:
        raise UsageError(f"{option} is empty.", hint="Write 0:1:0.05 or 0,0.2,0.4.")
    return sorted(found)


def _range(word: str, option: str) -> list[float]:
    numbers = [
        _number(part, option, "numbers from 0 on, as 0:1:0.05 or 0,0.2,0.4") for part in word.split(":")
    ]
    if len(numbers) == 1:
        return numbers
    if len(numbers) != 3 or numbers[2] == 0 or numbers[1] < numbers[0]:
        raise UsageError(f"{option} '{word}' is no range.", hint="Write FIRST:LAST:STEP, such as 0:1:0.05.")
    first, last, step = numbers
    count = math.floor((last - first) / step + 1e-9) + 1
    if count > MOST:
        raise UsageError(f"{option} '{word}' are {count} temperatures.", hint="Choose a larger step.")
    return [round(first + n * step, 10) for n in range(count)]  # 0.15 rather than 0.15000000000000002


def _number(word: str, option: str, wanted: str) -> float:
    try:
        value = float(word)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value >= 0):
        raise UsageError(f"{option} takes {wanted}, got '{word}'.")
    return value + 0.0  # -0 is 0


def warning(values: Sequence[float]) -> str | None:
    """What to say about temperatures that are too high to be of use, None if there is nothing."""
    high = max(values, default=0.0)
    if high <= UNUSUAL:
        return None
    return f"a temperature of {high:g} is more noise than detail; useful ones are between 0 and 1"
