"""Values of options that are more than a text: parameters of models, and durations."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import click

from griptape_ollama.protocol.keep_alive import normalize_keep_alive
from griptape_ollama.protocol.options import OPTION_TYPES, check_options


def to_keep_alive(_context: click.Context, option: click.Parameter, text: str | None) -> float | str | None:
    """Give what `--keep-alive` says: a bare number is seconds, everything else is as the library takes it.

    Raises:
        click.BadParameter: It is no duration.
    """
    try:
        return None if text is None else normalize_keep_alive(_number(text))
    except ValueError as error:
        raise click.BadParameter(str(error), param=option) from error


def to_parameters(_context: click.Context, option: click.Parameter, pairs: Iterable[str]) -> dict[str, Any]:
    """Give what several `--parameter name=value` say, typed as the server types it.

    `stop` may be given several times; its value is a text as it stands. Other values are read as JSON where they are
    such, and as texts otherwise.

    Raises:
        click.BadParameter: One is no pair, is given twice, or has a value that the server would not take.
    """
    parameters: dict[str, Any] = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        name = name.strip()
        if not equals or not name:
            raise click.BadParameter(f"{pair!r} is not a pair: write it like temperature=0.5", param=option)
        if OPTION_TYPES.get(name) == "array of strings":
            parameters.setdefault(name, []).append(text)
        elif name in parameters:
            raise click.BadParameter(f"{name!r} is given twice", param=option)
        else:
            parameters[name] = _json_or_text(text)
    try:
        return check_options(parameters)
    except ValueError as error:
        raise click.BadParameter(str(error), param=option) from error


def _json_or_text(text: str) -> Any:
    try:
        return json.loads(text, parse_constant=str)
    except (ValueError, RecursionError):
        return text


def _number(text: str) -> float | str:
    try:
        number = float(text)
    except ValueError:
        return text
    return int(number) if number.is_integer() else number
