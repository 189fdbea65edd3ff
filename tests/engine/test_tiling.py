"""Tiles and bands cover everything once and never ask for what is not there."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from srcli.engine.tiling import bands, tile_rows
from srcli.geometry import Size, nearest, tile_shape

sides = st.integers(1, 90)


@given(h=sides, w=sides, tile=st.integers(8, 64), multiple=st.sampled_from([1, 8]), halo=st.integers(0, 40))
def test_tiles_cover_every_pixel_once_on_multiples(h, w, tile, multiple, halo):
    size = Size(-(-h // multiple) * multiple, -(-w // multiple) * multiple)
    shape = tile_shape(size, halo, multiple, tile=tile, bytes_per_pixel=1000, free=10**9)
    seen = np.zeros(size, int)
    for row in tile_rows(size, shape):
        for box in row:
            seen[box.slices] += 1
            assert box.top % multiple == 0
            assert box.left % multiple == 0
    assert (seen == 1).all()


@given(
    h=st.integers(10, 4000), w=st.integers(10, 4000), halo=st.integers(0, 140), megabytes=st.integers(1, 4000)
)
def test_automatic_tiles_keep_to_the_memory_they_are_given(h, w, halo, megabytes):
    free = megabytes << 20
    shape = tile_shape(Size(h, w), halo, 8, tile="auto", bytes_per_pixel=1024, free=free)
    tiles = (box.grow(halo, Size(h, w)).size for row in tile_rows(Size(h, w), shape) for box in row)
    read = max(tile.h * tile.w for tile in tiles)
    smallest = (48 + 2 * halo) * (max(shape.w, 48) + 2 * halo)  # a tile is never cut below this
    assert read <= max(free // 1024, smallest) * 1.05


def test_automatic_tiles_read_little_twice():
    def read(h, w, **given):
        shape = tile_shape(Size(h, w), 60, 6, tile="auto", bytes_per_pixel=1000, free=512 << 20, **given)
        boxes = (box.grow(60, Size(h, w)).size for row in tile_rows(Size(h, w), shape) for box in row)
        return shape, sum(box.h * box.w for box in boxes) / (h * w)

    assert read(700, 700) == ((700, 700), 1)  # what holds the picture needs no margin
    assert read(3000, 4000)[1] < 1.38
    shape, _ = read(3000, 4000, strip_bytes=1000)
    assert shape.h * 4000 * 1000 <= 512 << 20


@given(
    h=st.integers(1, 300),
    w=st.integers(1, 300),
    scale=st.floats(0.3, 30, allow_nan=False),
    halo=st.integers(0, 8),
)
def test_bands_own_every_output_pixel_once_and_hold_what_it_reads(h, w, scale, halo):
    hr = Size(max(1, round(h * scale)), max(1, round(w * scale)))
    rows = np.zeros(hr.h, int)
    row_of, column_of = nearest(h, hr.h).index, nearest(w, hr.w).index
    for band in bands(Size(h, w), hr, halo):
        rows[band.top : band.bottom] += 1
        columns = np.zeros(hr.w, int)
        assert band.lr_top <= max(row_of[band.top : band.bottom].min() - halo, 0)
        assert band.lr_bottom >= min(row_of[band.top : band.bottom].max() + halo + 1, h)
        for block in band.blocks:
            columns[block.left : block.right] += 1
            assert block.lr_left <= max(column_of[block.left : block.right].min() - halo, 0)
            assert block.lr_right >= min(column_of[block.left : block.right].max() + halo + 1, w)
        assert (columns == 1).all()
    assert (rows == 1).all()
