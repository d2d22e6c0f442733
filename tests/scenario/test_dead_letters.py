"""Dead letters where their disk is full, at every stage, and where their numbers begin anew: none is lost, and none is there twice."""

import collections
import json
import os
import signal
import subprocess

import pytest

from instance import control  # noqa: F401
from support import lines_of, lines_so_far, ndjson, wait_for
from test_broadcast_http import Server, serve  # noqa: F401
from test_streamctl_replay import letters
from test_streamctl_state import audit_balances

COUNT = 4000


@pytest.fixture
def small(directory):
    """A disk that can be filled."""
    path = directory / "small"
    path.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", path], capture_output=True).returncode:
        pytest.skip("needs a small file system, which only root can make")
    yield path
    subprocess.run(["umount", "-l", path], check=True)


def fill(path):
    with open(path, "wb", buffering=0) as file:
        for size in (65536, 4096, 512, 1):
            try:
                while True:
                    file.write(b"x" * size)
            except OSError:
                pass


class Chain:
    """ingest, process, broadcast; every second event is a dead letter of one of them, in a file on the small disk."""

    def __init__(self, tools, directory, small, server, bad, state=True):
        self.tools, self.bad, self.dead, self.state = tools, bad, small / "dead.ndjson", state
        path, link = directory / "in.ndjson", f"ipc://{directory}/link"
        with open(path, "wb") as file:
            for n in range(COUNT):
                file.write(b'{"n": %d, %s}\n' % (n, b"no JSON at all" if bad == "ingest" and n % 2 else b'"text": "some more bytes"'))
        program = 'validate check (n % 2 == 0) message "odd"' if bad == "process" else ""
        self.commands = {"ingest": [path, "--follow", "--to", f"{link}1"], "process": [program, "--from", f"{link}1", "--to", f"{link}2"],
                         "broadcast": [server.url, "--batch", "1", "--in-flight", "16", "--from", f"{link}2"]}
        self.running = {}
        for name in self.commands:
            self.start(name)

    def start(self, name):
        state = ["--state", f"state-{name}"] if self.state else []
        dead = ["--dead-letter", self.dead] if name == self.bad else []
        self.running[name] = self.tools.start(name, *self.commands[name], *state, *dead)

    @property
    def stage(self):
        return self.running[self.bad]

    def letters(self):
        """The numbers of the events, as far as they are written."""
        texts = [letter["text"] if "text" in letter else json.dumps(letter["event"]) for letter in lines_so_far(self.dead)]
        return [int(text.split('"n":')[1].split(",")[0].rstrip("}")) for text in texts]


def odd_is_refused(number, key, body):
    return 422 if any(event["n"] % 2 for event in json.loads(body)) else 200


@pytest.mark.parametrize("bad", ["ingest", "process", "broadcast"])
def test_a_full_disk_is_waited_for_and_kills_meanwhile_lose_no_letter(tools, serve, directory, small, bad):
    server = serve(odd_is_refused if bad == "broadcast" else lambda *_: 200)
    fill(small / "fill")
    chain = Chain(tools, directory, small, server, bad)
    for n in range(3):
        chain.stage.wait_err("dead.ndjson: write: No space left on device")
        assert chain.stage.running and chain.letters() == []
        chain.stage.kill()
        chain.start(bad)
    chain.stage.wait_err("dead.ndjson: write: No space left on device")
    (small / "fill").unlink()
    wait_for(lambda: len(chain.letters()) >= COUNT // 2, lambda: f"the letters: {len(chain.letters())}", 60)
    wait_for(lambda: len({e["n"] for _, body in server.taken for e in json.loads(body)}) == COUNT // 2, "the others", 60)
    for name in chain.running:
        assert chain.running[name].terminate() == 0
    assert chain.letters() == list(range(1, COUNT, 2))
    assert collections.Counter(e["n"] for _, body in server.taken for e in json.loads(body)) == collections.Counter(range(0, COUNT, 2))


@pytest.mark.parametrize("bad", ["ingest", "process", "broadcast"])
def test_without_state_letters_wait_for_the_disk_too(tools, serve, directory, small, bad):
    """As far as they fit in memory, and nothing else waits for them."""
    server = serve(odd_is_refused if bad == "broadcast" else lambda *_: 200)
    fill(small / "fill")
    chain = Chain(tools, directory, small, server, bad, state=False)
    wait_for(lambda: len({e["n"] for _, body in server.taken for e in json.loads(body)}) == COUNT // 2, "the others", 60)
    assert chain.letters() == [] and "No space left on device" in chain.stage.err
    (small / "fill").unlink()
    wait_for(lambda: len(chain.letters()) == COUNT // 2, "the letters")
    assert chain.letters() == list(range(1, COUNT, 2))


def test_a_path_that_can_never_be_written_stops_nothing(tools):
    done = tools.run("ingest", "-", "--dead-letter", "/nowhere/dead.ndjson", input=b'no\n{"n": 1}\n')
    assert done.status == 0 and "they are counted only" in done.err
    assert [event["n"] for event in lines_of(done.out)] == [1]


def test_letters_of_before_a_reset_and_after_it(control, directory):
    """Both have the same numbers. The first were handed over already, by a replay that was killed."""
    def configure(most):
        return control.config(state_dir="state", sources=[{"name": "log", "path": "in.ndjson", "follow": True}],
                              pipelines=[{"name": "checked", "from": "log", "program": f"validate temperature < {most}"}],
                              sinks=[{"type": "file", "name": "all", "path": "all.ndjson", "from": "checked"}])

    def add(first):
        with open(directory / "in.ndjson", "ab") as file:
            file.write(ndjson({"seq": first + n, "temperature": 100} for n in range(50)))
    config = configure(10)
    add(0)
    control.good("start", config)
    wait_for(lambda: letters(control, config)["checked"] == 50, "dead letters")
    os.kill(control.stage("checked")["pid"], signal.SIGUSR1)
    wait_for(lambda: list((directory / "state/checked").glob("dead.ndjson.replay-*")), "the hand-over")
    control.good("stop", config)
    control.good("reset", config, "checked", "-y")
    add(50)
    control.good("start", config)
    wait_for(lambda: letters(control, config)["checked"] == 100, "dead letters of both times")
    control.good("stop", config)
    configure(1000)
    control.good("reset", config, "checked", "-y")
    control.good("start", config)
    assert "100 dead letters sent again" in control.good("replay", config)
    wait_for(lambda: len(lines_so_far(directory / "all.ndjson")) >= 100, "all events")
    assert sorted(event["seq"] for event in lines_so_far(directory / "all.ndjson")) == list(range(100))
    assert letters(control, config)["checked"] == 0
    control.good("stop", config)


def test_letters_that_were_rotated_out_alone_are_sent_again(control, directory):
    """A stage that is killed between the two leaves FILE.1 and no FILE."""
    config = control.config(state_dir="state", sources=[{"name": "log", "path": "in.ndjson", "follow": True}],
                            sinks=[{"type": "file", "name": "all", "path": "all.ndjson"}])
    (directory / "in.ndjson").write_text("nothing\n" * 20)
    control.good("start", config)
    wait_for(lambda: letters(control, config)["log"] == 20, "dead letters")
    control.good("stop", config)
    dead = directory / "state/log/dead.ndjson"
    dead.rename(dead.with_name("dead.ndjson.1"))
    control.config(state_dir="state", sources=[{"name": "log", "path": "in.ndjson", "follow": True, "format": "lines"}],
                   sinks=[{"type": "file", "name": "all", "path": "all.ndjson"}])
    control.good("start", config)
    assert "20 dead letters sent again" in control.good("replay", config)
    wait_for(lambda: len(lines_so_far(directory / "all.ndjson")) == 20, "all events")
    assert letters(control, config)["log"] == 0
    audit_balances(control, config)
    control.good("stop", config)
