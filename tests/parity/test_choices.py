"""Hard choices that hang on rounding: either branch is right, and any other difference is a fault."""

import torch

from tests.parity.fplia import settled


def test_a_choice_that_flips_within_the_bound_takes_the_authors_branch():
    margins = torch.tensor([0.0, 1e-5, 5.9e-5, 6.1e-5, 1.0])
    scores = torch.zeros(1, 4, 1, 5)
    scores[:, 2] = margins  # ours chooses branch 2 but in the first, by so much
    scores[:, 3] = -1.0
    for theirs, counted in (
        (0, [False, True, True, False, False]),
        (3, [False] * 5),
        (2, [True, False, False, False, False]),
    ):
        choice, flipped = settled(scores, torch.full((1, 1, 5), theirs), 3e-5)
        assert flipped[0, 0].tolist() == counted
        ours = scores.argmax(1)[0, 0].tolist()
        expected = [theirs if c else o for c, o in zip(counted, ours, strict=True)]
        assert choice[0, 0].tolist() == expected
