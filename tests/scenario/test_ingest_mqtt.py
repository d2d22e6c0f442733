"""Source mqtt: against a private mosquitto that is stopped and started as it comes, and against servers that keep to nothing."""

import contextlib
import json
import random
import signal
import socket
import threading
import time

import msgpack
import pytest

import support
import tls_support
from instance import control  # noqa: F401
from mqtt_support import Mosquitto, Runs
from runs_support import QUICK, made_and_closed


@pytest.fixture(scope="module")
def shared():
    server = Mosquitto()
    yield server
    server.close()


@pytest.fixture
def own():
    yield from made_and_closed(Mosquitto)


def subscribed(server, tools, *arguments, **how):
    """ingest, once the server has its subscription."""
    before = server.count("Sending SUBACK")
    tool = tools.start("ingest", *arguments, *QUICK, **how)
    support.wait_for(lambda: server.count("Sending SUBACK") > before, lambda: f"a subscription; {tool.err}")
    return tool


@pytest.mark.parametrize("protocol", ["3.1.1", "5"])
@pytest.mark.parametrize("qos", [0, 1, 2])
def test_messages_become_events(tools, shared, protocol, qos):
    tool = subscribed(shared, tools, shared.url(f"plain/{protocol}/{qos}/#"), "--protocol", protocol, "--qos", str(qos))
    shared.publish(*((f"plain/{protocol}/{qos}/x", f'{{"n": {i}}}') for i in range(300)), qos=2)
    assert tool.wait_events(300) == [{"n": i} for i in range(300)]
    assert tool.terminate() == 0


PAYLOADS = [
    ((), b'{"a": 1}', [{"a": 1}]), ((), b'{\n "a": {"b": [1]}\n}\n', [{"a": {"b": [1]}}]), ((), b'[{"a": 1}, {"a": 2}, 3]', [{"a": 1}, {"a": 2}, {"value": 3}]),
    ((), b"21.5", [{"value": 21.5}]), ((), b"-9223372036854775808", [{"value": -9223372036854775808}]), ((), b"true", [{"value": True}]),
    ((), b"null", [{"value": None}]), ((), '"grün"'.encode(), [{"value": "grün"}]), ((), b"[]", []), ((), b"", []),
    ((), b'\xef\xbb\xbf{"a": 1}', [{"a": 1}]), ((), b"\xef\xbb\xbf7", [{"value": 7}]), ((), b'\xef\xbb\xbf{"a": 1}\n{"a": 2}', [{"a": 1}, {"a": 2}]),
    (("--format", "lines"), b"on", [{"message": "on"}]), (("--format", "lines"), b"a\nb\n", [{"message": "a"}, {"message": "b"}]),
    (("--format", "csv"), b"a,b\n1,x\n2,y\n", [{"a": 1, "b": "x"}, {"a": 2, "b": "y"}]),
    (("--format", "csv", "--csv-no-header", "--csv-columns", "t,h"), b"20.5,40", [{"t": 20.5, "h": 40}]),
    (("--format", "logfmt"), b"level=info n=5", [{"level": "info", "n": 5}]),
    (("--format", "msgpack"), msgpack.packb({"a": [1, 2.5], "b": None}), [{"a": [1, 2.5], "b": None}]),
    (("--time", "ts"), b'{"ts": "2026-01-02T03:04:05Z", "n": 1}', [{"@timestamp": "2026-01-02T03:04:05Z", "ts": "2026-01-02T03:04:05Z", "n": 1}]),
]


def test_payloads_of_every_format(tools, shared):
    groups = {}
    for options, payload, expected in PAYLOADS:
        groups.setdefault(options, []).append((payload, expected))
    for number, (options, messages) in enumerate(groups.items()):
        tool = subscribed(shared, tools, shared.url(f"format/{number}"), *options)
        shared.publish(*((f"format/{number}", payload) for payload, _ in messages))
        expected = [event for _, events in messages for event in events]
        found = tool.wait_events(len(expected))
        if "@timestamp" not in expected[0]:
            for event in found:
                event.pop("@timestamp", None)
        assert found == expected, tool.err
        assert tool.terminate() == 0


def test_garbage_is_dead_letters_and_the_stream_goes_on(tools, shared, directory):
    tool = subscribed(shared, tools, shared.url("garbage/#"), "--dead-letter", "dead", "--topic-field", "topic")
    bad = [b"{", b"\xff\xfe\x00", b'{"a": 1} x', b'{"a": "\xff"}', b"nonsense", b"[1,", b"\x00" * 1000, b'{"a":"' + b"x" * (1 << 20) + b'"}']
    shared.publish(*((f"garbage/{i}", payload) for i, payload in enumerate(bad)), ("garbage/end", '{"ok": true}'))
    assert tool.wait_events(1) == [{"ok": True, "topic": "garbage/end"}]
    letters = support.lines_of(directory / "dead")
    assert [letter["place"].split(":")[0] for letter in letters] == [f"garbage/{i}" for i in range(len(bad))]


def test_topics_become_fields(tools, shared):
    tool = subscribed(shared, tools, shared.url("berlin/#"), "--topic", "rome/+/+", "--topic-fields", "site,device,-,kind", "--topic-field", "topic",
                      "--retained-field", "old")
    wide = {f"k{i}": i for i in range(15)}
    shared.publish(("berlin/d1", '{"n": 1}'), ("rome/d2/t", '{"device": "mine", "n": 2}'), ("rome/d3", "9"), ("berlin/d4/x/temp/more", json.dumps(wide)),
                   ("berlin/empty", b""))
    base = {"old": False}
    assert tool.wait_events(4) == [
        {"n": 1, "site": "berlin", "device": "d1", "topic": "berlin/d1", **base},
        {"n": 2, "site": "rome", "device": "d2", "topic": "rome/d2/t", **base},
        {**wide, "site": "berlin", "device": "d4", "kind": "temp", "topic": "berlin/d4/x/temp/more", **base},
        {"site": "berlin", "device": "empty", "topic": "berlin/empty", **base}]


@pytest.mark.parametrize("protocol", ["3.1.1", "5"])
def test_retained_messages_come_once_and_are_told_apart_or_left_out(tools, shared, directory, protocol):
    topic = f"kept/{protocol}"
    shared.publish((topic, '{"n": 0}'), retain=True, qos=2)   # exactly once: with less it may come again when nothing is confirmed before the stop
    runs = Runs(tools, directory, shared, topic, "--protocol", protocol, "--retained-field", "old", "--qos", "2")
    tool = runs.first()
    without = subscribed(shared, tools, shared.url(topic), "--protocol", protocol, "--retained=no")
    runs.wait(1, tool)
    shared.publish((topic, '{"n": 1}'), qos=2)
    assert without.wait_events(1) == [{"n": 1}]
    runs.wait(2, tool)
    assert tool.terminate() == 0
    shared.publish((topic, '{"n": 2}'), qos=2)
    assert runs.wait(3, runs.start()) == [{"n": 0, "old": True}, {"n": 1, "old": False}, {"n": 2, "old": False}]


def test_messages_published_while_it_is_away_come_when_it_is_back(tools, shared, directory):
    runs = Runs(tools, directory, shared, "away/#")
    tool = runs.first()
    assert tool.terminate() == 0
    shared.publish(*(("away/x", str(i)) for i in range(500)))
    tool = runs.start()
    assert runs.wait(500, tool) == [{"value": i} for i in range(500)]
    assert "no session" not in tool.err


def publishing(server, topic, count, qos, pause):
    def run():
        publisher = server.publisher()
        for first in range(0, count, 50):
            publisher.publish(*((topic, f'{{"n":{i}}}') for i in range(first, min(first + 50, count))), qos=qos)
            time.sleep(pause)
        publisher.close()
    thread = threading.Thread(target=run)
    thread.start()
    return thread


@pytest.mark.parametrize("qos, protocol", [(1, "3.1.1"), (2, "3.1.1"), (1, "5"), (2, "5")])
def test_nothing_is_lost_over_kills_and_with_qos_2_nothing_comes_twice(tools, shared, directory, qos, protocol):
    topic, count, rng = f"kill/{protocol}/{qos}", 1500, random.Random(qos)
    runs = Runs(tools, directory, shared, topic, "--qos", str(qos), "--protocol", protocol, "--batch-size", "7", "--sync-interval", "5ms")
    tool = runs.first()
    thread, kills = publishing(shared, topic, count, qos, 0.02), 0
    while thread.is_alive() or kills < 3:
        time.sleep(rng.uniform(0.02, 0.25))
        tool.kill()
        kills += 1
        tool = runs.start()
    numbers = lambda: [event["n"] for event in runs.receiver.events]
    support.wait_for(lambda: len(set(numbers())) == count, lambda: f"all; {len(set(numbers()))} have come; {tool.err}", 40)
    shared.publish((topic, f'{{"n":{count}}}'), qos=qos)
    support.wait_for(lambda: numbers()[-1] == count, lambda: f"the last; {tool.err}")
    found = numbers()[:-1]
    assert list(dict.fromkeys(found)) == list(range(count))
    assert qos == 1 or len(found) == count


@pytest.mark.parametrize("qos", [1, 2])
def test_a_message_of_many_events_that_was_cut_by_a_kill_goes_on_where_it_was(tools, shared, directory, qos):
    runs = Runs(tools, directory, shared, f"many/{qos}", "--qos", str(qos), "--max-record", "64KiB")
    tool = runs.first("--spool-limit", "1MiB")
    runs.receiver.signal(signal.SIGSTOP)
    many = [{"n": i, "text": "x" * 200} for i in range(20000)]
    shared.publish((f"many/{qos}", json.dumps(many)), (f"many/{qos}", '{"n": 20000}'))
    support.wait_for(lambda: runs.log_size > 800_000, lambda: f"a full log; {tool.err}")
    tool.kill()
    runs.receiver.signal(signal.SIGCONT)
    tool = runs.start()
    assert [event["n"] for event in runs.wait(20001, tool)] == list(range(20001))


@pytest.mark.parametrize("qos, word", [(1, "PUBACK"), (2, "PUBREC")])
def test_what_came_is_acknowledged_before_an_orderly_end(tools, own, directory, qos, word):
    server = own()
    runs = Runs(tools, directory, server, "end/#", "--qos", str(qos))
    assert runs.first().terminate() == 0
    tool = runs.start("--drain-limit", "40s", "--sync-interval", "1m")    # so nothing is durable by itself
    server.publish(*(("end/x", str(i)) for i in range(10)), qos=qos)
    runs.wait(10, tool)
    assert server.count(f"Received {word} from ingest") == 0
    assert tool.terminate() == 0
    support.wait_for(lambda: server.count(f"Received {word} from ingest") == 10, lambda: f"acknowledgements; {server.log}")
    server.publish(("end/x", "10"))
    assert runs.wait(11, runs.start()) == [{"value": i} for i in range(11)]


@pytest.mark.parametrize("qos", [1, 2])
def test_a_full_log_holds_the_server_back_and_nothing_is_lost(tools, shared, directory, qos):
    runs = Runs(tools, directory, shared, f"full/{qos}", "--qos", str(qos))
    tool = runs.first("--spool-limit", "1MiB")
    runs.receiver.signal(signal.SIGSTOP)
    thread = publishing(shared, f"full/{qos}", 3000, 1, 0)
    shared.publish(*((f"full/{qos}", json.dumps({"n": -1, "text": "x" * 60000})) for _ in range(40)))
    support.wait_for(lambda: runs.log_size > 800_000, lambda: f"a full log; {tool.err}")
    thread.join()
    runs.receiver.signal(signal.SIGCONT)
    numbers = [event["n"] for event in runs.wait(3040, tool)]
    assert [n for n in numbers if n >= 0] == list(range(3000)) and numbers.count(-1) == 40


def test_the_server_may_be_away_at_start_and_go_at_any_time(tools, own, directory):
    server = own(start=False, max_inflight_messages=1000)     # what is beyond that it may forget when it is stopped
    runs = Runs(tools, directory, server, "t", "--qos", "2")
    tool = runs.start()
    tool.wait_err("trying again")
    server.start()
    support.wait_for(lambda: server.count("Sending SUBACK"), lambda: tool.err)
    for turn in range(3):
        server.publish(*(("t", str(turn * 100 + i)) for i in range(100)), qos=2)
        runs.wait(turn * 100 + 100, tool)
        server.stop()
        server.start()
    server.publish(("t", "300"), qos=2)
    assert [event["value"] for event in runs.wait(301, tool)] == list(range(301))
    assert "data arrives again" in tool.err


def test_a_session_that_the_server_has_lost_is_told_and_made_again(tools, own, directory):
    server = own(persistence="false")
    runs = Runs(tools, directory, server, "t", "--qos", "2")
    tool = runs.first()
    server.publish(*(("t", str(i)) for i in range(30)))
    runs.wait(30, tool)
    server.stop(hard=True)
    server.start()
    tool.wait_err("no session for client id ingest[0-9a-f]{16} any more")
    support.wait_for(lambda: server.count("Sending SUBACK") >= 2, lambda: tool.err)
    server.publish(*(("t", str(i)) for i in range(30, 60)))    # under packet identifiers that the lost session had used as well
    assert [event["value"] for event in runs.wait(60, tool)] == list(range(60))


def test_topics_may_change_between_runs(tools, shared, directory):
    runs = Runs(tools, directory, shared, "change/a", "--topic", "change/b")
    assert runs.first().terminate() == 0
    runs.arguments = tuple("change/c" if argument == "change/b" else argument for argument in runs.arguments)
    tool = runs.first()
    shared.publish(("change/a", "1"), ("change/b", "2"), ("change/c", "3"))
    assert [event["value"] for event in runs.wait(2, tool)] == [1, 3]


def test_shared_subscriptions_share(tools, shared):
    both = [subscribed(shared, tools, shared.url("$share/g/jobs/#")) for _ in range(2)]
    shared.publish(*(("jobs/x", str(i)) for i in range(200)))
    values = lambda: sorted(event["value"] for tool in both for event in tool.events)
    support.wait_for(lambda: len(values()) == 200, lambda: str(len(values())))
    assert values() == list(range(200)) and all(tool.events for tool in both)


def test_a_sample_takes_nothing_away(tools, shared, directory):
    runs = Runs(tools, directory, shared, "$share/g/sample/#")
    tool = runs.first()
    sample = subscribed(shared, tools, *runs.arguments, "--sample", "5")
    shared.publish(*(("sample/x", str(i)) for i in range(5)))
    assert sample.wait() == 0 and [event["value"] for event in sample.events] == list(range(5))
    assert [event["value"] for event in runs.wait(5, tool)] == list(range(5))


def test_two_with_one_client_id_are_told_so(tools, shared):
    arguments = (shared.url("same"), "--client-id", "same", "--protocol", "5")
    first = subscribed(shared, tools, *arguments)
    tools.start("ingest", *arguments, *QUICK)
    first.wait_err("has another client the client id same")


def test_a_server_of_5_says_why_it_leaves(tools):
    welcome = bytes([0x20, 6, 0, 0, 3, 0x13, 0, 30, 0x90, 4, 0, 1, 0, 1])
    server = Rogue(welcome + bytes([0xE0, 2, 0x8E, 0]), welcome + bytes([0xE0, 7, 0x97, 5, 0x1F, 0, 2]) + b"no",
                   welcome + bytes([0x30, 5, 0, 1]) + b"t" + bytes([0]) + b"7")
    tool = tools.start("ingest", server.url(), "--protocol", "5", *QUICK)
    assert tool.wait_events(1) == [{"value": 7}]
    assert "another client has taken the session over" in tool.err and "quota is used up (code 151: no)" in tool.err


def test_a_wrong_password_is_told_and_never_shown(tools, own):
    server = own(login=("ann", "correct-horse"))
    for protocol in ("3.1.1", "5"):
        wrong = tools.start("ingest", server.url("t", "ann:battery-staple@"), "--protocol", protocol, *QUICK)
        wrong.wait_err("other credentials")
        assert "battery" not in wrong.err
    settings = tools.directory / "login.json"
    settings.write_text('{"user": "ann", "password": "correct-horse"}')
    good = subscribed(server, tools, server.url("t"), "--settings", settings)
    server.publish(("t", "1"))
    assert good.wait_events(1) == [{"value": 1}]
    in_url = subscribed(server, tools, server.url("t", "ann:correct%2Dhorse@"))
    server.publish(("t", "2"))
    assert in_url.wait_events(1) == [{"value": 2}]


def test_tls_certificates_are_verified(tools, own, directory):
    authority = tls_support.Authority(directory / "tls")
    for kind, host, words in (("good", "127.0.0.1", None), ("expired", "127.0.0.1", "expired"), ("untrusted", "127.0.0.1", "self-signed|unable to get"),
                              ("of_another_host", "127.0.0.1", "127.0.0.1")):
        server = own(tls=getattr(authority, kind)())
        arguments = (server.url("t", host=host), "--tls-ca", str(authority.ca))
        if words:
            tool = tools.start("ingest", *arguments, *QUICK)
            tool.wait_err(f"(?i)({words}).*trying again")
            assert server.count("Sending CONNACK") == 0
        else:
            subscribed(server, tools, *arguments)
    server = own(tls=authority.good("mutual"), ca=authority.ca)
    refused = tools.start("ingest", server.url("t"), "--tls-ca", str(authority.ca), *QUICK)
    refused.wait_err("trying again")
    certificate, key = authority.good("client")
    subscribed(server, tools, server.url("t"), "--tls-ca", str(authority.ca), "--tls-cert", str(certificate), "--tls-key", str(key))


def test_many_messages_over_tls_arrive_in_order(tools, own, directory):
    authority = tls_support.Authority(directory / "tls")
    plain = own()
    port = support.free_port()
    certificate, key = authority.good()
    with open(plain.home / "conf", "a") as file:
        file.write(f"listener {port} 127.0.0.1\ncertfile {certificate}\nkeyfile {key}\n")
    plain.stop()
    plain.start()
    tool = subscribed(plain, tools, f"mqtts://localhost:{port}/t", "--tls-ca", str(authority.ca), "--qos", "2")
    plain.publish(*(("t", json.dumps({"n": i, "text": "y" * (i * 13 % 5000)})) for i in range(2000)))
    assert [event["n"] for event in tool.wait_events(2000)] == list(range(2000))


class Rogue:
    """A server that answers each connection with given bytes, and keeps it open; flood: bytes that the first one gets again and again."""

    def __init__(self, *answers, flood=None):
        self.listener, self.answers, self.flood, self.open = socket.create_server(("127.0.0.1", 0)), answers, flood, []
        threading.Thread(target=self.run, daemon=True).start()

    def run(self):
        for number in range(1000):
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            self.open.append(connection)
            connection.recv(1000)
            with contextlib.suppress(OSError):
                connection.sendall(self.answers[min(number, len(self.answers) - 1)])
                while self.flood and number == 0:
                    connection.sendall(self.flood)

    def url(self):
        return f"mqtt://127.0.0.1:{self.listener.getsockname()[1]}/t"


WELCOME = bytes([0x20, 2, 0, 0, 0x90, 3, 0, 1, 1])


@pytest.mark.parametrize("answer, words", [
    (b"HTTP/1.1 400 Bad Request\r\n\r\n" * 10, "does not (speak MQTT|belong here|keep to)|too large|trying again"), (b"\xff" * 100, "does not speak MQTT"),
    (bytes([0x20, 2, 0, 1]), "version of MQTT"), (bytes([0x20, 2, 0, 3]), "not available"), (bytes([0x20, 2, 0, 99]), "code 99"),
    (bytes([0x30, 5, 0, 1]) + b"txx", "does not keep"), (WELCOME + bytes([0x30, 3, 0, 9]) + b"t", "malformed"),
    (WELCOME + bytes([0x32, 5, 0, 1]) + b"t" + bytes([0, 0]), "malformed"), (WELCOME + bytes([0x36, 5, 0, 1]) + b"t" + bytes([0, 1]), "malformed"),
    (WELCOME + bytes([0x30, 4, 0, 1]) + b"#x", "malformed"), (WELCOME + bytes([0xF0, 0]), "does not belong"), (WELCOME + bytes([0x10, 0]), "does not belong"),
    (bytes([0x20, 2, 0, 0, 0x90, 3, 0, 1, 0x80]), "access rules"), (WELCOME + bytes([0x30, 0xFF, 0xFF, 0xFF, 0xFF, 1]), "does not speak MQTT")])
def test_servers_that_keep_to_nothing_are_left_and_tried_again(tools, answer, words):
    good = WELCOME + bytes([0x30, 4, 0, 1]) + b"t7"
    tool = tools.start("ingest", Rogue(answer, good).url(), *QUICK)
    tool.wait_err(words)
    assert tool.wait_events(1) == [{"value": 7}]


def test_a_server_that_takes_no_acknowledgement_is_not_read_without_end(tools):
    """It goes on sending messages, and reads nothing: what waits for it has a bound, and it is left in the end."""
    released = bytes([0x62, 2, 0, 1])
    server = Rogue(WELCOME, WELCOME + bytes([0x30, 4, 0, 1]) + b"t7", flood=released * 20000)
    tool = tools.start("ingest", server.url(), *QUICK, "--keepalive", "1s")
    assert tool.wait_events(1) == [{"value": 7}]
    tool.wait_err("has not answered for the time of --keepalive; trying again")
    assert tool.terminate() == 0


def test_a_message_of_more_than_16_mib_is_a_dead_letter(tools, directory):
    size = 17 << 20
    body = bytes([0, 1]) + b"t" + bytes([0, 1])
    length = len(body) + size
    head = bytes([0x32, length & 127 | 128, length >> 7 & 127 | 128, length >> 14 & 127 | 128, length >> 21])
    tool = tools.start("ingest", Rogue(WELCOME + head + body + b"x" * size + bytes([0x30, 4, 0, 1]) + b"t7").url(), "--dead-letter", "dead", *QUICK)
    assert tool.wait_events(1) == [{"value": 7}]
    assert "larger than 16 MiB" in support.lines_of(directory / "dead")[0]["reason"]


def test_a_silent_server_is_left(tools):
    tool = tools.start("ingest", Rogue(WELCOME + bytes([0x30, 4, 0, 1]) + b"t7", WELCOME + bytes([0x30, 4, 0, 1]) + b"t8").url(), "--keepalive", "1s", *QUICK)
    assert tool.wait_events(2) == [{"value": 7}, {"value": 8}]
    assert "has not answered" in tool.err


def test_a_connection_without_messages_is_kept_alive(tools, shared):
    tool = subscribed(shared, tools, shared.url("quiet"), "--keepalive", "2s")
    before = shared.count("Sending PINGRESP")
    support.wait_for(lambda: shared.count("Sending PINGRESP") >= before + 3, "answers to pings")
    shared.publish(("quiet", "1"))
    assert tool.wait_events(1) == [{"value": 1}] and "trying again" not in tool.err


@pytest.mark.parametrize("arguments, words", [
    (("mqtt://h",), "which topic"), (("mqtt:h/t",), "looks like mqtt://"), (("mqtt:///t",), "looks like"), (("mqtt://h:0/t",), "port"), (("mqtt://h:x/t",), "port"),
    (("mqtt://h/a/#/b",), "alone, and last"), (("mqtt://h/a+/b",), "a whole level"), (("mqtt://h/$share/g",), r"\$share/GROUP/TOPIC"),
    (("mqtt://h/t", "--qos", "3"), "qos"), (("mqtt://h/t", "--protocol", "4"), "protocol"), (("mqtt://h/t", "--tls-ca", "x"), "mqtts://"),
    (("mqtt://h/t", "--password", "sesame"), "needs --user"), (("mqtt://h/t", "--topic-fields", "a,-,a"), "has the name a already"),
    (("mqtt://h/t", "--topic-fields", "a,b", "--topic-field", "b"), "has the name b already"), (("mqtt://h/t?qoz=1",), "did you mean"),
    (("mqtt://h/t", "--retry-min", "2m"), "below"), (("mqtt://a b/t",), "character that none has")])
def test_mistakes_are_told_before_anything_starts(tools, arguments, words):
    done = tools.run("ingest", *arguments, "--check")
    assert done.status == 64 and support.re.search(words, done.err), done.err
    assert "sesame" not in done.err


def test_state_of_another_server_or_client_is_refused(tools, shared, directory):
    runs = Runs(tools, directory, shared, "t")
    assert runs.first().terminate() == 0
    other = tools.run("ingest", "mqtt://127.0.0.1:1/t", "--state", "state", "--to", f"@{runs.link}")
    assert other.status == 1 and "it was made for mqtt://127.0.0.1" in other.err
    other = runs.start("--client-id", "mine")
    assert other.wait() == 1 and "made for the client id ingest" in other.err


def test_the_ready_pipeline_runs(control, directory, shared):
    content = json.loads((support.ROOT / "pipelines/mqtt.json").read_text())
    content["server"] = {"port": 0}
    content["data_sources"][0]["url"] = shared.url("plant/+/+/#")
    (directory / "config.json").write_text(json.dumps(content))
    before = shared.count("Sending SUBACK")
    control.good("start")
    support.wait_for(lambda: shared.count("Sending SUBACK") > before, "the subscription", 40)
    shared.publish(*((f"plant/hall1/press{i % 2}/temperature", str(20 + i)) for i in range(100)))
    out = directory / "data/readings.ndjson"
    support.wait_for(lambda: out.exists() and out.read_bytes().count(b"\n") >= 100, "the readings", 40)
    events = support.lines_of(out)
    assert [(e["site"], e["device"], e["measure"], e["value"]) for e in events] == [("hall1", f"press{i % 2}", "temperature", 20 + i) for i in range(100)]
    control.good("stop")
