"""`--processes N`: one clear line, whichever process failed and however the others noticed."""

import json
from types import SimpleNamespace

import pytest

from genplug.errors import GenplugError
from genplug.log import Silent
from genplug_cli import progress, workers
from genplug_cli.launch import tell
from genplug_cli.terminal import log

RUN = ("run", "-g", "toy-grey", "-o", "none")


def ended(**exit_codes):
    """Return what torchrun raises when processes ended so."""
    failures = {int(name[1:]): SimpleNamespace(exitcode=code) for name, code in exit_codes.items()}
    return SimpleNamespace(failures=failures, get_first_failure=lambda: next(iter(failures.items())))


@pytest.fixture
def reports(tmp_path, monkeypatch):
    """A folder in which worker 0 met a lost connection and worker 1, later, the user's mistake."""
    monkeypatch.setenv(workers.REPORTS, str(tmp_path))
    for rank, text, expected in (("0", "Traceback ...", False), ("1", "Error: it was you", True)):
        monkeypatch.setenv("RANK", rank)
        workers.hand_over(text, expected)
    return tmp_path


def test_a_mistake_explains_the_failures_of_others(reports, capsys):
    assert tell(ended(r0=1, r1=2), reports) == 2
    assert capsys.readouterr().err == "Error: it was you\n"


def test_a_killed_process_explains_the_tracebacks_of_others(reports):
    next(path for path in reports.iterdir() if path.name.startswith("1-")).unlink()
    with pytest.raises(GenplugError, match="process 1 was killed by SIGKILL; the same command continues"):
        tell(ended(r0=1, r1=-9), reports)


def test_a_bug_keeps_its_traceback(reports, capsys):
    next(path for path in reports.iterdir() if path.name.startswith("1-")).unlink()
    assert tell(ended(r0=1, r1=-15), reports) == 1
    assert capsys.readouterr().err == "Traceback ...\n"


def test_a_silent_end_is_told(tmp_path):
    with pytest.raises(GenplugError, match="process 1 ended with exit code 7"):
        tell(ended(r1=7), tmp_path)


def test_mistakes_are_found_before_anything_is_launched(genplug, monkeypatch):
    monkeypatch.setattr("genplug_cli.launch.launch", lambda *_: pytest.fail("launched"))
    outcome = genplug(*RUN, "--processes", "2", "--set", "generator.shade=2")
    assert (outcome.code, outcome.out) == (2, "")
    assert outcome.err.startswith("Error: bad value for 'generator.shade'")


def test_the_same_command_line_is_launched(genplug, monkeypatch):
    launched = []
    monkeypatch.setattr("genplug_cli.launch.launch", lambda *arguments: launched.append(arguments) or 0)
    assert genplug(*RUN, "--processes", "2", "--json").code == 0
    assert launched == [(2, [*RUN, "--processes", "2", "--json"])]


@pytest.mark.slow
def test_a_mistake_in_one_worker_is_one_line(python):
    code = "import sys; from genplug_cli.main import execute; sys.exit(execute(sys.argv[1:]))"
    command = [*RUN, "--processes", "2", "--quiet", "--set", "generator.fail=rank-1"]
    outcome = python(code.replace("sys.argv[1:]", json.dumps(command)))
    assert (outcome.code, outcome.out) == (2, "")
    assert outcome.err == "Error: toy-grey cannot do this\n"


def test_only_the_main_process_shows_progress(monkeypatch):
    assert isinstance(log(), progress.Lines)
    monkeypatch.setenv("RANK", "1")
    assert type(log()) is Silent


def test_lines_tell_count_rate_and_time_left(capsys, monkeypatch):
    clock = iter([0.0, 10.0, 40.0])
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    with progress.Lines().progress("training", 1000, "step", done=200) as advance:
        advance(100)
        advance(300, note="loss 0.5")
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == "training: 600/1000, 10 steps/s, 0:00:40 left, loss 0.5\n"


def test_bars_nest_and_end(capsys):
    bars = progress.Bars()
    with bars.progress("outer", 2, "stage") as outer:
        with bars.progress("inner", 3, "batch") as inner:
            inner(3, note="done")
        bars.warn("look [here]")
        outer(2)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "Warning: look [here]" in captured.err
    assert "outer" in captured.err


@pytest.mark.parametrize(
    ("rate", "text"),
    [(None, ""), (0.25, "4 s/batch"), (12.345, "12.3 batches/s"), (1234.5, "1,234 batches/s")],
)
def test_rates_read_well(rate, text):
    assert progress.rate_text(rate, "batch") == text
