"""Reading, the network and writing at once: the same files and the same order as one after the other."""

import threading
import time

import numpy as np
import pytest

from srcli.batch.inputs import Source
from srcli.batch.job import Settings
from srcli.batch.naming import Destination, Template
from srcli.batch.overlap import Overlap
from srcli.batch.sizes import size_rule
from srcli.batch.worker import Fatal, Worker
from srcli.config.presets import load_preset
from srcli.errors import ModelError, ResourceError
from srcli.image.read import read_image
from srcli.image.write import write_image
from tests.cli.conftest import Bicubic, BicubicModel, listing, picture, save


def settings(**more):
    return Settings(size_rule(scale="2"), BicubicModel(load_preset("edsr-baseline-blend")), **more)


def place(folder):
    return Destination(Template("{stem}_{index}{ext}"), folder=folder)


def photos(folder, count):
    """Pictures of several kinds, a damaged one, and one that is not there."""
    alpha = np.random.default_rng(0).integers(1, 255, (9, 8, 4), dtype=np.uint8)
    write_image(folder / "alpha.png", alpha)
    write_image(folder / "deep.tif", np.random.default_rng(1).integers(0, 65535, (7, 9, 3), dtype=np.uint16))
    (folder / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    paths = [save(folder / f"{i}.{'jpg' if i % 3 else 'png'}", picture(5 + i, 6)) for i in range(count)]
    return [
        *paths[:2],
        folder / "bad.png",
        folder / "none.png",
        folder / "alpha.png",
        folder / "deep.tif",
        *paths[2:],
    ]


def worker(folder, engine, chosen=None, kind=Worker):
    return kind(chosen or settings(), place(folder), lambda: engine)


def done(items, folder, engine, chosen=None, kind=Worker, **options):
    with Overlap(worker(folder, engine, chosen, kind), **options) as work:
        return list(work.outcomes(items))


def plain(record):
    return {k: v for k, v in vars(record).items() if k not in ("seconds", "output", "memory")}


@pytest.mark.parametrize("more", [{}, {"samples": 2}])
def test_files_and_records_are_those_of_the_plain_loop(tmp_path, more):
    items = [(i, Source(path)) for i, path in enumerate(photos(tmp_path, 5), 1)]
    chosen, engine = settings(**more), Bicubic()
    expected = []
    for item in items:
        try:
            expected += [plain(r) for r in worker(tmp_path / "one", engine, chosen).process(item)]
        except Exception as error:
            expected.append(str(error))
    found = []
    for outcome in done(items, tmp_path / "two", engine, chosen):
        found += [str(outcome.error)] if outcome.error else [plain(r) for r in outcome.records]
    assert found == expected
    names = listing(tmp_path / "one")
    assert len(names) >= 7
    assert listing(tmp_path / "two") == names
    for name in names:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_reading_and_writing_go_on_while_the_network_works(tmp_path):
    """Each stage waits for another one to have begun: one after the other, this would never end."""
    items = [(i, Source(save(tmp_path / f"{i}.png", picture(5, 6)))) for i in range(1, 4)]
    read, written = [threading.Event() for _ in range(4)], threading.Event()

    class Watched(Worker):
        def read(self, item, *rest, **options):
            read[item[0]].set()
            return super().read(item, *rest, **options)

        def write(self, work, *rest):
            if work.item[0] == 1:
                assert read[2].wait(10)
            written.set()
            return super().write(work, *rest)

    class Waits(Bicubic):
        def rows(self, *args):
            if self.calls:
                assert written.wait(10)
            yield from super().rows(*args)

    found = done(items, tmp_path / "out", Waits(), kind=Watched)
    assert [outcome.error for outcome in found] == [None] * 3


def test_no_more_is_read_ahead_than_there_is_room_for(tmp_path):
    items = [(i, Source(save(tmp_path / f"{i}.png", picture(5, 6)))) for i in range(1, 9)]
    read, written = set(), set()

    class Watched(Worker):
        def read(self, item, data, *, take):
            def taken(nbytes):
                take(nbytes)
                read.add(item[0])
                assert len(read - written) <= 2

            return super().read(item, data, take=taken)

        def write(self, work, *rest):
            time.sleep(0.02)
            record = super().write(work, *rest)
            written.add(work.item[0])
            return record

    found = done(items, tmp_path / "out", Bicubic(), kind=Watched, room=2 * 5 * 6 * 3)
    assert [outcome.error for outcome in found] == [None] * 8


def test_what_does_not_fit_beside_another_picture_is_tried_again_alone(tmp_path):
    items = [(i, Source(save(tmp_path / f"{i}.png", picture(5, 6)))) for i in range(1, 4)]
    busy, refused = threading.Event(), []

    class Slow(Bicubic):
        def rows(self, *args):
            busy.set()
            time.sleep(0.05)
            yield from super().rows(*args)
            busy.clear()

    class Picky(Worker):
        def read(self, item, *rest, **options):
            if busy.is_set() or (item[0] == 2 and not refused and busy.wait(10)):
                refused.append(item[0])
                raise ResourceError("no memory")
            return super().read(item, *rest, **options)

    found = done(items, tmp_path / "out", Slow(), kind=Picky)
    assert [outcome.error for outcome in found] == [None] * 3
    assert refused


def test_a_disk_that_fills_up_stops_the_network_and_leaves_nothing(tmp_path, monkeypatch):
    items = [(i, Source(save(tmp_path / f"{i}.png", picture(50, 6)))) for i in range(1, 3)]

    def refuse(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("srcli.image.encode.encode_png", refuse)
    engine = Bicubic()
    found = done(items, tmp_path / "out", engine)
    assert all("disk is full" in str(outcome.error) for outcome in found)
    assert [outcome.item for outcome in found] == items
    assert not (tmp_path / "out").exists()


def test_what_fails_for_every_picture_is_said_once_by_the_first(tmp_path):
    items = [(1, Source(save(tmp_path / "1.png", picture(5, 6))))]

    def absent():
        raise Fatal(ModelError("gone"))

    with Overlap(Worker(settings(), place(tmp_path / "out"), absent)) as work:
        (found,) = work.outcomes(items)
    assert isinstance(found.error, Fatal)


def test_closing_it_early_ends_the_threads_and_leaves_no_partial_file(tmp_path):
    items = [(i, Source(save(tmp_path / f"{i}.png", picture(50, 6)))) for i in range(1, 9)]
    before = threading.active_count()
    engine = Bicubic()
    with Overlap(worker(tmp_path / "out", engine)) as work:
        next(work.outcomes(items))
    assert threading.active_count() == before
    for name in listing(tmp_path / "out"):
        assert read_image(tmp_path / "out" / name).size == (100, 12)


def test_a_failing_list_of_inputs_is_not_swallowed(tmp_path):
    def items():
        yield 1, Source(save(tmp_path / "1.png", picture(5, 6)))
        raise RuntimeError("the list ended")

    with pytest.raises(RuntimeError, match="the list ended"):
        done(items(), tmp_path / "out", Bicubic())


def test_on_an_interrupt_what_the_network_is_done_with_is_written_and_reported(tmp_path):
    items = [(i, Source(save(tmp_path / f"{i}.png", picture(5, 6)))) for i in range(1, 4)]
    busy, free = threading.Event(), threading.Event()

    class Stuck(Bicubic):
        def rows(self, *args, **options):
            if len(self.calls) == 2:
                busy.set()
                assert free.wait(10)
            yield from super().rows(*args, **options)

    engine = Stuck()
    with Overlap(worker(tmp_path / "out", engine)) as work:
        outcomes = work.outcomes(items)
        first = next(outcomes)
        assert busy.wait(10)
        last = list(work.last_outcomes())
        free.set()
    found = [outcome.item[0] for outcome in [first, *last]]
    assert found == [1, 2]
    assert listing(tmp_path / "out") == ["1_1.png", "2_2.png"]


@pytest.mark.parametrize("name", ["deep.png", "photo.jpg", "alpha.png", "deep.tif"])
def test_a_picture_that_does_not_fit_into_memory_becomes_the_same_file(tmp_path, name):
    rng = np.random.default_rng(0)
    samples = rng.integers(1, 255, (40, 30, 4 if "alpha" in name else 3), dtype=np.uint8)
    write_image(tmp_path / name, samples.astype(np.uint16) * 257 if "deep" in name else samples, icc="p3")
    items = [(1, Source(tmp_path / name))]
    done(items, tmp_path / "one", Bicubic())
    done(items, tmp_path / "two", Bicubic(), settings(in_memory=0))
    (output,) = listing(tmp_path / "one")
    assert (tmp_path / "one" / output).read_bytes() == (tmp_path / "two" / output).read_bytes()
    assert listing(tmp_path / "two") == [output]
