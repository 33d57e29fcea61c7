"""How long a gate takes to answer when a project has kept its results for years: `calibrax check` beside pytest-benchmark.

    python benchmarks/peers_check.py --runs 9999      # `make peers` runs it with 2000

Both stores hold the same number of runs of ten values. pytest-benchmark's gate is a run of pytest with `--benchmark-compare`;
its ten benchmarks here call an empty function once, and a run without the comparison is measured, too, so that what remains is
the gate's own. calibrax compares the latest run with its baseline. Each answer comes from a new process, in turns; medians.
pytest-benchmark numbers its files with four digits, so 9,999 runs are the most that it finds again."""
import argparse
import json
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
from calibrax.storage import Store

VALUES = 10
STATISTICS = {'min': 1.0, 'max': 1.2, 'mean': 1.1, 'stddev': 0.01, 'rounds': 20, 'median': 1.1, 'iqr': 0.01, 'q1': 1.09, 'q3': 1.11,
              'iqr_outliers': 0, 'stddev_outliers': 0, 'outliers': '0;0', 'ld15iqr': 1.0, 'hd15iqr': 1.2, 'ops': 0.9, 'total': 22.0, 'iterations': 1}


def pytest_benchmark_file(i: int) -> str:
    "A saved run as pytest-benchmark writes it, without raw data, which is its default"
    benchmarks = [{'group': None, 'name': f'test[{j}]', 'fullname': f'test_a.py::test[{j}]', 'params': None, 'param': None, 'extra_info': {},
                   'options': {'disable_gc': False, 'timer': 'perf_counter', 'min_rounds': 5, 'max_time': 1.0, 'min_time': 5e-06, 'warmup': False},
                   'stats': STATISTICS} for j in range(VALUES)]
    return json.dumps({'machine_info': {'node': 'a', 'cpu': {'brand_raw': 'x', 'count': 2}}, 'commit_info': {'id': f'{i:040x}', 'dirty': False},
                       'benchmarks': benchmarks, 'datetime': '2026-01-01T00:00:00+00:00', 'version': '5.0.0'})


def ours(i: int) -> Run:
    "A run of as many values"
    defs = {f'm{j}': MetricDef(name=f'm{j}', unit='s', direction='lower') for j in range(VALUES)}
    return Run(timestamp=datetime(2026, 1, 1, tzinfo=UTC) + timedelta(minutes=i), metric_defs=defs,
               points=(Point(name='a', scenario='s', metrics={name: Metric(value=1.1) for name in defs}),))


def seconds(command: list[str], folder: Path) -> float:
    begin = time.perf_counter()
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    if done.returncode: sys.exit(f'{command} ended with {done.returncode}:\n{done.stdout}{done.stderr}')
    return time.perf_counter() - begin


def main() -> None:
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument('--runs', type=int, default=2000, help='how many runs both stores hold (default 2000)')
    ask.add_argument('--rounds', type=int, default=5, help='answers of each (default 5)')
    options = ask.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ['CALIBRAX_CACHE_DIR'] = str(folder/'cache')
        store, kept = Store(folder/'benchmark-data'), folder/'.benchmarks/Linux-CPython-3.11-64bit'
        kept.mkdir(parents=True)
        for i in range(options.runs):
            (kept/f'{i + 1:04d}_run.json').write_text(pytest_benchmark_file(i))
            store.save(run := ours(i))
            if not i: store.set_baseline(run.id)
        bin = Path(sys.executable).parent
        (folder/'test_a.py').write_text('import pytest\n@pytest.mark.parametrize("i", range(10))\n'
                                        'def test(benchmark, i): benchmark.pedantic(lambda: None, rounds=1)\n')
        pytest = [str(bin/'pytest'), '-q', '-p', 'no:cacheprovider', 'test_a.py']
        tools = {'calibrax check': [str(bin/'calibrax'), 'check'], 'pytest, measuring only': pytest,
                 'pytest --benchmark-compare': [*pytest, '--benchmark-compare']}
        times: dict[str, list[float]] = {tool: [] for tool in tools}
        for _ in range(options.rounds):
            for tool, command in tools.items(): times[tool].append(seconds(command, folder))
        medians = {tool: statistics.median(t) for tool, t in times.items()}
        print(Table(('tool', f'seconds with {options.runs} runs', 'beside calibrax'),
                    tuple((tool, f'{s:.3f}', f'{s/medians["calibrax check"]:.1f}') for tool, s in medians.items())))


if __name__ == '__main__': main()
