"""Files damaged on purpose: a small corpus of every kind, and mutants of it that a number reproduces.

A mutant is a sound file with a few bytes changed, cut, doubled or mixed with another file of its kind. Where a
checksum or a container would stop every mutant at the door (PNG chunks, ICC and EXIF inside a picture, the pickle
inside a checkpoint), half of them are mended after the damage, so that it reaches the code behind.
"""

from __future__ import annotations

import io
import json
import random
import struct
import zipfile
import zlib
from collections.abc import Callable
from functools import cache, partial

import cv2
import numpy as np
import tifffile
from PIL import Image

from srcli.image.ifd import EXIF_IFD, GPS_IFD
from tests.image.make import (
    ADOBE_RGB,
    cmyk_profile,
    encoded,
    gamma,
    gray_profile,
    png16,
    rgb_profile,
    smooth,
    texture,
)

SIDE = 24
EDGES = (0, 1, 2, 3, 7, 8, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
WORDS = (
    b"0", b"-1", b"1e400", b"nan", b"99999999999999999999", b'""', b"[]", b"{}", b"[[]]", b"true", b"null",
)  # fmt: skip
XMP = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    b'<rdf:Description rdf:about="" xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="6">'
    b"<tiff:ImageWidth>24</tiff:ImageWidth></rdf:Description></rdf:RDF></x:xmpmeta>"
)
PRESET = {
    "title": "Tiny",
    "encoder": {"name": "edsr", "n_resblocks": 1, "n_feats": 4, "mean_shift": False},
    "decoder": {"name": "blend", "width": 4, "hidden": [4]},
    "weights": {"license": "Apache-2.0"},
}
TOML = b"""title = "Tiny"
paper = "none"
[encoder]
name = "edsr"
n_resblocks = 1
n_feats = 4
[decoder]
name = "blend"
width = 4
hidden = [4]
[scales]
trained = [1.0, 4.0]
[weights]
license = "Apache-2.0"
"""
MANIFEST = b"".join(
    json.dumps(line).encode() + b"\n"
    for line in (
        {"key": "a.png", "shard": "0/4", "stamp": [12, 34], "input": "a.png", "output": "../../x.png"},
        {"key": "b.png", "status": "failed", "error": {"message": "no"}, "fingerprint": "00", "output": "/x"},
    )
)


# --- sound files ------------------------------------------------------------------------------------------------


def _picture(channels: int = 3) -> Image.Image:
    samples = smooth(SIDE, SIDE, channels)
    return Image.fromarray(samples[..., 0] if channels == 1 else samples)


def _animated(form: str, **options: object) -> bytes:
    frames = [Image.fromarray(np.roll(smooth(SIDE, SIDE), 3 * i, axis=1)) for i in range(3)]
    return encoded(
        frames[0], form, save_all=True, append_images=frames[1:], duration=[40, 80, 120], **options
    )


def _tiff(**options: object) -> bytes:
    stream = io.BytesIO()
    samples = texture(SIDE, SIDE, 3, np.uint16)
    tifffile.imwrite(stream, samples, photometric="rgb", **options)
    return stream.getvalue()


def exif_block() -> bytes:
    """An EXIF block with an orientation, the two child directories and some text."""
    exif = Image.Exif()
    exif[274], exif[271], exif[282] = 6, "Maker", 72.0
    exif.get_ifd(EXIF_IFD).update({0x9003: "2026:01:01 00:00:00", 0xA002: SIDE, 0x927C: b"note" * 4})
    exif.get_ifd(GPS_IFD).update({1: "N", 2: (1.0, 2.0, 3.0)})
    return exif.tobytes()


def _safetensors() -> bytes:
    from safetensors.torch import save

    return save(_network(), metadata={"preset": json.dumps(PRESET), "srcli_format": "1"})


def _checkpoint(*, zipped: bool = True) -> bytes:
    import torch

    stream = io.BytesIO()
    torch.save(
        {"params": _network(), "name": "tiny", "args": {"n": 4}},
        stream,
        _use_new_zipfile_serialization=zipped,
    )
    return stream.getvalue()


@cache
def _network() -> dict:
    from srcli.config.presets import parse_preset
    from srcli.weights.build import build

    return {
        key: value.clone() for key, value in build(parse_preset(PRESET, name="tiny")).state_dict().items()
    }


def _seeds(kind: str) -> list[bytes]:
    rgb, rgba, gray, palette = _picture(), _picture(4), _picture(1), _picture().convert("P")
    tiled = {"compression": "zlib", "tile": (16, 16)}
    lzw = cv2.imencode(".tif", texture(SIDE, SIDE, 3, np.uint16), [cv2.IMWRITE_TIFF_COMPRESSION, 5])[1]
    made: dict[str, Callable[[], list[bytes]]] = {
        "png": lambda: [
            encoded(rgb, "PNG", exif=exif_block()),
            encoded(rgba, "PNG"),
            encoded(gray, "PNG", dpi=(72, 72)),
            encoded(palette, "PNG", transparency=3),
            png16(texture(SIDE, SIDE, 4, np.uint16)),
            _animated("PNG"),
        ],
        "jpeg": lambda: [
            encoded(rgb, "JPEG", exif=exif_block()),
            encoded(gray, "JPEG", progressive=True),
            encoded(rgb.convert("CMYK"), "JPEG"),
        ],
        "webp": lambda: [
            encoded(rgb, "WEBP", exif=exif_block(), xmp=XMP),
            encoded(rgba, "WEBP", lossless=True),
            _animated("WEBP"),
        ],
        "tiff": lambda: [
            _tiff(),
            _tiff(**tiled),
            _tiff(compression="zlib", predictor=True, rowsperstrip=5),
            lzw.tobytes(),
            encoded(rgb, "TIFF", compression="tiff_lzw", dpi=(72, 72)),
            encoded(gray, "TIFF", compression="packbits"),
            _animated("TIFF"),
        ],
        "avif": lambda: [encoded(rgb, "AVIF", exif=exif_block()), encoded(rgba, "AVIF"), _animated("AVIF")],
        "gif": lambda: [encoded(palette, "GIF", transparency=2), _animated("GIF", loop=2, disposal=2)],
        "bmp": lambda: [encoded(rgb, "BMP"), encoded(palette, "BMP"), encoded(_picture(1), "BMP")],
        "other": lambda: [encoded(rgb, "PPM"), b"P2\n3 2\n4095\n0 1 2\n3 4 4095\n", encoded(rgba, "TGA")],
        "icc": lambda: [
            rgb_profile("Adobe", ADOBE_RGB, gamma(2.2)),
            gray_profile("Gray", gamma(1.8)),
            cmyk_profile()[:20000],
        ],
        "exif": lambda: [exif_block(), b"MM\0*" + exif_block()[6:]],
        "xmp": lambda: [XMP],
        "safetensors": lambda: [_safetensors()],
        "toml": lambda: [TOML],
        "checkpoint": lambda: [_checkpoint(), _checkpoint(zipped=False)],
        "manifest": lambda: [MANIFEST],
    }
    return made[kind]()


PICTURES = ("png", "jpeg", "webp", "tiff", "avif", "gif", "bmp", "other", "icc", "exif", "xmp")
KINDS = (*PICTURES, "safetensors", "toml", "checkpoint", "manifest")
TEXT = ("toml", "xmp", "manifest")


@cache
def seeds(kind: str) -> tuple[bytes, ...]:
    """Sound files of a kind; for icc, exif and xmp, the bare block."""
    return tuple(_seeds(kind))


# --- damage -----------------------------------------------------------------------------------------------------


def mutant(kind: str, number: int) -> bytes:
    """Damaged file `number` of a kind: always the same one, with the same versions of the encoders."""
    draw = random.Random(f"{kind}/{number}")
    data = draw.choice(seeds(kind))
    if kind == "safetensors" and draw.random() < 0.6:
        return _new_header(data, draw)
    if kind == "checkpoint" and data[:2] == b"PK" and draw.random() < 0.6:
        return _new_pickle(data, draw)
    data = damaged(data, draw, kind)
    if kind == "png" and draw.random() < 0.6:
        data = with_checksums(data)
    return carried(kind, data, draw)


def damaged(data: bytes, draw: random.Random, kind: str) -> bytes:
    """One to four changes."""
    bytes_ = bytearray(data)
    changes = [_flip, _edge, _edge, _cut, _double, _insert, _blank, partial(_splice, kind=kind)]
    if kind in TEXT:
        changes += [_word, _word, _line]
    for _ in range(draw.choice((1, 1, 1, 2, 2, 4))):
        if bytes_:
            draw.choice(changes)(bytes_, draw)
    return bytes(bytes_)


def _at(data: bytearray, draw: random.Random) -> int:
    """A place; headers, where the meaning is, more often than the rest."""
    return draw.randrange(min(len(data), draw.choice((40, 300, len(data)))))


def _flip(data: bytearray, draw: random.Random) -> None:
    for _ in range(draw.randint(1, 8)):
        data[_at(data, draw)] = draw.randrange(256)


def _edge(data: bytearray, draw: random.Random) -> None:
    size = draw.choice((1, 2, 4, 8))
    at = _at(data, draw)
    value = (draw.choice(EDGES) % 256**size).to_bytes(size, draw.choice(("big", "little")))
    data[at : at + size] = value


def _cut(data: bytearray, draw: random.Random) -> None:
    at = _at(data, draw)
    del data[at : at + draw.choice((1, 4, 50, len(data)))]


def _double(data: bytearray, draw: random.Random) -> None:
    at, to = _at(data, draw), _at(data, draw)
    data[to:to] = data[at : at + draw.choice((1, 8, 200))] * draw.choice((1, 1, 40))


def _insert(data: bytearray, draw: random.Random) -> None:
    at = _at(data, draw)
    data[at:at] = draw.randbytes(draw.choice((1, 4, 100)))


def _blank(data: bytearray, draw: random.Random) -> None:
    at = _at(data, draw)
    stop = min(len(data), at + draw.choice((2, 16, 100)))
    data[at:stop] = bytes([draw.choice((0, 255))]) * (stop - at)


def _splice(data: bytearray, draw: random.Random, kind: str) -> None:
    other = draw.choice(seeds(kind))
    at, start = _at(data, draw), draw.randrange(len(other))
    data[at:] = other[start:]


def _word(data: bytearray, draw: random.Random) -> None:
    """A value of a text file becomes another."""
    starts = [i + 1 for i, byte in enumerate(data) if byte in b"=:,[{\n"]
    if starts:
        at = draw.choice(starts)
        stop = next((i for i in range(at, len(data)) if data[i] in b",]}\n"), len(data))
        data[at:stop] = draw.choice((*WORDS, b"[" * 5000, b'"' + b"x" * 5000 + b'"'))


def _line(data: bytearray, draw: random.Random) -> None:
    lines = bytes(data).split(b"\n")
    lines.insert(draw.randrange(len(lines)), draw.choice(lines))
    data[:] = b"\n".join(lines)


# --- mending ----------------------------------------------------------------------------------------------------


def with_checksums(data: bytes) -> bytes:
    """A PNG whose chunks have right checksums as far as their lengths lead to chunks."""
    out, at = bytearray(data), 8
    while at + 12 <= len(out):
        length = struct.unpack(">I", out[at : at + 4])[0]
        stop = at + 8 + length
        if stop + 4 > len(out):
            break
        out[stop : stop + 4] = struct.pack(">I", zlib.crc32(out[at + 4 : stop]))
        at = stop + 4
    return bytes(out)


def carried(kind: str, data: bytes, draw: random.Random) -> bytes:
    """The file itself, or for a bare block a sound picture with it."""
    return _inside(kind, data, draw) if kind in ("icc", "exif", "xmp") else data


def _inside(kind: str, block: bytes, draw: random.Random) -> bytes:
    """A sound picture that carries a damaged block."""
    form = draw.choice(("PNG", "JPEG", "WEBP") if kind == "exif" else ("PNG", "JPEG", "WEBP", "TIFF"))
    mode = draw.choice((3, 1)) if form != "WEBP" else 3
    picture = _picture(mode)
    if kind == "icc" and form in ("JPEG", "TIFF") and draw.random() < 0.3:
        picture = picture.convert("CMYK")
    if form == "TIFF":
        tag = {"icc": 34675, "xmp": 700}[kind]
        stream = io.BytesIO()
        tags = [(tag, 7, len(block), block, True)]
        tifffile.imwrite(stream, np.asarray(picture), extratags=tags, metadata=None)
        return stream.getvalue()
    name = {"icc": "icc_profile"}.get(kind, kind)
    if kind == "xmp" and form == "PNG":
        form = "JPEG"
    if kind == "exif" and form == "JPEG":
        block = b"Exif\0\0" + block.removeprefix(b"Exif\0\0")
    return encoded(picture, form, **{name: block[:60000]})


def _new_header(data: bytes, draw: random.Random) -> bytes:
    """Weights whose JSON header is damaged and whose length is right."""
    size = struct.unpack("<Q", data[:8])[0]
    header = damaged(data[8 : 8 + size], draw, draw.choice(("safetensors", "toml")))
    return struct.pack("<Q", len(header)) + header + data[8 + size :]


def _new_pickle(data: bytes, draw: random.Random) -> bytes:
    """A checkpoint whose archive is sound and whose pickle is damaged."""
    stream = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(stream, "w") as new:
        for name in old.namelist():
            content = old.read(name)
            chosen = name.endswith("data.pkl") or draw.random() < 0.05
            new.writestr(name, damaged(content, draw, "checkpoint") if chosen and content else content)
    return stream.getvalue()
