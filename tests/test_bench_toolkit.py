"""The parts of the toolkit that hold the others together: choices, plugins, registries, calculators, the pipeline."""
import dataclasses
import json
import math
import subprocess
import sys
import textwrap
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from calibrax.bench.configuration import BenchConfig
from calibrax.bench.datasets import BenchmarkDataset, write_manifest
from calibrax.bench.metrics import CalculatorSuite, MetricCalculator, calculators_for, mean_metrics, register_calculator, undefined_counts
from calibrax.bench.models import from_function
from calibrax.bench.pipeline import open_dataset, open_model, run_pipeline, run_task
from calibrax.bench.plugins import BUILT_IN, catalogue, load_plugin
from calibrax.bench.samples import Sample, SampleRecord, SampleStatus
from calibrax.bench.tasks import TaskSpec, get_task, list_tasks, register_task
from calibrax.core.errors import CalibraxError, ConfigError, DatasetError, MetricError, ModelError, RegistryError
from calibrax.core.models import MetricDef, MetricDirection
from calibrax.storage import Store

ROOT = Path(__file__).parents[1]


def fails(error, *words):
    "A context that expects one of our errors, with a hint, and with these words in it"
    class Caught:
        def __enter__(self): return self
        def __exit__(self, kind, found, _):
            assert found is not None, f'no {error.__name__} was raised'
            if not isinstance(found, error): return False
            assert isinstance(found, CalibraxError) and found.hint, found
            for word in words: assert word in str(found), f'{word!r} is not in: {found}'
            return True
    return Caught()


# --- a task to run -----------------------------------------------------------------------------------------------------------

def halves(config):
    rows = np.arange(10, dtype=np.float32)
    samples = [Sample(id=f's{i}', inputs={'x': np.float32([v])}, targets={'y': np.float32(v/2)}) for i, v in enumerate(rows)]
    return BenchmarkDataset.from_samples(samples, task='thirds', name='halves', split=config.split or 'test')

@pytest.fixture(scope='module', autouse=True)
def task():
    @register_calculator('thirds', replace=True)
    class Thirds(MetricCalculator):
        name, metric_defs = 'thirds', {'error': MetricDef(name='error', unit='', direction='lower')}
        def compute(self, prediction, sample): return {'error': abs(float(prediction) - float(sample.target('y')))}
    return register_task(TaskSpec(task='thirds', display_name='Thirds', primary_metric='error', direction=MetricDirection.LOWER, dataset=halves,
                                  splits=('test', 'other'), required_inputs=('x',), required_targets=('y',)), replace=True)

def thirds(name='third'): return from_function(lambda x: x[:, 0]/3, task='thirds', name=name, inputs='x')


# --- choices ------------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize('given, words', [
    ({}, ('no model',)), ({'model': 1, 'model_name': 'a'}, ('model and model_name',)), ({'model_name': 'a', 'batch_size': True}, ('batch_size',)),
    ({'model_name': 'a', 'batch_size': 2.0}, ('batch_size', '2.0')), ({'model_name': 'a', 'seed': -1}, ('seed',)), ({'model_name': 'a', 'limit': 0}, ('limit',)),
    ({'model_name': 'a', 'warmup': -1}, ('warmup',)), ({'model_name': 'a', 'on_error': 'ignore'}, ('on_error', 'ignore')),
    ({'model_name': 'a', 'manifest': 'a', 'repo': 'b/c'}, ('manifest and repo',)), ({'model_name': 'a', 'resume': True}, ('resume',)),
    ({'model_name': 'a', 'revision': 'main'}, ('revision', 'repo')), ({'model_name': 'a', 'model_options': 'k=3'}, ('model_options', 'k=3'))])
def test_choices_that_are_wrong_are_refused(given, words):
    with fails(ConfigError, *words): BenchConfig(**given)


def test_choices_are_plain_and_survive_json():
    config = BenchConfig(model_name='a', manifest=Path('m.json'), model_options={'k': 3}, plugins=('p.py',), batch_size=np.int64(4), limit=np.int32(9))
    assert json.loads(json.dumps(config.choices())) == config.choices() | {'plugins': ['p.py']}
    with pytest.raises(dataclasses.FrozenInstanceError): config.seed = 1
    with pytest.raises(TypeError): config.model_options['k'] = 4


def test_options_of_a_task_are_read_off_its_fields():
    @dataclass(frozen=True, kw_only=True)
    class Own(BenchConfig):
        mode: Literal['fast', 'exact'] = field(default='fast', metadata={'help': 'how'})
        scale: float = 1.5
        count: int | None = None
        strict: bool = False
    mode, scale, count, strict = Own.arguments()
    assert (mode.choices, mode.kind, mode.help) == (('fast', 'exact'), str, 'how')
    assert (scale.kind, count.kind, count.optional, strict.kind) == (float, int, True, bool)
    assert Own(model_name='a', scale=2, count=None).scale == 2
    for wrong in ({'mode': 'slow'}, {'scale': 'wide'}, {'count': 1.5}, {'strict': 1}, {'scale': True}):
        with fails(ConfigError, next(iter(wrong))): Own(model_name='a', **wrong)

    @dataclass(frozen=True, kw_only=True)
    class Odd(BenchConfig):
        table: dict = field(default_factory=dict)
    with fails(ConfigError, 'table'): Odd(model_name='a')

    @dataclass(frozen=True, kw_only=True)
    class Needy(BenchConfig):
        must: int
    with fails(ConfigError, 'must', 'default'): Needy(model_name='a', must=1)


# --- tasks and calculators ------------------------------------------------------------------------------------------------------

def test_built_in_tasks_are_complete():
    assert set(BUILT_IN) <= set(list_tasks())
    assert {row[0] for row in catalogue().rows} >= set(BUILT_IN)
    for name in BUILT_IN:
        spec, suite = get_task(name), CalculatorSuite.for_task(name)
        assert spec.primary_metric in suite.metric_defs, name
        assert suite.metric_defs[spec.primary_metric].direction is spec.direction, name
        assert spec.splits and spec.dataset is not None and spec.description


def test_importing_tasks_loads_nothing_heavy():
    code = ('import sys; from calibrax.bench.tasks import list_tasks; list_tasks(); '
            'print([m for m in ("jax", "flax", "matplotlib", "scipy", "pandas", "PIL", "torch", "huggingface_hub", "dask") if m in sys.modules])')
    out = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert out.stdout.strip() == '[]', f'imported with the tasks: {out.stdout}'


def test_a_name_belongs_to_the_module_that_took_it():
    spec = TaskSpec(task='taken', display_name='', primary_metric='error', direction='lower')
    register_task(spec)
    register_task(spec)         # again, from the same module
    other = dataclasses.replace(spec, primary_metric='loss')
    there = {'register_task': register_task, 'spec': other, '__name__': 'somebody_else'}
    with fails(RegistryError, 'taken'): exec('register_task(spec)', there)
    assert get_task('taken') is spec
    exec('register_task(spec, replace=True)', there)
    assert get_task('taken') is other


@pytest.mark.parametrize('wrong', [{'task': 'a b'}, {'task': ''}, {'direction': 'info'}, {'direction': 'up'}, {'config': int}, {'difficulty_weights': {'easy': 0}},
                                   {'difficulty_weights': {'easy': math.nan}}])
def test_tasks_that_are_wrong_are_refused(wrong):
    with fails(ConfigError): TaskSpec(**{'task': 't', 'display_name': '', 'primary_metric': 'm', 'direction': 'lower', **wrong})


def test_register_wants_a_task():
    with fails(ConfigError): register_task('thirds')


values = st.one_of(st.floats(-1e6, 1e6), st.just(math.nan), st.just(math.inf))

@settings(max_examples=60)
@given(st.lists(st.dictionaries(st.sampled_from('abc'), values), max_size=30))
def test_means_leave_out_what_is_undefined_and_say_so(rows):
    records = [SampleRecord(index=i, id=str(i), status=SampleStatus.SCORED, batch=0, metrics=m) for i, m in enumerate(rows)]
    means, missing = mean_metrics(records), undefined_counts(records)
    for name in {n for r in rows for n in r}:
        known = [r[name] for r in rows if name in r and math.isfinite(r[name])]
        assert missing.get(name, 0) == len(rows) - len(known)
        if known: assert means[name] == pytest.approx(np.mean(known), rel=1e-9, abs=1e-9)
        else: assert math.isnan(means[name])


def test_evidence_is_plain_and_never_overwritten():
    def keeping(called, kept): return type(called, (MetricCalculator,), {'name': called, 'metric_defs': {}, 'compute': lambda *_: {}, 'evidence': lambda *_: kept})()
    sample = Sample(id='s', inputs={})
    assert CalculatorSuite('t', [keeping('a', {'n': np.float32(1)}), keeping('b', {'m': [np.int64(2)]})]).evidence(0, sample) == {'n': 1.0, 'm': [2]}
    for wrong, words in (({'n': np.zeros(3)}, ("'b'.n", 'ndarray', 'tolist')), ([1], ('list', 'mapping'))):
        with fails(MetricError, *words): CalculatorSuite('t', [keeping('b', wrong)]).evidence(0, sample)
    with fails(MetricError, "'b' and another calculator both keep n"): CalculatorSuite('t', [keeping('a', {'n': 1}), keeping('b', {'n': 2})]).evidence(0, sample)

def test_calculators_that_cannot_be_made_or_complete_nothing():
    register_calculator('unmade', replace=True)(type('Unfinished', (MetricCalculator,), {'name': 'unfinished', 'metric_defs': {}}))
    with fails(MetricError, "'unfinished' cannot be made", 'compute'): calculators_for('unmade')
    lazy = type('Lazy', (MetricCalculator,), {'name': 'lazy', 'metric_defs': {}, 'compute': lambda *_: {}, 'complete': lambda self, records: (r for r in records)})()
    with fails(MetricError, "'lazy' gave a generator"): CalculatorSuite('t', [lazy]).complete([])

def test_what_a_calculator_raises_comes_out_with_its_name_and_sample():
    class Breaks(MetricCalculator):
        name, metric_defs = 'breaks', {'m': MetricDef(name='m', unit='', direction='lower')}
        def compute(self, prediction, sample): return {'m': prediction['missing']}
    with fails(MetricError, 'breaks', 's1', 'KeyError'): CalculatorSuite('t', [Breaks()]).compute({}, Sample(id='s1', inputs={}))


# --- plugins ------------------------------------------------------------------------------------------------------------------

def test_a_plugin_is_loaded_once_and_its_faults_have_a_line(tmp_path):
    (tmp_path/'counted.py').write_text('import builtins\nbuiltins.loads = getattr(builtins, "loads", 0) + 1\n')
    load_plugin(tmp_path/'counted.py')
    load_plugin(str(tmp_path/'counted.py'))
    import builtins
    assert builtins.loads == 1
    del builtins.loads
    for name, text, words in (('a.py', 'x = 1\ny = x/0\n', ('a.py', 'line 2', 'ZeroDivisionError')), ('b.py', 'def f(:\n', ('b.py', 'line 1', 'SyntaxError')),
                              ('c.py', 'import not_there_at_all\n', ('c.py', 'line 1', 'not_there_at_all')), ('d.py', 'exit()\n', ('SystemExit',))):
        (tmp_path/name).write_text(text)
        with fails(ConfigError, *words): load_plugin(tmp_path/name)
    with fails(ConfigError, 'no plugin'): load_plugin(tmp_path/'none.py')
    (tmp_path/'text.txt').write_text('')
    with fails(ConfigError, '.py'): load_plugin(tmp_path/'text.txt')


def package(folder, name, code, entry):
    "An installed package, as far as Python's metadata is concerned"
    (folder/f'{name}.py').write_text(textwrap.dedent(code))
    info = folder/f'{name}-1.0.dist-info'
    info.mkdir()
    (info/'METADATA').write_text(f'Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n')
    (info/'entry_points.txt').write_text(f'[calibrax.bench]\n{entry}\n')


def test_installed_packages_are_found_and_broken_ones_left_out(tmp_path):
    package(tmp_path, 'peaks_package', '''
        from calibrax.bench import TaskSpec, register_task
        register_task(TaskSpec(task='peaks', display_name='Peaks', description='Find peaks', primary_metric='error', direction='lower'))
        ''', 'peaks = peaks_package')
    package(tmp_path, 'broken_package', 'raise RuntimeError("half installed")', 'broken = broken_package')
    run = lambda *words: subprocess.run([sys.executable, '-m', 'calibrax', *words], capture_output=True, text=True, cwd=tmp_path,
                                        env={**__import__('os').environ, 'PYTHONPATH': f'{tmp_path}:{ROOT}'})
    out = run('bench', '--help')
    assert out.returncode == 0 and 'peaks' in out.stdout and 'Find peaks' in out.stdout and 'monocular_depth' in out.stdout
    assert 'broken_package of broken_package 1.0' in out.stderr and 'half installed' in out.stderr and 'Traceback' not in out.stderr


def test_a_package_adds_a_metric_to_a_built_in_task(tmp_path):
    "It is found at the first look, whether or not anything else was looked up before"
    package(tmp_path, 'surprise_package', '''
        from calibrax.bench import MetricCalculator, register_calculator
        from calibrax.core.models import MetricDef
        @register_calculator('image_classification')
        class Surprise(MetricCalculator):
            name, metric_defs = 'surprise', {'surprise': MetricDef(name='surprise', unit='', direction='lower')}
            def compute(self, prediction, sample): return {'surprise': 0.0}
        ''', 'surprise = surprise_package')
    code = "from calibrax.bench.metrics import calculators_for; print([c.name for c in calculators_for('image_classification')])"
    out = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, cwd=tmp_path, env={**__import__('os').environ, 'PYTHONPATH': f'{tmp_path}:{ROOT}'})
    assert out.returncode == 0 and 'surprise' in out.stdout and len(json.loads(out.stdout.replace("'", '"'))) > 1, out


# --- the pipeline ------------------------------------------------------------------------------------------------------------------

def test_a_call_keeps_files_and_run(tmp_path):
    outcome = run_task('thirds', BenchConfig(model=thirds(), batch_size=4, output=tmp_path/'out', store=tmp_path/'store'))
    assert outcome.result.aggregated['error'] == pytest.approx(np.mean(np.arange(10)/6), rel=1e-6)
    assert all(path.exists() for path in outcome.paths.values()) and {'result', 'summary', 'report', 'samples'} <= outcome.paths.keys()
    assert Store(tmp_path/'store').load(outcome.run.id) == outcome.run
    told = json.loads(outcome.paths['result'].read_text())
    assert told['task'] == 'thirds' and told['summary']
    assert 'error' in repr(outcome) and 'thirds' in outcome._repr_html_()


def test_without_folder_and_store_nothing_is_left_behind(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    outcome = run_task('thirds', BenchConfig(model=thirds(), limit=3))
    assert outcome.paths == {} and outcome.result.samples == 3 and not list(tmp_path.iterdir())


@dataclass(frozen=True, kw_only=True)
class Scaled(BenchConfig):
    scale: float = 2.0

@dataclass(frozen=True, kw_only=True)
class Stranger(BenchConfig):
    other: int = 0

def test_a_task_may_change_what_is_run_and_common_choices_will_do():
    def scaled(spec, config):
        model = from_function(lambda x: config.scale*x[:, 0]/3, task='thirds', name=f'scaled by {config.scale}', inputs='x')
        return run_pipeline(spec, dataclasses.replace(config, model=model, model_name=None))
    spec = dataclasses.replace(get_task('thirds'), config=Scaled, run=scaled)
    assert run_task(spec, BenchConfig(model=thirds())).result.model == 'scaled by 2.0'
    assert run_task(spec, Scaled(model=thirds(), scale=3.0)).result.model == 'scaled by 3.0'
    assert run_task(dataclasses.replace(spec, run=run_task), Scaled(model=thirds())).result.model == 'third'     # the shared steps
    with fails(ConfigError, 'Scaled', 'Stranger'): run_task(spec, Stranger(model=thirds()))

@pytest.mark.parametrize('given', ['knn', None, {'model_name': 'knn'}])
def test_a_call_without_a_config_is_told_what_to_write(given):
    for asked in (run_task, run_pipeline):
        with fails(ConfigError, 'expected a BenchConfig', "run_task('thirds', BenchConfig(model_name="): asked('thirds' if asked is run_task else get_task('thirds'), given)
    with fails(ConfigError, "BenchConfig(model_name='knn')"): run_task('thirds', 'knn')

@pytest.mark.parametrize('record', [BenchConfig, Sample])
def test_help_explains_every_field(record):
    unexplained = [f.name for f in dataclasses.fields(record) if f'`{f.name}`' not in record.__doc__]
    assert not unexplained

def test_built_in_tasks_say_what_a_prediction_must_be():
    for name in BUILT_IN:
        spec = get_task(name)
        if name == 'image_classification' and not spec.prediction: continue     # its page says it
        assert any(word in spec.prediction for word in ('shape', 'vector', 'array')) and spec.prediction in repr(spec), name
    assert 'prediction' not in repr(get_task('thirds'))

def test_the_split_of_a_manifest_is_the_one_that_was_asked_for(tmp_path):
    manifest = write_manifest(halves(BenchConfig(model=thirds(), split='other')), tmp_path)
    assert open_dataset('thirds', BenchConfig(model=thirds(), manifest=manifest, split='other', limit=3)).split == 'other'
    with fails(ConfigError, "holds the split 'other', not 'test'"): open_dataset('thirds', BenchConfig(model=thirds(), manifest=manifest, split='test'))

def test_what_does_not_fit_is_refused_before_anything_runs(tmp_path):
    with fails(ConfigError, "no split 'otter'", "did you mean 'other'"): open_dataset('thirds', BenchConfig(model=thirds(), split='otter'))
    with fails(ModelError, 'BenchmarkableModel'): open_model('thirds', BenchConfig(model=lambda x: x))
    stranger = from_function(lambda rgb: rgb, task='image_classification', name='stranger')
    with fails(ModelError, 'image_classification', 'thirds'): run_task('thirds', BenchConfig(model=stranger))
    wants = TaskSpec(task='thirds', display_name='', primary_metric='error', direction='lower', dataset=halves, required_inputs=('x', 'z'))
    with fails(DatasetError, 'lacks z'): open_dataset(wants, BenchConfig(model=thirds()))
    bare = TaskSpec(task='bare', display_name='', primary_metric='error', direction='lower')
    with fails(ConfigError, 'no data of its own', '--manifest'): run_task(bare, BenchConfig(model=thirds()))
    with fails(RegistryError, 'thirdz'): run_task('thirdz', BenchConfig(model=thirds()))
    with fails(ConfigError): run_task('thirds', BenchConfig(model=thirds(), device='tpu', strict_device=True))
    with fails(CalibraxError, 'no_such_model'): run_task('thirds', BenchConfig(model_name='no_such_model'))
