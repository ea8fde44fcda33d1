"""Every speed of the evaluation in one go, as it stands in the documentation.

    pip install prdc vendi-score pytorch-fid torch-fidelity scipy
    python benchmarks/evaluation.py                     # prints
    python benchmarks/evaluation.py --write docs/speed.md

Runs the benchmarks beside this file one after the other, each with its own sides in turn, and puts what
they print between the marks of the page, with the machine it was printed on. Nothing else should run.
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path

HERE = Path(__file__).parent
BENCHMARKS = {
    "neighbours.py": ["--rounds", "2"],
    "frechet_vendi.py": ["--rounds", "3"],
    "irs.py": [],
    "extraction.py": ["96", "2"],
}
PACKAGES = (
    "torch",
    "numpy",
    "scipy",
    "faiss-gpu",
    "faiss-cpu",
    "prdc",
    "vendi-score",
    "pytorch-fid",
    "torch-fidelity",
)
START, END = "<!-- measured -->", "<!-- end of measured -->"


def machine() -> str:
    """Return what it ran on."""
    known = {d.metadata["Name"].lower().replace("_", "-"): d.version for d in metadata.distributions()}
    found = ", ".join(f"{name} {known[name]}" for name in PACKAGES if name in known)
    cpu = next((line.partition(":")[2].strip() for line in _cpuinfo() if line.startswith("model name")), "")
    bf16 = (
        "bfloat16 products" if any("avx512_bf16" in line for line in _cpuinfo()) else "no bfloat16 products"
    )
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    processor = f"{cores} cores of {cpu or platform.processor()} ({bf16})"
    return f"{processor}; Python {platform.python_version()}, {found}"


def _cpuinfo() -> list[str]:
    path = Path("/proc/cpuinfo")
    return path.read_text().splitlines() if path.exists() else []


def measured() -> str:
    """Run all benchmarks and return what they print, as Markdown."""
    blocks = [f"Measured on {time.strftime('%Y-%m-%d')}: {machine()}."]
    for name, options in BENCHMARKS.items():
        command = [sys.executable, str(HERE / name), *options]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
        shown = " ".join(["python", f"benchmarks/{name}", *options])
        blocks.append(f"```text\n$ {shown}\n{done.stdout.strip()}\n```")
        if done.returncode:
            blocks.append(f"(`{name}` ended with exit code {done.returncode}: not every goal was met)")
    return "\n\n".join(blocks)


def main() -> None:
    """Print, or write the page."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--write", type=Path, metavar="PAGE", help="page whose measured part is replaced")
    page = parser.parse_args().write
    text = measured()
    print(text)
    if page is not None:
        whole = page.read_text(encoding="utf-8")
        part = f"{START}\n\n{text}\n\n{END}"
        page.write_text(re.sub(f"{START}.*{END}", lambda _: part, whole, flags=re.S), encoding="utf-8")


if __name__ == "__main__":
    main()
