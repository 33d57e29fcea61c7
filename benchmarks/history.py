"""How often a history detector cries wolf, what it finds and how soon, beside those of asv and Otava; exit 1 when a bar is missed.

    python benchmarks/history.py                                    # 400 series a setting, about three minutes
    python benchmarks/history.py --series 2000 --figure history.png
    python benchmarks/history.py --peers-python .venv-peers/bin/python   # where asv and apache-otava are installed

Series have 120 points about 100; a step begins at point 80. The noise has a coefficient of variation (CV) of 1 or 3 %: normal, the
same with 3 % of points a third to a whole slower, correlated with the point before by 0.6 (first-order autoregression), and skewed (gamma of shape 2). Kinds
called "further" have no bar; like the others they were looked at while the detector was designed, so none of them is held out. `--seed`
draws other series. For calibrax any reported change in an unchanged series is a false
alarm; for the others only a reported worsening is, which favours them. A step is found when a change is reported within three
points of it. Intervals are Wilson's at 95 %. asv is asked through `asv.step_detect` with its default threshold of 5 %, Otava
through its command line with its defaults."""
import argparse
import importlib.util
import json
import math
import os
import subprocess
import sys
import tempfile
import zlib
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np

from calibrax.analysis.changepoint import CONFIRMED, HistoryStatus, analyze_trend
from calibrax.core.display import Table
from calibrax.core.models import TrendPoint, TrendSeries

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

ASV = '''
import json, sys
from asv.step_detect import detect_regressions, detect_steps
def places(values):
    found = detect_regressions(detect_steps(values), threshold=0.05)
    return [p[1] for p in (found[2] if found else None) or []]
json.dump([places(v) for v in json.load(sys.stdin)], sys.stdout)
'''

def asv(python: str, all_values: list[Array]) -> list[list[int]]:
    done = subprocess.run([python, '-c', ASV], input=json.dumps([list(v) for v in all_values]), capture_output=True, text=True, check=True)
    return list(json.loads(done.stdout))

def otava(python: str, all_values: list[Array]) -> list[list[int]]:
    "All series as metrics of one test"
    with tempfile.TemporaryDirectory() as name:
        folder, names = Path(name), [f'm{j}' for j in range(len(all_values))]
        rows = [['time', *names]] + [[(BEGIN + timedelta(days=i)).isoformat(), *(repr(float(v[i])) for v in all_values)] for i in range(LENGTH)]
        (folder/'runs.csv').write_text('\n'.join(','.join(r) for r in rows) + '\n')
        metrics = ''.join(f'      {n}: {{column: {n}, direction: -1}}\n' for n in names)
        (folder/'otava.yaml').write_text(f'tests:\n  history:\n    type: csv\n    file: {folder}/runs.csv\n    time_column: time\n    metrics:\n{metrics}')
        done = subprocess.run([str(Path(python).parent/'otava'), 'analyze', 'history', '--output', 'json', '--since', '2025-01-01'], capture_output=True,
                              text=True, env={**os.environ, 'OTAVA_CONFIG': f'{folder}/otava.yaml'}, check=True)
        out: list[list[int]] = [[] for _ in names]
        for change in (c for at in json.loads(done.stdout[done.stdout.index('{'):])['history'] for c in at['changes']):
            if float(change['magnitude']) and float(change['mean_after']) > float(change['mean_before']): out[int(change['metric'][1:])].append(int(change['index']))
        return out

def peers(python: str | None) -> dict[str, Callable[[list[Array]], list[list[int]]]]:
    python = python or sys.executable
    def there(module: str) -> bool:
        if python == sys.executable: return importlib.util.find_spec(module) is not None
        return subprocess.run([python, '-c', f'import {module}'], capture_output=True).returncode == 0
    known = {'asv': ('asv.step_detect' if there('asv') else 'asv', asv), 'otava': ('otava', otava)}
    return {name: (lambda values, run=run: run(python, values)) for name, (module, run) in known.items() if there(module)}


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


def main() -> int:
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument('--series', type=int, default=400, help='series for each setting (default 400)')
    ask.add_argument('--seed', type=int, default=0, help='other numbers draw other series (default 0)')
    ask.add_argument('--peers-python', help='the Python that has asv and apache-otava; this one when left out')
    ask.add_argument('--workers', type=int, default=os.cpu_count(), help='processes (default: one for each processor)')
    ask.add_argument('--figure', help='write a picture of false alarms against detection')
    o = ask.parse_args()
    n, missed = o.series, list[str]()
    tools: dict[str, Callable[[list[Array]], list[list[int]]]] = {'calibrax': calibrax, **peers(o.peers_python)}
    def bar(name: str, ok: bool) -> None:
        if not ok: missed.append(name)
    settings = [(k, cv, 0.) for k in ALL for cv in ((0.01, 0.03) if k in KINDS else (0.03,))] + [(k, 0.03, 0.05) for k in KINDS] + [('AR(1) 0.6', 0.03, 0.10)]
    data = {s: series(*s, n, o.seed) for s in settings}
    hits: dict[str, dict[tuple[str, float, float], int]] = {tool: {} for tool in tools}
    with ProcessPoolExecutor(o.workers) as pool:
        found = {s: pool.submit(calibrax, data[s]) for s in settings}
        live = [pool.submit(online, seed + o.seed) for seed in range(max(n//20, 1))]
        for tool, detect in tools.items():
            for s in settings:
                out = found[s].result() if tool == 'calibrax' else detect(data[s])
                hits[tool][s] = sum(any(abs(i - STEP) <= NEAR for i in places) if s[2] else bool(places) for places in out)
        seen, confirmed, strongest = (sum(parts, []) for parts in zip(*(f.result() for f in live)))
    rows = [(k + (', further' if k in FURTHER else ''), f'{100*cv:.0f} %', f'+{100*step:.0f} %' if step else '–', *(percent(hits[t][k, cv, step], n) for t in tools))
            for k, cv, step in settings]
    print(Table(('noise', 'CV', 'step', *tools), tuple(rows), f'{n} series of {LENGTH} points: false alarms (step –), and steps found within ±{NEAR} points; per cent with 95 % intervals'))
    ours = hits['calibrax']
    for k in KINDS:
        for cv in (0.01, 0.03): bar(f'false alarms, {k}, CV {100*cv:.0f} %: {percent(ours[k, cv, 0.], n)}, at most 1.5', ours[k, cv, 0.] <= 0.015*n)
    for (k, step), least in {('normal', .05): 85, ('outliers', .05): 80, ('AR(1) 0.6', .05): 30, ('AR(1) 0.6', .10): 90}.items():
        bar(f'+{100*step:.0f} % found, {k}: {percent(ours[k, 0.03, step], n)}, at least {least}', ours[k, 0.03, step] >= least/100*n)
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
    if o.figure: draw(hits, n, o.figure)
    for m_ in missed: print(f'MISSED: {m_}')
    print('All bars are met.' if not missed else f'{len(missed)} bars missed.')
    return 1 if missed else 0


def draw(hits: dict[str, dict[tuple[str, float, float], int]], n: int, path: str) -> None:
    import matplotlib
    matplotlib.use('Agg')
    import matplotlib.pyplot as plt

    from calibrax.core.figures import COLORS, figure_style
    with figure_style():
        figure, axes = plt.subplots(figsize=(6, 3.4))
        for color, (tool, found) in zip(COLORS, hits.items()):
            for marker, kind in zip('os^D', KINDS):
                alarm, power = found[kind, 0.03, 0.], found[kind, 0.03, 0.05]
                (low, high), (down, up) = wilson(alarm, n), wilson(power, n)
                axes.errorbar(100*alarm/n, 100*power/n, xerr=[[100*(alarm/n - low)], [100*(high - alarm/n)]], yerr=[[100*(power/n - down)], [100*(up - power/n)]],
                              fmt=marker, color=color, markersize=5, linewidth=0.8, label=f'{tool}, {kind}')
        axes.axvline(1.5, color='0.6', linewidth=0.8, linestyle='--')
        axes.set(xlabel='unchanged series with an alarm [%]', ylabel='+5 % found within ±3 [%]', xscale='symlog', title=f'{LENGTH} runs, noise 3 %, {n} series each')
        axes.set_xticks([0, 1, 10, 100], ['0', '1', '10', '100'])
        axes.set_xlim(-0.3, 130)
        axes.legend(fontsize=6.5, loc='center left', bbox_to_anchor=(1, 0.5))
        figure.savefig(path, dpi=120)


if __name__ == '__main__': sys.exit(main())
