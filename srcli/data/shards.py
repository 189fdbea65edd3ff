"""Packing photos into tar shards in the layout of WebDataset: one file of a unique name for each sample.

The same photos give the same bytes: members are in the order of their names, without times or owners.
"""

import io
import tarfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path, PurePosixPath

from srcli.data.photos import decoded, image_files
from srcli.errors import ExistsError, ImageError, NothingToDoError, ResourceError
from srcli.files import atomic_write

Member = tuple[str, bytes]
_RECORD = tarfile.BLOCKSIZE


def pack(
    sources: Sequence[Path],
    output: Path,
    *,
    shard_bytes: int,
    prefix: str = "photos",
    smallest: int = 1,  # photos with a smaller side are left out, and `skipped` gets a line about each
    overwrite: bool = False,
    skipped: Callable[[str], None] = lambda _line: None,
    report: Callable[[str, int], None] = lambda _name, _count: (
        None
    ),  # gets every other photo and the count so far
) -> Iterator[Path]:
    """Write `<output>/<prefix>-000000.tar`, .. with every photo that can be used, its bytes unchanged; yields shards.

    A shard ends before it would be larger than `shard_bytes`; one photo always fits. `overwrite` replaces shards of
    that name. Raises NothingToDoError (no source, or no photo that can be used), ImageError (a damaged tar file),
    ExistsError (there are such shards), ResourceError (it cannot be written).
    """
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ResourceError(f"cannot make the folder {output}: {error.strerror}.") from error
    old = {path for path in output.glob(f"{prefix}-*.tar") if path.stem[len(prefix) + 1 :].isdigit()}
    if old and not overwrite:
        raise ExistsError(
            f"{output} holds shards called {prefix} already.", hint="--overwrite replaces them."
        )
    written = set()
    for number, members in enumerate(_shards(_members(sources, smallest, skipped, report), shard_bytes)):
        path = output / f"{prefix}-{number:06d}.tar"
        _write(path, members)
        written.add(path)
        yield path
    if not written:
        raise NothingToDoError(f"no photo that can be used in {', '.join(map(str, sources))}.")
    for path in old - written:
        path.unlink()


def _members(
    sources: Sequence[Path],
    smallest: int,
    skipped: Callable[[str], None],
    report: Callable[[str, int], None],
) -> Iterator[Member]:
    """Names and contents. WebDataset ends a sample's name at the first dot, so names have none but the last."""
    taken: set[str] = set()
    for source in sources:
        for path, data in image_files(source):
            try:
                decoded(data, smallest=smallest)
            except ImageError as error:
                skipped(f"{path}: {error}")
                continue
            name = PurePosixPath(path)
            key = base = str(name.with_suffix("")).lstrip("./").replace(".", "-")
            again = 2
            while key in taken:  # a.png and a.jpg, or the same name in two sources
                key, again = f"{base}-{again}", again + 1
            taken.add(key)
            report(path, len(taken))
            yield key + name.suffix.lower(), data


def _shards(members: Iterator[Member], most: int) -> Iterator[list[Member]]:
    shard: list[Member] = []
    size = 0
    for name, data in members:
        taken = _RECORD * (1 + -(-len(data) // _RECORD))  # a header, and whole records of content
        if shard and size + taken > most:
            yield shard
            shard, size = [], 0
        shard.append((name, data))
        size += taken
    if shard:
        yield shard


def _write(path: Path, members: Sequence[Member]) -> None:
    with (
        atomic_write(path) as stream,
        tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as tar,
    ):
        for name, data in members:
            info = tarfile.TarInfo(name)  # its time is 0, its owner nobody
            info.size, info.mode = len(data), 0o644
            tar.addfile(info, io.BytesIO(data))
