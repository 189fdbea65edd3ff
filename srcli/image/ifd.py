"""Image file directories: the tag tables of TIFF files and of EXIF blocks, read and written.

TIFF 6.0 (Adobe, 1992), BigTIFF (Aware Systems, 2007) and Exif 2.32 (CIPA DC-008) share this structure. Entries
keep their raw bytes in the byte order of their file, so that tags nobody here knows survive untouched.
"""

from __future__ import annotations

import io
import struct
from dataclasses import dataclass, field, replace
from typing import BinaryIO, NamedTuple

SIZES = dict(enumerate((1, 1, 2, 4, 8, 1, 1, 2, 4, 8, 4, 8, 4), 1)) | {16: 8, 17: 8, 18: 8}  # of types
CODES = {1: "B", 3: "H", 4: "I", 6: "b", 8: "h", 9: "i", 11: "f", 12: "d", 13: "I", 16: "Q", 17: "q", 18: "Q"}
RATIONALS = {5: "I", 10: "i"}  # pairs of 4-byte integers
BYTE, SHORT, LONG, RATIONAL, UNDEFINED, LONG8, IFD8 = 1, 3, 4, 5, 7, 16, 18

EXIF_IFD, GPS_IFD, INTEROP_IFD, MAKER_NOTE = 0x8769, 0x8825, 0xA005, 0x927C
CHILDREN = (EXIF_IFD, GPS_IFD, INTEROP_IFD)

MAX_ENTRY_BYTES = 1 << 28
MAX_DIRECTORIES = 100_000
MAX_PINNED_OFFSET = 1 << 15
MAX_DEPTH = 3  # the first directory, Exif, Interop


@dataclass(frozen=True)
class Entry:
    """One tag: its type, how many values, and their bytes in the order of the file.

    `offset` is where the bytes lay (None for bytes inside the table or made here).
    """

    type: int
    count: int
    data: bytes
    offset: int | None = None


@dataclass
class Directory:
    """The tags of one directory and the directories some of them point to."""

    entries: dict[int, Entry] = field(default_factory=dict)
    children: dict[int, Directory] = field(default_factory=dict)
    order: str = "<"

    def numbers(self, tag: int) -> tuple[float, ...]:
        """The values of a numeric tag; empty where it is missing or of another kind. Rationals are divided."""
        entry = self.entries.get(tag)
        if entry is None:
            return ()
        if code := RATIONALS.get(entry.type):
            pairs = struct.unpack(f"{self.order}{2 * entry.count}{code}", entry.data)
            return tuple(a / b if b else 0.0 for a, b in zip(pairs[::2], pairs[1::2], strict=True))
        code = CODES.get(entry.type)
        return struct.unpack(f"{self.order}{entry.count}{code}", entry.data) if code else ()

    def integers(self, tag: int) -> tuple[int, ...]:
        """The values of a tag as integers."""
        return tuple(int(value) for value in self.numbers(tag))

    def integer(self, tag: int, default: int) -> int:
        """The first value of a tag, or `default`."""
        return next(iter(self.integers(tag)), default)

    def set_integers(self, tag: int, kind: int, values: tuple[int, ...]) -> None:
        """Set a tag to integers of type `kind`."""
        data = struct.pack(f"{self.order}{len(values)}{CODES[kind]}", *values)
        self.entries[tag] = Entry(kind, len(values), data)

    def only(self, tags: frozenset[int]) -> Directory:
        """A copy with these tags alone."""
        entries = {tag: entry for tag, entry in self.entries.items() if tag in tags}
        return Directory(entries, {t: child for t, child in self.children.items() if t in tags}, self.order)

    def without(self, tags: frozenset[int] = frozenset()) -> Directory:
        """A copy without these tags, here and in the directories below."""
        entries = {tag: entry for tag, entry in self.entries.items() if tag not in tags}
        children = {tag: child.without(tags) for tag, child in self.children.items() if tag not in tags}
        return Directory(entries, children, self.order)

    def in_order(self, order: str) -> Directory:
        """The same tags in another byte order ('<' or '>'); undefined bytes stay as they are."""
        if order == self.order:
            return self
        entries = {}
        for tag, entry in self.entries.items():
            unit = 4 if entry.type in RATIONALS else SIZES[entry.type]
            pieces = (entry.data[i : i + unit][::-1] for i in range(0, len(entry.data), unit))
            entries[tag] = replace(entry, data=b"".join(pieces))
        return Directory(entries, {tag: child.in_order(order) for tag, child in self.children.items()}, order)


class _Layout(NamedTuple):
    """How tables look in classic TIFF and in BigTIFF: `struct` letters, and the bytes of a word."""

    number: str
    word: str
    inline: int

    def row(self, order: str) -> str:
        return f"{order}HH{self.word}"


CLASSIC, BIG = _Layout("H", "I", 4), _Layout("Q", "Q", 8)


def read_directories(stream: BinaryIO) -> list[Directory]:
    """The chain of directories of a TIFF file or an EXIF block, with their Exif, GPS and Interop children.

    Raises:
        ValueError: this is no TIFF structure, or it is damaged.
    """
    try:
        return _read_chain(stream)
    except (struct.error, OverflowError) as error:
        raise ValueError(f"damaged TIFF structure ({error})") from error


def _read_chain(stream: BinaryIO) -> list[Directory]:
    stream.seek(0)
    head = stream.read(16)
    order = {b"II": "<", b"MM": ">"}.get(head[:2])
    if order is None or len(head) < 8:
        raise ValueError("no TIFF structure")
    (version,) = struct.unpack(order + "H", head[2:4])
    if version not in (42, 43):
        raise ValueError(f"unknown TIFF version {version}")
    layout, at = (CLASSIC, 4) if version == 42 else (BIG, 8)
    (offset,) = struct.unpack(order + layout.word, head[at : at + layout.inline])
    seen, chain = set[int](), list[Directory]()
    while offset and offset not in seen and len(chain) < MAX_DIRECTORIES:
        seen.add(offset)
        directory, offset = _read_directory(stream, offset, order, layout, seen, 1)
        chain.append(directory)
    if not chain:
        raise ValueError("no directory")
    return chain


def _read_directory(
    stream: BinaryIO, offset: int, order: str, layout: _Layout, seen: set[int], depth: int
) -> tuple[Directory, int]:
    stream.seek(offset)
    (count,) = struct.unpack(order + layout.number, stream.read(struct.calcsize("<" + layout.number)))
    size = 4 + 2 * layout.inline
    table = stream.read(count * size) if count <= 1 << 16 else b""
    if len(table) < count * size:
        raise ValueError("a directory ends early")
    following = stream.read(layout.inline)
    # EXIF blocks of some cameras end without the pointer to the next directory.
    onwards = struct.unpack(order + layout.word, following)[0] if len(following) == layout.inline else 0
    directory = Directory(order=order)
    for i in range(count):
        tag, entry = _read_entry(stream, table[i * size : (i + 1) * size], order, layout)
        if entry is None:
            continue
        if tag not in CHILDREN:
            directory.entries[tag] = entry
            continue
        pointer = struct.unpack(order + CODES.get(entry.type, "I"), entry.data)[0]
        if pointer not in seen and depth < MAX_DEPTH:
            seen.add(pointer)
            directory.children[tag] = _read_directory(stream, pointer, order, layout, seen, depth + 1)[0]
    return directory, onwards


def _read_entry(stream: BinaryIO, row: bytes, order: str, layout: _Layout) -> tuple[int, Entry | None]:
    tag, kind, count = struct.unpack_from(layout.row(order), row)
    size, value = SIZES.get(kind, 0) * count, row[4 + layout.inline :]
    if kind not in SIZES or size > MAX_ENTRY_BYTES:
        return tag, None
    if size <= layout.inline:
        return tag, Entry(kind, count, value[:size])
    (offset,) = struct.unpack(order + layout.word, value)
    stream.seek(offset)
    data = stream.read(size)
    return tag, Entry(kind, count, data, offset) if len(data) == size else None


def parse_exif(block: bytes) -> Directory:
    """The first directory of an EXIF block (without the "Exif" prefix of JPEG).

    Raises:
        ValueError: the block is damaged.
    """
    return read_directories(io.BytesIO(block))[0]


def write_exif(directory: Directory) -> bytes:
    """An EXIF block with one directory and its children.

    A maker note is put back where it lay: many cameras count offsets inside it from the block's start.
    """
    note = directory.children.get(EXIF_IFD, Directory()).entries.get(MAKER_NOTE)
    pinned = None
    if note is not None and note.offset is not None and 8 <= note.offset <= MAX_PINNED_OFFSET:
        pinned = note
    writer = _Writer(8, CLASSIC, pinned)
    first = writer.table(directory)  # not always 8: the maker note may lie there
    head = (b"II" if directory.order == "<" else b"MM") + struct.pack(directory.order + "HI", 42, first)
    return head + bytes(writer.out)


def write_directory(directory: Directory, base: int, *, big: bool = False) -> bytes:
    """The bytes of a directory, its children and their values, to lie at the even offset `base` of a file.

    The table comes first, in BigTIFF's form if `big`.
    """
    writer = _Writer(base, BIG if big else CLASSIC, None)
    writer.table(directory)
    return bytes(writer.out)


class _Writer:
    """Places tables and values one after the other, around an entry whose bytes stay where they lay."""

    def __init__(self, base: int, layout: _Layout, pinned: Entry | None) -> None:
        self.base, self.layout, self.pinned = base, layout, pinned
        self.first = (pinned.offset if pinned else None) or 0
        self.last = self.first + (len(pinned.data) if pinned else 0)
        self.out = bytearray()

    def put(self, data: bytes, offset: int | None = None) -> int:
        """Write at an offset of the file, or at the next even one that is free; returns it."""
        if offset is None:
            offset = self.base + len(self.out) + len(self.out) % 2
            if offset < self.last and self.first < offset + len(data):
                offset = self.last + self.last % 2
        at, end = offset - self.base, offset + len(data) - self.base
        self.out.extend(bytes(max(end - len(self.out), 0)))
        self.out[at:end] = data
        return offset

    def table(self, directory: Directory) -> int:
        layout, order = self.layout, directory.order
        tags = sorted({*directory.entries, *directory.children})
        table = struct.pack(order + layout.number, len(tags))
        size = len(table) + len(tags) * (4 + 2 * layout.inline) + layout.inline
        offset = self.put(bytes(size))
        for tag in tags:
            if tag in directory.children:
                kind, count = LONG if layout is CLASSIC else IFD8, 1
                pointer = self.table(directory.children[tag])
            else:
                entry = directory.entries[tag]
                kind, count, pointer = entry.type, entry.count, 0
                if len(entry.data) > layout.inline:
                    pointer = self.put(entry.data, self.first if entry is self.pinned else None)
            cell = struct.pack(order + layout.word, pointer) if pointer else entry.data
            table += struct.pack(layout.row(order), tag, kind, count) + cell.ljust(layout.inline, b"\0")
        self.put(table.ljust(size, b"\0"), offset)
        return offset
