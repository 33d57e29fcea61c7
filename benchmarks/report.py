"""How quick `calibrax report` is, and how large its file: 1,000 runs x 50 series, from the store to the file, beside the targets.

    python benchmarks/report.py                # builds the store in a temporary folder, some seconds
    python benchmarks/report.py --runs 100     # smaller

Each series has an interval and ten samples a run, and some have change points. The first report of a machine also makes the scripts of
Vega-Lite for the user's cache folder; that process is measured on its own. A cold process is a new Python; the caches of the
operating system are warm, the index of the store is new."""
import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np

from calibrax.core.display import Table
from calibrax.core.models import Metric, MetricDef, Point, Run
from calibrax.exporters.report import write_report
from calibrax.exporters.report_charts import trend_chart, vega_bundle
from calibrax.exporters.report_data import collect_report
from calibrax.storage import Store

METRICS = {'latency': ('ms', 'lower'), 'throughput': ('elem/s', 'higher'), 'memory': ('MB', 'lower'), 'compile_time': ('s', 'lower'), 'energy': ('J', 'lower')}
DEFS = {name: MetricDef(name=name, unit=unit, direction=direction) for name, (unit, direction) in METRICS.items()}
POINTS = [(f'CV-{i}/small', framework) for i in range(1, 6) for framework in ('Datarax', 'Grain')]
ENVIRONMENT = {'cpu': 'AMD EPYC', 'cores_usable': 64, 'memory_gb': 256.0, 'python': '3.12.4', 'packages': {'jax': '0.9.0'}, 'devices': [{'kind': 'A100', 'count': 2}]}

# runs in a process of its own, and says how much of its time went into imports
REPORT = """
import sys, time
begin = time.perf_counter()
from calibrax.exporters.report import write_report
from calibrax.storage import Store
imported = time.perf_counter() - begin
write_report(Store(DATA), OUTPUT)
print(f'{imported:.3f} {"jax" in sys.modules} {"altair" in sys.modules}')
"""


def build(folder: Path, runs: int) -> None:
    "A store in which every fifth series changes its level"
    rng, store, series = np.random.default_rng(0), Store(folder), len(POINTS)*len(METRICS)
    level, size = rng.uniform(5, 500, series), np.where(np.arange(series) % 5 == 0, 0.1, 0)
    for i in range(runs):
        samples = (level*(1 + size*(i > runs//2)))[:, None]*(1 + 0.02*rng.standard_normal((series, 10)))
        metrics = [Metric(value=s.mean(), lower=s.mean()*0.98, upper=s.mean()*1.02, samples=s) for s in samples]
        points = [Point(name=name, scenario=name.partition('/')[0], tags={'framework': framework}, metrics=dict(zip(METRICS, metrics[j*len(METRICS):])))
                  for j, (name, framework) in enumerate(POINTS)]
        store.save(Run(id=f'run{i:05d}', timestamp=datetime(2025, 1, 1, tzinfo=UTC) + timedelta(hours=i), commit=f'{i*2654435761 % 2**40:010x}', branch='main',
                       environment=ENVIRONMENT, metric_defs=DEFS, points=points))
    store.set_baseline(f'run{max(0, runs - 20):05d}')


def process(data: Path, output: Path, cache: Path) -> tuple[float, float, float, str, float]:
    "Seconds, MB at most, seconds of imports, which large packages came along, and seconds of CPU, of a fresh Python that writes a report"
    begin = time.perf_counter()
    child = subprocess.Popen([sys.executable, '-c', f'DATA, OUTPUT = {str(data)!r}, {str(output)!r}\n{REPORT}'], stdout=subprocess.PIPE, text=True,
                             env={**os.environ, 'CALIBRAX_CACHE_DIR': str(cache)})
    assert child.stdout
    said = child.stdout.read().split()
    _, status, used = os.wait4(child.pid, 0)
    seconds = time.perf_counter() - begin
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode: sys.exit(f'the report ended with {child.returncode}')
    return seconds, used.ru_maxrss/(1024 if sys.platform != 'darwin' else 1024**2), float(said[0]), ', '.join(n for n, came in zip(('jax', 'altair'), said[1:]) if came == 'True') or 'none', used.ru_utime + used.ru_stime


def timed(call, rounds: int) -> float:
    "Median seconds of a call in this process"
    times = []
    for _ in range(rounds):
        begin = time.perf_counter()
        call()
        times.append(time.perf_counter() - begin)
    return statistics.median(times)


def main() -> None:
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument('--runs', type=int, default=1000, help='how many runs of 50 series the store holds (default 1000)')
    ask.add_argument('--rounds', type=int, default=5, help='repetitions of each measurement, of which the median counts (default 5)')
    ask.add_argument('--keep', help='copy the report to this file, to look at it')
    options = ask.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        root, data, output = Path(temporary), Path(temporary)/'benchmark-data', Path(temporary)/'report.html'
        os.environ['CALIBRAX_CACHE_DIR'] = str(root/'cache')
        print(f'saving {options.runs} runs of {len(POINTS)*len(METRICS)} series ...', flush=True)
        build(data, options.runs)

        firsts = [process(data, output, root/f'cache-{i}') for i in range(options.rounds)]      # neither index nor scripts are there
        cold = [process(data, output, root/'cache-0') for _ in range(options.rounds)]
        def middle(found, i): return statistics.median(row[i] for row in found)
        first, seconds, mb = middle(firsts, 0), middle(cold, 0), max(c[1] for c in (*firsts, *cold))
        warm = timed(lambda: write_report(Store(data), output), options.rounds)
        collect = timed(lambda: collect_report(Store(data)), options.rounds)
        report = collect_report(Store(data))
        chart, bundle, size = timed(lambda: trend_chart(report), options.rounds), timed(vega_bundle, options.rounds), output.stat().st_size/1e6
        if options.keep: shutil.copy(output, options.keep)
        rows = [
            ('first report on a machine, cold process', f'{first:.2f} s', '<= 5 s', first <= 5), ('   its CPU time', f'{middle(firsts, 4):.2f} s', '', None),
            ('report, cold process', f'{seconds:.2f} s', '<= 5 s', seconds <= 5), ('   its CPU time', f'{middle(cold, 4):.2f} s', '', None),
            ('   of it imports', f'{middle(cold, 2):.2f} s', '', None),
            ('memory of a process', f'{mb:.0f} MB', '<= 500 MB', mb <= 500),
            ('large packages imported', cold[0][3], 'none', cold[0][3] == 'none'),
            ('report, warm process', f'{warm:.2f} s', '<= 5 s', warm <= 5),
            ('   of it reading, comparing, change points', f'{collect:.2f} s', '', None),
            ('   of it the data of the trend chart', f'{chart:.3f} s', '', None),
            ('   of it the scripts of Vega-Lite, kept', f'{bundle*1e3:.1f} ms', '', None),
            ('size of the file', f'{size:.2f} MB', '<= 5 MB', size <= 5),
        ]
        print(Table(('measured', 'result', 'target', ''), tuple((name, value, target, {True: 'ok', False: 'MISSED', None: ''}[ok]) for name, value, target, ok in rows),
                    f'{options.runs} runs of {len(POINTS)*len(METRICS)} series, {len(report.events)} change points, drifts and suspect ends; medians of {options.rounds}'))
        if any(ok is False for *_, ok in rows): sys.exit(1)


if __name__ == '__main__': main()
