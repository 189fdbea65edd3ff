"""Which model a picture gets where that depends on the picture: one for clean pictures, or one for damaged ones."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

from srcli.batch.inputs import Source
from srcli.config.presets import Preset
from srcli.degradations.estimate import Damage, judge, measure
from srcli.geometry import Size
from srcli.image.read import read_image
from srcli.resources import input_bytes

if TYPE_CHECKING:
    from srcli.batch.render import Engine
    from srcli.batch.task import Settings, Task

DIGITS = 3


@dataclass
class RealWorld:
    """The model for damaged pictures; can be sent to another process before it is used.

    Attributes:
        preset: the model.
        weights_sha256: gives the hash of its weights.
        load: makes its network on the device that is named.
        engines: networks by device, as they are needed.
    """

    preset: Preset
    weights_sha256: Callable[[], str]
    load: Callable[[str], Engine]
    engines: dict[str, Engine] = field(default_factory=dict)

    def engine(self, device: str) -> Engine:
        """Its network, loaded once."""
        if device not in self.engines:
            self.engines[device] = self.load(device)
        return self.engines[device]


def network_of(task: Task, settings: Settings, engine: Callable[[], Engine]) -> Engine | None:
    """The network for a task, None where none is needed.

    Args:
        task: planned with the same settings.
        settings: what to do.
        engine: gives the network of the model that was asked for.
    """
    if not task.needs_network:
        return None
    other = settings.real_world
    if other is None or task.preset != other.preset:
        return engine()
    return other.engine(str(engine().device))  # where the first one is


def decided(settings: Settings, source: Source, data: bytes | None) -> tuple[Settings, dict[str, Any] | None]:
    """Settings with the model that suits a picture, and what was found; settings as they are where it was not asked.

    Args:
        settings: with `real_world` set where the picture decides.
        source: the input, which is read.
        data: the content of standard input, if that is the source.

    Raises:
        SrcliError: it cannot be read.
    """
    other = settings.real_world
    if other is None:
        return settings, None
    origin = data if source.path is None else source.path
    assert origin is not None  # the caller reads standard input
    frames = "first" if settings.frames == "all" else settings.frames
    image = read_image(
        origin,
        frames=frames,
        max_pixels=settings.max_input_pixels,
        name=source.label,
        in_memory=input_bytes(),
    )
    cover = None if image.alpha is None else image.alpha_strip
    damage = measure(image.strip, Size(*image.size), cover)
    verdict = None if damage is None else judge(damage)
    if verdict is not None and verdict.pick == "real":
        settings = replace(settings, preset=other.preset, weights_sha256=other.weights_sha256)
    if damage is None or verdict is None:
        return settings, {"asked": "auto", "pick": "clean", "looks": None, "confidence": None}
    figures = {name: round(value, DIGITS) for name, value in asdict(damage).items()}
    found = {"asked": "auto"} | asdict(verdict) | {"confidence": round(verdict.confidence, DIGITS)}
    return settings, found | figures


def in_words(found: dict[str, Any], model: str) -> str:
    """What `decided` found, in a line.

    Args:
        found: as it returned it.
        model: name of the model that was picked.
    """
    if found["confidence"] is None:
        return f"too little to measure damage on, taken as clean, by {model}"
    damage = Damage(**{name: found[name] for name in Damage.__dataclass_fields__})
    sure = f"{min(round(100 * found['confidence']), 99)} % sure"
    if found["looks"] == "damaged" and found["pick"] == "clean":
        sure += ", which is not enough"
    return f"{damage}: looks {found['looks']} ({sure}), by {model}"
