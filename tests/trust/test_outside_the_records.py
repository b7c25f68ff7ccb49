"""What lies outside the records of a run, or is not named by its certificate, decides nothing of whether it holds."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from rrm.command.cli import app
from rrm.trust.certifying import certify, file_of
from rrm.trust.demands import PolicyError, read_policy, unmet
from rrm.trust.deriving import Taken
from rrm.trust.origins import unsure_origins
from rrm.trust.statement import Chapter, Predicate
from rrm.view.safety_case import as_markdown, case_of
from rrm.view.unsaid import left_unsaid
from tests.trust.test_certificates import certified, checked, key, kinds, lie, rewritten, run

__all__ = ["certified", "key", "run"]
pytest.importorskip("securesystemslib", reason="needs the extra trust")


def test_true_scores_beside_the_run_are_taken_as_signed_wherever_the_report_is(run: Path, key: Path) -> None:
    report = run.parent / "report.json"
    score, start = {"mean": 0.9, "low": 0.8, "high": 1.0, "n": 12}, {"mean": 0.4, "low": 0.3, "high": 0.5, "n": 12}
    body = json.dumps({"run": {"score": score}, "start": {"score": start}})
    report.write_text(body)
    assert checked(run, key).code == 0, "measured after it was certified"
    (*_, done) = certify(run, key=key)
    amount = done.predicate.testing.challenges["amount"]
    assert [row["truth"] for row in amount if isinstance(row["truth"], float)] == [0.4, 0.9]
    for said in (body, body.replace("0.9", "0.2"), '{"run": 3, "start": {"score": 1}}', None):
        report.unlink() if said is None else report.write_text(said)
        found = checked(run, key)
        assert found.code == 0 and "testing.challenges.amount.*.truth" in {one.place for one in found.taken}

    def more(statement: dict[str, Any]) -> None:
        rows = statement["predicate"]["testing"]["challenges"]["amount"]
        rows.append({**rows[-1], "round": 99})

    rewritten(file_of(run / "certificates", "toy"), more, key)
    assert kinds(checked(run, key)) == {"changed"}, "only of the start and the last round was anything measured"


def test_the_truth_is_no_file_and_that_of_what_nobody_judged_decides_nothing(run: Path, key: Path) -> None:
    from rrm.store.truths import TrueOutcome, Truths

    for score in (0.5, 0.6):
        with closing(Truths(run)) as truths:
            truths.put([TrueOutcome("toy", "case", "outcome", score, {})])
            (*_, done) = certify(run, key=key)
            assert not [name for name in done.predicate.files if name.startswith("truth.db")]
            assert done.predicate.databases["truth.db"]["outcomes"][0] == 0
        assert checked(run, key).code == 0
    (run / "truth.db").unlink()
    assert checked(run, key).code == 0


def test_nobody_signs_less_of_a_run_by_writing_an_older_version(certified: Path, key: Path, tmp_path: Path) -> None:
    from rrm.trust.statement import PREDICATE

    def older(statement: dict[str, Any]) -> None:
        statement["predicateType"], statement["predicate"]["version"] = f"{PREDICATE}1", 1
        del statement["predicate"]["shelf"]
        for place in ("by_people", "imported_as_people"):
            del statement["predicate"]["design"][place]
        words = ("On what it was trained", "Which weights and which tokenizer")
        said = statement["predicate"]["not_shown"]
        statement["predicate"]["not_shown"] = [one for one in said if not one.startswith(words)]
        for subject in statement["subject"]:
            if "rrmFingerprint" in subject["digest"]:
                subject["digest"].pop("sha256", None)

    for noted, expected in ((True, {"changed"}), (False, set())):
        run = shutil.copytree(certified, tmp_path / str(noted))
        config = json.loads((run / "config.json").read_text())
        config["about"].pop("model", None)
        config["about"] |= {"model": {"weights": "0" * 64}} if noted else {}
        (run / "config.json").write_text(json.dumps(config))
        certify(run, "sub", key=key)
        rewritten(file_of(run / "certificates", "toy/sub"), older, key)
        found = checked(run, key, "toy/sub")
        assert kinds(found) == expected and all("of version 1" in fault.what for fault in found.faults)
    less = found.predicates["toy/sub"]
    told = [*left_unsaid(less.model_dump(mode="json"))]
    assert len(told) == 3 and not {*told} & {*less.not_shown}, "what it leaves out is told to whoever reads it"
    assert told[0] in unsure_origins_of(run) and "64 bits" in told[1] and "RUN/trust" in told[2]
    done = CliRunner().invoke(app, ["verify", str(file_of(run / "certificates", "toy/sub")), "--run", str(run),
                                    "--key", str(key.with_name("lab.pub"))])  # fmt: skip
    case = as_markdown(case_of(file_of(run / "certificates", "toy/sub")), "RUN")
    assert done.exit_code == 0 and all(" ".join(line.split()) in case for line in told)
    assert all(line in " ".join(done.output.split()) for line in told)
    certify(run, "sub", key=key)
    assert not [*left_unsaid(checked(run, key, "toy/sub").predicates["toy/sub"].model_dump(mode="json"))]


def unsure_origins_of(run: Path) -> list[str]:
    from rrm.view.reading import Reader

    with Reader(run) as reader:
        return unsure_origins(reader)


def test_only_files_that_a_certificate_names_are_copied_and_no_link_is_followed(run: Path, tmp_path: Path) -> None:
    from rrm.trust.snapshot import beside

    (tmp_path / "else").mkdir()
    (tmp_path / "else" / "secret").write_text("s")
    (run / "stuff").symlink_to(tmp_path / "else")
    (run / "nodes" / "one").symlink_to(tmp_path / "else" / "secret")
    (run / "nodes" / "unnamed").write_text("u")
    weights = "nodes/toy/0/agent.safetensors"
    outside = str(tmp_path / "else" / "secret")
    beside(run, tmp_path / "c" / "copy", [weights, "stuff/secret", "nodes/one", "nodes/../../else/secret", outside])
    left = [path.relative_to(tmp_path / "c").as_posix() for path in (tmp_path / "c").rglob("*") if path.is_file()]
    assert left == [f"copy/{weights}"]
    beside(run, tmp_path / "all")
    assert (tmp_path / "all" / "nodes" / "unnamed").exists() and (tmp_path / "all" / weights).exists()
    assert not (tmp_path / "all" / "stuff").exists() and not (tmp_path / "all" / "nodes" / "one").exists()


def test_derived_is_demanded_of_what_is_there_and_of_audits_without_their_times(certified: Path, key: Path) -> None:
    found = checked(certified, key)
    whole = found.predicates["toy"]
    audit = {"name": "power", "command": "rrm audit RUN", "found": {"value": 0.5, "times": 3}}
    predicate = whole.model_copy(update={"testing": whole.testing.model_copy(update={"audits": (audit,)})})
    times = Taken("toy", "testing.audits.*.found.times", "nobody recorded it")

    def said(place: str, taken: Sequence[Taken] = (times,), demand: str = "derived", of: Predicate = predicate) -> str:
        return " ".join(unmet({"root": {place: demand}}, {"toy": of}, "toy", taken))

    assert not said("testing.audits") and not said("testing.audits.*.found") and not said("testing.judged")
    assert "nobody recorded" in said("testing.audits.*.found.times")
    assert "no tree" in said("testing.audits", [times, Taken("toy", "testing.audits.power", "no tree")])
    assert "it is not known" in said("testing.agreement.assisted")
    assert "it is empty: no bound" in said("guarantees")
    assert "it is not known" in said("testing.challenges.tampering", demand="known")
    assert "there is nothing" in said("testing.audits", of=whole)


def test_a_policy_is_not_met_by_leaving_things_out(certified: Path, key: Path, tmp_path: Path) -> None:
    found = checked(certified, key)
    leaf, root = "toy/sub", "toy"

    def said(place: str, demand: str, node: str = leaf) -> str:
        return " ".join(unmet({node: {place: demand}}, found.predicates, root))

    assert not said("interpretability.empty", "known")
    for place in ("testing.audits", "design.assistants", "formal_verification.found", "children", "design.aspects"):
        assert "there is nothing" in said(place, "known"), place
    assert "nothing of it is known" in said("testing.agreement", "known") and not said("testing.challenges", "known")
    assert not said("design.assistants", "known", root) and not said("testing.tied", "known")
    for demand in ("<= 0.3", "known", "holds", "derived", "empty"):
        for place in ("design.assistants.*.misses.high", "testing.audits.*.found.holds", "formal_verification.found.*"):
            assert "has nothing" in said(place, demand) and not said(place, f"{demand}, if any")
    assert said("design.assistants.*.answers", "<= -1, if any", root), "there are some, and it is of each"
    for place in ("design.judges", "design.assistants", "not_shown"):
        assert "nothing in it holds" in said(place, "holds", root)
    entries = ({"name": "x", "command": "", "found": {"holds": value}} for value in ("yes", 1, None, False, {}))
    for one in entries:
        good = found.predicates[root].model_copy(update={"guarantees": Chapter(found=(one,))})
        assert unmet({"root": {"guarantees": "holds"}}, {root: good}, root), one
    assert "no list" in said("testing.judged", "empty")
    policy = tmp_path / "policy.toml"
    for text in (f"a = {'[' * 20_000}", '[root]\n"testing.judged" = ">= 1, if any"', '[root]\n"a.*" = "if any"'):
        policy.write_text(text)
        with pytest.raises(PolicyError):
            read_policy(policy)
    policy.write_text('[every]\n"design.assistants.*.misses.high" = "<= 0.3, if any"')
    assert read_policy(policy)


@pytest.mark.parametrize(
    "entry",
    [
        {"name": "x", "found": "good"},
        {"name": "x"},
        {"found": {}},
        {"name": "x", "found": {"statements": 3}},
        {"name": "x", "found": {"statements": ["good"]}},
    ],
)
def test_an_entry_that_is_none_is_refused_when_it_is_read(entry: dict[str, Any], run: Path, key: Path) -> None:
    path = file_of(run / "certificates", "toy/sub")
    good = path.read_bytes()
    for chapter, place in (("testing", "audits"), ("formal_verification", "found")):
        path.write_bytes(good)
        rewritten(path, lie(chapter, place, value=[entry]), key)
        assert kinds(checked(run, key, "toy/sub")) == {"format"}
