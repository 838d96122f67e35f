"""HTTP servers on loopback for tests of transfers: Debian's nginx, and one of our own that misbehaves on purpose."""

from __future__ import annotations

import http.server
import os
import re
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from conftest import lacking


class Bad(http.server.ThreadingHTTPServer):
    """Serves the files of a folder, by ranges. ``plan`` says what goes wrong, request by request.

    A step is "right", a status, ("drop", bytes), ("status", status, headers), "whole" (ignores the range), "more",
    "elsewhere" (another range), "flip" (a wrong bit) or a function that is called with the request's socket.
    """

    daemon_threads = True
    block_on_close = False

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.folder = folder
        self.plan: list[Any] | Callable[[int], Any] = []
        self.ranges: list[tuple[int, int]] = []  # as asked for, the end exclusive
        self.agents: list[str | None] = []
        self.sent = 0
        self.awake = threading.Event()
        self.url = f"http://127.0.0.1:{self.server_port}"

    def step(self) -> Any:
        if callable(self.plan):
            return self.plan(len(self.ranges))
        return self.plan.pop(0) if self.plan else "right"

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that hangs up is part of the test."""


class _Handler(http.server.BaseHTTPRequestHandler):
    server: Bad  # type: ignore[assignment]
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        server = self.server
        path = server.folder / self.path.lstrip("/")
        found = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        size = path.stat().st_size if path.is_file() else 0
        start, stop = (int(found[1]), min(int(found[2]) + 1, size)) if found else (0, size)
        server.ranges.append((start, stop))
        server.agents.append(self.headers.get("User-Agent"))
        step = server.step() if path.is_file() else 404
        if callable(step):
            step = step(self)
        if step == "right" and start >= size:
            step = 416
        if isinstance(step, int):
            step = ("status", step, {})
        if isinstance(step, tuple) and step[0] == "status":
            self.send_response(step[1])
            for name, value in {**step[2], "Content-Length": "0"}.items():
                self.send_header(name, value)
            self.end_headers()
            return
        if step == "whole" or not found:
            self.send_response(200)
            start, stop = 0, size
        else:
            self.send_response(206)
            first, last = (start + 1, stop) if step == "elsewhere" else (start, stop - 1)
            self.send_header("Content-Range", f"bytes {first}-{last}/{size}")
        with open(path, "rb") as file:
            file.seek(start)
            if step == "whole":
                self.send_header("Content-Length", str(size))
                self.end_headers()
                try:
                    while block := file.read(1 << 16):
                        self.wfile.write(block)
                        server.sent += len(block)
                except OSError:
                    self.close_connection = True
                return
            body = file.read(stop - start)
        if step == "flip":
            body = body[:-1] + bytes([body[-1] ^ 1])
        if step == "more":
            body += b"more than asked for"
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if isinstance(step, tuple) and step[0] == "drop":
            body = body[: step[1]]
            self.close_connection = True
        self.wfile.write(body)
        self.wfile.flush()
        server.sent += len(body)
        if isinstance(step, tuple) and step[0] == "drop":
            self.connection.shutdown(socket.SHUT_RDWR)

    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""


@contextmanager
def serve(folder: Path) -> Iterator[Bad]:
    """Run the misbehaving server as long as the block lasts."""
    with Bad(folder) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.awake.set()
            server.shutdown()
            thread.join()


class Nginx:
    """A running nginx: ``url`` knows ranges, ``url_without_ranges`` ignores them."""

    def __init__(self, port: int, log: Path) -> None:
        self.url = f"http://127.0.0.1:{port}/files"
        self.url_without_ranges = f"http://127.0.0.1:{port}/whole"
        self._log = log

    def requests(self) -> list[tuple[int, int, int]]:
        """Status, first byte asked for, and body bytes sent, of every request that is finished."""
        rows = []
        for line in self._log.read_text().splitlines():
            status, asked, sent = line.split(" ")
            rows.append((int(status), int(re.sub(r"bytes=(\d+)-.*", r"\1", asked).replace("-", "0")), int(sent)))
        return rows


_CONFIG = """
{user}
daemon off;
pid {home}/pid;
error_log {home}/error.log;
events {{ worker_connections 64; }}
http {{
  client_body_temp_path {home}/t1; proxy_temp_path {home}/t2; fastcgi_temp_path {home}/t3;
  uwsgi_temp_path {home}/t4; scgi_temp_path {home}/t5;
  log_format ranges '$status $http_range- $body_bytes_sent';
  access_log {home}/access.log ranges;
  server {{
    listen 127.0.0.1:{port};
    location /files/ {{ alias {folder}/; }}
    location /whole/ {{ alias {folder}/; max_ranges 0; }}
  }}
}}
"""


def nginx_command() -> str:
    """Path of nginx; where it is missing, skip the test that asks, but fail it in CI, which must install it."""
    found = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")
    if found:
        return found
    lacking("no nginx: these tests use the real one (Debian: apt-get install nginx)")


@contextmanager
def nginx(folder: Path, home: Path) -> Iterator[Nginx]:
    """Run Debian's nginx over ``folder`` on a free port, as long as the block lasts; ``home`` gets its files."""
    command = nginx_command()
    home.mkdir(parents=True, exist_ok=True)
    for _ in range(5):  # somebody may take the port between the asking and the using
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        # Workers of a root nginx would be nobody, who may not look into a test's folder.
        user = "user root;" if os.geteuid() == 0 else ""
        config = home / "nginx.conf"
        config.write_text(_CONFIG.format(home=home, port=port, folder=folder, user=user))
        process = subprocess.Popen([command, "-c", str(config), "-p", str(home), "-e", str(home / "error.log")])
        try:
            for _ in range(200):
                if process.poll() is not None:
                    break
                try:
                    socket.create_connection(("127.0.0.1", port), timeout=1).close()
                except OSError:
                    time.sleep(0.02)
                else:
                    (home / "access.log").touch()
                    yield Nginx(port, home / "access.log")
                    return
        finally:
            process.terminate()
            process.wait(timeout=20)
    pytest.fail(f"nginx does not start: {(home / 'error.log').read_text()}")
