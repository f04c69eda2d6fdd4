"""Requests for one purpose, such as a pull with the requests before and after it."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from typing import Any

import tenacity

from griptape_ollama.models.inconsistent_servers import inconsistent_servers
from griptape_ollama.models.metadata_cache import ServerMetadata
from griptape_ollama.protocol.stream_kinds import STATUS
from griptape_ollama.transport.call import Call
from griptape_ollama.transport.connection import Connection
from griptape_ollama.transport.retry import retry_policy
from griptape_ollama.transport.run import Run
from griptape_ollama.transport.timeouts import OllamaTimeout


@dataclass(frozen=True)
class OllamaApi:
    """Sends the requests of one run.

    Attributes:
        connection: Connection to the server.
        run: The run of all requests.
        policy: Builds the retry policy. It takes `progress`, as `OllamaServerMixin.retrying` does.
    """

    connection: Connection
    run: Run
    policy: Callable[..., tenacity.Retrying]

    @property
    def host(self) -> str:
        """Address of the server, without user and password."""
        return self.connection.base_url

    @property
    def metadata(self) -> ServerMetadata:
        """Cached metadata of the server."""
        return ServerMetadata(self.connection, self.run)

    def document(self, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Return one JSON object of the server: POST with a body, else GET.

        Raises:
            OllamaError: As `Call.document` does.
        """
        return self.document_and_clock(path, body)[0]

    def document_and_clock(self, path: str, body: Mapping[str, Any] | None = None) -> tuple[dict[str, Any], float]:
        """Return what `document` does, and how many seconds the server's clock is ahead.

        Raises:
            OllamaError: As `Call.document` does.
        """
        call = self._call(path, body, method="GET" if body is None else "POST")
        asked_at = time.monotonic()
        document = call.document()
        inconsistent_servers.observe(self.host, path, call.model, document, asked_at=asked_at, now=time.monotonic())
        return document, call.clock_offset

    def confirm(self, path: str, body: Mapping[str, Any], *, method: str = "POST", model: str | None = None) -> None:
        """Send a change that the server answers with a status only.

        Args:
            path: Path of the request.
            body: Body of the request.
            method: HTTP method.
            model: Model that errors name.

        Raises:
            OllamaError: As `Call.confirm` does.
        """
        self._call(path, body, method=method, model=model).confirm()

    def status_lines(
        self, path: str, body: Mapping[str, Any], limits: OllamaTimeout
    ) -> Generator[dict[str, Any], None, None]:
        """Start a long task, without retries, and yield the lines that report its status.

        Raises:
            OllamaError: As `Call.lines` does.
        """
        once = retry_policy(max_attempts=1)
        return Call(self.connection, path, body, limits=limits, run=self.run, policy=once, kind=STATUS).lines()

    def _call(self, path: str, body: Mapping[str, Any] | None, *, method: str, model: str | None = None) -> Call:
        return Call(self.connection, path, body, method=method, run=self.run, policy=self.policy(), model=model)
