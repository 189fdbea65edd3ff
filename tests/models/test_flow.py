"""The flow: a bijection that is affine, with the density of its Jacobian."""

import math

import pytest
import torch

from srcli.models.flow import Flow
from tests.reference import linf

SIZES = [(3, 10), (27, 10), (5, 1), (4, 0)]


def flow_and_condition(dim, layers, count=6):
    """A flow away from its start, and conditions that differ."""
    torch.manual_seed(dim)
    flow = Flow(dim, layers)
    with torch.no_grad():
        for parameter in flow.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return flow, torch.randn(count, flow.condition_dim)


@pytest.mark.parametrize(("dim", "layers"), SIZES)
def test_noise_and_data_equal_the_plain_form_and_lead_back(dim, layers):
    flow, condition = flow_and_condition(dim, layers)
    inverse = flow.inverted()
    x, z = torch.randn(6, dim), torch.randn(6, dim)
    with torch.no_grad():
        noise, _ = flow(x, condition)
        data = flow.mean(inverse, condition) + flow.direction(inverse, condition, z)
        back = flow.mean(inverse, condition) + flow.direction(inverse, condition, noise)
        plain = linf.to_data(flow, z, condition)
        torch.testing.assert_close(noise.double(), linf.to_noise(flow, x, condition), atol=1e-4, rtol=1e-5)
    torch.testing.assert_close(data.double(), plain, atol=1e-5 * max(1, float(plain.std())), rtol=1e-5)
    torch.testing.assert_close(back, x, atol=2e-4, rtol=0)


@pytest.mark.parametrize(("dim", "layers"), SIZES)
def test_log_density_is_that_of_the_jacobian(dim, layers):
    flow, condition = flow_and_condition(dim, layers)
    x = torch.randn(6, dim)
    _, log_density = flow(x, condition)
    for value, at, given in zip(log_density.detach(), x, condition.detach(), strict=True):

        def noise(h, given=given):
            return linf.to_noise(flow, h[None], given[None])[0]

        jacobian = torch.autograd.functional.jacobian(noise, at.double())
        z = noise(at).detach()
        expected = torch.linalg.slogdet(jacobian).logabsdet - 0.5 * z @ z - dim / 2 * math.log(2 * math.pi)
        assert float(value) == pytest.approx(float(expected), rel=1e-5, abs=1e-4)


def test_density_integrates_to_one():
    flow, condition = flow_and_condition(1, 3, count=1)
    inverse = flow.inverted()
    with torch.no_grad():
        middle = flow.mean(inverse, condition)
        spread = flow.direction(inverse, condition, torch.ones(1, 1)).abs()
        x = middle + spread * torch.linspace(-8, 8, 4001)[:, None]
        _, log_density = flow(x, condition.expand(4001, -1))
    assert float(torch.trapezoid(log_density.exp(), x[:, 0])) == pytest.approx(1, abs=1e-4)


@torch.no_grad()
def test_a_new_flow_is_well_conditioned_and_makes_small_residuals_large():
    torch.manual_seed(0)
    flow = Flow(27)
    x = 0.05 * torch.randn(500, 27)
    z, _ = flow(x, torch.zeros(500, flow.condition_dim))
    assert 0.3 < float(z.std()) < 3
    assert float(torch.linalg.cond(flow.last._weight)) == pytest.approx(1, abs=1e-3)


def test_gradients_of_the_density_and_of_samples_equal_the_plain_form():
    flow, condition = flow_and_condition(3, 4)
    condition.requires_grad_()
    z = torch.randn(6, 3)
    wanted = [condition, *flow.parameters()]
    inverse = flow.inverted()
    fast = flow.mean(inverse, condition) + flow.direction(inverse, condition, z)
    slow = linf.to_data(flow, z, condition)
    along = torch.randn(6, 3)
    for ours, theirs in zip(
        torch.autograd.grad(fast, wanted, along),
        torch.autograd.grad(slow, wanted, along.double()),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs, atol=1e-4 * max(1, float(theirs.abs().max())), rtol=1e-3)


def test_autocast_leaves_the_flow_in_float32():
    flow, condition = flow_and_condition(3, 10)
    x = torch.randn(6, 3)
    exact = flow(x, condition)
    with torch.autocast("cpu", torch.bfloat16):
        again = flow(x, condition)
    assert all(torch.equal(a, b) for a, b in zip(exact, again, strict=True))
