"""The commands `rrm certify` and `rrm verify` in use: what comes and goes beside a run, and what they say of what is
wrong with what they are given."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from rrm import BoundedUser, train
from rrm.command.cli import app
from rrm.core.errors import RunError
from rrm.trust import certifying
from rrm.trust.certifying import certify, file_of, outdated
from rrm.trust.signing import KeyProblem, read_public
from tests import toy
from tests.test_resume import tiny
from tests.trust.test_certificates import certified, checked, key, run

__all__ = ["certified", "key", "run"]
pytest.importorskip("securesystemslib", reason="needs the extra trust")


def test_what_comes_and_goes_or_is_for_finding_a_run_changes_no_certificate(run: Path, key: Path) -> None:
    """Tags and the lock of whoever trains."""
    from rrm.store.tags import FILE

    for there in (True, False):
        for name in (FILE, "lock.json"):
            if there:
                (run / name).write_text("here")
            else:
                (run / name).unlink()
        found = checked(run, key)
        assert found.code == 0 and not any("does not speak of" in note for note in found.notes)
        (*_, done) = certify(run, key=key)
        assert not {FILE, "lock.json", "lock"} & {*done.predicate.files}


def test_a_node_certified_alone_says_which_certificates_above_hold_no_more(run: Path, key: Path) -> None:
    def said(*more: str) -> str:
        done = CliRunner().invoke(app, ["certify", str(run), *more, "--key", str(key)])
        assert done.exit_code == 0
        return " ".join(done.output.split())

    assert "hold no more" in said("toy/sub") and "hold no more" not in said()
    assert checked(run, key).code == 0
    assert outdated(run / "certificates", "toy/sub/deep") == ["toy/sub", "toy"]


def test_what_is_refused_or_stopped_leaves_the_certificates_that_were_there(
    run: Path, key: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(certifying, "now", lambda: "2031-01-01T00:00:00Z")
    unreadable = run / "trust" / "toy" / "audits" / "bad.json"
    unreadable.parent.mkdir(parents=True)
    unreadable.write_text("{")
    before = {path: path.read_bytes() for path in (run / "certificates").iterdir()}
    with pytest.raises(RunError, match=r"bad\.json cannot be read"):
        certify(run, key=key)
    unreadable.unlink()
    assert checked(run, key).code == 0, "those below were not written without the ones above"
    named = Path.replace
    for at in (0, 1):
        said = iter(range(5))

        def stopped(path: Path, target: Path, at: int = at, said: Iterator[int] = said) -> Path:
            if next(said) == at:
                raise KeyboardInterrupt
            return named(path, target)

        with monkeypatch.context() as patch:
            patch.setattr(Path, "replace", stopped)
            with pytest.raises(KeyboardInterrupt):
                certify(run, key=key)
        assert checked(run, key).code == 0 and not [*(run / "certificates").glob(".*")]
    assert {*(run / "certificates").iterdir()} == {*before}


def answer(*command: Any) -> tuple[int, str]:
    done = CliRunner().invoke(app, [*map(str, command)])
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done.exit_code, " ".join(done.output.split())


def test_a_key_that_is_none_is_a_wrong_argument_and_it_is_said_why(certified: Path, key: Path, tmp_path: Path) -> None:
    public, bad = key.with_name("lab.pub"), tmp_path / "bad.pub"
    good = json.loads(public.read_text())
    where = ("verify", file_of(certified / "certificates", "toy/sub"), "--run", certified, "--key")
    assert answer(*where, public)[0] == 0
    bodies = [json.dumps(one) for one in ({**good, "pem": 5}, {**good, "pem": None}, {**good, "name": ["x"]}, [1], None,
                                          {**good, "expires": 5}, {**good, "keyid": "0"})]  # fmt: skip
    for body in (*bodies, "[" * 100_000, "", "x"):
        bad.write_text(body)
        with pytest.raises(KeyProblem, match=r"bad\.pub"):
            read_public(bad)
    code, said = answer(*where, public, "--key", bad)
    assert code == 2 and "bad.pub" in said, (code, said)
    for given, why in ((key, "gives lab.pub"), (tmp_path / "no.pub", "no such file"), (tmp_path, "no file")):
        code, said = answer(*where, given)
        assert code == 2 and why in said, said
    code, said = answer("certify", certified, "--key", public, "--out", tmp_path / "out")
    assert code == 2 and "is a public key" in said and not (tmp_path / "out").exists()


def test_it_is_said_what_is_missing(certified: Path, key: Path, tmp_path: Path) -> None:
    alone = tmp_path / "toy.json"
    shutil.copy(file_of(certified / "certificates", "toy"), alone)
    code, said = answer("verify", alone, "--run", certified)
    assert code == 5 and "no key was given, and none lies beside it" in said
    public = ("--key", key.with_name("lab.pub"))
    code, said = answer("verify", alone, "--run", certified, *public)
    assert code == 7 and "put toy~sub.json beside that of toy" in said
    (tmp_path / "none").mkdir()
    for more in ((), public):
        code, said = answer("verify", alone, "--run", tmp_path / "none", *more)
        assert code == 2 and "no run there" in said
    empty = shutil.copytree(certified, tmp_path / "empty")
    (empty / "run.db").write_bytes(b"")
    code, said = answer("verify", file_of(empty / "certificates", "toy"), "--run", empty, *public)
    assert code == 6 and "run.db is empty" in said


def test_a_node_of_which_a_certificate_does_not_speak_is_not_trained_again(certified: Path, key: Path) -> None:
    where = (file_of(certified / "certificates", "toy/sub"), "--run", certified, "--key", key.with_name("lab.pub"))
    code, said = answer("verify", *where, "--rerun", "toy", "--tree", "nowhere")
    assert code == 2 and "--rerun toy" in said and "speak of toy/sub" in said


def test_only_what_is_finished_is_certified(tmp_path: Path, key: Path) -> None:
    out = tmp_path / "run"

    def stop(node: object, event: Any) -> None:
        if event.task == "toy" and event.phase == "fit":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(toy.task(assistants=(toy.sub(),)), BoundedUser(), tiny(), out, watch=[stop])
    with pytest.raises(RunError, match=r"toy is not finished.*toy/sub"):
        certify(out, key=key)
    assert not (out / "certificates").exists(), "nothing was written before that was found"
    assert [one.node for one in certify(out, "sub", key=key)] == ["toy/sub"]
    assert checked(out, key, "toy/sub").code == 0
    with pytest.raises(RunError, match="no node 'nobody'"):
        certify(out, "nobody", key=key)
