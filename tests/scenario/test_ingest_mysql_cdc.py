"""Source mysql, --mode cdc: changes from the binary log of a private MariaDB."""

import json
import random
import threading
import time

import pytest

import support
import tls_support
from mysql_support import MariaDB, with_tls, without_table
from runs_support import Runs, made_and_closed

LOG = ("--log-bin=b", "--server-id=7", "--binlog-format=ROW", "--binlog-row-metadata=FULL", "--sync-binlog=1")


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    yield from with_tls(tmp_path_factory, *LOG)


@pytest.fixture
def table(server):
    yield from without_table(server)


def lone_server(*arguments):
    return MariaDB(*LOG, *arguments)


@pytest.fixture
def make_server():
    yield from made_and_closed(lambda arguments=(): lone_server(*arguments))


def position(server):
    return server.ask("SELECT @@gtid_binlog_pos")[0][0]


def capture(tools, server, *arguments, **more):
    """From the present end of the log on."""
    return tools.start("ingest", server.url(**more), "--mode", "cdc", "--gtid", position(server), *arguments)


def test_changes_come_as_they_are_committed(tools, table):
    table.ask("CREATE TABLE t (id int PRIMARY KEY, v varchar(20)) CHARACTER SET utf8mb4")
    ingest = capture(tools, table)
    table.ask("SET NAMES utf8mb4; INSERT INTO t VALUES (1, 'a'), (2, NULL); BEGIN; UPDATE t SET v = 'é' WHERE id = 2; DELETE FROM t WHERE id = 1; COMMIT; "
              "BEGIN; INSERT INTO t VALUES (9, 'never'); ROLLBACK; TRUNCATE t")
    events = ingest.wait_events(5)
    assert [(e["op"], e.get("old"), e.get("new"), e["change"]) for e in events] == [
        ("insert", None, {"id": 1, "v": "a"}, 1), ("insert", None, {"id": 2, "v": None}, 2),
        ("update", {"id": 2, "v": None}, {"id": 2, "v": "é"}, 1), ("delete", {"id": 1, "v": "a"}, None, 2), ("truncate", None, None, 1)]
    assert {(e["schema"], e["table"]) for e in events} == {("d", "t")}
    assert events[0]["gtid"] == events[1]["gtid"] < events[2]["gtid"] == events[3]["gtid"] < events[4]["gtid"]
    assert position(table) == events[4]["gtid"]
    assert all(e["committed"] == e["@timestamp"] for e in events)
    ingest.terminate()


# For each type: what is put in, and what comes out.
TYPES = [
    ("tinyint", "-128", -128), ("tinyint unsigned", "255", 255), ("smallint", "-32768", -32768), ("smallint unsigned", "65535", 65535),
    ("mediumint", "-8388608", -8388608), ("mediumint unsigned", "16777215", 16777215), ("int", "-2147483648", -2147483648),
    ("int unsigned", "4294967295", 4294967295), ("year", "2026", 2026), ("year", "0", 0), ("bigint", "-9223372036854775808", -9223372036854775808),
    ("bigint unsigned", "18446744073709551615", 18446744073709551615), ("bool", "true", 1),
    ("decimal(12,2)", "1.50", 1.5), ("decimal(12,2)", "-1234567890.05", -1234567890.05), ("decimal(5,5)", "-0.00012", -0.00012), ("decimal(9,0)", "0", 0),
    ("decimal(20,0) unsigned", "18446744073709551615", 18446744073709551615), ("decimal(65,0)", "9" * 65, "9" * 65),
    ("decimal(30,10)", "12345678901234567890.5", "12345678901234567890.5000000000"), ("decimal(38,38)", "-0." + "1" * 38, "-0." + "1" * 38),
    ("decimal(18,9)", "-123456789.987654321", "-123456789.987654321"), ("double", "1e-300", 1e-300), ("double", "-0.1", -0.1), ("float", "0.5", 0.5),
    ("bit(1)", "1", 1), ("bit(10)", "b'1000000001'", 513), ("bit(64)", "18446744073709551615", 18446744073709551615),
    ("varchar(20)", "'é\\\"\\n'", 'é"\n'), ("varchar(300)", "repeat('é', 300)", "é" * 300), ("char(5)", "'ab '", "ab"), ("char(200)", "repeat('é', 200)", "é" * 200),
    ("varchar(20) CHARACTER SET latin1", "'é€'", "é€"), ("text CHARACTER SET ucs2", "'é'", "é"), ("char(3) CHARACTER SET utf16", "'a𝄞'", "a𝄞"),
    ("varchar(9) CHARACTER SET sjis", "'表'", "表"), ("text", "''", ""), ("mediumtext", "repeat('x', 70000)", "x" * 70000), ("longtext", "'l'", "l"),
    ("binary(5)", "x'00ff'", "AP8AAAA="), ("varbinary(5)", "x'00ff10'", "AP8Q"), ("blob", "x'00'", "AA=="), ("tinyblob", "'a'", "YQ=="),
    ("text COMPRESSED", "repeat('z', 1000)", "z" * 1000), ("varchar(2000) COMPRESSED", "'short'", "short"), ("blob COMPRESSED", "repeat('z', 1000)", "enp6" * 333 + "eg=="),
    ("datetime", "'2026-01-02 03:04:05'", "2026-01-02T03:04:05Z"), ("datetime(6)", "'2026-01-02 03:04:05.25'", "2026-01-02T03:04:05.25Z"),
    ("datetime(1)", "'1969-12-31 23:59:59.9'", "1969-12-31T23:59:59.9Z"), ("datetime(3)", "'0000-00-00'", "0000-00-00 00:00:00.000"),
    ("datetime", "'9999-12-31 23:59:59'", "9999-12-31 23:59:59"), ("timestamp NULL", "'2026-01-02 03:04:05'", "2026-01-02T03:04:05Z"),
    ("timestamp(4) NULL", "'2026-01-02 03:04:05.1234'", "2026-01-02T03:04:05.1234Z"), ("timestamp NULL", "'0000-00-00'", "0000-00-00 00:00:00"),
    ("date", "'2026-02-28'", "2026-02-28"), ("date", "'0000-00-00'", "0000-00-00"), ("time", "'-12:30:00'", "-12:30:00"), ("time", "'838:59:59'", "838:59:59"),
    ("time(2)", "'-00:00:00.25'", "-00:00:00.25"), ("time(6)", "'-838:59:59.000001'", "-838:59:59.000001"), ("time(3)", "'01:02:03.004'", "01:02:03.004"),
    ("enum('a','b') ", "'b'", "b"), ("enum('é','ö') CHARACTER SET latin1", "'ö'", "ö"), ("enum('é','ö') CHARACTER SET ucs2", "'ö'", "ö"), ("enum('a')", "''", ""),
    ("set('a','b','c')", "'a,c'", "a,c"), ("set('a','b')", "''", ""), ("json", "'{\"a\":[1,null]}'", {"a": [1, None]}), ("json", "'17'", 17),
    ("int", "NULL", None), ("geometry", "NULL", None), ("point", "ST_GeomFromText('POINT(1 2)')", "AAAAAAEBAAAAAAAAAAAA8D8AAAAAAAAAQA=="),
    ("inet6", "'::1'", "AAAAAAAAAAAAAAAAAAAAAQ=="), ("int unsigned", "4000000000", 4000000000)]


@pytest.mark.parametrize("compressed", [False, True])
def test_every_type_has_its_value(tools, table, compressed):
    """Also that what the log tells of signs and character sets is given to the right columns."""
    table.ask(f"CREATE TABLE t (id int PRIMARY KEY, {', '.join(f'c{i} {kind}' for i, (kind, _, _) in enumerate(TYPES))}) CHARACTER SET utf8mb4")
    ingest = capture(tools, table)
    table.ask(f"SET GLOBAL log_bin_compress = {int(compressed)}")
    table.ask(f"SET NAMES utf8mb4; SET sql_mode = ''; SET time_zone = '+00:00'; INSERT INTO t VALUES (1, {', '.join(value for _, value, _ in TYPES)})")
    table.ask("UPDATE t SET id = 2; SET GLOBAL log_bin_compress = 0")
    events = ingest.wait_events(2)
    for new in (events[0]["new"], events[1]["old"], events[1]["new"]):
        for i, (kind, literal, expected) in enumerate(TYPES):
            assert new[f"c{i}"] == expected, (kind, literal, new[f"c{i}"])
    assert len(events) == 2


def test_partial_rows_have_the_columns_that_the_log_has(tools, table):
    table.ask("CREATE TABLE t (id int PRIMARY KEY, a int, b text)")
    ingest = capture(tools, table)
    table.ask("SET binlog_row_image = MINIMAL; INSERT INTO t VALUES (1, 2, 'x'); UPDATE t SET a = 3; DELETE FROM t")
    events = ingest.wait_events(3)
    assert [(e.get("old"), e.get("new")) for e in events] == [(None, {"id": 1, "a": 2, "b": "x"}), ({"id": 1}, {"a": 3}), ({"id": 1}, None)]


def test_columns_are_those_that_the_table_had_then(tools, directory, table):
    table.ask("CREATE TABLE t (id int PRIMARY KEY, was int)")
    at = position(table)
    table.ask("INSERT INTO t VALUES (1, 10); ALTER TABLE t RENAME COLUMN was TO became, ADD COLUMN b varchar(5) FIRST; INSERT INTO t VALUES ('x', 2, 20); "
              "DROP TABLE t; CREATE TABLE t (id int)")
    ingest = tools.start("ingest", table.url(), "--mode", "cdc", "--gtid", at)
    assert [e["new"] for e in ingest.wait_events(2)] == [{"id": 1, "was": 10}, {"b": "x", "id": 2, "became": 20}]


def test_tables_are_chosen(tools, table):
    table.ask("CREATE DATABASE IF NOT EXISTS `e-e`; DROP TABLE IF EXISTS `e-e`.`o o`, u; CREATE TABLE `e-e`.`o o` (n int); CREATE TABLE t (n int); CREATE TABLE u (n int)")
    at = position(table)
    table.ask("INSERT INTO t VALUES (1); INSERT INTO u VALUES (2); INSERT INTO `e-e`.`o o` VALUES (3); TRUNCATE TABLE `e-e`.`o o`; TRUNCATE `u`; "
              "/* a */ truncate table d . t; INSERT INTO t VALUES (4)")
    whole, some = table.url(), table.url()
    expected = [(whole, (), [1, "u", "t", 2, 4]), (some, ("--table", "t", "--table", "e-e.o o"), [1, 3, "o o", "t", 4]),
                (whole.rsplit("/", 1)[0] + "/", (), [1, 2, 3, "o o", "u", "t", 4])]
    for url, arguments, wanted in expected:
        ingest = tools.start("ingest", url, "--mode", "cdc", "--gtid", at, *arguments)
        events = ingest.wait_events(len(wanted))
        assert sorted(map(str, (e["new"]["n"] if "new" in e else e["table"] for e in events))) == sorted(map(str, wanted))
        assert ingest.terminate() == 0


def test_changes_that_are_no_rows_are_dead_letters(tools, directory, table):
    table.ask("CREATE TABLE t (n int, long_ longblob)")
    ingest = capture(tools, table, "--dead-letter", directory / "dead")
    table.ask("SET binlog_format = STATEMENT; INSERT INTO t (n) VALUES (1)")
    table.ask("SET GLOBAL max_allowed_packet = 1073741824")
    table.ask("SET binlog_format = ROW; INSERT INTO t VALUES (2, repeat('x', 17000000))")
    table.ask("INSERT INTO t (n) VALUES (3)")
    assert [e["new"]["n"] for e in ingest.wait_events(1)] == [3]
    ingest.wait_err("logged as a statement")               # the log tells of one a second
    assert ingest.terminate() == 0
    reasons = [json.loads(line)["reason"] for line in (directory / "dead").read_text().splitlines()]
    assert len(reasons) == 2 and "logged as a statement" in reasons[0] and "larger than an event may be" in reasons[1], reasons


def fill(server, stop, rows=50):
    """Transactions of one row, of some, of many, and one that is rolled back: n counts up over them all."""
    rng, n, statements = random.Random(7), 0, []
    while n < stop:
        size = min(rng.choice((1, 1, 1, rows, 40 * rows)), stop - n)
        statements.append(f"BEGIN; INSERT INTO t SELECT seq, repeat('x', 50) FROM seq_{n}_to_{n + size - 1}; COMMIT; BEGIN; INSERT INTO t VALUES (-1, ''); "
                          "ROLLBACK; SELECT sleep(0.02)")
        n += size
    server.ask("; ".join(statements))


def new_numbers(runs):
    return [e["new"]["n"] for e in runs.events]


def test_nothing_is_lost_or_repeated_over_kills(tools, directory, table):
    table.ask("CREATE TABLE t (n int, v varchar(60))")
    runs = Runs(tools, directory, table.url(), "--mode", "cdc", "--gtid", position(table), "--batch-size", "10", "--window", "64KiB")
    writer = threading.Thread(target=fill, args=(table, 20000))
    writer.start()
    rng = random.Random(1)
    for kill in range(12):
        tool = runs.start()
        runs.wait(1500 * kill + rng.randrange(1500), tool)
        time.sleep(rng.uniform(0, 0.02))
        tool.kill()
    tool = runs.start()
    writer.join()
    table.ask("INSERT INTO t VALUES (20000, 'last')")
    runs.wait(20001, tool)
    assert new_numbers(runs) == list(range(20001))
    assert tool.terminate() == 0


def test_a_kill_in_the_middle_of_a_transaction_is_made_good(tools, directory, table):
    table.ask("CREATE TABLE t (n int, v varchar(200))")
    runs = Runs(tools, directory, table.url(), "--mode", "cdc", "--gtid", position(table))
    table.ask("INSERT INTO t SELECT seq, repeat('y', 200) FROM seq_0_to_29999; INSERT INTO t VALUES (30000, '')")
    runs.kill_when_full()
    tool = runs.start()
    runs.wait(30001, tool)
    assert new_numbers(runs) == list(range(30001))
    assert [e["change"] for e in runs.events] == [*range(1, 30001), 1]


def test_the_first_run_begins_now_and_the_next_where_it_ended(tools, directory, table):
    table.ask("CREATE TABLE t (n int, v varchar(60)); INSERT INTO t VALUES (-5, 'before')")
    runs = Runs(tools, directory, table.url(), "--mode", "cdc")
    tool = runs.start()
    support.wait_for(lambda: list(runs.spool.glob("*.seg")), "the log")
    support.wait_for(lambda: table.ask("SELECT count(*) FROM information_schema.processlist WHERE command = 'Binlog Dump'") == [["1"]], "a replica")
    table.ask("INSERT INTO t VALUES (0, '')")
    runs.wait(1, tool)
    tool.kill()
    table.ask("INSERT INTO t VALUES (1, '')")
    tool = runs.start()
    runs.wait(2, tool)
    assert new_numbers(runs) == [0, 1]


def test_a_server_that_is_down_at_start_or_lost_is_waited_for(tools, directory, make_server):
    server = make_server()
    server.ask("CREATE TABLE t (n int, v varchar(60)); SET GLOBAL innodb_flush_log_at_trx_commit = 1")
    at = position(server)
    server.stop()
    runs = Runs(tools, directory, server.url(), "--mode", "cdc", "--gtid", at)
    tool = runs.start()
    tool.wait_err("trying again")
    for round_ in range(3):
        server.start()
        server.ask(f"SET GLOBAL innodb_flush_log_at_trx_commit = 1; INSERT INTO t SELECT seq, '' FROM seq_{100 * round_}_to_{100 * round_ + 99}")
        runs.wait(100 * round_ + 100, tool)
        server.stop()
    assert new_numbers(runs) == list(range(300))


def test_a_log_that_no_longer_has_our_position_is_told_with_the_remedy(tools, directory, make_server):
    server = make_server()
    server.ask("CREATE TABLE t (n int, v varchar(60))")
    runs = Runs(tools, directory, server.url(), "--mode", "cdc", "--gtid", position(server))
    tool = runs.start()
    server.ask("INSERT INTO t VALUES (0, '')")
    runs.wait(1, tool)
    tool.kill()
    server.ask("INSERT INTO t VALUES (1, ''); FLUSH BINARY LOGS; INSERT INTO t VALUES (2, ''); FLUSH BINARY LOGS")

    def purged():
        """Not before the server has noticed that who read it is gone."""
        server.ask(f"PURGE BINARY LOGS TO '{server.ask('SHOW MASTER STATUS')[0][0]}'")
        return len(server.ask("SHOW BINARY LOGS")) == 1
    support.wait_for(purged, "an old log to be gone", 40)
    tool = runs.start()
    assert tool.wait() == 1
    tool.wait_err(r"does not have what follows our position 0-7-\d+.*--reset begins anew")
    server.ask("RESET MASTER")
    tool = runs.start()
    assert tool.wait() == 1
    tool.wait_err("--reset begins anew")
    assert new_numbers(runs) == [0]


def test_a_wish_that_the_log_does_not_have_is_told_with_what_it_has(tools, table):
    for gtid in ("0-1-999999", "77-1-1"):
        done = tools.run("ingest", table.url(), "--mode", "cdc", "--gtid", gtid)
        assert done.status == 1 and f"--gtid: the server's log does not have what follows {gtid}" in done.err and "--reset" not in done.err


@pytest.mark.parametrize("which, trusted", [("good", True), ("other", False)])
def test_certificates_are_verified(tools, table, which, trusted):
    table.ask("CREATE TABLE t (id int)")
    ingest = capture(tools, table, "--tls-ca", table.authority.ca if trusted else table.authority.other, "--retry-min", "50ms")
    table.ask("INSERT INTO t SELECT seq FROM seq_1_to_1000")
    if trusted:
        assert [e["new"]["id"] for e in ingest.wait_events(1000)] == list(range(1, 1001))
        assert table.ask("SELECT user FROM information_schema.processlist WHERE command = 'Binlog Dump'") == [["someone"]]
    else:
        ingest.wait_err("(TLS|SSL|certificate).*trying again")
        assert ingest.out == b""


def test_an_expired_certificate_is_refused(tools, tmp_path):
    authority = tls_support.Authority(tmp_path / "tls")
    certificate, key = authority.expired()
    server = lone_server(f"--ssl-cert={certificate}", f"--ssl-key={key}")
    try:
        server.ask("CREATE TABLE t (id int)")
        ingest = capture(tools, server, "--tls-ca", authority.ca, "--retry-min", "50ms")
        server.ask("INSERT INTO t VALUES (1)")
        ingest.wait_err("certificate.*expired.*trying again")
        assert ingest.out == b"" and server.ask("SELECT count(*) FROM information_schema.processlist WHERE command = 'Binlog Dump'") == [["0"]]
    finally:
        server.close()


@pytest.mark.parametrize("wanted", ["t", "d.t"])
def test_a_table_that_is_not_there_is_told_and_waited_for(tools, table, wanted):
    table.ask("CREATE OR REPLACE TABLE o (id int)")
    ingest = tools.start("ingest", table.url(), "--mode", "cdc", "--table", "o", "--table", wanted, "--retry-min", "50ms", "--retry-max", "100ms")
    ingest.wait_err(rf"there is no table {wanted} \(--table\); trying again")
    table.ask("INSERT INTO o VALUES (1)")               # nothing is missed meanwhile
    assert ingest.out == b""
    table.ask("CREATE TABLE t (id int); INSERT INTO t VALUES (2)")
    assert [(e["table"], e["new"]["id"]) for e in ingest.wait_events(2)] == [("o", 1), ("t", 2)]
    table.ask("DROP TABLE o")
    assert ingest.terminate() == 0


def test_a_table_that_the_log_may_still_tell_of_is_not_waited_for(tools, table):
    table.ask("CREATE TABLE t (id int)")
    begin = position(table)
    table.ask("INSERT INTO t VALUES (1); DROP TABLE t; CREATE OR REPLACE TABLE o (id int)")
    ingest = tools.start("ingest", table.url(), "--mode", "cdc", "--gtid", begin, "--table", "t", "--table", "o")
    assert ingest.wait_events(1)[0]["new"] == {"id": 1}
    assert "there is no table t (--table): nothing comes of it until it is made" in ingest.err
    table.ask("INSERT INTO o VALUES (2); DROP TABLE o")
    assert ingest.wait_events(2)[1]["new"] == {"id": 2}
    assert ingest.terminate() == 0


def test_who_may_not_see_a_table_is_not_held_up_by_that(tools, table):
    table.ask("CREATE TABLE t (id int); CREATE OR REPLACE USER replica IDENTIFIED BY 'hidden'; GRANT REPLICATION SLAVE ON *.* TO replica")
    ingest = tools.start("ingest", f"mysql://replica:hidden@127.0.0.1:{table.port}", "--mode", "cdc", "--table", "d.t")
    support.wait_for(lambda: table.ask("SELECT user FROM information_schema.processlist WHERE command = 'Binlog Dump'") == [["replica"]], lambda: ingest.err)
    table.ask("INSERT INTO t VALUES (1)")
    assert ingest.wait_events(1)[0]["new"] == {"id": 1}
    assert "there is no table" not in ingest.err and ingest.terminate() == 0


@pytest.mark.parametrize("setting, reason", [
    ("binlog_format = MIXED", "binlog_format is MIXED.*SET GLOBAL binlog_format = ROW"),
    ("binlog_row_metadata = MINIMAL", "binlog_row_metadata is MINIMAL.*SET GLOBAL binlog_row_metadata = FULL")])
def test_settings_that_are_missing_are_told_and_waited_for(tools, table, setting, reason):
    table.ask("CREATE TABLE t (n int)")
    name = setting.split()[0]
    table.ask(f"SET GLOBAL {setting}")
    try:
        ingest = capture(tools, table, "--retry-min", "50ms", "--retry-max", "100ms")
        ingest.wait_err(reason + ".*trying again")
    finally:
        table.ask(f"SET GLOBAL {name} = {'ROW' if name == 'binlog_format' else 'FULL'}")
    table.ask("INSERT INTO t VALUES (1)")
    assert ingest.wait_events(1)[0]["new"] == {"n": 1}


def test_a_server_without_a_log_is_told(tools):
    server = MariaDB()
    try:
        tools.start("ingest", server.url(), "--mode", "cdc").wait_err("keeps no binary log: log_bin.*trying again")
    finally:
        server.close()


def test_privileges_that_are_missing_are_told(tools, table):
    table.ask("CREATE OR REPLACE USER reader IDENTIFIED BY 'hidden'; GRANT SELECT ON d.* TO reader; CREATE TABLE t (n int, j json)")
    ingest = capture(tools, table, "--retry-min", "50ms", "--retry-max", "100ms", user="reader:hidden")
    ingest.wait_err("REPLICATION SLAVE.*trying again")
    table.ask("GRANT REPLICATION SLAVE ON *.* TO reader; INSERT INTO t VALUES (1, '[1]')")
    assert ingest.wait_events(1)[0]["new"] == {"n": 1, "j": [1]}


def test_domains_are_followed_each(tools, directory, table):
    table.ask("CREATE TABLE t (n int, v varchar(60))")
    runs = Runs(tools, directory, table.url(), "--mode", "cdc", "--gtid", position(table))
    for n in range(12):
        tool = runs.start()
        table.ask(f"SET gtid_domain_id = {n % 3}; INSERT INTO t VALUES ({n}, '')")
        runs.wait(n + 1, tool)
        tool.kill()
    assert new_numbers(runs) == list(range(12))


@pytest.mark.parametrize("url, arguments, reason", [
    ("mysql://localhost/d", ["--mode", "cdc", "--query", "SELECT 1"], "--query needs --mode poll"),
    ("mysql://localhost/d", ["--mode", "cdc", "--once"], "--once needs --mode poll"),
    ("mysql://localhost/d", ["--mode", "cdc", "--gtid", "b.000001:4"], "is no position of a MariaDB server"),
    ("mysql://localhost/d", ["--query", "SELECT 1", "--table", "t"], "--table needs --mode cdc"),
])
def test_wrong_options_are_told_at_once(tools, url, arguments, reason):
    done = tools.run("ingest", url, *arguments)
    assert done.status == 64
    done.wait_err(reason)
