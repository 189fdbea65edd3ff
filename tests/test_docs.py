"""The site cannot go stale: pages of commands are made from options, links lead somewhere, the README stays short."""

import importlib.util
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def site():
    spec = importlib.util.spec_from_file_location("site_pages", ROOT / ".ci" / "site.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_option_of_every_command_is_on_its_page(site):
    pages = site.made()
    found = dict(site.commands())
    assert len(found) > 25
    for name, command in found.items():
        text = pages[f"commands/{name.replace(' ', '-')}.md"]
        assert f"(commands/{name.replace(' ', '-')}.md)" in pages["commands.md"]
        for param in command.params:
            long = [word for word in param.opts if word.startswith("--")][:1]
            for word in (*long, *param.secondary_opts):
                assert re.search(rf"`[^`]*{word}\b", text), (name, word)


def test_links_of_the_site_lead_to_pages(site):
    pages = {
        path.relative_to(ROOT / "docs").as_posix(): path.read_text("utf-8") for path in ROOT.glob("docs/*.md")
    }
    pages |= site.made()
    for path, text in pages.items():
        for link in re.findall(r"\]\(([^)\s]+)\)", site.on_page_markdown(text)):
            target = link.partition("#")[0]
            known = target in pages or (ROOT / "docs" / target).exists() or (ROOT / target).exists()
            assert known or link.startswith("http"), (path, link)


def test_links_beside_the_docs_lead_to_files():
    for path in [*ROOT.glob("docs/*.md"), *ROOT.glob("*.md")]:
        for link in re.findall(r"\]\(([^)\s#]+)", path.read_text("utf-8")):
            assert link.startswith("http") or (path.parent / link).exists(), (path.name, link)


def test_the_readme_is_a_visit_not_a_manual():
    text = (ROOT / "README.md").read_text("utf-8")
    assert text.count("\n") <= 120
    places = [
        text.index(word) for word in ("pip install .", "before-after.png", "damaged.png", "## Eight recipes")
    ]
    assert places == sorted(places)
    recipes = text[places[-1] :].split("```")[1]
    assert sum("srcli upscale" in line for line in recipes.splitlines()) == 8
