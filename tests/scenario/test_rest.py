"""REST: what the routes answer, start and stop, and who may ask."""

import contextlib
import fcntl
import json
import os
import random
import re
import select
import signal
import struct
import subprocess
import time

import pytest

from pipeline import SOURCES, Pipeline, promtool
from support import ROOT, free_port, wait_for
from test_streamctl_replay import accept, numbered, refusing_database
from test_streamctl_state import rows


@pytest.fixture
def pipeline(tools):
    return Pipeline(tools).ready()


def test_the_briefs_commands_work_as_written(tools):
    """curl with source "api" and an interval, on the brief's own configuration."""
    brief = {"name": "api_source", "type": "api", "url": f"http://127.0.0.1:{free_port()}/stream", "interval": 5}
    pipeline = Pipeline(tools, sources=[brief], stream_config={"buffer_size": 1000, "batch_size": 100, "processing_interval": 1,
                                                              "max_connections": 50}).ready()
    ask = "curl -s -o /dev/null -w '%{http_code}\n'"
    run = tools.shell(f"""{ask} -X POST {pipeline.url}/api/stream/stop
        {ask} -X POST {pipeline.url}/api/stream/start -H 'Content-Type: application/json' -d '{{"source": "api", "interval": 1}}'
        {ask} {pipeline.url}/api/stream/status""")
    assert run.out == b"200\n200\n200\n"
    pipeline.wait_state("api_source", "running")


def test_start_and_stop_are_idempotent_and_take_name_type_or_nothing(pipeline):
    for body, stopped in (({"source": "users"}, {"users"}), ({"source": "users"}, {"users"}), ({"source": "generator"}, {"users", "sensors"}),
                          (None, {"users", "sensors"}), ({}, {"users", "sensors"})):
        status, answer, _ = pipeline.request("POST", "/api/stream/stop", body)
        assert status == 200 and answer["ok"] is True, answer
        states = {source["name"]: source["state"] for source in answer["sources"]}
        assert set(states) == {"sensors", "users"} and all(states[name] in ("draining", "stopped") for name in stopped), answer
        for name in stopped:
            pipeline.wait_state(name, "stopped")
    for body in ({"source": "users"}, {"source": "users"}, None):
        status, answer, _ = pipeline.request("POST", "/api/stream/start", body)
        assert status == 200 and {source["name"] for source in answer["sources"]} == {"sensors", "users"}
        assert all(source["state"] in ("starting", "running") for source in answer["sources"] if body is None or source["name"] == "users"), answer
    for name in ("users", "sensors"):
        pipeline.wait_state(name, "running")


def test_unknown_sources_are_404_and_the_known_ones_are_named(pipeline):
    for action in ("start", "stop"):
        error = pipeline.error("POST", f"/api/stream/{action}", 404, body={"source": "api"})
        assert error["code"] == "unknown_source" and error["detail"] == ["sensors", "users"]
    error = pipeline.error("GET", "/api/streams/nothing/events", 404)
    assert error["code"] == "unknown_stream" and "sensors" in error["detail"]
    assert pipeline.stage("sensors")["state"] == "running"


@pytest.mark.parametrize("data, status, code", [
    (b'{"source": "sensors",}', 400, "bad_json"), (b'\xff\xfe', 400, "bad_json"), (b'[1]', 400, "bad_request"), (b'{"source": 1}', 400, "bad_request"),
    (b'{"sauce": "x"}', 400, "bad_request"), (b'{"interval": 0}', 400, "bad_request"), (b'{"interval": -1}', 400, "bad_request"),
    (b'{"interval": 1e300}', 400, "bad_request"), (b'{"interval": "1"}', 400, "bad_request"), (b'{"source": "a", "source": "b"}', 400, "bad_json"),
    (b'{"source":"' + b'x' * 200 + b'"}', 400, "bad_request"), (b'[' * 60000, 400, "bad_json"), (b' ' * 65537, 413, "body_too_large")])
def test_bad_bodies(pipeline, data, status, code):
    error = pipeline.error("POST", "/api/stream/start", status, data=data, headers={"Content-Type": "application/json"})
    assert error["code"] == code
    if code == "bad_json":
        assert error["detail"]["line"] == 1 and error["detail"]["column"] >= 0
    assert pipeline.answers("/healthz")


def test_wrong_methods_types_paths_and_queries(pipeline):
    status, body, headers = pipeline.request("GET", "/api/stream/start")
    assert status == 405 and headers["Allow"] == "POST" and body["error"]["code"] == "method_not_allowed"
    assert pipeline.error("POST", "/api/sources", 405)["detail"] == "GET, HEAD"
    assert pipeline.error("POST", "/api/stream/stop", 415, data=b"{}", headers={"Content-Type": "text/plain"})["code"] == "not_json"
    assert pipeline.error("GET", "/api/nothing", 404)["code"] == "not_found"
    assert pipeline.error("GET", "/../../etc/passwd", 404)["code"] == "not_found"
    assert pipeline.error("GET", "/" + "a" * 600, 414)["code"] == "path_too_long"
    for limit in ("0", "501", "-1", "x", "99999999999999999999"):
        assert pipeline.error("GET", f"/api/streams/sensors/events?limit={limit}", 400)["code"] == "bad_query"
    assert pipeline.stage("users")["state"] == "running"


def test_paths_that_are_no_text_are_400(pipeline):
    for path in (b"/%00", b"/%00?", b"/%00?a=1", b"/%00abc", b"/%0d", b"/%0d%0aHost:%20localhost", b"/metrics%0d%0a", b"/api/%00", b"/api/streams/%ff/events",
                 b"/%c0%af", b"/%ed%a0%80"):
        answer = pipeline.raw(b"GET " + path + b" HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        assert answer.partition(b" ")[2].startswith(b"400 "), (path, answer)
        assert json.loads(answer.partition(b"\r\n\r\n")[2])["error"]["code"] == "bad_path"
    for path in ("/", "/?", "/?a", "/?a=1&b=%ff", "/api?x=/"):
        assert pipeline.request("GET", path)[0] == 200, path


@pytest.mark.parametrize("line, status, code, allow", [
    ("TRACE / HTTP/1.1", 405, "method_not_allowed", "GET, HEAD"), ("PROPFIND /api/stream/status HTTP/1.1", 405, "method_not_allowed", "GET, HEAD"),
    ("BREW /api/stream/start?x=1 HTTP/1.1", 405, "method_not_allowed", "POST"), ("TRACE /nothing HTTP/1.1", 404, "not_found", None),
    ("CONNECT / HTTP/1.1", 405, "method_not_allowed", "GET, HEAD"), ("CONNECT example.com:443 HTTP/1.1", 400, "bad_path", None),
    ("GET http://localhost/ HTTP/1.1", 400, "bad_path", None), ("OPTIONS * HTTP/1.1", 400, "bad_path", None), ("GET /%zz HTTP/1.1", 400, "bad_path", None),
    ("GET /% HTTP/1.1", 400, "bad_path", None), ("GET /api/streams/a%2/events HTTP/1.1", 400, "bad_path", None), ("GET /api?x=%g0 HTTP/1.1", 400, "bad_path", None),
    ("GET /", 400, "bad_request", None), ("hello", 400, "bad_request", None), ("GET / FTP/1.1", 400, "bad_request", None), ("", 400, "bad_request", None)])
@pytest.mark.parametrize("before", [0, 2])
def test_what_is_no_request_is_answered_in_json_as_well(pipeline, line, status, code, allow, before):
    """As a connection's first request, and as a later one."""
    with pipeline.connection() as peer:
        for _ in range(before):
            answered(peer, b"POST /api/stream/start HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 19\r\n\r\n"
                           b'{"source": "users"}')
        peer.sendall(f"{line}\r\nHost: localhost\r\n\r\n".encode())
        head, _, body = b"".join(iter(lambda: peer.recv(65536), b"")).decode().partition("\r\n\r\n")
    error = json.loads(body)["error"]
    assert head.startswith(f"HTTP/1.1 {status} ") and error["code"] == code and error["message"] and error["detail"] == allow
    assert (f"\r\nAllow: {allow}" in head) == (allow is not None)


def answered(peer, request, has_body=True):
    """Sends a request and reads one whole answer: its status and body."""
    peer.sendall(request)
    got = b""
    while b"\r\n\r\n" not in got:
        assert (chunk := peer.recv(65536)), got
        got += chunk
    head, _, body = got.partition(b"\r\n\r\n")
    size = int(re.search(rb"(?i)content-length: (\d+)", head).group(1)) if has_body else 0
    while len(body) < size:
        assert (chunk := peer.recv(65536)), body
        body += chunk
    return int(head.split()[1]), body


def test_a_connection_takes_one_request_after_another_however_they_come(pipeline):
    get = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
    post = b"POST /api/stream/start HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 19\r\n\r\n"
    body = b'{"source": "users"}'
    with pipeline.connection() as peer:
        for turn in range(100):
            assert answered(peer, get) == (200, b'{"status":"ok"}\n')
            assert answered(peer, post + body)[0] == 200
            assert answered(peer, b"HEAD /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n", has_body=False)[0] == 200
            assert answered(peer, b"GET /nothing HTTP/1.1\r\nHost: localhost\r\n\r\n")[0] == 404
    with pipeline.connection() as peer:                        # in pieces
        for pieces in ((get[:10], get[10:]), (post, body), (post[:40], post[40:] + body[:5], body[5:]), (get,), (post + body,)):
            for piece in pieces[:-1]:
                peer.sendall(piece)
                wait_for(lambda: unsent(peer) == 0, "its arrival")
            assert answered(peer, pieces[-1])[0] == 200
    for ahead in (get + get, get + get[:10], post + body + get, get + post[:30], get + b"BREW"):
        with pipeline.connection() as peer:                    # more than one at a time: the first is answered, and that is all
            assert answered(peer, get)[0] == 200
            peer.sendall(ahead)
            got = b"".join(iter(lambda: received(peer), b""))
            assert got.count(b"HTTP/1.1 200 ") == 1 or ahead.startswith(b"POST")       # which nothing may be sent behind
    with pipeline.connection() as peer:                        # and a WebSocket behind it
        assert answered(peer, get)[0] == 200
        assert answered(peer, b"GET /ws HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
                              b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n", has_body=False)[0] == 101


def received(peer):
    """What comes next; the end may be a reset, as something that was sent is not read."""
    try:
        return peer.recv(65536)
    except ConnectionResetError:
        return b""


def test_requests_that_are_sent_ahead_do_not_hold_the_server_up(pipeline):
    """Sequences that made libwebsockets go round for ever, and ones that are made of the same parts, in pieces and all at once; from clients that go."""
    get, post = (f"{line} HTTP/1.1\r\nHost: localhost\r\n".encode() for line in ("GET /app.js", "POST /api/sources/x/start"))
    parts = [get + b"\r\n", post + b"Content-Type: application/json\r\nContent-Length: 2\r\n\r\n{}", b"x" * 2300, b"GET /api/metrics HTTP/1.0\r\n\r\n",
             b"BREW /pot HTTP/1.1\r\n\r\n", get[:20], post + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n", b"GET /%00 HTTP/1.1\r\nHost: a\r\n\r\n"]
    sequences = [[parts[0] + parts[1], parts[2] + parts[3], parts[1] + parts[0] + parts[3]], [parts[7], parts[1][:33], parts[1][33:] + 2 * parts[4], parts[7][:30]]]
    rng, facade = random.Random(5), pipeline.stage("facade")["pid"]
    sequences += [[b"".join(rng.choices(parts, k=rng.randint(1, 3))) for _ in range(rng.randint(1, 4))] for _ in range(300)]
    for sequence in sequences:
        with pipeline.connection() as peer:
            for piece in sequence:
                cut = rng.choice((0, rng.randrange(len(piece))))
                try:
                    for half in (piece[:cut], piece[cut:]):
                        peer.sendall(half)
                        wait_for(lambda: unsent(peer) == 0 or broken(peer), "its arrival")
                except ConnectionError:
                    break
        assert pipeline.request("GET", "/healthz")[0] == 200
    wait_for(lambda: spent(facade, 0.3) < 10, "the facade to rest")


def spent(pid, seconds):
    """Clock ticks of processor time that a process takes in that time."""
    def ticks():
        with open(f"/proc/{pid}/stat") as file:
            return sum(map(int, file.read().rpartition(")")[2].split()[11:13]))
    before = ticks()
    time.sleep(seconds)
    return ticks() - before


def broken(peer):
    poll = select.poll()
    poll.register(peer, 0)
    return bool(poll.poll(0))


def unsent(peer):
    """Bytes that the other end has not taken into its buffer."""
    return struct.unpack("i", fcntl.ioctl(peer, 0x5411, b"\0" * 4))[0]      # SIOCOUTQ


def test_heads_of_any_size_are_answered(pipeline):
    """A browser sends the cookies of all that ever ran on this host."""
    for more, status in (("Cookie: " + "a" * 12000, 200), ("X-Long: " + "a" * 12000, 200), ("\r\n".join(f"X-{i}: y" for i in range(900)), 200),
                         ("Cookie: " + "a" * 20000, 431), ("\r\n".join(f"X-{i}: y" for i in range(3000)), 431)):
        answer = pipeline.raw(f"GET /api HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{more}\r\n\r\n".encode())
        assert answer.startswith(f"HTTP/1.1 {status} ".encode()), (more[:20], answer[:100])
        json.loads(answer.partition(b"\r\n\r\n")[2])
    answer = pipeline.raw(b"GET /" + b"a" * 20000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 414 ") and b"path_too_long" in answer


def test_connect_on_a_connection_that_was_used_ends_it(pipeline):
    """And does not keep it for ever, in the place of somebody else."""
    answer = pipeline.raw(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\nCONNECT / HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 200 ") and answer.endswith(b'{"status":"ok"}\n')


def test_an_offer_of_http_2_is_left_alone(pipeline):
    """As curl --http2 and Java's client make it with each request."""
    offer = {"Connection": "Upgrade, HTTP2-Settings", "Upgrade": "h2c", "HTTP2-Settings": "AAMAAABkAAQAAP__"}
    assert pipeline.request("GET", "/api/stream/status", headers=offer)[0] == 200
    for data, status in ((b'{"source": "users"}', 200), (b"{", 400)):
        assert pipeline.request("POST", "/api/stream/start", data=data, headers={"Content-Type": "application/json", **offer})[0] == status


@pytest.mark.parametrize("media, status", [("application/json", 200), ("Application/JSON; charset=utf-8", 200), ("application/json ;x=y", 200),
                                           ("application/jsonx", 415), ("application/json-patch+json", 415), ("application/jso", 415)])
def test_the_media_type_of_a_body_is_json_to_its_end(pipeline, media, status):
    assert pipeline.request("POST", "/api/stream/start", data=b'{"source": "users"}', headers={"Content-Type": media})[0] == status


def test_pages_have_their_methods_too(pipeline):
    for method in ("PUT", "POST", "DELETE"):
        status, body, headers = pipeline.request(method, "/")
        assert status == 405 and headers["Allow"] == "GET, HEAD" and body["error"]["code"] == "method_not_allowed"


def test_probes_need_not_name_a_host(pipeline):
    for path in (b"/healthz", b"/readyz"):
        assert b" 200 " in pipeline.raw(b"GET " + path + b" HTTP/1.0\r\n\r\n").partition(b"\r\n")[0]
    refused = pipeline.raw(b"GET /api/stream/status HTTP/1.0\r\n\r\n")
    assert b" 403 " in refused.partition(b"\r\n")[0] and b"names no host" in refused


def test_chunked_and_endless_requests_are_bounded(pipeline):
    head = b"POST /api/stream/stop HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    assert pipeline.raw(head + b"Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n2\r\n{}\r\n0\r\n\r\n").startswith(b"HTTP/1.1 411 ")
    assert b"200 OK" not in pipeline.raw(b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 30000 + b"\r\n\r\n")
    assert b"200 OK" not in pipeline.raw(head)                                        # headers that never end
    assert b"200 OK" not in pipeline.raw(head + b"Content-Length: 40\r\n\r\n{")       # a body that never comes
    assert pipeline.stage("users")["state"] == "running"


@pytest.mark.parametrize("apart", [False, True])
@pytest.mark.parametrize("head", [
    b"POST /api/stream/stop HTTP/1.1\r\nOrigin: http://evil.example\r\nContent-Type: text/plain\r\n", b"POST /api/stream/stop HTTP/1.1\r\n",
    b"GET /healthz HTTP/1.1\r\n", b"GET / HTTP/1.1\r\n", b"GET /nothing HTTP/1.1\r\n", b"POST /healthz HTTP/1.1\r\n", b"PUT /x HTTP/1.1\r\n", b"DELETE / HTTP/1.1\r\n",
    b"OPTIONS /api/stream/stop HTTP/1.1\r\n", b"POST /api/stream/stop HTTP/1.1\r\nContent-Length: 0\r\nContent-Type: text/plain\r\n",
    b"POST /api/stream/stop HTTP/1.1\r\nContent-Length: -1\r\n", b"GET /healthz HTTP/1.1\r\nTransfer-Encoding: chunked\r\n"])
def test_a_body_is_never_taken_for_another_request(pipeline, head, apart):
    """Or a page of another site could hide a request without an Origin in the body of one that is refused."""
    inner = b"POST /api/stream/stop HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n"
    head += b"Host: localhost\r\nContent-Length: %d\r\n\r\n" % len(inner)
    import socket
    with socket.create_connection((pipeline.host, pipeline.port), timeout=20) as peer:
        peer.sendall(head if apart else head + inner)
        peer.recv(65536)
        if apart:
            try:
                peer.sendall(inner)
            except OSError:
                return                   # it has hung up: just as well
        try:
            peer.shutdown(socket.SHUT_WR)
            while peer.recv(65536):
                pass
        except OSError:
            pass
    time.sleep(0.2)                      # what should not happen had its time
    assert {source["state"] for source in pipeline.get("/api/sources")["sources"]} == {"running"}


def test_what_flows_and_recent_events(pipeline):
    wait_for(lambda: all(stream["events"] >= 3 for stream in pipeline.get("/api/streams")["streams"]), "events of both streams")
    streams = {stream["name"]: stream for stream in pipeline.get("/api/streams")["streams"]}
    assert set(streams) == {"sensors", "users"}
    fields = {field["name"]: field["type"] for field in streams["sensors"]["fields"]}
    assert fields["temperature"] == "double" and fields["sensor_id"] == "string"
    answer = pipeline.get("/api/streams/sensors/events?limit=2")
    assert answer["stream"] == "sensors" and len(answer["events"]) == 2 and answer["seen"] >= 3
    for event in answer["events"]:
        assert event["ts"].endswith("Z") and isinstance(event["data"]["temperature"], float)
    assert answer["events"][0]["ts"] <= answer["events"][1]["ts"]
    gaps = next(line for line in pipeline.get("/metrics").splitlines() if line.startswith("stream_live_gaps_total{"))
    assert gaps.endswith(" 0"), "each stream is numbered by itself"


def test_status_sources_and_metrics_agree(pipeline):
    def rates():
        sources = {source["name"]: source for source in pipeline.get("/api/sources")["sources"]}
        stages = {stage["role"]: stage for stage in pipeline.get("/api/stream/status")["stages"]}
        return (sources["sensors"]["numbers"]["rate_out"] or 0) > 0 and stages["broadcast"]["numbers"]["latency_ms"] and sources
    sources = wait_for(rates, "a rate, and latencies measured by broadcast")
    assert set(sources) == {"sensors", "users"}
    assert sources["sensors"]["state"] == "running" and sources["sensors"]["healthy"] is True
    status = pipeline.get("/api/stream/status")
    assert status["state"] == "running" and status["uptime_seconds"] >= 0
    assert {stage["role"] for stage in status["stages"]} == {"source", "broadcast", "server"}
    broadcast = next(stage for stage in status["stages"] if stage["role"] == "broadcast")
    assert set(broadcast["inputs"]) == {"sensors", "users"}
    assert broadcast["numbers"]["latency_ms"]["p50"] > 0
    metrics = pipeline.get("/api/metrics")
    assert metrics["totals"]["memory_bytes"] > 0
    by_name = {stage["name"]: stage for stage in metrics["stages"]}
    assert by_name["sensors"]["memory_bytes"] > 100000 and by_name["sensors"]["events"]["out"] > 0
    assert not any(key in text for text in [str(status)] for key in ("metrics'", "control.sock"))


def test_prometheus_text(pipeline):
    count_of = 'stream_latency_seconds_count{stage="broadcast"'
    wait_for(lambda: any(float(line.rsplit(" ", 1)[1]) > 0 for line in pipeline.get("/metrics").splitlines()
                         if line.startswith(count_of)), "latencies measured by broadcast")
    status, text, headers = pipeline.request("GET", "/metrics")
    assert headers["Content-Type"].startswith("text/plain; version=0.0.4")
    check = subprocess.run([promtool(), "check", "metrics"], input=text, text=True, capture_output=True)
    assert check.returncode == 0, check.stdout + check.stderr
    buckets = [float(line.rsplit(" ", 1)[1]) for line in text.splitlines()
               if line.startswith('stream_latency_seconds_bucket{stage="broadcast"')]
    assert len(buckets) > 10 and buckets == sorted(buckets) and buckets[-1] > 0
    count = next(line for line in text.splitlines() if line.startswith(count_of))
    assert float(count.rsplit(" ", 1)[1]) == buckets[-1]
    assert 'stream_process_resident_memory_bytes{stage="sensors",tool="ingest"}' in text
    assert len([line for line in text.splitlines() if line.startswith("# TYPE stream_events_out_total ")]) == 1


def test_every_route_stands_in_the_man_page(pipeline):
    page = (ROOT / "man/streamctl.1").read_text()
    routes = pipeline.get("/api")["routes"]
    assert len(routes) >= 14 and all(route["help"] for route in routes)
    for route in routes:
        assert route["path"] in page and route["method"] in page, route


def test_health_tells_of_a_stage_that_does_not_do_its_work(tools):
    port = free_port()                   # nothing listens there
    pipeline = Pipeline(tools, sources=[{"name": "web", "type": "api", "url": f"http://127.0.0.1:{port}/x", "interval": 1}]).ready()
    health = wait_for(lambda: (answer := pipeline.get("/api/health"))["status"] == "degraded" and answer, "degraded health")
    assert health["problems"][0]["stage"] == "web" and health["problems"][0]["reason"]
    assert pipeline.get("/healthz") == {"status": "ok"}
    assert pipeline.request("GET", "/readyz")[0] == 200
    alerts = wait_for(lambda: pipeline.get("/api/alerts")["alerts"], "an alert")
    assert alerts[0]["stage"] == "web" and alerts[0]["severity"] in ("warning", "error") and alerts[0]["message"]


def test_configuration_shows_no_secret(tools):
    token = tools.directory / "token"
    token.write_text("t0p-secret-token\n")
    token.chmod(0o600)
    sources = [{"name": "web", "type": "api", "url": "http://127.0.0.1:9/x", "interval": 60, "token": "${WEB_TOKEN}"}]
    os.environ["WEB_TOKEN"] = "another-secret"
    try:
        pipeline = Pipeline(tools, sources=sources, server={"token_file": str(token)}).ready()
    finally:
        del os.environ["WEB_TOKEN"]
    config = pipeline.get("/api/config")
    assert config["data_sources"][0]["name"] == "web"
    for path in ("/api/config", "/api/stream/status", "/api/sources", "/metrics", "/api/alerts"):
        text = str(pipeline.request("GET", path)[1])
        assert "t0p-secret-token" not in text and "another-secret" not in text
    assert "t0p-secret-token" not in pipeline.tool.err


def test_the_token_is_needed_to_change_anything(tools):
    token = tools.directory / "token"
    token.write_text("t0p-secret-token\n")
    token.chmod(0o600)
    pipeline = Pipeline(tools, server={"token_file": str(token)}).ready()
    status, body, headers = pipeline.request("POST", "/api/stream/stop", {})
    assert status == 401 and headers["WWW-Authenticate"].startswith("Bearer") and body["error"]["code"] == "token_needed"
    for wrong in ("Bearer wrong", "Bearer t0p-secret-toke", "Bearer t0p-secret-tokenn", "Basic t0p-secret-token", "t0p-secret-token"):
        pipeline.error("POST", "/api/stream/stop", 401, body={}, headers={"Authorization": wrong})
    assert pipeline.stage("users")["state"] == "running"
    assert pipeline.request("POST", "/api/stream/stop", {}, {"Authorization": "Bearer t0p-secret-token"})[0] == 200
    pipeline.wait_state("users", "stopped")


def test_other_origins_and_foreign_names_are_refused(tools):
    pipeline = Pipeline(tools, server={"origins": ["https://ops.example.org"]}).ready()
    for origin in ("http://evil.example", "null", f"http://localhost:{pipeline.port + 1}", "https://ops.example.org.evil.example"):
        assert pipeline.error("POST", "/api/stream/stop", 403, body={}, headers={"Origin": origin})["code"] == "origin_not_allowed"
    for host in ("evil.example", f"evil.example:{pipeline.port}", "127.0.0.1.evil.example"):
        for path in ("/", "/api/stream/status"):
            assert pipeline.error("GET", path, 403, headers={"Host": host})["code"] == "host_not_allowed"
    assert pipeline.stage("users")["state"] == "running"
    status, _, headers = pipeline.request("GET", "/api/streams", headers={"Origin": "https://ops.example.org"})
    assert status == 200 and headers["Access-Control-Allow-Origin"] == "https://ops.example.org"
    assert "Access-Control-Allow-Origin" not in pipeline.request("GET", "/api/streams", headers={"Origin": "http://evil.example"})[2]
    status, _, headers = pipeline.request("OPTIONS", "/api/stream/stop", headers={"Origin": "https://ops.example.org"})
    assert status == 204 and headers["Access-Control-Allow-Methods"] == "POST"
    own = {"Origin": f"http://localhost:{pipeline.port}", "Host": f"localhost:{pipeline.port}"}
    assert pipeline.request("POST", "/api/stream/stop", {}, own)[0] == 200
    assert pipeline.request("POST", "/api/stream/stop", {}, {"Origin": "https://ops.example.org"})[0] == 200


def test_beyond_loopback_without_a_token_is_refused_at_start(tools):
    pipeline = Pipeline(tools, server={"listen": "0.0.0.0"})
    assert pipeline.tool.wait(30) != 0
    assert "token" in pipeline.tool.err and "0.0.0.0" in pipeline.tool.err


def test_a_port_in_use_is_named_with_its_remedy(tools):
    import socket
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        pipeline = Pipeline(tools, server={"port": taken.getsockname()[1]})
        pipeline.tool.wait_err(rf"127\.0\.0\.1:{pipeline.port}")
        pipeline.tool.wait_err('"port"')
        assert pipeline.tool.wait(30) != 0
        tried = [line for line in pipeline.tool.err.splitlines() if "error streamctl[facade]" in line]
        assert len(tried) == 1, "it isn't tried again and again"


def test_the_page_is_served_safely_and_packed(pipeline):
    status, text, headers = pipeline.request("GET", "/")
    assert status == 200 and headers["Content-Type"].startswith("text/html") and "<title>" in text
    policy = headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy and "unsafe" not in policy and "frame-ancestors 'none'" in policy
    assert headers["X-Content-Type-Options"] == "nosniff" and headers["X-Frame-Options"] == "DENY"
    assert " style=" not in text and " onclick=" not in text and "<script>" not in text
    tag = headers["ETag"]
    status, text, headers = pipeline.request("GET", "/", headers={"If-None-Match": tag})
    assert status == 304 and text == ""
    for path, kind in (("/app.js", "text/javascript"), ("/style.css", "text/css"), ("/uplot.js", "text/javascript"), ("/icon.svg", "image/svg+xml")):
        status, _, headers = pipeline.request("GET", path)
        assert status == 200 and headers["Content-Type"].startswith(kind), path
    import gzip
    import urllib.request
    with urllib.request.urlopen(urllib.request.Request(pipeline.url + "/uplot.js", headers={"Accept-Encoding": "gzip"})) as answer:
        assert answer.headers["Content-Encoding"] == "gzip"
        packed = answer.read()
    assert gzip.decompress(packed).decode() == pipeline.request("GET", "/uplot.js")[1]


def test_requests_follow_each_other_on_one_connection(pipeline):
    with pipeline.connection() as peer:
        for more in (b"", b"", b"", b"", b"Connection: close\r\n"):
            assert answered(peer, b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n" + more + b"\r\n") == (200, b'{"status":"ok"}\n')
        assert peer.recv(1) == b""
    head = pipeline.raw(b"HEAD /api/streams HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", 40)
    assert head.startswith(b"HTTP/1.1 200") and head.endswith(b"\r\n\r\n")


def test_the_facade_dies_alone_and_comes_back(pipeline):
    before = pipeline.get("/api/stream/status")
    facade = next(stage for stage in before["stages"] if stage["role"] == "server")
    os.kill(facade["pid"], signal.SIGKILL)

    def back():
        if not pipeline.answers("/readyz"):
            return False
        stages = {stage["name"]: stage for stage in pipeline.get("/api/stream/status")["stages"]}
        return stages["facade"]["pid"] not in (None, facade["pid"]) and stages
    after = wait_for(back, "another façade", 30)
    for stage in before["stages"]:
        if stage["role"] != "server":
            assert after[stage["name"]]["pid"] == stage["pid"], "the others go on undisturbed"
    wait_for(lambda: pipeline.get("/api/streams/sensors/events")["events"], "live events again")


def test_while_the_supervisor_is_stopped_reads_go_on_and_changes_wait(pipeline):
    wait_for(lambda: pipeline.get("/api/streams/sensors/events")["events"], "events")
    pipeline.tool.signal(signal.SIGSTOP)
    try:
        seen = pipeline.get("/api/streams/sensors/events")["seen"]
        wait_for(lambda: pipeline.get("/api/streams/sensors/events")["seen"] > seen, "more events")
        assert pipeline.get("/api/stream/status")["stages"]
    finally:
        pipeline.tool.signal(signal.SIGCONT)
    assert pipeline.request("POST", "/api/stream/stop", {"source": "users"})[0] == 200


def test_idle_connections_beyond_the_bound_are_turned_away(tools):
    """Those that say nothing at all take no place; these have begun to say something."""
    import socket
    pipeline = Pipeline(tools, stream_config={"max_connections": 2}).ready()
    peers = []
    try:
        for _ in range(100):
            peers.append(socket.create_connection(("127.0.0.1", pipeline.port), timeout=10))
            peers[-1].sendall(b"GET /api HT")
        refused = set()

        def count():
            for peer in peers[60:]:
                peer.setblocking(False)
                try:
                    if peer.recv(4096).startswith(b"HTTP/1.1 503 "):
                        refused.add(peer)
                except OSError:
                    pass
            return len(refused) >= 10
        wait_for(count, lambda: f"ten to be refused; there are {len(refused)}")
    finally:
        for peer in peers:
            peer.close()
    wait_for(lambda: pipeline.answers("/healthz"), "an answer again")


def test_connections_that_say_nothing_take_no_place_of_others(tools):
    import socket
    pipeline = Pipeline(tools, stream_config={"max_connections": 2}).ready()
    with contextlib.ExitStack() as peers:
        for _ in range(200):
            peers.enter_context(socket.create_connection(("127.0.0.1", pipeline.port), timeout=10))
        assert pipeline.answers("/healthz")


def test_a_stopped_supervisor_is_not_ready_and_makes_nobody_wait_for_long(tools):
    pipeline = Pipeline(tools).ready()
    pid = pipeline.tool.process.pid
    os.kill(pid, signal.SIGSTOP)
    try:
        status, body, _ = pipeline.request("GET", "/readyz")
        assert status == 503 and body["ready"] is False, body
        assert pipeline.request("GET", "/healthz")[0] == 200
        error = pipeline.error("POST", "/api/stream/stop", 503)
        assert "kill -CONT" in error["message"]
    finally:
        os.kill(pid, signal.SIGCONT)
    wait_for(lambda: pipeline.answers("/readyz"), "readiness")


def test_the_websocket_without_an_upgrade_says_what_is_missing(tools):
    pipeline = Pipeline(tools).ready()
    status, body, headers = pipeline.request("GET", "/ws")
    assert status == 426 and headers["Upgrade"] == "websocket" and body["error"]["code"] == "upgrade_required"


def test_the_ledger_is_told(pipeline):
    audit = wait_for(lambda: (body := pipeline.get("/api/audit"))["stages"] and body["stages"][0]["in"] and body, "numbers")
    assert audit["verdict"] in ("balanced", "moving"), audit
    assert [stage["name"] for stage in audit["stages"]] == ["sensors", "users", "broadcast"]
    for stage in audit["stages"]:
        assert stage["verdict"] == "balanced" and stage["difference"] == 0
        assert stage["in"] + stage["created"] == sum(stage[key] for key in ("out", "filtered", "late", "dead", "dropped", "held"))
    assert [link["to"] for link in audit["links"]] == ["broadcast"]
    status, _, headers = pipeline.request("POST", "/api/audit", {})
    assert status == 405 and headers["Allow"] == "GET, HEAD"
    assert all(stage["numbers"]["disk"] is None for stage in pipeline.get("/api/stream/status")["stages"])


def test_dead_letters_are_listed_and_replay_says_why_not(tools, directory):
    (directory / "in.ndjson").write_text('{"a": 1}\nnot json\n{"a": 2}\nnor this\n')
    pipeline = Pipeline(tools, sources=[{"name": "file", "path": "in.ndjson"}], delivery={"dead_letter": "dead"},
                        server={"token": "the-token"}).ready()
    letters = wait_for(lambda: (body := pipeline.get("/api/dead-letters"))["total"] == 2 and body, "two dead letters")
    assert [stage["stage"] for stage in letters["stages"]] == ["file", "broadcast"] and letters["replay"] is None
    file = letters["stages"][0]
    assert file["letters"] == 2 and file["bytes"] > 0 and file["replayable"] is False
    assert [letter["text"] for letter in file["newest"]] == ["not json", "nor this"]
    assert len(pipeline.get("/api/dead-letters?limit=1")["stages"][0]["newest"]) == 1
    assert pipeline.error("GET", "/api/dead-letters?limit=1000", 400)["code"] == "bad_query"
    assert pipeline.error("POST", "/api/dead-letters/file/replay", 401)["code"] == "token_needed"
    token = {"Authorization": "Bearer the-token"}
    error = pipeline.error("POST", "/api/dead-letters/file/replay", 409, headers=token)
    assert "state_dir" in error["message"]
    assert pipeline.error("POST", "/api/dead-letters/nobody/replay", 404, headers=token)["code"] == "unknown_source"
    assert pipeline.request("GET", "/api/dead-letters/file/replay")[0] == 405
    for stage in pipeline.get("/api/stream/status")["stages"]:
        assert not {"dead_letter", "state_dir", "log", "metrics"} & set(stage), "paths of this machine stay here"


def test_with_a_state_dir_logs_snapshots_and_replay_are_told(tools, directory):
    """A web server that is away fills the logs before it; a database that refuses makes dead letters, which POST sends again."""
    refusing_database(directory / "out.db")
    away = free_port()
    numbered(directory / "in.ndjson", 1000)
    pipeline = Pipeline(tools, sources=[{"name": "log", "path": "in.ndjson", "follow": True}, SOURCES[0]], state_dir="state",
                        pipelines=[{"name": "sums", "from": "sensors", "program": "window tumbling 1s by sensor_id: count() as n"}],
                        sinks=[{"type": "sqlite", "path": "out.db", "from": "log", "name": "base"},
                               {"type": "http", "url": f"http://127.0.0.1:{away}/", "from": "sensors", "name": "away"}],
                        delivery={"snapshot": "100ms"}).ready()

    def state(name):
        return pipeline.stage(name)["numbers"]["disk"]
    wait_for(lambda: (state("sensors") or {}).get("log_frames", 0) > 5, lambda: f"frames that wait: {state('sensors')}")
    sensors = state("sensors")
    assert 0 < sensors["log_bytes"] <= sensors["log_limit_bytes"] and sensors["trouble"] is False
    wait_for(lambda: (state("sums") or {}).get("snapshot_age_seconds") is not None, lambda: f"a snapshot: {state('sums')}")
    assert state("sums")["snapshot_bytes"] > 0 and state("sums")["snapshot_age_seconds"] < 60
    page = pipeline.get("/metrics")
    assert 'stream_spool_frames{stage="sensors"' in page.replace('tool="ingest",', "") and "stream_snapshot_age_seconds{" in page

    def letters():
        return next(stage for stage in pipeline.get("/api/dead-letters")["stages"] if stage["stage"] == "broadcast")
    wait_for(lambda: letters()["letters"] == 500, lambda: f"dead letters: {letters()}")
    assert letters()["replayable"] is True and "too hot" in letters()["newest"][0]["reason"]
    accept(directory / "out.db")
    status, answer, _ = pipeline.request("POST", "/api/dead-letters/broadcast/replay", {})
    assert status == 202 and answer == {"ok": True, "stage": "broadcast"}
    wait_for(lambda: (pipeline.get("/api/dead-letters")["replay"] or {}).get("state") not in (None, "running"), "its end", 30)
    replay = pipeline.get("/api/dead-letters")["replay"]
    assert replay["state"] == "done" and "500 dead letters sent again" in replay["message"], replay
    assert sorted(seq for seq, in rows(directory / "out.db", "select seq from events")) == list(range(1000))
    assert letters()["letters"] == 0


# POST /api/sources/NAME/test

TOKEN = {"Authorization": "Bearer the-token"}


def test_a_source_is_tried_out_beside_its_run(tools, directory):
    numbered(directory / "in.ndjson", 1000)
    pipeline = Pipeline(tools, sources=[{"name": "log", "path": "in.ndjson", "follow": True}, SOURCES[0]], state_dir="state",
                        delivery={"dead_letter": "dead"}, server={"token": "the-token"}).ready()
    wait_for(lambda: ((pipeline.stage("log")["numbers"] or {}).get("events") or {}).get("in") == 1000, "all of the file")
    before = pipeline.stage("log")
    for body, count in ((None, 5), ({}, 5), ({"events": 1}, 1), ({"events": 100}, 100)):
        status, answer, _ = pipeline.request("POST", "/api/sources/log/test", body, headers=TOKEN)
        assert status == 200 and answer["ok"] is True and answer["complete"] is True and answer["source"] == "log", answer
        assert [event["seq"] for event in answer["events"]] == list(range(count)), "from its beginning: the position is that of the run"
    status, answer, _ = pipeline.request("POST", "/api/sources/sensors/test", {"events": 3}, headers=TOKEN)
    assert status == 200 and len(answer["events"]) == 3 and "sensor_id" in answer["events"][0]
    after = pipeline.stage("log")
    assert after["pid"] == before["pid"] and after["starts"] == 1 and after["numbers"]["events"]["in"] == 1000, "the run goes on as it was"


def test_a_source_that_is_tried_out_answers_even_when_it_is_stopped_and_only_who_may_asks(tools):
    pipeline = Pipeline(tools, server={"token": "the-token"}).ready()
    assert pipeline.error("POST", "/api/sources/sensors/test", 401)["code"] == "token_needed"
    assert pipeline.error("POST", "/api/sources/sensors/test", 403, headers={**TOKEN, "Origin": "http://evil.example"})["code"] == "origin_not_allowed"
    assert pipeline.request("GET", "/api/sources/sensors/test")[0] == 405
    assert pipeline.error("POST", "/api/sources/nobody/test", 404, headers=TOKEN)["code"] == "unknown_source"
    assert pipeline.error("POST", "/api/sources/broadcast/test", 404, headers=TOKEN)["code"] == "unknown_source"
    for body in ({"events": 0}, {"events": 101}, {"events": "3"}, {"events": 1.5}, {"event": 1}):
        assert pipeline.error("POST", "/api/sources/sensors/test", 400, headers=TOKEN, body=body)["code"] == "bad_request"
    assert pipeline.request("POST", "/api/stream/stop", {"source": "sensors"}, headers=TOKEN)[0] == 200
    pipeline.wait_state("sensors", "stopped")
    status, answer, _ = pipeline.request("POST", "/api/sources/sensors/test", headers=TOKEN)
    assert status == 200 and len(answer["events"]) == 5
    assert pipeline.stage("sensors")["state"] == "stopped"


def test_a_trial_says_why_there_is_nothing_and_is_bounded(tools, directory):
    (directory / "short.ndjson").write_text('{"n": 9007199254740993, "x": 1.10, "t": "\\u0000 \\"q\\" é"}\n')
    (directory / "empty.ndjson").write_text("")
    (directory / "large.ndjson").write_text("".join('{"n": %d, "text": "%s"}\n' % (n, "x" * 60000) for n in range(10)))
    (directory / "huge.ndjson").write_text('{"text": "%s"}\n' % ("x" * 300000))
    away = f"http://user:geheim@127.0.0.1:{free_port()}/"
    sources = [{"name": name, "path": f"{name}.ndjson"} for name in ("short", "empty", "large", "huge")]
    pipeline = Pipeline(tools, sources=[*sources, {"name": "gone", "path": "gone.ndjson", "autostart": False}, {"name": "away", "url": away}, SOURCES[0]]).ready()
    status, answer, _ = pipeline.request("POST", "/api/sources/short/test")
    assert status == 200 and answer["complete"] is False and "ended" in answer["message"]
    assert answer["events"] == [{"n": 9007199254740993, "x": 1.1, "t": '\0 "q" é'}]
    status, answer, _ = pipeline.request("POST", "/api/sources/empty/test")
    assert status == 200 and answer["events"] == [] and "ended" in answer["message"]
    status, answer, _ = pipeline.request("POST", "/api/sources/large/test", {"events": 10})
    assert status == 200 and [event["n"] for event in answer["events"]] == [0, 1, 2, 3] and "256 KiB" in answer["message"]
    assert "256 KiB" in pipeline.error("POST", "/api/sources/huge/test", 502)["message"]
    assert "gone.ndjson" in pipeline.error("POST", "/api/sources/gone/test", 502)["message"]
    error = pipeline.error("POST", "/api/sources/away/test", 502)
    assert error["code"] == "no_events" and "0 of 5" in error["message"] and "geheim" not in str(error), error
    status, answer, _ = pipeline.request("POST", "/api/sources/sensors/test", {"events": 1})
    assert status == 200, "nothing of the others is left in the way"


def test_trials_end_with_those_who_asked_and_with_the_supervisor(tools, directory):
    pipeline = Pipeline(tools, sources=[{"name": "quiet", "path": "quiet.ndjson", "follow": True}, SOURCES[0]]).ready()
    import json
    import socket
    path = next(directory.rglob("control.sock"))

    def trials():
        found = subprocess.run(["ps", "-eo", "pid,ppid,args"], capture_output=True, text=True).stdout
        return [line for line in found.splitlines() if f" {pipeline.tool.process.pid} " in line and "--sample" in line]
    peers = []
    for _ in range(4):
        peer = socket.socket(socket.AF_UNIX)
        peer.connect(str(path))
        peer.sendall(b'{"command":"test","source":"quiet","events":1}\n')
        peers.append(peer)
    assert len(wait_for(lambda: len(found := trials()) == 4 and found, "four trials")) == 4
    assert not any("quiet.ndjson" in line for line in trials()), "settings stand in no argument list"
    assert pipeline.error("POST", "/api/sources/sensors/test", 409)["code"] == "busy"
    peers.pop().close()
    wait_for(lambda: len(trials()) == 3, "the end of one")
    assert pipeline.request("POST", "/api/sources/sensors/test")[0] == 200
    reply = json.loads(peers[0].makefile().readline())
    assert reply["ok"] is False and reply["code"] == "no_events" and "quiet.ndjson" in reply["message"], reply
    for peer in peers:
        peer.close()
    wait_for(lambda: not trials(), "the end of all")
