"The noise report against simulation: a change that it calls visible is found, and its threshold keeps quiet."
import json, math, random, sys

import numpy as np
import pytest

from calibrax.ci.noise import MetricNoise, NoiseReport, measure_noise, noise_report
from calibrax.core.errors import ConfigError, ProfilingError, StatisticsError
from calibrax.core.models import Metric, MetricDef, Point, Run

DEFS = {'latency': MetricDef(name='latency', unit='ms', direction='lower'), 'steps': MetricDef(name='steps', unit='', direction='info')}

def run(values, samples=None, **fields):
    points = [Point(name=n, scenario='s', metrics={'latency': Metric(value=v, samples=(samples or {}).get(n))}) for n, v in values.items()]
    return Run(points=points, metric_defs=DEFS, **fields)


def test_figures_of_a_hand_made_case():
    values = [10.0, 10.2, 9.8, 10.1, 9.9, 10.0]
    report = noise_report([run({'p': v}, {'p': [v - 0.1, v, v + 0.1]}) for v in values])
    m, = report.metrics
    assert m.values == tuple(values) and m.mean == pytest.approx(10) and m.label == 'p' and m.judged
    assert m.between_cv == pytest.approx(np.std(values, ddof=1)/10) and m.within_cv == pytest.approx(0.01, rel=0.03)
    from scipy.stats import nct, t
    neighbours = math.sqrt(np.mean(np.diff(values)**2))/10
    for visible, error, freedom in ((m.two_runs, m.between_cv*math.sqrt(2), 5), (m.history, m.between_cv*math.sqrt(1 + 1/20), 19), (m.paired, neighbours/math.sqrt(8), 7)):
        assert nct.sf(t.ppf(0.995, freedom), freedom, visible/error) == pytest.approx(0.9)
    assert report.noise == {'latency': m.between_cv}


def test_what_is_visible_is_found():
    "Over many machines of the same noise: a change of the size reported for the paired policy is found about as often as it says"
    rng, found, false = np.random.default_rng(1), 0, 0
    from scipy.stats import ttest_1samp
    reports = [noise_report(run({'p': v}) for v in 10*(1 + rng.normal(0, 0.02, 10))) for _ in range(60)]
    visible = float(np.median([r.metrics[0].paired for r in reports]))
    for _ in range(300):
        difference = (rng.normal(0, 0.02, 8) - rng.normal(0, 0.02, 8))
        found += ttest_1samp(difference + visible, 0).pvalue < 0.01
        false += ttest_1samp(difference, 0).pvalue < 0.01
    assert 0.8 <= found/300 <= 0.97 and false <= 12


@pytest.mark.parametrize('points', [1, 5])
def test_threshold_keeps_quiet(points):
    "Two new runs differ by more than the needed threshold in 1 % of all cases, whatever the luck of the ten runs"
    rng, alarms = np.random.default_rng(2), 0
    for _ in range(400):
        values = 10*(1 + rng.normal(0, 0.03, (12, points)))
        report = noise_report(run({f'p{i}': v for i, v in enumerate(row)}) for row in values[:10])
        alarms += bool(((values[11] - values[10])/values[10] > report.needed_threshold).any())
    assert alarms <= 10         # 4 expected; for several metrics the noisiest decides, so fewer


def test_quiet_machine():
    "Equal values: any policy sees its margin"
    report = noise_report([run({'p': 5.0})]*4)
    m, = report.metrics
    assert m.between_cv == 0 and (m.two_runs, m.history, m.paired) == (0.02, 0.02, 0.005) and report.recommended_threshold == 0.01


def test_very_noisy_machine():
    report = noise_report(run({'p': v}) for v in (1, 9, 2, 8, 3, 7.0))
    assert report.recommended_threshold is None and 'No threshold' in report.recommendation


def test_what_only_informs_does_not_decide():
    runs = [Run(points=[Point(name='p', scenario='s', metrics={'steps': Metric(value=v)})], metric_defs=DEFS) for v in (1, 2, 3)]
    report = noise_report(runs)
    assert not report.metrics[0].judged and report.noisiest is report.needed_threshold is report.recommended_threshold is None
    assert 'judges none' in report.recommendation and report.table().rows


def test_left_out_with_a_reason():
    runs = [Run(metric_defs=DEFS, points=[
        Point(name='good', scenario='s', metrics={'latency': Metric(value=1 + i/100)}),
        Point(name='zero', scenario='s', metrics={'latency': Metric(value=0)}),
        Point(name='nan', scenario='s', metrics={'latency': Metric(value=math.nan if i else 1)}),
        *([Point(name='once', scenario='s', metrics={'latency': Metric(value=1)})] if not i else [])]) for i in range(8)]
    report = noise_report(runs)
    assert [m.label for m in report.metrics] == ['good']
    assert [w for w in report.warnings if 'zero latency is left out: zero on average' in w] and [w for w in report.warnings if 'nan latency is left out: NaN' in w]
    assert [w for w in report.warnings if 'once latency is left out: measured in 1 of 8' in w] and [w for w in report.warnings if 'good latency drifts' in w]


def test_warnings():
    rng = random.Random(0)
    assert 'rough figure' in noise_report(run({'p': 1 + rng.random()}) for _ in range(3)).warnings[0]
    assert not noise_report(run({'p': 1 + rng.random()}) for _ in range(10)).warnings
    changed = noise_report(run({'p': 1 + rng.random()}, environment={'cpu': 'A' if i < 5 else 'B'}) for i in range(10)).warnings
    assert len(changed) == 1 and 'the environment changed' in changed[0]


def test_drift_is_rarely_seen_where_there_is_none():
    rng = np.random.default_rng(3)
    from calibrax.ci.noise import _drifts
    assert sum(_drifts(rng.normal(10, 1, 10)) for _ in range(1000)) <= 10
    assert sum(_drifts(rng.normal(10, 0.1, 10) + np.linspace(0, 1, 10)) for _ in range(100)) >= 95


@pytest.mark.parametrize('count', [0, 1, 2])
def test_too_few_runs(count):
    with pytest.raises(StatisticsError, match='cannot show'): noise_report([run({'p': 1.0})]*count)


def test_nothing_in_common():
    with pytest.raises(StatisticsError, match='no usable metric'): noise_report([run({str(i): 1.0}) for i in range(3)])


@pytest.mark.parametrize('options', [{'alpha': 0}, {'alpha': 1}, {'power': 1.5}, {'history': 1}, {'rounds': 1}, {'rounds': 2.5}])
def test_wrong_arguments(options):
    with pytest.raises(ConfigError): noise_report([run({'p': 1.0})]*3, **options)


def test_display():
    import matplotlib.pyplot as plt
    rng = random.Random(0)
    report = noise_report(run({'train': rng.gauss(10, 0.1), 'load': rng.gauss(3, 0.2)}, {'train': [10, 10.1]}) for _ in range(8))
    assert NoiseReport.from_json(report.to_json()) == report and isinstance(report.metrics[0], MetricNoise)
    assert repr(report).index('load') < repr(report).index('train') and '--threshold' in repr(report) and '<table>' in report._repr_html_()
    figure, axes = report.plot()
    assert [t.get_text() for t in axes.get_yticklabels()] == ['load\nlatency', 'train\nlatency'] and '[%]' in axes.get_xlabel()
    plt.close(figure)


def test_measuring(tmp_path):
    "A fresh process each time, and a failure that says which"
    stored = json.dumps({'id': 'r', 'timestamp': '2026-03-01T12:00:00+00:00', 'points': [{'name': 'p', 'scenario': 's', 'metrics': {'latency': {'value': 0}}}],
                         'metric_defs': {'latency': {'unit': 'ms', 'direction': 'lower'}}})
    code = f'import json, os; r = json.loads({stored!r}); r["points"][0]["metrics"]["latency"]["value"] = os.getpid() % 7 + 100; json.dump(r, open(os.environ["CALIBRAX_RUN_FILE"], "w")); open("count", "a").write("x")'
    report = measure_noise([sys.executable, '-c', code], runs=4, folder=tmp_path, progress=False)
    assert len(report.runs) == 4 and (tmp_path/'count').read_text() == 'xxxx'
    with pytest.raises(ProfilingError, match='run 3 of 5: '): measure_noise([sys.executable, '-c', code + '; assert len(open("count").read()) < 7'], runs=5, folder=tmp_path)
    with pytest.raises(ConfigError, match='runs: expected'): measure_noise('true', runs=2)


def test_definitions_from_outside():
    "What the runs do not define may be defined by the store"
    plain = [Run(id=f'r{i}', points=[Point(name='p', scenario='s', metrics={'latency': Metric(value=10 + 0.1*(i % 3))})]) for i in range(6)]
    assert noise_report(plain).needed_threshold is None
    found = noise_report(plain, metric_defs={'latency': MetricDef(name='latency', unit='ms', direction='lower')})
    assert found.metrics[0].unit == 'ms' and found.needed_threshold > 0 and '10.10 ms' in repr(found)


def test_one_wild_metric_does_not_hide_what_the_others_allow():
    draw = random.Random(1)
    defs = {n: MetricDef(name=n, unit='ms', direction='lower') for n in ('quiet', 'wild')}
    def made(i, wild): return Run(id=f'r{i}', metric_defs=defs, points=[Point(name='p', scenario='s', metrics={'quiet': Metric(value=draw.gauss(10, 0.05)), 'wild': Metric(value=draw.gauss(10, wild))})])
    said = noise_report(made(i, 0.8) for i in range(10)).recommendation
    assert 'p wild decides' in said and 'Without p wild, --threshold 0.0' in said
    assert 'Without' not in noise_report(made(i, 0.05) for i in range(10)).recommendation
