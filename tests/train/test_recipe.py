"""Recipes: the published hyper-parameters, variants, and what is refused."""

import tomllib
from pathlib import Path

import pytest
from typer.testing import CliRunner

from srcli.cli import app
from srcli.config.presets import preset_folders
from srcli.errors import PresetError, SrcliError, UsageError
from srcli.train.lgcaa_loss import Denoising
from srcli.train.objectives import make_objective
from srcli.train.recipe import find_recipe, read_recipe

RECIPES = sorted((Path(preset_folders()[-1]) / "recipes").glob("*.toml"))
VARIANTS = [
    (path.stem, variant)
    for path in RECIPES
    for variant in (None, *tomllib.loads(path.read_text("utf-8")).get("variant", {}))
]
LIIF = {"batch": 16, "per_epoch": 1000, "epochs": 1000, "lr": 1e-4, "halved": (200, 400, 600, 800)}
LTE_SWINIR = {"batch": 32, "per_epoch": 500, "epochs": 1000, "lr": 2e-4, "halved": (500, 800, 900, 950)}
LMF = {"batch": 16, "per_epoch": 1000, "epochs": 1200, "lr": 1e-4, "halved": (200, 400, 600, 800, 1000)}
LIT = {"batch": 32, "per_epoch": 1000, "epochs": 1000, "lr": 1e-4, "halved": (200, 400, 600, 800)}
LINF_RRDB = {"batch": 16, "per_epoch": 1725, "epochs": 1000, "lr": 1e-4, "halved": (200, 400, 600, 800)}
FPLIA = {"batch": 32, "per_epoch": 1078, "epochs": 1000, "lr": 1e-4, "halved": (200, 400, 600, 800)}
LINF_SWINIR_2 = {"batch": 32, "per_epoch": 500, "epochs": 1500, "lr": 5e-5, "halved": (800, 1100, 1300, 1400)}
PUBLISHED = {
    ("metasr", None): LIIF,
    ("liif", None): LIIF,
    ("liif", "swinir"): LIIF,
    ("lte", None): LIIF,
    ("lte", "rdn"): LIIF,
    ("lte", "swinir"): LTE_SWINIR,
    ("lte-plus", None): LIIF,
    ("lm-liif", None): LMF,
    ("lm-liif", "rdn"): LIIF,
    ("lm-lte", "swinir"): LTE_SWINIR,
    ("lit", None): LIT,
    ("clit2", None): LIT,
    ("clit3", None): LIT | {"epochs": 1500, "halved": (300, 600, 900, 1200)},
    ("ciaosr", None): LIIF,
    ("linf", None): LIIF,
    ("linf", "swinir"): LTE_SWINIR | {"lr": 1e-4},
    ("linf", "rrdb"): LINF_RRDB,
    ("linf", "stage-2"): LIIF | {"lr": 5e-5},
    ("linf", "swinir-stage-2"): LINF_SWINIR_2,
    ("linf", "rrdb-stage-2"): LINF_RRDB | {"lr": 5e-5},
    ("fplia", None): FPLIA,
    ("fplia", "diffusion"): FPLIA | {"batch": 4, "per_epoch": 8625, "lr": 5e-5, "ema": 0.9999},
    ("fplia", "finetune"): FPLIA | {"lr": 5e-5},
}


NEED_A_FILE = {("edsr-s-blend-real", "sharp")}  # of features, given with --set


@pytest.mark.parametrize(("name", "variant"), VARIANTS)
def test_every_packaged_recipe_and_variant_can_be_trained(name, variant):
    recipe = read_recipe(find_recipe(name), variant=variant)
    if (name, variant) in NEED_A_FILE:
        with pytest.raises(PresetError, match=r"objective\.weights"):
            make_objective(recipe.objective, diffusion=recipe.preset.diffusion)
        return
    assert make_objective(recipe.objective, diffusion=recipe.preset.diffusion)
    branches = recipe.preset.decoder.args.get("branches", 1)
    assert recipe.scale_schedule.branches <= (branches if isinstance(branches, int) else 1)
    assert recipe.optim.decay == "cosine" or max(recipe.optim.milestones) < recipe.optim.steps


@pytest.mark.parametrize(("name", "variant"), PUBLISHED)
def test_published_hyper_parameters_are_those_of_the_papers(name, variant):
    known, optim = PUBLISHED[name, variant], read_recipe(find_recipe(name), variant=variant).optim
    assert optim.batch == known["batch"]
    assert optim.lr == known["lr"]
    assert optim.steps == known["per_epoch"] * known["epochs"]
    assert optim.milestones == tuple(epoch * known["per_epoch"] for epoch in known["halved"])
    assert (optim.factor, optim.betas, optim.warmup, optim.clip) == (0.5, (0.9, 0.999), 0, 0)
    assert optim.ema == known.get("ema", 0)


def test_hiif_warms_up_and_follows_a_cosine():
    optim = read_recipe(find_recipe("hiif")).optim
    assert (optim.steps, optim.warmup) == (2000 * 1050, 2000 * 50)
    assert (optim.lr_start, optim.lr, optim.lr_end) == (2e-6, 4e-4, 2e-6)


def test_clit_trains_its_branches_as_published_or_one_after_the_other():
    assert str(read_recipe(find_recipe("clit3")).scale_schedule) == "alternate 1:4x1:4x1:2|1:4|1:4x1:4"
    short = read_recipe(find_recipe("clit3"), variant="short")
    assert str(short.scale_schedule) == "cumulative 1:4|1:4x1:4|1:4x1:4x1:2"


def test_a_variant_changes_what_it_names_and_keeps_the_rest(tmp_path):
    path = tmp_path / "r.toml"
    path.write_text(
        'preset = "edsr-baseline-liif"\n[optim]\nlr = 1e-4\nbatch = 16\n'
        '[variant.big]\npreset = "rdn-liif"\n[variant.big.optim]\nbatch = 64\n'
    )
    plain, big = read_recipe(path), read_recipe(path, variant="big")
    assert (plain.preset.encoder.name, plain.optim.batch) == ("edsr", 16)
    assert (big.preset.encoder.name, big.optim.batch, big.optim.lr) == ("rdn", 64, 1e-4)
    assert not plain.preset.reported  # what a paper reports of other weights
    assert plain.preset.weights.url is None
    with pytest.raises(PresetError, match="Did you mean 'big'"):
        read_recipe(path, variant="bigg")
    changed = read_recipe(path, {"preset": "swinir-liif", "optim.lr": "3e-4"})
    assert (changed.preset.encoder.name, changed.optim.lr) == ("swinir", 3e-4)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"optim.batch": "0"}, "batch must be positive"),
        ({"optim.batch": '"many"'}, "whole number"),
        ({"optim.ema": "1"}, "ema is from 0"),
        ({"optim.decay": "steps"}, "milestones"),
        ({"optim.precision": "int8"}, "'int8' is none of"),
        ({"data.patch": "0"}, "patch and queries"),
        ({"validation.scales": "[]"}, "needs scales"),
        ({"optim.lr.now": "1"}, "no section"),
        ({"objective": '"l1"'}, "needs a name"),
        ({"optim.stepz": "3"}, "Did you mean 'steps'"),
        ({"encodder.name": "edsr"}, "Did you mean 'encoder'"),
        ({"data.patches": "3"}, "Did you mean 'patch'"),
    ],
)
def test_settings_that_no_run_can_have_are_refused(changes, message):
    with pytest.raises(PresetError, match=message):
        read_recipe(find_recipe("quick"), changes)


def test_scales_that_fall_are_refused_when_the_recipe_is_read():
    with pytest.raises(UsageError, match=r"Did you mean 1:4\?"):
        read_recipe(find_recipe("quick"), {"schedule.scales": "4:1"})
    with pytest.raises(UsageError, match=r"Did you mean 1:4\?"):
        read_recipe(find_recipe("quick"), {"data.scales": "[4, 1]"})
    with pytest.raises(PresetError, match="unknown recipe"):
        find_recipe("quik")


def test_linf_trains_its_density_then_its_colours_on_patches_of_its_size():
    for variant in (None, "rdn", "swinir", "patches", "rrdb", "short"):
        recipe = read_recipe(find_recipe("linf"), variant=variant)
        assert recipe.objective.name == "nll"
        assert recipe.data.around == recipe.preset.decoder.args["patch"]
    for variant in ("stage-2", "swinir-stage-2", "patches-stage-2", "rrdb-stage-2", "short-stage-2"):
        recipe = read_recipe(find_recipe("linf"), variant=variant)
        assert recipe.objective.name == "linf-stage-2"
        assert recipe.data.around == recipe.preset.decoder.args["patch"]
        assert len(make_objective(recipe.objective)) == (1 if "short" in variant else 2)


def test_weights_remember_what_their_training_pictures_went_through():
    names = {"lgcaa": "realesrgan", "edsr-s-blend-real": "realesrgan-stablesr", "liif": None}
    for name, degradation in names.items():
        assert read_recipe(find_recipe(name)).preset.training.degradation == degradation


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_recipe_runs_from_the_package_or_says_what_to_fetch(path, tmp_path, monkeypatch):
    for name in ("SRCLI_MODELS_DIR", "TORCH_HOME", "XDG_CACHE_HOME"):
        monkeypatch.setenv(name, str(tmp_path))
    hints = []
    for variant in [None, *tomllib.loads(path.read_text("utf-8")).get("variant", {})]:
        recipe = read_recipe(path, {}, variant)
        try:
            for loss in make_objective(recipe.objective, recipe.preset.name, recipe.preset.diffusion):
                if isinstance(loss, Denoising):
                    loss.begin(None, 0, 1)
        except SrcliError as error:
            hints.append(error.hint)
    assert all("srcli models pull" in hint or "torchvision's vgg19-dcbb9e9d.pth" in hint for hint in hints)


def test_a_file_that_is_missing_is_said_before_photos_are_read(tmp_path, monkeypatch):
    monkeypatch.setenv("SRCLI_MODELS_DIR", str(tmp_path))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    result = CliRunner().invoke(
        app, ["train", "--recipe", "lgcaa-tiny", "--data", str(tmp_path), "-o", str(tmp_path / "run")]
    )
    assert result.exit_code == 4
    assert "srcli models pull metrics" in result.output
    assert not (tmp_path / "run").exists()
