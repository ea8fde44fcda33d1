"""Inception Score: golden data in every convention, extremes."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch import Tensor

from genplug_metrics.inception_score import CONVENTIONS, inception_scores, parts


@pytest.mark.parametrize(
    ("key", "convention", "shuffled", "correction"),
    [
        ("is_balanced", "balanced", True, 0),
        ("is_balanced_noshuffle", "balanced", False, 0),
        ("is_truncated", "truncated", True, 0),
        ("is_ceil_noshuffle", "ceil", False, 1),
    ],
)
def test_conventions_equal_the_golden_ones(  # type: ignore[no-untyped-def]
    golden: dict[str, Tensor], key: str, convention, shuffled: bool, correction: int
) -> None:
    logits = golden["in/is_logits"][golden["in/is_perm"]] if shuffled else golden["in/is_logits"]
    found = inception_scores(logits, parts(len(logits), 10, convention))
    got = [float(found.mean()), float(found.std(correction=correction))]
    assert got == pytest.approx(golden[f"out/{key}"].tolist(), rel=1e-12)


@pytest.mark.parametrize("convention", CONVENTIONS)
@pytest.mark.parametrize("n", [10, 29, 205])
def test_parts_follow_each_other(convention, n: int) -> None:  # type: ignore[no-untyped-def]
    found = parts(n, 10, convention)
    assert all(a.stop == b.start for a, b in pairwise(found))
    assert found[0].start == 0
    assert found[-1].stop == (n // 10 * 10 if convention == "truncated" else n)


def test_sure_and_varied_samples_score_the_number_of_classes() -> None:
    logits = 1e4 * torch.eye(7).repeat(5, 1)  # probabilities that underflow to zero and one
    assert inception_scores(logits, [slice(None)]).tolist() == pytest.approx([7.0], rel=1e-12)


def test_equal_or_unsure_samples_score_one() -> None:
    for logits in (torch.ones(30, 7), torch.arange(7.0).expand(30, 7)):
        assert inception_scores(logits, parts(30, 3)).tolist() == pytest.approx([1.0] * 3, rel=1e-12)


def test_more_parts_than_rows_are_refused() -> None:
    with pytest.raises(ValueError, match="10 parts need at least as many rows, got 9"):
        parts(9, 10)
