"""What every test shares: fixed seeds, so that a failure is a failure everywhere."""

import numpy as np
import pytest
from hypothesis import settings

settings.register_profile("same", derandomize=True, deadline=None)
settings.register_profile("search", deadline=None)  # --hypothesis-profile=search looks for new examples
settings.load_profile("same")


@pytest.fixture(autouse=True)
def _same_numbers_every_time():
    import torch

    torch.manual_seed(0)
    np.random.seed(0)
