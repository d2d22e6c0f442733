"""Options that mean nothing without another one are refused at start, on the command line, in URLs and in config.json; and a
misspelt option is told what may have been meant, whichever source or sink it belongs to. Reads the tools' own declarations, so
that an option whose help says that it needs another one fails here until its table says so, too."""

import json
import re

import pytest

import tls_support
from instance import EX_USAGE, control  # noqa: F401
from test_streamctl_check import errors_of

# A source of each kind, with what it needs anyway, in which every option that needs another one lacks it.
BARE = {
    "file": ["a.csv"], "http": ["http://127.0.0.1/"], "generator": ["generator:none"], "system": ["system:", "--kinds", "core"],
    "postgres": ["postgres://h/d"], "sqlite": ["sqlite:x.db", "--query", "SELECT 1"], "mysql": ["mysql://h/d", "--query", "SELECT 1"],
    "tcp": ["tcp://127.0.0.1:0"], "udp": ["udp://127.0.0.1:0"], "unix": ["unix:x.sock"], "webhook": ["http-listen://127.0.0.1:0/x"],
    "syslog": ["syslog://127.0.0.1:0"], "exec": ["exec:true", "--once"], "forward": ["forward://127.0.0.1:0"], "mqtt": ["mqtt://h/t"],
    "redis": ["redis://h", "--channel", "c"], "kafka": ["kafka://h/t"], "statsd": ["statsd://127.0.0.1:0", "--transport", "udp"],
    "nats": ["nats://h/s"], "websocket": ["ws://h/", "--ping-interval", "0"],
}
# Their conditions hold there: what they need is so by default, or was given above. Others show that they are refused elsewhere.
MET = {
    "postgres": {"table", "schema", "snapshot", "slot", "publication", "commit-time", "drop", "numeric", "tls-ca", "tls-cert"},
    "sqlite": {"query", "cursor", "interval"}, "mysql": {"query", "cursor", "interval", "once"},
    "syslog": {"connections", "idle", "buffer"}, "statsd": {"buffer"}, "nats": {"queue"}, "redis": {"channel-field"}, "http": {"timeout", "interval"},
}
OF_CSV = {"time", "max-record", "csv-no-header", "csv-columns", "csv-type", "csv-strings", "csv-separator"}      # met by a CSV file
ELSEWHERE = [
    ("postgres://h/d --mode poll --query q", {"table": "t", "schema": "s", "snapshot": "never", "slot": "s", "publication": "p", "commit-time": "no", "drop": None}),
    ("postgres://h/d --mode trigger --table t", {"numeric": "text", "query": "q", "once": None, "schema": "s", "hold": "1s", "safe": "no"}),
    ("postgres://h/d?sslmode=disable", {"tls-ca": "f", "tls-cert": "f"}),
    ("sqlite:x.db --mode trigger", {"query": "q", "cursor": "c"}),
    ("mysql://h/d --mode cdc", {"query": "q", "cursor": "c", "interval": "5s", "once": None, "initial": "0"}),
    ("syslog://127.0.0.1:0 --transport udp", {"connections": "5", "idle": "1s"}),
    ("syslog://127.0.0.1:0 --transport tcp", {"buffer": "1MiB"}),
    ("statsd://127.0.0.1:0 --transport tcp", {"buffer": "1MiB"}),
    ("nats://h/s --jetstream S", {"queue": "q"}),
    ("http://127.0.0.1/ --once", {"interval": "5s", "page-size": "5"}),
    ("sqlite:x.db --query q --once", {"interval": "5s"}),
    ("mysql://h/d --query q --once", {"interval": "5s"}),
    ("postgres://h/d --mode poll --query q --once", {"interval": "5s"}),
    ("http://127.0.0.1/ --stream", {"interval": "5s", "timeout": "5s", "page-first": "2"}),
    ("redis://h/s", {"channel-field": "f", "claim": "1s", "consumer": "c"}),
]


def value_of(option):
    words = {"int": "5", "number": "5", "duration": "7s", "size": "1MiB", "choice": option["value"].split("|")[-1]}
    return words.get(option["type"], "x")


def given(option):
    if option["type"] == "bool":
        return [f"--{option['name']}" + ("=no" if option.get("default") in ("yes", "true") else "")]
    return [f"--{option['name']}", value_of(option)]


def refused(done, name):
    return done.status == EX_USAGE and re.search(rf"^\w+: (sink \S+: )?--{name} (needs|goes without) ", done.err)


def listed(tools, tool):
    return json.loads(tools.run(tool, "--list=json").out)


def test_every_option_that_needs_another_one_is_refused_without_it(tools, directory):
    (directory / "a.csv").touch()
    all_options = listed(tools, "ingest")
    wrong, seen = [], 0
    for driver in all_options["drivers"]:
        if driver["name"] == "stdin":
            continue
        for option in driver["options"]:
            if "needs" in option and option["name"] not in MET.get(driver["name"], ()):
                seen += 1
                done = tools.run("ingest", *BARE[driver["name"]], *given(option), "--check")
                if not refused(done, option["name"]):
                    wrong.append(f"{driver['name']} --{option['name']}: {done.status} {done.err}")
    for option in all_options["options"]:
        if "needs" in option:
            seen += 1
            source = "system:" if option["name"] in OF_CSV else "a.csv"
            done = tools.run("ingest", source, *given(option), "--check")
            if not refused(done, option["name"]):
                wrong.append(f"--{option['name']}: {done.status} {done.err}")
    assert not wrong, "\n".join(wrong)
    assert seen > 80


@pytest.mark.parametrize("source, options", ELSEWHERE, ids=lambda value: value if isinstance(value, str) else "")
def test_what_holds_by_default_is_refused_where_it_does_not(tools, source, options):
    for name, value in options.items():
        done = tools.run("ingest", *source.split(), *([f"--{name}"] if value is None else [f"--{name}={value}"]), "--check")
        assert refused(done, name), (name, done.err)


def test_what_the_help_says_is_what_the_table_says(tools):
    """A help that begins "with --follow:" or "cdc:" speaks of a condition."""
    for tool in ("ingest", "broadcast"):
        everything = listed(tools, tool)
        for options in [everything["options"], *(driver["options"] for driver in everything["drivers"])]:
            for option in options:
                if re.match(r"(with|without) (--|a pattern)|(cdc|poll|trigger)\b[^:]*:|the formats? \"", option["help"]):
                    assert option.get("needs"), (tool, option["name"], option["help"])


@pytest.mark.parametrize("arguments, words", [
    (("a.csv", "--pattern", "x"), "--pattern needs --format regex"),
    (("a.log", "--csv-separator", ";"), "--csv-separator needs --format csv"),
    (("a.log", "--multiline-wait", "2s", "--multiline", "java"), "--multiline-wait needs --follow"),
    (("a.csv", "--rotate-wait", "5s"), "--rotate-wait needs --follow"),
    (("file:a.csv?files-max=5",), "--files-max needs a pattern or a directory"),
    (("nats://h/s?start=new",), "--start needs --jetstream"),
    (("mqtt://h/t", "--protocol", "5", "--session-expiry", "1d"), "--session-expiry needs --client-id or --state"),
    (("mqtt://h/t", "--tls-ca", "ca.pem"), "--tls-ca needs mqtts://"),
    (("sqlite:x.db", "--query", "q", "--once", "--interval", "5s"), "--interval goes without --once"),
    (("http://h/", "--once", "--interval", "5s"), "--interval needs more than one answer: with --once or --stream there is one"),
    (("http://h/", "--page-size", "5"), "--page-size needs --paging link, cursor, offset or page"),
    (("http://h/", "--password", "sesame"), "--password needs --user or a user in the URL"),
    (("http://h/", "--dates", "unix"), "--dates needs {now} or {since} in the URL or --param or --body"),
    (("system:", "--time", "t"), "--time needs text or rows to read it from"),
    (("a.csv", "--state", "s", "--sync", "none", "--sync-interval", "1s"), "--sync-interval needs --sync interval"),
    (("a.csv", "--device-limit", "5"), "--device-limit needs --device"),
])
def test_messages_name_what_is_needed(tools, directory, arguments, words):
    (directory / "a.csv").touch()
    done = tools.run("ingest", *arguments, "--check")
    assert done.status == EX_USAGE and f"ingest: {words}\n" in done.err, done.err
    assert "sesame" not in done.err


@pytest.mark.parametrize("arguments", [
    ("a.csv", "--csv-separator", ";"), ("a.csv", "--follow", "--rotate-wait", "1s"), ("a.csv", "--follow=no", "--from-end=no"),
    ("*.csv", "--files-max", "5"), ("*.log", "--multiline", "java"), ("http://me@h/", "--password", "x"), ("http://h/", "--csv-no-header"),
    ("a.log", "--type", "log", "--rotate-wait", "1s"), ("nats://h/s", "--jetstream", "S", "--start", "new"),
    ("mqtt://h/t", "--protocol", "5", "--session-expiry", "1d", "--state", "s"), ("postgres://h/d", "--mode", "poll", "--query", "q", "--time", "t"),
    ("http://h/", "--stream", "--line-field", "text"), ("http://h/", "--once", "--paging", "page", "--interval", "5s", "--page-size", "5"),
    ("redis://h/s", "--field", "f", "--time", "t")])
def test_what_is_of_use_is_taken(tools, directory, arguments):
    (directory / "a.csv").touch()
    done = tools.run("ingest", *arguments, "--check")
    assert done.status == 0, done.err


@pytest.mark.parametrize("arguments, words", [
    (("process", "where a > 1", "--time", "t", "--from", "ipc://x"), "process: --time needs text or rows"),
    (("process", "where a > 1", "--snapshot", "1s"), "process: --snapshot needs --state"),
    (("process", "where a > 1", "--csv-separator", ";"), "process: unknown option --csv-separator"),
    (("broadcast", "x.ndjson", "--keep", "3"), "--keep needs --rotate-size or --rotate-every"),
    (("broadcast", "x.ndjson?fsync-interval=1s",), "--fsync-interval needs --fsync interval"),
    (("broadcast", "sqlite:x.db", "--mode", "json", "--columns", "a"), "--columns needs --mode columns"),
    (("broadcast", "x.ndjson", "--csv-separator", ";"), "--csv-separator needs --format csv"),
    (("broadcast", "http://h/", "--tls-key", "f"), "--tls-key needs --tls-cert"),
    (("broadcast", "--rotate-size", "1MiB"), "--rotate-size: none of the sinks behind it has such an option"),
    (("broadcast", "--keep", "3", "stdout:"), "--keep: none of the sinks behind it has such an option"),
])
def test_the_other_tools_do_the_same(tools, arguments, words):
    done = tools.run(*arguments, "--check")
    assert done.status == EX_USAGE and words in done.err, done.err


OF_TLS = [
    ("ingest", "https://h/"), ("ingest", "postgres://h/d"), ("ingest", "mysql://h/d", "--query", "SELECT 1", "--tls"), ("ingest", "mqtts://h/t"),
    ("ingest", "rediss://h", "--channel", "c"), ("ingest", "kafka://h/t", "--tls"), ("ingest", "nats+tls://h/s"), ("ingest", "wss://h/"),
    ("ingest", "tcp://127.0.0.1:0"), ("ingest", "forward://127.0.0.1:0"), ("ingest", "http-listen://127.0.0.1:0/x"),
    ("ingest", "syslog://127.0.0.1:0", "--transport", "tls"), ("broadcast", "https://h/")]


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return tls_support.Authority(tmp_path_factory.mktemp("ca"))


def test_all_drivers_with_files_of_tls_are_tried(tools):
    drivers = {(tool, driver["name"]) for tool in ("ingest", "broadcast") for driver in listed(tools, tool)["drivers"]
               if any(option["name"].startswith("tls-") for option in driver["options"])}
    assert len(drivers) == len(OF_TLS), drivers


@pytest.mark.parametrize("base", OF_TLS, ids=lambda base: base[1])
def test_files_of_tls_must_be_there(tools, directory, authority, base):
    certificate, key = authority.good()
    client = any(option in base[1] for option in ("//127.0.0.1:0", "127.0.0.1:0/x"))
    files = {"--tls-client-ca" if client else "--tls-ca": authority.ca, "--tls-cert": certificate, "--tls-key": key}
    done = tools.run(*base, *(word for pair in files.items() for word in pair), "--check")
    assert done.status == 0, done.err
    (directory / "dir").mkdir()
    for option in files:
        for wrong, why in (("no.pem", "No such file or directory"), ("dir", "is a directory, not a file")):
            done = tools.run(*base, *(word for pair in {**files, option: wrong}.items() for word in pair))
            assert done.status == EX_USAGE and f"{option} {wrong}: {why}\n" in done.err, done.err


def test_files_of_tls_must_be_there_for_a_configuration(control, directory):
    text = """{"data_sources": [
  {"name": "a", "type": "mqtt", "url": "mqtts://h/t", "tls_ca": "no.pem"},
  {"name": "b", "type": "redis", "url": "rediss://h?channel=c&tls-ca=no.pem"}],
 "sinks": [{"name": "out", "type": "http", "url": "https://h/", "tls_ca": "no.pem"}]}"""
    (directory / "config.json").write_text(text)
    done = control.command("check")
    assert done.status == EX_USAGE
    said = {(line, column): message for line, column, message in errors_of(done)}
    assert said == {
        place(text, 2, "tls_ca"): 'source "a": --tls-ca no.pem: No such file or directory',
        (3, 3): 'source "b": --tls-ca no.pem: No such file or directory',
        place(text, 4, "tls_ca"): 'sink "out": --tls-ca no.pem: No such file or directory'}


@pytest.mark.parametrize("arguments, meant", [
    (("ingest", "a.csv", "--folow"), "--follow"), (("ingest", "--folow", "a.csv"), "--follow"), (("ingest", "a.csv", "--no-folow"), "--no-follow"),
    (("ingest", "postgres://h/d", "--qurey", "q"), "--query"), (("ingest", "a.csv", "--batchsize", "5"), "--batch-size"),
    (("ingest", "nats://h/s", "--jetstraem", "S"), "--jetstream"), (("broadcast", "x", "--rotat-size", "1MiB"), "--rotate-size"),
    (("process", "where a > 1", "--snapshots", "1s"), "--snapshot")])
def test_a_misspelt_option_is_told_what_may_be_meant(tools, arguments, meant):
    done = tools.run(*arguments)
    assert done.status == EX_USAGE and f"; did you mean {meant}?" in done.err, done.err
    assert "unknown option --zzzzzz\n" in tools.run(arguments[0], "x", "--zzzzzz").err


@pytest.mark.parametrize("arguments, meant", [(("status", "--jsom"), "--json"), (("replay", "--dry-runn"), "--dry-run"), (("reset", "--yess"), "--yes"),
                                              (("test", "x.case", "--updat"), "--update"), (("check", "--json"), None)])
def test_streamctl_does_the_same(tools, arguments, meant):
    done = tools.run("streamctl", *arguments)
    assert done.status == EX_USAGE and f"unknown option {arguments[-1]}" in done.err
    assert f"; did you mean {meant}?\n" in done.err if meant else "mean" not in done.err


def place(text, line, key):
    return line, text.splitlines()[line - 1].index(f'"{key}"') + 1


def test_the_same_in_config_json_with_the_place_of_the_key(control, directory):
    text = """{"state_dir": "state", "delivery": {"sync_interval": "50ms"},
 "data_sources": [
  {"name": "a", "type": "csv", "path": "a.csv", "rotate_wait": 5},
  {"name": "b", "type": "log", "path": "b.log", "rotate_wait": 5, "sync": "always"},
  {"name": "c", "type": "nats", "url": "nats://h/s", "start": "new"},
  {"name": "d", "type": "postgres", "url": "postgres://h/d", "snapshot": "never", "sync": "none", "sync-interval": "1s"}],
 "pipelines": [{"name": "p", "from": "a", "program": "where x > 1", "sync": "none", "sync_interval": "1s"}],
 "sinks": [{"name": "out", "type": "file", "path": "y", "keep": 3}]}"""
    (directory / "config.json").write_text(text)
    done = control.command("check")
    assert done.status == EX_USAGE
    said = {(line, column): message for line, column, message in errors_of(done)}
    assert said == {
        place(text, 3, "rotate_wait"): 'source "a": --rotate-wait needs --follow',
        place(text, 5, "start"): 'source "c": --start needs --jetstream',
        place(text, 6, "sync-interval"): '"sync_interval" needs "sync" interval',
        place(text, 7, "sync_interval"): '"sync_interval" needs "sync" interval',
        place(text, 8, "keep"): 'sink "out": --keep needs --rotate-size or --rotate-every'}
    assert control.command("start").status == EX_USAGE


def test_without_a_state_dir_a_drivers_own_option_of_such_a_name_is_taken(control, directory):
    text = """{"delivery": {"dead_letter_limit": "1MiB"}, "data_sources": [
  {"name": "d", "type": "postgres", "url": "postgres://h/d", "snapshot": "never"},
  {"name": "e", "type": "sensors", "spool_limit": "2MiB"}]}"""
    (directory / "config.json").write_text(text)
    said = {(line, column): message for line, column, message in errors_of(control.command("check"))}
    assert said == {place(text, 1, "dead_letter_limit"): '"dead_letter_limit" needs "dead_letter" or "state_dir"',
                    place(text, 3, "spool_limit"): '"spool_limit" needs "state_dir": without one everything is kept in memory'}


def test_an_interval_for_all_does_not_stop_a_stage_that_syncs_otherwise(control, directory):
    (directory / "config.json").write_text(json.dumps({
        "state_dir": "state", "delivery": {"sync_interval": "50ms"}, "server": {"enabled": False},
        "data_sources": [{"name": "a", "type": "sensors", "count": 20, "rate": 0, "sync": "always"}],
        "pipelines": [{"name": "p", "from": "a", "program": "where true", "sync": "none"}],
        "sinks": [{"type": "file", "path": "out.ndjson", "from": "p"}]}))
    assert ": ok:" in control.good("check")
