"The exit code of `calibrax check` in every case of the design, with the defaults and under --strict."
import math
import random
from datetime import UTC, datetime, timedelta

import pytest
from click.testing import CliRunner

from calibrax.cli import main
from calibrax.core import Metric, MetricDef, Point, Run
from calibrax.storage import Store

LATENCY = MetricDef(name='latency', unit='ms', direction='lower')
DEFS = {'latency': LATENCY, 'throughput': MetricDef(name='throughput', unit='elem/s', direction='higher')}
MACHINE = {'cpu': 'one', 'cores_logical': 8, 'python': '3.11.7'}
NOISE = random.Random(0)


def run(day, points=None, *, defs=DEFS, environment=MACHINE, **fields):
    points = {'a': {'latency': 12.0, 'throughput': 500.0}, 'b': {'latency': 40.0, 'throughput': 150.0}} if points is None else points
    return Run(**{'id': f'r{day}', 'timestamp': datetime(2026, 3, 1, tzinfo=UTC) + timedelta(days=day), **fields}, metric_defs=defs, environment=environment, points=[
        Point(name=name, scenario='s', metrics={m: v if isinstance(v, Metric) else Metric(value=v) for m, v in metrics.items()})
        for name, metrics in points.items()])


def sampled(value, noise=0.01):
    samples = [value*NOISE.gauss(1, noise) for _ in range(10)]
    return Metric(value=sum(samples)/10, samples=samples)

def changed(point='a', metric='latency', value=12.0, **fields):
    points = {'a': {'latency': 12.0, 'throughput': 500.0}, 'b': {'latency': 40.0, 'throughput': 150.0}}
    points[point][metric] = value
    return run(1, points, **fields)

def definitions(**new): return {**DEFS, 'latency': MetricDef(**{'name': 'latency', 'unit': 'ms', 'direction': 'lower', **new})}

SECONDS, MORE = definitions(unit='s'), definitions(direction='higher')
JUST_A = {'a': {'latency': 12.0, 'throughput': 500.0}}
CASES = {       # what happened: (the later run, options, exit code, exit code under --strict, what is said)
    'pass': (run(1), [], 0, 0, 'PASS: no regressions'),
    'regression': (changed(value=15.0), [], 1, 1, 'FAIL: 1 regression(s) detected'),
    'improvement': (changed(value=9.0), [], 0, 0, '1 improved'),
    'NaN': (changed(value=math.nan), [], 1, 1, 'NaN'),
    'infinite': (changed(metric='throughput', value=math.inf), [], 1, 1, 'FAIL'),
    'renamed': (run(1, {'c': JUST_A['a'], 'd': JUST_A['a']}), [], 2, 2, 'no metric in common'),
    'skipped': (run(1, JUST_A), [], 1, 1, 'MISSING'),
    'skipped, allowed': (run(1, JUST_A), ['--allow-missing'], 0, 0, '(allowed)'),
    'unit changed': (changed(defs=SECONDS), [], 2, 2, 'NOT COMPARABLE'),
    'direction changed': (changed(defs=MORE), [], 2, 2, 'NOT COMPARABLE'),
    'machine changed': (run(1, environment={**MACHINE, 'cpu': 'another'}), [], 0, 3, 'another'),
    'dirty tree': (run(1, metadata={'dirty': True}), [], 0, 3, 'warning'),
    'zero benchmarks': (run(1, {}), [], 2, 2, 'measured nothing'),
    'inconclusive': (changed(value=sampled(12.7)), ['--policy', 'samples'], 0, 3, 'inconclusive'),
    'regression beyond doubt': (changed(value=sampled(24.0)), ['--policy', 'samples'], 1, 1, 'worse than'),
    'wrong policy': (run(1), ['--policy', 'paired'], 2, 2, 'policy'),
    'negative threshold': (run(1), ['--threshold', '-1'], 2, 2, 'threshold'),
}

def check(*arguments): return CliRunner().invoke(main, ['check', '--data', 'd', *arguments])


@pytest.fixture
def store(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    store = Store('d')
    store.save(run(0, {'a': {'latency': sampled(12.0), 'throughput': 500.0}, 'b': {'latency': 40.0, 'throughput': 150.0}}))
    store.set_baseline('r0')
    return store


@pytest.mark.parametrize('strict', [False, True], ids=['', 'strict'])
@pytest.mark.parametrize('case', CASES, ids=lambda case: case.replace(' ', '_'))
def test_exit_code(case, strict, store):
    later, options, code, strict_code, says = CASES[case]
    store.save(later)
    out = check(*options, *(['--strict'] if strict else []))
    assert out.exit_code == (strict_code if strict else code), out.output
    assert says in out.output and 'Traceback' not in out.output


@pytest.mark.parametrize('options', [[], ['--strict'], ['--policy', 'auto'], ['--policy', 'history']], ids=' '.join)
def test_no_store_and_no_baseline(options, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert check(*options).exit_code == 2
    Store('d').save(run(0))
    out = check(*options)
    assert out.exit_code == 2 and 'No baseline' in out.output


def test_a_corrupt_baseline_and_a_corrupt_run(store):
    store.save(run(1))
    newest = sorted((store.path/'runs').glob('*.json'))[-1]
    newest.write_text(newest.read_text()[:200])
    out = check('--run', 'r1')
    assert out.exit_code == 2 and newest.name in out.output
    baseline = store.path/'baselines'/'main.json'
    baseline.write_text(baseline.read_text()[:200])
    out = check('--run', 'r0')
    assert out.exit_code == 2 and 'main.json' in out.output


def night(day, latency): return run(day, {'a': {'latency': sampled(latency*NOISE.gauss(1, 0.01)), 'throughput': 500.0}})

@pytest.mark.parametrize('latency, code', [(12.0, 0), (13.2, 1)])
def test_history_sees_what_a_threshold_does_not(latency, code, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    store = Store('d')
    for day in range(20): store.save(night(day, 12.0))
    store.set_baseline('r0')
    store.save(night(20, latency))
    assert check('--threshold', '0.2').exit_code == 0
    for policy in ('history', 'auto'):
        out = check('--policy', policy, '--threshold', '0.2')
        assert out.exit_code == code and 'policy history: 20 earlier runs' in out.output or code, out.output
    assert check('--policy', 'history', '--history', '0').exit_code == 2


BY_HISTORY = {name: CASES[name] for name in ('pass', 'regression', 'improvement', 'NaN', 'infinite', 'renamed', 'skipped', 'skipped, allowed', 'unit changed', 'direction changed',
                                             'machine changed', 'dirty tree', 'zero benchmarks')}

@pytest.fixture(scope='module')
def nights(tmp_path_factory):
    "Twenty nights of both points, whose first is the baseline"
    draw, folder = random.Random(5), tmp_path_factory.mktemp('nights')
    store = Store(folder/'d')
    for hour in range(20):
        points = {p: {'latency': latency*draw.gauss(1, 0.01), 'throughput': rate*draw.gauss(1, 0.01)} for p, latency, rate in (('a', 12.0, 500.0), ('b', 40.0, 150.0))}
        store.save(run(0, points, id=f'h{hour}', timestamp=datetime(2026, 3, 1, hour, tzinfo=UTC)))
    store.set_baseline('h0')
    return folder


@pytest.mark.parametrize('strict', [False, True], ids=['', 'strict'])
@pytest.mark.parametrize('case', BY_HISTORY, ids=lambda case: case.replace(' ', '_'))
def test_exit_code_by_history(case, strict, nights, tmp_path, monkeypatch):
    "The policies that look at the noise end as the threshold does in every clear case"
    import shutil
    shutil.copytree(nights/'d', tmp_path/'d')
    monkeypatch.chdir(tmp_path)
    later, options, code, strict_code, _ = CASES[case]
    Store('d').save(later)
    for policy in ('history', 'auto'):
        out = check('--policy', policy, *options, *(['--strict'] if strict else []))
        assert out.exit_code == (strict_code if strict else code), out.output
