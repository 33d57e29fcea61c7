"""What profiling costs, and whether the operations it counts are the true ones.

    python benchmarks/profiling.py [--rounds 30]

1. What a `ResourceMonitor` that reads 10 times a second takes of a busy program: the processor time of its thread, by that
   thread's own clock. Target: at most 1 %. Beside it the least time of the same program with and without in many short turns, and
   that of the program against itself, which says how far such a figure can be trusted on this machine.
2. How often `profile` runs a function beside the calls that it times. Target: at most 3.
3. Floating-point operations by hand, by calibrax and by XLA's own cost analysis. Target: within 1 %, or reported unknown.
4. Where NVML has a GPU: the energy of 20 windows of 5 s, their spread, and the counter against integrated power. Targets: 3 % and 10 %.

The exit status is 1 when a target is missed. Nothing else should run on the machine meanwhile."""
import argparse
import math
import random
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from statistics import mean, median, stdev
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from calibrax.core.display import Table, format_si
from calibrax.core.errors import CalibraxError
from calibrax.profiling import ResourceMonitor, count_flops, profile
from calibrax.profiling.energy import EnergyMonitor
from calibrax.profiling.gpu import detect_gpus

MONITOR_TARGET, CALLS_TARGET, FLOPS_TARGET = 0.01, 3, 0.01
SPREAD_TARGET, METHODS_TARGET = 0.03, 0.10


# --- 1: the monitor --------------------------------------------------------------------------------------------------------

def busy(turns: int, block: np.ndarray) -> float:
    "Work that keeps one core busy, half in Python and half in NumPy"
    total = 0.0
    for i in range(turns):
        total += sum(j*0.5 for j in range(300))
        total += float((block*0.999).sum())
    return total


def seconds(turns: int, block: np.ndarray, watched: AbstractContextManager[Any]) -> float:
    "Processor time of the work; on a shared machine the clock on the wall counts the neighbours too"
    with watched:
        start = time.process_time()
        busy(turns, block)
        return time.process_time() - start


def thread_share(seconds: float) -> float:
    "Processor time of the sampling thread while the program is busy, as a share of the time"
    block, before = np.ones(20_000), set(threading.enumerate())
    with ResourceMonitor(sample_interval_sec=0.1) as monitor:
        thread, = (t for t in threading.enumerate() if t.daemon and t is not threading.main_thread() and t not in before)
        clock, start = time.pthread_getcpuclockid(thread.ident), time.perf_counter()
        while time.perf_counter() < start + seconds: busy(20, block)
        share = time.clock_gettime(clock)/(time.perf_counter() - start)
    assert monitor.summary.num_samples > 5*seconds
    return share


def monitor_overhead(rounds: int) -> tuple[float, float]:
    "Least processor time with the monitor over the least without, and the same of the program against itself; in shuffled turns"
    block, order = np.ones(20_000), random.Random(0)
    turns = max(1, round(0.5/(seconds(200, block, nullcontext())/200)))
    kinds = {'monitored': lambda: ResourceMonitor(sample_interval_sec=0.1), 'alone': nullcontext, 'alone again': nullcontext}
    taken: dict[str, list[float]] = {kind: [] for kind in kinds}
    for _ in range(rounds):
        for kind in order.sample(list(kinds), 3): taken[kind].append(seconds(turns, block, kinds[kind]()))
    least = {kind: min(times) for kind, times in taken.items()}
    return least['monitored']/least['alone'] - 1, least['alone again']/least['alone'] - 1


# --- 2: the calls ----------------------------------------------------------------------------------------------------------

def calls_beside(warmup: int, iterations: int) -> int:
    "Python calls of a function that JAX cannot compile away, beside those asked for"
    calls = 0
    compiled = jax.jit(lambda x: jnp.sin(x)@x)
    x = jnp.ones((300, 300))
    def counted() -> jax.Array:
        nonlocal calls
        calls += 1
        return compiled(x)
    profile(counted, warmup=warmup, iterations=iterations)
    return calls - warmup - iterations


# --- 3: the operations -----------------------------------------------------------------------------------------------------

def programs() -> Iterator[tuple[str, Callable[..., Any], tuple[Any, ...], float | None]]:
    "Name, function, arguments and the operations counted by hand; None where no number is right"
    n = 64
    a = jnp.eye(n)
    x, w, b = jnp.ones((128, 256)), jnp.ones((256, 64)), jnp.ones(64)
    yield 'dense 128×256 → 64', lambda x, w, b: x@w + b, (x, w, b), 2*128*256*64 + 128*64
    yield 'scan, 10 products', lambda a: jax.lax.scan(lambda c, _: (c@a, None), a, length=10)[0], (a,), 10*2*n**3
    yield 'fori_loop, 10 products', lambda a: jax.lax.fori_loop(0, 10, lambda _, c: c@a, a), (a,), 10*2*n**3
    yield 'fori_loop, bound an argument', jax.jit(lambda a, k: jax.lax.fori_loop(0, k, lambda _, c: c@a, a)), (a, 10), 10*2*n**3
    yield 'while_loop until it converges', lambda a: jax.lax.while_loop(lambda c: jnp.abs(c).max() < 10, lambda c: c@a*1.1, a), (a,), None
    yield 'cond, equal branches', lambda p, a: jax.lax.cond(p, lambda m: m@m, lambda m: m@m.T, a), (jnp.bool_(True), a), 2*n**3
    def mlp(w1: jax.Array, w2: jax.Array, x: jax.Array) -> jax.Array: return (jax.checkpoint(lambda v: jnp.maximum(v@w1, 0))(x)@w2).sum()
    w1, w2 = jnp.ones((256, 128)), jnp.ones((128, 64))
    # forward 256·128 and once more in the backward pass, its two gradients less that of x, and one gradient of each factor of w2
    yield 'remat, gradient of an MLP', jax.grad(mlp, argnums=(0, 1)), (w1, w2, x), 2*128*(3*256*128 + 2*128*64)
    yield 'Cholesky 256', lambda m: jax.lax.linalg.cholesky(m, symmetrize_input=False), (jnp.eye(256),), 256**3/3 + 256**2/2 + 256/6
    image, kernel = jnp.ones((8, 16, 32, 32)), jnp.ones((32, 16, 3, 3))
    yield 'convolution 3×3, 16 → 32', lambda i, k: jax.lax.conv(i, k, (1, 1), 'VALID'), (image, kernel), 2*8*32*16*9*30*30
    heads = jnp.ones((4, 128, 8, 64))
    yield 'attention, 8 heads of 64', lambda q, k, v: jax.nn.dot_product_attention(q, k, v), (heads,)*3, 4*8*128*128*(2*2*64 + 5)    # and 5 for the softmax with its scale


def operations() -> tuple[Table, bool]:
    rows, good = [], True
    for name, fn, args, by_hand in programs():
        try: found = count_flops(fn, *args)
        except CalibraxError as e: raise SystemExit(f'{name}: {e}') from e
        error = None if by_hand is None or found.total_flops is None else found.total_flops/by_hand - 1
        right = found.total_flops is None if by_hand is None else error is None or abs(error) <= FLOPS_TARGET
        good &= right
        rows.append((name, format_si(by_hand, 'FLOP') if by_hand else 'unknown', format_si(found.total_flops, 'FLOP') if found.total_flops else 'unknown',
                     '' if error is None else f'{100*error:+.2f}%', format_si(found.xla_flops, 'FLOP') if found.xla_flops else 'unknown', '' if right else 'missed'))
    return Table(('program', 'by hand', 'calibrax', 'error', 'XLA', ''), tuple(rows), 'floating-point operations of one call'), good


# --- 4: the energy of a GPU ------------------------------------------------------------------------------------------------

class PowerOnly:
    "A GPU without its energy counter, so that its power is integrated"
    def __init__(self, gpu: Any) -> None: self.power = gpu.power


def gpu_energy(windows: int, window: float) -> tuple[Table, bool] | None:
    "Joules of equal windows of work, by the counter and by integrated power; None without a GPU"
    gpus = [g for g in detect_gpus() if getattr(g, 'energy_joules', lambda: None)() is not None]
    if not gpus: return None
    x = jnp.ones((4096, 4096), jnp.bfloat16)
    work = jax.jit(lambda x: jax.lax.fori_loop(0, 50, lambda _, y: (y@x)*1e-4, x))
    work(x).block_until_ready()
    counted, integrated = [], []
    for _ in range(windows):
        with EnergyMonitor(0.05, gpu=gpus[0]) as counter, EnergyMonitor(0.05, gpu=PowerOnly(gpus[0])) as power:
            end = time.perf_counter() + window
            while time.perf_counter() < end: work(x).block_until_ready()
        counted.append((counter.summary.total_gpu_energy_joules or math.nan)/counter.summary.duration_sec)
        integrated.append((power.summary.total_gpu_energy_joules or math.nan)/power.summary.duration_sec)
    spread, apart = stdev(counted)/mean(counted), mean(integrated)/mean(counted) - 1
    rows = (('mean power by the counter', f'{mean(counted):.1f} W', ''), ('spread of the windows', f'{100*spread:.2f}%', f'target {100*SPREAD_TARGET:.0f}%'),
            ('integrated power against the counter', f'{100*apart:+.2f}%', f'target {100*METHODS_TARGET:.0f}%'))
    return Table(('energy', 'value', ''), rows, f'{windows} windows of {window:g} s on {gpus[0].name}'), spread <= SPREAD_TARGET and abs(apart) <= METHODS_TARGET


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--rounds', type=int, default=30, help='turns of half a second with the monitor and without')
    options = parser.parse_args()
    share = median(thread_share(2.0) for _ in range(5))
    more, itself = monitor_overhead(options.rounds)
    print(f'ResourceMonitor at 10 Hz: its thread takes {100*share:.2f}% of a core, target 1%; the program with it needs {100*more:+.2f}% processor time '
          f'(against itself {100*itself:+.2f}%)')
    beside = calls_beside(3, 20)
    print(f'profile: {beside} call(s) beside the {23} it was asked for, target {CALLS_TARGET}\n')
    table, right = operations()
    print(table)
    energy = gpu_energy(20, 5.0)
    print('\nno GPU with an energy counter here: part 4 was skipped' if energy is None else f'\n{energy[0]}')
    return int(share > MONITOR_TARGET or beside > CALLS_TARGET or not right or (energy is not None and not energy[1]))


if __name__ == '__main__': sys.exit(main())
