"""The simulator itself: its life, its script, and what it saw."""

import asyncio
import atexit
import difflib
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from types import TracebackType
from typing import Any

from aiohttp import web

from griptape_ollama.testing.clock import Clock
from griptape_ollama.testing.endpoints.routes import ROUTES, handle
from griptape_ollama.testing.faults import Fault, FaultKind, FaultRule, Rules
from griptape_ollama.testing.models.load_settings import Load
from griptape_ollama.testing.models.memory import Limits, Memory
from griptape_ollama.testing.models.registry import DEFAULT_LIBRARY, Library
from griptape_ollama.testing.models.simulated_model import DEFAULT_MODELS, Catalogue, CountTokens, SimulatedModel
from griptape_ollama.testing.request_context import State
from griptape_ollama.testing.request_log import Journal, RecordedRequest, UnexpectedRequestError
from griptape_ollama.testing.script import Entry, Reply, Script
from griptape_ollama.testing.server_thread import ServerThread

VERSION = "0.33.0-simulator"
"""Version that a simulator reports: the server it was checked against."""

_SPEAKING_PATHS = ("/api/chat", "/api/generate", "/v1/chat/completions")


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
        plausible: Whether to answer what is not scripted. If not, such a chat request gets status 400, and `stop`
            raises an `UnexpectedRequestError`.
        tokens_per_second: Pace of streamed replies, None for as fast as possible.
        context_length: Window in tokens of a model for which nobody asks another (`OLLAMA_CONTEXT_LENGTH`).
        version: Version that `/api/version` reports. From `"0.34"` on, replies also tell how many tokens of the prompt
            were cached (`prompt_eval_cached_count`).
        port: Port to listen on, 0 for a free one.
        library: Models that can be pulled, None for a registry that does not answer. By default a few made-up ones.
        memory: Bytes for loaded models, None for any number: those that are idle make room for others.
        max_loaded_models: Models in memory at a time.
        num_parallel: Requests that one model answers at a time; the others wait, and get no headers before their turn.
        max_queue: Requests that may wait for a model to be loaded; the others get status 503.
        time_scale: Simulated seconds per real one, for loading, keep_alive, pace, pulls and delays. With 0 time stands
            still until `advance`.
        keep_requests: How many of the latest requests are remembered, None for all.
        count_tokens: Counts the tokens of a text for all models that have no counter of their own, for example
            `lambda text: len(tokenizer.encode(text))`. By default about four characters are a token.
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
        library: Sequence[SimulatedModel] | None = DEFAULT_LIBRARY,
        memory: int | None = None,
        max_loaded_models: int = 3,
        num_parallel: int = 1,
        max_queue: int = 512,
        time_scale: float = 1.0,
        keep_requests: int | None = None,
        count_tokens: CountTokens | None = None,
    ) -> None:
        if tokens_per_second is not None and tokens_per_second <= 0:
            raise ValueError(f"tokens_per_second={tokens_per_second!r}: use a positive number, or None for no limit")
        if context_length < 1:
            raise ValueError(f"context_length={context_length!r}: a window has at least one token")
        if keep_requests is not None and keep_requests < 1:
            raise ValueError(f"keep_requests={keep_requests!r}: use a number from 1, or None for all")
        self._journal = Journal(keep_requests)
        self._script = Script()
        self._rules = Rules()
        self._clock = Clock(time_scale)
        limits = Limits(
            memory=memory, max_loaded_models=max_loaded_models, num_parallel=num_parallel, max_queue=max_queue
        )
        self._memory = Memory(self._clock, limits, self._journal.add_load)
        self._reopening: set[asyncio.Task[None]] = set()
        self._port = port
        self._thread: ServerThread | None = None
        self._state = State(
            catalogue=Catalogue(_counting(DEFAULT_MODELS if models is None else models, count_tokens)),
            library=Library(library if library is None else _counting(library, count_tokens)),
            memory=self._memory,
            clock=self._clock,
            script=self._script,
            rules=self._rules,
            journal=self._journal,
            version=version,
            context_length=context_length,
            plausible=plausible,
            line_delay=1 / tokens_per_second if tokens_per_second else 0,
            refuse=self._refuse,
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
            self.close()

    def start(self) -> "OllamaSimulator":
        """Open the port and start to serve: `port`, or else a free one, which is another each time.

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
        atexit.register(self.close)
        refusal = self._rules.closes_next()
        if refusal is not None:
            thread.run(self._refuse(refusal))
        return self

    def stop(self) -> None:
        """Drop all connections and close the port; what was recorded stays.

        Raises:
            UnexpectedRequestError: See `verify`.
        """
        was_serving = self._thread is not None
        self.close()
        if was_serving:
            self.verify()

    def close(self) -> None:
        """Stop, and leave it at that: what did not fit the script is not reported."""
        thread, self._thread = self._thread, None
        if thread is None:
            return
        self._state.is_stopping = True
        thread.stop()
        self._memory.clear()
        atexit.unregister(self.close)

    def verify(self) -> None:
        """Check that every request so far was one that the test had foreseen.

        Raises:
            UnexpectedRequestError: One was not what the `expect` of its reply says, or the function that was to answer
                it failed, or, with `plausible=False`, there was no reply for it.
        """
        unexpected = self._journal.take_unexpected()
        if unexpected:
            raise UnexpectedRequestError(unexpected)

    def reset(self) -> None:
        """Forget the script, the faults, the loaded models and everything that was recorded."""
        self._script.clear()
        self.clear_faults()
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
        expect: Mapping[str, Any] | None = None,
        **fields: Any,
    ) -> None:
        """Script a reply; replies go out first in, first out.

        Args:
            answer: A text, a `Reply`, or a function that makes one out of the request. Functions run in a thread of
                their own and may block. One that raises, or returns anything else, lets the request get status 400,
                and `verify` and `stop` raise an `UnexpectedRequestError` that says why.
            path: Path that it is for, None for any.
            model: Model that it is for, None for any.
            times: How many requests it answers, None for all from now on.
            expect: Fields that the body of the request has to have, with their values. One that has others gets status
                400 with a diff, and `verify` and `stop` raise an `UnexpectedRequestError` with it.
            **fields: Fields of a `Reply`, for example `text="Hello", cut=1`.

        Raises:
            TypeError: A field is unknown or of a wrong type, or fields come with a `Reply` or a function.
            ValueError: The fields do not go together, or there is no such model, or it cannot say this.
        """
        _check_path(path)
        if inspect.iscoroutinefunction(answer):
            raise TypeError("a reply function runs in a thread: use `def`, not `async def`")
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
            if made.is_spoken and path not in (None, *_SPEAKING_PATHS):
                raise ValueError(
                    f"only {', '.join(_SPEAKING_PATHS)} speak; for {path} use body=, lines=, raw= or status="
                )
        entry = Entry(answer=made, path=path, model=model, times=times, expect=expect)
        if entry.checks_request:
            self._check_model(model)
        # A function for any path may give a body for another endpoint.
        if made.is_spoken if isinstance(made, Reply) else path in _SPEAKING_PATHS:
            self._check_speaker(model)
        self._script.add(entry)

    def fault(
        self,
        kind: FaultKind,
        /,
        *,
        n: int = 1,
        times: int | None = 1,
        path: str | None = "/api/chat",
        model: str | None = None,
        probability: float = 1.0,
        seed: int = 0,
        **details: Any,
    ) -> FaultRule:
        """Let requests go wrong, whatever is scripted for them.

        Args:
            kind: `"refuse"` (connections, for `seconds` or until `clear_faults`), `"reset"` (`at="before_headers"` or
                `"after_headers"`, or `after` n lines), `"cut"` (close without an end, `after` n lines), both also
                `mid_line`; `"no_done"`, `"error_line"` (`after`, `error`), `"dead_runner"` (`after`; the model is to be
                loaded again), `"status"` (`status`, `error`, `headers`), `"slow_headers"` and
                `"slow_tokens"` (`seconds`), `"bytes"` (one at a time), `"garbage"` (`after`, `data`), `"huge_line"`
                (`after`, `size`), `"content_type"` (`content_type`), `"redirect"` (`location`, `status`).
            n: The first request that is struck, counted from now.
            times: How many are struck, None for all from there on.
            path: Path that it is for, None for any.
            model: Model that it is for, None for any.
            probability: How likely each request is struck.
            seed: Where the dice begin.
            **details: Details of the kind.

        Returns:
            The rule; its `hits` tell how many requests it struck.

        Raises:
            ValueError: The details do not fit the kind, or there is no such model or path.
        """
        _check_path(path)
        if path is not None and not _is_served(path) and not self._script.has_path(path):
            near = difflib.get_close_matches(path, ROUTES, 1)
            hint = f": do you mean {near[0]!r}?" if near else ""
            raise ValueError(f"path={path!r}: the simulator has no such path, and no reply is scripted for it{hint}")
        self._check_model(model)
        fault = Fault(kind=kind, **details)
        if kind == "refuse":
            if model is not None or probability != 1 or times != 1 or path not in (None, "/api/chat"):
                raise ValueError(
                    "a connection is refused before its request is read: only n= and seconds= can choose it"
                )
            path = None
        rule = FaultRule(fault=fault, n=n, times=times, path=path, model=model, probability=probability, seed=seed)
        self._rules.add(rule)
        if kind == "refuse" and n == 1 and self._thread is not None:
            rule.hits = 1
            self._thread.run(self._refuse(fault))
        return rule

    def clear_faults(self) -> None:
        """Let all go well again from now on."""
        self._rules.clear()
        if self._thread is not None:
            self._thread.run(self._open(self._thread))

    def advance(self, seconds: float) -> None:
        """Let simulated time pass at once: models expire, loads and pulls go on, delays end."""
        self._clock.advance(seconds)

    def wait_for_sleeper(self, n: int = 1, timeout: float = 5.0) -> None:
        """Wait until n requests wait for simulated time to pass, so that `advance` lets them go on.

        Raises:
            TimeoutError: There are fewer.
        """
        if not self._clock.wait_for_sleepers(n, timeout):
            raise TimeoutError(f"{self._clock.sleepers} of {n} requests wait for time to pass after {timeout:g} s")

    @property
    def time(self) -> float:
        """Simulated seconds since the simulator was made."""
        return self._clock.seconds

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
    def models(self) -> list[str]:
        """Names of the models that are installed now."""
        return [model.full_name for model in self._state.catalogue]

    def first_model(self, capability: str) -> str:
        """Return the name of the first installed model that can do something, for example `"completion"`.

        Raises:
            LookupError: None of them can.
        """
        for model in self._state.catalogue:
            if model.can(capability):
                return model.full_name
        raise LookupError(f"none of the simulator's models ({', '.join(self.models)}) can do {capability!r}")

    @property
    def loaded_models(self) -> list[str]:
        """Names of the models that are loaded now, in the order in which they were."""
        return self._memory.names()

    @property
    def loads(self) -> list[Load]:
        """Times that a model was loaded so far."""
        return self._journal.loads

    @property
    def reloads(self) -> list[Load]:
        """Those of them where it was in memory until then, with another window or other settings."""
        return [load for load in self.loads if load.is_reload]

    @property
    def evaluated_tokens(self) -> int:
        """Tokens of prompts so far that the models read because the prompt cache did not have them."""
        return sum(request.outcome.evaluated_tokens or 0 for request in self.requests)

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

    def _check_model(self, model: str | None) -> None:
        if model is None or self._state.catalogue.get(model) or self._state.library.has(model):
            return
        names = ", ".join(one.full_name for one in self._state.catalogue)
        raise ValueError(f"model={model!r}: the simulator has no such model, only {names}")

    def _check_speaker(self, model: str | None) -> None:
        found = self._state.catalogue.get(model) if model is not None else None
        if found is not None and not found.can("completion"):
            raise ValueError(f"model={model!r} does not speak: it can do {', '.join(found.capabilities)} only")

    async def _refuse(self, fault: Fault) -> None:
        thread = self._thread
        if thread is None:
            return
        self._cancel_reopening()
        await thread.close_port()
        if fault.seconds is not None:
            reopening = asyncio.create_task(self._reopen(thread, fault.seconds))
            self._reopening.add(reopening)
            reopening.add_done_callback(self._reopening.discard)

    async def _reopen(self, thread: ServerThread, seconds: float) -> None:
        await self._clock.sleep(seconds)
        # From here on it is not cancelled any more.
        self._reopening.clear()
        await thread.open_port()

    async def _open(self, thread: ServerThread) -> None:
        self._cancel_reopening()
        await thread.open_port()

    def _cancel_reopening(self) -> None:
        """Forget that the port is to open by itself; that was about an earlier fault."""
        for reopening in list(self._reopening):
            reopening.cancel()
        self._reopening.clear()


def _counting(models: Sequence[SimulatedModel], count: CountTokens | None) -> list[SimulatedModel]:
    """Give a counter to the models that have none."""
    return [model if model.count_tokens else replace(model, count_tokens=count) for model in models]


def _check_path(path: str | None) -> None:
    if path is not None and not path.startswith("/"):
        raise ValueError(f"path={path!r}: a path begins with a slash, as in '/api/chat'")


def _is_served(path: str) -> bool:
    return path in ROUTES or any(len(route) > 1 and route.endswith("/") and path.startswith(route) for route in ROUTES)
