"""The world of the chaos runs: two sources that are fed while faults are injected, a stateless and a windowed stage behind both, and
one broadcast with two files and a SQLite database. Stages are started again by this world, as a supervisor would.

    log file --> ingest "log" --+--> process "clean"   --+
                                |  X                      +--> broadcast --> clean.ndjson, windows.ndjson, out.db
    HTTP pages -> ingest "web" -+--> process "windows" --+"""

import http.server
import json
import os
import signal
import subprocess
import threading
import time
import uuid
from pathlib import Path

from support import BIN, PATIENCE, _die_with_parent, free_port

WIDTH_MS = 1000
START_MS = 1_700_000_000_000
KEYS = [f"k{i:02}" for i in range(20)]


class Filler:
    """Makes events large: text of its own for each, of any length up to the greatest, which the oracle can make again."""

    def __init__(self, most):
        self.most = most
        self.text = "".join(chr(97 + i * i % 26) + str(i) for i in range(most))

    def of(self, source, number):
        length, start = number * 7919 % (self.most + 1), (number + len(source)) * 31 % (self.most + 1)
        return self.text[start:start + length]


class Server(http.server.ThreadingHTTPServer):
    def handle_error(self, request, client_address):
        """Clients are killed here: that is nothing to report."""


class Feed:
    """Makes the events of both sources, and writes down what went in: the log's when the line is complete in the file, a page's when
    the client has come back for the next one (so it has taken this one)."""

    def __init__(self, directory, random, rate, size):
        self.random, self.rate = random, rate
        self.filler = Filler(size) if size else None
        self.pace, self.page_most = (0.1, max(2, 500_000 // size)) if size else (0.02, 60)
        self.log = directory / "log.ndjson"
        self.log.touch()
        self.events = []                     # (source, id, key, value, time ms)
        self.page, self.page_tag = b"[]", "0"
        self.page_events, self.web_ended = [], threading.Event()
        self.numbers = {"log": 0, "web": 0}
        self.lock = threading.Lock()
        self.ending = False
        self.rotations = 0
        self.server = Server(("127.0.0.1", free_port()), self.handler())
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.stopped = threading.Event()
        self.writer = threading.Thread(target=self.write_log, daemon=True)
        self.writer.start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server.server_address[1]}/page"

    def event(self, source):
        number = self.numbers[source] = self.numbers[source] + 1
        time_ms = START_MS + number * 5
        record = {"source": source, "id": number, "key": self.random.choice(KEYS), "value": self.random.randrange(1000), "time": time_ms}
        if self.filler:
            record["filler"] = self.filler.of(source, number)
        return record, (source, number, record["key"], record["value"], time_ms)

    def end_event(self, source):
        return {"source": source, "id": self.numbers[source] + 1, "key": "end", "value": 0, "time": START_MS + 10**9}

    def write_log(self):
        """Lines in bursts, sometimes torn in two writes, and now and then the file is renamed and begun anew."""
        file = open(self.log, "ab", buffering=0)
        began, written = time.monotonic(), 0
        while not self.stopped.is_set():
            due = int((time.monotonic() - began) * self.rate) - written
            batch = [self.event("log") for _ in range(min(due, 500))]
            if batch:
                data = b"".join(json.dumps(record).encode() + b"\n" for record, _ in batch)
                cut = self.random.randrange(len(data))
                file.write(data[:cut])
                file.write(data[cut:])
                self.events.extend(event for _, event in batch)
                written += len(batch)
            if self.random.random() < 0.01:
                self.rotations += 1
                os.rename(self.log, self.log.with_name(f"log.ndjson.{self.rotations}"))
                file.close()
                file = open(self.log, "ab", buffering=0)
            time.sleep(self.pace)
        file.write(json.dumps(self.end_event("log")).encode() + b"\n")
        file.close()

    def handler(self):
        feed = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                with feed.lock:
                    if self.headers.get("If-None-Match") == f'"{feed.page_tag}"':
                        feed.next_page()
                    body, tag = feed.page, feed.page_tag
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("ETag", f'"{tag}"')
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *arguments):
                pass

        return Handler

    def next_page(self):
        """The page before has been taken: it counts."""
        self.events.extend(self.page_events)
        if self.web_ended.is_set():
            self.page, self.page_events = b"[]", []
            return
        if self.ending:
            batch, self.page_events = [self.end_event("web")], []
            self.web_ended.set()
        else:
            made = [self.event("web") for _ in range(self.random.randrange(1, self.page_most))]
            batch, self.page_events = [record for record, _ in made], [event for _, event in made]
        self.page, self.page_tag = json.dumps(batch).encode(), str(int(self.page_tag) + 1)

    def end(self):
        """No more is made; the last events of both sources are far ahead, so that every window fires."""
        self.stopped.set()
        self.writer.join()
        self.ending = True

    def close(self):
        self.server.shutdown()
        self.server.server_close()


def _before_exec():
    """A TERM that comes before the program has begun waits until it can take it, as it does in a program that starts over."""
    _die_with_parent()
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})


SPOOL_LIMIT = "6MiB"                         # so that all logs together leave room on the small disk, however far a run falls behind


class Stage:
    """One process that is started again and again with the same arguments."""

    def __init__(self, world, name, *arguments, prefix=()):
        self.world, self.name = world, name
        self.state = world.state / name
        self.arguments = [*prefix, str(BIN / arguments[0]), *map(str, arguments[1:]), "--state", str(self.state), "--name", name,
                          "--dead-letter", str(world.directory / f"{name}.dead")]
        if arguments[0] != "broadcast":
            self.arguments += ["--spool-limit", SPOOL_LIMIT]
        self.boot = str(uuid.uuid4())
        self.process = None
        self.starts = 0
        self.failures = []

    def start(self):
        self.starts += 1
        env = {**os.environ, "STREAM_BOOT_ID": self.boot}
        with open(self.world.directory / f"{self.name}.err", "ab") as err:
            self.process = subprocess.Popen(self.arguments, env=env, stdin=subprocess.DEVNULL, stdout=err, stderr=err,
                                            preexec_fn=_before_exec)

    @property
    def running(self):
        return self.process is not None and self.process.poll() is None

    def signal(self, number):
        if self.running:
            self.process.send_signal(number)

    def kill(self):
        self.signal(signal.SIGKILL)
        self.process.wait()

    def terminate(self):
        self.signal(signal.SIGCONT)
        self.signal(signal.SIGTERM)
        try:
            return self.process.wait(60 * PATIENCE)
        except subprocess.TimeoutExpired:
            self.failures.append("did not end on TERM")
            self.kill()
            return None

    def lose_power(self):
        """kill -9, and of its log only what was synced is left, after another start of the machine."""
        self.kill()
        self.cut()
        self.boot = str(uuid.uuid4())

    def cut(self):
        spool = self.state / "spool"
        try:
            synced = (spool / "synced").read_text().strip("\0\n ")
        except FileNotFoundError:
            return
        if synced:                           # else it was killed, or found no room, before it first wrote that
            cut_spool(spool, dict(line.split(" ", 1) for line in synced.splitlines() if " " in line))

    def keep_running(self):
        """A stage that has ended by itself is started again; a failure is remembered."""
        status = self.process.poll() if self.process else 0
        if status is None:
            return
        if status not in (0, -signal.SIGKILL) and not self.world.disk_is_full:      # then it says so, and its supervisor tries again
            self.failures.append(f"status {status}")
        self.start()

    def ledger(self):
        return json.loads((self.state / "ledger").read_text())


def cut_spool(spool, facts):
    """Keeps what the file `synced` vouches for."""
    segment, length = facts["segment"].removesuffix(".seg"), int(facts["length"])
    for path in sorted(spool.glob("*.seg")):
        if path.stem > segment:
            path.unlink()
        elif path.stem == segment and path.stat().st_size > length:
            os.truncate(path, length)


class World:
    """Everything together. With `split`, broadcast lives in a network namespace of its own and is reached over tcp. `size`: bytes that events are larger at
    most."""

    def __init__(self, directory, random, rate=1500, small_disk=None, split=None, size=0):
        self.directory, self.random = Path(directory), random
        self.state = Path(small_disk or self.directory / "state")
        self.state.mkdir(exist_ok=True)
        self.split = split
        self.feed = Feed(self.directory, random, rate, size)
        d = self.directory
        (d / "out").mkdir()
        ipc = {name: f"ipc://{d}/{name}" for name in ("log-clean", "log-windows", "web-clean", "web-windows", "windows-out")}
        out = f"tcp://{split.inside if split else '127.0.0.1'}:{free_port()}"
        to_out, from_out = (">" + out, "@" + out) if split else ("@" + out, ">" + out)
        sinks = [{"name": "clean_file", "type": "file", "path": str(d / "out/clean.ndjson"), "from": ["clean"], "rotate-size": "8MiB" if size else "256KiB", "keep": 1000},
                 {"name": "windows_file", "type": "file", "path": str(d / "out/windows.ndjson"), "from": ["windows"]},
                 {"name": "clean_base", "type": "sqlite", "path": str(d / "out/base.db"), "table": "clean", "from": ["clean"]},
                 {"name": "windows_base", "type": "sqlite", "path": str(d / "out/base.db"), "table": "windows", "from": ["windows"]}]
        settings = d / "sinks.json"
        settings.write_text(json.dumps({"sinks": sinks}))
        self.stages = [
            Stage(self, "log", "ingest", self.feed.log, "--follow", "--time", "time", "--to", ipc["log-clean"], "--to", ipc["log-windows"],
                  "--rotate-wait", "500ms"),
            Stage(self, "web", "ingest", self.feed.url, "--interval", "20ms", "--time", "time", "--retry-min", "50ms", "--retry-max", "200ms",
                  "--to", ipc["web-clean"], "--to", ipc["web-windows"]),
            Stage(self, "clean", "process", "where value >= 0 | set double = value * 2", "--from", ipc["log-clean"], "--from", ipc["web-clean"],
                  "--to", to_out, "--snapshot", "200ms"),
            Stage(self, "windows", "process", f"window tumbling {WIDTH_MS}ms by key: count() as n, sum(value) as total", "--idle", "0",
                  "--from", ipc["log-windows"], "--from", ipc["web-windows"], "--to", ipc["windows-out"], "--snapshot", "200ms"),
            Stage(self, "broadcast", "broadcast", "--settings", settings, "--from", from_out, "--from", ipc["windows-out"],
                  prefix=split.inside_prefix if split else ()),
        ]
        self.disk_is_full = False

    def start(self):
        for stage in self.stages:
            stage.start()

    def tend(self):
        for stage in self.stages:
            stage.keep_running()

    def output(self, name):
        """The lines of a rotated file, oldest first."""
        out = self.directory / "out"
        old = sorted(out.glob(f"{name}.ndjson.*"), key=lambda path: -int(path.suffix[1:]))
        return [*old, *([out / f"{name}.ndjson"] if (out / f"{name}.ndjson").exists() else [])]

    def ended(self):
        """Both sources' last events have come through the stateless part, and both windows' files have all windows."""
        seen = sum(1 for path in self.output("clean") for line in open(path, "rb") if b'"end"' in line and line.endswith(b"\n"))
        return seen >= 2

    def close(self):
        for stage in self.stages:
            if stage.running:
                stage.signal(signal.SIGCONT)
                stage.kill()
        self.feed.close()
