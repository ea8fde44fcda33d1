"""Looking around is cheap: nothing heavy is imported, and broken plugins spoil nothing."""

import json

import pytest

HEAVY = {"torch", "numpy", "timm", "accelerate", "PIL", "torchvision", "rich"}
GUARD = """
import sys
from genplug_cli.main import execute
code = execute({arguments!r})
print(*sorted({heavy!r} & set(sys.modules)), file=sys.stderr)
sys.exit(code)
"""
LIGHT = {
    "help": ["--help"],
    "run help": ["run", "--help"],
    "version": ["--version"],
    "plugins": ["plugins"],
    "plugins name": ["plugins", "toy-grey"],
    "plan": ["run", "-g", "toy-grey", "-o", "toy-brighter", "--plan"],
    "mistake": ["run", "-g", "toy-gray"],
}


@pytest.mark.parametrize("case", LIGHT)
def test_nothing_heavy_is_imported(python, case):
    outcome = python(GUARD.format(arguments=LIGHT[case], heavy=HEAVY))
    assert outcome.code == (2 if case == "mistake" else 0)
    assert outcome.err.splitlines()[-1] == ""


def test_plain_help_needs_no_pydantic(python):
    outcome = python("import sys; from genplug_cli import main; assert 'pydantic' not in sys.modules")
    assert (outcome.code, outcome.err) == (0, "")


@pytest.mark.parametrize("command", ["run", "sample", "evaluate", "plugins"])
def test_help_shows_an_example(genplug, command):
    outcome = genplug(command, "--help")
    assert (outcome.code, outcome.err) == (0, "")
    assert f"  genplug {command} " in outcome.out


def test_no_arguments_are_answered_with_help(genplug):
    assert genplug().out == genplug("--help").out


def test_version(genplug):
    assert genplug("--version").out.startswith("genplug ")


def test_listing_has_every_component(genplug):
    rows = [line.split()[:4] for line in genplug("plugins").out.splitlines()]
    assert ["generator", "toy-grey", "genplug-mock", "1.0"] in rows
    assert ["dataset", "toy-data", "genplug-mock", "1.0"] in rows


def test_listing_as_json(genplug):
    outcome = genplug("plugins", "--kind", "evaluator", "--json")
    listed = {component["name"]: component for component in json.loads(outcome.out)["components"]}
    assert listed["toy-gap"]["scores"] == {"toy-gap": "lower"}
    assert {component["kind"] for component in listed.values()} == {"evaluator"}


def test_a_name_is_described_with_options_presets_and_an_example(genplug):
    outcome = genplug("plugins", "toy-grey")
    assert outcome.err == ""
    option = next(line for line in outcome.out.splitlines() if "generator.shade" in line)
    assert option.split() == ["generator.shade", "float", "0.5", "≥", "0,", "≤", "1", "mean", "grey"]
    assert "toy-grey.dark" in outcome.out
    assert "genplug run --generator toy-grey --objective none" in outcome.out


def test_a_preset_is_described(genplug):
    text = genplug("plugins", "toy-grey.dark").out
    assert all(words in text for words in ("CC0-1.0", "generator.shade = 0.1", "FID 3.5 (nobody, 2026)"))
    described = json.loads(genplug("plugins", "toy-grey.dark", "--json").out)["presets"][0]
    assert described["published"][0]["value"] == 3.5


def test_a_component_whose_config_is_broken_says_so(genplug):
    outcome = genplug("plugins", "toy-brittle")
    assert outcome.code == 0
    assert "broken: generator 'toy-brittle' of genplug-mock 1.0" in outcome.out


def test_a_broken_plugin_is_listed_and_hides_no_other(genplug, installed):
    installed("genplug_toy_broken")
    outcome = genplug("plugins")
    assert outcome.code == 0
    assert "broken: genplug-toy-broken (genplug-toy-broken 1.0): ImportError: libmissing" in outcome.out
    assert "toy-grey" in outcome.out
    listed = json.loads(genplug("plugins", "--json").out)
    assert {"genplug-toy-broken"} <= {broken["package"] for broken in listed["broken"]}
    assert genplug("run", "-g", "toy-grey", "-o", "none", "--plan").code == 0


@pytest.mark.parametrize("command", [("plugins",), ("plugins", "toy-grey"), ("run", "-g", "toy-grey")])
def test_a_clash_names_both_packages(genplug, installed, command):
    installed("genplug_toy_twin")
    outcome = genplug(*command)
    assert outcome.code == (0 if command == ("plugins",) else 2)
    assert "generator 'toy-grey' is registered by genplug-mock 1.0 and genplug-toy-twin 1.0" in (
        outcome.out + outcome.err
    )


def test_a_plugin_adds_a_command(genplug):
    assert "toy-hello" in genplug("--help").out
    assert genplug("toy-hello", "you").out == "hello you\n"
    mistake = genplug("toy-hello").err
    assert mistake.startswith("Error: missing argument")
    assert mistake.endswith("; see 'genplug toy-hello --help'\n")


def test_a_plugin_whose_commands_fail_is_left_out(genplug, installed):
    installed("genplug_toy_commands")
    outcome = genplug("toy-hello", "you")
    assert (outcome.code, outcome.out) == (0, "hello you\n")
    assert outcome.err.startswith("Warning: the commands of plugin 'genplug-toy-commands")
    assert "no commands today" in outcome.err
    assert genplug("plugins").err == ""


def test_a_command_of_two_plugins_is_left_out(genplug, installed):
    installed("genplug_toy_twin")
    outcome = genplug("toy-hello", "you")
    assert outcome.code == 2
    assert "command 'toy-hello' is registered by genplug-mock" in outcome.err
