"""A latent diffusion network that restores a picture at its own size, after it has been enlarged: LGCAA + DPACM.

Of the three parts of a network the encoder looks at the LR picture and gives tokens (DINO, or an encoder of ours); the
decoder is an auto-encoder, pixels to latents and back; the generator predicts the noise in latents, a UNet with LGCAA
in its attention and a ControlNet that sees the enlarged picture. Each is built from the configuration of a base model
that lies in a folder, or from one of ours. Importing this imports diffusers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL, ControlNetModel, ModelMixin, UNet2DConditionModel
from torch import Tensor, nn

from srcli.config.base_models import find_base
from srcli.config.presets import Diffusion
from srcli.errors import PresetError, ResourceError, WeightsError, first_line, placeholder
from srcli.geometry import Size
from srcli.models.cosines import Cosines, LatentDecoder
from srcli.models.lgcaa import LocalGlobal, Parts, attention_parameters, place, transformer_blocks
from srcli.models.noise_schedule import alphas_cumprod
from srcli.models.sr import Encoder, Generator, ImplicitSR

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
TOKEN_SIDE = 8  # maps of features are averaged to so many places per side
SD2_UNET: dict[str, Any] = {
    "sample_size": 64,
    "block_out_channels": (320, 640, 1280, 1280),
    "attention_head_dim": (5, 10, 20, 20),
    "cross_attention_dim": 1024,
    "use_linear_projection": True,
}
SD2_VAE: dict[str, Any] = {
    "block_out_channels": (128, 256, 512, 512),
    "layers_per_block": 2,
    "latent_channels": 4,
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "scaling_factor": 0.18215,
}


class Condition(NamedTuple):
    """What the generator knows besides the noisy latents."""

    picture: Tensor  # the enlarged LR picture (B, 3, H, W) in [-1, 1], `factor` pixels for each latent
    tokens: Tensor  # (B, T, C) of the encoder, not projected yet
    latent: Tensor | None = None  # those of `picture`, for a generator that sees everything relative to them


class DinoTokens(Encoder):
    """The last tokens of a vision transformer, DINO ViT-B/16 in the paper's reading, never trained.

    The paper names neither variant nor layer; all tokens of the last layer are taken, the class token included, of the
    LR picture resized to a square of `side` (0: what the transformer was trained with). `base`: a base model's name, or
    a folder in the layout of transformers; "" builds `vit`, settings of `ViTConfig`, with random weights.
    """

    exact = False

    def __init__(
        self, *, base: str = "dino-vitb16", vit: dict[str, Any] | None = None, side: int = 0
    ) -> None:
        super().__init__()
        try:
            from transformers import ViTConfig, ViTModel
        except ImportError as error:
            raise ResourceError(
                "DINO's tokens need the package transformers.", hint="pip install 'srcli[sd]'"
            ) from error
        if base:
            with _quiet():
                self.vit: nn.Module = _from_folder(ViTModel, find_base(base), add_pooling_layer=False)
        else:
            self.vit = ViTModel(ViTConfig(**(vit or {})), add_pooling_layer=False)
        self.vit.requires_grad_(requires_grad=False).eval()
        config: Any = self.vit.config
        self.out_dim: int = config.hidden_size
        self.side: int = side or config.image_size
        self.halo = self.side

    def train(self, mode: bool = True) -> DinoTokens:
        return super().train(mode=False)

    def forward(self, lr: Tensor) -> Tensor:
        """(B, 3, h, w) in [-1, 1] -> (B, C, T, 1)."""
        mean, std = (lr.new_tensor(value).reshape(3, 1, 1) for value in (IMAGENET_MEAN, IMAGENET_STD))
        picture = F.interpolate(lr / 2 + 0.5, size=(self.side, self.side), mode="bicubic", antialias=True)
        tokens = self.vit((picture.clamp(0, 1) - mean) / std).last_hidden_state
        return tokens.transpose(1, 2).unsqueeze(-1)


class AutoEncoder(LatentDecoder):
    """A variational auto-encoder of diffusers: latents to pixels, and back.

    `base`: a base model's name, or a folder with a subfolder `vae`; "" builds `vae`, settings of `AutoencoderKL`.
    `scaling`: what latents are multiplied by, so that their deviation is one; None: what the auto-encoder states.
    """

    def __init__(
        self, in_dim: int, *, base: str = "", vae: dict[str, Any] | None = None, scaling: float | None = None
    ) -> None:
        super().__init__()
        self.vae: AutoencoderKL = (
            _from_folder(AutoencoderKL, find_base(base), "vae") if base else AutoencoderKL(**(vae or SD2_VAE))
        )
        self.vae.requires_grad_(requires_grad=False)
        config: Any = self.vae.config
        self.scaling = float(scaling or config.scaling_factor)
        self.channels: int = config.latent_channels
        self.factor: int = 2 ** (len(config.block_out_channels) - 1)

    def moments(self, picture: Tensor) -> tuple[Tensor, Tensor]:
        found = self.vae.encode(picture).latent_dist
        return found.mean * self.scaling, found.std * self.scaling

    def decode(self, latent: Tensor) -> Tensor:
        return self.vae.decode(latent / self.scaling).sample


DECODERS: dict[str, type[LatentDecoder]] = {"latents": AutoEncoder, "cosines": Cosines}


class LGCAA(Generator):
    """The generator: UNet with LGCAA, ControlNet, DPACM's view of the condition, and the projection of the tokens.

    `base`: a base model's name, or a folder with a subfolder `unet`; "" builds `unet`, settings of
    `UNet2DConditionModel`. `condition_widths`: of the light network that sees the enlarged picture; each after the
    first halves its size. `trains`: "attention": of the UNet only self- and cross-attention, the published way; "all"
    from scratch. `relative`: whether the network is shown how far noisy latents are from those of the enlarged picture
    with as little signal, and tells how far the answer is, so that what is not learned yet leaves the picture as it
    was. The others: see `LocalGlobal`.
    """

    kind = "restoration"

    def __init__(
        self,
        in_dim: int,
        *,
        base: str = "",
        unet: dict[str, Any] | None = None,
        condition_widths: tuple[int, ...] = (16, 32, 96, 256),
        trains: Literal["attention", "all"] = "attention",
        control_parts: Parts = "none",  # which LGCAA the ControlNet's copy has
        dpacm: bool = True,  # whether the condition has a view that is trained with
        relative: bool = False,
        checkpointing: bool = False,
        parts: Parts = "both",
        local_window: int = 8,
        logit_scale: Literal["learned", "paper"] = "learned",
        normalise_v: bool = False,
        clamp: float = 1e4,
        merge_norm: bool = True,
        residual_gate: bool = True,
        mlp_ratio: int = 4,
        diffusion: Diffusion = Diffusion(),  # noqa: B008
    ) -> None:
        super().__init__()
        self.unet: UNet2DConditionModel = (
            _from_folder(UNet2DConditionModel, find_base(base), "unet")
            if base
            else UNet2DConditionModel(**(unet or SD2_UNET))
        )
        self.control = ControlNetModel.from_unet(
            self.unet, conditioning_embedding_out_channels=condition_widths
        )
        settings = LocalGlobal(
            parts, local_window, logit_scale, normalise_v, clamp, merge_norm, residual_gate, mlp_ratio
        )
        place(self.unet, settings)
        self.parts, self.control_parts = parts, control_parts
        place(self.control, LocalGlobal(**{**settings.__dict__, "parts": control_parts}))
        config: Any = self.unet.config
        self.channels: int = config.in_channels
        self.multiple_of: int = 2 ** (len(config.block_out_channels) - 1)
        self.native: int = config.sample_size or 64
        self.context = self.native // 4
        self.project = nn.Sequential(nn.LayerNorm(in_dim), nn.Linear(in_dim, config.cross_attention_dim))
        self.view = nn.Conv2d(config.block_out_channels[0], 3, 3, padding=1) if dpacm else None
        self.relative, self.velocity = relative, diffusion.prediction == "v_prediction"
        self.shares: Tensor
        self.register_buffer("shares", alphas_cumprod(diffusion) if relative else None, persistent=False)
        if trains == "attention":
            self.unet.requires_grad_(requires_grad=False)
            for parameter in attention_parameters(self.unet).values():
                parameter.requires_grad_(True)
        if checkpointing:
            self.unet.enable_gradient_checkpointing()
            self.control.enable_gradient_checkpointing()

    def condition(self, encoder: Encoder, lr: Tensor) -> Tensor:
        """Tokens (B, T, C) of an LR picture (B, 3, h, w) in [-1, 1]; maps are averaged to 8x8 places."""
        found = encoder(lr)
        if not isinstance(encoder, DinoTokens):
            found = F.adaptive_avg_pool2d(found, TOKEN_SIDE)
        return found.flatten(2).transpose(1, 2)

    def forward(self, noisy: Tensor, t: Tensor, condition: Condition) -> Tensor:
        """The noise, or velocity, in `noisy` (B, channels, h, w), sides multiples of `multiple_of`, at t (B,)."""
        if not self.relative:
            return self._predicted(noisy, t, condition)
        assert condition.latent is not None
        share = self.shares[t.round().long()].reshape(-1, 1, 1, 1)
        found = self._predicted(noisy - share.sqrt() * condition.latent, t, condition)
        return found - (1 - share).sqrt() * condition.latent if self.velocity else found

    def _predicted(self, noisy: Tensor, t: Tensor, condition: Condition) -> Tensor:
        tokens = self.project(condition.tokens)
        grid = {"grid": Size(*noisy.shape[-2:])}
        down, mid = self.control(
            noisy,
            t,
            tokens,
            controlnet_cond=condition.picture,
            cross_attention_kwargs=None if self.control_parts == "none" else dict(grid),
            return_dict=False,
        )
        return self.unet(
            noisy,
            t,
            tokens,
            down_block_additional_residuals=down,
            mid_block_additional_residual=mid,
            cross_attention_kwargs=None if self.parts == "none" else dict(grid),
            return_dict=False,
        )[0]

    def viewed(self, picture: Tensor) -> Tensor:
        """DPACM's view (B, 3, h, w) of the condition made of an enlarged picture; PresetError without DPACM."""
        if self.view is None:
            raise PresetError("this generator has no DPACM.", hint="generator.dpacm = true")
        return self.view(self.control.controlnet_cond_embedding(picture))


class LatentRestorer(ImplicitSR):
    """Encoder of tokens, auto-encoder and generator; `srcli.engine.restorer` runs it."""

    decoder: LatentDecoder
    generator: LGCAA

    def condition(self, lr: Tensor, picture: Tensor) -> Condition:
        """What the generator is given for an LR picture and its enlargement, both in [-1, 1]."""
        with torch.no_grad():
            latent = self.decoder.encode(picture) if self.generator.relative else None
            return Condition(picture, self.generator.condition(self.encoder, lr), latent)

    def initial_state(self, state: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """The state to start from, given that of a network with standard self-attention.

        Its attention becomes the pretrained one in every LGCAA, which begins as the constructor lets it: with copies.
        """
        own, initial = self.state_dict(), dict(state)
        for name, block in transformer_blocks(self.generator):
            attention = f"generator.{name}.attn1."
            if f"{attention}to_q.weight" not in state or f"{attention}to_q.weight" in own:
                continue
            for key in [key for key in state if key.startswith(attention)]:
                value, last = initial.pop(key), key.removeprefix(attention)
                copies = [f"pretrained.{last}"]
                copies += [f"{part}.{last.replace('to_out.0', 'to_out')}" for part in ("local", "everywhere")]
                initial |= {attention + copy: value for copy in copies if attention + copy in own}
            fresh = block.attn1.state_dict()
            initial |= {attention + key: v for key, v in fresh.items() if attention + key not in initial}
        return initial


@contextmanager
def _quiet() -> Iterator[None]:
    """Inside, transformers neither draws progress nor reports the weights of a pooling layer that is not wanted."""
    from transformers.utils import logging

    verbosity, drawn = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if drawn:
            logging.enable_progress_bar()


def _from_folder(kind: Any, folder: Path, part: str = "", **options: Any) -> Any:
    """A network of diffusers or transformers from its folder, without the network."""
    where = folder / part
    known: dict[str, Any] = {"local_files_only": True, "torch_dtype": torch.float32, **options}
    if issubclass(kind, ModelMixin):  # transformers reads pickles without running what is in them
        known = {"use_safetensors": True, **known}
    try:
        if torch.get_default_device().type == "meta":  # an outline
            if issubclass(kind, ModelMixin):
                return kind.from_config(kind.load_config(where, local_files_only=True))
            return kind(kind.config_class.from_pretrained(where, local_files_only=True), **options)
        network, info = kind.from_pretrained(where, output_loading_info=True, **known)
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        for file in sorted(where.glob("*")):
            if file.is_file() and (found := placeholder(file)):
                raise WeightsError(f"{file} is {found}.") from error
        raise WeightsError(
            f"{where} holds no {kind.__name__}: {first_line(error).split('. ')[0]}.",
            hint="Is it the folder of the right base model? Get it again: srcli models pull",
        ) from error
    wrong = [*info["missing_keys"], *(str(each) for each in info["mismatched_keys"])]
    if wrong:
        raise WeightsError(f"{where} does not fit {kind.__name__}: {len(wrong)} missing ({wrong[0]}, ..).")
    return network
