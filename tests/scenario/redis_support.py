"""A private Redis server: its own directory and port, with or without TLS and a password."""

import shutil
import subprocess
import tempfile
from pathlib import Path

import redis

import support


class Redis:
    """settings: those of redis.conf, with _ for -. What it has confirmed survives a kill."""

    def __init__(self, tls=None, ca=None, password=None, start=True, **settings):
        self.home = Path(tempfile.mkdtemp(prefix="redis", dir="/tmp"))
        self.port, self.tls, self.password, self.process = support.free_port(), tls, password, None
        conf = {"bind": "127.0.0.1", "port": 0 if tls else self.port, "dir": self.home, "save": '""', "appendonly": "yes", "appendfsync": "always",
                "logfile": self.home / "log", **settings}
        if tls:
            conf |= {"tls-port": self.port, "tls-cert-file": tls[0], "tls-key-file": tls[1], "tls-ca-cert-file": ca or tls[0],
                     "tls-auth-clients": "yes" if ca else "no"}
        if password:
            conf["requirepass"] = password
        (self.home / "conf").write_text("".join(f"{name.replace('_', '-')} {value}\n" for name, value in conf.items()))
        if start:
            self.start()

    def start(self):
        self.process = subprocess.Popen(["redis-server", self.home / "conf"], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                        stderr=subprocess.DEVNULL, preexec_fn=support._die_with_parent)
        support.wait_for(self.answers, lambda: f"redis-server; {self.log}")

    def answers(self):
        assert self.process.poll() is None, self.log
        if self.tls:
            with support.socket.socket() as probe:
                return probe.connect_ex(("127.0.0.1", self.port)) == 0
        try:
            return self.client().ping()
        except redis.RedisError:
            return False

    def stop(self, hard=False):
        """hard: kill -9."""
        if self.process:
            self.process.kill() if hard else self.process.terminate()
            self.process.wait(30)
            self.process = None

    @property
    def log(self):
        path = self.home / "log"
        return path.read_text(errors="replace")[-3000:] if path.exists() else ""

    def url(self, rest="", user="", host="127.0.0.1"):
        return f"redis{'s' if self.tls else ''}://{user}{host}:{self.port}/{rest}"

    def client(self, database=0, **how):
        return redis.Redis("127.0.0.1", self.port, database, password=self.password, **how)

    def add(self, key, *entries, database=0):
        """Entries as dictionaries; returns their identifiers as text."""
        pipeline = self.client(database).pipeline(transaction=False)
        for entry in entries:
            pipeline.xadd(key, entry)
        return [name.decode() for name in pipeline.execute()]

    def pending(self, key, group):
        return self.client().xpending(key, group)["pending"]

    def close(self):
        self.stop(hard=True)
        shutil.rmtree(self.home, ignore_errors=True)
