"""The `ollama` package, imported also where the environment makes its import fail.

`import ollama` (0.6) makes a client for its own module-level functions, and httpx reads the environment for it: an IPv6
network in `NO_PROXY`, `ALL_PROXY=socks://...`, a missing `SSL_CERT_FILE` or an `OLLAMA_HOST` that is no address then
end the program before a driver can name the wrong variable, or do without it. Only where the import has failed is
it tried again with these variables hidden.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Generator

__all__ = ["ollama"]

_WAY = re.compile(r"(?:all|http|https|no)_proxy|ssl_cert_file|ssl_cert_dir|sslkeylogfile", re.IGNORECASE)
_ADDRESS = re.compile(r"ollama_host", re.IGNORECASE)


@contextlib.contextmanager
def _hidden(names: re.Pattern[str]) -> Generator[None, None, None]:
    hidden = {name: os.environ.pop(name) for name in list(os.environ) if names.fullmatch(name)}
    try:
        yield
    finally:
        os.environ.update(hidden)


try:
    import ollama
except Exception:  # noqa: BLE001 # InvalidURL, ValueError, ImportError, OSError; what is not the environment's comes again
    try:
        with _hidden(_WAY):
            import ollama
    except ValueError:
        with _hidden(_WAY), _hidden(_ADDRESS):
            import ollama
