"""The audit record of one generation request."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Generator
from typing import Any

from griptape_ollama.errors import OllamaCancelledError
from griptape_ollama.models.audit import record_generation
from griptape_ollama.protocol.counters import to_count
from griptape_ollama.transport.call import Call


@contextlib.contextmanager
def audited(call: Call) -> Generator[dict[str, Any], None, None]:
    """Record a request when it ends, however it ends. Whoever makes it fills the mapping with the last of the reply.

    Args:
        call: The request.
    """
    last: dict[str, Any] = {}
    started = time.monotonic()
    error: BaseException | None = None
    try:
        yield last
    except GeneratorExit:
        # Who leaves a reply before its end stops it.
        error = None if last.get("done") is True else OllamaCancelledError()
        raise
    except BaseException as raised:
        error = raised
        raise
    finally:
        record_generation(
            action=call.path.rpartition("/")[2],
            model=call.model or "",
            host=call.host,
            seconds=time.monotonic() - started,
            input_tokens=to_count(last.get("prompt_eval_count")),
            output_tokens=to_count(last.get("eval_count")),
            error=error,
        )
