"""Outputs that somebody has changed since: they carry srcli's record and are theirs all the same."""

import hashlib
import json
import os
import zlib

import numpy as np
import pytest
from PIL import Image, ImageOps
from PIL.PngImagePlugin import PngInfo

from srcli.batch.provenance import check_unchanged, read_provenance, recorded_write
from srcli.errors import ExistsError
from srcli.image.read import read_image
from srcli.image.write import plan_output
from tests.cli.conftest import picture, save

FORMATS = ("png", "jpg", "webp", "tiff", "avif", "gif")


@pytest.fixture
def photo(folder):
    return save(folder / "photo.png", picture())


def save_again(path, picture):
    """Save a picture as an editor does that keeps the metadata."""
    with Image.open(path) as old:
        options = {"xmp": old.info["xmp"]} if "xmp" in old.info else {}
        if old.format == "PNG":
            options["pnginfo"] = PngInfo()
            options["pnginfo"].add_itxt("srcli", old.info["srcli"])
        elif old.format == "TIFF":
            options = {"tiffinfo": {700: old.tag_v2[700]}}
        elif old.format == "GIF":
            options["comment"] = old.info["comment"]
    picture.save(path, **options)


EDITS = {
    "recompressed": lambda old: old,
    "cropped": lambda old: old.crop((3, 3, old.width - 3, old.height - 3)),
    "recoloured": lambda old: ImageOps.invert(old),
    "resized": lambda old: old.resize((17, 9)),
}


@pytest.mark.parametrize("suffix", FORMATS)
def test_what_srcli_wrote_is_replaced_and_what_an_editor_saved_is_not(upscale, engine, folder, photo, suffix):
    out = folder / f"big.{suffix}"
    assert upscale("photo.png", "-o", out).exit_code == 0
    assert json.loads(upscale("photo.png", "-o", out, "-s", "3", "--json").stdout)["status"] == "done"
    written = out.read_bytes()
    for name, edit in EDITS.items():
        out.write_bytes(written)
        with Image.open(out) as old:
            old.load()
            save_again(out, edit(old.convert("RGB")))
        assert read_provenance(out) is not None, name
        edited = out.read_bytes()
        for words in (["-s", "2"], ["-s", "3"])[: 1 if len(edited) == len(written) else 2]:
            # it would be replaced; it would be up to date, for which only the length is looked at
            result = upscale("photo.png", "-o", out, *words)
            assert result.exit_code == 6, name
            assert "has been changed since" in result.stderr
            assert "--overwrite" in result.stderr
        assert out.read_bytes() == edited
    assert upscale("photo.png", "-o", out, "-s", "2", "--overwrite").exit_code == 0


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("frames", [1, 2])
def test_any_byte_that_changes_is_noticed(upscale, engine, folder, suffix, frames):
    if frames == 2 and suffix in ("jpg", "tiff"):
        return
    first, *rest = [Image.fromarray(picture()[:, ::step]) for step in (1, -1)][:frames]
    first.save(folder / "in.png", save_all=True, append_images=rest)
    assert upscale("in.png", "-s", "2", "-o", f"big.{suffix}", "--frames", "all").exit_code == 0
    out = folder / f"big.{suffix}"
    content, data = read_provenance(out)["content"], bytearray(out.read_bytes())
    assert int(content.split("-")[1][:12], 16) == len(data)
    with Image.open(out) as opened:
        opened.verify()
    check_unchanged(out, content)
    place = bytes(data).index(content.encode())
    checksum = (
        bytes(data).index(b"}", bytes(data).index(b"version", place)) + 1
    )  # in PNG it depends on the name
    places = np.random.default_rng(0).permutation(len(data))[:60]
    for i in set(places.tolist()) | {0, len(data) - 1, place - 1, place + len(content) + 4}:
        if place <= i < place + len(content) or (suffix == "png" and 0 <= i - checksum < 4):
            continue
        data[i] ^= 1
        out.write_bytes(data)
        with pytest.raises(ExistsError):
            check_unchanged(out, content)
        data[i] ^= 1
    out.write_bytes(data + b"\n")
    with pytest.raises(ExistsError):
        check_unchanged(out, content)


def test_the_checksums_of_a_png_are_right(upscale, engine, folder, photo):
    assert upscale("photo.png", "-o", "big.png").exit_code == 0
    data, at = (folder / "big.png").read_bytes(), 8
    while at < len(data):
        length = int.from_bytes(data[at : at + 4], "big")
        end = at + 8 + length
        assert zlib.crc32(data[at + 4 : end]).to_bytes(4, "big") == data[end : end + 4]
        at = end + 4


def test_a_rating_makes_it_somebodys(upscale, engine, folder, photo):
    assert upscale("photo.png", "-o", "big.jpg").exit_code == 0
    out = folder / "big.jpg"
    data = out.read_bytes()
    out.write_bytes(data.replace(b"srcli:provenance", b'xmp:Rating="5" srcli:provenance'))
    assert upscale("photo.png", "-o", "big.jpg", "-s", "2").exit_code == 6


def test_a_large_file_is_named_by_all_of_its_blocks(folder):
    about, token = {}, b"blake2b-" + b"0" * 44
    rest, at = np.random.default_rng(0).bytes(3 << 20), (1 << 20) - 20  # the name lies across two blocks
    with recorded_write(folder / "x", about) as stream:
        stream.write(rest[:at] + token + rest[at:] + token)
    name = about["content"]
    assert (folder / "x").read_bytes() == rest[:at] + name.encode() + rest[at:] + name.encode()
    assert name == f"blake2b-{len(rest) + 104:012x}{hashlib.blake2b(rest).hexdigest()[:32]}"
    check_unchanged(folder / "x", name)


@pytest.mark.parametrize("content", [None, 5, "", "blake2b-" + "0" * 44, "blake2b-", {}, "x" * 52])
def test_an_output_of_an_earlier_version_stays_until_asked(upscale, engine, folder, photo, content):
    made = json.loads(upscale("photo.png", "-o", "big.png", "--json").stdout)
    image = read_image(folder / "big.png")
    about = {"fingerprint": made["fingerprint"], "version": "0"} | (
        {} if content is None else {"content": content}
    )
    plan_output(image, image.size).write(folder / "big.png", image.pixels, provenance=about)
    before = (folder / "big.png").read_bytes()
    if content is None:
        assert "up to date" in upscale("photo.png", "-o", "big.png").stdout
    result = upscale("photo.png", "-o", "big.png", "-s", "2")
    assert result.exit_code == 6
    assert "--overwrite" in result.stderr
    assert (folder / "big.png").read_bytes() == before


def test_a_manifest_tells_a_changed_output_from_one_that_was_moved(upscale, engine, folder, photo):
    words = ("photo.png", "--metadata", "unmarked", "-o", "big.png", "--manifest", "m.jsonl")
    assert upscale(*words).exit_code == 0
    out = folder / "big.png"
    os.utime(out, (1, 1))  # as after a copy
    assert "up to date" in upscale(*words).stdout
    assert "up to date" in upscale(*words).stdout
    assert upscale(*words, "-s", "2").exit_code == 0
    data, times = bytearray(out.read_bytes()), out.stat()
    data[-20] ^= 1
    out.write_bytes(data)
    os.utime(out, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert upscale(*words, "-s", "3").exit_code == 6
    assert out.read_bytes() == data


@pytest.mark.parametrize(
    ("suffix", "idle", "acting"),
    [
        (
            "png",
            ["--quality", "80", "--encode", "lossless,chroma=420,background=red"],
            ["--encode", "compress-level=1"],
        ),
        ("tiff", ["--quality", "80", "--encode", "background=red"], ["--bit-depth", "16"]),
        ("jpg", ["--encode", "compress-level=1,lossless", "--bit-depth", "8"], ["--encode", "chroma=420"]),
        ("webp", ["--encode", "compress-level=1,chroma=420"], ["--encode", "lossless"]),
        ("avif", ["--encode", "compress-level=1,background=red"], ["--quality", "80"]),
        ("gif", ["--quality", "80", "--encode", "compress-level=1", "--metadata", "icc=srgb"], ["-s", "3"]),
    ],
)
def test_only_options_that_the_format_has_make_a_result_again(upscale, engine, photo, suffix, idle, acting):
    def status(*options):
        return json.loads(upscale("photo.png", "-o", f"big.{suffix}", "--json", *options).stdout)["status"]

    assert status() == "done"
    assert status(*idle) == "skipped"
    assert status(*acting) == "done"


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tiff"])
def test_the_record_of_the_input_is_not_the_outputs(upscale, engine, folder, photo, suffix):
    assert upscale("photo.png", "-s", "2", "-o", "first.jpg").exit_code == 0
    data = (folder / "first.jpg").read_bytes()
    rated = data.replace(
        b"srcli:provenance", b'xmlns:xmp="http://ns.adobe.com/xap/1.0/" xmp:Rating="5" srcli:provenance'
    )
    start = data.index(b"http://ns.adobe.com/xap") - 2  # the length of the segment
    length = int.from_bytes(data[start : start + 2], "big") + len(rated) - len(data)
    (folder / "rated.jpg").write_bytes(rated[:start] + length.to_bytes(2, "big") + rated[start + 2 :])
    words = ("rated.jpg", "-s", "2", "-o", f"second.{suffix}")
    assert upscale(*words, "--metadata", "unmarked", "--manifest", "m.jsonl").exit_code == 0
    second = folder / f"second.{suffix}"
    assert read_provenance(second) is None
    assert b'Rating="5"' in second.read_bytes()
    assert "up to date" in upscale(*words, "--metadata", "unmarked", "--manifest", "m.jsonl").stdout
    assert upscale(*words, "--overwrite").exit_code == 0
    assert read_provenance(second)["out_size"] == [120, 80]
    assert second.read_bytes().count(b"blake2b") == 2  # of the input and of the output
    assert b'Rating="5"' in second.read_bytes()
