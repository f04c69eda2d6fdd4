"""What a model thinks, apart from what it answers."""

from __future__ import annotations

from attrs import define, field
from griptape.common import BaseDeltaMessageContent

_OPEN, _CLOSE = "<think>", "</think>"


@define
class ReasoningDeltaMessageContent(BaseDeltaMessageContent):
    """A piece of thinking. It never becomes part of the message, which holds the answer."""

    text: str = field(metadata={"serializable": True})


class ThinkTagSplitter:
    """Separates `<think>...</think>` at the beginning of the text, for models and servers that do not.

    Only there: an answer may speak of the tag. A tag may be split across pieces.
    """

    def __init__(self) -> None:
        self._held = ""
        self._state = "before"

    @property
    def is_done(self) -> bool:
        """Whether all that comes is the answer."""
        return self._state == "after"

    def feed(self, text: str) -> tuple[str, str]:
        """Take a piece and give the thinking and the answer in it; what may be a tag is held back."""
        if self._state == "after":
            return "", text
        if self._state == "between":
            return "", self._answer(text)
        self._held += text
        if self._state == "before":
            beginning = self._held.lstrip()
            if not beginning.startswith(_OPEN):
                if _OPEN.startswith(beginning):
                    return "", ""
                return "", self._release()
            self._held = beginning[len(_OPEN) :]
            self._state = "inside"
        thinking, tag, answer = self._held.partition(_CLOSE)
        if tag:
            self._held = ""
            return thinking, self._answer(answer)
        keep = _overlap(thinking)
        self._held = thinking[len(thinking) - keep :]
        return thinking[: len(thinking) - keep], ""

    def finish(self) -> tuple[str, str]:
        """Give what was held back: thinking that never ended, or an answer that only looked like a tag."""
        if self._state == "inside":
            self._state, thinking = "after", self._held
            return thinking, ""
        return "", self._release()

    def _answer(self, text: str) -> str:
        """Give the beginning of the answer, without the space before it."""
        answer = text.lstrip()
        self._state = "after" if answer else "between"
        return answer

    def _release(self) -> str:
        self._state, held = "after", self._held
        self._held = ""
        return held


def _overlap(text: str) -> int:
    """Length of the end of the text that may be the beginning of the closing tag."""
    return next((size for size in range(len(_CLOSE) - 1, 0, -1) if text.endswith(_CLOSE[:size])), 0)
