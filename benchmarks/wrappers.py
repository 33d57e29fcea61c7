"""Time and memory of `BootstrapMetric` on many rows.

    python benchmarks/wrappers.py [--rows 200000] [--resamples 1000]

Each metric runs in a process of its own. `time` is a second call, with what is compiled at hand; `first` is the first one. `peak` is the
most memory that the process held, and `of which` what it held before, data and libraries included. `one by one` is how long it takes to
gather the rows and call the metric (scikit-learn's, where it is installed) as often, extrapolated from a few calls. The exit status is 1
where the peak is above 2 GB."""
import argparse
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

MOST_BYTES = 2e9
METRICS = ('mse', 'accuracy', 'f1_score', 'pearson_correlation', 'roc_auc', 'function')


def data(metric: str, rows: int) -> tuple[Any, Any, dict[str, Any]]:
    rng = np.random.default_rng(0)
    p = rng.normal(size=rows).astype(np.float32)
    t = (p + rng.normal(size=rows)).astype(np.float32)
    if metric == 'roc_auc': return p, (t > 0).astype(np.int32), {}
    if metric in ('accuracy', 'f1_score'):
        targets = rng.integers(0, 10, rows).astype(np.int32)
        return np.where(rng.random(rows) < 0.8, targets, rng.integers(0, 10, rows)).astype(np.int32), targets, {'average': 'macro'} if metric == 'f1_score' else {}
    return p, t, {}


def peer(metric: str) -> Callable[..., Any] | None:
    try: import sklearn.metrics as m
    except ImportError: return None
    known: dict[str, Callable[..., Any]] = {'mse': m.mean_squared_error, 'accuracy': m.accuracy_score, 'roc_auc': m.roc_auc_score,
                                             'f1_score': lambda t, p: m.f1_score(t, p, average='macro')}
    return known.get(metric)


def measure(metric: str, rows: int, resamples: int, resampling: str) -> str:
    import jax.numpy as jnp

    from calibrax.metrics.bootstrap import BootstrapMetric
    p, t, keywords = data(metric, rows)
    bootstrap = BootstrapMetric((lambda p, t: jnp.mean(jnp.abs(p - t))) if metric == 'function' else metric, num_resamples=resamples, resampling=resampling)
    bootstrap.metric_fn(p[:100], t[:100], **keywords)
    before, seconds = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss*1024, []
    for _ in range(2):
        start = time.perf_counter()
        bootstrap.compute(p, t, key=0, **keywords)
        seconds.append(time.perf_counter() - start)
    peak, other = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss*1024, ''
    if rival := peer(metric):
        start, rng = time.perf_counter(), np.random.default_rng(0)
        for _ in range(5):
            drawn = rng.integers(0, rows, rows)
            rival(t[drawn], p[drawn])
        other = f'{(time.perf_counter() - start)*resamples/5:.1f}'
    return f'{metric}|{resampling}|{seconds[1]:.2f}|{seconds[0]:.2f}|{other}|{peak/1e9:.2f}|{before/1e9:.2f}'


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--rows', type=int, default=200_000)
    parser.add_argument('--resamples', type=int, default=1000)
    parser.add_argument('--one', nargs=2, metavar=('METRIC', 'RESAMPLING'), help='measure this one in this process')
    given = parser.parse_args()
    if given.one:
        print(measure(given.one[0], given.rows, given.resamples, given.one[1]))
        return 0
    from calibrax.core.display import Table
    rows = []
    for metric in METRICS:
        for resampling in ('multinomial', 'poisson'):
            if metric == 'function' and resampling == 'poisson': continue # it takes no weights
            done = subprocess.run([sys.executable, __file__, '--rows', str(given.rows), '--resamples', str(given.resamples), '--one', metric, resampling],
                                  capture_output=True, text=True, check=True)
            rows.append(tuple(done.stdout.strip().split('|')))
    print(Table(('metric', 'resampling', 'time [s]', 'first [s]', 'one by one [s]', 'peak [GB]', 'of which [GB]'), tuple(rows),
                f'BootstrapMetric, {given.rows:,} rows, {given.resamples:,} resamples'))
    return int(any(float(row[5])*1e9 > MOST_BYTES for row in rows))


if __name__ == '__main__': raise SystemExit(main())
