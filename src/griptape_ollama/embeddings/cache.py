"""Vectors that are known already."""

from __future__ import annotations

import hashlib
import struct
import threading
from collections import OrderedDict
from dataclasses import dataclass

from griptape_ollama.conversion.embeddings import Passage
from griptape_ollama.embeddings.embedder import Outcome
from griptape_ollama.embeddings.model_identity import DigestLook
from griptape_ollama.embeddings.spec import EmbeddingSpec
from griptape_ollama.shared_state import renew_when_forked
from griptape_ollama.transport.run import Run

_BYTES_PER_ENTRY = 250  # what Python needs for the key, the entry and the array around the numbers
_DIGEST_BYTES = 20
_BYTES_PER_NUMBER = 8  # of a double


@dataclass(frozen=True)
class CacheInfo:
    """What a cache did so far.

    Attributes:
        hits: Texts whose vector was there.
        misses: Texts whose vector was not.
        entries: Vectors that are there now.
        size: Bytes that they take, about.
    """

    hits: int
    misses: int
    entries: int
    size: int


class VectorCache:
    """Keeps the vectors that were used last, within a number of bytes. Threads may share it."""

    def __init__(self) -> None:
        self._max_size = 0
        self._vectors: OrderedDict[bytes, _Entry] = OrderedDict()
        self._size = 0
        self._hits = 0
        self._misses = 0
        self._lock = threading.Lock()
        renew_when_forked(self)

    def start_afresh(self) -> None:
        """Let go of everything if a thread that is gone was just at it."""
        if self._lock.locked():
            self.__init__()

    def __contains__(self, key: bytes) -> bool:
        """Whether a vector is there; this does not count as a use of it."""
        with self._lock:
            entry = self._vectors.get(key)
            return entry is not None and not entry.is_refuted

    def get(self, key: bytes) -> list[float] | None:
        """Give the vector, exactly as it was; None where it is not there."""
        with self._lock:
            entry = self._vectors.get(key)
            if entry is not None and entry.is_refuted:
                self._drop(key)
                entry = None
            if entry is None:
                self._misses += 1
                return None
            self._hits += 1
            self._vectors.move_to_end(key)
        return list(struct.unpack(f"{len(entry.vector) // _BYTES_PER_NUMBER}d", entry.vector))

    def put(self, key: bytes, vector: list[float], look: DigestLook | None = None) -> None:
        """Keep a vector, and let go of those that were not used for the longest time where there is no room.

        Args:
            key: What it is the vector of.
            vector: The vector.
            look: The latest look at what the model is; the vector is let go of if the next one refutes it.
        """
        entry = _Entry(struct.pack(f"{len(vector)}d", *vector), look)
        with self._lock:
            if entry.size > self._max_size:
                return
            self._drop(key)
            self._size += entry.size
            self._vectors[key] = entry
            self._make_room()

    @property
    def is_off(self) -> bool:
        """Whether nothing is kept."""
        return not self._max_size

    def limit(self, max_size: int) -> None:
        """Set how many bytes the vectors may take; 0 keeps none."""
        with self._lock:
            self._max_size = max_size
            self._make_room()

    def clear(self) -> None:
        """Let go of all vectors; what was counted stays."""
        with self._lock:
            self._vectors.clear()
            self._size = 0

    def info(self) -> CacheInfo:
        """Tell what the cache did so far."""
        with self._lock:
            return CacheInfo(self._hits, self._misses, len(self._vectors), self._size)

    def _make_room(self) -> None:
        while self._size > self._max_size:
            self._size -= self._vectors.popitem(last=False)[1].size

    def _drop(self, key: bytes) -> None:
        entry = self._vectors.pop(key, None)
        self._size -= 0 if entry is None else entry.size


@dataclass(frozen=True)
class _Entry:
    """A vector, and the look at the model that it was made after."""

    vector: bytes
    look: DigestLook | None

    @property
    def size(self) -> int:
        return len(self.vector) + _BYTES_PER_ENTRY

    @property
    def is_refuted(self) -> bool:
        return self.look is not None and self.look.is_refuted


class KnownVectors:
    """The vectors of a cache that hold for one order. Nothing is known before the first look at the model.

    Args:
        cache: The cache.
        spec: What is asked for.
    """

    def __init__(self, cache: VectorCache, spec: EmbeddingSpec) -> None:
        self._cache = cache
        self._spec = spec
        self._digest = ""
        self._fingerprint: bytes | None = None

    def look(self, run: Run) -> None:
        """Look which model it is now: from memory, but for once a minute. A cache that keeps nothing needs no look.

        Raises:
            OllamaEmbeddingError: It is another one than before.
        """
        if self._cache.is_off:
            return
        look = self._spec.identity.look(self._spec.connection, self._spec.model, run)
        if look is None:
            self._fingerprint = None
        elif look.digest != self._digest or self._fingerprint is None:
            self._digest, self._fingerprint = look.digest, self._spec.fingerprint(look.digest)

    def __contains__(self, passage: Passage) -> bool:
        """Whether the vector is there; this does not count as a use of it."""
        return self._fingerprint is not None and self._key(passage) in self._cache

    def get(self, passage: Passage) -> list[float] | None:
        """Give the vector of a text; None where it is not there."""
        return None if self._fingerprint is None else self._cache.get(self._key(passage))

    def put(self, passage: Passage, outcome: Outcome) -> None:
        """Keep the vector of a text, if it has one."""
        if self._fingerprint is None or not isinstance(outcome, list):
            return
        # A look of another thread meanwhile may have found another model.
        look = self._spec.identity.latest(self._spec.connection, self._spec.model)
        if look is not None and look.digest == self._digest and not look.is_refuted:
            self._cache.put(self._key(passage), outcome, look)

    def _key(self, passage: Passage) -> bytes:
        fingerprint = self._fingerprint or b""
        whole = b"%d %s%s" % (len(fingerprint), fingerprint, passage.sent.encode("utf-8", "surrogatepass"))
        return hashlib.blake2b(whole, digest_size=_DIGEST_BYTES).digest()
