"""TCP keepalive: noticing that the other side is gone while nothing is sent, which is normal for minutes.

The server sends nothing while a model loads or a long prompt is read. A firewall or NAT that forgets silent connections
is kept awake by a probe each minute, and a machine that was switched off is noticed after two minutes, not by the limit
for the first token.

`TCP_USER_TIMEOUT` (Linux) does the same for data that was sent and never acknowledged. It is as long as keepalive
takes, since it overrides the number of probes, and it is switched off while a large request is being sent: Linux also
counts the time during which a healthy server or proxy does not read yet, as HAProxy does with what waits in its queue.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterable
from typing import Any

IDLE_SECONDS = 60
INTERVAL_SECONDS = 20
PROBES = 3

_GONE_MILLISECONDS = (IDLE_SECONDS + PROBES * INTERVAL_SECONDS) * 1000
# What the receiving system buffers in any case, whether or not the program reads it.
_LARGE_BYTES = 32 * 1024
_USER_TIMEOUT: int | None = getattr(socket, "TCP_USER_TIMEOUT", None)


def _tcp(value: int, *names: str) -> Iterable[tuple[int, int, int]]:
    numbers = (getattr(socket, name, None) for name in names)
    return [(socket.IPPROTO_TCP, number, value) for number in numbers if number is not None][:1]


OPTIONS = (
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    *_tcp(IDLE_SECONDS, "TCP_KEEPIDLE", "TCP_KEEPALIVE"),  # the second is what macOS calls it
    *_tcp(INTERVAL_SECONDS, "TCP_KEEPINTVL"),
    *_tcp(PROBES, "TCP_KEEPCNT"),
    *_tcp(_GONE_MILLISECONDS, "TCP_USER_TIMEOUT"),
)


def set_socket_options(sock: socket.socket, options: Iterable[Any] | None) -> None:
    """Set the options of a connection.

    Args:
        sock: A TCP socket.
        options: Options of the user, as `setsockopt` takes them; they win over those of this module.
    """
    for option in OPTIONS:
        with contextlib.suppress(OSError):  # the system knows the name but not the option
            sock.setsockopt(*option)
    for option in options or ():
        sock.setsockopt(*option)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


class UserTimeoutPause:
    """Switches `TCP_USER_TIMEOUT` off from the sending of a large request until the first byte of its response.

    Args:
        sock: The socket; None if it is not known. A value that is not of this module is left alone.
    """

    def __init__(self, sock: Any) -> None:
        self._sock = sock
        self._is_patient = False

    def before_write(self, size: int) -> None:
        """Record that so many bytes are about to be sent."""
        if size > _LARGE_BYTES and not self._is_patient and _USER_TIMEOUT is not None and self._sock is not None:
            with contextlib.suppress(OSError):
                if self._sock.getsockopt(socket.IPPROTO_TCP, _USER_TIMEOUT) == _GONE_MILLISECONDS:
                    self._set(0)
                    self._is_patient = True

    def after_read(self) -> None:
        """Record that bytes were received: the request was read."""
        if self._is_patient:
            self._is_patient = False
            with contextlib.suppress(OSError):
                self._set(_GONE_MILLISECONDS)

    def _set(self, milliseconds: int) -> None:
        if _USER_TIMEOUT is not None:
            self._sock.setsockopt(socket.IPPROTO_TCP, _USER_TIMEOUT, milliseconds)
