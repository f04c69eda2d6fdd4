"""One structured record for each change on a server, and for generation requests where that is wanted. Never secrets.

Records go to the logger `griptape_ollama.audit` at level INFO. Their fields are in the attribute `audit` of the log
record, a dict that JSON can hold; the message says the same for people.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Generator
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any

from griptape_ollama.errors import OllamaCancelledError, OllamaError
from griptape_ollama.escaping import printable
from griptape_ollama.protocol.counters import to_count
from griptape_ollama.protocol.host import mask_host
from griptape_ollama.transport.call import Call

logger = logging.getLogger("griptape_ollama.audit")

DONE, UNCHANGED, FAILED, CANCELLED = "done", "unchanged", "failed", "cancelled"


@dataclass
class Change:
    """One change while it is made.

    Attributes:
        action: `pull`, `push`, `create`, `copy`, `delete` or `alias`.
        model: Model that is changed.
        host: Address of the server, without user and password.
        digest_before: Digest that the name had before; None for none, or where the server did not tell.
        digest_after: Digest that it has after.
        details: More that is no secret, for example `source` or `insecure`.
    """

    action: str
    model: str
    host: str
    digest_before: str | None = None
    digest_after: str | None = None
    details: dict[str, Any] = field(default_factory=dict[str, Any])


@contextlib.contextmanager
def audited(change: Change) -> Generator[Change, None, None]:
    """Write the record of a change when it has ended, however it ended.

    Args:
        change: The change; whoever makes it fills in the digests.
    """
    started = time.monotonic()
    # A change that is broken off leaves the name as it was, as far as anybody knows.
    outcome, error_name = FAILED, None
    try:
        yield change
        outcome = UNCHANGED if change.digest_before == change.digest_after is not None else DONE
    except BaseException as error:
        stopped = isinstance(error, OllamaCancelledError) or not isinstance(error, Exception)
        outcome, error_name = CANCELLED if stopped else FAILED, _name_of(error)
        raise
    finally:
        _write(
            change.action,
            change.model,
            change.host,
            outcome,
            time.monotonic() - started,
            digest_before=change.digest_before,
            digest_after=change.digest_after,
            error=error_name,
            **change.details,
        )


def record_generation(
    *,
    action: str,
    model: str,
    host: str,
    seconds: float,
    input_tokens: int | None = None,
    output_tokens: int | None = None,
    error: BaseException | None = None,
) -> None:
    """Write the record of a generation request; texts are no part of it.

    Args:
        action: `chat`, `generate` or `embed`.
        model: Model that was asked.
        host: Address of the server.
        seconds: How long it took.
        input_tokens: Tokens of the prompt; None where the server does not tell.
        output_tokens: Tokens of the reply; None where the server does not tell.
        error: What it ended in; None for success.
    """
    outcome = DONE if error is None else CANCELLED if isinstance(error, OllamaCancelledError) else FAILED
    name = None if error is None else _name_of(error)
    _write(action, model, host, outcome, seconds, input_tokens=input_tokens, output_tokens=output_tokens, error=name)


def _write(action: str, model: str, host: str, outcome: str, seconds: float, **more: Any) -> None:
    if not logger.isEnabledFor(logging.INFO):
        return
    record = {
        "time": datetime.now(timezone.utc).isoformat(timespec="milliseconds"),
        "action": action,
        "model": model,
        "host": mask_host(host),
        "outcome": outcome,
        "seconds": round(seconds, 3),
        # The server's own words may quote addresses that are signed: the kind of the error has to do.
        **{name: value for name, value in more.items() if value is not None or name.startswith("digest")},
    }
    said = ", ".join(f"{name} {value}" for name, value in more.items() if value is not None)
    logger.info(
        "%s of %s at %s: %s in %.3f s%s",
        action, printable(model), record["host"], outcome, seconds, f" ({printable(said)})" if said else "",
        extra={"audit": record},
    )  # fmt: skip


def _name_of(error: BaseException) -> str:
    status = getattr(error, "status", None) if isinstance(error, OllamaError) else None
    return type(error).__name__ + (f" {status}" if status else "")


@contextlib.contextmanager
def audited_call(call: Call) -> Generator[dict[str, Any], None, None]:
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
