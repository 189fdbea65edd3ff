"""Image file directories: the tag tables of TIFF files and of EXIF blocks, read and written.

TIFF 6.0 (Adobe, 1992), BigTIFF (Aware Systems, 2007) and Exif 2.32 (CIPA DC-008) share this structure. Entries
keep their raw bytes in the byte order of their file, so that tags nobody here knows survive untouched.
"""

from __future__ import annotations

import io
import struct
from dataclasses import dataclass, field, replace
from typing import BinaryIO

TYPE_SIZE = {
    1: 1,
    2: 1,
    3: 2,
    4: 4,
    5: 8,
    6: 1,
    7: 1,
    8: 2,
    9: 4,
    10: 8,
    11: 4,
    12: 8,
    13: 4,
    16: 8,
    17: 8,
    18: 8,
}
TYPE_CODE = {
    1: "B",
    3: "H",
    4: "I",
    6: "b",
    8: "h",
    9: "i",
    11: "f",
    12: "d",
    13: "I",
    16: "Q",
    17: "q",
    18: "Q",
}
SWAP_UNIT = {5: 4, 10: 4}  # rationals are pairs of 4-byte integers
BYTE, ASCII, SHORT, LONG, RATIONAL, UNDEFINED, LONG8 = 1, 2, 3, 4, 5, 7, 16

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
        if entry.type in (5, 10):
            pairs = struct.unpack(
                f"{self.order}{2 * entry.count}{'I' if entry.type == 5 else 'i'}", entry.data
            )
            return tuple(a / b if b else 0.0 for a, b in zip(pairs[::2], pairs[1::2], strict=True))
        code = TYPE_CODE.get(entry.type)
        return struct.unpack(f"{self.order}{entry.count}{code}", entry.data) if code else ()

    def integers(self, tag: int) -> tuple[int, ...]:
        """The values of a tag as integers."""
        return tuple(int(value) for value in self.numbers(tag))

    def integer(self, tag: int, default: int) -> int:
        """The first value of a tag, or `default`."""
        values = self.integers(tag)
        return values[0] if values else default

    def set_integers(self, tag: int, kind: int, values: tuple[int, ...]) -> None:
        """Set a tag to integers of type `kind`."""
        data = struct.pack(f"{self.order}{len(values)}{TYPE_CODE[kind]}", *values)
        self.entries[tag] = Entry(kind, len(values), data)

    def remove(self, tags: frozenset[int]) -> None:
        """Drop tags here and in the directories below."""
        for tag in tags:
            self.entries.pop(tag, None)
            self.children.pop(tag, None)
        for child in self.children.values():
            child.remove(tags)

    def in_order(self, order: str) -> Directory:
        """The same tags in another byte order ('<' or '>'); undefined bytes stay as they are."""
        if order == self.order:
            return self
        entries = {}
        for tag, entry in self.entries.items():
            unit = SWAP_UNIT.get(entry.type, TYPE_SIZE[entry.type])
            pieces = (entry.data[i : i + unit][::-1] for i in range(0, len(entry.data), unit))
            entries[tag] = replace(entry, data=b"".join(pieces))
        children = {tag: child.in_order(order) for tag, child in self.children.items()}
        return Directory(entries, children, order)


@dataclass(frozen=True)
class _Layout:
    """How tables look in classic TIFF and in BigTIFF."""

    count: str
    word: str

    @property
    def inline(self) -> int:
        return struct.calcsize("<" + self.word)

    @property
    def entry_size(self) -> int:
        return 4 + 2 * self.inline

    def table_size(self, n: int) -> int:
        return struct.calcsize("<" + self.count) + n * self.entry_size + self.inline


CLASSIC, BIG = _Layout("H", "I"), _Layout("Q", "Q")


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
    if version == 42:
        layout, offset = CLASSIC, struct.unpack(order + "I", head[4:8])[0]
    elif version == 43:
        layout, offset = BIG, struct.unpack(order + "Q", head[8:16])[0]
    else:
        raise ValueError(f"unknown TIFF version {version}")
    seen: set[int] = set()
    chain: list[Directory] = []
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
    count_size = struct.calcsize("<" + layout.count)
    (count,) = struct.unpack(order + layout.count, stream.read(count_size))
    table = stream.read(count * layout.entry_size) if count <= 1 << 16 else b""
    if len(table) < count * layout.entry_size:
        raise ValueError("a directory ends early")
    following = stream.read(layout.inline)
    # EXIF blocks of some cameras end without the pointer to the next directory.
    onwards = struct.unpack(order + layout.word, following)[0] if len(following) == layout.inline else 0
    directory = Directory(order=order)
    for i in range(count):
        tag, entry = _read_entry(stream, table[i * layout.entry_size :], order, layout)
        if entry is None:
            continue
        if tag not in CHILDREN:
            directory.entries[tag] = entry
            continue
        pointer = struct.unpack(order + TYPE_CODE.get(entry.type, "I"), entry.data)[0]
        if pointer not in seen and depth < MAX_DEPTH:
            seen.add(pointer)
            directory.children[tag] = _read_directory(stream, pointer, order, layout, seen, depth + 1)[0]
    return directory, onwards


def _read_entry(stream: BinaryIO, row: bytes, order: str, layout: _Layout) -> tuple[int, Entry | None]:
    tag, kind, count = struct.unpack_from(order + "HH" + layout.word, row)
    size = TYPE_SIZE.get(kind, 0) * count
    value = row[4 + layout.inline : layout.entry_size]
    if kind not in TYPE_SIZE or size > MAX_ENTRY_BYTES:
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
        pinned = (note.offset, note.data)
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
    """Places tables and values one after the other, around a pinned block (its offset and content)."""

    def __init__(self, base: int, layout: _Layout, pinned: tuple[int, bytes] | None) -> None:
        self.base, self.layout, self.pinned = base, layout, pinned
        self.out = bytearray()

    def place(self, size: int) -> int:
        """Reserve `size` bytes at an even offset; returns the offset in the file."""
        start = self.base + len(self.out) + len(self.out) % 2
        if self.pinned is not None:
            first, data = self.pinned
            if start < first + len(data) and first < start + size:
                start = first + len(data) + (first + len(data)) % 2
        end = start + size - self.base
        self.out.extend(bytes(max(end - len(self.out), 0)))
        return start

    def put(self, offset: int, data: bytes) -> None:
        at = offset - self.base
        self.out[at : at + len(data)] = data

    def value(self, entry: Entry) -> int:
        """Offset of a value that does not fit into its table row."""
        if self.pinned is not None and (entry.offset, entry.data) == self.pinned:
            first, data = self.pinned
            end = first + len(data) - self.base
            self.out.extend(bytes(max(end - len(self.out), 0)))
            self.put(first, data)
            return first
        offset = self.place(len(entry.data))
        self.put(offset, entry.data)
        return offset

    def table(self, directory: Directory) -> int:
        layout, order = self.layout, directory.order
        tags = sorted({*directory.entries, *directory.children})
        offset = self.place(layout.table_size(len(tags)))
        table = struct.pack(order + layout.count, len(tags))
        for tag in tags:
            if tag in directory.children:
                pointer_type = LONG if layout is CLASSIC else 18
                pointer = self.table(directory.children[tag])
                cell = struct.pack(order + layout.word, pointer)
                table += struct.pack(order + "HH" + layout.word, tag, pointer_type, 1) + cell
                continue
            entry = directory.entries[tag]
            inline = len(entry.data) <= layout.inline
            cell = entry.data if inline else struct.pack(order + layout.word, self.value(entry))
            table += struct.pack(order + "HH" + layout.word, tag, entry.type, entry.count)
            table += cell.ljust(layout.inline, b"\0")
        self.put(offset, table + bytes(layout.inline))
        return offset
