"""Commands whose help teaches: examples and exit codes stand in it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click

from griptape_ollama.cli.exit_codes import MEANINGS, ExitCode


class TeachingCommand(click.Command):
    """A command with examples and exit codes at the end of its help.

    Args:
        examples: Commands to copy, each with what it does.
        exit_codes: Those that a script should expect of it, besides 0, 1 and 2.
    """

    def __init__(
        self,
        *arguments: Any,
        examples: Sequence[tuple[str, str]] = (),
        exit_codes: Sequence[ExitCode] = (),
        **more: Any,
    ) -> None:
        super().__init__(*arguments, **more)
        self.examples = examples
        self._exit_codes = exit_codes

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the examples and the exit codes."""
        super().format_epilog(ctx, formatter)
        if self.examples:
            with formatter.section("Examples"):
                for command, explanation in self.examples:
                    formatter.write(f"  {command}\n      {explanation}\n")
        if self._exit_codes:
            write_exit_codes(formatter, [ExitCode.OK, ExitCode.FAILED, ExitCode.USAGE, *self._exit_codes])


class TeachingGroup(click.Group):
    """A group with the exit codes of its commands at the end of its help."""

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the exit codes."""
        super().format_epilog(ctx, formatter)
        write_exit_codes(formatter, list(ExitCode))


def write_exit_codes(formatter: click.HelpFormatter, codes: Sequence[ExitCode]) -> None:
    """Write what exit codes mean."""
    with formatter.section("Exit codes"):
        formatter.write_dl([(str(code.value), MEANINGS[code]) for code in codes])
