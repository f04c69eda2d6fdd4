"""What is said of the context window: events, whose texts are the lines of the log."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from griptape_ollama.context.detection import Exchanged, Finding
from griptape_ollama.context.estimates import TokenEstimate
from griptape_ollama.context.guard import WindowLike, WindowSettings, to_advice
from griptape_ollama.context.trimming import Trimmed
from griptape_ollama.events import OllamaContextEvent


@dataclass(frozen=True)
class ContextReporter:
    """Tells of the window of one model. What it returns is published, and its `text` logged, by the caller.

    Attributes:
        model: Name of the model.
        host: Address of the server, without user and password.
        mode: The driver's `on_overflow`.
        settings: What holds the window where it is.
    """

    model: str
    host: str
    mode: str = "warn"
    settings: WindowSettings = field(default_factory=WindowSettings)

    def grown(self, window: WindowLike, before: int, needed: int) -> OllamaContextEvent:
        """Tell that a larger window is asked for.

        Args:
            window: The larger window.
            before: Tokens of the window before.
            needed: Tokens of prompt and reply.
        """
        text = (
            f"The context window of {self._who} grows from {before} to {window.tokens} tokens, since prompt and reply "
            f"need up to {needed}; the model is loaded with that. Set num_ctx to choose a size."
        )
        return self._event("grown", text, window, window_before=before, estimated_tokens=needed)

    def trimmed(self, trimmed: Trimmed, window: WindowLike) -> OllamaContextEvent:
        """Tell that old messages are not sent."""
        dropped = len(trimmed.dropped)
        text = (
            f"The oldest {dropped} messages (about {trimmed.dropped_tokens} tokens) were not sent to {self._who}: the "
            f"conversation does not fit into a context window of {window.ceiling} tokens. "
            f"{to_advice(self.settings, window, 'trim')}"
        )
        return self._event(
            "trimmed",
            text,
            window,
            estimated_tokens=round(trimmed.tokens),
            dropped_messages=dropped,
            dropped_tokens=trimmed.dropped_tokens,
        )

    def found(self, finding: Finding, exchanged: Exchanged, window: WindowLike) -> OllamaContextEvent:
        """Tell what a reply showed."""
        text = {"truncated": self._truncated, "shifted": self._shifted, "cut": self._cut}[finding.kind]
        return self._event(
            finding.kind,
            text(finding, exchanged, window),
            window,
            is_sure=finding.is_sure,
            estimated_tokens=exchanged.estimate.tokens,
            prompt_tokens=exchanged.prompt_tokens,
            output_tokens=exchanged.output_tokens,
            cut_by=finding.cut_by,
        )

    def _truncated(self, finding: Finding, exchanged: Exchanged, window: WindowLike) -> str:
        was = "was" if finding.is_sure else "seems to have been"
        read = "" if exchanged.prompt_tokens is None else f" the model read {exchanged.prompt_tokens};"
        of = "there were" if exchanged.prompt_tokens is None else "of"
        return (
            f"The prompt for {self._who} {was} cut: {of} {_about(exchanged.estimate)}{read or ','} its context window "
            f"has {window.tokens}. {self._advice(window)}"
        )

    def _shifted(self, finding: Finding, exchanged: Exchanged, window: WindowLike) -> str:
        forgot = "forgot" if finding.is_sure else "seems to have forgotten"
        read, written = exchanged.prompt_tokens, exchanged.output_tokens
        prompt = f"about {exchanged.estimate.tokens}" if read is None else read
        reply = "those" if written is None else written
        return (
            f"M{self._who[1:]} {forgot} the beginning of the prompt while it wrote: {prompt} tokens of prompt and "
            f"{reply} of reply do not fit into a context window of {window.tokens}. {self._advice(window)}"
        )

    def _cut(self, finding: Finding, exchanged: Exchanged, window: WindowLike) -> str:
        after = "" if exchanged.output_tokens is None else f" after {exchanged.output_tokens} tokens"
        what = f"The reply of {self._who} {'was' if finding.is_sure else 'seems to have been'} cut{after}"
        if finding.cut_by == "max_tokens":
            return f"{what}, as many as it was allowed: raise max_tokens (num_predict)."
        if finding.cut_by == "window":
            return f"{what}, where its context window of {window.tokens} tokens was full. {self._advice(window)}"
        return f"{what}: raise max_tokens (num_predict), if the model or the server sets it too low."

    def _advice(self, window: WindowLike) -> str:
        return to_advice(self.settings, window, self.mode)

    @property
    def _who(self) -> str:
        return f"model {self.model!r} of Ollama at {self.host}"

    def _event(self, kind: str, text: str, window: WindowLike, **more: Any) -> OllamaContextEvent:
        return OllamaContextEvent(kind=kind, model=self.model, host=self.host, text=text, window=window.tokens, **more)


def _about(estimate: TokenEstimate) -> str:
    return f"about {estimate.tokens} tokens ({estimate.low} to {estimate.high})"
