"""`srcli data`: look through training photos and pack them."""

from __future__ import annotations

from json import dumps
from pathlib import Path
from typing import Annotated

from srcli.cli import options
from srcli.cli.command import App, argument, option
from srcli.cli.console import Console
from srcli.errors import CheckError

app = App("Check, count and pack training photos.")

Sources = Annotated[list[Path], argument("Folders, tar shards or images.", "INPUT...")]
Smallest = Annotated[int, option("Side a photo needs.", "PX", min=1)]


@app.command()
def check(sources: Sources, smallest: Smallest = 48, json: options.Json = False) -> None:
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
def stats(sources: Sources, json: options.Json = False) -> None:
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
    output: Path = option("Writes DIR/PREFIX-000000.tar, ..", "-o DIR"),
    shard_size: str = option("Most bytes of a shard, such as 500M.", "BYTES", default="500M"),
    prefix: str = option("What shards are called.", default="photos"),
    smallest: Smallest = 48,
    overwrite: options.Overwrite = False,
    progress: options.Progress = "auto",
) -> None:
    """Pack photos into tar shards (WebDataset layout); the same photos give the same bytes.

    Files are not changed. What cannot be decoded or is too small is left out and named.
    """
    from srcli.data import shards

    most = options.parse_bytes("--shard-size", shard_size)
    console = Console(style=progress)
    with console.counting("", lambda done, _: f"{done:g} photos") as report:
        written = shards.pack(
            sources,
            output,
            shard_bytes=most,
            prefix=prefix,
            smallest=smallest,
            overwrite=overwrite,
            skipped=lambda line: console.note(f"skipped {line}"),
            report=lambda name, count: report(name, count, None),
        )
        for path in written:
            console.result(str(path))
