"""The JSON document that a reply is, or that a model wrapped in a fence or in prose. Never a part of one.

These count, in this order:

1. The whole text, where it is one document.
2. Blocks between fences (three or more backticks or tildes, any info string) that are one document, the last one first.
3. Objects and arrays that stand in the prose, the last one first. An empty one does not count there, nor does an array
   of plain values in the middle of a line: both are how people write about JSON, or cite (`[1]`).

What does not count:

- Anything inside a bracket that is no JSON up to its closing bracket (a trailing comma, single quotes), or that has no
  closing bracket. If it begins like a document, it is a *broken document*: the prose around it does not count either,
  since it may repeat a part, nor does a fence before it. A fence after it is a correction, and counts.
- A bracket that has no closing bracket and does not begin like a document is a character like any other.
- Documents in the prose before a closing bracket that nothing opened, or in a text that begins with a key: they may
  come from inside of a document whose beginning is missing.
- An older version: a document that has keys in common with a later one that does not fit.
- Of a reply that was cut, everything but the whole text and a fenced document after which nothing begins. A number
  may be the beginning of a longer one.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, cast

# Brackets in quotes are spoken of.
_MARK = re.compile(r"`{3,}|~{3,}|([\"'`])(?:[\]}]{1,2}\1|[\[{]\1(?=[\s.,;:!?)]|\Z))|[\[\]{}]")
_BLOCK_FENCE = re.compile(r"^[ \t]*(`{3,}|~{3,})", re.MULTILINE)
_INFO_LINE = re.compile(r"[^\n`]*\n\s*")
_INFO_WORD = re.compile(r"[ \t]*[\w+.-]*[ \t]*(?=[\[{])")
_TOKEN = re.compile(r"""\s+|"(?:[^"\\]|\\.)*"|[\[\]{},:"']|[^\s\[\]{}"',:]+""", re.DOTALL)
_SINGLE_QUOTED = re.compile(r"'(?:[^'\\\n]|\\.)*'")
_COMMENTS = r"(?:\s|//[^\n]*\n|\#[^\n]*\n|/\*.*?\*/)*"
# A key as JSON, Python or JavaScript write it, also in other quotes, or with one of its quotes missing.
_OTHER_QUOTE = "[`\u00b4\u2018-\u201f\u00ab\u00bb\u2039\u203a\uff02\uff07]"
_QUOTED_KEY = (
    r"""(?:"(?:[^"\\]|\\.)*"\s*[:,=]|'(?:[^'\\\n]|\\.)*'\s*[:,=]|[\w$.-]+["']\s*[:=]|["'][\w$.-]+\s*:"""
    rf"|{_OTHER_QUOTE}[^\n{{}}]{{1,100}}?{_OTHER_QUOTE}\s*[:,=])"
)
_BEGINNING = re.compile(rf"\{{{_COMMENTS}{_QUOTED_KEY}|\[{_COMMENTS}[\[{{\"']", re.DOTALL)
_OPEN_BEGINNING = re.compile(rf"\{{{_COMMENTS}[\w$-]+\s*:|\[{_COMMENTS}(?:-?\d[\w.+-]*|[A-Za-z]{{4,5}})\s*,", re.DOTALL)
# The text goes on from an opening bracket in the prompt.
_INSIDE = re.compile(r'\s*(?:"(?:[^"\\]|\\.)*"|[\w$.-]+")\s*:')
_MAX_STRAYS = 8
_CLOSING = {"]": "[", "}": "{"}
_decode = json.JSONDecoder().raw_decode


@dataclass(frozen=True)
class JsonAnswer:
    """The JSON document in a text, or why there is none.

    Attributes:
        document: The document that fits; None if none does.
        error: Why none does; empty where one does.
        is_json: Whether the whole text is one document.
        is_open: Whether the text ends inside of a document.
        is_prose: Whether there is no document in the text, nor the beginning of one.
    """

    document: str | None
    error: str = ""
    is_json: bool = False
    is_open: bool = False
    is_prose: bool = False


def find_answer(text: str, error_of: Callable[[str], str | None], *, is_cut: bool = False) -> JsonAnswer:
    """Find the document in a text that fits.

    Args:
        text: What the model wrote.
        error_of: Returns why a document does not fit; None if it does.
        is_cut: Whether the model was stopped before it was done.
    """
    whole = text.strip("\ufeff \t\r\n")
    is_json = is_json_document(whole)
    scan = _Scan(text) if not is_json else None
    error: str | None = None
    rejected: list[Any] = []
    for each in _candidates(whole, scan, is_cut=is_cut):
        value = json.loads(each)
        if any(_is_version_of(value, later) for later in rejected):
            continue
        wrong = error_of(each)
        if wrong is None:
            return JsonAnswer(each, is_json=is_json)
        error = error or wrong
        rejected.append(value)
    is_open = scan is not None and scan.is_open
    is_prose = scan is not None and not (scan.is_broken or scan.fenced or scan.bare)
    error = error or error_of(whole) or "it was cut"
    return JsonAnswer(None, error, is_json=is_json, is_open=is_open, is_prose=is_prose)


def is_json_document(text: str) -> bool:
    """Return whether a text is one JSON document and nothing else."""
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def load_json(text: str) -> Any:
    """Parse JSON that means one thing only.

    Raises:
        ValueError: It is no JSON (NaN and Infinity are none), or has two values for one key.
    """
    return json.loads(text, parse_constant=_refuse_constant, object_pairs_hook=_unambiguous)


def to_schema_request(schema: Any) -> dict[str, Any]:
    """Build the message that asks for the answer again, as JSON that fits the schema.

    Args:
        schema: A JSON schema, or `"json"` for any document.
    """
    fits = "" if schema == "json" else f" It must fit this schema: {compact_json(schema)}"
    return {"role": "user", "content": f"Give that answer as JSON, and nothing else.{fits}"}


def to_repair_request(error: str) -> dict[str, Any]:
    """Build the message that asks for a corrected answer, with the error of the last one."""
    return {
        "role": "user",
        "content": f"That is not valid: {error}. Answer again, with corrected JSON and nothing else.",
    }


def compact_json(value: Any) -> str:
    """Return JSON without blanks, for few tokens."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=str)


def _candidates(whole: str, scan: _Scan | None, *, is_cut: bool) -> Iterator[str]:
    """Yield the documents in a text that may be the answer, the best one first."""
    if scan is None:
        if not is_cut or not whole[-1:].isdigit():
            yield whole
    elif is_cut:
        if scan.fenced and not scan.has_more:
            yield scan.fenced[-1]
    else:
        yield from reversed(scan.fenced)
        if not scan.is_broken:
            yield from reversed(scan.bare)


@dataclass
class _Scan:
    """The documents in a text.

    Attributes:
        text: The text.
        fenced: Documents between fences.
        bare: Documents in the prose.
        is_broken: Whether there is a broken document.
        is_open: Whether a broken document has no end.
        has_more: Whether something begins after the last fence.
    """

    text: str
    fenced: list[str] = field(default_factory=list[str])
    bare: list[str] = field(default_factory=list[str])
    is_broken: bool = False
    is_open: bool = False
    has_more: bool = False
    _strays: int = 0
    _endless: set[str] = field(default_factory=set[str])

    def __post_init__(self) -> None:
        at: int | None = 0
        self.is_broken = _INSIDE.match(self.text) is not None
        while at is not None and not self.is_open and (mark := _MARK.search(self.text, at)) is not None:
            self.has_more = True
            at = self._past(mark)
        while self.is_open and at is not None and (fence := _BLOCK_FENCE.search(self.text, at)) is not None:
            at = self._past_fence(fence.end(), fence.group(1))

    def _past(self, mark: re.Match[str]) -> int | None:
        """Skip the construct that begins at a mark, and return its end; None if it ends with the text."""
        what = mark.group()
        if what[0] in "`~" and len(set(what)) == 1:
            return self._past_fence(mark.end(), what)
        if what in _CLOSING:
            self.bare.clear()
        return self._past_bracket(mark.start()) if what in "[{" else mark.end()

    def _past_bracket(self, start: int) -> int | None:
        text = self.text
        try:
            value, end = _decode(text, start)
        except ValueError:
            closing = _closing_of(text, start)
        except RecursionError:
            return self._break(None)
        else:
            if _counts_in_prose(value, text, start, end):
                self.bare.append(text[start:end])
            return end
        if _begins_document(text, start, closing):
            return self._break(closing, start + 1)
        if closing is None:
            self._strays += 1
            return start + 1 if self._strays <= _MAX_STRAYS else self._break(None)
        return closing

    def _break(self, closing: int | None, start: int | None = None) -> int | None:
        """Record a broken document, and return where to continue: after it, or among the fences where it has no end."""
        self.is_broken = True
        self.is_open = closing is None
        self.fenced.clear()
        return start if closing is None else closing

    def _past_fence(self, start: int, run: str) -> int:
        """Read a block between fences; an opening fence without a closing one is ignored."""
        text = self.text
        same = rf"{re.escape(run[0])}{{{len(run)},}}"
        for info in (_INFO_LINE, _INFO_WORD):
            content = info.match(text, start)
            end = _end_of_document(text, content.end()) if content is not None else None
            if content is None or end is None:
                continue
            if (closed := re.compile(rf"\s*{same}").match(text, end)) is not None:
                self.fenced.append(text[content.end() : end])
                self.has_more = False
                return closed.end()
        line = _INFO_LINE.match(text, start)
        if line is not None and run not in self._endless:
            closed = re.compile(rf"^[ \t]*{same}[ \t]*(?P<info>\w*)", re.MULTILINE).search(text, line.end())
            if closed is not None and closed["info"]:
                return start  # another one opens, so that this one has no end
            if closed is not None:
                if text[line.end()] in "{[" and _begins_document(text, line.end(), closed.start()):
                    self.is_broken = True
                    self.fenced.clear()
                return closed.end()
            self._endless.add(run)
        same_line = re.compile(rf"[^\n]*?{same}").match(text, start)
        return start if same_line is None else same_line.end()


def _end_of_document(text: str, start: int) -> int | None:
    try:
        return _decode(text, start)[1]
    except (ValueError, RecursionError):
        return None


def _closing_of(text: str, start: int) -> int | None:
    """Return the position of the bracket that closes the one at `start`; None if there is no matching one."""
    opened: list[str] = []
    before, at = "", start
    while (token := _TOKEN.match(text, at)) is not None:
        what, at = token.group(), token.end()
        if what == '"':  # a string without an end
            return None
        if what == "'" and before in "[{,:" and (quoted := _SINGLE_QUOTED.match(text, token.start())) is not None:
            at = quoted.end()
        elif what in "[{":
            opened.append(what)
        elif what in _CLOSING:
            if opened.pop() != _CLOSING[what]:
                return None
            if not opened:
                return at
        if not what.isspace():
            before = what
    return None


def _begins_document(text: str, start: int, closing: int | None) -> bool:
    """Return whether a bracket that is no JSON was meant to be a document."""
    if _BEGINNING.match(text, start) is not None:
        return True
    if closing is None:
        return _OPEN_BEGINNING.match(text, start) is not None
    return text[start] == "[" and "{" in text[start:closing]


def _counts_in_prose(value: Any, text: str, start: int, end: int) -> bool:
    if not value:
        return False
    if isinstance(value, dict) or any(isinstance(each, (dict, list)) for each in value):
        return True
    before = text[text.rfind("\n", 0, start) + 1 : start].strip()
    line_end = text.find("\n", end)
    after = text[end : line_end if line_end >= 0 else None].strip(" \t\r.;!")
    return (not before or before.endswith(":")) and not after


def _is_version_of(value: Any, later: Any) -> bool:
    """Return whether two documents are versions of one."""
    if isinstance(value, dict) and isinstance(later, dict):
        return not cast("dict[str, Any]", value).keys().isdisjoint(cast("dict[str, Any]", later))
    if isinstance(value, list) and isinstance(later, list):
        one, other = cast("list[Any]", value)[:1], cast("list[Any]", later)[:1]
        return one == other or (bool(one and other) and _is_version_of(one[0], other[0]))
    return False


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not a value of JSON")


def _unambiguous(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    document = dict(pairs)
    if len(document) != len(pairs):
        for name, value in pairs:
            if document[name] != value:
                raise ValueError(f"the key {name!r} stands there twice, with different values")
    return document
