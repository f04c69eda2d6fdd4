"""How many tokens texts have that are embedded: the estimate of prompts, without what surrounds them.

Embeddings are below the context window in the order of packages, and need nothing of it but two functions of this
class: the driver passes them in.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from itertools import zip_longest

from griptape_ollama.context.tokens.features import Row, TextRows
from griptape_ollama.context.tokens.priors import TEXT_PRIORS
from griptape_ollama.context.tokens.regression import Calibration, Prior, TokenEstimate, to_estimate
from griptape_ollama.shared_state import renew_when_forked

# Around each text: [CLS] and [SEP] of BERT, one mark at its end (Qwen 3), or none.
_AROUND_A_TEXT = Prior("texts", 2.0, 1.0, 16.0)


def unlearned_tokens(text: str) -> int:
    """Estimate the most tokens that a text has in any vocabulary: the same number each time."""
    return _unlearned.most_tokens(text)


class TextEstimator:
    """Estimates the tokens of texts for one embedding model, and learns from each reply. Threads may share it."""

    def __init__(self) -> None:
        self._texts = TextRows()
        self._calibration = Calibration((_AROUND_A_TEXT, *TEXT_PRIORS))
        self._lock = threading.Lock()
        renew_when_forked(self)

    def start_afresh(self) -> None:
        """Let go of a lock that a thread may have held which is gone."""
        self._lock = threading.Lock()

    def estimate(self, text: str) -> TokenEstimate:
        """Estimate the tokens of a text, with how sure that is."""
        row = (1, *self._texts.row(text))
        with self._lock:
            return to_estimate(self._calibration.expected(row), self._calibration.deviation(row))

    def most_tokens(self, text: str) -> int:
        """Estimate the tokens of a text, so high that it has more of them in 2 of 100 cases only."""
        return self.estimate(text).high

    def learn(self, texts: Sequence[str], tokens: int) -> None:
        """Learn from the reply to a request of which nothing was cut.

        Args:
            texts: The texts of the request.
            tokens: What the server counted for all of them. A count that cannot be is left out.
        """
        rows: list[Row] = [self._texts.row(text) for text in texts]
        row: Row = (len(rows), *map(sum, zip_longest(*rows, fillvalue=0)))
        with self._lock:
            if 0 < tokens <= self._calibration.most(row):
                self._calibration.learn(row, tokens)


_unlearned = TextEstimator()
