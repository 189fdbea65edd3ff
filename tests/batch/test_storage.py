"""Pictures in object storage, here in fsspec's store in memory."""

import fsspec
import pytest

from srcli.batch import storage
from srcli.batch.inputs import find_inputs, stand_in
from srcli.batch.job import Settings
from srcli.batch.naming import destination
from srcli.batch.provenance import read_provenance
from srcli.batch.sizes import size_rule
from srcli.batch.worker import Worker
from srcli.config.presets import load_preset
from srcli.errors import ExistsError, ImageError, NothingToDoError, UsageError
from tests.cli.conftest import Bicubic, BicubicModel, picture, save

STORE = "memory://bucket"


@pytest.fixture
def store(tmp_path):
    """An empty store; `store(path, size)` puts a picture there."""
    system = fsspec.filesystem("memory")
    system.store.clear()
    system.pseudo_dirs[:] = [""]

    def put(place, height=4):
        system.pipe_file(f"/bucket/{place}", save(tmp_path / "picture.png", picture(height, 6)).read_bytes())

    put.system = system
    yield put
    system.store.clear()


def settings_of(**options):
    return Settings(size_rule(scale="2"), BicubicModel(load_preset("edsr-baseline-blend")), **options)


def place_of(output, single=False):
    return destination(output, template=None, single=single, from_stdin=False, suffixes=[".png", ".gif"])


def run(word, output, **options):
    found = find_inputs([word], recursive=True)
    place, engine = place_of(output, single=len(found.sources) == 1), Bicubic()
    records = [
        record
        for item in enumerate(found.sources, 1)
        for record in Worker(settings_of(**options), place, lambda: engine).process(item)
    ]
    return records, engine


def names(store):
    return sorted(name.removeprefix("/bucket/") for name in store.system.store)


def test_folders_patterns_and_files_are_found_and_junk_is_not(store):
    for place in ("in/a.png", "in/sub/b.png", "in/.hidden/c.png", "in/__MACOSX/d.png", "in/notes.txt"):
        store(place)
    deep = find_inputs([f"{STORE}/in"], recursive=True).sources
    assert [(s.label, s.key) for s in deep] == [
        (f"{STORE}/in/a.png", "a.png"),
        (f"{STORE}/in/sub/b.png", "sub/b.png"),
    ]
    assert [s.label for s in find_inputs([f"{STORE}/in/"]).sources] == [f"{STORE}/in/a.png"]
    assert [s.label for s in find_inputs([f"{STORE}/in/*.png"]).sources] == [f"{STORE}/in/a.png"]
    assert find_inputs([f"{STORE}/in/a.png"]).sources[0].named
    with pytest.raises(NothingToDoError, match="memory://bucket/none does not exist"):
        find_inputs([f"{STORE}/none"])


def test_results_mirror_folders_and_equal_those_of_local_files(store, tmp_path):
    for i, place in enumerate(("in/a.png", "in/sub/b.png")):
        store(place, 4 + i)
        save(tmp_path / place, picture(4 + i, 6))
    records, _ = run(f"{STORE}/in", f"{STORE}/out")
    assert [(r.status, r.input, r.output) for r in records] == [
        ("done", f"{STORE}/in/a.png", f"{STORE}/out/a_x2.png"),
        ("done", f"{STORE}/in/sub/b.png", f"{STORE}/out/sub/b_x2.png"),
    ]
    run(str(tmp_path / "in"), str(tmp_path / "out"))
    for name in ("a_x2.png", "sub/b_x2.png"):
        assert store.system.cat_file(f"/bucket/out/{name}") == (tmp_path / "out" / name).read_bytes()


@pytest.mark.parametrize(("word", "output"), [("store", "here"), ("here", "store"), ("store", "beside")])
def test_either_side_may_be_local(store, tmp_path, word, output):
    store("in/a.png")
    save(tmp_path / "in" / "a.png", picture(4, 6))
    places = {"store": f"{STORE}/out/", "here": str(tmp_path / "out"), "beside": None}
    ((record,), _) = run(f"{STORE}/in" if word == "store" else str(tmp_path / "in"), places[output])
    assert record.status == "done"
    expected = {"store": f"{STORE}/out/a_x2.png", "beside": f"{STORE}/in/a_x2.png"}
    assert record.output == expected.get(output, str(tmp_path / "out" / "a_x2.png"))


def test_a_second_run_does_only_what_changed_and_foreign_files_stay(store):
    store("in/a.png", 4)
    store("in/b.png", 5)
    run(f"{STORE}/in", f"{STORE}/out")
    store("in/b.png", 6)
    records, engine = run(f"{STORE}/in", f"{STORE}/out")
    assert [record.status for record in records] == ["skipped", "done"]
    assert [size.h for size, _ in engine.calls] == [6]
    store.system.pipe_file("/bucket/out/a_x2.png", b"somebody's")
    with pytest.raises(ExistsError, match=r"memory://bucket/out/a_x2.png exists and was not made by srcli"):
        run(f"{STORE}/in", f"{STORE}/out")
    assert store.system.cat_file("/bucket/out/a_x2.png") == b"somebody's"
    records, _ = run(f"{STORE}/in", f"{STORE}/out", exists="skip")
    assert {record.status for record in records} == {"skipped"}
    run(f"{STORE}/in", f"{STORE}/out", exists="overwrite")
    assert read_provenance(store.system.cat_file("/bucket/out/a_x2.png")) is not None


def test_a_broken_picture_is_called_what_it_is_called(store):
    store.system.pipe_file("/bucket/in/bad.png", b"\x89PNG\r\n\x1a\nnothing")
    with pytest.raises(ImageError, match=r"memory://bucket/in/bad.png is damaged"):
        run(f"{STORE}/in", f"{STORE}/out")
    assert names(store) == ["in/bad.png"]


def test_where_a_store_cannot_replace_at_once_a_temporary_name_is_renamed(store, tmp_path, monkeypatch):
    path = save(tmp_path / "a.png", picture(4, 6))
    seen = []
    put = store.system.put_file
    monkeypatch.setattr(
        type(store.system), "put_file", lambda _self, here, there: (seen.append(there), put(here, there))
    )
    storage.send(path, f"{STORE}/x/a.png", atomic=frozenset())
    assert ".srcli-" in seen[0]
    assert names(store) == ["x/a.png"]


def test_file_uris_are_ordinary_paths(tmp_path):
    path = save(tmp_path / "a.png", picture(4, 6))
    (source,) = find_inputs([f"file://{path}"]).sources
    assert (source.path, source.uri) == (path, None)
    place = place_of(f"file://{tmp_path}/out/")
    assert (str(place.folder), place.scheme) == (f"{tmp_path}/out", None)


@pytest.mark.parametrize("uri", ["s3://bucket/../../etc", "memory://../x", "memory://a/../b"])
def test_uris_that_leave_their_place_are_refused(uri):
    with pytest.raises(UsageError, match="no place in object storage"):
        stand_in(uri)
