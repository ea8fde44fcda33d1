"""Statistics of a sample set, written to a file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from genplug.evaluation import features_of
from genplug.extractors import parse
from genplug.statistics import Moments, write_statistics
from genplug_metrics.frechet import fit_gaussian


def make_statistics(samples: str, out: Path, extractor: str, options: Mapping[str, Any]) -> tuple[int, int]:
    """Write mean and unbiased covariance (float64) of a set's features; return count and width."""
    feat_ND, fingerprint = features_of(samples, extractor, options)
    fitted = fit_gaussian(feat_ND)
    parsed = parse(extractor)
    about = {"reference": parsed.head, "output": parsed.output, "fingerprint": fingerprint}
    write_statistics(out, Moments(fitted.mu_D.cpu(), fitted.cov_DD.cpu(), len(feat_ND), **about))
    return len(feat_ND), feat_ND.shape[1]
