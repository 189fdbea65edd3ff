"""What an `Upscaler` has to do with the Hub, in the words of huggingface_hub."""

from pathlib import Path
from typing import Any, Self

from srcli.config.presets import Preset
from srcli.models.sr import ImplicitSR


class OnHub:
    """A network with its preset that comes from the Hub or goes there; `from_preset` opens a model by its name."""

    network: ImplicitSR
    preset: Preset
    from_preset: Any

    @classmethod
    def from_pretrained(cls, model: str | Path, *, revision: str | None = None, **options: Any) -> Self:
        """The network of a repository on the Hub, ``user/repo``, or of a folder that `save_pretrained` wrote.

        What was fetched once is used without the network. `options` and errors are those of `from_preset`.
        """
        if Path(model).is_dir():
            return cls.from_preset(Path(model) / "model.safetensors", **options)
        return cls.from_preset(f"hf:{model}@{revision}" if revision else f"hf:{model}", **options)

    def save_pretrained(self, folder: str | Path) -> None:
        """Write the network to a folder as a repository of the Hub has it: weights, settings, and a card.

        Raises ModelError (the licence of the weights is not stated), ResourceError (it cannot be written).
        """
        from srcli.weights.hub import save_folder

        save_folder(Path(folder), self.preset, self._save)

    def push_to_hub(self, repo: str, *, private: bool | None = None) -> str:
        """Put the same on the Hub as ``user/repo``, with the token of `hf auth login`; gives the commit's address.

        Raises ModelError (as `save_pretrained`; no access, or no network).
        """
        from srcli.weights.hub import push

        return push(repo, self.preset, self._save, private=private)

    def _save(self, path: Path) -> None:
        from srcli.weights.checkpoint import save

        save(path, self.network, self.preset)
