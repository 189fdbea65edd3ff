"""FPLIA's checkpoints, in a small synthetic file that is laid out as its authors' are."""

import json
import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from srcli.config.presets import Part
from srcli.errors import ExistsError, ModelError, WeightsError
from srcli.weights.build import build
from srcli.weights.checkpoint import load
from srcli.weights.convert import import_file, read_folder, write_folder
from srcli.weights.official import Checkpoint, fit, rename
from srcli.weights.official_fplia import convert, is_official
from tests.helpers.presets import EDSR, tiny, write_preset

WIDTHS, LAYERS, HEADS, GROUPS = (8, 16, 16), 2, 2, 4
ATTENTION = (True, True, False)
DIM, AREA = 8, 9
TABLES = (  # of the noise, which Lightning stores beside the weights
    "betas alphas_cumprod alphas_cumprod_prev sqrt_alphas_cumprod sqrt_one_minus_alphas_cumprod logvar "
    "log_one_minus_alphas_cumprod sqrt_recip_alphas_cumprod sqrt_recipm1_alphas_cumprod posterior_variance "
    "posterior_log_variance_clipped posterior_mean_coef1 posterior_mean_coef2"
)
PRESET = tiny(
    "small",
    encoder={
        "name": "perception",
        "fidelity": {**EDSR, "n_feats": 6},
        "autoencoder": {
            "widths": (4, 8), "resblocks": 1, "decoder_widths": (8, 4), "decoder_resblocks": 2, "groups": 2,
        },
    },
    decoder={"name": "lia", "perc_dim": 4, "dim": DIM, "n_heads": 2, "radius": 1, "hidden": (5,)},
    generator={
        "name": "fplia", "condition_dim": 6, "widths": WIDTHS, "layers": LAYERS, "attention": ATTENTION,
        "n_heads": HEADS, "upsample": "bilinear", "groups": GROUPS,
    },
    diffusion={},
)  # fmt: skip


def conv(name: str, out: int, into: int, side: int = 3) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (out, into, side, side), f"{name}.bias": (out,)}


def linear(name: str, out: int, into: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (out, into), f"{name}.bias": (out,)}


def norm(name: str, channels: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (channels,), f"{name}.bias": (channels,)}


def unet_shapes() -> dict[str, tuple[int, ...]]:
    """Keys and shapes of latent diffusion's UNet, written from its layout and not from our converter."""
    shapes: dict[str, tuple[int, ...]] = {}
    time = 4 * WIDTHS[0]

    def resblock(at: str, into: int, out: int) -> None:
        shapes.update(norm(f"{at}.in_layers.0", into) | conv(f"{at}.in_layers.2", out, into))
        shapes.update(linear(f"{at}.emb_layers.1", out, time))
        shapes.update(norm(f"{at}.out_layers.0", out) | conv(f"{at}.out_layers.3", out, out))
        if into != out:
            shapes.update(conv(f"{at}.skip_connection", out, into, 1))

    def attend(at: str, width: int) -> None:
        shapes.update(norm(f"{at}.norm", width))
        shapes.update({f"{at}.qkv.weight": (3 * width, width, 1), f"{at}.qkv.bias": (3 * width,)})
        shapes.update({f"{at}.proj_out.weight": (width, width, 1), f"{at}.proj_out.bias": (width,)})

    shapes.update(linear("time_embed.0", time, WIDTHS[0]) | linear("time_embed.2", time, time))
    shapes.update(conv("input_blocks.0.0", WIDTHS[0], 3 + 6))
    number, width, skips = 1, WIDTHS[0], [WIDTHS[0]]
    for level, out in enumerate(WIDTHS):
        for _ in range(LAYERS):
            resblock(f"input_blocks.{number}.0", width, out)
            if ATTENTION[level]:
                attend(f"input_blocks.{number}.1", out)
            width = out
            skips.append(out)
            number += 1
        if level < len(WIDTHS) - 1:
            shapes.update(conv(f"input_blocks.{number}.0.op", out, out))
            skips.append(out)
            number += 1
    resblock("middle_block.0", width, width)
    attend("middle_block.1", width)
    resblock("middle_block.2", width, width)
    number = 0
    for level, out in reversed([*enumerate(WIDTHS)]):
        for i in range(LAYERS + 1):
            resblock(f"output_blocks.{number}.0", width + skips.pop(), out)
            width = out
            if ATTENTION[level]:
                attend(f"output_blocks.{number}.1", out)
            if level and i == LAYERS:
                shapes.update(conv(f"output_blocks.{number}.{1 + ATTENTION[level]}.conv", out, out))
            number += 1
    return shapes | norm("out.0", width) | conv("out.2", 3, width)


def lia_shapes() -> dict[str, tuple[int, ...]]:
    shapes = (
        linear("pb_encoder.proj", 2, 64)
        | linear("imnet_de.layers.0", 5, DIM)
        | linear("imnet_de.layers.2", 3, 5)
    )
    shapes |= conv("fid_conv_proj", DIM, 6) | conv("perc_conv_proj", DIM, 4)
    for path in ("fid", "perc", "perc_fid", "fid_perc"):
        for role in ("q", "k", "v", "cond"):
            shapes |= conv(f"{path}_conv_{role}", DIM, DIM)
        shapes |= linear(f"{path}_proj", DIM, AREA * DIM + 2) | linear(
            f"{path}_cond_proj", DIM, AREA * DIM + 2
        )
    shapes |= norm("cond_norm", 4 * DIM) | linear("blend_proj", 4, 4 * DIM) | norm("feat_norm", DIM)
    return shapes


def fidelity_shapes() -> dict[str, tuple[int, ...]]:
    body = conv("body.0.body.0", 6, 6) | conv("body.0.body.2", 6, 6) | conv("body.1", 6, 6)
    return conv("head.0", 6, 3) | body


def autoencoder_shapes() -> dict[str, tuple[int, ...]]:
    """Keys and shapes of latent diffusion's auto-encoder, its decoder without upsampling and without a head."""
    shapes: dict[str, tuple[int, ...]] = {}

    def resblock(at: str, into: int, out: int) -> None:
        shapes.update(norm(f"{at}.norm1", into) | conv(f"{at}.conv1", out, into))
        shapes.update(norm(f"{at}.norm2", out) | conv(f"{at}.conv2", out, out))
        if into != out:
            shapes.update(conv(f"{at}.nin_shortcut", out, into, 1))

    for half in ("perc_encoder", "perc_decoder"):
        resblock(f"{half}.mid.block_1", 8, 8)
        resblock(f"{half}.mid.block_2", 8, 8)
        shapes.update(norm(f"{half}.mid.attn_1.norm", 8))
        for part in ("q", "k", "v", "proj_out"):
            shapes.update(conv(f"{half}.mid.attn_1.{part}", 8, 8, 1))
    shapes.update(conv("perc_encoder.conv_in", 4, 3) | conv("perc_encoder.down.0.downsample.conv", 4, 4))
    resblock("perc_encoder.down.0.block.0", 4, 4)
    resblock("perc_encoder.down.1.block.0", 4, 8)
    shapes.update(norm("perc_encoder.norm_out", 8) | conv("perc_encoder.conv_out", 6, 8))
    shapes.update(conv("perc_decoder.conv_in", 8, 3))
    for level, (into, out) in {1: (8, 8), 0: (8, 4)}.items():
        resblock(f"perc_decoder.up.{level}.block.0", into, out)
        resblock(f"perc_decoder.up.{level}.block.1", out, out)
    return shapes | conv("quant_conv", 6, 6, 1) | conv("post_quant_conv", 3, 3, 1)


def filled(shapes: dict[str, tuple[int, ...]], seed: int = 0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)

    def values(key: str, shape: tuple[int, ...]) -> Tensor:
        drawn = torch.randn(shape, generator=generator)
        if len(shape) > 1:
            return drawn / math.sqrt(math.prod(shape[1:]))
        return 0.1 * drawn + (1 if key.endswith(".weight") else 0)

    return {key: values(key, shape) for key, shape in shapes.items()}


def official() -> dict[str, Tensor]:
    """A state as the authors' Lightning module writes it; its running average is the UNet that is meant."""
    plain, average = filled(unet_shapes(), 1), filled(unet_shapes(), 2)
    state = {f"model.diffusion_model.{key}": value for key, value in plain.items()}
    state |= {f"model_ema.diffusion_model{key.replace('.', '')}": value for key, value in average.items()}
    state |= {"model_ema.decay": torch.tensor(0.9999), "model_ema.num_updates": torch.tensor(7)}
    stage = {f"fid_encoder.{key}": value for key, value in filled(fidelity_shapes(), 3).items()}
    stage |= {f"lia.{key}": value for key, value in filled(lia_shapes(), 4).items()}
    stage |= filled(autoencoder_shapes(), 5)
    state |= {f"first_stage_model.{key}": value for key, value in stage.items()}
    state |= {f"cond_stage_model.{key}": value for key, value in filled(fidelity_shapes(), 3).items()}
    return state | {name: torch.zeros(1000) for name in TABLES.split()} | {"scale_factor": torch.tensor(0.4)}


@pytest.fixture(scope="module")
def state() -> dict[str, Tensor]:
    return official()


def test_every_key_of_a_checkpoint_finds_its_place(state):
    _, differences = fit(Checkpoint(state), PRESET)
    assert differences == ""


@pytest.mark.parametrize(
    ("key", "word"),
    [
        ("first_stage_model.lia.blend_proj.bias", "decoder.vote.2.bias"),
        ("first_stage_model.perc_decoder.conv_in.weight", "autoencoder.perc_decoder.conv_in.weight"),
        ("first_stage_model.fid_encoder.head.0.bias", "encoder.fidelity.head.0.bias"),
    ],
)
def test_a_missing_key_is_named(state, key, word):
    _, differences = fit(Checkpoint({k: v for k, v in state.items() if k != key}), PRESET)
    assert "missing" in differences
    assert word in differences


@pytest.mark.parametrize(
    "key",
    [
        "first_stage_model.perc_decoder.norm_out.weight",
        "first_stage_model.lia.new.weight",
        "model.diffusion_model.label_emb.weight",
    ],
)
def test_a_key_too_many_is_named(state, key):
    _, differences = fit(Checkpoint({**state, key: torch.zeros(4)}), PRESET)
    assert "unexpected" in differences


def test_the_running_average_is_preferred_and_the_network_serves_without_one(state):
    key = "generator.unet.conv_in.weight"
    averaged = convert(state, PRESET)
    plain = convert({k: v for k, v in state.items() if not k.startswith("model_ema.")}, PRESET)
    assert torch.equal(averaged[key], state["model_ema.diffusion_modelinput_blocks00weight"])
    assert torch.equal(plain[key], state["model.diffusion_model.input_blocks.0.0.weight"])
    assert set(averaged) == set(plain)


def test_the_factor_on_latents_becomes_their_standard_deviation(state):
    converted = convert(state, PRESET)
    assert converted["generator.latent_std"].flatten().tolist() == pytest.approx([2.5] * 3)
    assert not converted["generator.latent_mean"].any()


def reference(state: dict[str, Tensor], noisy: Tensor, t: Tensor) -> Tensor:
    """Latent diffusion's UNet as plain functions of a state under its own names."""
    half = WIDTHS[0] // 2
    angle = t[:, None].float() * torch.exp(-math.log(10000) * torch.arange(half) / half)
    emb = F.linear(
        torch.cat([angle.cos(), angle.sin()], 1), state["time_embed.0.weight"], state["time_embed.0.bias"]
    )
    emb = F.linear(F.silu(emb), state["time_embed.2.weight"], state["time_embed.2.bias"])

    def get(name: str) -> tuple[Tensor, Tensor]:
        return state[f"{name}.weight"], state[f"{name}.bias"]

    def resblock(at: str, x: Tensor) -> Tensor:
        out = F.conv2d(
            F.silu(F.group_norm(x, GROUPS, *get(f"{at}.in_layers.0"))), *get(f"{at}.in_layers.2"), padding=1
        )
        out = out + F.linear(F.silu(emb), *get(f"{at}.emb_layers.1"))[:, :, None, None]
        out = F.conv2d(
            F.silu(F.group_norm(out, GROUPS, *get(f"{at}.out_layers.0"))),
            *get(f"{at}.out_layers.3"),
            padding=1,
        )
        skip = f"{at}.skip_connection"
        return out + (F.conv2d(x, *get(skip)) if f"{skip}.weight" in state else x)

    def attend(at: str, x: Tensor) -> Tensor:
        b, c, h, w = x.shape
        tokens = F.group_norm(x, GROUPS, *get(f"{at}.norm")).flatten(2)
        q, k, v = F.conv1d(tokens, *get(f"{at}.qkv")).chunk(3, 1)
        q, k, v = (each.reshape(b * HEADS, c // HEADS, h * w) for each in (q, k, v))
        weights = (q.transpose(1, 2) @ k / math.sqrt(c // HEADS)).softmax(-1)
        seen = (v @ weights.transpose(1, 2)).reshape(b, c, h * w)
        return x + F.conv1d(seen, *get(f"{at}.proj_out")).reshape(x.shape)

    def block(at: str, x: Tensor) -> Tensor:
        for i in range(3):
            each = f"{at}.{i}"
            if f"{each}.in_layers.0.weight" in state:
                x = resblock(each, x)
            elif f"{each}.qkv.weight" in state:
                x = attend(each, x)
            elif f"{each}.op.weight" in state:
                x = F.conv2d(x, *get(f"{each}.op"), stride=2, padding=1)
            elif f"{each}.conv.weight" in state:
                x = F.conv2d(
                    F.interpolate(x, scale_factor=2.0, mode="bilinear"), *get(f"{each}.conv"), padding=1
                )
        return x

    x = F.conv2d(noisy, *get("input_blocks.0.0"), padding=1)
    kept = [x]
    for number in range(1, len(WIDTHS) * (LAYERS + 1)):
        x = block(f"input_blocks.{number}", x)
        kept.append(x)
    x = resblock("middle_block.2", attend("middle_block.1", resblock("middle_block.0", x)))
    for number in range(len(WIDTHS) * (LAYERS + 1)):
        x = block(f"output_blocks.{number}", torch.cat([x, kept.pop()], 1))
    return F.conv2d(F.silu(F.group_norm(x, GROUPS, *get("out.0"))), *get("out.2"), padding=1)


@torch.no_grad()
def test_the_converted_unet_equals_a_plain_reference(state):
    network = build(PRESET).eval()
    network.load_state_dict(rename(state, PRESET))
    torch.manual_seed(0)
    noisy, condition, t = torch.randn(2, 3, 8, 12), torch.randn(2, 6, 8, 12), torch.tensor([991, 6])
    expected = reference(filled(unet_shapes(), 2), torch.cat([noisy, condition], 1), t)
    assert expected.std() > 0.1
    torch.testing.assert_close(network.generator(noisy, t, condition), expected, rtol=0, atol=1e-5)


def test_other_checkpoints_are_not_taken_for_one(state):
    assert is_official(state)
    assert not is_official(f"encoder.{key}" for key in state)
    assert fit(Checkpoint({"encoder.head.weight": torch.zeros(1)}), PRESET)[1]


@torch.no_grad()
def test_a_model_becomes_a_folder_of_parts_and_one_file_again(state, tmp_path):
    table = {
        k: v
        for k, v in PRESET.to_dict().items()
        if k in ("title", "encoder", "decoder", "generator", "diffusion")
    }
    write_preset(tmp_path, table, "small")
    torch.save({"state_dict": state}, tmp_path / "last.ckpt")
    preset = str(tmp_path / "small.toml")
    parts = import_file(
        tmp_path / "last.ckpt", preset=preset, license_id="unstated", output=tmp_path / "parts"
    )
    index = json.loads((parts.path / "model_index.json").read_text())
    assert set(index["components"]) == {"fidelity", "vae", "unet", "generator", "lia"}
    again = import_file(parts.path, license_id="unstated", output=tmp_path / "one.safetensors")
    one, expected = load(again.path).network.state_dict(), convert(state, PRESET)
    assert set(one) == set(expected)
    assert all(torch.equal(one[key], expected[key]) for key in one)
    with pytest.raises(ExistsError):
        import_file(again.path, license_id="unstated", output=parts.path)
    with pytest.raises(ModelError, match="models import"):
        load(parts.path)


@torch.no_grad()
def test_diffusers_reads_the_unet_of_a_folder(state, tmp_path):
    from diffusers import DDIMScheduler, UNet2DModel

    preset = replace(PRESET, generator=Part("fplia", {**PRESET.generator.args, "upsample": "nearest"}))
    converted = convert(state, preset)
    write_folder(tmp_path / "model", converted, preset)
    unet = UNet2DModel.from_pretrained(tmp_path / "model", subfolder="unet")
    for key, value in unet.state_dict().items():
        assert torch.equal(value, converted[f"generator.unet.{key}"])
    scheduler = DDIMScheduler.from_pretrained(tmp_path / "model", subfolder="scheduler")
    assert scheduler.config.beta_end == PRESET.diffusion.beta_end


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"preset": {}}', '{"preset": {"title": "x"}, "components": {}}'], ids=str
)
def test_a_damaged_index_is_an_error_of_the_file(text, tmp_path):
    (tmp_path / "model_index.json").write_text(text)
    with pytest.raises(WeightsError, match="model_index"):
        read_folder(tmp_path)


def test_a_folder_cannot_name_files_outside_itself(state, tmp_path):
    write_folder(tmp_path / "model", convert(state, PRESET), PRESET)
    index = json.loads((tmp_path / "model/model_index.json").read_text())
    index["components"] = {"../../elsewhere": "decoder."}
    (tmp_path / "model/model_index.json").write_text(json.dumps(index))
    with pytest.raises(WeightsError, match="unknown component"):
        read_folder(tmp_path / "model")
