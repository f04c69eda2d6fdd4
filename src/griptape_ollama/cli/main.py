"""The group that all commands belong to."""

import click

from griptape_ollama.cli.simulate import simulate


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="griptape-ollama")
def main() -> None:
    """Tools for Griptape on Ollama."""


main.add_command(simulate)
