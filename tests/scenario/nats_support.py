"""A private NATS server: its own directory and port, with JetStream, and a client of a few lines."""

import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import tempfile
import urllib.request
from pathlib import Path

import support

SERVER = shutil.which("nats-server", path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")


class Nats:
    """login: (user, password); more: lines of its configuration."""

    def __init__(self, tls=None, ca=None, login=None, more="", start=True, jetstream=True):
        self.home = Path(tempfile.mkdtemp(prefix="nats", dir="/tmp"))
        self.port, self.tls, self.login, self.process = support.free_port(), tls, login, None
        lines = [f'listen: "127.0.0.1:{self.port}"', f'http: "127.0.0.1:{self.port + 1}"', f'log_file: "{self.home}/log"', "debug: true", 'server_name: "private"', more]
        if jetstream:
            lines.append(f'jetstream {{ store_dir: "{self.home}/store", max_memory_store: 256MB, max_file_store: 4GB }}')
        if tls:
            verify = f'ca_file: "{ca}", verify: true' if ca else ""
            lines.append(f'tls {{ cert_file: "{tls[0]}", key_file: "{tls[1]}", {verify} }}')
        if login:
            lines.append(f'authorization {{ user: "{login[0]}", password: "{login[1]}" }}')
        (self.home / "conf").write_text("\n".join(lines) + "\n")
        if start:
            self.start()

    def start(self):
        self.process = subprocess.Popen([SERVER, "-c", str(self.home / "conf")], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                        stderr=subprocess.DEVNULL, preexec_fn=support._die_with_parent)
        support.wait_for(self.listens, lambda: f"nats-server; {self.log}")

    def listens(self):
        assert self.process.poll() is None, self.log
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=5) as probe:
                return probe.recv(4) == b"INFO"
        except OSError:
            return False

    def stop(self, hard=False):
        """hard: kill -9."""
        if self.process:
            self.process.kill() if hard else self.process.terminate()
            self.process.wait(30)
            self.process = None

    def signal(self, number):
        self.process.send_signal(number)

    @property
    def log(self):
        path = self.home / "log"
        return path.read_text(errors="replace")[-3000:] if path.exists() else ""

    def url(self, subject="", user="", host="127.0.0.1"):
        return f"nats{'+tls' if self.tls else ''}://{user}{host}:{self.port}/{subject}"

    def client(self, **login):
        return Client(self, **login)

    def close(self):
        if self.process:
            self.signal(signal.SIGCONT)
        self.stop(hard=True)
        shutil.rmtree(self.home, ignore_errors=True)

    # One call each, over a connection of its own.

    def publish(self, *messages):
        """(subject, payload[, headers]) to whom it may concern; returns when the server has all."""
        with self.client() as client:
            for message in messages:
                client.publish(*message)
            client.flush()

    def store(self, *messages):
        """The same, returning when a stream has all."""
        with self.client() as client:
            client.store(*messages)

    def api(self, what, request=None):
        with self.client() as client:
            return client.api(what, request)

    def stream(self, name, *subjects, **settings):
        self.api(f"STREAM.CREATE.{name}", {"name": name, "subjects": list(subjects) or [f"{name}.>"], "storage": "file", "retention": "limits", "num_replicas": 1,
                                           **settings})

    def state(self, stream):
        return self.api(f"STREAM.INFO.{stream}")["state"]

    def consumers(self, stream):
        return {info["name"]: info for info in self.api(f"CONSUMER.LIST.{stream}", {"offset": 0})["consumers"] or []}

    def consumer(self, stream, name, **settings):
        self.api(f"CONSUMER.DURABLE.CREATE.{stream}.{name}", {"stream_name": stream, "config": {
            "durable_name": name, "ack_policy": "explicit", "deliver_policy": "all", "max_ack_pending": 1000, **settings}})

    def subscribed(self):
        """Subscriptions of connections that ingest has open, by the server's monitoring port."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port + 1}/connz?subs=1", timeout=20) as answer:
            connections = json.load(answer)["connections"] or []
        return [subject for connection in connections if connection.get("name") == "ingest" for subject in connection.get("subscriptions_list", ())]


class Client:
    """The NATS protocol, as far as tests need it."""

    def __init__(self, server, **login):
        self.socket = socket.create_connection(("127.0.0.1", server.port), timeout=20)
        self.file, self.inbox, self.number = self.socket.makefile("rb"), f"_INBOX.test{os.getpid()}.{id(self)}", 0
        info = self.file.readline()
        assert info.startswith(b"INFO "), info
        if server.tls:
            context = ssl.create_default_context()
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            self.socket = context.wrap_socket(self.socket)
            self.file = self.socket.makefile("rb")
        if server.login and not login:
            login = {"user": server.login[0], "pass": server.login[1]}
        self.send("CONNECT " + json.dumps({"verbose": False, "pedantic": False, "headers": True, "no_responders": True, "lang": "test", "version": "1",
                                           "protocol": 1, **login}) + "\r\n" + f"SUB {self.inbox}.* 1\r\n")
        self.flush()

    def __enter__(self):
        return self

    def __exit__(self, *what):
        self.socket.close()

    def send(self, data):
        self.socket.sendall(data.encode() if isinstance(data, str) else data)

    def publish(self, subject, payload=b"", headers=None, reply=""):
        payload = payload.encode() if isinstance(payload, str) else payload
        if headers is None:
            self.send(f"PUB {subject} {reply} {len(payload)}\r\n".encode() + payload + b"\r\n")
            return
        head = ("NATS/1.0\r\n" + "".join(f"{name}: {value}\r\n" for name, value in headers) + "\r\n").encode()
        self.send(f"HPUB {subject} {reply} {len(head)} {len(head) + len(payload)}\r\n".encode() + head + payload + b"\r\n")

    def next(self):
        """What the server says next: (subject, payload) of a message, or a word of protocol."""
        line = self.file.readline()
        assert line, "the server has closed the connection"
        words = line.decode().split()
        if words[0] == "PING":
            self.send("PONG\r\n")
            return self.next()
        if words[0] not in ("MSG", "HMSG"):
            assert words[0] != "-ERR", line
            return words[0]
        payload = self.file.read(int(words[-1]) + 2)[:-2]
        return words[1], payload[int(words[-2]):] if words[0] == "HMSG" else payload

    def flush(self):
        self.send("PING\r\n")
        while self.next() != "PONG":
            pass

    def request(self, subject, payload=b"", headers=None):
        self.number += 1
        reply = f"{self.inbox}.{self.number}"
        self.publish(subject, payload, headers, reply)
        while True:
            got = self.next()
            if isinstance(got, tuple) and got[0] == reply:
                return got[1]

    def store(self, *messages, window=200):
        waiting = 0
        for message in messages:
            self.number += 1
            self.publish(message[0], message[1], message[2] if len(message) > 2 else None, f"{self.inbox}.{self.number}")
            waiting += 1
            while waiting >= window:
                waiting -= self.stored()
        while waiting:
            waiting -= self.stored()

    def stored(self):
        got = self.next()
        if not isinstance(got, tuple):
            return 0
        answer = json.loads(got[1])
        assert "error" not in answer, answer
        return 1

    def api(self, what, request=None):
        answer = json.loads(self.request(f"$JS.API.{what}", json.dumps(request) if request is not None else b""))
        assert "error" not in answer, answer
        return answer
