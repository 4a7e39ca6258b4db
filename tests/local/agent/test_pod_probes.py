"""Probes decide about ready, started, and the end of what hangs."""

from __future__ import annotations

import asyncio
from pathlib import Path

from tests.local.agent.bench import Bench, conditions, container, pod, status_of

SERVER = (
    "import http.server, os, pathlib\n"
    "class H(http.server.BaseHTTPRequestHandler):\n"
    "    def do_GET(self):\n"
    "        ok = pathlib.Path(os.environ['FLAG']).exists()\n"
    "        self.send_response(200 if ok else 503); self.end_headers()\n"
    "    def log_message(self, *a): pass\n"
    "http.server.HTTPServer((os.environ['KAITO_HOST'], 8080), H).serve_forever()\n"
)
VOLUMES = [{"name": "flags", "emptyDir": {}}]
SHAPE = {
    "env": [{"name": "FLAG", "value": "/flags/up"}],
    "volumeMounts": [{"name": "flags", "mountPath": "/flags"}],
    "ports": [{"name": "http", "containerPort": 8080}],
}


def flag(bench: Bench, uid: str) -> Path:
    return bench.cluster.home / "pods" / uid / "volumes" / "flags" / "up"


async def test_readiness_follows_the_server(bench: Bench) -> None:
    probe = {"httpGet": {"path": "/", "port": "http"}, "periodSeconds": 1, "failureThreshold": 1}
    spec = container(SERVER, image="python", readinessProbe=probe, **SHAPE)
    made = await bench.create(pod("web", spec, volumes=VOLUMES))
    await bench.phase("web", "Running")
    await asyncio.sleep(0.3)
    assert conditions(await bench.get("web"))["Ready"] == "False"
    flag(bench, made["metadata"]["uid"]).touch()
    await bench.pod_until("web", lambda p: conditions(p)["Ready"] == "True")
    flag(bench, made["metadata"]["uid"]).unlink()
    await bench.pod_until("web", lambda p: conditions(p)["Ready"] == "False")


async def test_the_startup_probe_holds_the_others_back(bench: Bench) -> None:
    startup = {"exec": {"command": ["/bin/sh", "-c", "test -e $FLAG"]}, "periodSeconds": 1, "failureThreshold": 30}
    liveness = {"exec": {"command": ["/bin/sh", "-c", "test -e $FLAG"]}, "periodSeconds": 1, "failureThreshold": 1}
    spec = container("sleep 60", startupProbe=startup, livenessProbe=liveness, **SHAPE)
    made = await bench.create(pod("slow", spec, volumes=VOLUMES))
    found = await bench.phase("slow", "Running")
    assert status_of(found)["started"] is False
    flag(bench, made["metadata"]["uid"]).touch()
    found = await bench.pod_until("slow", lambda p: conditions(p)["Ready"] == "True")
    assert status_of(found)["restartCount"] == 0


async def test_what_is_not_alive_is_restarted(bench: Bench) -> None:
    liveness = {"exec": {"command": ["/bin/sh", "-c", "test -e $FLAG"]}, "periodSeconds": 1, "failureThreshold": 1}
    spec = container("touch $FLAG; sleep 0.5; rm $FLAG; sleep 60", livenessProbe=liveness, **SHAPE)
    await bench.create(pod("hung", spec, volumes=VOLUMES, restartPolicy="Always", terminationGracePeriodSeconds=1))
    found = await bench.pod_until("hung", lambda p: status_of(p).get("restartCount", 0) >= 1)
    assert status_of(found)["lastState"]["terminated"]["exitCode"] == 143


async def test_nobody_listens(bench: Bench) -> None:
    probe = {"tcpSocket": {"port": 9}, "periodSeconds": 1, "failureThreshold": 1}
    await bench.create(pod("deaf", container("sleep 60", readinessProbe=probe)))
    await bench.phase("deaf", "Running")
    await asyncio.sleep(0.3)
    assert conditions(await bench.get("deaf"))["Ready"] == "False"
