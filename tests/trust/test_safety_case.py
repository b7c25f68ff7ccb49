"""A safety case says of a certificate no more than is in it, and leads to the judgements that carry it."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from rrm.command.cli import app
from rrm.trust.shelf import keep
from rrm.view.lists import FILTERS
from rrm.view.reading import Reader, ReadError
from rrm.view.safety_case import LETTERS, as_markdown, case_of, file_in, nested, numbered, read_predicate, state_of
from rrm.view.web.static_copy import export
from tests.trust.test_certificates import certified, key, run  # noqa: F401
from tests.view.test_pages import open_app

AUDITED = dict.fromkeys(("cases", "budget", "seed", "shifted", "asked"))


def test_every_claim_has_the_state_of_its_weakest_part(certified: Path) -> None:  # noqa: F811
    top = case_of(file_in(certified, "toy"))
    strategy = top.below[-1]
    assert strategy.kind == "strategy" and top.state == state_of(strategy.below) != "supported"
    for one in top.walk():
        told = [part.state for part in one.below if part.state]
        if one.kind == "goal" and one is not top and told:
            assert one.state == ("against" if "against" in told else "open" if "open" in told else "supported")
        assert not one.show or one.show in FILTERS
    texts = [one.text for one in top.walk()]
    assert sum(text.startswith("Not shown: ") for text in texts) >= 5
    assert any("nothing was proven" in text for text in texts)
    assert [one.node for one in top.walk() if one.kind == "away goal"] == ["toy/sub"]
    names = [name for _, name, _ in numbered(top)]
    assert len(names) == len({*names}) and {re.sub(r"\d", "", name) for name in names} <= {*LETTERS.values()}
    assert len(nested(top)) == 1 and as_markdown(top, "RUN").count("\n- ") == 1


def test_what_was_found_speaks_for_itself(run: Path, key: Path) -> None:  # noqa: F811
    from rrm.trust.certifying import certify

    with Reader(run) as reader:
        keep(reader, "toy", "formal_verification", "monotone", "rrm prove RUN", {"holds": True, "of": [1, 2]})
        keep(reader, "toy", "guarantees", "bound", "rrm bound RUN", {"holds": False, "bound": 0.25})
        keep(reader, "toy", "audits", "shift", "rrm audit RUN", {"accuracy": 0.5})
        keep(reader, "toy", "audits", "adversarial", "rrm audit RUN", {"holds": None, "preferred": 0.5}, AUDITED, {})
        figure = {"value": 0.75, "low": 0.5, "high": 0.9, "n": 20, "cases": 10}
        other = {"predicted": figure, "holds": True, "times": 1}
        keep(reader, "toy", "audits", "shifted", "rrm audit RUN", other, AUDITED, {})
        keep(reader, "toy", "audits", "planted", "rrm audit RUN", {"not_known": "it has no assistants"}, AUDITED, {})
    certify(run, key=key)
    said = read_predicate(file_in(run, "toy"))
    assert said["scope"]["shift"] == figure
    assert "testing.audits.planted.found: not known, as it has no assistants." in said["not_shown"]
    texts = [one.text for one in case_of(file_in(run, "toy")).walk()]
    assert "shifted: predicted: 0.75 [0.50, 0.90], n 20 (rrm audit RUN)" in texts
    states = {one.text.split(":")[0]: one.state for one in case_of(file_in(run, "toy")).walk()}
    assert (states["monotone"], states["bound"], states["shift"]) == ("supported", "against", "")
    assert (states["shifted"], states["planted"], states["adversarial"]) == ("supported", "open", "open")


def test_the_page_leads_from_the_claim_to_the_judgement(certified: Path, tmp_path: Path) -> None:  # noqa: F811
    shutil.copytree(certified, tmp_path / "run")
    with open_app(tmp_path / "run") as client:
        assert 'href="/r/run/case/toy"' in client.get("/r/run/node/toy").text
        page = client.get("/r/run/case/toy").text
        links = re.findall(r'href="(/r/run/list/toy[^"]*)">the judgements', page)
        assert len(links) > 3 and 'href="/r/run/case/toy/sub"' in page
        (first, *_) = re.findall(r'href="(/r/run/c/\d+)"', client.get(links[0].replace("&amp;", "&")).text)
        assert client.get(first).status_code == 200
        export([tmp_path / "run"], tmp_path / "copy")
        assert "Safety case of sub" in next((tmp_path / "copy").glob("**/case/toy/sub/index.html")).read_text()
        file_in(tmp_path / "run", "toy").unlink()
        assert client.get("/r/run/case/toy").status_code == 404
        assert 'href="/r/run/case/toy"' not in client.get("/r/run/node/toy").text


def test_the_command(certified: Path, tmp_path: Path) -> None:  # noqa: F811
    done = CliRunner().invoke(app, ["case", str(certified), "sub", "--out", str(tmp_path / "case.md")])
    assert done.exit_code == 0 and (tmp_path / "case.md").read_text().startswith("# Safety case of toy/sub\n")
    alone = shutil.copy(file_in(certified, "toy"), tmp_path / "toy.json")
    done = CliRunner().invoke(app, ["case", str(alone)])
    assert done.exit_code == 0 and "(which is not there)" in done.output
    (tmp_path / "no.json").write_text("{}")
    assert CliRunner().invoke(app, ["case", str(tmp_path / "no.json")]).exit_code != 0
    with pytest.raises(ReadError, match="is no certificate"):
        case_of(tmp_path / "no.json")
