"""ingest: files, read once and followed through rotation, with exact counts."""

import contextlib
import os
import random
import signal
import threading
import time

import pytest
import support
from support import wait_for


def lines(first, count):
    return b"".join(b'{"n":%d,"text":"line %d of the file"}\n' % (i, i) for i in range(first, first + count))


def seen(tool):
    return [event["n"] for event in tool.events]


def append(path, data):
    with open(path, "ab", buffering=0) as file:
        file.write(data)


def start_ready(tools, *arguments):
    """Starts ingest and waits until it watches."""
    ready, ours = os.pipe()
    tool = tools.start("ingest", *arguments, "--ready-fd", str(ours), pass_fds=(ours,))
    os.close(ours)
    assert os.read(ready, 10) == b"\n", tool.err
    os.close(ready)
    return tool


# Once

def test_file_is_read_to_its_end(tools, directory):
    (directory / "data.ndjson").write_bytes(lines(0, 50000) + b'{"n":50000}')
    tool = tools.run("ingest", "data.ndjson")
    assert tool.status == 0, tool.err
    assert seen(tool) == list(range(50001))


def test_urls_of_files(tools, directory):
    (directory / "a b%.ndjson").write_bytes(lines(0, 3))
    for url in ("a b%.ndjson", "file:a%20b%25.ndjson", f"file://{directory}/a%20b%.ndjson", "file:a b%.ndjson?follow=no", "./a b%.ndjson"):
        tool = tools.run("ingest", url)
        assert tool.status == 0, tool.err
        assert seen(tool) == [0, 1, 2], url


def test_file_with_a_colon_in_its_name(tools, directory):
    (directory / "nats:2026").write_bytes(lines(0, 3))
    assert seen(tools.run("ingest", "nats:2026")) == [0, 1, 2]


@pytest.mark.parametrize("state", [(), ("--state", "state")])
def test_a_followed_file_is_waited_for_with_its_directory(tools, directory, state):
    tool = tools.start("ingest", "logs/app/x.ndjson", "--follow", *state)
    wait_for(lambda: "waiting for the file" in tool.err, "its word")
    (directory / "logs/app").mkdir(parents=True)
    (directory / "logs/app/x.ndjson").write_bytes(lines(0, 3))
    wait_for(lambda: tool.out.count(b"\n") == 3, "the lines")
    with open(directory / "logs/app/x.ndjson", "ab") as file:
        file.write(lines(3, 2))
    wait_for(lambda: tool.out.count(b"\n") == 5, "those behind")
    tool.signal(signal.SIGTERM)
    assert tool.wait() == 0 and seen(tool) == [0, 1, 2, 3, 4]
    (directory / "none").write_text("")
    assert "Not a directory" in tools.run("ingest", "none/x", "--follow").err


def test_another_separator_of_csv_is_told_once(tools, directory):
    (directory / "many").mkdir()
    for name in ("a", "b"):
        (directory / f"many/{name}.csv").write_text("time;value\n2026-01-01;1\n2026-01-02;2\n")
    tool = tools.run("ingest", "many")
    assert tool.status == 0 and len(tool.events) == 4 and "value" not in tool.events[0]
    hint, = [line for line in tool.err.splitlines() if "warning" in line]
    assert "many/a.csv:1" in hint and "--csv-separator ';'" in hint
    tool = tools.run("ingest", "many", "--csv-separator", ";")
    assert [event["value"] for event in tool.events] == [1, 2, 1, 2] and "warning" not in tool.err


def test_format_goes_by_the_ending_unless_told(tools, directory):
    (directory / "d.csv").write_text('id,name,zip\n1,"Müller, Jan",007\n2,,12345\n')
    tool = tools.run("ingest", "d.csv")
    assert tool.status == 0, tool.err
    assert [event["id"] for event in tool.events] == [1, 2]
    assert tool.events[0]["name"] == "Müller, Jan" and tool.events[0]["zip"] == "007"
    tool = tools.run("ingest", "d.csv", "--format", "lines")
    assert [event["message"] for event in tool.events] == ["id,name,zip", '1,"Müller, Jan",007', "2,,12345"]
    (directory / "d.json").write_text('[{"n":0},{"n":1},\n {"n":2}]')
    assert seen(tools.run("ingest", "d.json")) == [0, 1, 2]
    (directory / "d.unknown").write_bytes(lines(0, 2))
    assert seen(tools.run("ingest", "d.unknown")) == [0, 1]


def test_file_cut_in_the_middle_of_a_line_loses_that_line_only(tools, directory):
    data = lines(0, 1000)
    (directory / "cut.ndjson").write_bytes(data[:-10])
    tool = tools.run("ingest", "cut.ndjson", "--dead-letter", "dead")
    assert tool.status == 0
    assert seen(tool) == list(range(999))
    assert [letter["place"] for letter in support.lines_of(directory / "dead")] == ["cut.ndjson:1000"]


def test_slow_reader_pauses_the_source_and_nothing_is_lost(tools, directory):
    (directory / "data.ndjson").write_bytes(lines(0, 300000))
    tool = tools.shell("ingest data.ndjson --window 64KiB | { sleep 0.5; cat; }")
    assert tool.status == 0, tool.err
    assert seen(tool) == list(range(300000))


# Followed

def test_follow_takes_complete_lines_as_they_come(tools, directory):
    path = directory / "app.ndjson"
    path.write_bytes(lines(0, 2) + b'{"n":')
    tool = start_ready(tools, "app.ndjson", "--follow")
    tool.wait_events(2)
    append(path, b"2}\n")
    tool.wait_events(3)
    append(path, lines(3, 1000))
    tool.wait_events(1003)
    assert tool.terminate() == 0
    assert seen(tool) == list(range(1003))


def test_follow_waits_for_a_file_that_is_not_there_yet(tools, directory):
    tool = start_ready(tools, "app.ndjson", "--follow")
    tool.wait_err("app.ndjson: No such file.*waiting")
    append(directory / "app.ndjson", lines(0, 3))
    tool.wait_events(3)
    assert tool.terminate() == 0
    assert seen(tool) == [0, 1, 2]


def test_follow_from_the_end(tools, directory):
    path = directory / "app.ndjson"
    path.write_bytes(lines(0, 100))
    tool = start_ready(tools, "file:app.ndjson?follow=yes&from_end=yes")
    append(path, lines(100, 5))
    tool.wait_events(5)
    assert tool.terminate() == 0
    assert seen(tool) == [100, 101, 102, 103, 104]


def test_follow_through_rotation_by_rename_while_written_to(tools, directory):
    """A writer as a daemon is one: it keeps its file open over the rename and opens the new one a while later."""
    path = directory / "app.ndjson"
    tool = start_ready(tools, "app.ndjson", "--follow")
    tool.wait_err("waiting")
    n = 0
    for rotation in range(5):
        with open(path, "ab", buffering=0) as file:
            for _ in range(20):
                file.write(lines(n, 50))
                n += 50
            for old in range(rotation, 0, -1):
                os.rename(f"{path}.{old}", f"{path}.{old + 1}")
            os.rename(path, f"{path}.1")
            file.write(lines(n, 50))
            n += 50
    append(path, lines(n, 1))
    tool.wait_events(n + 1)
    assert tool.terminate() == 0
    assert seen(tool) == list(range(n + 1))


def test_follow_through_rotation_while_stopped(tools, directory):
    """Files that came and went while nobody looked."""
    path = directory / "app.ndjson"
    append(path, lines(0, 10))
    tool = start_ready(tools, "app.ndjson", "--follow")
    tool.wait_events(10)
    tool.signal(19)    # SIGSTOP
    n = 10
    for rotation in range(4):
        for old in range(rotation, 0, -1):
            os.rename(f"{path}.{old}", f"{path}.{old + 1}")
        os.rename(path, f"{path}.1")
        append(path, lines(n, 10))
        n += 10
    tool.signal(18)    # SIGCONT
    tool.wait_events(n)
    assert tool.terminate() == 0
    assert seen(tool) == list(range(n))


def test_follow_through_copy_and_truncate(tools, directory):
    """As logrotate's copytruncate does it: what is written between copy and truncation would be lost for anyone, so
    nothing is written then."""
    path = directory / "app.ndjson"
    path.touch()
    tool = start_ready(tools, "app.ndjson", "--follow")
    n = 0
    for rotation in range(5):
        for _ in range(10):
            append(path, lines(n, 20))
            n += 20
        tool.wait_events(n)
        os.truncate(path, 0)
        if rotation % 2:          # longer than before at once, or after it was seen empty
            append(path, lines(n, 400))
            n += 400
    tool.wait_events(n)
    assert tool.terminate() == 0
    assert seen(tool) == list(range(n))


def test_follow_a_file_that_is_deleted_and_made_again(tools, directory):
    path = directory / "app.ndjson"
    append(path, lines(0, 10))
    tool = start_ready(tools, "app.ndjson", "--follow")
    tool.wait_events(10)
    path.unlink()
    tool.wait_err("waiting for the file")
    append(path, lines(10, 10))
    tool.wait_events(20)
    path.unlink()
    append(path, lines(20, 10))
    tool.wait_events(30)
    assert tool.terminate() == 0
    assert seen(tool) == list(range(30))


def test_follow_through_a_symbolic_link_that_is_pointed_elsewhere(tools, directory):
    (directory / "elsewhere").mkdir()
    append(directory / "elsewhere/one", lines(0, 5))
    append(directory / "elsewhere/two", lines(5, 5))
    os.symlink("elsewhere/one", directory / "app.ndjson")
    tool = start_ready(tools, "app.ndjson", "--follow")
    tool.wait_events(5)
    os.symlink("elsewhere/two", directory / "new")
    os.rename(directory / "new", directory / "app.ndjson")
    tool.wait_events(10)
    assert tool.terminate() == 0
    assert seen(tool) == list(range(10))


@pytest.mark.parametrize("name", ["app.ndjson", "*.ndjson"])
@pytest.mark.parametrize("state", [(), ("--state", "state")])
def test_follow_through_a_directory_that_is_pointed_elsewhere(tools, directory, state, name):
    """As releases are deployed: the link to the present one is replaced."""
    for release in ("one", "two", "three"):
        (directory / release / "log").mkdir(parents=True)
    os.symlink("one", directory / "current")
    append(directory / "one/log/app.ndjson", lines(0, 5))
    tool = start_ready(tools, f"current/log/{name}", "--follow", *state)
    tool.wait_events(5)
    os.symlink("two", directory / "new")
    os.rename(directory / "new", directory / "current")
    append(directory / "one/log/app.ndjson", lines(5, 5))      # the last words of the old one
    append(directory / "two/log/app.ndjson", lines(10, 5))
    tool.wait_events(15)
    append(directory / "two/log/app.ndjson", lines(15, 5))
    tool.wait_events(20)
    os.symlink("three", directory / "new")                     # where there is no file yet
    os.rename(directory / "new", directory / "current")
    if name == "app.ndjson":
        wait_for(lambda: "waiting for the file" in tool.err, "its word")
    append(directory / "three/log/app.ndjson", lines(20, 5))
    tool.wait_events(25)
    assert tool.terminate() == 0 and seen(tool) == list(range(25))


@pytest.mark.parametrize("name", ["app.ndjson", "*.ndjson"])
@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("moved", ["a/b/c", "a/b", "a"])
def test_follow_though_a_directory_on_the_way_is_renamed_and_made_anew(tools, directory, name, whole, moved):
    (directory / "a/b/c").mkdir(parents=True)
    append(directory / "a/b/c/app.ndjson", lines(0, 5))
    tool = start_ready(tools, f"{directory}/a/b/c/{name}" if whole else f"a/b/c/{name}", "--follow")
    tool.wait_events(5)
    for turn in range(2):
        done = 5 + turn * 10
        with open(directory / "a/b/c/app.ndjson", "ab") if turn else contextlib.nullcontext() as writer:
            os.rename(directory / moved, directory / f"old{turn}")
            (directory / "a/b/c").mkdir(parents=True)
            if writer:                                         # the last words of the old one
                writer.write(lines(done, 5))
        append(directory / "a/b/c/app.ndjson", lines(done + 5, 5) if turn else lines(done, 10))
        tool.wait_events(done + 10)
    assert tool.terminate() == 0 and seen(tool) == list(range(25))


def test_follow_with_a_slow_reader_over_rotations(tools, directory):
    """The receiver stops while the file is rotated under the paused source."""
    path = directory / "app.ndjson"
    append(path, lines(0, 40000))
    reader, writer = os.pipe()
    os.set_inheritable(writer, True)
    tool = tools.start("bash", "-c", f"exec {support.tool_path('ingest')} app.ndjson --follow --window 64KiB >&{writer}", pass_fds=(writer,))
    os.close(writer)
    first = os.read(reader, 1000)      # it runs, and soon stands: nobody reads on
    n = 40000
    for rotation in range(3):
        os.rename(path, f"{path}.{rotation}")
        append(path, lines(n, 40000))
        n += 40000
    data = bytearray(first)
    while data.count(b"\n") < n:
        data += os.read(reader, 1 << 20)
    assert tool.terminate() == 0
    os.close(reader)
    assert [event["n"] for event in support.lines_of(bytes(data))] == list(range(n))


def test_follow_under_random_writes_and_rotations(tools, directory):
    """Pieces of any length, rotation at any moment; seeded."""
    dice = random.Random(20261)
    path = directory / "app.ndjson"
    path.touch()
    tool = start_ready(tools, "app.ndjson", "--follow")
    state = {"n": 0}

    def write():
        files = 0
        while state["n"] < 20000:
            with open(path, "ab", buffering=0) as file:
                for _ in range(dice.randrange(1, 30)):
                    count = dice.randrange(1, 40)
                    data = lines(state["n"], count)
                    cut = dice.randrange(len(data))
                    file.write(data[:cut])
                    if dice.random() < 0.1:
                        time.sleep(0.001)
                    file.write(data[cut:])
                    state["n"] += count
                files += 1
                os.rename(path, f"{path}.{files}")
        append(path, lines(state["n"], 1))
        state["n"] += 1

    writer = threading.Thread(target=write)
    writer.start()
    writer.join()
    tool.wait_events(state["n"])
    assert tool.terminate() == 0
    assert seen(tool) == list(range(state["n"]))
