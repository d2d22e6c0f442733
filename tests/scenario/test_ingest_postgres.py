"""Source postgres: queries with a cursor and change data capture, against a private server that is stopped and started as it comes."""

import json
import random
import signal
import sqlite3
import threading
import time

import pytest

import support
import tls_support
from runs_support import Runs
from instance import control  # noqa: F401
from postgres_support import Postgres, Session


@pytest.fixture(scope="module")
def shared():
    server = Postgres()
    yield server
    server.close()


@pytest.fixture
def own():
    """For tests that stop it or set it up differently."""
    servers = []

    def make(**settings):
        servers.append(Postgres(**settings))
        return servers[-1]
    yield make
    for server in servers:
        server.close()


@pytest.fixture
def database(shared, tools, request):
    """An empty one, with the slots that a test left removed afterwards."""
    name = "db_" + "".join(c if c.isalnum() else "_" for c in request.node.name.lower())[5:40] + str(random.randrange(10000))
    shared.ask(f"CREATE DATABASE {name}")
    yield name
    for tool in tools.started:
        if tool.running:
            tool.kill()
    drop_slots(shared, name)


def drop_slots(server, name):
    def gone():
        server.ask(f"SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE active AND database = '{name}'")
        server.ask(f"SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE NOT active AND database = '{name}'")
        return server.ask(f"SELECT count(*) FROM pg_replication_slots WHERE database = '{name}'") == [["0"]]
    support.wait_for(gone, "the slots to go")


TYPES = [
    ("smallint", "-32768", -32768), ("integer", "2147483647", 2147483647), ("bigint", "-9223372036854775808", -9223372036854775808),
    ("oid", "4294967295", 4294967295), ("real", "0.1", 0.1), ("double precision", "1e-300", 1e-300), ("double precision", "'NaN'", None),
    ("numeric", "1.50", 1.5), ("numeric", "42", 42), ("numeric", "18446744073709551615", 18446744073709551615),
    ("numeric", "18446744073709551616", "18446744073709551616"), ("numeric", "0.1234567890123456", "0.1234567890123456"),
    ("numeric", "'NaN'", "NaN"), ("numeric(12,2)", "99999999.99", 99999999.99), ("boolean", "true", True), ("boolean", "false", False),
    ("text", "E'a\"\\n\\u00e9'", 'a"\né'), ("text", "''", ""), ("varchar(5)", "'abc'", "abc"), ("char(4)", "'ab'", "ab  "), ("\"char\"", "'x'", "x"),
    ("name", "'pg'", "pg"), ("bytea", "'\\x00ff10'", "AP8Q"), ("bytea", "''", ""), ("json", "'{\"a\": [1, null]}'", {"a": [1, None]}),
    ("jsonb", "'\"text\"'", "text"), ("jsonb", "'1e400'", 10 ** 400), ("timestamptz", "'2026-01-02 03:04:05.250001+02'", "2026-01-02T01:04:05.250001Z"),
    ("timestamp", "'2026-01-02 03:04:05'", "2026-01-02T03:04:05Z"), ("timestamptz", "'1969-07-20 20:17:40Z'", "1969-07-20T20:17:40Z"),
    ("timestamp", "'infinity'", "infinity"), ("timestamptz", "'0044-03-15 00:00:00+00 BC'", "0044-03-15 00:00:00+00 BC"),
    ("date", "'2026-02-28'", "2026-02-28"), ("time", "'03:04:05.5'", "03:04:05.5"), ("timetz", "'03:04:05+02'", "03:04:05+02"),
    ("interval", "'1 day 2 hours'", "P1DT2H"), ("uuid", "'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11'", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"),
    ("inet", "'10.0.0.1/8'", "10.0.0.1/8"), ("macaddr", "'08:00:2b:01:02:03'", "08:00:2b:01:02:03"), ("bit(3)", "B'101'", "101"),
    ("int4range", "'[1,5)'", "[1,5)"), ("point", "'(1,2)'", "(1,2)"), ("xml", "'<a/>'", "<a/>"), ("integer[]", "'{1,NULL,3}'", [1, None, 3]),
    ("integer[]", "'{{1,2},{3,4}}'", [[1, 2], [3, 4]]), ("integer[]", "'{}'", []), ("integer[]", "'[0:1]={7,8}'", [7, 8]),
    ("text[]", "ARRAY['a,b', '\"q\"\\', 'NULL', '', NULL, '{x}']", ["a,b", '"q"\\', "NULL", "", None, "{x}"]),
    ("boolean[]", "'{t,f}'", [True, False]), ("jsonb[]", "ARRAY['{\"a\":1}'::jsonb]", [{"a": 1}]), ("timestamptz[]", "'{2026-01-02Z}'", ["2026-01-02T00:00:00Z"]),
    ("uuid[]", "'{a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11}'", ["a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"]), ("mood", "'so la la'", "so la la"),
    ("mood[]", "ARRAY['ok','so la la']::mood[]", ["ok", "so la la"]), ("positive", "5", 5), ("positive[]", "'{1,2}'", [1, 2]),
    ("pair", "'(1,b)'", "(1,b)"), ("integer", "NULL", None)]


def make_types(server, database):
    columns = ", ".join(f"c{i} {kind}" for i, (kind, _, _) in enumerate(TYPES))
    server.ask("CREATE TYPE mood AS ENUM ('ok', 'so la la'); CREATE DOMAIN positive AS integer CHECK (VALUE > 0); CREATE TYPE pair AS (a int, b text);"
               f"CREATE TABLE types (id int PRIMARY KEY, {columns})", database)


def fill_types(server, database, number):
    server.ask(f"INSERT INTO types VALUES ({number}, {', '.join(value for _, value, _ in TYPES)})", database)


def check_types(row):
    for i, (kind, literal, expected) in enumerate(TYPES):
        if literal == "'1e400'":
            assert row[f"c{i}"] in (expected, "1" + "0" * 400), row[f"c{i}"]
        else:
            assert row[f"c{i}"] == expected and type(row[f"c{i}"]) is type(expected), (kind, literal, row[f"c{i}"])


def test_every_type_has_its_value_in_polls_snapshots_and_changes(tools, shared, database):
    make_types(shared, database)
    fill_types(shared, database, 1)
    done = tools.run("ingest", shared.url(database), "--mode", "poll", "--query", "SELECT * FROM types", "--once")
    check_types(done.events[0])
    ingest = tools.start("ingest", shared.url(database), "--table", "types")
    assert ingest.wait_events(1)[0]["op"] == "read"
    fill_types(shared, database, 2)
    events = ingest.wait_events(2)
    assert events[1]["op"] == "insert" and events[1]["new"]["id"] == 2
    for event in events:
        check_types(event["new"])
    assert ingest.terminate() == 0


@pytest.mark.parametrize("form, expected", [("text", ["1.50", "7", "0.12345678901234567"]), ("number", [1.5, 7, 0.12345678901234567])])
def test_numeric_as_it_is_wanted(tools, shared, form, expected):
    done = tools.run("ingest", shared.url(), "--mode", "poll", "--once", "--numeric", form, "--query",
                     "SELECT unnest(ARRAY[1.50, 7, 0.12345678901234567]) AS v")
    assert [event["v"] for event in done.events] == expected


def test_a_type_that_is_made_while_changes_stream_is_known(tools, shared, database):
    shared.ask("CREATE TABLE first (id int PRIMARY KEY)", database)
    ingest = tools.start("ingest", shared.url(database), "--snapshot", "never")
    ingest.wait_err("made the replication slot")
    shared.ask("CREATE DOMAIN late AS integer; CREATE TABLE second (id late PRIMARY KEY, many late[]); INSERT INTO second VALUES (5, '{6}')", database)
    assert ingest.wait_events(1)[0]["new"] == {"id": 5, "many": [6]}


# Changes

def test_changes_have_old_and_new_values_transactions_and_places(tools, shared, database):
    shared.ask("CREATE SCHEMA s; CREATE TABLE s.plain (id int PRIMARY KEY, a int, b text); CREATE TABLE s.whole (id int PRIMARY KEY, a int, b text);"
               "ALTER TABLE s.whole REPLICA IDENTITY FULL; CREATE TABLE other (id int)", database)
    ingest = tools.start("ingest", shared.url(database), "--table", "s.plain", "--table", "s.whole")
    ingest.wait_err("changes come next")
    for table in ("plain", "whole"):
        shared.ask(f"BEGIN; INSERT INTO s.{table} VALUES (1, 10, 'x'); UPDATE s.{table} SET a = 11; UPDATE s.{table} SET id = 2; INSERT INTO other VALUES (1);"
                   f"DELETE FROM s.{table}; COMMIT; TRUNCATE s.{table}", database)
    events = ingest.wait_events(10)
    plain, whole = ([event for event in events if event["table"] == table] for table in ("plain", "whole"))
    assert [event["op"] for event in plain] == [event["op"] for event in whole] == ["insert", "update", "update", "delete", "truncate"]
    assert all(event["schema"] == "s" for event in events)
    assert plain[0]["new"] == {"id": 1, "a": 10, "b": "x"} and "old" not in plain[0] and "old" not in plain[1]
    assert plain[2]["old"] == {"id": 1} and plain[2]["new"] == {"id": 2, "a": 11, "b": "x"} and plain[3]["old"] == {"id": 2} and "new" not in plain[3]
    assert whole[1]["old"] == {"id": 1, "a": 10, "b": "x"} and whole[3]["old"] == {"id": 2, "a": 11, "b": "x"}
    assert len({(event["lsn"], event["xid"], event["committed"]) for event in plain[:4]}) == 1
    assert [event["change"] for event in plain] == [1, 2, 3, 4, 1] and plain[4]["xid"] > plain[0]["xid"]
    assert all(event["@timestamp"] == event["committed"] for event in events)


def test_values_stored_apart_and_unchanged_are_named_or_taken_from_the_old_row(tools, shared, database):
    big = "SELECT string_agg(md5(i::text), '') FROM generate_series(1, 3000) i"
    shared.ask(f"CREATE TABLE t (id int PRIMARY KEY, n int, big text); ALTER TABLE t ALTER big SET STORAGE EXTERNAL; INSERT INTO t VALUES (1, 0, ({big}))", database)
    ingest = tools.start("ingest", shared.url(database))
    assert len(ingest.wait_events(1)[0]["new"]["big"]) == 96000
    shared.ask("UPDATE t SET n = 1", database)
    shared.ask("ALTER TABLE t REPLICA IDENTITY FULL; UPDATE t SET n = 2", database)
    events = ingest.wait_events(3)
    assert events[1]["new"] == {"id": 1, "n": 1} and events[1]["unchanged"] == ["big"]
    assert len(events[2]["new"]["big"]) == 96000 and "unchanged" not in events[2]


class Writer(threading.Thread):
    """Transactions of all kinds, for so many seconds and at least a few, or until `over` is set. v of a row counts its versions from 1, and id is never used twice, so that every change can be told apart."""

    def __init__(self, server, database, seconds, tables=("a", "b", "c"), seed=1):
        super().__init__(daemon=True)
        self.over = threading.Event()
        self.server, self.database, self.seconds, self.tables, self.rng = server, database, seconds, tables, random.Random(seed)
        self.commits, self.failures = 0, 0

    def statement(self):
        table, rng = self.rng.choice(self.tables), self.rng
        key = f"(SELECT id FROM {table} ORDER BY random() LIMIT {rng.randrange(1, 4)})"
        return rng.choice([f"INSERT INTO {table} SELECT nextval('ids'), 1 FROM generate_series(1, {rng.randrange(1, 6)})",
                           f"UPDATE {table} SET v = v + 1 WHERE id IN {key}", f"UPDATE {table} SET v = v + 1 WHERE id IN {key}",
                           f"DELETE FROM {table} WHERE id IN {key}"])

    def run(self):
        end = time.monotonic() + self.seconds if self.seconds else float("inf")
        going = lambda: not self.over.is_set() and (time.monotonic() < end or self.commits <= 10)
        while going():
            try:
                session = Session(self.server, self.database)
                while going():
                    session.do("BEGIN; " + "; ".join(self.statement() for _ in range(self.rng.randrange(1, 8))) +
                               self.rng.choice(["; COMMIT", "; COMMIT", "; ROLLBACK"]))
                    self.commits += 1
                    time.sleep(self.rng.uniform(0, 0.01))
                session.close()
            except (AssertionError, BrokenPipeError):       # the server is away
                self.failures += 1
                time.sleep(0.1)


def make_tables(server, database, rows):
    """Three tables: a key of numbers, one of text, and two columns."""
    server.ask("CREATE SEQUENCE ids; CREATE TABLE a (id bigint PRIMARY KEY, v int); CREATE TABLE b (id text PRIMARY KEY, v int);"
               "CREATE TABLE c (id bigint, half int GENERATED ALWAYS AS (0) STORED, v int, w int DEFAULT 7, PRIMARY KEY (w, id));"
               f"INSERT INTO a SELECT nextval('ids'), 1 FROM generate_series(1, {rows}); INSERT INTO b SELECT nextval('ids'), 1 FROM generate_series(1, {rows});"
               f"INSERT INTO c (id, v) SELECT nextval('ids'), 1 FROM generate_series(1, {rows})".replace("INSERT INTO c SELECT", "INSERT INTO c (id, v) SELECT"),
               database)


class CWriter(Writer):
    def statement(self):
        text = super().statement()
        return text.replace("INSERT INTO c SELECT nextval('ids'), 1", "INSERT INTO c (id, v) SELECT nextval('ids'), 1")


def replay(events):
    """The tables as the events make them. Every row begins once (read or insert), its versions follow one another, nothing comes twice."""
    rows, seen = {}, set()
    for event in events:
        table, row = event["table"], event.get("new") or event["old"]
        key = (table, str(row["id"]))
        if event["op"] in ("read", "insert"):
            assert key not in seen, f"{key} begins twice: {event}"
            assert event["op"] == "read" or row["v"] == 1, event
            seen.add(key)
            rows[key] = row["v"]
        elif event["op"] == "update":
            assert rows[key] + 1 == row["v"], f"{key} at {rows[key]}: {event}"
            rows[key] = row["v"]
        else:
            del rows[key]
    return rows


def table_rows(server, database):
    return {(table, key): int(v) for table in "abc" for key, v in server.ask(f"SELECT id, v FROM {table}", database)}


def settle(runs, server, database, tool):
    """Until all that was committed has come: the last transaction's mark is a row of a table of its own."""
    server.ask("CREATE TABLE IF NOT EXISTS last (id int PRIMARY KEY, v int); INSERT INTO last VALUES (1, 1)", database)
    runs.wait_text(b'"table":"last"', tool, "the last transaction")
    events = [event for event in runs.events if event["table"] != "last"]
    assert replay(events) == table_rows(server, database)
    return events


@pytest.mark.parametrize("seed", [1, 2])
def test_snapshot_and_changes_are_exact_over_kills(tools, directory, shared, database, seed):
    make_tables(shared, database, 6000)
    runs = Runs(tools, directory, shared.url(database), "--batch-size", "20", "--window", "64KiB")
    writer, rng = CWriter(shared, database, 4, seed=seed), random.Random(seed)
    writer.start()
    interrupted = sum("changes come next" not in runs.kill_when_full().err for _ in range(2))
    while writer.is_alive():
        tool = runs.start()
        time.sleep(rng.uniform(0.05, 0.8))
        tool.kill()
    writer.join()
    assert writer.failures == 0 and writer.commits > 10
    tool = runs.start()
    events = settle(runs, shared, database, tool)
    assert interrupted == 2
    assert {"read", "insert", "update", "delete"} <= {event["op"] for event in events}


def test_a_server_that_crashes_repeats_nothing_and_loses_nothing(tools, directory, own):
    server = own()
    make_tables(server, "postgres", 200)
    runs = Runs(tools, directory, server.url())
    tool = runs.start()
    writer = CWriter(server, "postgres", None)
    writer.start()
    for _ in range(3):
        before = len(runs.events)
        runs.wait_until(lambda events: len(events) > before + 50, tool)
        server.stop("immediate")
        tool.wait_err("trying again")
        server.start()
    writer.over.set()
    writer.join()
    assert writer.failures >= 3
    settle(runs, server, "postgres", tool)
    assert tool.terminate() == 0


def test_a_server_that_is_down_at_start_is_waited_for(tools, directory, own):
    server = own()
    server.ask("CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1)")
    server.stop("fast")
    tool = tools.start("ingest", server.url(), "--retry-min", "50ms", "--retry-max", "100ms")
    tool.wait_err("onnection refused.*trying again")
    server.start()
    assert tool.wait_events(1)[0]["new"] == {"id": 1}


def test_a_connection_that_is_paused_longer_than_the_servers_patience_lives(tools, directory, own):
    server = own(wal_sender_timeout="4s")
    server.ask("CREATE TABLE t (id int PRIMARY KEY, text text)")
    runs = Runs(tools, directory, server.url(), "--spool-limit", "1MiB", "--window", "64KiB")
    tool = runs.start()
    tool.wait_err("changes come next")
    runs.receiver.signal(signal.SIGSTOP)
    server.ask("INSERT INTO t SELECT i, repeat('x', 200) FROM generate_series(1, 20000) i")
    pid = support.wait_for(lambda: server.ask("SELECT active_pid FROM pg_replication_slots WHERE active"))
    server.ask("SELECT pg_sleep(7)")
    assert server.ask("SELECT active_pid FROM pg_replication_slots WHERE active") == pid
    runs.receiver.signal(signal.SIGCONT)
    runs.wait_until(lambda events: len(events) >= 20000, tool)
    assert [event["new"]["id"] for event in runs.events] == list(range(1, 20001))
    assert "trying again" not in tool.err and "replication timeout" not in server.log.read_text()


def test_the_server_may_forget_what_is_safe_and_also_what_is_not_ours(tools, directory, shared, database):
    shared.ask("CREATE TABLE t (id int PRIMARY KEY); CREATE TABLE foreign_to_us (id int)", database)
    runs = Runs(tools, directory, shared.url(database), "--table", "t")
    runs.start().wait_err("changes come next")
    confirmed = lambda: shared.ask(f"SELECT confirmed_flush_lsn - '0/0' FROM pg_replication_slots WHERE database = '{database}'")[0][0]
    for table in ("t", "foreign_to_us"):
        shared.ask(f"INSERT INTO {table} SELECT generate_series(1, 1000)", database)
        end = float(shared.ask("SELECT pg_current_wal_lsn() - '0/0'")[0][0])
        support.wait_for(lambda: float(confirmed()) >= end, lambda: f"{confirmed()} to reach {end}", 30)


def test_a_slot_that_is_gone_or_in_use_is_told_with_the_remedy(tools, directory, shared, database):
    shared.ask("CREATE TABLE t (id int PRIMARY KEY)", database)
    runs = Runs(tools, directory, shared.url(database))
    tool = runs.start()
    tool.wait_err("changes come next")
    second = tools.start("ingest", shared.url(database), "--retry-min", "20ms")
    second.wait_err("is in use by the server's process .*--slot")
    second.kill()
    assert tool.terminate() == 0
    drop_slots(shared, database)
    tool = runs.start()
    assert tool.wait() == 1 and "is gone" in tool.err and "--reset" in tool.err


def test_drop_removes_slot_and_publication(tools, shared, database):
    shared.ask("CREATE TABLE t (id int PRIMARY KEY)", database)
    tool = tools.start("ingest", shared.url(database), "--slot", "mine", "--publication", "Our \"pub\"")
    tool.wait_err("changes come next")
    assert tool.terminate() == 0
    assert shared.ask("SELECT pubname FROM pg_publication", database) == [['Our "pub"']]
    done = tools.run("ingest", shared.url(database), "--slot", "mine", "--publication", "Our \"pub\"", "--drop")
    assert done.status == 0, done.err
    assert shared.ask("SELECT count(*) FROM pg_publication", database) == [["0"]]
    assert shared.ask(f"SELECT count(*) FROM pg_replication_slots WHERE database = '{database}'") == [["0"]]


def test_a_sample_leaves_nothing_in_the_database(tools, shared, database):
    shared.ask("CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t SELECT generate_series(1, 10)", database)
    done = tools.run("ingest", shared.url(database), "--sample", "3")
    assert done.status == 0 and [event["new"]["id"] for event in done.events] == [1, 2, 3]
    assert shared.ask("SELECT count(*) FROM pg_publication", database) == [["0"]]
    assert shared.ask(f"SELECT count(*) FROM pg_replication_slots WHERE database = '{database}'") == [["0"]]


@pytest.mark.parametrize("mode, wanted", [("cdc", "u"), ("cdc", "s.u"), ("trigger", "u"), ("trigger", "public.u")])
def test_a_table_that_is_not_there_is_told_and_waited_for(tools, shared, database, mode, wanted):
    shared.ask("CREATE TABLE t (id int PRIMARY KEY)", database)
    ingest = tools.start("ingest", shared.url(database), "--mode", mode, "--table", "t", "--table", wanted, "--retry-min", "50ms", "--retry-max", "100ms")
    ingest.wait_err(rf"there is no (table {wanted}|schema s) \(--table(, --schema)?\); trying again")
    if wanted == "s.u":
        shared.ask("CREATE SCHEMA s", database)
        ingest.wait_err(r"there is no table s.u \(--table\); trying again")
    shared.ask(f"CREATE TABLE {wanted} (id int PRIMARY KEY)", database)
    if mode == "cdc":
        ingest.wait_err("changes come next")
    else:
        support.wait_for(lambda: shared.ask("SELECT count(*) FROM pg_trigger WHERE tgname = 'ingest_note'", database) == [["2"]], lambda: ingest.err)
    shared.ask(f"INSERT INTO {wanted} VALUES (7)", database)
    assert ingest.wait_events(1)[0]["new"] == {"id": 7}
    assert ingest.terminate() == 0


def test_a_table_that_was_dropped_is_told_and_waited_for(tools, shared, database):
    shared.ask("CREATE TABLE t (id int PRIMARY KEY); CREATE TABLE u (id int PRIMARY KEY)", database)
    arguments = ("ingest", shared.url(database), "--table", "t", "--table", "u", "--retry-min", "50ms")
    ingest = tools.start(*arguments)
    ingest.wait_err("changes come next")
    assert ingest.terminate() == 0
    shared.ask("DROP TABLE u", database)
    ingest = tools.start(*arguments)
    ingest.wait_err(r"there is no table u \(--table\); trying again")
    shared.ask("CREATE TABLE u (id int PRIMARY KEY)", database)
    assert ingest.wait() == 1 and "ALTER PUBLICATION adds tables" in ingest.err


def test_a_publication_without_a_table_that_is_wanted_is_told(tools, shared, database):
    shared.ask("CREATE TABLE t (id int PRIMARY KEY); CREATE TABLE u (id int PRIMARY KEY); CREATE PUBLICATION p FOR TABLE t", database)
    done = tools.run("ingest", shared.url(database), "--publication", "p", "--table", "t", "--table", "u")
    assert done.status == 1 and "without \"u\"" in done.err


def test_tables_that_nobody_could_update_any_more_are_named_with_the_remedy(tools, shared, database):
    shared.ask("CREATE TABLE good (id int PRIMARY KEY); CREATE TABLE whole (a int); ALTER TABLE whole REPLICA IDENTITY FULL; CREATE SCHEMA s;"
               "CREATE TABLE s.\"Log\" (a int); CREATE TABLE part (a int) PARTITION BY RANGE (a); CREATE TABLE part_1 PARTITION OF part FOR VALUES FROM (0) TO (9)",
               database)
    for _ in range(2):
        ingest = tools.start("ingest", shared.url(database))
        ingest.wait_err("changes come next")
        assert 'every UPDATE and DELETE of public.part_1, s."Log": the publication' in ingest.err
        assert ingest.terminate() == 0
        shared.ask("UPDATE good SET id = 1; UPDATE whole SET a = 1", database)
    shared.ask("ALTER TABLE s.\"Log\" REPLICA IDENTITY FULL; ALTER TABLE part_1 REPLICA IDENTITY FULL; UPDATE s.\"Log\" SET a = 1", database)
    ingest = tools.start("ingest", shared.url(database))
    ingest.wait_err("changes come next")
    assert "REPLICA IDENTITY" not in ingest.err


def test_a_server_without_logical_wal_is_told_what_to_set(tools, own):
    server = own(**{})
    server.configure(wal_level="replica")
    server.stop("fast")
    server.start()
    tools.start("ingest", server.url(), "--retry-min", "50ms").wait_err("wal_level is replica.*postgresql.conf")


def test_the_ready_pipeline_keeps_the_history_and_what_is_paid(control, directory, shared, database, monkeypatch):  # noqa: F811
    shared.ask("CREATE TABLE orders (id int PRIMARY KEY, status text, total numeric(12, 2)); INSERT INTO orders VALUES (1, 'paid', 9.5)", database)
    monkeypatch.setenv("DATABASE_URL", shared.url(database))
    content = json.loads((support.ROOT / "pipelines/database-changes.json").read_text())
    content["server"] = {"port": 0}
    (directory / "config.json").write_text(json.dumps(content))
    control.good("start")
    history = directory / "data/changes.ndjson"
    support.wait_for(lambda: support.lines_so_far(history), "the snapshot", 30)
    shared.ask("INSERT INTO orders VALUES (2, 'new', 1.25); UPDATE orders SET status = 'paid' WHERE id = 2", database)

    def paid():
        try:
            return sqlite3.connect(directory / "data/paid.db").execute("SELECT order_id, total FROM paid").fetchall()
        except sqlite3.OperationalError:        # not made yet
            return []
    support.wait_for(lambda: paid() == [(1, 9.5), (2, 1.25)], paid, 30)
    support.wait_for(lambda: [event["op"] for event in support.lines_so_far(history)] == ["read", "insert", "update"], "the history", 30)
    control.good("stop")


# Polls

def test_a_query_without_cursor_gives_all_rows_each_time(tools, shared):
    ingest = tools.start("ingest", shared.url(), "--mode", "poll", "--query", "SELECT 1 AS one; -- a comment", "--interval", "20ms")
    assert ingest.wait_events(3)[:3] == [{"one": 1}] * 3


def test_rows_that_commit_out_of_order_are_not_missed(tools, shared, database):
    shared.ask("CREATE TABLE t (id serial PRIMARY KEY, who text)", database)
    ingest = tools.start("ingest", shared.url(database), "--mode", "poll", "--query", "SELECT * FROM t WHERE id > $1", "--cursor", "id", "--initial", "0",
                         "--interval", "20ms")
    slow = shared.session(database)
    for round_ in range(3):
        slow.do("BEGIN; INSERT INTO t (who) VALUES ('slow')")
        shared.ask("INSERT INTO t (who) VALUES ('quick'); INSERT INTO t (who) VALUES ('quick')", database)
        shared.ask("SELECT pg_sleep(0.1)", database)          # some polls pass meanwhile
        slow.do("COMMIT")
        ingest.wait_events(3 * round_ + 3)
    slow.close()
    assert [event["id"] for event in ingest.events] == list(range(1, 10))
    assert [event["who"] for event in ingest.events] == ["slow", "quick", "quick"] * 3


def test_polls_are_exact_over_kills_and_rows_with_the_same_cursor(tools, directory, shared, database):
    shared.ask("CREATE TABLE t (at int, n int)", database)
    runs = Runs(tools, directory, shared.url(database), "--mode", "poll", "--query", "SELECT * FROM t WHERE at > $1", "--cursor", "at", "--initial", "-1",
                "--interval", "10ms", "--batch-size", "10", "--window", "64KiB")
    rng = random.Random(3)
    for first in range(0, 15000, 2500):
        shared.ask(f"INSERT INTO t SELECT n / 7 + {first}, n FROM generate_series({first}, {first + 2499}) n", database)
        tool, some = runs.start(), first + rng.randrange(1, 2000)
        runs.wait_until(lambda events: len(events) >= some, tool)
        tool.kill()
    tool = runs.start()
    runs.wait_until(lambda events: len(events) >= 15000, tool)
    shared.ask("INSERT INTO t SELECT 100000 + n, n FROM generate_series(15000, 15009) n", database)
    runs.wait_until(lambda events: len(events) >= 15010, tool)
    assert sorted(event["n"] for event in runs.events) == list(range(15010))


def test_a_poll_survives_the_loss_of_its_server(tools, directory, own):
    server = own()
    server.ask("CREATE TABLE t (id serial PRIMARY KEY)")
    runs = Runs(tools, directory, server.url(), "--mode", "poll", "--query", "SELECT id FROM t WHERE id > $1", "--cursor", "id", "--initial", "0",
                "--interval", "20ms")
    tool = runs.start()
    for round_ in range(1, 4):
        server.ask("INSERT INTO t SELECT FROM generate_series(1, 100)")
        runs.wait_until(lambda events: len(events) >= 100 * round_, tool)
        if round_ < 3:
            server.stop("immediate")
            tool.wait_err("trying again")
            server.start()
    ids = [event["id"] for event in runs.events]
    assert ids == sorted(set(ids)) and len(ids) == 300


def test_time_names_the_column_of_the_events_time(tools, shared):
    done = tools.run("ingest", shared.url(), "--mode", "poll", "--once", "--time", "ts", "--query", "SELECT timestamptz '2026-01-02 03:04:05Z' AS ts, 1 AS n")
    assert done.events == [{"@timestamp": "2026-01-02T03:04:05Z", "ts": "2026-01-02T03:04:05Z", "n": 1}]


@pytest.mark.parametrize("query, reason", [("SELEC 1", "syntax error"), ("SELECT 1 AS a, 2 AS a", "two columns are named a"), ("SELECT no FROM pg_class", "no")])
def test_queries_that_never_work_are_told(tools, shared, query, reason):
    done = tools.run("ingest", shared.url(), "--mode", "poll", "--query", query)
    assert done.status == 1 and reason in done.err


@pytest.mark.parametrize("arguments, reason", [
    (["--mode", "poll"], "needs --query"),
    (["--mode", "poll", "--query", "SELECT 1", "--cursor", "id", "--initial", "0"], "has no \\$1"),
    (["--mode", "poll", "--query", "SELECT 1 WHERE $1 > 0", "--cursor", "id"], "needs --initial"),
    (["--query", "SELECT 1"], "--query needs --mode poll"),
    (["--slot", "Not-A-Slot"], "takes up to 48"),
    (["--format", "csv"], "not for databases"),
    (["--mode", "trigger"], "needs --table"),
    (["--mode", "trigger", "--table", "t", "--schema", "s"], "--schema needs --mode cdc"),
])
def test_wrong_options_are_told_at_once(tools, arguments, reason):
    done = tools.run("ingest", "postgres://localhost/x", *arguments)
    assert done.status == 64
    done.wait_err(reason)


def test_a_bad_address_is_told_without_its_secrets(tools):
    done = tools.run("ingest", "postgres://user:se%cret@localhost/x")
    assert done.status == 64 and "looks like postgres://" in done.err and "cret" not in done.err


# Triggers

def test_triggers_note_every_kind_of_change_and_are_removed(tools, shared, database):
    shared.ask("CREATE TABLE t (id int PRIMARY KEY, v numeric, \"odd \"\"name\" text)", database)
    ingest = tools.start("ingest", shared.url(database), "--mode", "trigger", "--table", "t", "--interval", "1h")
    triggers = lambda: shared.ask("SELECT count(*) FROM pg_trigger WHERE NOT tgisinternal", database)
    support.wait_for(lambda: triggers() == [["2"]])
    shared.ask("BEGIN; INSERT INTO t VALUES (1, 1.5, E'a\\n\"'); UPDATE t SET v = NULL; DELETE FROM t; COMMIT; TRUNCATE t", database)
    events = ingest.wait_events(4)
    assert [event["op"] for event in events] == ["insert", "update", "delete", "truncate"]
    assert events[0]["new"] == {"id": 1, "v": 1.5, 'odd "name': 'a\n"'} and "old" not in events[0]
    assert events[1]["old"] == events[0]["new"] and events[1]["new"]["v"] is None and events[2]["old"] == events[1]["new"] and "new" not in events[3]
    assert all(event["schema"] == "public" and event["table"] == "t" and "@timestamp" in event for event in events)
    assert len({event["xid"] for event in events[:3]}) == 1 and events[3]["xid"] > events[0]["xid"]
    support.wait_for(lambda: shared.ask("SELECT count(*) FROM ingest.changes", database) == [["0"]], "what is taken to be deleted")
    assert ingest.terminate() == 0
    done = tools.run("ingest", shared.url(database), "--mode", "trigger", "--drop")
    assert done.status == 0 and triggers() == [["0"]], done.err
    assert shared.ask("SELECT count(*) FROM pg_namespace WHERE nspname = 'ingest'", database) == [["0"]]


def test_what_triggers_note_is_exact_over_kills_and_crashes_of_the_server(tools, directory, own):
    server = own()
    server.ask("CREATE SEQUENCE ids; CREATE TABLE a (id bigint PRIMARY KEY, v int); CREATE TABLE b (id text PRIMARY KEY, v int); CREATE TABLE c (id bigint "
               "PRIMARY KEY, v int)")
    runs = Runs(tools, directory, server.url(), "--mode", "trigger", "--table", "a", "--table", "b", "--table", "c", "--table", "public.last",
                "--batch-size", "10")
    server.ask("CREATE TABLE last (id int PRIMARY KEY, v int)")
    tool = runs.start()
    support.wait_for(lambda: server.ask("SELECT count(*) FROM pg_trigger WHERE NOT tgisinternal") == [["8"]], lambda: tool.err)
    writers, rng = [Writer(server, "postgres", 6, seed=seed) for seed in (1, 2)], random.Random(1)
    for writer in writers:
        writer.start()
    kills = 0
    while kills < 3 or any(writer.is_alive() for writer in writers):
        time.sleep(rng.uniform(0.1, 0.6))
        tool.kill()
        kills += 1
        if kills == 2:
            server.stop("immediate")
            server.start()
        tool = runs.start()
    assert sum(writer.commits for writer in writers) > 10
    settle(runs, server, "postgres", tool)
    assert tool.terminate() == 0


# Log-in and TLS

@pytest.fixture(scope="module")
def guarded(tmp_path_factory):
    """A server that takes only TLS and passwords over TCP."""
    server = Postgres()
    server.ask("CREATE ROLE someone LOGIN PASSWORD 'hidden' SUPERUSER REPLICATION; CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1)")
    authority = tls_support.Authority(tmp_path_factory.mktemp("tls"))
    (server.data / "pg_hba.conf").write_text("local all all trust\nhostssl all,replication all 127.0.0.1/32 scram-sha-256\n")

    def show(pair):
        """Serves with this certificate from now on."""
        certificate, key = pair
        for source, name in ((certificate, "server.crt"), (key, "server.key")):
            target = server.data / name
            target.write_bytes(source.read_bytes())
            target.chmod(0o600)
            server.own(target)
        server.stop("fast")
        server.start()
    server.configure(ssl="on", ssl_cert_file="server.crt", ssl_key_file="server.key")
    server.show, server.authority = show, authority
    yield server
    server.close()


POLL = ["--mode", "poll", "--query", "SELECT id FROM t", "--once", "--retry-min", "50ms"]


@pytest.mark.parametrize("which, trusted", [("good", True), ("expired", False), ("untrusted", False), ("of_another_host", False)])
def test_certificates_are_verified(tools, guarded, which, trusted):
    guarded.show(getattr(guarded.authority, which)())
    for mode in (POLL, []):
        tool = tools.start("ingest", guarded.url(user="someone"), *mode, "--password", "hidden", "--tls-ca", guarded.authority.ca, "--retry-min", "50ms")
        if trusted:
            tool.wait_events(1)
        else:
            tool.wait_err("certificate.*trying again")
            assert tool.out == b""
        tool.kill()
    drop_slots(guarded, "postgres")


def test_much_data_goes_through_tls(tools, guarded):
    """Records of TLS and messages of all sizes, so that what one holds of the other varies."""
    guarded.show(guarded.authority.good())
    guarded.ask("CREATE TABLE big (id int PRIMARY KEY, text text)")
    many = "INSERT INTO big SELECT i, repeat('x', (i * 7919) % 20011) FROM generate_series({}, {}) i"
    guarded.ask(many.format(1, 1000))
    more = ["--password", "hidden", "--tls-ca", guarded.authority.ca]
    poll = tools.run("ingest", guarded.url(user="someone"), "--mode", "poll", "--query", "SELECT * FROM big ORDER BY id", "--once", *more)
    assert [len(event["text"]) for event in poll.events] == [i * 7919 % 20011 for i in range(1, 1001)]
    tool = tools.start("ingest", guarded.url(user="someone"), "--table", "big", "--slot", "big", *more)
    tool.wait_events(1000)
    guarded.ask(many.format(1001, 2000))
    events = tool.wait_events(2000)
    assert [len(event["new"]["text"]) for event in events] == [i * 7919 % 20011 for i in range(1, 2001)]
    tool.kill()
    drop_slots(guarded, "postgres")


def test_passwords_come_from_the_address_the_option_or_a_file_and_are_never_shown(tools, directory, guarded):
    guarded.show(guarded.authority.good())
    (directory / "pass").write_text(f"127.0.0.1:{guarded.port}:*:someone:hidden\n")
    (directory / "pass").chmod(0o600)
    ways = [(guarded.url(user="someone:hidden"), [], {}), (guarded.url(user="someone"), ["--password", "hidden"], {}),
            (guarded.url(user="someone"), [], {"PGPASSFILE": str(directory / "pass")})]
    for url, more, env in ways:
        done = tools.run("ingest", url, *POLL, *more, env=env)
        assert done.status == 0 and done.events == [{"id": 1}], done.err
    bad = tools.start("ingest", guarded.url(user="someone:wrong-secret"), *POLL)
    bad.wait_err("password authentication failed.*trying again")
    assert "wrong-secret" not in bad.err
