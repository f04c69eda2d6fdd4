"""State that all drivers of a process share: renewed in a forked child, reset between tests."""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable
from typing import Protocol


class Renewable(Protocol):
    """An object with locks or threads, which do not survive a fork."""

    def start_afresh(self) -> None:
        """Drop threads that the child does not have, and locks that they may hold."""
        ...


_renewables: weakref.WeakSet[Renewable] = weakref.WeakSet()
_resets: list[Callable[[], None]] = []


def renew_when_forked(what: Renewable) -> None:
    """Call `start_afresh` of an object in each process that is forked while the object lives."""
    _renewables.add(what)


def reset_with_shared_state(reset: Callable[[], None]) -> Callable[[], None]:
    """Call a function whenever `reset_shared_state` is called; modules register what they share here.

    Returns:
        The function, so that this is a decorator too.
    """
    _resets.append(reset)
    return reset


def reset_shared_state() -> None:
    """Forget everything about all servers and models, as between two tests."""
    for reset in _resets:
        reset()


def when_forked(
    in_child: Callable[[], None],
    *,
    before: Callable[[], None] | None = None,
    after_in_parent: Callable[[], None] | None = None,
) -> Callable[[], None]:
    """Call functions around each fork of this process; nothing happens on systems without forks.

    Args:
        in_child: Called in the child.
        before: Called in the parent before it forks.
        after_in_parent: Called in the parent afterwards.

    Returns:
        `in_child`, so that this is a decorator too.
    """
    if hasattr(os, "register_at_fork"):
        # None is no callback for Python.
        hooks = {"before": before, "after_in_parent": after_in_parent}
        os.register_at_fork(after_in_child=in_child, **{name: each for name, each in hooks.items() if each})
    return in_child


@when_forked
def _renew() -> None:
    for each in tuple(_renewables):
        each.start_afresh()
