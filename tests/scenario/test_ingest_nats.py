"""Source nats: against a private nats-server that is stopped, killed and started as it comes, and against servers that keep to nothing."""

import json
import random
import signal
import socket
import threading
import time

import msgpack
import pytest

import runs_support
import support
import tls_support
from instance import control  # noqa: F401
from nats_support import Nats
from runs_support import QUICK, made_and_closed


@pytest.fixture(scope="module")
def shared():
    server = Nats(more="max_payload: 8MB")
    yield server
    server.close()


@pytest.fixture
def own():
    yield from made_and_closed(Nats)


def subscribed(server, tools, *arguments, count=1, **how):
    """ingest, once the server has so many more subscriptions."""
    before = len(server.subscribed())
    tool = tools.start("ingest", *arguments, *QUICK, **how)
    support.wait_for(lambda: len(server.subscribed()) >= before + count, lambda: f"a subscription; {tool.err}")
    return tool


def without_time(events):
    return [{name: value for name, value in event.items() if name != "@timestamp"} for event in events]


def test_messages_become_events(tools, shared):
    tool = subscribed(shared, tools, shared.url("plain.>"))
    shared.publish(*((f"plain.{i % 7}.x", f'{{"n": {i}}}') for i in range(300)))
    assert tool.wait_events(300) == [{"n": i} for i in range(300)]
    assert tool.terminate() == 0, tool.err


def test_a_stream_is_read_from_its_beginning_and_on(tools, shared):
    shared.stream("basic")
    shared.store(*(("basic.a", f'{{"n": {i}}}') for i in range(300)))
    tool = tools.start("ingest", shared.url(), "--jetstream", "basic", *QUICK)
    tool.wait_events(300)
    shared.store(*(("basic.a", f'{{"n": {i}}}') for i in range(300, 600)))
    assert without_time(tool.wait_events(600)) == [{"n": i} for i in range(600)]
    assert all(event["@timestamp"] for event in tool.events)
    assert tool.terminate() == 0, tool.err
    assert shared.consumers("basic") == {}


PAYLOADS = [
    ((), b'{"a": 1}', [{"a": 1}]), ((), b'[{"a": 1}, {"a": 2}, 3]', [{"a": 1}, {"a": 2}, {"value": 3}]), ((), b"21.5", [{"value": 21.5}]), ((), b"[]", []),
    ((), b"", []), ((), '"grün"'.encode(), [{"value": "grün"}]),
    (("--format", "lines"), b"on", [{"message": "on"}]), (("--format", "lines"), b"a\nb\n", [{"message": "a"}, {"message": "b"}]),
    (("--format", "csv"), b"a,b\n1,x\n2,y\n", [{"a": 1, "b": "x"}, {"a": 2, "b": "y"}]),
    (("--format", "msgpack"), msgpack.packb({"a": [1, 2.5], "b": None}), [{"a": [1, 2.5], "b": None}]),
    (("--time", "ts"), b'{"ts": "2026-01-02T03:04:05Z", "n": 1}', [{"@timestamp": "2026-01-02T03:04:05Z", "ts": "2026-01-02T03:04:05Z", "n": 1}]),
]


def test_payloads_of_every_format(tools, shared):
    groups = {}
    for options, payload, expected in PAYLOADS:
        groups.setdefault(options, []).append((payload, expected))
    for number, (options, messages) in enumerate(groups.items()):
        stream = f"format{number}"
        shared.stream(stream)
        shared.store(*((f"{stream}.x", payload) for payload, _ in messages))
        expected = [event for _, events in messages for event in events]
        tool = tools.start("ingest", shared.url(), "--jetstream", stream, *options, *QUICK)
        found = tool.wait_events(len(expected))
        assert (found if "--time" in options else without_time(found)) == expected, tool.err
        assert tool.terminate() == 0


def test_garbage_is_dead_letters_and_the_stream_goes_on(tools, shared, directory):
    shared.stream("garbage")
    bad = [b"{", b"\xff\xfe\x00", b'{"a": 1} x', b'{"a": "\xff"}', b"nonsense", b"[1,", b"\x00" * 1000, b'{"a":"' + b"x" * 500_000 + b'"}']
    shared.store(*((f"garbage.{i}", payload) for i, payload in enumerate(bad)), ("garbage.end", '{"ok": true}'))
    tool = tools.start("ingest", shared.url(), "--jetstream", "garbage", "--dead-letter", "dead", "--max-record", "64KiB", *QUICK)
    assert without_time(tool.wait_events(1)) == [{"ok": True}]
    assert tool.terminate() == 0, tool.err
    letters = support.lines_of(directory / "dead")
    assert [letter["place"].split(":")[0] for letter in letters] == [f"garbage.{i} {i + 1}" for i in range(len(bad))]


def test_subjects_headers_and_sequence_numbers_become_fields(tools, shared):
    fields = ("--subject-fields", "-,site,device,kind", "--subject-field", "subject", "--header-field", "headers")
    shared.stream("fields")
    wide = {f"k{i}": i for i in range(15)}
    messages = [("fields.berlin.d1", '{"n": 1}', [("A", "1"), ("B", "x"), ("A", "2")]), ("fields.rome.d2.temp.more", json.dumps(wide)),
                ("fields.rome.d3", '{"device": "mine"}', []), ("fields.berlin.empty", b"", [("Only", "header")])]
    base = [{"n": 1, "site": "berlin", "device": "d1", "subject": "fields.berlin.d1", "headers": {"A": ["1", "2"], "B": "x"}},
            {**wide, "site": "rome", "device": "d2", "kind": "temp", "subject": "fields.rome.d2.temp.more", "headers": {}},
            {"site": "rome", "device": "d3", "subject": "fields.rome.d3", "headers": {}},
            {"site": "berlin", "device": "empty", "subject": "fields.berlin.empty", "headers": {"Only": "header"}}]
    plain = subscribed(shared, tools, shared.url("fields.>"), *fields)
    stream = tools.start("ingest", shared.url(), "--jetstream", "fields", *fields, "--sequence-field", "number", *QUICK)
    shared.store(*messages)
    assert plain.wait_events(4) == base
    assert without_time(stream.wait_events(4)) == [{**event, "number": i + 1} for i, event in enumerate(base)]


def test_subjects_and_headers_that_are_no_text_become_text(tools, shared):
    tool = subscribed(shared, tools, shared.url("bytes.>"), "--subject-fields", "-,what", "--header-field", "headers")
    with shared.client() as client:
        client.send(b"HPUB bytes.a\xff 20 22\r\nNATS/1.0\r\nA: x\xfe\xfd\r\n\r\n{}\r\n")
        client.flush()
    assert tool.wait_events(1) == [{"what": "a?", "headers": {"A": "x??"}}]


def test_a_queue_group_shares(tools, shared):
    both = [subscribed(shared, tools, shared.url("work.>"), "--queue", "g") for _ in range(2)]
    shared.publish(*(("work.x", str(i)) for i in range(200)))
    values = lambda: sorted(event["value"] for tool in both for event in tool.events)
    support.wait_for(lambda: len(values()) >= 200, lambda: str(len(values())))
    assert values() == list(range(200)) and all(tool.events for tool in both)


@pytest.mark.parametrize("start, first", [("all", 0), ("last", 9), ("4", 3), ("2020-01-01T00:00:00Z", 0), ("new", 10)])
def test_where_a_new_consumer_starts(tools, shared, start, first):
    stream = f"start{first}{len(start)}"
    shared.stream(stream)
    shared.store(*((f"{stream}.a", str(i)) for i in range(10)))
    tool = subscribed(shared, tools, shared.url(), "--jetstream", stream, "--start", start)
    support.wait_for(lambda: shared.consumers(stream), "the consumer")      # it says where the messages begin
    shared.store((f"{stream}.a", "10"))
    assert [event["value"] for event in tool.wait_events(11 - first)] == list(range(first, 11))


class Runs(runs_support.Runs):
    def __init__(self, tools, directory, server, *arguments, subject="", state="state"):
        super().__init__(tools, directory, server.url(subject), *arguments, state=state, drain=())


def storing(server, count, subject, pause=0.02):
    def run():
        with server.client() as client:
            for first in range(0, count, 50):
                client.store(*((subject(i), f'{{"n":{i}}}') for i in range(first, min(first + 50, count))))
                time.sleep(pause)
    thread = threading.Thread(target=run)
    thread.start()
    return thread


def kill_while(thread, runs, tool, rng, least=3):
    kills = 0
    while thread.is_alive() or kills < least:
        time.sleep(rng.uniform(0.02, 0.3))
        tool.kill()
        kills += 1
        tool = runs.start()
    return tool


BATCHES = ("--batch-size", "7", "--sync-interval", "5ms")


@pytest.mark.parametrize("retention, kind", [("limits", "own"), ("limits", "filtered"), ("limits", "named"), ("workqueue", "own"), ("interest", "own")])
def test_nothing_is_lost_or_doubled_over_kills(tools, shared, directory, retention, kind):
    stream, count = f"kill-{retention}-{kind}", 2000
    shared.stream(stream, retention=retention)
    more = ("--consumer", "named") if kind == "named" else ()
    runs = Runs(tools, directory, shared, "--jetstream", stream, "--ack-wait", "1s", *BATCHES, *more, subject=f"{stream}.yes" if kind == "filtered" else "")
    tool = runs.start()
    support.wait_for(lambda: shared.consumers(stream), lambda: f"a consumer; {tool.err}")
    subject = (lambda i: f"{stream}.{'yes' if i % 3 else 'no'}") if kind == "filtered" else lambda i: f"{stream}.yes"
    expected = [i for i in range(count) if i % 3 or kind != "filtered"]
    tool = kill_while(storing(shared, count, subject), runs, tool, random.Random(5))
    support.wait_for(lambda: len(set(runs.numbers)) == len(expected), lambda: f"all; {len(set(runs.numbers))} have come; {tool.err}", 60)
    assert sorted(runs.numbers) == expected
    if kind != "named" and retention != "interest":     # a consumer that is ours alone is set back, so that order stays
        assert runs.numbers == expected
    support.wait_for(lambda: [info["num_ack_pending"] for info in shared.consumers(stream).values()] == [0], lambda: f"acknowledgements; {shared.consumers(stream)}", 40)
    if retention != "limits":
        assert shared.state(stream)["messages"] == 0
    assert tool.terminate() == 0, tool.err


def test_several_share_a_named_consumer_and_one_may_be_killed(tools, shared, directory):
    shared.stream("several")
    both = [Runs(tools, directory, shared, "--jetstream", "several", "--consumer", "ours", "--ack-wait", "1s", *BATCHES, state=f"state{i}") for i in range(2)]
    running = [runs.start() for runs in both]
    support.wait_for(lambda: len(shared.subscribed()) >= 2, lambda: running[0].err + running[1].err)
    thread = storing(shared, 2000, lambda i: "several.x")
    support.wait_for(lambda: all(runs.numbers for runs in both), lambda: running[0].err + running[1].err, 60)
    kill_while(thread, both[0], running[0], random.Random(1))
    numbers = lambda: [n for runs in both for n in runs.numbers]
    support.wait_for(lambda: len(set(numbers())) == 2000, lambda: f"all; {len(set(numbers()))} have come", 60)
    assert all(len(set(runs.numbers)) == len(runs.numbers) for runs in both)


def test_a_message_of_many_events_that_was_cut_by_a_kill_goes_on_where_it_was(tools, shared, directory):
    shared.stream("many")
    runs = Runs(tools, directory, shared, "--jetstream", "many", "--max-record", "64KiB")
    runs.receiver.signal(signal.SIGSTOP)
    shared.store(("many.x", json.dumps([{"n": i, "t": "x" * 200} for i in range(20000)])), ("many.x", '{"n": 20000}'))
    tool = runs.start("--spool-limit", "1MiB")
    support.wait_for(lambda: runs.log_size > 800_000, lambda: f"a full log; {tool.err}")
    tool.kill()
    runs.receiver.signal(signal.SIGCONT)
    tool = runs.start()
    runs.wait(20001, tool)
    assert runs.numbers == list(range(20001))


def test_a_full_log_holds_the_server_back_and_nothing_is_lost(tools, shared, directory):
    shared.stream("full")
    runs = Runs(tools, directory, shared, "--jetstream", "full", "--ack-wait", "1s", "--unacknowledged", "700")
    runs.receiver.signal(signal.SIGSTOP)
    tool = runs.start("--spool-limit", "1MiB")
    shared.store(*(("full.x", json.dumps({"n": i, "text": "x" * (60000 if i % 100 == 50 else 20)})) for i in range(4000)))
    support.wait_for(lambda: runs.log_size > 800_000, lambda: f"a full log; {tool.err}")
    since = time.monotonic()
    support.wait_for(lambda: time.monotonic() - since > 2.5, "more than the server's patience to pass")
    assert shared.state("full")["messages"] == 4000
    assert all(info["num_ack_pending"] <= 700 for info in shared.consumers("full").values())
    runs.receiver.signal(signal.SIGCONT)
    runs.wait(4000, tool)
    assert runs.numbers == list(range(4000))


@pytest.mark.parametrize("hard", [False, True])
def test_the_server_may_be_away_at_start_and_go_at_any_time(tools, own, directory, hard):
    server = own(start=False)
    runs = Runs(tools, directory, server, "--jetstream", "s")
    tool = runs.start()
    tool.wait_err("no server answers there; trying again")
    server.start()
    tool.wait_err("there is no stream s: make it .*trying again")
    server.stream("s")
    for turn in range(3):
        server.store(*(("s.t", f'{{"n":{turn * 100 + i}}}') for i in range(100)))
        runs.wait(turn * 100 + 100, tool)
        server.stop(hard)
        server.start()
    server.store(("s.t", '{"n":300}'))
    runs.wait(301, tool)
    assert runs.numbers == list(range(301))
    assert "data arrives again" in tool.err


def test_a_server_that_hangs_is_left(tools, own, directory):
    server = own()
    server.stream("s")
    runs = Runs(tools, directory, server, "--jetstream", "s", "--keepalive", "200ms", "--connect-timeout", "500ms")
    tool = runs.start()
    server.store(("s.t", '{"n":0}'))
    runs.wait(1, tool)
    server.signal(signal.SIGSTOP)
    tool.wait_err("(?i)connection was lost.*stale.*trying again", 30)
    server.signal(signal.SIGCONT)
    server.store(("s.t", '{"n":1}'))
    runs.wait(2, tool)
    assert runs.numbers == [0, 1]


def test_our_consumer_that_was_deleted_is_made_again(tools, shared, directory):
    shared.stream("gone")
    runs = Runs(tools, directory, shared, "--jetstream", "gone")
    tool = runs.start()
    shared.store(*(("gone.x", f'{{"n":{i}}}') for i in range(50)))
    runs.wait(50, tool)
    name, = shared.consumers("gone")
    shared.api(f"CONSUMER.DELETE.gone.{name}")
    tool.wait_err(f"consumer {name} was deleted on the server; trying again")
    shared.store(*(("gone.x", f'{{"n":{i}}}') for i in range(50, 100)))
    runs.wait(100, tool)
    assert runs.numbers == list(range(100))
    assert f"the consumer {name} of the stream gone is gone: it is made again, for messages behind 50" in tool.err


def test_a_named_consumer_that_was_deleted_is_told_and_waited_for(tools, shared, directory):
    shared.stream("theirs")
    shared.consumer("theirs", "c")
    runs = Runs(tools, directory, shared, "--jetstream", "theirs", "--consumer", "c")
    tool = runs.start()
    shared.store(*(("theirs.x", f'{{"n":{i}}}') for i in range(50)))
    runs.wait(50, tool)
    shared.api("CONSUMER.DELETE.theirs.c")
    tool.wait_err("the consumer c of the stream theirs is gone: make it again .*trying again")
    shared.store(*(("theirs.x", f'{{"n":{i}}}') for i in range(50, 100)))
    shared.consumer("theirs", "c")           # from the beginning: what was taken is not taken twice
    runs.wait(100, tool)
    assert runs.numbers == list(range(100))


def test_a_purged_stream_goes_on_and_one_made_anew_begins_anew(tools, shared, directory):
    shared.stream("purged")
    runs = Runs(tools, directory, shared, "--jetstream", "purged")
    tool = runs.start()
    shared.store(*(("purged.x", f'{{"n":{i}}}') for i in range(50)))
    runs.wait(50, tool)
    shared.api("STREAM.PURGE.purged")
    shared.store(*(("purged.x", f'{{"n":{i}}}') for i in range(50, 100)))
    runs.wait(100, tool)
    shared.api("STREAM.DELETE.purged")
    tool.wait_err("there is no stream purged: make it .*trying again")
    shared.stream("purged")
    shared.store(*(("purged.x", f'{{"n":{i}}}') for i in range(100, 150)))
    runs.wait(150, tool)
    assert runs.numbers == list(range(150))
    assert "the stream purged was made anew" in tool.err


def test_a_sample_takes_nothing_away(tools, shared, directory):
    for retention in ("limits", "workqueue"):
        stream = f"sample-{retention}"
        shared.stream(stream, retention=retention)
        shared.store(*((f"{stream}.x", str(i)) for i in range(20)))
        sample = tools.run("ingest", shared.url(), "--jetstream", stream, "--sample", "5", *QUICK)
        assert sample.status == 0 and [event["value"] for event in sample.events] == list(range(5))
        assert shared.consumers(stream) == {} and shared.state(stream)["messages"] == 20


def test_what_cannot_be_is_told_with_its_remedy(tools, own, directory):
    server = own()
    server.stream("s", "s.>", "t.>")
    server.stream("queue", retention="workqueue")
    server.consumer("queue", "theirs")
    server.consumer("s", "push", deliver_subject="x")
    server.consumer("s", "filtered", filter_subject="t.>")
    for arguments, words in ((("--jetstream", "none"), "there is no stream none: make it"), (("--jetstream", "queue"), "is a work queue.*has another one: name that by --consumer"),
                             (("--jetstream", "s", "--subject", "u.>"), "the stream s does not have the subject u.>"),
                             (("--jetstream", "s", "--consumer", "push"), "one that the server pushes from"),
                             (("--jetstream", "s", "--consumer", "filtered", "--subject", "s.>"), "there already, for the subject t.>")):
        tool = tools.start("ingest", server.url(), *arguments, *QUICK)
        tool.wait_err(f"{words}.*trying again")
        tool.kill()
    plain = own(jetstream=False)
    tools.start("ingest", plain.url(), "--jetstream", "s", *QUICK).wait_err("has no JetStream for us.*trying again")


def test_a_wrong_login_is_told_and_never_shown(tools, own, directory):
    server = own(login=("ann", "correct-horse"))
    wrong = tools.start("ingest", server.url("t", "ann:battery-staple@"), *QUICK)
    wrong.wait_err("refuses the credentials")
    assert "battery" not in wrong.err
    settings = tools.directory / "login.json"
    settings.write_text('{"user": "ann", "password": "correct-horse"}')
    good = subscribed(server, tools, server.url("t"), "--settings", settings)
    in_url = subscribed(server, tools, server.url("t", "ann:correct%2Dhorse@"))
    server.publish(("t", "1"))
    assert good.wait_events(1) == in_url.wait_events(1) == [{"value": 1}]


def test_tokens_and_nkeys(tools, own, directory):
    token = own(more='authorization { token: "open-sesame" }')
    wrong = tools.start("ingest", token.url("t", "sesame@"), *QUICK)
    wrong.wait_err("refuses the credentials")
    assert "sesame" not in wrong.err
    settings = tools.directory / "token.json"
    settings.write_text('{"token": "open-sesame"}')
    subscribed(token, tools, token.url("t"), "--settings", settings)
    subscribed(token, tools, token.url("t", "open-sesame@"))
    # The pair that the documentation of NATS shows.
    seed, public = "SUACSSL3UAHUDXKFSNVUZRF5UHPMWZ6BFDTJ7M6USDXIEDNPPQYYYCU3VY", "UDXU4RCSJNZOIQHZNWXHXORDPRTGNJAHAHFRGZNEEJCPQTT2M7NLCNF4"
    nkey = own(more=f"authorization {{ users: [ {{ nkey: {public} }} ] }}")
    for text in (f"{seed}\n", f"-----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n"):
        (directory / "seed").write_text(text)
        subscribed(nkey, tools, nkey.url("t"), "--nkey", "seed")
    (directory / "seed").write_text(seed[:-1] + "A")
    damaged = tools.start("ingest", nkey.url("t"), "--nkey", "seed", *QUICK)
    damaged.wait_err("seed of the NKey is damaged")
    assert seed[:20] not in damaged.err


def test_a_subject_that_is_not_allowed_is_told(tools, own):
    server = own(more='authorization { users: [ { user: ann, password: pw, permissions: { subscribe: ["open.>", "_INBOX.>"] } } ] }')
    tools.start("ingest", server.url("closed.>", "ann:pw@"), *QUICK).wait_err("(?i)the server says:.*permissions.*closed.*trying again")


def test_tls_certificates_are_verified(tools, own, directory):
    authority = tls_support.Authority(directory / "tls")
    for kind, words in (("good", None), ("expired", "expired"), ("untrusted", "local issuer"), ("of_another_host", "mismatch")):
        server = own(tls=getattr(authority, kind)())
        arguments = (server.url("t"), "--tls-ca", str(authority.ca))
        if words:
            tools.start("ingest", *arguments, *QUICK).wait_err(f"(?i)({words}).*trying again")
        else:
            subscribed(server, tools, *arguments)
            by_name = subscribed(server, tools, server.url("t", host="localhost"), "--tls-ca", str(authority.ca))
            server.publish(("t", "1"))
            assert by_name.wait_events(1) == [{"value": 1}]
    server = own(tls=authority.good("mutual"), ca=authority.ca)
    tools.start("ingest", server.url("t"), "--tls-ca", str(authority.ca), *QUICK).wait_err("trying again")
    certificate, key = authority.good("client")
    subscribed(server, tools, server.url("t"), "--tls-ca", str(authority.ca), "--tls-cert", str(certificate), "--tls-key", str(key))
    plain = own()
    tools.start("ingest", plain.url("t").replace("nats:", "tls:"), "--tls-ca", str(authority.ca), *QUICK).wait_err("has no TLS: nats:// is for that")


class Rogue:
    """A server that greets each connection and then says given bytes, or nothing, when it has heard something; it keeps it open."""

    def __init__(self, *answers, greeting=b'INFO {"server_id":"x","version":"2.9.10","proto":1,"headers":true,"max_payload":1048576}\r\n'):
        self.listener, self.answers, self.greeting, self.open = socket.create_server(("127.0.0.1", 0)), answers, greeting, []
        threading.Thread(target=self.run, daemon=True).start()

    def run(self):
        for number in range(1000):
            try:
                connection, _ = self.listener.accept()
                self.open.append(connection)
                if number or self.greeting.startswith(b"INFO {\""):
                    connection.sendall(b'INFO {"server_id":"x","version":"2.9.10","proto":1,"headers":true,"max_payload":1048576}\r\n')
                    connection.recv(10000)
                else:
                    connection.sendall(self.greeting)
                answer = self.answers[min(number, len(self.answers) - 1)]
                if answer:
                    threading.Thread(target=self.answer, args=(connection, answer), daemon=True).start()
            except OSError:
                return

    def answer(self, connection, answer):
        """What it begins with PONG comes in two parts: the rest when there is a subscription."""
        first, rest = (answer[:6], answer[6:]) if answer.startswith(b"PONG\r\n") else (answer, b"")
        try:
            connection.sendall(first)
            while heard := connection.recv(10000):
                connection.sendall((b"PONG\r\n" if b"PING" in heard else b"") + (rest if b"SUB " in heard else b""))
        except OSError:
            pass

    def url(self):
        return f"nats://127.0.0.1:{self.listener.getsockname()[1]}/t"


GOOD = b"PONG\r\nMSG t 1 1\r\n7\r\n"


@pytest.mark.parametrize("greeting", [b"HTTP/1.1 400 Bad Request\r\n\r\n" * 10, b"\xff" * 5000, b"INFO {\r\n", b"INFO []\r\n", b""], ids=["http", "binary", "cut", "list", "silent"])
def test_what_does_not_speak_nats_is_left_and_tried_again(tools, greeting):
    tool = tools.start("ingest", Rogue(b"", GOOD, greeting=greeting).url(), "--connect-timeout", "500ms", *QUICK)
    tool.wait_err("trying again")
    assert tool.wait_events(1) == [{"value": 7}]


@pytest.mark.parametrize("answer", [b"-ERR 'no'\r\n", b"PONG\r\nMSG t\r\n",
                                    b"PONG\r\n" + b"\x00" * 100], ids=["error", "short", "binary"])
def test_servers_that_keep_to_nothing_are_left_and_tried_again(tools, answer):
    tool = tools.start("ingest", Rogue(answer, GOOD).url(), "--connect-timeout", "500ms", *QUICK)
    tool.wait_err("trying again")
    assert tool.wait_events(1) == [{"value": 7}]


@pytest.mark.parametrize("silent", [1, 3])
def test_a_server_that_falls_silent_while_we_connect_is_told_and_tried_again(tools, silent):
    """After its greeting: libnats alone would read on for ever, and take a whole core for that."""
    tool = tools.start("ingest", Rogue(*[b""] * silent, GOOD).url(), "--connect-timeout", "500ms", *QUICK)
    tool.wait_err("does not answer in the time that --connect-timeout allows")
    assert tool.wait_events(1) == [{"value": 7}]


@pytest.mark.parametrize("arguments, words", [
    (("nats://h",), "which subject"), (("nats:h/t",), "looks like nats://"), (("nats:///t",), "looks like"), (("nats://h:0/t",), "port"),
    (("nats://h/a..b",), "empty token"), (("nats://h/a.>.b",), "further tokens: last"), (("nats://h/a%20b",), "no blanks"),
    (("nats://h", "--jetstream", "a.b"), "without blanks"), (("nats://h/a", "--jetstream", "s", "--subject", "b"), "one subject at most"),
    (("nats://h/t", "--consumer", "c"), "--consumer needs --jetstream"), (("nats://h", "--jetstream", "s", "--queue", "q"), "--queue goes without --jetstream"),
    (("nats://h", "--jetstream", "s", "--start", "soon"), "takes all, new, last"), (("nats://h/t", "--tls-ca", "x"), r"nats\+tls://"),
    (("nats://h/t", "--password", "sesame"), "needs --user"), (("nats://u:sesame@h/t", "--creds", "f"), "one way to log in"),
    (("nats://h/t", "--subject-fields", "a,-,a"), "has the name a already"), (("nats://h/t?quue=1",), "did you mean"),
    (("nats://h/t", "--retry-min", "2m"), "below"), (("nats://a b/t",), "character that none has"), (("nats://h/t", "--server", "u:p@h2"), "looks like HOST:PORT")])
def test_mistakes_are_told_before_anything_starts(tools, arguments, words):
    done = tools.run("ingest", *arguments, "--check")
    assert done.status == 64 and support.re.search(words, done.err), done.err
    assert "sesame" not in done.err


def test_state_of_another_stream_or_consumer_is_refused(tools, shared, directory):
    for stream in ("one", "two"):
        shared.stream(stream)
    runs = Runs(tools, directory, shared, "--jetstream", "one")
    tool = runs.start()
    shared.store(("one.x", '{"n":1}'))
    runs.wait(1, tool)
    assert tool.terminate() == 0, tool.err
    other = tools.run("ingest", shared.url(), "--jetstream", "two", "--state", "state", "--to", f"@{runs.link}")
    assert other.status == 1 and "it was made for the stream one" in other.err
    other = runs.start("--consumer", "mine")
    assert other.wait() == 1 and "it was made without --consumer" in other.err


def test_another_server_of_the_cluster_is_tried(tools, shared):
    gone = support.free_port()
    tool = subscribed(shared, tools, f"nats://127.0.0.1:{gone}/cluster.>", "--server", f"127.0.0.1:{shared.port}")
    shared.publish(("cluster.x", "1"))
    assert tool.wait_events(1) == [{"value": 1}]


def test_the_ready_pipeline_runs(control, directory, shared):
    content = json.loads((support.ROOT / "pipelines/nats.json").read_text())
    content["server"] = {"port": 0}
    content["data_sources"][0]["url"] = shared.url("orders.>")
    (directory / "config.json").write_text(json.dumps(content))
    shared.stream("ORDERS", "orders.>")
    shared.store(*((f"orders.r{i % 2}", json.dumps({"amount": 100 * i})) for i in range(100)))
    control.good("start")
    out = directory / "data/orders.ndjson"
    support.wait_for(lambda: out.exists() and out.read_bytes().count(b"\n") >= 100, "the orders", 40)
    control.good("stop")
    assert [(e["region"], e["amount"], e["number"]) for e in support.lines_of(out)] == [(f"r{i % 2}", 100 * i, i + 1) for i in range(100)]
