"""streamctl audit and dead: what became of every event, and what could not be used."""

import json
import os
import re
import signal

from instance import control, csv_source, write_csv  # noqa: F401
from support import wait_for

SENSORS = {"name": "sensors", "type": "sensors", "rate": 300, "seed": 3}
KEYS = ("in", "created", "out", "filtered", "late", "dead", "dropped", "held")


def report(control, *arguments, status=0):
    done = control.command("audit", "--json", *arguments)
    assert done.status == status, done.err
    return json.loads(done.out)


def by_name(audit):
    return {stage["name"]: stage for stage in audit["stages"]}


def test_a_running_pipeline_balances_at_every_hop(control):
    config = control.config(sources=[SENSORS, {"name": "users", "type": "users", "rate": 50, "seed": 3}],
                            pipelines=[{"name": "warm", "from": "sensors", "program": "where temperature > 20"},
                                       {"name": "averages", "from": "warm", "workers": 2, "key": "sensor_id",
                                        "program": "window tumbling 1s by sensor_id: avg(temperature) as t"}],
                            sinks=[{"type": "null"}])
    control.good("start", config)
    wait_for(lambda: by_name(report(control))["averages.0"]["out"] > 3, "results of windows")
    audit = report(control)
    assert audit["verdict"] in ("balanced", "moving")
    stages = by_name(audit)
    assert set(stages) == {"sensors", "users", "warm", "averages.0", "averages.1", "broadcast"}
    assert stages["warm"]["filtered"] > 0 and stages["averages.0"]["created"] > 0 and stages["broadcast"]["in"] > 0
    links = {link["to"]: link for link in audit["links"]}
    assert set(links) == {"warm", "averages", "broadcast"}
    assert links["averages"]["from"] == ["warm"] and sorted(links["broadcast"]["from"])[:2] == ["averages.0", "averages.1"]
    table = control.good("audit", config)
    assert "Every event is accounted for" in table and "warm -> averages" in table
    control.good("stop", config)
    done = control.command("audit", config)
    assert done.status == 1 and "state_dir" in done.err


def test_finite_data_is_accounted_for_to_the_last_event(control, directory):
    write_csv(directory / "in.csv", 0, 5000)
    config = control.config(sources=[csv_source("rows", "in.csv")],
                            pipelines=[{"name": "some", "from": "rows", "program": "where temperature >= 50"}],
                            sinks=[{"type": "file", "path": "out.ndjson", "from": "some"}], server={"port": 0})
    control.good("start", config)
    control.wait_state("broadcast", "finished")
    audit = report(control)
    stages = by_name(audit)
    assert audit["verdict"] == "balanced", audit
    assert (stages["rows"]["in"], stages["some"]["in"], stages["some"]["out"], stages["some"]["filtered"]) == (5000, 5000, 2500, 2500)
    assert stages["broadcast"]["in"] == 7500
    assert all(link["under_way"] == 0 for link in audit["links"])


def test_a_stage_that_began_anew_without_state_is_named(control):
    config = control.config(sources=[SENSORS], pipelines=[{"name": "warm", "from": "sensors", "program": "where temperature > -99"}],
                            sinks=[{"type": "null"}])
    control.good("start", config)
    wait_for(lambda: by_name(report(control))["warm"]["out"] > 100, "events")
    pid = control.stage("warm")["pid"]
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: control.stage("warm")["pid"] not in (None, pid), "its return")
    control.wait_state("warm", "running")
    done = control.command("audit", config)
    assert done.status == 1 and "warm was started anew" in done.err, done.err
    assert report(control, status=1)["verdict"] == "unknown"


def test_an_audit_of_nothing_says_so(control):
    config = control.config(sources=[SENSORS])
    assert control.command("audit", "nothing.json").status == 1
    assert control.command("audit", config, "sensors").status == 64
    assert "does not run" in control.command("audit", config).err


def test_dead_letters_are_counted_and_shown(control, directory):
    write_csv(directory / "in.csv", 0, 3)
    with open(directory / "in.csv", "a") as file:
        file.write('3,"sensor,4\n')                  # a quote that never ends
    config = control.config(sources=[csv_source("rows", "in.csv")], sinks=[{"type": "null"}], delivery={"dead_letter": "dead"},
                            server={"port": 0})
    control.good("start", config)
    control.wait_state("rows", "finished")
    lines = control.good("dead", config).splitlines()
    count = {line.split()[0]: line.split()[1] for line in lines[1:]}
    assert count["rows"] == "1" and count["broadcast"] == "0", lines
    assert re.search(r"^rows +1 +\d+  \d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ  \w", "\n".join(lines), re.M), lines
    assert "1 event dead\n" in control.good("status", config) + "\n"
    (letter,) = map(json.loads, control.good("dead", config, "rows").splitlines())
    assert letter["stage"] == "rows" and "sensor,4" in letter["text"] and letter["reason"] in "".join(lines)
    assert control.command("dead", config, "nix").status == 1
    assert control.command("dead", config, "-n", "x").status == 64
    done = control.command("replay", config, "rows")
    assert done.status == 1 and "state_dir" in done.err, done.err
