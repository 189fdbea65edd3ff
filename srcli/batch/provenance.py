"""What a file says about having been made by srcli, and whether anybody has changed it since.

Editors keep metadata, so that a record alone does not say whose picture this is. It holds a content ID of its own file:
the number of its bytes, and a hash of all but the ID itself.
"""

from __future__ import annotations

import hashlib
import re
import zlib
from bisect import bisect_left
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from srcli.errors import ExistsError, ImageError
from srcli.files import atomic_write
from srcli.image import png, tiff
from srcli.image.metadata import PROVENANCE_KEY, parse_provenance, read_provenance_xmp
from srcli.image.probe import inspect
from srcli.image.source import Origin, open_source

BLOCK = 1 << 20
CONTENT_ID = re.compile("blake2b-([0-9a-f]{12})[0-9a-f]{32}")
PLACEHOLDER = "blake2b-" + "0" * 44  # keeps its place while the file is written


def content_id(length: int, digest: bytes) -> str:
    """The ID of `length` bytes with the BLAKE2b hash `digest`."""
    return f"blake2b-{length:012x}{digest[:16].hex()}"


def length_of(name: str) -> int | None:
    """How many bytes a content ID is of; None for any other text."""
    found = CONTENT_ID.fullmatch(name)
    return None if found is None else int(found[1], 16)


def content_of(stream: BinaryIO) -> tuple[int, bytes]:
    """Number of the bytes from here on, and their BLAKE2b hash: what `content_id` takes."""
    start = stream.tell()
    digest = hashlib.file_digest(stream, hashlib.blake2b).digest()  # type: ignore[arg-type]
    return stream.tell() - start, digest


@contextmanager
def recorded_write(path: Path, provenance: dict[str, Any]) -> Iterator[BinaryIO]:
    """`atomic_write` of a picture; afterwards its content ID is the "content" of `provenance`.

    It is in the file as well, if `provenance` was written into it. A device or a pipe gets none.
    """
    provenance["content"] = PLACEHOLDER
    with atomic_write(path) as stream:
        yield stream
        provenance["content"] = _write_content_id(stream) if stream.readable() else None


def check_unchanged(path: Path, content: object, *, quick: bool = False) -> None:
    """Check that a file that srcli has made is as it was written.

    Args:
        path: of the file.
        content: its content ID, as recorded.
        quick: compare their number only.

    Raises:
        ExistsError: it has been changed, or that cannot be told.
    """
    problem = "has been changed since srcli made it"
    if content in (None, PLACEHOLDER):
        problem = "was made by srcli, but whether it has been changed since is not recorded"
    elif length_of(str(content)) == path.stat().st_size:
        with path.open("rb") as stream:
            if quick or _content_id(stream, str(content))[0] == content:
                return
    raise ExistsError(f"the output {path} {problem}.", hint="Replace it with --overwrite.")


def not_ours(what: str) -> ExistsError:
    """The error for a file that stands in the way."""
    return ExistsError(f"{what} exists and was not made by srcli.", hint="Replace it with --overwrite.")


def check_own(path: Path, *, replace: bool) -> None:
    """Check that a file that lies beside a result, such as a map, may be written.

    Raises:
        ExistsError: something is there that srcli did not make, or that has been changed since.
    """
    if replace or not path.is_file():
        return
    made = read_provenance(path)
    if made is None:
        raise not_ours(str(path))
    check_unchanged(path, made.get("content"))


def read_origin(path: Path) -> str | None:
    """The content ID of the file that srcli made a picture from, "" if that is not recorded; None for other pictures."""
    try:
        if path.stat().st_size <= BLOCK and PROVENANCE_KEY.encode() not in path.read_bytes():
            return None  # nearly always, and seven times as fast
        made = read_provenance(path)
    except Exception:  # whatever is wrong with it is reported when it is read
        return None
    return None if made is None else str(made.get("in_content") or "")


def read_provenance(origin: Origin) -> dict[str, Any] | None:
    """The provenance that `OutputPlan.write` stored in a file; None if there is none. Reads the header only.

    A file that is no image (any more) has none: nobody can say how it was made.

    Raises:
        NothingToDoError: the file does not exist.
    """
    try:
        with open_source(origin) as source:
            found = inspect(source, "first")
    except ImageError:
        return None
    if found.page is not None:
        entry = found.page.tags.entries.get(tiff.XMP)
        return read_provenance_xmp(entry.data) if entry else None
    info = found.picture.info if found.picture else {}
    text, packet, comment = info.get(PROVENANCE_KEY), info.get("xmp"), info.get("comment")
    if isinstance(text, str):
        return parse_provenance(text)
    if isinstance(comment, bytes):  # of a GIF
        stored = (parse_provenance(comment.decode("latin-1")) or {}).get(PROVENANCE_KEY)
        return stored if isinstance(stored, dict) else None
    return read_provenance_xmp(packet) if isinstance(packet, bytes) else None


def _write_content_id(stream: BinaryIO) -> str:
    """Find out the content ID, and write it over its placeholders."""
    name, tokens, chunks = _content_id(stream, PLACEHOLDER)
    for start in tokens:
        stream.seek(start)
        stream.write(name.encode())
    for start, length in chunks:
        stream.seek(start)
        checksum = zlib.crc32(stream.read(length))
        stream.write(checksum.to_bytes(4, "big"))
    return name


def _content_id(stream: BinaryIO, token: str) -> tuple[str, list[int], list[tuple[int, int]]]:
    """The ID of all bytes but a token and, in a PNG file, the checksums of the chunks that hold it.

    Returns:
        The ID, where the token is, and those chunks: first byte and length, from the kind to the end of the data.
    """
    tokens, chunks = _find_all(stream, token.encode()), list[tuple[int, int]]()
    stream.seek(0)
    if tokens and stream.read(len(png.SIGNATURE)) == png.SIGNATURE:
        spans = [(stream.tell() - 4, length + 4) for _, length in png.walk(stream)]
        chunks = [(at, n) for at, n in spans if bisect_left(tokens, at) < bisect_left(tokens, at + n)]
    left_out = [(start, len(token)) for start in tokens] + [(start + length, 4) for start, length in chunks]
    digest, at, end = hashlib.blake2b(), 0, stream.seek(0, 2)
    for start, length in [*sorted(left_out), (end, 0)]:
        stream.seek(at)
        while at < start and (block := stream.read(min(BLOCK, start - at))):
            digest.update(block)
            at += len(block)
        at = start + length
    return content_id(end, digest.digest()), tokens, chunks


def _find_all(stream: BinaryIO, token: bytes) -> list[int]:
    found, at, window = [], 0, b""
    stream.seek(0)
    while block := stream.read(BLOCK):
        window, place = window + block, -1
        while (place := window.find(token, place + 1)) >= 0:
            found.append(at + place)
        at += max(0, len(window) - len(token) + 1)
        window = window[1 - len(token) :]
    return found
