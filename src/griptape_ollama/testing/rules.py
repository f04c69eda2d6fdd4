"""When faults strike."""

import random
import threading
from dataclasses import dataclass, field

from griptape_ollama.protocol.model_name import is_same_model
from griptape_ollama.testing.faults import Fault
from griptape_ollama.testing.request_log import RecordedRequest


@dataclass(kw_only=True, eq=False)
class FaultRule:
    """A fault and the requests that it strikes.

    Attributes:
        fault: What happens to them.
        path: Path of the requests that count, None for any.
        model: Their model, None for any.
        n: Which of them is the first to be struck, counted from 1 and from when the rule was made.
        times: How many are struck, None for all from there on.
        probability: How likely each of those is struck.
        seed: Where the dice begin: the same seed strikes the same requests.
        seen: How many requests counted so far.
        hits: How many it struck so far. One that an earlier rule struck is not among them.
    """

    fault: Fault
    path: str | None = "/api/chat"
    model: str | None = None
    n: int = 1
    times: int | None = 1
    probability: float = 1.0
    seed: int = 0
    seen: int = 0
    hits: int = 0
    _dice: random.Random = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if self.n < 1 or (self.times is not None and self.times < 1):
            raise ValueError(f"n={self.n!r}, times={self.times!r}: both count from 1")
        if not 0 <= self.probability <= 1:
            raise ValueError(f"probability={self.probability!r}: use a number from 0 to 1")
        self._dice = random.Random(self.seed)  # noqa: S311  nothing secret

    def strikes(self, request: RecordedRequest) -> bool:
        """Count a request, and say whether it is to be struck."""
        if self.path not in (None, request.path):
            return False
        if self.model is not None and not is_same_model(self.model, request.model):
            return False
        self.seen += 1
        if self.fault.kind == "refuse":
            # It strikes before there is a request: see `closes_next`.
            return False
        if self.seen < self.n or (self.times is not None and self.hits >= self.times):
            return False
        return self.probability >= 1 or self._dice.random() < self.probability


class Rules:
    """The rules of a simulator; all of them count a request, and the first that is to strike it does.

    The others strike later requests in its place, as often as they are to.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._rules: list[FaultRule] = []

    def add(self, rule: FaultRule) -> None:
        """Add a rule behind the others."""
        with self._lock:
            self._rules.append(rule)

    def clear(self) -> None:
        """Drop all rules."""
        with self._lock:
            self._rules.clear()

    def strike(self, request: RecordedRequest) -> Fault | None:
        """Return what happens to a request, None if all goes well."""
        with self._lock:
            struck = [rule for rule in self._rules if rule.strikes(request)]
            if not struck:
                return None
            struck[0].hits += 1
            return struck[0].fault

    def closes_next(self) -> Fault | None:
        """Return the rule that closes the port before the next request comes."""
        with self._lock:
            for rule in self._rules:
                if rule.fault.kind == "refuse" and rule.seen + 1 >= rule.n and not rule.hits:
                    rule.hits += 1
                    return rule.fault
        return None
