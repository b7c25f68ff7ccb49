"""What a server sent, read strictly: every reply that is kept is finite, reads back as itself, and has no key in it."""

from __future__ import annotations

import base64
import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from rrm.models.endpoints import Ask, Endpoint, EndpointError, Ledger
from rrm.models.replies import NoReply, Reply, read, silenced
from rrm.store.encoding import written
from rrm.users.endpoint import chance

KEY = "sk-canary-3f9a77c1d2-'\"-e"
_reply = TypeAdapter(Reply)
NAN, INF = math.nan, math.inf


def said(*top: Any, content: Any = "A", **choice: Any) -> str:
    """A chat completion whose first token has these alternatives, (token, log-probability) each."""
    listed = [{"token": token, "logprob": value} for token, value in top]
    logprobs = {"content": [{**listed[0], "top_logprobs": listed}]} if top else None
    message = content if isinstance(content, dict) else {"content": content}
    return json.dumps({"choices": [{"message": message, "finish_reason": "stop", "logprobs": logprobs} | choice]})


@given(st.lists(st.tuples(
    st.sampled_from(["A", " A", "B", "\n", "C", KEY]),
    st.one_of(st.none(), st.booleans(), st.text(max_size=3), st.integers(-(10**40), 10**40), st.floats()),
), max_size=6))  # fmt: skip
def test_what_is_kept_is_a_distribution_or_nothing_is(top: list[Any]) -> None:
    try:
        reply = read(said(*top), KEY)
    except NoReply:
        return
    assert all(math.isfinite(value) and value <= 0 for value in reply.first.values())
    assert sum(math.exp(value) for value in reply.first.values()) <= 1 + 1e-2
    assert _reply.validate_json(written(_reply, reply)) == reply
    assert KEY not in str(reply)
    found = chance(reply)
    assert found is None or 0 <= found <= 1


@pytest.mark.parametrize("value", [NAN, INF, 0.5, True, "-0.1", "x", [0], {}, 10**400])
def test_a_log_probability_that_is_none_is_refused(value: Any) -> None:
    with pytest.raises(NoReply, match=r"logprob|log-probability|int"):
        read(said(("A", -0.1), ("B", value)), "")


@pytest.mark.parametrize("nothing", [-INF, None, -(10**400)])
def test_what_has_no_probability_is_left_out(nothing: Any) -> None:
    body = said(("A", 0.0), ("B", nothing)).replace(f"{-(10**400)}", "-1e400")
    assert read(body, "").first == {"A": 0.0}


def test_tokens_that_read_alike_count_together_and_the_chosen_one_once() -> None:
    half = math.log(0.5)
    quarter = math.log(0.25)
    reply = read(said(("A", half), ("B", quarter), ("B", quarter)), "")
    assert reply.first == pytest.approx({"A": half, "B": half})
    assert chance(read(said(("A", half), (" A", quarter), ("B", quarter)), "")) == pytest.approx(0.75)
    with pytest.raises(NoReply, match="more than 1"):
        read(said(("A", -0.1), ("B", -0.1)), "")


@pytest.mark.parametrize(
    "body",
    [
        "", "<html>no</html>", "null", "[]", "{}", "NaN", '{"error": {"message": "no"}}', '{"choices": []}',
        '{"choices": [null]}', '{"choices": [{"message": null}]}', '{"choices": [{"message": {}}]}',
        said(content=None), said(content=7), said(content=["A"]), said(content={"tool_calls": [{"id": "x"}]}),
        said(finish_reason=3), said(finish_reason="tool_calls", content=None), said() + "x", said()[:-2],
        said(content="\ud800"), "[" * 100_000, said(logprobs={"content": [{"token": "A"}]}),
        said(logprobs={"content": [{"logprob": 0.0}]}), said(logprobs={"content": "A"}), said(logprobs=[]),
        said(logprobs={"content": [{"token": "A", "logprob": 0.0, "top_logprobs": [["B", -1]]}]}),
    ],
)  # fmt: skip
def test_what_is_no_reply_says_why(body: str) -> None:
    with pytest.raises(NoReply) as caught:
        read(body, KEY)
    assert len(str(caught.value)) > 8 and "pydantic" not in str(caught.value)


@pytest.mark.parametrize(
    "count, kept", [(3, 3), (0, 0), (-1, None), (True, None), ("3", None), (3.5, None), (10**30, None), (None, None)]
)
def test_a_count_of_tokens_that_is_none_is_not_known(count: Any, kept: int | None) -> None:
    body = json.loads(said()) | {"usage": {"prompt_tokens": count, "completion_tokens": count}}
    reply = read(json.dumps(body), "")
    assert reply.prompt_tokens == reply.completion_tokens == kept
    Ledger().put("k", reply, "e", "w", "t", None)


def test_a_withheld_answer_is_no_verdict() -> None:
    for body in (
        said(("A", 0.0), content={"content": None, "refusal": "A"}),
        said(("A", 0.0), finish_reason="content_filter"),
        said(content=None, finish_reason="content_filter"),
    ):
        reply = read(body, "")
        assert reply.withheld and chance(reply) is None
    cut = read(said(content=None, finish_reason="length"), "")  # all of it thought, none said
    assert not cut.finished and cut.text == "" and chance(cut) is None


def test_a_cut_word_is_no_verdict() -> None:
    def of(text: str, why: str) -> float | None:
        return chance(read(said(content=text, finish_reason=why), ""))

    assert of("The better one is A", "stop") == 1.0 and of("The better one is A", "length") is None
    assert of("The better one is A, as it", "length") == 1.0 and of("B", "length") == 0.0


FORMS = {
    "plain": KEY, "json": json.dumps(KEY), "python": repr(KEY), "base64": base64.b64encode(KEY.encode()).decode(),
    "cut": KEY[:-3], "its end": KEY[4:], "twice": KEY + KEY, "in words": f"Incorrect key {KEY}.", "only": "sk-other",
}  # fmt: skip


@given(st.sampled_from(sorted(FORMS)), st.text(max_size=20), st.text(max_size=20))
def test_a_key_is_taken_out_however_it_is_written(form: str, before: str, after: str) -> None:
    out = silenced(before + FORMS[form] + after, KEY)
    assert KEY[:16] not in out and KEY[-16:] not in out and KEY[4:20] not in out
    assert base64.b64encode(KEY.encode()).decode()[:16] not in out
    if form == "only":
        assert out == before + "sk-other" + after


def test_what_is_no_secret_is_left_alone() -> None:
    assert silenced("none of these", "none") == "none of these" == silenced("none of these", "")


def test_a_key_where_it_would_be_recorded_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RRM_API_KEY", KEY)
    for more in ({"model": KEY}, {"base_url": f"http://127.0.0.1:9/{KEY}"}, {"extra": {"key": KEY}}):
        it = Endpoint(**({"base_url": "http://127.0.0.1:9/v1", "model": "m"} | more))
        with pytest.raises(EndpointError, match="RRM_API_KEY holds stands in") as caught:
            it.ask([Ask("q", 4)], "user", "t")
        assert KEY not in str(caught.value)


def test_a_reply_that_cannot_be_read_is_asked_for_again_and_the_new_one_counts(tmp_path: Path) -> None:
    """As rrm before wrote -Infinity: as null, which is no number."""
    ledger = Ledger(tmp_path / "calls.db")
    ledger.put("k", Reply("A", True, {"B": -1.0}), "e", "w", "t", None)
    with ledger._writing():
        ledger._db.execute("DROP TRIGGER calls_no_update")
        ledger._db.execute("UPDATE calls SET reply = replace(reply, '-1.0', 'null')")
    assert ledger.get("k") is None
    ledger.put("k", Reply("B", True), "e", "w", "t", None)
    ledger.put("k", Reply("C", True), "e", "w", "t", None)  # what is there stays
    kept = ledger.get("k")
    assert kept is not None and kept.text == "B"
    assert ledger._db.execute("SELECT COUNT(*) FROM calls").fetchone() == (2,)
