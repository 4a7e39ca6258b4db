"""The certificate of the admission server: made by the operator, kept in a Secret, renewed before it ends.

One self-signed authority signs one server certificate, both in one Secret, so that all replicas of the operator and
their successors serve the same one. Who reads the Secret while it is fresh does not write it. A renewed one keeps the
authority before it in `ca.crt`, so that a replica that has not read it yet is still trusted.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from kaito.kube.client import Client
from kaito.kube.errors import Conflict
from kaito.kube.resources import SECRETS

LIFETIME = timedelta(days=365)
RENEW_BEFORE = timedelta(days=60)


@dataclass(frozen=True)
class Certificate:
    """PEM texts, the authority's maybe with the one before it; `ends` is when the server certificate does."""

    authority: bytes
    certificate: bytes
    key: bytes
    ends: datetime

    def is_fresh(self, names: Sequence[str], now: datetime) -> bool:
        """Whether it holds for all of `names` for a good while."""
        parsed = x509.load_pem_x509_certificate(self.certificate)
        extension = parsed.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        return set(names) <= set(extension.get_values_for_type(x509.DNSName)) and now < self.ends - RENEW_BEFORE


async def obtain_certificate(
    client: Client, namespace: str, secret: str, names: Sequence[str], now: datetime
) -> Certificate:
    """The Secret's certificate where it is fresh, else a new one that is put there. Raises a KubeError."""
    found = await client.find(SECRETS, secret, namespace)
    kept = _read(found.data) if found is not None else None
    if kept is not None and kept.is_fresh(names, now):
        return kept
    made = make_certificate(names, now)
    if kept is not None:
        made = replace(made, authority=made.authority + _newest(kept.authority))
    try:
        if found is None:
            body = {"metadata": {"name": secret}, "type": "Opaque", "data": _write(made)}
            await client.create(SECRETS, body, namespace)
        else:
            version = {"resourceVersion": found.metadata.resourceVersion}
            await client.patch(SECRETS, secret, {"metadata": version, "data": _write(made)}, namespace)
    except Conflict:  # another replica was first: its certificate is everybody's
        return await obtain_certificate(client, namespace, secret, names, now)
    return made


def make_certificate(names: Sequence[str], now: datetime) -> Certificate:
    """A new authority and a server certificate for the DNS `names`."""
    ends = now + LIFETIME
    authority_key = ec.generate_private_key(ec.SECP256R1())
    authority_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "kaito-admission-ca")])
    authority = (
        _builder(authority_name, authority_name, authority_key, now, ends)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(authority_key, hashes.SHA256())
    )
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0][:64])])
    certificate = (
        _builder(subject, authority_name, key, now, ends)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name) for name in names]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(authority_key, hashes.SHA256())
    )
    return Certificate(
        authority=authority.public_bytes(serialization.Encoding.PEM),
        certificate=certificate.public_bytes(serialization.Encoding.PEM),
        key=key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ),
        ends=ends,
    )


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, now: datetime, ends: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=5))  # clocks of others may be behind
        .not_valid_after(ends)
    )


def _write(certificate: Certificate) -> dict[str, str]:
    parts = {"ca.crt": certificate.authority, "tls.crt": certificate.certificate, "tls.key": certificate.key}
    return {name: base64.b64encode(content).decode() for name, content in parts.items()}


def _newest(bundle: bytes) -> bytes:
    return x509.load_pem_x509_certificates(bundle)[0].public_bytes(serialization.Encoding.PEM)


def _read(data: dict[str, str]) -> Certificate | None:
    """None for a Secret that holds no certificate of ours."""
    try:
        parts = {name: base64.b64decode(data[name]) for name in ("ca.crt", "tls.crt", "tls.key")}
        ends = x509.load_pem_x509_certificate(parts["tls.crt"]).not_valid_after_utc
        x509.load_pem_x509_certificates(parts["ca.crt"])
    except (KeyError, ValueError):
        return None
    return Certificate(parts["ca.crt"], parts["tls.crt"], parts["tls.key"], ends.astimezone(UTC))
