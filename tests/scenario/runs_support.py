"""What tests of sources with servers behind them share: ingest that is killed and started again, and a server of a test's own."""

import signal

import support

QUICK = ("--retry-min", "20ms", "--retry-max", "200ms")


class Runs:
    """ingest over a link to a receiver that lives, so that it can be killed and started again."""

    def __init__(self, tools, directory, *arguments, state="state", drain=("--drain-limit", "2s")):
        self.tools, self.link, self.spool = tools, f"ipc://{directory}/{state}.l", directory / state / "spool"
        self.arguments = (*arguments, *QUICK, *drain, "--to", f"@{self.link}", "--state", state)
        self.receiver = tools.start("process", "where true", "--from", self.link, "--to", "-")

    def start(self, *more):
        return self.tools.start("ingest", *self.arguments, *more)

    def kill_when_full(self):
        """Nobody takes what is in the log, and it has no more room: so it is killed in the middle of its input."""
        self.receiver.signal(signal.SIGSTOP)
        tool = self.start("--spool-limit", "1MiB")
        support.wait_for(lambda: self.log_size > 800_000, lambda: f"a full log; {tool.err}")
        tool.kill()
        self.receiver.signal(signal.SIGCONT)
        return tool

    @property
    def events(self):
        return self.receiver.events

    @property
    def numbers(self):
        return [event["n"] for event in self.events]

    @property
    def log_size(self):
        return sum(path.stat().st_size for path in self.spool.glob("*.seg"))

    def wait(self, count, tool, seconds=90):
        """So many events, at least."""
        support.wait_for(lambda: self.receiver.out.count(b"\n") >= count,
                         lambda: f"{count} events; {self.receiver.out.count(10)} have come; {tool.err[-1500:]}", seconds)
        return self.events

    def wait_text(self, text, tool, what, seconds=90):
        """Until what has come holds the bytes: for long outputs, which wait_until would read as JSON again and again."""
        support.wait_for(lambda: text in self.receiver.out, lambda: f"{what}; {self.receiver.out.count(10)} have come; {tool.err[-1500:]}", seconds)

    def wait_until(self, condition, tool, what="the events", seconds=40):
        support.wait_for(lambda: condition(self.events), lambda: f"{what}; {len(self.events)} have come; {tool.err[-1500:]}", seconds)


def made_and_closed(make_server):
    """The body of a fixture: makes servers of a test's own, and closes them behind it."""
    servers = []

    def make(**settings):
        servers.append(make_server(**settings))
        return servers[-1]
    yield make
    for server in servers:
        server.close()
