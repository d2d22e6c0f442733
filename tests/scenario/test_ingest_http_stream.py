"""ingest --stream: Server-Sent Events and other answers without an end, over lost connections and kills."""

import gzip
import json
import ssl
import threading
import time

import pytest

import support
import tls_support
from instance import control  # noqa: F401
from runs_support import QUICK
from test_ingest_http import NOTHING, Server, as_json
from test_ingest_state import Runs, check


def begin(request, kind="text/event-stream"):
    request.send_response(200)
    request.send_header("Content-Type", kind)
    request.send_header("Connection", "close")
    request.end_headers()
    request.close_connection = True


def send(request, text):
    request.wfile.write(text if isinstance(text, bytes) else text.encode())
    request.wfile.flush()


def once(text, kind="text/event-stream"):
    """Answers with the text, and with nothing from then on."""
    left = [text]

    def answer(request):
        if not left:
            return NOTHING
        begin(request, kind)
        send(request, left.pop())
        return None
    return answer


def events_of(tools, text, *options, kind="text/event-stream"):
    with Server(once(text, kind)) as server:
        tool = tools.run("ingest", server.url(), "--stream", "--once", *QUICK, *options)
    assert tool.status == 0, tool.err
    return tool.events


def test_events_in_all_layouts(tools):
    text = ('\ufeff: comment\n\ndata: {"n":1}\n\n'           # a byte order mark, a comment
            'data:{"n":2}\r\n\r\ndata: {"n":3}\r\r'          # all line ends
            'event: x\ndata: {"n":\ndata: 4}\nother: y\n\n'  # several lines; an unknown field
            'data: [{"n":5},\ndata: {"n":6}]\n\n'            # several records
            'id: 7\n\ndata\n\n'                              # no data
            'data: plain "text"\ndata: of two lines\n\n'
            'data: {"n":8}\n')                               # without an end: it does not count
    assert events_of(tools, text) == [{"n": n} for n in range(1, 7)] + [{"message": 'plain "text"\nof two lines'}]


def test_records_inside_of_events_and_their_types(tools):
    assert events_of(tools, 'data: {"d":[{"n":1},{"n":2}]}\n\n', "--records", "d") == [{"n": 1}, {"n": 2}]
    text = 'event: "a"\ndata: {"n":1}\n\ndata: { }\n\nevent: b\ndata: text\n\ndata: {"kind":"own"}\n\n'
    assert events_of(tools, text, "--event-field", "kind") == [
        {"kind": '"a"', "n": 1}, {"kind": "message"}, {"kind": "b", "message": "text"}, {"kind": "own"}]


def test_stream_cut_at_every_byte_is_the_same(tools):
    text = ": c\r\nid: 1\r\ndata: {\"n\":1,\r\ndata: \"s\":\"ü\"}\r\n\r\nretry: 5\ndata: {\"n\":2}\n\n".encode()

    def answer(request):
        if len(server.requests) > 1:
            return NOTHING
        begin(request)
        for i in range(len(text)):
            send(request, text[i:i + 1])
        return None
    with Server(answer) as server:
        tool = tools.run("ingest", server.url(), "--stream", "--once", *QUICK)
    assert tool.events == [{"n": 1, "s": "ü"}, {"n": 2}]


def test_bad_and_too_large_events_are_dead_letters(tools, directory):
    text = 'data: {"n":1\n\ndata: {"s":"%s"}\n\ndata: {"n":2}\n\ndata: %s\ndata: x\n\ndata: 3\n\n' % ("x" * 5000, "y" * 1000)
    assert events_of(tools, text, "--body-limit", "2KiB", "--dead-letter", "dead") == [
        {"n": 2}, {"message": "y" * 1000 + "\nx"}, {"message": "3"}]
    reasons = [line["reason"] for line in support.lines_of(directory / "dead")]
    assert len(reasons) == 2 and "the event is larger than the limit of 2048 bytes (--body-limit)" in reasons[1]


@pytest.mark.parametrize("kind, text", [("application/x-ndjson", '{"n":1}\n{"n":2}'), ("text/csv", "n\n1\n2\n"), ("text/plain", '{"n":1}\n{"n":2}\n')])
def test_other_text_is_taken_as_it_arrives(tools, kind, text):
    assert events_of(tools, text, kind=kind) == [{"n": 1}, {"n": 2}]


def test_events_leave_while_the_answer_goes_on(tools):
    more = threading.Event()

    def answer(request):
        if request.path == "/token":    # for which the limit of a whole answer counts
            return as_json({"access_token": "hush", "expires_in": 3600})
        begin(request, "application/x-ndjson")
        send(request, '{"n":1}\n{"n"')
        more.wait(60)
        send(request, ':2}\n')
        request.server.done.wait(60)
    with Server(answer) as server:
        server.server.done = threading.Event()
        tool = tools.start("ingest", server.url(), "--stream", "--timeout", "1s", "--oauth-url", server.url("/token"), "--oauth-id", "me",
                           "--oauth-secret", "hush")
        tool.wait_events(1)
        time.sleep(1.2)                 # longer than an answer that is none of these may take
        more.set()
        tool.wait_events(2)
        assert tool.terminate() == 0
        server.server.done.set()
    assert tool.events == [{"n": 1}, {"n": 2}]


def test_compressed_stream(tools):
    def answer(request):
        if len(server.requests) > 1:
            return NOTHING
        request.send_response(200)
        for name, value in {"Content-Type": "text/event-stream", "Content-Encoding": "gzip", "Connection": "close"}.items():
            request.send_header(name, value)
        request.end_headers()
        request.close_connection = True
        send(request, gzip.compress(b"".join(b'data: {"n":%d}\n\n' % n for n in range(5000))))
        return None
    with Server(answer) as server:
        tool = tools.run("ingest", server.url(), "--stream", "--once")
    assert [event["n"] for event in tool.events] == list(range(5000))


class Feed:
    """Events with ids from behind Last-Event-ID; a connection ends, at any byte, after some events."""

    def __init__(self, count, each, pause=0.0):
        self.count, self.each, self.pause = count, each, pause

    def __call__(self, request):
        first = int(request.headers.get("Last-Event-ID", -1)) + 1
        begin(request)
        if first == 0:
            send(request, "retry: 1\n\n")
        for n in range(first, min(self.count, first + self.each)):
            send(request, 'id: %d\ndata: [{"n":%d,"k":"sse"},\ndata: {"n":%d,"k":"sse"}]\n\n' % (n, 2 * n, 2 * n + 1))
            if self.pause and n % 20 == 0:
                time.sleep(self.pause)
        if first + self.each < self.count:
            send(request, 'id: 99999\ndata: {"n":')
        return None


def test_lost_connections_are_made_again_behind_the_last_event(tools):
    with Server(Feed(1000, 90)) as server:
        tool = tools.start("ingest", server.url(), "--stream", *QUICK)
        tool.wait_events(2000)
        assert tool.terminate() == 0
        assert [request[1].get("Last-Event-ID") for request in server.requests[:3]] == [None, "89", "179"]
    assert [event["n"] for event in tool.events] == list(range(2000))


def test_events_are_exact_over_kills(tools, directory):
    with Server(Feed(4000, 500, 0.002)) as server:
        runs = Runs(tools, directory, server.url(), "--stream", "--retry-min", "5ms", "--retry-max", "20ms", "--batch-size", "3")
        for _ in range(8):
            runs.kill_after(0.05, 0.2)
        tool = runs.start()
        support.wait_for(lambda: len(runs.numbers()) >= 8000, lambda: f"all events; {len(runs.numbers())}; {tool.err}", 30)
        tool.kill()
        assert runs.kills > 3
    check(runs.numbers(), list(range(8000)))


@pytest.mark.parametrize("kind", ["text/event-stream", "application/x-ndjson"])
def test_slow_receiver_holds_the_stream_back(tools, kind):
    line = 'data: {"n":%d,"text":"' + "x" * 100 + '"}\n\n' if "event" in kind else '{"n":%d,"text":"' + "x" * 100 + '"}\n'
    with Server(once("".join(line % n for n in range(40000)), kind)) as server:
        tool = tools.shell(f"timeout -s TERM 60 ingest {server.url()} --stream --once --window 64KiB --name s | {{ sleep 0.3; cat; }}")
    assert [event["n"] for event in tool.events] == list(range(40000))


def test_silent_server_is_left_after_the_stall_time(tools):
    release = threading.Event()

    def answer(request):
        begin(request)
        send(request, 'id: %d\ndata: {"n":%d}\n\n' % (len(server.requests), len(server.requests)))
        release.wait(60)
    with Server(answer) as server:
        tool = tools.start("ingest", server.url(), "--stream", "--stall", "1s", *QUICK)
        tool.wait_events(2)
        tool.wait_err("--stall")
        # On a busy machine the first connections may be left before anything has come.
        ids = support.wait_for(lambda: [headers["Last-Event-ID"] for _, headers, _ in server.requests if "Last-Event-ID" in headers], "a connection that goes on")
        assert ids[0] == str(tool.events[0]["n"])
        release.set()
        assert tool.terminate() == 0


def test_server_down_at_start_and_refusing_is_waited_for(tools):
    port = support.free_port()
    tool = tools.start("ingest", f"http://127.0.0.1:{port}/", "--stream", *QUICK)
    tool.wait_err("trying again")
    answers = [(503, {}, b'data: {"n":0}\n\n'), (401, {}, b"no"), once('data: {"n":1}\n\n')]

    def answer(request):
        value = answers.pop(0) if len(answers) > 1 else answers[0]
        return value(request) if callable(value) else value
    with Server(answer, port):
        tool.wait_events(1)
        tool.wait_err("HTTP status 401")
        assert tool.terminate() == 0
    assert tool.events == [{"n": 1}]


def test_tls(tools, directory):
    authority = tls_support.Authority(directory / "tls")
    for name, reason in [("good", None), ("expired", "expired"), ("untrusted", "certificate"), ("of_another_host", "name|host|certificate")]:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*getattr(authority, name)())
        with Server(once('data: {"n":1}\n\n'), context=context) as server:
            tool = tools.start("ingest", server.url(), "--stream", "--tls-ca", authority.ca, *QUICK)
            if reason is None:
                tool.wait_events(1)
            else:
                tool.wait_err(f"(?i)({reason}).*trying again")
            assert tool.terminate() == 0
            assert tool.events == ([{"n": 1}] if reason is None else [])


@pytest.mark.parametrize("ends", [True, False])
def test_an_answer_that_has_no_end_is_told_with_the_remedy(tools, ends):
    released = threading.Event()

    def answer(request):
        begin(request)
        send(request, "data: {}\n\n")
        if not ends:
            released.wait(60)
    with Server(answer) as server:
        tool = tools.start("ingest", server.url(), *QUICK, "--timeout", "100ms")
        tool.wait_err("the answer is Server-Sent Events, which --stream takes as they come; trying again")
        released.set()
        assert tool.terminate() == 0 and tool.events == []


def test_options_that_do_not_go_with_a_stream_are_refused(tools):
    tool = tools.run("ingest", "http://127.0.0.1:1/", "--stream", "--paging", "page")
    assert tool.status == 64 and "--stream" in tool.err


def test_the_ready_pipeline_of_a_web_api(control, directory, monkeypatch):  # noqa: F811
    def answer(request):
        if request.headers.get("X-API-Key") != "sesame":
            return 401, {}, b""
        if request.path.startswith("/prices"):
            return stream(request) if "Last-Event-ID" not in request.headers else NOTHING
        if "after_id" in request.path:
            return as_json({"data": []})
        if "page=2" in request.path:
            return as_json({"data": [{"id": 3, "total": 300}]})
        return as_json({"data": [{"id": 1, "total": 100}, {"id": 2, "total": 99}]}, Link='</orders?page=2>; rel="next"')
    stream = once('id: 1\ndata: {"price": 7}\n\n')
    with Server(answer) as server:
        monkeypatch.setenv("API_URL", server.url(""))
        monkeypatch.setenv("API_KEY", "sesame")
        content = json.loads((support.ROOT / "pipelines/web-api.json").read_text())
        content["server"] = {"enabled": False}
        (directory / "config.json").write_text(json.dumps(content))
        control.good("start")
        for name, count in [("large-orders", 2), ("prices", 1)]:
            path = directory / f"data/{name}.ndjson"
            support.wait_for(lambda: path.exists() and path.read_bytes().count(b"\n") == count, f"{name}'s events", 30)
        control.good("stop")
    assert [event["id"] for event in support.lines_of(directory / "data/large-orders.ndjson")] == [1, 3]
    assert [event["price"] for event in support.lines_of(directory / "data/prices.ndjson")] == [7]
