"""What a loaded model still has of earlier prompts, and so need not evaluate again."""


class PromptCache:
    """The latest prompts. A server keeps more of them than it can answer at a time: gigabytes beside its slots.

    Args:
        size: How many are kept.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._texts: list[str] = []

    def evaluate(self, text: str, tokens: int) -> int:
        """Take in a prompt.

        Args:
            text: The whole prompt as the model reads it.
            tokens: Its tokens.

        Returns:
            How many of them had to be evaluated: those after the longest known beginning, and at least the last.
        """
        shared, best = max(((_shared(known, text), known) for known in self._texts), default=(0, ""))
        known = tokens * shared // len(text) if text else 0
        if best and shared == len(best):
            # It goes on from there; a prompt that turned elsewhere takes a place of its own.
            self._texts.remove(best)
        self.keep(text)
        return max(1, tokens - known) if tokens else 0

    def keep(self, text: str) -> None:
        """Remember a text, and forget the oldest where there is no more room."""
        self._texts = [*self._texts, text][-self._size :]

    def extend(self, text: str, more: str) -> None:
        """Add what the model said to the prompt that it answered."""
        if text in self._texts:
            self._texts[self._texts.index(text)] = text + more

    def forget(self, text: str) -> None:
        """Forget a prompt: the window has moved on, and it is no longer whole."""
        if text in self._texts:
            self._texts.remove(text)


def _shared(one: str, other: str) -> int:
    """Return how many characters two texts begin with alike; halving, as comparing one by one is slow."""
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        if one[low:middle] == other[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low
