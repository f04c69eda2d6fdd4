"""A server on loopback that sends arbitrary bytes, and a measure of peak memory."""

import contextlib
import socket
import threading
import tracemalloc

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n"


def chunk(data):
    """A chunk of a chunked body."""
    return b"%x\r\n%b\r\n" % (len(data), data)


class HostileServer:
    """Answers every connection with the same bytes, and closes it.

    Args:
        answer: Function that yields the bytes to send for the head of a request.
    """

    def __init__(self, answer):
        self._answer = answer
        self._threads = []
        self._peers = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.heads = []

    def __enter__(self):
        self._threads.append(threading.Thread(target=self._accept))
        self._threads[0].start()
        return self

    def __exit__(self, *_):
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._threads[0].join()
        for peer in self._peers:
            # A client may keep its connection for a next request.
            with contextlib.suppress(OSError):
                peer.shutdown(socket.SHUT_RDWR)
        for thread in self._threads[1:]:
            thread.join()
        self._listener.close()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                peer, _ = self._listener.accept()
                self._peers.append(peer)
                self._threads.append(threading.Thread(target=self._serve, args=(peer,)))
                self._threads[-1].start()

    def _serve(self, peer):
        with peer, contextlib.suppress(OSError):
            head = b""
            while b"\r\n\r\n" not in head:
                if not (data := peer.recv(65536)):
                    return
                head += data
            self.heads.append(head)
            for piece in self._answer(head):
                peer.sendall(piece)
            peer.shutdown(socket.SHUT_WR)
            while peer.recv(65536):
                pass


@contextlib.contextmanager
def peak_bytes():
    """Yield a list that contains, after the block, the peak number of bytes of Python objects."""
    peak = []
    tracemalloc.start()
    try:
        yield peak
        peak.append(tracemalloc.get_traced_memory()[1])
    finally:
        tracemalloc.stop()
