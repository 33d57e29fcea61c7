"""Data frames: every number, time and tag arrives with its type, and an empty frame has the columns of a full one."""
import math
import subprocess
import sys
from datetime import UTC, datetime, timedelta, timezone

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from calibrax.analysis import analyze_trend, compare_runs, detect_regressions, pareto_front, rank_table
from calibrax.core import BenchmarkResult, Metric, MetricDef, Point, Run, TrendPoint, TrendSeries
from calibrax.core.display import RecordList, Table
from calibrax.core.errors import ExportError
from calibrax.core.frames import ANY, NUMBER, TEXT, TIME, record_frame, records_frame, runs_frame, table_frame, to_frame
from calibrax.exporters.tables import comparison
from calibrax.storage import Store

pd = pytest.importorskip('pandas', reason='pandas is not installed (extra pandas)')
DAY = datetime(2026, 3, 1, 12, tzinfo=UTC)
DEFS = {'latency': MetricDef(name='latency', unit='ms', direction='lower')}
RUN = Run(id='r1', timestamp=DAY, commit='c1', branch='main', metric_defs=DEFS, points=[
    Point(name='CV-1', scenario='cv', tags={'framework': 'Grain'}, metrics={'latency': Metric(value=12, lower=11, upper=13, samples=(11.5, 12.5)), 'steps': Metric(value=3)}),
    Point(name='CV-1', scenario='cv', tags={'framework': 'Datarax', 'batch': '32'}, metrics={'latency': Metric(value=math.nan)}), Point(name='empty', scenario='cv')])
TYPES = {'run_id': TEXT, 'timestamp': TIME, 'commit': TEXT, 'branch': TEXT, 'point': TEXT, 'scenario': TEXT, 'batch': TEXT, 'framework': TEXT, 'metric': TEXT,
         'value': NUMBER, 'lower': NUMBER, 'upper': NUMBER, 'samples': ANY, 'unit': TEXT, 'direction': TEXT}


def types(frame): return {name: str(dtype) for name, dtype in frame.dtypes.items()}


def test_a_run_is_a_row_for_each_metric_of_each_point():
    frame = RUN.to_frame()
    assert types(frame) == TYPES and len(frame) == 3
    assert frame.drop(columns='batch').iloc[0].to_dict() == {'run_id': 'r1', 'timestamp': pd.Timestamp(DAY), 'commit': 'c1', 'branch': 'main', 'point': 'CV-1', 'scenario': 'cv',
                                                               'framework': 'Grain', 'metric': 'latency', 'value': 12.0, 'lower': 11.0, 'upper': 13.0, 'samples': (11.5, 12.5), 'unit': 'ms', 'direction': 'lower'}
    assert frame.batch.isna().tolist() == [True, True, False]
    assert frame.unit.isna().tolist() == [False, True, False] and frame.value.isna().tolist() == [False, False, True]
    assert frame.timestamp.dt.tz is not None and frame.set_index('timestamp').index[0].tzinfo is not None


def test_an_empty_run_has_the_columns():
    empty = Run(points=[]).to_frame()
    assert len(empty) == 0 and types(empty) == {k: v for k, v in TYPES.items() if k not in ('batch', 'framework')}
    assert types(pd.concat([RUN.to_frame(), RUN.to_frame()])) == TYPES


def test_tags_called_like_our_columns_take_nothing_away():
    odd = Run(points=[Point(name='p', scenario='s', tags={'value': 'v', 'tags.value': 'w', 'run_id': 'x'}, metrics={'m': Metric(value=1)})]).to_frame()
    assert (odd['value'][0], odd['tags.value'][0], odd['tags.tags.value'][0], odd['tags.run_id'][0]) == (1.0, 'w', 'v', 'x')
    assert odd.columns.is_unique


names = st.text(max_size=4)
metrics = st.builds(Metric, value=st.floats(), lower=st.none() | st.floats(), samples=st.none() | st.lists(st.floats(), max_size=3).map(tuple))
runs = st.builds(Run, timestamp=st.datetimes(datetime(1700, 1, 1), datetime(2200, 1, 1), timezones=st.just(UTC)), commit=st.none() | names,
                 points=st.lists(st.builds(Point, name=names, scenario=names, tags=st.dictionaries(names, names, max_size=2), metrics=st.dictionaries(names, metrics, max_size=2)), max_size=3))

@settings(max_examples=60, deadline=None)
@given(st.lists(runs, max_size=3))
def test_any_runs_come_back_from_their_frame(found):
    frame = runs_frame(found)
    rows = [(run, p, name, m) for run in found for p in run.points for name, m in p.metrics.items()]
    assert len(frame) == len(rows) and frame.columns.is_unique
    for (run, p, name, m), row in zip(rows, frame.to_dict('records')):
        assert (row['run_id'], row['timestamp'].to_pydatetime(), row['point'], row['scenario'], row['metric'], row['samples']) == (run.id, run.timestamp, p.name, p.scenario, name, m.samples)
        assert row['value'] == m.value or math.isnan(row['value']) and math.isnan(m.value)
        assert m.lower is None and math.isnan(row['lower']) or row['lower'] == m.lower or math.isnan(m.lower)


def test_times_of_any_zone_are_utc():
    run = Run(timestamp=datetime(2026, 3, 1, 14, tzinfo=timezone(timedelta(hours=2))), points=RUN.points)
    assert run.to_frame().timestamp[0] == pd.Timestamp(DAY) and str(run.to_frame().timestamp.dtype) == TIME


def test_a_store_is_a_frame_of_its_runs(tmp_path):
    store = Store(tmp_path)
    assert len(store.to_frame()) == 0 and types(store.to_frame())['timestamp'] == TIME
    for i, branch in enumerate(('main', 'dev', 'main')):
        store.save(Run(id=f'r{i}', timestamp=DAY + timedelta(days=i), branch=branch, points=RUN.points))
    store.write_config(metric_defs=DEFS)
    frame = store.to_frame()
    assert frame.run_id.drop_duplicates().tolist() == ['r0', 'r1', 'r2'] and frame.timestamp.is_monotonic_increasing
    assert frame.groupby('metric').unit.first()['latency'] == 'ms', 'definitions of config.json are used'
    assert store.to_frame(branch='main').run_id.unique().tolist() == ['r0', 'r2']
    assert store.to_frame(framework='Grain').framework.unique().tolist() == ['Grain'] and len(store.to_frame(framework='none')) == 0


def test_a_trend_is_a_row_for_each_run():
    series = TrendSeries(metric='latency', point_name='p', tags={'framework': 'Grain', 'metric': 'x'}, unit='ms', points=[TrendPoint(run_id=f'r{i}', timestamp=DAY + timedelta(days=i), value=i, lower=i - 1) for i in range(3)])
    frame = series.to_frame()
    assert frame.value.tolist() == [0, 1, 2] and frame.lower.tolist() == [-1, 0, 1] and frame.upper.isna().all() and set(frame.unit) == {'ms'}
    assert set(frame.framework) == {'Grain'} and set(frame['tags.metric']) == {'x'} and types(frame)['timestamp'] == TIME
    assert list(TrendSeries(metric='m', point_name='p').to_frame()) == ['run_id', 'timestamp', 'commit', 'point', 'metric', 'value', 'lower', 'upper', 'unit']


def test_a_comparison_is_a_row_for_each_change():
    after = Run(points=[Point(name='CV-1', scenario='cv', tags={'framework': 'Grain'}, metrics={'latency': Metric(value=15)})], metric_defs=DEFS)
    found = compare_runs(after, RUN)
    frame = found.to_frame()
    assert len(frame) == len(found.changes) and set(frame.verdict) == {c.verdict.value for c in found.changes}
    worse = frame[frame.verdict == 'regressed'].iloc[0]
    assert (worse.baseline_value, worse.current_value, worse.delta_pct, worse.unit, worse.framework) == (12.0, 15.0, 25.0, 'ms', 'Grain')
    assert types(frame)['delta_pct'] == NUMBER
    assert detect_regressions(after, RUN).to_frame().delta_pct.tolist() == [25.0]


def test_a_benchmark_result_is_one_row():
    result = BenchmarkResult(name='burgers', domain='pde', timestamp=1772366400.25, metrics={'rel_l2': Metric(value=3.2e-3)}, config={'lr': 1e-3, 'steps': 5, 'grid': (64, 64)})
    frame = result.to_frame()
    assert frame.rel_l2.tolist() == [3.2e-3] and frame.timestamp[0] == pd.Timestamp('2026-03-01 12:00:00.25', tz='UTC')
    both = pd.concat([frame, BenchmarkResult(name='heat', config={'lr': 1e-2}).to_frame()], ignore_index=True)
    assert both['config.lr'].tolist() == [1e-3, 1e-2] and types(frame)['config.steps'] == 'Int64'


def test_lists_of_records_keep_every_digit():
    value = 1/3
    run = Run(metric_defs=DEFS, points=[Point(name=n, scenario='s', metrics={'latency': Metric(value=v)}) for n, v in (('a', value), ('b', 2.0))])
    ranking = rank_table(run, 'latency').to_frame()
    assert ranking.value.tolist() == [value, 2.0] and types(ranking) == {'label': TEXT, 'value': NUMBER, 'rank': 'int64', 'is_best': 'bool', 'delta_from_best': NUMBER}
    assert types(rank_table(Run(points=[]), 'latency').to_frame()) == types(ranking), 'an empty list knows what it would hold'
    front = pareto_front([*run.points], 'latency', 'latency').to_frame()
    assert front.latency.tolist() == [2.0] and types(front)['latency'] == NUMBER      # more is better without a definition


def test_a_list_of_anything_else_is_the_frame_of_its_table():
    class Words(RecordList[str]):
        def table(self): return Table(('word', 'letters'), tuple((w, str(len(w))) for w in self))
    frame = Words(['a', 'bcd']).to_frame()
    assert types(frame) == {'word': TEXT, 'letters': NUMBER} and frame.letters.tolist() == [1, 3]
    assert list(Words().to_frame()) == ['word', 'letters']


def test_every_result_with_a_table_has_a_frame():
    series = TrendSeries(metric='m', point_name='p', points=[TrendPoint(run_id=str(i), timestamp=DAY + timedelta(days=i), value=v) for i, v in enumerate(np.random.default_rng(0).normal(1, .1, 30))])
    from calibrax.analysis.scaling import scaling_fit
    from calibrax.statistics import summarize
    assert record_frame(summarize([1.0, 2.0]))['mean'].tolist() == [1.5] and record_frame(compare_runs(RUN, RUN)).metric.tolist() == ['latency', 'steps', 'latency']
    assert list(record_frame(analyze_trend(series)).columns)
    for found in (analyze_trend(series), scaling_fit([1, 2, 4, 8], [1, 2, 4, 8.2]), summarize([1.0, 2.0]), RUN, comparison(RUN)):
        table = found.table()
        assert list(table.to_frame()) == list(dict.fromkeys(table.columns)) and len(table.to_frame()) == len(table.rows)


def test_a_comparison_table_is_a_frame_with_marks():
    frame = comparison(RUN, ['latency']).to_frame()
    assert types(frame)['best'] == 'bool' and frame.value[0] == 12 and frame.lower[0] == 11


@pytest.mark.parametrize(('texts', 'values'), [(['1.00', '–', '−2', 'NaN', '∞'], [1, math.nan, -2, math.nan, math.inf]), (['1', 'x'], None), (['+4.3%', '–'], None), ([''], None), (['1e-05', ''], [1e-05, math.nan])])
def test_a_column_of_numbers_is_numbers(texts, values):
    column = table_frame(('c',), [(t,) for t in texts])['c']
    if values is None: assert str(column.dtype) == TEXT
    else: np.testing.assert_array_equal(column.to_numpy(), values)


def test_rows_of_another_length_are_refused():
    with pytest.raises(ValueError): to_frame({'a': TEXT, 'b': TEXT}, [('x',)])


def test_records_within_records_are_columns_with_dots():
    from calibrax.core.measurements import TimingSample
    timed = BenchmarkResult(name='a', timing=TimingSample(wall_clock_sec=1.5, per_batch_times=(0.5, 1.0), first_batch_time=0.5, num_batches=2, num_elements=4))
    frame = records_frame(BenchmarkResult, [timed, BenchmarkResult(name='b')])
    assert frame['timing.wall_clock_sec'].tolist()[0] == 1.5 and frame['timing.wall_clock_sec'].isna()[1] and types(frame)['timing.num_batches'] == 'Int64'


def test_without_pandas_the_error_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, 'pandas', None)
    for make in (RUN.to_frame, RUN.table().to_frame, rank_table(RUN, 'latency').to_frame, BenchmarkResult(name='a').to_frame, compare_runs(RUN, RUN).to_frame, comparison(RUN).to_frame):
        with pytest.raises(ExportError) as raised: make()
        assert 'calibrax[pandas]' in raised.value.hint and 'pandas' in raised.value.message


def test_pandas_is_imported_only_for_a_frame():
    code = "import sys; from calibrax.core import Run; import calibrax.core.frames, calibrax.storage, calibrax.analysis; Run(points=[]).table(); print('pandas' in sys.modules)"
    assert subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True).stdout.strip() == 'False'


def test_a_tag_called_like_a_field_is_kept():
    result = BenchmarkResult(name='a', domain='d', tags={'timestamp': 'noon', 'name': 'other'}, metrics={})
    frame = result.to_frame()
    assert frame['tags.timestamp'].tolist() == ['noon'] and frame['tags.name'].tolist() == ['other'] and frame['name'].tolist() == ['a'] and frame['timestamp'].notna().all()
