"""broadcast: standard output, filtering by stream, PUB, queues and their policies, orderly end, configuration."""

import json
import os
import signal
import threading
import time

import zmq

from support import PATIENCE, decode_frame, free_port, lines_of, ndjson, sensor_lines, wait_for


def test_without_sinks_it_prints(tools):
    events = sensor_lines(2500)
    done = tools.run("broadcast", input=events)
    assert done.status == 0, done.err
    assert done.events == events


def test_dash_and_stdout_are_the_same(tools):
    for sink in ("-", "stdout:"):
        assert tools.run("broadcast", sink, input=[{"a": 1}]).events == [{"a": 1}]


def test_sinks_take_the_streams_they_name(tools, directory):
    events = [{"@stream": name, "n": n} for n, name in enumerate(["alpha", "beta", "alpine", "gamma"] * 50)]
    done = tools.run("broadcast", "file:al.ndjson?from=al*", "file:two.ndjson?from=beta&from=gamma", "file:all.ndjson", "null:",
                     input=events)
    assert done.status == 0, done.err
    plain = [{"n": event["n"], "s": event["@stream"]} for event in events]
    assert sorted(e["n"] for e in lines_of(directory / "al.ndjson")) == [e["n"] for e in plain if e["s"].startswith("al")]
    assert sorted(e["n"] for e in lines_of(directory / "two.ndjson")) == [e["n"] for e in plain if e["s"] in ("beta", "gamma")]
    assert sorted(e["n"] for e in lines_of(directory / "all.ndjson")) == list(range(200))


def test_tag_adds_the_streams_name(tools, directory):
    events = [{"@stream": "a", "n": 1}, {"@stream": "b", "n": 2}]
    assert tools.run("broadcast", "file:out.ndjson?tag=yes", input=events).status == 0
    assert sorted(lines_of(directory / "out.ndjson"), key=lambda e: e["n"]) == events


def test_bad_lines_cost_only_themselves(tools, directory):
    done = tools.run("broadcast", "file:out.ndjson", "--dead-letter", "dead.ndjson",
                     input=b'{"a":1}\n{"a":\n\xff\n{"a":"\xc3\x28"}\n{"a":2}\n[1]\n{"a":3}')
    assert done.status == 0, done.err
    assert lines_of(directory / "out.ndjson") == [{"a": 1}, {"a": 2}, {"a": 3}]
    dead = lines_of(directory / "dead.ndjson")
    assert [letter["place"] for letter in dead] == [f"standard input:{n}" for n in (2, 3, 4, 6)]
    assert all(letter["stage"] == "broadcast" and letter["reason"] for letter in dead)


def test_publishes_every_stream_under_its_name(tools):
    port = free_port()
    broadcast = tools.start("broadcast", "--pub", f"pub+tcp://127.0.0.1:{port}", pipe=True)
    context = zmq.Context()
    everything, only_b = context.socket(zmq.SUB), context.socket(zmq.SUB)
    try:
        # A subscriber may ask whether its subscriptions are in force: from the answer on nothing is missed.
        for sub, topic in ((everything, b""), (only_b, b"b")):
            sub.setsockopt(zmq.RCVTIMEO, int(20000 * PATIENCE))
            sub.subscribe(topic)
            sub.subscribe(b"?my own word" + topic)
            sub.connect(f"tcp://127.0.0.1:{port}")
        for sub, question in ((only_b, "?my own wordb"), (everything, "?my own word")):
            topic = None
            while topic != question:
                topic, header, events = decode_frame(sub.recv_multipart())
                assert topic[0] == "?" and header["q"] == 0 and events == []
        broadcast.write(ndjson([{"@stream": "abc"[i % 3], "i": i} for i in range(30)]))
        broadcast.close()
        got = {sub: [] for sub in (everything, only_b)}
        for sub in got:
            wanted = 30 if sub is everything else 10
            while len(got[sub]) < wanted:
                topic, header, events = decode_frame(sub.recv_multipart())
                if topic[0] != "?":
                    assert header["q"] >= 1 and header["o"]
                    got[sub] += [(topic, record["i"]) for _, record in events]
        assert sorted(got[everything], key=lambda e: e[1]) == [("abc"[i % 3], i) for i in range(30)]
        assert sorted(got[only_b]) == [("b", i) for i in range(1, 30, 3)]
        assert broadcast.wait() == 0
    finally:
        context.destroy(linger=0)


def start_with_stuck_stdout(tools, *arguments):
    """broadcast writing to a pipe that nobody reads yet; returns it and the pipe's reading end."""
    read_end, write_end = os.pipe()
    broadcast = tools.start("broadcast", *arguments, pipe=True, stdout=write_end)
    os.close(write_end)
    return broadcast, read_end


def read_all(fd):
    data = bytearray()
    while piece := os.read(fd, 1 << 20):
        data += piece
    os.close(fd)
    return bytes(data)


def test_a_slow_reader_holds_back_only_itself(tools, directory):
    broadcast, read_end = start_with_stuck_stdout(tools, "stdout:?queue=64MiB", "file:out.ndjson")
    events = sensor_lines(20000)
    broadcast.write(ndjson(events))
    wait_for(lambda: (directory / "out.ndjson").exists() and (directory / "out.ndjson").read_bytes().count(b"\n") == 20000,
             "the file sink to have everything while standard output is stuck", 30)
    broadcast.close()
    assert lines_of(read_all(read_end)) == events
    assert broadcast.wait() == 0


def test_a_full_queue_holds_back_the_input(tools, directory):
    broadcast, read_end = start_with_stuck_stdout(tools, "stdout:?queue=64KiB")
    events = sensor_lines(30000)
    os.set_blocking(broadcast.process.stdin.fileno(), False)
    data, sent = ndjson(events), 0

    def stuck():
        nonlocal sent
        try:
            sent += os.write(broadcast.process.stdin.fileno(), data[sent:])
            return False
        except BlockingIOError:
            return True
    # The input is taken until queue and pipes are full, and then no more: it stays so over many tries.
    wait_for(lambda: all(stuck() or time.sleep(0.02) for _ in range(10)), "the input to be held back")
    assert sent < len(data)
    os.set_blocking(broadcast.process.stdin.fileno(), True)
    rest = threading.Thread(target=lambda: (broadcast.process.stdin.write(data[sent:]), broadcast.process.stdin.close()))
    rest.start()
    got = read_all(read_end)
    rest.join()
    assert lines_of(got) == events
    assert broadcast.wait() == 0


def test_a_queue_may_drop_instead_and_says_so(tools, directory):
    for policy in ("drop_newest", "drop_oldest"):
        out = directory / f"{policy}.ndjson"
        broadcast, read_end = start_with_stuck_stdout(tools, f"stdout:?queue=64KiB&on-full={policy}", f"file:{out.name}")
        broadcast.write(ndjson(sensor_lines(40000)))
        broadcast.close()
        wait_for(lambda: out.exists() and out.read_bytes().count(b"\n") == 40000, "the file sink to have everything", 30)
        broadcast.wait_err(r"sink stdout:.* dropped \d+ events")
        got = [event["seq"] for event in lines_of(read_all(read_end))]
        assert got == sorted(set(got)) and 0 < len(got) < 40000
        assert got[0] == 0 or policy == "drop_oldest"
        assert got[-1] == 39999 or policy == "drop_newest"
        assert broadcast.wait() == 0


def test_a_closed_standard_output_ends_it(tools):
    done = tools.shell("yes '{\"a\":1}' | broadcast | head -1; echo ${PIPESTATUS[1]}")
    assert done.out.split() == [b'{"a":1}', b"1"]


def test_term_writes_what_was_taken(tools, directory):
    broadcast = tools.start("broadcast", "file:out.ndjson?fsync=interval&fsync-interval=1h", pipe=True)
    broadcast.write(ndjson(sensor_lines(100)))
    wait_for(lambda: (directory / "out.ndjson").read_bytes().count(b"\n") == 100 if (directory / "out.ndjson").exists() else False,
             "the events")
    assert broadcast.terminate() == 0
    assert len(lines_of(directory / "out.ndjson")) == 100


def test_nothing_is_lost_when_it_is_killed_and_started_again(tools, directory):
    link = f"ipc://{directory}/l"
    sender = tools.start("ingest", "-", "--name", "s", "--to", f"@{link}", pipe=True)
    expected = 0
    for round in range(5):
        broadcast = tools.start("broadcast", "file:out.ndjson", "--from", f">{link}", "--stay")
        sender.write(ndjson(sensor_lines(2000, first=expected)))
        expected += 2000
        wait_for(lambda: (directory / "out.ndjson").exists() and (directory / "out.ndjson").stat().st_size > round * 50000, "some events")
        broadcast.kill()
    last = tools.start("broadcast", "file:out.ndjson", "--from", f">{link}")
    sender.close()
    assert sender.wait() == 0, sender.err
    assert last.wait() == 0, last.err
    seen = [json.loads(line)["seq"] for line in (directory / "out.ndjson").read_bytes().split(b"\n") if line.endswith(b"}")]
    assert sorted(set(seen)) == list(range(expected))


def test_a_stopped_broadcast_loses_and_doubles_nothing(tools, directory):
    link = f"ipc://{directory}/l"
    sender = tools.start("ingest", "-", "--name", "s", "--to", f"@{link}", pipe=True)
    broadcast = tools.start("broadcast", "file:out.ndjson", "--from", f">{link}")
    for part in range(10):
        sender.write(ndjson(sensor_lines(1000, first=1000 * part)))
        broadcast.signal(signal.SIGSTOP if part % 2 == 0 else signal.SIGCONT)
    sender.close()
    assert sender.wait() == 0 and broadcast.wait() == 0
    assert [event["seq"] for event in lines_of(directory / "out.ndjson")] == list(range(10000))


def test_settings_from_a_file_and_from_a_descriptor(tools, directory):
    settings = {"name": "b", "sinks": [{"name": "one", "type": "file", "path": "one.ndjson", "from": "x", "rotate_size": "1MiB"},
                                       {"type": "stdout", "from": ["y*"]}]}
    (directory / "settings.json").write_text(json.dumps(settings))
    events = [{"@stream": "x", "n": 1}, {"@stream": "yy", "n": 2}, {"@stream": "z", "n": 3}]
    done = tools.run("broadcast", "--settings", "settings.json", input=events)
    assert done.status == 0, done.err
    assert [e["n"] for e in lines_of(directory / "one.ndjson")] == [1]
    assert [e["n"] for e in done.events] == [2]
    fd = os.memfd_create("settings", 0)
    os.write(fd, json.dumps({"sinks": [{"type": "file", "path": "two.ndjson"}]}).encode())
    os.lseek(fd, 0, os.SEEK_SET)
    done = tools.run("broadcast", "--settings", f"fd:{fd}", input=events, pass_fds=(fd,))
    os.close(fd)
    assert done.status == 0, done.err
    assert len(lines_of(directory / "two.ndjson")) == 3


def test_wrong_use_is_said_with_the_remedy(tools, directory):
    for arguments, words in ((["fle:x"], ["fle", "file", "stdout"]),
                             (["file:"], ["needs a path"]),
                             (["file:x?rotate_sice=1"], ["rotate_sice", "rotate-size"]),
                             (["file:x", "--keep", "many"], ["keep"]),
                             (["stdout:", "--keep", "3"], ["stdout", "keep"]),
                             (["file:x", "file:x"], ["file:x", "name"]),
                             (["file:x?format=yaml"], ["yaml", "ndjson"]),
                             (["--pub", "tcp//x"], ["--pub"]),
                             (["--sinks"], ["sinks"])):
        done = tools.run("broadcast", *arguments, input=[])
        assert done.status == 64, (arguments, done.status, done.err)
        assert all(word in done.err for word in words), (arguments, done.err)
        assert list(directory.glob("x*")) == []


def test_describes_itself(tools):
    done = tools.run("broadcast", "--list=json")
    assert done.status == 0
    described = json.loads(done.out)
    drivers = {driver["name"]: driver for driver in described["drivers"]}
    assert set(drivers) >= {"file", "stdout", "null"}
    assert "file" in drivers["file"]["schemes"] and "file" in drivers["file"]["types"]
    assert {"rotate-size", "keep", "from", "queue"} <= {option["name"] for option in drivers["file"]["options"]}
    assert {"pub", "from", "dead-letter"} <= {option["name"] for option in described["options"]}
    assert "rotate-size" in tools.run("broadcast", "--list").out.decode()
