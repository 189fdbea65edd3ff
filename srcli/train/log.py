"""The log of a run (JSON lines, TensorBoard if wanted), its model card, and how a run is stopped."""

from __future__ import annotations

import json
import platform
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from srcli import __version__
from srcli.data.photos import Photos
from srcli.data.samples import Batch
from srcli.errors import ModelError, ResourceError
from srcli.files import write_atomically, write_error
from srcli.processes import ENDING
from srcli.train.recipe import Recipe

if TYPE_CHECKING:
    from torch.utils.tensorboard.writer import SummaryWriter

LOG = "log.jsonl"


class RunLog:
    """The log of a run in folder `out`: `log.jsonl`, and TensorBoard's files in `tensorboard/`.

    Lines of steps after `step`, which a killed process may have left, are dropped. Raises ModelError (TensorBoard is
    not installed), ResourceError (the folder cannot be written).
    """

    def __init__(self, out: Path, step: int, *, tensorboard: bool = False) -> None:
        self.path = out / LOG
        self._drop_after(step)
        self.board: SummaryWriter | None = _board(out, step) if tensorboard else None

    def start(self, step: int, device: torch.device, processes: int) -> None:
        name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or "cpu"
        about = {"srcli": __version__, "torch": torch.__version__, "python": sys.version.split()[0]}
        self._write({"event": "start", "step": step, "device": name, "processes": processes, **about})

    def add(self, progress: Progress) -> None:
        self._write(asdict(progress))
        if self.board is not None:
            values = {"loss": progress.loss, "lr": progress.lr, "samples/s": progress.samples_per_second}
            for name, value in {**values, **(progress.validation or {})}.items():
                self.board.add_scalar(name, value, progress.step)

    def stop(self, step: int, validation: Mapping[str, float] | None, *, within: bool) -> None:
        """Log that this call ends between two measurements, perhaps `within` a step, and what it measured then."""
        self._write({"event": "stop", "step": step, "validation": validation, "within_step": within})

    def close(self) -> None:
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
    """Keep the samples of a step without a finite loss for inspection; None if the disk is full."""
    import io

    path = out / f"not-finite-step-{step}.pt"
    buffer = io.BytesIO()
    torch.save([tuple(batch[:4]) for batch in batches], buffer)
    try:
        write_atomically(path, buffer.getvalue())
    except ResourceError:
        return None
    return path


@dataclass
class Progress:
    """What `report` gets after a step."""

    step: int  # how many are done
    loss: float  # of this step; the sum where an objective has several
    lr: float  # learning rate of the next step
    samples_per_second: float  # of this call, over all processes
    data_share: float = 0.0  # share of the time that was spent waiting for samples
    skipped: int = 0  # steps of this call without a finite loss, which changed nothing
    validation: dict[str, float] | None = None  # PSNR in dB by scale, where this step was measured


@dataclass
class Limits:
    """When this call stops; the length of the learning-rate schedule stays the recipe's `steps`."""

    steps: int | None = None
    seconds: float | None = None
    started: float = field(default_factory=time.monotonic)

    def reached(self, step: int) -> bool:
        """Whether to stop before step `step`."""
        return self.out_of_time() or (self.steps is not None and step >= self.steps)

    def out_of_time(self) -> bool:
        """Whether to stop at once, also within a step."""
        return self.seconds is not None and time.monotonic() - self.started >= self.seconds


class StoppedError(Exception):
    """A pass is given up because the time is over or a signal came."""


class CheckedWithin(TorchFunctionMode):
    """Calls `check` before every operation of a forward pass and after it in the backward pass, so that it can end them.

    A backward pass is one call that can take minutes, in which a signal only sets a flag.
    """

    def __init__(self, check: Callable[[], None]) -> None:
        self.check = check

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        self.check()
        result = func(*args, **(kwargs or {}))
        if isinstance(result, Tensor) and result.grad_fn is not None:
            result.register_hook(self._back)
        return result

    def _back(self, _gradient: Tensor) -> None:
        self.check()


@contextmanager
def stop_on_signal() -> Iterator[Callable[[], int | None]]:
    """Inside, SIGINT, SIGTERM and SIGHUP only set a flag; the yielded function returns the signal or None.

    A second signal acts as it would outside; one that was ignored before (`nohup`) stays ignored.
    """
    received: list[int] = []

    def remember(number: int, _frame: FrameType | None) -> None:
        if received:
            restore()
            signal.raise_signal(number)
        received.append(number)

    def restore() -> None:
        for number, handler in previous.items():
            signal.signal(number, handler)

    previous = {s: signal.getsignal(s) for s in ENDING if signal.getsignal(s) is not signal.SIG_IGN}
    for number in previous:
        signal.signal(number, remember)
    try:
        yield lambda: received[0] if received else None
    finally:
        restore()


def model_card(
    recipe: Recipe,
    photos: Photos,
    taught: Sequence[str],
    step: int,
    validation: Mapping[str, float] | None,
    parameters: int,
) -> str:
    """The model card as Markdown; `taught` lists data and teachers, `validation` is PSNR in dB by scale."""
    preset, optim = recipe.preset, recipe.optim
    pixels = sum(photo.pixels.shape[0] * photo.pixels.shape[1] for photo in photos.train) / 1e6
    given = recipe.objective.args
    # Only the name of a backbone's file: paths are private.
    files = {key: Path(value).name for key, value in given.items() if key == "weights"}
    settings = "".join(f" {key}={value}" for key, value in {**given, **files}.items())
    objective = f"objective {recipe.objective.name}{settings}"
    optimiser = {"adam": "Adam", "adamw": "AdamW", "adamw-8bit": "AdamW in 8 bits"}[optim.optimiser]
    decay = "cosine decay" if optim.decay == "cosine" else f"x{optim.factor:g} at {list(optim.milestones)}"
    batch = f"{optim.batch}" if optim.accumulate == 1 else f"{optim.accumulate}x{optim.batch}"
    photographs = len(Counter(photo.photograph for photo in photos.train))
    lines = [
        f"# {preset.title}",
        "",
        f"- Network: encoder {preset.encoder.name} {preset.encoder.args}, decoder {preset.decoder.name} "
        f"{preset.decoder.args}; {parameters:,} parameters.",
        f"- Licence of the weights: {preset.weights.license}.",
        f"- Data: {'; '.join(taught)}; {len(photos.train)} images of {photographs} "
        f"photographs, {pixels:.0f} megapixels; {len(photos.held_out)} images held out"
        + ("; counted in the first process's share of the files." if recipe.split_shards else "."),
        f"- Recipe: {step} of {optim.steps} steps, batch {batch}, LR patch {recipe.data.patch}, "
        f"{recipe.data.queries} queries, scales {recipe.scale_schedule}, {objective}, {optimiser} {optim.lr:g} with "
        f"{decay}, EMA {optim.ema:g}, {optim.precision}, seed {optim.seed}.",
        f"- Made with srcli {__version__} (`srcli train`); the weights are the "
        + ("averaged ones." if optim.ema else "last ones."),
    ]
    if validation:
        lines += [
            "",
            "Held-out photos (sets by name: their pictures), luma PSNR of float pictures, border = scale, Pillow bicubic "
            "reduction where no LR files are given:",
            "",
            "| " + " | ".join(validation) + " |",
            "|" + "---|" * len(validation),
            "| " + " | ".join(f"{value:.2f} dB" for value in validation.values()) + " |",
        ]
    return "\n".join(lines) + "\n"
