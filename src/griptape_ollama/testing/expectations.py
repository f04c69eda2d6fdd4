"""What a test expects of a request, and how far a request is from it, for people to read."""

import difflib
import json
from collections.abc import Mapping
from typing import Any

from griptape_ollama.testing.json_text import as_object
from griptape_ollama.testing.request_log import RecordedRequest


def mismatch(expected: Mapping[str, Any], request: RecordedRequest) -> str | None:
    """Compare the fields of a body that a test cares about with those of a request.

    Args:
        expected: Values by name of the field; fields that are not named may be anything.
        request: The request.

    Returns:
        A diff, None if all of them agree.
    """
    body = as_object(request.body)
    found = {name: body[name] for name in expected if name in body}
    if found == dict(expected):
        return None
    return diff(dict(expected), found, "expected", "came")


def unscripted(request: RecordedRequest, latest: RecordedRequest | None, used: int) -> str:
    """Say why there is no reply for a request, and how it differs from the latest one that had a reply."""
    if latest is None:
        return "nothing was scripted for it"
    text = f"the script is exhausted: its {used} replies are used up; the last one answered the request that differs so"
    return f"{text}:\n{diff(latest.body, request.body, 'last request that had a reply', 'this request')}"


def diff(one: Any, other: Any, name: str, other_name: str) -> str:
    """Compare two JSON values line by line."""
    lines = difflib.unified_diff(_lines(one), _lines(other), name, other_name, lineterm="", n=3)
    return "\n".join(lines) or "(they are equal)"


def _lines(value: Any) -> list[str]:
    return json.dumps(value, indent=2, ensure_ascii=False, default=str).split("\n")
