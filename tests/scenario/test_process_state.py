"""process --state: killed, stopped and terminated at any moment, it sends what it would have sent undisturbed: the same frames under the same numbers,
byte for byte. The receiver (tools/recorder.py) lives through it all and writes down every frame."""

import base64
import collections
import glob
import json
import os
import random
import shutil
import signal
import time

import pytest

import support
from support import lines_of, lines_so_far, sensor_lines, wait_for

RECORDER = support.ROOT / "tests/scenario/tools/recorder.py"
WINDOW = "window tumbling 10s by device: count() as n, sum(seq) as s | set start = epoch_ms(window_start) | keep start, device, n, s"
PROGRAMS = {
    "filter": "where temperature > 20 | set fahrenheit = temperature * 9 / 5 + 32",
    "nothing": "",
    "window": WINDOW,
    "late": "window tumbling 3s by site, device wait 1s late 2s: count() as n, avg(temperature) as t, first(seq) as f, last(status) as l",
    "alert": "alert hot when temperature > 30 for 100ms clear when temperature < 18 by device message \"{device} at {temperature}\" | where seq % 50 == 0",
    "two windows": "window tumbling 1s by device: count() as n, max(temperature) as m | window tumbling 20s: sum(n) as n, min(m) as m",
}


def recorder(tools, link, path, *mode):
    return tools.start("/usr/bin/python3", RECORDER, link, path, *mode)


def recorded(path):
    """The frames that the recorder has written down, once no more come. While they do: recorded_so_far."""
    return lines_of(path)


def recorded_so_far(path):
    return lines_so_far(path)


def events_of(frames, stream=None):
    """The records of all frames, in order."""
    return [record for frame in frames if stream in (None, frame["stream"]) for _, record in support.decode_events(base64.b64decode(frame["body"]))]


def same_frames(found, expected):
    """Everything but the epoch, which is the sender's own."""
    assert [frame["number"] for frame in found] == list(range(1, len(found) + 1))
    for a, b in zip(found, expected):
        assert {**a, "epoch": 0} == {**b, "epoch": 0}
    assert len(found) == len(expected)


def disturb(start, finished, seed, faults, longest=0.3):
    """Kills, terminates, stops and restarts the stage that start() gives until so many faults were made, then waits for finished()."""
    rng = random.Random(seed)
    made = collections.Counter()
    stage = start()
    while sum(made.values()) < faults and not finished():
        time.sleep(rng.uniform(0.005, longest) * support.PATIENCE)
        fault = rng.choice(["kill", "kill", "kill", "terminate", "stop"])
        made[fault] += 1
        if fault == "stop":
            stage.signal(signal.SIGSTOP)
            time.sleep(rng.uniform(0.001, 0.1))
            if rng.random() < 0.5:
                stage.kill()
                stage = start()
            stage.signal(signal.SIGCONT)
        elif fault == "kill":
            stage.kill()
            stage = start()
        else:
            assert stage.terminate(40) in (0, -signal.SIGTERM), stage.err    # -: before it had begun
            stage = start()
    wait_for(finished, lambda: f"the end, after {made}, seed {seed}; the stage says:\n{stage.err[-2000:]}", 60)
    assert stage.wait() == 0, stage.err
    return made


def has_ended(path):
    return b'"end": true' in support.whole(path)


def log_stage(tools, directory, state, link):
    """A stage that passes everything on, as a durable log."""
    return tools.start("process", "", "--name", "sensors", "--state", state, "--snapshot", "50ms", "--from", f">ipc://{directory}/file",
                       "--to", f"@{link}")


def make_log(tools, directory, events):
    """A log of frames, whole with its end, of which nothing was let go: runs over copies of it get the same frames."""
    source, state, link, out = (directory / name for name in ("events.ndjson", "log", "unused", "unused.out"))
    source.write_bytes(support.ndjson(events))
    ingest = tools.start("ingest", source, "--time", "ts", "--batch-size", 40, "--to", f"@ipc://{directory}/file")
    stage = log_stage(tools, directory, state, f"ipc://{link}")
    taker = recorder(tools, f"ipc://{link}", out, "hold")
    wait_for(lambda: has_ended(out), lambda: f"all of it; the log says:\n{stage.err}", 30)
    assert ingest.wait() == 0                              # so a snapshot covers it all
    stage.kill()
    taker.kill()
    return state


def run_chain(tools, directory, log, program, name, options=(), seed=None, faults=0):
    """One run over a copy of the log; returns the frames that came out."""
    place = directory / name
    place.mkdir()
    shutil.copytree(log, place / "log")
    first, second = f"ipc://{place}/1", f"ipc://{place}/2"
    out = place / "out"
    recorder(tools, second, out, "stay")                   # the stage may be killed after its end was taken, and then wants to hear of it again
    source = log_stage(tools, directory, place / "log", first)

    def start():
        return tools.start("process", program, "--name", "out", "--state", place / "state", "--snapshot", "50ms", "--idle", "0", "--batch-size", 300,
                           "--from", f">{first}", "--to", f"@{second}", *options)

    if faults:
        disturb(start, lambda: has_ended(out), seed, faults)
    else:
        assert start().wait(60) == 0
    assert source.wait() == 0, source.err
    return recorded(out)


@pytest.mark.parametrize("name", PROGRAMS)
def test_killed_at_any_moment_it_sends_the_same_frames(tools, directory, name):
    events = sensor_lines(60000)
    for i in range(0, len(events), 37):                  # some come late
        events[i]["ts"] -= 5000
    log = make_log(tools, directory, events)
    expected = run_chain(tools, directory, log, PROGRAMS[name], "calm")
    assert len(expected) > 5 and expected[-1]["end"]
    for seed in (1, 2):
        found = run_chain(tools, directory, log, PROGRAMS[name], f"disturbed{seed}", seed=seed, faults=8)
        same_frames(found, expected)


def feed(tools, directory, name):
    return tools.start("ingest", "-", "--time", "ts", "--name", name, "--to", f"@ipc://{directory}/{name}", pipe=True)


def found_windows(events):
    windows = {}
    for event in events:
        key = event["start"], event["device"]
        assert key not in windows, f"twice: {event}"
        windows[key] = event["n"], event["s"]
    return windows


def expected_windows(events):
    windows = {}
    for event in events:
        key = event["ts"] // 10000 * 10000, event["device"]
        count, total = windows.get(key, (0, 0))
        windows[key] = count + 1, total + event["seq"]
    return windows


def stage_starter(tools, directory, program, *options, inputs=("a",), links=()):
    """start() gives the stage when it is ready, or has failed."""
    links = [word for link in links or [f">ipc://{directory}/{name}" for name in inputs] for word in ("--from", link)]

    def start():
        ready, told = os.pipe()
        stage = tools.start("process", program, "--name", "out", "--state", directory / "state", "--snapshot", "100ms", *links,
                            "--to", f"@ipc://{directory}/out", "--ready-fd", told, *options, pass_fds=(told,))
        os.close(told)
        os.read(ready, 1)
        os.close(ready)
        return stage
    return start


def test_several_inputs_are_taken_in_the_order_that_was_written_down(tools, directory):
    """Sources without a state of their own, fed while the stage dies again and again."""
    events = sensor_lines(24000)
    rng = random.Random(4)
    sources = {name: feed(tools, directory, name) for name in ("a", "b", "c")}
    out = directory / "recorded"
    receiver = recorder(tools, f"ipc://{directory}/out", out)
    start = stage_starter(tools, directory, WINDOW.replace(": count", " wait 60s: count"), inputs=sources)
    stage = start()
    for i in range(0, len(events), 800):
        for event in events[i:i + 800]:
            sources[rng.choice("abc")].write(json.dumps(event) + "\n")
        if rng.random() < 0.5:
            time.sleep(rng.uniform(0, 0.15))
            stage.kill()
            stage = start()
    for source in sources.values():
        source.close()
    assert stage.wait(60) == 0, stage.err
    assert receiver.wait() == 0 and [source.wait() for source in sources.values()] == [0, 0, 0]
    frames = recorded(out)
    assert [frame["number"] for frame in frames] == list(range(1, len(frames) + 1))
    assert found_windows(events_of(frames, "out")) == expected_windows(events)


def test_windows_that_an_idle_input_let_go_fire_once(tools, directory):
    """The clock's ticks are input, too: what fired because of one fires again because of it, and not twice."""
    sources = {name: feed(tools, directory, name) for name in ("a", "b")}
    out = directory / "recorded"
    receiver = recorder(tools, f"ipc://{directory}/out", out)
    start = stage_starter(tools, directory, WINDOW, "--idle", "600ms", inputs=sources)
    stage = start()
    events = sensor_lines(4000)
    for i in range(0, len(events), 1000):
        sources["a"].write(support.ndjson(events[i:i + 1000]))      # b says nothing
        complete = events[i + 999]["ts"] // 10000
        wait_for(lambda: len(found_windows(events_of(recorded_so_far(out), "out"))) >= 10 * (complete - events[0]["ts"] // 10000),
                 "the windows that are complete", 30)
        stage.kill()
        stage = start()
    for source in sources.values():
        source.close()
    assert stage.wait(60) == 0 and receiver.wait() == 0
    assert found_windows(events_of(recorded(out), "out")) == expected_windows(events)


def test_terminated_it_keeps_windows_open_and_goes_on(tools, directory):
    source = feed(tools, directory, "a")
    out = directory / "recorded"
    receiver = recorder(tools, f"ipc://{directory}/out", out)
    start = stage_starter(tools, directory, WINDOW)
    events = sensor_lines(3000)
    for i in range(0, len(events), 500):
        stage = start()
        source.write(support.ndjson(events[i:i + 500]))
        if i:
            wait_for(lambda: len(found_windows(events_of(recorded_so_far(out), "out"))) == i // 1000 * 10, "complete windows")
        assert stage.terminate() == 0, stage.err
        assert receiver.running and not any(frame.get("end") for frame in recorded_so_far(out))
    stage = start()
    source.close()
    assert stage.wait() == 0 and receiver.wait() == 0 and source.wait() == 0
    assert found_windows(events_of(recorded(out), "out")) == expected_windows(events)


def test_the_end_of_the_stream_is_final(tools, directory):
    source = feed(tools, directory, "a")
    start = stage_starter(tools, directory, WINDOW)
    stage = start()
    source.write(support.ndjson(sensor_lines(3000)))
    source.close()
    wait_for(lambda: source.process.poll() is not None, "the source to be rid of everything")     # nobody takes the output yet
    stage.kill()
    stage = start()
    out = directory / "recorded"
    receiver = recorder(tools, f"ipc://{directory}/out", out)
    assert stage.wait() == 0 and receiver.wait() == 0 and source.wait() == 0
    assert found_windows(events_of(recorded(out), "out")) == expected_windows(sensor_lines(3000))
    again = start()                                         # there is nothing left to do
    assert again.wait() == 0 and "ended before" in again.err


def test_alerts_that_are_on_stay_on(tools, directory):
    source = feed(tools, directory, "a")
    out = directory / "recorded"
    receiver = recorder(tools, f"ipc://{directory}/out", out)
    start = stage_starter(tools, directory, "alert hot when v > 10 clear when v < 5 by device")
    states = lambda: [(event["state"], event["key"]["device"]) for event in events_of(recorded_so_far(out), "alerts")]
    stage = start()
    source.write('{"ts":1000,"device":"x","v":11}\n{"ts":2000,"device":"y","v":1}\n')
    wait_for(lambda: states() == [("firing", "x")], "the alert")
    stage.kill()
    stage = start()
    source.write('{"ts":3000,"device":"x","v":12}\n{"ts":4000,"device":"y","v":20}\n')
    wait_for(lambda: len(states()) == 2, "the other alert")
    stage.kill()
    stage = start()
    source.write('{"ts":5000,"device":"x","v":1}\n{"ts":6000,"device":"y","v":1}\n')
    source.close()
    assert stage.wait() == 0 and receiver.wait() == 0
    assert states() == [("firing", "x"), ("firing", "y"), ("cleared", "x"), ("cleared", "y")]


def test_another_program_is_refused_unless_reset(tools, directory):
    source = feed(tools, directory, "a")
    start = stage_starter(tools, directory, WINDOW)
    stage = start()
    source.write(support.ndjson(sensor_lines(500)))
    wait_for(lambda: (directory / "state/snapshot").exists(), "a snapshot")
    assert stage.terminate() == 0
    other = stage_starter(tools, directory, WINDOW.replace("10s", "20s"))()
    assert other.wait() == 1
    assert "is of another program" in other.err and "window tumbling 10s by device" in other.err and "--reset" in other.err
    more = stage_starter(tools, directory, WINDOW, inputs=("a", "b"))()
    assert more.wait() == 1 and "--from" in more.err and "--reset" in more.err
    same = stage_starter(tools, directory, f"# every ten seconds\n{WINDOW.replace(' | ', '  |  ')}")()
    assert same.terminate() == 0, same.err
    out = directory / "recorded"
    receiver = recorder(tools, f"ipc://{directory}/out", out)
    anew = stage_starter(tools, directory, WINDOW.replace("10s", "20s"), "--reset")()
    source.close()
    assert anew.wait() == 0 and receiver.wait() == 0, anew.err
    assert sum(event["n"] for event in events_of(recorded(out), "out")) <= 500


def test_a_damaged_snapshot_is_refused(tools, directory):
    source = feed(tools, directory, "a")
    start = stage_starter(tools, directory, WINDOW)
    stage = start()
    source.write(support.ndjson(sensor_lines(2000)))
    snapshot = directory / "state/snapshot"
    wait_for(lambda: snapshot.exists(), "a snapshot")
    assert stage.terminate() == 0
    good = snapshot.read_bytes()
    for at in (1, len(good) // 2, len(good) - 3):
        bad = bytearray(good)
        bad[at] ^= 0x10
        snapshot.write_bytes(bad)
        stage = start()
        assert stage.wait() == 1 and "--reset" in stage.err, stage.err
    snapshot.write_bytes(good)
    stage = start()
    source.close()
    out = directory / "recorded"
    receiver = recorder(tools, f"ipc://{directory}/out", out)
    assert stage.wait() == 0 and receiver.wait() == 0
    assert found_windows(events_of(recorded(out), "out")) == expected_windows(sensor_lines(2000))


@pytest.mark.parametrize("arguments", [(), ("--from", "-"), ("--from", "ipc://x?ack=none"), ("--from", "sub+ipc://x")])
def test_inputs_that_cannot_repeat_are_refused(tools, directory, arguments):
    done = tools.run("process", "where true", "--state", directory / "state", *arguments)
    assert done.status == 64 and "--state" in done.err


def test_a_state_directory_is_one_stages_own(tools, directory):
    start = stage_starter(tools, directory, WINDOW)
    first = start()
    wait_for(lambda: (directory / "state/lock").exists(), "the lock")
    second = tools.run("process", WINDOW, "--state", directory / "state", "--from", f"ipc://{directory}/other", "--to", "null:")
    assert second.status == 1 and "in use" in second.err
    assert first.running


@pytest.fixture
def clock(directory):
    """The wall clock of the tools that are started with its environment; set("-3h") moves it from the real one. Monotonic time is the real one."""
    if "asan" in str(support.BIN):
        pytest.skip("LD_PRELOAD does not go together with the sanitizers")
    (library,) = glob.glob("/usr/lib/*/faketime/libfaketimeMT.so.1")
    path = directory / "clock"

    class Clock:
        env = {"LD_PRELOAD": library, "FAKETIME_TIMESTAMP_FILE": str(path), "FAKETIME_NO_CACHE": "1", "FAKETIME_DONT_FAKE_MONOTONIC": "1"}

        def set(self, offset):
            path.with_suffix(".new").write_text(offset + "\n")
            path.with_suffix(".new").rename(path)
    made = Clock()
    made.set("+0s")
    return made


@pytest.mark.parametrize("kills", [False, True])
def test_windows_do_not_see_the_wall_clock_jump(tools, directory, clock, kills):
    """It is set back and forward by hours, with a second input that is silent: that one is counted out by time that passes, not by the clock."""
    program = "window tumbling 10s by device wait 1s: count() as n, sum(seq) as s | keep epoch_ms(window_start) as start, device, n, s"
    source, silent = feed(tools, directory, "a"), feed(tools, directory, "b")
    out = f"ipc://{directory}/out"

    def start():
        return tools.start("process", program, "--idle", "1s", "--state", directory / "state", "--snapshot", "100ms", "--from", f">ipc://{directory}/a",
                           "--from", f">ipc://{directory}/b", "--to", f"@{out}", env=clock.env)
    stage = start()
    receiver = tools.start("process", "", "--from", f">{out}")
    events, sent = sensor_lines(4000), 0
    for step, offset in enumerate(("-3h", "+5h", "-30m", "+0s")):
        clock.set(offset)
        source.write(support.ndjson(events[sent:sent + 1000]))
        sent += 1000
        reached = events[sent - 1]["ts"] - 1000          # `wait 1s`; what ended before this is there, soon
        over = {key for key in expected_windows(events[:sent]) if key[0] + 10000 <= reached}
        wait_for(lambda: len(receiver.events) >= len(over), lambda: f"{len(over)} windows with the clock at {offset}; {stage.err}", 30)
        if kills:
            stage.kill()
            stage = start()
    source.close()
    silent.close()
    assert stage.wait() == 0 and receiver.wait() == 0, stage.err
    assert found_windows(receiver.events) == expected_windows(events)
