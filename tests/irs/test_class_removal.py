"""The class-removal experiment and the commands `genplug irs ...`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from genplug.errors import DataError
from genplug.writers import save_npz
from genplug_cli.main import execute
from genplug_irs import class_removal


def test_a_split_has_equally_many_of_each_class_and_no_image_twice() -> None:
    labels = torch.tensor([0] * 30 + [1] * 24 + [2] * 50)
    split = class_removal.split_classes(labels, 2, seed=3)
    parts = (split.train, split.reference, split.test)
    assert [labels[rows].bincount().tolist() for rows in parts] == [[12] * 3, [6] * 3, [6] * 3]
    rows = torch.cat(parts)
    assert len(rows.unique()) == len(rows)
    with pytest.raises(DataError, match="smallest class has 5 images; 6 are needed"):
        class_removal.split_classes(torch.tensor([0] * 5 + [1] * 30), 1, 0)


def test_the_summary_tells_lines_from_curves_that_saturate() -> None:
    shares = [0.25, 0.5, 0.75, 1.0]
    bent = dict(zip(shares, (0.4, 0.8, 0.9, 1.0), strict=True))
    rows = [
        {"kept": s, "irs-adjusted": s, "irs": s / 2, "coverage": s, "recall": bent[s], "fd": 1 / s - 1}
        | {"low": s - 0.1, "high": s + 0.1}
        for s in shares
    ]
    told = class_removal.summarise(rows)["measures"]
    assert told["irs-adjusted"]["correlation"] == pytest.approx(1)
    assert told["irs-adjusted"]["half_way"] == pytest.approx(0.5)
    assert told["irs-adjusted"]["farthest"] == 0
    assert told["irs"]["farthest"] == pytest.approx(0.5)
    assert told["recall"]["half_way"] == pytest.approx(0.75)


def test_on_digits_adjusted_irs_follows_the_share_kept_and_recall_bends(tmp_path: Path) -> None:
    """Six splits of figure 5's experiment; `docs/irs.md` has more of them."""
    out = tmp_path / "removal"
    assert execute(["irs", "class-removal", "digits", "--out", str(out), "--seeds", "6"]) == 0
    found = json.loads((out / "results.json").read_text())
    told = found["extractors"]["pixels"]["measures"]
    assert told["irs-adjusted"]["correlation"] > 0.97
    assert told["irs-adjusted"]["farthest"] < 0.06
    assert told["irs-adjusted"]["at_all"] == pytest.approx(1, abs=0.06)
    assert told["recall"]["farthest"] > 0.08
    assert told["recall"]["half_way"] > told["irs-adjusted"]["half_way"]
    assert told["closeness"]["half_way"] > 0.75
    page = (out / "index.html").read_text()
    assert page.count("<svg") == 1
    assert "adjusted IRS" in page
    assert (out / "pixels.svg").read_text().startswith("<svg")


def test_data_without_labels_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "plain.npz"
    save_npz(path, torch.zeros((8, 1, 4, 4), dtype=torch.uint8), None)
    assert execute(["irs", "class-removal", str(path), "--out", str(tmp_path / "o")]) == 2
    assert "has no labels of two classes" in capsys.readouterr().err


def test_the_threshold_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    command = ["irs", "threshold", "--train", "1281166", "--samples", "50000", "--diversity", "0.8"]
    assert execute(command) == 0
    assert "k_min = 48,745" in capsys.readouterr().out
    assert execute([*command, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["duplicates_allowed"] == 1255


def test_a_folder_that_cannot_be_made_is_said_before_the_work(capsys: pytest.CaptureFixture[str]) -> None:
    assert execute(["irs", "class-removal", "--out", "/proc/nope"]) == 2
    assert capsys.readouterr().err.startswith("Error: --out /proc/nope: cannot be made")
