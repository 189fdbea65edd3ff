"""Whether a release could go out: `python release/check.py [--tag v0.1.0] [--dist dist] [--sbom srcli.cdx.json]`.

Builds sdist and wheel, looks into them, installs the wheel in a fresh environment and enlarges the example photo there. Every
check is made and said; the exit code is 1 if one fails. Needs `build` and `twine`. `--before` is installed first, for
example `--before torch==2.13.0`; with `--no-deps` the wheel alone follows, with `--with` beside it.
"""

import argparse
import re
import subprocess
import sys
import tarfile
import tempfile
import tomllib
import zipfile
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
MOST = 60e6  # bytes of the wheel
NO_ADDRESS = re.compile(r"example\.(invalid|com|org|net)|TODO|OWNER", re.IGNORECASE)
WANTED = (  # files, by the end of their names
    "srcli/py.typed", "srcli/_presets/rlfn-native.toml", "srcli/_presets/bases/sd2-base.toml",
    "srcli/_presets/recipes/quick.toml", "srcli/_weights/rlfn-native.safetensors", "srcli/evaluate/compare.html",
    ".dist-info/licenses/LICENSE", ".dist-info/licenses/NOTICE",
)  # fmt: skip
IN_SOURCE = ("/tests/test_house.py", "/docs/python.md", "/CHANGELOG.md", "/NOTICE", "/release/check.py")


def run(*words: object, cwd: Path = ROOT) -> str:
    """What a command prints; ValueError with its last lines if it fails."""
    done = subprocess.run([str(word) for word in words], cwd=cwd, capture_output=True, text=True)
    if done.returncode:
        last = " ".join((done.stdout + done.stderr).strip().splitlines()[-3:])
        raise ValueError(f"{words[0]} {words[1]}: exit code {done.returncode}: {last}")
    return done.stdout


def version_of(tag: str | None) -> str:
    """The version, which is a tag's."""
    version = re.search(
        r'^__version__ = "(.+)"', (ROOT / "srcli/__init__.py").read_text("utf-8"), re.MULTILINE
    )[1]
    if tag is not None and tag != f"v{version}":
        raise ValueError(f"the tag {tag} is not v{version}, of srcli/__init__.py")
    return version


def changes(version: str, tag: str | None, root: Path = ROOT) -> str:
    """The changelog tells of the version, with a day; nothing waits above it when it is tagged."""
    text = (root / "CHANGELOG.md").read_text("utf-8")
    sections = re.split(r"^## ", text, flags=re.MULTILINE)[1:]
    titles = [section.partition("\n")[0] for section in sections]
    if not any(re.fullmatch(rf"{re.escape(version)} - \d{{4}}-\d\d-\d\d", title) for title in titles):
        raise ValueError(f"CHANGELOG.md has no section '## {version} - YYYY-MM-DD'")
    waiting = [s for s in sections if s.startswith("Unreleased") and s.partition("\n")[2].strip()]
    if waiting and tag is not None:
        raise ValueError(f"CHANGELOG.md has lines under Unreleased: move them to {version}")
    return f"{version} is told of" + (", lines wait under Unreleased" if waiting else "")


def addresses(root: Path = ROOT) -> str:
    """[project.urls] leads somewhere."""
    urls = tomllib.loads((root / "pyproject.toml").read_text("utf-8"))["project"]["urls"]
    empty = [name for name, url in urls.items() if NO_ADDRESS.search(url)]
    if empty:
        raise ValueError(f"[project.urls] has placeholders: {', '.join(empty)}")
    return ", ".join(urls)


def wheel_of(dist: Path) -> Path:
    """The wheel."""
    (wheel,) = dist.glob("*.whl")
    return wheel


def built(dist: Path) -> str:
    """Sdist and wheel, the second from the first."""
    run(sys.executable, "-m", "build", "--outdir", dist, ROOT)
    run(sys.executable, "-m", "twine", "check", "--strict", *sorted(dist.iterdir()))
    return ", ".join(f"{path.name} {path.stat().st_size / 1e6:.1f} MB" for path in sorted(dist.iterdir()))


def inside(dist: Path) -> str:
    """The wheel holds what is needed and no more; every model has a card."""
    wheel = wheel_of(dist)
    with zipfile.ZipFile(wheel) as files:
        names = files.namelist()
    missing = [end for end in WANTED if not any(name.endswith(end) for name in names)]
    weights = [name for name in names if name.endswith(".safetensors")]
    missing += [name for name in weights if name.replace(".safetensors", ".md") not in names]
    (source,) = dist.glob("*.tar.gz")
    with tarfile.open(source) as archive:
        packed = archive.getnames()
    missing += [f"{source.name}{end}" for end in IN_SOURCE if not any(name.endswith(end) for name in packed)]
    foreign = sorted({name.partition("/")[0] for name in names if not re.match(r"srcli[/-]", name)})
    if missing or foreign or wheel.stat().st_size > MOST:
        raise ValueError(
            f"missing {missing}, not ours {foreign}, {wheel.stat().st_size / 1e6:.1f} of {MOST / 1e6:.0f} MB"
        )
    return f"{len(names)} files, {len(weights)} models"


def works(dist: Path, folder: Path, version: str, options: argparse.Namespace) -> str:
    """The wheel in a fresh environment enlarges the photo, away from the checkout."""
    run(options.python, "-m", "venv", folder / "env")
    scripts = folder / "env" / ("Scripts" if sys.platform == "win32" else "bin")
    pip = (scripts / "python", "-m", "pip", "install", "--quiet")
    for packages in (options.before, options.beside):
        if packages:
            run(*pip, *packages)
    run(*pip, *(["--no-deps"] if options.no_deps else []), wheel_of(dist))
    said = run(scripts / "srcli", "--version", cwd=folder).strip()
    if said != f"srcli {version}":
        raise ValueError(f"srcli --version says {said}")
    photo, result = ROOT / "docs/images/photo.png", folder / "photo_x4.3.png"
    run(scripts / "srcli", "upscale", photo, "-s", "4.3", "-o", result, cwd=folder)
    size = run(scripts / "python", "-c", f"from PIL import Image; print(*Image.open({str(result)!r}).size)")
    if size.split() != ["1939", "1290"]:
        raise ValueError(f"the photo became {size}")
    if options.sbom:
        options.sbom.write_text(run(scripts / "python", ROOT / "release/sbom.py", cwd=folder), "utf-8")
    return f"{said}: 451x300 -> 1939x1290"


def main() -> None:
    """Make every check."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tag", help="the tag that shall be published")
    parser.add_argument(
        "--dist", type=Path, help="an empty folder for what is built; else it is removed again"
    )
    parser.add_argument("--sbom", type=Path, help="file for the bill of materials of the fresh environment")
    parser.add_argument("--python", default=sys.executable, help="of the fresh environment")
    parser.add_argument("--before", nargs="+", help="packages that are installed first")
    parser.add_argument("--with", nargs="+", dest="beside", help="packages that are installed second")
    parser.add_argument("--no-deps", action="store_true", help="install the wheel without what it asks for")
    options = parser.parse_args()
    failed = False
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        dist = (options.dist or folder / "dist").resolve()
        version = ""

        def check(title: str, make: Callable[[], str]) -> str:
            nonlocal failed
            try:
                said, verdict = make(), "ok"
            except (ValueError, OSError) as error:
                said, verdict, failed = str(error), "FAILED", True
            print(f"{title:10} {verdict}: {said}", flush=True)
            return said

        version = check("version", lambda: version_of(options.tag))
        check("changes", lambda: changes(version, options.tag))
        check("addresses", addresses)
        check("build", lambda: built(dist))
        check("contents", lambda: inside(dist))
        check("install", lambda: works(dist, folder, version, options))
    sys.exit(failed)


if __name__ == "__main__":
    main()
