"""Features of sample sets, extracted once per (contents, extractor, output) and cached on disk.

The key is the content of the samples and the extractor's fingerprint (weights and preprocessing),
never a file name: renamed folders hit, changed ones miss.

    GENPLUG_CACHE/features/KEY.safetensors       all rows
    GENPLUG_CACHE/features/KEY.partial/          finished chunks of a pass that is not whole yet
"""

from __future__ import annotations

import hashlib
import json
import shutil
import zlib
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor

from genplug.checkpoints import load_weights, read_metadata, save_weights
from genplug.errors import WeightsError
from genplug.extraction import Want, extract
from genplug.extractors import parse
from genplug.paths import cache_directory
from genplug.samplesets import SampleSet, own_features

if TYPE_CHECKING:
    from genplug.runtime import Run


def features(run: Run, samples: SampleSet, extractor: str, output: str | None = None) -> Tensor:
    """Return features of every sample, float32 ND on the CPU."""
    want = wanted(extractor, output)
    return gather(run, samples, [want])[want]


def wanted(extractor: str, output: str | None = None) -> Want:
    """Return what a reference and an output mean."""
    parsed = parse(extractor)
    return Want(parsed.head, output or parsed.output)


def gather(run: Run, samples: SampleSet, wants: Iterable[Want]) -> dict[Want, Tensor]:
    """Return all features that are wanted of a set; those that are not cached take one pass together."""
    own = own_features(samples)
    if own is not None:
        return {want: own(want) for want in wants}
    cache = _Cache(run, samples)
    found: dict[Want, Tensor] = {}
    for want in dict.fromkeys(wants):
        cached = cache.read(want)
        if run.all(cached is not None) and cached is not None:
            found[want] = cached
        cache.tell(want, cached=want in found)
    missing = [want for want in dict.fromkeys(wants) if want not in found]
    if missing:
        found |= extract(run, samples, missing, cache)
        for want in missing:
            if run.is_main:
                cache.write(want, found[want])
            _check_constant(run, want, samples, found[want])
        run.wait()
        cache.clear(missing)
    return found


def _check_constant(run: Run, want: Want, samples: SampleSet, feat_ND: Tensor) -> None:
    if len(feat_ND) > 1 and bool((feat_ND == feat_ND[:1]).all()):
        run.log.warn(
            f"all {len(feat_ND)} samples of {samples.name} have the same {want} features: equal images?"
        )


@dataclass
class _Cache:
    """The cached features of one sample set; a store of chunks (`extraction.Store`)."""

    run: Run
    samples: SampleSet

    def read(self, want: Want) -> Tensor | None:
        """Return cached features, or None; damaged ones and those of other weights count as absent."""
        path, said = self._path(want), self._facts(want)
        try:
            feat_ND, known = _load(path)
        except (WeightsError, KeyError, ValueError):
            return None
        if any(known.get(key) != value for key, value in said.items()) or len(feat_ND) != len(self.samples):
            return None
        checked = self.run.once("features.checked", lambda run: set())
        if path not in checked and known.get("crc32") != _checksum(feat_ND):
            return None
        checked.add(path)
        return feat_ND

    def write(self, want: Want, feat_ND: Tensor) -> None:
        """Cache features; a read-only or full cache costs speed, not the run, and is told once."""
        self._save(self._path(want), want, feat_ND)

    def load(self, want: Want, rows: range) -> Tensor | None:
        """Return a finished chunk of a pass that was cut short."""
        path = self._chunk(want, rows)
        try:
            feat_ND, known = _load(path)
        except (WeightsError, KeyError, ValueError):
            return None
        whole = len(feat_ND) == len(rows) and known.get("crc32") == _checksum(feat_ND)
        return feat_ND if whole else None

    def save(self, want: Want, rows: range, feat_ND: Tensor) -> None:
        """Keep a finished chunk, where there will be more than one."""
        if len(rows) < len(self.samples):
            self._save(self._chunk(want, rows), want, feat_ND)

    def clear(self, wants: Iterable[Want]) -> None:
        """Remove the chunks of a whole pass."""
        if self.run.is_main:
            for want in wants:
                with suppress(OSError):
                    shutil.rmtree(self._path(want).with_suffix(".partial"))

    def tell(self, want: Want, cached: bool) -> None:
        """Record, once for each set, whether features were there already."""
        told = self.run.once("features.told", lambda run: dict[tuple[str, str], bool]())
        if (self.samples.name, str(want)) not in told:
            told[self.samples.name, str(want)] = cached
            self.run.event("features", samples=self.samples.name, extractor=str(want), cached=cached)

    def _save(self, path: Path, want: Want, feat_ND: Tensor) -> None:
        try:
            about = json.dumps({**self._facts(want), "crc32": _checksum(feat_ND)})
            save_weights({"features": feat_ND}, path, {"about": about})
        except OSError as error:
            reason, log = error.strerror or error, self.run.log
            self.run.once(
                "no-cache", lambda _: log.warn(f"features are not cached in {path.parent} ({reason})")
            )

    def _facts(self, want: Want) -> dict[str, str]:
        fingerprint = self.run.extractor(want.head).fingerprint
        return {"samples": self.samples.fingerprint, "extractor": fingerprint, "output": want.output}

    def _path(self, want: Want) -> Path:
        key = hashlib.sha256(":".join(self._facts(want).values()).encode()).hexdigest()
        return cache_directory() / "features" / f"{key}.safetensors"

    def _chunk(self, want: Want, rows: range) -> Path:
        name = f"{rows.start:09d}-{rows.stop:09d}.safetensors"
        return self._path(want).with_suffix(".partial") / name


def _load(path: Path) -> tuple[Tensor, dict[str, str]]:
    """Return features and what their file says of them."""
    known: dict[str, str] = json.loads(read_metadata(path)["about"])
    return load_weights(path)["features"], known


def _checksum(feat_ND: Tensor) -> str:
    return f"{zlib.crc32(feat_ND.contiguous().numpy().view('u1').data):08x}"
