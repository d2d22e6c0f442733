#!/usr/bin/python3
"""A stage of a chain in Python: takes frames from the link in its first argument, works on each record, and sends them on over the
link in its second. What it sends is durable for the sender before it only when it is durable behind it."""

import collections, io, random, struct, sys, time
import msgpack, zmq

FROM, TO = sys.argv[1:3]                # connects to the first, binds the second
ORIGIN, EPOCH, ME = "example", time.time_ns(), random.getrandbits(63) + 1

def work(record):                       # what this stage is for; None drops the event
    record["seen"] = True
    return record

def ack_endpoint(endpoint):
    if endpoint.startswith("ipc://"):
        return endpoint + ".ack"
    host, port = endpoint.rsplit(":", 1)
    return f"{host}:{int(port) + 1}"

context = zmq.Context()
pub, pull, push, sub = map(context.socket, (zmq.XPUB, zmq.PULL, zmq.PUSH, zmq.SUB))
for socket in (pub, pull, push, sub):
    socket.set_hwm(32)
pub.setsockopt(zmq.XPUB_VERBOSE, 1)
push.setsockopt(zmq.IMMEDIATE, 1)
sub.subscribe(b"\n")
sub.subscribe(ORIGIN.encode() + b"\n")
pub.connect(ack_endpoint(FROM))
pull.connect(FROM)
push.bind(TO)
sub.bind(ack_endpoint(TO))

# Receiving: each frame once, in order.

class Stream:
    def __init__(self, epoch, first):
        self.epoch, self.received, self.durable = epoch, first - 1, first - 1
        self.attempt, self.ended, self.left = 0, False, False

streams = {}                            # by origin

def say(origin="", **fields):
    pub.send_multipart([origin.encode() + b"\n", msgpack.packb({"v": 1, "r": ME, **fields})])

def acknowledge(origin, **flags):
    stream = streams[origin]
    say(origin, o=origin, e=stream.epoch, received=stream.received, durable=stream.durable, g=stream.attempt, **flags)

def take(topic, header, body):
    header = msgpack.unpackb(header)
    origin, epoch, number = header["o"], header["e"], header["q"]
    if header.get("refused") == ME:
        sys.exit("this link has another receiver")
    if header.get("r", ME) != ME:
        return                          # for another receiver
    if header.get("bye") and origin in streams:
        streams[origin].left = True
    if number == 0:
        return                          # a notice, not a frame
    if origin not in streams or streams[origin].epoch != epoch:
        streams[origin] = Stream(epoch, header["l"])
    stream = streams[origin]
    stream.attempt = max(stream.attempt, header.get("g", 0))
    if number == stream.received + 1:
        stream.received = number
        stream.ended = header.get("end", False)
        send(topic, header, body, (origin, epoch, number))
    acknowledge(origin, again=number > stream.received)

# Sending: a frame is kept until it is durable at the receiver.

queue = collections.deque()             # (number, topic, header, body, what it came from)
sent = cursor = receiver = attempt = idle = 0

def send(topic, header, body, cause):
    global sent
    entries = []
    for event_time, record in msgpack.Unpacker(io.BytesIO(body)):
        record = work(record)
        if record is not None:
            entries.append(msgpack.packb([event_time, record]))
    sent += 1
    fresh = {"v": 1, "o": ORIGIN, "e": EPOCH, "q": sent, "n": len(entries), "t": header.get("t", 0),
             "x": struct.pack(f"<{len(entries)}I", *map(len, entries))}
    fresh.update({key: header[key] for key in ("w", "d", "end") if key in header})
    queue.append((sent, topic, fresh, b"".join(entries), cause))

def transmit():
    global cursor
    while receiver and cursor < len(queue):
        number, topic, header, body, cause = queue[cursor]
        header.update(l=queue[0][0], r=receiver, g=attempt)
        try:
            push.send_multipart([topic, msgpack.packb(header), body], zmq.DONTWAIT)
        except zmq.Again:
            return
        cursor += 1

def go_back(number):
    global cursor, attempt
    back = max(0, number - queue[0][0]) if queue else 0
    if back < cursor:
        cursor, attempt = back, attempt + 1

def heard(ack):
    global receiver, cursor, idle
    if ack["r"] != receiver:            # the first one, or the next after its death
        receiver = ack["r"]
        go_back(0)
    if ack.get("e") != EPOCH:
        return
    while queue and queue[0][0] <= ack["durable"]:
        origin, epoch, number = queue.popleft()[4]
        cursor = max(0, cursor - 1)
        if streams[origin].epoch == epoch:
            streams[origin].durable = number    # durable there, so durable here
            acknowledge(origin)
    if ack.get("again") and ack["g"] == attempt:
        go_back(ack["received"] + 1)
    idle = idle + 1 if ack.get("idle") and ack["received"] < sent else 0
    if idle >= 2:                       # the tail was lost
        idle = 0
        go_back(ack["received"] + 1)

def finished():
    return streams and not queue and all(s.ended and s.durable == s.received for s in streams.values())

give_up = None
while not (finished() and (all(s.left for s in streams.values()) or time.time() > give_up)):
    poller = zmq.Poller()
    for socket in (pub, sub) + ((pull,) if len(queue) < 100 else ()):
        poller.register(socket, zmq.POLLIN)
    if queue and receiver and cursor < len(queue):
        poller.register(push, zmq.POLLOUT)
    ready = dict(poller.poll(500))
    if pub in ready and pub.recv()[:1] == b"\1" or not ready:
        say()                           # a sender has come, or nothing has happened for a while
        for origin in streams:
            acknowledge(origin, idle=not ready)
    if sub in ready:
        heard(msgpack.unpackb(sub.recv_multipart()[1]))
    if pull in ready:
        take(*pull.recv_multipart())
    transmit()
    if finished() and not give_up:
        give_up = time.time() + 10
        push.send_multipart([b"bye", msgpack.packb({"v": 1, "o": ORIGIN, "e": EPOCH, "q": 0, "l": 0, "n": 0, "r": receiver, "bye": 1}), b""])
context.destroy(linger=500)
