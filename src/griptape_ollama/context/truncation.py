"""Detects from a reply whether the prompt was truncated, whether the context was shifted, and what ended the reply.

The server reports none of it: a truncated prompt is answered with status 200. The rules compare the counts of the reply
with the window and with an estimate of what was sent. Where a complete reply could have the same counts, they report
nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal

from griptape_ollama.context.overflow import OverflowPolicy
from griptape_ollama.context.tokens.regression import TokenEstimate
from griptape_ollama.context.trimming import TrimResult
from griptape_ollama.context.window import ContextWindow
from griptape_ollama.events import OllamaContextEvent

Kind = Literal["truncated", "shifted", "cut"]
CutBy = Literal["max_tokens", "window", "unknown"]

IMAGE_TOKENS = 768
"""Tokens that the server counts for an image when it decides what to cut (server 0.33)."""

_CELLS = 256  # the process that runs a model rounds its window up to a multiple of this (server 0.33)
_LAST = 1  # the last token of a reply is not stored
_NEAR = 16  # tokens before the end of the window where a reply may have to stop
_HALVED = 16  # tokens above half of the window that a cut prompt has: what is kept of its beginning (server 0.33: 3)
_VAGUE = 0.3  # uncertainty of estimates before anything was learned; it is under a tenth afterwards
_MOST_OFF = 4  # a vocabulary of single characters makes so many times the tokens of a usual one
_SMALLEST_DEFAULT = 2048  # windows that servers have by default are powers of two from here (2048 until early 2025)


@dataclass(frozen=True)
class TokenCounts:
    """Tokens of one request and its reply, not added up over several.

    Attributes:
        estimate: Tokens of the prompt, estimated.
        prompt_tokens: `prompt_eval_count`; None if the reply has none.
        output_tokens: `eval_count`; None likewise.
        done_reason: Why the reply ended; None likewise.
        max_tokens: Limit to the reply (`num_predict`, also as a parameter of the model); None or a negative number for
            no limit.
        images: How many images the prompt had.
    """

    estimate: TokenEstimate
    prompt_tokens: int | None = None
    output_tokens: int | None = None
    done_reason: str | None = None
    max_tokens: int | None = None
    images: int = 0


@dataclass(frozen=True)
class ContextFinding:
    """One thing that was lost.

    Attributes:
        kind: `truncated` (the server truncated the prompt before the model read it), `shifted` (the server dropped the
            beginning of the prompt while the model wrote) or `cut` (the reply ended before it was complete).
        is_sure: Whether it is certain, rather than likely.
        cut_by: What ended the reply, for `cut`.
    """

    kind: Kind
    is_sure: bool
    cut_by: CutBy | None = None


@dataclass(frozen=True)
class ContextFindings:
    """Everything that was lost of one request; empty where nothing was.

    Attributes:
        truncated: The prompt was truncated.
        shifted: The context was shifted.
        cut: The reply ended early.
    """

    truncated: ContextFinding | None = None
    shifted: ContextFinding | None = None
    cut: ContextFinding | None = None

    def __iter__(self) -> Iterator[ContextFinding]:
        return iter(each for each in (self.truncated, self.shifted, self.cut) if each is not None)

    def __bool__(self) -> bool:
        return any(True for _ in self)


def detect_truncation(counts: TokenCounts, window: ContextWindow) -> ContextFindings:
    """Detect what was lost of a request, from its counts and the window that the model had."""
    return ContextFindings(_truncated(counts, window), _shifted(counts, window), _cut(counts, window))


def _truncated(counts: TokenCounts, window: ContextWindow) -> ContextFinding | None:
    estimate, read = counts.estimate, counts.prompt_tokens
    surely_too_long = estimate.low > window.tokens
    if read is None:
        # Some servers leave the count out; a window that is only assumed may be larger then.
        return ContextFinding("truncated", is_sure=False) if surely_too_long and window.is_known else None
    if read > window.tokens:
        # The window is larger than is known, and may still have been too small.
        return ContextFinding("truncated", is_sure=False) if read < estimate.low else None
    is_filled = read == window.tokens or (not window.is_known and _is_default_window(read))
    if is_filled and estimate.tokens > read:
        return ContextFinding("truncated", is_sure=window.is_known)  # servers of 2025 fill the window to the last token
    is_halved = 0 <= read - window.tokens // 2 <= _HALVED
    is_vague = estimate.uncertainty > _VAGUE and estimate.high * _MOST_OFF > window.tokens
    if is_vague and read == _cut_to(window.tokens):
        return ContextFinding("truncated", is_sure=False)  # hardly by chance
    if read >= estimate.low:
        # A prompt that may have been too long hardly has by chance the length that the server cuts to. Learning from it
        # would make all later estimates too low.
        return ContextFinding("truncated", is_sure=False) if is_halved and estimate.high > window.tokens else None
    if surely_too_long or (is_halved and estimate.tokens > window.tokens):
        return ContextFinding("truncated", is_sure=window.is_known)
    if not window.is_known and _halves_default_window(read, estimate):
        return ContextFinding("truncated", is_sure=False)
    if is_halved and estimate.high > window.tokens:
        return ContextFinding("truncated", is_sure=False)
    if estimate.tokens + IMAGE_TOKENS * counts.images > window.tokens:
        return ContextFinding("truncated", is_sure=False)
    return None


def _cut_to(window: int) -> int:
    """Return the tokens that are left of a prompt that does not fit: the first five and the end (server 0.33)."""
    return window - (window - 5) // 2


def _shifted(counts: TokenCounts, window: ContextWindow) -> ContextFinding | None:
    written, cells = counts.output_tokens, _cells(window)
    if written is None or not window.is_known:
        return None  # only the size of the window shows it
    if counts.prompt_tokens is not None:
        read = counts.prompt_tokens
        return ContextFinding("shifted", is_sure=True) if read <= cells < read + written - _LAST else None
    fitted = counts.estimate.high <= window.tokens
    return (
        ContextFinding("shifted", is_sure=False) if fitted and counts.estimate.low + written - _LAST > cells else None
    )


def _cut(counts: TokenCounts, window: ContextWindow) -> ContextFinding | None:
    reason, written = counts.done_reason, counts.output_tokens
    if reason not in ("length", None):
        return None
    limit = counts.max_tokens
    if limit is not None and limit > 0 and written is not None and written >= limit:
        return ContextFinding("cut", is_sure=reason is not None, cut_by="max_tokens")
    if reason is None:
        return None
    is_full = written is not None and _ended_at_end(counts, written, window)
    return ContextFinding("cut", is_sure=True, cut_by="window" if is_full else "unknown")


def _ended_at_end(counts: TokenCounts, written: int, window: ContextWindow) -> bool:
    """Return whether the reply ended where the window does; a reply with a shifted context ended elsewhere."""
    if not window.is_known:
        return False
    read, estimate = counts.prompt_tokens, counts.estimate
    low, high = (estimate.low, estimate.high) if read is None else (read, read)
    return low + written - _LAST <= _cells(window) <= high + written + _NEAR


def _cells(window: ContextWindow) -> int:
    return -(-window.tokens // _CELLS) * _CELLS


def _halves_default_window(read: int, estimate: TokenEstimate) -> bool:
    """Return whether a count is what is left of a prompt that was cut for a smaller window than is assumed."""
    window = 1 << read.bit_length()
    return _is_default_window(window) and read - window // 2 <= _HALVED and estimate.low > window


def _is_default_window(tokens: int) -> bool:
    return tokens >= _SMALLEST_DEFAULT and tokens & (tokens - 1) == 0


@dataclass(frozen=True)
class ContextReporter:
    """Builds the events about the context window of one model. The caller publishes them and logs their `text`.

    Attributes:
        policy: Names the model, and knows what would help.
    """

    policy: OverflowPolicy

    def grown(self, window: ContextWindow, before: int, needed: int) -> OllamaContextEvent:
        """Build the event of a window that grows from `before` tokens, for a prompt and a reply of `needed`."""
        text = (
            f"The context window of {self.policy} grows from {before} to {window.tokens} tokens, since prompt and "
            f"reply need up to {needed}; the model is loaded with that. Set num_ctx to choose a size."
        )
        return self._event("grown", text, window, window_before=before, estimated_tokens=needed)

    def trimmed(self, trimmed: TrimResult, window: ContextWindow) -> OllamaContextEvent:
        """Build the event of old messages that are not sent."""
        dropped = len(trimmed.dropped)
        text = (
            f"The oldest {dropped} messages (about {trimmed.dropped_tokens} tokens) were not sent to {self.policy}: "
            f"the conversation does not fit into a context window of {window.ceiling} tokens. "
            f"{replace(self.policy, mode='trim').advice(window)}"
        )
        return self._event(
            "trimmed",
            text,
            window,
            estimated_tokens=round(trimmed.tokens),
            dropped_messages=dropped,
            dropped_tokens=trimmed.dropped_tokens,
        )

    def found(self, finding: ContextFinding, counts: TokenCounts, window: ContextWindow) -> OllamaContextEvent:
        """Build the event of what a reply showed."""
        text = {"truncated": self._truncated, "shifted": self._shifted, "cut": self._cut}[finding.kind]
        return self._event(
            finding.kind,
            text(finding, counts, window),
            window,
            is_sure=finding.is_sure,
            estimated_tokens=counts.estimate.tokens,
            prompt_tokens=counts.prompt_tokens,
            output_tokens=counts.output_tokens,
            cut_by=finding.cut_by,
        )

    def _truncated(self, finding: ContextFinding, counts: TokenCounts, window: ContextWindow) -> str:
        was = "was" if finding.is_sure else "seems to have been"
        read = "" if counts.prompt_tokens is None else f" the model read {counts.prompt_tokens};"
        of = "there were" if counts.prompt_tokens is None else "of"
        return (
            f"The prompt for {self.policy} {was} cut: {of} {_about(counts.estimate)}{read or ','} its context window "
            f"has {window.tokens}. {self.policy.advice(window)}"
        )

    def _shifted(self, finding: ContextFinding, counts: TokenCounts, window: ContextWindow) -> str:
        forgot = "forgot" if finding.is_sure else "seems to have forgotten"
        read, written = counts.prompt_tokens, counts.output_tokens
        prompt = f"about {counts.estimate.tokens}" if read is None else read
        reply = "those" if written is None else written
        return (
            f"M{str(self.policy)[1:]} {forgot} the beginning of the prompt while it wrote: {prompt} tokens of prompt "
            f"and {reply} of reply do not fit into a context window of {window.tokens}. {self.policy.advice(window)}"
        )

    def _cut(self, finding: ContextFinding, counts: TokenCounts, window: ContextWindow) -> str:
        after = "" if counts.output_tokens is None else f" after {counts.output_tokens} tokens"
        what = f"The reply of {self.policy} {'was' if finding.is_sure else 'seems to have been'} cut{after}"
        if finding.cut_by == "max_tokens":
            return f"{what}, as many as it was allowed: raise max_tokens (num_predict)."
        if finding.cut_by == "window":
            return f"{what}, where its context window of {window.tokens} tokens was full. {self.policy.advice(window)}"
        return f"{what}: raise max_tokens (num_predict), if the model or the server sets it too low."

    def _event(self, kind: str, text: str, window: ContextWindow, **more: Any) -> OllamaContextEvent:
        return OllamaContextEvent(
            kind=kind, model=self.policy.model, host=self.policy.host, text=text, window=window.tokens, **more
        )


def _about(estimate: TokenEstimate) -> str:
    return f"about {estimate.tokens} tokens ({estimate.low} to {estimate.high})"
