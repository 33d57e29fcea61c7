"Configurations side by side: any tag, ties, NaN, missing values, factors that mean something, and who wins."
import math, pickle

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from calibrax.analysis.comparison import ComparisonReport, MetricComparison, compare_configurations
from calibrax.core.errors import ConfigError, RecordError
from calibrax.core.models import Metric, MetricDef, Point, Run

nan, inf = math.nan, math.inf
DEFS = {'up': MetricDef(name='up', unit='1/s', direction='higher'), 'down': MetricDef(name='down', unit='ms', direction='lower'),
        'note': MetricDef(name='note', unit='', direction='info')}


def made(*points, defs=DEFS, **run):
    "A run; each point a mapping of metric to value"
    return Run(metric_defs=defs, points=[Point(name=f'p{i}', scenario='s', metrics={k: v if isinstance(v, Metric) else Metric(value=v) for k, v in p.items()})
                                         for i, p in enumerate(points)], **run)

def compared(values, metric='down', **kwargs):
    report = compare_configurations({label: made({metric: v}) for label, v in values.items()}, **kwargs)
    return report.metric_comparisons[0]


@pytest.mark.parametrize('tag', ['framework', 'hardware', 'batch size'])
def test_the_winner_is_a_label_with_any_tag(tag):
    report = compare_configurations({'cfgA': made({'down': 2}), 'cfgB': made({'down': 1})}, group_by_tag=tag)
    assert report.overall_winner == 'cfgB' and report.winner_by_metric == {'down': 'cfgB'} and report.labels_compared == ('cfgA', 'cfgB')


def test_published_fields():
    report = compare_configurations({'A': made({'up': 10, 'down': 4}), 'B': made({'up': 5, 'down': 8})})
    down, up = report.metric_comparisons
    assert (report.name, report.overall_winner, [c.metric_name for c in report.metric_comparisons]) == ('comparison', 'A', ['down', 'up'])
    assert (up.values, up.best_label, up.improvement_factors) == ({'A': 10, 'B': 5}, 'A', {'A': 1, 'B': 2}) and down.improvement_factors == {'A': 1, 'B': 2}
    assert [(e.label, e.rank, e.delta_from_best) for e in up.rankings] == [('A', 1, 0), ('B', 2, 50)]
    assert ComparisonReport.from_dict(report.to_dict()) == report == pickle.loads(pickle.dumps(report))
    old = {'name': 'c', 'labels_compared': ['A'], 'metric_comparisons': [], 'winner_by_metric': {}, 'overall_winner': 'A'}
    assert ComparisonReport.from_dict(old).to_dict() == old and ComparisonReport.from_dict(old).overall_winners == ('A',)


def test_nan_never_wins():
    for metric in ('up', 'down'):
        one = compared({'A': nan, 'B': 3, 'C': 4}, metric)
        assert one.best_label in 'BC' and math.isnan(one.improvement_factors['A'])
    report = compare_configurations({'A': made({'up': nan}), 'B': made({'up': nan})})
    assert (report.overall_winner, report.winner_by_metric, report.metric_comparisons[0].winners) == ('', {}, ())
    assert 'up is NaN on A, B' in report.warnings


def test_ties_share():
    report = compare_configurations({k: made({'up': v}) for k, v in {'A': 5, 'B': 5, 'C': 1}.items()})
    assert report.metric_comparisons[0].winners == report.overall_winners == ('A', 'B') and report.overall_winner == 'A'
    assert report.metric_comparisons[0].lead == 'tie' and 'A and B' in repr(report) and repr(report).count('5.00 *') == 2


def test_several_points_follow_the_named_rule():
    runs = {'A': made({'up': 10}, {'up': 1}), 'B': made({'up': 6}, {'up': 6})}
    assert [compare_configurations(runs, aggregate=a).overall_winner for a in ('mean', 'median', 'best', 'first')] == ['B', 'B', 'A', 'A']
    with pytest.raises(ConfigError, match="no rule 'max'"): compare_configurations(runs, aggregate='max')


def test_missing_metrics():
    report = compare_configurations({'A': made({'up': 5, 'down': 3}), 'B': made({'up': 6})})
    down = report.metric_comparisons[0]
    assert down.values == {'A': 3} and report.winner_by_metric == {'down': 'A', 'up': 'B'} and 'down was not measured on B' in report.warnings
    assert '–' in repr(report)
    assert compare_configurations({'A': made({'up': 5}), 'B': made({'up': 6})}, ['up', 'nobody']).winner_by_metric == {'up': 'B'}
    nothing = compare_configurations({'A': made(), 'B': made()})
    assert (nothing.overall_winner, nothing.metric_comparisons, nothing.scores) == ('', (), None) and 'nobody' in repr(nothing)


@pytest.mark.parametrize('metric, values, factors', [
    ('down', {'A': 0, 'B': 0, 'C': 2}, [1, 1, inf]), ('up', {'A': 0, 'B': 4}, [inf, 1]), ('up', {'A': -4, 'B': -2}, [nan, 1]), ('down', {'A': -4, 'B': -2}, [1, nan]),
    ('up', {'A': -1, 'B': 2}, [nan, 1]), ('down', {'A': -1, 'B': 2}, [1, nan]), ('down', {'A': -3, 'B': -3}, [1, 1]), ('up', {'A': inf, 'B': 2}, [1, inf])])
def test_factors_with_zero_and_negative_values(metric, values, factors):
    assert list(compared(values, metric).improvement_factors.values()) == pytest.approx(factors, nan_ok=True)


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(st.sampled_from('ABCDE'), st.floats(), min_size=2), st.sampled_from(['up', 'down']))
def test_the_best_is_best_and_no_factor_lies_below_one(values, metric):
    one = compared(values, metric)
    known = [v for v in values.values() if v == v]
    assert (one.best_label == '') == (not known)
    if known: assert values[one.best_label] == (max if metric == 'up' else min)(known)
    assert all(f >= 1 or f != f for f in one.improvement_factors.values())
    assert MetricComparison.from_json(one.to_json()) == one


def test_information_has_no_winner_and_no_definition_is_named():
    report = compare_configurations({'A': made({'note': 5, 'down': 2}), 'B': made({'note': 9, 'down': 1})})
    assert report.winner_by_metric == {'down': 'B'} and report.metric_comparisons[1].winners == () and report.scores == {'A': 0, 'B': 1}
    bare = compare_configurations({'A': made({'x': 5}, defs={}), 'B': made({'x': 9}, defs={})})
    assert bare.overall_winner == 'B' and bare.warnings == ('x has no definition; higher is taken as better',)
    given = {'x': MetricDef(name='x', unit='ms', direction='lower')}
    assert compare_configurations({'A': made({'x': 5}, defs={}), 'B': made({'x': 9}, defs={})}, metric_defs=given).overall_winner == 'A'


def test_disagreeing_definitions_are_left_out():
    seconds = {'down': MetricDef(name='down', unit='s', direction='lower')}
    report = compare_configurations({'A': made({'down': 12, 'up': 1}), 'B': made({'down': 0.02, 'up': 2}, defs={**DEFS, **seconds})})
    assert report.warnings[0] == 'down is left out: ms lower in A, s lower in B' and list(report.winner_by_metric) == ['up']


def test_weights():
    runs = {'A': made({'up': 10, 'down': 9}), 'B': made({'up': 5, 'down': 1})}
    assert compare_configurations(runs, weights={'up': 3, 'down': 1}).overall_winner == 'A'
    assert compare_configurations(runs, weights={'up': 1, 'down': 3}).overall_winner == compare_configurations(runs, weights={'down': 1}).overall_winner == 'B'
    for wrong in ({'speed': 1}, {'up': -1}, {'up': nan}):
        with pytest.raises(ConfigError, match='weights'): compare_configurations(runs, weights=wrong)


def test_other_machines_are_named():
    report = compare_configurations({'A': made({'up': 1}, environment={'cpu': 'EPYC'}), 'B': made({'up': 2}, environment={'cpu': 'Xeon'})})
    assert any('A and B ran differently' in w and 'EPYC → Xeon' in w for w in report.warnings)


def test_significance_of_the_best_against_the_next():
    rng = np.random.default_rng(0)
    def run(mean): return made({'down': Metric(value=mean, samples=tuple(mean + rng.standard_normal(20)))})
    clear, close = (compare_configurations({'A': run(10), 'B': run(b), 'C': run(30)}).metric_comparisons[0] for b in (14, 10.01))
    assert clear.significance.significant and clear.significance.method == 'welch' and 'not significant' not in clear.lead
    assert not close.significance.significant and close.lead.endswith('not significant')
    assert compared({'A': 1, 'B': 2}).significance is None


def test_refusals():
    for runs in ({}, {'A': made({'up': 1})}):
        with pytest.raises(ValueError, match='At least 2 configurations are required for comparison'): compare_configurations(runs)
    with pytest.raises(RecordError, match='expected a mapping'): compare_configurations([made(), made()])
    with pytest.raises(RecordError, match=r"runs\['B'\]: expected a Run"): compare_configurations({'A': made(), 'B': {}})


def test_plot():
    plt = pytest.importorskip('matplotlib.pyplot')
    report = compare_configurations({'A': made({'up': 10, 'down': 4}), 'B': made({'up': 5, 'down': nan})})
    figure, axes = report.plot()
    assert [t.get_text() for t in axes.get_xticklabels()] == ['down ↓\n[ms]', 'up ↑\n[1/s]'] and sorted(b.get_height() for b in axes.patches) == [0, 50, 100, 100]
    plt.close(figure)


def test_a_metric_that_nobody_has_is_named_and_one_name_will_do():
    runs = {k: Run(points=[Point(name='p', scenario='s', metrics={'lat': Metric(value=v)})]) for k, v in (('A', 1.0), ('B', 2.0))}
    assert [c.metric_name for c in compare_configurations(runs, 'lat').metric_comparisons] == ['lat']
    assert 'lta was not measured at all' in compare_configurations(runs, ['lat', 'lta']).warnings
