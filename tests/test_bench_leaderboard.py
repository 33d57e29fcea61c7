"Leaderboards and comparisons: what is ranked, what is called a tie, and what paired samples say that intervals cannot."
import csv
import json
import math
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calibrax.bench.leaderboard import leaderboard, leaderboards
from calibrax.bench.metrics import MetricCalculator, register_calculator
from calibrax.bench.model_comparison import BenchRun, Difference, bench_runs, compare_models
from calibrax.bench.sample_log import BatchTiming, Job, LogHeader, SampleLog
from calibrax.bench.samples import SampleRecord
from calibrax.core.errors import ConfigError
from calibrax.core.models import Metric, MetricDef, Point, Run
from calibrax.storage import Store

START = datetime(2026, 3, 1, tzinfo=UTC)
DEFS = {'error': MetricDef(name='error', unit='m', direction='lower'), 'gain': MetricDef(name='gain', unit='', direction='higher'), 'latency': MetricDef(name='latency', unit='ms', direction='lower'),
        'parameters': MetricDef(name='parameters', unit='', direction='lower'), 'spread': MetricDef(name='spread', unit='m', direction='lower')}


def run(model, value, *, width=0.1, primary='error', split='test', day=0, seed=0, data='d1', samples=100, log=None, options=None, device='cpu', **more):
    metrics = {primary: Metric(value=value, lower=None if width is None else value - width, upper=None if width is None else value + width), 'scored': Metric(value=samples),
               **{k: v if isinstance(v, Metric) else Metric(value=v) for k, v in more.items()}}
    said = {'task': 'guessing', 'model': model, 'split': split, 'dataset': 'rooms', 'dataset_identity': data, 'seed': seed, 'primary_metric': primary, 'device': device,
            'samples_file': None if log is None else str(log), 'config': {'model_options': options or {}}}
    return Run(id=f'{model}-{split}-{day}-{seed}', timestamp=START + timedelta(days=day), metadata={'bench': said}, metric_defs={k: DEFS[k] for k in metrics if k in DEFS},
               points=(Point(name=f'guessing/{split}', scenario='guessing', tags={'model': model}, metrics=metrics),))


@register_calculator('guessing')
class Guessing(MetricCalculator):
    name, metric_defs = 'guessing', {k: DEFS[k] for k in ('error', 'spread')}
    def compute(self, prediction, sample): return {'error': float(prediction)}
    def aggregate(self, records):
        errors = [r.metrics['error'] for r in records]
        return {**super().aggregate(records), 'spread': float(np.std(errors))}      # no mean over samples


def logged(path, errors, *, scene=None, skip=(), seed=0, model=None):
    "A log of samples and the run that belongs to it"
    with SampleLog(path, LogHeader(job=Job(task='guessing', model=path.stem, dataset_identity='d1', split='test', limit=len(errors)))) as log:
        for i, e in enumerate(errors):
            fields = {'status': 'skipped', 'reason': 'unreadable'} if i in skip else {'status': 'scored', 'metrics': {'error': float(e)}}
            log.append(SampleRecord(index=i, id=f's{i:04}', batch=0, scene=None if scene is None else f'room{i//scene}', **fields))
        log.end_batch(BatchTiming(batch=0, samples=len(errors), rows=len(errors), total_ms=1.0))
        log.finish({})
    kept = [e for i, e in enumerate(errors) if i not in skip]
    return run(model or path.stem, float(np.mean(kept)), width=0.3, samples=len(kept), skipped=len(skip), seed=seed, log=path, spread=float(np.std(kept)))


# --- what is ranked ---

values = st.lists(st.tuples(st.sampled_from('abcdef'), st.floats(-5, 5), st.floats(0, 2), st.integers(0, 9)), min_size=1, max_size=12, unique_by=lambda t: (t[0], t[3]))

@settings(deadline=None)
@given(values, st.sampled_from(['error', 'gain']))
def test_the_newest_run_of_each_model_is_ranked_and_ties_are_overlaps(found, primary):
    runs = [run(model, value, width=width, primary=primary, day=day) for model, value, width, day in found]
    board = leaderboard(runs, 'guessing')
    newest = {model: (value, width) for model, value, width, day in sorted(found, key=lambda t: t[3])}
    assert {p.run.model: p.metric.value for p in board.places} == {m: v for m, (v, _) in newest.items()}
    ordered = [p.metric.value for p in board.places]
    assert ordered == sorted(ordered, reverse=primary == 'gain')
    best = board.places[0]
    for p in board.places:
        assert p.rank == 1 + sum(v < p.metric.value if primary == 'error' else v > p.metric.value for v, _ in newest.values())
        if p is not best: assert p.tied == (p.metric.lower <= best.metric.upper and best.metric.lower <= p.metric.upper)
    assert [e.label for e in board.ranking] == [p.run.model for p in board.places]
    assert len(list(csv.DictReader(board.to_csv().splitlines()))) == len(board) == len(json.loads(json.dumps(board.to_dict()))['places']) == board.to_markdown().count('\n|') - 2


def test_only_runs_on_the_same_data_are_ranked():
    runs = [run('a', 1.0, day=1), run('b', 0.5, day=2, data='d2'), run('b', 2.0, day=0), run('c', 0.1, day=0, samples=10), run('d', 0.3, split='other', day=0), run('a', 9.0, day=3)]
    board = leaderboard(runs, 'guessing', 'test')
    assert [(p.run.model, p.metric.value) for p in board.places] == [('b', 2.0), ('a', 9.0)]     # b's older run, on the data of the newest run of all
    assert len(board.notes) == 2 and 'c (run c-test-0-0) is left out: 10 samples instead of 100' in board.notes[0]
    assert 'not compared by samples but by intervals: all' in board.notes[1] and 'sample files of all are not at hand' in board.notes[1]
    assert list(leaderboards(runs, 'guessing')) == ['other', 'test']


def test_options_make_another_model_and_seeds_can_be_chosen():
    runs = [run('knn', 1.0, options={'k': 1}, seed=0), run('knn', 2.0, options={'k': 5}, day=1), run('knn', 7.0, options={'k': 5}, seed=3, day=2)]
    assert {p.run.model for p in leaderboard(runs, 'guessing').places} == {'knn k=1', 'knn k=5'}
    assert [p.metric.value for p in leaderboard(runs, 'guessing', seed=3).places] == [7.0]
    with pytest.raises(ConfigError, match='with seed 9') as e: leaderboards(runs, 'guessing', seed=9)
    assert 'seed 0' in e.value.hint


def test_what_has_no_interval_or_no_value():
    board = leaderboard([run('a', 1.0, width=None), run('b', 2.0), run('c', math.nan, width=None)], 'guessing')
    assert [(p.run.model, p.tied) for p in board.places] == [('a', None), ('b', None), ('c', None)]
    assert 'no interval tells' in repr(board) and 'NaN' in repr(board)
    shared = leaderboard([run('a', 1.0), run('b', 1.0)], 'guessing')
    assert [p.rank for p in shared.places] == [1, 1] and 'a and b share the first place' in shared.table().caption
    lacks = leaderboard([run('a', 1.0, latency=3.0), run('b', 2.0)], 'guessing', metric='latency')
    assert [p.run.model for p in lacks.places] == ['a'] and lacks.notes == ('b was not measured in latency',)
    assert 'not all ran on the same device' in leaderboard([run('a', 1.0), run('b', 1.0, device='gpu:0')], 'guessing').notes[0]


def test_what_has_no_direction_ranks_nothing():
    described = Run.from_dict({**run('a', 1.0, scored=3).to_dict(), 'metric_defs': {'error': DEFS['error'].to_dict(), 'scored': MetricDef(name='scored', unit='', direction='info').to_dict()}})
    for runs, metric in (([described], 'scored'), ([run('a', 1.0, memory=3.0)], 'memory')):
        with pytest.raises(ConfigError, match='has no direction') as e: leaderboard(runs, 'guessing', metric=metric)
        assert e.value.hint == 'rank by error'
    with pytest.raises(ConfigError, match="the metric 'speed'") as e: leaderboard([run('a', 1.0, spread=2.0, skipped=0)], 'guessing', metric='speed')
    assert e.value.hint == 'there is error, spread'        # and not the nearest word, which is no help
    with pytest.raises(ConfigError) as e: leaderboard([run('a', 1.0, spread=2.0)], 'guessing', metric='eror')
    assert e.value.hint == "did you mean 'error'? there is error, spread"


def test_several_seeds_are_one_line_their_mean():
    from scipy import stats
    runs = [run('a', value, seed=seed, day=seed) for seed, value in enumerate((1.0, 1.2, 1.4))] + [run('b', 3.0, seed=0, day=5)]
    board = leaderboard([*runs, run('a', 9.0, seed=1, day=0)], 'guessing')        # an older run of seed 1 does not count
    a, b = board.places
    reach = stats.t.ppf(0.975, 2)*stats.sem([1.0, 1.2, 1.4])
    assert a.seeds == (0, 1, 2) and math.isclose(a.metric.value, 1.2) and math.isclose(a.metric.upper, 1.2 + math.hypot(0.1, reach), rel_tol=1e-6)
    assert b.seeds == (0,) and b.metric == runs[3].points[0].metrics['error'] and b.tied is False
    assert 'the mean over 3 seeds (0, 1, 2)' in board.notes[0] and 'not all were run with the same seeds: b 0; a 0, 1, 2' in board.notes[1]
    assert board.table().columns[2] == 'seeds' and [row[2] for row in board.table().rows] == ['3', '1'] and (0, 3) in board.table().best
    assert board.to_dict()['places'][0]['seeds'] == [0, 1, 2] and len(board.to_dict()['places'][0]['runs']) == 3
    assert next(csv.DictReader(board.to_csv().splitlines()))['seeds'] == '0 1 2'
    alone = leaderboard(runs, 'guessing', seed=1)
    assert alone.places[0].seeds == (1,) and 'seeds' not in alone.table().columns and not any('seeds' in n for n in alone.notes)
    two = leaderboard([runs[0], run('b', 2.0, seed=1, day=1)], 'guessing')      # a of one seed against b of another
    assert any('not all were run with the same seeds' in n for n in two.notes)


@settings(deadline=None)
@given(st.lists(st.floats(-5, 5), min_size=1, max_size=6), st.randoms())
def test_no_seed_is_preferred(found, rng):
    runs = [run('a', v, seed=i, day=d) for (i, v), d in zip(enumerate(found), rng.sample(range(20), len(found)))]
    place, = leaderboard(runs, 'guessing').places
    assert math.isclose(place.metric.value, math.fsum(found)/len(found), abs_tol=1e-12) and place.metric.lower <= place.metric.value <= place.metric.upper
    assert place.metric.upper - place.metric.lower >= 0.2 - 1e-9        # never surer than one run is


def test_seeds_are_paired_by_their_mean_on_each_sample(tmp_path):
    draw = np.random.default_rng(4)
    hardness = draw.gamma(2, 1, 200)
    seeds = [logged(tmp_path/f'a{i}.jsonl', hardness + 0.01*i, model='a', seed=i) for i in range(3)]
    board = leaderboard([*seeds, logged(tmp_path/'b.jsonl', hardness + 0.3 + draw.normal(0, 0.02, 200))], 'guessing')
    against = board.places[1].against
    assert board.places[1].run.model == 'b' and against.method == 'paired, 200 samples, and by seed' and against.verdict is Difference.WORSE
    assert math.isclose(against.difference, board.places[1].metric.value - board.places[0].metric.value, rel_tol=1e-9)
    apart = [logged(tmp_path/f'c{i}.jsonl', hardness + shift, model='c', seed=i) for i, shift in enumerate((-0.5, 0.6))]
    wild = leaderboard([*apart, logged(tmp_path/'d.jsonl', hardness + 0.3)], 'guessing')
    assert wild.places[1].against.verdict is Difference.NOISE       # two seeds that far apart tell nothing, whatever the samples say


# --- skipped samples ---

def test_who_fails_on_the_hard_samples_does_not_win(tmp_path):
    errors = np.linspace(1, 10, 100)
    fails, steady = logged(tmp_path/'fails.jsonl', errors + 0.1, skip=set(range(60, 100))), logged(tmp_path/'steady.jsonl', errors)
    board = leaderboard([fails, steady], 'guessing')
    assert [(p.run.model, p.rank, p.complete, p.scored) for p in board.places] == [('steady', 1, True, 100), ('fails', 2, False, 60)]
    assert board.places[1].metric.value < board.places[0].metric.value and board.places[1].tied is False
    text = repr(board)
    assert '60 of 100' in text and 'worse, on 60 common samples' in text and 'steady leads; ranked after those that scored more samples: fails' in text
    assert any('40 of 100 samples have no score' in n and '+0.1' in n for n in board.notes)
    assert [(e.label, e.rank, e.is_best) for e in board.ranking] == [('steady', 1, True), ('fails (60 of 100)', 2, False)]
    for paired in (True, False): assert leaderboard([fails, steady], 'guessing', paired=paired).places[0].run.model == 'steady'
    unpaired = leaderboard([fails, steady], 'guessing', paired=False).places[1]
    assert unpaired.tied is None and unpaired.against.method == 'different samples'
    data = board.to_dict()['places'][1]
    assert (data['scored'], data['samples'], data['complete'], data['against_best'], data['by']) == (60, 100, False, 'worse', 'paired, 60 samples')
    assert 'scored' in board.to_markdown() and next(csv.DictReader(board.to_csv().splitlines()))['scored'] == '100'
    import matplotlib.pyplot as plt
    figure, axes = board.plot()
    assert [t.get_text() for t in axes.get_yticklabels()] == ['1.  steady', '2.  fails (60 of 100)']
    plt.close(figure)


def test_compared_values_are_of_the_common_samples(tmp_path):
    errors = np.linspace(1, 10, 100)
    found = compare_models(logged(tmp_path/'steady.jsonl', errors), logged(tmp_path/'fails.jsonl', errors + 0.1, skip=set(range(60, 100))))
    for d, base in ((found.of('error'), np.mean), (found.of('spread'), np.std)):
        assert math.isclose(d.before, base(errors[:60])) and math.isclose(d.after, base(errors[:60] + (0.1 if base is np.mean else 0))) and d.samples == 60
        assert math.isclose(d.difference, d.after - d.before, abs_tol=1e-9)
    assert found.table().caption.endswith('worse in error, on the 60 samples that both scored')


def test_without_logs_other_samples_give_no_verdict():
    found = compare_models(run('a', 3.0, samples=100, skipped=0), run('b', 1.0, samples=60, skipped=40))
    assert found.verdict is Difference.UNKNOWN and found.of('error').method == 'different samples' and any('did not score the same samples' in n for n in found.notes)


def test_where_every_model_skips_the_same_number_they_are_ranked(tmp_path):
    board = leaderboard([logged(tmp_path/'a.jsonl', np.linspace(1, 2, 60), skip={3}), logged(tmp_path/'b.jsonl', np.linspace(2, 3, 60), skip={3})], 'guessing')
    assert all(p.complete for p in board.places) and any('no model scored every sample: 1 or more were skipped by each' in n for n in board.notes)


@settings(deadline=None)
@given(st.lists(st.tuples(st.floats(-5, 5), st.integers(1, 5)), min_size=1, max_size=6), st.sampled_from(['error', 'gain']))
def test_no_value_lifts_a_model_above_one_that_scored_more(found, primary):
    runs = [run(f'm{i}', v, primary=primary, samples=scored, skipped=5 - scored) for i, (v, scored) in enumerate(found)]
    board = leaderboard(runs, 'guessing')
    most = max(scored for _, scored in found)
    whole = [p.complete for p in board.places]
    assert whole == sorted(whole, reverse=True) and all(p.complete == (p.scored == most) for p in board.places)
    ranks = [p.rank for p in board.places]
    assert ranks == sorted(ranks) and all(p.rank > sum(whole) for p in board.places if not p.complete) and len(board.ranking) == len(found)


def strict(text):
    "JSON as the standard has it, without bare NaN"
    def refuse(name): raise ValueError(name)
    return json.loads(text, parse_constant=refuse)

def test_json_is_json_where_a_metric_is_not_defined():
    board = leaderboard([run('a', math.nan, width=None), run('b', 1.0)], 'guessing')
    assert [p['value'] for p in strict(json.dumps(board.to_dict()))['places']] == [1.0, 'NaN']
    compared = strict(json.dumps(compare_models(run('a', math.nan, width=None), run('b', 1.0)).to_dict()))
    assert compared['metrics'][0]['before'] == compared['metrics'][0]['difference'] == 'NaN' and compared['verdict'] == 'cannot be told'


def test_runs_of_other_things_are_no_matter(tmp_path):
    store = Store(tmp_path/'store')
    store.save(Run(id='other', points=(Point(name='p', scenario='s', metrics={'error': Metric(value=1.0)}),)))
    with pytest.raises(ConfigError, match="no run of the task 'guessing' in") as e: leaderboard(store, 'guessing')
    assert 'calibrax bench' in e.value.hint
    store.save(run('a', 1.0))
    assert [b.model for b in bench_runs(store, 'guessing')] == ['a'] and BenchRun.of(store.load('other')) is None
    assert [p.run.model for p in leaderboards(store, 'guessing')['test'].places] == ['a']
    for wrong, said in ((dict(task='gessing'), "did you mean 'guessing'"), (dict(task='guessing', split='tets'), 'test'), (dict(task='guessing', metric='eror'), 'error')):
        with pytest.raises(ConfigError) as e: leaderboard(store, **wrong)
        assert said in e.value.hint
    import matplotlib.pyplot as plt
    figure, axes = leaderboard(store, 'guessing').plot()
    assert axes.get_xlabel() == 'error ↓ [m]'
    plt.close(figure)


# --- one against another ---

@settings(deadline=None, max_examples=60)
@given(st.floats(-5, 5), st.floats(0, 2), st.floats(-5, 5), st.floats(0, 2), st.sampled_from(['error', 'gain']))
def test_by_intervals(a, wide_a, b, wide_b, primary):
    found = compare_models(run('a', a, width=wide_a, primary=primary), run('b', b, width=wide_b, primary=primary)).of(primary)
    apart = a + wide_a < b - wide_b or b + wide_b < a - wide_a
    assert found.verdict is (Difference.OVERLAP if not apart else Difference.BETTER if (b > a) == (primary == 'gain') else Difference.WORSE)
    assert found.difference == b - a and found.degradation == (b - a if primary == 'error' else a - b) and found.method == 'intervals'


def test_costs_are_exact_or_by_intervals():
    found = compare_models(run('a', 1.0, parameters=10, latency=Metric(value=2.0, lower=1.9, upper=2.1)), run('b', 1.0, parameters=20, latency=Metric(value=1.0, lower=0.9, upper=1.1)))
    assert (found.of('parameters').verdict, found.of('parameters').method) == (Difference.WORSE, 'exact')
    assert len(found.notes) == 2 and 'sample files of a (run a-test-0-0) and b (run b-test-0-0) are not at hand' in found.notes[0]
    assert compare_models(run('a', 1.0, parameters=10), run('b', 1.0, parameters=10)).of('parameters').verdict is Difference.SAME
    assert compare_models(run('a', 1.0, width=None), run('b', 2.0)).verdict is Difference.UNKNOWN


def test_one_measurement_of_a_time_is_no_verdict():
    slow, fast = (run(name, 1.0, latency=Metric(value=v, lower=v - 0.1, upper=v + 0.1), seed=seed) for name, v, seed in (('slow', 2.0, 0), ('fast', 1.0, 0)))
    found = compare_models(slow, fast)
    assert found.of('latency').verdict is Difference.UNKNOWN and found.of('latency').difference == -1.0 and found.of('latency').method == 'measured once each'
    assert 'latency: measured once each; see calibrax check --policy history' in found.notes[1]
    board = leaderboard([slow, fast], 'guessing', metric='latency')
    assert [(p.run.model, p.tied) for p in board.places] == [('fast', None), ('slow', None)] and 'measured once each' in board.table().rows[1]
    assert 'both were measured once, which does not tell it from slow' in board.table().caption and any('--policy history' in n for n in board.notes)
    again = [run(name, 1.0, latency=v, seed=seed) for name, values in (('slow', (2.0, 2.1, 2.05)), ('fast', (1.0, 1.1, 1.05))) for seed, v in enumerate(values)]
    assert [p.tied for p in leaderboard(again, 'guessing', metric='latency').places] == [None, False]      # several runs tell


def test_paired_samples_see_what_intervals_cannot(tmp_path):
    draw = np.random.default_rng(0)
    hardness = draw.gamma(2, 1, 200)
    a, b = logged(tmp_path/'a.jsonl', hardness), logged(tmp_path/'b.jsonl', hardness + 0.05 + draw.normal(0, 0.02, 200))
    found = compare_models(a, b)
    error = found.of('error')
    assert found.verdict is Difference.WORSE and error.method == 'paired, 200 samples' and 0.04 < error.lower < error.difference < error.upper < 0.06
    assert compare_models(b, a).verdict is Difference.BETTER
    board, paired = leaderboard([a, b], 'guessing', paired=False), leaderboard([a, b], 'guessing')
    assert [p.tied for p in board.places] == [None, True] and [p.tied for p in paired.places] == [None, False]
    assert 'intervals overlap' in repr(board) and 'its interval overlaps with that of b' in repr(board)
    assert paired.table().caption == 'guessing/test: 2 models, a leads; paired by sample' and not paired.notes
    (tmp_path/'b.jsonl').unlink()       # moved
    assert leaderboard([a, b], 'guessing').notes == ('not compared by samples but by intervals: all, as the sample files of b are not at hand (none kept, moved, deleted or damaged)',)
    data = json.loads(json.dumps(found.to_dict()))
    assert data['verdict'] == 'worse' and data['metrics'][0]['degradation'] > 0


@settings(deadline=None, max_examples=15)
@given(st.integers(0, 10_000), st.integers(30, 80))
def test_the_paired_interval_is_that_of_the_differences(tmp_path_factory, seed, n):
    from calibrax.statistics.bootstrap import bootstrap_interval
    folder, draw = tmp_path_factory.mktemp('pair'), np.random.default_rng(seed)
    x, y = draw.normal(3, 1, n), draw.normal(3, 1, n)
    error = compare_models(logged(folder/'a.jsonl', x), logged(folder/'b.jsonl', y)).of('error')
    expected = bootstrap_interval(np.mean, y - x)
    assert math.isclose(error.difference, float(np.mean(y - x)), abs_tol=1e-12) and math.isclose(error.lower, expected.lower) and math.isclose(error.upper, expected.upper)
    assert error.verdict is (Difference.WORSE if expected.lower > 0 else Difference.BETTER if expected.upper < 0 else Difference.NOISE)


def test_scenes_are_drawn_and_not_frames(tmp_path):
    draw = np.random.default_rng(1)
    shift = np.repeat(draw.normal(0.0, 0.5, 40), 10)       # a scene is better or worse as a whole
    base = draw.gamma(2, 1, 400)
    (tmp_path/'s').mkdir()
    alone = compare_models(logged(tmp_path/'a.jsonl', base), logged(tmp_path/'b.jsonl', base + shift)).of('error')
    scenes = compare_models(logged(tmp_path/'s'/'a.jsonl', base, scene=10), logged(tmp_path/'s'/'b.jsonl', base + shift, scene=10)).of('error')
    assert scenes.upper - scenes.lower > 2*(alone.upper - alone.lower)


@settings(deadline=None, max_examples=15)
@given(st.integers(0, 10_000), st.integers(2, 20))
def test_a_few_scenes_have_students_interval(tmp_path_factory, seed, scenes):
    from scipy import stats
    folder, draw = tmp_path_factory.mktemp('few'), np.random.default_rng(seed)
    x, y = draw.normal(3, 1, 4*scenes), draw.normal(3, 1, 4*scenes)
    error = compare_models(logged(folder/'a.jsonl', x, scene=4), logged(folder/'b.jsonl', y, scene=4)).of('error')
    if scenes < 4:
        assert error.verdict is Difference.UNKNOWN and error.lower is None
        return
    expected = stats.t.interval(0.95, scenes - 1, np.mean(y - x), stats.sem((y - x).reshape(scenes, 4).mean(1)))
    assert np.allclose((error.lower, error.upper), expected, rtol=1e-5)


def test_where_no_interval_tells_the_samples_are_asked(tmp_path):
    base = np.repeat(np.linspace(1, 3, 10), 6)
    a, b = logged(tmp_path/'a.jsonl', base, scene=6), logged(tmp_path/'b.jsonl', base + 0.5 + np.random.default_rng(3).normal(0, 0.1, 60), scene=6)
    bare = [Run.from_dict({**r.to_dict(), 'points': [{**r.points[0].to_dict(), 'metrics': {k: {'value': m.value} for k, m in r.points[0].metrics.items()}}]}) for r in (a, b)]
    assert [p.tied for p in leaderboard(bare, 'guessing').places] == [None, False]
    few = [logged(tmp_path/f'{n}.jsonl', base[:12] + shift, scene=6) for n, shift in (('c', 0.0), ('d', 0.5))]
    assert [p.tied for p in leaderboard(few, 'guessing', paired=True).places] == [None, None]      # two scenes tell nothing


def test_figures_that_are_no_means_are_drawn_anew(tmp_path):
    draw = np.random.default_rng(2)
    x = draw.normal(3, 1, 150)
    found = compare_models(logged(tmp_path/'a.jsonl', x), logged(tmp_path/'b.jsonl', 3 + (x - 3)*1.5)).of('spread')
    assert found.verdict is Difference.WORSE and 'drawn anew' in found.method
    assert math.isclose(found.difference, 0.5*float(np.std(x)), rel_tol=1e-6) and found.lower < found.difference < found.upper


def test_what_only_one_scored_is_left_out(tmp_path):
    errors = np.linspace(1, 2, 60)
    found = compare_models(logged(tmp_path/'a.jsonl', errors, skip={0, 1}), logged(tmp_path/'b.jsonl', errors + 0.5, skip={59}))
    assert found.of('error').method == 'paired, 57 samples' and math.isclose(found.of('error').difference, 0.5, rel_tol=1e-9) and '57 samples were scored by both' in found.notes[0]


def test_a_figure_that_is_no_mean_is_not_taken_for_one(tmp_path):
    "The root of a mean square, told under the name that each sample's own error has, when one model scored fewer samples"
    errors = np.linspace(1, 2, 60)
    a, b = logged(tmp_path/'a.jsonl', errors), logged(tmp_path/'b.jsonl', errors + 0.5, skip={59})
    def rooted(r, value): return Run.from_dict({**r.to_dict(), 'points': [{**r.points[0].to_dict(), 'metrics': {**r.points[0].to_dict()['metrics'], 'error': {'value': value, 'lower': value - 0.1, 'upper': value + 0.1}}}]})
    found = compare_models(rooted(a, float(np.sqrt(np.mean(errors**2)))), rooted(b, float(np.sqrt(np.mean((errors[:59] + 0.5)**2))))).of('error')
    assert found.method == 'different samples' and found.difference == found.after - found.before and found.verdict is Difference.UNKNOWN


def test_few_samples_give_no_verdict(tmp_path):
    found = compare_models(logged(tmp_path/'a.jsonl', [1.0, 2.0, 3.0]), logged(tmp_path/'b.jsonl', [2.0, 3.0, 3.5]))
    assert found.verdict is Difference.UNKNOWN and found.of('error').method == 'paired, 3 samples: too few for an interval'


def test_a_log_that_is_gone_or_damaged_is_no_obstacle(tmp_path):
    a, b = logged(tmp_path/'a.jsonl', np.linspace(1, 2, 50)), logged(tmp_path/'b.jsonl', np.linspace(2, 3, 50))
    (tmp_path/'b.jsonl').write_text('nonsense\n' + (tmp_path/'b.jsonl').read_text())
    assert compare_models(a, b).of('error').method == 'intervals'
    (tmp_path/'b.jsonl').unlink()
    assert compare_models(a, b).of('error').method == 'intervals'


def test_what_cannot_be_compared_is_said():
    one = run('a', 1.0)
    for other, said in ((run('b', 1.0, split='hard'), 'split'), (run('b', 1.0, data='d2'), 'data'), (Run(points=()), 'no run of the benchmark toolkit'), (3, 'no run of the benchmark toolkit')):
        with pytest.raises(ConfigError, match=said) as e: compare_models(one, other)
        assert e.value.hint
    with pytest.raises(ConfigError, match="'rmse' was not compared"): compare_models(one, run('b', 2.0)).of('rmse')
