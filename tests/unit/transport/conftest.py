import socket

import pytest


@pytest.fixture
def silent_address():
    """An address that neither accepts nor refuses: the queue of its listener is full."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        address = listener.getsockname()
        waiting = []
        for _ in range(4):
            sock = socket.socket()
            sock.setblocking(False)
            sock.connect_ex(address)
            waiting.append(sock)
        yield f"127.0.0.1:{address[1]}"
        for sock in waiting:
            sock.close()
