"""ingest http-listen: webhooks, good ones and all kinds of bad ones; answers that wait for the disk; outputs that take nothing."""

import contextlib
import http.client
import json
import select
import signal
import socket
import subprocess
import threading

import pytest

import listen_support
import support
from listen_support import Clogged, connect

LOCAL = "http-listen://127.0.0.1:0/hook"
JSON = {"Content-Type": "application/json"}


def numbers(events):
    return [event["n"] for event in events]


class Client:
    """One connection that is kept."""

    def __init__(self, tool):
        host, port = listen_support.address(tool)
        self.connection = http.client.HTTPConnection(host, port, timeout=60 * support.PATIENCE)

    def post(self, body, path="/hook", method="POST", **headers):
        if not isinstance(body, (bytes, str)) and not hasattr(body, "__next__"):
            body = json.dumps(body)
        self.connection.request(method, path, body, {**JSON, **{k.replace("_", "-"): v for k, v in headers.items()}})
        answer = self.connection.getresponse()
        return answer.status, json.loads(answer.read() or "null"), answer

    def close(self):
        self.connection.close()


def raw(tool, data, half=False):
    """Sends bytes and returns all that comes until the server closes."""
    with connect(tool) as peer:
        peer.sendall(data)
        if half:
            peer.shutdown(socket.SHUT_WR)
        answer = b""
        while part := peer.recv(65536):
            answer += part
        return answer


def request(body, *headers, method="POST", path="/hook", version="HTTP/1.1"):
    lines = [f"{method} {path} {version}", "Host: x", *headers]
    if body is not None:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + (body or b"")


def test_objects_arrays_and_ndjson(tools):
    tool = tools.start("ingest", LOCAL)
    client = Client(tool)
    assert client.post({"n": 0})[:2] == (202, {"accepted": 1})
    assert client.post([{"n": 1}, {"n": 2, "deep": [1, {"x": None}]}])[:2] == (202, {"accepted": 2})
    assert client.post(b'{"n":3}\n{"n":4}\n', Content_Type="application/x-ndjson")[:2] == (202, {"accepted": 2})
    assert client.post([])[:2] == (202, {"accepted": 0})
    assert client.post({"n": 5, "big": 9007199254740993}, Content_Type="application/cloudevents+json; charset=utf-8")[0] == 202
    assert numbers(tool.wait_events(6)) == list(range(6))
    assert tool.events[5]["big"] == 9007199254740993
    assert tool.terminate() == 0


def test_the_stream_is_named_after_the_path_and_events_may_name_another(tools):
    tool = tools.start("ingest", LOCAL)
    client = Client(tool)
    client.post([{"n": 0}, {"n": 1, "@stream": "other"}])
    events = tool.wait_events(2)
    assert sorted(numbers(events)) == [0, 1]
    assert [e for e in events if e["n"] == 1][0]["@stream"] == "other"


def test_a_request_is_taken_whole_or_not_at_all(tools):
    tool = tools.start("ingest", LOCAL)
    client = Client(tool)
    for body, says in ((b'[{"n":1},{"n":2},{"n":}]', "record 3: byte 6"), (b'{"n":1}\n{"n":2', "record 2"), (b"hello", "record 1"),
                       (b'[{"n":1},', "ends inside"), (b"", "empty"), (b"[1,2]", "record 1"), (b'{"n":1} x', "record 2"), (b'{"n":"\xff"}', "record 1")):
        status, answer, _ = client.post(body)
        assert status == 400 and says in answer["error"], (body, answer)
    assert client.post({"n": 7})[0] == 202
    assert numbers(tool.wait_events(1)) == [7]
    assert tool.terminate() == 0


def test_what_is_wrong_is_told_by_the_status(tools):
    tool = tools.start("ingest", LOCAL, "--token", "geheim", "--body-limit", "1000")
    client = Client(tool)
    right = {"Authorization": "Bearer geheim"}
    assert client.post({"n": 0})[0] == 401
    client.close()
    for wrong in ("Bearer geheix", "Bearer geheimgeheim", "Bearer gehei", "Bearer ", "Basic geheim", "geheim", ""):
        status, answer, full = client.post({"n": 0}, Authorization=wrong)
        assert status == 401 and full.getheader("WWW-Authenticate") == "Bearer", wrong
        client.close()
    assert client.post({"n": 0}, path="/other", **right)[0] == 404
    client.close()
    for method in ("GET", "PUT", "DELETE"):
        status, _, full = client.post("", method=method, **right)
        assert status == 405 and full.getheader("Allow") == "POST"
        client.close()
    for headers in ({"Content_Type": "text/html"}, {"Content_Type": "application/x-www-form-urlencoded"}, {"Content_Encoding": "gzip"}):
        assert client.post({"n": 0}, **right, **headers)[0] == 415
        client.close()
    status, answer, _ = client.post({"n": "x" * 1000}, **right)
    assert status == 413 and "1000 bytes" in answer["error"]
    client.close()
    assert client.post({"n": 1}, path="/hook?from=me", **right)[0] == 202
    assert numbers(tool.wait_events(1)) == [1]
    assert "geheim" not in tool.err
    assert tool.terminate() == 0


def test_what_is_allowed_does_not_depend_on_how_it_comes_in(tools):
    tool = tools.start("ingest", LOCAL)
    begin = b"POST /hook HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
    chunked = begin + b"Transfer-Encoding: chunked\r\n\r\n"
    cases = [(b"\r\n" * 40 + begin + b"Content-Length: 7\r\n\r\n{\"n\":1}", 202),
             (chunked + b"7;" + b"x" * 254 + b"\r\n{\"n\":2}\r\n0\r\n\r\n", 202), (chunked + b"7;" + b"x" * 255 + b"\r\n{\"n\":3}\r\n0\r\n\r\n", 400),
             (chunked + b"7\r\n{\"n\":4}\r\n0\r\nT: " + b"x" * 4091 + b"\r\n\r\n", 202), (chunked + b"7\r\n{\"n\":5}\r\n0\r\nT: " + b"x" * 4092 + b"\r\n\r\n", 431)]
    for data, status in cases:
        for pieces in (len(data), 1, 7):
            with connect(tool) as peer:
                peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                with contextlib.suppress(OSError):          # it may be refused before all of it is there
                    for i in range(0, len(data), pieces):
                        peer.sendall(data[i:i + pieces])
                assert b" %d " % status in peer.recv(100), (data[-300:], pieces)
    assert sorted(numbers(tool.wait_events(9))) == [1, 1, 1, 2, 2, 2, 4, 4, 4]
    assert tool.terminate() == 0


def test_chunked_bodies(tools):
    tool = tools.start("ingest", LOCAL, "--body-limit", "100000")
    client = Client(tool)
    assert client.post(iter([b'[{"n":', b"0}", b',{"n":1}', b"]"]))[:2] == (202, {"accepted": 2})
    assert client.post(iter([b'{"n":"' + b"x" * 60000, b"x" * 60000 + b'"}']))[0] == 413
    client.close()
    text = b"POST /hook HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
    assert b" 202 " in raw(tool, text + b"7;ext=1\r\n{\"n\":2}\r\n0\r\nTrailer: x\r\n\r\n")
    for bad in (b"x\r\n", b"7\r\n{\"n\":2}more\r\n", b"-1\r\n", b"fffffffffffffffff\r\n", b"7" + b" " * 300):
        assert b" 400 " in raw(tool, text + bad), bad
    assert numbers(tool.wait_events(3)) == [0, 1, 2]


def test_requests_one_behind_the_other_in_one_go(tools):
    tool = tools.start("ingest", LOCAL)
    data = b"".join(request(b'{"n":%d}' % i) for i in range(99)) + request(b'{"n":99}', "Connection: close")
    answer = raw(tool, data)
    assert answer.count(b"HTTP/1.1 202 ") == 100
    assert numbers(tool.wait_events(100)) == list(range(100))
    assert tool.terminate() == 0


def test_a_request_in_the_smallest_pieces(tools):
    tool = tools.start("ingest", LOCAL)
    with connect(tool) as peer:
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in b"\r\n" + request(b'{"n":0}'):
            peer.sendall(bytes([byte]))
        assert b" 202 " in peer.recv(65536)
    assert numbers(tool.wait_events(1)) == [0]


def test_older_clients_and_those_that_ask_first(tools):
    tool = tools.start("ingest", LOCAL)
    assert b" 202 " in raw(tool, b"POST /hook HTTP/1.0\r\nContent-Length: 7\r\n\r\n{\"n\":0}")          # closed by itself
    with connect(tool) as peer:
        peer.sendall(b"POST /hook HTTP/1.1\r\nHost: x\r\nContent-Length: 7\r\nExpect: 100-continue\r\n\r\n")
        assert peer.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        peer.sendall(b'{"n":1}')
        assert b" 202 " in peer.recv(65536)
    host, port = listen_support.address(tool)
    done = subprocess.run(["curl", "-s", "--data", '[{"n":2}]', "-H", "Content-Type: application/json", f"http://{host}:{port}/hook"],
                          capture_output=True, timeout=60 * support.PATIENCE)
    assert json.loads(done.stdout) == {"accepted": 1}
    assert numbers(tool.wait_events(3)) == [0, 1, 2]


@pytest.mark.parametrize("data, status", [
    (b"nonsense\r\n\r\n", 400), (b"POST /hook\r\n\r\n", 400), (b"POST /hook HTTP/1.1\r\n\r\n", 400), (b"\x16\x03\x01\x02\x00\r\n\r\n", 400),
    (b"POST /hook HTTP/2.0\r\nHost: x\r\n\r\n", 505), (b"POST hook HTTP/1.1\r\nHost: x\r\n\r\n", 400), (b"PO ST /hook HTTP/1.1\r\nHost: x\r\n\r\n", 400),
    (b"POST /hook HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 400),
    (b"POST /hook HTTP/1.1\r\nHost: x\r\nContent-Length: +1\r\n\r\n", 400), (b"POST /hook HTTP/1.1\r\nHost: x\r\nContent-Length: 1,1\r\n\r\n", 400),
    (b"POST /hook HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999\r\n\r\n", 400),
    (b"POST /hook HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
    (b"POST /hook HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", 501),
    (b"POST /hook HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n", 400), (b"POST /hook HTTP/1.1\r\nHost : x\r\n\r\n", 400),
    (b"POST /hook HTTP/1.1\r\nHost: x\r\nA: b\r\n c\r\n\r\n", 400), (b"POST /hook HTTP/1.1\r\nHost: x\r\nA: b\nC: d\r\n\r\n", 400),
    (b"POST /hook HTTP/1.1\r\nHost: x\r\nA: \x00\r\n\r\n", 400), (b"POST /hook HTTP/1.1\r\nHost: x\r\nExpect: cookies\r\n\r\n", 417),
    (b"POST /hook HTTP/1.1\r\nHost: x\r\n" + b"A: b\r\n" * 200 + b"\r\n", 431), (b"POST /hook HTTP/1.1\r\nHost: x\r\nA: " + b"x" * 20000, 431)])
def test_what_can_be_read_in_two_ways_is_refused_and_nothing_behind_it_is_taken(tools, data, status):
    tool = tools.start("ingest", LOCAL)
    answer = raw(tool, data + request(b'{"n":666}'))
    assert answer.startswith(b"HTTP/1.1 %d " % status) and answer.count(b"\r\nDate: ") == 1
    client = Client(tool)
    assert client.post({"n": 0})[0] == 202
    assert numbers(tool.wait_events(1)) == [0]
    assert tool.terminate() == 0


def test_a_slow_request_is_ended(tools):
    tool = tools.start("ingest", LOCAL, "--timeout", "200ms", "--idle", "300ms")
    assert b" 408 " in raw(tool, b"POST /hook HTTP/1.1\r\nHost: x\r\n")
    assert b" 408 " in raw(tool, request(b'{"n":0}')[:-1])
    assert raw(tool, b"") == b""                         # nothing came: nothing is said
    assert tool.terminate() == 0
    assert tool.events == []


def test_with_state_the_answer_means_that_it_survives(tools, directory):
    """Killed over and over while several clients post and repeat what was not answered: all that was answered is there."""
    port = support.free_port()
    url = f"http-listen://127.0.0.1:{port}/hook"
    answered, n = [], 0
    for _ in range(4):
        tool = tools.start("ingest", url, "--state", "state", "--to", f"@ipc://{directory}/l")
        client = Client(tool)
        for _ in range(5):
            status, body, _ = client.post([{"n": n}, {"n": n + 1}])
            assert (status, body) == (202, {"accepted": 2})
            answered += [n, n + 1]
            n += 2
        tool.kill()
    tool = tools.start("ingest", url, "--state", "state", "--to", f"@ipc://{directory}/l")
    receiver = tools.start("broadcast", "--from", f"ipc://{directory}/l", "-")
    assert numbers(receiver.wait_events(n)) == answered
    assert tool.terminate() == 0
    assert receiver.terminate() == 0
    assert numbers(receiver.events) == answered


def test_requests_that_find_no_room_are_told_to_come_again(tools):
    with Clogged() as out:
        tool = tools.start("ingest", LOCAL, "--patience", "50ms", "--batch-size", "10", stdout=out.writer)
        out.started()
        clients = [Client(tool) for _ in range(8)]

        def post(client, first):
            """Only the one that was begun when the room ended waits for its answer until there is room again."""
            client.connection.sock.settimeout(1 * support.PATIENCE) if client.connection.sock else None
            try:
                return client.post([{"n": i, "pad": "x" * 500} for i in range(first, first + 1000)])
            except TimeoutError:
                client.connection.sock.settimeout(60 * support.PATIENCE)
                return None
        taken, waiting, refused = [], None, None
        for first in range(0, 200_000, 1000):
            client = next(client for client in clients if client is not waiting)
            answer = post(client, first)
            if answer is None:
                assert waiting is None
                waiting = client
                taken += range(first, first + 1000)
            elif answer[0] == 429:
                refused = answer
                break
            else:
                taken += range(first, first + 1000)
        assert refused[2].getheader("Retry-After") == "1" and "try again" in refused[1]["error"]
        out.read()
        events = out.wait_events(len(taken))
        assert numbers(events) == taken
        support.wait_for(lambda: clients[-1].post([{"n": -1}])[0] == 202, "room")
        assert tool.terminate() == 0, tool.err


def test_other_formats(tools):
    tool = tools.start("ingest", "http-listen://127.0.0.1:0", "--format", "csv")
    client = Client(tool)
    assert client.post(b"n,b\n1,x\n2,y\n", path="/", Content_Type="text/csv")[:2] == (202, {"accepted": 2})
    assert client.post(b"n\n3\n", path="/", Content_Type="text/csv")[:2] == (202, {"accepted": 1})
    assert tool.wait_events(3) == [{"n": 1, "b": "x"}, {"n": 2, "b": "y"}, {"n": 3}]


def test_a_sample_ends_after_its_events(tools):
    tool = tools.start("ingest", LOCAL, "--sample", "2")
    client = Client(tool)
    client.post({"n": 0})
    client.post({"n": 1})
    assert tool.wait() == 0
    assert numbers(tool.events) == [0, 1]


def test_kept_connections_keep_no_room_for_large_bodies(tools):
    tool = tools.start("ingest", LOCAL)
    clients = [Client(tool) for _ in range(30)]
    before = listen_support.peak(tool)
    for n, client in enumerate(clients):
        assert client.post({"n": n, "text": "x" * 900_000})[0] == 202
    if "asan" not in str(support.BIN):                      # whose own memory is not ours
        assert listen_support.peak(tool) - before < 16 << 20
    assert numbers(tool.wait_events(30)) == list(range(30))
    for client in clients:
        client.close()
    assert tool.terminate() == 0


def test_unfinished_bodies_of_many_connections_stay_inside_the_memory(tools):
    """60 requests of 900 kB are under way at the same time. Those that find no room are told so and come again; each event is there once."""
    count, limit = 60, 8 << 20
    tool = tools.start("ingest", LOCAL, "--memory", "8MiB")
    peers = [connect(tool) for _ in range(count)]
    before = listen_support.peak(tool)
    go_on = threading.Barrier(count + 1)
    refusals, problems = [], []

    def send(n, peer):
        data = request(b'{"n":%d,"text":"%s"}' % (n, b"x" * 900_000), "Connection: close")
        half = len(data) // 2
        try:
            peer.sendall(data[:half])                       # to the kernel, when ingest does not read it
            go_on.wait(60 * support.PATIENCE)
            while True:
                answer = finish(peer, data[half:])
                if b" 202 " in answer.splitlines()[0]:
                    return
                assert b" 503 " in answer.splitlines()[0] and b"\r\nRetry-After: 1\r\n" in answer and b"--memory" in answer, answer
                refusals.append(n)
                peer = connect(tool)
                peer.sendall(data[:half])
        except Exception as error:                          # pylint: disable=broad-except
            problems.append((n, error))

    def finish(peer, rest):
        with peer:
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                peer.sendall(rest)
            answer = b""
            while part := peer.recv(65536):
                answer += part
        return answer
    threads = [threading.Thread(target=send, args=(n, peer), daemon=True) for n, peer in enumerate(peers)]
    for thread in threads:
        thread.start()
    go_on.wait(60 * support.PATIENCE)
    for thread in threads:
        thread.join(120 * support.PATIENCE)
    assert not problems
    events = tool.wait_events(count)
    assert sorted(numbers(events)) == list(range(count))
    if "asan" not in str(support.BIN):                      # whose own memory is not ours
        assert listen_support.peak(tool) - before < 2 * limit, f"{listen_support.peak(tool) - before} bytes more; {len(refusals)} refusals"
    assert tool.terminate() == 0


def test_a_request_that_finds_no_room_behind_unfinished_ones_is_told_to_come_again(tools):
    """Three bodies of which only a half comes take all the room; one of them gives way when others have waited for it for long enough."""
    tool = tools.start("ingest", LOCAL, "--memory", "8MiB", "--patience", "50ms")
    stuck = [connect(tool) for _ in range(3)]
    for n, peer in enumerate(stuck):
        peer.sendall(request(b'{"n":%d,"text":"%s"}' % (n, b"x" * 900_000))[:-1])
        support.wait_for(lambda: listen_support.unread(tool) == 0, "all of it to be read")
    status, body, answer = Client(tool).post({"n": 3})
    assert status == 503 and answer.getheader("Retry-After") == "1" and "--memory" in body["error"]
    support.wait_for(lambda: Client(tool).post({"n": 4})[0] == 202, "room", 60)
    for peer in stuck:
        with contextlib.suppress(OSError):
            peer.sendall(b"}")
    answers = [peer.recv(65536) for peer in stuck]
    assert sorted(answer.split()[1] for answer in answers) == [b"202", b"202", b"408"]
    assert sorted(numbers(tool.wait_events(3))) == sorted([4] + [n for n, answer in enumerate(answers) if b" 202 " in answer])
    assert tool.terminate() == 0


def test_whole_requests_that_wait_for_room_stay_inside_the_memory_as_well(tools):
    """The output takes nothing: 60 requests of 900 kB wait for it, or for room to do so, until their patience is over."""
    count, limit = 60, 8 << 20
    with Clogged() as out:
        tool = tools.start("ingest", LOCAL, "--memory", "8MiB", "--patience", "3s", stdout=out.writer)
        out.started()
        before = listen_support.peak(tool)
        answers = []

        def post(n):
            with contextlib.suppress(OSError):
                answers.append((n, Client(tool).post({"n": n, "text": "x" * 900_000})[0]))
        threads = [threading.Thread(target=post, args=(n,), daemon=True) for n in range(count)]
        for thread in threads:
            thread.start()
        support.wait_for(lambda: len([a for _, a in answers if a != 202]) > 20, lambda: f"refusals; there are {answers}", 120)
        assert {a for _, a in answers} <= {202, 429, 503}
        if "asan" not in str(support.BIN):
            assert listen_support.peak(tool) - before < 3 * limit, f"{listen_support.peak(tool) - before} bytes more"
        out.read()
        for thread in threads:
            thread.join(120 * support.PATIENCE)
        taken = sorted(n for n, status in answers if status == 202)
        events = numbers(out.wait_events(len(taken)))
        assert tool.terminate() == 0
    assert len(set(events)) == len(events) and set(taken) <= set(events)


def test_a_large_body_is_gone_through_in_turns_with_others(tools):
    """A small request that comes right behind a large one is answered before it. What is wrong at a large one's end is found all the same."""
    count = 1_500_000
    tool = tools.start("ingest", LOCAL, "--body-limit", "64MiB", "--memory", "256MiB", stdout=subprocess.DEVNULL)
    body = b"[" + b'{"n":1,"name":"abcdef"},' * (count - 1) + b'{"n":2}]'
    with connect(tool) as large, connect(tool) as small:
        large.sendall(request(body)[:-1])
        support.wait_for(lambda: listen_support.unread(tool) == 0, "all but the last byte to be read")
        large.sendall(b"]")
        small.sendall(request(b'{"n":3}'))
        first, _, _ = select.select([large, small], [], [], 60 * support.PATIENCE)
        assert first == [small] and b" 202 " in small.recv(65536)
        assert b'{"accepted":%d}' % count in large.recv(65536)
        large.sendall(request(body[:-2] + b"]"))
        answer = large.recv(65536)
        assert b" 400 " in answer and b"record %d: " % count in answer
        large.sendall(request(b'[{"a":"' + b"x" * 5_000_000 + b'"},{"b":"' + b"y" * 900_000 + b'"}]'))    # longer than a piece, and than --max-record
        assert b"longer than 1048576 bytes (--max-record)" in large.recv(65536)
    assert tool.terminate() == 0


def test_many_clients_at_once(tools):
    tool = tools.start("ingest", LOCAL)
    clients = [Client(tool) for _ in range(30)]
    for n in range(5):
        for i, client in enumerate(clients):
            client.connection.request("POST", "/hook", json.dumps({"n": i * 5 + n}), JSON)
        for client in clients:
            answer = client.connection.getresponse()
            assert answer.status == 202
            answer.read()
    assert sorted(numbers(tool.wait_events(150))) == list(range(150))
    tool.signal(signal.SIGTERM)
    assert tool.wait() == 0


@pytest.mark.parametrize("address, options, words", [
    ("http-listen://127.0.0.1:0/a b", (), "a blank is %20"), ("http-listen://127.0.0.1:0/bücher", (), "%C3%BC"),
    (LOCAL, ("--token", "secret\n"), "--token: takes one line"), (LOCAL, ("--token", ""), "--token is empty")])
def test_what_no_request_could_ever_bring_is_refused_at_once(tools, address, options, words):
    done = tools.run("ingest", address, *options, "--check")
    assert done.status == 64 and words in done.err and "secret" not in done.err, done.err


def test_kept_connections_make_room_for_new_ones(tools):
    tool = tools.start("ingest", LOCAL, "--connections", "3", "--idle", "0")
    kept = [Client(tool) for _ in range(3)]
    for n, client in enumerate(kept):
        assert client.post({"n": n})[0] == 202
    busy = kept[2].connection.sock
    busy.sendall(b"POST /hook HTTP/1.1\r\nHost: x\r\nContent-Length: 7\r\n\r\n{")      # a request under way is not ended for anybody
    later = [Client(tool) for _ in range(2)]
    for n, client in enumerate(later, 3):
        assert client.post({"n": n})[0] == 202
    busy.sendall(b'"n":5}')
    assert busy.recv(65536).startswith(b"HTTP/1.1 202 ")
    for client in kept[:2]:
        assert client.connection.sock.recv(1) == b""
    assert sorted(numbers(tool.wait_events(6))) == list(range(6))
    assert tool.terminate() == 0
