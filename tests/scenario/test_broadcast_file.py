"""broadcast's file sink: formats, appending, rotation, reopening, several streams, full disks."""

import csv
import io
import os
import resource
import signal

import pytest

import support
from support import lines_of, ndjson, sensor_lines, wait_for, whole


def seqs(path):
    return [event["seq"] for event in lines_of(path)]


def test_writes_ndjson_that_holds_every_event_unchanged(tools, directory):
    events = sensor_lines(5000)
    done = tools.run("broadcast", "file:out.ndjson", input=events)
    assert done.status == 0, done.err
    assert lines_of(directory / "out.ndjson") == events


def test_a_plain_path_is_a_file_and_its_ending_chooses_csv(tools, directory):
    events = [{"a": 1, "b": "x,\"y\"", "c": None}, {"a": 2.5, "b": "two\nlines", "c": True}]
    done = tools.run("broadcast", "./out.csv", input=events)
    assert done.status == 0, done.err
    rows = list(csv.DictReader(io.StringIO((directory / "out.csv").read_text(), newline="")))
    assert rows == [{"a": "1", "b": "x,\"y\"", "c": ""}, {"a": "2.5", "b": "two\nlines", "c": "true"}]


def test_format_option_overrules_the_ending(tools, directory):
    assert tools.run("broadcast", "file:out.csv?format=ndjson", input=[{"a": 1}]).status == 0
    assert lines_of(directory / "out.csv") == [{"a": 1}]
    assert tools.run("broadcast", "file:other.csv", "--format", "ndjson", input=[{"a": 2}]).status == 0
    assert lines_of(directory / "other.csv") == [{"a": 2}]


def test_appends_after_a_restart(tools, directory):
    for part in range(3):
        assert tools.run("broadcast", "file:out.ndjson", input=sensor_lines(10, first=10 * part)).status == 0
    assert seqs(directory / "out.ndjson") == list(range(30))


def test_a_torn_last_line_is_ended_first(tools, directory):
    (directory / "out.ndjson").write_text('{"seq":1}\n{"seq"')
    done = tools.run("broadcast", "file:out.ndjson", input=[{"seq": 2}])
    assert done.status == 0
    assert (directory / "out.ndjson").read_text() == '{"seq":1}\n{"seq"\n{"seq":2}\n'
    assert "middle of a line" in done.err


@pytest.mark.parametrize("path, unknown", [("a-%Q.ndjson", "%Q"), ("50%", "%"), ("%é.log", "%é"), ("{nope}/x.ndjson", "{nope}"), ("%Y/{Stream}.csv", "{Stream}")])
def test_what_no_path_may_hold_is_said_at_the_start(tools, directory, path, unknown):
    done = tools.run("broadcast", f"file:{path}", input=[{"x": 1}])
    assert done.status == 64 and f"there is no {unknown} in a path" in done.err, done.err
    for known in ("{stream}", "%Y", "%F"):
        assert known in done.err
    assert not list(directory.glob("**/*.ndjson")) and not (directory / path).exists()


def test_a_percent_sign_and_braces_of_no_name_stand_for_themselves(tools, directory):
    assert tools.run("broadcast", "file:100%%{}-{a,b}.ndjson", input=[{"x": 1}]).status == 0
    assert lines_of(directory / "100%{}-{a,b}.ndjson") == [{"x": 1}]


def test_makes_missing_directories(tools, directory):
    assert tools.run("broadcast", "file:a/b/c.ndjson", input=[{"x": 1}]).status == 0
    assert lines_of(directory / "a/b/c.ndjson") == [{"x": 1}]


def test_rotation_by_size_keeps_every_event_once(tools, directory):
    done = tools.run("broadcast", "file:out.ndjson", "--rotate-size", "64KiB", "--keep", "100", input=sensor_lines(6000))
    assert done.status == 0, done.err
    old = sorted(directory.glob("out.ndjson.*"), key=lambda p: -int(p.suffix[1:]))
    assert len(old) >= 3
    assert [p.suffix for p in old] == [f".{n}" for n in range(len(old), 0, -1)]
    assert [n for path in old for n in seqs(path)] + seqs(directory / "out.ndjson") == list(range(6000))


def test_rotation_deletes_what_is_not_to_be_kept(tools, directory):
    done = tools.run("broadcast", "file:out.ndjson?rotate-size=64KiB&keep=2", input=sensor_lines(20000))
    assert done.status == 0, done.err
    assert sorted(p.name for p in directory.glob("out.ndjson*")) == ["out.ndjson", "out.ndjson.1", "out.ndjson.2"]
    kept = [n for name in ("out.ndjson.2", "out.ndjson.1", "out.ndjson") for n in seqs(directory / name)]
    assert kept == list(range(kept[0], 20000))


def test_rotation_by_age(tools, directory):
    broadcast = tools.start("broadcast", "file:out.ndjson?rotate-every=10ms", pipe=True)
    path, old = directory / "out.ndjson", directory / "out.ndjson.1"
    broadcast.write(ndjson(sensor_lines(5)))
    wait_for(lambda: path.exists() and path.read_bytes().count(b"\n") == 5, "the first five events")
    count = 5
    while not old.exists():            # events go on until the file is old enough; each is kept
        broadcast.write(ndjson(sensor_lines(1, first=count)))
        count += 1
        wait_for(lambda: sum(whole(p).count(b"\n") for p in directory.glob("out.ndjson*")) == count, "the next event")
    broadcast.close()
    assert broadcast.wait() == 0
    assert seqs(old) + seqs(path) == list(range(count))


def test_hangup_opens_the_file_anew(tools, directory):
    broadcast = tools.start("broadcast", "file:out.ndjson", pipe=True)
    path = directory / "out.ndjson"
    broadcast.write(ndjson(sensor_lines(3)))
    wait_for(lambda: path.exists() and path.read_bytes().count(b"\n") == 3, "three events")
    path.rename(directory / "moved.ndjson")
    broadcast.signal(signal.SIGHUP)
    broadcast.wait_err("opened anew")
    broadcast.write(ndjson(sensor_lines(2, first=3)))
    broadcast.close()
    assert broadcast.wait() == 0
    assert seqs(directory / "moved.ndjson") == [0, 1, 2]
    assert seqs(path) == [3, 4]


def test_one_file_per_stream(tools, directory):
    events = [{"@stream": f"s{i % 3}", "seq": i} for i in range(300)]
    done = tools.run("broadcast", "file:{stream}/all.ndjson", input=events)
    assert done.status == 0, done.err
    for n in range(3):
        assert lines_of(directory / f"s{n}/all.ndjson") == [{"seq": i} for i in range(n, 300, 3)]


def test_a_stream_cannot_leave_the_directory(tools, directory):
    inside = directory / "inside"
    inside.mkdir()
    broadcast = tools.start("broadcast", "file:{stream}/x.ndjson", input=[{"@stream": "..", "seq": 1}], cwd=inside)
    broadcast.wait_err("cannot be part of a file name|not a stream")
    assert not (directory / "x.ndjson").exists()


def test_more_streams_than_files_may_be_open(tools, directory):
    events = [{"@stream": f"s{i % 100}", "seq": i} for i in range(1000)]
    done = tools.run("broadcast", "file:{stream}.ndjson", input=events)
    assert done.status == 0, done.err
    for n in range(100):
        assert seqs(directory / f"s{n}.ndjson") == list(range(n, 1000, 100))


def test_the_date_in_a_path(tools, directory):
    assert tools.run("broadcast", "file:day-%Y%m%d-%%.ndjson", input=[{"a": 1}]).status == 0
    (found,) = directory.glob("day-*.ndjson")
    assert found.name.startswith("day-20") and found.name.endswith("-%.ndjson") and len(found.name) == len("day-20260101-%.ndjson")


def test_a_full_disk_is_waited_for_and_nothing_is_lost_or_doubled(tools, directory):
    # A limit on the file's size stands for the full disk: it can be lifted from here.
    broadcast = tools.start("broadcast", "file:out.ndjson", pipe=True)
    events = sensor_lines(2000)
    path = directory / "out.ndjson"
    wait_for(path.exists, "the file")
    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    resource.prlimit(broadcast.pid, resource.RLIMIT_FSIZE, (50000, hard))
    broadcast.write(ndjson(events))
    broadcast.wait_err(r"out.ndjson: .*File too large; trying again")
    assert broadcast.running
    resource.prlimit(broadcast.pid, resource.RLIMIT_FSIZE, (hard, hard))
    broadcast.close()
    assert broadcast.wait() == 0, broadcast.err
    assert lines_of(path) == events
    assert "works again" in broadcast.err


def test_a_sink_that_fails_does_not_hold_back_another(tools, directory):
    broadcast = tools.start("broadcast", "file:/dev/full?name=broken", "file:good.ndjson", pipe=True)
    broadcast.write(ndjson(sensor_lines(1000)))
    wait_for(lambda: (directory / "good.ndjson").exists() and (directory / "good.ndjson").read_bytes().count(b"\n") == 1000,
             "the good sink to have everything")
    broadcast.wait_err("sink broken: .*No space left on device; trying again")
    assert broadcast.running


def test_fsync_policies_write_everything(tools, directory):
    for policy in ("interval", "always", "never"):
        done = tools.run("broadcast", f"file:{policy}.ndjson?fsync={policy}" + ("&fsync-interval=50ms" if policy == "interval" else ""), input=sensor_lines(3000))
        assert done.status == 0, done.err
        assert seqs(directory / f"{policy}.ndjson") == list(range(3000))


def test_two_sinks_never_write_to_one_file(tools, directory):
    done = tools.run("broadcast", "out.ndjson", "./out.ndjson", input=[{"x": 1}])
    assert done.status == 1 and "./out.ndjson is written to by another sink" in done.err, done.err
    first = tools.start("broadcast", "out.ndjson", "--rotate-size", "40", pipe=True)
    first.write(ndjson([{"seq": 0}]))
    wait_for(lambda: (directory / "out.ndjson").read_bytes().count(b"\n") == 1, "the event")
    done = tools.run("broadcast", "out.ndjson", input=[{"x": 2}])
    assert done.status == 1 and "each needs a file of its own" in done.err, done.err
    for seq in range(1, 9):                                # rotated and opened anew, the file stays its own
        first.write(ndjson([{"seq": seq}]))
        wait_for(lambda: sum(path.read_bytes().count(b"\n") for path in directory.glob("out.ndjson*")) == seq + 1, "the event")
        first.signal(signal.SIGHUP)
    first.close()
    assert first.wait() == 0, first.err
    assert tools.run("broadcast", "out.ndjson", input=[{"seq": 9}]).status == 0
    assert sorted(event["seq"] for path in directory.glob("out.ndjson*") for event in lines_of(path)) == list(range(10))


def test_options_of_a_format_are_checked_before_the_start(tools, directory):
    for options in (["out.csv"], ["stdout:", "--format", "csv"]):
        done = tools.run("broadcast", *options, "--csv-separator", ";;", "--check")
        assert done.status == 64 and "csv-separator" in done.err, done.err
    assert not (directory / "out.csv").exists()


def test_an_unusable_path_is_said_at_once(tools, directory):
    done = tools.run("broadcast", "file:/proc/nothing/out.ndjson", input=[{"a": 1}])
    assert done.status == 1
    assert "/proc/nothing" in done.err
    done = tools.run("broadcast", f"file:{directory}", input=[{"a": 1}])
    assert done.status == 1
    assert "directory" in done.err.lower()
    os.mkfifo(directory / "pipe")
    done = tools.run("broadcast", "file:pipe", input=[{"a": 1}])
    assert done.status == 1


def changed_meanwhile(tools, directory, change):
    """Between events something else does something to the file; later the stage is killed and started again. Returns what was said, and the lines."""
    (directory / "in.ndjson").touch()
    link, out = f"ipc://{directory}/link", directory / "out.ndjson"
    tools.start("ingest", "in.ndjson", "--follow", "--to", link, "--state", "sender")

    def start():
        return tools.start("broadcast", "file:out.ndjson", "--from", link, "--state", "state")

    def add(first):
        with open(directory / "in.ndjson", "ab") as file:
            file.write(support.ndjson({"n": first + n} for n in range(100)))
        wait_for(lambda: out.exists() and f'"n":{first + 99}}}'.encode() in out.read_bytes(), "these events")
    broadcast = start()
    add(0)
    change(out)
    add(100)
    said = broadcast.err
    broadcast.kill()
    broadcast = start()
    add(200)
    assert broadcast.terminate() == 0
    return said, out.read_text().splitlines()


def numbered(first, end):
    return [f'{{"n":{n}}}' for n in range(first, end)]


def test_a_file_that_something_else_deletes_is_begun_anew(tools, directory):
    said, lines = changed_meanwhile(tools, directory, lambda path: path.unlink())
    assert "something else has deleted it" in said
    assert lines == numbered(100, 300)


def test_a_file_that_something_else_cuts_goes_on_with_whole_lines(tools, directory):
    said, lines = changed_meanwhile(tools, directory, lambda path: os.truncate(path, 12))
    assert "something else has cut it" in said and "a new line is begun" in said
    assert lines == ['{"n":0}', '{"n"', *numbered(100, 300)]


def test_what_something_else_appends_costs_no_event(tools, directory):
    def append(path):
        with open(path, "ab") as file:
            file.write(b'{"n":-1}\n')
    said, lines = changed_meanwhile(tools, directory, append)
    assert "something else writes to it" in said
    assert lines == [*numbered(0, 100), '{"n":-1}', *numbered(100, 300)]
