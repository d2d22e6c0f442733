"""Acknowledged links between processes that are stopped, killed, restarted and cut off while numbered events flow."""

import random
import signal
import time

import pytest

import support
from link_support import PEER, Relay, disturb, exact, let_end, lines, lost_nothing, numbers, peer, quiet, read, report

COUNT = 60000


@pytest.fixture(params=["ipc", "tcp"])
def address(request, directory):
    return f"ipc://{directory}/link" if request.param == "ipc" else f"tcp://127.0.0.1:{support.free_port()}"


@pytest.fixture(params=["sender binds", "receiver binds"])
def ends(request, address):
    """(sender's endpoint, receiver's endpoint)"""
    return ("@" + address, ">" + address) if request.param == "sender binds" else (">" + address, "@" + address)


@pytest.mark.parametrize("first", ["sender", "receiver"])
def test_everything_arrives_once_in_order_whoever_comes_first(tools, directory, ends, first):
    out = directory / "out"
    started = {}
    for end in (first, "receiver" if first == "sender" else "sender"):
        started[end] = peer(tools, "send", ends[0], count=COUNT, batch=7) if end == "sender" else peer(tools, "receive", ends[1], out)
        if end == first:
            time.sleep(0.2)     # so that it tries in vain first
    assert started["sender"].wait() == 0 and started["receiver"].wait() == 0
    exact(out, COUNT)
    assert report(started["sender"])["outstanding_frames"] == 0
    assert report(started["receiver"])["events"] == COUNT


@pytest.mark.parametrize("who", ["sender", "receiver"])
def test_stopped_and_continued(tools, directory, ends, who):
    out = directory / "out"
    both = {"receiver": peer(tools, "receive", ends[1], out), "sender": peer(tools, "send", ends[0], count=COUNT, batch=3)}
    disturb(both[who], 3, seed=11)
    assert both["sender"].wait() == 0 and both["receiver"].wait() == 0
    exact(out, COUNT)


def test_receiver_killed_again_and_again_loses_nothing(tools, directory, ends):
    out = directory / "out"
    rng = random.Random(23)
    sender = peer(tools, "send", ends[0], count=COUNT, batch=5, rate=15000, stay=1)
    receiver = peer(tools, "receive", ends[1], out)
    for turn in range(8):
        before = lines(out)
        support.wait_for(lambda: lines(out) > before or before >= COUNT, "more events")
        time.sleep(rng.uniform(0, 0.3))
        receiver.kill()
        receiver = peer(tools, "receive", ends[1], out, durable_every=rng.choice([1, 10, 100]))
    let_end(sender)
    assert sender.wait() == 0 and receiver.wait() == 0
    lost_nothing(out, COUNT)
    assert numbers(out)[-1] == "end"


def test_what_was_durable_is_not_sent_to_the_next_receiver(tools, directory, ends):
    """durable_every=1 and a kill while the line is quiet: the next receiver goes on exactly where the last one stopped."""
    out = directory / "out"
    sender = peer(tools, "send", ends[0], count=400, batch=1, rate=200, stay=1)
    for turn in range(3):
        receiver = peer(tools, "receive", ends[1], out)
        support.wait_for(lambda: len(numbers(out)) > 50 * (turn + 1), "more events")
        sender.signal(signal.SIGSTOP)
        quiet(out)
        receiver.kill()
        sender.signal(signal.SIGCONT)
    receiver = peer(tools, "receive", ends[1], out)
    let_end(sender)
    assert sender.wait() == 0 and receiver.wait() == 0
    exact(out, 400)


def test_middle_of_a_chain_stopped_and_paused(tools, directory):
    first, second = f"ipc://{directory}/a", f"ipc://{directory}/b"
    out = directory / "out"
    receiver = peer(tools, "receive", second, out)
    relay = peer(tools, "relay", first, second, origin="relay", window=200000)
    sender = peer(tools, "send", first, count=COUNT, batch=4, window=200000)
    disturb(relay, 2, seed=5)
    for _ in range(5):
        receiver.signal(signal.SIGUSR1)
        time.sleep(0.1)
        receiver.signal(signal.SIGUSR2)
    assert [t.wait() for t in (sender, relay, receiver)] == [0, 0, 0]
    exact(out, COUNT, "relay")


def test_paused_receiver_is_not_sent_everything_again(tools, directory, address):
    out = directory / "out"
    receiver = peer(tools, "receive", address, out)
    sender = peer(tools, "send", address, count=20000, batch=10, rate=20000)
    support.wait_for(lambda: len(numbers(out)) > 1000, "events")
    receiver.signal(signal.SIGUSR1)
    time.sleep(6)               # several reports of a paused receiver
    receiver.signal(signal.SIGUSR2)
    assert sender.wait() == 0 and receiver.wait() == 0
    exact(out, 20000)
    assert report(sender)["resent"] == 0


def test_stopped_receiver_is_not_sent_everything_again(tools, directory, address):
    out = directory / "out"
    receiver = peer(tools, "receive", address, out)
    sender = peer(tools, "send", address, count=20000, batch=10, rate=20000)
    support.wait_for(lambda: len(numbers(out)) > 1000, "events")
    receiver.signal(signal.SIGSTOP)
    time.sleep(4)
    receiver.signal(signal.SIGCONT)
    assert sender.wait() == 0 and receiver.wait() == 0
    exact(out, 20000)
    assert report(sender)["resent"] == 0


def test_restarted_sender_begins_a_new_stream(tools, directory, ends):
    out = directory / "out"
    receiver = peer(tools, "receive", ends[1], out)
    sender = peer(tools, "send", ends[0], count=COUNT, batch=5, rate=50000, stay=1)
    support.wait_for(lambda: len(numbers(out)) > 1000, "events")
    sender.kill()
    again = peer(tools, "send", ends[0], count=1000, batch=5)
    assert again.wait() == 0 and receiver.wait() == 0
    found = numbers(out)
    begin = found.index(0, 1)
    assert found[:begin] == list(range(begin))
    assert found[begin:] == list(range(1000)) + ["end"]
    assert report(receiver)["malformed"] == 0


def test_receiver_ends_when_the_successor_of_a_killed_sender_does(tools, directory, address):
    """A tool that is started again has another origin: the killed one's end, which never comes, is not waited for."""
    out = directory / "out"
    receiver = peer(tools, "receive", ">" + address, out)
    for turn in range(3):
        sender = peer(tools, "send", "@" + address, count=COUNT, batch=5, rate=50000, stay=1, origin=f"killed{turn}")
        support.wait_for(lambda: len(numbers(out, f"killed{turn}")) > 500, "events")
        sender.kill()
    last = peer(tools, "send", "@" + address, count=1000, batch=5, origin="last")
    assert last.wait() == 0 and receiver.wait() == 0
    exact(out, 1000, "last")


def test_a_sender_whose_clock_stepped_back_is_a_new_stream_too(tools, directory, address):
    out = directory / "out"
    receiver = peer(tools, "receive", address, out, stay=1)
    for epoch in (2000, 1000, 3000):
        assert peer(tools, "send", address, count=100, epoch=epoch).wait() == 0
    support.wait_for(lambda: numbers(out).count("end") == 3, "three ends")
    assert numbers(out) == (list(range(100)) + ["end"]) * 3


def test_several_senders_into_one_receiver(tools, directory, address):
    out = directory / "out"
    receiver = peer(tools, "receive", "@" + address, out, stay=1)
    senders = [peer(tools, "send", ">" + address, count=5000, batch=3, origin=f"origin{i}") for i in range(4)]
    assert [s.wait() for s in senders] == [0] * 4
    support.wait_for(lambda: sum(1 for line in read(out) if line[2] == "end") == 4, "four ends")
    for i in range(4):
        exact(out, 5000, f"origin{i}")


@pytest.mark.parametrize("direction", ["sender binds", "receiver binds"])
@pytest.mark.parametrize("way", ["cut", "hold"])
def test_tcp_connection_cut_at_random(tools, directory, direction, way):
    out = directory / "out"
    port, front = support.free_port(), support.free_port()
    data, acks = Relay(front, port), Relay(front + 1, port + 1)
    near, far = f"@tcp://127.0.0.1:{port}", f">tcp://127.0.0.1:{front}"
    to, source = (near, far) if direction == "sender binds" else (far, near)
    receiver = peer(tools, "receive", source, out)
    sender = peer(tools, "send", to, count=COUNT, batch=5, padding=200, rate=20000)
    rng = random.Random(3)
    try:
        while sender.running and len(numbers(out)) < COUNT * 0.8:
            time.sleep(rng.uniform(0.02, 0.25))
            chosen = rng.choice([[data], [acks], [data, acks]])
            if way == "hold":
                for relay in chosen:
                    relay.flowing.clear()
                time.sleep(rng.uniform(0.02, 0.3))
            for relay in chosen:
                relay.cut()
                relay.flowing.set()
        assert sender.wait() == 0 and receiver.wait() == 0
    finally:
        data.close()
        acks.close()
    exact(out, COUNT)


@pytest.mark.parametrize("direction", ["sender binds", "receiver binds"])
@pytest.mark.parametrize("what", ["data", "acks", "both"])
def test_dead_connections_are_found_out_and_replaced(tools, directory, direction, what):
    """No end of the connection is told; it happens in mid-stream, and again when all data has passed."""
    out = directory / "out"
    port, front = support.free_port(), support.free_port()
    data, acks = Relay(front, port), Relay(front + 1, port + 1)
    near, far = f"@tcp://127.0.0.1:{port}", f">tcp://127.0.0.1:{front}"
    to, source = (near, far) if direction == "sender binds" else (far, near)
    receiver = peer(tools, "receive", source, out)
    sender = peer(tools, "send", to, count=COUNT, batch=5, rate=20000)
    try:
        for share in (0.3, 0.95):
            support.wait_for(lambda: len(numbers(out)) > COUNT * share, "events", 30)
            for relay in {"data": [data], "acks": [acks], "both": [data, acks]}[what]:
                relay.lose()
        assert sender.wait(60) == 0 and receiver.wait() == 0
    finally:
        data.close()
        acks.close()
    exact(out, COUNT)


def test_tail_that_is_lost_is_sent_again(tools, directory):
    """The connection that carries data is cut just when all has been sent, and stays away for a moment."""
    out = directory / "out"
    port, front = support.free_port(), support.free_port()
    data, acks = Relay(front, port), Relay(front + 1, port + 1)
    receiver = peer(tools, "receive", f"tcp://127.0.0.1:{front}", out)
    sender = peer(tools, "send", f"tcp://127.0.0.1:{port}", count=50, batch=1, delay=500)
    time.sleep(0.4)
    data.flowing.clear()        # what is sent now ends in the relay
    time.sleep(0.4)
    data.cut()
    data.flowing.set()
    try:
        assert sender.wait() == 0 and receiver.wait() == 0
    finally:
        data.close()
        acks.close()
    exact(out, 50)


def test_second_receiver_on_ipc_is_told_who_is_there(tools, directory):
    address, out = f"ipc://{directory}/link", directory / "out"
    sender = peer(tools, "send", address, count=3000, batch=1, rate=3000, stay=1)
    receiver = peer(tools, "receive", address, out)
    support.wait_for(lambda: numbers(out), "events")
    sender.signal(signal.SIGSTOP)                # so that the receiver stays
    second = peer(tools, "receive", address, directory / "second")
    assert second.wait() == 1
    sender.signal(signal.SIGCONT)
    let_end(sender)
    assert str(receiver.pid) in second.err and "partitions=N" in second.err
    assert sender.wait() == 0 and receiver.wait() == 0
    exact(out, 3000)
    assert numbers(directory / "second") == []


def test_second_receiver_on_tcp_is_refused_and_harms_nothing(tools, directory):
    address, out = f"tcp://127.0.0.1:{support.free_port()}", directory / "out"
    sender = peer(tools, "send", address, count=20000, batch=1, rate=8000, stay=1)
    receiver = peer(tools, "receive", address, out)
    support.wait_for(lambda: numbers(out), "events")
    second = peer(tools, "receive", address, directory / "second")
    assert second.wait() == 1
    assert "another receiver" in second.err and "partitions=N" in second.err
    let_end(sender)
    assert sender.wait() == 0 and receiver.wait() == 0
    exact(out, 20000)
    assert numbers(directory / "second") == []


def test_waiting_second_receiver_takes_over_when_the_first_is_killed(tools, directory):
    """A stopped first receiver still holds the link; once it is gone the waiting one is taken."""
    address, out = f"tcp://127.0.0.1:{support.free_port()}", directory / "out"
    sender = peer(tools, "send", address, count=COUNT, batch=5, rate=30000, stay=1)
    first = peer(tools, "receive", address, out)
    support.wait_for(lambda: numbers(out), "events")
    first.signal(signal.SIGSTOP)
    second = peer(tools, "receive", address, out)
    time.sleep(1)
    first.kill()
    let_end(sender)
    assert sender.wait() == 0 and second.wait() == 0
    lost_nothing(out, COUNT)


def test_path_in_use(tools, directory):
    address = f"ipc://{directory}/link"
    holder = peer(tools, "send", address)
    support.wait_for((directory / "link").exists, "the socket")
    other = peer(tools, "send", address)
    assert other.wait() == 1
    assert f"in use by process {holder.pid}" in other.err
    receiver = peer(tools, "receive", address, directory / "out")
    assert holder.wait() == 0 and receiver.wait() == 0
    exact(directory / "out", 1000)


def test_stale_socket_and_lock_do_no_harm_and_nothing_is_left_behind(tools, directory):
    address, place = f"ipc://{directory}/links", directory
    peer(tools, "send", address)
    support.wait_for((place / "links.ack").exists, "the socket")
    tools.started[-1].kill()
    assert (place / "links").exists() and (place / "links.lock").exists()
    sender, receiver = peer(tools, "send", address), peer(tools, "receive", address, directory / "out")
    assert sender.wait() == 0 and receiver.wait() == 0
    exact(directory / "out", 1000)
    assert sorted(p.name for p in place.iterdir() if p.name.startswith("links")) == []


def test_port_in_use(tools, directory):
    address = f"tcp://127.0.0.1:{support.free_port()}"
    peer(tools, "send", address, stay=1)
    holder = tools.started[-1]
    support.wait_for(lambda: peer(tools, "send", address).wait() == 1, "the port to be taken")
    assert "another program listens there" in tools.started[-1].err
    assert holder.running


@pytest.mark.parametrize("endpoint, words", [
    ("udp://x", "not a link"),
    ("ipc://", "a path is missing"),
    ("ipc:///" + "x" * 120, "too long"),
    ("tcp://host", "HOST:PORT"),
    ("tcp://*:65535", "choose a smaller one"),
    ("tcp://*:65500?partitions=64", "choose a smaller one"),
    ("ipc:///tmp/x?partition=3", "unknown option partition"),
    ("ipc:///tmp/x?key=device", "partitions=N"),
    ("sub+tcp://127.0.0.1:5555", "--from"),
    ("@-", "leave the @ out"),
    ("ipc:///nowhere/at/all", "No such file or directory"),
])
def test_endpoints_that_make_no_sense_are_explained(tools, endpoint, words):
    sender = peer(tools, "send", endpoint)
    assert sender.wait() == 1
    assert words in sender.err


def test_full_link_blocks_by_default(tools, directory, address):
    sender = peer(tools, "send", address, count=COUNT, batch=10, window=100000)
    out = directory / "out"
    time.sleep(0.5)
    receiver = peer(tools, "receive", address, out)
    assert sender.wait() == 0 and receiver.wait() == 0
    exact(out, COUNT)


@pytest.mark.parametrize("policy", ["drop_oldest", "drop_newest"])
def test_full_link_drops_by_policy_and_counts_it(tools, directory, address, policy):
    sender = peer(tools, "send", address, count=COUNT, batch=10, window=100000, full={"drop_oldest": 1, "drop_newest": 2}[policy])
    sender.wait_err("all is handed to the link")      # nobody listens: all but a window is dropped
    out = directory / "out"
    receiver = peer(tools, "receive", address, out)
    assert sender.wait() == 0 and receiver.wait() == 0
    found = numbers(out)[:-1]
    assert found == sorted(set(found)) and len(found) < COUNT / 2
    assert len(found) + report(sender)["dropped_events"] == COUNT
    assert (found[-1] == COUNT - 1) == (policy == "drop_oldest")
    assert report(receiver)["gaps"] == 0


def test_drops_while_the_receiver_is_stopped_leave_no_hole_in_the_numbers(tools, directory, address):
    out = directory / "out"
    receiver = peer(tools, "receive", address, out)
    sender = peer(tools, "send", address, count=COUNT, batch=2, window=100000, full=1, rate=20000)
    disturb(receiver, 3, seed=8, longest=0.4)
    assert sender.wait() == 0 and receiver.wait() == 0
    found = numbers(out)[:-1]
    assert found == sorted(set(found))      # the last may be missing: once everything has been sent, a new frame is what is dropped
    assert len(found) + report(sender)["dropped_events"] == COUNT


def test_peer_program_is_there():
    assert PEER.exists(), "make unit-build makes it"
