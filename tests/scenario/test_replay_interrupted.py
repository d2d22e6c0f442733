"""A replay that is killed, and then the stages that had taken a part of it: everything goes on by itself."""

import os
import signal

from instance import alive, control  # noqa: F401
from support import lines_so_far, ndjson, wait_for
from test_streamctl_replay import letters


def test_stages_that_were_killed_after_an_interrupted_replay_go_on(control, directory):
    def configure(most):
        return control.config(state_dir="state", sources=[{"name": "log", "path": "in.ndjson", "follow": True}],
                              pipelines=[{"name": "checked", "from": "log", "program": f"validate n < {most}"},
                                         {"name": "sums", "from": "checked", "program": "where n >= 0"}],
                              sinks=[{"type": "file", "name": "all", "path": "all.ndjson", "from": "sums"}])
    config = configure(0)

    def add(first):
        with open(directory / "in.ndjson", "ab") as file:
            file.write(ndjson({"n": n} for n in range(first, first + 20000)))
    add(0)
    control.good("start", config)
    wait_for(lambda: letters(control, config)["checked"] == 20000, "dead letters", 30)
    control.good("stop", config)
    configure(10**9)
    control.good("reset", config, "checked", "-y")
    control.good("start", config)
    for _ in range(20):
        replay = control.tools.start("streamctl", "replay", config, env=control.env)
        wait_for(lambda: not replay.running or control.stage("checked")["metrics"] and (directory / "state/checked/replay").exists()
                 and list((directory / "state/checked/replay").glob("*/events.state/spool/*.seg")), "letters on their way")
        replay.kill()
        pid = control.supervisor_pid(control.run_dir())
        os.kill(pid, signal.SIGKILL)
        wait_for(lambda: not alive(pid), "its end")
        control.good("start", config)
        if letters(control, config)["checked"] == 0:
            break
    add(20000)
    wait_for(lambda: len(lines_so_far(directory / "all.ndjson")) == 40000, lambda: f"all events: {len(lines_so_far(directory / 'all.ndjson'))}", 60)
    assert sorted(event["n"] for event in lines_so_far(directory / "all.ndjson")) == list(range(40000))
    wait_for(lambda: letters(control, config)["checked"] == 0, "the end of the replay", 60)
    control.good("stop", config)
