"""What a person gets wrong is said in the status, in words that lead on; and nothing that was done is lost by it."""

import base64
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.e2e.machine import Machine, tuning

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("e2e")]


def says(machine: Machine, name: str, *words: str) -> bool:
    message = machine.condition(name, "WorkspaceReady").get("message", "")
    return all(word in message for word in words)


def test_an_unknown_preset_is_refused_with_the_nearest(machine: Machine, tmp_path: Path) -> None:
    """By the command, which the admission webhook answers; the webhook follows the operator's start by a moment."""
    configured = ("get", "validatingwebhookconfiguration", "validation.workspace.kaito.sh")
    machine.until(
        lambda: machine.kubectl(*configured, check=False).returncode == 0, patience=20, what="the webhook is configured"
    )
    manifest = tmp_path / "manifest.yaml"
    manifest.write_text(tuning("unknown-preset", machine.registry, preset="tiny-phi3"))
    for command in (machine.kubectl, machine.kaito):
        done = command("apply", "-f", str(manifest), check=False)
        assert done.returncode == 1
        assert 'unknown preset "tiny-phi3"' in done.stderr
        assert "Did you mean tiny-phi-3" in done.stderr
        assert "Traceback" not in done.stderr


def test_an_url_that_is_not_there_is_named_and_the_job_stops(machine: Machine, tmp_path: Path) -> None:
    url = f"http://{machine.registry}/data/nothing.parquet"
    machine.apply(tmp_path, tuning("missing-data", machine.registry, url=url))
    machine.until(lambda: says(machine, "missing-data", url, "404"), patience=60, what="the URL and 404 are named")
    job = json.loads(machine.kaito("get", "job", "missing-data", "-o", "json").stdout)
    assert job["spec"]["suspend"]


def test_a_file_without_a_usable_column_says_what_it_has(machine: Machine, tmp_path: Path) -> None:
    pq.write_table(pa.table({"height": [1, 2], "width": [3, 4]}), machine.home / "data" / "numbers.parquet")
    url = f"http://{machine.registry}/data/numbers.parquet"
    machine.apply(tmp_path, tuning("useless-data", machine.registry, url=url))
    machine.until(
        lambda: says(machine, "useless-data", "height", "numbers.parquet"), patience=60, what="the columns are named"
    )


def test_a_refused_push_waits_for_a_mended_secret_and_never_trains_again(machine: Machine, tmp_path: Path) -> None:
    machine.apply(tmp_path, push_secret(machine.registry, "kaito", "wrong"))
    machine.apply(tmp_path, tuning("refused-push", machine.registry, secret="my-push"))
    machine.until(lambda: says(machine, "refused-push", "my-push"), patience=180, what="the refused secret is named")
    started = machine.workspace("refused-push")["status"]["tuning"]["startedAt"]

    good = json.loads((machine.home / "registry/config.json").read_text())["auths"][machine.registry]["auth"]
    user, _, password = base64.b64decode(good).decode().partition(":")
    machine.apply(tmp_path, push_secret(machine.registry, user, password))
    machine.kaito("wait", "refused-push", "--timeout", "120", timeout=140)
    status = machine.workspace("refused-push")["status"]
    assert status["tuning"]["startedAt"] == started
    assert status["tuning"]["adapter"]["digest"].startswith("sha256:")


def push_secret(registry: str, user: str, password: str) -> str:
    auth = base64.b64encode(f"{user}:{password}".encode()).decode()
    config = json.dumps({"auths": {registry: {"auth": auth}}})
    return (
        "apiVersion: v1\nkind: Secret\nmetadata: {name: my-push}\n"
        f"type: kubernetes.io/dockerconfigjson\nstringData:\n  .dockerconfigjson: '{config}'\n"
    )
