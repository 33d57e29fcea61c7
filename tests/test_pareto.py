"Pareto fronts: the definition itself, directions, ties, NaN, and how long it takes."
import logging, math, pickle, time

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from calibrax.analysis.pareto import ParetoFront, _undominated, pareto_front
from calibrax.core.errors import ConfigError
from calibrax.core.models import Metric, MetricDef, Point

nan, inf = math.nan, math.inf


def made(rows, names='xyzuvw'):
    return [Point(name=f'p{i}', scenario='s', metrics={k: Metric(value=v) for k, v in zip(names, row) if v is not None}) for i, row in enumerate(rows)]

def defs(directions, names='xyzuvw'): return {k: MetricDef(name=k, unit='ms', direction=d) for k, d in zip(names, directions)}

def names(front): return [p.name for p in front]

def dominates(a, b, signs): return all(s*x >= s*y for x, y, s in zip(a, b, signs)) and any(x != y for x, y in zip(a, b))


values = st.one_of(st.integers(0, 5).map(float), st.floats(allow_nan=True), st.sampled_from([nan, inf, -inf, 0.0, -0.0]))

@settings(max_examples=400, deadline=None)
@given(st.integers(2, 5).flatmap(lambda d: st.tuples(st.lists(st.tuples(*[values]*d), max_size=25), st.tuples(*[st.sampled_from(['higher', 'lower', 'info'])]*d))))
def test_it_is_the_definition(case):
    rows, directions = case
    d = len(directions)
    signs = [-1 if o == 'lower' else 1 for o in directions]
    points, known = made(rows), [i for i, r in enumerate(rows) if not any(v != v for v in r)]
    best = [i for i in known if not any(dominates(rows[j], rows[i], signs) for j in known)]
    front = pareto_front(points, *'xyzuvw'[:d], metric_defs=defs(directions))
    assert names(front) == [f'p{i}' for i in best]
    assert names(front.dominated) == [f'p{i}' for i in known if i not in best]


@pytest.mark.parametrize('dimensions', [2, 3, 4])
def test_more_than_one_block(dimensions):
    rows = np.random.default_rng(dimensions).integers(0, 40, (700, dimensions)).astype(float)
    brute = [not ((rows >= r).all(1) & (rows != r).any(1)).any() for r in rows]
    assert list(_undominated(rows)) == brute


def test_directions():
    rows = [(1, 1), (2, 2), (3, 3), (1, 3), (3, 1)]
    assert names(pareto_front(made(rows), 'x', 'y')) == ['p2']
    assert names(pareto_front(made(rows), 'x', 'y', metric_defs=defs(['lower', 'lower']))) == ['p0']
    assert names(pareto_front(made(rows), 'x', 'y', metric_defs=defs(['higher', 'lower']))) == ['p4']
    assert names(pareto_front(made(rows), 'x', 'y', metric_defs=defs(['lower']))) == ['p3']


def test_duplicates_stay_in_input_order():
    assert names(pareto_front(made([(1, 3), (3, 1), (0, 0), (1, 3), (3, 1)]), 'x', 'y')) == ['p0', 'p1', 'p3', 'p4']


def test_nan_and_missing_are_neither_on_the_front_nor_dominated():
    front = pareto_front(made([(nan, 9), (9, None), (1, 1), (0, 0)]), 'x', 'y')
    assert names(front) == ['p2'] and names(front.dominated) == ['p3']


def test_a_third_metric_can_save_a_point():
    rows = [(2, 2, 1), (1, 1, 5)]
    assert names(pareto_front(made(rows), 'x', 'y')) == ['p0'] and names(pareto_front(made(rows), 'x', 'y', 'z')) == ['p0', 'p1']


def test_unknown_metric_is_empty_and_named(caplog):
    with caplog.at_level(logging.WARNING, logger='calibrax'): assert pareto_front(made([(1, 2)]), 'x', 'speed') == []
    assert "no point has the metric 'speed'; they have x, y" in caplog.text
    assert pareto_front([], 'x', 'y') == []


def test_it_is_a_list_that_shows_itself():
    front = pareto_front(made([(1, 3), (3, 1), (0, 0)]), 'x', 'y', metric_defs=defs(['higher', 'lower']))
    assert isinstance(front, list) and isinstance(front, ParetoFront) and all(isinstance(p, Point) for p in front)
    assert 'y ↓ [ms]' in repr(front) and '<table>' in front._repr_html_() and pickle.loads(pickle.dumps(front)).table() == front.table()


def test_plot():
    plt = pytest.importorskip('matplotlib.pyplot')
    front = pareto_front(made([(1, 3, 1), (3, 1, 2), (0, 0, 0)]), 'x', 'y', 'z', metric_defs=defs(['higher', 'lower', 'lower']))
    figure, axes = front.plot()
    assert (axes.get_xlabel(), axes.get_ylabel()) == ('x ↑ [ms]', 'y ↓ [ms]') and axes.get_title('right') == 'better ↘'
    assert front.plot('z', 'y', axes=axes)[1] is axes
    plt.close(figure)
    with pytest.raises(ConfigError, match="not one of 'w'"): front.plot('w')
    plt.close(pareto_front([], 'x', 'y').plot()[0])


@pytest.mark.parametrize('rows, seconds', [
    (np.random.default_rng(0).random((100_000, 2)), 1), (np.stack([np.arange(100_000.), -np.arange(100_000.)], 1), 1),
    (np.random.default_rng(0).dirichlet([1]*4, 10_000), 3)], ids=['100,000 × 2, random', '100,000 × 2, all on the front', '10,000 × 4, all on the front'])
def test_it_is_quick(rows, seconds):
    "Generous: other tests may run beside it. It takes a tenth of that"
    _undominated(rows[:1000])
    start = time.perf_counter()
    _undominated(rows)
    assert time.perf_counter() - start < seconds
