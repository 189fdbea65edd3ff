"""Animations through the reader and the writer: what is shown when, in every format that can."""

import io
import zlib
from itertools import pairwise

import numpy as np
import pytest
from PIL import Image, ImageSequence

from srcli.batch.provenance import read_provenance
from srcli.errors import ImageError, UsageError
from srcli.image.animation import AnimationPlan, Timing, read_animation
from srcli.image.read import read_image
from srcli.image.write import choose_format, plan_output
from tests.image.make import encoded, smooth

DURATIONS = (40, 120, 80)
LOSSLESS = {"png": {}, "webp": {"lossless": True}}


def frames_of(channels=3, count=3):
    """Pictures that differ in a part; with four channels, what is visible moves."""
    frames = []
    for i in range(count):
        frame = smooth(20, 24, channels)
        frame[4:10, 3 * i : 3 * i + 6] = 40 * i
        if channels == 4:
            frame[..., 3] = 0
            frame[5 : 9 + i, 4 * i : 4 * i + 8, 3] = 255
        frames.append(frame)
    return frames


def written(form, frames, timing, **options):
    like = read_image(encoded(Image.fromarray(frames[0]), "PNG"))
    plan = plan_output(like, like.size, output_format=form, **options)
    stream = io.BytesIO()
    bands = [frame[top : top + 7] for frame in frames for top in range(0, len(frame), 7)]
    AnimationPlan(plan, timing).write(stream, bands, provenance={"made": 1})
    return stream.getvalue()


def shown(data):
    """(end in ms, RGBA as a browser shows it), by Pillow."""
    at, out = 0, []
    with Image.open(io.BytesIO(data)) as picture:
        for frame in ImageSequence.Iterator(picture):
            rgba = np.asarray(frame.convert("RGBA"))
            at += frame.info["duration"]
            out.append((at, np.where(rgba[..., 3:] > 0, rgba, 0)))
    return out


@pytest.mark.parametrize("channels", [3, 4])
@pytest.mark.parametrize("form", LOSSLESS)
def test_lossless_formats_show_every_picture_exactly_and_as_long(form, channels):
    frames = frames_of(channels)
    data = written(form, frames, Timing(DURATIONS, 3), **LOSSLESS[form])
    found = shown(data)
    assert [end for end, _ in found] == [40, 160, 240]
    for (_, rgba), frame in zip(found, frames, strict=True):
        opaque = np.full(frame.shape[:2], 255, np.uint8) if channels == 3 else frame[..., 3]
        np.testing.assert_array_equal(rgba[..., 3], opaque)
        np.testing.assert_array_equal(rgba[..., :3], np.where(opaque[..., None] > 0, frame[..., :3], 0))
    animation = read_animation(data)
    assert animation.timing == Timing(DURATIONS, 3)
    assert read_provenance(data) == {"made": 1}


def test_avif_shows_every_picture_as_long_and_nearly_so():
    frames = frames_of()
    data = written("avif", frames, Timing(DURATIONS))
    animation = read_animation(data)
    assert [end for end, _ in shown(data)] == [40, 160, 240]
    assert animation.timing == Timing(DURATIONS)
    for image, frame in zip(animation.frames, frames, strict=True):
        assert np.abs(image.pixels.astype(int) - frame).mean() < 3
    assert read_provenance(data) == {"made": 1}


@pytest.mark.parametrize("loop", [0, 1, 4])
@pytest.mark.parametrize("channels", [3, 4])
def test_gif_keeps_timing_repetitions_and_what_is_visible(channels, loop):
    frames = frames_of(channels)
    data = written("gif", frames, Timing((45, 115, 80), loop))
    found = shown(data)
    assert [end for end, _ in found] == [40, 160, 240]  # hundredths, never more than half of one off
    for (_, rgba), frame in zip(found, frames, strict=True):
        visible = np.ones(frame.shape[:2], bool) if channels == 3 else frame[..., 3] > 0
        np.testing.assert_array_equal(rgba[..., 3] > 0, visible)
        assert np.abs(rgba[..., :3].astype(int) - frame[..., :3])[visible].mean() < 6
    assert read_animation(data).timing.loop == loop
    assert read_provenance(data) == {"made": 1}


def test_what_disposal_and_blending_make_visible_is_read():
    first = Image.new("RGBA", (12, 8), (255, 0, 0, 255))
    patch = Image.new("RGBA", (12, 8), (0, 0, 0, 0))
    patch.paste((0, 0, 255, 255), (2, 2, 6, 6))
    data = encoded(
        first, "PNG", save_all=True, append_images=[patch, patch.rotate(180)], duration=50, blend=1
    )
    over = np.asarray(Image.alpha_composite(first, patch))[..., :3]
    animation = read_animation(data)
    np.testing.assert_array_equal(animation.frames[1].pixels, over)
    third = np.asarray(Image.alpha_composite(Image.fromarray(over).convert("RGBA"), patch.rotate(180)))
    np.testing.assert_array_equal(animation.frames[2].pixels, third[..., :3])


def test_a_still_picture_before_an_animated_png_is_left_out():
    still, *frames = (Image.fromarray(frame) for frame in frames_of(count=4))
    data = encoded(
        still, "PNG", save_all=True, append_images=frames, default_image=True, duration=[50, 60, 70]
    )
    animation = read_animation(data)
    assert animation.timing.durations == (50, 60, 70)
    np.testing.assert_array_equal(animation.frames[0].pixels, np.asarray(frames[0]))
    assert "left out" in animation.frames[0].notes[-1]


def test_pages_single_pictures_and_formats_without_animation_are_refused():
    frames = [Image.fromarray(frame) for frame in frames_of()]
    pages = encoded(frames[0], "TIFF", save_all=True, append_images=frames[1:])
    with pytest.raises(ImageError, match="pages"):
        read_animation(pages)
    with pytest.raises(ImageError, match="no animation"):
        read_animation(encoded(frames[0], "PNG"))
    with pytest.raises(UsageError, match=r"jpg holds no animation.*png, webp"):
        choose_format("gif", "jpg", "8", alpha=False, animated=True)
    with pytest.raises(ImageError, match=r"3 times 24x20"):
        read_animation(encoded(frames[0], "WEBP", save_all=True, append_images=frames[1:]), max_pixels=1000)


@pytest.mark.parametrize("count", [0, 0xFFFFFFFF])
def test_an_animated_png_that_does_not_say_how_long_it_is_is_no_still_picture(count):
    frames = [Image.fromarray(frame) for frame in frames_of()]
    data = bytearray(encoded(frames[0], "PNG", save_all=True, append_images=frames[1:]))
    at = data.index(b"acTL")
    data[at + 4 : at + 8] = count.to_bytes(4, "big")
    data[at + 12 : at + 16] = zlib.crc32(data[at : at + 12]).to_bytes(4, "big")
    for choice in ("error", "all", 2):
        with pytest.raises(ImageError, match="how many pictures"):
            read_image(bytes(data), frames=choice)
    np.testing.assert_array_equal(read_image(bytes(data), frames="first").pixels, frames_of()[0])


def test_equal_pictures_keep_their_time():
    first, second, _ = frames_of()
    for form in ("png", "webp", "gif", "avif"):
        ends = [end for end, _ in shown(written(form, [first, first, second], Timing(DURATIONS)))]
        assert 160 in ends
        assert ends[-1] == 240
        assert all(a < b for a, b in pairwise(ends))


def test_a_still_picture_becomes_a_gif():
    frame = frames_of(4)[0]
    plan = plan_output(read_image(encoded(Image.fromarray(frame), "PNG")), (20, 24), output_format="gif")
    stream = io.BytesIO()
    notes = plan.write(stream, [frame])
    assert "256 colours" in notes[0]
    again = read_image(stream.getvalue())
    np.testing.assert_array_equal(again.alpha, frame[..., 3])
