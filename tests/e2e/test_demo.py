"""The demonstration, as `make demo` runs it."""

import json
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.e2e.machine import KAITO, Machine

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("e2e")]


def test_the_model_learns_what_the_data_teaches(tmp_path: Path) -> None:
    command = [*KAITO, "demo", "--folder", str(tmp_path)]
    done = subprocess.run(command, timeout=400, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["total"] >= 10
    assert report["before"] <= 2
    assert report["after"] >= 9
    assert report["digest"].startswith("sha256:")
    assert set(report["seconds"]) >= {"control plane", "tuning"}
    assert "80/TCP,29500/TCP" in done.stdout
    assert not Machine(tmp_path / "home").processes()


def test_interrupted_it_leaves_nothing_behind(tmp_path: Path) -> None:
    command = [*KAITO, "demo", "--folder", str(tmp_path)]
    machine = Machine(tmp_path / "home")
    with start_in_a_terminal(command) as demo:
        deadline = time.monotonic() + 120
        while not list((tmp_path / "home").glob("pods/*")):
            assert demo.poll() is None, demo.stdout.read() if demo.stdout else ""
            assert time.monotonic() < deadline
            time.sleep(0.2)
        demo.send_signal(signal.SIGINT)
        demo.communicate(timeout=60)
    assert demo.returncode == 130
    assert not machine.processes()


@contextmanager
def start_in_a_terminal(command: list[str]) -> Iterator[subprocess.Popen[str]]:
    """As a shell starts a program in the foreground: with SIGINT at work, which background jobs ignore."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        program = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    finally:
        signal.signal(signal.SIGINT, before)
    with program:
        try:
            yield program
        finally:
            if program.poll() is None:
                program.kill()
