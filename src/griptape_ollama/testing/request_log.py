"""Record of requests, loads and disconnects, and the comparison of a request with what a test expects."""

import difflib
import json
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from griptape_ollama.testing.models.load_settings import Load
from griptape_ollama.testing.wire_format import as_list, as_object, as_text


@dataclass(kw_only=True)
class Outcome:
    """Result of a request, filled in while the response is prepared.

    Attributes:
        status: HTTP status of the response, None before it, or if the connection broke before it.
        fault: Kind of the fault that changed the response.
        load_seconds: Simulated seconds until its model was in memory.
        wait_seconds: Simulated seconds until the model began to process it, loading included.
        window: Context window in tokens that its model was loaded with.
        prompt_tokens: Tokens of its prompt after dropping and truncation.
        whole_prompt_tokens: Tokens of the prompt before the server dropped or truncated anything.
        dropped_messages: Number of messages that the server dropped because the prompt was too long.
        evaluated_tokens: Prompt tokens that were not in the prompt cache.
        has_shifted: Whether the window was shifted over the beginning of the prompt during generation.
    """

    status: int | None = None
    fault: str | None = None
    load_seconds: float | None = None
    wait_seconds: float | None = None
    window: int | None = None
    prompt_tokens: int | None = None
    whole_prompt_tokens: int | None = None
    dropped_messages: int | None = None
    evaluated_tokens: int | None = None
    has_shifted: bool = False

    @property
    def was_truncated(self) -> bool:
        """Whether the server dropped or truncated a part of the prompt."""
        return (self.prompt_tokens or 0) < (self.whole_prompt_tokens or 0)


@dataclass(frozen=True, kw_only=True)
class RecordedRequest:
    """One request as it arrived.

    Attributes:
        method: HTTP method.
        path: Path without the query.
        headers: Headers, with names in any case.
        body: Decoded JSON body, None if there was none or it was not JSON.
        raw: Body in bytes.
        at: Time of its arrival in seconds of `time.monotonic()`.
        outcome: Result of the request.
    """

    method: str
    path: str
    headers: Mapping[str, str]
    body: Any
    raw: bytes
    at: float = field(default_factory=time.monotonic)
    outcome: Outcome = field(default_factory=Outcome, compare=False)

    @property
    def model(self) -> str:
        """Model name as the request spells it, empty if it names none."""
        body = as_object(self.body)
        return as_text(body.get("model")) or as_text(body.get("name"))

    @property
    def messages(self) -> list[dict[str, Any]]:
        """Messages of a chat request."""
        return [as_object(message) for message in as_list(as_object(self.body).get("messages"))]

    @property
    def prompt(self) -> str:
        """Prompt of a generate request."""
        return as_text(as_object(self.body).get("prompt"))

    @property
    def options(self) -> dict[str, Any]:
        """Model options of the request."""
        return as_object(as_object(self.body).get("options"))

    @property
    def tools(self) -> list[dict[str, Any]]:
        """Tools that the request offers."""
        return [as_object(tool) for tool in as_list(as_object(self.body).get("tools"))]

    @property
    def is_chat(self) -> bool:
        """Whether this is a chat request."""
        return self.method == "POST" and self.path == "/api/chat"

    def __str__(self) -> str:
        text = f"{self.method} {self.path}"
        if self.model:
            text += f" model={self.model!r}"
        if self.prompt:
            text += f" prompt={self.prompt[:80]!r}"
        if self.messages:
            last = self.messages[-1]
            text += f" last message={as_text(last.get('role'))}: {as_text(last.get('content'))[:80]!r}"
        return text


@dataclass(frozen=True)
class UnexpectedRequest:
    """A request that does not fit the script of the test.

    Attributes:
        request: The request.
        reason: Why it does not fit, with what was expected.
        error: Exception of the reply function, None for other reasons.
    """

    request: RecordedRequest
    reason: str
    error: BaseException | None = field(default=None, compare=False)


class UnexpectedRequestError(AssertionError):
    """Requests came that do not fit the script of the test.

    Attributes:
        requests: Those requests.
        reasons: For each, why it does not fit: a diff with what was expected, or the error of the reply function. The
            first such error is the `__cause__`.
    """

    def __init__(self, unexpected: Sequence[UnexpectedRequest]) -> None:
        self._unexpected = tuple(unexpected)
        self.requests = tuple(one.request for one in unexpected)
        self.reasons = tuple(one.reason for one in unexpected)
        listed = "\n".join(f"{number}. {one.request}: {one.reason}" for number, one in enumerate(unexpected, 1))
        errors = [one.error for one in unexpected if one.error is not None]
        what = "that no scripted reply was for" if not errors else "whose reply function failed"
        if 0 < len(errors) < len(self.requests):
            what = f"that no scripted reply was for, or {what}"
        super().__init__(f"{len(self.requests)} request(s) came {what}:\n{listed}")
        self.__cause__ = errors[0] if errors else None

    def __reduce__(self) -> tuple[Any, ...]:
        # Some exceptions cannot be pickled; the reasons contain their texts.
        return UnexpectedRequestError, (tuple(replace(one, error=None) for one in self._unexpected),)


class RequestLog:
    """Thread-safe record of requests, loads and disconnects.

    Args:
        limit: Number of the latest entries to keep, None for all.
    """

    def __init__(self, limit: int | None = None) -> None:
        self._changed = threading.Condition()
        self._requests: deque[RecordedRequest] = deque(maxlen=limit)
        self._disconnects: deque[float] = deque(maxlen=limit)
        self._loads: deque[Load] = deque(maxlen=limit)
        self._unexpected: deque[UnexpectedRequest] = deque(maxlen=limit)

    @property
    def requests(self) -> list[RecordedRequest]:
        """Copy of all requests so far, in order of arrival."""
        with self._changed:
            return list(self._requests)

    @property
    def disconnects(self) -> list[float]:
        """Copy of the times of disconnects before the response was complete."""
        with self._changed:
            return list(self._disconnects)

    @property
    def loads(self) -> list[Load]:
        """Copy of the loads so far, in order."""
        with self._changed:
            return list(self._loads)

    def add_load(self, load: Load) -> None:
        """Record a load."""
        with self._changed:
            self._loads.append(load)

    def add_request(self, request: RecordedRequest) -> None:
        """Record a request."""
        with self._changed:
            self._requests.append(request)
            self._changed.notify_all()

    def add_disconnect(self) -> None:
        """Record a disconnect at this time."""
        with self._changed:
            self._disconnects.append(time.monotonic())
            self._changed.notify_all()

    def add_unexpected(self, unexpected: UnexpectedRequest) -> None:
        """Record a request that does not fit the script."""
        with self._changed:
            self._unexpected.append(unexpected)

    def pop_unexpected(self) -> list[UnexpectedRequest]:
        """Return and remove the requests that do not fit the script."""
        with self._changed:
            unexpected = list(self._unexpected)
            self._unexpected.clear()
            return unexpected

    def clear(self) -> None:
        """Remove all records."""
        with self._changed:
            self._requests.clear()
            self._disconnects.clear()
            self._loads.clear()
            self._unexpected.clear()

    def wait_for_request(self, n: int, timeout: float, path: str | None) -> RecordedRequest:
        """Wait until the n-th request has arrived, see `OllamaSimulator.wait_for_request`."""

        def found() -> list[RecordedRequest]:
            return [request for request in self._requests if path in (None, request.path)]

        with self._changed:
            if not self._changed.wait_for(lambda: len(found()) >= n, timeout):
                raise TimeoutError(f"{len(found())} of {n} requests arrived in {timeout:g} s")
            return found()[n - 1]

    def wait_for_disconnect(self, n: int, timeout: float) -> float:
        """Wait until the n-th disconnect was seen, see `OllamaSimulator.wait_for_disconnect`."""
        with self._changed:
            if not self._changed.wait_for(lambda: len(self._disconnects) >= n, timeout):
                raise TimeoutError(f"{len(self._disconnects)} of {n} disconnects were seen in {timeout:g} s")
            return self._disconnects[n - 1]


def expectation_diff(expected: Mapping[str, Any], request: RecordedRequest) -> str | None:
    """Return a diff of expected fields of a body and those of a request, None if they are equal.

    Fields that are not in `expected` may have any value.
    """
    body = as_object(request.body)
    found = {name: body[name] for name in expected if name in body}
    if found == dict(expected):
        return None
    return diff(dict(expected), found, "expected", "came")


def exhausted_reason(request: RecordedRequest, latest: RecordedRequest | None, used: int) -> str:
    """Return why there is no reply for a request, with a diff to the latest request that had one."""
    if latest is None:
        return "nothing was scripted for it"
    text = f"the script is exhausted: its {used} replies are used up; the last one answered the request that differs so"
    return f"{text}:\n{diff(latest.body, request.body, 'last request that had a reply', 'this request')}"


def diff(one: Any, other: Any, name: str, other_name: str) -> str:
    """Return the difference of two JSON values, line by line."""
    lines = difflib.unified_diff(_lines(one), _lines(other), name, other_name, lineterm="", n=3)
    return "\n".join(lines) or "(they are equal)"


def _lines(value: Any) -> list[str]:
    return json.dumps(value, indent=2, ensure_ascii=False, default=str).split("\n")
