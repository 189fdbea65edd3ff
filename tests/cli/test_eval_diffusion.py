"""`srcli eval` with diffusion models: steps, branches, choices, and what `pareto` makes of the rows."""

import json

import pytest
from typer.testing import CliRunner

from srcli.cli import app
from tests.cli.test_eval import SET5, here, run  # noqa: F401 - `here` is a fixture


@pytest.fixture(autouse=True)
def place(here):  # noqa: F811
    return here


def rows(*words):
    return [
        json.loads(line) for line in run(*words, "--format", "jsonl", "--metrics", "psnr").stdout.splitlines()
    ]


def test_a_sweep_over_steps_has_a_row_for_each_and_pareto_reads_them(fplia, place):
    found = rows(*SET5, "-m", fplia, "-s", 2, "--limit", 1, "--steps", "1,2", "--sampling", "sampler=ddim")
    sampled = [row for row in found if row["family"] == "diffusion"]
    assert [row["steps"] for row in sampled] == [1, 2]
    assert all(row["seed"] == 0 and row["generate"] > 0 for row in sampled)
    assert sampled[0]["psnr"] != sampled[1]["psnr"]
    assert all(row["steps"] is None for row in found if row["family"] != "diffusion")
    words = [
        *SET5, "-m", fplia, "-s", 2, "--limit", 1, "--steps", "1,2", "--metrics", "psnr", "-o",
        "rows.jsonl",
    ]  # fmt: skip
    run(*words)
    done = CliRunner().invoke(
        app, ["pareto", "rows.jsonl", "--x", "seconds", "--y", "psnr", "-o", "front.svg"]
    )
    assert done.exit_code == 0, done.output
    assert "steps" in (place / "front.svg").read_text() or "tiny-fplia" in (place / "front.svg").read_text()


def test_rows_of_other_samplers_are_not_taken_from_the_cache(fplia):
    words = [*SET5, "-m", fplia, "-s", 2, "--limit", 1, "--steps", "2"]
    first, again = rows(*words), rows(*words)
    assert [row["seconds"] for row in first] == [row["seconds"] for row in again]
    other = rows(*words, "--sampling", "sampler=ddim")
    assert other[-1]["psnr"] != first[-1]["psnr"]
    branch = rows(*words, "--branch", "p")
    assert branch[-1]["model"] == "tiny-fplia/p"
    assert branch[-1]["psnr"] != first[-1]["psnr"]


def test_branches_are_models_of_their_own(fplia):
    found = rows(
        "--bench", "Set5", "--data", "data", "-m", fplia, "-s", 2, "--limit", 1, "--branch", "f,fp,selected"
    )
    assert [row["model"] for row in found] == ["tiny-fplia/f", "tiny-fplia/fp", "tiny-fplia"]
    assert len({row["psnr"] for row in found}) == 3


def test_choices_are_told_by_scale_by_weight_and_by_content_beside_the_paper(fplia):
    words = [*SET5, "-m", fplia, "-s", "2,3", "--metrics", "psnr", "--selection-stats"]
    document = json.loads(run(*words, "--json").stdout)
    lines = [(line["scale"], line["of"]) for line in document["selection"]]
    kinds = ["pixels", "pictures", "flat", "edge", "texture"]
    assert lines == [(2, kind) for kind in [*kinds, "published"]] + [(3, kind) for kind in kinds]
    for line in document["selection"]:
        total = sum(line[name] for name in ("f", "p", "pf", "fp"))
        assert total == pytest.approx(0 if line.get("part") == 0 else 100, abs=0.02)
    parts = [line["part"] for line in document["selection"] if "part" in line and line["scale"] == 2]
    assert sum(parts) == pytest.approx(100)
    table = run(*words).stdout
    assert "branches chosen" in table
    assert "47.35" in table


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--steps", "5"], "--steps: none of these models"),
        (["--selection-stats"], "none of these models chooses"),
        (["--branch", "f"], "none of these models has branches"),
    ],
)
def test_options_without_a_diffusion_model_are_refused(words, said):
    assert said in " ".join(run(*SET5, *words, code=2).output.split())


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--steps", "0"], "from 1 to 1000"),
        (["--steps", "two"], "whole numbers"),
        (["--official", "--steps", "9"], "settles the steps"),
        (["--sampling", "sampler=dpm"], "unknown sampler"),
        (["--branch", "q"], "unknown branch"),
        (["--selection-stats", "--tta"], "no one choice"),
        (["--selection-stats", "--sampling", "average=2"], "no one choice"),
        (["--selection-stats", "-o", "rows.jsonl"], "jsonl has rows only"),
    ],
)
def test_wrong_values_are_refused(fplia, words, said):
    assert said in " ".join(run(*SET5, "-m", fplia, *words, code=2).output.split())
