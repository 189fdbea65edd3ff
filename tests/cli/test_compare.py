"""`srcli compare` as people type it, and its page in a real browser where there is one."""

import json
import shutil
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from urllib import request

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from srcli.cli import app
from srcli.cli.compare import parse_series
from tests.cli.conftest import picture, save, size_of

HR = picture(48, 64)


@pytest.fixture
def compare(folder):
    """`compare(*words)` in a folder with hr.png, lr.png, good.png and bad.png."""
    save(folder / "hr.png", HR)
    save(folder / "lr.png", HR[::4, ::4])
    save(folder / "good.png", np.clip(HR.astype(int) + 2, 0, 255).astype(np.uint8))
    save(folder / "bad.png", np.clip(HR.astype(int) + 40, 0, 255).astype(np.uint8))

    def run(*words):
        return CliRunner().invoke(app, ["compare", *map(str, words)])

    return run


def test_two_pictures_and_the_truth_give_three_lines(compare):
    result = compare("good.png", "bad.png", "hr.png")
    assert result.exit_code == 0, result.output
    head, names, *lines = result.stdout.splitlines()
    assert head == "protocol rgb/1, 64x48"
    assert names.split()[:3] == ["pictures", "psnr", "dB"]
    assert [line.split("  ")[0] for line in lines] == [
        "good.png to hr.png",
        "bad.png to hr.png",
        "good.png to bad.png",
    ]


def test_json_has_every_digit_and_writes_infinity_as_text(compare):
    result = compare("good.png", "hr.png", "hr.png", "--metrics", "psnr,psnr_y", "--json")
    said = json.loads(result.stdout)["measured"]
    apart = np.asarray(Image.open("good.png")).astype(float) - HR
    assert said[0]["values"]["psnr"] == pytest.approx(10 * np.log10(255**2 / np.mean(apart**2)))
    assert said[1]["values"] == {"psnr": "inf", "psnr-y": "inf"}


def test_a_small_picture_is_shown_at_the_size_of_the_large_one(compare):
    result = compare("lr.png", "hr.png", "-o", "side.png", "--html", "look.html")
    assert result.exit_code == 0, result.output
    assert "lr.png (16x12) is enlarged to 64x48 by bicubic interpolation" in result.stderr
    assert "wrote look.html" in result.stderr
    assert size_of("side.png")[0] > 3 * 64


@pytest.mark.parametrize(
    ("limit", "code"), [("psnr<30", 7), ("psnr<10", 0), ("hist-w1>30", 7), ("hist_w1 > 50", 0)]
)
def test_a_limit_that_is_crossed_ends_with_seven(compare, limit, code):
    result = compare("good.png", "bad.png", "hr.png", "--fail-over", limit, "-q")
    assert result.exit_code == code
    assert ("bad.png to hr.png" in result.stderr) == (code == 7)
    assert "good.png to hr.png" not in result.stderr


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "tiff", "avif"])
def test_sheets_are_written_in_every_picture_format(compare, suffix):
    result = compare(
        "good.png", "bad.png", "hr.png", "--crop", "4,4,16,12", "--histogram", "-o", f"out/s.{suffix}"
    )
    assert result.exit_code == 0, result.output
    assert size_of(f"out/s.{suffix}")[0] > 4 * 64


def test_histograms_are_compared_in_numbers_by_channel(compare):
    from scipy.stats import wasserstein_distance

    with Image.open("good.png") as good, Image.open("hr.png") as hr:
        a, b = (np.asarray(p).reshape(-1, 3) for p in (good, hr))
    expected = [wasserstein_distance(a[:, c], b[:, c]) for c in range(3)]
    found = json.loads(compare("good.png", "hr.png", "--json").stdout)["measured"][0]
    assert found["histograms"] == pytest.approx(expected)
    line = compare("good.png", "hr.png", "--histogram").stdout.splitlines()[-1]
    assert (
        line
        == "histograms of good.png to hr.png: red {:.2f}, green {:.2f}, blue {:.2f} levels apart".format(
            *expected
        )
    )


def test_a_grid_has_a_row_per_model_and_psnr_where_there_is_a_truth(compare, model):
    result = compare(
        "hr.png", "-m", model, "-m", "bicubic", "--downscale", "2,3.4", "-o", "grid.png", "--json"
    )
    assert result.exit_code == 0, result.output
    cells = json.loads(result.stdout)["results"]
    assert [(c["model"], c["scale"], c["width"]) for c in cells] == [
        ("tiny", 2.0, 64), ("tiny", 3.4, 64), ("bicubic", 2.0, 64), ("bicubic", 3.4, 64)
    ]  # fmt: skip
    assert all(c["psnr"] > 5 for c in cells)
    assert size_of("grid.png")[0] > 2 * 200


def test_a_grid_over_scales_takes_the_picture_as_it_is(compare):
    result = compare("lr.png", "-m", "nearest", "-s", "1.6,4", "--crop", "2,2,8,6", "-o", "grid.png")
    assert result.exit_code == 0, result.output
    assert [line.split()[1:] for line in result.stdout.splitlines()[1:]] == [
        ["x1.6", "26x19", "-"],
        ["x4", "64x48", "-"],
    ]


def test_two_pictures_need_no_torch(compare):
    code = "import sys; sys.argv[0] = 'srcli'; from srcli.cli import app; app(standalone_mode=False); "
    code += "sys.exit('torch' in sys.modules)"
    words = ["compare", "lr.png", "hr.png", "-o", "side.png", "-o", "look.html"]
    assert subprocess.run([sys.executable, "-c", code, *words], check=False).returncode == 0


def test_series_of_numbers_can_be_continued():
    assert parse_series("0,.2,..,1") == [0, 0.2, 0.4, 0.6, 0.8, 1.0]
    assert parse_series("1, 0.5, 0") == [1, 0.5, 0]
    assert parse_series(None) == []


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["hr.png"], 2, "Give two pictures"),
        (["hr.png", "lr.png", "hr.png"], 2, "have different sizes"),
        (["hr.png", "absent.png"], 3, "absent.png"),
        (["hr.png", "text.png"], 1, "text.png is not an image"),
        (["hr.png", "bad.png", "--crop", "60,0,9,9"], 2, "leaves the picture of 64x48"),
        (["hr.png", "bad.png", "--metrics", "psrn"], 2, "Did you mean 'psnr'"),
        (["hr.png", "bad.png", "--metrics", "lr-psnr"], 2, "cannot be measured between two pictures"),
        (["hr.png", "bad.png", "--fail-over", "psnr=30"], 2, "Quote it"),
        (["hr.png", "bad.png", "-s", "2"], 2, "go with --model"),
        (["hr.png", "bad.png", "-o", "a.docx"], 2, "suffix is not known"),
        (["hr.png", "bad.png", "-o", "good.png"], 6, "good.png exists"),
        (["hr.png", "bad.png", "-m", "bicubic"], 2, "--model takes one picture"),
        (["hr.png", "-m", "bicubic", "-s", "2,3", "-o", "a.html"], 2, "one size"),
        (["hr.png", "-m", "bicubic", "-s", "2,3", "--downscale", "2,3"], 2, "Only one"),
        (["hr.png", "-m", "bicubic", "--downscale", "1"], 2, "above 1"),
        (["hr.png", "-m", "bicubic", "--temps", "0,1"], 2, "none of these models draws noise"),
        (["hr.png", "-m", "bicubic", "--temps", "0,..,1"], 2, "--temps takes numbers"),
        (["hr.png", "-m", "bicubik"], 2, "bicubik"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_in_one_line(compare, folder, words, code, message):
    (folder / "text.png").write_text("no picture")
    result = compare(*words)
    assert result.exit_code == code, result.output
    assert message in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1


# --- in a browser -------------------------------------------------------------------------------------------------

FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--window-size=900,900",
)  # fmt: skip
RIGHT, END = "\ue014", "\ue010"  # keys, as WebDriver writes them


class Browser:
    """The few words of WebDriver (W3C) that are needed here."""

    def __init__(self, port, profile):
        self.base = f"http://127.0.0.1:{port}"
        options = {"args": [*FLAGS, f"--user-data-dir={profile}"], "binary": shutil.which("chromium")}
        wanted = {"alwaysMatch": {"goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}}}
        self.base += "/session/" + self.send("/session", {"capabilities": wanted})["sessionId"]

    def send(self, path, body=None, method="POST"):
        data = None if body is None else json.dumps(body).encode()
        asked = request.Request(self.base + path, data, {"Content-Type": "application/json"}, method=method)
        with request.urlopen(asked, timeout=60) as answer:
            return json.load(answer)["value"]

    def ask(self, script):
        return self.send("/execute/sync", {"script": f"return {script}", "args": []})

    def press(self, keys):
        (element,) = self.send("/element", {"using": "css selector", "value": "#slide"}).values()
        self.send(f"/element/{element}/value", {"text": keys})

    def drag(self, start, end):
        at = [{"type": "pointerMove", "duration": 0, "x": x, "y": y} for x, y in (start, end)]
        moves = [at[0], {"type": "pointerDown", "button": 0}, at[1], {"type": "pointerUp", "button": 0}]
        self.send("/actions", {"actions": [{"type": "pointer", "id": "mouse", "actions": moves}]})


@contextmanager
def browser(profile):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = [shutil.which("chromedriver"), f"--port={port}", "--silent"]
    with subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as driver:
        try:
            for _ in range(100):
                with socket.socket() as probe:
                    if probe.connect_ex(("127.0.0.1", port)) == 0:
                        break
                time.sleep(0.1)
            opened = Browser(port, profile)
            yield opened
            opened.send("", method="DELETE")
        finally:
            driver.terminate()


@pytest.mark.skipif(
    not (shutil.which("chromium") and shutil.which("chromedriver")), reason="no chromium with its driver here"
)
def test_the_slider_of_the_page_moves_by_keys_and_mouse(compare, folder, tmp_path):
    assert compare("good.png", "bad.png", "hr.png", "-o", "look.html").exit_code == 0
    with browser(tmp_path / "profile") as page:
        page.send("/url", {"url": (folder / "look.html").as_uri()})
        sizes = page.ask("[...document.images].map(i => [i.complete, i.naturalWidth, i.naturalHeight])")
        assert sizes == [[True, 64, 48]] * 4
        edge = "getComputedStyle(document.getElementById('b')).clipPath"
        value = "Number(document.getElementById('slide').value)"
        assert page.ask("document.activeElement.id") == "slide"
        assert (page.ask(value), page.ask(edge)) == (50, "inset(0px 0px 0px 50%)")
        page.press(RIGHT * 4)
        assert (page.ask(value), page.ask(edge)) == (52, "inset(0px 0px 0px 52%)")
        page.press(END)
        assert page.ask(edge) == "inset(0px 0px 0px 100%)"
        page.press("2")
        assert page.ask(value) == 0
        page.press("d")
        assert page.ask("getComputedStyle(document.getElementById('d')).visibility") == "visible"
        page.press("d0")
        left, top, width = page.ask(
            "(b => [b.left, b.top, b.width])(document.getElementById('both').getBoundingClientRect())"
        )
        page.drag((round(left + 20), round(top + 30)), (round(left + width / 4), round(top + 40)))
        assert page.ask(value) == pytest.approx(25, abs=1)
        page.ask("document.querySelector('input[value=\"2\"]').click()")
        assert page.ask("document.getElementById('a').getBoundingClientRect().width") == 128
        logged = page.send("/se/log", {"type": "browser"})
        assert [entry["message"] for entry in logged if entry["level"] == "SEVERE"] == []


@pytest.mark.skipif(
    not (shutil.which("chromium") and shutil.which("chromedriver")), reason="no chromium with its driver here"
)
def test_the_page_of_several_models_shows_any_two_of_them(compare, folder, tmp_path):
    words = ["-m", "bicubic", "-m", "nearest", "-m", "lanczos", "--downscale", "2", "-o", "models.html"]
    assert compare("hr.png", *words).exit_code == 0
    with browser(tmp_path / "profile") as page:
        page.send("/url", {"url": (folder / "models.html").as_uri()})
        names = "[...document.getElementById('{}').options].map(o => o.text)"
        assert page.ask(names.format("left")) == ["bicubic", "nearest", "lanczos", "input", "original"]
        shown = "[document.getElementById('l').textContent, document.getElementById('r').textContent]"
        assert page.ask(shown) == ["bicubic", "nearest"]
        before = page.ask("document.getElementById('b').src")
        page.press("n")
        assert page.ask(shown) == ["bicubic", "lanczos"]
        assert page.ask("document.getElementById('b').src") != before
        page.ask(
            "(c => { c.selectedIndex = 4; c.dispatchEvent(new Event('change')) })(document.getElementById('left'))"
        )
        assert page.ask(shown) == ["original", "lanczos"]
        assert page.ask("document.getElementById('a').naturalWidth") == 64
        logged = page.send("/se/log", {"type": "browser"})
        assert [entry["message"] for entry in logged if entry["level"] == "SEVERE"] == []
