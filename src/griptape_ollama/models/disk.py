"""Check that a model fits on the disk, if the server is on this machine and its folder can be found."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from griptape_ollama.errors import OllamaDiskError
from griptape_ollama.models.progress import ProgressMeter
from griptape_ollama.protocol.host import parse_host
from griptape_ollama.protocol.numbers import format_bytes

# Where the installers put the models: the user's own server, and the service of Linux.
_USUAL_FOLDERS = ("~/.ollama/models", "/usr/share/ollama/.ollama/models")


class DiskCheck:
    """Compares the free space with the size of each file that the server reports.

    `OLLAMA_MODELS` is taken for the server's folder. A usual folder counts only if the file that the server is just
    pulling is in it: it may belong to another server, on another disk.

    Args:
        host: Address of the server.
        model: Model that is pulled, for the error.
    """

    def __init__(self, host: str, model: str) -> None:
        self._host = host
        self._model = model
        self._is_local = parse_host(host).is_loopback
        self._checked: set[str] = set()

    def check(self, line: Mapping[str, object], meter: ProgressMeter) -> None:
        """Check the free space, if a line of a pull reports the size of a file for the first time.

        Raises:
            OllamaDiskError: There is less space than what is missing of the file.
        """
        digest = line.get("digest")
        if not self._is_local or not isinstance(digest, str) or digest in self._checked or "total" not in line:
            return
        self._checked.add(digest)
        missing = meter.missing_of(digest)
        folder = models_folder(digest) if missing else None
        free = None if folder is None else _free_bytes(folder)
        if free is not None and missing > free:
            raise OllamaDiskError(
                f"Model {self._model!r} does not fit: {format_bytes(missing)} are missing of it, and {folder} has "
                f"{format_bytes(free)} free. Delete models that you do not need, or set OLLAMA_MODELS to a larger "
                "disk.",
                host=self._host,
                model=self._model,
                bytes_needed=missing,
                bytes_free=free,
            )


def models_folder(digest: str) -> Path | None:
    """Return the folder in which a server on this machine keeps its models; None if it cannot be found.

    Args:
        digest: A file that the server is pulling, which identifies its folder.
    """
    if given := os.environ.get("OLLAMA_MODELS"):
        folder = Path(given).expanduser()
        return folder if folder.is_dir() else None
    name = digest.replace(":", "-")
    return next((folder for folder in map(_expanded, _USUAL_FOLDERS) if folder and _has_file(folder, name)), None)


def _expanded(folder: str) -> Path | None:
    try:
        return Path(folder).expanduser()
    except RuntimeError:  # a user without a home
        return None


def _has_file(folder: Path, name: str) -> bool:
    """Return whether a file is there: under its name when it is complete, with `-partial` after it before that."""
    try:
        return any((folder / "blobs").glob(f"{name}*"))
    except OSError:
        return False


def _free_bytes(folder: Path) -> int | None:
    try:
        return shutil.disk_usage(folder).free
    except OSError:
        return None
