"""broadcast's HTTP sink, against a real server that refuses, delays, drops connections and forgets to answer."""

import collections
import http.server
import json
import random
import ssl
import subprocess
import threading
import time

import pytest

import support
from support import lines_of, sensor_lines, wait_for


class Server:
    """Takes batches. behave(request number, key, body) says what to answer: a status, (status, headers, body), "drop" (before it is taken) or "mute"
    (taken, and then the connection goes). Everything taken is kept by key: the same key must bring the same body."""

    def __init__(self, behave=lambda *_: 200, context=None):
        self.requests, self.taken, self.bodies, self.times, self.problems = [], [], {}, [], []
        self.busy, self.most = 0, 0
        outer, lock = self, threading.Lock()

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                key = self.headers["Idempotency-Key"]
                with lock:
                    outer.busy += 1
                    outer.most = max(outer.most, outer.busy)
                    outer.requests.append((self.command, self.path, dict(self.headers), body))
                    outer.times.append(time.monotonic())
                    number = len(outer.requests)
                answer = behave(number, key, body)
                with lock:
                    outer.busy -= 1
                    status = answer if isinstance(answer, int) else answer[0] if isinstance(answer, tuple) else 200
                    if answer != "drop" and 200 <= status < 300:
                        if key is None or key not in outer.bodies:
                            outer.taken.append((key, body))
                        if key is not None and outer.bodies.setdefault(key, body) != body:
                            outer.problems.append(f"another body under {key}")
                if answer in ("drop", "mute"):
                    self.close_connection = True
                    return
                headers, text = (answer[1], answer[2]) if isinstance(answer, tuple) else ({}, b"")
                self.send_response(status)
                for name, value in {**headers, "Content-Length": str(len(text))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(text)

            do_PUT = do_POST

            def log_message(self, *_):
                pass

        class Quiet(http.server.ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_):
                pass
        self.server = Quiet(("127.0.0.1", 0), Handler)
        if context:
            self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        self.port = self.server.server_address[1]
        self.url = f"{'https' if context else 'http'}://127.0.0.1:{self.port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def seqs(self):
        assert not self.problems, self.problems
        return [event["seq"] for _, body in self.taken for event in json.loads(body)]

    def close(self):
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def serve():
    started = []

    def start(*arguments, **how):
        started.append(Server(*arguments, **how))
        return started[-1]
    yield start
    for server in started:
        server.close()


def test_batches_as_json_and_as_lines(tools, serve):
    server = serve()
    events = sensor_lines(2500)
    done = tools.run("broadcast", f"{server.url}/hook?a=b&c=%20", "--batch", "700", "--header", "X-One: 1", input=events)
    assert done.status == 0, done.err
    assert [e for _, body in server.taken for e in json.loads(body)] == events
    assert all(len(json.loads(body)) <= 700 for _, body in server.taken)
    method, path, headers, _ = server.requests[0]
    assert (method, path, headers["X-One"], headers["Content-Type"]) == ("POST", "/hook?a=b&c=%20", "1", "application/json")
    lines = serve()
    done = tools.run("broadcast", lines.url, "--body", "ndjson", "--method", "PUT", "--user", "me", "--password", "secret", input=events)
    assert done.status == 0, done.err
    assert [e for _, body in lines.taken for e in lines_of(body)] == events
    method, _, headers, _ = lines.requests[0]
    assert (method, headers["Content-Type"], headers["Authorization"]) == ("PUT", "application/x-ndjson", "Basic bWU6c2VjcmV0")
    assert "secret" not in done.err


def test_options_behind_the_number_sign(tools, serve):
    server = serve()
    events = [{"@stream": "ab"[n % 2], "seq": n} for n in range(20)]
    done = tools.run("broadcast", f"{server.url}/x?q=1#from=a&token=t%26", "null:", input=events)
    assert done.status == 0, done.err
    assert sorted(server.seqs()) == list(range(0, 20, 2))
    assert all(path == "/x?q=1" and headers["Authorization"] == "Bearer t&" for _, path, headers, _ in server.requests)


def test_settings_with_a_secret(tools, serve, directory):
    server = serve()
    (directory / "s.json").write_text(json.dumps({"sinks": [{"type": "webhook", "name": "hook", "url": server.url + "/y", "token": "tt",
                                                             "header": ["A: b"], "batch": 3}]}))
    done = tools.run("broadcast", "--settings", "s.json", input=sensor_lines(10))
    assert done.status == 0, done.err
    assert server.seqs() == list(range(10))
    assert server.requests[0][2]["Authorization"] == "Bearer tt" and server.requests[0][2]["A"] == "b"


@pytest.mark.parametrize("trouble", [500, 503, 429, 408, 401, (307, {"Location": "/elsewhere"}, b""), "drop"])
def test_what_may_pass_is_tried_again(tools, serve, trouble):
    server = serve(lambda number, key, body: trouble if number <= 2 else 200)
    done = tools.run("broadcast", server.url, "--dead-letter", "dead.ndjson", input=sensor_lines(50))
    assert done.status == 0, done.err
    assert server.seqs() == list(range(50))
    assert "trying again" in done.err and "works again" in done.err
    assert not (tools.directory / "dead.ndjson").exists()


def test_a_server_that_says_when_is_not_asked_before(tools, serve):
    server = serve(lambda number, key, body: (429, {"Retry-After": "2"}, b"") if number == 1 else 200)
    assert tools.run("broadcast", server.url, input=sensor_lines(5)).status == 0
    assert server.times[1] - server.times[0] >= 1.9


def test_a_server_that_is_away_or_silent(tools, serve):
    port = support.free_port()
    broadcast = tools.start("broadcast", f"http://127.0.0.1:{port}/", input=sensor_lines(5))
    broadcast.wait_err("trying again")
    broadcast.kill()
    stop = threading.Event()
    server = serve(lambda number, key, body: stop.wait(20) and "drop" if number == 1 else 200)
    done = tools.run("broadcast", server.url, "--timeout", "1s", input=sensor_lines(5))
    stop.set()
    assert done.status == 0, done.err
    assert server.seqs() == list(range(5))


def test_refused_batches_become_dead_letters(tools, serve):
    """400 for batches with a bad event: the batch is lost to dead letters, the others arrive; a frame longer than a batch goes in parts."""
    def judge(number, key, body):
        bad = [e["seq"] for e in json.loads(body) if e["seq"] % 100 == 42]
        return (400, {}, b"field temperature: \"hot\"\n" + b"x" * 5000) if bad else 200
    server = serve(judge)
    done = tools.run("broadcast", server.url, "--batch", "50", "--dead-letter", "dead.ndjson", input=sensor_lines(1000))
    assert done.status == 0, done.err
    dead = lines_of(tools.directory / "dead.ndjson")
    assert sorted([*server.seqs(), *(letter["event"]["seq"] for letter in dead)]) == list(range(1000))
    assert {letter["event"]["seq"] for letter in dead} >= set(range(42, 1000, 100)) and len(dead) <= 500
    assert all(letter["reason"].startswith('HTTP status 400: field temperature: "hot"') and len(letter["reason"]) < 400 for letter in dead)


def test_an_answer_that_quotes_our_secrets_shows_none(tools, serve):
    """A server that echoes the request, as development servers do: with its headers, login and query."""
    def echo(number, key, body):
        _, path, headers, _ = server.requests[-1]
        return 400, {}, json.dumps({"path": path, "auth": headers["Authorization"], "key": headers["X-Api"]}).encode()
    server = serve(echo)
    for login in (("--user", "me", "--password", "hunter2"), ("--token", "hunter3"), ("--header", "Authorization: Bearer hunter4")):
        done = tools.run("broadcast", f"{server.url}/hook?sig=hunt%2Fer5&b=c", *login, "--header", "X-Api: hunter6", "--dead-letter", "dead.ndjson",
                         "--log-level", "debug", input=sensor_lines(1))
        letter = (tools.directory / "dead.ndjson").read_text()
        assert "HTTP status 400: {" in letter and "/hook?sig=***&b=c" in letter
        for shown in (done.err, letter):
            for secret in ("hunt", server.requests[-1][2]["Authorization"].split()[1]):
                assert secret not in shown
        (tools.directory / "dead.ndjson").unlink()


def test_requests_under_way_are_limited(tools, serve):
    def slow(number, key, body):
        time.sleep(0.03)
        return 200
    for limit in (1, 4):
        server = serve(slow)
        done = tools.run("broadcast", server.url, "--batch", "20", "--in-flight", str(limit), input=sensor_lines(1000))
        assert done.status == 0, done.err
        assert sorted(server.seqs()) == list(range(1000))
        assert server.most <= limit


def test_an_endless_answer_is_not_read(tools, serve):
    server = serve(lambda number, key, body: (200, {}, b"x" * (8 << 20)) if number == 1 else 200)
    done = tools.run("broadcast", server.url, input=sensor_lines(5))
    assert done.status == 0, done.err
    assert "larger than the limit" in done.err


def test_tls_with_a_given_authority(tools, serve, directory):
    subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", directory / "key.pem", "-out", directory / "cert.pem",
                    "-days", "2", "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(directory / "cert.pem", directory / "key.pem")
    server = serve(context=context)
    done = tools.run("broadcast", server.url, "--tls-ca", directory / "cert.pem", input=sensor_lines(5))
    assert done.status == 0, done.err
    assert server.seqs() == list(range(5))
    untrusting = tools.start("broadcast", server.url, input=sensor_lines(5))
    untrusting.wait_err("certificate")


@pytest.mark.parametrize("in_flight", [1, 4])
def test_killed_at_random_the_server_sees_each_event_once(tools, serve, directory, in_flight):
    """The server fails in every way, broadcast is killed again and again: by keys the server has each event once, and no key has two bodies."""
    rng, lock = random.Random(in_flight), threading.Lock()

    def unreliable(number, key, body):
        with lock:
            chance = rng.random()
        if json.loads(body)[0]["seq"] % 7 == 0:         # these it never takes
            return 422 if chance < 0.7 else "drop"
        return "drop" if chance < 0.05 else "mute" if chance < 0.15 else 503 if chance < 0.2 else \
            (429, {"Retry-After": "0"}, b"") if chance < 0.25 else 200
    server = serve(unreliable)
    (directory / "in.ndjson").write_bytes(support.ndjson(sensor_lines(6000)))
    link = f"ipc://{directory}/link"
    sender = tools.start("ingest", "in.ndjson", "--to", f"@{link}", "--batch-size", "30", "--name", "sensors")
    for n in range(40):
        broadcast = tools.start("broadcast", server.url, "--batch", "80", "--in-flight", str(in_flight), "--from", link, "--state", "state",
                                "--dead-letter", "dead.ndjson")
        time.sleep(rng.uniform(0.02, 0.25))
        if not sender.running:
            break
        broadcast.kill()
    else:
        tools.start("broadcast", server.url, "--batch", "80", "--in-flight", str(in_flight), "--from", link, "--state", "state",
                    "--dead-letter", "dead.ndjson")
    assert sender.wait(90) == 0
    dead = [letter["event"]["seq"] for letter in lines_of(directory / "dead.ndjson")]
    counted = collections.Counter([*server.seqs(), *dead])
    assert [n for n, count in counted.items() if count != 1] == []
    assert sorted(counted) == list(range(6000))
    if in_flight == 1:
        assert server.seqs() == sorted(server.seqs())


def test_what_is_wrong_is_said(tools):
    for arguments, words in ((["http:nothing"], "looks like"), (["https:///x"], "looks like"), (["http://h/", "--header", "nocolon"], "Name: value"), (["http://h/", "--token", "a\nB: c"], "one line"),
                             (["http://h/", "--method", "a b"], "POST or PUT"), (["http://h/#frm=x"], "did you mean")):
        done = tools.run("broadcast", *arguments, input=[])
        assert done.status == 64 and words in done.err, done.err
