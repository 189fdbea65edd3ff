"""A web server on this machine that plays those that publish weights."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Site:
    """What the server has, and what it was asked."""

    address: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    kinds: dict[str, str] = field(default_factory=dict)
    break_after: int | None = None  # bytes, once
    break_at: dict[str, int] = field(default_factory=dict)  # the same of one path
    ranges: bool = True
    asked: list[str | None] = field(default_factory=list)


@contextmanager
def served() -> Iterator[Site]:
    """Inside, a web server on this machine."""
    state = Site()

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_args):
            """Silence."""

        def do_GET(self):
            state.asked.append(self.headers.get("Range"))
            body = state.files.get(self.path)
            if body is None:
                self.send_error(404)
                return
            start = int((self.headers.get("Range") or "bytes=0-")[6:-1]) if state.ranges else 0
            if start >= len(body):
                self.send_error(416)
                return
            self.send_response(206 if start else 200)
            if start:
                self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
            self.send_header("Content-Length", str(len(body) - start))
            self.send_header("Content-Type", state.kinds.get(self.path, "application/octet-stream"))
            self.end_headers()
            end, state.break_after = state.break_at.pop(self.path, state.break_after), None
            self.wfile.write(body[start:end])

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    state.address = f"http://127.0.0.1:{server.server_address[1]}"
    yield state
    server.shutdown()
    server.server_close()
    thread.join()
