"""Old names of modules, which pickles and stored settings contain.

A pickle names the module of each class. Drivers that were pickled before these modules were renamed still load.
"""

from __future__ import annotations

import functools
import importlib
import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

_PACKAGE = "griptape_ollama"
_MOVED = {
    "context.estimates": "context.tokens.regression",
    "metrics": "observability",
    "metrics.metrics": "observability.metrics",
    "metrics.statistics": "observability.statistics",
    "metrics.thresholds": "observability.thresholds",
    "models.manager": "models.ollama_models",
    "models.server": "models.connection_settings",
    "structures.hearing": "structures.chunk_listener",
    "transport.limits": "transport.timeouts",
    "transport.loops": "transport.async_bridge",
    "transport.scope": "transport.cancel_scope",
}


class _Alias(Loader):
    """Loads a module that looks up each name in another module."""

    def __init__(self, target: str) -> None:
        self._target = target

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:  # noqa: ARG002 # the interface has it
        return None  # a plain module

    def exec_module(self, module: ModuleType) -> None:
        module.__dict__["__getattr__"] = functools.partial(getattr, importlib.import_module(self._target))


class _Finder(MetaPathFinder):
    """Finds the old names. It is asked after all other finders."""

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None,  # noqa: ARG002 # the interface has it
        target: ModuleType | None = None,  # noqa: ARG002 # likewise
    ) -> ModuleSpec | None:
        package, _, name = fullname.partition(".")
        if package != _PACKAGE or name not in _MOVED:
            return None
        # Only the package among them has modules inside.
        return ModuleSpec(fullname, _Alias(f"{_PACKAGE}.{_MOVED[name]}"), is_package="." not in name)


def find_moved_modules() -> None:
    """Make the old names importable."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.append(_Finder())
