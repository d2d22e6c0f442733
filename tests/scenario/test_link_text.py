"""Links over standard input and output: text that any program can read and write, and frames on a byte stream."""

import json
import os
import resource
import signal
import socket
import subprocess
import time

import msgpack
import pytest

import support
from link_support import PEER, exact, numbers, pause, peer, read, report


def run(*arguments, input=b"", **options):
    return subprocess.run([PEER, *map(str, arguments)], input=input, capture_output=True, timeout=60 * support.PATIENCE, **options)


def shell(command, **options):
    return subprocess.run(["bash", "-c", f"set -o pipefail; {command}"], capture_output=True, timeout=60 * support.PATIENCE,
                          env={**os.environ, "PEER": str(PEER)}, **options)


@pytest.mark.parametrize("link", ["-", "-?format=msgpack"])
@pytest.mark.parametrize("through", ["| cat |", "> $D/file; < $D/file", "| cat > $D/file; cat $D/file |"])
def test_everything_passes_pipes_and_files(directory, link, through):
    before, after = (through.split(";") + [""])[:2]
    command = f"$PEER send '{link}' count=50000 batch=7 {before} {'; ' + after if after else ''} $PEER receive '{link}' $D/out"
    done = shell(f"D={directory}; {command}")
    assert done.returncode == 0, done.stderr
    exact(directory / "out", 50000, "peer" if "msgpack" in link else "")


def test_text_is_ndjson(tools):
    done = run("send", "-", "count=3", "batch=2")
    assert support.lines_of(done.stdout) == [{"n": 0, "k": "device0"}, {"n": 1, "k": "device14"}, {"n": 2, "k": "device11"}]
    assert done.stdout.count(b"\n") == 3


def test_other_streams_are_marked_and_come_back_as_such(directory):
    text = run("send", "-", "count=40", "batch=1", "streams=2", "name=s").stdout
    assert {e["@stream"] for e in support.lines_of(text)} == {"s0", "s1"}
    assert run("receive", "-", directory / "out", "name=s0", input=text).returncode == 0
    for stream in (0, 1):
        assert [n for _, s, n, _ in read(directory / "out") if s == f"s{stream}" and n != "end"] == list(range(stream, 40, 2))
    assert read(directory / "out")[-1][1:3] == ("s0", "end")


def test_a_stream_name_that_is_none_stays_a_field(directory):
    done = run("receive", "-", directory / "out", input=b'{"n":0}\n{"n":1,"@stream":"a b"}\n{"n":2,"@stream":"ok"}\n{"n":3}\n')
    assert done.returncode == 0
    assert sorted((s, str(n)) for _, s, n, _ in read(directory / "out")) == [
        ("numbers", "0"), ("numbers", "1"), ("numbers", "3"), ("numbers", "end"), ("ok", "2")]


def test_streams_on_one_text_link_keep_their_order(directory):
    events = [{"n": i, "@stream": f"s{i * 7 % 300}"} for i in range(600)] + [{"n": i} for i in (600, 601)] + [{"n": 602, "@stream": "s1"}]
    done = run("receive", "-", directory / "out", input=support.ndjson(events))
    assert done.returncode == 0
    assert [n for _, _, n, _ in read(directory / "out")] == list(range(603)) + ["end"]
    assert [s for _, s, _, _ in read(directory / "out")][:-1] == [event.get("@stream", "numbers") for event in events]


def test_bad_lines_cost_only_themselves(directory):
    lines = [b'{"n":%d}' % i for i in range(1000)]
    for at in (0, 10, 500, 998):
        lines[at] = b'{"n":' + b"x" * at
    done = run("receive", "-", directory / "out", input=b"\n".join(lines))
    assert done.returncode == 0
    assert numbers(directory / "out", "") == [i for i in range(1000) if i not in (0, 10, 500, 998)] + ["end"]
    assert done.stderr.count(b"bad record") == 4


def test_last_line_without_line_end_and_empty_input(directory):
    assert run("receive", "-", directory / "a", input=b'{"n":1}').returncode == 0
    assert numbers(directory / "a", "") == [1, "end"]
    assert run("receive", "-", directory / "b").returncode == 0
    assert numbers(directory / "b", "") == ["end"]


@pytest.mark.parametrize("link", ["-", "-?format=msgpack"])
def test_reader_that_leaves_ends_the_sender(link):
    done = shell(f"$PEER send '{link}' count=10000000 batch=100 | head -c 100000 > /dev/null")
    assert done.returncode == 1
    assert b"standard output was closed" in done.stderr


@pytest.mark.parametrize("target", ["/dev/null", "/dev/full"])
def test_devices(target):
    done = shell(f"$PEER send - count=1000 > {target}")
    assert done.returncode == (1 if target == "/dev/full" else 0), done.stderr
    assert (b"No space left" in done.stderr) == (target == "/dev/full")


def test_slow_reader_holds_the_sender_up_and_memory_stays_bounded(tools, directory):
    read_end, write_end = os.pipe()
    sender = subprocess.Popen([PEER, "send", "-", "count=2000000", "batch=100"], stdout=write_end, stderr=subprocess.PIPE)
    try:
        time.sleep(1)
        assert os.get_blocking(write_end)      # ours is left as it was
        os.close(write_end)
        status = open(f"/proc/{sender.pid}/status").read()
        assert int(status.split("VmRSS:")[1].split()[0]) < 40000 * support.PATIENCE      # KiB
        found, rest = 0, b""
        while data := os.read(read_end, 1 << 20):
            lines = (rest + data).split(b"\n")
            rest = lines.pop()
            assert not lines or json.loads(lines[0])["n"] == found
            found += len(lines)
        assert found == 2000000 and sender.wait(30) == 0
    finally:
        sender.kill()
        sender.communicate()
        os.close(read_end)


def test_sockets_as_standard_input_and_output(directory):
    ours, theirs = socket.socketpair()
    sender = subprocess.Popen([PEER, "send", "-", "count=100000", "batch=50"], stdout=theirs)
    receiver = subprocess.Popen([PEER, "receive", "-", directory / "out"], stdin=ours, stdout=subprocess.DEVNULL)
    ours.close()
    theirs.close()
    assert sender.wait(60 * support.PATIENCE) == 0 and receiver.wait(60 * support.PATIENCE) == 0
    exact(directory / "out", 100000, "")


def test_paused_reader_takes_nothing_and_goes_on_where_it_was(tools, directory):
    out = directory / "out"
    receiver = tools.start(PEER, "receive", "-", out, pipe=True)
    receiver.write(b"".join(b'{"n":%d}\n' % i for i in range(10)))
    support.wait_for(lambda: len(numbers(out, "")) == 10, "ten events")
    pause(receiver)
    receiver.write(b"".join(b'{"n":%d}\n' % i for i in range(10, 3000)))
    receiver.close()
    time.sleep(0.3)
    assert len(numbers(out, "")) == 10 and receiver.running
    receiver.signal(signal.SIGUSR2)
    assert receiver.wait() == 0
    exact(out, 3000, "")


def test_a_relay_of_text_between_programs(directory):
    done = shell(f"seq 0 19999 | sed 's/.*/{{\"n\":&}}/' | $PEER relay - - | $PEER relay - '-?format=msgpack' | "
                 f"$PEER receive '-?format=msgpack' {directory}/out")
    assert done.returncode == 0, done.stderr
    assert [n for _, _, n, _ in read(directory / "out")] == list(range(20000)) + ["end"]


def frames(count):
    for i in range(count):
        topic, header, body = support.encode_frame("numbers", {"o": "p", "e": 1, "q": i + 1, "l": i + 1}, [{"n": i, "k": "x"}])
        yield msgpack.packb([topic.decode(), msgpack.unpackb(header), body])


def test_frames_from_another_language(tools, directory):
    out = directory / "out"
    receiver = tools.start(PEER, "receive", "-?format=msgpack", out, pipe=True)
    data = b"".join(frames(200))
    for at in range(0, len(data), 37):      # cut anywhere
        receiver.write(data[at:at + 37])
    receiver.close()
    assert receiver.wait() == 0
    assert numbers(out, "p") == list(range(200))


@pytest.mark.parametrize("tail, words", [
    (b'{"n":1}\n', "leave ?format=msgpack out"),
    (b"\x93\xdb\xff\xff\xff\xff", "the topic is not"),
    (b"\x93\xa1t\xdf\xff\xff\xff\xff", "header is malformed or too large"),
    (b"\x93\xa1t\x81\xa1v\x01\xc6\xff\xff\xff\xff", "the body is not binary of at most"),
    (b"\x93\xa1t\x81\xa1v\x01\xc4\x10abc", "in the middle of frame 6"),
    (b"\x93\xa1t\xc1", "header is malformed"),
])
def test_a_malformed_stream_of_frames_is_an_error_that_says_where(directory, tail, words):
    done = run("receive", "-?format=msgpack", directory / "out", input=b"".join(frames(5)) + tail)
    assert done.returncode == 1
    assert words in done.stderr.decode() and "frame 6" in done.stderr.decode()
    assert numbers(directory / "out", "p") == list(range(5))


def test_a_frame_that_is_malformed_inside_costs_only_itself(directory):
    good = list(frames(4))
    good[2] = msgpack.packb(["numbers", {"v": 1, "n": 7, "o": "p", "e": 1, "q": 3, "l": 3}, b"short"])
    done = run("receive", "-?format=msgpack", directory / "out", input=b"".join(good))
    assert done.returncode == 0
    assert numbers(directory / "out", "p") == [0, 1, 3]
    assert json.loads(done.stdout)["malformed"] == 1


@pytest.mark.parametrize("command, what", [("ingest generator:sensors --count 3 --rate 0", "standard output"), ("process 'where a > 1'", "standard input")])
def test_a_closed_standard_descriptor_is_an_error_and_never_another_file(directory, command, what):
    """Else the first file that is opened gets its number, and the stream's text goes there."""
    metrics, closed = directory / "metrics", ">&-" if what == "standard output" else "<&-"
    done = shell(f"{support.BIN}/{command} --metrics {metrics} {closed}")
    assert done.returncode == 1 and what.encode() in done.stderr
    assert b"sensor_0001" not in metrics.read_bytes()


def test_a_reader_that_has_had_enough_is_no_error(tools):
    chain = "{ ingest generator:sensors --rate 0 %s; echo $? >&3; } | { process 'set a = 1' %s; echo $? >&3; } | head -1 >/dev/null"
    done = tools.shell(f"exec 3>&1; {chain % ('', '')}")
    assert done.out.split() == [b"1", b"1"] and done.err.count("standard output was closed") == 2, done.err
    assert " error " not in done.err and " warning " not in done.err
    quiet = "--log-level warning"
    assert tools.shell(f"exec 3>&1; {chain % (quiet, quiet)}").err == ""


@pytest.mark.parametrize("call", ["ingest --help", "ingest --list", "ingest --list=json", "ingest --version", "process --functions", "process --operators", "process --help",
                                  "broadcast --list=json", "streamctl --help", "streamctl --version", "streamctl check --help"])
def test_listings_that_cannot_be_written_fail(tools, call):
    done = tools.shell(f"{call} > /dev/full")
    assert done.status == 1 and done.err == f"{call.split()[0]}: write to standard output: No space left on device\n"
    assert tools.shell(f"{call} > /dev/null").status == 0


def test_broadcast_takes_a_reader_that_has_had_enough_as_the_others_do(tools):
    done = tools.shell("exec 3>&1; ingest generator:sensors --rate 0 2>/dev/null | { broadcast - && exit 1; echo $? >&3; } | head -1 >/dev/null")
    assert done.out.split() == [b"1"] and "standard output was closed" in done.err and " error " not in done.err, done.err


@pytest.mark.parametrize("command", ["process ''", "process 'where true'", "broadcast -"])
def test_the_last_line_says_how_much_could_not_be_used(tools, directory, command):
    """Of samples there is one a second."""
    lines = "seq 1 7; echo '{\"a\":1}'"
    done = tools.shell(f"{{ {lines}; }} | {command}")
    assert done.status == 0 and done.events == [{"a": 1}]
    assert "7 records could not be used; --dead-letter FILE would keep them" in done.err.splitlines()[-1]
    done = tools.shell(f"{{ {lines}; }} | {command} --dead-letter dead")
    assert "7 records could not be used: see dead" in done.err.splitlines()[-1] and len((directory / "dead").read_text().splitlines()) == 7
    assert tools.shell(f"echo '{{}}' | {command}").err == ""


def test_process_says_how_often_it_could_not_compute(tools):
    done = tools.run("process", "set b = a * 2 | where c > 1 or a == 1", input=[{"a": "x"}, {"a": "y", "c": "z"}, {"a": 1}])
    assert done.events == [{"a": 1, "b": 2}]
    assert "3 times an expression could not be computed and gave null" in done.err.splitlines()[-1]
    once = tools.run("process", "set b = a * 2", input=[{"a": "x"}])
    assert len(once.err.splitlines()) == 1 and "string times int" in once.err


def test_input_that_is_something_else_is_told_once_with_what_reads_it(tools, directory):
    (directory / "a.csv").write_text("a,b\n1,2\n3,4\n")
    for command in ("process ''", "broadcast -", "ingest -"):
        done = tools.shell(f"cat a.csv | {command}")
        assert done.status == 0 and done.err.count("input:1: lines of JSON objects are expected here; other formats are read by ingest --format csv") \
            + done.err.count("stdin:1: lines of JSON objects are expected here; other formats are read by ingest --format csv") == 1
        assert "JSON array, as it seems: ingest --format json" in tools.shell(f"echo '[{{}}]' | {command}").err
    done = tools.shell("gzip -c a.csv | ingest - --format csv")
    assert "this is compressed by gzip, as it seems: gunzip -c before" in done.err
    assert tools.shell("gzip -c a.csv | gunzip -c | ingest - --format csv").err == ""
