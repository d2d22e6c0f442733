"""ingest as a listener: tcp, unix and udp; many who send, who send half, too much, garbage, nothing; and outputs that take nothing."""

import signal
import socket
import stat
import struct
import threading
import time

import pytest

import listen_support
import support
from listen_support import Clogged, connect

LOCAL = "tcp://127.0.0.1:0"


def lines(first, count):
    return support.ndjson([{"n": i} for i in range(first, first + count)])


def numbers(events):
    return [event["n"] for event in events]


def test_tcp_takes_lines_of_many_connections_at_once(tools):
    tool = tools.start("ingest", LOCAL)
    peers = [connect(tool) for _ in range(20)]
    for i, peer in enumerate(peers):
        peer.sendall(lines(i * 100, 50) + b'{"n":')       # half a line stays where it is
    for i, peer in enumerate(peers):
        peer.sendall(f"{i * 100 + 50}}}\n".encode() + lines(i * 100 + 51, 49)[:-1])       # the last line has no end
        peer.close()
    events = tool.wait_events(2000)
    assert sorted(numbers(events)) == list(range(2000))
    for i in range(20):
        assert [n for n in numbers(events) if n // 100 == i] == list(range(i * 100, i * 100 + 100))
    assert tool.terminate() == 0


def test_tcp_in_the_smallest_pieces_and_in_big_ones(tools):
    tool = tools.start("ingest", LOCAL)
    text = support.ndjson([{"n": 0, "text": "grüß \U0001F600"}, {"n": 1, "text": "x" * 300000}])
    with connect(tool) as peer:
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for i in range(40):
            peer.sendall(text[i:i + 1])
        peer.sendall(text[40:])
    assert tool.wait_events(2) == [{"n": 0, "text": "grüß \U0001F600"}, {"n": 1, "text": "x" * 300000}]
    assert tool.terminate() == 0


def test_each_connection_has_its_own_header_row(tools):
    tool = tools.start("ingest", LOCAL, "--format", "csv")
    first, second = connect(tool), connect(tool)
    first.sendall(b"a,b\n1,2\n")
    tool.wait_events(1)
    second.sendall(b"b,c\n3,4\n")
    tool.wait_events(2)
    first.sendall(b"5,6\n")
    assert tool.wait_events(3) == [{"a": 1, "b": 2}, {"b": 3, "c": 4}, {"a": 5, "b": 6}]
    first.close()
    second.close()
    assert tool.terminate() == 0


def test_raw_lines(tools):
    tool = tools.start("ingest", LOCAL + "?connections=5", "--format", "lines")
    with connect(tool) as peer:
        peer.sendall(b"one\r\n\ntwo")
    assert tool.wait_events(2) == [{"message": "one"}, {"message": "two"}]


def test_garbage_and_lines_that_are_too_long_are_told_and_passed_over(tools, directory):
    tool = tools.start("ingest", LOCAL, "--dead-letter", "dead", "--max-record", "1000")
    with connect(tool) as peer:
        peer.sendall(b"\x00\xff\xfe garbage\n" + b"x" * 500000 + b"\n" + lines(7, 1))
    assert tool.wait_events(1) == [{"n": 7}]
    assert tool.terminate() == 0
    letters = support.lines_of(directory / "dead")
    assert [letter["place"].startswith("tcp 127.0.0.1:") for letter in letters] == [True, True]
    assert "1000 bytes" in letters[1]["reason"]


def test_a_connection_that_is_reset_costs_only_its_own_half_line(tools):
    tool = tools.start("ingest", LOCAL)
    peer = connect(tool)
    peer.sendall(lines(0, 3))
    tool.wait_events(3)
    peer.sendall(b'{"n":')
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    peer.close()
    with connect(tool) as other:
        other.sendall(lines(3, 1))
    assert numbers(tool.wait_events(4)) == [0, 1, 2, 3]
    assert tool.terminate() == 0


def test_more_connections_than_allowed_wait_for_their_turn(tools):
    tool = tools.start("ingest", LOCAL, "--connections", "2")
    peers = [connect(tool) for _ in range(4)]
    for i, peer in enumerate(peers):
        peer.sendall(lines(i, 1))
    tool.wait_err("2 connections are open")
    assert sorted(numbers(tool.wait_events(2))) == [0, 1]
    peers[0].close()
    assert sorted(numbers(tool.wait_events(3))) == [0, 1, 2]
    peers[1].close()
    assert sorted(numbers(tool.wait_events(4))) == [0, 1, 2, 3]
    assert tool.terminate() == 0


def test_an_idle_connection_is_closed_when_asked_for(tools):
    tool = tools.start("ingest", LOCAL, "--idle", "1s")
    with connect(tool) as peer:
        peer.sendall(lines(0, 1))
        assert peer.recv(1) == b""
    assert numbers(tool.wait_events(1)) == [0]


def send_until_stuck(peer, most=3_000_000):
    """Sends numbered lines until the peer takes no more; returns how many have begun, and the rest of the last ones."""
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)
    peer.settimeout(2 * support.PATIENCE)
    count = 0
    while count < most:
        rest = lines(count, 1000)
        count += 1000
        try:
            while rest:
                rest = rest[peer.send(rest):]
        except TimeoutError:
            peer.settimeout(60 * support.PATIENCE)
            return count, rest
    raise AssertionError("everything was taken, though nobody reads it")


def test_what_nobody_takes_is_not_read_and_nothing_is_lost(tools):
    with Clogged() as out:
        tool = tools.start("ingest", LOCAL, "--batch-size", "100", stdout=out.writer)
        out.started()
        with connect(tool) as peer, connect(tool) as other:
            other.sendall(lines(-10, 10))
            count, rest = send_until_stuck(peer)
            out.read()
            peer.sendall(rest)
        events = out.wait_events(count + 10)
        assert [n for n in numbers(events) if n >= 0] == list(range(count))
        assert [n for n in numbers(events) if n < 0] == list(range(-10, 0))
        assert tool.terminate() == 0, tool.err


def test_a_port_that_is_taken_is_told(tools):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        done = tools.run("ingest", f"tcp://127.0.0.1:{port}")
        assert done.status == 1 and f"cannot listen on 127.0.0.1:{port}: Address already in use" in done.err


@pytest.mark.parametrize("url, says", [
    ("tcp://127.0.0.1", "names no port"), ("tcp://example.com:1", "no address to listen on"), ("tcp://127.0.0.1:99999", "no port"),
    ("tcp://127.0.0.1:x", "no port"), ("tcp:127.0.0.1:1", "looks like"), ("tcp://127.0.0.1:1/x", "behind the port"), ("udp://[::1:1", "without"),
    ("tcp://me:secret@127.0.0.1:1", "no user"), ("unix:", "path"), ("unix:/x?mode=99", "octal")])
def test_addresses_that_are_none(tools, url, says):
    done = tools.run("ingest", url)
    assert done.status == 64 and says in done.err
    assert "secret@" not in done.err


def test_all_addresses_of_the_machine(tools):
    tool = tools.start("ingest", "tcp://*:0")
    _, port = listen_support.address(tool)
    with socket.create_connection(("127.0.0.1", port)) as peer:
        peer.sendall(lines(0, 1))
    assert numbers(tool.wait_events(1)) == [0]


def test_with_state_what_is_in_the_log_survives_kill(tools, directory):
    port = support.free_port()
    url = f"tcp://127.0.0.1:{port}"
    tool = tools.start("ingest", url, "--state", "state", "--to", "-")
    with connect(tool) as peer:
        peer.sendall(lines(0, 10))
        tool.wait_events(10)
    tool.kill()
    tool = tools.start("ingest", url, "--state", "state", "--to", "-")       # the same port, at once
    with connect(tool) as peer:
        peer.sendall(lines(10, 10))
    events = support.wait_for(lambda: tool.events if tool.events and tool.events[-1]["n"] == 19 else None, "the rest")
    assert numbers(events)[-10:] == list(range(10, 20))
    assert tool.terminate() == 0


# ---- unix ----

def unix_send(path, data):
    with socket.socket(socket.AF_UNIX) as peer:
        peer.settimeout(30 * support.PATIENCE)
        peer.connect(str(path))
        peer.sendall(data)


def test_unix_socket_with_its_mode_is_there_while_it_runs(tools, directory):
    path = directory / "events.sock"
    tool = tools.start("ingest", f"unix:{path}", "--mode", "660")
    support.wait_for(path.exists, "the socket")
    tool.wait_err("listening on unix:")
    assert stat.S_IMODE(path.stat().st_mode) == 0o660
    unix_send(path, lines(0, 5))
    unix_send(path, lines(5, 5))
    assert numbers(tool.wait_events(10)) == list(range(10))
    assert tool.terminate() == 0
    assert not path.exists()


def test_unix_socket_is_private_by_default(tools, directory):
    tool = tools.start("ingest", f"unix:{directory}/s")
    tool.wait_err("listening on unix:")
    assert stat.S_IMODE((directory / "s").stat().st_mode) == 0o600


def test_unix_socket_of_a_dead_process_is_taken_over_and_that_of_a_living_one_is_not(tools, directory):
    path = directory / "events.sock"
    first = tools.start("ingest", f"unix:{path}")
    first.wait_err("listening on unix:")
    second = tools.run("ingest", f"unix:{path}")
    assert second.status == 1 and "another ingest listens on" in second.err
    unix_send(path, lines(0, 1))
    assert numbers(first.wait_events(1)) == [0]          # unharmed
    first.kill()
    assert path.exists()
    third = tools.start("ingest", f"unix:{path}")
    third.wait_err("listening on unix:")
    unix_send(path, lines(1, 1))
    assert numbers(third.wait_events(1)) == [1]


def test_unix_socket_of_another_program_and_files_are_left_alone(tools, directory):
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(directory / "theirs"))
        other.listen()
        done = tools.run("ingest", f"unix:{directory}/theirs")
        assert done.status == 1 and "another program listens" in done.err
    (directory / "file").write_text("precious")
    done = tools.run("ingest", f"unix:{directory}/file")
    assert done.status == 1 and "no socket" in done.err
    assert (directory / "file").read_text() == "precious"


# ---- udp ----

def datagrams(tool, *texts):
    host, port = listen_support.address(tool)
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM) as peer:
        for text in texts:
            peer.sendto(text, (host, port))


def test_udp_takes_one_or_more_records_of_a_datagram(tools):
    tool = tools.start("ingest", "udp://127.0.0.1:0")
    datagrams(tool, b'{"n":0}', b'{"n":1}\n{"n":2}\n', b"", b'{"n":3}\n{"n":')
    assert numbers(tool.wait_events(4)) == [0, 1, 2, 3]
    tool.wait_err(r"udp 127.0.0.1:\d+:2: ")              # half a record does not wait for the next datagram
    datagrams(tool, b'{"n":4}')
    assert numbers(tool.wait_events(5))[-1] == 4
    assert tool.terminate() == 0


def test_udp_of_other_formats_begins_anew_with_each_datagram(tools):
    tool = tools.start("ingest", "udp://[::1]:0", "--format", "csv")
    datagrams(tool, b"a\n1\n", b"b\n2\n3")
    assert tool.wait_events(3) == [{"a": 1}, {"b": 2}, {"b": 3}]
    assert tool.terminate() == 0


def test_udp_that_finds_no_room_is_counted_as_dropped(tools, directory):
    """Everything that was sent is either on the output or counted: nothing is lost in silence."""
    count = 30000
    tool = tools.start("ingest", "udp://127.0.0.1:0", "--buffer", "64KiB", "--state", "state", "--to", "-")
    listen_support.address(tool)
    tool.signal(signal.SIGSTOP)
    datagrams(tool, *[b'{"n":%d,"x":"%s"}' % (i, b"x" * 100) for i in range(count)])
    tool.signal(signal.SIGCONT)
    tool.wait_err("datagrams found no room")
    assert tool.terminate() == 0
    ledger = listen_support.ledger(directory / "state")
    assert ledger["dropped"] > 0
    assert len(tool.events) + ledger["dropped"] == ledger["in"] == count
    assert numbers(tool.events) == sorted(numbers(tool.events))


def test_unfinished_records_of_many_connections_stay_inside_the_memory(tools):
    """60 connections with a record of 900 kB each at the same time: one after the other goes on, and all come."""
    count, size, limit = 60, 900_000, 8 << 20
    with Clogged() as out:
        tool = tools.start("ingest", "tcp://127.0.0.1:0", "--memory", "8MiB", stdout=out.writer)
        out.started()
        peers = [connect(tool) for _ in range(count)]
        before = listen_support.peak(tool)

        def send(n):
            peers[n].sendall(b'{"n":%d,"text":"%s"}\n' % (n, b"x" * size))
        threads = [threading.Thread(target=send, args=(n,), daemon=True) for n in range(count)]
        for thread in threads:
            thread.start()
        out.read()
        events = out.wait_events(count)
        assert sorted(event["n"] for event in events) == list(range(count))
        if "asan" not in str(support.BIN):                  # whose own memory is not ours
            assert listen_support.peak(tool) - before < 2 * limit, f"{listen_support.peak(tool) - before} bytes more than {before}"
        for peer in peers:
            peer.close()
        assert tool.terminate() == 0


def test_what_is_left_behind_large_records_takes_little_memory(tools):
    """Each of 30 connections keeps the few bytes that it has of its next record, not the room that its last one took."""
    tool = tools.start("ingest", LOCAL, "--memory", "8MiB")
    peers = [connect(tool) for _ in range(30)]
    before = listen_support.peak(tool)
    for n, peer in enumerate(peers):
        peer.sendall(b'{"n":%d,"text":"%s"}\n{"n":' % (n, b"x" * 900_000))
    support.wait_for(lambda: listen_support.unread(tool) == 0, "all to be read")
    if "asan" not in str(support.BIN):
        assert listen_support.peak(tool) - before < 16 << 20, f"{listen_support.peak(tool) - before} bytes more than {before}"
    for n, peer in enumerate(peers):
        peer.sendall(b"%d}\n" % (n + 30))
        peer.close()
    assert sorted(numbers(tool.wait_events(60))) == list(range(60))
    assert tool.terminate() == 0


def test_an_unfinished_record_that_nobody_waits_for_may_take_its_time(tools):
    """There is room for two of these; the third goes on beyond it, and is not ended for its silence as nobody else has anything to send."""
    tool = tools.start("ingest", LOCAL, "--memory", "8MiB")
    peers = [connect(tool) for _ in range(3)]
    for n, peer in enumerate(peers):
        peer.sendall(b'{"n":%d,"text":"' % n + b"x" * 900_000)
        time.sleep(0.5)                                     # one after the other, so that none waits for another
        support.wait_for(lambda: listen_support.unread(tool) == 0, "all to be read")
    time.sleep(12)                                          # more than the 10 s that it has when others wait
    for peer in peers:
        peer.sendall(b'"}\n')
    assert sorted(numbers(tool.wait_events(3))) == [0, 1, 2]
    for peer in peers:
        peer.close()
    assert tool.terminate() == 0
    assert "for which others wait" not in tool.err


def crowd(tools):
    """The tool, and as many connections with unfinished records as it has room for, and one more."""
    tool = tools.start("ingest", LOCAL, "--memory", "8MiB")
    peers = [connect(tool) for _ in range(3)]
    for peer in peers:
        peer.sendall(b'{"text":"' + b"x" * 900_000)
    support.wait_for(lambda: listen_support.unread(tool) == 0, "all to be read")
    return tool, peers


def test_an_unfinished_record_that_comes_in_drops_gives_way_when_there_is_no_room(tools):
    """A byte now and then does not keep all others waiting."""
    tool, peers = crowd(tools)
    with connect(tool) as other:
        other.sendall(lines(1, 1))

        def dropped():
            for peer in peers:
                try:
                    peer.send(b"x")
                except OSError:                             # the one that was ended
                    pass
            return len(tool.events)
        support.wait_for(dropped, "the event of the one that waits", 60)
        assert tool.events == [{"n": 1}]
    assert "for which others wait" in tool.err
    for peer in peers:
        peer.close()
    assert tool.terminate() == 0


def test_an_unfinished_record_that_others_begin_to_wait_for_has_its_time(tools):
    """The last bytes that came of the third one went beyond the memory; it has 10 s for more of them from then on, however long ingest runs already."""
    tool = tools.start("ingest", LOCAL, "--memory", "8MiB")
    peers = [connect(tool) for _ in range(3)]
    for n, size in enumerate((900_000, 900_000, 280_000)):
        peers[n].sendall(b'{"n":%d,"text":"' % n + b"x" * size)
        support.wait_for(lambda: listen_support.unread(tool) == 0, "all of it to be read")
    with connect(tool) as other:
        other.sendall(lines(3, 1))
        time.sleep(3)                                       # it is looked each second whether somebody has to give way
        for peer in peers[::-1]:
            peer.sendall(b'"}\n')
        assert sorted(numbers(tool.wait_events(4))) == [0, 1, 2, 3]
    for peer in peers:
        peer.close()
    assert tool.terminate() == 0
    assert "for which others wait" not in tool.err


def test_an_unfinished_record_on_which_nothing_comes_gives_way_when_there_is_no_room(tools):
    tool, peers = crowd(tools)
    with connect(tool) as other:
        other.sendall(lines(1, 1))
        assert tool.wait_events(1, 60) == [{"n": 1}]
    assert "for which others wait" in tool.err
    for peer in peers:
        peer.close()
    assert tool.terminate() == 0
