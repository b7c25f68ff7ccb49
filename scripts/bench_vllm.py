"""Sampling by a vLLM server against our own: tokens a second, in turn, and how far the log-probabilities are apart.

    pip install -e '.[openai]'
    OMP_NUM_THREADS=1 python scripts/bench_vllm.py --python .vllm/bin/python         # starts a server (make vllm)
    OMP_NUM_THREADS=1 python scripts/bench_vllm.py --url http://127.0.0.1:8000/v1    # one that runs, on the same model

Rows are groups of one case, all of the same length: nothing ends them. Each is sampled as the starting model, as an
adapter, and as one whose weights have just changed, which is written, loaded and sampled from: what a step of policy
optimization does. Prompts are new each time, so that no cache of prefixes helps.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch

from rrm.models.adapters import RANK
from rrm.models.backbone import Backbone
from rrm.models.fetching import located
from rrm.models.fork import Fork
from rrm.models.packing import PrefixGroup
from rrm.models.sampling import Sampled, Sampler, sample
from rrm.models.vllm_sampler import VLLMSampler, VLLMSetting

READY = 600
"""Seconds until a server has started, at most."""


@dataclass(frozen=True)
class Args:
    """What is sampled."""

    model: str = "smollm2"
    """A name or a folder; a server that is started serves the same."""
    groups: int = 8
    """Cases."""
    n: int = 8
    """Outcomes of each."""
    tokens: int = 32
    """Of each outcome."""
    runs: int = 5
    """Of each kind, in turn; medians are told."""


@contextmanager
def serving(
    python: str, model: str, port: int = 0, log: Path | None = None, end: signal.Signals = signal.SIGTERM
) -> Iterator[str]:
    """A vLLM server on loopback, on a processor or whatever that environment's vLLM is for, in float32, ready to load
    adapters; gives its address. `end`: how it and its workers are ended. Raises `RuntimeError` if it does not start."""
    if not port:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
    environment = os.environ | {
        "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1", "VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1", "HF_HUB_OFFLINE": "1",
        "VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    }  # fmt: skip
    environment.pop("PYTHONPATH", None)
    folder = located(model) or Path(model)
    command = [
        python, "-m", "vllm.entrypoints.openai.api_server", "--model", str(folder), "--served-model-name", "base",
        "--host", "127.0.0.1", "--port", str(port), "--dtype", "float32", "--max-model-len", "512", "--max-num-seqs",
        "64", "--enforce-eager", "--enable-lora", "--max-lora-rank", str(RANK), "--max-loras", "2",
        "--max-cpu-loras", "4",
        # In pieces, a prompt with a seed of its own ends vllm-cpu 0.32: "CPU Generator does not use offset".
        "--no-enable-chunked-prefill", "--max-num-batched-tokens", "2048",
    ]  # fmt: skip
    with log.open("ab") if log is not None else open(os.devnull, "wb") as out:
        process = subprocess.Popen(
            command, env=environment, stdout=out, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            _wait(process, port)
            yield f"http://127.0.0.1:{port}/v1"
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, end)
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def _wait(process: subprocess.Popen[bytes], port: int) -> None:
    began = time.monotonic()
    while time.monotonic() - began < READY:
        if process.poll() is not None:
            raise RuntimeError(f"the server ended with {process.returncode}; see its log")
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(1)
    raise RuntimeError(f"the server is not ready after {READY} s; see its log")


def moved(fork: Fork, seed: int) -> None:
    """Other weights, as a step of training leaves them."""
    drawn = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for key, parameter in fork.trainable.items():
            if "lora_B" in key:
                parameter.add_(torch.randn(parameter.shape, generator=drawn) * 0.005)


def prompts(fork: Fork, args: Args, run: str) -> dict[str, tuple[int, ...]]:
    """A text for each case, new for each run, and its token ids."""
    backbone = fork.backbone
    assert isinstance(backbone, Backbone)
    names = [f"{run}, case {i}: is the claim right that {i} and {i + 1} are {2 * i + 1}?" for i in range(args.groups)]
    return {name: backbone.render(name) for name in names}


def timed(sampler: Sampler, fork: Fork, args: Args, run: str) -> tuple[float, list[list[Sampled]]]:
    """Tokens a second, and what was sampled."""
    cases = prompts(fork, args, run)
    began = time.perf_counter()
    found = sampler(fork, [*cases.values()], args.n, args.tokens, 1.0, [*cases], ())
    return sum(len(ids) for row in found for ids, _, _ in row) / (time.perf_counter() - began), found


def main() -> None:
    """Sample in turn, and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, value in asdict(Args()).items():
        parser.add_argument(f"--{name}", type=type(value), default=value)
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--url", default="", help="of a server that runs, up to /v1")
    where.add_argument("--python", default="", help="of an environment with vLLM, to start a server with")
    given = vars(parser.parse_args())
    url, python = given.pop("url"), given.pop("python")
    args = Args(**given)
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))  # so that the server is ended, too
    with nullcontext(url) if url else serving(python, args.model, log=Path("vllm.log")) as address:
        print(json.dumps(compare(args, address), indent=2))


def compare(args: Args, url: str) -> dict[str, object]:
    """Medians of tokens a second, and the largest difference of a log-probability to ours."""
    backbone = Backbone.load(args.model, adapters="lora", device="cpu")
    served = VLLMSampler(VLLMSetting(url, check=2))
    fork = backbone.fork("bench")
    moved(fork, 0)
    kinds = {"start": backbone.start, "adapter": fork, "adapter that changed": fork}
    speeds: dict[str, list[float]] = {f"{who}, {kind}": [] for kind in kinds for who in ("own", "vllm")}
    apart = 0.0
    few = replace(args, groups=1, n=2, tokens=4)
    for run in range(args.runs + 1):  # the first warms up
        for kind, policy in kinds.items():
            if kind == "adapter that changed":
                moved(fork, run + 1)
            for who, sampler in (("own", sample), ("vllm", served)):
                speed, found = timed(sampler, policy, args if run else few, f"run {run}, {kind}")  # type: ignore[arg-type]
                if run:
                    speeds[f"{who}, {kind}"].append(speed)
                if who == "vllm" and run == args.runs:
                    apart = max(apart, _apart(policy, args, f"run {run}, {kind}", found))
    served.close()
    told = {name: {"median": statistics.median(each), "all": [round(one, 1) for one in each]}
            for name, each in speeds.items()}  # fmt: skip
    return {"args": asdict(args), "threads": torch.get_num_threads(), "tokens a second": told,
            "largest difference of a log-probability, nats": apart}  # fmt: skip


def _apart(fork: Fork, args: Args, run: str, found: list[list[Sampled]]) -> float:
    cases = prompts(fork, args, run).values()
    groups = [PrefixGroup(ids, [one[0] for one in row]) for ids, row in zip(cases, found, strict=True)]
    with torch.no_grad():
        ours = [own for row in fork.logprobs(groups) for own in row]
    theirs = [torch.tensor(values) for row in found for _, values, _ in row]
    return max(float((own - other).abs().max()) for own, other in zip(ours, theirs, strict=True))


if __name__ == "__main__":
    main()
