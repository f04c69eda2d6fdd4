"""Everything that can go wrong, as a tree by what the caller can do about it.

OllamaError
├─ OllamaConnectionError
├─ OllamaTimeoutError (also a TimeoutError)
│  └─ OllamaSlotError
├─ OllamaResponseError
│  ├─ OllamaModelNotFoundError
│  ├─ OllamaAuthError
│  ├─ OllamaQuotaError
│  ├─ OllamaBusyError
│  ├─ OllamaGatewayError (also an OllamaConnectionError)
│  └─ OllamaContextError
├─ OllamaStreamError
├─ OllamaEmbeddingError
├─ OllamaCancelledError
├─ OllamaDiskError
└─ OllamaContentError (also a ValueError)

All of them survive pickling: a message as the only positional argument, attributes as keywords with defaults. The
text of each is one line, whatever the server sent: control characters stand in it as escapes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from griptape_ollama.escaping import readable


class OllamaError(Exception):
    """The base of every error of this package.

    Attributes:
        host: Address of the server, without user and password.
        model: Name of the model that was asked for.
        partial_text: What the model had written before the failure; empty where it had written nothing.
    """

    def __init__(
        self, message: str = "", *, host: str | None = None, model: str | None = None, partial_text: str = ""
    ) -> None:
        super().__init__(readable(message))
        self.host = host
        self.model = model
        self.partial_text = partial_text


class OllamaConnectionError(OllamaError):
    """Nothing answered, or the connection broke before any output.

    Attributes:
        refused: Whether nothing listens at the address, or its name is unknown. Trying again at once cannot help.
        stale: Whether it was a kept connection that broke silently, as when the server closes an idle one just
            when it is used again. Trying again at once helps.
        redirected: Whether the server, or a gateway, redirected the request, as to a login.
    """

    def __init__(
        self,
        message: str = "",
        *,
        host: str | None = None,
        model: str | None = None,
        partial_text: str = "",
        refused: bool = False,
        stale: bool = False,
        redirected: bool = False,
    ) -> None:
        super().__init__(message, host=host, model=model, partial_text=partial_text)
        self.refused = refused
        self.stale = stale
        self.redirected = redirected


class OllamaTimeoutError(OllamaError, TimeoutError):
    """A limit was reached.

    Attributes:
        limit: Name of the limit: `connect`, `first_token`, `between_tokens`, `total` or `slot`.
        seconds: Length of the limit.
    """

    def __init__(
        self,
        message: str = "",
        *,
        host: str | None = None,
        model: str | None = None,
        partial_text: str = "",
        limit: str = "",
        seconds: float | None = None,
    ) -> None:
        super().__init__(message, host=host, model=model, partial_text=partial_text)
        self.limit = limit
        self.seconds = seconds


class OllamaSlotError(OllamaTimeoutError):
    """No slot of `max_concurrency`, or of a client's own connection pool, became free in time. Nothing was sent."""


class OllamaResponseError(OllamaError):
    """The server refused the request.

    Attributes:
        status: HTTP status; None when the error came as a line inside a reply that had begun with status 200.
        server_message: The server's message, unwrapped where it was JSON inside a string.
        method: HTTP method of the request.
        path: Path of the request, for example `/api/chat`.
        retry_after: Seconds that the server asked to wait, from the Retry-After header.
        permanent: Whether the same request would fail again.
    """

    def __init__(
        self,
        message: str = "",
        *,
        host: str | None = None,
        model: str | None = None,
        partial_text: str = "",
        status: int | None = None,
        server_message: str = "",
        method: str = "",
        path: str = "",
        retry_after: float | None = None,
        permanent: bool = True,
    ) -> None:
        super().__init__(message, host=host, model=model, partial_text=partial_text)
        self.status = status
        self.server_message = server_message
        self.method = method
        self.path = path
        self.retry_after = retry_after
        self.permanent = permanent


class OllamaModelNotFoundError(OllamaResponseError):
    """The server has no such model; the text names the pull command."""


class OllamaAuthError(OllamaResponseError):
    """The key is missing or wrong, or the server does not accept requests from here."""


class OllamaQuotaError(OllamaResponseError):
    """A quota is used up. Waiting a little does not help."""


class OllamaBusyError(OllamaResponseError):
    """The server has no free slot. Waiting a little helps."""


class OllamaGatewayError(OllamaResponseError, OllamaConnectionError):
    """A gateway in front of the server answered in its place: it does not reach it, or did not wait long enough."""


class OllamaContextError(OllamaResponseError):
    """The prompt does not fit into the context window.

    Attributes:
        tokens_wanted: Tokens of the prompt, where the server or an estimate gives them.
        tokens_available: Tokens of the window, likewise.
    """

    def __init__(
        self,
        message: str = "",
        *,
        host: str | None = None,
        model: str | None = None,
        partial_text: str = "",
        status: int | None = None,
        server_message: str = "",
        method: str = "",
        path: str = "",
        retry_after: float | None = None,
        permanent: bool = True,
        tokens_wanted: int | None = None,
        tokens_available: int | None = None,
    ) -> None:
        super().__init__(
            message,
            host=host,
            model=model,
            partial_text=partial_text,
            status=status,
            server_message=server_message,
            method=method,
            path=path,
            retry_after=retry_after,
            permanent=permanent,
        )
        self.tokens_wanted = tokens_wanted
        self.tokens_available = tokens_available


class OllamaStreamError(OllamaError):
    """A reply broke after it had begun, or was not a reply that Ollama gives.

    Attributes:
        retryable: Whether another try may give a whole reply.
        server_message: The server's message in an error line; empty where the reply just broke off.
    """

    def __init__(
        self,
        message: str = "",
        *,
        host: str | None = None,
        model: str | None = None,
        partial_text: str = "",
        retryable: bool = False,
        server_message: str = "",
    ) -> None:
        super().__init__(message, host=host, model=model, partial_text=partial_text)
        self.retryable = retryable
        self.server_message = server_message


class OllamaEmbeddingError(OllamaError):
    """Some of many texts have no vector, and the rest were embedded; or the name came to mean another model.

    Attributes:
        index: Place of the first text without a vector among those that were given, from 0.
        failures: Why there is no vector, by the place of the text.
        vectors: The vectors of all texts, with None for those that have none; empty where they were given before.
    """

    def __init__(
        self,
        message: str = "",
        *,
        host: str | None = None,
        model: str | None = None,
        partial_text: str = "",
        index: int = 0,
        failures: Mapping[int, OllamaError] | None = None,
        vectors: Sequence[Any] = (),
    ) -> None:
        super().__init__(message, host=host, model=model, partial_text=partial_text)
        self.index = index
        self.failures = dict(failures or {})
        self.vectors = vectors


class OllamaCancelledError(OllamaError):
    """The call was cancelled."""


class OllamaDiskError(OllamaError):
    """The server's disk has no space for a model. What was there before is still there.

    Attributes:
        bytes_needed: Bytes that are still missing of the model; None if the server ran out of space by itself.
        bytes_free: Bytes that were free; None likewise.
    """

    def __init__(
        self,
        message: str = "",
        *,
        host: str | None = None,
        model: str | None = None,
        partial_text: str = "",
        bytes_needed: int | None = None,
        bytes_free: int | None = None,
    ) -> None:
        super().__init__(message, host=host, model=model, partial_text=partial_text)
        self.bytes_needed = bytes_needed
        self.bytes_free = bytes_free


class OllamaContentError(OllamaError, ValueError):
    """Content or a setting that Ollama cannot carry. Nothing was sent."""
