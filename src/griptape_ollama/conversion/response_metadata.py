"""The metadata of a chat reply: counts and times, added up over several requests, and unknown fields as they are."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from typing import Any

from griptape.common import DeltaMessage

from griptape_ollama.conversion.tools import finite
from griptape_ollama.protocol.numbers import reported_count, reported_number, reported_seconds

_LINE_KEYS = frozenset({"model", "created_at", "message", "done"})
_MESSAGE_KEYS = frozenset({"role", "content", "thinking", "tool_calls"})
_SECONDS_OF = {
    "total_duration": "total_seconds",
    "load_duration": "load_seconds",
    "prompt_eval_duration": "prompt_seconds",
    "eval_duration": "generation_seconds",
}
# How each number is read that is added up over several requests.
_ADDED_UP: Mapping[str, Callable[[Any], int | float | None]] = {
    "prompt_eval_count": reported_count,
    "prompt_eval_cached_count": reported_count,
    "eval_count": reported_count,
    **dict.fromkeys(_SECONDS_OF, reported_number),
}
# Fields of the metadata that are computed here: a field of the same name in a reply is left out.
_COMPUTED = frozenset(
    {
        *_SECONDS_OF.values(),
        *("tokens_per_second", "time_to_first_token", "thinking", "requests", "problem"),
        *("host", "truncated", "complete", "cut_by", "context"),
    }
)


class ResponseMetadata:
    """Collects the fields of a reply beside its text and calls."""

    def __init__(self) -> None:
        self._fields: dict[str, Any] = {}
        self._totals: dict[str, float] = {}
        self._requests = 0

    def start_request(self) -> None:
        """Begin with the lines of one more request; its counts and times are added to those of the previous ones."""
        for name, read in _ADDED_UP.items():
            if (value := read(self._fields.get(name))) is not None:
                self._totals[name] = self._totals.get(name, 0) + value
        self._requests += 1
        self._fields = {}

    def add(self, line: Mapping[str, Any], message: Mapping[str, Any]) -> None:
        """Keep the fields of a line and its message that are neither text nor calls."""
        for source, known in ((line, _LINE_KEYS), (message, _MESSAGE_KEYS)):
            for name, value in source.items():
                if name in known:
                    continue
                before = self._fields.get(name)
                # Lists (logprobs) come piece by piece.
                self._fields[name] = (
                    [*before, *value] if isinstance(before, list) and isinstance(value, list) else value
                )

    def usage(self) -> DeltaMessage.Usage:
        """Return the tokens of prompts and replies, added up; None if the server did not count them."""
        return DeltaMessage.Usage(input_tokens=self._sum("prompt_eval_count"), output_tokens=self._sum("eval_count"))

    def to_dict(self, more: Mapping[str, Any], thinking: str) -> dict[str, Any]:
        """Return all fields, with durations in seconds.

        Args:
            more: Fields of the caller; left out where they are None.
            thinking: The thinking; left out where it is empty.
        """
        sums = {name: self._sum(name) for name in _ADDED_UP}
        metadata = {**self._unknown_fields(), **{name: value for name, value in more.items() if value is not None}}
        metadata |= {name: value for name, value in sums.items() if value is not None and name not in _SECONDS_OF}
        for wire, name in _SECONDS_OF.items():
            if (seconds := reported_seconds(sums[wire])) is not None:
                metadata[name] = seconds
        tokens, seconds = reported_count(metadata.get("eval_count")), metadata.get("generation_seconds")
        if tokens is not None and seconds and (rate := reported_number(tokens / seconds)) is not None:
            metadata["tokens_per_second"] = rate
        if thinking:
            metadata["thinking"] = thinking
        if self._requests > 1:
            metadata["requests"] = self._requests
        return metadata

    def _sum(self, name: str) -> Any:
        count = _ADDED_UP[name](self._fields.get(name))
        return count if name not in self._totals else self._totals[name] + (count or 0)

    def _unknown_fields(self) -> dict[str, Any]:
        """Return the fields that are kept as they came; one that is nested too deeply to be copied is left out."""
        fields: dict[str, Any] = {}
        for name, value in self._fields.items():
            if name not in _ADDED_UP and name not in _COMPUTED:
                with contextlib.suppress(RecursionError):
                    fields[name] = finite(value)
        return fields
