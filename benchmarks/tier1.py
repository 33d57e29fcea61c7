"""The benchmarks that every pull request runs: small, quick, and without arguments, so that `calibrax profile` can measure them.

    calibrax profile --module benchmarks.tier1 --function compare --warmup 3 --iterations 20 --data benchmark-data

`calibrax profile` times each call of the function, so what a benchmark needs is made once, outside it, by a cached function.
To copy this for a project of your own, keep that shape and put your own work into the functions."""
import tempfile
from functools import cache
from pathlib import Path

import jax
import jax.numpy as jnp

from calibrax import CIGuard, Metric, MetricDef, Point, Run, Store, compare_runs, time_calls

POINTS = 100        # in every run: as many as the comparison of five frameworks on twenty cases


@cache
def definitions():
    "Two metrics, one for each direction"
    return {'throughput': MetricDef(name='throughput', unit='1/s', direction='higher'), 'latency': MetricDef(name='latency', unit='ms', direction='lower')}


def made(shift: float) -> Run:
    "A run whose values are `shift` away from the reference"
    points = [Point(name=f'case-{i:03d}', scenario='tier1', tags={'framework': f'f{i % 5}'},
                    metrics={'throughput': Metric(value=1000.0 + i + shift), 'latency': Metric(value=10.0 + i/10 - shift/100)}) for i in range(POINTS)]
    return Run(points=points, metric_defs=definitions())


@cache
def two_runs(): return made(0.0), made(1.0)

@cache
def store():
    "A store with a baseline and one run, in a temporary folder that goes when the process ends"
    folder = tempfile.TemporaryDirectory()
    filled = Store(Path(folder.name)/'benchmark-data')
    before, after = two_runs()
    for run in (before, after): filled.save(run)
    filled.set_baseline(before.id)
    return filled, folder


# --- measured: each hands back a number, which is there only when the work is done -----------------------------------------

def build() -> int:
    "Build a run of 100 points: every record is checked when it is made"
    return len(made(2.0).points)

def round_trip() -> int:
    "Write a run as JSON and read it again"
    return len(Run.from_json(two_runs()[0].to_json()).points)

def save_and_load() -> int:
    "Put a new run on the disk, safely, and read it back"
    kept, run = store()[0], made(3.0)
    kept.save(run)
    return len(kept.load(run.id).points)

def compare() -> int:
    "Compare two runs of 100 points and two metrics"
    before, after = two_runs()
    return len(compare_runs(after, before, 0.05).changes)

def check() -> int:
    "What `calibrax check` does once it has started: read baseline and latest run, compare them"
    return CIGuard(store()[0], 0.05).check().exit_code

@cache
def step():
    "A compiled call whose run time is small next to what measuring it costs"
    multiply, x = jax.jit(lambda x: jnp.tanh(x) @ x.T), jnp.ones((8, 8))
    return lambda: multiply(x)

def measure() -> int:
    "Time a small compiled call: what measuring costs"
    return len(time_calls(step(), warmup=1, iterations=5).samples_sec)
