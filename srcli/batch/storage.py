"""Pictures in object storage, named by URIs such as s3://bucket/shots, through fsspec.

Inside the program such a file has a stand-in: the path behind the scheme, `bucket/shots/a.png` (`inputs.stand_in`).
Names, folders and shares are worked out from it as for any other path. It is worked on as a local copy, see `staged`.
"""

from __future__ import annotations

import re
import secrets
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from srcli.batch.inputs import EXTRA_HINT, Source, scheme_of, stand_in
from srcli.errors import ImageError, NothingToDoError, ResourceError, SrcliError, UsageError, first_line

if TYPE_CHECKING:
    from srcli.batch.naming import Destination

# Stores in which a file appears whole or not at all; elsewhere it is renamed when it is whole.
ATOMIC = frozenset(
    {"s3", "s3a", "gs", "gcs", "r2", "oci", "az", "adl", "abfs", "abfss", "wasb", "wasbs", "memory"}
)


def pictures_at(uri: str, *, recursive: bool) -> Iterator[tuple[str, Path, bool]]:
    """The files that a URI means, sorted: (URI, folders between the folder and the file, whether it was named).

    `uri`: a file, a folder (a prefix), or a pattern. `recursive`: look into folders of folders too. Raises
    NothingToDoError (there is nothing), SrcliError (the store does not answer, or fsspec lacks what it needs for it).
    """
    magic = re.search(r"[*?[]", uri)
    folder = uri.rstrip("/") if magic is None else uri[: magic.start()].rpartition("/")[0]
    stand_in(uri)
    system, root = _open(folder)
    root = root.rstrip("/") + "/"
    try:
        if magic is not None:
            names = [name for name in system.glob(root + uri[len(folder) + 1 :]) if not system.isdir(name)]
        elif system.isdir(root.rstrip("/")):
            names = system.find(root, maxdepth=None if recursive else 1)
        elif system.exists(root.rstrip("/")):
            yield uri, Path(), True
            return
        else:
            names = []
    except Exception as error:  # every store has errors of its own
        raise _failed(f"cannot look into {uri}", error) from error
    if not names:
        raise NothingToDoError(f"{uri} does not exist, or holds no file.")
    for name in sorted(names):
        inner = name.removeprefix(root).lstrip("/")
        yield f"{folder}/{inner}", Path() if magic else Path(inner).parent, False


def fetch(uri: str, path: Path) -> None:
    """Copy a file from the store; the folder of `path` is made."""
    system, place = _open(uri)
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        system.get_file(place, str(path))
    except FileNotFoundError as error:
        raise NothingToDoError(f"{uri} does not exist.") from error
    except Exception as error:
        raise _failed(f"{uri} cannot be read", error, ImageError) from error


def send(path: Path, uri: str, *, atomic: frozenset[str] = ATOMIC) -> None:
    """Copy a file to the store, whole or not at all."""
    system, place = _open(uri)
    try:
        if scheme_of(uri) in atomic:
            system.put_file(str(path), place)
            return
        folder, _, name = place.rpartition("/")
        temporary = f"{folder}/.srcli-{secrets.token_hex(6)}.tmp"
        if folder:
            system.makedirs(folder, exist_ok=True)
        try:
            system.put_file(str(path), temporary)
            system.mv(temporary, f"{folder}/{name}")
        finally:
            if system.exists(temporary):
                system.rm_file(temporary)
    except Exception as error:
        raise _failed(f"cannot write {uri}", error, ResourceError) from error


def exists(uri: str) -> bool:
    """Whether there is such a file."""
    system, place = _open(uri)
    try:
        return bool(system.isfile(place))
    except Exception as error:
        raise _failed(f"cannot look for {uri}", error, ResourceError) from error


def _open(uri: str) -> tuple[Any, str]:
    """The store, and its own name for the place."""
    try:
        from fsspec.core import url_to_fs
    except ImportError as error:
        raise UsageError(f"{uri} is in object storage.", hint=EXTRA_HINT) from error
    try:
        system, place = url_to_fs(uri)
    except ImportError as error:
        raise UsageError(f"{uri}: {error}.", hint="Install what fsspec needs for it.") from error
    except Exception as error:
        raise _failed(f"cannot open {uri}", error, UsageError) from error
    return system, str(place)


def _failed(what: str, error: Exception, kind: type[SrcliError] = ResourceError) -> SrcliError:
    return kind(f"{what}: {first_line(error)}.")


# --- local copies -------------------------------------------------------------------------------------------------


@contextmanager
def staged(source: Source, place: Destination) -> Iterator[Stage]:
    """Local copies of what is in object storage, the input's for a start; errors inside tell the real names."""
    if source.uri is not None and place.file is None and place.folder is None:
        place = replace(place, scheme=scheme_of(source.uri))  # beside the input
    with tempfile.TemporaryDirectory(prefix="srcli-") as folder:
        stage = Stage(Path(folder), source, place)
        try:
            if source.uri is not None and stage.source.path is not None:
                fetch(source.uri, stage.source.path)
            yield stage
        except SrcliError as error:
            raise type(error)(stage.named(error.message), hint=error.hint) from error


@dataclass(frozen=True)
class Stage:
    """A temporary folder with one input, and where its files really are."""

    folder: Path
    original: Source
    destination: Destination

    @property
    def source(self) -> Source:
        """The local copy."""
        path = self.original.path
        if self.original.uri is None or path is None:
            return self.original
        return self.original._replace(path=self._local("in", path), uri=None)

    @property
    def place(self) -> Destination:
        """Where results go for now."""
        kept = self.destination
        file, folder = (p and kept.scheme and self._local("out", p) for p in (kept.file, kept.folder))
        return replace(kept, file=file or kept.file, folder=folder or kept.folder, scheme=None)

    def _local(self, part: str, path: Path) -> Path:
        return self.folder / part / path.as_posix().lstrip("/")

    def _uri(self, path: Path) -> str | None:
        """Where a result really goes; None if it is in its place."""
        if self.folder not in path.parents:
            return None
        whole = self.destination.file or self.destination.folder or self.original.path
        inner = PurePosixPath(*path.relative_to(self.folder).parts[1:])
        rooted = "/" if whole is not None and whole.is_absolute() else ""
        return f"{self.destination.scheme}://{rooted}{inner}"

    def fetch_output(self, path: Path | None, *, whole: bool) -> None:
        """Put an output that exists where a plan will look for it; an empty file unless it is wanted `whole`."""
        uri = None if path is None else self._uri(path)
        if path is None or uri is None or not exists(uri):
            return
        if whole:
            fetch(uri, path)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()

    def send(self, path: str | None, *, done: bool) -> str | None:
        """Put a result that is `done` in its place; gives its real name."""
        uri = None if path is None else self._uri(Path(path))
        if path is None or uri is None:
            return path
        if done:
            send(Path(path), uri)
        return uri

    def named(self, message: str) -> str:
        """A message with the real names."""
        if self.original.uri is not None:
            message = message.replace(str(self.source.path), self.original.uri)
        for part in ("in", "out"):
            scheme = (self.destination.scheme if part == "out" else None) or "store"
            message = message.replace(f"{self.folder / part}/", f"{scheme}://")
        return message
