"""A stand-in for the Hugging Face hub on this machine: repositories are folders, under the hub's own protocol."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"
REVISIONS = ("main", "v1", COMMIT)


@contextmanager
def serve(root: Path) -> Iterator[tuple[str, list[str]]]:
    """Serve `root`/OWNER/NAME/…; yield the address, and a list that fills with the paths that are asked for."""
    asked: list[str] = []

    class Hub(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = unquote(urlsplit(self.path).path).strip("/")
            asked.append(path)
            parts = path.removeprefix("api/models/").split("/")
            folder, rest = root / "/".join(parts[:2]), parts[2:]
            revision = rest[1] if len(rest) > 1 else "main"
            if not folder.is_dir():
                self.reply(404, b"", {"X-Error-Code": "RepoNotFound"})
            elif revision not in REVISIONS:
                self.reply(404, b"", {"X-Error-Code": "RevisionNotFound"})
            elif path.startswith("api/models/"):
                self.reply(200, json.dumps(_info(folder, "/".join(parts[:2]))).encode())
            elif not (file := folder / "/".join(rest[2:])).is_file():
                self.reply(404, b"", {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": COMMIT})
            else:
                body = file.read_bytes()
                self.reply(200, body, {"ETag": f'"{hashlib.sha256(body).hexdigest()}"', "X-Repo-Commit": COMMIT})

        do_HEAD = do_GET  # noqa: N815

        def reply(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
            self.send_response(status)
            for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        server.server_close()


def _info(folder: Path, name: str) -> dict[str, Any]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    siblings = [{"rfilename": str(path.relative_to(folder)), "size": path.stat().st_size} for path in files]
    return {"id": name, "sha": COMMIT, "siblings": siblings, "cardData": {"license": "cc-by-nc-4.0"}, "tags": []}
