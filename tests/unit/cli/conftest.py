"""Run the command, and read what it printed."""

import json
from dataclasses import dataclass

import pytest
from click.testing import CliRunner

from griptape_ollama.cli.main import main


@dataclass
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def json(self):
        """The one JSON document that it printed."""
        return json.loads(self.out)

    @property
    def rows(self):
        """The words of its table, line by line, where columns are apart by two spaces or more."""
        return [[cell.strip() for cell in line.split("  ") if cell.strip()] for line in self.out.splitlines()]


def _runner():
    try:
        return CliRunner(mix_stderr=False)
    except TypeError:  # click 8.2 and later keep them apart anyway
        return CliRunner()


@pytest.fixture
def models(simulator):
    """Run `griptape-ollama models` on the simulator."""

    def run(*arguments, **environment):
        given = {"OLLAMA_HOST": simulator.host, **environment}
        result = _runner().invoke(main, ["models", *arguments], env=given)
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exc_info
        return Ended(result.exit_code, result.stdout, result.stderr)

    return run
