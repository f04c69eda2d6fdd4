"""What a model says in answer to one request: the pieces, one per token, and where it stops."""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from griptape_ollama.testing.models.simulated_model import SimulatedModel
from griptape_ollama.testing.script import Reply, normal_call
from griptape_ollama.testing.wire_format import Refusal

Piece = tuple[Literal["thinking", "content"], str]
_WORD = re.compile(r"\s*\S+|\s+$")
_JSON_TOKEN = re.compile(r"\w+|\W", re.DOTALL)
_SMALL = "abcdefghijklmnopqrstuvwxyz0123456789"
_MIXED = _SMALL + "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


@dataclass(frozen=True, kw_only=True)
class Speech:
    """One finished answer.

    Attributes:
        pieces: Thinking and content, one item per token.
        calls: Tool calls with their ids.
        done_reason: Why it ended.
        tokens: Tokens that were made, the end mark included.
    """

    pieces: Sequence[Piece]
    calls: Sequence[dict[str, Any]]
    done_reason: str
    tokens: int

    def text(self, kind: Literal["thinking", "content"]) -> str:
        """Return the thinking or the content in one piece."""
        return "".join(piece for found, piece in self.pieces if found == kind)


class Voice:
    """Turns replies into speeches; numbers the tool calls of a simulator."""

    def __init__(self) -> None:
        self._calls = 0

    def speak(self, reply: Reply, model: SimulatedModel, options: Mapping[str, Any], room: int | None = None) -> Speech:
        """Say a reply within the limits that the options set.

        Args:
            reply: What to say.
            model: Who says it.
            options: Options of the request.
            room: Tokens that there is room for, None for any number.

        Raises:
            Refusal: A native model was cut in the middle of a tool call.
        """
        thinking: list[Piece] = [("thinking", piece) for piece in _split(reply.thinking)]
        content: list[Piece] = [("content", piece) for piece in _split(reply.text)]
        calls = [normal_call(call) for call in reply.tool_calls]
        if reply.done_reason is not None:
            tokens = len(thinking) + len(content) + sum(_call_tokens(call, model) for call in calls) + 1
            return self._speech(thinking + content, calls, model, reply.done_reason, tokens)
        content, was_stopped = _stop(content, options.get("stop", model.parameters.get("stop")) or [])
        if was_stopped:
            calls = []
        limit = options.get("num_predict", model.parameters.get("num_predict"))
        # 0 is ignored and negative numbers mean no limit, as recorded.
        limits = [int(limit)] if isinstance(limit, (int, float)) and limit > 0 else []
        limits += [room] if room is not None else []
        return self._limit(thinking + content, calls, model, min(limits, default=None))

    def _limit(
        self, pieces: list[Piece], calls: list[dict[str, Any]], model: SimulatedModel, budget: int | None
    ) -> Speech:
        costs = [1] * len(pieces) + [_call_tokens(call, model) for call in calls]
        if budget is None or sum(costs) < budget:
            return self._speech(pieces, calls, model, "stop", sum(costs) + 1)
        spent = said = 0
        while said < len(costs) and spent + costs[said] <= budget:
            spent += costs[said]
            said += 1
        complete = calls[: max(0, said - len(pieces))]
        if model.kind == "native" and len(pieces) <= said < len(costs):
            name = calls[said - len(pieces)]["function"]["name"]
            message = f'llama-server returned invalid tool call arguments for "{name}": unexpected end of JSON input'
            raise CutCall(message, pieces)
        return self._speech(pieces[:said], complete, model, "length", budget)

    def _speech(
        self, pieces: list[Piece], calls: list[dict[str, Any]], model: SimulatedModel, reason: str, tokens: int
    ) -> Speech:
        numbered = [self._number(call, index, model) for index, call in enumerate(calls)]
        return Speech(pieces=pieces, calls=numbered, done_reason=reason, tokens=tokens)

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


class CutCall(Refusal):
    """A tool call of a native model that `num_predict` cut: an error, after whatever was said before."""

    def __init__(self, message: str, pieces: list[Piece]) -> None:
        super().__init__(500, message)
        self.pieces = pieces


def json_pieces(text: str) -> list[str]:
    """Split a JSON text into pieces as a model would say them."""
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
