"""The text of a whole stack of messages, whose tokens are known already."""

from __future__ import annotations

from typing import Any

from typing_extensions import Self


class StackText(str):
    """A text that says itself how many tokens it has.

    Griptape drops runs of a conversation one by one until the tokenizer reports room for what is left, and renders and
    counts the whole stack anew for each. For a text of this class the tokenizer always reports some room: the driver
    cuts what is too long itself, in one pass.

    Attributes:
        tokens: Tokens of the stack that the text stands for.
    """

    __slots__ = ("tokens",)

    tokens: int

    def __new__(cls, text: str, tokens: int) -> Self:
        """Make a text that has so many tokens."""
        made = super().__new__(cls, text)
        made.tokens = tokens
        return made

    def __getnewargs__(self) -> Any:
        return str(self), self.tokens
