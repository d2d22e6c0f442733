"""The programs in stream-frame(5) and stream-link(7) work as printed, against the real tools."""

import json
import re
import sys

import pytest

import support
from support import ROOT

COUNT = 20000


def example(page, words):
    """The Python program in a man page whose docstring contains these words."""
    blocks = re.findall(r"^\.Bd -literal.*?\n(.*?)^\.Ed", (ROOT / "man" / page).read_text(), re.DOTALL | re.MULTILINE)
    (found,) = [block for block in blocks if block.startswith("#!/usr/bin/env python3") and words in block.splitlines()[1]]
    assert not re.search(r"\\(?!e)", found)
    return found.replace("\\e", "\\")


@pytest.fixture
def program(directory):
    def write(page, words):
        path = directory / (words.split(".")[0].replace(" ", "_") + ".py")
        path.write_text(example(page, words))
        return path
    return write


def endpoint_of(kind, directory):
    """Written so that our tools and ZeroMQ both take it."""
    return f"ipc://{directory}/link" if kind == "ipc" else f"tcp://127.0.0.1:{support.free_port()}"


def numbered(directory):
    path = directory / "numbers.ndjson"
    path.write_bytes(support.ndjson({"n": n, "half": n / 2, "text": f"é{n}"} for n in range(COUNT)))
    return path


def test_entry_is_drawn_as_it_is(tools):
    page = (ROOT / "man/stream-frame.5").read_text()
    (drawn,) = re.findall(r"^((?:[0-9a-f]{2} ){14}[0-9a-f]{2})$", page, re.MULTILINE)
    done = tools.run("process", "", "--to", "-?format=msgpack", input='{"@timestamp":"2026-01-01T00:00:00Z","n":1}\n')
    assert done.status == 0, done.err
    assert bytes.fromhex(drawn) in done.out


def test_reader_of_a_pipe(tools, directory, program):
    source = numbered(directory)
    ingest = tools.run("ingest", source, "--to", "-?format=msgpack")
    assert ingest.status == 0, ingest.err
    reader = tools.run(sys.executable, program("stream-frame.5", "frames of a stage"), input=ingest.out)
    assert reader.status == 0, reader.err
    lines = reader.out.decode().splitlines()
    assert len(lines) == COUNT + 1 and lines[-1].startswith("numbers ") and lines[-1].endswith(" end")
    assert [int(re.search(r"'n': (\d+)", line).group(1)) for line in lines[:-1]] == list(range(COUNT))


@pytest.mark.parametrize("kind", ["ipc", "tcp"])
@pytest.mark.parametrize("tool", ["ingest", "process"])
def test_receiver(tools, directory, program, kind, tool):
    link = endpoint_of(kind, directory)
    receiver = tools.start(sys.executable, program("stream-link.7", "receive.py"), link)
    if tool == "ingest":
        sender = tools.start("ingest", numbered(directory), "--to", link, "--batch-size", "100")
    else:
        sender = tools.start("process", "", "--name", "numbers", "--to", link, input=numbered(directory).read_bytes())
    assert sender.wait() == 0, sender.err
    assert receiver.wait() == 0, receiver.err
    rows = [line.split(" ", 2) for line in receiver.out.decode().splitlines()]
    assert {row[0] for row in rows} == {"numbers"}
    assert [json.loads(row[2]) for row in rows] == support.lines_of(directory / "numbers.ndjson")


@pytest.mark.parametrize("kind", ["ipc", "tcp"])
@pytest.mark.parametrize("tool", ["process", "broadcast"])
def test_sender(tools, directory, program, kind, tool):
    link = endpoint_of(kind, directory)
    if tool == "process":
        receiver = tools.start("process", "", "--from", link)
    else:
        receiver = tools.start("broadcast", "--from", link, "stdout:")
    sender = tools.start(sys.executable, program("stream-link.7", "send.py"), link, "numbers", input=numbered(directory).read_bytes())
    assert sender.wait() == 0, sender.err
    assert receiver.wait() == 0, receiver.err
    found = [{key: value for key, value in event.items() if not key.startswith("@")} for event in receiver.events]
    assert found == support.lines_of(directory / "numbers.ndjson")


def test_sender_survives_its_receiver(tools, directory, program):
    """The receiver is killed half way: the next one gets everything that was not durable."""
    link = f"ipc://{directory}/link"
    lines = numbered(directory).read_bytes()
    half = lines.index(b"\n", len(lines) // 2) + 1
    sender = tools.start(sys.executable, program("stream-link.7", "send.py"), link, "numbers", pipe=True)
    first = tools.start("process", "", "--from", link)
    sender.write(lines[:half])
    first.wait_events(1000)
    first.kill()
    second = tools.start("process", "", "--from", link)
    sender.write(lines[half:])
    sender.close()
    assert sender.wait(60) == 0, sender.err
    assert second.wait() == 0, second.err
    assert {event["n"] for event in first.events + second.events} == set(range(COUNT))


def test_second_receiver_is_refused(tools, directory, program):
    port = support.free_port()
    endpoint = f"tcp://127.0.0.1:{port}"
    sender = tools.start("ingest", "generator:sensors?rate=200", "--to", endpoint)
    script = program("stream-link.7", "receive.py")
    first = tools.start(sys.executable, script, endpoint)
    support.wait_for(lambda: first.out.count(b"\n") > 10, "events")
    second = tools.start(sys.executable, script, endpoint)
    assert second.wait() == 1 and "refused" in second.err
    assert sender.terminate() == 0, sender.err
    assert first.wait() == 0, first.err
