"""`srcli cache`: what is kept between runs."""

from __future__ import annotations

from json import dumps
from typing import Annotated

import typer

from srcli.cli.console import say
from srcli.errors import UsageError, suggest

app = typer.Typer(no_args_is_help=True, help="Show or clear what is kept between runs; models are kept.")

Names = Annotated[list[str] | None, typer.Argument(metavar="NAME", help="eval, benchmarks or downloads.")]


@app.command()
def info(json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False) -> None:
    """Where the caches are and how large."""
    from srcli.cli.caches import caches
    from srcli.resources import in_words

    found = [(c.name, len(c.files()), c.size(), c.folder, c.about) for c in caches()]
    if json:
        keys = ("name", "files", "bytes", "folder", "about")
        print(
            dumps([dict(zip(keys, (*row[:3], str(row[3]), row[4]), strict=True)) for row in found], indent=2)
        )
        return
    for name, files, size, folder, about in found:
        print(f"{name:11} {files:7} files  {in_words(size):>9}  {folder}  ({about})")


@app.command()
def clear(
    names: Names = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Remove cached files: those named, or 'eval' and 'downloads'."""
    from srcli.cli.caches import caches

    known = {cache.name: cache for cache in caches()}
    for name in names or []:
        if name not in known:
            raise UsageError(f"unknown cache '{name}'.", hint=suggest(name, known))
    chosen = [known[name] for name in dict.fromkeys(names or ["eval", "downloads"])]
    for cache in chosen:
        count = len(cache.files())
        if count and not yes and not typer.confirm(f"Remove {count} files below {cache.folder}?", err=True):
            continue
        say(f"{cache.name}: {cache.clear()} files removed")
