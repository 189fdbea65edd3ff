"""A Hub of base models on this machine."""

from types import SimpleNamespace


def serve(monkeypatch, put, commit):
    """Let `put(folder, patterns)` fetch what a repository has, at a commit; a list of what was asked."""
    asked = []

    def info(_self, repository, revision):
        asked.append((repository, revision))
        return SimpleNamespace(sha=commit)

    def snapshot(repository, *, revision, local_dir, allow_patterns):
        asked.append((repository, revision, tuple(allow_patterns)))
        put(local_dir, allow_patterns)
        return str(local_dir)

    monkeypatch.setattr("huggingface_hub.HfApi.model_info", info)
    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot)
    return asked
