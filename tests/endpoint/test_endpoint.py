"""An endpoint that does what servers do: what is retried, what is kept, what raises, and that no key gets anywhere."""

from __future__ import annotations

import asyncio
import logging
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.responses import JSONResponse, PlainTextResponse, Response

pytest.importorskip("openai", reason="needs the openai client: pip install -e '.[openai]'")

from rrm.models.endpoints import Ask, Endpoint, EndpointError
from tests.endpoint.serving import Server, completion, error, serving

ASK = Ask("say something", 8)
CANARY = "sk-canary-3f9a77c1d2"


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """The client's pauses between tries, short: that it pauses and retries is its own affair."""
    from openai import _base_client

    for name in ("INITIAL_RETRY_DELAY", "MAX_RETRY_DELAY"):
        monkeypatch.setattr(_base_client, name, 0.01)


def endpoint(server: Server, **changes: Any) -> Endpoint:
    return Endpoint(**({"base_url": server.url, "model": "m", "retries": 2, "timeout": 5} | changes))


def asked(server: Server, ask: Ask = ASK, **changes: Any) -> str:
    (reply,) = endpoint(server, **changes).ask([ask], "user", "t")
    return reply.text


def test_a_reply_comes_with_its_counts_and_its_cost() -> None:
    with serving(lambda server, body, before: "well said") as server:
        it = endpoint(server, price_in=2.0, price_out=10.0)
        (reply,) = it.ask([ASK], "user", "t")
        assert (reply.text, reply.finished, reply.served) == ("well said", True, "m")
        assert (reply.prompt_tokens, reply.completion_tokens, reply.retries) == (2, 2, 0)
        (cost,) = it.ledger._db.execute("SELECT cost FROM calls").fetchone()
        assert cost == pytest.approx((2 * 2.0 + 2 * 10.0) / 1e6)
        (body,) = server.bodies
        assert body["model"] == "m" and body["max_tokens"] == 8 and body["temperature"] == 0.0


@pytest.mark.parametrize(
    "fault",
    [
        error(500, "oops"), error(503, "busy"), error(429, "slow down", **{"retry-after": "0.05"}),
        Response('{"id": "x", "choices": [{"mess', media_type="application/json"),
        JSONResponse({"id": "x", "choices": []}), JSONResponse({"choices": None}), JSONResponse([]),
        PlainTextResponse("<html>a gateway's page</html>"),
        JSONResponse({"choices": [{"message": None}]}),
    ],
    ids=["500", "503", "429", "cut", "no choices", "null choices", "a list", "a page", "no message"],
)  # fmt: skip
def test_a_passing_fault_is_tried_again(fault: Response) -> None:
    with serving(lambda server, body, before: fault if before == 0 else "fine") as server:
        (reply,) = endpoint(server).ask([ASK], "user", "t")
        assert reply.text == "fine" and reply.retries == 1 and len(server.bodies) == 2


def test_retry_after_is_respected() -> None:
    wait = error(429, "slow down", **{"retry-after": "0.6"})
    with serving(lambda server, body, before: wait if before == 0 else "fine") as server:
        began = time.monotonic()
        assert asked(server) == "fine"
        assert time.monotonic() - began >= 0.6


@pytest.mark.parametrize(
    ("fault", "said", "tries"),
    [
        (error(500, "oops"), "the server failed in 3 tries", 3),
        (error(429, "slow down"), "too many questions for it, in 3 tries", 3),
        (error(404, "no model m"), "no such model", 1),
        (error(401, "who are you"), "without a key", 1),
        (error(400, "prompt too long"), "refuses the question: .*prompt too long", 1),
        (JSONResponse({"detail": "pinned to another model"}, 400), "refuses the question: .*pinned to another", 1),
        (Response('{"id": "x", "choi', media_type="application/json"), "no chat completion", 3),
        (JSONResponse({"choices": []}), "no chat completion", 3),
    ],
    ids=["500", "429", "404", "401", "400", "400 in other words", "cut", "no choices"],
)
def test_a_lasting_fault_raises_and_says_what_to_do(fault: Response, said: str, tries: int) -> None:
    with serving(lambda server, body, before: fault) as server:
        with pytest.raises(EndpointError, match=said) as caught:
            asked(server)
        assert len(server.bodies) == tries
        assert f"openai:m@{server.url}" in str(caught.value)


def test_a_server_that_hangs_is_given_up() -> None:
    async def hang() -> str:
        await asyncio.sleep(30)
        return "too late"

    with serving(lambda server, body, before: hang()) as server:
        began = time.monotonic()
        with pytest.raises(EndpointError, match=r"no whole answer within 0\.2 s"):
            asked(server, timeout=0.2, retries=1)
        assert time.monotonic() - began < 10 and len(server.bodies) == 2


def test_a_server_that_is_not_there() -> None:
    with serving() as server:
        pass
    with pytest.raises(EndpointError, match="is the server running"):
        asked(server, retries=1)


def test_no_more_than_concurrency_are_under_way_and_replies_keep_their_order() -> None:
    async def slowly(text: str) -> str:
        await asyncio.sleep(0.01 * (7 * int(text[1:]) % 5))
        return text

    with serving(lambda server, body, before: slowly(body["messages"][0]["content"])) as server:
        asks = [Ask(f"n{i}", 8) for i in range(20)]
        replies = endpoint(server, concurrency=4).ask(asks, "user", "t")
        assert [reply.text for reply in replies] == [ask.prompt for ask in asks]
        assert 1 < server.most <= 4


def test_what_was_answered_is_kept_and_not_asked_again(tmp_path: Path) -> None:
    def until(server: Server, body: dict[str, Any], before: int) -> Any:
        return body["messages"][0]["content"] if before < 3 or healthy else error(400, "broken")

    asks = [Ask(f"n{i}", 8) for i in range(6)]
    healthy = False
    with serving(until) as server:
        first = endpoint(server, concurrency=1)
        first.record(tmp_path)
        with pytest.raises(EndpointError, match="broken"):
            first.ask(asks, "user", "t")
        assert len(server.bodies) == 4  # after a failure nothing new is asked
        healthy = True
        again = endpoint(server)
        again.record(tmp_path)
        assert [reply.text for reply in again.ask(asks, "user", "t")] == [ask.prompt for ask in asks]
        assert sorted(server.prompts) == sorted([ask.prompt for ask in asks] + ["n3"])


def test_the_same_question_twice_is_asked_once() -> None:
    with serving(lambda server, body, before: f"answer {before}") as server:
        it = endpoint(server)
        one, two = it.ask([ASK, ASK], "user", "t")
        assert one == two and len(server.bodies) == 1
        it.ask([Ask(ASK.prompt, 8, seed=1)], "user", "t")
        assert len(server.bodies) == 2


@pytest.mark.parametrize(
    ("field", "complaint"),
    [
        ("logprobs", "this model does not support logprobs"), ("seed", "Unsupported field: seed"),
        ("max_tokens", "'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead."),
    ],
)  # fmt: skip
def test_fields_that_do_not_change_the_answer_are_given_up(field: str, complaint: str) -> None:
    with serving(lambda server, body, before: error(400, complaint) if field in body else "fine") as server:
        it = endpoint(server)
        it.ask([Ask("a", 8, alternatives=True)], "user", "t")
        it.ask([Ask("b", 8, alternatives=True)], "user", "t")
        assert [field in body for body in server.bodies] == [True, False, False]  # learned once
        assert field != "max_tokens" or server.bodies[-1]["max_completion_tokens"] == 8


def test_a_temperature_is_never_given_up() -> None:
    refusal = error(400, "temperature does not support 0.0 with this model, and seed neither")
    with serving(lambda server, body, before: refusal) as server:
        with pytest.raises(EndpointError, match="temperature"):
            asked(server)
        assert all("temperature" in body for body in server.bodies)


def test_alternatives_of_the_first_token_are_read() -> None:
    top = [{"token": "A", "logprob": -0.1, "bytes": None}, {"token": " B", "logprob": -2.4, "bytes": None}]
    given = {"content": [{"token": "A", "logprob": -0.1, "bytes": None, "top_logprobs": top}]}
    with serving(lambda server, body, before: JSONResponse(completion("A", body, logprobs=given))) as server:
        (reply,) = endpoint(server).ask([Ask("q", 8, alternatives=True)], "user", "t")
        assert reply.first == {"A": -0.1, " B": -2.4}
        assert server.bodies[0]["logprobs"] is True


def test_a_cut_answer_is_known_as_cut() -> None:
    with serving(lambda server, body, before: JSONResponse(completion("and", body, finish_reason="length"))) as server:
        (reply,) = endpoint(server).ask([ASK], "user", "t")
        assert not reply.finished


# --- the key -----------------------------------------------------------------------------------------


@pytest.fixture
def canary(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("RRM_API_KEY", CANARY)
    yield CANARY


@pytest.mark.parametrize("status", [200, 400, 401, 404, 429, 500, 599])
def test_the_key_is_sent_and_appears_nowhere_else(
    canary: str, status: int, tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    """Even if the server repeats it, in an answer, an error, or something that is neither."""

    def repeat(server: Server, body: dict[str, Any], before: int) -> Any:
        if status == 200:
            return f"your key is {CANARY}"
        if status == 599:
            return PlainTextResponse(f"debug: Authorization: Bearer {CANARY}")
        return error(status, f"Incorrect API key provided: {CANARY}")

    caplog.set_level(logging.DEBUG)
    with serving(repeat) as server:
        it = endpoint(server, retries=1)
        it.record(tmp_path)
        seen = [repr(it), str(it), it.model_dump_json(), it.where]
        try:
            (reply,) = it.ask([ASK], "user", "t")
        except EndpointError as caught:
            assert status != 200
            seen += ["".join(traceback.format_exception(caught)), repr(caught)]
            assert caught.__cause__ is None and caught.__context__ is None  # no request with its headers hangs on it
        else:
            assert status == 200 and reply.text == "your key is [the key]"
        assert server.keys == [f"Bearer {CANARY}"] * len(server.keys) and server.keys
    out, err = capfd.readouterr()
    seen += [out, err, *(record.getMessage() for record in caplog.records)]
    assert not any(canary in text for text in seen)
    assert not any(canary.encode() in path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert (tmp_path / "calls.db").exists()


def test_a_key_in_a_variable_of_another_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTHER_KEY", "  another-key\n")  # a line end from a file is no part of it
    with serving(lambda server, body, before: "x") as server:
        asked(server, key="OTHER_KEY")
        assert server.keys == ["Bearer another-key"]


def test_a_key_for_somewhere_else_is_not_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    """The client would take $OPENAI_API_KEY by itself; it belongs to one provider, and this is any server."""
    monkeypatch.setenv("OPENAI_API_KEY", CANARY)
    monkeypatch.setenv("OPENAI_ADMIN_KEY", CANARY)
    with serving(lambda server, body, before: "x") as server:
        asked(server)
        assert server.keys == ["Bearer none"]


def test_a_key_that_is_none_is_refused_without_showing_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RRM_API_KEY", f"{CANARY}\nsecond line")
    with serving() as server:
        with pytest.raises(EndpointError, match="no key") as caught:
            asked(server)
        assert CANARY not in "".join(traceback.format_exception(caught.value)) and not server.bodies


def test_a_key_in_the_wrong_place_is_refused_without_showing_it() -> None:
    from rrm.command.configuration import configure_user
    from rrm.core.errors import ConfigError
    from rrm.core.settings import SettingError
    from rrm.users.endpoint import EndpointUser

    for change in (
        {"key": CANARY}, {"base_url": f"http://me:{CANARY}@host/v1"}, {"base_url": f"http://host/v1?key={CANARY}"},
    ):  # fmt: skip
        with pytest.raises(SettingError) as caught:
            Endpoint(**({"base_url": "http://host/v1", "model": "m"} | change))
        assert CANARY not in str(caught.value)
    with pytest.raises(EndpointError) as at:
        Endpoint.at(f"m@http://me:{CANARY}@")
    assert CANARY not in str(at.value)
    with pytest.raises(ConfigError, match="key") as wrong:
        configure_user(EndpointUser.at("m@http://host/v1"), [f"user.key={CANARY}"])
    assert CANARY not in str(wrong.value)


def test_an_endpoint_in_one_word() -> None:
    it = Endpoint.at("org/model@2024@http://127.0.0.1:8000/v1/")
    assert (it.model, it.base_url) == ("org/model@2024", "http://127.0.0.1:8000/v1")
    for wrong in ("model", "@http://h/v1", "m@", "m@h:8000", "m@ftp://h"):
        with pytest.raises(EndpointError, match="MODEL@URL"):
            Endpoint.at(wrong)
