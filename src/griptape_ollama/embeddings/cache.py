"""The vectors that a driver has received, in bounded memory."""

from __future__ import annotations

import hashlib
import struct
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from cachetools import Cache, LRUCache

from griptape_ollama.conversion.vectors import Passage
from griptape_ollama.embeddings.embedder import Outcome
from griptape_ollama.embeddings.model_identity import DigestCheck
from griptape_ollama.embeddings.spec import EmbeddingSpec
from griptape_ollama.shared_state import renew_when_forked
from griptape_ollama.transport.run import Run

_BYTES_PER_ENTRY = 300  # what Python and cachetools need for the key and the entry
_BYTES_PER_NUMBER = 8
_DIGEST_BYTES = 20


@dataclass(frozen=True)
class CacheInfo:
    """Use of a cache.

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
    """Keeps the most recently used vectors, up to a number of bytes. Threads may share it."""

    def __init__(self) -> None:
        self._vectors = _new_store(0)
        self._hits = 0
        self._misses = 0
        self._lock = threading.Lock()
        renew_when_forked(self)

    def start_afresh(self) -> None:
        """Drop everything if a thread of the parent was changing it."""
        if self._lock.locked():
            self.__init__()

    def __contains__(self, key: bytes) -> bool:
        """Return whether a vector is there; this does not count as a use of it."""
        with self._lock:
            if key not in self._vectors:
                return False
            # Read without the step that makes it the most recently used one.
            entry: _Entry = cast("Any", Cache).__getitem__(self._vectors, key)
            return not entry.is_refuted

    def get(self, key: bytes) -> list[float] | None:
        """Return the vector, exactly as it was; None if it is not there."""
        with self._lock:
            entry = self._vectors.get(key)
            if entry is not None and entry.is_refuted:
                del self._vectors[key]
                entry = None
            if entry is None:
                self._misses += 1
                return None
            self._hits += 1
        return entry.vector

    def put(self, key: bytes, vector: list[float], check: DigestCheck | None = None) -> None:
        """Add a vector; the least recently used ones are dropped if it does not fit beside them.

        Args:
            key: Identifies the vector.
            vector: The vector.
            check: The last check of the model; the vector is dropped if the next check refutes it.
        """
        entry = _Entry(struct.pack(f"{len(vector)}d", *vector), check)
        with self._lock:
            if entry.size <= self._vectors.maxsize:
                self._vectors[key] = entry

    @property
    def is_off(self) -> bool:
        """Whether nothing is kept."""
        return not self._vectors.maxsize

    def limit(self, max_size: int) -> None:
        """Set how many bytes the vectors may take; 0 keeps none."""
        with self._lock:
            before = self._vectors
            if max_size == before.maxsize:
                return
            while before.currsize > max_size:
                before.popitem()
            self._vectors = _new_store(max_size)
            while before:  # from the least recently used on
                key, entry = before.popitem()
                self._vectors[key] = entry

    def clear(self) -> None:
        """Drop all vectors; hits and misses stay."""
        with self._lock:
            self._vectors.clear()

    def info(self) -> CacheInfo:
        """Return how the cache was used so far."""
        with self._lock:
            return CacheInfo(self._hits, self._misses, len(self._vectors), int(self._vectors.currsize))


class _Entry:
    """A vector as packed doubles, and the last check of the model before it was made."""

    __slots__ = ("_check", "_packed")

    def __init__(self, packed: bytes, check: DigestCheck | None) -> None:
        self._packed = packed
        self._check = check

    @property
    def vector(self) -> list[float]:
        return list(struct.unpack(f"{len(self._packed) // _BYTES_PER_NUMBER}d", self._packed))

    @property
    def size(self) -> int:
        return len(self._packed) + _BYTES_PER_ENTRY

    @property
    def is_refuted(self) -> bool:
        return self._check is not None and self._check.is_refuted


def _new_store(max_size: int) -> LRUCache[bytes, _Entry]:
    return LRUCache(max_size, getsizeof=lambda entry: entry.size)


class CachedVectors:
    """The vectors of a cache that belong to one spec. The model is checked at once.

    Args:
        cache: The cache.
        spec: Settings of the requests.
        run: The run in which the model is checked.

    Raises:
        OllamaEmbeddingError: It is another one than before.
    """

    def __init__(self, cache: VectorCache, spec: EmbeddingSpec, run: Run) -> None:
        self._cache = cache
        self._spec = spec
        self._digest = ""
        self._fingerprint: bytes | None = None
        self.check_model(run)

    def check_model(self, run: Run) -> None:
        """Check which model it is now, from metadata that is up to a minute old; a disabled cache needs no check.

        Raises:
            OllamaEmbeddingError: It is another one than before.
        """
        if self._cache.is_off:
            return
        check = self._spec.identity.check_digest(self._spec.connection, self._spec.model, run)
        if check is None:
            self._fingerprint = None
        elif check.digest != self._digest or self._fingerprint is None:
            self._digest = check.digest
            whole = f"{self._spec.connection.base_url} {check.digest} {self._spec.vector_key}".encode()
            self._fingerprint = b"%d %s" % (len(whole), whole)

    def __contains__(self, passage: Passage) -> bool:
        """Return whether the vector is there; this does not count as a use of it."""
        return self._fingerprint is not None and _key(self._fingerprint, passage) in self._cache

    def get(self, passage: Passage) -> list[float] | None:
        """Return the vector of a text; None if it is not there."""
        return None if self._fingerprint is None else self._cache.get(_key(self._fingerprint, passage))

    def put_all(self, outcomes: Mapping[Passage, Outcome]) -> None:
        """Add the vectors of texts; errors are left out."""
        if self._fingerprint is None:
            return
        # Another thread may have found another model meanwhile.
        check = self._spec.identity.last_check(self._spec.connection, self._spec.model)
        if check is None or check.digest != self._digest or check.is_refuted:
            return
        for passage, outcome in outcomes.items():
            if isinstance(outcome, list):
                self._cache.put(_key(self._fingerprint, passage), outcome, check)


def _key(fingerprint: bytes, passage: Passage) -> bytes:
    text = passage.sent.encode("utf-8", "surrogatepass")
    return hashlib.blake2b(fingerprint + text, digest_size=_DIGEST_BYTES).digest()
