"""The flow learns what it must (a shift, the map between two Gaussians) and runs on every kind of base."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import genplug
from genplug.condition import Condition
from genplug.errors import CapabilityError, DataError, NonFiniteError, WeightsError
from genplug.random import NoiseSource
from genplug.resolving import resolve
from genplug.samplesets import ArraySet
from genplug.testing.workplace import Given, make_run, resolve_part
from genplug_flow.config import FlowConfig
from genplug_flow.generator import FlowedGenerator
from genplug_flow.objective import Flow
from genplug_flow.solvers import Dopri5
from genplug_flow.velocity import Sizes

DATA = {"fake-points": "fake-rings", "fake-latent": "fake-tiles", "fake-tokens": "fake-tiles"}
SMALL: dict[str, Any] = {
    "run.samples": 40,
    "run.blocks": 1,
    "run.batch_size": 16,
    "objective.train.steps": 8,
    "objective.train.batch_size": 16,
    "objective.k": 3,
    "objective.steps": 4,
}


class Grid:
    """A black box: places far from each other, and a class for each half of them."""

    modality, size, provides = "points", None, frozenset[str]()

    def __init__(self, classes: int = 0) -> None:
        self.classes = classes

    def sample(self, seeds_N: Tensor, cond: Condition | None = None) -> Tensor:
        return torch.stack([seeds_N % 4, seeds_N // 4 % 4], 1).float() - 1.5

    def conditions(self, seeds_N: Tensor, policy: str = "balanced") -> Condition | None:
        return Condition(labels_N=seeds_N % self.classes) if self.classes else None

    def state_dict(self) -> dict[str, Tensor]:
        return {}


class Line(Grid):
    """Standard normal numbers."""

    def sample(self, seeds_N: Tensor, cond: Condition | None = None) -> Tensor:
        return NoiseSource(seeds_N).normal((len(seeds_N), 1), "number")


def flowed(base: Any, real: ArraySet, directory: Path, **options: Any) -> FlowedGenerator:
    """Train a flow on real points."""
    train = {"steps": 200, "batch_size": 64, "lr": 1e-2, "cooldown": 1.0}
    mlp = {"width": 32, "depth": 2, "octaves": 0}
    config = FlowConfig.model_validate({"train": train, "mlp": mlp, "k": 1, **options})
    run = make_run(directory, resolve_part("generator", "fake-points", {}), Given({"train": real}), batch=64)
    return Flow(config).apply(base, run)


def test_a_constant_shift_is_learnt(tmp_path: Path) -> None:
    """Every place has one neighbour, 0.2 further right: v = (0.2, 0) for all x and t."""
    seeds_N = torch.arange(64)
    real = ArraySet(Grid().sample(seeds_N) + torch.tensor([0.2, 0.0]))
    result = flowed(Grid(), real, tmp_path, solver="dopri5")
    moved = result.sample(seeds_N) - Grid().sample(seeds_N)
    assert torch.allclose(moved, torch.tensor([0.2, 0.0]).expand(64, 2), atol=0.02)


def test_classes_are_told_apart(tmp_path: Path) -> None:
    """The same place moves right in class 0 and left in class 1."""
    places, labels = Grid().sample(torch.arange(32) // 2), torch.arange(32) % 2
    shift = torch.stack([0.2 - 0.4 * labels, torch.zeros(32)], 1)
    result = flowed(Grid(2), ArraySet(places + shift, labels), tmp_path, pool=64)
    x = torch.zeros(2, 2)
    moved = result.move(x, Condition(labels_N=torch.tensor([0, 1]))).x
    assert float(moved[0, 0]) == pytest.approx(0.2, abs=0.05)
    assert float(moved[1, 0]) == pytest.approx(-0.2, abs=0.05)
    soft = result.move(x[:1], Condition(weights_NK=torch.tensor([[1.0, 0.0]]))).x
    assert torch.allclose(soft, moved[:1])


def test_random_targets_carry_one_gaussian_to_the_other(tmp_path: Path) -> None:
    """Closed form: for independent pairs of N(0, 1) and N(m, s^2) on a line the flow is x -> m + s x.

    For E[y - x | x_t] is linear in x_t and the flow of a linear field is monotone.
    """
    m, s = 1.0, 0.5
    real = ArraySet(m + s * NoiseSource(torch.arange(4000) + 9_000_000).normal((4000, 1), "real"))
    train = {"steps": 300, "batch_size": 256, "lr": 1e-2, "cooldown": 1.0}
    result = flowed(Line(), real, tmp_path, target="random", solver="heun", train=train)
    x = torch.tensor([[-1.0], [0.0], [1.0]])
    assert torch.allclose(result.move(x).x, m + s * x, atol=0.08)


def test_the_velocity_of_gaussians_is_the_closed_form_that_dopri5_integrates() -> None:
    """v(x, t) = m + (t s^2 - (1 - t)) / ((1 - t)^2 + t^2 s^2) (x - t m) ends at m + s x."""
    m, s = 1.0, 0.5

    def velocity(x: Tensor, t_N: Tensor, rows_N: Tensor) -> Tensor:
        t = t_N[:, None]
        return m + (t * s**2 - (1 - t)) / ((1 - t) ** 2 + t**2 * s**2) * (x - t * m)

    x = torch.linspace(-2, 2, 9)[:, None]
    assert torch.allclose(Dopri5().solve(velocity, x).x, m + s * x, atol=1e-4)


def resolved(generator: str = "fake-points", **changes: Any) -> Any:
    settings = SMALL | {key.replace("__", "."): value for key, value in changes.items()}
    return resolve(
        generator=generator,
        objectives=["flow"],
        dataset=DATA[generator],
        extractors=["fake-mean"],
        evaluators=["fake-gap"],
        sets=list(settings.items()),
    )


@pytest.mark.parametrize("generator", DATA)
def test_every_kind_of_generator_is_improved(generator: str, tmp_path: Path) -> None:
    """A denoiser of points, one of latents, and tokens, which are moved as pixels."""
    steps = {"objective__train__steps": 40, "objective__train__lr": 3e-3}
    out = tmp_path / "x"
    metrics = genplug.run(resolved=resolved(generator, **steps, run__control=True), out=out).metrics
    base, improved = (metrics[model]["gap-fake-mean"]["value"] for model in ("base", "improved"))
    assert improved < base
    assert "control" in metrics
    model = genplug.load(f"{out}:improved")
    assert isinstance(model, FlowedGenerator)
    assert not model.provides & {"denoiser", "likelihood", "trainable", "unconditional"}
    assert (
        model.x_shape == {"fake-points": (2,), "fake-latent": (4, 2, 2), "fake-tokens": (1, 4, 4)}[generator]
    )
    seeds_N = torch.arange(4)
    state, other = model.state_dict(), genplug.load(f"{out}:improved")
    other.load_state_dict(state)
    cond = model.conditions(seeds_N)
    assert torch.equal(other.sample(seeds_N, cond), model.sample(seeds_N, cond))
    with pytest.raises(WeightsError, match="extra other"):
        other.load_state_dict({**state, "other": torch.zeros(1)})


def test_an_untrained_flow_leaves_samples_where_they_are() -> None:
    for shape in ((2,), (3, 8, 8)):
        velocity = Sizes.of(FlowConfig(), shape, 2).build()
        x, weights = torch.randn(3, *shape), torch.eye(2)[[0, 1, 0]]
        assert torch.equal(velocity(x, torch.rand(3), weights), torch.zeros_like(x))


@pytest.mark.parametrize(
    ("shape", "mult"),
    [((1, 8, 8), [1, 2]), ((1, 28, 28), [1, 2]), ((3, 32, 32), [1, 2, 2, 2]), ((4, 2, 2), [1])],
)
def test_the_network_goes_by_the_size_of_the_image(shape: tuple[int, ...], mult: list[int]) -> None:
    assert Sizes.of(FlowConfig(), shape, 0).options["channel_mult"] == mult


def test_the_published_network_has_its_published_size() -> None:
    """35.75M parameters: the CIFAR-10 network of the flow library that the paper cites."""
    part = resolve_part("objective", "flow", {"preset": "flow.cifar10-flow"})
    assert isinstance(part.config, FlowConfig)
    with torch.device("meta"):
        network = Sizes.of(part.config, (3, 32, 32), 0).build()
    assert sum(p.numel() for p in network.parameters()) == 35_746_307


def test_a_trained_flow_is_used_again_and_a_flow_follows_a_flow(tmp_path: Path) -> None:
    first = genplug.run(resolved=resolved(), out=tmp_path / "a")
    saved = tmp_path / "a/generator/1-flow"
    genplug.run(resolved=resolved(objective__trained=str(saved)), out=tmp_path / "b")
    a, b = (genplug.load(f"{tmp_path / name}:improved") for name in ("a", "b"))
    seeds_N = torch.arange(4)
    assert torch.equal(a.sample(seeds_N, a.conditions(seeds_N)), b.sample(seeds_N, b.conditions(seeds_N)))
    twice = Flow(FlowConfig(trained=str(saved))).restore(a, saved, make_run(tmp_path / "c"))
    assert twice.sample(seeds_N, a.conditions(seeds_N)).shape == (4, 2)
    assert len(twice.state_dict()) == 2 * len(a.state_dict()) - len(genplug.load("fake-points").state_dict())
    assert json.loads((saved / "flow.json").read_text())["classes"] == 2
    assert first.metrics["improved"]
    with pytest.raises(WeightsError, match="holds no flow"):
        Flow(FlowConfig()).restore(a, tmp_path, make_run(tmp_path / "c"))


def test_scales_need_a_guided_base() -> None:
    with pytest.raises(CapabilityError, match="objective 'flow' needs guided"):
        resolved(objective__scales=[1.0, 2.0])


def test_scales_share_the_pool_equally(tmp_path: Path) -> None:
    class Scaled(Line):
        provides = frozenset({"guided"})
        guidance = 1.0

        def with_guidance(self, scale: float) -> Scaled:
            other = Scaled()
            other.guidance = scale
            return other

        def sample(self, seeds_N: Tensor, cond: Condition | None = None) -> Tensor:
            return torch.full((len(seeds_N), 1), self.guidance)

    real = ArraySet(torch.randn(20, 1, generator=torch.Generator().manual_seed(0)))
    train = {"steps": 2, "batch_size": 8}
    result = flowed(Scaled(), real, tmp_path, scales=[1.0, 2.0, 3.0], pool=10, train=train)
    shares = [
        len(genplug.checkpoints.load_weights(p / "batch-000000.safetensors")["x"])
        for p in sorted(tmp_path.glob("pool-*"))
    ]
    assert shares == [3, 3, 4]
    assert result.provides == {"guided"}
    assert result.with_guidance(2.5).guidance == 2.5


@pytest.mark.parametrize(("solver", "lr"), [("dopri5", 1e4), ("midpoint", 1e6)])
def test_a_flow_that_diverges_stops_the_run_and_names_a_seed(tmp_path: Path, solver: str, lr: float) -> None:
    real = ArraySet(torch.randn(20, 1, generator=torch.Generator().manual_seed(0)))
    train = {"steps": 2, "batch_size": 8}
    result = flowed(Line(), real, tmp_path, pool=20, train=train, solver=solver)
    with torch.no_grad():
        for parameter in result.velocity.parameters():
            parameter.mul_(math.inf).nan_to_num_(nan=lr)
    with pytest.raises(NonFiniteError, match=r"2 of 2 samples are not finite, the first .* after the flow"):
        result.sample(torch.tensor([7, 8]))


def test_real_samples_of_another_shape_are_refused(tmp_path: Path) -> None:
    real = ArraySet(torch.randn(20, 3))
    with pytest.raises(DataError, match=r"shape \(2,\), those of samples \(3,\)"):
        flowed(Grid(), real, tmp_path)


def test_more_than_a_finite_generator_has_is_refused(tmp_path: Path) -> None:
    class Short(Grid):
        size = 5

    real = ArraySet(torch.randn(20, 2))
    with pytest.raises(DataError, match=r"objective\.pool = 9 asks for more than the 5"):
        flowed(Short(), real, tmp_path, pool=9)
    assert flowed(Short(), real, tmp_path, train={"steps": 1, "batch_size": 4}).size == 5


def test_a_flow_trained_with_labels_asks_for_them(tmp_path: Path) -> None:
    genplug.run(resolved=resolved(), out=tmp_path / "a")
    model = genplug.load(f"{tmp_path}/a:improved")
    with pytest.raises(CapabilityError, match="labels 0 to 1"):
        model.move(torch.zeros(1, 2), Condition(labels_N=torch.tensor([2])))
    with pytest.raises(CapabilityError, match="trained with labels"):
        model.move(torch.zeros(1, 2), None)
