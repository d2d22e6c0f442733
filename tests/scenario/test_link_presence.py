"""Links at whose other end nobody is: ends may be started in any order, and whoever waits in vain learns what for."""

import signal

from support import free_port, wait_for


def says(tool, text):
    wait_for(lambda: text in tool.err, lambda: f"{text}; it says: {tool.err}")


def test_a_receiver_and_its_sender_tell_that_nobody_is_there_and_who_comes_and_goes(tools):
    port = free_port()
    receiver = tools.start("process", "", "--from", f"tcp://127.0.0.1:{port}", "--stay")
    says(receiver, f"warning process[process] tcp://127.0.0.1:{port}: no sender answers there yet; it is tried on")
    assert f"ports {port} and {port + 1}" in receiver.err
    sender = tools.start("ingest", "generator:sensors", "--rate", "10", "--name", "a", "--to", f"tcp://127.0.0.1:{port}")
    says(receiver, "the sender is there now")
    sender.signal(signal.SIGKILL)
    sender.wait()
    says(receiver, "no sign of the sender any more")
    again = tools.start("ingest", "generator:sensors", "--rate", "0", "--count", "3", "--name", "b", "--to", f"tcp://127.0.0.1:{port}")
    says(receiver, "the sender is there again")
    assert again.wait() == 0 and "nobody" not in again.err and "no receiver" not in again.err
    receiver.signal(signal.SIGTERM)
    assert receiver.wait() == 0 and receiver.err.count("no sender") == 1 and receiver.err.count("no sign") == 1


def test_a_sender_names_the_partition_that_nobody_takes(tools, directory):
    link = f"ipc://{directory}/l"
    sender = tools.start("ingest", "generator:sensors", "--rate", "100", "--to", f"{link}?partitions=2", "--drain-limit", "100ms")
    taker = tools.start("process", "", "--from", f"{link}?partition=0")
    says(sender, f"info ingest[sensors] {link}?partitions=2, partition 1: no receiver is there yet")
    assert "partition 0" not in sender.err
    tools.start("process", "", "--from", f"{link}?partition=1")
    says(sender, "partition 1: the receiver is there now")
    assert taker.running and taker.err == ""


def test_a_host_that_is_not_known_is_told_at_once(tools):
    receiver = tools.start("process", "", "--from", "tcp://nowhere.invalid:6000")
    says(receiver, "tcp://nowhere.invalid:6000: the host nowhere.invalid is not known (")


def test_who_has_ended_or_comes_only_now_and_then_is_not_missed(tools, directory):
    side, ended, open_, other = (f"ipc://{directory}/{name}" for name in ("side", "ended", "open", "other"))
    receiver = tools.start("process", "", "--side", f"@{side}", "--from", ended, "--from", open_)
    tools.start("ingest", "generator:sensors", "--rate", "10", "--name", "a", "--to", open_)
    assert tools.run("ingest", "generator:sensors", "--rate", "0", "--count", "3", "--name", "b", "--to", ended).status == 0
    later = tools.start("process", "", "--from", other)      # whose patience ends when that of the first one has ended
    says(later, f"info process[process] {other}: no sender is there yet; it is waited for")
    assert receiver.running and receiver.err == ""


def test_a_subscriber_at_what_is_no_publisher_learns_that_none_is_there(tools):
    port = free_port()
    sender = tools.start("ingest", "generator:sensors", "--rate", "10", "--to", f"tcp://127.0.0.1:{port}")
    subscriber = tools.start("process", "", "--from", f"sub+tcp://127.0.0.1:{port}")
    says(subscriber, f"sub+tcp://127.0.0.1:{port}: no publisher answers there yet")
    assert "no sign" not in subscriber.err
    port = free_port()
    another = tools.start("process", "", "--from", f"sub+tcp://127.0.0.1:{port}")
    says(another, "no publisher answers there yet")
    tools.start("broadcast", "null:", "--pub", f"tcp://127.0.0.1:{port}", "--stay", pipe=True)
    says(another, "the publisher is there now")
    assert sender.running
