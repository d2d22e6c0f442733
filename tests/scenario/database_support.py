"""What tests of databases as sources share."""

import signal

import support


class Runs:
    """ingest over a link to a receiver that lives, so that it can be killed and started again."""

    def __init__(self, tools, directory, *arguments):
        self.tools, self.arguments, self.link = tools, arguments, f"ipc://{directory}/l"
        self.receiver = tools.start("process", "where true", "--from", self.link, "--to", "-")

    def start(self, *more):
        return self.tools.start("ingest", *self.arguments, *more, "--to", f"@{self.link}", "--state", "state", "--retry-min", "20ms",
                                "--retry-max", "200ms", "--drain-limit", "2s")

    def kill_when_full(self):
        """Nobody takes what is in the log, and it has no more room: so the snapshot is in the middle. True: it was."""
        self.receiver.signal(signal.SIGSTOP)
        tool = self.start("--spool-limit", "1MiB")
        size = lambda: sum(p.stat().st_size for p in (self.receiver.out_path.parent / "state" / "spool").glob("*.seg"))
        support.wait_for(lambda: size() > 800_000, lambda: f"a full log; {tool.err}")
        tool.kill()
        self.receiver.signal(signal.SIGCONT)
        return "changes come next" not in tool.err

    @property
    def events(self):
        return self.receiver.events

    def wait(self, condition, tool, what="the events", seconds=40):
        support.wait_for(lambda: condition(self.events), lambda: f"{what}; {len(self.events)} have come; {tool.err[-1500:]}", seconds)
