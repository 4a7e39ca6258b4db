"""A server listens before its libraries are imported, and computes with as many threads as its model is worth."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from kaito.runtime.errors import InputError
from kaito.runtime.model.main import find_builtin
from kaito.runtime.progress import Progress
from kaito.runtime.serve.engines.builtin.engine import BuiltinEngine, BuiltinOptions
from kaito.runtime.serve.engines.choose import builtin_options
from kaito.runtime.serve.settings import read_settings
from kaito.runtime.step import Step

MODEL = "tiny-phi-3"


def step(**environ: str) -> Step:
    told = {"KAITO_PRESET": MODEL, "KAITO_MODEL_DIR": str(find_builtin(MODEL)), **environ}
    return Step("serve", told, Progress("serve"))


@pytest.mark.parametrize(
    ("environ", "threads"),
    [
        ({}, None),
        ({"OMP_NUM_THREADS": "3"}, 3),
        ({"KAITO_THREADS": "2"}, 2),
        ({"KAITO_THREADS": "2", "OMP_NUM_THREADS": "3"}, 2),
    ],
)
def test_threads_that_were_asked_for(environ: dict[str, str], threads: int | None) -> None:
    given = step(**environ)
    assert builtin_options(read_settings(given), given).threads == threads


def test_keys_of_the_config_and_those_without_effect(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "inference_config.yaml"
    config.write_text("vllm:\n  max_model_len: 128\nmax_probe_steps: 6\nchat_defaults: v0.3\n")
    settings = read_settings(step(KAITO_CONFIG=str(config)))
    assert settings.engine_options == {"max-model-len": 128}
    assert settings.chat_defaults == "v0.3"
    said = json.loads(capsys.readouterr().out)
    assert said["key"] == "max_probe_steps"
    config.write_text("chat_defaults: v0.2\n")
    with pytest.raises(InputError, match=r"write v0\.3|chat_defaults is 'v0\.2'"):
        read_settings(step(KAITO_CONFIG=str(config)))


@pytest.mark.parametrize(
    ("environ", "linger"), [({}, 0), ({"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, 3), ({"KAITO_LINGER": "7"}, 7)]
)
def test_how_long_it_lingers(environ: dict[str, str], linger: float) -> None:
    assert read_settings(step(**environ)).linger == linger


def test_a_negative_number_of_threads_is_refused() -> None:
    given = step(KAITO_THREADS="-1")
    with pytest.raises(InputError, match="KAITO_THREADS is -1"):
        builtin_options(read_settings(given), given)


@pytest.mark.slow
@pytest.mark.parametrize(("wanted", "threads"), [(None, 1), (2, 2)])
def test_a_small_model_computes_with_one_thread(wanted: int | None, threads: int) -> None:
    program = (
        "import asyncio, os, sys, torch; from pathlib import Path\n"
        "from kaito.runtime.serve.engines.builtin.engine import BuiltinEngine, BuiltinOptions\n"
        "torch.set_num_threads(4)\n"
        f"engine = BuiltinEngine(BuiltinOptions(Path(sys.argv[1]), 'm', kv_bytes=1 << 26, threads={wanted}))\n"
        "asyncio.run(engine.start()); print(torch.get_num_threads(), os.environ['GOMP_SPINCOUNT'])"
    )
    made = subprocess.run(
        [sys.executable, "-c", program, str(find_builtin(MODEL))], capture_output=True, text=True, check=True
    )
    assert made.stdout.split() == [str(threads), "3000"]


def test_an_engine_that_has_not_started_loads_nothing() -> None:
    program = (
        "import sys; import kaito.runtime.serve.main\n"
        "from kaito.runtime.serve.engines.builtin.engine import BuiltinEngine\n"
        "assert not {'torch', 'transformers', 'datasets'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
    assert not BuiltinEngine(BuiltinOptions(Path("nowhere"), "m")).is_alive


@pytest.mark.slow
def test_it_listens_before_the_model_is_there(tmp_path: Path) -> None:
    """The first answer of /health is 503, while torch is still being imported; the process is then ended."""
    environ = {
        **os.environ,
        **step(KAITO_HOST="127.0.0.1", KAITO_PORT="0", KAITO_TERMINATION_LOG=str(tmp_path / "log")).environ,
    }
    server = subprocess.Popen(
        [sys.executable, "-m", "kaito.runtime.main", "serve"], env=environ, stdout=subprocess.PIPE, text=True
    )
    try:
        assert server.stdout is not None
        event = json.loads(server.stdout.readline())
        assert event["event"] == "listening"
        with pytest.raises(urllib.error.HTTPError, match="503"):
            urllib.request.urlopen(f"http://127.0.0.1:{event['port']}/health", timeout=30)
    finally:
        server.terminate()
        server.communicate(timeout=60)
