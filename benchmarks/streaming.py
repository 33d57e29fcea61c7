"""Streaming metrics beside torchmetrics and metrax: 200 batches of 256, four metrics, in a loop and in a scan.

    python benchmarks/streaming.py [--peers-python PYTHON] [--rounds 9] [--json FILE]

Accuracy, precision, recall and F1 (macro, 10 classes) over 200 batches of 256 labels; metrax has accuracy alone of these as a state
that can be merged, and does only that. Each library runs in a process of its own, with its data converted and cut into batches
beforehand, and they take turns round by round; a figure is the median of the rounds, a ratio the median of the ratios by round to
torchmetrics. Then what one update costs beyond its arithmetic (an update of 4 labels, less a call of a compiled function of
the same arrays that does nothing), and the size of the state after a million samples.

Exit status 1 when a bar is missed: 5 times torchmetrics in a loop, 50 times in a scan, 15 µs for an update, a constant state."""
import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable
from statistics import median
from typing import Any

UPDATES, BATCH, CLASSES = 200, 256, 10
NAMES = ('accuracy', 'precision', 'recall', 'f1_score')
WAYS = ('pure loop', 'object loop', 'collection loop', 'scan', 'torchmetrics', 'metrax')
BARS = {'pure loop': 5, 'scan': 50}
DISPATCH = 15e-6 # seconds for an update


def data() -> tuple[Any, Any]:
    import numpy as np
    rng = np.random.default_rng(0)
    y = rng.integers(0, CLASSES, (UPDATES, BATCH)).astype(np.int32)
    return np.where(rng.random(y.shape) < .7, y, rng.integers(0, CLASSES, y.shape)).astype(np.int32), y


def four() -> Any:
    from calibrax.metrics.streaming import streaming, streaming_together
    return streaming_together({n: streaming(n, num_classes=CLASSES, **({} if n == 'accuracy' else {'average': 'macro'})) for n in NAMES})

def ours(way: str) -> Callable[[], Any]:
    import jax
    import jax.numpy as jnp

    from calibrax.metrics.stateful import StatefulMetric
    p, t = data()
    batches = [(jnp.asarray(a), jnp.asarray(b)) for a, b in zip(p, t)]
    metric = four()
    if way == 'scan':
        whole = jnp.asarray(p), jnp.asarray(t)
        f = jax.jit(lambda *x: metric.compute(jax.lax.scan(lambda s, b: (metric.update(s, *b), None), metric.init(), x)[0]))
        return lambda: jax.block_until_ready(f(*whole))
    if way == 'pure loop':
        update = jax.jit(metric.update, donate_argnums=0)
        def loop() -> Any:
            state = metric.init()
            for b in batches: state = update(state, *b)
            return jax.block_until_ready(metric.compute(state))
        return loop
    if way == 'collection loop':
        from calibrax.metrics import MetricCollection
        held: Any = MetricCollection(list(NAMES))
        def loop() -> Any:
            held.reset()
            for b in batches: held.update(*b, num_classes=CLASSES, average='macro')
            return held.compute()
        return loop
    held = StatefulMetric(metric)
    def loop() -> Any:
        held.reset()
        for b in batches: held.update(*b)
        return held.compute()
    return loop


def torchmetrics() -> Callable[[], Any]:
    import torch
    from torchmetrics import MetricCollection
    from torchmetrics.classification import MulticlassAccuracy, MulticlassF1Score, MulticlassPrecision, MulticlassRecall
    p, t = (torch.from_numpy(x).long() for x in data())
    batches = list(zip(p, t))
    kinds = {'accuracy': (MulticlassAccuracy, 'micro'), 'precision': (MulticlassPrecision, 'macro'), 'recall': (MulticlassRecall, 'macro'), 'f1_score': (MulticlassF1Score, 'macro')}
    held = MetricCollection({n: c(CLASSES, average=a, validate_args=False) for n, (c, a) in kinds.items()})
    def loop() -> Any:
        held.reset()
        for b in batches: held.update(*b)
        return held.compute()
    return loop

def metrax() -> Callable[[], Any]:
    import jax
    import jax.numpy as jnp
    import metrax as m
    batches = [(jnp.asarray(a), jnp.asarray(b)) for a, b in zip(*data())]
    of, merged = jax.jit(m.Accuracy.from_model_output), jax.jit(lambda a, b: a.merge(b))
    def loop() -> Any:
        state = None
        for b in batches:
            new = of(*b)
            state = new if state is None else merged(state, new)
        return {'accuracy': state.compute()}   # type: ignore[union-attr]
    return loop


def worker(way: str) -> None:
    def say(x: object) -> None: print(json.dumps(x), flush=True)
    try: call = {'torchmetrics': torchmetrics, 'metrax': metrax}[way]() if way in ('torchmetrics', 'metrax') else ours(way)
    except ImportError as e: return say({'missing': str(e)})
    start = time.perf_counter()
    value = call()
    say({'cold': time.perf_counter() - start, 'value': {k: float(v) for k, v in value.items()}})
    for _ in sys.stdin:
        took = []
        for _ in range(5): start = time.perf_counter(); call(); took.append(time.perf_counter() - start)
        say(median(took))


class Worker:
    def __init__(self, python: str, way: str) -> None:
        self.process = subprocess.Popen([python, __file__, '--worker', way], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        self.first = self.answer()

    def answer(self) -> Any:
        assert self.process.stdout
        line = self.process.stdout.readline()
        return json.loads(line) if line else {'missing': 'the process ended'}

    def round(self) -> float:
        assert self.process.stdin
        print(file=self.process.stdin, flush=True)
        return float(self.answer())

    def close(self) -> None: self.process.communicate()


def dispatch(rounds: int) -> dict[str, float]:
    "Seconds for one update of four labels beyond a call of a compiled function that only hands the same arrays on"
    import jax
    import jax.numpy as jnp

    from calibrax.metrics.stateful import StatefulMetric
    x = jnp.zeros(4, jnp.int32)
    kinds = {'accuracy': StatefulMetric('accuracy'), 'four metrics': StatefulMetric(four())}
    found = {}
    for name, held in kinds.items():
        state = held.metric.init()
        nothing = jax.jit(lambda s, a, b: jax.tree.map(lambda v: v, s), donate_argnums=0)
        def once(step: Callable[[], None], n: int = 2000) -> float:
            start = time.perf_counter()
            for _ in range(n): step()
            return (time.perf_counter() - start)/n
        def bare() -> None:
            nonlocal state
            state = nothing(state, x, x)
        def update() -> None: held.update(x, x)
        bare(); update()
        pairs = [(once(update), once(bare)) for _ in range(rounds)]
        found[name] = median(a - b for a, b in pairs)
        found[f'{name}, whole call'] = median(a for a, _ in pairs)
    return found

def state_bytes() -> tuple[int, int]:
    "Of the four metrics before any sample and after a million"
    import jax
    import numpy as np
    metric, rng = four(), np.random.default_rng(0)
    def size(s: Any) -> int: return sum(x.nbytes for x in jax.tree.leaves(s))
    state = metric.init()
    before = size(state)
    for _ in range(100): state = metric.update(state, *(rng.integers(0, CLASSES, 10_000).astype(np.int32) for _ in range(2)))
    return before, size(state)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--rounds', type=int, default=9)
    parser.add_argument('--peers-python', default=sys.executable)
    parser.add_argument('--json')
    parser.add_argument('--worker')
    options = parser.parse_args()
    if options.worker: worker(options.worker); return 0
    from calibrax.core.display import Table
    workers = {w: Worker(options.peers_python if w in ('torchmetrics', 'metrax') else sys.executable, w) for w in WAYS}
    there = {w: x for w, x in workers.items() if 'missing' not in x.first}
    rounds = [{w: x.round() for w, x in there.items()} for _ in range(options.rounds)]
    for x in workers.values(): x.close()
    for w, x in there.items():
        for k, v in x.first['value'].items(): assert abs(v - there['pure loop'].first['value'][k]) < 1e-5, (w, k, v)
    peers = [w for w in there if w == 'torchmetrics']      # metrax does less
    rows, good = [], True
    for w in there:
        ratio = median(min(r[p] for p in peers)/r[w] for r in rounds) if peers and w not in ('torchmetrics', 'metrax') else None
        met = ratio is None or w not in BARS or ratio >= BARS[w]
        good &= met
        rows.append({'way': w, 'milliseconds': median(r[w] for r in rounds)*1e3, 'cold': there[w].first['cold'], 'ratio': ratio, 'bar': BARS.get(w), 'met': met})
    print(Table((f'{UPDATES} batches of {BATCH}, 4 metrics', 'ms', 'first call s', 'times the best peer', 'bar', 'met'),
                tuple((r['way'] + (' (accuracy only)' if r['way'] == 'metrax' else ''), f"{r['milliseconds']:.2f}", f"{r['cold']:.2f}", f"{r['ratio']:.1f}" if r['ratio'] else '–',
                       str(r['bar'] or '–'), 'yes' if r['met'] else 'NO') for r in rows)))
    cost, (before, after) = dispatch(options.rounds), state_bytes()
    for k, v in cost.items(): print(f'one update of {k}: {v*1e6:.1f} µs' + ('' if 'whole' in k else f' beyond a bare call, at most {DISPATCH*1e6:.0f}'))
    print(f'state: {before} bytes before, {after} after 1e6 samples')
    good &= before == after and all(v <= DISPATCH for k, v in cost.items() if 'whole' not in k)
    if options.json: open(options.json, 'w', encoding='utf-8').write(json.dumps({'rows': rows, 'dispatch': cost, 'state': [before, after]}, indent=1) + '\n')
    return 0 if good else 1


if __name__ == '__main__': sys.exit(main())
