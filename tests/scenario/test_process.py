"""process as a stage: command line, programs from files and settings, chains over links, several inputs, signals, bad input."""

import json
import re
import signal

import pytest

from support import lines_of, ndjson, sensor_lines, wait_for

WINDOW = "window tumbling 10s by device: count() as n, sum(seq) as s"


def expected_windows(events):
    """{(start in ms, device): (count, sum)}, computed from the input."""
    windows = {}
    for event in events:
        key = event["ts"] // 10000 * 10000, event["device"]
        count, total = windows.get(key, (0, 0))
        windows[key] = count + 1, total + event["seq"]
    return windows


def found_windows(lines):
    windows = {}
    for line in lines:
        key = line["start"], line["device"]
        assert key not in windows, line
        windows[key] = line["n"], line["s"]
    return windows


WITH_START = WINDOW + " | set start = epoch_ms(window_start) | keep start, device, n, s"


def test_all_errors_of_a_program_are_shown_and_nothing_starts(tools, directory):
    out = directory / "never"
    done = tools.run("process", "wher a == 1\n| set b = lower(5)\n| where c ~ '('", "--metrics", out, input=b'{"a":1}\n')
    assert done.status == 64
    assert done.out == b"" and not out.exists()
    assert re.findall(r"^program:(\d+:\d+): error:", done.err, re.MULTILINE) == ["1:1", "2:17", "3:15"]
    assert "did you mean where?" in done.err
    assert "    | set b = lower(5)\n                    ^" in done.err
    assert "3 errors in the program" in done.err


def test_errors_name_the_file(tools, directory):
    path = directory / "hot.stream"
    path.write_text("where a ==\n")
    done = tools.run("process", "-f", path)
    assert done.status == 64 and f"{path}:2:1: error: expected a value" in done.err


@pytest.mark.parametrize("arguments, says", [
    ([], "no program"),
    (["where a", "where b"], "a second program"),
    (["where a", "-f", "x.stream"], "give one of them"),
    (["-f", "/nonexistent.stream"], "/nonexistent.stream"),
    (["where a", "--others", "maybe"], "--others"),
    (["where a", "--idel", "5s"], "did you mean --idle?"),
])
def test_wrong_calls_say_what_is_right(tools, arguments, says):
    done = tools.run("process", *arguments)
    assert done.status == 64 and says in done.err, done.err


def test_check_as_json(tools):
    done = tools.run("process", "--check=json", "where temperatur > 30 | wher x")
    assert done.status == 64
    answer = json.loads(done.out)
    assert answer["ok"] is False
    assert [(e["line"], e["column"], e["hint"]) for e in answer["errors"]] == [(1, 25, "did you mean where?")]
    good = tools.run("process", "--check=json", "where temperature > 30")
    assert good.status == 0 and json.loads(good.out) == {"ok": True, "errors": []}
    kept = json.loads(tools.run("process", "--check=json", "set b = a | lookup \"none.csv\" on c | window tumbling 1s by a, b: count()").out)
    assert kept["state"] == [{"operator": "window", "line": 1, "column": 38, "keys": ["a", "b"], "made": True}] and len(kept["warnings"]) == 1


def test_the_program_comes_from_settings_as_text_or_as_lines(tools, directory):
    for program in ("where v > 1 | keep v", ["where v > 1 # more than one", "| keep v"]):
        settings = directory / "settings.json"
        settings.write_text(json.dumps({"program": program, "name": "big"}))
        done = tools.run("process", "--settings", settings, input=[{"v": 1, "x": 0}, {"v": 2, "x": 0}])
        assert done.status == 0 and done.events == [{"v": 2}]


def test_bad_lines_cost_only_themselves(tools, directory):
    dead = directory / "dead.ndjson"
    text = b'{"v":1}\n{"v":\nnot json\n\xff\xfe\n{"v":2}\n[1]\n{"v":3}'
    done = tools.run("process", "where v > 1", "--dead-letter", dead, input=text)
    assert done.status == 0
    assert done.events == [{"v": 2}, {"v": 3}]
    assert len(lines_of(dead)) == 4


def test_evaluation_errors_are_sampled_and_stop_nothing(tools):
    events = [{"v": "x" if i % 2 else i} for i in range(5000)]
    done = tools.run("process", "set w = v * 2", input=events)
    assert done.status == 0
    assert [e["w"] for e in done.events] == [None if i % 2 else 2 * i for i in range(5000)]
    samples = re.findall(r"set \(line 1, column 9\): string times int", done.err)
    assert 1 <= len(samples) <= 20


def test_windows_over_a_chain_of_links_end_with_the_input(tools, directory):
    events = sensor_lines(20000)
    first, second = f"ipc://{directory}/1", f"ipc://{directory}/2"
    last = tools.start("process", "", "--from", second)
    middle = tools.start("process", WITH_START, "--from", first, "--to", second)
    head = tools.start("process", "where seq >= 0", "--time", "ts", "--to", first, input=events)
    # --time takes the time from the field, and leaves the field
    for tool in head, middle, last:
        assert tool.wait() == 0, tool.err
    assert found_windows(last.events) == expected_windows(events)


def test_two_inputs_wait_for_each_other(tools, directory):
    """The second input is far behind in event time: nothing is late all the same."""
    early, late = sensor_lines(3000), sensor_lines(3000)
    links = [f"ipc://{directory}/a", f"ipc://{directory}/b"]
    both = tools.start("process", WITH_START, "--from", links[0], "--from", links[1])
    first = tools.start("process", "where true", "--time", "ts", "--name", "a", "--to", links[0], input=early)
    assert first.wait() == 0, first.err
    second = tools.start("process", "where true", "--time", "ts", "--name", "b", "--to", links[1], input=late)
    assert second.wait() == 0 and both.wait() == 0, both.err
    assert not [e for e in both.events if e.get("@stream")]
    assert found_windows(both.events) == expected_windows(early + late)


def test_term_writes_out_what_is_open(tools):
    tool = tools.start("process", "window tumbling 1h by device: count() as n | keep device, n", "--time", "ts", pipe=True)
    tool.write(ndjson(sensor_lines(100)))
    tool.write(ndjson([{"ts": 1732300000000 + 3600_000 * 3, "device": "later"}]))
    tool.wait_events(10)          # the first hour is over
    assert tool.terminate() == 0
    assert tool.events[-1]["device"] == "later" and tool.events[-1]["n"] == 1
    assert len(tool.events) == 11


def test_alerts_and_latecomers_travel_beside_the_stream(tools):
    events = [{"@timestamp": f"2026-01-02T03:00:{s:02d}Z", "v": v} for s, v in ((0, 1), (12, 99), (3, 5), (25, 2))]
    program = "window tumbling 10s: max(v) as top | alert high when top > 50 severity critical message \"top is {top}\""
    done = tools.shell(f"process '{program}' --name peaks | process 'where top > 1'", input=events)
    assert done.status == 0
    by_stream = {}
    for event in done.events:
        by_stream.setdefault(event.get("@stream"), []).append(event)
    main = by_stream.get("peaks", []) + by_stream.get("process", []) + by_stream.get(None, [])
    assert [e["top"] for e in main] == [99, 2]
    assert [(e["state"], e["message"], e["severity"]) for e in by_stream["alerts"]] == [("firing", "top is 99", "critical"),
                                                                                        ("cleared", "top is 2", "critical")]
    assert [e["v"] for e in by_stream["peaks.late"]] == [5]


def test_output_is_the_same_however_the_input_is_cut(tools):
    events = [{**e, "ts": e["ts"] - (e["seq"] % 7) * 500} for e in sensor_lines(3000)]
    program = "where temperature > 16 | window tumbling 5s by device wait 1s: count(), avg(temperature), stddev(temperature) | where count > 1"
    whole = tools.run("process", program, "--time", "ts", input=events)
    assert whole.status == 0 and len(whole.events) > 20
    piecewise = tools.start("process", program, "--time", "ts", pipe=True)
    for i in range(0, len(events), 37):
        piecewise.write(ndjson(events[i:i + 37]))
    piecewise.close()
    assert piecewise.wait() == 0
    mine = [line for line in piecewise.out.splitlines() if b"@stream" not in line]
    assert mine == [line for line in whole.out.splitlines() if b"@stream" not in line]
    assert sorted(piecewise.out.splitlines()) == sorted(whole.out.splitlines())


def test_a_stopped_receiver_holds_the_stage_back_and_loses_nothing(tools, directory):
    link = f"ipc://{directory}/x"
    receiver = tools.start("process", "where true", "--from", link)
    events = sensor_lines(60000)
    sender = tools.start("process", "set double_seq = seq * 2", "--to", link, "--window", "64KiB", input=events)
    receiver.wait_events(1000)
    receiver.signal(signal.SIGSTOP)
    receiver.signal(signal.SIGCONT)
    assert sender.wait(60) == 0, sender.err
    assert receiver.wait(60) == 0, receiver.err
    assert [(e["seq"], e["double_seq"]) for e in receiver.events] == [(i, 2 * i) for i in range(60000)]


def test_input_without_end_mark_is_waited_for(tools, directory):
    tool = tools.start("process", "where v > 1", pipe=True)
    tool.write(b'{"v":2}\n{"v":')
    tool.wait_events(1)
    tool.write(b"3}")
    tool.close()
    assert tool.wait() == 0
    wait_for(lambda: len(tool.events) == 2, "the last line without its end")


@pytest.mark.parametrize("ending", ["end", "term"])
def test_a_window_of_very_many_groups_waits_for_its_receiver(tools, directory, ending):
    """Fifty thousand results at once over a link that takes 64 KiB: all come, whether the stage is told to leave meanwhile or not."""
    count = 50000
    links = f"ipc://{directory}/a", f"ipc://{directory}/b"
    stage = tools.start("process", "window tumbling 10s by device: count() as n", "--from", links[0], "--to", links[1], "--window", "64KiB",
                        "--batch-size", 200)
    source = tools.start("ingest", "-", "--time", "ts", "--to", links[0], pipe=True)
    receiver = tools.start("process", "", "--from", links[1])
    source.write(ndjson({"ts": 1732300000000, "device": i} for i in range(count)))
    source.write(ndjson([{"ts": 1732300020000, "device": -1}]))         # makes the window fire
    receiver.wait_events(100)
    receiver.signal(signal.SIGSTOP)
    if ending == "term":
        stage.signal(signal.SIGTERM)
    else:
        source.close()
    receiver.signal(signal.SIGCONT)
    assert stage.wait() == 0, stage.err
    assert receiver.wait() == 0
    assert [event["device"] for event in receiver.events] == [*range(count), -1]
    assert all(event["n"] == 1 for event in receiver.events)


def test_windows_of_events_without_a_time_name_the_field_that_has_one(tools):
    rows = [{"n": 1, "id": "20260102", "at": "2026-01-02 03:00:00"}, {"n": 2, "at": "2026-01-02 04:00:00"}]
    window = "window tumbling 1h: count() as n"
    done = tools.run("process", window, input=rows)
    assert sum(event["n"] for event in done.events) == 2 and done.err.count("the field at reads as one: --time at ") == 1
    dated = tools.run("process", window, "--time", "at", input=rows)
    assert [event["n"] for event in dated.events] == [1, 1] and dated.err == ""
    assert "--time ts " in tools.run("process", window, input=[{"ts": 1767225600}]).err
    for program, events in ((window, [{"n": 1, "v": "10.5", "w": 1767225600}]), (window, [{"@timestamp": "2026-01-02T03:00:00Z", "at": "2026-01-02"}]),
                            ("where n > 0", rows)):
        assert tools.run("process", program, input=events).err == ""
