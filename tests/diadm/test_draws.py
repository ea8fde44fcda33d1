"""Features of samples: by seed alone, each way of drawing them as defined; principal components."""

from __future__ import annotations

from typing import get_args

import pytest
import torch
from torch import Tensor

from genplug.errors import DataError
from genplug.random import NoiseSource, seed_range
from genplug.registry import catalog
from genplug.runtime import Run, make_accelerator
from genplug.settings import RunSettings, RuntimeSettings
from genplug_diadm.bank import Bank, fitted
from genplug_diadm.config import Draw, DrawOptions
from genplug_diadm.draws import SALT, FeatureDraws, make_draws, places

M, D = 40, 3


@pytest.fixture
def run() -> Run:
    settings = RunSettings()
    return Run(make_accelerator(settings, RuntimeSettings(device="cpu")), settings, catalog=catalog())


def features(count: int = M, seed: int = 0) -> Tensor:
    mixing = torch.tensor([[1.0, 0.5, 0.0], [0.0, 0.7, 0.2], [0.0, 0.0, 2.0]])
    return torch.randn(count, D, generator=torch.Generator().manual_seed(seed)) @ mixing + 1


class HeldOutBank(Bank):
    """A bank whose held-out features are given."""

    def of(self, run: Run, split: str) -> Tensor:
        assert split == "held-out"
        return features(7, seed=9)


def draws(run: Run, draw: str, **options: float) -> FeatureDraws:
    values = {"draw": draw, **options}
    return make_draws(run, HeldOutBank(features(), "fake-mean"), DrawOptions.model_validate(values))


@pytest.mark.parametrize("draw", get_args(Draw))
def test_features_depend_on_their_seed_alone(run: Run, draw: str) -> None:
    made, seeds = draws(run, draw), seed_range(2, "report", 60)
    together = made(seeds).features_ND
    assert together is not None
    assert together.shape == (60, D)
    assert together.dtype == torch.float32
    alone = torch.cat([made(seed).features_ND for seed in seeds.split(1)])  # type: ignore[misc]
    assert torch.equal(alone, together)
    assert torch.equal(made(seeds.flip(0)).features_ND.flip(0), together)  # type: ignore[union-attr]
    assert torch.equal(draws(run, draw)(seeds, "random").features_ND, together)  # type: ignore[arg-type]


def test_each_once_takes_every_row_before_any_again_and_each_block_in_its_own_order() -> None:
    orders = [places(seed_range(0, "report", 2 * M, block), M) for block in (0, 1)]
    for rows in orders:
        for turn in rows.split(M):
            assert torch.equal(turn.sort().values, torch.arange(M))
        assert not torch.equal(*rows.split(M))
    assert not torch.equal(*orders)


def test_sources_are_the_rows_behind_the_features(run: Run) -> None:
    seeds, feat = seed_range(0, "sample", 50), features()
    for draw in ("each-once", "with-replacement"):
        made = draws(run, draw)
        split, rows = made.sources(seeds)  # type: ignore[misc]
        assert split == "train"
        assert torch.equal(made.features(seeds), feat[rows])
    counts = draws(run, "with-replacement").sources(seed_range(0, "sample", 4000))[1].bincount()  # type: ignore[index]
    assert len(counts) == M
    assert int(counts.min()) > 50
    assert int(counts.max()) < 160
    held = draws(run, "held-out")
    split, rows = held.sources(seeds)  # type: ignore[misc]
    assert split == "held-out"
    assert torch.equal(held.features(seeds), features(7, seed=9)[rows])
    assert draws(run, "gaussian").sources(seeds) is None


@pytest.mark.parametrize("neighbours", [0, 4])
def test_interpolated_features_lie_between_a_row_and_another_one(run: Run, neighbours: int) -> None:
    made, seeds, feat = (
        draws(run, "interpolated", neighbours=neighbours),
        seed_range(0, "sample", 80),
        features(),
    )
    rows, found = made.sources(seeds)[1], made.features(seeds)  # type: ignore[index]
    partners = made.partners(rows, NoiseSource(seeds, salt=SALT))
    assert not bool((partners == rows).any())
    step, whole = found - feat[rows], feat[partners] - feat[rows]
    t = (step * whole).sum(1) / whole.square().sum(1)
    assert bool(((t > 0) & (t < 1)).all())
    torch.testing.assert_close(feat[rows] + t[:, None] * whole, found)
    if neighbours:
        unit = torch.nn.functional.normalize(feat, dim=1)
        nearest = torch.cdist(unit, unit).argsort(dim=1)[:, 1 : 1 + neighbours]
        assert all(int(p) in nearest[r].tolist() for r, p in zip(rows, partners, strict=True))
    else:
        assert len(partners.unique()) > 25


def test_jitter_is_a_share_of_the_spread_of_each_feature(run: Run) -> None:
    made, seeds, feat = draws(run, "jittered", jitter=0.5), seed_range(0, "sample", 4000), features()
    noise = made.features(seeds) - feat[made.sources(seeds)[1]]  # type: ignore[index]
    torch.testing.assert_close(noise.std(0), 0.5 * feat.std(0), rtol=0.05, atol=0)
    assert float(noise.mean(0).abs().max()) < 0.05


@pytest.mark.parametrize(("draw", "extra"), [("gaussian", 0.0), ("kernel", M ** (-2 / (D + 4)))])
def test_densities_have_mean_and_covariance_of_the_features(run: Run, draw: str, extra: float) -> None:
    """Kernel density: the covariance of the rows as they are drawn, and h^2 times that of the features."""
    found, feat = draws(run, draw).features(seed_range(0, "sample", 20000)), features()
    rows = (M - 1) / M if draw == "kernel" else 1.0
    torch.testing.assert_close(found.mean(0), feat.mean(0), rtol=0.03, atol=0.03)
    torch.testing.assert_close(found.T.cov(), (rows + extra) * feat.T.cov(), rtol=0.06, atol=0.06)


def test_principal_components_are_those_of_the_training_features(run: Run) -> None:
    feat = features(200)
    bank = fitted(feat, "x", 2)
    assert bank.centre_D is not None
    assert bank.basis_DC is not None
    torch.testing.assert_close(bank.basis_DC.T @ bank.basis_DC, torch.eye(2), atol=1e-6, rtol=0)
    variances = bank.features_NC.var(0)
    expected = torch.linalg.eigvalsh(feat.double().T.cov()).flip(0)[:2].float()
    torch.testing.assert_close(variances, expected)
    torch.testing.assert_close(bank.projected(feat), bank.features_NC)
    torch.testing.assert_close(bank.features_NC.mean(0), torch.zeros(2), atol=1e-5, rtol=0)
    assert fitted(feat, "x", 0).features_NC is feat


def test_more_components_than_there_are_is_one_line() -> None:
    with pytest.raises(
        DataError, match=r"40 images with 3 features of pixels have 3 principal components, not 4"
    ):
        fitted(features(), "pixels", 4)
