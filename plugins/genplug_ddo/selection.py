"""How a round's candidates are judged: on selection seeds, against training data."""

from __future__ import annotations

import math
from typing import Any

from genplug.checkpoints import digest
from genplug.errors import ConfigError, NonFiniteError
from genplug.judging import judge
from genplug.parts import Part
from genplug.protocols import EvalInputs
from genplug.runtime import Run
from genplug.samplesets import Quantised, SampleSet
from genplug.sampling import sample_stage
from genplug.specs import EvaluatorSpec
from genplug_ddo.config import DdoConfig
from genplug_irs.rejection import Gate


class Judge:
    """Scores candidates on selection seeds, against training data: the report sees neither."""

    def __init__(self, config: DdoConfig, run: Run) -> None:
        self.config, self.run = config, run
        entry = run.catalog.get("evaluator", config.select_evaluator)
        spec = entry.spec
        assert isinstance(spec, EvaluatorSpec)
        if config.select not in spec.scores:
            raise ConfigError(
                f"evaluator {spec.name!r} gives {', '.join(spec.scores)}, not {config.select!r}; "
                "set objective.select"
            )
        self.better, self.part = spec.scores[config.select], Part(entry, entry.config_model()())
        self.name = (
            f"{config.select}-{config.select_extractor}" if "features" in spec.inputs else config.select
        )
        self.gate = (
            Gate.of(run, config.reject, config.select_samples, config.select_extractor)
            if config.reject
            else None
        )
        self.worst = -math.inf if self.better == "higher" else math.inf

    def order(self, score: float) -> float:
        """Return a number that is lower for better scores."""
        if isinstance(self.better, (int, float)):
            return abs(score - self.better)
        return score if self.better == "lower" else -score

    def scores(self, generator: Any, label: str) -> tuple[float, ...]:
        """Return the selection score of every block."""
        blocks = range(self.config.select_blocks)
        if self._rejected(generator, label):
            return tuple(self.worst for _ in blocks)
        return tuple(self._score(generator, label, block) for block in blocks)

    def _rejected(self, generator: Any, label: str) -> bool:
        """Sample batch by batch on seeds of their own until the diversity that is asked for is ruled out."""
        if self.gate is None:
            return False
        try:
            test = self.gate(generator, label, block=self.config.select_blocks, prepare=self._quantised)
        except NonFiniteError as error:
            self.run.log.warn(f"{error}; the candidate is out")
            return True
        if test.verdict == "rejected":
            self.run.log.warn(
                f"candidate {label} is out: {test.duplicates} of its first {test.drawn} samples retrieve a "
                f"training image again; objective.reject = {self.config.reject:g} allows {test.allowed}"
            )
        return test.verdict == "rejected"

    def _score(self, generator: Any, label: str, block: int) -> float:
        seeds_N = self.run.seeds("select", self.config.select_samples, block)
        key = {"weights": digest(generator.state_dict())}
        name = f"select/{label.replace('/', '-')}-{block}"
        try:
            samples = sample_stage(self.run, name, generator, seeds_N, key, f"candidate {label}")
        except NonFiniteError as error:
            self.run.log.warn(f"{error}; the candidate is out")
            return self.worst
        train = self.run.dataset("train")
        inputs = EvalInputs(self._quantised(samples), held_out=train, train=train)
        found = judge(self.run, [self.part], [self.config.select_extractor], inputs)
        return found[self.name].value

    def _quantised(self, samples: SampleSet) -> SampleSet:
        levels = getattr(self.run.data, "levels", 256)
        return Quantised(samples, levels) if self.run.settings.quantise and levels < 256 else samples
