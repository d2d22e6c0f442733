"""Several senders connect to one receiver, and one of them is begun anew with --reset: what it had sent before is final, and its end will not come. Nobody else
could tell the receiver that."""

import json
import signal
import sqlite3

import pytest

import link_support
import support
from support import lines_of, wait_for
from test_broadcast_http import serve  # noqa: F401


class Sources:
    """Files that ingest reads, each with a state of its own, all to the one link."""

    def __init__(self, tools, directory, link):
        self.tools, self.directory, self.link = tools, directory, link

    def put(self, name, first, count=50):
        (self.directory / f"{name}.ndjson").write_bytes(support.ndjson([{"source": name, "n": n} for n in range(first, first + count)]))

    def start(self, name, *options):
        return self.tools.start("ingest", f"{name}.ndjson", "--name", name, "--state", f"state-{name}", "--to", f">{self.link}", *options)

    def log_size(self, name):
        return sum(path.stat().st_size for path in (self.directory / f"state-{name}/spool").glob("*.seg"))


def expected(*parts):
    return sorted((name, n) for name, first, count in parts for n in range(first, first + count))


def of_file(path):
    return sorted((event["source"], event["n"]) for event in lines_of(path)) if path.exists() else []


def of_server(server):
    return sorted((event["source"], event["n"]) for _, body in server.taken for event in map(json.loads, body.decode().splitlines()))


UNSYNCED = ("--follow", "--sync-interval", "1m")


@pytest.mark.parametrize("between", ["nothing", "process"])
def test_what_was_sent_before_a_reset_reaches_all_sinks(tools, serve, directory, between):
    """Two resets, the first of which the receiver did not see: what it had sent is nowhere but in its log, and is deleted with it."""
    server, link = serve(), f"ipc://{directory}/in"
    sinks = ("file:out.ndjson", "sqlite:out.db", f"{server.url}/all#body=ndjson", "stdout:")
    quick, at = ("--sync-interval", "10ms"), f"@{link}" if between == "nothing" else f"ipc://{directory}/on"
    broadcast = tools.start("broadcast", *sinks, "--from", at, "--state", "state", *quick)
    stages = [broadcast]
    if between == "process":
        stages.insert(0, tools.start("process", "where true", "--from", f"@{link}", "--to", at, "--state", "middle", "--snapshot", "100ms", *quick))
    sources = Sources(tools, directory, link)
    sources.put("a", 0)
    sources.put("b", 0)
    first = sources.start("a", *UNSYNCED)
    broadcast.wait_events(50)                               # standard output has what is not stable, too
    other = sources.start("b", *quick)
    broadcast.wait_events(100)
    first.kill()
    stages[0].signal(signal.SIGSTOP)
    sources.put("a", 1000)
    second = sources.start("a", *UNSYNCED, "--reset")
    wait_for(lambda: sources.log_size("a") > 2000, "its log")
    second.kill()
    stages[0].signal(signal.SIGCONT)
    sources.put("a", 100)
    last = sources.start("a", "--reset", *quick)
    for tool in (*stages, last, other):
        assert tool.wait(60) == 0, tool.err
    all_of_it = expected(("a", 0, 50), ("a", 100, 50), ("b", 0, 50))
    assert of_file(directory / "out.ndjson") == all_of_it
    assert of_server(server) == all_of_it and not server.problems
    with sqlite3.connect(directory / "out.db") as database:
        assert sorted(database.execute("select source, n from events")) == all_of_it


def test_a_source_that_was_stopped_and_reset_does_not_keep_the_receiver_from_its_end(tools, directory):
    link = f"ipc://{directory}/in"
    broadcast = tools.start("broadcast", "file:out.ndjson", "--from", f"@{link}", "--state", "state", "--sync-interval", "10ms")
    sources = Sources(tools, directory, link)
    sources.put("a", 0)
    first = sources.start("a", "--follow")
    wait_for(lambda: of_file(directory / "out.ndjson") == expected(("a", 0, 50)), lambda: f"its events; {broadcast.err}")
    assert first.terminate() == 0, first.err
    assert broadcast.terminate() == 0, broadcast.err        # it has it in its state, and hears of it no more
    sources.put("a", 100)
    broadcast = tools.start("broadcast", "file:out.ndjson", "--from", f"@{link}", "--state", "state", "--sync-interval", "10ms")
    last = sources.start("a", "--reset")
    assert last.wait(60) == 0, last.err
    assert broadcast.wait(60) == 0, broadcast.err
    assert of_file(directory / "out.ndjson") == expected(("a", 0, 50), ("a", 100, 50))


def test_frames_that_were_on_their_way_come_behind_the_news_and_are_final_too(tools, directory):
    broadcast = tools.start("broadcast", "file:out.ndjson", "--from", f"@ipc://{directory}/in", "--state", "state", "--sync-interval", "10ms")
    out = lambda: [event["n"] for event in lines_of(directory / "out.ndjson")] if (directory / "out.ndjson").exists() else []
    foreign = link_support.Foreign(directory / "in", "connect")
    foreign.frame(1, o="old", s=0)
    foreign.frame(2, o="old", s=0)
    foreign.until(lambda ack: ack.get("o") == "old" and ack["received"] == 2)
    assert out() == []
    foreign.frame(0, o="new", topic="stable", s=0, l=0, replaces=["older", "old"])
    foreign.until(lambda ack: ack.get("o") == "old" and ack["durable"] == 2)
    foreign.frame(3, o="old", s=0, end=True)                # nobody says goodbye for it
    foreign.until(lambda ack: ack.get("o") == "old" and ack["durable"] == 3)
    foreign.frame(1, o="new", n=4, s=1, end=True, replaces=["older", "old"])
    foreign.until(lambda ack: ack.get("o") == "new" and ack["durable"] == 1)
    foreign.frame(0, o="new", topic="bye", l=0, bye=1)
    assert broadcast.wait(20) == 0, broadcast.err           # it does not wait for the other one, as for one that may be started again
    assert out() == [1, 2, 3, 4]
    foreign.close()
