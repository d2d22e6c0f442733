"""Source kafka: against librdkafka's mock cluster, whose brokers go away and come back."""

import json
import random
import signal
import threading
import time

import pytest

import listen_support
import runs_support
import support
import tls_support
from instance import control  # noqa: F401
from kafka_support import Kafka, TlsFront
from listen_support import Clogged
from runs_support import QUICK, made_and_closed

GROUP = ("--group", "g", "--set", "session.timeout.ms=3000", "--set", "heartbeat.interval.ms=300")


@pytest.fixture
def kafka():
    yield from made_and_closed(Kafka)


def plain(events):
    return [{name: value for name, value in event.items() if name != "@timestamp"} for event in events]


def numbers(tool):
    return [event["n"] for event in tool.events]


def test_messages_become_events(tools, kafka):
    cluster = kafka(t=1)
    cluster.put("t", (b"k1", b'{"a": 1}'), (None, b'[{"a": 2}, 3]'), (b"\xff", b"21.5"), (b"gone", None), (b"bad", b"{"), (b"k2", b'{"a": 4}'))
    tool = tools.start("ingest", cluster.url("t"), "--key-field", "key", "--topic-field", "topic", "--partition-field", "partition", "--offset-field", "offset",
                       "--headers-field", "headers", "--dead-letter", "dead", *QUICK)
    place = lambda key, offset: {"key": key, "topic": "t", "partition": 0, "offset": offset, "headers": {"h1": "x", "h2": None}, "@timestamp": "2023-11-14T22:13:20.123Z"}
    assert tool.wait_events(6) == [{"a": 1, **place("k1", 0)}, {"a": 2, **place(None, 1)}, {"value": 3, **place(None, 1)}, {"value": 21.5, **place("/w==", 2)},
                                   place("gone", 3), {"a": 4, **place("k2", 5)}]
    letter, = support.lines_of(tools.directory / "dead")
    assert letter["place"] == "t/0/4:1"
    assert tool.terminate() == 0


def test_payloads_of_other_formats(tools, kafka):
    cluster = kafka(t=1)
    cluster.put("t", (None, b"x,y\n1,a\n2,b\n"))
    tool = tools.start("ingest", cluster.url("t"), "--format", "csv", "--message-time=no", *QUICK)
    assert tool.wait_events(2) == [{"x": 1, "y": "a"}, {"x": 2, "y": "b"}]


@pytest.mark.parametrize("group", [(), GROUP])
def test_all_partitions_of_several_topics(tools, kafka, group):
    cluster = kafka(a=3, b=1)
    for partition in range(3):
        cluster.add("a", 500, partition * 500, partition)
    cluster.add("b", 500, 1500)
    tool = tools.start("ingest", cluster.url("a"), "--topic", "b", *group, *QUICK)
    tool.wait_events(2000, 60)
    assert sorted(numbers(tool)) == list(range(2000))
    assert tool.terminate() == 0


def test_it_may_begin_with_what_is_new(tools, kafka):
    cluster = kafka(t=1)
    cluster.add("t", 100)
    tool = tools.start("ingest", cluster.url("t"), "--begin", "new", "--state", "state", *QUICK)
    sent, state = 100, tools.directory / "state"
    while not tool.events:                             # it says nothing when it has found the end
        cluster.add("t", 1, sent)
        sent += 1
    tool.wait_events(1)
    first = numbers(tool)[0]
    support.wait_for(lambda: numbers(tool)[-1] == sent - 1, lambda: tool.err)
    assert first >= 100 and numbers(tool) == list(range(first, sent)) and state.exists()


class Runs(runs_support.Runs):
    def __init__(self, tools, directory, cluster, topic, *arguments, **how):
        super().__init__(tools, directory, cluster.url(topic), *arguments, **how)


def adding(cluster, count, pause):
    def run():
        for first in range(0, count, 50):
            cluster.add("t", 50, first, first // 50 % 2)
            time.sleep(pause)
    thread = threading.Thread(target=run)
    thread.start()
    return thread


def in_order(found, count):
    """All of them once, and those of each partition in order."""
    assert sorted(found) == list(range(count))
    for partition in range(2):
        part = [n for n in found if n // 50 % 2 == partition]
        assert part == sorted(part)


def test_nothing_is_lost_or_doubled_over_kills(tools, kafka, directory):
    cluster, count, rng = kafka(t=2), 3000, random.Random(1)
    runs = Runs(tools, directory, cluster, "t", "--batch-size", "7", "--sync-interval", "5ms")
    tool = runs.start()
    thread, kills = adding(cluster, count, 0.02), 0
    while thread.is_alive() or kills < 3:
        time.sleep(rng.uniform(0.05, 0.4))
        tool.kill()
        kills += 1
        tool = runs.start()
    runs.wait(count, tool)
    in_order(runs.numbers, count)


def test_nothing_is_lost_or_doubled_over_kills_in_a_group(tools, kafka, directory):
    cluster, count = kafka(t=2), 3000
    runs = Runs(tools, directory, cluster, "t", *GROUP, "--batch-size", "7", "--sync-interval", "5ms")
    tool = runs.start()
    thread = adding(cluster, count, 0.01)
    for share in (0.2, 0.5):
        runs.wait(int(count * share), tool)
        tool.kill()
        tool = runs.start()
    thread.join()
    runs.wait(count, tool)
    in_order(runs.numbers, count)


def test_a_message_of_many_events_that_was_cut_by_a_kill_goes_on_where_it_was(tools, kafka, directory):
    cluster = kafka(t=1)
    runs = Runs(tools, directory, cluster, "t", "--set", "fetch.message.max.bytes=20000000")
    tool = runs.start("--spool-limit", "1MiB")
    runs.receiver.signal(signal.SIGSTOP)
    for first in range(0, 20000, 1000):
        cluster.put("t", (None, json.dumps([{"n": i, "text": "x" * 200} for i in range(first, first + 1000)]).encode()))
    support.wait_for(lambda: runs.log_size > 800_000, lambda: f"a full log; {tool.err}")
    tool.kill()
    runs.receiver.signal(signal.SIGCONT)
    tool = runs.start()
    runs.wait(20000, tool)
    assert runs.numbers == list(range(20000))


def test_the_brokers_may_be_away_at_start_and_go_at_any_time(tools, kafka, directory):
    cluster = kafka(t=1)
    cluster.tell("down")
    runs = Runs(tools, directory, cluster, "t")
    tool = runs.start()
    tool.wait_err("trying again")
    for turn in range(3):
        cluster.tell("up")
        cluster.add("t", 100, turn * 100)
        runs.wait(turn * 100 + 100, tool)
        cluster.tell("down")
    cluster.tell("up")
    cluster.add("t", 1, 300)
    runs.wait(301, tool)
    assert runs.numbers == list(range(301))
    tool.wait_err("data arrives again")


@pytest.mark.parametrize("options", [(), GROUP])
def test_it_leaves_though_no_broker_answers(tools, kafka, options):
    cluster = kafka(t=1)
    cluster.tell("down")
    tool = tools.start("ingest", cluster.url("t"), "--connect-timeout", "1h", *options, *QUICK)
    tool.wait_err("trying again")
    assert tool.terminate() == 0
    cluster.tell("up")
    cluster.add("t", 1)
    tool = tools.start("ingest", cluster.url("t"), "--connect-timeout", "1h", *options, *QUICK)
    tool.wait_events(1)
    cluster.tell("down")
    tool.wait_err("trying again")
    assert tool.terminate() == 0


@pytest.mark.parametrize("strategy", ["range", "cooperative-sticky"])
def test_partitions_leave_and_come_without_loss_or_repeat(tools, kafka, directory, strategy):
    cluster = kafka(t=2)
    both = [Runs(tools, directory, cluster, "t", *GROUP, "--set", f"partition.assignment.strategy={strategy}", "--sync-interval", "5ms", state=f"state{i}") for i in range(2)]
    found = lambda: sorted(both[0].numbers + both[1].numbers)
    sent = 0

    def send():
        nonlocal sent
        for partition in range(2):
            cluster.add("t", 50, sent, partition)
            sent += 50
        support.wait_for(lambda: len(found()) >= sent, lambda: f"{len(found())} of {sent}; {first.err[-2000:]}", 60)

    def wait_parts(tool, count, words="is read from"):
        support.wait_for(lambda: len(support.re.findall(rf"partition t/. {words}", tool.err)) >= count, lambda: f"{count} {words}; {tool.err[-2000:]}", 60)
    first = both[0].start("--log-level", "debug")
    send()
    for partition in range(2):        # the mock takes no commit while the group is made anew, as Kafka does
        first.wait_err(f"the group knows of t/{partition} up to offset 50")
    second = both[1].start("--log-level", "debug")
    wait_parts(second, 1)
    wait_parts(first, {"range": 3, "cooperative-sticky": 2}[strategy])
    for turn in range(3):
        send()
    assert found() == list(range(sent)) and len(both[1].numbers) == 150
    assert second.terminate() == 0
    wait_parts(first, {"range": 5, "cooperative-sticky": 3}[strategy])
    send()
    assert found() == list(range(sent)) and len(both[1].numbers) == 150
    assert first.terminate() == 0


def test_a_full_log_holds_fetching_back_and_nothing_is_lost(tools, kafka, directory):
    cluster = kafka(t=1)
    runs = Runs(tools, directory, cluster, "t")
    tool = runs.start("--spool-limit", "1MiB")
    runs.receiver.signal(signal.SIGSTOP)
    for first in range(0, 2000, 20):
        cluster.put("t", *((None, json.dumps({"n": i, "text": "x" * 1000}).encode()) for i in range(first, first + 20)))
    support.wait_for(lambda: runs.log_size > 800_000, lambda: f"a full log; {tool.err}")
    runs.receiver.signal(signal.SIGCONT)
    runs.wait(2000, tool)
    assert runs.numbers == list(range(2000))


def test_what_is_fetched_ahead_stays_inside_the_memory(tools, kafka):
    """160,000 messages, of which each takes more room than its bytes, are there before the output is read."""
    count, cluster = 20_000, kafka(t=8)
    with Clogged() as out:
        tool = tools.start("ingest", cluster.url("t"), "--memory", "8MiB", *QUICK, stdout=out.writer)
        out.started()
        for partition in range(8):
            cluster.add("t", count, partition * count, partition)
        before = listen_support.peak(tool)
        out.read()
        events = out.wait_events(8 * count)
        assert sorted(event["n"] for event in events) == list(range(8 * count))
        if "asan" not in str(support.BIN):                  # whose own memory is not ours
            assert listen_support.peak(tool) < 40 << 20, f"{listen_support.peak(tool)} bytes, {before} of them before anything was read"
        assert tool.terminate() == 0


def test_a_sample_takes_nothing_away(tools, kafka):
    cluster = kafka(t=1)
    cluster.add("t", 100)
    for turn in range(2):
        done = tools.run("ingest", cluster.url("t"), *GROUP, "--sample", "5")
        assert done.status == 0 and numbers(done) == list(range(5)), done.err


def test_a_topic_that_is_not_there_is_told(tools, kafka):
    cluster = kafka(t=1)
    cluster.tell("down")
    tool = tools.start("ingest", cluster.url("t"), *QUICK)
    tool.wait_err("trying again")


def test_passwords_are_never_shown(tools, kafka, directory):
    cluster = kafka(t=1)
    settings = directory / "s.json"
    settings.write_text(json.dumps({"user": "ann", "password": "battery-staple", "set": ["sasl.mechanism=PLAIN", "ssl.key.password=horse-correct"]}))
    for arguments in ((cluster.url("t"), "--settings", settings), (cluster.url("t", "ann:battery-staple@"),)):
        tool = tools.start("ingest", *arguments, "--log-level", "debug", "--set", "debug=all", *QUICK)
        tool.wait_err("(?i)sasl|trying again")
        assert "battery" not in tool.err and "horse" not in tool.err


@pytest.fixture
def front():
    yield from made_and_closed(TlsFront)


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return tls_support.Authority(tmp_path_factory.mktemp("tls"))


def with_certificate(pair):
    return dict(zip(("certificate", "key"), pair))


@pytest.mark.parametrize("group", [(), GROUP])
def test_messages_come_over_tls(tools, kafka, front, authority, group):
    cluster = kafka(a=3)
    for partition in range(3):
        cluster.add("a", 3000, partition * 3000, partition)
    door = front(cluster=cluster, **with_certificate(authority.good()))
    tool = tools.start("ingest", door.url("a"), "--tls-ca", authority.ca, *group, *QUICK)
    tool.wait_events(9000, 60)
    assert sorted(numbers(tool)) == list(range(9000))
    assert door.refused == 0      # one that is being made when we leave is given up
    assert tool.terminate() == 0


@pytest.mark.parametrize("kind, trusted", [("expired", "ca"), ("untrusted", "ca"), ("of_another_host", "ca"), ("good", "other")])
def test_certificates_are_verified_and_what_is_amended_is_taken(tools, kafka, front, authority, kind, trusted):
    cluster = kafka(t=1)
    cluster.add("t", 100)
    door = front(cluster=cluster, **with_certificate(getattr(authority, kind)()))
    tool = tools.start("ingest", door.url("t"), "--tls-ca", authority.ca if trusted == "ca" else authority.other,
                       "--connect-timeout", "1s", *QUICK)
    tool.wait_err("(?i)verify failed.*trying again")
    assert tool.out == b""
    if trusted == "ca":
        door.show(*authority.good())
        assert [event["n"] for event in tool.wait_events(100)] == list(range(100))
    assert tool.terminate() == 0


def test_brokers_that_want_a_certificate(tools, kafka, front, authority, directory):
    cluster = kafka(t=1)
    cluster.add("t", 100)
    certificate, key = authority.good("client")
    stranger, its_key = authority.untrusted()
    expired, expired_key = authority.expired()
    door = front(cluster=cluster, **with_certificate(authority.good()), client_ca=authority.ca)
    for own in ((), ("--tls-cert", stranger, "--tls-key", its_key), ("--tls-cert", expired, "--tls-key", expired_key)):
        before = door.refused
        tool = tools.start("ingest", door.url("t"), "--tls-ca", authority.ca, *own, "--connect-timeout", "1s", *QUICK)
        tool.wait_err("(?i)(certificate|alert|Disconnected).*trying again")
        support.wait_for(lambda: door.refused > before, lambda: tool.err)
        assert tool.out == b"" and tool.terminate() == 0
    tool = tools.start("ingest", door.url("t"), "--tls-ca", authority.ca, "--tls-cert", certificate, "--tls-key", key, *QUICK)
    assert [event["n"] for event in tool.wait_events(100)] == list(range(100))
    assert tool.terminate() == 0


def test_files_of_tls_that_cannot_be_used(tools, kafka, authority, directory):
    (directory / "bad.pem").write_text("none")
    certificate, key = authority.good("mine")
    _, another = authority.good("another")
    for arguments in (("--tls-ca", "bad.pem"), ("--tls-ca", "missing.pem"), ("--tls-cert", certificate, "--tls-key", another)):
        done = tools.run("ingest", "kafka://127.0.0.1:1/t", *arguments)
        assert done.status in (1, 64) and ("ssl" in done.err.lower() or "tls" in done.err.lower()), done.err


@pytest.mark.parametrize("group", [(), GROUP])
def test_every_message_once_over_tls_through_kills_and_broken_connections(tools, kafka, front, authority, directory, group):
    cluster, count, rng, kills = kafka(t=2), 15000, random.Random(11), 0
    door = front(cluster=cluster, **with_certificate(authority.good()))
    runs = Runs(tools, directory, door, "t", "--tls-ca", authority.ca, *group)
    thread = adding(cluster, count, 0.02)
    while thread.is_alive() or kills < 3:
        before = len(runs.events)
        tool = runs.start()
        support.wait_for(lambda: len(runs.events) > before or not thread.is_alive(), lambda: tool.err[-2000:], 30)
        if kills % 2:
            door.break_off()
            time.sleep(rng.uniform(0, 0.1))
        tool.kill()
        kills += 1
    tool = runs.start()
    runs.wait(count, tool)
    assert tool.terminate() == 0
    assert sorted(runs.numbers) == list(range(count))
    for partition in range(2):
        own = [n for n in runs.numbers if n // 50 % 2 == partition]
        assert own == sorted(own)


@pytest.mark.parametrize("arguments, words", [
    (("kafka://h",), "which topic"), (("kafka:h/t",), "looks like kafka://"), (("kafka://h:0/t",), "port"), (("kafka://h/^t",), "need --group"),
    (("kafka://h/t", "--consumer", "c"), "needs --group"), (("kafka://h/t", "--set", "x"), "NAME=VALUE"), (("kafka://h/t", "--set", "no.such=1"), "no.such"),
    (("kafka://h/t", "--set", "group.id=1"), "--group"), (("kafka://h/t", "--user", "ann"), "needs --password"), (("kafka://h/t", "--begin", "then"), "begin"),
    (("kafka://ann:sesame@h:x/t",), "port"), (("kafka://h/t", "--set", "ssl.key.password=sesame", "--set", "x.y=1"), "x.y"),
    (("kafka://h/t", "--retry-min", "2m"), "below"), (("kafka://h/t?grop=1",), "did you mean")])
def test_mistakes_are_told_before_anything_starts(tools, arguments, words):
    done = tools.run("ingest", *arguments, "--check")
    assert done.status == 64 and support.re.search(words, done.err), done.err
    assert "sesame" not in done.err


def test_state_of_another_cluster_or_group_is_refused(tools, kafka, directory):
    cluster = kafka(t=1)
    cluster.add("t", 10)
    runs = Runs(tools, directory, cluster, "t")
    tool = runs.start()
    runs.wait(10, tool)
    assert tool.terminate() == 0
    grouped = tools.run("ingest", cluster.url("t"), *GROUP, "--state", "state", "--to", f"@{runs.link}")
    assert grouped.status == 1 and "made without a group" in grouped.err
    other = tools.run("ingest", kafka(t=1).url("t"), "--state", "state", "--to", f"@{runs.link}", "--drain-limit", "1s")
    assert other.status == 1 and "made for another cluster" in other.err


def test_the_ready_pipeline_runs(control, directory, kafka):
    cluster = kafka(payments=1)
    content = json.loads((support.ROOT / "pipelines/kafka.json").read_text())
    content["server"] = {"port": 0}
    content["data_sources"][0]["url"] = cluster.url("payments")
    (directory / "config.json").write_text(json.dumps(content))
    cluster.put("payments", *((b"a%d" % (i % 2), b'{"account": "a%d", "amount": %d, "currency": "EUR"}' % (i % 2, i)) for i in range(100)))
    control.good("start")
    out = directory / "data/payments.ndjson"
    support.wait_for(lambda: out.exists() and out.read_bytes().count(b"\n") >= 100, "the payments", 60)
    events = support.lines_of(out)
    assert [(e["key"], e["account"], e["amount"]) for e in events] == [(f"a{i % 2}", f"a{i % 2}", i) for i in range(100)]
    control.good("stop")
