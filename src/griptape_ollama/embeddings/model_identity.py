"""Whether a name still means the model that it meant before: vectors of two models must never be mixed.

The size of the vectors is checked in each reply, at no cost. The digest is read from the cached list of models, which
is asked for again once it is a minute old: a model of the same size in place of another is noticed then. Vectors that
were made since the last look are kept on approval: a look that finds another digest refutes them.
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
class DigestLook:
    """One look at the digest of a model.

    Attributes:
        digest: The digest.
        asked_at: When the server was asked, on the clock of `time.monotonic()`.
        is_refuted: Whether the next look found another one: nobody knows which model made the vectors in between.
    """

    digest: str
    asked_at: float
    is_refuted: bool = False


@dataclass
class _Known:
    look: DigestLook | None = None
    sizes: dict[int | None, int] = field(default_factory=dict[int | None, int])


class ModelIdentity:
    """Remembers what the models of a driver were. Threads may share it."""

    def __init__(self) -> None:
        self._known: dict[tuple[tuple[str, str], str], _Known] = {}
        self._lock = threading.Lock()
        renew_when_forked(self)

    def start_afresh(self) -> None:
        """Let go of a lock that a thread may have held which is gone."""
        self._lock = threading.Lock()

    def forget(self) -> None:
        """Forget everything: the models are accepted as they are now."""
        with self._lock:
            self._known.clear()

    def look(self, connection: Connection, model: str, run: Run) -> DigestLook | None:
        """Compare the digest of a model, as the cached list of models tells it, with the one before.

        Returns:
            The latest look; None where the server does not tell a digest.

        Raises:
            OllamaEmbeddingError: It is another one.
        """
        listed = ServerMetadata(connection, run).listed_digest(model)
        return None if listed is None else self._compared(connection, model, listed)

    def latest(self, connection: Connection, model: str) -> DigestLook | None:
        """Return the latest look, without looking."""
        with self._lock:
            return self._of(connection, model).look

    def size(self, connection: Connection, model: str, dimensions: int | None) -> int | None:
        """Return how many numbers the vectors have, as far as is known."""
        with self._lock:
            return self._of(connection, model).sizes.get(dimensions)

    def check_size(self, connection: Connection, model: str, dimensions: int | None, size: int, run: Run) -> None:
        """Compare the size of vectors with that of those before, and remember it where they are the first.

        Args:
            connection: The way to the server.
            model: Name of the model.
            dimensions: How many numbers were asked for; None for as many as the model gives.
            size: How many there are.
            run: The run that asked.

        Raises:
            OllamaEmbeddingError: It is another one.
        """
        with self._lock:
            known = self._of(connection, model)
            before = known.sizes.setdefault(dimensions, size)
            look = known.look
            if before != size and look is not None:
                look.is_refuted = True
        if before == size:
            return
        metadata = ServerMetadata(connection, run)
        metadata.forget()  # What is listed from now on may be about the other model.
        now = metadata.listed_digest(model)
        digests = "" if look is None or now is None else f" ({_both(look.digest, now.digest)})"
        raise _changed(connection, model, f"vectors had {before} numbers so far, and have {size} now{digests}")

    def _compared(self, connection: Connection, model: str, listed: ListedDigest) -> DigestLook:
        with self._lock:
            known = self._of(connection, model)
            before = known.look
            if before is not None and before.digest != listed.digest:
                if listed.asked_at > before.asked_at:
                    before.is_refuted = True
            elif before is None or listed.asked_at > before.asked_at:
                known.look = DigestLook(listed.digest, listed.asked_at)
            look = known.look
        if look is None or look.digest != listed.digest:
            raise _changed(connection, model, _both("" if look is None else look.digest, listed.digest))
        return look

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
