"""streamctl with a state_dir, as a whole: whatever is killed, every event is in the sinks exactly once, and the audit balances."""

import collections
import json
import os
import random
import signal
import sqlite3
import time

import pytest
import support
from instance import alive, control  # noqa: F401
from support import lines_of, lines_so_far, wait_for

START = 1_750_000_000_000                      # event times in milliseconds: 10 ms apart
DEVICES = 7
CLOSING = 10**9                                # the seq of the event that closes the windows


class Log:
    """A log file that grows."""

    def __init__(self, path):
        self.path, self.count = path, 0
        self.path.touch()

    def event(self, seq, at):
        return json.dumps({"ms": START + at * 10, "seq": seq, "device": seq % DEVICES, "temperature": seq % 50}) + "\n"

    def grow(self, count):
        with open(self.path, "a") as file:
            file.writelines(self.event(seq, seq) for seq in range(self.count, self.count + count))
        self.count += count

    def close_windows(self):
        with open(self.path, "a") as file:
            file.write(self.event(CLOSING, self.count + 10_000))

    def rotate(self):
        self.path.rename(self.path.with_suffix(f".{self.count}"))
        self.path.touch()

    def windows(self):
        """What the window of one second has: start in ms, device -> events, sum of seq."""
        result = collections.defaultdict(lambda: [0, 0])
        for seq in range(self.count):
            entry = result[(START + seq * 10) // 1000 * 1000, seq % DEVICES]
            entry[0] += 1
            entry[1] += seq
        return {key: tuple(value) for key, value in result.items()}


def rows(path, query):
    """What is committed; nothing while there is no such table."""
    if not path.exists():
        return []
    connection = sqlite3.connect(path, timeout=20)
    try:
        return connection.execute(query).fetchall()
    except sqlite3.OperationalError as error:
        if "no such table" not in str(error):
            raise
        return []
    finally:
        connection.close()


def whole_config(control, generated=0, **more):
    sources = [{"name": "log", "type": "ndjson", "path": "in.log", "follow": True, "time": "ms"}]
    if generated:
        sources.append({"name": "users", "type": "users", "rate": 400, "count": generated, "seed": 5})
    return control.config(
        state_dir="state", sources=sources,
        pipelines=[{"name": "cool", "from": "log", "program": "where temperature < 25 and seq < 1000000000"},
                   {"name": "sums", "from": "log", "workers": 2, "key": "device",
                    "program": "window tumbling 1s by device: count() as n, sum(seq) as total | "
                    "set start = epoch_ms(window_start) | keep start, device, n, total"}],
        sinks=[{"type": "file", "name": "all", "path": "all.ndjson", "from": "log"},
               {"type": "file", "name": "shop", "path": "users.ndjson", "from": "users" if generated else "log"},
               {"type": "sqlite", "name": "base", "path": "out.db", "from": "cool", "table": "cool"},
               {"type": "sqlite", "name": "windows", "path": "out.db", "from": "sums", "table": "sums"}],
        delivery={"snapshot": "200ms"}, **more)


def kill_supervisor(control):
    """Its stages go with it."""
    pids = [int(path.read_text().split()[0]) for path in control.run_dir().glob("*.pid")]
    pid = control.supervisor_pid(control.run_dir())
    if pid and alive(pid):
        os.kill(pid, signal.SIGKILL)
    wait_for(lambda: not any(alive(stage) for stage in [pid, *pids]), "the end of all stages")


def everything_is_there(control, directory, log, generated):
    cool = [seq for seq in range(log.count) if seq % 50 < 25]

    def complete():
        return len(lines_so_far(directory / "all.ndjson")) > log.count and \
            rows(directory / "out.db", "select count(*) from cool") >= [(len(cool),)] and \
            sum(n for n, in rows(directory / "out.db", "select n from sums")) >= log.count and \
            len(lines_so_far(directory / "users.ndjson")) >= generated
    wait_for(complete, lambda: f"all of {log.count} events:\n{control.good('status')}", 60)
    assert sorted(event["seq"] for event in lines_of(directory / "all.ndjson")) == [*range(log.count), CLOSING]
    assert sorted(seq for seq, in rows(directory / "out.db", "select seq from cool")) == cool
    found = rows(directory / "out.db", "select start, device, n, total from sums")
    assert len(found) == len({row[:2] for row in found})
    assert {row[:2]: row[2:] for row in found} == log.windows()
    if generated:
        assert lines_of(directory / "users.ndjson") == lines_of(control.tools.run(
            "ingest", f"generator:users?rate=0&count={generated}&seed=5").out)


def audit_balances(control, config):
    seen = []

    def balanced():
        seen[:] = [control.command("audit", config, "--json")]
        return seen[0].status == 0 and json.loads(seen[0].out)["verdict"] == "balanced"
    wait_for(balanced, lambda: f"a balance:\n{seen[0].err}\n{seen[0].out.decode()}", 20)
    assert "Every event is accounted for" in control.good("audit", config)


@pytest.mark.limit(180)
@pytest.mark.parametrize("seed", [1])
def test_kills_of_stages_and_supervisor_lose_and_double_nothing(control, directory, seed):
    rng = random.Random(seed)
    log, generated = Log(directory / "in.log"), 6000
    config = whole_config(control, generated)
    log.grow(50)
    control.good("start", config)
    for fault in rng.sample(["stage"] * 8 + ["supervisor"] * 3 + ["midway"] * 2 + ["stop", "restart", "rotate"], 16):
        log.grow(rng.randrange(1, 300))
        time.sleep(rng.uniform(0, 0.3))
        if fault == "stage":
            pids = control.pids()
            name = rng.choice([name for name in sorted(pids) if name != "supervisor"])
            os.kill(pids[name], signal.SIGKILL)
            wait_for(lambda: not alive(pids[name]), "its end")
            control.wait_state(name, "running", "finished")
        elif fault == "supervisor":
            kill_supervisor(control)
            log.grow(20)
            control.good("start", config)
        elif fault == "midway":                        # while it stops
            stopping = control.tools.start("streamctl", "stop", config, env=control.env)
            time.sleep(rng.uniform(0, 0.1))
            kill_supervisor(control)
            stopping.wait()
            control.good("start", config)
        elif fault == "stop":
            control.good("stop", config)
            log.grow(100)
            control.good("start", config)
        elif fault == "restart":
            control.good("restart", config)
        else:
            log.rotate()
    log.grow(100)
    log.close_windows()
    everything_is_there(control, directory, log, generated)
    audit_balances(control, config)
    control.good("stop", config)
    audit_balances(control, config)


def test_the_ready_durable_pipeline(control, directory):
    """pipelines/durable.json, its supervisor and its window killed."""
    content = json.loads((support.ROOT / "pipelines/durable.json").read_text())
    content["server"] = {"port": 0}
    config = directory / "durable.json"
    config.write_text(json.dumps(content))
    database = directory / "data/durable.db"
    control.good("start", config)
    wait_for(lambda: rows(database, "select * from averages"), "a window", 30)
    kill_supervisor(control)
    control.good("start", config)
    pid = control.stage("averages")["pid"]
    os.kill(pid, signal.SIGKILL)
    before = len(rows(database, "select * from averages"))
    wait_for(lambda: len(rows(database, "select * from averages")) > before, "more windows", 30)
    wait_for(lambda: rows(database, "select * from load"), "this machine")
    audit_balances(control, config)
    control.good("stop", config)
    audit_balances(control, config)
    ledger = {stage["name"]: stage for stage in json.loads(control.good("audit", config, "--json"))["stages"]}
    windows = rows(database, "select window_start, sensor_id, events from averages")
    assert len(windows) == len({window[:2] for window in windows}) == ledger["averages"]["out"]
    assert sum(events for *_, events in windows) == ledger["averages"]["filtered"]
    assert len(lines_of(directory / "data/sensors.ndjson")) == ledger["sensors"]["out"]


def test_a_restart_that_a_changed_program_would_break_is_not_begun(control, directory):
    """It would end what runs. The message says how to begin the changed stage anew, and that works."""
    (directory / "in.ndjson").write_bytes(support.ndjson({"seq": seq} for seq in range(50)))

    def configure(name):
        return control.config(state_dir="state", sources=[{"name": "log", "type": "file", "path": "in.ndjson", "follow": True}],
                              pipelines=[{"name": "w", "from": "log", "program": f"set {name} = seq * 2"}],
                              sinks=[{"type": "file", "name": "all", "path": "all.ndjson", "from": "w"}])
    config = configure("a")
    control.good("start", config)
    wait_for(lambda: len(lines_so_far(directory / "all.ndjson")) == 50, "events")
    pid = control.stage("w")["pid"]
    configure("b")
    done = control.command("restart", config)
    assert done.status == 1 and "what runs goes on" in done.err and "streamctl reset STAGE" in done.err
    assert control.stage("w")["pid"] == pid
    control.good("stop", config)
    control.good("reset", config, "w", "--yes")
    control.good("start", config)
    with open(directory / "in.ndjson", "ab") as file:
        file.write(support.ndjson([{"seq": 50}]))
    wait_for(lambda: lines_so_far(directory / "all.ndjson")[-1] == {"seq": 50, "b": 100}, "the new program's")
    assert control.command("restart", config).status == 0
    control.good("stop", config)


def test_what_has_ended_ends_again(control, directory):
    """As from cron: files that were read to their end, through a program and straight to a sink. With nothing new there is nothing more, however often."""
    for name in ("one", "two"):
        (directory / f"{name}.ndjson").write_bytes(support.ndjson({"seq": seq} for seq in range(100)))
    config = control.config(state_dir="state", sources=[{"name": name, "type": "file", "path": f"{name}.ndjson"} for name in ("one", "two")],
                            pipelines=[{"name": "even", "from": "one", "program": "where seq % 2 == 0"}],
                            sinks=[{"type": "file", "name": "all", "path": "all.ndjson", "from": ["one", "two"]},
                                   {"type": "file", "name": "some", "path": "some.ndjson", "from": "even"}])
    for _ in range(3):
        assert control.foreground(config).wait(60) == 0
        assert sorted(event["seq"] for event in lines_of(directory / "all.ndjson")) == sorted([*range(100)] * 2)
        assert [event["seq"] for event in lines_of(directory / "some.ndjson")] == list(range(0, 100, 2))
    audit_balances(control, config)
