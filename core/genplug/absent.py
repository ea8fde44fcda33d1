"""Which packages a run was made with that are not installed here."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from genplug.errors import UnknownNameError
from genplug.registry import Catalog

METRICS_FILE = "metrics.json"


@contextmanager
def naming_packages(directory: Path, installed: Catalog) -> Iterator[None]:
    """Add the packages that a run had and this environment has not to an unknown name of that run."""
    try:
        yield
    except UnknownNameError as error:
        gone = absent(directory, installed)
        if not gone:
            raise
        raise UnknownNameError(
            f"{error}; {directory} was made with {' and '.join(gone)}, not installed here"
        ) from None


def absent(directory: Path, installed: Catalog) -> list[str]:
    """Return packages with versions; none if the run is not finished, since then it does not say."""
    try:
        recorded = json.loads((directory / METRICS_FILE).read_text(encoding="utf-8"))["run"]["plugins"]
        names = [str(package) for package in recorded]
    except (OSError, ValueError, KeyError, TypeError):
        return []
    here = {entry.package.name for entry in installed}
    return [name for name in names if name.partition(" ")[0] not in here]
