# SPDX-License-Identifier: Apache-2.0
"""The README and the pages of the site: their code runs, no public name is missing."""

import re
from pathlib import Path

import jax
import pytest

import jaxinit
import jaxinit.nnx
import jaxinit.plot

QUICK = True  # see conftest.py

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
# Their code is of frameworks that bring their own keys; law 8 runs it.
ELSEWHERE = {"from_haiku", "from_keras"}


def blocks(path: Path) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", path.read_text("utf-8"), re.S | re.M)


def is_run(path: Path) -> bool:
    return bool(blocks(path)) and path.stem not in ELSEWHERE


@pytest.mark.sweep
@pytest.mark.parametrize("path", [*filter(is_run, PAGES)], ids=lambda path: path.stem)
def test_the_code_of_a_page_runs_in_order(path, capsys):
    names: dict[str, object] = {"__name__": path.stem}
    with (
        jax.debug_key_reuse(False),
        jax.numpy_dtype_promotion("standard"),
        jax.numpy_rank_promotion("allow"),
    ):
        for k, block in enumerate(blocks(path)):
            exec(compile(block, f"{path.name}, block {k}", "exec"), names)


def test_a_wrong_block_is_found(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("```python\nx = 1\n```\n\n```python\nassert x == 2\n```\n")
    first, second = blocks(page)
    names: dict[str, object] = {}
    exec(first, names)
    with pytest.raises(AssertionError):
        exec(second, names)


MODULES = {
    "jaxinit": jaxinit.__all__,
    **{
        f"jaxinit.{module.__name__.partition('.')[2]}": module.__all__
        for module in (
            jaxinit.nnx,
            jaxinit.plot,
            jaxinit.rules,
            jaxinit.signal,
            jaxinit.theory,
        )
    },
}


@pytest.mark.parametrize("module", MODULES)
def test_every_public_name_is_on_a_page(module):
    shown = []
    for page in (ROOT / "docs" / "api").glob("*.md"):
        for line in page.read_text("utf-8").splitlines():
            if found := re.match(r"\.\. currentmodule:: (\S+)", line):
                here = found[1]
            if (found := re.match(r"\.\. auto\w+:: (\S+)", line)) and here == module:
                shown.append(found[1])
    modules = {"rules", "signal", "theory"} if module == "jaxinit" else set()
    assert sorted(shown) == sorted({*MODULES[module]} - modules)


def test_every_page_is_in_the_table_of_contents():
    listed = re.findall(r"^([\w/]+)$", (ROOT / "docs/index.md").read_text(), re.M)
    pages = {path.stem for path in PAGES if path.parent.name == "docs"} - {"index"}
    assert pages | {"api/index"} == set(listed)


def test_the_readme_is_one_page_and_links_as_the_package_does():
    text = (ROOT / "README.md").read_text("utf-8")
    assert len(text.split()) < 1000
    links = re.findall(r"\]\((\S+?)\)", text)
    assert links and all(link.startswith("https://") for link in links)
    urls = (ROOT / "pyproject.toml").read_text()
    hosts = {"/".join(link.split("/")[:3]) for link in links}
    assert hosts - {"https://raw.githubusercontent.com"} <= set(
        re.findall(r"https://[\w.]+", urls)
    )
