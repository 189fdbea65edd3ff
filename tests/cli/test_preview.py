"""A part of the picture before the whole is enlarged."""

import numpy as np
import pytest
from PIL import Image

from srcli.evaluate.preview import CONTEXT, most_detailed
from tests.cli.conftest import save, size_of


def test_the_part_with_most_detail_is_found():
    photo = np.full((40, 60, 3), 90, np.uint8)
    photo[22:30:2, 41:49] = 200
    best = max(
        ((left, top) for top in range(33) for left in range(53)),
        key=lambda at: sum(
            float(np.abs(np.diff(photo[..., 0].astype(float), axis=axis, prepend=90)[at[1] : at[1] + 8, at[0] : at[0] + 8]).sum())
            for axis in (0, 1)
        ),
    )  # fmt: skip
    left, top = most_detailed(photo, 8)
    assert abs(left - best[0]) <= 1
    assert abs(top - best[1]) <= 1


@pytest.fixture
def photo(folder):
    rng = np.random.default_rng(3)
    pixels = rng.integers(0, 256, (150, 200, 3), np.uint8)
    return save(folder / "photo.png", pixels), pixels


def test_a_part_is_what_the_whole_would_be_there(upscale, photo, folder):
    done = upscale("photo.png", "-s", "4", "--preview", "100,70")
    assert done.exit_code == 0, done.stderr
    assert done.stdout == "photo_preview.png\n"
    sheet = np.asarray(Image.open(folder / "photo_preview.png")).astype(int)
    assert upscale("photo.png", "-s", "4", "-o", "whole.png").exit_code == 0
    whole = np.asarray(Image.open(folder / "whole.png")).astype(int)
    part = whole[(70 - 32) * 4 : (70 + 32) * 4, (100 - 32) * 4 : (100 + 32) * 4]
    rows, columns = (size - 255 for size in sheet.shape[:2])
    near = [
        np.abs(sheet[top : top + 256 : 8, left : left + 256 : 8] - part[::8, ::8]).mean()
        for top in range(rows)
        for left in range(columns)
    ]
    assert min(near) < 0.5
    assert CONTEXT >= 16


def test_a_preview_needs_no_place_and_replaces_nothing(upscale, photo, folder):
    assert upscale("photo.png", "--preview", "-o", "look.png", "-W", "400").exit_code == 0
    assert size_of(folder / "look.png")[0] >= 256
    assert upscale("photo.png", "--preview", "-o", "look.png").exit_code == 6
    assert upscale("photo.png", "--preview", "-o", "look.jpg").exit_code == 2
    assert upscale("photo.png", "--preview-at", "500,2").exit_code == 2
    assert upscale("photo.png", "photo.png", "--preview").exit_code == 2
    assert upscale("gone.png", "--preview").exit_code == 3
    assert not list(folder.glob("*_x*"))


def test_without_a_model_all_that_are_here_are_shown(monkeypatch):
    from srcli.cli.preview import usable
    from srcli.config.presets import DEFAULT_PRESET, list_presets

    names = usable(None)
    assert names[0] == DEFAULT_PRESET
    assert {"real-best", "rlfn-linf-s"} <= {*names} <= {preset.name for preset in list_presets()}
    assert "fplia-small" not in names  # experimental, and a minute's work
    assert usable("real")[0] == "real-best"
