"""LM-LIIF, LM-LTE and LM-CiaoSR: the slots of their tables, and windows of the cross-scale attention."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from srcli.geometry import Axis, Size
from srcli.models.decoders.modulated import Slots
from srcli.models.sr import Frame
from tests.helpers.decoders import CASES, build, inputs
from tests.reference.ciaosr import cross_scale, plain_lm
from tests.reference.deviation import deviation
from tests.reference.sampling import queries


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


@pytest.mark.parametrize("axis", [2, 3])
def test_large_images_attend_in_windows_with_a_pixel_of_context(axis):
    decoder = build("lm-ciaosr", window=4)
    feat, lr = (
        maps if axis == 2 else maps.transpose(2, 3) for maps in inputs(9, 4)
    )  # windows of 0-3 and 4-8
    parts = [
        cross_scale(decoder.cs_attn, part) for part in (feat.narrow(axis, 0, 5), feat.narrow(axis, 3, 6))
    ]
    wide = torch.cat([parts[0].narrow(axis, 0, 4), parts[1].narrow(axis, 1, 5)], dim=axis)
    target = Size(18, 8) if axis == 2 else Size(8, 18)
    frame, coord = Frame.of_grid(lr, target), queries(*target).expand(2, -1, -1)
    cell, bound = frame.cell.expand(2, 2), CASES["lm-ciaosr"].bound
    answer = decoder.query(decoder.prepare(feat, lr, frame), coord)
    assert deviation(answer, plain_lm(decoder, feat, lr, coord, cell, wide)) < bound
    assert (answer - plain_lm(decoder, feat, lr, coord, cell)).abs().max() > 1e-3
