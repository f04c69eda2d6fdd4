"""Checks that a name still means the same model: vectors of two models must never be mixed.

The size of the vectors is checked in each reply, at no cost. The digest is read from the cached list of models, which
is at most a minute old: this finds another model with vectors of the same size. If the digest has changed, vectors
that were made since the last check are refuted, because either model may have made them.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

from griptape_ollama.errors import OllamaEmbeddingError
from griptape_ollama.models.metadata_cache import ListedDigest, ServerMetadata
from griptape_ollama.protocol.model_name import model_key
from griptape_ollama.shared_state import renew_when_forked
from griptape_ollama.transport.connection import Connection
from griptape_ollama.transport.run import Run

_SHOWN = 12  # characters of a digest, as `ollama list` shows it


@dataclass(eq=False)
class DigestCheck:
    """One check of the digest of a model.

    Attributes:
        digest: The digest.
        asked_at: When the server was asked, on the clock of `time.monotonic()`.
        is_refuted: Whether the next check found another digest.
    """

    digest: str
    asked_at: float
    is_refuted: bool = False


@dataclass
class _Known:
    check: DigestCheck | None = None
    sizes: dict[int | None, int] = field(default_factory=dict[int | None, int])


class ModelIdentity:
    """Remembers digests and vector sizes of the models of a driver. Threads may share it."""

    def __init__(self) -> None:
        self._known: dict[tuple[tuple[str, str], str], _Known] = {}
        self._lock = threading.Lock()
        renew_when_forked(self)

    def start_afresh(self) -> None:
        """Replace a lock that a thread of the parent may hold."""
        self._lock = threading.Lock()

    def forget(self) -> None:
        """Forget everything: the models are accepted as they are now."""
        with self._lock:
            self._known.clear()

    def check_digest(self, connection: Connection, model: str, run: Run) -> DigestCheck | None:
        """Compare the digest of a model with that of the last check.

        Returns:
            The check; None if the server does not list a digest.

        Raises:
            OllamaEmbeddingError: The digest has changed.
        """
        listed = ServerMetadata(connection, run).listed_digest(model)
        return None if listed is None else self._compared(connection, model, listed)

    def last_check(self, connection: Connection, model: str) -> DigestCheck | None:
        """Return the last check."""
        with self._lock:
            return self._of(connection, model).check

    def size(self, connection: Connection, model: str, dimensions: int | None) -> int | None:
        """Return the size of the model's vectors; None if no vector has come yet."""
        with self._lock:
            return self._of(connection, model).sizes.get(dimensions)

    def check_size(self, connection: Connection, model: str, dimensions: int | None, size: int, run: Run) -> None:
        """Compare the size of vectors with that of earlier ones, and remember it if they are the first.

        Args:
            connection: Connection to the server.
            model: Name of the model.
            dimensions: Requested size; None for the model's own.
            size: Size of the vectors in the reply.
            run: The run of the request.

        Raises:
            OllamaEmbeddingError: The size has changed.
        """
        with self._lock:
            known = self._of(connection, model)
            before = known.sizes.setdefault(dimensions, size)
            check = known.check
            if before != size and check is not None:
                check.is_refuted = True
        if before == size:
            return
        metadata = ServerMetadata(connection, run)
        metadata.forget()  # It may be about the other model.
        now = metadata.listed_digest(model)
        digests = "" if check is None or now is None else f" ({_both(check.digest, now.digest)})"
        raise _changed(connection, model, f"vectors had {before} numbers so far, and have {size} now{digests}")

    def _compared(self, connection: Connection, model: str, listed: ListedDigest) -> DigestCheck:
        with self._lock:
            known = self._of(connection, model)
            before = known.check
            if before is not None and before.digest != listed.digest:
                if listed.asked_at > before.asked_at:
                    before.is_refuted = True
            elif before is None or listed.asked_at > before.asked_at:
                known.check = DigestCheck(listed.digest, listed.asked_at)
            check = known.check
        if check is None or check.digest != listed.digest:
            raise _changed(connection, model, _both("" if check is None else check.digest, listed.digest))
        return check

    def _of(self, connection: Connection, model: str) -> _Known:
        return self._known.setdefault((connection.identity, model_key(model)), _Known())


def _both(before: str, now: str) -> str:
    if before == now:
        return f"digest {now[:_SHOWN]} as before"
    return f"digest {before[:_SHOWN]} so far, {now[:_SHOWN]} now"


def _changed(connection: Connection, model: str, what: str) -> OllamaEmbeddingError:
    return OllamaEmbeddingError(
        f"Model {model!r} of Ollama at {connection.base_url} has changed: {what}. Vectors of two models cannot be "
        "compared: embed all texts with one of them. If the new one is meant, use a new driver, or call clear_cache() "
        "of this one, and embed what is stored again; if several servers answer at this address, give all of them the "
        "same model.",
        host=connection.base_url,
        model=model,
    )
