from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kaito.api.core import Generic
from kaito.kube.client import Client
from kaito.kube.errors import ApiError
from kaito.local.workloads.job import Observed, Tally, plan_job
from kaito.local.workloads.job_indexes import INDEX, format_indexes, parse_indexes
from kaito.local.workloads.plan import Plan
from kaito.local.workloads.resources import JOBS
from tests.local.workloads.builders import NOW, TEMPLATE, creates, deleted, meta, pod, status_of
from tests.support.cluster import Cluster


def indexed_job(*, status: dict[str, Any] | None = None, **spec: Any) -> Generic:
    body = {"parallelism": 2, "completions": 4, "backoffLimit": 2, "completionMode": "Indexed", "template": TEMPLATE}
    return Generic(meta("job"), {**body, **spec}, status or {})


def indexed_pod(index: int, name: str = "", **facts: Any) -> Generic:
    return pod(name or f"job-{index}-x", annotations={INDEX: str(index)}, **facts)


def plan(job: Generic, *pods: Generic) -> Plan:
    return plan_job(Observed(job, pods, Tally(), NOW))


def made(planned: Plan) -> list[int]:
    return [int(create.body["metadata"]["annotations"][INDEX]) for create in creates(planned)]


@pytest.mark.parametrize(
    ("pods", "status", "expected"),
    [
        pytest.param([], {}, [0, 1], id="the first ones"),
        pytest.param([indexed_pod(1)], {}, [0], id="the one that is missing"),
        pytest.param([indexed_pod(0, phase="Succeeded"), indexed_pod(1)], {}, [2], id="the next"),
        pytest.param([], {"completedIndexes": "0-2"}, [3], id="what is done outlives its pods"),
        pytest.param(
            [indexed_pod(0, phase="Failed", exit_code=1, finished_at=-60)], {}, [0, 1], id="a failed one again"
        ),
    ],
)
def test_which_indexes_get_pods(pods: list[Generic], status: dict[str, Any], expected: list[int]) -> None:
    assert made(plan(indexed_job(status=status), *pods)) == expected


def test_a_pod_knows_its_index() -> None:
    body = creates(plan(indexed_job(completions=1)))[0].body
    assert body["metadata"]["generateName"] == "job-0-"
    assert body["metadata"]["labels"][INDEX] == body["metadata"]["annotations"][INDEX] == "0"
    assert body["spec"]["hostname"] == "job-0"
    assert body["spec"]["containers"][0]["env"] == [
        {
            "name": "JOB_COMPLETION_INDEX",
            "valueFrom": {"fieldRef": {"fieldPath": f"metadata.annotations['{INDEX}']"}},
        }
    ]
    assert "env" not in TEMPLATE["spec"]["containers"][0]


def test_an_index_that_succeeds_twice_counts_once() -> None:
    twice = [indexed_pod(0, "a", phase="Succeeded"), indexed_pod(0, "b", phase="Succeeded")]
    status = status_of(plan(indexed_job(completions=2, parallelism=1), *twice))
    assert (status["succeeded"], status["completedIndexes"]) == (1, "0")
    assert "conditions" not in status


def test_the_job_is_complete_when_every_index_is_done() -> None:
    pods = [indexed_pod(index, phase="Succeeded") for index in range(4)]
    status = status_of(plan(indexed_job(), *pods))
    assert status["completedIndexes"] == "0-3"
    assert status["succeeded"] == 4
    assert [c["type"] for c in status["conditions"]] == ["Complete"]


def test_of_two_pods_of_an_index_the_younger_goes() -> None:
    older, younger = indexed_pod(0, "older"), indexed_pod(0, "younger")
    assert deleted(plan(indexed_job(), younger, older)) == ["younger"]


@pytest.mark.parametrize(
    ("indexes", "text"),
    [({0, 1, 2, 5}, "0-2,5"), ({1, 2}, "1,2"), (set(), ""), ({7}, "7"), ({0, 2, 3, 4, 9}, "0,2-4,9")],
)
def test_how_indexes_are_written(indexes: set[int], text: str) -> None:
    assert format_indexes(indexes) == text


@given(st.frozensets(st.integers(0, 300)))
def test_what_is_written_is_read_back(indexes: frozenset[int]) -> None:
    assert parse_indexes(format_indexes(indexes)) == indexes


@pytest.mark.parametrize("text", ["x", "1-", "-3", "2-x", ","])
def test_what_nobody_writes_is_left_out(text: str) -> None:
    assert parse_indexes(text) <= {1}


def job_body(**spec: Any) -> dict[str, Any]:
    template = {"spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "succeed", "command": ["x"]}]}}
    return {"metadata": {"name": "job"}, "spec": {"completionMode": "Indexed", "template": template, **spec}}


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({}, "spec.completions: Required value: when completion mode is Indexed"),
        ({"completionMode": "Each"}, 'spec.completionMode: Unsupported value: "Each"'),
        ({"completions": 1, "backoffLimitPerIndex": 1}, "spec.backoffLimitPerIndex: Forbidden"),
        ({"completions": 1, "successPolicy": {"rules": []}}, "spec.successPolicy: Forbidden"),
    ],
)
async def test_what_the_api_refuses(cluster: Cluster, spec: dict[str, Any], words: str) -> None:
    body = job_body(**{"completions": None, "parallelism": 1, **spec})
    async with Client.connect(cluster.kubeconfig) as client:
        with pytest.raises(ApiError) as refused:
            await client.create(JOBS, body, "default")
    assert words in refused.value.message
