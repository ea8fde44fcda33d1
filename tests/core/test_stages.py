"""Stages: whole or not at all, never made twice, never silently from something else."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from genplug.errors import RunDirectoryError
from genplug.locks import locked
from genplug.stages import digest_of, run_stage, write_json


class Work:
    """Writes a file; fails as often as told."""

    def __init__(self, failures: int = 0) -> None:
        self.failures, self.calls = failures, 0

    def __call__(self, partial: Path) -> None:
        self.calls += 1
        (partial / f"piece-{self.calls}").write_text("x")
        if self.calls <= self.failures:
            raise KeyboardInterrupt


def pieces(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.glob("piece-*"))


def test_a_finished_stage_is_not_made_again(tmp_path: Path) -> None:
    work = Work()
    first, again = (run_stage(tmp_path, "a/b", {"x": 1}, work) for _ in range(2))
    assert first == again == tmp_path / "a" / "b"
    assert work.calls == 1
    assert json.loads((first / "stage.json").read_text())["key"] == {"x": 1}


def test_an_interrupted_stage_is_not_there_and_is_continued(tmp_path: Path) -> None:
    work = Work(failures=1)
    with pytest.raises(KeyboardInterrupt):
        run_stage(tmp_path, "a", {"x": 1}, work)
    assert not (tmp_path / "a").exists()
    assert pieces(run_stage(tmp_path, "a", {"x": 1}, work)) == ["piece-1", "piece-2"]
    assert not (tmp_path / "a.partial").exists()


def test_an_interrupted_stage_with_another_key_is_discarded(tmp_path: Path) -> None:
    work = Work(failures=1)
    with pytest.raises(KeyboardInterrupt):
        run_stage(tmp_path, "a", {"x": 1}, work)
    assert pieces(run_stage(tmp_path, "a", {"x": 2}, work)) == ["piece-2"]


@pytest.mark.parametrize("spoil", [None, "{", "[]"])
def test_a_finished_stage_of_another_key_is_an_error(tmp_path: Path, spoil: str | None) -> None:
    work = Work()
    done = run_stage(tmp_path, "a", {"x": 1}, work)
    if spoil is not None:
        (done / "stage.json").write_text(spoil)
    with pytest.raises(RunDirectoryError, match="was made from other inputs"):
        run_stage(tmp_path, "a", {"x": 2 if spoil is None else 1}, work)
    assert pieces(done) == ["piece-1"]


def test_other_processes_work_but_do_not_rename(tmp_path: Path) -> None:
    (tmp_path / "a.partial").mkdir()
    run_stage(tmp_path, "a", {}, Work(), is_main=False)
    assert pieces(tmp_path / "a.partial") == ["piece-1"]


def test_digests_do_not_depend_on_order() -> None:
    assert digest_of({"a": 1, "b": [2, 3]}) == digest_of({"b": [2, 3], "a": 1})
    assert digest_of({"a": 1}) != digest_of({"a": 2})


def test_json_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    write_json(tmp_path / "x.json", [1])
    with pytest.raises(TypeError):
        write_json(tmp_path / "x.json", object())
    assert json.loads((tmp_path / "x.json").read_text()) == [1]
    assert [path.name for path in tmp_path.iterdir()] == ["x.json"]


def test_a_directory_has_one_writer_and_is_released(tmp_path: Path) -> None:
    with locked(tmp_path / "x", "wait"):
        second = locked(tmp_path / "x", "wait")
        with pytest.raises(RunDirectoryError, match="in use by another process; wait"):
            second.__enter__()
    with locked(tmp_path / "x", "wait"):
        pass
