"""`srcli models`: what can be named, and where its weights are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from json import dumps
from pathlib import Path
from typing import Any, Literal

import typer

from srcli.cli import options
from srcli.cli.command import App, argument, option
from srcli.cli.console import print_columns, print_wrapped, say
from srcli.cli.export import export
from srcli.cli.options import current
from srcli.cli.pull import pack, print_installed, pull, push, split_bases
from srcli.config.base_models import base_names, find_base, load_base, locate_base
from srcli.config.presets import DEFAULT_PRESET, Preset, list_presets, preset_folders
from srcli.errors import PresetError, UsageError, WeightsError

app = App("List, inspect, fetch, check, convert and export models.")


@app.command("list")
def list_models(
    everything: bool = option("Published networks without weights here, too.", "--all"),
    license_id: str | None = option(
        "Only models whose weights file allows this: 'commercial', or an SPDX identifier. What taught them is another "
        "matter, and is shown.",
        "--license LICENCE",
    ),
    data: Literal["open"] | None = option(
        "Only models that open photographs alone have taught, teachers included."
    ),
    json: options.Json = False,
) -> None:
    """Models that can be used, the default first: what for, size, licence, speed and fidelity."""
    from srcli.weights.description import allowed, describe
    from srcli.weights.files import as_filed, imported_files, resolve

    presets = [*map(as_filed, list_presets()), *(resolve(path.stem) for path in imported_files())]
    rows = [describe(preset) for preset in presets]
    rows = [row for row in rows if allowed(row["license"], license_id) and (row["open_data"] or data is None)]
    if json:
        print(dumps(rows, indent=2))
        return
    usable = sorted((row for row in rows if row["available"]), key=_rank)
    others = [row for row in rows if not row["available"]]
    filtered = bool(license_id or data)
    if usable:
        print_columns([("  NAME", "SIZE", "LICENCE", "S/MP", "DB", "FOR"), *map(_usable_row, usable)])
        print()
        print_wrapped(
            "*: the default. S/MP: seconds on a CPU for a megapixel at x4; DB: luma PSNR on Set5 x4. Use one: -m NAME; "
            "more of one: srcli models info NAME"
        )
    if everything or filtered:
        _print_others(others)
    elif others:
        print_wrapped(f"{len(others)} networks have no weights here: srcli models list --all")
    if filtered and rows:
        print()
        print_columns([("NAME", "TAUGHT BY"), *((row["name"], row["data"] or "not stated") for row in rows)])
    elif everything:
        print("\nbase models, which presets such as lgcaa stand on:")
        print_columns(_base_rows())


def _rank(model: dict[str, Any]) -> tuple[Any, ...]:
    return (model["name"] != DEFAULT_PRESET, not model["bundled"], model["experimental"], model["name"])


def _usable_row(model: dict[str, Any]) -> tuple[str, ...]:
    return (
        f"{'*' if model['name'] == DEFAULT_PRESET else ' '} {model['name']}",
        _size(model["size"]),
        model["license"],
        _figure(model["cpu_seconds_per_megapixel"]),
        _figure(model["psnr_y"].get("set5", {}).get("4")),
        (model["purpose"] or model["title"]) + (", experimental" if model["experimental"] else ""),
    )


def _print_others(models: Sequence[dict[str, Any]]) -> None:
    """Networks without weights here, by the family of their encoders."""
    rows = []
    for family in dict.fromkeys(model["encoder"] for model in models):
        rows.append((f"{family}:", "", "", "", ""))
        for model in (each for each in models if each["encoder"] == family):
            params = "-" if model["params"] is None else f"{model['params'] / 1e6:.2f} M"
            scales = "{:g}-{:g}".format(*model["scales"])
            rows.append((f"  {model['name']}", params, scales, model["license"], _state(model)))
    if rows:
        print()
        print_columns([("NETWORKS", "PARAMS", "SCALES", "LICENCE", "WEIGHTS"), *rows])


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _state(model: dict[str, Any]) -> str:
    if model["bundled"]:
        return "bundled"
    if model["available"]:
        return "here"
    return "models pull" if model["published"] else "none published"


def _size(size: int | None) -> str:
    return "-" if size is None else f"{size / 1e6:.1f} MB"


@app.command()
def info(
    name: str = argument("A preset, its TOML file, or a weights file.", "NAME"), json: options.Json = False
) -> None:
    """Network, training, licence, source and reported figures of one model."""
    from srcli.weights.description import describe, looked_into, part, temperatures
    from srcli.weights.files import known_hash, locate, resolve

    preset = looked_into(resolve(current(name)))
    if preset.folder != preset_folders()[-1]:  # what comes with the package is right, and torch takes seconds
        from srcli.weights.build import check_parts

        try:
            check_parts(preset)
        except PresetError as error:
            if Path(name).suffix != ".safetensors":
                raise
            what = f"the preset inside {name} describes no network: {error}"
            raise WeightsError(what, hint="Get the file again, or a newer srcli.") from error
    model = describe(preset)
    path = locate(preset)
    digest = preset.weights.sha256 if path is None else known_hash(preset, path)
    if json:
        print(dumps({**model, "sha256": digest, "preset": preset.to_dict()}, indent=2))
        return
    low, high = preset.scales.trained
    facts = {
        "model": f"{preset.name}  ({preset.title})",
        "encoder": part(preset.encoder.name, preset.encoder.args),
        "decoder": part(preset.decoder.name, preset.decoder.args),
        "parameters": "not stated" if preset.params is None else f"{preset.params:,}",
        "trained scales": f"{low:g} to {high:g}",
        "temperature": temperatures(preset),
        "weights": _state(model) + (f", {_size(model['size'])}" if model["size"] else ""),
        "file": str(path) if path else None,
        "sha256": digest,
        "licence": f"weights {preset.weights.license}, code {preset.code_license or 'unstated'}",
        "source": "  ".join(preset.weights.links) or preset.weights.note,
        "recipe": preset.training.recipe,
        "data": (preset.training.data or "not stated")
        + (" (open photographs alone)" if preset.training.open_data else ""),
        "paper": preset.paper,
        "code": preset.origin,
        "advice": preset.engine.advice,
    }
    print_columns([(f"{key}:", value) for key, value in facts.items() if value])
    _print_reported(preset)


def _print_reported(preset: Preset) -> None:
    if not preset.reported:
        return
    metrics = [m for m in ("psnr", "psnr_y", "ssim", "lpips") if any(getattr(r, m) for r in preset.reported)]
    rows = [("benchmark", "scale", *metrics, "source")]
    for row in preset.reported:
        figures = [getattr(row, metric) for metric in metrics]
        shown = ["-" if value is None else f"{value:g}" for value in figures]
        rows.append((row.benchmark, f"x{row.scale:g}", *shown, row.source or "-"))
    print("\nfigures, by source:")
    print_columns(rows)


@app.command()
def path(name: str | None = argument("A model; without it, the folder of models.", "[NAME]")) -> None:
    """Where the weights of a model are, or the folder that `pull` and `import` write to."""
    from srcli.weights.files import find, models_folder, resolve

    if name in base_names():
        print(find_base(name))
    else:
        print(models_folder() if name is None else find(resolve(name)))


@app.command()
def verify(
    names: list[str] | None = argument("Models or base models; without any, all that are here.", "[NAME]..."),
) -> None:
    """Hash weights files, base models' too, again and compare; exit code 7 if one is not what it should be."""
    from srcli.errors import CheckError
    from srcli.files import sha256
    from srcli.weights.download import base_verdicts
    from srcli.weights.files import find, imported_files, known_hash, locate, resolve

    bases, others = (
        split_bases(names) if names else ([name for name in sorted(base_names()) if locate_base(name)], [])
    )
    if not names:
        others = [*(p.name for p in list_presets() if locate(p)), *(path.stem for path in imported_files())]
    presets = [resolve(name) for name in others]
    rows, wrong = base_verdicts(bases)
    for preset in presets:
        file = find(preset)
        found, wanted = sha256(file), known_hash(preset, file)
        verdict = "no hash recorded" if wanted is None else "ok" if wanted == found else "WRONG"
        wrong += [preset.name] if verdict == "WRONG" else []
        rows.append((preset.name, verdict, found, str(file)))
    print_columns(rows)
    if wrong:
        raise CheckError(
            f"not the file it should be: {', '.join(wrong)}.",
            hint="Delete it and get it again (models pull).",
        )


@app.command()
def rm(
    names: list[str] = argument("Models or base models whose weights are removed.", "NAME..."),
    yes: options.Yes = False,
) -> None:
    """Remove weights that were pulled or imported; those that came with the package stay."""
    from srcli.weights.convert import remove
    from srcli.weights.download import remove_base
    from srcli.weights.files import find, is_bundled, resolve

    bases, names = split_bases(names)
    for name in bases:
        if yes or typer.confirm(f"Remove {find_base(name)}?", err=True):
            say(f"removed {remove_base(name)}")
    for name in names:
        preset = resolve(name)
        path = find(preset)
        if is_bundled(preset):
            raise UsageError(f"'{name}' came with the package and stays.")
        if yes or typer.confirm(f"Remove {path}?", err=True):
            remove(path)
            say(f"removed {path}")


app.command()(pull)
app.command()(pack)
app.command()(push)
app.command()(export)


@app.command("import")
def import_model(
    file: Path = argument("A .pth, .ckpt or .safetensors file, or a folder.", "FILE"),
    preset: str = option("The network it belongs to; auto finds it by its keys.", "NAME", default="auto"),
    license_id: str | None = option("SPDX identifier of the weights, or 'unstated'.", "--license LICENCE"),
    output: Path | None = option(
        "Write there, not to the folder of models; without a suffix, a folder of parts.", "-o"
    ),
    trust_pickle: bool = option("Let the file run code. Only for files that you made."),
    overwrite: options.Overwrite = False,
) -> None:
    """Convert a checkpoint to safetensors, safely, so that it can be used by name."""
    from srcli.weights.convert import import_file

    if trust_pickle:
        say(f"warning: whatever code is in {file} is run.")
    installed = import_file(
        file,
        preset=preset,
        license_id=license_id,
        output=output,
        trust_pickle=trust_pickle,
        overwrite=overwrite,
    )
    print_installed(installed)


@app.command()
def merge(
    models: list[str] = argument("Presets or weights files of one network.", "MODEL..."),
    output: Path = option("The weights file to write.", "-o"),
    encoder: str | None = option(
        "Take the encoder of this model instead, to train on from there.", "NAME|FILE"
    ),
    half: bool = option("Write fp16, half the size."),
    overwrite: options.Overwrite = False,
) -> None:
    """Write the mean of several weights of one network, for example of two ends of a training."""
    from srcli.weights.convert import merge as merge_files

    preset = merge_files(models, output, encoder=encoder, half=half, overwrite=overwrite)
    print(output)
    say(f"{preset.title}; use it: srcli upscale photo.png --scale 4 --model {output}")


def _base_rows() -> Iterator[tuple[str, ...]]:
    yield "NAME", "SIZE", "LICENCE", "WEIGHTS"
    for name in sorted(base_names()):
        about = load_base(name)
        folder = locate_base(name)
        where = (
            f"here: {folder}" if folder else f"to be fetched (models pull {name}), or {about.variable}=FOLDER"
        )
        yield name, _size(about.size), about.license, where
