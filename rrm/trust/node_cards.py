"""A card for a model that leaves a run: what trained it, by whom it was judged, figures with n, what is not shown."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from rrm.core.errors import ModelError
from rrm.exchange.agent_export import ExportedAgent, front_matter
from rrm.models.fetching import PACKAGED, SOURCES, resolve
from rrm.trust.documents import Block, Cells, Document, Lines, Title, Verbatim, Words, as_md
from rrm.trust.reported import MISSING, RunTold
from rrm.trust.reporting import CITED, judged_by

LONGEST = 600
"""Characters of a prompt that a card shows."""
NAMED = "base-model"
"""Stands in commands for a base model that is a folder."""


def license_of(name: str) -> str:
    """The license of a starting model as far as it is known here: of those that rrm fetches, or what the README.md of a
    folder says at its top; empty where it is not known."""
    if name in SOURCES:
        return SOURCES[name].license
    if name in PACKAGED:
        return "Apache-2.0"  # made here
    try:
        where, local, _ = resolve(name)
        text = (Path(where) / "README.md").read_text(encoding="utf-8", errors="replace") if local else ""
    except (OSError, ModelError):
        return ""
    top = re.match(r"---\n(.*?)\n---", text, re.S)
    said = re.search(r"^license:\s*[\"']?([\w.+-]+)", top[1], re.M) if top else None
    return said[1] if said else ""


def agent_card(run: RunTold, done: ExportedAgent) -> str:
    """README.md of an exported agent."""
    base = run.config.get("model", {}).get("name", "")
    told: dict[str, str | list[str]] = _front(run, base, "transformers" if done.merged else "peft", "text-generation")
    return front_matter(told) + "\n" + as_md(Document([
        Title(1, f"Agent of {done.node}"),
        *_about(run, done.node, "agent"),
        Title(2, "To use it"),
        *_use(done),
        Title(2, "What was checked"),
        Words(
            f"Loaded back by {'transformers' if done.merged else 'PEFT'} in float32, its log-probabilities of "
            f"{done.tried} outcomes of the run differ from the trained agent's by {done.error:.1g} nats a token at "
            f"most (mean over an outcome){done.rounded}. The chat template gives the token "
            f"ids that it was trained on for {done.same_text} of {done.prompts} prompts of the run."
        ),
        *_found(run, done.node),
    ]))  # fmt: skip


def reward_card(run: RunTold, node: str) -> tuple[str, str]:
    """What stands at the top of an exported reward model's README.md, and what in its end."""
    base = run.config.get("model", {}).get("name", "")
    top = front_matter(_front(run, base, "transformers", "text-classification"))
    return top, as_md(Document([Title(2, "What it was trained on"), *_about(run, node, "reward"), *_found(run, node)]))


def _front(run: RunTold, base: str, library: str, pipeline: str) -> dict[str, str | list[str]]:
    kinds = {*run.judged_by()}
    told: dict[str, str | list[str]] = {"library_name": library, "pipeline_tag": pipeline}
    if license := license_of(base):
        told["license"] = license.lower()
    if re.fullmatch(r"[\w.-]{1,96}/[\w.-]{1,96}", base) and not Path(base).exists():
        told["base_model"] = base
    tags = ["recursive-reward-modeling"] + (["lora"] if library == "peft" else [])
    told["tags"] = [*tags, *(f"judged-by-{kind}" for kind in sorted(kinds))]
    return told


def _about(run: RunTold, path: str, part: str) -> Iterator[Block]:
    node = run.nodes[path]
    judges = "; ".join(
        f"{one.judgements:,} judgements by {one.name}" + (f" ({one.people:,})" if one.kind == "people" else "")
        for one in node.design.judges
    )
    yield Words(judged_by([run]), strong=True)
    yield Words(f"At this node: {judges or 'nobody judged'}.")
    yield Words(f"What was asked: {node.view.instruction}")
    helped = ", ".join(one.node for one in node.design.assistants) or "nobody"
    improver = node.view.settings.get("improver", MISSING)
    state = "" if node.progress.state == "finished" else f" It is not finished ({node.progress.state})."
    what = f"optimized against a reward model of those judgements ({improver})" if part == "agent" else (
        "fitted to those judgements"
    )
    yield Words(
        f"Node {path} of a tree of {len(run.nodes)}, {what}, {node.progress.round} of {node.view.rounds} rounds; "
        f"whoever judged was helped by {helped}. Recursive reward modeling (Leike et al. 2018, arXiv 1811.07871), by "
        f"rrm {run.about.get('rrm', MISSING)}.{state}"
    )
    model = run.config.get("model", {})
    known = license_of(str(model.get("name", "")))
    yield Cells(["", ""], [
        ["starting model", f"{model.get('name', MISSING)}, fingerprint {model.get('fingerprint', MISSING)}"],
        ["its license", known or "not known here: look it up before you pass this on"],
        ["run, seed", f"{run.title}, {run.seed}"],
        *([["trained by", str(run.about["command"])]] if run.about.get("command") else []),
        ["settings", ", ".join(f"{key}={value}" for key, value in node.changed.items()) or "the usual"],
        *([[f"{part} in the run, SHA-256", node.weights[part]]] if part in node.weights else []),
        *([["records", run.evidence]] if run.evidence else []),
    ])  # fmt: skip


def _found(run: RunTold, path: str) -> Iterator[Block]:
    node = run.nodes[path]
    yield Title(2, "Figures")
    yield Words("Of the node in its run, with 95 % intervals; nothing here was measured anew.")
    yield Cells(["figure", ""], [[name, str(one)] for name, one in node.figures.items()])
    yield Title(2, "Not shown")
    yield Lines(node.not_shown)
    yield Title(2, "To cite")
    yield Verbatim(CITED)


def _use(done: ExportedAgent) -> Iterator[Block]:
    local = Path(done.base).is_absolute()
    base = NAMED if local else done.base
    if done.merged:
        yield Verbatim(
            "from transformers import pipeline\n\n"
            'agent = pipeline("text-generation", model="FOLDER")\n'
            'agent([{"role": "user", "content": PROMPT}])[0]["generated_text"][-1]["content"]'
        )
        yield Verbatim("vllm serve FOLDER")
    else:
        yield Verbatim(
            "from peft import AutoPeftModelForCausalLM\nfrom transformers import AutoTokenizer, GenerationConfig\n\n"
            'model = AutoPeftModelForCausalLM.from_pretrained("FOLDER")  # its base model is loaded with it\n'
            'tokenizer = AutoTokenizer.from_pretrained("FOLDER")\n'
            'ids = tokenizer.apply_chat_template([{"role": "user", "content": PROMPT}], add_generation_prompt=True,\n'
            '                                    return_tensors="pt", return_dict=True)\n'
            'model.generate(**ids, generation_config=GenerationConfig.from_pretrained("FOLDER"))'
        )
        yield Verbatim(f"vllm serve {base} --enable-lora --max-lora-rank 16 --lora-modules agent=FOLDER \\\n"
                       "    --chat-template FOLDER/chat_template.jinja --generation-config FOLDER")  # fmt: skip
        if local:
            yield Words(
                "adapter_config.json names its base model by a folder of the machine that it was exported on. "
                "Elsewhere, write there where the starting model is (its fingerprint is above); rrm export --base sets "
                "it."
            )
    yield Words(
        "The folder's chat template writes a user's turn as it was trained on. generation_config.json samples as in "
        f"training: temperature 1, the whole distribution, at most {done.max_tokens} tokens, the ends of an outcome "
        "that it knew."
    )
    if done.form:
        what = (
            "Its outcomes were held to a form, a regular expression that comes with each case and without which it may "
            "write otherwise (vLLM: structured_outputs). One of them"
        )
        yield Verbatim(done.form, what)
    if done.prompt:
        cut = done.prompt[:LONGEST] + (" …" if len(done.prompt) > LONGEST else "")
        yield Verbatim(cut, "A prompt as it was trained on")
