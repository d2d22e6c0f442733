"""ingest as a listener with TLS: real clients of each protocol, certificates of all kinds on both sides, handshakes that never end, files that change."""

import contextlib
import json
import os
import shutil
import socket
import ssl
import subprocess

import msgpack
import pytest

import listen_support
import support
from listen_support import Clogged
from test_ingest_forward import Client as ForwardClient
from tls_support import Authority

HANDSHAKES = 64                      # as many as listen.c lets be under way at once


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("authority"))


def lines(first, count):
    return support.ndjson([{"n": i} for i in range(first, first + count)])


def numbers(events):
    return [event["n"] for event in events]


def start(tools, pair, *options, url="tcp://127.0.0.1:0", **how):
    return tools.start("ingest", url, "--tls-cert", pair[0], "--tls-key", pair[1], *options, **how)


def trusting(authority, pair=None):
    context = ssl.create_default_context(cafile=str(authority.ca))
    if pair:
        context.load_cert_chain(*map(str, pair))
    return context


def connect(tool, context):
    return context.wrap_socket(listen_support.connect(tool), server_hostname="localhost")


def is_refused(tool, context):
    """In TLS 1.3 a client hears of it only after its own part of the handshake."""
    try:
        with connect(tool, context) as peer:
            peer.sendall(lines(99, 1))
            return peer.recv(1) == b""
    except (ssl.SSLError, ConnectionError):
        return True


def test_lines_of_openssl(tools, authority):
    tool = start(tools, authority.good())
    host, port = listen_support.address(tool)
    for first, version in ((0, "-tls1_3"), (1000, "-tls1_2")):
        done = subprocess.run(["openssl", "s_client", "-connect", f"{host}:{port}", "-verify_return_error", "-CAfile", authority.ca, "-quiet", "-no_ign_eof",
                               version], input=lines(first, 1000), capture_output=True, timeout=60 * support.PATIENCE)
        assert done.returncode == 0, done.stderr
    assert sorted(numbers(tool.wait_events(2000))) == list(range(2000))
    done = subprocess.run(["openssl", "s_client", "-connect", f"{host}:{port}", "-tls1_1", "-cipher", "ALL@SECLEVEL=0"], stdin=subprocess.DEVNULL,
                          capture_output=True, timeout=60 * support.PATIENCE)
    assert done.returncode != 0
    tool.wait_err("no TLS connection: unsupported protocol")
    assert tool.terminate() == 0


def test_what_comes_without_tls_is_refused_and_others_go_on(tools, authority):
    tool = start(tools, authority.good())
    with listen_support.connect(tool) as peer:
        peer.sendall(lines(0, 100))
        with contextlib.suppress(ConnectionError):
            while peer.recv(4096):
                pass
    tool.wait_err("no TLS connection: ")
    with connect(tool, trusting(authority)) as peer:
        peer.sendall(lines(7, 1) + b'{"n":8}')           # the last line has no end, and the connection no farewell
    assert numbers(tool.wait_events(2)) == [7, 8]
    assert tool.terminate() == 0


def test_much_data_to_an_output_that_waits(tools, authority):
    with Clogged() as out:
        tool = start(tools, authority.good(), stdout=out.writer)
        out.started()
        count, text = 20000, "x" * 1000
        with connect(tool, trusting(authority)) as peer:
            peer.settimeout(2)
            data, at = support.ndjson([{"n": i, "text": text} for i in range(count)]), 0
            with contextlib.suppress(TimeoutError):
                while at < len(data):
                    at += peer.send(data[at:at + 65536])
            assert at < len(data), "nobody has read, and yet all was taken"
            out.read()
            peer.settimeout(60 * support.PATIENCE)
            peer.sendall(data[at:])
        assert numbers(out.wait_events(count)) == list(range(count))
        assert tool.terminate() == 0


def test_an_expired_certificate_of_ours_is_told_and_clients_refuse_it(tools, authority):
    tool = start(tools, authority.expired(), url="http-listen://127.0.0.1:0/hook")
    tool.wait_err("certificate has expired")
    host, port = listen_support.address(tool)
    curl = ["curl", "-sS", "--cacert", authority.ca, "-d", '{"n":1}', "-H", "Content-Type: application/json", f"https://{host}:{port}/hook"]
    done = subprocess.run(curl, capture_output=True, text=True, timeout=60 * support.PATIENCE)
    assert (done.returncode, "expired" in done.stderr) == (60, True)
    tool.wait_err("no TLS connection: .*expired")
    assert subprocess.run([*curl, "-k"], capture_output=True, text=True, timeout=60 * support.PATIENCE).stdout == '{"accepted":1}\n'
    assert tool.terminate() == 0


def test_webhooks_of_curl(tools, authority, directory):
    (directory / "many.json").write_text(json.dumps([{"n": i, "text": "x" * 100} for i in range(1, 5000)]))
    tool = start(tools, authority.good(), "--token", "hush", "--state", "state", "--to", "-", url="http-listen://127.0.0.1:0/hook")
    host, port = listen_support.address(tool)
    common = ["-sS", "--cacert", authority.ca, "-H", "Authorization: Bearer hush", "-H", "Content-Type: application/json"]
    for url in (f"https://{host}:{port}/hook", f"https://localhost:{port}/hook"):
        done = subprocess.run(["curl", *common, "-d", '{"n":0}', url, "--next", *common, "--data-binary", f"@{directory}/many.json", url],
                              capture_output=True, text=True, timeout=60 * support.PATIENCE)
        assert (done.stdout, done.stderr) == ('{"accepted":1}\n{"accepted":4999}\n', "")
    assert numbers(tool.wait_events(10000)) == [*range(5000), *range(5000)]
    refused = subprocess.run(["curl", "-sS", "-d", "{}", f"https://{host}:{port}/hook"], capture_output=True, timeout=60 * support.PATIENCE)
    assert refused.returncode == 60            # an authority that it does not know
    assert tool.terminate() == 0


def test_secure_forward(tools, authority):
    tool = start(tools, authority.good(), "--shared-key", "hush", "--state", "state", "--to", "-", url="forward://127.0.0.1:0")

    class Client(ForwardClient):
        def __init__(self):
            self.peer = connect(tool, trusting(authority))
            self.unpacker = msgpack.Unpacker(raw=False)
    client, stranger = Client(), Client()
    assert client.login("hush") and not stranger.login("wrong")
    client.send("t", [[1_700_000_000 + n, {"n": n}] for n in range(1000)], {"chunk": "one"})
    assert client.receive() == {"ack": "one"}
    assert numbers(tool.wait_events(1000)) == list(range(1000))
    assert tool.terminate() == 0


RSYSLOG = """
global(workDirectory="{directory}" maxMessageSize="64k" defaultNetstreamDriver="gtls" defaultNetstreamDriverCAFile="{ca}"
       defaultNetstreamDriverCertFile="{certificate}" defaultNetstreamDriverKeyFile="{key}")
module(load="imfile" mode="polling" pollingInterval="1")
input(type="imfile" file="{directory}/input.log" tag="tests" severity="warning" facility="local3")
action(type="omfwd" target="127.0.0.1" port="{port}" protocol="tcp" TCP_Framing="octet-counted" template="RSYSLOG_SyslogProtocol23Format"
       streamDriver="gtls" streamDriverMode="1" streamDriverAuthMode="x509/name" streamDriverPermittedPeers="localhost"
       action.resumeInterval="1" action.resumeRetryCount="-1")
"""


def test_syslog_of_rsyslog_with_certificates_on_both_sides(tools, authority, directory):
    program = shutil.which("rsyslogd", path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
    tool = start(tools, authority.good(), "--transport", "tls", "--tls-client-ca", authority.ca, url="syslog://127.0.0.1:0")
    port = listen_support.address(tool)[1]
    certificate, key = authority.good("client")
    (directory / "input.log").write_text("".join(f"message {i}\n" for i in range(500)))
    (directory / "rsyslog.conf").write_text(RSYSLOG.format(directory=directory, ca=authority.ca, certificate=certificate, key=key, port=port))
    sender = tools.start(program, "-n", "-f", directory / "rsyslog.conf", "-i", directory / "rsyslog.pid")

    def messages():
        return [event for event in tool.events if event.get("appname") == "tests"]
    support.wait_for(lambda: len(messages()) >= 500, lambda: f"500 messages; {tool.err}\n{sender.err}", 60)
    events = messages()
    assert [event["message"] for event in events] == [f"message {i}" for i in range(500)]
    assert (events[0]["facility"], events[0]["severity"], events[0]["peer"]) == ("local3", "warning", "127.0.0.1")
    sender.terminate()
    assert tool.terminate() == 0


@pytest.mark.parametrize("kind", ("none", "expired", "untrusted"))
def test_clients_must_show_a_good_certificate(tools, authority, kind):
    tool = start(tools, authority.good(), "--tls-client-ca", authority.ca)
    pair = {"none": None, "expired": authority.expired, "untrusted": authority.untrusted}[kind]
    assert is_refused(tool, trusting(authority, pair and pair()))
    tool.wait_err({"none": "no TLS connection: peer did not return a certificate", "expired": "certificate is refused: certificate has expired",
                   "untrusted": "certificate is refused: unable to get local issuer certificate"}[kind])
    with connect(tool, trusting(authority, authority.good("client"))) as peer:
        peer.sendall(lines(1, 1))
        assert numbers(tool.wait_events(1)) == [1]
    assert tool.terminate() == 0


def open_sockets(tool):
    count = 0
    for entry in os.listdir(f"/proc/{tool.pid}/fd"):
        with contextlib.suppress(OSError):
            count += os.readlink(f"/proc/{tool.pid}/fd/{entry}").startswith("socket:")
    return count


def test_handshakes_that_do_not_end_hold_nobody_up_and_are_bounded(tools, authority):
    tool = start(tools, authority.good(), "--connections", "200")
    first = connect(tool, trusting(authority))
    before = open_sockets(tool)
    with contextlib.ExitStack() as stack:
        slow = [stack.enter_context(listen_support.connect(tool)) for _ in range(3 * HANDSHAKES)]
        for i, peer in enumerate(slow):
            with contextlib.suppress(ConnectionError):
                peer.sendall(b"\x16\x03\x01\x02\x00\x01"[:i % 7])       # nothing, or a part of a greeting
        for n in range(5):
            with connect(tool, trusting(authority)) as peer:
                peer.sendall(lines(n, 1))
                assert open_sockets(tool) <= before + HANDSHAKES + 1
        tool.wait_events(5)
        first.sendall(lines(5, 1))                       # one that stands is none of them
        assert sorted(numbers(tool.wait_events(6))) == list(range(6))
        tool.wait_err("handshake takes too long: ended, as others wait")
        for peer in slow:                                # all have an end, without anybody else coming
            peer.settimeout(60 * support.PATIENCE)
            with contextlib.suppress(ConnectionError):
                assert peer.recv(100) == b""
    first.sendall(lines(6, 1))
    tool.wait_events(7)
    first.close()
    assert tool.terminate() == 0


def test_the_last_connection_that_is_allowed_is_not_held_by_a_handshake(tools, authority):
    tool = start(tools, authority.good(), "--connections", "1")
    with listen_support.connect(tool), connect(tool, trusting(authority)) as peer:
        peer.sendall(lines(0, 1))
        assert numbers(tool.wait_events(1)) == [0]
    assert tool.terminate() == 0


def test_new_files_count_for_new_connections(tools, authority, directory):
    def show(pair):
        for source, name in zip(pair, ("certificate.pem", "key.pem")):
            shutil.copy(source, directory / f"{name}.new")
            os.replace(directory / f"{name}.new", directory / name)

    def shown():
        context = trusting(authority)
        with connect(tool, context) as peer:
            return peer.getpeercert()["subject"][0][0][1]
    show(authority.good("one"))
    shutil.copy(authority.ca, directory / "ca.pem")
    tool = start(tools, ("certificate.pem", "key.pem"))
    old = connect(tool, trusting(authority))
    assert shown() == "one"
    (directory / "key.pem").write_text("nonsense")
    support.wait_for(lambda: shown() == "one" and "what was read before is used on" in tool.err, "a warning about the key")
    show(authority.good("two"))
    support.wait_for(lambda: shown() == "two", "the new certificate")
    old.sendall(lines(0, 1))
    assert numbers(tool.wait_events(1)) == [0]
    old.close()
    assert tool.terminate() == 0


def test_an_authority_that_is_changed_counts_for_new_clients(tools, authority, directory):
    shutil.copy(authority.ca, directory / "ca.pem")
    tool = start(tools, authority.good(), "--tls-client-ca", "ca.pem")
    client = trusting(authority, authority.good("client"))
    with connect(tool, client) as peer:
        peer.sendall(lines(0, 1))
        tool.wait_events(1)
    shutil.copy(authority.other, directory / "ca.pem")
    client.maximum_version = ssl.TLSVersion.TLSv1_2      # in which a client hears of it within its handshake

    def is_refused_now():
        try:
            connect(tool, client).close()
            return False
        except (ssl.SSLError, ConnectionError):
            return True
    support.wait_for(is_refused_now, "the client to be refused")
    with connect(tool, trusting(authority, authority.untrusted())) as peer:
        peer.sendall(lines(1, 1))
        assert numbers(tool.wait_events(2)) == [0, 1]
    assert tool.terminate() == 0


def test_files_that_cannot_be_used(tools, authority, directory):
    good, other = authority.good(), authority.good("other-good")
    subprocess.run(["openssl", "ec", "-aes128", "-passout", "pass:secret", "-in", good[1], "-out", directory / "locked.key"], check=True, capture_output=True)
    (directory / "empty").write_text("")
    for certificate, key, ca, word in ((good[0], other[1], None, "key values mismatch"),
                                       (good[0], "locked.key", None, "without a password"), ("empty", good[1], None, "--tls-cert empty: cannot be used"),
                                       (good[0], good[1], "empty", "--tls-client-ca empty: cannot be used")):
        tool = tools.run("ingest", "tcp://127.0.0.1:0", "--tls-cert", certificate, "--tls-key", key, *(["--tls-client-ca", ca] if ca else []))
        assert (tool.status, word in tool.err) == (1, True), tool.err


@pytest.mark.parametrize("url,options,word", (
    ("tcp://127.0.0.1:0", ["--tls-key", "k"], "--tls-key needs --tls-cert"),
    ("forward://127.0.0.1:0", ["--tls-cert", "c"], "--tls-cert needs --tls-key"),
    ("http-listen://127.0.0.1:0/x", ["--tls-client-ca", "c"], "--tls-client-ca needs --tls-cert"),
    ("syslog://127.0.0.1:0", ["--transport", "tls"], "--transport tls needs --tls-cert"),
    ("syslog://127.0.0.1:0", ["--tls-cert", "c", "--tls-key", "k"], "--transport tls")))
def test_options_that_do_not_go_together(tools, url, options, word):
    tool = tools.run("ingest", url, *options)
    assert (tool.status, word in tool.err) == (64, True), tool.err
