"""What goes out with a release fits together: versions, dependencies, workflows, the container, the bill of materials."""

import importlib.util
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

from srcli import __version__
from srcli.cli import app
from srcli.weights.files import bundled_folder

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
CONDA = {"pytorch": "torch", "py-opencv": "opencv-python", "matplotlib-base": "matplotlib"}


def text(path):
    return (ROOT / path).read_text("utf-8")


@pytest.fixture
def check():
    spec = importlib.util.spec_from_file_location("release_check", ROOT / "release/check.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("path", "pattern"),
    [
        ("release/conda/meta.yaml", r'set version = "(.+)"'),
        ("docs/examples/kubernetes/job.yaml", r"image: srcli:(.+)"),
        ("docs/examples/chainner/__init__.py", r'pypi_name="srcli", version="(.+?)"'),
        ("CITATION.cff", r"\nversion: (.+)"),
    ],
)
def test_the_version_is_the_same_everywhere(path, pattern):
    assert re.search(pattern, text(path))[1] == __version__


def test_the_conda_recipe_asks_for_what_the_package_asks_for():
    run = text("release/conda/meta.yaml").partition("  run:")[2].partition("\ntest:")[0]
    recipe = dict(re.findall(r"- ([\w-]+)(?: >=([\d.]+))?", run))
    assert recipe.pop("python") == PROJECT["requires-python"].removeprefix(">=")
    wanted = {}
    for line in PROJECT["dependencies"]:
        name, _, least = re.match(r"([\w-]+)(\[\w+\])?(?:>=([\d.]+))?", line).groups()
        wanted[name] = least or ""
    assert {CONDA.get(name, name): least for name, least in recipe.items()} == wanted


def test_the_check_refuses_placeholders_and_missing_changes(check, tmp_path):
    assert check.version_of(f"v{__version__}") == __version__
    with pytest.raises(ValueError, match="tag"):
        check.version_of("v9.9.9")
    assert "told" in check.changes(__version__, None)
    with pytest.raises(ValueError, match=r"9\.9\.9"):
        check.changes("9.9.9", None)
    with pytest.raises(ValueError, match="placeholders"):
        check.addresses()
    (tmp_path / "pyproject.toml").write_text('[project.urls]\nRepository = "https://our.host/srcli"', "utf-8")
    assert check.addresses(tmp_path) == "Repository"
    (tmp_path / "CHANGELOG.md").write_text("# C\n\n## Unreleased\n\n- x\n\n## 1.0 - 2026-01-01\n", "utf-8")
    assert "wait" in check.changes("1.0", None, tmp_path)
    with pytest.raises(ValueError, match="Unreleased"):
        check.changes("1.0", "v1.0", tmp_path)


def test_the_changelog_keeps_its_form():
    titles = re.findall(r"^## (.+)", text("CHANGELOG.md"), re.MULTILINE)
    assert titles[0] == "Unreleased"
    assert all(re.fullmatch(r"\d+\.\d+\.\d+ - \d{4}-\d\d-\d\d", title) for title in titles[1:])
    kinds = set(re.findall(r"^### (.+)", text("CHANGELOG.md"), re.MULTILINE))
    assert kinds <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}


def test_workflows_pin_their_actions_and_only_publishing_has_a_right():
    yaml = pytest.importorskip("yaml")
    jobs = {}
    for path in (ROOT / ".github/workflows").glob("*.yml"):
        flow = yaml.safe_load(path.read_text("utf-8"))
        assert flow["permissions"] == {"contents": "read"}, path
        jobs |= flow["jobs"]
    used = [step["uses"] for job in jobs.values() for step in job.get("steps", []) if "uses" in step]
    assert len(used) >= 6
    assert all(re.fullmatch(r"[\w-]+/[\w-]+@v\d+\.\d+\.\d+", each) for each in used)
    assert [name for name, job in jobs.items() if "permissions" in job] == ["publish"]
    assert jobs["publish"]["permissions"] == {"id-token": "write"}
    runs = [step.get("run", "") for name in ("suite", "package") for step in jobs[name]["steps"]]
    assert "bash .ci/run" in runs
    assert any("release/check.py --tag" in each for each in runs)
    assert jobs["suite"]["strategy"]["matrix"]["python"] == ["3.11", "3.12", "3.13"]


def test_issue_forms_ask_for_what_is_there():
    yaml = pytest.importorskip("yaml")
    for path in (ROOT / ".github/ISSUE_TEMPLATE").glob("*.yml"):
        if path.stem != "config":
            fields = yaml.safe_load(path.read_text("utf-8"))["body"]
            assert all(field["type"] in ("input", "textarea") for field in fields), path
    assert "srcli doctor --report" in text(".github/ISSUE_TEMPLATE/bug.yml")


def test_the_container_is_built_of_what_is_here():
    lines = re.sub(r"\\\n", " ", text("release/Dockerfile")).splitlines()
    steps = [line.split(maxsplit=1) for line in lines if line and not line.startswith("#")]
    known = {"ARG", "FROM", "WORKDIR", "COPY", "RUN", "USER", "ENV", "ENTRYPOINT", "CMD"}
    assert {word for word, _ in steps} == known
    assert dict(steps)["ENTRYPOINT"] == '["srcli"]'
    assert dict(steps)["USER"] == "1000"
    kept = [line[1:] for line in text("release/Dockerfile.dockerignore").splitlines() if line.startswith("!")]
    assert all((ROOT / name).exists() for name in kept)
    needed = {"srcli", "presets", "pyproject.toml", PROJECT["readme"], *PROJECT["license-files"]}
    assert needed <= set(kept)


def test_the_pods_of_the_example_do_their_share(tmp_path, monkeypatch):
    yaml = pytest.importorskip("yaml")
    job = yaml.safe_load(text("docs/examples/kubernetes/job.yaml"))["spec"]
    (pod,) = job["template"]["spec"]["containers"]
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    names = [f"{number}.png" for number in range(12)]
    for name in names:
        Image.new("RGB", (8, 8)).save(tmp_path / "photos" / name)
    for each in pod["env"]:
        monkeypatch.setenv(each["name"], each["value"])
    seen = []
    for index in range(job["completions"]):
        monkeypatch.setenv("JOB_COMPLETION_INDEX", str(index))
        result = CliRunner().invoke(app, [*pod["args"], "--dry-run", "--jsonl"])
        assert result.exit_code == 0, result.output
        seen += [Path(json.loads(line)["input"]).name for line in result.stdout.splitlines()]
    assert sorted(seen) == sorted(names)


def test_the_bill_of_materials_names_packages_and_models(tmp_path):
    done = subprocess.run(
        [sys.executable, ROOT / "release/sbom.py"], cwd=tmp_path, capture_output=True, text=True, timeout=120
    )
    if "PackageNotFoundError" in done.stderr:
        pytest.skip("srcli is not installed, or not all that it asks for")
    assert done.returncode == 0, done.stderr
    bill = json.loads(done.stdout)
    parts = {part["name"].lower().replace("_", "-"): part for part in bill["components"]}
    names = {re.match(r"[\w-]+", line)[0] for line in PROJECT["dependencies"]}
    assert names <= {name.replace("_", "-") for name in parts} | {"huggingface_hub"}
    assert parts["real-best"]["licenses"] == [{"license": {"id": "BSD-3-Clause"}}]
    models = [name for name, part in parts.items() if part["type"] == "machine-learning-model"]
    assert set(models) == {path.stem for path in bundled_folder().glob("*.safetensors")}
    known = {part["bom-ref"] for part in bill["components"]} | {bill["metadata"]["component"]["bom-ref"]}
    assert {ref for each in bill["dependencies"] for ref in (each["ref"], *each["dependsOn"])} == known
