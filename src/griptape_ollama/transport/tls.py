"""TLS contexts of the settings and of the environment, and errors that name which of them is wrong."""

from __future__ import annotations

import os
import re
import ssl
from pathlib import Path

import httpx

from griptape_ollama.errors import OllamaContentError

# OpenSSL finds the certificates of a folder by names that are hashes of their subjects, such as `5ad8a5d6.0`.
_HASHED_NAME = re.compile(r"[0-9a-f]{8}\.\d+")


def tls_context(
    base_url: str, *, verify: bool | str | ssl.SSLContext = True, cert: tuple[str, ...] | None = None
) -> ssl.SSLContext:
    """Build the context for connections to a server.

    Args:
        base_url: Address of the server. One without TLS needs no certificates, whatever the environment contains.
        verify: Whether certificates are checked; a file or folder of CA certificates; or a context. With True,
            `SSL_CERT_FILE`, then `SSL_CERT_DIR`, take the place of the certificates of `certifi`.
        cert: Client certificate: a file, or a file and a key file.

    Raises:
        OllamaContentError: A file, a folder or a variable of the environment is no use.
    """
    context = _context_of(base_url, verify)
    if cert is not None:
        try:
            context.load_cert_chain(*cert)
        except (OSError, ssl.SSLError, TypeError) as error:
            raise OllamaContentError(
                f"cert={cert!r} is not a certificate file, or a certificate and a key: {error}"
            ) from error
    return context


def _context_of(base_url: str, verify: bool | str | ssl.SSLContext) -> ssl.SSLContext:
    if isinstance(verify, ssl.SSLContext):
        return verify
    if verify is True and not base_url.startswith("https:"):
        # Reading the CA certificates takes 20 ms; an empty context trusts no server, should this one redirect to TLS.
        return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if verify is True:
        return _default_context()
    if verify is False:
        return httpx.create_ssl_context(verify=False)
    is_folder = Path(verify).is_dir()
    return _trusting(f"verify={verify!r}", capath=verify if is_folder else None, cafile=None if is_folder else verify)


def _default_context() -> ssl.SSLContext:
    """Build a context as httpx 0.28 does; 0.27 ignores a variable whose path does not exist."""
    if path := os.environ.get("SSL_CERT_FILE"):
        return _trusting(f"SSL_CERT_FILE={path!r}", " Correct SSL_CERT_FILE, or unset it.", cafile=path)
    if path := os.environ.get("SSL_CERT_DIR"):
        if not _holds_certificates(path):
            raise OllamaContentError(
                f"SSL_CERT_DIR={path!r} is not a folder of CA certificates under hashed names: run `openssl rehash` on "
                "it, correct SSL_CERT_DIR, or unset it."
            )
        return _trusting(f"SSL_CERT_DIR={path!r}", " Correct SSL_CERT_DIR, or unset it.", capath=path)
    try:
        return httpx.create_ssl_context()
    except (OSError, ssl.SSLError) as error:
        raise _unusable("The CA certificates of certifi cannot be used", error) from error


def _trusting(
    setting: str, advice: str = "", *, cafile: str | None = None, capath: str | None = None
) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=cafile, capath=capath)
    except (OSError, ssl.SSLError) as error:
        raise _unusable(f"{setting} is not a file or folder of CA certificates", error, advice) from error


def _holds_certificates(folders: str) -> bool:
    """Return whether OpenSSL finds any certificate there; without one, every server would be refused later."""
    paths = [Path(folder) for folder in folders.split(os.pathsep)]
    try:
        return any(_HASHED_NAME.fullmatch(each.name) for path in paths if path.is_dir() for each in path.iterdir())
    except OSError:
        return False


def _unusable(text: str, error: Exception, advice: str = "") -> OllamaContentError:
    log = os.environ.get("SSLKEYLOGFILE")
    if log and getattr(error, "filename", None) == log:
        return OllamaContentError(f"SSLKEYLOGFILE={log!r} cannot be written: {error}. Correct it, or unset it.")
    return OllamaContentError(f"{text}: {error}.{advice}")
