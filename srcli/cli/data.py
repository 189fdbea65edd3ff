"""`srcli data`: look through training photos and pack them."""

from __future__ import annotations

import re
from json import dumps
from pathlib import Path
from typing import Annotated

import typer

from srcli.cli.console import say
from srcli.errors import CheckError, UsageError

app = typer.Typer(no_args_is_help=True, help="Check, count and pack training photos.")

SIZES = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9}

Sources = Annotated[list[Path], typer.Argument(metavar="INPUT...", help="Folders, tar shards or images.")]
Smallest = Annotated[int, typer.Option("--smallest", min=1, metavar="PIXELS", help="Side a photo needs.")]
Json = Annotated[bool, typer.Option("--json", help="Machine-readable output.")]


@app.command()
def check(sources: Sources, smallest: Smallest = 48, json: Json = False) -> None:
    """Name broken and small images, near duplicates, and pictures of Set5, Set14 and B100; exit code 7 if any.

    Whole pictures are recognised, mirrored ones of benchmarks too, but not parts cut out of them. Pictures of
    Urban100 are not known.
    """
    from srcli.data.inspection import findings, inspect

    files = list(inspect(sources))
    found = findings(files, smallest=smallest)
    if json:
        print(dumps({"images": len(files), "findings": [f._asdict() for f in found]}, indent=2))
    else:
        for finding in found:
            print(f"{finding.name}: {finding.problem}")
        print(f"{len(files)} images, {len(found)} findings")
    if found:
        wrong = len({finding.name for finding in found})
        raise CheckError(f"{wrong} of {len(files)} images should not be trained on as they are.")


@app.command()
def stats(sources: Sources, json: Json = False) -> None:
    """Count images, photographs, pixels, formats and sides."""
    from srcli.data.inspection import SHARES, inspect, totals

    found = totals(list(inspect(sources)))
    if json:
        print(dumps(found, indent=2))
        return
    quarters = "/".join(f"{share:.0%}" for share in SHARES)
    for name, value in found.items():
        if name in ("width", "height"):
            name, value = f"{name} at {quarters}", " ".join(map(str, value))
        elif isinstance(value, dict):
            value = ", ".join(f"{count} {kind}" for kind, count in value.items())
        print(f"{name.replace('_', ' '):30} {value}")


@app.command()
def pack(
    sources: Sources,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="DIR", help="Writes DIR/PREFIX-000000.tar, ..")
    ],
    shard_size: Annotated[
        str, typer.Option("--shard-size", metavar="BYTES", help="Most bytes of a shard, such as 500M.")
    ] = "500M",
    prefix: Annotated[str, typer.Option("--prefix", help="What shards are called.")] = "photos",
    smallest: Smallest = 48,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace shards of that name.")] = False,
) -> None:
    """Pack photos into tar shards (WebDataset layout); the same photos give the same bytes.

    Files are not changed. What cannot be decoded or is too small is left out and named.
    """
    from srcli.data import shards

    most = _bytes(shard_size)
    written = shards.pack(
        sources,
        output,
        shard_bytes=most,
        prefix=prefix,
        smallest=smallest,
        overwrite=overwrite,
        skipped=lambda line: say(f"skipped {line}"),
    )
    for path in written:
        print(path)


def _bytes(text: str) -> int:
    match = re.fullmatch(r"(\d{1,15}(?:\.\d{1,9})?)([kmg]?)b?", text.strip().lower())
    count = int(float(match[1]) * SIZES[match[2]]) if match else 0
    if count < 1:
        raise UsageError(f"--shard-size {text!r} is not a number of bytes.", hint="Write it like 500M or 2G.")
    return count
