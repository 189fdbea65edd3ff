from pathlib import Path

import pytest

from srcli.batch.inputs import Source
from srcli.batch.naming import EXAMPLE, Template, destination, find_clashes
from srcli.errors import UsageError

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


def test_a_suffix_that_is_no_pictures_belongs_to_a_folder(tmp_path):
    for name in ("shoot_2024.12", "v1.0", "a.b.c", "photos.", "out.txt"):
        for single in (True, False):
            assert place(str(tmp_path / name), single=single).folder == tmp_path / name
    (tmp_path / "notes.txt").touch()
    with pytest.raises(UsageError, match=r"suffix '\.txt', which is not written"):
        place(str(tmp_path / "notes.txt"))


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
        ({"output": "a.gif"}, r"suffix '\.gif', which is not written.*\.png"),
        ({"output": "a.PSD", "single": False}, "End the name of a folder with /"),
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


class Batch:
    """Inputs and, for each, the output that its header would lead to; remembers which were opened."""

    def __init__(self, outputs, template="{stem}_{size}{ext}"):
        self.sources = [Source(Path(name)) for name in outputs]
        self.outputs = outputs
        self.place = place("out/", template=template, single=False)
        self.opened = []

    def pattern(self, index, source):
        return self.place.pattern(source, {**EXAMPLE, "stem": source.path.stem, "index": index})

    def exact(self, index, source):
        self.opened.append(str(source.path))
        return self.outputs[str(source.path)]

    def clashes(self):
        return find_clashes(self.sources, self.pattern, self.exact)


def test_inputs_with_one_output_are_found_and_only_suspects_are_opened():
    same = Path("out/a_x4.3.png")
    batch = Batch({"a.png": same, "b.png": Path("out/b_x4.3.png"), "a.jpg": same, "x/a.png": same})
    a, _, b, c = batch.sources
    assert batch.clashes().shared == [(same, [a, b, c])]
    assert batch.opened == ["a.png", "a.jpg", "x/a.png"]


def test_inputs_whose_headers_lead_to_different_outputs_do_not_clash():
    batch = Batch({"a.png": Path("out/a_x4.3.png"), "a.jpg": Path("out/a_x4.3.jpg"), "a.gif": None})
    assert batch.clashes().shared == []


def test_an_index_keeps_outputs_apart_without_opening_anything():
    batch = Batch({"a.png": None, "x/a.png": None}, template="{stem}_{index}{ext}")
    assert batch.clashes().shared == []
    assert batch.opened == []


def test_an_input_that_is_the_output_of_another_is_found():
    batch = Batch(
        {
            "a.png": Path("out/a_x4.3.png"),
            "out/a_x4.3.png": Path("out/a_x4.3_x4.3.png"),
            "out/a_x4.3.jpg": Path("out/a_x4.3_x4.3.jpg"),
            "b.png": Path("out/b_x4.3.png"),
        }
    )
    clashes = batch.clashes()
    assert clashes.shared == []
    assert clashes.inputs == [(batch.sources[1], batch.sources[0])]
    assert "b.png" not in batch.opened
