"""Every failure that a user or the machine causes is one line on stderr and exit code 2."""

import pytest

from genplug_cli.failures import explain

RUN = ("run", "-g", "toy-grey", "-o", "none")
SAMPLE = ("sample", "toy-grey", "-o", "x", "-n", "1", "--set")
MISTAKES = {
    "unknown generator": (
        ("run", "-g", "toy-gray"),
        "no generator named 'toy-gray'; did you mean 'toy-grey'?",
    ),
    "unknown preset": (("run", "-g", "toy-grey.drak"), "did you mean 'toy-grey.dark'?"),
    "unknown key": ((*RUN, "--set", "generator.shdae=1"), "did you mean 'generator.shade'?"),
    "unknown section": ((*RUN, "--set", "generatr.shade=1"), "did you mean 'generator'?"),
    "bad value": ((*RUN, "--set", "generator.shade=2"), "bad value for 'generator.shade' (from --set"),
    "no key=value": ((*RUN, "--set", "generator.shade"), "expected KEY=VALUE"),
    "capability": (("run", "-g", "toy-grey", "-o", "toy-train"), "needs denoiser|likelihood, trainable"),
    "bad sweep": (
        (*RUN[:3], "-o", "toy-brighter", "--sweep", "objective.amount"),
        "expected KEY=START:STOP:STEP",
    ),
    "no control": ((*RUN[:3], "-o", "toy-brighter", "--control"), "'toy-brighter' makes no control"),
    "unknown recipe": (("run", "--recipe", "toy-lihgt"), "did you mean 'toy-light'?"),
    "no recipe file": (("run", "--recipe", "gone.toml"), "gone.toml: No such file"),
    "recipe and generator": ((*RUN, "--recipe", "toy-light"), "--generator cannot stand beside --recipe"),
    "recipe and another's option": (
        ("run", "--recipe", "toy-light", "--set", "objective.amount=2"),
        "--set objective.amount: of a recipe",
    ),
    "no config file": ((*RUN, "--config", "gone.toml"), "gone.toml: No such file"),
    "missing weights": (("run", "-g", "toy-grey.far", "-o", "none"), "genplug fetch toy-grey.far"),
    "broken component": (("run", "-g", "toy-brittle"), "of genplug-mock 1.0 is broken"),
    "missing data": (("evaluate", "gone", "toy-data:train"), "no sample set 'gone'"),
    "empty name": ((*RUN, "--dataset", ""), "an empty name for the dataset"),
    "unknown data set": (("evaluate", "toy-dota", "x"), "did you mean 'toy-data'?"),
    "evaluator option": (
        ("evaluate", "toy-data:train", "toy-data:train", "--set", "evaluator.toy-gpa.scale=2"),
        "did you mean 'toy-gap'?",
    ),
    "unknown extractor": (("evaluate", "a", "b", "--extractor", "toy-maen"), "did you mean 'toy-mean'?"),
    "unknown component": (("plugins", "toy-gre"), "did you mean 'toy-grey'?"),
    "unknown kind": (("plugins", "--kind", "generators"), "did you mean 'generator'?"),
    "unknown command": (("rum",), "did you mean 'run'?"),
    "unknown option": (("run", "--generater", "x"), "--generater"),
    "missing option": (("sample", "toy-grey"), "missing option '--out'"),
    "missing argument": (("evaluate", "a"), "GENERATED"),
    "bad number": (("sample", "toy-grey", "-o", "x", "-n", "many"), "-n"),
    "no number": (("sample", "toy-grey", "-o", "x"), "give -n N or --seeds A:B"),
    "bad seeds": (("sample", "toy-grey", "-o", "x", "--seeds", "9:3"), "--seeds '9:3'"),
    "bad classes": (("sample", "toy-grey", "-o", "x", "-n", "1", "--classes", "balance"), "'balanced'"),
    "bare key": ((*SAMPLE, "shade=1"), "'generator.shade'"),
    "points as images": (("sample", "toy-points", "-o", "x", "-n", "1"), "points"),
    "user error in sampling": (
        ("sample", "toy-grey", "-o", "x", "-n", "1", "--set", "generator.fail=user"),
        "cannot",
    ),
    "full disk": (
        ("sample", "toy-grey", "-o", "x", "-n", "1", "--set", "generator.fail=disk"),
        "no space left",
    ),
    "out of memory": (
        ("sample", "toy-grey", "-o", "x", "-n", "1", "--set", "generator.fail=memory"),
        "does not fit with one sample",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_line_and_exit_code_2(genplug, mistake):
    arguments, words = MISTAKES[mistake]
    outcome = genplug(*arguments)
    assert outcome.code == 2
    assert outcome.out == ""
    *progress, line = outcome.err.splitlines()
    assert line.startswith("Error: ")
    assert words in line
    assert not [text for text in progress if not text.startswith(("sampling", "Warning"))]


def test_an_empty_folder_is_named(genplug, here):
    (here / "empty").mkdir()
    outcome = genplug("evaluate", "toy-data:held-out", "empty")
    assert (outcome.code, outcome.out) == (2, "")
    assert outcome.err.startswith("Error: empty holds no images")


def test_bad_images_are_named_and_skipped_on_request(genplug, here):
    assert genplug("sample", "toy-grey", "-o", "images", "-n", "4").code == 0
    (here / "images" / "0000" / "bad.png").write_bytes(b"")
    refused = genplug("evaluate", "toy-data:held-out", "images")
    assert (refused.code, refused.out) == (2, "")
    assert "bad.png" in refused.err
    skipped = genplug("evaluate", "toy-data:held-out", "images", "--skip-bad", "--json", "--quiet")
    assert skipped.code == 0
    assert skipped.err == "Warning: images: left out 1 images that cannot be read\n"


def test_a_bug_keeps_its_traceback(genplug):
    outcome = genplug("sample", "toy-grey", "-o", "x", "-n", "1", "--set", "generator.fail=bug", "-q")
    assert outcome.code == 1
    assert outcome.err.startswith("Traceback")
    assert outcome.err.endswith("ZeroDivisionError: a bug\n")


def test_tracebacks_of_mistakes_are_shown_on_request(genplug, monkeypatch):
    monkeypatch.setenv("GENPLUG_TRACEBACK", "1")
    outcome = genplug("run", "-g", "toy-gray")
    assert outcome.code == 2
    assert outcome.err.startswith("Traceback")
    assert outcome.err.splitlines()[-1].startswith("Error: no generator")


def test_ctrl_c_says_that_the_same_command_continues(genplug):
    command = ("sample", "toy-grey", "-o", "x.npz", "-n", "1")
    outcome = genplug(*command, "--set", "generator.fail=interrupt")
    assert (outcome.code, outcome.out) == (130, "")
    assert outcome.err == "Interrupted; the same command continues where it stopped\n"


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (MemoryError(), "out of memory"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), "out of memory"),
        (RuntimeError("I/O error: No space left on device (os error 28)"), "no space left"),
        (RuntimeError("anything else"), None),
        (OSError(5, "Input/output error"), None),
    ],
)
def test_what_libraries_raise_is_told_apart(error, words):
    line = explain(error)
    assert line is None if words is None else words in line
