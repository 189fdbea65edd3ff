"""What was probably meant: natural mistakes of a command line, each answered in a line that names the next step."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from srcli.errors import UsageError

NUMBER = re.compile(r"\d+(?:[.,]\d+)?(?:x|×|%)?")
MEANT = {  # options of other programs, and what does the same here
    "--outscale": "--scale", "--upscale": "--scale", "--zoom": "--scale", "--factor": "--scale", "-x": "--scale",
    "--resolution": "--width and --height", "--size": "--width and --height", "--resize": "--width and --height",
    "-w": "--width (-W)", "--longest-side": "--max-side", "--mp": "--megapixels", "--dpi": "--print 30x40cm@300dpi",
    "--out": "--output", "--outdir": "--output", "--out-dir": "--output", "--destination": "--output",
    "--suffix": "--name '{stem}_big{ext}'", "--prefix": "--name 'big_{stem}{ext}'", "--ext": "--format",
    "--denoise": "--degradation real", "--noise": "--degradation real", "--deblur": "--degradation real",
    "--restoration": "--degradation real", "--enhance": "--degradation real", "--sharpen": "--degradation real",
    "--jpeg-quality": "--quality", "--depth": "--bit-depth", "--bits": "--bit-depth", "--strip": "--metadata strip",
    "--exif": "--metadata keep", "--no-exif": "--metadata strip", "--no-metadata": "--metadata strip",
    "--gpu": "--device cuda", "-g": "--device cuda", "--cuda": "--device cuda", "--cpu": "--device cpu",
    "--devices": "--device", "--fp16": "--precision fp16", "--fp32": "--precision fp32", "--half": "--precision fp16",
    "--tile-size": "--tile", "--tile-pad": "--tile, which leaves no seams", "--tile-overlap": "--tile, which leaves no seams",
    "--jobs": "--workers", "-j": "--workers", "--threads": "--workers", "--force": "--overwrite", "-y": "--overwrite",
    "--yes": "--overwrite", "--skip": "--skip-existing", "--no-overwrite": "--skip-existing", "--silent": "--quiet",
    "--model-name": "--model", "-n": "--model", "--network": "--model", "--weights": "--model", "--preset": "--model",
    "--plugin": "srcli --plugin FILE.py, and the command behind it", "--before": "--model BEFORE.pth+MODEL",
    "--list-models": "srcli models list", "--test": "--dry-run", "--dryrun": "--dry-run", "--simulate": "--dry-run",
    "--animation": "--frames all", "--ensemble": "--finish tta", "--face-enhance": "--degradation real, faces and all",
}  # fmt: skip
COMMANDS = {
    "enlarge": "upscale", "resize": "upscale", "scale": "upscale", "up": "upscale", "run": "upscale", "sr": "upscale",
    "evaluate": "eval", "test": "eval", "measure": "eval", "benchmark": "bench", "benchmarks": "bench",
    "sweep": "sweep-temperature", "fit": "train", "diff": "compare", "list": "models list", "model": "models",
    "download": "models pull", "pull": "models pull", "presets": "models list", "help": "--help", "version": "--version",
    "check": "doctor", "show": "info", "identify": "info", "dataset": "data",
}  # fmt: skip
DEVICES = ("gpu", "nvidia", "vulkan", "opencl", "metal", "apple", "amd", "rocm", "intel")


def typed_value(args: Sequence[str], *names: str) -> str | None:
    """What was typed last as the value of an option, None where it was not named."""
    found = None
    for at, word in enumerate(args):
        name, equals, value = word.partition("=")
        if name in names:
            found = value if equals else args[at + 1] if at + 1 < len(args) else None
        elif len(word) > 2 and word[:2] in names and word[1] != "-":
            found = word[2:]
    return found


def check_for_mistakes(args: Sequence[str], command: Any) -> None:
    """Refuse words that are taken for something else than was meant, before any work.

    Raises UsageError (with what was probably meant).
    """
    device = typed_value(args, "-d", "--device")
    if device is not None and (device.lower() in DEVICES or device.isdecimal()):
        number = f":{device}" if device.isdecimal() else ""
        raise UsageError(
            f"no device '{device}'.",
            hint=f"Did you mean --device cuda{number} (NVIDIA, AMD), mps (Apple) or xpu (Intel)? See: srcli doctor",
        )
    if command.name != "upscale":
        return
    for before, word in zip(("", *args), args, strict=False):
        if not NUMBER.fullmatch(word) or Path(word).exists():
            continue
        if before == "-q":
            raise UsageError(f"-q is --quiet and takes no {word}.", hint=f"Did you mean --quality {word}?")
        if not before.startswith("-") or before in _switches(command):
            raise UsageError(f"'{word}' is no file.", hint=f"Did you mean --scale {word}?")


def _switches(command: Any) -> set[str]:
    flags = [each for each in command.params if getattr(each, "is_flag", False)]
    return {word for each in flags for word in (*each.opts, *each.secondary_opts)}


def as_usage(error: Any, ctx: Any, args: Sequence[str]) -> UsageError:
    """What Typer says of wrong usage, in our words and with the next step."""
    context = error.ctx or ctx
    path = context.command_path
    see = f"See: {path} --help"
    name, param = getattr(error, "option_name", None), getattr(error, "param", None)
    if name is not None and "requires an argument" in error.message:
        example = (
            next((each.metavar for each in context.command.params if name in each.opts), "") or "a value"
        )
        return UsageError(f"{name} needs a value: {example}.", hint=see)
    if name is not None:
        return _no_option(name, context, see)
    if param is None:
        return UsageError(error.message[:1].lower() + error.message[1:].rstrip(".") + ".", hint=see)
    what = param.metavar or param.name
    if type(error).__name__ == "MissingParameter":
        kind = "" if param.param_type_name == "argument" else f"{param.opts[-1]} "
        return UsageError(f"{kind}{what} is missing.", hint=see)
    long = next((word for word in param.opts if word.startswith("--")), what)
    typed = typed_value(args, *param.opts)
    got = "" if typed is None else f", got '{typed}'"
    choices = _choices(context.command.kinds[param.name][0])
    close = difflib.get_close_matches((typed or "").lower(), choices, n=1)
    hint = f"Did you mean {close[0]}?" if close else None
    return UsageError(f"{long} takes {_wanted(param, choices)}{got}.", hint=hint)


def _no_option(name: str, context: Any, see: str) -> UsageError:
    known = [
        word
        for each in context.command.params
        for word in (*each.opts, *each.secondary_opts)
        if word[:2] == "--"
    ]
    plain = name.replace("_", "-").lower()
    meant = MEANT.get(plain)
    if plain in known:
        meant = plain
    elif meant is None or not (meant.split()[0].rstrip(",") in known or meant.startswith("srcli")):
        meant = next(iter(difflib.get_close_matches(plain, known, n=1, cutoff=0.7)), None)
    return UsageError(f"no option {name}.", hint=see if meant is None else f"Did you mean {meant}?")


def no_command(args: Sequence[str], context: Any) -> UsageError:
    """The error for a first word that is no command, with what was probably meant."""
    known, path, word = list(context.command.commands), context.command_path, args[0]
    what = f"no command '{word}'."
    if context.parent is None and (Path(word).suffix or Path(word).exists()):
        return UsageError(what, hint=f"Did you mean: {path} upscale {' '.join(args)}")
    close = COMMANDS.get(word) if context.parent is None else None
    close = close or next(iter(difflib.get_close_matches(word, known, n=1)), None)
    return UsageError(
        what, hint=f"Did you mean: {path} {close}" if close else f"There are {', '.join(known)}."
    )


def _choices(kind: Any) -> list[str]:
    if get_origin(kind) is Literal:
        return list(get_args(kind))
    return [choice for part in get_args(kind) for choice in _choices(part)]


def _wanted(param: Any, choices: list[str]) -> str:
    if len(choices) > 1:
        return f"{', '.join(choices[:-1])} or {choices[-1]}"
    low, high = getattr(param, "min", None), getattr(param, "max", None)
    kind = choices[0] if choices else "a number" if isinstance(high, float) else "a whole number"
    return kind if low is None else f"{kind} from {low} {'on' if high is None else f'to {high}'}"
