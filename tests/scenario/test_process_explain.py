"""process --explain and --trace: what they say of a program, and that they change nothing."""

import re

import pytest

from support import ROOT, ndjson

PROGRAM = """where temperature > 10 * 3 and site in ("a", "b")   # hot ones
| set f = temperature * 9 / 5 + 32, g = f + 1
| unset site
| window tumbling 10s by device: avg(f) as a, count() as n
| alert hot when a > 90 message "{device}: {round(a)}"
| rename a as average | to means
"""

EXPLAINED = """in:  reads temperature, site, device of each event
  1. where temperature > 10 * 3 and site in ("a", "b")    (line 1, column 1)
     reads   temperature: field of the event
     reads   site: field of the event
     compute (temperature > 30) and (site in ("a", "b")): bool
  2. set f = temperature * 9 / 5 + 32, g = f + 1    (line 2, column 3)
     reads   temperature: field of the event
     reads   f: made by this operator, before
     compute ((temperature * 9) / 5) + 32: number or null
     compute f + 1: number or null
     makes   f: number or null
             g: number or null
  3. unset site    (line 3, column 3)
     reads   site: field of the event
     removes site
  4. window tumbling 10s by device: avg(f) as a, count() as n    (line 4, column 3)
     reads   device: field of the event
     reads   f: made by 2. set (line 2, column 3)
     makes   device: any value
             window_start: time
             window_end: time
             a: double or null
             n: int or null
     leaves  only device, window_start, window_end, a, n
     writes  to the stream process.late
     keeps   state for each device
  5. alert hot when a > 90 message "{device}: {round(a)}"    (line 5, column 3)
     reads   a: made by 4. window (line 4, column 3)
     reads   device: made by 4. window (line 4, column 3)
     compute a > 90: bool or null
     compute round(a): number or null
     writes  to the stream alerts
     keeps   state for each device
  6. rename a as average    (line 6, column 3)
     reads   a: made by 4. window (line 4, column 3)
     renames a as average
  7. to means    (line 6, column 25)
     names   the stream means from here on
out: the stream means: device, window_start, window_end, average, n
     the stream process.late
     the stream alerts
"""

EVENTS = [
    {"@timestamp": "2026-01-02T03:00:00Z", "device": "d", "site": "a", "temperature": 35},
    {"@timestamp": "2026-01-02T03:00:01Z", "device": "d", "site": "b", "temperature": 20},
    {"@timestamp": "2026-01-02T03:00:02Z", "device": "d", "temperature": "x"},
    {"@timestamp": "2026-01-02T03:00:20Z", "device": "d", "site": "a", "temperature": 40},
    {"@timestamp": "2026-01-02T03:00:03Z", "device": "d", "site": "a", "temperature": 45},
]

TRACED = """#1 2026-01-02T03:00:00Z  {"device":"d","site":"a","temperature":35}
#1   1. where  (temperature > 30) and (site in ("a", "b")) = true
#1   1. where    temperature > 30 = true  [temperature = 35]
#1   1. where    site in ("a", "b") = true  [site = "a"]
#1   1. where  passes on
#1   2. set  ((temperature * 9) / 5) + 32 = 95.0  [temperature = 35]
#1   2. set  -> f: 95.0, g: 96.0
#1   4. window  device = "d", f = 95.0
#1   4. window  held here (line 4, column 3)
#2 2026-01-02T03:00:01Z  {"device":"d","site":"b","temperature":20}
#2   1. where  (temperature > 30) and (site in ("a", "b")) = false
#2   1. where    temperature > 30 = false  [temperature = 20]
#2   1. where    site in ("a", "b") = true  [site = "b"]
#2   1. where  ends here, filtered (line 1, column 1)
#3 2026-01-02T03:00:02Z  {"device":"d","temperature":"x"}
#3   1. where  (temperature > 30) and (site in ("a", "b")) = false (string compared with int)
#3   1. where    temperature > 30 = null (string compared with int)  [temperature = "x"]
#3   1. where    site in ("a", "b") = false  [site = null]
#3   1. where  ends here, filtered (line 1, column 1)
#4 2026-01-02T03:00:20Z  {"device":"d","site":"a","temperature":40}
#4   1. where  (temperature > 30) and (site in ("a", "b")) = true
#4   1. where    temperature > 30 = true  [temperature = 40]
#4   1. where    site in ("a", "b") = true  [site = "a"]
#4   1. where  passes on
#4   2. set  ((temperature * 9) / 5) + 32 = 104.0  [temperature = 40]
#4   2. set  -> f: 104.0, g: 105.0
#4   4. window  device = "d", f = 104.0
#4:1 2026-01-02T03:00:09.999Z  made by 4. window: device: "d", window_start: 2026-01-02T03:00:00Z, window_end: 2026-01-02T03:00:10Z, a: 95.0, n: 1
#4:1   5. alert  a > 90 = true  [a = 95.0]
#4:1   5. alert  round(a) = 95  [a = 95.0]
#4:1   5. alert  device = "d"
#4:1   5. alert  to the stream alerts: {"alert":"hot","state":"firing","severity":"warning","message":"d: 95","stream":"means","since":"2026-01-02T03:00:09.999Z","key":{"device":"d"},"values":{"a":95.0}}
#4:1   5. alert  passes on
#4:1   6. rename  -> average: 95.0
#4:1   out to the stream means: {"device":"d","window_start":"2026-01-02T03:00:00Z","window_end":"2026-01-02T03:00:10Z","average":95.0,"n":1}
#4   4. window  held here (line 4, column 3)
#5 2026-01-02T03:00:03Z  {"device":"d","site":"a","temperature":45}
#5   1. where  (temperature > 30) and (site in ("a", "b")) = true
#5   1. where    temperature > 30 = true  [temperature = 45]
#5   1. where    site in ("a", "b") = true  [site = "a"]
#5   1. where  passes on
#5   2. set  ((temperature * 9) / 5) + 32 = 113.0  [temperature = 45]
#5   2. set  -> f: 113.0, g: 114.0
#5   4. window  device = "d", f = 113.0
#5   4. window  to the stream process.late: {"device":"d","temperature":45,"f":113.0,"g":114.0}
#5   4. window  ends here, late (line 4, column 3)
"""


def lines_of_trace(done):
    return [line for line in done.err.splitlines() if line.startswith("#")]


def test_a_program_is_explained(tools, directory):
    done = tools.run("process", "--explain", PROGRAM)
    assert (done.status, done.err) == (0, "")
    assert done.out.decode() == EXPLAINED
    (directory / "p.stream").write_text(PROGRAM)
    assert tools.run("process", "-f", "p.stream", "--explain").out.decode() == EXPLAINED


@pytest.mark.parametrize("program, told", [
    ("", ["in:  reads no field", "out: the stream process: the event's fields"]),
    ("set a = b ?? -1 | unset c", ["compute b ?? -1: any value", "makes   a: any value", "removes c",
                                   "out: the stream process: the event's fields without c and a"]),
    ("keep a.b[0] as x, `odd name`, c !~ \"^x\\\\.\" as m", ["compute a.b[0]: any value", "reads   `odd name`: field of the event",
                                                         "compute c !~ \"^x\\\\.\": bool", "leaves  only x, `odd name`, m"]),
    ("rename a as b | where b > 1", ["renames a as b", "reads   b: a field, named by 1. rename (line 1, column 1)"]),
    ("flatten | where `a.b` > 1", ["leaves  a new record", "reads   `a.b`: field of the record that 1. flatten makes",
                                   "out: the stream process: the record's fields"]),
    ("split hot when t > 1, cold when t < 0", ["writes  to the stream hot, cold", "     the stream cold"]),
    ("dedupe by a, b within 5s", ["keeps   state for each a, b"]),
    ("alert x when v > 1", ["keeps   one state"]),
    ("where a > 5 | fill b = 20, c = 10 * 60", ["compute 600: int\n     makes   b"]),
    ("set a = not (x is null or y is not null), b = if(x in [1, 2], {k: meta.stream}, null)",
     ["compute not ((x is null) or (y is not null)): bool", "compute if(x in [1,2], {k: meta.stream}, null): map or null"]),
])
def test_what_is_said_of_operators(tools, program, told):
    done = tools.run("process", "--explain", program)
    assert done.status == 0, done.err
    text = done.out.decode()
    for part in told:
        assert part in text, text


def test_a_faulty_program_is_not_explained(tools):
    done = tools.run("process", "--explain", "wher a > 1")
    assert done.status == 64 and done.out == b"" and "there is no operator wher" in done.err
    assert tools.run("process", "--explain").status == 64
    assert tools.run("process", "--explain", "where a", "--to", "-").status == 64


def test_every_event_is_followed(tools):
    done = tools.run("process", PROGRAM, "--trace", input=EVENTS)
    plain = tools.run("process", PROGRAM, input=EVENTS)
    assert done.status == 0 and done.out == plain.out
    trace = lines_of_trace(done)
    assert "\n".join(trace[:len(TRACED.splitlines())]) + "\n" == TRACED
    assert trace[-1].startswith("#4:2   out to the stream means: ")


def test_some_events_are_followed(tools):
    events = [{"v": n} for n in range(1000)]
    done = tools.run("process", "where v % 2 == 0 | set w = v + 1", "--trace=100", input=events)
    arrived = [line for line in lines_of_trace(done) if " {" in line and "out to" not in line]
    assert [line.split()[0] for line in arrived] == [f"#{n}" for n in range(1, 1000, 100)]
    assert sum("out to the stream process" in line for line in lines_of_trace(done)) == 10
    assert len(done.events) == 500


def test_dead_letters_and_streams_are_told(tools):
    done = tools.run("process", "split hot when t > 30 else dead", "--trace", input=[{"t": 40}, {"t": 1}])
    trace = lines_of_trace(done)
    assert '#1   1. split  to the stream hot: {"t":40}' in trace
    assert '#1   1. split  ends here, out to the stream (line 1, column 1)' in trace
    assert any(line.startswith("#2   1. split  ends here, dead: ") for line in trace), trace


def test_an_event_that_became_several_is_not_held(tools):
    done = tools.run("process", "unnest a | where a > 1", "--trace", input=[{"a": [1, 2]}, {"a": []}])
    trace = lines_of_trace(done)
    assert "#1   1. unnest  ends here, in what was made of it (line 1, column 1)" in trace
    assert "#2   1. unnest  ends here, filtered (line 1, column 1)" in trace
    assert "held" not in done.err


def test_errors_are_counted_once(tools):
    """What the trace computes is not what runs: an error that it meets is not counted a second time."""
    done = tools.run("process", "set a = int(v)", "--trace", input=[{"v": "z"}])
    assert "int(v) = null (" in done.err
    assert done.err.count(" warning ") == 1


def test_trace_takes_a_number(tools):
    for word in ("--trace=x", "--trace=-1"):
        assert tools.run("process", "where a", word, input=ndjson([])).status == 64


def test_the_man_page_shows_what_is_said(tools):
    section = (ROOT / "man/process.1").read_text().split(".Sh LOOKING INTO A PROGRAM")[1].split("\n.Sh ")[0]
    explained, traced = (part.split("\n.Ed")[0].split("\n", 1) for part in section.split(".Bd -literal -offset indent\n")[1:])
    assert tools.run("process", "--explain", re.search("'(.*)'", explained[0]).group(1)).out.decode() == explained[1] + "\n"
    done = tools.run("process", "--trace", re.findall("'(.*?)'", traced[0])[1], input=[{"@timestamp": "2026-01-02T03:00:00Z", "id": "a", "t": 31}])
    assert lines_of_trace(done) == traced[1].splitlines()


def test_explain_says_what_is_renamed_and_what_tables_and_joins_keep(tools, directory):
    (directory / "sites.csv").write_text("k,site\na,x\n")
    text = tools.run("process", "--explain", "rename a as b, b as a | lookup \"sites.csv\" on k keep site | unset k", cwd=directory).out.decode()
    assert "renames b as a, a as b\n" in text and "keeps   the table\n" in text and "removes k\n" in text
    assert "keeps   the events of both streams" in tools.run("process", "--explain", "join other on k within 3s").out.decode()


def test_a_program_in_a_file_may_begin_with_a_byte_order_mark(tools, directory):
    (directory / "p.stream").write_bytes(b"\xef\xbb\xbfwhere n == 1\n")
    assert tools.run("process", "-f", directory / "p.stream", input=ndjson([{"n": 1}, {"n": 2}])).events == [{"n": 1}]
    (directory / "p.stream").write_bytes(b"\xef\xbb\xbfwher n == 1\n")
    assert ":1:1: error" in tools.run("process", "--check", "-f", directory / "p.stream").err
