"Rankings and scores: ties, NaN, zeros, several points for a label, and agreement between the two."
import itertools, logging, math

import pytest
from hypothesis import given, settings, strategies as st

from calibrax.analysis.ranking import AGGREGATES, aggregate_score, aggregated, rank_table, rankings
from calibrax.core.errors import ConfigError, RecordError
from calibrax.core.models import Metric, MetricDef, Point, RankEntry, Run

nan, inf = math.nan, math.inf


def made(values, direction='higher', metric='m', unit='ms'):
    "A run with a point for each (label, value)"
    return Run(metric_defs={metric: MetricDef(name=metric, unit=unit, direction=direction)}, points=[
        Point(name=f'p{i}', scenario='s', tags={'framework': label}, metrics={metric: Metric(value=v)}) for i, (label, v) in enumerate(values)])

def ranks(values, direction='higher', **kwargs): return [(e.label, e.rank, e.is_best) for e in rank_table(made(values, direction), 'm', **kwargs)]


def test_direction():
    assert ranks([('a', 1), ('b', 2)]) == [('b', 1, True), ('a', 2, False)]
    assert ranks([('a', 1), ('b', 2)], 'lower') == [('a', 1, True), ('b', 2, False)]
    assert ranks([('a', 1), ('b', 2)], 'info') == [('b', 1, True), ('a', 2, False)]


def test_ties_share_a_rank(): assert ranks([('a', 1), ('b', 3), ('c', 3), ('d', 2)]) == [('b', 1, True), ('c', 1, True), ('d', 3, False), ('a', 4, False)]

@pytest.mark.parametrize('direction', ['higher', 'lower'])
def test_nan_is_last_and_never_best(direction):
    found = rank_table(made([('a', nan), ('b', 1), ('c', nan)], direction), 'm')
    assert [(e.label, e.rank, e.is_best) for e in found] == [('b', 1, True), ('a', 2, False), ('c', 2, False)]
    assert not any(e.is_best for e in rank_table(made([('a', nan)], direction), 'm'))


def test_distance_from_the_best():
    assert [e.delta_from_best for e in rank_table(made([('a', 0), ('b', 3)], 'lower'), 'm')] == [0, inf]
    assert [e.delta_from_best for e in rank_table(made([('a', 100), ('b', 75)]), 'm')] == [0, 25]
    assert [e.delta_from_best for e in rank_table(made([('a', -10), ('b', -11)]), 'm')] == pytest.approx([0, 10])
    assert [e.delta_from_best for e in rank_table(made([('a', 1e308), ('b', -1e308)]), 'm')] == [0, 200]


@pytest.mark.parametrize('aggregate, best', [('mean', 'b'), ('median', 'a'), ('best', 'b'), ('first', 'a')])
def test_several_points_follow_the_named_rule(aggregate, best):
    values = [('a', 10), ('b', 1), ('a', 11), ('b', 2), ('a', 9), ('b', 40)]
    assert ranks(values, aggregate=aggregate)[0][0] == best


def test_the_default_does_not_depend_on_the_order_of_points():
    values = [('a', 0.1), ('b', 0.3), ('a', 0.7), ('a', 0.4), ('b', 0.6)]
    assert len({tuple((e.label, e.value, e.rank) for e in rank_table(made(list(o)), 'm')) for o in itertools.permutations(values)}) == 1


def test_unknown_rule():
    with pytest.raises(ConfigError, match="no rule 'max'"): rank_table(made([('a', 1)]), 'm', aggregate='max')


@settings(max_examples=300)
@given(st.lists(st.floats(), min_size=1, max_size=8), st.sampled_from(AGGREGATES), st.booleans())
def test_one_value_lies_among_the_many(values, aggregate, higher):
    found = aggregated(values, aggregate, higher=higher)
    if found == found: assert min(v for v in values if v == v) <= found <= max(v for v in values if v == v)


@settings(max_examples=300)
@given(st.lists(st.tuples(st.sampled_from('abcd'), st.floats()), max_size=8), st.sampled_from(['higher', 'lower']))
def test_ranks_are_consistent(values, direction):
    found = rank_table(made(values, direction), 'm')
    key = (lambda v: -v) if direction == 'higher' else (lambda v: v)
    known = [e for e in found if e.value == e.value]
    assert list(found[:len(known)]) == known
    for a, b in itertools.combinations(known, 2):
        assert (a.rank == b.rank) == (a.value == b.value) and (a.rank < b.rank) == (key(a.value) < key(b.value))
    assert all(e.is_best == (e.rank == 1) for e in known) and not any(e.is_best for e in found[len(known):])
    assert repr(found) and found._repr_html_()


def test_label_without_the_tag_is_the_point():
    assert [e.label for e in rank_table(made([('a', 1), ('b', 2)]), 'm', group_by_tag='device')] == ['p1', 'p0']


def test_unknown_metric_is_empty_and_named(caplog):
    with caplog.at_level(logging.WARNING, logger='calibrax'): assert rank_table(made([('a', 1)], metric='throughput'), 'througput') == []
    assert "did you mean 'throughput'?" in caplog.text
    caplog.clear()
    assert rank_table(Run(points=()), 'm') == [] and not caplog.messages


def test_uneven_points_are_named(caplog):
    with caplog.at_level(logging.WARNING, logger='calibrax'): rank_table(made([('a', 1), ('a', 2), ('b', 3)]), 'm')
    assert 'm was not measured on the same points for each framework: a on 2, b on 1' in caplog.text


def test_definitions_from_the_store():
    bare = Run(points=made([('a', 1), ('b', 2)]).points)
    assert rank_table(bare, 'm')[0].label == 'b'
    assert rank_table(bare, 'm', metric_defs={'m': MetricDef(name='m', unit='', direction='lower')})[0].label == 'a'


def test_only_metrics_of_known_direction_are_ranked():
    def point(name, value): return Point(name='p', scenario='s', tags={'framework': name}, metrics={n: Metric(value=value) for n in ('seconds', 'threads', 'speed', 'm')})
    run = Run(points=[point('slow', 2), point('fast', 1)], metric_defs={n: MetricDef(name=n, unit='', direction=d) for n, d in (('threads', 'info'), ('m', 'lower'), ('gone', 'lower'))})
    store = {'speed': MetricDef(name='speed', unit='', direction='higher'), 'm': MetricDef(name='m', unit='', direction='higher')}
    assert list(rankings(run)) == ['m'] and list(rankings(run, metric_defs=store)) == ['speed', 'm']
    assert [e.label for e in rankings(run, metric_defs=store)['m']] == ['fast', 'slow'], 'the definition of the run wins'
    assert list(rankings(run, 'framework', ['gone', 'm', 'seconds', 'm', 'speed'], metric_defs=store)) == ['m', 'speed']
    assert rankings(run, metrics=[]) == {} == rankings(Run(points=())) and list(rankings(run, metrics='m')) == ['m']
    with pytest.raises(RecordError): rankings(None)


def test_it_is_a_list_of_the_published_record():
    found = rank_table(made([('a', 1), ('b', 2)]), 'm', 'framework')
    assert isinstance(found, list) and found == [RankEntry(label='b', value=2, rank=1, is_best=True, delta_from_best=0),
                                                 RankEntry(label='a', value=1, rank=2, is_best=False, delta_from_best=50)]
    assert 'm ↑ [ms]' in repr(found) and '2.00 *' in repr(found) and '<b>2.00</b>' in found._repr_html_()


def test_intervals_follow_the_same_rule_and_are_shown():
    def bounded(*points):
        return Run(metric_defs={'m': MetricDef(name='m', unit='ms', direction='lower')}, points=[
            Point(name='p', scenario='s', tags={'framework': f}, metrics={'m': Metric(value=v, lower=low, upper=high)}) for f, v, low, high in points])
    run = bounded(('a', 2, 1, 4), ('a', 4, 3, 5), ('b', 9, 8, 10), ('c', 7, 6, None))
    assert rank_table(run, 'm').intervals == {'a': (2, 4.5), 'b': (8, 10)}
    assert rank_table(run, 'm', aggregate='best').intervals['a'] == (1, 4) and rank_table(run, 'm', aggregate='first').intervals['a'] == (1, 4)
    assert '2.00 – 4.50' in repr(rank_table(run, 'm')) and 'interval' not in repr(rank_table(made([('a', 1)]), 'm'))


@settings(max_examples=200)
@given(st.lists(st.tuples(*[st.floats(allow_nan=False, allow_infinity=False)]*3), min_size=1, max_size=6), st.sampled_from(AGGREGATES), st.booleans())
def test_intervals_enclose_the_value(triples, aggregate, higher):
    triples = [sorted(t) for t in triples]
    low, value, high = (aggregated(side, aggregate, higher=higher) for side in zip(*triples))
    assert low <= value <= high


def test_plot_names_labels_and_units():
    plt = pytest.importorskip('matplotlib.pyplot')
    figure, axes = rank_table(made([('a', 1), ('b', nan)]), 'm').plot()
    assert [t.get_text() for t in axes.get_yticklabels()] == ['1.  a', '2.  b'] and axes.get_xlabel() == 'm ↑ [ms]'
    plt.close(figure)


def test_wrong_types():
    with pytest.raises(RecordError, match='run: expected a Run'): rank_table({}, 'm')
    with pytest.raises(RecordError, match='metric: expected a str'): rank_table(made([]), None)


# --- scores --------------------------------------------------------------------------------------------------------------

def two(direction_n='lower'):
    return Run(metric_defs={n: MetricDef(name=n, unit='', direction=d) for n, d in (('m', 'higher'), ('n', direction_n))}, points=[
        Point(name='p', scenario='s', tags={'framework': f}, metrics={'m': Metric(value=m), 'n': Metric(value=n)}) for f, m, n in (('a', 10, 1), ('b', 5, 3), ('c', 0, 2))])

def test_score_is_a_weighted_mean_of_shares():
    assert aggregate_score(two(), {'m': 1, 'n': 1}) == {'a': 1, 'b': 0.25, 'c': 0.25}
    assert aggregate_score(two(), {'m': 3, 'n': 1}) == aggregate_score(two(), {'m': 300, 'n': 100}) == {'a': 1, 'b': 0.375, 'c': 0.125}


def test_score_and_ranking_agree_on_several_points():
    run = made([('x', 10), ('y', 9), ('x', 1), ('y', 3)])
    scores = aggregate_score(run, {'m': 1})
    assert max(scores, key=scores.get) == rank_table(run, 'm')[0].label == 'y'


def test_missing_and_broken_values_score_like_the_worst():
    run = Run(metric_defs=two().metric_defs, points=[Point(name='p', scenario='s', tags={'framework': f}, metrics={k: Metric(value=v) for k, v in m.items()})
                                                     for f, m in (('a', {'m': 2}), ('b', {'m': nan}), ('c', {'m': 1}), ('d', {}))])
    assert aggregate_score(run, {'m': 1}) == {'a': 1, 'b': 0, 'c': 0, 'd': 0}


def test_score_edges():
    assert aggregate_score(Run(points=()), {'m': 1}) == {}
    assert aggregate_score(made([('a', 3), ('b', 3)]), {'m': 2}) == {'a': 1, 'b': 1}
    assert aggregate_score(two(), {}) == aggregate_score(two(), {'m': 0}) == {'a': 0, 'b': 0, 'c': 0}
    assert aggregate_score(two(), {'m': 1, 'nobody': 5}) == aggregate_score(two(), {'m': 1})
    assert aggregate_score(two(), {'m': 1}, 'device') == {'p': 1}
    for weight in (-1, nan, '1', True):
        with pytest.raises(ConfigError, match='weights.m'): aggregate_score(two(), {'m': weight})


@settings(max_examples=200)
@given(st.lists(st.tuples(st.sampled_from('abcd'), st.floats()), max_size=8), st.sampled_from(['higher', 'lower']))
def test_scores_lie_between_zero_and_one_and_follow_the_ranking(values, direction):
    run = made(values, direction)
    scores, found = aggregate_score(run, {'m': 2}), rank_table(run, 'm')
    assert all(0 <= s <= 1 for s in scores.values())
    assert [scores[e.label] for e in found] == sorted((scores[e.label] for e in found), reverse=True)
