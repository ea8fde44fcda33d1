"""No command line and no TOML file ends in a traceback, whatever is in it.

Real words, near misses and hostile values are put together at random. Nothing heavy can start: `run`
only plans, `sample` writes to a place that is taken, `evaluate` and `check` name what does not exist.
"""

from __future__ import annotations

import io
import math
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import pytest
import tomli_w
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from genplug.registry import KINDS
from genplug_cli.main import execute

EXAMPLES = int(os.environ.get("GENPLUG_TEST_EXAMPLES", "1000"))
STABLE = settings(
    max_examples=EXAMPLES,
    derandomize="GENPLUG_TEST_EXAMPLES" not in os.environ,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
REFUSED = 2
TAKEN = "taken"

NAMES = """
    edm2 edm2.digits edm2.img512-xs edm2.img64-s ddo ddo.digits ddo.edm2-img64-s pretrain none heun
    euler digits pixels digits-classifier frechet prdc irs fake-points fake-tokens folder
""".split()  # noqa: SIM905
KEYS = """
    run.seed run.samples run.blocks run.classes run.extractors run.evaluators run.skip_bad run
    runtime.processes runtime.device runtime generator generator.name generator.preset
    generator.weights generator.sampler generator.sampler.name generator.sampler.steps
    generator.resolution generator.channel_mult generator.attn_resolutions generator.size
    generator.log_std objective objective.name objective.alpha objective.rounds objective.weights
    objective.train objective.train.steps objective.train.ema_std objective.1.alpha
    objective.2.train.lr dataset dataset.name dataset.path extractor.pixels evaluator.prdc.k
    evaluator.irs extractor evaluator
""".split()  # noqa: SIM905
HOSTILE = [
    "", " ", "=", "==", ".", "..", "a.b", ".a", "a..b", "-", "--", "---x", "/", "/dev/null", "~",
    "é", "\u202e", "🙂",
    "\ud800", "\udcff", "\n", "a\nb", "\r\n", "\t", "\x00", "a\x00b", "\x1b[31m", "x" * 300,
    "x" * 20_000, "%s", "{0}",
    "{x}", "'", '"', "[", "]", "[[", "{", "}", "nan", "inf", "-inf", "-1", "0", "1e400", "1" + "0" * 400,
    "9" * 5000, "0x" + "f" * 5000, "1_0", "１", "²", "true", "null", "[]", "{}", "[[]]", "{a=1}", "{name=3}",
    '{name="heun"}', "[1,[2]]", "1979-05-27", "07:32:00", "# x", "1 # x", "3\ny = 4", "[" * 1500,
    "{a=" * 1500,
    "a." * 500 + "a", "..:improved", ":", "x:", ":x", "digits:nowhere", "edm2.", ".edm2", "edm2..",
    "edm2.digits.x",
    "con", "../..", "file:///etc/passwd", "taken", "taken/inside", "broken.toml", "latin.toml",
]  # fmt: skip


@st.composite
def near_misses(draw: st.DrawFn, words: list[str]) -> str:
    """A real word with a letter changed, left out or added."""
    word = draw(st.sampled_from(words))
    at = draw(st.integers(0, len(word) - 1))
    return word[:at] + draw(st.sampled_from(["", "x", ".", "-", "_", "É"])) + word[at + 1 :]


HOSTILE_TEXT = st.sampled_from(HOSTILE) | st.text(max_size=8)
ANY_NAME = st.sampled_from(NAMES) | near_misses(NAMES) | HOSTILE_TEXT
ANY_KEY = st.sampled_from(KEYS) | near_misses(KEYS) | HOSTILE_TEXT
NUMBERS = st.integers() | st.floats() | st.sampled_from([0, 1, 2, -1, 10**400, 2**63, 2**64, 1e308, math.nan])
TEXTS = st.one_of(ANY_NAME, NUMBERS.map(lambda number: str(number) if number != 10**400 else "1" + "0" * 400))
ASSIGNMENTS = st.builds("{}={}".format, ANY_KEY, TEXTS) | ANY_KEY
FLAGS: dict[str, st.SearchStrategy[str] | None] = {
    "--generator": ANY_NAME, "-g": ANY_NAME, "--objective": ANY_NAME, "--dataset": ANY_NAME,
    "--extractor": ANY_NAME,
    "--evaluator": ANY_NAME, "--set": ASSIGNMENTS, "--processes": TEXTS, "--config": TEXTS, "--json": None,
    "--quiet": None, "--kind": ANY_NAME | st.sampled_from(list(KINDS)), "--number": TEXTS,
    "-n": TEXTS, "--seeds": TEXTS,
    "--classes": TEXTS, "--batch": TEXTS, "--train": ANY_NAME, "--skip-bad": None, "--force": None,
    "--nonsense": TEXTS, "-x": None, "--help": None, "--version": None,
}  # fmt: skip
USUAL = {
    "run": ["--generator", "--objective", "--dataset", "--extractor", "--evaluator", "--set", "--json"],
    "sample": ["--set", "--number", "--seeds", "--classes", "--batch", "--json"],
    "evaluate": ["--set", "--extractor", "--evaluator", "--train", "--skip-bad"],
    "plugins": ["--kind", "--json"],
    "check": ["--kind", "--json"],
}


@st.composite
def flag(draw: st.DrawFn, command: str) -> list[str]:
    """A flag, mostly one that the command has, mostly with its value."""
    name = draw(st.sampled_from(USUAL[command] * 4 + sorted(FLAGS)))
    values = FLAGS[name]
    if values is None or draw(st.integers(0, 19)) == 0:
        return [name]
    value = draw(values)
    return [f"{name}={value}"] if name.startswith("--") and draw(st.booleans()) else [name, value]


@st.composite
def command_lines(draw: st.DrawFn) -> list[str]:
    """A command line that cannot start heavy work."""
    command = draw(st.sampled_from(sorted(USUAL)))
    head = {
        "run": ["--plan"],
        "sample": ["-o", TAKEN, draw(ANY_NAME)],
        "evaluate": [f"gone/{draw(HOSTILE_TEXT)}", draw(ANY_NAME)],
        "plugins": draw(st.lists(ANY_NAME, max_size=1)),
        "check": [f"gone{draw(HOSTILE_TEXT)}"],
    }[command]
    flags = [word for words in draw(st.lists(flag(command), max_size=5)) for word in words]
    line = [command, *head, *flags]
    if draw(st.integers(0, 9)) == 0:
        line = draw(near_misses([command]).map(lambda word: [word, *line[1:]]))
    return line


SCALARS = st.one_of(ANY_NAME, NUMBERS, st.booleans(), st.dates(), st.times(), st.datetimes())
VALUES: st.SearchStrategy[Any] = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(ANY_KEY, inner, max_size=3),
    max_leaves=5,
)


def nested(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Dotted keys as tables; a value in the way of a table is replaced."""
    result: dict[str, Any] = {}
    for key, value in pairs:
        *parents, last = key.split(".")
        node = result
        for parent in parents:
            if not isinstance(node.get(parent), dict):
                node[parent] = {}
            node = node[parent]
        node[last] = value
    return result


CONFIGS = st.lists(st.tuples(ANY_KEY, VALUES), max_size=5).map(nested) | st.dictionaries(
    st.sampled_from(["run", "generator", "objective", "dataset", "extractor", "evaluator", "runtime"]), VALUES
)
ENTRY = st.dictionaries(
    st.sampled_from(
        ["kind", "summary", "values", "unset", "recipes", "address", "format", "sha256", "licence", "dataset",
         "published", "sources", "bytes", "part", "prefix", "origin", "name"]
    ) | HOSTILE_TEXT,
    VALUES,
    max_size=4,
)  # fmt: skip
REGISTRIES = st.fixed_dictionaries(
    {},
    optional={
        "preset": st.dictionaries(ANY_NAME | st.just("edm2.mine"), ENTRY | VALUES, max_size=3) | VALUES,
        "run": st.dictionaries(st.sampled_from([key[4:] for key in KEYS if key.startswith("run.")]), VALUES),
        "dataset": st.dictionaries(ANY_NAME, VALUES, max_size=2) | VALUES,
        "generator": st.dictionaries(
            ANY_NAME, st.fixed_dictionaries({"preset": VALUES}) | VALUES, max_size=2
        ),
        "objective": VALUES,
        "x": VALUES,
    },
)


def toml(values: Mapping[str, Any]) -> bytes | None:
    """The text of a TOML file; None for what TOML cannot hold."""
    try:
        return tomli_w.dumps(values).encode("utf-8")
    except (UnicodeEncodeError, ValueError, RecursionError):
        return None


@st.composite
def toml_files(draw: st.DrawFn, contents: st.SearchStrategy[dict[str, Any]]) -> bytes:
    """A TOML file, now and then damaged."""
    text = toml(draw(contents))
    assume(text is not None)
    assert text is not None
    if draw(st.integers(0, 9)) == 0:
        at = draw(st.integers(0, len(text)))
        text = text[:at] + draw(st.binary(max_size=3) | st.just(b"")) + text[at + draw(st.integers(0, 9)) :]
    return text


@contextmanager
def workplace(registry: bytes | None = None, user: bytes | None = None) -> Iterator[Path]:
    """An own working directory and configuration folder."""
    before, config = Path.cwd(), os.environ.get("XDG_CONFIG_HOME", "")
    with tempfile.TemporaryDirectory() as folder:
        here, own = Path(folder, "here"), Path(folder, "config", "genplug")
        (here / TAKEN).mkdir(parents=True)
        own.mkdir(parents=True)
        (here / "broken.toml").write_text("[run\n")
        (here / "latin.toml").write_bytes(b'x = "\xe9"')
        for path, content in ((here / "registry.toml", registry), (own / "registry.toml", user)):
            if content is not None:
                path.write_bytes(content)
        os.chdir(here)
        os.environ["XDG_CONFIG_HOME"] = str(own.parent)
        try:
            yield here
        finally:
            os.chdir(before)
            os.environ["XDG_CONFIG_HOME"] = config


def speak(line: list[str]) -> tuple[int, str]:
    """Run a command line in this process with streams as a shell gives them; return code and stderr."""
    out = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    err = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", errors="backslashreplace")
    with redirect_stdout(out), redirect_stderr(err):
        code = execute(line)
        out.flush()
    err.flush()
    return code, err.buffer.getvalue().decode()


def ends_well(line: list[str], here: Path) -> int:
    """Check how a command line ends; return its code."""
    before = sorted(here.rglob("*"))
    code, err = speak(line)
    errors = [text for text in err.splitlines() if text.startswith("Error:")]
    assert "Traceback" not in err, f"{line}\n{err}"
    assert code in (0, REFUSED), f"{line}\n{err}"
    assert len(errors) == (code == REFUSED), f"{line}\n{err}"
    assert all(text.startswith(("Error:", "Warning:")) for text in err.split("\n") if text), f"{line}\n{err}"
    assert sorted(here.rglob("*")) == before, f"{line} left something"
    return code


@pytest.mark.slow
@STABLE
@given(line=command_lines())
def test_no_command_line_ends_in_a_traceback(line: list[str]) -> None:
    with workplace() as here:
        ends_well(line, here)


@pytest.mark.slow
@STABLE
@given(config=toml_files(CONFIGS), flags=st.lists(flag("run"), max_size=1))
def test_no_configuration_file_ends_in_a_traceback(config: bytes, flags: list[list[str]]) -> None:
    with workplace() as here:
        (here / "run.toml").write_bytes(config)
        ends_well(
            ["run", "--plan", "--config", "run.toml", *(word for words in flags for word in words)], here
        )
        ends_well(["sample", ".", "-o", TAKEN, "-n", "1"], here)


@pytest.mark.slow
@settings(STABLE, max_examples=EXAMPLES // 4)
@given(here=toml_files(REGISTRIES), user=toml_files(REGISTRIES))
def test_no_registry_file_ends_in_a_traceback(here: bytes, user: bytes) -> None:
    with workplace(here, user) as place:
        assert ends_well(["plugins"], place) == 0
        ends_well(["run", "--plan", "--json"], place)
        ends_well(["sample", "edm2.mine", "-o", TAKEN, "-n", "1"], place)


LIGHT = """
import sys
from genplug_cli.main import execute
lines = {lines!r}
codes = [execute(line) for line in lines]
assert codes == {codes!r}, codes
print(*({heavy!r} & sys.modules.keys()), "end", file=sys.stderr)
"""


def test_what_is_refused_or_only_planned_never_imports_torch() -> None:
    planned = [["run", "-g", "edm2", "-o", "ddo", "--plan"], ["plugins"], ["plugins", "edm2"]]
    refused = [
        ["run", "-g", "edm3"],
        ["run", "--plan", "--set", "generator.siez=xs"],
        ["run", "--plan", "--set", "run.seed=nan"],
        ["run", "--plan", "--config", "broken.toml"],
        ["sample", "edm3", "-o", "x", "-n", "1"],
        ["sample", "edm2", "-o", TAKEN, "-n", "1"],
        ["sample", "runs/none", "-o", "x", "-n", "1"],
        ["plugins", "edm3"],
        ["check", "edm3"],
        ["rum"],
    ]
    codes = [0] * len(planned) + [REFUSED] * len(refused)
    code = LIGHT.format(lines=planned + refused, codes=codes, heavy={"torch", "numpy", "PIL"})
    with workplace():
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines()[-1].strip() == "end"
