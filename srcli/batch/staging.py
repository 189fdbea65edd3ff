"""Pictures in object storage are worked on as local copies, by the same code as any other."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from srcli.batch import storage
from srcli.batch.each import records_of
from srcli.batch.inputs import Source
from srcli.batch.naming import Destination
from srcli.batch.plan import output_path
from srcli.batch.render import Engine
from srcli.batch.task import Record, Settings
from srcli.errors import SrcliError

NO_NEED_TO_LOOK = ("skip", "fail")  # policies for which it is enough to know that an output exists


def staged_records(
    index: int, source: Source, settings: Settings, place: Destination, engine: Callable[[], Engine]
) -> Iterator[Record]:
    """`records_of`, also where the input or the place of results is in object storage.

    An output that is there already is fetched first, so that it is judged as a local one is.

    Raises:
        SrcliError: it did not work; nothing is left behind.
    """
    to_store = place.scheme or (source.uri and place.file is None and place.folder is None)
    if source.uri is None and not to_store:
        yield from records_of(index, source, settings, place, engine)
        return
    with tempfile.TemporaryDirectory(prefix="srcli-") as folder:
        stage = _Stage(Path(folder), source, place)
        try:
            if source.uri is not None and stage.source.path is not None:
                storage.fetch(source.uri, stage.source.path)
            stage.fetch_outputs(index, settings)
            for record in records_of(index, stage.source, settings, stage.place, engine):
                yield stage.sent(record)
        except SrcliError as error:
            raise type(error)(stage.named(error.message), hint=error.hint) from error


@dataclass(frozen=True)
class _Stage:
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
        if kept.scheme is None:
            return kept
        file = None if kept.file is None else self._local("out", kept.file)
        folder = None if kept.folder is None else self._local("out", kept.folder)
        return replace(kept, file=file, folder=folder, scheme=None)

    def _local(self, part: str, path: Path) -> Path:
        return self.folder / part / path.as_posix().lstrip("/")

    def uri(self, path: Path) -> str | None:
        """Where a result really goes; None if it is in its place."""
        if self.folder not in path.parents:
            return None
        part = path.relative_to(self.folder).parts[0]
        whole = self.destination.file or self.destination.folder or self.original.path
        inner = path.relative_to(self.folder / part)
        rooted = Path("/") / inner if whole is not None and whole.is_absolute() else inner
        uri = self.original.uri or ""
        return storage.uri_of(self.destination.scheme or storage.scheme_of(uri), rooted)

    def fetch_outputs(self, index: int, settings: Settings) -> None:
        """Put the outputs that exist where a plan will look for them."""
        if settings.exists == "overwrite":
            return
        for sample in range(1, settings.samples + 1):
            path = output_path(self.source, index, settings, self.place, sample=sample)
            uri = None if path is None else self.uri(path)
            if path is None or uri is None or not storage.exists(uri):
                continue
            if settings.exists in NO_NEED_TO_LOOK:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.touch()
            else:
                storage.fetch(uri, path)

    def sent(self, record: Record) -> Record:
        """The record of a result that is now in its place."""
        record.input = self.original.label
        for name in ("output", "uncertainty"):
            path = getattr(record, name)
            uri = None if path is None else self.uri(Path(path))
            if uri is not None:
                if record.status == "done":
                    storage.send(Path(path), uri)
                setattr(record, name, uri)
        record.notes = [self.named(note) for note in record.notes]
        return record

    def named(self, message: str) -> str:
        """A message with the real names."""
        if self.original.uri is not None:
            message = message.replace(str(self.source.path), self.original.uri)
        for part in ("in", "out"):
            scheme = (self.destination.scheme if part == "out" else None) or "store"
            message = message.replace(f"{self.folder / part}/", f"{scheme}://")
        return message
