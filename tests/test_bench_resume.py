"""A run that is killed goes on where it stopped, and nobody can tell from the result.

The file is a program, too: `python tests/test_bench_resume.py FOLDER SAMPLES` runs the job of these tests, so that another
process can be killed in the middle of it."""
import json, os, random, shutil, signal, subprocess, sys, time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings, strategies as st

import calibrax
from calibrax.bench.datasets import BenchmarkDataset, SampleEntry
from calibrax.bench.metrics import MetricCalculator, register_calculator
from calibrax.bench.configuration import BenchConfig
from calibrax.bench.models import from_flax, from_function
from calibrax.bench.pipeline import run_task
from calibrax.bench.results import read_result
from calibrax.bench.runner import BenchmarkRunner, job_of
from calibrax.bench.sample_log import SampleLog, model_fingerprint, read_log
from calibrax.bench.samples import Sample, SampleRecord, TemporalScore
from calibrax.bench.tasks import TaskSpec, register_task
from calibrax.core.errors import CalibraxError, ConfigError, CorruptRunError, DatasetError, StoreError
from calibrax.core.models import MetricDef

TIMES = {'latency_ms', 'started', 'seconds', 'prepare_ms', 'invoke_ms', 'finalize_ms', 'total_ms', 'peak_memory_bytes', 'efficiency', 'samples_file'}


@register_calculator('resumed')
class Difference(MetricCalculator):
    name = 'resumed'
    metric_defs = {'error': MetricDef(name='error', unit='', direction='lower'), 'rank': MetricDef(name='rank', unit='', direction='lower')}
    def invalid(self, sample): return 'the truth is negative' if sample.target('truth') < 0 else None
    def compute(self, prediction, sample): return {'error': abs(float(prediction) - float(sample.target('truth')))}
    def evidence(self, prediction, sample): return {'prediction': float(prediction)}
    def complete(self, records):        # known only when all are there
        order = sorted(range(len(records)), key=lambda i: (records[i].metrics['error'], i))
        return [{'rank': float(rank)} for _, rank in sorted((i, rank) for rank, i in enumerate(order))]


def stability(before, frame, now, sample): return TemporalScore(value=1/(1 + abs(float(before) - float(now))), compensated=frame.phase == 'clean')

TASK = register_task(TaskSpec(task='resumed', display_name='Resumed', primary_metric='error', direction='lower', temporal=stability,
                              required_inputs=('x',), required_targets=('truth',), phases=('clutter', 'clean')))


def sample(i):
    "Some are broken, some have no truth, some make the model fail or give NaN"
    if i % 17 == 5: raise DatasetError(f'the file of sample {i} is gone', hint='fetch it')
    rng = np.random.default_rng(i)
    x = rng.normal(size=4).astype(np.float32)
    if i % 23 == 7: x[0] = 1000
    if i % 29 == 3: x[0] = np.nan
    return Sample(id=f's{i:05}', inputs={'x': x}, targets={'truth': np.float32(-1 if i % 31 == 2 else abs(x[1:].sum()))},
                  scene=f'scene{i//12}', phase=('clutter', 'clean')[i//6 % 2], difficulty='easy', metadata={'number': i})

def data(n, identity='made'):
    entries = [SampleEntry(id=f's{i:05}', scene=f'scene{i//12}', phase=('clutter', 'clean')[i//6 % 2], difficulty='easy') for i in range(n)]
    return BenchmarkDataset.from_function(entries, sample, task='resumed', name='made', split='test', identity=f'{identity}-{n}')

def model(pause=0.0):
    def predict(x):
        if pause: time.sleep(pause)
        if (x[:, 0] > 99).any(): raise ValueError('the model stumbles')
        return x.sum(1) + np.random.normal(size=len(x)).astype(np.float32)       # of NumPy's own generator: seeded for each batch
    return from_function(predict, task='resumed', name='noisy', inputs='x')

def runner(folder, n, *, pause=0.0, **options):
    return BenchmarkRunner(model(pause), data(n), TASK, **{'batch_size': 4, 'folder': folder, **options})

def plain(folder):
    "All that a log holds, without what depends on the clock"
    def without(value):
        if isinstance(value, dict): return {k: without(v) for k, v in value.items() if k not in TIMES}
        return [without(v) for v in value] if isinstance(value, list) else value
    return [without(json.loads(line)) for line in (Path(folder)/'samples.jsonl').read_text().splitlines()]


if __name__ == '__main__':
    runner(sys.argv[1], int(sys.argv[2]), pause=0.001, resume=True).run()
    sys.exit()


# --- killed ---------------------------------------------------------------------------------------------------------------

def started(folder, n):
    return subprocess.Popen([sys.executable, __file__, str(folder), str(n)], env={**os.environ, 'PYTHONPATH': str(Path(calibrax.__file__).parents[1])})

def test_killed_in_the_middle_of_2000_samples(tmp_path):
    "kill -9 at random places, twice; then it goes on to the end"
    n, log = 2000, tmp_path/'killed'/'samples.jsonl'
    places = sorted(random.sample(range(5, 90), 2))
    size = 0
    for percent in places:
        process = started(tmp_path/'killed', n)
        while process.poll() is None and (log.stat().st_size if log.exists() else 0) < percent*3600: time.sleep(0.001)     # a finished log has some 400 kB
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL, f'it ended before it was killed, at {places}'
        assert log.stat().st_size >= size
        size = log.stat().st_size
        assert not any(isinstance(v, dict) for v in read_log(log))      # not finished
    assert started(tmp_path/'killed', n).wait() == started(tmp_path/'whole', n).wait() == 0
    whole = read_result(tmp_path/'whole')
    assert plain(tmp_path/'killed') == plain(tmp_path/'whole'), f'killed at {places} percent'
    assert whole.samples == n and whole.scored + whole.skipped + whole.invalid == n and min(whole.skipped, whole.invalid) > 0


@pytest.fixture(scope='module')
def finished(tmp_path_factory):
    "A finished log: its bytes, what it holds, and the result"
    folder = tmp_path_factory.mktemp('finished')
    result = runner(folder, 50).run()
    return (folder/'samples.jsonl').read_bytes(), plain(folder), result

@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.floats(0, 1))
@example(0.0)
@example(1.0)
def test_cut_off_at_any_byte(finished, tmp_path, where):
    grown, expected, _ = finished
    shutil.rmtree(tmp_path/'cut', ignore_errors=True)
    (tmp_path/'cut').mkdir()
    (tmp_path/'cut'/'samples.jsonl').write_bytes(grown[:round(where*len(grown))])
    runner(tmp_path/'cut', 50, resume=True).run()
    assert plain(tmp_path/'cut') == expected


def test_every_place_between_two_lines(finished, tmp_path):
    "What is read of each beginning of the log: the whole batches, and the last frame of them"
    grown, _, _ = finished
    header, lines = next(read_log(write(tmp_path/'all.jsonl', grown))), grown.splitlines(keepends=True)
    for k in range(1, len(lines)):
        begun = b''.join(lines[:k])
        with SampleLog(write(tmp_path/'some.jsonl', begun), header, resume=True) as log:
            whole = [json.loads(line)['timing']['batch'] for line in lines[:k] if line.startswith(b'{"timing"')]
            assert log.batches == len(whole)
            scored = [d['id'] for d in map(json.loads, lines[:k]) if d.get('status') == 'scored' and d['batch'] in whole]
            assert (log.last_scored.id if log.last_scored else None) == (scored[-1] if scored else None)
        left = (tmp_path/'some.jsonl').read_bytes()
        assert begun.startswith(left) and (left.endswith(b'}\n')) and sum(b'"index"' in l for l in left.splitlines()) == min(4*len(whole), 50)

def write(path, content):
    path.write_bytes(content)
    return path


@pytest.mark.parametrize('cut', [0, 1, 9, 40])
def test_a_header_that_was_cut_off_is_a_beginning(finished, tmp_path, cut):
    grown, expected, _ = finished
    write(tmp_path/'samples.jsonl', grown[:cut])
    runner(tmp_path, 50, resume=True).run()
    assert plain(tmp_path) == expected


def test_a_damaged_line_is_named_when_read_and_done_again_when_resumed(finished, tmp_path, caplog):
    grown, expected, _ = finished
    lines = grown.splitlines(keepends=True)
    lines[20] = lines[20][:30] + b'\x00\xff' + lines[20][32:]
    path = write(tmp_path/'samples.jsonl', b''.join(lines))
    with pytest.raises(CorruptRunError, match='line 21') as e: list(read_log(path))
    assert 'resume=True' in e.value.hint
    runner(tmp_path, 50, resume=True).run()
    assert 'line 21' in caplog.text
    assert plain(tmp_path) == expected


# --- refused --------------------------------------------------------------------------------------------------------------

def refused(folder, match, **options):
    before = (Path(folder)/'samples.jsonl').read_bytes()
    with pytest.raises(ConfigError, match=match) as e: runner(folder, options.pop('n', 50), **options).run()
    assert e.value.hint
    assert (Path(folder)/'samples.jsonl').read_bytes() == before

def test_what_is_there_is_refused_unless_it_is_resumed_by_the_same_job(tmp_path):
    runner(tmp_path, 50).run()
    refused(tmp_path, 'finished.*never overwritten')
    refused(tmp_path, 'seed 0 there, 1 here', resume=True, seed=1)
    refused(tmp_path, 'batch_size 4 there, 8 here', resume=True, batch_size=8)
    refused(tmp_path, "dataset_identity 'made-50' there, 'made-49' here", resume=True, n=49)
    refused(tmp_path, 'save_predictions False there', resume=True, save_predictions=True)

def test_another_version_is_refused(tmp_path):
    runner(tmp_path, 50).run()
    path = tmp_path/'samples.jsonl'
    text = path.read_text()
    path.write_text(text.replace(f'"calibrax":"{calibrax.__version__}"', '"calibrax":"99.0"', 1))
    refused(tmp_path, r'written by calibrax 99\.0', resume=True)
    path.write_text(text.replace('"version":1}}', '"version":2}}', 1))
    refused(tmp_path, 'format 2', resume=True)

def test_a_file_that_is_no_log_is_never_touched(tmp_path):
    (tmp_path/'samples.jsonl').write_text('{"a": 1}\n{"b": 2}\n')
    refused(tmp_path, 'no log of samples', resume=True)
    (tmp_path/'samples.jsonl').write_text('my notes')
    refused(tmp_path, 'no log of samples')

def test_two_processes_do_not_write_one_log(tmp_path):
    process = started(tmp_path, 4000)
    while not (tmp_path/'samples.jsonl').exists() or (tmp_path/'samples.jsonl').stat().st_size < 5000: time.sleep(0.005)
    try:
        with pytest.raises(StoreError, match='being written by another process') as e: runner(tmp_path, 4000, resume=True).run()
        assert e.value.hint
    finally:
        process.kill()
        process.wait()


def test_no_room_on_the_disk_is_said_and_gone_on_with(finished, tmp_path):
    resource = pytest.importorskip('resource', reason='limits of the size of files need the module resource of Unix')
    _, expected, _ = finished
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5000, hard))
    try:
        with pytest.raises(StoreError, match='cannot write .*samples.jsonl') as e: runner(tmp_path, 50).run()
    finally: resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert 'free some room' in e.value.hint and any('of 50 samples are kept' in note for note in e.value.__notes__)
    runner(tmp_path, 50, resume=True).run()
    assert plain(tmp_path) == expected

# --- gone on with ---------------------------------------------------------------------------------------------------------

def test_a_finished_run_is_read_and_not_run_again(tmp_path):
    result = runner(tmp_path, 50).run()
    silent = model()
    silent.invoke = lambda batch: pytest.fail('it was run')
    again = BenchmarkRunner(silent, data(50), TASK, batch_size=4, folder=tmp_path, resume=True).run()
    assert again == result


# --- the model has changed since ------------------------------------------------------------------------------------------

def weighted(weights, plus=0.0): return from_function(lambda x: x @ weights + plus, task='resumed', name='noisy', inputs='x')

def resumed_by(folder, made, **options): return BenchmarkRunner(made, data(50), TASK, batch_size=4, folder=folder, resume=True, **options).run()

@pytest.mark.parametrize('left', [100, 100_000], ids=['interrupted', 'finished'])
def test_another_state_of_the_model_is_refused(tmp_path, left):
    ones = np.ones(4, np.float32)
    result = BenchmarkRunner(weighted(ones), data(50), TASK, batch_size=4, folder=tmp_path).run()
    log = tmp_path/'samples.jsonl'
    log.write_bytes(b''.join(log.read_bytes().splitlines(keepends=True)[:left//5]))
    before = log.read_bytes()
    other_code = from_function(lambda x: x @ ones - 0.0, task='resumed', name='noisy', inputs='x')
    for changed in (weighted(ones*2), weighted(ones, 1.0), other_code, model()):
        with pytest.raises(ConfigError, match='noisy in another state') as e: resumed_by(tmp_path, changed)
        assert 'the model has changed since: another output folder' in e.value.hint and log.read_bytes() == before
    assert resumed_by(tmp_path, weighted(ones.copy())).aggregated == result.aggregated

def test_the_folder_and_the_name_of_a_job_do_not_depend_on_the_fingerprint():
    ones = np.ones(4, np.float32)
    assert job_of(weighted(ones), data(50), TASK).id == job_of(weighted(ones*2), data(50), TASK).id

def test_plugin_files_are_in_the_fingerprint(tmp_path):
    plugin = write(tmp_path/'plugin.py', b'K = 1\n')
    resumed_by(tmp_path/'a', model(), plugins=(plugin,))
    resumed_by(tmp_path/'a', model(), plugins=(write(tmp_path/'renamed.py', b'K = 1\n'),))
    plugin.write_bytes(b'K = 2\n')
    with pytest.raises(ConfigError, match='in another state'): resumed_by(tmp_path/'a', model(), plugins=(plugin,))

def test_the_fingerprint_is_the_same_in_every_process():
    code = f'import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); import test_bench_resume as t; print(t.model_fingerprint(t.stateful()))'
    env = {**os.environ, 'PYTHONPATH': str(Path(calibrax.__file__).parents[1])}
    found = {subprocess.run([sys.executable, '-c', code], env={**env, 'PYTHONHASHSEED': seed}, capture_output=True, text=True, check=True).stdout.strip() for seed in ('1', '2')}
    assert found == {model_fingerprint(stateful())}

SCALE = 2.0
class Stateful:
    "Everything that differs from process to process, or from call to call, beside weights"
    def __init__(self, scale=1.0): self.weights, self.scale, self.rng, self.calls = {'w': np.eye(4)}, scale, np.random.default_rng(), 0
    def __call__(self, x):
        self.calls += 1
        if 'a' in {'a', 'b', 'c'}: return (x @ self.weights['w']).sum(1)*self.scale*SCALE + self.rng.normal()

def stateful(**options): return from_function(Stateful(**options), task='resumed', name='noisy', inputs='x')

def test_what_changes_while_it_runs_is_no_other_model(monkeypatch):
    used = stateful()
    before = model_fingerprint(used)
    for _ in range(3): used.model(np.ones((2, 4)))
    assert model_fingerprint(used) == before == model_fingerprint(stateful())
    used.model.weights['w'][0, 0] = 7
    assert before not in (model_fingerprint(used), model_fingerprint(stateful(scale=3.0)))
    monkeypatch.setitem(globals(), 'SCALE', 5.0)
    assert model_fingerprint(stateful()) != before

def test_weights_of_flax_are_in_the_fingerprint():
    nnx = pytest.importorskip('flax.nnx', reason='modules of Flax need flax')
    def made(seed): return from_flax(nnx.Linear(4, 1, rngs=nnx.Rngs(seed)), task='resumed', name='noisy', inputs='x')
    assert model_fingerprint(made(0)) == model_fingerprint(made(0)) != model_fingerprint(made(1))

def test_a_model_that_its_set_up_changes_goes_on_in_the_same_process(tmp_path):
    class Late:
        def __call__(self, x): return x @ self.weights
    def load(model, seed): model.weights = np.full(4, seed + 1.0)
    late = from_function(Late(), task='resumed', name='late', inputs='x', setup_hook=load)
    result = resumed_by(tmp_path, late)
    assert resumed_by(tmp_path, late) == result == resumed_by(tmp_path, from_function(Late(), task='resumed', name='late', inputs='x', setup_hook=load))


# --- said -----------------------------------------------------------------------------------------------------------------

def cut(folder, lines):
    log = Path(folder)/'samples.jsonl'
    log.write_bytes(b''.join(log.read_bytes().splitlines(keepends=True)[:lines]))

def test_how_much_was_there_is_said(tmp_path, caplog, capfd):
    caplog.set_level('INFO', 'calibrax')
    runner(tmp_path, 50, resume=True).run()
    assert 'no sample was there' in caplog.text
    cut(tmp_path, 2 + 5*4)
    capfd.readouterr()
    runner(tmp_path, 50, resume=True, progress=True).run()
    assert '16 of 50 samples were there (4 of 13 batches)' in caplog.text and 'resumed, noisy (16 of 50 samples were there): ' in capfd.readouterr().err
    runner(tmp_path, 50, resume=True).run()
    assert 'all 50 samples were there' in caplog.text and not [r for r in caplog.records if r.levelname == 'WARNING']

def test_going_on_with_what_is_not_deterministic_is_warned_of(tmp_path, caplog):
    resumed_by(tmp_path, stateful())
    assert not caplog.records
    cut(tmp_path, 2 + 5*4)
    assert resumed_by(tmp_path, stateful()).deterministic is False and 'not deterministic' in caplog.text

def test_an_unfinished_run_beside_is_named(tmp_path, caplog):
    def asked(batch_size): return BenchConfig(model_name='majority', limit=12, batch_size=batch_size, output=tmp_path, resume=True, flops=False)
    first = run_task('image_classification', asked(4))
    run_task('image_classification', asked(6))
    assert not caplog.records       # the one beside is finished
    cut(first.paths['samples'].parent, 7)
    run_task('image_classification', asked(3))
    assert 'An unfinished run of another job is beside it' in caplog.text and 'batch_size 4 there, 3 here' in caplog.text

def test_metrics_of_the_whole_are_in_the_lines(finished):
    _, lines, result = finished
    ranks = [d['metrics']['rank'] for d in lines if d.get('status') == 'scored']
    assert sorted(ranks) == list(range(len(ranks))) and result.aggregated['rank'] == np.mean(ranks)

def test_pairs_never_cross_a_scene_or_a_phase_also_over_a_break(tmp_path):
    "Every break between two batches gives the same pairs; those are of consecutive scored frames"
    runner(tmp_path/'whole', 50).run()
    lines = (tmp_path/'whole'/'samples.jsonl').read_bytes().splitlines(keepends=True)
    records = [v for v in read_log(tmp_path/'whole'/'samples.jsonl') if isinstance(v, SampleRecord)]
    before = None
    for r in records:
        if not r.scored: continue
        pair = before is not None and (before.scene, before.phase) == (r.scene, r.phase)
        assert r.previous == (before.id if pair else None) and (r.temporal_stability is not None) == pair
        if pair: assert r.compensated == (r.phase == 'clean')
        before = r
    for k, line in enumerate(lines):
        if not line.startswith(b'{"timing"') or k % 3: continue
        shutil.rmtree(tmp_path/'part', ignore_errors=True)
        (tmp_path/'part').mkdir()
        write(tmp_path/'part'/'samples.jsonl', b''.join(lines[:k + 1]))
        runner(tmp_path/'part', 50, resume=True).run()
        assert plain(tmp_path/'part') == plain(tmp_path/'whole')

def test_an_exception_leaves_a_log_that_goes_on(tmp_path):
    "The first bad sample ends a strict run; a lenient one goes on from there"
    with pytest.raises(CalibraxError) as e: runner(tmp_path/'a', 50, on_error='raise').run()
    assert any('resume=True goes on' in note for note in e.value.__notes__)
    runner(tmp_path/'a', 50, resume=True).run()
    runner(tmp_path/'b', 50).run()
    assert plain(tmp_path/'a') == plain(tmp_path/'b')
