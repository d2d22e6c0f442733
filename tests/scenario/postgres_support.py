"""A private PostgreSQL server: its own directory, port and socket, run by the user postgres."""

import os
import pwd
import shutil
import subprocess
import tempfile
from pathlib import Path

import support

PROGRAMS = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name))[-1]


class Postgres:
    def __init__(self, **settings):
        self.user = pwd.getpwnam("postgres")
        self.home = Path(tempfile.mkdtemp(prefix="pg", dir="/tmp"))
        self.own(self.home)
        self.data, self.log = self.home / "data", self.home / "log"
        self.port = support.free_port()
        self._run("initdb", "-N", "-A", "trust", "-U", "postgres", "-E", "UTF8", "--locale=C.UTF-8", "-D", self.data)
        self.configure(listen_addresses="127.0.0.1", port=self.port, unix_socket_directories=self.home, wal_level="logical", fsync="off",
                       max_wal_senders=10, max_replication_slots=10, shared_buffers="16MB", **settings)
        self.start()

    def own(self, path):
        """Gives it to the server's user."""
        if os.geteuid() == 0:
            os.chown(path, self.user.pw_uid, self.user.pw_gid)

    def _run(self, program, *arguments, check=True):
        def demote():
            if os.geteuid() == 0:
                os.setgroups([])
                os.setgid(self.user.pw_gid)
                os.setuid(self.user.pw_uid)
        done = subprocess.run([str(PROGRAMS / program), *map(str, arguments)], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, preexec_fn=demote, cwd=self.home)
        assert not check or done.returncode == 0, done.stdout.decode()
        return done

    def configure(self, **settings):
        with open(self.data / "postgresql.conf", "a") as file:
            for name, value in settings.items():
                file.write(f"{name} = '{value}'\n")

    def start(self):
        # Its output goes to the log alone: a pipe of ours would stay open as long as the server lives.
        self._run("pg_ctl", "start", "-w", "-D", self.data, "-l", self.log, "-s")

    def stop(self, mode="immediate"):
        self._run("pg_ctl", "stop", "-w", "-D", self.data, "-m", mode, check=False)

    def url(self, database="postgres", user="postgres", parameters=""):
        return f"postgres://{user}@127.0.0.1:{self.port}/{database}{parameters}"

    def local(self, database):
        """By the socket, where nobody is asked for a password."""
        return f"postgres://postgres@/{database}?host={self.home}&port={self.port}"

    def session(self, database="postgres"):
        """psql, that takes statements one after the other."""
        return Session(self, database)

    def ask(self, sql, database="postgres"):
        """Rows, each a list of texts."""
        done = subprocess.run(["psql", "-X", "-q", "-A", "-t", "-F", "\t", "-v", "ON_ERROR_STOP=1", self.local(database)], input=sql,
                              text=True, capture_output=True)
        assert done.returncode == 0, done.stderr
        return [line.split("\t") for line in done.stdout.splitlines()]

    def close(self):
        self.stop()
        shutil.rmtree(self.home, ignore_errors=True)


class Session:
    """One connection that stays open: transactions that are held."""

    def __init__(self, server, database):
        self.process = subprocess.Popen(["psql", "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", server.local(database)], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, text=True)

    def do(self, sql):
        """Returns when it is done."""
        self.process.stdin.write(sql + ";\n\\echo done\n")
        self.process.stdin.flush()
        while (line := self.process.stdout.readline().strip()) != "done":
            assert line or self.process.poll() is None, "the session has ended"

    def close(self):
        self.process.stdin.close()
        self.process.wait(10)
        self.process.stdout.close()
