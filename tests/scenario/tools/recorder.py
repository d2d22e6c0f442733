#!/usr/bin/python3
"""The end of a chain in Python: takes frames from the link in its first argument and writes each one down, in order and once, as a line of JSON in
the file of its second: stream, epoch, number, what the header says of the content, and the body. Ends with the stream. A third argument:
hold: it never says that anything is durable here, so that the sender keeps it all; stay: it does not leave after the end."""

import base64, json, random, sys, time
import msgpack, zmq

FROM, PATH, MODE = sys.argv[1:3] + (sys.argv[3:] or ["leave"])
ME = random.getrandbits(63) + 1
CONTENT = ("n", "t", "w", "d", "x", "end")      # the header's keys that are about the content

def ack_endpoint(endpoint):
    if endpoint.startswith("ipc://"):
        return endpoint + ".ack"
    host, port = endpoint.rsplit(":", 1)
    return f"{host}:{int(port) + 1}"

context = zmq.Context()
pub, pull = context.socket(zmq.XPUB), context.socket(zmq.PULL)
for socket in (pub, pull):
    socket.set_hwm(32)
pub.setsockopt(zmq.XPUB_VERBOSE, 1)
pub.connect(ack_endpoint(FROM))
pull.connect(FROM)
out = open(PATH, "w", buffering=1)

origin = epoch = None
received = attempt = first = 0
ended = left = False

def say(**fields):
    pub.send_multipart([(origin or "").encode() + b"\n", msgpack.packb({"v": 1, "r": ME, **fields})])

def acknowledge(**flags):
    if origin:
        say(o=origin, e=epoch, received=received, durable=first - 1 if MODE == "hold" else received, g=attempt, **flags)

def plain(value):
    return base64.b64encode(value).decode() if isinstance(value, bytes) else value

def write(topic, header, body):
    line = {"stream": topic.decode(), "epoch": header["e"], "number": header["q"], **{key: plain(header[key]) for key in CONTENT if key in header},
            "body": plain(body)}
    out.write(json.dumps(line) + "\n")

def take(topic, header, body):
    global origin, epoch, first, received, attempt, ended, left
    header = msgpack.unpackb(header)
    if header.get("refused") == ME:
        sys.exit("this link has another receiver")
    if header.get("r", ME) != ME:
        return                          # for another receiver
    left = left or bool(header.get("bye"))
    if header["q"] == 0:
        return                          # a notice, not a frame
    if origin is None:
        origin, epoch, first = header["o"], header["e"], header["l"]
        received = first - 1
    if (origin, epoch) != (header["o"], header["e"]):
        sys.exit(f"another sender: {header['o']} {header['e']} after {origin} {epoch}")
    attempt = max(attempt, header.get("g", 0))
    if header["q"] == received + 1:
        received += 1
        ended = header.get("end", False)
        write(topic, header, body)
    acknowledge(again=header["q"] > received)

give_up = None
while MODE == "stay" or not (ended and (left or time.monotonic() > give_up)):
    poller = zmq.Poller()
    for socket in (pub, pull):
        poller.register(socket, zmq.POLLIN)
    ready = dict(poller.poll(300))
    if pub in ready and pub.recv()[:1] == b"\1" or not ready:
        say()
        acknowledge(idle=not ready)
    if pull in ready:
        take(*pull.recv_multipart())
    if ended and not give_up:
        give_up = time.monotonic() + 10
context.destroy(linger=500)
