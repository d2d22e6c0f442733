"""IPv6 addresses, in brackets as URLs have them: every source, sink and link takes them and shows them so. Servers of tests listen on 127.0.0.1: a relay
stands before them."""

import socket

import pytest

import support
import test_broadcast_http
import test_ingest_http
from instance import control  # noqa: F401
from kafka_support import Kafka
from link_support import Relay
from listen_support import address
from mqtt_support import Mosquitto
from mysql_support import MariaDB
from nats_support import Nats
from postgres_support import Postgres
from redis_support import Redis
from runs_support import QUICK
from websocket_support import Server as WebSocket

GONE = "[::1]:1"                       # nobody listens there


@pytest.fixture
def front():
    """Makes relays on [::1]: url, with its 127.0.0.1:PORT replaced."""
    relays = []

    def make(url, port):
        relays.append(Relay(0, port, "::1"))
        assert f"127.0.0.1:{port}" in url
        return url.replace(f"127.0.0.1:{port}", f"[::1]:{relays[-1].listener.getsockname()[1]}")
    yield make
    for relay in relays:
        relay.close()


@pytest.fixture
def served():
    """Makes servers and closes them."""
    servers = []

    def make(kind, *arguments, **how):
        servers.append(kind(*arguments, **how))
        return servers[-1]
    yield make
    for server in servers:
        server.close()


@pytest.mark.parametrize("url", [f"mqtt://{GONE}/t", f"redis://{GONE}/s", f"nats://{GONE}/s", f"kafka://{GONE}/t", f"kafka://{GONE},[::1]:2/t", f"ws://{GONE}/",
                                 f"http://{GONE}/", f"postgres://{GONE}/d", f"mysql://{GONE}/d"])
def test_a_server_that_is_not_there_is_named_in_brackets(tools, url):
    query = ["--query", "SELECT 1"] if "sql" in url else ["--mode", "poll", "--query", "SELECT 1"] if "postgres" in url else []
    tool = tools.start("ingest", url, *query, *QUICK)
    place = url.split("?")[0].removesuffix("/t").removesuffix("/s")
    tool.wait_err(support.re.escape(place) + r"\S*: .*(trying again|leaving)")


def test_mqtt(tools, served, front):
    server = served(Mosquitto)
    server.publish(("t", b'{"a":1}'), retain=True)
    assert tools.start("ingest", front(server.url("t"), server.port)).wait_events(1)[0]["a"] == 1


def test_redis(tools, served, front):
    server = served(Redis)
    server.add("s", {"a": "1"})
    assert tools.start("ingest", front(server.url("s"), server.port)).wait_events(1)[0]["a"] == 1


def test_nats(tools, served, front):
    server = served(Nats)
    server.stream("S", "s")
    server.store(("s", b'{"a":1}'))
    assert tools.start("ingest", front(server.url("s"), server.port), "--jetstream", "S").wait_events(1)[0]["a"] == 1


def test_kafka(tools, served, front):
    server = served(Kafka, t=1)
    server.add("t", 1)
    host = server.servers.split(",")[0]
    url = front(f"kafka://{host}/t", int(host.rpartition(":")[2]))
    for one in (url, url.replace("/t", ",[::1]:1/t")):
        assert tools.start("ingest", one).wait_events(1)[0]["n"] == 0


def test_websocket(tools, served, front):
    server = served(WebSocket)
    tool = tools.start("ingest", front(server.url(), server.port))
    server.connected()
    server.send('{"a":1}')
    assert tool.wait_events(1)[0]["a"] == 1


def test_postgres_and_mysql(tools, served, front):
    for server, mode in ((served(Postgres), ["--mode", "poll"]), (served(MariaDB), [])):
        tool = tools.run("ingest", front(server.url(), server.port), *mode, "--query", "SELECT 1 AS a", "--once")
        assert [event["a"] for event in tool.events] == [1], tool.err


def test_http_source_and_sink(tools, front):
    source = test_ingest_http.Server(lambda request: (200, {"Content-Type": "application/json"}, b'{"a":1}'))
    sink = test_broadcast_http.Server()
    tool = tools.run("ingest", front(f"http://127.0.0.1:{source.port}/", source.port), "--once")
    assert tool.events == [{"a": 1}], tool.err
    done = tools.run("broadcast", front(sink.url, sink.port), input=[{"a": 1}])
    assert done.status == 0 and len(sink.taken) == 1, done.err


@pytest.mark.parametrize("scheme", ["tcp", "statsd", "syslog", "forward", "http-listen"])
def test_listening_sources(tools, scheme):
    tool = tools.start("ingest", f"{scheme}://[::1]:0{'/x' if scheme == 'http-listen' else ''}")
    host, port = address(tool)
    assert host == "::1" and f"://[::1]:{port}" in tool.err
    if scheme == "tcp":
        with socket.create_connection((host, port)) as peer:
            peer.sendall(b'{"a":1}\n')
            assert tool.wait_events(1) == [{"a": 1}]


def test_links(tools):
    port = support.free_port()
    process = tools.start("process", "set b = 2", "--from", f"tcp://[::1]:{port}")
    ingest = tools.run("ingest", "-", "--to", f"tcp://[::1]:{port}", input=[{"a": 1}])
    assert ingest.status == 0 and process.wait() == 0
    assert process.events == [{"a": 1, "b": 2}]


def test_the_dashboard(control):
    config = control.config(sources=[{"name": "s", "type": "sensors", "rate": 10}], server={"listen": "::1", "port": 0})
    assert "dashboard: http://[::1]:" in control.good("start", config)
    assert control.status()["state"] == "running"
    control.good("stop", config)
