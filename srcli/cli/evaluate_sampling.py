"""The options of `srcli eval` that only diffusion models have, for several models at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from srcli.errors import UsageError
from srcli.presets import Preset
from srcli.sampling import (
    SELECTIVE_DECODERS,
    Sampling,
    checked_steps,
    choose_sampling,
    is_sampled,
    parse_branch,
)

if TYPE_CHECKING:
    from srcli.evaluate import Model


@dataclass(frozen=True)
class SamplingWords:
    """What was typed; it holds for those of the models that are diffusion models.

    Attributes:
        sampler: a name, or None.
        eta: a number, or None.
        average: how many samples.
        official: as the authors do.
        steps_words: numbers with commas.
        branch_words: names with commas.
        selection: whether choices are counted.
    """

    sampler: str | None
    eta: float | None
    average: int
    official: bool
    steps_words: str
    branch_words: str
    selection: bool

    @property
    def steps(self) -> list[int]:
        """The numbers of steps.

        Raises:
            UsageError: no whole numbers.
        """
        try:
            return [int(word) for word in self.steps_words.split(",") if word.strip()]
        except ValueError:
            raise UsageError(f"--steps takes whole numbers, got '{self.steps_words}'.") from None

    def of(self, preset: Preset) -> Sampling | None:
        """How a preset is sampled; None for one that samples nothing.

        Raises:
            UsageError: an option makes no sense for it.
        """
        if not is_sampled(preset) or preset.diffusion is None:
            return None
        if self.official and self.steps:
            raise UsageError("--official settles the steps.", hint="Leave out --steps.")
        for count in self.steps:
            checked_steps(count, preset.diffusion)
        return choose_sampling(
            preset, sampler=self.sampler, eta=self.eta, average=self.average, official=self.official
        )

    def branches_of(self, name: str) -> list[str | None]:
        """The branches of a model that are measured, None for the one that it chooses; other models have one.

        Raises:
            UsageError: an unknown branch.
        """
        from srcli.evaluate.models import INTERPOLATIONS
        from srcli.weights.store import resolve

        if not self.branch_words or name in INTERPOLATIONS:
            return [None]
        preset = resolve(name)
        if preset.decoder.name not in SELECTIVE_DECODERS:
            return [None]
        words = [word.strip() for word in self.branch_words.split(",") if word.strip()]
        return [parse_branch(preset, word) for word in words]

    def check(self, models: Sequence[Model], *, tta: bool) -> None:
        """Refuse options that none of the models has a use for.

        Raises:
            UsageError: there is such an option, or two contradict each other.
        """
        given = {
            "--sampler": self.sampler is not None,
            "--eta": self.eta is not None,
            "--average": self.average != 1,
            "--official": self.official,
            "--steps": bool(self.steps_words),
        }
        asked = [option for option, present in given.items() if present]
        if asked and all(model.family != "diffusion" for model in models):
            raise UsageError(f"{asked[0]}: none of these models is a diffusion model.")
        if self.branch_words and all("/" not in model.name for model in models):
            words = {word.strip() for word in self.branch_words.split(",")}
            if words != {"selected"}:
                raise UsageError("--branch: none of these models has branches.")
        if self.selection and tta:
            raise UsageError(
                "--selection-stats: a mean of eight results has no one choice.", hint="Drop --tta."
            )
        if self.selection and not any(getattr(model, "selection", False) for model in models):
            raise UsageError("--selection-stats: none of these models chooses a branch for each pixel.")
        if self.selection and self.average > 1:
            raise UsageError(
                "--selection-stats: a mean of samples has no one choice.", hint="Drop --average."
            )
