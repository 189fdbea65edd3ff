"""Damaged files of every kind end in a picture or in one line for people: for a bounded time; `run.py` goes on."""

import random
import time

import pytest

from tests.fuzz.mutants import KINDS, PICTURES, carried, mutant, seeds
from tests.fuzz.run import fuzz
from tests.fuzz.targets import accepts

SECONDS = 10.0


def test_a_number_always_means_the_same_damaged_file():
    made = [mutant("toml", number) for number in range(50)]
    assert made == [mutant("toml", number) for number in range(50)]
    assert len(set(made)) > 40


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_undamaged_files_are_accepted(kind, tmp_path):
    assert all(
        accepts(kind, carried(kind, data, random.Random(i)), tmp_path) for i, data in enumerate(seeds(kind))
    )


def test_five_hundred_damaged_pictures_end_in_a_picture_or_in_one_line():
    found = fuzz(PICTURES, 0, 500)
    assert found.tried.total() == 500
    assert 50 < found.accepted.total() < 450
    assert not found.problems, f"{dict(found.problems)}; repeat with run.py: {found.examples}"


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_no_damaged_file_leads_to_a_traceback_a_hang_or_much_memory(kind):
    found = fuzz([kind], 500, 3500, until=time.monotonic() + SECONDS)
    assert found.tried.total() > 30
    assert not found.problems, f"{dict(found.problems)}; repeat with run.py: {found.examples}"
