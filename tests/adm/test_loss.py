"""The hybrid loss: the variational term trains variances alone, and is a divergence."""

from __future__ import annotations

import pytest
import torch
from torch.distributions import Normal, kl_divergence

from genplug_adm.diffusion import Diffusion, Moments
from genplug_adm.loss import grey_level_log_prob, hybrid_loss, variational_term

PROCESS = Diffusion.of("cosine", 100)


def rows(seed: int = 0, n: int = 5) -> tuple[torch.Tensor, ...]:
    """Return clean images on grey levels, timesteps (the first is 0), unit noise."""
    torch.manual_seed(seed)
    x0 = torch.randint(256, (n, 2, 3, 3)) / 127.5 - 1
    return x0, torch.tensor([0, 1, 20, 70, 99]), torch.randn_like(x0)


def test_only_variances_get_a_gradient_from_the_variational_term() -> None:
    x0, t, noise = rows()
    output = torch.randn(5, 4, 3, 3, requires_grad=True)
    (gradient,) = torch.autograd.grad(hybrid_loss(PROCESS, output, x0, t, noise, True).sum(), output)
    torch.testing.assert_close(gradient[:, :2], 2 * (output[:, :2] - noise).detach())
    assert bool((gradient[:, 2:] != 0).any(dim=(1, 2, 3)).all())


def test_without_learned_variances_it_is_the_squared_error_of_the_noise() -> None:
    x0, t, noise = rows()
    loss_N = hybrid_loss(PROCESS, noise + 0.5, x0, t, noise, False)
    torch.testing.assert_close(loss_N, torch.full((5,), 0.25 * 18))


def test_the_variational_term_is_the_divergence_of_two_normal_distributions() -> None:
    x0, t, noise = rows()
    x_t = PROCESS.q_sample(x0, t, noise)
    mean, log_variance = torch.randn_like(x0), torch.randn_like(x0) - 4
    found = variational_term(PROCESS, Moments(mean, log_variance.exp(), log_variance, x0), x0, x_t, t)
    spread = PROCESS.log_variance("fixed-small", t, x0).mul(0.5).exp()
    q = Normal(PROCESS.posterior_mean(x0, x_t, t), spread)
    expected = kl_divergence(q, Normal(mean, (0.5 * log_variance).exp()))
    torch.testing.assert_close(found[1:], expected[1:], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("mean", "std"), [(0.1, 0.02), (-0.999, 0.3), (3.0, 0.5)])
def test_the_masses_of_all_grey_levels_sum_to_one(mean: float, std: float) -> None:
    levels = torch.arange(256) / 127.5 - 1
    log_std = torch.full_like(levels, std).log()
    mass = grey_level_log_prob(levels, torch.full_like(levels, mean), log_std).exp()
    assert float(mass.sum()) == pytest.approx(1, abs=1e-5)


def test_a_learned_variance_at_its_bounds_is_the_fixed_one() -> None:
    x0, t, noise = rows()
    x_t, eps = PROCESS.q_sample(x0, t, noise), torch.randn_like(x0)
    for v, variance in ((1.0, "fixed-large"), (-1.0, "fixed-small")):
        learned = PROCESS.moments(torch.cat([eps, torch.full_like(eps, v)], 1), x_t, t, "learned")
        fixed = PROCESS.moments(eps, x_t, t, variance)
        after_first = t > 0  # there beta_0 stands in for nothing
        torch.testing.assert_close(learned.log_variance[after_first], fixed.log_variance[after_first])
