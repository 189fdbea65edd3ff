"""The files of a run, each written whole or not at all, and how a run is found again.

- `config.resolved.json`: every setting
- `trainer.pt`: to resume: weights, their average, optimiser, position
- `last.safetensors`: averaged weights, for `srcli upscale -m`
- `best.safetensors`: those that validated best
- `checkpoints/step_N.safetensors`: the last few
- `log.jsonl`, `model_card.md`, `samples/`
"""

import json
import pickle
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from srcli.config.presets import Part
from srcli.data.photos import Photos
from srcli.errors import ExistsError, NothingToDoError, UsageError, WeightsError
from srcli.files import atomic_write, remove_leftovers, write_error
from srcli.processes import Ranks
from srcli.train.recipe import Recipe
from srcli.train.trainer import Trainer
from srcli.train.validation import METRIC
from srcli.weights.checkpoint import save

STATE = "trainer.pt"
CONFIGURATION = "config.resolved.json"
FOLDER = "checkpoints"


@contextmanager
def locked(out: Path) -> Iterator[None]:
    """Make folder `out` and lock it against other calls. Raises UsageError (it is locked), ResourceError."""
    from filelock import FileLock, Timeout

    try:
        out.mkdir(parents=True, exist_ok=True)
        lock = FileLock(out / ".lock", timeout=0)
        lock.acquire()
    except Timeout:
        raise UsageError(
            f"another process trains in {out}.", hint="Wait for it, or choose another --out."
        ) from None
    except OSError as error:
        raise write_error(out, error) from error
    for folder in (out, out / FOLDER, out / "samples"):
        remove_leftovers(folder)
    try:
        yield
    finally:
        lock.release()


def configuration(recipe: Recipe, photos: Photos, ranks: Ranks) -> dict[str, Any]:
    """Everything that decides the trained weights, as plain values; the same in all processes."""
    own = [(len(photos.train), len(photos.held_out))]
    train, held_out = map(sum, zip(*(ranks.gathered(own) if recipe.split_shards else own), strict=True))
    record = recipe.resolved() | {"photos": {"train": train, "held_out": held_out}, "processes": ranks.world}
    plain: dict[str, Any] = json.loads(json.dumps(record))
    return plain


def check_configuration(record: Mapping[str, Any], recipe: Recipe, run: Path, *, force: bool) -> None:
    """Refuse to continue a run whose configuration is not `record`, unless `force`.

    Settings that are newer than the run's file had their defaults. Raises UsageError (they differ), WeightsError
    (the record is damaged).
    """
    path = run / CONFIGURATION
    if force or not path.exists():
        return
    try:
        old = json.loads(path.read_text("utf-8"))
    except (ValueError, OSError) as error:
        raise WeightsError(f"{path} is damaged: {error}.", hint="Remove it, or use --force.") from None
    defaults = Recipe(recipe.preset, objective=Part("l1")).resolved() | {
        key: record[key] for key in ("photos", "processes")
    }
    changed = _differences(_with_defaults(old, json.loads(json.dumps(defaults))), record)
    if changed:
        raise UsageError(
            f"{run} holds a run with another configuration: {', '.join(changed)}.",
            hint="Use another --out, or --force to continue it with the new one.",
        )


def _with_defaults(old: Any, defaults: Any) -> Any:
    if isinstance(old, dict) and isinstance(defaults, dict):
        return {
            key: _with_defaults(old[key], defaults.get(key)) if key in old else defaults[key]
            for key in {*old, *defaults}
        }
    return old


def _differences(old: Any, new: Any, where: str = "") -> list[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        keys = sorted({*old, *new})
        return [d for k in keys for d in _differences(old.get(k), new.get(k), f"{where}.{k}".lstrip("."))]
    return [] if old == new else [f"{where} {old} -> {new}"]


def find_state(resume: str, out: Path, *, force: bool) -> Path | None:
    """The trainer's state to continue from, if any.

    `resume`: "auto": the run in `out`, if there is one; "no": start anew; otherwise a run's folder or its state. Raises
    ExistsError (`out` holds a run, and another is asked for), NothingToDoError (a path without a state).
    """
    own = out / STATE
    if resume == "auto":
        return own if own.exists() else None
    if resume == "no":
        if own.exists() and not force:
            raise ExistsError(f"{out} holds a run.", hint="Use another --out, or --force to begin it anew.")
        return None
    path = Path(resume) / STATE if Path(resume).is_dir() else Path(resume)
    if not path.is_file():
        raise NothingToDoError(f"there is no run to resume at {path}.")
    if own.exists() and not own.samefile(path) and not force:
        raise ExistsError(f"{out} holds another run.", hint="Use another --out, or --force to replace it.")
    return path


def begin_anew(out: Path) -> None:
    """Remove what an earlier run left in `out`."""
    for name in (STATE, CONFIGURATION, "last.safetensors", "best.safetensors", "log.jsonl", "model_card.md"):
        (out / name).unlink(missing_ok=True)
    for folder in (FOLDER, "samples"):
        shutil.rmtree(out / folder, ignore_errors=True)


def read_state(path: Path, device: torch.device) -> dict[str, Any]:
    """The trainer's state in a file. Raises WeightsError (it is damaged)."""
    try:
        state: dict[str, Any] = torch.load(path, map_location=device, weights_only=True)
    except (RuntimeError, OSError, EOFError, pickle.UnpicklingError) as error:
        raise WeightsError(f"{path} is damaged: {error}.", hint="Remove it to start anew.") from None
    return state


def write_checkpoint(
    trainer: Trainer, out: Path, validation: Mapping[str, float] | None = None, *, keep: int = 3
) -> None:
    """Write weights and the trainer's state, each file atomically; a better measurement also becomes `best`.

    `keep`: how many earlier weights stay. Raises ResourceError (the disk is full or the folder not writable; what was
    there before is still there).
    """
    own = [value for name, value in (validation or {}).items() if name.startswith(METRIC)]
    if own and sum(own) / len(own) > trainer.best:
        trainer.best = sum(own) / len(own)
        save(out / "best.safetensors", trainer.average, trainer.preset, half=True)
    with atomic_write(out / STATE) as file:
        torch.save(trainer.state(), file)
    save(out / "last.safetensors", trainer.average, trainer.preset, half=True)
    if keep:
        name = f"step_{trainer.step:08d}.safetensors"
        save(out / FOLDER / name, trainer.average, trainer.preset, half=True)
    for old in sorted((out / FOLDER).glob("step_*.safetensors"))[: -keep or None]:
        old.unlink(missing_ok=True)
