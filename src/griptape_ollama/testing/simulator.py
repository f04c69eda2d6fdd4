"""The simulator itself: its life, its script, and what it saw."""

import atexit
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any

from aiohttp import web

from griptape_ollama.testing.journal import Journal, RecordedRequest
from griptape_ollama.testing.memory import Memory
from griptape_ollama.testing.models import DEFAULT_MODELS, Catalogue, SimulatedModel
from griptape_ollama.testing.script import Entry, Reply, Script
from griptape_ollama.testing.server import State, handle
from griptape_ollama.testing.thread import ServerThread

VERSION = "0.33.0-simulator"
"""Version that a simulator reports: the server it was checked against."""


class UnexpectedRequestError(AssertionError):
    """Chat requests came for which nothing was scripted.

    Attributes:
        requests: Those requests.
    """

    def __init__(self, requests: Sequence[RecordedRequest]) -> None:
        self.requests = tuple(requests)
        listed = "\n".join(f"  {number}. {request}" for number, request in enumerate(self.requests, 1))
        super().__init__(f"{len(self.requests)} chat request(s) came for which no reply was scripted:\n{listed}")

    def __reduce__(self) -> tuple[Any, ...]:
        return UnexpectedRequestError, (self.requests,)


class OllamaSimulator:
    """A server on a free loopback port that speaks Ollama's protocol without a model.

    It answers with what a test told it to (`reply`), and otherwise by itself, plausibly and always the same: it
    calls tools that fit the prompt, reports their results, remembers what it was told, and fills JSON schemas.

    ```python
    with OllamaSimulator() as simulator:
        simulator.reply("Hello")
        agent = Agent(prompt_driver=OllamaPromptDriver(model="simulator", host=simulator.url))
    ```

    Args:
        models: Models to serve; by default `simulator` (chat, tools) and `simulator-embed`.
        plausible: Whether to answer what is not scripted. If not, such a chat request gets status 500, and `stop`
            raises an `UnexpectedRequestError`.
        tokens_per_second: Pace of streamed replies, None for as fast as possible.
        context_length: Window in tokens of a model for which nobody asks another.
        version: Version that `/api/version` reports.
        port: Port to listen on, 0 for a free one.
    """

    def __init__(
        self,
        models: Sequence[SimulatedModel] | None = None,
        *,
        plausible: bool = True,
        tokens_per_second: float | None = None,
        context_length: int = 4096,
        version: str = VERSION,
        port: int = 0,
    ) -> None:
        if tokens_per_second is not None and tokens_per_second <= 0:
            raise ValueError(f"tokens_per_second={tokens_per_second!r}: use a positive number, or None for no limit")
        if context_length < 1:
            raise ValueError(f"context_length={context_length!r}: a window has at least one token")
        self._journal = Journal()
        self._script = Script()
        self._memory = Memory()
        self._port = port
        self._thread: ServerThread | None = None
        self._state = State(
            catalogue=Catalogue(DEFAULT_MODELS if models is None else models),
            memory=self._memory,
            script=self._script,
            journal=self._journal,
            version=version,
            context_length=context_length,
            plausible=plausible,
            line_delay=1 / tokens_per_second if tokens_per_second else 0,
        )

    def __enter__(self) -> "OllamaSimulator":  # noqa: PYI034  Self is not in Python 3.10
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is None:
            self.stop()
        else:
            # The error of the block says more than that the script ran out.
            self._end()

    def start(self) -> "OllamaSimulator":
        """Open the port and start to serve.

        Raises:
            RuntimeError: It is serving already.
            OSError: The port is taken.
        """
        if self._thread is not None:
            raise RuntimeError(f"the simulator is already serving at {self.url}")
        self._state.is_stopping = False

        async def handler(request: web.BaseRequest) -> web.StreamResponse:
            return await handle(self._state, request)

        thread = ServerThread(handler, self._port)
        thread.start()
        self._thread = thread
        atexit.register(self._end)
        return self

    def stop(self) -> None:
        """Drop all connections and close the port; what was recorded stays.

        Raises:
            UnexpectedRequestError: With `plausible=False`, requests came for which nothing was scripted.
        """
        was_serving = self._thread is not None
        self._end()
        unexpected = self._journal.unexpected
        if was_serving and unexpected:
            raise UnexpectedRequestError(unexpected)

    def reset(self) -> None:
        """Forget the script, the loaded models and everything that was recorded."""
        self._script.clear()
        self._memory.clear()
        self._journal.clear()

    def reply(
        self,
        answer: str | Reply | Callable[[RecordedRequest], Reply | str] | None = None,
        /,
        *,
        path: str | None = "/api/chat",
        model: str | None = None,
        times: int | None = 1,
        **fields: Any,
    ) -> None:
        """Script a reply; replies go out first in, first out.

        Args:
            answer: A text, a `Reply`, or a function that makes one out of the request. Functions run in a thread of
                their own and may block.
            path: Path that it is for, None for any.
            model: Model that it is for, None for any.
            times: How many requests it answers, None for all from now on.
            **fields: Fields of a `Reply`, for example `text="Hello", cut=1`.

        Raises:
            TypeError: A field is unknown, or fields come with a `Reply` or a function.
            ValueError: The fields do not go together.
        """
        if times is not None and times < 1:
            raise ValueError(f"times={times!r}: use a number from 1, or None for always")
        if isinstance(answer, Reply) or callable(answer):
            if fields:
                raise TypeError(f"fields {sorted(fields)} go into the Reply, not beside it")
            made = answer
        else:
            unknown = fields.keys() - Reply.__dataclass_fields__
            if unknown:
                known = ", ".join(Reply.__dataclass_fields__)
                raise TypeError(f"a reply has no field {', '.join(sorted(unknown))}; it has {known}")
            if answer is not None:
                fields["text"] = answer
            made = Reply(**fields)
            if made.is_spoken and path not in (None, "/api/chat"):
                raise ValueError(f"only /api/chat speaks; for {path} use body=, lines=, raw= or status=")
        self._script.add(Entry(answer=made, path=path, model=model, times=times))

    @property
    def url(self) -> str:
        """Address to give to a driver, for example `http://127.0.0.1:40123`."""
        if self._thread is None:
            raise RuntimeError("the simulator is not serving: use `with simulator:` or call start() first")
        return f"http://127.0.0.1:{self._thread.port}"

    @property
    def host(self) -> str:
        """Same as `url`, under the name that drivers use."""
        return self.url

    @property
    def is_serving(self) -> bool:
        """Whether it answers now."""
        return self._thread is not None

    @property
    def requests(self) -> list[RecordedRequest]:
        """Requests so far, in order of arrival."""
        return self._journal.requests

    @property
    def chats(self) -> list[RecordedRequest]:
        """Chat requests so far."""
        return [request for request in self.requests if request.is_chat]

    @property
    def last_chat(self) -> RecordedRequest:
        """The latest chat request.

        Raises:
            LookupError: There was none.
        """
        chats = self.chats
        if not chats:
            raise LookupError("no chat request came yet")
        return chats[-1]

    @property
    def disconnects(self) -> list[float]:
        """When clients were seen to go before their reply was complete, on the clock of `time.monotonic()`."""
        return self._journal.disconnects

    @property
    def unused_replies(self) -> int:
        """Number of scripted replies that still wait for a request."""
        return len(self._script)

    @property
    def loaded_models(self) -> list[str]:
        """Names of the models that are loaded now, in the order in which they were."""
        return self._memory.names()

    def wait_for_request(self, n: int = 1, timeout: float = 5.0, *, path: str | None = None) -> RecordedRequest:
        """Wait until the n-th request has arrived.

        Args:
            n: Which request, counted from 1 since the start or the last `reset`.
            timeout: Seconds to wait at most.
            path: Count requests for this path only.

        Raises:
            TimeoutError: It did not come.
        """
        return self._journal.wait_for_request(n, timeout, path)

    def wait_for_disconnect(self, timeout: float = 5.0, *, n: int = 1) -> float:
        """Wait until a client was seen to go before its reply was complete.

        Args:
            timeout: Seconds to wait at most.
            n: Which disconnect, counted from 1 since the start or the last `reset`.

        Returns:
            When it was seen, on the clock of `time.monotonic()`.

        Raises:
            TimeoutError: No client went.
        """
        return self._journal.wait_for_disconnect(n, timeout)

    def _end(self) -> None:
        thread, self._thread = self._thread, None
        if thread is None:
            return
        self._state.is_stopping = True
        thread.stop()
        self._memory.clear()
        atexit.unregister(self._end)
