"""`srcli bench`: which benchmarks there are, where they are here, and whether they are whole."""

from __future__ import annotations

import sys
from json import dumps
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from srcli.errors import CheckError, ModelError

app = typer.Typer(no_args_is_help=True, help="List, fetch and check benchmarks; make LR pictures.")

Data = Annotated[
    Path | None,
    typer.Option(
        "--data",
        metavar="DIR",
        help="Where benchmarks are.",
        show_default=False,
    ),
]
Scales = Annotated[str, typer.Option("--scale", "-s", metavar="FACTOR[,..]", help="Scales.")]


@app.command("list")
def list_benchmarks(
    data: Data = None,
    json: Annotated[bool, typer.Option("--json", help="Machine-readable output.")] = False,
) -> None:
    """Name, protocol, size and licence of every benchmark, and where it is."""
    from srcli.data.benchmarks import data_roots, known_benchmarks, locate
    from srcli.report import columns_text

    roots = data_roots(data)
    rows: list[dict[str, Any]] = []
    for spec in known_benchmarks():
        folder = locate(spec, roots)
        rows.append(
            {
                "name": spec.title,
                "aliases": list(spec.aliases),
                "images": spec.images,
                "protocol": spec.protocol,
                "license": spec.license,
                "source": spec.source,
                "paper": spec.paper,
                "path": None if folder is None else str(folder),
            }
        )
    if json:
        print(dumps(rows, indent=2, ensure_ascii=False))
        return
    lines = [
        [r["name"], str(r["images"] or "-"), r["protocol"], r["path"] or "not here", r["license"]]
        for r in rows
    ]
    print(columns_text(["NAME", "IMAGES", "PROTOCOL", "WHERE", "LICENCE"], lines), end="")


@app.command()
def fetch(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A benchmark.")],
    data: Data = None,
    offline: Annotated[
        bool, typer.Option("--offline", help="Never use the network.", envvar="SRCLI_OFFLINE")
    ] = False,
) -> None:
    """Fetch a benchmark from where its authors put it, after naming its licence."""
    from srcli.data import bench_files
    from srcli.data.benchmarks import data_roots, find_spec
    from srcli.weights import download

    spec = find_spec(name)
    folder = data_roots(data)[0] / spec.title
    if offline:
        raise ModelError(f"{spec.title} is not fetched: offline.", hint=f"It is at {spec.source}.")
    for path in bench_files.fetch(spec, folder, download.fetch, lambda line: print(line, file=sys.stderr)):
        print(path)


@app.command()
def verify(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A benchmark.")],
    data: Data = None,
    scale: Scales = "2,3,4",
) -> None:
    """Read every picture, compare sizes, names, numbers and known hashes; exit code 7 if something is wrong."""
    from srcli.data import bench_files
    from srcli.data.benchmarks import data_roots, find_spec, locate
    from srcli.sizes import parse_scale

    spec = find_spec(name)
    folder = locate(spec, data_roots(data))
    if folder is None:
        raise ModelError(f"{spec.title} is not here.", hint=f"It is at {spec.source} ({spec.license}).")
    verdict = bench_files.verify(spec, folder, [parse_scale(word) for word in scale.split(",")])
    for finding in verdict.findings:
        print(f"{finding.name}: {finding.problem}")
    print(f"{spec.title}: {verdict.pictures} pictures in {folder}, {verdict.hashed} files with a known hash")
    if verdict.findings:
        raise CheckError(f"{spec.title} has {len(verdict.findings)} problems.")


@app.command("make-lr")
def make_lr(
    hr: Annotated[Path, typer.Argument(metavar="HR_DIR", help="A folder of HR pictures.")],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="DIR", help="Writes DIR/X<scale>/*.png.")],
    scale: Scales = "4",
    method: Annotated[
        Literal["pillow-bicubic", "matlab-bicubic"], typer.Option(help="How LR pictures are made.")
    ] = "pillow-bicubic",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace what is there.")] = False,
) -> None:
    """Write the LR pictures that an evaluation would make by itself, for other tools."""
    from srcli.data import bench_files
    from srcli.sizes import parse_scale

    scales = [parse_scale(word) for word in scale.split(",")]
    for path in bench_files.make_lr(hr, output, scales, method, overwrite=overwrite):
        print(path)
