"""Logs, exec, attach, cp, port-forward and the pod proxy, with real kubectls over SPDY and websockets."""

from __future__ import annotations

import hashlib
import http.server
import os
import re
import shutil
import subprocess
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.cluster import Cluster, kubectl_path
from tests.support.fake_pods import ProcessBackend

PODS = "/api/v1/namespaces/default/pods"


def pod(name: str = "one") -> dict[str, Any]:
    container = {"name": "main", "image": "x", "ports": [{"name": "http", "containerPort": 80}]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": {"containers": [container]}}


def run_pod(cluster: Cluster, address: str = "127.0.0.1") -> None:
    cluster.request("POST", PODS, pod())
    status = {"status": {"phase": "Running", "podIP": address, "podIPs": [{"ip": address}]}}
    answer = cluster.request("PATCH", f"{PODS}/one/status", status, {"Content-Type": "application/merge-patch+json"})
    assert answer.code == 200, answer.body


@pytest.fixture
def backend(cluster: Cluster) -> ProcessBackend:
    made = ProcessBackend()
    cluster.set_backend(made)
    run_pod(cluster)
    return made


@pytest.fixture
def web_server(tmp_path: Path) -> Iterator[tuple[int, bytes]]:
    """A server on loopback: its port and the bytes of its file `/blob`."""
    content = os.urandom(3_000_000)
    (tmp_path / "www").mkdir()
    (tmp_path / "www" / "blob").write_bytes(content)

    class Files(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments, directory=str(tmp_path / "www"))

        def log_message(self, *_: Any) -> None:
            pass

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body + b"")

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Files)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server.server_address[1], content
    server.shutdown()
    thread.join()
    server.server_close()


def kubectls() -> list[Any]:
    """The one of the environment, and whatever newer ones lie beside (KAITO_KUBECTLS, a list of paths)."""
    more = [path for path in os.environ.get("KAITO_KUBECTLS", "").split(":") if path and Path(path).exists()]
    return [pytest.param("", id="kubectl"), *(pytest.param(path, id=Path(path).name) for path in more)]


@pytest.fixture(params=kubectls())
def kubectl(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param:
        monkeypatch.setenv("KAITO_KUBECTL", request.param)
    return kubectl_path()


def test_without_a_node_agent_streams_are_unavailable(cluster: Cluster) -> None:
    run_pod(cluster)
    answer = cluster.request("GET", f"{PODS}/one/log")
    assert answer.code == 503
    assert "no node agent is connected" in answer.json()["message"]


def test_logs(cluster: Cluster, backend: ProcessBackend) -> None:
    answer = cluster.request("GET", f"{PODS}/one/log?tailLines=2&timestamps=true")
    assert answer.body == b"second\nthird\n"
    assert (backend.asked[0].container, backend.asked[0].timestamps) == ("main", True)
    assert cluster.request("GET", f"{PODS}/one/log?previous=true").code == 400
    assert cluster.request("GET", f"{PODS}/one/log?container=other").json()["message"] == (
        "container other is not valid for pod one"
    )
    assert cluster.request("GET", f"{PODS}/one/log?tailLines=many").code == 400
    assert cluster.request("GET", f"{PODS}/none/log").code == 404


def test_the_pod_proxy_passes_requests_on(cluster: Cluster, web_server: tuple[int, bytes]) -> None:
    port, content = web_server
    run_pod(cluster)
    answer = cluster.request("GET", f"{PODS}/one:{port}/proxy/blob?a=b")
    assert (answer.code, answer.body) == (200, content)
    assert cluster.request("POST", f"{PODS}/one:{port}/proxy/chat", "hello").body == b"hello"
    assert cluster.request("GET", f"{PODS}/one:{port}/proxy/none").code == 404
    assert cluster.request("GET", f"{PODS}/one:1/proxy/").code == 503
    assert cluster.request("GET", f"{PODS}/one:other/proxy/").code == 400


@pytest.mark.tools
def test_exec_gives_output_and_exit_code(cluster: Cluster, backend: ProcessBackend, kubectl: str) -> None:
    done = cluster.kubectl("exec", "one", "--", "sh", "-c", "echo out; echo err >&2; exit 3")
    assert (done.stdout, done.returncode) == ("out\n", 3)
    assert done.stderr.startswith("err\n")
    assert "command terminated with exit code 3" in done.stderr


@pytest.mark.tools
def test_exec_takes_stdin_of_any_size(cluster: Cluster, backend: ProcessBackend, kubectl: str) -> None:
    text = "0123456789abcdef\n" * 100_000
    done = cluster.kubectl("exec", "-i", "one", "--", "sha256sum", stdin=text)
    assert done.stdout.split()[0] == hashlib.sha256(text.encode()).hexdigest(), done.stderr


@pytest.mark.tools
def test_a_big_output_comes_whole(cluster: Cluster, backend: ProcessBackend, kubectl: str) -> None:
    done = cluster.kubectl("exec", "one", "--", "seq", "400000")
    assert done.stdout.splitlines()[-1] == "400000"
    assert done.stdout.count("\n") == 400_000


@pytest.mark.tools
def test_a_command_that_is_not_there_says_so(cluster: Cluster, backend: ProcessBackend, kubectl: str) -> None:
    done = cluster.kubectl("exec", "one", "--", "no-such-program")
    assert done.returncode == 1
    assert "cannot run no-such-program" in done.stderr


@pytest.mark.tools
def test_cp_brings_a_file(cluster: Cluster, backend: ProcessBackend, kubectl: str, tmp_path: Path) -> None:
    if shutil.which("tar") is None:
        pytest.skip("tar is not installed")
    content = os.urandom(500_000)
    (tmp_path / "from").write_bytes(content)
    done = cluster.kubectl("cp", f"one:{tmp_path}/from", str(tmp_path / "to"))
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "to").read_bytes() == content


@pytest.mark.tools
def test_attach_joins_the_container(cluster: Cluster, backend: ProcessBackend, kubectl: str) -> None:
    done = cluster.kubectl("attach", "-i", "one", stdin="hello\n")
    assert "hello" in done.stdout, done.stderr


@pytest.mark.tools
def test_follow_a_log(cluster: Cluster, backend: ProcessBackend, kubectl: str) -> None:
    process = subprocess.Popen(
        [kubectl, "logs", "-f", "one"], stdout=subprocess.PIPE, text=True, env=cluster.environment()
    )
    assert process.stdout is not None
    assert [process.stdout.readline() for _ in range(3)] == ["first\n", "second\n", "third\n"]
    cluster.run(_set(backend))
    assert process.stdout.read() == "last\n"
    assert process.wait(10) == 0
    process.stdout.close()


async def _set(backend: ProcessBackend) -> None:
    backend.followed.set()


@pytest.mark.tools
def test_port_forward_carries_downloads_side_by_side(
    cluster: Cluster, backend: ProcessBackend, web_server: tuple[int, bytes], kubectl: str
) -> None:
    port, content = web_server
    process = subprocess.Popen(
        [kubectl, "port-forward", "pod/one", f":{port}"], stdout=subprocess.PIPE, text=True, env=cluster.environment()
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        found = re.search(r"127\.0\.0\.1:(\d+)", line)
        assert found, line
        results: list[bytes] = []

        def download() -> None:
            with urllib.request.urlopen(f"http://127.0.0.1:{found[1]}/blob", timeout=20) as response:
                results.append(response.read())

        threads = [threading.Thread(target=download) for _ in range(5)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert [result == content for result in results] == [True] * 5
    finally:
        process.terminate()
        process.wait(10)
        process.stdout.close()
