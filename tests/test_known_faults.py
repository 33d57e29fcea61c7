"Wrong answers of calibrax 0.1 that ours must not give: the data model, the store, the gate and the command line."
import json
import math
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
from click.testing import CliRunner

from calibrax.analysis import detect_regressions, rank_table
from calibrax.ci import CIGuard
from calibrax.cli import main
from calibrax.core import Metric, MetricDef, Point, Run
from calibrax.core.errors import CalibraxError, RecordError, StoreError
from calibrax.storage import Store

LAT = {'lat': MetricDef(name='lat', unit='ms', direction='lower')}


def run(*values, defs=LAT, scenarios=None, **fields):
    scenarios = scenarios or [f's{i}' for i in range(len(values))]
    return Run(points=[Point(name='p', scenario=s, metrics={'lat': Metric(value=v)}) for s, v in zip(scenarios, values)], metric_defs=defs, **fields)


# --- the gate ---

@pytest.mark.parametrize('before, after', [(0.0, 100.0), (1.0, math.nan), (1.0, math.inf), (0.0, math.nan)])
def test_zero_baselines_and_nan_regress(before, after):
    assert len(detect_regressions(run(after), run(before))) == 1


def test_config_definitions_are_used_by_the_guard(tmp_path):
    store = Store(tmp_path/'d')
    store.write_config(metric_defs={'lat': {'unit': 'ms', 'direction': 'lower'}})
    for id, value in (('a', 1.0), ('b', 100.0)): store.save(run(value, defs={}, id=id))
    store.set_baseline('a')
    assert not CIGuard(store).check('b').passed


def test_a_run_against_itself_is_clean():
    two = run(10, 1, scenarios=['A', 'B'])
    assert detect_regressions(two, two) == []


@pytest.mark.parametrize('threshold', [-1, math.nan, 'a lot', None])
def test_thresholds_are_checked(threshold):
    with pytest.raises(CalibraxError): detect_regressions(run(1), run(1), threshold)


# --- ranking ---

def ranked(values, direction='lower'):
    points = [Point(name=n, scenario='s', tags={'framework': n}, metrics={'lat': Metric(value=v)}) for n, v in values.items()]
    table = rank_table(Run(points=points, metric_defs={'lat': MetricDef(name='lat', unit='ms', direction=direction)}), 'lat')
    return {e.label: (e.rank, e.is_best) for e in table}


def test_nan_never_ranks_first():
    for direction in ('lower', 'higher'):
        assert ranked({'a': math.nan, 'b': 2.0, 'c': 3.0}, direction)['a'] == (3, False)


def test_ties_share_a_rank():
    assert ranked({'a': 1.0, 'b': 1.0, 'c': 2.0}) == {'a': (1, True), 'b': (1, True), 'c': (3, False)}


# --- the store ---

@pytest.mark.parametrize('text', ['', '[]', '{', '{"id": "x"}', 'null', '\x00' * 100])
def test_one_damaged_file_is_skipped_and_named(tmp_path, text, caplog):
    store = Store(tmp_path/'d')
    store.save(run(1, id='good'))
    (tmp_path/'d/runs/20200101T000000.000000Z_bad.json').write_text(text)
    with caplog.at_level('WARNING', 'calibrax'):
        assert [r.id for r in store.list_runs()] == ['good'] and store.latest().id == 'good'
    assert '20200101T000000.000000Z_bad.json' in caplog.text


@pytest.mark.parametrize('id', ['../../evil', '/tmp/evil', 'a/b', 'a\\b', '', '.', '..', '.hidden', 'a\x00b', 'x'*500, 'a\nb'])
def test_ids_stay_inside_the_store(tmp_path, id):
    with pytest.raises(StoreError): Store(tmp_path/'d').save(run(1, id=id))
    assert [p for p in tmp_path.rglob('*') if p.is_file()] == []


def test_a_duplicate_id_is_not_overwritten(tmp_path):
    store = Store(tmp_path/'d')
    first = run(1, id='a')
    store.save(first), store.save(first)
    with pytest.raises(StoreError): store.save(run(2, id='a'))
    assert store.load('a') == first


def test_files_are_json(tmp_path):
    path = Store(tmp_path/'d').save(run(math.nan, math.inf, environment={'x': -math.inf}))
    json.loads(Path(path).read_text(), parse_constant=lambda token: pytest.fail(f'{token} is not JSON'))


def test_naive_times_in_files_mean_one_instant(tmp_path):
    data = {**run(1).to_dict(), 'timestamp': '2024-07-01T12:00:00'}
    program = f'from calibrax.core import Run; print(Run.from_dict({data!r}).timestamp.timestamp())'
    stamps = {subprocess.run([sys.executable, '-c', program], env={**os.environ, 'TZ': tz}, capture_output=True, text=True, check=True).stdout
              for tz in ('UTC', 'America/New_York')}
    assert stamps == {'1719835200.0\n'}


def test_naive_times_of_a_program_are_local():
    assert run(1, timestamp=datetime.fromtimestamp(1719835200)).timestamp == datetime(2024, 7, 1, 12, tzinfo=UTC)


def test_values_without_a_place_in_json_are_named():
    assert run(1, environment={'cwd': Path('x')}).to_dict()['environment'] == {'cwd': 'x'}
    with pytest.raises(RecordError, match=r'environment\.a\.b'): run(1, environment={'a': {'b': {1, 2}}})


# --- the command line ---

def call(*args):
    out = CliRunner().invoke(main, [str(a) for a in args])
    assert out.exception is None or isinstance(out.exception, SystemExit)
    return out


def test_reading_commands_create_nothing(tmp_path):
    for args in (('check',), ('summary',), ('runs',), ('fsck',), ('trend', '--metric', 'm', '--point', 'p'), ('compare', 'a', 'b'), ('prune', '--keep', 1)):
        call(*args, '--data', tmp_path/'none')
    assert list(tmp_path.iterdir()) == []


def test_zero_runs_of_a_trend_is_a_usage_error(tmp_path):
    Store(tmp_path/'d').save(run(1))
    assert call('trend', '--data', tmp_path/'d', '--metric', 'lat', '--point', 'p', '--n-runs', 0).exit_code == 2


def test_an_unknown_metric_is_answered_with_near_ones(tmp_path):
    Store(tmp_path/'d').save(run(1))
    out = call('trend', '--data', tmp_path/'d', '--metric', 'latt', '--point', 'p')
    assert out.exit_code == 2 and "no metric 'latt'" in out.stderr and 'there is lat' in out.stderr


# --- presentation ---

def test_units_and_arrows_are_shown(tmp_path):
    Store(tmp_path/'d').save(run(1))
    assert 'lat ↓ [ms]' in call('summary', '--data', tmp_path/'d').stdout
    assert 'lat ↓ [ms]' in run(1)._repr_html_()


def test_displays_escape_html():
    evil = Run(points=[Point(name='<script>alert(1)</script>', scenario='s', metrics={'<b>': Metric(value=1)})])
    assert '<script>' not in evil._repr_html_() and '<b>' not in evil._repr_html_()
