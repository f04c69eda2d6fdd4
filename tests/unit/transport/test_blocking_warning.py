"""Calls that block an event loop."""

import asyncio
import warnings

import pytest

from griptape_ollama import OllamaBlockingWarning
from griptape_ollama.transport import blocking_warning as loops
from griptape_ollama.transport.async_bridge import Feed


@pytest.fixture(autouse=True)
def _nothing_was_said(monkeypatch):
    monkeypatch.setattr(loops._Said, "is_said", False)


def _in_loop(*calls):
    async def main():
        for call in calls:
            call()

    asyncio.run(main())


def test_a_call_that_blocks_is_told_of_once_and_the_caller_is_named():
    loops.note_blocking()  # no event loop runs
    with pytest.warns(OllamaBlockingWarning, match="Await arun") as said:
        _in_loop(loops.note_blocking, loops.note_blocking)
    assert [each.filename for each in said] == [__file__]


def test_so_is_a_loop_over_what_a_thread_makes():
    feed = Feed(lambda put: put(1), name="feed-under-test")
    with pytest.warns(OllamaBlockingWarning):
        _in_loop(lambda: list(feed))


def test_where_warnings_are_errors_each_call_is_one():
    for _ in range(2):
        with pytest.raises(OllamaBlockingWarning):
            _in_loop(loops.note_blocking)


def test_it_can_be_ignored():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", OllamaBlockingWarning)
        _in_loop(loops.note_blocking)
