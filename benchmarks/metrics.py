"""Metrics beside scikit-learn, torchmetrics and metrax on the same data: warm, cold and in memory.

    python benchmarks/metrics.py [--peers-python PYTHON] [--rounds 5] [--only auroc ece] [--json FILE]

Each library runs a task in a fresh process of its own, with its data made and converted beforehand. The first call is the cold one:
it compiles. Then the libraries take turns, round by round, so that a machine that gets slower slows all of them; a round is the
median of a few calls, after two that do not count since a system takes memory from those who wait. The figure is the median of the
rounds, and the ratio is the median of the ratios by round to the fastest other library. Memory is what the process needed at its
peak beyond what it had with the data in place.

The peers are found in the Python that is running, or in the one given by --peers-python; what is not installed is left out. The
exit status is 1 when a bar is missed. Nothing else should run on the machine meanwhile."""
import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable
from statistics import median
from typing import Any

LIBRARIES = ('ours', 'scikit-learn', 'torchmetrics', 'metrax')
# task → how many times faster than the best peer we must be, and what the task is
TASKS: dict[str, tuple[float, str]] = {
    'labels': (15, 'accuracy, macro F1 and confusion matrix, 1e6 labels of 10 classes'),
    'auroc': (3, 'AUROC, exact, 1e6 scores'),
    'ap': (3, 'average precision, exact, 1e6 scores'),
    'binned auroc': (1, 'AUROC from bins, 1e6 scores'),
    'errors': (0.95, 'MSE, MAE and R², 1e7 numbers'),
    'ece': (10, 'expected calibration error, 1e6 probabilities, 15 bins'),
    'cosine': (1.5, 'cosine distances of all pairs, 2000 vectors of 512'),
    'paired': (1, 'mean Euclidean distance of 1e6 pairs of 8 numbers'),
    'class scores': (0.9, 'accuracy of 1e5 samples from scores of 100 classes'),
}
COLD_BAR = 1.0      # seconds
Call = Callable[[], Any]


def data(task: str) -> tuple[Any, ...]:
    "The same numbers for every library, as NumPy arrays"
    import numpy as np
    rng, n = np.random.default_rng(0), 1_000_000
    if task == 'labels':
        y = rng.integers(0, 10, n)
        return y.astype(np.int32), np.where(rng.random(n) < 0.7, y, rng.integers(0, 10, n)).astype(np.int32)
    if task == 'errors':
        t = rng.standard_normal(10*n, dtype=np.float32)
        return t, t + np.float32(0.1)*rng.standard_normal(10*n, dtype=np.float32)
    if task == 'cosine': return (rng.standard_normal((2000, 512), dtype=np.float32),)
    if task == 'paired': return tuple(rng.standard_normal((n, 8), dtype=np.float32) for _ in range(2))
    if task == 'class scores': return rng.integers(0, 100, n//10).astype(np.int32), rng.standard_normal((n//10, 100), dtype=np.float32)
    s = rng.random(n, dtype=np.float32)
    return (rng.random(n) < s).astype(np.int32), s


def ours(task: str, arrays: tuple[Any, ...]) -> Call:
    import jax
    import jax.numpy as jnp

    from calibrax.metrics import MetricCollection, calculate_all
    from calibrax.metrics.functional import calibration as cal, classification as c, curves, distance
    a = [jnp.asarray(x) for x in arrays]
    ready = jax.block_until_ready
    if task == 'labels':
        three = MetricCollection({'accuracy': c.accuracy, 'f1': c.f1_score, 'confusion': c.confusion_matrix})
        return lambda: three.compute_functional(a[1], a[0], num_classes=10, average='macro')
    if task == 'errors': return lambda: ready(calculate_all(a[1], a[0], metrics=['mse', 'mae', 'r_squared']))
    if task == 'cosine': return lambda: ready(distance.cosine_distances(a[0]))
    if task == 'paired': return lambda: ready(distance.euclidean_distance(a[1], a[0]))
    if task == 'class scores': return lambda: ready(c.accuracy(a[1], a[0]))
    if task == 'auroc': return lambda: ready(curves.roc_auc(a[1], a[0]))
    if task == 'ap': return lambda: ready(curves.average_precision(a[1], a[0]))
    if task == 'binned auroc': return lambda: ready(curves.binned_roc_auc(a[1], a[0]))
    return lambda: ready(cal.expected_calibration_error(a[1], a[0], num_bins=15))


def sklearn(task: str, a: tuple[Any, ...]) -> Call | None:
    import sklearn.metrics as m
    if task == 'labels': return lambda: (m.accuracy_score(*a), m.f1_score(*a, average='macro'), m.confusion_matrix(*a))
    if task == 'errors': return lambda: (m.mean_squared_error(*a), m.mean_absolute_error(*a), m.r2_score(*a))
    if task == 'cosine': return lambda: m.pairwise.cosine_distances(a[0])
    if task == 'paired': return lambda: m.pairwise.paired_euclidean_distances(*a).mean()
    if task == 'class scores': return lambda: m.accuracy_score(a[0], a[1].argmax(1))
    if task == 'auroc': return lambda: m.roc_auc_score(*a)
    if task == 'ap': return lambda: m.average_precision_score(*a)
    return (lambda: sklearn_ece(*a)) if task == 'ece' else None

def sklearn_ece(y: Any, s: Any) -> Any:
    "scikit-learn has the curve only; the error is a line more"
    import numpy as np
    import sklearn.calibration
    true, predicted = sklearn.calibration.calibration_curve(y, s, n_bins=15)
    counts = np.histogram(s, np.linspace(0, 1, 16))[0]
    return (np.abs(true - predicted)*counts[counts > 0]).sum()/len(y)


def torchmetrics(task: str, arrays: tuple[Any, ...]) -> Call | None:
    import torch
    import torchmetrics.functional as f
    import torchmetrics.functional.classification as c
    a = [torch.from_numpy(x) for x in arrays]
    if task == 'labels':
        y, p = a[0].long(), a[1].long()
        return lambda: (c.multiclass_accuracy(p, y, 10, average='micro', validate_args=False), c.multiclass_f1_score(p, y, 10, validate_args=False),
                        c.multiclass_confusion_matrix(p, y, 10, validate_args=False))
    if task == 'errors': return lambda: (f.mean_squared_error(a[1], a[0]), f.mean_absolute_error(a[1], a[0]), f.r2_score(a[1], a[0]))
    if task == 'cosine': return lambda: 1 - f.pairwise_cosine_similarity(a[0], a[0])
    if task == 'paired': return lambda: torch.nn.functional.pairwise_distance(a[1], a[0]).mean()     # torchmetrics has none
    y, s = a[0].long(), a[1]
    if task == 'class scores': return lambda: c.multiclass_accuracy(s, y, 100, average='micro', validate_args=False)
    if task == 'auroc': return lambda: c.binary_auroc(s, y, validate_args=False)
    if task == 'ap': return lambda: c.binary_average_precision(s, y, validate_args=False)
    if task == 'binned auroc': return lambda: c.binary_auroc(s, y, thresholds=200, validate_args=False)
    return lambda: c.binary_calibration_error(s, y, n_bins=15, validate_args=False)


def metrax(task: str, arrays: tuple[Any, ...]) -> Call | None:
    import jax
    import jax.numpy as jnp
    import metrax as m
    a = [jnp.asarray(x) for x in arrays]
    ready = jax.block_until_ready
    if task == 'labels':
        f = jax.jit(lambda p, y: m.Accuracy.from_model_output(p, y).compute())
        return lambda: ready(f(a[1], a[0]))     # accuracy only
    if task == 'errors':
        f = jax.jit(lambda p, t: [k.from_model_output(p, t).compute() for k in (m.MSE, m.MAE, m.RSQUARED)])
        return lambda: ready(f(a[1], a[0]))
    if task == 'class scores':
        f = jax.jit(lambda p, y: m.Accuracy.from_model_output(p, y).compute())
        return lambda: ready(f(a[1], a[0]))
    if task == 'binned auroc':
        g = jax.jit(m.AUCROC.from_model_output)
        return lambda: ready(g(a[1], a[0]).compute())
    return None


PARTIAL = {('metrax', 'labels')}    # does less than the task: shown, not compared


def peak_kib() -> int:
    import resource
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

def worker(library: str, task: str) -> None:
    "Answer a line of JSON for each line of input: the first is the cold call, then rounds"
    def say(x: object) -> None: print(json.dumps(x), flush=True)
    try:
        arrays = data(task)
        call = {'ours': ours, 'scikit-learn': sklearn, 'torchmetrics': torchmetrics, 'metrax': metrax}[library](task, arrays)
    except ImportError as e: return say({'missing': str(e)})
    if call is None: return say({'missing': 'no such metric'})
    before, start = peak_kib(), time.perf_counter()
    value = call()
    say({'cold': time.perf_counter() - start, 'value': first_number(value)})
    for line in sys.stdin:
        calls = int(line)
        took = []
        call(); call()
        for _ in range(calls):
            start = time.perf_counter(); call(); took.append(time.perf_counter() - start)
        say({'warm': median(took), 'memory': max(0, peak_kib() - before)*1024})

def first_number(value: Any) -> float:
    import numpy as np
    while isinstance(value, (tuple, list, dict)): value = next(iter(value.values() if isinstance(value, dict) else value))
    return float(np.asarray(value).ravel()[min(1, np.asarray(value).size - 1)])


class Worker:
    def __init__(self, python: str, library: str, task: str) -> None:
        self.process = subprocess.Popen([python, __file__, '--worker', library, task], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        self.first = self.answer()

    def answer(self) -> dict[str, Any]:
        assert self.process.stdout
        line = self.process.stdout.readline()
        return json.loads(line) if line else {'missing': 'the process ended'}

    def round(self, calls: int) -> dict[str, Any]:
        assert self.process.stdin
        print(calls, file=self.process.stdin, flush=True)
        return self.answer()

    def close(self) -> None: self.process.communicate()


def measure(task: str, rounds: int, pythons: dict[str, str]) -> dict[str, dict[str, Any]]:
    workers = {n: Worker(python, n, task) for n, python in pythons.items()}
    there = {n: w for n, w in workers.items() if 'missing' not in w.first}
    results = [{n: w.round(5) for n, w in there.items()} for _ in range(rounds)]
    for w in workers.values(): w.close()
    return {n: {**w.first, 'rounds': [r[n]['warm'] for r in results], 'warm': median(r[n]['warm'] for r in results), 'memory': max(r[n]['memory'] for r in results)} for n, w in there.items()}


def row(task: str, found: dict[str, dict[str, Any]]) -> tuple[dict[str, Any], bool]:
    bar, what = TASKS[task]
    mine, peers = found['ours'], [n for n in found if n != 'ours' and (n, task) not in PARTIAL]
    best = min(peers, key=lambda n: found[n]['warm'], default=None)
    ratio = median(t/o for t, o in zip(found[best]['rounds'], mine['rounds'])) if best else None
    good = mine['cold'] <= COLD_BAR and (ratio is None or ratio >= bar)
    return {'task': task, 'what': what, 'bar': bar, 'best peer': best, 'ratio': ratio, 'met': good,
            **{n: {k: found[n][k] for k in ('warm', 'cold', 'memory', 'value')} for n in found}}, good


def show(rows: list[dict[str, Any]]) -> None:
    from calibrax.core.display import Table
    def cell(r: dict[str, Any], n: str) -> str: return f"{r[n]['warm']*1e3:.1f} ({r[n]['cold']*1e3:.0f}) {r[n]['memory']/2**20:.0f}" + (' part' if (n, r['task']) in PARTIAL else '') if n in r else '–'
    print(Table(('task', *LIBRARIES, 'best peer', 'ratio', 'bar', 'met'),
                tuple((r['what'], *(cell(r, n) for n in LIBRARIES), r['best peer'] or '–', f"{r['ratio']:.1f}" if r['ratio'] else '–', f"{r['bar']:g}", 'yes' if r['met'] else 'NO') for r in rows),
                'warm ms (cold ms) peak MiB', widest=60))


def together(rounds: int, names: list[str]) -> list[dict[str, Any]]:
    "All metrics of a domain by `calculate_all`, and one by one"
    import jax
    import jax.numpy as jnp
    import numpy as np

    from calibrax.metrics import calculate_all
    from calibrax.metrics.registry import MetricRegistry
    rng, n = np.random.default_rng(0), 1_000_000
    y, s = rng.integers(0, 10, n).astype(np.int32), rng.random(n, dtype=np.float32)
    z = rng.standard_normal((n, 10), dtype=np.float32)
    z = np.exp(z)/np.exp(z).sum(1, keepdims=True)
    p = np.where(rng.random(n) < 0.7, y, rng.integers(0, 10, n)).astype(np.int32)
    sets = {'general': (s, rng.random(n, dtype=np.float32), {}), 'classification of labels': (p, y, {'num_classes': 10}),
            'classification of scores': (s, (rng.random(n) < s).astype(np.int32), {}), 'classification of class scores': (z, y, {'num_classes': 10}),
            'calibration': (s, (rng.random(n) < s).astype(np.int32), {}), 'segmentation': (p.reshape(10, 250, 400), y.reshape(10, 250, 400), {'num_classes': 10})}
    rows = []
    for name, (a, b, keywords) in sets.items():
        if names and name not in names: continue
        a, b = jnp.asarray(a), jnp.asarray(b)
        domain = name.split()[0]
        given = {**keywords, **({'average': 'macro'} if keywords else {})}      # as calculate_all does for more than two classes
        def at_once() -> dict[str, Any]: return jax.block_until_ready(calculate_all(a, b, domain=domain, **given))
        start = time.perf_counter(); chosen = list(at_once()); cold = time.perf_counter() - start
        entries = [MetricRegistry().get(k) for k in chosen]
        def each() -> list[Any]: return [jax.block_until_ready(e.fn(a, b, **{k: v for k, v in given.items() if e.takes(k)})) for e in entries]     # type: ignore[misc]
        each()
        pairs = []
        for _ in range(rounds):
            start = time.perf_counter(); at_once(); middle = time.perf_counter(); each(); pairs.append((middle - start, time.perf_counter() - middle))
        rows.append({'domain': name, 'metrics': len(chosen), 'together': median(p[0] for p in pairs), 'one by one': median(p[1] for p in pairs),
                     'ratio': median(p[1]/p[0] for p in pairs), 'cold': cold})
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--rounds', type=int, default=5)
    parser.add_argument('--only', nargs='*', choices=list(TASKS), default=list(TASKS))
    parser.add_argument('--peers-python', default=sys.executable)
    parser.add_argument('--json')
    parser.add_argument('--worker', nargs=2)
    parser.add_argument('--without-together', action='store_true')
    options = parser.parse_args()
    if options.worker: worker(*options.worker); return 0
    pythons = {n: sys.executable if n == 'ours' else options.peers_python for n in LIBRARIES}
    rows, good = [], True
    for task in options.only:
        found, met = row(task, measure(task, options.rounds, pythons))
        rows.append(found); good &= met
    show(rows)
    domains = [] if options.without_together else together(options.rounds, [])
    from calibrax.core.display import Table
    if domains: print(Table(('calculate_all at 1e6', 'metrics', 'together', 'one by one', 'ratio', 'cold', 'met'),
                            tuple((d['domain'], str(d['metrics']), f"{d['together']*1e3:.0f} ms", f"{d['one by one']*1e3:.0f} ms", f"{d['ratio']:.1f}", f"{d['cold']:.1f} s", 'yes' if d['ratio'] >= 3 else 'NO') for d in domains)))
    if options.json: open(options.json, 'w', encoding='utf-8').write(json.dumps({'tasks': rows, 'together': domains}, indent=1) + '\n')
    return 0 if good and all(d['ratio'] >= 3 for d in domains) else 1


if __name__ == '__main__': sys.exit(main())
