"""The order in which a command looks for its API server."""

from pathlib import Path

import pytest

from kaito.cli.connection import find_kubeconfig, kaito_home


@pytest.fixture
def running(tmp_path: Path) -> dict[str, str]:
    (tmp_path / "up.json").write_text("{}")
    (tmp_path / "kubeconfig").write_text("")
    return {"KAITO_HOME": str(tmp_path)}


def test_an_explicit_file_comes_first(running: dict[str, str]) -> None:
    explicit = Path("elsewhere")
    assert find_kubeconfig(explicit, {**running, "KUBECONFIG": "x"}) == explicit


def test_then_the_variable(running: dict[str, str]) -> None:
    assert find_kubeconfig(None, {**running, "KUBECONFIG": "x"}) is None


def test_then_the_control_plane_that_runs_here(running: dict[str, str]) -> None:
    assert find_kubeconfig(None, running) == kaito_home(running) / "kubeconfig"


def test_a_stopped_one_is_passed_over(running: dict[str, str]) -> None:
    (kaito_home(running) / "up.json").unlink()
    assert find_kubeconfig(None, running) is None


def test_home_defaults_below_the_users_own() -> None:
    assert kaito_home({}) == Path("~/.kaito").expanduser()
