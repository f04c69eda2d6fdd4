"""A task of the server that takes long and says how far it is: pull, push, create."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import attrs

from griptape_ollama.errors import OllamaError, OllamaStreamError
from griptape_ollama.models.api import OllamaApi
from griptape_ollama.models.audit import Change
from griptape_ollama.models.catalogue import Catalogue
from griptape_ollama.models.disk import DiskCheck
from griptape_ollama.models.progress import Meter, OnProgress
from griptape_ollama.models.transfer_errors import to_transfer_error
from griptape_ollama.models.types import ModelInfo, TransferResult
from griptape_ollama.transport.timeouts import DEFAULT_BETWEEN_TOKENS, OllamaTimeout

BETWEEN_LINES = 600.0
"""Longest silence within a transfer, in seconds, where the user sets none: a server says nothing while it checks the
digest of a file, which takes minutes for tens of gigabytes on a slow disk."""


class Transfer:
    """One pull, push or creation, with its tries.

    A try that broke is not begun again from the start: the server keeps what it has of each file, and goes on.

    Args:
        api: Makes the requests.
        action: `pull`, `push` or `create`.
        body: Body of the request, with the model in it.
        report: Told how far it is.
    """

    def __init__(self, api: OllamaApi, action: str, body: Mapping[str, Any], report: OnProgress) -> None:
        self._api = api
        self._action = action
        self._model: str = body["model"]
        self._body = body
        self._report = report
        self._catalogue = Catalogue(api)
        self._meter = Meter(action, self._model, api.host)
        self._disk = DiskCheck(api.host, self._model) if action == "pull" else None
        self._attempts = 0

    def run(self, change: Change) -> TransferResult:
        """Do it, and look whether it was done.

        Args:
            change: Where the digests are noted.

        Raises:
            OllamaError: Any kind of it.
        """
        started = time.monotonic()
        before = self._before()
        change.digest_before = before.digest if before else None
        try:
            self._tried()
        finally:
            self._api.metadata.forget()
        after = self._verified()
        change.digest_after = after.digest
        return TransferResult(
            action=self._action,
            model=after,
            digest_before=change.digest_before,
            bytes_moved=self._meter.moved,
            attempts=self._attempts,
            seconds=time.monotonic() - started,
        )

    def _before(self) -> ModelInfo | None:
        return self._catalogue.need(self._model) if self._action == "push" else self._catalogue.find(self._model)

    def _tried(self) -> None:
        run = self._api.run

        def sleep(seconds: float) -> None:
            run.guard.sleep(run.shorter(seconds) or 0.0)
            run.check()

        self._api.policy(progress=lambda: self._meter.moved).copy(sleep=sleep)(self._attempt)

    def _attempt(self) -> None:
        self._attempts += 1
        path = f"/api/{self._action}"
        limits = transfer_limits(self._api.run.limits)
        lines = self._api.status_lines(path, self._body, limits)
        try:
            for line in lines:
                progress = self._meter.read(line)
                if self._disk is not None:
                    self._disk.look(line, self._meter)
                if progress is not None:
                    self._report(progress)
        except OllamaError as error:
            meant = to_transfer_error(error, self._meter.last)
            if meant is error:
                raise
            raise meant from error
        finally:
            # The connection is closed, so that the server stops, too.
            lines.close()

    def _verified(self) -> ModelInfo:
        model, host = self._model, self._api.host
        found = self._catalogue.find(model)
        if found is None:
            raise OllamaStreamError(
                f"Ollama at {host} says that the {self._action} of model {model!r} is done, but does not list it. "
                "See the server's log, and whether somebody else deleted it.",
                host=host,
                model=model,
            )
        return found


def transfer_limits(limits: OllamaTimeout) -> OllamaTimeout:
    """Give the limits of a transfer: those of other calls, but with a longer silence, unless somebody chose one.

    What is at its default counts as not chosen.
    """
    if limits.between_tokens != DEFAULT_BETWEEN_TOKENS:
        return limits
    return attrs.evolve(limits, between_tokens=BETWEEN_LINES)
