"""A Griptape configuration whose drivers run on Ollama and on this machine."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar, cast

import attrs
from attrs import Attribute, Factory, define, field
from griptape.configs.drivers import DriversConfig
from griptape.drivers.embedding import BaseEmbeddingDriver
from griptape.drivers.prompt import BasePromptDriver
from griptape.drivers.vector import BaseVectorStoreDriver
from griptape.drivers.vector.local import LocalVectorStoreDriver

from griptape_ollama.context.overflow import to_on_overflow
from griptape_ollama.drivers.embedding import OllamaEmbeddingDriver
from griptape_ollama.drivers.prompt import OllamaPromptDriver
from griptape_ollama.drivers.settings import to_max_num_ctx, to_num_ctx
from griptape_ollama.models.validators import to_host, to_limits, to_max_concurrency, to_max_wait
from griptape_ollama.transport.concurrency import DEFAULT_MAX_WAIT
from griptape_ollama.transport.timeouts import OllamaTimeout

T = TypeVar("T")

_NOT_COPIED = ("_created", "_creating")


def _stored_as_given(_: type, fields: list[Attribute[Any]]) -> list[Attribute[Any]]:
    """Store the drivers that were given, and not those that were created in their place."""

    def stored(name: str) -> dict[str, Any]:
        return {"serializable": True, "serialization_key": name, "deserialization_key": name[1:]}

    return [
        each.evolve(metadata=stored(each.name)) if each.name.startswith("_") and each.name.endswith("_driver") else each
        for each in fields
    ]


@define(kw_only=True, field_transformer=_stored_as_given)
class OllamaDriversConfig(DriversConfig):
    """Gives every Griptape component drivers that run on Ollama and on this machine, and none that need the cloud.

    ```python
    Defaults.drivers_config = OllamaDriversConfig(prompt_model="qwen3", embedding_model="nomic-embed-text")
    ```

    Each driver can be given in place of the one that would be created: `prompt_driver`, `embedding_driver`,
    `vector_store_driver` and the rest of Griptape's DriversConfig. Without a model, and for what Ollama does not do
    (images, speech), there are Griptape's dummies, which raise an error when they are used.

    Attributes:
        prompt_model: Model of the prompt driver.
        embedding_model: Model of the embedding driver, which the vector store uses, too.
        host: Address of the server. `OLLAMA_HOST` is used when this is not set.
        api_key: Sent as a bearer token. `OLLAMA_API_KEY` goes to ollama.com only.
        headers: Headers to add to each request.
        client: An `ollama.Client` to use in place of one created from `host`. The caller closes it.
        timeout: Limits in seconds, as for the drivers.
        max_concurrency: How many requests both drivers together may have under way at the same time; None for no limit.
        max_wait: Longest wait for a slot, in seconds.
        num_ctx: Context window of the prompt driver: `"auto"`, a number of tokens, or None.
        max_num_ctx: Largest window, in tokens, that `"auto"` grows to.
        on_overflow: What the prompt driver does with a prompt that does not fit: `"warn"`, `"error"` or `"trim"`.
    """

    prompt_model: str | None = field(default=None, metadata={"serializable": True})
    embedding_model: str | None = field(default=None, metadata={"serializable": True})
    host: str | None = field(default=None, converter=to_host, metadata={"serializable": True})
    api_key: str | None = field(default=None, repr=False)
    headers: Mapping[str, str] | Callable[[], Mapping[str, str]] | None = field(default=None, repr=False)
    client: Any = field(default=None, repr=False)
    timeout: OllamaTimeout | None = field(default=None, converter=to_limits, metadata={"serializable": True})
    max_concurrency: int | None = field(default=None, converter=to_max_concurrency, metadata={"serializable": True})
    max_wait: float | None = field(default=DEFAULT_MAX_WAIT, converter=to_max_wait, metadata={"serializable": True})
    num_ctx: Any | None = field(default="auto", converter=to_num_ctx, metadata={"serializable": True})
    max_num_ctx: int | None = field(default=None, converter=to_max_num_ctx, metadata={"serializable": True})
    on_overflow: str = field(default="warn", converter=to_on_overflow, metadata={"serializable": True})
    # Stored, since Griptape would otherwise look for the class in its own modules.
    module_name: str = field(
        default=Factory(lambda self: type(self).__module__, takes_self=True), metadata={"serializable": True}
    )
    # Apart from the fields for drivers that were given: a created driver is created again, not stored.
    _created: dict[str, Any] = field(factory=dict[str, Any], init=False, repr=False, eq=False)
    _creating: Any = field(factory=threading.RLock, init=False, repr=False, eq=False)

    def __getstate__(self) -> dict[str, Any]:
        """Return the settings and the drivers that were given; a copy creates the rest again."""
        return {
            each.name: getattr(self, each.name) for each in attrs.fields(type(self)) if each.name not in _NOT_COPIED
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore the settings."""
        for name, value in state.items():
            setattr(self, name, value)
        self._created = {}
        self._creating = threading.RLock()

    @property
    def prompt_driver(self) -> BasePromptDriver:
        """The prompt driver."""
        if self._prompt_driver is None and self.prompt_model is None:
            return super().prompt_driver
        return self._given_or_created("prompt_driver", self._new_prompt_driver)

    @prompt_driver.setter
    def prompt_driver(self, driver: BasePromptDriver | None) -> None:  # pyright: ignore[reportIncompatibleVariableOverride]
        self._prompt_driver = driver

    @property
    def embedding_driver(self) -> BaseEmbeddingDriver:
        """The embedding driver."""
        if self._embedding_driver is None and self.embedding_model is None:
            return super().embedding_driver
        return self._given_or_created("embedding_driver", self._new_embedding_driver)

    @embedding_driver.setter
    def embedding_driver(self, driver: BaseEmbeddingDriver | None) -> None:  # pyright: ignore[reportIncompatibleVariableOverride]
        self._embedding_driver = driver

    @property
    def vector_store_driver(self) -> BaseVectorStoreDriver:
        """A vector store in memory, with as many threads as texts fit into one request."""
        return self._given_or_created("vector_store_driver", self._new_vector_store_driver)

    @vector_store_driver.setter
    def vector_store_driver(self, driver: BaseVectorStoreDriver | None) -> None:  # pyright: ignore[reportIncompatibleVariableOverride]
        self._vector_store_driver = driver

    def _new_prompt_driver(self) -> OllamaPromptDriver:
        window = {name: getattr(self, name) for name in ("num_ctx", "max_num_ctx", "on_overflow")}
        return OllamaPromptDriver(model=cast("str", self.prompt_model), **window, **self._server())

    def _new_embedding_driver(self) -> OllamaEmbeddingDriver:
        return OllamaEmbeddingDriver(model=cast("str", self.embedding_model), **self._server())

    def _new_vector_store_driver(self) -> LocalVectorStoreDriver:
        driver = self.embedding_driver
        threads = driver.batch_size if isinstance(driver, OllamaEmbeddingDriver) else None
        return LocalVectorStoreDriver(
            embedding_driver=driver,
            create_futures_executor=functools.partial(ThreadPoolExecutor, max_workers=threads),
        )

    def _server(self) -> dict[str, Any]:
        names = ("host", "api_key", "headers", "client", "timeout", "max_concurrency", "max_wait")
        return {name: getattr(self, name) for name in names}

    def _given_or_created(self, name: str, create: Callable[[], T]) -> T:
        given = getattr(self, f"_{name}")
        if given is not None:  # a store may be false while it is empty
            return given
        with self._creating:
            if name not in self._created:
                self._created[name] = create()
            return self._created[name]
