"""ingest with a pattern or a directory: many files, each with a place of its own, exact over kills and rotations; a few of them open at a time."""

import os
import re
import shutil
import time

import pytest

import link_support
import support
from test_ingest_state import Runs, Writer, first_difference


def lines(numbers):
    return "".join('{"n":%d}\n' % n for n in numbers)


def append(path, *numbers):
    with open(path, "a") as file:
        file.write(lines(numbers))


def seen(tool):
    return [event["n"] for event in tool.events]


def start_ready(tools, *arguments):
    ready, ours = os.pipe()
    tool = tools.start("ingest", *arguments, "--ready-fd", str(ours), pass_fds=(ours,))
    os.close(ours)
    assert os.read(ready, 10) == b"\n", tool.err
    os.close(ready)
    return tool


# Read once

def test_no_file_is_told_as_what_was_asked_for(tools, directory):
    (directory / "empty").mkdir()
    for what, words in (("empty", "empty: there is no file in this directory; --follow waits for one"),
                        ("empty/*.log", "empty/*.log: no file has such a name; --follow waits for one")):
        tool = tools.run("ingest", what)
        assert tool.status == 1 and tool.err.count("waits for") == 1 and "waiting" not in tool.err and words in tool.err


def test_the_files_of_a_pattern_are_read_in_the_order_of_their_names(tools, directory):
    for i, name in enumerate(("a.ndjson", "b.ndjson", "c.txt", ".d.ndjson", "e.ndjson")):
        append(directory / name, i * 10, i * 10 + 1)
    (directory / "f.ndjson").mkdir()
    (directory / "e.ndjson").write_text(lines([40]) + '{"n":41}')     # the last line needs no end
    for pattern, expected in (("*.ndjson", [0, 1, 10, 11, 40, 41]), ("[ae].ndjson", [0, 1, 40, 41]), (".d*", [30, 31]), ("file:%3F.ndjson", [0, 1, 10, 11, 40, 41])):
        tool = tools.run("ingest", pattern)
        assert tool.status == 0 and seen(tool) == expected, (pattern, tool.err)


def test_a_directory_means_all_its_files_each_in_its_own_format(tools, directory):
    (directory / "in").mkdir()
    (directory / "in/a.csv").write_text("n,k\n1,x\n2,y\n")
    (directory / "in/b.ndjson").write_text(lines([3]))
    (directory / "in/c.csv").write_text("k,n\nz,4\n")
    for path in ("in", "in/", str(directory / "in"), f"file://{directory}/in/"):
        tool = tools.run("ingest", path)
        assert tool.status == 0 and seen(tool) == [1, 2, 3, 4], tool.err


def test_a_name_with_the_signs_of_a_pattern_is_a_name_when_there_is_such_a_file(tools, directory):
    append(directory / "a[1].ndjson", 1)
    append(directory / "a1.ndjson", 2)
    assert seen(tools.run("ingest", "a[1].ndjson")) == [1]


def test_what_cannot_be_is_told(tools, directory):
    tool = tools.run("ingest", "*.ndjson")
    assert tool.status == 1 and "--follow waits" in tool.err
    tool = tools.run("ingest", "*/x.ndjson")
    assert tool.status == 64 and "last part" in tool.err
    tool = tools.run("ingest", "*.ndjson", "--from-end")
    assert tool.status == 64 and "--follow" in tool.err


def test_files_read_once_are_exact_over_kills(tools, directory):
    each, files = 4000, 12
    for f in range(files):
        append(directory / f"{f:02}.ndjson", *range(f * each, (f + 1) * each))
    runs = Runs(tools, directory, "*.ndjson", "--batch-size", "50")
    for _ in range(8):
        if runs.kill_after(0.01, 0.06):
            break
    runs.finish()
    assert runs.numbers() == [*range(files * each), "end"], first_difference(runs.numbers(), list(range(files * each)))


# Followed

def test_files_come_grow_and_go(tools, directory):
    append(directory / "a.ndjson", 0)
    tool = start_ready(tools, "*.ndjson", "--follow")
    tool.wait_events(1)
    append(directory / "b.ndjson", 1)
    tool.wait_events(2)
    append(directory / "a.ndjson", 2)
    tool.wait_events(3)
    (directory / "a.ndjson").unlink()
    append(directory / "c.other", 99)
    append(directory / "b.ndjson", 3)
    tool.wait_events(4)
    append(directory / "a.ndjson", 4)                   # another one of that name
    tool.wait_events(5)
    append(directory / "new", 5)
    os.rename(directory / "new", directory / "z.ndjson")
    tool.wait_events(6)
    assert tool.terminate() == 0
    assert seen(tool) == list(range(6))


def test_the_first_file_and_the_directory_are_waited_for(tools, directory):
    tool = start_ready(tools, "in/*.ndjson", "--follow")
    tool.wait_err("waiting for the directory")
    (directory / "in").mkdir()
    append(directory / "in/a.ndjson", 0)
    tool.wait_events(1)
    shutil.rmtree(directory / "in")
    tool.wait_err("waiting for the directory")
    (directory / "in").mkdir()
    append(directory / "in/a.ndjson", 1)
    tool.wait_events(2)
    assert tool.terminate() == 0
    assert seen(tool) == [0, 1]


def test_from_the_end_is_meant_for_files_that_are_there_already(tools, directory):
    (directory / "in").mkdir()
    append(directory / "in/a.ndjson", 100)
    (directory / "in/b.csv").write_text("k,n\nx,101\n")
    tool = start_ready(tools, "in", "--follow", "--from-end")
    append(directory / "in/a.ndjson", 0)
    tool.wait_events(1)
    with open(directory / "in/b.csv", "a") as file:
        file.write("y,1\n")                             # its columns are known all the same
    tool.wait_events(2)
    append(directory / "in/c.ndjson", 2)
    tool.wait_events(3)
    assert tool.terminate() == 0
    assert seen(tool) == [0, 1, 2]


def test_a_file_that_gets_another_matching_name_keeps_its_place(tools, directory):
    a, b = directory / "a.ndjson", directory / "b.ndjson"
    append(a, 0)
    tool = start_ready(tools, "*.ndjson", "--follow")
    tool.wait_events(1)
    os.rename(a, b)
    append(b, 1)
    tool.wait_events(2)
    append(a, 2)
    tool.wait_events(3)
    os.link(a, directory / "c.ndjson")                  # two names of one file: read once
    append(a, 3)
    tool.wait_events(4)
    append(b, 4)
    tool.wait_events(5)
    assert tool.terminate() == 0
    assert seen(tool) == list(range(5))


def test_names_that_match_are_never_taken_for_rotated_files_of_others(tools, directory):
    """worker-1.log is no old worker.log: it is read once, as itself, also when worker.log is rotated."""
    append(directory / "worker.ndjson", 0)
    append(directory / "worker-1.ndjson", 1)
    tool = start_ready(tools, "*.ndjson", "--follow", "--rotate-wait", "50ms")
    tool.wait_events(2)
    n = 2
    for _ in range(3):
        append(directory / "worker-1.ndjson", n)
        os.rename(directory / "worker.ndjson", directory / f"worker.ndjson.{n}")
        append(directory / "worker.ndjson", n + 1)
        append(directory / "worker-1.ndjson", n + 2)
        n += 3
        tool.wait_events(n)
    assert tool.terminate() == 0
    assert sorted(seen(tool)) == list(range(n))


class Numbered(Writer):
    """As Writer, with numbers from `first` on."""

    def __init__(self, path, first, count, ways, seed):
        super().__init__(path, count, ways, seed)
        self.first = first

    def run(self):
        written = 0
        while written < self.count:
            for _ in range(self.rng.randrange(1, 20)):
                many = min(self.rng.randrange(1, self.count // 50), self.count - written)
                with open(self.path, "ab", buffering=0) as file:
                    file.write(b"".join(b'{"n":%d,"k":"line"}\n' % i for i in range(self.first + written, self.first + written + many)))
                written += many
                time.sleep(self.rng.uniform(0, 0.02))
            if written < self.count:
                self.rotate()


def follow_over_kills(runs, writers, each):
    """Kills and starts again while the writers write `each` numbers to a file each; returns the last run when all have come, once and in their order."""
    runs.start_ready().kill()           # what comes after that is read, also what has been rotated away when its name is first seen
    for writer in writers:
        writer.start()
    while any(writer.is_alive() for writer in writers) or runs.kills < 3:
        runs.kill_after(0.05, 0.4)
        time.sleep(runs.rng.uniform(0, 0.3))
    for writer in writers:
        writer.join()
    tool, count = runs.start(), len(writers) * each
    try:
        support.wait_for(lambda: len(runs.numbers()) >= count, seconds=40)
    except AssertionError:
        pass
    numbers = runs.numbers()
    assert sorted(numbers) == list(range(count)), first_difference(sorted(numbers), list(range(count)))
    for f in range(len(writers)):
        own = [n for n in numbers if f * each <= n < (f + 1) * each]
        assert own == sorted(own), f"app{f:02} in its order"
    assert sum(writer.rotations for writer in writers) >= 5
    return tool


@pytest.mark.parametrize("ways, files, seed", [(["rename"], 3, 1), (["copy"], 3, 2), (["rename", "copy"], 24, 3)])
def test_followed_files_are_exact_over_kills_and_rotations(tools, directory, ways, files, seed):
    """With 24 files more are written to than are open at a time."""
    each = 30000 // files
    runs = Runs(tools, directory, "*.ndjson", "--follow", "--rotate-wait", "100ms", "--batch-size", "50", seed=seed)
    writers = [Numbered(directory / f"app{f:02}.ndjson", f * each, each, ways, seed * 100 + f) for f in range(files)]
    assert follow_over_kills(runs, writers, each).terminate() == 0


def test_files_that_are_deleted_are_not_said_to_be_others(tools, directory):
    """Also those that were not open when they went."""
    for n in range(40):
        append(directory / f"a{n}.ndjson", n)
    tool = start_ready(tools, "*.ndjson", "--follow")
    assert sorted(seen_events(tool, 40)) == list(range(40))
    for n in range(40):
        os.unlink(directory / f"a{n}.ndjson")
    append(directory / "b.ndjson", 40)
    assert sorted(seen_events(tool, 41)) == list(range(41))
    os.unlink(directory / "b.ndjson")
    append(directory / "b.ndjson", 41)                      # this is one, and is told at most
    assert sorted(seen_events(tool, 42)) == list(range(42))
    assert tool.terminate() == 0
    assert not re.search(r"a\d+\.ndjson is another file", tool.err), tool.err


def seen_events(tool, count):
    tool.wait_events(count)
    return seen(tool)


def test_many_files_with_few_of_them_open(tools, directory):
    files, widest = 700, 0
    (directory / "in").mkdir()
    for f in range(files):
        append(directory / f"in/{f}.ndjson", f)
    runs = Runs(tools, directory, "in/*.ndjson", "--follow")

    def read():
        nonlocal widest
        widest = max(widest, len(os.listdir(f"/proc/{tool.process.pid}/fd")))
        return len(runs.numbers())
    tool = runs.start_ready()
    support.wait_for(lambda: read() == files, lambda: f"all files: {read()}; {tool.err}", 60)
    tool.kill()
    tool = runs.start_ready()
    for f in range(0, files, 7):
        append(directory / f"in/{f}.ndjson", files + f)
    total = files + len(range(0, files, 7))
    support.wait_for(lambda: read() == total, lambda: f"what is new: {read()}; {tool.err}", 60)
    assert tool.terminate() == 0
    assert sorted(runs.numbers()) == [*range(files), *range(files, 2 * files, 7)]
    assert widest < 100, "descriptors"


def test_places_of_many_files_cost_what_changes(tools, directory):
    """The log does not get the places of all files with each frame."""
    files, more = 800, 60
    (directory / "in").mkdir()
    for f in range(files):
        append(directory / f"in/{f}.ndjson", f)
    runs = Runs(tools, directory, "in/*.ndjson", "--follow", "--batch-size", "1")
    tool = runs.start_ready()
    support.wait_for(lambda: len(runs.numbers()) == files, lambda: f"all files: {len(runs.numbers())}; {tool.err}", 60)
    tool.kill()
    tool = runs.start_ready()
    for i in range(more):
        append(directory / f"in/{i * 7}.ndjson", files + i)
        support.wait_for(lambda: len(runs.numbers()) == files + i + 1, lambda: f"what is new; {tool.err}")
    assert tool.terminate() == 0
    assert sorted(runs.numbers()) == list(range(files + more))
    assert runs.log_size() < (files + more) * 3000


@pytest.mark.parametrize("limit", ["1MiB", "1GiB"])
def test_changed_places_are_exact_over_kills_while_the_log_is_trimmed(tools, directory, limit):
    (directory / "in").mkdir()
    names = [f"{f}.ndjson" for f in range(200)]
    runs = Runs(tools, directory, "in/*.ndjson", "--follow", "--batch-size", "10", "--spool-limit", limit, seed=7)
    n = 0
    for _ in range(8):
        tool = runs.start()
        for _ in range(60):
            append(directory / "in" / runs.rng.choice(names), *range(n, n + 20))
            n += 20
        for i in runs.rng.sample(range(len(names)), 3):         # a matching name: they keep their places
            if (directory / "in" / names[i]).exists():
                os.rename(directory / "in" / names[i], directory / "in" / f"r{names[i]}")
                names[i] = f"r{names[i]}"
        time.sleep(runs.rng.uniform(0.05, 0.5))
        tool.kill()
    tool = runs.start()
    support.wait_for(lambda: len(runs.numbers()) >= n, lambda: f"{len(runs.numbers())} of {n}; {tool.err}", 60)
    assert tool.terminate() == 0
    assert sorted(runs.numbers()) == list(range(n)), first_difference(sorted(runs.numbers()), list(range(n)))


def test_more_files_than_allowed_are_reported_and_read_when_others_have_gone(tools, directory):
    for f in range(4):
        append(directory / f"{f}.ndjson", f)
    tool = start_ready(tools, "*.ndjson", "--follow", "--files-max", "3")
    tool.wait_err("--files-max")
    tool.wait_events(3)
    (directory / "0.ndjson").unlink()
    tool.wait_events(4)
    assert tool.terminate() == 0
    assert seen(tool) == [0, 1, 2, 3]


def test_a_position_of_other_files_is_refused(tools, directory):
    append(directory / "a.ndjson", 1)
    of_one = start_ready(tools, "a.ndjson", "--follow", "--state", "state")
    of_one.wait_events(1)
    assert of_one.terminate() == 0
    tool = tools.run("ingest", "*.ndjson", "--state", "state")
    assert tool.status == 1 and "--reset" in tool.err


# Lines that a pattern takes apart

def test_lines_are_taken_apart_by_a_regular_expression(tools, directory):
    (directory / "a.log").write_bytes(b'2026-11-27T05:00:00Z error 17 disk full\r\nbad\n\n2026-11-27T05:00:01Z info 007 \n\xff\n2026-11-27T05:00:02Z info x')
    pattern = r"^(?<at>\S+) (?<level>\w+)(?: (?<n>\d+) (?<text>.*))?"
    tool = tools.run("ingest", "*.log", "--format", "regex", "--pattern", pattern, "--time", "at", "--dead-letter", "dead")
    assert tool.status == 0, tool.err
    first, second, third = tool.events
    assert (first["level"], first["n"], first["text"]) == ("error", 17, "disk full") and second["n"] == "007", "as CSV would have it"
    assert third["level"] == "info" and third["n"] is None and third["text"] is None
    letters = support.lines_of(directory / "dead")
    assert [letter["place"].split(":")[-1] for letter in letters] == ["2", "5"] and "does not match" in letters[0]["reason"]
    tool = tools.run("ingest", "a.log", "--format", "regex", "--pattern", r"(?<n>\d+)", "--csv-strings")
    assert [event["n"] for event in tool.events] == ["2026", "2026", "2026"]
    tool = tools.run("ingest", "a.log", "--format", "regex", "--pattern", r"(?<level>[a-z]+)", "--time", "level")
    assert tool.events == [] and "level" in tool.err


@pytest.mark.parametrize("arguments, words", [((), "needs --pattern"), (("--pattern", "(x"), "byte 3"), (("--pattern", "(x)"), "named group")])
def test_a_regular_expression_that_cannot_be_used_is_told(tools, directory, arguments, words):
    (directory / "a.log").write_text("x\n")
    tool = tools.run("ingest", "a.log", "--format", "regex", *arguments)
    assert tool.status != 0 and words in tool.err


# Access logs

def test_an_access_log_is_followed_over_its_rotation_with_the_times_of_its_lines(tools, directory):
    def request(i, status=200):
        return f'10.0.0.{i % 256} - - [27/Nov/2026:06:{i // 60 % 60:02}:{i % 60:02} +0100] "GET /page/{i}?q=\\"x\\" HTTP/1.1" {status} {i} "-" "curl/7.88"\n'
    log = directory / "access.log"
    log.write_text("".join(request(i) for i in range(3)) + "no request\n")
    tool = start_ready(tools, "access.log", "--follow", "--format", "combined", "--dead-letter", "dead", "--rotate-wait", "50ms")
    tool.wait_events(3)
    os.rename(log, directory / "access.log.1")
    log.write_text(request(3, 404))
    tool.wait_events(4)
    assert tool.terminate() == 0
    last = tool.events[3]
    assert (last["host"], last["path"], last["status"], last["size"], last["referrer"]) == ("10.0.0.3", '/page/3?q="x"', 404, 3, None)
    assert [event["@timestamp"] for event in tool.events] == [f"2026-11-27T05:00:0{i}Z" for i in range(4)]
    assert [letter["reason"] for letter in support.lines_of(directory / "dead")] == ["expected HOST IDENTITY USER [TIME] and more"]


def test_a_file_of_syslog_is_followed_over_a_restart_with_the_times_of_its_lines(tools, directory):
    log = directory / "syslog"
    log.write_text("2026-11-27T06:00:00.5+01:00 host cron[7]: (root) CMD (true)\nnothing\n<165>1 2026-11-27T05:00:01Z h app - ID4 [a@1 b=\"c\"] second\n")
    arguments = ("syslog", "--follow", "--format", "syslog", "--state", "state", "--dead-letter", "dead")
    tool = start_ready(tools, *arguments)
    tool.wait_events(2)
    assert tool.terminate() == 0
    with open(log, "a") as file:
        file.write("2026-11-27T05:00:02Z host sshd: third\n")
    again = start_ready(tools, *arguments)
    again.wait_events(1)
    assert again.terminate() == 0
    assert tool.events + again.events == [
        {"@timestamp": "2026-11-27T05:00:00.5Z", "timestamp": "2026-11-27T05:00:00.5Z", "hostname": "host", "appname": "cron", "procid": "7",
         "message": "(root) CMD (true)"},
        {"@timestamp": "2026-11-27T05:00:01Z", "facility": "local4", "severity": "notice", "timestamp": "2026-11-27T05:00:01Z", "hostname": "h",
         "appname": "app", "msgid": "ID4", "data": {"a@1": {"b": "c"}}, "message": "second"},
        {"@timestamp": "2026-11-27T05:00:02Z", "timestamp": "2026-11-27T05:00:02Z", "hostname": "host", "appname": "sshd", "message": "third"}]
    assert [letter["text"] for letter in support.lines_of(directory / "dead")] == ["nothing"]


# Records of several lines

TRACE = "ERROR {0}\nTraceback (most recent call last):\n  File \"a.py\", line {0}\nValueError: {0}\n"


def test_stack_traces_are_one_record_and_the_last_is_not_waited_for_without_end(tools, directory):
    log = directory / "app.log"
    log.write_text(TRACE.format(0) + "INFO 1\n")
    tool = start_ready(tools, "*.log", "--follow", "--multiline", "python", "--multiline-wait", "100ms")
    tool.wait_events(2)                                        # INFO 1, though more could follow
    with open(log, "a") as file:
        file.write(TRACE.format(2))
    tool.wait_events(3)
    with open(log, "a") as file:
        file.write("  late\nINFO 3\nhalf a line")
    tool.wait_events(5)
    assert tool.terminate() == 0
    assert [event["message"] for event in tool.events] == [TRACE.format(0)[:-1], "INFO 1", TRACE.format(2)[:-1], "  late", "INFO 3"]


def test_many_files_whose_last_records_are_waited_for(tools, directory):
    for f in range(40):
        (directory / f"{f:02}.log").write_text(TRACE.format(f))
    tool = start_ready(tools, "*.log", "--follow", "--multiline", "python", "--multiline-wait", "50ms")
    tool.wait_events(40)
    assert tool.terminate() == 0
    assert sorted(event["message"] for event in tool.events) == sorted(TRACE.format(f)[:-1] for f in range(40))


def test_records_of_several_lines_are_exact_over_kills(tools, directory):
    """Each line comes once, whether its record was ended by the next one or by the wait, and wherever it was killed."""
    log, written = directory / "app.log", 0
    pattern = r"^(?<n>\d+)(?s:.*) (?<k>x\d+)$"                 # its first line and its last
    runs = Runs(tools, directory, "app.log", "--follow", "--format", "regex", "--pattern", pattern, "--multiline-start", r"^\d+ first",
                "--multiline-wait", "5ms", "--batch-size", "3", seed=11)
    for _ in range(12):
        tool = runs.start()
        for _ in range(20):
            for i in range(runs.rng.randrange(1, 6)):
                with open(log, "a") as file:
                    file.write(f"{written} {'first' if i == 0 else 'more'} x{written}\n")
                written += 1
                if runs.rng.random() < 0.2:
                    time.sleep(0.01)
        time.sleep(runs.rng.uniform(0, 0.1))
        tool.kill()
    with open(log, "a") as file:
        file.write(f"{written} first x{written}\n")
    tool = runs.start()
    support.wait_for(lambda: written in runs.numbers(), lambda: f"the last; {tool.err}")
    assert tool.terminate() == 0
    records = [(first, int(last[1:])) for _, _, first, last in link_support.read(runs.out)]
    at = 0
    for first, last in records:
        assert first == at <= last, (first, last, at)
        at = last + 1
    assert at == written + 1


def test_a_format_that_has_no_lines_refuses_them(tools, directory):
    (directory / "a.csv").write_text("a\n1\n")
    tool = tools.run("ingest", "a.csv", "--multiline", "java")
    assert tool.status != 0 and "--multiline needs --format lines or regex" in tool.err


def test_parts_of_the_path_become_fields(tools, directory):
    """Also of rotated files, and over a restart: the place does not depend on them."""
    (directory / "web1").mkdir()
    for n in (7, 8):
        append(directory / f"web1/app-{n}.ndjson", n)
    level = len((directory / "web1").parts) - 1
    options = ["--follow", "--path-fields", ",".join(["-"] * (level - 1) + ["host", "n"]), "--path-pattern", r"app-(?<instance>\d+)(?<odd>x)?\.ndjson$", "--rotate-wait", "50ms"]
    tool = start_ready(tools, "web1/*.ndjson", *options, "--state", "state")
    tool.wait_events(2)
    assert sorted(tool.events, key=str) == [{"n": f"app-{n}.ndjson", "host": "web1", "instance": str(n)} for n in (7, 8)]
    assert tool.terminate() == 0
    os.rename(directory / "web1/app-7.ndjson", directory / "web1/app-7.ndjson.1")
    append(directory / "web1/app-7.ndjson.1", 9)
    append(directory / "web1/app-7.ndjson", 10)
    append(directory / "web1/other.ndjson", 11)
    tool = start_ready(tools, "web1/*.ndjson", *[option.replace("host,n", "host,file") for option in options], "--state", "state")
    tool.wait_events(3)
    assert tool.terminate() == 0
    expected = [{"n": n, "host": "web1", "file": "app-7.ndjson", "instance": "7"} for n in (9, 10)]
    assert sorted(tool.events, key=lambda event: event["n"]) == [*expected, {"n": 11, "host": "web1", "file": "other.ndjson"}]
    tool = tools.run("ingest", "web1/app-8.ndjson", "--path-pattern", "(?<dir>[^/]+)/[^/]+$", "--path-field", "path")
    assert tool.events == [{"n": 8, "dir": "web1", "path": str(directory / "web1/app-8.ndjson")}]


@pytest.mark.parametrize("options, told", [
    (("--path-fields", "a,-,a"), "--path-fields: another field has the name a already"),
    (("--path-fields", ",".join("abc"[i % 3] + str(i) for i in range(65))), "at most 64 names"),
    (("--path-pattern", "("), "--path-pattern"),
    (("--path-pattern", "a"), "no named group"),
    (("--path-field", "a", "--path-pattern", "(?<a>.)"), "--path-pattern: another field has the name a already"),
])
def test_fields_of_the_path_that_cannot_be_are_told(tools, directory, options, told):
    append(directory / "a.ndjson", 1)
    tool = tools.run("ingest", "a.ndjson", *options)
    assert tool.status == 64 and told in tool.err


def test_events_tell_their_file_and_where_to_begin_is_said_once(tools, directory):
    append(directory / "a.ndjson", 1)
    append(directory / "b.ndjson", 2)
    tool = tools.run("ingest", "[ab].ndjson", "--path-field", "file", "--from-beginning")
    assert [(event["n"], event["file"]) for event in tool.events] == [(1, f"{directory}/a.ndjson"), (2, f"{directory}/b.ndjson")], tool.err
    tool = tools.run("ingest", "a.ndjson", "--follow", "--from-beginning", "--from-end")
    assert tool.status == 64 and "only one" in tool.err


def test_too_many_inotify_instances_is_an_error(tools, directory):
    """In a user namespace of its own, whose limit is none of the other users'."""
    append(directory / "a.ndjson", 1)
    limit = 'echo 0 >/proc/sys/user/max_inotify_instances && exec "$0" "$@"'
    tool = tools.run("unshare", "-Ur", "sh", "-c", limit, support.tool_path("ingest"), "*.ndjson", "--follow", "--state", "state")
    assert tool.status == 1 and "fs.inotify.max_user_instances" in tool.err, tool.err
