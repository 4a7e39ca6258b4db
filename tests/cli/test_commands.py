"""Commands that need no cluster, as a person runs them: output, exit codes, one sentence for an error."""

import subprocess
import sys
import time

import pytest


def kaito(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "kaito.cli.main", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def test_help_teaches_without_loading_what_is_heavy() -> None:
    done = kaito("--help")
    assert done.returncode == 0
    assert all(command in done.stdout for command in ("up", "apply", "get", "wait", "logs", "chat", "operator"))
    loaded = (
        "import sys, kaito.cli.main; print([m for m in ('torch', 'lightkube', 'transformers') if m in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", loaded], capture_output=True, text=True).stdout == "[]\n"


def test_models_and_instance_types_are_listed() -> None:
    assert "tiny-phi-3" in kaito("models").stdout
    row = kaito("skus", "standard_nc6s_v3").stdout.splitlines()[1].split()
    assert row[:2] == ["Standard_NC6s_v3", "azure"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        pytest.param(("models", "phi-3-mini"), "the nearest: phi-3", id="unknown model"),
        pytest.param(("skus", "Standard_NC6s_v9"), "Standard_NC6s_v3", id="unknown instance type"),
        pytest.param(("get", "-o", "xml"), 'unknown output "xml"', id="unknown output"),
        pytest.param(("delete",), "nothing to delete is named", id="nothing to delete"),
    ],
)
def test_wrong_input_ends_with_2_and_a_way_out(arguments: tuple[str, ...], says: str) -> None:
    done = kaito(*arguments)
    assert done.returncode == 2
    assert says in done.stderr
    assert "Traceback" not in done.stderr


def test_without_a_control_plane_the_next_step_is_named(tmp_path_factory: pytest.TempPathFactory) -> None:
    nothing = tmp_path_factory.mktemp("home") / "kubeconfig"
    done = kaito("get", "--kubeconfig", str(nothing))
    assert done.returncode == 1
    assert "kaito up" in done.stderr
    assert "Traceback" not in done.stderr


def test_it_starts_quickly() -> None:
    started = time.perf_counter()
    kaito("--version")
    assert time.perf_counter() - started < 5.0  # a bound against heavy imports, not a measurement
