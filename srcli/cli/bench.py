"""`srcli bench`: which benchmarks there are, where they are here, and whether they are whole."""

from __future__ import annotations

from json import dumps
from pathlib import Path
from typing import Annotated, Any, Literal

from srcli.cli import options
from srcli.cli.command import App, argument, option
from srcli.cli.console import downloading, say
from srcli.errors import CheckError, ModelError, UsageError

app = App("List, fetch and check benchmarks; make LR pictures.")

Name = Annotated[str, argument("A benchmark.", "NAME")]
Data = Annotated[Path | None, option("Where benchmarks are.", "DIR")]
Scales = Annotated[str, option("Scales.", "-s FACTOR[,..]")]


@app.command("list")
def list_benchmarks(data: Data = None, json: options.Json = False) -> None:
    """Name, protocol, size and licence of every benchmark, and where it is."""
    from srcli.data.benchmarks import data_roots, known_benchmarks, locate
    from srcli.evaluate.tables import columns_text

    roots = data_roots(data)
    rows: list[dict[str, Any]] = []
    for spec in known_benchmarks():
        folder = locate(spec, roots)
        names = ("images", "protocol", "license", "source", "paper")
        facts = {"name": spec.title, "aliases": list(spec.aliases), **{n: getattr(spec, n) for n in names}}
        rows.append(facts | {"path": None if folder is None else str(folder)})
    if json:
        print(dumps(rows, indent=2, ensure_ascii=False))
        return
    lines = [
        [r["name"], str(r["images"] or "-"), r["protocol"], r["path"] or "not here", r["license"]]
        for r in rows
    ]
    print(columns_text(["NAME", "IMAGES", "PROTOCOL", "WHERE", "LICENCE"], lines), end="")


@app.command()
def fetch(
    name: Name, data: Data = None, offline: options.Offline = False, progress: options.Progress = "auto"
) -> None:
    """Fetch a benchmark from where its authors put it, after naming its licence."""
    from srcli.data import benchmark_files as bench_files
    from srcli.data.benchmarks import data_roots, find_spec
    from srcli.weights import download

    spec = find_spec(name)
    folder = data_roots(data)[0] / spec.title
    if offline:
        raise ModelError(f"{spec.title} is not fetched: offline.", hint=f"It is at {spec.source}.")

    def get(url: str, archive: Path) -> None:
        with downloading(archive.name, progress) as report:
            download.fetch(url, archive, report=report)

    for path in bench_files.fetch(spec, folder, get, say):
        print(path)


@app.command()
def verify(name: Name, data: Data = None, scale: Scales = "2,3,4") -> None:
    """Read every picture, compare sizes, names, numbers and known hashes; exit code 7 if something is wrong."""
    from srcli.data import benchmark_files as bench_files
    from srcli.data.benchmarks import data_roots, find_spec, locate

    spec = find_spec(name)
    folder = locate(spec, data_roots(data))
    if folder is None:
        raise ModelError(f"{spec.title} is not here.", hint=f"It is at {spec.source} ({spec.license}).")
    verdict = bench_files.verify(spec, folder, options.parse_scales(scale))
    for finding in verdict.findings:
        print(f"{finding.name}: {finding.problem}")
    print(f"{spec.title}: {verdict.pictures} pictures in {folder}, {verdict.hashed} files with a known hash")
    if verdict.findings:
        raise CheckError(f"{spec.title} has {len(verdict.findings)} problems.")


@app.command("make-lr")
def make_lr_pictures(
    hr: str = argument("A folder of HR pictures, or DIV2K-Val-Real.", "HR_DIR|NAME"),
    output: Path | None = option("Writes DIR/X<scale>/*.png; of pairs DIR/gt and DIR/lq.", "-o DIR"),
    scale: Scales = "4",
    method: Literal[
        "pillow-bicubic", "matlab-bicubic", "realesrgan", "realesrgan-stablesr", "realesrgan-seesr"
    ] = option(
        "pillow-bicubic, matlab-bicubic, realesrgan, realesrgan-stablesr or realesrgan-seesr; a degradation is drawn "
        "for each from --seed.",
        "NAME",
        default="pillow-bicubic",
    ),
    data: Data = None,
    source: Path | None = option("Pairs: the HR pictures to cut them from.", "--from DIR"),
    degradation: str = option(
        "Pairs: realesrgan, realesrgan-stablesr or realesrgan-seesr.", "NAME", default="realesrgan-stablesr"
    ),
    count: int | None = option("Pairs: how many (default: as published).", min=1),
    seed: int = option("Of pairs, which ones; of degradations.", min=0, default=0),
    overwrite: options.Overwrite = False,
) -> None:
    """Write the LR pictures that an evaluation would make by itself, or degraded ones; or pairs for DIV2K-Val-Real.

    Pairs are crops of 512 pixels of the pictures of DIV2K's validation set, degraded to 128 pixels with the numbers
    in DIR/degradations.jsonl.
    """
    if not Path(hr).is_dir() and _is_cut(hr):
        if scale != "4":
            raise UsageError(f"the pairs of {hr} are x4, not x{scale}.")
        from srcli.data.benchmarks import data_roots, find_spec, open_benchmark, open_folder
        from srcli.data.samples import make_pairs, plan_pairs
        from srcli.degradations.presets import find_degradation

        spec, ranges = find_spec(hr), find_degradation(degradation)
        photographs = open_folder(source) if source else open_benchmark(spec.cut_from or "", data)
        paths = [item.hr for item in photographs.items(1) if isinstance(item.hr, Path)]
        plans = plan_pairs(paths, ranges, count=count or spec.images or len(paths), seed=seed)
        made = make_pairs(plans, output or data_roots(data)[0] / spec.title, seed=seed, overwrite=overwrite)
    elif output is None:
        raise UsageError("no folder to write to.", hint="Name one with --output DIR.")
    else:
        from srcli.data.benchmark_files import make_lr

        made = make_lr(Path(hr), output, options.parse_scales(scale), method, seed=seed, overwrite=overwrite)
    for path in made:
        print(path)


def _is_cut(name: str) -> bool:
    """Whether this is the name of a benchmark whose pairs are made here."""
    from srcli.data.benchmarks import find_spec

    try:
        return find_spec(name).cut_from is not None
    except UsageError:
        return False
