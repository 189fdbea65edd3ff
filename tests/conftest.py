"""What every test shares: fixed seeds, so that a failure is a failure everywhere; and commands that are built once."""

import os
from functools import cache

import numpy as np
import pytest
import typer.testing
from hypothesis import settings

# Several processes share the cores: torch, and what tests start, take one each.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")

# The parameters of all commands take 40 ms, for every run of one.
typer.testing._get_command = cache(typer.testing._get_command)

settings.register_profile("same", derandomize=True, deadline=None)
settings.register_profile("search", deadline=None)  # --hypothesis-profile=search looks for new examples
settings.load_profile("same")


@pytest.fixture(autouse=True)
def _same_numbers_every_time(monkeypatch):
    import torch

    monkeypatch.delenv("COLUMNS", raising=False)  # lines are not cut in a pipe
    torch.manual_seed(0)
    np.random.seed(0)
