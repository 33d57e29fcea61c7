"""How often the gate cries wolf, and how often it sleeps: false alarms and found regressions on simulated noise.

    python benchmarks/gate.py                                          # 2,000 trials of each case, a few minutes
    python benchmarks/gate.py --trials 200                             # a quick look
    python benchmarks/gate.py --peers-python .venv-peers/bin/python    # beside asv, pyperf and pytest-benchmark
    python benchmarks/gate.py --figure gate.png --json gate.json       # keep the picture and the numbers

Every verdict comes from `calibrax.analysis.assessment.assess` on runs as a store holds them: ten samples a run, their mean as the
value, twenty earlier runs. The rivals get the samples of the last of these runs and of the one that is judged, and their own functions
decide, called as they are installed. Each figure has a 95 % interval (Wilson's). The first four noise models are those that the bars were set for.
The others have none, and what happens there is printed, whatever it is: the guards were designed with most of them in view, while
the models called "unseen" were added when everything was decided. Exits with 1 when a bar is missed."""
import argparse
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from calibrax.analysis.assessment import Assessment, assess
from calibrax.core.display import Table
from calibrax.core.models import Metric, MetricDef, MetricDirection, Point, Run

EARLIER, SAMPLES, ROUNDS = 20, 10, 8
DEFS = {'latency': MetricDef(name='latency', unit='ms', direction=MetricDirection.LOWER)}
Levels = Callable[[np.random.Generator, int], np.ndarray]      # deviations of so many runs in a row


def autoregressive(rng: np.random.Generator, n: int) -> np.ndarray:
    out = rng.standard_normal(n)
    for i in range(1, n): out[i] = 0.6*out[i - 1] + 0.8*out[i]
    return out

def lognormal(rng: np.random.Generator, n: int, normal: np.ndarray | None = None) -> np.ndarray:
    s, z = 0.6, rng.standard_normal(n) if normal is None else normal
    return (np.exp(s*z) - np.exp(s*s/2))/np.sqrt((np.exp(s*s) - 1)*np.exp(s*s))

def sticking(rng: np.random.Generator, n: int) -> np.ndarray:
    level, new = rng.standard_normal(n), rng.random(n) < 0.2
    new[0] = True
    return 0.9*level[np.maximum.accumulate(np.where(new, np.arange(n), 0))] + 0.19**0.5*rng.standard_normal(n)


# name: deviation of the runs, deviation of the calls in a run, share of calls that take half as long again
MODELS: dict[str, tuple[Levels, float, float]] = {
    'iid 2 %': (lambda rng, n: np.zeros(n), 0.02, 0),
    'between runs 1 %': (lambda rng, n: 0.01*rng.standard_normal(n), 0.01, 0),
    'between runs 2.66 %': (lambda rng, n: 0.0266*rng.standard_normal(n), 0.01, 0),
    'between runs 2.66 %, outliers': (lambda rng, n: 0.0266*rng.standard_normal(n), 0.01, 0.02),
    'AR(1) 0.6, 2 %': (lambda rng, n: 0.02*autoregressive(rng, n), 0.01, 0),
    'skewed (lognormal 0.6) 2 %': (lambda rng, n: 0.02*lognormal(rng, n), 0.01, 0),
    'skewed (gamma 2) 2 %': (lambda rng, n: 0.02*(rng.gamma(2, size=n) - 2)/2**0.5, 0.01, 0),
    'skewed (Weibull 1.5) 2.66 %': (lambda rng, n: 0.0266*(rng.weibull(1.5, n) - 0.9027)/0.6129, 0.01, 0),
    'heavy tails (t, 4) 2 %': (lambda rng, n: 0.02*rng.standard_t(4, n)/2**0.5, 0.01, 0),
    'heavy tails (t, 3) 2 %': (lambda rng, n: 0.02*rng.standard_t(3, n)/3**0.5, 0.01, 0),
    'heavy tails (Laplace) 2 %': (lambda rng, n: 0.02*rng.laplace(size=n)/2**0.5, 0.01, 0),
    'two modes 4 % apart, 1 : 1': (lambda rng, n: 0.04*(rng.random(n) < 0.5) + 0.005*rng.standard_normal(n), 0.01, 0),
    'two modes 4 % apart, 9 : 1': (lambda rng, n: 0.04*(rng.random(n) < 0.1) + 0.005*rng.standard_normal(n), 0.01, 0),
    'level that sticks, 1 in 5 new, 2 %': (lambda rng, n: 0.02*sticking(rng, n), 0.01, 0),
    'drift 0.05 % a run, 1 %': (lambda rng, n: 0.0005*np.arange(n) + 0.01*rng.standard_normal(n), 0.01, 0),
    'spikes +20 to 50 % in 2 % of runs': (lambda rng, n: 0.0266*rng.standard_normal(n) + (rng.random(n) < 0.02)*rng.uniform(0.2, 0.5, n), 0.01, 0),
    'uniform 2 %': (lambda rng, n: 0.02*rng.uniform(-3**0.5, 3**0.5, n), 0.01, 0),
    'weekly wave 2 %, 1 %': (lambda rng, n: 0.02*2**0.5*np.sin(2*np.pi*(np.arange(n)/7 + rng.random())) + 0.01*rng.standard_normal(n), 0.01, 0),
    'unseen: Gumbel 2 %': (lambda rng, n: 0.02*(rng.gumbel(size=n) - 0.5772)/1.2825, 0.01, 0),
    'unseen: logistic 2 %': (lambda rng, n: 0.02*rng.logistic(size=n)*3**0.5/np.pi, 0.01, 0),
    'unseen: skewed with a memory, 2 %': (lambda rng, n: 0.02*lognormal(rng, n, autoregressive(rng, n)), 0.01, 0),
}
LISTED = list(MODELS)[:4]


def samples(rng: np.random.Generator, levels: np.ndarray, within: float, outliers: float, count: int = SAMPLES) -> np.ndarray:
    "A row of samples for each run"
    out = (1 + levels)[:, None]*(1 + within*rng.standard_normal((len(levels), count)))
    return out*np.where(rng.random(out.shape) < outliers, 1.5, 1.0) if outliers else out

def metric(row: np.ndarray) -> Metric: return Metric(value=float(row.mean()), samples=row.tolist())

def run_of(*rows: np.ndarray) -> Run:
    return Run(points=tuple(Point(name=f'b{i}', scenario='s', metrics={'latency': metric(row)}) for i, row in enumerate(rows)), metric_defs=DEFS)

def regressed(assessment: Assessment) -> bool: return any(c.verdict == 'regressed' for c in assessment.changes)


def wilson(hits: int, n: int) -> tuple[float, float]:
    z, p = 1.96, hits/n
    middle, half = (p + z*z/(2*n))/(1 + z*z/n), z/(1 + z*z/n)*np.sqrt(p*(1 - p)/n + z*z/(4*n*n))
    return max(0.0, middle - half), min(1.0, middle + half)

class Results:
    "Rates with their intervals and bars"
    def __init__(self) -> None: self.rows: list[dict[str, Any]] = []

    def add(self, what: str, model: str, hits: int, n: int, most: float | None = None, least: float | None = None) -> None:
        rate = hits/n
        met = None if most is None and least is None else (most is None or rate <= most) and (least is None or rate >= least)
        self.rows.append({'case': what, 'noise': model, 'rate': rate, 'interval': wilson(hits, n), 'most': most, 'least': least, 'met': met})

    def barred(self) -> Table:
        def bar(r: dict[str, Any]) -> str: return f'≤ {100*r["most"]:g} %' if r['most'] is not None else f'≥ {100*r["least"]:g} %'
        return Table(('case', 'noise', 'rate', '95 % interval', 'bar', ''), tuple(
            (r['case'], r['noise'], f'{100*r["rate"]:.2f} %', f'{100*r["interval"][0]:.2f} – {100*r["interval"][1]:.2f} %', bar(r), 'met' if r['met'] else 'MISSED')
            for r in self.rows if r['met'] is not None and 'power of' not in r['case']), 'The bars', widest=60)

    def side_by_side(self, kind: str) -> Table:
        "One row for each gate, one column for each noise; `kind` says which cases"
        gates = list(dict.fromkeys(r['case'].split(':')[0] for r in self.rows if kind in r['case'] and 'benchmarks' not in r['case'] and 'power of' not in r['case']))
        def cell(gate: str, name: str) -> str:
            found = [r for r in self.rows if r['noise'] == name and r['case'].split(':')[0] == gate and kind in r['case']]
            return f'{100*found[0]["rate"]:.1f}' + (f' ({found[0]["case"].split()[-1]})' if kind == 'finds' else '') if found else ''
        return Table(('noise', *gates), tuple((name, *(cell(g, name) for g in gates)) for name in MODELS), f'{kind} [%]')


# --- our policies ------------------------------------------------------------------------------------------------------------

FOUND = {'between runs 1 %': (0.05, 0.95), 'between runs 2.66 %': (0.10, 0.80), 'between runs 2.66 %, outliers': (0.10, 0.80)}
TWO_RUNS = {'between runs 2.66 %': (0.20, 0.90)}

def draws(name: str, trials: int) -> list[np.ndarray]:
    "For each trial the samples of the earlier runs and of the one that is judged; the same for us and for the rivals"
    levels, within, outliers = MODELS[name]
    rng = np.random.default_rng([20, list(MODELS).index(name)])
    return [samples(rng, levels(rng, EARLIER + 1), within, outliers) for _ in range(trials)]

def history_and_two_runs(results: Results, trials: int) -> None:
    for name in MODELS:
        counts = dict.fromkeys(('history', 'two', 'found', 'found two'), 0)
        effect, least = FOUND.get(name, (0.10, None))
        large, least_two = TWO_RUNS.get(name, (0.20, None))
        for rows in draws(name, trials):
            earlier, now = [run_of(r) for r in rows[:-1]], rows[-1]
            counts['history'] += regressed(assess(run_of(now), history=earlier, policy='history'))
            counts['found'] += regressed(assess(run_of(now*(1 + effect)), history=earlier, policy='history'))
            counts['two'] += regressed(assess(run_of(now), earlier[-1], policy='samples'))
            counts['found two'] += regressed(assess(run_of(now*(1 + large)), earlier[-1], policy='samples'))
        most = 0.015 if name in LISTED else None
        results.add('history: false alarms', name, counts['history'], trials, most=most)
        results.add(f'history: finds {effect:+.0%}', name, counts['found'], trials, least=least)
        results.add('two runs: false alarms', name, counts['two'], trials, most=most)
        results.add(f'two runs: finds {large:+.0%}', name, counts['found two'], trials, least=least_two)

def paired(results: Results, trials: int) -> None:
    "8 rounds of 5 calls; the session is shared by both versions up to 0.3 %"
    for name, (levels, within, outliers) in MODELS.items():
        rng = np.random.default_rng([8, list(MODELS).index(name)])
        alarms = found = 0
        for _ in range(trials):
            session = levels(rng, ROUNDS)
            a, b = (samples(rng, session + 0.003*rng.standard_normal(ROUNDS), within, outliers, 5) for _ in 'ab')
            before = [run_of(r) for r in a]
            alarms += regressed(assess(None, rounds=[(x, run_of(r)) for x, r in zip(before, b)]))
            found += regressed(assess(None, rounds=[(x, run_of(1.02*r)) for x, r in zip(before, b)]))
        results.add('paired: false alarms', name, alarms, trials, most=0.015 if name in LISTED else None)
        results.add('paired: finds +2%', name, found, trials, least=0.95 if name == 'between runs 2.66 %' else None)

def whole_suite(results: Results, trials: int, name: str = 'between runs 1 %', size: int = 100) -> None:
    "100 benchmarks, none or three of them 10 % slower"
    levels, within, outliers = MODELS[name]
    rng = np.random.default_rng([100, 1])
    alarms = everything = planted = strangers = 0
    for _ in range(trials):
        rows = np.stack([samples(rng, levels(rng, EARLIER + 1), within, outliers) for _ in range(size)])
        earlier, now = [run_of(*rows[:, i]) for i in range(EARLIER)], rows[:, -1]
        alarms += regressed(assess(run_of(*now), history=earlier))
        now = now.copy()
        now[:3] *= 1.10
        names = {c.point_name for c in assess(run_of(*now), history=earlier).of('regressed')}
        planted += len(names & {'b0', 'b1', 'b2'})
        everything += {'b0', 'b1', 'b2'} <= names
        strangers += bool(names - {'b0', 'b1', 'b2'})
    results.add(f'{size} benchmarks: any false alarm', name, alarms, trials, most=0.05)
    results.add(f'{size} benchmarks, 3 planted +10%: each found', name, planted, 3*trials, least=0.90)
    results.add(f'{size} benchmarks, 3 planted +10%: all three found', name, everything, trials)
    results.add(f'{size} benchmarks, 3 planted +10%: any other blamed', name, strangers, trials, most=0.05)


# --- the rivals --------------------------------------------------------------------------------------------------------------

JUDGE = '''
import json, sys
rules = {}
try:
    from asv.commands.compare import _is_result_better
    from asv_runner.statistics import compute_stats
    def slower(factor):
        def rule(a, b):
            (ra, sa), (rb, sb) = compute_stats(a, 1), compute_stats(b, 1)
            return bool(_is_result_better(ra, rb, (sa, a), (sb, b), factor))
        return rule
    rules['asv factor 1.10'], rules['asv factor 1.01'] = slower(1.10), slower(1.01)
except ImportError as e: print('asv:', e, file=sys.stderr)
try:
    from pyperf._utils import is_significant
    rules['pyperf'] = lambda a, b: bool(is_significant(a, b)[0]) and sum(b) > sum(a)
except ImportError as e: print('pyperf:', e, file=sys.stderr)
try:
    from pytest_benchmark.utils import parse_compare_fail
    check = parse_compare_fail('min:5%')
    rules['pytest-benchmark min 5 %'] = lambda a, b: bool(check.fails({'min': min(b)}, {'min': min(a)}))
except ImportError as e: print('pytest-benchmark:', e, file=sys.stderr)
cases = json.load(sys.stdin)
json.dump({name: {case: sum(rule(a, b) for a, b in pairs) for case, pairs in cases.items()} for name, rule in rules.items()}, sys.stdout)
'''

def rivals(results: Results, trials: int, python: str) -> None:
    "The same data, judged by the rules of other tools"
    cases: dict[str, list[tuple[list[float], list[float]]]] = {}
    for name in MODELS:
        effect = FOUND.get(name, (0.10, None))[0]
        for rows in draws(name, trials):
            a, b = rows[-2].tolist(), rows[-1]
            cases.setdefault(f'false alarms|{name}', []).append((a, b.tolist()))
            cases.setdefault(f'finds {effect:+.0%}|{name}', []).append((a, (b*(1 + effect)).tolist()))
    done = subprocess.run([python, '-c', JUDGE], input=json.dumps(cases), capture_output=True, text=True)
    for line in done.stderr.splitlines()[-6:]: print('skipped:', line)
    if done.returncode: return
    for rival, found in json.loads(done.stdout).items():
        for case, hits in found.items(): results.add(f'{rival}: {case.split("|")[0]}', case.split('|')[1], hits, trials)


OURS = ('history', 'two runs', 'paired', '100 benchmarks')
SETTINGS = ((0.00002, 0.02), (0.0002, 0.02), (0.001, 0.02), (0.003, 0.02), (0.01, 0.02), (0.03, 0.02), (0.1, 0.02), (0.1, 0.01), (0.25, 0.01))   # alpha, margin

def trade(trials: int) -> dict[str, list[tuple[float, float]]]:
    "By noise: false alarms and found regressions of policy history for each of `SETTINGS`, on the data of the other cases"
    found = {}
    for name, (effect, _) in FOUND.items():
        hits = np.zeros((len(SETTINGS), 2))
        for rows in draws(name, trials):
            earlier = [run_of(r) for r in rows[:-1]]
            same, slow = run_of(rows[-1]), run_of(rows[-1]*(1 + effect))
            hits += [[regressed(assess(r, history=earlier, policy='history', alpha=a, margin=m)) for r in (same, slow)] for a, m in SETTINGS]
        found[name] = [(float(a), float(f)) for a, f in hits/trials]
    return found

def at_equal_power(results: Results, ours: dict[str, list[tuple[float, float]]], trials: int) -> Table:
    "Each rival beside the strictest alpha at which we find as much; a bar each: fewer false alarms, or none on either side"
    rows = []
    for name, (effect, _) in FOUND.items():
        rates = {r['case']: r['rate'] for r in results.rows if r['noise'] == name}
        for rival in dict.fromkeys(c.split(':')[0] for c in rates if not c.startswith(OURS)):
            alarms, power = rates[f'{rival}: false alarms'], rates[f'{rival}: finds {effect:+.0%}']
            (alpha, margin), (mine, found) = next(((s, o) for s, o in zip(SETTINGS, ours[name]) if o[1] >= power), (SETTINGS[-1], ours[name][-1]))
            met = found >= power and (mine < alarms or mine == 0)
            results.rows.append({'case': f'history at the power of {rival}: false alarms', 'noise': name, 'rate': mine, 'interval': wilson(round(mine*trials), trials),
                                 'most': alarms, 'least': None, 'met': met})
            rows.append((name, rival, *(f'{100*v:.2f} %' for v in (power, alarms)), f'{alpha:g}, {100*margin:g} %', *(f'{100*v:.2f} %' for v in (found, mine)), 'ahead' if met else 'NOT AHEAD'))
    return Table(('noise', 'rival', 'finds', 'false alarms', 'our alpha, margin', 'finds', 'false alarms', ''), tuple(rows), 'At equal or better power')


def figure(results: Results, ours: dict[str, list[tuple[float, float]]], path: Path) -> None:
    "False alarms against found regressions: our history for several alphas as a line, each rival as a point"
    import matplotlib
    matplotlib.use('Agg')
    import matplotlib.pyplot as plt

    from calibrax.core.figures import COLORS, figure_style
    with figure_style():
        made, panels = plt.subplots(1, len(FOUND), figsize=(10, 3.4), sharey=True)
        for ax, (name, (effect, _)) in zip(panels, FOUND.items()):
            ax.plot([max(100*a, 0.02) for a, _ in ours[name]], [100*f for _, f in ours[name]], '.-', color=COLORS[0], label='calibrax history, alpha 0.00002 to 0.25')
            ax.plot(*(100*v for v in ours[name][SETTINGS.index((0.01, 0.02))]), 'D', color=COLORS[0], ms=8, label='calibrax history, alpha 0.01')
            rates = {r['case']: 100*r['rate'] for r in results.rows if r['noise'] == name}
            for color, rival in zip(COLORS[1:], dict.fromkeys(c.split(':')[0] for c in rates if not c.startswith(OURS))):
                ax.plot(max(rates[f'{rival}: false alarms'], 0.02), rates[f'{rival}: finds {effect:+.0%}'], 'o', color=color, label=rival)
            ax.axvline(1.5, color='0.4', ls=':', lw=1)
            ax.set(xscale='log', xlim=(0.015, 100), ylim=(-4, 104), xlabel='false alarms [%]', title=f'{name}: {effect:+.0%}')
        panels[0].set_ylabel('found [%]')
        panels[-1].legend(fontsize=7, loc='lower right')
        made.savefig(path, dpi=120)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--trials', type=int, default=2000, help='of each case; a tenth of it for whole suites')
    parser.add_argument('--peers-python', default=sys.executable, help='an interpreter that has asv, pyperf and pytest-benchmark')
    parser.add_argument('--figure', type=Path, help='where to save the picture')
    parser.add_argument('--json', type=Path, help='where to save the numbers')
    given = parser.parse_args()
    results = Results()
    history_and_two_runs(results, given.trials)
    paired(results, given.trials)
    whole_suite(results, max(20, given.trials//10))
    rivals(results, given.trials, given.peers_python)
    ours = trade(given.trials)
    equal = at_equal_power(results, ours, given.trials)
    if equal.rows: print(f'{equal}\n')
    for table in (results.side_by_side('false alarms'), results.side_by_side('finds'), results.barred()): print(f'{table}\n')
    if given.json: given.json.write_text(json.dumps(results.rows, indent=1) + '\n')
    if given.figure: figure(results, ours, given.figure)
    missed = [r for r in results.rows if r['met'] is False]
    print(f'{sum(r["met"] is True for r in results.rows)} bars met, {len(missed)} missed')
    return 1 if missed else 0


if __name__ == '__main__': sys.exit(main())
