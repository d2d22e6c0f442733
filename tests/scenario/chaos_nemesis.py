"""The nemesis of the chaos runs: injects one fault after the other, and counts them. What it does follows from its seed; when it does it,
from the machine."""

import contextlib
import os
import signal
import subprocess
import time
from collections import Counter
from pathlib import Path


class SmallDisk:
    """A file system for the stages' state, which can be filled. Needs the right to mount. In memory; or, so that logs can be written around the page
    cache, on a disk made of a file."""

    def __init__(self, directory, real=False):
        self.path = Path(directory) / "disk"
        self.path.mkdir()
        if not real:
            subprocess.run(["mount", "-t", "tmpfs", "-o", "size=48m,mode=0700", "chaos", self.path], check=True, capture_output=True)
            return
        image = Path(directory) / "image"
        with open(image, "wb") as file:
            file.truncate(80 << 20)
        subprocess.run(["mkfs.ext4", "-q", "-m", "0", image], check=True, capture_output=True)
        subprocess.run(["mount", "-o", "loop", image, self.path], check=True, capture_output=True)

    def fill(self):
        with contextlib.suppress(OSError), open(self.path / "junk", "wb") as junk:
            while True:
                junk.write(bytes(1 << 20))

    def free(self):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.path / "junk")

    def close(self):
        subprocess.run(["umount", "-l", self.path], check=False, capture_output=True)


class SplitNetwork:
    """A network namespace with one cable to ours, which can be cut. Needs the right to make one."""

    def __init__(self):
        tag = f"{os.getpid() % 100000}"
        self.name, self.ours, theirs = f"chaos{tag}", f"ch{tag}a", f"ch{tag}b"
        net = 1 + os.getpid() % 250
        self.inside, self.outside = f"10.231.{net}.2", f"10.231.{net}.1"
        self.inside_prefix = ("ip", "netns", "exec", self.name)
        steps = [["netns", "add", self.name],
                 ["link", "add", self.ours, "type", "veth", "peer", "name", theirs],
                 ["link", "set", theirs, "netns", self.name],
                 ["addr", "add", f"{self.outside}/30", "dev", self.ours],
                 ["link", "set", self.ours, "up"],
                 ["-n", self.name, "addr", "add", f"{self.inside}/30", "dev", theirs],
                 ["-n", self.name, "link", "set", theirs, "up"],
                 ["-n", self.name, "link", "set", "lo", "up"]]
        try:
            for step in steps:
                subprocess.run(["ip", *step], check=True, capture_output=True)
        except BaseException:
            self.close()
            raise

    def cut(self):
        subprocess.run(["ip", "link", "set", self.ours, "down"], check=True)

    def join(self):
        subprocess.run(["ip", "link", "set", self.ours, "up"], check=True)

    def close(self):
        subprocess.run(["ip", "link", "del", self.ours], check=False, capture_output=True)
        subprocess.run(["ip", "netns", "del", self.name], check=False, capture_output=True)


class Nemesis:
    def __init__(self, world, random, disk=None):
        self.world, self.random, self.disk = world, random, disk
        self.faults = Counter()

    def pause(self, most):
        """Waits, and lets the world start again what has ended."""
        until = time.monotonic() + self.random.random() * most
        while time.monotonic() < until:
            self.world.tend()
            time.sleep(0.01)

    def one(self):
        kinds = {"kill": 8, "stop": 3, "terminate": 3, "power": 3, "blackout": 1, "pair": 2}
        if self.disk:
            kinds["full disk"] = 1
        if self.world.split:
            kinds["cut cable"] = 1
        kind = self.random.choices(list(kinds), kinds.values())[0]
        stage = self.random.choice(self.world.stages)
        getattr(self, kind.replace(" ", "_"))(stage)

    def kill(self, stage):
        self.faults["kill -9"] += 1
        stage.kill()
        self.pause(0.05)

    def pair(self, stage):
        other = self.random.choice(self.world.stages)
        self.faults["kill -9"] += 2
        stage.kill()
        other.kill()

    def stop(self, stage):
        self.faults["stop"] += 1
        stage.signal(signal.SIGSTOP)
        self.pause(1.0)
        stage.signal(signal.SIGCONT)

    def terminate(self, stage):
        self.faults["terminate"] += 1
        stage.terminate()

    def power(self, stage):
        """The machine of one stage loses power: the others' go on."""
        self.faults["power cut"] += 1
        stage.lose_power()

    def blackout(self, stage):
        """All of them at once."""
        self.faults["power cut"] += len(self.world.stages)
        for each in self.world.stages:
            each.signal(signal.SIGKILL)
        for each in self.world.stages:
            each.lose_power()

    def full_disk(self, stage):
        self.faults["full disk"] += 1
        self.world.disk_is_full = True
        self.disk.fill()
        self.pause(1.0)
        if self.random.random() < 0.5:
            self.kill(stage)
        self.disk.free()
        self.world.tend()
        self.world.disk_is_full = False

    def cut_cable(self, stage):
        self.faults["cut cable"] += 1
        self.world.split.cut()
        self.pause(2.0)
        self.world.split.join()

    def rage(self, seconds=None, faults=None):
        began = time.monotonic()
        while (seconds is None or time.monotonic() - began < seconds) and (faults is None or self.faults.total() < faults):
            self.one()
            self.pause(self.random.choice((0.05, 0.3, 0.8)))
