"""What a run is said to take, beside what the system counts."""

import pytest

from tests.benchmarks.batches import photo
from tests.benchmarks.memory import outcome

NEAR = 0.2


@pytest.mark.parametrize(
    ("model", "width", "height", "scale"),
    [
        ("rlfn-native", 450, 300, 4),
        pytest.param("rlfn-native", 900, 600, 4, marks=pytest.mark.slow),
        pytest.param("rlfn-native", 1500, 1000, 2, marks=pytest.mark.slow),  # in four tiles
        *(
            pytest.param(model, *size, marks=pytest.mark.slow)
            for model in ("real-fast", "real-best", "rlfn-linf-s", "rlfn-clit2-s")
            for size in ((450, 300, 4), (900, 600, 2))
        ),
        pytest.param("fplia-small", 450, 300, 4, marks=pytest.mark.slow),
    ],
)
def test_as_much_memory_is_taken_as_is_said(tmp_path, model, width, height, scale):
    photo(height, width).save(tmp_path / "photo.png")
    words = [str(tmp_path / "photo.png"), "-s", str(scale), "-m", model]
    said, _ = outcome([*words, "--dry-run"])
    made, peak = outcome(words)
    assert made["status"] == "done"
    assert said["memory"] == pytest.approx(peak, rel=NEAR)
