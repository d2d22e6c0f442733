"""Idempotency keys of broadcast's HTTP sink: a batch that is repeated has the same key and the same events, whatever was killed, lost its power or
was configured anew in between, and no key ever stands for two bodies. So a server that remembers keys has each event once."""

import collections
import json
import random
import re
import signal
import threading
import time

import pytest

import link_support
import support
from chaos_world import cut_spool
from support import lines_of, ndjson, wait_for
from test_broadcast_http import Server, serve  # noqa: F401


class Deaf:
    """A server that takes everything and answers nothing until it is told to."""

    def __init__(self, serve):
        self.answers = threading.Event()
        self.server = serve(lambda *_: 200 if self.answers.is_set() else "mute")

    def requests(self, more):
        return wait_for(lambda: len(self.server.requests) >= more, "requests")


def keys(server):
    return [headers["Idempotency-Key"] for _, _, headers, _ in server.requests]


def append(path, events):
    with open(path, "ab") as file:
        file.write(ndjson(events))


def test_two_sinks_at_one_server_have_keys_of_their_own(tools, serve, directory):
    server = serve()
    (directory / "in.ndjson").write_bytes(ndjson({"seq": n} for n in range(200)))
    link = f"ipc://{directory}/link"
    sender = tools.start("ingest", "in.ndjson", "--to", link, "--state", "sender")
    broadcast = tools.start("broadcast", f"{server.url}/all", f"{server.url}/lines#body=ndjson", "--from", link, "--state", "state")
    assert sender.wait() == 0 and broadcast.wait() == 0
    assert not server.problems and len(server.taken) == len(server.requests)


@pytest.mark.parametrize("processes", [1, 2])
def test_parts_of_a_link_have_keys_of_their_own(tools, serve, directory, processes):
    """Both partitions of a durable link number their frames alike."""
    server = serve()
    link = f"ipc://{directory}/link"
    path = directory / "in.ndjson"
    path.touch()
    sender = tools.start("ingest", path, "--follow", "--to", f"{link}?partitions=2&key=k", "--state", "sender")
    inputs = [["--from", f"{link}?partition={n}"] for n in range(2)]
    for n, arguments in enumerate(inputs if processes == 2 else [inputs[0] + inputs[1]]):
        tools.start("broadcast", server.url, *arguments, "--state", f"state{n}", "--sync-interval", "10ms")
    for n in range(30):
        append(path, [{"seq": n * 10 + i, "k": f"k{i}"} for i in range(10)])
        wait_for(lambda: len(set(server.seqs())) == n * 10 + 10, lambda: f"all events; {len(set(server.seqs()))} of {n * 10 + 10}")
    assert sorted(server.seqs()) == list(range(300))
    assert sender.terminate() == 0


def test_batches_are_the_same_after_a_loss_of_power(tools, serve, directory):
    """What was under way is cut in the same way again, though much more is at hand then."""
    deaf = Deaf(serve)
    server, link, path = deaf.server, f"ipc://{directory}/link", directory / "in.ndjson"
    path.touch()
    sender = tools.start("ingest", path, "--follow", "--to", link, "--state", "sender")
    for n in range(20):
        before = len(server.requests)
        broadcast = tools.start("broadcast", server.url, "--from", link, "--state", "state", env={"STREAM_BOOT_ID": str(n)})
        append(path, [{"seq": n * 10 + i} for i in range(10)])
        deaf.requests(before + 1)
        broadcast.kill()
    deaf.answers.set()
    broadcast = tools.start("broadcast", server.url, "--from", link, "--state", "state", env={"STREAM_BOOT_ID": "last"})
    wait_for(lambda: len(set(server.seqs())) == 200, "all events")
    assert sender.terminate() == 0 and broadcast.terminate() == 0
    assert server.seqs() == list(range(200))
    assert len(set(keys(server)[:20])) == 1


def test_a_batch_is_the_same_when_queue_and_batch_are_smaller_after_a_restart(tools, serve, directory):
    """It holds more than the queue has room for now: it comes again all the same."""
    first, answers = threading.Event(), threading.Event()
    server = serve(lambda number, *_: 200 if (number == 1 and first.wait(60)) or answers.is_set() else "mute")
    link = f"ipc://{directory}/link"
    (directory / "in.ndjson").write_bytes(ndjson({"seq": n, "text": "x" * 1000} for n in range(3000)))
    sender = tools.start("ingest", "in.ndjson", "--to", link, "--state", "sender", "--batch-size", "100")

    def start(*options):
        return tools.start("broadcast", server.url, "--from", link, "--state", "state", *options)
    broadcast = start("--batch", "2000", "--batch-bytes", "4MiB", "--metrics", "metrics", "file:out.ndjson")
    wait_for(lambda: link_support.lines(directory / "out.ndjson") == 3000, "all events in the other sink")
    first.set()                                  # the second batch is as large as can be
    wait_for(lambda: len(server.requests) > 1, "the second batch")
    assert len(server.requests[-1][3]) > 1_000_000
    broadcast.kill()
    answers.set()
    broadcast = start("--queue", "64KiB", "--batch", "150", "file:out.ndjson")
    assert sender.wait(60) == 0 and broadcast.wait() == 0
    assert server.seqs() == list(range(3000))
    assert keys(server)[1] in keys(server)[2:]


def test_parts_of_a_long_frame_are_the_same_when_batches_are_smaller_after_a_restart(tools, serve, directory):
    second = threading.Event()
    server = serve(lambda number, *_: 200 if number == 1 or second.is_set() else "drop")
    (directory / "in.ndjson").write_bytes(ndjson({"seq": n} for n in range(2000)))
    link = f"ipc://{directory}/link"
    sender = tools.start("ingest", "in.ndjson", "--to", link, "--state", "sender", "--batch-size", "2000", "--flush", "1s")

    def start(batch):
        return tools.start("broadcast", server.url, "--from", link, "--state", "state", "--batch", str(batch))
    broadcast = start(600)
    wait_for(lambda: len(server.requests) > 1, "the second part")
    broadcast.kill()
    second.set()
    broadcast = start(100)
    assert sender.wait() == 0 and broadcast.wait() == 0
    assert server.seqs() == list(range(2000))


@pytest.mark.parametrize("state", [True, False])
def test_a_part_that_was_confirmed_is_not_sent_again(tools, serve, directory, state):
    """Frames of many parts, at a server that fails every third time: each part is confirmed or refused once."""
    def behave(number, key, body):
        return 503 if number % 3 == 0 else 422 if json.loads(body)[0]["seq"] % 7 == 0 else 200
    server = serve(behave)
    (directory / "in.ndjson").write_bytes(ndjson({"seq": n} for n in range(2000)))
    link = f"ipc://{directory}/link"
    sender = tools.start("ingest", "in.ndjson", "--to", link, "--state", "sender", "--batch-size", "200", "--flush", "1s")
    broadcast = tools.start("broadcast", server.url, "--batch", "20", "--from", link, "--dead-letter", "dead.ndjson", *(["--state", "state"] if state else []))
    assert sender.wait(60) == 0 and broadcast.wait() == 0
    answered = collections.Counter(headers["Idempotency-Key"] for n, (*_, headers, _) in enumerate(server.requests, 1) if n % 3)
    assert set(answered.values()) == {1}
    dead = [letter["event"]["seq"] for letter in lines_of(directory / "dead.ndjson")]
    assert dead and sorted(server.seqs() + dead) == list(range(2000))


def test_without_state_numbers_that_are_given_out_again_are_other_keys(tools, serve, directory):
    """The sender's power goes before it has synced: its next frame has the number of one that was sent, and holds more."""
    server, link, path = serve(), f"ipc://{directory}/link", directory / "in.ndjson"

    def start(boot):
        return tools.start("ingest", path, "--follow", "--to", link, "--state", "sender", "--sync-interval", "60s", env={"STREAM_BOOT_ID": boot})
    append(path, [{"seq": n} for n in range(5)])
    sender = start("1")
    tools.start("broadcast", server.url, "--from", link)
    wait_for(lambda: len(set(server.seqs())) == 5, "the first events")
    sender.kill()
    spool = directory / "sender/spool"
    cut_spool(spool, dict(line.split(" ", 1) for line in (spool / "synced").read_text().strip("\0\n ").splitlines() if " " in line))
    append(path, [{"seq": n} for n in range(5, 10)])
    start("2")
    wait_for(lambda: len(set(server.seqs())) == 10, "the others")
    assert len(server.taken) == len(server.requests)


@pytest.mark.parametrize("policy", ["drop_oldest", "drop_newest"])
def test_what_is_dropped_leaves_no_key_with_two_bodies(tools, serve, directory, policy):
    """A small queue before a server that fails: what was sent once is repeated whole or dropped whole."""
    rng, lock = random.Random(5), threading.Lock()

    def unreliable(*_):
        time.sleep(0.002)
        with lock:
            return rng.choice(["mute", "drop", 503, 200, 200])
    server = serve(unreliable)
    (directory / "in.ndjson").write_bytes(ndjson({"seq": n, "text": "x" * 100} for n in range(20000)))
    link = f"ipc://{directory}/link"
    sender = tools.start("ingest", "in.ndjson", "--to", link, "--state", "sender", "--batch-size", "20")
    broadcast = tools.start("broadcast", server.url, "--queue", "64KiB", "--on-full", policy, "--batch", "90", "--from", link, "--state", "state",
                            "--metrics", "metrics")
    assert sender.wait(60) == 0 and broadcast.wait(60) == 0, broadcast.err
    seqs = server.seqs()
    assert len(seqs) == len(set(seqs)) and seqs == sorted(seqs) and len(seqs) < 20000
    bodies = collections.defaultdict(set)
    for _, _, headers, body in server.requests:
        bodies[headers["Idempotency-Key"]].add(body)
    assert {len(of_key) for of_key in bodies.values()} == {1}


def memory(tool):
    """MiB, at most so far."""
    with open(f"/proc/{tool.pid}/status") as status:
        return int(re.search(r"VmHWM:\s+(\d+)", status.read()).group(1)) >> 10


def feed(path, out):
    """100 MB, not faster than they come out, so that what is not synced yet is little."""
    for n in range(0, 100_000, 5000):
        append(path, [{"n": i, "text": "x" * 1000} for i in range(n, n + 5000)])
        wait_for(lambda: link_support.lines(out) == n + 5000, "these readings")


def test_a_batch_that_waits_holds_nothing_of_the_others_in_memory(tools, directory):
    """One alert for a server that is away, and much behind it for a file."""
    link, path = f"ipc://{directory}/link", directory / "in.ndjson"
    path.touch()
    tools.start("ingest", path, "--follow", "--to", f"{link}1", "--state", "sender")
    tools.start("process", "alert first when n == 5", "--from", f"{link}1", "--to", f"{link}2", "--state", "process")
    broadcast = tools.start("broadcast", "file:out.ndjson?from=process", f"http://127.0.0.1:{support.free_port()}/#from=alerts", "--from", f"{link}2",
                            "--state", "state")
    feed(path, directory / "out.ndjson")
    assert memory(broadcast) < 64


@pytest.mark.parametrize("policy", ["drop_oldest", "drop_newest"])
def test_a_server_that_says_nothing_does_not_fill_the_memory_of_one_that_may_drop(tools, serve, directory, policy):
    stop = threading.Event()
    server = serve(lambda *_: stop.wait(60) and "drop")
    link, path = f"ipc://{directory}/link", directory / "in.ndjson"
    path.touch()
    tools.start("ingest", path, "--follow", "--to", link, "--state", "sender")
    broadcast = tools.start("broadcast", "file:out.ndjson", server.url + f"#on-full={policy}", "--from", link, "--state", "state")
    feed(path, directory / "out.ndjson")
    assert memory(broadcast) < 64
    stop.set()


@pytest.mark.limit(240)
@pytest.mark.parametrize("in_flight,seed", [(1, 1), (4, 2)])
def test_killed_and_without_power_at_random_the_server_sees_each_event_once(tools, serve, directory, in_flight, seed):
    """Sender and broadcast die in turn, the machine is started anew, and the server fails in every way: it has each event once by keys, or it is a
    dead letter."""
    rng, lock = random.Random(seed), threading.Lock()

    def unreliable(number, key, body):
        with lock:
            chance = rng.random()
        if json.loads(body)[0]["n"] % 7 == 0:           # these it never takes
            return 422 if chance < 0.7 else "drop"
        return "drop" if chance < 0.05 else "mute" if chance < 0.15 else 503 if chance < 0.2 else 200
    server = serve(unreliable)
    link = f"ipc://{directory}/link"

    def start(boot):
        env = {"STREAM_BOOT_ID": str(boot)}
        return (tools.start(link_support.PEER, "send", f"@{link}", "count=8000", "batch=20", "rate=4000", "sync_interval=20", f"spool={directory}/spool",
                            env=env),
                tools.start("broadcast", server.url, "--batch", "80", "--in-flight", str(in_flight), "--from", link, "--state", "state",
                            "--sync-interval", "20ms", "--dead-letter", "dead.ndjson", env=env))
    boot = 0
    sender, broadcast = start(boot)
    for n in range(40):
        time.sleep(rng.uniform(0.02, 0.2))
        if sender.process.poll() == 0:
            break
        boot += n % 3 == 2
        sender.kill()
        broadcast.kill()
        sender, broadcast = start(boot)
    assert sender.wait(90) == 0, sender.err
    assert broadcast.terminate() in (0, -signal.SIGTERM), broadcast.err
    assert not server.problems, server.problems
    taken = [event["n"] for _, body in server.taken for event in json.loads(body)]
    dead = [letter["event"]["n"] for letter in lines_of(directory / "dead.ndjson")]
    counted = collections.Counter(taken + dead)
    assert [n for n, count in counted.items() if count != 1] == []
    assert sorted(counted) == list(range(8000))
    if in_flight == 1:
        assert taken == sorted(taken)
