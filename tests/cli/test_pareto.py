"""`srcli pareto` as people type it."""

import csv
import json
import subprocess
import sys
from dataclasses import replace

import pytest
from typer.testing import CliRunner

from srcli.cli import app
from srcli.evaluate.rows import Row, csv_text, jsonl_text
from tests.cli.conftest import picture, save

VALUES = {"faithful": (30.0, 0.3), "sharp": (27.0, 0.1), "beaten": (26.0, 0.35)}


def rows(**other):
    fields = {"benchmark": "Set5", "scale": 4.0, "protocol": "liif-benchmark/1", "seconds": 1.0} | other
    return [
        Row(model, image=image, metrics={"psnr": p + n, "lpips": q}, **fields)
        for model, (p, q) in VALUES.items()
        for n, image in enumerate(("one", "two"))
    ]


@pytest.fixture
def pareto(folder, monkeypatch):
    monkeypatch.delenv("SRCLI_DATA_DIR", raising=False)
    (folder / "rows.jsonl").write_text(jsonl_text(rows()))

    def run(*words):
        return CliRunner().invoke(app, ["pareto", *map(str, words)])

    return run


def test_the_table_names_the_front_and_who_beats_the_rest(pareto):
    result = pareto("rows.jsonl", "--hypervolume", "--ci", "--cost", "seconds")
    assert result.exit_code == 0
    lines = {line.split()[0]: line for line in result.stdout.splitlines()}
    assert lines["faithful"].endswith("on the front")
    assert lines["beaten"].endswith("dominated by faithful, sharp")
    assert "[30.00, 31.00]" in lines["faithful"]
    assert "protocol liif-benchmark/1" in result.stdout
    assert "hypervolume" in result.stdout


def test_json_can_be_read_by_a_program(pareto):
    result = pareto("rows.jsonl", "--json", "--hypervolume-from", "20,1")
    (panel,) = json.loads(result.stdout)["panels"]
    assert panel["front"] == ["sharp", "faithful"]
    assert panel["dominated"] == {"beaten": ["faithful", "sharp"]}
    assert panel["hypervolume"] == pytest.approx(7.5 * 0.9 + 3 * 0.7)


def test_every_format_is_written_by_its_suffix(pareto, folder):
    names = ["p.png", "p.svg", "p.pdf", "p.html", "p.csv", "p.tex", "p.json", "p.txt"]
    result = pareto("rows.jsonl", *(word for name in names for word in ("-o", f"out/{name}")))
    assert result.exit_code == 0, result.output
    starts = {n: (folder / "out" / n).read_bytes()[:9] for n in names}
    assert starts["p.png"][1:4] == b"PNG"
    assert starts["p.pdf"].startswith(b"%PDF")
    page = (folder / "out" / "p.html").read_text()
    assert "<svg" in page
    assert "dominated by faithful, sharp" in page
    points = list(csv.DictReader((folder / "out" / "p.csv").read_text().splitlines()))
    assert [p["label"] for p in points if p["front"] == "True"] == ["faithful", "sharp"]
    assert r"\toprule" in (folder / "out" / "p.tex").read_text()


def test_csv_and_several_files_are_read_and_panels_get_their_own_files(pareto, folder):
    (folder / "more.csv").write_text(csv_text([r.to_dict() for r in rows(scale=2.0)]))
    result = pareto("rows.jsonl", "more.csv", "--no-facet", "-o", "p.svg")
    assert result.exit_code == 0, result.output
    assert {p.name for p in folder.glob("*.svg")} == {"p_Set5_x4.svg", "p_Set5_x2.svg"}


def test_rows_are_chosen_by_set_scale_and_protocol(pareto, folder):
    mixed = [*rows(), *rows(protocol="classic-y/1"), *rows(benchmark="B100", scale=2.0)]
    (folder / "rows.jsonl").write_text(jsonl_text(mixed))
    assert pareto("rows.jsonl", "-b", "bsd100", "-s", "2x").stdout.startswith("B100 x2, ")
    assert "Set5 x4" in pareto("rows.jsonl", "--protocol", "classic-y", "-b", "set5").stdout
    refused = pareto("rows.jsonl")
    assert refused.exit_code == 2
    assert "unlike protocols" in refused.stderr
    assert pareto("rows.jsonl", "--mix-protocols").exit_code == 0
    nothing = pareto("rows.jsonl", "-s", "3")
    assert (nothing.exit_code, "There are: Set5 x4" in nothing.stderr) == (2, True)


def test_published_points_are_named_with_their_source(pareto, folder):
    renamed = [replace(r, metrics={"psnr-y": r.metrics["psnr"], "lpips": r.metrics["lpips"]}) for r in rows()]
    (folder / "rows.jsonl").write_text(jsonl_text(renamed))
    result = pareto("rows.jsonl", "--x", "psnr-y", "--reference", "builtin")
    assert result.exit_code == 0, result.output
    (line,) = [ln for ln in result.stdout.splitlines() if ln.startswith("IDM ")]
    assert line.split()[1:4] == ["diffusion", "30.11", "0.1100"]
    assert "published (fplia/1)" in line


@pytest.mark.parametrize(
    ("metrics", "axes"),
    [
        ({"psnr": 30.0, "psnr-y": 31.0, "niqe-srcli": 5.0, "ssim": 0.9}, ("psnr", "niqe-srcli")),
        ({"psnr-y": 31.0, "ssim": 0.9}, ("psnr-y", "ssim")),
        ({"psnr": 30.0, "psnr-y": 31.0}, ("psnr", "psnr-y")),
        ({"psnr": 30.0, "ssim": 0.9, "lpips": 0.2}, ("psnr", "lpips")),
    ],
)
def test_axes_are_what_the_rows_have(pareto, folder, metrics, axes):
    (folder / "rows.jsonl").write_text(jsonl_text([replace(row, metrics=metrics) for row in rows()]))
    (panel,) = json.loads(pareto("rows.jsonl", "--json").stdout)["panels"]
    assert (panel["x"], panel["y"]) == axes


def test_published_points_are_drawn_without_rows(pareto, folder):
    words = ("--reference", "builtin", "-b", "set5", "-s", "4")
    result = pareto(*words, "--hypervolume")
    assert result.exit_code == 0, result.output
    line = next(ln for ln in result.stdout.splitlines() if ln.startswith("EDSR-baseline LIIF "))
    assert line.split()[2:5] == ["regression", "32.24", "0.1730"]
    document = json.loads(pareto(*words, "--json").stdout)
    assert document["panels"][0]["front"] == []
    assert {point["published in"] for point in document["points"]} >= {"linf/1", "fplia/1"}
    assert pareto(*words, "-o", "p.svg").exit_code == 0
    assert b"<svg" in (folder / "p.svg").read_bytes()


def test_published_points_that_no_table_has_are_said(pareto):
    result = pareto("rows.jsonl", "--reference", "builtin")
    assert "no table prints psnr and lpips of Set5 x4 alike" in result.stdout


def test_models_are_measured_first_where_asked(pareto, folder, monkeypatch):
    monkeypatch.setenv("SRCLI_CACHE_DIR", str(folder / "cache"))
    for name in "ab":
        save(folder / "data" / "Set5" / f"{name}.png", picture(48, 64))
    words = (
        "-m", "bicubic", "-m", "nearest", "-b", "Set5", "--data", "data", "--x", "psnr-y", "--y", "ssim",
        "--json",
    )  # fmt: skip
    result = pareto(*words)
    assert result.exit_code == 0, result.output
    (panel,) = json.loads(result.stdout)["panels"]
    assert {"bicubic", "nearest"} >= set(panel["front"])
    assert panel["lr"].startswith("made here")


def test_a_table_and_a_picture_need_no_torch(pareto):
    code = "import sys; sys.argv[0] = 'srcli'; from srcli.cli import app; app(standalone_mode=False); "
    code += "sys.exit('torch' in sys.modules)"
    words = ["pareto", "rows.jsonl", "-o", "p.svg", "-o", "p.txt"]
    assert subprocess.run([sys.executable, "-c", code, *words], check=False).returncode == 0


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["absent.json"], 3, "absent.json is no file"),
        ([], 2, "No rows to draw"),
        (["rows.jsonl", "--y", "lpisp"], 2, "Did you mean 'lpips'"),
        (["rows.jsonl", "--y", "ssim"], 2, "no row has both psnr and ssim"),
        (["rows.jsonl", "--x", "lpips", "--y", "lpips"], 2, "--x and --y are both lpips"),
        (["--reference", "builtin", "-b", "Set5", "-s", "17"], 2, "no table prints"),
        (["--reference", "builtin"], 2, "No rows to draw"),
        (["--reference", "builtin", "-b", "Set55"], 2, "Did you mean 'Set5'"),
        (["rows.jsonl", "--cost", "params"], 2, "no row says its params"),
        (["rows.jsonl", "-o", "p.xyz"], 2, "suffix does not say"),
        (["rows.jsonl", "-f", "png"], 2, "needs a file"),
        (["rows.jsonl", "--hypervolume-from", "1"], 2, "takes two numbers"),
        (["-m", "bicubic"], 2, "--model needs benchmarks"),
        (["empty.jsonl"], 2, "holds no rows"),
        (["broken.json"], 2, "is no file of rows"),
        (["nan.jsonl"], 2, "is not a number (NaN)"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(pareto, folder, words, code, message):
    (folder / "empty.jsonl").write_text("")
    (folder / "broken.json").write_text('{"rows": [')
    (folder / "nan.jsonl").write_text('{"model": "a", "benchmark": "Set5", "image": "i", "scale": 4, '
                                      '"protocol": "p/1", "psnr": "nan", "lpips": 1}\n')  # fmt: skip
    result = pareto(*words)
    assert result.exit_code == code
    assert message in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
