"""A preview of the request that a prompt becomes, without sending it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

from griptape_ollama.context.request_fitting import FittedRequest
from griptape_ollama.context.tokens.features import to_list
from griptape_ollama.context.tokens.regression import TokenEstimate
from griptape_ollama.context.window import ContextWindow
from griptape_ollama.protocol.surrogates import replace_surrogates_in

_SHOWN = 80  # characters of each message


@dataclass(frozen=True)
class PromptPreview:
    """A prompt as it would be sent, and whether it fits. `print` shows it in a few lines.

    Attributes:
        request: The request, as it would go over the wire.
        estimate: Tokens of the prompt, estimated.
        window: The context window that it would get.
        reply_tokens: Tokens that are kept free for the reply.
        dropped: Messages that would be dropped, oldest first.
        problem: Why it would not be sent, or be truncated by the server; None otherwise.
        rendered: The text that the server renders of it, where that was asked for and the server can.
    """

    request: dict[str, Any]
    estimate: TokenEstimate
    window: ContextWindow
    reply_tokens: int
    dropped: Sequence[dict[str, Any]] = ()
    problem: str | None = None
    rendered: str | None = None

    @classmethod
    def of(cls, fitted: FittedRequest, rendered: str | None = None) -> PromptPreview:
        """Build it from a fitted request."""
        return cls(
            request=replace_surrogates_in(fitted.request),  # as it is written when it is sent
            estimate=fitted.estimate,
            window=fitted.window,
            reply_tokens=fitted.reply_tokens,
            dropped=fitted.trimmed.dropped if fitted.trimmed is not None else (),
            problem=fitted.warning,
            rendered=rendered,
        )

    @property
    def model(self) -> str:
        """Model of the request."""
        return self.request["model"]

    @property
    def messages(self) -> list[dict[str, Any]]:
        """Chat messages that would be sent."""
        return self.request["messages"]

    @property
    def tools(self) -> list[dict[str, Any]]:
        """Tools that would be offered."""
        return self.request.get("tools", [])

    @property
    def options(self) -> dict[str, Any]:
        """Model options that would be sent."""
        return self.request.get("options", {})

    @property
    def fits(self) -> bool:
        """Whether prompt and reply probably fit into the window."""
        return self.problem is None and self.estimate.tokens + self.reply_tokens <= self.window.tokens

    def __str__(self) -> str:
        """Describe it in a few lines."""
        estimate, window = self.estimate, self.window
        grown = "" if window.grown_from is None else f", grown from {window.grown_from}"
        known = "" if window.is_known else ", assumed"
        sent = "nothing" if window.num_ctx is None else str(window.num_ctx)
        lines = [
            f"{len(self.messages)} messages and {len(self.tools)} tools for model {self.model!r}",
            f"about {estimate.tokens} tokens ({estimate.low} to {estimate.high}), {self.reply_tokens} for the reply",
            f"window of {window.tokens} tokens{grown}{known}; num_ctx: {sent}; largest: {window.ceiling}",
        ]
        if self.dropped:
            lines.append(f"{len(self.dropped)} of the oldest messages left out")
        if self.problem is not None:
            lines.append(self.problem)
        elif not self.fits:
            lines.append("prompt and reply probably do not fit into the window")
        return "\n".join([*lines, *(_line(message) for message in self.messages)])


def _line(message: dict[str, Any]) -> str:
    text = " ".join(str(message.get("content") or "").split())
    shown = text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
    calls = [_name(call) for call in to_list(message.get("tool_calls"))]
    more = [f"calls {', '.join(calls)}"] if calls else []
    more += [f"{len(images)} images"] if (images := to_list(message.get("images"))) else []
    return f"  {message.get('role')}: {shown}" + (f" [{'; '.join(more)}]" if more else "")


def _name(call: Any) -> str:
    """Return the name of a call; anything else as it is."""
    function: Any = cast("dict[str, Any]", call).get("function") if isinstance(call, dict) else None
    return str(cast("dict[str, Any]", function).get("name") if isinstance(function, dict) else cast("object", call))
