"""Forms over the wire: each server is told in its own words, per case, and one that does not listen is found out."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("openai", reason="needs the openai client: pip install -e '.[openai]'")

from hypothesis import given
from hypothesis import strategies as st
from llguidance import LLMatcher, LLTokenizer
from llguidance.gbnf_to_lark import any_to_lark

from rrm import Case
from rrm.core.errors import ConfigError
from rrm.models.dialects import gbnf
from rrm.models.endpoint_agent import EndpointAgent
from rrm.models.endpoints import Ask, Endpoint, EndpointError
from rrm.users.endpoint import EndpointUser
from tests.endpoint.serving import Server, serving
from tests.endpoint.test_user_and_agent import TASK, pair
from tests.models.test_form import LINES, VERDICT, letters

YES = "yes|no"


def endpoint(server: Server, **changes: Any) -> Endpoint:
    return Endpoint(**({"base_url": server.url, "model": "m", "retries": 0} | changes))


@pytest.mark.parametrize(
    ("dialect", "fields"),
    [
        ("none", {}), ("vllm", {"structured_outputs": {"regex": YES}}), ("sglang", {"regex": YES}),
        ("llama.cpp", {"grammar": 'root ::= "y" "e" "s" | "n" "o"'}),
    ],
)  # fmt: skip
def test_an_assistant_sends_the_form_of_each_case_in_the_servers_words(dialect: Any, fields: dict[str, Any]) -> None:
    with serving(lambda server, body, before: "yes") as server:
        agent = EndpointAgent(endpoint(server, forms=dialect, extra={"top_p": 0.9}))
        groups = agent.sample([Case("one", form=YES), Case("two")], 1, "k")
    assert [group.outcomes[0].text for group in groups] == ["yes", "yes"]
    told = {body["messages"][0]["content"]: body for body in server.bodies}
    shown = ("structured_outputs", "regex", "grammar")
    assert {key: value for key, value in told["one"].items() if key in shown} == fields
    assert not {*told["two"]} & {*shown} and told["one"]["top_p"] == told["two"]["top_p"] == 0.9


def test_a_user_is_held_to_its_letters() -> None:
    with serving(lambda server, body, before: "A") as server:
        EndpointUser(base_url=server.url, model="m", forms="vllm").judge(TASK, pair(0))
        EndpointUser(base_url=server.url, model="m", forms="sglang", form=r"(A|B)\.").model_dump()
        assert [body["structured_outputs"] for body in server.bodies] == [{"regex": "A|B"}] * 2
        EndpointUser(base_url=server.url, model="m", forms="vllm", form="").judge(TASK, pair(0))
        EndpointUser(base_url=server.url, model="m").judge(TASK, pair(0))
        assert len(server.bodies) == 6 and not any("structured_outputs" in body for body in server.bodies[2:])


def test_who_sends_no_forms_is_recorded_as_before() -> None:
    """A run, and its replies, of before there were forms are found again."""
    plain = EndpointUser(base_url="http://127.0.0.1:1/v1", model="m")
    assert not {"form", "forms"} & {*plain.model_dump()}
    assert plain.key_of(Ask("p", 8, form="A|B")) == plain.key_of(Ask("p", 8))
    told = plain.model_copy(update={"forms": "vllm"})
    assert told.key_of(Ask("p", 8, form="A|B")) != told.key_of(Ask("p", 8)) == plain.key_of(Ask("p", 8))
    assert told.model_dump()["forms"] == "vllm"
    versions = {EndpointAgent(Endpoint(base_url="http://127.0.0.1:1/v1", model="m", forms=one)).version
                for one in ("none", "vllm", "llama.cpp")}  # type: ignore[arg-type]  # fmt: skip
    assert len(versions) == 3


def test_a_server_that_ignores_forms_is_found_out(tmp_path: Path) -> None:
    with serving(lambda server, body, before: "well, yes and no") as server:
        there = endpoint(server, forms="vllm")
        with pytest.raises(EndpointError, match=r"has not the form 'yes\|no': 'well, yes and no'.*forms=vllm"):
            there.ask([Ask("p", 8, form=YES)], "agent", "t")
        there.ask([Ask("p", 8, form=r"[\p{L}, ]+")], "agent", "t")  # Rust's, which is not looked at here
        assert endpoint(server).ask([Ask("p", 8, form=YES)], "agent", "t")[0].text == "well, yes and no"


def test_a_form_without_translation_is_said_before_anything_is_asked() -> None:
    with serving(lambda server, body, before: "yes") as server:
        there = endpoint(server, forms="llama.cpp")
        with pytest.raises(ConfigError, match=r"cannot be written as llama\.cpp's grammar: \\p, at character 3"):
            there.ask([Ask("p", 8, form=YES), Ask("p", 8, form=r"\p{L}+")], "agent", "t")
        assert not server.bodies


# --- llama.cpp's grammar ----------------------------------------------------------------------------

TOKENS = letters()


def accepts(grammar: str, text: str) -> bool:
    """Whether llguidance, reading it as a grammar, takes the whole text."""
    matcher = LLMatcher(_tokenizer(), grammar, log_level=0)
    assert not matcher.is_error(), matcher.get_error()
    tokens = _tokenizer().tokenize_str(text)
    return matcher.try_consume_tokens(tokens) == len(tokens) and matcher.is_accepting()


def _tokenizer() -> LLTokenizer:
    from llguidance.hf import from_tokenizer

    return from_tokenizer(TOKENS, eos_token=0)


PIECES = [
    "a", "b", "-", ".", "[a-c]", "[^a]", "[-a]", r"\d", r"\.", r"\-", "(a|b)", "(?:ab|)", r"[\]\\^]", "[^^-]",
    r"[+-\-a]", r"[\[b]", r"[\^]", "é", '"', r"\n",
]  # fmt: skip
TIMES = ["", "*", "+", "?", "{2}", "{1,2}", "{1,}", "??"]
REGEXES = st.lists(st.tuples(st.sampled_from(PIECES), st.sampled_from(TIMES)).map("".join), min_size=1, max_size=4).map(
    "".join
)


@given(st.lists(REGEXES, min_size=1, max_size=2).map("|".join), st.data())
def test_the_grammar_is_of_the_same_texts(form: str, data: st.DataObject) -> None:
    """Of texts that the form makes, and of others."""
    grammar = any_to_lark(gbnf(form))
    right = data.draw(st.from_regex(re.compile(form, re.ASCII), fullmatch=True))
    other = data.draw(st.text("ab-x1.]\\^é\"\n0", max_size=5))
    for text in (right, other):
        if "\x00" not in text and len(text) < 40 and text.isprintable() | ("\n" in text):
            assert accepts(grammar, text) == (re.fullmatch(form, text, re.ASCII) is not None), (form, text)


@pytest.mark.parametrize(
    ("form", "right", "wrong"),
    [
        (VERDICT, ["yes", "N/A"], ["N", "yes "]), (LINES, ["sum: -12\nso: abc"], ["sum: 1234\nso: abc", "sum: 1"]),
        (r"(first|second), because [a-z ]{3,20}\.", ["first, because it is."], ["first, because a."]),
        (r"\w+\s\x41", ["ab1_ A"], ["ab1_ B"]), ("(?P<who>A|B)(?<what>C)?", ["A", "BC"], ["C"]),
    ],
)  # fmt: skip
def test_forms_that_are_in_use_translate(form: str, right: list[str], wrong: list[str]) -> None:
    grammar = any_to_lark(gbnf(form))
    assert [accepts(grammar, text) for text in (*right, *wrong)] == [True] * len(right) + [False] * len(wrong)


@pytest.mark.parametrize(
    "form", [
        "^a", "a$", r"\bword", r"\W", "(?i)a", "(?=a)", "a**", "[[:alpha:]]", "[a-z&&b]", r"[^\d]", "(a", "a)", "[a",
        "a{b}", "a{3,1}", "*a", "\\", "[b-a]", r"\u{41}", "[+--a]",
    ],
)  # fmt: skip
def test_what_has_no_translation_is_said(form: str) -> None:
    with pytest.raises(ConfigError, match=r"llama\.cpp's grammar"):
        gbnf(form)
