"""Huge inputs, read a few rows at a time: the same picture as read whole."""

import io

import numpy as np
import pytest
import tifffile
from PIL import Image as Pillow

from srcli.errors import ImageError
from srcli.image import vips
from srcli.image.read import read_image
from srcli.image.samples import Spool
from srcli.image.write import write_image
from tests.image.make import smooth, texture


def same(path, monkeypatch, tmp_path, *, spooled=True):
    monkeypatch.setattr(vips, "BAND_BYTES", 1000)
    whole, parts = read_image(path), read_image(path, in_memory=0, folder=tmp_path)
    assert isinstance(parts.pixels, Spool) is spooled
    assert parts.size == whole.size
    assert parts.pixels.dtype == whole.pixels.dtype
    assert np.array_equal(parts.pixels[:], whole.pixels)
    assert np.array_equal(parts.strip(3, 17), whole.strip(3, 17))
    assert (parts.notes, parts.kind, parts.depth, parts.format) == (
        whole.notes,
        whole.kind,
        whole.depth,
        whole.format,
    )
    assert vars(parts.metadata) == vars(whole.metadata)
    return whole


@pytest.mark.parametrize("form", ["png", "tiff"])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_our_own_files_are_read_alike(tmp_path, monkeypatch, form, channels, dtype):
    path = tmp_path / f"a.{form}"
    write_image(path, (texture(70, 33, channels, dtype) // 60 * 60).astype(dtype), icc="p3")
    whole = same(path, monkeypatch, tmp_path)
    assert whole.profile is not None


@pytest.mark.parametrize(
    "options",
    [
        {"tile": (16, 32)},
        {"planarconfig": "separate", "rowsperstrip": 9},
        {"rowsperstrip": 11, "predictor": 2, "compression": "zlib"},
        {"photometric": "miniswhite"},
    ],
)
def test_tiff_of_many_kinds_is_read_alike(tmp_path, monkeypatch, options):
    channels = 1 if "photometric" in options else 3
    samples = texture(70, 53, channels, np.uint16)
    if options.get("planarconfig"):
        samples = np.ascontiguousarray(np.moveaxis(samples, 2, 0))
    options = {"photometric": "rgb" if channels == 3 else "minisblack", **options}
    tifffile.imwrite(tmp_path / "a.tif", samples.squeeze(), **options)
    assert same(tmp_path / "a.tif", monkeypatch, tmp_path).pixels.shape[:2] == (70, 53)


def test_floats_keep_their_notes_and_are_checked(tmp_path, monkeypatch):
    samples = texture(70, 33, 3, np.float32) * 3 - 1
    tifffile.imwrite(tmp_path / "a.tif", samples, photometric="rgb", rowsperstrip=8)
    assert any("float values from" in note for note in same(tmp_path / "a.tif", monkeypatch, tmp_path).notes)
    samples[60, 3, 1] = np.nan
    tifffile.imwrite(tmp_path / "b.tif", samples, photometric="rgb", rowsperstrip=8)
    with pytest.raises(ImageError, match="NaN"):
        read_image(tmp_path / "b.tif", in_memory=0, folder=tmp_path)


def test_jpeg_through_libvips_is_read_alike(tmp_path, monkeypatch):
    pytest.importorskip("pyvips")
    for mode, name in (("RGB", "a.jpg"), ("L", "b.jpg")):
        Pillow.fromarray(smooth(70, 33)).convert(mode).save(tmp_path / name, quality=90)
        assert same(tmp_path / name, monkeypatch, tmp_path).pixels.shape[:2] == (70, 33)


def test_what_needs_its_whole_is_read_whole(tmp_path, monkeypatch):
    write_image(tmp_path / "alpha.png", texture(20, 9, 4, np.uint8))
    exif = Pillow.Exif()
    exif[274] = 6
    Pillow.fromarray(smooth(20, 19)).save(tmp_path / "turned.jpg", exif=exif)
    for name, shape in (("alpha.png", (20, 9)), ("turned.jpg", (19, 20))):
        assert same(tmp_path / name, monkeypatch, tmp_path, spooled=False).pixels.shape[:2] == shape


@pytest.mark.parametrize("form", ["png", "tiff"])
def test_a_file_that_is_cut_off_is_refused(tmp_path, monkeypatch, form):
    monkeypatch.setattr(vips, "BAND_BYTES", 1000)
    stream = io.BytesIO()
    write_image(stream, texture(70, 33, 3, np.uint16), output_format=form)
    path = tmp_path / f"a.{form}"
    path.write_bytes(stream.getvalue()[:9000])
    with pytest.raises(ImageError, match="damaged or cut off"):
        read_image(path, in_memory=0, folder=tmp_path)
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


def test_a_spool_gives_what_it_was_given(tmp_path):
    samples = texture(50, 7, 3, np.uint16)
    spool = Spool((50, 7, 3), samples.dtype, tmp_path, in_memory=0)
    for top in range(0, 50, 8):
        spool.append(samples[top : top + 8])
    assert np.array_equal(spool[13:41], samples[13:41])
    assert np.array_equal(spool[-2:], samples[-2:])
    assert list(tmp_path.iterdir()) == []
