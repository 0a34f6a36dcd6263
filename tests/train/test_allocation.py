"""What a process has freed it uses again."""

from __future__ import annotations

import subprocess
import sys

import pytest

PAGES = 40 * 2**20 // 4096  # of a tensor, larger than any that glibc keeps in its heap by itself
STEPS = 10


@pytest.mark.skipif(sys.platform != "linux", reason="another C library has another allocator")
@pytest.mark.parametrize(("call", "least", "most"), [("keep_freed_memory()", 0, PAGES), ("pass", STEPS * PAGES, 10**9)])
def test_pages_of_tensors_are_cleared_once(call: str, least: int, most: int) -> None:
    program = f"""
import resource
import torch
from vae_gen_train.allocation import keep_freed_memory

def step():
    torch.ones({PAGES} * 4096, dtype=torch.uint8)

{call}
for _ in range(20):  # until the heap is large enough
    step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range({STEPS}):
    step()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert least <= int(done.stdout) < most
