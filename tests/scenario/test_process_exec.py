"""process with exec: programs that answer, die, hang, write nonsense; and a stage with state that is killed while they do."""

import json
import os
import random
import time

import pytest

import support
from support import lines_of, wait_for
from test_process_state import events_of, feed, has_ended, recorded, recorded_so_far, recorder, stage_starter

# The answer: the event, with what the body of the loop adds to it.
ANSWERER = """
import json, os, random, sys
open({pids!r}, "a").write(f"{{os.getpid()}}\\n")
for line in sys.stdin:
    event = json.loads(line)
    {body}
    print(json.dumps(event))
"""


@pytest.fixture
def answerer(directory):
    """Writes the program and gives the operator that runs it."""
    def write(body, options=""):
        path = directory / "answerer.py"
        path.write_text(ANSWERER.format(body=body, pids=str(directory / "pids")))
        return f'exec "exec /usr/bin/python3 {path}" {options}'
    return write


def pids(directory):
    return [int(line) for line in support.whole(directory / "pids").split()]


def numbered(count):
    return [{"n": number} for number in range(count)]


def test_answers_come_in_the_order_of_the_questions_and_each_once(tools, directory, answerer):
    done = tools.run("process", answerer("event['twice'] = event['n'] * 2") + " | where n % 2 == 0", input=numbered(20000))
    assert done.status == 0, done.err
    assert done.events == [{"n": n, "twice": 2 * n} for n in range(0, 20000, 2)]
    assert len(pids(directory)) == 1


def test_a_program_that_dies_is_started_again_and_asked_again(tools, directory, answerer):
    done = tools.run("process", answerer("random.random() < 0.003 and os._exit(3)", "in flight 50"), input=numbered(2000))
    assert done.status == 0, done.err
    assert done.events == numbered(2000)
    assert len(pids(directory)) > 1 and "ended with status 3" in done.err and "are asked again" in done.err


def test_an_event_that_ends_the_program_each_time_is_a_dead_letter(tools, directory, answerer):
    done = tools.run("process", answerer("event['n'] in (13, 14) and os.abort()"), "--dead-letter", directory / "dead", input=numbered(100))
    assert done.status == 0, done.err
    assert done.events == [event for event in numbered(100) if event["n"] not in (13, 14)]
    dead = lines_of(directory / "dead")
    assert [letter["event"]["n"] for letter in dead] == [13, 14]
    assert all("3 times with this event next" in letter["reason"] and letter["place"] == "exec in line 1" for letter in dead)


def test_no_answer_in_time_makes_a_dead_letter_and_a_new_program(tools, directory, answerer):
    done = tools.run("process", answerer("if event['n'] == 2: sys.stdin.close(); __import__('time').sleep(1000)", "timeout 10s"),
                     "--dead-letter", directory / "dead", input=numbered(5))
    assert done.status == 0, done.err
    assert done.events == [event for event in numbered(5) if event["n"] != 2]
    assert [(letter["event"]["n"], letter["reason"]) for letter in lines_of(directory / "dead")] == [(2, "no answer within 10s")]
    assert "--unbuffered" in done.err


def test_a_program_that_closes_its_output_or_its_input_is_started_anew(tools, directory, answerer):
    for descriptor in (1, 0):
        (directory / "once").unlink(missing_ok=True)
        body = f"if not os.path.exists('once'): open('once', 'w'); os.close({descriptor}); __import__('time').sleep(1000)"
        done = tools.run("process", answerer(body, "timeout 10s"), "--dead-letter", directory / "dead", input=numbered(3))
        assert done.status == 0, done.err
        lost = [letter["event"]["n"] for letter in lines_of(directory / "dead")] if (directory / "dead").exists() else []
        assert [event["n"] for event in done.events] + lost in ([0, 1, 2], [1, 2, 0])


def test_an_answer_that_is_too_long_and_lines_that_nobody_asked_for(tools, directory, answerer):
    done = tools.run("process", answerer("if event['n'] == 1: event['x'] = 'x' * 300000"), "--dead-letter", directory / "dead", input=numbered(3))
    assert done.status == 0 and done.events == [{"n": 0}, {"n": 2}]
    assert [letter["reason"] for letter in lines_of(directory / "dead")] == ["an answer of more than 256 KiB"]
    body = "if event['n'] == 1: print('x' * 300000, flush=True); os._exit(0)"       # dead at once: whether its end or its words are seen first
    (directory / "dead").unlink()
    done = tools.run("process", answerer(body), "--dead-letter", directory / "dead", input=numbered(3))
    assert done.status == 0 and done.events == [{"n": 0}, {"n": 2}]
    assert [letter["reason"] for letter in lines_of(directory / "dead")] == ["an answer of more than 256 KiB"]
    chatty = tools.run("process", 'exec "while read line; do echo $line; echo $line; done" in flight 1', input=numbered(1))
    assert chatty.status == 0 and chatty.events == numbered(1)


def test_a_program_that_cannot_be_run_loses_nothing(tools, directory):
    stage = tools.start("process", f'exec "{directory}/not-yet" timeout 5m', "--dead-letter", directory / "dead", input=numbered(10))
    stage.wait_err("could not be run")
    program = directory / "not-yet"
    program.with_suffix(".new").write_text("#!/bin/cat\n")
    program.with_suffix(".new").write_text("#!/bin/sh\ncat\n")
    program.with_suffix(".new").chmod(0o755)
    os.replace(program.with_suffix(".new"), program)
    assert stage.wait(60) == 0, stage.err
    assert stage.events == numbered(10) and not (directory / "dead").exists()


@pytest.mark.parametrize("command, options, reason", (
    ("cat /nonexistent", "timeout 5s", "no answer within 5s: the program ended with status 1"),
    ("exec sleep 1000", "timeout 2s", "no answer within 2s"),
    ("/nonexistent", "timeout 2s", "the program could not be run (status 127)")))
@pytest.mark.parametrize("count", (300, 20000))             # fewer and many more than are taken of a program that answers
def test_a_program_that_never_answers_does_not_keep_the_stream_from_its_end(tools, directory, command, options, reason, count):
    done = tools.run("process", f'exec "{command}" {options}', "--dead-letter", directory / "dead", input=numbered(count), seconds=100)
    assert done.status == 0 and done.events == []
    dead = lines_of(directory / "dead")
    assert [letter["event"]["n"] for letter in dead] == list(range(count))
    assert {letter["reason"] for letter in dead} == {reason}


def test_a_program_that_answers_again_gets_all_that_wait(tools, directory, answerer):
    """It hangs with many more events behind it than are taken otherwise; once it has been started anew it answers."""
    body = "if not os.path.exists('once'): open('once', 'w'); __import__('time').sleep(1000)"
    done = tools.run("process", answerer(body, "timeout 5s"), "--dead-letter", directory / "dead", input=numbered(20000))
    assert done.status == 0, done.err
    assert [letter["event"]["n"] for letter in lines_of(directory / "dead")] == [0]
    assert done.events == numbered(20000)[1:]


def test_the_program_gets_no_secrets_and_its_complaints_go_to_the_log(tools, directory):
    program = """exec "echo $PATH >&2; while read line; do echo \\"{\\\\\\"secret\\\\\\":\\\\\\"$API_TOKEN\\\\\\"}\\"; done" """
    done = tools.run("process", program, input=numbered(1), env={"API_TOKEN": "do-not-tell"})
    assert done.status == 0 and done.events == [{"secret": ""}], done.out + done.err.encode()
    assert "warning process[process] exec: " in done.err and "do-not-tell" not in done.err


def alive(pid):
    try:
        return open(f"/proc/{pid}/stat").read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_the_program_dies_with_the_stage(tools, directory, answerer):
    stage = tools.start("process", answerer("pass"), pipe=True)
    stage.write('{"n":1}\n')
    stage.wait_events(1)
    child = pids(directory)[0]
    assert alive(child)
    stage.kill()
    wait_for(lambda: not alive(child), "the program's end")


def test_a_program_that_hangs_holds_nothing_else_up(tools, directory, answerer):
    """The stage can be stopped, keeps what was not answered, and asks again when it is started anew."""
    source = feed(tools, directory, "a")
    out = directory / "recorded"
    receiver = recorder(tools, f"ipc://{directory}/out", out)
    start = stage_starter(tools, directory, answerer("if os.path.exists('hang'): __import__('time').sleep(1000)", "timeout 1h"))
    (directory / "hang").touch()
    stage = start()
    source.write(support.ndjson([{"ts": 1732300000000 + n, "n": n} for n in range(50)]))
    wait_for(lambda: pids(directory), "the program")
    assert stage.terminate() == 0, stage.err
    assert not alive(pids(directory)[-1])
    (directory / "hang").unlink()
    stage = start()
    wait_for(lambda: len(events_of(recorded_so_far(out), "out")) == 50, lambda: f"the answers; the stage says:\n{stage.err}")
    source.close()
    assert stage.wait() == 0 and receiver.wait() == 0
    assert [event["n"] for event in events_of(recorded(out), "out")] == list(range(50))


@pytest.mark.parametrize("seed", (1, 2, 3))
def test_killed_at_any_moment_each_event_has_one_answer(tools, directory, answerer, seed):
    """Answers are chance, so that one that was asked for twice would show: the stage compares what it makes again with what it had made."""
    rng = random.Random(seed)
    events = support.sensor_lines(6000)
    source = feed(tools, directory, "a")
    out = directory / "recorded"
    recorder(tools, f"ipc://{directory}/out", out, "stay")   # the end is perhaps taken before the last kill, and wanted again
    program = answerer("event['chance'] = random.random(); random.random() < 0.0005 and os._exit(1)", "in flight 200")
    start = stage_starter(tools, directory, program + " | where seq % 5 > 0 | set n = chance * 2")
    stage = start()
    for i in range(0, len(events), 300):
        source.write(support.ndjson(events[i:i + 300]))
        if rng.random() < 0.6:
            time.sleep(rng.uniform(0, 0.4))
            stage.kill()
            stage = start()
    source.close()
    for _ in range(3):                                      # perhaps the end is on its way already, or was taken
        time.sleep(rng.uniform(0, 0.2))
        stage.kill()
        stage = start()
    assert stage.wait(90) == 0, stage.err
    wait_for(lambda: has_ended(out), "the end")
    assert source.wait() == 0, source.err
    frames = recorded(out)
    assert [frame["number"] for frame in frames] == list(range(1, len(frames) + 1))
    found = events_of(frames, "out")
    assert [event["seq"] for event in found] == [event["seq"] for event in events if event["seq"] % 5]
    assert all(event["n"] == event["chance"] * 2 for event in found)


def test_windows_behind_it_fire_once_all_answers_are_there(tools, directory, answerer):
    """The watermark waits for the answers."""
    source = feed(tools, directory, "a")
    out = directory / "recorded"
    receiver = recorder(tools, f"ipc://{directory}/out", out)
    program = answerer("event['n'] = 1") + " | window tumbling 10s by device: sum(n) as n, sum(seq) as s"
    start = stage_starter(tools, directory, program)
    events = support.sensor_lines(5000)
    stage = start()
    for i in range(0, len(events), 1000):
        source.write(support.ndjson(events[i:i + 1000]))
        time.sleep(random.uniform(0, 0.3))
        stage.kill()
        stage = start()
    source.close()
    assert stage.wait(60) == 0, stage.err
    assert receiver.wait() == 0
    results = events_of(recorded(out), "out")
    assert sum(event["n"] for event in results) == 5000 and sum(event["s"] for event in results) == sum(range(5000))
    assert len({(json.dumps(event["window_start"], default=str), event["device"]) for event in results}) == len(results) == 50


def test_what_answers_behind_the_end_made_is_final_after_a_restart_too(tools, directory, answerer):
    """Between the last snapshot and the kill there were answers alone, no frame: a stage behind it must yet hear that they will not be taken back."""
    source = feed(tools, directory, "a")
    held, out = directory / "held", directory / "recorded"
    taker = recorder(tools, f"ipc://{directory}/out", held, "hold")
    start = stage_starter(tools, directory, answerer("while not os.path.exists('go'): __import__('time').sleep(0.01)", "timeout 1h"))
    stage = start()
    source.write(support.ndjson([{"ts": 1732300000000 + n, "n": n} for n in range(50)]))
    source.close()
    assert source.wait() == 0, source.err                   # a snapshot covers its end
    time.sleep(0.5)                                         # and perhaps that the stream has ended, too
    (directory / "state/snapshot.new").mkdir()              # no further one succeeds
    (directory / "go").touch()
    wait_for(lambda: has_ended(held), lambda: f"the end; the stage says:\n{stage.err}")
    stage.kill()
    taker.kill()
    (directory / "state/snapshot.new").rmdir()
    behind = tools.start("process", "", "--state", directory / "behind", "--from", f">ipc://{directory}/out", "--to", f"@ipc://{directory}/behind.out")
    recorder(tools, f"ipc://{directory}/behind.out", out, "stay")
    stage = start()
    assert behind.wait(60) == 0, behind.err
    assert stage.wait() == 0, stage.err
    assert [event["n"] for event in events_of(recorded(out))] == list(range(50))
