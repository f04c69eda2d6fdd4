"""A real nginx on loopback, for tests with a proxy between client and server."""

import contextlib
import os
import shutil
import socket
import subprocess
import threading
import time
from pathlib import Path

import pytest

PROGRAM = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin:/opt/homebrew/bin")

needs_nginx = pytest.mark.skipif(PROGRAM is None, reason="nginx is not installed")

_CONFIGURATION = """
daemon off;
worker_processes 1;
{user}
pid {folder}/pid;
error_log {folder}/error.log info;
events {{ worker_connections 512; }}
http {{
    access_log {folder}/access.log;
    client_body_temp_path {folder}/bodies; proxy_temp_path {folder}/proxied;
    fastcgi_temp_path {folder}/1; uwsgi_temp_path {folder}/2; scgi_temp_path {folder}/3;
    {http}
}}
"""


def free_port():
    """Return a free port."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


class Nginx:
    """A running nginx.

    Attributes:
        url: Its address.
        port: Its port.
    """

    def __init__(self, folder, port):
        self.port = port
        self.url = f"http://127.0.0.1:{port}"
        self._folder = folder

    def requests(self, status=None):
        """Return methods and paths of the logged requests, or of those with a status."""
        lines = (self._folder / "access.log").read_text().splitlines()
        logged = [(line.split('"')[1].split()[:2], line.split('"')[2].split()[0]) for line in lines]
        return [" ".join(what) for what, answered in logged if status is None or answered == str(status)]


@contextlib.contextmanager
def nginx(folder, http):
    """Run nginx while the block runs.

    Args:
        folder: An empty folder.
        http: Contents of its `http` block, with PORT for its port.
    """
    port = free_port()
    file = Path(folder) / "nginx.conf"
    user = "user root;" if os.geteuid() == 0 else ""
    file.write_text(_CONFIGURATION.format(folder=folder, user=user, http=http.replace("PORT", str(port))))
    log = str(Path(folder) / "error.log")
    process = subprocess.Popen([PROGRAM, "-p", str(folder), "-c", str(file), "-e", log], stderr=subprocess.PIPE)
    try:
        _wait_for(process, port, log)
        yield Nginx(Path(folder), port)
    finally:
        process.terminate()
        process.communicate(timeout=30)


def _wait_for(process, port, log):
    end = time.monotonic() + 30
    while time.monotonic() < end and process.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        threading.Event().wait(0.01)
    raise AssertionError(f"nginx does not start: {Path(log).read_text() if Path(log).exists() else process.returncode}")
