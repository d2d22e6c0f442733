"""A private Kafka cluster: librdkafka's mock brokers in a process of their own (tools/kafka_mock.c)."""

import os
import subprocess
import tempfile

import support

MOCK = (support.ROOT / os.environ.get("BUILD", "build") / "tests/scenario/tools/kafka_mock").resolve()


class Kafka:
    """topics: name=partitions."""

    def __init__(self, **topics):
        self.out = tempfile.NamedTemporaryFile(prefix="kafka", dir="/tmp")
        self.process = subprocess.Popen([MOCK, *(f"{name}:{count}" for name, count in topics.items())], stdin=subprocess.PIPE, stdout=self.out,
                                        stderr=subprocess.DEVNULL, preexec_fn=support._die_with_parent, text=True)
        self.asked = 0
        support.wait_for(lambda: len(self.lines) >= 1, "the mock cluster")
        self.servers = self.lines[0]

    @property
    def lines(self):
        with open(self.out.name) as file:
            return [line.strip() for line in file.read().split("\n")[:-1]]

    def tell(self, *commands):
        """Returns when all are done."""
        self.asked += len(commands)
        self.process.stdin.write("".join(f"{command}\n" for command in commands))
        self.process.stdin.flush()
        support.wait_for(lambda: len(self.lines) > self.asked or self.process.poll() is not None, lambda: f"{commands[:3]}; {self.lines[-1]}", 60)
        assert self.process.poll() is None

    def add(self, topic, count, first=0, partition=0):
        self.tell(f"add {topic} {partition} {first} {count}")

    def put(self, topic, *messages, partition=0):
        """(key, value) pairs of bytes or None."""
        word = lambda data: "-" if data is None else data.hex()
        self.tell(*(f"put {topic} {partition} {word(key)} {word(value)}" for key, value in messages))

    def url(self, topic="", user=""):
        return f"kafka://{user}{self.servers}/{topic}"

    def close(self):
        self.process.kill()
        self.process.wait(30)
        self.out.close()
