"""What the calls of a soak are, what the server does to them, and how each must end."""

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
"""What asks the server to fall silent in mid-reply until the caller has left."""

_LATE = 60.0  # seconds; far beyond the limits of those who wait for it


def text_for(number: str) -> str:
    """What the server says to one call, and to no other."""
    return f"answer {number} is {number} and {number}"


@dataclass(frozen=True)
class Fault:
    """Something that the server does to a call.

    Attributes:
        reply: Makes the reply, of the text that would have been said.
        error: What the caller gets; None where another try succeeds.
        is_once: Whether only the first request of a call is struck.
        is_slow: Whether a limit ends it, so that the caller sets short ones.
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
        number: Tells it apart.
        way: `run`, `stream`, `embed` or `leave` (a stream that is left in mid-reply).
        fault: Name of what happens to it; empty where all goes well.
    """

    number: int
    way: str
    fault: str = ""

    @property
    def prompt(self) -> str:
        """The text that is sent, which tells the server what to do."""
        return f"{self.number} {HELD if self.way == 'leave' else self.fault}".rstrip()

    @property
    def is_awaited(self) -> bool:
        """Whether it is made in an event loop."""
        return self.number % 2 == 1

    @property
    def expected(self) -> Any:
        """The error, or the answer."""
        error = FAULTS[self.fault].error if self.fault else None
        return error or (None if self.way in ("embed", "leave") else text_for(str(self.number)))

    @property
    def is_slow(self) -> bool:
        """Whether a limit is to end it."""
        return bool(self.fault) and FAULTS[self.fault].is_slow


def case(number: int) -> Case:
    """Draw a call by its number."""
    dice = random.Random(number)  # noqa: S311 # nothing secret
    kind = dice.random()
    if kind < FAULTS_SHARE:
        return Case(number, dice.choice(("run", "stream")), dice.choice(tuple(FAULTS)))
    if kind < FAULTS_SHARE + LEAVE_SHARE:
        return Case(number, "leave")
    if kind < FAULTS_SHARE + LEAVE_SHARE + EMBED_SHARE:
        return Case(number, "embed")
    return Case(number, dice.choice(("run", "stream")))
