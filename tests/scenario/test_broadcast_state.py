"""broadcast --state: files hold every event exactly once, in order, wherever broadcast is killed, and when the machine has been started anew
since. The sender (ingest) lives on and keeps what is not acknowledged."""

import itertools
import os
import json
import random
import signal
import sqlite3
import subprocess
import time

import pytest

import link_support
import support
from support import lines_of, sensor_lines, wait_for

EVENTS = 600


@pytest.fixture(scope="module")
def crash_points(tmp_path_factory):
    """The library that kills at a chosen call."""
    if "asan" in str(support.BIN):
        pytest.skip("LD_PRELOAD does not go together with the sanitizers")
    library = tmp_path_factory.mktemp("crash") / "crash_points.so"
    source = support.ROOT / "tests/scenario/crash_points.c"
    subprocess.run(["gcc", "-shared", "-fPIC", "-O1", "-o", library, source, "-ldl"], check=True)
    return library


class World:
    """A sender of known events, and a broadcast that can be killed and started again."""

    def __init__(self, tools, directory, *sinks, events=EVENTS, options=()):
        self.tools, self.directory, self.sinks, self.options, self.count = tools, directory, sinks, options, events
        self.link = f"ipc://{directory}/link"
        (directory / "in.ndjson").write_bytes(support.ndjson(sensor_lines(events)))
        self.sender = tools.start("ingest", "in.ndjson", "--to", f"@{self.link}", "--batch-size", "20", "--name", "sensors")

    def start(self, env=None, options=()):
        return self.tools.start("broadcast", *self.sinks, "--from", self.link, "--state", "state", "--dead-letter", "dead.ndjson",
                                *self.options, *options, env=env)

    def finish(self, env=None):
        """Lives until all is delivered: until the sender has been told so and has left. It may have been so before."""
        if not self.sender.running:
            return None
        broadcast = self.start(env)
        wait_for(lambda: not self.sender.running or not broadcast.running, "the sender to be told that it can leave", 30)
        assert self.sender.wait() == 0, self.sender.err
        # It may have only just begun. A sender whose farewell was missed is waited for until --drain-limit, 30 s.
        assert broadcast.terminate(60) in (0, -signal.SIGTERM), broadcast.err
        return broadcast

    def rotated(self, name="out.ndjson"):
        """Events of the file and its predecessors, oldest first."""
        old = sorted(self.directory.glob(f"{name}.*"), key=lambda p: -int(p.suffix[1:]))
        return [event["seq"] for path in [*old, self.directory / name] if path.exists() for event in lines_of(path)]


def check_rotation(world):
    assert world.rotated() == list(range(world.count))


def check_deletion(world):
    kept = world.rotated()
    assert kept == list(range(kept[0], world.count))
    assert len(list(world.directory.glob("out.ndjson*"))) <= 3


def check_templates(world):
    for kind in ("a", "b"):
        assert [e["seq"] for e in lines_of(world.directory / f"{kind}/sensors.ndjson")] == list(range(world.count))


def check_sqlite(world):
    with sqlite3.connect(world.directory / "out.db") as database:
        assert database.execute("select seq from events order by rowid").fetchall() == [(n,) for n in range(world.count)]


SINKS = {
    "rotation": (["file:out.ndjson?rotate-size=8KiB&keep=100"], check_rotation),
    "deletion": (["file:out.ndjson?rotate-size=8KiB&keep=2"], check_deletion),
    "templates": (["file:a/{stream}.ndjson", "file:b/{stream}.ndjson"], check_templates),
    "sqlite": (["sqlite:out.db"], check_sqlite),
}


def calls_of_a_quiet_run(tools, directory, library, sinks):
    """How many steps and writes there are to be killed at."""
    place = directory / "quiet"
    place.mkdir()
    counted = tools.start("true", cwd=place)
    world = World.__new__(World)
    world.tools, world.directory, world.count = tools, place, EVENTS
    (place / "in.ndjson").write_bytes(support.ndjson(sensor_lines(EVENTS)))
    link = f"ipc://{place}/link"
    sender = tools.start("ingest", "in.ndjson", "--to", f"@{link}", "--batch-size", "20", "--name", "sensors", cwd=place)
    done = tools.start("broadcast", *sinks, "--from", link, "--state", "state", cwd=place,
                       env={"LD_PRELOAD": str(library), "CRASH_COUNT": str(place / "count")})
    assert done.wait() == 0 and sender.wait() == 0 and counted.wait() == 0, done.err
    return [int(n) for n in (place / "count").read_text().split()]


def some(total, most, rng):
    return range(1, total + 1) if total <= most else sorted(rng.sample(range(1, total + 1), most))


@pytest.mark.limit(600)
@pytest.mark.parametrize("case", SINKS)
def test_killed_at_every_step(tools, directory, crash_points, case):
    sinks, check = SINKS[case]
    steps, writes = calls_of_a_quiet_run(tools, directory, crash_points, sinks)
    assert steps > 5 and writes > 2
    rng = random.Random(case)
    points = [("steps", n, how) for n in some(steps, 20, rng) for how in ("before", "after")]
    points += [("writes", n, how) for n in some(writes, 8, rng) for how in ("before", "half", "after")]
    killed = 0
    for number, (kind, at, how) in enumerate(points):
        place = directory / str(number)
        place.mkdir()
        local = support.Tools(place)
        world = World(local, place, *sinks)
        victim = world.start({"LD_PRELOAD": str(crash_points), "CRASH_KIND": kind, "CRASH_AT": str(at), "CRASH_HOW": how})
        victim.ended_by_us = True
        killed += victim.wait() == -signal.SIGKILL
        try:
            if victim.process.returncode:
                # Every third time the machine was started anew as well.
                world.finish({"STREAM_BOOT_ID": "another"} if number % 3 == 2 else None)
            check(world)
        except Exception as error:
            raise AssertionError(f"killed {how} call {at} of the {kind}") from error
        finally:
            assert not local.finish()
    assert killed > len(points) / 2


def kill_at_random(world, check, rng, kills=25, env=lambda n: None):
    for n in range(kills):
        broadcast = world.start(env(n))
        time.sleep(rng.uniform(0, 0.06))
        broadcast.kill()
    world.finish(env(kills))
    check(world)


@pytest.mark.parametrize("sync", ["none", "interval", "always"])
def test_killed_at_random(tools, directory, sync):
    world = World(tools, directory, "file:out.ndjson?rotate-size=256KiB&keep=100", "sqlite:out.db", "null:", events=30000,
                  options=["--sync", sync, *(["--sync-interval", "5ms"] if sync == "interval" else [])])
    kill_at_random(world, lambda w: (check_rotation(w), check_sqlite(w)), random.Random(sync))


@pytest.mark.parametrize("sync", ["interval", "always"])
def test_the_machine_is_started_anew_each_time(tools, directory, sync):
    """Only what was synced counts then: files are cut back further, and the sender still has the rest."""
    world = World(tools, directory, "file:out.ndjson?rotate-size=256KiB&keep=100", "sqlite:out.db", events=30000,
                  options=["--sync", sync, *(["--sync-interval", "5ms"] if sync == "interval" else [])])
    kill_at_random(world, lambda w: (check_rotation(w), check_sqlite(w)), random.Random(sync), env=lambda n: {"STREAM_BOOT_ID": f"boot {n}"})


def test_terminated_and_started_again(tools, directory):
    world = World(tools, directory, "file:out.ndjson", events=30000)
    path = directory / "out.ndjson"
    for _ in range(5):
        size = path.stat().st_size if path.exists() else 0
        broadcast = world.start()
        wait_for(lambda: not world.sender.running or path.exists() and path.stat().st_size > size, "more to be written")
        if not world.sender.running:
            break
        assert broadcast.terminate() == 0, broadcast.err
    world.finish()
    check_rotation(world)


def test_killed_when_all_has_ended_it_ends_once_more(tools, directory):
    """Nobody is there any more who could say that all has ended. After an orderly end the next run is a new one, which waits for senders."""
    start = lambda: tools.start("broadcast", "file:out.ndjson", "--from", f"ipc://{directory}/link", "--state", "state")
    broadcast = start()
    sender = link_support.Foreign(directory / "link")
    try:
        sender.frame(1, l=1)
        sender.frame(2, end=True)
        sender.until(lambda ack: ack.get("durable") == 2)
        broadcast.kill()
    finally:
        sender.close()
    assert start().wait() == 0
    again = start()
    sender = link_support.Foreign(directory / "link")
    try:
        sender.frame(1, e=2, n=3, l=1)
        sender.frame(2, e=2, n=4, end=True)
        sender.until(lambda ack: ack.get("e") == 2 and ack.get("durable") == 2)
        sender.frame(0, e=2, topic="bye", l=0, bye=1)
        assert again.wait() == 0
    finally:
        sender.close()
    assert [event["n"] for event in lines_of(directory / "out.ndjson")] == [1, 2, 3, 4]


def test_what_a_crash_left_behind_is_cut_off(tools, directory):
    """Text behind the recorded length is what the progress does not know: it comes again."""
    world = World(tools, directory, "file:out.ndjson", events=100)
    world.finish()
    with open(directory / "out.ndjson", "a") as file:
        file.write('{"seq":100,"half')
    again = World(tools, directory, "file:out.ndjson", events=100)
    done = again.finish()
    assert "cut back" in done.err
    assert [e["seq"] for e in lines_of(directory / "out.ndjson")] == list(range(100)) * 2


def test_a_sink_that_is_added_begins_where_the_others_are(tools, directory):
    world = World(tools, directory, "file:one.ndjson", events=50)
    world.finish()
    world = World(tools, directory, "file:one.ndjson", "file:two.ndjson", events=50)
    world.finish()
    assert len(lines_of(directory / "one.ndjson")) == 100
    assert len(lines_of(directory / "two.ndjson")) == 50


def test_a_slow_sink_keeps_what_the_others_have_already(tools, directory):
    """A sink that fails for good holds back the acknowledgement. Killed and started again, the others get nothing twice."""
    world = World(tools, directory, "file:out.ndjson", "file:/dev/full?name=stuck", events=500)
    for _ in range(3):
        broadcast = world.start()
        wait_for(lambda: (directory / "out.ndjson").exists() and (directory / "out.ndjson").read_bytes().count(b"\n") == 500, "the good sink")
        broadcast.wait_err("sink stuck: .*No space left on device")
        broadcast.kill()
        assert len(lines_of(directory / "out.ndjson")) == 500
    assert world.sender.running        # it keeps what the stuck sink has not taken
    world.sinks = ("file:out.ndjson",)
    world.finish()
    check_rotation(world)


def test_a_file_at_its_limit_is_waited_for_over_a_restart(tools, directory):
    world = World(tools, directory, "file:out.ndjson", events=20000)
    limited = ["prlimit", "--fsize=80000", support.tool_path("broadcast"), "file:out.ndjson", "--from", world.link, "--state", "state"]
    for _ in range(2):
        broadcast = tools.start(*limited)
        broadcast.wait_err("File too large; trying again")
        assert (directory / "out.ndjson").stat().st_size <= 80000
        broadcast.kill()
    world.finish()
    check_rotation(world)


def test_a_full_disk_is_waited_for_also_by_one_that_is_started_on_it(tools, directory):
    small = directory / "small"
    small.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", small], capture_output=True).returncode:
        pytest.skip("needs a small file system, which only root can make")
    try:
        world = World(tools, directory, "file:small/out.ndjson?rotate-size=1MiB&keep=100", "sqlite:small/out.db", events=60000)
        options = ["--state", "small/state"]
        (small / "fill").write_bytes(bytes(1400000))
        for n in range(3):
            broadcast = world.start(options=options)
            broadcast.wait_err("No space left on device; trying again" if n == 0 else "trying again")
            assert broadcast.running
            broadcast.kill()
        broadcast = world.start(options=options)
        broadcast.wait_err("trying again")
        subprocess.run(["mount", "-o", "remount,size=60m", small], check=True)
        assert broadcast.wait(60) == 0, broadcast.err
        assert world.sender.wait() == 0
        assert world.rotated("small/out.ndjson") == list(range(60000))
        with sqlite3.connect(small / "out.db") as database:
            assert database.execute("select seq from events order by rowid").fetchall() == [(n,) for n in range(60000)]
    finally:
        subprocess.run(["umount", "-l", small], check=True)


def test_csv_has_one_header_whatever_happens(tools, directory):
    world = World(tools, directory, "file:out.csv", events=20000)

    def check(world):
        rows = (directory / "out.csv").read_text().splitlines()
        assert rows[0].startswith("ts,")
        assert [int(row.rsplit(",", 1)[1]) for row in rows[1:]] == list(range(20000))
    kill_at_random(world, check, random.Random(5))




def test_a_sinks_own_side_input(tools, directory):
    """What comes by a side input goes to its sink only, and is not published."""
    world = World(tools, directory, "file:one.ndjson?replay=ipc://side", "file:two.ndjson", events=10)
    side = f"ipc://{directory}/side"
    (directory / "again.ndjson").write_bytes(support.ndjson([{"seq": 1000 + n} for n in range(5)]))
    resend = tools.start("ingest", "again.ndjson", "--to", f"@{side}")
    world.sinks = (f"file:one.ndjson?replay={side}", "file:two.ndjson")
    broadcast = world.start(options=["--side", side, "--stay"])
    wait_for(lambda: (directory / "one.ndjson").exists() and (directory / "one.ndjson").read_bytes().count(b"\n") == 15, "both inputs")
    assert resend.wait() == 0 and world.sender.wait() == 0
    assert broadcast.terminate() == 0, broadcast.err
    assert sorted(e["seq"] for e in lines_of(directory / "one.ndjson")) == [*range(10), *range(1000, 1005)]
    assert [e["seq"] for e in lines_of(directory / "two.ndjson")] == list(range(10))


def test_a_side_input_of_all_sinks(tools, directory):
    """As a source's text that is read again."""
    world = World(tools, directory, "file:one.ndjson", "file:two.ndjson", events=10)
    side = f"ipc://{directory}/side"
    (directory / "again.ndjson").write_bytes(support.ndjson([{"seq": 1000 + n} for n in range(5)]))
    resend = tools.start("ingest", "again.ndjson", "--to", f"@{side}")
    broadcast = world.start(options=["--side", side, "--stay"])
    for name in ("one.ndjson", "two.ndjson"):
        path = directory / name
        wait_for(lambda: path.exists() and path.read_bytes().count(b"\n") == 15, "both inputs")
        assert sorted(e["seq"] for e in lines_of(path)) == [*range(10), *range(1000, 1005)]
    assert resend.wait() == 0 and world.sender.wait() == 0
    assert broadcast.terminate() == 0, broadcast.err


def test_a_sinks_own_side_input_is_a_side_input(tools):
    done = tools.run("broadcast", "null:?replay=ipc:///tmp/nowhere", "--state", "state")
    assert done.status == 64 and "none of the --side inputs" in done.err


def test_reset_begins_anew(tools, directory):
    World(tools, directory, "file:out.ndjson", events=20).finish()
    with open(directory / "out.ndjson", "a") as file:
        file.write('{"seq":20}\n')
    world = World(tools, directory, "file:out.ndjson", events=20)
    broadcast = world.start(options=["--reset"])
    assert broadcast.wait() == 0, broadcast.err
    assert len(lines_of(directory / "out.ndjson")) == 41     # nothing was cut back: nothing is known of the file


def test_damaged_progress_is_said(tools, directory):
    World(tools, directory, "file:out.ndjson", events=20).finish()
    with open(directory / "state/progress", "r+b") as file:
        file.write(b"garbage!")
    done = tools.run("broadcast", "file:out.ndjson", "--from", f"ipc://{directory}/link", "--state", "state")
    assert done.status == 1
    assert "--reset" in done.err


def test_a_signal_ends_the_wait_for_a_sender_that_has_gone(tools, directory):
    """One with a durable log that goes without goodbye will most likely come back and ask: but nobody is waited for who was told to leave."""
    broadcast = tools.start("broadcast", "file:out.ndjson", "--from", f">ipc://{directory}/link", "--state", "state", "--sync-interval", "10ms",
                            "--drain-limit", "1h")
    sender = link_support.Foreign(directory / "link")
    sender.frame(1, s=1)
    sender.frame(2, s=2, end=True)
    sender.until(lambda ack: ack.get("durable") == 2)
    sender.close()
    assert broadcast.terminate(15) == 0, broadcast.err
    assert [event["n"] for event in lines_of(directory / "out.ndjson")] == [1, 2]


def last_ledger(directory):
    """What the stage wrote when it left in order."""
    return json.loads((directory / "state/ledger").read_text())


def test_the_ledger_survives_kills(tools, directory):
    """Every event is counted once, whatever was delivered before a kill and came again after it; dead ones too, each by one letter."""
    connection = sqlite3.connect(directory / "out.db")
    connection.executescript("create table events (seq integer check (seq % 5 != 3))")
    connection.close()
    world = World(tools, directory, "file:out.ndjson", "sqlite:out.db", "file:none.ndjson?from=nothing", events=20000)
    rng = random.Random(7)
    for _ in range(20):
        broadcast = world.start()
        time.sleep(rng.uniform(0, 0.06))
        broadcast.kill()
    world.finish()
    broadcast = world.start(options=["--metrics", "metrics", "--stay"])
    wait_for((directory / "metrics").exists, "the start")
    assert broadcast.terminate() == 0
    ledger = last_ledger(directory)
    assert ledger == {**ledger, "in": 20000, "out": 16000, "dead": 4000, "held": 0, "filtered": 0, "dropped": 0}
    assert [letter["event"]["seq"] for letter in lines_of(directory / "dead.ndjson")] == [n for n in range(20000) if n % 5 == 3]
    assert len(lines_of(directory / "out.ndjson")) == 20000


class DurableWorld:
    """A sender with a durable log, which is killed as well."""

    def __init__(self, tools, directory, count, *sinks, sync=20):
        self.tools, self.directory, self.count, self.sinks, self.sync = tools, directory, count, sinks, sync
        self.link = f"ipc://{directory}/link"

    def sender(self, env=None):
        return self.tools.start(link_support.PEER, "send", f"@{self.link}", f"count={self.count}", "batch=20", "rate=20000",
                                f"sync_interval={self.sync}", f"spool={self.directory}/spool", env=env)

    def broadcast(self, env=None):
        return self.tools.start("broadcast", *self.sinks, "--from", self.link, "--state", "state", "--sync-interval", "10ms", env=env)


@pytest.mark.parametrize("reboot", [False, True])
def test_a_durable_sender_and_broadcast_killed_in_turn(tools, directory, reboot):
    """Files hold only what is stable: so nothing is ever taken back out of them, and nothing is there twice."""
    world = DurableWorld(tools, directory, 20000, "file:out.ndjson?rotate-size=100KiB&keep=100", "sqlite:out.db", "null:")
    rng = random.Random(11 + reboot)
    boot = 0
    sender = world.sender({"STREAM_BOOT_ID": "0"})
    broadcast = world.broadcast({"STREAM_BOOT_ID": "0"})
    for n in range(40):
        time.sleep(rng.uniform(0, 0.08))
        if sender.process.poll() == 0:
            break
        boot += reboot and n % 4 == 3
        env = {"STREAM_BOOT_ID": str(boot)}
        both = reboot and n % 4 == 3
        if both or rng.random() < 0.5:
            sender.kill()
            if both:
                broadcast.kill()
                broadcast = world.broadcast(env)
            sender = world.sender(env)
        else:
            broadcast.kill()
            broadcast = world.broadcast(env)
    assert sender.wait(60) == 0, sender.err
    assert broadcast.terminate() in (0, -signal.SIGTERM), broadcast.err     # it may have only just begun
    files = sorted(directory.glob("out.ndjson.*"), key=lambda p: -int(p.suffix[1:])) + [directory / "out.ndjson"]
    numbers = [event["n"] for path in files for event in lines_of(path)]
    assert numbers == list(range(20000))
    with sqlite3.connect(directory / "out.db") as database:
        assert [n for n, in database.execute("select n from events order by rowid")] == list(range(20000))


def test_what_the_sender_may_take_back_has_its_room(tools, directory):
    """A sender that does not sync keeps what has no room here, and goes on when it has synced."""
    broadcast = tools.start("broadcast", "file:out.ndjson", "--from", f">ipc://{directory}/link", "--state", "state", "--memory", "8MiB")
    sender, size = link_support.Foreign(directory / "link"), 200_000
    for q in range(1, 61):
        sender.frame(q, s=0, k="x" * size)
    received = sender.until(lambda ack: ack.get("received", 0) > 5)["received"]
    while received < 60:
        for _ in range(5):                                          # reports that come again and again: no more is taken
            received = max(received, sender.ack().get("received", 0))
        assert (received - seen_lines(directory)) * size < 4 << 20
        sender.frame(0, topic="stable", s=received, l=0)
        for q in range(received + 1, 61):
            sender.frame(q, s=received, k="x" * size)
        received = sender.until(lambda ack: ack.get("received", 0) > received)["received"]
    sender.frame(0, topic="stable", s=60, l=0)
    wait_for(lambda: seen_lines(directory) == 60, "all")
    assert broadcast.terminate() == 0, broadcast.err
    assert [event["n"] for event in lines_of(directory / "out.ndjson")] == list(range(1, 61))
    sender.close()


def seen_lines(directory):
    path = directory / "out.ndjson"
    return path.read_bytes().count(b"\n") if path.exists() else 0


def test_what_the_sender_may_take_back_is_not_written(tools, directory):
    """The sender syncs once in a minute: until then the file stays empty, while standard output has everything at once."""
    world = DurableWorld(tools, directory, 200, "file:out.ndjson", "stdout:", sync=60000)
    sender = world.sender()
    broadcast = world.broadcast()
    broadcast.wait_events(200)
    assert (directory / "out.ndjson").stat().st_size == 0
    sender.kill()
    broadcast.kill()
    world.sync = 10
    sender = world.sender()
    broadcast = world.broadcast()
    assert sender.wait() == 0
    assert broadcast.terminate() == 0
    assert [event["n"] for event in lines_of(directory / "out.ndjson")] == list(range(200))
