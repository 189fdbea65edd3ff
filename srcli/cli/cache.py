"""`srcli cache`: what is kept between runs."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from json import dumps
from pathlib import Path
from typing import Annotated

import typer

from srcli.cli import options
from srcli.cli.command import App, argument
from srcli.cli.console import say
from srcli.errors import ResourceError, UsageError, suggest

app = App("Show or clear what is kept between runs; models are kept.")

Names = Annotated[list[str] | None, argument("eval, benchmarks or downloads.", "NAME...")]


@dataclass(frozen=True)
class Cache:
    """Files that can be made or fetched again."""

    name: str  # as typed
    about: str  # one line
    folder: Path
    pattern: str = "**/*"  # which files below it

    def files(self) -> list[Path]:
        """What is there now."""
        return sorted(
            path for path in self.folder.glob(self.pattern) if path.is_file() and not path.is_symlink()
        )

    def size(self) -> int:
        """Bytes."""
        return sum(path.stat().st_size for path in self.files())

    def clear(self) -> int:
        """Remove the files, and the folders that are left empty; returns how many files went.

        Raises ResourceError (one cannot be removed).
        """
        files = self.files()
        try:
            for path in files:
                path.unlink(missing_ok=True)
            if self.pattern == "**/*" and self.folder.is_dir():
                shutil.rmtree(self.folder)
        except OSError as error:
            raise ResourceError(f"cannot remove {error.filename}: {error.strerror}.") from error
        return len(files)


def caches() -> list[Cache]:
    """All of them."""
    from srcli.files import cache_folder
    from srcli.weights.files import models_folder

    return [
        Cache("eval", "rows that 'srcli eval' has measured", cache_folder("eval")),
        Cache("benchmarks", "pictures that 'srcli bench fetch' got", cache_folder("benchmarks")),
        Cache("downloads", "interrupted downloads of models", models_folder(), "**/*.download*"),
    ]


@app.command()
def info(json: options.Json = False) -> None:
    """Where the caches are and how large."""
    from srcli.resources import in_words

    found = [(c.name, len(c.files()), c.size(), c.folder, c.about) for c in caches()]
    if json:
        keys = ("name", "files", "bytes", "folder", "about")
        print(dumps([dict(zip(keys, row, strict=True)) for row in found], indent=2, default=str))
        return
    for name, files, size, folder, about in found:
        print(f"{name:11} {files:7} files  {in_words(size):>9}  {folder}  ({about})")


@app.command()
def clear(names: Names = None, yes: options.Yes = False) -> None:
    """Remove cached files: those named, or 'eval' and 'downloads'."""
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
