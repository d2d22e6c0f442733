"""ingest: polling web addresses, against a real small HTTP server that misbehaves on request."""

import contextlib
import gzip
import http.server
import json
import socket
import ssl
import subprocess
import threading
import time
import zlib

import brotli
import pytest

import support

# Quick repeats, so that the tests are quick.
QUICK = ("--interval", "20ms", "--retry-min", "20ms", "--retry-max", "100ms")


class Server:
    """Answers with self.answer(request) -> (status, headers, body), or whatever that writes by itself (None)."""

    def __init__(self, answer, port=0, context=None):
        self.answer = answer
        self.requests = []
        self.connections = []
        server = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                self.body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                server.requests.append((self.path, dict(self.headers.items()), time.monotonic()))
                try:
                    answer = server.answer(self)
                    if answer is None:
                        return
                    status, headers, body = answer
                    self.send_response(status)
                    for name, value in headers.items():
                        self.send_header(name, value)
                    if status not in (204, 304):
                        self.send_header("Content-Length", str(len(body)))
                    self.end_headers()
                    self.wfile.write(body)
                except (BrokenPipeError, ConnectionResetError):
                    pass

            do_POST = do_SEARCH = do_GET

            def log_message(self, *arguments):
                pass

        class Listener(http.server.ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, request, client):
                pass

            def process_request(self, request, client):
                server.connections.append(request)
                super().process_request(request, client)

        self.server = Listener(("127.0.0.1", port), Handler)
        if context:
            self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        self.port = self.server.server_address[1]
        self.scheme = "https" if context else "http"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True)
        self.thread.start()

    def url(self, path="/"):
        return f"{self.scheme}://127.0.0.1:{self.port}{path}"

    def stop(self):
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()
        for connection in self.connections:      # those that are kept alive, too
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.stop()


def as_json(value, **headers):
    return 200, {"Content-Type": "application/json", **headers}, json.dumps(value).encode()


def each_time(*answers):
    """One answer after another; the last one again and again."""
    left = list(answers)

    def answer(request):
        value = left.pop(0) if len(left) > 1 else left[0]
        return value(request) if callable(value) else value
    return answer


NOTHING = (204, {}, b"")


def test_object_and_array_bodies_are_events(tools):
    with Server(each_time(as_json({"n": 1}), as_json([{"n": 2}, {"n": 3, "deep": {"a": [1, None, True]}}]), as_json([]),
                          (200, {}, b""), NOTHING)) as server:
        tool = tools.start("ingest", server.url(), *QUICK)
        support.wait_for(lambda: len(server.requests) >= 6, "more requests")
        assert tool.terminate() == 0
    assert tool.events == [{"n": 1}, {"n": 2}, {"n": 3, "deep": {"a": [1, None, True]}}]


@pytest.mark.parametrize("status", [200, 201, 203, 206, 207])
def test_a_body_counts_with_each_status_of_success(tools, status):
    """206 is what some APIs call a page of a longer list."""
    with Server(each_time((status, {"Content-Type": "application/json"}, b'[{"n":1}]'))) as server:
        assert tools.run("ingest", server.url(), "--once").events == [{"n": 1}]


def test_a_byte_order_mark_is_passed_over(tools):
    with Server(each_time(*((200, {"Content-Type": kind}, b"\xef\xbb\xbf" + body) for kind, body in (
            ("application/json", b'{"n":1}'), ("application/x-ndjson", b'{"n":2}\n'), ("text/csv", b"n\n3\n"), ("application/xml", b"<n>4</n>"))), NOTHING)) as server:
        tool = tools.start("ingest", server.url(), *QUICK)
        assert tool.wait_events(4) == [{"n": 1}, {"n": 2}, {"n": 3}, {"n": 4}]
        assert tool.terminate() == 0
    assert "could not be used" not in tool.err


def test_numbers_and_texts_survive_exactly(tools):
    record = {"int": 9007199254740993, "min": -9223372036854775808, "max": 18446744073709551615, "d": 0.1, "e": 1e300, "s": "grüß \U0001F600 \"\\\n"}
    with Server(each_time(as_json([record]))) as server:
        assert tools.run("ingest", server.url(), "--once").events == [record]


def test_records_are_taken_from_inside_the_body(tools):
    with Server(each_time(as_json({"data": {"items": [{"n": 1}, {"n": 2}]}}))) as server:
        tool = tools.run("ingest", server.url(), "--once", "--records", "data.items")
        assert tool.status == 0
        assert tool.events == [{"n": 1}, {"n": 2}]
        tool = tools.run("ingest", server.url(), "--once", "--records", "data.rows", "--dead-letter", "dead")
        assert tool.events == []
        assert "data.rows" in tool.err


def test_other_formats_by_content_type_or_option(tools):
    csv = b"id,v\n1,0.5\n2,1.5\n"
    with Server(each_time((200, {"Content-Type": "text/csv; charset=utf-8"}, csv))) as server:
        assert tools.run("ingest", server.url(), "--once").events == [{"id": 1, "v": 0.5}, {"id": 2, "v": 1.5}]
    with Server(each_time((200, {"Content-Type": "text/plain"}, csv))) as server:
        assert tools.run("ingest", server.url(), "--once", "--format", "csv").events == [{"id": 1, "v": 0.5}, {"id": 2, "v": 1.5}]
    with Server(each_time((200, {"Content-Type": "application/x-ndjson"}, b'{"n":1}\n{"n":2}'))) as server:
        assert tools.run("ingest", server.url(), "--once").events == [{"n": 1}, {"n": 2}]


def test_each_csv_body_has_its_own_header_row(tools):
    with Server(each_time((200, {"Content-Type": "text/csv"}, b"a\n1\n"), (200, {"Content-Type": "text/csv"}, b"b\n2\n"), NOTHING)) as server:
        tool = tools.start("ingest", server.url(), *QUICK)
        assert tool.wait_events(2) == [{"a": 1}, {"b": 2}]
        assert tool.terminate() == 0


def test_compressed_bodies(tools):
    body = json.dumps([{"n": i} for i in range(1000)]).encode()
    for name, packed in (("gzip", gzip.compress(body)), ("br", brotli.compress(body)), ("deflate", zlib.compress(body))):
        with Server(each_time((200, {"Content-Encoding": name}, packed))) as server:
            assert len(tools.run("ingest", server.url(), "--once").events) == 1000
            assert {"gzip", "deflate", "br", "zstd"} <= set(server.requests[0][1]["Accept-Encoding"].replace(",", " ").split())


def test_unchanged_answers_are_not_sent_again(tools):
    def answer(request):
        if request.headers.get("If-None-Match") == '"v1"' and request.headers.get("If-Modified-Since") == "Mon, 23 Nov 2026 00:00:00 GMT":
            return 304, {}, b""
        return as_json({"n": 1}, **{"ETag": '"v1"', "Last-Modified": "Mon, 23 Nov 2026 00:00:00 GMT"})
    with Server(answer) as server:
        tool = tools.start("ingest", server.url(), *QUICK)
        support.wait_for(lambda: len(server.requests) >= 5, "more requests")
        assert tool.terminate() == 0
        assert "If-None-Match" not in server.requests[0][1]
    assert tool.events == [{"n": 1}]


def test_server_that_is_down_at_the_start_is_waited_for(tools):
    port = support.free_port()
    tool = tools.start("ingest", f"http://127.0.0.1:{port}/", *QUICK)
    tool.wait_err("trying again")
    with Server(each_time(as_json({"n": 1}), NOTHING), port):
        tool.wait_events(1)
        tool.wait_err("data arrives again")
        assert tool.terminate() == 0
    assert tool.events == [{"n": 1}]


def test_server_lost_in_the_middle_comes_back(tools):
    port = support.free_port()
    with Server(each_time(as_json({"n": 1}), NOTHING), port):
        tool = tools.start("ingest", f"http://127.0.0.1:{port}/", *QUICK)
        tool.wait_events(1)
    tool.wait_err("trying again")
    with Server(each_time(as_json({"n": 2}), NOTHING), port):
        tool.wait_events(2)
        assert tool.terminate() == 0
    assert tool.events == [{"n": 1}, {"n": 2}]


def test_answer_cut_in_the_middle_is_tried_again_and_not_used(tools):
    def cut(request):
        request.send_response(200)
        request.send_header("Content-Length", "1000")
        request.end_headers()
        request.wfile.write(b'[{"n":1},{"n"')
        request.close_connection = True
    with Server(each_time(cut, cut, as_json([{"n": 1}, {"n": 2}]), NOTHING)) as server:
        tool = tools.start("ingest", server.url(), *QUICK)
        tool.wait_events(2)
        assert tool.terminate() == 0
    assert tool.events == [{"n": 1}, {"n": 2}]


def test_slow_server_is_given_up_after_the_timeout(tools):
    release = threading.Event()

    def slow(request):
        release.wait(60)
        return as_json({"n": 0})
    # On a slow machine a quick answer may come too late as well, so there are several.
    with Server(each_time(slow, as_json({"n": 1}))) as server:
        tool = tools.start("ingest", server.url(), *QUICK, "--timeout", "500ms")
        tool.wait_events(1)
        release.set()
        assert tool.terminate() == 0
    assert all(event == {"n": 1} for event in tool.events)
    assert "trying again" in tool.err


@pytest.mark.parametrize("garbage", [b"<html>down for maintenance</html>", b"[{\"n\":1},", b'{"n":1}}', b"\xff\xfe\x00", b'{"n":1}{"n":2}'])
def test_garbage_is_a_dead_letter_and_the_stream_goes_on(tools, directory, garbage):
    with Server(each_time((200, {}, garbage), as_json({"n": 1}), NOTHING)) as server:
        tool = tools.start("ingest", server.url("/x?token=hush"), *QUICK, "--dead-letter", "dead")
        tool.wait_events(1)
        assert tool.terminate() == 0
    assert tool.events == [{"n": 1}]
    dead = support.lines_of(directory / "dead")
    assert len(dead) == 1
    assert dead[0]["place"].endswith("/x?token=***") and dead[0]["reason"]


def test_elements_that_are_no_objects_are_dead_letters_alone(tools, directory):
    with Server(each_time(as_json([{"n": 1}, 7, "text", [1], {"n": 2}]))) as server:
        tool = tools.run("ingest", server.url(), "--once", "--dead-letter", "dead")
    assert tool.events == [{"n": 1}, {"n": 2}]
    assert len(support.lines_of(directory / "dead")) == 3


@pytest.mark.parametrize("status", [500, 503, 404, 429, 401])
def test_refusals_are_tried_again(tools, status):
    with Server(each_time((status, {}, b"no"), (status, {}, b"no"), as_json({"n": 1}), NOTHING)) as server:
        tool = tools.start("ingest", server.url(), *QUICK)
        tool.wait_events(1)
        assert tool.terminate() == 0
    assert f"HTTP status {status}" in tool.err
    assert tool.events == [{"n": 1}]


def test_retry_after_is_obeyed(tools):
    """The server asks for a second: no request comes earlier, though our own waits are far shorter."""
    with Server(each_time((503, {"Retry-After": "1"}, b""), as_json({"n": 1}), NOTHING)) as server:
        tool = tools.start("ingest", server.url(), *QUICK)
        tool.wait_events(1)
        assert tool.terminate() == 0
        first, second = (request[2] for request in server.requests[:2])
    assert second - first >= 0.99


def test_body_limit(tools):
    with Server(each_time(as_json({"s": "x" * 5000}), (200, {"Content-Encoding": "gzip"}, gzip.compress(b" " * 1000000)),
                          (200, {"Content-Encoding": "br"}, brotli.compress(b" " * 1000000)), as_json({"n": 1}), NOTHING)) as server:
        tool = tools.start("ingest", server.url(), *QUICK, "--body-limit", "2KiB")
        tool.wait_events(1)
        assert tool.terminate() == 0
    assert "the body is larger than the limit of 2048 bytes (--body-limit)" in tool.err
    assert tool.events == [{"n": 1}]


def test_redirects_are_followed_so_many_times(tools):
    def answer(request):
        step = int(request.path[1:])
        return as_json({"n": step}) if step == 3 else (302, {"Location": f"/{step + 1}"}, b"")
    with Server(answer) as server:
        assert tools.run("ingest", server.url("/0"), "--once").events == [{"n": 3}]
        tool = tools.start("ingest", server.url("/0"), "--redirects", "2", *QUICK)
        tool.wait_err("too many redirects")
        assert tool.terminate() == 0


def test_secrets_do_not_go_along_to_another_host(tools):
    with Server(each_time(as_json({"n": 1}))) as other:
        def answer(request):
            return (200, {}, b'{"n":0}') if request.path == "/stay" else \
                (307, {"Location": "/stay" if request.path == "/same" else other.url("/there")}, b"")
        with Server(answer) as server:
            secrets = ("--token", "sesame", "--header", "X-Api-Key: abracadabra")
            assert tools.run("ingest", server.url("/same"), "--once", *secrets).events == [{"n": 0}]
            assert server.requests[-1][1]["Authorization"] == "Bearer sesame"
            assert server.requests[-1][1]["X-Api-Key"] == "abracadabra"
            tool = tools.run("ingest", server.url("/away"), "--once", *secrets)
            assert tool.events == [{"n": 1}]
    assert "Authorization" not in other.requests[0][1]
    assert "X-Api-Key" not in other.requests[0][1]


def test_credentials_in_url_and_options_are_sent_and_never_shown(tools, directory):
    with Server(each_time((500, {}, b""), (200, {}, b"garbage"), as_json({"n": 1}))) as server:
        url = server.url("/p?api_key=hush1&city=Oslo").replace("://", "://me:hush2@")
        (directory / "s.json").write_text(json.dumps({"type": "api", "url": url, "header": ["X-Key: hush3"], "interval": 0.02, "retry_min": "20ms"}))
        tool = tools.start("ingest", "--settings", "s.json", "--log-level", "debug", "--dead-letter", "dead", "--metrics", "m")
        tool.wait_events(1)
        assert tool.terminate() == 0
        path, headers, _ = server.requests[0]
    assert path == "/p?api_key=hush1&city=Oslo"
    assert headers["Authorization"].startswith("Basic ") and headers["X-Key"] == "hush3"
    shown = tool.err.encode() + tool.out + (directory / "dead").read_bytes() + (directory / "m").read_bytes()
    for secret in (b"hush1", b"hush2", b"hush3", headers["Authorization"].split()[1].encode()):
        assert secret not in shown
    assert b"city=Oslo" in shown


def make_certificate(directory, name, days):
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-subj", "/CN=127.0.0.1",
               "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", f"{name}.key", "-out", f"{name}.pem", "-days", str(days)]
    subprocess.run(command, cwd=directory, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(directory / f"{name}.pem", directory / f"{name}.key")
    return context


def test_tls_certificates_are_verified(tools, directory):
    context = make_certificate(directory, "good", 30)
    with Server(each_time(as_json({"n": 1})), context=context) as server:
        assert tools.run("ingest", server.url(), "--once", "--tls-ca", "good.pem").events == [{"n": 1}]
        untrusted = tools.start("ingest", server.url(), *QUICK)
        untrusted.wait_err("certificate.*trying again")
        assert untrusted.terminate() == 0
        assert untrusted.events == []
        wrong_host = tools.start("ingest", server.url().replace("127.0.0.1", "localhost"), "--tls-ca", "good.pem", *QUICK)
        wrong_host.wait_err("trying again")
        assert wrong_host.terminate() == 0
        assert wrong_host.events == []


def test_slow_receiver_delays_polling_and_loses_nothing(tools):
    count = 30000
    with Server(each_time(as_json([{"n": i, "text": "x" * 50} for i in range(count)]), NOTHING)) as server:
        tool = tools.shell(f"timeout -s TERM 20 ingest {server.url()} --once --window 64KiB --name s | {{ sleep 0.3; cat; }}")
    assert [event["n"] for event in tool.events] == list(range(count))


def test_it_ends_while_a_request_is_under_way(tools):
    release = threading.Event()

    def slow(request):
        release.wait(60)
    with Server(slow) as server:
        tool = tools.start("ingest", server.url())
        support.wait_for(lambda: server.requests, "the request")
        assert tool.terminate() == 0
        release.set()


def test_sample_of_a_web_address(tools):
    with Server(each_time(as_json([{"n": i} for i in range(10)]))) as server:
        tool = tools.run("ingest", server.url(), "--sample", "4")
        assert tool.status == 0
        assert [event["n"] for event in tool.events] == [0, 1, 2, 3]
        assert len(server.requests) == 1
