"""ConfigMaps, Secrets and the downward API, as environment and as files that follow their objects."""

from __future__ import annotations

from kaito.local.agent.config import INHERITED
from kaito.local.agent.world import CLAIMS
from tests.local.agent.bench import CONFIG_MAPS, PODS, SECRETS, Bench, container, pod, status_of, terminated

SECRET_VOLUME = [{"name": "login", "secret": {"secretName": "login"}}]
SECRET_MOUNT = [{"name": "login", "mountPath": "/mnt/login"}]
LOGIN = [{"name": "LOGIN", "value": "/mnt/login/token"}]


async def test_environment_from_everywhere(bench: Bench) -> None:
    await bench.put(CONFIG_MAPS, "settings", {"colour": "blue", "size": "big"})
    await bench.put(SECRETS, "login", {"token": "s3cret"})
    env = [
        {"name": "PLAIN", "value": "p"},
        {"name": "BUILT", "value": "$(PLAIN)-$(NONE)-$$(PLAIN)"},
        {"name": "COLOUR", "valueFrom": {"configMapKeyRef": {"name": "settings", "key": "colour"}}},
        {"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": "login", "key": "token"}}},
        {"name": "ABSENT", "valueFrom": {"secretKeyRef": {"name": "login", "key": "no", "optional": True}}},
        {"name": "ME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
        {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
        {"name": "CPUS", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu"}}},
        {"name": "MEBIBYTES", "valueFrom": {"resourceFieldRef": {"resource": "limits.memory", "divisor": "1Mi"}}},
    ]
    script = 'echo "$BUILT $COLOUR $TOKEN ${ABSENT-unset} $ME $IP $CPUS $MEBIBYTES $all_size" > $KAITO_TERMINATION_LOG'
    main = container(
        script,
        env=env,
        envFrom=[{"prefix": "all_", "configMapRef": {"name": "settings"}}],
        resources={"limits": {"cpu": "1500m", "memory": "64Mi"}},
    )
    await bench.create(pod("env", main))
    found = await bench.phase("env", "Succeeded")
    address = found["status"]["podIP"]
    assert terminated(found)["message"] == f"p-$(NONE)-$(PLAIN) blue s3cret unset env {address} 2 64 big\n"


async def test_the_machines_own_environment_stays_outside(bench: Bench) -> None:
    main = container("env | cut -d= -f1 | sort | tr '\\n' ' ' > $KAITO_TERMINATION_LOG")
    await bench.create(pod("bare", main))
    seen = set(terminated(await bench.phase("bare", "Succeeded"))["message"].split())
    allowed = {"HOME", "TMPDIR", "HOSTNAME", "PWD", "OLDPWD", "SHLVL", "_", "PYTHONUNBUFFERED", *INHERITED}
    families = ("KAITO_", *(name for name in INHERITED if name.endswith("_")))
    assert not {name for name in seen - allowed if not name.startswith(families)}


async def test_a_missing_secret_is_named_and_waited_for(bench: Bench) -> None:
    main = container("cat $LOGIN > $KAITO_TERMINATION_LOG", env=LOGIN, volumeMounts=SECRET_MOUNT)
    await bench.create(pod("patient", main, volumes=SECRET_VOLUME))
    found = await bench.pod_until("patient", lambda p: status_of(p).get("state", {}).get("waiting", {}).get("message"))
    waiting = status_of(found)["state"]["waiting"]
    assert waiting["reason"] == "CreateContainerConfigError"
    assert waiting["message"] == 'secret "login" not found in the namespace default'
    await bench.put(SECRETS, "login", {"token": "at last"})
    assert terminated(await bench.phase("patient", "Succeeded"))["message"] == "at last"


async def test_a_missing_key_is_named(bench: Bench) -> None:
    await bench.put(CONFIG_MAPS, "settings", {"colour": "blue"})
    env = [{"name": "X", "valueFrom": {"configMapKeyRef": {"name": "settings", "key": "shape"}}}]
    await bench.create(pod("keyless", container("true", env=env)))
    found = await bench.pod_until("keyless", lambda p: status_of(p).get("state", {}).get("waiting", {}).get("message"))
    assert status_of(found)["state"]["waiting"]["message"] == "couldn't find key shape in ConfigMap default/settings"


async def test_a_changed_secret_reaches_a_running_pod(bench: Bench) -> None:
    await bench.put(SECRETS, "login", {"token": "old"})
    script = "while test $(cat $LOGIN) = old; do sleep 0.02; done; cat $LOGIN > $KAITO_TERMINATION_LOG"
    main = container(script, env=LOGIN, volumeMounts=SECRET_MOUNT)
    await bench.create(pod("live", main, volumes=SECRET_VOLUME))
    await bench.phase("live", "Running")
    await bench.put(SECRETS, "login", {"token": "new"})
    found = await bench.phase("live", "Succeeded", patience=2)
    assert terminated(found)["message"] == "new"


async def test_items_modes_projections_and_subpaths(bench: Bench) -> None:
    await bench.put(CONFIG_MAPS, "settings", {"a": "A", "b": "B"})
    await bench.put(SECRETS, "login", {"token": "t"})
    volumes = [
        {
            "name": "some",
            "configMap": {"name": "settings", "items": [{"key": "b", "path": "deep/b.txt", "mode": 0o600}]},
        },
        {
            "name": "all",
            "projected": {
                "sources": [
                    {"configMap": {"name": "settings"}},
                    {"secret": {"name": "login"}},
                    {"configMap": {"name": "none", "optional": True}},
                    {"downwardAPI": {"items": [{"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}]}},
                ]
            },
        },
    ]
    mounts = [
        {"name": "some", "mountPath": "/mnt/some"},
        {"name": "all", "mountPath": "/mnt/all"},
        {"name": "all", "mountPath": "/etc/one", "subPath": "a"},
    ]
    env = [
        {"name": "SOME", "value": "/mnt/some"},
        {"name": "ALL", "value": "/mnt/all"},
        {"name": "ONE", "value": "/etc/one"},
    ]
    script = "(stat -L -c %a $SOME/deep/b.txt; ls $ALL | tr '\\n' ' '; cat $ALL/labels $ONE) > $KAITO_TERMINATION_LOG"
    body = pod("files", container(script, env=env, volumeMounts=mounts), volumes=volumes)
    body["metadata"]["labels"] = {"app": "x"}
    await bench.create(body)
    found = await bench.phase("files", "Succeeded")
    assert terminated(found)["message"] == '600\na b labels token app="x"A'


async def test_a_claim_is_bound_and_outlives_its_pod(bench: Bench) -> None:
    spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    await bench.client.create(CLAIMS, {"metadata": {"name": "kept"}, "spec": spec}, "default")
    volumes = [{"name": "v", "persistentVolumeClaim": {"claimName": "kept"}}]
    shape = {"env": [{"name": "V", "value": "/v/f"}], "volumeMounts": [{"name": "v", "mountPath": "/v"}]}
    await bench.create(pod("writer", container("echo kept > $V", **shape), volumes=volumes))
    await bench.phase("writer", "Succeeded")
    await bench.client.delete(PODS, "writer", "default")
    await bench.gone("writer")
    await bench.create(pod("reader", container("cat $V > $KAITO_TERMINATION_LOG", **shape), volumes=volumes))
    assert terminated(await bench.phase("reader", "Succeeded"))["message"] == "kept\n"
    claim = await bench.client.get(CLAIMS, "kept", "default")
    assert claim["status"]["phase"] == "Bound"
