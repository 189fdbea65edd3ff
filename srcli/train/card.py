"""Model cards: what weights are, what they saw, how they were trained, what was measured."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from srcli import __version__
from srcli.data.photos import Photos
from srcli.train.recipe import OptimSettings, Recipe


def model_card(
    recipe: Recipe,
    photos: Photos,
    taught: Sequence[str],
    step: int,
    validation: Mapping[str, float] | None,
    parameters: int,
) -> str:
    """The card of a run as Markdown; `taught` says by what, `validation` is PSNR in dB by scale on the held-out photos."""
    preset, optim = recipe.preset, recipe.optim
    pixels = sum(photo.pixels.shape[0] * photo.pixels.shape[1] for photo in photos.train) / 1e6
    given = recipe.objective.args
    # Of a backbone's file the name: its folder is nobody's business.
    files = {key: Path(value).name for key, value in given.items() if key == "weights"}
    settings = "".join(f" {key}={value}" for key, value in {**given, **files}.items())
    objective = f"objective {recipe.objective.name}{settings}"
    optimiser = {"adam": "Adam", "adamw": "AdamW", "adamw-8bit": "AdamW in 8 bits"}[optim.optimiser]
    decay = "cosine decay" if optim.decay == "cosine" else f"x{optim.factor:g} at {list(optim.milestones)}"
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
        f"- Recipe: {step} of {optim.steps} steps, batch {_batch(optim)}, LR patch {recipe.data.patch}, "
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


def _batch(optim: OptimSettings) -> str:
    return f"{optim.batch}" if optim.accumulate == 1 else f"{optim.accumulate}x{optim.batch}"
