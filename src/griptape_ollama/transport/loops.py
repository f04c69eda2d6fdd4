"""Event loops that stand still while something blocks."""

from __future__ import annotations

import asyncio
import logging

_logger = logging.getLogger(__name__)


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
    """Say, once, that a call blocks the event loop in whose thread it is made.

    A record in the log, not a Python warning: where those are errors, the call would not work.
    """
    if not _Said.is_said and is_in_loop():
        _Said.is_said = True
        _logger.warning(
            "A call that blocks was made in the thread of a running event loop, which stands still meanwhile. Await "
            "arun, astream, aembed or aembed_batch, or use OllamaStream. (This is said once.)"
        )
