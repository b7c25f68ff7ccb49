"""`python -m tests.endpoint.training OUT URL`: a small paper tree judged by a model at URL."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import torch

from rrm import Assistant, train
from rrm.users.endpoint import EndpointUser
from tests.label.training import tree


def run(out: Path, url: str) -> Assistant:
    torch.set_num_threads(1)
    return train(tree(), EndpointUser(base_url=url, model="m", concurrency=2, retries=0), "embedded", out)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs start with it ignored
    try:
        run(Path(sys.argv[1]), sys.argv[2])
    except KeyboardInterrupt:
        sys.exit(130)
    print("finished")
