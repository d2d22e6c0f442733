"""Source mysql: queries with a cursor, against a private MariaDB that is stopped and started as it comes."""

import random
import time

import pytest

from mysql_support import MariaDB, with_tls, without_table
from runs_support import Runs


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    yield from with_tls(tmp_path_factory)


@pytest.fixture
def table(server):
    yield from without_table(server)


POLL = ["--query", "SELECT * FROM t WHERE id > $1", "--cursor", "id", "--initial", "0"]
TYPES = [
    ("tinyint", "-128", -128), ("bigint", "-9223372036854775808", -9223372036854775808), ("bigint unsigned", "18446744073709551615", 18446744073709551615),
    ("decimal(12,2)", "1.50", 1.5), ("decimal(30,10)", "12345678901234567890.5", "12345678901234567890.5000000000"), ("double", "1e-300", 1e-300),
    ("float", "0.5", 0.5), ("bit(10)", "b'1000000001'", 513), ("varchar(20)", "'é\\\"\\n'", 'é"\n'), ("char(5)", "'ab'", "ab"), ("text", "''", ""),
    ("varbinary(5)", "x'00ff10'", "AP8Q"), ("blob", "x'00'", "AA=="), ("datetime(6)", "'2026-01-02 03:04:05.25'", "2026-01-02T03:04:05.25Z"),
    ("timestamp", "'2026-01-02 03:04:05'", "2026-01-02T03:04:05Z"), ("date", "'2026-02-28'", "2026-02-28"), ("time", "'-12:30:00'", "-12:30:00"),
    ("year", "2026", 2026), ("enum('a','b')", "'b'", "b"), ("set('a','b')", "'a,b'", "a,b"), ("json", "'{\"a\":1}'", {"a": 1}), ("int", "NULL", None)]


def test_every_type_has_its_value(tools, table):
    table.ask(f"CREATE TABLE t (id int PRIMARY KEY, {', '.join(f'c{i} {kind}' for i, (kind, _, _) in enumerate(TYPES))}) CHARACTER SET utf8mb4; "
              f"SET NAMES utf8mb4; SET time_zone = '+00:00'; INSERT INTO t VALUES (1, {', '.join(value for _, value, _ in TYPES)})")
    done = tools.run("ingest", table.url(), *POLL, "--once")
    assert done.status == 0, done.err
    for i, (kind, literal, expected) in enumerate(TYPES):
        assert done.events[0][f"c{i}"] == expected, (kind, literal, done.events[0][f"c{i}"])


@pytest.mark.parametrize("kind, values, initial", [
    ("datetime(6)", ["2026-01-02 03:04:05.1", "2026-01-02 03:04:05.2"], "2000-01-01"), ("varchar(20)", ["a''b", "c\\\\d", "e$1"], ""),
    ("bigint unsigned", ["9223372036854775807", "18446744073709551614", "18446744073709551615"], "0")])
def test_cursors_of_all_kinds(tools, table, kind, values, initial):
    table.ask(f"CREATE TABLE t (id {kind}, text varchar(20) DEFAULT '$1')")
    ingest = tools.start("ingest", table.url(), "--query", "SELECT *, '$1 \\' $1' AS dollar FROM t WHERE id > $1 AND text = '$1'", "--cursor", "id",
                         "--initial", initial, "--interval", "20ms")
    for n, value in enumerate(values):
        table.ask(f"INSERT INTO t (id) VALUES ('{value}')")
        assert ingest.wait_events(n + 1)[n]["dollar"] == "$1 ' $1"
    table.ask("SELECT sleep(0.1)")
    assert len(ingest.events) == len(values)


def test_polls_are_exact_over_kills(tools, directory, table):
    table.ask("CREATE TABLE t (id int, n int); INSERT INTO t SELECT seq DIV 5 + 1, seq FROM seq_0_to_19999")
    runs = Runs(tools, directory, table.url(), *POLL, "--interval", "20ms", "--batch-size", "10", "--window", "64KiB")
    rng, kills = random.Random(1), 0
    while kills < 3 or (len(runs.events) < 19000 and kills < 30):
        tool = runs.start()
        time.sleep(rng.uniform(0.03, 0.2))
        tool.kill()
        kills += 1
    tool = runs.start()
    runs.wait_until(lambda events: len(events) >= 20000, tool)
    table.ask("INSERT INTO t VALUES (100000, 20000)")
    runs.wait_until(lambda events: len(events) >= 20001, tool)
    assert sorted(event["n"] for event in runs.events) == list(range(20001))
    assert tool.terminate() == 0


def test_a_server_that_is_down_at_start_or_lost_is_waited_for(tools, directory):
    server = MariaDB()
    try:
        server.ask("CREATE TABLE t (id int AUTO_INCREMENT PRIMARY KEY)")
        server.stop()
        runs = Runs(tools, directory, server.url(), *POLL, "--interval", "20ms")
        tool = runs.start()
        tool.wait_err("trying again")
        for round_ in range(1, 3):
            server.start()
            server.ask("INSERT INTO t SELECT NULL FROM seq_1_to_100")
            runs.wait_until(lambda events: len(events) >= 100 * round_, tool)
            if round_ == 1:
                server.ask("SET GLOBAL innodb_flush_log_at_trx_commit = 1; INSERT INTO t VALUES (NULL)")
                runs.wait_until(lambda events: len(events) >= 101, tool)
                server.stop()
        ids = [event["id"] for event in runs.events]
        assert ids == sorted(set(ids)) and len(ids) >= 201
    finally:
        server.close()


@pytest.mark.parametrize("which, trusted", [("good", True), ("other", False)])
def test_certificates_are_verified(tools, table, which, trusted):
    table.ask("CREATE TABLE t (id int); INSERT INTO t VALUES (1)")
    tool = tools.start("ingest", table.url(), *POLL, "--tls-ca", table.authority.ca if trusted else table.authority.other, "--retry-min", "50ms")
    if trusted:
        tool.wait_events(1)
    else:
        tool.wait_err("(TLS|SSL|certificate).*trying again")
        assert tool.out == b""


def test_a_server_without_tls_is_refused_where_it_is_asked_for(tools):
    server = MariaDB("--skip-ssl")
    try:
        server.ask("CREATE TABLE t (id int); INSERT INTO t VALUES (1)")
        tools.start("ingest", server.url(), *POLL, "--tls", "--retry-min", "50ms").wait_err("leave --tls and its files out, or give the server a certificate; trying again")
    finally:
        server.close()


def test_passwords_are_never_shown(tools, table):
    table.ask("CREATE TABLE t (id int); INSERT INTO t VALUES (1)")
    done = tools.run("ingest", table.url(user="someone"), *POLL, "--once", "--password", "hidden")
    assert done.events == [{"id": 1}]
    bad = tools.start("ingest", table.url(user="someone:wrong-secret"), *POLL, "--retry-min", "50ms")
    bad.wait_err("Access denied.*trying again")
    assert "wrong-secret" not in bad.err


@pytest.mark.parametrize("query, reason", [("SELEC 1", "SQL syntax"), ("SELECT 1 AS a, 2 AS a", "two columns are named a"), ("SELECT nothing", "Unknown column"),
                                           ("DO 1", "no rows")])
def test_queries_that_never_work_are_told(tools, server, query, reason):
    done = tools.run("ingest", server.url(), "--query", query)
    assert done.status == 1 and reason in done.err


@pytest.mark.parametrize("url, arguments, reason", [
    ("mysql:localhost", [], "looks like mysql://"),
    ("mysql://localhost:99999/d", [], "the port is none"),
    ("mysql://localhost/d", [], "--query is missing"),
    ("mysql://localhost/d", ["--query", "SELECT 1", "--cursor", "id", "--initial", "0"], "has no \\$1"),
])
def test_wrong_options_are_told_at_once(tools, url, arguments, reason):
    done = tools.run("ingest", url, *arguments)
    assert done.status == 64
    done.wait_err(reason)
