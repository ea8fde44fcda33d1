"""A plugin whose commands cannot be registered."""

import genplug


@genplug.hookimpl
def register_commands(app):
    raise RuntimeError("no commands today")
