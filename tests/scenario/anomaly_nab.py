"""The Numenta Anomaly Benchmark, where it lies beside the repository (or where $NAB says): series of real systems with labelled anomalies, and the program that
scores detectors on them. Nothing of it is part of this repository."""

import csv
import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PROFILES = ["standard", "low_fp", "low_fn"]


def find():
    """Its directory; None when it is not there."""
    place = Path(os.environ.get("NAB") or ROOT.parent / "shared/nab")
    return place.resolve() if (place / "score.py").exists() else None


def detect(place, process, program, results):
    """Runs the program (that gives anomaly_score) over each file, the same for all, and writes the scores where score.py looks for them."""
    files = sorted((place / "data").glob("*/*.csv"))
    for file in files:
        with open(file, newline="") as text:
            rows = [(row["timestamp"].split(".")[0].replace(" ", "T"), row["value"]) for row in csv.DictReader(text)]
        lines = "".join(f'{{"@timestamp":"{time}Z","value":{value}}}\n' for time, value in rows)
        done = subprocess.run([process, f"{program} | keep anomaly_score"], input=lines.encode(), stdout=subprocess.PIPE, check=True)
        scores = re.findall(rb'"anomaly_score":([0-9.e-]+)', done.stdout)
        if len(scores) != len(rows):
            raise ValueError(f"{file}: {len(scores)} scores for {len(rows)} rows")
        out = results / file.relative_to(place / "data")
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text("anomaly_score\n" + "".join(score.decode() + "\n" for score in scores))
    return len(files)


def score(place, results, profile="standard", threshold=None):
    """The score and the threshold that it was reached with: the best one unless it is given."""
    command = [sys.executable, str(place / "score.py"), str(results), "--profile", profile]
    if threshold is not None:
        command += ["--threshold", str(threshold)]
    text = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True).stdout
    found = re.search(r": (-?[0-9.]+) \(threshold ([0-9.e-]+)\)", text)
    return float(found.group(1)), float(found.group(2))
