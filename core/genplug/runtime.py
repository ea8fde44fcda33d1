"""`Run`: what core hands to plugins while it works: device, data, seeds, stages, features, training."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs
from torch import Tensor

from genplug import extractors
from genplug import features as feature_cache
from genplug.config import Component, validate
from genplug.errors import ConfigError, DataError, RunDirectoryError
from genplug.log import Log, Silent
from genplug.protocols import Dataset, Extractor, Generator
from genplug.random import Purpose, seed_range
from genplug.registry import Catalog, catalog, one_line
from genplug.samplesets import SampleSet
from genplug.settings import RunSettings, RuntimeSettings
from genplug.stages import digest_of, run_stage

if TYPE_CHECKING:
    from genplug.config import TrainConfig
    from genplug.fit import Rows, Step
    from genplug.parts import Part, Resolved
    from genplug.snapshots import Fit


@dataclass
class Run:
    """One piece of work: a `genplug run`, or a lighter one made by `genplug.load` and `evaluate`.

    `directory` is None where nothing is stored; stages then are not available. `scope` is the
    folder inside it that stages of the current objective belong to, `key` what all of them
    depend on. `extractors` are the resolved ones, by their references without output.
    """

    accelerator: Accelerator
    settings: RunSettings = field(default_factory=RunSettings)
    directory: Path | None = None
    log: Log = field(default_factory=Silent)
    catalog: Catalog = field(default_factory=catalog)
    resolved: Resolved | None = None
    extractors: Mapping[str, Part] = field(default_factory=dict)
    scope: str = ""
    key: Mapping[str, Any] = field(default_factory=dict)
    _built: dict[str, Any] = field(default_factory=dict, repr=False)  # shared by all scopes

    @property
    def device(self) -> torch.device:
        """The device of this process."""
        device: torch.device = self.accelerator.device
        return device

    @property
    def seed(self) -> int:
        """The run's seed."""
        return self.settings.seed

    @property
    def is_main(self) -> bool:
        """True in the one process that writes and speaks."""
        return bool(self.accelerator.is_main_process)

    def wait(self) -> None:
        """Wait until every process is here."""
        self.accelerator.wait_for_everyone()

    def all(self, value: bool) -> bool:
        """Return whether a value is true on every process."""
        if self.accelerator.num_processes == 1:
            return value
        from accelerate.utils import gather_object

        return all(gather_object([value]))

    def seeds(self, purpose: Purpose, n: int, block: int = 0) -> Tensor:
        """Return n seeds, int64 N, that no other purpose or block of any run shares."""
        return seed_range(self.seed, purpose, n, block)

    def within(self, scope: str, key: Mapping[str, Any]) -> Run:
        """Return this run with its stages in a folder and dependent on `key`."""
        joined = f"{self.scope}/{scope}" if self.scope else scope
        return dataclasses.replace(self, scope=joined, key={"outer": self.key, **key})

    def shared(self, name: str, key: Mapping[str, Any]) -> Run:
        """Return this run with stages that all objectives share which ask with an equal key.

        What the values of a sweep, or `apply` and `control`, have in common is then done once. `key` is
        everything that the work depends on but the run's seed: data, starting weights, options.
        """
        place = f"stages/shared/{name}-{digest_of({'seed': self.seed, **key})[:12]}"
        return dataclasses.replace(self, scope=place, key=key)

    def stage(self, name: str, key: Mapping[str, Any], work: Callable[[Path], None]) -> Path:
        """Return the directory of a stage, doing the work only if it is not there (see `stages`)."""
        if self.directory is None:
            raise RunDirectoryError("this work needs a run directory; use genplug.run(...)")
        full = f"{self.scope}/{name}" if self.scope else name
        whole = {"outer": self.key, "seed": self.seed, **key}
        return run_stage(self.directory, full, whole, work, self.is_main, self.wait)

    def fit(
        self,
        name: str,
        generator: Any,
        step: Step,
        data: Mapping[str, Rows],
        config: TrainConfig,
        *,
        key: Mapping[str, Any],
        snapshots: Sequence[int] = (),
        dropout: bool = False,
    ) -> Fit:
        """Train a generator: the one training loop, resumable. Return the snapshots that it left.

        `step(generator, batch)` returns a loss per row; `data` names the row sources of a batch, the
        same number of rows each. `key` is what the result depends on beyond `config`. Snapshots are
        taken after the given steps and at the end. `generator` is trained in place, and only by the
        first call: use the snapshots. A non-finite loss raises `NonFiniteError` and keeps the last
        good state, from which the same command continues.
        """
        from genplug.fit import Training, fit

        return fit(self, Training(name, generator, step, data, config, snapshots, dropout), key)

    @property
    def data(self) -> Dataset:
        """The run's data set."""
        if self.resolved is None:
            raise DataError("this work needs a data set; use genplug.run(...)")
        dataset: Dataset = self.once("dataset", self.resolved.dataset.config.build)
        return dataset

    def dataset(self, split: str) -> SampleSet:
        """Return a split of the run's data set."""
        return self.data.split(split)

    def component(self, kind: str, reference: Component | str, **extra: Any) -> Any:
        """Build a component named inside a configuration: sampler, distance, extractor."""
        part = Component(name=reference) if isinstance(reference, str) else reference
        model = self.catalog.get(kind, part.name).config_model()
        return validate(model, part.options | extra, part.name).build(self)

    def extractor(self, reference: str) -> Extractor:
        """Build a feature extractor with its weights, with the options of the run's configuration."""
        head = extractors.parse(reference).head

        def build(run: Run) -> Extractor:
            return extractors.build_extractor(run, run.extractors.get(head) or run._resolved(head))

        extractor: Extractor = self.once(f"extractor.{head}", build)
        return extractor

    def _resolved(self, reference: str) -> Part:
        """Resolve an extractor that the run's configuration does not name."""
        from genplug.layers import Layers
        from genplug.presets import registry
        from genplug.resolving import Resolver

        (part,) = Resolver(self.catalog, registry(self.catalog), Layers({}, {})).extractors([reference])
        return part

    def features(self, samples: SampleSet, extractor: str, output: str | None = None) -> Tensor:
        """Return float32 features ND of a sample set on the CPU, cached on disk by content.

        `extractor` is a reference (`dinov2.b@patch-mean`); `output` names another of its outputs.
        """
        return feature_cache.features(self, samples, extractor, output)

    def generator(self, reference: str) -> Generator:
        """Load a second generator: a name, a preset or a run directory."""
        from genplug.loading import load_in

        return load_in(self, reference)

    def event(self, kind: str, **values: Any) -> None:
        """Append a line to the run's `events.jsonl` (main process only)."""
        if self.directory is not None and self.is_main:
            record = {"time": round(time.time(), 3), "event": kind, "scope": self.scope, **values}
            with (self.directory / "events.jsonl").open("a", encoding="utf-8") as file:
                file.write(json.dumps(record, default=str) + "\n")

    def once(self, key: str, build: Callable[[Run], Any]) -> Any:
        """Build what all scopes of a run share."""
        if key not in self._built:
            self._built[key] = build(self)
        return self._built[key]


def make_accelerator(settings: RunSettings, runtime: RuntimeSettings) -> Accelerator:
    """Make the one `Accelerator`: the only place that knows about devices and processes."""
    if runtime.threads:
        torch.set_num_threads(runtime.threads)
    torch.backends.cudnn.allow_tf32 = False  # 10 bits of mantissa: not what float32 promises
    cpu = runtime.device == "cpu" or not torch.accelerator.is_available()
    # Objectives may leave a part of a network out of their loss, as DDO does EDM2's uncertainty.
    unused = DistributedDataParallelKwargs(find_unused_parameters=True)
    try:
        return Accelerator(cpu=cpu, mixed_precision=settings.precision, kwargs_handlers=[unused])
    except ValueError as error:
        raise ConfigError(
            f"run.precision = {settings.precision!r} and runtime.device = {runtime.device!r} cannot be had "
            f"({one_line(error)}); a process keeps those it began with"
        ) from None
