"""The context window that a request asks for: as large as it has to be, with as few loads of the model as possible.

`WindowPlanner.refresh` asks the server what is loaded, `propose` chooses a window and changes nothing, `commit` records
the choice for a request that is about to be sent.
"""

from __future__ import annotations

import logging
import math
import time
from dataclasses import dataclass, replace

from griptape_ollama.context.window_state import (
    ARRIVAL_SECONDS,
    LoadedWindow,
    ServerWindows,
    WindowState,
    find_loaded,
    window_registry,
)
from griptape_ollama.log_once import log_once
from griptape_ollama.models.metadata_cache import DEFAULT_WINDOW, ServerMetadata
from griptape_ollama.models.model_metadata import ModelMetadata, is_cloud_model
from griptape_ollama.protocol.numbers import reported_count
from griptape_ollama.protocol.options import MAX_NUM_CTX

_logger = logging.getLogger(__name__)

DEFAULT_MAX_NUM_CTX = 32_768
"""Size up to which a window grows by default, in tokens.

The cache of an 8B model (32 layers of 8 KV heads of 128 numbers, keys and values of 2 bytes) takes 128 KiB per token:
4 GiB for this window, about as much as the weights.
"""

CLOUD_WINDOW = 131_072
"""Window of a cloud model without metadata, in tokens: the smallest of those at ollama.com in 2026."""

# The server raises smaller ones (server 0.33, `getRunner`).
_SMALLEST = 4
_SMALLEST_WITH_VISION = 2048

# A server that does not answer `/api/ps` is not asked again for so long.
_SILENT_SECONDS = 5.0


@dataclass(frozen=True)
class ContextWindow:
    """The context window of a model for one request.

    Attributes:
        num_ctx: What to send as `num_ctx`; None for nothing.
        tokens: Window that the model has when it answers.
        ceiling: Largest window that it can grow to; `tokens` where it is fixed.
        grown_from: Window before, where this request makes it grow.
        is_known: Whether the server listed it, the caller set it, or the model was made for no more; otherwise it is
            assumed.
    """

    num_ctx: int | None
    tokens: int
    ceiling: int
    grown_from: int | None = None
    is_known: bool = False


@dataclass(frozen=True)
class WindowBounds:
    """Bounds of a model's window, in tokens.

    Attributes:
        smallest: The server raises smaller windows to this.
        limit: The server lowers larger ones to this, the longest context that the model was made for. None if that
            is unknown.
        largest_growth: Size up to which a window may grow.
    """

    smallest: int
    limit: int | None
    largest_growth: int

    @classmethod
    def of(cls, known: ModelMetadata, max_num_ctx: int | None) -> WindowBounds:
        """Return the bounds of a model; `max_num_ctx` is the user's limit to growth."""
        has_vision = known.capabilities is not None and known.can("vision")
        smallest = _SMALLEST_WITH_VISION if has_vision else _SMALLEST
        wanted = DEFAULT_MAX_NUM_CTX if max_num_ctx is None else max_num_ctx
        largest = wanted if known.context_length is None else min(wanted, known.context_length)
        return cls(smallest, known.context_length, largest)

    def clamp(self, tokens: int) -> int:
        """Return the window that the server makes of a request for so many tokens."""
        raised = max(tokens, self.smallest)
        return raised if self.limit is None else min(raised, self.limit)

    def with_memory_limit(self, tokens: int | None) -> WindowBounds:
        """Return the bounds where the server has memory for growth up to `tokens` only; None is no limit."""
        return self if tokens is None else replace(self, largest_growth=min(self.largest_growth, tokens))

    def grow_to(self, needed: int) -> int:
        """Return the window to grow to: the next power of two that is enough, as far as it may grow."""
        enough = 1 << max(needed - 1, 0).bit_length()
        return min(enough, self.largest_growth)


@dataclass(frozen=True)
class DefaultWindow:
    """The window that a model gets without `num_ctx`.

    Attributes:
        tokens: Its size.
        is_known: Whether it is a parameter of the model, or was learned from the server; otherwise it is assumed.
    """

    tokens: int
    is_known: bool


def default_window(
    bounds: WindowBounds, known: ModelMetadata, server: ServerWindows, state: WindowState
) -> DefaultWindow:
    """Find the window that a model gets without `num_ctx`."""
    own = model_window(bounds, known)
    if own is not None:
        return DefaultWindow(own, is_known=True)
    learned = state.default or server.default
    tokens = bounds.clamp(DEFAULT_WINDOW if learned is None else learned)
    # A server that counts more than the model was made for proves nothing beyond that.
    return DefaultWindow(max(tokens, bounds.clamp(state.least_default)), is_known=learned is not None)


def model_window(bounds: WindowBounds, known: ModelMetadata) -> int | None:
    """Return the window that a model's own `num_ctx` parameter sets; None if it has none."""
    own = reported_count(known.parameters.get("num_ctx"), least=1, most=MAX_NUM_CTX)
    return None if own is None else bounds.clamp(own)


def choose_window(
    num_ctx: int | str | None, bounds: WindowBounds, default: DefaultWindow, state: WindowState, needed: int
) -> ContextWindow:
    """Choose a window.

    Args:
        num_ctx: The user's setting.
        bounds: Bounds of the window.
        default: What the model gets without `num_ctx`.
        state: What is known of the model's window.
        needed: Tokens of the prompt and the reply together.
    """
    if isinstance(num_ctx, int):
        tokens = bounds.clamp(num_ctx)
        # Larger numbers overflow on the server, to the smallest window there is (server 0.33).
        return ContextWindow(min(num_ctx, MAX_NUM_CTX), tokens, tokens, is_known=True)
    loaded = state.tokens if state.is_loaded else None
    is_listed = loaded is not None and not state.has_default
    if num_ctx is None:
        # What another program had loaded may be the default; what a request of this process made larger is not.
        tokens = loaded if loaded is not None and state.num_ctx is None and not default.is_known else default.tokens
        is_known = default.is_known or (is_listed and tokens == loaded) or tokens == bounds.limit
        return ContextWindow(None, tokens, tokens, is_known=is_known)
    before = default.tokens if loaded is None else loaded
    grown = bounds.grow_to(needed)
    if needed > before and grown > before:
        return ContextWindow(grown, grown, bounds.largest_growth, grown_from=before, is_known=True)
    # None, where the server does the same without being asked.
    sent = None if before == default.tokens else before
    is_known = is_listed or default.is_known or before == bounds.limit
    return ContextWindow(sent, before, max(bounds.largest_growth, before), is_known=is_known)


class WindowPlanner:
    """Chooses the window of requests to one model.

    Args:
        metadata: Metadata of the server.
        model: Name of the model.
        known: Its metadata.
        num_ctx: The user's setting: None sends nothing, a number is sent as it is, `auto` grows as needed.
        max_num_ctx: Size up to which `auto` grows; None for 32768.
    """

    def __init__(
        self,
        metadata: ServerMetadata,
        model: str,
        known: ModelMetadata,
        *,
        num_ctx: int | str | None,
        max_num_ctx: int | None,
    ) -> None:
        self._metadata = metadata
        self._model = model
        self._known = known
        self._num_ctx = num_ctx
        self._bounds = WindowBounds.of(known, max_num_ctx)
        self._cloud_window = _cloud_window(known) if is_cloud_model(model, known) else None

    def ceiling(self) -> int:
        """Return the largest window, in tokens, that the model has or can grow to.

        Raises:
            OllamaCancelledError: The run was stopped while the server was asked.
        """
        largest = self._bounds.largest_growth
        if isinstance(self._num_ctx, str) and self._cloud_window is None and largest == self._known.context_length:
            return largest  # nothing that is loaded can be larger
        self.refresh()
        return self.propose(0).ceiling

    def refresh(self) -> None:
        """Ask the server which models are loaded, and record the answer, where that may change the choice.

        Raises:
            OllamaCancelledError: The run was stopped while the server was asked.
        """
        loaded = self.loaded_window()
        if loaded is None:
            return
        with window_registry.lock:
            server, state = self._states()
            had_default, before = state.has_default, state.default
            was_unloaded = state.record_loaded(loaded, time.monotonic())
            learned = state.default
            is_learned = had_default and not state.has_default and loaded.is_loaded and learned is not None
            if is_learned and learned is not None:
                server.record_default(learned, self._known.context_length)
        if was_unloaded:
            _logger.debug("%s was unloaded: its window starts afresh.", self)
        if is_learned and learned != before:
            _logger.debug("%s is loaded with %d tokens by default.", self, learned)

    def loaded_window(self) -> LoadedWindow | None:
        """Return the loaded window that the server lists; None if it lists none, or if the window is known without it.

        A server without metadata of the model is not asked: it does not run, does not have it, or hides it. Nor is one
        that is loading the model for this process, since it lists nothing of it meanwhile (server 0.33).
        """
        metadata, now = self._metadata, time.monotonic()
        if self._cloud_window is not None or isinstance(self._num_ctx, int) or not self._known.raw:
            return None
        with window_registry.lock:
            server, state = self._states()
            if state.may_be_loading(now) or server.ps_breaker.is_open:
                return None
            if self._num_ctx is None and (self._has_own_window or (state.default or server.default) is not None):
                return None
        loaded = metadata.loaded()
        if loaded is not None and self._needs_newer(loaded.asked_at):
            metadata.forget_loaded()
            loaded = metadata.loaded()
        if loaded is not None:
            return find_loaded(metadata, self._model, self._known, loaded)
        with window_registry.lock:
            window_registry.server(metadata.address).ps_breaker.open(_SILENT_SECONDS)
        log_once(
            _logger,
            logging.INFO,
            "Ollama at %s does not tell which models are loaded: the window of a model is taken for what was asked "
            "for last.",
            metadata.address,
        )
        return None

    def propose(self, needed: int) -> ContextWindow:
        """Choose the window of a request that is not sent; nothing is recorded.

        Args:
            needed: Tokens that the prompt and the wanted reply take together.
        """
        if self._cloud_window is not None:
            return self._cloud_window
        with window_registry.lock:
            return self._choose(*self._states(), needed)

    def commit(self, needed: int, *, reply_tokens: int = 0) -> ContextWindow:
        """Choose the window of a request that is about to be sent, and record it.

        A request that makes the window grow waits up to ten seconds for those that were sent before with a smaller one,
        and were not answered yet. Requests that come meanwhile wait with it, and the largest of them all decides.
        `record_reply` or `record_failure` is to be called afterwards.

        Args:
            needed: Tokens that the prompt and the wanted reply take together.
            reply_tokens: Those of `needed` that are for the reply.

        Raises:
            OllamaCancelledError: The run was stopped while it waited.
        """
        if self._cloud_window is not None:
            return self._cloud_window
        is_auto = isinstance(self._num_ctx, str)
        deadline = time.monotonic() + ARRIVAL_SECONDS if is_auto else -math.inf
        while True:
            with window_registry.lock:
                server, state = self._states()
                now = time.monotonic()
                most = state.most_needed(needed) if is_auto else needed
                window = self._choose(server, state, most)
                seconds = min(state.seconds_to_wait(window.tokens, now), deadline - now)
                if seconds <= 0:
                    was_loaded = state.is_loaded
                    is_default = window.num_ctx is None and not self._has_own_window
                    state.commit(window.num_ctx, window.tokens, is_default=is_default, now=now)
                    if is_auto:
                        state.add_request(window, window.tokens, now)
                    break
                answered = state.start_waiting(needed)
            try:
                if not self._metadata.wait(answered, seconds):
                    deadline = -math.inf
            finally:
                with window_registry.lock:
                    state.stop_waiting(answered)
            self.refresh()
        self._log(window, most - reply_tokens, reply_tokens, was_loaded=was_loaded)
        return window

    def record_reply(self, window: ContextWindow, *, prompt_tokens: int | None = None) -> None:
        """Record that a request was answered, so that the model has its window. To be called for each reply.

        Args:
            window: What was committed for the request.
            prompt_tokens: Its `prompt_eval_count`: one that is larger than the window proves a larger one.
        """
        with window_registry.lock:
            _, state = self._states()
            state.remove_request(window)
            state.record_reply(window.num_ctx, window.tokens, time.monotonic())
            if window.num_ctx is None and prompt_tokens is not None and prompt_tokens > window.tokens:
                state.record_longer_prompt(prompt_tokens)

    def record_failure(self, window: ContextWindow, *, is_out_of_memory: bool = False) -> None:
        """Record that a request got no reply: the model may not have the window that it asked for.

        Args:
            window: What was committed for the request.
            is_out_of_memory: Whether the server had no memory for the model with this window. For five minutes the
                window then grows to half of it at most.
        """
        now = time.monotonic()
        is_too_large = is_out_of_memory and window.num_ctx is not None
        with window_registry.lock:
            _, state = self._states()
            state.remove_request(window)
            is_in_doubt = state.record_failure(window.num_ctx, now)
            if is_too_large:
                state.record_out_of_memory(window.tokens, now)
        if is_in_doubt:
            self._metadata.forget_loaded()
        if is_too_large:
            _logger.warning(
                "Ollama at %s had no room in memory for model %r with a window of %d tokens: for five minutes it grows "
                "to half of that at most.",
                self._metadata.address,
                self._model,
                window.tokens,
            )

    def __str__(self) -> str:
        """Name the model for the log."""
        return f"model {self._model!r} of Ollama at {self._metadata.address}"

    @property
    def _has_own_window(self) -> bool:
        return model_window(self._bounds, self._known) is not None

    def _states(self) -> tuple[ServerWindows, WindowState]:
        server = window_registry.server(self._metadata.address)
        return server, server.state(self._model, self._known)

    def _choose(self, server: ServerWindows, state: WindowState, needed: int) -> ContextWindow:
        bounds = self._bounds.with_memory_limit(state.memory_limit(time.monotonic()))
        return choose_window(self._num_ctx, bounds, default_window(bounds, self._known, server, state), state, needed)

    def _needs_newer(self, asked_at: float) -> bool:
        with window_registry.lock:
            _, state = self._states()
            needs = state.needs_newer(asked_at)
            state.has_asked |= needs
        return needs

    def _log(self, window: ContextWindow, prompt_tokens: int, reply_tokens: int, *, was_loaded: bool) -> None:
        asked = self._num_ctx
        if isinstance(asked, int) and window.tokens != asked:
            what = f"more than {self} was made for" if window.tokens < asked else f"too small for {self}"
            log_once(_logger, logging.WARNING, "num_ctx=%s is %s: its window is %d tokens.", asked, what, window.tokens)
        if window.grown_from is None:
            return
        reply = f", and {reply_tokens} are kept for the reply" if reply_tokens else ""
        _logger.info(
            "Window of %s grows from %d to %d tokens%s: a prompt may have up to %d%s%s.",
            self,
            window.grown_from,
            window.tokens,
            "" if was_loaded else " as it is loaded",
            prompt_tokens,
            reply,
            "; the model is loaded anew" if was_loaded else "",
        )


def _cloud_window(known: ModelMetadata) -> ContextWindow:
    tokens = known.context_length or CLOUD_WINDOW
    return ContextWindow(None, tokens, tokens, is_known=known.context_length is not None)


def last_num_ctx(address: str, model: str | None) -> int | None:
    """Return the `num_ctx` of the last request to a model; None if that had none, or there was no request.

    Args:
        address: Address of its server.
        model: Its name; None if it is not known yet.
    """
    with window_registry.lock:
        return window_registry.server(address).state(model).num_ctx if model else None
