"""All pictures of an animation, one after the other, as one result.

Every picture is drawn with the same seed: noise that is placed by the pixel of the output stands still.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from srcli.batch.render import Rendering
from srcli.engine.request import Report, part_of


class AnimatedRendering(Rendering):
    """The renderings of an animation's pictures; rows and samples of one follow those of the one before.

    Args:
        pictures: at least two; they share one record.
    """

    def __init__(self, pictures: Sequence[Rendering]) -> None:
        first = pictures[0]
        super().__init__(first.task, first.image, first.output, first.settings, first.engine, first.record)
        self.pictures = pictures

    def rows(self, report: Report | None = None) -> Iterator[np.ndarray]:
        """See `Rendering.rows`."""
        count = len(self.pictures)
        for index, picture in enumerate(self.pictures):
            yield from picture.rows(part_of(report, index / count, (index + 1) / count))
        self.record.notes[:] = dict.fromkeys(self.record.notes)

    def samples(self, rows: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """See `Rendering.samples`."""
        bands = iter(rows)
        for picture in self.pictures:
            yield from picture.samples(_first(bands, self.task.target.size.h))


def _first(bands: Iterator[np.ndarray], height: int) -> Iterator[np.ndarray]:
    """Bands of one picture; they never reach into the next."""
    left = height
    while left > 0:
        band = next(bands, None)
        if band is None:
            return
        left -= len(band)
        yield band
