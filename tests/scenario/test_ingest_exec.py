"""ingest exec: commands that go on, end, fail, cannot be run, write garbage, will not end; and what they get to see of us."""

import os
import signal
from pathlib import Path

import support
from listen_support import Clogged

QUICK = ("--retry-min", "10ms", "--retry-max", "50ms")


def numbers(events):
    return [event["n"] for event in events]


def gone(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def test_output_is_the_stream_to_its_end(tools):
    done = tools.run("ingest", """exec:seq 1 50000 | sed 's/.*/{"n":&}/'""", "--once")
    assert done.status == 0, done.err
    assert numbers(done.events) == list(range(1, 50001))


def test_the_last_line_needs_no_end_and_other_formats_begin_anew_with_each_start(tools):
    tool = tools.start("ingest", "exec:printf 'a,b\\n1,2'", "--format", "csv", *QUICK)
    assert tool.wait_events(3)[:3] == [{"a": 1, "b": 2}] * 3
    assert tool.terminate() == 0


def test_events_come_while_the_command_goes_on(tools):
    tool = tools.start("ingest", """exec:echo '{"n":1}'; sleep 1000""")
    assert numbers(tool.wait_events(1)) == [1]
    assert tool.terminate() == 0


def test_a_command_that_fails_is_started_again_and_told(tools, directory):
    (directory / "count").write_text("0")
    command = """exec:n=$(($(cat count) + 1)); echo $n > count; echo "attempt $n" >&2; [ $n -ge 4 ] || exit 3; echo "{\\"n\\":$n}"; sleep 1000"""
    tool = tools.start("ingest", command, *QUICK)
    assert numbers(tool.wait_events(1)) == [4]
    assert "ended with status 3; it is started again" in tool.err
    assert "the command says: attempt 1" in tool.err
    assert "data arrives again" in tool.err
    assert tool.terminate() == 0


def test_once_tells_success_from_failure(tools):
    done = tools.run("ingest", """exec:echo '{"n":1}'; exit 5""", "--once")
    assert done.status == 1 and "ended with status 5" in done.err
    assert numbers(done.events) == [1]
    done = tools.run("ingest", "exec:kill -9 $$", "--once")
    assert done.status == 1 and "signal 9" in done.err
    done = tools.run("ingest", "exec:/no/such/program --password hidden", "--once")
    assert done.status == 1 and "could not be run (status 127)" in done.err


def test_bad_lines_are_told_and_passed_over(tools):
    done = tools.run("ingest", """exec:echo garbage; echo '{"n":1}'""", "--once")
    assert numbers(done.events) == [1]
    assert "exec:1: " in done.err and "1 record could not be used" in done.err


def test_words_on_standard_error_do_not_flood_the_log(tools):
    done = tools.run("ingest", """exec:seq 1 100000 >&2; printf %100000s x >&2; echo '{"n":1}'""", "--once")
    assert done.status == 0 and numbers(done.events) == [1]
    assert "the command says: 1" in done.err
    assert len(done.err) < 20000


def test_a_command_that_nobody_takes_from_waits(tools, directory):
    with Clogged() as out:
        tool = tools.start("ingest", """exec:i=0; while [ $i -lt 200 ]; do seq $((i * 1000)) $((i * 1000 + 999)) | sed 's/.*/{"n":&,"pad":"0123456789012345678901234567890123456789"}/'; i=$((i + 1)); echo $i > at; done""",
                           "--once", stdout=out.writer)
        out.started()
        previous = None

        def still():
            nonlocal previous
            before, previous = previous, support.whole(directory / "at")
            return before and before == previous
        support.wait_for(still, "the command to wait", 30)
        out.read()
        assert tool.wait(60) == 0, tool.err
        support.wait_for(lambda: not out.thread.is_alive(), "the end of the output")
        assert numbers(support.lines_of(bytes(out.data))) == list(range(200_000))


def test_the_environment_holds_no_secrets(tools):
    done = tools.run("ingest", """exec:printf '{"secret":"%s","wanted":"%s","path":"%s","input":"%s"}\\n' "$SECRET" "$WANTED" "$PATH" "$(cat)" """,
                     "--env", "WANTED", "--once", env={"SECRET": "s", "WANTED": "w"})
    assert done.events == [{"secret": "", "wanted": "w", "path": os.environ["PATH"], "input": ""}]


def test_no_descriptor_of_ours_is_open_in_it(tools):
    done = tools.run("ingest", """exec:cd /proc/self/fd; echo "{\\"n\\":$(ls | wc -l)}" """, "--once", "--metrics", "m")
    assert numbers(done.events)[0] <= 5          # its own three, the directory's, and a pipe's


def test_it_ends_with_us_and_so_does_what_it_has_started(tools):
    command = """exec:trap '' TERM; sleep 1000 & echo "{\\"n\\":$$,\\"child\\":$!}"; while :; do sleep 1; done"""
    for how in (signal.SIGTERM, signal.SIGKILL):
        tool = tools.start("ingest", command)
        event = tool.wait_events(1)[0]
        if how == signal.SIGTERM:
            assert tool.terminate() == 0
            support.wait_for(lambda: gone(event["child"]), "the end of what the command has started")
        else:
            tool.kill()
            os.kill(event["child"], signal.SIGKILL)      # has no tie to us any more
        support.wait_for(lambda: gone(event["n"]), "the command's end")


def test_what_a_command_leaves_behind_does_not_keep_it_open(tools):
    done = tools.run("ingest", """exec:sleep 1000 & echo '{"n":1}'""", "--once")
    assert done.status == 0 and numbers(done.events) == [1]


def test_a_command_that_closes_its_output_but_goes_on_is_ended(tools):
    tool = tools.start("ingest", """exec:echo '{"n":1}'; exec >&-; sleep 1000""", *QUICK)
    assert len(tool.wait_events(2)) >= 2
    assert "closed its output" in tool.err
    assert tool.terminate() == 0


def test_a_command_is_needed(tools):
    assert tools.run("ingest", "exec:").status == 64
    assert tools.run("ingest", "exec: ").status == 64
    assert tools.run("ingest", "exec:true", "--retry-min", "2s", "--retry-max", "1s").status == 64


def test_the_stream_is_named_after_the_program_and_its_arguments_are_not_told(tools):
    tool = tools.start("ingest", "exec:/bin/false --password hidden", *QUICK)
    tool.wait_err(r"ingest\[false\] the command ended with status 1")
    assert "hidden" not in tool.err
