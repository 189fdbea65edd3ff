"""`srcli data`: what is wrong with photos is named, they are counted, and packed the same way every time."""

import io
import json
import tarfile
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from webdataset.tariterators import group_by_keys, tar_file_iterator

from srcli.data.photos import load_photos
from tests.data.test_similar import jpeg, photo
from tests.helpers.benchmark import picture_like
from tests.helpers.command import srcli

run = partial(srcli, "data")


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    (folder / "deep").mkdir(parents=True)
    Image.fromarray(photo(0)).save(folder / "a.png")
    Image.fromarray(photo(1)).save(folder / "deep/b.v2.jpg", quality=95)
    return folder


def test_check_names_every_kind_of_problem(photos, tmp_path):
    assert run("check", photos).stdout == "2 images, 0 findings\n"
    whole = (photos / "deep/b.v2.jpg").read_bytes()
    (photos / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    (photos / "text.png").write_bytes(b"no image")
    Image.fromarray(photo(2, 40, 90)).save(photos / "low.png")
    Image.fromarray(jpeg(photo(0))).save(photos / "again.png")
    Image.fromarray(picture_like("B100 img_009")[:, ::-1]).save(photos / "set.png")
    lines = run("check", photos, code=7).stdout.splitlines()
    assert lines[-1] == "7 images, 5 findings"
    text = "\n".join(lines)
    assert f"{photos}/cut.jpg: cannot be decoded" in text
    assert f"{photos}/text.png: is no image" in text
    assert f"{photos}/low.png: 90x40 is smaller than 48 pixels" in text
    assert f"{photos}/again.png: shows what {photos}/a.png shows" in text
    assert f"{photos}/set.png: shows the picture B100 img_009" in text
    found = json.loads(run("check", photos, "--json", "--smallest", 30, code=7).stdout)
    assert sorted(f["kind"] for f in found["findings"]) == ["benchmark", "broken", "broken", "duplicate"]


def test_stats_count_photos(photos):
    Image.fromarray(np.full((50, 60), 9, np.uint8)).save(photos / "012_2048_01.png")
    (photos / "text.png").write_bytes(b"no image")
    found = json.loads(run("stats", photos, "--json").stdout)
    assert (found["images"], found["broken"], found["photographs"], found["gray"]) == (3, 1, 3, 1)
    assert found["megapixels"] == (2 * 150 * 200 + 50 * 60) / 1e6
    assert found["width"] == [60, 200, 200, 200, 200] or found["width"] == [60, 60, 200, 200, 200]
    assert found["formats"] == {"JPEG": 1, "PNG": 2}
    assert "200" in run("stats", photos).stdout


def test_shards_are_the_same_every_time_and_read_by_webdataset_and_train(photos, tmp_path):
    (photos / "a.jpg").write_bytes((photos / "deep/b.v2.jpg").read_bytes())
    (photos / "text.png").write_bytes(b"no image")
    result = run("pack", photos, "-o", tmp_path / "one")
    (shard,) = (tmp_path / "one").iterdir()
    assert result.stdout.strip() == str(shard) == str(tmp_path / "one/photos-000000.tar")
    assert "text.png" in result.stderr
    for path in photos.rglob("*.*"):
        path.touch()  # other times
    run("pack", photos, "-o", tmp_path / "two")
    assert shard.read_bytes() == (tmp_path / "two" / shard.name).read_bytes()
    with tarfile.open(shard) as tar:
        members = {m.name: tar.extractfile(m).read() for m in tar}
    assert sorted(members) == ["a-2.png", "a.jpg", "deep/b-v2.jpg"]
    assert members["a-2.png"] == (photos / "a.png").read_bytes()
    with shard.open("rb") as stream:
        files = [{**file, "__url__": "photos"} for file in tar_file_iterator(stream)]
    samples = list(group_by_keys(files))
    assert [sorted(k for k in s if not k.startswith("_")) for s in samples] == [["jpg"], ["png"], ["jpg"]]
    loaded = load_photos([shard], smallest=48)
    assert len(loaded.train) + len(loaded.held_out) == 3


def test_shards_stay_below_their_size_and_replace_old_ones_only_when_told(photos, tmp_path):
    for i in range(4):
        Image.fromarray(photo(i)).save(photos / f"{i}.png")
    out = tmp_path / "out"
    many = run("pack", photos, "-o", out, "--shard-size", "45k", "--prefix", "p").stdout.split()
    assert len(many) > 2
    for path in map(Path, many):
        with tarfile.open(path) as tar:
            assert len(tar.getnames()) == 1 or path.stat().st_size <= 56_000  # with the end of the archive
    run("pack", photos, "-o", out, "--prefix", "p", code=6)
    assert len(list(out.iterdir())) == len(many)
    (out / "p-of-mine.tar").write_bytes(b"")
    run("pack", photos, "-o", out, "--prefix", "p", "--overwrite")
    assert sorted(p.name for p in out.iterdir()) == ["p-000000.tar", "p-of-mine.tar"]


def test_wrong_input_is_named(photos, tmp_path):
    (tmp_path / "none").mkdir()
    run("check", tmp_path / "none", code=3)
    run("stats", tmp_path / "absent", code=3)
    run("pack", tmp_path / "none", "-o", tmp_path / "out", code=3)
    run("pack", photos, "-o", tmp_path / "out", "--shard-size", "many", code=2)
    run("pack", photos, "-o", photos / "a.png", code=5)
    run("pack", photos, "-o", tmp_path / "shards")
    shard = tmp_path / "shards/photos-000000.tar"
    buffer = io.BytesIO(shard.read_bytes()[:-20000])
    shard.write_bytes(buffer.getvalue()[: len(buffer.getvalue()) // 2])
    assert "damaged" in run("check", shard, code=1).stderr
