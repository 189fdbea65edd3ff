"""The mean over turned and mirrored copies, against one written out with torch's own turns."""

import numpy as np
import pytest
import torch

from srcli.batch.postprocess import SelfEnsemble
from srcli.geometry import COPIES, Size, dihedral, dihedral_back, dihedral_size
from tests.helpers.presets import tiny_engine
from tests.helpers.rendering import rows


@pytest.fixture(scope="module")
def upscaler():
    return tiny_engine()


@pytest.mark.parametrize("target", [Size(30, 17), Size(23, 40)])
def test_the_self_ensemble_is_the_mean_of_eight_turned_results(upscaler, target):
    lr = torch.rand(1, 3, 12, 9, generator=torch.Generator().manual_seed(1))
    expected = torch.zeros(1, 3, *target)
    for mirrored in (False, True):
        for turns in range(4):
            copy = torch.rot90(lr.flip(-1) if mirrored else lr, turns, (-2, -1))
            size = target if turns % 2 == 0 else Size(target.w, target.h)
            sr = rows(upscaler, copy, size)
            back = torch.rot90(torch.from_numpy(sr).permute(2, 0, 1)[None], -turns, (-2, -1))
            expected += (back.flip(-1) if mirrored else back) / 8
    shares = []
    found = rows(SelfEnsemble(upscaler), lr, target, report=shares.append)
    np.testing.assert_allclose(found, expected[0].permute(1, 2, 0).numpy(), atol=1e-6)
    assert shares == sorted(shares)
    assert len(shares) >= COPIES
    assert shares[-1] == 1


def test_the_self_ensemble_of_a_turned_picture_is_the_turned_self_ensemble(upscaler):
    lr = torch.rand(1, 3, 12, 9, generator=torch.Generator().manual_seed(2))
    target = Size(29, 20)

    def ensemble(x, size):
        return rows(SelfEnsemble(upscaler), x, size)

    turned = ensemble(torch.rot90(lr, 1, (-2, -1)), Size(target.w, target.h))
    np.testing.assert_allclose(turned, np.rot90(ensemble(lr, target)), atol=1e-6)
    plain = rows(upscaler, lr, target)
    assert np.abs(plain - ensemble(lr, target)).max() > 1e-4  # a network alone is not symmetric


def test_the_eight_copies_are_those_of_rot90_and_each_finds_its_way_back():
    picture = np.random.default_rng(0).integers(0, 256, (5, 3, 3), dtype=np.uint8)
    by_turns = {np.rot90(view, turns).tobytes() for view in (picture, picture[:, ::-1]) for turns in range(4)}
    copies = [dihedral(picture, which) for which in range(COPIES)]
    assert {copy.tobytes() for copy in copies} == by_turns
    for which, copy in enumerate(copies):
        assert copy.shape[:2] == dihedral_size(Size(5, 3), which)
        assert (dihedral_back(copy, which) == picture).all()
