"""Many writers at once, and writers that are killed: nothing that was acknowledged is lost, nothing is ever half there.

The writers are forked from one small process that has imported the store (and neither NumPy nor JAX), so that two hundred
of them start within seconds."""
import os
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta

import pytest

from calibrax.core.models import Run
from calibrax.storage import Store
from calibrax.storage.store import Trouble

pytestmark = pytest.mark.skipif(not hasattr(os, 'fork'), reason='forks its writers')

# what all scripts begin with: a run follows from its id alone, so that whoever reads it knows what it must hold
COMMON = '''
import os, random, signal, sys, time
from datetime import UTC, datetime, timedelta
from calibrax.core.errors import StoreError
from calibrax.core.models import Metric, Point, Run
from calibrax.storage import Store

def run_of(id, size=20_000):
    n = int(id.split('-')[1])
    return Run(id=id, timestamp=datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=n), metadata={'text': f'{n:x}'*size},
               points=[Point(name='p', scenario='s', metrics={'latency': Metric(value=n)})])

def child(work):
    "Do some work in a process of its own"
    pid = os.fork()
    if pid: return pid
    try:
        work()
        os._exit(0)
    except BaseException as e:
        print(repr(e), file=sys.stderr, flush=True)
        os._exit(1)

def say(*words): os.write(log, (' '.join(words) + chr(10)).encode())     # one short write: whole lines, whoever else writes

if sys.argv[3] == 'elsewhere' and hasattr(os, 'O_TMPFILE'): del os.O_TMPFILE     # as on systems without files that have no name
folder, log = sys.argv[1], os.open(sys.argv[2], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
'''
scope: dict = {}
exec(COMMON.split('if sys.argv')[0], scope)
run_of = scope['run_of']

def start(script, *arguments):
    return subprocess.Popen([sys.executable, '-c', COMMON + script, *map(str, arguments)], stderr=subprocess.PIPE, text=True)

def finish(process, timeout=120):
    said = process.communicate(timeout=timeout)[1]
    assert process.returncode == 0 and said == '', said


# --- many at once ----------------------------------------------------------------------------------------------------------

SIXTEEN = '''
def work(k):
    store = Store(folder)
    for i in range(20):
        id = f'w{k}-{i}'
        store.save(run_of(id, 500))
        say('saved', id)
        try:        # all of them want this one, each another run
            store.save(Run(id=f'shared{i}', timestamp=datetime(2027, 1, 1 + k, tzinfo=UTC), points=[], metadata={'by': k}))
            say('won', f'shared{i}', str(k))
        except StoreError: pass
        store.set_baseline(id)
        assert store.load(id).id == id and len(store.runs(limit=3)) >= 1

children = [child(lambda: work(k)) for k in range(16)]
sys.exit(max(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children))
'''

@pytest.mark.parametrize('system', ['linux', 'elsewhere'])
def test_sixteen_writers_lose_nothing(tmp_path, system):
    finish(start(SIXTEEN, tmp_path/'bench', tmp_path/'log', system))
    lines = [l.split() for l in (tmp_path/'log').read_text().splitlines()]
    store, saved, won = Store(tmp_path/'bench'), [l[1] for l in lines if l[0] == 'saved'], {l[1]: int(l[2]) for l in lines if l[0] == 'won'}
    assert len(saved) == len(set(saved)) == 320 and len(won) == sum(l[0] == 'won' for l in lines) == 20
    runs = {r.id: r for r in store.list_runs()}
    assert len(runs) == 340 == len(list((tmp_path/'bench'/'runs').iterdir())) and {r.id for r in store.runs()} == runs.keys()
    assert all(runs[id] == run_of(id, 500) for id in saved) and all(runs[id].metadata['by'] == k for id, k in won.items())
    history = store.baseline_history()
    assert len(history) == 320 and {c.run_id for c in history} == set(saved)
    assert store.get_baseline().id == history[-1].run_id and [c.previous_id for c in history[1:]] == [c.run_id for c in history[:-1]]
    assert store.fsck().findings == ()


# --- killed ------------------------------------------------------------------------------------------------------------------

KILLED = '''
name, kills, dice = sys.argv[4], int(sys.argv[5]), random.Random(sys.argv[4])

def work(first):
    store = Store(folder)
    for n in range(first, first + 1000):
        id = f'{name}-{n}'
        store.save(run_of(id))
        say('saved', id)
        say('wants', id)
        store.set_baseline(id, name, reason=id)
        say('set', id)
        if n % 3 == 0: store.runs(limit=1)

begin = time.perf_counter()
Store(folder).save(run_of(f'{name}-1000000')), Store(folder).set_baseline(f'{name}-1000000', name)
longest = max(.08, 8*(time.perf_counter() - begin))      # a busy machine gets more time

for k in range(kills):
    pid = child(lambda: work(1000*k))
    time.sleep(dice.uniform(0, longest))
    os.kill(pid, signal.SIGKILL)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL
'''

@pytest.mark.parametrize('system', ['linux', 'elsewhere'])
def test_two_hundred_kills_lose_nothing(tmp_path, system):
    killers = [start(KILLED, tmp_path/'bench', tmp_path/f'log-{name}', system, name, 100) for name in ('x', 'y')]
    store, seen = Store(tmp_path/'bench'), 0
    while any(k.poll() is None for k in killers):       # a reader meanwhile sees whole runs only
        for run in store.list_runs(limit=5):
            assert run == run_of(run.id)
            seen += 1
        time.sleep(.05)
    for k in killers: finish(k)
    store, expected = Store(tmp_path/'bench'), set()
    for name in ('x', 'y'):
        lines = [l.split() for l in (tmp_path/f'log-{name}').read_text().splitlines()]
        saved, done = [l[1] for l in lines if l[0] == 'saved'], [l[1] for l in lines if l[0] == 'set']
        assert len(saved) > 20 and len(done) > 5, 'the writers were killed before they came to anything'
        expected.update(saved)
        # the baseline is the last acknowledged one, or the one that was being set
        wanted = [l[1] for l in lines if l[0] == 'wants']
        now = store.get_baseline(name)
        assert now == run_of(now.id) and now.id in wanted[wanted.index(done[-1]):]
        assert {c.reason for c in store.baseline_history(name)} >= set(done)
    runs = {r.id: r for r in store.list_runs()}
    assert runs.keys() >= expected and all(run == run_of(id) for id, run in runs.items()) and {r.id for r in store.runs()} == runs.keys()
    report = store.fsck()
    assert all(f.trouble is Trouble.LEFTOVER for f in report.findings), report
    assert seen
    # the next writer is not held up, and goes on as if nothing had been
    begin = time.monotonic()
    store.save(Run(id='after', timestamp=datetime(2026, 1, 1, tzinfo=UTC) - timedelta(days=1), points=[]))
    assert time.monotonic() - begin < 5 and store.load('after').points == ()
