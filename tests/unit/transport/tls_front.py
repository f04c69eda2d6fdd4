"""TLS in front of a server of a test."""

import contextlib
import socket
import ssl
import threading


class TlsFront:
    """Ends TLS in front of a plain server, as a reverse proxy does."""

    def __init__(self, context, target):
        self._context = context
        self._target = (target.removeprefix("http://").split(":")[0], int(target.rsplit(":", 1)[1]))
        self._threads = []
        self._sockets = []

    def __enter__(self):
        self._listener = self._keep(socket.create_server(("127.0.0.1", 0)))
        self._start(self._accept)
        return self._listener.getsockname()[1]

    def __exit__(self, *_):
        for sock in self._sockets:
            with contextlib.suppress(OSError):
                socket.socket.shutdown(sock, socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        for sock in self._sockets:
            sock.close()

    def _keep(self, sock):
        self._sockets.append(sock)
        return sock

    def _start(self, work, *arguments):
        thread = threading.Thread(target=work, args=arguments)
        self._threads.append(thread)
        thread.start()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                plain, _ = self._listener.accept()
                self._serve(plain)

    def _serve(self, plain):
        try:
            front = self._keep(self._context.wrap_socket(plain, server_side=True))
        except (OSError, ssl.SSLError):
            plain.close()
            return
        back = self._keep(socket.create_connection(self._target))
        self._start(self._copy, front, back)
        self._start(self._copy, back, front)

    @staticmethod
    def _copy(source, sink):
        with contextlib.suppress(OSError, ssl.SSLError):
            while data := source.recv(65536):
                sink.sendall(data)
        with contextlib.suppress(OSError):
            socket.socket.shutdown(sink, socket.SHUT_RDWR)
