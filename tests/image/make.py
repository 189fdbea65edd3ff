"""Files for the tests, made without the code under test: raw PNG chunks and ICC profiles byte by byte."""

from __future__ import annotations

import io
import struct
import zlib
from itertools import pairwise
from pathlib import Path

import numpy as np
import tifffile
from PIL import Image, ImageCms

from srcli.image.read import Image as Read
from srcli.image.write import plan_output

D50 = np.array([0.9642, 1.0, 0.8249])
ADOBE_RGB = np.array(  # columns of Adobe RGB (1998), adapted to D50, from its ICC profile
    [[0.60974, 0.20528, 0.14919], [0.31111, 0.62567, 0.06322], [0.01947, 0.06087, 0.74457]]
)
SRGB = np.array([[0.43607, 0.38506, 0.14308], [0.22250, 0.71688, 0.06062], [0.01393, 0.09710, 0.71417]])
DISPLAY_P3 = np.array([[0.51512, 0.29198, 0.1571], [0.2412, 0.69225, 0.06657], [-0.00105, 0.04189, 0.78407]])


def texture(h: int, w: int, channels: int, dtype: type, seed: int = 0) -> np.ndarray:
    """Random samples that use the whole range of the type; no alpha of zero."""
    rng = np.random.default_rng(seed)
    if dtype == np.float32:
        return rng.random((h, w, channels), dtype=np.float32)
    return rng.integers(1, np.iinfo(dtype).max + 1, (h, w, channels), dtype=dtype)


def smooth(h: int, w: int, channels: int = 3) -> np.ndarray:
    """A smooth 8-bit picture (h, w, channels), which lossy formats keep nearly."""
    y, x = np.mgrid[0:h, 0:w]
    waves = [128 + 100 * np.sin(x / (9 + 2 * c) + c) * np.cos(y / (11 + c)) for c in range(channels)]
    return np.stack(waves, -1).round().astype(np.uint8)


def png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def raw_png(
    size: tuple[int, int], bits: int, kind: int, rows: bytes, *, before=b"", after=b"", interlace=0
) -> bytes:
    """A PNG of a size (h, w) and a colour type with any unpacked rows, and more chunks before or after them."""
    head = png_chunk(b"IHDR", struct.pack(">IIBBBBB", size[1], size[0], bits, kind, 0, 0, interlace))
    body = before + png_chunk(b"IDAT", zlib.compress(rows)) + after
    return b"\x89PNG\r\n\x1a\n" + head + body + png_chunk(b"IEND", b"")


def png16(samples: np.ndarray, before: bytes = b"", after: bytes = b"") -> bytes:
    """A 16-bit PNG of samples (h, w, c), unfiltered, with more chunks before or after the pixels."""
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in samples)
    kind = {1: 0, 2: 4, 3: 2, 4: 6}[samples.shape[2]]
    return raw_png(samples.shape[:2], 16, kind, rows, before=before, after=after)


ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))


def adam7(samples: np.ndarray) -> bytes:
    """The rows of an interlaced PNG, unfiltered (section 8)."""
    return b"".join(b"\0" + row[x::dx].tobytes() for x, y, dx, dy in ADAM7 for row in samples[y::dy])


def encoded(picture: Image.Image | np.ndarray, form: str, **options) -> bytes:
    """A file that Pillow writes."""
    stream, picture = io.BytesIO(), picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
    picture.save(stream, form, **options)
    return stream.getvalue()


def tiff(samples: np.ndarray, photometric: str = "rgb", **options) -> bytes:
    """A file that tifffile writes."""
    stream = io.BytesIO()
    tifffile.imwrite(stream, samples, photometric=photometric, **{"metadata": None, **options})
    return stream.getvalue()


def opened(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data))


def saved(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def through(image: Read, scale: int = 1, provenance=None, **options) -> tuple[bytes, list[str]]:
    """A picture repeated `scale` times through the writer, in bands of uneven height, and the notes."""
    plan = plan_output(image, (scale * image.size[0], scale * image.size[1]), **options)

    def bands():
        for top, bottom in pairwise([*(edge for edge in (0, 7, 8) if edge < image.size[0]), image.size[0]]):
            rows, alpha = image.strip(top, bottom), image.alpha_strip(top, bottom)
            rows, alpha = (part.repeat(scale, 0).repeat(scale, 1) for part in (rows, alpha))
            yield plan.band(rows, alpha if image.alpha is not None else None, top=scale * top)

    stream = io.BytesIO()
    notes = plan.write(stream, bands(), provenance=provenance)
    return stream.getvalue(), [*plan.notes, *notes]


# -- ICC ---------------------------------------------------------------------------------------------------------


def _s15(*values: float) -> bytes:
    return struct.pack(f">{len(values)}i", *(round(float(v) * 65536) for v in values))


def xyz(values) -> bytes:
    return b"XYZ \0\0\0\0" + _s15(*values)


def gamma(value: float) -> bytes:
    return b"curv\0\0\0\0" + struct.pack(">IH", 1, round(value * 256))


def table(values: np.ndarray) -> bytes:
    data = np.rint(np.asarray(values) * 65535).astype(">u2")
    return b"curv\0\0\0\0" + struct.pack(">I", len(data)) + data.tobytes()


def parametric(form: int, *values: float) -> bytes:
    return b"para\0\0\0\0" + struct.pack(">HH", form, 0) + _s15(*values)


SRGB_CURVE = parametric(3, 2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)


def profile(space: bytes, tags: dict[bytes, bytes], *, kind: bytes = b"mntr", pcs: bytes = b"XYZ ") -> bytes:
    offset = 132 + 12 * len(tags)
    listing, body = b"", b""
    for name, data in tags.items():
        data += bytes(-len(data) % 4)
        listing += struct.pack(">4sII", name, offset + len(body), len(data))
        body += data
    header = bytearray(128)
    header[0:4] = struct.pack(">I", offset + len(body))
    header[8:24] = struct.pack(">I", 0x02400000) + kind + space + pcs
    header[24:36] = struct.pack(">6H", 2026, 1, 1, 0, 0, 0)
    header[36:40] = b"acsp"
    header[68:80] = _s15(*D50)
    return bytes(header) + struct.pack(">I", len(tags)) + listing + body


def described(name: str) -> dict[bytes, bytes]:
    text = name.encode() + b"\0"
    return {
        b"desc": b"desc\0\0\0\0" + struct.pack(">I", len(text)) + text + bytes(78),
        b"cprt": b"text\0\0\0\0none\0",
        b"wtpt": xyz(D50),
    }


def rgb_profile(name: str, matrix: np.ndarray, curve: bytes) -> bytes:
    columns = {
        letter + b"XYZ": xyz(column) for letter, column in zip((b"r", b"g", b"b"), matrix.T, strict=True)
    }
    curves = dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), curve)
    return profile(b"RGB ", described(name) | columns | curves)


def gray_profile(name: str, curve: bytes) -> bytes:
    return profile(b"GRAY", described(name) | {b"kTRC": curve})


def srgb_profile() -> bytes:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def dot_gain_20() -> bytes:
    """A 20 % dot gain curve: 50 % ink prints as 70 %."""
    ink = 1 - np.linspace(0, 1, 256)
    return table(1 - (ink + 0.8 * ink * (1 - ink)))


def _lut16(inputs: int, outputs: int, grid: int, values: np.ndarray) -> bytes:
    """A lut16Type with straight curves; values (grid^inputs, outputs) in [0, 1], first input slowest."""
    head = b"mft2\0\0\0\0" + struct.pack(">BBBB", inputs, outputs, grid, 0) + _s15(1, 0, 0, 0, 1, 0, 0, 0, 1)
    line = struct.pack(">2H", 0, 65535)
    data = np.rint(np.clip(values, 0, 1) * 65535).astype(">u2").tobytes()
    return head + struct.pack(">HH", 2, 2) + line * inputs + data + line * outputs


def _lab(rgb: np.ndarray) -> np.ndarray:
    """Lab (D50) of linear RGB with sRGB's primaries, as the 16-bit encoding of version 2 profiles in [0, 1]."""
    ratio = rgb @ SRGB.T / D50
    f = np.where(ratio > 216 / 24389, np.cbrt(ratio), (24389 / 27 * ratio + 16) / 116)
    lab = np.stack([116 * f[:, 1] - 16, 500 * (f[:, 0] - f[:, 1]), 200 * (f[:, 1] - f[:, 2])], -1)
    return (lab + np.array([0, 128, 128])) / [100, 255, 255] * (0xFF00 / 0xFFFF)


def _rgb_of_lab(encoded_lab: np.ndarray) -> np.ndarray:
    lab = encoded_lab * (0xFFFF / 0xFF00) * [100, 255, 255] - [0, 128, 128]
    fy = (lab[:, 0] + 16) / 116
    f = np.stack([fy + lab[:, 1] / 500, fy, fy - lab[:, 2] / 200], -1)
    ratio = np.where(f > 6 / 29, f**3, (116 * f - 16) * 27 / 24389)
    return np.clip(ratio * D50 @ np.linalg.inv(SRGB).T, 0, 1)


def cmyk_profile() -> bytes:
    """An ideal printer with a dark black: linear light is ((1 - ink) (1 - K))^2 lifted by 2 %."""
    axis = np.linspace(0, 1, 9)
    inks = np.stack(np.meshgrid(axis, axis, axis, axis, indexing="ij"), -1).reshape(-1, 4)
    light = 0.02 + 0.98 * ((1 - inks[:, :3]) * (1 - inks[:, 3:])) ** 2
    axis = np.linspace(0, 1, 33)
    labs = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), -1).reshape(-1, 3)
    wanted = np.sqrt(np.clip((_rgb_of_lab(labs) - 0.02) / 0.98, 0, 1))
    black = (1 - wanted.max(-1, keepdims=True)) * 0.5
    back = np.concatenate([1 - wanted / (1 - black), black], -1)
    forth_tag, back_tag = _lut16(4, 3, 9, _lab(light)), _lut16(3, 4, 33, back)
    tags = described("Test press")
    for i in range(3):
        tags |= {f"A2B{i}".encode(): forth_tag, f"B2A{i}".encode(): back_tag}
    return profile(b"CMYK", tags, kind=b"prtr", pcs=b"Lab ")


def by_littlecms(samples: np.ndarray, source: bytes, mode: str) -> np.ndarray:
    """8-bit sRGB (or gray) of 8-bit samples through LittleCMS, relative colorimetric with black point."""
    own = ImageCms.ImageCmsProfile(io.BytesIO(source))
    intent, flags = ImageCms.Intent.RELATIVE_COLORIMETRIC, ImageCms.Flags.BLACKPOINTCOMPENSATION
    transform = ImageCms.buildTransform(own, ImageCms.createProfile("sRGB"), mode, "RGB", intent, flags)
    size = samples.shape[1::-1]
    return np.asarray(transform.apply(Image.frombytes(mode, size, np.ascontiguousarray(samples).tobytes())))
