"""A server in a process of its own that says when requests arrived, on the clock that all processes share.

It answers every chat with one word, and knows one model that was made for 131,072 tokens.
"""

import contextlib
import json
import socketserver
import subprocess
import sys
import time

_SHOW = {
    "capabilities": ["completion", "tools"],
    "parameters": "",
    "model_info": {"general.architecture": "llama", "llama.context_length": 131_072},
}
_WORD = {"role": "assistant", "content": "Yes."}
_LAST = {"done_reason": "stop", "eval_count": 2, "total_duration": 10**6, "eval_duration": 10**5}
_ANSWERS = {b"/api/show": _SHOW, b"/api/ps": {"models": []}}


class Handler(socketserver.StreamRequestHandler):
    def handle(self):
        while request := self.rfile.readline():
            arrived = time.monotonic()
            length = 0
            while (header := self.rfile.readline()) not in (b"\r\n", b""):
                if header.lower().startswith(b"content-length:"):
                    length = int(header.split(b":")[1])
            self.rfile.read(length)
            path = request.split()[1]
            if path == b"/api/chat":
                print(arrived, flush=True)
            # About what a model counts, so that it is learned from.
            answer = {"model": "bench", "message": _WORD, "done": True, "prompt_eval_count": length // 4, **_LAST}
            body = json.dumps(_ANSWERS.get(path, answer)).encode() + b"\n"
            kind = b"application/json" if path in _ANSWERS else b"application/x-ndjson"
            self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n" % (kind, len(body)))
            self.wfile.write(body)


class Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True


@contextlib.contextmanager
def running():
    """Start the server; give its address, and what waits for the next chat and tells when it arrived."""
    process = subprocess.Popen([sys.executable, "-m", "benchmarks.arrivals"], stdout=subprocess.PIPE, text=True)
    try:
        yield process.stdout.readline().strip(), lambda: float(process.stdout.readline())
    finally:
        process.terminate()
        process.wait()
        process.stdout.close()


if __name__ == "__main__":
    with Server(("127.0.0.1", 0), Handler) as server:
        print(f"http://127.0.0.1:{server.server_address[1]}", flush=True)
        server.serve_forever()
