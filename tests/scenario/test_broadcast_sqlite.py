"""broadcast's SQLite sink: columns from events, types, JSON mode, refused rows, a busy database, retention; rows and progress together."""

import json
import random
import signal
import sqlite3
import time

import pytest

import link_support
import support
from support import lines_of, sensor_lines, wait_for


def rows(directory, query, database="out.db"):
    connection = sqlite3.connect(directory / database, timeout=20)
    try:
        return connection.execute(query).fetchall()
    finally:
        connection.close()


def types(directory, table="events", database="out.db"):
    return {row[1]: row[2] for row in rows(directory, f'pragma table_info("{table}")', database)}


def test_columns_come_with_the_events(tools, directory):
    events = [{"@timestamp": "2026-01-02T03:04:05.25Z", "n": 1, "f": 1.5, "s": "x", "b": True, "none": None},
              {"@timestamp": "2026-01-02T03:04:05Z", "n": 2.5, "list": [1, {"a": None}], "map": {"k": "v"}, "big": 2**64 - 1, "odd \"name\"": "y"}]
    done = tools.run("broadcast", "sqlite:out.db?table=readings", "--name", "sensors", input=events)
    assert done.status == 0, done.err
    assert types(directory, "readings") == {"ts": "TEXT", "stream": "TEXT", "n": "INTEGER", "f": "REAL", "s": "TEXT", "b": "INTEGER",
                                            "list": "TEXT", "map": "TEXT", "big": "TEXT", 'odd "name"': "TEXT"}
    assert rows(directory, "select * from readings order by ts") == [
        ("2026-01-02T03:04:05.000000000Z", "sensors", 2.5, None, None, None, '[1,{"a":null}]', '{"k":"v"}', str(2**64 - 1), "y"),
        ("2026-01-02T03:04:05.250000000Z", "sensors", 1, 1.5, "x", 1, None, None, None, None)]


def test_fields_called_like_our_columns_stand_beside_them(tools, directory):
    done = tools.run("broadcast", "sqlite:out.db", "--name", "main", input=[{"ts": 7, "Stream": "mine", "TS": 8}])
    assert done.status == 0, done.err
    assert rows(directory, "select stream, ts_, stream_ from events") == [("main", 8, "mine")]


def test_json_mode_and_times_in_nanoseconds(tools, directory):
    event = {"a": [1, 2], "b": {"c": None}}
    done = tools.run("broadcast", "sqlite:out.db?mode=json&time=ns", input=[{"@timestamp": "1970-01-01T00:00:01.000000002Z", **event}])
    assert done.status == 0, done.err
    ((ts, text),) = rows(directory, "select ts, event from events")
    assert ts == 1_000_000_002 and json.loads(text) == event


def test_only_the_columns_that_are_named(tools, directory):
    done = tools.run("broadcast", "sqlite:out.db?columns=a:REAL&columns=b", input=[{"a": 1, "b": "x", "c": 3}, {"c": 4}])
    assert done.status == 0, done.err
    assert types(directory) == {"ts": "TEXT", "stream": "TEXT", "a": "REAL", "b": ""}
    assert rows(directory, "select a, b from events") == [(1.0, "x"), (None, None)]


def test_too_many_fields_go_to_one_column(tools, directory):
    events = [{f"f{i}": i for i in range(20)}, {"f1": 1, "f19": "x"}, {"f2": 5}]
    done = tools.run("broadcast", "sqlite:out.db?columns-max=10", input=events)
    assert done.status == 0, done.err
    assert "extra" in done.err
    assert len(types(directory)) == 11
    got = []
    for record in rows(directory, "select " + ", ".join(f"f{i}" for i in range(8)) + ", extra from events"):
        found = {f"f{i}": value for i, value in enumerate(record[:-1]) if value is not None}
        got.append({**found, **json.loads(record[-1] or "{}")})
    assert got == events


def test_more_fields_than_are_guessed(tools, directory):
    event = {f"f{i}": i for i in range(400)}
    assert tools.run("broadcast", "sqlite:out.db", input=[event] * 3).status == 0
    assert rows(directory, "select f0, f300, f399, count(*) from events") == [(0, 300, 399, 3)]


def test_a_refused_row_is_a_dead_letter_and_costs_only_itself(tools, directory):
    connection = sqlite3.connect(directory / "out.db")
    connection.executescript("create table events (seq integer primary key check (seq % 10 != 3), temperature real not null);")
    connection.close()
    events = sensor_lines(100)
    events[50]["temperature"] = None
    done = tools.run("broadcast", "sqlite:out.db", "--dead-letter", "dead.ndjson", input=events + [{"seq": 5, "temperature": 1}])
    assert done.status == 0, done.err
    bad = {n for n in range(100) if n % 10 == 3} | {50}
    assert [n for n, in rows(directory, "select seq from events order by seq")] == [n for n in range(100) if n not in bad]
    dead = lines_of(directory / "dead.ndjson")
    assert sorted(letter["event"]["seq"] for letter in dead) == sorted(bad | {5})
    assert {"CHECK", "NOT NULL", "UNIQUE"} == {word for letter in dead for word in ("CHECK", "NOT NULL", "UNIQUE") if word in letter["reason"]}


def test_a_trigger_that_takes_back_the_transaction_costs_one_event(tools, directory):
    connection = sqlite3.connect(directory / "out.db")
    connection.executescript("create table events (seq integer); create trigger t before insert on events when new.seq in (7, 77) "
                             "begin select raise(rollback, 'not this one'); end;")
    connection.close()
    done = tools.run("broadcast", "sqlite:out.db", "--dead-letter", "dead.ndjson", input=sensor_lines(100))
    assert done.status == 0, done.err
    assert [n for n, in rows(directory, "select seq from events order by rowid")] == [n for n in range(100) if n not in (7, 77)]
    assert [letter["event"]["seq"] for letter in lines_of(directory / "dead.ndjson")] == [7, 77]


def test_a_busy_database_is_waited_for_and_holds_back_nobody_else(tools, directory):
    broadcast = tools.start("broadcast", "sqlite:out.db", "file:out.ndjson", pipe=True)
    wait_for((directory / "out.db").exists, "the database")
    wait_for(lambda: types(directory), "the table")
    other = sqlite3.connect(directory / "out.db", timeout=20, isolation_level=None)
    other.execute("begin immediate")
    events = sensor_lines(500)
    broadcast.write(support.ndjson(events))
    broadcast.close()
    broadcast.wait_err("database is locked; trying again")
    assert [e["seq"] for e in lines_of(directory / "out.ndjson")] == list(range(500))
    other.execute("rollback")
    other.close()
    assert broadcast.wait() == 0, broadcast.err
    assert rows(directory, "select seq from events order by rowid") == [(n,) for n in range(500)]


def test_old_rows_are_deleted(tools, directory):
    done = tools.run("broadcast", "sqlite:out.db?keep-rows=100", input=sensor_lines(5000))
    assert done.status == 0, done.err
    assert tools.run("broadcast", "sqlite:out.db?keep-rows=100", input=sensor_lines(1, first=5000)).status == 0
    kept = [n for n, in rows(directory, "select seq from events order by rowid")]
    assert kept == list(range(4901, 5001))
    events = [{"@timestamp": f"20{year}-01-01T00:00:00Z", "year": year} for year in (10, 20, 99)]
    for time in ("text", "ns"):
        done = tools.run("broadcast", f"sqlite:{time}.db?keep-for=1d&time={time}", input=events)
        assert done.status == 0, done.err
        assert rows(directory, "select year from events", f"{time}.db") == [(99,)]


def test_without_state_repeats_are_recognised(tools, directory):
    """The sender repeats what broadcast had not acknowledged when it was killed; the table has it once."""
    (directory / "in.ndjson").write_bytes(support.ndjson(sensor_lines(30000)))
    link = f"ipc://{directory}/link"
    sender = tools.start("ingest", "in.ndjson", "--to", f"@{link}", "--batch-size", "50", "--name", "sensors")
    for n in range(8):
        broadcast = tools.start("broadcast", "sqlite:out.db", "--from", link)

        def more(before=n * 200):
            return not sender.running or ((directory / "out.db").exists() and types(directory)
                                          and rows(directory, "select count(*) from events")[0][0] > before)
        wait_for(more, "rows")
        broadcast.kill()
    if sender.running:
        tools.start("broadcast", "sqlite:out.db", "--from", link)
        assert sender.wait() == 0
    assert rows(directory, "select seq from events order by rowid") == [(n,) for n in range(30000)]


def test_dead_letters_once_however_often_it_is_killed(tools, directory):
    connection = sqlite3.connect(directory / "out.db")
    connection.executescript("create table events (seq integer check (seq % 10 != 3));")
    connection.close()
    (directory / "in.ndjson").write_bytes(support.ndjson(sensor_lines(20000)))
    link = f"ipc://{directory}/link"
    sender = tools.start("ingest", "in.ndjson", "--to", f"@{link}", "--batch-size", "20", "--name", "sensors")

    def start():
        return tools.start("broadcast", "sqlite:out.db", "file:other.ndjson", "--from", link, "--state", "state", "--dead-letter", "dead.ndjson")
    for n in range(15):
        broadcast = start()
        wait_for(lambda: not sender.running or (directory / "dead.ndjson").exists()
                 and (directory / "dead.ndjson").read_bytes().count(b"\n") > n * 50, "dead letters")
        broadcast.kill()
    if sender.running:
        start()
        assert sender.wait() == 0
    assert rows(directory, "select seq from events order by rowid") == [(n,) for n in range(20000) if n % 10 != 3]
    assert [letter["event"]["seq"] for letter in lines_of(directory / "dead.ndjson")] == list(range(3, 20000, 10))


@pytest.mark.parametrize("seed", [1, 2])
def test_dead_letters_once_though_the_machine_is_started_anew(tools, directory, seed):
    """The table keeps what it has refused until the letters are on the disk, and the progress that tells of them."""
    connection = sqlite3.connect(directory / "out.db")
    connection.executescript("create table events (n integer check (n % 5 != 3))")
    connection.close()
    rng, link, boot = random.Random(seed), f"ipc://{directory}/link", 0
    sender = tools.start(link_support.PEER, "send", f"@{link}", "count=15000", "batch=20", "rate=15000", "sync_interval=5", f"spool={directory}/spool")
    while sender.running:
        broadcast = tools.start("broadcast", "sqlite:out.db", "--from", link, "--state", "state", "--dead-letter", "dead.ndjson", "--sync-interval",
                                "50ms", env={"STREAM_BOOT_ID": str(boot)})
        time.sleep(rng.uniform(0, 0.3))
        if sender.running:
            broadcast.kill()
        boot += 1
    assert broadcast.terminate() in (0, -signal.SIGTERM), broadcast.err
    assert rows(directory, "select n from events order by rowid") == [(n,) for n in range(15000) if n % 5 != 3]
    assert [letter["event"]["n"] for letter in lines_of(directory / "dead.ndjson")] == list(range(3, 15000, 5))


@pytest.mark.parametrize("change,words", [("unlink", "moved or deleted by something else"), ("rename", "moved or deleted by something else"),
                                          ("drop", "no such table")])
def test_a_database_that_something_else_takes_away_is_begun_anew(tools, directory, change, words):
    """What comes afterwards is in the new one, and not in a file that nobody can find any more."""
    (directory / "in.ndjson").touch()
    link = f"ipc://{directory}/link"
    tools.start("ingest", "in.ndjson", "--follow", "--to", link, "--state", "sender")
    broadcast = tools.start("broadcast", "sqlite:out.db", "--from", link, "--state", "state")

    def add(first):
        with open(directory / "in.ndjson", "ab") as file:
            file.write(support.ndjson({"n": first + n} for n in range(100)))
        wait_for(lambda: (directory / "out.db").exists() and "n" in types(directory) and rows(directory, "select max(n) from events") == [(first + 99,)],
                 "these rows")
    add(0)
    if change == "drop":
        rows(directory, "drop table events")
    else:
        for path in list(directory.glob("out.db*")):
            path.unlink() if change == "unlink" else path.rename(path.with_name(f"old-{path.name}"))
    add(100)
    broadcast.wait_err(words)
    assert rows(directory, "select n from events order by rowid") == [(n,) for n in range(100, 200)]
    assert broadcast.terminate() == 0


def test_progress_that_another_program_has_changed(tools, directory):
    """A name in it that no sender can have is nobody's."""
    assert tools.run("broadcast", "sqlite:out.db", "--name", "sensors", input=[]).status == 0
    connection = sqlite3.connect(directory / "out.db")
    connection.execute("insert into _stream_progress values ('sqlite:out.db', 'link', ?, 1, 5, 0)", ("x" * 4000,))
    connection.commit()
    connection.close()
    (directory / "in.ndjson").write_bytes(support.ndjson(sensor_lines(100)))
    link = f"ipc://{directory}/link"
    broadcast = tools.start("broadcast", "sqlite:out.db", "--from", link, "--state", "state")
    sender = tools.start("ingest", "in.ndjson", "--to", f"@{link}", "--name", "sensors")
    assert sender.wait() == 0 and broadcast.wait() == 0
    assert rows(directory, "select seq from events order by rowid") == [(n,) for n in range(100)]


def test_what_is_wrong_is_said(tools, directory):
    for url, words in (("sqlite:", "needs a path"), ("sqlite:x.db?table=sqlite_x", "not free"), ("sqlite:x.db?mode=json&columns=a", "--columns needs --mode columns")):
        done = tools.run("broadcast", url, input=[])
        assert done.status == 64 and words in done.err, done.err
    (directory / "text.db").write_text("this is no database, and long enough to be seen as none" * 100)
    done = tools.run("broadcast", "sqlite:text.db", input=[])
    assert done.status == 1 and "not a database" in done.err
