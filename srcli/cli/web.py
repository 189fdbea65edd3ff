"""`srcli web`: a page that enlarges pictures in the browser."""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from srcli.cli import options
from srcli.cli.command import option, single
from srcli.cli.console import say
from srcli.cli.export import exportable
from srcli.config.presets import DEFAULT_PRESET
from srcli.errors import ResourceError


def web(
    output: Path = option("Folder of the page.", "-o FOLDER"),
    assets: Path | None = option(
        "Folder with onnxruntime-web, from its npm package; without it you are told how to get it.", "DIR"
    ),
    model: str = option("Model of the page.", "-m NAME|FILE", default=DEFAULT_PRESET),
    serve: bool = option(
        "Then show it to browsers on this machine, until Ctrl-C; a page that is there already is not made again."
    ),
    port: int = option("Port of --serve; 0: any that is free.", "N", min=0, max=65535, default=8000),
    overwrite: options.Overwrite = False,
) -> None:
    """Write a page that enlarges pictures in the browser: any factor, sizes exact, nothing leaves the machine.

    The folder can lie on any web server, without internet.

    srcli web -o page --assets package/dist --serve
    """
    is_there = (output / "model.json").is_file() and (output / "index.html").is_file()
    if not (serve and is_there and not overwrite):
        from srcli.engine.page import check_assets, check_folder, write_page

        found = check_assets(assets)
        check_folder(output, overwrite=overwrite)
        upscaler = exportable(model)
        say(f"exporting '{upscaler.preset.name}', which takes a minute or two")
        write_page(upscaler, output, found, overwrite=overwrite)
        print(output)
    if serve:
        _serve(output, port)


class Handler(SimpleHTTPRequestHandler):
    """Files, with what lets the page run in threads, and without a line for each."""

    extensions_map = {  # noqa: RUF012 - as the class above has it
        **SimpleHTTPRequestHandler.extensions_map, ".mjs": "text/javascript", ".js": "text/javascript", ".wasm": "application/wasm",
    }  # fmt: skip

    def end_headers(self) -> None:
        self.send_header("Cross-Origin-Opener-Policy", "same-origin")
        self.send_header("Cross-Origin-Embedder-Policy", "require-corp")
        self.send_header("Cache-Control", "no-cache")
        super().end_headers()

    def log_message(self, *_: Any) -> None:
        """Nothing."""


def _serve(folder: Path, port: int) -> None:
    try:
        server = ThreadingHTTPServer(("127.0.0.1", port), partial(Handler, directory=str(folder)))
    except OSError as error:
        raise ResourceError(
            f"port {port} cannot be used: {error.strerror}.", hint="Give another --port, or 0."
        ) from error
    with server:
        say(f"http://127.0.0.1:{server.server_address[1]}/ (Ctrl-C ends it)")
        with suppress(KeyboardInterrupt):
            server.serve_forever()


app = single(web)
