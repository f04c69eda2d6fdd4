"""Objects that begin anew in a forked process, where the threads that served them or held their locks are gone."""

from __future__ import annotations

import os
import weakref
from typing import Protocol


class Renewable(Protocol):
    """What can begin anew."""

    def start_afresh(self) -> None:
        """Forget threads that are gone, and locks that they may have held."""
        ...


_objects: weakref.WeakSet[Renewable] = weakref.WeakSet()


def renew_when_forked(what: Renewable) -> None:
    """Let an object begin anew in each process that is forked while it lives."""
    _objects.add(what)


def _renew() -> None:
    for each in tuple(_objects):
        each.start_afresh()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew)
