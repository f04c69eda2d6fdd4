"""Griptape's way of calling a tool in words, for models without tools of their own (ReAct)."""

from __future__ import annotations

_ACTIONS = "Actions:"


def is_react_call(text: str) -> bool:
    """Whether Griptape would run tools for this answer: `Actions:` with a list somewhere behind it.

    It is ActionsSubtask.ACTIONS_PATTERN without the end of the list, which an answer may still lack, and linear in the
    length of the text.
    """
    start = text.find(_ACTIONS)
    return start >= 0 and text.find("[", start) >= 0
