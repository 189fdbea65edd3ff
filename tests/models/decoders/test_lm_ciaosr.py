"""LM-CiaoSR: windows of the cross-scale attention."""

import pytest
import torch

from srcli.geometry import Size
from srcli.models.sr import Frame
from tests.helpers.decoders import CASES, build, inputs
from tests.reference.ciaosr import cross_scale, plain_lm
from tests.reference.deviation import deviation
from tests.reference.sampling import queries


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
