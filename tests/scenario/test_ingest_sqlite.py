"""Source sqlite: queries with a cursor, and changes noted by triggers."""

import os
import random
import signal
import sqlite3
import threading
import time

import pytest

import support
from runs_support import Runs

POLL = ["--query", "SELECT * FROM t WHERE id > $1", "--cursor", "id", "--initial", "0"]


@pytest.fixture
def base(directory):
    connection = sqlite3.connect(directory / "base.db", isolation_level=None, timeout=30)
    connection.execute("PRAGMA journal_mode = WAL")
    yield connection
    connection.close()


def fill(base, rows):
    base.execute("BEGIN")
    base.executemany("INSERT INTO t VALUES (?, ?)", rows)
    base.execute("COMMIT")


def test_poll_gives_each_row_once_with_its_types(tools, base):
    base.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, v)")
    for value in (None, 9223372036854775807, 0.1, "é", b"\x00\xff"):
        base.execute("INSERT INTO t (v) VALUES (?)", [value])
    ingest = tools.start("ingest", "sqlite:base.db", *POLL, "--interval", "1h")
    assert [event["v"] for event in ingest.wait_events(5)] == [None, 9223372036854775807, 0.1, "é", "AP8="]
    base.execute("INSERT INTO t (v) VALUES ('seen at once, as the file has changed')")
    assert ingest.wait_events(6)[5]["id"] == 6
    assert ingest.terminate() == 0


def test_a_change_that_counts_only_after_its_sign_is_found(tools, directory):
    """SQLite in WAL mode writes first, and says so in memory a while later. Here: a sign without a change, and a change by another name of the file, which
    gives none."""
    (directory / "elsewhere").mkdir()
    base = sqlite3.connect(directory / "base.db", isolation_level=None, timeout=30)
    base.execute("CREATE TABLE t (id INTEGER PRIMARY KEY)")
    base.execute("INSERT INTO t VALUES (1)")
    base.close()
    os.link(directory / "base.db", directory / "elsewhere/base.db")
    ingest = tools.start("ingest", "sqlite:base.db", *POLL, "--interval", "1h")
    ingest.wait_events(1)
    os.truncate(directory / "base.db", (directory / "base.db").stat().st_size)
    time.sleep(0.05)                                    # so that the first look most likely finds nothing
    other = sqlite3.connect(directory / "elsewhere/base.db", isolation_level=None, timeout=30)
    other.execute("INSERT INTO t VALUES (2)")
    other.close()
    assert [event["id"] for event in ingest.wait_events(2)] == [1, 2]
    assert ingest.terminate() == 0


def test_poll_without_cursor_and_options_in_the_url(tools, base):
    done = tools.run("ingest", "sqlite:base.db?query=SELECT%201%20AS%20one;&once=yes")
    assert done.status == 0 and done.events == [{"one": 1}]


@pytest.mark.parametrize("query, reason", [("SELEC 1", "syntax error"), ("SELECT 1 AS a, 2 AS a", "two columns are named a"), ("SELECT no", "no such column"),
                                           ("SELECT 1 AS a; SELECT 2 AS a", "more than one statement"), ("SELECT 1; nonsense", "more than one statement")])
def test_queries_that_never_work_are_told(tools, base, query, reason):
    done = tools.run("ingest", "sqlite:base.db", "--query", query)
    assert done.status == 1 and reason in done.err


def test_a_database_or_a_table_that_is_not_there_yet_is_waited_for(tools, directory):
    ingest = tools.start("ingest", "sqlite:later.db", *POLL, "--retry-min", "20ms", "--retry-max", "50ms")
    ingest.wait_err("unable to open.*trying again")
    connection = sqlite3.connect(directory / "later.db", isolation_level=None)
    connection.execute("CREATE TABLE x (id)")
    ingest.wait_err("no such table.*trying again")
    connection.execute("CREATE TABLE t (id INTEGER PRIMARY KEY)")
    connection.execute("INSERT INTO t VALUES (7)")
    assert ingest.wait_events(1) == [{"id": 7}]


def test_a_table_whose_changes_are_wanted_may_come_later(tools, base):
    ingest = tools.start("ingest", "sqlite:base.db", "--mode", "trigger", "--table", "later", "--retry-min", "20ms", "--retry-max", "50ms")
    ingest.wait_err(r"there is no table later \(--table\); trying again")
    base.execute("CREATE TABLE later (id INTEGER PRIMARY KEY)")
    for n in range(500):
        base.execute("INSERT INTO later VALUES (NULL)")
        if ingest.events:
            break
        time.sleep(0.05)
    assert ingest.wait_events(1)[0]["table"] == "later"


def test_polls_are_exact_over_kills(tools, directory, base):
    base.execute("CREATE TABLE t (id INTEGER, n INTEGER)")
    fill(base, [(1 + n // 5, n) for n in range(20000)])
    runs = Runs(tools, directory, "sqlite:base.db", *POLL, "--batch-size", "10", "--window", "64KiB")
    rng, kills = random.Random(1), 0
    while kills < 3 or (len(runs.events) < 19000 and kills < 30):
        tool = runs.start()
        time.sleep(rng.uniform(0.03, 0.15))
        tool.kill()
        kills += 1
    tool = runs.start()
    runs.wait_until(lambda events: len(events) >= 20000, tool)
    base.execute("INSERT INTO t VALUES (100000, 20000)")
    runs.wait_until(lambda events: len(events) >= 20001, tool)
    assert sorted(event["n"] for event in runs.events) == list(range(20001))


def test_triggers_note_every_kind_of_change_and_value(tools, base):
    base.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, \"odd \"\"name\" BLOB)")
    ingest = tools.start("ingest", "sqlite:base.db", "--mode", "trigger", "--interval", "1h")
    support.wait_for(lambda: base.execute("SELECT count(*) FROM sqlite_master WHERE type = 'trigger'").fetchone() == (3,))
    values = [None, -9223372036854775808, 0.1 + 0.2, 1e300, float("inf"), 'te"xt\n', b"\x00\xff", "[\"41\",\"x\"]"]
    for value in values:
        base.execute("INSERT INTO t (\"odd \"\"name\") VALUES (?)", [value])
    base.execute("BEGIN; ")
    base.execute("UPDATE t SET id = 100 WHERE id = 1")
    base.execute("DELETE FROM t WHERE id = 2")
    base.execute("COMMIT")
    events = ingest.wait_events(10)
    assert [event["new"]['odd "name'] for event in events[:8]] == [None, -9223372036854775808, 0.1 + 0.2, 1e300, None, 'te"xt\n', "AP8=", "[\"41\",\"x\"]"]
    assert [event["op"] for event in events] == ["insert"] * 8 + ["update", "delete"]
    assert events[8]["old"]["id"] == 1 and events[8]["new"]["id"] == 100 and "new" not in events[9] and events[9]["old"]["id"] == 2
    assert [event["change"] for event in events] == list(range(1, 11)) and all(event["table"] == "t" and "@timestamp" in event for event in events)
    base.execute("INSERT INTO t VALUES (500, 1)")           # what is taken is deleted with the next look
    support.wait_for(lambda: base.execute("SELECT count(*) FROM ingest_changes").fetchone()[0] <= 1, "the changes to be deleted")
    assert ingest.terminate() == 0
    assert tools.run("ingest", "sqlite:base.db", "--mode", "trigger", "--drop").status == 0
    assert base.execute("SELECT name FROM sqlite_master WHERE name LIKE 'ingest%'").fetchall() == []


def test_a_column_that_is_added_is_noted_after_the_next_start(tools, base):
    base.execute("CREATE TABLE t (id INTEGER PRIMARY KEY)")
    for columns in (1, 2):
        ingest = tools.start("ingest", "sqlite:base.db", "--mode", "trigger", "--table", "t")
        text = lambda: base.execute("SELECT sql FROM sqlite_master WHERE name = 'ingest_insert_t'").fetchone()
        support.wait_for(lambda: text() and ("added" in text()[0]) == (columns == 2))
        base.execute("INSERT INTO t VALUES (%s)" % ("1" if columns == 1 else "2, 'x'"))
        support.wait_for(lambda: any(len(event["new"]) == columns for event in ingest.events), lambda: f"{columns} columns; {ingest.events}")
        if columns == 1:
            base.execute("ALTER TABLE t ADD COLUMN added")
        assert ingest.terminate() == 0


def test_changes_are_exact_over_kills_of_ingest_beside_a_writer(tools, directory, base):
    base.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, v INTEGER)")
    assert tools.run("ingest", "sqlite:base.db", "--mode", "trigger", "--once").status == 0     # triggers before the first change
    runs = Runs(tools, directory, "sqlite:base.db", "--mode", "trigger", "--batch-size", "10")
    stop, count = threading.Event(), [0]

    def write():
        connection, rng = sqlite3.connect(directory / "base.db", isolation_level=None, timeout=60), random.Random(2)
        while not stop.is_set():
            connection.execute("BEGIN IMMEDIATE")
            before = count[0]
            for _ in range(rng.randrange(1, 20)):
                count[0] += 1
                connection.execute("INSERT INTO t VALUES (?, 1)", [count[0]])
            if rng.random() < 0.2:
                count[0] = before
                connection.execute("ROLLBACK")
            else:
                connection.execute("COMMIT")
            time.sleep(0.002)
        connection.close()
    writer, rng = threading.Thread(target=write), random.Random(3)
    writer.start()
    for _ in range(8):
        tool = runs.start()
        time.sleep(rng.uniform(0.1, 0.4))
        tool.kill()
    stop.set()
    writer.join()
    tool = runs.start()
    runs.wait_until(lambda events: len(events) >= count[0], tool)
    assert [event["new"]["id"] for event in runs.events] == list(range(1, count[0] + 1))
    support.wait_for(lambda: base.execute("SELECT count(*) FROM ingest_changes").fetchone()[0] == 0 or not base.execute("INSERT INTO t (v) VALUES (0)"),
                     "what is safe to be deleted")


def test_a_database_that_another_program_has_locked_is_waited_for(tools, base):
    base.execute("CREATE TABLE t (id INTEGER PRIMARY KEY)")
    base.execute("BEGIN IMMEDIATE")
    ingest = tools.start("ingest", "sqlite:base.db", "--mode", "trigger", "--busy-timeout", "10ms", "--retry-min", "20ms")
    ingest.wait_err("database is locked.*trying again")
    base.execute("INSERT INTO t VALUES (1)")
    base.execute("COMMIT")
    support.wait_for(lambda: base.execute("SELECT count(*) FROM sqlite_master WHERE type = 'trigger'").fetchone() == (3,))
    base.execute("INSERT INTO t VALUES (2)")
    assert ingest.wait_events(1)[0]["new"] == {"id": 2}


def test_changes_that_are_counted_anew_are_told(tools, directory, base):
    base.execute("CREATE TABLE t (id INTEGER PRIMARY KEY)")
    runs = Runs(tools, directory, "sqlite:base.db", "--mode", "trigger")
    tool = runs.start()
    support.wait_for(lambda: base.execute("SELECT count(*) FROM sqlite_master WHERE type = 'trigger'").fetchone() == (3,))
    base.execute("INSERT INTO t VALUES (1)")
    runs.wait_until(lambda events: len(events) == 1, tool)
    assert tool.terminate() == 0
    assert tools.run("ingest", "sqlite:base.db", "--mode", "trigger", "--drop").status == 0
    tool = runs.start()
    assert tool.wait() == 1 and "counted anew" in tool.err and "--reset" in tool.err


def test_a_slow_receiver_holds_the_rows_back(tools, directory, base):
    base.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, text)")
    fill(base, [(n, "x" * 300) for n in range(1, 20001)])
    runs = Runs(tools, directory, "sqlite:base.db", *POLL, "--spool-limit", "1MiB", "--window", "64KiB")
    runs.receiver.signal(signal.SIGSTOP)
    tool = runs.start()
    support.wait_for(lambda: sum(p.stat().st_size for p in (directory / "state/spool").glob("*.seg")) > 800000)
    runs.receiver.signal(signal.SIGCONT)
    runs.wait_until(lambda events: len(events) >= 20000, tool)
    assert [event["id"] for event in runs.events] == list(range(1, 20001))


@pytest.mark.parametrize("arguments, reason", [
    ([], "--query is missing"),
    (["--query", "SELECT 1", "--cursor", "id", "--initial", "0"], "has no \\$1"),
    (["--query", "SELECT 1", "--table", "t"], "--table needs --mode trigger"),
    (["--mode", "trigger", "--query", "SELECT 1"], "--query needs --mode poll"),
])
def test_wrong_options_are_told_at_once(tools, arguments, reason):
    done = tools.run("ingest", "sqlite:base.db", *arguments)
    assert done.status == 64
    done.wait_err(reason)
