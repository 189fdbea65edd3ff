"""Where results go, and what they are called.

The name comes from a template over the fields below. Most are known before a file is opened, so that two inputs
with one output are found before any work, even among many thousands of files.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from string import Formatter
from typing import TYPE_CHECKING, Any

from srcli.batch.inputs import (
    UNREADABLE,
    Source,
    absolute,
    is_uri,
    scheme_of,
    stand_in,
    without_file_scheme,
)
from srcli.errors import ExistsError, UsageError, suggest
from srcli.files import PICTURES
from srcli.image.formats import find_format, format_of

if TYPE_CHECKING:
    from srcli.batch.manifest import Manifest

DEFAULT_TEMPLATE = "{stem}_{size}{ext}"
SAMPLES_TEMPLATE = "{stem}_{size}_{index}{ext}"  # of several results for one input
EXAMPLE: dict[str, Any] = {
    "stem": "photo", "suffix": "jpg", "size": "x4.3", "scale": 4.3, "model": "preset", "width": 2752, "height": 2064,
    "index": 1, "parent": "shots", "ext": ".png",
}  # fmt: skip
FROM_HEADER = frozenset({"scale", "width", "height", "ext"})  # known once the picture's header has been read


class Template:
    """A file name with fields in braces, which take format specifications: ``{stem}_{index:04d}{ext}``.

    Fields: stem, suffix and parent (name, its ending without the dot, and folder of the input), size (x4.3, w3840,
    ..: the size option in short), scale, model, width, height, index (1, 2, ..), ext (of the output, with the dot).
    Where {ext} is missing it is added, unless the name ends in a suffix already. A slash makes folders. Raises
    UsageError (an unknown field, or a name outside the folder).
    """

    def __init__(self, text: str, known_suffixes: Iterable[str] = ()) -> None:
        self.suffix = next((s for s in known_suffixes if text.lower().endswith(s)), None)
        self.text = text if self.suffix or "{ext}" in text else text + "{ext}"
        if not text.strip() or Path(text).anchor or ".." in Path(text).parts:
            raise UsageError(f"--name {text!r} is no name in the output folder.")
        try:
            self._parts = list(Formatter().parse(self.text))
        except ValueError as error:
            raise UsageError(f"--name {text!r}: {error}.") from None
        for _, name, _, _ in self._parts:
            if name is not None and name not in EXAMPLE:
                raise UsageError(f"--name has an unknown field '{name}'.", hint=suggest(name, EXAMPLE))
        self._known = "".join(_with_star(*part) for part in self._parts)
        try:
            self.fill(EXAMPLE)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise UsageError(f"--name {text!r}: {error}.") from None

    @property
    def has_index(self) -> bool:
        """Whether names carry a number."""
        return any(name == "index" for _, name, _, _ in self._parts)

    def fill(self, values: Mapping[str, Any]) -> str:
        """The name for these values."""
        name = self.text.format_map(values)
        if ".." in Path(name).parts or Path(name).anchor:
            raise UsageError(f"the name {name!r} is not in the output folder.", hint="Choose another --name.")
        return name

    def pattern(self, values: Mapping[str, Any]) -> str:
        """The name as far as it is known without opening the input, with ``*`` for the rest."""
        return self._known.format_map(values)


def _with_star(literal: str, name: str | None, spec: str | None, conversion: str | None) -> str:
    """A piece of a template, with ``*`` for a field that only the header tells."""
    text = literal.replace("{", "{{").replace("}", "}}")
    if name is None or name in FROM_HEADER:
        return text + ("" if name is None else "*")
    mark = f"!{conversion}" if conversion else ""
    return f"{text}{{{name}{mark}:{spec}}}"


@dataclass(frozen=True)
class Destination:
    """Where results go; with neither file nor folder nor stdout, beside their inputs."""

    template: Template  # of a result's name in its folder
    file: Path | None = None  # the one result
    folder: Path | None = None  # mirrors the inputs' folders
    stdout: bool = False  # the one result's bytes go to standard output
    scheme: str | None = None  # of the object storage that file or folder stand for

    def path(self, source: Source, values: Mapping[str, Any]) -> Path | None:
        """Path of one result, None for standard output; `values` are the template's fields."""
        if self.stdout or self.file is not None:
            return self.file
        folder = self._folder(source)
        path = folder / self.template.fill(values)
        check_links(path, self.folder or folder)
        return path

    def pattern(self, source: Source, values: Mapping[str, Any]) -> str:
        """The absolute path as far as it is known without opening the input, with ``*`` for the rest."""
        if self.stdout or self.file is not None:
            return absolute(self.file or Path("-"))
        if self.folder is None and source.path is not None:
            folder = absolute(source.path).rpartition(os.sep)[0]
        else:
            folder = absolute(self._folder(source))
        return f"{folder}/{self.template.pattern(values)}"

    def _folder(self, source: Source) -> Path:
        if self.folder is not None:
            return _below(self.folder, source.under)
        return source.path.parent if source.path is not None else Path()


def check_links(path: Path, folder: Path) -> None:
    """Check that no link leads from a path in `folder` to another place; the folder itself may be one."""
    place = os.path.realpath(path)
    if not place.startswith(os.path.join(os.path.realpath(folder), "")):  # noqa: PTH118
        raise ExistsError(
            f"a link leads from the output {path} to {place}.",
            hint="Remove it, or choose another with -o or --name.",
        )


@lru_cache(maxsize=1024)
def _below(folder: Path, under: Path) -> Path:
    return folder / under  # the same for many files


def destination(
    output: str | None, *, template: str | None, single: bool, from_stdin: bool, suffixes: Sequence[str]
) -> Destination:
    """Where ``-o OUTPUT`` and ``--name TEMPLATE`` send results.

    `output`: a file (it ends in the suffix of a picture, or is there, like /dev/null), a folder (it ends in a slash,
    or in anything else), ``-``, or None. `template`: the name of results in a folder. `single`: whether there is
    exactly one input. `from_stdin`: whether an input is standard input, which has no place of its own. `suffixes`:
    the suffixes of formats that can be written. Raises UsageError (several inputs for one file, an unknown suffix, or
    no place at all).
    """
    named = Template(template if template is not None else DEFAULT_TEMPLATE, suffixes)
    if output is None:
        if from_stdin:
            raise UsageError("A picture from standard input needs an output.", hint="Give -o FILE or -o -.")
        return Destination(named)
    if output == "":
        raise UsageError("--output is empty.", hint="Give a file, a folder or -.")
    if is_uri(output):
        path, scheme = stand_in(output), scheme_of(output)
        if single and path.suffix.lower() in suffixes and template is None and not output.endswith("/"):
            return Destination(named, file=path, scheme=scheme)
        return Destination(named, folder=path, scheme=scheme)
    output = without_file_scheme(output)
    path = Path(output)
    suffix = path.suffix.lower()
    is_picture = suffix in PICTURES | UNREADABLE | set(suffixes)
    exists, is_there = os.path.exists(path), os.path.isdir(path)  # noqa: PTH110, PTH112 - no name is too long
    is_folder = output.endswith(("/", os.sep)) or is_there or not (is_picture or exists)
    if output != "-" and is_folder:
        return Destination(named, folder=path)
    if output != "-" and suffix and suffix not in suffixes:
        raise UsageError(
            f"the output {output} has the suffix '{path.suffix}', which is not written.",
            hint=f"{suggest(suffix, suffixes)} End the name of a folder with /.",
        )
    if not single:
        what = "standard output" if output == "-" else output
        raise UsageError(f"several inputs cannot go to {what}.", hint="Give a folder: -o FOLDER/.")
    if template is not None:
        raise UsageError(f"--name has no use with -o {output}.", hint="Give a folder: -o FOLDER/.")
    return Destination(named, stdout=True) if output == "-" else Destination(named, file=path)


def results_of_others(sources: Sequence[Source], manifest: Manifest | None = None) -> set[Source]:
    """Inputs that srcli made from another of them, as they say themselves or the manifest does.

    A result of a file that has been changed since, or of an earlier version, is known by its name.
    """
    from srcli.batch.provenance import content_id, content_of, length_of, read_origin

    local = {s: s.path for s in sources if s.path is not None and s.uri is None}
    files = {s: path for s, path in local.items() if os.path.isfile(path)}  # noqa: PTH113 - in closed folders too
    origins = {s: origin for s, path in files.items() if (origin := read_origin(path)) is not None}
    lengths = {length_of(origin) for origin in origins.values()}
    stems, there, made = set[str](), set[str](), set[Source]()
    for path in files.values() if origins else ():
        stems.add(path.stem)
        with suppress(OSError):  # reported when it is read
            if path.stat().st_size in lengths:
                with path.open("rb") as file:
                    there.add(content_id(*content_of(file)))
    for source, origin in origins.items():
        stem = files[source].stem
        begins = (stem[:i] for i, letter in enumerate(stem) if not letter.isalnum())
        if origin in there or not stems.isdisjoint(begins):
            made.add(source)
    if manifest is not None:
        keys = {source.key for source in sources}
        known = [e for e in manifest.entries.values() if e.finished and e.key in keys]
        recorded = {absolute(Path(e.output)): e.key for e in known if e.output}
        made |= {s for s, path in files.items() if recorded.get(absolute(path), s.key) != s.key}
    return made


@dataclass(frozen=True)
class Clashes:
    """Paths that several inputs would be written to, with those inputs; and inputs, with that whose output they are."""

    shared: list[tuple[Path, list[Source]]]
    inputs: list[tuple[Source, Source]]


def find_clashes(
    sources: Sequence[Source],
    pattern: Callable[[int, Source], str],
    exact: Callable[[int, Source], Path | None],
) -> Clashes:
    """Inputs with one output, and inputs that are the output of another: after a second run over a folder.

    `pattern` gives the output as far as it is known without opening the file; `exact`, asked of suspects only, the path.
    """
    groups: dict[str, list[int]] = defaultdict(list)
    for index, source in enumerate(sources):
        groups[pattern(index, source)].append(index)

    clashes = Clashes([], [])
    for group in groups.values():
        owners: dict[str, tuple[Path, list[Source]]] = {}
        for index in group if len(group) > 1 else []:
            path = exact(index, sources[index])
            if path is not None:
                owners.setdefault(absolute(path), (path, []))[1].append(sources[index])
        clashes.shared.extend(owner for owner in owners.values() if len(owner[1]) > 1)

    def makes(index: int, place: str) -> bool:
        path = exact(index, sources[index])
        return path is not None and absolute(path) == place

    for index, source in enumerate(sources):
        if source.path is None:
            continue
        own = absolute(source.path)
        suspects = [*groups.get(own, ()), *groups.get(own.removesuffix(source.path.suffix) + "*", ())]
        makers = [sources[other] for other in suspects if other != index and makes(other, own)]
        clashes.inputs.extend((source, maker) for maker in makers[:1])
    return clashes


def distinct_template(
    sources: Sequence[Source], pattern: Callable[[int, Source, Template], str], *, samples: bool
) -> str | None:
    """A template by which no two inputs have one output, and no input is one; None if none is known."""
    taken = {absolute(s.path).removesuffix(s.path.suffix) + "*" for s in sources if s.path is not None}
    for words in ("{stem}_{suffix}_{size}", "{parent}_{stem}_{size}", "{parent}_{stem}_{suffix}_{size}"):
        text = words + ("_{index}" if samples else "") + "{ext}"
        template = Template(text)
        names = {pattern(index, source, template) for index, source in enumerate(sources)}
        if len(names) == len(sources) and taken.isdisjoint(names):
            return text
    return None


def for_samples(place: Destination, samples: int, *, named: bool) -> Destination:
    """Where the samples of an input go: with a number in their names.

    `place`: where results go. `samples`: results for every input. `named`: whether the template was asked for. Raises
    UsageError (they have one name).
    """
    if samples == 1:
        return place
    if place.stdout or place.file is not None:
        raise UsageError(
            f"{samples} samples cannot go to {place.file or 'standard output'}.",
            hint="Give a folder: -o FOLDER/.",
        )
    if not named:
        return replace(place, template=Template(SAMPLES_TEMPLATE))
    if not place.template.has_index:
        raise UsageError(
            f"{samples} samples would have one name.",
            hint="Put {index} into --name, for example {stem}_{size}_{index}{ext}.",
        )
    return place


def output_format(asked: str, place: Destination) -> str | None:
    """The format to write; None is the input's.

    Raises UsageError (the option and the output's suffix contradict each other).
    """
    chosen = None if asked == "auto" else find_format(asked).name
    path = place.file or Path("name" + (place.template.suffix or ""))
    named = format_of(path)
    if chosen is not None and named is not None and named.name != chosen:
        raise UsageError(
            f"--format {asked} and the output's suffix {path.suffix} disagree.", hint="Drop one."
        )
    return chosen or (None if named is None else named.name)
