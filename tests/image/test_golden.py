"""The whole matrix of kinds and formats, enlarged twofold: what the table beside this file says is kept, is kept.

The table was recorded before pixels were read by libvips. Run as a module, this prints it; with `record`, writes it.
Hashes are of pixels that no lossy code has touched, read back by OpenCV, tifffile or Pillow.
"""

import hashlib
import json
import sys
from functools import cache
from io import BytesIO
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image

from srcli.image.formats import FORMATS
from srcli.image.read import read_image
from tests.image.make import (
    DISPLAY_P3,
    SRGB_CURVE,
    adam7,
    encoded,
    opened,
    png16,
    png_chunk,
    raw_png,
    rgb_profile,
    smooth,
    texture,
    through,
    tiff,
)
from tests.image.test_image_metadata import XMP, exif

TABLE = Path(__file__).with_name("golden.json")
P3 = rgb_profile("P3", DISPLAY_P3, SRGB_CURVE)


@cache
def inputs() -> dict[str, bytes]:
    """Files of every kind, 24x36; with EXIF, XMP, a profile and dots per inch where a name ends in +."""
    rgb, gray, odd = smooth(24, 36), smooth(24, 36, 1)[..., 0], texture(24, 36, 4, np.uint8)
    about = {"exif": exif(), "xmp": XMP.encode(), "icc_profile": P3, "dpi": (300, 300)}
    ramp = np.dstack([rgb, np.tile(np.arange(36, dtype=np.uint8) * 7, (24, 1))])
    plain = Image.fromarray
    palette = plain(gray // 20, "P")
    palette.putpalette(rgb[0, :13].tobytes())
    found = {
        "png 1": encoded(plain(gray > 128), "PNG"),
        "png L": encoded(plain(gray), "PNG"),
        "png L key": encoded(plain(gray), "PNG", transparency=int(gray[3, 4])),
        "png LA": encoded(plain(ramp[..., [0, 3]], "LA"), "PNG"),
        "png P": encoded(palette, "PNG"),
        "png P tRNS": encoded(palette, "PNG", transparency=bytes([0, 90, *[255] * 11])),
        "png RGB+": encoded(plain(rgb), "PNG", **about),
        "png RGB key": encoded(plain(rgb), "PNG", transparency=tuple(map(int, rgb[3, 4]))),
        "png RGBA": encoded(plain(ramp), "PNG"),
        "png Adam7": raw_png((24, 36), 8, 2, adam7(rgb), interlace=1),
        "png apng first": encoded(plain(rgb), "PNG", save_all=True, append_images=[plain(255 - rgb)]),
        "webp lossless+": encoded(plain(ramp), "WEBP", lossless=True, exact=True, **about),
        "webp+": encoded(plain(rgb), "WEBP", **about),
        "jpg+": encoded(plain(rgb), "JPEG", **about | {"exif": b"Exif\0\0" + exif()}),
        "jpg L": encoded(plain(gray), "JPEG"),
        "jpg 420 progressive": encoded(plain(rgb), "JPEG", subsampling=2, progressive=True),
        "jpg CMYK": encoded(plain(rgb).convert("CMYK"), "JPEG"),
        "avif+": encoded(plain(rgb), "AVIF", **about),
        "avif alpha": encoded(plain(ramp), "AVIF", quality=100),
        "gif": encoded(palette, "GIF", transparency=3),
        "bmp": encoded(plain(rgb), "BMP"),
        "ppm": encoded(plain(rgb), "PPM"),
        "tiff RGB+": encoded(plain(rgb), "TIFF", **about),
        "tiff JPEG": encoded(plain(rgb), "TIFF", compression="jpeg", quality=95),
        "tiff fax": encoded(plain(gray > 128), "TIFF", compression="group4"),
        "tiff palette": encoded(palette, "TIFF"),
        "tiff CMYK": encoded(plain(odd, "CMYK"), "TIFF"),
        "tiff PackBits": encoded(plain(rgb), "TIFF", compression="packbits"),
    }
    for channels, name in enumerate(("L", "LA", "RGB", "RGBA"), 1):
        found[f"png {name} 16"] = png16(texture(24, 36, channels, np.uint16))
    found["png L key 16"] = png16(texture(24, 36, 1, np.uint16), png_chunk(b"tRNS", b"\x01\x02"))
    for kind, dtype in {"8": np.uint8, "16": np.uint16, "32f": np.float32}.items():
        one, three, four = (texture(24, 36, c, dtype) for c in (1, 3, 4))
        found |= {
            f"tiff gray {kind}": tiff(one, "minisblack", rowsperstrip=5),
            f"tiff white {kind}": tiff(one, "miniswhite"),
            f"tiff gray alpha {kind}": tiff(four[..., :2], "minisblack", extrasamples=["unassalpha"]),
            f"tiff rgb {kind}": tiff(three, "rgb", compression="zlib"),
            f"tiff rgba {kind}": tiff(four, "rgb", extrasamples=["unassalpha"], byteorder=">", bigtiff=True),
            f"tiff premultiplied {kind}": tiff(four, "rgb", extrasamples=["assocalpha"]),
            f"tiff planes {kind}": tiff(np.moveaxis(three, 2, 0), "rgb", planarconfig="separate"),
            f"tiff tiles {kind}": tiff(three, "rgb", tile=(16, 16)),
            f"tiff five {kind}": tiff(
                np.dstack([four, one]), "rgb", extrasamples=["unassalpha", "unspecified"]
            ),
        }
    for kind, dtype in {"8": np.uint8, "16": np.uint16}.items():
        lzw = cv2.imencode(".tif", texture(24, 36, 3, dtype), [cv2.IMWRITE_TIFF_COMPRESSION, 5])[1]
        found[f"tiff LZW {kind}"] = lzw.tobytes()
    return found


LOSSY = {"webp+", "jpg+", "jpg L", "jpg 420 progressive", "jpg CMYK", "avif+", "avif alpha", "tiff JPEG"}


def samples_of(data: bytes) -> np.ndarray:
    if data[:2] in (b"II", b"MM"):
        return tifffile.imread(BytesIO(data))
    if data[:4] == b"RIFF":
        return np.asarray(opened(data))
    return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)


def digest(data: bytes) -> str:
    return hashlib.blake2b(data, digest_size=6).hexdigest()


def row(source: str, name: str) -> str:
    """What was kept, in one line: size and kind, then pixels, profile, dots per inch, EXIF, XMP."""
    out, _ = through(
        read_image(inputs()[source], frames="first"), 2, output_format=name, lossless=name == "webp"
    )
    image = read_image(out)
    words = [
        f"{image.size[1]}x{image.size[0]} {image.kind} {image.depth}{' alpha' * (image.alpha is not None)}"
    ]
    exact = source not in LOSSY and name in ("png", "tiff", "webp")
    words.append("pixels " + digest(np.ascontiguousarray(samples_of(out)).tobytes()) if exact else "lossy")
    kept = image.metadata
    if image.profile is not None:
        words.append(f"icc {digest(image.profile.data)}")
    if kept.dpi is not None:
        words.append("dpi {:.0f} {:.0f}".format(*kept.dpi))
    if kept.exif is not None:
        found = kept.exif.in_order("<")
        values = {
            tag: entry.data.hex()
            for part in (found, *found.children.values())
            for tag, entry in part.entries.items()
        }
        words.append(f"exif {len(values)} {digest(json.dumps(sorted(values.items())).encode())}")
    if kept.xmp is not None:
        words.append(f"xmp {digest(kept.xmp)}")
    return ", ".join(words)


@pytest.mark.parametrize("source", inputs())
def test_what_the_table_says_is_kept(source):
    expected = json.loads(TABLE.read_text())[source]
    assert {name: row(source, name) for name in FORMATS} == expected


if __name__ == "__main__":
    table = {source: {name: row(source, name) for name in FORMATS} for source in inputs()}
    text = (
        "{\n"
        + ",\n".join(f"{json.dumps(name)}: {json.dumps(kept)}" for name, kept in table.items())
        + "\n}\n"
    )
    if sys.argv[1:] == ["record"]:
        TABLE.write_text(text)
    print(text)
