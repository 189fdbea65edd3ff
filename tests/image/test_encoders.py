"""The encoders down to their parts, against slow and plain versions."""

import io
import threading
from contextlib import nullcontext

import cv2
import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from srcli.errors import ResourceError, UsageError
from srcli.image import png, tiff
from srcli.image.ifd import Directory
from srcli.image.metadata import Metadata, tiff_directory
from srcli.image.probe import probe
from srcli.image.read import Image as Read
from srcli.image.read import read_image
from srcli.image.samples import Raster
from srcli.image.vips import encode_rows
from srcli.image.write import plan_output, write_image
from tests.image.make import encoded, opened, smooth, texture, through
from tests.image.test_image_metadata import PHOTO, exif


def raster_of(samples: np.ndarray) -> Raster:
    return Raster(samples.shape, samples.dtype, (samples,))


def png_of(samples: np.ndarray, **options) -> bytes:
    stream = io.BytesIO()
    png.encode_png(stream.write, raster_of(samples), **options)
    return stream.getvalue()


def unfilter(rows: np.ndarray, unit: int) -> np.ndarray:
    """Bytes of a picture from PNG's filtered rows, one byte at a time (section 9.2)."""
    out = np.zeros((len(rows), rows.shape[1] - 1), np.uint8)
    for y, x in np.ndindex(out.shape):
        a = int(out[y, x - unit]) if x >= unit else 0
        b = int(out[y - 1, x]) if y else 0
        c = int(out[y - 1, x - unit]) if y and x >= unit else 0
        p = a + b - c
        nearest = min((abs(p - a), 0, a), (abs(p - b), 1, b), (abs(p - c), 2, c))[2]
        out[y, x] = (int(rows[y, 1 + x]) + (0, a, b, (a + b) // 2, nearest)[rows[y, 0]]) % 256
    return out


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 7), st.integers(1, 7), st.integers(1, 4), st.sampled_from([np.uint8, np.uint16]), st.data()
)
def test_filtered_rows_unfilter_to_the_picture(h, w, channels, dtype, data):
    # Few levels, so that neighbours are equal and every filter gets its turn.
    samples = (texture(h, w, channels, dtype, seed=data.draw(st.integers(0, 999))) // 60 * 60).astype(dtype)
    cut = data.draw(st.integers(1, h))
    parts = [png.filter_rows(samples[:cut])]
    if cut < h:
        parts.append(png.filter_rows(samples[cut:], samples[cut - 1 : cut]))
    expected = samples.astype(samples.dtype.newbyteorder(">")).view(np.uint8).reshape(h, -1)
    assert np.array_equal(unfilter(np.concatenate(parts), channels * samples.dtype.itemsize), expected)


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_png_of_many_blocks_is_read_by_others(channels, dtype):
    samples = texture(64, 33, channels, dtype)
    data = png_of(samples, block_bytes=1000)
    assert probe(data).bits == 8 * samples.dtype.itemsize
    opened(data).verify()
    read = np.atleast_3d(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED))
    order = {1: [0], 2: [0, 3], 3: [2, 1, 0], 4: [2, 1, 0, 3]}[channels]  # OpenCV expands gray with alpha
    assert np.array_equal(read[..., order], samples)


@pytest.mark.parametrize("kind", ["photo", "page", "gray"])
def test_a_png_is_little_larger_than_with_a_full_search(kind):
    y, x = np.mgrid[:300, :400]
    photo = smooth(300, 400) + np.random.default_rng(0).integers(0, 9, (300, 400, 3), dtype=np.uint8)
    page = np.where(((x // 7) * (y // 11) % 5 == 0) & (y % 11 < 7), 0, 255).astype(np.uint8)
    samples = {"photo": photo, "page": np.repeat(page[..., None], 3, 2), "gray": photo[..., :1]}[kind]
    assert len(png_of(samples)) <= 1.03 * len(png_of(samples, level=png.THOROUGH + 1))


@pytest.mark.parametrize("name", ["png", "tiff", "jpg", "webp"])
def test_a_file_written_in_bands_is_the_same_file(name):
    samples = texture(64, 33, 3, np.uint16 if name in ("png", "tiff") else np.uint8)
    plan, whole, parts = plan_output(Read(samples), (64, 33), output_format=name), io.BytesIO(), io.BytesIO()
    plan.write(whole, samples)
    plan.write(parts, (samples[top : top + 7] for top in range(0, 64, 7)))
    assert whole.getvalue() == parts.getvalue()


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("big", [False, True])  # as beyond four gigabytes
def test_tiff_is_read_by_tifffile(channels, dtype, big):
    samples, stream, alpha = texture(64, 33, channels, dtype), io.BytesIO(), channels in (2, 4)
    tags = tiff_directory(Metadata(dpi=(300.0, 72.5)), b"1234567")
    options = {"alpha": alpha, "block_bytes": 1000, **({"classic_limit": 10} if big else {})}
    tiff.encode_tiff(stream, raster_of(samples), tags, **options)
    with tifffile.TiffFile(io.BytesIO(stream.getvalue())) as file:
        page = file.pages[0]
        assert file.is_bigtiff == big
        assert np.array_equal(page.asarray().reshape(samples.shape), samples)
        assert page.photometric.name == ("RGB" if channels > 2 else "MINISBLACK")
        assert [extra.name for extra in page.extrasamples] == (["UNASSALPHA"] if alpha else [])
        assert len(page.dataoffsets) > 1
        assert (page.get_resolution("inch"), page.iccprofile) == ((300, 72.5), b"1234567")


def test_inks_are_marked_as_inks():
    samples, stream = texture(8, 9, 4, np.uint8), io.BytesIO()
    tiff.encode_tiff(stream, raster_of(samples), Directory(), cmyk=True)
    picture = opened(stream.getvalue())
    assert picture.mode == "CMYK"
    assert np.array_equal(np.asarray(picture), samples)


def rows_of(samples: np.ndarray, fail_at: int | None = None):
    for top in range(0, len(samples), 16):
        if fail_at is not None and top >= fail_at:
            raise MemoryError("no more rows")
        yield samples[top : top + 16]


class Full(io.BytesIO):
    """A disk that takes a few hundred bytes."""

    def write(self, data):
        if self.tell() > 300:
            raise OSError(28, "No space left on device")
        return super().write(data)


@pytest.mark.parametrize("name", ["jpg", "webp"])
def test_what_goes_wrong_in_libvips_thread_is_raised_in_ours(name):
    samples = texture(640, 500, 3, np.uint8)
    plan = plan_output(Read(samples[:8]), (640, 500), output_format=name)
    with pytest.raises(MemoryError, match="no more rows"):
        plan.write(io.BytesIO(), rows_of(samples, fail_at=320))
    with pytest.raises(OSError, match="No space left") if name == "jpg" else nullcontext():
        plan.write(Full(), rows_of(samples))
    with pytest.raises(ValueError, match="expected 640 rows"):
        plan.write(io.BytesIO(), rows_of(samples[:320]))
    threads = threading.active_count()
    plan.write(io.BytesIO(), rows_of(samples))
    assert threading.active_count() == threads


def test_an_encoder_that_refuses_is_one_error(capfd):
    with pytest.raises(ResourceError, match="webp encoder failed"):
        encode_rows(raster_of(np.zeros((2, 16384, 3), np.uint8)), "webp", print)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("name", "pillow", "channels"),
    [("jpg", "JPEG", 1), ("jpg", "JPEG", 3), ("webp", "WEBP", 1), ("webp", "WEBP", 3), ("webp", "WEBP", 4)],
)
def test_libvips_writes_the_pixels_that_pillow_would(name, pillow, channels):
    samples = np.ascontiguousarray(np.dstack([smooth(64, 90), smooth(64, 90, 1)])[..., :channels])
    alpha = samples[..., 3] if channels == 4 else None
    data, _ = through(Read(samples[..., : min(channels, 3)], alpha), output_format=name, quality=90)
    pixels = samples.repeat(3, 2) if name == "webp" and channels == 1 else samples
    options = {"subsampling": 0} if name == "jpg" else {"exact": True}
    other = encoded(Image.fromarray(pixels.squeeze()), pillow, quality=90, **options)
    assert np.array_equal(np.asarray(opened(data)), np.asarray(opened(other)))


@pytest.mark.parametrize("bits", [10, 12])
@pytest.mark.parametrize("channels", [3, 4])
@pytest.mark.parametrize("lossless", [False, True])
def test_avif_of_more_than_eight_bits_keeps_them_and_what_it_carries(bits, channels, lossless):
    photo, stream, white = read_image(PHOTO), io.BytesIO(), (1 << bits) - 1
    samples = (np.dstack([smooth(48, 72), smooth(48, 72, 1)])[..., :channels] / 255).astype(np.float32)
    options = {"output_format": "avif", "bit_depth": str(bits), "quality": 95, "lossless": lossless}
    write_image(stream, samples, like=photo, **options)
    data = stream.getvalue()
    found = probe(data)
    assert (found.bits, found.depth, found.alpha) == (bits, "16", channels == 4)
    image = read_image(data)
    assert np.abs(image.pixels / 65535 - samples[..., :3]).max() <= (0.51 / white if lossless else 1 / 60)
    picture = opened(data)  # another decoder
    assert np.abs(np.asarray(picture.convert("RGB")) - samples[..., :3] * 255).max() <= 5
    assert b"Rating" in picture.info["xmp"]
    after = picture.info["exif"].removeprefix(b"Exif\0\0")
    assert after.index(b"maker's own notes") == exif().index(b"maker's own notes")
    again = plan_output(image, (48, 72))  # it stays as deep
    assert (again.format.name, again.encoding.bits) == ("avif", bits)


def test_more_bits_are_asked_for_or_come_from_an_avif_and_lossless_is_exact():
    deep = plan_output(Read(texture(4, 4, 3, np.uint16), bits=16), (4, 4), output_format="avif")
    assert (deep.depth, deep.encoding.bits) == ("8", 8)
    assert "avif cannot hold 16 bits: written with 8" in deep.notes
    with pytest.raises(UsageError, match="png does not hold 10 bits"):
        plan_output(Read(texture(4, 4, 3, np.uint8)), (4, 4), bit_depth="10")
    samples, stream = texture(33, 20, 4, np.uint8), io.BytesIO()
    write_image(stream, samples, output_format="avif", lossless=True)
    found = read_image(stream.getvalue())
    assert np.array_equal(np.dstack([found.pixels, found.alpha]), samples)


@pytest.mark.parametrize("name", ["jpg", "webp", "avif"])
def test_the_highest_quality_that_fits_is_taken(name):
    samples = smooth(120, 160) + np.random.default_rng(0).integers(0, 20, (120, 160, 3), dtype=np.uint8)

    def size(**options) -> tuple[int, list[str]]:
        stream = io.BytesIO()
        notes = write_image(stream, samples, output_format=name, **options)
        return len(stream.getvalue()), notes

    limit = size(quality=60)[0]
    found, notes = size(max_bytes=limit)
    (quality,) = (int(note.split()[1]) for note in notes if note.startswith("quality"))
    assert quality >= 60
    assert size(quality=quality)[0] == found <= limit
    assert size(max_bytes=10**7) == size()
    with pytest.raises(ResourceError, match="more than max-bytes=100"):
        size(max_bytes=100)


def test_a_limit_means_nothing_without_a_quality():
    for options in ({"output_format": "png"}, {"output_format": "webp", "lossless": True}):
        notes = write_image(io.BytesIO(), smooth(9, 9), max_bytes=10, **options)
        assert any("max-bytes is ignored" in note for note in notes)
