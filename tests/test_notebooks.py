# SPDX-License-Identifier: Apache-2.0
"""The notebooks as readers find them: one question, outputs kept, the claim asserted.

That they still run is shown by executing them (`pytest --nbmake notebooks`).
"""

import json
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


def cells(path, kind):
    read = json.loads(path.read_text(encoding="utf-8"))
    return [cell for cell in read["cells"] if cell["cell_type"] == kind]


def test_there_are_notebooks():
    assert len(NOTEBOOKS) > 5


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_title_is_a_question(path):
    title = "".join(cells(path, "markdown")[0]["source"]).splitlines()[0]
    assert title.startswith("# ") and "?" in title


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_ran_from_top_to_bottom_and_asserts_what_it_says(path):
    code = cells(path, "code")
    assert [cell["execution_count"] for cell in code] == [
        *range(1, len(code) + 1),
    ]
    kinds = [out["output_type"] for cell in code for out in cell["outputs"]]
    assert kinds and "error" not in kinds
    names = [out.get("name") for cell in code for out in cell["outputs"]]
    assert "stderr" not in names
    assert any("assert" in line for cell in code for line in cell["source"])


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_its_outputs_are_modest(path):
    assert path.stat().st_size < 400_000


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_gallery_leads_to_it(path):
    page = (ROOT / "docs" / "gallery.md").read_text("utf-8")
    assert page.count(f"_made/notebooks/{path.stem}\n") == 2  # a card, and the contents
