"""A real kube-apiserver and etcd, started from the folder that KUBEBUILDER_ASSETS names, by the conventions of envtest.

It answers `request` as the embedded `Cluster` does, so that a test may send the same thing to both. Its two processes
listen on loopback ports of their own, keep their files in a folder that the test gives, and end with `stop`.
"""

from __future__ import annotations

import datetime
import ipaddress
import os
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID
from tests.support.cluster import ApiEndpoint

from kaito.local.up import tether

TETHER = Path(tether.__file__)
LOOPBACK = ipaddress.IPv4Address("127.0.0.1")
START_SECONDS = 120.0
"""A busy machine starts a kube-apiserver in 10 to 40 s."""


def assets() -> Path | None:
    """The folder with `kube-apiserver` and `etcd`; None where none is named. A folder without them is an error."""
    named = os.environ.get("KUBEBUILDER_ASSETS", "")
    if not named:
        return None
    folder = Path(named)
    missing = [name for name in ("kube-apiserver", "etcd") if not os.access(folder / name, os.X_OK)]
    if missing:
        raise FileNotFoundError(f"KUBEBUILDER_ASSETS={named} has no program {' and no '.join(missing)}")
    return folder


class RealCluster(ApiEndpoint):
    """One control plane: etcd, and a kube-apiserver on it with an administrator's token."""

    def __init__(self, programs: Path, home: Path) -> None:
        self.home = home
        self.token = secrets.token_hex(16)
        self.ca = home / "certs" / "apiserver.crt"
        self.kubeconfig = home / "kubeconfig"
        self.port = free_port()
        self._programs = programs
        self._etcd_url = f"http://127.0.0.1:{free_port()}"
        self._processes: list[subprocess.Popen[bytes]] = []

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Returns when the API is ready. What the programs say is in `etcd.log` and `kube-apiserver.log`."""
        self.home.mkdir(parents=True)
        (self.home / "certs").mkdir()
        write_key(self.home / "service-accounts.key")
        write_certificate(self.ca, self.ca.with_suffix(".key"))
        (self.home / "tokens.csv").write_text(f'{self.token},kubernetes-admin,admin,"system:masters"\n')
        self._write_kubeconfig()
        self.launch()

    def launch(self) -> None:
        """Starts the programs on the files that are there: the first time, or again after `stop`."""
        self._run("etcd", *self._etcd_flags())
        self._run("kube-apiserver", *self._apiserver_flags())
        try:
            wait_until(self._is_ready, "kube-apiserver is not ready")
        except BaseException:
            self.stop()
            raise

    @property
    def pids(self) -> list[int]:
        """Of etcd and kube-apiserver."""
        return [process.pid for process in self._processes]

    def stop(self) -> None:
        for process in reversed(self._processes):  # the server first: without its etcd it does not end by itself
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._processes.clear()

    def create_crd(self, definition: dict[str, Any]) -> None:
        """Makes it unless it is there, and waits until its kind is served."""
        name = definition["metadata"]["name"]
        path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
        answer = self.request("POST", path, definition)
        assert answer.code in (201, 409), answer.body
        spec = definition["spec"]
        served = f"/apis/{spec['group']}/{spec['versions'][0]['name']}/{spec['names']['plural']}"
        wait_until(lambda: self.request("GET", served).code == 200, f"{name} is not served")

    def environment(self) -> dict[str, str]:
        """For programs that talk to this cluster."""
        return {**os.environ, "KUBECONFIG": str(self.kubeconfig), "HOME": str(self.home)}

    def _etcd_flags(self) -> list[str]:
        return [
            f"--data-dir={self.home / 'etcd'}",
            f"--listen-client-urls={self._etcd_url}",
            f"--advertise-client-urls={self._etcd_url}",
            f"--listen-peer-urls=http://127.0.0.1:{free_port()}",
            "--unsafe-no-fsync",
        ]

    def _apiserver_flags(self) -> list[str]:
        """As envtest has them. Without a controller manager nobody makes service accounts, so nothing may need them."""
        return [
            f"--etcd-servers={self._etcd_url}",
            f"--secure-port={self.port}",
            "--bind-address=127.0.0.1",
            "--advertise-address=127.0.0.1",
            f"--tls-cert-file={self.ca}",
            f"--tls-private-key-file={self.ca.with_suffix('.key')}",
            f"--cert-dir={self.home / 'certs'}",
            f"--token-auth-file={self.home / 'tokens.csv'}",
            "--authorization-mode=RBAC",
            "--service-cluster-ip-range=10.0.0.0/24",
            "--allow-privileged=true",
            "--disable-admission-plugins=ServiceAccount",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={self.home / 'service-accounts.key'}",
            f"--service-account-signing-key-file={self.home / 'service-accounts.key'}",
        ]

    def _run(self, program: str, *flags: str) -> None:
        with (self.home / f"{program}.log").open("wb") as output:
            # Both die with the tests, however those end.
            leash = [sys.executable, "-I", "-S", str(TETHER), str(os.getpid())]
            command = [*leash, str(self._programs / program), *flags]
            process = subprocess.Popen(command, stdout=output, stderr=output)
        self._processes.append(process)

    def _is_ready(self) -> bool:
        for process, program in zip(self._processes, ("etcd", "kube-apiserver"), strict=True):
            if process.poll() is not None:
                raise RuntimeError(f"{program} ended: {(self.home / f'{program}.log').read_text()[-2000:]}")
        try:
            return self.request("GET", "/readyz").code == 200
        except OSError:
            return False  # it does not listen yet

    def _write_kubeconfig(self) -> None:
        """For kubectl, which is run against this server too."""
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "real",
            "clusters": [{"name": "real", "cluster": {"server": self.url, "certificate-authority": str(self.ca)}}],
            "users": [{"name": "real", "user": {"token": self.token}}],
            "contexts": [{"name": "real", "context": {"cluster": "real", "user": "real"}}],
        }
        self.kubeconfig.write_text(yaml.safe_dump(config))
        self.kubeconfig.chmod(0o600)


def wait_until(holds: Callable[[], bool], told: str) -> None:
    until = time.monotonic() + START_SECONDS
    while not holds():
        if time.monotonic() > until:
            raise TimeoutError(f"{told} after {START_SECONDS:g} s")
        time.sleep(0.2)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def write_key(path: Path) -> rsa.RSAPrivateKey:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
        )
    )
    return key


def write_certificate(path: Path, key_path: Path) -> None:
    """A certificate of its own for 127.0.0.1, which is its clients' CA too."""
    key = write_key(key_path)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "kube-apiserver")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(
            x509.SubjectAlternativeName([x509.DNSName("localhost"), x509.IPAddress(LOOPBACK)]), critical=False
        )
        .sign(key, hashes.SHA256())
    )
    path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
