"""How far `time_calls` is from a blocking loop written by hand, and its compile time from JAX's own `lower` and `compile`.

    python benchmarks/timing.py [--rounds 20]

Both sides measure the same jitted function in alternating rounds, so that a machine that gets slower slows both. Each round
gives a ratio of two medians; the figure is the median ratio. Targets: within 2 % for run time, within 10 % for compile time.
The exit status is 1 when a target is missed. Nothing else should run on the machine meanwhile."""
import argparse
import sys
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import jax
import jax.numpy as jnp

from calibrax.core.display import Table
from calibrax.core.measurements import format_seconds
from calibrax.profiling.timing import TimingCollector, time_calls

RUN_TARGET, COMPILE_TARGET = 0.02, 0.10
DURATIONS = (10e-6, 100e-6, 1e-3, 10e-3, 100e-3)    # seconds


@jax.jit
def work(x: jax.Array, turns: jax.Array) -> jax.Array:
    "As long as wanted: a loop on one core whose steps cannot be skipped"
    return jax.lax.fori_loop(0, turns, lambda i, y: y*0.999 + x, x)


def by_hand(call: Callable[[], jax.Array], warmup: int, iterations: int) -> float:
    "The loop that anybody would write"
    for _ in range(warmup): call().block_until_ready()
    samples = []
    for _ in range(iterations):
        start = time.perf_counter()
        call().block_until_ready()
        samples.append(time.perf_counter() - start)
    return median(samples)


def turns_for(seconds: float, x: jax.Array) -> jax.Array:
    "How many turns of `work` last about so long"
    def lasts(turns: int, iterations: int) -> float:
        n = jnp.int32(turns)
        return by_hand(lambda: work(x, n), 3, iterations)
    per_turn, turns = (lasts(101_000, 50) - lasts(1000, 50))/100_000, 1000
    for _ in range(4): turns = max(1, turns + round((seconds - lasts(turns, max(3, round(0.02/seconds))))/per_turn))
    return jnp.int32(turns)


def alternate(rounds: int, ours: Callable[[], float], theirs: Callable[[], float]) -> list[tuple[float, float]]:
    "One measurement of each side a round, now this one first, now that one"
    pairs = []
    for i in range(rounds):
        if i % 2: t = theirs(); o = ours()
        else: o = ours(); t = theirs()
        pairs.append((o, t))
    return pairs


def row(name: str, pairs: list[tuple[float, float]], target: float) -> tuple[tuple[str, ...], bool]:
    ratios = sorted(o/t for o, t in pairs)
    ratio = median(ratios)
    good = abs(ratio - 1) <= target
    return (name, format_seconds(median(o for o, _ in pairs)), format_seconds(median(t for _, t in pairs)), f'{ratio:.4f}',
            f'{ratios[0]:.3f} – {ratios[-1]:.3f}', f'± {target:.0%}', 'yes' if good else 'NO'), good


def run_time(rounds: int) -> tuple[Table, bool]:
    x, rows = jnp.ones(8), []
    for seconds in DURATIONS:
        turns = turns_for(seconds, x)
        n = min(2000, max(5, round(0.2/seconds)))
        def call() -> jax.Array: return work(x, turns)
        pairs = alternate(rounds, lambda: time_calls(call, iterations=n).median_sec, lambda: by_hand(call, 3, n))
        rows.append(row(format_seconds(seconds), pairs, RUN_TARGET))
    columns = ('function of', 'time_calls', 'loop by hand', 'median ratio', 'ratios by round', 'target', 'met')
    return Table(columns, tuple(r for r, _ in rows), f'Run time, {rounds} rounds'), all(good for _, good in rows)


def network(width: int) -> Callable[..., Any]:
    "A new training step, which no cache of JAX knows"
    def loss(weights: list[jax.Array], x: jax.Array) -> jax.Array:
        for w in weights: x = jnp.tanh(x @ w)
        return (x**2).mean()
    def step(weights: list[jax.Array], x: jax.Array) -> list[jax.Array]:
        return [w - width*1e-4*g for w, g in zip(weights, jax.grad(loss)(weights, x))]
    return step


def ahead_of_time(arguments: tuple[Any, ...]) -> float:
    "Seconds of JAX's own `lower` and `compile`"
    function = jax.jit(network(1))
    start = time.perf_counter()
    function.lower(*arguments).compile()
    return time.perf_counter() - start


def within_calls(arguments: tuple[Any, ...]) -> float:
    "The compile time that `time_calls` reports"
    function = jax.jit(network(1))
    seconds = time_calls(lambda: function(*arguments), warmup=1, iterations=1, loops=1).compile_sec
    if seconds is None: raise SystemExit('nothing was compiled: unset JAX_COMPILATION_CACHE_DIR')
    return seconds


def compile_time(rounds: int) -> tuple[Table, bool]:
    rows = []
    for layers in (2, 8, 32):
        arguments = [jnp.eye(64)]*layers, jnp.ones((16, 64))
        collector = TimingCollector()
        sides = {'time_calls': lambda: within_calls(arguments),
                 'measure_compilation_time': lambda: collector.measure_compilation_time(network(1), *arguments)}
        for name, ours in sides.items():
            rows.append(row(f'{layers} layers, {name}', alternate(rounds, ours, lambda: ahead_of_time(arguments)), COMPILE_TARGET))
    columns = ('training step of', 'calibrax', 'lower + compile', 'median ratio', 'ratios by round', 'target', 'met')
    return Table(columns, tuple(r for r, _ in rows), f'Compile time, {rounds} rounds'), all(good for _, good in rows)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--rounds', type=int, default=20, help='rounds for each function (default 20)')
    rounds = parser.parse_args().rounds
    met = []
    for measure in (run_time, compile_time):
        table, good = measure(rounds)
        print(table, end='\n\n', flush=True)
        met.append(good)
    return 0 if all(met) else 1


if __name__ == '__main__': sys.exit(main())
