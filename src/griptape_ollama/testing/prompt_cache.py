"""What a loaded model still has of earlier prompts, and so need not evaluate again."""


class PromptCache:
    """The latest prompts, one for each request that a model can answer at a time."""

    def __init__(self, slots: int) -> None:
        self._slots = slots
        self._texts: list[str] = []

    def evaluate(self, text: str, tokens: int) -> int:
        """Take in a prompt.

        Args:
            text: The whole prompt as the model reads it.
            tokens: Its tokens.

        Returns:
            How many of them had to be evaluated: those after the longest known beginning, and at least the last.
        """
        best = max(self._texts, key=lambda known: _shared(known, text), default="")
        known = tokens * _shared(best, text) // len(text) if text else 0
        if best and _shared(best, text) == len(best):
            # It goes on from there; a prompt that turned elsewhere takes a place of its own.
            self._texts.remove(best)
        self.keep(text)
        return max(1, tokens - known) if tokens else 0

    def keep(self, text: str) -> None:
        """Remember a text, and forget the oldest where there is no more room."""
        self._texts = [*self._texts, text][-self._slots :]

    def extend(self, text: str, more: str) -> None:
        """Add what the model said to the prompt that it answered."""
        if text in self._texts:
            self._texts[self._texts.index(text)] = text + more


def _shared(one: str, other: str) -> int:
    """Return how many characters two texts begin with alike."""
    if other.startswith(one):
        return len(one)
    return next(
        (place for place, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other))
    )
