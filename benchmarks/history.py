"""How often a history detector cries wolf, what it finds and how soon, beside those of asv and Otava; exit 1 when a bar is missed.

    python benchmarks/history.py                                    # 400 series a setting, about five minutes
    python benchmarks/history.py --series 2000 --figure history.png
    python benchmarks/history.py --peers-python .venv-peers/bin/python   # where asv and apache-otava are installed

Series have 120 points about 100; a step begins at point 80. The noise has a coefficient of variation (CV) of 1 or 3 %: normal, the
same with 3 % of points a third to a whole slower, correlated with the point before by 0.6 (first-order autoregression), and skewed (gamma of shape 2). Kinds
called "further" have no bar; like the others they were looked at while the detector was designed, so none of them is held out. `--seed`
draws other series. For calibrax any reported change in an unchanged series is a false
alarm; for the others only a reported worsening is, which favours them. A step is found when a change is reported within three
points of it. Intervals are Wilson's at 95 %. asv is asked through `asv.step_detect` with its default threshold of 5 %, Otava
through its command line with its defaults, ruptures as `KernelCPD(kernel='linear', min_size=3)`, its quick form of PELT with squared distances, with the penalty 2 log(n) of the Bayesian
information criterion, times the variance that the differences of neighbours leave (robustly).

A detector that finds more and one that cries less are compared on their curves: ours for several values of `least`, Otava's for several
p-values, ruptures' for several penalties, asv's for several thresholds, all at CV 3 % and +5 %, and for all of them only reported
worsenings count. For each setting of a rival, the strictest of ours that finds as much is put beside it; a bar each: fewer false alarms, or none on either side."""
import argparse
import dataclasses
import importlib.util
import json
import math
import os
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import numpy as np

from calibrax.analysis.changepoint import CONFIRMED, HistoryStatus, StoreHistory, analyze_trend
from calibrax.core.display import Table
from calibrax.core.models import Metric, Point, Run, TrendPoint, TrendSeries

LENGTH, STEP, NEAR = 120, 80, 3
BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
Array = np.ndarray


def correlated(rng: np.random.Generator, n: int, by: float = 0.6) -> Array:
    out, shocks = rng.standard_normal(n), rng.standard_normal(n)*math.sqrt(1 - by*by)
    for i in range(1, n): out[i] = by*out[i - 1] + shocks[i]
    return out

def slow_points(rng: np.random.Generator, n: int, cv: float) -> Array:
    return (1 + cv*rng.standard_normal(n))*np.where(rng.random(n) < 0.03, rng.uniform(1.3, 2, n), 1)

KINDS: dict[str, Callable[[np.random.Generator, int, float], Array]] = {
    'normal': lambda r, n, cv: 1 + cv*r.standard_normal(n),
    'outliers': slow_points,
    'AR(1) 0.6': lambda r, n, cv: 1 + cv*correlated(r, n),
    'skewed': lambda r, n, cv: 1 + cv*(r.gamma(2, size=n) - 2)/math.sqrt(2)}
FURTHER: dict[str, Callable[[np.random.Generator, int, float], Array]] = {
    'heavy tails (t, 2)': lambda r, n, cv: 1 + cv*r.standard_t(2, n)/2,
    'two modes': lambda r, n, cv: 1 + cv*(0.3*r.standard_normal(n) + 2*(r.random(n) < 0.3)),
    'rounded': lambda r, n, cv: 1 + cv*np.round(r.standard_normal(n)),
    'noisier later': lambda r, n, cv: 1 + cv*r.standard_normal(n)*np.where(np.arange(n) < 2*n//3, 0.5, 1.5),
    'weekly': lambda r, n, cv: 1 + cv*(r.standard_normal(n) + np.sin(2*np.pi*np.arange(n)/7)),
    'drift of 4 CV': lambda r, n, cv: 1 + cv*(r.standard_normal(n) + np.linspace(0, 4, n)),
    'modes that last': lambda r, n, cv: 1 + cv*(0.7*r.standard_normal(n) + 4*(np.cumsum(r.random(n) < 0.15) % 2)),
    'modes, rare switches': lambda r, n, cv: 1 + cv*(0.3*r.standard_normal(n) + 4*(np.cumsum(r.random(n) < 0.05) % 2)),
    'three modes': lambda r, n, cv: 1 + cv*(0.5*r.standard_normal(n) + 3*(np.cumsum((r.random(n) < 0.1)*r.integers(1, 3, n)) % 3)),
    't, 3': lambda r, n, cv: 1 + cv*r.standard_t(3, n)/math.sqrt(3),
    'lognormal': lambda r, n, cv: 1 + cv*r.lognormal(size=n)/2,
    'moving average of 3': lambda r, n, cv: 1 + cv*np.convolve(r.standard_normal(n + 2), [1, 1, 1], 'valid')/math.sqrt(3),
    'scatter that wanders': lambda r, n, cv: 1 + cv*r.standard_normal(n)*np.exp(0.7*correlated(r, n, 0.9)),
    'counts about 4': lambda r, n, cv: 1.*r.poisson(4, n),
    'constant, rare jitter': lambda r, n, cv: 1 + cv*r.standard_normal(n)*(r.random(n) < 0.05),
    'white and AR(1) 0.95': lambda r, n, cv: 1 + cv*(r.standard_normal(n) + correlated(r, n, 0.95))/math.sqrt(2),
    'AR(1) 0.8': lambda r, n, cv: 1 + cv*correlated(r, n, 0.8)}
ALL = {**KINDS, **FURTHER}


def series(kind: str, cv: float, step: float, count: int, seed: int = 0) -> list[Array]:
    "The same for every detector"
    rng = np.random.default_rng(zlib.crc32(f'{kind}/{cv}/{step}'.encode()) + seed)
    return [100*ALL[kind](rng, LENGTH, cv)*np.where(np.arange(LENGTH) >= STEP, 1 + step, 1) for _ in range(count)]

def trend(values: Sequence[float]) -> TrendSeries:
    return TrendSeries(metric='time', point_name='b', points=[TrendPoint(run_id=str(i), timestamp=BEGIN + timedelta(days=i), value=float(v)) for i, v in enumerate(values)])


# --- detectors: a list of series in, for each the places of reported changes out ----------------------------------------------

def calibrax(all_values: list[Array]) -> list[list[int]]:
    return [[c.index for c in analyze_trend(trend(v)).changes] for v in all_values]

def ours(all_values: list[Array], least: float) -> list[list[int]]:
    "Only worsenings, as the others' are counted"
    return [[c.index for c in analyze_trend(trend(v), direction='lower', least=least).changes if c.verdict == 'regressed'] for v in all_values]

def ruptures(all_values: list[Array], times: float = 1.) -> list[list[int]]:
    "Worsenings by the levels on both sides"
    from importlib import import_module
    search, out = import_module('ruptures').KernelCPD(kernel='linear', min_size=3), []
    for v in all_values:
        sigma = 1.4826*float(np.median(np.abs(np.diff(v))))/math.sqrt(2)
        cuts = [0, *search.fit(v[:, None]).predict(pen=max(times*2*math.log(len(v))*sigma**2, 1e-12))]
        out.append([b for a, b, c in zip(cuts, cuts[1:], cuts[2:]) if v[b:c].mean() > v[a:b].mean()])
    return out

ASV = '''
import json, sys
from asv.step_detect import detect_regressions, detect_steps
def places(values):
    found = detect_regressions(detect_steps(values), threshold=float(sys.argv[1]))
    return [p[1] for p in (found[2] if found else None) or []]
json.dump([places(v) for v in json.load(sys.stdin)], sys.stdout)
'''

def asv(python: str, all_values: list[Array], threshold: float = 0.05) -> list[list[int]]:
    done = subprocess.run([python, '-c', ASV, str(threshold)], input=json.dumps([list(v) for v in all_values]), capture_output=True, text=True, check=True)
    return list(json.loads(done.stdout))

def otava(python: str, all_values: list[Array], p_value: float | None = None) -> list[list[int]]:
    "All series as metrics of one test"
    with tempfile.TemporaryDirectory() as name:
        folder, names = Path(name), [f'm{j}' for j in range(len(all_values))]
        rows = [['time', *names]] + [[(BEGIN + timedelta(days=i)).isoformat(), *(repr(float(v[i])) for v in all_values)] for i in range(LENGTH)]
        (folder/'runs.csv').write_text('\n'.join(','.join(r) for r in rows) + '\n')
        metrics = ''.join(f'      {n}: {{column: {n}, direction: -1}}\n' for n in names)
        (folder/'otava.yaml').write_text(f'tests:\n  history:\n    type: csv\n    file: {folder}/runs.csv\n    time_column: time\n    metrics:\n{metrics}')
        done = subprocess.run([str(Path(python).parent/'otava'), 'analyze', 'history', '--output', 'json', '--since', '2025-01-01',
                               # Otava 0.7 spells this option so, by mistake
                               *([] if p_value is None else ['-P, --p-value', str(p_value)])], capture_output=True,
                              text=True, env={**os.environ, 'OTAVA_CONFIG': f'{folder}/otava.yaml'}, check=True)
        out: list[list[int]] = [[] for _ in names]
        for change in (c for at in json.loads(done.stdout[done.stdout.index('{'):])['history'] for c in at['changes']):
            if float(change['magnitude']) and float(change['mean_after']) > float(change['mean_before']): out[int(change['metric'][1:])].append(int(change['index']))
        return out

Detector = Callable[..., list[list[int]]]
SETTINGS: dict[str, tuple[float, ...]] = {'calibrax': (1.5, 1.25, 1.1, 1., 0.9, 0.8, 0.7, 0.6), 'ruptures': (8., 4., 2., 1., 0.5),
                                          'asv': (0.05, 0.01), 'otava': (1e-5, 1e-4, 1e-3, 1e-2)}
USUAL = {'calibrax': 1., 'ruptures': 1., 'asv': 0.05, 'otava': 1e-3}

def peers(python: str | None) -> dict[str, Detector]:
    python = python or sys.executable
    def there(module: str) -> bool:
        if python == sys.executable: return importlib.util.find_spec(module) is not None
        return subprocess.run([python, '-c', f'import {module}'], capture_output=True).returncode == 0
    known = {'asv': ('asv.step_detect' if there('asv') else 'asv', asv), 'otava': ('otava', otava)}
    found: dict[str, Detector] = {name: partial(run, python) for name, (module, run) in known.items() if there(module)}
    return found | ({'ruptures': ruptures} if importlib.util.find_spec('ruptures') else {})


# --- measuring -----------------------------------------------------------------------------------------------------------------

def wilson(hits: int, n: int) -> tuple[float, float]:
    z, p = 1.959964, hits/n
    middle, wide = (p + z*z/(2*n))/(1 + z*z/n), z*math.sqrt(p*(1 - p)/n + z*z/(4*n*n))/(1 + z*z/n)
    return max(middle - wide, 0.), min(middle + wide, 1.)

def percent(hits: int, n: int) -> str:
    low, high = wilson(hits, n)
    return f'{100*hits/n:.1f} ({100*low:.1f}–{100*high:.1f})'

def online(seed: int) -> tuple[list[int], list[int], list[float]]:
    "Point by point: after how many points +5 % at CV 2 % is seen and confirmed in 20 series, and how strong 20 unchanged series ever look"
    rng, seen, confirmed, strongest = np.random.default_rng(seed), list[int](), list[int](), list[float]()
    for _ in range(20):
        points = trend(100*(1 + 0.02*rng.standard_normal(LENGTH))*np.where(np.arange(LENGTH) >= STEP, 1.05, 1)).points
        first = [LENGTH, LENGTH]
        for n in range(STEP + 1, LENGTH + 1):
            near = [c for c in analyze_trend(TrendSeries(metric='time', point_name='b', points=points[:n])).changes if abs(c.index - STEP) <= NEAR]
            if near: first[0] = min(first[0], n - STEP)
            if near and near[0].confirmed:
                first[1] = n - STEP
                break
        seen.append(first[0])
        confirmed.append(first[1])
        history, top = analyze_trend(trend([])), 0.
        for p in trend(100*(1 + 0.02*rng.standard_normal(LENGTH))).points:
            history = history.append(p)
            top = max([top, *(c.strength or 0. for c in history.changes)])
        strongest.append(top)
    return seen, confirmed, strongest

def spikes(count: int, seed: int = 0) -> tuple[int, int]:
    "How many of these series with one last point 30 % up are called suspect, and how many show a change at their end"
    rng, suspect, hard = np.random.default_rng(3 + seed), 0, 0
    for _ in range(count):
        values = 100*(1 + 0.03*rng.standard_normal(LENGTH))
        values[-1] *= 1.3
        h = analyze_trend(trend(values))
        suspect += h.status is HistoryStatus.SUSPECT
        hard += any(c.index > LENGTH - 10 for c in h.changes)
    return suspect, hard


Curve = dict[float, tuple[int, int]]    # by setting: series with an alarm, series whose step is found

def curves(tools: dict[str, Detector], n: int, seed: int, pool: ProcessPoolExecutor) -> dict[str, dict[str, Curve]]:
    "By noise and tool: worsenings reported in unchanged series, and steps of +5 % found, for each setting"
    out: dict[str, dict[str, Curve]] = {}
    for kind in KINDS:
        both = [series(kind, 0.03, step, n, seed) for step in (0., 0.05)]
        todo = {(name, at): [pool.submit(detect, values, at) for values in both] for name, detect in tools.items() for at in SETTINGS[name]}
        out[kind] = {name: {} for name in tools}
        for (name, at), (null, stepped) in todo.items():
            out[kind][name][at] = sum(map(bool, null.result())), sum(any(abs(i - STEP) <= NEAR for i in places) for places in stepped.result())
    return out

def at_equal_power(found: dict[str, dict[str, Curve]], n: int) -> tuple[Table, list[tuple[str, bool]]]:
    "Each rival's usual setting, and each of its others, beside the strictest of ours that finds as much; and the bars"
    rows, bars = [], []
    for kind, tools in found.items():
        for name, curve in tools.items():
            for at, (alarms, power) in curve.items() if name != 'calibrax' else ():
                least, (mine, hit) = next(((o, v) for o, v in tools['calibrax'].items() if v[1] >= power), (math.nan, (0, 0)))
                ahead = hit >= power and (mine < alarms or mine == 0)
                word = 'ahead' if ahead else 'NOT REACHED' if math.isnan(least) else 'NOT AHEAD'
                rows.append((kind, f'{name} {at:g}' + ' (usual)'*(at == USUAL[name]), percent(power, n), percent(alarms, n),
                             *(('–',)*3 if math.isnan(least) else (f'{least:g}', percent(hit, n), percent(mine, n))), word))
                if at == USUAL[name] and name != 'ruptures': bars.append((f'at the power of {name}, {kind}: {percent(mine, n)} false alarms, theirs {percent(alarms, n)}', ahead))
    return Table(('noise', 'rival and its setting', 'finds', 'false alarms', 'our `least`', 'finds', 'false alarms', ''), tuple(rows),
                 f'\nAt equal or better power: +5 % at CV 3 %, {n} series each, only worsenings; per cent'), bars


def speed(runs: int = 10_000, metrics: int = 10) -> tuple[float, float]:
    "Processor seconds for the analysis of so many series of that length, every second with a step, and for one more run (the smallest of nine)"
    rng, begin = np.random.default_rng(0), time.process_time()
    scanned = StoreHistory(series=[analyze_trend(dataclasses.replace(trend(100 + rng.standard_normal(runs) + 5*(np.arange(runs) >= runs - 100)), metric=f'm{j}'))
                                   for j in range(metrics)])
    whole, once = time.process_time() - begin, list[float]()
    last = Run(timestamp=BEGIN + timedelta(days=runs), points=[Point(name='b', scenario='b', tags={}, metrics={f'm{j}': Metric(value=105.) for j in range(metrics)})])
    for _ in range(9):
        begin = time.process_time()
        scanned.append(last)
        once.append(time.process_time() - begin)
    return whole, min(once)


def main() -> int:
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument('--series', type=int, default=400, help='series for each setting (default 400)')
    ask.add_argument('--seed', type=int, default=0, help='other numbers draw other series (default 0)')
    ask.add_argument('--peers-python', help='the Python that has asv and apache-otava; this one when left out')
    ask.add_argument('--workers', type=int, default=os.cpu_count(), help='processes (default: one for each processor)')
    ask.add_argument('--figure', help='write a picture of false alarms against detection')
    ask.add_argument('--json', type=Path, help='write the numbers of that picture')
    o = ask.parse_args()
    n, missed = o.series, list[str]()
    tools: dict[str, Detector] = {'calibrax': calibrax, **peers(o.peers_python)}
    def bar(name: str, ok: bool) -> None:
        if not ok: missed.append(name)
    settings = [(k, cv, 0.) for k in ALL for cv in ((0.01, 0.03) if k in KINDS else (0.03,))] + [(k, 0.03, 0.05) for k in KINDS] + [('AR(1) 0.6', 0.03, 0.10)]
    data = {s: series(*s, n, o.seed) for s in settings}
    hits: dict[str, dict[tuple[str, float, float], int]] = {tool: {} for tool in tools}
    with ProcessPoolExecutor(o.workers) as pool:
        found = {(tool, s): pool.submit(detect, data[s]) for tool, detect in tools.items() for s in settings}
        live = [pool.submit(online, seed + o.seed) for seed in range(max(n//20, 1))]
        for (tool, s), out in found.items():
            hits[tool][s] = sum(any(abs(i - STEP) <= NEAR for i in places) if s[2] else bool(places) for places in out.result())
        trade = curves({**tools, 'calibrax': ours}, n, o.seed, pool)
        seen, confirmed, strongest = (sum(parts, []) for parts in zip(*(f.result() for f in live)))
    rows = [(k + (', further' if k in FURTHER else ''), f'{100*cv:.0f} %', f'+{100*step:.0f} %' if step else '–', *(percent(hits[t][k, cv, step], n) for t in tools))
            for k, cv, step in settings]
    print(Table(('noise', 'CV', 'step', *tools), tuple(rows), f'{n} series of {LENGTH} points: false alarms (step –), and steps found within ±{NEAR} points; per cent with 95 % intervals'))
    mine = hits['calibrax']
    for k in KINDS:
        for cv in (0.01, 0.03): bar(f'false alarms, {k}, CV {100*cv:.0f} %: {percent(mine[k, cv, 0.], n)}, at most 1.5', mine[k, cv, 0.] <= 0.015*n)
    for (k, step), least in {('normal', .05): 85, ('outliers', .05): 80, ('AR(1) 0.6', .05): 30, ('AR(1) 0.6', .10): 90}.items():
        bar(f'+{100*step:.0f} % found, {k}: {percent(mine[k, 0.03, step], n)}, at least {least}', mine[k, 0.03, step] >= least/100*n)
    equal, ahead = at_equal_power(trade, n)
    if equal.rows: print(equal)
    for name, ok in ahead: bar(name, ok)
    m = len(seen)
    def times(d: list[int]) -> tuple[str, str]: return f'{np.median(d):.0f}', f'{np.quantile(d, 0.9):.0f}'
    print(Table(('', 'median', '90 % quantile'), (('seen', *times(seen)), ('confirmed', *times(confirmed))), f'\nPoints until +5 % at CV 2 % is reported, {m} series'))
    bar(f'delay {times(seen)}, at most 3 and 6', np.median(seen) <= 3 and np.quantile(seen, 0.9) <= 6)
    ever = [sum(s > least for s in strongest) for least in (1., CONFIRMED)]
    print(f'\nUnchanged series that show a change at any of {LENGTH} points, analysed after each: {percent(ever[0], m)} %, a confirmed one {percent(ever[1], m)} %')
    bar(f'confirmed false alarms over a life: {percent(ever[1], m)}, at most 1.5', ever[1] <= max(0.015*m, 1))
    suspect, hard = spikes(n, o.seed)
    print(f'One last point of +30 % at CV 3 %: suspect in {percent(suspect, n)} %, taken for a change in {percent(hard, n)} %')
    bar('a single spike is taken for a change', not hard)
    whole, once = speed()
    print(f'10 series of 10,000 points: {whole:.1f} s of processor time; one more run: {1000*once:.0f} ms')
    bar(f'{whole:.1f} s for 10 series of 10,000 points, at most 10; {1000*once:.0f} ms for one more run, at most 20', whole <= 10 and once <= 0.020)
    if o.figure: draw(trade, n, o.figure)
    if o.json: o.json.write_text(json.dumps({'series': n, 'curves': trade}, indent=1) + '\n')
    for m_ in missed: print(f'MISSED: {m_}')
    print('All bars are met.' if not missed else f'{len(missed)} bars missed.')
    return 1 if missed else 0


def draw(found: dict[str, dict[str, Curve]], n: int, path: str) -> None:
    import matplotlib
    matplotlib.use('Agg')
    import matplotlib.pyplot as plt

    from calibrax.core.figures import COLORS, figure_style
    with figure_style():
        figure, panels = plt.subplots(1, len(found), figsize=(10, 3.2), sharey=True)
        for axes, (kind, tools) in zip(panels, found.items()):
            for color, (name, curve) in zip(COLORS, tools.items()):
                axes.plot(*zip(*[(100*alarms/n, 100*power/n) for alarms, power in curve.values()]), '.-', color=color, linewidth=1, label=name)
                alarms, power = curve[USUAL[name]]
                axes.plot(100*alarms/n, 100*power/n, 'D', color=color, markersize=7)
            axes.axvline(1.5, color='0.6', linewidth=0.8, linestyle='--')
            axes.set(xlabel='false alarms [%]', xscale='symlog', xlim=(-0.15, 130), ylim=(-4, 104), title=kind)
            axes.set_xticks([0, 1, 10, 100], ['0', '1', '10', '100'])
        panels[0].set_ylabel('+5 % found within ±3 [%]')
        panels[-1].legend(fontsize=7, loc='lower right')
        figure.savefig(path, dpi=120)


if __name__ == '__main__': sys.exit(main())
