"""Logs, exec and attach, through the seam that the API server uses."""

from __future__ import annotations

import asyncio
import hashlib

import pytest

from kaito.local.backend import BackendError, ExecStream, LogOptions
from tests.local.agent.bench import Bench, container, pod, status_of


async def read_logs(bench: Bench, name: str, **options: object) -> str:
    assert bench.agent is not None
    stream = bench.agent.backend.logs("default", name, LogOptions(**options))  # type: ignore[arg-type]
    return b"".join([chunk async for chunk in stream]).decode()


async def read_all(stream: ExecStream) -> tuple[str, str, int]:
    async def drain(read: object) -> str:
        chunks = []
        while chunk := await read():  # type: ignore[operator]
            chunks.append(chunk)
        return b"".join(chunks).decode()

    out, err = await asyncio.gather(drain(stream.read_stdout), drain(stream.read_stderr))
    return out, err, await stream.wait()


async def execute(bench: Bench, name: str, script: str, **kind: bool) -> ExecStream:
    assert bench.agent is not None
    given = {"stdin": False, "tty": False, **kind}
    return await bench.agent.backend.exec("default", name, "", ["/bin/sh", "-c", script], **given)


async def test_logs(bench: Bench) -> None:
    await bench.create(pod("talk", container("for i in 1 2 3; do echo line $i; done; printf rest")))
    await bench.phase("talk", "Succeeded")
    whole = "line 1\nline 2\nline 3\nrest"
    assert await read_logs(bench, "talk") == whole
    assert await read_logs(bench, "talk", follow=True) == whole
    assert await read_logs(bench, "talk", since_seconds=3600) == whole
    assert await read_logs(bench, "talk", limit_bytes=9) == "line 1\nli"
    stamp, line, number = (await read_logs(bench, "talk", timestamps=True)).splitlines()[0].split()
    assert (stamp[-1], line, number) == ("Z", "line", "1")


async def test_errors_are_in_the_log_too(bench: Bench) -> None:
    await bench.create(pod("err", container("echo oops >&2")))
    await bench.phase("err", "Succeeded")
    assert await read_logs(bench, "err") == "oops\n"


async def test_the_tail_of_a_log(bench: Bench) -> None:
    await bench.create(pod("tail", container("seq 1 100")))
    await bench.phase("tail", "Succeeded")
    assert await read_logs(bench, "tail", tail_lines=2) == "99\n100\n"
    assert await read_logs(bench, "tail", tail_lines=0) == ""
    assert (await read_logs(bench, "tail", tail_lines=1000)).startswith("1\n2\n")


async def test_a_followed_log_comes_as_it_is_written_and_ends_with_the_container(bench: Bench) -> None:
    volumes = [{"name": "v", "emptyDir": {}}]
    shape = {"env": [{"name": "GO", "value": "/v/go"}], "volumeMounts": [{"name": "v", "mountPath": "/v"}]}
    script = "echo begun; until test -e $GO; do sleep 0.02; done; echo went"
    made = await bench.create(pod("follow", container(script, **shape), volumes=volumes))
    await bench.phase("follow", "Running")
    assert bench.agent is not None
    seen = []
    async for chunk in bench.agent.backend.logs("default", "follow", LogOptions(follow=True)):
        seen.append(chunk.decode())
        (bench.cluster.home / "pods" / made["metadata"]["uid"] / "volumes" / "v" / "go").touch()
    assert "".join(seen) == "begun\nwent\n"
    assert seen[0] == "begun\n"


async def test_a_log_that_is_rotated_while_it_is_followed(cluster: object) -> None:
    """Every line is seen once, though the shim puts its file aside many times."""
    from kaito.kube.client import Client
    from tests.support.cluster import Cluster

    assert isinstance(cluster, Cluster)
    async with Client.connect(cluster.kubeconfig) as client:
        bench = Bench(cluster, client)
        await bench.start_agent(log_bytes=20_000)
        try:
            await bench.create(
                pod("much", container("i=0; while test $i -lt 1200; do echo $i; i=$((i+1)); sleep 0.001; done"))
            )
            await bench.phase("much", "Running")
            lines = (await read_logs(bench, "much", follow=True)).split()
            assert lines == [str(number) for number in range(1200)]
        finally:
            await bench.stop()


async def test_the_log_of_the_run_before(bench: Bench) -> None:
    await bench.create(pod("twice", container("echo run $$; sleep 0.05; exit 1"), restartPolicy="Always"))
    await bench.pod_until("twice", lambda p: status_of(p).get("restartCount", 0) >= 1)
    assert (await read_logs(bench, "twice", previous=True)).startswith("run ")


async def test_no_such_container_and_no_such_pod(bench: Bench) -> None:
    await bench.create(pod("here", container("sleep 60")))
    await bench.phase("here", "Running")
    with pytest.raises(BackendError, match="container nope is not valid for pod here") as refused:
        await read_logs(bench, "here", container="nope")
    assert refused.value.code == 400
    with pytest.raises(BackendError, match="does not run on this machine") as unknown:
        await read_logs(bench, "gone")
    assert unknown.value.code == 404
    with pytest.raises(BackendError, match="previous terminated container"):
        await read_logs(bench, "here", previous=True)


async def test_exec_gives_streams_and_the_exit_code(bench: Bench) -> None:
    await bench.create(pod("host", container("sleep 60", env=[{"name": "COLOUR", "value": "blue"}])))
    await bench.phase("host", "Running")
    stream = await execute(bench, "host", "echo $COLOUR; echo bad >&2; exit 3")
    assert await read_all(stream) == ("blue\n", "bad\n", 3)


async def test_exec_reads_what_it_is_sent(bench: Bench) -> None:
    await bench.create(pod("host", container("sleep 60")))
    await bench.phase("host", "Running")
    stream = await execute(bench, "host", "md5sum", stdin=True)
    for _ in range(64):
        await stream.write_stdin(b"x" * 65536)
    await stream.close_stdin()
    out, _, code = await read_all(stream)
    assert (out.split()[0], code) == (hashlib.md5(b"x" * 65536 * 64).hexdigest(), 0)


async def test_exec_of_much_output_waits_for_its_reader(bench: Bench) -> None:
    await bench.create(pod("host", container("sleep 60")))
    await bench.phase("host", "Running")
    stream = await execute(bench, "host", "head -c 20000000 /dev/zero")
    await asyncio.sleep(0.3)
    out, _, code = await read_all(stream)
    assert (len(out), code) == (20_000_000, 0)


async def test_exec_on_a_terminal(bench: Bench) -> None:
    await bench.create(pod("host", container("sleep 60")))
    await bench.phase("host", "Running")
    stream = await execute(bench, "host", "read x; stty size; exit 4", stdin=True, tty=True)
    await stream.resize(132, 43)
    await stream.write_stdin(b"go\n")
    out, _, code = await read_all(stream)
    assert "43 132" in out
    assert code == 4


async def test_a_command_that_is_not_there(bench: Bench) -> None:
    await bench.create(pod("host", container("sleep 60")))
    await bench.phase("host", "Running")
    assert bench.agent is not None
    stream = await bench.agent.backend.exec("default", "host", "", ["/no/such"], stdin=False, tty=False)
    _, err, code = await read_all(stream)
    assert code == 128
    assert "/no/such" in err


async def test_attach_sees_output_and_sends_input(bench: Bench) -> None:
    await bench.create(pod("desk", container("while read line; do echo got $line; done", stdin=True)))
    await bench.phase("desk", "Running")
    assert bench.agent is not None
    stream = await bench.agent.backend.attach("default", "desk", "", stdin=True, tty=False)
    await stream.write_stdin(b"one\n")
    assert await stream.read_stdout() == b"got one\n"
    await stream.kill()
    assert (await bench.get("desk"))["status"]["phase"] == "Running"
