"""Whole pipelines under streamctl, programs included: exact counts from files to files, workers, kills at every hop; and the ready
ones in pipelines/."""

import csv
import json
import os
import re
import signal
import socket
import urllib.request

import pytest
from instance import control, csv_source, seqs, seqs_so_far, write_csv  # noqa: F401
from support import ROOT, free_port, lines_of, sensor_lines, ndjson, wait_for

PIPELINES = ROOT / "pipelines"


def test_a_chain_of_programs_ends_with_exactly_what_it_must(control, directory):
    write_csv(directory / "in.csv", 0, 50000)
    config = control.config(
        stream_config={"buffer_size": 1000, "batch_size": 100},
        sources=[csv_source("numbers", "in.csv", publish=False)],
        pipelines=[{"name": "warm", "from": "numbers", "program": ["where temperature >= 50", "| set half = temperature / 2"], "publish": False},
                   {"name": "some", "from": "warm", "program": "where device == \"sensor_7\""},
                   {"name": "totals", "from": "numbers", "program": "window tumbling 365d by device: count() as n"}],
        sinks=[{"type": "file", "path": "some.ndjson", "from": "some"}, {"type": "file", "path": "totals.ndjson", "from": "totals"},
               {"type": "file", "path": "all.ndjson"}])
    done = control.command("run", config)
    assert done.status == 0, done.err
    expected = [i for i in range(50000) if i % 100 >= 50 and i % 10 == 7]
    assert seqs(directory / "some.ndjson") == expected
    totals = lines_of(directory / "totals.ndjson")
    assert {total["device"] for total in totals} == {f"sensor_{i}" for i in range(10)}
    assert sum(total["n"] for total in totals) == 50000
    assert sorted(seqs(directory / "all.ndjson")) == expected
    assert len(lines_of(directory / "all.ndjson")) == len(expected) + len(totals)


def test_workers_share_the_work_and_keep_keys_together(control, directory):
    write_csv(directory / "in.csv", 0, 20000)
    config = control.config(
        sources=[csv_source("numbers", "in.csv", publish=False)],
        pipelines=[{"name": "counts", "from": "numbers", "workers": 3, "key": "device", "program": "window tumbling 365d by device: count() as n"},
                   {"name": "copy", "from": "numbers", "workers": 2, "program": "where true"}],
        sinks=[{"type": "file", "path": "counts.ndjson", "from": "counts"}, {"type": "file", "path": "copy.ndjson", "from": "copy"}])
    done = control.command("run", config)
    assert done.status == 0, done.err
    counts = {}
    for line in lines_of(directory / "counts.ndjson"):
        counts.setdefault(line["device"], []).append(line["n"])
    assert {device: sum(n) for device, n in counts.items()} == {f"sensor_{i}": 2000 for i in range(10)}
    assert sorted(seqs(directory / "copy.ndjson")) == list(range(20000))


@pytest.mark.parametrize("split", ({}, {"workers": 2, "key": "id"}))
def test_two_sources_are_joined_and_looked_up_in_a_table(control, directory, split):
    start = 1_732_300_000_000
    (directory / "orders.ndjson").write_bytes(ndjson([{"ts": start + i * 10, "id": i % 50, "n": i} for i in range(3000)]))
    (directory / "payments.ndjson").write_bytes(ndjson([{"ts": start + i * 10 + 3, "id": i % 50, "n": i} for i in range(0, 3000, 2)]))
    (directory / "names.csv").write_text("id,name\n" + "".join(f"{i},name {i}\n" for i in range(40)))
    config = control.config(
        sources=[{"name": name, "type": "json", "path": f"{name}.ndjson", "time": "ts", "publish": False} for name in ("orders", "payments")],
        pipelines=[{"name": "paid", "from": ["orders", "payments"], **split,
                    "program": ["join payments on id within 100ms left as payment", f"| lookup \"{directory}/names.csv\" on id keep name"]}],
        sinks=[{"type": "file", "path": "paid.ndjson", "from": "paid"}])
    done = control.command("run", config)
    assert done.status == 0, done.err
    lines = lines_of(directory / "paid.ndjson")
    assert sorted((line["n"], line["payment"] and line["payment"]["n"]) for line in lines) == \
        [(i, i if i % 2 == 0 else None) for i in range(3000)]
    assert all(line["name"] == (f"name {line['id']}" if line["id"] < 40 else None) for line in lines)


def test_rules_of_alerts_write_to_the_stream_alerts(control, directory):
    write_csv(directory / "in.csv", 0, 1000)
    config = control.config(
        sources=[csv_source("numbers", "in.csv", publish=False)],
        alerts=[{"name": "hot", "from": "numbers", "when": "temperature >= 90", "clear_when": "temperature < 50", "severity": "critical",
                 "message": "{device} is \"hot\""}],
        sinks=[{"type": "file", "path": "alerts.ndjson", "from": "alerts"}, {"type": "file", "path": "all.ndjson"}])
    done = control.command("run", config)
    assert done.status == 0, done.err
    alerts = lines_of(directory / "alerts.ndjson")
    assert [alert["state"] for alert in alerts] == ["firing", "cleared"] * 9 + ["firing"]
    assert alerts[0]["alert"] == "hot" and alerts[0]["severity"] == "critical" and alerts[0]["message"] == 'sensor_0 is "hot"'
    assert len(lines_of(directory / "all.ndjson")) == len(alerts)      # and nothing else


@pytest.mark.parametrize("publish", [True, False])
def test_alerts_of_a_chain_arrive_once(control, directory, publish):
    """The first program's alerts reach the sinks by its own link, or, when it is not published, through the second."""
    write_csv(directory / "in.csv", 0, 1000)
    config = control.config(
        sources=[csv_source("numbers", "in.csv", publish=False)],
        pipelines=[{"name": "first", "from": "numbers", "program": "alert hot when temperature >= 90", "publish": publish},
                   {"name": "second", "from": "first", "program": "where device == \"sensor_7\""}],
        sinks=[{"type": "file", "path": "alerts.ndjson", "from": "alerts"}, {"type": "file", "path": "second.ndjson", "from": "second"}])
    done = control.command("run", config)
    assert done.status == 0, done.err
    assert [alert["state"] for alert in lines_of(directory / "alerts.ndjson")] == ["firing", "cleared"] * 9 + ["firing"]
    assert seqs(directory / "second.ndjson") == [i for i in range(1000) if i % 10 == 7]


def test_workers_are_stages_of_their_own(control, directory):
    config = control.config(sources=[{"name": "sensors", "type": "sensors", "rate": 500}],
                            pipelines=[{"name": "p", "workers": 2, "program": "where temperature > 0"}], sinks=[{"type": "null"}])
    control.good("start", config)
    status = control.status()
    assert {stage["name"]: stage["inputs"] for stage in status["stages"]} == {
        "sensors": [], "p.0": ["sensors"], "p.1": ["sensors"], "broadcast": ["sensors", "p.0", "p.1"]}
    pids = control.pids()
    control.good("restart", "p")          # both
    wait_for(lambda: all(control.stage(name)["pid"] not in (None, pids[name]) for name in ("p.0", "p.1")), "both to come back")
    control.good("stop", "p.1")
    control.wait_state("p.1", "stopped")
    assert control.stage("p.0")["state"] == "running"


HITS = [(victim, number) for victim in ("warm", "broadcast") for number in (signal.SIGKILL, signal.SIGSTOP, signal.SIGTERM)]


@pytest.mark.parametrize("victim, number", [("numbers", signal.SIGSTOP), *HITS])
def test_nothing_is_lost_whoever_is_hit(control, directory, victim, number):
    """What was not yet acknowledged may come twice after a kill. (A source of memory links that is killed begins its file again.)"""
    write_csv(directory / "in.csv", 0, 3000)
    config = control.config(
        sources=[csv_source("numbers", "in.csv", follow=True, batch_size=50, publish=False)],
        pipelines=[{"name": "warm", "program": "where temperature >= 50"}],
        sinks=[{"type": "file", "path": "out.ndjson"}], limits={"restarts": 0})
    control.good("start", config)
    wait_for(lambda: (directory / "out.ndjson").exists() and (directory / "out.ndjson").stat().st_size, "the first rows")
    for part in range(1, 4):
        before = control.wait_state(victim, "running")["pid"]
        os.kill(before, number)
        write_csv(directory / "in.csv", 3000 * part, 3000)
        if number == signal.SIGSTOP:
            os.kill(before, signal.SIGCONT)
        else:
            wait_for(lambda: control.stage(victim)["pid"] not in (None, before), "its return", seconds=40)
    expected = [i for i in range(12000) if i % 100 >= 50]
    wait_for(lambda: len(set(seqs_so_far(directory / "out.ndjson"))) >= len(expected),
             lambda: f"{len(expected)} rows; there are {len(set(seqs_so_far(directory / 'out.ndjson')))}", seconds=40)
    control.good("stop", config)
    assert sorted(set(seqs_so_far(directory / "out.ndjson"))) == expected
    if number == signal.SIGSTOP:
        assert seqs(directory / "out.ndjson") == expected


def test_the_default_pipeline_runs_and_shows_every_stream(control, directory):
    config = directory / "default.json"
    content = json.loads((PIPELINES / "default.json").read_text())
    content["server"] = {"port": 0}
    config.write_text(json.dumps(content))
    control.good("start", config)
    address = control.status()["address"]

    def events(stream):
        try:
            with urllib.request.urlopen(f"{address}api/streams/{stream}/events?limit=1", timeout=20) as answer:
                return json.load(answer)["events"]
        except OSError:
            return None
    for stream in ("machine", "sensors", "users", "load", "averages"):
        event = wait_for(lambda: events(stream), f"an event of {stream}", seconds=30)[0]
        assert event["data"]
    assert events("load")[0]["data"]["memory_percent"] > 0
    assert events("averages")[0]["data"]["events"] > 0
    assert control.status()["state"] == "running"
    control.good("stop", config)


def test_the_default_alerts_are_fit_to_be_read(tools):
    averages = next(p for p in json.loads((PIPELINES / "default.json").read_text())["pipelines"] if p["name"] == "averages")
    made = tools.run("ingest", "generator:sensors", "--rate", "0", "--count", "50000", "--seed", "1",
                     "--start", "2026-01-01T00:00:00Z", "--step", "20ms")
    done = tools.run("process", "\n".join(averages["program"]), input=made.out)
    messages = [event["message"] for event in done.events if event.get("alert") == "overheat"]
    assert messages
    for message in messages:
        assert re.fullmatch(r"sensor_\d+ in \w+ averages \d+(\.\d{1,2})? degrees", message), message


def test_the_briefs_configuration_runs_as_it_is(control, directory):
    brief = json.loads((PIPELINES / "brief.json").read_text())
    assert brief == {"stream_config": {"buffer_size": 1000, "batch_size": 100, "processing_interval": 1, "max_connections": 50},
                     "data_sources": [{"name": "api_source", "type": "api", "url": "https://api.example.com/stream", "interval": 5}]}
    brief["server"] = {"port": 0}          # the only difference: 5000 may be taken here
    (directory / "config.json").write_text(json.dumps(brief))
    control.good("start")
    assert control.stage("api_source")["state"] == "running"
    control.good("stop", "api")
    control.wait_state("api_source", "stopped")
    request = urllib.request.Request(control.status()["address"] + "api/stream/start", data=b'{"source": "api", "interval": 1}',
                                     headers={"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=20) as answer:
        assert answer.status == 200
    assert control.wait_state("api_source", "running")["interval"] == 1
    control.good("stop")


def test_the_ready_pipeline_of_webhooks_and_syslog(control, directory):
    content = json.loads((PIPELINES / "webhooks-and-syslog.json").read_text())
    ports = [free_port(), free_port()]
    for source, port in zip(content["data_sources"], ports):
        source["url"] = re.sub(r":\d+", f":{port}", source["url"])
    content["server"] = {"enabled": False}
    (directory / "config.json").write_text(json.dumps(content))
    control.good("start")
    for name in ("orders", "logs"):
        control.wait_state(name, "running")

    def post():
        request = urllib.request.Request(f"http://127.0.0.1:{ports[0]}/orders", data=b'[{"id": 1}, {"id": 2}]', headers={"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=20) as answer:
                return json.load(answer)
        except OSError:
            return None
    assert wait_for(post, "the web server") == {"accepted": 2}
    with socket.create_connection(("127.0.0.1", ports[1])) as peer:
        peer.sendall(b"<34>Oct 11 22:14:15 m su: bad\n<38>Oct 11 22:14:15 m su: good\n")
    for name in ("orders", "trouble"):
        path = directory / f"{name}.ndjson"
        wait_for(lambda: path.exists() and path.read_bytes().endswith(b"\n"), f"{name}'s events")
    control.good("stop")
    assert [event["id"] for event in lines_of(directory / "orders.ndjson")] == [1, 2]
    assert [event["message"] for event in lines_of(directory / "trouble.ndjson")] == ["bad"]


def test_the_ready_pipeline_of_log_files(control, directory):
    content = json.loads((PIPELINES / "log-files.json").read_text())
    content["server"] = {"enabled": False}
    (directory / "config.json").write_text(json.dumps(content))
    (directory / "logs").mkdir()
    (directory / "logs/a.log").write_text("level=error n=1\nlevel=info n=2\n")
    control.good("start")
    control.wait_state("logs", "running")
    path = directory / "errors.ndjson"
    wait_for(lambda: path.exists() and path.read_bytes().count(b"\n") == 1, "the first error")
    (directory / "logs/a.log").rename(directory / "logs/a.log.1")
    (directory / "logs/a.log").write_text("level=error n=3\n")
    (directory / "logs/b.log").write_text("level=error n=4\n")
    wait_for(lambda: path.read_bytes().count(b"\n") == 3, "the others")
    control.good("stop")
    assert sorted(event["n"] for event in lines_of(path)) == [1, 3, 4]


def test_the_ready_pipeline_of_a_web_servers_logs(control, directory):
    content = json.loads((PIPELINES / "web-server-logs.json").read_text())
    content["server"] = {"enabled": False}
    (directory / "config.json").write_text(json.dumps(content))
    (directory / "logs").mkdir()
    line = '10.0.0.1 - - [27/Nov/2026:06:00:00 +0000] "GET /{0} HTTP/1.1" {1} 5 "-" "curl"\n'
    (directory / "logs/access.log").write_text(line.format("fine", 200) + line.format("broken", 502))
    (directory / "logs/app1.log").write_text("INFO a\nERROR b\njava.io.IOException: c\n\tat d.E.f(E.java:1)\nINFO g\n")
    control.good("start")
    path = directory / "trouble.ndjson"
    wait_for(lambda: path.exists() and path.read_bytes().count(b"\n") == 2, "both kinds of trouble")
    control.good("stop")
    assert {event.get("path", event.get("message")) for event in lines_of(path)} == {"/broken", "ERROR b\njava.io.IOException: c\n\tat d.E.f(E.java:1)"}


def test_every_ready_configuration_is_good(control, monkeypatch):
    monkeypatch.setenv("DATABASE_URL", "postgres://app@db.example.com/shop")
    monkeypatch.setenv("API_URL", "https://api.example.com")
    monkeypatch.setenv("API_KEY", "secret")
    monkeypatch.setenv("NATS_URL", "nats+tls://nats.example.com/orders.>")
    monkeypatch.setenv("FEED_URL", "wss://feed.example.com/stream")
    monkeypatch.setenv("FEED_TOKEN", "secret")
    monkeypatch.setenv("MQTT_URL", "mqtts://broker.example.com/plant/+/+/#")
    monkeypatch.setenv("KAFKA_URL", "kafka://kafka1.example.com:9092,kafka2.example.com:9092/payments")
    monkeypatch.setenv("REDIS_URL", "rediss://redis.example.com/orders")
    for path in PIPELINES.glob("*.json"):
        assert ": ok:" in control.good("check", path)


def test_shell_hot_sensors(tools):
    done = tools.run(PIPELINES / "hot-sensors.sh", "20000", "26")
    assert done.status == 0, done.err
    assert done.events and all(event["temperature"] > 26 for event in done.events)
    assert set(done.events[0]) == {"sensor_id", "location", "temperature"}


def test_shell_hot_sensors_shows_something_as_it_stands(tools):
    done = tools.run(PIPELINES / "hot-sensors.sh")
    assert done.status == 0 and done.events


def test_everything_in_the_directory_is_installed(tools, directory):
    done = tools.shell(f"make -C {PIPELINES.parent} -n install DESTDIR={directory} PREFIX=/p DEPS=no | grep /p/share/stream/pipelines")
    patterns = [word for line in done.out.decode().splitlines() for word in line.split() if word.startswith("pipelines/")]
    assert {path for pattern in patterns for path in PIPELINES.parent.glob(pattern)} == set(PIPELINES.iterdir())


def test_shell_averages_to_csv(tools, directory):
    events = sensor_lines(6000)            # ten a second, ten devices: ten minutes... one event each 10 ms
    (directory / "in.ndjson").write_bytes(ndjson(events))
    done = tools.run(PIPELINES / "averages-to-csv.sh", "in.ndjson", "ts", "device", "temperature", "10s", "out.csv")
    assert done.status == 0, done.err
    rows = list(csv.DictReader(open(directory / "out.csv")))
    assert sum(int(row["events"]) for row in rows) == 6000
    for row in rows:
        assert float(row["least"]) <= float(row["average"]) <= float(row["greatest"])


def test_shell_watch_machine(tools):
    done = tools.run(PIPELINES / "watch-machine.sh", "3", "0.05s")
    assert done.status == 0, done.err
    assert len(re.findall(r"^cpu +[\d.]+ % +memory +[\d.]+ %$", done.out.decode(), re.M)) == 3


def test_shell_separate_processes(tools, directory):
    (directory / "in.ndjson").write_bytes(ndjson(sensor_lines(30000)))
    done = tools.run(PIPELINES / "separate-processes.sh", "in.ndjson", "where seq % 3 == 0", "out.ndjson")
    assert done.status == 0, done.err
    assert seqs(directory / "out.ndjson") == list(range(0, 30000, 3))


def test_shell_two_workers(tools, directory):
    (directory / "in.ndjson").write_bytes(ndjson(sensor_lines(30000)))
    done = tools.run(PIPELINES / "two-workers.sh", "in.ndjson", "device", "window tumbling 1d by device: count() as n", "out.ndjson")
    assert done.status == 0, done.err
    assert sorted((line["device"], line["n"]) for line in lines_of(directory / "out.ndjson")) == [(f"sensor_{i:04d}", 3000) for i in range(10)]
