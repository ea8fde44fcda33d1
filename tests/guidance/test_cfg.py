"""Classifier-free guidance: the formula, one forward for both halves, the label-dropped copy, failures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import genplug
from genplug.condition import Condition
from genplug.errors import CapabilityError, NonFiniteError
from genplug.guided import GuidedDenoiser, guided
from genplug.pushes import Away, Constant
from genplug_guidance.strength import Strength

SIGMAS = torch.tensor([0.05, 0.3, 1.0, 5.0])
LABELS = Condition(labels_N=torch.tensor([0, 1, 1, 0]))


def exact(separation: float = 0.5) -> Any:
    data = {"generator.data": "gaussians-1d", "generator.data.separation": separation}
    return genplug.load("toy-exact", **{k.removeprefix("generator."): v for k, v in data.items()})


class Counting:
    """A denoiser that counts the rows of its calls."""

    def __init__(self, inner: Any) -> None:
        self.inner, self.rows = inner, []
        self.x_shape, self.noise, self.provides = inner.x_shape, inner.noise, inner.provides
        self.device = inner.device

    def denoise(self, x: Tensor, sigma_N: Tensor, cond: Condition | None) -> Tensor:
        self.rows.append(len(x))
        D: Tensor = self.inner.denoise(x, sigma_N, cond)
        return D


def test_the_exact_model_is_guided_by_the_closed_form() -> None:
    """Classes N(-+m, s^2): D_c = c + s^2 (x - c) / (s^2 + sigma^2), D_u their posterior mean."""
    m, s, w = 0.5, 0.05, 3.0
    x = torch.tensor([[-0.9], [0.1], [0.6], [2.0]], dtype=torch.float64)
    sigma_N, label = SIGMAS.double(), LABELS.labels_N
    assert label is not None
    variance = (s**2 + sigma_N**2)[:, None]
    means = torch.tensor([[-m, m]], dtype=torch.float64)
    D_NK = means + s**2 * (x - means) / variance
    p_NK = (-((x - means) ** 2) / (2 * variance)).softmax(1)
    D_u, D_c = (p_NK * D_NK).sum(1), D_NK[torch.arange(4), label]
    got = guided(exact(m), None, w).denoise(x, sigma_N, LABELS)[:, 0]
    torch.testing.assert_close(got, D_u + w * (D_c - D_u))


def test_both_halves_are_one_forward_and_rows_at_one_ask_no_guide() -> None:
    base = exact()
    counting = Counting(base.denoiser)
    x = torch.randn(4, 1)
    for strength, rows in ((Constant(2.0), [8]), (Constant(1.0), [4]), (Strength(2.0, 0.2, 2.0), [6])):
        counting.rows.clear()
        denoiser = GuidedDenoiser(counting, (Away(None, strength, True),))
        got = denoiser.denoise(x, SIGMAS, LABELS)
        assert counting.rows == rows
        w = (1 + strength.excess(SIGMAS))[:, None]
        D, G = (base.denoise(x, SIGMAS, cond) for cond in (LABELS, LABELS.null()))
        torch.testing.assert_close(got, G + w * (D - G))
        assert torch.equal(got[w[:, 0] == 1], D[w[:, 0] == 1])


def test_without_a_condition_there_is_nothing_to_be_guided_by() -> None:
    base, x = exact(), torch.randn(4, 1)
    for cond in (None, LABELS.null()):
        assert torch.equal(guided(base, None, 3.0).denoise(x, SIGMAS, cond), base.denoise(x, SIGMAS, cond))


def test_soft_labels_are_guided_too() -> None:
    base, x = exact(), torch.randn(4, 1)
    soft = Condition(weights_NK=torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0], [1.0, 0.0]]))
    got = guided(base, None, 2.0).denoise(x, SIGMAS, soft)
    torch.testing.assert_close(got, guided(base, None, 2.0).denoise(x, SIGMAS, LABELS))


def test_two_guidances_add_up_in_any_order() -> None:
    """D' = D + (w1 - 1)(D - D_u) + (w2 - 1)(D - G): each is measured from the unguided D."""
    base, other, x = exact(0.5), exact(0.3), torch.randn(4, 1)
    one = guided(guided(base, None, 3.0), other, Strength(1.5, low=0.2))
    two = guided(guided(base, other, Strength(1.5, low=0.2)), None, 3.0)
    D, U, G = (g.denoise(x, SIGMAS, c) for g, c in ((base, LABELS), (base, LABELS.null()), (other, LABELS)))
    w2 = torch.where(SIGMAS >= 0.2, 1.5, 1.0)[:, None]
    for stacked in (one, two):
        torch.testing.assert_close(stacked.denoise(x, SIGMAS, LABELS), D + 2 * (D - U) + (w2 - 1) * (D - G))
    assert (one.guidance, two.guidance) == (1.5, 3.0)
    assert torch.equal(
        one.with_guidance(1.0).denoise(x, SIGMAS, LABELS), guided(base, None, 3.0).denoise(x, SIGMAS, LABELS)
    )


def toy(**options: Any) -> Any:
    return genplug.load("toy", preset="none", num_classes=2, width=16, **options)


def test_scale_one_is_the_base_to_the_last_bit() -> None:
    base, seeds_N = toy(unconditional=True), torch.arange(5)
    cond = base.conditions(seeds_N)
    for guide in (None, toy(depth=1)):
        assert torch.equal(guided(base, guide, 1.0).sample(seeds_N, cond), base.sample(seeds_N, cond))
        assert not torch.equal(guided(base, guide, 2.0).sample(seeds_N, cond), base.sample(seeds_N, cond))


def test_weights_of_all_guides_are_kept_apart() -> None:
    base = toy()
    stacked = guided(guided(base, toy(depth=1), 2.0), toy(depth=2), 2.0)
    state = {name: value.clone() for name, value in stacked.state_dict().items()}
    prefixes = {name.split(".")[0] for name in state if name.startswith("guide")}
    assert prefixes == {"guide", "guide2"}
    stacked.load_state_dict({name: value + 1 for name, value in state.items()})
    changed = stacked.state_dict()
    assert all(torch.equal(changed[name], value + 1) for name, value in state.items())


SETTINGS: dict[str, Any] = {
    "generator.preset": "none",
    "generator.num_classes": 2,
    "generator.width": 16,
    "generator.depth": 2,
    "generator.sampler.steps": 4,
    "dataset.classes": "both",
    "dataset.train": 200,
    "dataset.held_out": 200,
    "run.samples": 40,
    "run.blocks": 1,
    "run.batch_size": 20,
    "run.extractors": ["pixels"],
    "run.evaluators": ["frechet"],
    "objective.train.steps": 30,
    "objective.train.batch_size": 32,
    "objective.train.checkpoint_seconds": 0,
}


def run_cfg(out: Path, objectives: list[str], **options: Any) -> dict[str, Any]:
    settings = SETTINGS | {key.replace("__", "."): value for key, value in options.items()}
    resolved = genplug.resolve(
        generator="toy", objectives=objectives, dataset="fractal", sets=list(settings.items())
    )
    return genplug.run(resolved=resolved, out=out).metrics


def test_a_copy_learns_to_do_without_labels_and_the_base_stays_as_it_is(tmp_path: Path) -> None:
    """At scale 1 the result is the base; the copy's null branch alone is what guides."""
    run_cfg(tmp_path / "x", ["cfg"], objective__scale=2.0)
    base, improved = (genplug.load(f"{tmp_path}/x:{role}") for role in ("base", "improved"))
    seeds_N = torch.arange(6)
    cond, x = base.conditions(seeds_N), torch.randn(6, 2)
    assert torch.equal(improved.with_guidance(1.0).sample(seeds_N, cond), base.sample(seeds_N, cond))
    (push,) = improved.denoiser.pushes
    assert "unconditional" in push.guide.provides
    sigma_N = torch.full((6,), 0.4)
    D, G = base.denoise(x, sigma_N, cond), push.guide.denoise(x, sigma_N, cond.null())
    torch.testing.assert_close(improved.denoise(x, sigma_N, cond), G + 2 * (D - G))
    assert improved.provides == {"denoiser", "class-conditional", "guided"}


def test_a_generator_with_the_branch_is_its_own_guide_and_nothing_is_trained(tmp_path: Path) -> None:
    run_cfg(tmp_path / "x", ["cfg"], generator__unconditional=True)
    assert not list((tmp_path / "x" / "stages").glob("shared/*"))
    assert genplug.load(f"{tmp_path}/x:improved").denoiser.pushes[0].guide is None


def test_a_scale_that_diverges_stops_the_run_with_step_and_scale(tmp_path: Path, capsys: Any) -> None:
    """One line and exit code 2; the samples of the base are kept, and a lower scale finishes."""
    from genplug_cli.main import execute

    sets = SETTINGS | {"generator.unconditional": True, "objective.scale": 1e39}
    words = ["run", "-g", "toy", "-o", "cfg", "--dataset", "fractal", "--quiet", "--out", str(tmp_path / "x")]
    words += [word for k, v in sets.items() for word in ("--set", f"{k}={json.dumps(v)}")]
    assert execute(words) == 2
    error = [line for line in capsys.readouterr().err.splitlines() if not line.startswith("Warning")]
    assert len(error) == 1
    assert "20 of 20 samples are not finite, the first (seed " in error[0]
    assert "of 4 (sigma " in error[0]
    assert "at guidance 1e+39; lower the scale" in error[0]
    assert len(list((tmp_path / "x" / "samples" / "base").rglob("*.npz"))) == 2


def test_the_step_at_which_a_sample_breaks_is_found() -> None:
    """Guidance in an interval that holds the third level alone breaks there, in every row."""
    base = toy(sampler__steps=8)
    third = float(base.sampler.sigmas(base.noise)[2])
    broken = guided(base, toy(depth=1), Strength(1e38, third * 0.99, third * 1.01))
    with pytest.raises(NonFiniteError, match=rf"from step 3 of 8 \(sigma {third:.3g}\), at guidance 1e\+38;"):
        broken.sample(torch.arange(4), base.conditions(torch.arange(4)))


def test_what_cannot_be_guided_is_refused_before_any_work() -> None:
    sets = [("generator.num_classes", 0), ("generator.preset", "none")]
    with pytest.raises(CapabilityError, match="objective 'cfg' needs denoiser, class-conditional"):
        genplug.resolve(generator="toy", objectives=["cfg"], dataset="fractal", sets=sets)
    with pytest.raises(CapabilityError, match=r"needs .*unconditional\|null-label"):
        genplug.resolve(generator="fake-points", objectives=["cfg"], dataset="fake-rings")
    with pytest.raises(CapabilityError, match="guide 'fake-points' lacks unconditional"):
        genplug.resolve(
            generator="fake-points",
            objectives=["cfg"],
            dataset="fake-rings",
            sets=[("objective.guide", "fake-points")],
        )
    with pytest.raises(CapabilityError, match="no trained branch without condition"):
        guided(toy(), None, 2.0)
