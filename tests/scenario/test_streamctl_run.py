"""streamctl run, start, stop, status, restart, logs: the life of an instance as its user sees it."""

import json
import os
import re
import shutil
import signal
import socket

import pytest

from instance import EX_USAGE, alive, control, csv_source, seqs, seqs_so_far, write_csv  # noqa: F401
from support import free_port, tool_path, wait_for

SENSORS = {"name": "sensors", "type": "sensors", "rate": 200}


def test_run_ends_by_itself_when_all_is_delivered(control, directory):
    write_csv(directory / "in.csv", 0, 20000)
    config = control.config(sources=[csv_source("numbers", "in.csv")], sinks=[{"type": "file", "path": "out.ndjson"}])
    done = control.command("run", config)
    assert done.status == 0, done.err
    assert seqs(directory / "out.ndjson") == list(range(20000))


def test_paths_in_the_file_are_relative_to_it(control, directory):
    (directory / "sub").mkdir()
    write_csv(directory / "sub/in.csv", 0, 10)
    config = control.config("sub/config.json", sources=[csv_source("a", "in.csv")], sinks=[{"type": "file", "path": "out.ndjson"}])
    assert control.command("run", config, cwd="/").status == 0
    assert seqs(directory / "sub/out.ndjson") == list(range(10))


def test_standard_output_is_a_sink_of_a_foreground_run(control, directory):
    write_csv(directory / "in.csv", 0, 100)
    config = control.config(sources=[csv_source("a", "in.csv")], sinks=[{"type": "stdout"}])
    done = control.command("run", config)
    assert [event["seq"] for event in done.events] == list(range(100))


def test_what_cannot_be_used_goes_to_the_directory_of_dead_letters(control, directory):
    (directory / "in.ndjson").write_text('{"a":1}\n{oops\n{"a":2}\n')
    config = control.config(sources=[{"name": "broken", "type": "ndjson", "path": "in.ndjson"}], delivery={"dead_letter": "dead/here"},
                            sinks=[{"type": "stdout"}])
    done = control.command("run", config)
    assert done.status == 0 and done.events == [{"a": 1}, {"a": 2}]
    letter = json.loads((directory / "dead/here/broken.ndjson").read_text())
    assert letter["stage"] == "broken" and letter["text"] == "{oops" and letter["place"].endswith("in.ndjson:2")


def test_ctrl_c_drains_everything(control, directory):
    write_csv(directory / "in.csv", 0, 5000)
    config = control.config(sources=[csv_source("a", "in.csv", follow=True)], sinks=[{"type": "file", "path": "out.ndjson"}])
    run = control.foreground(config)
    wait_for(lambda: len(seqs_so_far(directory / "out.ndjson")) == 5000, "the first rows")
    write_csv(directory / "in.csv", 5000, 1000)
    wait_for(lambda: len(seqs_so_far(directory / "out.ndjson")) > 5000, "rows of the second part")
    run.signal(signal.SIGINT)
    assert run.wait() == 0, run.err
    written = seqs(directory / "out.ndjson")
    assert written == list(range(len(written)))
    assert not list((directory / "r").glob("streamctl/*/control.sock"))


def test_a_second_ctrl_c_ends_at_once(control, directory):
    config = control.config(sources=[SENSORS], sinks=[{"type": "null"}], limits={"drain": "600s"})
    run = control.foreground(config)
    run.wait_err("everything is ready")
    pids = control.pids()
    os.kill(pids["broadcast"], signal.SIGSTOP)
    run.signal(signal.SIGINT)
    run.wait_err("draining")
    run.signal(signal.SIGINT)
    assert run.wait() == 1
    for pid in pids.values():
        wait_for(lambda: not alive(pid), "the end of all")


def test_start_returns_when_ready_and_stop_when_all_is_gone(control, directory):
    config = control.config(sources=[SENSORS], sinks=[{"type": "file", "path": "out.ndjson"}])
    assert "running" in control.good("start", config)
    status = control.status()
    assert status["ok"] is True and status["state"] == "running" and status["config"] == str(config.resolve())
    assert {stage["name"]: stage["state"] for stage in status["stages"]} == {"sensors": "running", "broadcast": "running"}
    source = status["stages"][0]
    assert (source["tool"], source["role"], source["type"]) == ("ingest", "source", "sensors")
    assert source["outputs"] == ["broadcast"] and status["stages"][1]["inputs"] == ["sensors"]
    assert source["restarts"] == 0 and source["last_exit"] is None and os.path.exists(source["metrics"])
    pids = control.pids()
    assert all(alive(pid) for pid in pids.values())
    wait_for(lambda: (directory / "out.ndjson").exists() and (directory / "out.ndjson").stat().st_size, "the first events")
    assert "stopped" in control.good("stop", config)
    assert not any(alive(pid) for pid in pids.values())
    assert control.command("status", config).status == 1


def test_the_table_shows_every_stage_and_its_counts(control, directory):
    write_csv(directory / "in.csv", 0, 1234)
    config = control.config(sources=[csv_source("numbers", "in.csv", follow=True)], sinks=[{"type": "null"}])
    control.good("start", config)
    wait_for(lambda: re.search(r"^broadcast +broadcast +running .* 1234 ", control.good("status"), re.M), "the count in the table")
    table = control.good("status")
    assert re.search(r"^numbers +ingest +running +\d+ +0 ", table, re.M), table
    assert str(config.resolve()) in table


def test_without_a_file_the_only_running_instance_is_meant(control, directory):
    assert "nothing is running" in control.command("status").err
    one = control.config("one.json", sources=[SENSORS])
    two = control.config("two.json", sources=[SENSORS])
    control.good("start", one)
    assert control.status()["config"] == str(one.resolve())
    control.good("start", two)
    both = control.command("status")
    assert both.status == 1 and str(one.resolve()) in both.err and str(two.resolve()) in both.err
    control.good("stop", one)
    assert control.status()["config"] == str(two.resolve())
    control.good("stop")


def test_config_json_in_the_working_directory_is_the_default(control, directory):
    control.config(sources=[SENSORS])
    control.good("start")
    assert control.status()["state"] == "running"
    control.good("stop")


def test_a_second_instance_on_one_file_is_refused(control, directory):
    config = control.config(sources=[SENSORS])
    (directory / "link.json").symlink_to(config)
    control.good("start", config)
    pid = control.status()["pid"]
    for arguments in (("start", config), ("run", config), ("run", directory / "link.json")):
        done = control.command(*arguments)
        assert done.status == 1 and f"already running (process {pid})" in done.err, done.err
    assert control.status()["pid"] == pid


def test_one_source_stops_and_starts_while_others_run(control, directory):
    config = control.config(sources=[SENSORS, {"name": "shop", "type": "users", "rate": 50}], sinks=[{"type": "null"}])
    control.good("start", config)
    control.good("stop", "shop")
    control.wait_state("shop", "stopped")
    assert control.stage("sensors")["state"] == "running"
    control.good("start", "users")     # its type means it, too
    control.wait_state("shop", "running")
    refused = control.command("start", "shpo")
    assert refused.status == 1 and 'did you mean "shop"?' in refused.err


def test_a_finished_pipeline_runs_again_when_its_source_starts(control, directory):
    write_csv(directory / "in.csv", 0, 100)
    config = control.config(sources=[csv_source("a", "in.csv")], sinks=[{"type": "file", "path": "out.ndjson"}])
    control.good("start", config)
    control.wait_state("broadcast", "finished")
    assert control.status()["state"] == "finished"
    assert control.stage("a")["last_exit"] == "exit status 0"
    control.good("start", "a")
    wait_for(lambda: len(seqs_so_far(directory / "out.ndjson")) == 200, "the second pass")
    control.wait_state("broadcast", "finished")
    assert seqs(directory / "out.ndjson") == list(range(100)) * 2


def test_a_source_without_autostart_waits_for_its_order(control, directory):
    write_csv(directory / "in.csv", 0, 10)
    config = control.config(sources=[SENSORS, csv_source("later", "in.csv", autostart=False)],
                            sinks=[{"type": "file", "path": "out.ndjson", "from": "later"}])
    control.good("start", config)
    assert control.stage("later")["state"] == "stopped"
    control.good("start", "later")
    control.wait_state("later", "finished")
    wait_for(lambda: len(seqs_so_far(directory / "out.ndjson")) == 10, "its events")


def test_restart_reads_the_file_anew(control, directory):
    config = control.config(sources=[SENSORS], sinks=[{"type": "null"}])
    control.good("start", config)
    first = control.status()
    control.config(sources=[SENSORS, {"name": "second", "type": "users"}], sinks=[{"type": "null"}])
    control.good("restart")
    status = control.status()
    assert status["pid"] != first["pid"] and "second" in [stage["name"] for stage in status["stages"]]
    (directory / "config.json").write_text("{")
    assert control.command("restart").status == EX_USAGE
    assert control.status()["pid"] == status["pid"]    # what runs goes on


def test_restart_looks_at_each_program_once(control, directory):
    """Each look is a process: a hundred of them are what a restart takes its time for."""
    (directory / "bin").mkdir()
    for name in ("streamctl", "ingest", "broadcast", "process"):
        shutil.copy(tool_path(name), directory / "bin" / (name if name != "process" else "process.real"))
    process = directory / "bin/process"
    process.write_text(f'#!/bin/sh\n[ "$1" != --check=json ] || echo x >> "{directory}/looks"\nexec "{process}.real" "$@"\n')
    process.chmod(0o755)
    control.config(sources=[SENSORS], pipelines=[{"name": f"p{i}", "program": "where temperature > 0"} for i in range(3)])
    for command in ("start", "restart", "check"):
        (directory / "looks").write_text("")
        done = control.tools.run(str(directory / "bin/streamctl"), command, seconds=60, env=control.env)
        assert done.status == 0, f"{done.err}"
        assert (directory / "looks").read_text() == 3 * "x\n", command


def test_restart_of_one_stage_leaves_the_others(control, directory):
    config = control.config(sources=[SENSORS, {"name": "users", "type": "users"}], sinks=[{"type": "null"}])
    control.good("start", config)
    before = control.pids()
    control.good("restart", "sensors")
    wait_for(lambda: control.stage("sensors")["state"] == "running" and control.stage("sensors")["pid"] != before["sensors"], "its return")
    assert control.pids()["users"] == before["users"] and control.pids()["broadcast"] == before["broadcast"]


def test_an_interval_is_kept_and_restarts_the_source_only_when_it_differs(control, directory):
    config = control.config(sources=[{"name": "machine", "type": "system", "interval": 3600}, SENSORS], sinks=[{"type": "null"}])
    control.good("start", config)
    before = control.stage("machine")
    assert "interval" not in before
    control.good("start", "machine", "--interval", "0.05")
    wait_for(lambda: control.stage("machine")["pid"] not in (None, before["pid"]), "the restart")
    now = control.wait_state("machine", "running")
    assert now["interval"] == 0.05
    control.good("start", "machine", "--interval", "0.05")
    assert control.wait_state("machine", "running")["pid"] == now["pid"]
    control.good("restart", "machine")
    assert control.wait_state("machine", "running")["interval"] == 0.05
    assert "no interval" in control.command("start", "sensors", "--interval", "1").err
    assert control.command("start", "machine", "--interval", "soon").status == EX_USAGE


def test_logs_are_kept_per_stage_and_shown_in_order(control, directory):
    (directory / "bad.ndjson").write_text('{"a":1}\n{oops}\n{"a":2}\n')
    config = control.config(sources=[{"name": "broken", "type": "ndjson", "path": "bad.ndjson"}, SENSORS], sinks=[{"type": "null"}])
    control.good("start", config)
    control.wait_state("broken", "finished")
    log = wait_for(lambda: control.good("logs", "broken"), "the source's words")
    assert "bad.ndjson:2" in log and "ingest[broken]" in log
    every = control.good("logs", "-n", "1000")
    times = [line.split()[0] for line in every.splitlines()]
    assert times == sorted(times) and "streamctl[" in every and "ingest[broken]" in every
    assert len(control.good("logs", "-n1").splitlines()) == 1
    assert control.command("logs", "nobody").status == 1
    assert control.command("logs", "-n", "x").status == EX_USAGE
    control.good("stop")
    assert "bad.ndjson:2" in control.good("logs", config, "broken")    # still there afterwards


def test_logs_follow_what_comes(control, directory):
    config = control.config(sources=[SENSORS], sinks=[{"type": "null"}])
    control.good("start", config)
    follower = control.tools.start("streamctl", "logs", "-f", "supervisor", env=control.env)
    wait_for(lambda: b"everything is ready" in follower.out, "what was there")
    os.kill(control.pids()["sensors"], signal.SIGKILL)
    wait_for(lambda: b"signal 9" in follower.out, "what came")
    follower.signal(signal.SIGTERM)


def test_logs_are_bounded(control, directory):
    (directory / "bad.ndjson").write_text("")
    config = control.config(sources=[{"name": "broken", "type": "ndjson", "path": "bad.ndjson", "follow": True, "log_level": "debug"}],
                            sinks=[{"type": "null"}], limits={"log_size": 4096, "restarts": 0})
    control.good("start", config)
    log = control.run_dir() / "broken.log"
    for lives in range(40):
        if log.with_suffix(".log.1").exists():
            break
        with open(directory / "bad.ndjson", "a") as file:
            file.write("{" + "x" * 500 + "\n")
        wait_for(lambda: log.with_suffix(".log.1").exists() or log.stat().st_size, "a message")
        before = control.stage("broken")["pid"]
        control.good("restart", "broken")
        wait_for(lambda: control.stage("broken")["pid"] not in (None, before), "the next life")
    assert log.with_suffix(".log.1").exists()
    assert log.stat().st_size <= 4096 and log.with_suffix(".log.1").stat().st_size <= 4096 + 2400


def test_a_port_in_use_is_said_with_its_remedy(control, directory):
    import socket
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        config = control.config(sources=[SENSORS], server={"port": port})
        done = control.command("start", config)
        assert done.status == 1
        assert str(port) in done.err and "facade" in done.err, done.err
        assert control.command("status", config).status == 1
    assert "dashboard: http://127.0.0.1:" in control.good("start", config)


@pytest.mark.parametrize("config_of, words", [
    (lambda port: {"server": {"port": port}}, "another program has this port"),
    (lambda port: {"sinks": [{"type": "file", "path": "."}]}, "Is a directory")])
def test_a_run_says_once_why_it_cannot_start(control, config_of, words):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        config = control.config(sources=[SENSORS], **config_of(other.getsockname()[1]))
        done = control.command("run", config)
        assert done.status == 1 and done.err.count(words) == 1 and "cannot start: " in done.err, done.err
        done = control.command("start", config)
        assert done.status == 1 and done.err.count(words) == 1, done.err


def test_a_free_port_is_found_and_told(control, directory):
    config = control.config(sources=[SENSORS], server={"port": 0})
    address = re.search(r"dashboard: (http://127\.0\.0\.1:\d+/)", control.good("start", config)).group(1)
    assert control.status()["address"] == address
    import urllib.request

    def state():                         # the server learns it from the supervisor, a moment later than we
        try:
            with urllib.request.urlopen(address + "api/stream/status", timeout=20) as answer:
                return json.load(answer)["state"] == "running"
        except urllib.error.HTTPError as error:
            assert error.code == 503
    wait_for(state, "the pipeline to run")


def test_the_command_line_explains_itself(control, directory):
    helped = control.good("--help")
    for command in ("run", "start", "stop", "restart", "status", "check", "logs"):
        assert re.search(rf"^  {command} ", helped, re.M)
        assert "usage: streamctl " + command in control.good(command, "--help")
    assert "facade" not in helped
    assert control.command().status == EX_USAGE
    wrong = control.command("strat")
    assert wrong.status == EX_USAGE and "did you mean start?" in wrong.err
    assert "did you mean restart?" in control.command("reload").err and "did you mean check?" in control.command("validate").err
    assert control.command("run", "--fast").status == EX_USAGE
    assert control.good("--version").startswith("streamctl ")


def test_a_run_directory_that_cannot_be_made_names_the_variable(control, directory):
    config = control.config(sources=[SENSORS])
    done = control.command("start", config, env={"XDG_RUNTIME_DIR": "/proc"})
    assert done.status == 1 and "the run directory (set XDG_RUNTIME_DIR" in done.err and "/proc/streamctl" in done.err


def test_a_port_that_another_configuration_has_names_that_one(control, directory):
    port = free_port()
    first = control.config("first.json", sources=[SENSORS], server={"port": port})
    second = control.config("second.json", sources=[SENSORS], server={"port": port})
    control.good("start", first)
    done = control.command("start", second)
    assert done.status == 1 and f"127.0.0.1:{port}: {first} runs there" in done.err and f"'streamctl stop {first}'" in done.err
    control.good("stop", first)
    with socket.create_server(("127.0.0.1", port)):
        assert "another program has this port" in control.command("start", second).err
    control.good("start", second)


def test_nothing_listens_without_a_server(control, directory):
    port = free_port()
    config = control.config(sources=[SENSORS], server={"enabled": False, "port": port})
    control.good("start", config)
    assert [stage["name"] for stage in control.status()["stages"]] == ["sensors", "broadcast"]
    assert control.status()["address"] == ""
