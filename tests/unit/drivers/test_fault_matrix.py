"""Everything that can go wrong on the way, times every way to call. The table says what comes of it."""

import asyncio
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from griptape.artifacts import TextArtifact
from griptape.events import EventBus, EventListener, TextChunkEvent

from griptape_ollama import (
    OllamaAuthError,
    OllamaBusyError,
    OllamaConnectionError,
    OllamaEmbeddingDriver,
    OllamaError,
    OllamaModelNotFoundError,
    OllamaPromptDriver,
    OllamaQuotaError,
    OllamaResponseError,
    OllamaStreamError,
    OllamaTimeout,
    OllamaTimeoutError,
)
from griptape_ollama.transport.concurrency import slots_of

SAID = "one two three four"


# --- Ways to call. A new one is a function and a line in COLUMNS. ---


@dataclass
class Scene:
    """What a call has at hand.

    Attributes:
        settings: Settings of the driver.
        seen: Texts that a consumer got before the call was over, in order.
        drivers: The driver that was made, to be looked at afterwards.
    """

    settings: dict[str, Any]
    seen: list[str] = field(default_factory=list)
    drivers: list[Any] = field(default_factory=list)

    def prompt_driver(self, **settings):
        return self._kept(OllamaPromptDriver, model="simulator", **settings)

    def embedding_driver(self):
        return self._kept(OllamaEmbeddingDriver, model="simulator-embed", cache_bytes=0)

    def _kept(self, kind, **settings):
        if not self.drivers:
            self.drivers.append(kind(**self.settings, **settings))
        return self.drivers[0]


def run(scene):
    return scene.prompt_driver().run(TextArtifact("Hi")).to_text()


def stream(scene):
    listener = EventListener(lambda event: scene.seen.append(event.token), event_types=[TextChunkEvent])
    EventBus.add_event_listener(listener)
    try:
        return scene.prompt_driver(stream=True).run(TextArtifact("Hi")).to_text()
    finally:
        EventBus.remove_event_listener(listener)


def embed(scene):
    return len(scene.embedding_driver().embed("text")) > 0


def embed_artifact(scene):
    return len(scene.embedding_driver().embed(TextArtifact("text"))) > 0


def embed_batch(scene):
    return len(scene.embedding_driver().embed_batch(["a", "b", "c"])) == 3


def arun(scene):
    return asyncio.run(scene.prompt_driver().arun(TextArtifact("Hi"))).to_text()


def astream(scene):
    async def said():
        async with scene.prompt_driver().astream(TextArtifact("Hi")) as deltas:
            async for delta in deltas:
                if delta.content is not None:
                    scene.seen.append(delta.content.text)
        return "".join(scene.seen)

    return asyncio.run(said())


def aembed(scene):
    return len(asyncio.run(scene.embedding_driver().aembed("text"))) > 0


def aembed_batch(scene):
    return len(asyncio.run(scene.embedding_driver().aembed_batch(["a", "b", "c"]))) == 3


def aiter_embed_batch(scene):
    async def found():
        return [vector async for vector in scene.embedding_driver().aiter_embed_batch(["a", "b", "c"])]

    return len(asyncio.run(found())) == 3


@dataclass(frozen=True)
class Column:
    """A way to call.

    Attributes:
        call: Makes the call, and gives the answer.
        cells: Which cell of a row is about it: `chat`, `embed` or `batch`.
        answer: The answer when all goes well.
        shows_tokens: Whether a consumer gets tokens before the call is over.
    """

    call: Callable[[Scene], Any]
    cells: str
    answer: Any
    shows_tokens: bool = False

    @property
    def path(self):
        return "/api/chat" if self.cells == "chat" else "/api/embed"


COLUMNS = {
    "run": Column(run, "chat", SAID),
    "stream": Column(stream, "chat", SAID, shows_tokens=True),
    "embed": Column(embed, "embed", True),
    "embed of an artifact": Column(embed_artifact, "embed", True),
    "embed_batch": Column(embed_batch, "batch", True),
    "arun": Column(arun, "chat", SAID),
    "astream": Column(astream, "chat", SAID, shows_tokens=True),
    "aembed": Column(aembed, "embed", True),
    "aembed_batch": Column(aembed_batch, "batch", True),
    "aiter_embed_batch": Column(aiter_embed_batch, "batch", True),
}


# --- What can come of a call. ---


@dataclass(frozen=True)
class Cell:
    """What comes of a call.

    Attributes:
        error: What is raised when every request goes wrong; None where the fault does no harm.
        recovers: Whether the call succeeds when only its first request goes wrong.
        requests: How many requests arrive in either case.
        partial: What the model had said before; a reset may lose some of it.
        is_exact: Whether all of it arrives.
        limit: Limit that was reached.
    """

    error: type[OllamaError] | None = None
    recovers: bool = False
    requests: int = 1
    partial: str = ""
    is_exact: bool = True
    limit: str | None = None


WORKS = Cell()


def retried(error):
    """Tried a second time."""
    return Cell(error, recovers=True, requests=2)


def halved(error):
    """Three texts are asked for in halves; one that fails alone is held against a harmless text."""
    return Cell(error, recovers=True, requests=3)


def fails(error, **details):
    """Raised at once."""
    return Cell(error, **details)


@dataclass(frozen=True)
class Row:
    """Something that goes wrong.

    Attributes:
        fault: Kind of the fault.
        details: Its details.
        chat: What comes of a prompt.
        embed: What comes of a text to embed.
        batch: What comes of three of them.
        embed_details: Details for embeddings, whose replies are one document; by default the same.
        timeout: Limits.
        is_once: Whether it is only done once: too slow to repeat, or it lasts by itself.
    """

    fault: str
    chat: Cell
    embed: Cell
    batch: Cell
    details: dict[str, Any] = field(default_factory=dict)
    embed_details: dict[str, Any] | None = None
    timeout: OllamaTimeout | None = None
    is_once: bool = False


def _row(fault, cells, *, embed_details=None, timeout=None, is_once=False, **details):
    chat, embedding, batch = cells if isinstance(cells, tuple) else (cells, cells, cells)
    return Row(fault, chat, embedding, batch, details, embed_details, timeout, is_once)


_BROKEN = retried(OllamaConnectionError)
_GARBAGE = fails(OllamaStreamError)
_IN_HALVES = halved(OllamaStreamError)
_SLOW = {"seconds": 60}
_HUGE = {"after": 2, "size": 100_000_000}

TABLE = {
    # There is no listener.
    "refused": _row("refuse", fails(OllamaConnectionError, requests=0), is_once=True),
    # The connection breaks.
    "reset before headers": _row("reset", _BROKEN, at="before_headers"),
    "reset after headers": _row("reset", _BROKEN, at="after_headers"),
    "reset after two lines": _row(
        "reset",
        (fails(OllamaStreamError, partial="one two", is_exact=False), _BROKEN, _BROKEN),
        after=2,
        embed_details={"after": 1},
    ),
    "reset in mid-line": _row(
        "reset",
        (fails(OllamaStreamError, partial="one", is_exact=False), _BROKEN, _BROKEN),
        after=1,
        mid_line=True,
        embed_details={"after": 0, "mid_line": True},
    ),
    "cut in mid-line": _row(
        "cut",
        (fails(OllamaStreamError, partial="one"), _BROKEN, _BROKEN),
        after=1,
        mid_line=True,
        embed_details={"after": 0, "mid_line": True},
    ),
    "cut after two lines": _row(
        "cut",
        (fails(OllamaStreamError, partial="one two"), _BROKEN, _BROKEN),
        after=2,
        embed_details={"after": 1},
    ),
    # The reply ends properly, but too early.
    "cut without done": _row("no_done", (fails(OllamaStreamError, partial=SAID), _GARBAGE, _IN_HALVES)),
    "cut before any line": _row("no_done", (retried(OllamaStreamError), _GARBAGE, _IN_HALVES), after=0),
    # The server says that something is wrong.
    "error line": _row(
        "error_line",
        (fails(OllamaStreamError, partial="one"), retried(OllamaResponseError), halved(OllamaResponseError)),
    ),
    "error line before any output": _row(
        "error_line", (retried(OllamaResponseError), retried(OllamaResponseError), halved(OllamaResponseError)), after=0
    ),
    "429 slots": _row("status", retried(OllamaBusyError), status=429, error="too many concurrent requests"),
    "429 quota": _row("status", fails(OllamaQuotaError), status=429, error="you reached your hourly usage limit"),
    "500": _row(
        "status",
        (retried(OllamaResponseError), retried(OllamaResponseError), halved(OllamaResponseError)),
        status=500,
    ),
    "500 wrong option": _row(
        "status", fails(OllamaResponseError), status=500, error='option "seed" must be of type integer'
    ),
    "502": _row("status", retried(OllamaResponseError), status=502),
    "503": _row("status", retried(OllamaBusyError), status=503, error="server busy, please try again"),
    "504": _row("status", retried(OllamaResponseError), status=504),
    "401": _row("status", fails(OllamaAuthError), status=401, error="unauthorized"),
    "403": _row("status", fails(OllamaAuthError), status=403),
    "404": _row("status", fails(OllamaModelNotFoundError), status=404, error="model 'simulator' not found"),
    "404 of another program": _row("status", fails(OllamaResponseError), status=404, error="no such page"),
    # It is slow. A reply with vectors comes in one piece.
    "slow headers": _row(
        "slow_headers",
        fails(OllamaTimeoutError, limit="first_token"),
        timeout=OllamaTimeout(first_token=0.1),
        **_SLOW,
    ),
    "slow tokens": _row(
        "slow_tokens",
        (fails(OllamaTimeoutError, limit="between_tokens", partial="one"), WORKS, WORKS),
        timeout=OllamaTimeout(between_tokens=0.1),
        **_SLOW,
    ),
    "slow tokens within the limits": _row("slow_tokens", WORKS, seconds=0.01),
    "one byte at a time": _row("bytes", WORKS),
    # It is no reply of Ollama's.
    "garbage line": _row("garbage", (fails(OllamaStreamError, partial="one two"), _GARBAGE, _IN_HALVES), after=2),
    "garbage from the start": _row("garbage", (_GARBAGE, _GARBAGE, _IN_HALVES), after=0),
    "100 MB line": _row(
        "huge_line",
        (fails(OllamaStreamError, partial="one two"), _GARBAGE, _IN_HALVES),
        is_once=True,
        **_HUGE,
    ),
    "wrong content type": _row("content_type", WORKS, content_type="text/html"),
    "page": _row("garbage", (_GARBAGE, _GARBAGE, _IN_HALVES), after=0, data=b"<html>Please log in</html>"),
    "redirect": _row("redirect", fails(OllamaConnectionError), location="http://127.0.0.1:9/login"),
}

_WANTED = (
    "refused, reset before headers, reset after headers, reset in mid-line, cut without done, error line, 429 slots, "
    "429 quota, 500, 502, 503, 504, 401, 403, 404, slow headers, slow tokens, one byte at a time, garbage line, "
    "100 MB line, wrong content type, redirect"
)


def test_no_row_is_missing():
    assert set(_WANTED.split(", ")) <= set(TABLE)


def _cells():
    for fault, row in TABLE.items():
        for name, column in COLUMNS.items():
            for is_always in (False,) if row.is_once else (False, True):
                yield pytest.param(row, column, is_always, id=f"{fault}-{name}-{'always' if is_always else 'once'}")


@pytest.mark.parametrize(("row", "column", "is_always"), list(_cells()))
def test_cell(simulator, row, column, is_always):
    cell = getattr(row, column.cells)
    scene = _scene(simulator, row)
    _strike(simulator, row, column, is_always=is_always)
    answer, error = _outcome(column, scene)
    arrived = [request for request in simulator.requests if request.path == column.path]

    if cell.error is None or (cell.recovers and not is_always):
        assert error is None
        assert answer == column.answer
        assert "".join(scene.seen) == (SAID if column.shows_tokens else "")
    else:
        assert type(error) is cell.error
        assert getattr(error, "limit", None) == cell.limit
        assert cell.partial.startswith(error.partial_text)
        assert not cell.is_exact or error.partial_text == cell.partial
        # What was seen is what is told, each token once.
        assert "".join(scene.seen) == (error.partial_text if column.shows_tokens else "")
    assert len(arrived) == cell.requests
    _assert_nothing_is_left(simulator, column, scene)


def _scene(simulator, row):
    simulator.reply(SAID, times=None)
    settings = {"max_attempts": 2, "min_retry_delay": 0, "max_concurrency": 1, "max_wait": 5}
    return Scene({"host": simulator.url, "timeout": row.timeout, **settings})


def _strike(simulator, row, column, *, is_always):
    details = row.details if column.cells == "chat" or row.embed_details is None else row.embed_details
    if row.fault == "refuse":
        simulator.fault("refuse")
    else:
        simulator.fault(row.fault, path=column.path, times=None if is_always else 1, **details)


def _outcome(column, scene):
    try:
        return column.call(scene), None
    except OllamaError as error:
        return None, error


def _assert_nothing_is_left(simulator, column, scene):
    """No connection in use, no slot, no run, no thread; and the next call of the same driver works."""
    (driver,) = scene.drivers
    slots = slots_of(simulator.url)
    assert (slots.under_way, slots.waiting) == (0, 0)
    assert driver._running._runs == set()
    pool = driver.connection._session._transport._pool
    assert all(connection.is_idle() for connection in pool.connections)
    for thread in threading.enumerate():
        if thread.name.startswith("griptape-ollama"):
            thread.join(5)
            assert not thread.is_alive(), thread.name
    simulator.clear_faults()
    driver.timeout = None
    scene.seen.clear()
    assert column.call(scene) == column.answer
    assert "".join(scene.seen) == (SAID if column.shows_tokens else "")
