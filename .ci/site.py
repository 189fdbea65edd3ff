"""Pages of the site that are made: the start from the README, and one for each command from its options."""

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
BESIDE = ("ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md")


def commands() -> Iterator[tuple[str, Any]]:
    """Every command with its whole name, groups before what is in them."""
    import typer

    from srcli.cli import app

    def walk(name: str, command: Any) -> Iterator[tuple[str, Any]]:
        yield name, command
        for word in getattr(command, "commands", ()):
            yield from walk(f"{name} {word}", command.commands[word])

    yield from walk("srcli", typer.main.get_command(app))


def made() -> dict[str, str]:
    """Markdown of every page that is made, by its path below docs/."""
    from srcli.cli.help import markdown

    readme = (ROOT / "README.md").read_text("utf-8").replace("](docs/", "](")
    pages = {"index.md": readme, **{name: (ROOT / name).read_text("utf-8") for name in BESIDE}}
    listed = ["# Commands", ""]
    for name, command in commands():
        page = f"commands/{name.replace(' ', '-')}.md"
        pages[page] = markdown(command, name)
        about = (command.help or "").strip().partition("\n")[0]
        listed.append(f"{'    ' * name.count(' ')}- [`{name}`]({page}): {about}")
    return {**pages, "commands.md": "\n".join(listed) + "\n"}


def on_files(files: Any, config: Any) -> Any:
    """Add the pages that are made (called by MkDocs)."""
    from mkdocs.structure.files import File

    os.environ.pop("COLUMNS", None)
    for path, text in made().items():
        files.append(File.generated(config, path, content=text))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Of links to files beside docs/ the names are left, unless they are pages too (called by MkDocs)."""
    return re.sub(r"\[([^]]*)\]\(\.\./((?!commands)[^)]*)\)", r"\1 (`\2`)", markdown)
