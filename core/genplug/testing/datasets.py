"""What a data set promises. Legend: N samples."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest
import torch

from genplug.parts import Part
from genplug.runtime import Run
from genplug.specs import DatasetSpec
from genplug.testing.suite import ComponentSuite

ROWS = 8


class DatasetSuite(ComponentSuite):
    """Promises of a data set."""

    kind: ClassVar[str] = "dataset"

    @pytest.fixture
    def splits(self, part: Part, run: Run) -> dict[str, Any]:
        """Return the splits by name."""
        return _splits(part, run)

    def test_splits(self, part: Part, splits: dict[str, Any]) -> None:
        """It has the splits of its spec, train and held-out among them, and none is empty."""
        assert {"train", "held-out"} <= set(splits), f"splits: {', '.join(splits)}"
        for name, samples in splits.items():
            assert len(samples) > 0, f"{name} is empty"
        shapes = {samples.shape for samples in splits.values()}
        assert len(shapes) == 1, f"splits have samples of shapes {shapes}"

    def test_samples(self, part: Part, splits: dict[str, Any]) -> None:
        """Samples are uint8 images CHW or finite float32 points D, of the shape that it says."""
        for name, samples in splits.items():
            rows = samples.read(range(min(ROWS, len(samples))))
            assert tuple(rows.shape[1:]) == tuple(samples.shape), f"{name}: {tuple(rows.shape[1:])}"
            modality = "image" if rows.dtype == torch.uint8 else "points"
            assert rows.ndim == (4 if modality == "image" else 2), f"{name}: shape {tuple(rows.shape)}"
            assert modality == "image" or rows.dtype == torch.float32, f"{name}: {rows.dtype}"
            assert part.entry.spec.modality in ("any", modality), f"{name} holds {modality}"
            assert bool(rows.float().isfinite().all()), f"{name} is not finite"

    def test_rows_are_read_in_order(self, splits: dict[str, Any]) -> None:
        """Rows are read in the order asked for, repeated ones too, and the same each time."""
        for name, samples in splits.items():
            rows = list(range(min(ROWS, len(samples))))
            first = samples.read(rows)
            again = samples.read([*reversed(rows), rows[0]])
            assert torch.equal(again, torch.cat([first.flip(0), first[:1]])), name

    def test_labels(self, part: Part, run: Run, splits: dict[str, Any]) -> None:
        """Labels are int64, one per sample, within the number of classes that it says."""
        classes = part.config.build(run).num_classes
        for name, samples in splits.items():
            if samples.labels is None:
                continue
            assert samples.labels.dtype == torch.int64, f"{name}: labels are {samples.labels.dtype}"
            assert len(samples.labels) == len(samples), f"{name}: {len(samples.labels)} labels"
            assert classes is not None, f"{name} has labels, but the data set no number of classes"
            lowest, highest = int(samples.labels.min()), int(samples.labels.max())
            assert 0 <= lowest <= highest < classes, f"{name}: labels {lowest} to {highest} of {classes}"

    def test_levels(self, part: Part, run: Run, splits: dict[str, Any]) -> None:
        """Images have the grey levels that it says, equally spaced from 0 to 255."""
        levels = getattr(part.config.build(run), "levels", 256)
        assert 2 <= levels <= 256, f"{levels} levels"
        for name, samples in splits.items():
            rows = samples.read(range(min(ROWS, len(samples))))
            if rows.dtype != torch.uint8 or levels == 256:
                continue
            steps = rows.double() * (levels - 1) / 255
            assert float((steps - steps.round()).abs().max()) <= (levels - 1) / 500, (
                f"{name} has other levels"
            )

    def test_fingerprint(self, part: Part, run: Run, splits: dict[str, Any]) -> None:
        """A split's fingerprint is the same for every build and differs from the other splits'."""
        prints = {name: samples.fingerprint for name, samples in splits.items()}
        again = {name: samples.fingerprint for name, samples in _splits(part, run).items()}
        assert prints == again, "a second build has other fingerprints"
        assert len(set(prints.values())) == len(prints), "two splits have one fingerprint"

    def test_held_out_is_held_out(self, splits: dict[str, Any]) -> None:
        """Less than one in a hundred held-out samples is in the training split too."""
        seen = {row.numpy().tobytes() for row in _rows(splits["train"])}
        shared = sum(row.numpy().tobytes() in seen for row in _rows(splits["held-out"]))
        assert shared <= 0.01 * len(splits["held-out"]), f"{shared} samples are in both"


def _splits(part: Part, run: Run) -> dict[str, Any]:
    spec, dataset = part.entry.spec, part.config.build(run)
    assert isinstance(spec, DatasetSpec)
    return {name: dataset.split(name) for name in spec.splits}


def _rows(samples: Any, most: int = 2000) -> Any:
    """Yield at most the first 2,000 rows: enough to see a split that is not one."""
    for start in range(0, min(len(samples), most), 250):
        yield from samples.read(range(start, min(start + 250, len(samples), most)))
