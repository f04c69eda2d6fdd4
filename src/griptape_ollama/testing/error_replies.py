"""The way a request is refused: status, text and where in the server the refusal was made."""

import json


class Refusal(Exception):  # noqa: N818  it is an answer, not a fault of the simulator
    """A request that the real server answers with an error.

    Attributes:
        status: HTTP status.
        message: Text of the `error` field.
        from_runner: Whether the refusal comes from the process that runs the model. With `stream: true` such
            an error has another content type and no length.
    """

    def __init__(self, status: int, message: str, *, from_runner: bool = False) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.from_runner = from_runner


def runner_refusal(code: int, message: str, kind: str = "invalid_request_error", **extra: int) -> Refusal:
    """Make a refusal as the model's own process words it: a JSON text inside the `error` text."""
    error = {"code": code, "message": message, "type": kind, **extra}
    return Refusal(code, json.dumps({"error": error}, separators=(",", ":"), ensure_ascii=False), from_runner=True)
