import json
from types import SimpleNamespace

import pytest

from srcli.cli import console as module
from srcli.cli.console import Console, Meter, downloading, duration, print_error
from srcli.errors import ImageError


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands still until it is moved."""
    time = [100.0]
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: time[0]))
    return time


def test_time_left_counts_pixels_not_files(clock):
    meter = Meter(files=3, started=clock[0])
    assert meter.seconds is None
    meter.begin("small", 500)
    meter.share = 1.0
    meter.end()
    meter.begin("large", 4000)
    meter.share = 0.5
    clock[0] += 10  # 500 + 2000 pixels in 10 s; 2000 are left, and the third is taken for (500 + 4000) / 2
    assert meter.seconds == pytest.approx(17)
    assert meter.left == 4250


def test_a_file_that_was_skipped_or_failed_costs_no_time(clock):
    meter = Meter(files=2, started=clock[0])
    meter.begin("failed", 1000)
    meter.end()
    assert meter.done == 0
    assert meter.left == 1000


@pytest.mark.parametrize(
    ("seconds", "text"), [(1.94, "1.9 s"), (59.9, "59.9 s"), (200, "3 min 20 s"), (7500, "2 h 05 min")]
)
def test_durations_read_as_words(seconds, text):
    assert duration(seconds) == text


def test_plain_progress_is_a_line_now_and_then(clock, capsys):
    console = Console(style="plain")
    with console.progress(2), console.file("a.png", 1000) as report:
        report(0.1)
        clock[0] += 10
        report(0.5)
        clock[0] += 1
        report(0.6)
    captured = capsys.readouterr()
    assert captured.err == "a.png: 50%, 1/2, 30.0 s left\n"
    assert captured.out == ""


def test_the_last_line_of_a_file_is_the_whole_of_it(clock, capsys):
    console = Console(style="plain")
    with console.progress(3):
        for name, seconds in (("a.png", 11), ("b.png", 1), ("c.png", 20)):
            with console.file(name, 1000) as report:
                for share in (0.5, 0.9, 1.0, 1.0):
                    clock[0] += seconds / 4
                    report(share)
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(", ")[0] for line in lines] == ["a.png: 100%", "c.png: 90%", "c.png: 100%"]


def test_json_progress_is_one_object_a_line(clock, capsys):
    console = Console(style="json")
    with console.progress(1), console.file("ü.png", 1000) as report:
        clock[0] += 2
        report(0.25)
    event = json.loads(capsys.readouterr().err)
    assert event["input"] == "ü.png"
    assert event["share"] == 0.25
    assert event["seconds_left"] == 6


def test_a_bar_leaves_stdout_to_the_results(clock, capsys, monkeypatch):
    console = Console(style="rich")
    with console.progress(1), console.file("a.png", 1000) as report:
        clock[0] += 1
        report(0.5)
        console.result("a.png -> b.png")
        console.error(ImageError("oh"), "a.png")
    captured = capsys.readouterr()
    assert captured.out == "a.png -> b.png\n"
    assert "error: a.png: oh\n" in captured.err


def test_quiet_has_no_progress_and_no_lines(clock, capsys):
    console = Console(quiet=True, style="plain")
    with console.progress(1), console.file("a.png", 1000) as report:
        clock[0] += 60
        report(0.5)
    console.note("note")
    console.result("line")
    console.result("{}", asked=True)
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("{}\n", "")


def test_an_error_is_one_line_that_names_its_input_once(capsys):
    print_error(ImageError("a.png is\nempty."), label="a.png")
    print_error(ImageError("it is empty."), label="a.png")
    assert capsys.readouterr().err == "error: a.png is empty.\nerror: a.png: it is empty.\n"


def test_countable_things_are_told_in_every_style(clock, capsys):
    for style, expected in (
        ("plain", ["a: 1/4 pictures, 30.0 s left", "b: 2/4 pictures, 20.0 s left"]),
        ("none", []),
        ("json", ['{"event": "progress", "input": "a", "done": 1, "total": 4, "seconds_left": 30.0}']),
    ):
        with Console(style=style).counting("pictures") as report:
            for label, done in (("a", 1), ("b", 2)):
                clock[0] += 10
                report(label, done, 4)
                report(label, done, 4)  # too soon
        assert capsys.readouterr().err.splitlines()[: len(expected) or None] == expected


def test_a_download_is_told_in_bytes(clock, capsys):
    with downloading("net.pth", "plain") as report:
        report(0, None)
        clock[0] += 10
        report(2_000_000, 8_000_000)
    assert capsys.readouterr().err == "net.pth: 2.0 MB of 8.0 MB, 30.0 s left\n"


def test_the_bar_moves_at_once_and_counts_failures(clock, capsys, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")  # a terminal, for Rich
    console = Console(style="rich")
    with console.progress(3):
        with console.file("a.png", 1000):
            console.error(ImageError("oh"), "a.png")
        with console.file("b.png", 1000) as report:
            clock[0] += 1
            report(0.5)
            console._bar.refresh()
    shown = capsys.readouterr().err
    assert "loading the model" in shown
    assert "2/3, 1 failed" in shown
