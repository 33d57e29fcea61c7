"""How often the intervals of `calibrax.statistics` hold the truth, and the time and memory of a large bootstrap.

    python benchmarks/coverage.py [--trials 10000] [--resamples 1000] [--only median] [--skip-large]

For each statistic, distribution and number of values: draw a sample whose truth is known, ask for a 95 % interval with nothing but
the defaults, and count how many of the intervals that were given held it. `refused` is a `StatisticsError` (where only some samples are
refused, their number stands behind the share). A cell passes when all samples were refused, or when the share is not significantly outside
93 to 97 % (the 95 % binomial interval, Wilson's, reaches into that range); the exit status is 1 when one fails. The last distribution,
rare outliers, lies beyond what an interval of a mean can promise: it is shown, and not counted."""
import argparse
import math
import resource
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from statistics import NormalDist
from typing import Any

import numpy as np

from calibrax.core.display import Table
from calibrax.core.errors import StatisticsError
from calibrax.statistics.bootstrap import bootstrap_interval
from calibrax.statistics.effects import ratio_interval

Draw = Callable[[np.random.Generator, int], np.ndarray]
NORMAL = NormalDist()


def heaps(share: float, apart: float) -> Draw:
    "Two normal heaps: `share` of the values lies `apart` standard deviations higher"
    return lambda rng, n: 20 + rng.normal(0, 1, n) + apart*(rng.random(n) < share)


def heaps_median(share: float, apart: float) -> float:
    low, high = 0.0, 60.0
    for _ in range(100):
        x = (low + high)/2
        below = (1 - share)*NORMAL.cdf(x - 20) + share*NORMAL.cdf(x - 20 - apart)
        low, high = (x, high) if below < 0.5 else (low, x)
    return low


def rare_median() -> float:
    low, high = 90.0, 110.0
    for _ in range(100):
        x = (low + high)/2
        low, high = (x, high) if 0.98*NORMAL.cdf((x/100 - 1)/0.0266) + 0.02*NORMAL.cdf((x/130 - 1)/0.0266) < 0.5 else (low, x)
    return low


# name -> how to draw, mean, median
DISTRIBUTIONS: dict[str, tuple[Draw, float, float]] = {
    'normal': (lambda rng, n: rng.normal(10, 1, n), 10, 10),
    'lognormal, sigma 0.5': (lambda rng, n: rng.lognormal(0, 0.5, n), math.exp(0.125), 1),
    'lognormal, sigma 1': (lambda rng, n: rng.lognormal(0, 1, n), math.exp(0.5), 1),
    'bimodal, 50:50, 4 apart': (heaps(0.5, 4), 22, heaps_median(0.5, 4)),
    'bimodal, 70:30, 6 apart': (heaps(0.3, 6), 21.8, heaps_median(0.3, 6)),
    'normal, 2 % slower by 30 %': (lambda rng, n: 100*(1 + rng.normal(0, 0.0266, n))*np.where(rng.random(n) < 0.02, 1.3, 1), 100.6, rare_median()),
}
LIMIT = 'normal, 2 % slower by 30 %'     # no interval of a mean knows of an outlier that its sample does not hold: shown, not counted
TIMES = 1.1     # what the first sample of a ratio is of the second


def over(a: np.ndarray, b: np.ndarray) -> Any: return a.mean()/b.mean()

def first(interval: Any) -> tuple[float, float]: return interval.lower, interval.upper


# name -> the interval of samples drawn with `draw`, and the truth from mean and median
STATISTICS: dict[str, tuple[Callable[[Draw, np.random.Generator, int, int], tuple[float, float]], Callable[[float, float], float]]] = {
    'mean': (lambda draw, rng, n, r: first(bootstrap_interval(np.mean, draw(rng, n), key=rng, num_resamples=r)), lambda mean, median: mean),
    'median': (lambda draw, rng, n, r: first(bootstrap_interval(np.median, draw(rng, n), key=rng, num_resamples=2)), lambda mean, median: median),
    'ratio': (lambda draw, rng, n, r: first(ratio_interval(TIMES*draw(rng, n), draw(rng, n))), lambda mean, median: TIMES),
    'ratio of means': (lambda draw, rng, n, r: first(ratio_interval(TIMES*draw(rng, n), draw(rng, n), of='mean')), lambda mean, median: TIMES),
    'ratio of medians': (lambda draw, rng, n, r: first(ratio_interval(TIMES*draw(rng, n), draw(rng, n), of='median')), lambda mean, median: TIMES),
    'ratio of geometric means': (lambda draw, rng, n, r: first(ratio_interval(TIMES*draw(rng, n), draw(rng, n), of='geometric_mean')), lambda mean, median: TIMES),
    'bootstrap, ratio of paired means': (
        lambda draw, rng, n, r: first(bootstrap_interval(over, TIMES*draw(rng, n), draw(rng, n), key=rng, num_resamples=r)), lambda mean, median: TIMES),
}


def wilson(hits: int, trials: int) -> tuple[float, float]:
    p, z2 = hits/trials, 1.96**2
    centre, reach = (p + z2/2/trials)/(1 + z2/trials), 1.96*math.sqrt(p*(1 - p)/trials + z2/4/trials**2)/(1 + z2/trials)
    return centre - reach, centre + reach


def cell(statistic: str, distribution: str, n: int, trials: int, resamples: int) -> tuple[int, int]:
    "How many intervals held, and how many were given; once the first ten are refused, the rest is not asked"
    interval, truth_of = STATISTICS[statistic]
    draw, mean, median = DISTRIBUTIONS[distribution]
    truth, hits, given = truth_of(mean, median), 0, 0
    rng = np.random.default_rng([n, len(statistic), len(distribution), 20])
    for i in range(trials):
        if i == 10 and not given: break
        try: low, high = interval(draw, rng, n, resamples)
        except StatisticsError: continue
        hits, given = hits + (low <= truth <= high), given + 1
    return hits, given


def large() -> str:
    "200,000 rows, 1,000 resamples, in a process whose peak memory is compared with its start"
    rng = np.random.default_rng(0)
    a = rng.lognormal(0, 0.3, 200_000)
    b = a*rng.normal(1.1, 0.1, 200_000)
    lines = []
    for name, run in (('mean', lambda: bootstrap_interval(np.mean, a)), ('mean squared error of pairs, row by row', lambda: bootstrap_interval(mse, a, b)),
                      ('ratio of means', lambda: bootstrap_interval(over, a, b))):
        before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
        run()
        took, peak = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        lines.append((name, f'{took:.2f} s', f'{(peak - before)/1024:.0f} MiB'))
    return repr(Table(('200,000 rows x 1,000 resamples', 'time', 'more peak memory'), tuple(lines)))


def mse(a: np.ndarray, b: np.ndarray) -> Any: return ((a - b)**2).mean()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--trials', type=int, default=10_000)
    parser.add_argument('--resamples', type=int, default=1000)
    parser.add_argument('--only', choices=list(STATISTICS))
    parser.add_argument('--skip-large', action='store_true')
    args = parser.parse_args()
    if not args.skip_large:
        with ProcessPoolExecutor(1) as pool: print(pool.submit(large).result(), end='\n\n', flush=True)
    failed = 0
    for statistic in [args.only] if args.only else STATISTICS:
        rows = []
        for distribution in DISTRIBUTIONS:
            shown = []
            for n in (5, 10, 30):
                hits, given = cell(statistic, distribution, n, args.trials, args.resamples)
                low, high = wilson(hits, given) if given else (0.95, 0.95)
                bad = high < 0.93 or low > 0.97
                failed += bad and distribution != LIMIT
                some = f', {args.trials - given} refused' if given < args.trials else ''
                shown.append(f'{100*hits/given:.1f} ({100*low:.1f} to {100*high:.1f}){some}{" KNOWN LIMIT" if bad and distribution == LIMIT else " MISSED" if bad else ""}' if given else 'refused')
            rows.append((distribution, *shown))
        print(Table(('values', 'n = 5', 'n = 10', 'n = 30'), tuple(rows), f'{statistic}: share of 95 % intervals that hold the truth [%], {args.trials} trials'), end='\n\n', flush=True)
    return 1 if failed else 0


if __name__ == '__main__': sys.exit(main())
