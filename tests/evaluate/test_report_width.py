"""Tables fit the terminal: lines around them are wrapped at words, and what is too wide goes vertical."""

from srcli.evaluate.tables import Table, table_text

TABLE = Table(
    ["one long line of words above it"], ["model", "psnr", "ssim"], [["a", "30.1", "-"], ["b", "31", "0.9"]]
)


def test_a_table_that_fits_is_left_as_it_is():
    assert table_text(TABLE, "table", 80) == table_text(TABLE, "table")


def test_a_wide_table_goes_vertical():
    text = table_text(TABLE, "table", 12)
    assert max(map(len, text.splitlines())) <= 12
    assert text.split() == (
        [
            "one",
            "long",
            "line",
            "of",
            "words",
            "above",
            "it",
            "a",
            "psnr",
            "30.1",
            "b",
            "psnr",
            "31",
            "ssim",
            "0.9",
        ]  # nothing is lost but empty cells
    )
    assert table_text(TABLE, "md", 12) == table_text(TABLE, "md")
