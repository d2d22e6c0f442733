"""WebSocket servers for tests: a real one (python3-websockets) that can be stopped and started again at its port, and one of bytes that keeps to
nothing unless it is told to."""

import asyncio
import base64
import contextlib
import hashlib
import socket
import ssl
import struct
import threading

import websockets

import support


def tls_context(certificate, client_ca=None):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*map(str, certificate))
    if client_ca:
        context.load_verify_locations(str(client_ca))
        context.verify_mode = ssl.CERT_REQUIRED
    return context


class Server:
    """Each connection is noted in `requests` (path, headers); what clients say is in `received`. `handler` is a coroutine of a connection; without one it
    stays open and send() speaks to all that are there. `settings` go to websockets.serve."""

    def __init__(self, handler=None, tls=None, start=True, **settings):
        self.handler, self.tls, self.settings = handler, tls, {"max_size": None, **settings}
        self.port = support.free_port()
        self.requests, self.received, self.connections = [], [], []
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()
        self.server = None
        if start:
            self.start()

    def call(self, coroutine, seconds=60):
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(seconds * support.PATIENCE)

    async def _serve(self, connection):
        self.requests.append((connection.path, connection.request_headers))
        self.connections.append(connection)
        with contextlib.suppress(websockets.ConnectionClosed):
            if self.handler:
                await self.handler(connection)
            else:
                async for message in connection:
                    self.received.append(message)
        self.connections.remove(connection)

    def start(self):
        async def run():
            return await websockets.serve(self._serve, "127.0.0.1", self.port, ssl=self.tls, **self.settings)
        self.server = self.call(run())

    def url(self, path="/", user=""):
        return f"ws{'s' if self.tls else ''}://{user}127.0.0.1:{self.port}{path}"

    def connected(self, count=1):
        support.wait_for(lambda: len(self.connections) >= count, "a connection")

    def send(self, *messages):
        """To all that are connected; text, bytes, or a list of fragments."""
        async def run():
            for connection in list(self.connections):
                for message in messages:
                    await connection.send(message)
        self.call(run())

    def close_connections(self, code=1000, reason=""):
        async def run():
            for connection in list(self.connections):
                await connection.close(code, reason)
        self.call(run())

    def stop(self):
        """The connections break off, without a word, and nobody listens."""
        if self.server:
            async def run():
                self.server.server.close()         # no further one
                for connection in list(self.connections):
                    connection.transport.abort()
                self.server.close()
                await self.server.wait_closed()
            self.call(run())
            support.wait_for(lambda: not self.connections, "the connections to be gone")
            self.server = None

    def close(self):
        self.stop()
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(30)


def frame(opcode, payload=b"", final=True, reserved=0, mask=None):
    head = bytes([(0x80 if final else 0) | reserved | opcode])
    masked = 0x80 if mask else 0
    if len(payload) < 126:
        head += bytes([masked | len(payload)])
    elif len(payload) < 65536:
        head += struct.pack(">BH", masked | 126, len(payload))
    else:
        head += struct.pack(">BQ", masked | 127, len(payload))
    return head + (mask or b"") + payload


def text(payload):
    return frame(1, payload if isinstance(payload, bytes) else payload.encode())


def answer(request, more=""):
    key = next(line.split(b":", 1)[1].strip() for line in request.split(b"\r\n") if line.lower().startswith(b"sec-websocket-key:"))
    accept = base64.b64encode(hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest()).decode()
    return f"HTTP/1.1 101 Switching\r\nUpgrade: websocket\r\nConnection: keep-alive, Upgrade\r\nSec-WebSocket-Accept: {accept}\r\n{more}\r\n".encode()


class RawServer:
    """`script(peer, request, number)` has each connection, one after the other: it answers the request by itself. Its end closes the connection."""

    def __init__(self, script):
        self.script, self.requests = script, []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.ended = threading.Event()         # scripts that keep a connection open wait for it
        threading.Thread(target=self.run, daemon=True).start()

    def run(self):
        while not self.ended.is_set():
            try:
                peer, _ = self.listener.accept()
            except OSError:
                return
            with peer, contextlib.suppress(OSError):
                peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                request = b""
                while b"\r\n\r\n" not in request:
                    part = peer.recv(65536)
                    if not part:
                        break
                    request += part
                self.requests.append(request)
                if request:
                    self.script(peer, request, len(self.requests))

    def url(self, path="/", user=""):
        return f"ws://{user}127.0.0.1:{self.port}{path}"

    def close(self):
        self.ended.set()
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()


class Proxy:
    """An HTTP proxy that knows CONNECT; `asked` has the heads of the requests."""

    def __init__(self, login=None):
        self.login, self.asked = login and base64.b64encode(login.encode()).decode(), []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.run, daemon=True).start()

    def run(self):
        while True:
            try:
                peer, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.serve, args=(peer,), daemon=True).start()

    def serve(self, peer):
        with peer, contextlib.suppress(OSError):
            head = b""
            while b"\r\n\r\n" not in head:
                part = peer.recv(65536)
                if not part:
                    return
                head += part
            self.asked.append(head.decode())
            if self.login and f"Proxy-Authorization: Basic {self.login}" not in head.decode():
                peer.sendall(b"HTTP/1.1 407 No\r\nProxy-Authenticate: Basic realm=\"x\"\r\nContent-Length: 0\r\n\r\n")
                return
            host, port = head.split()[1].decode().rsplit(":", 1)
            with socket.create_connection((host, int(port))) as server:
                peer.sendall(b"HTTP/1.1 200 Yes\r\n\r\n")
                back = threading.Thread(target=self.copy, args=(server, peer), daemon=True)
                back.start()
                self.copy(peer, server)
                back.join()

    @staticmethod
    def copy(source, sink):
        with contextlib.suppress(OSError):
            while part := source.recv(65536):
                sink.sendall(part)
        with contextlib.suppress(OSError):
            sink.shutdown(socket.SHUT_WR)

    def close(self):
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
