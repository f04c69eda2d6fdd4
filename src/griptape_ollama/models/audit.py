"""One structured record for each change on a server, and for generation requests on demand. Never secrets.

Records go to the logger `griptape_ollama.audit` at level INFO. Their fields are in the attribute `audit` of the log
record, a dict that JSON can hold; the message has the same fields as text.
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
from griptape_ollama.protocol.host import without_credentials
from griptape_ollama.transport.call_reports import CallReport

logger = logging.getLogger("griptape_ollama.audit")

DONE, UNCHANGED, FAILED, CANCELLED = "done", "unchanged", "failed", "cancelled"


@dataclass
class Change:
    """One change of a server's models.

    Attributes:
        action: `pull`, `push`, `create`, `copy`, `delete` or `alias`.
        model: Model that is changed.
        host: Address of the server, without user and password.
        digest_before: Digest that the name had before; None for none, or if the server does not list it.
        digest_after: Digest that the name has after the change.
        details: More fields of the record, for example `source` or `insecure`.
    """

    action: str
    model: str
    host: str
    digest_before: str | None = None
    digest_after: str | None = None
    details: dict[str, Any] = field(default_factory=dict[str, Any])


@contextlib.contextmanager
def audited(change: Change) -> Generator[Change, None, None]:
    """Write the record of a change at the end of the block, also if it fails; the block sets the digests."""
    started = time.monotonic()
    failure: BaseException | None = None
    try:
        yield change
    except BaseException as error:
        failure = error
        raise
    finally:
        is_unchanged = change.digest_before == change.digest_after is not None
        _write(
            change.action,
            change.model,
            change.host,
            _outcome_of(failure) if failure else UNCHANGED if is_unchanged else DONE,
            time.monotonic() - started,
            digest_before=change.digest_before,
            digest_after=change.digest_after,
            error=_name_of(failure),
            **change.details,
        )


def record_call(report: CallReport) -> None:
    """Write the record of a generation request (`chat`, `generate` or `embed`); prompts and replies are not in it."""
    _write(
        report.path.rpartition("/")[2],
        report.model or "",
        report.host,
        _outcome_of(report.error) if report.error else DONE,
        report.seconds,
        input_tokens=report.input_tokens,
        output_tokens=report.output_tokens,
        error=_name_of(report.error),
    )


def _write(action: str, model: str, host: str, outcome: str, seconds: float, **more: Any) -> None:
    if not logger.isEnabledFor(logging.INFO):
        return
    record = {
        "time": datetime.now(timezone.utc).isoformat(timespec="milliseconds"),
        "action": action,
        "model": model,
        "host": without_credentials(host),
        "outcome": outcome,
        "seconds": round(seconds, 3),
        **{name: value for name, value in more.items() if value is not None or name.startswith("digest")},
    }
    details = ", ".join(f"{name} {value}" for name, value in more.items() if value is not None)
    logger.info(
        "%s of %s at %s: %s in %.3f s%s",
        action, printable(model), record["host"], outcome, seconds, f" ({printable(details)})" if details else "",
        extra={"audit": record},
    )  # fmt: skip


def _outcome_of(error: BaseException) -> str:
    is_stop = isinstance(error, OllamaCancelledError) or not isinstance(error, Exception)
    return CANCELLED if is_stop else FAILED


def _name_of(error: BaseException | None) -> str | None:
    # Not the text: the server's message may quote signed addresses.
    if error is None:
        return None
    status = getattr(error, "status", None) if isinstance(error, OllamaError) else None
    return type(error).__name__ + (f" {status}" if status else "")
