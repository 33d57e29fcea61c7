"""The demo: its data are what they claim to be, its network learns, and its story says how it really went.

The clocks are real in one test only, with a wide threshold; the others put prepared runs in place of measurements."""
import hashlib
from configparser import ConfigParser
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest

from calibrax.cli import demo
from calibrax.core.errors import ConfigError, StoreError
from calibrax.core.models import Metric, Point, Run
from calibrax.storage import Store

DATA = files('calibrax')/'data'


# --- the data ------------------------------------------------------------------------------------------------------------

def test_the_file_is_the_one_described():
    with (DATA/'digits.npz').open('rb') as file, np.load(file) as stored: images, labels = stored['images'], stored['labels']
    assert images.shape == (1797, 8, 8) and labels.shape == (1797,) and images.dtype == labels.dtype == np.uint8
    assert np.bincount(labels).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]     # as the UCI page counts its test part
    assert (images.min(), images.max()) == (0, 16)
    said = (DATA/'README.md').read_text()
    assert hashlib.sha256(images.tobytes() + labels.tobytes()).hexdigest() in said
    assert hashlib.sha256((DATA/'digits.npz').read_bytes()).hexdigest() in said


def test_the_file_is_small_and_comes_with_its_licence():
    assert len((DATA/'digits.npz').read_bytes()) < 100_000
    said = (DATA/'README.md').read_text()
    assert all(words in said for words in ('CC BY 4.0', 'Alpaydin', 'Kaynak', '10.24432/C50P49', 'UCI Machine Learning Repository', 'Changes'))


def test_the_wheel_takes_the_data_along():
    ini = ConfigParser(delimiters=['=']); ini.read(Path(__file__).parents[1]/'settings.ini', encoding='utf-8')
    assert 'data/*' in ini['DEFAULT']['package_data'].split()


def test_training_and_test_part():
    digits = demo.load_digits()
    assert [a.shape for a in vars(digits).values()] == [(1437, 8, 8), (1437,), (360, 8, 8), (360,)]
    assert digits.train_images.dtype == np.float32 and digits.test_images.max() == 1


# --- the network ---------------------------------------------------------------------------------------------------------

@pytest.fixture(scope='module')
def digits(): return demo.load_digits()


def test_a_seed_gives_the_same_network_and_it_has_learned(digits):
    (one, losses), (same, again) = demo.train(digits, 3), demo.train(digits, 3)
    assert losses == again and len(losses) == 150 and losses[-1] < 0.1 < losses[0]
    assert demo.error_rate(one, digits) == demo.error_rate(same, digits) < 10       # so an accuracy above 90 %
    assert demo.train(digits, 4, steps=1)[1] != losses[:1]


def test_micro_batches_change_the_time_and_not_the_result(digits):
    whole, parts = (demo.train(digits, 0, steps=60, micro_batches=n)[0] for n in (1, demo.BATCH))
    assert abs(demo.error_rate(whole, digits) - demo.error_rate(parts, digits)) < 1


def test_prediction_is_a_digit_for_each_image(digits):
    guesses = np.asarray(demo.predict(demo.initial_state(0), digits.test_images))
    assert guesses.shape == (360,) and set(guesses) <= set(range(10))


# --- a measurement -------------------------------------------------------------------------------------------------------

def test_a_run_has_all_that_a_check_needs(digits):
    ticks = []
    run = demo.measure(digits, repetitions=2, steps=3, calls=2, tick=lambda: ticks.append(1))
    assert len(ticks) == 6 and [p.name for p in run.points] == ['train', 'inference']
    measured = {n: m for p in run.points for n, m in p.metrics.items()}
    assert set(measured) == set(run.metric_defs) and all(d.unit for n, d in run.metric_defs.items() if n != 'parameters')
    assert {d.direction for d in run.metric_defs.values()} == {'higher', 'lower', 'info'}
    assert all(len(m.samples) == 2 and m.value > 0 for n, m in measured.items() if n != 'parameters') and measured['parameters'].value == 85002
    assert measured['accuracy'].samples[0] + measured['error_rate'].samples[0] == pytest.approx(100)
    assert run.environment['devices'] and run.metadata['repetitions'] == 2 and all(p.tags == {'framework': 'flax'} for p in run.points)
    assert Run.from_json(run.to_json()) == run


# --- the story -----------------------------------------------------------------------------------------------------------

@pytest.mark.slow
def test_the_demo_with_real_clocks(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    lines = []
    code = demo.run_demo('calibrax-demo', echo=lines.append, progress=False, repetitions=3, steps=30, calls=50, threshold=1)
    told = '\n'.join(lines)
    assert code == 0, told
    assert 'PASS: no regressions' in told and 'FAIL: ' in told and '↑ train step_time:' in told
    assert told.index('exit code 0') < told.index('exit code 1')
    assert '$ calibrax check --data calibrax-demo --threshold 1' in told and max(map(len, told.splitlines())) <= 100
    store = Store('calibrax-demo')
    assert len(store.list_runs()) >= 3 and store.get_baseline() == store.list_runs()[-1] and store.fsck().healthy
    assert set(store.metric_defs) == set(demo.METRIC_DEFS)
    assert (tmp_path/'calibrax-demo'/'step_time.png').read_bytes()[:8] == b'\x89PNG\r\n\x1a\n'
    assert sorted(p.name for p in tmp_path.iterdir()) == ['calibrax-demo']


def prepared(step_time, accuracy=92):
    "A run in which the training step took so long"
    values = {'step_time': step_time, 'accuracy': accuracy, 'error_rate': 100 - accuracy, 'parameters': 85002, 'latency': 0.3, 'throughput': 1e6}
    points = [Point(name=name, scenario='digits', tags={'framework': 'flax'}, metrics={n: Metric(value=values[n]) for n in names})
              for name, names in demo._MEASURED.items()]
    return Run(points=points, metric_defs=demo.METRIC_DEFS)

def tell(monkeypatch, folder, *runs):
    "(exit code, lines) when the measurements come out as `runs`"
    coming, lines = iter(runs), []
    monkeypatch.setattr(demo, 'measure', lambda digits, **settings: next(coming))
    code = demo.run_demo(folder, echo=lines.append, progress=False)
    assert next(coming, None) is None, 'a measurement was not taken'
    return code, '\n'.join(lines)


def test_the_story_as_it_should_be(monkeypatch, tmp_path):
    code, told = tell(monkeypatch, tmp_path, prepared(1), prepared(1.1), prepared(4))
    assert code == 0 and told.count('exit code 0') == told.count('exit code 1') == 1
    assert '  ↑ train step_time: 1.00 → 4.00 (+300.0%)' in told and 'The same program passed and the slowed one failed' in told
    assert f'$ calibrax check --data {tmp_path} --threshold 0.5' in told


def test_a_noisy_machine_is_called_noisy_and_measured_once_more(monkeypatch, tmp_path):
    code, told = tell(monkeypatch, tmp_path, prepared(1), prepared(1.8), prepared(1.2), prepared(4))
    assert code == 0 and 'too noisy' in told and told.count('exit code 1') == 2
    assert len(Store(tmp_path).list_runs()) == 4, 'the failed run is kept'


def test_a_machine_that_stays_noisy_is_not_talked_away(monkeypatch, tmp_path):
    code, told = tell(monkeypatch, tmp_path, prepared(1), prepared(1.8), prepared(1.9), prepared(4))
    assert code == 1 and 'the same program did not pass' in told and 'The same program passed' not in told


def test_a_slowdown_that_is_not_caught_is_admitted(monkeypatch, tmp_path):
    code, told = tell(monkeypatch, tmp_path, prepared(1), prepared(1), prepared(1.4))
    assert code == 1 and 'the slowed program was not caught' in told


def test_another_failure_does_not_count_as_the_slowdown(monkeypatch, tmp_path):
    code, told = tell(monkeypatch, tmp_path, prepared(1), prepared(1), prepared(1, accuracy=60))
    assert code == 1 and 'FAIL: ' in told and 'the slowed program was not caught' in told


def test_told_twice_it_adds_to_the_trend_and_moves_the_baseline(monkeypatch, tmp_path):
    for first in (1, 2):
        second_baseline = prepared(first)
        assert tell(monkeypatch, tmp_path, second_baseline, prepared(first), prepared(4*first))[0] == 0
    store = Store(tmp_path)
    assert [p.value for p in store.extract_trend('step_time', 'train').points] == [1, 1, 4, 2, 2, 8]
    assert store.get_baseline().id == second_baseline.id


def test_a_baseline_of_something_else_is_left_alone(monkeypatch, tmp_path):
    store = Store(tmp_path)
    mine = Run(points=[Point(name='CV-1/small', scenario='CV-1', metrics={'throughput': Metric(value=1)})])
    store.save(mine); store.set_baseline(mine.id)
    before = sorted(p for p in tmp_path.rglob('*'))
    with pytest.raises(ConfigError, match='baseline of other benchmarks'): tell(monkeypatch, tmp_path)
    assert sorted(p for p in tmp_path.rglob('*')) == before and Store(tmp_path).get_baseline().id == mine.id


def test_places_where_nothing_can_be_written_are_found_before_measuring(monkeypatch, tmp_path):
    with pytest.raises(ConfigError, match='local folder'): tell(monkeypatch, 's3://bucket/bench')
    (tmp_path/'file').write_text('in the way')
    with pytest.raises(StoreError): tell(monkeypatch, tmp_path/'file')
    assert (tmp_path/'file').read_text() == 'in the way'


def test_the_user_s_matplotlib_is_left_alone(tmp_path):
    import matplotlib, matplotlib.pyplot as plt
    store, run = Store(tmp_path), prepared(1)
    store.save(run)
    before, figures = dict(matplotlib.rcParams), plt.get_fignums()
    demo.save_trend(store, tmp_path/'without baseline.png')
    store.set_baseline(run.id)
    demo.save_trend(store, tmp_path/'with baseline.png')
    assert dict(matplotlib.rcParams) == before and plt.get_fignums() == figures
    assert (tmp_path/'with baseline.png').stat().st_size > (tmp_path/'without baseline.png').stat().st_size > 1000


@pytest.mark.parametrize('shown', [False, True])
def test_the_bar_goes_to_standard_error_and_only_where_wanted(capsys, shown):
    with demo._progress('measuring', 2, shown) as tick: tick(); tick()
    out = capsys.readouterr()
    assert out.out == '' and ('measuring' in out.err) == shown
