"Environment and git capture: never raises, never tells secrets, sees through unusual repositories."
import json
import os
import subprocess
import sys
import types
from pathlib import Path

import pytest

from calibrax.core import environment as module
from calibrax.core.environment import GitState, capture_environment, capture_git, environment_differences
from calibrax.core.models import Run
from calibrax.core.record_values import frozen_metadata

CI_VARIABLES = [*module._CI, *module._CI_BRANCH, 'GITHUB_REF']


@pytest.fixture(autouse=True)
def no_ci(monkeypatch):
    for name in CI_VARIABLES: monkeypatch.delenv(name, raising=False)


# the environment

def test_survives_a_run_in_json():
    found = capture_environment()
    run = Run(points=(), environment=found, metadata={'environment': found})
    again = Run.from_json(run.to_json())
    assert again == run and again.environment == found == frozen_metadata(found)
    assert environment_differences(found, again.environment) == ()
    assert json.loads(json.dumps(found)) == found


def test_what_it_says_of_this_machine():
    found = capture_environment()
    assert found['python'] == '.'.join(map(str, sys.version_info[:3]))
    assert {'calibrax', 'jax', 'jaxlib', 'flax', 'numpy'} <= set(found['packages'])
    assert 0 < found['cores_usable'] <= found['cores_logical'] and found['memory_gb'] > 0 and found['cpu']
    import jax
    assert sum(d['count'] for d in found['devices']) == jax.device_count()


def test_without_devices_jax_is_not_imported():
    code = ('import sys; from calibrax.core.environment import capture_environment, capture_git;'
            'capture_environment(devices=False); capture_git(); print("jax" in sys.modules, "numpy" in sys.modules)')
    assert subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True).stdout.split() == ['False', 'False']


def test_a_part_that_fails_costs_only_itself(monkeypatch):
    broken = types.SimpleNamespace(devices=lambda: 1/0)
    monkeypatch.setitem(sys.modules, 'jax', broken)
    monkeypatch.setitem(sys.modules, 'psutil', None)    # as if it were not installed
    monkeypatch.setattr(module.platform, 'freedesktop_os_release', lambda: 1/0, raising=False)
    found = capture_environment()
    assert found['devices'] is None and found['python'] and 'memory_gb' not in found and found['os']


def test_devices_are_counted_by_kind(monkeypatch):
    def device(kind, memory): return types.SimpleNamespace(platform='gpu', device_kind=kind, memory_stats=lambda: memory)
    devices = [device('NVIDIA H100', {'bytes_limit': 60*2**30})]*2 + [device('NVIDIA L4', None)]
    monkeypatch.setitem(sys.modules, 'jax', types.SimpleNamespace(devices=lambda: devices))
    assert capture_environment()['devices'] == [{'platform': 'gpu', 'kind': 'NVIDIA H100', 'count': 2, 'memory_gb': 60.0},
                                                {'platform': 'gpu', 'kind': 'NVIDIA L4', 'count': 1, 'memory_gb': None}]


@pytest.mark.parametrize('driver', ['570.86', b'570.86'])
def test_the_driver_comes_from_pynvml(monkeypatch, driver):
    closed = []
    fake = types.SimpleNamespace(nvmlInit=lambda: None, nvmlSystemGetDriverVersion=lambda: driver, nvmlShutdown=lambda: closed.append(1))
    monkeypatch.setitem(sys.modules, 'pynvml', fake)
    assert capture_environment()['gpu_driver'] == '570.86' and closed


@pytest.mark.parametrize('name, value', [
    ('JAX_API_TOKEN', 'x'), ('XLA_SECRET', 'x'), ('JAX_PASSWORD', 'x'), ('NCCL_AUTH', 'x'), ('JAX_KEY', 'x'), ('WANDB_API_KEY', 'x'), ('AWS_REGION', 'x'),
    ('HOME', '/home/ada'), ('JAX_COORDINATOR_ADDRESS', 'https://ada:hunter2@host'), ('JAX_A', 'ghp_abcdefghijklmnopqrst'), ('JAX_A', 'AKIAIOSFODNN7EXAMPLE'),
    ('JAX_A', 'sk-proj-abcdefghijklmnop'), ('JAX_A', 's3://bucket?Token=abc'), ('JAX_A', '4f2a91c04f2a91c04f2a91c04f2a91c0'),
    ('JAX_A', 'eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.e30'), ('JAX_A', '-----BEGIN PRIVATE KEY-----')])
def test_secrets_and_private_variables_are_left_out(monkeypatch, name, value):
    monkeypatch.setenv(name, value)
    found = capture_environment(devices=False)
    assert name not in found['variables'] and (len(value) < 5 or value not in json.dumps(found))


@pytest.mark.parametrize('name, value', [
    ('XLA_FLAGS', '--xla_force_host_platform_device_count=8 --xla_dump_to=/tmp/Dump2024'), ('JAX_PLATFORMS', 'cpu'), ('OMP_NUM_THREADS', '4'),
    ('CUDA_VISIBLE_DEVICES', 'GPU-8932f937-d72c-4106-c12f-20bd9faed9f6'), ('NVIDIA_TF32_OVERRIDE', '0'),
    ('LD_PRELOAD', '/usr/lib/x86_64-linux-gnu/libtcmalloc.so.4')])
def test_settings_are_kept(monkeypatch, name, value):
    monkeypatch.setenv(name, value)
    assert capture_environment(devices=False)['variables'][name] == value


def test_ci_is_named(monkeypatch):
    assert capture_environment(devices=False)['ci'] is None
    monkeypatch.setenv('CI', 'true')
    monkeypatch.setenv('GITLAB_CI', 'true')
    assert capture_environment(devices=False)['ci'] == 'GitLab CI'


def test_differences_in_sentences():
    before = {'cpu': 'EPYC 7B13', 'python': '3.11.7', 'kernel': '6.8.0-1', 'packages': {'jax': '0.9.0', 'flax': '0.12'}, 'variables': {'JAX_ENABLE_X64': '1'}}
    after = {'cpu': 'Xeon 8481C', 'python': '3.12.1', 'kernel': '6.8.0-9', 'packages': {'jax': '0.10.2'}, 'variables': {'JAX_TRACEBACK_FILTERING': 'off'}}
    assert environment_differences(before, after) == (
        'cpu: EPYC 7B13 → Xeon 8481C', 'python: 3.11.7 → 3.12.1', 'jax: 0.9.0 → 0.10.2', 'JAX_ENABLE_X64: 1 → not set')


@pytest.mark.parametrize('before, after', [({}, {'cpu': 'a'}), ({'cpu': None}, {'cpu': 'a'}), ({'note': 1}, {'note': 2}), ({'packages': 'none'}, {'packages': {'jax': '1'}}),
                                           ({'variables': {}}, {}), ({'devices': [3]}, {'devices': [{'kind': 'cpu'}]}), ({'ci': 'CI'}, {'ci': None})])
def test_nothing_is_said_where_one_side_recorded_nothing(before, after):
    assert environment_differences(before, after) == environment_differences(after, before) == ()


# git

def git(folder, *arguments):
    identity = ('-c', 'user.name=Ada', '-c', 'user.email=ada@example.com', '-c', 'commit.gpgsign=false', '-c', 'protocol.file.allow=always')
    return subprocess.run(['git', '-C', str(folder), *identity, *arguments], check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def repository(tmp_path):
    folder = tmp_path/'repository'
    folder.mkdir()
    git(folder, 'init', '-b', 'trunk')
    (folder/'a.py').write_text('1\n')
    git(folder, 'add', '.')
    git(folder, 'commit', '-m', 'one')
    return folder


def test_clean_and_dirty(repository):
    head = git(repository, 'rev-parse', 'HEAD')
    assert capture_git(repository) == GitState(commit=head, branch='trunk', dirty=False)
    (repository/'results.json').write_text('not tracked')
    assert capture_git(repository).dirty is False
    (repository/'a.py').write_text('2\n')
    assert capture_git(str(repository)) == GitState(commit=head, branch='trunk', dirty=True)
    git(repository, 'add', '.')
    assert capture_git(repository/'a.py').dirty is True      # staged; a file stands for its folder


def test_inside_a_folder_of_the_tree(repository, monkeypatch):
    (repository/'deep'/'er').mkdir(parents=True)
    assert capture_git(repository/'deep'/'er').branch == 'trunk'
    monkeypatch.chdir(repository/'deep')
    assert capture_git().branch == 'trunk'


def test_no_repository_no_folder_no_git(tmp_path, repository, monkeypatch):
    monkeypatch.setenv('GIT_CEILING_DIRECTORIES', str(tmp_path.parent))
    assert capture_git(tmp_path) == capture_git(tmp_path/'none') == capture_git('bad\0name') == GitState()
    monkeypatch.setenv('PATH', str(tmp_path))
    assert capture_git(repository) == GitState()


def test_before_the_first_commit(tmp_path):
    git(tmp_path, 'init', '-b', 'feature/x')
    assert capture_git(tmp_path) == GitState(commit=None, branch='feature/x', dirty=False)
    (tmp_path/'a').write_text('a')
    git(tmp_path, 'add', '.')
    assert capture_git(tmp_path).dirty is True


def test_detached_takes_the_branch_of_the_ci_system(repository, monkeypatch):
    git(repository, 'checkout', '--detach')
    assert capture_git(repository).branch is None
    monkeypatch.setenv('GITHUB_REF', 'refs/heads/release/2')
    assert capture_git(repository).branch == 'release/2'
    monkeypatch.setenv('GITHUB_HEAD_REF', 'topic')
    assert capture_git(repository).branch == 'topic'
    git(repository, 'checkout', 'trunk')
    assert capture_git(repository).branch == 'trunk'


def test_worktrees_bare_clones_and_submodules(repository, tmp_path):
    head = git(repository, 'rev-parse', 'HEAD')
    git(repository, 'worktree', 'add', '-b', 'side', str(tmp_path/'side'))
    assert capture_git(tmp_path/'side') == GitState(commit=head, branch='side', dirty=False)
    git(tmp_path, 'clone', '--bare', str(repository), 'bare.git')
    assert capture_git(tmp_path/'bare.git') == GitState(commit=head, branch='trunk', dirty=None)
    git(repository, 'submodule', 'add', str(tmp_path/'bare.git'), 'inner')
    git(repository, 'commit', '-m', 'inner')
    assert capture_git(repository).dirty is False and capture_git(repository/'inner').commit == head
    (repository/'inner'/'new').write_text('not tracked')
    assert capture_git(repository).dirty is False


def test_variables_and_settings_do_not_mislead(repository, tmp_path, monkeypatch):
    other = tmp_path/'other'
    other.mkdir()
    git(other, 'init', '-b', 'wrong')
    config = tmp_path/'config'
    config.write_text('[status]\n short = true\n branch = false\n showUntrackedFiles = all\n[core]\n pager = false\n fsmonitor = /no/such/program\n'
                      '[color]\n ui = always\n[column]\n ui = always\n[alias]\n status = log\n')
    expected = capture_git(repository)
    monkeypatch.setenv('GIT_CONFIG_GLOBAL', str(config))
    for name, value in {'GIT_DIR': str(other/'.git'), 'GIT_WORK_TREE': str(other), 'GIT_INDEX_FILE': str(tmp_path/'index'), 'GIT_PAGER': 'false',
                        'LANGUAGE': 'de', 'LC_ALL': 'de_DE.UTF-8', 'GIT_TRACE': '1'}.items(): monkeypatch.setenv(name, value)
    assert capture_git(repository) == expected and expected.branch == 'trunk'


def test_at_most_two_subprocesses_and_none_may_hang(repository, monkeypatch):
    calls, run = [], subprocess.run
    def counted(command, **options):
        calls.append(command)
        assert options['timeout'] <= 20
        return run(command, **options)
    monkeypatch.setattr(module.subprocess, 'run', counted)
    capture_git(repository)
    assert len(calls) == 1
    monkeypatch.setattr(module.subprocess, 'run', lambda *a, **k: (_ for _ in ()).throw(subprocess.TimeoutExpired('git', 1)))
    assert capture_git(repository) == GitState()


def test_a_tree_too_large_to_look_through_still_has_a_commit(repository, monkeypatch):
    run = subprocess.run
    def slow_status(command, **options):
        if 'status' in command: raise subprocess.TimeoutExpired('git', 1)
        return run(command, **options)
    monkeypatch.setattr(module.subprocess, 'run', slow_status)
    state = capture_git(repository)
    assert (len(state.commit), state.branch, state.dirty) == (40, 'trunk', None)


def test_names_that_are_not_utf8(repository):
    if sys.platform != 'linux': pytest.skip('the file system refuses such names')
    made = subprocess.run(['git', '-C', str(repository), 'checkout', '-b', os.fsdecode(b'caf\xe9')], capture_output=True)
    if made.returncode: pytest.skip('git refuses such names')
    state = capture_git(repository)
    assert state.branch.startswith('caf') and GitState.from_json(state.to_json()) == state


def test_cpu_models_of_other_machines(monkeypatch):
    monkeypatch.setattr(module.platform, 'system', lambda: 'Darwin')
    monkeypatch.setattr(module.platform, 'mac_ver', lambda: ('15.2', ('', '', ''), 'arm64'))
    monkeypatch.setattr(module.subprocess, 'run', lambda *a, **k: types.SimpleNamespace(stdout='Apple M3 Pro\n'))
    found = capture_environment(devices=False)
    assert (found['cpu'], found['os']) == ('Apple M3 Pro', 'macOS 15.2')
    assert module._cpu_model('Hardware\t: BCM2835\nModel\t: Raspberry Pi 4') == 'Raspberry Pi 4'
    assert module._cpu_model('') and isinstance(module._cpu_model(''), str)


def test_quotas_that_cannot_be_read(tmp_path):
    for text in ('', 'max', 'x y', '0 0', '100000'):
        (tmp_path/'proc/self').mkdir(parents=True, exist_ok=True)
        (tmp_path/'sys/fs/cgroup').mkdir(parents=True, exist_ok=True)
        Path(tmp_path, 'proc/self/cgroup').write_text('0::/../..\nnonsense\n')
        Path(tmp_path, 'sys/fs/cgroup/cpu.max').write_text(text)
        assert module._cpu_quota(tmp_path) is None
