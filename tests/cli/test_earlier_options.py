"""Options of earlier versions: most are taken as what replaces them, the rest say what does; neither is silent."""

import json

import numpy as np
import pytest
import typer
from PIL import Image

from srcli.cli import app
from srcli.cli.upscale_options import GONE, MOVED
from tests.cli.conftest import listing, picture, save

OPTIONS = typer.main.get_command(app).commands["upscale"].params


def test_every_successor_is_an_option_and_no_earlier_one_is():
    known = {word for option in OPTIONS for word in (*option.opts, *option.secondary_opts)}
    written = {
        word for new in (*MOVED.values(), *GONE.values()) for word in new.split() if word.startswith("--")
    }
    assert {word.rstrip(",.:") for word in written} - {"--metrics", "--seeds"} <= known
    assert not known & {*MOVED, *GONE}


@pytest.fixture
def photo(folder):
    return save(folder / "photo.png", picture())


@pytest.mark.parametrize(
    ("earlier", "now"),
    [
        (["-f", "webp", "--lossless"], ["-f", "webp", "--encode", "lossless"]),
        (["-f", "jpg", "--chroma=420"], ["-f", "jpg", "--encode", "chroma=420"]),
        (["--icc", "strip", "--no-provenance"], ["--metadata", "icc=strip,unmarked"]),
        (["--max-input-pixels", "1M"], ["--max-pixels", "in=1M"]),
        (["--colour-fix", "wavelet"], ["--finish", "colour=wavelet"]),
    ],
)
def test_an_earlier_option_makes_the_same_file_and_says_its_successor(
    upscale, engine, photo, folder, earlier, now
):
    first, second = upscale("photo.png", "-o", "a/", *earlier), upscale("photo.png", "-o", "b/", *now)
    assert first.exit_code == second.exit_code == 0, first.stderr + second.stderr
    one, other = (next((folder / name).iterdir()) for name in "ab")
    assert one.read_bytes() == other.read_bytes()
    assert " is now " in first.stderr
    assert " is now " not in second.stderr
    assert "is now" not in upscale("photo.png", "-o", "c/", "-q", *earlier).stderr


@pytest.mark.parametrize("option", sorted(GONE))
def test_what_has_gone_is_refused_with_what_to_do(upscale, engine, photo, folder, option):
    refused = upscale("photo.png", option)
    assert refused.exit_code == 2
    assert f"error: {option} has gone. {GONE[option]}" in refused.stderr
    assert listing(folder) == ["photo.png"]


def test_inputs_and_lists_are_named_without_options(upscale, engine, photo, folder):
    save(folder / "b.png", picture())
    (folder / "list.txt").write_text("b.png\n")
    assert upscale("-i", "photo.png", "--from-file", "list.txt", "-s", "2").exit_code == 0
    assert upscale("@-", "-s", "3", data=b"photo.png\0b.png\0").exit_code == 0
    made = ["b_x2.png", "b_x3.png", "photo_x2.png", "photo_x3.png"]
    assert [name for name in listing(folder) if "_x" in name] == made


def test_variables_of_earlier_options_are_heard_and_those_of_two_switches_are_kept_apart(
    upscale, engine, photo, folder
):
    wide = upscale("photo.png", "-f", "webp", "-o", "a/", SRCLI_UPSCALE_LOSSLESS="1", SRCLI_UPSCALE_JSONL="1")
    assert "--lossless is now --encode lossless" in wide.stderr
    assert json.loads(wide.stdout)["status"] == "done"  # one line
    off = upscale("photo.png", "-o", "b/", SRCLI_UPSCALE_JSON="0", SRCLI_UPSCALE_LOSSLESS="0")
    assert off.exit_code == 0
    assert off.stdout.startswith("photo.png 30x20 -> ")
    with Image.open(folder / "a" / "photo_x4.webp") as lossless:
        assert (
            np.abs(
                np.asarray(lossless).astype(int) - np.asarray(Image.open(folder / "b" / "photo_x4.png"))
            ).max()
            == 0
        )
