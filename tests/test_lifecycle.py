"The life of a benchmark: teardown always, errors as they are, targets in the right direction, and a run that can be gated."
import math, subprocess, sys
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, strategies as st

from calibrax import bench
from calibrax.bench.lifecycle import TargetVerdict, check_targets, run_benchmark
from calibrax.ci.guard import CIGuard
from calibrax.core.errors import AdapterError, ConfigError, ModelError, RegistryError
from calibrax.core.models import Metric, MetricDef, Point, Run
from calibrax.core.registry import BenchmarkRegistry, register_benchmark
from calibrax.storage.store import Store

LOSS = MetricDef(name='loss', unit='', direction='lower')
ACCURACY = MetricDef(name='accuracy', unit='%', direction='higher')
PHASES = ['setup', 'run_training', 'run_evaluation', 'get_performance_targets', 'teardown']


class Recorder:
    "Writes down what is called; fails where it is told to"
    metric_defs = {'loss': LOSS, 'accuracy': ACCURACY}
    def __init__(self, fails=None, trained=None, evaluated=None, targets=None):
        self.calls, self.fails = [], fails or {}
        self.trained, self.evaluated, self.targets = trained or {'loss': .5}, evaluated or {'accuracy': 90., 'loss': .4}, targets if targets is not None else {'accuracy': 85}
    def call(self, name, result=None):
        self.calls.append(name)
        if name in self.fails: raise self.fails[name]
        return result
    def setup(self): self.call('setup')
    def run_training(self): return self.call('run_training', self.trained)
    def run_evaluation(self): return self.call('run_evaluation', self.evaluated)
    def teardown(self): self.call('teardown')
    def get_performance_targets(self): return self.call('get_performance_targets', self.targets)


@pytest.fixture(autouse=True)
def clean():
    BenchmarkRegistry.reset()
    yield
    BenchmarkRegistry.reset()


# --- order, errors, interruption -----------------------------------------------------------------------------------------------

def test_phases_in_order():
    run_benchmark(recorder := Recorder())
    assert recorder.calls == PHASES


@pytest.mark.parametrize('error', [RuntimeError('broken'), KeyboardInterrupt(), SystemExit(3), StopIteration('done')], ids=lambda e: type(e).__name__)
@pytest.mark.parametrize('phase', PHASES[:-1])
def test_teardown_always(phase, error):
    recorder = Recorder({phase: error})
    with pytest.raises(type(error)) as told: run_benchmark(recorder)
    assert told.value is error and recorder.calls == [*PHASES[:PHASES.index(phase) + 1], 'teardown']


@pytest.mark.parametrize('second', [OSError('gone'), KeyboardInterrupt()], ids=lambda e: type(e).__name__)
def test_an_error_in_teardown_never_hides_the_first(second):
    first = ValueError('first')
    with pytest.raises(ValueError, match='first') as told: run_benchmark(Recorder({'run_training': first, 'teardown': second}))
    assert told.value is first
    assert "in the training of the benchmark 'Recorder'" in first.__notes__ and any(type(second).__name__ in n for n in first.__notes__)


def test_an_error_in_teardown_alone_is_told():
    with pytest.raises(OSError, match='gone') as told: run_benchmark(Recorder({'teardown': OSError('gone')}))
    assert told.value.__notes__ == ["in the teardown of the benchmark 'Recorder'"]


@pytest.mark.parametrize('wrong, told', [(None, 'gave NoneType, not a mapping'), ({'loss': 'low'}, "loss: .*found 'low'"), ({'loss': np.zeros(3)}, 'loss'),
                                         ({1: 2.}, 'the name 1 is no text'), ({'phase_time': 9.}, 'phase_time is measured'), ([('loss', 1)], 'gave list')])
@pytest.mark.parametrize('method', ['run_training', 'run_evaluation', 'get_performance_targets'])
def test_results_that_are_no_numbers(method, wrong, told):
    recorder = Recorder()
    setattr(recorder, method, lambda: wrong)
    with pytest.raises(ModelError, match=f"{method} of 'Recorder'.*{told}"): run_benchmark(recorder)
    assert recorder.calls[-1] == 'teardown'


# --- what is a benchmark -------------------------------------------------------------------------------------------------------

def test_by_name_class_function_and_object():
    register_benchmark('recorded')(Recorder)
    for given_, called in (('recorded', 'recorded'), (Recorder, 'Recorder'), (lambda: Recorder(), 'Recorder'), (Recorder(), 'Recorder')):
        assert {p.name for p in run_benchmark(given_).points} == {called}
    BenchmarkRegistry().register('object', Recorder())
    assert run_benchmark('object').points[0].name == 'object'
    named = Recorder()
    named.name = 'its own'
    assert run_benchmark(named).points[0].name == 'its own' and run_benchmark(named, name='given').points[0].name == 'given'


def test_a_callable_object_is_not_called():
    class Called(Recorder):
        def __call__(self): raise AssertionError
    assert run_benchmark(Called()).points


@pytest.mark.parametrize('wrong, told', [(3, 'int is no benchmark: it lacks setup'), (None, 'NoneType is no benchmark'), (dict, 'dict is no benchmark'),
                                         (lambda size: 1, 'cannot be made without size'), (type('Part', (), {'setup': print}), 'lacks run_training, run_evaluation')])
def test_what_is_no_benchmark(wrong, told):
    with pytest.raises(AdapterError, match=told): run_benchmark(wrong)


def test_unknown_name():
    register_benchmark('recorded')(Recorder)
    with pytest.raises(RegistryError, match='did you mean') as e: run_benchmark('recorder')
    assert isinstance(e.value, KeyError)


@pytest.mark.parametrize('options', [{'tags': {'a': 1}}, {'metric_defs': {'loss': 'lower'}}, {'metric_defs': [LOSS]}, {'metadata': {'x': object()}}, {'scenario': 3},
                                     {'tags': {'phase': 'x'}}, {'metadata': {'targets': 5}}])
def test_bad_arguments_are_refused_before_anything_runs(options):
    recorder = Recorder()
    with pytest.raises(ValueError): run_benchmark(recorder, **options)
    assert recorder.calls == []


# --- the run -------------------------------------------------------------------------------------------------------------------

def test_the_run_says_everything():
    run = run_benchmark(Recorder(trained={'loss': jnp.float32(.5)}), tags={'framework': 'ours'}, scenario='small', metadata={'seed': 3})
    assert [p.tags['phase'] for p in run.points] == ['setup', 'training', 'evaluation', 'teardown']
    assert all(p.tags['framework'] == 'ours' and p.scenario == 'small' and p.metrics['phase_time'].value >= 0 for p in run.points)
    assert run.points[1].metrics['loss'].value == .5 and run.points[2].metrics['accuracy'].value == 90
    assert set(run.metric_defs) == {'loss', 'accuracy', 'phase_time'} and run.metric_defs['phase_time'].direction == 'info'
    assert run.metadata['seed'] == 3 and run.metadata['targets'] == {'accuracy': 85} and run.metadata['benchmark'].endswith('test_lifecycle.Recorder')
    assert run.environment['python'] and Run.from_json(run.to_json()) == run


def test_metrics_with_samples_are_kept():
    metric = Metric(value=2., lower=1., upper=3., samples=(1., 2., 3.))
    assert run_benchmark(Recorder(trained={'loss': metric})).points[1].metrics['loss'] == metric


def test_definitions_given_win():
    run = run_benchmark(Recorder(), metric_defs={'loss': MetricDef(name='loss', unit='nats', direction='lower')})
    assert run.metric_defs['loss'].unit == 'nats' and run.metric_defs['accuracy'] == ACCURACY


def test_a_slow_phase_is_seen():
    class Slow(Recorder):
        def run_training(self):
            import time
            time.sleep(.05)
            return super().run_training()
    times = {p.tags['phase']: p.metrics['phase_time'].value for p in run_benchmark(Slow()).points}
    assert times['training'] >= .05 > times['evaluation']


@pytest.mark.parametrize('accuracy, passed', [(90., True), (60., False)])
def test_stored_and_gated(tmp_path, accuracy, passed):
    store = Store(tmp_path)
    first, second = run_benchmark(Recorder()), run_benchmark(Recorder(evaluated={'accuracy': accuracy, 'loss': .4}))
    store.save(first)
    store.set_baseline(first.id)
    store.save(second)
    result = CIGuard(store).check(second.id)
    assert result.passed is passed and [r.metric for r in result.regressions] == ([] if passed else ['accuracy'])
    assert store.load(second.id) == second and check_targets(store.load(second.id)).passed is passed


def test_no_jax_unless_the_benchmark_uses_it():
    code = '''import sys
from calibrax.bench import run_benchmark
class Plain:
    def setup(self): pass
    def run_training(self): return {}
    def run_evaluation(self): return {"x": 1}
    def teardown(self): pass
    def get_performance_targets(self): return {}
run = run_benchmark(Plain)
print("jax" in sys.modules, "flax" in sys.modules)'''
    out = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True, cwd=Path(__file__).parents[1]).stdout
    assert out.split() == ['False', 'False']


# --- targets -------------------------------------------------------------------------------------------------------------------

def one(value, target, direction):
    "The verdict for one metric"
    defs = {'m': MetricDef(name='m', unit='', direction=direction)} if direction else {}
    run = Run(points=[Point(name='p', scenario='s', metrics={'m': Metric(value=value)})], metric_defs=defs)
    return check_targets(run, {'m': target})[0].verdict

numbers = st.floats(allow_nan=False)

@given(numbers, numbers)
def test_directions_mirror_each_other(value, target):
    assert one(value, target, 'higher') is one(-value, -target, 'lower')


@given(numbers, numbers)
def test_met_on_the_good_side_only(value, target):
    close = math.isclose(value, target, rel_tol=1e-6)
    assert (one(value, target, 'higher') is TargetVerdict.MET) == (value >= target or close)


@pytest.mark.parametrize('direction', ['higher', 'lower'])
def test_nan_reaches_nothing(direction):
    assert one(float('nan'), 1., direction) is one(1., float('nan'), direction) is TargetVerdict.MISSED


def test_float32_reaches_what_it_rounds_to():
    assert one(np.float32(.9), .9, 'higher') is TargetVerdict.MET and one(.8999, .9, 'higher') is TargetVerdict.MISSED


@pytest.mark.parametrize('direction', [None, 'info'])
def test_without_a_direction_it_says_so(direction):
    assert one(1., 1., direction) is TargetVerdict.UNDIRECTED


def test_evaluation_decides_and_absent_targets_are_told():
    results = check_targets(run_benchmark(Recorder(targets={'loss': .45, 'accuracy': 95, 'speed': 1})))
    assert [(r.metric, r.verdict.value) for r in results] == [('loss', 'met'), ('accuracy', 'missed'), ('speed', 'not measured')]
    assert not results.passed and [r.metric for r in results.of(TargetVerdict.MISSED)] == ['accuracy']
    text = repr(results)
    assert '1 of 3 targets met' in text and '≥ 95.00%' in text and '✗ missed' in text and '? not measured' in text
    assert '<table>' in results._repr_html_()


def test_no_targets_pass(): assert check_targets(run_benchmark(Recorder(targets={}))).passed


def test_definitions_for_a_run_that_has_none():
    run = Run(points=[Point(name='p', scenario='s', metrics={'m': Metric(value=1)})])
    assert check_targets(run, {'m': 1}, metric_defs={'m': MetricDef(name='m', unit='s', direction='lower')})[0].unit == 's'


@pytest.mark.parametrize('wrong', [{'loss': 'low'}, 3, {'loss': None}, 'loss'])
def test_targets_are_numbers(wrong):
    with pytest.raises(ConfigError): check_targets(run_benchmark(Recorder()), wrong)


def test_package_hands_them_on():
    assert bench.run_benchmark is run_benchmark and bench.check_targets is check_targets and set(bench.__all__) <= set(dir(bench))
