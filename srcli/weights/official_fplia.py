"""FPLIA's checkpoints: what its authors' Lightning module calls things, in our layout.

A checkpoint holds the network (`model.diffusion_model`, with a running average in `model_ema`), the auto-encoder with
the fidelity network and LIA in it (`first_stage_model`), a second copy of the fidelity network (`cond_stage_model`),
the tables of the noise schedule and the factor on latents (`scale_factor`). The UNet is the one of latent diffusion,
ours the one of diffusers: blocks are numbered apart, and queries, keys and values are three layers instead of one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from srcli.config.presets import Preset

if TYPE_CHECKING:
    from torch import Tensor

STAGE = "first_stage_model."
UNET = "model.diffusion_model."
AVERAGE = "model_ema."
# A copy, tables that the schedule's settings give, and what only training needs.
DROPPED = re.compile(
    r"(cond_stage_model|model_ema|loss|first_stage_model\.loss)\.|(scale_factor|logvar|lvlb_weights|betas)$"
    r"|(sqrt_|log_)?(one_minus_|recip_|recipm1_)?alphas_cumprod(_prev)?$"
    r"|posterior_(variance|log_variance_clipped|mean_coef[12])$"
)
RECOMPUTED = ("relative_position_index", "attn_mask")  # of a SwinIR; they follow from its sizes
LIA = {
    "position": "pb_encoder",
    "mlp": "imnet_de",
    "norm": "feat_norm",
    "vote.0": "cond_norm",
    "vote.2": "blend_proj",
    "streams.fid": "fid_conv_proj",
    "streams.perc": "perc_conv_proj",
}
PATHS = {"f": "fid", "p": "perc", "pf": "perc_fid", "fp": "fid_perc"}
ROLES = {"q": "q", "k": "k", "v": "v", "c": "cond"}
ENDS = {
    "conv_in": "input_blocks.0.0",
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
}
RESBLOCK = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
ATTENTION = {"group_norm": "norm", "to_q": "qkv", "to_k": "qkv", "to_v": "qkv", "to_out.0": "proj_out"}
THIRDS = ("to_q", "to_k", "to_v")  # of the authors' one layer, in this order


def lia_names() -> dict[str, str]:
    """Parts of our LIA and what the authors call them."""
    names = dict(LIA)
    for ours, theirs in PATHS.items():
        names.update({f"convs.{ours}_{role}": f"{theirs}_conv_{name}" for role, name in ROLES.items()})
        names.update({f"features.{ours}": f"{theirs}_proj", f"confidence.{ours}": f"{theirs}_cond_proj"})
    return names


def unet_names(attention: Sequence[bool], layers: int) -> dict[str, str]:
    """Layers of diffusers' UNet with `layers` residual blocks on the way down, and latent diffusion's names."""
    blocks = {"mid_block.resnets.0": "middle_block.0", "mid_block.resnets.1": "middle_block.2"}
    attentions = {"mid_block.attentions.0": "middle_block.1"}
    names = dict(ENDS)
    for level, attends_up in enumerate(reversed(attention)):
        down, first = f"down_blocks.{level}", 1 + level * (layers + 1)
        for i in range(layers):
            blocks[f"{down}.resnets.{i}"] = f"input_blocks.{first + i}.0"
            attentions[f"{down}.attentions.{i}"] = f"input_blocks.{first + i}.1"
        names[f"{down}.downsamplers.0.conv"] = f"input_blocks.{first + layers}.0.op"
        up, first = f"up_blocks.{level}", level * (layers + 1)
        for i in range(layers + 1):
            blocks[f"{up}.resnets.{i}"] = f"output_blocks.{first + i}.0"
            attentions[f"{up}.attentions.{i}"] = f"output_blocks.{first + i}.1"
        names[f"{up}.upsamplers.0.conv"] = f"output_blocks.{first + layers}.{1 + attends_up}.conv"
    for outer, inner in ((blocks, RESBLOCK), (attentions, ATTENTION)):
        for ours, theirs in outer.items():
            names.update({f"{ours}.{a}": f"{theirs}.{b}" for a, b in inner.items()})
    return names


def is_official(state: Iterable[str]) -> bool:
    """Whether these are the keys of a whole FPLIA checkpoint."""
    return any(key.startswith(STAGE) for key in state)


def convert(state: Mapping[str, Tensor], preset: Preset) -> dict[str, Tensor]:
    """The state of a whole FPLIA checkpoint under the keys of our network.

    The running average of the UNet is preferred to the UNet. What is missing is left out; what belongs nowhere keeps
    its name, so that a strict comparison finds it.
    """
    out: dict[str, Tensor] = {}
    used: set[str] = set()

    def take(ours: str, theirs: str, value: Tensor) -> None:
        out[ours] = value
        used.add(theirs)

    lia = {theirs: ours for ours, theirs in lia_names().items()}
    for key, value in state.items():
        if not key.startswith(STAGE) or DROPPED.match(key):
            continue
        part, _, rest = key.removeprefix(STAGE).partition(".")
        if part == "fid_encoder":
            take(f"encoder.fidelity.{rest}", key, value)
        elif part in ("perc_encoder", "perc_decoder", "quant_conv", "post_quant_conv"):
            take(f"encoder.autoencoder.{part}.{rest}", key, value)
        elif part == "lia" and (name := _module(rest, lia)) is not None:
            take(f"decoder.{lia[name]}{rest.removeprefix(name)}", key, value)
    args = preset.generator.args if preset.generator else {}
    names = unet_names(args.get("attention", ()), args.get("layers", 2))
    for ours, theirs in names.items():
        for leaf in ("weight", "bias"):
            plain = f"{UNET}{theirs}.{leaf}"
            average = AVERAGE + plain.removeprefix("model.").replace(".", "")
            source = average if average in state else plain
            if source in state:
                take(f"generator.unet.{ours}.{leaf}", plain, _layer(ours, state[source]))
    out.update(_constants(state, preset, out))
    left = {key: value for key, value in state.items() if key not in used and not DROPPED.match(key)}
    return out | left


def _module(rest: str, names: Mapping[str, str]) -> str | None:
    return next((name for name in names if rest.startswith(f"{name}.")), None)


def _layer(name: str, value: Tensor) -> Tensor:
    """Attention of latent diffusion has one layer of three, and a last axis of length 1."""
    last = name.rpartition(".")[2]
    if ".attentions." in name and value.ndim == 3:
        value = value.squeeze(-1)
    return value.chunk(3)[THIRDS.index(last)].contiguous() if last in THIRDS else value


def _constants(state: Mapping[str, Tensor], preset: Preset, out: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What a checkpoint holds in another form, or what follows from sizes."""
    import torch

    z = out.get("encoder.autoencoder.post_quant_conv.weight")
    channels = 3 if z is None else len(z)
    factor = state.get("scale_factor", torch.ones(()))
    constants = {
        "decoder.temperature": torch.ones(()),  # theirs is not stored, and only training reads it
        "generator.latent_mean": torch.zeros(1, channels, 1, 1),
        "generator.latent_std": (1 / factor.float())
        .reshape(1, 1, 1, 1)
        .expand(1, channels, 1, 1)
        .contiguous(),
    }
    fidelity = preset.encoder.args.get("fidelity")
    if isinstance(fidelity, Mapping) and fidelity.get("name") == "swinir":
        constants.update(_recomputed(fidelity))
    return constants


def _recomputed(fidelity: Mapping[str, Any]) -> dict[str, Tensor]:
    from srcli.config.presets import Part
    from srcli.models import make
    from srcli.models.encoders import ENCODERS

    args = {key: value for key, value in fidelity.items() if key != "name"}
    buffers = make(ENCODERS, "encoder", Part("swinir", args), "fidelity").state_dict()
    return {f"encoder.fidelity.{key}": value for key, value in buffers.items() if key.endswith(RECOMPUTED)}
