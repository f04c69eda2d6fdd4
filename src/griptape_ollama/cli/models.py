"""`griptape-ollama models`: everything about the models of a server, by hand and in scripts."""

from __future__ import annotations

import click

from griptape_ollama.cli.help import TeachingGroup
from griptape_ollama.cli.looking import list_models, ps, show
from griptape_ollama.cli.making import alias, cp, create, rm
from griptape_ollama.cli.memory import stop, warm
from griptape_ollama.cli.moving import pull, push


@click.group(cls=TeachingGroup)
def models() -> None:
    """See, get, make and load the models of an Ollama server.

    Data goes to the standard output, as a table or with --json as one JSON document. Progress, hints and errors go to
    the standard error. Names are compared as the server does: qwen3 is Qwen3:latest.
    """


for _command in (list_models, show, pull, push, create, cp, alias, rm, ps, warm, stop):
    models.add_command(_command)
