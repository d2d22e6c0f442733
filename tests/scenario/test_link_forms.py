"""Partitions, plain links, PUB/SUB, and foreign peers in Python: honest ones that speak the protocol, and others that do not."""

import contextlib
import os
import random
import signal
import socket
import threading
import time

import msgpack
import pytest
import zmq

import support
from link_support import exact, let_end, lines, numbers, pause, peer, read, report, statistics


@pytest.fixture(params=["ipc", "tcp"])
def address(request, directory):
    return f"ipc://{directory}/link" if request.param == "ipc" else f"tcp://127.0.0.1:{support.free_port()}"


@pytest.fixture
def context():
    made = zmq.Context()
    made.linger = 0        # of its sockets: read when they connect, so that closing them never waits for a peer that is gone
    yield made
    # libzmq may wait for ever for a connection that its peer keeps closing: it is given a moment, not more.
    end = threading.Thread(target=made.destroy, kwargs={"linger": 0}, daemon=True)
    end.start()
    end.join(5)


# ---- partitions ----

@pytest.mark.parametrize("form", ["ipc", "tcp"])
def test_partitions_by_key_keep_each_key_together_and_in_order(tools, directory, form):
    address = f"ipc://{directory}/link" if form == "ipc" else f"tcp://127.0.0.1:{support.free_port(8)}"
    outs = [directory / f"out{i}" for i in range(4)]
    receivers = [peer(tools, "receive", f"{address}?partition={i}", outs[i]) for i in range(4)]
    sender = peer(tools, "send", f"{address}?partitions=4&key=k", count=20000, batch=10, keys=100)
    assert sender.wait() == 0 and [r.wait() for r in receivers] == [0] * 4
    place, everything = {}, []
    for i, out in enumerate(outs):
        lines = read(out)
        assert lines[-1][2] == "end"
        found = [n for _, _, n, _ in lines[:-1]]
        assert found and found == sorted(set(found))
        everything += found
        for _, _, _, key in lines[:-1]:
            assert place.setdefault(key, i) == i
    assert sorted(everything) == list(range(20000))


def test_without_a_key_a_stopped_receiver_does_not_hold_up_the_others(tools, directory):
    address = f"ipc://{directory}/link"
    outs = [directory / f"out{i}" for i in range(3)]
    receivers = [peer(tools, "receive", f"{address}?partition={i}", outs[i]) for i in range(3)]
    sender = peer(tools, "send", f"{address}?partitions=3", count=1000000, batch=5, rate=30000, stay=1)
    support.wait_for(lambda: all(numbers(out) for out in outs), "events everywhere")
    receivers[1].signal(signal.SIGSTOP)
    others = lambda: lines(outs[0]) + lines(outs[2])
    before = others()
    support.wait_for(lambda: others() > before + 40000, "the others to go on", 60)
    receivers[1].signal(signal.SIGCONT)
    sender.signal(signal.SIGUSR1)
    assert sender.wait() == 0 and [r.wait() for r in receivers] == [0] * 3
    found = [numbers(out)[:-1] for out in outs]
    assert all(f == sorted(set(f)) for f in found)
    everything = sorted(sum(found, []))
    assert everything == list(range(len(everything))) and len(everything) > 40000


def test_killed_partition_worker_is_replaced_and_nothing_is_lost(tools, directory):
    address = f"ipc://{directory}/link"
    outs = [directory / f"out{i}" for i in range(2)]
    receivers = [peer(tools, "receive", f"{address}?partition={i}", outs[i]) for i in range(2)]
    sender = peer(tools, "send", f"{address}?partitions=2&key=k", count=30000, batch=6, rate=10000, stay=1)
    for turn in range(4):
        before = lines(outs[0])
        support.wait_for(lambda: lines(outs[0]) > before + 500 or before > 13000, "events")
        receivers[0].kill()
        receivers[0] = peer(tools, "receive", f"{address}?partition=0", outs[0])
    let_end(sender)
    assert sender.wait() == 0 and [r.wait() for r in receivers] == [0, 0]
    assert set(numbers(outs[0])[:-1]) | set(numbers(outs[1])[:-1]) == set(range(30000)) | ({"end"} & set(numbers(outs[0])[:-1]))
    assert numbers(outs[1]) == sorted(set(numbers(outs[1])[:-1])) + ["end"]


# ---- plain ----

def test_plain_push_to_a_foreign_pull(tools, address, context):
    sender = peer(tools, "send", f"@{address}?ack=none", count=500, batch=10)
    pull = context.socket(zmq.PULL)
    pull.RCVTIMEO = int(15000 * support.PATIENCE)
    pull.connect(address)
    found = []
    while True:
        topic, header, events = support.decode_frame(pull.recv_multipart())
        found += [record["n"] for _, record in events]
        if header.get("end"):
            break
    assert found == list(range(500)) and topic == "numbers"
    assert sender.wait() == 0


def test_plain_pull_takes_frames_of_a_foreign_push_without_numbers(tools, directory, address, context):
    receiver = peer(tools, "receive", f"@{address}?ack=none", directory / "out")
    push = context.socket(zmq.PUSH)
    push.connect(address)
    for i in range(20):
        push.send_multipart(support.encode_frame("foreign", {}, [{"n": i, "k": "x"}]))
    push.send_multipart(support.encode_frame("foreign", {"end": True}, []))
    assert receiver.wait() == 0
    assert [(s, n) for _, s, n, _ in read(directory / "out")] == [("foreign", i) for i in range(20)] + [("foreign", "end")]


# ---- foreign peers that speak the protocol ----

class Receiver:
    """A receiver in Python, as stream-link(7) describes it."""

    def __init__(self, context, data, acks):
        self.pull, self.pub = context.socket(zmq.PULL), context.socket(zmq.XPUB)
        self.pub.setsockopt(zmq.XPUB_VERBOSE, 1)
        self.pub.connect(acks)
        self.pull.connect(data)
        self.id, self.streams, self.found, self.ended = random.getrandbits(63) | 1, {}, [], False

    def say(self, origin="", **fields):
        self.pub.send_multipart([origin.encode() + b"\n", msgpack.packb({"v": 1, "r": self.id, **fields})])

    def turn(self):
        poller = zmq.Poller()
        poller.register(self.pull, zmq.POLLIN)
        poller.register(self.pub, zmq.POLLIN)
        ready = dict(poller.poll(500))
        if self.pub in ready:
            self.pub.recv()
            self.say()
        if self.pull in ready:
            self.take(*support.decode_frame(self.pull.recv_multipart()))

    def take(self, topic, header, events):
        if header.get("r", self.id) != self.id or "q" not in header:
            return
        origin, epoch = header["o"], header["e"]
        last = self.streams.get((origin, epoch), header["l"] - 1)
        if header["q"] == last + 1:
            last += 1
            self.found += [record["n"] for _, record in events]
            self.ended = self.ended or header.get("end", False)
        self.streams[origin, epoch] = last
        self.say(origin, o=origin, e=epoch, received=last, durable=last, g=header.get("g", 0), again=header["q"] > last)


def listens(address):
    """Whether somebody has bound it."""
    if address.startswith("ipc"):
        return os.path.exists(address.removeprefix("ipc://"))
    try:
        socket.create_connection(("127.0.0.1", int(address.rsplit(":", 1)[1]))).close()
        return True
    except OSError:
        return False


def beside(address):
    """Where the acknowledgements go."""
    if address.startswith("ipc"):
        return address + ".ack"
    host, port = address.rsplit(":", 1)
    return f"{host}:{int(port) + 1}"


def test_a_receiver_in_python(tools, address, context):
    sender = peer(tools, "send", address, count=2000, batch=10)
    receiver = Receiver(context, address, beside(address))
    deadline = time.monotonic() + 20 * support.PATIENCE
    while not receiver.ended and time.monotonic() < deadline:
        receiver.turn()
    assert receiver.found == list(range(2000))
    assert sender.wait() == 0


def test_a_sender_in_python_that_forgets_and_repeats(tools, directory, address, context):
    """Frames are sent out of order and twice; the receiver applies each once, in order, and asks for what is missing."""
    out = directory / "out"
    push, sub = context.socket(zmq.PUSH), context.socket(zmq.SUB)
    sub.subscribe(b"\n")
    sub.subscribe(b"python\n")
    push.bind(address)
    sub.bind(beside(address))
    receiver = peer(tools, "receive", address, out)
    sub.RCVTIMEO = int(15000 * support.PATIENCE)
    receiver_id = msgpack.unpackb(sub.recv_multipart()[1])["r"]

    def send(number, attempt=0, **more):
        header = {"o": "python", "e": 7, "q": number, "l": 1, "r": receiver_id, "g": attempt, **more}
        push.send_multipart(support.encode_frame("numbers", header, [] if "end" in more else [{"n": number - 1, "k": "x"}]))

    def answer(condition):
        while True:
            fields = msgpack.unpackb(sub.recv_multipart()[1])
            if fields.get("o") == "python" and condition(fields):
                return fields

    for number in (1, 2, 2, 1, 3, 5, 6):
        send(number)
    missing = answer(lambda f: f.get("again"))
    assert missing["received"] == 3 and missing["durable"] <= 3 and missing["g"] == 0
    for number in (4, 5, 6, 7):
        send(number, attempt=1)
    send(8, attempt=1, end=True)
    assert answer(lambda f: f["durable"] == 8)["received"] == 8
    push.send_multipart(support.encode_frame("bye", {"o": "python", "e": 7, "r": receiver_id, "end": True, "bye": 1}, []))
    assert receiver.wait() == 0
    assert numbers(out, "python") == list(range(7)) + ["end"]
    assert report(receiver)["repeats"] >= 2 and report(receiver)["gaps"] >= 1


def test_frames_for_another_receiver_are_not_applied(tools, directory, address, context):
    out = directory / "out"
    push, sub = context.socket(zmq.PUSH), context.socket(zmq.SUB)
    sub.subscribe(b"")
    push.bind(address)
    sub.bind(beside(address))
    sub.RCVTIMEO = int(15000 * support.PATIENCE)
    receiver = peer(tools, "receive", address, out)
    me = msgpack.unpackb(sub.recv_multipart()[1])["r"]
    head = {"o": "python", "e": 7, "l": 1}
    push.send_multipart(support.encode_frame("numbers", {**head, "q": 1, "r": me ^ 1}, [{"n": 100, "k": "x"}]))
    push.send_multipart(support.encode_frame("numbers", {**head, "q": 1, "r": me}, [{"n": 0, "k": "x"}]))
    push.send_multipart(support.encode_frame("numbers", {**head, "q": 2, "r": me, "end": True}, []))
    push.send_multipart(support.encode_frame("bye", {**head, "q": 0, "l": 0, "r": me, "bye": 1}, []))
    assert receiver.wait() == 0
    assert numbers(out, "python") == [0, "end"]


# ---- foreign peers that do not ----

def garbage(rng):
    """Messages that are no frames, or nearly."""
    def blob(most=200):
        return rng.randbytes(rng.randrange(most))
    good = support.encode_frame("numbers", {"o": "evil", "e": 1, "q": 1, "l": 1}, [{"n": 1}])
    huge = msgpack.packb({"v": 1})[:1] + b"\xa1n\xcf" + b"\xff" * 8
    return [
        [blob()], [blob(), blob()], [b"numbers", blob(), blob()], [blob()] * 5, [b""], [b"", b"", b""],
        [good[0], good[1], good[2][:-1]], [good[0], good[1][:-1], good[2]], [b"a b", good[1], good[2]], [b"x" * 200, good[1], good[2]],
        [good[0], huge, good[2]], [good[0], b"\xdf\xff\xff\xff\xff", good[2]], [good[0], b"\xdd\xff\xff\xff\xff", b""],
        [good[0], msgpack.packb({"v": 1, "n": 2 ** 63}), good[2]], [good[0], msgpack.packb({"v": 1, "n": 1, "x": b"\xff\xff\xff\xff"}), good[2]],
        [good[0], msgpack.packb({"v": 2, "n": 1}), good[2]], [good[0], msgpack.packb({"v": 1, "n": 1, "o": "o" * 1000}), good[2]],
        [good[0], msgpack.packb({"v": 1, "o": "late", "e": 1, "q": 5, "l": 9, "n": 0}), b""],
        [good[0], msgpack.packb({"v": 1, "o": "a\nb", "e": 1, "q": 1, "l": 1, "n": 0}), b""],
        [good[0], b"\x81" * 5000, good[2]], [good[0], b"\x91" * 5000, good[2]],
    ]


def test_garbage_beside_a_good_stream(tools, directory, address, context):
    out = directory / "out"
    receiver = peer(tools, "receive", "@" + address, out, stay=1)
    sender = peer(tools, "send", ">" + address, count=20000, batch=5, rate=10000)
    push = context.socket(zmq.PUSH)
    push.connect(address)
    rng = random.Random(99)
    sent = 0
    while sender.running:
        for message in garbage(rng):
            push.send_multipart(message)
            sent += 1
        time.sleep(0.05)
    assert sender.wait() == 0
    exact(out, 20000)
    assert receiver.terminate() == 0
    assert 0 < report(receiver)["malformed"] <= sent
    assert receiver.err.count("malformed and dropped") < 30     # once a second at most


def test_raw_bytes_on_the_sockets(tools, directory):
    port, out = support.free_port(), directory / "out"
    address = f"tcp://127.0.0.1:{port}"
    sender = peer(tools, "send", "@" + address, count=20000, batch=5, rate=10000)
    receiver = peer(tools, "receive", ">" + address, out)
    rng = random.Random(4)
    support.wait_for(lambda: numbers(out), "events")
    while sender.running:
        for p in (port, port + 1):
            garbage = rng.choice([b"GET / HTTP/1.1\r\n\r\n", rng.randbytes(300), b"\xff" + b"\0" * 8 + b"\x7f\3", b""])
            try:        # the sender closes its ports before it ends
                with socket.create_connection(("127.0.0.1", p)) as s:
                    s.sendall(garbage)
            except OSError:
                pass
        time.sleep(0.05)
    assert sender.wait() == 0 and receiver.wait() == 0
    exact(out, 20000)


def test_false_acknowledgements_are_not_believed(tools, directory, address, context):
    """Nothing that was never sent is taken for durable, whatever is said."""
    out = directory / "out"
    sender = peer(tools, "send", address, count=5000, batch=5, rate=5000)
    receiver = peer(tools, "receive", address, out)
    support.wait_for(lambda: numbers(out), "events")
    liar = context.socket(zmq.PUB)
    liar.connect(beside(address))
    rng = random.Random(17)
    while sender.running:
        for payload in (rng.randbytes(50), b"\x81", b"\xdf\xff\xff\xff\xff", b"x" * 5000, msgpack.packb({"v": 1}),
                        msgpack.packb({"v": 1, "r": 0, "o": "peer"}), msgpack.packb({"v": 1, "r": 5, "received": 1, "durable": 9}),
                        msgpack.packb({"v": 9, "r": 5})):
            liar.send_multipart([b"peer\n", payload])
            liar.send_multipart([b"\n", payload])
        liar.send(b"\n")
        liar.send_multipart([b"\n", b"", b""])
        time.sleep(0.02)
    assert sender.wait() == 0 and receiver.wait() == 0
    exact(out, 5000)


# ---- PUB/SUB ----

def test_publish_to_subscribers_by_topic(tools, directory, address, context):
    outs = {topic: directory / f"out-{topic}" for topic in ("all", "numbers1")}
    publisher = peer(tools, "send", "pub+" + address, count=4000, batch=1, rate=2000, streams=2, stay=1)
    everything = peer(tools, "receive", "sub+" + address, outs["all"], stay=1)
    one = peer(tools, "receive", f"sub+{address}?topic=numbers1", outs["numbers1"], stay=1)
    support.wait_for(lambda: all(numbers(out) for out in outs.values()), "events everywhere")
    let_end(publisher)
    assert publisher.wait() == 0
    support.wait_for(lambda: any(n == "end" for _, _, n, _ in read(outs["all"])), "the end")
    for tool in (everything, one):
        assert tool.terminate() == 0
        assert report(tool)["gaps"] == 0
    first = {s: n for _, s, n, _ in reversed(read(outs["all"]))}
    for stream in ("numbers0", "numbers1"):
        found = [n for _, s, n, _ in read(outs["all"]) if s == stream]
        assert found == list(range(first[stream], 4000, 2))
    assert {s for _, s, _, _ in read(outs["numbers1"])} == {"numbers1"}


def test_slow_subscriber_sees_what_it_missed(tools, directory, address):
    out = directory / "out"
    publisher = peer(tools, "send", "pub+" + address, count=10000000, batch=1, padding=2000, rate=6000, stay=1)
    subscriber = peer(tools, "receive", "sub+" + address, out, stay=1)
    support.wait_for(lambda: numbers(out), "events")
    pause(subscriber)
    before = statistics(publisher)["events"]
    support.wait_for(lambda: statistics(publisher)["events"] > before + 10000, "far more than all buffers hold", 60)
    subscriber.signal(signal.SIGUSR2)
    before = lines(out)
    support.wait_for(lambda: lines(out) > before + 5000, "the rest, so that the end finds room", 60)
    publisher.signal(signal.SIGUSR1)
    assert publisher.wait() == 0
    support.wait_for(lambda: "end" in numbers(out), "the end")
    assert subscriber.terminate() == 0
    found = numbers(out)[:-1]
    missed = sum(b - a - 1 for a, b in zip(found, found[1:]))
    assert found == sorted(set(found)) and missed > 0
    assert report(subscriber)["gaps"] == missed


def test_subscriber_may_bind_and_publisher_connect(tools, directory, address):
    out = directory / "out"
    subscriber = peer(tools, "receive", "@sub+" + address, out)
    support.wait_for(lambda: listens(address), "the subscriber")
    publisher = peer(tools, "send", ">pub+" + address, count=1000, batch=10, delay=1500)
    assert publisher.wait() == 0 and subscriber.wait() == 0
    exact(out, 1000)


@pytest.mark.parametrize("transport", ["ipc", "tcp"])
@pytest.mark.parametrize("side", [">", "@"])
def test_a_receiver_leaves_when_its_sender_is_gone_without_goodbye(tools, directory, context, transport, side):
    """The end is acknowledged; then the sender dies before it can say that it knows."""
    port = support.free_port()
    data, acks = (f"ipc://{directory}/l", f"ipc://{directory}/l.ack") if transport == "ipc" else (f"tcp://127.0.0.1:{port}", f"tcp://127.0.0.1:{port + 1}")
    push, words = context.socket(zmq.PUSH), context.socket(zmq.SUB)
    push.linger = 0
    words.subscribe(b"foreign\n")
    words.subscribe(b"\n")
    words.rcvtimeo = int(15000 * support.PATIENCE)
    for socket, address in ((push, data), (words, acks)):
        (socket.bind if side == ">" else socket.connect)(address)
    receiver = peer(tools, "receive", side + data, directory / "out")
    me = msgpack.unpackb(words.recv_multipart()[1])["r"]
    header = {"v": 1, "o": "foreign", "e": 1, "q": 1, "l": 1, "n": 0, "t": 0, "r": me, "end": True}
    push.send_multipart([b"numbers", msgpack.packb(header), b""])
    while msgpack.unpackb(words.recv_multipart()[1]).get("durable") != 1:
        pass
    push.close()
    words.close()
    assert receiver.wait() == 0


# ---- the wrong kind of socket ----

@pytest.mark.parametrize("kind", [zmq.PUB, zmq.PULL])
def test_a_receiver_takes_the_sender_that_comes_after_something_else(tools, address, context, kind):
    process = tools.start("process", "set b = 2", "--from", address)
    with foreign(context, kind, address):
        process.wait_err("no other end of such a link.*; trying again")
    assert tools.run("ingest", "-", "--to", address, input=[{"a": 1}]).status == 0
    assert process.wait() == 0 and process.events == [{"a": 1, "b": 2}]


@pytest.mark.parametrize("kind", [zmq.SUB, zmq.PUSH])
def test_a_sender_finds_the_receiver_that_comes_after_something_else(tools, address, context, kind):
    ingest = tools.start("ingest", "-", "--to", ">" + address, input=[{"a": 1}])
    with foreign(context, kind, address):
        ingest.wait_err("no other end of such a link.*; trying again")
    process = tools.start("process", "set b = 2", "--from", "@" + address)
    assert ingest.wait() == 0 and process.wait() == 0
    assert process.events == [{"a": 1, "b": 2}]


def test_a_subscriber_takes_the_publisher_that_comes_after_something_else(tools, address, context):
    process = tools.start("process", "set b = 2", "--from", "sub+" + address)
    with foreign(context, zmq.PUSH, address):
        process.wait_err("no other end of such a link.*; trying again")
    ingest = tools.start("ingest", "generator:sensors?rate=50", "--to", "pub+" + address)
    process.wait_events(1)
    assert ingest.terminate() == 0


@contextlib.contextmanager
def foreign(context, kind, address):
    """Listens at the address for a while."""
    made = context.socket(kind)
    made.bind(address)
    yield
    made.close()
    where = address.split("://")[1]
    family, place = (socket.AF_UNIX, where) if address.startswith("ipc") else (socket.AF_INET, ("127.0.0.1", int(where.rpartition(":")[2])))

    def gone():
        with socket.socket(family) as client:
            return client.connect_ex(place) != 0
    support.wait_for(gone, "its end")     # libzmq closes it from a thread of its own
