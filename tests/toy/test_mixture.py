"""Mixtures: every quantity against its closed form or an independent derivation."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.distributions import MultivariateNormal

from genplug import NoiseSource
from genplug_toy.fractal import fractal
from genplug_toy.mixture import GaussianMixture


@pytest.fixture
def mixture() -> GaussianMixture:
    """Five Gaussians of random shape in three dimensions, of three classes."""
    noise = NoiseSource(torch.arange(5))
    root = noise.normal((5, 3, 3), "root").double()
    weights = noise.uniform((5,), "weight")
    return GaussianMixture(
        weights, noise.normal((5, 3), "mean"), root @ root.mT * 0.2, torch.tensor([0, 1, 2, 1, 0])
    )


def somewhere(count: int, dims: int) -> tuple[Tensor, Tensor]:
    """Return points and a noise level for each, float64."""
    noise = NoiseSource(torch.arange(count), salt="somewhere")
    x_ND = noise.normal((count, dims), "x").double()
    return x_ND, noise.normal((count,), "sigma").double().exp()


def test_the_density_is_that_of_torch_with_the_noise_added(mixture: GaussianMixture) -> None:
    x_ND, sigma_N = somewhere(20, 3)
    for row, sigma in enumerate(sigma_N):
        noisy = mixture.covariances_MDD + sigma**2 * torch.eye(3)
        log_p_M = MultivariateNormal(mixture.means_MD, noisy).log_prob(x_ND[row])
        expected = (mixture.weights_M.log() + log_p_M).logsumexp(0)
        assert torch.allclose(mixture.log_density(x_ND[row : row + 1], float(sigma))[0], expected)
    each = [mixture.log_density(x_ND[i : i + 1], sigma_N[i]) for i in range(20)]
    assert torch.allclose(mixture.log_density(x_ND, sigma_N), torch.cat(each))


def test_the_score_is_the_gradient_of_the_log_density(mixture: GaussianMixture) -> None:
    x_ND, sigma_N = somewhere(20, 3)
    x_ND.requires_grad_()
    (gradient_ND,) = torch.autograd.grad(mixture.log_density(x_ND, sigma_N).sum(), x_ND)
    assert torch.allclose(mixture.score(x_ND, sigma_N), gradient_ND)
    tweedie_ND = x_ND + sigma_N[:, None] ** 2 * gradient_ND
    assert torch.allclose(mixture.denoise(x_ND, sigma_N), tweedie_ND)


def test_the_denoiser_of_one_gaussian_is_the_wiener_filter() -> None:
    """D = mu + Sigma (Sigma + sigma^2)^-1 (x - mu)."""
    mean, covariance = torch.tensor([[1.0, -2.0]]), torch.tensor([[[0.5, 0.3], [0.3, 0.4]]])
    x_ND, sigma = somewhere(10, 2)[0], 0.7
    gain = covariance[0].double() @ torch.linalg.inv(covariance[0].double() + sigma**2 * torch.eye(2))
    expected_ND = mean + (x_ND - mean) @ gain.T
    assert torch.allclose(GaussianMixture(torch.ones(1), mean, covariance).denoise(x_ND, sigma), expected_ND)


def test_class_posteriors_sum_to_one_and_follow_bayes(mixture: GaussianMixture) -> None:
    x_ND, sigma_N = somewhere(20, 3)
    posterior_NK = mixture.posterior(x_ND, sigma_N)
    assert torch.allclose(posterior_NK.sum(1), torch.ones(20).double())
    for label in range(3):
        prior = mixture.weights_M[mixture.classes_M == label].sum()
        log_p_N = mixture.of_class(label).log_density(x_ND, sigma_N)
        bayes_N = prior * (log_p_N - mixture.log_density(x_ND, sigma_N)).exp()
        assert torch.allclose(posterior_NK[:, label], bayes_N)


def test_far_away_nothing_overflows() -> None:
    """Where every density underflows, its logarithm and what follows from it are there, in float32 too."""
    both = fractal().balanced()
    x_ND = torch.tensor([[1e4, 1e4], [-1e4, -1e4]])
    assert both.log_density(x_ND).isfinite().all()
    assert both.score(x_ND, 1e-3).isfinite().all()
    assert torch.allclose(both.posterior(x_ND).sum(1), torch.ones(2))
    assert both.denoise(x_ND, 0.002).dtype == torch.float32


def test_rows_do_not_depend_on_how_many_are_asked_for() -> None:
    """2,032 components are worked through in chunks of rows."""
    both, (x_ND, sigma_N) = fractal(), somewhere(200, 2)
    parts = [both.score(x_ND[rows], sigma_N[rows]) for rows in torch.arange(200).split(7)]
    assert torch.allclose(both.score(x_ND, sigma_N), torch.cat(parts))
    assert torch.allclose(both.score(x_ND, 0.3), both.score(x_ND, torch.full((200,), 0.3)))


def test_guidance_by_the_exact_classifier_is_the_conditional_model() -> None:
    """D_u + sigma^2 grad ln p(c | x) = D_c, at every noise level."""
    means = torch.tensor([[-0.5], [0.5]])
    two = GaussianMixture(torch.ones(2), means, torch.full((2, 1, 1), 0.05**2), torch.arange(2))
    x_ND = torch.linspace(-2, 2, 101).double()[:, None]
    for sigma in (0.002, 0.05, 0.3, 1.0, 5.0, 80.0):
        for label in (0, 1):
            x_ND.requires_grad_()
            log_p_N = two.log_posterior(x_ND, sigma)[:, label]
            (gradient_ND,) = torch.autograd.grad(log_p_N.sum(), x_ND)
            x_ND = x_ND.detach()
            guided_ND = two.denoise(x_ND, sigma) + sigma**2 * gradient_ND
            conditional_ND = two.of_class(label).denoise(x_ND, sigma)
            assert (guided_ND - conditional_ND).abs().max() < 1e-10 * max(1, sigma**2)


def test_samples_have_the_moments_of_the_mixture(mixture: GaussianMixture) -> None:
    count = 20_000
    x_ND, classes_N = mixture.sample(NoiseSource(torch.arange(count)))
    mean = mixture.weights_M @ mixture.means_MD
    assert torch.allclose(x_ND.mean(0).double(), mean, atol=5 * float(x_ND.std()) / math.sqrt(count))
    assert float(x_ND.square().mean().sqrt()) == pytest.approx(mixture.rms(), rel=0.02)
    shares_K = torch.bincount(classes_N).double() / count
    prior_K = torch.zeros(3).double().index_add(0, mixture.classes_M, mixture.weights_M)
    assert torch.allclose(shares_K, prior_K, atol=0.02)
    inside = (mixture.of_class(1).log_density(x_ND[classes_N == 1]) > -20).double().mean()
    assert inside == 1
