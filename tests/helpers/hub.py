"""A Hub on this machine: of base models, and one that answers by HTTP."""

import base64
import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
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

    for name, answer in (("HfApi.model_info", info), ("snapshot_download", snapshot)):
        monkeypatch.setattr(f"huggingface_hub.{name}", answer)
    return asked


class Hub:
    """A Hub with the few endpoints that are used: `files[repo]` is name -> content; `asked` are paths, `down` refuses all.

    `commits[repo]` are its commits, the last one being the main branch; every revision has the same files.
    """

    def __init__(self, monkeypatch, cache):
        from huggingface_hub import constants

        hub, self.files, self.asked, self.commits = self, {}, [], {}

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                hub.answer(self)

            do_HEAD = do_POST = do_GET

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.address = f"http://127.0.0.1:{self.server.server_port}"
        template = self.address + "/{repo_id}/resolve/{revision}/{filename}"
        own = {"ENDPOINT": self.address, "HUGGINGFACE_CO_URL_TEMPLATE": template, "HF_HUB_CACHE": str(cache)}
        for name, value in own.items():
            monkeypatch.setattr(constants, name, value)
        monkeypatch.setenv("HF_TOKEN", "hf_test")

    def put(self, repo, files):
        self.files.setdefault(repo, {}).update(files)
        self.commits.setdefault(repo, []).append(f"{len(self.commits.get(repo, ())) + 1:040x}")

    def close(self):
        self.server.shutdown()
        self.server.server_close()

    def answer(self, request):
        self.asked.append(f"{request.command} {request.path}")
        path = request.path.partition("?")[0].strip("/").split("/")
        body = request.rfile.read(int(request.headers.get("Content-Length") or 0))
        if path[:2] == ["api", "repos"]:
            table = json.loads(body)
            repo = "/".join(filter(None, (table.get("organization"), table["name"])))
            self.put(repo, {})
            return _json(request, {"url": f"{self.address}/{repo}"})
        if path[:2] == ["api", "validate-yaml"]:
            return _json(request, {"errors": [], "warnings": []})
        repo = "/".join(path[2:4] if path[0] == "api" else path[:2])
        if repo not in self.files:
            return _missing(request, "RepoNotFound")
        revision = path[5] if path[0] == "api" and len(path) > 5 else path[3] if path[0] != "api" else "main"
        if revision not in ("main", "v1", *self.commits[repo]):
            return _missing(request, "RevisionNotFound")
        if path[0] != "api":
            return self._file(request, repo, "/".join(path[4:]))
        if path[4:5] == ["tree"]:
            files = self.files[repo].items()
            return _json(request, [{"type": "file", "path": n, "oid": "0", "size": len(c)} for n, c in files])
        if path[4:5] == ["preupload"]:
            names = [each["path"] for each in json.loads(body)["files"]]
            modes = [{"path": name, "uploadMode": "regular", "shouldIgnore": False} for name in names]
            return _json(request, {"files": modes})
        if path[4:5] == ["commit"]:
            lines = [json.loads(line) for line in body.splitlines()]
            new = [line["value"] for line in lines if line["key"] == "file"]
            self.put(repo, {each["path"]: base64.b64decode(each["content"]) for each in new})
            commit = self.commits[repo][-1]
            return _json(
                request, {"commitUrl": f"{self.address}/{repo}/commit/{commit}", "commitOid": commit}
            )
        return _json(request, {"id": repo, "sha": self.commits[repo][-1], "siblings": [], "tags": []})

    def _file(self, request, repo, name):
        if name not in self.files[repo]:
            return _missing(request, "EntryNotFound", {"X-Repo-Commit": self.commits[repo][-1]})
        content = self.files[repo][name]
        etag = hashlib.sha256(content).hexdigest()
        return _answer(request, 200, content, {"X-Repo-Commit": self.commits[repo][-1], "ETag": f'"{etag}"'})


def _answer(request, code, content, headers):
    request.send_response(code)
    for name, value in {**headers, "Content-Length": str(len(content))}.items():
        request.send_header(name, value)
    request.end_headers()
    if request.command != "HEAD":
        request.wfile.write(content)


def _json(request, table):
    _answer(request, 200, json.dumps(table).encode(), {"Content-Type": "application/json"})


def _missing(request, code, headers=()):
    _answer(request, 404, b"{}", {"X-Error-Code": code, **dict(headers)})
