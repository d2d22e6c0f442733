"""Source redis: against a private redis-server that is stopped, started, trimmed and deleted from as it comes, and against servers that keep to nothing."""

import json
import random
import signal
import socket
import sqlite3
import threading
import time

import pytest

import runs_support
import support
import tls_support
from instance import control  # noqa: F401
from redis_support import Redis
from runs_support import QUICK, made_and_closed


@pytest.fixture(scope="module")
def shared():
    server = Redis()
    yield server
    server.close()


@pytest.fixture
def own():
    yield from made_and_closed(Redis)


def plain(events):
    return [{name: value for name, value in event.items() if name != "@timestamp"} for event in events]


def test_entries_become_events(tools, shared):
    entries = [{"device": "press7", "temperature": "21.5", "ok": "true", "code": "007", "note": "grün", "empty": "", "n": "-3"},
               {"a": "1", "raw": b"\xff\xfe"}, {f"f{i}": str(i) for i in range(100)}]
    names = shared.add("plain", *entries)
    tool = tools.start("ingest", shared.url("plain"), "--id-field", "id", "--key-field", "key", *QUICK)
    place = [{"id": name, "key": "plain"} for name in names]
    found = tool.wait_events(3)
    assert plain(found) == [
        {"device": "press7", "temperature": 21.5, "ok": True, "code": "007", "note": "grün", "empty": "", "n": -3, **place[0]},
        {"a": 1, "raw": "//4=", **place[1]}, {**{f"f{i}": i for i in range(100)}, **place[2]}]
    for event, name in zip(found, names):
        ms = int(name.split("-")[0])
        assert event["@timestamp"].startswith(time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(ms // 1000)))
    shared.add("plain", {"a": "later"})
    assert plain(tool.wait_events(4))[3]["a"] == "later"
    assert tool.terminate() == 0


def test_fields_may_stay_text_and_times_come_from_a_field(tools, shared):
    client = shared.client()
    client.xadd("times", {"ts": "2026-01-02T03:04:05Z", "n": "1"}, id="5-1")
    client.xadd("times", {"n": "2"}, id="5-2")
    tool = tools.start("ingest", shared.url("times"), "--strings", "--time", "ts", "--dead-letter", "dead", *QUICK)
    client.xadd("times", {"ts": "1767323046", "n": "3"}, id="6-0")
    assert tool.wait_events(2) == [{"@timestamp": "2026-01-02T03:04:05Z", "ts": "2026-01-02T03:04:05Z", "n": "1"},
                                   {"@timestamp": "2026-01-02T03:04:06Z", "ts": "1767323046", "n": "3"}]
    letter, = support.lines_of(tools.directory / "dead")
    assert letter["place"] == "times 5-2" and 'no field "ts"' in letter["reason"]
    without = tools.start("ingest", shared.url("times"), *QUICK)
    assert without.wait_events(3)[1] == {"n": 2}    # 5 is no time that an entry can have


PAYLOADS = [
    ((), b'{"a": 1}', [{"a": 1}]), ((), b'[{"a": 1}, {"a": 2}, 3]', [{"a": 1}, {"a": 2}, {"value": 3}]), ((), b"21.5", [{"value": 21.5}]),
    (("--format", "lines"), b"a\nb\n", [{"message": "a"}, {"message": "b"}]), (("--format", "csv"), b"a,b\n1,x\n2,y\n", [{"a": 1, "b": "x"}, {"a": 2, "b": "y"}])]


@pytest.mark.parametrize("options, payload, expected", PAYLOADS)
def test_a_field_may_hold_a_payload(tools, shared, options, payload, expected):
    key = f"payload{PAYLOADS.index((options, payload, expected))}"
    shared.add(key, {"body": payload, "kind": "k", "size": "5"}, {"kind": "without"}, {"body": b"{", "kind": "bad"} if not options else {"kind": "no"})
    tool = tools.start("ingest", shared.url(key), "--field", "body", "--dead-letter", "dead", *options, *QUICK)
    found = tool.wait_events(len(expected))
    assert plain(found) == [{**event, "kind": "k", "size": 5} for event in expected] and all("@timestamp" in event for event in found)
    support.wait_for(lambda: len(support.lines_of(tools.directory / "dead")) == 2 if (tools.directory / "dead").exists() else 0, lambda: tool.err)


def test_several_streams_and_databases(tools, shared):
    shared.add("several:a", {"n": "1"}, database=3)
    shared.add("several/b", {"n": "2"}, database=3)
    shared.add("several:a", {"n": "9"})
    tool = tools.start("ingest", shared.url("3/several:a"), "--key", "several/b", "--key", "several:later", "--key-field", "key", *QUICK)
    tool.wait_events(2)
    shared.add("several:later", {"n": "3"}, database=3)
    found = sorted((event["key"], event["n"]) for event in tool.wait_events(3))
    assert found == [("several/b", 2), ("several:a", 1), ("several:later", 3)]
    other = tools.start("ingest", shared.url(), "--database", "3", "--key", "several/b", *QUICK)
    assert plain(other.wait_events(1)) == [{"n": 2}]


def test_where_a_stream_begins(tools, shared):
    names = shared.add("begin", {"n": "1"}, {"n": "2"}, {"n": "3"})
    behind = tools.start("ingest", shared.url("begin"), "--begin", names[1], *QUICK)
    new = tools.start("ingest", shared.url("begin"), "--begin", "new", *QUICK)
    grouped = tools.start("ingest", shared.url("begin"), "--begin", "new", "--group", "g", *QUICK)
    support.wait_for(lambda: sum(client["cmd"].startswith("xread") for client in shared.client().client_list()) >= 3, "three that wait")
    shared.add("begin", {"n": "4"})
    assert [event["n"] for event in behind.wait_events(2)] == [3, 4]
    for tool in (new, grouped):
        assert [event["n"] for event in tool.wait_events(1)] == [4]


class Runs(runs_support.Runs):
    def __init__(self, tools, directory, server, rest, *arguments):
        super().__init__(tools, directory, server.url(rest), *arguments)


def adding(server, key, count, pause, first=0):
    def run():
        for start in range(first, first + count, 50):
            server.add(key, *({"n": str(i)} for i in range(start, min(start + 50, first + count))))
            time.sleep(pause)
    thread = threading.Thread(target=run)
    thread.start()
    return thread


@pytest.mark.parametrize("group", [(), ("--group", "g")])
def test_nothing_is_lost_or_doubled_over_kills(tools, shared, directory, group):
    key, count, rng = f"kill{len(group)}", 1500, random.Random(len(group))
    runs = Runs(tools, directory, shared, key, *group, "--batch-size", "7", "--sync-interval", "5ms")
    tool = runs.start()
    thread, kills = adding(shared, key, count, 0.02), 0
    while thread.is_alive() or not kills:
        time.sleep(rng.uniform(0.02, 0.25))
        tool.kill()
        kills += 1
        tool = runs.start()
    runs.wait(count, tool)
    shared.add(key, {"n": str(count)})
    runs.wait(count + 1, tool)
    assert runs.numbers == list(range(count + 1)) and kills >= 3
    if group:
        support.wait_for(lambda: shared.pending(key, "g") == 0, lambda: f"all acknowledged; {tool.err}")
        assert len(shared.client().xinfo_consumers(key, "g")) == 1


def test_an_orderly_end_leaves_nothing_pending(tools, shared, directory):
    for state in ((), ("--state", "state")):
        key = f"orderly{len(state)}"
        shared.add(key, *({"n": str(i)} for i in range(5000)))
        tool = tools.start("ingest", shared.url(key), "--group", "g", *state, *QUICK)
        tool.wait_events(5000)
        assert tool.terminate() == 0
        assert shared.pending(key, "g") == 0


@pytest.mark.parametrize("group", [(), ("--group", "g")])
def test_entries_of_many_events_that_were_cut_by_a_kill_go_on_where_they_were(tools, shared, directory, group):
    key = f"many{len(group)}"
    runs = Runs(tools, directory, shared, key, *group, "--field", "body")
    tool = runs.start("--spool-limit", "1MiB")
    runs.receiver.signal(signal.SIGSTOP)
    shared.add(key, {"body": json.dumps([{"n": i, "text": "x" * 200} for i in range(20000)])}, {"body": '{"n": 20000}'})
    support.wait_for(lambda: runs.log_size > 800_000, lambda: f"a full log; {tool.err}")
    tool.kill()
    runs.receiver.signal(signal.SIGCONT)
    tool = runs.start()
    runs.wait(20001, tool)
    assert runs.numbers == list(range(20001))


@pytest.mark.parametrize("group", [(), ("--group", "g")])
def test_a_full_log_holds_reading_back_and_nothing_is_lost(tools, shared, directory, group):
    key = f"full{len(group)}"
    runs = Runs(tools, directory, shared, key, *group)
    tool = runs.start("--spool-limit", "1MiB")
    runs.receiver.signal(signal.SIGSTOP)
    shared.add(key, *({"n": str(i), "text": "x" * 1000} for i in range(5000)))
    support.wait_for(lambda: runs.log_size > 800_000, lambda: f"a full log; {tool.err}")
    runs.receiver.signal(signal.SIGCONT)
    runs.wait(5000, tool)
    assert runs.numbers == list(range(5000))


@pytest.mark.parametrize("group", [(), ("--group", "g")])
def test_the_server_may_be_away_at_start_and_go_at_any_time(tools, own, directory, group):
    server = own(start=False)
    runs = Runs(tools, directory, server, "t", *group)
    tool = runs.start()
    tool.wait_err("trying again")
    server.start()
    for turn in range(4):
        server.add("t", *({"n": str(turn * 100 + i)} for i in range(100)))
        if turn % 2:
            runs.wait(turn * 100 + 100, tool)
        server.stop(hard=turn > 1)
        server.start()
    server.add("t", {"n": "400"})
    runs.wait(401, tool)
    assert runs.numbers == list(range(401))
    assert "data arrives again" in tool.err


def test_consumers_of_a_group_share(tools, shared):
    shared.client().xgroup_create("shared", "g", mkstream=True)
    both = [tools.start("ingest", shared.url("shared"), "--group", "g", "--consumer", name, *QUICK) for name in ("one", "two")]
    numbers = lambda: sorted(event["n"] for tool in both for event in tool.events)
    sent = 0
    while not all(tool.events for tool in both):
        shared.add("shared", *({"n": str(sent + i)} for i in range(20)))
        sent += 20
        support.wait_for(lambda: len(numbers()) >= sent, lambda: str(len(numbers())))
    assert numbers() == list(range(sent))


def test_a_group_that_is_gone_is_made_again_behind_what_was_taken(tools, shared, directory):
    runs = Runs(tools, directory, shared, "lost", "--group", "g")
    tool = runs.start()
    shared.add("lost", *({"n": str(i)} for i in range(100)))
    runs.wait(100, tool)
    shared.client().xgroup_destroy("lost", "g")
    shared.add("lost", {"n": "100"})
    runs.wait(101, tool)
    shared.client().delete("lost")
    shared.add("lost", {"n": "101"})
    runs.wait(102, tool)
    assert tool.terminate() == 0
    shared.client().xgroup_destroy("lost", "g")
    shared.add("lost", {"n": "102"})
    runs.wait(103, runs.start())
    assert runs.numbers == list(range(103))


def test_a_group_that_goes_back_brings_nothing_twice(tools, shared, directory):
    runs = Runs(tools, directory, shared, "back", "--group", "g")
    tool = runs.start()
    shared.add("back", *({"n": str(i)} for i in range(100)))
    runs.wait(100, tool)
    assert tool.terminate() == 0
    shared.client().xgroup_setid("back", "g", "0")
    tool = runs.start()
    shared.add("back", {"n": "100"})
    runs.wait(101, tool)
    assert runs.numbers == list(range(101)) and "has gone back" in tool.err
    support.wait_for(lambda: shared.pending("back", "g") == 0, "all acknowledged")


def test_what_others_left_is_claimed_once(tools, shared, directory):
    client = shared.client()
    client.xgroup_create("left", "g", mkstream=True)
    shared.add("left", *({"n": str(i)} for i in range(250)))
    assert len(client.xreadgroup("g", "gone", {"left": ">"}, count=250)[0][1]) == 250
    runs = Runs(tools, directory, shared, "left", "--group", "g", "--claim", "200ms", "--sync-interval", "5ms", "--batch-size", "3")
    tool, rng = runs.start(), random.Random(4)
    for turn in range(6):
        time.sleep(rng.uniform(0.05, 0.5))
        tool.kill()
        tool = runs.start()
    shared.add("left", {"n": "250"})
    runs.wait(251, tool)
    support.wait_for(lambda: shared.pending("left", "g") == 0, lambda: f"all acknowledged; {tool.err}")
    assert sorted(runs.numbers) == list(range(251))


@pytest.mark.parametrize("group", [(), ("--group", "g")])
def test_trimmed_entries_are_told_and_counted(tools, shared, directory, group):
    key = f"trim{len(group)}"
    runs = Runs(tools, directory, shared, key, *group)
    shared.add(key, {"n": "-1"}, {"n": "-2"})
    shared.client().xtrim(key, maxlen=1, approximate=False)     # before we begin: not ours to miss
    tool = runs.start()
    runs.wait(1, tool)
    shared.add(key, *({"n": str(i)} for i in range(10)))
    runs.wait(11, tool)
    assert tool.terminate() == 0
    shared.add(key, *({"n": str(i)} for i in range(10, 110)))
    shared.client().xtrim(key, maxlen=40, approximate=False)
    tool = runs.start()
    runs.wait(51, tool)
    tool.wait_err(f"{key}: 60 entries were trimmed or deleted before we saw them")
    assert runs.numbers == [-2, *range(10), *range(70, 110)]
    assert tool.terminate() == 0
    tool = runs.start()
    shared.add(key, {"n": "110"})
    runs.wait(52, tool)
    assert tool.terminate() == 0 and "trimmed" not in tool.err


def test_a_sample_takes_nothing_away(tools, shared, directory):
    shared.client().xgroup_create("sample", "g", id="0", mkstream=True)
    shared.add("sample", *({"n": str(i)} for i in range(10)))
    done = tools.run("ingest", shared.url("sample"), "--group", "g", "--sample", "5")
    assert done.status == 0 and [event["n"] for event in done.events] == list(range(5))
    assert shared.client().xinfo_groups("sample")[0]["pending"] == 0 and not shared.client().xinfo_consumers("sample", "g")


def test_channels(tools, shared):
    tool = tools.start("ingest", shared.url(), "--channel", "news", "--channel", "more", "--channel-pattern", "weather.*", "--channel-field", "from", *QUICK)
    client = shared.client()
    support.wait_for(lambda: client.pubsub_numpat() and all(n for _, n in client.pubsub_numsub("news", "more")), "the subscription")
    client.publish("news", '{"n": 1}')
    client.publish("weather.berlin", "21.5")
    client.publish("more", "[1, 2]")
    client.publish("other", "1")
    client.publish("news", "{")
    client.publish("news", '{"n": 2}')
    assert tool.wait_events(5) == [{"n": 1, "from": "news"}, {"value": 21.5, "from": "weather.berlin"}, {"value": 1, "from": "more"},
                                   {"value": 2, "from": "more"}, {"n": 2, "from": "news"}]
    client.client_kill_filter(_type="pubsub")
    tool.wait_err("trying again")
    support.wait_for(lambda: client.pubsub_numpat(), "the subscription")
    client.publish("news", '{"n": 3}')
    assert tool.wait_events(6)[5] == {"n": 3, "from": "news"}


def test_a_wrong_password_is_told_and_never_shown(tools, own):
    server = own(password="correct-horse")
    server.add("t", {"n": "1"})
    for user in (":battery-staple@", "default:battery-staple@"):
        wrong = tools.start("ingest", server.url("t", user), *QUICK)
        wrong.wait_err("WRONGPASS")
        assert "battery" not in wrong.err
    tools.start("ingest", server.url("t"), *QUICK).wait_err("NOAUTH")
    settings = tools.directory / "login.json"
    settings.write_text('{"password": "correct-horse"}')
    for arguments in ((server.url("t"), "--settings", settings), (server.url("t", ":correct%2Dhorse@"),)):
        assert plain(tools.start("ingest", *arguments, *QUICK).wait_events(1)) == [{"n": 1}]
    server.client().execute_command("ACL", "SETUSER", "ann", "on", ">correct-horse", "~t", "+@all")
    assert plain(tools.start("ingest", server.url("t", "ann:correct-horse@"), *QUICK).wait_events(1)) == [{"n": 1}]
    tools.start("ingest", server.url("u", "ann:correct-horse@"), *QUICK).wait_err("NOPERM")


def test_a_key_that_is_no_stream_is_told(tools, shared):
    shared.client().set("text", "x")
    for group in ((), ("--group", "g")):
        tools.start("ingest", shared.url("text"), *group, *QUICK).wait_err("WRONGTYPE")


def test_tls_certificates_are_verified(tools, own, directory):
    authority = tls_support.Authority(directory / "tls")
    for kind, words in (("good", None), ("expired", "expired"), ("untrusted", "self-signed|unable to get"), ("of_another_host", "127.0.0.1")):
        server = own(tls=getattr(authority, kind)())
        client = server.client(ssl=True, ssl_cert_reqs="none")
        client.xadd("t", {"n": "1"})
        tool = tools.start("ingest", server.url("t"), "--tls-ca", authority.ca, "--group", "g", *QUICK)
        if words:
            tool.wait_err(f"(?i)({words}).*trying again")
            assert not tool.events
        else:
            tool.wait_events(1)
            for i in range(20):
                client.xadd("t", {"n": str(i), "text": "y" * 50000})
            assert [event["n"] for event in tool.wait_events(21)] == [1, *range(20)]
    server = own(tls=authority.good("mutual"), ca=authority.ca)
    tools.start("ingest", server.url("t"), "--tls-ca", authority.ca, *QUICK).wait_err("trying again")
    certificate, key = authority.good("client")
    server.client(ssl=True, ssl_ca_certs=str(authority.ca), ssl_certfile=str(certificate), ssl_keyfile=str(key)).xadd("t", {"n": "1"})
    tool = tools.start("ingest", server.url("t"), "--tls-ca", authority.ca, "--tls-cert", certificate, "--tls-key", key, *QUICK)
    assert plain(tool.wait_events(1)) == [{"n": 1}]


def test_an_entry_that_is_too_large_is_a_dead_letter(tools, shared, directory):
    names = shared.add("large", {"n": "1"}, {"text": "x" * (17 << 20)}, {"text": "y" * (2 << 20)}, {"n": "2"})
    for group in ((), ("--group", "g")):
        tool = tools.start("ingest", shared.url("large"), "--dead-letter", f"dead{len(group)}", *group, *QUICK)
        assert [event["n"] for event in tool.wait_events(2)] == [1, 2]
        letters = support.lines_of(directory / f"dead{len(group)}")
        assert [letter["place"] for letter in letters] == [f"large {name}" for name in names[1:3]]
        assert "larger than 16 MiB" in letters[0]["reason"] and "--max-record" in letters[1]["reason"]


class Rogue:
    """A server that answers each command of a connection with the next of given bytes, and keeps it open. As the last one it is `good`."""

    def __init__(self, *connections):
        self.listener, self.connections = socket.create_server(("127.0.0.1", 0)), connections
        threading.Thread(target=self.run, daemon=True).start()

    def run(self):
        for number in range(1000):
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.serve, args=(connection, self.connections[min(number, len(self.connections) - 1)]), daemon=True).start()

    def serve(self, connection, answers):
        for answer in answers:
            try:
                if not connection.recv(100000):
                    return
                connection.sendall(answer)
            except OSError:
                return
        threading.Event().wait(300)

    def url(self):
        return f"redis://127.0.0.1:{self.listener.getsockname()[1]}/t"


GOOD = (b"+PONG\r\n", b"-ERR no such key\r\n", b"*1\r\n*2\r\n$1\r\nt\r\n*1\r\n*2\r\n$3\r\n9-9\r\n*2\r\n$1\r\nn\r\n$1\r\n7\r\n")


@pytest.mark.parametrize("answers, words", [
    ((b"HTTP/1.1 400 Bad Request\r\n\r\n",), "does not speak"), ((b"-LOADING Redis is loading\r\n",), "LOADING"), ((b"+PONG\r\n", b":x\r\n"), "does not speak"),
    ((b"+PONG\r\n+PONG\r\n",), "does not"), ((b"+PONG\r\n", b"*-5\r\n"), "does not speak"), ((b"+PONG\r\n", b"*99999999999999\r\n"), "does not speak"),
    ((*GOOD[:2], b":1\r\n"), "does not belong"), ((*GOOD[:2], b"*1\r\n*2\r\n$1\r\nt\r\n*1\r\n*1\r\n$3\r\n9-9\r\n"), "does not belong"),
    ((*GOOD[:2], b"*1\r\n*2\r\n$1\r\nu\r\n*1\r\n*2\r\n$3\r\n9-9\r\n*0\r\n"), "does not belong"),
    ((*GOOD[:2], b"*1\r\n*2\r\n$1\r\nt\r\n*1\r\n*2\r\n$3\r\nx-y\r\n*0\r\n"), "does not belong"),
    ((*GOOD[:2], b"$4\r\nabcdxx"), "does not speak"), ((*GOOD[:2], b"-OOM no memory\r\n"), "OOM"), ((b"+" + b"x" * 100000,), "does not speak"),
    ((*GOOD[:2], b"*1\r\n" * 5000 + b":1\r\n"), "does not")])
def test_servers_that_keep_to_nothing_are_left_and_tried_again(tools, answers, words):
    tool = tools.start("ingest", Rogue(answers, GOOD).url(), *QUICK)
    tool.wait_err(words)
    assert tool.wait_events(1) == [{"n": 7}]


def test_a_silent_server_is_left(tools):
    tool = tools.start("ingest", Rogue((), (b"+PONG\r\n",), GOOD).url(), "--connect-timeout", "300ms", *QUICK)
    assert tool.wait_events(1) == [{"n": 7}]
    assert "does not answer" in tool.err


@pytest.mark.parametrize("arguments, words", [
    (("redis://h",), "which stream"), (("redis:h/t",), "looks like redis://"), (("redis://h:0/t",), "port"), (("redis://h/3",), "which stream"),
    (("redis://h/t", "--channel", "c"), "streams or channels"), (("redis://h/t", "--format", "csv"), "--field NAME"), (("redis://h/t", "--begin", "x"), "--begin takes"),
    (("redis://h/t", "--claim", "1m"), "needs --group"), (("redis://h/t", "--tls-ca", "x"), "rediss://"), (("redis://h/t", "--user", "ann"), "needs --password"),
    (("redis://:sesame@h:x/t",), "port"), (("redis://h/t?grop=1",), "did you mean"), (("redis://h/t", "--retry-min", "2m"), "below")])
def test_mistakes_are_told_before_anything_starts(tools, arguments, words):
    done = tools.run("ingest", *arguments, "--check")
    assert done.status == 64 and support.re.search(words, done.err), done.err
    assert "sesame" not in done.err


def test_state_of_another_server_group_or_consumer_is_refused(tools, shared, directory):
    runs = Runs(tools, directory, shared, "refuse", "--group", "g")
    shared.add("refuse", {"n": "1"})
    tool = runs.start()
    runs.wait(1, tool)
    assert tool.terminate() == 0
    for arguments, words in (((shared.url("1/refuse"), "--group", "g"), "made for redis://127.0.0.1"), ((shared.url("refuse"), "--group", "h"), "for the group g"),
                             ((shared.url("refuse"),), "for the group g"), ((shared.url("refuse"), "--group", "g", "--consumer", "x"), "for the consumer")):
        other = tools.run("ingest", *arguments, "--state", "state", "--to", f"@{runs.link}")
        assert other.status == 1 and words in other.err, other.err


def test_the_ready_pipeline_runs(control, directory, shared):
    content = json.loads((support.ROOT / "pipelines/redis.json").read_text())
    content["server"] = {"port": 0}
    content["data_sources"][0]["url"] = shared.url("ready")
    (directory / "config.json").write_text(json.dumps(content))
    control.good("start")
    names = shared.add("ready", *({"customer": f"c{i}", "country": ("de", "fr")[i % 2], "amount": str(i + 0.5)} for i in range(100)))

    def rows():
        if not (directory / "data/orders.db").exists():
            return []
        with sqlite3.connect(f"file:{directory}/data/orders.db?mode=ro", uri=True) as database:
            try:
                return database.execute("SELECT id, country, amount FROM orders ORDER BY rowid").fetchall()
            except sqlite3.OperationalError:       # the table is being made
                return []
    support.wait_for(lambda: len(rows()) >= 100, "the orders", 60)
    assert rows() == [(name, ("de", "fr")[i % 2], i + 0.5) for i, name in enumerate(names)]
    control.good("stop")
    assert shared.pending("ready", "workers") == 0
