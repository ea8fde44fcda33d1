"""A second package that claims a name of the first, and its command."""

import genplug


@genplug.hookimpl
def register_generators():
    return [genplug.GeneratorSpec(name="toy-grey", summary="an impostor", config="genplug_mock.config:Grey")]


@genplug.hookimpl
def register_commands(app):
    @app.command("toy-hello")
    def hello() -> None:
        """Greet nobody."""
