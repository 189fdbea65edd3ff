"""Fetching published weights: asked for by name, resumable, hashed, converted to safetensors on arrival."""

import http.client
import json
import re
import shutil
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from srcli import __version__
from srcli.config.base_models import MARK, Base, find_base, load_base
from srcli.config.presets import Preset
from srcli.errors import ExistsError, ModelError, ResourceError, WeightsError
from srcli.files import sha256, write_atomically, write_error
from srcli.weights.convert import Installed, install
from srcli.weights.files import SUFFIX, UNSTATED, check_license, models_folder
from srcli.weights.official import fit, read_foreign

BLOCK = 1 << 20
TIMEOUT = 30.0  # seconds without a byte
Report = Callable[[int, int | None], None]  # bytes so far, bytes in all if known


def pull(
    preset: Preset,  # needs `weights.url`
    *,
    folder: Path | None = None,  # where to, instead of the folder of models
    offline: bool = False,  # refuse to use the network
    overwrite: bool = False,  # replace an existing weights file
    report: Report | None = None,  # told how far it is
) -> Installed:
    """Fetch a preset's published weights and install them; an interrupted download is continued by the next call.

    Raises ModelError (nothing is published, offline, no link answers with a file, or a wrong hash), WeightsError (what
    came is damaged or does not fit), ResourceError (it cannot be written).
    """
    folder = folder or models_folder()
    if not preset.weights.links:
        reason = preset.weights.note or "no weights are published."
        raise ModelError(
            f"'{preset.name}' cannot be fetched: {reason}",
            hint=f"Train them (srcli train), or convert a file that you have: "
            f"srcli models import FILE --preset {preset.name} --license SPDX",
        )
    if offline:
        raise ModelError(
            f"the weights of '{preset.name}' are not fetched: offline.",
            hint=f"On a machine with a network: srcli models pull {preset.name} --to FOLDER",
        )
    with alone(folder, preset.name):
        return _pull(preset, folder, overwrite=overwrite, report=report)


def _pull(preset: Preset, folder: Path, *, overwrite: bool, report: Report | None) -> Installed:
    part, url = _fetch_any(preset, folder, report)
    wanted, found = preset.weights.download_sha256, sha256(part)
    if wanted not in (None, found):
        part.unlink()
        raise ModelError(
            f"{url} gave another file than expected: SHA-256 {found[:12]}.., not {str(wanted)[:12]}..."
        )
    return _install(preset, part, folder, {"source": url, "source_sha256": found}, overwrite=overwrite)


@contextmanager
def alone(folder: Path, name: str) -> Iterator[None]:
    """Inside, no other process fetches the same file."""
    from filelock import FileLock, Timeout

    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / f".{name}.lock", timeout=0)
        lock.acquire()
    except Timeout as error:
        raise ModelError(f"'{name}' is being fetched by another process.", hint="Wait for it.") from error
    except OSError as error:
        raise write_error(folder, error) from error
    try:
        yield
    finally:
        lock.release()


def _install(
    preset: Preset, part: Path, folder: Path, source: dict[str, str], *, overwrite: bool
) -> Installed:
    try:
        checkpoint = read_foreign(part)
        stated, problems = fit(checkpoint, preset)
        if problems:
            raise WeightsError(f"{source['source']} does not fit preset '{preset.name}': {problems}.")
        installed = install(
            checkpoint,
            stated,
            _stated_license(source["source"])
            if preset.weights.license == UNSTATED
            else preset.weights.license,
            folder / preset.weights_file,
            source=source,
            overwrite=overwrite,
            named=True,
            where=source["source"],
        )
    except WeightsError:
        part.unlink()  # continuing a damaged file would never end
        raise
    part.unlink()
    return installed


def _stated_license(link: str) -> str:
    """What the model card beside a file on the Hub says now; unstated where there is none, or none that is known."""
    hub = re.match(r"(https?://[^/]+/[^/]+/[^/]+)/resolve/([^/]+)/", link)
    try:
        if hub is None:
            return UNSTATED
        with _open(f"{hub[1]}/raw/{hub[2]}/README.md", 0) as answer:
            card = answer.read(BLOCK).decode("utf-8", "replace")
        header = re.match(r"---\s*\n(.*?)\n---", card, re.DOTALL)
        found = header and re.search(r"^license:\s*['\"]?([\w.-]+)", header[1], re.MULTILINE)
        return check_license(found[1]) if found else UNSTATED
    except (OSError, http.client.HTTPException, ModelError):
        return UNSTATED


def _fetch_any(preset: Preset, folder: Path, report: Report | None) -> tuple[Path, str]:
    failures = []
    for link in preset.weights.links:
        suffix = SUFFIX if urllib.parse.urlsplit(link).path.endswith(SUFFIX) else ".pth"
        part = folder / f"{preset.name}.download{suffix}"
        try:
            fetch(direct(link), part, report=report)
        except ModelError as error:
            failures.append(str(error))
        else:
            return part, link
    raise ModelError(
        " ".join(failures),
        hint=f"Or open the link in a browser, then: srcli models import FILE --preset {preset.name} --license SPDX",
    )


def direct(link: str) -> str:
    """The address that gives the file itself, for services whose links open a page."""
    address = urllib.parse.urlsplit(link)
    host = address.hostname or ""
    if host == "drive.google.com":
        found = re.search(r"/d/([\w-]+)", address.path)
        file_id = found[1] if found else urllib.parse.parse_qs(address.query).get("id", [""])[0]
        query = urllib.parse.urlencode({"id": file_id, "export": "download", "confirm": "t"})
        return f"https://drive.usercontent.google.com/download?{query}"
    if host in ("www.dropbox.com", "dropbox.com"):
        query = urllib.parse.urlencode({**dict(urllib.parse.parse_qsl(address.query)), "dl": "1"})
        return urllib.parse.urlunsplit(address._replace(query=query))
    return link


def fetch(url: str, target: Path, *, report: Report | None = None) -> None:
    """Download `url` to `target`, continuing what is there.

    Raises ModelError (no answer, an error, a page instead of a file, or a broken connection), ResourceError (the disk).
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        done = target.stat().st_size if target.exists() else 0
        with _open(url, done) as answer:
            if answer.status == http.client.PARTIAL_CONTENT and _starts_at(answer) == done:
                _receive(answer, target, "ab", done, report)
            else:
                _receive(answer, target, "wb", 0, report)
    except urllib.error.HTTPError as error:
        error.close()  # it holds the connection open
        if error.code == http.client.REQUESTED_RANGE_NOT_SATISFIABLE and target.exists():
            return  # it was complete already; hash and contents are checked by the caller
        raise ModelError(f"{url} answered {error.code} {error.reason}.") from error
    except (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError) as error:
        reason = getattr(error, "reason", error)
        reason = getattr(reason, "strerror", None) or reason
        raise ModelError(f"no file from {url}: {reason}.") from error
    except OSError as error:
        raise write_error(target, error) from error


def _open(url: str, done: int) -> http.client.HTTPResponse:
    if urllib.parse.urlsplit(url).scheme not in ("https", "http"):
        raise ModelError(f"{url} is not a web address.")
    headers = {"User-Agent": f"srcli/{__version__}", "Accept-Encoding": "identity"}
    if done:
        headers["Range"] = f"bytes={done}-"
    answer: http.client.HTTPResponse = urllib.request.urlopen(
        urllib.request.Request(url, headers=headers), timeout=TIMEOUT
    )
    if answer.headers.get_content_type() == "text/html":
        answer.close()
        raise ModelError(f"{url} gave a web page (a question or a quota), not a file.")
    return answer


def _starts_at(answer: http.client.HTTPResponse) -> int:
    found = re.match(r"bytes (\d+)-", answer.headers.get("Content-Range", ""))
    return int(found[1]) if found else -1


def _receive(
    answer: http.client.HTTPResponse, target: Path, mode: str, done: int, report: Report | None
) -> None:
    length = answer.headers.get("Content-Length")
    total = done + int(length) if length else None
    with target.open(mode) as file:
        while block := answer.read(BLOCK):
            if done == 0 and block.lstrip()[:1] == b"<":
                raise ModelError(f"{answer.url} gave a web page (a question or a quota), not a file.")
            file.write(block)
            done += len(block)
            if report:
                report(done, total)
    if total is not None and done < total:
        raise ModelError(
            f"{answer.url} broke off after {done:,} of {total:,} bytes; run it again to continue."
        )


WEIGHTS = (".safetensors", ".bin")


def pull_base(
    name: str, *, folder: Path | None = None, offline: bool = False, overwrite: bool = False
) -> Path:
    """Fetch a base model to a folder of its own, with the commit beside the weights; what is whole is left alone.

    Raises PresetError (an unknown name), ModelError (offline, or the Hub does not answer with the files), ResourceError
    (it cannot be written), ExistsError (a folder of that name that is not ours).
    """
    about = load_base(name)
    target = (folder or models_folder()) / name
    if (target / MARK).is_file() and not overwrite:
        return target
    if offline:
        raise ModelError(
            f"{about.title} is not fetched: offline.",
            hint=f"On a machine with a network: srcli models pull {name} --to FOLDER; "
            f"then set {about.variable} to the folder here.",
        )
    if target.is_dir() and any(target.iterdir()) and not (target / ".cache").is_dir() and not overwrite:
        raise ExistsError(
            f"{target} exists and was not fetched by srcli.", hint=f"Use it: {about.variable}=FOLDER"
        )
    commit = _fetched(about, target)
    missing = [pattern for pattern in about.files if "*" not in pattern and not (target / pattern).is_file()]
    weights = [path for path in target.rglob("*") if path.suffix in WEIGHTS]
    if not weights or len(missing) == len(about.files):
        raise ModelError(
            f"{about.repository} holds none of the files of {about.title}.",
            hint="Has it moved? Copy presets/bases/NAME.toml to $SRCLI_PRESETS_DIR/bases and change it.",
        )
    shutil.rmtree(target / ".cache", ignore_errors=True)
    record = {
        "repository": about.repository,
        "revision": about.revision,
        "commit": commit,
        "license": about.license,
        "files": {name: sha256(target / name) for name in _files(target)},
    }
    write_atomically(target / MARK, json.dumps(record, indent=2).encode() + b"\n")
    return target


def _fetched(about: Base, target: Path) -> str:
    """Fetch the files into a folder; returns the commit that they are of."""
    import huggingface_hub

    from srcli.weights.hub import answering

    try:
        with answering(about.repository):
            commit: Any = huggingface_hub.HfApi().model_info(about.repository, revision=about.revision).sha
            huggingface_hub.snapshot_download(
                about.repository, revision=commit, local_dir=target, allow_patterns=list(about.files)
            )
    except ModelError as error:
        raise ModelError(
            error.message,
            hint=f"Run again to continue. If it has moved: copy presets/bases/NAME.toml to $SRCLI_PRESETS_DIR/bases and "
            f"change it, or get it elsewhere and name the folder: {about.variable}=FOLDER",
        ) from error
    except OSError as error:
        raise write_error(target, error) from error
    return str(commit)


def check_base(name: str, folder: Path) -> dict[str, str]:
    """Hash the files of a base model again and compare them with what was fetched.

    Gives for every file "ok" or "WRONG"; "MISSING" for one that was fetched and is gone, or that the base model cannot
    do without; "no hash recorded" in a folder that was not fetched by us.
    """
    mark = folder / MARK
    recorded: dict[str, str] = json.loads(mark.read_text("utf-8")).get("files", {}) if mark.is_file() else {}
    needed = [pattern for pattern in load_base(name).files if pattern.endswith(".json")]
    verdicts = dict.fromkeys([*recorded, *needed], "MISSING")
    for each in _files(folder):
        wanted = recorded.get(each)
        verdict = "ok" if wanted is not None and wanted == sha256(folder / each) else "WRONG"
        verdicts[each] = verdict if wanted is not None else "no hash recorded"
    if not any(Path(each).suffix in WEIGHTS and verdict != "MISSING" for each, verdict in verdicts.items()):
        verdicts["weights"] = "MISSING"
    return verdicts


def _files(folder: Path) -> list[str]:
    found = (path for path in folder.rglob("*") if path.suffix in (".json", *WEIGHTS) and path.name != MARK)
    return sorted(path.relative_to(folder).as_posix() for path in found)


def remove_base(name: str) -> Path:
    """Remove a base model that was fetched. Raises ModelError (not here), ResourceError (a folder of the user's)."""
    folder = find_base(name)
    if not (folder / MARK).is_file():
        raise ResourceError(f"{folder} was not fetched by srcli and stays.")
    try:
        shutil.rmtree(folder)
    except OSError as error:
        raise ResourceError(f"cannot remove {folder}: {error.strerror}.") from error
    return folder


def base_verdicts(names: list[str]) -> tuple[list[tuple[str, ...]], list[str]]:
    """A line for every file of base models, and the names of those that are not whole."""
    lines: list[tuple[str, ...]] = []
    wrong = []
    for name in names:
        folder = find_base(name)
        checked = check_base(name, folder)
        lines += [(name, verdict, "", str(folder / file)) for file, verdict in checked.items()]
        if not {"WRONG", "MISSING"}.isdisjoint(checked.values()):
            wrong.append(name)
    return lines, wrong
