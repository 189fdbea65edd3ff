"""Benchmarks are found under any of their names and layouts, pairs by name, and LR is made exactly."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from srcli.data.benchmarks import (
    Benchmark,
    MissingBenchmarkError,
    data_roots,
    find_spec,
    known_benchmarks,
    open_benchmark,
    open_benchmarks,
    open_folder,
    read_rgb,
)
from srcli.data.layouts import picture_name
from srcli.data.reduce import cropped_to_scale, matlab_bicubic, pillow_bicubic, reduce_by
from srcli.errors import ImageError, ModelError, NothingToDoError, PresetError, UsageError
from srcli.geometry import Size
from srcli.metrics import find_protocol


def picture(h, w, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (h, w, 3), dtype=np.uint8)


def put(path, h=24, w=32, seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture(h, w, seed)).save(path)
    return path


def names(items):
    return [(item.name, Path(item.hr).name, item.lr and Path(item.lr).name) for item in items]


# --- names --------------------------------------------------------------------------------------------------------


def test_every_benchmark_file_names_a_known_protocol_a_licence_and_a_source():
    for spec in known_benchmarks():
        assert find_protocol(spec.protocol)
        assert spec.license
        assert spec.source.startswith("http")


def test_no_name_means_two_benchmarks():
    plain = [name.lower().replace("_", "-") for spec in known_benchmarks() for name in spec.names]
    assert len(plain) == len(set(plain))


@pytest.mark.parametrize("name", ["B100", "b100", "BSD100", "bsds100", "BSDS100"])
def test_b100_has_three_names_in_any_case(name):
    assert find_spec(name).title == "B100"


def test_an_unknown_benchmark_is_a_usage_error_with_the_nearest_name():
    with pytest.raises(UsageError, match="Did you mean 'Urban100'"):
        find_spec("Urbn100")


def test_own_benchmarks_are_read_from_the_presets_folder(tmp_path, monkeypatch):
    file = tmp_path / "benchmarks/mine.toml"
    file.parent.mkdir()
    file.write_text('title = "Mine"\nlicense = "CC0"\nsource = "https://example.org"\nprotocol = "rgb"\n')
    monkeypatch.setenv("SRCLI_PRESETS_DIR", str(tmp_path))
    assert find_spec("mine").protocol == "rgb"
    file.write_text('title = "Mine"\nlicence = "CC0"\n')
    with pytest.raises(PresetError, match="Did you mean 'license'"):
        find_spec("mine")


def test_missing_pictures_say_where_they_were_looked_for_and_where_to_get_them(tmp_path):
    with pytest.raises(MissingBenchmarkError) as error:
        open_benchmark("Urban100", tmp_path)
    assert error.value.code == 4
    assert str(tmp_path / "Urban100") in error.value.message
    assert "https://" in error.value.hint
    assert "--data" in error.value.hint


def test_roots_come_from_the_option_or_the_environment_then_the_configuration(tmp_path, monkeypatch):
    monkeypatch.setenv("SRCLI_DATA_DIR", str(tmp_path / "env"))
    monkeypatch.setenv("SRCLI_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    config = tmp_path / "config/srcli/config.toml"
    config.parent.mkdir(parents=True)
    config.write_text(f'data_dir = "{tmp_path / "configured"}"\n')
    assert data_roots() == [tmp_path / "env", tmp_path / "configured", tmp_path / "cache/benchmarks"]
    assert data_roots(tmp_path) == [tmp_path]
    config.write_text("data_dir = 3\n")
    with pytest.raises(PresetError, match="data_dir"):
        data_roots()


def test_all_means_what_is_here(tmp_path):
    put(tmp_path / "Set5/HR/a.png")
    put(tmp_path / "bsd100/a.png")
    assert [b.name for b in open_benchmarks(["all"], tmp_path)] == ["B100", "Set5"]
    with pytest.raises(MissingBenchmarkError, match="no benchmark"):
        open_benchmarks(["all"], tmp_path / "nothing")


# --- layouts ------------------------------------------------------------------------------------------------------


def test_layout_of_selfexsr_with_and_without_the_scale(tmp_path):
    folder = tmp_path / "Set5"
    for scale in (2, 4):
        for i in (1, 2):
            put(folder / f"image_SRF_{scale}/img_00{i}_SRF_{scale}_HR.png")
            put(folder / f"image_SRF_{scale}/img_00{i}_SRF_{scale}_LR.png", 24 // scale, 32 // scale)
    benchmark = open_benchmark("set5", tmp_path)
    assert names(benchmark.items(4))[0] == ("img_001", "img_001_SRF_4_HR.png", "img_001_SRF_4_LR.png")
    assert names(benchmark.items(3)) == [(f"img_00{i}", f"img_00{i}_SRF_2_HR.png", None) for i in (1, 2)]
    assert benchmark.load(benchmark.items(4)[0], 4, "pillow-bicubic").given
    assert not benchmark.load(benchmark.items(3)[0], 3, "pillow-bicubic").given


def test_layout_of_edsr_inside_its_archive(tmp_path):
    put(tmp_path / "benchmark/Set14/HR/baboon.png")
    put(tmp_path / "benchmark/Set14/LR_bicubic/X2/baboonx2.png", 12, 16)
    benchmark = open_benchmark("Set14", tmp_path)
    assert names(benchmark.items(2)) == [("baboon", "baboon.png", "baboonx2.png")]
    assert names(benchmark.items(8)) == [("baboon", "baboon.png", None)]


@pytest.mark.parametrize("inside", ["DIV2K", "."])
def test_layout_of_div2k(tmp_path, inside):
    put(tmp_path / inside / "DIV2K_valid_HR/0801.png")
    put(tmp_path / inside / "DIV2K_valid_LR_bicubic/X4/0801x4.png", 6, 8)
    benchmark = open_benchmark("div2k-val", tmp_path)
    assert benchmark.protocol == "liif-div2k"
    assert names(benchmark.items(4)) == [("0801", "0801.png", "0801x4.png")]


def test_layouts_of_realsr_side_by_side_and_in_two_folders(tmp_path):
    for camera in ("Canon", "Nikon"):
        put(tmp_path / f"a/RealSR/{camera}/Test/4/{camera}_001_HR.png")
        put(tmp_path / f"a/RealSR/{camera}/Test/4/{camera}_001_LR4.png", 24, 32)
    items = open_benchmark("RealSR", tmp_path / "a").items(4)
    assert names(items) == [(f"{c}_001", f"{c}_001_HR.png", f"{c}_001_LR4.png") for c in ("Canon", "Nikon")]
    put(tmp_path / "b/DRealSR/test_HR/sony_1_x1.png")
    put(tmp_path / "b/DRealSR/test_LR/sony_1_x4.png", 6, 8)
    assert names(open_benchmark("drealsr", tmp_path / "b").items(4))[0][0] == "sony_1"


def test_a_folder_of_hr_pictures_just_works(tmp_path):
    put(tmp_path / "Urban100/img_002.png")
    put(tmp_path / "Urban100/img_001.png")
    (tmp_path / "Urban100/Thumbs.db").write_bytes(b"x")
    for found in (open_benchmark("Urban100", tmp_path), open_benchmark("Urban100", tmp_path / "Urban100")):
        assert [item.name for item in found.items(4)] == ["img_001", "img_002"]


def test_two_folders_with_the_same_names(tmp_path):
    put(tmp_path / "hr/a.png")
    put(tmp_path / "lr/a.jpg", 12, 16)
    assert names(open_folder(tmp_path / "hr", tmp_path / "lr").items(2)) == [("a", "a.png", "a.jpg")]


@pytest.mark.parametrize(
    ("stem", "scale", "name"),
    [
        ("img_001_SRF_4_HR", 4, "img_001"),
        ("0801x3", 3, "0801"),
        ("0801x3", 4, "0801x3"),
        ("baby_x2", 2, "baby"),
        ("Canon_001_LR4", 4, "Canon_001"),
        ("x2", 2, "x2"),
        ("street_HR", 2, "street"),
    ],
)
def test_a_picture_is_called_what_its_file_is_called_without_scale_and_kind(stem, scale, name):
    assert picture_name(stem, scale) == name


def test_pictures_without_a_counterpart_are_named(tmp_path):
    put(tmp_path / "hr/a.png")
    put(tmp_path / "hr/only-hr.png")
    put(tmp_path / "lr/a.png", 12, 16)
    put(tmp_path / "lr/only-lr.png", 12, 16)
    with pytest.raises(ModelError, match=r"only-hr.*only-lr"):
        open_folder(tmp_path / "hr", tmp_path / "lr").items(2)


def test_two_files_of_one_name_are_refused(tmp_path):
    put(tmp_path / "a.png")
    put(tmp_path / "a.jpg")
    with pytest.raises(ModelError, match="both called 'a'"):
        open_folder(tmp_path).items(2)


def test_an_empty_folder_and_no_folder_are_nothing_to_do(tmp_path):
    (tmp_path / "Set5").mkdir()
    with pytest.raises(NothingToDoError, match="holds no image"):
        open_benchmark("Set5", tmp_path).items(4)
    with pytest.raises(NothingToDoError, match="no folder"):
        open_folder(tmp_path / "absent")


# --- pictures -----------------------------------------------------------------------------------------------------


def test_hr_is_cropped_to_what_a_given_lr_covers(tmp_path):
    put(tmp_path / "hr/a.png", 26, 33)
    put(tmp_path / "lr/a.png", 8, 11)
    benchmark = open_folder(tmp_path / "hr", tmp_path / "lr")
    pair = benchmark.load(benchmark.items(3)[0], 3, "pillow-bicubic")
    np.testing.assert_array_equal(pair.hr, picture(26, 33)[:24, :33])
    with pytest.raises(ImageError, match=r"33x26 and LR of 11x8 pixels"):
        benchmark.load(benchmark.items(2)[0], 2, "pillow-bicubic")


def test_gray_palette_and_alpha_become_three_channels(tmp_path):
    image = Image.fromarray(picture(8, 8))
    for mode in ("L", "P", "RGBA", "LA", "1"):
        image.convert(mode).save(tmp_path / "x.png")
        expected = np.asarray(image.convert(mode).convert("RGB"))
        np.testing.assert_array_equal(read_rgb(tmp_path / "x.png"), expected)


def test_unreadable_and_deep_pictures_are_refused(tmp_path):
    import cv2

    whole = put(tmp_path / "a.png").read_bytes()
    (tmp_path / "b.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "c.png").write_text("text")
    (tmp_path / "d.png").write_bytes(b"")
    cv2.imwrite(str(tmp_path / "e.png"), np.zeros((4, 4, 3), np.uint16))
    cv2.imwrite(str(tmp_path / "f.png"), np.zeros((4, 4), np.uint16))
    for name, words in zip("bcdef", ["cannot be read"] * 3 + ["more than 8 bits"] * 2, strict=True):
        with pytest.raises(ImageError, match=words):
            read_rgb(tmp_path / f"{name}.png")


def test_pictures_in_memory_are_a_benchmark():
    benchmark = Benchmark("held out", "liif-benchmark", arrays={"a": picture(25, 30)})
    pair = benchmark.load(benchmark.items(4)[0], 4, "pillow-bicubic")
    assert (pair.hr.shape, pair.lr.shape, pair.given) == ((24, 28, 3), (6, 7, 3), False)


@pytest.mark.parametrize(
    ("size", "scale", "lr", "hr"),
    [
        ((97, 131), 2.3, (42, 56), (97, 129)),
        ((48, 48), 1.6, (30, 30), (48, 48)),
        ((90, 60), 30, (3, 2), (90, 60)),
    ],
)
def test_hr_is_cropped_by_the_rule_of_the_liif_family(size, scale, lr, hr):
    crop, found = cropped_to_scale(picture(*size), scale)
    assert (found, crop.shape[:2]) == (Size(*lr), hr)


def test_a_picture_smaller_than_an_lr_pixel_is_refused():
    with pytest.raises(ImageError, match="too few"):
        cropped_to_scale(picture(5, 40), 6)


def test_reductions_keep_a_constant_and_are_found_by_name():
    flat = np.full((30, 40, 3), 77, np.uint8)
    for reduce in (pillow_bicubic, matlab_bicubic):
        assert (reduce(flat, Size(7, 9)) == 77).all()
    with pytest.raises(UsageError, match="Did you mean 'matlab-bicubic'"):
        reduce_by("matlab", flat, Size(7, 9))


def test_the_two_reductions_differ_at_most_a_little_inside():
    smooth = np.asarray(Image.fromarray(picture(16, 16)).resize((128, 128), Image.Resampling.BICUBIC))
    a, b = (f(smooth, Size(32, 32)).astype(int) for f in (pillow_bicubic, matlab_bicubic))
    assert np.abs(a - b)[3:-3, 3:-3].max() <= 1
