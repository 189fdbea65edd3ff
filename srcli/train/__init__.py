"""Training: photos to weights, resumable at any step.

`loop` is the page to read first; `run` makes ready what it works with, `trainer` is network and optimiser, `feed` the
samples of each step, `checkpoints` what a run leaves, `validation` how it is measured, `record` what is logged.
"""

from __future__ import annotations

from srcli.train.loop import Habits, dry_run, train
from srcli.train.progress import Limits, Progress
from srcli.train.run import device_here
from srcli.train.trainer import Trainer

__all__ = ["Habits", "Limits", "Progress", "Trainer", "device_here", "dry_run", "train"]
