"""What a reply tells of the window: whether the prompt was cut, whether it moved on, what ended the reply.

The server says nothing of it: a prompt that was cut is answered with status 200. What there is to go by are the
counts of the reply, the window, and an estimate of what was sent. The rules prefer silence where an honest reply could
look the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

from griptape_ollama.context.overflow import WindowLike, WindowSettings, to_advice
from griptape_ollama.context.tokens.regression import TokenEstimate
from griptape_ollama.context.trimming import Trimmed
from griptape_ollama.events import OllamaContextEvent

Kind = Literal["truncated", "shifted", "cut"]
CutBy = Literal["max_tokens", "window", "unknown"]

IMAGE_TOKENS = 768
"""Tokens that the server counts for an image when it decides what to cut (server 0.33)."""

_CELLS = 256  # the process that runs a model rounds its window up to a multiple of this (server 0.33)
_LAST = 1  # the last token of a reply need not be stored
_NEAR = 16  # tokens before the end of the window where a reply may have to stop
_HALVED = 16  # tokens above half of the window that a cut prompt has: what is kept of its beginning (server 0.33: 3)
_VAGUE = 0.3  # uncertainty of estimates before anything was learned; it is under a tenth afterwards
_MOST_OFF = 4  # a vocabulary of single characters makes so much more of a text than others do
_SMALLEST_DEFAULT = 2048  # windows that servers have by default are powers of two from here (2048 until early 2025)


@dataclass(frozen=True)
class Exchanged:
    """One request and its reply, in tokens: of one round, not added up over several.

    Attributes:
        estimate: Tokens of the prompt, as it was estimated.
        prompt_tokens: `prompt_eval_count`; None where the server does not tell.
        output_tokens: `eval_count`; None likewise.
        done_reason: Why the reply ended; None likewise.
        max_tokens: How many tokens the reply was allowed (`num_predict`, the model's own included); None or a negative
            number for "as many as it likes".
        images: How many images the prompt had.
    """

    estimate: TokenEstimate
    prompt_tokens: int | None = None
    output_tokens: int | None = None
    done_reason: str | None = None
    max_tokens: int | None = None
    images: int = 0


@dataclass(frozen=True)
class Finding:
    """One thing that happened.

    Attributes:
        kind: `truncated` (the prompt was cut before the model read it), `shifted` (the window moved on while it wrote)
            or `cut` (the reply ended before it was complete).
        is_sure: Whether it is certain, rather than likely.
        cut_by: What ended the reply, for `cut`.
    """

    kind: Kind
    is_sure: bool
    cut_by: CutBy | None = None


@dataclass(frozen=True)
class Findings:
    """Everything that happened to one request; none of it where all is well.

    Attributes:
        truncated: The prompt was cut.
        shifted: The window moved on.
        cut: The reply ended early.
    """

    truncated: Finding | None = None
    shifted: Finding | None = None
    cut: Finding | None = None

    def __iter__(self) -> Iterator[Finding]:
        return iter(each for each in (self.truncated, self.shifted, self.cut) if each is not None)

    def __bool__(self) -> bool:
        return any(True for _ in self)


def examine(exchanged: Exchanged, window: WindowLike) -> Findings:
    """Find out what happened to a request.

    Args:
        exchanged: The request and its reply.
        window: The window that the model had.
    """
    return Findings(_truncated(exchanged, window), _shifted(exchanged, window), _cut(exchanged, window))


def _truncated(exchanged: Exchanged, window: WindowLike) -> Finding | None:
    estimate, read = exchanged.estimate, exchanged.prompt_tokens
    surely_too_long = estimate.low > window.tokens
    if read is None:
        # Some servers leave the count out; a window that is only assumed may be larger then.
        return Finding("truncated", is_sure=False) if surely_too_long and window.is_known else None
    if read > window.tokens:
        # The window is larger than what is known of it, and may still have been too small.
        return Finding("truncated", is_sure=False) if read < estimate.low else None
    is_filled = read == window.tokens or (not window.is_known and _is_default_window(read))
    if is_filled and estimate.tokens > read:
        return Finding("truncated", is_sure=window.is_known)  # servers of 2025 fill the window to the last token
    is_halved = 0 <= read - window.tokens // 2 <= _HALVED
    is_vague = estimate.uncertainty > _VAGUE and estimate.high * _MOST_OFF > window.tokens
    if is_vague and read == _cut_to(window.tokens):
        return Finding("truncated", is_sure=False)  # nobody knows better, and it is hardly so by chance
    if read >= estimate.low:
        # A prompt that may have been too long hardly has just the length by chance that the server cuts to. To learn
        # from it would make all that follow look short.
        return Finding("truncated", is_sure=False) if is_halved and estimate.high > window.tokens else None
    if surely_too_long or (is_halved and estimate.tokens > window.tokens):
        return Finding("truncated", is_sure=window.is_known)
    if not window.is_known and _halves_default_window(read, estimate):
        return Finding("truncated", is_sure=False)
    if is_halved and estimate.high > window.tokens:
        return Finding("truncated", is_sure=False)
    if estimate.tokens + IMAGE_TOKENS * exchanged.images > window.tokens:
        return Finding("truncated", is_sure=False)
    return None


def _cut_to(window: int) -> int:
    """Give the tokens that are left of a prompt that does not fit: the first five and the end (server 0.33)."""
    return window - (window - 5) // 2


def _shifted(exchanged: Exchanged, window: WindowLike) -> Finding | None:
    written, cells = exchanged.output_tokens, _cells(window)
    if written is None or not window.is_known:
        return None  # beside the window there is nothing to go by
    if exchanged.prompt_tokens is not None:
        read = exchanged.prompt_tokens
        return Finding("shifted", is_sure=True) if read <= cells < read + written - _LAST else None
    fitted = exchanged.estimate.high <= window.tokens
    return Finding("shifted", is_sure=False) if fitted and exchanged.estimate.low + written - _LAST > cells else None


def _cut(exchanged: Exchanged, window: WindowLike) -> Finding | None:
    reason, written = exchanged.done_reason, exchanged.output_tokens
    if reason not in ("length", None):
        return None
    limit = exchanged.max_tokens
    if limit is not None and limit > 0 and written is not None and written >= limit:
        return Finding("cut", is_sure=reason is not None, cut_by="max_tokens")
    if reason is None:
        return None
    is_full = written is not None and _ended_at_end(exchanged, written, window)
    return Finding("cut", is_sure=True, cut_by="window" if is_full else "unknown")


def _ended_at_end(exchanged: Exchanged, written: int, window: WindowLike) -> bool:
    """Whether the reply ended where the window does; one that the window moved on for ended elsewhere."""
    if not window.is_known:
        return False
    read, estimate = exchanged.prompt_tokens, exchanged.estimate
    low, high = (estimate.low, estimate.high) if read is None else (read, read)
    return low + written - _LAST <= _cells(window) <= high + written + _NEAR


def _cells(window: WindowLike) -> int:
    return -(-window.tokens // _CELLS) * _CELLS


def _halves_default_window(read: int, estimate: TokenEstimate) -> bool:
    """Whether a count is what is left of a prompt that was cut for a smaller window than is assumed."""
    window = 1 << read.bit_length()
    return _is_default_window(window) and read - window // 2 <= _HALVED and estimate.low > window


def _is_default_window(tokens: int) -> bool:
    return tokens >= _SMALLEST_DEFAULT and tokens & (tokens - 1) == 0


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
