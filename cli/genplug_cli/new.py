"""`genplug new`: a plugin package that works, to be changed into one's own.

The templates are in `scaffold/`: five files that all kinds share, and for each kind its options
(`KIND.fields`) and its implementation (`KIND.py`).
"""

from __future__ import annotations

import keyword
import os
import re
import shlex
import shutil
from collections.abc import Mapping
from importlib import resources, util
from pathlib import Path
from string import Template
from typing import Annotated

import typer

LONGEST = 24  # characters of a name: templates keep within a line's length up to here
_PATTERN = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")

#: What each kind's example does, and what its spec says beside name, summary and options.
EXAMPLES: Mapping[str, tuple[str, str]] = {
    "generator": ("grey images of one soft disc each", 'tiny={"resolution": 8}'),
    "sampler": ("midpoint method, second order, without noise", 'tiny={"steps": 4}'),
    "extractor": ("mean values on a coarse grid", 'outputs=("features",)'),
    "distance": ("Minkowski distance, exact", "differentiable=True"),
    "objective": (
        "postprocess: images with more contrast",
        'stage="postprocess",\n            modality="image",\n'
        '            removes=("denoiser", "likelihood", "trainable", "latent")',
    ),
    "evaluator": (
        "mean contrast of generated images minus that of held-out ones",
        'modality="image",\n            inputs=("samples", "held_out"),\n            scores={"$name": 0.0}',
    ),
    "dataset": ("grey images of lying and standing bars, two classes", 'tiny={"count": 64}'),
}

Name = Annotated[str, typer.Argument(metavar="NAME", help="Lower case with hyphens; it makes genplug-NAME.")]
Kind = Annotated[str, typer.Option("--kind", metavar="KIND", help="Generator, sampler, extractor, ...")]
Out = Annotated[
    Path | None, typer.Option("--out", "-o", metavar="DIR", help="Folder to make (default: genplug-NAME).")
]


def new(name: Name, kind: Kind, out: Out = None) -> None:
    """Write a plugin package with one component, its options and its tests, which pass at once.

    \b
    genplug new my-score --kind evaluator
    genplug new blobs --kind dataset --out plugins/blobs

    KIND is generator, sampler, extractor, distance, objective, evaluator or dataset. What it writes
    does something small and whole: change it into yours, and run its tests as you go.
    """
    from genplug.errors import DataError, unknown

    if kind not in EXAMPLES:
        raise unknown("kind", kind, EXAMPLES)
    check_name(name)
    out = Path(f"genplug-{name}") if out is None else out
    if os.path.lexists(out):
        raise DataError(f"{out} exists; name another folder with --out")
    try:
        write(out, package_files(name, kind))
    except OSError as error:
        raise DataError(f"cannot write {out}: {error.strerror or error}") from None
    _tell(name, kind, out)


def check_name(name: str) -> None:
    """Refuse a name that could not be a component's, a package's and a class's, or that is taken."""
    from genplug.errors import ConfigError, shown
    from genplug.registry import catalog

    if not _PATTERN.fullmatch(name) or len(name) > LONGEST:
        wanted = f"at most {LONGEST} characters, lower case with hyphens, as in 'my-score'"
        raise ConfigError(f"name {shown(name)}: expected {wanted}")
    if keyword.iskeyword(name) or name.startswith("genplug"):
        reason = (
            "is a word of Python" if keyword.iskeyword(name) else "has the prefix genplug, which is added"
        )
        raise ConfigError(f"name {name!r} {reason}; choose another")
    for entry in catalog():
        if entry.spec.name == name:
            raise ConfigError(
                f"{entry.spec.kind} {name!r} is installed already, from {entry.package}; choose another name"
            )
    if util.find_spec(import_name(name)) is not None:
        raise ConfigError(f"package {import_name(name)!r} is installed already; choose another name")


def import_name(name: str) -> str:
    """Return the package that `genplug-NAME` is imported as."""
    return f"genplug_{name.replace('-', '_')}"


def package_files(name: str, kind: str) -> dict[str, str]:
    """Return the new package's files, text by path."""
    summary, facts = EXAMPLES[kind]
    package = import_name(name)
    words = {"name": name, "package": package, "kind": kind, "Kind": kind.capitalize(), "summary": summary}
    words["Class"] = class_name(name, kind)
    words["Base"] = "GeneratorConfig" if kind == "generator" else "Config"
    words["facts"] = Template(facts).substitute(words)
    words["fields"] = _filled(f"{kind}.fields", words).rstrip()
    templates = {
        "pyproject.toml": "pyproject.toml",
        "README.md": "README.md",
        f"{package}/__init__.py": "init.py",
        f"{package}/config.py": "config.py",
        f"{package}/{kind}.py": f"{kind}.py",
        f"tests/test_{package}.py": "test.py",
    }
    return {path: _filled(template, words) for path, template in templates.items()}


def class_name(name: str, kind: str) -> str:
    """Return the implementation's name: with its kind at the end, it meets no other (`Score`, `None`)."""
    words = "".join(part.capitalize() for part in name.split("-"))
    return words if words.endswith(kind.capitalize()) and name != kind else words + kind.capitalize()


def _filled(template: str, words: Mapping[str, str]) -> str:
    file = resources.files("genplug_cli") / "scaffold" / f"{template}.tmpl"
    return Template(file.read_text(encoding="utf-8")).substitute(words)


def write(directory: Path, files: Mapping[str, str]) -> None:
    """Write files into a folder that appears whole or not at all."""
    directory.parent.mkdir(parents=True, exist_ok=True)
    partial = directory.with_name(f".{directory.name}.{os.getpid()}")
    try:
        for name, text in files.items():
            (partial / name).parent.mkdir(parents=True, exist_ok=True)
            (partial / name).write_text(text, encoding="utf-8")
        partial.rename(directory)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _tell(name: str, kind: str, out: Path) -> None:
    from genplug_cli.terminal import say

    place = shlex.quote(str(out))
    commands = [f"pip install -e {place}", f"pytest {place}", f"genplug check {name}"]
    say("\n".join([f"{out}: {kind} {name!r}, ready to be changed; next:", *(f"  {c}" for c in commands)]))
