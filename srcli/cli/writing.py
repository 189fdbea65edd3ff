"""Files that commands write, apart from pictures that were enlarged."""

from __future__ import annotations

from pathlib import Path


def write_file(path: Path, content: bytes) -> None:
    """Write a file whole or not at all, and make its folder.

    Raises:
        ResourceError: it cannot be written.
    """
    from srcli.files import atomic_write
    from srcli.resources import made_folder

    with made_folder(path.parent), atomic_write(path) as file:
        file.write(content)
