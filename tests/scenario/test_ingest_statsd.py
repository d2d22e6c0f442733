"""ingest statsd: metrics of a real client and made by hand, by UDP and TCP; what is malformed; and the ready pipeline that flushes them."""

import fcntl
import json
import re
import socket
import struct
import termios
import threading

import pytest
import statsd

import support
from instance import control  # noqa: F401
from listen_support import Clogged

LOCAL = "statsd://127.0.0.1:0"


def start(tools, kind, *options, **how):
    """One transport; returns the tool and its port."""
    tool = tools.start("ingest", f"{LOCAL}?transport={kind}", *options, **how)
    return tool, int(tool.wait_err(rf"listening on {kind}://127.0.0.1:(\d+)").group(1))


def send(port, *datagrams):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
        for datagram in datagrams:
            peer.sendto(datagram, ("127.0.0.1", port))


def send_tcp(port, data, pieces=None):
    with socket.create_connection(("127.0.0.1", port), timeout=30 * support.PATIENCE) as peer:
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for i in range(0, len(data), pieces or len(data)):
            peer.sendall(data[i:i + (pieces or len(data))])


def unread(descriptor):
    """Bytes in a pipe."""
    return struct.unpack("i", fcntl.ioctl(descriptor, termios.FIONREAD, b"\0" * 4))[0]


def metric(name, kind, value, rate=1, **more):
    event = {"metric": name, "type": kind, "value": value, "rate": rate, "tags": {}}
    if kind == "gauge":
        event["delta"] = False
    return {**event, **more}


LINES = [
    (b"page.views:1|c", [metric("page.views", "counter", 1)]),
    (b"page.views:-2.5|c|@0.1", [metric("page.views", "counter", -2.5, 0.1)]),
    (b"fuel:42|g", [metric("fuel", "gauge", 42)]),
    (b"fuel:+4|g", [metric("fuel", "gauge", 4, delta=True)]),
    (b"fuel:-3|g|#site:a", [metric("fuel", "gauge", -3, delta=True, tags={"site": "a"})]),
    (b"took:320|ms|@0.5", [metric("took", "timer", 320, 0.5)]),
    (b"size:1.25e3|h|#a:1,b,c:x:y,a:2", [metric("size", "histogram", 1250.0, tags={"a": "2", "b": True, "c": "x:y"})]),
    (b"took:1:2:3.5|d|@0.25|#t:u", [metric("took", "distribution", value, 0.25, tags={"t": "u"}) for value in (1, 2, 3.5)]),
    (b"users:anna:1|s", [metric("users", "set", "anna:1")]),
    (b"_e{2,5}:hi|a\\nb |t:success|#site:a", [{"type": "event", "title": "hi", "text": "a\nb ", "alert_type": "success", "priority": "normal", "tags": {"site": "a"}}]),
    (b"_sc|disk|1|m:nearly full", [{"type": "service_check", "check": "disk", "status": 1, "state": "warning", "message": "nearly full", "tags": {}}]),
    ("größe:007|m|e:it-x,card:low|c:ci-1".encode(), [metric("größe", "meter", 7, container="ci-1")]),
]
BAD = [b"nothing", b"a|c", b":1|c", b"a:|c", b"a:x|c", b"a:1|x", b"a:1|c|@0", b"a:1|c|@1.5", b"a:1|c|zzz", b"a:1:|ms", b"a:nan|g", b"a:1|c|#:v", b"a:\xff|s",
       b"_e{1,2}:a|b", b"_sc|a|4", b"a:1|c|T-1", b"a:" + b"9" * 400 + b"|c"]


@pytest.mark.parametrize("kind", ("udp", "tcp"))
def test_every_kind_of_line(tools, kind):
    tool, port = start(tools, kind)
    data = b"\r\n\n".join(line for line, _ in LINES)
    if kind == "udp":
        send(port, data, *(line + b"\n" for line, _ in LINES))
    else:
        send_tcp(port, data + b"\n" + data, 7)
    expected = [event for _, events in LINES for event in events]
    assert tool.wait_events(2 * len(expected)) == 2 * expected
    assert tool.terminate() == 0


def test_the_time_of_a_line_is_the_event_time(tools):
    tool, port = start(tools, "udp")
    send(port, b"a:1|c|T1767225600")
    assert tool.wait_events(1) == [{"@timestamp": "2026-01-01T00:00:00Z", **metric("a", "counter", 1)}]


@pytest.mark.parametrize("kind", ("udp", "tcp"))
def test_malformed_lines_are_dead_letters_with_their_place(tools, directory, kind):
    tool, port = start(tools, kind, "--dead-letter", "dead", "--max-record", "300")
    data = b"good:1|c\n" + b"\n".join(BAD) + b"\ngood:2|c\n"
    send(port, data) if kind == "udp" else send_tcp(port, data)
    assert [event["value"] for event in tool.wait_events(2)] == [1, 2]
    assert tool.terminate() == 0
    letters = support.lines_of(directory / "dead")
    assert [int(re.fullmatch(rf"{kind} 127\.0\.0\.1:\d+:(\d+)", letter["place"]).group(1)) for letter in letters] == list(range(2, 2 + len(BAD)))
    assert all(letter["reason"] for letter in letters)


@pytest.mark.parametrize("kind", ("udp", "tcp"))
def test_a_real_client(tools, kind):
    tool, port = start(tools, kind)
    client = (statsd.StatsClient if kind == "udp" else statsd.TCPStatsClient)("127.0.0.1", port, prefix="app")
    client.incr("hits")
    client.decr("hits", 3)
    client.gauge("level", 70)
    client.gauge("level", -5, delta=True)
    client.gauge("depth", -5)               # 0 first, then by so much: in one datagram
    client.set("who", "me")
    client.timing("took", 12.5)
    with client.pipeline() as pipe:
        pipe.incr("a")
        pipe.incr("b", 2)
    client.close()
    expected = [metric("app.hits", "counter", 1), metric("app.hits", "counter", -3), metric("app.level", "gauge", 70),
                metric("app.level", "gauge", -5, delta=True), metric("app.depth", "gauge", 0), metric("app.depth", "gauge", -5, delta=True),
                metric("app.who", "set", "me"), metric("app.took", "timer", 12.5), metric("app.a", "counter", 1), metric("app.b", "counter", 2)]
    assert tool.wait_events(len(expected)) == expected
    assert tool.terminate() == 0


def test_nothing_is_lost_while_the_output_is_full(tools):
    """By TCP: the peer waits."""
    with Clogged() as out:
        tool, port = start(tools, "tcp", "--window", "64KiB", stdout=out.writer)
        out.started()
        count = 100000
        data = b"".join(b"n:%d|c|#some:tag,other:tag\n" % i for i in range(count))
        sender = threading.Thread(target=send_tcp, args=(port, data), daemon=True)
        sender.start()
        support.wait_for(lambda: unread(out.reader) >= 65536, "the output's pipe to be full")
        out.read()
        assert [event["value"] for event in out.wait_events(count)] == list(range(count))
        sender.join(30 * support.PATIENCE)
        assert tool.terminate() == 0


def test_a_line_with_many_values_and_many_tags_does_not_grow_without_end(tools, directory):
    tool, port = start(tools, "tcp", "--dead-letter", "dead")
    tags = b",".join(b"t%d:%s" % (i, b"x" * 1000) for i in range(200))
    send_tcp(port, b"a" + b":1" * 100000 + b"|ms|#" + tags + b"\n" + b"b:1|c|#" + b",".join(b"t%d" % i for i in range(257)) + b"\nc:1|c\n")
    assert tool.wait_events(1) == [metric("c", "counter", 1)]
    assert [letter["reason"] for letter in support.lines_of(directory / "dead")] == ["more values than a line of this length may have", "more than 256 tags"]


def test_a_sample_and_the_format_alone(tools):
    tool, port = start(tools, "udp", "--sample", "2")
    send(port, b"a:1|c\nb:2|g\nc:3|c")
    assert tool.wait() == 0
    assert tool.events == [metric("a", "counter", 1), metric("b", "gauge", 2)]
    done = tools.run("ingest", "-", "--format", "statsd", input=b"a:1|c\n")
    assert done.events == [metric("a", "counter", 1)]


def test_options_that_are_of_no_use_are_refused(tools):
    for options in (["--format", "csv"], ["--time", "ts"], ["--transport", "smoke"]):
        assert tools.run("ingest", LOCAL, *options).status == 64


def test_the_ready_pipeline_flushes_as_statsd_does(control, directory):
    content = json.loads((support.ROOT / "pipelines/statsd.json").read_text())
    port = support.free_port()
    content["data_sources"][0].update(url=f"statsd://127.0.0.1:{port}", transport="tcp")
    content["server"] = {"enabled": False}
    (directory / "config.json").write_text(json.dumps(content))
    control.good("start")
    for name in ("metrics", "counters", "timers", "sets", "gauges", "broadcast"):
        control.wait_state(name, "running")

    def connected():
        try:
            return socket.create_connection(("127.0.0.1", port))
        except OSError:
            return None
    with support.wait_for(connected, "the listener") as peer:
        # Times of their own, so that no flush falls in between; the last line moves every watermark on.
        time = 1767225600
        lines = [b"hits:1|c|@0.1", b"hits:5|c", b"hits:2|c|#site:a", *(b"took:%d|ms" % i for i in range(1, 11)), b"took:11:12|h|#x:y", b"who:a|s", b"who:b|s",
                 b"who:a|s", b"level:10|g", b"level:+5|g", b"level:-2|g", b"free:-4|g"]
        data = b"".join(b"%s|T%d\n" % (line, time) for line in lines)
        data += b"".join(b"%s|T%d\n" % (line, time + 60) for line in (b"end:1|c", b"end:1|ms", b"end:1|s", b"level:+1|g"))
        peer.sendall(data)
    path = lambda: next((directory / "data").glob("metrics-*.ndjson"), None)
    support.wait_for(lambda: path() and path().read_bytes().count(b"\n") >= 7, "the figures")
    control.good("stop")
    figures = {(line["metric"], json.dumps(line["tags"])): line for line in support.lines_of(path()) if line["window_start"] == "2026-01-01T00:00:00Z"}
    assert len(figures) == 7
    assert figures["hits", "{}"]["count"] == 15 and figures["hits", "{}"]["per_second"] == 1.5
    assert figures["hits", '{"site": "a"}']["count"] == 2
    took = figures["took", "{}"]
    assert (took["count"], took["lower"], took["upper"], took["sum"], took["mean"], took["median"], took["p90"]) == (10, 1, 10, 55, 5.5, 5.5, 9.1)
    assert figures["took", '{"x": "y"}']["count"] == 2 and figures["who", "{}"]["count"] == 2
    assert figures["level", "{}"]["value"] == 13 and figures["free", "{}"]["value"] == -4
