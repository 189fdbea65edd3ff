"""`srcli upscale --frames all`: every picture, shown as long as before."""

import json

import numpy as np
import pytest
from PIL import Image, ImageSequence

from tests.cli.conftest import listing, picture
from tests.helpers.flow import save_flow


def save_animation(path, count=3, **options):
    frames = [Image.fromarray(np.roll(picture(), 5 * i, axis=1)) for i in range(count)]
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=[40, 80, 60][:count], **options)
    return path


def timing_of(path):
    with Image.open(path) as opened:
        # info is filled when a picture is decoded
        frames = [
            (frame.convert("RGB").size, frame.info["duration"]) for frame in ImageSequence.Iterator(opened)
        ]
        return frames, opened.info.get("loop")


@pytest.mark.parametrize(("suffix", "loop"), [("png", 2), ("webp", 2), ("gif", 2), ("avif", None)])
def test_an_animation_stays_one_in_its_own_format(upscale, engine, folder, suffix, loop):
    save_animation(folder / f"a.{suffix}", **({} if loop is None else {"loop": loop}))
    result = upscale(f"a.{suffix}", "-s", "2", "--frames", "all", "--jsonl")
    assert result.exit_code == 0, result.stderr
    record = json.loads(result.stdout)
    assert (record["frames"], record["depth"], record["format"]) == (3, "8", suffix)
    size = (60, 40)
    assert timing_of(folder / f"a_x2.{suffix}") == ([(size, 40), (size, 80), (size, 60)], loop)
    assert len(engine.calls) == 3
    again = upscale(f"a.{suffix}", "-s", "2", "--frames", "all")
    assert (again.exit_code, len(engine.calls)) == (0, 3)
    assert "up to date" in again.stdout


def test_every_picture_is_that_of_a_still(upscale, engine, folder):
    path = save_animation(folder / "a.gif")
    with Image.open(path) as opened:
        for i, frame in enumerate(ImageSequence.Iterator(opened)):
            frame.convert("RGB").save(folder / f"still{i}.png")
    assert upscale("a.gif", "-s", "2", "--frames", "all", "-o", "a.png").exit_code == 0
    assert upscale("still0.png", "still1.png", "still2.png", "-s", "2").exit_code == 0
    with Image.open(folder / "a.png") as opened:
        for i, frame in enumerate(ImageSequence.Iterator(opened)):
            still = np.asarray(Image.open(folder / f"still{i}_x2.png"))
            np.testing.assert_array_equal(np.asarray(frame.convert("RGB")), still)


def test_a_file_with_one_picture_is_that_picture(upscale, engine, folder):
    Image.fromarray(picture()).save(folder / "a.png")
    assert upscale("a.png", "-s", "2", "--frames", "all").exit_code == 0
    assert listing(folder) == ["a.png", "a_x2.png"]


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        ([], 1, "--frames all"),
        (["--frames", "all", "-f", "jpg"], 2, "holds no animation"),
        (["--frames", "all", "--max-pixels", "in=1000"], 1, "3 times 30x20"),
        (["--frames", "all", "--max-pixels", "out=3000"], 5, "3 times 60x40"),
    ],
)
def test_what_cannot_be_is_said_before_the_work(upscale, engine, folder, words, code, message):
    save_animation(folder / "a.gif")
    result = upscale("a.gif", "-s", "2", *words)
    assert result.exit_code == code
    assert message in result.stderr
    assert engine.calls == []
    assert listing(folder) == ["a.gif"]


def test_noise_stands_still(upscale, folder):
    """Equal pictures of an animation stay equal, whatever lies between them."""
    first, between = Image.fromarray(picture()), Image.fromarray(picture()[::-1])
    first.save(folder / "a.png", save_all=True, append_images=[between, first], duration=50)
    flow = save_flow(folder / "flow.safetensors")
    for words, name in ((("-T", "0.8"), "drawn"), (("-T", "0"), "faithful")):
        result = upscale("a.png", "-s", "2", "--frames", "all", "-o", f"{name}.png", *words, use=flow)
        assert result.exit_code == 0, result.stderr
    with Image.open(folder / "drawn.png") as drawn, Image.open(folder / "faithful.png") as faithful:
        frames = [np.asarray(frame.convert("RGB")) for frame in ImageSequence.Iterator(drawn)]
        still = np.asarray(faithful.convert("RGB"))
    np.testing.assert_array_equal(frames[0], frames[2])
    assert not np.array_equal(frames[0], frames[1])
    assert not np.array_equal(frames[0], still)
