"""ingest: command line, standard input, bad input, samples."""

import json
import os
import pty
import signal

import pytest

import support


def numbered(first, count):
    return [{"n": i, "text": f"line {i}"} for i in range(first, first + count)]


# Command line

def test_unknown_scheme_names_the_known_ones_and_the_nearest(tools):
    tool = tools.run("ingest", "htp://example.com/")
    assert tool.status == 64
    assert 'did you mean "http"?' in tool.err
    for scheme in ("file", "https", "generator", "system"):
        assert scheme in tool.err
    assert tool.out == b""


def test_an_address_without_a_scheme_is_told_as_that(tools):
    tool = tools.run("ingest", "localhost:8080/orders?key=secret", "--check")
    assert tool.status == 64 and "write http://localhost:..., mqtt://localhost:... or the like" in tool.err and "secret" not in tool.err


@pytest.mark.parametrize("arguments, said", [
    ([], "no source given"),
    (["a.csv", "b.csv"], "b.csv"),
    (["generator:sensor"], "generator:sensors"),
    (["generator:sensors?rat=5"], "rate"),
    (["generator:sensors?rate=fast"], "rate"),
    (["generator:sensors", "--rate", "-1"], "rate"),
    (["generator:sensors", "--follow"], "follow"),
    (["generator:sensors", "--step", "1s"], "--start"),
    (["system:x"], "system:"),
    (["system:?kinds=cpus"], "kinds"),
    (["data.csv", "--format", "csw"], "csv"),
    (["data.csv", "--from-end"], "--follow"),
    (["data.csv", "--intervall", "5"], "interval"),
    (["http://"], "http://host"),
    (["http://[::1"], "IPv6"),
    (["http://127.0.0.1:99999/"], "65535"),
    (["data.csv", "--csv-separator", ";;"], "csv-separator"),
    (["data.csv", "--csv-type", "a=number"], "csv-type"),
    (["app.log", "--format", "regex"], "--pattern"),
    (["app.log", "--format", "regex", "--pattern", "("], "--pattern, byte"),
    (["app.log", "--multiline-start", "("], "--multiline-start, byte"),
    (["http://h/", "--header", "no colon"], "Name: value"),
    (["-", "--to", "nowhere://x"], "nowhere"),
    (["--type", "csv", "http://h/"], "csv"),
    (["--type", "apo"], "api"),
    (["--type", "api"], "needs a url"),
    (["-", "--name", "a b"], "--name"),
    (["-", "--batch-size"], "--batch-size"),
])
def test_wrong_command_lines_say_what_is_wrong_and_start_nothing(tools, arguments, said):
    tool = tools.run("ingest", *arguments)
    assert tool.status == 64, tool.err
    assert said in tool.err
    assert tool.out == b""


@pytest.mark.parametrize("arguments", [
    ["--type", "csv", "http://me:hush@h/?token=hush"],
    ["http://me:hush@h/?token=hush", "--url", "https://me:hush@h/"],
    ["http://me:hush@h/?token=hush", "another"],
    ["http://me:hush@h/", "--records", "a", "--format", "csv"],
    ["htp://me:hush@h/?token=hush"],
])
def test_complaints_show_no_secrets(tools, arguments):
    tool = tools.run("ingest", *arguments)
    assert tool.status == 64
    assert "hush" not in tool.err


@pytest.mark.parametrize("source", ["rows.csv", "rows.ndjson", "-"])
def test_what_only_another_format_could_not_do_is_no_error(tools, directory, source):
    (directory / "rows.csv").write_text("t,a\n2026-01-01,1\n")
    (directory / "rows.ndjson").write_text('{"t":"2026-01-01","a":1}\n')
    tool = tools.run("ingest", source, "--time", "t", input=(directory / "rows.ndjson").read_bytes())
    assert tool.status == 0 and [event["a"] for event in tool.events] == [1], tool.err


def test_unreadable_files_are_failures(tools, directory):
    tool = tools.run("ingest", "missing.csv")
    assert tool.status == 1
    assert "missing.csv" in tool.err and "--follow" in tool.err
    tool = tools.start("ingest", "no/such/dir/app.log", "--follow")     # its directory may come, too
    tool.wait_err("no/such/dir/app.log: .*waiting")
    assert tool.terminate() == 0


def test_list_is_for_people_and_for_programs(tools):
    text = tools.run("ingest", "--list")
    assert text.status == 0
    assert "generator:sensors" in text.out.decode()
    tool = tools.run("ingest", "--list=json")
    assert tool.status == 0
    described = json.loads(tool.out)
    drivers = {driver["name"]: driver for driver in described["drivers"]}
    assert set(drivers) >= {"stdin", "file", "http", "generator", "system"}
    assert drivers["http"]["schemes"] == ["http", "https"]
    assert "api" in drivers["http"]["types"]
    assert {"csv", "log", "json"} <= set(drivers["file"]["types"])
    rate = next(option for option in drivers["generator"]["options"] if option["name"] == "rate")
    assert rate["type"] == "number" and rate["default"] == "10"
    names = [option["name"] for option in described["options"]]
    assert {"to", "batch-size", "format", "time", "sample", "dead-letter"} <= set(names)
    assert len(names) == len(set(names))


def test_settings_hold_the_source_and_its_options(tools, directory):
    (directory / "s.json").write_text(json.dumps(
        {"name": "made_up", "type": "generator", "url": "generator:users", "count": 7, "rate": 0, "seed": 3, "batch_size": 2}))
    tool = tools.run("ingest", "--settings", "s.json")
    assert tool.status == 0, tool.err
    assert len(tool.events) == 7
    again = tools.run("ingest", "generator:users?rate=0&count=7&seed=3")
    assert again.out == tool.out


def test_type_words_stand_for_sources(tools, directory):
    (directory / "s.json").write_text(json.dumps({"type": "sensors", "count": 2, "rate": 0}))
    tool = tools.run("ingest", "--settings", "s.json")
    assert tool.status == 0, tool.err
    assert "sensor_id" in tool.events[1]
    (directory / "app").write_text("first\nsecond\n")
    (directory / "s.json").write_text(json.dumps({"type": "text", "path": "app"}))
    tool = tools.run("ingest", "--settings", "s.json")
    assert [event["message"] for event in tool.events] == ["first", "second"]


def test_unknown_setting_is_an_error_with_a_suggestion(tools, directory):
    (directory / "s.json").write_text(json.dumps({"type": "api", "url": "http://h/", "intervall": 5}))
    tool = tools.run("ingest", "--settings", "s.json")
    assert tool.status == 64
    assert "interval" in tool.err


# Standard input

def test_stdin_from_a_pipe_comes_through_at_once_and_whole(tools):
    tool = tools.start("ingest", "-", pipe=True)
    tool.write('{"n":1}\n{"n":2}\n{"n"')
    assert tool.wait_events(2) == [{"n": 1}, {"n": 2}]
    tool.write(':3}\n')
    tool.wait_events(3)
    tool.write('{"n":4}')     # the last line needs no end
    tool.close()
    assert tool.wait() == 0
    assert [event["n"] for event in tool.events] == [1, 2, 3, 4]


def test_stdin_from_a_file(tools):
    tool = tools.run("ingest", "-", input=numbered(0, 20000))
    assert tool.status == 0
    assert tool.events == numbered(0, 20000)


def test_stdin_from_a_terminal_comes_line_by_line(tools, directory):
    ours, theirs = pty.openpty()
    out = open(directory / "out", "wb")
    pid = os.posix_spawn(support.tool_path("ingest"), ["ingest", "-"], os.environ, file_actions=[
        (os.POSIX_SPAWN_DUP2, theirs, 0), (os.POSIX_SPAWN_DUP2, out.fileno(), 1)])
    os.close(theirs)
    try:
        os.write(ours, b'{"n":1}\n')
        support.wait_for(lambda: (directory / "out").read_bytes() == b'{"n":1}\n', "the first line")
        os.write(ours, b'{"n":2}\n\x04')      # and the end
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        pid = None
    finally:
        if pid:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        os.close(ours)
        out.close()
    assert (directory / "out").read_bytes() == b'{"n":1}\n{"n":2}\n'


def test_empty_input_is_no_error(tools):
    assert tools.run("ingest", "-").status == 0
    assert tools.run("ingest", "/dev/null").status == 0


def test_named_pipe_is_read_like_a_pipe(tools, directory):
    os.mkfifo(directory / "fifo")
    tool = tools.start("ingest", "fifo")
    with open(directory / "fifo", "wb") as pipe:
        pipe.write(b'{"n":1}\n')
        pipe.flush()
        tool.wait_events(1)
        pipe.write(b'{"n":2}')
    assert tool.wait() == 0
    assert [event["n"] for event in tool.events] == [1, 2]


def test_terminated_while_waiting_it_ends_in_good_order(tools):
    tool = tools.start("ingest", "-", pipe=True)
    tool.write('{"n":1}\n{"n":')
    tool.wait_events(1)
    assert tool.terminate() == 0
    assert tool.events == [{"n": 1}]


# Bad input

def test_bad_lines_become_dead_letters_and_the_rest_goes_on(tools, directory):
    lines = [b'{"n":1}', b'{"n":', b'', b'{"n":2}', b'not json', b'{"n":3}\x00', b'{"s":"\xff\xfe"}', b'[1,2]', b'"text"',
             b'{"n":4,"big":"' + b'x' * (2 << 20) + b'"}', b'{"n":5}', b'{"n":6', ]
    (directory / "mixed.ndjson").write_bytes(b"\n".join(lines))
    tool = tools.run("ingest", "mixed.ndjson", "--dead-letter", "dead", "--metrics", "m")
    assert tool.status == 0
    assert [event["n"] for event in tool.events] == [1, 2, 5]
    dead = support.lines_of(directory / "dead")
    places = [letter["place"] for letter in dead]
    assert places == [f"mixed.ndjson:{line}" for line in (2, 5, 6, 7, 8, 9, 10, 12)]
    assert all(letter["reason"] and letter["stage"] == "mixed" for letter in dead)
    assert dead[1]["text"] == "not json"
    assert len(json.dumps(dead[6])) < 10000       # of a line that is too long only the beginning is kept
    assert "mixed.ndjson:2" in tool.err           # a sample is logged


def test_line_limit_can_be_set(tools, directory):
    (directory / "d.ndjson").write_bytes(b'{"n":1}\n{"n":2,"s":"' + b"x" * 200 + b'"}\n{"n":3}\n')
    tool = tools.run("ingest", "d.ndjson", "--max-record", "100", "--dead-letter", "dead")
    assert tool.status == 0
    assert [event["n"] for event in tool.events] == [1, 3]
    assert [letter["place"] for letter in support.lines_of(directory / "dead")] == ["d.ndjson:2"]


def test_time_field_becomes_the_events_time(tools, directory):
    (directory / "d.ndjson").write_text(
        '{"ts":1732300000123,"v":1}\n{"ts":"2026-01-01T00:00:00+01:00","v":2}\n{"ts":1732300000,"v":3}\n')
    tool = tools.run("ingest", "d.ndjson", "--time", "ts")
    assert [(event["@timestamp"], event["v"]) for event in tool.events] == [
        ("2024-11-22T18:26:40.123Z", 1), ("2025-12-31T23:00:00Z", 2), ("2024-11-22T18:26:40Z", 3)]
    again = tools.run("ingest", "-", input=tool.out)      # what was printed is understood again
    assert again.out == tool.out


def test_lines_that_name_their_stream_go_there(tools, directory):
    (directory / "d.ndjson").write_text('{"n":1}\n{"@stream":"other","n":2}\n{"n":3}\n{"@stream":"d","n":4}\n')
    tool = tools.run("ingest", "d.ndjson")
    assert sorted(tool.events, key=lambda event: event["n"]) == [{"n": 1}, {"@stream": "other", "n": 2}, {"n": 3}, {"n": 4}]


# Samples

def test_sample_prints_so_many_and_ends(tools, directory):
    (directory / "d.ndjson").write_bytes(support.ndjson(numbered(0, 5000)))
    tool = tools.run("ingest", "d.ndjson", "--sample", "3", "--to", "ipc:///nowhere/at/all")
    assert tool.status == 0, tool.err
    assert tool.events == numbered(0, 3)
    tool = tools.run("ingest", "generator:users", "--rate", "0", "--sample", "2")
    assert tool.status == 0
    assert len(tool.events) == 2


def test_a_sample_leaves_the_state_the_dead_letters_and_the_metrics_of_a_run_alone(tools, directory):
    (directory / "d.ndjson").write_text('{"n":1}\nnot json\n{"n":2}\n')
    of_run = ("d.ndjson", "--state", "state", "--dead-letter", "dead", "--metrics", "metrics")
    tool = tools.run("ingest", *of_run, "--to", "null:")
    assert tool.status == 0, tool.err

    def kept():
        return {str(path): path.read_bytes() for path in directory.rglob("*") if path.is_file() and "err" not in path.name and "out" not in path.name}
    before = {path: text for path, text in kept().items() if path.split("/")[-1] in ("dead", "metrics") or "/state/" in path}
    assert len(before) > 2
    for more in ((), ("--reset",)):
        tool = tools.run("ingest", *of_run, "--sample", "2", *more)
        assert tool.status == 0 and tool.events == [{"n": 1}, {"n": 2}], tool.err
        assert {path: kept().get(path) for path in before} == before


def test_sample_of_a_source_that_gives_too_little_fails_with_what_came(tools):
    tool = tools.start("ingest", "-", "--sample", "3", "--sample-wait", "2s", pipe=True)
    tool.write('{"n":1}\n')
    assert tool.wait() == 1
    assert tool.events == [{"n": 1}]
    assert "only 1 of 3 events came within 2s (--sample-wait)" in tool.err


# Health

def test_source_that_falls_silent_is_reported_when_events_are_expected(tools, directory):
    tool = tools.start("ingest", "-", "--expect", "100ms", "--metrics", "m", pipe=True)
    tool.wait_err("no event has arrived")
    support.wait_for(lambda: (directory / "m").exists() and b"no event has arrived" in (directory / "m").read_bytes(), "the reason in the metrics")
    tool.write('{"n":1}\n')
    tool.wait_events(1)
    tool.close()
    assert tool.wait() == 0
    assert tool.events == [{"n": 1}]


def test_busy_source_keeps_its_metrics_up_to_date(tools, directory):
    """At full speed it is never idle, and its numbers grow all the same."""
    tool = tools.start("ingest", "generator:sensors", "--rate", "0", "--to", "null:", "--metrics", "m")
    seen = set()

    def grows():
        if (directory / "m").exists():
            seen.add((directory / "m").read_bytes())
        return len(seen) > 5
    support.wait_for(grows, "metrics that change")
    assert tool.terminate() == 0
