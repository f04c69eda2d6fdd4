"""Detects that one address leads to several servers, each with its own models and memory.

One server never contradicts itself in two ways. A state that was replaced does not come back: a model that is pulled,
copied or loaded anew has another time. And a model that is not loaded does not answer without being loaded.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from typing import Any, cast

from cachetools import LRUCache

from griptape_ollama.escaping import printable
from griptape_ollama.protocol.model_name import model_key, name_of_entry
from griptape_ollama.shared_state import renew_when_forked, reset_with_shared_state
from griptape_ollama.transport.call_reports import ModelUse, last_uses

SECTION = "'Several servers' in docs/production.md"
"""The page about the consequences."""

_MAX_ADDRESSES = 64
_MAX_STATES = 8
_MAX_KEYS = 1000
# A loaded model is ready in some milliseconds; loading takes longer (server 0.33).
_QUICK_SECONDS = 0.1
# So soon after a reply a model is still loaded, whatever its keep_alive.
_RECENT_SECONDS = 60.0
_STRIKES = 2

_logger = logging.getLogger(__name__)

_PS, _SHOW, _TAGS, _VERSION = "/api/ps", "/api/show", "/api/tags", "/api/version"
_TIMES = {_TAGS: "modified_at", _PS: "expires_at"}

_Key = tuple[str, str]
"""Path of the request, and the model."""

_State = tuple[str, str]
"""State of a model in a reply, and a time that distinguishes it from an equal one later; two empty texts if absent."""

_ABSENT: _State = ("", "")


class _History:
    """The states in replies of one address so far.

    Attributes:
        is_reported: Whether a contradiction was found.
        remote: Models that run elsewhere, and are never loaded here.
    """

    def __init__(self) -> None:
        self.is_reported = False
        self.remote: set[str] = set()
        self._seen_at: dict[str, float] = {}
        self._states: LRUCache[_Key, list[_State]] = LRUCache(_MAX_KEYS)
        self._missed: dict[str, ModelUse] = {}
        self._unlisted_counts: dict[str, int] = {}

    def is_in_order(self, path: str, asked_at: float, now: float) -> bool:
        """Return whether a reply came after the last one; of two that overlap, either may have the later state."""
        is_in_order = asked_at >= self._seen_at.get(path, asked_at)
        if is_in_order:
            self._seen_at[path] = now
        return is_in_order

    def find_returned(self, path: str, states: Mapping[_Key, _State]) -> str | None:
        """Record the states of a reply, and describe one that was replaced before; None for none."""
        found: str | None = None
        for key, state in {**self._absent(path, states), **states}.items():
            if self._has_returned(key, state):
                found = f"{path} told the same of {_name(key[1])} as before, and something else between"
        return found

    def _absent(self, path: str, states: Mapping[_Key, _State]) -> dict[_Key, _State]:
        """Return the models that are missing from a list now; without a time, their return would prove nothing."""
        missing = [key for key in self._states if key[0] == path and key not in states]
        return {key: _ABSENT for key in missing if path in _TIMES and self._states[key][-1][1]}

    def _has_returned(self, key: _Key, state: _State) -> bool:
        before = self._states.setdefault(key, [])
        if before and before[-1] == state:
            return False
        has_returned = state != _ABSENT and state in before
        before.append(state)
        del before[:-_MAX_STATES]
        return has_returned

    def find_unlisted(self, uses: Mapping[str, ModelUse], asked_at: float) -> str | None:
        """Record that no model is listed as loaded, and describe a model that answers nevertheless; None if none does.

        If any model is listed, it may have taken the memory, or be the same by another name.

        Args:
            uses: The last reply of each model.
            asked_at: When the list was requested.
        """
        found: str | None = None
        for model, use in uses.items():
            missed = self._missed.pop(model, None)
            if missed is not None and use.at > missed.at:
                was_loaded = use.load_seconds is not None and use.load_seconds > _QUICK_SECONDS
                self._unlisted_counts[model] = 0 if was_loaded else self._unlisted_counts.get(model, 0) + 1
            if self._should_be_loaded(model, use, asked_at):
                self._missed[model] = use
                if self._unlisted_counts.get(model, 0) >= _STRIKES:
                    found = f"{_name(model)} answers without being loaded, and {_PS} does not list it"
        return found

    def _should_be_loaded(self, model: str, use: ModelUse, asked_at: float) -> bool:
        if model in self.remote or model.endswith("cloud") or not 0 <= asked_at - use.at < _RECENT_SECONDS:
            return False
        # The server's default may be 0; it then loads the model for each reply, and reports the time that this takes.
        return use.load_seconds is not None if use.stay is None else use.stay > asked_at - use.at + 1


class InconsistentServers:
    """Finds replies of one address that contradict each other, and logs it once. Threads may share it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._histories: LRUCache[str, _History] = LRUCache(_MAX_ADDRESSES)
        renew_when_forked(self)

    def start_afresh(self) -> None:
        """Replace a lock that a thread of the parent may hold."""
        self._lock = threading.Lock()

    def observe(
        self, address: str, path: str, model: str | None, reply: Mapping[str, Any], *, asked_at: float, now: float
    ) -> None:
        """Compare a reply with those before it.

        Args:
            address: Address of the server, without user and password.
            path: Path of the request.
            model: Model of the request; None for none.
            reply: The reply.
            asked_at: When the request was sent, on the clock of `time.monotonic`.
            now: When the reply was there.
        """
        states = _states(path, model, reply)
        if states is None:
            return
        with self._lock:
            history = self._histories.setdefault(address, _History())
            history.remote |= _remote(path, model, reply)
            if history.is_reported or not history.is_in_order(path, asked_at, now):
                return
            found = history.find_returned(path, states)
            if path == _PS and not _entries(reply):
                found = history.find_unlisted(last_uses(address), asked_at) or found
            history.is_reported = found is not None
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
    """Return the state of each model in a reply; None for a reply without states."""
    if path == _VERSION:
        version = _text(reply.get("version"))
        return {(path, ""): (version, "")} if version else None
    if path == _SHOW:
        shown = _text(reply.get("modified_at")), str(hash(_text(reply.get("modelfile"))))
        return {(path, model_key(model)): shown} if model else None
    if path not in _TIMES or not isinstance(reply.get("models"), list):
        return None
    states = {
        key: (_text(entry.get("digest")), _text(entry.get(_TIMES[path]))) for key, entry in _entries(reply).items()
    }
    # A model may be unloaded and loaded again: without a time, both states look alike.
    return {(path, key): state for key, state in states.items() if state[1] or (path == _TAGS and state[0])}


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
"""The detector of this process."""
reset_with_shared_state(inconsistent_servers.clear)
