"""Scores of generated images beside torchmetrics on the same features: seconds, value, and memory as the number of images grows.

    python benchmarks/plugins.py [--peers-python PYTHON] [--rounds 3] [--only fid kid memory bootstrap] [--json FILE]

Features stand for what a network would give: 2048 numbers an image, rectified and correlated, as those of InceptionV3 are. Each
library takes them in batches of 250 in a fresh process of its own; torchmetrics gets a network that hands them on. For time, the
features are made and converted beforehand, and the libraries take turns, round by round: a figure is the median of the rounds,
and the ratio the median of the ratios by round. For memory, they are made batch by batch, and what counts is the peak of the
process beyond what it had with the libraries loaded.

The peer is found in the Python that is running, or in the one given by --peers-python; without it only memory is judged. The exit
status is 1 when a bar is missed. Nothing else should run on the machine meanwhile."""
import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Any

SIZE, BATCH, IMAGES = 2048, 250, 10_000
LIBRARIES = ('ours', 'torchmetrics')
COUNTS = (2_000, 10_000, 50_000)        # images on each side, for memory
GROWTH = 32                             # MiB that the peak may differ by between these: the noise of the allocators
CLOSE = 1e-3                            # relative difference that two FIDs may have


# --- what a worker does --------------------------------------------------------------------------------------------------

def batches(images: int) -> Iterator[tuple[Any, Any]]:
    "Real and generated features, batch by batch, the same for every library"
    import numpy as np
    mix = np.random.default_rng(0).standard_normal((64, SIZE), dtype=np.float32)/8
    for k in range(images//BATCH):
        rng = np.random.default_rng((1, k))
        def side(shift: float) -> Any: return np.maximum(rng.standard_normal((BATCH, 64), dtype=np.float32) @ mix + .5*rng.standard_normal((BATCH, SIZE), dtype=np.float32) + np.float32(shift), 0)
        yield side(.2), side(.25)

def ours(task: str) -> tuple[Any, Callable[[Any], Any]]:
    "The metric, and what turns an array into what it takes"
    from calibrax.metrics.plugins.image import FIDMetric, KIDMetric
    metric = FIDMetric() if task == 'fid' else KIDMetric()
    class Metric:
        def update(self, real: Any, generated: Any) -> None: metric.update(real=real, generated=generated)
        def compute(self) -> float: return next(iter(metric.compute().values()))
        def reset(self) -> None: metric.reset()
    return Metric(), lambda x: x

def torchmetrics(task: str) -> tuple[Any, Callable[[Any], Any]]:
    import torch
    from torchmetrics.image.fid import FrechetInceptionDistance
    from torchmetrics.image.kid import KernelInceptionDistance
    class HandsOn(torch.nn.Module):
        num_features = SIZE
        def forward(self, x: Any) -> Any: return x
    metric = FrechetInceptionDistance(feature=HandsOn()) if task == 'fid' else KernelInceptionDistance(feature=HandsOn(), subsets=100, subset_size=1000)
    class Metric:
        def update(self, real: Any, generated: Any) -> None: metric.update(real, real=True); metric.update(generated, real=False)
        def compute(self) -> float: found = metric.compute(); return float(found[0] if isinstance(found, tuple) else found)
        def reset(self) -> None: metric.reset()
    return Metric(), torch.from_numpy

def peak_kib() -> int:
    import resource
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

def say(x: object) -> None: print(json.dumps(x), flush=True)

def metric_of(library: str, task: str) -> tuple[Any, Callable[[Any], Any]]: return {'ours': ours, 'torchmetrics': torchmetrics}[library](task)

def timed(library: str, task: str) -> None:
    "Answer a line of JSON for each line of input"
    try: metric, convert = metric_of(library, task)
    except ImportError as e: return say({'missing': str(e)})
    data = [(convert(a), convert(b)) for a, b in batches(IMAGES)]
    say({'ready': True})
    for _ in sys.stdin:
        metric.reset()
        start = time.perf_counter()
        for real, generated in data: metric.update(real, generated)
        middle = time.perf_counter()
        value = metric.compute()
        say({'updates': middle - start, 'compute': time.perf_counter() - middle, 'value': value})

def memory_of(library: str, images: int) -> None:
    try: metric, convert = metric_of(library, 'fid')
    except ImportError as e: return say({'missing': str(e)})
    before = peak_kib()
    for a, b in batches(images): metric.update(convert(a), convert(b))
    value = metric.compute()
    say({'peak': (peak_kib() - before)*1024, 'value': value})


# --- parts ---------------------------------------------------------------------------------------------------------------

class Worker:
    def __init__(self, python: str, *arguments: str) -> None:
        self.process = subprocess.Popen([python, __file__, '--worker', *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        self.first = self.answer()

    def answer(self) -> dict[str, Any]:
        assert self.process.stdout
        line = self.process.stdout.readline()
        return json.loads(line) if line else {'missing': 'the process ended'}

    def round(self) -> dict[str, Any]:
        assert self.process.stdin
        print(file=self.process.stdin, flush=True)
        return self.answer()

    def close(self) -> None: self.process.communicate()

Part = Callable[[argparse.Namespace], tuple[dict[str, Any], bool]]      # what was found, and whether the bars were met

def show(columns: tuple[str, ...], rows: list[tuple[str, ...]], caption: str) -> None:
    from calibrax.core.display import Table
    print(Table(columns, tuple(rows), caption, widest=60), end='\n\n')

def compared(task: str, options: argparse.Namespace) -> tuple[dict[str, Any], list[float] | None]:
    "Rounds of both libraries in turns, and how many times longer the peer took in each"
    workers = {n: Worker(options.pythons[n], 'time', n, task) for n in LIBRARIES}
    there = {n: w for n, w in workers.items() if 'missing' not in w.first}
    rounds = [{n: w.round() for n, w in there.items()} for _ in range(options.rounds)]
    for w in workers.values(): w.close()
    found = {n: {'updates': median(r[n]['updates'] for r in rounds), 'compute': median(r[n]['compute'] for r in rounds), 'value': rounds[-1][n]['value']} for n in there}
    def total(one: dict[str, Any]) -> float: return one['updates'] + one['compute']
    ratios = [total(r['torchmetrics'])/total(r['ours']) for r in rounds] if 'torchmetrics' in there else None
    show(('library', 'updates', 'compute', 'value'), [(n, f"{f['updates']:.2f} s", f"{f['compute']:.2f} s", f"{f['value']:.6g}") for n, f in found.items()],
         f"{task.upper()} of {IMAGES:,} and {IMAGES:,} vectors of {SIZE}" + (f': {median(ratios):.1f} times as fast' if ratios else ''))
    return found, ratios

def fid(options: argparse.Namespace) -> tuple[dict[str, Any], bool]:
    "Equal to the peer's, in less time"
    found, ratios = compared('fid', options)
    if ratios is None: return found, True
    apart = abs(found['ours']['value']/found['torchmetrics']['value'] - 1)
    good = apart <= CLOSE and median(ratios) > 1
    print(f"relative difference {apart:.1e} (bar {CLOSE:g}), ratio {median(ratios):.1f} (bar 1): {'met' if good else 'MISSED'}\n")
    return {**found, 'difference': apart, 'ratio': median(ratios), 'met': good}, good

def kid(options: argparse.Namespace) -> tuple[dict[str, Any], bool]:
    "In less time; the subsets are random, so the values agree only about"
    found, ratios = compared('kid', options)
    good = ratios is None or median(ratios) > 1
    return {**found, 'ratio': ratios and median(ratios), 'met': good}, good

def memory(options: argparse.Namespace) -> tuple[dict[str, Any], bool]:
    "Peak memory of FID, which must not depend on how many images there are"
    found: dict[str, Any] = {}
    for library in LIBRARIES:
        peaks = []
        for images in COUNTS:
            worker = Worker(options.pythons[library], 'memory', library, str(images))
            worker.close()
            if 'missing' not in worker.first: peaks.append(worker.first['peak']/2**20)
        if peaks: found[library] = peaks
    good = max(found['ours']) - min(found['ours']) <= GROWTH
    show(('library', *(f'{n:,}' for n in COUNTS)), [(n, *(f'{p:.0f} MiB' for p in peaks)) for n, peaks in found.items()], 'FID: peak memory by the number of images on each side')
    print(f"grows by {max(found['ours']) - min(found['ours']):.0f} MiB (bar {GROWTH}): {'met' if good else 'MISSED'}\n")
    return {**found, 'met': good}, good

def bootstrap(options: argparse.Namespace) -> tuple[dict[str, Any], bool]:
    "BootstrapMetric on 200,000 rows with 1,000 resamples, in at most 2 GB: the table of benchmarks/wrappers.py"
    good = subprocess.run([sys.executable, str(Path(__file__).with_name('wrappers.py'))], check=False).returncode == 0
    return {'met': good}, good

PARTS: dict[str, Part] = {'fid': fid, 'kid': kid, 'memory': memory, 'bootstrap': bootstrap}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--rounds', type=int, default=3)
    parser.add_argument('--only', nargs='*', choices=list(PARTS), default=list(PARTS))
    parser.add_argument('--peers-python', default=sys.executable)
    parser.add_argument('--json')
    parser.add_argument('--worker', nargs=3)
    options = parser.parse_args()
    if options.worker:
        what, library, argument = options.worker
        if what == 'time': timed(library, argument)
        else: memory_of(library, int(argument))
        return 0
    options.pythons = {n: sys.executable if n == 'ours' else options.peers_python for n in LIBRARIES}
    found, good = {}, True
    for part in options.only:
        found[part], met = PARTS[part](options)
        good &= met
    if options.json: open(options.json, 'w', encoding='utf-8').write(json.dumps(found, indent=1) + '\n')
    return 0 if good else 1


if __name__ == '__main__': sys.exit(main())
