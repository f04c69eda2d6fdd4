"""How many tokens texts have, learned from the replies."""

from __future__ import annotations

import threading

from griptape_ollama.conversion.passages import likely_tokens
from griptape_ollama.transport.forking import renew_when_forked

_ENOUGH_TOKENS = 200
_MEMORY_CHARACTERS = 1_000_000
_MARGIN = 1.25  # how far the estimate without any reply is off, for prose
_MOST_TOKENS = 4  # of a character: no tokenizer makes more of it than one for each of its bytes
_LEARNED_MARGIN = 1.1  # how much denser one text is than the others of a collection


class TokenDensity:
    """Tokens per character of the texts so far: the server counts the tokens of each request. Threads may share it."""

    def __init__(self) -> None:
        self._characters = 0.0
        self._tokens = 0.0
        self._lock = threading.Lock()
        renew_when_forked(self)

    def start_afresh(self) -> None:
        """Let go of a lock that a thread may have held which is gone."""
        self._lock = threading.Lock()

    def learn(self, characters: int, tokens: int) -> None:
        """Take note of a reply.

        Args:
            characters: Characters of all texts of the request.
            tokens: Tokens that the server counted.
        """
        with self._lock:
            if self._characters > _MEMORY_CHARACTERS:  # what is embedded now counts more than what was long ago
                self._characters /= 2
                self._tokens /= 2
            self._characters += characters
            self._tokens += min(tokens, _MOST_TOKENS * characters)

    def tokens(self, text: str) -> int:
        """Estimate the tokens of a text, rather too many than too few."""
        with self._lock:
            is_known = self._tokens >= _ENOUGH_TOKENS and self._characters > 0
            per_character = self._tokens / self._characters if is_known else 0.0
        return round(len(text) * per_character * _LEARNED_MARGIN) if is_known else likely_tokens(text)

    def is_likely_above(self, text: str, window: int) -> bool:
        """Whether a text probably has more tokens than a window, in spite of what the estimate is off."""
        with self._lock:
            is_known = self._tokens >= _ENOUGH_TOKENS
        return self.tokens(text) > window * (1.0 if is_known else _MARGIN)
