"""LGCAA against a slow version written from the formula, and its place in UNets of diffusers."""

import math

import pytest
import torch
from diffusers import UNet2DConditionModel
from torch.nn.functional import layer_norm

from srcli.geometry import Size
from srcli.models.lgcaa import LocalGlobal, LocalGlobalAttention, attention_parameters, level_grid, place
from tests.helpers.latent import UNET

DIM, HEADS = UNET["block_out_channels"][-1], UNET["attention_head_dim"]
GRID = Size(6, 10)


def tiny_unet():
    torch.manual_seed(0)
    return UNet2DConditionModel(**UNET).eval()


def pretrained():
    return tiny_unet().mid_block.attentions[0].transformer_blocks[0].attn1


def asked(unet, grid=None, size=(8, 12)):
    torch.manual_seed(1)
    noisy, tokens = torch.randn(2, 4, *size), torch.randn(2, 5, 6)
    extra = None if grid is None else {"grid": grid}
    with torch.no_grad():
        return unet(noisy, torch.tensor([3, 700]), tokens, cross_attention_kwargs=extra).sample


def slow(block, x, grid, settings):
    """The whole of the formula, pixel by pixel, with nothing shared."""

    def lin(layer, v):
        bias = 0 if layer.bias is None else layer.bias
        return v @ layer.weight.T + bias

    def norm(layer, v):
        return layer_norm(v, v.shape[-1:], layer.weight, layer.bias)

    def attend(q, k, v, scales):
        out = []
        for head in range(HEADS):
            part = slice(head * DIM // HEADS, (head + 1) * DIM // HEADS)
            weights = torch.softmax(scales[head] * (k[:, part] @ q[part]), 0)
            out.append(weights @ v[:, part])
        return torch.cat(out)

    def unit(v):
        return torch.cat([h / h.norm(dim=-1, keepdim=True) for h in v.split(DIM // HEADS, -1)], -1)

    x0, x = x, norm(block.norm, x)
    root = 1 / math.sqrt(DIM // HEADS)
    if settings.parts != "global":
        q, k, v = (lin(m, x) for m in (block.local.to_q, block.local.to_k, block.local.to_v))
        q, k = unit(q), unit(k)
        v = unit(v) if settings.normalise_v else v
        learnt = settings.logit_scale == "learned"
        scales = block.logit.flatten().exp() if learnt else [root] * HEADS
        side = settings.local_window or 10**6
        rows = []
        for n in range(len(x)):
            r, c = divmod(n, grid.w)
            near = [
                m
                for m in range(len(x))
                if m // grid.w // side == r // side and m % grid.w // side == c // side
            ]
            rows.append(attend(q[n], k[near], v[near], scales))
        x = norm(block.norm_local, lin(block.local.to_out, torch.stack(rows)))
    if settings.parts != "local":
        e = block.everywhere
        q, k, v = (lin(m, x) for m in (e.to_q, e.to_k, e.to_v))
        x = lin(e.to_out, torch.stack([attend(one, k, v, [root] * HEADS) for one in q]))
    x = x.clamp(-settings.clamp, settings.clamp)
    x = norm(block.norm_merged, x) if settings.merge_norm else x
    y = lin(block.mlp[2], torch.nn.functional.gelu(lin(block.mlp[0], x)))
    return y if not settings.residual_gate else block.pretrained(x0[None])[0] + block.gate * y


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"parts": "local"},
        {"parts": "global"},
        {"local_window": 0},
        {"local_window": 3},
        {"logit_scale": "paper"},
        {"normalise_v": True},
        {"clamp": 0.05},
        {"merge_norm": False},
        {"residual_gate": False},
        {"mlp_ratio": 2},
    ],
    ids=str,
)
def test_every_option_computes_what_the_formula_says(changes):
    settings = LocalGlobal(**{"local_window": 4} | changes)
    block = LocalGlobalAttention(pretrained(), settings)
    torch.manual_seed(2)
    with torch.no_grad():
        for parameter in block.parameters():
            parameter += 0.3 * torch.randn(parameter.shape)
        x = torch.randn(2, GRID.h * GRID.w, DIM)
        found = block(x, grid=GRID)
        for one, result in zip(x, found, strict=True):
            torch.testing.assert_close(result, slow(block, one, GRID, settings), atol=2e-5, rtol=1e-4)


def test_a_gate_of_zero_leaves_the_pretrained_unet_as_it_was():
    unet = tiny_unet()
    before = asked(unet)
    place(unet, LocalGlobal())
    assert torch.equal(asked(unet, Size(8, 12)), before)


def test_an_open_gate_changes_the_unet_and_no_parts_leave_it_alone():
    unet = tiny_unet()
    before = asked(unet)
    place(unet, LocalGlobal(parts="none"))
    assert torch.equal(asked(unet), before)
    place(unet, LocalGlobal())
    for module in unet.modules():
        if isinstance(module, LocalGlobalAttention):
            torch.nn.init.constant_(module.gate, 0.5)
    assert not torch.allclose(asked(unet, Size(8, 12)), before, atol=1e-4)


def test_every_self_attention_is_replaced_and_only_attention_is_named_for_training():
    unet = tiny_unet()
    standard = set(attention_parameters(unet))
    place(unet, LocalGlobal())
    placed = [m for m in unet.modules() if isinstance(m, LocalGlobalAttention)]
    assert len(placed) == 1 + 1 + 2  # of the blocks down, in the middle and up, with 1, 1 and 2 transformers
    named = set(attention_parameters(unet))
    assert {name.replace("attn1.pretrained", "attn1") for name in named} > standard
    assert all(".attn1." in name or ".attn2." in name for name in named)
    assert not any(".ff." in name or "resnets" in name for name in named)


def test_the_grid_of_a_level_follows_from_its_tokens():
    assert level_grid(Size(9, 13), 117) == Size(9, 13)
    assert level_grid(Size(9, 13), 5 * 7) == Size(5, 7)
    assert level_grid(Size(9, 13), 2 * 2) == Size(2, 2)
    with pytest.raises(ValueError, match="36 tokens"):
        level_grid(Size(9, 13), 36)


def test_huge_activations_are_clamped_to_finite_values():
    block = LocalGlobalAttention(pretrained(), LocalGlobal(merge_norm=False, residual_gate=False, clamp=10.0))
    with torch.no_grad():
        block.everywhere.to_out.bias += 1e30
        merged = block.mlp(torch.full((1, 1, DIM), 10.0))
        found = block(torch.randn(1, 60, DIM), grid=GRID)
    torch.testing.assert_close(found, merged.expand_as(found))
