"""The keep_alive that drivers send while a planner decides how long models stay.

A driver's own keep_alive would work against the plan: 0 unloads a model that the next task needs, and the server's
default of five minutes drops one in a long pause. So drivers of the structure send a long one for the time being, and
the planner unloads explicitly. It is not "for good", so that models do not stay if this process is killed.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from griptape_ollama.models.server import OllamaServerMixin
from griptape_ollama.models.server_settings import checked
from griptape_ollama.protocol.keep_alive import normalize_keep_alive

_ABSENT: Any = object()


@dataclass
class _Hold:
    """A driver that is held, by one planner or by several.

    Attributes:
        driver: The driver.
        own: Its own keep_alive.
        extra: The keep_alive in its extra parameters, which would win over the field; `_ABSENT` where none is.
        holders: Who holds it, the latest last.
    """

    driver: Any
    own: Any
    extra: Any
    holders: list[HeldDrivers] = field(default_factory=list["HeldDrivers"])


# Two structures that run at a time may share a driver.
_lock = threading.Lock()
_holds: dict[int, _Hold] = {}


class HeldDrivers:
    """Drivers whose keep_alive is replaced until they are released.

    Args:
        keep_alive: What they send meanwhile.

    Raises:
        OllamaContentError: It is not a duration.
    """

    def __init__(self, keep_alive: Any) -> None:
        self.keep_alive = checked(lambda: normalize_keep_alive(keep_alive))

    def hold(self, drivers: Iterable[OllamaServerMixin]) -> None:
        """Replace the keep_alive of drivers; those that are held already stay as they are."""
        with _lock:
            for driver in drivers:
                if hasattr(driver, "keep_alive"):
                    self._hold(driver)

    def release(self) -> None:
        """Put back what was replaced, but for what somebody else has set since."""
        with _lock:
            for key, hold in list(_holds.items()):
                if self in hold.holders:
                    hold.holders.remove(self)
                    self._give_back(hold)
                    if not hold.holders:
                        del _holds[key]

    def _hold(self, driver: Any) -> None:
        hold = _holds.get(id(driver))
        if hold is None:
            hold = _holds[id(driver)] = _Hold(driver, driver.keep_alive, _taken_out(driver))
        if self not in hold.holders:
            hold.holders.append(self)
            driver.keep_alive = self.keep_alive

    def _give_back(self, hold: _Hold) -> None:
        driver = hold.driver
        if driver.keep_alive == self.keep_alive:
            driver.keep_alive = hold.holders[-1].keep_alive if hold.holders else hold.own
        if not hold.holders and hold.extra is not _ABSENT:
            driver.extra_params = {**(driver.extra_params or {}), "keep_alive": hold.extra}


def _taken_out(driver: Any) -> Any:
    """Take the keep_alive out of the extra parameters of a driver, and give it."""
    params: Any = getattr(driver, "extra_params", None) or {}
    if "keep_alive" not in params:
        return _ABSENT
    driver.extra_params = {name: value for name, value in params.items() if name != "keep_alive"}
    return params["keep_alive"]
