"""LM-LIIF and LM-LTE: the slots of their tables, and the published sizes."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from srcli.geometry import Axis
from srcli.models.decoders import DECODERS
from srcli.models.decoders.modulated import Slots


@given(st.integers(1, 40), st.integers(1, 150), st.booleans(), st.data())
def test_every_hr_pixel_sits_in_a_slot_of_each_of_its_neighbours(lr, hr, ensemble, data):
    start = data.draw(st.integers(0, hr - 1))
    axis = Axis(lr, hr, start, data.draw(st.integers(start + 1, hr)))
    slots = Slots.of(axis, ensemble)
    index, distance = (np.atleast_2d(part) for part in (axis.neighbours() if ensemble else axis.nearest()))
    assert (slots.pixel + slots.start == index).all()
    assert (slots.distance[slots.slot, slots.pixel] == distance).all()
    for row, pixels in zip(slots.slot, slots.pixel, strict=True):
        assert len(set(zip(row.tolist(), pixels.tolist(), strict=True))) == len(axis)
    middle = slots.distance.shape[1] // 2
    for (left, right), pixels in zip(
        zip(slots.served(0, middle), slots.served(middle, slots.distance.shape[1]), strict=True),
        slots.pixel,
        strict=True,
    ):
        assert (pixels[left] < middle).all()
        assert (pixels[right] >= middle).all()
        assert left.stop == right.start


@pytest.mark.parametrize(
    ("name", "arguments", "decoder_parameters"),
    [("lm-liif", {}, 165_651), ("lm-liif", {"depth": 8}, 179_571), ("lm-lte", {}, 270_467)],
)
def test_published_sizes(name, arguments, decoder_parameters):
    decoder = DECODERS[name](**arguments)
    assert sum(parameter.numel() for parameter in decoder.parameters()) == decoder_parameters
