"""What srcli keeps between runs, how large it is, and how to be rid of it. Models are no cache and stay."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from srcli.errors import ResourceError


@dataclass(frozen=True)
class Cache:
    """Files that can be made or fetched again.

    Attributes:
        name: as typed.
        about: one line.
        folder: where they are.
        pattern: which files below it.
    """

    name: str
    about: str
    folder: Path
    pattern: str = "**/*"

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

        Raises:
            ResourceError: one cannot be removed.
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
    from srcli.data.benchmarks import cached_benchmarks
    from srcli.evaluate.rows import cache_folder
    from srcli.weights.files import models_folder

    return [
        Cache("eval", "rows that 'srcli eval' has measured", cache_folder()),
        Cache("benchmarks", "pictures that 'srcli bench fetch' got", cached_benchmarks()),
        Cache("downloads", "interrupted downloads of models", models_folder(), "**/*.download*"),
    ]
