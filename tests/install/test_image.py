"""The operator's image, without a container engine: its file system by the same steps, run as its user, read-only."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import tarfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from kaito.install.kinds import resource_of
from kaito.kube.client import Client
from tests.install.accounts import NAMESPACE, rendered, token_of
from tests.install.rootfs import TARGET, command_in, image_environment, image_user, make_root, require_mounts, run_in
from tests.install.test_rights import free_port
from tests.support.cluster import Cluster

pytestmark = pytest.mark.soak
"""pip installs everything anew. `make test-chart` runs it."""
WRITE = """
import os, pathlib
print(os.getuid())
pathlib.Path("/tmp/a").write_text("x")
pathlib.Path("/opt/a").touch()
"""
LIMIT = 150 * 10**6
"""Bytes of the image, compressed."""
SLIM = 45 * 10**6
"""Of the base image, compressed, at most."""


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    require_mounts()
    yield make_root(tmp_path_factory.mktemp("image"))


def test_it_says_its_version_as_nobody_on_a_read_only_root(root: Path) -> None:
    user = image_user()
    assert user.partition(":")[0].isdigit(), "runAsNonRoot is checked by number"
    assert not user.startswith("0")
    done = run_in(root, "kaito", "--version")
    assert (done.returncode, done.stdout[:6]) == (0, "kaito "), done.stderr
    write = (
        "import os, pathlib; print(os.getuid()); pathlib.Path('/tmp/a').write_text('x'); pathlib.Path('/opt/a').touch()"
    )
    refused = run_in(root, "python", "-c", write)
    assert refused.stdout.strip() == user.partition(":")[0]
    assert "Read-only file system" in refused.stderr, refused.stderr


def test_there_is_no_machine_learning_and_no_pip(root: Path) -> None:
    ask = "import importlib.util as u; print([m for m in ('torch', 'transformers', 'vllm', 'pip') if u.find_spec(m)])"
    done = run_in(root, "python", "-c", ask)
    assert done.stdout.strip() == "[]", done.stderr
    azure = "import kaito.nodes.providers.azure.provider, azure.mgmt.containerservice.aio"
    assert run_in(root, "python", "-c", azure).returncode == 0, "the provisioner is in the same image"


async def test_the_operator_comes_up(root: Path, cluster: Cluster) -> None:
    """With what its pod has: the account's token where kubelet puts it, and /tmp to write to."""
    port = free_port()
    flags = ["--health-port", str(port), "--host", "127.0.0.1", "--webhook-port", str(free_port()), "--leader-election"]
    async with Client.connect(cluster.kubeconfig, field_manager="test") as user:
        for body in rendered():
            resource = resource_of(body)
            await user.apply(resource, body, body["metadata"].get("namespace", ""))
        token = await token_of(user, "kaito-operator")
    account = root / "var/run/secrets/kubernetes.io/serviceaccount"
    account.mkdir(parents=True)
    for name, text in (("token", token), ("ca.crt", cluster.ca.read_text()), ("namespace", NAMESPACE)):
        (account / name).write_text(text)
    where = {"KUBERNETES_SERVICE_HOST": "127.0.0.1", "KUBERNETES_SERVICE_PORT": str(cluster.port)}
    command = command_in(root, f"{TARGET}/bin/kaito", "operator", *flags)
    environment = {**image_environment(), **where}
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as started:
        try:
            await asyncio.to_thread(wait_ready, port, started)
        finally:
            started.kill()  # unshare passes no gentler signal on; it takes the operator along


def wait_ready(port: int, started: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5) as answer:
                assert answer.read() == b"ok"
                return
        except OSError:
            assert started.poll() is None, started.communicate()[1]
            assert time.monotonic() < deadline
            time.sleep(0.1)


def test_the_bill_of_materials_lists_what_is_there(root: Path) -> None:
    bill = json.loads((root / "opt/kaito/share/sbom.cdx.json").read_text())
    assert (bill["bomFormat"], bill["specVersion"]) == ("CycloneDX", "1.6")
    assert bill["metadata"]["component"]["name"] == "kaito"
    listed = {one["name"] for one in bill["components"] if one["purl"].startswith("pkg:pypi/")}
    there = {path.name.partition("-")[0] for path in (root / "opt/kaito").rglob("*.dist-info")}
    assert {name.lower().replace("_", "-").replace(".", "-") for name in there} == {*listed, "kaito"}
    references = {one["bom-ref"] for one in bill["components"]} | {bill["metadata"]["component"]["bom-ref"]}
    for one in bill["dependencies"]:
        assert {one["ref"], *one["dependsOn"]} <= references
    (ours,) = [one for one in bill["dependencies"] if one["ref"].startswith("pkg:pypi/kaito@")]
    assert any(ref.startswith("pkg:pypi/lightkube@") for ref in ours["dependsOn"])


def test_it_is_small(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    layer = tmp_path / "layer.tar.gz"
    with tarfile.open(layer, "w:gz", compresslevel=6) as archive:
        archive.add(root / "opt", "opt")
    size = layer.stat().st_size
    with capsys.disabled():
        print(f"\nthe operator's layer: {size / 1e6:.1f} MB compressed, {_bytes(root / 'opt') / 1e6:.1f} MB unpacked")
    assert size + SLIM < LIMIT


def _bytes(folder: Path) -> int:
    return sum(os.lstat(path).st_size for path in folder.rglob("*"))
