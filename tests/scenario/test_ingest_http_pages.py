"""ingest from web addresses: what is asked for (parameters, bodies, keys), answers in pages, and asking for what is new since a cursor; each exact
over kills."""

import json
import urllib.parse

import pytest

import support
from test_ingest_http import QUICK, Server, as_json, each_time
from test_ingest_state import Runs, check


def query_of(request):
    """The query's parameters, of a handler or a noted path."""
    path = request if isinstance(request, str) else request.path
    return dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(path).query, keep_blank_values=True))


def echo(request):
    return as_json({"method": request.command, "query": query_of(request), "body": request.body.decode(), "type": request.headers.get("Content-Type")})


# What is asked.

def test_parameters_are_added_to_the_url_encoded(tools):
    with Server(echo) as server:
        tool = tools.run("ingest", server.url("/p?a=1"), "--once", "--param", "b=x y&z=ü", "--param", "empty=")
        assert tool.events[0]["query"] == {"a": "1", "b": "x y&z=ü", "empty": ""}
        tool = tools.run("ingest", server.url("/p#part"), "--once", "--param", "b=1")
        assert tool.events[0]["query"] == {"b": "1"}


def test_body_is_posted_with_its_type(tools):
    with Server(echo) as server:
        event = tools.run("ingest", server.url(), "--once", "--body", '{"q": {"all": true}}').events[0]
        assert (event["method"], event["body"], event["type"]) == ("POST", '{"q": {"all": true}}', "application/json")
        event = tools.run("ingest", server.url(), "--once", "--body", "a=b").events[0]
        assert (event["method"], event["body"], event["type"]) == ("POST", "a=b", "application/x-www-form-urlencoded")
        event = tools.run("ingest", server.url(), "--once", "--body", "<q/>", "--method", "SEARCH", "--header", "content-type: text/xml").events[0]
        assert (event["method"], event["body"], event["type"]) == ("SEARCH", "<q/>", "text/xml")


@pytest.mark.parametrize("options, where", [((), "X-API-Key"), (("--api-key-name", "Api-Token"), "Api-Token"), (("--api-key-in", "query"), "api_key"),
                                            (("--api-key-in", "query", "--api-key-name", "appid"), "appid")])
def test_api_key_goes_where_it_is_wanted_and_is_never_shown(tools, directory, options, where):
    with Server(each_time((500, {}, b""), (200, {}, b"garbage"), as_json({"n": 1}))) as server:
        (directory / "s.json").write_text(json.dumps({"url": server.url("/p?x=1"), "api_key": "hush&1"}))
        tool = tools.start("ingest", "--settings", "s.json", *QUICK, *options, "--log-level", "debug", "--dead-letter", "dead", "--metrics", "m")
        tool.wait_events(1)
        assert tool.terminate() == 0
        path, headers, _ = server.requests[0]
    found = query_of(path) if "query" in options else headers
    assert found[where] == "hush&1"
    assert ("hush" in path) == ("query" in options)
    assert b"hush" not in tool.err.encode() + (directory / "dead").read_bytes() + (directory / "m").read_bytes()


@pytest.mark.parametrize("options, reason", [
    (("--param", "x"), "NAME=VALUE"),
    (("--method", "get"), "capitals"),
    (("--method", "HEAD"), "no body"),
    (("--api-key", "a\nb"), "one line"),
    (("--token", "a\r\nX-Other: b"), "--token: takes one line"),
    (("--user", "a", "--password", "b\n"), "--password: takes one line"),
    (("--paging", "cursor"), "--next PATH"),
    (("--paging", "page", "--next", "x"), "--paging link"),
    (("--cursor", "id"), "--cursor-param"),
    (("--cursor-param", "since"), "needs --cursor"),
    (("--cursor", "id", "--cursor-param", "since", "--format", "csv"), "JSON"),
    (("--paging", "page", "--page-limit", "1", "--once"), "--page-limit 1"),
    (("--paging", "page", "--page-end", "200"), "400 to 499"),
    (("--paging", "link", "--page-end", "404"), "--paging offset"),
])
def test_options_that_do_not_fit_are_refused_at_once(tools, options, reason):
    tool = tools.run("ingest", "http://127.0.0.1:1/", *options)
    assert tool.status == 64 and reason in tool.err, tool.err


# Pages. The server has events 0..count-1.

class Pages:
    def __init__(self, way, count, size):
        self.way, self.count, self.size = way, count, size

    def __call__(self, request):
        query = query_of(request)
        if self.way == "post":
            query = json.loads(request.body)
        size = int(query.get("limit", self.size))
        first = int(query.get("offset") or 0)
        if self.way == "page":
            first = (int(query["page"]) - 1) * size
        if self.way in ("cursor", "post"):
            first = int((query.get("cursor") or "c0")[1:])
        events = [{"n": n, "k": "http"} for n in range(first, min(first + size, self.count))]
        last = first + size >= self.count
        if self.way == "link":
            return as_json(events, **({} if last else {"Link": f'</other>; rel="prev first", </events?offset={first + size}>; title="a, b"; rel=next'}))
        if self.way == "body link":
            return as_json({"data": events, "@odata.nextLink": None if last else f"?offset={first + size}"})
        return as_json({"data": events, "meta": {"next": None if last else f"c{first + size}"}})


WAYS = {
    "link": ("--paging", "link"),
    "body link": ("--paging", "link", "--next", "@odata.nextLink", "--records", "data"),
    "cursor": ("--paging", "cursor", "--next", "meta.next", "--records", "data"),
    "post": ("--paging", "cursor", "--next", "meta.next", "--records", "data", "--body", '{"cursor":"{page}","limit":{limit}}', "--page-size", "100"),
    "offset": ("--paging", "offset", "--records", "data"),
    "page": ("--paging", "page", "--records", "data", "--page-size", "100"),
}


@pytest.mark.parametrize("count", [0, 1, 100, 250])
@pytest.mark.parametrize("way", WAYS)
def test_all_pages_are_taken_in_order(tools, way, count):
    with Server(Pages(way, count, 100)) as server:
        tool = tools.run("ingest", server.url("/events"), "--once", *WAYS[way])
    assert tool.status == 0, tool.err
    assert [event["n"] for event in tool.events] == list(range(count))


@pytest.mark.parametrize("way", WAYS)
def test_pages_are_exact_over_kills(tools, directory, way):
    with Server(Pages(way, 20000, 1000)) as server:
        options = tuple("1000" if option == "100" else option for option in WAYS[way])
        runs = Runs(tools, directory, server.url("/events"), "--once", *options, "--batch-size", "30", "--page-pause", "30ms")
        for _ in range(6):
            if runs.kill_after(0.05, 0.15):
                break
        runs.finish()
        assert runs.kills > 1
    check(runs.numbers(), list(range(20000)) + ["end"])


def test_page_that_fails_is_asked_for_again(tools):
    pages, failures = Pages("cursor", 300, 100), [(500, {}, b""), (200, {}, b"garbage"), as_json({"rows": []})]

    def answer(request):
        return failures.pop() if query_of(request).get("cursor") == "c100" and failures else pages(request)
    with Server(answer) as server:
        tool = tools.run("ingest", server.url(), "--once", *WAYS["cursor"], *QUICK)
    assert [event["n"] for event in tool.events] == list(range(300))
    assert "cannot be used" in tool.err and "HTTP status 500" in tool.err


@pytest.mark.parametrize("way", ["offset", "page"])
def test_server_that_answers_behind_the_last_page_with_an_error(tools, way):
    pages = Pages(way, 200, 100)

    def answer(request):
        behind = int(query_of(request).get(way, 0)) == {"offset": 200, "page": 3}[way]
        return (404, {}, b"no such page") if behind else pages(request)
    with Server(answer) as server:
        tool = tools.start("ingest", server.url(), *WAYS[way], *QUICK)
        tool.wait_err("HTTP status 404 for a page behind the first: .* say --page-end 404; trying again")
        assert tool.terminate() == 0 and len(tool.events) == 200
        tool = tools.run("ingest", server.url(), *WAYS[way], "--once", "--page-end", "404")
        assert tool.status == 0 and [event["n"] for event in tool.events] == list(range(200)) and "404" not in tool.err
    with Server(each_time((404, {}, b""), pages)) as server:   # of the first page it is none of that
        tool = tools.run("ingest", server.url(), *WAYS[way], "--once", "--page-end", "404", *QUICK)
        assert len(tool.events) == 200 and "HTTP status 404; trying again" in tool.err


@pytest.mark.parametrize("word, reason", [
    ([7], "neither a text nor a number"), ({"id": 7}, "neither a text nor a number"), (True, "neither a text nor a number"), ("x" * 5000, "longer than 4096 bytes"),
    ("a\0b", "a NUL byte")])
def test_what_cannot_lead_to_the_next_page_does_not_pass_for_the_last_one(tools, word, reason):
    with Server(lambda request: as_json({"data": [{"n": 1}], "meta": {"next": word}})) as server:
        tool = tools.start("ingest", server.url(), *WAYS["cursor"], *QUICK)
        tool.wait_err(f"what stands at meta.next .--next. is .*{reason}.*; trying again")
        assert tool.terminate() == 0 and tool.events == []


@pytest.mark.parametrize("word", [None, "", False, [], {}])
def test_what_says_that_there_is_no_next_page(tools, word):
    with Server(lambda request: as_json({"data": [{"n": 1}], "meta": {"next": word}})) as server:
        tool = tools.run("ingest", server.url(), *WAYS["cursor"], "--once")
        assert tool.status == 0 and tool.events == [{"n": 1}], tool.err


def test_next_page_on_another_host_is_not_asked_for(tools):
    with Server(each_time(as_json({"n": 0}))) as other, Server(each_time(as_json({"n": 1}, Link=f'<{other.url("/x")}>; rel="next"'))) as server:
        tool = tools.start("ingest", server.url(), "--paging", "link", *QUICK, "--token", "sesame")
        tool.wait_err("another host")
        assert tool.terminate() == 0
    assert not other.requests


def test_server_that_names_the_same_page_again_is_reported(tools):
    with Server(lambda request: as_json({"data": [{"n": 1}], "meta": {"next": "c7"}})) as server:
        tool = tools.start("ingest", server.url(), *WAYS["cursor"], *QUICK)
        tool.wait_err("names the page itself")
        assert tool.terminate() == 0
    assert tool.events == [{"n": 1}]


def test_server_without_a_last_page_is_let_rest(tools):
    with Server(lambda request: as_json({"data": [{"n": int(query_of(request)["page"])}]})) as server:
        tool = tools.start("ingest", server.url(), "--paging", "page", "--records", "data", "--page-limit", "3", *QUICK)
        tool.wait_err("3 pages in a row")
        tool.wait_events(7)
        assert tool.terminate() == 0
    numbers = [event["n"] for event in tool.events]
    assert numbers == list(range(1, len(numbers) + 1))


def test_each_round_begins_with_the_first_page(tools):
    with Server(Pages("cursor", 250, 100)) as server:
        tool = tools.start("ingest", server.url(), *WAYS["cursor"], *QUICK)
        tool.wait_events(500)
        assert tool.terminate() == 0
    assert [event["n"] for event in tool.events][:500] == list(range(250)) * 2


def test_key_in_the_query_goes_along_to_the_next_page_once(tools):
    with Server(Pages("link", 250, 100)) as server:
        tool = tools.run("ingest", server.url("/events"), "--once", "--paging", "link", "--api-key", "hush", "--api-key-in", "query")
        assert len(tool.events) == 250
        assert all(request[0].count("api_key=hush") == 1 for request in server.requests)


# What is new since the cursor.

class Growing:
    """Answers with up to 100 events above ?since; each answer lets some more come into being, up to the count."""

    def __init__(self, count, value=lambda n: n):
        self.count, self.value, self.there = count, value, 0
        self.numbers = {str(value(n)): n for n in range(count)}

    def __call__(self, request):
        since = query_of(request).get("since")
        self.there = min(self.count, self.there + 37)
        first = self.numbers[since] + 1 if since else 0
        return as_json([{"n": n, "k": "http", "id": self.value(n)} for n in range(first, min(self.there, first + 100))])


@pytest.mark.parametrize("value", [lambda n: n + 8, lambda n: n / 4, lambda n: f"2026-11-27T10:{n // 60:02}:{n % 60:02}+00:00", lambda n: str(n)],
                         ids=["integers", "decimals", "times", "numbers as text"])
def test_greatest_value_is_asked_for_next(tools, value):
    with Server(Growing(500, value)) as server:
        tool = tools.start("ingest", server.url(), *QUICK, "--cursor", "id", "--cursor-param", "since")
        tool.wait_events(500)
        assert tool.terminate() == 0
        assert "since" not in query_of(server.requests[0][0])
    assert [event["n"] for event in tool.events] == list(range(500))


@pytest.mark.parametrize("options", [("--param", "since={cursor}"), ("--cursor-param", "since")])
def test_first_value_and_templates(tools, options):
    with Server(Growing(100)) as server:
        tool = tools.start("ingest", server.url(), *QUICK, "--cursor", "id", "--cursor-start", "20", *options)
        tool.wait_events(79)
        assert tool.terminate() == 0
        assert query_of(server.requests[0][0]) == {"since": "20"}
    assert [event["n"] for event in tool.events] == list(range(21, 100))


def test_cursor_in_the_url_and_in_a_json_body(tools):
    with Server(echo) as server:
        assert tools.run("ingest", server.url("/x?q=a>{cursor}"), "--once", "--cursor", "id", "--cursor-start", "a b").events[0]["query"] == {"q": "a>a b"}
        event = tools.run("ingest", server.url(), "--once", "--cursor", "id", "--cursor-start", 'a"b', "--body", '{"after":"{cursor}","x":{"{y}":1}}').events[0]
        assert json.loads(event["body"]) == {"after": 'a"b', "x": {"{y}": 1}}


def test_cursor_is_exact_over_kills_while_the_answers_grow(tools, directory):
    with Server(Growing(3000)) as server:
        runs = Runs(tools, directory, server.url("/e"), "--interval", "5ms", "--cursor", "id", "--cursor-param", "since", "--batch-size", "7")
        for _ in range(12):
            runs.kill_after(0.05, 0.15)
        tool = runs.start()
        support.wait_for(lambda: len(runs.numbers()) >= 3000, lambda: f"all events; {len(runs.numbers())}; {tool.err}", 30)
        tool.kill()
        assert runs.kills > 3
    check(runs.numbers(), list(range(3000)))


def test_cursor_moves_when_all_pages_have_come(tools):
    """The pages of a round are asked for with the same cursor, although the first one holds the greatest value."""
    answers = {(None, None): ([9, 8], "p2"), (None, "p2"): ([7, 6], None), ("9", None): ([], None)}

    def answer(request):
        query = query_of(request)
        numbers, following = answers[query.get("since"), query.get("cursor")]
        return as_json({"data": [{"n": n} for n in numbers], "meta": {"next": following}})
    with Server(answer) as server:
        tool = tools.start("ingest", server.url(), *WAYS["cursor"], *QUICK, "--cursor", "n", "--cursor-param", "since")
        support.wait_for(lambda: len(server.requests) >= 5, "more rounds")
        assert tool.terminate() == 0
    assert [event["n"] for event in tool.events] == [9, 8, 7, 6]


def test_state_of_another_way_of_paging_is_refused(tools, directory):
    with Server(Pages("cursor", 100000, 50000)) as server:
        runs = Runs(tools, directory, server.url("/e"), "--once", *WAYS["cursor"])
        runs.kill_when_full()
        other = tools.run("ingest", server.url("/e"), "--to", f"@{runs.link}", "--state", "state", "--paging", "offset")
    assert other.status == 1 and "another --paging" in other.err and "--reset" in other.err


def test_proxy_is_gone_through_and_its_password_not_shown(tools, directory):
    with Server(lambda request: as_json({"path": request.path, "auth": request.headers.get("Proxy-Authorization", "")[:6]})) as proxy:
        (directory / "s.json").write_text(json.dumps({"proxy": proxy.url("").replace("://", "://me:hush@")}))
        tool = tools.run("ingest", "http://api.example.com/x?a=1", "--once", "--settings", "s.json", "--log-level", "debug")
    assert tool.events == [{"path": "http://api.example.com/x?a=1", "auth": "Basic "}]
    down = tools.start("ingest", "http://api.example.com/", "--settings", "s.json", *QUICK)
    down.wait_err("trying again")
    assert down.terminate() == 0
    assert "hush" not in tool.err + down.err


@pytest.mark.parametrize("address", ["nonsense://me:hush@127.0.0.1:1", "http://me:hush/x@127.0.0.1:1", "htpp://hush"])
@pytest.mark.parametrize("scheme", ["http", "ws"])
@pytest.mark.parametrize("way", ["option", "environment"])
def test_a_proxys_address_that_cannot_be_used_is_not_shown(tools, directory, scheme, address, way):
    (directory / "s.json").write_text(json.dumps({"proxy": address} if way == "option" else {}))
    tool = tools.start("ingest", f"{scheme}://api.example.com/", "--settings", "s.json", "--log-level", "debug", *QUICK[2:],
                       env={"http_proxy": address, "no_proxy": ""} if way == "environment" else None)
    tool.wait_err("the proxy's address cannot be used; it is written as http://HOST:PORT .*; trying again")
    assert tool.terminate() == 0 and "hush" not in tool.err


def test_a_proxy_that_wants_credentials_is_told_apart_from_the_server(tools):
    with Server(lambda request: (407, {"Proxy-Authenticate": 'Basic realm="x"'}, b"")) as proxy:
        tool = tools.start("ingest", "http://api.example.com/", "--proxy", proxy.url(""), *QUICK)
        tool.wait_err("HTTP status 407: the proxy wants other credentials .--proxy.; trying again")
        assert tool.terminate() == 0
