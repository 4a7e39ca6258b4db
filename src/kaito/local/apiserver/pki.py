"""Who the server is and who may talk to it: an own CA, a server certificate, a random token, a kubeconfig.

Made once per data folder and kept, so that a kubeconfig stays good over restarts. kubectl sends a token only over TLS,
so there is no plain HTTP. Private files are 0600 from their first byte.
"""

from __future__ import annotations

import base64
import ipaddress
import os
import ssl
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

YEARS_10 = timedelta(days=3650)


@dataclass(frozen=True)
class Pki:
    ca: Path
    certificate: Path
    key: Path
    token: str
    signing_key: bytes
    """Signs the tokens of service accounts."""

    def tls_context(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.load_cert_chain(self.certificate, self.key)
        return context


def load_pki(folder: Path, *, addresses: list[str], token: str, signing_key: str, now: datetime) -> Pki:
    """The folder's identity, made from the given randomness when it has none yet."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    ca, certificate, key = folder / "ca.crt", folder / "server.crt", folder / "server.key"
    if not (ca.exists() and certificate.exists() and key.exists()):
        _issue(ca, certificate, key, addresses, now)
    return Pki(
        ca=ca,
        certificate=certificate,
        key=key,
        token=_kept(folder / "token", token),
        signing_key=bytes.fromhex(_kept(folder / "service-account.key", signing_key)),
    )


def write_kubeconfig(path: Path, url: str, pki: Pki) -> None:
    """Cluster, user and context are all called `kaito`; CA and token are inside, so the file works from anywhere."""
    authority = base64.b64encode(pki.ca.read_bytes()).decode()
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "kaito", "cluster": {"server": url, "certificate-authority-data": authority}}],
        "users": [{"name": "kaito", "user": {"token": pki.token}}],
        "contexts": [{"name": "kaito", "context": {"cluster": "kaito", "user": "kaito", "namespace": "default"}}],
        "current-context": "kaito",
    }
    write_private(path, yaml.safe_dump(config, sort_keys=False).encode())


def write_private(path: Path, content: bytes) -> None:
    """Replaces the file at once, readable by its owner alone."""
    draft = path.with_name(path.name + ".new")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        os.fchmod(descriptor, 0o600)
        file.write(content)
    draft.replace(path)


def _kept(path: Path, fresh: str) -> str:
    if not path.exists():
        write_private(path, fresh.encode())
    return path.read_text().strip()


def _issue(ca_path: Path, certificate_path: Path, key_path: Path, addresses: list[str], now: datetime) -> None:
    """A CA whose key is thrown away at once, and the one certificate that it signed."""
    ca_key = ec.generate_private_key(ec.SECP256R1())
    ca_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "kaito-ca")])
    ca = (
        _builder(ca_name, ca_name, now)
        .public_key(ca_key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(sign_certificates=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(ca_key.public_key()), critical=False)
        .sign(ca_key, hashes.SHA256())
    )
    key = ec.generate_private_key(ec.SECP256R1())
    names: list[x509.GeneralName] = [x509.DNSName("localhost"), x509.DNSName("kubernetes.default.svc")]
    names += [x509.IPAddress(ipaddress.ip_address(address)) for address in addresses]
    certificate = (
        _builder(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "kaito-apiserver")]), ca_name, now)
        .public_key(key.public_key())
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(sign_certificates=False), critical=True)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), critical=False)
        .sign(ca_key, hashes.SHA256())
    )
    ca_path.write_bytes(ca.public_bytes(serialization.Encoding.PEM))
    certificate_path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    pkcs8 = serialization.PrivateFormat.PKCS8
    write_private(key_path, key.private_bytes(serialization.Encoding.PEM, pkcs8, serialization.NoEncryption()))


def _builder(subject: x509.Name, issuer: x509.Name, now: datetime) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + YEARS_10)
    )


def _key_usage(*, sign_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        key_encipherment=not sign_certificates,
        key_cert_sign=sign_certificates,
        crl_sign=sign_certificates,
        content_commitment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
