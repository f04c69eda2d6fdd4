"""Which proxy of the environment a host is asked through, and which hosts are exempt."""

import logging
import socket
import sys

import pytest

from griptape_ollama import OllamaModels
from griptape_ollama.errors import OllamaConnectionError, OllamaContentError
from griptape_ollama.transport.environment_proxies import choose_proxy, environment_proxy
from unit.hostile import HEAD, HostileServer, chunk

PROXY = "http://proxy.example:3128"
NO_MODELS = [HEAD + b"\r\n", chunk(b'{"models":[]}'), chunk(b"")]


def _choose(url, proxies):
    return choose_proxy(url, proxies, {f"{scheme.upper()}_PROXY": text for scheme, text in proxies.items()})


def _is_exempt(url, no_proxy):
    return _choose(url, {"http": PROXY, "https": PROXY, "no": no_proxy}) is None


@pytest.mark.parametrize(
    ("url", "no_proxy"),
    [
        ("http://gpu.corp.example:11434", "gpu.corp.example"),
        ("http://gpu.corp.example:11434", "corp.example"),
        ("http://gpu.corp.example:11434", ".corp.example"),
        ("http://corp.example:11434", ".corp.example"),
        ("http://gpu.corp.example:11434", "*.corp.example"),
        ("http://a.b.corp.example:11434", "*.corp.example"),
        ("http://gpu-7.corp.example:11434", "gpu-*.corp.example"),
        ("http://gpu.corp.example:11434", "GPU.Corp.Example"),
        ("http://gpu.corp.example:11434", "gpu.corp.example."),
        ("http://gpu.corp.example.:11434", "corp.example"),
        ("http://gpu.corp.example:11434", "gpu.corp.example:11434"),
        ("http://gpu.corp.example:11434", ".corp.example:11434"),
        ("http://gpu.corp.example:11434", "*:11434"),
        ("http://gpu.corp.example:80", "gpu.corp.example:80"),
        ("https://gpu.corp.example", "gpu.corp.example:443"),
        ("https://gpu.corp.example", "https://gpu.corp.example"),
        ("https://gpu.corp.example", "all://gpu.corp.example/"),
        ("http://gpu.corp.example:11434", "other.example , gpu.corp.example "),
        ("http://gpu.corp.example:11434", "other.example gpu.corp.example"),
        ("http://gpu.corp.example:11434", "other.example;gpu.corp.example"),
        ("http://gpu.corp.example:11434", '"other.example,gpu.corp.example"'),
        ("http://gpu.corp.example:11434", "other.example,*"),
        ("http://gpu.corp.example:11434", "fd07:b51a:cc66:f0::/64,gpu.corp.example"),
        ("http://gpu.corp.example:11434", ",,gpu.corp.example,"),
        ("http://gpu_box:11434", "gpu_box"),
        ("http://b\u00fcro.example:11434", "b\u00fcro.example"),
        ("http://b\u00fcro.example:11434", "xn--bro-hoa.example"),
        ("http://10.1.2.3:11434", "10.1.2.3"),
        ("http://10.1.2.3:11434", "10.1.2.3:11434"),
        ("http://10.1.2.3:11434", "10.0.0.0/8"),
        ("http://10.1.2.3:11434", "10.9.9.9/8"),
        ("http://10.1.2.3:11434", "10.0.0.0/255.0.0.0"),
        ("http://10.1.2.3:11434", "::ffff:10.1.2.3"),
        ("http://10.1.2.3:11434", "::ffff:10.0.0.0/104"),
        ("http://10.1.2.3:11434", "[::ffff:10.1.2.3]:11434"),
        ("http://[::ffff:10.1.2.3]:11434", "::ffff:10.1.2.3"),
        ("http://[::ffff:10.1.2.3]:11434", "::ffff:a01:0/112"),
        ("http://10.1.2.3:11434", "10.1.*"),
        ("http://10.1.2.3:11434", "0.0.0.0/0"),
        ("http://[fd00::5]:11434", "fd00::5"),
        ("http://[fd00::5]:11434", "FD00:0:0::5"),
        ("http://[fd00::5]:11434", "[fd00::5]"),
        ("http://[fd00::5]:11434", "[fd00::5]:11434"),
        ("http://[fd00::5]:11434", "fd00::/8"),
        ("http://[fd00::5]:11434", "[fd00::]/8"),
        ("http://[fd00::5]:11434", "[fd00::/8]"),
        ("http://[fe80::1%25eth0]:11434", "fe80::/10"),
        ("http://[::ffff:10.1.2.3]:11434", "10.0.0.0/8"),
    ],
)
def test_a_host_that_is_named_is_exempt(url, no_proxy):
    assert _is_exempt(url, no_proxy)


@pytest.mark.parametrize(
    ("url", "no_proxy"),
    [
        ("http://gpu.corp.example:11434", ""),
        ("http://gpu.corp.example:11434", "other.example"),
        ("http://mycorp.example:11434", "corp.example"),
        ("http://corp.example.evil.test:11434", "corp.example"),
        ("http://corp.example:11434", "*.corp.example"),
        ("http://gpuXcorp.example:11434", "gpu.corp.example"),
        ("http://gpu.corp.example:11434", "gpu.corp.example:8080"),
        ("http://gpu.corp.example:11434", "https://gpu.corp.example"),
        ("http://10.1.2.3:11434", "2.3"),
        ("http://10.1.2.3:11434", "11.0.0.0/8"),
        ("http://10.1.2.3:11434", "fd00::/8"),
        ("http://[fd00::5]:11434", "10.0.0.0/8"),
        ("http://[fd00::5]:11434", "[fd00::5]:80"),
        ("http://[fd00::5]:11434", "fd00::6"),
        ("http://gpu.corp.example:11434", "10.0.0.0/8,::1/128"),
    ],
)
def test_any_other_is_not(url, no_proxy):
    assert not _is_exempt(url, no_proxy)


@pytest.mark.parametrize(
    "entry", ["10.0.0.0/99", "[gpu", "[::1]x", "a:b:c", "gpu..example", "gpu:port", "gpu/x", "<local>", "@"]
)
def test_an_entry_that_cannot_be_read_is_skipped_with_one_warning(entry, caplog):
    for _ in range(3):
        assert not _is_exempt("http://10.1.2.3:11434", entry)
        assert _is_exempt("http://10.1.2.3:11434", f"{entry},10.1.2.3")
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert entry in record.getMessage()


def test_entries_that_can_be_read_are_no_reason_to_warn(caplog):
    assert not _is_exempt("http://gpu.example:1", "localhost,127.0.0.0/8,::1,fd07::/64,*.x,.y,[::1]:8,h:1,http://z")
    assert caplog.records == []


@pytest.mark.parametrize(
    ("text", "address", "auth"),
    [
        ("http://proxy.example:3128", "http://proxy.example:3128", None),
        ("proxy.example:3128", "http://proxy.example:3128", None),
        (" 'http://proxy.example:3128/' ", "http://proxy.example:3128", None),
        ("HTTPS://proxy.example", "https://proxy.example", None),
        ("http://ada:hunter2@proxy.example:3128", "http://proxy.example:3128", ("ada", "hunter2")),
        ("http://ada:p%40ss@proxy.example:3128", "http://proxy.example:3128", ("ada", "p@ss")),
        ("http://ada:p@ss#/?:@proxy.example:3128", "http://proxy.example:3128", ("ada", "p@ss#/?:")),
        ("ada:hunter2@proxy.example:3128", "http://proxy.example:3128", ("ada", "hunter2")),
        ("http://[fd00::1]:3128", "http://[fd00::1]:3128", None),
        ("socks5h://proxy.example:1080", "socks5h://proxy.example:1080", None),
    ],
)
def test_a_proxy_is_understood_as_it_is_written(text, address, auth):
    proxy = _choose("http://gpu.example:11434", {"http": text})
    assert (proxy.address, proxy.auth, proxy.variable) == (address, auth, "HTTP_PROXY")
    assert "hunter2" not in repr(proxy)


def test_the_scheme_of_the_host_decides_and_all_comes_last():
    proxies = {"http": "a.example:1", "https": "b.example:2", "all": "c.example:3"}
    assert _choose("http://gpu.example", proxies).address == "http://a.example:1"
    assert _choose("https://gpu.example", proxies).address == "http://b.example:2"
    del proxies["https"]
    assert _choose("https://gpu.example", proxies).address == "http://c.example:3"


@pytest.mark.parametrize("scheme", ["socks", "socks4", "socks4a", "ftp", "quic", ""])
def test_a_proxy_that_cannot_be_used_is_named_where_it_is_needed(scheme):
    proxies = {"all": f"{scheme}://ada:hunter2@proxy.example:1080"}
    with pytest.raises(OllamaContentError, match="proxy of ALL_PROXY cannot be used") as caught:
        _choose("http://gpu.example", proxies)
    assert "hunter2" not in str(caught.value)


def test_a_proxy_that_cannot_be_used_does_not_matter_where_it_is_not_needed():
    assert _choose("http://gpu.example", {"all": "socks://127.0.0.1:1080", "no": "gpu.example"}) is None
    assert _choose("http://gpu.example", {"http": PROXY, "all": "socks://127.0.0.1:1080"}).address == PROXY


@pytest.mark.parametrize("value", ["", " ", '""'])
def test_an_empty_variable_names_no_proxy(value):
    assert _choose("http://gpu.example", {"http": value}) is None


@pytest.mark.parametrize("upper", [True, False])
def test_variables_count_in_either_case(monkeypatch, upper):
    for name, value in {"http_proxy": PROXY, "no_proxy": "exempt.example"}.items():
        monkeypatch.setenv(name.upper() if upper else name, value)
    assert environment_proxy("http://gpu.example").variable == ("HTTP_PROXY" if upper else "http_proxy")
    assert environment_proxy("http://exempt.example") is None


class TestOverTheWire:
    def test_an_exempt_host_is_asked_directly_and_any_other_through_the_proxy(self, simulator, monkeypatch):
        port = simulator.url.rpartition(":")[2]
        monkeypatch.setattr("socket.getaddrinfo", _resolving_to_loopback())
        with HostileServer(lambda _: NO_MODELS) as proxy:
            monkeypatch.setenv("HTTP_PROXY", proxy.url.replace("://", "://ada:hunter2@"))
            monkeypatch.setenv("NO_PROXY", "localhost,fe80::/10,10.0.0.0/8")
            assert OllamaModels(host=f"http://10.1.2.3:{port}").list()
            assert proxy.heads == []
            assert OllamaModels(host="http://gpu.example").list() == []
            assert proxy.heads[0].startswith(b"GET http://gpu.example")
            assert b"Proxy-Authorization: Basic YWRhOmh1bnRlcjI=" in proxy.heads[0]

    def test_an_ipv6_network_does_no_harm_where_there_is_no_proxy(self, simulator, monkeypatch):
        monkeypatch.setattr("socket.getaddrinfo", _resolving_to_loopback())
        monkeypatch.setenv("NO_PROXY", "localhost,127.0.0.0/8,::1,fd07:b51a:cc66:f0::/64")
        assert OllamaModels(host=f"http://10.1.2.3:{simulator.url.rpartition(':')[2]}").list()

    def test_a_socks_proxy_without_its_package_says_what_to_install(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "socksio", None)
        monkeypatch.setenv("ALL_PROXY", "socks5://ada:hunter2@127.0.0.1:9")
        with pytest.raises(OllamaContentError, match=r"proxy of ALL_PROXY .* install httpx\[socks\]") as caught:
            OllamaModels(host="http://gpu.example").list()
        assert "hunter2" not in str(caught.value)

    def test_this_machine_is_never_asked_through_a_proxy(self, unused_port, monkeypatch):
        monkeypatch.setenv("ALL_PROXY", "socks://127.0.0.1:9")
        with pytest.raises(OllamaConnectionError, match="No Ollama server answers"):
            OllamaModels(host=f"http://localhost:{unused_port}", max_attempts=1).list()


def _resolving_to_loopback():
    real = socket.getaddrinfo

    def resolve(host, port, *arguments, **keywords):
        name = host.decode() if isinstance(host, bytes) else host
        return real("127.0.0.1" if name in ("10.1.2.3", "gpu.example") else name, port, *arguments, **keywords)

    return resolve
