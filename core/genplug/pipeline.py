"""`genplug.run`: improve a generator, sample before and after with the same seeds, judge, report."""

from __future__ import annotations

import dataclasses
import json
import platform
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from genplug.blocks import drawn, over_blocks
from genplug.chains import Step, models, steps
from genplug.evaluation import check_alike
from genplug.judging import judge
from genplug.loading import build, identity, step_directory
from genplug.locks import claimed
from genplug.log import Log, Silent
from genplug.matching import check_data, check_splits, takes
from genplug.parts import Part, Resolved
from genplug.protocols import EvalInputs, Generator, Score
from genplug.resolving import default_directory, resolve
from genplug.rundirectory import prepare
from genplug.runtime import Run, make_accelerator
from genplug.samplesets import Quantised, SampleSet, subsample
from genplug.sampling import sample_stage
from genplug.stages import strict_json, write_json
from genplug.weights import require

KEPT = 4  # generators in memory beside the base; a sweep has up to 64


@dataclass(frozen=True)
class Result:
    """What a run leaves: its directory and `metrics.json` as a dictionary."""

    directory: Path
    metrics: dict[str, Any]


def run(
    generator: str | None = None,
    objectives: Sequence[str] | None = None,
    *,
    out: str | Path | None = None,
    force: bool = False,
    log: Log | None = None,
    config: Mapping[str, Any] | None = None,
    resolved: Resolved | None = None,
    sweep: str | None = None,
    **options: Any,
) -> Result:
    """Run the whole pipeline; the same call with the same `out` continues where it stopped.

    Options are configuration values by dotted key with `__` for dots: `run__seed=1`,
    `objective__alpha=2.0`. `config` is the content of a `run.toml`. `sweep` makes one model per value
    of an option: `objective.scale=1:4:0.5` or `objective.scale=1,2,5`.
    """
    if resolved is None:
        sets = [(key.replace("__", "."), value) for key, value in options.items()]
        resolved = resolve(generator=generator, objectives=objectives, config=config, sets=sets, sweep=sweep)
    directory = Path(out) if out is not None else default_directory(resolved)
    require(resolved)
    worker = Run(
        make_accelerator(resolved.run, resolved.runtime),
        resolved.run,
        directory,
        log or Silent(),
        resolved.catalog,
        resolved,
        {part.head: part for part in resolved.all_extractors},
    )
    check_data(worker, resolved)
    check_splits(worker, resolved)
    with claimed(
        worker, directory, lambda: prepare(directory, resolved, force), "wait for it or choose another --out"
    ):
        return Pipeline(worker, resolved).run()


class Pipeline:
    """The steps of one run, each a stage."""

    def __init__(self, worker: Run, resolved: Resolved) -> None:
        self.worker, self.resolved = worker, resolved
        self.settings, self.steps = resolved.run, steps(resolved)
        self.base = build(worker, resolved.generator)
        self.keys: dict[str | None, Mapping[str, Any]] = {
            None: identity(resolved.generator, self.base, resolved.generator.entry.package.version)
        }
        self._kept: dict[str, Generator] = {}

    def run(self) -> Result:
        """Do everything that is not done yet."""
        started = time.monotonic()
        self.worker.event("start", version=metadata.version("genplug"))
        for step in self.steps.values():
            self.make(step)
        found = models(self.resolved)
        samples = {name: self.sample(name, step) for name, step in found.items()}
        judged = {name: self.score(name, blocks, found[name]) for name, blocks in samples.items()}
        judged["floor"] = self.score_floor()
        scores = {name: over_blocks(blocks) for name, blocks in judged.items()}
        metrics = {**scores, "run": strict_json(self.facts(found))}
        self.worker.event("finish", seconds=round(time.monotonic() - started, 1))
        directory = self.worker.directory
        assert directory is not None
        if self.worker.is_main:
            write_json(directory / "metrics.json", metrics)
            from genplug.report import write_report

            plots = {
                f"{name}: {title}": plot
                for name, blocks in judged.items()
                for title, plot in drawn(blocks[0]).items()
            }
            write_report(self.worker, metrics, {name: blocks[0] for name, blocks in samples.items()}, plots)
        self.worker.wait()
        return Result(directory, metrics)

    def make(self, step: Step) -> None:
        """Apply one objective, or make its control, and save the result."""
        part, control = step.part, {"control": True} if step.control else {}
        key = {"from": self.keys[step.after], "objective": part.record(), **control}
        self.keys[step.name] = {**key, "version": part.entry.package.version}

        def work(partial: Path) -> None:
            objective = part.config.build(self.worker)
            scope = self.worker.within(f"stages/{step.name}", self.keys[step.name])
            make = objective.control if step.control else objective.apply
            result = make(self.generator(step.after), scope)
            if self.worker.is_main:
                objective.save(result, partial)

        self.worker.stage(step_directory(Path(), step.name).as_posix(), self.keys[step.name], work)

    def generator(self, step: str | None) -> Generator:
        """Return what a step made, as its saved result gives it; the base for none."""
        if step is None:
            return self.base
        if step not in self._kept:
            self._kept[step] = self._restore(step)
            for oldest in list(self._kept)[:-KEPT]:
                del self._kept[oldest]
        return self._kept[step]

    def _restore(self, name: str) -> Generator:
        step = self.steps[name]
        assert self.worker.directory is not None
        saved = step_directory(self.worker.directory, name)
        objective = step.part.config.build(self.worker)
        restored: Generator = objective.restore(self.generator(step.after), saved, self.worker)
        return restored

    def sample(self, name: str, step: str | None) -> list[SampleSet]:
        """Sample every seed block; the same seeds for every generator of the run."""
        n, generator, key = self.settings.samples, self.generator(step), self.keys[step]
        return [
            sample_stage(
                self.worker,
                f"samples/{name}/block-{block}",
                generator,
                self.worker.seeds("report", n, block),
                key,
                f"{name}, block {block + 1} of {self.settings.blocks}",
            )
            for block in range(self.settings.blocks)
        ]

    def score(self, name: str, blocks: Sequence[SampleSet], step: str | None) -> list[dict[str, Score]]:
        """Judge every block of one generator."""
        found, generator = [], self.generator(step)
        for block, samples in enumerate(blocks):
            quantised = self.quantised(samples)
            inputs = EvalInputs(quantised, self.held_out, self.train, None, generator, self.base, block=block)
            check_alike(inputs, self.worker)
            found.append(self._block(f"{name}/block-{block}", inputs, self.seed_text(block), self.keys[step]))
        return found

    def score_floor(self) -> list[dict[str, Score]]:
        """Judge real data as if it were generated: what is left of a score at its best.

        Training images stand in for generated ones, so that held-out images judge both alike;
        where an evaluator looks at the training data itself they would find themselves, and
        held-out images stand in.
        """
        without = [part for part in self.resolved.evaluators if not takes(part, "generators")]
        against_train = [part for part in without if takes(part, "train")]
        alone = [part for part in without if not takes(part, "train")]
        found = []
        for block in range(self.settings.blocks):
            first_seed = int(self.worker.seeds("report", 1, block)[0])
            scores: dict[str, Score] = {}
            chosen = (("train", alone, self.train), ("held-out", against_train, self.held_out))
            for split, evaluators, real in chosen:
                drawn = subsample(real, self.settings.samples, first_seed)
                inputs = EvalInputs(drawn, self.held_out, self.train)
                scores |= self._block(f"floor/{split}/block-{block}", inputs, "real", {}, evaluators)
            found.append(scores)
        return found

    def _block(
        self,
        name: str,
        inputs: EvalInputs,
        seeds: str,
        key: Mapping[str, Any],
        evaluators: Sequence[Part] | None = None,
    ) -> dict[str, Score]:
        """Judge one block, once: scores are kept as a stage."""
        parts = self.resolved.evaluators if evaluators is None else evaluators
        extractors = [part.reference for part in self.resolved.extractors]
        data = {
            "samples": inputs.samples.fingerprint,
            "held_out": self.held_out.fingerprint,
            "train": self.train.fingerprint,
        }
        judges = {part.name: {**part.record(), "version": part.entry.package.version} for part in parts}
        fingerprints = [self.worker.extractor(extractor).fingerprint for extractor in extractors]

        def work(partial: Path) -> None:
            scores = judge(self.worker, parts, extractors, inputs)
            if self.worker.is_main:
                named = {
                    n: dataclasses.asdict(dataclasses.replace(s, seeds=seeds)) for n, s in scores.items()
                }
                write_json(partial / "scores.json", named)

        whole_key = {"data": data, "evaluators": judges, "extractors": fingerprints, **key}
        directory = self.worker.stage(f"stages/scores/{name}", whole_key, work)
        stored = json.loads((directory / "scores.json").read_text(encoding="utf-8"))
        return {n: Score(**values) for n, values in stored.items()}

    def seed_text(self, block: int) -> str:
        """Name the seeds of a block."""
        seeds = self.worker.seeds("report", self.settings.samples, block)
        return f"{int(seeds[0])}-{int(seeds[-1])}"

    @property
    def held_out(self) -> SampleSet:
        """Real data that no training saw."""
        return self.worker.dataset("held-out")

    @property
    def train(self) -> SampleSet:
        """Real data that training saw."""
        return self.worker.dataset("train")

    def quantised(self, samples: SampleSet) -> SampleSet:
        """Round generated images to the grey levels that real ones have: levels must not tell them apart."""
        levels = getattr(self.worker.data, "levels", 256)
        return Quantised(samples, levels) if self.settings.quantise and levels < 256 else samples

    def facts(self, found: Iterable[str]) -> dict[str, Any]:
        """Return what was run, with versions and seeds."""
        levels = getattr(self.worker.data, "levels", 256)
        packages = ("genplug", "torch", "accelerate", "numpy")
        return {
            "generator": self.resolved.generator.record(),
            "objectives": [part.record() for part in self.resolved.objectives],
            "dataset": self.resolved.dataset.record(),
            "generators": list(found),
            **({"sweep": self.resolved.sweep.model_dump(mode="json")} if self.resolved.sweep else {}),
            "seed": self.settings.seed,
            "seeds": [self.seed_text(block) for block in range(self.settings.blocks)],
            "classes": self.settings.classes,
            "quantised_to_levels": levels if self.settings.quantise and levels < 256 else None,
            "versions": {name: metadata.version(name) for name in packages}
            | {"python": platform.python_version()},
            "plugins": sorted({str(entry.package) for entry in self.resolved.catalog}),
        }
