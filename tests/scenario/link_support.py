"""Helpers of the link scenarios: ends of links (tests/scenario/tools/link_peer.c), what they wrote, and a TCP relay that can cut."""

import os
import random
import re
import signal
import socket
import threading
import time

import msgpack
import zmq

import support

PEER = (support.ROOT / os.environ.get("BUILD", "build") / "tests/scenario/tools/link_peer").resolve()


def peer(tools, command, *arguments, **options):
    return tools.start(PEER, command, *arguments, *[f"{key}={value}" for key, value in options.items()])


def let_end(sender):
    """A sender that was started with stay=1 goes on to its end. Tests that disturb receivers use it, so that the stream cannot end meanwhile, however
    slow the machine is: the next receiver would wait for a sender in vain."""
    sender.signal(signal.SIGUSR2)


def statistics(tool):
    """Those of a peer that goes on."""
    before = tool.out.count(b"\n")
    tool.signal(signal.SIGHUP)
    support.wait_for(lambda: tool.out.count(b"\n") > before, "the statistics")
    return support.lines_so_far(tool.out)[-1]


def pause(receiver):
    """Returns once it is paused."""
    receiver.signal(signal.SIGUSR1)
    pending = lambda: int(re.search(r"ShdPnd:\s*(\w+)", open(f"/proc/{receiver.pid}/status").read()).group(1), 16)
    support.wait_for(lambda: not pending() >> (signal.SIGUSR1 - 1) & 1, "the pause")
    statistics(receiver)                    # it has seen to that signal when it answers the next


def report(tool):
    """The statistics that a peer prints when it ends by itself."""
    return support.lines_of(tool.out)[-1]


def read(path):
    """[(origin, stream, number or "end", key)] of the complete lines so far, without the positions that begin with #."""
    if not path.exists():
        return []
    data = path.read_bytes().decode()
    lines = [line.split(" ") for line in data[:data.rfind("\n") + 1].splitlines() if line[0] != "#"]
    return [(o, s, n if n == "end" else int(n), k) for o, s, n, k in lines]


def lines(path):
    """How many there are so far: cheaper than looking at them."""
    return path.read_bytes().count(b"\n") if path.exists() else 0


def numbers(path, origin="peer"):
    return [n for o, _, n, _ in read(path) if o == origin]


def exact(path, count, origin="peer"):
    """Every event once, in order, then the end."""
    found = numbers(path, origin)
    expected = list(range(count)) + ["end"]
    if found == expected:
        return
    at = next((i for i, (a, b) in enumerate(zip(found, expected)) if a != b), min(len(found), len(expected)))
    raise AssertionError(f"{len(found)} of {len(expected)} entries; they differ from position {at}: {found[at:at + 5]} instead of "
                         f"{expected[at:at + 5]}")


def lost_nothing(path, count, origin="peer"):
    """For receivers that were killed: runs of ascending numbers, each beginning at or before where the last one stopped, so that
    nothing was lost; what was not durable may be there twice."""
    reached, previous = 0, None
    for n in numbers(path, origin):
        if n == "end":
            break
        assert n <= reached, f"{n} follows {previous}, but {reached} was never seen"
        assert previous is None or n == previous + 1 or n < reached
        reached, previous = max(reached, n + 1), n
    assert reached == count


def quiet(path, seconds=0.3):
    """Until nothing more has come for a while: what was on its way has arrived and is acknowledged."""
    count = since = None
    while count != len(numbers(path)) or time.monotonic() < since + seconds * support.PATIENCE:
        if count != len(numbers(path)):
            count, since = len(numbers(path)), time.monotonic()
        time.sleep(0.02)


def disturb(tool, seconds, seed, longest=0.15):
    """Stops and continues a process at random for a while."""
    rng = random.Random(seed)
    end = time.monotonic() + seconds
    while time.monotonic() < end and tool.running:
        tool.signal(signal.SIGSTOP)
        time.sleep(rng.uniform(0.001, longest))
        tool.signal(signal.SIGCONT)
        time.sleep(rng.uniform(0.001, longest))


class Relay:
    """Passes TCP connections on to 127.0.0.1:target. cut() ends them all; flowing.clear() holds what passes; lose() keeps the
    connections but lets nothing pass any more, as when a cable is pulled: only a heartbeat can find that out."""

    def __init__(self, port, target, host="127.0.0.1"):
        self.target, self.pairs, self.lock, self.open = target, [], threading.Lock(), True
        self.flowing = threading.Event()
        self.flowing.set()
        self.listener = socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while self.open:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(("127.0.0.1", self.target))
            except OSError:
                client.close()
                continue
            pair = {"ends": (client, server), "lost": False}
            with self.lock:
                self.pairs.append(pair)
            for a, b in ((client, server), (server, client)):
                threading.Thread(target=self._pump, args=(pair, a, b), daemon=True).start()

    def _pump(self, pair, source, target):
        try:
            while data := source.recv(65536):
                self.flowing.wait()
                if not pair["lost"]:
                    target.sendall(data)
        except OSError:
            pass
        if not pair["lost"]:
            self._end(pair)

    @staticmethod
    def _end(pair):
        for s in pair["ends"]:      # closed when the last thread that uses it is done
            try:
                s.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def _take(self):
        with self.lock:
            pairs, self.pairs = self.pairs, []
        return pairs

    def cut(self):
        for pair in self._take():
            self._end(pair)

    def lose(self):
        lost = self._take()
        for pair in lost:
            pair["lost"] = True
        self.graveyard = getattr(self, "graveyard", []) + lost      # or Python would close them

    def close(self):
        self.open = False
        self.flowing.set()
        self.listener.close()
        self.cut()
        for pair in getattr(self, "graveyard", []):
            self._end(pair)


class Foreign:
    """Binds the link, or connects to one, and says what it is told to."""

    def __init__(self, path, attach="bind"):
        self.context = zmq.Context()
        self.acks, self.data = self.context.socket(zmq.SUB), self.context.socket(zmq.PUSH)
        self.data.immediate, self.data.linger = True, 0
        self.acks.subscribe("")
        for socket, end in ((self.acks, ".ack"), (self.data, "")):
            getattr(socket, attach)(f"ipc://{path}{end}")
        self.me = None
        while self.me is None:
            self.me = self.ack()["r"]

    def ack(self, wait=20000):
        assert self.acks.poll(wait * support.PATIENCE), "no acknowledgement"
        return msgpack.unpackb(self.acks.recv_multipart()[1])

    def until(self, condition):
        end = time.monotonic() + 20 * support.PATIENCE
        while time.monotonic() < end:
            ack = self.ack()
            if condition(ack):
                return ack
        raise AssertionError("that was never acknowledged")

    def frame(self, q, e=1, n=None, topic="numbers", k="x", **header):
        entry = b"\x92\xd7\x00" + bytes(8) + msgpack.packb({"n": q if n is None else n, "k": k}) if q else b""
        self.data.send_multipart([topic.encode(), msgpack.packb({"v": 1, "o": "foreign", "e": e, "q": q, "l": min(q, 1), "n": int(q > 0), "t": 0,
                                                                 "r": self.me, "g": 0, **header}), entry])

    def close(self):
        self.context.destroy(linger=0)
