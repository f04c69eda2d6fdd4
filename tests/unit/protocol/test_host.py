"""Addresses, as users write them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ollama._client import _parse_host

from griptape_ollama.protocol.host import origin_of, parse_host, without_credentials

_PLAIN = [
    (None, "http://127.0.0.1:11434"),
    ("", "http://127.0.0.1:11434"),
    (":8080", "http://127.0.0.1:8080"),
    ("gpu", "http://gpu:11434"),
    ("gpu:8080", "http://gpu:8080"),
    ("gpu/", "http://gpu:11434"),
    ("gpu:8080/", "http://gpu:8080"),
    ("gpu/ollama", "http://gpu:11434/ollama"),
    ("gpu/ollama/", "http://gpu:11434/ollama"),
    ("gpu:8080/a/b", "http://gpu:8080/a/b"),
    ("gpu-box", "http://gpu-box:11434"),
    ("gpu.example.com", "http://gpu.example.com:11434"),
    ("192.168.1.20", "http://192.168.1.20:11434"),
    ("192.168.1.20:8080", "http://192.168.1.20:8080"),
    ("localhost", "http://localhost:11434"),
    ("127.0.0.1:11434", "http://127.0.0.1:11434"),
    ("http://gpu", "http://gpu:80"),
    ("http://gpu/", "http://gpu:80"),
    ("http://gpu:11434", "http://gpu:11434"),
    ("https://gpu", "https://gpu:443"),
    ("https://gpu:8443", "https://gpu:8443"),
    ("https://gpu/ollama", "https://gpu:443/ollama"),
    ("https://gpu/ollama/", "https://gpu:443/ollama"),
    ("https://gpu:8443/a/b/c", "https://gpu:8443/a/b/c"),
    ("http://192.168.1.20", "http://192.168.1.20:80"),
    ("[::1]", "http://[::1]:11434"),
    ("[::1]:8080", "http://[::1]:8080"),
    ("http://[::1]", "http://[::1]:80"),
    ("https://[2001:db8::1]:8443/ollama", "https://[2001:db8::1]:8443/ollama"),
    ("[0001:002:003:0004::1]:56789", "http://[0001:002:003:0004::1]:56789"),
]
_FORGIVEN = [
    ("   ", "http://127.0.0.1:11434"),
    ("  gpu:8080\n", "http://gpu:8080"),
    ('"gpu:8080"', "http://gpu:8080"),
    ("'http://gpu'", "http://gpu:80"),
    ('" gpu "', "http://gpu:11434"),
    ("gpu:", "http://gpu:11434"),
    ("HTTP://GPU", "http://gpu:80"),
    ("HTTPS://Gpu.Example.COM/Ollama", "https://gpu.example.com:443/Ollama"),
    ("gpu_box", "http://gpu_box:11434"),
    ("gpu.", "http://gpu.:11434"),
    ("::1", "http://[::1]:11434"),
    ("2001:db8::1", "http://[2001:db8::1]:11434"),
    ("https://gpu//ollama//", "https://gpu:443/ollama"),
    ("https://gpu/a%20b", "https://gpu:443/a%20b"),
    ("http://:8080", "http://127.0.0.1:8080"),
    ("0.0.0.0", "http://127.0.0.1:11434"),  # noqa: S104
    ("0.0.0.0:8080", "http://127.0.0.1:8080"),
    ("http://0.0.0.0:11434", "http://127.0.0.1:11434"),
    ("[::]", "http://[::1]:11434"),
    ("[::]:8080", "http://[::1]:8080"),
    ("::", "http://[::1]:11434"),
    ("ollama.com", "https://ollama.com:443"),
    ("OLLAMA.com", "https://ollama.com:443"),
    ("ollama.com/", "https://ollama.com:443"),
    ("ollama.com:443", "https://ollama.com:443"),
    ("api.ollama.com", "https://api.ollama.com:443"),
    ("https://ollama.com", "https://ollama.com:443"),
    ("https://ollama.com/v1", "https://ollama.com:443/v1"),
]


@pytest.mark.parametrize(("host", "base_url"), _PLAIN + _FORGIVEN)
def test_an_address_becomes_a_base_url(host, base_url):
    assert parse_host(host).base_url == base_url


@pytest.mark.parametrize(("host", "base_url"), _PLAIN)
def test_plain_addresses_mean_what_they_mean_to_the_ollama_package(host, base_url):
    assert parse_host(host).base_url == base_url == _parse_host(host)


@pytest.mark.parametrize(("host", "base_url"), _PLAIN + _FORGIVEN)
def test_a_base_url_is_an_address_that_means_itself(host, base_url):
    assert parse_host(base_url).base_url == base_url


@pytest.mark.parametrize(
    ("host", "base_url", "user", "password"),
    [
        ("https://user:secret@gpu", "https://gpu:443", "user", "secret"),
        ("user:secret@gpu", "http://gpu:11434", "user", "secret"),
        ("user:secret@gpu:8080/ollama", "http://gpu:8080/ollama", "user", "secret"),
        ("https://user:secret@[::1]:8443", "https://[::1]:8443", "user", "secret"),
        ("https://user@gpu", "https://gpu:443", "user", ""),
        ("https://user:@gpu", "https://gpu:443", "user", ""),
        ("https://:secret@gpu", "https://gpu:443", "", "secret"),
        ("https://user:p%40ss%3Aw%2Ford%25@gpu", "https://gpu:443", "user", "p@ss:w/ord%"),
        ("https://user:p@ss@gpu", "https://gpu:443", "user", "p@ss"),
        ("https://user:p:ss@gpu", "https://gpu:443", "user", "p:ss"),
        ("https://us%3Aer:p!$&'()*+,;=~@gpu", "https://gpu:443", "us:er", "p!$&'()*+,;=~"),
        ("https://user:p%C3%A4ss@gpu", "https://gpu:443", "user", "päss"),
        ("https://user:päss@gpu", "https://gpu:443", "user", "päss"),
        ("https://user:100%@gpu", "https://gpu:443", "user", "100%"),
        ("https://user:a+b@gpu", "https://gpu:443", "user", "a+b"),
        ("https://user:secret@ollama.com", "https://ollama.com:443", "user", "secret"),
    ],
)
def test_user_and_password_are_extracted_and_decoded(host, base_url, user, password):
    address = parse_host(host)
    assert (address.base_url, address.user, address.password) == (base_url, user, password)
    assert password == "" or password not in repr(address)


@pytest.mark.parametrize("host", ["gpu", "https://gpu:8443/prefix", None])
def test_without_an_at_sign_there_is_no_user(host):
    assert (parse_host(host).user, parse_host(host).password) == (None, None)


@pytest.mark.parametrize(
    ("host", "reason"),
    [
        ("ftp://gpu", "the scheme 'ftp' is not http or https"),
        ("unix:///var/run/ollama.sock", "the scheme 'unix' is not http or https"),
        ("://gpu", "the scheme '' is not http or https"),
        ("http:// gpu", "' gpu' is not a host name"),
        ("gpu box", "'gpu box' is not a host name"),
        ("-gpu", "'-gpu' is not a host name"),
        ("gpu-", "'gpu-' is not a host name"),
        ("gpu\\ollama", "is not a host name"),
        ("gpu,other", "it is several addresses"),
        ("gpu:11434, other:11434", "it is several addresses"),
        ("gpu;other", "it is several addresses"),
        ("http://gpu:11434,http://other:11434", "it is several addresses"),
        ("http://gpu http://other", "it is several addresses"),
        ("gpu,http://other", "it is several addresses"),
        ("ä..b", "'ä..b' is not a host name"),
        ("ä" * 70, "is not a host name"),
        ("gpu:0", "the port '0' is not a number from 1 to 65535"),
        ("gpu:65536", "the port '65536' is not a number from 1 to 65535"),
        ("gpu:http", "the port 'http' is not a number from 1 to 65535"),
        ("gpu:-1", "the port '-1' is not a number from 1 to 65535"),
        ("gpu:٨٠٨٠", "is not a number from 1 to 65535"),
        ("gpu:80:80", "the port '80:80' is not a number from 1 to 65535"),
        ("gpu:" + "9" * 5000, "is not a number from 1 to 65535"),
        ("[::1]:http", "the port 'http' is not a number from 1 to 65535"),
        ("[::1", "the IPv6 address in brackets is not one"),
        ("[gpu]", "the IPv6 address in brackets is not one"),
        ("[127.0.0.1]", "the IPv6 address in brackets is not one"),
        ("[::1]8080", "the IPv6 address in brackets is not one"),
        ("http://[::1]x:8080", "the IPv6 address in brackets is not one"),
        ("https://gpu?key=1", "it has a query or a fragment"),
        ("https://gpu/ollama?key=1", "it has a query or a fragment"),
        ("https://gpu/#top", "it has a query or a fragment"),
    ],
)
def test_what_is_not_an_address_is_refused_with_the_reason_and_an_example(host, reason):
    with pytest.raises(ValueError, match="is not an address") as caught:
        parse_host(host)
    assert reason in str(caught.value)
    assert "Write it like 'gpu-box'" in str(caught.value)


@pytest.mark.parametrize(
    "host",
    [
        "ftp://user:hunter2@gpu",
        "https://user:hunter2@gpu:99999",
        "https://user:hunter2@gpu box",
        "https://user:hunter2@[::1",
        "https://user:hunter2@gpu?x",
        "https://user:hunter2/more@gpu",
        "https://user:more/hunter2@gpu",
        "https://user:hunter2?more@gpu",
        "https://user:more#hunter2@gpu",
        "https://user:hunter2@more@gpu:0",
        "user:hunter2@http://gpu",
        "user:hunter2://more@gpu",
        "user:more://hunter2@gpu",
        "https://user:[hunter2@gpu:x",
        "https://user/hunter2@gpu",
        "hunter2/more@gpu:x",
        "http://user:hunter2@gpu,http://user:hunter2@other",
        "http://gpu,http://user:hunter2@other",
    ],
)
def test_an_error_never_shows_a_password(host):
    with pytest.raises(ValueError, match="is not an address") as caught:
        parse_host(host)
    assert "hunter2" not in str(caught.value)
    assert caught.value.__cause__ is None or "hunter2" not in str(caught.value.__cause__)


@pytest.mark.parametrize("host", [["gpu", "other"], ("gpu",), {"gpu"}, ["http://user:hunter2@gpu"]], ids=repr)
def test_a_list_of_addresses_is_refused_with_the_page_about_several_servers(host):
    with pytest.raises(ValueError, match=r"docs/production\.md") as caught:
        parse_host(host)
    assert f"host is a {type(host).__name__}" in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_a_comma_in_a_password_or_a_path_is_one():
    assert parse_host("http://user:a,b@gpu").base_url == "http://gpu:80"
    assert parse_host("http://gpu/a,b").base_url == "http://gpu:80/a,b"


@pytest.mark.parametrize(
    ("host", "is_loopback"),
    [
        (None, True),
        ("localhost", True),
        ("LOCALHOST:8080", True),
        ("ollama.localhost", True),
        ("127.0.0.1", True),
        ("127.1.2.3:8080", True),
        ("::1", True),
        ("http://[::1]:8080/x", True),
        ("0.0.0.0", True),  # noqa: S104
        ("[::]", True),
        ("user:password@localhost", True),
        ("gpu", False),
        ("192.168.1.20", False),
        ("localhost.example.com", False),
        ("notlocalhost", False),
        ("ollama.com", False),
    ],
)
def test_loopback_addresses_are_recognised(host, is_loopback):
    assert parse_host(host).is_loopback is is_loopback


@pytest.mark.parametrize(
    ("host", "is_cloud"),
    [
        ("ollama.com", True),
        ("https://ollama.com", True),
        ("https://OLLAMA.COM/v1", True),
        ("https://api.ollama.com", True),
        ("api.ollama.com", True),
        ("http://ollama.com", False),
        ("ollama.com:80", False),
        ("ollama.com.evil.example", False),
        ("notollama.com", False),
        ("https://evil.example/ollama.com", False),
        ("https://ollama.com@evil.example", False),
        ("gpu", False),
        (None, False),
    ],
)
def test_only_ollama_com_is_the_cloud(host, is_cloud):
    assert parse_host(host).is_cloud is is_cloud


@pytest.mark.parametrize(
    ("host", "shown"),
    [
        (None, None),
        ("gpu:8080", "gpu:8080"),
        ("https://gpu/x", "https://gpu/x"),
        ("user:hunter2@gpu", "gpu"),
        ("https://user:hunter2@gpu:8443/x", "https://gpu:8443/x"),
        ("https://user:hun@ter2@gpu", "https://gpu"),
        ("https://user:hun/ter2@gpu", "https://gpu"),
    ],
)
def test_a_host_is_shown_without_user_and_password(host, shown):
    assert without_credentials(host) == shown


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("https://gpu:8443/ollama/", "https://gpu:8443/ollama"),
        ("http://user:hunter2@gpu:11434", "http://gpu:11434"),
        ("http://[::1]:11434/", "http://[::1]:11434"),
    ],
)
def test_the_origin_of_a_url_has_nothing_secret(url, origin):
    assert origin_of(url) == origin


@given(st.text(max_size=40))
def test_a_text_is_an_address_or_a_value_error(text):
    try:
        address = parse_host(text)
    except ValueError as error:
        assert "is not an address" in str(error)  # noqa: PT017 # most texts are none, some are
    else:
        assert address.base_url.startswith(("http://", "https://"))


@given(st.text(min_size=1), st.text(min_size=1))
def test_any_user_and_password_survive_percent_encoding(user, password):
    def encode(text):
        return "".join(f"%{byte:02X}" for byte in text.encode())

    address = parse_host(f"https://{encode(user)}:{encode(password)}@gpu")
    assert (address.user, address.password, address.base_url) == (user, password, "https://gpu:443")
