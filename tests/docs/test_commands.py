"""Every command in the documents is run: the blocks of a page in order, in one shell, in a folder of its own.

A page says at its top what it needs: `<!-- cluster: api -->` is an API server with nothing behind it,
`<!-- cluster: up -->` a whole `kaito up`. A block that is not run says why, in `<!-- not run: ... -->` above it.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from kaito.api import crds
from tests.docs.pages import (
    COMMAND,
    GENERATED,
    PAGES,
    README,
    ROOT,
    Block,
    blocks,
    directives,
    indented_commands,
    name_of,
)
from tests.e2e.machine import KAITO
from tests.support.cluster import Cluster, kubectl_path

SHELLS = ("bash", "console")
PAGE_SECONDS = 300.0


def commands(block: Block) -> str:
    """A console block's commands are those behind `$ `; the rest is what they print."""
    if block.language == "bash":
        return block.text
    return "\n".join(line.removeprefix("$ ") for line in block.text.splitlines() if line.startswith("$ "))


def to_run(page: Path) -> list[Block]:
    return [block for block in blocks(page) if block.language in SHELLS and not block.why_not]


def needs(page: Path, what: str) -> bool:
    return directives(page).get("cluster") == what


LIGHT = [page for page in PAGES if to_run(page) and not needs(page, "up")]
WHOLE = [page for page in PAGES if to_run(page) and needs(page, "up") and "soak" not in directives(page)]
LONG = [page for page in [*PAGES, README] if to_run(page) and "soak" in directives(page)]


@pytest.mark.parametrize("page", [*PAGES, README], ids=name_of)
def test_commands_stand_in_blocks_that_are_run(page: Path) -> None:
    if name_of(page) in GENERATED:
        return  # tests/docs/test_reference.py reads their examples
    assert list(indented_commands(page)) == []
    strays = [b.where for b in blocks(page) if b.language not in (*SHELLS, "yaml", "text") and _holds_commands(b)]
    assert strays == []


def _holds_commands(block: Block) -> bool:
    return any(COMMAND.match(line.removeprefix("$ ")) for line in block.text.splitlines())


def test_no_page_is_forgotten() -> None:
    assert {*LIGHT, *WHOLE, *LONG} == {page for page in [*PAGES, README] if to_run(page)}


@pytest.mark.tools
@pytest.mark.parametrize("page", LIGHT, ids=name_of)
def test_a_page_runs(page: Path, tmp_path: Path) -> None:
    if not needs(page, "api"):
        play(page, tmp_path, reader(tmp_path))
        return
    cluster = Cluster(tmp_path / "cluster")
    cluster.start()
    try:
        for crd in (crds.workspace_crd(), crds.node_claim_crd()):
            definitions = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
            assert cluster.request("POST", definitions, crd).code == 201
        play(page, tmp_path, reader(tmp_path) | {"KUBECONFIG": str(cluster.kubeconfig)})
    finally:
        cluster.stop()


@pytest.mark.slow
@pytest.mark.tools
@pytest.mark.parametrize("page", [*WHOLE, *(pytest.param(page, marks=pytest.mark.soak) for page in LONG)], ids=name_of)
def test_a_page_runs_on_one_machine(page: Path, tmp_path: Path) -> None:
    with machine(tmp_path) as port:
        play(page, tmp_path, reader(tmp_path), port)


@contextmanager
def machine(home: Path) -> Iterator[int]:
    """`kaito up` in ~/.kaito of a reader whose home is `home`; gives the registry's port, which pages know as 5010."""
    port = free_port()
    environment = reader(home)
    up = [*KAITO, "up", "--detach", "--port", "0", "--registry-port", str(port)]
    subprocess.run(up, env=environment, cwd=home, check=True, timeout=60, capture_output=True)
    try:
        yield port
    finally:
        subprocess.run([*KAITO, "down"], env=environment, cwd=home, check=False, timeout=60, capture_output=True)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def reader(home: Path) -> dict[str, str]:
    """Someone with an empty home and the suite installed."""
    kept = {name: os.environ[name] for name in ("LANG", "TMPDIR") if name in os.environ}
    path = os.pathsep.join([str(Path(sys.executable).parent), str(Path(kubectl_path()).parent), os.environ["PATH"]])
    machine_kubeconfig = str(home / ".kaito/kubeconfig")
    return {**kept, "PATH": path, "HOME": str(home), "KUBECONFIG": machine_kubeconfig, "OMP_NUM_THREADS": "1"}


def play(page: Path, folder: Path, environment: dict[str, str], port: int = 5010) -> None:
    """Run the page's blocks where a checkout's examples and charts lie."""
    for name in ("examples", "charts"):
        shutil.copytree(ROOT / name, folder / name)
    for manifest in (folder / "examples/tiny").iterdir():
        manifest.write_text(manifest.read_text().replace(":5010/", f":{port}/"))
    parts = ["set -euo pipefail", "trap 'echo \"::failed in $WHERE\"' ERR"]
    for block in to_run(page):
        parts += [f"WHERE={block.where}", f"echo '::{block.where}'", commands(block).replace(":5010/", f":{port}/")]
    script = folder / "page.sh"
    script.write_text("\n".join(parts) + "\n")
    done = subprocess.run(
        ["bash", str(script)], env=environment, cwd=folder, capture_output=True, text=True, timeout=PAGE_SECONDS
    )
    assert done.returncode == 0, f"{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    assert "Traceback" not in done.stderr
