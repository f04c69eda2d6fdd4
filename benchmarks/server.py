"""A server in a process of its own, so that its CPU time is not the client's.

It answers every chat with the same lines (2,000 by default), each an HTTP chunk and a write of its own, and knows
nothing else: less than the simulator, so that the client is what is measured. Where the request wants no stream, it
answers with one line.
"""

import contextlib
import json
import socketserver
import subprocess
import sys

LINES = 2000
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n"


def _chunk(line):
    data = json.dumps(line, separators=(",", ":")).encode() + b"\n"
    return b"%x\r\n%s\r\n" % (len(data), data)


def _line(**fields):
    return {"model": "bench", "created_at": "2026-11-20T08:49:41.48117278Z", **fields}


def _reply(lines):
    for index in range(lines - 1):
        message = {"role": "assistant", "content": f" word{index % 97}"}
        yield _chunk(_line(message=message, done=False))
    last = {"done_reason": "stop", "total_duration": 10**9, "load_duration": 10**6, "prompt_eval_count": 20}
    last |= {"prompt_eval_duration": 10**6, "eval_count": lines - 1, "eval_duration": 10**9}
    yield _chunk(_line(message={"role": "assistant", "content": ""}, done=True, **last))


def _document(lines):
    text = "".join(f" word{index % 97}" for index in range(lines - 1))
    counts = {"done_reason": "stop", "prompt_eval_count": 20, "eval_count": lines - 1}
    return json.dumps(_line(message={"role": "assistant", "content": text}, done=True, **counts)).encode()


SHOW = json.dumps({"capabilities": ["completion", "tools"], "parameters": "", "model_info": {}}).encode()


class Handler(socketserver.StreamRequestHandler):
    disable_nagle_algorithm = True  # as servers in Go

    def handle(self):
        while request := self.rfile.readline():
            length = 0
            while (header := self.rfile.readline()) not in (b"\r\n", b""):
                if header.lower().startswith(b"content-length:"):
                    length = int(header.split(b":")[1])
            body = self.rfile.read(length)
            if b"/api/chat" not in request:
                self._answer(SHOW)
            elif b'"stream":false' in body.replace(b" ", b""):
                self._answer(self.server.document)
            else:
                self.wfile.write(HEAD)
                for chunk in self.server.reply:
                    self.wfile.write(chunk)
                self.wfile.write(b"0\r\n\r\n")

    def _answer(self, document):
        self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(document), document))


class Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, lines):
        super().__init__(("127.0.0.1", 0), Handler)
        self.reply = list(_reply(lines))
        self.document = _document(lines)


@contextlib.contextmanager
def running(lines=LINES):
    """Start the server, whose replies have so many lines, and return its address."""
    command = [sys.executable, "-m", "benchmarks.server", str(lines)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        yield process.stdout.readline().strip()
    finally:
        process.terminate()
        process.wait()
        process.stdout.close()


if __name__ == "__main__":
    with Server(int(sys.argv[1])) as server:
        print(f"http://127.0.0.1:{server.server_address[1]}", flush=True)
        server.serve_forever()
