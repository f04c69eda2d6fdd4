import asyncio
import warnings

import pytest

from griptape_ollama import OllamaBlockingWarning
from griptape_ollama.transport.async_bridge import BackgroundIterator, warn_if_blocking


def _in_loop(*calls):
    async def main():
        for call in calls:
            call()

    asyncio.run(main())


def test_a_blocking_call_in_an_event_loop_warns_once_and_names_the_caller():
    warn_if_blocking()  # no event loop runs
    with pytest.warns(OllamaBlockingWarning, match="Await arun") as said:
        _in_loop(warn_if_blocking, warn_if_blocking)
    assert [each.filename for each in said] == [__file__]


def test_a_plain_loop_over_a_background_iterator_warns_too():
    feed = BackgroundIterator(lambda put: put(1), name="feed-under-test")
    with pytest.warns(OllamaBlockingWarning):
        _in_loop(lambda: list(feed))


def test_where_warnings_are_errors_each_call_raises():
    for _ in range(2):
        with pytest.raises(OllamaBlockingWarning):
            _in_loop(warn_if_blocking)


def test_the_warning_can_be_ignored():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", OllamaBlockingWarning)
        _in_loop(warn_if_blocking)
