"""What every test shares: a fixed seed."""

import numpy as np
import pytest


@pytest.fixture(autouse=True)
def _same_numbers_every_time():
    import torch

    torch.manual_seed(0)
    np.random.seed(0)
