"""ingest: what holds from one request to a web address to the next: limits of the rate, events that come again, {now} and {since}."""

import random
import re
import time
import urllib.parse

import pytest

import support
from test_ingest_http import NOTHING, QUICK, Server, as_json, each_time
from test_ingest_state import Runs


def numbers(events):
    return [event["n"] for event in events]


def times(server):
    return [moment for _, _, moment in server.requests]


def test_rate_limit_holds_for_pages_and_retries_too(tools):
    with Server(lambda request: as_json([{"n": 1}], Link='</>; rel="next"') if len(server.requests) % 3 else (500, {}, b"")) as server:
        tool = tools.start("ingest", server.url(), "--paging", "link", "--rate-limit", "5/500ms", *QUICK)
        support.wait_for(lambda: len(server.requests) >= 16, "16 requests")
        assert tool.terminate() == 0
    at = times(server)
    # Of the first of seven it is known that it came before the second was sent, of the last that it came after it was sent.
    assert all(at[i + 6] - at[i] >= 0.5 for i in range(len(at) - 6)), at


@pytest.mark.parametrize("headers", ({"RateLimit-Remaining": "0", "RateLimit-Reset": "2"}, {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "2"},
                                     {"RateLimit": '"default";r=0;t=2'}, {"RateLimit": "limit=10, remaining=0, reset=2"}, {"Retry-After": "2"}))
def test_limits_that_the_server_tells_are_kept(tools, headers):
    with Server(each_time(as_json({"n": 1}, **headers), as_json({"n": 2}))) as server:
        tool = tools.start("ingest", server.url(), *QUICK)
        tool.wait_events(2)
        assert tool.terminate() == 0
    at = times(server)
    assert at[1] - at[0] >= 2
    assert "the server wants no more requests" in tool.err


@pytest.mark.parametrize("unit", [1, 1000])
def test_a_limit_that_ends_at_a_moment(tools, unit):
    moments = []

    def answer(request):
        moments.append(time.time())
        return as_json({"n": 1}, **{"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": str((int(moments[0]) + 3) * unit)})
    with Server(answer) as server:
        tool = tools.start("ingest", server.url(), *QUICK)
        tool.wait_events(2)
        assert tool.terminate() == 0
    assert moments[1] >= int(moments[0]) + 3


def test_limits_that_are_not_reached_hold_nothing_up(tools):
    with Server(each_time(as_json({"n": 1}, **{"RateLimit-Remaining": "1", "RateLimit-Reset": "3600", "RateLimit": '"a";r=7;t=3600'}))) as server:
        tool = tools.start("ingest", server.url(), *QUICK)
        tool.wait_events(5)
        assert tool.terminate() == 0


def test_what_comes_again_is_passed_on_once(tools):
    with Server(each_time(as_json([{"n": 1, "x": 1}, {"n": 2, "x": 1}, {"n": 1, "x": 2}]), as_json([{"n": 3}, {"n": 2}, {"m": 1}, {"m": 1}]),
                          as_json({"n": 4}), as_json({"n": 1}))) as server:
        tool = tools.start("ingest", server.url(), "--unique", "n", *QUICK)
        support.wait_for(lambda: len(server.requests) >= 8, "some more requests")
        assert tool.events == [{"n": 1, "x": 1}, {"n": 2, "x": 1}, {"n": 3}, {"m": 1}, {"m": 1}, {"n": 4}]       # without the field it cannot be told
        assert tool.terminate() == 0


@pytest.mark.parametrize("body,kind", ((b"n,x\n1,1\n1,2\n2,1\n1,1\n", "text/csv"), (b'{"n":1,"x":1}\n{"n":1,"x":2}\n{"n":2,"x":1}\n{"n":1,"x":1}\n', "application/x-ndjson"),
                                       (b"<a>" + b"".join(b"<r><n>%d</n><x>%d</x></r>" % pair for pair in ((1, 1), (1, 2), (2, 1), (1, 1))) + b"</a>", "text/xml")))
def test_whole_events_and_several_fields_in_all_formats(tools, body, kind):
    expected = [{"n": 1, "x": 1}, {"n": 1, "x": 2}, {"n": 2, "x": 1}]
    for options in (("--unique", "*"), ("--unique", "n", "--unique", "x")):
        with Server(each_time((200, {"Content-Type": kind}, body))) as server:
            tool = tools.start("ingest", server.url(), *(["--records", "a.r"] if "xml" in kind else []), *options, *QUICK)
            support.wait_for(lambda: len(server.requests) >= 3, "three requests")
            assert tool.events == expected
            assert tool.terminate() == 0


def test_beyond_the_limit_the_one_that_was_not_seen_for_longest_is_forgotten(tools):
    with Server(each_time(as_json([{"n": n} for n in (1, 2, 3, 1, 4)]), as_json([{"n": n} for n in (1, 3, 4, 2)]), NOTHING)) as server:
        tool = tools.start("ingest", server.url(), "--unique", "n", "--unique-limit", "3", *QUICK)
        support.wait_for(lambda: len(server.requests) >= 3, "three requests")
        assert numbers(tool.wait_events(5)) == [1, 2, 3, 4, 2]
        assert tool.terminate() == 0


def test_what_comes_again_is_told_over_kills_exactly(tools, directory):
    """The server shows the latest in an order that changes each time, and goes on as far as they have arrived."""
    total, lock = 20000, random.Random(5)

    def answer(request):
        arrived = [n for n in runs.numbers() if n != "end"]
        top = min(total, len(arrived) + 700)
        shown = list(range(max(0, top - 3000), top))
        lock.shuffle(shown)
        return as_json([{"n": n} for n in shown])
    with Server(answer) as server:
        runs = Runs(tools, directory, server.url(), "--unique", "n", "--batch-size", "10", *QUICK)
        for _ in range(10):
            runs.kill_after(0.05, 0.3)
        tool = runs.start()
        support.wait_for(lambda: len(runs.numbers()) >= total, lambda: f"{total} events, there are {len(runs.numbers())}; {tool.err}", 90)
        asked = len(server.requests)
        support.wait_for(lambda: len(server.requests) >= asked + 2, "two more requests")
        tool.kill()
    found = runs.numbers()
    assert sorted(found) == list(range(total)), f"{len(found)} events, {len(set(found))} different"
    assert runs.kills >= 3


def windows(server):
    """(since, now) of each request."""
    queries = [urllib.parse.parse_qs(urllib.parse.urlsplit(path).query) for path, *_ in server.requests]
    return [(query.get("from", [None])[0], query["to"][0]) for query in queries]


def test_windows_of_time_follow_one_another(tools):
    with Server(each_time((500, {}, b""), as_json([{"n": 1}]), as_json([]), NOTHING, as_json({"n": 2}))) as server:
        tool = tools.start("ingest", server.url(), "--param", "from={since}", "--param", "to={now}", *QUICK)
        tool.wait_events(4)
        assert tool.terminate() == 0
    found = windows(server)
    assert found[0] == found[1] and found[0][0] is None          # the failed one was asked again as it was
    assert [since for since, _ in found[2:]] == [now for _, now in found[1:-1]]
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,3})?Z", now) for _, now in found)
    assert not any("If-" in name for _, headers, _ in server.requests for name in headers)


@pytest.mark.parametrize("dates,pattern,first", (("unix", r"\d{10}", "1769817590"), ("unix-ms", r"\d{13}", "1769817590000"), ("date", r"\d{4}-\d\d-\d\d", "2026-01-30")))
def test_dates_as_servers_want_them(tools, dates, pattern, first):
    with Server(each_time(as_json([{"n": 1}]))) as server:
        done = tools.run("ingest", server.url("/?x=1"), "--body", '{"from":"{since}","to":"{now}"}', "--param", "from={since}", "--param", "to={now}",
                         "--since", "2026-01-31T00:00:00Z", "--overlap", "10s", "--dates", dates, "--once")
        assert done.status == 0
    (since, now), = windows(server)
    assert since == first and re.fullmatch(pattern, now)


def test_the_window_of_a_round_is_the_same_after_a_kill(tools, directory):
    """What it brings depends on it: so that nothing is lost or twice shows that it was asked for again."""
    per_window, seen = 30000, {}

    def answer(request):
        query = urllib.parse.parse_qs(urllib.parse.urlsplit(request.path).query)
        number = seen.setdefault(query["to"][0], len(seen))
        return as_json([{"n": number * per_window + n} for n in range(per_window)])
    with Server(answer) as server:
        runs = Runs(tools, directory, server.url(), "--param", "to={now}", "--param", "from={since}", "--batch-size", "10", "--interval", "1h")
        runs.kill_when_full()
        for _ in range(4):
            runs.kill_after(0.05, 0.15)
        tool = runs.start()
        support.wait_for(lambda: len(runs.numbers()) >= per_window, lambda: f"{per_window} events; {tool.err}", 60)
        tool.kill()
    found = runs.numbers()
    assert found[:per_window] == list(range(per_window))


@pytest.mark.parametrize("options,word", (
    (("--rate-limit", "5"), "N/DURATION"), (("--rate-limit", "0/1s"), "N/DURATION"), (("--rate-limit", "5/0s"), "N/DURATION"),
    (("--since", "2026-01-01"), "--since needs {since}"), (("--overlap", "1s"), "--overlap needs {since}"), (("--param", "a={since}", "--since", "x"), "takes a time"),
    (("--param", "a={now}", "--stream"), "--stream"), (("--unique", "*", "--unique", "a"), "* alone")))
def test_options_that_cannot_be(tools, options, word):
    done = tools.run("ingest", "http://127.0.0.1:1/", *options)
    assert (done.status, word in done.err) == (64, True), done.err
