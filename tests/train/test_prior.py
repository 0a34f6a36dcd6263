"""The second stage of training, against what it must make of latents and images that are known."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import nn
from vae_gen_train import prior
from vae_gen_train.config import ADVERSARIAL_TARGETS, OBJECTIVES, TrainConfig
from vae_gen_train.discriminator import Discriminator
from vae_gen_train.nets import VAE, Encoder
from vae_gen_train.prior import PriorFit, has_variances

from tests.train.small_runs import config as small_config

CPU = torch.device("cpu")
IMAGES, LATENTS, NONE = 4, 2, 0  # dimensions

pytestmark = pytest.mark.usefixtures("no_report")


def config(**changes: object) -> TrainConfig:
    small = {"threads": 1, "steps": 6, "prior_steps": 10, "flow_couplings": 2, "flow_width": 8, "evaluate_every": 100}
    return small_config("mlp", **small | changes)


class Two(nn.Module):
    """Features of a picture that are its first three values."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return image.flatten(1)[:, :3]


def vae_with_known_latents() -> VAE:
    """q(z | image) has the image's first two values as means, and the third decides its variances."""
    encoder = Encoder(Two(), 3, 2)
    with torch.no_grad():
        encoder.mean.weight.copy_(torch.tensor([[20.0, 0, 0], [0, 8, 0]]))
        encoder.mean.bias.copy_(torch.tensor([-10.0, 1]))
        encoder.log_var.weight.copy_(torch.tensor([[0.0, 0, 2], [0, 0, -2]]))
        encoder.log_var.bias.copy_(torch.tensor([-3.0, -2]))
    return VAE(encoder, nn.Sequential(nn.Linear(2, 6), nn.Sigmoid(), nn.Unflatten(1, (1, 2, 3))))


def images_in_two_groups() -> np.ndarray:
    """The first value is near 50 or near 200, in one of three and in two of three; the second follows the first."""
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (1500, 1, 2, 3)).astype(np.uint8)
    group = random.random(1500) < 2 / 3
    first = np.where(group, 200, 50) + random.integers(-8, 9, 1500)
    images[:, 0, 0, 0] = first
    images[:, 0, 0, 1] = np.where(group, 60, 190) + random.integers(-20, 21, 1500)
    return images


def fitted_to_two_groups(likelihood_steps: int, **changes: object) -> tuple[VAE, torch.Tensor, PriorFit]:
    """A VAE, its images, and its prior after all steps, of which the first so many are by likelihood alone."""
    torch.manual_seed(0)
    vae, images = vae_with_known_latents(), images_in_two_groups()
    before = copy.deepcopy(vae.state_dict())
    settings = config(**{"latent_dim": 2, "batch_size": 256, "flow_couplings": 6, "flow_width": 32} | changes)
    fit = PriorFit(vae, images, settings, CPU)
    for step in range(1, settings.prior_steps + 1):
        assert (fit.take_step(step).discriminator is None) == (step <= likelihood_steps)
    assert all(torch.equal(tensor, before[name]) for name, tensor in vae.state_dict().items())  # a copy learned
    return vae, torch.from_numpy(images / np.float32(255)), fit


def heed_only(monkeypatch: pytest.MonkeyPatch, dimensions: int) -> None:
    """Let nothing learn against a discriminator but that of tensors of so many dimensions."""

    def learn(
        self: Discriminator, real: torch.Tensor, generated: torch.Tensor, step: int, share: float
    ) -> tuple[torch.Tensor, torch.Tensor]:
        told, fooling = learn_as_ever(self, real, generated, step, share)
        return told, fooling * (real.ndim == dimensions)

    learn_as_ever = Discriminator.learn
    monkeypatch.setattr(Discriminator, "learn", learn)


def test_by_likelihood_noise_lands_where_the_latents_lie(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prior, "BATCH", 256)
    vae, image, fit = fitted_to_two_groups(likelihood_steps=600, prior_steps=600, adversarial_share=0.0)
    mean, log_var = vae.encoder(image)
    real = (mean + torch.exp(log_var / 2) * torch.randn_like(mean)).detach().double()
    with torch.no_grad():
        drawn = fit.averaged.flow(torch.randn(20_000, 2))[0].double()
    assert (drawn[:, 0] > 0).double().mean().item() == pytest.approx((real[:, 0] > 0).double().mean().item(), abs=0.05)
    for side in (-1, 1):  # each group has its own centre and spread
        one, other = (points[points[:, 0] * side > 0] for points in (drawn, real))
        for quantile in (0.2, 0.5, 0.8):
            torch.testing.assert_close(one.quantile(quantile, 0), other.quantile(quantile, 0), rtol=0, atol=0.45)


def test_against_the_discriminator_noise_becomes_like_the_images(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two groups of pictures, and a decoder that has learned nothing yet."""
    monkeypatch.setattr(prior, "BATCH", 256)
    monkeypatch.setattr(prior, "ADVERSARIAL_LR", 5e-3)
    monkeypatch.setattr(prior, "DISCRIMINATOR_LR", 1e-3)
    vae, image, fit = fitted_to_two_groups(likelihood_steps=405, prior_steps=900, flow_couplings=4)
    with torch.no_grad():
        error = (fit.averaged.decoder(vae.encoder(image)[0]) - image).square()[:, 0, 0, :2].mean()
        noise = fit.network.decoder(torch.randn(20_000, 2))[:, 0, 0, :2]
    real = image[:, 0, 0, :2]
    assert error < 0.004
    assert (noise[:, 0] > 0.5).float().mean().item() == pytest.approx(2 / 3, abs=0.08)
    for side in (-1, 1):
        one, other = (points[(points[:, 0] - 0.5) * side > 0] for points in (noise, real))
        torch.testing.assert_close(one.median(0).values, other.median(0).values, rtol=0, atol=0.04)
    assert ((noise[:, 0] - 0.5).abs() < 0.2).float().mean() < 0.065  # few are between the groups


@pytest.mark.parametrize("against_latents", [False, True])
def test_the_discriminator_of_latents_drives_noise_off_the_bridge(
    monkeypatch: pytest.MonkeyPatch, against_latents: bool
) -> None:
    """No image's latents lie between the two groups."""
    heed_only(monkeypatch, LATENTS if against_latents else NONE)
    monkeypatch.setattr(prior, "BATCH", 256)
    monkeypatch.setattr(prior, "ADVERSARIAL_LR", 2e-3)
    vae, image, fit = fitted_to_two_groups(300, prior_steps=900, adversarial_share=2 / 3, flow_couplings=2)
    with torch.no_grad():
        mean, log_var = vae.encoder(image)
        real = mean + torch.exp(log_var / 2) * torch.randn_like(mean)
        noise = fit.averaged.flow(torch.randn(20_000, 2))[0]
    assert real[:, 0].abs().min() > 3
    between = (noise[:, 0].abs() < 3).float().mean().item()
    assert (between < 0.1) == against_latents


def test_how_far_latents_lie_beyond_is_counted_in_widths() -> None:
    lowest, highest = torch.tensor([-1.0, 0.0]), torch.tensor([1.0, 4.0])
    z = torch.tensor([[0.0, 2.0], [-1.0, 4.0], [3.0, 4.0], [-2.0, 12.0], [1e30, 0.0]])
    expected = [0, 0, np.log(1 + 1), np.log(1 + 0.5) + np.log(1 + 2), np.log(1 + 0.5e30)]
    torch.testing.assert_close(prior.beyond(z, lowest, highest), torch.tensor(expected, dtype=torch.float32))


def test_noise_beyond_the_latents_of_all_images_is_called_back(monkeypatch: pytest.MonkeyPatch) -> None:
    def lost(weight: float, steps: int) -> float:
        """The share of noise that is beyond, after so many steps."""
        monkeypatch.setattr(prior, "BEYOND_WEIGHT", weight)
        settings = config(latent_dim=2, batch_size=256, adversarial_share=1.0, prior_steps=300)
        torch.manual_seed(0)
        fit = PriorFit(vae := vae_with_known_latents(), images, settings, CPU)
        fit.prior.flow.scale *= 3  # as if steps had thrown it there
        for step in range(1, steps + 1):
            fit.take_step(step)
        with torch.no_grad():
            mean, log_var = vae.encoder(torch.from_numpy(images / np.float32(255)))
            reach = 3 * torch.exp(log_var / 2)
            noise = fit.prior.flow(torch.randn(5000, 2))[0]
        outside = (noise > (mean + reach).amax(0)) | (noise < (mean - reach).amin(0))
        return outside.any(1).float().mean().item()

    images = images_in_two_groups()
    heed_only(monkeypatch, IMAGES)  # the other discriminator calls back too
    monkeypatch.setattr(prior, "ADVERSARIAL_LR", 5e-3)
    assert lost(0, steps=0) > 0.3
    assert lost(10, steps=300) < 0.2 * lost(0, steps=300)


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_latents_of_no_image_are_not_thrown_far_beyond_noise(monkeypatch: pytest.MonkeyPatch, share: float) -> None:
    def far(weight: float) -> float:
        """What the inverse makes of a grid from the lowest latents to the highest: 9 in 10 are no larger than this."""
        monkeypatch.setattr(prior, "ASTRAY_WEIGHT", weight)
        alone = int(600 * (1 - share))
        vae, image, fit = fitted_to_two_groups(alone, prior_steps=600, adversarial_share=share, flow_couplings=4)
        with torch.no_grad():
            mean, log_var = vae.encoder(image)
            reach = 3 * torch.exp(log_var / 2)
            edges = zip((mean - reach).amin(0), (mean + reach).amax(0), strict=True)
            grid = torch.cartesian_prod(*(torch.linspace(low, high, 60) for low, high in edges))
            return fit.prior.flow.inverse(grid)[0].abs().amax(1).quantile(0.9).item()

    monkeypatch.setattr(prior, "BATCH", 256)
    monkeypatch.setattr(prior, "ADVERSARIAL_LR", 2e-3)
    assert far(10) < far(0) / 2


@pytest.mark.parametrize("target", ADVERSARIAL_TARGETS)
def test_the_discriminator_compares_decoded_noise_with_the_target(monkeypatch: pytest.MonkeyPatch, target: str) -> None:
    vae, images = vae_with_known_latents(), images_in_two_groups()[:40]
    nn.init.constant_(vae.encoder.log_var.bias, -60)  # a draw from a posterior is its mean
    image = torch.from_numpy(images / np.float32(255))
    with torch.no_grad():
        allowed = {"images": image, "reconstructions": vae.decoder(vae.encoder(image)[0])}[target].flatten(1)
    shown: list[torch.Tensor] = []
    learn = Discriminator.learn

    def look(
        self: Discriminator, real: torch.Tensor, generated: torch.Tensor, step: int, share: float
    ) -> tuple[torch.Tensor, torch.Tensor]:
        if real.ndim == IMAGES:
            shown.append(real.detach().flatten(1))
        return learn(self, real, generated, step, share)

    monkeypatch.setattr(Discriminator, "learn", look)
    settings = config(latent_dim=2, batch_size=64, adversarial_share=1.0, adversarial_target=target)
    fit = PriorFit(vae, images, settings, CPU)
    before = copy.deepcopy(fit.prior.state_dict())
    fit.take_step(1)
    (real,) = shown
    assert len(real) == 32
    apart, row = (real[:, None] - allowed).abs().amax(2).min(1)
    assert apart.max() < 1e-6
    assert len(row.unique()) > 10

    def learned(part: str) -> bool:
        return any(tensor.any() for name, tensor in moved.items() if name.startswith(part))

    moved = {name: value - before[name] for name, value in fit.prior.state_dict().items()}
    assert learned("flow.weights")
    assert learned("decoder") == (target == "images")


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("size", [0.01, 0.2])
def test_reconstructions_pull_as_hard_however_sharp_they_are(objective: str, size: float) -> None:
    """Each of N values, off by e, with the weight times e / (N r), where r is the root of the mean of e squared."""
    images = images_in_two_groups()
    fit = PriorFit(vae_with_known_latents(), images, config(latent_dim=2, objective=objective), CPU)
    off = torch.randn(50, 1, 2, 3)
    image = torch.from_numpy(images[:50] / np.float32(255))
    reconstructed = (image + size * off).requires_grad_()
    nothing = torch.zeros_like(image)
    shown = prior.Shown(1.0, image, torch.zeros(50, 2), torch.zeros(50, 2), reconstructed, nothing)
    fit._decoded_loss(shown, nothing, None).backward()
    expected = prior.ERROR_WEIGHT * off / (off.numel() * off.square().mean().sqrt())
    torch.testing.assert_close(reconstructed.grad, expected, rtol=1e-4, atol=1e-7)


def test_the_composite_reconstructs_as_the_vae_does_and_knows_its_variances() -> None:
    torch.manual_seed(0)
    vae, images = vae_with_known_latents(), images_in_two_groups()
    train, validation = images[:1200], images[1200:] // 2 + 64  # greyer, so that the errors are smaller
    fit = PriorFit(vae, train, config(latent_dim=2), CPU)
    torch.manual_seed(1)
    for parameter in fit.averaged.flow.parameters():
        nn.init.normal_(parameter, std=0.1)
    assert not has_variances(fit.network)
    fit.fit_head(validation, lambda: 0)
    network = fit.network
    assert has_variances(network)
    unseen = torch.from_numpy(validation / np.float32(255))
    image = torch.from_numpy(train[:200] / np.float32(255))
    with torch.no_grad():
        mean, _ = vae.encoder(image)
        u, u_log_var = network.encoder(image)
        torch.testing.assert_close(network.decoder(u), vae.decoder(mean), rtol=0, atol=1e-5)

        # The precision of u_i to second order, by the decoder's exact derivatives.
        jacobian = torch.stack(
            [torch.autograd.functional.jacobian(lambda v: network.decoder(v[None])[0].flatten(), each) for each in u]
        )
        variance = (network.decoder(network.encoder(unseen)[0]) - unseen).square().mean()
        expected = -torch.log(1 + jacobian.square().sum(1) / variance)
    assert expected.std() > 0.1
    assert (u_log_var - expected).abs().mean() < 0.1
    assert np.corrcoef(u_log_var[:, 0], expected[:, 0])[0, 1] > 0.9


@pytest.mark.parametrize("beta", [1.0, 5.0])
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_variances_suit_the_objective_and_its_weight(objective: str, beta: float) -> None:
    """Where the term's second derivatives do not depend on the image, so that exact ones are expected ones."""
    torch.manual_seed(0)
    vae, images = vae_with_known_latents(), images_in_two_groups()
    if objective != "bce":  # whose term is quadratic in a logit, not in a pixel
        vae.decoder = nn.Sequential(nn.Linear(2, 6), nn.Unflatten(1, (1, 2, 3)))
    nn.init.normal_(vae.decoder[0].weight, std=0.5)
    fit = PriorFit(vae, images, config(latent_dim=2, objective=objective, beta=beta), CPU)
    fit.fit_head(images, lambda: 0)
    network, image = fit.network, torch.from_numpy(images[:100] / np.float32(255))
    with torch.no_grad():
        whole = torch.from_numpy(images / np.float32(255))
        variance = (network.decoder(network.encoder(whole)[0]) - whole).square().mean()
        u, log_var = network.encoder(image)

    def nats(v: torch.Tensor, one: torch.Tensor) -> torch.Tensor:
        output = network.decoder(v[None])[0]
        if objective == "bce":
            return nn.functional.binary_cross_entropy(output, one, reduction="sum")
        return (output - one).square().sum() / (1 if objective == "sse" else 2 * variance)

    hessian = [
        torch.autograd.functional.hessian(lambda v, one=one: nats(v, one), each)
        for each, one in zip(u, image, strict=True)
    ]
    # d/d log_var of exp(log_var) hessian / 2 + beta (exp(log_var) - log_var) / 2 is 0
    expected = torch.log(beta / (beta + torch.stack(hessian).diagonal(dim1=1, dim2=2)))
    assert (log_var - expected).abs().mean() < 0.1
