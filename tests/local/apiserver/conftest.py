"""The real kube-apiserver beside the embedded one, where KUBEBUILDER_ASSETS names it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.real_cluster import RealCluster, assets


@pytest.fixture(scope="session")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealCluster]:
    programs = assets()
    if programs is None:
        pytest.skip("KUBEBUILDER_ASSETS names no folder with kube-apiserver and etcd")
    cluster = RealCluster(programs, tmp_path_factory.mktemp("real") / "home")
    cluster.start()
    yield cluster
    cluster.stop()
