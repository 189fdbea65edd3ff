"""Huge inputs, read a few rows at a time: the same picture as read whole."""

import io

import numpy as np
import pytest
from PIL import Image as Pillow

from srcli.errors import ImageError
from srcli.image.read import read_image
from srcli.image.samples import Spool
from srcli.image.write import write_image
from tests.image.make import encoded, saved, smooth, texture, tiff


def same(path, *, spooled=True):
    whole, parts = read_image(path), read_image(path, in_memory=0, folder=path.parent)
    assert isinstance(parts.pixels, Spool) is spooled
    assert parts.pixels.dtype == whole.pixels.dtype
    assert np.array_equal(parts.pixels[:], whole.pixels)
    assert np.array_equal(parts.strip(3, 17), whole.strip(3, 17))
    for name in ("size", "notes", "kind", "depth", "format", "bits", "metadata"):
        assert getattr(parts, name) == getattr(whole, name)
    return whole


@pytest.mark.parametrize("form", ["png", "tiff"])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_our_own_files_are_read_alike(tmp_path, form, channels, dtype):
    path = tmp_path / f"a.{form}"
    write_image(path, (texture(70, 33, channels, dtype) // 60 * 60).astype(dtype), icc="p3")
    assert same(path).profile is not None


@pytest.mark.parametrize(
    "options",
    [
        {"tile": (16, 32)},
        {"planarconfig": "separate", "rowsperstrip": 9},
        {"rowsperstrip": 11, "predictor": 2, "compression": "zlib"},
        {"photometric": "miniswhite"},
    ],
)
def test_tiff_of_many_kinds_is_read_alike(tmp_path, options):
    samples = texture(70, 53, 1 if "photometric" in options else 3, np.uint16)
    if options.get("planarconfig"):
        samples = np.ascontiguousarray(np.moveaxis(samples, 2, 0))
    assert same(saved(tmp_path / "a.tif", tiff(samples.squeeze(), **options))).size == (70, 53)


def test_floats_keep_their_notes_and_are_checked(tmp_path):
    samples = texture(70, 33, 3, np.float32) * 3 - 1
    path = saved(tmp_path / "a.tif", tiff(samples, rowsperstrip=8))
    assert any("float values from" in note for note in same(path).notes)
    samples[60, 3, 1] = np.nan
    with pytest.raises(ImageError, match="NaN"):
        read_image(saved(tmp_path / "b.tif", tiff(samples, rowsperstrip=8)), in_memory=0, folder=tmp_path)


def test_jpeg_is_read_alike_and_what_needs_its_whole_is_read_whole(tmp_path):
    turn = Pillow.Exif()
    turn[274] = 6
    picture = Pillow.fromarray(smooth(70, 33))
    for mode in ("RGB", "L"):
        same(saved(tmp_path / "a.jpg", encoded(picture.convert(mode), "JPEG", quality=90)))
    turned = same(saved(tmp_path / "turned.jpg", encoded(picture, "JPEG", exif=turn)), spooled=False)
    assert turned.size == (33, 70)
    same(saved(tmp_path / "alpha.png", encoded(texture(20, 9, 4, np.uint8), "PNG")), spooled=False)


@pytest.mark.parametrize("form", ["png", "tiff"])
def test_a_file_that_is_cut_off_is_refused(tmp_path, form):
    stream = io.BytesIO()
    write_image(stream, texture(70, 33, 3, np.uint16), output_format=form)
    path = saved(tmp_path / f"a.{form}", stream.getvalue()[:9000])
    with pytest.raises(ImageError, match="damaged or cut off"):
        read_image(path, in_memory=0, folder=tmp_path)
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]
