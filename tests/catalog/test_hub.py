"""Models that are not in the catalogue, read over HTTP from a small server or from a folder."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from kaito.catalog.architecture import ConfigIncomplete
from kaito.catalog.hub import (
    Hub,
    HubError,
    HubUnreachable,
    ModelGated,
    ModelNotFound,
    NotCached,
    read_folder,
)
from kaito.catalog.models import Figures, Model, find_model

CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 128,
    "vocab_size": 256,
    "max_position_embeddings": 512,
}
FILES = {
    "/some/model/resolve/main/config.json": json.dumps(CONFIG).encode(),
    "/some/model/resolve/main/model.safetensors.index.json": b'{"metadata": {"total_size": 123456}}',
    "/some/single/resolve/main/config.json": json.dumps(CONFIG).encode(),
    "/some/bare/resolve/main/config.json": json.dumps(CONFIG).encode(),
    "/some/single/resolve/main/model.safetensors": b"x" * 777,
    "/some/short/resolve/main/config.json": b'{"hidden_size": 8}',
    "/some/short/resolve/main/model.safetensors": b"x",
    "/some/broken/resolve/main/config.json": b"<html>",
    "/some/gated/resolve/main/config.json": json.dumps(CONFIG).encode(),
    "/some/gated/resolve/main/model.safetensors": b"x" * 9,
}


class Answers(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        if self.path.startswith("/some/gated/") and self.headers.get("Authorization") != "Bearer right":
            return self.send_error(401)
        body = FILES.get(self.path)
        if body is None:
            return self.send_error(404)
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        return None

    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""


@pytest.fixture
def endpoint() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join()
    server.server_close()


def model(name: str) -> Model:
    found = find_model(name)
    assert found is not None
    assert found.figures is None
    return found


def figures(found: Model) -> Figures:
    assert found.figures is not None
    return found.figures


def test_the_index_says_the_size_and_the_answer_is_kept(endpoint: str, tmp_path: Path) -> None:
    found = Hub(tmp_path, endpoint).read(model("some/model"))
    assert (figures(found).weights_bytes, figures(found).kv_heads, figures(found).context_length) == (123456, 2, 512)
    assert found.architecture == "LlamaForCausalLM"
    assert Hub(tmp_path, "http://127.0.0.1:9", is_offline=True).read(model("some/model")) == found


def test_one_file_without_an_index(endpoint: str, tmp_path: Path) -> None:
    assert figures(Hub(tmp_path, endpoint).read(model("some/single"))).weights_bytes == 777


def test_a_token_opens_a_gated_model(endpoint: str, tmp_path: Path) -> None:
    with pytest.raises(ModelGated, match="some/gated") as refused:
        Hub(tmp_path, endpoint).read(model("some/gated"))
    assert "HF_TOKEN" in refused.value.hint
    assert figures(Hub(tmp_path, endpoint, "right").read(model("some/gated"))).weights_bytes == 9


@pytest.mark.parametrize(
    ("name", "kind", "says"),
    [
        pytest.param("some/nothing", ModelNotFound, "has no config.json", id="unknown"),
        pytest.param("some/bare", ModelNotFound, "no safetensors weights", id="no weights that can be used"),
        pytest.param("some/broken", HubUnreachable, "is not JSON", id="not JSON"),
    ],
)
def test_what_is_wrong_is_said(endpoint: str, tmp_path: Path, name: str, kind: type[HubError], says: str) -> None:
    with pytest.raises(kind, match=says):
        Hub(tmp_path, endpoint).read(model(name))
    assert not list(tmp_path.rglob("*.json"))


def test_a_config_without_the_needed_keys_names_the_model(endpoint: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigIncomplete, match=r"some/short: .*num_hidden_layers"):
        Hub(tmp_path, endpoint).read(model("some/short"))


def test_offline_and_unreachable_say_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(NotCached) as offline:
        Hub(tmp_path, is_offline=True).read(model("some/model"))
    assert "--model-folder" in offline.value.hint
    with pytest.raises(HubUnreachable, match="does not answer"):
        Hub(tmp_path, "http://127.0.0.1:1", timeout=2).read(model("some/model"))


def test_a_folder(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound, match=r"no config\.json"):
        read_folder(model("some/model"), tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    with pytest.raises(ModelNotFound, match="neither"):
        read_folder(model("some/model"), tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"x" * 55)
    (tmp_path / "consolidated.safetensors").write_bytes(b"x" * 55)
    assert figures(read_folder(model("some/model"), tmp_path)).weights_bytes == 55
