"""Links of senders with a durable log, and of receivers that know where they stood: both are killed at any moment, the power goes, and still every
event is there once and in order."""

import json
import os
import random
import shutil
import signal
import time

import msgpack
import pytest
import zmq

import support
from link_support import Foreign, PEER, disturb, pause, peer, read, report, statistics
from test_man_examples import example

COUNT = 40000
SMALL = {"count": COUNT}
LARGE = {"count": COUNT // 5, "batch": 20, "padding": 8000}     # frames that go around the page cache


@pytest.fixture
def address(directory):
    return f"ipc://{directory}/link"


def numbers(path):
    return [n for _, _, n, _ in read(path)]


def exact(path, count):
    found = numbers(path)
    expected = list(range(count)) + ["end"]
    at = next((i for i, (a, b) in enumerate(zip(found, expected)) if a != b), min(len(found), len(expected)))
    assert found == expected, f"{len(found)} of {len(expected)} entries; from position {at}: {found[at:at + 5]} instead of {expected[at:at + 5]}"


def sender(tools, directory, address, boot="first", name="log", **options):
    return tools.start(PEER, "send", address, f"spool={directory / name}", *[f"{k}={v}" for k, v in {"count": COUNT, "batch": 7, **options}.items()],
                       env={"STREAM_BOOT_ID": boot})


def receiver(tools, directory, address, out="out", **options):
    return peer(tools, "receive", address, directory / out, **{"state": 1, **options})


def mark(log):
    """What the sender knows to be synced."""
    text = (log / "synced").read_text() if (log / "synced").exists() else ""
    return {"segment": "-", "number": "0", **dict(line.split(" ", 1) for line in text.split("\n") if line)}


def cut_power(log):
    """Only what was synced is left."""
    at = mark(log)
    if at["segment"] == "-":
        for segment in log.glob("*.seg"):
            os.truncate(segment, 0)
        return
    for segment in log.glob("*.seg"):
        if segment.name > at["segment"]:
            segment.unlink()
    os.truncate(log / at["segment"], int(at["length"]))


@pytest.mark.parametrize("size", [SMALL, LARGE], ids=["small", "large"])
@pytest.mark.parametrize("killed", ["sender", "receiver", "both"])
@pytest.mark.parametrize("binds", ["sender", "receiver"])
def test_killed_at_any_moment(tools, directory, address, killed, binds, size):
    rng = random.Random(f"{killed} {binds}")
    to, source = ("@" + address, ">" + address) if binds == "sender" else (">" + address, "@" + address)
    start = {"sender": lambda: sender(tools, directory, to, rate=size["count"] // 2, sync_interval=20, **size),
             "receiver": lambda: receiver(tools, directory, source, durable_every=rng.choice([1, 20]))}
    running = {who: begin() for who, begin in start.items()}
    for _ in range(12):
        time.sleep(rng.uniform(0.01, 0.3))
        for who in [killed] if killed != "both" else rng.choice([["sender"], ["receiver"], ["sender", "receiver"]]):
            running[who].kill()
            running[who] = start[who]()
    assert running["sender"].wait() == 0 and running["receiver"].wait() == 0
    exact(directory / "out", size["count"])


def test_stopped_and_continued(tools, directory, address):
    both = [sender(tools, directory, address, rate=COUNT), receiver(tools, directory, address)]
    for seed, tool in enumerate(both):
        disturb(tool, 1.5, seed)
    assert [tool.wait() for tool in both] == [0, 0]
    exact(directory / "out", COUNT)


def test_backlog_is_sent_from_disk_without_filling_memory(tools, directory, address):
    """Nobody listens at first: 40 MB wait on disk, and the sender stays small."""
    source = sender(tools, directory, address, count=20000, batch=50, padding=2000)
    support.wait_for(lambda: mark(directory / "log")["number"] == "401", "all to be written", 60)
    status = open(f"/proc/{source.pid}/status").read()
    assert int(status.split("RssAnon:")[1].split()[0]) < (16 if support.PATIENCE == 1 else 128) * 1024
    sink = receiver(tools, directory, address)
    assert source.wait() == 0 and sink.wait() == 0
    exact(directory / "out", 20000)
    assert report(source)["resent"] == 0


def test_restarted_sender_does_not_send_again_what_the_receiver_has(tools, directory, address):
    first = sender(tools, directory, address, count=10000, stay=1)
    sink = receiver(tools, directory, address, durable_every=1000000)
    support.wait_for(lambda: len(numbers(directory / "out")) == 10000, "all of it")
    time.sleep(0.3)     # the acknowledgement of the last
    first.kill()
    second = sender(tools, directory, address, count=10010)
    assert second.wait() == 0 and sink.wait() == 0
    exact(directory / "out", 10010)
    assert report(sink)["repeats"] < 100        # what was under way until the first acknowledgement


def test_new_receiver_without_memory_begins_with_what_is_not_durable(tools, directory, address):
    source = sender(tools, directory, address, count=5000, batch=1, stay=1)
    first = receiver(tools, directory, address, state=0, durable_every=100)
    support.wait_for(lambda: len(numbers(directory / "out")) == 5000, "all of it")
    support.wait_for(lambda: statistics(source)["outstanding_frames"] == 0, "all to be acknowledged")
    first.kill()
    second = receiver(tools, directory, address, "again", state=0)
    time.sleep(1)
    assert numbers(directory / "again") == []           # 5000 is a multiple of 100
    second.kill()
    source.terminate()


@pytest.mark.parametrize("size", [SMALL, LARGE], ids=["small", "large"])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_power_cuts_take_nothing_from_a_receiver_that_keeps_what_is_stable(tools, directory, address, seed, size):
    rng = random.Random(seed)
    count = size["count"]
    sink = receiver(tools, directory, address, stable=1)
    backs = 0
    for turn in range(6):
        source = sender(tools, directory, address, boot=f"boot{turn}", rate=count // 2, sync_interval=rng.choice([30, 300]), **size)
        time.sleep(rng.uniform(0.2, 0.5))
        source.kill()
        if rng.random() < 0.3:
            sink.kill()
            sink = receiver(tools, directory, address, stable=1)
        cut_power(directory / "log")
    last = sender(tools, directory, address, boot="last", **size)
    assert last.wait() == 0 and sink.wait() == 0
    exact(directory / "out", count)


def test_a_receiver_that_keeps_what_is_stable_does_not_leave_before_the_end_is(tools, directory):
    """The sender's disk has the last frames and the end later than what is before them."""
    sink = receiver(tools, directory, f"ipc://{directory}/link", stable=1)
    source = Foreign(directory / "link")
    for q in (1, 2, 3):
        source.frame(q, s=0)
    source.frame(4, s=0, end=True)
    source.until(lambda ack: ack.get("received") == 4)
    source.frame(0, topic="stable", s=2, l=0)
    source.until(lambda ack: ack.get("durable") == 2)
    source.frame(0, topic="stable", s=4, l=0)
    source.until(lambda ack: ack.get("durable") == 4)
    source.frame(0, topic="bye", l=0, bye=1)
    assert sink.wait() == 0 and numbers(directory / "out") == [1, 2, 3, 4, "end"]
    source.close()


def test_what_was_taken_back_is_told(tools, directory, address):
    """The receiver has frames that the sender has lost: it goes back, and takes what comes in their place."""
    sink = receiver(tools, directory, address, stable=1)
    source = sender(tools, directory, address, count=3000, sync_interval=3600000, rate=30000, stay=1)
    support.wait_for(lambda: statistics(sink)["events"] > 1000, "events")
    assert numbers(directory / "out") == []             # nothing is stable
    source.kill()
    cut_power(directory / "log")
    again = sender(tools, directory, address, boot="second", count=3000)
    assert again.wait() == 0 and sink.wait() == 0
    exact(directory / "out", 3000)
    assert "taken back" in sink.err


def test_a_receiver_that_wrote_what_was_not_stable_is_told_so_and_goes_on(tools, directory, address):
    sink = receiver(tools, directory, address)          # stable=0
    source = sender(tools, directory, address, count=3000, sync_interval=3600000, rate=30000, stay=1)
    support.wait_for(lambda: len(numbers(directory / "out")) > 1000, "events")
    source.kill()
    cut_power(directory / "log")
    again = sender(tools, directory, address, boot="second", count=5000)
    assert again.wait() == 0 and sink.wait() == 0
    assert "has lost its last" in sink.err
    assert set(numbers(directory / "out")) == set(range(5000)) | {"end"}     # some are there twice


@pytest.mark.parametrize("key", ["", "&key=k"])
def test_partitions_over_restarts(tools, directory, address, key):
    rng = random.Random(key)
    sinks = [receiver(tools, directory, f"{address}?partition={k}", f"out{k}") for k in range(3)]
    start = lambda: sender(tools, directory, f"{address}?partitions=3{key}", rate=COUNT // 2)
    source = start()
    for _ in range(6):
        time.sleep(rng.uniform(0.1, 0.4))
        source.kill()
        source = start()
        k = rng.randrange(3)
        sinks[k].kill()
        sinks[k] = receiver(tools, directory, f"{address}?partition={k}", f"out{k}")
    assert source.wait() == 0 and [sink.wait() for sink in sinks] == [0] * 3
    found = [read(directory / f"out{k}") for k in range(3)]
    everything = []
    for lines in found:
        assert lines[-1][2] == "end"
        mine = [n for _, _, n, _ in lines[:-1]]
        assert mine == sorted(set(mine)) and len(mine) > COUNT / 20
        everything += mine
    assert sorted(everything) == list(range(COUNT))
    if key:
        keys = [{k for _, _, n, k in lines if n != "end"} for lines in found]
        assert not keys[0] & keys[1] and not keys[1] & keys[2] and not keys[0] & keys[2]


def test_paused_receiver_holds_and_hears_what_is_stable(tools, directory, address):
    """Frames that were delivered before the pause become stable during it, and are written then."""
    sink = receiver(tools, directory, address, stable=1)
    source = sender(tools, directory, address, count=100, batch=1, sync_interval=int(4000 * support.PATIENCE), stay=1)
    support.wait_for(lambda: statistics(sink)["events"] == 100, "the events")
    pause(sink)
    assert numbers(directory / "out") == []
    support.wait_for(lambda: numbers(directory / "out") == list(range(100)), "what is stable")
    sink.signal(signal.SIGUSR2)
    source.kill()


def test_paused_again_and_again(tools, directory, address):
    sink = receiver(tools, directory, address)
    source = sender(tools, directory, address, rate=COUNT // 3, padding=500)
    rng = random.Random(4)
    support.wait_for(lambda: numbers(directory / "out"), "events")
    while source.running and sink.running and len(numbers(directory / "out")) < COUNT * 0.9:
        sink.signal(signal.SIGUSR1)
        time.sleep(rng.uniform(0.01, 0.5))
        sink.signal(signal.SIGUSR2)
        time.sleep(rng.uniform(0.01, 0.2))
    assert source.wait() == 0 and sink.wait() == 0
    exact(directory / "out", COUNT)
    assert report(source)["resent"] == 0 and report(sink)["gaps"] == 0


@pytest.mark.parametrize("log", [True, False])
def test_frames_that_are_refused_come_again(tools, directory, address, log):
    sink = receiver(tools, directory, address, state=int(log), refuse=50)
    if log:
        source = sender(tools, directory, address, count=20000)
    else:
        source = peer(tools, "send", address, count=20000, batch=7)
    assert source.wait() == 0 and sink.wait() == 0
    exact(directory / "out", 20000)


def test_a_log_that_fills_tells_the_receiver_to_hurry(tools, directory, address):
    sink = receiver(tools, directory, address, durable_every=1000000)
    source = sender(tools, directory, address, count=100000, batch=100, padding=500, limit=8 << 20, sync_interval=20)
    support.wait_for(lambda: statistics(sink)["hurries"], "the wish", 60)
    sink.terminate()
    assert report(sink)["hurries"] > 0
    source.kill()


def test_terminated_sender_leaves_what_is_not_delivered_for_the_next(tools, directory, address):
    source = sender(tools, directory, address, count=20000, rate=20000)
    time.sleep(0.5)
    assert source.terminate() == 0                      # nobody is there to deliver to
    again = sender(tools, directory, address, count=20000)
    sink = receiver(tools, directory, address)
    assert again.wait() == 0 and sink.wait() == 0
    exact(directory / "out", 20000)


def test_a_log_that_was_put_back_is_told_and_does_no_harm(tools, directory, address):
    """The receiver has more than the log, in the same epoch: an older copy of it. That cannot be made good, but it is said."""
    first = sender(tools, directory, address, count=1000, stay=1)
    sink = receiver(tools, directory, address)
    support.wait_for(lambda: len(numbers(directory / "out")) > 100, "events")
    support.wait_for(lambda: len(numbers(directory / "out")) == 1000, "all")
    first.kill()
    shutil.copytree(directory / "log", directory / "copy")
    first = sender(tools, directory, address, count=2000, stay=1)
    support.wait_for(lambda: len(numbers(directory / "out")) == 2000, "all")
    first.kill()
    old = sender(tools, directory, address, name="copy", count=1000, stay=1)
    support.wait_for(lambda: "the durable log ends with" in old.err, "the message")
    assert sink.running and numbers(directory / "out") == list(range(2000))


# ---- a sender that is not ours ----

@pytest.fixture
def foreign(directory):
    made = []

    def make():
        made.append(Foreign(directory / "link"))
        return made[-1]
    yield make
    for f in made:
        f.close()


def test_hostile_words_of_a_log(tools, directory, address, foreign):
    sink = receiver(tools, directory, address, stable=1)
    sender = foreign()
    sender.frame(1, s=2**64 - 1)                        # beyond what was ever sent: it holds for what comes, and nothing more
    sender.frame(2, s=5, h=True, c=[7, 2**64 - 1])
    for wrong in ([1], [1, 2] * 17, "x", [-1, 2], [[1, 2]], {}):
        sender.frame(3, c=wrong)
    for wrong in (-1, "x", None, 1.5):
        sender.frame(3, s=wrong)
    sender.frame(3, h=1)
    for wrong in ("x", [1], [["x"]], ["x" * 193], ["a\nb"], ["x"] * 9, {}):
        sender.frame(3, replaces=wrong)
    sender.frame(0, topic="stable", s=3, l=0, replaces=["foreign", "nobody", ""])            # itself is not gone
    sender.frame(0, topic="stable", s=3, l=0)
    sender.frame(0, topic="stable", l=0)                # no s: neither frame nor notice
    sender.frame(0, topic="numbers", s=3, n=0, l=0, o="")
    sender.frame(3, s=3)
    sender.until(lambda ack: ack.get("received") == 3)
    sender.frame(0, topic="stable", s=0, l=0)           # back: ignored
    sender.frame(4, s=0, end=True)
    sender.until(lambda ack: ack.get("durable") == 4)
    sender.frame(0, topic="bye", l=0, bye=1)
    assert sink.wait() == 0
    assert numbers(directory / "out") == [1, 2, 3, 4, "end"]
    assert report(sink)["malformed"] == 20


def test_epochs_that_continue(tools, directory, address, foreign):
    sink = receiver(tools, directory, address, stable=1)
    sender = foreign()
    for q in (1, 2, 3):
        sender.frame(q, s=2)
    sender.until(lambda ack: ack.get("durable") == 2 and ack["received"] == 3)
    sender.frame(4, e=2, s=2, c=[1, 3])                 # all of ours is kept
    assert sender.until(lambda ack: ack.get("e") == 2 and ack["received"] == 4)["durable"] == 2
    sender.frame(5, e=1, s=5)                           # a straggler
    sender.frame(5, e=4, s=4, c=[3, 5, 2, 4, 1, 3])     # an epoch that we never saw is in between
    sender.until(lambda ack: ack.get("e") == 4 and ack["received"] == 5 and ack["durable"] == 4)
    sender.frame(5, e=5, n=50, s=4, c=[4, 4])           # takes back frame 5
    support.wait_for(lambda: "taken back" in sink.err, "the receiver to go back")
    sender.me = sender.until(lambda ack: ack["r"] != sender.me)["r"]
    sender.frame(5, e=5, n=50, s=5, c=[4, 4], end=True)
    sender.until(lambda ack: ack.get("e") == 5 and ack["durable"] == 5)
    sender.frame(0, e=5, topic="bye", l=0, bye=1)
    assert sink.wait() == 0
    assert numbers(directory / "out") == [1, 2, 3, 4, 50, "end"]


def test_more_epochs_than_are_named_take_back_all_that_is_not_stable(tools, directory, address, foreign):
    """The sender lost its power seventeen times while nobody heard it: how much of ours it has is not said any more. It had lost frame 3 the first time."""
    sink = receiver(tools, directory, address, stable=1)
    sender = foreign()
    for q in (1, 2, 3):
        sender.frame(q, s=2)
    sender.until(lambda ack: ack.get("durable") == 2 and ack["received"] == 3)
    named = [number for epoch in range(17, 1, -1) for number in (epoch, epoch + 1)]          # the last pair is [2, 3]; that of epoch 1, [1, 2], is gone
    sender.frame(4, e=18, s=3, c=named)
    support.wait_for(lambda: "taken back" in sink.err, "the receiver to go back")
    sender.me = sender.until(lambda ack: ack["r"] != sender.me)["r"]
    sender.frame(3, e=18, n=30, s=4, c=named)
    sender.frame(4, e=18, s=4, c=named, end=True)
    sender.until(lambda ack: ack.get("e") == 18 and ack["durable"] == 4)
    sender.frame(0, e=18, topic="bye", l=0, bye=1)
    assert sink.wait() == 0
    assert numbers(directory / "out") == [1, 2, 30, 4, "end"]


def test_notice_alone_takes_back(tools, directory, address, foreign):
    """A sender that lost all that it had not synced, and has nothing to send, says so all the same."""
    sink = receiver(tools, directory, address, stable=1)
    sender = foreign()
    for q in (1, 2, 3):
        sender.frame(q, s=1)
    sender.until(lambda ack: ack.get("received") == 3)
    sender.frame(0, e=2, topic="stable", s=1, l=0, c=[1, 1])
    support.wait_for(lambda: "taken back" in sink.err, "the receiver to go back")
    assert sender.until(lambda ack: ack["r"] != sender.me and ack.get("received") is not None)["received"] == 1
    assert numbers(directory / "out") == [1]


def test_a_stage_that_was_asked_to_leave_does_so_although_it_has_to_start_over(tools, directory, address, foreign):
    """Its last snapshot waits for what its sender has not synced; the sender loses just that, so the stage goes back first."""
    stage = tools.start("process", "", "--from", address, "--to", f"ipc://{directory}/behind", "--state", directory / "state")
    sender = foreign()
    for q in (1, 2, 3):
        sender.frame(q, s=1)
    sender.until(lambda ack: ack.get("received") == 3)
    stage.signal(signal.SIGTERM)
    sender.until(lambda ack: ack.get("paused"))
    assert stage.running
    sender.frame(0, e=2, topic="stable", s=1, l=0, c=[1, 1])
    assert stage.wait() == 0
    assert "starts over" in stage.err


def test_flood_while_paused_is_bounded(tools, directory, address, foreign):
    """A sender without manners does not fill a paused receiver: neither with small frames nor with large ones."""
    sink = receiver(tools, directory, address, out="none", state=0)
    sender = foreign()
    sender.frame(1)
    sender.until(lambda ack: ack.get("received") == 1)
    sink.signal(signal.SIGUSR1)
    sender.until(lambda ack: ack.get("paused"))
    sender.data.sndhwm = 10
    body = b"\x92\xd7\x00" + bytes(8) + msgpack.packb({"n": 1, "k": "x" * 1000000})
    sent, end = 1, time.monotonic() + 3
    while time.monotonic() < end:
        header = {"v": 1, "o": "foreign", "e": 1, "q": sent + 1, "l": 1, "n": 1, "t": 0, "r": sender.me, "s": 1}
        try:
            sender.data.send_multipart([b"numbers", msgpack.packb(header), body], zmq.NOBLOCK)
            sent += 1
        except zmq.Again:
            time.sleep(0.01)
    status = open(f"/proc/{sink.pid}/status").read()
    assert int(status.split("VmRSS:")[1].split()[0]) < 80 * 1024
    sink.signal(signal.SIGUSR2)
    sender.until(lambda ack: ack.get("received", 0) > 4)


def test_the_man_pages_receiver_follows_a_log(tools, directory, address):
    """Over a restart, and over a power cut that took nothing."""
    program, out = directory / "receive.py", directory / "printed"
    program.write_text(example("stream-link.7", "prints what a link brings"))
    with open(out, "wb") as printed:
        sink = tools.start("/usr/bin/python3", program, address, stdout=printed)
    printed_numbers = lambda: [json.loads(line.split(" ", 2)[2])["n"] for line in support.whole(out).decode().split("\n") if line]
    source = sender(tools, directory, address, count=1000, stay=1)
    support.wait_for(lambda: len(printed_numbers()) == 1000, "events")
    source.kill()
    source = sender(tools, directory, address, count=2000, stay=1, sync_interval=10)
    support.wait_for(lambda: len(printed_numbers()) == 2000, "events")
    support.wait_for(lambda: mark(directory / "log")["number"] == "286", "all to be synced")
    source.kill()
    source = sender(tools, directory, address, boot="second", count=3000)
    assert source.wait() == 0 and sink.wait(30) == 0
    assert printed_numbers() == list(range(3000))
