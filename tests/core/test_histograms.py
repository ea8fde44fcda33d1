"""Reports show points on a line as histograms, in the plane as clouds."""

from __future__ import annotations

import re

import torch

from genplug.histograms import BINS, BOTTOM, histogram_plots, point_plots
from genplug.samplesets import ArraySet


def tops(plot: str) -> list[float]:
    """Return the heights of an outline, in pixels above the ground."""
    (path,) = re.findall(r'<path d="([^"]*)" class="s1"', plot)
    return [BOTTOM - float(v) for v in re.findall(r"V([\d.]+)H", path)]


def test_the_height_of_a_bin_is_the_share_of_points_in_it() -> None:
    points = torch.tensor([[-1.0]] * 300 + [[1.0]] * 100)
    heights = tops(histogram_plots({"base": ArraySet(points), "improved": ArraySet(points)})["improved"])
    assert len(heights) == BINS
    filled = [height for height in heights if height > 0]
    assert len(filled) == 2
    assert abs(filled[0] - 3 * filled[1]) < 1


def test_real_points_are_behind_every_set_but_themselves() -> None:
    line = ArraySet(torch.randn(50, 1))
    plots = point_plots({"base": line, "real": line})
    assert ["real points in grey behind" in plots[name] for name in ("base", "real")] == [True, False]
    plane = ArraySet(torch.randn(50, 2))
    assert "histogram" not in point_plots({"base": plane})["base"]


def test_equal_points_are_one_bar() -> None:
    points = ArraySet(torch.zeros(5, 1))
    heights = tops(histogram_plots({"base": points, "improved": points})["improved"])
    assert sum(height > 0 for height in heights) == 1
