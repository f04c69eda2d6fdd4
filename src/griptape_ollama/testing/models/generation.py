"""Generation of a reply: its tokens, its tool calls, and where it stops."""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from griptape_ollama.testing.models.simulated_model import SimulatedModel
from griptape_ollama.testing.script import Reply, normalize_tool_call
from griptape_ollama.testing.wire_format import ErrorResponse

Piece = tuple[Literal["thinking", "content"], str]
_WORD = re.compile(r"\s*\S+|\s+$")
_JSON_TOKEN = re.compile(r"\w+|\W", re.DOTALL)
_SMALL = "abcdefghijklmnopqrstuvwxyz0123456789"
_MIXED = _SMALL + "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


@dataclass(frozen=True, kw_only=True)
class GeneratedReply:
    """One generated reply.

    Attributes:
        pieces: Thinking and content, one item per token.
        calls: Tool calls with their ids.
        done_reason: Why it ended.
        tokens: Number of generated tokens, the end token included.
    """

    pieces: Sequence[Piece]
    calls: Sequence[dict[str, Any]]
    done_reason: str
    tokens: int

    def text(self, kind: Literal["thinking", "content"]) -> str:
        """Return the whole thinking or content."""
        return "".join(piece for found, piece in self.pieces if found == kind)


class ReplyGenerator:
    """Generates replies from scripted or plausible ones, and numbers the tool calls of a simulator."""

    def __init__(self) -> None:
        self._calls = 0

    def generate(
        self, reply: Reply, model: SimulatedModel, options: Mapping[str, Any], max_tokens: int | None = None
    ) -> GeneratedReply:
        """Generate a reply within the limits that the options set.

        Args:
            reply: The reply.
            model: Model that generates it.
            options: Options of the request.
            max_tokens: Largest number of tokens, None for no limit.

        Raises:
            CutToolCall: The limit of a native model is inside a tool call.
        """
        thinking: list[Piece] = [("thinking", piece) for piece in _split(reply.thinking)]
        content: list[Piece] = [("content", piece) for piece in _split(reply.text)]
        calls = [normalize_tool_call(call) for call in reply.tool_calls]
        if reply.done_reason is not None:
            tokens = len(thinking) + len(content) + sum(_call_tokens(call, model) for call in calls) + 1
            return self._finish(thinking + content, calls, model, reply.done_reason, tokens)
        content, was_stopped = _stop(content, options.get("stop", model.parameters.get("stop")) or [])
        if was_stopped:
            calls = []
        limit = options.get("num_predict", model.parameters.get("num_predict"))
        # 0 is ignored and negative numbers mean no limit, as recorded.
        limits = [int(limit)] if isinstance(limit, (int, float)) and limit > 0 else []
        limits += [max_tokens] if max_tokens is not None else []
        return self._apply_limit(thinking + content, calls, model, min(limits, default=None))

    def _apply_limit(
        self, pieces: list[Piece], calls: list[dict[str, Any]], model: SimulatedModel, budget: int | None
    ) -> GeneratedReply:
        costs = [1] * len(pieces) + [_call_tokens(call, model) for call in calls]
        if budget is None or sum(costs) < budget:
            return self._finish(pieces, calls, model, "stop", sum(costs) + 1)
        spent = count = 0
        while count < len(costs) and spent + costs[count] <= budget:
            spent += costs[count]
            count += 1
        complete = calls[: max(0, count - len(pieces))]
        if model.kind == "native" and len(pieces) <= count < len(costs):
            name = calls[count - len(pieces)]["function"]["name"]
            message = f'llama-server returned invalid tool call arguments for "{name}": unexpected end of JSON input'
            raise CutToolCall(message, pieces)
        return self._finish(pieces[:count], complete, model, "length", budget)

    def _finish(
        self, pieces: list[Piece], calls: list[dict[str, Any]], model: SimulatedModel, reason: str, tokens: int
    ) -> GeneratedReply:
        numbered = [self._number(call, index, model) for index, call in enumerate(calls)]
        return GeneratedReply(pieces=pieces, calls=numbered, done_reason=reason, tokens=tokens)

    def _number(self, call: dict[str, Any], index: int, model: SimulatedModel) -> dict[str, Any]:
        function = call["function"]
        if set(call) - {"function"} or set(function) - {"name", "arguments"}:
            return call
        self._calls += 1
        digest = hashlib.sha256(f"call {self._calls}".encode()).digest()
        if model.kind == "native":
            call_id = "".join(_MIXED[byte % len(_MIXED)] for byte in digest)
        else:
            call_id = "call_" + "".join(_SMALL[byte % len(_SMALL)] for byte in digest[:8])
        return {"id": call_id, "function": {"index": index, **function}}


class CutToolCall(ErrorResponse):
    """Error of a native model whose tool call `num_predict` cut; the tokens before it are sent first."""

    def __init__(self, message: str, pieces: list[Piece]) -> None:
        super().__init__(500, message)
        self.pieces = pieces


def json_pieces(text: str) -> list[str]:
    """Split a JSON text into tokens."""
    return _JSON_TOKEN.findall(text)


def _split(text: str | Sequence[str]) -> list[str]:
    return _WORD.findall(text) if isinstance(text, str) else list(text)


def _stop(content: list[Piece], stops: Any) -> tuple[list[Piece], bool]:
    """Cut content at the first stop sequence."""
    whole = "".join(piece for _, piece in content)
    found = [whole.find(stop) for stop in stops if isinstance(stop, str) and stop and stop in whole]
    if not found:
        return content, False
    end = min(found)
    kept: list[Piece] = []
    for kind, piece in content:
        if end <= 0:
            break
        kept.append((kind, piece[:end]))
        end -= len(piece)
    return kept, True


def _call_tokens(call: dict[str, Any], model: SimulatedModel) -> int:
    return max(1, model.tokens_of(json.dumps(call["function"])))
