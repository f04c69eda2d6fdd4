"""The embedding driver."""

from __future__ import annotations

import contextlib
import functools
import itertools
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, cast, overload

import attrs
from attrs import define, field
from griptape.artifacts import BaseArtifact, TextArtifact
from griptape.drivers.embedding import BaseEmbeddingDriver
from griptape.drivers.embedding.base_embedding_driver import VectorOperation
from typing_extensions import Self

from griptape_ollama.context.tokens.estimator import text_estimator_of, unlearned_tokens
from griptape_ollama.conversion.request_fields import merge_options
from griptape_ollama.conversion.vectors import Passage, to_embed_request
from griptape_ollama.drivers.embedding_overrides import (
    Single,
    embedded,
    has_own_methods,
    mixed_outcomes,
    passage_of,
    passages_of,
    single_of,
)
from griptape_ollama.drivers.mixins import AsyncEmbeddingMixin, ModelMixin
from griptape_ollama.drivers.settings import (
    to_count,
    to_dimensions,
    to_extra_params,
    to_keep_alive,
    to_load_options,
    to_model,
    to_on_long_text,
    to_options,
    to_prefix,
    to_seconds,
    to_size,
    to_truncate,
)
from griptape_ollama.embeddings.batching import in_batches
from griptape_ollama.embeddings.cache import CachedVectors, CacheInfo, VectorCache
from griptape_ollama.embeddings.coalescing import Coalescer
from griptape_ollama.embeddings.embedder import Outcome
from griptape_ollama.embeddings.model_identity import ModelIdentity
from griptape_ollama.embeddings.prefetch import LEAD_BATCHES, Prefetch, embedding_ahead, take_prefetched
from griptape_ollama.embeddings.results import OnProgress, converted, not_all_embedded, publish_reply, to_matrix
from griptape_ollama.embeddings.spec import (
    BatchLimits,
    EmbeddingSpec,
    check_dimensions,
    resolve_on_long_text,
    window_of,
)
from griptape_ollama.errors import OllamaContentError, OllamaEmbeddingError, OllamaError
from griptape_ollama.models.api import OllamaApi
from griptape_ollama.models.connection_settings import LIVE
from griptape_ollama.models.keep_alive_leases import keep_alive_override
from griptape_ollama.protocol.model_name import model_key
from griptape_ollama.transport.run import Run

if TYPE_CHECKING:
    from griptape_ollama.embeddings.results import Matrix


@define(kw_only=True, slots=False)
class OllamaEmbeddingDriver(AsyncEmbeddingMixin, ModelMixin, BaseEmbeddingDriver):
    """Turns texts into vectors with a model served by Ollama.

    Calls of several threads, as vector stores make them, share requests. A text that is empty or blank has the vector
    of a full stop.

    Attributes:
        model: Model name with its tag, for example `nomic-embed-text:v1.5`.
        dimensions: Size of a vector, for models that support smaller ones; by default the model's own.
        truncate: True lets the server truncate texts that are too long, False makes it refuse them; by default,
            `on_long_text` decides.
        keep_alive: How long the model stays loaded after a request: seconds, a Go duration such as `"10m"`, a
            timedelta, 0 (unload now) or -1 (for good).
        options: Model options by name, such as `num_ctx`.
        extra_params: More fields of the request, unknown ones included; `options` in it are merged.
        on_long_text: What happens to a text that is longer than the model's context window: `"chunk"` (the default)
            embeds it in pieces and returns their mean, weighted by length and scaled to length 1; `"truncate"` lets
            the server truncate it; `"error"` raises OllamaContextError.
        query_prefix: Put before a text that is searched with (`vector_operation="query"`); by default the one on the
            model card of the family, none for unknown models.
        document_prefix: The same for a text that is stored (`vector_operation="upsert"`).
        batch_size: Texts per request, at most.
        batch_characters: Characters per request, at most; a single text may have more.
        gather_seconds: How long a call waits for calls of other threads, after each that comes in; 0 sends each call
            in a request of its own. A thread that is alone never waits.
        cache_bytes: Memory for cached vectors, in bytes; 0 keeps none.
        tokenizer: Counts the tokens of long texts, and its `max_input_tokens` is their window; by default the model's
            window is used, and the server counts.
    """

    model: str = field(converter=to_model, metadata={"serializable": True})
    dimensions: int | None = field(default=None, converter=to_dimensions, metadata={"serializable": True})
    truncate: bool | None = field(default=None, converter=to_truncate, metadata={"serializable": True})
    keep_alive: Any | None = field(default=None, converter=to_keep_alive, metadata={"serializable": True})
    options: dict[str, Any] = field(factory=dict[str, Any], converter=to_options, metadata={"serializable": True})
    extra_params: dict[str, Any] = field(
        factory=dict[str, Any], converter=to_extra_params, metadata={"serializable": True}
    )
    on_long_text: str | None = field(default=None, converter=to_on_long_text, metadata={"serializable": True})
    query_prefix: str | None = field(default=None, converter=to_prefix, metadata={"serializable": True})
    document_prefix: str | None = field(default=None, converter=to_prefix, metadata={"serializable": True})
    batch_size: int = field(default=64, converter=to_count, metadata={"serializable": True})
    batch_characters: int = field(default=200_000, converter=to_count, metadata={"serializable": True})
    gather_seconds: float = field(default=0.01, converter=to_seconds, metadata={"serializable": True})
    cache_bytes: int = field(default=64 * 1024 * 1024, converter=to_size, metadata={"serializable": True})
    _coalescer: Coalescer = field(factory=Coalescer, init=False, repr=False, eq=False, metadata=LIVE)
    _cache: VectorCache = field(factory=VectorCache, init=False, repr=False, eq=False, metadata=LIVE)
    _identity: ModelIdentity = field(factory=ModelIdentity, init=False, repr=False, eq=False, metadata=LIVE)
    _prefetches: list[Prefetch] = field(factory=list[Prefetch], init=False, repr=False, eq=False, metadata=LIVE)

    def __attrs_post_init__(self) -> None:
        """Check that the settings agree, and initialise both bases."""
        resolve_on_long_text(self.on_long_text, self.truncate)
        super().__attrs_post_init__()

    def with_settings(self, **settings: Any) -> Self:
        """Return a driver with other settings, as all drivers do; it shares the cached vectors."""
        twin = super().with_settings(**settings)
        twin._coalescer = self._coalescer  # noqa: SLF001 # its own class
        twin._identity = self._identity  # noqa: SLF001 # its own class
        if "cache_bytes" not in settings:
            twin._cache = self._cache  # noqa: SLF001 # its own class
        return twin

    def load_options(self) -> dict[str, Any]:
        """Return the options that requests of this driver load their model with; a request with others reloads it."""
        options = merge_options(fields={}, options=self.options, extra=self.extra_params.get("options"))
        return to_load_options(options, shifts=self.extra_params.get("shift") is not False)

    @property
    def cache_info(self) -> CacheInfo:
        """Hits and misses of the vector cache, and its size."""
        return self._cache.info()

    def clear_cache(self) -> None:
        """Drop all cached vectors, and accept another model under the same name from now on."""
        self._cache.clear()
        self._identity.forget()

    def embed(self, value: str | BaseArtifact, *, vector_operation: VectorOperation | None = None) -> list[float]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Return the vector of a text, of length 1.

        Args:
            value: A text or a TextArtifact.
            vector_operation: `query` or `upsert`, which decides on the prefix; None for no prefix.

        Raises:
            OllamaContentError: The value is not a text, or a setting cannot be sent.
            OllamaEmbeddingError: The name of the model means another model than in earlier calls.
            OllamaError: Any other kind of it.
        """
        single = single_of(self, value, vector_operation, _OWN)
        if single is not None:
            with self._tracked_run() as run:
                return embedded(self, single, run, in_pieces=self._chunks_long_texts)
        return self._embedded(value, vector_operation)

    def _embedded(self, value: Any, operation: VectorOperation | None) -> list[float]:
        passage = passage_of(self, value, operation)
        with self._tracked_run() as run:
            spec = self._spec(run)
            cached = self._cached(spec, run)
            outcome = take_prefetched(self._prefetches, passage, spec.key, run)
            outcome = cached.get(passage) if outcome is None else outcome
            if outcome is None:
                replied = functools.partial(publish_reply, spec)
                outcome = self._coalescer.embed(passage, spec, run, pause=self.gather_seconds, replied=replied)
                cached.put_all({passage: outcome})
        if isinstance(outcome, OllamaError):
            raise outcome
        return outcome

    def try_embed_chunk(self, chunk: str, *, vector_operation: VectorOperation | None = None) -> list[float]:
        """Return the vector of a text. If a subclass overrides this, all texts go through it, one by one."""
        return self._embedded(chunk, vector_operation)

    def try_embed_artifact(
        self, artifact: BaseArtifact, *, vector_operation: VectorOperation | None = None
    ) -> list[float]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Return the vector of an artifact. If a subclass overrides this, images go through it."""
        if isinstance(artifact, TextArtifact):
            return self.try_embed_chunk(artifact.to_text(), vector_operation=vector_operation)
        return self._embedded(artifact, vector_operation)

    @overload
    def embed_batch(
        self,
        values: Iterable[str | BaseArtifact],
        vector_operation: VectorOperation | None = None,
        *,
        as_numpy: Literal[False] = False,
        on_progress: OnProgress | None = None,
    ) -> list[list[float]]: ...

    @overload
    def embed_batch(
        self,
        values: Iterable[str | BaseArtifact],
        vector_operation: VectorOperation | None = None,
        *,
        as_numpy: Literal[True],
        on_progress: OnProgress | None = None,
    ) -> Matrix: ...

    def embed_batch(
        self,
        values: Iterable[str | BaseArtifact],
        vector_operation: VectorOperation | None = None,
        *,
        as_numpy: bool = False,
        on_progress: OnProgress | None = None,
    ) -> list[list[float]] | Matrix:
        """Return the vectors of many texts, in their order, with as few requests as possible.

        Args:
            values: Texts or TextArtifacts.
            vector_operation: `query` or `upsert`, which decides on the prefix; None for no prefix.
            as_numpy: Whether to return one array of float32, of shape (number of texts, numbers per vector), in place
                of lists. Without texts its shape is (0, 0).
            on_progress: Called after each request with the number of texts that are done, and that of all texts.

        Raises:
            OllamaContentError: A value is not a text, or a setting cannot be sent; nothing was sent.
            OllamaEmbeddingError: Some texts have no vector; its attributes have their indexes, the reasons, and the
                vectors of the rest. Or the name of the model came to mean another model.
            OllamaError: Any other kind of it.
        """
        passages = list(passages_of(self, values, vector_operation, _OWN))
        found: list[Any] = []
        failures: dict[int, OllamaError] = {}
        with self._tracked_run() as run:
            runs = functools.partial(contextlib.nullcontext, run)
            outcomes = self._outcomes(passages, runs, on_progress, total=len(passages))
            for outcome in itertools.chain.from_iterable(outcomes):
                if isinstance(outcome, OllamaError):
                    failures[len(found)] = outcome
                found.append(None if isinstance(outcome, OllamaError) else converted(outcome, as_numpy=as_numpy))
        if failures:
            raise not_all_embedded(failures, total=len(passages), vectors=found)
        return to_matrix(found) if as_numpy else found

    @overload
    def iter_embed_batch(
        self,
        values: Iterable[str | BaseArtifact],
        vector_operation: VectorOperation | None = None,
        *,
        as_numpy: Literal[False] = False,
        on_progress: OnProgress | None = None,
    ) -> Iterator[list[float]]: ...

    @overload
    def iter_embed_batch(
        self,
        values: Iterable[str | BaseArtifact],
        vector_operation: VectorOperation | None = None,
        *,
        as_numpy: Literal[True],
        on_progress: OnProgress | None = None,
    ) -> Iterator[Matrix]: ...

    def iter_embed_batch(
        self,
        values: Iterable[str | BaseArtifact],
        vector_operation: VectorOperation | None = None,
        *,
        as_numpy: bool = False,
        on_progress: OnProgress | None = None,
    ) -> Iterator[Any]:
        """Yield the vectors of any number of texts one by one, in bounded memory: texts are read as they are needed.

        Args:
            values: Texts or TextArtifacts; may be endless.
            vector_operation: `query` or `upsert`, which decides on the prefix; None for no prefix.
            as_numpy: Whether each vector is an array of float32, of shape (numbers per vector,).
            on_progress: Called after each request with the number of texts that are done, and that of all texts or
                None if it is not known.

        Yields:
            A vector for each text, in their order.

        Raises:
            OllamaEmbeddingError: A text has no vector; its attributes have the index and the reason. The vectors of
                earlier texts were yielded.
            OllamaContentError: A value is not a text, or a setting cannot be sent. A value is checked when it is read.
            OllamaError: As `embed_batch` does.
        """
        found = self._vectors_by_request(values, vector_operation, as_numpy=as_numpy, on_progress=on_progress)
        with contextlib.closing(found) as batches:
            for vectors, failure in batches:
                yield from vectors
                if failure is not None:
                    raise failure

    def _vectors_by_request(
        self,
        values: Iterable[str | BaseArtifact],
        vector_operation: VectorOperation | None,
        *,
        as_numpy: bool,
        on_progress: OnProgress | None,
    ) -> Generator[tuple[list[Any], OllamaEmbeddingError | None], None, None]:
        """Yield the vectors of each request; if a text has none, those before it, and the error."""
        total = len(values) if isinstance(values, Sequence) else None
        passages = passages_of(self, values, vector_operation, _OWN)
        done = 0
        with self._runs_until_cancelled() as runs:
            for outcomes in self._outcomes(passages, runs, on_progress, total=total):
                vectors: list[Any] = []
                for index, outcome in enumerate(outcomes, done):
                    if isinstance(outcome, OllamaError):
                        yield vectors, not_all_embedded({index: outcome}, total=total)
                        return
                    vectors.append(converted(outcome, as_numpy=as_numpy))
                done += len(outcomes)
                yield vectors, None

    @contextlib.contextmanager
    def prefetch(
        self,
        artifacts: Iterable[str | BaseArtifact] | Mapping[str, Iterable[str | BaseArtifact]],
        *,
        vector_operation: VectorOperation | None = "upsert",
    ) -> Generator[None, None, None]:
        """Embed texts in full batches ahead of the calls within the `with` block that will ask for them, on any thread.

        ```python
        with driver.prefetch(artifacts):
            store.upsert_collection(artifacts)
        ```

        Args:
            artifacts: The texts, in about the order of the calls. An iterator is read before the block begins.
            vector_operation: The `vector_operation` of the calls.

        Raises:
            OllamaError: As `embed_batch` does, before the block begins.
        """
        groups = cast("Mapping[str, Any]", artifacts).values() if isinstance(artifacts, Mapping) else [artifacts]
        items = [item for group in groups for item in passages_of(self, group, vector_operation, _OWN)]
        # A value that a subclass embeds may be sent in another form.
        passages = [item for item in items if isinstance(item, Passage)]
        if items and not passages:
            yield
            return
        with self._running.tracking(self._run_within(attrs.evolve(self.limits, total=None))) as run:
            spec = self._spec(run)
            cached = self._cached(spec, run)
            missing = [passage for passage in passages if passage not in cached]
            prefetch = Prefetch(spec.key, missing, lead=LEAD_BATCHES * self.batch_size)
            replied = functools.partial(publish_reply, spec)
            with embedding_ahead(self._prefetches, prefetch, spec, cached, run=run, replied=replied):
                yield

    def _outcomes(
        self,
        items: Iterable[Passage | Single],
        runs: Callable[[], contextlib.AbstractContextManager[Run]],
        on_progress: OnProgress | None,
        *,
        total: int | None,
    ) -> Iterator[list[Outcome]]:
        done = 0
        batches = self._batched(cast("Iterable[Passage]", items), runs)
        if has_own_methods(self, _OWN):
            batches = mixed_outcomes(self, items, runs, self._batched, in_pieces=self._chunks_long_texts)
        try:
            for outcomes in batches:
                done += len(outcomes)
                if on_progress is not None:
                    on_progress(done, total)
                yield outcomes
        except OllamaEmbeddingError as error:  # the model has changed
            error.index = done
            raise

    def _batched(
        self, passages: Iterable[Passage], runs: Callable[[], contextlib.AbstractContextManager[Run]]
    ) -> Iterator[list[Outcome]]:
        with runs() as run:
            spec = self._spec(run)
            cached = self._cached(spec, run)
        yield from in_batches(passages, spec, cached, runs=runs, replied=functools.partial(publish_reply, spec))

    def _spec(self, run: Run) -> EmbeddingSpec:
        extra = dict(self.extra_params)
        options = merge_options(fields={}, options=self.options, extra=extra.pop("options", None))
        model = to_model(extra.pop("model", self.model))
        if not model:
            raise OllamaContentError("No model is named: give model= an embedding model, such as nomic-embed-text.")
        truncate = extra.pop("truncate", self.truncate)
        on_long_text = resolve_on_long_text(self.on_long_text, truncate)
        fields = {
            "dimensions": self.dimensions,
            # The server truncates by default.
            "truncate": truncate if on_long_text == "truncate" else False,
            "keep_alive": self.keep_alive,
        }
        body = to_embed_request(model=model, options=options, fields=fields, extra=extra)
        override = keep_alive_override(self.connection, model)
        if override is not None:
            body["keep_alive"] = override
        self._ensure_model(model, OllamaApi(self.connection, run, self.retrying))
        check_dimensions(self.connection, body, run)
        estimator = text_estimator_of(self.connection.base_url, model_key(model))
        return EmbeddingSpec(
            connection=self.connection,
            body=body,
            limits=self.limits,
            policy=self.retrying(),
            batches=BatchLimits(self.batch_size, self.batch_characters),
            on_long_text=on_long_text,
            window=functools.partial(window_of, self.connection, body, self.tokenizer),
            identity=self._identity,
            most_tokens=estimator.most_tokens,
            cut_tokens=unlearned_tokens,
            learn_tokens=estimator.learn,
            is_audited=self.audit_requests,
            retry_key=self._retry_key(),
            count_tokens=self.tokenizer.count_tokens if self.tokenizer else None,
        )

    def _retry_key(self) -> str:
        limits = self.limits  # without the total one, which each caller checks
        retries = self.max_attempts, self.min_retry_delay, self.max_retry_delay, self.wait_for_server
        hooks = self.ignored_exception_types, id(self.after_hook), self.audit_requests, id(self.tokenizer)
        return repr((limits.connect, limits.first_token, retries, hooks, self.batch_size, self.batch_characters))

    def _cached(self, spec: EmbeddingSpec, run: Run) -> CachedVectors:
        self._cache.limit(self.cache_bytes)
        return CachedVectors(self._cache, spec, run)

    @property
    def _chunks_long_texts(self) -> bool:
        return resolve_on_long_text(self.on_long_text, self.truncate) == "chunk"


_OWN = {name: vars(OllamaEmbeddingDriver)[name] for name in ("embed", "try_embed_chunk", "try_embed_artifact")}
