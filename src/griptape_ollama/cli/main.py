"""The group that all commands belong to."""

import click

from griptape_ollama.cli.models import models
from griptape_ollama.cli.simulate import simulate


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="griptape-ollama")
def main() -> None:
    """Tools for Griptape on Ollama.

    Each command explains itself: griptape-ollama models pull --help
    """


main.add_command(models)
main.add_command(simulate)
