"""A private MQTT server (mosquitto): its own directory and port, with or without TLS and passwords."""

import shutil
import subprocess
import tempfile
from pathlib import Path

import paho.mqtt.client

import runs_support
import support


class Mosquitto:
    """settings: lines of mosquitto.conf, such as max_inflight_messages=5."""

    def __init__(self, tls=None, login=None, ca=None, start=True, **settings):
        self.home = Path(tempfile.mkdtemp(prefix="mqtt", dir="/tmp"))
        self.port, self.tls, self.login, self.process = support.free_port(), tls, login, None
        self.ca = ca
        lines = ["user root", f"listener {self.port} 127.0.0.1", f"allow_anonymous {'false' if login else 'true'}", "persistence true",
                 f"persistence_location {self.home}/", "max_queued_messages 1000000", "log_type all", f"log_dest file {self.home}/log"]
        if tls:
            lines += [f"certfile {tls[0]}", f"keyfile {tls[1]}"]
        if ca:
            lines += [f"cafile {ca}", "require_certificate true"]
        if login:
            done = subprocess.run(["mosquitto_passwd", "-b", "-c", str(self.home / "passwd"), *login], capture_output=True, text=True)
            assert done.returncode == 0, done.stderr
            lines.append(f"password_file {self.home}/passwd")
        lines += [f"{name} {value}" for name, value in settings.items()]
        (self.home / "conf").write_text("\n".join(lines) + "\n")
        if start:
            self.start()

    def start(self):
        self.process = subprocess.Popen(["mosquitto", "-c", str(self.home / "conf")], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                        stderr=subprocess.DEVNULL, preexec_fn=support._die_with_parent)
        support.wait_for(self.listens, lambda: f"mosquitto; {self.log}")

    def listens(self):
        assert self.process.poll() is None, self.log
        with support.socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def stop(self, hard=False):
        """hard: kill -9, and what it had not saved is lost."""
        if self.process:
            self.process.kill() if hard else self.process.terminate()
            self.process.wait(30)
            self.process = None

    @property
    def log(self):
        path = self.home / "log"
        return path.read_text(errors="replace")[-3000:] if path.exists() else ""

    def count(self, text):
        """How often the log says that."""
        path = self.home / "log"
        return path.read_text(errors="replace").count(text) if path.exists() else 0

    def url(self, topic="#", user="", host="127.0.0.1"):
        return f"mqtt{'s' if self.tls else ''}://{user}{host}:{self.port}/{topic}"

    def publisher(self, login=None):
        return Publisher(self, login)

    def publish(self, *messages, qos=1, retain=False):
        """(topic, payload) pairs; returns when the server has all."""
        publisher = self.publisher()
        publisher.publish(*messages, qos=qos, retain=retain)
        publisher.close()

    def close(self):
        self.stop(hard=True)
        shutil.rmtree(self.home, ignore_errors=True)


class Publisher:
    def __init__(self, server, login):
        self.client = paho.mqtt.client.Client()
        self.client.max_queued_messages_set(0)
        self.client.max_inflight_messages_set(20)
        if login or server.login:
            self.client.username_pw_set(*(login or server.login))
        self.client.connect("127.0.0.1", server.port)
        self.client.loop_start()

    def publish(self, *messages, qos=1, retain=False):
        sent = [self.client.publish(topic, payload, qos=qos, retain=retain) for topic, payload in messages]
        for one in sent:
            support.wait_for(one.is_published, "the server to take a message")

    def close(self):
        self.client.disconnect()
        self.client.loop_stop()


class Runs(runs_support.Runs):
    def __init__(self, tools, directory, server, topic, *arguments):
        super().__init__(tools, directory, server.url(topic), *arguments)
        self.server = server

    def first(self, *more):
        """The first run, once it has its subscription."""
        before = self.server.count("Sending SUBACK")
        tool = self.start(*more)
        support.wait_for(lambda: self.server.count("Sending SUBACK") > before, lambda: f"a subscription; {tool.err}")
        return tool
