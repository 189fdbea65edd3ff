"""Networks as values: a preset goes in, its parts joined together come out."""

from __future__ import annotations

import copy
import inspect
import typing
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from srcli.config.base_models import base_of
from srcli.config.presets import Kind, Part, Preset
from srcli.errors import ModelError, PresetError
from srcli.models import check_part, make
from srcli.models.decoders import DECODERS
from srcli.models.decoders.native import Native, on_native
from srcli.models.encoders import ENCODERS
from srcli.models.sr import Decoder, Encoder, ImplicitSR, NativeEncoder, SelectiveDecoder
from srcli.weights.files import FIXED_SCALE

if TYPE_CHECKING:
    from srcli.models.latent_restorer import LatentRestorer

M = TypeVar("M", bound=nn.Module)

MOST_CALLS = 30_000  # of torch, to set a network up; Stable Diffusion 2 with LGCAA takes 16,000
MOST_VALUES = 1 << 32  # 16 GiB in float32; the largest published network has 1.3e9

_outlined: dict[str, nn.Module] = {}  # presets share their parts, and a SwinIR takes a while to set up


def build(preset: Preset) -> ImplicitSR:
    """The network a preset describes, with freshly initialised weights.

    Raises PresetError (an unknown part or argument, a generator without its noise, or parts that do not fit together),
    ModelError (it is larger than any network; nothing has been allocated).
    """
    if preset.encoder.name == FIXED_SCALE:
        from srcli.weights.fixed_scale import adopted

        return adopted(preset)
    outline(preset)
    return _build(preset, make)


def has_plugins(preset: Preset) -> bool:
    """Whether code from outside srcli, which may change while our version stays, is part of the network."""
    return preset.encoder.name in ENCODERS.foreign or preset.decoder.name in DECODERS.foreign


def outline(preset: Preset) -> ImplicitSR:
    """As `build`, on the meta device: names and shapes without memory; not to be changed."""
    with torch.device("meta"), _Bounded(preset.name):
        network = _build(preset, _make_once)
    values = sum(value.numel() for value in network.state_dict().values())
    if values > MOST_VALUES:
        raise ModelError(f"{preset.name} describes a network of {values:.1e} values, more than any has.")
    return network


class _Bounded(TorchFunctionMode):
    """Inside, a network of too many layers is refused while it is built: even without values they take memory."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name, self.calls = name, 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch._C._set_grad_enabled:  # on the way back from an error, gradients must not stay off
            return func(*args, **(kwargs or {}))
        self.calls += 1
        if self.calls > MOST_CALLS:
            raise ModelError(f"{self.name} describes a network of more layers than any has.")
        return func(*args, **(kwargs or {}))


def _make_once(table: dict[str, type[M]], kind: str, part: Part, where: str, **given: Any) -> M:
    key = f"{kind} {part} {given}"
    if key not in _outlined:
        _outlined[key] = make(table, kind, part, where, **given)
    return typing.cast("M", _outlined[key])


def _build(preset: Preset, make: Callable[..., Any]) -> ImplicitSR:
    if preset.kind == "restoration":
        return assemble(preset)
    encoder, decoder = _parts(preset, make)
    if preset.generator is None:
        _check_kind(preset, preset.decoder, decoder.kind)
        return ImplicitSR(encoder, decoder)
    if preset.diffusion is None:
        raise PresetError(f"{preset.name} has a generator, so it needs a section [diffusion].")
    from srcli.models.generators import GENERATORS

    generator = make(GENERATORS, "generator", preset.generator, preset.name)
    _check_kind(preset, preset.generator, generator.kind)
    try:
        generator.check(encoder)
    except ValueError as error:
        part = f"generator '{preset.generator.name}' in {preset.name}"
        raise PresetError(f"{part} and encoder '{preset.encoder.name}': {error}") from error
    return ImplicitSR(encoder, decoder, generator)


def _check_kind(preset: Preset, part: Part, kind: Kind) -> None:
    if preset.kind != kind:
        raise PresetError(
            f"{preset.name} is a preset of kind {preset.kind}, and '{part.name}' makes one of kind {kind}.",
            hint=f'Write kind = "{kind}" beside its title.',
        )


def branches_of(preset: Preset) -> tuple[str, ...]:
    """Names of the answers of the preset's decoder; none of a decoder with one answer."""
    decoder = DECODERS.get(preset.decoder.name)
    if decoder is None or not issubclass(decoder, SelectiveDecoder):
        return ()
    return tuple(preset.decoder.args.get("branches", decoder.every_branch))


def titles(preset: Preset) -> tuple[str | None, str | None]:
    """What tables of papers call the preset's method, and its encoder."""
    if preset.encoder.name == "refined":
        body, tail = preset.encoder.args["body"], preset.encoder.args["tail"]
        return f"Thera {tail.capitalize()}", ENCODERS[body["name"]].title
    encoder = ENCODERS[preset.encoder.name].title
    if preset.generator is not None:
        from srcli.models.generators import GENERATORS

        return GENERATORS[preset.generator.name].title, encoder
    decoder = DECODERS[preset.decoder.name]
    return decoder.title if preset.decoder.args.get("branches", 1) == 1 else decoder.cascade_title, encoder


def _skip_of(decoder: Part) -> tuple[Part, Any]:
    """A decoder's part without the setting of what it adds to, and that."""
    skip = decoder.args.get("skip", "bilinear")
    if decoder.name == "native":
        return decoder, "native"
    if isinstance(skip, bool):  # LMF has a switch of that name
        return decoder, "bilinear"
    return Part(decoder.name, {key: value for key, value in decoder.args.items() if key != "skip"}), skip


def _parts(preset: Preset, make: Callable[..., Any]) -> tuple[Encoder, Decoder]:
    """Encoder and decoder, which answers with the encoder's own picture or adds to it, if the preset says so."""
    part, skip = _skip_of(preset.decoder)
    if skip == "bilinear":
        encoder = make(ENCODERS, "encoder", preset.encoder, preset.name)
        return encoder, make(DECODERS, "decoder", part, preset.name, in_dim=encoder.out_dim)
    if skip != "native":
        raise PresetError(f"decoder.skip in {preset.name} is 'bilinear' or 'native', not '{skip}'.")
    if preset.encoder.name in ENCODERS and not _gives_a_picture(preset.encoder.name):
        capable = filter(_gives_a_picture, ENCODERS)
        raise PresetError(
            f"{preset.name} asks for a native picture, and encoder '{preset.encoder.name}' gives none.",
            hint=f"Those that do: {', '.join(capable)}.",
        )
    alone = part.name == "native"
    gives = "picture" if alone else "both"
    encoder = make(ENCODERS, "encoder", preset.encoder, preset.name, gives=gives)
    width = encoder.out_dim if alone else encoder.feat_dim
    decoder = make(DECODERS, "decoder", part, preset.name, in_dim=width)
    if isinstance(decoder, SelectiveDecoder):
        if make is _make_once:  # shared with presets that stand on no native picture
            decoder = copy.deepcopy(decoder)
        decoder.stand_on_native()
        return encoder, decoder
    return encoder, decoder if alone else on_native(decoder, encoder.feat_dim)


def _gives_a_picture(name: str) -> bool:
    return "gives" in inspect.signature(ENCODERS[name]).parameters


def decoder_on(encoder: NativeEncoder, preset: Preset) -> Decoder:
    """The preset's decoder, on the native picture and the features of an encoder that is there."""
    part, skip = _skip_of(preset.decoder)
    if part.name == "native":
        return Native(in_dim=encoder.out_dim)
    if skip != "native":
        raise PresetError(f"decoder.skip in {preset.name} is 'native' on a network for one factor.")
    return on_native(make(DECODERS, "decoder", part, preset.name, in_dim=encoder.feat_dim), encoder.feat_dim)


def check_parts(preset: Preset) -> None:
    """Look up a preset's parts and arguments, without building them; PresetError for others."""
    if preset.kind == "restoration":
        return  # its parts are those of base models, and need diffusers
    check_part(ENCODERS, "encoder", preset.encoder, preset.name)
    check_part(DECODERS, "decoder", _skip_of(preset.decoder)[0], preset.name, ("in_dim",))
    if preset.generator is not None:
        from srcli.models.generators import GENERATORS

        check_part(GENERATORS, "generator", preset.generator, preset.name)


def assemble(preset: Preset) -> LatentRestorer:
    """As `build`, of the generator "lgcaa"; what comes from base models is loaded, ModelError if it is not here."""
    from srcli.models import latent_restorer as lgcaa  # brings diffusers

    assert preset.generator is not None
    if preset.diffusion is None:
        raise PresetError(f"{preset.name} has a generator, so it needs a section [diffusion].")
    encoder: Encoder = make({**ENCODERS, "dino": lgcaa.DinoTokens}, "encoder", preset.encoder, preset.name)
    encoder.requires_grad_(requires_grad=False)
    width = {"in_dim": encoder.out_dim}
    decoder = make(lgcaa.DECODERS, "decoder", preset.decoder, preset.name, **width)
    given = {**width, "diffusion": preset.diffusion}
    generator = make({"lgcaa": lgcaa.LGCAA}, "generator", preset.generator, preset.name, **given)
    if decoder.channels != generator.channels:
        raise PresetError(
            f"the decoder of {preset.name} has {decoder.channels} channels of latents, "
            f"and its generator {generator.channels}."
        )
    network = lgcaa.LatentRestorer(encoder, decoder, generator)
    network.outside = frozenset(_outside(network, preset))
    return network


def _outside(network: LatentRestorer, preset: Preset) -> set[str]:
    assert preset.generator is not None
    keys: set[str] = set()
    if base_of(preset.encoder):
        keys |= {f"encoder.{key}" for key in network.encoder.state_dict()}
    if base_of(preset.decoder):
        keys |= {f"decoder.{key}" for key in network.decoder.state_dict()}
    if base_of(preset.generator):
        trained = {name for name, p in network.generator.unet.named_parameters() if p.requires_grad}
        keys |= {f"generator.unet.{key}" for key in network.generator.unet.state_dict() if key not in trained}
    return keys
