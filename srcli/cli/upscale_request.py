"""Everything that can be asked of `srcli upscale`."""

from __future__ import annotations

from dataclasses import dataclass

from srcli.cli import model_options, options, picture_options


@dataclass(frozen=True)
class Request:
    """The options, in the order of their help."""

    inputs: picture_options.Inputs = None
    input_: picture_options.MoreInputs = None
    scale: picture_options.Scale = None
    width: picture_options.Width = None
    height: picture_options.Height = None
    max_side: picture_options.MaxSide = None
    short_side: picture_options.ShortSide = None
    megapixels: picture_options.Megapixels = None
    print_: picture_options.Print = None
    fit: picture_options.Fit = None
    only_enlarge: picture_options.OnlyEnlarge = False
    only_shrink: picture_options.OnlyShrink = False
    model: model_options.Model = None
    degradation: model_options.Degradation = None
    restore: model_options.Restore = None
    license: model_options.License = "any"
    output: picture_options.Output = None
    name: picture_options.Name = None
    format: picture_options.Format = "auto"
    quality: picture_options.Quality = 95
    max_bytes: picture_options.MaxBytes = None
    lossless: picture_options.Lossless = False
    chroma: picture_options.Chroma = "444"
    compress_level: picture_options.CompressLevel = 6
    bit_depth: picture_options.BitDepth = "keep"
    dither: picture_options.Dither = False
    icc: picture_options.Icc = "keep"
    metadata: picture_options.Metadata = "keep"
    no_provenance: picture_options.NoProvenance = False
    background: picture_options.Background = "white"
    alpha: picture_options.Alpha = "auto"
    frames: picture_options.Frames = "error"
    from_file: picture_options.FromFile = None
    recursive: picture_options.Recursive = False
    include: picture_options.Include = None
    exclude: picture_options.Exclude = None
    include_outputs: picture_options.IncludeOutputs = False
    exists: picture_options.Exists = None
    overwrite: picture_options.Overwrite = False
    skip_existing: picture_options.SkipExisting = False
    resume: picture_options.Resume = False
    upgrade: picture_options.Upgrade = False
    fail_fast: picture_options.FailFast = False
    shard: picture_options.Shard = None
    manifest: picture_options.ManifestFile = None
    status: picture_options.BatchStatus = False
    workers: picture_options.Workers = 1
    engine: picture_options.BatchEngine = "local"
    device: picture_options.Devices = "auto"
    precision: options.Precision = "auto"
    tile: options.Tile = "auto"
    temperature: model_options.Temperature = None
    temperature_map: model_options.TemperatureMap = None
    seed: options.Seed = 0
    samples: model_options.Samples = 1
    diversity: model_options.Diversity = False
    consistency: model_options.Consistency = False
    tta: model_options.SelfEnsemble = False
    no_limit: model_options.NoLimit = False
    sampler: model_options.Sampler = None
    steps: model_options.Steps = None
    eta: model_options.Eta = None
    average: model_options.Average = 1
    official: model_options.Official = False
    branch: model_options.Branch = None
    fidelity: model_options.Fidelity = None
    colour_fix: model_options.ColourFix = None
    colour_strength: model_options.ColourStrength = 1.0
    selection_stats: model_options.SelectionStats = False
    selection_map: model_options.SelectionMap = None
    selection_overlay: model_options.SelectionOverlay = None
    selection_scores: model_options.SelectionScores = None
    offline: options.Offline = False
    max_input_pixels: picture_options.MaxInputPixels = "500M"
    max_output_pixels: picture_options.MaxOutputPixels = "4G"
    dry_run: picture_options.DryRun = False
    json: picture_options.Json = False
    jsonl: picture_options.Jsonl = False
    progress: picture_options.Progress = "auto"
    quiet: options.Quiet = False
    verbose: picture_options.Verbose = False
