"""Completion in the shell, asked as bash asks."""

import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "completed"),
    [("srcli up", "upscale"), ("srcli upscale --fra", "--frames"), ("srcli upscale --degradation r", "real")],
)
def test_commands_options_and_their_values_are_completed(words, completed):
    asked = {"_SRCLI_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))}
    env = {**os.environ, **asked, "PYTHONPATH": str(Path(__file__).parents[2])}
    run = subprocess.run([sys.executable, "-m", "srcli"], env=env, capture_output=True, text=True, check=True)
    assert run.stdout.split() == [completed]
