"""What an objective promises: a better generator that can be saved, restored and done again."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch

from genplug.checkpoints import digest
from genplug.config import Needs, fields
from genplug.errors import GenplugError
from genplug.matching import provided, said
from genplug.parts import Part
from genplug.registry import catalog
from genplug.runtime import Run
from genplug.specs import GeneratorSpec, ObjectiveSpec, unmet
from genplug.testing.conditional import keeps_guidance
from genplug.testing.suite import ComponentSuite
from genplug.testing.workplace import (
    Given,
    as_reference,
    close,
    drawn,
    entry_of,
    fresh,
    make_run,
    resolve_part,
    sample_data,
)

SEEDS = torch.tensor([3, 0, 7, 12])


class ObjectiveSuite(ComponentSuite):
    """Promises of an objective.

    `generator` names the installed generator that it is tried on (default: the first that fits),
    `generator_options` are its options on top of its `tiny` ones.
    """

    kind: ClassVar[str] = "objective"
    generator: ClassVar[str] = ""
    generator_options: ClassVar[Mapping[str, Any]] = {}

    @pytest.fixture
    def base_part(self) -> Part:
        """Return the configured generator that the objective is tried on."""
        spec = entry_of(self.kind, self.name).spec
        assert isinstance(spec, ObjectiveSpec)
        if self.generator:
            return resolve_part("generator", self.generator, self.generator_options)
        return _fitting(spec, self._needs(spec))

    def _needs(self, spec: ObjectiveSpec) -> tuple[str, ...]:
        """Return what it needs as configured; what every configuration needs if it names a generator."""
        try:
            return said(resolve_part(self.kind, self.name, self.options), "needs")
        except GenplugError:
            return spec.needs

    @pytest.fixture
    def given(self, base_part: Part, tmp_path: Path) -> Mapping[str, Any]:
        """Return the options, with the generator itself where a second one must be named."""
        model = entry_of(self.kind, self.name).config_model()
        needed = [(key, info) for key, info in fields(model) if info.is_required()]
        named = [key for key, info in needed if any(isinstance(m, Needs) for m in info.metadata)]
        missing = [key for key in named if key not in self.options]
        second = as_reference(base_part, tmp_path / "second") if missing else ""
        return {**dict.fromkeys(missing, second), **self.options}

    @pytest.fixture
    def base(self, base_part: Part) -> Any:
        """Return the generator that the objective is tried on."""
        return fresh(base_part)

    @pytest.fixture
    def data(self, base: Any) -> Given:
        """Return data that fit the generator."""
        return sample_data(base)

    @pytest.fixture
    def work(self, tmp_path: Path, base_part: Part, data: Given) -> Run:
        """Return the run that the objective works in."""
        return make_run(tmp_path / "run", base_part, data)

    def test_the_result(self, part: Part, base: Any, work: Run) -> None:
        """The result is a generator of the same modality that provides what the spec says."""
        spec = part.entry.spec
        assert isinstance(spec, ObjectiveSpec)
        result = part.config.build(work).apply(base, work)
        expected = base.provides - set(said(part, "removes")) | set(said(part, "adds"))
        assert result.provides == expected, f"it provides {set(result.provides)}, not {set(expected)}"
        assert result.modality == base.modality
        samples, before = drawn(result, SEEDS), drawn(base, SEEDS)
        assert samples.shape == before.shape, f"samples have shape {tuple(samples.shape)}"
        assert samples.dtype == before.dtype, f"samples are {samples.dtype}"
        assert bool(samples.float().isfinite().all()), "samples are not finite"

    def test_its_guidance(self, part: Part, base: Any, work: Run) -> None:
        """If the result is guided, its scale can be changed, and other scales give other samples."""
        if "guided" not in said(part, "adds"):
            pytest.skip("the result is not guided")
        keeps_guidance(part.config.build(work).apply(base, work))

    def test_its_control(
        self, part: Part, base: Any, base_part: Part, data: Given, work: Run, tmp_path: Path
    ) -> None:
        """It makes a control if its spec says so, which is saved and restored as its result is."""
        spec, objective = part.entry.spec, part.config.build(work)
        assert isinstance(spec, ObjectiveSpec)
        has = hasattr(objective, "control")
        assert has == spec.control, (
            f"control is {spec.control} in its spec, the method is {'' * has or 'not '}there"
        )
        if not has:
            pytest.skip("makes no control")
        weights = digest(base.state_dict())
        control = objective.control(base, work)
        assert digest(base.state_dict()) == weights, "the base has other weights"
        samples = drawn(control, SEEDS)
        assert samples.shape == drawn(base, SEEDS).shape, f"samples have shape {tuple(samples.shape)}"
        assert bool(samples.float().isfinite().all()), "samples are not finite"
        (tmp_path / "control").mkdir()
        objective.save(control, tmp_path / "control")
        other = make_run(tmp_path / "elsewhere", base_part, data)
        restored = part.config.build(other).restore(fresh(base_part), tmp_path / "control", other)
        assert torch.equal(drawn(restored, SEEDS), samples), "other samples after restoring"

    def test_the_base_is_left_alone(self, part: Part, base: Any, work: Run) -> None:
        """The generator that it is given keeps its weights and its samples."""
        weights, samples = digest(base.state_dict()), drawn(base, SEEDS)
        part.config.build(work).apply(base, work)
        assert digest(base.state_dict()) == weights, "the base has other weights"
        assert torch.equal(drawn(base, SEEDS), samples), "the base gives other samples"

    def test_a_sample_depends_on_its_seed_alone(self, part: Part, base: Any, work: Run) -> None:
        """Samples of the result depend on their seed alone, for batches of one and four."""
        result = part.config.build(work).apply(base, work)
        if "batch-coupled" in result.provides:
            pytest.skip("the result is batch-coupled")
        alone = torch.cat([drawn(result, seed) for seed in SEEDS.split(1)])
        assert close(alone, drawn(result, SEEDS))

    def test_saved_and_restored(
        self, part: Part, base: Any, base_part: Part, data: Given, work: Run, tmp_path: Path
    ) -> None:
        """Saved and restored on a new copy of the base, the result gives equal samples."""
        objective = part.config.build(work)
        result = objective.apply(base, work)
        (tmp_path / "saved").mkdir()
        objective.save(result, tmp_path / "saved")
        pickles = [p.name for p in (tmp_path / "saved").rglob("*") if p.suffix in (".pkl", ".pt", ".pth")]
        assert not pickles, f"it saves {pickles}: weights belong into safetensors"
        other = make_run(tmp_path / "elsewhere", base_part, data)
        restored = part.config.build(other).restore(fresh(base_part), tmp_path / "saved", other)
        assert restored.provides == result.provides
        assert torch.equal(drawn(restored, SEEDS), drawn(result, SEEDS)), "other samples after restoring"

    def test_done_again(self, part: Part, base: Any, base_part: Part, data: Given, tmp_path: Path) -> None:
        """The same work in another place, and a second time in the same place, gives the same result."""
        samples = []
        for place in ("one", "two", "one"):
            work = make_run(tmp_path / place, base_part, data)
            samples.append(drawn(part.config.build(work).apply(base, work), SEEDS))
        assert close(samples[1], samples[0]), "another place gives other samples"
        assert close(samples[2], samples[0]), "a second time gives other samples"

    def test_cost(self, part: Part) -> None:
        """What it says of its cost is plain data."""
        cost = getattr(part.config, "cost", None)
        if cost is None:
            pytest.skip("does not tell its cost")
        assert all(isinstance(v, (int, float, str)) for v in cost().values()), f"{cost()}"


def _fitting(spec: ObjectiveSpec, needs: tuple[str, ...]) -> Part:
    """Return the first installed generator, in its tiny form, that meets an objective's needs."""
    for name, entry in sorted(catalog().entries["generator"].items()):
        other = entry.spec
        assert isinstance(other, GeneratorSpec)
        if unmet(needs, frozenset(other.provides)) or spec.modality not in ("any", other.modality):
            continue
        try:
            part = resolve_part("generator", name, {})
        except GenplugError:
            continue
        if not unmet(needs, provided(part)):
            return part
    pytest.skip(f"no installed generator provides {', '.join(needs)}")
