import io
import json
import re
import subprocess
import sys

import cv2
import numpy as np
import pytest
from PIL import Image

from srcli.batch.provenance import read_provenance
from srcli.geometry import Size
from srcli.image.read import read_image
from srcli.image.resize import resize
from tests.cli.conftest import kind_of, listing, picture, save, size_of


@pytest.fixture
def photo(folder):
    return save(folder / "photo.png", picture())


# --- sizes and names ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "name", "size"),
    [
        ([], "photo_x4.png", (120, 80)),
        (["-s", "1.7"], "photo_x1.7.png", (51, 34)),
        (["-s", "430%"], "photo_x4.3.png", (129, 86)),
        (["--scale", "8.01"], "photo_x8.01.png", (240, 160)),
        (["-W", "100"], "photo_w100.png", (100, 67)),
        (["-H", "50"], "photo_h50.png", (75, 50)),
        (["-W", "100", "-H", "50"], "photo_100x50.png", (75, 50)),
        (["-W", "100", "-H", "50", "--fit", "cover"], "photo_100x50.png", (100, 67)),
        (["-W", "100", "-H", "50", "--fit", "exact"], "photo_100x50.png", (100, 50)),
        (["--max-side", "77"], "photo_max77.png", (77, 51)),
        (["--short-side", "40"], "photo_short40.png", (60, 40)),
        (["--megapixels", "0.006"], "photo_0.006mp.png", (95, 63)),
        (["--print", "2x3cm@100"], "photo_2x3cm.png", (118, 79)),
        (["-W", "90", "--only-enlarge"], "photo_w90.png", (90, 60)),
        (
            ["-s", "2", "--name", "{width}x{height}-{scale:g}-{index:02d}-{parent}"],
            "60x40-2-01-here.png",
            (60, 40),
        ),
    ],
)
def test_every_size_option_gives_its_size_and_name(upscale, engine, folder, photo, options, name, size):
    result = upscale("photo.png", *options)
    assert result.exit_code == 0, result.stderr
    assert listing(folder) == sorted(["photo.png", name])
    assert size_of(folder / name) == size


def test_a_result_is_one_line_on_stdout(upscale, engine, photo):
    result = upscale("photo.png", "-s", "4.3")
    assert re.fullmatch(r"photo\.png 30x20 -> photo_x4\.3\.png 129x86 \(tiny, \d+\.\d s\)\n", result.stdout)
    assert result.stderr == ""


def test_what_is_written_is_what_the_network_gave(upscale, engine, folder, photo):
    assert upscale("photo.png", "-s", "2.5").exit_code == 0
    expected = np.rint(np.clip(resize(picture(), (50, 75)), 0, 1) * 255).astype(np.uint8)
    assert np.array_equal(np.asarray(Image.open(folder / "photo_x2.5.png")), expected)
    assert engine.calls == [(Size(20, 30), Size(50, 75))]


@pytest.mark.parametrize(
    "name", ["ñ ü 漢 字.png", "with space.png", "-dash.png", "p[1].png", "UPPER.PNG", "@at.png"]
)
def test_names_of_all_kinds_work(upscale, engine, folder, name):
    save(folder / name, picture())
    result = upscale("-s", "2", "--", name)
    assert result.exit_code == 0, result.stderr
    stem, suffix = name.rsplit(".", 1)
    assert size_of(folder / f"{stem}_x2.{suffix}") == (60, 40)


def test_an_option_can_come_from_the_environment(upscale, engine, folder, photo):
    result = upscale(
        "photo.png", SRCLI_UPSCALE_SCALE="3", SRCLI_UPSCALE_OUTPUT="big/", SRCLI_UPSCALE_PRINT=""
    )
    assert result.exit_code == 0, result.stderr
    assert size_of(folder / "big" / "photo_x3.png") == (90, 60)
    assert upscale("photo.png", "-s", "2", SRCLI_UPSCALE_SCALE="3").exit_code == 0
    assert size_of(folder / "photo_x2.png") == (60, 40)
    result = upscale("photo.png", SRCLI_UPSCALE_PRINT="2x3cm@100")
    assert "photo_2x3cm.png" in result.stdout


def test_a_print_writes_its_resolution(upscale, engine, folder):
    save(folder / "photo.jpg", picture(), dpi=(72, 72))
    assert upscale("photo.jpg", "--print", "2x3cm@100").exit_code == 0
    with Image.open(folder / "photo_2x3cm.jpg") as opened:
        assert opened.info["dpi"] == (100, 100)


# --- without the network --------------------------------------------------------------------------------------


def test_a_scale_below_one_is_an_antialiased_resize_without_the_network(upscale, engine, folder):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    save(folder / "noise.png", noise)
    result = upscale("noise.png", "-s", "0.25")
    assert result.exit_code == 0, result.stderr
    assert engine.calls == []
    assert "(resized, " in result.stdout
    assert "without the network" in result.stderr
    reduced = np.asarray(Image.open(folder / "noise_x0.25.png")).astype(int)
    reference = np.asarray(Image.fromarray(noise).resize((16, 16), Image.Resampling.BICUBIC)).astype(int)
    assert np.abs(reduced - reference).max() <= 1  # Pillow rounds between its passes


def test_only_enlarge_keeps_the_pixels_of_large_pictures(upscale, engine, folder, photo):
    result = upscale("photo.png", "--max-side", "20", "--only-enlarge", "-o", "same.png")
    assert result.exit_code == 0, result.stderr
    assert "size kept" in result.stderr
    assert np.array_equal(np.asarray(Image.open(folder / "same.png")), picture())


def test_a_side_that_shrinks_is_reduced_before_the_network_enlarges_the_other(upscale, engine, folder, photo):
    assert upscale("photo.png", "-W", "15", "-H", "60", "--fit", "exact").exit_code == 0
    assert engine.calls == [(Size(20, 15), Size(60, 15))]
    assert size_of(folder / "photo_15x60.png") == (15, 60)


# --- depth, transparency, formats -----------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["png", "tiff"])
def test_sixteen_bits_stay_sixteen_bits(upscale, engine, folder, suffix):
    samples = picture(top=65535)
    cv2.imwrite(str(folder / f"deep.{suffix}"), samples[..., ::-1])
    result = upscale(f"deep.{suffix}", "-s", "2", "--json")
    assert json.loads(result.stdout)["depth"] == "16"
    written = cv2.imread(str(folder / f"deep_x2.{suffix}"), cv2.IMREAD_UNCHANGED)[..., ::-1]
    expected = np.rint(np.clip(resize(samples, (40, 60)), 0, 1) * 65535)
    assert written.dtype == np.uint16
    assert np.array_equal(written, expected)


def test_a_file_is_kept_within_a_size(upscale, engine, folder):
    save(folder / "a.png", picture())
    assert upscale("a.png", "-s", "4", "-f", "jpg", "-o", "full.jpg").exit_code == 0
    limit = (folder / "full.jpg").stat().st_size // 2
    result = upscale(
        "a.png", "-s", "4", "-f", "jpg", "-o", "half.jpg", "--encode", f"max-bytes={limit / 1000}kB"
    )
    assert re.search(rf"quality \d+ is the highest within {limit} bytes", result.stderr)
    assert limit * 0.7 < (folder / "half.jpg").stat().st_size <= limit
    assert upscale("a.png", "-s", "4", "-f", "jpg", "--encode", "max-bytes=much").exit_code == 2
    assert upscale("a.png", "-s", "4", "-f", "avif", "--bit-depth", "10").exit_code == 0
    assert read_image(folder / "a_x4.avif").bits == 10


def test_gray_stays_gray(upscale, engine, folder):
    save(folder / "gray.jpg", picture(mode="L"))
    assert upscale("gray.jpg", "-s", "2").exit_code == 0
    assert kind_of(folder / "gray_x2.jpg") == ("JPEG", "L")


def test_transparency_goes_through_the_network_as_a_gray_picture(upscale, engine, folder):
    samples = picture(mode="RGBA")
    save(folder / "a.png", samples)
    assert upscale("a.png", "-s", "2").exit_code == 0
    assert len(engine.calls) == 2
    written = np.asarray(Image.open(folder / "a_x2.png"))
    expected = np.rint(np.clip(resize(samples[..., 3], (40, 60)), 0, 1) * 255)
    assert np.abs(written[..., 3] - expected).max() <= 1  # held at 16 bits in between


def disc(levels=(0, 255)) -> np.ndarray:
    """A picture (24, 24, 4) whose alpha is the lower level outside a disc and the higher one inside."""
    y, x = np.mgrid[:24, :24] - 11.5
    samples = np.full((24, 24, 4), (200, 40, 30, levels[0]), np.uint8)
    samples[np.hypot(y, x) < 8.3, 3] = levels[1]
    return samples


def hard(kind: str) -> tuple[str, dict]:
    samples = disc()
    key = np.where(samples[..., 3:] > 0, samples[..., :3], 0).astype(np.uint8)
    picture = Image.fromarray(samples)
    return {
        "RGBA": (picture, "a.png", {}),
        "key": (Image.fromarray(key), "a.png", {"transparency": (0, 0, 0)}),
        "gray key": (Image.fromarray(key[..., 0]), "a.png", {"transparency": 0}),
        "palette": (Image.fromarray(key).quantize(4), "a.png", {}),
        "webp": (picture, "a.webp", {"lossless": True}),
        "tiff": (picture, "a.tif", {}),
        "gif": (picture, "a.gif", {}),
    }[kind]


@pytest.mark.parametrize("kind", ["RGBA", "key", "gray key", "palette", "webp", "tiff", "gif"])
@pytest.mark.parametrize("scale", [2, 4])
def test_hard_transparency_gets_neither_specks_nor_holes(upscale, engine, folder, kind, scale):
    picture, name, options = hard(kind)
    if kind == "palette":
        options = {"transparency": picture.getpixel((0, 0))}
    picture.save(folder / name, **options)
    assert upscale(name, "-s", str(scale), "--overwrite").exit_code == 0
    alpha = np.asarray(Image.open(next(folder.glob("a_x*"))).convert("RGBA"))[..., 3]
    inside = disc()[..., 3].repeat(scale, 0).repeat(scale, 1) > 0
    far, deep = (cv2.distanceTransform(side.astype(np.uint8), cv2.DIST_L2, 5) for side in (~inside, inside))
    assert alpha[far > scale + 0.5].max() <= 20
    assert alpha[deep > scale + 0.5].min() >= 235
    assert not engine.calls  # one colour, and no pass for its edge
    assert abs((alpha / 255).sum() / scale**2 - (disc()[..., 3] > 0).sum()) < 3  # nothing lost or grown


@pytest.mark.parametrize("mode", ["auto", "lanczos", "model"])
def test_soft_transparency_stays_between_its_neighbours(upscale, engine, folder, mode):
    samples = disc((10, 240))
    samples[3, 4, 3] = 130
    save(folder / "a.png", samples)
    assert upscale("a.png", "-s", "4", "--alpha", mode).exit_code == 0
    alpha = np.asarray(Image.open(folder / "a_x4.png"))[..., 3]
    assert (alpha.min(), alpha.max()) == (10, 240)
    assert (alpha[:8] == 10).all()


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (40, 30)])
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_a_picture_of_one_colour_stays_one(upscale, engine, folder, size, mode):
    colour = (201, 7, 90) if mode == "RGB" else 201
    Image.new(mode, size, colour).save(folder / "a.png")
    assert upscale("a.png", "-s", "3.7").exit_code == 0
    written = Image.open(folder / "a_x3.7.png")
    assert written.mode == mode
    assert written.getcolors() == [(written.width * written.height, colour)]
    assert not engine.calls  # a network shifts it


@pytest.mark.parametrize("stem", ["a" * 250, "漢" * 83])
@pytest.mark.parametrize("dry", [True, False])
def test_a_name_that_becomes_too_long_is_one_line(upscale, engine, folder, stem, dry):
    stem = stem[:246] if stem[0] == "a" else stem
    save(folder / f"{stem}.png", picture())
    result = upscale(f"{stem}.png", "-s", "2.55", *["--dry-run"] * dry)
    assert result.exit_code == 5
    assert "--name" in result.stderr
    assert "Traceback" not in result.stderr
    assert upscale(f"{stem}.png", "-s", "2", "-o", "x" * 300 + ".png").exit_code == 5


def test_constant_transparency_costs_nothing(upscale, engine, folder):
    samples = picture(mode="RGBA")
    samples[..., 3] = 77
    save(folder / "a.png", samples)
    assert upscale("a.png", "-s", "2").exit_code == 0
    assert len(engine.calls) == 1
    assert (np.asarray(Image.open(folder / "a_x2.png"))[..., 3] == 77).all()


def test_alpha_lanczos_and_drop_leave_the_network_to_the_colours(upscale, engine, folder):
    save(folder / "a.png", picture(mode="RGBA"))
    assert upscale("a.png", "-s", "2", "--alpha", "lanczos", "-o", "l.png").exit_code == 0
    assert upscale("a.png", "-s", "2", "--alpha", "drop", "-o", "d.png").exit_code == 0
    assert len(engine.calls) == 2
    assert kind_of(folder / "l.png") == ("PNG", "RGBA")
    assert kind_of(folder / "d.png") == ("PNG", "RGB")


def test_jpeg_gets_a_background_and_says_so(upscale, engine, folder):
    samples = picture(mode="RGBA")
    samples[..., 3] = 0
    save(folder / "a.png", samples)
    result = upscale("a.png", "-s", "2", "-f", "jpg", "--encode", "background=#ff0000")
    assert "background" in result.stderr
    assert np.abs(np.asarray(Image.open(folder / "a_x2.jpg")).astype(int) - [255, 0, 0]).max() <= 3


def test_the_format_follows_the_option_the_suffix_or_the_input(upscale, engine, folder):
    save(folder / "p.bmp", picture())
    for options in ([], ["-f", "webp"], ["-o", "out.tif"], ["--name", "{stem}.avif"]):
        result = upscale("p.bmp", "-s", "2", *options)
        assert result.exit_code == 0, result.stderr
    assert listing(folder) == ["out.tif", "p.avif", "p.bmp", "p_x2.png", "p_x2.webp"]
    kinds = {name: kind_of(folder / name)[0] for name in listing(folder)}
    assert kinds == {
        "out.tif": "TIFF",
        "p.avif": "AVIF",
        "p.bmp": "BMP",
        "p_x2.png": "PNG",
        "p_x2.webp": "WEBP",
    }


def test_what_a_format_cannot_hold_changes_the_format_with_a_note(upscale, engine, folder):
    save(folder / "p.jpg", picture())
    result = upscale("p.jpg", "-s", "2", "--bit-depth", "16")
    assert result.exit_code == 0, result.stderr
    assert listing(folder) == ["p.jpg", "p_x2.png"]
    assert "jpg cannot hold 16 bits" in result.stderr


# --- streams --------------------------------------------------------------------------------------------------


def test_a_pipe_carries_pictures_both_ways(upscale, engine, folder, photo):
    result = upscale("-", "-s", "3", "-f", "tiff", "-o", "-", data=photo.read_bytes())
    assert result.exit_code == 0, result.stderr
    assert Image.open(io.BytesIO(result.stdout_bytes)).size == (90, 60)
    assert "standard input 30x20 -> - 90x60" in result.stderr
    assert listing(folder) == ["photo.png"]


def test_standard_input_can_go_to_a_file_or_a_folder(upscale, engine, folder, photo):
    data = photo.read_bytes()
    assert upscale("-", "-o", "a.jpg", data=data).exit_code == 0
    assert upscale("-", "-o", "b/", data=data).exit_code == 0
    assert listing(folder) == ["a.jpg", "b/stdin_x4.png", "photo.png"]


def test_json_says_what_happened(upscale, engine, photo, model):
    record = json.loads(upscale("photo.png", "-s", "2", "--json", "--seed", "7").stdout)
    assert record["input"] == "photo.png"
    assert record["output"] == "photo_x2.png"
    assert record["status"] == "done"
    assert (record["in_size"], record["out_size"]) == ([30, 20], [60, 40])
    assert (record["scale_x"], record["scale_y"]) == (2, 2)
    assert record["model"]["name"] == "tiny"
    assert re.fullmatch("[0-9a-f]{64}", record["model"]["sha256"])
    assert record["model"]["license"] == "CC-BY-NC-4.0"
    assert (record["device"], record["precision"], record["tile"]) == ("cpu", "fp32", "30x20")
    assert (record["tile_retries"], record["fp32_fallback"], record["seed"]) == (0, 0, 7)
    assert record["error"] is None
    assert re.fullmatch("[0-9a-f]{32}", record["fingerprint"])


def test_json_of_several_inputs_is_an_array_and_jsonl_a_line_each(upscale, engine, folder, photo):
    (folder / "bad.png").write_text("no picture")
    array = json.loads(upscale("photo.png", "bad.png", "gone.png", "--json").stdout)
    assert {record["input"]: record["status"] for record in array} == {
        "gone.png": "failed",
        "photo.png": "done",
        "bad.png": "failed",
    }
    assert {record["error"]["code"] for record in array if record["error"]} == {1, 3}
    lines = upscale(folder, "--jsonl", "--overwrite").stdout.splitlines()
    assert [json.loads(line)["status"] for line in lines] == ["failed", "done"]
    assert isinstance(json.loads(upscale(folder, "--json", "--include", "photo.png").stdout), list)


def test_quiet_prints_errors_only_and_verbose_the_choices(upscale, engine, folder, photo):
    quiet = upscale("photo.png", "-s", "0.5", "-q")
    assert (quiet.stdout, quiet.stderr) == ("", "")
    assert json.loads(upscale("photo.png", "-s", "0.6", "-q", "--json").stdout)["status"] == "done"
    assert "tile 30x20" in upscale("photo.png", "-v").stderr


def test_progress_as_json_is_a_line_per_event_on_stderr(upscale, engine, folder, photo, monkeypatch):
    monkeypatch.setitem(__import__("srcli.cli.console", fromlist=["INTERVAL"]).INTERVAL, "json", 0.0)
    result = upscale("photo.png", "-s", "4", "--progress", "json")
    events = [json.loads(line) for line in result.stderr.splitlines()]
    assert events[-1]["share"] == 1
    assert [event["share"] for event in events] == sorted(event["share"] for event in events)
    assert {event["event"] for event in events} == {"progress"}


# --- batches --------------------------------------------------------------------------------------------------


def test_a_folder_is_mirrored_and_a_second_run_has_nothing_to_do(upscale, engine, folder):
    for name in ("in/a.png", "in/x/b.jpg", "in/x/y/c.png"):
        save(folder / name, picture())
    (folder / "in/notes.txt").touch()
    assert upscale("in", "-r", "-s", "2", "-o", "in/out").exit_code == 0
    results = ["a_x2.png", "x/b_x2.jpg", "x/y/c_x2.png"]
    assert listing(folder / "in/out") == results
    before = {name: (folder / "in/out" / name).stat().st_mtime_ns for name in results}
    engine.calls.clear()
    again = upscale("in", "-r", "-s", "2", "-o", "in/out")
    assert again.exit_code == 0
    assert again.stdout.count("(up to date)") == 3
    assert engine.calls == []
    assert {name: (folder / "in/out" / name).stat().st_mtime_ns for name in results} == before


def test_a_failure_does_not_stop_the_rest(upscale, engine, folder):
    save(folder / "a.png", picture())
    (folder / "b.png").write_bytes(b"")
    save(folder / "c.png", picture())
    result = upscale("a.png", "b.png", "gone.png", "c.png")
    assert result.exit_code == 1
    assert listing(folder) == ["a.png", "a_x4.png", "b.png", "c.png", "c_x4.png"]
    assert "2 of 4 failed: gone.png, b.png" in result.stderr


def test_fail_fast_stops_at_the_first_failure(upscale, engine, folder):
    (folder / "a.png").write_bytes(b"")
    save(folder / "b.png", picture())
    assert upscale(folder, "--fail-fast").exit_code == 1
    assert listing(folder) == ["a.png", "b.png"]


def test_a_bug_in_one_picture_is_reported_and_the_rest_is_done(upscale, engine, folder):
    save(folder / "a.png", picture())
    save(folder / "b.png", picture(width=31))
    engine.fail, engine.fail_at = ZeroDivisionError("oh"), 30
    result = upscale("a.png", "b.png")
    assert result.exit_code == 1
    assert listing(folder) == ["a.png", "b.png", "b_x4.png"]
    assert "Traceback" in result.stderr
    assert "ZeroDivisionError: oh" in result.stderr


# --- what is there already ------------------------------------------------------------------------------------


def test_a_result_is_redone_only_when_input_or_options_change(upscale, engine, folder, photo):
    def status(*options):
        return json.loads(upscale("photo.png", "-o", "big.png", "--json", *options).stdout)["status"]

    assert status() == "done"
    assert status() == "skipped"
    assert status("--tile", "48", "--device", "cpu") == "skipped"  # neither changes the picture
    assert status("--encode", "compress-level=1") == "done"
    assert status("-s", "3") == "done"
    assert status("-s", "3") == "skipped"
    times = photo.stat()
    save(photo, picture()[::-1])
    __import__("os").utime(photo, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert status("-s", "3") == "done"


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "tiff", "avif"])
def test_every_format_remembers_how_it_was_made(upscale, engine, folder, photo, suffix):
    assert upscale("photo.png", "-o", f"big.{suffix}").exit_code == 0
    made = read_provenance(folder / f"big.{suffix}")
    assert made["model"]["name"] == "tiny"
    assert made["out_size"] == [120, 80]
    assert "up to date" in upscale("photo.png", "-o", f"big.{suffix}").stdout


def test_a_stranger_is_never_replaced_unasked(upscale, engine, folder, photo):
    save(folder / "photo_x4.png", picture())
    before = (folder / "photo_x4.png").read_bytes()
    result = upscale("photo.png")
    assert result.exit_code == 6
    assert "--overwrite" in result.stderr
    skipped = upscale("photo.png", "--skip-existing")
    assert skipped.exit_code == 0
    assert "exists, skipped" in skipped.stdout
    assert (folder / "photo_x4.png").read_bytes() == before
    assert engine.calls == []
    assert upscale("photo.png", "--overwrite").exit_code == 0
    assert size_of(folder / "photo_x4.png") == (120, 80)


def test_a_result_without_provenance_is_a_stranger(upscale, engine, folder, photo):
    assert upscale("photo.png", "--metadata", "unmarked").exit_code == 0
    assert read_provenance(folder / "photo_x4.png") is None
    assert upscale("photo.png", "--metadata", "unmarked").exit_code == 6


def test_a_picture_is_never_its_own_output(upscale, engine, folder, photo):
    before = photo.read_bytes()
    for options in (["--name", "{stem}{ext}"], ["-o", "./photo.png"]):
        result = upscale("photo.png", "--overwrite", *options)
        assert result.exit_code == 2
        assert "is the input" in result.stderr
    assert photo.read_bytes() == before


def test_an_input_that_overwrite_would_replace_is_refused(upscale, engine, folder, photo):
    save(folder / "photo_x4.png", picture())
    assert upscale("photo.png", "photo_x4.png", "--overwrite").exit_code == 2
    assert engine.calls == []


# --- dry runs and the real network ----------------------------------------------------------------------------


def test_a_dry_run_plans_without_torch_and_leaves_nothing(folder, photo, model):
    code = """
import sys
from srcli.cli import main
try:
    main()
finally:
    print(sorted({"torch", "scipy", "diffusers"} & set(sys.modules)), file=sys.stderr)
"""
    words = ["upscale", "photo.png", "-s", "4.3", "-o", "new/", "-m", str(model), "--dry-run"]
    result = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=True)
    assert re.fullmatch(
        r"photo\.png 30x20 -> new/photo_x4\.3\.png 129x86 \(tiny, about .* of memory\)\n", result.stdout
    )
    assert result.stderr == "[]\n"
    assert listing(folder) == ["photo.png"]


def test_a_dry_run_finds_what_would_fail(upscale, folder, photo):
    (folder / "bad.png").write_text("no picture")
    result = upscale("photo.png", "bad.png", "--dry-run", "--json")
    assert result.exit_code == 1
    assert [record["status"] for record in json.loads(result.stdout)] == ["planned", "failed"]


def test_the_network_gives_what_the_library_gives_whatever_the_tile(upscale, folder, model):
    import torch

    from srcli import Upscaler

    save(folder / "photo.png", picture(60, 70, mode="RGBA"))
    for tile in ("auto", "none", "16", "23"):
        result = upscale("photo.png", "-s", "2.3", "-t", tile, "-d", "cpu", "-o", f"{tile}.png")
        assert result.exit_code == 0, result.stderr
    upscaler = Upscaler.from_preset(model, device="cpu")
    image = read_image(folder / "photo.png")
    lr = torch.from_numpy(image.strip(0, 60)).permute(2, 0, 1)[None]
    sr = upscaler.upscale(lr, 2.3)[0].permute(1, 2, 0).numpy()
    written = np.asarray(Image.open(folder / "none.png")).astype(int)
    assert written.shape == (138, 161, 4)
    assert np.array_equal(written[..., :3], np.rint(sr * 255))
    for tile in ("auto", "16", "23"):
        other = np.asarray(Image.open(folder / f"{tile}.png")).astype(int)
        wrong = np.abs(other - written)
        assert wrong.max() <= 1  # kernels may sum in another order for another shape
        assert (wrong > 0).mean() <= 1e-5
