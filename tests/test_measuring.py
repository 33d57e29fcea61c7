"A command in a fresh process: what it may do wrong, and what it finds in its environment."
import os, sys, time

import pytest

from calibrax.ci.measuring import DATA, RUN_FILE, Workload
from calibrax.core.errors import ConfigError, ProfilingError, RecordError

RUN = '{"id": "%s", "timestamp": "2026-03-01T12:00:00+00:00", "points": [{"name": "p", "scenario": "s", "metrics": {"x": {"value": 1}}}]}'

def python(code): return [sys.executable, '-c', 'import os, sys\n' + code]

def writes(id='r1'): return python(f'open(os.environ["{RUN_FILE}"], "w").write(\'{RUN % id}\')')


def test_run_file(tmp_path):
    assert Workload(command=writes('r7')).measure(tmp_path).id == 'r7'


def test_store(tmp_path):
    "A command that saves into the store that it is told of, and into no other"
    save = 'from calibrax.storage import Store; from calibrax.core.models import Run; import json; Store(os.environ["%s"]).save(Run.from_dict(json.loads(\'%s\')))'
    assert Workload(command=python(save % (DATA, RUN % 'r8'))).measure(tmp_path).id == 'r8'
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ProfilingError, match='saved 2 runs'): Workload(command=python(save % (DATA, RUN % 'a') + '\n' + save % (DATA, RUN % 'b'))).measure(tmp_path)


def test_text_goes_to_the_shell(tmp_path):
    (tmp_path/'run.json').write_text(RUN % 'r9')
    assert Workload(command=f'test -f run.json && cp run.json "${RUN_FILE}"').measure(tmp_path).id == 'r9'


def test_variables_are_kept_and_added(tmp_path, monkeypatch):
    monkeypatch.setenv('MINE', 'kept')
    check = 'assert (os.environ["MINE"], os.environ["NEW"]) == ("kept", "added")\n'
    assert Workload(command=python(check + writes()[2]), env={'NEW': 'added'}).measure(tmp_path)


def test_python_path_comes_first(tmp_path):
    (tmp_path/'json.py').write_text('raise SystemExit("ours")')
    with pytest.raises(ProfilingError, match='ours'): Workload(command=python('import json')).measure('.', python_path=[tmp_path])


def test_failure_shows_the_end(tmp_path):
    with pytest.raises(ProfilingError) as e: Workload(command=python('for i in range(100): print("line", i)\nsys.exit(3)')).measure(tmp_path, 'round 2 of 8, main (commit 1234abcd)')
    lines = e.value.message.splitlines()
    assert lines[0].startswith('round 2 of 8, main (commit 1234abcd): ') and lines[0].endswith('ended with status 3')
    assert [l.strip() for l in lines[1:]] == [f'| line {i}' for i in range(90, 100)] and e.value.details['status'] == 3


def test_signal_is_named(tmp_path):
    with pytest.raises(ProfilingError, match='was ended by signal SIGSEGV'): Workload(command=python('os.kill(os.getpid(), 11)')).measure(tmp_path)


def test_timeout_ends_the_whole_family(tmp_path):
    "A process that the command started does not stay behind, nor does it hold us up"
    started = time.monotonic()
    with pytest.raises(ProfilingError, match='took longer than 0.5 s'): Workload(command=f'sleep 30 & echo $! > {tmp_path}/pid; echo here; wait', timeout=0.5).measure(tmp_path)
    assert time.monotonic() - started < 10
    pid = int((tmp_path/'pid').read_text())
    for _ in range(50):
        try: state = open(f'/proc/{pid}/stat').read().split()[2]
        except (FileNotFoundError, ProcessLookupError): break
        if state == 'Z': break
        time.sleep(0.05)
    else: pytest.fail('the child is still alive')


@pytest.mark.parametrize('command, error, match', [
    (python(''), ProfilingError, 'wrote no run'), (python(f'open(os.environ["{RUN_FILE}"], "w").write("{{")'), RecordError, 'not JSON'),
    (python(f'open(os.environ["{RUN_FILE}"], "w").write("{{}}")'), RecordError, 'expected a value'), (['no-such-program'], ProfilingError, 'cannot start'),
    ('no-such-program', ProfilingError, 'status 127')])
def test_what_is_no_run(tmp_path, command, error, match):
    with pytest.raises(error, match=match): Workload(command=command).measure(tmp_path)


def test_setup(tmp_path):
    Workload(command='true', setup='touch built').prepare(tmp_path)
    assert (tmp_path/'built').exists()
    with pytest.raises(ProfilingError, match='setup: exit 4 ended with status 4'): Workload(command='true', setup='exit 4').prepare(tmp_path)
    Workload(command='true').prepare(tmp_path)


@pytest.mark.parametrize('fields', [{}, {'command': 'x', 'module': 'm', 'function': 'f'}, {'module': 'm'}, {'command': 'x', 'function': 'f'}, {'command': ''}, {'command': []},
                                    {'command': 'x', 'timeout': 0}])
def test_wrong_workloads(fields):
    with pytest.raises(ConfigError): Workload(**fields)


def test_function_is_profiled(tmp_path):
    "By the installed calibrax, with the module of the folder"
    (tmp_path/'mine.py').write_text('def work(): return sum(range(1000))\n')
    run = Workload(module='mine', function='work', options=('--iterations', '3', '--warmup', '1'), env={'JAX_PLATFORMS': 'cpu'}).measure(tmp_path)
    assert run.points[0].name == 'work' and len(run.points[0].metrics['latency_p50'].samples) == 3
    assert 'mine.py' in os.listdir(tmp_path)


def test_a_folder_that_is_not_there(tmp_path):
    "A commit may lack the folder that the command is run in: that is no fault of the command"
    with pytest.raises(ProfilingError, match='round 1: there is no folder later') as e: Workload(command='true').measure(tmp_path/'later', 'round 1')
    assert 'every commit' in e.value.hint


@pytest.mark.skipif(not hasattr(os, 'killpg'), reason='needs signals')
def test_a_kill_while_the_command_is_being_started_does_not_lose_it(tmp_path, monkeypatch):
    import signal, subprocess
    started, start = [], subprocess.Popen
    def killed_meanwhile(*args, **named):
        started.append(start(*args, **named))
        signal.raise_signal(signal.SIGTERM)     # before the caller knows its process
        return started[-1]
    monkeypatch.setattr(subprocess, 'Popen', killed_meanwhile)
    with pytest.raises(SystemExit) as e: Workload(command='sleep 60').measure(tmp_path)
    assert e.value.code == 128 + signal.SIGTERM and started[0].poll() == -signal.SIGKILL


@pytest.mark.skipif(not hasattr(os, 'killpg'), reason='needs signals')
def test_a_killed_measurement_takes_its_command_along(tmp_path):
    "SIGTERM of a cancelled job ends what was started too, and the program that has a handler of its own keeps it"
    import signal, subprocess
    started = tmp_path/'pid'
    code = f'from calibrax.ci.measuring import Workload; Workload(command="echo $$ > {started}; sleep 60").measure({str(tmp_path)!r})'
    process = subprocess.Popen([sys.executable, '-c', code])
    for _ in range(500):
        if started.exists() and started.read_text().endswith('\n'): break
        time.sleep(0.02)
    process.terminate()
    assert process.wait(20) == 128 + signal.SIGTERM
    with pytest.raises(ProcessLookupError): os.kill(int(started.read_text()), 0)

    seen = []
    old = signal.signal(signal.SIGTERM, lambda n, _: seen.append(n))
    try:
        Workload(command=writes() + ['0']).measure(tmp_path)
        os.kill(os.getpid(), signal.SIGTERM)
        assert seen == [signal.SIGTERM]
    finally: signal.signal(signal.SIGTERM, old)
