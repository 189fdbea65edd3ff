"""Pictures that show the same are found, whatever was done to the file; others are not."""

import io

import numpy as np
import pytest
import scipy.fft
from PIL import Image

from srcli.data.inspection import (
    SAME,
    benchmark_matches,
    distances,
    from_hex,
    known_pictures,
    near_duplicates,
    perceptual_hash,
    refuse_benchmarks,
    to_hex,
    turned,
)
from srcli.data.photos import Photo
from srcli.errors import ModelError
from tests.helpers.benchmark import picture_like


def photo(seed, h=150, w=200):
    """Blobs of all sizes, as photos have."""
    rng = np.random.default_rng(seed)
    total = np.zeros((h, w, 3))
    for side in (3, 6, 12, 24):
        small = rng.integers(0, 256, (side, side, 3), dtype=np.uint8)
        total += np.asarray(Image.fromarray(small).resize((w, h), Image.Resampling.BICUBIC)) / side
    return (255 * (total - total.min()) / np.ptp(total)).astype(np.uint8)


def jpeg(pixels, quality=40):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=quality)
    return np.asarray(Image.open(buffer))


def away(a, b):
    return int((perceptual_hash(a) != perceptual_hash(b)).sum())


def test_the_hash_is_the_signs_of_the_slowest_cosines():
    pixels = photo(0)
    luma = Image.fromarray(pixels).convert("L").resize((64, 64), Image.Resampling.BOX)
    signs = scipy.fft.dctn(np.asarray(luma, float))[:16, :16].ravel() > 0
    np.testing.assert_array_equal(perceptual_hash(pixels)[1:], signs[1:])
    assert not perceptual_hash(pixels)[0]


@pytest.mark.parametrize(
    "change",
    [
        lambda x: jpeg(x),
        lambda x: np.asarray(Image.fromarray(x).resize((100, 75), Image.Resampling.LANCZOS)),
        lambda x: np.asarray(Image.fromarray(x).resize((333, 250), Image.Resampling.BICUBIC)),
        lambda x: (x * 0.7).astype(np.uint8),
        lambda x: np.ascontiguousarray(x[2:-1, 1:-2]),
        lambda x: np.asarray(Image.fromarray(x).convert("L")),
    ],
    ids=["jpeg", "half", "larger", "darker", "border", "gray"],
)
def test_a_changed_picture_is_still_the_same(change):
    assert all(away(photo(seed), change(photo(seed))) <= SAME / 2 for seed in range(5))


def test_different_pictures_are_far_apart():
    hashes = [perceptual_hash(photo(seed)) for seed in range(40)]
    table = distances(hashes, hashes)
    assert (np.diag(table) == 0).all()
    assert table[np.triu_indices(40, 1)].min() > SAME
    assert table[3, 7] == (hashes[3] != hashes[7]).sum()


def test_turned_hashes_are_those_of_turned_pictures():
    pixels = photo(1, 128, 128)
    pictures = [p for x in (pixels, pixels.swapaxes(0, 1)) for p in (x, x[:, ::-1], x[::-1], x[::-1, ::-1])]
    for expected, got in zip(pictures, turned(perceptual_hash(pixels)), strict=True):
        assert (perceptual_hash(np.ascontiguousarray(expected)) != got).sum() <= 2  # rounding of luma


@pytest.mark.parametrize("at_once", [2, 99])
def test_near_duplicates_name_the_first_of_their_kind(at_once):
    a, b = photo(0), photo(1)
    hashes = [perceptual_hash(x) for x in (a, b, jpeg(a), np.ascontiguousarray(b[1:, 1:]), jpeg(jpeg(a), 30))]
    found = [(m.name, m.other) for m in near_duplicates("abcde", hashes, at_once=at_once)]
    assert found == [("c", "a"), ("d", "b"), ("e", "a")]


def test_the_table_of_benchmarks_holds_every_picture_once():
    names, hashes = known_pictures()
    own = dict(zip(names[::8], hashes[::8], strict=True))
    titles = [name.split()[0] for name in own]
    assert {title: titles.count(title) for title in titles} == {"Set5": 5, "Set14": 14, "B100": 100}
    table = distances(list(own.values()), list(own.values())) + 999 * np.eye(119, dtype=int)
    close = {frozenset((list(own)[i], list(own)[j])) for i, j in np.argwhere(table <= SAME)}
    assert close == {frozenset(("Set5 img_004", "Set14 img_006"))}  # the same face is in both


def test_hashes_are_written_as_digits():
    signs = perceptual_hash(photo(2))
    assert len(to_hex(signs)) == 64
    np.testing.assert_array_equal(from_hex(to_hex(signs)), signs)


def test_training_on_a_benchmark_is_refused_unless_forced():
    mirrored = np.ascontiguousarray(jpeg(picture_like("Set5 img_001"))[:, ::-1])
    photos = [Photo("a.png", "a", photo(6)), Photo("b.png", "b", mirrored)]
    assert refuse_benchmarks(photos[:1], force=False) == []
    with pytest.raises(ModelError, match=r"b\.png shows the picture Set5 img_001.*--force"):
        refuse_benchmarks(photos, force=False)
    assert refuse_benchmarks(photos, force=True) == ["b.png shows the picture Set5 img_001"]


def test_no_photo_matches_nothing():
    assert benchmark_matches([], []) == []
