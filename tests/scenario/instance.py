"""What the scenarios of streamctl share: configurations written as Python objects, a private place for run directories, asking the
supervisor over its control socket, and a clean end whatever happens."""

import json
import os
import re
import signal
import socket
from pathlib import Path

import pytest
from support import _SANITIZER, lines_of, wait_for, whole

EX_USAGE = 64


def alive(pid):
    """Whether the process exists and is not just waiting to be reaped."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


class Control:
    """streamctl in a directory of its own."""

    def __init__(self, tools, directory):
        self.tools, self.directory = tools, directory
        self.runtime = directory / "r"
        self.runtime.mkdir(mode=0o700)
        self.env = {"XDG_RUNTIME_DIR": str(self.runtime)}

    def config(self, name="config.json", **content):
        """Writes a configuration; without "server" it has none. `sources`, `pipelines`, `sinks` are lists."""
        if "sources" in content:
            content["data_sources"] = content.pop("sources")
        content.setdefault("server", {"enabled": False})
        path = self.directory / name
        path.write_text(json.dumps(content, indent=1))
        return path

    def command(self, *arguments, seconds=60, **how):
        """Runs `streamctl ARGUMENT...` to its end."""
        return self.tools.run("streamctl", *arguments, seconds=seconds, env={**self.env, **how.pop("env", {})}, **how)

    def good(self, *arguments, **how):
        done = self.command(*arguments, **how)
        assert done.status == 0, f"{done}: status {done.status}\n{done.err}{done.out.decode()}"
        return done.out.decode()

    def foreground(self, *arguments, **how):
        """`streamctl run ARGUMENT...`, going on."""
        return self.tools.start("streamctl", "run", *arguments, env={**self.env, **how.pop("env", {})}, group=True, **how)

    def run_dirs(self):
        return sorted(self.runtime.glob("streamctl/*"))

    def run_dir(self):
        return wait_for(self.run_dirs, "a run directory")[0]

    def status(self, *arguments):
        return json.loads(self.good("status", "--json", *arguments))

    def stage(self, name, *arguments):
        return next(stage for stage in self.status(*arguments)["stages"] if stage["name"] == name)

    def wait_state(self, name, *states, seconds=20):
        """Until the stage is in one of the states; returns it."""
        seen = []

        def look():
            seen[:] = [self.stage(name)]
            return seen[0] if seen[0]["state"] in states else None
        return wait_for(look, lambda: f"{name} to be {' or '.join(states)}; it is {seen}", seconds)

    def pids(self):
        status = self.status()
        return {stage["name"]: stage["pid"] for stage in status["stages"] if stage["pid"]} | {"supervisor": status["pid"]}

    def connect(self):
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(30)
        connection.connect(str(self.run_dir() / "control.sock"))
        return connection.makefile("rw")

    def supervisor_pid(self, run_dir):
        lock = run_dir / "lock"
        said = lock.read_text().strip() if lock.exists() else ""
        return int(said) if said else None

    def finish(self):
        """Ends what still runs, and reports what a sanitizer found in any stage."""
        problems = []
        for run_dir in self.run_dirs():
            pid = self.supervisor_pid(run_dir)
            if pid and alive(pid) and (run_dir / "control.sock").exists():
                os.kill(pid, signal.SIGKILL)
                wait_for(lambda: not alive(pid), "the supervisor's end")
            for log in run_dir.glob("*.log*"):
                found = _SANITIZER.search(log.read_text(errors="replace"))
                if found:
                    problems.append(f"{log.name}: {found.group(0)}\n{log.read_text(errors='replace')[-6000:]}")
        return problems


@pytest.fixture
def control(tools, directory):
    control = Control(tools, directory)
    yield control
    problems = control.finish()
    assert not problems, "\n".join(problems)


def csv_source(name, path, **more):
    return {"name": name, "type": "csv", "path": str(path), **more}


def write_csv(path, first, count):
    """Rows seq,device,temperature; temperature is seq % 100."""
    with open(path, "a") as file:
        if file.tell() == 0:
            file.write("seq,device,temperature\n")
        file.writelines(f"{i},sensor_{i % 10},{i % 100}\n" for i in range(first, first + count))


def seqs(path):
    """The seq of each line of an NDJSON file that has one, in order. While it is still being written: seqs_so_far."""
    return [event["seq"] for event in lines_of(path) if "seq" in event]


def seqs_so_far(path):
    """Those of the lines that are complete; none when there is no file yet. Where the writer is killed, the next one ends the line that it left in
    part: such a line is passed over."""
    lines = (json.loads(line) for line in whole(Path(path)).split(b"\n") if line.endswith(b"}"))
    return [event["seq"] for event in lines if "seq" in event]
