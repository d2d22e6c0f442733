"""streamctl dead and replay: what could not be used arrives exactly once after what was wrong has been repaired, also when the replay is killed."""

import json
import os
import random
import signal
import sqlite3
import time

from instance import alive, control  # noqa: F401
from support import lines_of, lines_so_far, ndjson, wait_for
from test_broadcast_http import Server
from test_streamctl_state import audit_balances, rows

COUNT = 6000


def letters(control, config):
    """Dead letters by stage."""
    return {line.split()[0]: int(line.split()[1]) for line in control.good("dead", config).splitlines()[1:]}


def numbered(path, count=COUNT):
    path.write_bytes(ndjson([{"seq": seq, "temperature": seq % 50} for seq in range(count)]))


def replay_killed(control, config, stage, rng, kills, done, victims=()):
    """Replays of which so many are killed on their way, some with a stage that they send to, until one comes to its end."""
    while kills and not done():
        replay = control.tools.start("streamctl", "replay", config, stage, env=control.env)
        time.sleep(rng.uniform(0.005, 0.15))
        if victims and kills % 2:
            name = rng.choice(victims)
            pid = control.stage(name)["pid"]
            os.kill(pid, signal.SIGKILL)
            wait_for(lambda: not alive(pid), "its end")
            control.wait_state(name, "running")
            time.sleep(rng.uniform(0, 0.1))
        replay.kill()
        kills -= 1
    out = []

    def ended():                                       # a killed one's children may hold its lock for a moment
        run = control.command("replay", config, stage)
        out[:] = [run]
        return run.status == 0
    wait_for(ended, lambda: f"a replay: {out[0].err}", 30)
    return out[0].out.decode()


def refusing_database(path):
    connection = sqlite3.connect(path)
    connection.executescript("create table events (ts text, stream text, seq integer, temperature integer);"
                             "create trigger refuse before insert on events when new.temperature >= 25 "
                             "begin select raise(abort, 'too hot'); end;")
    connection.close()


def accept(path):
    connection = sqlite3.connect(path, timeout=20)
    connection.execute("drop trigger refuse")
    connection.close()


def test_rows_that_a_database_refused(control, directory):
    refusing_database(directory / "out.db")
    numbered(directory / "in.ndjson")
    config = control.config(state_dir="state", sources=[{"name": "log", "path": "in.ndjson", "follow": True}],
                            sinks=[{"type": "sqlite", "name": "base", "path": "out.db"}, {"type": "file", "path": "all.ndjson"}])
    control.good("start", config)
    wait_for(lambda: letters(control, config)["broadcast"] == COUNT // 2, "dead letters", 30)
    wait_for(lambda: len(rows(directory / "out.db", "select seq from events")) == COUNT // 2, "the others")
    (letter,) = lines_of(control.good("dead", config, "broadcast", "-n", "1"))
    assert letter["place"] == "base" and "too hot" in letter["reason"] and letter["event"]["temperature"] >= 25
    audit_balances(control, config)

    # Not repaired yet: they come back as dead letters, each once.
    assert f"{COUNT // 2} dead letters sent again" in control.good("replay", config)
    wait_for(lambda: letters(control, config)["broadcast"] == COUNT // 2, "the same dead letters", 30)

    accept(directory / "out.db")
    assert f"{COUNT // 2} dead letters would be" in control.good("replay", config, "broadcast", "--dry-run")
    replay_killed(control, config, "broadcast", random.Random(1), 8, lambda: not letters(control, config)["broadcast"], ["broadcast"])
    wait_for(lambda: len(rows(directory / "out.db", "select seq from events")) >= COUNT, "all rows", 30)
    assert sorted(seq for seq, in rows(directory / "out.db", "select seq from events")) == list(range(COUNT))
    assert [event["seq"] for event in lines_of(directory / "all.ndjson")] == list(range(COUNT))        # the other sink has nothing twice
    assert letters(control, config)["broadcast"] == 0
    assert "there are no dead letters" in control.good("replay", config)
    audit_balances(control, config)
    control.good("stop", config)
    audit_balances(control, config)


def test_batches_that_a_server_refused(control, directory):
    refuse = [True]
    server = Server(lambda *_: (422, {}, b"no such tariff") if refuse[0] else 200)
    numbered(directory / "in.ndjson", 500)
    config = control.config(state_dir="state", sources=[{"name": "log", "path": "in.ndjson", "follow": True}],
                            sinks=[{"type": "http", "name": "web", "url": server.url, "batch": 10}])
    control.good("start", config)
    wait_for(lambda: letters(control, config)["broadcast"] == 500, "dead letters", 30)
    assert "422" in control.good("dead", config)
    refuse[0] = False
    replay_killed(control, config, "broadcast", random.Random(2), 4, lambda: not letters(control, config)["broadcast"])
    assert sorted(event["seq"] for _, body in server.taken for event in json.loads(body)) == list(range(500))
    assert not server.problems
    audit_balances(control, config)
    control.good("stop", config)
    server.close()


def test_text_that_a_source_could_not_read(control, directory):
    """It reaches all that read the source, when the source reads the new format."""
    def source(**more):
        return {"name": "log", "type": "file", "path": "in.log", "follow": True, **more}
    settings = {"state_dir": "state", "pipelines": [{"name": "long", "from": "log", "workers": 2, "key": "message", "program": "set many = length(message) > 3 | keep message, many"}],
                "sinks": [{"type": "file", "name": "all", "path": "all.ndjson", "from": "log"},
                          {"type": "file", "name": "some", "path": "some.ndjson", "from": "long"}]}
    config = control.config(sources=[source(format="ndjson")], **settings)
    (directory / "in.log").write_text("".join(f'{{"message": "{n}"}}\n' if n % 2 else f"line {n}\n" for n in range(2000)))
    control.good("start", config)
    wait_for(lambda: letters(control, config)["log"] == 1000, "dead letters", 30)
    wait_for(lambda: len(lines_so_far(directory / "some.ndjson")) == 1000, "the others")
    audit_balances(control, config)
    places = [letter["place"] for letter in map(json.loads, control.good("dead", config, "log", "-n", "1000").splitlines())]
    assert len(set(places)) == 1000 and all("in.log" in place for place in places)
    for _ in range(2):                                    # also what failed twice
        replayed = control.command("replay", config)
        assert replayed.status == 1 and b"1000 could not be read again" in replayed.out, replayed
        assert [letter["place"] for letter in map(json.loads, control.good("dead", config, "log", "-n", "1000").splitlines())] == places
    control.config(sources=[source(format="lines")], **settings)
    control.good("restart", config)
    replayed = replay_killed(control, config, "log", random.Random(3), 7, lambda: not letters(control, config)["log"],
                             ["broadcast", "long.0", "long.1"])
    expected = sorted(f"line {n}" if n % 2 == 0 else str(n) for n in range(2000))
    for name in ("all", "some"):
        wait_for(lambda: len(lines_so_far(directory / f"{name}.ndjson")) >= 2000, lambda: f"all events; {replayed}", 30)
        assert sorted(event["message"] for event in lines_of(directory / f"{name}.ndjson")) == expected
    assert set(letters(control, config).values()) == {0}
    audit_balances(control, config)
    control.good("stop", config)


def test_text_of_a_followed_log_is_read_as_a_file(control, directory):
    """Its options that are for what grows mean nothing there."""
    (directory / "app.log").write_text("INFO started\nodd\nWARN low\n")
    source = {"name": "log", "path": "app.log", "follow": True, "rotate_wait": 1, "format": "regex", "pattern": "^(?<level>[A-Z]+) (?<text>.*)$",
              "multiline_start": "^[A-Za-z]", "multiline_wait": "50ms", "multiline_lines": 10}
    config = control.config(state_dir="state", sources=[source], sinks=[{"type": "file", "path": "out.ndjson"}])
    control.good("start", config)
    wait_for(lambda: letters(control, config)["log"] == 1, "a dead letter")
    control.good("stop", config)
    config = control.config(state_dir="state", sources=[{**source, "pattern": "^(?<level>[A-Z]*) ?(?<text>.*)$"}],
                            sinks=[{"type": "file", "path": "out.ndjson"}])
    control.good("start", config)
    assert "1 dead letter" in control.good("replay", config, "log")
    wait_for(lambda: lines_so_far(directory / "out.ndjson") and len(lines_of(directory / "out.ndjson")) == 3, "all lines", 30)
    assert sorted(event["text"] for event in lines_of(directory / "out.ndjson")) == ["low", "odd", "started"]
    control.good("stop", config)


def test_events_that_a_program_refused(control, directory):
    """More than one file holds: those that were rotated out are sent again, too."""
    numbered(directory / "in.ndjson")

    def configure(most):
        return control.config(state_dir="state", sources=[{"name": "log", "path": "in.ndjson", "follow": True}],
                              pipelines=[{"name": "checked", "from": "log", "program": f"validate temperature < {most}", "dead_letter_limit": "200KiB"}],
                              sinks=[{"type": "file", "name": "all", "path": "all.ndjson", "from": "checked"}])
    config = configure(40)
    control.good("start", config)
    wait_for(lambda: len(lines_so_far(directory / "all.ndjson")) == COUNT // 5 * 4, "the good ones", 30)
    wait_for(lambda: letters(control, config)["checked"] == COUNT // 5, lambda: f"dead letters, not {letters(control, config)}", 30)
    assert list((directory / "state").glob("**/*.1")), "nothing was rotated"
    (letter,) = lines_of(control.good("dead", config, "checked", "-n", "1"))
    assert letter["event"]["temperature"] >= 40 and "temperature" in letter["reason"]
    audit_balances(control, config)

    control.good("stop", config)
    configure(60)
    control.good("reset", config, "checked", "-y")                  # another program begins anew; the letters stay
    control.good("start", config)
    replay_killed(control, config, "checked", random.Random(4), 5, lambda: not letters(control, config)["checked"], ["checked", "broadcast"])
    wait_for(lambda: len(lines_so_far(directory / "all.ndjson")) >= COUNT, "all events", 30)
    assert sorted(event["seq"] for event in lines_of(directory / "all.ndjson")) == list(range(COUNT))
    assert set(letters(control, config).values()) == {0}
    control.good("stop", config)
