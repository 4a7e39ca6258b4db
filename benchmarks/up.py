"""How long `kaito up` takes: from the start of the process until its API answers, and until it says that it is ready.

    python benchmarks/up.py [--runs 5] [--json FILE]

Beside it stands what the interpreter alone takes to start and import the API server's one foreign library, aiohttp: no
server in it can be faster. `cold` starts on a new folder each time, `warm` on one that was used before.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import socket
import ssl
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from kaito.local.up import status

LOOK_SECONDS = 0.005
PATIENCE = 120.0


class Ended(Exception):
    """The control plane did not come up."""


@dataclass(frozen=True)
class Start:
    """Seconds since the process was started."""

    api: float
    ready: float


def start_once(home: Path, *, controllers: bool) -> Start:
    """Start `kaito up` in the foreground, measure, and stop it."""
    port = free_port()
    command = [sys.executable, "-m", "kaito.cli.main", "up", "--home", str(home)]
    command += ["--port", str(port), "--registry-port", "0", *(() if controllers else ("--no-controllers",))]
    with tempfile.TemporaryFile() as output:
        began = time.perf_counter()
        with subprocess.Popen(command, stdout=output, stderr=output) as process:
            try:
                api = seconds_until(lambda: answers(port), process, began)
                ready = seconds_until(lambda: is_ready(home, process.pid), process, began)
            except Ended as error:
                output.seek(0)
                raise SystemExit(f"{error}:\n{output.read().decode()}") from error
            finally:
                process.send_signal(signal.SIGTERM)
                process.wait()
    return Start(api, ready)


def seconds_until(holds: Callable[[], bool], process: subprocess.Popen[bytes], began: float) -> float:
    while not holds():
        if process.poll() is not None:
            raise Ended(f"kaito up ended with exit code {process.returncode}")
        if time.perf_counter() - began > PATIENCE:
            raise Ended(f"kaito up was not ready within {PATIENCE:g} s")
        time.sleep(LOOK_SECONDS)
    return time.perf_counter() - began


def answers(port: int) -> bool:
    trusting = ssl.create_default_context()
    trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE  # its CA may not be written yet
    try:
        with urllib.request.urlopen(f"https://127.0.0.1:{port}/readyz", context=trusting, timeout=10) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, ConnectionError):
        return False


def is_ready(home: Path, pid: int) -> bool:
    running = status(home)
    return running is not None and running.pid == pid


def interpreter_alone() -> float:
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", "import asyncio, aiohttp.web"], check=True)
    return time.perf_counter() - began


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def measure(runs: int) -> list[dict[str, object]]:
    rows = [row("python and aiohttp alone", "import", [interpreter_alone() for _ in range(runs)])]
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder) / "home"
        for controllers in (False, True):
            name = "with controllers" if controllers else "--no-controllers"
            for folder_state in ("cold", "warm"):
                starts = []
                for _ in range(runs):
                    if folder_state == "cold":
                        shutil.rmtree(home, ignore_errors=True)
                    starts.append(start_once(home, controllers=controllers))
                rows.append(row(f"{name}, {folder_state}", "API answers", [start.api for start in starts]))
                rows.append(row(f"{name}, {folder_state}", "ready", [start.ready for start in starts]))
    return rows


def row(what: str, until: str, seconds: list[float]) -> dict[str, object]:
    low, middle, high = min(seconds), statistics.median(seconds), max(seconds)
    return {"start": what, "until": until, "min": round(low, 2), "median": round(middle, 2), "max": round(high, 2)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--json", type=Path, help="write the figures here too")
    arguments = parser.parse_args()
    rows = measure(arguments.runs)
    print("| start | until | min s | median s | max s |\n|---|---|---|---|---|")
    for each in rows:
        print("| {start} | {until} | {min} | {median} | {max} |".format(**each))
    print(f"\n{os.cpu_count()} processors, Python {sys.version.split()[0]}, {arguments.runs} runs each")
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
