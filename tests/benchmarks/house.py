"""The figures of the house: `python tests/benchmarks/house.py [CHECKOUT ..] [--json]`, side by side for several.

Imports at the top of a module and inside functions count alike. A change of file is a call after a call into another
file, in one thread. One picture's walk is counted in fresh processes of `srcli upscale photo.png -s 4.3`.
"""

import argparse
import ast
import io
import json
import os
import subprocess
import sys
import tempfile
import tokenize
import tomllib
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

LONG_MODULE, LONG_FUNCTION = 400, 60  # lines

# One run, watched: functions that were called ("calls"), or files that were opened and hashed, or options.
WALK = r"""
import hashlib, json, os, runpy, sys, threading
from pathlib import Path
package, what, photo, report = Path(sys.argv[1]).as_posix() + "/", sys.argv[2], sys.argv[3], sys.argv[4]
functions, last, changes, opened, hashed = set(), {}, 0, 0, {}
def profile(frame, event, _):
    global changes
    code, thread = frame.f_code, threading.get_ident()
    if event == "call" and code.co_flags & 1 and code.co_filename.startswith(package):  # 1: not a module or class body
        functions.add((code.co_filename, code.co_qualname))
        changes += last.get(thread, code.co_filename) != code.co_filename
        last[thread] = code.co_filename
def audit(event, words):
    global opened
    opened += event == "open" and words[0] in (photo, os.fsencode(photo))
class Watched:
    def __init__(self, hash, data=b""): self.hash, self.seen = hash, plain(data)
    def update(self, data): self.hash.update(data); self.seen.update(data)
    def __getattr__(self, name):  # digest, hexdigest
        hashed.setdefault(self.seen.digest(), set()).add(self)
        return getattr(self.hash, name)
def times(path): return len(hashed.get(plain(Path(path).read_bytes()).digest(), ()))
plain = hashlib.sha256
if what == "files":
    for name in ("sha256", "blake2b", "new"):
        def watched(*a, _real=getattr(hashlib, name), _at=name == "new", **k):
            return Watched(_real(*a, **k), *a[_at:][:1])
        setattr(hashlib, name, watched)
    sys.addaudithook(audit)
elif what == "calls": threading.setprofile(profile); sys.setprofile(profile)
else:
    import typer.core
    make = typer.core.TyperCommand.make_context
    def listed(self, info_name, *a, **k):
        if info_name != "upscale": return make(self, info_name, *a, **k)
        Path(report).write_text(json.dumps({"options": sum(p.param_type_name == "option" for p in self.params)}))
        os._exit(0)
    typer.core.TyperCommand.make_context = listed
sys.argv = ["srcli", "upscale", photo, "-s", "4.3", "-o", photo + what + ".png"]
try:
    runpy.run_module("srcli", run_name="__main__", alter_sys=True)
except SystemExit as end:
    sys.setprofile(None); threading.setprofile(None)
    if end.code: raise
told = {"files passed": len({file for file, _ in functions}), "functions": len(functions), "changes of file": changes}
if what == "files":
    told = {"modules imported": sum(m.split(".")[0] == "srcli" for m in sys.modules), "input opened": opened,
            "input hashed": times(photo), "weights hashed": max(map(times, Path(package).rglob("*.safetensors")))}
Path(report).write_text(json.dumps(told))
"""


def python_files(folder: Path) -> list[Path]:
    """Modules below a folder, by name."""
    return sorted(path for path in folder.rglob("*.py") if "__pycache__" not in path.parts)


def count_lines(files: list[Path]) -> dict[str, float]:
    """All lines, code (without blank lines, comments and docstrings), and comments and docstrings in percent."""
    lines = code = comments = docstrings = 0
    for path in files:
        text = path.read_text()
        doc: set[int] = set()
        for node in ast.walk(ast.parse(text)):
            if (
                isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef))
                and ast.get_docstring(node) is not None
            ):
                doc |= set(range(node.body[0].lineno, (node.body[0].end_lineno or 0) + 1))
        comments += sum(
            t.type == tokenize.COMMENT for t in tokenize.generate_tokens(io.StringIO(text).readline)
        )
        told = dict(enumerate(map(str.strip, text.splitlines()), 1))
        lines += len(told)
        code += sum(n not in doc and bool(line) and not line.startswith("#") for n, line in told.items())
        docstrings += len(doc)
    shares = (round(100 * part / lines, 1) for part in (comments, docstrings))
    return dict(
        zip(("lines", "of it code", "comments %", "docstrings %"), (lines, code, *shares), strict=True)
    )


def imported(path: Path, root: Path) -> Iterator[str]:
    """Dotted names that a module imports."""
    package = path.relative_to(root).parent.parts
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = [*package[: len(package) - node.level + 1], node.module] if node.level else [node.module]
            yield from (".".join([*filter(None, base), name.name]) for name in node.names)


def rooms_of(root: Path) -> dict[str, float]:
    """Rooms, floors, arrows, circles and loose modules; `srcli/__init__.py` and `__main__.py` are no rooms."""
    rooms: dict[str, str] = {}  # of every module
    files = {path: path.relative_to(root).with_suffix("").parts for path in python_files(root / "srcli")}
    for parts in files.values():
        if len(parts) > 2 or parts[1] not in ("__init__", "__main__"):
            rooms[".".join(parts).removesuffix(".__init__")] = ".".join(
                parts[:-1] if len(parts) > 2 else parts
            )
    arrows: dict[str, set[str]] = defaultdict(set)
    for path, parts in files.items():
        here = rooms.get(".".join(parts).removesuffix(".__init__"))
        for name in imported(path, root) if here else ():
            there = rooms.get(name) or rooms.get(name.rpartition(".")[0])
            arrows[here] |= {there} - {here, None}
    reach = {room: {room} for room in rooms.values()}
    for found in reach.values():
        todo = [*found]
        while todo:
            new = arrows[todo.pop()] - found
            found |= new
            todo += new
    circle = {
        room: frozenset(other for other in found if room in reach[other]) for room, found in reach.items()
    }
    heights: dict[frozenset[str], int] = {}
    for group in sorted(
        set(circle.values()), key=lambda group: len(reach[min(group)])
    ):  # what is below comes first
        below = {circle[other] for room in group for other in arrows[room]} - {group}
        heights[group] = 1 + max((heights[other] for other in below), default=0)
    return {
        "rooms": len(reach),
        "floors": max(heights.values()),
        "arrows": sum(map(len, arrows.values())),
        "import circles": sum(len(group) > 1 for group in heights),
        "rooms in circles": sum(len(group) for group in heights if len(group) > 1),
        "loose modules": sum(len(parts) == 2 for parts in files.values()) - 2,
    }


def walk(root: Path) -> dict[str, float]:
    """What one picture passes; each kind of watching has its own process."""
    told: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        photo, report = Path(folder, "photo.png"), Path(folder, "report.json")
        Image.fromarray(np.random.default_rng(0).integers(0, 255, (24, 32, 3), np.uint8)).save(photo)
        env = {**os.environ, "PYTHONPATH": str(root), "PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1"}
        for what in ("calls", "files", "options"):
            words = [sys.executable, "-c", WALK, str(root / "srcli"), what, str(photo), str(report)]
            run = subprocess.run(words, env=env, cwd=folder, capture_output=True, text=True)
            if run.returncode:
                sys.exit(run.stderr)
            told |= json.loads(report.read_text())
    return {f"upscale: {name}": value for name, value in told.items()}


def figures(root: Path) -> dict[str, float]:
    """Every figure of a checkout."""
    source, tests = python_files(root / "srcli"), python_files(root / "tests")
    contracts = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    calls = [n for path in tests for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Call)]
    patches = [call for call in calls if ast.unparse(call.func) == "monkeypatch.setattr"]
    nodes = [n for path in source for n in ast.walk(ast.parse(path.read_text()))]
    functions = [n for n in nodes if isinstance(n, (ast.FunctionDef, ast.AsyncFunctionDef))]
    length = {path: len(path.read_text().splitlines()) for path in source + tests}
    return {
        **{f"srcli: {name}": value for name, value in count_lines(source).items()},
        "tests: lines": sum(length[path] for path in tests),
        **rooms_of(root),
        "layers of the contract": next(len(c["layers"]) for c in contracts if c["type"] == "layers"),
        **walk(root),
        "files of cli/": len(list((root / "srcli/cli").glob("*.py"))),
        "monkeypatch.setattr in tests": len(patches),
        "of them by dotted path": sum(isinstance(call.args[0], ast.Constant) for call in patches),
        f"modules above {LONG_MODULE} lines": sum(length[path] > LONG_MODULE for path in source),
        f"functions above {LONG_FUNCTION} lines": sum(
            f.end_lineno - f.lineno >= LONG_FUNCTION for f in functions
        ),
    }


def main() -> None:
    """Count, and print a table or JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("checkouts", nargs="*", type=Path, default=[Path(__file__).parents[2]])
    parser.add_argument("--json", action="store_true")
    words = parser.parse_args()
    found = {str(path): figures(path.resolve()) for path in words.checkouts}
    if words.json:
        print(json.dumps(found, indent=2))
        return
    print(f"{'':30}", *(f"{Path(name).resolve().name:>10}" for name in found))
    for name in next(iter(found.values())):
        print(f"{name:30}", *(f"{row[name]:>10}" for row in found.values()))


if __name__ == "__main__":
    main()
