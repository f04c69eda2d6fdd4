"""Vectors that are known already."""

from __future__ import annotations

import hashlib
import threading
from array import array
from collections import OrderedDict
from dataclasses import dataclass

from griptape_ollama.conversion.embeddings import Passage
from griptape_ollama.embeddings.embedder import Outcome
from griptape_ollama.transport.forking import renew_when_forked

_BYTES_PER_ENTRY = 250  # what Python needs for the key, the entry and the array around the numbers
_DIGEST_BYTES = 20


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
        self._vectors: OrderedDict[bytes, array[float]] = OrderedDict()
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
            return key in self._vectors

    def get(self, key: bytes) -> list[float] | None:
        """Give the vector, exactly as it was; None where it is not there."""
        with self._lock:
            vector = self._vectors.get(key)
            if vector is None:
                self._misses += 1
                return None
            self._hits += 1
            self._vectors.move_to_end(key)
        return vector.tolist()

    def put(self, key: bytes, vector: list[float]) -> None:
        """Keep a vector, and let go of those that were not used for the longest time where there is no room."""
        kept = array("d", vector)
        size = _size(kept)
        with self._lock:
            if size > self._max_size:
                return
            before = self._vectors.pop(key, None)
            self._size += size - (0 if before is None else _size(before))
            self._vectors[key] = kept
            self._make_room()

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
            self._size -= _size(self._vectors.popitem(last=False)[1])


class KnownVectors:
    """The vectors of a cache that hold for one order.

    Args:
        cache: The cache.
        fingerprint: What decides about a vector besides the text: server, model, options; None where that is not
            known for sure, so that nothing is kept.
    """

    def __init__(self, cache: VectorCache, fingerprint: bytes | None) -> None:
        self._cache = cache
        self._fingerprint = fingerprint

    def __contains__(self, passage: Passage) -> bool:
        """Whether the vector is there; this does not count as a use of it."""
        return self._fingerprint is not None and self._key(passage) in self._cache

    def get(self, passage: Passage) -> list[float] | None:
        """Give the vector of a text; None where it is not there."""
        return None if self._fingerprint is None else self._cache.get(self._key(passage))

    def put(self, passage: Passage, outcome: Outcome) -> None:
        """Keep the vector of a text, if it has one."""
        if self._fingerprint is not None and isinstance(outcome, list):
            self._cache.put(self._key(passage), outcome)

    def _key(self, passage: Passage) -> bytes:
        fingerprint = self._fingerprint or b""
        whole = b"%d %s%s" % (len(fingerprint), fingerprint, passage.sent.encode("utf-8", "surrogatepass"))
        return hashlib.blake2b(whole, digest_size=_DIGEST_BYTES).digest()


def _size(vector: array[float]) -> int:
    return len(vector) * vector.itemsize + _BYTES_PER_ENTRY
