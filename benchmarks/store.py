"""How quick a store of ten thousand runs is: the gate, a trend, the index and saving, each beside its target.

    python benchmarks/store.py                 # builds 10,000 runs x 10 metrics in a temporary folder, about half a minute
    python benchmarks/store.py --runs 1000     # smaller

A cold process is a new Python; the caches of the operating system are warm. Saving is compared with what any program has to
do for the same bytes: make a file, write, flush to the disk, close. Both take turns, so that a busy disk meets both."""
import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

from calibrax.core.display import Table
from calibrax.core.models import Metric, MetricDef, Point, Run
from calibrax.core.records import write_json
from calibrax.storage import Store

METRICS = 10
BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
DEFS = {f'metric_{i}': MetricDef(name=f'metric_{i}', unit='ms', direction='lower') for i in range(METRICS)}
ENVIRONMENT = {'cpu': 'AMD EPYC', 'cores': 64, 'ram_gb': 256.0, 'python': '3.12.4', 'jax': '0.6.0', 'devices': ['gpu:0', 'gpu:1']}

# each runs in a process of its own and says on standard error whether JAX came with it
CHECK = "from calibrax.cli.main import main; main(['check', '--data', DATA], standalone_mode=False)"
TREND = "from calibrax.storage import Store; assert len(Store(DATA).extract_trend('metric_3', 'CV-1/small').points) == RUNS"
LAST_TEN = "from calibrax.storage import Store; assert len(Store(DATA).extract_trend('metric_3', 'CV-1/small', n_runs=10).points) == 10"
TAIL = "\nimport sys; print('jax' in sys.modules, file=sys.stderr)"


def run_of(i: int) -> Run:
    metrics = {name: Metric(value=10 + j + (i*7919 % 100)/1000, lower=9.0 + j, upper=11.0 + j) for j, name in enumerate(DEFS)}
    return Run(timestamp=BEGIN + timedelta(minutes=i), commit=f'{i:040x}', branch='main', environment=ENVIRONMENT, metric_defs=DEFS,
               points=(Point(name='CV-1/small', scenario='CV-1', tags={'framework': 'flax'}, metrics=metrics),))


def process(code: str, folder: Path, runs: int) -> tuple[float, float, bool]:
    "Seconds, MB at most, and whether JAX was imported, of a fresh Python that executes `code`"
    text = f'DATA, RUNS = {str(folder)!r}, {runs}\n{code}{TAIL}'
    begin = time.perf_counter()
    child = subprocess.Popen([sys.executable, '-c', text], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    assert child.stderr
    said = child.stderr.read()
    _, status, used = os.wait4(child.pid, 0)
    seconds = time.perf_counter() - begin
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode: sys.exit(f'{code}\nended with {child.returncode}:\n{said}')
    return seconds, used.ru_maxrss/(1024 if sys.platform != 'darwin' else 1024**2), said.split()[-1] == 'True'


def cold(code: str, folder: Path, runs: int, rounds: int) -> tuple[float, float, bool]:
    "Median seconds, most MB and whether JAX ever came, of several fresh processes"
    found = [process(code, folder, runs) for _ in range(rounds)]
    return statistics.median(f[0] for f in found), max(f[1] for f in found), any(f[2] for f in found)


def warm(call, rounds: int) -> float:
    "Median seconds of a call in this process"
    times = []
    for _ in range(rounds):
        begin = time.perf_counter()
        call()
        times.append(time.perf_counter() - begin)
    return statistics.median(times)


def bare_write(path: Path, data: bytes) -> None:
    "What the same bytes cost at least"
    with open(path, 'xb') as f:
        f.write(data)
        f.flush()
        os.fsync(f.fileno())


def saving(store: Store, folder: Path, first: int, rounds: int) -> tuple[float, float]:
    "Median seconds of a save and of a bare write of as many bytes, in turns, each after the same pause: a disk that slept is slower"
    folder.mkdir()
    data = write_json({'schema_version': 1, **run_of(first).to_dict()})
    seconds = {'save': [], 'write': []}
    for i in range(first, first + rounds):
        run = run_of(i)
        calls = [('save', lambda: store.save(run)), ('write', lambda: bare_write(folder/f'{i}.json', data))]
        for name, call in calls[::1 if i % 2 else -1]:
            time.sleep(.003)
            begin = time.perf_counter()
            call()
            seconds[name].append(time.perf_counter() - begin)
    return statistics.median(seconds['save']), statistics.median(seconds['write'])


def main() -> None:
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument('--runs', type=int, default=10_000, help='how many runs the store holds (default 10000)')
    ask.add_argument('--rounds', type=int, default=7, help='repetitions of each measurement; saving has a hundred times as many (default 7)')
    ask.add_argument('--folder', help='where to build the store, e.g. on the disk in question (default: a temporary folder)')
    options = ask.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as temporary:
        root, data, n, rounds = Path(temporary), Path(temporary)/'benchmark-data', options.runs, options.rounds
        os.environ['CALIBRAX_CACHE_DIR'] = str(root/'cache')
        store = Store(data)
        print(f'saving {n} runs of {METRICS} metrics ...', flush=True)
        begin = time.perf_counter()
        ids = [run.id for run in map(run_of, range(n)) if store.save(run)]
        print(f'{(time.perf_counter() - begin)/n*1e3:.2f} ms a run, making it included', flush=True)
        store.set_baseline(ids[0])
        time.sleep(.5)      # files that changed just now are read once more next time

        check, check_mb, check_jax = cold(CHECK, data, n, rounds)       # nobody has asked the index yet
        rebuild = warm(store.metric_names, 1)
        trend, trend_mb, trend_jax = cold(TREND, data, n, rounds)
        last_ten, _, _ = cold(LAST_TEN, data, n, rounds)
        save, write = saving(store, root/'bare', n, 100*rounds)
        rows = [
            ('calibrax check, cold process', f'{check:.3f} s', '<= 0.45 s', check <= .45),
            ('   its memory', f'{check_mb:.0f} MB', '<= 80 MB', check_mb <= 80),
            ('   imports JAX', str(check_jax), 'False', not check_jax),
            (f'trend over {n} runs, cold process', f'{trend:.3f} s', '<= 0.3 s', trend <= .3),
            ('   its last 10 runs, cold process', f'{last_ten:.3f} s', '<= 0.3 s', last_ten <= .3),
            ('   over all runs, in this process', f'{warm(lambda: store.extract_trend("metric_3", "CV-1/small"), rounds):.3f} s', '', True),
            ('   its memory', f'{trend_mb:.0f} MB', '', True),
            ('   imports JAX', str(trend_jax), 'False', not trend_jax),
            ('index built from nothing', f'{rebuild:.2f} s', '<= 10 s', rebuild <= 10),
            ('latest run', f'{warm(store.latest, rounds)*1e3:.1f} ms', '', True),
            ('runs, newest 20', f'{warm(lambda: store.runs(limit=20), rounds)*1e3:.0f} ms', '', True),
            ('all runs, loaded', f'{warm(store.list_runs, 1):.2f} s', '', True),
            ('saving a run', f'{save*1e3:.2f} ms', '', True),
            ('a bare write of its bytes, flushed', f'{write*1e3:.2f} ms', '', True),
            ('   ratio', f'{save/write:.2f}', '<= 2', save/write <= 2),
        ]
    print(Table(('what', 'measured', 'target', ''), tuple((*r[:3], '' if not r[2] else 'ok' if r[3] else 'MISSED') for r in rows),
                f'A store of {n} runs x {METRICS} metrics, medians of {rounds} rounds, Python {sys.version.split()[0]}'))
    sys.exit(not all(r[3] for r in rows))


if __name__ == '__main__': main()
