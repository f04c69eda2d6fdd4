"""How small and how large the window of a model can be."""

from __future__ import annotations

import logging
import math
import time
from dataclasses import dataclass, replace

from griptape_ollama.context.window_state import ARRIVAL_SECONDS, Remembered, Server, Sight, sight_of, windows
from griptape_ollama.models.metadata_cache import DEFAULT_WINDOW, ModelMetadata, ServerMetadata, is_cloud_model
from griptape_ollama.protocol.context_window import MAX_NUM_CTX
from griptape_ollama.protocol.counters import to_count

_logger = logging.getLogger(__name__)

DEFAULT_MAX_NUM_CTX = 32_768
"""Size up to which a window grows where nobody says otherwise, in tokens.

The cache of an 8B model (32 layers of 8 KV heads of 128 numbers, keys and values of 2 bytes) takes 128 KiB per token:
4 GiB for this window, about as much as the weights.
"""

CLOUD_WINDOW = 131_072
"""Window of a cloud model whose facts are not known, in tokens: the smallest of those at ollama.com in 2026."""

# The server raises smaller ones (server 0.33, `getRunner`).
_SMALLEST = 4
_SMALLEST_WITH_VISION = 2048


@dataclass(frozen=True)
class Bounds:
    """Bounds of a model's window, in tokens.

    Attributes:
        smallest: The server raises smaller windows to this.
        limit: The server lowers larger ones to this: what the model was made for. None where that is unknown.
        largest_growth: Size up to which a window may be grown.
    """

    smallest: int
    limit: int | None
    largest_growth: int

    @classmethod
    def of(cls, known: ModelMetadata, max_num_ctx: int | None) -> Bounds:
        """Find the bounds of a model."""
        has_vision = known.capabilities is not None and known.can("vision")
        smallest = _SMALLEST_WITH_VISION if has_vision else _SMALLEST
        wanted = DEFAULT_MAX_NUM_CTX if max_num_ctx is None else max_num_ctx
        largest = wanted if known.context_length is None else min(wanted, known.context_length)
        return cls(smallest, known.context_length, largest)

    def clamp(self, tokens: int) -> int:
        """Give the window that the server makes of a request for so many tokens."""
        raised = max(tokens, self.smallest)
        return raised if self.limit is None else min(raised, self.limit)

    def lowered(self, room: int | None) -> Bounds:
        """Give the bounds where the server has room for growth up to `room` tokens only; None is no limit."""
        return self if room is None else replace(self, largest_growth=min(self.largest_growth, room))

    def grown(self, needed: int) -> int:
        """Give the window to grow to: the next power of two that is enough, as far as it may grow."""
        enough = 1 << max(needed - 1, 0).bit_length()
        return min(enough, self.largest_growth)


def own_window(known: ModelMetadata, bounds: Bounds) -> int | None:
    """Give the window that is baked into a model as its own `num_ctx`; None where there is none."""
    own = to_count(known.parameters.get("num_ctx"), least=1, most=MAX_NUM_CTX)
    return None if own is None else bounds.clamp(own)


def assumed_window(bounds: Bounds) -> int:
    """Give the window that a model gets where nothing is asked for and nothing is known."""
    return bounds.clamp(DEFAULT_WINDOW)


@dataclass(frozen=True)
class Window:
    """The window of a model for one request.

    Attributes:
        num_ctx: What to send as `num_ctx`; None for nothing.
        tokens: Window that the model has when it answers.
        ceiling: Largest window that it can be grown to; `tokens` where it is fixed.
        grown_from: Window before, where this request makes it grow.
        is_known: Whether the server or the caller told it, or the model was made for no more; otherwise it is assumed.
    """

    num_ctx: int | None
    tokens: int
    ceiling: int
    grown_from: int | None = None
    is_known: bool = False


@dataclass(frozen=True)
class Default:
    """The window that a model gets if nothing is asked for.

    Attributes:
        tokens: Its size.
        is_known: Whether it is baked into the model, or was learned from the server; otherwise it is assumed.
    """

    tokens: int
    is_known: bool


def default_of(bounds: Bounds, known: ModelMetadata, server: Server, memory: Remembered) -> Default:
    """Find the window that a model gets if nothing is asked for."""
    own = own_window(known, bounds)
    if own is not None:
        return Default(own, is_known=True)
    learned = memory.default or server.default
    tokens = assumed_window(bounds) if learned is None else bounds.clamp(learned)
    # A server that counts more than the model was made for proves nothing beyond that.
    return Default(max(tokens, bounds.clamp(memory.proven)), is_known=learned is not None)


def decided(num_ctx: int | str | None, bounds: Bounds, default: Default, memory: Remembered, needed: int) -> Window:
    """Decide on a window.

    Args:
        num_ctx: What the user wants.
        bounds: Bounds of the window.
        default: What the model gets if nothing is asked for.
        memory: What is remembered of the model.
        needed: Tokens of the prompt and the reply together.
    """
    if isinstance(num_ctx, int):
        tokens = bounds.clamp(num_ctx)
        # Larger numbers overflow on the server, to the smallest window there is (server 0.33).
        return Window(min(num_ctx, MAX_NUM_CTX), tokens, tokens, is_known=True)
    loaded = memory.tokens if memory.is_loaded else None
    is_told = loaded is not None and not memory.is_default
    if num_ctx is None:
        # What somebody else had loaded may be the default; what a request of ours made larger is not.
        tokens = loaded if loaded is not None and memory.sent is None and not default.is_known else default.tokens
        is_known = default.is_known or (is_told and tokens == loaded) or tokens == bounds.limit
        return Window(None, tokens, tokens, is_known=is_known)
    before = default.tokens if loaded is None else loaded
    grown = bounds.grown(needed)
    if needed > before and grown > before:
        return Window(grown, grown, bounds.largest_growth, grown_from=before, is_known=True)
    # Nothing, where the server does the same without being asked.
    sent = None if before == default.tokens else before
    is_known = is_told or default.is_known or before == bounds.limit
    return Window(sent, before, max(bounds.largest_growth, before), is_known=is_known)


_SILENT_SECONDS = 5.0


@dataclass(frozen=True)
class Subject:
    """The model that it is about.

    Attributes:
        metadata: Its server.
        model: Its name.
        known: Facts about it.
        bounds: Bounds of its window.
    """

    metadata: ServerMetadata
    model: str
    known: ModelMetadata
    bounds: Bounds

    def __str__(self) -> str:
        """Name it for the log."""
        return f"model {self.model!r} of Ollama at {self.metadata.address}"

    @property
    def own_window(self) -> int | None:
        """The window that is baked into it."""
        return own_window(self.known, self.bounds)

    def remembered(self) -> tuple[Server, Remembered]:
        """Find what is remembered of its server and of itself; whoever asks holds the lock."""
        server = windows.server(self.metadata.address)
        return server, server.find(self.model, self.known)


def look(subject: Subject, num_ctx: int | str | None) -> Sight | None:
    """See what the server says of a model; None where that is nothing, or would change nothing.

    A server that has no facts about the model is not asked: it is not there, or does not have it, or does not tell.
    Nor is one that loads the model for us, since it lists nothing of it meanwhile (server 0.33).
    """
    metadata, now = subject.metadata, time.monotonic()
    if isinstance(num_ctx, int) or not subject.known.raw:
        return None
    with windows.lock:
        server, memory = subject.remembered()
        is_default_known = subject.own_window is not None or memory.default is not None or server.default is not None
        if memory.loads(now) or server.silent_until > now or (num_ctx is None and is_default_known):
            return None
    loaded = metadata.loaded()
    if loaded is not None and _wants_newer(memory, loaded.asked_at):
        metadata.forget_loaded()
        loaded = metadata.loaded()
    if loaded is not None:
        return sight_of(metadata, subject.model, subject.known, loaded)
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
            subject.metadata.address,
        )


def decide_window(
    metadata: ServerMetadata,
    model: str,
    known: ModelMetadata,
    *,
    num_ctx: int | str | None,
    max_num_ctx: int | None,
    needed: int,
    reply_tokens: int = 0,
    settle: bool = True,
) -> Window:
    """Decide which window a request asks for.

    One that makes the window grow waits up to ten seconds for those that were sent before with a smaller one, and were
    not heard of yet. Those that come meanwhile wait with it, and the largest of them all decides.

    Args:
        metadata: The server.
        model: The model.
        known: Facts about it.
        num_ctx: What the user wants: None sends nothing, a number is sent as it is, `auto` grows as needed.
        max_num_ctx: Size up to which `auto` grows; None for 32768.
        needed: Tokens that the prompt and the wanted reply take together.
        reply_tokens: Those of `needed` that are for the reply.
        settle: Whether the request is going to be made; then `learn_window` or `forget_window` is to be called. If not,
            nothing is remembered of it.

    Raises:
        OllamaCancelledError: The run was stopped while the server was asked, or others were waited for.
    """
    if is_cloud_model(model, known):
        tokens = known.context_length or CLOUD_WINDOW
        return Window(None, tokens, tokens, is_known=known.context_length is not None)
    subject = Subject(metadata, model, known, Bounds.of(known, max_num_ctx))
    keeps_order = settle and isinstance(num_ctx, str)
    until = time.monotonic() + ARRIVAL_SECONDS if keeps_order else -math.inf
    while True:
        sight = look(subject, num_ctx)
        with windows.lock:
            server, memory = subject.remembered()
            words = [] if sight is None else take_in(subject, sight, server, memory)
            now = time.monotonic()
            bounds = subject.bounds.lowered(memory.room(now))
            most = memory.order.most(needed) if keeps_order else needed
            window = decided(num_ctx, bounds, default_of(bounds, known, server, memory), memory, most)
            seconds = min(memory.order.seconds_ahead(window.tokens, now), until - now)
            woken = memory.order.wait(needed) if seconds > 0 else None
            notes = [(logging.DEBUG, word) for word in words]
            if settle and woken is None:
                notes += _notes(subject, num_ctx, window, memory, needed=most, reply_tokens=reply_tokens)
                is_default = window.num_ctx is None and subject.own_window is None
                memory.settle(window.num_ctx, window.tokens, is_default=is_default, now=now)
                if keeps_order:
                    memory.order.send(window, window.tokens, now)
        for level, text in notes:
            _logger.log(level, "%s", text)
        if woken is None:
            return window
        try:
            if not metadata.wait(woken, seconds):
                until = -math.inf
        finally:
            with windows.lock:
                memory.order.stop_waiting(woken)


def ceiling_of(
    metadata: ServerMetadata, model: str, known: ModelMetadata, *, num_ctx: int | str | None, max_num_ctx: int | None
) -> int:
    """Give the largest window, in tokens, that a model has or can be grown to.

    Args:
        metadata: As for `decide_window`, as are the others.
        model: The model.
        known: Facts about it.
        num_ctx: What the user wants.
        max_num_ctx: Size up to which it may grow.

    Raises:
        OllamaCancelledError: The run was stopped while the server was asked.
    """
    largest = Bounds.of(known, max_num_ctx).largest_growth
    if isinstance(num_ctx, str) and not is_cloud_model(model, known) and largest == known.context_length:
        return largest  # nothing that is loaded can be larger
    window = decide_window(metadata, model, known, num_ctx=num_ctx, max_num_ctx=max_num_ctx, needed=0, settle=False)
    return window.ceiling


def last_num_ctx(address: str, model: str | None) -> int | None:
    """Give the `num_ctx` that a model was asked for last; None where that was none, or it was not asked yet.

    Args:
        address: Address of its server.
        model: Its name; None where it has to be found out.
    """
    with windows.lock:
        return windows.server(address).find(model).sent if model else None


def learn_window(metadata: ServerMetadata, model: str, window: Window, *, prompt_tokens: int | None = None) -> None:
    """Take in that a request was answered, so that the model has its window. To be called for each reply.

    Args:
        metadata: The server.
        model: The model.
        window: What was decided for the request.
        prompt_tokens: Its `prompt_eval_count`: one that is larger than the window proves a larger one.
    """
    with windows.lock:
        memory = windows.server(metadata.address).find(model)
        memory.order.arrived(window)
        memory.answered(window.num_ctx, window.tokens, time.monotonic())
        if window.num_ctx is None and prompt_tokens is not None and prompt_tokens > window.tokens:
            memory.prove(prompt_tokens)


def forget_window(metadata: ServerMetadata, model: str, window: Window, *, had_no_room: bool = False) -> None:
    """Take in that a request got no reply: the window that it should have made may not be there.

    Args:
        metadata: The server.
        model: The model.
        window: What was decided for the request.
        had_no_room: Whether the server had no room in memory for a model of this window. For five minutes the window
            then grows to half of it at most.
    """
    now = time.monotonic()
    lacks_room = had_no_room and window.num_ctx is not None
    with windows.lock:
        memory = windows.server(metadata.address).find(model)
        memory.order.arrived(window)
        is_in_doubt = memory.failed(window.num_ctx, now)
        if lacks_room:
            memory.lacks_room(window.tokens, now)
    if is_in_doubt:
        metadata.forget_loaded()
    if lacks_room:
        _logger.warning(
            "Ollama at %s had no room in memory for model %r with a window of %d tokens: for five minutes it grows to "
            "half of that at most.",
            metadata.address,
            model,
            window.tokens,
        )


def _notes(
    subject: Subject, asked: int | str | None, window: Window, memory: Remembered, *, needed: int, reply_tokens: int
) -> list[tuple[int, str]]:
    """Give what users should know of a decision, with the level that it is logged at."""
    if isinstance(asked, int) and window.tokens != asked and asked not in memory.said:
        memory.said.add(asked)
        what = "more than {} was made for" if window.tokens < asked else "too small for {}"
        text = f"num_ctx={asked} is {what.format(subject)}: its window is {window.tokens} tokens."
        return [(logging.WARNING, text)]
    if window.grown_from is None:
        return []
    grows = f"Window of {subject} grows from {window.grown_from} to {window.tokens} tokens"
    reason = f"a prompt may have up to {needed - reply_tokens}"
    if reply_tokens:
        reason += f", and {reply_tokens} are kept for the reply"
    if memory.is_loaded:
        return [(logging.INFO, f"{grows}: {reason}; the model is loaded anew.")]
    return [(logging.INFO, f"{grows} as it is loaded: {reason}.")]
