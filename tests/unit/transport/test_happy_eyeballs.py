"""Names with several addresses, some of which are dead."""

import contextlib
import socket
import threading
import time
from pathlib import Path

import pytest

from griptape_ollama import OllamaModels, OllamaTimeout
from griptape_ollama.errors import OllamaCancelledError, OllamaConnectionError, OllamaTimeoutError
from griptape_ollama.testing import OllamaSimulator
from griptape_ollama.transport import happy_eyeballs
from griptape_ollama.transport.call import Call
from griptape_ollama.transport.connection import Connection
from griptape_ollama.transport.happy_eyeballs import AddressRace, interleave
from unit.transport.clients import foreign_client

_WAIT = 30.0
_HAS_IPV6 = socket.has_ipv6 and Path("/proc/net/if_inet6").exists()


def _info(address, port, family=socket.AF_INET):
    where = (address, port) if family == socket.AF_INET else (address, port, 0, 0)
    return (family, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", where)


@contextlib.contextmanager
def _black_hole():
    """An address that neither accepts nor refuses: the queue of its listener is full."""
    with contextlib.ExitStack() as held:
        listener = held.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(4):
            sock = held.enter_context(socket.socket())
            sock.setblocking(False)
            sock.connect_ex(listener.getsockname())
        yield _info(*listener.getsockname())


@pytest.fixture
def holes():
    with _black_hole() as one, _black_hole() as two:
        yield [one, two]


@pytest.fixture
def listener():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener


@pytest.fixture
def refusing(unused_port):
    return _info("127.0.0.1", unused_port)


@pytest.fixture
def quick(monkeypatch):
    """The next address is tried almost at once."""
    monkeypatch.setattr(happy_eyeballs, "STEP_SECONDS", 0.02)


def _race(addresses, **settings):
    return AddressRace("name.example", 1, resolver=lambda *_: addresses, **settings)


def _open_files():
    folder = Path("/proc/self/fd")
    return len(list(folder.iterdir())) if folder.exists() else 0


class TestRace:
    def test_the_first_address_that_answers_wins(self, holes, listener, quick):
        with _race([*holes, _info(*listener.getsockname())], timeout=_WAIT).connect() as sock:
            assert sock.getpeername() == listener.getsockname()
            assert sock.gettimeout() is None

    def test_the_next_address_is_tried_after_a_quarter_of_a_second(self, holes, listener):
        started = time.monotonic()
        with _race([holes[0], _info(*listener.getsockname())], timeout=_WAIT).connect():
            assert time.monotonic() - started >= 0.25

    def test_it_is_tried_at_once_when_one_refuses(self, refusing, listener, monkeypatch):
        monkeypatch.setattr(happy_eyeballs, "STEP_SECONDS", 1000.0)
        with _race([refusing, refusing, _info(*listener.getsockname())], timeout=_WAIT).connect() as sock:
            assert sock.getpeername() == listener.getsockname()

    def test_an_address_of_a_family_that_this_machine_has_not_is_passed_over(self, listener, monkeypatch):
        monkeypatch.setattr(happy_eyeballs, "STEP_SECONDS", 1000.0)
        with _race([(12345, 1, 6, "", ("x", 1)), _info(*listener.getsockname())]).connect() as sock:
            assert sock.getpeername() == listener.getsockname()

    def test_one_that_comes_to_life_late_still_wins(self, holes, refusing, listener, quick):
        """The attempts that are under way continue while further ones are tried."""
        with _race([_info(*listener.getsockname()), refusing, *holes], timeout=_WAIT).connect() as sock:
            assert sock.getpeername() == listener.getsockname()

    def test_where_all_refuse_the_error_says_so(self, refusing):
        with pytest.raises(ConnectionRefusedError):
            _race([refusing, refusing], timeout=_WAIT).connect()

    def test_no_address_is_an_error(self):
        with pytest.raises(OSError, match=r"name\.example has no address"):
            _race([]).connect()

    def test_one_limit_holds_for_all_addresses(self, holes, quick):
        with pytest.raises(TimeoutError):
            _race(holes, timeout=0.2).connect()

    @pytest.mark.parametrize("when", ["before", "while"])
    def test_it_is_stopped_from_another_thread(self, holes, when):
        race = _race(holes)
        stopper = threading.Thread(target=race.stop) if when == "before" else threading.Timer(0.05, race.stop)
        stopper.start()
        if when == "before":
            stopper.join()
        with pytest.raises(ConnectionAbortedError):
            race.connect()
        stopper.join()

    @pytest.mark.skipif(not _open_files(), reason="this system does not list open files")
    @pytest.mark.parametrize("end", ["won", "refused", "late", "stopped"])
    def test_every_socket_is_closed(self, holes, refusing, listener, quick, end):
        before = _open_files()
        addresses = [*holes, refusing] + ([_info(*listener.getsockname())] if end == "won" else [])
        race = _race([refusing] if end == "refused" else addresses, timeout=0.2 if end == "late" else _WAIT)
        if end == "stopped":
            race.stop()
        with contextlib.suppress(OSError), race.connect():
            pass
        assert _open_files() == before

    def test_an_address_to_connect_from_is_used(self, listener):
        with _race([_info(*listener.getsockname())], local_address="127.0.0.9").connect() as sock:
            assert sock.getsockname()[0] == "127.0.0.9"

    @pytest.mark.skipif(not _HAS_IPV6, reason="this machine has no IPv6")
    def test_families_that_cannot_connect_from_there_are_passed_over(self, listener):
        addresses = [_info("::1", 9, socket.AF_INET6), _info(*listener.getsockname())]
        with _race(addresses, local_address="127.0.0.1").connect() as sock:
            assert sock.family == socket.AF_INET


class TestOrder:
    def test_families_alternate_in_the_order_of_the_system(self):
        sixes = [_info(f"fd00::{n}", 1, socket.AF_INET6) for n in range(3)]
        fours = [_info(f"10.0.0.{n}", 1) for n in range(2)]
        assert interleave([*sixes, *fours]) == [sixes[0], fours[0], sixes[1], fours[1], sixes[2]]
        assert interleave([*fours, *sixes]) == [fours[0], sixes[0], fours[1], sixes[1], sixes[2]]

    def test_an_address_is_tried_once(self):
        assert interleave([_info("10.0.0.1", 1)] * 3) == [_info("10.0.0.1", 1)]


class TestCalls:
    """The same over a whole call, where the name is looked up by a resolver of the test."""

    @pytest.fixture
    def simulator(self):
        with OllamaSimulator() as simulator:
            yield simulator

    @pytest.fixture
    def addresses(self, monkeypatch):
        found, real = [], socket.getaddrinfo

        def resolve(host, *arguments, **keywords):
            return list(found) if host == "many.localhost" else real(host, *arguments, **keywords)

        monkeypatch.setattr(socket, "getaddrinfo", resolve)
        return found

    @staticmethod
    def _of(simulator):
        return _info("127.0.0.1", int(simulator.url.rpartition(":")[2]))

    def test_a_dead_address_does_not_use_up_the_limit(self, simulator, addresses, holes):
        addresses += [*holes, self._of(simulator)]
        assert OllamaModels(host="http://many.localhost:1", timeout=OllamaTimeout(connect=_WAIT), max_attempts=1).list()

    def test_it_does_not_for_a_client_of_ones_own(self, simulator, addresses, holes, quick):
        addresses += [*holes, self._of(simulator)]
        with foreign_client(host="http://many.localhost:1") as client:
            assert OllamaModels(client=client, timeout=OllamaTimeout(connect=_WAIT), max_attempts=1).list()

    def test_where_all_are_dead_the_limit_is_named(self, addresses, holes, quick):
        addresses += holes
        models = OllamaModels(host="http://many.localhost:1", timeout=OllamaTimeout(connect=0.2), max_attempts=1)
        with pytest.raises(OllamaTimeoutError, match="limit: connect"):
            models.list()

    def test_if_all_addresses_refuse_the_error_comes_at_once(self, addresses, refusing):
        addresses += [refusing, refusing]
        with pytest.raises(OllamaConnectionError, match="refused") as caught:
            OllamaModels(host="http://many.localhost:1").list()
        assert caught.value.refused

    def test_connecting_is_cancelled_and_leaves_neither_thread_nor_socket(self, addresses, holes, quick):
        addresses += holes
        connection = Connection.open("http://many.localhost:1")
        files = _open_files()
        call = Call(connection, "/api/chat", {"model": "m"}, limits=OllamaTimeout(connect=None))
        timer = threading.Timer(0.1, call.cancel)
        timer.start()
        with pytest.raises(OllamaCancelledError):
            list(call.lines())
        timer.join()
        end = time.monotonic() + _WAIT
        while any(thread.name == "griptape-ollama-connect" for thread in threading.enumerate()):
            assert time.monotonic() < end, "the thread is still there"
            threading.Event().wait(0.002)
        assert _open_files() == files
