import io
import os
from pathlib import Path

import pytest

from srcli.batch.inputs import Source, find_inputs
from srcli.errors import NothingToDoError, UsageError


@pytest.fixture
def shots(tmp_path, monkeypatch):
    """A folder of photographs as people have them, and the working directory beside it."""
    monkeypatch.chdir(tmp_path)
    for name in (
        "shots/b.PNG",
        "shots/a.jpg",
        "shots/notes.txt",
        "shots/raw.CR2",
        "shots/phone.jxl",
        "shots/.DS_Store",
        "shots/._a.jpg",
        "shots/Thumbs.db",
        "shots/2024/ñ ü 漢.tif",
        "shots/2024/deep/c.webp",
        "shots/.hidden/d.png",
        "shots/@eaDir/a.jpg",
        "shots/__MACOSX/a.jpg",
        "empty/readme.md",
        "-dash.png",
        "photo[1].png",
        "photo1.png",
    ):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return tmp_path


def paths(words, **options):
    return [str(source.path) for source in find_inputs(words, **options).sources]


def test_a_folder_gives_its_pictures_in_order_without_junk(shots):
    assert paths(["shots"]) == ["shots/a.jpg", "shots/b.PNG"]


def test_pictures_that_cannot_be_read_are_counted(shots):
    assert find_inputs(["shots"]).passed_over == {".cr2": 1, ".jxl": 1}


@pytest.mark.parametrize("suffix", ["heic", "HIF", "mpo", "tga", "apng", "ico", "avif", "dib"])
def test_every_kind_that_is_read_is_looked_for(tmp_path, suffix):
    (tmp_path / f"a.{suffix}").touch()
    assert paths([str(tmp_path)]) == [str(tmp_path / f"a.{suffix}")]


def test_a_folder_of_what_cannot_be_read_says_so(tmp_path):
    for name in ("a.jxl", "b.jxl", "c.nef"):
        (tmp_path / name).touch()
    with pytest.raises(NothingToDoError, match=r"holds no image that can be read \(2 \.jxl, 1 \.nef\)"):
        find_inputs([str(tmp_path)])


def test_recursive_looks_deeper_and_remembers_the_folders(shots):
    found = find_inputs(["shots/"], recursive=True)
    assert [(s.path.name, s.under) for s in found.sources] == [
        ("a.jpg", Path()),
        ("b.PNG", Path()),
        ("ñ ü 漢.tif", Path("2024")),
        ("c.webp", Path("2024/deep")),
    ]
    assert found.many


def test_the_folder_of_results_is_not_looked_into(shots):
    assert paths(["shots"], recursive=True, leave_out=Path("shots/2024")) == ["shots/a.jpg", "shots/b.PNG"]


def test_a_file_that_is_named_is_taken_whatever_its_suffix(shots):
    found = find_inputs(["shots/notes.txt"])
    assert found.sources == [Source(Path("shots/notes.txt"))]
    assert not found.many


def test_patterns_are_expanded_and_filtered(shots):
    assert paths(["shots/*"]) == ["shots/a.jpg", "shots/b.PNG"]
    assert paths(["shots/**/*.*"]) == [
        "shots/2024/deep/c.webp",
        "shots/2024/ñ ü 漢.tif",
        "shots/a.jpg",
        "shots/b.PNG",
    ]


def test_a_name_with_brackets_is_that_file_before_it_is_a_pattern(shots):
    assert paths(["photo[1].png"]) == ["photo[1].png"]
    (shots / "photo[1].png").unlink()
    assert paths(["photo[1].png"]) == ["photo1.png"]


def test_include_and_exclude_filter_names_and_paths(shots):
    everything = {"recursive": True}
    assert paths(["shots"], include=["*.tif", "a.*"], **everything) == [
        "shots/a.jpg",
        "shots/2024/ñ ü 漢.tif",
    ]
    assert paths(["shots"], exclude=["2024/*"], **everything) == ["shots/a.jpg", "shots/b.PNG"]
    assert paths(["shots/a.jpg", "photo1.png"], exclude=["a*"]) == ["photo1.png"]


def test_a_file_named_twice_is_done_once(shots):
    assert paths(["shots/a.jpg", "shots", "./shots/a.jpg", str(shots / "shots/b.PNG")]) == [
        "shots/a.jpg",
        "shots/b.PNG",
    ]


@pytest.mark.parametrize("separator", ["\n", "\r\n", "\0"])
def test_a_list_names_files_one_per_line_or_separated_by_nul(shots, separator):
    names = ["shots/2024/ñ ü 漢.tif", "-dash.png", "photo[1].png"]
    (shots / "list.txt").write_bytes(separator.join([*names, ""]).encode())
    assert paths(["@list.txt"]) == names
    assert paths(["@-"], stdin=io.BytesIO(separator.join(names).encode())) == names
    assert find_inputs(["@list.txt"]).many


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-be", "utf-32"])
@pytest.mark.parametrize("separator", ["\n", "\r\n", "\r"])
def test_a_list_is_read_in_the_encoding_that_its_mark_tells(shots, encoding, separator):
    names = ["shots/2024/ñ ü 漢.tif", "photo1.png"]
    mark = b"\xfe\xff" if encoding == "utf-16-be" else b""  # Python writes the others
    for text in (separator.join([*names, ""]), separator.join(names)):
        (shots / "list.txt").write_bytes(mark + text.encode(encoding))
        assert paths(["@list.txt"]) == names


def test_names_that_nul_ends_may_hold_line_breaks(shots):
    (shots / "a\nb.png").touch()
    (shots / "list").write_bytes(b"a\nb.png\0photo1.png\0")
    assert paths(["@list"]) == ["a\nb.png", "photo1.png"]


@pytest.mark.parametrize(
    "data",
    [
        "sub/want.png\r\n".encode("utf-16-le"),  # without their mark
        "sub/want.png\n".encode("utf-16-be"),
        "./x/y.png".encode("utf-16-le"),
        b"photo1.png\nshots/a.jpg\n\0photo1.png\n",
        b"\xff\xfea",  # half a letter
        b"\xfe\xff\xd8\x00",  # half a pair
    ],
)
def test_a_list_in_no_known_encoding_is_refused(shots, data):
    (shots / "list.txt").write_bytes(data)
    with pytest.raises(UsageError, match=r"list list\.txt .* UTF-8"):
        find_inputs(["@list.txt"], recursive=True)


@pytest.mark.parametrize("entry", [".", "/", "d"])
def test_a_folder_of_one_character_in_a_list_is_asked_about(shots, entry):
    (shots / "d").mkdir()
    (shots / "d" / "in.png").touch()
    (shots / "list.txt").write_text(f"{entry}\nphoto1.png\n")
    found = find_inputs(["@list.txt"])
    assert [str(s.path) for s in found.sources] == ["photo1.png"]
    ((word, message),) = found.missing
    assert word == entry
    meant = message.split("Write ")[1].split(" if")[0]
    if entry != "/":
        (shots / "list.txt").write_text(meant)
        assert len(find_inputs(["@list.txt"]).sources) == len(list((shots / entry).glob("*.png")))


def test_a_file_whose_name_starts_with_an_at_sign_is_no_list(shots):
    (shots / "@list.txt").touch()
    assert paths(["@list.txt"]) == ["@list.txt"]


def test_file_names_need_not_be_text(shots):
    name = os.fsdecode(b"caf\xe9.png")
    (shots / name).touch()
    (shots / "list").write_bytes(b"caf\xe9.png\n")
    assert paths(["@list"]) == [name]


def test_standard_input_is_an_input(shots):
    (source,) = find_inputs(["-"]).sources
    assert source.path is None
    assert source.label == "standard input"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["gone.png"], r"^gone\.png does not exist"),
        (["empty"], r"folder empty holds no image.*--recursive"),
        (["gone/*.png"], r"no image matches gone/\*\.png"),
        (["@gone.txt"], r"list gone\.txt"),
        (["gone.png", "empty"], r"gone\.png does not exist.*empty holds no image"),
    ],
)
def test_nothing_found_says_what_was_looked_for(shots, words, message):
    with pytest.raises(NothingToDoError, match=message):
        find_inputs(words)


def test_an_empty_list_and_a_name_beyond_all_limits_are_said(shots):
    (shots / "list").write_text("\n \n")
    with pytest.raises(NothingToDoError, match="the list list is empty"):
        find_inputs(["@list"])
    for word, problem in (("x" * 5000, "File name too long"), ("nul\0", "does not exist")):
        with pytest.raises(NothingToDoError, match=problem):
            find_inputs([word])


def test_filters_that_leave_nothing_say_so(shots):
    with pytest.raises(NothingToDoError, match="--include"):
        find_inputs(["shots"], include=["*.gif"])


def test_a_missing_file_among_others_is_remembered(shots):
    found = find_inputs(["shots/a.jpg", "gone.png", "empty"])
    assert [str(s.path) for s in found.sources] == ["shots/a.jpg"]
    assert [word for word, _ in found.missing] == ["gone.png", "empty"]


@pytest.mark.parametrize("words", [[], ["-", "@-"]])
def test_no_input_or_one_that_contradicts_itself_is_wrong_usage(words):
    with pytest.raises(UsageError):
        find_inputs(words)
