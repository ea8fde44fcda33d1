"""Discovery: what is broken, clashes or is outdated is told and spoils nothing else."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from genplug import DatasetSpec, GeneratorSpec, Preset, hookimpl
from genplug.errors import GenplugError, UnknownNameError
from genplug.hookspecs import hookimpl as marker
from genplug.registry import Catalog, Package, catalog, discover
from genplug.specs import Recipe


def plugin(**hooks: Callable[..., Any]) -> SimpleNamespace:
    return SimpleNamespace(**{name: hookimpl(function) for name, function in hooks.items()})


def found(*plugins: Any) -> Catalog:
    """Discover plugins as packages a, b, c, ... 1.0; an exception is one that fails to import."""

    def load(value: Any) -> Any:
        if isinstance(value, BaseException):
            raise value
        return value

    points = [
        (
            SimpleNamespace(name=f"{letter}-point", load=lambda value=value: load(value)),
            Package(letter, "1.0"),
        )
        for letter, value in zip("abcdef", plugins, strict=False)
    ]
    return discover(points)  # type: ignore[arg-type]


def generators(name: str, *words: str) -> Any:
    return plugin(
        register_generators=lambda: [GeneratorSpec(name=name, summary="", config="", provides=words)]
    )


@pytest.mark.parametrize("error", [ImportError("no libfoo"), SystemExit(3), SyntaxError("bad")])
def test_a_plugin_that_fails_to_import_is_kept_apart(error: BaseException) -> None:
    catalog = found(error, generators("good"))
    assert catalog.names("generator") == ["good"]
    (broken,) = catalog.broken
    assert (broken.plugin, str(broken.package)) == ("a-point", "a 1.0")
    assert broken.error.startswith(type(error).__name__)


def test_a_hook_that_fails_spoils_no_other_hook() -> None:
    data = [DatasetSpec(name="data", summary="", config="")]
    catalog = found(plugin(register_generators=lambda: 1 / 0, register_datasets=lambda: data))
    assert catalog.names("dataset") == ["data"]
    assert catalog.broken[0].error == "register_generators: ZeroDivisionError: division by zero"


def test_a_clash_withholds_both_and_names_both_packages() -> None:
    catalog = found(generators("twin"), generators("twin"), generators("other"))
    assert catalog.names("generator") == ["other"]
    with pytest.raises(
        GenplugError, match=r"'twin' is registered by a 1\.0 and b 1\.0; uninstall one of them"
    ):
        catalog.get("generator", "twin")


def test_equal_names_of_different_kinds_do_not_clash() -> None:
    catalog = found(
        generators("x"), plugin(register_datasets=lambda: [DatasetSpec(name="x", summary="", config="")])
    )
    assert not catalog.clashes


def test_an_unknown_capability_is_answered_with_the_nearest() -> None:
    catalog = found(generators("bad", "denoizer"), generators("good", "denoiser"))
    assert catalog.names("generator") == ["good"]
    assert "no capability named 'denoizer'; did you mean 'denoiser'?" in catalog.broken[0].error


def test_a_hook_of_another_contract_is_refused_with_its_name() -> None:
    old = SimpleNamespace(register_models=marker(lambda: ()))
    (broken,) = found(old).broken
    assert "implements the unknown hook 'register_models'" in broken.error


@pytest.mark.parametrize("wrong", [None, ["name"], [DatasetSpec(name="x", summary="", config="")]])
def test_what_is_not_a_spec_of_the_hook_is_refused(wrong: Any) -> None:
    catalog = found(plugin(register_generators=lambda: wrong))
    assert not list(catalog)
    assert len(catalog.broken) == 1


def test_what_is_not_a_preset_is_refused() -> None:
    catalog = found(
        plugin(register_presets=lambda: {"a.b": 1}), plugin(register_presets=lambda: [Preset(name="c.d")])
    )
    assert [preset.name for _, presets in catalog.preset_sources for preset in presets] == ["c.d"]
    assert "is not a preset" in catalog.broken[0].error


def test_recipes_are_withheld_where_they_clash_and_told_where_they_are_bad() -> None:
    def made(**values: Any) -> Any:
        return plugin(register_recipes=lambda: [Recipe(summary="s", path="p", **values)])

    catalog = found(made(name="twin"), made(name="twin"), made(name="bad", problem="p: no"), made(name="A b"))
    with pytest.raises(GenplugError, match=r"recipe 'twin' is registered by a 1\.0 and b 1\.0"):
        catalog.recipe("twin")
    with pytest.raises(UnknownNameError, match="no recipe named 'twni'; did you mean 'twin'"):
        catalog.recipe("twni")
    assert [broken.error for broken in catalog.broken] == [
        "register_recipes: p: no",
        "register_recipes: ValueError: recipe 'A b': names are lower-case letters, digits and hyphens",
    ]


def test_an_unknown_name_is_answered_with_the_nearest_and_the_broken_plugins() -> None:
    catalog = found(ImportError("x"), generators("edm2"))
    with pytest.raises(
        UnknownNameError, match=r"no generator named 'emd2'; did you mean 'edm2'\? .*broken plugins: a-point"
    ):
        catalog.get("generator", "emd2")


def test_a_config_that_does_not_import_names_component_and_package() -> None:
    catalog = found(plugin(register_datasets=lambda: [DatasetSpec(name="x", summary="", config="nowhere:X")]))
    with pytest.raises(
        GenplugError, match=r"dataset 'x' of a 1\.0 is broken: config 'nowhere:X' does not import"
    ):
        catalog.get("dataset", "x").config_model()


@pytest.mark.parametrize(
    ("word", "meant"), [("fid", "'frechet'"), ("kid", "'kernel'"), ("precision", "'prdc'")]
)
def test_names_of_scores_lead_to_their_evaluators(word: str, meant: str) -> None:
    with pytest.raises(UnknownNameError, match=f"no evaluator named '{word}'; .*{meant}.* may be meant"):
        catalog().get("evaluator", word)
