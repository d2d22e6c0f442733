"""A running pipeline under streamctl, for the tests of REST, WebSocket and the dashboard."""

import json
import os
import shutil
import socket
import urllib.error
import urllib.request

import support
from support import free_port, wait_for

SOURCES = [{"name": "sensors", "type": "generator", "url": "generator:sensors", "rate": 50, "sensors": 4, "seed": 7},
           {"name": "users", "type": "generator", "url": "generator:users", "rate": 5, "seed": 7}]


class Pipeline:
    """streamctl run on a configuration; `url` once it is ready. The tools fixture ends it."""

    def __init__(self, tools, sources=SOURCES, server=None, **more):
        self.port = (server or {}).get("port") or free_port()
        config = {"data_sources": sources, "server": {**(server or {}), "port": self.port}, **more}
        self.config = tools.directory / "config.json"
        self.config.write_text(json.dumps(config))
        self.host = config["server"].get("listen", "127.0.0.1")
        if self.host == "0.0.0.0":
            self.host = "127.0.0.1"
        self.url = f"http://{self.host}:{self.port}"
        self.tool = tools.start("streamctl", "run", self.config, env={"XDG_RUNTIME_DIR": str(tools.directory)})

    def ready(self, seconds=30):
        wait_for(lambda: self.answers("/readyz"), lambda: f"{self.url} to be ready; streamctl says:\n{self.tool.err[-3000:]}", seconds)
        return self

    def answers(self, path):
        assert self.tool.running, self.tool.err[-3000:]
        try:
            return self.request("GET", path)[0] == 200
        except OSError:
            return False

    def request(self, method, path, body=None, headers=None, data=None):
        """(status, decoded JSON or text, headers). `body` goes as JSON with its content type."""
        headers = dict(headers or {})
        if body is not None:
            data = json.dumps(body).encode()
            headers.setdefault("Content-Type", "application/json")
        request = urllib.request.Request(self.url + path, data=data, headers=headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=30 * support.PATIENCE) as answer:
                return self._decoded(answer.status, answer)
        except urllib.error.HTTPError as error:
            with error:
                return self._decoded(error.code, error)

    @staticmethod
    def _decoded(status, answer):
        text = answer.read().decode()
        kind = answer.headers.get("Content-Type") or ""
        return status, json.loads(text) if kind.startswith("application/json") and text else text, answer.headers

    def get(self, path):
        status, body, _ = self.request("GET", path)
        assert status == 200, body
        return body

    def error(self, method, path, wanted, **how):
        """The error object of a request that must fail with this status."""
        status, body, _ = self.request(method, path, **how)
        assert status == wanted, (status, body)
        assert set(body["error"]) == {"code", "message", "detail"}, body
        assert body["error"]["message"]
        return body["error"]

    def stage(self, name):
        return next(stage for stage in self.get("/api/stream/status")["stages"] if stage["name"] == name)

    def wait_state(self, name, state):
        return wait_for(lambda: (stage := self.stage(name))["state"] == state and stage, f"{name} to be {state}")

    def connection(self, seconds=30):
        return socket.create_connection((self.host, self.port), timeout=seconds * support.PATIENCE)

    def raw(self, text, seconds=30):
        """Bytes as they are; what comes back until the server closes."""
        with self.connection(seconds) as peer:
            peer.sendall(text)
            got = b""
            try:
                while chunk := peer.recv(65536):
                    got += chunk
            except ConnectionResetError:
                pass
            return got


def promtool():
    """Debian's promtool, installed or taken out of its package by tests/deps."""
    found = shutil.which("promtool") or str(support.ROOT / os.environ.get("BUILD", "build") / "promtool")
    if not os.access(found, os.X_OK):
        found = str(support.ROOT / "build" / "promtool")
    return found
