"""What people type by mistake: an answer of one or two lines that names the next step, and the right exit code."""

import shlex

import pytest
from PIL import Image
from typer.testing import CliRunner

from srcli.cli import app

UPSCALE = {  # after `srcli upscale`
    "photo.png 4": (2, "Did you mean --scale 4?"),
    "photo.png 4.3x -o out": (2, "Did you mean --scale 4.3x?"),
    "4 photo.png": (2, "Did you mean --scale 4?"),
    "photo.png -q 90": (2, "Did you mean --quality 90?"),
    "photo.png --denoise": (2, "Did you mean --degradation real?"),
    "photo.png --face_enhance": (2, "Did you mean --degradation real"),
    "photo.png --gpu": (2, "Did you mean --device cuda?"),
    "photo.png -g 0": (2, "Did you mean --device cuda?"),
    "photo.png --device gpu": (2, "Did you mean --device cuda (NVIDIA, AMD), mps (Apple) or xpu (Intel)?"),
    "photo.png -d 0": (2, "Did you mean --device cuda:0 "),
    "photo.png --device=GPU": (2, "Did you mean --device cuda "),
    "photo.png -m realesrgan": (2, "Did you mean real-best, "),
    "photo.png -m rlfn-nativ": (2, "Did you mean rlfn-native, "),
    "photo.png -m waifu2x": (2, "Did you mean realesrgan-x4plus-anime-6b, "),
    "photo.png -m nothing": (2, "See: srcli models list --all"),
    "photo.png -s 3000px": (2, "write --width 3000 or --max-side 3000"),
    "photo.png -s 3000x2000": (2, "write --width 3000 --height 2000; for a factor of each side"),
    "photo.png -s 4x4": (2, "and --fit exact"),
    "photo.png -W 3000x2000": (2, "Did you mean --width 3000 --height 2000?"),
    "photo.png -W 50%": (2, "Did you mean --scale 50%?"),
    "photo.png -H 2x": (2, "Did you mean --scale 2x?"),
    "photo.png --width wide": (2, "Write a number such as 3000, or 4k."),
    "photo.png --print 30x40": (2, "Write it like 30x40cm@300dpi, or A4."),
    "photo.png --degradation denoise": (2, "takes auto, auto:each, clean or real, got 'denoise'"),
    "photo.png --outscale 2": (2, "Did you mean --scale?"),
    "photo.png --tile_size 200": (2, "Did you mean --tile?"),
    "photo.png --max_side 100": (2, "Did you mean --max-side?"),
    "photo.png --scael 4": (2, "Did you mean --scale?"),
    "photo.png -f jgp": (2, "Did you mean 'jpg'?"),
    "photo.png -f heic": (2, "Known: avif, gif, jpg"),
    "photo.png --quality 101": (2, "--quality takes a whole number from 1 to 100, got '101'"),
    "photo.png --quality high": (2, "--quality takes a whole number from 1 to 100, got 'high'"),
    "photo.png --bit-depth 24": (2, "takes keep, 8, 10, 12, 16 or 32f, got '24'"),
    "photo.png --fit insde": (2, "Did you mean inside?"),
    "photo.png -s": (2, "-s needs a value: FACTOR."),
    "photo.png --model": (2, "See: srcli upscale --help"),
    "": (2, "Name files, folders or patterns"),
    "phto.png": (3, "Did you mean photo.png?"),
    "photo.png -s 4 -W 300": (2, "Give one of them."),
    "photo.png -s abc": (2, "Write a factor such as 4.3, 4.3x or 430%."),
    "photo.png --fp16": (2, "Did you mean --precision fp16?"),
    "photo.png -n rlfn-native": (2, "Did you mean --model?"),
    "photo.png -j 4": (2, "Did you mean --workers?"),
    "photo.png -y": (2, "Did you mean --overwrite?"),
    "photo.png --out x.png": (2, "Did you mean --output?"),
    "photo.png --strip": (2, "Did you mean --metadata strip?"),
    "photo.png -T 0.5": (2, "Presets with one: "),
    "photo.png --samples 3": (2, "Presets with one: "),
    "photo.png --overwrite --skip-existing": (2, "Give one of them."),
    "photo.png b.png -o one.png": (2, "Give a folder: -o FOLDER/."),
    "photo.png --exists skip": (2, "Give --overwrite, --skip-existing, or neither"),
}
OTHERS = {
    "photo.png -s 2": (2, "Did you mean: srcli upscale photo.png -s 2"),
    "upsacle photo.png": (2, "Did you mean: srcli upscale"),
    "enlarge photo.png": (2, "Did you mean: srcli upscale"),
    "list": (2, "Did you mean: srcli models list"),
    "download real-best": (2, "Did you mean: srcli models pull"),
    "--versoin": (2, "Did you mean --version?"),
    "models lst": (2, "Did you mean: srcli models list"),
    "models pull nothing": (2, "See: srcli models list --all"),
    "models pull": (2, "See: srcli models pull --help"),
    "eval": (2, "Name benchmarks (--bench Set5)"),
    "eval --bench Set6": (2, "Did you mean 'Set5'?"),
    "eval --bench Set5 --metrics psn": (2, "Did you mean 'psnr'?"),
    "train": (2, "--data photos/"),
    "train --recipe qiuck --data .": (2, "Did you mean 'quick'?"),
    "compare photo.png": (2, "Or add --model."),
    "info": (2, "See: srcli info --help"),
    "pareto rows.json": (3, "'srcli eval -o rows.json' writes one."),
    "doctor --device gpu": (2, "Did you mean --device cuda "),
    "explain photo.png": (2, "See: srcli explain --help"),
}
ALL = {**{f"upscale {words}": answer for words, answer in UPSCALE.items()}, **OTHERS}
UNDERSTOOD = {
    "-W 3000px": "3000x2250",
    "-W 4k": "3840x2880",
    "-s 4,3": "172x129",
    "--print A4": "3307x2480",
    "--print letter@100dpi": "1100x825",
}


@pytest.fixture
def run(folder):
    for name in ("photo.png", "b.png"):
        Image.new("RGB", (40, 30), (90, 60, 30)).save(folder / name)
    return lambda words: CliRunner().invoke(app, shlex.split(words))


def test_there_are_sixty_of_them():
    assert len(ALL) >= 60


@pytest.mark.parametrize("words", ALL)
def test_a_mistake_is_answered_in_a_line_with_the_next_step(run, words, folder):
    code, answer = ALL[words]
    done = run(words)
    lines = done.stderr.splitlines()
    assert done.exit_code == code, done.stderr
    assert lines[0].startswith("error: ")
    assert len(lines) <= 2
    assert len(done.stderr) < 320
    assert answer in done.stderr
    assert not done.stdout
    assert len(list(folder.iterdir())) == 2


@pytest.mark.parametrize("words", UNDERSTOOD)
def test_what_is_plain_enough_is_understood(run, words):
    done = run(f"upscale photo.png --dry-run {words}")
    assert done.exit_code == 0, done.stderr
    assert UNDERSTOOD[words] in done.stdout
    assert ("is taken as 4.3" in done.stderr) == (words == "-s 4,3")
