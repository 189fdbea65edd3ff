"""Which files a command line means: files, folders, patterns, lists and standard input, in the order given.

A name that exists is that file, whatever characters it has; only then is it read as a pattern or a list. What is
found in folders and by patterns is filtered to pictures; files that operating systems leave behind are ignored.
"""

from __future__ import annotations

import codecs
import difflib
import glob
import os
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatch
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import BinaryIO, NamedTuple

from srcli.errors import NothingToDoError, UsageError
from srcli.files import JUNK_FILES, PICTURES
from srcli.image.source import RAW_SUFFIXES

STDIN = "-"
URI = re.compile(r"([a-z][a-z0-9+.]+)://(.+)", re.DOTALL)  # a scheme of one letter is a drive of Windows
EXTRA_HINT = 'Install the extra: pip install "srcli[ray]"'  # for object storage, and for clusters

# Pictures that cannot be read: a note counts those that are passed over.
UNREADABLE = frozenset(
    {".jxl", ".jp2", ".j2k", ".jpf", ".jpx", ".jxr", ".exr", ".hdr", ".psd", ".psb", ".svg", ".svgz", ".pdf"}
    | {".pcx", ".dds", ".qoi", ".xcf", ".eps", ".ai", ".pam", ".pfm", ".cur", ".icns", ".wmf", ".emf"}
    | frozenset(RAW_SUFFIXES)
)

# Of lists; the first two bytes of UTF-32's are UTF-16's.
MARKS = {
    codecs.BOM_UTF8: "utf-8",
    codecs.BOM_UTF32_LE: "utf-32-le",
    codecs.BOM_UTF32_BE: "utf-32-be",
    codecs.BOM_UTF16_LE: "utf-16-le",
    codecs.BOM_UTF16_BE: "utf-16-be",
}
UNMARKED = re.compile(rb"([^\0]\0){4}|(\0[^\0]){4}")  # UTF-16 without its mark

JUNK_FOLDERS = frozenset({"__macosx", "@eadir", "$recycle.bin", "system volume information"})


class Source(NamedTuple):
    """One input: a file, what stands for one in object storage (with its `uri`), or standard input (None).

    `under` are the folders between the folder that was `named` and the file; a file may be named itself.
    """

    path: Path | None
    under: Path = Path()
    named: bool = True
    uri: str | None = None

    @property
    def label(self) -> str:
        """What messages call it."""
        return self.uri or ("standard input" if self.path is None else str(self.path))

    @property
    def key(self) -> str:
        """The same on every machine: the path below the folder that was named, or as it was named."""
        if self.path is None:
            return STDIN
        if self.named and self.uri is not None:
            return self.uri
        return (self.path if self.named else self.under / self.path.name).as_posix()


@dataclass
class Found:
    """What a command line means."""

    sources: list[Source] = field(default_factory=list)  # each file once
    missing: list[tuple[str, str]] = field(default_factory=list)  # words that mean no picture, and a message
    passed_over: Counter[str] = field(default_factory=Counter)  # suffixes of unreadable pictures in folders
    many: bool = False  # the words could mean several pictures: a folder, a pattern, a list, or several words


def is_uri(word: str) -> bool:
    """Whether a word names something in object storage; file:// is not, see `without_file_scheme`."""
    return URI.fullmatch(word) is not None and not word.startswith("file://")


def without_file_scheme(word: str) -> str:
    """The path that file:// means; any other word as it is."""
    return word.removeprefix("file://") if word.startswith("file:///") else word


def scheme_of(uri: str) -> str:
    """The part before ://."""
    return uri.partition("://")[0]


def stand_in(uri: str) -> Path:
    """The path that stands for a URI; one that leaves its place by way of ".." is a UsageError."""
    found = URI.fullmatch(uri)
    if found is None or ".." in PurePosixPath(found[2]).parts:
        raise UsageError(f"{uri} is no place in object storage.")
    return Path(found[2])


def find_inputs(
    words: Sequence[str],
    *,
    recursive: bool = False,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    leave_out: Path | None = None,
    stdin: BinaryIO | None = None,
) -> Found:
    """The pictures that a command line means.

    `words`: files, folders, patterns (``*``, ``?``, ``[]``, ``**``), ``@list.txt`` (one per line, or separated by
    NUL), ``@-``, or ``-``. `recursive`: look in folders of folders too. `include`: keep only what matches one of
    these patterns (file name, or path below its folder). `exclude`: leave out what matches one of these. `leave_out`:
    a folder that is not looked into: where results go. `stdin`: for a list on standard input. Raises UsageError (no
    input was named, or standard input shall be both a list and a picture), NothingToDoError (a list does not exist,
    or not a single input was found).
    """
    found = Found(many=len(words) != 1)
    search = _Search(found, recursive, None if leave_out is None else absolute(leave_out))
    if STDIN in words and f"@{STDIN}" in words:
        raise UsageError("Standard input cannot be a list and a picture at once.")
    for word in words:
        if word.startswith("@") and len(word) > 1 and not os.path.lexists(word):
            found.many = True
            search.add_list(word[1:], stdin)
        else:
            search.add(word)
    if not words:
        raise UsageError("No input.", hint="Name files, folders or patterns, or - for standard input.")
    found.sources = _distinct(s for s in found.sources if _wanted(s, include, exclude))
    if not found.sources:
        raise NothingToDoError(_nothing(found))
    return found


def absolute(path: Path) -> str:
    """A path from the root, without a look at the disk: `resolve` would take one for each of many thousands."""
    folder, slash, name = str(path).rpartition(os.sep)
    if name in ("", os.curdir, os.pardir):
        return os.path.abspath(path)  # noqa: PTH100
    return _folder(folder + slash, os.getcwd()) + name  # noqa: PTH109


@lru_cache(maxsize=1024)
def _folder(folder: str, here: str) -> str:
    """A folder seen from the folder `here`, with a slash at its end: the same for many files."""
    whole = os.path.normpath(os.path.join(here, folder))  # noqa: PTH118
    return whole if whole.endswith(os.sep) else whole + os.sep


class _Search:
    """Adds what words mean to a `Found`."""

    def __init__(self, found: Found, recursive: bool, leave_out: str | None) -> None:
        self.found = found
        self.recursive = recursive
        self.leave_out = leave_out

    def add(self, word: str) -> None:
        """A file, a folder, standard input, or a pattern."""
        word = without_file_scheme(word)
        if word == STDIN:
            self.found.sources.append(Source(None))
        elif is_uri(word) and not os.path.lexists(word):
            self._add_remote(word)
        elif not self._add_existing(word):
            if glob.has_magic(word):
                self._add_pattern(word)
            else:
                self.found.missing.append((word, _sentence(f"{word} {_problem(word)}")))

    def add_list(self, name: str, stdin: BinaryIO | None) -> None:
        """The files and folders that a list names; patterns mean nothing there."""
        words = _read_list(name, stdin)
        if not words:
            self.found.missing.append((name, f"the list {name} is empty."))
        for word in map(without_file_scheme, words):
            if is_uri(word) and not os.path.lexists(word):
                self._add_remote(word)
            elif len(word) == 1 and Path(word).is_dir():  # rather a broken list than what somebody wants
                meant = f"Write {word.rstrip('/')}/. if that is meant."
                self.found.missing.append((word, f"the list {name} names the folder '{word}'. {meant}"))
            elif not self._add_existing(word):
                self.found.missing.append(
                    (word, _sentence(f"{word}, named in the list {name}, {_problem(word)}"))
                )

    def _add_existing(self, word: str) -> bool:
        if os.path.isdir(word):  # noqa: PTH112 - no name is too long for it
            self.found.many = True
            self._add_folder(Path(word))
        elif os.path.lexists(word):
            self.found.sources.append(Source(Path(word)))
        else:
            return False
        return True

    def _add_folder(self, folder: Path) -> None:
        before, passed_over = len(self.found.sources), self.found.passed_over.copy()
        for parent, folders, files in os.walk(folder, onerror=self._unreadable):
            folders[:] = sorted(f for f in folders if self.recursive and not self._skips(Path(parent), f))
            under = Path(parent).relative_to(folder)
            for name in sorted(files):
                if self._is_picture(name):
                    self.found.sources.append(Source(Path(parent, name), under, named=False))
        if len(self.found.sources) == before:
            deeper = "" if self.recursive else " Look into its folders with --recursive."
            others = ", ".join(
                f"{n} {suffix}" for suffix, n in (self.found.passed_over - passed_over).items()
            )
            found = f"no image that can be read ({others})" if others else "no image"
            self.found.missing.append((str(folder), f"the folder {folder} holds {found}.{deeper}"))

    def _add_remote(self, word: str) -> None:
        from srcli.batch.storage import pictures_at

        before = len(self.found.sources)
        try:
            for uri, under, named in pictures_at(word, recursive=self.recursive):
                try:
                    path = stand_in(uri)
                except UsageError as error:  # somebody has put it there: no reason to leave out the rest
                    self.found.missing.append((uri, error.message))
                    continue
                hidden = any(part.startswith(".") or part.lower() in JUNK_FOLDERS for part in under.parts)
                hidden |= self.leave_out is not None and absolute(path).startswith(self.leave_out + os.sep)
                if named or not (hidden or not self._is_picture(path.name)):
                    self.found.sources.append(Source(path, under, named, uri))
                self.found.many |= not named
        except NothingToDoError as error:
            self.found.missing.append((word, error.message))
            return
        if len(self.found.sources) == before:
            self.found.missing.append((word, f"{word} holds no image."))

    def _add_pattern(self, pattern: str) -> None:
        before = len(self.found.sources)
        self.found.many = True
        for path in map(Path, sorted(glob.glob(pattern, recursive=True))):  # noqa: PTH207
            in_junk = any(part.lower() in JUNK_FOLDERS for part in path.parts)
            if not in_junk and not path.is_dir() and self._is_picture(path.name):
                self.found.sources.append(Source(path, named=False))
        if len(self.found.sources) == before:
            self.found.missing.append((pattern, f"no image matches {pattern}."))

    def _skips(self, parent: Path, name: str) -> bool:
        if name.startswith(".") or name.lower() in JUNK_FOLDERS:
            return True
        return self.leave_out is not None and absolute(parent / name) == self.leave_out

    def _is_picture(self, name: str) -> bool:
        suffix = "." + name.rpartition(".")[2].lower()
        if name.startswith(".") or name.lower() in JUNK_FILES:
            return False
        if suffix in UNREADABLE:
            self.found.passed_over[suffix] += 1
        return suffix in PICTURES

    def _unreadable(self, error: OSError) -> None:
        self.found.missing.append(
            (str(error.filename), f"cannot look into {error.filename}: {error.strerror}.")
        )


def _sentence(text: str) -> str:
    return text if text.endswith("?") else f"{text}."


def _problem(word: str) -> str:
    try:
        os.lstat(word)
    except (FileNotFoundError, NotADirectoryError, ValueError):
        pass
    except OSError as error:  # a closed folder, a name beyond all limits
        return f"cannot be read: {error.strerror}"
    folder, name = os.path.split(word)
    try:
        near = difflib.get_close_matches(name, os.listdir(folder or os.curdir), n=1, cutoff=0.75)  # noqa: PTH208
    except (OSError, ValueError):
        near = []
    return f"does not exist. Did you mean {os.path.join(folder, near[0])}?" if near else "does not exist"  # noqa: PTH118


def _read_list(name: str, stdin: BinaryIO | None) -> list[str]:
    if name == STDIN:
        if stdin is None:
            raise UsageError("A list cannot name standard input.")
        data = stdin.read()
    else:
        try:
            data = Path(name).read_bytes()
        except OSError as error:
            raise NothingToDoError(f"cannot read the list {name}: {error.strerror}.") from error
    return [os.fsdecode(entry) for entry in _entries(data, name) if entry.strip()]


def _entries(data: bytes, name: str) -> list[bytes]:
    """The names in a list: lines, in UTF-16 or UTF-32 if it begins with their mark, or what NUL separates."""
    mark, encoding = next((pair for pair in MARKS.items() if data.startswith(pair[0])), (b"", "utf-8"))
    data = data[len(mark) :]
    try:
        if encoding != "utf-8":
            data = os.fsencode(data.decode(encoding))
        if b"\0" not in data:
            return data.splitlines()
        # Names that NUL ends may hold line breaks; one that stands between lines means another encoding, or a picture.
        if not mark and not UNMARKED.search(data) and (b"\n" not in data or data.endswith(b"\0")):
            return data.split(b"\0")
    except UnicodeError:
        pass
    raise UsageError(
        f"the list {name} is neither text nor names separated by NUL.",
        hint="Save it as UTF-8, or as UTF-16 with its byte order mark.",
    )


def _wanted(source: Source, include: Sequence[str], exclude: Sequence[str]) -> bool:
    if source.path is None:
        return True
    names = source.path.name, (source.under / source.path.name).as_posix()

    def matches(patterns: Sequence[str]) -> bool:
        return any(fnmatch(name, pattern) for name in names for pattern in patterns)

    return (not include or matches(include)) and not matches(exclude)


def _distinct(sources: Iterable[Source]) -> list[Source]:
    """Each file once, where it is first named."""
    found: dict[str | None, Source] = {}
    for source in sources:
        key = source.uri or (None if source.path is None else absolute(source.path))
        found.setdefault(key, source)
    return list(found.values())


def _nothing(found: Found) -> str:
    if not found.missing:
        return "no input is left after --include and --exclude."
    messages = [message for _, message in found.missing]
    return messages[0] if len(messages) == 1 else f"no input was found: {' '.join(messages)}"
