"""ingest forward: a client that speaks Fluentd's Forward protocol in all its modes, asks for acknowledgements, knows the key or does not, or
talks nonsense."""

import gzip
import hashlib
import os
import struct

import msgpack
import pytest

import listen_support
import support
from listen_support import Clogged, connect

LOCAL = "forward://127.0.0.1:0"


def event_time(seconds, ns=0):
    return msgpack.ExtType(0, struct.pack(">II", seconds, ns))


def entries(first, count):
    return [[event_time(1_700_000_000 + n, 250_000_000), {"n": n}] for n in range(first, first + count)]


def packed(items):
    return b"".join(msgpack.packb(item) for item in items)


def numbers(events):
    return [event["n"] for event in events]


class Client:
    def __init__(self, tool):
        self.peer = connect(tool)
        self.unpacker = msgpack.Unpacker(raw=False)

    def send(self, *message):
        self.peer.sendall(msgpack.packb(list(message)))

    def receive(self):
        """The next message, or None at the end."""
        while True:
            for message in self.unpacker:
                return message
            part = self.peer.recv(65536)
            if not part:
                return None
            self.unpacker.feed(part)

    def login(self, key, hostname="client"):
        helo, options = self.receive()
        assert helo == "HELO"
        nonce, salt = options["nonce"], os.urandom(16)
        proof = hashlib.sha512(salt + hostname.encode() + nonce + key.encode()).hexdigest()
        self.send("PING", hostname, salt, proof, "", "")
        pong = self.receive()
        assert pong[0] == "PONG"
        if pong[1]:
            assert pong[4] == hashlib.sha512(salt + pong[3].encode() + nonce + key.encode()).hexdigest()
        return pong[1]


def test_all_modes(tools):
    tool = tools.start("ingest", LOCAL)
    client = Client(tool)
    client.send("a.b", event_time(1_700_000_000, 250_000_000), {"n": 0})
    client.send("a.b", 1_700_000_001, {"n": 1}, {"chunk": "one"})
    assert client.receive() == {"ack": "one"}
    client.send("a.b", entries(2, 2))
    client.send("a.b", entries(4, 2), {"chunk": "two", "size": 2})
    client.send("a.b", packed(entries(6, 3)), {"chunk": "three", "size": 3})
    client.send("a.b", gzip.compress(packed(entries(9, 500))) + gzip.compress(packed(entries(509, 500))), {"compressed": "gzip", "chunk": "four"})
    client.peer.sendall(msgpack.packb(["a.b", packed(entries(1009, 1)).decode("latin-1").encode("latin-1")], use_bin_type=False))       # old senders
    assert [client.receive() for _ in range(3)] == [{"ack": "two"}, {"ack": "three"}, {"ack": "four"}]
    events = tool.wait_events(1010)
    assert numbers(events) == list(range(1010))
    assert events[0] == {"@timestamp": "2023-11-14T22:13:20.25Z", "n": 0, "tag": "a.b"}
    assert events[1]["@timestamp"] == "2023-11-14T22:13:21Z"
    assert tool.terminate() == 0


def test_messages_in_the_smallest_pieces(tools):
    tool = tools.start("ingest", LOCAL, "--tag-field", "")
    client = Client(tool)
    data = msgpack.packb(["t", entries(0, 3), {"chunk": "x"}]) + msgpack.packb(["t", packed(entries(3, 3)), {"chunk": "y"}])
    for i in range(len(data)):
        client.peer.sendall(data[i:i + 1])
    assert [client.receive(), client.receive()] == [{"ack": "x"}, {"ack": "y"}]
    events = tool.wait_events(6)
    assert numbers(events) == list(range(6)) and "tag" not in events[0]


def test_metadata_beside_the_time_and_a_field_that_is_called_tag(tools):
    tool = tools.start("ingest", LOCAL)
    client = Client(tool)
    client.send("right", [[[event_time(1_700_000_000), {"meta": 1}], {"n": 0, "tag": "wrong", "deep": {"a": [1, None, b"\x00"]}}]])
    event = tool.wait_events(1)[0]
    assert (event["n"], event["tag"], event["@timestamp"]) == (0, "right", "2023-11-14T22:13:20Z")
    assert list(event).count("tag") == 1


def test_entries_that_are_none_are_told_and_their_chunk_is_acknowledged(tools, directory):
    tool = tools.start("ingest", LOCAL, "--dead-letter", "dead", "--state", "state", "--to", "-")
    client = Client(tool)
    client.send("t", [["no time", {"n": 0}], [1, "no record"], [event_time(1), {1: 2}], 7, *entries(1, 1)], {"chunk": "x"})
    assert client.receive() == {"ack": "x"}
    client.send("t", packed(entries(2, 1)) + b"\x92\x01", {"chunk": "y"})
    assert client.receive() == {"ack": "y"}
    client.send("t", [], {"chunk": "z"})
    assert client.receive() == {"ack": "z"}
    client.send("t", [[1, 2]], {"chunk": "bad alone"})
    assert client.receive() == {"ack": "bad alone"}
    assert numbers(tool.wait_events(2)) == [1, 2]
    assert tool.terminate() == 0
    assert len(support.lines_of(directory / "dead")) == 6


@pytest.mark.parametrize("data", (b"GET / HTTP/1.1\r\n\r\n", b"\xc1", msgpack.packb(["t"]), msgpack.packb([1, 2, 3]), msgpack.packb(["t", 1]),
                                  msgpack.packb(["t", [], 7]), msgpack.packb(["t", b"x", {"compressed": "gzip"}]),
                                  msgpack.packb(["t", gzip.compress(b"\x00" * 3_000_000), {"compressed": "gzip"}]),
                                  msgpack.packb(["t", b"", {"compressed": "zstd"}]), msgpack.packb(["t", [], {"chunk": "x" * 1000}]),
                                  b"\x92\xa1t\xc6\x7f\xff\xff\xff" + b"x" * 1_200_000), ids=lambda data: f"{len(data)} bytes")
def test_nonsense_ends_its_own_connection_only(tools, data):
    tool = tools.start("ingest", LOCAL, "--chunk-limit", "1MiB")
    good, other = Client(tool), Client(tool)
    try:
        other.peer.sendall(data)
        assert other.receive() is None
    except ConnectionError:
        pass                # it was closed while we were still sending
    good.send("t", entries(0, 1), {"chunk": "x"})
    assert good.receive() == {"ack": "x"}
    assert numbers(tool.wait_events(1)) == [0]
    assert "the connection is closed" in tool.err
    assert tool.terminate() == 0


def test_the_shared_key(tools):
    tool = tools.start("ingest", LOCAL, "--shared-key", "geheim")
    good, wrong, without = Client(tool), Client(tool), Client(tool)
    assert good.login("geheim")
    assert not wrong.login("geheix")
    assert wrong.receive() is None
    assert without.receive()[0] == "HELO"
    without.send("t", entries(0, 1), {"chunk": "x"})
    assert without.receive() is None
    good.send("t", entries(1, 1), {"chunk": "x"})
    assert good.receive() == {"ack": "x"}
    assert numbers(tool.wait_events(1)) == [1]
    assert tool.terminate() == 0
    assert numbers(tool.events) == [1]
    assert "geheim" not in tool.err and "another shared key" in tool.err


def test_an_acknowledged_chunk_survives_kill(tools, directory):
    port = support.free_port()
    url, to = f"forward://127.0.0.1:{port}", f"@ipc://{directory}/l"
    for round in range(4):
        tool = tools.start("ingest", url, "--state", "state", "--to", to)
        client = Client(tool)
        for i in range(5):
            client.send("t", packed(entries(round * 50 + i * 10, 10)), {"chunk": str(i)})
            assert client.receive() == {"ack": str(i)}
        tool.kill()
    tool = tools.start("ingest", url, "--state", "state", "--to", to)
    receiver = tools.start("broadcast", "--from", f"ipc://{directory}/l", "-")
    assert numbers(receiver.wait_events(200)) == list(range(200))
    assert tool.terminate() == 0
    assert receiver.terminate() == 0
    assert numbers(receiver.events) == list(range(200))


def test_what_nobody_takes_is_not_acknowledged_and_nothing_is_lost(tools):
    with Clogged() as out:
        tool = tools.start("ingest", LOCAL, "--batch-size", "100", stdout=out.writer)
        out.started()
        client = Client(tool)
        client.peer.settimeout(2 * support.PATIENCE)
        sent = 0
        try:
            while sent < 1_000_000:
                client.send("t", gzip.compress(packed(entries(sent, 5000)), 1), {"compressed": "gzip", "chunk": str(sent)})
                sent += 5000
                assert client.receive() == {"ack": str(sent - 5000)}
        except TimeoutError:
            pass
        assert sent < 1_000_000
        client.peer.settimeout(60 * support.PATIENCE)
        out.read()
        assert client.receive() == {"ack": str(sent - 5000)}
        assert numbers(out.wait_events(sent)) == list(range(sent))
        assert tool.terminate() == 0, tool.err


def test_decompressed_chunks_of_many_connections_stay_inside_the_memory(tools):
    """20 chunks of 12 MB each, which are some kB when compressed, are under way when the output is read at last; all come, each once."""
    count, each, limit = 20, 120, 8 << 20
    with Clogged() as out:
        tool = tools.start("ingest", LOCAL, "--memory", "8MiB", stdout=out.writer)
        out.started()
        clients = [Client(tool) for _ in range(count)]
        before = listen_support.peak(tool)
        for n, client in enumerate(clients):
            chunk = packed([event_time(1_700_000_000), {"n": n * each + i, "pad": "x" * 100_000}] for i in range(each))
            client.send("t", gzip.compress(chunk), {"compressed": "gzip", "chunk": str(n)})
        out.read()
        assert [client.receive() for client in clients] == [{"ack": str(n)} for n in range(count)]
        assert sorted(numbers(out.wait_events(count * each))) == list(range(count * each))
        if "asan" not in str(support.BIN):                  # whose own memory is not ours
            assert listen_support.peak(tool) - before < 2 * limit, f"{listen_support.peak(tool) - before} bytes more"
        assert tool.terminate() == 0


def test_chunks_that_become_too_large_are_refused_in_little_memory_and_nothing_of_them_is_taken(tools):
    tool = tools.start("ingest", LOCAL, "--memory", "8MiB")
    clients = [Client(tool) for _ in range(20)]
    before = listen_support.peak(tool)
    bomb = gzip.compress(packed(entries(0, 1000)) + b"\x00" * 100_000_000)
    for client in clients:
        client.send("t", bomb, {"compressed": "gzip", "chunk": "x"})
    assert [client.receive() for client in clients] == [None] * 20
    if "asan" not in str(support.BIN):
        assert listen_support.peak(tool) - before < 8 << 20, f"{listen_support.peak(tool) - before} bytes more"
    assert "more than 16777216 bytes when it is decompressed (--chunk-limit)" in tool.err
    good = Client(tool)
    good.send("t", entries(1, 1), {"chunk": "x"})
    assert good.receive() == {"ack": "x"}
    assert tool.terminate() == 0
    assert numbers(tool.events) == [1]


def test_large_messages_and_small_ones_take_turns(tools):
    """One with 200,000 entries is gone through for a long time; another connection's is taken meanwhile. One after the other has its chunk decompressed."""
    tool = tools.start("ingest", LOCAL)
    large, small, gone = Client(tool), Client(tool), Client(tool)
    kinds = [lambda first: (entries(first, 200_000),), lambda first: (packed(entries(first, 200_000)),),
             lambda first: (gzip.compress(packed(entries(first, 200_000))), {"compressed": "gzip"})]
    for i, kind in enumerate(kinds):
        data, options = (*kind(i * 200_000), {})[:2]
        large.send("t", data, {**options, "chunk": "large"})
        small.send("s", gzip.compress(packed(entries(1_000_000 + i, 1))), {"compressed": "gzip", "chunk": "small"})
        gone.send("g", gzip.compress(packed(entries(2_000_000 + i, 1))), {"compressed": "gzip"})
        gone.peer.close()                                   # which is as good as ever: it was sent
        gone = Client(tool)
        assert large.receive() == {"ack": "large"} and small.receive() == {"ack": "small"}
    events = tool.wait_events(600_006, 60)
    assert [n for n in numbers(events) if n < 1_000_000] == list(range(600_000))
    assert sorted(n for n in numbers(events) if n >= 1_000_000) == [1_000_000, 1_000_001, 1_000_002, 2_000_000, 2_000_001, 2_000_002]
    assert tool.terminate() == 0


def test_options_that_are_of_no_use_are_refused(tools):
    for options in (["--format", "csv"], ["--shared-key", ""]):
        assert tools.run("ingest", LOCAL, *options).status == 64
