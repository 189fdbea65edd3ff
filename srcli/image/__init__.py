"""Images in and out: what photographers care about is kept, and every loss is said.

The names below are loaded on first use: NumPy, Pillow and OpenCV are not imported before a picture is read.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from srcli.image.formats import FORMATS, check_format_limits, find_format, format_of
    from srcli.image.header import Header, probe
    from srcli.image.provenance import read_provenance
    from srcli.image.read import Image, read_image
    from srcli.image.resample import pillow_bicubic_uint8, resize, resize_rows
    from srcli.image.write import OutputPlan, choose_format, plan_output, write_image

_HOMES = {
    "FORMATS": "formats",
    "check_format_limits": "formats",
    "choose_format": "write",
    "find_format": "formats",
    "format_of": "formats",
    "Header": "header",
    "probe": "header",
    "read_provenance": "provenance",
    "Image": "read",
    "read_image": "read",
    "pillow_bicubic_uint8": "resample",
    "resize": "resample",  # not `resize`: the module would hide the function
    "resize_rows": "resample",
    "OutputPlan": "write",
    "plan_output": "write",
    "write_image": "write",
}

__all__ = [
    "FORMATS",
    "Header",
    "Image",
    "OutputPlan",
    "check_format_limits",
    "choose_format",
    "find_format",
    "format_of",
    "pillow_bicubic_uint8",
    "plan_output",
    "probe",
    "read_image",
    "read_provenance",
    "resize",
    "resize_rows",
    "write_image",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"srcli.image.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'srcli.image' has no attribute {name!r}")
