"""A private MariaDB server of a test's own."""

import getpass
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path

import support
import tls_support


def with_tls(tmp_path_factory, *arguments):
    """The body of a fixture: a server with a good certificate, whose authority it has beside it."""
    authority = tls_support.Authority(tmp_path_factory.mktemp("tls"))
    certificate, key = authority.good()
    started = MariaDB(*arguments, f"--ssl-cert={certificate}", f"--ssl-key={key}")
    started.authority = authority
    yield started
    started.close()


def without_table(server):
    """The body of a fixture: the server, before and behind the test without the table t."""
    server.ask("DROP TABLE IF EXISTS t")
    yield server
    server.ask("DROP TABLE IF EXISTS t")


class MariaDB:
    def __init__(self, *arguments):
        self.home = Path(tempfile.mkdtemp(prefix="my", dir="/tmp"))
        self.port, self.socket, self.log = support.free_port(), self.home / "s", self.home / "log"
        self.arguments = list(arguments)
        done = subprocess.run(["mariadb-install-db", "--no-defaults", f"--datadir={self.home}/data", "--auth-root-authentication-method=normal",
                               f"--user={getpass.getuser()}", "--skip-test-db"], capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        self.start()
        self.ask("CREATE DATABASE d; CREATE USER someone IDENTIFIED BY 'hidden'; GRANT ALL ON *.* TO someone", None)

    def start(self):
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                ["/usr/sbin/mariadbd", "--no-defaults", f"--datadir={self.home}/data", f"--socket={self.socket}", f"--port={self.port}",
                 "--bind-address=127.0.0.1", f"--user={getpass.getuser()}", "--innodb-buffer-pool-size=16M", "--innodb-flush-log-at-trx-commit=0",
                 f"--pid-file={self.home}/pid", *self.arguments], stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        support.wait_for(lambda: self._client("SELECT 1", None).returncode == 0, lambda: self.log.read_text()[-2000:], 30)

    def stop(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(30)

    def _client(self, sql, database):
        return subprocess.run(["mariadb", "--no-defaults", f"--socket={self.socket}", "-u", "root", "-N", "-B", *([database] if database else [])],
                              input=sql, capture_output=True, text=True)

    def ask(self, sql, database="d"):
        done = self._client(sql, database)
        assert done.returncode == 0, done.stderr
        return [line.split("\t") for line in done.stdout.splitlines()]

    def url(self, user="someone:hidden", more=""):
        return f"mysql://{user}@127.0.0.1:{self.port}/d{more}"

    def close(self):
        if self.process.poll() is None:
            self.stop()
        shutil.rmtree(self.home, ignore_errors=True)
