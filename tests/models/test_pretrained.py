"""Fetching weights, against a local HTTP server: checksum, cache, offline, errors; nothing half-written stays."""

import hashlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

import sightline.models as models
from sightline.cli.main import main
from sightline.core.errors import ConfigError, ModelError
from sightline.models.pretrained import fetch_weights, resolve_weights

CONTENT = bytes(range(256)) * 9000  # two chunks and a bit
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.requests.append(self.path)
        body = self.server.files.get(self.path)
        if body is None:
            self.send_error(404)
            return
        start = 0
        if (wanted := self.headers.get("Range")) and self.path != "/forgetful.safetensors":
            start = int(wanted.removeprefix("bytes=").removesuffix("-"))
            self.server.ranges.append(start)
            if start >= len(body):
                self.send_error(416)
                return
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        self.send_header("Content-Length", str(len(body) - start))
        self.end_headers()
        # Half of it the first time, the rest when asked again.
        cut = self.path in self.server.cut
        self.server.cut.discard(self.path)
        self.wfile.write(body[: len(body) // 2] if cut else body[start:])

    def log_message(self, *_):
        pass


@pytest.fixture
def server(tmp_path, monkeypatch) -> Iterator[ThreadingHTTPServer]:
    monkeypatch.setenv("SIGHTLINE_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("SIGHTLINE_OFFLINE", raising=False)
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as httpd:
        httpd.requests, httpd.ranges, httpd.cut = [], [], {"/cut.safetensors", "/forgetful.safetensors"}
        httpd.files = dict.fromkeys(("/w.safetensors", "/cut.safetensors", "/forgetful.safetensors"), CONTENT)
        httpd.address = f"http://127.0.0.1:{httpd.server_port}"
        thread = threading.Thread(target=httpd.serve_forever)
        thread.start()
        yield httpd
        httpd.shutdown()
        thread.join()


def cached_files(tmp_path) -> list[str]:
    return sorted(p.name for p in (tmp_path / "cache").rglob("*") if p.is_file())


def test_fetched_once_then_served_from_the_cache(server, tmp_path, monkeypatch):
    seen = []
    address = f"{server.address}/w.safetensors"
    path = fetch_weights(address, SHA256, progress=lambda done, total, what: seen.append((done, total)))
    assert path.read_bytes() == CONTENT
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert seen[-1] == (len(CONTENT), len(CONTENT))
    monkeypatch.setenv("SIGHTLINE_OFFLINE", "1")
    assert resolve_weights(f"{address}#sha256={SHA256.upper()}") == path
    assert server.requests == ["/w.safetensors"]


def test_an_address_may_have_any_letters(server, tmp_path):
    server.files["/gr%C3%B6%C3%9Fe%20a.safetensors"] = CONTENT
    assert fetch_weights(f"{server.address}/größe a.safetensors", SHA256, folder=tmp_path).read_bytes() == CONTENT
    for wrong in ("http://[::1/w.safetensors", "http://127.0.0.1:port/w.safetensors"):
        with pytest.raises(ModelError, match="cannot fetch weights"):
            fetch_weights(wrong, SHA256[::-1], folder=tmp_path)


def test_a_damaged_cache_is_fetched_again(server):
    address = f"{server.address}/w.safetensors"
    path = fetch_weights(address, SHA256)
    path.write_bytes(CONTENT[:-1])
    assert fetch_weights(address, SHA256).read_bytes() == CONTENT
    assert len(server.requests) == 2


@pytest.mark.parametrize(
    ("path", "sha256", "message"),
    [
        ("/w.safetensors", "0" * 64, f"checksum must be 0{{64}}, got {SHA256}"),
        ("/absent.safetensors", SHA256, "HTTP 404"),
    ],
)
def test_what_goes_wrong_is_said_and_leaves_nothing(server, tmp_path, path, sha256, message):
    with pytest.raises(ModelError, match=message):
        fetch_weights(server.address + path, sha256)
    assert cached_files(tmp_path) == []


@pytest.mark.parametrize("path", ["/cut.safetensors", "/forgetful.safetensors"])
def test_a_cut_download_goes_on_where_it_was(server, tmp_path, path):
    with pytest.raises(ModelError, match=rf"ended after {len(CONTENT) // 2} of {len(CONTENT)} bytes"):
        fetch_weights(server.address + path, SHA256)
    assert cached_files(tmp_path) == ["data"]
    seen = []
    got = fetch_weights(server.address + path, SHA256, progress=lambda done, total, what: seen.append((done, total)))
    assert got.read_bytes() == CONTENT
    assert seen[-1] == (len(CONTENT), len(CONTENT))
    assert cached_files(tmp_path) == [f"{SHA256}.safetensors"]
    assert server.ranges == ([len(CONTENT) // 2] if path == "/cut.safetensors" else [])


@pytest.mark.parametrize("begun", [b"of another file" * 1000, CONTENT, CONTENT + b"too much"])
def test_what_was_begun_is_not_trusted(server, tmp_path, begun):
    part = tmp_path / "cache" / f"{SHA256}.part" / "data"
    part.parent.mkdir(parents=True)
    part.write_bytes(begun)
    address = f"{server.address}/w.safetensors"
    if begun.startswith(b"of"):
        with pytest.raises(ModelError, match="checksum must be"):
            fetch_weights(address, SHA256)
    assert fetch_weights(address, SHA256).read_bytes() == CONTENT
    assert cached_files(tmp_path) == [f"{SHA256}.safetensors"]


def test_an_interruption_keeps_what_came(server, tmp_path):
    def interrupt(done: int, total: int | None, what: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch_weights(f"{server.address}/w.safetensors", SHA256, progress=interrupt)
    assert cached_files(tmp_path) == ["data"]
    assert fetch_weights(f"{server.address}/w.safetensors", SHA256).read_bytes() == CONTENT


def test_offline_asks_nobody(server, monkeypatch):
    monkeypatch.setenv("SIGHTLINE_OFFLINE", "1")
    with pytest.raises(ModelError, match=r"must be in the cache .* Unset SIGHTLINE_OFFLINE, or place"):
        fetch_weights(f"{server.address}/w.safetensors", SHA256)
    assert server.requests == []


def test_an_unreachable_server_is_one_sentence(server, tmp_path):
    with pytest.raises(ModelError, match=r"cannot fetch weights \(.*refused"):
        fetch_weights("http://127.0.0.1:9/w.safetensors", SHA256)
    assert cached_files(tmp_path) == []


@pytest.mark.parametrize("fragment", ["", "#md5=abc", "#sha256=abc", f"#sha256={'g' * 64}"])
def test_an_address_needs_a_checksum(fragment):
    with pytest.raises(ConfigError, match="must end in #sha256="):
        resolve_weights(f"https://example.invalid/w.safetensors{fragment}")


def test_a_model_is_loaded_and_started_from_an_address(server, tmp_path):
    model = models.create("unet", class_names=["background", "crack"], imgsz=32, base_width=2)
    model.network.head.bias.data.fill_(7.0)
    models.save_weights(tmp_path / "w.safetensors", model)
    data = (tmp_path / "w.safetensors").read_bytes()
    server.files["/unet.safetensors"] = data
    reference = f"{server.address}/unet.safetensors#sha256={hashlib.sha256(data).hexdigest()}"
    assert models.load_model(reference).network.head.bias.item() == 7.0
    started = models.create("unet", class_names=["background", "crack"], imgsz=64, base_width=2, weights=reference)
    assert started.network.head.bias.item() == 7.0


def test_a_catalogue_gives_names_to_addresses(server, tmp_path, capsys):
    model = models.create("unet", class_names=["background", "crack"], imgsz=32, base_width=2)
    models.save_weights(tmp_path / "w.safetensors", model)
    server.files["/unet.safetensors"] = data = (tmp_path / "w.safetensors").read_bytes()
    fields = {"publisher": "us", "licence": "MIT", "trained_on": "cracks", "starts": "unet", "bytes": len(data)}
    fields |= {"sha256": hashlib.sha256(data).hexdigest(), "address": f"{server.address}/unet.safetensors"}
    other = fields | {"sha256": SHA256, "address": f"{server.address}/w.safetensors"}
    (tmp_path / "c.yaml").write_text(json.dumps({"ours": fields, "other": other}))
    for words in (["list"], ["get", "ours"]):
        with pytest.raises(SystemExit) as ended:
            main(["weights", *words, "--catalogue", str(tmp_path / "c.yaml")])
        assert not ended.value.code
    shown = capsys.readouterr().out
    assert all(word in shown for word in ("us", "MIT", "cracks", fields["sha256"], "Apache-2.0"))
    cached = next(line for line in shown.splitlines() if "use it with" in line).partition(":")[0]
    assert models.load_model(cached).name == "unet"
    with pytest.raises(SystemExit) as ended:
        main(["weights", "get", "other", "--catalogue", str(tmp_path / "c.yaml")])
    assert ended.value.code == 2
    assert "must be a whole safetensors file" in capsys.readouterr().err
    for words, sentence in ((["get"], "a name must be given"), (["list", "lite0"], "a list takes no name")):
        with pytest.raises(SystemExit):
            main(["weights", *words])
        assert sentence in capsys.readouterr().err
