"""`python -m soak 10000 50`: number of calls and of threads."""

import sys

from soak.server import running
from soak.soak import Soak, leaks, quietly, report


def main(calls: int = 10_000, threads: int = 50, rounds: int = 10) -> int:
    """Make the calls, print the report, and return the exit code."""
    quietly()
    with running() as host:
        result = Soak(host, threads).run(calls, rounds)
    print(report(result))  # noqa: T201 # a command
    return 1 if result.wrong or list(leaks(result.left)) else 0


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:])))
