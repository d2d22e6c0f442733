"""ingest syslog: messages of logger(1), and made by hand, by UDP and TCP, in both framings and both forms."""

import re
import shutil
import socket
import subprocess

import pytest

import support

LOCAL = "syslog://127.0.0.1:0"


def start(tools, kind, *options):
    """One transport; returns the tool and its port."""
    tool = tools.start("ingest", f"{LOCAL}?transport={kind}", *options)
    return tool, int(tool.wait_err(rf"listening on {kind}://127.0.0.1:(\d+)").group(1))


def send(port, data, pieces=None):
    with socket.create_connection(("127.0.0.1", port), timeout=30 * support.PATIENCE) as peer:
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for i in range(0, len(data), pieces or len(data)):
            peer.sendall(data[i:i + (pieces or len(data))])


NEW = b'<165>1 2026-03-01T10:00:00.25Z web.example app 42 ID7 [a@1 x="1 \\"q\\"" y="2"][b] hello w\xc3\xb6rld'
NEW_FIELDS = {"facility": "local4", "severity": "notice", "timestamp": "2026-03-01T10:00:00.25Z", "hostname": "web.example", "appname": "app",
              "procid": "42", "msgid": "ID7", "data": {"a@1": {"x": "1 \"q\"", "y": "2"}, "b": {}}, "message": "hello wörld", "peer": "127.0.0.1"}
OLD = b"<34>Oct 11 22:14:15 mymachine su[77]: 'su root' failed"


def is_old(event):
    return {**event, "timestamp": None} == {"facility": "auth", "severity": "critical", "timestamp": None, "hostname": "mymachine", "appname": "su",
                                           "procid": "77", "message": "'su root' failed", "peer": "127.0.0.1"} and \
        re.fullmatch(r"\d{4}-10-11T22:14:15(\.0+)?Z", event["timestamp"])


def plain(event):
    return {key: value for key, value in event.items() if key != "@timestamp"}


def test_both_forms_by_udp(tools):
    tool, port = start(tools, "udp")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
        for message in (NEW, OLD, OLD + b"\n", b"\n"):
            peer.sendto(message, ("127.0.0.1", port))
    events = [plain(event) for event in tool.wait_events(3)]
    assert events[0] == NEW_FIELDS
    assert is_old(events[1]) and is_old(events[2])
    assert tool.terminate() == 0
    assert len(tool.events) == 3


@pytest.mark.parametrize("pieces", (None, 1, 7))
def test_both_framings_by_tcp_even_mixed(tools, pieces):
    tool, port = start(tools, "tcp")
    two_lines = NEW + b"\nsecond line"
    send(port, OLD + b"\n" + b"%d %s" % (len(two_lines), two_lines) + b"%d %s" % (len(NEW), NEW) + OLD + b"\r\n\n" + NEW, pieces)
    events = [plain(event) for event in tool.wait_events(5)]
    assert is_old(events[0]) and is_old(events[3])
    assert events[1] == {**NEW_FIELDS, "message": "hello wörld\nsecond line"}
    assert events[2] == events[4] == NEW_FIELDS
    assert tool.terminate() == 0


def test_the_event_time_is_that_of_the_message(tools):
    tool, port = start(tools, "tcp")
    send(port, NEW + b"\n")
    assert tool.wait_events(1)[0]["@timestamp"] == "2026-03-01T10:00:00.25Z"


def test_what_is_no_syslog_is_passed_on_as_it_stands(tools):
    tool, port = start(tools, "tcp")
    send(port, b"just words\n<999>1 x\n\xff\xfe<14>\n" + OLD + b"\n")
    events = tool.wait_events(4)
    assert [event["message"] for event in events[:2]] == ["just words", "<999>1 x"]
    assert all(event["error"] and event["peer"] == "127.0.0.1" for event in events[:3])
    assert is_old(plain(events[3]))
    assert tool.terminate() == 0


def test_latin_1_from_old_devices_does_not_stop_a_message(tools):
    tool, port = start(tools, "udp")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
        peer.sendto(b"<34>Oct 11 22:14:15 m app: gr\xfc\xdfe\x00 x", ("127.0.0.1", port))
    assert tool.wait_events(1)[0]["message"] == "gr??e  x"


@pytest.mark.parametrize("pieces", (None, 7))
def test_messages_that_are_too_long_are_told_and_passed_over(tools, directory, pieces):
    tool, port = start(tools, "tcp", "--max-record", "500", "--dead-letter", "dead")
    send(port, b"<34>" + b"x" * 30000 + b"\n" + OLD + b"\n" + b"20000 <34>" + b"y\n" * 9998 + b"%d %s" % (len(NEW), NEW), pieces)
    events = [plain(event) for event in tool.wait_events(2)]
    assert is_old(events[0]) and events[1] == NEW_FIELDS
    assert tool.terminate() == 0
    letters = support.lines_of(directory / "dead")
    assert [re.sub(r":\d+:", ":PORT:", letter["place"]) for letter in letters] == ["tcp 127.0.0.1:PORT:1", "tcp 127.0.0.1:PORT:3"]
    assert [letter["text"] for letter in letters] == ["<34>" + "x" * 496, "20000 <34>" + "y\n" * 248]


@pytest.mark.skipif(not shutil.which("logger"), reason="logger(1) is not there")
@pytest.mark.parametrize("kind, options", [("udp", ["-d"]), ("tcp", ["-T"]), ("tcp", ["-T", "--octet-count"]), ("udp", ["-d", "--rfc3164"]),
                                           ("tcp", ["-T", "--rfc3164"])])
def test_messages_of_logger(tools, kind, options):
    tool, port = start(tools, kind)
    done = subprocess.run(["logger", "-n", "127.0.0.1", "-P", str(port), "-t", "tests", "-p", "local3.warning", *options, "it works: ü"],
                          timeout=60 * support.PATIENCE)
    assert done.returncode == 0
    event = tool.wait_events(1)[0]
    assert {key: event[key] for key in ("facility", "severity", "appname", "message", "peer")} == {
        "facility": "local3", "severity": "warning", "appname": "tests", "message": "it works: ü", "peer": "127.0.0.1"}
    assert event["hostname"] and event["timestamp"]


def test_both_transports_on_one_port(tools):
    port = support.free_port()
    tool = tools.start("ingest", f"syslog://127.0.0.1:{port}")
    tool.wait_err("listening on tcp")
    send(port, OLD + b"\n")
    tool.wait_events(1)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
        peer.sendto(NEW, ("127.0.0.1", port))
    events = [plain(event) for event in tool.wait_events(2)]
    assert is_old(events[0]) and events[1] == NEW_FIELDS
    assert tool.terminate() == 0


def test_options_that_are_of_no_use_are_refused(tools):
    for options in (["--format", "csv"], ["--time", "ts"], ["--transport", "smoke"]):
        assert tools.run("ingest", LOCAL, *options).status == 64
