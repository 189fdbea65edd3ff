"""What training is fed: exact reductions, true coordinates, the same batch for the same step."""

import io
import tarfile

import numpy as np
import pytest
from PIL import Image

from srcli.data.photos import Photo, is_held_out, load_photos, photograph_of
from srcli.data.samples import Sampler, SampleSettings
from srcli.errors import NothingToDoError
from srcli.geometry import dihedral


def picture(h, w, seed=0):
    small = np.random.default_rng(seed).integers(0, 256, (h // 4 + 1, w // 4 + 1, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(small).resize((w, h), Image.Resampling.BICUBIC))


def test_a_batch_is_a_function_of_seed_and_step():
    sampler = Sampler([Photo("a", "a", picture(150, 130))], SampleSettings(patch=16, queries=64))
    first, again, other = (sampler.draw(1, step, range(3)) for step in (7, 7, 8))
    assert all((a == b).all() for a, b in zip(first[:4], again[:4], strict=True))
    assert not (first.lr == other.lr).all()


def test_colours_are_those_of_the_crop_that_the_patch_was_reduced_from():
    pixels = picture(64, 64)
    sampler = Sampler(
        [Photo("a", "a", pixels)], SampleSettings(patch=32, queries=200, scales=(2, 2), shrink=0)
    )
    lr, hr, coord, cell = (t.numpy() for t in sampler.draw(0, 0, [0])[:4])
    assert cell[0].tolist() == [2 / 64, 2 / 64]
    rows, cols = (np.rint((coord[0, :, k] + 1) * 32 - 0.5).astype(int) for k in (0, 1))
    matches = []
    for which in range(8):
        turned = dihedral(pixels, which)
        if (turned[rows, cols] == np.rint(hr[0] * 255)).all():
            reduced = np.asarray(Image.fromarray(turned).resize((32, 32), Image.Resampling.BICUBIC))
            matches.append((np.rint(lr[0].transpose(1, 2, 0) * 255) == reduced).all())
    assert matches == [True]
    assert len({*zip(rows.tolist(), cols.tolist(), strict=True)}) == 200  # without replacement


def drawn(pixels, **settings):
    """One sample at scale 2 from the whole picture: the picture as turned, and hr, rows and columns of its queries."""
    sampler = Sampler(
        [Photo("a", "a", pixels)], SampleSettings(patch=32, scales=(2, 2), shrink=0, **settings)
    )
    lr, hr, coord, _ = (t.numpy() for t in sampler.draw(3, 0, [0])[:4])
    seen = np.rint(lr[0].transpose(1, 2, 0) * 255)

    def reduced(turned):
        return np.asarray(Image.fromarray(turned).resize((32, 32), Image.Resampling.BICUBIC))

    turned = next(t for t in (dihedral(pixels, which) for which in range(8)) if (reduced(t) == seen).all())
    return turned, hr[0] * 255, *(np.rint((coord[0, :, k] + 1) * 32 - 0.5).astype(int) for k in (0, 1))


def test_patches_are_the_pixels_around_with_the_edge_repeated():
    turned, hr, rows, cols = drawn(picture(64, 64), queries=900, around=3)
    assert hr.shape == (900, 9, 3)
    framed = np.pad(turned, ((1, 1), (1, 1), (0, 0)), mode="edge")
    for patch, row, col in zip(np.rint(hr), rows, cols, strict=True):
        assert (patch == framed[row : row + 3, col : col + 3].reshape(9, 3)).all()
    assert 0 in rows
    assert 63 in cols  # patches that reach beyond the crop are among them


def test_a_block_is_a_square_of_patches_side_by_side():
    turned, hr, rows, cols = drawn(picture(64, 64), around=3, block=24)
    top, left = rows[0] - 1, cols[0] - 1
    square = np.rint(hr).reshape(8, 8, 3, 3, 3).transpose(0, 2, 1, 3, 4).reshape(24, 24, 3)
    assert (square == turned[top : top + 24, left : left + 24]).all()


def test_dither_is_uniform_noise_of_half_a_level():
    turned, hr, rows, cols = drawn(picture(64, 64), queries=2000, dither=True)
    noise = hr - turned[rows, cols]
    assert np.abs(noise).max() <= 0.5 + 1e-4
    assert abs(noise.mean()) < 0.02
    assert noise.std() == pytest.approx(1 / 12**0.5, abs=0.01)


def test_scales_stay_inside_the_range_and_the_photo():
    sampler = Sampler([Photo("a", "a", picture(60, 100))], SampleSettings(patch=20, queries=4, scales=(1, 4)))
    cells = np.concatenate([sampler.draw(0, step, range(4)).cell.numpy() for step in range(30)])
    sides = 2 / cells
    assert sides.min() >= 20
    assert sides.max() <= 60
    assert np.ptp(sides) > 20


def test_the_eight_turns_are_different_and_keep_the_pixels():
    pixels = picture(9, 9)
    turned = {dihedral(pixels, which).tobytes() for which in range(8)}
    assert len(turned) == 8
    assert all(sorted(t) == sorted(pixels.tobytes()) for t in turned)


def test_blocks_of_a_photograph_are_held_out_together():
    assert photograph_of("012_2048_31.jpg") == "012"
    assert photograph_of("holiday.png") == "holiday"
    names = [f"p{i}" for i in range(4000)]
    share = sum(is_held_out(name) for name in names) / len(names)
    assert 0.01 < share < 0.03
    assert is_held_out("anything", ["anything"])


def test_folders_and_shards_are_read_and_what_is_broken_is_named(tmp_path):
    (tmp_path / "deep").mkdir()
    Image.fromarray(picture(40, 50)).save(tmp_path / "deep" / "good.png")
    Image.fromarray(picture(40, 10)).save(tmp_path / "narrow.png")
    (tmp_path / "broken.jpg").write_bytes(b"no image")
    buffer = io.BytesIO()
    Image.fromarray(picture(60, 60)).save(buffer, "JPEG")
    shard = tmp_path / "shard.tar"
    with tarfile.open(shard, "w") as tar:
        member = tarfile.TarInfo("007_2048_00.jpg")
        member.size = buffer.tell()
        tar.addfile(member, io.BytesIO(buffer.getvalue()))
    photos = load_photos([tmp_path, shard], smallest=32, held_out=["007"])
    assert [p.name for p in photos.train] == ["good.png"]
    assert [p.photograph for p in photos.held_out] == ["007"]
    assert sorted(line.split(":")[0] for line in photos.skipped) == ["broken.jpg", "narrow.png"]


def test_no_photo_at_all_is_an_error_that_says_why(tmp_path):
    Image.fromarray(picture(20, 20)).save(tmp_path / "small.png")
    with pytest.raises(NothingToDoError, match="at least 48"):
        load_photos([tmp_path], smallest=48)
    with pytest.raises(NothingToDoError, match="does not exist"):
        load_photos([tmp_path / "absent"], smallest=48)


def test_a_step_has_the_same_samples_however_it_is_split():
    sampler = Sampler([Photo("a", "a", picture(150, 130))], SampleSettings(patch=16, queries=64))
    whole, *parts = (sampler.draw(1, 7, numbers) for numbers in (range(5), range(2), range(2, 5)))
    for at, joined in enumerate(whole[:4]):
        assert (joined.numpy() == np.concatenate([part[at].numpy() for part in parts])).all()
    assert not (whole.lr[0] == whole.lr[1]).all()


def test_a_batch_can_share_one_scale():
    settings = SampleSettings(patch=16, queries=4, scales=(1, 4), scale_per="batch")
    sampler = Sampler([Photo("a", "a", picture(150, 130))], settings)
    cells = [sampler.draw(1, step, range(3)).cell.numpy() for step in range(6)]
    assert all((cell == cell[0]).all() for cell in cells)
    assert len({float(cell[0, 0]) for cell in cells}) == 6


def test_a_photo_too_small_for_a_scale_gives_what_it_can():
    sampler = Sampler([Photo("a", "a", picture(50, 90))], SampleSettings(patch=20, queries=4))
    assert (2 / sampler.draw(0, 0, range(3), (4, 12)).cell.numpy() == 50).all()
