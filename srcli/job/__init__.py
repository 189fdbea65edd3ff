"""One picture from file to file: `plan` decides everything from the header, `run` does it.

Neither prints nor imports torch; the network comes in as an argument. What happened is returned as a `Record`.
"""

from srcli.job.cluster import Cluster
from srcli.job.crew import Crew
from srcli.job.draw import Spread, uncertainty_path
from srcli.job.each import Fatal, Outcome, records_of
from srcli.job.pipeline import Pipeline
from srcli.job.plan import output_path, output_words, plan, target_of
from srcli.job.render import Engine
from srcli.job.run import run
from srcli.job.task import Record, Settings, Task

__all__ = [
    "Cluster",
    "Crew",
    "Engine",
    "Fatal",
    "Outcome",
    "Pipeline",
    "Record",
    "Settings",
    "Spread",
    "Task",
    "output_path",
    "output_words",
    "plan",
    "records_of",
    "run",
    "target_of",
    "uncertainty_path",
]
