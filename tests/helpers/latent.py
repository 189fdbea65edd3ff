"""A latent restorer that is small enough for tests, as the recipe of a preset."""

import copy
from pathlib import Path

import torch

from srcli.config.presets import parse_preset
from srcli.weights.build import build
from tests.helpers.presets import EDSR

UNET = {
    "sample_size": 8,
    "block_out_channels": [8, 16],
    "down_block_types": ["CrossAttnDownBlock2D", "DownBlock2D"],
    "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D"],
    "layers_per_block": 1,
    "cross_attention_dim": 6,
    "attention_head_dim": 2,
    "norm_num_groups": 4,
    "use_linear_projection": True,
}
VAE = {
    "block_out_channels": [8, 8, 8],
    "down_block_types": ["DownEncoderBlock2D"] * 3,
    "up_block_types": ["UpDecoderBlock2D"] * 3,
    "layers_per_block": 1,
    "latent_channels": 4,
    "norm_num_groups": 4,
}
VIT = {
    "hidden_size": 8,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "image_size": 32,
    "patch_size": 16,
}
PRESET = {
    "title": "tiny",
    "encoder": {**EDSR, "n_feats": 4},
    "decoder": {"name": "latents", "vae": VAE, "scaling": 1.0},
    "generator": {
        "name": "lgcaa",
        "unet": UNET,
        "condition_widths": [8, 8, 8],
        "trains": "all",
        "local_window": 4,
    },
    "diffusion": {"beta_start": 0.00085, "beta_end": 0.012, "sampler": "ddim", "steps": 3, "tile": 16},
}


def preset(**changes):
    """The preset with `generator={..}` and the like merged in, or in its place where that has a name."""
    table = copy.deepcopy(PRESET)
    for section, values in changes.items():
        table[section] = values if "name" in values else {**table[section], **values}
    return parse_preset(table, name="tiny-restorer")


def network(seed: int = 0, *, opened: bool = True, **changes):
    """The network of `preset`, with random weights; `opened`: no gate and no last layer is at its zero any more."""
    torch.manual_seed(seed)
    made = build(preset(**changes)).eval()
    if opened:
        with torch.no_grad():
            for parameter in made.parameters():
                if not bool(parameter.any()):
                    parameter += 0.2 * torch.randn(parameter.shape)
    return made


def base_folders(folder: Path) -> tuple[Path, Path]:
    """Base models of that size in their makers' layout: the folder of a UNet and an auto-encoder, and that of a ViT."""
    from diffusers import AutoencoderKL, DDPMScheduler, UNet2DConditionModel
    from transformers import ViTConfig, ViTModel

    torch.manual_seed(1)
    sd, dino = folder / "sd", folder / "dino"
    UNet2DConditionModel(**UNET).save_pretrained(sd / "unet")
    AutoencoderKL(**VAE).save_pretrained(sd / "vae")
    DDPMScheduler().save_pretrained(sd / "scheduler")
    ViTModel(ViTConfig(**VIT)).save_pretrained(dino)
    return sd, dino
