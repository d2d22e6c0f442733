"""TLS on one side alone: each source says that the server speaks no TLS there, or does, and how to go on; listening sources say the
same of clients. Against real servers where there is one."""

import contextlib
import http.server
import socket
import ssl
import threading

import pytest

import listen_support
import support
import tls_support
from kafka_support import Kafka
from mqtt_support import Mosquitto
from nats_support import Nats
from postgres_support import Postgres
from redis_support import Redis
from websocket_support import Server as WebSocketServer

QUICK = ("--retry-min", "50ms", "--retry-max", "100ms")
NO_TLS = "the server speaks no TLS there: take {}, or give the port where it does"
ENDED = "the server ended the connection in the TLS handshake: if it speaks no TLS there, {}"
SPEAKS_TLS = "the server speaks TLS there: take {}"


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return tls_support.Authority(tmp_path_factory.mktemp("tls"))


@contextlib.contextmanager
def web(tls=None, answer=(200, b'{"a":1}')):
    """A web server, with TLS when it has a certificate."""
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            length = int(self.headers.get("Content-Length") or 0)
            self.rfile.read(length)
            self.send_response(answer[0])
            self.send_header("Content-Length", str(len(answer[1])))
            self.end_headers()
            self.wfile.write(answer[1])
        do_POST = do_GET

        def log_message(self, *arguments):
            pass

    class Quiet(http.server.ThreadingHTTPServer):
        def handle_error(self, request, address):
            pass

    server = Quiet(("127.0.0.1", 0), Handler)
    if tls:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*tls)
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server.server_address[1]
    server.shutdown()
    server.server_close()
    thread.join(30)


@contextlib.contextmanager
def closing(server):
    yield server
    server.close()


@contextlib.contextmanager
def listening(serve):
    """Each connection gets serve(connection), then the end."""
    listener = socket.create_server(("127.0.0.1", 0))

    def run():
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection, contextlib.suppress(OSError):
                connection.settimeout(30)
                serve(connection)
    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    yield listener.getsockname()[1]
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    thread.join(30)


def says(tools, words, *arguments):
    tool = tools.start("ingest", *arguments, *QUICK)
    tool.wait_err(support.re.escape(words))
    assert tool.terminate() == 0


def test_web_addresses(tools, authority, directory):
    with web() as port:
        says(tools, NO_TLS.format("http://"), f"https://127.0.0.1:{port}/")
    with web(authority.good()) as port:
        says(tools, "if the server speaks TLS there, take https://", f"http://127.0.0.1:{port}/")
    with listening(lambda connection: connection.recv(1)) as port:
        says(tools, ENDED.format("take http://"), f"https://127.0.0.1:{port}/")
    with listening(lambda connection: connection.recv(65536) and connection.sendall(b"\x15\x03\x03\x00\x02\x02\x46")) as port:
        says(tools, "if it speaks TLS there, take https://", f"http://127.0.0.1:{port}/")
    with listening(lambda connection: connection.recv(65536) and connection.recv(1)) as port:      # waits for the end of a line
        says(tools, "the server does not answer the TLS handshake: if it speaks no TLS there, take http://", f"https://127.0.0.1:{port}/",
             "--connect-timeout", "1s")


@pytest.mark.parametrize("body", [b"<center>The plain HTTP request was sent to HTTPS port</center>", b"Client sent an HTTP request to an HTTPS server.\n",
                                  b"Reason: You're speaking plain HTTP to an SSL-enabled server port.<br />"], ids=["nginx", "go", "apache"])
def test_servers_that_say_so_themselves(tools, directory, body):
    with web(answer=(400, body)) as port:
        says(tools, "HTTP status 400: the server speaks TLS there: take https://", f"http://127.0.0.1:{port}/")
        sink = tools.start("broadcast", f"http://127.0.0.1:{port}/", "--dead-letter", "dead", "--drain-limit", "1s", input=b'{"a":1}\n')
        sink.wait_err("HTTP status 400: the server speaks TLS there: take https://")
        sink.terminate()
    assert not (directory / "dead").exists()                         # it is the address that is wrong, not the data
    with web(answer=(400, b"bad data")) as port:
        assert tools.run("broadcast", f"http://127.0.0.1:{port}/", "--dead-letter", "dead", input=b'{"a":1}\n').status == 0
    assert b"bad data" in (directory / "dead").read_bytes()


def test_websockets(tools, authority):
    with closing(WebSocketServer()) as server:
        says(tools, NO_TLS.format("ws://"), server.url().replace("ws:", "wss:"))
    with closing(WebSocketServer(tls=authority.good())) as server:
        says(tools, "if it speaks TLS there, take wss://", server.url().replace("wss:", "ws:"))


def test_mqtt(tools, authority):
    with closing(Mosquitto()) as server:
        says(tools, ENDED.format("take mqtt://"), server.url("t").replace("mqtt:", "mqtts:"))
    with closing(Mosquitto(tls=authority.good())) as server:
        says(tools, "speaks TLS there, take mqtts://", server.url("t").replace("mqtts:", "mqtt:"))


def test_redis(tools, authority):
    with closing(Redis()) as server:
        says(tools, "take redis://", server.url("t").replace("redis:", "rediss:"))
    with closing(Redis(tls=authority.good())) as server:
        says(tools, "if it speaks TLS there, take rediss://", server.url("t").replace("rediss:", "redis:"))


def test_nats(tools, authority):
    with closing(Nats()) as server:
        says(tools, "the server has no TLS: nats:// is for that", server.url("t").replace("nats:", "nats+tls:"))
    with closing(Nats(tls=authority.good())) as server:
        says(tools, "nats+tls:// and --tls-ca say whom to trust", server.url("t").replace("nats+tls:", "nats:"))


def test_kafka(tools, authority):
    with closing(Kafka(t=1)) as cluster:
        says(tools, "connecting to a PLAINTEXT broker listener? Then leave --tls and its files out", cluster.url("t"), "--tls")


def test_postgres(tools, authority):
    with closing(Postgres()) as server:
        poll = ("--mode", "poll", "--query", "SELECT 1")
        says(tools, "SSL was required: leave --tls-ca and sslmode out, or turn ssl on there", server.url(), *poll, "--tls-ca", str(authority.ca))
        says(tools, "SSL was required: leave --tls-ca and sslmode out, or turn ssl on there", server.url(parameters="?sslmode=require"), *poll)


@pytest.mark.parametrize("source, option", [("tcp://127.0.0.1:0", "--tls-cert and --tls-key"), ("http-listen://127.0.0.1:0/x", "--tls-cert and --tls-key"),
                                            ("forward://127.0.0.1:0", "--tls-cert and --tls-key"), ("syslog://127.0.0.1:0?transport=tcp", "--transport tls"),
                                            ("statsd://127.0.0.1:0?transport=tcp", None)])
def test_clients_that_speak_tls_to_a_plain_port(tools, source, option):
    tool = tools.start("ingest", source)
    port = listen_support.address(tool)[1]
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with pytest.raises(OSError), socket.create_connection(("127.0.0.1", port), timeout=30) as plain:
        context.wrap_socket(plain)
    tool.wait_err("the client speaks TLS, which is not spoken here" + (f": see {option}\n" if option else "\n"))
    assert tool.terminate() == 0 and tool.events == []


@pytest.mark.parametrize("source, options", [("tcp://127.0.0.1:0", ()), ("forward://127.0.0.1:0", ()), ("http-listen://127.0.0.1:0/x", ()),
                                             ("syslog://127.0.0.1:0", ("--transport", "tls"))])
def test_clients_that_speak_no_tls_where_it_is_spoken(tools, authority, source, options):
    certificate, key = authority.good()
    tool = tools.start("ingest", source, *options, "--tls-cert", str(certificate), "--tls-key", str(key))
    port = listen_support.address(tool)[1]
    for words in (b"GET / HTTP/1.1\r\n\r\n", b"<13>hello, this is no handshake\n"):
        with socket.create_connection(("127.0.0.1", port), timeout=30) as plain, contextlib.suppress(ConnectionError):
            plain.sendall(words)
            while plain.recv(4096):
                pass
    tool.wait_err("no TLS connection: the client speaks no TLS: ")
    assert tool.terminate() == 0 and tool.events == []
