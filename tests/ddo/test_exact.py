"""DDO where every probability can be written down: 64 states, and short sequences (methods 2.6, 2.10)."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from genplug_ddo.loss import ddo_loss


def bumps() -> tuple[Tensor, Tensor]:
    """Two discretised bumps over 64 states, and the same blurred, as the reference (methods 2.10)."""
    states = torch.arange(64, dtype=torch.float64)
    p_data = torch.exp(-((states - 20) ** 2) / 18) + 0.7 * torch.exp(-((states - 44) ** 2) / 32)
    kernel = torch.exp(-(torch.arange(-18, 19, dtype=torch.float64) ** 2) / 72)
    p_ref = torch.nn.functional.conv1d(p_data[None, None], kernel[None, None], padding=18)[0, 0]
    return p_data / p_data.sum(), p_ref / p_ref.sum()


@pytest.mark.parametrize("beta", [1.0, 0.5, 0.25])
def test_the_optimum_is_the_closed_form_of_theorem_3_3(beta: float) -> None:
    """p_theta ~ p_ref^(1 - 1/beta) p_data^(1/beta) is stationary at alpha* = Z^beta alone."""
    p_data, p_ref = bumps()
    unnormalised = p_ref ** (1 - 1 / beta) * p_data ** (1 / beta)
    Z = unnormalised.sum()
    alpha = float(Z**beta)

    def expected_loss(logits: Tensor, a: float) -> Tensor:
        r = logits.log_softmax(0) - p_ref.log()
        parts = ddo_loss(r, r, a, beta).logs
        return (p_data * parts["loss_real"]).sum() + (p_ref * parts["loss_fake"]).sum()

    def slope(a: float) -> float:
        logits = (unnormalised / Z).log().requires_grad_(True)
        expected_loss(logits, a).backward()
        return float(logits.grad.abs().max())

    assert slope(alpha) < 1e-12
    assert slope(2 * alpha) > 1e-4
    assert (alpha > 1) == (beta < 1)
    if beta == 1.0:
        mix = (p_data + p_ref) / 2
        jsd = 0.5 * ((p_data * (p_data / mix).log()).sum() + (p_ref * (p_ref / mix).log()).sum())
        assert float(expected_loss(p_data.log(), 1.0)) == pytest.approx(
            float(2 * math.log(2) - 2 * jsd), abs=1e-12
        )


def kl(p: Tensor, q: Tensor) -> float:
    return float((p * (p / q).log()).sum())


def expected(log_theta: Tensor, p_data: Tensor, p_ref: Tensor, alpha: float, beta: float) -> Tensor:
    """The expected DDO loss, undivided, of a distribution over few states."""
    r = log_theta - p_ref.log()
    parts = ddo_loss(r, r, alpha, beta).logs
    return (p_data * parts["loss_real"]).sum() + (p_ref * parts["loss_fake"]).sum()


def optimum(p_data: Tensor, p_ref: Tensor, alpha: float, beta: float) -> Tensor:
    """The distribution that free logits reach from the reference."""
    logits = p_ref.log().requires_grad_(True)
    options = {"tolerance_grad": 1e-16, "tolerance_change": 1e-30, "line_search_fn": "strong_wolfe"}
    optimiser = torch.optim.LBFGS([logits], max_iter=250, history_size=50, **options)

    def closure() -> Tensor:
        optimiser.zero_grad()
        loss = expected(logits.log_softmax(0), p_data, p_ref, alpha, beta)
        loss.backward()
        return loss

    optimiser.step(closure)
    return logits.detach().softmax(0)


def test_free_logits_reach_the_data_at_alpha_and_beta_one() -> None:
    """Theorem 3.1."""
    p_data, p_ref = bumps()
    assert kl(p_data, p_ref) > 0.3
    assert kl(p_data, optimum(p_data, p_ref, 1.0, 1.0)) < 1e-5


@pytest.mark.parametrize(("beta", "entropy"), [(0.5, 3.04), (0.25, 2.65)])
def test_free_logits_reach_the_overshoot_at_alpha_star_and_are_worse_than_the_base_at_twice_that(
    beta: float, entropy: float
) -> None:
    """Theorem 3.3 with alpha* = Z^beta; the overshoot is sharper than the data, 3.35 nats."""
    p_data, p_ref = bumps()
    closed = p_ref ** (1 - 1 / beta) * p_data ** (1 / beta)
    alpha = float(closed.sum() ** beta)
    found = optimum(p_data, p_ref, alpha, beta)
    assert kl(closed / closed.sum(), found) < 1e-5
    assert float(-(found * found.log()).sum()) == pytest.approx(entropy, abs=0.02)
    assert kl(p_data, optimum(p_data, p_ref, 2 * alpha, beta)) > 3 * kl(p_data, p_ref)


def sequences(length: int = 5, values: int = 3) -> tuple[Tensor, Tensor]:
    """All sequences SL, and their probabilities under a law of order two."""
    every_SL = torch.tensor(list(itertools.product(range(values), repeat=length)))
    g = torch.Generator().manual_seed(3)
    law = (2 * torch.randn(values, values, values, generator=g, dtype=torch.float64)).softmax(-1)
    start = torch.full((values, values), 1 / values**2, dtype=torch.float64)
    p = start[every_SL[:, 0], every_SL[:, 1]].clone()
    for t in range(2, length):
        p *= law[every_SL[:, t - 2], every_SL[:, t - 1], every_SL[:, t]]
    return every_SL, p


def markov(weights: Tensor, every_SL: Tensor) -> Tensor:
    """ln p of every sequence, S, in a model of order one: row 0 the start, the others transitions."""
    log_p = weights.log_softmax(-1)
    steps = log_p[1:][every_SL[:, :-1], every_SL[:, 1:]].sum(1)
    return log_p[0][every_SL[:, 0]] + steps


def most_likely(every_SL: Tensor, p_data: Tensor, values: int = 3) -> Tensor:
    """The maximum-likelihood weights, in closed form: logarithms of expected counts."""
    counts = torch.zeros(values + 1, values, dtype=torch.float64)
    counts[0].index_add_(0, every_SL[:, 0], p_data)
    for t in range(1, every_SL.shape[1]):
        counts[1:].index_put_((every_SL[:, t - 1], every_SL[:, t]), p_data, accumulate=True)
    return counts.log()


def descend(weights: Tensor, loss: Callable[[Tensor], Tensor], steps: int, lr: float) -> Tensor:
    weights = weights.clone().requires_grad_(True)
    optimiser = torch.optim.Adam([weights], lr=lr)
    for _ in range(steps):
        optimiser.zero_grad()
        loss(weights).backward()
        optimiser.step()
    return weights.detach()


@pytest.mark.parametrize("alpha", [0.5, 1.0, 5.0])
def test_an_exact_likelihood_at_its_optimum_starts_without_gradient(
    alpha: float,
) -> None:
    """Methods 2.6(b): maximum likelihood is stationary for every alpha, sampled exactly."""
    every, p_data = sequences()
    best = most_likely(every, p_data).requires_grad_(True)
    p_ref = markov(best.detach(), every).exp()
    loss = expected(markov(best, every), p_data, p_ref, alpha, 1.0)
    loss.backward()
    assert float(loss.detach()) == pytest.approx((1 + alpha) * math.log(2), abs=1e-12)
    assert best.grad is not None
    assert float(best.grad.abs().max()) < 1e-12


def test_alpha_one_leaves_maximum_likelihood_in_place_and_a_large_one_collapses() -> None:
    """A warning: DDO does not help a model that is the best of its family already."""
    every, p_data = sequences()
    best = most_likely(every, p_data)
    p_ref = markov(best, every).exp()
    noise = torch.randn(best.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    def after(alpha: float) -> Tensor:
        loss = lambda w: expected(markov(w, every), p_data, p_ref, alpha, 1.0)  # noqa: E731
        return markov(descend(best + 1e-2 * noise, loss, 400, 0.05), every).exp()

    stayed, collapsed = after(1.0), after(5.0)
    assert kl(p_data, stayed) == pytest.approx(kl(p_data, p_ref), rel=0.01)
    assert float(collapsed.max()) > 5 * float(p_ref.max())
    assert kl(p_data, collapsed) > 2 * kl(p_data, p_ref)


def test_an_early_stopped_model_gains_by_ddo_at_least_what_plain_training_gives() -> None:
    """At equal steps the Jensen-Shannon divergence falls as far as by maximum likelihood, or farther."""
    every, p_data = sequences()
    likelihood = lambda w: -(p_data * markov(w, every)).sum()  # noqa: E731
    start = descend(torch.zeros(4, 3, dtype=torch.float64), likelihood, 5, 0.05)
    p_ref = markov(start, every).exp()
    plain = markov(descend(start, likelihood, 20, 0.02), every).exp()
    ddo = markov(
        descend(start, lambda w: expected(markov(w, every), p_data, p_ref, 1.0, 1.0), 20, 0.02), every
    ).exp()
    assert jsd(p_data, ddo) < jsd(p_data, p_ref)
    assert jsd(p_data, ddo) <= jsd(p_data, plain)


def jsd(p: Tensor, q: Tensor) -> float:
    return (kl(p, (p + q) / 2) + kl(q, (p + q) / 2)) / 2
