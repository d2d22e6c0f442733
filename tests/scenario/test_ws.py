"""The WebSocket: its four events, subscriptions, slow clients, bounds."""

import contextlib
import json
import os
import signal
import socket
import struct

import pytest
import websocket

import support
from instance import alive
from pipeline import SOURCES, Pipeline
from support import wait_for


@pytest.fixture
def pipeline(tools):
    return Pipeline(tools).ready()


class Client:
    def __init__(self, pipeline, **how):
        self.socket = websocket.create_connection(f"ws://{pipeline.host}:{pipeline.port}/ws", timeout=20 * support.PATIENCE, **how)

    def send(self, **message):
        self.socket.send(json.dumps(message))

    def receive(self):
        return json.loads(self.socket.recv())

    def next(self, wanted, most=5000):
        """The next message that `wanted` accepts."""
        for _ in range(most):
            message = self.receive()
            if wanted(message):
                return message
        raise AssertionError("no such message")

    def event(self, kind, stream=None):
        return self.next(lambda m: m.get("event") == kind and (stream is None or m["stream"] == stream))

    def subscribe(self, *names, **more):
        self.send(subscribe=list(names), **more)
        return self.next(lambda m: "subscribed" in m)["subscribed"]


@contextlib.contextmanager
def connected(pipeline, **how):
    client = Client(pipeline, **how)
    try:
        yield client
    finally:
        client.socket.close()


def events_of(message):
    return message.get("events") or [{"ts": message["ts"], "data": message["data"]}]


def test_the_four_events(pipeline):
    with connected(pipeline) as client:
        status = client.event("stream_status")
        assert status["data"]["state"] in ("starting", "running") and status["data"]["stages"] and status["ts"].endswith("Z")
        assert client.subscribe("sensors") == ["sensors"]
        data = client.event("data_update")
        assert data["stream"] == "sensors" and isinstance(data["data"]["temperature"], float) and data["ts"].endswith("Z")
        metrics = client.event("metrics_update")
        assert metrics["data"]["totals"]["clients"] == 1
        assert {stage["name"] for stage in metrics["data"]["stages"]} >= {"sensors", "users", "broadcast"}
        assert pipeline.request("POST", "/api/stream/stop", {"source": "users"})[0] == 200
        client.next(lambda m: m.get("event") == "stream_status" and
                    any(s["name"] == "users" and s["state"] == "stopped" for s in m["data"]["stages"]))
        os.kill(pipeline.stage("sensors")["pid"], signal.SIGKILL)
        alert = client.event("error_alert", "sensors")
        assert alert["data"]["severity"] in ("warning", "error") and alert["data"]["message"]
    assert any(a["id"] == alert["data"]["id"] for a in pipeline.get("/api/alerts")["alerts"])


def test_only_subscribed_streams_are_sent(pipeline):
    with connected(pipeline) as client:
        assert client.subscribe("users") == ["users"]
        for _ in range(5):
            assert client.event("data_update")["stream"] == "users"
        client.send(unsubscribe=["users"], subscribe=["sensors", "not-there-yet"])
        assert client.next(lambda m: "subscribed" in m)["subscribed"] == ["sensors", "not-there-yet"]
        for _ in range(10):
            assert client.event("data_update")["stream"] == "sensors"
        assert client.subscribe("*") == ["*", "sensors", "not-there-yet"]
        client.event("data_update", "users")
        client.send(unsubscribe=["*", "sensors", "not-there-yet"])
        assert client.next(lambda m: "subscribed" in m)["subscribed"] == []
        for _ in range(2):
            assert client.next(lambda m: m.get("event") in ("data_update", "metrics_update"))["event"] == "metrics_update"


def test_kinds_of_events_can_be_chosen(pipeline):
    with connected(pipeline) as client:
        client.subscribe("sensors", events=["data_update"])
        for _ in range(80):
            assert client.receive()["event"] == "data_update"


@pytest.mark.parametrize("text", ["", "x", "[]", "{", '{"subscribe": "sensors"}', '{"subscribe": [1]}', '{"subscribe": [""]}', '{"subscrib": []}',
                                  '{"events": ["nothing"]}', '{"subscribe": ["' + "x" * 129 + '"]}', json.dumps({"subscribe": ["a"] * 300}),
                                  '{"subscribe": [], "subscribe": []}', "[" * 50000])
def test_bad_messages_are_answered_and_the_connection_stays(pipeline, text):
    with connected(pipeline) as client:
        client.socket.send(text)
        error = client.next(lambda m: "error" in m)["error"]
        assert error["code"] == "bad_message" and error["message"]
        assert client.subscribe("users") == ["users"]


def test_too_large_and_binary_messages_end_the_connection_only(pipeline):
    for send in (lambda c: c.socket.send("x" * 70000), lambda c: c.socket.send_binary(b"\x00\x01"), lambda c: c.socket.sock.sendall(b"\xff" * 100)):
        with connected(pipeline) as client:
            with contextlib.suppress(OSError):
                send(client)
            with pytest.raises((websocket.WebSocketConnectionClosedException, OSError, websocket.WebSocketException, ValueError)):
                for _ in range(1000):
                    if client.socket.recv() == "":
                        raise websocket.WebSocketConnectionClosedException
    assert pipeline.answers("/healthz")


def test_a_message_in_pieces_is_put_together(pipeline):
    with connected(pipeline) as client:
        client.socket.send_frame(websocket.ABNF.create_frame('{"subscribe": ["us', websocket.ABNF.OPCODE_TEXT, fin=0))
        client.socket.send_frame(websocket.ABNF.create_frame('ers"]}', websocket.ABNF.OPCODE_CONT, fin=1))
        assert client.next(lambda m: "subscribed" in m)["subscribed"] == ["users"]


def test_other_sites_pages_cannot_read_along(pipeline):
    for how in ({"origin": "http://evil.example"}, {"origin": "null"}, {"host": "evil.example"}):
        with pytest.raises(websocket.WebSocketBadStatusException) as refused:
            websocket.create_connection(f"ws://127.0.0.1:{pipeline.port}/ws", timeout=20, **how)
        assert refused.value.status_code == 403
    with pytest.raises(websocket.WebSocketBadStatusException) as refused:
        websocket.create_connection(f"ws://127.0.0.1:{pipeline.port}/wss", timeout=20)
    assert refused.value.status_code == 404
    with connected(pipeline, origin=f"http://127.0.0.1:{pipeline.port}") as client:
        client.event("stream_status")


def test_who_asks_for_sub_protocols_is_told_that_there_are_none(pipeline):
    answer = pipeline.raw(b"GET /ws HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
                          b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: graphql-ws, mqtt\r\n\r\n")
    assert b" 400 " in answer.partition(b"\r\n")[0] and json.loads(answer.partition(b"\r\n\r\n")[2])["error"]["code"] == "no_subprotocol"


def test_clients_beyond_max_connections_are_refused_and_later_let_in(tools):
    pipeline = Pipeline(tools, stream_config={"max_connections": 3}).ready()
    clients = [Client(pipeline) for _ in range(3)]
    with pytest.raises(websocket.WebSocketBadStatusException) as refused:
        Client(pipeline)
    assert refused.value.status_code == 503
    assert pipeline.answers("/healthz")
    clients.pop().socket.close()

    def let_in():
        with contextlib.suppress(websocket.WebSocketBadStatusException):
            return Client(pipeline)
    clients.append(wait_for(let_in, "room for another client"))
    for client in clients:
        client.socket.close()


# The counts of what a client got and missed are exact: events carry their number.

@pytest.fixture
def numbered(tools):
    os.mkfifo(tools.directory / "pipe")
    source = {"name": "numbers", "type": "ndjson", "path": str(tools.directory / "pipe")}
    pipeline = Pipeline(tools, sources=[source, *SOURCES])
    pipe = open(tools.directory / "pipe", "w", buffering=1 << 16)       # returns when the source has opened it
    pipeline.ready()
    yield pipeline, pipe
    pipe.close()


def write_numbers(pipe, first, count, size=100):
    text = "x" * size
    pipe.write("".join(f'{{"n":{n},"text":"{text}"}}\n' for n in range(first, first + count)))
    pipe.flush()


def follow(client, last):
    """Checks that every number up to `last` came or is counted as missed. Returns (got, missed)."""
    seen, got, missed = None, 0, 0
    while seen != last:
        message = client.event("data_update", "numbers")
        numbers = [event["data"]["n"] for event in events_of(message)]
        assert numbers == list(range(numbers[0], numbers[-1] + 1)), "without holes inside a message"
        assert message["data"]["n"] == numbers[-1]
        if seen is not None:
            assert numbers[0] == seen + 1 + message.get("missed", 0), (seen, numbers[0], message.get("missed"))
        seen = numbers[-1]
        got += len(numbers)
        missed += message.get("missed", 0)
    return got, missed


def test_one_by_one_nothing_is_missed(numbered):
    pipeline, pipe = numbered
    with connected(pipeline) as client:
        client.subscribe("numbers")
        for n in range(50):
            write_numbers(pipe, n, 1)
            message = client.event("data_update", "numbers")
            assert message["data"]["n"] == n and "missed" not in message and "events" not in message


def test_a_subscription_holds_when_it_is_answered(numbered):
    """Also while the façade and broadcast come back: PUB would drop what comes before the façade has subscribed."""
    pipeline, pipe = numbered
    facade, broadcast = (pipeline.stage(name)["pid"] for name in ("facade", "broadcast"))
    os.kill(broadcast, signal.SIGSTOP)
    os.kill(facade, signal.SIGKILL)
    wait_for(lambda: not alive(facade) and pipeline.answers("/healthz"), "another façade")
    with connected(pipeline) as client:
        client.send(subscribe=["numbers"])
        client.event("stream_status")
        os.kill(broadcast, signal.SIGCONT)
        client.next(lambda m: "subscribed" in m)
        write_numbers(pipe, 0, 1)
        assert client.event("data_update", "numbers")["data"]["n"] == 0
        os.kill(broadcast, signal.SIGKILL)
        wait_for(lambda: pipeline.stage("broadcast")["pid"] not in (None, broadcast), "another broadcast")
        assert client.subscribe() == ["numbers"]
        write_numbers(pipe, 1, 1)
        # 0 may come again: this broadcast knows nothing of what the one before has acknowledged.
        client.next(lambda m: m.get("event") == "data_update" and m["stream"] == "numbers" and m["data"]["n"] == 1)


def test_a_flood_comes_in_batches_and_every_event_is_accounted_for(numbered):
    pipeline, pipe = numbered
    with connected(pipeline) as client:
        client.subscribe("numbers")
        write_numbers(pipe, 0, 1)
        client.event("data_update", "numbers")
        write_numbers(pipe, 1, 30000)
        got, missed = follow(client, 30000)
        assert got + missed <= 30001 and got > 0


def test_a_slow_client_gets_the_newest_and_slows_nobody(numbered):
    pipeline, pipe = numbered
    small = [(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)]
    facade = pipeline.stage("facade")["pid"]
    with connected(pipeline, sockopt=small) as slow, connected(pipeline) as quick:
        for client in (slow, quick):
            client.subscribe("numbers", events=["data_update"])
        write_numbers(pipe, 0, 1)
        assert slow.event("data_update", "numbers")["data"]["n"] == 0
        quick.event("data_update", "numbers")
        n = 1
        held = int(open("/proc/sys/net/ipv4/tcp_wmem").read().split()[2])       # what the kernel may keep for the slow one
        for _ in range(60 + held // 100_000):            # in steps that the quick one follows
            write_numbers(pipe, n, 100, 1000)
            n += 100
            quick.next(lambda m: m.get("event") == "data_update" and m["data"]["n"] == n - 1)
        resident = int(next(line for line in open(f"/proc/{facade}/status") if line.startswith("VmRSS")).split()[1])
        assert resident < 48 * 1024 * (8 if support.PATIENCE > 1 else 1), "KiB (sanitizers need more); nothing is buffered without bound"
        got, missed = follow(slow, n - 1)
        assert missed > 0 and got > 0


def test_events_of_any_size_and_content(numbered):
    pipeline, pipe = numbered
    with connected(pipeline) as client:
        client.subscribe("numbers")
        odd = {"n": 1, "text": 'quotes " and \\ and \u0000\u001f\u2028 and é😀', "deep": [[{"a": None}]], "big": 2**64 - 1, "small": -2**63, "f": 0.1}
        pipe.write(json.dumps(odd) + "\n")
        pipe.flush()
        assert client.event("data_update", "numbers")["data"] == odd
        pipe.write(json.dumps({"n": 2, "text": "x" * 200000}) + "\n")      # too large to be shown: counted, not sent
        write_numbers(pipe, 3, 1)
        message = client.event("data_update", "numbers")
        assert message["data"]["n"] == 3 and message["missed"] == 1
    assert pipeline.get("/api/streams/numbers/events")["seen"] == 3


def test_clients_that_vanish_leave_nothing_behind(pipeline):
    facade = pipeline.stage("facade")["pid"]
    before = len(os.listdir(f"/proc/{facade}/fd"))
    for _ in range(30):
        client = Client(pipeline)
        client.subscribe("*")
        client.socket.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.socket.sock.close()       # a reset, no close frame
    wait_for(lambda: len(os.listdir(f"/proc/{facade}/fd")) <= before + 2, "the descriptors to be closed")
    with connected(pipeline) as client:
        wait_for(lambda: client.event("metrics_update")["data"]["totals"]["clients"] == 1, "one client to be counted")


def test_live_data_comes_back_after_broadcast_has_died(pipeline):
    with connected(pipeline) as client:
        client.subscribe("sensors", events=["data_update"])
        client.event("data_update")
        os.kill(pipeline.stage("broadcast")["pid"], signal.SIGKILL)
        pipeline.wait_state("broadcast", "running")
        seen = pipeline.get("/api/streams/sensors/events")["seen"]
        wait_for(lambda: pipeline.get("/api/streams/sensors/events")["seen"] > seen, "events again")
        client.event("data_update")


def test_workers_make_one_stream_of_their_pipelines_name(tools):
    pipeline = Pipeline(tools, pipelines=[{"name": "warm", "from": "sensors", "workers": 2, "key": "sensor_id", "program": "where temperature > -100"}]).ready()
    assert {stage["name"] for stage in pipeline.get("/api/stream/status")["stages"]} >= {"warm.0", "warm.1"}
    with connected(pipeline) as client:
        client.subscribe("warm", events=["data_update"])
        client.event("data_update")
    assert {stream["name"] for stream in pipeline.get("/api/streams")["streams"]} == {"sensors", "users", "warm"}
    def linked():
        links = next(stage for stage in pipeline.get("/api/metrics")["stages"] if stage["name"] == "warm.0")["links"]
        return {(link["name"], link["side"]) for link in links}
    assert wait_for(linked, "links") == {("sensors-warm", "from"), ("warm.0-broadcast", "to")}
