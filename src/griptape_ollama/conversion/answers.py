"""JSON answers, found in what a model wrapped them in, and the words to ask for a better one."""

from __future__ import annotations

import json
import re
from typing import Any

_FENCE = re.compile(r"```(?:json)?[ \t]*\n(.*?)```", re.DOTALL | re.IGNORECASE)
_START = re.compile(r"[\[{]")
_decode = json.JSONDecoder().raw_decode


def unwrapped_json(text: str) -> str:
    """Give the JSON document in a text: all of it, what stands in a fence, or the first object or array in the chatter.

    Where there is none, the text is given back as it is.
    """
    whole = text.strip()
    if _is_json(whole):
        return whole
    for fenced in _FENCE.findall(text):
        if _is_json(inner := fenced.strip()):
            return inner
    for start in _START.finditer(text):
        try:
            _, end = _decode(text, start.start())
        except ValueError:
            continue
        except RecursionError:  # nor can what is inside be anything
            break
        return text[start.start() : end]
    return text


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
