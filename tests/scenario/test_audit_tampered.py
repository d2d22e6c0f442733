"""streamctl audit of a pipeline that was stopped and whose state was changed since by somebody else: whatever contradicts its ledger is named, with its stage."""

import json
import os
import shutil

import pytest

from instance import control, csv_source, write_csv  # noqa: F401
from support import free_port, wait_for


def change(path, edit):
    path.write_text(json.dumps(edit(json.loads(path.read_text()))))


def counted(**counts):
    return lambda ledger: {**ledger, **counts}


def pipelines_ledger(edit):
    """Of each stage in the ledger of all."""
    return lambda state: change(state / "ledger", lambda ledger: {**ledger, "stages": [told for told in map(edit, ledger["stages"]) if told]})


def count_of(name, **counts):
    return lambda told: {**told, "ledger": {**told["ledger"], **counts}} if told["name"] == name else told


def segments(state, stage):
    return sorted((state / stage / "spool").glob("*.seg"))


def zero(segment, at, size=64):
    with open(segment, "r+b") as file:
        file.seek(at)
        file.write(bytes(size))


def swap(state):
    for a, b, to in (("rows", "x", state), ("more", "rows", state), ("x", "more", state)):
        (to / a).rename(to / b)


def repaired(control, state, stage):
    """A record is destroyed, and the log cut off there and numbered on."""
    zero(segments(state, stage)[0], 5000)
    done = control.command("spool", "repair", state / stage / "spool")
    assert "is cut off" in done.out.decode(), done.err


TAMPERED = {
    "a record destroyed, and the log repaired": (lambda control, state: repaired(control, state, "rows"), "rows"),
    "a record destroyed": (lambda control, state: zero(segments(state, "some")[0], 5000), "some"),
    "the only segment deleted": (lambda _, state: segments(state, "some")[0].unlink(), "some"),
    "a log deleted": (lambda _, state: shutil.rmtree(state / "rows" / "spool"), "rows"),
    "what says whose log it is deleted": (lambda _, state: (state / "rows" / "spool" / "meta").unlink(), "rows"),
    "a log cut short": (lambda _, state: os.truncate(segments(state, "rows")[-1], len(segments(state, "rows")[-1].read_bytes().rstrip(b"\0")) - 8), "rows"),
    "a directory deleted": (lambda _, state: shutil.rmtree(state / "broadcast"), "broadcast"),
    "a stage's count changed": (lambda _, state: change(state / "some" / "ledger", counted(filtered=2501)), "some"),
    "two of a stage's counts changed": (lambda _, state: change(state / "rows" / "ledger", counted(**{"in": 5000, "dead": 0})), "rows"),
    "the number of its frames changed": (lambda _, state: change(state / "rows" / "ledger", counted(frames=99)), "rows"),
    "the pipeline's count changed": (lambda _, state: pipelines_ledger(count_of("some", out=2499))(state), "some"),
    "the pipeline's counts changed at a hop": (lambda _, state: pipelines_ledger(count_of("broadcast", **{"in": 7400, "out": 7400}))(state), "broadcast"),
    "a stage taken out of the pipeline's ledger": (lambda _, state: pipelines_ledger(lambda told: told["name"] != "some" and told)(state), "some"),
    "the pipeline's ledger emptied": (lambda _, state: (state / "ledger").write_text('{"version":1,"stages":[]}'), "rows"),
    "the pipeline's ledger cut short": (lambda _, state: os.truncate(state / "ledger", 700), "damaged in line"),
    "two directories swapped": (lambda _, state: swap(state), "rows"),
}


@pytest.fixture
def stopped(control, directory):
    write_csv(directory / "in.csv", 0, 5000)
    with open(directory / "in.csv", "a") as file:
        file.write('3,"sensor,4\n')                  # a quote that never ends
    write_csv(directory / "more.csv", 0, 100)
    config = control.config(sources=[csv_source("rows", "in.csv"), csv_source("more", "more.csv")], delivery={"dead_letter": "dead"}, state_dir="state",
                            pipelines=[{"name": "some", "from": "rows", "program": "where temperature >= 50"}],
                            sinks=[{"type": "file", "path": "out.ndjson", "from": "some"}])
    control.good("run", config)
    return config


def test_what_contradicts_the_ledger_is_named(control, directory, stopped):
    state, kept = directory / "state", directory / "kept"
    state.rename(kept)
    wrong = []
    for what, (tamper, named) in TAMPERED.items():
        shutil.copytree(kept, state, symlinks=True)
        assert "Every event is accounted for." in control.good("audit", stopped), what
        tamper(control, state)
        done = control.command("audit", stopped)
        if done.status != 1 or not any(named in line for line in done.err.splitlines() if line.startswith("streamctl: ")):
            wrong.append((what, done.status, done.err, done.out.decode()))
        shutil.rmtree(state)
    assert not wrong, "\n".join(map(str, wrong))




def test_what_waits_in_a_log_has_to_be_there(control, directory):
    """Nobody takes it, and so it is in the log; and then it is not."""
    write_csv(directory / "in.csv", 0, 60000)
    config = control.config(sources=[csv_source("rows", "in.csv")], state_dir="state", delivery={"spool_limit": "1MiB"},
                            sinks=[{"type": "http", "url": f"http://127.0.0.1:{free_port()}/", "body": "ndjson"}])
    control.good("start", config)
    state = directory / "state"
    wait_for(lambda: len(segments(state, "rows")) > 3, "a log of several segments")
    control.good("stop", config)
    assert "Every event is accounted for" in control.good("audit", config)
    for damage, said in ((lambda middle: zero(middle, 5000), "damaged"), (lambda middle: middle.unlink(), "are missing")):
        middle = segments(state, "rows")[1]
        shutil.copy(middle, directory / "kept")
        damage(middle)
        done = control.command("audit", config)
        assert done.status == 1 and "not balanced: rows" in done.err and said in done.err, done.err
        shutil.copy(directory / "kept", middle)
    control.good("audit", config)
    segments(state, "rows")[0].unlink()
    done = control.command("audit", config)
    assert done.status == 1 and "not balanced: rows" in done.err and "had not been delivered" in done.err, done.err
