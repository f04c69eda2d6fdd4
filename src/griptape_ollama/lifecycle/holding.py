"""The keep_alive that drivers send while a planner decides how long models stay.

A driver's own keep_alive would work against the plan: 0 unloads a model that the next task needs, and the server's
default of five minutes drops one in a long pause. So drivers of the structure send a long one for the time being, and
the planner unloads explicitly. It is not "for good", so that models do not stay if this process is killed.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from typing import Any

from griptape_ollama.models.server import OllamaServerMixin
from griptape_ollama.models.server_settings import checked
from griptape_ollama.protocol.keep_alive import normalize_keep_alive

_ABSENT = object()


class HeldDrivers:
    """Drivers whose keep_alive is replaced until they are released.

    Args:
        keep_alive: What they send meanwhile.

    Raises:
        OllamaContentError: It is not a duration.
    """

    def __init__(self, keep_alive: Any) -> None:
        self.keep_alive = checked(lambda: normalize_keep_alive(keep_alive))
        self._lock = threading.Lock()
        self._held: dict[int, tuple[OllamaServerMixin, Any, Any]] = {}

    def hold(self, drivers: Iterable[OllamaServerMixin]) -> None:
        """Replace the keep_alive of drivers; those that are held already stay as they are."""
        with self._lock:
            for driver in drivers:
                if id(driver) not in self._held and hasattr(driver, "keep_alive"):
                    self._held[id(driver)] = (driver, self._replace(driver), self._replace_extra(driver))

    def release(self) -> None:
        """Put back what was replaced, but for what somebody else has set since."""
        with self._lock:
            held, self._held = self._held, {}
        for driver, own, extra in held.values():
            if getattr(driver, "keep_alive", None) == self.keep_alive:
                driver.keep_alive = own  # type: ignore[attr-defined]
            if extra is not _ABSENT:
                params: Any = getattr(driver, "extra_params", None)
                driver.extra_params = {**(params or {}), "keep_alive": extra}  # type: ignore[attr-defined]

    def _replace(self, driver: Any) -> Any:
        own = driver.keep_alive
        driver.keep_alive = self.keep_alive
        return own

    def _replace_extra(self, driver: Any) -> Any:
        """Take a keep_alive out of the extra parameters, which would win over the field."""
        params: Any = getattr(driver, "extra_params", None) or {}
        if "keep_alive" not in params:
            return _ABSENT
        driver.extra_params = {name: value for name, value in params.items() if name != "keep_alive"}
        return params["keep_alive"]
