"""Statistics of features in files: those that people publish are read, ours by others, bad ones refused."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import genplug
from genplug.errors import DataError
from genplug.statistics import Moments, Statistics, read_statistics, write_statistics

RNG = np.random.default_rng(0)
ROWS = RNG.normal(size=(50, 4))
MU, SIGMA = ROWS.mean(0), np.cov(ROWS, rowvar=False)


def named(
    entries: tuple[Moments, ...], known_as: dict[str, str] | None = None
) -> tuple[Statistics, list[str]]:
    said: list[str] = []
    names = known_as or {}
    return Statistics(
        "file", entries, lambda ref: names.get(ref, f"fd-{ref}"), lambda ref: "", said.append
    ), said


def test_mean_and_covariance_of_unknown_origin_are_taken_and_it_is_said(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", mu=MU, sigma=SIGMA)
    statistics, said = named(read_statistics(tmp_path / "x.npz"))
    mu_D, cov_DD, n = statistics.gaussian("anything")
    assert np.array_equal(mu_D, MU)
    assert np.allclose(cov_DD, SIGMA)
    assert n is None
    assert said == ["file does not say which extractor made it; taken as anything's"]


def test_edm2s_reference_pickle_is_read_by_metric(tmp_path: Path) -> None:
    both = {"fid": {"mu": MU, "sigma": SIGMA}, "fd_dinov2": {"mu": MU + 1, "sigma": SIGMA}}
    both["fid"]["sigma"] = np.asfortranarray(SIGMA)
    (tmp_path / "img512.pkl").write_bytes(pickle.dumps(both))
    statistics, said = named(read_statistics(tmp_path / "img512.pkl"), {"inception-fid": "fid"})
    assert np.array_equal(statistics.gaussian("inception-fid")[0], MU)
    assert np.array_equal(statistics.gaussian("dinov2")[0], MU + 1)
    assert said == []
    with pytest.raises(DataError, match="file has statistics of fid, fd-dinov2, not of the features of clip"):
        statistics.gaussian("clip")


def test_a_reference_batch_of_adm_has_spatial_statistics_too(tmp_path: Path) -> None:
    """ADM flattens its map with the channels last, extractors have them first."""
    images, maps = np.zeros((2, 4, 4, 3), np.uint8), RNG.normal(size=(60, 2, 2, 7))
    flat = maps.reshape(60, -1)
    spatial = {"mu_s": flat.mean(0), "sigma_s": np.cov(flat, rowvar=False)}
    np.savez(tmp_path / "x.npz", arr_0=images, mu=MU, sigma=SIGMA, **spatial)
    statistics, _ = named(read_statistics(tmp_path / "x.npz"), {"inception-fid": "fid"})
    assert len(statistics.gaussian("inception-fid")[0]) == 4
    ours = maps.transpose(0, 3, 1, 2).reshape(60, -1)
    mu_D, cov_DD, _ = statistics.gaussian("inception-fid", "spatial")
    assert np.allclose(mu_D, ours.mean(0))
    assert np.allclose(cov_DD, np.cov(ours, rowvar=False))
    assert statistics.find("pixels") is None


def test_torch_fidelitys_statistics_are_read(tmp_path: Path) -> None:
    torch.save({"mu": torch.from_numpy(MU), "sigma": torch.from_numpy(SIGMA)}, tmp_path / "x.pt")
    (entry,) = read_statistics(tmp_path / "x.pt")
    assert np.array_equal(entry.mu_D, MU)


def test_what_is_written_says_what_it_is_of_and_others_read_it(tmp_path: Path) -> None:
    moments = Moments(
        torch.from_numpy(MU), torch.from_numpy(SIGMA), 50, reference="pixels", fingerprint="pixels-1"
    )
    write_statistics(tmp_path / "x.npz", moments)
    with np.load(tmp_path / "x.npz") as file:  # as pytorch-fid and clean-fid do
        assert np.array_equal(file["mu"], MU)
        assert np.array_equal(file["sigma"], SIGMA)
    (entry,) = read_statistics(tmp_path / "x.npz")
    assert (entry.n, entry.reference, entry.fingerprint) == (50, "pixels", "pixels-1")
    statistics = Statistics(
        "file", (entry,), fingerprint_of=lambda ref: "pixels-1" if ref == "p" else "other"
    )
    assert statistics.find("p") is entry
    assert statistics.find("pixels") is None  # the same name with other weights


BAD: dict[str, tuple[Any, str]] = {
    "shapes": ({"mu": MU, "sigma": SIGMA[:3]}, "do not fit"),
    "nan": ({"mu": MU * np.nan, "sigma": SIGMA}, "contain NaN or infinity"),
    "skew": ({"mu": MU, "sigma": SIGMA + np.triu(np.ones((4, 4)))}, "sigma is no covariance"),
    "negative": ({"mu": MU, "sigma": -SIGMA}, "sigma is no covariance"),
    "objects": ({"mu": np.array([None], dtype=object), "sigma": SIGMA}, "Python objects"),
    "about": ({"mu": MU, "sigma": SIGMA, "about": np.zeros(3, np.uint8)}, "is damaged"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_statistics_are_refused_in_one_line(tmp_path: Path, name: str) -> None:
    arrays, words = BAD[name]
    np.savez(tmp_path / "x.npz", **arrays)
    with pytest.raises(DataError, match=words):
        read_statistics(tmp_path / "x.npz")


class Hostile:
    """A pickle that would create a file when it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def test_a_hostile_pickle_is_refused_and_not_run(tmp_path: Path) -> None:
    (tmp_path / "x.pkl").write_bytes(
        pickle.dumps({"fid": {"mu": Hostile(tmp_path / "owned"), "sigma": SIGMA}})
    )
    with pytest.raises(DataError, match="refused"):
        read_statistics(tmp_path / "x.pkl")
    assert not (tmp_path / "owned").exists()


def test_a_truncated_pickle_is_named(tmp_path: Path) -> None:
    content = pickle.dumps({"fid": {"mu": MU, "sigma": SIGMA}})
    (tmp_path / "x.pkl").write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match=r"x\.pkl"):
        read_statistics(tmp_path / "x.pkl")


def test_statistics_of_a_published_network_are_not_for_other_weights(tmp_path: Path) -> None:
    """EDM2's file is of DINOv2 as published: random weights under the same name are told apart."""
    (tmp_path / "x.pkl").write_bytes(pickle.dumps({"fd_pixels": {"mu": MU[:2], "sigma": SIGMA[:2, :2]}}))
    points = torch.from_numpy(ROWS[:, :2].astype(np.float32))
    with pytest.raises(DataError, match="has statistics of fd-pixels, not of the features of pixels"):
        genplug.evaluate(tmp_path / "x.pkl", points, evaluators=["frechet"], extractors=["pixels"])
