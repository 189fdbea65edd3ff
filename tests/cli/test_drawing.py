"""`srcli upscale` with a temperature: which one, samples, diversity, maps, consistency, and what is refused."""

import json

import numpy as np
import pytest
from PIL import Image

from srcli.batch.provenance import read_provenance
from srcli.engine.temperature_map import temperature_map
from srcli.geometry import Size
from srcli.image.resize import resize
from tests.cli.conftest import listing, picture, save
from tests.helpers.command import pixels
from tests.helpers.flow import save_flow
from tests.helpers.rendering import StandIn


@pytest.fixture(scope="module")
def flow(tmp_path_factory):
    return save_flow(tmp_path_factory.mktemp("flow") / "tiny-flow.safetensors")


@pytest.fixture
def photo(folder):
    return save(folder / "photo.png", picture())


class Noisy(StandIn):
    """A stand-in for a generative network: bicubic plus noise of its seed; remembers what it was asked for."""

    def __init__(self):
        self.calls = []

    def affine(self, source, target, *, seed=0, report=None):
        mean = resize(np.ascontiguousarray(source.strip(0, source.size[0])), target, kernel="bicubic")
        for top in range(0, target.h, 7):
            part = mean[top : top + 7]
            yield part, direction(part.shape, seed, top)

    def rows(self, source, target, request, stats):
        self.calls.append((request.temperature, request.seed))
        top, where = 0, request.temperature_map
        for mean, noise in self.affine(source, target, seed=request.seed):
            factor = 1 if where is None else where.rows(source, target, top, top + len(mean))[..., None]
            yield mean + factor * np.float32(request.temperature or 0) * noise
            top += len(mean)


def direction(shape, seed, top):
    return np.random.default_rng([seed, top]).normal(0, 0.05, shape).astype(np.float32)


@pytest.fixture
def noisy(in_place):
    return in_place(Noisy())


@pytest.fixture
def draw(upscale, flow, noisy):
    def run(*words, **options):
        return upscale(*words, **{"use": flow, **options})

    return run


# --- which temperature --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "temperature", "origin"),
    [
        ([], 0.8, "published policy"),
        (["-s", "6"], 0.64, "published policy"),
        (["-W", "240"], 0.32, "published policy"),  # x8
        (["--temperature", "auto"], 0.8, "published policy"),
        (["--temperature", "0.35"], 0.35, "as asked"),
        (["-T", "0"], 0.0, "as asked"),
    ],
)
def test_the_temperature_and_its_origin_are_named(draw, noisy, photo, words, temperature, origin):
    result = draw("photo.png", *words, "--json", "--seed", "7")
    record = json.loads(result.stdout)
    assert record["temperature"] == pytest.approx(temperature)
    assert (record["temperature_origin"], record["seed"]) == (origin, 7)
    assert noisy.calls == [(pytest.approx(temperature), 7)]
    line = draw("photo.png", *words, "--overwrite").stdout
    assert f"(tiny-flow, temperature {temperature:g} {origin}, " in line


def test_a_presets_own_temperature_is_used_for_its_scale(upscale, noisy, photo, folder, flow):
    (folder / "mine.toml").write_text(
        'title = "Mine"\n[encoder]\nname = "edsr"\nn_resblocks = 1\nn_feats = 8\nmean_shift = false\n'
        '[decoder]\nname = "linf"\npatch = 3\nhidden_dim = 8\nhidden = [16, 16]\n'
        f'[temperature]\nscales = {{"2" = 0.9, "4" = 0.5}}\n[weights]\nfile = "{flow}"\n'
    )
    for scale, value in ((2, 0.9), (3, 0.7), (4, 0.5), (9, 0.5)):
        record = json.loads(upscale("photo.png", "-s", scale, "--json", use="mine.toml").stdout)
        assert (record["temperature"], record["temperature_origin"]) == (
            pytest.approx(value),
            "from the preset",
        )


def test_a_dry_run_names_the_temperature(draw, photo, folder):
    assert "temperature 0.8 published policy" in draw("photo.png", "--dry-run").stdout
    assert listing(folder) == ["photo.png"]


def test_a_reduction_has_no_temperature(draw, noisy, photo):
    record = json.loads(draw("photo.png", "-s", "0.5", "--json").stdout)
    assert record["temperature"] is None
    assert noisy.calls == []


def test_temperature_and_seed_are_recorded_and_decide_whether_a_result_is_up_to_date(draw, photo, folder):
    assert draw("photo.png", "-T", "0.4", "--seed", "3").exit_code == 0
    made = read_provenance(folder / "photo_x4.png")
    assert (made["temperature"], made["seed"]) == (0.4, 3)
    for words, status in (
        (["-T", "0.4", "--seed", "3"], "skipped"),
        (["-T", "0.5", "--seed", "3"], "done"),
        (["-T", "0.5", "--seed", "4"], "done"),
        (["-T", "0.5", "--seed", "4", "-T", "map=auto"], "done"),
        (["-T", "0.5", "--seed", "4", "-T", "map=auto", "--finish", "consistency"], "done"),
        (["-T", "0.5", "--seed", "4", "-T", "map=auto", "--finish", "consistency"], "skipped"),
    ):
        assert json.loads(draw("photo.png", *words, "--json").stdout)["status"] == status


def test_transparency_is_enlarged_without_noise(draw, noisy, folder):
    save(folder / "clear.png", picture(mode="RGBA"))
    assert draw("clear.png", "-s", "2", "-T", "1").exit_code == 0
    assert noisy.calls == [(None, 0), (1.0, 0)]


# --- samples ------------------------------------------------------------------------------------------------------


def test_samples_have_numbers_and_seeds_of_their_own(draw, noisy, photo, folder):
    result = draw("photo.png", "--samples", "3", "--seed", "5", "--json")
    records = json.loads(result.stdout)
    assert [record["seed"] for record in records] == [5, 6, 7]
    assert listing(folder) == ["photo.png", *(f"photo_x4_{n}.png" for n in (1, 2, 3))]
    single = draw("photo.png", "--seed", "6", "-o", "alone.png")
    assert single.exit_code == 0
    assert np.array_equal(pixels(folder / "alone.png"), pixels(folder / "photo_x4_2.png"))
    assert not np.array_equal(pixels(folder / "photo_x4_1.png"), pixels(folder / "photo_x4_2.png"))


def test_a_second_run_makes_only_the_samples_that_are_missing(draw, noisy, photo, folder):
    draw("photo.png", "--samples", "2")
    noisy.calls.clear()
    records = json.loads(draw("photo.png", "--samples", "3", "--json").stdout)
    assert [record["status"] for record in records] == ["skipped", "skipped", "done"]
    assert noisy.calls == [(0.8, 2)]


def test_samples_of_several_inputs_keep_apart_and_are_no_inputs_of_a_second_run(draw, folder):
    for name in ("a.png", "b.png"):
        save(folder / name, picture())
    assert draw(".", "--samples", "2", "-s", "2").exit_code == 0
    outputs = [f"{stem}_x2_{n}.png" for stem in "ab" for n in (1, 2)]
    assert listing(folder) == sorted(["a.png", "b.png", *outputs])
    again = draw(".", "--samples", "2", "-s", "2", "--json")
    assert len(json.loads(again.stdout)) == 4
    assert all(record["status"] == "skipped" for record in json.loads(again.stdout))


def test_samples_at_temperature_zero_are_equal_and_that_is_said(draw, photo):
    assert "all samples are equal" in draw("photo.png", "--samples", "2", "-T", "0").stderr


# --- maps and consistency -----------------------------------------------------------------------------------------


def test_a_map_scales_the_noise_pixel_by_pixel(draw, photo, folder):
    Image.fromarray(np.array([[0, 255]], np.uint8)).save(folder / "map.png")
    for name, words in (
        ("mean", ["-T", "0"]),
        ("full", ["-T", "0.6"]),
        ("part", ["-T", "0.6", "-T", "map=map.png"]),
    ):
        assert draw("photo.png", "-o", f"{name}.png", *words).exit_code == 0
    mean, full, part = (pixels(folder / f"{name}.png") for name in ("mean", "full", "part"))
    assert np.array_equal(part[:, :25], mean[:, :25])
    assert np.array_equal(part[:, -25:], full[:, -25:])
    assert not np.array_equal(mean, full)


def test_the_automatic_map_is_a_factor_on_the_temperature(draw, photo, folder):
    assert draw("photo.png", "-s", "2", "-T", "0.6", "-T", "map=auto", "--bit-depth", "16").exit_code == 0

    class Source:
        size = Size(20, 30)

        @staticmethod
        def strip(top, bottom):
            return picture()[top:bottom].astype(np.float32) / 255

    factor = temperature_map("auto").rows(Source, Size(40, 60), 0, 40)[..., None] * np.float32(0.6)
    parts = [
        m + factor[7 * n : 7 * n + len(m)] * d
        for n, (m, d) in enumerate(Noisy().affine(Source, Size(40, 60)))
    ]
    expected = np.clip(np.concatenate(parts), 0, 1)
    import cv2

    found = cv2.imread(str(folder / "photo_x2.png"), cv2.IMREAD_UNCHANGED)[..., ::-1] / 65535
    assert np.abs(found - expected).max() < 1e-4


def test_a_consistent_result_reduces_to_the_input(draw, photo, folder):
    records = {}
    for name, words in (("plain", []), ("same", ["--finish", "consistency"])):
        records[name] = json.loads(draw("photo.png", "-T", "1", "-o", f"{name}.png", "--json", *words).stdout)
    errors = {}
    for name in records:
        back = Image.open(folder / f"{name}.png").resize((30, 20), Image.Resampling.BICUBIC)
        errors[name] = np.abs(np.asarray(back).astype(int) - picture().astype(int)).max()
    assert errors["plain"] > 3
    assert errors["same"] <= 1
    assert records["plain"]["lr_psnr"] is None
    assert records["same"]["lr_psnr"] > 50


def test_consistency_works_for_models_without_noise(upscale, engine, photo, folder):
    record = json.loads(upscale("photo.png", "-s", "2.5", "--finish", "consistency", "--json").stdout)
    assert record["status"] == "done"
    assert record["lr_psnr"] > 50
    assert record["temperature"] is None


def test_the_self_ensemble_is_recorded_and_its_own_result(upscale, engine, photo, folder):
    plain, mean = (
        json.loads(upscale("photo.png", "-s", "2", "-o", "p.png", "--json", *words).stdout)
        for words in ([], ["--finish", "tta"])
    )
    assert (plain["status"], mean["status"]) == ("done", "done")
    assert plain["fingerprint"] != mean["fingerprint"]


# --- the network itself -------------------------------------------------------------------------------------------


def test_the_network_gives_the_same_file_for_any_tile_and_follows_the_dial(upscale, flow, photo, folder):
    for name, words in {
        "a": ["-T", "0.7", "--seed", "9"],
        "b": ["-T", "0.7", "--seed", "9", "--tile", "8"],
        "c": ["-T", "0.7", "--seed", "10"],
        "d": ["-T", "0", "--seed", "10"],
        "e": ["-T", "0", "--seed", "11"],
    }.items():
        result = upscale("photo.png", "-s", "2.5", "-o", f"{name}.png", *words, use=flow)
        assert result.exit_code == 0, result.stderr
    found = {name: pixels(folder / f"{name}.png") for name in "abcde"}
    assert np.abs(found["a"] - found["b"]).max() <= 1  # tiles of 8 sum in another order
    assert np.abs(found["a"] - found["c"]).max() > 2
    assert np.array_equal(found["d"], found["e"])


# --- what is refused ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--temperature", "-0.5"], "from 0 on"),
        (["--temperature", "nan"], "from 0 on"),
        (["--temperature", "warm"], "or auto"),
        (["--samples", "0"], "--samples"),
        (["--samples", "-3"], "--samples"),
        (["--samples", "2", "-o", "one.png"], "cannot go to one.png"),
        (["--samples", "2", "-o", "-"], "cannot go to standard output"),
        (["--samples", "2", "--name", "{stem}"], "{index}"),
        (["--seed", "-1"], "--seed"),
        (["--seed", str((1 << 64) - 1), "--samples", "2"], "--seed"),
        (["-T", "map=none.png"], "none.png is no file"),
        (["--finish", "tta"], "--temperature 0"),
    ],
)
def test_wrong_wishes_are_refused_before_any_work(draw, noisy, photo, folder, words, said):
    result = draw("photo.png", *words)
    assert result.exit_code == 2
    assert said in " ".join(result.stderr.split())
    assert listing(folder) == ["photo.png"]
    assert noisy.calls == []


@pytest.mark.parametrize(
    "words", [["-T", "0.5"], ["-T", "auto"], ["--samples", "2"], ["-T", "map=auto"]], ids=" ".join
)
def test_a_preset_without_a_temperature_refuses_its_options_and_names_those_with_one(
    upscale, engine, photo, words
):
    result = upscale("photo.png", *words)
    assert result.exit_code == 2
    assert "has no temperature" in result.stderr
    assert engine.calls == []


def test_a_high_temperature_is_warned_about_and_used(draw, noisy, photo):
    result = draw("photo.png", "-T", "2.5")
    assert result.exit_code == 0
    assert "warning: a temperature of 2.5" in result.stderr
    assert noisy.calls == [(2.5, 0)]
