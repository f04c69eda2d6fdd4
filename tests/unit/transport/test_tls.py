"""Certificates that the settings and the environment name."""

import os
import ssl
import subprocess
import sys

import pytest
import trustme

from griptape_ollama import OllamaModels
from griptape_ollama.errors import OllamaConnectionError, OllamaContentError
from griptape_ollama.transport.tls import tls_context
from unit.transport.tls_front import TlsFront

URL = "https://gpu.example"


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch):
    for name in ("SSL_CERT_FILE", "SSL_CERT_DIR", "SSLKEYLOGFILE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def authority():
    return trustme.CA()


@pytest.fixture
def server(authority, simulator):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    with TlsFront(context, simulator.url) as port:
        yield f"https://127.0.0.1:{port}"


@pytest.fixture
def paths(tmp_path):
    """Files and folders that are no use."""
    (tmp_path / "empty.pem").touch()
    (tmp_path / "text.pem").write_text("these are no certificates\n")
    (tmp_path / "half.pem").write_text("-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n")
    (tmp_path / "binary.pem").write_bytes(bytes(range(256)))
    (tmp_path / "folder").mkdir()
    return tmp_path


@pytest.mark.parametrize(
    "name", ["missing.pem", "folder", "empty.pem", "text.pem", "half.pem", "binary.pem", "a/\x7fb"]
)
def test_a_file_of_certificates_that_is_none_is_named_with_its_variable(monkeypatch, paths, name):
    path = str(paths / name)
    monkeypatch.setenv("SSL_CERT_FILE", path)
    with pytest.raises(OllamaContentError, match="SSL_CERT_FILE=") as caught:
        OllamaModels(host=URL).list()
    assert repr(path) in str(caught.value)


@pytest.mark.parametrize("name", ["missing", "empty.pem", "folder"])
def test_a_folder_of_certificates_that_is_none_is_named_with_its_variable(monkeypatch, paths, name):
    path = str(paths / name)
    monkeypatch.setenv("SSL_CERT_DIR", path)
    with pytest.raises(OllamaContentError, match=r"SSL_CERT_DIR=.*openssl rehash") as caught:
        OllamaModels(host=URL).list()
    assert path in str(caught.value)


def test_certificates_without_hashed_names_are_none(monkeypatch, paths, authority):
    authority.cert_pem.write_to_path(str(paths / "folder" / "ca.pem"))
    monkeypatch.setenv("SSL_CERT_DIR", str(paths / "folder"))
    with pytest.raises(OllamaContentError, match="SSL_CERT_DIR"):
        tls_context(URL)


@pytest.mark.parametrize("variable", ["SSL_CERT_FILE", "SSL_CERT_DIR", "SSLKEYLOGFILE"])
def test_an_address_without_tls_needs_none_of_them(monkeypatch, simulator, variable):
    monkeypatch.setenv(variable, "/nowhere/at/all")
    assert OllamaModels(host=simulator.url).list()


@pytest.mark.parametrize("settings", [{"verify": False}, {"ssl_context": ssl.create_default_context()}])
def test_settings_in_their_place_need_none_of_them(monkeypatch, unused_port, settings):
    monkeypatch.setenv("SSL_CERT_FILE", "/nowhere/at/all")
    with pytest.raises(OllamaConnectionError, match="refused"):
        OllamaModels(host=f"https://127.0.0.1:{unused_port}", **settings).list()


def test_a_client_certificate_does_not_hide_which_variable_is_wrong(monkeypatch):
    monkeypatch.setenv("SSL_CERT_FILE", "/nowhere/at/all")
    with pytest.raises(OllamaContentError, match="SSL_CERT_FILE="):
        tls_context(URL, cert=("mine.pem",))


@pytest.mark.parametrize("verify", [True, "a file"])
def test_a_log_of_keys_that_cannot_be_written_is_named(monkeypatch, paths, authority, verify):
    authority.cert_pem.write_to_path(str(paths / "ca.pem"))
    log = str(paths / "missing" / "keys.log")
    monkeypatch.setenv("SSLKEYLOGFILE", log)
    with pytest.raises(OllamaContentError, match=r"SSLKEYLOGFILE='.*keys\.log' cannot be written"):
        tls_context(URL, verify=str(paths / "ca.pem") if verify == "a file" else True)


def test_the_certificates_of_the_file_are_trusted_also_on_this_machine(monkeypatch, server, authority, tmp_path):
    with pytest.raises(OllamaConnectionError, match="certificate"):
        OllamaModels(host=server).list()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    assert OllamaModels(host=server).list()


@pytest.mark.parametrize("before", [[], ["/nowhere/at/all"]])
def test_those_of_a_folder_are(monkeypatch, server, authority, tmp_path, before):
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    command = ["openssl", "x509", "-hash", "-noout", "-in", str(tmp_path / "ca.pem")]
    try:
        name = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except FileNotFoundError:
        pytest.skip("there is no openssl command")
    (tmp_path / "ca.pem").rename(tmp_path / f"{name}.0")
    monkeypatch.setenv("SSL_CERT_DIR", os.pathsep.join([*before, str(tmp_path)]))
    assert OllamaModels(host=server).list()


def test_an_empty_variable_is_none(monkeypatch):
    monkeypatch.setenv("SSL_CERT_FILE", "")
    assert tls_context(URL).cert_store_stats()["x509_ca"] > 0


_WRONG = {
    "NO_PROXY": "localhost,fd07:b51a:cc66:f0::/64",
    "ALL_PROXY": "socks://127.0.0.1:9",
    "SSL_CERT_FILE": "/nowhere/at/all",
    "SSLKEYLOGFILE": "/nowhere/at/all",
}


@pytest.mark.parametrize("wrong", [_WRONG, {"OLLAMA_HOST": "a:b:c"}, {**_WRONG, "OLLAMA_HOST": "a:b:c"}])
def test_a_program_starts_whatever_the_environment_holds(simulator, wrong):
    """`import ollama` makes a client, which reads the environment, and raises."""
    program = (
        "import os; from griptape_ollama import OllamaModels; "
        f"print(len(OllamaModels(host={simulator.url!r}).list()), {{name: os.environ[name] for name in {list(wrong)}}})"
    )
    environment = {**os.environ, **wrong, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, env=environment)
    assert done.stdout == f"2 {wrong}\n", done.stderr
