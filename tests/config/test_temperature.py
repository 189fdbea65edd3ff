"""Which temperature is meant: what was asked for, the preset's table, the published values; and how it is typed."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from srcli.config import temperature as temp
from srcli.config.presets import list_presets, load_preset, parse_preset
from srcli.errors import UsageError
from tests.helpers.presets import tiny


def flow(patch=3, **more):
    return tiny("flow", decoder={"name": "linf", "patch": patch}, **more)


@pytest.mark.parametrize(
    ("scale", "pixel", "patch"),
    [
        (1.5, 0.5, 0.8),
        (2, 0.5, 0.8),
        (4, 0.5, 0.8),
        (5, 0.45, 0.72),
        (6, 0.4, 0.64),
        (8, 0.2, 0.32),
        (30, 0.2, 0.32),
    ],
)
def test_without_a_table_the_published_values_hold(scale, pixel, patch):
    for preset, value in ((flow(patch=1), pixel), (flow(), patch)):
        chosen = temp.choose(preset, scale)
        assert chosen.value == pytest.approx(value)
        assert chosen.origin == "published policy"


def test_a_presets_table_is_interpolated_over_the_scale_and_level_outside_it():
    preset = flow(temperature={"scales": {"8": 0.1, "2": 0.9, "4": 0.6}, "default": 0.3})
    scales = [1, 2, 2.5, 3, 4, 5, 7.9, 8, 12]
    found = [temp.choose(preset, scale, "auto").value for scale in scales]
    assert found == pytest.approx(np.interp(scales, [2, 4, 8], [0.9, 0.6, 0.1]).tolist())
    assert temp.choose(preset, 4).origin == "from the preset"


def test_a_presets_default_holds_at_every_scale_where_it_has_no_table():
    preset = flow(temperature={"default": 0.35})
    assert {temp.choose(preset, scale) for scale in (2, 7, 20)} == {temp.Chosen(0.35, "from the preset")}


def test_a_number_that_was_asked_for_wins():
    assert temp.choose(flow(temperature={"default": 0.35}), 4, 0.0) == temp.Chosen(0.0, "as asked")


def test_a_preset_that_draws_no_noise_has_no_temperature_and_refuses_options_of_it():
    plain = load_preset("edsr-baseline-blend")
    assert temp.choose(plain, 4, "auto") is None
    with pytest.raises(UsageError, match=r"edsr-baseline-blend.*no temperature") as caught:
        temp.check_generative(plain, "--temperature")
    names = caught.value.hint.removeprefix("Presets with one: ").rstrip(".").split(", ")
    assert names == [preset.name for preset in list_presets() if preset.decoder.name == "linf"]
    temp.check_generative(flow(), "--temperature")


def test_a_table_survives_the_way_into_a_weights_file():
    preset = flow(temperature={"scales": {"4": 0.6}})
    assert parse_preset(preset.to_dict(), name="flow").temperature == preset.temperature


@pytest.mark.parametrize("text", ["-0.1", "nan", "inf", "-inf", "warm", "", "0,5", "-1e-9"])
def test_what_is_no_temperature_is_refused(text):
    with pytest.raises(UsageError) as caught:
        temp.parse_temperature(text)
    assert caught.value.code == 2
    assert "--temperature" in str(caught.value)


def test_temperatures_are_typed_as_numbers_or_auto():
    assert temp.parse_temperature(" AUTO ") == "auto"
    assert temp.parse_temperature("0.8") == 0.8
    assert math.copysign(1, temp.parse_temperature("-0")) == 1


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("0:1:0.05", [n / 20 for n in range(21)]),
        ("0:1:0.3", [0, 0.3, 0.6, 0.9]),
        ("0,.2,.4", [0, 0.2, 0.4]),
        ("0.4, 0,0.4", [0, 0.4]),
        ("0:0.2:0.1,1", [0, 0.1, 0.2, 1]),
        ("0.5:0.5:0.1", [0.5]),
    ],
)
def test_a_list_of_temperatures_is_read(text, values):
    assert temp.parse_temperatures(text) == values


@pytest.mark.parametrize(
    "text", ["", ",", "0:1", "0:1:0", "1:0:0.1", "0:1:-0.1", "a:b:c", "0:1:0.1:2", "0,nan", "0:1:1e-5"]
)
def test_what_is_no_list_of_temperatures_is_refused(text):
    with pytest.raises(UsageError, match="--temps"):
        temp.parse_temperatures(text)


@given(st.integers(0, 60), st.integers(1, 40), st.integers(1, 15))
def test_a_range_in_hundredths_gives_exactly_its_decimals(first, steps, step):
    text = f"{first / 100}:{(first + steps * step) / 100}:{step / 100}"
    assert temp.parse_temperatures(text) == [
        float(f"{(first + n * step) / 100:.2f}") for n in range(steps + 1)
    ]


def test_only_high_temperatures_are_warned_about():
    assert temp.warning([0, 2]) is None
    assert temp.warning([]) is None
    assert "2.5" in temp.warning([0, 2.5])
