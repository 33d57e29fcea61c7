"Comparing runs: the rule for two values, matching, definitions, and what may never be silent."
import logging, math

import pytest
from hypothesis import given, settings, strategies as st

from calibrax.analysis.regression import Change, Comparison, Verdict, compare_runs, detect_regressions, judge, plot_comparison
from calibrax.core.errors import CalibraxError, ConfigError, RecordError
from calibrax.core.models import Metric, MetricDef, MetricDirection, Point, Run

HIGHER, LOWER, INFO = MetricDirection
nan, inf = math.nan, math.inf
numbers = st.floats(allow_nan=True, allow_infinity=True)
thresholds = st.floats(0, 10)


def define(*names, unit='', direction=LOWER): return {n: MetricDef(name=n, unit=unit, direction=direction) for n in names}
def point(name='p', scenario='s', tags=None, **metrics):
    return Point(name=name, scenario=scenario, tags=tags or {}, metrics={k: Metric(value=v) for k, v in metrics.items()})
def run(*points, defs=None, **fields): return Run(points=points, metric_defs=define('m') if defs is None else defs, **fields)
def verdicts(now, before, *args, **kwargs): return [(c.metric, c.verdict.value) for c in compare_runs(now, before, *args, **kwargs).changes]


# --- two values ----------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize('before, now, threshold', [(100, 105, .05), (20, 21, .05), (0.1, 0.105, .05), (0.1, 0.1*1.05, .05), (3, 3.3, .1), (0.7, 0.77, .1),
                                                    (1e-12, 1.07e-12, .07), (1e300, 1.05e300, .05), (-100, -95, .05), (20158, 20158*1.05, .05)])
def test_exactly_the_threshold_is_not_beyond(before, now, threshold):
    assert judge(before, now, LOWER, threshold)[0] == judge(-before, -now, HIGHER, threshold)[0] == 'unchanged'
    further = now + 1e-9*abs(now)
    assert judge(before, further, LOWER, threshold)[0] == 'regressed'


@pytest.mark.parametrize('before, now, direction, verdict', [
    (0, 100, LOWER, 'regressed'), (0, 100, HIGHER, 'improved'), (0, 0.05, LOWER, 'unchanged'), (0, 0.0501, LOWER, 'regressed'), (0, -1, HIGHER, 'regressed'),
    (-0.0, 0.0, LOWER, 'unchanged'), (-10, -11, HIGHER, 'regressed'), (-10, -11, LOWER, 'improved'), (-1, 1, LOWER, 'regressed'),
    (1e308, -1e308, HIGHER, 'regressed'), (-1e308, 1e308, HIGHER, 'improved'), (5e-324, 1e308, LOWER, 'regressed'),
    (1, nan, LOWER, 'regressed'), (1, nan, HIGHER, 'regressed'), (1, inf, HIGHER, 'regressed'), (1, -inf, LOWER, 'regressed'), (0, nan, LOWER, 'regressed'),
    (nan, 1, LOWER, 'improved'), (inf, 1, HIGHER, 'improved'), (nan, nan, LOWER, 'unchanged'), (inf, inf, LOWER, 'unchanged'), (inf, nan, LOWER, 'unchanged'),
    (1, nan, INFO, 'informational'), (1, 5, INFO, 'informational')])
def test_judge(before, now, direction, verdict):
    found, reason = judge(before, now, direction)
    assert found == verdict and reason


def test_a_threshold_of_zero_allows_nothing():
    assert judge(1, math.nextafter(1, 2), LOWER, 0)[0] == 'regressed'
    assert judge(1, 1, LOWER, 0)[0] == 'unchanged'


@settings(max_examples=1000)
@given(numbers, numbers, st.sampled_from([HIGHER, LOWER]), thresholds)
def test_negating_and_flipping_changes_no_verdict(before, now, direction, threshold):
    flipped = LOWER if direction is HIGHER else HIGHER
    assert judge(before, now, direction, threshold)[0] == judge(-before, -now, flipped, threshold)[0]


@settings(max_examples=300)
@given(numbers, numbers, thresholds)
def test_worse_in_one_direction_is_better_in_the_other(before, now, threshold):
    a, b = (judge(before, now, d, threshold)[0] for d in (HIGHER, LOWER))
    if math.isfinite(before) and math.isfinite(now): assert {a, b} in ({'regressed', 'improved'}, {'unchanged'})
    else: assert a == b


@settings(max_examples=300)
@given(st.floats(1e-100, 1e100), st.floats(1.0, 3.0), st.integers(-60, 60))
def test_the_unit_does_not_matter(before, factor, power):
    assert judge(before, before*factor, LOWER)[0] == judge(before*2.0**power, before*factor*2.0**power, LOWER)[0]


@pytest.mark.parametrize('threshold', [-1, -0.01, nan, inf, '0.05', None, True, [0.05]])
def test_bad_threshold(threshold):
    for f in (compare_runs, detect_regressions):
        with pytest.raises(ConfigError, match='threshold: expected a number of at least 0') as e: f(run(), run(), threshold)
        assert e.value.hint


# --- whole runs ----------------------------------------------------------------------------------------------------------

names, tags = st.sampled_from('pqr'), st.dictionaries(st.sampled_from(['framework', 'device']), st.sampled_from('xy'), max_size=2)
metrics = st.dictionaries(st.sampled_from('abc'), numbers.map(lambda v: Metric(value=v)), max_size=3)
points = st.builds(Point, name=names, scenario=st.sampled_from('AB'), tags=tags, metrics=metrics)
definitions = st.dictionaries(st.sampled_from('abc'), st.builds(MetricDef, name=st.just('m'), unit=st.sampled_from(['s', 'ms']), direction=st.sampled_from(list(MetricDirection))))
runs = st.builds(Run, points=st.lists(points, max_size=8).map(tuple), metric_defs=definitions)


@settings(max_examples=300)
@given(runs, thresholds)
def test_a_run_against_itself_never_regresses(r, threshold):
    c = compare_runs(r, r, threshold)
    assert not c.regressions and not c.of('vanished', 'new', 'not_comparable', 'improved')


@settings(max_examples=300)
@given(runs, runs, thresholds)
def test_every_metric_gets_one_verdict(now, before, threshold):
    c = compare_runs(now, before, threshold)
    count = lambda r: sum(len(p.metrics) for p in r.points)
    assert sum(o.current_value is not None for o in c.changes) == count(now)
    assert sum(o.baseline_value is not None for o in c.changes) == count(before)
    assert sum(c.counts.values()) == len(c.changes) and all(o.reason for o in c.changes)
    assert len(c.regressions) == c.counts[Verdict.REGRESSED]
    assert Comparison.from_json(c.to_json()) == c
    assert repr(c) and c._repr_html_()


@settings(max_examples=300)
@given(runs, runs, thresholds)
def test_negated_runs_get_the_same_verdicts(now, before, threshold):
    flip = {HIGHER: LOWER, LOWER: HIGHER, INFO: INFO}
    def negated(r):
        return Run(points=tuple(Point(name=p.name, scenario=p.scenario, tags=p.tags, metrics={k: Metric(value=-m.value) for k, m in p.metrics.items()}) for p in r.points),
                   metric_defs={k: MetricDef(name=d.name, unit=d.unit, direction=flip[d.direction]) for k, d in r.metric_defs.items()})
    assert verdicts(now, before, threshold) == verdicts(negated(now), negated(before), threshold)


def test_seeds_example():
    defs = define('throughput', unit='elem/s', direction=HIGHER) | define('latency_p50', unit='ms')
    before, now = (run(point('CV-1/small', throughput=t, latency_p50=l), defs=defs) for t, l in ((20158, 12), (18000, 15)))
    assert repr(detect_regressions(now, before)[0]) == '↓ CV-1/small throughput: 20158.00 → 18000.00 (-10.7%)'
    assert [r.metric for r in detect_regressions(now, before)] == ['throughput', 'latency_p50']
    assert [r.metric for r in detect_regressions(now, before, 0.2)] == ['latency_p50']
    r = detect_regressions(now, before)[1]
    assert (r.unit, r.delta_pct, r.direction, r.scenario) == ('ms', 25.0, 'lower', 's')
    assert '<table>' in detect_regressions(now, before)._repr_html_()


# --- matching ------------------------------------------------------------------------------------------------------------

def test_tags_keep_frameworks_apart():
    before, now = (run(point(tags={'framework': 'Datarax'}, m=a), point(tags={'framework': 'Grain'}, m=b)) for a, b in ((10, 1), (10, 2)))
    found = compare_runs(now, before)
    assert [r.tags for r in found.regressions] == [{'framework': 'Grain'}]
    assert found.labelled('regressed')[0][0] == 'p [framework=Grain]'


def test_equal_names_in_two_scenarios_stay_apart():
    r = run(point(scenario='A', m=10), point(scenario='B', m=1))
    assert verdicts(r, r) == [('m', 'unchanged')]*2
    swapped = run(point(scenario='B', m=1), point(scenario='A', m=10))
    assert verdicts(swapped, r) == [('m', 'unchanged')]*2
    assert verdicts(run(point(scenario='A', m=10)), r) == [('m', 'unchanged'), ('m', 'vanished')]
    assert compare_runs(run(point(scenario='A', m=20), point(scenario='B', m=1)), r).labelled('regressed')[0][0] == 'p [scenario=A]'


def test_a_renamed_scenario_is_still_the_same_point():
    assert verdicts(run(point(scenario='new', m=20)), run(point(scenario='old', m=10))) == [('m', 'regressed')]


def test_repeated_points_are_matched_in_order_and_named():
    r = run(point(m=1), point(m=10), point(m=100))
    found = compare_runs(r, r)
    assert found.counts[Verdict.UNCHANGED] == 3
    assert found.warnings == ('measured more than once in a run, and matched in order: p',)


# --- definitions ---------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize('own, baseline, given_, verdict', [
    (None, None, None, 'undefined'), (None, None, LOWER, 'regressed'), (None, None, HIGHER, 'improved'),
    (None, LOWER, HIGHER, 'regressed'), (LOWER, None, HIGHER, 'not_comparable'), (HIGHER, None, LOWER, 'not_comparable'), (LOWER, LOWER, HIGHER, 'regressed')])
def test_definitions_run_then_baseline_then_argument(own, baseline, given_, verdict):
    def defs(d): return define('m', direction=d) if d else {}
    assert verdicts(run(point(m=2), defs=defs(own)), run(point(m=1), defs=defs(baseline)), metric_defs=defs(given_)) == [('m', verdict)]


@pytest.mark.parametrize('changed, reason', [
    (define('m', unit='s'), "the unit was 'ms', now it is 's'"), (define('m', unit='ms', direction=HIGHER), 'less was better, now more is'),
    (define('m', unit='ms', direction=INFO), 'less was better, now it is for information')])
def test_changed_definition_is_not_comparable(changed, reason):
    change, = compare_runs(run(point(m=5), defs=changed), run(point(m=1), defs=define('m', unit='ms'))).changes
    assert (change.verdict, change.reason, change.change) == ('not_comparable', reason, '')


def test_undefined_is_a_warning_and_config_can_define_it():
    now, before = run(point(m=5), defs={}), run(point(m=1), defs={})
    assert detect_regressions(now, before) == []
    assert compare_runs(now, before).warnings == ('no definition says whether more is better, so not judged: m',)
    assert len(detect_regressions(now, before, metric_defs=define('m'))) == 1


# --- never silent --------------------------------------------------------------------------------------------------------

def test_vanished_points_and_metrics():
    before = run(point('p', m=1, n=2), point('q', m=1))
    assert [(c.point_name, c.metric, c.reason) for c in compare_runs(run(point('p', m=1)), before).of('vanished')] == \
        [('p', 'n', 'the metric is gone'), ('q', 'm', 'the point is gone')]
    assert [c.reason for c in compare_runs(run(point('p'), point('q')), before).of('vanished')] == ['the metric is gone']*3


def test_detect_regressions_logs_what_its_list_cannot_say(caplog):
    before = run(point('p', m=1, n=2), point('q', m=1), defs=define('m', unit='s'))
    with caplog.at_level(logging.WARNING, logger='calibrax'):
        assert detect_regressions(run(point('p', m=1, n=2), defs=define('m', unit='ms')), before) == []
    assert caplog.messages == ["not comparable: p m: the unit was 's', now it is 'ms'", 'vanished: q m: the point is gone',
                               'no definition says whether more is better, so not judged: n']


def test_warnings():
    environments = {'packages': {'jax': '0.5.0'}}, {'packages': {'jax': '0.6.0'}}
    before = run(point(m=nan), id='r1', environment=environments[0], metadata={'dirty': True})
    now = run(point(m=nan), point('new', m=inf), id='r2', environment=environments[1], metadata={'dirty': False})
    assert compare_runs(now, before).warnings == (
        'NaN or infinite, with no finite baseline to judge by: p m, new m',
        'baseline r1 was measured with uncommitted changes in the working tree', 'the environment changed: jax: 0.5.0 → 0.6.0')
    assert compare_runs(run(point('x', m=1)), run(point('y', m=1))).warnings == ('the two runs have no metric in common',)
    assert compare_runs(run(point(m=1)), run(point(m=1), environment=environments[0])).warnings == ()


def test_regressions_without_a_percentage():
    nan_now, from_zero = (detect_regressions(run(point(m=b)), run(point(m=a)))[0] for a, b in ((1, nan), (0, 3)))
    assert math.isnan(nan_now.delta_pct) and from_zero.delta_pct == inf and from_zero.change == '+3.00'


@pytest.mark.parametrize('wrong', [None, {}, 'r1', 3])
def test_wrong_types(wrong):
    for args, name in (((wrong, run()), 'run'), ((run(), wrong), 'baseline')):
        with pytest.raises(RecordError, match=f'{name}: expected a Run, found') as e: compare_runs(*args)
        assert isinstance(e.value, CalibraxError) and e.value.hint
    with pytest.raises(RecordError, match='metric_defs.m: expected a MetricDef, found dict'): compare_runs(run(), run(), metric_defs={'m': {}})


# --- display -------------------------------------------------------------------------------------------------------------

def test_table_puts_the_worst_first():
    defs = define('a', 'b', 'c', 'd')
    found = compare_runs(run(point(a=1, b=1.2, c=nan, d=0.5), defs=defs), run(point(a=1, b=1, c=1, d=1), defs=defs))
    assert [r[2][0] for r in found.table().rows] == ['c', 'b', 'd', 'a']
    assert found.headline.endswith('threshold 5%: 2 regressed, 1 improved, 1 unchanged')


def test_html_is_escaped():
    found = compare_runs(run(point('<script>', m=2)), run(point('<script>', m=1), id='<b>'))
    assert '<script>' not in found._repr_html_() and '<b>r' not in found._repr_html_()


def test_plot_draws_the_judged():
    plt = pytest.importorskip('matplotlib.pyplot')
    defs = define('a', 'b', 'c') | define('i', direction=INFO)
    found = compare_runs(run(point(a=2, b=nan, c=1, i=9), defs=defs), run(point(a=1, b=1, c=1, i=1), defs=defs))
    figure, axes = plot_comparison(found)
    assert [t.get_text() for t in axes.get_yticklabels()] == ['p  b ↓', 'p  a ↓', 'p  c ↓']
    assert '[%]' in axes.get_xlabel()
    plt.close(figure)


def test_change_reads_as_a_line():
    assert repr(Change(point_name='p', metric='m', verdict='new', current_value=3)) == '· p m: – → 3.00 new'
