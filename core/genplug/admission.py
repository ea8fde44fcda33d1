"""Whether what a plugin hands over can be used: hooks this version has, specs with fields of their types.

Specs are plain dataclasses, so that plugins stay light; what is wrong in one is found here, once, with
a line that names it, instead of later in whatever uses it.
"""

from __future__ import annotations

import dataclasses
import functools
import re
import types
from collections.abc import Iterable, Mapping
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from genplug import hookspecs
from genplug.errors import GenplugError, shown, unknown
from genplug.specs import CAPABILITIES, INPUTS, EvaluatorSpec, Preset, Published, Recipe, Spec

OTHER_VERSION = "written for another version of genplug"


def check_hooks(plugin: object) -> None:
    """Refuse a plugin with a hook that this version does not have: it expects another contract."""
    for name in dir(plugin):
        value = getattr(plugin, name, None)
        if callable(value) and hasattr(value, "genplug_impl") and not hasattr(hookspecs, name):
            raise GenplugError(f"implements the unknown hook {name!r}: {OTHER_VERSION}")


def check_spec(spec: object, kind: str) -> None:
    """Refuse what is not a well-formed spec of this kind, or claims an unknown capability."""
    if not isinstance(spec, Spec) or spec.kind != kind:
        raise TypeError(f"returned {shown(spec)}, which is not a spec of this hook")
    _check_fields(spec)
    if not re.fullmatch(r"[a-z0-9][a-z0-9-]*", spec.name):
        raise ValueError(f"{kind} {shown(spec.name)}: names are lower-case letters, digits and hyphens")
    words = [word for name in ("provides", "adds", "removes") for word in getattr(spec, name, ())]
    words += [word for need in getattr(spec, "needs", ()) for word in need.split("|")]
    for word in words:
        if word not in CAPABILITIES:
            raise unknown("capability", word, CAPABILITIES)
    if isinstance(spec, EvaluatorSpec):
        for word in (word for need in spec.inputs for word in need.split("|")):
            if word not in INPUTS:
                raise unknown("input", word, INPUTS)


def check_presets(presets: Iterable[object]) -> None:
    """Refuse what is not a well-formed preset."""
    for preset in presets:
        if not isinstance(preset, Preset):
            raise TypeError(f"returned {shown(preset)}, which is not a preset")
        _check_fields(preset)
        for score in preset.published:
            _check_fields(score)


def check_recipes(recipes: Iterable[object]) -> None:
    """Refuse what is not a well-formed recipe."""
    for recipe in recipes:
        if not isinstance(recipe, Recipe):
            raise TypeError(f"returned {shown(recipe)}, which is not a recipe")
        _check_fields(recipe)
        if not re.fullmatch(r"[a-z0-9][a-z0-9-]*", recipe.name):
            raise ValueError(f"recipe {shown(recipe.name)}: names are lower-case letters, digits and hyphens")


def _check_fields(value: Spec | Preset | Published | Recipe) -> None:
    """Refuse a field whose content is not of its type."""
    kind: Any = type(value)
    hints = _hints(kind)
    for field in dataclasses.fields(value):
        content = getattr(value, field.name)
        if not _fits(content, hints[field.name]):
            name = getattr(value, "name", "")
            raise TypeError(f"{kind.__name__} {shown(name)}: {field.name} is {shown(content)}")


@functools.cache
def _hints(kind: type) -> Mapping[str, Any]:
    return get_type_hints(kind)


def _fits(value: object, hint: Any) -> bool:
    """Tell whether a value is of a type, for the types that specs are made of."""
    origin, inner = get_origin(hint), get_args(hint)
    if hint is Any:
        return True
    if origin is Literal:
        return any(value is word or (isinstance(value, str) and value == word) for word in inner)
    if origin in (Union, types.UnionType):
        return any(_fits(value, one) for one in inner)
    if origin is tuple:
        return isinstance(value, (tuple, list)) and all(_fits(item, inner[0]) for item in value)
    if origin is not None:  # a mapping
        return isinstance(value, Mapping) and all(
            _fits(key, inner[0]) and _fits(item, inner[1]) for key, item in value.items()
        )
    return isinstance(value, (int, float) if hint is float else hint)
