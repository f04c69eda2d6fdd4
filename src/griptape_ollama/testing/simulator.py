"""The simulator: start and stop, script, faults, and the record of requests."""

import atexit
import difflib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from types import TracebackType
from typing import Any

from aiohttp import web

from griptape_ollama.testing.clock import Clock
from griptape_ollama.testing.endpoints.routes import ROUTES, handle
from griptape_ollama.testing.faults import Fault, FaultKind, FaultRule, FaultRules
from griptape_ollama.testing.models.load_settings import Load
from griptape_ollama.testing.models.memory import ModelMemory, ServerLimits
from griptape_ollama.testing.models.registry import DEFAULT_LIBRARY, ModelRegistry
from griptape_ollama.testing.models.simulated_model import DEFAULT_MODELS, CountTokens, InstalledModels, SimulatedModel
from griptape_ollama.testing.request_context import ServerState
from griptape_ollama.testing.request_log import RecordedRequest, RequestLog, UnexpectedRequestError
from griptape_ollama.testing.script import GENERATION_PATHS, Reply, Script, script_entry
from griptape_ollama.testing.server_thread import ServerThread

VERSION = "0.33.0-simulator"
"""Version that a simulator reports: the server it was checked against."""


class OllamaSimulator:
    """A server on a free loopback port that implements Ollama's protocol without a model.

    It sends the replies that a test scripts (`reply`), and otherwise plausible ones that are always the same: it calls
    tools that fit the prompt, reports their results, repeats facts of the conversation, and fills JSON schemas.

    ```python
    with OllamaSimulator() as simulator:
        simulator.reply("Hello")
        agent = Agent(prompt_driver=OllamaPromptDriver(model="simulator", host=simulator.url))
    ```

    Args:
        models: Models to serve; by default `simulator` (chat, tools) and `simulator-embed`.
        plausible: Whether to answer requests without a scripted reply. If not, such a chat request gets status 400,
            and `stop` raises an `UnexpectedRequestError`.
        tokens_per_second: Speed of streamed replies, None for as fast as possible.
        context_length: Default context window in tokens (`OLLAMA_CONTEXT_LENGTH`).
        version: Version that `/api/version` reports. From `"0.34"` on, replies also contain the number of cached
            tokens of the prompt (`prompt_eval_cached_count`).
        port: Port to listen on, 0 for a free one.
        library: Models that can be pulled, None for a registry that does not answer. By default a few invented ones.
        memory: Bytes for loaded models, None for no limit. Idle models are evicted for new ones.
        max_loaded_models: Models in memory at a time.
        num_parallel: Requests that one model answers at a time; further ones wait without response headers.
        max_queue: Requests that may wait for a load; further ones get status 503.
        time_scale: Simulated seconds per real one, for loads, keep_alive, token speed, pulls and delays. With 0 time
            stands still until `advance`.
        keep_requests: Number of the latest requests to record, None for all.
        count_tokens: Function that counts the tokens of a text, for models without one of their own, for example
            `lambda text: len(tokenizer.encode(text))`. By default four characters are a token.
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
        self._log = RequestLog(keep_requests)
        self._script = Script()
        self._rules = FaultRules()
        self._clock = Clock(time_scale)
        limits = ServerLimits(
            memory=memory, max_loaded_models=max_loaded_models, num_parallel=num_parallel, max_queue=max_queue
        )
        self._memory = ModelMemory(self._clock, limits, self._log.add_load)
        self._port = port
        self._thread: ServerThread | None = None
        self._state = ServerState(
            installed=InstalledModels(_with_counter(DEFAULT_MODELS if models is None else models, count_tokens)),
            library=ModelRegistry(library if library is None else _with_counter(library, count_tokens)),
            memory=self._memory,
            clock=self._clock,
            script=self._script,
            rules=self._rules,
            log=self._log,
            version=version,
            context_length=context_length,
            plausible=plausible,
            line_delay=1 / tokens_per_second if tokens_per_second else 0,
            close_port=self._close_port,
        )

    def __enter__(self) -> "OllamaSimulator":  # noqa: PYI034  Self is not in Python 3.10
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is None:
            self.stop()
        else:
            # The error of the block comes before requests that do not fit the script.
            self.close()

    def start(self) -> "OllamaSimulator":
        """Open the port, or a free one that differs each time, and start to serve.

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
        fault = self._rules.next_port_closure()
        if fault is not None:
            thread.run(self._close_port(fault))
        return self

    def stop(self) -> None:
        """Drop all connections and close the port; the record of requests stays.

        Raises:
            UnexpectedRequestError: See `verify`.
        """
        was_serving = self._thread is not None
        self.close()
        if was_serving:
            self.verify()

    def close(self) -> None:
        """Stop without reporting requests that do not fit the script."""
        thread, self._thread = self._thread, None
        if thread is None:
            return
        self._state.is_stopping = True
        thread.stop()
        self._memory.clear()
        atexit.unregister(self.close)

    def verify(self) -> None:
        """Check that every request so far fits the script.

        Raises:
            UnexpectedRequestError: One differs from the `expect` of its reply, or its reply function failed, or, with
                `plausible=False`, there was no reply for it.
        """
        unexpected = self._log.pop_unexpected()
        if unexpected:
            raise UnexpectedRequestError(unexpected)

    def reset(self) -> None:
        """Clear the script, the faults, the loaded models and all records."""
        self._script.clear()
        self.clear_faults()
        self._memory.clear()
        self._log.clear()

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
        """Script a reply; replies are sent first in, first out.

        Args:
            answer: A text, a `Reply`, or a function that returns one for the request. Functions run in a thread of
                their own and may block. If one raises, or returns anything else, the request gets status 400, and
                `verify` and `stop` raise an `UnexpectedRequestError` with the reason.
            path: Path that it is for, None for any.
            model: Model that it is for, None for any.
            times: Number of requests that it answers, None for all from now on.
            expect: Fields that the body of the request must have, with their values. A request that differs gets
                status 400 with a diff, and `verify` and `stop` raise an `UnexpectedRequestError` with it.
            **fields: Fields of a `Reply`, for example `text="Hello", cut=1`.

        Raises:
            TypeError: A field is unknown or of a wrong type, or fields come with a `Reply` or a function.
            ValueError: Fields exclude each other, or there is no such model, or it cannot generate such a reply.
        """
        _check_path(path)
        entry = script_entry(answer, fields, path=path, model=model, times=times, expect=expect)
        if entry.checks_request:
            self._check_model(model)
        # A function for any path may return a body for another endpoint.
        if entry.answer.is_spoken if isinstance(entry.answer, Reply) else path in GENERATION_PATHS:
            self._check_generates(model)
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
        """Add a fault to responses, scripted or not.

        Args:
            kind: `"refuse"` (connections, for `seconds` or until `clear_faults`), `"reset"` (`at="before_headers"` or
                `"after_headers"`, or `after` n lines), `"cut"` (close without an end, `after` n lines), both also
                `mid_line`; `"no_done"`, `"error_line"` (`after`, `error`), `"dead_runner"` (`after`; the model is
                unloaded), `"status"` (`status`, `error`, `headers`), `"slow_headers"` and
                `"slow_tokens"` (`seconds`), `"bytes"` (one at a time), `"garbage"` (`after`, `data`), `"huge_line"`
                (`after`, `size`), `"content_type"` (`content_type`), `"redirect"` (`location`, `status`).
            n: The first affected request, counted from now.
            times: Number of affected requests, None for all from there on.
            path: Path that it is for, None for any.
            model: Model that it is for, None for any.
            probability: Probability that each request is affected.
            seed: Seed of the random numbers.
            **details: Details of the kind.

        Returns:
            The rule; its `hits` are the number of affected requests.

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
            self._thread.run(self._close_port(fault))
        return rule

    def clear_faults(self) -> None:
        """Remove all faults, and open the port again."""
        self._rules.clear()
        if self._thread is not None:
            self._thread.run(self._thread.open_port())

    def advance(self, seconds: float) -> None:
        """Move simulated time forward: models expire, loads and pulls go on, delays end."""
        self._clock.advance(seconds)

    def wait_for_sleeper(self, n: int = 1, timeout: float = 5.0) -> None:
        """Wait until n requests wait for simulated time to pass, which `advance` moves forward.

        Raises:
            TimeoutError: There are fewer.
        """
        if not self._clock.wait_for_sleepers(n, timeout):
            raise TimeoutError(f"{self._clock.sleepers} of {n} requests wait for time to pass after {timeout:g} s")

    @property
    def time(self) -> float:
        """Simulated seconds since the simulator was built."""
        return self._clock.seconds

    @property
    def url(self) -> str:
        """Address for drivers, for example `http://127.0.0.1:40123`."""
        if self._thread is None:
            raise RuntimeError("the simulator is not serving: use `with simulator:` or call start() first")
        return f"http://127.0.0.1:{self._thread.port}"

    @property
    def host(self) -> str:
        """Same as `url`, under the name that drivers use."""
        return self.url

    @property
    def is_serving(self) -> bool:
        """Whether it is serving."""
        return self._thread is not None

    @property
    def requests(self) -> list[RecordedRequest]:
        """Requests so far, in order of arrival."""
        return self._log.requests

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
        """Times of disconnects before the response was complete, in seconds of `time.monotonic()`."""
        return self._log.disconnects

    @property
    def unused_replies(self) -> int:
        """Number of scripted replies that no request has used yet."""
        return len(self._script)

    @property
    def models(self) -> list[str]:
        """Names of the models that are installed now."""
        return [model.full_name for model in self._state.installed]

    def first_model(self, capability: str) -> str:
        """Return the name of the first installed model with a capability, for example `"completion"`.

        Raises:
            LookupError: No model has it.
        """
        for model in self._state.installed:
            if model.can(capability):
                return model.full_name
        raise LookupError(f"none of the simulator's models ({', '.join(self.models)}) can do {capability!r}")

    @property
    def loaded_models(self) -> list[str]:
        """Names of the loaded models, in the order in which they were loaded."""
        return self._memory.loaded_names()

    @property
    def loads(self) -> list[Load]:
        """Loads so far."""
        return self._log.loads

    @property
    def reloads(self) -> list[Load]:
        """Loads of models that were in memory with another window or other settings."""
        return [load for load in self.loads if load.is_reload]

    @property
    def evaluated_tokens(self) -> int:
        """Prompt tokens so far that were not in the prompt cache."""
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
        return self._log.wait_for_request(n, timeout, path)

    def wait_for_disconnect(self, timeout: float = 5.0, *, n: int = 1) -> float:
        """Wait until a client disconnects before the response is complete.

        Args:
            timeout: Seconds to wait at most.
            n: Which disconnect, counted from 1 since the start or the last `reset`.

        Returns:
            Time of the disconnect in seconds of `time.monotonic()`.

        Raises:
            TimeoutError: There was no such disconnect.
        """
        return self._log.wait_for_disconnect(n, timeout)

    def _check_model(self, model: str | None) -> None:
        if model is None or self._state.installed.get(model) or self._state.library.has(model):
            return
        names = ", ".join(one.full_name for one in self._state.installed)
        raise ValueError(f"model={model!r}: the simulator has no such model, only {names}")

    def _check_generates(self, model: str | None) -> None:
        found = self._state.installed.get(model) if model is not None else None
        if found is not None and not found.can("completion"):
            raise ValueError(f"model={model!r} does not generate text: it can do {', '.join(found.capabilities)} only")

    async def _close_port(self, fault: Fault) -> None:
        seconds = fault.seconds
        if self._thread is not None:
            await self._thread.close_port(None if seconds is None else lambda: self._clock.sleep(seconds))


def _with_counter(models: Sequence[SimulatedModel], count: CountTokens | None) -> list[SimulatedModel]:
    """Return the models, with a counter for those that have none."""
    return [model if model.count_tokens else replace(model, count_tokens=count) for model in models]


def _check_path(path: str | None) -> None:
    if path is not None and not path.startswith("/"):
        raise ValueError(f"path={path!r}: a path begins with a slash, as in '/api/chat'")


def _is_served(path: str) -> bool:
    return path in ROUTES or any(len(route) > 1 and route.endswith("/") and path.startswith(route) for route in ROUTES)
