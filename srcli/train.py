"""Training: one readable loop. Photos to weights, resumable at any step.

The recipe is LIIF's (random real scales, random queries, L1; Chen et al., CVPR 2021) with a short modern schedule:
Adam, warm-up, cosine decay to zero, an exponential moving average of the weights, bf16 where the processor has it.
"""

from __future__ import annotations

import copy
import io
import json
import math
import pickle
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import Tensor

from srcli.card import model_card
from srcli.data.photos import Photo, Photos, load_photos
from srcli.data.samples import Batch, Sampler, batch_rng
from srcli.errors import UsageError, WeightsError
from srcli.geometry import Size
from srcli.metrics.psnr import psnr
from srcli.models import build, count_parameters
from srcli.models.layers import channels_last
from srcli.models.sr import ImplicitSR
from srcli.objectives import l1
from srcli.recipe import Recipe
from srcli.weights import load_into, read, save, write_atomically

LOG_EVERY = 50  # steps
LOSSES_BEFORE_STOP = 20  # steps in a row without a finite loss


@dataclass
class Progress:
    """What the caller is told after a step."""

    step: int
    loss: float
    lr: float
    samples_per_second: float
    validation: dict[str, float] | None = None


@dataclass
class Limits:
    """Where this call stops; the schedule's length is the recipe's `steps`."""

    steps: int | None = None
    seconds: float | None = None
    started: float = field(default_factory=time.monotonic)

    def reached(self, step: int) -> bool:
        """Whether to stop before step `step`."""
        too_long = self.seconds is not None and time.monotonic() - self.started >= self.seconds
        return too_long or (self.steps is not None and step >= self.steps)


class Trainer:
    """Network, optimiser, average and position of one run."""

    def __init__(self, recipe: Recipe, device: torch.device) -> None:
        torch.manual_seed(recipe.optim.seed)
        self.recipe = recipe
        self.device = device
        self.network = channels_last(build(recipe.preset).to(device))
        self.average: ImplicitSR = copy.deepcopy(self.network).requires_grad_(requires_grad=False)
        trained = [p for p in self.network.parameters() if p.requires_grad]
        self.optimiser = torch.optim.Adam(trained, lr=recipe.optim.lr, betas=recipe.optim.betas, fused=True)
        self.step = 0
        self.best = -math.inf
        self.skipped_in_a_row = 0

    def state(self) -> dict[str, Any]:
        """Everything that a resumed run needs; the data need only the step."""
        return {
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "step": self.step,
            "best": self.best,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue from `state`."""
        self.network.load_state_dict(state["network"])
        self.average.load_state_dict(state["average"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.step, self.best = state["step"], state["best"]

    def start_from(self, weights: Mapping[str, Tensor], where: str) -> None:
        """Take trained weights, perhaps of a shallower encoder; optimiser and schedule start anew."""
        prefix = "encoder."
        encoder = {k.removeprefix(prefix): v for k, v in weights.items() if k.startswith(prefix)}
        grown = self.network.encoder.grown(encoder)
        weights = {k: v for k, v in weights.items() if not k.startswith(prefix)}
        weights |= {prefix + k: v for k, v in grown.items()}
        load_into(self.network, weights, where=where)
        load_into(self.average, weights, where=where)

    def learning_rate(self) -> float:
        """Linear warm-up, then cosine to the end."""
        optim = self.recipe.optim
        if self.step < optim.warmup:
            return optim.lr * (self.step + 1) / optim.warmup
        share = (self.step - optim.warmup) / max(1, optim.steps - optim.warmup)
        return optim.lr_end + (optim.lr - optim.lr_end) * (1 + math.cos(math.pi * share)) / 2

    def train_step(self, batch: Batch) -> float:
        """One update; returns the loss. A step without a finite loss or gradient changes nothing."""
        optim = self.recipe.optim
        mean, std = self.recipe.preset.mean_std
        lr, hr, coord, cell = (part.to(self.device, non_blocking=True) for part in batch[:4])
        shift, spread = (hr.new_tensor(v).reshape(1, 3, 1, 1) for v in (mean, std))
        target = (hr - shift.reshape(1, 1, 3)) / spread.reshape(1, 1, 3)
        for group in self.optimiser.param_groups:
            group["lr"] = self.learning_rate()
        self.optimiser.zero_grad(set_to_none=True)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=optim.precision == "bf16"):
            loss = l1(self.network((lr - shift) / spread, coord, cell), target)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(self.network.parameters(), optim.clip)
        if bool(torch.isfinite(norm)) and bool(torch.isfinite(loss)):
            self.optimiser.step()
            self._average()
            self.skipped_in_a_row = 0
        else:
            self.skipped_in_a_row += 1
        self.step += 1
        return float(loss.detach())

    @torch.no_grad()
    def _average(self) -> None:
        # The ramp lets early averages forget the initial weights.
        decay = min(self.recipe.optim.ema, (1 + self.step) / (10 + self.step))
        averages: list[Tensor] = list(self.average.parameters())
        current: list[Tensor] = list(self.network.parameters())
        torch._foreach_lerp_(averages, current, 1 - decay)

    @torch.no_grad()
    def validate(self, photos: list[Tensor]) -> dict[str, float]:
        """Mean luma PSNR of the averaged weights per scale, on HR crops (3, H, W) uint8."""
        mean, std = (torch.tensor(v).reshape(1, 3, 1, 1).to(self.device) for v in self.recipe.preset.mean_std)
        self.average.eval()
        result = {}
        for scale in self.recipe.validation.scales:
            values = []
            for hr in photos:
                lr, target = reduce_for_validation(hr, scale)
                x = (lr.unsqueeze(0).float().to(self.device) / 255 - mean) / std
                sr = (self.average.render(x, Size(*target.shape[-2:])) * std + mean).clamp(0, 1)
                pair = (t.permute(1, 2, 0).cpu().double().numpy() for t in (sr[0], target / 255))
                values.append(psnr(*pair, shave=math.ceil(scale), luma=True))
            result[f"psnr-y x{scale:g}"] = sum(values) / len(values)
        return result


def reduce_for_validation(hr: Tensor, scale: float) -> tuple[Tensor, Tensor]:
    """LR (3, h, w) uint8 and the HR crop it covers, by Pillow's bicubic."""
    import numpy as np
    from PIL import Image

    h, w = (math.floor(side / scale + 1e-9) for side in hr.shape[-2:])
    hr = hr[:, : round(h * scale), : round(w * scale)]
    image = Image.fromarray(hr.permute(1, 2, 0).numpy()).resize((w, h), Image.Resampling.BICUBIC)
    return torch.from_numpy(np.array(image)).permute(2, 0, 1), hr


def centre_crops(photos: list[Photo], count: int, side: int) -> list[Tensor]:
    """Up to `count` centre crops (3, side, side) uint8, spread evenly over the photos."""
    chosen = photos[:: max(1, len(photos) // max(1, count))][:count]
    crops = []
    for photo in chosen:
        h, w = photo.pixels.shape[:2]
        top, left = max(0, (h - side) // 2), max(0, (w - side) // 2)
        crops.append(
            torch.from_numpy(photo.pixels[top : top + side, left : left + side].copy()).permute(2, 0, 1)
        )
    return crops


@contextmanager
def stop_on_signal() -> Iterator[Callable[[], int | None]]:
    """Inside, SIGINT and SIGTERM only raise a flag; the yielded call returns the signal or None."""
    received: list[int] = []

    def remember(number: int, _frame: FrameType | None) -> None:
        if received:  # the second time it is meant
            raise KeyboardInterrupt
        received.append(number)

    previous = {s: signal.signal(s, remember) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: received[0] if received else None
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def train(
    recipe: Recipe,
    data: list[Path],
    out: Path,
    *,
    device: str = "cpu",
    limits: Limits | None = None,
    save_every: int = 500,
    init: Path | None = None,
    report: Callable[[Progress], None] | None = None,
    notify: Callable[[str], None] = lambda _line: None,
    force: bool = False,
) -> int | None:
    """Train, or continue, the run in folder `out`.

    Writes `config.resolved.json`, `log.jsonl`, `model_card.md`, `trainer.pt` (to resume), `last.safetensors` and
    `best.safetensors` (averaged weights that `srcli upscale -m` takes).

    Args:
        recipe: what is trained, and how.
        data: folders, images or tar shards.
        out: the run's folder.
        device: where.
        limits: where this call stops.
        save_every: steps between checkpoints.
        init: weights to start a new run from.
        report: called after every step.
        notify: called with one line per thing that a person should know.
        force: continue a run whose configuration has changed.

    Returns:
        The signal that ended it, or None.

    Raises:
        UsageError: `out` holds a run with another configuration and `force` is not given.
        NothingToDoError: no photo can be used.
        WeightsError: `init` does not fit, or the trainer state is damaged.
    """
    limits = limits or Limits()
    _check_configuration(recipe, out, force=force)
    photos = load_photos(data, smallest=recipe.data.patch, held_out=recipe.held_out)
    for line in photos.skipped:
        notify(f"skipped {line}")
    notify(f"{len(photos.train)} photos to train on, {len(photos.held_out)} held out")
    trainer = Trainer(recipe, torch.device(device))
    state = out / "trainer.pt"
    if state.exists():
        trainer.restore(_read_state(state, device))
        notify(f"continuing {out} at step {trainer.step}")
    elif init is not None:
        trainer.start_from(read(init), str(init))
    write_atomically(out / "config.resolved.json", json.dumps(recipe.resolved(), indent=2).encode())
    with stop_on_signal() as stopped:
        validation = _loop(trainer, photos, out, limits, save_every, report, stopped)
        parameters = count_parameters(trainer.network)
        card = model_card(recipe, photos, data, trainer.step, validation, parameters)
        write_atomically(out / "model_card.md", card.encode())
        return stopped()


def _check_configuration(recipe: Recipe, out: Path, *, force: bool) -> None:
    resolved = json.dumps(recipe.resolved(), indent=2)
    record = out / "config.resolved.json"
    if record.exists() and record.read_text("utf-8") != resolved and not force:
        changed = _differences(json.loads(record.read_text("utf-8")), json.loads(resolved))
        raise UsageError(
            f"{out} holds a run with another configuration: {', '.join(changed)}.",
            hint="Use another --out, or --force to continue it with the new one.",
        )


def _read_state(path: Path, device: str) -> dict[str, Any]:
    try:
        state: dict[str, Any] = torch.load(path, map_location=device, weights_only=True)
    except (RuntimeError, OSError, EOFError, pickle.UnpicklingError) as error:
        raise WeightsError(f"{path} is damaged: {error}.", hint="Remove it to start anew.") from None
    return state


def _differences(old: Any, new: Any, where: str = "") -> list[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        keys = sorted({*old, *new})
        return [d for k in keys for d in _differences(old.get(k), new.get(k), f"{where}.{k}".lstrip("."))]
    return [] if old == new else [f"{where} {old} -> {new}"]


def _loop(
    trainer: Trainer,
    photos: Photos,
    out: Path,
    limits: Limits,
    save_every: int,
    report: Callable[[Progress], None] | None,
    stopped: Callable[[], int | None],
) -> dict[str, float] | None:
    recipe = trainer.recipe
    sampler = Sampler(photos.train, recipe.data)
    crops = centre_crops(list(photos.held_out), recipe.validation.photos, recipe.validation.crop)
    clock, first = time.monotonic(), trainer.step
    while trainer.step < recipe.optim.steps and not limits.reached(trainer.step) and stopped() is None:
        batch = sampler.batch(recipe.optim.batch, batch_rng(recipe.optim.seed, trainer.step))
        loss = trainer.train_step(batch)
        if trainer.skipped_in_a_row >= LOSSES_BEFORE_STOP:
            raise UsageError(
                f"No finite loss in {LOSSES_BEFORE_STOP} steps up to step {trainer.step}; {out} keeps the last good state.",
                hint="Lower optim.lr, or use optim.precision fp32.",
            )
        speed = (trainer.step - first) * recipe.optim.batch / (time.monotonic() - clock)
        progress = Progress(trainer.step, loss, trainer.learning_rate(), speed)
        if trainer.step % recipe.validation.every == 0 and crops:
            progress = replace(progress, validation=trainer.validate(crops))
        if trainer.step % LOG_EVERY == 0 or trainer.step == first + 1 or progress.validation:
            with (out / "log.jsonl").open("a", encoding="utf-8") as log:
                log.write(json.dumps(asdict(progress)) + "\n")
        if report:
            report(progress)
        if trainer.step % save_every == 0 or progress.validation:
            checkpoint(trainer, out, progress.validation)
    validation = trainer.validate(crops) if crops else None
    checkpoint(trainer, out, validation)
    return validation


def checkpoint(trainer: Trainer, out: Path, validation: Mapping[str, float] | None) -> None:
    """Write weights and trainer state, each file atomically; a better validation also becomes `best`."""
    if validation:
        score = sum(validation.values()) / len(validation)
        if score > trainer.best:
            trainer.best = score
            save(out / "best.safetensors", trainer.average, trainer.recipe.preset, half=True)
    save(out / "last.safetensors", trainer.average, trainer.recipe.preset, half=True)
    buffer = io.BytesIO()
    torch.save(trainer.state(), buffer)
    write_atomically(out / "trainer.pt", buffer.getvalue())
