"""The encoders: how far they look, windows and masks of SwinIR, and what their options add or leave out."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from srcli.models.encoders import ENCODERS
from srcli.models.layers import window_pad

SMALL = {
    "edsr": {"n_resblocks": 2, "n_feats": 6},
    "rdn": {"n_feats": 6, "n_blocks": 2, "n_layers": 2, "growth": 4},
    "rrdb": {"n_feats": 6, "n_blocks": 1, "growth": 4},
}


def swinir(**changes):
    arguments = {"embed_dim": 12, "depths": (2, 2), "n_heads": 2, "out_channels": 6, **changes}
    return ENCODERS["swinir"](**arguments).eval()


@pytest.mark.parametrize("name", SMALL)
def test_halo_is_exactly_how_far_an_encoder_looks(name):
    encoder = ENCODERS[name](**SMALL[name])
    reach = encoder.halo + 3
    # Positive weights and inputs in float64: nothing dies in a ReLU and nothing cancels.
    encoder.double().requires_grad_(requires_grad=False)
    for parameter in encoder.parameters():
        parameter.abs_()
    lr = torch.rand(1, 3, 2 * reach + 1, 2 * reach + 1, dtype=torch.float64, requires_grad=True)
    encoder(lr)[0, :, reach, reach].sum().backward()
    rows, cols = lr.grad[0].abs().sum(0).nonzero().T
    assert (rows.min(), rows.max()) == (reach - encoder.halo, reach + encoder.halo)
    assert (cols.min(), cols.max()) == (reach - encoder.halo, reach + encoder.halo)


@pytest.mark.parametrize(("name", "halo"), [("edsr", 34), ("rdn", 131), ("rrdb", 347), ("swinir", 32)])
def test_published_sizes_have_the_published_radius(name, halo):
    with torch.device("meta"):
        encoder = ENCODERS[name]()
    assert encoder.halo == halo
    assert encoder.out_dim == 64
    assert encoder.exact == (name != "swinir")
    assert encoder.practical_halo is None or encoder.practical_halo < halo


@pytest.mark.parametrize("name", SMALL)
def test_tile_with_halo_gives_the_features_of_the_image(name):
    encoder = ENCODERS[name](**SMALL[name]).eval().to(memory_format=torch.channels_last)
    lr = torch.randn(1, 3, 40, 37).to(memory_format=torch.channels_last)
    top, left, bottom, right = 18, 0, 22, 21
    halo = encoder.halo
    rows, cols = slice(max(top - halo, 0), bottom + halo), slice(max(left - halo, 0), right + halo)
    with torch.no_grad():
        whole, tile = encoder(lr), encoder(lr[:, :, rows, cols])
    core = tile[:, :, top - rows.start : bottom - rows.start, left - cols.start : right - cols.start]
    torch.testing.assert_close(core, whole[:, :, top:bottom, left:right], atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("name", [*SMALL, "swinir"])
def test_every_trainable_weight_of_an_encoder_gets_a_gradient(name):
    encoder = swinir() if name == "swinir" else ENCODERS[name](**SMALL[name])
    encoder(torch.randn(2, 3, 16, 16)).square().sum().backward()
    assert all(p.grad.abs().max() > 0 for p in encoder.parameters() if p.requires_grad)


def test_rrdb_leaves_out_the_unused_upsampler_when_asked():
    with_it, without = ENCODERS["rrdb"](**SMALL["rrdb"]), ENCODERS["rrdb"](**SMALL["rrdb"], upsampler=False)
    extra = set(with_it.state_dict()) - set(without.state_dict())
    assert {key.partition(".")[0] for key in extra} == {"upconv1", "upconv2", "HRconv", "conv_last"}
    without.load_state_dict({k: v for k, v in with_it.state_dict().items() if k not in extra})
    lr = torch.randn(1, 3, 5, 5)
    torch.testing.assert_close(with_it(lr), without(lr), atol=0, rtol=0)


def regions(size: int, window: int, shift: int) -> torch.Tensor:
    """Label of each row of a shifted image: what came over the edge is another region."""
    labels = torch.zeros(size)
    labels[size - window : size - shift] = 1
    labels[size - shift :] = 2
    return labels


def test_stored_masks_of_swinir_follow_from_the_labels_of_a_training_crop():
    labels = 3 * regions(48, 8, 4)[:, None] + regions(48, 8, 4)
    windows = labels.reshape(6, 8, 6, 8).transpose(1, 2).reshape(36, 64)
    expected = torch.where(windows[:, :, None] == windows[:, None, :], 0.0, -100.0)
    blocks = swinir().layers[0].residual_group.blocks
    assert torch.equal(blocks[1].attn_mask, expected)
    assert not hasattr(blocks[0], "attn_mask")


@pytest.mark.parametrize(("h", "w"), [(8, 8), (8, 24), (24, 8), (16, 40), (48, 48)])
def test_shifted_attention_of_any_size_equals_one_mask_per_window(h, w):
    block = swinir().layers[1].residual_group.blocks[1]
    x = torch.randn(2, h, w, 12)
    labels = 3 * regions(h, 8, 4)[:, None] + regions(w, 8, 4)
    windows = labels.reshape(h // 8, 8, w // 8, 8).transpose(1, 2).reshape(-1, 64)
    mask = torch.where(windows[:, :, None] == windows[:, None, :], 0.0, -100.0)

    seen = block.norm1(x).roll((-4, -4), (1, 2)).reshape(2, h // 8, 8, w // 8, 8, 12)
    seen = seen.transpose(2, 3).reshape(2, -1, 64, 12)
    q, k, v = block.attn.qkv(seen).reshape(2, -1, 64, 3, 2, 6).permute(3, 0, 1, 4, 2, 5)
    offsets = torch.stack(torch.meshgrid(torch.arange(8), torch.arange(8), indexing="ij")).flatten(1)
    between = offsets[:, :, None] - offsets[:, None, :] + 7
    bias = block.attn.relative_position_bias_table[15 * between[0] + between[1]].permute(2, 0, 1)
    weights = (q @ k.transpose(-1, -2) / 6**0.5 + bias + mask[:, None]).softmax(-1)
    out = block.attn.proj((weights @ v).transpose(2, 3).reshape(2, -1, 64, 12))
    out = out.reshape(2, h // 8, w // 8, 8, 8, 12).transpose(2, 3).reshape(2, h, w, 12).roll((4, 4), (1, 2))
    expected = x + out
    expected = expected + block.mlp(block.norm2(expected))
    torch.testing.assert_close(block(x), expected, atol=1e-5, rtol=0)


def test_swinir_tiles_need_corners_on_windows():
    encoder = swinir()
    lr = torch.randn(1, 3, 96, 96)

    def error(corner: int) -> float:
        core = encoder(lr[:, :, corner:, corner:])[:, :, 40:48, 40:48]
        there = slice(40 + corner, 48 + corner)
        return float((core - whole[:, :, there, there]).abs().max() / whole.std())

    with torch.no_grad():
        whole = encoder(lr)
        assert error(8) < 1e-3
        assert error(4) > 1e-2


def test_swinir_without_its_last_convolution_gives_the_size_and_width_ciaosr_needs():
    encoder = swinir(out_channels=0, crop=True)
    assert encoder.out_dim == 12
    assert encoder(torch.randn(1, 3, 13, 18)).shape == (1, 12, 13, 18)
    assert not any(key.startswith("conv_before_upsample") for key in encoder.state_dict())
    assert swinir()(torch.randn(1, 3, 13, 18)).shape == (1, 6, 16, 24)


def test_swinir_drops_paths_only_in_training():
    encoder, lr = swinir(drop_path=0.9), torch.randn(2, 3, 8, 8)
    assert torch.equal(encoder(lr), encoder(lr))
    encoder.train()
    assert not torch.equal(encoder(lr), encoder(lr))


@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 9), st.booleans())
def test_window_pad_mirrors_with_the_edge_row(h, w, multiple, always):
    lr = torch.arange(h * w).reshape(1, 1, h, w)
    padded = window_pad(lr, multiple, always=always)
    for dim, size in ((2, h), (3, w)):
        extra = padded.shape[dim] - size
        assert padded.shape[dim] % multiple == 0
        assert (1 if always else 0) <= extra <= (multiple if always else multiple - 1)
    mirrored = lr
    while mirrored.shape[2] < padded.shape[2]:
        mirrored = torch.cat([mirrored, mirrored.flip(2)], dim=2)
    while mirrored.shape[3] < padded.shape[3]:
        mirrored = torch.cat([mirrored, mirrored.flip(3)], dim=3)
    assert torch.equal(padded, mirrored[:, :, : padded.shape[2], : padded.shape[3]])


def test_a_grown_edsr_computes_what_the_shallow_one_did():
    torch.manual_seed(0)
    edsr = ENCODERS["edsr"]
    shallow, deep = edsr(n_resblocks=2, n_feats=8), edsr(n_resblocks=5, n_feats=8)
    deep.load_state_dict(deep.initial_state(shallow.state_dict()))
    lr = torch.randn(1, 3, 9, 7)
    assert torch.equal(deep(lr), shallow(lr))
    deep(lr).square().sum().backward()
    gradients = [block.body[2].weight.grad for block in deep.body[2:5]]
    assert all(bool(gradient.any()) for gradient in gradients)  # the new blocks can learn
