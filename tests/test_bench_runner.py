"The runner: what it measures, what it does about bad samples, and what it never holds."
import dataclasses, gc, importlib.util, json, math, random, sys, tracemalloc
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from calibrax.bench.datasets import BenchmarkDataset, SampleEntry
from calibrax.bench.efficiency import Efficiency, device_memory, summarize_efficiency
from calibrax.bench.metrics import MetricCalculator, register_calculator
from calibrax.bench.models import from_function
from calibrax.bench.progress import Progress
from calibrax.bench.results import EvaluationResult, metric_interval, read_result
from calibrax.bench.runner import BenchmarkRunner, job_of
from calibrax.bench.sample_log import BatchTiming, Job, ModelFacts
from calibrax.bench.samples import Sample, SampleRecord, TemporalScore, group_reasons
from calibrax.bench.tasks import TaskSpec, register_task
from calibrax.core.display import format_si
from calibrax.core.errors import CalibraxError, ConfigError, DatasetError, MetricError, ModelError, StoreError
from calibrax.core.measurements import percentile
from calibrax.core.models import MetricDef
from calibrax.storage.store import Store


@register_calculator('summing')
class Summing(MetricCalculator):
    name = 'summing'
    metric_defs = {'error': MetricDef(name='error', unit='', direction='lower'), 'even': MetricDef(name='even', unit='', direction='higher'),
                   'spread': MetricDef(name='spread', unit='', direction='info')}
    def invalid(self, sample): return 'the truth is negative' if sample.target('truth') < 0 else None
    def compute(self, prediction, sample):
        if np.shape(prediction): raise MetricError(f'a number is needed, found shape {np.shape(prediction)}', hint='reduce it')
        error = abs(float(prediction) - float(sample.target('truth')))
        return {'error': error, 'even': float(prediction % 2 == 0) if prediction < 100 else math.nan}
    def evidence(self, prediction, sample): return {'prediction': float(prediction)}
    def aggregate(self, records):
        found = dict(super().aggregate(records))
        return {**found, 'spread': float(np.ptp([r.evidence['prediction'] for r in records]))}

TASK = register_task(TaskSpec(task='summing', display_name='Summing', primary_metric='error', direction='lower', required_inputs=('x',), required_targets=('truth',),
                              phases=('clutter', 'interaction', 'clean'), difficulty_weights={'easy': 1, 'hard': 2}))

def sample(i, **changes):
    x = np.arange(4, dtype=np.float32) + i
    where = dict(scene=f'scene{i//6}', phase=('clutter', 'clean')[i % 2], difficulty=('easy', 'hard')[i//2 % 2], metadata={'number': i})
    return Sample(**{**dict(id=f's{i:03}', inputs={'x': x}, targets={'truth': np.float32(x.sum())}), **where, **changes})

def data(n=20, made=sample, identity='summing'):
    return BenchmarkDataset.from_function([SampleEntry(id=f's{i:03}', scene=f'scene{i//6}') for i in range(n)], made, task='summing', name='numbers', split='test', identity=f'{identity}{n}')

def model(predict=lambda x: x.sum(1), **options): return from_function(predict, task='summing', name=options.pop('name', 'adder'), inputs='x', **options)

def run(a_model=None, a_data=None, task=TASK, **options): return BenchmarkRunner(a_model or model(), a_data or data(), task, **options).run()

def reasons(result): return {r.id: r.reason for r in result.records() if not r.scored}


# --- what comes out -------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize('batch_size', [1, 3, 20, 64])
def test_batches_give_the_same_as_single_samples(batch_size):
    result = run(model(lambda x: x.sum(1) + 1), batch_size=batch_size)
    assert result.aggregated == {'error': 1.0, 'even': np.mean([(4*i + 7) % 2 == 0 for i in range(20)]), 'spread': 76.0}
    assert (result.samples, result.scored, result.skipped, result.invalid) == (20, 20, 0, 0)
    records = list(result.records())
    assert [r.index for r in records] == list(range(20)) and [r.batch for r in records] == [i//batch_size for i in range(20)]
    assert all((r.scene, r.phase, r.difficulty, r.metadata['number']) == (f'scene{i//6}', ('clutter', 'clean')[i % 2], ('easy', 'hard')[i//2 % 2], i) for i, r in enumerate(records))


def test_everything_can_be_computed_from_the_file_again():
    result = run(model(lambda x: x.sum(1) + x[:, 0]/10), batch_size=6)
    lines = [json.loads(line) for line in Path(result.samples_file).read_text().splitlines()]
    samples, timings = [d for d in lines if 'index' in d], [d['timing'] for d in lines if 'timing' in d]
    assert result.aggregated['error'] == pytest.approx(np.mean([d['metrics']['error'] for d in samples]))
    shares = [d['latency_ms'] for d in samples]
    for q in (50, 95, 99): assert getattr(result.efficiency, f'latency_ms_{"median" if q == 50 else f"p{q}"}') == pytest.approx(percentile(shares, q))
    assert result.efficiency.latency_ms_mean == pytest.approx(np.mean(shares))
    assert result.efficiency.batch_latency_ms_median == pytest.approx(percentile([t['invoke_ms'] for t in timings], 50))
    for g in result.groups:
        part = [d for d in samples if d.get('phase') == g.phase or d.get('difficulty') == g.difficulty]
        assert g.samples == len(part) and g.metrics['error'].value == pytest.approx(np.mean([d['metrics']['error'] for d in part]))
    assert [g.name for g in result.groups] == ['clutter', 'clean', 'easy', 'hard']
    assert read_result(Path(result.samples_file).parent) == result == EvaluationResult.from_json(result.to_json())


def test_a_metric_that_is_not_defined_is_left_out_and_counted():
    result = run(a_data=data(40))
    assert result.undefined == {'even': sum(4*i + 6 >= 100 for i in range(40))} and result.aggregated['even'] == 1.0


# --- bad samples ----------------------------------------------------------------------------------------------------------

def broken(i):
    if i == 2: raise DatasetError('the file of s002 is cut off', hint='fetch it')
    if i == 5: return sample(i, targets={'truth': np.float32(-1)})
    if i == 8: return sample(i, inputs={'x': np.full(4, np.nan, np.float32)})
    if i == 11: return sample(i, inputs={'x': np.full(4, 1000, np.float32)})
    if i == 14: return sample(i, inputs={'x': np.zeros(7, np.float32)})
    return sample(i)

def fails(x):
    if (x > 999).any(): raise ValueError('no number may be above 999')
    return x.sum(1)

@pytest.mark.parametrize('batch_size', [1, 4, 20])
def test_each_bad_sample_costs_itself_and_has_a_reason(batch_size):
    result = run(model(fails), data(20, broken), batch_size=batch_size)
    found = reasons(result)
    wrong = {'s002', 's005', 's008', 's011'} | ({'s014'} if batch_size > 1 else set())      # alone, its shape is that of its batch
    assert found.keys() == wrong
    assert found['s002'] == 'the file of s002 is cut off' and found['s005'] == 'the truth is negative'
    assert found['s008'] == 'the prediction has 1 value that is not finite' and 'above 999' in found['s011']
    assert (result.invalid, result.skipped, result.scored) == (1, len(wrong) - 1, 20 - len(wrong))
    assert (result.aggregated['error'] == 0 or batch_size == 1) and sum(result.reasons.values()) == len(wrong)
    assert {r.id for r in result.records() if r.status == 'invalid'} == {'s005'}

def test_invalid_truth_is_never_scored_and_never_predicted():
    seen = []
    def watch(x):
        seen.append(len(x))
        return x.sum(1)
    result = run(model(watch), data(4, lambda i: sample(i, targets={'truth': np.float32(-1 if i < 3 else 18)})), batch_size=4, warmup=0)
    assert (result.invalid, result.scored, seen) == (3, 1, [4])        # one row of four is a sample

@pytest.mark.parametrize(('i', 'error', 'text'), [(2, DatasetError, 'cut off'), (8, ModelError, 'not finite'), (11, ModelError, 'above 999')])
def test_the_first_bad_sample_is_fatal_when_asked(i, error, text):
    with pytest.raises(error, match=text) as e: run(model(fails), data(20, lambda j: broken(j) if i == j else sample(j)), on_error='raise')
    assert e.value.hint and any(f"s{i:03}" in note for note in e.value.__notes__)

def test_invalid_truth_is_not_fatal():
    assert run(a_data=data(8, lambda i: broken(5) if i == 5 else sample(i)), on_error='raise').invalid == 1

def test_predictions_of_the_wrong_kind():
    result = run(model(lambda x: [row.sum() if row[0] != 3 else row for row in x]), batch_size=4)
    assert reasons(result) == {'s003': 'a number is needed, found shape (4,)'}
    with pytest.raises(ModelError, match='none of 20 samples could be scored') as e: run(model(lambda x: x.sum(1)[:-1]), batch_size=4)
    assert 'predictions' in e.value.message and e.value.hint
    with pytest.raises(DatasetError, match='the truth is negative'): run(a_data=data(3, lambda i: sample(i, targets={'truth': np.float32(-1)})))

def test_many_different_reasons_are_told_in_short():
    result = run(a_data=data(40, lambda i: sample(i) if i < 5 else (_ for _ in ()).throw(DatasetError(f'fault {chr(97 + i)}', hint='mend it'))))
    assert len(result.reasons) == 11 and result.reasons['other reasons'] == 25 and sum(result.reasons.values()) == 35

def test_reasons_that_differ_in_ids_and_numbers_are_one():
    result = run(a_data=data(40, lambda i: sample(i) if i < 4 else (_ for _ in ()).throw(DatasetError(f"sample 's{i:03}': found values from -{i*7.5} to 9", hint='mend it'))))
    assert result.reasons == {"sample '…': found values from … to 9": 36} and '36 × sample' in repr(result)

@given(st.lists(st.tuples(st.sampled_from(['found {} values', 'depth {} m of ({})', 'NaN', '{}']), st.integers(-10**6, 10**6) | st.floats(allow_nan=False, allow_infinity=False)), max_size=40))
@settings(max_examples=60, deadline=None)
def test_groups_of_reasons_are_by_their_words(told):
    groups = group_reasons([words.format(n, n) for words, n in told])
    assert sum(groups.values()) == len(told) and len(groups) == len({words for words, _ in told})
    assert list(groups.values()) == sorted(groups.values(), reverse=True)

def test_groups_keep_what_is_the_same_and_types_apart():
    assert group_reasons(['3 of 9 (s1)', '4 of 9 (s2)'], ['s1', 's2']) == {'… of 9 (…)': 2}
    assert group_reasons(['float32', 'float64', 'read clean'], ['a', 'b', 'clean']) == {'float32': 1, 'float64': 1, 'read clean': 1}

def test_the_same_reason_of_many_samples_is_one_reason():
    def stumbles(x):
        if (x[:, 0] % 5 == 0).any(): raise RuntimeError('too round')
        return x.sum(1)
    assert [n for _, n in run(model(stumbles), batch_size=4).reasons.items()] == [4]

def test_a_batch_that_was_tried_one_by_one_has_no_time():
    result = run(model(fails), data(20, broken), batch_size=4)
    missing = {r.id for r in result.records() if r.latency_ms is None and r.scored}
    assert missing == {'s009', 's010'} and all('latency_ms' in r.notes for r in result.records() if r.id in missing)        # s011 made the call fail
    assert result.efficiency.batches == 4


# --- what is measured -----------------------------------------------------------------------------------------------------

@pytest.mark.parametrize('warmup', [0, 1, 3])
def test_the_first_batch_is_called_untimed_first(warmup):
    calls = []
    def watch(x):
        calls.append(x[0, 0])
        return x.sum(1)
    result = run(model(watch), batch_size=8, warmup=warmup)
    assert calls == [0.0]*warmup + [0.0, 8.0, 16.0]
    assert (result.efficiency.batches, result.efficiency.warmup_batches) == (3, warmup)
    assert result.deterministic is (True if warmup else None)

def test_shapes_stay_fixed():
    shapes = set()
    def watch(x):
        shapes.add(x.shape)
        return x.sum(1)
    run(model(watch), data(21, broken), batch_size=8)
    assert shapes == {(8, 4)}

def test_a_model_that_is_not_deterministic_is_found_out():
    state = iter(np.linspace(0, 1, 1000))
    assert run(model(lambda x: x.sum(1) + next(state))).deterministic is False
    assert run(model(lambda x: x.sum(1) + np.random.normal(size=len(x)))).deterministic is True     # seeded for each batch

def test_the_callers_random_state_is_as_it_was():
    random.seed(3); np.random.seed(3)
    expected = random.random(), np.random.random()
    random.seed(3); np.random.seed(3)
    draws = [run(model(lambda x: x.sum(1) + np.random.normal(size=len(x)) + random.random()), seed=s).aggregated['error'] for s in (0, 0, 1)]
    assert (random.random(), np.random.random()) == expected
    assert draws[0] == draws[1] != draws[2]

def test_flops_of_jax_and_a_reason_for_numpy():
    import jax
    weights = np.ones((4, 3), np.float32)
    result = run(model(jax.jit(lambda x: (x @ weights).sum(1)/3)), batch_size=5)
    assert result.efficiency.flops_per_sample == 2*4*3 + 2 + 1      # products, sum, division
    assert 'not asked for' in run(model(jax.jit(lambda x: x.sum(1))), flops=False).efficiency.unavailable['flops_per_sample']
    plain = run().efficiency
    assert plain.flops_per_sample is None and 'cannot be counted' in plain.unavailable['flops_per_sample']

def test_counting_flops_never_stops_a_run():
    broken_program = model()
    broken_program.program = lambda batch: (_ for _ in ()).throw(RuntimeError('out of memory'))
    result = run(broken_program)
    assert result.scored == 20 and result.efficiency.unavailable['flops_per_sample'] == 'RuntimeError: out of memory'

def test_energy_is_measured_or_has_a_reason():
    e = run(energy=True).efficiency
    assert e.energy_joules is not None or e.unavailable['energy_joules'] and e.unavailable['energy_joules_per_sample']
    assert 'energy=True' in run().efficiency.unavailable['energy_joules']

def test_memory_of_device_and_process():
    assert run().efficiency.peak_memory_bytes > 10e6
    gpu = SimpleNamespace(platform='gpu', jax=lambda: SimpleNamespace(memory_stats=lambda: {'peak_bytes_in_use': 123}))
    import jax      # noqa: F401  what is in memory is asked
    assert device_memory(gpu, 'jax') == (123, '')
    silent = SimpleNamespace(platform='gpu', jax=lambda: SimpleNamespace(memory_stats=lambda: None))
    assert device_memory(silent, 'jax') == (None, 'jax does not tell for this device')

def test_only_the_models_own_framework_is_asked_for_memory(monkeypatch):
    "JAX would take most of a GPU's memory when it is woken up for a model of torch"
    def woken(): raise AssertionError('JAX was asked')
    gpu = SimpleNamespace(platform='gpu', jax=woken, torch=lambda: 'cuda:0')
    cuda = SimpleNamespace(is_available=lambda: True, max_memory_allocated={'cuda:0': 77}.get)
    monkeypatch.setitem(sys.modules, 'torch', SimpleNamespace(cuda=cuda))
    assert device_memory(gpu, 'torch') == (77, '') and device_memory(gpu, 'numpy')[0] is None
    assert 'JAX was asked' in device_memory(gpu, 'jax')[1]

def test_memory_has_one_unit_everywhere(tmp_path):
    runner = BenchmarkRunner(model(), data(), TASK, folder=tmp_path)
    result, report = runner.run_with_deployment_readiness()
    size = result.efficiency.peak_memory_bytes
    assert all(format_si(size, 'B') in text for text in (repr(result), repr(result.efficiency), repr(report)))
    assert result.to_run().points[0].metrics['peak_memory'].value == size/1e6

@given(st.lists(st.tuples(st.integers(1, 8), st.floats(0.01, 1e3)), min_size=1, max_size=30))
@settings(max_examples=50, deadline=None)
def test_efficiency_is_that_of_the_batches(batches):
    timings = [BatchTiming(batch=i, samples=n, rows=8, invoke_ms=ms, total_ms=2*ms) for i, (n, ms) in enumerate(batches)]
    e = summarize_efficiency(timings, ModelFacts(), batch_size=8)
    shares = np.concatenate([np.full(n, ms/8) for n, ms in batches])
    assert e.latency_ms_median == pytest.approx(np.median(shares)) and e.latency_ms_p99 == pytest.approx(np.percentile(shares, 99))
    assert e.batch_latency_ms_p95 == pytest.approx(np.percentile([ms for _, ms in batches], 95))
    whole = [(n, ms) for n, ms in batches if n == 8] or batches
    assert e.throughput == pytest.approx(1000*np.median([n for n, _ in whole])/np.median([ms for _, ms in whole]))
    assert e.throughput_end_to_end == pytest.approx(1000*sum(n for n, _ in batches)/sum(2*ms for _, ms in batches))
    assert Efficiency.from_json(e.to_json()) == e

def test_calls_that_were_held_up_do_not_decide_the_throughput():
    def timed(held): return summarize_efficiency([BatchTiming(batch=i, samples=8, rows=8, invoke_ms=900 if i in held else 4, total_ms=5 if i not in held else 901) for i in range(20)], batch_size=8)
    calm, noisy = timed(()), timed((3, 11))
    assert noisy.throughput == calm.throughput == 2000 and noisy.latency_ms_mean > 10*calm.latency_ms_mean and noisy.throughput_end_to_end < calm.throughput_end_to_end/10

@pytest.mark.parametrize(('calls', 'of_95', 'of_99'), [
    (1, 'of a single call', 'of a single call'), (6, 'the largest of 6 calls', 'the largest of 6 calls'), (19, 'the largest of 19 calls', 'the largest of 19 calls'),
    (20, '', 'the largest of 20 calls'), (99, '', 'the largest of 99 calls'), (100, '', '')])
def test_percentiles_of_few_calls_are_marked(calls, of_95, of_99):
    e = summarize_efficiency([BatchTiming(batch=i, samples=8, rows=8, invoke_ms=4 + i, total_ms=5) for i in range(calls)], batch_size=8)
    remarks = {row[0]: row[2] for row in e.table().rows}
    assert [remarks[f'latency of a {what}, p{q}'] for what in ('sample', 'call') for q in (95, 99)] == [of_95, of_99]*2
    assert f'percentiles are of {calls} call' in repr(e) and not remarks['latency of a call, median']

def test_counts_are_whole_numbers_and_operations_have_prefixes():
    e = summarize_efficiency([BatchTiming(batch=0, samples=8, rows=8, invoke_ms=4, total_ms=5)], ModelFacts(parameters=11164, flops_per_sample=9135144.44), batch_size=8)
    result = dataclasses.replace(run(), efficiency=e)
    for shown in (repr(e), repr(result)): assert '11,164' in shown and '9.14 MFLOP' in shown and '11164.00' not in shown
    assert 'p95 and p99: of a single call' in repr(result)

def test_a_metric_without_an_interval_says_why():
    result = run(a_data=data(20))
    assert result.no_interval == {'error': 'all 20 values are equal', 'spread': 'it is made of all samples at once', 'even': 'all 20 values are equal'}
    assert 'none: all 20 values are equal' in repr(result) and EvaluationResult.from_json(result.to_json()) == result
    assert 'only 3' in run(model(lambda x: x.sum(1) + np.sin(x[:, 0])), data(3)).no_interval['error']

def test_a_metric_that_no_sample_defines_is_not_defined():
    result = run(model(lambda x: x.sum(1) + 1000))
    assert result.undefined['even'] == 20 and 'even' not in result.no_interval
    assert [row[1:] for row in result.table().rows if row[0].startswith('even')] == [('not defined', '', '0')] and 'NaN' not in repr(result.table())

def test_what_could_not_be_found_out_has_a_reason():
    "A model that fails at every whole batch, and works sample by sample"
    def only_alone(x):
        if len(np.unique(x[:, 0])) > 1: raise RuntimeError('one at a time')
        return x.sum(1)
    e = run(model(only_alone), batch_size=4).efficiency
    assert {'flops_per_sample', 'parameters', 'throughput', 'latency_ms_median'} <= e.unavailable.keys() and e.batches == 0


def test_ten_thousand_predictions_are_never_all_held():
    "64 × 64 float32 each: 160 MB together, and a few MB at any time beside the lines of the log"
    def picture(i): return Sample(id=f's{i:05}', inputs={'x': np.full((1,), i, np.float32)}, targets={'truth': np.zeros((), np.float32)})
    pictures = BenchmarkDataset.from_function([f's{i:05}' for i in range(10_000)], picture, task='pictures', name='pictures', split='test', identity='pictures')
    measured = []
    @register_calculator('pictures')
    class Mean(MetricCalculator):
        name, metric_defs = 'mean', {'mean': MetricDef(name='mean', unit='', direction='info')}
        def compute(self, prediction, sample):
            if len(measured) % 500 == 0: measured.append(tracemalloc.get_traced_memory()[0])
            else: measured.append(0)
            return {'mean': float(prediction[0, 0])}
    task = TaskSpec(task='pictures', display_name='Pictures', primary_metric='mean', direction='lower')
    painter = from_function(lambda x: np.broadcast_to(x[:, :, None], (len(x), 64, 64)).astype(np.float32), task='pictures', name='painter', inputs='x')
    gc.collect()
    tracemalloc.start()
    try:
        result = BenchmarkRunner(painter, pictures, task, batch_size=32).run()
        peak = tracemalloc.get_traced_memory()[1]
    finally: tracemalloc.stop()
    held = [m for m in measured if m]
    assert result.scored == 10_000 and result.aggregated['mean'] == pytest.approx(4999.5)
    assert max(held[2:]) - min(held[2:]) < 3e6, 'memory grows with the samples'
    assert peak < 60e6, 'the lines of the log are read at the end; the predictions would be 160 MB'


# --- frames ---------------------------------------------------------------------------------------------------------------

def frames(i): return sample(i, scene=('a', 'a', 'b', 'b', 'b', None, None, 'c')[i], phase='clean')

def test_frames_are_compared_within_a_scene_only():
    task = dataclasses.replace(TASK, temporal=lambda p, s, q, t: TemporalScore(value=None, reason='no pose') if t.id == 's004' else TemporalScore(value=.5, compensated=True),
                               coherence=lambda p, s: None if s.id == 's001' else (.25, None))
    records = list(run(a_data=data(8, frames), task=task, batch_size=3).records())
    assert [r.previous for r in records] == [None, 's000', None, 's002', None, None, None, None]
    assert [r.temporal_stability for r in records] == [None, .5, None, .5, None, None, None, None]
    assert records[4].notes == {'temporal_stability': 'no pose'} and 'coherence' in records[1].notes
    assert all((r.coherence_precision, r.coherence_recall) == (.25, None) for r in records if r.id != 's001')

def test_a_comparison_that_fails_does_not_cost_the_sample():
    task = dataclasses.replace(TASK, temporal=lambda p, s, q, t: 1/0)
    result = run(a_data=data(8, frames), task=task)
    assert result.scored == 8 and [r.notes.get('temporal_stability', '') for r in result.records()].count('ZeroDivisionError: division by zero') == 3
    with pytest.raises(ModelError, match='ZeroDivisionError') as e: run(a_data=data(8, frames), task=task, on_error='raise')
    assert e.value.hint


# --- files ----------------------------------------------------------------------------------------------------------------

def test_predictions_are_saved_and_read_again(tmp_path):
    two = model(lambda x: {'sum': x.sum(1), 'max': x.max(1)}, output=lambda o: o['sum'])
    result = run(two, folder=tmp_path/'a', batch_size=4, save_predictions=True)
    assert sorted(p.name for p in (tmp_path/'a'/'predictions').iterdir()) == [f'{i:06}-s{i:03}.npz' for i in range(20)]
    assert float(result.prediction('s007')) == float(sample(7).target('truth'))
    with pytest.raises(DatasetError, match='no sample') as e: result.prediction('s999')
    assert e.value.hint
    without = run(folder=tmp_path/'b')
    assert not (tmp_path/'b'/'predictions').exists()
    with pytest.raises(DatasetError, match='no prediction'): without.prediction('s007')

def test_metadata_that_json_cannot_hold_is_left_out_with_a_note():
    result = run(a_data=data(2, lambda i: sample(i, metadata={'number': i, 'map': np.zeros((3, 3)), 'size': np.int64(4)})))
    first = next(result.records())
    assert dict(first.metadata) == {'number': 0, 'size': 4} and list(first.notes) == ['metadata.map']

def test_metadata_that_is_too_much_is_left_out_with_a_note():
    endless = {}
    endless['again'] = endless
    kept = {'endless': endless, 'huge': 'x'*200_000, 'number': 3}
    record = next(run(a_data=data(2, lambda i: sample(i, metadata=kept))).records())
    assert record.metadata == {'number': 3} and record.scored
    assert '200.01 kB, which is more than' in record.notes['metadata.huge'] and 'nested too deeply' in record.notes['metadata.endless']

def test_samples_that_do_not_count_keep_their_metadata():
    records = list(run(model(fails), data(20, broken), batch_size=4).records())
    assert {r.id for r in records if not r.metadata} == {'s002'}        # which was never loaded
    assert next(r for r in records if r.id == 's011').metadata == {'number': 11}

def test_a_damaged_prediction_is_named(tmp_path):
    result = run(folder=tmp_path, save_predictions=True)
    for content in (b'', b'PK\x03\x04 half of it'):
        next((tmp_path/'predictions').glob('*s003*')).write_bytes(content)
        with pytest.raises(DatasetError, match='s003') as e: result.prediction('s003')
        assert e.value.hint

def test_options_that_json_cannot_hold_tell_jobs_apart():
    def job(weights):
        made = model()
        made.options = {'weights': weights}
        return job_of(made, data(), TASK)
    assert job(np.zeros(3)).id == job(np.zeros(3)).id != job(np.ones(3)).id

def test_a_result_knows_its_log_from_anywhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = run(folder='here')
    monkeypatch.chdir('/')
    assert len(list(result.records())) == 20

def test_a_result_without_its_log_says_so(tmp_path):
    result = run(folder=tmp_path)
    (tmp_path/'samples.jsonl').unlink()
    with pytest.raises(StoreError, match='there is no log') as e: list(result.records())
    assert e.value.hint and 'latency' in result.to_run().points[0].metrics       # the figures are in the result


# --- as a run -------------------------------------------------------------------------------------------------------------

def test_a_result_is_a_run_of_the_store(tmp_path):
    result, store = run(a_data=data(60), batch_size=4), Store(tmp_path)
    stored = result.to_run()
    store.save(stored)
    store.save(result.to_run())        # the same one
    assert store.load(stored.id) == stored and len(store.list_runs()) == 1
    whole, *groups = stored.points
    assert (whole.name, whole.scenario, dict(whole.tags)) == ('summing/test', 'summing', {'model': 'adder'})
    assert whole.metrics['error'].value == result.value and stored.metric_defs['error'].priority == 'primary'
    assert {(p.name, *sorted(p.tags)) for p in groups} == {('summing/test/clutter', 'model', 'phase'), ('summing/test/clean', 'model', 'phase'),
                                                           ('summing/test/easy', 'difficulty', 'model'), ('summing/test/hard', 'difficulty', 'model')}
    assert {n for p in stored.points for n in p.metrics} <= stored.metric_defs.keys()
    assert len(whole.metrics['latency'].samples) == 15      # one for each call: the samples of a batch share one time
    assert stored.metadata['bench']['job'] == result.job and stored.metadata['bench']['dataset_identity'] == 'summing60'

def test_at_most_a_thousand_latencies_are_kept():
    latency = run(a_data=data(1100)).to_run().points[0].metrics['latency']
    assert len(latency.samples) == 1000 and latency.lower <= latency.value <= latency.upper

def interval_records(values, scenes): return [SampleRecord(index=i, id=str(i), status='scored', batch=0, scene=s, metrics={'m': v}) for i, (v, s) in enumerate(zip(values, scenes))]

def test_one_number_has_one_interval():
    "The result, its run and the readiness report say the same of the same mean"
    wavy = model(lambda x: x.sum(1) + np.sin(7*x[:, 0]))
    result, report = BenchmarkRunner(wavy, data(40), TASK, batch_size=8).run_with_deployment_readiness()
    name = result.primary_metric
    assert result.intervals[name] == (report.primary.lower, report.primary.upper)
    metric = result.to_run().points[0].metrics[name]
    assert (metric.value, metric.lower, metric.upper) == (result.value, *result.intervals[name])

def test_intervals_know_of_scenes():
    rng = np.random.default_rng(0)
    scenes = np.repeat(np.arange(40), 10)
    values = rng.normal(size=40)[scenes] + rng.normal(scale=.1, size=400)
    by_scene = metric_interval(interval_records(values, [f's{s}' for s in scenes]), 'm', values.mean())
    alone = metric_interval(interval_records(values, [None]*400), 'm', values.mean())
    assert by_scene[1] - by_scene[0] > 2.5*(alone[1] - alone[0])
    few = metric_interval(interval_records(values[:50], [f's{s}' for s in scenes[:50]]), 'm', values[:50].mean())       # five scenes
    assert few is not None and few[1] - few[0] > 2*(by_scene[1] - by_scene[0])
    assert metric_interval(interval_records(values[:3], [None]*3), 'm', values[:3].mean()) is None
    assert metric_interval(interval_records(np.zeros(20), [None]*20), 'm', 0.0) is None     # all equal: nothing is known of what varies
    assert metric_interval(interval_records(values, [None]*400), 'm', values.mean() + 1) is None        # no mean of these


# --- what does not fit ----------------------------------------------------------------------------------------------------

@pytest.mark.parametrize(('make', 'error', 'text'), [
    (lambda: BenchmarkRunner(model(), data(), TASK, batch_size=0), ConfigError, 'batch_size'),
    (lambda: BenchmarkRunner(model(), data(), TASK, batch_size=True), ConfigError, 'batch_size'),
    (lambda: BenchmarkRunner(model(), data(), TASK, warmup=-1), ConfigError, 'warmup'),
    (lambda: BenchmarkRunner(model(), data(), TASK, seed=1.5), ConfigError, 'seed'),
    (lambda: BenchmarkRunner(model(), data(), TASK, on_error='ignore'), ConfigError, 'skip or raise'),
    (lambda: BenchmarkRunner(model(), data(), TASK, resume=True), ConfigError, 'nothing to resume'),
    (lambda: BenchmarkRunner(from_function(sum, task='other', name='m', inputs='x'), data(), TASK), ModelError, "for the task 'other'"),
    (lambda: BenchmarkRunner(model(), BenchmarkDataset.from_samples([sample(0)], task='other', name='d'), TASK), DatasetError, "for the task 'other'"),
    (lambda: BenchmarkRunner(model(), BenchmarkDataset.from_samples([sample(0, inputs={'y': np.zeros(2)})], task='summing', name='d'), TASK), DatasetError, 'lacks x'),
    (lambda: BenchmarkRunner(model(), data(), 'sumning'), CalibraxError, 'sumning'),
    (lambda: run(task=dataclasses.replace(TASK, primary_metric='eror')), ConfigError, "decided by 'eror'"),
    (lambda: BenchmarkRunner(model(), data(), TASK, device='abacus').run(), ConfigError, 'abacus'),
    (lambda: BenchmarkRunner(model(), data(), TASK, device='tpu', strict_device=True).run(), ConfigError, 'tpu'),
])
def test_what_does_not_fit_is_refused_with_a_hint(make, error, text):
    with pytest.raises(error, match=text) as e: make()
    assert e.value.hint

def test_a_device_that_is_not_there_is_fallen_back_from_and_told():
    result = run(device='tpu')
    assert result.device == 'cpu:0' and 'tpu' in result.device_fallback and 'tpu' in repr(result)

def test_the_folder_tells_jobs_apart(tmp_path):
    job = job_of(model(name='org/adder'), data(), TASK, batch_size=4, seed=2)
    assert job.folder(tmp_path) == tmp_path/'summing'/'org__adder'/f'test-2-{job.id}'
    changed = [{'seed': 3}, {'batch_size': 5}, {'limit': 19}, {'split': 'val'}, {'model': 'm'}, {'options': {'k': 1}}, {'dataset_identity': 'x'}, {'task': 't'}]
    assert len({job.id, *(Job(**{**job.to_dict(), **c}).id for c in changed)}) == 1 + len(changed)


# --- progress -------------------------------------------------------------------------------------------------------------

@given(st.integers(1, 300), st.integers(1, 50), st.integers(0, 300))
@settings(max_examples=60, deadline=None)
def test_plain_progress_ends_at_all_and_is_short(total, step, before):
    import io
    before, stream = min(before, total), io.StringIO()
    with Progress(total, 'work', done=before, show=True, stream=stream) as p:
        for i in range(before, total, step): p.advance(min(step, total - i))
    lines = stream.getvalue().splitlines()
    assert len(lines) <= 11 and p.done == total
    assert not lines or f'100% ({total:,} of {total:,})' in lines[-1]

def test_nothing_is_written_where_nobody_looks(capfd):
    run()
    assert capfd.readouterr() == ('', '')
    run(progress=True)
    assert 'summing, adder: 100% (20 of 20)' in capfd.readouterr().err

def test_a_notebook_is_looked_at(monkeypatch, capsys):
    "A bar with ipywidgets, lines without; the shell of Jupyter is known by its name"
    class ZMQInteractiveShell: pass
    monkeypatch.setitem(sys.modules, 'IPython', SimpleNamespace(get_ipython=ZMQInteractiveShell))
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, 'find_spec', lambda name, *a: None if name == 'ipywidgets' else find(name, *a))
    with Progress(10, 'work') as p: p.advance(10)
    assert capsys.readouterr() == ('work: 100% (10 of 10)\n', '')
    monkeypatch.setitem(sys.modules, 'IPython', SimpleNamespace(get_ipython=lambda: None))
    with Progress(10, 'work') as p: p.advance(10)
    assert capsys.readouterr() == ('', '')
