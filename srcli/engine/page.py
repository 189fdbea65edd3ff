"""A folder with a page that enlarges pictures in a browser: our files, a network as ONNX, and onnxruntime-web.

The runtime is not in the package: it is taken from the folder `dist` of the npm package of that name, by SHA-256.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from pathlib import Path

from srcli import __version__
from srcli.engine.export import export, part_paths
from srcli.engine.upscaler import Upscaler
from srcli.errors import ExistsError, ModelError
from srcli.files import sha256, write_error
from srcli.models.sr import LARGE_FROM, SMALL_UP_TO

OURS = Path(__file__).parents[1] / "_web"
VERSION = "1.30.0"  # of onnxruntime-web
RUNTIME = {
    "ort.wasm.min.mjs": "219e6a1fc8a9938268d18efca3c91d310bd2f4a59bbd13744df5b2b7fc6cee3b",
    "ort-wasm-simd-threaded.mjs": "e13f7f94fc51b4ca72b12faeb1ee95f4ace6dfbc8939bc718aabdc0a27c4299b",
    "ort-wasm-simd-threaded.wasm": "3398c10d07d229bd91b364548e130e0e51a8e5704b88c7c083ebbeb78842dee2",
}
WEBGPU = {  # fetched by browsers that have it, in the place of the others
    "ort.webgpu.min.mjs": "3dffff71811bc13a3a3d9591c57ca5ee5735b8f5f3eaf789510b02bb040ae3a0",
    "ort-wasm-simd-threaded.asyncify.mjs": "3d1c85995364bb643302fc6fd877a0c3ba5ae72401815e0f24828a53d9191e28",
    "ort-wasm-simd-threaded.asyncify.wasm": "39f9f0894d478800487ed9f7dbe92618498db320cf55c8e3d89adff8dce658da",
}
HOW = (
    f"Get it with npm: npm pack onnxruntime-web@{VERSION} && tar xzf onnxruntime-web-{VERSION}.tgz, "
    "then --assets package/dist"
)


def check_assets(folder: Path | None) -> list[Path]:
    """The runtime's files in a folder; those for WebGPU where they are there. ModelError (missing, or another version)."""
    if folder is None:
        raise ModelError("the page needs onnxruntime-web, which is not part of srcli.", hint=HOW)
    wanted = {**RUNTIME, **{name: known for name, known in WEBGPU.items() if (folder / name).exists()}}
    for name, known in wanted.items():
        if not (folder / name).is_file():
            raise ModelError(f"{folder} has no {name}.", hint=HOW)
        if sha256(folder / name) != known:
            raise ModelError(f"{folder / name} is not that of onnxruntime-web {VERSION}.", hint=HOW)
    return [folder / name for name in wanted]


def check_folder(folder: Path, *, overwrite: bool) -> None:
    """ExistsError (there is something, which is not to be replaced), ResourceError (it cannot be written)."""
    if folder.exists() and not folder.is_dir():
        raise ExistsError(f"{folder} is a file.", hint="Give another name.")
    if folder.exists() and any(folder.iterdir()) and not overwrite:
        raise ExistsError(f"{folder} is not empty.", hint="Give --overwrite or another name.")
    if not folder.parent.is_dir() or not os.access(folder if folder.exists() else folder.parent, os.W_OK):
        missing = not folder.parent.is_dir()
        raise write_error(folder, FileNotFoundError(2, "") if missing else PermissionError(13, ""))


def write_page(upscaler: Upscaler, folder: Path, assets: list[Path], *, overwrite: bool = False) -> None:
    """Write the folder, whole or not at all; what is there of a page is replaced. `assets`: of `check_assets`.

    Raises as `export` and `check_folder`.
    """
    check_folder(folder, overwrite=overwrite)
    with tempfile.TemporaryDirectory(dir=folder.absolute().parent, prefix=".srcli-page-") as temporary:
        made = Path(temporary)
        export(upscaler, made / "model.onnx", apart=True)
        about = _about(upscaler, webgpu=any(each.name in WEBGPU for each in assets))
        (made / "model.json").write_text(json.dumps(about, indent=1) + "\n", "utf-8")
        for each in [*assets, *OURS.iterdir()]:
            shutil.copyfile(each, made / each.name)
        folder.mkdir(exist_ok=True)
        for each in made.iterdir():
            each.replace(folder / each.name)


def _about(upscaler: Upscaler, *, webgpu: bool) -> dict[str, object]:
    preset, encoder = upscaler.preset, upscaler.network.encoder
    small = getattr(encoder, "small", None)
    bodies = [
        {
            "part": "encoder",
            "channels": encoder.out_dim,
            "above": SMALL_UP_TO if small else None,
            "below": None,
        }
    ]
    if small is not None:
        bodies.insert(
            0, {"part": "encoder-small", "channels": small.out_dim, "above": None, "below": LARGE_FROM}
        )
    parts = part_paths(Path("model.onnx"), [*(str(each["part"]) for each in bodies), "decoder"])
    return {
        "title": preset.title,
        "license": preset.weights.license,
        "srcli": __version__,
        "parts": {part: path.name for part, path in parts.items()},
        "bodies": bodies,
        "halo": -(-upscaler.halo // encoder.tile_multiple) * encoder.tile_multiple,
        "multiple": encoder.tile_multiple,
        "decoderHalo": upscaler.network.decoder.halo,
        "webgpu": webgpu,
    }
