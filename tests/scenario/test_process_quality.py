"""Operators of shape and quality with the real tools: dead letters that say what is wrong, streams by condition up to the sinks, schemas that change,
logfmt through ingest, process and broadcast."""

import json

import pytest
from instance import control, csv_source, seqs, write_csv  # noqa: F401
from support import lines_of, ndjson

RULES = "validate temperature required is number between -50 and 150, site in (\"a\", \"b\"), check high >= low message \"{high} is below {low}\""


def test_dead_letters_name_field_rule_and_value(tools, directory):
    good = {"temperature": 20, "site": "a", "high": 2, "low": 1}
    bad = [{"temperature": 400, "site": "a", "high": 2, "low": 1}, {"site": "c", "high": 2, "low": 1}, {"temperature": "hot", "site": "b", "high": 1, "low": 2}]
    done = tools.run("process", RULES, "--dead-letter", directory / "dead.ndjson", input=[good, *bad])
    assert done.status == 0 and done.events == [good]
    letters = lines_of(directory / "dead.ndjson")
    assert [letter["reason"] for letter in letters] == [
        "temperature: between -50 and 150, found 400",
        "temperature: required; site: in (\"a\", \"b\"), found \"c\"",
        "temperature: is number, found \"hot\"; 1 is below 2",
    ]
    assert [letter["place"] for letter in letters] == ["validate (line 1, column 1)"] * 3
    assert [{key: value for key, value in letter["event"].items() if key != "@timestamp"} for letter in letters] == bad


def test_a_dead_letter_holds_the_event_as_it_came_in(tools, directory):
    event = {"@timestamp": "2026-01-02T03:00:00Z", "message": "t=400", "x": {"y": 1}}
    program = "parse message as logfmt | flatten | set half = t / 2 | unset message | validate t < 100"
    done = tools.run("process", program, "--dead-letter", directory / "dead.ndjson", input=[event])
    assert done.status == 0 and done.events == []
    [letter] = lines_of(directory / "dead.ndjson")
    assert letter["event"] == event and letter["reason"] == "t: < 100, found 400"


def test_a_dead_letter_of_what_was_made_holds_what_was_made(tools, directory):
    event = {"@timestamp": "2026-01-02T03:00:00Z", "id": 1, "items": [1, "x", 3]}
    done = tools.run("process", "unnest items as item | validate item is number", "--dead-letter", directory / "dead.ndjson", input=[event])
    assert [line["item"] for line in done.events] == [1, 3]
    [letter] = lines_of(directory / "dead.ndjson")
    assert letter["event"] == {"@timestamp": "2026-01-02T03:00:00Z", "id": 1, "item": "x"}


def test_the_ledger_balances(control, directory):  # noqa: F811
    """In, out, filtered, dead and created, over operators that do each of it."""
    write_csv(directory / "in.csv", 0, 1000)
    program = ("set v = [temperature, temperature * 7 % 100], s = if(temperature % 3 == 0, \"{}\", \"x\") | unnest v as v | validate v < 90"
               " | split big when v > 70, even when v % 2 == 0 else pass | dedupe by v, s within 1h | sample 2 in 3 | limit 20 else surplus"
               " | parse s as json else drop")
    config = control.config(sources=[csv_source("rows", "in.csv", publish=False)], pipelines=[{"name": "quality", "from": "rows", "program": program}],
                            sinks=[{"type": "file", "path": "out.ndjson"}], server={"port": 0})
    control.good("start", config)
    control.wait_state("broadcast", "finished")
    audit = json.loads(control.good("audit", "--json"))
    assert audit["verdict"] == "balanced", audit
    stage = {stage["name"]: stage for stage in audit["stages"]}["quality"]
    assert stage["in"] == stage["created"] == 1000
    assert stage["dead"] > 50 and stage["filtered"] > 100 and stage["out"] == len(lines_of(directory / "out.ndjson")) > 100


def test_split_streams_reach_sinks_and_programs_behind(control, directory):  # noqa: F811
    write_csv(directory / "in.csv", 0, 1000)
    config = control.config(
        sources=[csv_source("numbers", "in.csv", publish=False)],
        pipelines=[{"name": "sorter", "from": "numbers", "program": "split hot when temperature >= 90, cold when temperature < 10 else drop"},
                   {"name": "tails", "from": "sorter", "program": "where meta.stream == \"hot\" | split hottest when temperature >= 99 else drop"}],
        sinks=[{"type": "file", "path": "hot.ndjson", "from": "hot"}, {"type": "file", "path": "cold.ndjson", "from": "cold"},
               {"type": "file", "path": "hottest.ndjson", "from": "hottest"}])
    done = control.command("run", config)
    assert done.status == 0, done.err
    assert seqs(directory / "hot.ndjson") == [i for i in range(1000) if i % 100 >= 90]
    assert seqs(directory / "cold.ndjson") == [i for i in range(1000) if i % 100 < 10]
    assert seqs(directory / "hottest.ndjson") == [i for i in range(1000) if i % 100 == 99]


def test_state_under_another_schema_is_another_programs(tools, directory):
    schema = directory / "schema.json"
    arguments = [f"validate schema \"{schema}\" | limit 3", "--state", directory / "state", "--snapshot", "50ms", "--to", "null:"]
    (directory / "in.ndjson").write_bytes(ndjson([{"a": 1}]))
    schema.write_text(json.dumps({"required": ["a"]}))
    source = tools.start("ingest", directory / "in.ndjson", "--to", f"@ipc://{directory}/link")
    done = tools.run("process", *arguments, "--from", f">ipc://{directory}/link")
    assert done.status == 0 and source.wait() == 0, done.err
    schema.write_text(json.dumps({"required": ["a", "b"]}))
    other = tools.run("process", *arguments, "--from", f">ipc://{directory}/link")
    assert other.status != 0 and "is of another program" in other.err, other.err


def test_faults_of_a_schema_show_nothing_of_its_text(tools, directory):
    secret = directory / "secret"
    secret.write_text("password = 12345\n")
    done = tools.run("process", "--check", f"validate schema \"{secret}\"")
    assert done.status == 64 and "no JSON" in done.err and "password" not in done.err and "12345" not in done.err


@pytest.mark.parametrize("size", [200_000])
def test_an_array_of_any_size_becomes_events(tools, size):
    event = {"@timestamp": "2026-01-02T03:00:00Z", "k": "x" * 100, "items": list(range(size))}
    done = tools.run("process", "unnest items as n | where n % 50000 == 0", "--max-record", "10MiB", input=[event])
    assert [line["n"] for line in done.events] == list(range(0, size, 50000))
    done = tools.run("process", "unnest items as n | window tumbling 1h: count() as c, sum(n) as s", "--max-record", "10MiB", input=[event])
    assert [(line["c"], line["s"]) for line in done.events] == [(size, size * (size - 1) // 2)]


def test_logfmt_goes_in_and_out(tools, directory):
    (directory / "app.logfmt").write_text("level=info msg=\"it works\" n=5\nnot logfmt\nlevel=error msg=x n=7 ok\n")
    done = tools.run("ingest", directory / "app.logfmt", "--dead-letter", directory / "dead.ndjson")
    assert done.events == [{"level": "info", "msg": "it works", "n": 5}, {"level": "error", "msg": "x", "n": 7, "ok": True}]
    assert [letter["reason"] for letter in lines_of(directory / "dead.ndjson")] == ["no key=value in it"]
    out = directory / "out.logfmt"
    sent = tools.run("broadcast", f"file:{out}", input=done.out)
    assert sent.status == 0, sent.err
    assert out.read_text() == "level=info msg=\"it works\" n=5\nlevel=error msg=x n=7 ok=true\n"
