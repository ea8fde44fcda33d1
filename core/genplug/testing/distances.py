"""What a distance promises. Legend: N queries, M corpus rows, D feature width, k neighbours."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest
import torch

from genplug.parts import Part
from genplug.random import NoiseSource
from genplug.runtime import Run
from genplug.specs import DistanceSpec
from genplug.testing.suite import ComponentSuite


class DistanceSuite(ComponentSuite):
    """Promises of a distance. `width` is the number of features of a row."""

    kind: ClassVar[str] = "distance"
    width: ClassVar[int] = 24

    @pytest.fixture
    def distance(self, part: Part, run: Run) -> Any:
        """Return the distance."""
        return part.config.build(run)

    @pytest.fixture
    def a_ND(self) -> torch.Tensor:
        """Return query rows."""
        return NoiseSource(torch.arange(20)).normal((20, self.width), "queries")

    @pytest.fixture
    def b_MD(self, a_ND: torch.Tensor) -> torch.Tensor:
        """Return corpus rows; the first five are queries too."""
        return torch.cat([a_ND[:5], NoiseSource(torch.arange(50)).normal((50, self.width), "corpus")])

    def test_pairwise(self, distance: Any, a_ND: torch.Tensor, b_MD: torch.Tensor) -> None:
        """pairwise gives all distances NM, finite and not negative."""
        d_NM = distance.pairwise(a_ND, b_MD)
        assert d_NM.shape == (len(a_ND), len(b_MD)), f"shape {tuple(d_NM.shape)}"
        assert d_NM.is_floating_point(), f"distances are {d_NM.dtype}"
        assert bool(d_NM.isfinite().all()), "a distance is not finite"
        assert bool((d_NM >= 0).all()), f"a distance is {float(d_NM.min())}"

    def test_zero_on_equal_rows(self, distance: Any, a_ND: torch.Tensor) -> None:
        """The distance of a row to itself is zero, and no other row is closer."""
        d_NN = distance.pairwise(a_ND, a_ND)
        scale = float(d_NN.max())
        assert float(d_NN.diagonal().abs().max()) <= 1e-6 * scale, f"{float(d_NN.diagonal().max())}"
        assert bool((d_NN.argmin(1) == torch.arange(len(a_ND))).all()), "another row is closer than itself"

    def test_symmetry(self, part: Part, distance: Any, a_ND: torch.Tensor, b_MD: torch.Tensor) -> None:
        """It is symmetric, unless its spec says that it is not."""
        spec = part.entry.spec
        assert isinstance(spec, DistanceSpec)
        if not spec.symmetric:
            pytest.skip("does not claim to be symmetric")
        d_NM, d_MN = distance.pairwise(a_ND, b_MD), distance.pairwise(b_MD, a_ND)
        assert torch.allclose(d_NM, d_MN.T, rtol=1e-5, atol=1e-7)

    def test_search(self, distance: Any, a_ND: torch.Tensor, b_MD: torch.Tensor) -> None:
        """A search finds the rows that pairwise says are nearest, in order, with their distances."""
        k = 3
        d_Nk, i_Nk = distance.index(b_MD).search(a_ND, k)
        assert d_Nk.shape == i_Nk.shape == (len(a_ND), k), f"shapes {tuple(d_Nk.shape)}, {tuple(i_Nk.shape)}"
        assert i_Nk.dtype == torch.int64, f"row numbers are {i_Nk.dtype}"
        assert bool((d_Nk[:, 1:] >= d_Nk[:, :-1]).all()), "distances do not ascend"
        expected_Nk = distance.pairwise(a_ND, b_MD).sort(1).values[:, :k]
        assert torch.allclose(d_Nk.double(), expected_Nk.double(), rtol=1e-4, atol=1e-6)
        there = distance.pairwise(a_ND, b_MD).gather(1, i_Nk)
        assert torch.allclose(there.double(), d_Nk.double(), rtol=1e-4, atol=1e-6), "other rows"

    def test_order_of_the_corpus(self, distance: Any, a_ND: torch.Tensor, b_MD: torch.Tensor) -> None:
        """The order of the corpus changes row numbers, not what is found."""
        order_M = torch.randperm(len(b_MD), generator=torch.Generator().manual_seed(0))
        d_Nk, i_Nk = distance.index(b_MD).search(a_ND, 3)
        e_Nk, j_Nk = distance.index(b_MD[order_M]).search(a_ND, 3)
        assert torch.allclose(d_Nk, e_Nk, rtol=1e-5)
        assert torch.equal(order_M[j_Nk], i_Nk), "other rows are found"

    def test_too_many_neighbours(self, distance: Any, a_ND: torch.Tensor, b_MD: torch.Tensor) -> None:
        """More neighbours than there are rows is an error, not a wrong answer."""
        with pytest.raises((ValueError, RuntimeError)):
            distance.index(b_MD).search(a_ND, len(b_MD) + 1)

    def test_gradients(self, part: Part, distance: Any, a_ND: torch.Tensor, b_MD: torch.Tensor) -> None:
        """If it claims to be differentiable, gradients are finite, on equal rows too."""
        spec = part.entry.spec
        assert isinstance(spec, DistanceSpec)
        if not spec.differentiable:
            pytest.skip("does not claim to be differentiable")
        a_ND = a_ND.clone().requires_grad_(True)
        (grad_ND,) = torch.autograd.grad(distance.pairwise(a_ND, b_MD).sum(), a_ND)
        assert bool(grad_ND.isfinite().all()), "a gradient is not finite"
        assert float(grad_ND.abs().max()) > 0, "all gradients are zero"
