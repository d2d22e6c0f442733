"""Source websocket: against python3-websockets as a server that comes, goes, closes and redirects, and against servers that keep to nothing."""

import fcntl
import http
import json
import socket
import struct
import termios
import threading
import time
import zlib

import msgpack
import pytest

import support
import tls_support
from instance import control  # noqa: F401
from websocket_support import Proxy, RawServer, Server, answer, frame, text, tls_context

QUICK = ("--retry-min", "20ms", "--retry-max", "200ms")


@pytest.fixture
def own():
    """Makes servers that are ended with the test."""
    made = []

    def make(kind, *arguments, **settings):
        made.append(kind(*arguments, **settings))
        return made[-1]
    yield make
    for one in made:
        one.close()


def ingest(tools, url, *arguments, **how):
    return tools.start("ingest", url, *QUICK, *arguments, **how)


def plain(events):
    return [{key: value for key, value in event.items() if key != "@timestamp"} for event in events]


MESSAGES = [
    ('{"n": 1}', [{"n": 1}]), (' {"n": 2}\n', [{"n": 2}]), ('{\n "n": {"m": [3]}\n}', [{"n": {"m": [3]}}]), ('[{"n": 4}, {"n": 5}, 6]', [{"n": 4}, {"n": 5}, {"value": 6}]),
    ('{"n": 7}\n{"n": 8}\r\n{"n": 9}\n', [{"n": 7}, {"n": 8}, {"n": 9}]), ("[10]\n[11, 12]", [{"value": 10}, {"value": 11}, {"value": 12}]),
    ("-1.5", [{"value": -1.5}]), ('"grün"', [{"value": "grün"}]), ("[]", []), ("", []), (['{"n"', ":13", "}"], [{"n": 13}]),
    (msgpack.packb({"n": 14}), [{"n": 14}]), (msgpack.packb([{"n": 15}, {"n": 16}]), [{"n": 15}, {"n": 16}]), (msgpack.packb([1.5, {"n": 17}]), [{"n": 17}]),
    (msgpack.packb({"n": 18}) + msgpack.packb({"n": 19}), [{"n": 18}, {"n": 19}]), (msgpack.packb([[1.5, {"n": 20}], [2.5, {"n": 21}]]), [{"n": 20}, {"n": 21}]),
    (b'{"n": 22}', [{"n": 22}]), (b"", []), ('{"n": 23, "t": "' + "x" * 200000 + '"}', [{"n": 23, "t": "x" * 200000}]), ('{"n": 24}', [{"n": 24}]),
]


@pytest.mark.parametrize("compression", [None, "deflate"])
def test_messages_of_every_form(tools, own, compression):
    server = own(Server, compression=compression)
    tool = ingest(tools, server.url())
    server.connected()
    server.send(*(message for message, _ in MESSAGES))
    expected = [event for _, events in MESSAGES for event in events]
    assert plain(tool.wait_events(len(expected))) == expected
    assert tool.terminate() == 0
    extensions = server.requests[0][1]["Sec-WebSocket-Extensions"]
    assert extensions == "permessage-deflate"


def test_many_messages_of_all_sizes(tools, own):
    server = own(Server)
    tool = ingest(tools, server.url())
    server.connected()
    messages = [{"n": i, "t": "abc " * (i * i % 30011 // 4)} for i in range(1500)]
    server.send(*map(json.dumps, messages))
    assert tool.wait_events(len(messages), 60) == messages
    assert tool.terminate() == 0


FORMATS = [
    (("--format", "lines"), "a\nb\n", [{"message": "a"}, {"message": "b"}]), (("--format", "csv"), b"a,b\n1,x\n2,y\n", [{"a": 1, "b": "x"}, {"a": 2, "b": "y"}]),
    (("--format", "logfmt"), "level=info n=5", [{"level": "info", "n": 5}]), (("--format", "json"), b'[{"a": 1}]', [{"a": 1}]),
    (("--format", "msgpack"), msgpack.packb([{"a": 1}]), [{"a": 1}]), (("--format", "ndjson"), '{"a": 1}\n{"a": 2}', [{"a": 1}, {"a": 2}]),
    (("--time", "ts"), '{"ts": "2026-01-02T03:04:05Z"}', [{"@timestamp": "2026-01-02T03:04:05Z", "ts": "2026-01-02T03:04:05Z"}]),
    (("--time", "ts"), msgpack.packb({"ts": 5}), [{"@timestamp": "1970-01-01T00:00:05Z", "ts": 5}]),
    (("--records", "data.items"), '{"data": {"items": [{"a": 1}, {"a": 2}]}}', [{"a": 1}, {"a": 2}]), (("--records", "data"), '{"data": {"a": 1}}\n{"data": {"a": 2}}', [{"a": 1}, {"a": 2}]),
    (("--records", "data.items"), msgpack.packb({"data": {"items": [{"a": 1}, {"a": 2}]}}), [{"a": 1}, {"a": 2}]),
    (("--records", "data"), msgpack.packb({"x": 1, "data": {"a": 1}}), [{"a": 1}]),
]


@pytest.mark.parametrize("options, message, expected", FORMATS)
def test_formats_and_places_in_messages(tools, own, options, message, expected):
    server = own(Server)
    tool = ingest(tools, server.url(), *options)
    server.connected()
    server.send(message)
    assert tool.wait_events(len(expected)) == expected
    assert tool.terminate() == 0


def test_messages_without_the_records_are_dead_letters_and_null_is_none(tools, own, directory):
    server = own(Server)
    tool = ingest(tools, server.url(), "--records", "data", "--dead-letter", "dead")
    server.connected()
    server.send('{"data": null}', '{"event": "subscribed"}', msgpack.packb({"event": 1}), msgpack.packb({"data": None}), '{"data": {"a": 1}}')
    assert tool.wait_events(1) == [{"a": 1}]
    letters = support.lines_of(directory / "dead")
    assert [letter["place"] for letter in letters] == [f"{server.url()} message {n}" for n in (2, 3)]
    assert {letter["reason"] for letter in letters} == {"the message has no data (--records)"}


def test_garbage_costs_only_itself(tools, own, directory):
    """Broken JSON and msgpack, invalid UTF-8, and messages that are too large, as such, in fragments, or once inflated."""
    big = '{"a":"' + "x" * 2000 + '"}'
    packed = zlib.compressobj(9, zlib.DEFLATED, -15)
    bomb = packed.compress(b"x" * 5_000_000) + packed.flush(zlib.Z_SYNC_FLUSH)
    after = packed.compress(b'{"n": 2}') + packed.flush(zlib.Z_SYNC_FLUSH)      # refers to the window that the bomb has left

    def script(peer, request, number):
        peer.sendall(answer(request, "Sec-WebSocket-Extensions: permessage-deflate\r\n"))
        for message in (text("{"), text(b'{"a": "\xff"}'), frame(2, b"\x81\xa1a"), frame(2, b"\xc1\xc1"), text('{"a": 1}\nnonsense\n{"a": 2}'), text("\0" * 100), text(big),
                        frame(1, big[:1500].encode(), final=False) + frame(9, b"in between") + frame(0, big[1500:].encode()), frame(2, b"\x91" + b"\xc0" * 70000),
                        text('{"n": 1}'), frame(1, bomb[:-4], reserved=0x40), frame(1, after[:-4], reserved=0x40)):
            peer.sendall(message)
        server.ended.wait()
    server = own(RawServer, script)
    tool = ingest(tools, server.url(), "--dead-letter", "dead", "--message-limit", "1KiB")
    assert tool.wait_events(2) == [{"n": 1}, {"n": 2}]
    letters = support.lines_of(directory / "dead")
    assert [letter["place"].removeprefix(server.url()).split(":")[0] for letter in letters] == [f" message {n}" for n in (1, 2, 3, 4, 5, 6, 7, 8, 9, 11)]
    for letter in letters[6:]:
        assert letter["reason"] == "the message is larger than 1024 bytes (--message-limit)" and len(letter["text"]) <= 4096
    assert tool.terminate() == 0
    assert len(server.requests) == 1           # the connection was never given up


def test_a_bad_line_among_lines_costs_only_itself(tools, own, directory):
    server = own(Server)
    tool = ingest(tools, server.url(), "--dead-letter", "dead")
    server.connected()
    server.send('{"n": 1}\n{"n": x}\n{"n": 2}')
    assert tool.wait_events(2) == [{"n": 1}, {"n": 2}]
    assert [letter["place"] for letter in support.lines_of(directory / "dead")] == [f"{server.url()} message 1:2"]


def test_what_is_said_with_each_connection(tools, own):
    server = own(Server, subprotocols=["b", "a"])
    tool = ingest(tools, server.url("/feed?x=1&token=tsecret", "anna:psecret@"), "--subscribe", '{"op": "auth", "key": "k"}', "--subscribe", '{"op": "subscribe", "channel": "ü"}',
                  "--subprotocol", "a", "--subprotocol", "c", "--header", "Origin: https://example.com", "--header", "X-Mine: hsecret", "--api-key", "asecret")
    said = ['{"op": "auth", "key": "k"}', '{"op": "subscribe", "channel": "ü"}']
    support.wait_for(lambda: server.received == said, lambda: f"the greetings; {server.received}; {tool.err}")
    path, headers = server.requests[0]
    assert path == "/feed?x=1&token=tsecret"
    assert headers["Authorization"] == "Basic YW5uYTpwc2VjcmV0" and headers["Origin"] == "https://example.com" and headers["X-API-Key"] == "asecret"
    assert headers["Sec-WebSocket-Protocol"] == "a, c" and headers["X-Mine"] == "hsecret" and headers["Host"] == f"127.0.0.1:{server.port}"
    server.close_connections(4000, "no psecret tsecret hsecret asecret YW5uYTpwc2VjcmV0 please")
    support.wait_for(lambda: server.received == said * 2, "the greetings again")
    server.send('{"n": 1}')
    tool.wait_events(1)
    assert tool.terminate() == 0
    assert "code 4000: no *** *** *** *** *** please; trying again" in tool.err and "secret" not in tool.err and "YW5u" not in tool.err
    assert f"ws://***@127.0.0.1:{server.port}/feed?x=1&token=***" in tool.err


@pytest.mark.parametrize("options, path, header", [
    (("--token", "tsecret"), "/", ("Authorization", "Bearer tsecret")), (("--user", "a", "--password", "b"), "/", ("Authorization", "Basic YTpi")),
    (("--api-key", "a b&c", "--api-key-in", "query"), "/?api_key=a%20b%26c", None), (("--api-key", "k", "--api-key-name", "X-K"), "/", ("X-K", "k"))])
def test_credentials(tools, own, options, path, header):
    server = own(Server)
    tool = ingest(tools, server.url(), *options)
    server.connected()
    assert server.requests[0][0] == path
    assert not header or server.requests[0][1][header[0]] == header[1]
    assert tool.terminate() == 0
    assert "tsecret" not in tool.err and "a b&c" not in tool.err and "a%20b" not in tool.err


def test_a_server_that_is_not_there_goes_away_and_comes_back(tools, own, directory):
    server = own(Server, start=False)
    tool = ingest(tools, server.url(), "--metrics", "m")
    tool.wait_err("refused; trying again|[Cc]onnect.*; trying again")
    server.start()
    server.connected()
    server.send('{"n": 1}')
    tool.wait_events(1)
    tool.wait_err("data arrives again")
    server.stop()
    tool.wait_err("closed the connection|reset")
    server.start()
    server.connected()
    tool.wait_err("connected again; no message has come since")
    server.send('{"n": 2}')
    assert tool.wait_events(2) == [{"n": 1}, {"n": 2}]
    support.wait_for(lambda: tool.err.count("data arrives again") == 2, "good health")
    assert tool.terminate() == 0


def test_a_slow_server(tools, own):
    """A byte at a time, the handshake included."""
    def script(peer, request, number):
        data = answer(request) + text('{"n": 1}') + frame(1, b'{"n"', final=False) + frame(9, b"x") + frame(0, b": 2}") + frame(2, msgpack.packb({"n": 3})) + text('{"n": 4}')
        for i in range(len(data)):
            peer.sendall(data[i:i + 1])
        server.ended.wait()
    server = own(RawServer, script)
    tool = ingest(tools, server.url())
    assert tool.wait_events(4) == [{"n": n} for n in (1, 2, 3, 4)]
    assert tool.terminate() == 0


@pytest.mark.parametrize("code, reason, words", [(1000, "", r"code 1000 \(done\);"), (1001, "bye", r"code 1001 \(going away\): bye;"), (1011, "", r"code 1011"),
                                                 (1013, "later", r"code 1013 \(try again later\): later"), (4321, "own \x01", "code 4321: own")])
def test_the_servers_reasons_are_told_and_it_connects_again(tools, own, code, reason, words):
    server = own(Server)
    tool = ingest(tools, server.url(), "--message-limit", "2KiB")
    server.connected()
    server.send('{"n": 1}')
    tool.wait_events(1)
    server.close_connections(code, reason)
    tool.wait_err(words)
    support.wait_for(lambda: len(server.requests) >= 2 and server.connections, "another connection")
    server.send('{"n": 2}')
    assert tool.wait_events(2) == [{"n": 1}, {"n": 2}]
    assert tool.terminate() == 0


def test_once_ends_with_the_servers_word_and_not_before(tools, own):
    async def handler(connection):
        await connection.send(json.dumps({"n": len(server.requests)}))
        await connection.close(1001 if len(server.requests) < 3 else 1000)
    server = own(Server, handler)
    tool = ingest(tools, server.url(), "--once")
    assert tool.wait() == 0
    assert tool.events == [{"n": 1}, {"n": 2}, {"n": 3}]


def test_pings_are_answered_and_a_server_that_answers_none_is_left(tools, own):
    heard = []

    def script(peer, request, number):
        peer.sendall(answer(request) + frame(9, b"are you there") + text(json.dumps({"n": number})))
        while part := peer.recv(65536):
            heard.append(part)                 # and never answers
    server = own(RawServer, script)
    tool = ingest(tools, server.url(), "--ping-interval", "50ms", "--ping-timeout", "100ms")
    assert tool.wait_events(3) == [{"n": 1}, {"n": 2}, {"n": 3}]
    tool.wait_err("has not answered a ping for the time of --ping-timeout; trying again")
    frames = b"".join(heard)
    assert frames[0] == 0x8a and frames[1] == 0x80 | 13
    mask, masked = frames[2:6], frames[6:19]
    assert bytes(c ^ mask[i % 4] for i, c in enumerate(masked)) == b"are you there"
    assert b"\x89\x80" in frames


def test_a_server_that_takes_no_answer_is_not_read_without_end(tools, own):
    """Its pings are answered, and it reads none of that: what waits for it has a bound, and it is left in the end."""
    def script(peer, request, number):
        peer.sendall(answer(request))
        pings = frame(9, b"x" * 125) * 1000
        while number == 1:
            peer.sendall(pings)
        peer.sendall(text('{"n": 1}'))
        while peer.recv(65536):
            pass
    server = own(RawServer, script)
    tool = ingest(tools, server.url(), "--ping-interval", "50ms", "--ping-timeout", "100ms")
    assert tool.wait_events(1) == [{"n": 1}]
    tool.wait_err("has not answered a ping for the time of --ping-timeout; trying again")
    assert tool.terminate() == 0


def test_a_silent_server_that_answers_pings_is_kept(tools, own):
    server = own(Server, ping_interval=None)
    tool = ingest(tools, server.url(), "--ping-interval", "20ms", "--ping-timeout", "30s")
    server.connected()
    done = threading.Event()

    async def pinged():                        # round trips: as many as a broken one would not survive
        for _ in range(20):
            waiter = await server.connections[0].ping()
            await waiter
        done.set()
    server.call(pinged())
    assert done.is_set() and len(server.requests) == 1
    server.send('{"n": 1}')
    tool.wait_events(1)
    assert tool.terminate() == 0


BROKEN = [
    (frame(1, b"\0\0\0\0", mask=b"abcd"), "masked frames"), (frame(1, b"x", reserved=0x40), "a bit that nothing was agreed on"), (frame(1, b"x", reserved=0x10), "a bit that"),
    (frame(3, b"x"), "unknown kind"), (frame(11, b"x"), "unknown kind"), (frame(0, b"x"), "has not begun"), (frame(1, b"x", final=False) + frame(1, b"y"), "inside another"),
    (frame(9, b"x", final=False), "control frame"), (frame(9, b"x" * 126), "control frame"), (b"\x81\x7f" + b"\x7f" * 8, "more than 1 GiB"),
]


@pytest.mark.parametrize("data, words", BROKEN)
def test_a_server_that_breaks_the_protocol_is_told_and_left(tools, own, data, words):
    def script(peer, request, number):
        peer.sendall(answer(request) + text(json.dumps({"n": number})) + (data if number == 1 else b""))
        while peer.recv(65536):
            pass
    server = own(RawServer, script)
    tool = ingest(tools, server.url(), "--no-compression")
    assert tool.wait_events(2) == [{"n": 1}, {"n": 2}]
    tool.wait_err(f"does not keep to the protocol: .*{words}.*; trying again")
    assert tool.terminate() == 0


def test_a_message_whose_compression_is_broken_is_counted(tools, own, directory):
    def script(peer, request, number):
        peer.sendall(answer(request, "Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover\r\n"))
        peer.sendall(frame(1, b"\xff\xff\xff\xff", reserved=0x40) if number == 1 else text('{"n": 1}'))
        while peer.recv(65536):
            pass
    server = own(RawServer, script)
    tool = ingest(tools, server.url(), "--dead-letter", "dead")
    assert tool.wait_events(1) == [{"n": 1}]
    assert [letter["reason"] for letter in support.lines_of(directory / "dead")] == ["its compression is broken"]


HANDSHAKES = [
    (lambda request: b"SSH-2.0-x\r\n\r\n", "does not speak HTTP"), (lambda request: b"HTTP/1.1 200 OK\r\n\r\nhello", "HTTP status 200: .*is there a WebSocket"),
    (lambda request: b"HTTP/1.1 404 No\r\n\r\n", "HTTP status 404"), (lambda request: b"HTTP/1.1 503 No\r\nRetry-After: 0\r\n\r\n", "HTTP status 503"),
    (lambda request: answer(request.replace(b"Key: ", b"Key: x")), "answer is to another request"), (lambda request: answer(request).replace(b"Upgrade: websocket", b"X: y"), "not to become"),
    (lambda request: answer(request, "Sec-WebSocket-Protocol: other\r\n"), "sub-protocol that was not asked"),
    (lambda request: answer(request, "Sec-WebSocket-Extensions: x-mine\r\n"), "extension that was not asked"), (lambda request: b"HTTP/1.1 101 X\r\n" + b"A: b\r\n" * 20000, "has no end"),
    (lambda request: b"", "closed the connection without an answer"),
]


@pytest.mark.parametrize("reply, words", HANDSHAKES)
def test_what_is_no_websocket_is_told_and_tried_again(tools, own, reply, words):
    def script(peer, request, number):
        if number > 2:
            peer.sendall(answer(request) + text('{"n": 1}'))
            server.ended.wait()
        peer.sendall(reply(request))
    server = own(RawServer, script)
    tool = ingest(tools, server.url())
    assert tool.wait_events(1) == [{"n": 1}]
    tool.wait_err(words + ".*; trying again")


def test_answers_of_1xx_come_before_the_one_that_counts(tools, own):
    def script(peer, request, number):
        peer.sendall(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" + answer(request) + text('{"n": 1}'))
        while peer.recv(65536):
            pass
    server = own(RawServer, script)
    tool = ingest(tools, server.url())
    assert tool.wait_events(1) == [{"n": 1}]
    assert tool.terminate() == 0 and len(server.requests) == 1


def test_an_answer_that_does_not_come(tools, own):
    server = own(RawServer, lambda peer, request, number: server.ended.wait())
    tool = ingest(tools, server.url(), "--connect-timeout", "100ms")
    tool.wait_err("does not answer in the time that --connect-timeout allows; trying again")


def test_a_refused_token_is_told_and_the_right_one_taken(tools, own):
    async def refuse(path, headers):
        if headers.get("Authorization") != "Bearer good":
            return http.HTTPStatus.UNAUTHORIZED, [], b"no tsecret here\n"
    server = own(Server, process_request=refuse)
    tool = ingest(tools, server.url(), "--token", "tsecret")
    tool.wait_err("HTTP status 401: the server wants other credentials")
    assert "tsecret" not in tool.err
    tool = ingest(tools, server.url(), "--token", "good")
    server.connected()
    server.send('{"n": 1}')
    assert tool.wait_events(1) == [{"n": 1}]


def test_redirects_are_followed_and_secrets_stay_at_home(tools, own):
    async def elsewhere(path, headers):
        if path == "/here":
            return http.HTTPStatus.FOUND, [("Location", "/there?x=1")], b""
        if path == "/away":
            return http.HTTPStatus.TEMPORARY_REDIRECT, [("Location", other.url("/new"))], b""
        if path == "/loop":
            return http.HTTPStatus.FOUND, [("Location", "loop")], b""
    other, server = own(Server), own(Server, process_request=elsewhere)
    secrets = ("--token", "tsecret", "--header", "X-Mine: 1", "--api-key", "k")
    for path, target, reached, keeps in (("/here", server, "/there?x=1", True), ("/away", other, "/new", False)):
        tool = ingest(tools, server.url(path), *secrets)
        target.connected()
        path, headers = target.requests[-1]
        assert path == reached and ("Authorization" in headers) == ("X-Mine" in headers) == ("X-API-Key" in headers) == keeps
        target.send('{"n": 1}')
        tool.wait_events(1)
        assert tool.terminate() == 0
        support.wait_for(lambda: not target.connections, "the connection to end")
    ingest(tools, server.url("/loop"), "--redirects", "3").wait_err("redirects more often than --redirects allows")


def test_a_redirect_away_from_tls_is_not_followed(tools, own, directory):
    authority = tls_support.Authority(directory / "ca")
    plain_server = own(Server)

    async def away(path, headers):
        return http.HTTPStatus.FOUND, [("Location", plain_server.url())], b""
    server = own(Server, tls=tls_context(authority.good()), process_request=away)
    ingest(tools, server.url(), "--tls-ca", str(authority.ca)).wait_err("a redirect away from wss is not followed")
    assert not plain_server.requests


def test_certificates(tools, own, directory):
    authority = tls_support.Authority(directory / "ca")
    good = own(Server, tls=tls_context(authority.good()))
    tool = ingest(tools, good.url(), "--tls-ca", str(authority.ca))
    good.connected()
    messages = [{"n": i, "t": "x" * (i % 1000)} for i in range(2000)]
    good.send(*map(json.dumps, messages))
    assert tool.wait_events(2000) == messages
    assert tool.terminate() == 0
    ingest(tools, good.url()).wait_err("certificate.*; trying again")
    for certificate, words in ((authority.expired(), "expired"), (authority.untrusted(), "certificate"), (authority.of_another_host(), "127.0.0.1")):
        server = own(Server, tls=tls_context(certificate))
        ingest(tools, server.url(), "--tls-ca", str(authority.ca)).wait_err(f"{words}.*; trying again")
        assert not server.requests


def test_a_certificate_of_our_own(tools, own, directory):
    authority = tls_support.Authority(directory / "ca")
    server = own(Server, tls=tls_context(authority.good(), client_ca=authority.ca))
    ingest(tools, server.url(), "--tls-ca", str(authority.ca)).wait_err("; trying again")
    certificate, key = authority.good("client")
    tool = ingest(tools, server.url(), "--tls-ca", str(authority.ca), "--tls-cert", str(certificate), "--tls-key", str(key))
    server.connected()
    server.send('{"n": 1}')
    assert tool.wait_events(1) == [{"n": 1}]


def test_a_proxy_in_between(tools, own, directory):
    proxy, server = own(Proxy, "anna:psecret"), own(Server)
    tool = ingest(tools, server.url(), "--proxy", f"http://anna:psecret@127.0.0.1:{proxy.port}")
    server.connected()
    server.send('{"n": 1}')
    tool.wait_events(1)
    assert tool.terminate() == 0
    assert proxy.asked[0].startswith(f"CONNECT 127.0.0.1:{server.port} ")
    support.wait_for(lambda: not server.connections, "the connection to end")
    bad = ingest(tools, server.url(), env={"http_proxy": f"http://anna:wrong-secret@127.0.0.1:{proxy.port}", "no_proxy": ""})
    bad.wait_err("407.*; trying again")
    assert "secret" not in tool.err and "secret" not in bad.err
    assert bad.terminate() == 0
    good = ingest(tools, server.url(), env={"http_proxy": f"http://anna:psecret@127.0.0.1:{proxy.port}", "no_proxy": ""})
    server.connected()
    assert good.terminate() == 0
    asked = len(proxy.asked)
    direct = ingest(tools, server.url(), env={"http_proxy": f"http://127.0.0.1:{proxy.port}", "no_proxy": "127.0.0.1"})
    support.wait_for(lambda: len(server.requests) == 3, "a connection without the proxy")
    assert direct.terminate() == 0 and len(proxy.asked) == asked


def test_a_full_output_holds_the_server_back_and_nothing_is_lost(tools, own, directory):
    """Nobody takes what ingest has, at first; the messages are more than the kernel's buffers hold."""
    link, count, sent = f"ipc://{directory}/l", 400, []

    async def handler(connection):
        for i in range(count):
            await connection.send(json.dumps([{"n": n, "t": "x" * 50} for n in range(i * 1000, i * 1000 + 1000)]))
            sent.append(i)
        await connection.close()
    server = own(Server, handler, compression=None, ping_interval=None)
    tool = ingest(tools, server.url(), "--once", "--to", f"@{link}", "--memory", "8MiB", "--message-limit", "2MiB")
    looks = []

    def is_stuck():
        looks.append(len(sent))
        return looks[-1] and len(looks) > 5 and len(set(looks[-6:])) == 1
    support.wait_for(is_stuck, "the server to be held back", 60)
    assert len(sent) < count
    receiver = tools.start("process", "where true", "--from", link, "--to", "-")
    assert tool.wait(60) == 0 and receiver.wait(60) == 0
    assert [event["n"] for event in receiver.events] == list(range(count * 1000))


def unacknowledged(peer):
    """Bytes sent that the kernel at the other end does not have."""
    return struct.unpack("i", fcntl.ioctl(peer, termios.TIOCOUTQ, b"\0" * 4))[0]


def test_what_had_come_is_there_though_the_server_went_away_meanwhile(tools, own, directory):
    """It sends until the client, whose events nobody takes, reads no more; then it resets the connection. What the client's kernel has confirmed counts."""
    block = b"".join(text(json.dumps({"n": n, "t": "x" * 100})) for n in range(1000, 2000))
    size = len(block) // 1000
    confirmed = []

    def script(peer, request, number):
        if number > 1:
            server.ended.wait()
        peer.sendall(answer(request))
        support.wait_for(lambda: not unacknowledged(peer), "the answer to be there")
        peer.setblocking(False)
        sent, looks = 0, []
        while len(looks) < 10:                 # nothing moves, look after look
            try:
                sent += peer.send(block[sent % len(block):])
            except BlockingIOError:
                looks = [look for look in looks if look == unacknowledged(peer)] + [unacknowledged(peer)]
                time.sleep(0.05)
        confirmed.append((sent - unacknowledged(peer)) // size)
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    server = own(RawServer, script)
    link = f"ipc://{directory}/l"
    tool = ingest(tools, server.url(), "--to", f"@{link}", "--memory", "8MiB")
    support.wait_for(lambda: confirmed, "the server to be held back", 60)
    receiver = tools.start("process", "where true", "--from", link, "--to", "-")
    events = receiver.wait_events(confirmed[0], 60)
    assert [event["n"] for event in events] == [1000 + i % 1000 for i in range(len(events))]
    support.wait_for(lambda: len(server.requests) > 1, "another connection")
    tool.wait_err("; trying again")


@pytest.mark.parametrize("packed", (False, True))
@pytest.mark.parametrize("end", ("kill", "terminate"))
def test_a_message_that_is_passed_on_in_part_goes_on_after_a_restart(tools, own, directory, packed, end):
    """The log is full in the middle of it. The server sends nothing twice, and each record leaves once."""
    link, count = f"ipc://{directory}/l", 3000
    message = lambda first: (msgpack.packb if packed else json.dumps)([{"n": n, "t": "x" * 50} for n in range(first, first + count)])
    server = own(Server, compression=None, ping_interval=None)
    arguments = (server.url(), *QUICK, "--to", f"@{link}", "--state", "state", "--spool-limit", "1MiB", "--batch-size", "100")
    tool = tools.start("ingest", *arguments)
    server.connected()
    server.send(message(0))
    spool = directory / "state" / "spool"
    support.wait_for(lambda: sum(path.stat().st_size for path in spool.glob("*.seg")) > 500000, "the message's first part in the log")
    if end == "kill":
        tool.kill()
    else:
        tool.signal(15)
        tool.signal(15)                        # nobody takes what it has
        tool.wait()
    support.wait_for(lambda: not server.connections, "the connection to be gone")
    receiver = tools.start("process", "where true", "--from", link, "--to", "-")
    tool = tools.start("ingest", *arguments)
    server.connected()
    server.send(message(count))
    support.wait_for(lambda: receiver.out.count(b"\n") >= 2 * count, lambda: f"the second message; {receiver.out.count(10)}; {tool.err[-500:]}", 60)
    assert [event["n"] for event in receiver.events] == list(range(2 * count))
    assert tool.terminate() == 0


def test_a_state_of_another_server_is_refused(tools, own):
    server = own(Server)
    tool = ingest(tools, server.url("/a"), "--state", "state", "--to", "-")
    server.connected()
    server.send('{"n": 1}')
    tool.wait_events(1)
    assert tool.terminate() == 0
    done = tools.run("ingest", server.url("/b"), "--state", "state")
    assert done.status == 1 and "it was made for ws://127.0.0.1" in done.err


def test_a_sample(tools, own):
    server = own(Server)
    tool = ingest(tools, server.url(), "--sample", "2", "--subscribe", "hello")
    support.wait_for(lambda: server.received == ["hello"], "the greeting")
    server.send('[{"n": 1}, {"n": 2}, {"n": 3}]')
    assert tool.wait() == 0
    assert tool.events == [{"n": 1}, {"n": 2}]
    failed = tools.run("ingest", "ws://127.0.0.1:1/", *QUICK, "--sample", "1", "--sample-wait", "300ms")
    assert failed.status == 1 and "only 0 of 1 events came" in failed.err and "trying again" in failed.err


@pytest.mark.parametrize("arguments, words", [
    (("ws:host",), "looks like wss://host"), (("ws://",), "looks like"), (("ws://h h/",), "looks like"), (("ws://h:99999/",), "looks like"),
    (("ws://h/", "--header", "X"), "Name: value"), (("ws://h/", "--header", "Connection: x"), "made here"), (("ws://h/", "--header", "Sec-WebSocket-Protocol: x"), "--subprotocol"),
    (("ws://h/", "--subprotocol", "a b"), "--subprotocol"), (("ws://u@h/", "--token", "t"), "no user"), (("ws://h/", "--token", "a\nb"), "one line"),
    (("ws://h/", "--tls-ca", "x"), "needs wss"), (("ws://h/", "--retry-min", "2m"), "--retry-max"), (("ws://h/", "--records", "a", "--format", "csv"), "--records")])
def test_wrong_usage(tools, arguments, words):
    done = tools.run("ingest", *arguments)
    assert done.status == 64 and words in done.err, done.err


def test_the_ready_pipeline(control, directory, own, monkeypatch):
    server = own(Server)
    monkeypatch.setenv("FEED_URL", server.url("/feed"))
    monkeypatch.setenv("FEED_TOKEN", "tsecret")
    content = json.loads((support.ROOT / "pipelines/websocket.json").read_text())
    content["server"] = {"enabled": False}
    (directory / "config.json").write_text(json.dumps(content))
    control.good("start")
    support.wait_for(lambda: server.received == ['{"op": "subscribe", "channel": "trades"}'], "the subscription", 30)
    assert server.requests[0][1]["Authorization"] == "Bearer tsecret"
    trade = lambda second, price, size: {"time": f"2026-01-01T00:{second // 60:02}:{second % 60:02}Z", "symbol": "A", "price": price, "size": size}
    server.send(json.dumps([trade(1, 10, 2), trade(30, 12, 1), trade(59, 11, 3)]), json.dumps(trade(125, 9, 1)))
    path = directory / "data/minutes.ndjson"
    support.wait_for(lambda: path.exists() and path.read_bytes().endswith(b"\n"), "a minute")
    control.good("stop")
    minute = support.lines_of(path)[0]
    assert {key: minute[key] for key in ("symbol", "open", "high", "low", "close", "volume", "trades")} == {
        "symbol": "A", "open": 10, "high": 12, "low": 10, "close": 11, "volume": 6, "trades": 3}
    for stage_log in directory.rglob("*.log"):
        assert "tsecret" not in stage_log.read_text(errors="replace")
