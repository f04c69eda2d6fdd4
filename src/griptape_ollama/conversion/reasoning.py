"""Separates the thinking of a model from its answer.

Servers that know a model's marks send its thinking in a field of its own. The rest leave it in the text, between marks
at the beginning. Where the template of a model writes the opening mark into the prompt, only the closing one is
left in the text: then everything before it is thinking.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, cast

from attrs import define, field
from griptape.common import BaseDeltaMessageContent

_QUOTES = {"`": "`", "'": "'", '"': '"', "\u2018": "\u2019", "\u201c": "\u201d"}
_FENCE_LINE = re.compile(r"^[ \t]*(?:```|~~~)", re.MULTILINE)
_TAG = re.compile(r"<([A-Za-z][\w:.-]*)>|\[([A-Za-z][\w:.-]*)\]")


@define
class ReasoningDeltaMessageContent(BaseDeltaMessageContent):
    """A piece of thinking. It never becomes part of the message, which has the answer."""

    text: str = field(metadata={"serializable": True})


@dataclass(frozen=True)
class ThinkMark:
    """The marks around thinking in a text.

    Attributes:
        opening: Begins thinking.
        closing: Ends it.
        headers: May precede thinking or the answer, and belong to neither.
        endings: May follow the answer, and do not belong to it.
        alone: Ends thinking that has no opening mark; `closing` where it is empty.
    """

    opening: str
    closing: str
    headers: tuple[str, ...] = ()
    endings: tuple[str, ...] = ()
    alone: str = ""


HARMONY = ThinkMark(
    "<|channel|>analysis<|message|>",
    "<|end|>",
    headers=(
        *("<|start|>assistant", "<|channel|>final<|message|>"),
        *("<|channel|>final <|constrain|>json<|message|>", "<|channel|>final<|constrain|>json<|message|>"),
    ),
    endings=("<|return|>", "<|end|>"),
    alone="<|channel|>final<|message|>",
)
"""The channels of gpt-oss."""

DEFAULT_MARKS = (
    ThinkMark("<think>", "</think>"),
    ThinkMark("<thinking>", "</thinking>"),
    ThinkMark("<thought>", "</thought>"),
    ThinkMark("[THINK]", "[/THINK]"),
    HARMONY,
)


def to_think_marks(setting: Any) -> tuple[ThinkMark, ...]:
    """Return the marks that a setting names.

    Args:
        setting: True for all that are known, False for none, or a list: of opening marks, whose closing marks follow
            from them (`"<think>"`, `"[THINK]"`), `"harmony"`, or pairs of an opening and a closing mark.

    Raises:
        ValueError: It is something else.
    """
    if isinstance(setting, bool):
        return DEFAULT_MARKS if setting else ()
    if not isinstance(setting, (list, tuple)):
        raise _error(setting)
    return tuple(_to_mark(each) for each in cast("Sequence[Any]", setting))


def _to_mark(name: Any) -> ThinkMark:
    if name == "harmony":
        return HARMONY
    if isinstance(name, str) and (tag := _TAG.fullmatch(name)) is not None:
        return ThinkMark(name, f"</{tag[1]}>" if tag[1] else f"[/{tag[2]}]")
    if isinstance(name, (list, tuple)):
        pair = cast("Sequence[Any]", name)
        if len(pair) == 2 and all(isinstance(each, str) and each.strip() for each in pair) and pair[0] != pair[1]:
            return ThinkMark(pair[0].strip(), pair[1].strip())
    raise _error(name)


def _error(value: Any) -> ValueError:
    return ValueError(
        f"separate_think_tags={value!r:.100} must be True, False, or a list of opening marks like '<think>' and "
        "'[THINK]', 'harmony', and pairs of an opening and a closing mark"
    )


class ThinkTagSplitter:
    """Separates thinking at the beginning of a text that arrives in pieces, cut anywhere.

    Only there: an answer may speak of the marks.

    Args:
        marks: The marks.
        awaits_closing: Whether a closing mark without an opening one is expected: then the text is held back until it
            comes, or the end.

    Attributes:
        was_unopened: Whether thinking ended with a closing mark and had no opening one.
    """

    def __init__(self, marks: Sequence[ThinkMark] = DEFAULT_MARKS, *, awaits_closing: bool = False) -> None:
        self.was_unopened = False
        self._marks = marks
        self._awaits_closing = awaits_closing
        self._held = ""
        self._searched = 0
        self._thoughts: list[str] = []
        self._is_nested = False  # the thinking has an opening mark, so that one more closing mark may come
        self._state = "before"
        self._mark = marks[0] if marks else HARMONY
        self._steps = {
            "before": self._before,
            "inside": self._inside,
            "between": self._between,
            "ending": self._ending,
            "waiting": self._waiting,
        }

    @property
    def is_done(self) -> bool:
        """Whether the rest of the text is the answer."""
        return self._state == "after"

    def feed(self, text: str) -> tuple[str, str]:
        """Return the thinking and the answer in a piece; what may be a mark is held back."""
        if self._state == "after":
            return "", text
        self._held += text
        thinking = answer = ""
        while (step := self._steps.get(self._state)) is not None:
            more_thinking, more_answer = step()
            thinking += more_thinking
            answer += more_answer
            if step == self._steps.get(self._state):
                break
        return thinking, answer

    def finish(self, *, was_cut: bool = False) -> tuple[str, str]:
        """Return what was held back: thinking that did not end, or an answer that began like a mark.

        Args:
            was_cut: Whether the reply was cut, so that the awaited mark could not come.
        """
        state, self._state = self._state, "after"
        held, self._held = self._held, ""
        if state == "waiting" and (found := separate_unopened(held, self._marks)) is not None:
            self.was_unopened = not self._is_nested
            return found
        if state == "inside" or (state == "waiting" and was_cut and not self._is_nested):
            self.was_unopened = state == "waiting"
            return held, ""
        return "", _without_endings(held, self._mark) if state == "ending" else held

    def stop_waiting(self) -> tuple[str, str]:
        """Return what was held back for a closing mark that is not going to come."""
        self._awaits_closing = False
        return self.finish() if self._state == "waiting" else ("", "")

    def _before(self) -> tuple[str, str]:
        beginning = self._held.lstrip()
        for mark in self._marks:
            if beginning.startswith(mark.opening):
                return self._enter("inside", mark, beginning[len(mark.opening) :])
            if mark.headers and beginning.startswith(mark.headers):
                return self._enter("between", mark, beginning)
        if any(text.startswith(beginning) for mark in self._marks for text in (mark.opening, *mark.headers)):
            return "", ""
        if self._awaits_closing:
            self._state = "waiting"
            return "", ""
        return self._release(self._held)

    def _inside(self) -> tuple[str, str]:
        thinking, mark, rest = self._held.partition(self._mark.closing)
        if mark:
            self._is_nested = _has_unquoted("".join([*self._thoughts, thinking]), self._mark.opening)
            self._held, self._state, self._searched = rest, "waiting" if self._is_nested else "between", 0
            self._thoughts = []
            return thinking, ""
        keep = _overlap(thinking, self._mark.closing)
        self._held = thinking[len(thinking) - keep :]
        self._thoughts.append(thinking[: len(thinking) - keep])
        return self._thoughts[-1], ""

    def _between(self) -> tuple[str, str]:
        """Return the beginning of the answer, without the headers before it."""
        mark = self._mark
        self._held = rest = self._held.lstrip()
        for header in mark.headers:
            if rest.startswith(header):
                self._held = rest[len(header) :]
                return self._between()
        if rest.startswith(mark.opening):
            return self._enter("inside", mark, rest[len(mark.opening) :])
        if any(text.startswith(rest) for text in (mark.opening, *mark.headers)):
            return "", ""
        if mark.endings:
            self._state = "ending"
            return "", ""
        return self._release(rest)

    def _ending(self) -> tuple[str, str]:
        """Return the answer, but for what may be an ending."""
        whole = _without_endings(self._held, self._mark)
        keep = len(self._held) - len(whole)
        if not keep:
            keep = max(_overlap(whole, ending) for ending in self._mark.endings)
        answer = self._held[: len(self._held) - keep]
        self._held = self._held[len(self._held) - keep :]
        return "", answer

    def _waiting(self) -> tuple[str, str]:
        longest = max(len(mark.alone or mark.closing) for mark in self._marks)
        found = _find_alone(self._held, self._marks, max(0, self._searched - longest - 1), is_whole=False)
        self._searched = len(self._held)
        if found is None:
            return "", ""
        self.was_unopened = not self._is_nested
        mark, start, end = found
        thinking, rest = _without_headers(self._held[:start], mark), self._held[end:]
        self._enter("between", mark, rest)
        return thinking, ""

    def _enter(self, state: str, mark: ThinkMark, held: str) -> tuple[str, str]:
        self._state, self._mark, self._held = state, mark, held
        return "", ""

    def _release(self, text: str) -> tuple[str, str]:
        self._state, self._held = "after", ""
        return "", text


def separate_unopened(text: str, marks: Sequence[ThinkMark]) -> tuple[str, str] | None:
    """Return thinking and answer of a text with a closing mark without an opening one; None if it has none.

    A mark in quotes or backticks, or in a fenced block, is a quotation and does not count.
    """
    found = _find_alone(text, marks, 0, is_whole=True)
    if found is None:
        return None
    mark, start, end = found
    return _without_headers(text[:start], mark), _without_endings(text[end:].lstrip(), mark)


def leaves_thinking_open(template: Any, marks: Iterable[ThinkMark]) -> bool:
    """Return whether a model's template writes an opening mark at the end of each prompt."""
    if not isinstance(template, str):
        return False
    openings = "|".join(re.escape(mark.opening) for mark in marks)
    end = r"(?:\s|\\n|\{\{[^{}]*\}\}|\{%[^{}]*%\}|[\"'}])*"
    return bool(openings) and re.search(rf"(?:{openings}){end}\Z", template) is not None


def _find_alone(
    text: str, marks: Sequence[ThinkMark], start: int, *, is_whole: bool
) -> tuple[ThinkMark, int, int] | None:
    """Find the first closing mark without an opening one; one in quotes or in a block does not count."""
    found: tuple[ThinkMark, int, int] | None = None
    for mark in marks:
        closing = mark.alone or mark.closing
        opening = text.find(mark.opening)
        at = text.find(closing, start)
        while at > 0 and (
            _is_quoted(text, at, at + len(closing), is_whole=is_whole)
            or _is_in_block(text, at, at + len(closing), is_whole=is_whole)
        ):
            at = text.find(closing, at + 1)
        if at >= 0 and not 0 <= opening < at and (found is None or at < found[1]):
            found = mark, at, at + len(closing)
    return found


def _is_quoted(text: str, start: int, end: int, *, is_whole: bool) -> bool:
    quote = _QUOTES.get(text[start - 1])
    if quote is None:
        return False
    return text[end : end + 1] == quote or (not is_whole and end == len(text))  # more may come


def _is_in_block(text: str, start: int, end: int, *, is_whole: bool) -> bool:
    """Return whether a place is in a fenced block; where more text may come, an open block may be closed yet."""
    if len(_FENCE_LINE.findall(text[:start])) % 2 == 0:
        return False
    return not is_whole or len(_FENCE_LINE.findall(text[end:])) % 2 == 1


def _has_unquoted(text: str, mark: str) -> bool:
    at = text.find(mark)
    while at > 0 and _is_quoted(text, at, at + len(mark), is_whole=True):
        at = text.find(mark, at + 1)
    return at >= 0


def _without_headers(thinking: str, mark: ThinkMark) -> str:
    for each in (*mark.headers, mark.closing):
        thinking = thinking.rstrip().removesuffix(each) if mark.headers else thinking
    return thinking


def _without_endings(answer: str, mark: ThinkMark) -> str:
    for ending in mark.endings:
        if (shorter := answer.rstrip().removesuffix(ending)) != answer.rstrip():
            return shorter
    return answer


def _overlap(text: str, mark: str) -> int:
    """Return the length of the end of a text that may be the beginning of a mark."""
    return next((size for size in range(len(mark) - 1, 0, -1) if text.endswith(mark[:size])), 0)
