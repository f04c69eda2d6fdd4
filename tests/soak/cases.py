"""The calls of a soak test, the faults of the server, and the expected result of each."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from griptape_ollama import (
    OllamaBusyError,
    OllamaConnectionError,
    OllamaError,
    OllamaModelNotFoundError,
    OllamaStreamError,
    OllamaTimeoutError,
)
from griptape_ollama.testing import Reply

FAULTS_SHARE = 0.05
EMBED_SHARE = 0.2
LEAVE_SHARE = 0.02

HELD = "held"
"""Prompt that makes the server pause inside the reply until the caller has left."""

_LATE = 60.0  # seconds; far beyond the timeouts of the callers


def text_for(number: str) -> str:
    """Return the reply to one call, which differs from all other replies."""
    return f"answer {number} is {number} and {number}"


@dataclass(frozen=True)
class Fault:
    """A fault of the server in a call.

    Attributes:
        reply: Builds the reply from the text of a reply without a fault.
        error: Error of the caller; None where a retry succeeds.
        is_once: Whether it affects only the first request of a call.
        is_slow: Whether a timeout ends it, so that the caller sets short ones.
    """

    reply: Callable[[str], Reply]
    error: type[OllamaError] | None = None
    is_once: bool = False
    is_slow: bool = False


FAULTS = {
    "busy-once": Fault(lambda _: Reply(status=503, error="server busy"), is_once=True),
    "reset-once": Fault(lambda text: Reply(text=text, reset="before_headers"), is_once=True),
    "empty-once": Fault(lambda text: Reply(text=text, end_without_done=0), is_once=True),
    "busy": Fault(lambda _: Reply(status=503, error="server busy"), OllamaBusyError),
    "missing": Fault(lambda _: Reply(status=404, error="model 'simulator' not found"), OllamaModelNotFoundError),
    "reset": Fault(lambda text: Reply(text=text, reset="after_headers"), OllamaConnectionError),
    "cut": Fault(lambda text: Reply(text=text, cut=2), OllamaStreamError),
    "no-done": Fault(lambda text: Reply(text=text, end_without_done=True), OllamaStreamError),
    "error-line": Fault(lambda text: Reply(text=text, error_line=(2, "unexpected EOF")), OllamaStreamError),
    "garbage": Fault(lambda _: Reply(lines=["<html>"]), OllamaStreamError),
    "login": Fault(lambda _: Reply(body="<html>Log in</html>", content_type="text/html"), OllamaStreamError),
    "slow": Fault(lambda text: Reply(text=text, headers_delay=_LATE), OllamaTimeoutError, is_slow=True),
    "stall": Fault(lambda text: Reply(text=text, line_delay=_LATE), OllamaTimeoutError, is_slow=True),
}


@dataclass(frozen=True)
class Case:
    """One call.

    Attributes:
        number: Its number.
        way: `run`, `stream`, `embed` or `leave` (a stream that is left in mid-reply).
        fault: Name of the fault; empty for none.
    """

    number: int
    way: str
    fault: str = ""

    @property
    def prompt(self) -> str:
        """The prompt, from which the server reads the fault."""
        return f"{self.number} {HELD if self.way == 'leave' else self.fault}".rstrip()

    @property
    def is_awaited(self) -> bool:
        """Whether the call is asynchronous."""
        return self.number % 2 == 1

    @property
    def expected(self) -> Any:
        """The expected error or answer."""
        error = FAULTS[self.fault].error if self.fault else None
        return error or (None if self.way in ("embed", "leave") else text_for(str(self.number)))

    @property
    def is_slow(self) -> bool:
        """Whether a timeout ends it."""
        return bool(self.fault) and FAULTS[self.fault].is_slow


def case(number: int) -> Case:
    """Return the call of a number, drawn at random."""
    dice = random.Random(number)  # noqa: S311 # nothing secret
    kind = dice.random()
    if kind < FAULTS_SHARE:
        return Case(number, dice.choice(("run", "stream")), dice.choice(tuple(FAULTS)))
    if kind < FAULTS_SHARE + LEAVE_SHARE:
        return Case(number, "leave")
    if kind < FAULTS_SHARE + LEAVE_SHARE + EMBED_SHARE:
        return Case(number, "embed")
    return Case(number, dice.choice(("run", "stream")))
