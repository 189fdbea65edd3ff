"""`srcli explain` of models with branches and of models that draw noise."""

import numpy as np
import pytest
from typer.testing import CliRunner

from srcli.cli import app
from srcli.engine.branch_map import PALETTE
from tests.cli.conftest import listing, picture, save
from tests.helpers.command import pixels


@pytest.fixture
def photo(folder):
    return save(folder / "a.png", picture(8, 10))


def run(*words):
    return CliRunner().invoke(app, [*map(str, words), "--device", "cpu"])


def test_the_branch_of_every_pixel_lies_over_the_result_and_its_scores_are_stored(fplia, photo, folder):
    done = run("explain", photo, "-m", fplia, "-s", "2.5", "--scores", "scores.npy")
    assert done.exit_code == 0, done.stderr
    scores = np.load(folder / "scores.npy")
    assert scores.shape == (4, 20, 25)
    chosen = scores.argmax(axis=0)
    colours = np.array(
        [[int(PALETTE[name][i : i + 2], 16) for i in (1, 3, 5)] for name in ("f", "p", "pf", "fp")]
    )
    assert run("upscale", photo, "-m", fplia, "-s", "2.5", "--selection-map", "map.png").exit_code == 0
    assert np.array_equal(pixels("map.png"), chosen)
    over = pixels("a_selection.png")
    assert np.abs(over - (pixels("a_x2.5.png") + colours[chosen]) / 2).max() <= 1
    share = 100 * (chosen == 1).mean()
    assert f"p {share:.1f} %" in done.stderr


def test_the_deviation_is_that_of_the_samples_that_upscale_writes(photo, folder):
    done = run("explain", photo, "-m", "rlfn-linf-s", "-s", 2, "--samples", 3, "--seed", 7)
    assert done.exit_code == 0, done.stderr
    words = ("upscale", photo, "-m", "rlfn-linf-s", "-s", 2, "--samples", 3, "--seed", 7)
    assert run(*words).exit_code == 0
    samples = np.stack([pixels(f"a_x2_{n}.png") for n in (1, 2, 3)])
    deviation = samples.std(axis=0, ddof=1)
    assert np.array_equal(pixels("a_uncertainty.png"), np.rint(np.minimum(deviation.mean(axis=2) * 8, 255)))
    assert f"diversity {deviation.mean():.2f} levels" in done.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["-m", "edsr-baseline-blend", "--samples", 2], "has no temperature"),
        (["-m", "edsr-baseline-blend", "--scores", "s.npy"], "chooses no branch"),
        (["-m", "edsr-baseline-blend", "--scores", "s.png"], "writes .npy files"),
        (["-m", "rlfn-linf-s", "--samples", 1], "--samples"),
    ],
)
def test_what_a_model_does_not_have_is_refused(photo, folder, words, said):
    done = run("explain", photo, *words)
    assert done.exit_code == 2
    assert said in done.stderr
    assert listing(folder) == ["a.png"]
