"""The audit record of a generation request, made while its lines pass by."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Generator, Mapping
from typing import Any

from griptape_ollama.errors import OllamaCancelledError
from griptape_ollama.models.audit import record_generation
from griptape_ollama.transport.call import Call


def audited_lines(call: Call) -> Generator[dict[str, Any], None, None]:
    """Yield the lines of a chat, and record the request when they end, however they end.

    Raises:
        OllamaError: As `Call.lines` does.
    """
    started = time.monotonic()
    last: Mapping[str, Any] = {}
    error: BaseException | None = None
    try:
        with contextlib.closing(call.lines()) as lines:
            for line in lines:
                last = line
                yield line
    except GeneratorExit:
        if last.get("done") is not True:
            error = OllamaCancelledError()
        raise
    except BaseException as raised:
        error = raised
        raise
    finally:
        record_generation(
            action="chat",
            model=call.model or "",
            host=call.host,
            seconds=time.monotonic() - started,
            input_tokens=last.get("prompt_eval_count"),
            output_tokens=last.get("eval_count"),
            error=error,
        )
