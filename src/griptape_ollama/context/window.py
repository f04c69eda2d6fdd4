"""The context window that a request asks for, and the one that its model will have.

The server loads a model anew for each other window, also where a request asks for none and the window is not the
default one (server 0.33). So what is there is asked for as it is, nothing is asked for where the default does, and the
window grows in powers of two. What is known comes from `/api/ps`, from what was sent, and from replies.
"""

from __future__ import annotations

import logging
import math
import time

from griptape_ollama.context.bounds import CLOUD_WINDOW, Bounds
from griptape_ollama.context.decision import Window, decided, default_of
from griptape_ollama.context.looking import Subject, look, take_in
from griptape_ollama.context.order import ARRIVAL_SECONDS
from griptape_ollama.context.remembered import Remembered, windows
from griptape_ollama.models.metadata_cache import Facts, ModelFacts, is_cloud_model

__all__ = ["Window", "ceiling_of", "decide_window", "forget_window", "last_num_ctx", "learn_window"]

_logger = logging.getLogger(__name__)


def decide_window(
    facts: Facts,
    model: str,
    known: ModelFacts,
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
        facts: The server.
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
    subject = Subject(facts, model, known, Bounds.of(known, max_num_ctx))
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
            if not facts.wait(woken, seconds):
                until = -math.inf
        finally:
            with windows.lock:
                memory.order.stop_waiting(woken)


def ceiling_of(
    facts: Facts, model: str, known: ModelFacts, *, num_ctx: int | str | None, max_num_ctx: int | None
) -> int:
    """Give the largest window, in tokens, that a model has or can be grown to.

    Args:
        facts: As for `decide_window`, as are the others.
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
    window = decide_window(facts, model, known, num_ctx=num_ctx, max_num_ctx=max_num_ctx, needed=0, settle=False)
    return window.ceiling


def last_num_ctx(address: str, model: str | None) -> int | None:
    """Give the `num_ctx` that a model was asked for last; None where that was none, or it was not asked yet.

    Args:
        address: Address of its server.
        model: Its name; None where it has to be found out.
    """
    with windows.lock:
        return windows.server(address).find(model).sent if model else None


def learn_window(facts: Facts, model: str, window: Window, *, prompt_tokens: int | None = None) -> None:
    """Take in that a request was answered, so that the model has its window. To be called for each reply.

    Args:
        facts: The server.
        model: The model.
        window: What was decided for the request.
        prompt_tokens: Its `prompt_eval_count`: one that is larger than the window proves a larger one.
    """
    with windows.lock:
        memory = windows.server(facts.address).find(model)
        memory.order.arrived(window)
        memory.answered(window.num_ctx, window.tokens, time.monotonic())
        if window.num_ctx is None and prompt_tokens is not None and prompt_tokens > window.tokens:
            memory.prove(prompt_tokens)


def forget_window(facts: Facts, model: str, window: Window, *, had_no_room: bool = False) -> None:
    """Take in that a request got no reply: the window that it should have made may not be there.

    Args:
        facts: The server.
        model: The model.
        window: What was decided for the request.
        had_no_room: Whether the server had no room in memory for a model of this window. For five minutes the window
            then grows to half of it at most.
    """
    now = time.monotonic()
    lacks_room = had_no_room and window.num_ctx is not None
    with windows.lock:
        memory = windows.server(facts.address).find(model)
        memory.order.arrived(window)
        is_in_doubt = memory.failed(window.num_ctx, now)
        if lacks_room:
            memory.lacks_room(window.tokens, now)
    if is_in_doubt:
        facts.forget_loaded()
    if lacks_room:
        _logger.warning(
            "Ollama at %s had no room in memory for model %r with a window of %d tokens: for five minutes it grows to "
            "half of that at most.",
            facts.address,
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
