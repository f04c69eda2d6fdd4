"""Signs that one address leads to several servers, which then are one to nobody: each has its own models and memory.

Two things cannot be of one server. A state that was replaced does not come back: a model that is pulled, copied or
loaded anew has another time. And a model that is not in memory does not answer without being loaded.
"""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, cast

from griptape_ollama.escaping import printable
from griptape_ollama.protocol.model_name import model_key, name_of_entry
from griptape_ollama.shared_state import renew_when_forked, reset_with_shared_state
from griptape_ollama.transport.call_reports import ModelUse, last_uses

SECTION = "'Several servers' in docs/production.md"
"""Where the consequences are described."""

_MAX_ADDRESSES = 64
_MAX_STATES = 8
_MAX_KEYS = 1000
# A model that is in memory is ready in some milliseconds; one that is loaded takes longer (server 0.33).
_QUICK_SECONDS = 0.1
# So soon after a reply a model is still in memory, whatever keep_alive says for later.
_RECENT_SECONDS = 60.0
_STRIKES = 2

_logger = logging.getLogger(__name__)

_PS, _SHOW, _TAGS, _VERSION = "/api/ps", "/api/show", "/api/tags", "/api/version"
_TIMES = {_TAGS: "modified_at", _PS: "expires_at"}

_Key = tuple[str, str]
"""What was asked, and the model that it is about."""

_State = tuple[str, str]
"""What was told of a model, and a time that tells it from the same told later; two empty texts for its absence."""

_ABSENT: _State = ("", "")


class _History:
    """What replies of one address have told so far.

    Attributes:
        is_said: Whether a contradiction was found.
        remote: Models that run elsewhere, and are in nobody's memory here.
    """

    def __init__(self) -> None:
        self.is_said = False
        self.remote: set[str] = set()
        self._seen_at: dict[str, float] = {}
        self._states: OrderedDict[_Key, list[_State]] = OrderedDict()
        self._missed: dict[str, ModelUse] = {}
        self._strikes: dict[str, int] = {}

    def is_in_order(self, path: str, asked_at: float, now: float) -> bool:
        """Return whether a reply came after the last one; of two that overlap, either may tell of the later state."""
        is_in_order = asked_at >= self._seen_at.get(path, asked_at)
        if is_in_order:
            self._seen_at[path] = now
        return is_in_order

    def returned(self, path: str, states: Mapping[_Key, _State]) -> str | None:
        """Record the states of a reply, and say which of them was replaced before; None for none of them."""
        found: str | None = None
        for key, state in {**self._absent(path, states), **states}.items():
            if self._has_returned(key, state):
                found = f"{path} told the same of {_name(key[1])} as before, and something else between"
        return found

    def _absent(self, path: str, states: Mapping[_Key, _State]) -> dict[_Key, _State]:
        """Return the models that a list does not have any more; without a time, their return would tell nothing."""
        known = [key for key, before in self._states.items() if key[0] == path and before[-1][1]]
        return {key: _ABSENT for key in known if path in _TIMES and key not in states}

    def _has_returned(self, key: _Key, state: _State) -> bool:
        before = self._states.setdefault(key, [])
        self._states.move_to_end(key)
        if len(self._states) > _MAX_KEYS:
            self._states.popitem(last=False)
        if before and before[-1] == state:
            return False
        has_returned = state != _ABSENT and state in before
        before.append(state)
        del before[:-_MAX_STATES]
        return has_returned

    def missing(self, uses: Mapping[str, ModelUse], asked_at: float) -> str | None:
        """Record that no model is loaded, and say which one answers nevertheless; None for none.

        Where others are listed, they may have taken its memory, or be it by another name.

        Args:
            uses: The last reply of each model.
            asked_at: When the loaded models were asked for.
        """
        found: str | None = None
        for model, use in uses.items():
            missed = self._missed.pop(model, None)
            if missed is not None and use.at > missed.at:
                was_loaded = use.load_seconds is not None and use.load_seconds > _QUICK_SECONDS
                self._strikes[model] = 0 if was_loaded else self._strikes.get(model, 0) + 1
            if self._should_be_there(model, use, asked_at):
                self._missed[model] = use
                if self._strikes.get(model, 0) >= _STRIKES:
                    found = f"{_name(model)} answers without being loaded, and {_PS} does not list it"
        return found

    def _should_be_there(self, model: str, use: ModelUse, asked_at: float) -> bool:
        if model in self.remote or model.endswith("cloud") or not 0 <= asked_at - use.at < _RECENT_SECONDS:
            return False
        # The server's own default may be 0; a model that it then loads for each reply takes its time, which it tells.
        return use.load_seconds is not None if use.stay is None else use.stay > asked_at - use.at + 1


class InconsistentServers:
    """Notices that replies of one address contradict each other, and says so once. Threads may share it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._histories: OrderedDict[str, _History] = OrderedDict()
        renew_when_forked(self)

    def start_afresh(self) -> None:
        """Begin anew in a forked process, where threads that held the lock are gone."""
        self._lock = threading.Lock()

    def observe(
        self, address: str, path: str, model: str | None, reply: Mapping[str, Any], *, asked_at: float, now: float
    ) -> None:
        """Compare a reply with those before it.

        Args:
            address: Address of the server, without user and password.
            path: What was asked.
            model: Model that was asked about; None for none.
            reply: The reply.
            asked_at: When it was asked, on the clock of `time.monotonic`.
            now: When the reply was there.
        """
        states = _states(path, model, reply)
        if states is None:
            return
        with self._lock:
            history = self._histories.setdefault(address, _History())
            if len(self._histories) > _MAX_ADDRESSES:
                self._histories.popitem(last=False)
            history.remote |= _remote(path, model, reply)
            if history.is_said or not history.is_in_order(path, asked_at, now):
                return
            found = history.returned(path, states)
            if path == _PS and not _entries(reply):
                found = history.missing(last_uses(address), asked_at) or found
            history.is_said = found is not None
        if found is not None:
            _logger.warning(
                "Replies of %s contradict each other: %s. There seem to be several servers behind this address: what "
                "is loaded, unloaded, pulled and remembered is so on one of them only. Give each server a driver of "
                "its own: see %s.",
                address,
                printable(found),
                SECTION,
            )

    def clear(self) -> None:
        """Forget all replies."""
        with self._lock:
            self._histories.clear()


def _states(path: str, model: str | None, reply: Mapping[str, Any]) -> dict[_Key, _State] | None:
    """Return what a reply tells of each model; None where it is not one that tells."""
    if path == _VERSION:
        version = _text(reply.get("version"))
        return {(path, ""): (version, "")} if version else None
    if path == _SHOW:
        shown = _text(reply.get("modified_at")), str(hash(_text(reply.get("modelfile"))))
        return {(path, model_key(model)): shown} if model else None
    if path not in _TIMES or not isinstance(reply.get("models"), list):
        return None
    told = {key: (_text(entry.get("digest")), _text(entry.get(_TIMES[path]))) for key, entry in _entries(reply).items()}
    # What is loaded may be unloaded and loaded again: without a time that cannot be told from what it was before.
    return {(path, key): state for key, state in told.items() if state[1] or (path == _TAGS and state[0])}


def _remote(path: str, model: str | None, reply: Mapping[str, Any]) -> set[str]:
    if path == _SHOW:
        return {model_key(model)} if model and reply.get("remote_host") else set()
    return {key for key, entry in _entries(reply).items() if entry.get("remote_host")}


def _entries(reply: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    models = reply.get("models")
    listed = cast("list[Any]", models) if isinstance(models, list) else []
    entries = [cast("Mapping[str, Any]", entry) for entry in listed if isinstance(entry, Mapping)]
    return {model_key(name): entry for entry in entries if (name := name_of_entry(entry))}


def _name(key: str) -> str:
    return repr(key.removeprefix("registry.ollama.ai/library/")) if key else "the server"


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


inconsistent_servers = InconsistentServers()
"""What all connections of this process share."""
reset_with_shared_state(inconsistent_servers.clear)
