"""A process that generates with a cache and is killed by the test: ``killed_generation.py <model> <cache>``."""

import sys
import time
from typing import Any

import torch

from lit_fed.backbones import CausalLM
from lit_fed.backbones.generation.answer_cache import AnswerCache

PROMPTS = [" ".join("abcdefghij"[i:] + "klm"[: i % 3]) for i in range(10)]

if __name__ == "__main__":
    add = AnswerCache.add

    def slowly(self: AnswerCache, answers: Any) -> None:
        add(self, answers)
        print(len(self), flush=True)
        if len(self) >= 6:
            time.sleep(600)  # killed here, with a batch under way that is not kept

    AnswerCache.add = slowly  # type: ignore[method-assign]
    torch.manual_seed(0)  # of LoRA's first values
    CausalLM(sys.argv[1]).generate(PROMPTS, max_new_tokens=8, batch_size=2, cache=sys.argv[2])
