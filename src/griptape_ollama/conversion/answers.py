"""JSON answers, found in what a model wrapped them in, and the words to ask for a better one."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

_FENCE = re.compile(r"```(?:json)?[ \t]*\n(.*?)```", re.DOTALL | re.IGNORECASE)
_START = re.compile(r"[\[{]")
_decode = json.JSONDecoder().raw_decode


def json_candidates(text: str) -> Iterator[str]:
    """Find what may be the JSON of an answer: all of it, what stands in fences, then each object and array in between.

    Where there is no JSON, the text is the only candidate.
    """
    whole = text.strip()
    found = False
    for each in (whole, *(fenced.strip() for fenced in _FENCE.findall(text))):
        if _is_json(each):
            found = True
            yield each
    at = 0
    while (start := _START.search(text, at)) is not None:
        try:
            _, at = _decode(text, start.start())
        except ValueError:  # noqa: PERF203 # not JSON after all
            at = start.end()
        except RecursionError:  # nor can what is inside be anything
            break
        else:
            found = True
            yield text[start.start() : at]
    if not found:
        yield text


def to_schema_request(schema: dict[str, Any]) -> dict[str, Any]:
    """Ask for the answer once more, as JSON that fits the schema."""
    text = f"Give that answer as JSON, and nothing else. It must fit this schema: {json.dumps(schema)}"
    return {"role": "user", "content": text}


def to_repair_request(error: str) -> dict[str, Any]:
    """Ask for an answer that fits, and say what was wrong with the last one."""
    return {
        "role": "user",
        "content": f"That is not valid: {error}. Answer again, with corrected JSON and nothing else.",
    }


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True
