"""Models on the Hub: ``hf:user/repo[@revision][:file]``, fetched once and used without the network from then on.

Files lie in the cache of huggingface_hub. A repository of ours has `model.safetensors`, the preset as `config.json`, and
a model card with the licence.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from srcli.config.presets import Preset
from srcli.errors import ModelError, UsageError, first_line
from srcli.files import write_atomically
from srcli.weights.files import LICENSES, NETWORKS, SUFFIX, UNSTATED, metadata, resolve

SCHEME = "hf:"
FORM = re.compile(r"hf:(?P<repo>[\w.-]+/[\w.-]+)(?:@(?P<revision>[^:@]+))?(?::(?P<file>[^:]+))?")
FILE = "model.safetensors"
TAGS = ("image-super-resolution", "arbitrary-scale")


@dataclass(frozen=True)
class Reference:
    """A weights file on the Hub; without `file` it is `model.safetensors`, or the only one that there is."""

    repo: str
    revision: str | None = None  # a branch, a tag or a commit; None: the main branch
    file: str | None = None

    @staticmethod
    def parse(text: str) -> Reference:
        """From what was typed; UsageError for another form."""
        found = FORM.fullmatch(text)
        if found is None:
            raise UsageError(
                f"'{text}' names nothing on the Hub.", hint="Write hf:user/repo[@revision][:file]."
            )
        return Reference(**found.groupdict())

    def __str__(self) -> str:
        at = f"@{self.revision}" if self.revision else ""
        return f"{SCHEME}{self.repo}{at}" + (f":{self.file}" if self.file else "")

    def preset(self) -> Preset:
        """The preset of the file, which is called like its repository where it has no name of its own."""
        preset = resolve(self.fetch())
        return replace(preset, name=self.repo.partition("/")[2]) if preset.name == "model" else preset

    def fetch(self, *, refresh: bool = False) -> Path:
        """The file here, as it was fetched first; `refresh` asks the Hub again.

        Raises ModelError (no such repository, revision or file, several files, no network), ResourceError (the disk).
        """
        import huggingface_hub as hub
        from huggingface_hub.utils.tqdm import disable_progress_bars

        here = None if refresh else self._here()
        if here is not None:
            return here
        if os.environ.get("SRCLI_OFFLINE", "") not in ("", "0"):
            raise ModelError(
                f"{self} is not fetched: offline.", hint=f"With a network: srcli models pull {self}"
            )
        if not sys.stderr.isatty():
            disable_progress_bars()
        with answering(self):
            file = self.file or self._chosen(hub.HfApi().list_repo_files(self.repo, revision=self.revision))
            return Path(hub.hf_hub_download(self.repo, file, revision=self.revision))

    def _here(self) -> Path | None:
        import huggingface_hub as hub
        from huggingface_hub.errors import LocalEntryNotFoundError

        if self.file:
            found = hub.try_to_load_from_cache(self.repo, self.file, revision=self.revision)
            return Path(found) if isinstance(found, str) else None
        try:
            folder = Path(hub.snapshot_download(self.repo, revision=self.revision, local_files_only=True))
        except LocalEntryNotFoundError:
            return None
        files = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]
        return folder / self._chosen(files) if any(_is_weights(file) for file in files) else None

    def _chosen(self, files: Sequence[str]) -> str:
        weights = [file for file in files if _is_weights(file)]
        safe = [file for file in weights if file.endswith(SUFFIX)]
        if FILE in weights:
            return FILE
        if len(safe or weights) != 1:
            what = f"several: {', '.join(weights[:8])}" if weights else "none"
            hint = f"Name one: {self}:{weights[0]}" if weights else "Is it another kind of repository?"
            raise ModelError(f"of weights files {self.repo} has {what}.", hint=hint)
        return (safe or weights)[0]


def _is_weights(file: str) -> bool:
    return Path(file).suffix in (SUFFIX, *NETWORKS)


@contextmanager
def answering(what: Reference | str) -> Iterator[None]:
    """Inside, what the Hub answers, or that it does not, becomes an error for people."""
    from huggingface_hub import errors

    repo = what.repo if isinstance(what, Reference) else what
    on_the_way: Any = errors.HfHubHTTPError.__mro__[1]  # of the library that carries it
    try:
        yield
    except errors.GatedRepoError as error:
        raise ModelError(
            f"{repo} is only for those who have accepted its terms.", hint="Log in: hf auth login"
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise ModelError(
            f"there is no {repo} on the Hub, or it is not public.",
            hint="Check the name, or log in: hf auth login",
        ) from error
    except (errors.RevisionNotFoundError, errors.EntryNotFoundError, errors.HFValidationError) as error:
        if isinstance(error, errors.LocalEntryNotFoundError):
            raise _unreachable(what, error) from error
        raise ModelError(
            f"there is no {what} on the Hub.", hint=f"{repo} has no such revision or file."
        ) from error
    except errors.HfHubHTTPError as error:
        raise ModelError(f"the Hub refuses {what}: {first_line(error)}.", hint="Try again later.") from error
    except (on_the_way, ConnectionError) as error:
        raise _unreachable(what, error) from error


def _unreachable(what: Reference | str, error: BaseException) -> ModelError:
    return ModelError(
        f"{what} is not here, and the Hub cannot be reached ({first_line(error)}).",
        hint="Run it again with a network; what is fetched once works without.",
    )


def save_folder(folder: Path, preset: Preset, write: Callable[[Path], None]) -> None:
    """Write a repository of a model to a folder: `write` gives its weights file. ModelError for an unstated licence."""
    _published(folder.name, preset, write).save_pretrained(folder, config=preset.to_dict())


def copy_to(source: Path) -> Callable[[Path], None]:
    """What writes the weights file `source` again. Raises ModelError (it is none of ours)."""
    if source.suffix != SUFFIX or "preset" not in metadata(source):
        raise ModelError(
            f"{source} is no weights file of ours.", hint=f"Make one: srcli models import {source}"
        )
    return lambda target: write_atomically(target, source.read_bytes())


def push(repo: str, preset: Preset, write: Callable[[Path], None], *, private: bool | None = None) -> str:
    """Put a model on the Hub, and give the address of the commit; as `save_folder`, and as the Hub answers."""
    with answering(Reference(repo)):
        published = _published(repo, preset, write)
        return str(published.push_to_hub(repo, config=preset.to_dict(), private=private))


def _published(repo: str, preset: Preset, write: Callable[[Path], None]) -> Any:
    from huggingface_hub import ModelCard, ModelCardData, ModelHubMixin

    if preset.weights.license == UNSTATED:
        raise ModelError(
            f"the licence of '{preset.name}' is not stated.",
            hint="State it: srcli models import FILE --license SPDX",
        )

    class Published(ModelHubMixin):
        def _save_pretrained(self, save_directory: Path) -> None:
            write(save_directory / FILE)

        def generate_model_card(self, *_: Any, **__: Any) -> ModelCard:
            return ModelCard(
                f"---\n{_card_data(ModelCardData, preset).to_yaml()}\n---\n\n{_card(preset, repo)}"
            )

    return Published()


def _card_data(kind: Any, preset: Preset) -> Any:
    own = preset.weights.license
    known = own in LICENSES
    return kind(
        license=own.lower() if known else "other",
        license_name=None if known else own.lower(),
        library_name="srcli",
        pipeline_tag="image-to-image",
        tags=[*TAGS, "model_hub_mixin"],
    )


def _card(preset: Preset, repo: str) -> str:
    low, high = preset.scales.trained
    facts = {
        "Network": f"encoder `{preset.encoder.name}`, decoder `{preset.decoder.name}`",
        "Trained scales": f"{low:g} to {high:g}",
        "Trained on": preset.training.data,
        "Licence of the weights": preset.weights.license,
        "Licence of the authors' code": preset.code_license,
        "Paper": preset.paper,
        "Code": preset.origin,
    }
    listed = "\n".join(f"- {name}: {value}" for name, value in facts.items() if value)
    use = f"```sh\nsrcli upscale photo.png -s 4.3 -m hf:{repo}\n```"
    return f"# {preset.title}\n\nEnlarges pictures by any factor:\n\n{use}\n\n{listed}\n"
