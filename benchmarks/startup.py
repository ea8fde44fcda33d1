"""CPU seconds of `genplug --help` and `genplug plugins`, alone and with 100 more plugins installed.

    python benchmarks/startup.py [--repeats 7]

Goals: 0.3 s each, and at most 0.1 s for the 100 plugins. The dummies are importable packages with an
entry point each, in a folder on PYTHONPATH; all three commands are run in turn.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

PLUGIN = """from genplug import EvaluatorSpec, hookimpl


@hookimpl
def register_evaluators():
    return [EvaluatorSpec(name="dummy-{n}", summary="-", config="dummy_{n}:Config", scores={{"d": "lower"}})]
"""


def install_dummies(folder: Path, count: int) -> None:
    """Write packages with dist-info, as pip would."""
    for n in range(count):
        (folder / f"dummy_{n}.py").write_text(PLUGIN.format(n=n))
        info = folder / f"dummy_{n}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: dummy-{n}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[genplug]\ndummy_{n} = dummy_{n}\n")


def cpu_seconds(command: list[str], path: str) -> float:
    """Run a command and return its user and system seconds."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    environment = {**os.environ, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": ""}
    subprocess.run(
        [sys.executable, "-m", "genplug", *command], check=True, env=environment, stdout=subprocess.DEVNULL
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


def main() -> None:
    """Print the minimum of each."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=7)
    repeats = parser.parse_args().repeats
    with tempfile.TemporaryDirectory() as folder:
        install_dummies(Path(folder), 100)
        cases = {
            "--help": (["--help"], ""),
            "plugins": (["plugins"], ""),
            "plugins, 100 more": (["plugins"], folder),
        }
        times: dict[str, list[float]] = {name: [] for name in cases}
        for _ in range(repeats + 1):  # the first writes bytecode
            for name, (command, path) in cases.items():
                times[name].append(cpu_seconds(command, path))
    best = {name: min(values[1:]) for name, values in times.items()}
    for name, value in best.items():
        print(f"{name:20} {value:.3f} s CPU (minimum of {repeats})")
    print(f"{'100 plugins cost':20} {best['plugins, 100 more'] - best['plugins']:.3f} s CPU (goal 0.1)")


if __name__ == "__main__":
    main()
