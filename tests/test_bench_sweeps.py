"Sweeps: the same answer wherever jobs run, nothing lost and nothing counted twice when workers die, failures named."
import atexit
import json
import math
import os
import pickle
import shutil
import statistics
import tempfile
import threading
from concurrent.futures import BrokenExecutor, Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import replace
from functools import cache
from multiprocessing import get_context
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calibrax.bench import executors, sweep_results
from calibrax.bench.executors import open_executor, run_job
from calibrax.bench.jobs import ModelChoice, SweepJob, sweep_jobs
from calibrax.bench.sweep_results import JobFailure, JobOutcome
from calibrax.bench.sweeps import sweep
from calibrax.core.errors import CalibraxError, ConfigError, RegistryError
from calibrax.core.models import Metric
from calibrax.storage import Store

PLUGIN = '''
"Tasks, a metric and models in one file; some models end the process that they run in."
import os, time
if os.environ.get('CALIBRAX_TEST_NO_PICTURES', str(os.getpid())) != str(os.getpid()):      # a process that the tests started
    import calibrax.bench.report
    calibrax.bench.report._figure = lambda *a, **k: ''
from dataclasses import dataclass, field
from typing import Literal
import numpy as np
from calibrax.bench.configuration import BenchConfig
from calibrax.bench.datasets import BenchmarkDataset
from calibrax.bench.metrics import MetricCalculator, register_calculator
from calibrax.bench.models import from_function, register_model
from calibrax.bench.samples import Sample
from calibrax.bench.tasks.spec import TaskSpec, register_task
from calibrax.core.errors import MetricError
from calibrax.core.models import MetricDef

@dataclass(frozen=True, kw_only=True)
class HalvingConfig(BenchConfig):
    scale: float = field(default=1.0, metadata={'help': 'what all numbers are multiplied with'})
    kind: Literal['even', 'any'] = field(default='any', metadata={'help': 'which numbers there are'})
    negative: bool = field(default=False, metadata={'help': 'whether there are numbers below zero'})

def numbers(task):
    def made(config):
        split = config.split or 'easy'
        draw = np.random.default_rng(sum(map(ord, split)))
        values = draw.normal(10, 3, (40, 4)).astype(np.float32)*getattr(config, 'scale', 1)
        samples = [Sample(id=f'{split}-{i:02d}', inputs={'x': v}, targets={'half': v/2}, difficulty=split, phase=('clutter', 'interaction', 'clean')[i % 3]) for i, v in enumerate(values)]
        return BenchmarkDataset.from_samples(samples, task=task, name='numbers', split=split)
    return made

def described(task, **more):
    return TaskSpec(task=task, display_name='Halving', description='Halve numbers', primary_metric='error', direction='lower', required_inputs=('x',), required_targets=('half',),
                    dataset=numbers(task), splits=('easy', 'medium', 'hard'), phases=('clutter', 'interaction', 'clean'), difficulty_weights={'easy': .25, 'medium': .35, 'hard': .4}, **more)

register_task(described('halving', config=HalvingConfig))

class Error(MetricCalculator):
    name = 'error'
    metric_defs = {'error': MetricDef(name='error', unit='m', direction='lower', description='mean absolute difference'), 'exact': MetricDef(name='exact', unit='', direction='higher')}
    def compute(self, prediction, sample):
        if prediction.shape != sample.target('half').shape: raise MetricError(f'the prediction has {len(prediction)} numbers, the truth {len(sample.target("half"))}', hint='give one number for each')
        difference = float(np.abs(prediction - sample.target('half')).mean())
        return {'error': difference, 'exact': float(difference < 1e-6)}

register_calculator('halving')(Error)

def model(function, name): return from_function(function, task='halving', name=name, inputs='x')

@register_model('half', task='halving', description='is right')
def half(): return model(lambda x: x/2, 'half')

@register_model('noisy', task='halving', description='is right but for noise')
def noisy(seed=0, width=0.5):
    # the noise depends on the numbers and the seed alone, not on what was asked before
    def guess(x): return x/2 + np.stack([np.random.default_rng([seed, int(abs(row[0])*1000)]).normal(0, width, row.shape) for row in x]).astype(np.float32)
    return model(guess, 'noisy')

@register_model('slow', task='halving')
def slow(wait=0.05):
    def guess(x):
        time.sleep(wait)
        return x/2
    return model(guess, 'slow')

@register_model('drawing', task='halving', description="draws from NumPy's generator, which all of a process share")
def drawing(wait=0.0):
    def guess(x):
        time.sleep(wait)
        return x/2 + np.random.normal(0, 1, x.shape).astype(np.float32)
    return model(guess, 'drawing')

@register_model('broken', task='halving', description='cannot be made')
def broken(): raise RuntimeError('no weights here')

@register_model('nan', task='halving', description='gives no numbers')
def nan(): return model(lambda x: x*np.nan, 'nan')

@register_model('wrong', task='halving', description='gives the wrong shape')
def wrong(): return model(lambda x: x[:, :2], 'wrong')

@register_model('crooked', task='halving', description='wants an input that there is not')
def crooked(): return from_function(lambda y: y, task='halving', name='crooked', inputs='y')

@register_model('fragile', task='halving', description='ends the process in the middle, so many times')
def fragile(folder, times=1):
    calls = [0]
    def guess(x):
        calls[0] += 1
        if calls[0] == 12:
            with open(os.path.join(folder, 'deaths'), 'ab', buffering=0) as f: f.write(b'.')
            if os.path.getsize(os.path.join(folder, 'deaths')) <= times: os._exit(1)
        return x/2 + 0.25
    return model(guess, 'fragile')

def ends_afterwards(spec, config):
    "The shared pipeline, and then the process ends: the run is saved, and nobody has been told"
    from calibrax.bench.pipeline import run_pipeline
    outcome = run_pipeline(spec, config)
    mark = os.environ.get('CALIBRAX_TEST_MARK')
    if mark and not os.path.exists(mark):
        open(mark, 'w').close()
        os._exit(1)
    return outcome

register_task(described('forgetful', run=ends_afterwards))
register_calculator('forgetful')(type('Forgetful', (Error,), {}))

@register_model('forgotten', task='forgetful')
def forgotten(): return from_function(lambda x: x/2 + 0.125, task='forgetful', name='forgotten', inputs='x')
'''


@cache
def plugin_file():
    "One file for all tests of a process: a task can be registered from one place only"
    folder = Path(tempfile.mkdtemp(prefix='calibrax-test-'))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    (folder/'halving.py').write_text(PLUGIN)
    return folder/'halving.py'

@pytest.fixture(autouse=True, scope='module')
def no_pictures():
    "Reports without their pictures, here and in processes that are started: these take most of the time of a small job, and have tests of their own"
    with pytest.MonkeyPatch.context() as m:
        m.setattr('calibrax.bench.report._figure', lambda *a, **k: '')
        m.setenv('CALIBRAX_TEST_NO_PICTURES', str(os.getpid()))
        yield

@pytest.fixture(scope='module')
def plugin(): return plugin_file()


def processes(workers=2): return ProcessPoolExecutor(workers, mp_context=get_context('spawn'))

def swept(plugin, tmp_path, models=('half', 'noisy'), splits=('easy', 'hard'), seeds=(0, 1), **options):
    return sweep('halving', models, splits, seeds, **{'plugins': str(plugin), 'output': tmp_path/'results', 'store': tmp_path/'store', 'progress': False, 'flops': False, 'warmup': 0, **options})

def numbers_of(found): return {o.job.label: dict(o.result.aggregated) for o in found.outcomes}

def ids_in(log): return [json.loads(line)['id'] for line in Path(log).read_text().splitlines() if '"index"' in line]

def assert_counted_once(found, store):
    "As many runs as jobs, each with the id of its job, and every sample once in every log"
    assert sorted(r.id for r in Store(store).list_runs()) == sorted(o.run.id for o in found.outcomes)
    assert len({o.run.id for o in found.outcomes}) == len(found.outcomes)
    for o in found.outcomes:
        ids = ids_in(o.result.samples_file)
        assert len(ids) == len(set(ids)) == o.result.samples == 40
        assert [r.id for r in o.result.records()] == ids


@pytest.fixture(scope='module')
def here(plugin, tmp_path_factory):
    "The sweep in this process, which the others must equal"
    folder = tmp_path_factory.mktemp('here')
    return swept(plugin, folder), folder


def test_every_combination_is_run_once(here):
    found, folder = here
    assert [o.job.label for o in found.outcomes] == [f'{m}, {s}, seed {n}' for m in ('half', 'noisy') for s in ('easy', 'hard') for n in (0, 1)]
    assert not found.failures
    assert_counted_once(found, folder/'store')
    assert all(o.starts == 1 for o in found.outcomes)
    assert len(found.table().rows) == 8 and 'error ↓ [m]' in repr(found) and 'latency ↓ [ms]' in found._repr_html_()


@pytest.mark.parametrize('executor', ['threads', 'processes', 'dask'])
def test_the_answer_is_the_same_wherever_jobs_run(executor, here, plugin, tmp_path):
    if executor == 'dask':
        distributed = pytest.importorskip('distributed', reason='distributed is not installed (extra `dask`)')
        with distributed.LocalCluster(n_workers=1, threads_per_worker=2, processes=False, dashboard_address=None) as cluster, distributed.Client(cluster) as client:
            found = swept(plugin, tmp_path, seeds=0, executor=client.get_executor())
    else: found = swept(plugin, tmp_path, seeds=0, executor=processes if executor == 'processes' else lambda: ThreadPoolExecutor(2))
    assert not found.failures
    assert list(numbers_of(found).items()) == [(k, v) for k, v in numbers_of(here[0]).items() if k.endswith('seed 0')]
    assert_counted_once(found, tmp_path/'store')
    for label, report in found.reports.items(): assert report.weighted_phase_score == here[0].reports[f'{label} (seed 0)'].weighted_phase_score


def test_jobs_of_one_process_take_turns(plugin, tmp_path):
    "Otherwise each would draw from the generator that the other has just seeded"
    options = {'plugins': str(plugin), 'limit': 10, 'progress': False, 'flops': False}
    models = [('drawing', {'wait': wait}) for wait in (0.001, 0.002)]
    alone, together = (numbers_of(sweep('halving', models, 'easy', (0, 1), executor=executor, **options)) for executor in (None, lambda: ThreadPoolExecutor(4)))
    assert alone == together and len({v['error'] for v in alone.values()}) == 2      # one for each seed


def test_without_a_folder_of_results(plugin, tmp_path, monkeypatch):
    "Other processes are gone when the sweep is done; the logs of the samples are not, and a job that is begun again is known"
    monkeypatch.setenv('CALIBRAX_TEST_MARK', str(tmp_path/'mark'))
    found = sweep('forgetful', 'forgotten', ('easy', 'hard'), executor=lambda: processes(1), plugins=plugin, store=tmp_path/'store', progress=False, flops=False, warmup=0)
    assert not found.failures, found.failures
    assert max(o.starts for o in found.outcomes) == 2
    assert_counted_once(found, tmp_path/'store')
    assert found.reports['forgotten'].counts.samples == 80


# --- workers that die ---

def test_a_worker_that_dies_is_replaced_and_nothing_is_counted_twice(plugin, tmp_path):
    dies = ModelChoice(name='fragile', options={'folder': str(tmp_path)})
    found = swept(plugin, tmp_path, ['half', dies], 'easy', (0, 1), executor=processes)    # two workers, so that one job dies with the other
    assert not found.failures, found.failures
    assert (tmp_path/'deaths').read_bytes() > b'.'
    assert len(found.outcomes) == 4
    assert_counted_once(found, tmp_path/'store')
    assert max(o.starts for o in found.outcomes if o.result.model == 'fragile') == 2
    (tmp_path/'calm').mkdir()
    calm = swept(plugin, tmp_path/'calm', [replace(dies, options={'folder': str(tmp_path/'calm'), 'times': 0})], 'easy', (0, 1))
    interrupted = [o for o in found.outcomes if o.result.model == 'fragile']
    assert [dict(o.result.aggregated) for o in interrupted] == [dict(o.result.aggregated) for o in calm.outcomes]
    for a, b in zip(interrupted, calm.outcomes):
        assert [(r.id, r.batch, dict(r.metrics)) for r in a.result.records()] == [(r.id, r.batch, dict(r.metrics)) for r in b.result.records()]


def test_a_job_that_kills_its_worker_each_time_is_found_out(plugin, tmp_path):
    kills = ('fragile', {'folder': str(tmp_path), 'times': 99})
    found = swept(plugin, tmp_path, ['half', kills, 'noisy'], 'easy', 0, executor=processes, retries=1, resume=False)
    assert [o.result.model for o in found.outcomes] == ['half', 'noisy']
    (failure,) = found.failures
    assert failure.kind == 'WorkerDied' and failure.job.model.name == 'fragile' and failure.hint and failure.starts == 2
    assert_counted_once(found, tmp_path/'store')


def test_a_job_that_died_after_saving_is_not_saved_again(plugin, tmp_path, monkeypatch):
    monkeypatch.setenv('CALIBRAX_TEST_MARK', str(tmp_path/'mark'))
    found = sweep('forgetful', 'forgotten', 'easy', executor=lambda: processes(1), plugins=plugin, output=tmp_path/'results', store=tmp_path/'store', progress=False, flops=False)
    assert (tmp_path/'mark').exists() and found.outcomes[0].starts == 2
    assert_counted_once(found, tmp_path/'store')


def leave_a_mark(folder): (Path(folder)/f'{os.getpid()}').write_text('')

def test_a_pool_that_was_given_is_replaced_when_it_breaks_by_one_like_it(plugin, tmp_path):
    (tmp_path/'started').mkdir()
    with ProcessPoolExecutor(1, mp_context=get_context('spawn'), initializer=leave_a_mark, initargs=(str(tmp_path/'started'),)) as pool:
        found = swept(plugin, tmp_path, ['half', ('fragile', {'folder': str(tmp_path)})], 'easy', 0, executor=pool)
    assert len(found.outcomes) == 2 and not found.failures
    assert_counted_once(found, tmp_path/'store')
    assert len(list((tmp_path/'started').iterdir())) >= 2


class Broken(Executor):
    "An executor of another kind, which breaks after one job"
    left = 1
    def submit(self, function, *arguments):
        if not self.left: raise BrokenExecutor('it is gone')
        self.left, done = 0, Future()
        done.set_result(function(*arguments))
        return done

def test_an_executor_that_breaks_and_cannot_be_replaced_loses_nothing_that_is_done(plugin, tmp_path):
    found = swept(plugin, tmp_path, ['half', 'noisy'], 'easy', 0, executor=Broken(), retries=1)
    assert [o.result.model for o in found.outcomes] == ['half']
    assert [(f.job.model.name, f.kind) for f in found.failures] == [('noisy', 'WorkerDied')] and 'makes an executor' in found.failures[0].hint


def test_a_dask_worker_that_dies(plugin, tmp_path):
    distributed = pytest.importorskip('distributed', reason='distributed is not installed (extra `dask`)')
    with distributed.LocalCluster(n_workers=1, threads_per_worker=1, processes=True, dashboard_address=None, silence_logs=50) as cluster, distributed.Client(cluster) as client:
        found = swept(plugin, tmp_path, ['half', ('fragile', {'folder': str(tmp_path)})], 'easy', 0, executor=client.get_executor())
    assert len(found.outcomes) == 2, found.failures
    assert_counted_once(found, tmp_path/'store')


def test_an_interrupted_sweep_is_gone_on_with(here, plugin, tmp_path):
    seen = []
    def stop(end):
        seen.append(end)
        if len(seen) == 3: raise KeyboardInterrupt
    with pytest.raises(KeyboardInterrupt): swept(plugin, tmp_path, each=stop)
    first = {r.id for r in Store(tmp_path/'store').list_runs()}
    assert len(first) == 3
    found = swept(plugin, tmp_path, resume=True)
    assert numbers_of(found) == numbers_of(here[0])
    assert_counted_once(found, tmp_path/'store')
    assert first <= {r.id for r in Store(tmp_path/'store').list_runs()}


def test_results_that_are_there_are_not_overwritten(plugin, tmp_path):
    swept(plugin, tmp_path, 'half', 'easy', 0)
    again = swept(plugin, tmp_path, ['half', 'noisy'], 'easy', 0)
    assert [o.result.model for o in again.outcomes] == ['noisy']
    assert 'never overwritten' in again.failures[0].reason and 'resume' in again.failures[0].hint


# --- failures ---

def test_a_failure_does_not_stop_the_others(plugin, tmp_path):
    told = []
    found = swept(plugin, tmp_path, ['broken', 'half', 'nan', 'wrong'], 'easy', 0, each=told.append)
    assert [o.result.model for o in found.outcomes] == ['half']
    assert [f.job.model.name for f in found.failures] == ['broken', 'nan', 'wrong'] and len(told) == 4
    assert 'no weights here' in found.failures[0].reason and found.failures[0].kind == 'ModelError'
    assert all(f.hint and f.reason for f in found.failures)
    assert 'in broken' in found.failures[0].trace and found.failures[0].trace.strip().endswith('RuntimeError: no weights here')
    assert 'no weights here' in repr(found) and '3 failed' in found.table().caption
    data = json.loads(json.dumps(found.to_dict()))
    assert [j['model'] for j in data['jobs']] == ['half'] and len(data['failures']) == 3


def test_what_is_wrong_with_the_choices_is_said_before_anything_runs(plugin, tmp_path):
    cases = [(dict(task='halvin'), RegistryError, 'halvin'), (dict(models=[]), ConfigError, 'models'), (dict(models=[3]), ConfigError, 'is no model'), (dict(batch_size=0), ConfigError, 'batch_size'),
             (dict(batchsize=4), ConfigError, "no option 'batchsize'"), (dict(seeds=-1), ConfigError, 'seed'), (dict(seeds=()), ConfigError, 'seeds'), (dict(retries=-1), ConfigError, 'retries'),
             (dict(splits=()), ConfigError, 'splits'), (dict(kind='odd'), ConfigError, 'kind'), (dict(model_name='half'), ConfigError, 'a sweep varies it'),
             (dict(models=['half', ('noisy', {'widht': 1})]), ConfigError, "no option 'widht'"), (dict(models=['half', 'fragile']), ConfigError, 'to be told folder'),
             (dict(plugins='nowhere.py'), ConfigError, 'no plugin'), (dict(models='hafl'), RegistryError, 'hafl'), (dict(splits='esay'), ConfigError, 'esay')]
    for change, kind, said in cases:
        asked = {'task': 'halving', 'models': 'half', 'splits': 'easy', 'seeds': 0, 'plugins': plugin, 'output': tmp_path/'results', **change}
        with pytest.raises(kind) as e: sweep(**asked)
        assert said in e.value.message and e.value.hint, change
    assert not (tmp_path/'results').exists()


def test_a_model_that_cannot_be_sent_is_refused_with_a_hint(plugin, tmp_path):
    from calibrax.bench.models import from_function
    sweep_jobs('halving', 'half', plugins=plugin)
    lock = threading.Lock()
    def guess(x, held=lock): return x/2
    model = from_function(guess, task='halving', name='mine', inputs='x')
    with pytest.raises(ConfigError) as e: swept(plugin, tmp_path, [model], 'easy', 0, executor=processes)
    assert "'mine' cannot be sent to another process" in e.value.message and 'register' in e.value.hint
    for executor in (None, lambda: ThreadPoolExecutor(1)):
        found = swept(plugin, tmp_path/str(executor is None), [model], 'easy', 0, executor=executor)
        assert found.outcomes[0].result.aggregated['error'] == 0


def test_what_workers_get_and_give_can_be_pickled(plugin, tmp_path):
    job = sweep_jobs('halving', 'half', plugins=plugin, output=tmp_path, flops=False)[0]
    assert pickle.loads(pickle.dumps(job)) == job
    outcome = run_job(job)
    back = pickle.loads(pickle.dumps(outcome))
    assert isinstance(back, JobOutcome) and back.result == outcome.result and back.run == outcome.run
    failure = run_job(replace(job, model=ModelChoice(name='broken')))
    assert pickle.loads(pickle.dumps(failure)) == failure and isinstance(failure, JobFailure)


def test_paths_mean_the_same_elsewhere(plugin, tmp_path, monkeypatch):
    monkeypatch.chdir(plugin.parent)
    job = sweep_jobs('halving', 'half', plugins=plugin.name, output='results', store='store')[0]
    assert job.settings['plugins'] == (str(plugin),) and job.settings['output'] == str(plugin.parent/'results') and os.path.isabs(job.settings['store'])
    assert sweep_jobs('halving', 'half', plugins=plugin.name, store='s3://bucket/bench')[0].settings['store'] == 's3://bucket/bench'


@pytest.mark.parametrize('name', ['', 'cluster', 'processes:0', 'processes:', 'processes:many', 'threads', 'local:3', 'dask:', 'dask:host', 'dask://'])
def test_executors_by_name(name):
    with pytest.raises(ConfigError, match='no executor') as e, open_executor(name): pass
    assert 'dask://HOST:PORT' in e.value.hint


def test_dask_that_is_missing_or_silent(monkeypatch):
    import sys
    with monkeypatch.context() as m:
        m.setitem(sys.modules, 'distributed', None)
        with pytest.raises(ConfigError, match='not installed') as e, open_executor('dask'): pass
        assert 'dask' in e.value.hint
    pytest.importorskip('distributed', reason='distributed is not installed (extra `dask`)')
    monkeypatch.setattr(executors, '_DASK_SECONDS', 1)
    with pytest.raises(ConfigError, match='no Dask scheduler answers at 127.0.0.1:9') as e, open_executor('dask://127.0.0.1:9'): pass
    assert 'dask scheduler' in e.value.hint


def test_an_executor_that_is_none(plugin, tmp_path):
    for wrong in (3, lambda: None):
        with pytest.raises(ConfigError, match='expected an executor'): swept(plugin, tmp_path, executor=wrong)


# --- several seeds, several splits ---

def test_splits_merge_into_one_report_and_seeds_do_not(here):
    reports = here[0].reports
    assert set(reports) == {f'{m} (seed {n})' for m in ('half', 'noisy') for n in (0, 1)}
    report = reports['noisy (seed 1)']
    assert set(report.splits) == {'easy', 'hard'}
    of_job = [o for o in here[0].outcomes if o.job.label in ('noisy, easy, seed 1', 'noisy, hard, seed 1')]
    records = [(o.job.split, r) for o in of_job for r in o.result.records()]
    for phase in ('clutter', 'interaction', 'clean'):       # brute force: difficulties 0.25 and 0.40, nothing of medium
        means = {d: statistics.fmean(r.metrics['error'] for _, r in records if (r.phase, r.difficulty) == (phase, d)) for d in ('easy', 'hard')}
        for d, mean in means.items(): assert math.isclose(report.weighted_phase_score.cell(phase, d).score.value, mean, rel_tol=1e-9)


def test_reports_are_titled_with_the_seed_and_counts_are_whole_numbers(here):
    found = here[0]
    assert [r.model for r in found.reports.values()] == list(found.reports) and '(seed 1)' in found.reports['half (seed 1)'].title
    rate, scored, left = (found.table().columns.index(name) for name in ('throughput ↑ [1/s]', 'scored', 'left out'))
    for row in found.table().rows: assert row[scored] == '40' and row[left] == '0' and ('.' not in row[rate] or float(row[rate]) < 100)

def test_what_is_kept_of_jobs(plugin, tmp_path):
    from calibrax.bench.planning import jobs_to_resume, kept_job, kept_jobs
    swept(plugin, tmp_path, ['half', ('noisy', {'width': 1})], 'easy', 0, batch_size=8)
    assert [str(k) for k in kept_jobs(tmp_path/'results')] == ['half, easy, seed 0, batches of 8: 40 of 40 samples', 'noisy width=1, easy, seed 0, batches of 8: 40 of 40 samples']
    assert kept_jobs(tmp_path/'nowhere') == []
    def jobs(*models, **options): return sweep_jobs('halving', list(models), 'easy', 0, **{'plugins': str(plugin), 'output': tmp_path/'results', 'batch_size': 8, 'resume': True, **options})
    assert [(p.job.label, p.state, p.kept) for p in jobs_to_resume(jobs('slow', 'half', 'broken'))] == [('half, easy, seed 0', 'finished', 40)]
    assert jobs_to_resume(jobs('slow', 'broken')) == []        # the broken one is told of when it is run
    with pytest.raises(ConfigError, match='there is nothing of slow') as e: jobs_to_resume(jobs('slow'))
    assert "model 'half' there, 'slow' here" in e.value.message
    log = tmp_path/'results'/'log'/'samples.jsonl'
    log.parent.mkdir()
    log.write_text('')
    assert kept_job(log.parent) is None
    log.write_text('{"no": "log"}\n')
    assert len(kept_jobs(tmp_path/'results')) == 2

def test_means_over_seeds(here):
    found = {(s.model, s.split): s for s in here[0].over_seeds()}
    noisy = found['noisy', 'easy']
    values = [o.result.value for o in here[0].outcomes if o.job.model.name == 'noisy' and o.job.split == 'easy']
    assert noisy.seeds == 2 and math.isclose(noisy.metric.value, statistics.fmean(values)) and noisy.metric.lower < min(values) and noisy.metric.upper > max(values)
    assert 'means over seeds' in repr(here[0]) and len(here[0].summary().rows) == 4


@settings(deadline=None, max_examples=40)
@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=8))
def test_the_interval_over_seeds_is_students(values):
    from scipy import stats
    found = sweep_results._over_seeds([Metric(value=v) for v in values])
    assert math.isclose(found.value, statistics.fmean(values), rel_tol=1e-9, abs_tol=1e-9)
    if len({*values}) == 1: assert found.lower is None
    else:
        reach = stats.t.ppf(0.975, len(values) - 1)*statistics.stdev(values)/math.sqrt(len(values))
        assert math.isclose(found.upper - found.lower, 2*reach, rel_tol=1e-5, abs_tol=1e-6)


def test_pictures(here):
    import matplotlib.pyplot as plt
    for kind in ('latency', 'bars'):
        figure, axes = here[0].plot(kind)
        assert 'halving' in axes.get_title() and axes.get_xlabel()
        plt.close(figure)
    with pytest.raises(ConfigError, match='no kind'): here[0].plot('pie')


identity = st.fixed_dictionaries({'split': st.sampled_from([None, 'a', 'b']), 'seed': st.integers(0, 3), 'settings': st.dictionaries(st.sampled_from(['batch_size', 'limit', 'scale']), st.integers(1, 3))})

@given(identity, identity)
def test_identity_is_what_decides_the_result(a, b):
    one, other = (SweepJob(task='halving', model=ModelChoice(name='half'), **fields) for fields in (a, b))
    assert (one.identity == other.identity) == (a == b)
    assert replace(one, settings={**one.settings, 'output': '/x', 'store': '/y', 'resume': True}).identity == one.identity


def test_every_error_class_survives_the_way_back():
    from calibrax.core import errors
    job = SweepJob(task='halving', model=ModelChoice(name='half'))
    kinds = [c for c in vars(errors).values() if isinstance(c, type) and issubclass(c, CalibraxError)]
    for kind in kinds:
        failure = executors._failure(job, kind('what happened', hint='what to do'))
        assert (failure.kind, failure.reason, failure.hint) == (kind.__name__, 'what happened', 'what to do')
