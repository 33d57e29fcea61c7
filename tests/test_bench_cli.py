"`calibrax bench` and `calibrax bench-data` end to end: what they print, what they return, what they leave behind."
import copy
import csv
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

import calibrax
from calibrax.cli.main import main
from calibrax.storage import Store
from calibrax.bench.report import _figure as PICTURES
from test_bench_sweeps import PLUGIN, ids_in, no_pictures, plugin_file  # noqa: F401


def call(line, *more, env=None):
    out = CliRunner().invoke(main, [*line.split(), *map(str, more)], prog_name='calibrax', env=env)
    assert out.exception is None or isinstance(out.exception, SystemExit), out.exc_info
    assert 'Traceback' not in out.output
    return out

def fails(line, said, hint, *more):
    "The exit code of a user's mistake, with message and hint; nothing was saved"
    out = call(line, *more)
    assert out.exit_code == 2, out.output
    assert said in out.stderr and re.search(f'Hint: .*{hint}', out.stderr, re.S), out.stderr
    return out


@pytest.fixture(scope='module')
def plugin(): return plugin_file()

@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path

@pytest.fixture(scope='module')
def done(plugin, tmp_path_factory):
    "A store with two models on two splits"
    folder = tmp_path_factory.mktemp('done')
    for model in ('half', 'noisy'):
        out = call(f'bench --plugin {plugin} halving --model {model} --split easy --split hard --batch-size 8 --no-flops --data {folder}/store --output {folder}/{model}')
        assert out.exit_code == 0, out.output
    return folder


# --- help ---

def test_help_lists_tasks_from_everywhere(plugin):
    out = call('bench --help')
    assert out.exit_code == 0 and 'Tasks:' in out.output
    from calibrax.bench.plugins import BUILT_IN
    for task in BUILT_IN: assert re.search(rf'^  {task} +\S', out.output, re.M), out.output
    for line in (f'bench --plugin {plugin} --help', f'bench --help --plugin={plugin}'):
        assert re.search(r'^  halving +Halve numbers \(error ↓\)', call(line).output, re.M)
    assert 'leaderboard' in out.output and 'models' in out.output and '--compare' in out.output

def test_help_lists_tasks_of_installed_packages(monkeypatch, tmp_path):
    "In another process: what is loaded there stays loaded"
    package = tmp_path/'site'/'halving_bench'
    package.mkdir(parents=True)
    (package/'__init__.py').write_text(PLUGIN)
    information = tmp_path/'site'/'halving_bench-1.0.dist-info'
    information.mkdir()
    (information/'METADATA').write_text('Metadata-Version: 2.1\nName: halving-bench\nVersion: 1.0\n')
    (information/'entry_points.txt').write_text('[calibrax.bench]\nhalving = halving_bench\nbroken = no_such_module_anywhere\n')
    out = subprocess.run([sys.executable, '-m', 'calibrax', 'bench', '--help'], capture_output=True, text=True, env={**os.environ, 'PYTHONPATH': f'{tmp_path}/site{os.pathsep}{Path(calibrax.__file__).parents[1]}'})
    assert out.returncode == 0 and re.search(r'^  halving +Halve numbers', out.stdout, re.M), out.stdout + out.stderr
    assert 'no_such_module_anywhere' in out.stdout

def test_help_of_a_task_shows_its_options_metrics_models_and_splits(plugin):
    for line in (f'bench --plugin {plugin} halving --help', f'bench halving --plugin {plugin} --help', f'bench halving --help --plugin={plugin}'):
        text = call(line).output
        assert 'Options of halving:' in text and re.search(r'--scale FLOAT +What all numbers are multiplied with\.\s+\[default:\s+1\.0\]', text)
        assert '[even|any]' in text and '--negative / --no-negative' in text
        assert re.search(r'error ↓ \[m\] +\(decides\) +mean absolute difference', text) and 'exact ↑' in text
        assert re.search(r'noisy +is right but for noise', text) and re.search(r'Splits:\s+easy +the default', text)
        for option in ('--model', '--hf-checkpoint', '--plugin', '--split', '--limit', '--batch-size', '--device', '--strict-device', '--seed', '--data', '--output', '--resume', '--manifest', '--repo',
                       '--revision', '--on-error', '--save-predictions', '--no-flops', '--energy', '--warmup', '--model-option', '--executor', '--dry-run', '--json'): assert option in text, option

def test_help_comes_without_the_heavy_libraries():
    code = 'import sys; from calibrax.cli.main import main\ntry: main(["bench", "--help"])\nexcept SystemExit: pass\nprint([m for m in ("jax", "flax", "torch", "matplotlib", "scipy", "pandas", "PIL") if m in sys.modules])'
    out = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True)
    assert out.stdout.strip().endswith('[]'), out.stdout

def test_bare_bench_shows_help_and_models_are_listed(plugin):
    assert 'Tasks:' in call('bench').output
    listed = json.loads(call(f'bench --plugin {plugin} models halving --json').output)
    assert {'half', 'noisy', 'broken'} <= {m['model'] for m in listed} and all(m['task'] == 'halving' for m in listed)
    assert 'is right but for noise' in call(f'bench --plugin {plugin} models').output
    fails('bench models halvin', 'halvin', 'halving')


def test_help_says_what_is_predicted_and_the_options_of_models(plugin):
    text = call(f'bench --plugin {plugin} halving --help').output
    assert re.search(r'noisy +is right but for noise; options: width=0\.5', text) and re.search(r'fragile +ends .*options:\s+folder=…\s+\(needed\),\s+times=1', text, re.S)
    assert re.search(r'^  half +is right$', text, re.M) and 'seed=' not in text
    models = {m['model']: m for m in json.loads(call(f'bench --plugin {plugin} models halving --json').stdout)}
    assert models['noisy']['options'] == 'width=0.5' and models['half']['options'] == ''
    assert re.search(r'noisy .* width=0\.5', call(f'bench --plugin {plugin} models halving').stdout)
    from calibrax.bench.tasks.spec import get_task
    from calibrax.cli.bench import TaskCommand
    spec = copy.copy(get_task('halving'))
    object.__setattr__(spec, 'prediction', 'an array like x, with half of each number')
    assert re.search(r'What a model must predict:\s+an array like x, with half of each number', CliRunner().invoke(TaskCommand(spec), ['--help']).output)

def test_options_before_the_command_hold_for_it(plugin, here, monkeypatch):
    run = f'halving --plugin {plugin} --model half --limit 8 --no-flops'
    answer = json.loads(call(f'bench --data mine --json {run}').stdout)
    assert answer['store'] == 'mine' and len(Store('mine').list_runs()) == 1 and not Path('benchmark-data').exists()
    assert json.loads(call('bench --data mine --json leaderboard halving').stdout)[0]['places'][0]['model'] == 'half'
    assert 'half' in call('bench --data mine leaderboard halving').stdout
    assert json.loads(call(f'bench --json --plugin {plugin} models halving').stdout)
    assert json.loads(call(f'bench --data mine {run} --data yours --json').stdout)['store'] == 'yours'
    monkeypatch.setenv('CALIBRAX_DATA', 'ours')
    assert json.loads(call(f'bench --data mine --json {run} --dry-run').stdout)['store'].endswith('/mine')
    assert json.loads(call(f'bench --json {run} --dry-run').stdout)['store'].endswith('/ours')
    out = call('bench --json halving --model hafl --plugin', plugin)
    assert out.exit_code == 2 and 'hafl' in json.loads(out.stdout)['error']


# --- a run ---

def test_a_run_prints_saves_and_can_be_checked(plugin, here, monkeypatch):
    monkeypatch.setattr('calibrax.bench.report._figure', PICTURES)
    out = call(f'bench halving --plugin {plugin} --model noisy --batch-size 8 --seed 3 --limit 24')
    assert out.exit_code == 0, out.output
    assert out.stdout.startswith('Halving (halving): noisy; seed 3; batches of 8\n')
    assert 'error ↓ [m]' in out.stdout and '24 of 24 samples scored' in out.stdout
    (run,) = Store('benchmark-data').list_runs()
    assert f'Saved run {run.id} in benchmark-data' in out.stdout
    written = [Path(line.removeprefix('Wrote ')) for line in out.stdout.splitlines() if line.startswith('Wrote ')]
    assert {'result.json', 'summary.md', 'report.html', 'samples.jsonl'} <= {p.name for p in written} and all(p.is_file() for p in written)
    assert '<img' in next(p for p in written if p.name == 'report.html').read_text()
    assert run.points[0].metrics['scored'].value == 24 and run.metadata['bench']['seed'] == 3
    assert call('baseline').exit_code == 0
    time.sleep(0.01)
    assert call(f'bench --plugin {plugin} halving --model noisy --batch-size 8 --seed 3 --limit 24 --model-option width=2').exit_code == 0
    check = call('check --threshold 0.5')
    assert check.exit_code == 1 and re.search(r'halving/easy.* error:', check.stdout), check.output
    trend = call('trend --metric error --point halving/easy')
    assert trend.exit_code == 0 and len(trend.stdout.splitlines()) >= 4
    assert call('report --output report.html').exit_code == 0 and b'halving/easy' in Path('report.html').read_bytes()
    assert call('export --to csv --output results.csv').exit_code == 0 and 'error' in Path('results.csv').read_text()
    assert 'width=2' in call('bench leaderboard halving').stdout
    assert call('summary').exit_code == 0 and call('runs').exit_code == 0 and call('fsck').exit_code == 0


def test_options_of_the_task_reach_it(plugin, here):
    small, large = (json.loads(call(f'bench halving --plugin {plugin} --model noisy --scale {scale} --no-flops --json').stdout) for scale in (1, 100))
    assert large['jobs'][0]['result']['dataset_identity'] != small['jobs'][0]['result']['dataset_identity']
    out = call(f'bench --plugin {plugin} halving --model half --scale much')
    assert out.exit_code == 2 and "'much' is not a valid float" in out.stderr
    assert call(f'bench --plugin {plugin} halving --model half --kind odd').exit_code == 2


def test_several_models_splits_and_seeds(plugin, here):
    out = call(f'bench --plugin {plugin} halving --model half --model noisy --split easy --split hard --seed 0 --seed 1 --no-flops --model-option noisy:width=1 --json')
    assert out.exit_code == 0, out.output
    answer = json.loads(out.stdout)
    assert len(answer['jobs']) == 8 and not answer['failures'] and len(Store('benchmark-data').list_runs()) == 8
    assert set(answer['reports']) == {f'{m} (seed {s})' for m in ('half', 'noisy width=1') for s in (0, 1)}
    for label, files in answer['merged'].items():
        report = json.loads(Path(files['json']).read_text())
        assert sorted(report['splits']) == ['easy', 'hard'] and Path(files['md']).is_file() and Path(files['html']).is_file()
        assert answer['reports'][label]['splits'] == report['splits']
    text = call(f'bench --plugin {plugin} halving --model half --model noisy --split easy --split hard --no-flops')
    assert '4 jobs' in text.stdout and '[4/4] noisy, hard, seed 0: error' in text.stderr and text.stdout.count('Wrote ') == 7
    runs = dict(re.findall(r'^  (\w{12})  (.+)$', text.stdout[text.stdout.index('Saved 4 runs in benchmark-data:\n'):], re.M))
    assert sorted(runs.values()) == sorted(f'{m}, {s}, seed 0' for m in ('half', 'noisy') for s in ('easy', 'hard'))
    for run, what in runs.items():
        kept = Store('benchmark-data').load(run).metadata['bench']
        assert what == f'{kept["model"]}, {kept["split"]}, seed {kept["seed"]}'

def test_reports_of_several_seeds_name_them_in_captions_and_folders(plugin, here):
    line = f'bench halving --plugin {plugin} --model noisy --model-option width=1 --split easy --split hard --seed 0 --seed 1 --limit 8 --no-flops --output mine'
    out = call(line)
    for seed in (0, 1):
        assert f'halving · noisy width=1 (seed {seed}) · splits easy and hard' in out.stdout
        report = Path(f'mine/halving/noisy-width=1-seed-{seed}/readiness.md')
        assert f'Wrote {report}' in out.stdout and f'(seed {seed})' in report.read_text()
    assert not list(Path('mine').rglob('*__*'))
    from calibrax.cli.bench import _folder_name
    assert [_folder_name(label) for label in ('org/model k=5', '..', '模型 (seed 0)')] == ['org-model-k=5', 'model', '模型-seed-0']


@pytest.mark.parametrize('executor', ['processes:2', 'dask'])
def test_executors(executor, plugin, here):
    if executor == 'dask': pytest.importorskip('distributed', reason='distributed is not installed (extra `dask`)')
    out = call(f'bench --plugin {plugin} halving --model half --model noisy --split easy --no-flops --warmup 0 --json --executor {executor}')
    assert out.exit_code == 0, out.output
    assert len(json.loads(out.stdout)['jobs']) == 2 == len(Store('benchmark-data').list_runs())


def test_failures_of_some_jobs_end_with_2_and_keep_the_others(plugin, here):
    out = call(f'bench --plugin {plugin} halving --model half --model broken --no-flops')
    assert out.exit_code == 2 and 'no weights here' in out.output and len(Store('benchmark-data').list_runs()) == 1
    answer = json.loads(call(f'bench --plugin {plugin} halving --model half --model broken --no-flops --json').stdout)
    assert answer['exit_code'] == 2 and answer['failures'][0]['error'] == 'ModelError' and answer['failures'][0]['hint']


# --- tried first ---

def everything(folder): return sorted(p.relative_to(folder).as_posix() for p in Path(folder).rglob('*'))

def test_a_dry_run_opens_everything_and_writes_nothing(plugin, here):
    line = f'bench halving --plugin {plugin} --model half --model noisy --split easy --split hard --seed 0 --seed 1 --limit 20 --batch-size 8 --dry-run'
    out = call(line)
    assert out.exit_code == 0 and out.stdout.startswith('Halving (halving): half, noisy') and not out.stderr, out.output
    assert re.search(r'noisy, hard, seed 1 +numbers/hard +20 +3 +cpu:0 +new', out.stdout) and '8 jobs, 160 samples' in out.stdout
    assert len(re.findall(r'^Would write bench-results/\S+/halving/(?:half|noisy)/(?:easy|hard)-[01]-\w{8}$', out.stdout, re.M)) == 8
    assert '8 runs would be saved in benchmark-data' in out.stdout and max(map(len, out.stdout.splitlines())) <= 100
    answer = json.loads(call(f'{line} --json').stdout)
    assert answer['exit_code'] == 0 and answer['dry_run'] and answer['samples'] == 160 and [j['batches'] for j in answer['jobs']] == [3]*8
    assert everything(here) == []

def test_a_dry_run_knows_the_folders_of_the_run(plugin, here):
    line = f'bench halving --plugin {plugin} --model half --output mine --limit 8 --no-flops'
    folder = json.loads(call(f'{line} --dry-run --json').stdout)['jobs'][0]['folder']
    assert call(line).exit_code == 0 and (Path(folder)/'result.json').is_file()
    before = everything(here)
    assert json.loads(call(f'{line} --dry-run --resume --json').stdout)['jobs'][0]['state'] == 'finished'
    fails(f'{line} --dry-run', 'never overwritten', 'resume')
    assert everything(here) == before

TRIED = {       # what: (options, said)
    'model': ('--model broken', 'no weights here'), 'option': ('--model half --model-option k=1', "no option 'k'"), 'split': ('--model half --split esay', "no split 'esay'"),
    'device': ('--model half --device gpuu', 'is no device'), 'strict': ('--model half --device tpu --strict-device', 'tpu'), 'manifest': ('--model half --manifest nowhere', 'nowhere'),
    'output': ('--model half --output file/x', 'is a file'), 'store': ('--model half --data file', 'file'), 'executor': ('--model half --executor cloud', "no executor 'cloud'"),
    'second': ('--model half --model broken', 'no weights here')}

@pytest.mark.parametrize('what', TRIED)
def test_a_dry_run_says_the_first_thing_that_is_wrong(what, plugin, here):
    Path('file').write_text('')
    options, said = TRIED[what]
    fails(f'bench halving --plugin {plugin} --dry-run {options}', said, '')
    assert everything(here) == ['file']

def test_a_dry_run_knows_the_inputs_of_the_model(plugin, here):
    line = f'bench halving --plugin {plugin} --model half --model crooked --dry-run'
    fails(line, "model 'crooked' needs the input 'y', which numbers/easy does not have", 'the inputs are x')
    assert everything(here) == []

def test_a_dry_run_reads_a_sample(plugin, here):
    for modality in ('x', 'half'):
        Path('rooms', modality).mkdir(parents=True)
        np.save(Path('rooms', modality, '0.npy'), np.ones(4, np.float32))
    assert call(f'bench-data make-manifest rooms --task halving --plugin {plugin} --target half').exit_code == 0
    line = f'bench halving --plugin {plugin} --model half --manifest rooms --dry-run'
    assert call(line).exit_code == 0
    Path('rooms', 'x', '0.npy').unlink()
    fails(line, '0.npy', '')


# --- interrupted ---

LAUNCH = [sys.executable, '-m', 'calibrax']

def test_an_interrupted_run_is_gone_on_with(plugin, here):
    line = ['bench', 'halving', '--plugin', str(plugin), '--model', 'slow', '--no-flops', '--warmup', '0']
    process = subprocess.Popen([*LAUNCH, *line], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    for _ in range(600):
        logs = list(Path('bench-results').rglob('samples.jsonl'))
        if logs and len(ids_in(logs[0])) >= 5: break
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130 and '--resume' in err and 'Traceback' not in err, err
    kept = len(ids_in(logs[0]))
    assert 5 <= kept < 40 and not Path('benchmark-data').exists()
    out = call(' '.join([*line, '--resume', '--json']))
    assert out.exit_code == 0, out.output
    assert len(ids_in(logs[0])) == 40 == len(set(ids_in(logs[0]))) and len(list(Path('bench-results').iterdir())) == 1
    assert json.loads(out.stdout)['resumed'] == [{'model': 'slow', 'split': None, 'seed': 0, 'kept': kept, 'samples': 40, 'state': 'goes on'}]
    again = json.loads(call(' '.join([*line, '--resume', '--json'])).stdout)
    assert again['resumed'][0]['state'] == 'finished' and again['resumed'][0]['kept'] == 40
    assert again['jobs'] == json.loads(out.stdout)['jobs'] and len(Store('benchmark-data').list_runs()) == 1


def test_an_interrupted_sweep_in_other_processes_ends_at_once(plugin, here):
    line = ['bench', 'halving', '--plugin', str(plugin), '--model', 'half', '--model', 'slow', '--model-option', 'slow:wait=0.5', '--no-flops', '--warmup', '0', '--executor', 'processes:1']
    process = subprocess.Popen([*LAUNCH, *line], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)
    for _ in range(600):
        if any(ids_in(log) for log in Path('bench-results').rglob('slow/*/samples.jsonl')): break
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)       # as a terminal does, to all of them
    _, err = process.communicate(timeout=15)    # 40 samples would take 20 seconds
    assert process.returncode == 130 and '1 of 2 jobs are done' in err and 'Traceback' not in err, err
    assert [r.metadata['bench']['model'] for r in Store('benchmark-data').list_runs()] == ['half']
    assert not list(Path('bench-results').glob('*/.sweep-*'))


@pytest.fixture
def interrupted(plugin, here):
    "A folder with the first 16 of 40 samples of a job, and five of its next batch"
    line = f'bench halving --plugin {plugin} --model half --batch-size 8 --no-flops --warmup 0'
    assert call(f'{line} --output mine').exit_code == 0
    log = next(Path('mine').rglob('samples.jsonl'))
    lines = log.read_text().splitlines(keepends=True)
    second = [i for i, text in enumerate(lines) if '"index"' not in text and '"rows"' in text][1]
    log.write_text(''.join(lines[:second + 6]))
    for other in ('result.json', 'report.html', 'summary.md'): (log.parent/other).unlink()
    shutil.rmtree('benchmark-data')
    return line

def test_going_on_says_what_was_there(interrupted):
    out = call(f'{interrupted} --output mine --resume')
    assert out.exit_code == 0 and 'half, seed 0: goes on, 16 of 40 samples were there\n' in out.stdout, out.output
    assert '40 of 40 samples scored' in out.stdout
    assert 'half, seed 0: finished already, and taken as it is\n' in call(f'{interrupted} --output mine --resume').stdout
    both = call(f'{interrupted} --model noisy --output mine --resume')
    assert both.exit_code == 0 and 'half, seed 0: finished already' in both.stdout and 'noisy, seed 0: ' in both.stderr and 'noisy, seed 0: finished' not in both.stdout

def test_going_on_with_nothing_is_refused(interrupted, here):
    before = everything(here)
    for more in ('', ' --dry-run'):
        fails(f'{interrupted} --output mind --resume{more}', 'there is no folder mind', 'near it there is mine; or leave out --resume')
        out = fails(f'{interrupted} --output mine --resume --batch-size 4{more}', 'there is nothing of half, seed 0 in mine: there is half, easy, seed 0, batches of 8: 16 of 40 samples (batch_size 8 there, 4 here)', 'leave out --resume')
        assert 'resume=' not in out.stderr and 'identity' not in out.stderr
    fails(f'{interrupted} --output mine --resume --seed 3', 'seed 0 there, 3 here', 'options or the folder')
    fails(f'{interrupted} --output mine --resume --limit 9', 'limit 40 there, 9 here', 'options')
    assert everything(here) == before
    Path('empty').mkdir()
    fails(f'{interrupted} --output empty --resume', 'nothing to go on with in empty', '--output; or leave out --resume')


def test_each_call_has_a_folder_of_its_own(plugin, here):
    for _ in range(2): assert call(f'bench --plugin {plugin} halving --model half --limit 8 --no-flops').exit_code == 0
    assert len(list(Path('bench-results').iterdir())) == 2 == len(Store('benchmark-data').list_runs())
    assert call(f'bench --plugin {plugin} halving --model half --limit 8 --no-flops --output mine').exit_code == 0
    fails(f'bench --plugin {plugin} halving --model half --limit 8 --no-flops --output mine', 'never overwritten', 'resume')


# --- comparing and ranking ---

def test_two_results_are_compared_by_runs_and_by_folders(done, plugin):
    runs = {r.metadata['bench']['model']: r for r in Store(done/'store').list_runs() if r.metadata['bench']['split'] == 'easy'}
    by_id = json.loads(call(f'bench --data {done}/store --json --compare', runs['half'].id, runs['noisy'].id).stdout)
    assert by_id['verdict'] == 'worse' and by_id['before']['model'] == 'half' and by_id['metrics'][0]['metric'] == 'error'
    assert by_id['metrics'][0]['method'] == 'paired, 40 samples' and by_id['metrics'][0]['lower'] > 0 and by_id['metrics'][0]['degradation'] > 0
    folders = [next((done/model).glob('halving/*/easy-*')) for model in ('half', 'noisy')]
    assert json.loads(call('bench --json --compare', *folders).stdout)['metrics'] == by_id['metrics']
    text = call(f'bench --data {done}/store --compare', runs['noisy'].id, runs['half'].id[:8])
    assert text.exit_code == 0 and 'half against noisy: better in error' in text.stdout
    hard = next(r.id for r in Store(done/'store').list_runs() if r.metadata['bench']['split'] == 'hard')
    fails(f'bench --data {done}/store --compare {hard}', 'cannot be compared', 'same samples', runs['half'].id)
    fails(f'bench --compare {done}/half', 'holds 2 results', 'name one of', done/'half')
    fails(f'bench --compare {done}/store', 'holds no results', 'result.json', done/'half')

def test_the_leaderboard_in_every_format(done):
    line = f'bench leaderboard halving --data {done}/store'
    text = call(line).stdout
    assert 'halving/easy: 2 models, half leads' in text and 'halving/hard' in text
    boards = json.loads(call(f'{line} --json').stdout)
    assert [(b['split'], [(p['rank'], p['model'], p['within_noise_of_best']) for p in b['places']]) for b in boards] == [(s, [(1, 'half', None), (2, 'noisy', False)]) for s in ('easy', 'hard')]
    rows = list(csv.DictReader(call(f'{line} --format csv').stdout.splitlines()))
    assert len(rows) == 4 and float(rows[1]['value']) == boards[0]['places'][1]['value']
    markdown = call(f'{line} --format markdown --split hard --paired').stdout
    assert markdown.count('| 1 |') == 1 and '**0**' in markdown
    assert call(f'{line} --metric latency --split easy --output {done}/board.md --format markdown --plot {done}/board.svg').exit_code == 0
    assert 'latency' in (done/'board.md').read_text() and b'<svg' in (done/'board.svg').read_bytes()
    assert call(f'{line} --plot {done}/both.svg').exit_code == 0
    both = (done/'both.svg').read_text()
    assert all(f'halving/{split}' in both for split in ('easy', 'hard'))      # matplotlib writes texts as comments, too
    fails(f'{line} --plot {done}/nowhere/both.svg', 'cannot draw', 'writable')
    fails(f'{line} --metric throughput', 'has no direction', 'error')
    fails(f'{line} --metric eror', "the metric 'eror'", 'error')
    fails(f'{line} --split esay', "the split 'esay'", 'easy')
    fails(f'bench leaderboard halvin --data {done}/store', "'halvin'", 'halving')


# --- one file adds everything ---

def hashes(folder): return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(folder.rglob('*')) if p.is_file() and '__pycache__' not in p.parts}

def test_a_task_a_metric_and_a_model_in_one_file_and_the_package_untouched(plugin, here):
    package = here/'site'/'calibrax'
    shutil.copytree(Path(calibrax.__file__).parent, package, ignore=shutil.ignore_patterns('__pycache__'))
    before = hashes(package)
    line = [*LAUNCH, 'bench', 'halving', '--plugin', str(plugin), '--model', 'noisy', '--split', 'easy', '--split', 'hard', '--batch-size', '16', '--no-flops']
    out = subprocess.run(line, capture_output=True, text=True, env={**os.environ, 'PYTHONPATH': str(package.parent), 'PYTHONDONTWRITEBYTECODE': '1'})
    assert out.returncode == 0, out.stderr
    where = subprocess.run([sys.executable, '-c', 'import calibrax; print(calibrax.__file__)'], capture_output=True, text=True, env={**os.environ, 'PYTHONPATH': str(package.parent)})
    assert Path(where.stdout.strip()).parent == package
    assert 'error ↓ [m]' in out.stdout and len(Store('benchmark-data').list_runs()) == 2
    assert not Path(plugin).is_relative_to(package) and hashes(package) == before and len(before) > 100


# --- what a model itself does wrong ---

FAILING = """
import numpy as np
from calibrax.bench.models import from_function, register_model

def guess(x):
    return x @ np.ones((3, 3))

@register_model('{name}', task='halving')
def failing(): return from_function(guess, task='halving', name='{name}', inputs='x')
"""

@pytest.mark.parametrize('executor', ['local', 'processes:1'])
def test_the_traceback_of_the_model_is_shown_when_asked(executor, plugin, tmp_path_factory, here):
    name = f'failing_{executor[:5]}'
    file = tmp_path_factory.mktemp('failing')/f'{name}.py'
    file.write_text(FAILING.format(name=name))
    line = f'bench halving --plugin {plugin} --plugin {file} --model {name} --no-flops --executor {executor} --on-error raise'
    fails(line, f"'{name}' failed", 'its traceback is shown with -v')
    for verbose in (f'{line} -v', f'-v {line}'):
        out = CliRunner().invoke(main, verbose.split(), prog_name='calibrax')
        assert out.exit_code == 2 and f'{name}.py", line 6, in guess' in out.stderr and out.stderr.count('Traceback') == 1 and 'its traceback stands above' in out.stderr, out.output
    out = fails(line.replace(' --on-error raise', ''), 'none of 40 samples', '')
    assert 'attached' not in out.stderr and '--on-error raise' in out.stderr

def test_the_traceback_of_a_model_that_cannot_be_made(plugin, here):
    for dry in ('', ' --dry-run'):
        line = f'bench halving --plugin {plugin} --model broken --no-flops{dry}'
        fails(line, 'no weights here', 'traceback is shown with -v')
        out = CliRunner().invoke(main, f'{line} -v'.split())
        assert 'in broken' in out.stderr and out.stderr.count('Traceback') == 1
    out = CliRunner().invoke(main, f'bench halving --plugin {plugin} --model broken --model half --no-flops -v'.split())
    assert out.exit_code == 2 and 'broken, seed 0:\nTraceback' in out.stderr and 'stands above' in out.stdout

def test_options_of_all_models_are_looked_at_before_any_runs(plugin, here):
    fails(f'bench halving --plugin {plugin} --model half --model noisy --model-option noisy:widht=3', "model 'noisy' has no option 'widht'", 'its options are width')
    fails(f'bench halving --plugin {plugin} --model half --model fragile', "model 'fragile' has to be told folder", 'folder, times')
    assert everything(here) == []

@pytest.mark.parametrize('said, here_said', [
    ('resume=True (--resume) goes on with it', '--resume goes on with it'), ("on_error='raise' (--on-error raise) stops", '--on-error raise stops'), ('energy=True measures it', '--energy measures it'),
    ('choose one with `seed`', 'choose one with --seed'), ('try device="cpu"', 'try --device cpu'), ('give output= (--output)', 'give --output'), ('its options are k, seed', 'its options are k, seed'),
    ('the cause is attached', 'its traceback is shown with -v'), ('', '')])
def test_hints_name_the_options_of_the_command(said, here_said):
    from calibrax.cli.bench import option_words
    assert option_words(said) == here_said == option_words(here_said)

def test_what_is_missing_is_said_with_the_options_there_are(here):
    fails('bench models denoising', "no task 'denoising'", '--plugin FILE')
    fails('bench denoising --model x', "no task 'denoising'", '--plugin FILE')
    out = fails('bench --data mine leaderboard halving', 'No runs in store mine', re.escape('`calibrax bench --data mine halving --model NAME` saves one'))
    assert 'store.save' not in out.stderr


# --- mistakes: one for each class of errors ---

MISTAKES = {        # what: (line after `bench --plugin FILE`, said, hint)
    'no model': ('halving', 'no model was chosen', '--model NAME'),
    'both': ('halving --model half --hf-checkpoint org/x', 'both --model and --hf-checkpoint', 'leave one'),
    'batch size': ('halving --model half --batch-size 0', 'batch_size: expected a whole number from 1, found 0', '1 is usual'),
    'limit': ('halving --model half --limit 0', 'limit', 'all samples'),
    'seed': ('halving --model half --seed -1', 'seed', 'whole number'),
    'warmup': ('halving --model half --warmup -1', 'warmup', 'compil'),
    'model option': ('halving --model half --model-option k', 'expected key=value', 'k=5'),
    'option of no model': ('halving --model half --model-option k=5', "no option 'k'", 'no options'),
    'two places': ('halving --model half --manifest m.json --repo o/n', 'data comes from one place', 'leave one'),
    'executor': ('halving --model half --executor cloud', "no executor 'cloud'", 'dask://HOST:PORT'),
    'store': ('halving --model half --data=', '--data is empty', 'name a folder'),
    'output': ('halving --model half --output=', '--output is empty', 'name a folder'),
    'nothing to resume': ('halving --model half --resume', 'nothing to go on with', '--output'),
    'split': ('halving --model half --split esay', "no split 'esay'", 'easy'),
    'unknown task': ('halvnig --model half', 'halvnig', 'halving'),                      # RegistryError
    'unknown model': ('halving --model hafl', 'hafl', 'half'),                          # RegistryError
    'manifest': ('halving --model half --manifest nowhere.json', 'nowhere.json', 'path'),   # ManifestError
    'broken model': ('halving --model broken', 'no weights here', ''),                  # ModelError
    'not finite': ('halving --model nan --on-error raise', 'finite', ''),               # ModelError
    'compare': ('--compare a b', 'No runs', 'save'),                                    # StoreError
    'compare and a task': ('--compare a b halving --model half', 'two commands', 'one of them'),
    'leaderboard': ('leaderboard halving', 'No runs', ''),
}

@pytest.mark.parametrize('mistake', MISTAKES, ids=lambda m: m.replace(' ', '_'))
def test_mistakes(mistake, plugin, here):
    line, said, hint = MISTAKES[mistake]
    fails(f'bench --plugin {plugin} {line}', said, hint)
    assert not Store('benchmark-data').runs()


def test_every_other_error_class_through_the_command(plugin, here, monkeypatch):
    "ConfigError, RegistryError, ManifestError, ModelError and StoreError are above"
    folder = Path('rooms', 'x')
    folder.mkdir(parents=True)
    np.save(folder/'0.npy', np.ones(4, np.float32))
    half = Path('rooms', 'half')
    half.mkdir()
    np.save(half/'0.npy', np.ones(4, np.float32))
    assert call(f'bench-data make-manifest rooms --task halving --plugin {plugin} --target half').exit_code == 0
    np.save(folder/'0.npy', np.ones(3, np.float32))
    run = f'bench --plugin {plugin} halving --model half --on-error raise'
    fails(f'{run} --manifest rooms/manifest.json', '0.npy', '')                                             # DatasetError
    monkeypatch.setenv('HF_HUB_OFFLINE', '1')
    from importlib.util import find_spec
    there = 'owner/name' if find_spec('huggingface_hub') else 'not installed'
    fails(f'{run} --repo owner/name --revision {"0"*40} --cache-dir {here}/cache', there, '')       # DownloadError
    fails(f'bench --plugin {plugin} halving --model crooked --on-error raise', "no input 'y'", 'its inputs are x')     # AdapterError
    fails(f'bench --plugin {plugin} halving --model wrong --on-error raise', 'the prediction has 2 numbers', 'one number for each')      # MetricError
    Path('file').write_text('')
    fails(f'bench --plugin {plugin} halving --model half --data file', 'file', '')                        # StoreError
    fails(f'bench --plugin {plugin} halving --model half --output file/results', 'file/results', '')      # StoreError


def test_mistakes_as_json(plugin, here):
    out = call(f'bench --plugin {plugin} halving --model hafl --json')
    answer = json.loads(out.stdout)
    assert out.exit_code == answer['exit_code'] == 2 and 'hafl' in answer['error'] and 'half' in answer['hint']


def test_plugins_that_do_not_load(here):
    Path('broken.py').write_text('import math\nmath.sqrt(-1)\n')
    Path('notes.txt').write_text('')
    fails('bench --plugin broken.py --help', 'broken.py does not load (broken.py, line 2)', 'python broken.py')
    fails('bench halving --plugin nowhere.py', 'no plugin nowhere.py', 'path')
    fails('bench --plugin notes.txt models', 'no file of Python', r'\.py')


# --- data ---

def test_bench_data_makes_tells_and_verifies(plugin, here):
    for scene in ('a', 'b'):
        for modality, factor in (('x', 1), ('half', 0.5)):
            folder = Path('rooms', 'easy', scene, modality)
            folder.mkdir(parents=True)
            for i in range(20): np.save(folder/f'{i:02}.npy', np.full(4, factor*(i + len(scene)), np.float32))
    make = f'bench-data make-manifest rooms --task halving --plugin {plugin} --split easy'
    out = call(make)
    assert out.exit_code == 0, out.output
    assert out.stdout.startswith('Wrote rooms/manifests/halving/easy.json') and 'samples  40' in out.stdout
    fails(make, 'is there already', 'give --replace')
    assert call(f'{make} --replace --json').exit_code == 0
    told = json.loads(call('bench-data info rooms --json').stdout)
    assert (told['task'], told['samples'], told['scenes'], told['inputs'], told['targets']) == ('halving', 40, 2, ['x'], ['half'])
    assert call('bench-data verify rooms').exit_code == 0
    run = json.loads(call(f'bench --plugin {plugin} halving --model half --manifest rooms/manifests/halving/easy.json --batch-size 8 --no-flops --json').stdout)
    assert run['jobs'][0]['result']['aggregated']['error'] == 0 and run['jobs'][0]['result']['dataset_identity']
    Path('rooms/easy/b/x/07.npy').unlink()
    out = call('bench-data verify rooms --json')
    assert out.exit_code == 2 and json.loads(out.stdout)['problems'] == [['easy/b/x/07.npy', 'it is missing']]
    skipped = json.loads(call(f'bench --plugin {plugin} halving --model half --manifest rooms --no-flops --json').stdout)
    assert (skipped['jobs'][0]['result']['scored'], skipped['jobs'][0]['result']['skipped']) == (39, 1)
    fails('bench-data verify nowhere', 'nowhere', 'path')
    fails('bench-data info --repo o/n', '--task', 'by its path')
    fails('bench-data info rooms --repo o/n', 'one place', 'leave one')
    fails('bench-data make-manifest rooms --task halvin --split easy', 'halvin', 'halving')

def test_bench_data_and_the_hub(here, monkeypatch):
    pytest.importorskip('huggingface_hub', reason='huggingface_hub is not installed (extra `hub`)')
    monkeypatch.setenv('HF_HUB_OFFLINE', '1')
    for command in ('info', 'download'):
        fails(f'bench-data {command} --repo owner/name --task halving --split easy --cache-dir {here}/cache', 'owner/name', '')
        fails(f'bench-data {command} --repo owner/name --task halving', '--split is missing', 'by its path')


def test_data_on_the_hub_is_told_and_planned_without_fetching_it(plugin, here):
    pytest.importorskip('huggingface_hub', reason='huggingface_hub is not installed (extra `hub`)')
    from hub_server import Repository, hub_server
    for modality in ('x', 'half'):
        Path('rooms', modality).mkdir(parents=True)
        for i in range(3): np.save(Path('rooms', modality, f'{i}.npy'), np.ones(4, np.float32))
    made = json.loads(call(f'bench-data make-manifest rooms --task halving --split easy --plugin {plugin} --target half --json').stdout)
    manifest = json.loads(Path(made['path']).read_text())
    manifest['files'] = {}         # an older one, which does not say how large its files are
    files = {p.relative_to('rooms').as_posix(): p.read_bytes() for p in Path('rooms').rglob('*.npy')}
    with hub_server(Repository('ada/rooms', {**files, 'manifests/halving/easy.json': json.dumps(manifest).encode()})) as server:
        own = {k: v for k, v in os.environ.items() if k not in ('CALIBRAX_OFFLINE', 'HF_HUB_OFFLINE', 'TRANSFORMERS_OFFLINE')}
        def answer(line):       # in another process: the library reads the address of the hub when it is loaded
            out = subprocess.run([*LAUNCH, *line.split()], capture_output=True, text=True, env={**own, 'HF_ENDPOINT': server.url, 'HF_HOME': f'{here}/hf', 'CALIBRAX_CACHE_DIR': f'{here}/cache'})
            assert out.returncode == 0, out.stdout + out.stderr
            return json.loads(out.stdout)
        told = answer('bench-data info --repo ada/rooms --task halving --split easy --json')
        assert (told['samples'], told['bytes']) == (3, sum(map(len, files.values())))
        plan = answer(f'bench halving --plugin {plugin} --model half --repo ada/rooms --split easy --limit 2 --dry-run --json')
        assert (plan['jobs'][0]['samples'], plan['exit_code']) == (2, 0)
        assert not any(path.endswith('.npy') for _, path in server.asked)
    assert not Path('bench-results').exists() and not Path('benchmark-data').exists()
