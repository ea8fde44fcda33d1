"""Registry files: a bad entry disables itself alone, with file and line; nearer files win."""

from __future__ import annotations

from pathlib import Path

import pytest

from genplug.errors import UnknownNameError
from genplug.presets import presets_from, read_registry, registry
from genplug.registry import Catalog, Package, catalog
from genplug.specs import BadPreset, Preset

GOOD = '[preset."x.good"]\nsummary = "fine"\n'
PACKAGE = Package("some", "1.0")


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ('[preset."x.bad"]\nsumary = "x"\n', 1, "preset.x.bad: ValueError: unknown key 'sumary'"),
        ('\n[preset."x.bad"]\nsha256 = 3\n', 2, "sha256 must be a string"),
        ('[preset."x.bad"]\nvalues = 3\n', 1, "values must be a table"),
        ('[preset."x.bad"]\nsha256 = "3"\n', 1, "sha256 must be 64 hexadecimal digits"),
        (
            '[preset."x.bad"]\nformat = "zip"\n',
            1,
            "unknown format 'zip' (known: safetensors, nvlabs-pickle, torch)",
        ),
        ('[preset."x.bad"]\naddress = "s3://b/f"\n', 1, "unknown address 's3://b/f'"),
        ('[preset."x.bad"]\nbytes = true\n', 1, "bytes must be a number"),
        ("[preset.Bad]\n", 1, "a preset is named family.tag"),
        ('[preset."x.bad"]\npublished = [{score = "FID"}]\n', 1, "preset.x.bad: TypeError"),
        ('[run]\nseed = 1\nblocks = "many"\n', 3, "bad value for 'run.blocks'"),
        ("[run]\nsampels = 1\n", 2, "unknown key 'run.sampels'; did you mean 'run.samples'?"),
        ("[dataset.digits]\nsampels = 1\n", 1, "dataset.digits.sampels"),
        ("[generator.edm2]\nwidth = 1\n", 1, "expected preset = NAME"),
        ("[frog]\nlegs = 4\n", 2, "unknown section"),
        ("preset = 3\n", 1, "preset"),
    ],
)
def test_a_bad_entry_names_file_and_line_and_disables_itself_alone(
    tmp_path: Path, text: str, line: int, words: str
) -> None:
    file = tmp_path / "registry.toml"
    file.write_text(text if text.startswith("preset") else text + GOOD)
    data = read_registry(file, PACKAGE)
    assert list(data.presets) == ([] if text.startswith("preset") else ["x.good"])
    (broken,) = data.broken
    assert broken.error.startswith(f"{file}:{line}: ")
    assert words in broken.error


def test_good_values_beside_a_bad_one_stay(tmp_path: Path) -> None:
    (tmp_path / "r.toml").write_text("[run]\nsamples = 5\nblocks = 0\n")
    assert read_registry(tmp_path / "r.toml", PACKAGE).defaults == {"run": {"samples": 5}}


def test_a_file_that_is_no_toml_disables_itself_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "registry.toml").write_text("[run\n")
    monkeypatch.chdir(tmp_path)
    data = registry(catalog())
    assert "line 1" in data.broken[0].error
    assert "edm2.digits" in data.presets


def test_the_line_is_that_of_the_whole_name(tmp_path: Path) -> None:
    text = '[preset."x.bad-one"]\n[preset."x.bad"]\nfrog = 1\n'
    (tmp_path / "r.toml").write_text(text)
    assert "r.toml:2: " in read_registry(tmp_path / "r.toml", PACKAGE).broken[0].error


def test_here_wins_over_user_over_plugin_over_genplug(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def entry(place: str, *names: str) -> str:
        return "".join(f'[preset."{name}"]\nsummary = "{place}"\n' for name in names)

    plugins = tuple(Preset(name=name, summary="plugin") for name in ("edm2.digits", "x.a", "x.b", "x.c"))
    installed = Catalog(preset_sources=[(PACKAGE, plugins)])
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    (tmp_path / "config" / "genplug").mkdir(parents=True)
    (tmp_path / "config" / "genplug" / "registry.toml").write_text(
        entry("user", "x.b", "x.c") + "[run]\nseed = 1\nblocks = 2\n"
    )
    (tmp_path / "registry.toml").write_text(entry("here", "x.c") + "[run]\nblocks = 3\n")
    monkeypatch.chdir(tmp_path)
    data = registry(installed)
    names = ("edm2.digits", "x.a", "x.b", "x.c")
    assert [data.presets[name].summary for name in names] == ["plugin", "plugin", "user", "here"]
    assert data.presets["x.c"].origin == str(tmp_path / "registry.toml")
    assert (data.defaults["run"]["seed"], data.defaults["run"]["blocks"]) == (1, 3)
    assert data.defaults["run"]["generator"] == "edm2"


def test_an_unknown_preset_is_answered_with_the_nearest() -> None:
    with pytest.raises(
        UnknownNameError, match=r"no preset named 'edm2\.digts'; did you mean 'edm2\.digits'\?"
    ):
        registry(catalog()).preset("edm2.digts")


def test_a_plugins_bad_entry_is_told_and_the_others_can_be_used(tmp_path: Path) -> None:
    (tmp_path / "r.toml").write_text(GOOD + "[preset.Bad]\n")
    good, bad = presets_from(tmp_path / "r.toml")
    assert good.name == "x.good"
    assert isinstance(bad, BadPreset)
    assert "family.tag" in bad.problem
