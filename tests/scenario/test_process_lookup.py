"""process with lookup: tables that change while events flow, tables that break, and a stage with state that is killed meanwhile."""

import json
import os
import random
import sqlite3
import time

import support
from support import wait_for
from test_process_state import events_of, recorded, recorded_so_far, recorder, stage_starter, feed


def put_table(path, version, devices=10, before="device,site,version\n"):
    """Replaces the file whole, as tables are to be replaced."""
    new = path.with_suffix(".new")
    new.write_text(before + "".join(f"sensor_{i:04d},site_{i},{version}\n" for i in range(devices)))
    os.replace(new, path)


def probe_until(stage, condition, number=0):
    """Sends one event after another until one of those that came out satisfies the condition; returns how many were sent."""
    def sent_one():
        nonlocal number
        stage.write(json.dumps({"device": "sensor_0001", "n": number}) + "\n")
        number += 1
        return stage.events and condition(stage.events[-1])
    wait_for(sent_one, lambda: f"the table's change; the stage says:\n{stage.err[-1500:]}", 30)
    return number


def test_a_table_is_read_again_when_it_changes_and_no_event_is_lost(tools, directory):
    table = directory / "devices.csv"
    put_table(table, 1)
    stage = tools.start("process", 'lookup "devices.csv" on device keep site, version', pipe=True)
    sent = probe_until(stage, lambda event: event["version"] == 1)
    put_table(table, 2)
    sent = probe_until(stage, lambda event: event["version"] == 2, sent)
    with open(table, "a") as file:                          # written in place: read once it is quiet
        file.write("sensor_0001,elsewhere,3\n")
    sent = probe_until(stage, lambda event: event["version"] == 3, sent)
    stage.close()
    assert stage.wait() == 0, stage.err
    events = stage.events
    assert [event["n"] for event in events] == list(range(sent))
    assert [event["version"] for event in events] == sorted(event["version"] for event in events)
    assert events[-1]["site"] == "elsewhere"


def test_a_table_that_breaks_or_goes_leaves_the_one_before(tools, directory):
    table = directory / "devices.ndjson"
    table.write_text('{"device":"sensor_0001","version":1}\n')
    stage = tools.start("process", 'lookup "devices.ndjson" on device keep version', "--metrics", directory / "metrics", pipe=True)
    sent = probe_until(stage, lambda event: event["version"] == 1)
    table.write_text('{"device":"sensor_0001","version":2}\n{"device":"sensor_0002",\n')
    stage.wait_err("record 2: .*the table stays as it was")
    table.unlink()
    stage.wait_err("No such file or directory; the table stays as it was")
    stage.write('{"device":"sensor_0001","n":%d}\n' % sent)
    wait_for(lambda: len(stage.events) == sent + 1, "the event")
    assert {event["version"] for event in stage.events} == {1}
    table.write_text('{"device":"sensor_0001","version":3}\n')
    probe_until(stage, lambda event: event["version"] == 3, sent + 1)
    stage.close()
    assert stage.wait() == 0
    assert len(stage.events) == stage.events[-1]["n"] + 1


def test_a_database_is_read_again_when_it_changes(tools, directory):
    database = sqlite3.connect(directory / "d.db")
    database.execute("PRAGMA journal_mode=WAL")
    database.execute("CREATE TABLE devices (id TEXT, version INTEGER, part BLOB)")
    database.execute("INSERT INTO devices VALUES ('sensor_0001', 1, x'ff00')")
    database.commit()
    stage = tools.start("process", 'lookup "sqlite:d.db?table=devices" on id = device | set version = devices.version', pipe=True)
    sent = probe_until(stage, lambda event: event["version"] == 1)
    database.execute("UPDATE devices SET version = 2")
    database.commit()
    probe_until(stage, lambda event: event["version"] == 2, sent)
    stage.close()
    assert stage.wait() == 0
    assert stage.events[-1]["devices"] == {"version": 2, "part": "/wA="}


def test_without_its_table_it_does_not_start(tools, directory):
    for text, complaint in (('lookup "nowhere.csv" on device', "nowhere.csv: No such file"), ('lookup "sqlite:no.db?table=t" on device', "no.db: No such file"),
                            ('lookup "bad.json" on device', "record 1: "), ('lookup "x.csv" on device', "no row has a key in the column device; its columns are a, b"),
                            ('lookup "x.csv" on a keep c', "has no column c; its columns are a, b")):
        (directory / "bad.json").write_text("[1]")
        (directory / "x.csv").write_text("a,b\n1,2\n")
        done = tools.run("process", text, input=b'{"device":1}\n')
        assert done.status == 1 and complaint in done.err and "cannot start without its table" in done.err, done.err
        checked = tools.run("process", "--check", text)
        assert checked.status == 0    # elsewhere it may be there
        assert ("process: warning: lookup" in checked.err and complaint in checked.err) == ("No such file" in complaint), checked.err
        answer = json.loads(tools.run("process", "--check=json", text).out)
        assert answer["ok"] and len(answer.get("warnings", [])) == ("No such file" in complaint)


def test_the_separator_of_a_csv_table(tools, directory):
    for separator, word in ((";", ";"), ("|", "%7C"), ("\t", "tab"), (",", ",")):
        (directory / "t.csv").write_text(f"device{separator}site\na{separator}1,5 m\n" if separator != "," else 'device,site\na,"1,5 m"\n')
        for text in (f'lookup "t.csv?csv-separator={word}" on device', f'lookup "{directory}/t.csv?csv-separator={word}" on device'):
            done = tools.run("process", text, input=[{"device": "a"}])
            assert done.status == 0 and done.events == [{"device": "a", "t": {"site": "1,5 m"}}], done.err


def test_a_wrong_separator_of_a_csv_table_is_told_with_the_right_one(tools, directory):
    for separator, said in ((";", ";"), ("|", "|"), ("\t", "tab")):
        (directory / "t.csv").write_text(f"device{separator}site\na{separator}b\n")
        done = tools.run("process", 'lookup "t.csv" on device', input=[{"device": "a"}])
        assert done.status == 1 and f"write ?csv-separator={said} behind the file's name" in done.err, done.err
    (directory / "t.csv").write_text("device,site\na,b\n")
    done = tools.run("process", 'lookup "t.csv?csv-separator=;" on device', input=[{"device": "a"}])
    assert done.status == 1 and "write ?csv-separator=, behind the file's name" in done.err, done.err
    for source, words in (("t.csv?separator=;", "a table takes csv-separator alone"), ("t.csv?csv-separator=ab", "is not one ASCII character"),
                          ("t.ndjson?csv-separator=;", "is for tables whose name ends in .csv"), ("t.txt?csv-separator=;", "what is in it")):
        done = tools.run("process", "--check", f'lookup "{source}" on device')
        assert done.status == 64 and words in done.err, done.err
    (directory / "a?b=c.csv").write_text("device,site\na,b\n")        # a name like any other
    assert tools.run("process", 'lookup "a?b=c.csv" on device keep site', input=[{"device": "a"}]).events == [{"device": "a", "site": "b"}]


def test_killed_while_its_table_changes_each_event_meets_the_table_that_it_met(tools, directory):
    """The stage compares what it makes again with what it had made; numbers without a gap and events in order, each once, say the rest."""
    rng = random.Random(5)
    table = directory / "devices.csv"
    out = directory / "recorded"
    put_table(table, 0)
    source = feed(tools, directory, "a")
    receiver = recorder(tools, f"ipc://{directory}/out", out)
    start = stage_starter(tools, directory, f'lookup "{table}" on device keep site, version | where seq % 3 != 0')
    stage = start()
    events = support.sensor_lines(20000)
    version = 0
    seen = lambda: [event["version"] for event in events_of(recorded_so_far(out), "out")]
    for i in range(0, len(events), 500):
        source.write(support.ndjson(events[i:i + 500]))
        if rng.random() < 0.3:
            version += 1
            put_table(table, version)
        if i % 8000 == 0:                                  # now and then a new version is surely in use
            number = i
            def arrived():
                return seen() and seen()[-1] == version
            wait_for(lambda: source.write(json.dumps({"seq": -1, "device": "sensor_0001", "ts": events[number]["ts"]}) + "\n") or arrived(),
                     lambda: f"version {version}; the stage says:\n{stage.err[-1500:]}", 30)
        if rng.random() < 0.5:
            time.sleep(rng.uniform(0, 0.1))
            stage.kill()
            stage = start()
    source.close()
    assert stage.wait(60) == 0, stage.err
    assert receiver.wait() == 0 and source.wait() == 0
    frames = recorded(out)
    assert [frame["number"] for frame in frames] == list(range(1, len(frames) + 1))
    found = [event for event in events_of(frames, "out") if event["seq"] >= 0]
    assert [event["seq"] for event in found] == [event["seq"] for event in events if event["seq"] % 3]
    assert all(event["site"] == f"site_{event['seq'] % 10}" for event in found)
    assert seen() == sorted(seen()) and len(set(seen())) >= 3
    assert len(list((directory / "state/outside").iterdir())) <= 2      # tables that nothing needs are gone


def test_started_anew_it_goes_on_with_the_table_it_had_when_the_file_is_gone(tools, directory):
    table = directory / "devices.csv"
    put_table(table, 7)
    source = feed(tools, directory, "a")
    out = directory / "recorded"
    receiver = recorder(tools, f"ipc://{directory}/out", out)
    start = stage_starter(tools, directory, f'lookup "{table}" on device keep version')
    stage = start()
    source.write(support.ndjson(support.sensor_lines(100)))
    wait_for(lambda: len(events_of(recorded_so_far(out), "out")) == 100, "the events")
    assert stage.terminate() == 0, stage.err
    table.unlink()
    stage = start()
    stage.wait_err("the table stays as it was")
    source.write(support.ndjson(support.sensor_lines(100, first=100)))
    source.close()
    assert stage.wait() == 0 and receiver.wait() == 0
    assert [event["version"] for event in events_of(recorded(out), "out")] == [7] * 200


def test_a_stored_table_that_is_damaged_is_refused(tools, directory):
    table = directory / "devices.csv"
    put_table(table, 1)
    source = feed(tools, directory, "a")
    out = directory / "recorded"
    receiver = recorder(tools, f"ipc://{directory}/out", out)
    start = stage_starter(tools, directory, f'lookup "{table}" on device keep version')
    stage = start()
    source.write(support.ndjson(support.sensor_lines(10)))
    wait_for(lambda: len(events_of(recorded_so_far(out), "out")) == 10, "the events")
    assert stage.terminate() == 0, stage.err
    [stored] = (directory / "state/outside").iterdir()
    good = stored.read_bytes()
    for bad in (good[:-1], good[:20] + b"?" + good[21:], b""):
        stored.write_bytes(bad)
        stage = start()
        assert stage.wait() == 1 and "is damaged; --reset starts anew" in stage.err, stage.err
    stored.unlink()
    stage = start()
    assert stage.wait() == 1 and "No such file" in stage.err
    stored.write_bytes(good)
    stage = start()
    source.close()
    assert stage.wait() == 0 and receiver.wait() == 0
    assert len(events_of(recorded(out), "out")) == 10
