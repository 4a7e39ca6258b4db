"""Manifests are read from files, folders and lists, and what is wrong with them is said with the file's name."""

from pathlib import Path

import pytest

from kaito.cli.errors import UsageError
from kaito.cli.manifests import read_manifests

SECRET = "apiVersion: v1\nkind: Secret\nmetadata: {name: a}\n"


def names(*sources: Path) -> list[str]:
    return [manifest["metadata"]["name"] for _, manifest in read_manifests([str(source) for source in sources])]


def test_several_documents_and_lists_are_opened(tmp_path: Path) -> None:
    file = tmp_path / "all.yaml"
    file.write_text(SECRET + "---\n---\n" + SECRET.replace("name: a", "name: b"))
    listed = tmp_path / "list.yaml"
    listed.write_text('{"kind": "List", "apiVersion": "v1", "items": [{"kind": "Secret", "metadata": {"name": "c"}}]}')
    assert names(file, listed) == ["a", "b", "c"]


def test_a_folder_gives_its_manifests_in_order(tmp_path: Path) -> None:
    (tmp_path / "2.yml").write_text(SECRET.replace("name: a", "name: second"))
    (tmp_path / "1.json").write_text('{"kind": "Secret", "metadata": {"name": "first"}}')
    (tmp_path / "README.md").write_text("no manifest")
    assert names(tmp_path) == ["first", "second"]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        pytest.param("kind: [", "is not YAML", id="broken yaml"),
        pytest.param("- 1", "not a Kubernetes object", id="a list of numbers"),
        pytest.param("metadata: {name: a}", "not a Kubernetes object", id="no kind"),
        pytest.param("kind: Secret", "the Secret has no metadata.name", id="no metadata"),
        pytest.param("kind: Secret\nmetadata: {name: ''}", "the Secret has no metadata.name", id="empty name"),
    ],
)
def test_bad_manifests_are_named(tmp_path: Path, text: str, says: str) -> None:
    file = tmp_path / "bad.yaml"
    file.write_text(text)
    with pytest.raises(UsageError, match=says) as caught:
        names(file)
    assert str(file) in str(caught.value)


def test_a_missing_file_and_an_empty_folder_are_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"nothing\.yaml does not exist"):
        names(tmp_path / "nothing.yaml")
    with pytest.raises(UsageError, match=r"holds no \.yaml"):
        names(tmp_path)
