"""What `srcli upscale` reads and where it writes, as the options say it."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from srcli.batch.inputs import STDIN, find_inputs
from srcli.batch.naming import Destination, destination
from srcli.batch.storage import EXTRA_HINT, is_uri, plain, stand_in
from srcli.cli.drawing import for_samples
from srcli.errors import NothingToDoError, UsageError
from srcli.image.formats import FORMATS, find_format, format_of

if TYPE_CHECKING:
    from srcli.batch.inputs import Found
    from srcli.batch.job import Exists
    from srcli.cli.console import Console
    from srcli.cli.upscale_request import Request


def found_inputs(request: Request, console: Console) -> Found:
    """The pictures that are named.

    Raises:
        NothingToDoError: none; where results are JSON, the console has been given that as one.
    """
    words, output = [*(request.inputs or ()), *(request.input_ or ())], request.output
    try:
        return find_inputs(
            words,
            lists=request.from_file or (),
            recursive=request.recursive,
            include=request.include or (),
            exclude=request.exclude or (),
            leave_out=None if output is None else stand_in(output) if is_uri(output) else Path(plain(output)),
            stdin=sys.stdin.buffer,
        )
    except NothingToDoError as error:
        if request.json or request.jsonl:
            from srcli.batch.job import Record
            from srcli.batch.session import as_json

            console.result(as_json(Record.failure(" ".join(words), error)), asked=True)
        raise


def place_of(request: Request, found: Found) -> Destination:
    """Where results go.

    Raises:
        UsageError: the inputs, the outputs and what runs do not go together.
    """
    place = destination(
        request.output,
        template=request.name,
        single=len(found.sources) == 1,
        from_stdin=STDIN in (*(request.inputs or ()), *(request.input_ or ())),
        suffixes=[suffix for form in FORMATS.values() for suffix in form.suffixes],
    )
    if (
        request.samples == 1
        and place.template.has_index
        and not all(source.named for source in found.sources)
    ):
        raise UsageError(
            "--name with {index} gives other names when a file is added to a folder.",
            hint="Use {stem}, or give the files themselves, on the command line or in a list.",
        )
    _check_engine(request, found, place)
    _check_streams(request, place)
    return for_samples(place, request.samples, named=request.name is not None)


def _check_engine(request: Request, found: Found, place: Destination) -> None:
    """Object storage is for Ray, standard streams are for this process.

    Raises:
        UsageError: it is the other way round, or Ray is not installed.
    """
    stored = [source.label for source in found.sources if source.uri]
    stored += [f"{place.scheme}://"] if place.scheme else []
    if request.engine == "local":
        if stored:
            raise UsageError(f"{stored[0]} is in object storage.", hint="Give --engine ray.")
        return
    if importlib.util.find_spec("ray") is None:
        raise UsageError("--engine ray needs Ray.", hint=EXTRA_HINT)
    if place.stdout or any(source.path is None for source in found.sources):
        raise UsageError("--engine ray takes no picture from standard input or to standard output.")
    if stored and request.dry_run:
        raise UsageError("--dry-run does not look into object storage.")


def _check_streams(request: Request, place: Destination) -> None:
    """Standard output carries one thing: a picture, JSON, or lines.

    Raises:
        UsageError: two of them, or a picture for a terminal.
    """
    if request.json and request.jsonl:
        raise UsageError("--json and --jsonl exclude each other.", hint="Give one of them.")
    if not place.stdout or request.dry_run:
        return
    if request.json or request.jsonl:
        raise UsageError("standard output cannot carry the picture and JSON.", hint="Give -o FILE.")
    if sys.stdout.isatty():
        raise UsageError("a terminal shows no picture.", hint="Redirect the output, or give -o FILE.")


def format_for(asked: str, place: Destination) -> str | None:
    """The format to write; None is the input's.

    Raises:
        UsageError: the option and the output's suffix contradict each other.
    """
    chosen = None if asked == "auto" else find_format(asked).name
    path = place.file or Path("name" + (place.template.suffix or ""))
    named = format_of(path)
    if chosen is not None and named is not None and named.name != chosen:
        raise UsageError(
            f"--format {asked} and the output's suffix {path.suffix} disagree.", hint="Drop one."
        )
    return chosen or (None if named is None else named.name)


def policy(request: Request) -> Exists:
    """What happens where the output exists.

    Raises:
        UsageError: options contradict each other.
    """
    short: dict[Exists, bool] = {
        "overwrite": request.overwrite,
        "skip": request.skip_existing,
        "auto": request.resume or request.upgrade,
    }
    chosen = {policy for policy, given in short.items() if given} | (
        {request.exists} if request.exists else set()
    )
    if len(chosen) > 1:
        raise UsageError(
            "--exists, --overwrite, --skip-existing, --resume and --upgrade contradict each other.",
            hint="Give one.",
        )
    return chosen.pop() if chosen else "auto"
