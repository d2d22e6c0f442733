"""A private Kafka cluster: librdkafka's mock brokers in a process of their own (tools/kafka_mock.c)."""

import os
import socket
import ssl
import struct
import subprocess
import tempfile
import threading

import support

MOCK = (support.ROOT / os.environ.get("BUILD", "build") / "tests/scenario/tools/kafka_mock").resolve()


class Kafka:
    """topics: name=partitions."""

    def __init__(self, **topics):
        self.out, self.err = (tempfile.NamedTemporaryFile(prefix="kafka", dir="/tmp") for _ in range(2))
        self.process = subprocess.Popen([MOCK, *(f"{name}:{count}" for name, count in topics.items())], stdin=subprocess.PIPE, stdout=self.out,
                                        stderr=self.err, preexec_fn=support._die_with_parent, text=True)
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
        status = self.process.poll()
        self.process.kill()
        self.process.wait(30)
        with open(self.err.name, errors="replace") as file:
            said = file.read()[-2000:]
        self.out.close()
        self.err.close()
        assert status is None, f"the mock cluster had ended by itself with status {status}: {said}"


class TlsFront:
    """TLS in front of the brokers of a cluster, which speak none themselves: a door for each, whose address takes the place of the broker's own in what they
    tell of themselves. Clients must show a certificate of client_ca, where that is given."""

    def __init__(self, cluster, certificate, key, client_ca=None):
        self.context, self.lock, self.open, self.refused = None, threading.Lock(), set(), 0
        self.show(certificate, key, client_ca)
        self.doors = {}                     # port of a broker: a listener
        for server in cluster.servers.split(","):
            self.doors[int(server.rpartition(":")[2])] = socket.create_server(("127.0.0.1", 0))
        self.threads = [threading.Thread(target=self._accept, args=door, daemon=True) for door in self.doors.items()]
        for thread in self.threads:
            thread.start()

    def show(self, certificate, key, client_ca=None):
        """To connections that begin after this."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        if client_ca:
            context.load_verify_locations(client_ca)
            context.verify_mode = ssl.CERT_REQUIRED
        self.context = context

    def url(self, topic=""):
        return f"kafka://{','.join(f'127.0.0.1:{door.getsockname()[1]}' for door in self.doors.values())}/{topic}"

    def _accept(self, broker, door):
        while True:
            try:
                client, _ = door.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client, broker), daemon=True).start()

    def _serve(self, client, broker):
        try:
            stream = self.context.wrap_socket(client, server_side=True)
        except OSError:
            self.refused += 1
            client.close()
            return
        with stream, socket.create_connection(("127.0.0.1", broker)) as plain:
            with self.lock:
                self.open |= {stream, plain}
            back = threading.Thread(target=self._back, args=(plain, stream), daemon=True)
            back.start()
            try:
                while data := stream.recv(65536):
                    plain.sendall(data)
            except OSError:
                pass
            finally:
                for end in (plain, stream):
                    self._shut(end)
                back.join(30)
                with self.lock:
                    self.open -= {stream, plain}

    @staticmethod
    def _shut(end):
        try:
            socket.socket.shutdown(end, socket.SHUT_RDWR)
        except OSError:
            pass

    def _back(self, plain, stream):
        """Answer by answer, as an address could be cut in two otherwise."""
        try:
            with plain.makefile("rb") as answers:
                while len(head := answers.read(4)) == 4:
                    body = answers.read(struct.unpack(">i", head)[0])
                    for broker, door in self.doors.items():
                        body = body.replace(b"127.0.0.1" + struct.pack(">i", broker), b"127.0.0.1" + struct.pack(">i", door.getsockname()[1]))
                    stream.sendall(head + body)
        except OSError:
            pass
        finally:
            for end in (plain, stream):
                self._shut(end)

    def break_off(self):
        """All connections that there are."""
        with self.lock:
            for end in self.open:
                self._shut(end)

    def close(self):
        for door in self.doors.values():
            self._shut(door)
            door.close()
        for thread in self.threads:
            thread.join(30)
        self.break_off()
