"""References and credentials: what is read, and what is refused."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest

from kaito.oci.auth import Challenge, Credentials, DockerConfig, parse_challenge, write_docker_config
from kaito.oci.errors import BadCredentialsFile, BadReference
from kaito.oci.reference import Reference, is_loopback, parse_reference

DIGEST = "sha256:" + "a" * 64


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ubuntu", Reference("docker.io", "library/ubuntu")),
        ("ubuntu:24.04", Reference("docker.io", "library/ubuntu", "24.04")),
        ("me/thing:1", Reference("docker.io", "me/thing", "1")),
        ("docker.io/me/thing", Reference("docker.io", "me/thing")),
        ("index.docker.io/me/thing", Reference("docker.io", "me/thing")),
        ("reg.azurecr.io/a/b:0.0.1", Reference("reg.azurecr.io", "a/b", "0.0.1")),
        ("localhost/a", Reference("localhost", "a")),
        ("127.0.0.1:5010/a:x", Reference("127.0.0.1:5010", "a", "x")),
        ("[::1]:5000/a", Reference("[::1]:5000", "a")),
        (f"r.io/a@{DIGEST}", Reference("r.io", "a", "", DIGEST)),
        (f"r.io/a:1@{DIGEST}", Reference("r.io", "a", "1", DIGEST)),
    ],
)
def test_parse(text: str, expected: Reference) -> None:
    assert parse_reference(text) == expected
    assert parse_reference(str(expected)) == expected


@pytest.mark.parametrize(
    "text",
    ["", ":1", "r.io/", "r.io/A", "r.io/a:", "r.io/a:b c", "r.io/a@sha256:1", "r.io/a@", "r.io/../a", "r.io/a/../b",
     "http://r.io/a", "r.io/a//b", "r.io/" + "a" * 256, "-r.io:5/a", "r.io/a?x=1"],
)  # fmt: skip
def test_refused(text: str) -> None:
    with pytest.raises(BadReference):
        parse_reference(text)


def test_target_and_host() -> None:
    assert parse_reference("a").target == "latest"
    assert parse_reference("a").host == "registry-1.docker.io"
    assert parse_reference(f"r.io/a:1@{DIGEST}").target == DIGEST


@pytest.mark.parametrize(
    ("registry", "expected"),
    [("localhost:5000", True), ("127.9.9.9:1", True), ("[::1]:5", True), ("a.localhost", True), ("10.0.0.1", False),
     ("r.io:5000", False)],
)  # fmt: skip
def test_loopback(registry: str, expected: bool) -> None:
    assert is_loopback(registry) is expected


def config(path: Path, auths: object) -> DockerConfig:
    path.write_text(json.dumps({"auths": auths}))
    return DockerConfig(path)


def auth(text: str) -> dict[str, str]:
    return {"auth": base64.b64encode(text.encode()).decode()}


@pytest.mark.parametrize(
    ("auths", "registry", "repository", "user"),
    [
        ({"r.io": auth("u:p")}, "r.io", "", "u"),
        ({"https://r.io/": auth("u:p")}, "r.io", "", "u"),
        ({"https://r.io/v2/": auth("u:p")}, "r.io", "a", "u"),
        ({"https://index.docker.io/v1/": auth("u:p:q")}, "docker.io", "", "u"),
        ({"r.io": auth("u:p"), "r.io/team": auth("t:p")}, "r.io", "team/x", "t"),
        ({"r.io": auth("u:p"), "r.io/team": auth("t:p")}, "r.io", "other", "u"),
        ({"r.io": {"username": "u", "password": "p"}}, "r.io", "", "u"),
        ({"other.io": auth("u:p")}, "r.io", "", None),
        ({}, "r.io", "", None),
    ],
)
def test_credentials_are_found(auths: object, registry: str, repository: str, user: str | None, tmp_path: Path) -> None:
    found = config(tmp_path / "c.json", auths).find(registry, repository)
    assert (found.username if found else None) == user


def test_identity_tokens(tmp_path: Path) -> None:
    entry = {"auth": base64.b64encode(b"00000000-0000-0000-0000-000000000000:").decode(), "identitytoken": "t"}
    assert config(tmp_path / "c.json", {"r.io": entry}).find("r.io") == Credentials(
        "00000000-0000-0000-0000-000000000000", "", "t"
    )


@pytest.mark.parametrize(
    "content", ["", "[]", '{"auths": 3}', '{"auths": {"r.io": 3}}', '{"auths": {"r.io": {"auth": "/"}}}']
)
def test_broken_files_are_said(content: str, tmp_path: Path) -> None:
    (tmp_path / "c.json").write_text(content)
    with pytest.raises(BadCredentialsFile, match=r"c\.json"):
        DockerConfig(tmp_path / "c.json").find("r.io")


def test_no_file_is_no_credentials(tmp_path: Path) -> None:
    assert DockerConfig(tmp_path / "absent").find("r.io") is None


def test_written_files_are_private_and_read_again(tmp_path: Path) -> None:
    write_docker_config(tmp_path / "c.json", "r.io", "u", "p:w")
    assert (tmp_path / "c.json").stat().st_mode & 0o777 == 0o600
    assert DockerConfig(tmp_path / "c.json").find("r.io") == Credentials("u", "p:w")


def test_passwords_are_not_shown() -> None:
    assert "secret" not in repr(Credentials("u", "secret", "secret"))


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        (['Basic realm="x"'], Challenge("basic", {"realm": "x"})),
        (
            ['Bearer realm="https://a/token",service="s",scope="repository:a:pull,push"'],
            Challenge("bearer", {"realm": "https://a/token", "service": "s", "scope": "repository:a:pull,push"}),
        ),
        (['Basic realm="x"', 'BEARER realm="y"'], Challenge("bearer", {"realm": "y"})),
        (["Negotiate"], None),
        ([], None),
    ],
)
def test_challenges(headers: list[str], expected: Challenge | None) -> None:
    assert parse_challenge(headers) == expected
