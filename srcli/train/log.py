"""What is logged: one JSON line after another, TensorBoard where it is asked for, and what went wrong."""

from __future__ import annotations

import json
import platform
import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from srcli import __version__
from srcli.data.samples import Batch
from srcli.errors import ModelError, ResourceError
from srcli.files import write_atomically, write_error
from srcli.train.progress import Progress

if TYPE_CHECKING:
    from torch.utils.tensorboard.writer import SummaryWriter

LOG = "log.jsonl"


class Record:
    """The log of a run in folder `out`: `log.jsonl`, and TensorBoard's files in `tensorboard/`.

    Args:
        out: the run's folder.
        step: where the call begins; lines of later steps, which a killed process may have left, are dropped.
        tensorboard: whether to write for it.

    Raises:
        ModelError: TensorBoard is not installed.
        ResourceError: the folder cannot be written.
    """

    def __init__(self, out: Path, step: int, *, tensorboard: bool = False) -> None:
        self.path = out / LOG
        self._drop_after(step)
        self.board: SummaryWriter | None = _board(out, step) if tensorboard else None

    def start(self, step: int, device: torch.device, processes: int) -> None:
        """A line that says what runs here."""
        name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or "cpu"
        about = {"srcli": __version__, "torch": torch.__version__, "python": sys.version.split()[0]}
        self._write({"event": "start", "step": step, "device": name, "processes": processes, **about})

    def add(self, progress: Progress) -> None:
        """The line of a step."""
        self._write(asdict(progress))
        if self.board is not None:
            values = {"loss": progress.loss, "lr": progress.lr, "samples/s": progress.samples_per_second}
            for name, value in {**values, **(progress.validation or {})}.items():
                self.board.add_scalar(name, value, progress.step)

    def stop(self, step: int, validation: Mapping[str, float] | None, *, within: bool) -> None:
        """A line that says that this call ends between two measurements, what it measured then, or `within` a step."""
        self._write({"event": "stop", "step": step, "validation": validation, "within_step": within})

    def close(self) -> None:
        """Flush what is not written yet."""
        if self.board is not None:
            self.board.close()

    def _write(self, line: Mapping[str, Any]) -> None:
        try:
            with self.path.open("a", encoding="utf-8") as log:
                log.write(json.dumps(line) + "\n")
        except OSError as error:
            raise write_error(self.path, error) from error

    def _drop_after(self, step: int) -> None:
        if not self.path.exists():
            return
        lines = self.path.read_text("utf-8").splitlines()
        kept = [line for line in lines if _step_of(line) <= step]
        if len(kept) < len(lines):
            write_atomically(self.path, "".join(line + "\n" for line in kept).encode())


def _step_of(line: str) -> float:
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return float("inf")  # half a line, from a process that was killed


def _board(out: Path, step: int) -> SummaryWriter:
    try:
        from torch.utils.tensorboard.writer import SummaryWriter
    except ImportError:
        raise ModelError("--log tensorboard needs it.", hint='pip install "srcli[train]"') from None
    return SummaryWriter(str(out / "tensorboard"), purge_step=step)


def dump_batches(out: Path, step: int, batches: tuple[Batch, ...]) -> Path | None:
    """Keep the samples of a step that had no finite loss, to look at; None where there is no room for them."""
    import io

    path = out / f"not-finite-step-{step}.pt"
    buffer = io.BytesIO()
    torch.save([tuple(batch[:4]) for batch in batches], buffer)
    try:
        write_atomically(path, buffer.getvalue())
    except ResourceError:
        return None
    return path
