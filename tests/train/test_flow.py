"""The flow, against what an invertible map and a density must be."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from vae_gen_train.flow import Flow, log_density


@pytest.fixture(params=[5, 2])
def flow(request: pytest.FixtureRequest) -> Flow:
    """A flow with an odd number of latents, and one with the fewest, far from the identity."""
    torch.manual_seed(0)
    flow = Flow(request.param, couplings=3, width=16).double()
    flow.rotations.copy_(torch.linalg.qr(flow.rotations)[0])  # they were rounded to float32, on every CPU differently
    for parameter in flow.parameters():
        nn.init.normal_(parameter, std=0.4)
    flow.mean.copy_(torch.linspace(-3, 2, request.param))
    flow.scale.copy_(torch.linspace(0.5, 2, request.param))
    return flow


def test_a_new_flow_only_rotates_and_its_networks_begin_as_linear_layers_do() -> None:
    torch.manual_seed(0)
    new = Flow(16, couplings=12, width=96)
    u = torch.randn(20, 16)
    z, log_det = new(u)
    torch.testing.assert_close(z, u @ torch.linalg.multi_dot([*new.rotations]), rtol=0, atol=1e-5)
    assert not log_det.any()
    for layer, inputs in enumerate((8, 96)):  # nn.Linear's first values, of its weights and its biases
        for tensor in (new.weights[layer], new.biases[layer]):
            assert tensor.abs().max().item() == pytest.approx(inputs**-0.5, rel=0.01)
            assert tensor.var().item() == pytest.approx(1 / (3 * inputs), rel=0.1)  # of a uniform distribution


def test_a_flow_is_inverted_exactly(flow: Flow) -> None:
    u = torch.randn(20, flow.latent_dim, dtype=torch.float64)
    z, log_det = flow(u)
    back, inverse_log_det = flow.inverse(z)
    assert (z - u).abs().mean() > 0.3
    torch.testing.assert_close(back, u, rtol=0, atol=1e-10)
    torch.testing.assert_close(inverse_log_det, -log_det, rtol=0, atol=1e-10)


def test_the_log_determinant_is_that_of_the_jacobian(flow: Flow) -> None:
    u = torch.randn(6, flow.latent_dim, dtype=torch.float64)
    _, log_det = flow(u)
    for row, found in zip(u, log_det, strict=True):
        jacobian = torch.autograd.functional.jacobian(lambda each: flow(each[None])[0][0], row)
        assert found.item() == pytest.approx(torch.linalg.slogdet(jacobian)[1].item(), abs=1e-5)


def test_a_density_integrates_to_one() -> None:
    torch.manual_seed(1)
    flow = Flow(2, couplings=2, width=8).double()
    for parameter in flow.parameters():
        nn.init.normal_(parameter, std=0.3)
    axis = torch.linspace(-12, 12, 601, dtype=torch.float64)
    points = torch.cartesian_prod(axis, axis)
    with torch.no_grad():
        mass = log_density(*flow.inverse(points)).exp().sum() * (axis[1] - axis[0]) ** 2
    assert mass.item() == pytest.approx(1, abs=1e-3)
