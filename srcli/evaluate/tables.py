"""Tables, and the four forms in which they are written: plain text, Markdown, LaTeX and HTML."""

from __future__ import annotations

import html
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

Lines = Sequence[Sequence[str]]


@dataclass(frozen=True)
class Table:
    """One table: lines above it, its cells, and lines below it."""

    above: list[str]
    header: list[str]
    lines: list[list[str]]
    below: list[str] = field(default_factory=list)


def table_text(table: Table, form: Literal["table", "md", "latex"], width: int | None = None) -> str:
    """The table with the lines around it; in LaTeX they are its caption.

    A plain one that is wider than `width` columns goes vertical, and the lines around it are wrapped at words.
    """
    if form == "latex":
        return latex_text(table.header, table.lines, ". ".join([*table.above, *table.below]))
    markdown = form == "md"
    end = "  \n" if markdown else "\n"
    around = [
        [part for line in lines for part in (_wrapped(line, width) if width and not markdown else [line])]
        for lines in (table.above, table.below)
    ]
    above, below = ("".join(f"{line}{end}" for line in part) for part in around)
    if markdown:
        return f"{above}\n{markdown_text(table.header, table.lines)}" + (f"\n{below}" if below else "")
    text = columns_text(table.header, table.lines)
    if width and max(map(len, text.splitlines())) > width:
        text = vertical_text(table.header, table.lines)
    return above + text + below


def vertical_text(header: Sequence[str], lines: Lines) -> str:
    """Each line of a table as a paragraph: its first cell, then a line for each other cell that is not empty."""
    widest = max(map(len, header[1:]), default=0)
    paragraphs = []
    for first, *cells in lines:
        named = zip(header[1:], cells, strict=True)
        paragraphs.append(
            [first, *(f"  {name:{widest}}  {cell}" for name, cell in named if cell not in ("", "-"))]
        )
    return "\n\n".join("\n".join(paragraph) for paragraph in paragraphs) + "\n"


def _wrapped(line: str, width: int) -> list[str]:
    return textwrap.wrap(line, width, break_long_words=False, break_on_hyphens=False) or [""]


def number(value: float | None, spec: str) -> str:
    """A cell: the value as `format` gives it, "-" for none."""
    return "-" if value is None else format(value, spec)


def columns_text(header: Sequence[str], lines: Lines) -> str:
    """A plain table, the first column aligned left, the others right."""
    cells = [header, *lines]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    padded = (
        [c.rjust(w) if i else c.ljust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True))]
        for row in cells
    )
    return "".join("  ".join(row).rstrip() + "\n" for row in padded)


def markdown_text(header: Sequence[str], lines: Lines) -> str:
    """A Markdown table, all columns but the first aligned right."""
    rule = ["---", *["---:"] * (len(header) - 1)]
    escaped = [[cell.replace("|", "\\|") for cell in row] for row in (header, rule, *lines)]
    return "".join("| " + " | ".join(row) + " |\n" for row in escaped)


_LATEX = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
_LATEX |= {c: f"\\{c}" for c in "&%$#_{}"}
_LATEX |= {"↑": r"$\uparrow$", "↓": r"$\downarrow$", "±": r"$\pm$"}


def latex_escaped(text: str) -> str:
    """Text with LaTeX's special characters escaped."""
    return "".join(_LATEX.get(c, c) for c in text)


def latex_text(header: Sequence[str], lines: Lines, caption: str) -> str:
    """A table in the style of booktabs; text in `**` is bold."""

    def cell(text: str) -> str:
        bold = text.startswith("**") and text.endswith("**") and len(text) > 4
        return rf"\textbf{{{latex_escaped(text[2:-2])}}}" if bold else latex_escaped(text)

    body = [" & ".join(map(cell, row)) + r" \\" for row in (header, *lines)]
    return "\n".join(
        [
            r"\begin{table}",
            r"  \centering",
            rf"  \caption{{{latex_escaped(caption)}}}",
            rf"  \begin{{tabular}}{{l{'r' * (len(header) - 1)}}}",
            r"    \toprule",
            f"    {body[0]}",
            r"    \midrule",
            *(f"    {line}" for line in body[1:]),
            "    \\bottomrule\n  \\end{tabular}\n\\end{table}\n",
        ]
    )


def html_table(table: Table) -> str:
    """The table with its first line above as caption and the others as paragraphs below it."""
    head = "".join(f'<th scope="col">{html.escape(cell)}</th>' for cell in table.header)
    rows = "\n".join(f"<tr>{''.join(map(_html_cell, line))}</tr>" for line in table.lines)
    caption, *notes = table.above
    after = "".join(f"<p>{html.escape(note)}</p>\n" for note in (*notes, *table.below))
    return (
        f"<table><caption>{html.escape(caption)}</caption>\n<thead><tr>{head}</tr></thead>\n"
        f"<tbody>\n{rows}\n</tbody></table>\n{after}"
    )


def _html_cell(text: str) -> str:
    kind = ' class="number"' if text[:1].isdigit() or text[:1] == "-" else ""
    return f"<td{kind}>{html.escape(text)}</td>"
