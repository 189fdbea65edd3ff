"""Which model a picture gets where that depends on the picture, and how much of a restoring one's picture is taken."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from srcli.batch.inputs import Source
from srcli.batch.loading import Model
from srcli.degradations.estimate import Damage, Verdict, judge, measure, verdict_of
from srcli.engine.request import PLAIN, Rendered, RenderRequest
from srcli.errors import SrcliError
from srcli.geometry import Size
from srcli.image.probe import Header, probe
from srcli.image.read import Image, read_image
from srcli.resources import input_bytes

if TYPE_CHECKING:
    from srcli.batch.job import Job, Settings
    from srcli.batch.render import Engine

NOTICE = (
    "looks damaged: --degradation real repairs noise, blocks and blur, slowly; auto decides for each folder"
)
DIGITS = 3
MAX_MEASURED = 9  # pictures of a folder that are measured
CLEAN_QUALITY = 90  # of JPEG: from here on it counts as clean


@dataclass
class RealWorld:
    """The model for damaged pictures. The pictures of each of `folders` share a verdict; without folders each has its own."""

    model: Model
    folders: Mapping[Path, tuple[Path, ...]] = field(default_factory=dict)
    verdicts: dict[Path, tuple[Verdict | None, int]] = field(default_factory=dict)


def shared_folders(sources: Sequence[Source]) -> dict[Path, tuple[Path, ...]]:
    """The pictures of each folder that has several."""
    folders: dict[Path, list[Path]] = {}
    for source in sources:
        if source.path is not None:
            folders.setdefault(source.path.parent, []).append(source.path)
    return {folder: tuple(paths) for folder, paths in folders.items() if len(paths) > 1}


def network_of(job: Job, settings: Settings, engine: Callable[[], Engine]) -> Engine | None:
    """The network for a job, None where none is needed; `engine` gives that of the model that was asked for."""
    if not job.needs_network:
        return None
    other, faithful, share = settings.real_world, settings.faithful, job.restore
    own = engine()
    if other is None and faithful is None:
        return own
    device = str(own.device)  # others come to where the first one is
    chosen = own if other is None or job.preset != other.model.preset else other.model.engine(device)
    if share is None or share == 1 or faithful is None:
        return chosen
    plain = own if faithful.preset == settings.model.preset else faithful.engine(device)
    return Blended(plain, chosen, share)


class Blended:
    """An engine that gives the pictures of two, mixed: `share` of the restoring one's; neither draws noise."""

    selects = samples_pixels = False
    branches: tuple[str, ...] = ()

    def __init__(self, faithful: Engine, restoring: Engine, share: float) -> None:
        self.faithful, self.restoring, self.share = faithful, restoring, share
        self.device, self.precision = restoring.device, restoring.precision

    def upscale_rows(self, source: Any, target: Size, request: RenderRequest = PLAIN) -> Rendered:
        """Rows are floats."""
        if self.share == 0:
            return self.faithful.upscale_rows(source, target, RenderRequest(report=request.report))
        plain = self.faithful.upscale_rows(source, target)
        restored = self.restoring.upscale_rows(source, target, RenderRequest(report=request.report))
        return Rendered(self._mixed(plain.rows, restored.rows), restored.stats)

    def _mixed(self, plain: Iterator[np.ndarray], restoring: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
        held = np.empty((0, 1, 3), np.float32)
        for restored in restoring:
            while len(held) < len(restored):
                held = np.concatenate([held, next(plain)]) if len(held) else next(plain)
            own, held = held[: len(restored)], held[len(restored) :]
            yield own + np.float32(self.share) * (restored - own)


def choose_model(
    settings: Settings, other: RealWorld, source: Source, header: Header, read: Callable[[], Image]
) -> tuple[Settings, dict[str, Any]]:
    """Settings with the model that suits a picture, the chosen one or the `other`, and what was found."""
    asked = {"asked": "auto" if other.folders else "auto:each", "pick": "clean"}
    nothing = asked | {"looks": None, "confidence": None}
    if why := counts_as_clean(header):
        return settings, nothing | {"why": why}
    folder = None if source.path is None else source.path.parent
    about: dict[str, Any] = {}
    if folder is not None and folder in other.folders:
        if folder not in other.verdicts:
            other.verdicts[folder] = _verdict_of_folder(other.folders[folder], settings)
        verdict, count = other.verdicts[folder]
        about = {"measured": count, "pictures": len(other.folders[folder])}
    else:
        damage = _damage_of(read())
        verdict = None if damage is None else judge(damage, header.quality)
        about = {} if damage is None else {key: round(value, DIGITS) for key, value in asdict(damage).items()}
    if verdict is None:
        return settings, nothing
    found = asked | asdict(verdict) | {"confidence": round(verdict.confidence, DIGITS)} | about
    if verdict.pick == "real":
        share = verdict.share if settings.restore is None else settings.restore
        settings = replace(settings, model=other.model, restore=round(share, 2))
    return settings, found


def counts_as_clean(header: Header) -> str | None:
    """Why a picture is never taken for damaged, if that is so: photographers do not deliver damaged ones like that."""
    if header.depth != "8":
        return f"{header.bits} bits"
    if header.format == "tiff":
        return "TIFF"
    if header.quality is not None and header.quality >= CLEAN_QUALITY:
        return f"JPEG of quality {header.quality}"
    return None


def _damage_of(image: Image) -> Damage | None:
    cover = None if image.alpha is None else image.alpha_strip
    return measure(image.strip, image.size, cover)


def _verdict_of_folder(paths: tuple[Path, ...], settings: Settings) -> tuple[Verdict | None, int]:
    """The verdict by the median of some of a folder's pictures, and how many; those that cannot be read are passed over."""
    odds = []
    for path in paths[:: -(-len(paths) // MAX_MEASURED)]:
        with suppress(SrcliError, OSError):
            header = probe(path, frames="first")
            if counts_as_clean(header) is not None:
                continue
            frames = "first" if settings.frames == "all" else settings.frames
            limit = settings.max_input_pixels
            image = read_image(path, frames=frames, max_pixels=limit, in_memory=input_bytes())
            if (damage := _damage_of(image)) is not None:
                odds.append(judge(damage, header.quality).odds)
    return (verdict_of(float(np.median(odds))) if odds else None), len(odds)


def describe(found: dict[str, Any], model: str, share: float | None) -> str:
    """What `choose_model` found, in a line, with the model that was picked and the share of its picture."""
    if "why" in found:
        return f"{found['why']}: taken as clean, by {model}"
    if found["confidence"] is None:
        return f"too little to measure damage on, taken as clean, by {model}"
    sure = f"{min(round(100 * found['confidence']), 99)} % sure"
    if found["looks"] == "damaged" and found["pick"] == "clean":
        sure += ", which is not enough"
    by = f"by {model}" if share in (None, 1) else f"by {model}, {share:g} of it"
    if "measured" in found:
        return f"its folder looks {found['looks']} ({found['measured']} of {found['pictures']} measured; {sure}), {by}"
    damage = Damage(**{name: found[name] for name in Damage.__dataclass_fields__})
    return f"{damage}: looks {found['looks']} ({sure}), {by}"


def is_surely_damaged(image: Image, job: Job, settings: Settings) -> bool:
    """Whether a picture that nobody asked about is surely damaged."""
    if not settings.notice or not job.needs_network or counts_as_clean(job.header) is not None:
        return False
    damage = _damage_of(image)
    return damage is not None and judge(damage, job.header.quality).pick == "real"
