"""`genplug check`: the suite of an installed component, run by pytest, as a verdict per promise."""

from __future__ import annotations

import contextlib
import inspect
import io
import itertools
import os
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytest

from genplug.testing import SUITES, ComponentSuite
from genplug.testing.workplace import resolve_part

Outcome = Literal["kept", "broken", "does not apply"]
_OUTCOMES: Mapping[str, Outcome] = {"passed": "kept", "failed": "broken", "skipped": "does not apply"}
_MODULE = "from genplug.testing.checking import chosen\n\nTestCheck = chosen()\n"
_SUITE: list[type[ComponentSuite]] = []
_NUMBERS = itertools.count()


@dataclass(frozen=True)
class Verdict:
    """One promise, what became of it, and why if it was not kept."""

    promise: str
    outcome: Outcome
    reason: str = ""


def check(kind: str, name: str, options: Mapping[str, Any] | None = None) -> list[Verdict]:
    """Test an installed component against the promises of its kind, in the order of the suite.

    Options that it does not have, or that it needs and are not given, raise `ConfigError`.
    """
    if kind != "objective":  # its suite fills in second generators
        resolve_part(kind, name, options or {})
    suite = type("Check", (SUITES[kind],), {"name": name, "options": dict(options or {})})
    verdicts = Verdicts(suite)
    with _chosen(suite), tempfile.TemporaryDirectory() as folder:
        module = Path(folder) / f"test_check_{next(_NUMBERS)}.py"  # pytest imports a name only once
        module.write_text(_MODULE, encoding="utf-8")
        settings = ["-p", "no:cacheprovider", "--import-mode=importlib", "-c", os.devnull]
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            pytest.main([str(module), "-q", "--rootdir", folder, *settings], plugins=[verdicts])
    return verdicts.found


def chosen() -> type[ComponentSuite]:
    """Return the suite that is being checked; for the module that pytest collects."""
    return _SUITE[-1]


@contextlib.contextmanager
def _chosen(suite: type[ComponentSuite]) -> Iterator[None]:
    _SUITE.append(suite)
    try:
        yield
    finally:
        _SUITE.pop()


class Verdicts:
    """A pytest plugin that turns reports into verdicts."""

    def __init__(self, suite: type[ComponentSuite]) -> None:
        self.suite, self.found = suite, list[Verdict]()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note a test that ran, or one that could not be set up."""
        if report.when == "call" or (report.when == "setup" and not report.passed):
            test = getattr(self.suite, report.nodeid.rpartition("::")[2].partition("[")[0])
            promise = " ".join((inspect.getdoc(test) or test.__name__).split("\n\n")[0].split())
            self.found.append(Verdict(promise, _OUTCOMES[report.outcome], _reason(report)))


def _reason(report: pytest.TestReport) -> str:
    """Return why a test failed or was skipped, in one line."""
    if report.passed:
        return ""
    if isinstance(report.longrepr, tuple):
        return report.longrepr[2].removeprefix("Skipped: ")
    crash = getattr(report.longrepr, "reprcrash", None)
    text = crash.message if crash is not None else str(report.longrepr)
    first = text.strip().splitlines()[0] if text.strip() else "failed"
    return first.removeprefix("AssertionError: ")
