"""A real server, `transformers serve`: with the embedded model, and with SmolLM2 where it was fetched."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from transformers import AutoTokenizer

pytest.importorskip("openai", reason="needs the openai client: pip install -e '.[openai]'")
pytest.importorskip("fastapi", reason="needs transformers' server: pip install 'transformers[serving]'")

from rrm import Case, Outcome, Pair, Task
from rrm.models.endpoint_agent import EndpointAgent
from rrm.models.endpoints import Endpoint, EndpointError
from rrm.models.fetching import EMBEDDED
from rrm.users.endpoint import EndpointUser

pytestmark = pytest.mark.slow
SMOLLM2 = Path(os.environ.get("RRM_CACHE") or Path.home() / ".cache" / "rrm") / "models" / "smollm2"
TASK = Task("t", "Which answer is right, and in good English?", facts=lambda case, outcome: [])
PAIR = Pair("t", Case("What do bees make?"), Outcome("Bees make honey."), Outcome("Bees makes plastic bag."))


@contextmanager
def served(model: Path, log: Path) -> Iterator[str]:
    """The address of a server of this model, on a free port of loopback."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    code = "from transformers.cli.transformers import main; main()"
    where = os.environ | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    with log.open("w") as out:
        command = [sys.executable, "-c", code, "serve", str(model), "--host", "127.0.0.1", "--port", str(port)]
        server = subprocess.Popen(command, env=where, stdout=out, stderr=out)
    try:
        until = time.monotonic() + 240
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=1).close()
                break
            except OSError:
                assert server.poll() is None and time.monotonic() < until, log.read_text()
                time.sleep(0.2)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        server.terminate()
        server.wait(timeout=30)


def test_a_real_server_answers_samples_and_is_recorded(tmp_path: Path) -> None:
    """The embedded model knows no letters: it abstains. What is tested is that the two understand one another."""
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(EMBEDDED)
    model.save_pretrained(tmp_path / "m")
    tokenizer = AutoTokenizer.from_pretrained(EMBEDDED)
    tokenizer.chat_template = "{% for m in messages %}{{ m['content'] }} {% endfor %}"
    tokenizer.save_pretrained(tmp_path / "m")
    with served(tmp_path / "m", tmp_path / "log") as url:
        user = EndpointUser(base_url=url, model=str(tmp_path / "m"), concurrency=2)
        user.record(tmp_path)
        judgement = user.judge(TASK, PAIR)
        assert judgement.preference is None and "neither A nor B" in judgement.note
        rows = user.ledger._db.execute("SELECT prompt_tokens, completion_tokens, served FROM calls").fetchall()
        assert len(rows) == 2 and all(read > 0 and 0 < wrote <= 16 and str(tmp_path) in by for read, wrote, by in rows)
        sampling = {"generation_config": '{"do_sample": true, "max_new_tokens": 12}'}
        agent = EndpointAgent(Endpoint(base_url=url, model=user.model, extra=sampling), max_tokens=12)
        (group,) = agent.sample([Case("title a paper")], 3, "k")
        assert len({o.text for o in group.outcomes}) > 1
        with pytest.raises(EndpointError, match="pinned to"):
            EndpointUser(base_url=url, model="another").judge(TASK, PAIR)


@pytest.mark.skipif(not (SMOLLM2 / "config.json").exists(), reason="needs SmolLM2: rrm model fetch smollm2")
def test_a_real_model_is_asked_through_a_real_server(tmp_path: Path) -> None:
    """What it thinks is its own affair, but not that swapping A and B flips it."""
    with served(SMOLLM2, tmp_path / "log") as url:
        user = EndpointUser(base_url=url, model=str(SMOLLM2), max_tokens=4)
        agent = EndpointAgent(user, max_tokens=24)
        (group,) = agent.sample([Case("Name one color. Answer in one word.")], 1, "k", greedy=True)
        assert any(letter.isalpha() for letter in group.outcomes[0].text)
        judged, swapped = user.judge(TASK, PAIR), user.judge(TASK, PAIR.swapped())
        assert judged.preference == (None if swapped.preference is None else 1 - swapped.preference)
        assert judged.seconds and judged.note
        assert user.ledger._db.execute("SELECT COUNT(*) FROM calls").fetchone() == (3,)
