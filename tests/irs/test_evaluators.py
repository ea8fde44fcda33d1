"""The three evaluators on sets whose diversity, gap and agreement are known."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

import genplug
from genplug.errors import GenplugError
from genplug_irs import agreement
from genplug_irs.retrieval import corpus_of
from genplug_irs.statistics import coupon_expected_fraction, estimate_reach


def points(n: int, seed: int, spread: float = 1.0) -> Tensor:
    return spread * torch.randn(n, 8, generator=torch.Generator().manual_seed(seed))


def near(train: Tensor, rows: list[int]) -> Tensor:
    return train[rows] + 1e-3 * points(len(rows), 9)


def judged(
    real: Tensor, fake: Tensor, train: Tensor, evaluators: list[str], **options: Any
) -> dict[str, Any]:
    return genplug.evaluate(
        real, fake, train=train, evaluators=evaluators, extractors=["pixels"], options=options
    )


def test_irs_counts_what_was_planted_and_says_what_its_bounds_are() -> None:
    train = points(100, 0)
    fake, real = near(train, [i % 20 for i in range(60)]), near(train, list(range(60)))
    scores = judged(real, fake, train, ["irs"])
    irs = scores["irs-pixels"]
    reach = estimate_reach(20, 60, 100)
    assert (irs.value, irs.low, irs.high) == reach.irs_inf
    assert "0.05 per bound, 0.1 in all" in irs.interval
    assert scores["irs-alpha-pixels"].value == 0.2
    assert scores["irs-adjusted-pixels"].value == reach.s_hat / 100  # the reference retrieves 60 of 60: s = N
    assert irs.extra["reference"]["n_learned"] == 60
    assert irs.extra["ideal_alpha"] == coupon_expected_fraction(60, 100)
    assert irs.extra["rejected"]
    assert irs.extra["k_min"] > 20
    (plot,) = irs.plots.values()
    assert plot.startswith("<svg")
    assert f"s = {reach.s_hat}" in plot


def test_the_error_may_be_that_of_the_whole_interval() -> None:
    train = points(100, 0)
    sets = (near(train, list(range(60))), near(train, [i % 40 for i in range(60)]), train)
    each = judged(*sets, ["irs"])["irs-pixels"]
    both = judged(*sets, ["irs"], **{"evaluator.irs.error_of": "interval"})["irs-pixels"]
    assert both.value == each.value
    assert both.low <= each.low < each.high <= both.high
    assert "0.025 per bound, 0.05 in all" in both.interval


def test_whole_multiples_of_the_reference_are_averaged_over_folds() -> None:
    train = points(200, 0)
    fake = near(train, [(7 * i) % 50 for i in range(150)])
    scores = judged(near(train, list(range(50))), fake, train, ["irs"])
    folds = scores["irs-pixels"].extra["folds"]
    assert [fold["n"] for fold in folds] == [50, 50, 50]
    assert scores["irs-pixels"].value == pytest.approx(sum(fold["irs"] for fold in folds) / 3)
    assert scores["irs-pixels"].low <= scores["irs-pixels"].value <= scores["irs-pixels"].high
    assert "3 folds" in scores["irs-pixels"].interval
    assert scores["irs-pixels"].n_generated == 150


def test_repeated_training_images_count_once() -> None:
    train = points(50, 0)
    fake = near(train, list(range(30)))
    scores = judged(near(train, list(range(30))), fake, torch.cat([train, train[:10]]), ["irs"])
    assert scores["irs-pixels"].n_real == 50
    assert scores["irs-pixels"].extra["repeated_training_images"] == 10


def test_one_pool_for_both_is_refused_with_the_rule_for_splitting_it() -> None:
    train = points(60, 0)
    with pytest.raises(GenplugError, match="same images; split what you have: 50,000 images as REAL"):
        judged(train, points(60, 1), train, ["irs"])
    overlapping = torch.cat([train[:40], points(10, 3)])
    with pytest.raises(GenplugError, match="40 of 50 samples of samples are training samples"):
        judged(overlapping, points(50, 1), train, ["irs"])


def test_the_gap_is_the_ideal_less_what_real_data_retrieves() -> None:
    train = points(80, 0)
    scores = judged(near(train, [i % 30 for i in range(60)]), train, train, ["measurement-gap"])
    assert list(scores) == ["measurement-gap-pixels-euclidean", "measurement-gap-pixels-cosine"]
    score = scores["measurement-gap-pixels-euclidean"]
    assert score.value == pytest.approx(coupon_expected_fraction(60, 80) - 30 / 80)
    assert score.low <= score.value <= score.high
    assert score.extra["most_retrieved"] == 2
    assert score.measure == "measurement-gap"
    assert any("<svg" in plot for plot in score.plots.values())


def test_the_gap_may_be_measured_at_another_number_of_training_images() -> None:
    train, real = points(80, 0), points(60, 1)
    option = {"evaluator.measurement-gap.alpha": 2.0}
    score = judged(real, train, train, ["measurement-gap"], **option)["measurement-gap-pixels-euclidean"]
    assert (score.extra["N"], score.extra["alpha"]) == (30, 2.0)
    with pytest.raises(GenplugError, match=r"needs 600 of 80 training samples; alpha may be 0\.75 to 60"):
        judged(real, train, train, ["measurement-gap"], **{"evaluator.measurement-gap.alpha": 0.1})


def test_agreement_tables_equal_a_count_by_hand() -> None:
    index_nE = torch.tensor([[1, 1, 1], [2, 2, 5], [3, 4, 5], [6, 7, 7]])
    assert agreement.pairwise_agreement(index_nE).tolist() == [[1, 0.5, 0.25], [0.5, 1, 0.5], [0.25, 0.5, 1]]
    there, image = agreement.consensus(index_nE, 2)
    assert there.tolist() == [True, True, False, True]
    assert image[there].tolist() == [1, 2, 7]
    assert agreement.consensus(index_nE, 3)[0].tolist() == [True, False, False, False]
    scores = agreement.scores_of(index_nE, ("a", "b", "c"), 2, 9)
    assert scores["retrieval-agreement"].value == pytest.approx((0.5 + 0.25 + 0.5) / 3)
    assert scores["retrieval-consensus"].value == 0.75
    shares = scores["retrieval-agreement"].extra["share_in_consensus"]
    assert shares == {"a": 2 / 3, "b": 1.0, "c": 2 / 3}
    assert scores["retrieval-share-b"].value == 1.0
    assert scores["retrieval-share-b"].n_generated == 0


def test_extractors_are_compared_on_digits() -> None:
    scores = genplug.evaluate(
        "digits:held-out",
        "digits:held-out",
        train="digits:train",
        evaluators=["retrieval-agreement"],
        extractors=["pixels", "digits-classifier"],
    )
    assert 0.1 < scores["retrieval-agreement"].value == scores["retrieval-consensus"].value < 0.4
    assert "digits-classifier" in next(iter(scores["retrieval-agreement"].plots.values()))


def test_one_extractor_or_an_impossible_consensus_is_refused() -> None:
    train, real = points(40, 0), points(30, 1)
    with pytest.raises(GenplugError, match="name at least two"):
        judged(real, real, train, ["retrieval-agreement"])
    with pytest.raises(GenplugError, match="least = 5 of 2 extractors"):
        genplug.evaluate(
            "digits:held-out",
            "digits:held-out",
            train="digits:train",
            evaluators=["retrieval-agreement"],
            extractors=["pixels", "digits-classifier"],
            options={"evaluator.retrieval-agreement.least": 5},
        )


def test_the_corpus_keeps_the_first_of_equal_rows() -> None:
    g = torch.Generator().manual_seed(0)
    rows = (
        torch.randint(-1, 2, (300, 4), generator=g)
        * 1.0
        * (1 - 2 * torch.randint(0, 2, (300, 4), generator=g))
    )
    assert bool((torch.signbit(rows) & (rows == 0)).any())  # -0 is 0
    corpus = corpus_of(rows)
    unique, inverse = torch.unique(rows + 0.0, dim=0, return_inverse=True)
    first = [int((inverse == u).nonzero()[0]) for u in range(len(unique))]
    assert torch.equal(corpus.feat_ND, rows[sorted(first)])
    assert corpus.repeated == 300 - len(unique)
    assert corpus_of(rows[:1]).repeated == 0
