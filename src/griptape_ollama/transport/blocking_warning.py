"""Event loops that stand still while something blocks."""

from __future__ import annotations

import asyncio
import inspect
import warnings

# What stands between whoever called and the note of it.
_NOT_THE_CALLER = ("griptape_ollama", "griptape", "contextlib")


class OllamaBlockingWarning(RuntimeWarning):
    """A call blocks the event loop in whose thread it is made. Said once per process."""


class _Said:
    """Whether it was said already."""

    is_said = False


def is_in_loop() -> bool:
    """Whether an event loop runs in this thread."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def note_blocking() -> None:
    """Warn, once, that a call blocks the event loop in whose thread it is made.

    Raises:
        OllamaBlockingWarning: Warnings are errors here; then each such call raises.
    """
    if _Said.is_said or not is_in_loop():
        return
    _Said.is_said = True
    try:
        warnings.warn(
            "This call blocks the event loop that runs in its thread, and with it all other tasks. Await arun, aembed "
            "or aembed_batch of the driver, go through astream or OllamaStream with `async for`, or move the call to "
            "another thread: `await asyncio.to_thread(agent.run, ...)`. (Said once; ignore OllamaBlockingWarning "
            "where it may block.)",
            OllamaBlockingWarning,
            stacklevel=_level_of_caller(),
        )
    except OllamaBlockingWarning:
        _Said.is_said = False
        raise


def _level_of_caller() -> int:
    """Count the frames up to whoever called this package, be it by way of the framework."""
    frame, level = inspect.currentframe(), 0
    while frame is not None and frame.f_globals.get("__name__", "").partition(".")[0] in _NOT_THE_CALLER:
        frame, level = frame.f_back, level + 1
    # The innermost of these frames is this function, which is not there when the warning is issued.
    return level
