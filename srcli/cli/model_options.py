"""Option types of `srcli upscale` on its model: which one, and how it draws and samples."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from srcli.cli.options import DRAW, option

SAMPLE = "Diffusion models"

Model = Annotated[
    str,
    option("--model", "-m", metavar="NAME|FILE", help="A preset, its TOML file, or a safetensors file."),
]
License = Annotated[
    Literal["any", "commercial"],
    option(help="With 'commercial', refuse weights whose licence does not allow commercial use."),
]
Degradation = Annotated[
    Literal["auto", "clean", "real"],
    option(
        help="What the pictures went through: clean leaves them to the model; real takes the one for damaged pictures "
        "(edsr-s-blend-real); auto measures JPEG blocks, noise and blur of each and takes the one that suits.",
    ),
]
Temperature = Annotated[
    str | None,
    option(
        "--temperature",
        "-T",
        metavar="T|auto",
        help="For models with a temperature: 0 is faithful, up to 1 adds detail. "
        "(default: auto, the preset's own for the scale)",
        rich_help_panel=DRAW,
    ),
]
TemperatureMap = Annotated[
    str | None,
    option(
        metavar="auto|FILE",
        help="Less noise on flat areas and clean edges and more in texture, or as a gray picture says: "
        "white is the whole temperature.",
        rich_help_panel=DRAW,
    ),
]
Samples = Annotated[
    int,
    option(
        metavar="N",
        help="Results per input, with seeds counting up; {index} in --name is then their number.",
        rich_help_panel=DRAW,
    ),
]
Diversity = Annotated[
    bool,
    option(
        "--diversity",
        help="How far the samples differ, in 8-bit levels, and a picture of where: 8 shades of gray a level.",
        rich_help_panel=DRAW,
    ),
]
Consistency = Annotated[
    bool,
    option(
        "--consistency/--no-consistency",
        help="Make the result reduce to the input exactly. For inputs that are bicubic reductions.",
        rich_help_panel=DRAW,
    ),
]
SelfEnsemble = Annotated[
    bool,
    option(
        "--tta",
        help="The mean of the results for eight turned and mirrored copies: a little closer, eight times the time.",
        rich_help_panel=DRAW,
    ),
]
Sampler = Annotated[
    str | None,
    option(
        metavar="ddim|ddpm|dpm++|dpm++-sde|unipc|euler",
        help="How is sampled. (default: the model's own, dpm++ as a rule)",
        rich_help_panel=SAMPLE,
    ),
]
Steps = Annotated[
    int | None,
    option(metavar="N", help="Calls of the generator. (default: the model's own)", rich_help_panel=SAMPLE),
]
Eta = Annotated[
    float | None,
    option(metavar="E", help="Fresh noise in the steps of ddim, 0 to 1.", rich_help_panel=SAMPLE),
]
Average = Annotated[
    int,
    option(
        metavar="K",
        help="The mean of K samples: closer to the original, and smoother; K times the time.",
        rich_help_panel=SAMPLE,
    ),
]
Official = Annotated[
    bool,
    option(
        "--official",
        help="Sample as the authors do: their sampler, steps and padding, for comparisons.",
        rich_help_panel=SAMPLE,
    ),
]
Branch = Annotated[
    str | None,
    option(
        metavar="f|p|pf|fp|selected",
        help="The answer of one branch of FPLIA's decoder: f is faithful, p invents most.",
        rich_help_panel=SAMPLE,
    ),
]
Fidelity = Annotated[
    float | None,
    option(
        metavar="F",
        help="For models that restore an enlarged picture: 0 starts from noise alone, near 1 changes little.",
        rich_help_panel=SAMPLE,
        show_default=False,
    ),
]
ColourFix = Annotated[
    Literal["none", "adain", "wavelet", "lowpass"] | None,
    option(
        help="Give the result the colours of the input again: means and deviations (adain), low frequencies "
        "(wavelet), or what it lacks when reduced (lowpass). (default: adain for models that restore, else none)",
        rich_help_panel=SAMPLE,
        show_default=False,
    ),
]
ColourStrength = Annotated[
    float, option(metavar="S", help="How much of the colour fix, 0 to 1.", rich_help_panel=SAMPLE)
]
SelectionStats = Annotated[
    bool,
    option("--selection-stats", help="Which branch answered how many pixels.", rich_help_panel=SAMPLE),
]
SelectionMap = Annotated[
    Path | None,
    option(
        metavar="FILE.png|FOLDER",
        help="The branch of every pixel, in colours.",
        rich_help_panel=SAMPLE,
        show_default=False,
    ),
]
SelectionOverlay = Annotated[
    Path | None,
    option(
        metavar="FILE.png|FOLDER",
        help="The same, half transparent over the result.",
        rich_help_panel=SAMPLE,
        show_default=False,
    ),
]
SelectionScores = Annotated[
    Path | None,
    option(
        metavar="FILE.npy|FOLDER",
        help="The scores of all branches.",
        rich_help_panel=SAMPLE,
        show_default=False,
    ),
]
