"""A loopback HTTP server that answers as the Hugging Face hub does, for as much of it as downloading a file needs."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Hub:
    """What the server has and what it was asked.

    Attributes
    ----------
    files : "owner/name/file" -> content.   gated, private : repositories that answer as such.
    sends : bytes of a GET after which the connection breaks, one number a request; whole afterwards.
    states : "owner/name/file" -> SHA-256 that is stated instead of the right one.
    asked : (method, path, Range header); tokens : what came as Authorization.
    """

    endpoint: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    gated: set[str] = field(default_factory=set)
    private: set[str] = field(default_factory=set)
    sends: list[int] = field(default_factory=list)
    states: dict[str, str] = field(default_factory=dict)
    asked: list[tuple[str, str, str]] = field(default_factory=list)
    tokens: set[str] = field(default_factory=set)


@contextmanager
def hub_server() -> Iterator[Hub]:
    """Run a server on a free port of the loopback interface."""
    hub = Hub()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *arguments: object) -> None:
            pass

        def do_HEAD(self) -> None:
            self._answer(body=False)

        def do_GET(self) -> None:
            self._answer(body=True)

        def _answer(self, *, body: bool) -> None:
            wanted = self.headers.get("Range") or ""
            hub.asked.append((self.command, self.path, wanted))
            if self.headers.get("Authorization"):
                hub.tokens.add(self.headers["Authorization"])
            repository, _, name = self.path.lstrip("/").partition("/resolve/main/")
            if repository in hub.gated:
                return self._refuse(403, "GatedRepo")
            if repository in hub.private or not any(key.startswith(f"{repository}/") for key in hub.files):
                return self._refuse(401, "RepoNotFound")
            content = hub.files.get(f"{repository}/{name}")
            if content is None:
                return self._refuse(404, "EntryNotFound")
            start = int(wanted.removeprefix("bytes=").partition("-")[0]) if wanted else 0
            sha256 = hub.states.get(f"{repository}/{name}", hashlib.sha256(content).hexdigest())
            self.send_response(206 if wanted else 200)
            self.send_header("ETag", f'"{sha256}"')
            self.send_header("X-Linked-Etag", f'"{sha256}"')
            self.send_header("X-Linked-Size", str(len(content)))
            self.send_header("X-Repo-Commit", "0" * 40)
            self.send_header("Accept-Ranges", "bytes")
            if wanted:
                self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
            self.send_header("Content-Length", str(len(content) - start))
            self.end_headers()
            if body:
                part = content[start:]
                if hub.sends:
                    part = part[: hub.sends.pop(0)]
                    self.close_connection = True
                self.wfile.write(part)

        def _refuse(self, code: int, reason: str) -> None:
            self.send_response(code)
            self.send_header("X-Error-Code", reason)
            self.send_header("X-Error-Message", reason)
            self.send_header("Content-Length", "0")
            self.end_headers()

    class Server(ThreadingHTTPServer):
        def handle_error(self, request: object, client_address: object) -> None:
            """A client that hangs up is part of what is tested."""

    server = Server(("127.0.0.1", 0), Handler)
    hub.endpoint = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
