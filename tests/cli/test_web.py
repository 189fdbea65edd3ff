"""`srcli web`: what it refuses, what it writes, and the page itself in a browser, if one is here with the runtime."""

import gzip
import json
import os
import shutil
import threading
import time
import urllib.request
from contextlib import contextmanager
from functools import partial
from http.server import ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from srcli.cli import web
from srcli.engine import page
from tests.helpers.command import srcli as run

PHOTO = Path(__file__).parents[2] / "docs/images/photo.png"
ASSETS = Path(os.environ.get("SRCLI_WEB_ASSETS", "no-assets"))  # what docs/examples/web-assets/fetch.sh makes
BROWSER = shutil.which("chromium") or shutil.which("google-chrome")


@pytest.fixture
def assets(tmp_path, monkeypatch):
    """A runtime of our own making, known by its hashes."""
    folder = tmp_path / "assets"
    folder.mkdir()
    for table in (page.RUNTIME, page.WEBGPU):
        for name in table:
            (folder / name).write_text(name)
            monkeypatch.setitem(table, name, page.sha256(folder / name))
    return folder


@pytest.fixture
def quick(monkeypatch):
    """No export: that has tests of its own."""
    encoder = SimpleNamespace(out_dim=48, tile_multiple=6, small=SimpleNamespace(out_dim=12))
    network = SimpleNamespace(encoder=encoder, decoder=SimpleNamespace(halo=3))
    preset = SimpleNamespace(name="tiny", title="Tiny", weights=SimpleNamespace(license="CC0-1.0"))
    monkeypatch.setattr(web, "exportable", lambda _: SimpleNamespace(network=network, preset=preset, halo=71))
    written = [f"model.{part}.onnx" for part in ("encoder-small", "encoder", "decoder")]
    monkeypatch.setattr(
        page, "export", lambda _, path, **__: [path.with_name(each).touch() for each in written]
    )


def test_wrong_doors(tmp_path, assets):
    out = tmp_path / "page"
    for words, says, code in (
        ((), "npm pack onnxruntime-web@", 4),
        (("--assets", tmp_path), "has no ort.wasm.min.mjs", 4),
        (("--assets", assets, "-m", "fplia-small"), "diffusion model", 2),
        (("--assets", assets, "-m", "rlfn-nativ"), "Did you mean", 2),
        (("--assets", assets, "-o", tmp_path / "no" / "page"), "does not exist", 5),
        (("--assets", assets, "-o", assets), "not empty", 6),
        (("--assets", assets, "-o", assets / "ort.wasm.min.mjs"), "is a file", 6),
    ):
        done = run("web", *(() if "-o" in words else ("-o", out)), *words, code=code)
        assert says in done.stderr
        assert done.stderr.count("\n") == 1
    (assets / "ort.wasm.min.mjs").write_text("another")
    assert "is not that of" in run("web", "-o", out, "--assets", assets, code=4).stderr
    assert not out.exists()
    assert not list(tmp_path.glob(".srcli*"))


@pytest.mark.usefixtures("quick")
def test_the_folder_is_written_and_shown_on_this_machine_alone(tmp_path, assets):
    out = tmp_path / "page"
    assert run("web", "-o", out, "--assets", assets).stdout == f"{out}\n"
    run("web", "-o", out, "--assets", assets, code=6)
    run("web", "-o", out, "--assets", assets, "--overwrite")
    model = json.loads((out / "model.json").read_text("utf-8"))
    assert (model["halo"], model["decoderHalo"], model["license"]) == (72, 3, "CC0-1.0")
    assert all((out / name).is_file() for name in model["parts"].values())
    with served(out) as address, urllib.request.urlopen(f"{address}worker.js") as answer:
        assert answer.headers["Cross-Origin-Embedder-Policy"] == "require-corp"
        assert answer.headers["Content-Type"] == "text/javascript"


@pytest.mark.usefixtures("quick")
def test_serve_takes_a_page_that_is_there(tmp_path, assets, monkeypatch):
    out, asked = tmp_path / "page", []
    with monkeypatch.context() as patched:
        patched.setattr(ThreadingHTTPServer, "serve_forever", lambda self: asked.append(self.server_address))
        run("web", "-o", out, "--assets", assets, "--serve", "--port", 0)
        assert "127.0.0.1" in run("web", "-o", out, "--serve", "--port", 0).stderr  # without assets
    assert {host for host, _ in asked} == {"127.0.0.1"}
    with served(out) as address:
        port = address.rstrip("/").rpartition(":")[2]
        assert (
            f"port {port} cannot be used" in run("web", "-o", out, "--serve", "--port", port, code=5).stderr
        )


@contextmanager
def served(folder, handler=web.Handler):
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(handler, directory=str(folder))) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}/"
        server.shutdown()
        thread.join()


class OneThread(web.Handler):
    """As any web server: without the headers that threads need."""

    def send_header(self, keyword, value):
        if not keyword.startswith("Cross"):
            super().send_header(keyword, value)


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason="no Chromium")
@pytest.mark.skipif(not ASSETS.is_dir(), reason="no onnxruntime-web in $SRCLI_WEB_ASSETS")
def test_the_page_gives_what_the_command_line_gives(tmp_path):
    playwright = pytest.importorskip("playwright.sync_api")
    out, small, large = tmp_path / "page", tmp_path / "small.png", tmp_path / "large.png"
    run("web", "-o", out, "--assets", ASSETS)
    fetched = [each for each in out.iterdir() if each.name not in page.WEBGPU]
    assert sum(len(gzip.compress(each.read_bytes())) for each in fetched) < 6e6
    photo = Image.open(PHOTO).convert("RGB")
    photo.crop((100, 60, 196, 124)).save(small)
    photo.resize((400, 390)).save(large)  # more than one tile
    with served(out, OneThread) as address, playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        tab, asked, failed = browser.new_page(), [], []
        tab.on("request", lambda request: asked.append(request.url))
        tab.on("pageerror", lambda error: failed.append(error))
        tab.goto(f"{address}#wasm")
        for picture, scale, size in ((small, "3.3", (317, 211)), (large, "1.5", (600, 585))):
            begun = time.monotonic()
            tab.set_input_files("#file", picture)
            tab.wait_for_selector("body[data-state=ready]", timeout=300_000)
            print(f"{picture.name} to x2: {time.monotonic() - begun:.1f} s, {tab.inner_text('#status')}")
            tab.fill("#scale", scale)
            tab.press("#scale", "Enter")
            tab.wait_for_selector("body[data-state=busy]")
            tab.wait_for_selector("body[data-state=ready]", timeout=300_000)
            assert "wasm, 1 thread" in tab.inner_text("#status")
            with tab.expect_download(timeout=300_000) as download:
                tab.click("#save")
            assert download.value.suggested_filename == f"{picture.stem}_{size[0]}x{size[1]}.png"
            download.value.save_as(tmp_path / "page.png")
            run(
                "upscale",
                picture,
                "-s",
                scale,
                "--precision",
                "fp32",
                "-o",
                tmp_path / "cli.png",
                "-q",
                "--overwrite",
            )
            ours, theirs = (
                np.asarray(Image.open(tmp_path / name).convert("RGB")).astype(int)
                for name in ("page.png", "cli.png")
            )
            assert ours.shape[1::-1] == size
            assert np.abs(ours - theirs).max() <= 1
        browser.close()
    assert not failed
    assert all(url.startswith((address, "blob:")) for url in asked)
    assert not [url for url in asked if "webgpu" in url or "asyncify" in url]
