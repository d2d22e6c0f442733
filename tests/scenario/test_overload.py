"""A sink that stands still for good, with sources at full speed: every stage stays inside its memory, the source pauses, and all of it
arrives once the sink is back."""

import http.server
import json
import signal
import subprocess
import threading

import pytest
import support
from support import PATIENCE, free_port, wait_for

COUNT = 600_000
LIMIT_MIB = 64


class Wall:
    """An HTTP server that takes nothing until it is opened."""

    def __init__(self):
        self.open, self.ids, self.seen = threading.Event(), [], set()
        wall = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                status = 503
                if wall.open.is_set():
                    status = 200
                    key = self.headers["Idempotency-Key"]
                    if key not in wall.seen:
                        wall.seen.add(key)
                        wall.ids.extend(event["id"] for event in json.loads(body))
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *arguments):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", free_port()), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/in"


def resident(tool, what="VmHWM"):
    line = next(line for line in open(f"/proc/{tool.pid}/status") if line.startswith(what))
    return int(line.split()[1]) / 1024


@pytest.mark.limit(240)
def test_a_sink_that_stands_still_stops_the_source_and_nothing_else(tools, directory):
    wall = Wall()
    data = directory / "data.ndjson"
    with open(data, "w") as file:
        for number in range(COUNT):
            file.write(f'{{"id":{number},"text":"{"x" * 80}"}}\n')
    limits = ["--spool-limit", "16MiB", "--snapshot", "200ms"]
    ingest = tools.start("ingest", data, "--name", "numbers", "--to", f"ipc://{directory}/a", "--state", directory / "s/ingest", *limits[:2])
    process = tools.start("process", "set half = id / 2", "--name", "halves", "--from", f"ipc://{directory}/a", "--to", f"ipc://{directory}/b",
                          "--state", directory / "s/process", *limits)
    broadcast = tools.start("broadcast", wall.url, "--from", f"ipc://{directory}/b", "--state", directory / "s/broadcast")
    stages = {"ingest": ingest, "process": process, "broadcast": broadcast}

    def read_so_far():
        return int(open(f"/proc/{ingest.pid}/io").readline().split()[1])

    still = [0, 0]

    def stands_still():
        at = read_so_far()
        still[:] = [at, still[1] + 1 if at - still[0] < 4096 else 0]       # acknowledgements are read, too
        return still[1] >= 20 and at > 1 << 20

    wait_for(stands_still, "the source to pause", 60)
    assert read_so_far() < data.stat().st_size, "the source was read to its end though nobody takes anything"
    for name, stage in stages.items():
        assert stage.running, stage.err
        assert resident(stage) < LIMIT_MIB * (8 if PATIENCE > 1 else 1), f"{name} took {resident(stage):.0f} MiB"
    wall.open.set()
    wait_for(lambda: len(wall.ids) >= COUNT, lambda: f"all events ({len(wall.ids)} of {COUNT})", 120)
    for name, stage in stages.items():
        assert stage.process.wait(60 * PATIENCE) == 0, stage.err
    assert sorted(wall.ids) == list(range(COUNT))


@pytest.mark.limit(240)
def test_logs_that_share_a_small_disk_do_not_fill_it(tools, directory):
    """Each stage's default limit is larger than the disk. Where one log took all of it, those behind could neither write nor acknowledge, for good."""
    disk, data, out = directory / "disk", directory / "data.ndjson", directory / "out.ndjson"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=40m", "tmpfs", disk], capture_output=True).returncode:
        pytest.skip("needs a small file system, which only root can make")
    try:
        with open(data, "w") as file:
            for number in range(COUNT):
                file.write(f'{{"id":{number},"text":"{"x" * 80}"}}\n')
        links = [f"ipc://{directory}/{name}" for name in "ab"]
        broadcast = tools.start("broadcast", f"file:{out}", "--from", links[1], "--state", disk / "broadcast")
        process = tools.start("process", "where id >= 0", "--from", links[0], "--to", links[1], "--state", disk / "process")
        support.wait_for(lambda: (disk / "broadcast").exists() and (disk / "process/spool/meta").exists(), "both", 30)
        broadcast.signal(signal.SIGSTOP)
        ingest = tools.start("ingest", data, "--name", "numbers", "--to", links[0], "--state", disk / "ingest")
        logged = lambda name: sum(path.stat().st_size for path in (disk / name / "spool").glob("*.seg"))
        support.wait_for(lambda: (disk / "ingest/spool").exists() and logged("ingest") > 3 * 1024 * 1024, "a full log", 60)
        broadcast.signal(signal.SIGCONT)
        for tool in (ingest, process, broadcast):
            assert tool.wait(120) == 0, tool.err[-2000:]
        assert "held to 4 MiB" in ingest.err and "held to 4 MiB" in process.err
        assert [event["id"] for event in support.lines_of(out)] == list(range(COUNT))
    finally:
        subprocess.run(["umount", "-l", disk], check=True)
