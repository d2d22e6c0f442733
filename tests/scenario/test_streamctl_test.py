"""streamctl test: cases that pass, cases that do not and how that is shown, faulty files, --filter and --update."""

import re

import pytest

from support import ROOT

GOOD = """Two cases.

== hot ones pass
where v > 30
-- in
{"v": 31}
{"v": 29}
-- out
{"v": 31}

== a window of ten seconds
window tumbling 10s by k: avg(v) as a
-- in
{"@timestamp": "2026-01-02T03:00:00Z", "k": "x", "v": 0.1}
{"@timestamp": "2026-01-02T03:00:05Z", "k": "x", "v": 0.2}
# the next one is too late
{"@timestamp": "2026-01-02T03:00:10Z", "k": "x", "v": 7}
{"@timestamp": "2026-01-02T03:00:01Z", "k": "x", "v": 7}
-- out
{"k": "x", "a": 0.15, "window_start": "2026-01-02T03:00:00Z", "window_end": "2026-01-02T03:00:10Z"}
{"@timestamp": "2026-01-02T03:00:19.999Z", "k": "x", "a": 7, "window_start": "2026-01-02T03:00:10Z", "window_end": "2026-01-02T03:00:20Z"}
{"@stream": "process.late", "k": "x", "v": 7}
"""


@pytest.fixture
def test(tools, directory):
    """Runs streamctl test over a text as a file."""
    def run(text, *options):
        (directory / "t.case").write_text(text)
        return tools.run("streamctl", "test", "t.case", *options)
    return run


def test_a_byte_order_mark_and_other_line_ends_are_no_part_of_a_case(test, directory):
    assert last_line(test("\ufeff" + GOOD.partition("\n\n")[2])) == "2 passed, 0 failed"
    (directory / "t.case").write_bytes(b"\xef\xbb\xbf== one\r\nwhere v > 30\r\n-- in\r\n{\"v\": 31}\r\n-- out\r\n{\"v\": 31}\r\n")
    assert last_line(test((directory / "t.case").read_bytes().decode())) == "1 passed, 0 failed"


def last_line(done):
    return done.out.decode().splitlines()[-1]


def test_cases_pass_whatever_order_and_white_space_their_lines_have(test):
    done = test(GOOD)
    assert (done.status, done.out.decode()) == (0, "2 passed, 0 failed\n"), done.err


def test_passed_cases_are_named_when_asked(test):
    done = test(GOOD, "-v")
    assert done.out.decode().splitlines()[:2] == ["ok     t.case:3: hot ones pass", "ok     t.case:11: a window of ten seconds"]


def test_a_case_that_fails_is_shown_as_a_diff_with_its_line(test):
    done = test(GOOD.replace('-- out\n{"v": 31}', '-- out\n{"v": 31, "w": 1}\n{"v": 29}'))
    assert done.status == 1
    assert done.out.decode() == """FAILED t.case:3: hot ones pass
    --- expected: stream process (line 8)
    +++ found
    -{"v": 31, "w": 1}
    +{"v":31}
    ?  w: 1 expected, nothing found
    -{"v": 29}
1 passed, 1 failed
"""


def test_lines_are_aligned(test):
    events = "".join(f'{{"v":{n}}}\n' for n in range(20))
    wrong = events.replace('{"v":10}\n', "").replace('{"v":3}', '{"v":1.6}')
    done = test("== all\n\n-- in\n" + events + "-- out\n" + wrong)
    assert done.out.decode() == """FAILED t.case:1: all
    --- expected: stream process (line 24)
    +++ found
     {"v":0}
     {"v":1}
     {"v":2}
    -{"v":1.6}
    +{"v":3}
    ?  v: 1.6 expected, 3 found
     {"v":4}
     {"v":5}
     {"v":6}
     {"v":7}
     {"v":8}
     {"v":9}
    +{"v":10}
     {"v":11}
     {"v":12}
     {"v":13}
         (6 lines that are as expected)
0 passed, 1 failed
"""


def test_numbers_have_a_tolerance(test):
    case = "== x\nset a = v / 3\n-- tolerance {0}\n-- in\n{{\"v\":1}}\n-- out\n{{\"v\":{1},\"a\":0.333}}\n"
    assert test(case.format("0.001", 1)).status == 0
    assert test(case.format("1e-6", 1)).status == 1
    assert test(case.format("0.5", 1.2)).status == 0
    whole = "== x\n\n-- in\n{\"v\":9007199254740993}\n-- out\n{\"v\":9007199254740992}\n"
    assert test(whole).status == 1                     # whole numbers are exact unless a tolerance is given
    assert test("-- tolerance 0.1\n" + whole).status == 0


def test_streams_of_their_own(test):
    case = GOOD.replace("-- out\n{\"k\"", "-- out process.late\n{\"k\":\"x\", \"v\":7}\n-- out nothing\n-- out process\n{\"k\"")
    case = case.replace("{\"@stream\": \"process.late\", \"k\": \"x\", \"v\": 7}\n", "")
    assert test(case).status == 0
    done = test(case.replace("-- out nothing", "-- out nothing\n{\"a\":1}"))
    assert done.status == 1 and "--- expected: stream nothing" in done.out.decode()


def test_inputs_and_a_clock(test):
    done = test("""-- idle 20s
== the second input goes silent
window tumbling 10s: count()
-- in one
{"@timestamp":"2026-01-02T03:00:00Z"}
-- in two
{"@timestamp":"2026-01-02T03:00:00Z"}
-- in one
{"@timestamp":"2026-01-02T03:00:15Z"}
-- after 30s
-- in two
{"@timestamp":"2026-01-02T03:00:01Z"}
-- out
{"window_start":"2026-01-02T03:00:00Z","window_end":"2026-01-02T03:00:10Z","count":2}
{"window_start":"2026-01-02T03:00:10Z","window_end":"2026-01-02T03:00:20Z","count":1}
{"@stream":"process.late"}
""")
    assert done.status == 0, done.out


def test_errors_are_expected_or_fail(test):
    case = "== x\nset a = int(v)\n-- in\n{\"v\":\"z\"}\n-- out\n{\"v\":\"z\",\"a\":null}\n"
    done = test(case)
    assert done.status == 1
    assert re.search(r"^    errors: 0 expected, 1 found\n       set \(line 1, column 9\): .+$", done.out.decode(), re.MULTILINE)
    assert test(case + "-- errors 1\n").status == 0


def test_dead_letters_are_expected_or_fail(test, directory):
    case = "== x\nsplit big when v > 1 else dead\n-- in\n{\"v\":0}\n-- out\n"
    done = test(case)
    assert done.status == 1 and "--- expected: dead letters\n" in done.out.decode(), done.out
    reason = re.search(r'\+\{"reason":"([^"]+)"', done.out.decode()).group(1)
    assert test(case + f"-- dead\n{reason}\n").status == 0
    assert test(case + f'-- dead\n{{"reason": "{reason}", "event": {{"v": 0}}}}\n').status == 0
    assert test(case + '-- dead\n{"event": {"v": 0}}\n').status == 0
    assert test(case + '-- dead\n{"event": {"v": 1}}\n').status == 1
    assert test(case + "-- dead\nanother reason\n", "--update").status == 0
    assert (directory / "t.case").read_text() == case + f"-- dead\n{reason}\n"


def test_faults_are_expected_or_shown_in_the_file(test):
    case = "== x\n\nwhere v > 1\n| wher x\n-- out\n"
    done = test(case)
    assert done.status == 1 and "    t.case:4:3: there is no operator wher; did you mean where?\n" in done.out.decode()
    assert test(case.replace("-- out", "-- faults\n2:3: there is no operator wher\nhint: did you mean where?")).status == 0


def test_programs_of_a_file_and_of_a_pipeline(test, directory):
    (directory / "p.stream").write_text("where v > 1\n")
    (directory / "config.json").write_text('{"data_sources": [{"name": "s", "type": "mqtt", "url": "${NOT_SET}"}], '
                                           '"pipelines": [{"name": "big", "program": ["where v > 2", "| set x = 1"]}]}')
    case = "-- in\n{\"v\":1}\n{\"v\":2}\n{\"v\":3}\n-- out\n"
    assert test("== x\n-- program p.stream\n" + case + "{\"v\":2}\n{\"v\":3}\n").status == 0
    assert test("== x\n-- pipeline big\n" + case + "{\"v\":3,\"x\":1}\n").status == 0
    done = test("== x\n-- pipeline bog\n" + case)
    assert done.status == 64 and 't.case:2:1: ./config.json' in done.err, done.err
    (directory / "other.json").write_text('{"data_sources": [{"name": "s", "type": "generator"}], "pipelines": [{"name": "big", "program": "where v == 1"}]}')
    assert test("== x\n-- pipeline big\n" + case + "{\"v\":1}\n", "--config", "other.json").status == 0


@pytest.mark.parametrize("text, where", [
    ("nothing here\n", "1:1: there is no case"),
    ("== x\nwhere a\n-- in\n{}\n", "1:1: nothing is expected"),
    ("== x\nwhere a\n-- inn\n{}\n-- out\n", "3:1: there is no -- inn; did you mean -- in?"),
    ("== x\n-- program nowhere.stream\n-- out\n", "2:1: "),
    ("-- in\n== x\n-- out\n", "1:1: it belongs to a case"),
    ("== x\n-- after soon\n-- out\n", "2:1: -- after takes a duration"),
    ("== x\n-- out\n-- out\n", "3:1: a second -- out"),
    ("==\n-- out\n", "1:1: a case needs a name"),
])
def test_a_faulty_file_is_refused_with_the_line(test, text, where):
    done = test(text)
    assert done.status == 64
    assert f"t.case:{where}" in done.err


def test_an_event_that_is_none_is_shown_with_its_line(test):
    done = test("== x\n\n-- in\n{\"v\":1}\n\n{\"v\":1\n-- out\n")
    assert done.status == 1 and "    t.case:6: this is no event: " in done.out.decode()


def test_filter(test, tools):
    assert last_line(test(GOOD, "--filter", "hot")) == "1 passed, 0 failed"
    assert last_line(test(GOOD, "--filter=window", "--filter", "ten")) == "1 passed, 0 failed"
    assert test(GOOD, "--filter", "nowhere").status == 64
    assert tools.run("streamctl", "test").status == 64
    assert tools.run("streamctl", "test", "--what").status == 64
    assert tools.run("streamctl", "test", "missing.case").status == 64


def test_update_writes_what_was_found_and_nothing_else(test, directory):
    wrong = GOOD.replace("0.15", "3").replace("{\"v\": 31}\n\n", "{\"v\": 29}\n\n").replace("{\"@stream\": \"process.late\", \"k\": \"x\", \"v\": 7}\n", "")
    done = test(wrong, "--update")
    assert (done.status, done.out.decode()) == (0, "0 passed, 2 updated, 0 failed\n")
    text = (directory / "t.case").read_text()
    assert text == GOOD[:GOOD.index("-- out")] + """-- out
{"v":31}

""" + GOOD[GOOD.index("== a window"):GOOD.rindex("-- out")] + """-- out
{"@timestamp":"2026-01-02T03:00:09.999Z","k":"x","window_start":"2026-01-02T03:00:00Z","window_end":"2026-01-02T03:00:10Z","a":0.15000000000000002}
{"@timestamp":"2026-01-02T03:00:19.999Z","k":"x","window_start":"2026-01-02T03:00:10Z","window_end":"2026-01-02T03:00:20Z","a":7.0}
{"@timestamp":"2026-01-02T03:00:01Z","@stream":"process.late","k":"x","v":7}
"""
    assert test(text).status == 0
    assert test(text, "--update").out.decode() == "2 passed, 0 updated, 0 failed\n"
    assert (directory / "t.case").read_text() == text


def test_update_adds_errors_and_leaves_a_faulty_program_alone(test, directory):
    case = "== x\nset a = int(v)\n-- in\n{\"v\":\"z\"}\n-- out\n\n== y\nwher v\n-- out\n"
    done = test(case, "--update")
    assert done.status == 1 and last_line(done) == "0 passed, 1 updated, 1 failed"
    assert (directory / "t.case").read_text() == case.replace("-- out\n\n", "-- out\n{\"v\":\"z\",\"a\":null}\n-- errors 1\n\n", 1)


def test_the_example_passes(tools):
    done = tools.run("streamctl", "test", str(ROOT / "pipelines/default.case"))
    assert done.status == 0, done.out


def test_the_man_pages_example_passes(test):
    section = (ROOT / "man/streamctl.1").read_text().split(".Sh TESTING PROGRAMS")[1].split(".Sh ")[0]
    example = section.split(".Bd -literal -offset indent\n")[1].split(".Ed")[0]
    assert example.startswith("== ")
    done = test(example)
    assert (done.status, done.out.decode()) == (0, "1 passed, 0 failed\n")
