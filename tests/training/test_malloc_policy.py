"""What a step frees is there for the next one: no page is asked for again."""

import platform
import subprocess
import sys
import textwrap

import pytest
import torch

from dino_speech.training.operating_system import freed_memory_kept

GLIBC = sys.platform.startswith("linux") and platform.libc_ver()[0] == "glibc"


def test_it_can_be_left_off() -> None:
    with freed_memory_kept(on=False) as worked:
        assert not worked


def test_it_says_whether_it_worked_and_leaves_no_trace_in_numbers() -> None:
    before = torch.arange(1000.0).exp().sum()
    with freed_memory_kept() as worked:
        assert worked == GLIBC
        assert torch.equal(torch.arange(1000.0).exp().sum(), before)


@pytest.mark.slow
@pytest.mark.skipif(not GLIBC, reason="needs glibc")
def test_large_tensors_are_given_the_memory_of_former_ones() -> None:
    code = """
        import pathlib, resource, torch
        from dino_speech.training.operating_system import freed_memory_kept
        def held_mb():
            return int(pathlib.Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() // 10**6
        def faults():
            def step():
                return sum(float(part.sum()) for part in [torch.ones(12_000_000) for _ in range(4)])  # 48 MB each
            for _ in range(5):  # where small things lie between the large ones, it takes some steps
                step()
            before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
            step()
            return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
        without = faults()
        with freed_memory_kept():
            within, held = faults(), held_mb()
        print(without, within, held - held_mb())
    """
    found = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True)
    without, within, given_back_mb = map(int, found.stdout.split())
    assert within < 0.1 * without
    assert given_back_mb > 150
