"""streamctl when things go wrong: stages that die, hang or never start, a supervisor that is killed, foreign hands on the control socket."""

import json
import os
import random
import signal
import socket
import stat
import time
from pathlib import Path

import pytest
from instance import alive, control, csv_source, seqs_so_far, write_csv  # noqa: F401
from support import PATIENCE, wait_for

SENSORS = {"name": "sensors", "type": "sensors", "rate": 200}


def kill(pid, number=signal.SIGKILL):
    os.kill(pid, number)


@pytest.mark.parametrize("victim", ["sensors", "broadcast", "facade"])
def test_a_stage_that_is_killed_comes_back(control, victim):
    config = control.config(sources=[SENSORS], sinks=[{"type": "null"}], server={"port": 0})
    control.good("start", config)
    before = control.pids()
    kill(before[victim])
    wait_for(lambda: control.stage(victim)["restarts"] == 1 and control.stage(victim)["state"] == "running", "its return")
    stage = control.stage(victim)
    assert stage["last_exit"] == "signal 9 (Killed)" and stage["pid"] != before[victim]
    after = control.pids()
    assert {name: pid for name, pid in after.items() if name != victim} == {n: p for n, p in before.items() if n != victim}
    assert control.status()["state"] == "running"


def test_nothing_is_lost_while_broadcast_is_killed_again_and_again(control, directory):
    """The sink is a file that survives; what a killed broadcast had not acknowledged comes again, so repeats are possible, gaps are not."""
    write_csv(directory / "in.csv", 0, 1000)
    config = control.config(sources=[csv_source("a", "in.csv", follow=True, batch_size=100)],
                            sinks=[{"type": "file", "path": "out.ndjson"}], limits={"restarts": 0})
    control.good("start", config)
    for life in range(4):
        wait_for(lambda: len(set(seqs_so_far(directory / "out.ndjson"))) >= 1000 * (life + 1), "all rows so far")
        before = control.stage("broadcast")["pid"]
        kill(before)
        write_csv(directory / "in.csv", 1000 * (life + 1), 1000)
        wait_for(lambda: control.stage("broadcast")["pid"] not in (None, before), "its return", seconds=40)
    wait_for(lambda: len(set(seqs_so_far(directory / "out.ndjson"))) == 5000, "all rows")
    control.good("stop", config)
    assert sorted(set(seqs_so_far(directory / "out.ndjson"))) == list(range(5000))


def test_a_crash_loop_ends_with_a_message_and_a_start_resets_it(control, directory):
    config = control.config(sources=[SENSORS], sinks=[{"type": "null"}], limits={"restarts": 3})
    control.good("start", config)
    for times in range(3):
        pid = control.wait_state("sensors", "running")["pid"]
        kill(pid)
        wait_for(lambda: control.stage("sensors")["pid"] != pid, "its end")
    failed = control.wait_state("sensors", "failed")
    assert "3 times in a row" in failed["message"] and "signal 9" in failed["message"]
    assert failed["pid"] is None, "0 would be a process group to whoever kills by it"
    assert control.status()["state"] == "degraded"
    table = control.good("status")
    assert "3 times in a row" in table and table.count("signal 9") == 1, table
    assert "error" in control.good("logs", "supervisor")
    control.good("start", "sensors")
    control.wait_state("sensors", "running")
    assert control.status()["state"] == "running"


def test_a_stage_that_cannot_start_fails_the_start_with_its_own_words(control, directory):
    (directory / "dir").mkdir()
    config = control.config(sources=[SENSORS], sinks=[{"type": "file", "path": "dir"}])
    done = control.command("start", config)
    assert done.status == 1 and "broadcast" in done.err and "exit status" in done.err and "dir" in done.err, done.err
    assert control.command("status", config).status == 1
    done = control.command("run", config)
    assert done.status == 1 and "cannot start: broadcast" in done.err


def test_a_run_without_a_server_ends_when_a_stage_on_the_way_is_given_up(control, directory):
    config = control.config(sources=[SENSORS], sinks=[{"type": "null"}], limits={"restarts": 1})
    run = control.foreground(config)
    run.wait_err("everything is ready")
    kill(control.pids()["broadcast"])
    assert run.wait() == 1
    assert "given up" in run.err


def test_a_stage_that_hangs_while_draining_is_killed_within_its_limits(control, directory):
    config = control.config(sources=[SENSORS], sinks=[{"type": "null"}], limits={"drain": 0.3, "kill": 0.3})
    control.good("start", config)
    pids = control.pids()
    kill(pids["broadcast"], signal.SIGSTOP)
    done = control.command("stop", config)
    assert done.status == 0
    assert not any(alive(pid) for pid in pids.values())
    assert "broadcast" in control.good("logs", config, "supervisor", "-n", "5")


def test_a_killed_supervisor_takes_its_stages_along_and_leaves_nothing_in_the_way(control, directory):
    config = control.config(sources=[SENSORS], sinks=[{"type": "null"}], server={"port": 0})
    for life in range(3):
        control.good("start", config)
        pids = control.pids()
        kill(pids["supervisor"])
        control.good("start", config)     # at once
        assert not any(alive(pid) for pid in pids.values())
        assert control.status()["state"] == "running"
        control.good("stop", config)


def test_stages_get_no_descriptor_but_their_own_and_no_secret_in_their_arguments(control, directory):
    config = control.config(sources=[{"name": "api", "type": "api", "url": "http://127.0.0.1:9/${PART}?token=in-the-query",
                                      "user": "me", "password": "in-the-file", "interval": 3600}, SENSORS], sinks=[{"type": "null"}],
                            server={"port": 0, "token": "of-the-server"})
    control.good("start", config, env={"PART": "from-the-environment"})
    pids = control.pids()
    for name, pid in pids.items():
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
        for secret in (b"in-the-query", b"in-the-file", b"of-the-server"):
            assert secret not in command
    links = {name: [os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")] for name, pid in pids.items()}
    for name in ("api", "sensors", "broadcast", "facade"):
        assert not [link for link in links[name] if link.endswith(("/lock", "supervisor.log"))], links[name]
        assert os.readlink(f"/proc/{pids[name]}/fd/0") == "/dev/null"
    shown = control.good("status", "--json") + control.good("logs", "-n", "1000")
    for path in control.run_dir().glob("*.log"):
        shown += path.read_text()
    for secret in ("in-the-file", "of-the-server", "in-the-query"):
        assert secret not in shown


def test_no_zombies_and_no_growing_number_of_descriptors(control, directory):
    config = control.config(sources=[SENSORS], sinks=[{"type": "null"}], limits={"restarts": 0})
    control.good("start", config)
    supervisor = control.pids()["supervisor"]

    def count():
        return len(os.listdir(f"/proc/{supervisor}/fd"))
    before = count()
    for times in range(3):
        pid = control.wait_state("sensors", "running")["pid"]
        kill(pid)
        wait_for(lambda: control.stage("sensors")["pid"] not in (None, pid), "its return")
    control.wait_state("sensors", "running")
    wait_for(lambda: count() <= before, lambda: f"{before} descriptors, there are {count()}")
    children = Path(f"/proc/{supervisor}/task/{supervisor}/children").read_text().split()
    assert len(children) == 2 and all(alive(int(child)) for child in children)


def test_the_run_directory_and_its_socket_are_private(control):
    control.good("start", control.config(sources=[SENSORS]))
    run_dir = control.run_dir()
    assert stat.S_IMODE(run_dir.stat().st_mode) == 0o700
    assert stat.S_IMODE((run_dir / "control.sock").stat().st_mode) == 0o600
    control.good("stop")
    assert {path.name for path in run_dir.iterdir() if not path.name.endswith(".log")} == {"lock", "config", "l"}


def test_a_directory_of_someone_else_is_refused(control, directory):
    config = control.config(sources=[SENSORS])
    control.good("start", config)
    run_dir = control.run_dir()
    control.good("stop")
    moved = directory / "elsewhere"
    run_dir.rename(moved)
    run_dir.symlink_to(moved)
    done = control.command("start", config)
    assert done.status == 1 and "not a directory of ours" in done.err


def ask(stream, request):
    stream.write((request if isinstance(request, str) else json.dumps(request)) + "\n")
    stream.flush()
    return json.loads(stream.readline())


def test_the_control_socket_answers_every_line(control):
    control.good("start", control.config(sources=[SENSORS]))
    stream = control.connect()
    assert ask(stream, {"command": "status"})["ok"] is True
    for request, code in (("{", "bad_request"), ("[]", "bad_request"), ({"command": 1}, "bad_request"),
                          ({"command": "dance"}, "unknown_command"), ({"command": "start", "source": 5}, "bad_request"),
                          ({"command": "stop", "source": "nobody"}, "unknown_source"),
                          ({"command": "start", "source": "sensors", "interval": -1}, "bad_interval"),
                          ({"command": "start", "source": "sensors", "interval": "x"}, "bad_interval"),
                          ({"command": "start", "source": "sensors", "interval": 5}, "bad_interval"),
                          ({"command": "start", "command ": 1, "source": "\u0001\u00e9"}, "unknown_source")):
        reply = ask(stream, request)
        assert (reply["ok"], reply["code"]) == (False, code) and reply["message"], reply
    for _ in range(2):                                            # all sources; again: nothing to do
        reply = ask(stream, {"command": "stop"})
        assert reply["ok"] is True and [source["name"] for source in reply["sources"]] == ["sensors"], reply
        assert reply["sources"][0]["state"] in ("draining", "stopped"), reply
    wait_for(lambda: ask(stream, {"command": "status"})["state"] == "stopped", "all sources stopped")
    assert ask(stream, {"command": "start"})["ok"] is True
    wait_for(lambda: ask(stream, {"command": "status"})["state"] == "running", "all running again")


def test_a_watcher_hears_of_every_change_and_of_the_end(control):
    control.good("start", control.config(sources=[SENSORS]))
    stream = control.connect()
    first = ask(stream, {"command": "watch"})
    assert first["state"] == "running"
    control.good("stop", "sensors")
    seen = []
    while not seen or seen[-1]["state"] != "stopped":
        seen.append(json.loads(stream.readline()))
    assert seen[-1]["stages"][0]["state"] == "stopped"
    control.good("stop")
    rest = stream.read().splitlines()         # up to the end of the connection
    assert json.loads(rest[-1])["state"] == "stopping"


def test_a_client_that_sends_too_much_or_reads_nothing_disturbs_nobody(control):
    control.good("start", control.config(sources=[SENSORS]))
    path = str(control.run_dir() / "control.sock")
    greedy = socket.socket(socket.AF_UNIX)
    greedy.connect(path)
    greedy.settimeout(30)
    with pytest.raises(OSError):
        for part in range(4096):
            greedy.sendall(b"x" * 65536)
    deaf = socket.socket(socket.AF_UNIX)
    deaf.connect(path)
    deaf.settimeout(0.2)
    request = b'{"command":"status"}\n'
    try:
        for part in range(200000):
            deaf.sendall(request * 10)
    except OSError:
        pass
    supervisor = control.status()["pid"]
    memory = int(Path(f"/proc/{supervisor}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    assert control.status()["state"] == "running"
    assert memory < (64 << 20 if PATIENCE == 1 else 512 << 20)     # a sanitizer keeps what was freed for a while
    greedy.close()
    deaf.close()


def test_shutdown_over_the_socket_is_a_stop(control):
    config = control.config(sources=[SENSORS])
    control.good("start", config)
    pids = control.pids()
    stream = control.connect()
    assert ask(stream, {"command": "shutdown"}) == {"ok": True}
    assert stream.read() == ""
    wait_for(lambda: not any(alive(pid) for pid in pids.values()), "the end of all")


def test_commands_do_not_wait_for_a_stopped_supervisor_without_end(control):
    config = control.config(sources=[SENSORS], sinks=[{"type": "null"}])
    control.good("start", config)
    supervisor = control.status()["pid"]
    kill(supervisor, signal.SIGSTOP)
    try:
        for command in ("status", "stop"):
            done = control.command(command, config)
            assert done.status == 1 and f"(process {supervisor}) has not answered" in done.err
    finally:
        kill(supervisor, signal.SIGCONT)
    wait_for(lambda: not alive(supervisor), "its end, for it finds the request when it goes on")


def test_a_supervisor_that_is_killed_at_any_moment_leaves_nothing_in_the_way(control):
    """Also in the middle of starting its stages; the one after it always works, at once."""
    config = control.config(sources=[SENSORS, {"name": "users", "type": "users"}], sinks=[{"type": "null"}], server={"port": 0},
                            pipelines=[{"name": "warm", "from": "sensors", "program": "where temperature > 20"}])
    moments = random.Random(7)
    for life in range(12):
        run = control.foreground(config)
        time.sleep(moments.uniform(0, 0.25))
        kill(run.pid)
        run.wait()
    control.good("start", config)
    before = set(control.pids().values())
    left = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if str(control.runtime) in (process / "environ").read_text(errors="replace") and int(process.name) not in before and alive(int(process.name)):
                left.append((process / "cmdline").read_bytes())
        except OSError:
            pass                                     # it has just ended, or is not ours
    assert not left
    assert control.status()["state"] == "running" and not any(stage["restarts"] for stage in control.status()["stages"])
    control.good("stop", config)


def test_too_few_open_files_are_said_before_anything_starts(control):
    config = control.config(sources=[{"name": f"s{i}", "type": "sensors", "rate": 5} for i in range(8)], server={"enabled": False})
    started = control.tools.shell(f"ulimit -Sn 48; exec streamctl start {config}", env=control.env)     # what is allowed beyond it is taken
    assert started.status == 0, started.err
    control.good("stop", config)
    refused = control.tools.shell(f"ulimit -n 48; exec streamctl start {config}", env=control.env)
    assert refused.status == 1 and "9 processes" in refused.err and "of the 48 that are allowed" in refused.err and "ulimit -n" in refused.err
    assert control.command("status", config).status == 1


def test_a_link_without_open_files_for_its_sockets_is_refused(tools):
    done = tools.shell("ulimit -n 30; exec broadcast --from ipc://x stdout:")
    assert done.status == 1 and "ipc://x: about 24 more open files are needed" in done.err and "ulimit -n" in done.err, done.err
