from pathlib import Path

import pytest

from srcli.errors import UsageError
from srcli.inputs import Source
from srcli.outputs import EXAMPLE, Template, destination, shared_outputs

SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".webp", ".avif")
PHOTO = Source(Path("in/photo.png"))
DEEP = Source(Path("in/a/b/photo.png"), under=Path("a/b"), named=False)


def place(output, *, template=None, single=True, from_stdin=False):
    return destination(output, template=template, single=single, from_stdin=from_stdin, suffixes=SUFFIXES)


def test_by_default_a_result_lies_beside_its_input():
    assert place(None).path(PHOTO, EXAMPLE) == Path("in/photo_x4.3.png")
    assert place(None).path(DEEP, EXAMPLE) == Path("in/a/b/photo_x4.3.png")


def test_a_folder_mirrors_the_folders_of_the_input(tmp_path):
    assert place("big/").path(DEEP, EXAMPLE) == Path("big/a/b/photo_x4.3.png")
    assert place("big").path(PHOTO, EXAMPLE) == Path("big/photo_x4.3.png")
    (tmp_path / "shots.png").mkdir()
    assert place(str(tmp_path / "shots.png")).folder == tmp_path / "shots.png"


def test_a_path_with_a_suffix_that_can_be_written_is_a_file():
    assert place("out/big.JPG").path(PHOTO, EXAMPLE) == Path("out/big.JPG")


def test_a_dash_is_standard_output():
    assert place("-").stdout
    assert place("-").path(PHOTO, EXAMPLE) is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"output": "a.png", "single": False}, "several inputs"),
        ({"output": "-", "single": False}, "several inputs"),
        ({"output": "a.gif"}, r"unknown suffix '\.gif'.*\.png"),
        ({"output": "run.2024", "single": False}, "End the name of a folder with /"),
        ({"output": None, "from_stdin": True}, "-o FILE or -o -"),
        ({"output": ""}, "empty"),
        ({"output": "a.png", "template": "{stem}"}, "--name"),
    ],
)
def test_an_output_that_makes_no_sense_is_refused(options, message):
    with pytest.raises(UsageError, match=message):
        place(**options)


@pytest.mark.parametrize(
    ("template", "name"),
    [
        ("{stem}_{width}x{height}{ext}", "photo_2752x2064.png"),
        ("{index:04d}-{model}", "0001-preset.png"),
        ("{parent}/{stem}_{scale:.2f}{ext}", "shots/photo_4.30.png"),
        ("{stem}.webp", "photo.webp"),
        ("{{{stem}}}{ext}", "{photo}.png"),
    ],
)
def test_a_template_fills_in_its_fields(template, name):
    assert Template(template, SUFFIXES).fill(EXAMPLE) == name


@pytest.mark.parametrize(
    "template",
    [
        "{steam}",
        "{stem",
        "{0}",
        "{}",
        "{stem:d}",
        "{stem.__class__}",
        "{stem[0]}",
        "",
        "  ",
        "/tmp/{stem}",
        "../{stem}",
    ],
)
def test_a_template_that_names_no_file_is_refused(template):
    with pytest.raises(UsageError, match="--name"):
        Template(template, SUFFIXES)


def test_a_pattern_leaves_out_what_only_the_header_tells():
    pattern = Template("{stem}_{index:03d}_{width:05d}x{height}_{scale:g}{ext}").pattern(EXAMPLE)
    assert pattern == "photo_001_*x*_**"


def test_inputs_with_one_output_are_found_and_only_suspects_are_opened():
    sources = [Source(Path(name)) for name in ("a.png", "b.png", "a.jpg", "x/a.png")]
    opened = []

    def exact(index, source):
        opened.append(str(source.path))
        return Path("out") / f"{source.path.stem}.png"

    pattern = place("out/", single=False).pattern
    values = [{**EXAMPLE, "stem": source.path.stem} for source in sources]
    shared = shared_outputs(sources, lambda i, s: pattern(s, values[i]), exact)
    assert shared == [
        (Path("out/a.png"), sources[0], sources[2]),
        (Path("out/a.png"), sources[0], sources[3]),
    ]
    assert opened == ["a.png", "a.jpg", "x/a.png"]


def test_inputs_whose_headers_lead_to_different_outputs_do_not_clash():
    sources = [Source(Path("a.png")), Source(Path("a.jpg"))]
    shared = shared_outputs(sources, lambda i, s: "a_x4*", lambda i, s: Path(f"a_x4{s.path.suffix}"))
    assert shared == []
