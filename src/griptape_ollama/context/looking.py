"""When a server is asked which window a model has, and what is made of the answer."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass

from griptape_ollama.context.bounds import Bounds, own_window
from griptape_ollama.context.remembered import Remembered, Server, windows
from griptape_ollama.context.sight import Sight, sight_of
from griptape_ollama.models.metadata_cache import Facts, ModelFacts

_SILENT_SECONDS = 5.0

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Subject:
    """The model that it is about.

    Attributes:
        facts: Its server.
        model: Its name.
        known: Facts about it.
        bounds: Bounds of its window.
    """

    facts: Facts
    model: str
    known: ModelFacts
    bounds: Bounds

    def __str__(self) -> str:
        """Name it for the log."""
        return f"model {self.model!r} of Ollama at {self.facts.address}"

    @property
    def own_window(self) -> int | None:
        """The window that is baked into it."""
        return own_window(self.known, self.bounds)

    def remembered(self) -> tuple[Server, Remembered]:
        """Find what is remembered of its server and of itself; whoever asks holds the lock."""
        server = windows.server(self.facts.address)
        return server, server.find(self.model, self.known)


def look(subject: Subject, num_ctx: int | str | None) -> Sight | None:
    """See what the server says of a model; None where that is nothing, or would change nothing.

    A server that has no facts about the model is not asked: it is not there, or does not have it, or does not tell.
    Nor is one that loads the model for us, since it lists nothing of it meanwhile (server 0.33).
    """
    facts, now = subject.facts, time.monotonic()
    if isinstance(num_ctx, int) or not subject.known.raw:
        return None
    with windows.lock:
        server, memory = subject.remembered()
        is_default_known = subject.own_window is not None or memory.default is not None or server.default is not None
        if memory.loads(now) or server.silent_until > now or (num_ctx is None and is_default_known):
            return None
    loaded = facts.loaded()
    if loaded is not None and _wants_newer(memory, loaded.asked_at):
        facts.forget_loaded()
        loaded = facts.loaded()
    if loaded is not None:
        return sight_of(facts, subject.model, subject.known, loaded)
    _note_silence(subject)
    return None


def take_in(subject: Subject, sight: Sight, server: Server, memory: Remembered) -> list[str]:
    """Take in what a server said, and give what is worth a word of it; whoever calls this holds the lock."""
    was_default, before = memory.is_default, memory.default
    words: list[str] = []
    if memory.take_in(sight, time.monotonic()):
        words.append(f"{subject} was unloaded: its window starts afresh.")
    learned = memory.default
    if was_default and not memory.is_default and sight.is_listed and learned is not None:
        server.learn_default(learned, subject.known.context_length)
        if learned != before:
            words.append(f"{subject} is loaded with {learned} tokens by default.")
    return words


def _wants_newer(memory: Remembered, asked_at: float) -> bool:
    with windows.lock:
        wants = memory.needs_newer(asked_at)
        memory.has_looked |= wants
    return wants


def _note_silence(subject: Subject) -> None:
    with windows.lock:
        server, _ = subject.remembered()
        server.silent_until = time.monotonic() + _SILENT_SECONDS
        is_news, server.said_silent = not server.said_silent, True
    if is_news:
        _logger.info(
            "Ollama at %s does not tell which models are loaded: the window of a model is taken for what was asked "
            "for last.",
            subject.facts.address,
        )
