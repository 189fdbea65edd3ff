"""Option types of `srcli upscale` on its model: which one, and how it draws and samples."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated, Literal

from srcli.cli.options import DRAW, option
from srcli.config.presets import DEFAULT_PRESET

SAMPLE = "Diffusion models"

draw = partial(option, rich_help_panel=DRAW)
sample = partial(option, rich_help_panel=SAMPLE)

Model = Annotated[
    str | None,
    option(
        "--model",
        "-m",
        metavar="NAME|FILE[@HASH]",
        help="A preset, its TOML file, or a safetensors file; with @ and the first digits of their SHA-256 only these "
        f"weights. (default: {DEFAULT_PRESET})",
    ),
]
License = Annotated[
    Literal["any", "commercial"],
    option(help="With 'commercial', refuse weights whose licence does not allow commercial use."),
]
Degradation = Annotated[
    Literal["auto", "auto:each", "clean", "real"] | None,
    option(
        help="What the pictures went through: clean leaves them to the model; real takes the one for damaged pictures "
        "(real-best); auto measures JPEG blocks, noise and blur and takes the one that suits each folder, or with "
        "auto:each each picture. (default: clean, and damage is told of)",
    ),
]
Restore = Annotated[
    float | None,
    option(
        metavar="S",
        min=0,
        max=1,
        help="How much of the restored picture is taken, from 0 (the faithful one) to 1. (default: 1, with auto less where "
        "damage is slight)",
    ),
]
Temperature = Annotated[
    str | None,
    draw(
        "--temperature",
        "-T",
        metavar="T|auto",
        help="For models with a temperature: 0 is faithful, up to 1 adds detail. "
        "(default: auto, the preset's own for the scale)",
    ),
]
TemperatureMap = Annotated[
    str | None,
    draw(
        metavar="auto|FILE",
        help="Less noise on flat areas and clean edges and more in texture, or as a gray picture says: "
        "white is the whole temperature.",
    ),
]
Samples = Annotated[
    int,
    draw(
        metavar="N", help="Results per input, with seeds counting up; {index} in --name is then their number."
    ),
]
Diversity = Annotated[
    bool,
    draw(
        "--diversity",
        help="How far the samples differ, in 8-bit levels, and a picture of where: 8 shades of gray a level.",
    ),
]
Consistency = Annotated[
    bool,
    draw(
        "--consistency/--no-consistency",
        help="Make the result reduce to the input exactly. For inputs that are bicubic reductions.",
    ),
]
SelfEnsemble = Annotated[
    bool,
    draw(
        "--tta",
        help="The mean of the results for eight turned and mirrored copies: a little closer, eight times the time.",
    ),
]
NoLimit = Annotated[
    bool,
    draw(
        "--no-limit",
        help="For studies: leave a network's own picture as it is, beyond what the input bears out, too.",
    ),
]
Sampler = Annotated[
    str | None,
    sample(
        metavar="ddim|ddpm|dpm++|dpm++-sde|unipc|euler",
        help="How is sampled. (default: the model's own, dpm++ as a rule)",
    ),
]
Steps = Annotated[
    int | None,
    sample(metavar="N", help="Calls of the generator. (default: the model's own)"),
]
Eta = Annotated[
    float | None,
    sample(metavar="E", help="Fresh noise in the steps of ddim, 0 to 1."),
]
Average = Annotated[
    int,
    sample(
        metavar="K", help="The mean of K samples: closer to the original, and smoother; K times the time."
    ),
]
Official = Annotated[
    bool,
    sample("--official", help="Sample as the authors do: their sampler, steps and padding, for comparisons."),
]
Branch = Annotated[
    str | None,
    sample(
        metavar="f|p|pf|fp|selected",
        help="The answer of one branch of FPLIA's decoder: f is faithful, p invents most.",
    ),
]
Fidelity = Annotated[
    float | None,
    sample(
        metavar="F",
        help="For models that restore an enlarged picture: 0 starts from noise alone, near 1 changes little.",
        show_default=False,
    ),
]
ColourFix = Annotated[
    Literal["none", "adain", "wavelet", "lowpass"] | None,
    sample(
        help="Give the result the colours of the input again: means and deviations (adain), low frequencies "
        "(wavelet), or what it lacks when reduced (lowpass). (default: adain for models that restore, else none)",
        show_default=False,
    ),
]
ColourStrength = Annotated[float, sample(metavar="S", help="How much of the colour fix, 0 to 1.")]
SelectionStats = Annotated[
    bool,
    sample("--selection-stats", help="Which branch answered how many pixels."),
]
SelectionMap = Annotated[
    Path | None,
    sample(metavar="FILE.png|FOLDER", help="The branch of every pixel, in colours.", show_default=False),
]
SelectionOverlay = Annotated[
    Path | None,
    sample(metavar="FILE.png|FOLDER", help="The same, half transparent over the result.", show_default=False),
]
SelectionScores = Annotated[
    Path | None,
    sample(metavar="FILE.npy|FOLDER", help="The scores of all branches.", show_default=False),
]
