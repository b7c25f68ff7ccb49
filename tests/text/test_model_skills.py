"""What scripts/model_skills.py counts is right, and a measurement that was stopped goes on as if it had not been."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from rrm.core.errors import RRMError
from rrm.measure.catalog import BY_HAND
from rrm.measure.stats import auc
from rrm.models.backbone import Backbone
from tests import forked
from tests.text import tiny
from tests.text.material import solved, trace, write

ROOT = Path(__file__).parents[2]
sys.path.append(str(ROOT / "scripts"))

import kept_rows  # noqa: E402
import model_skills  # noqa: E402
import skill_page  # noqa: E402
import skill_parts  # noqa: E402

PROMPTS = [["Is it so? The dog run home. Yes or No", "Is it so? The dog run home. She", "Is it so?"], ["yes", "yes no"]]


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    return tiny.backbone()


# --- asking ------------------------------------------------------------------------------------------


def test_what_prompts_share_changes_no_answer(backbone: Backbone) -> None:
    """Each as if it had been asked alone."""
    asker = skill_parts.Asker(backbone)
    together = asker.ask(PROMPTS)
    for prompts, said in zip(PROMPTS, together, strict=True):
        for prompt, pair in zip(prompts, said, strict=True):
            ids = torch.tensor([backbone.render(prompt)])
            logp = backbone.model(input_ids=ids).logits[0, -1].log_softmax(-1)
            alone = [float(logp[asker.yes]), float(logp[asker.no])]
            torch.testing.assert_close(torch.tensor(pair), torch.tensor(alone), atol=1e-4, rtol=0)


def test_steps_are_asked_about_in_both_ways_and_see_no_later_step() -> None:
    prompts = skill_parts.step_prompts("Compute.", ["one", "two", "three"], 1)
    assert len(prompts) == 4 and "Is step 2 right" in prompts[0] and "Is step 2 wrong" in prompts[1]
    assert "three" not in prompts[0] and "Step 3: three" in prompts[2]


def test_no_item_is_asked_twice_and_none_that_prompts_were_written_looking_at() -> None:
    names = [f"q{i % 50}" for i in range(100)]
    chosen = skill_parts.first(names, 100)
    said = [names[i] for i in chosen]
    assert len(set(said)) == len(said) and not any(map(skill_parts.is_tuning, said))
    assert {*said} == {one for one in names if not skill_parts.is_tuning(one)}
    assert skill_parts.first(names, 10) == chosen[:10]  # more items are added to those that are there
    with pytest.raises(RRMError, match="twice"):
        kept_rows.Part("p", {}, ["a", "b", "a"], lambda places: [])


# --- what is kept ------------------------------------------------------------------------------------


def part(seen: list[int] | None = None, stop: int = 10**6, settings: dict[str, Any] | None = None, n: int = 10) -> Any:
    def work(places: range) -> list[kept_rows.Row]:
        if stop in places:
            raise KeyboardInterrupt
        if seen is not None:
            seen.extend(places)
        return [{"text": f"item {i}\u2028 of {places}", "tokens": 1} for i in places]

    return kept_rows.Part("p", settings or {"max_tokens": 5}, [f"i{i}" for i in range(n)], work, 4)


def test_what_was_killed_goes_on_to_the_same_file(tmp_path: Path) -> None:
    part().run(tmp_path / "whole", "m")
    whole = (tmp_path / "whole" / "p.jsonl").read_bytes()
    with pytest.raises(KeyboardInterrupt):
        part(stop=5).run(tmp_path / "killed", "m")
    path = tmp_path / "killed" / "p.jsonl"
    assert len(kept_rows.read(path)[1]) == 4
    path.write_bytes(whole[: len(path.read_bytes()) + 70])  # ... and in the middle of writing
    seen: list[int] = []
    part(seen).run(tmp_path / "killed", "m")
    assert path.read_bytes() == whole and seen == [*range(4, 10)]
    part(seen).run(tmp_path / "killed", "m")
    assert path.read_bytes() == whole and seen == [*range(4, 10)], "nothing is computed twice"


def test_more_items_are_added(tmp_path: Path) -> None:
    seen: list[int] = []
    part(seen, n=6).run(tmp_path, "m")
    part(seen, n=10).run(tmp_path, "m")
    assert seen == [*range(6), *range(4, 10)]  # the chunk that was not whole is computed with the company it has now
    part().run(tmp_path / "whole", "m")
    assert (tmp_path / "p.jsonl").read_bytes() == (tmp_path / "whole" / "p.jsonl").read_bytes()
    part(seen := [], n=3).run(tmp_path, "m")
    assert not seen and len(kept_rows.read(tmp_path / "p.jsonl")[1]) == 10  # fewer: nothing is thrown away


def test_what_was_made_otherwise_is_refused(tmp_path: Path) -> None:
    part().run(tmp_path, "m")
    with pytest.raises(RRMError, match="max_tokens: 5, now 6"):
        part(settings={"max_tokens": 6}).run(tmp_path, "m")
    other = kept_rows.Part("p", {"max_tokens": 5}, ["i0", "other"], lambda places: [])
    with pytest.raises(RRMError, match="item 2 is not what would be asked now"):
        other.run(tmp_path, "m")


def test_two_processes_do_not_write_one_file(tmp_path: Path) -> None:
    def meanwhile(places: range) -> list[kept_rows.Row]:
        with pytest.raises(RRMError, match="another process"):
            part().run(tmp_path, "m")
        return [{"tokens": 1}]

    kept_rows.Part("p", {}, ["a"], meanwhile).run(tmp_path, "m")
    assert len(kept_rows.read(tmp_path / "p.jsonl")[1]) == 1


def test_what_chunks_cost_is_summed(tmp_path: Path) -> None:
    part().run(tmp_path, "m")
    sums = kept_rows.costs(tmp_path)["p"]
    assert sums["items"] == sums["tokens"] == 10 and sums["cpu"] >= 0


# --- what it amounts to ------------------------------------------------------------------------------


def planted(flip: bool = False) -> list[list[tuple[float, bool]]]:
    return [[(1.0 + i, not flip), (-1.0 - i, flip)] for i in range(6)]


def test_a_planted_score_is_perfect_and_its_opposite_the_opposite() -> None:
    for of in (skill_page.area, skill_page.balanced):
        assert of(planted()) == 1 and of(planted(True)) == 0
    assert skill_page.within(planted())["mean"] == 1 and skill_page.within(planted(True))["mean"] == 0


def test_swapped_labels_give_the_rest_to_one() -> None:
    rng = torch.Generator().manual_seed(0)
    drawn = torch.randn(8, 3, generator=rng).tolist()
    clusters = [[(score, (i + j) % 2 == 0) for j, score in enumerate(row)] for i, row in enumerate(drawn)]
    swapped = [[(score, not right) for score, right in row] for row in clusters]
    for of in (skill_page.area, skill_page.balanced, lambda one: skill_page.within(one)["mean"]):
        assert of(clusters) == pytest.approx(1 - of(swapped)) and 0 < of(clusters) < 1
    flat = [one for row in clusters for one in row]
    assert skill_page.area(clusters) == auc([s for s, r in flat if r], [s for s, r in flat if not r])


def test_who_always_says_yes_is_at_chance_and_the_mean_does_not_see_it() -> None:
    """Asked either way, it says Yes by the same 5 nats more than it should."""
    truth = [True, False, True, False]
    said = [[[-1 + 5 * t, -6 + 5 * t] for t in (1, 1)] for _ in truth]  # Yes, No; right?, wrong?
    always = [skill_page.lean(pair) for pair in said]
    assert {right > 0 for right, _ in always} == {True} and {wrong < 0 for _, wrong in always} == {True}
    assert all(abs(right + wrong) < 1e-9 for right, wrong in always)
    clusters = [[(right, one)] for (right, _), one in zip(always, truth, strict=True)]
    assert skill_page.balanced(clusters) == 0.5 == skill_page.area(clusters)
    assert skill_page.bias([[(pair, True)] for pair in always]) == "+5.00"


def test_an_interval_resamples_whole_clusters() -> None:
    """Eight copies of a cluster's only item tell no more than one."""
    scores = [(float(i), i % 3 > 0) for i in range(20)]
    once, copied = [[one] for one in scores], [[one] * 8 for one in scores]
    first, second = (skill_page.resampled(one, skill_page.area) for one in (once, copied))
    assert first == pytest.approx(second) and first["low"] < first["mean"] < first["high"]


def judge(*rows: tuple[int, float, float, float | None]) -> tuple[str, ...]:
    return skill_page.judged([{"label": a, "chances": [b, c, 1.0], "preference": d} for a, b, c, d in rows])


def test_a_judge_that_always_says_a_gets_a_half() -> None:
    accuracy, sign, ties, abstains, first, second, apart = judge(*[(1 + i % 2, 0.9, 0.9, 0.5) for i in range(10)])
    assert accuracy.startswith("0.500") and sign.startswith("0.500")
    assert (ties, abstains, first, second, apart) == ("1.00", "0.00", "1.00", "1.00", "1.00")


def test_a_judge_that_knows_gets_all_and_its_orders_agree() -> None:
    said = judge((1, 0.9, 0.1, 1.0), (2, 0.2, 0.9, 0.0), (1, 0.6, 0.5, None))
    assert said[0].startswith("0.833") and said[1].startswith("1.000") and said[3] == "0.33" and said[6] == "0.00"


def test_solved_is_what_the_key_says(tmp_path: Path) -> None:
    texts = ["Pens: 3 * 4 = 12\nA: 12", "So it is 12.", "A: 13", "none"]
    rows = [{"id": str(i), "key": "12", "text": t, "tokens": 3, "ended": True} for i, t in enumerate(texts)]
    lines = [{"settings": {}}, *rows]
    (tmp_path / "gsm8k-free.jsonl").write_text("".join(json.dumps(one) + "\n" for one in lines))
    ((_, arm, number, solved, readable, last, *_),) = skill_page.gsm8k({"m": tmp_path}).rows
    assert (arm, number) == ("free", "4") and solved.startswith("0.250")
    assert readable.startswith("0.500") and last.startswith("0.500")


# --- the command -------------------------------------------------------------------------------------


def data(folder: Path) -> Path:
    """Made rows of every published table that is asked about."""
    questions = [solved(n) for n in range(3, 23)]
    write(folder / "gsm8k" / "example_model_solutions.jsonl", questions)
    keys = [{"question": q["question"], "answer": f"So it is\n#### {n + 2}"} for n, q in enumerate(questions, 3)]
    write(folder / "gsm8k" / "test.jsonl", keys)
    for task in skill_parts.TRACES:
        write(folder / "big-bench-mistake" / f"{task}.jsonl", [trace(n, (None, 1, 2)[n % 3]) for n in range(1, 20)])
    short = {"input": "Say yes.", "output_1": "yes", "output_2": "no", "label": 1}
    long = {"input": "Say yes.", "output_1": "yes" * 3000, "output_2": "no", "label": 2}
    for kind in ("natural", "adversarial_manual"):
        write(folder / "llmbar" / f"{kind}.jsonl", [short, long])
    return folder


def model(folder: Path) -> Path:
    """A model of random weights that reads and writes bytes."""
    tokenizer = tiny.backbone().tokenizer
    config = LlamaConfig(
        hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4, vocab_size=len(tokenizer),
        max_position_embeddings=4096, bos_token_id=0, eos_token_id=1, pad_token_id=1,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def command(out: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    where = {"PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]), "OMP_NUM_THREADS": "1"}
    return forked.run(("scripts/model_skills.py", "--out", out, *arguments), env=os.environ | where)


@pytest.mark.slow
def test_every_part_of_a_model_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A second call computes nothing, and the page keeps what was written by hand; what is too long is counted."""
    page, out = tmp_path / "page.md", tmp_path / "out"
    page.write_text(f"Stale.\n{BY_HAND}\nMine.\n")
    given = ("--models", f"tiny={model(tmp_path / 'model')}", "--quick", "--trees", "word_problems", "--doc", str(page),
             "--data", str(data(tmp_path / "data")))  # fmt: skip

    def here(out: Path, *arguments: str) -> None:
        """The same within this process."""
        monkeypatch.setattr(sys, "argv", ["model_skills.py", "--out", str(out), *arguments])
        model_skills.main()

    done = command(out, *given)
    assert done.returncode == 0, done.stderr
    written = page.read_text()
    for title in ("GSM8K test", "each role", "on steps", "whole solutions", "as a judge", "Speed", "What it cost"):
        assert any(line.startswith("## ") and title in line for line in written.splitlines()), title
    assert written.endswith(f"{BY_HAND}\nMine.\n") and "Stale" not in written and str(tmp_path) not in written
    assert "--models tiny --gsm8k 4 --cases 1 --outcomes 2 --traces 2" in written, "the command that made it"
    assert "| tiny | natural | 1; 1 too long |" in written and "tiny speed: 2 of 2" in done.stderr
    files = {path.name: path.read_bytes() for path in (out / "tiny").glob("*.jsonl") if path.name != kept_rows.COSTS}
    assert len(files) == 9
    capsys.readouterr()
    here(out, *given)
    assert "tiny" not in capsys.readouterr().err, "nothing is computed twice"
    assert files == {path: (out / "tiny" / path).read_bytes() for path in files}
    with pytest.raises(SystemExit, match=r"^error: .*made in float32"):
        here(out, *given, "--precision", "bfloat16")
