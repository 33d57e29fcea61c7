"The gate and its reports: which case ends with which exit code, and what each reader is told."
import json, math, re
from datetime import UTC, datetime, timedelta
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings, strategies as st

from calibrax.ci import CIGuard, GuardResult, to_json, to_junit, to_markdown, to_text
from calibrax.core.errors import CalibraxError, ConfigError, NoBaselineError, RunNotFoundError, StatisticsError
from calibrax.core.models import Metric, MetricDef, Point, Regression, Run
from calibrax.storage import Store

DEFS = {'throughput': MetricDef(name='throughput', unit='elem/s', direction='higher'), 'latency_p50': MetricDef(name='latency_p50', unit='ms', direction='lower')}
START = datetime(2026, 3, 1, tzinfo=UTC)


def point(name, tags=None, **metrics): return Point(name=name, scenario='CV-1', tags=tags or {}, metrics={k: Metric(value=v) for k, v in metrics.items()})
def suite(throughput=20158, latency=12, name='CV-1/small'): return point(name, throughput=throughput, latency_p50=latency)
def run(id, *points, day=1, **fields): return Run(**{'id': id, 'timestamp': START + timedelta(days=day), 'metric_defs': DEFS, 'points': points} | fields)


@pytest.fixture
def store(tmp_path):
    "Holds one run, the baseline"
    store = Store(tmp_path/'benchmark-data')
    store.save(run('r1', suite(), suite(name='CV-1/large'), day=0))
    store.set_baseline('r1')
    return store

def check(store, *points, **switches):
    fields = {k: switches.pop(k) for k in list(switches) if k in ('metric_defs', 'metadata', 'environment')}
    store.save(run('r2', *points, **fields))
    return CIGuard(store, **switches).check()


BOTH = suite(), suite(name='CV-1/large')
SECONDS = {**DEFS, 'latency_p50': MetricDef(name='latency_p50', unit='s', direction='lower')}
FLIPPED = {**DEFS, 'latency_p50': MetricDef(name='latency_p50', unit='ms', direction='higher')}
UNDEFINED = point('CV-1/small', throughput=20158, latency_p50=12, memory=3), BOTH[1]

CASES = {   # points, fields and switches, exit code, what the first line begins with
    'pass': (BOTH, {}, 0, 'PASS: no regressions (4 metrics compared, threshold 5%)'),
    'regression': ((suite(18000, 15), BOTH[1]), {}, 1, 'FAIL: 2 regression(s) detected:'),
    'improvement': ((suite(25000, 9), BOTH[1]), {}, 0, 'PASS'),
    'exactly the threshold': ((suite(20158*.95, 12.6), BOTH[1]), {}, 0, 'PASS'),
    'NaN': ((suite(math.nan), BOTH[1]), {}, 1, 'FAIL: 1 regression(s)'),
    'infinite': ((suite(math.inf), BOTH[1]), {}, 1, 'FAIL: 1 regression(s)'),
    'point gone': ((suite(),), {}, 1, 'FAIL: 2 metric(s) of the baseline are missing'),
    'point skipped': ((suite(), point('CV-1/large')), {}, 1, 'FAIL: 2 metric(s)'),
    'metric gone': ((point('CV-1/small', throughput=20158), BOTH[1]), {}, 1, 'FAIL: 1 metric(s)'),
    'one of two renamed': ((suite(), suite(name='CV-1/huge')), {}, 1, 'FAIL: 2 metric(s)'),
    'point gone, allowed': ((suite(),), {'allow_missing': True}, 0, 'PASS'),
    'point gone and regressed, allowed': ((suite(1),), {'allow_missing': True}, 1, 'FAIL: 1 regression(s)'),
    'unit changed': (BOTH, {'metric_defs': SECONDS}, 2, 'NOT COMPARABLE: 2 metric(s)'),
    'direction changed': (BOTH, {'metric_defs': FLIPPED}, 2, 'NOT COMPARABLE: 2 metric(s)'),
    'unit changed and regressed': ((suite(1), BOTH[1]), {'metric_defs': SECONDS}, 1, 'FAIL: 1 regression(s)'),
    'dirty tree': (BOTH, {'metadata': {'dirty': True}}, 0, 'PASS'),
    'dirty tree, strict': (BOTH, {'metadata': {'dirty': True}, 'strict': True}, 3, 'INCONCLUSIVE'),
    'undefined metric': (UNDEFINED, {}, 0, 'PASS'),
    'undefined metric, strict': (UNDEFINED, {'strict': True}, 3, 'INCONCLUSIVE'),
    'strict, nothing to say': (BOTH, {'strict': True}, 0, 'PASS'),
    'strict and regressed': ((suite(1), BOTH[1]), {'strict': True, 'metadata': {'dirty': True}}, 1, 'FAIL'),
    'higher threshold': ((suite(18000, 15), BOTH[1]), {'threshold': 0.3}, 0, 'PASS: no regressions (4 metrics compared, threshold 30%)'),
}


@pytest.mark.parametrize('points, fields, code, headline', CASES.values(), ids=CASES)
def test_exit_codes(store, points, fields, code, headline):
    result = check(store, *points, **fields)
    assert result.exit_code == code and result.passed == (code == 0)
    assert to_text(result).startswith(headline)
    data = to_json(result)
    assert data['exit_code'] == code and data['verdict'] == ['pass', 'fail', 'not_comparable', 'inconclusive'][code]
    assert json.loads(json.dumps(data, allow_nan=False)) == data
    totals = ElementTree.fromstring(to_junit(result).encode())[0]
    assert (int(totals.get('failures')) + int(totals.get('errors')) > 0) == (code != 0)
    assert f"Benchmarks {['passed', 'failed', 'not comparable', 'inconclusive'][code]}" in to_markdown(result).splitlines()[0]
    assert GuardResult.from_json(result.to_json()) == result


@pytest.mark.parametrize('points, message', [
    ((), 'run r2 measured nothing'), ((point('CV-1/small'),), 'run r2 measured nothing'),
    ((suite(name='a'), suite(name='b')), 'run r2 and baseline r1 have no metric in common'),
    ((point('CV-1/small', loss=1),), 'run r2 and baseline r1 have no metric in common')], ids=['empty', 'no metrics', 'renamed', 'other metric'])
@pytest.mark.parametrize('switches', [{}, {'allow_missing': True, 'strict': True}])
def test_seeing_nothing_is_an_error(store, points, message, switches):
    with pytest.raises(StatisticsError, match=message) as e: check(store, *points, **switches)
    assert e.value.hint


def test_nothing_that_could_be_judged(tmp_path):
    store = Store(tmp_path)
    for id, day in (('r1', 0), ('r2', 1)): store.save(run(id, suite(), day=day, metric_defs={}))
    store.set_baseline('r1')
    with pytest.raises(StatisticsError, match=r'no metric of run r2 can be judged: throughput \(no definition\), latency_p50 \(no definition\)') as e: CIGuard(store).check()
    assert 'config.json' in e.value.hint


def test_definitions_of_the_store_count(tmp_path):
    (tmp_path/'config.json').write_text('{"metric_defs": {"lat": {"unit": "ms", "direction": "lower"}}}')
    store = Store(tmp_path)
    for id, day, value in (('r1', 0, 1), ('r2', 1, 100)): store.save(run(id, point('p', lat=value), day=day, metric_defs={}))
    store.set_baseline('r1')
    result = CIGuard(store).check()
    assert not result.passed and result.regressions[0].unit == 'ms'


# --- baselines and runs --------------------------------------------------------------------------------------------------

def test_no_baseline(tmp_path):
    store = Store(tmp_path)
    store.save(run('r1', suite()))
    with pytest.raises(NoBaselineError, match='No baseline set') as e: CIGuard(store).check()
    assert isinstance(e.value, FileNotFoundError) and '`calibrax baseline --run latest`' in e.value.hint
    with pytest.raises(NoBaselineError, match="'release'") as e: CIGuard(store, baseline='release').check()
    assert '--name release' in e.value.hint


def test_first_run_is_accepted_once(tmp_path):
    store = Store(tmp_path)
    store.save(run('r1', suite()))
    first = CIGuard(store, first_run='accept').check()
    assert first.passed and first.exit_code == 0 and (first.baseline_id, first.current_id) == ('r1', 'r1')
    assert store.get_baseline().id == 'r1'
    assert to_text(first) == "PASS: no regressions (threshold 5%)\nnote: there was no baseline 'main'; run r1 is the baseline now"
    store.save(run('r2', suite(1), day=2))
    assert CIGuard(store, first_run='accept').check().exit_code == 1
    assert store.get_baseline().id == 'r1'


def test_first_run_that_measured_nothing_is_not_accepted(tmp_path):
    store = Store(tmp_path)
    store.save(run('r1'))
    with pytest.raises(StatisticsError, match='measured nothing'): CIGuard(store, first_run='accept').check()
    assert store.get_baseline() is None


def test_damaged_baseline_is_no_missing_baseline(store, tmp_path):
    next((tmp_path/'benchmark-data'/'baselines').iterdir()).write_text('{"id": "r1", ')
    for first_run in ('error', 'accept'):
        with pytest.raises(CalibraxError) as e: CIGuard(store, first_run=first_run).check()
        assert not isinstance(e.value, NoBaselineError)


def test_damaged_files_elsewhere_are_named_and_do_not_count(store, tmp_path):
    store.save(run('r2', *BOTH))
    (tmp_path/'benchmark-data'/'runs'/'half.json').write_text('{"id": "r0", ')
    result = CIGuard(Store(store.path), strict=True).check()
    assert result.exit_code == 0 and len(result.damaged) == 1 and result.damaged[0].startswith('runs/half.json cannot be read and was left out: ')
    assert 'warning: runs/half.json' in to_text(result) and 'runs/half.json' in to_markdown(result) and to_json(result)['damaged']


def test_named_baseline_and_named_run(store):
    store.save(run('r2', suite(18000), suite(name='CV-1/large')))
    store.save(run('r3', *BOTH, day=2))
    store.set_baseline('r2', 'slow')
    assert CIGuard(store).check().passed and CIGuard(store).check().current_id == 'r3'
    assert not CIGuard(store).check('r2').passed
    assert CIGuard(store, baseline='slow').check('r2').passed
    with pytest.raises(RunNotFoundError): CIGuard(store).check('r9')
    with pytest.raises(CalibraxError): CIGuard(store).check('')


def test_the_baseline_judged_against_itself_says_so(store):
    result = CIGuard(store, strict=True).check()
    assert result.exit_code == 0 and result.notes == ('run r1 is the baseline itself: nothing new was measured',)


@pytest.mark.parametrize('arguments', [{'threshold': -1}, {'threshold': math.nan}, {'first_run': 'yes'}])
def test_bad_settings(store, arguments):
    with pytest.raises(ConfigError): CIGuard(store, **arguments)

def test_a_path_is_no_store():
    with pytest.raises(ConfigError, match='expected a Store, found str'): CIGuard('benchmark-data')


def test_published_record():
    result = GuardResult(passed=False, regressions=(Regression(metric='m', point_name='p', baseline_value=1, current_value=2, delta_pct=100, direction='lower'),),
                         threshold=0.05, baseline_id=None, current_id='r2')
    assert {'passed', 'regressions', 'threshold', 'baseline_id', 'current_id'} <= set(result.to_dict())
    assert to_text(result) == 'FAIL: 1 regression(s) detected:\n  ↑ p m: 1.00 → 2.00 (+100.0%)'
    assert 'p m' in to_markdown(result) and len(ElementTree.fromstring(to_junit(result).encode()).findall('.//failure')) == 1
    assert GuardResult(passed=False, regressions=(), threshold=0.05, baseline_id=None, current_id='r2').exit_code == 1


# --- reports -------------------------------------------------------------------------------------------------------------

def test_text_of_the_seeds(store):
    store.save(run('r0', suite(), day=0)); store.set_baseline('r0')
    assert to_text(check(store, suite(18000, 15))) == '''\
FAIL: 2 regression(s) detected:
  ↓ CV-1/small throughput: 20158.00 → 18000.00 (-10.7%)
  ↑ CV-1/small latency_p50: 12.00 → 15.00 (+25.0%)'''


def test_text_says_all(store):
    result = check(store, suite(18000, 9), suite(name='CV-1/new'), metric_defs={**DEFS, 'throughput': MetricDef(name='throughput', unit='1/s', direction='higher')}, metadata={'dirty': True})
    assert to_text(result, verbose=True).splitlines() == [
        'FAIL: 2 metric(s) of the baseline are missing (1 metrics compared, threshold 5%):',
        'MISSING CV-1/large throughput, latency_p50: the point is gone',
        "NOT COMPARABLE CV-1/small throughput: the unit was 'elem/s', now it is '1/s'",
        'warning: run r2 was measured with uncommitted changes in the working tree',
        '1 improved, 2 new',
        '  ↓ CV-1/small latency_p50: 12.00 → 9.00 (-25.0%) improved',
        '  · CV-1/new throughput: – → 20158.00 new',
        '  · CV-1/new latency_p50: – → 12.00 new']


def test_tags_stand_where_the_name_is_not_enough(tmp_path):
    store = Store(tmp_path)
    for id, day, value in (('r1', 0, 10), ('r2', 1, 5)):
        store.save(run(id, *(point('p', {'framework': f}, throughput=value) for f in ('Datarax', 'Grain')), point('q', {'framework': 'Grain'}, throughput=value), day=day))
    store.set_baseline('r1')
    assert [l.split(':')[0] for l in to_text(CIGuard(store).check()).splitlines()[1:]] == [
        '  ↓ p [framework=Datarax] throughput', '  ↓ p [framework=Grain] throughput', '  ↓ q throughput']


NASTY = st.text(st.characters(exclude_categories=['Cs']), min_size=1, max_size=12)

@settings(max_examples=200)
@given(NASTY, NASTY, NASTY, st.floats(), st.floats())
def test_any_name_survives_in_every_report(name, tag, metric, before, now):
    from calibrax.analysis import compare_runs
    defs = {metric: MetricDef(name=metric, unit=tag, direction='lower')}
    a, b = (Run(id=i, metric_defs=defs, points=[Point(name=name, scenario=tag, tags={tag: name}, metrics={metric: Metric(value=v)})]) for i, v in (('r1', before), ('r2', now)))
    c = compare_runs(b, a)
    result = GuardResult(passed=not c.regressions, regressions=tuple(c.regressions), threshold=.05, baseline_id='r1', current_id='r2', comparison=c, warnings=c.warnings)
    assert len(ElementTree.fromstring(to_junit(result).encode()).findall('.//testcase')) == 1
    tables = [l for l in to_markdown(result).splitlines() if l.startswith('|')]
    assert len(tables) == 3 and all(len(re.findall(r'(?<!\\)(?:\\\\)*\|', l)) == 7 for l in tables)
    assert not re.search(r'<(?!/?(details|summary)>)', to_markdown(result))
    assert json.dumps(to_json(result), allow_nan=False)
    lines = to_text(result).split('\n')
    assert len(lines) <= 2 + len(result.regressions) + len(result.warnings)


@pytest.mark.parametrize('options, match', [({'history': 0}, 'history: expected a whole number from 1'), ({'history': -5}, 'history'), ({'history': 2.5}, 'history'), ({'history': True}, 'history'),
                                            ({'target': 'main', 'baseline': 'nightly'}, "a baseline 'nightly' and a target 'main'")])
def test_what_makes_no_sense_is_refused_whatever_the_policy(tmp_path, options, match):
    for policy in ('threshold', 'history'):
        with pytest.raises(ConfigError, match=match): CIGuard(Store(tmp_path), policy=policy, **options)
