"Targets with a direction, convergence that lasts, and reports built from both."
import logging, math

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from calibrax.core.errors import ConfigError, StatisticsError
from calibrax.core.models import MetricDirection
from calibrax.validation.accuracy import AccuracyResult, check_accuracy, infer_direction
from calibrax.validation.convergence import ConvergenceResult, check_convergence
from calibrax.validation.framework import ValidationReport

nan, inf = math.nan, math.inf


# --- accuracy ------------------------------------------------------------------------------------------------------------

def test_an_accuracy_above_its_target_passes():
    result = check_accuracy(0.95, 0.90)
    assert result.passed and result.margin == pytest.approx(0.05) and result.direction is MetricDirection.HIGHER
    assert not check_accuracy(0.85, 0.90).passed and check_accuracy(0.85, 0.90).margin == pytest.approx(-0.05)


@pytest.mark.parametrize('metric_type, units, direction', [
    ('accuracy', 'relative', 'higher'), ('Accuracy', '%', 'higher'), ('f1_score', 'relative', 'higher'), ('r_squared', '', 'higher'), ('psnr', 'dB', 'higher'),
    ('relative_error', 'relative', 'lower'), ('rmse', 'eV', 'lower'), ('mean squared error', '', 'lower'), ('l2_error', 'relative', 'lower'), ('latency', 'ms', 'lower'),
    ('chemical_accuracy', 'kcal/mol', 'lower'), ('accuracy', 'Hartree', 'lower'), ('accuracy_loss', '', 'lower'), ('energy_efficiency', '1/J', 'higher'), ('time_to_accuracy', 's', 'lower'), ('recall at 10', '', 'higher'), ('memory_bandwidth', 'GB/s', 'higher'), ('explained_variance', '', 'higher'), ('error of energy', 'eV', 'lower'), ('log_likelihood', 'nats', 'higher')])
def test_the_name_tells_the_direction(metric_type, units, direction, caplog):
    with caplog.at_level(logging.WARNING, logger='calibrax'): assert infer_direction(metric_type, units) == direction
    assert not caplog.messages


def test_an_unknown_name_is_lower_and_warned_of(caplog):
    with caplog.at_level(logging.WARNING, logger='calibrax'): assert check_accuracy(1, 2, metric_type='gizmo').passed
    assert "'gizmo' does not tell which way is better" in caplog.text
    caplog.clear()
    assert not check_accuracy(1, 2, metric_type='gizmo', direction='higher').passed and not caplog.messages


def test_the_direction_given_counts():
    assert check_accuracy(0.95, 0.9, direction='lower').passed is False and check_accuracy(0.95, 0.9, metric_type='error', direction=MetricDirection.HIGHER).passed


def test_edges_of_accuracy():
    assert check_accuracy(0.9, 0.9).passed and check_accuracy(0.9, 0.9).margin == 0
    assert not check_accuracy(nan, 0.9).passed and not check_accuracy(nan, 0.9, direction='lower').passed and math.isnan(check_accuracy(nan, 0.9).margin)
    assert check_accuracy(inf, 0.9).passed and not check_accuracy(inf, 0.9, direction='lower').passed
    assert check_accuracy(np.float32(0.5), 0.25).passed
    with pytest.raises(ConfigError, match='target'): check_accuracy(1, nan)
    for wrong in ('info', 'up', MetricDirection.INFO):
        with pytest.raises(ConfigError, match='direction'): check_accuracy(1, 1, direction=wrong)


def test_accuracy_as_a_record():
    result = check_accuracy(achieved=0.8, target=1.0, metric_type='energy_mae', units='kcal/mol')
    assert AccuracyResult.from_json(result.to_json()) == result and '0.8 kcal/mol' in repr(result) and '<table>' in result._repr_html_()
    old = {'target': 1.0, 'achieved': 2.0, 'metric_type': 'mae', 'units': 'relative', 'passed': False, 'margin': -1.0}
    assert AccuracyResult.from_dict(old).to_dict() == old


@settings(max_examples=300)
@given(st.floats(), st.floats(allow_nan=False))
def test_negated_values_and_direction_give_the_same_verdict(achieved, target):
    up, down = check_accuracy(achieved, target, direction='higher'), check_accuracy(-achieved, -target, direction='lower')
    assert up.passed == down.passed and (up.margin == down.margin or up.margin != up.margin and down.margin != down.margin)


# --- convergence ---------------------------------------------------------------------------------------------------------

def test_diverging_is_not_converging():
    result = check_convergence({'down': [1, .1, .01], 'up': [.01, .1, 1]}, [0.05])
    assert result.rates == pytest.approx({'down': math.log(10), 'up': -math.log(10)})
    assert result.achieved == {'down_0.05': True, 'up_0.05': False} and result.iterations == {'down_0.05': 3} and result.optimal_tolerance is None


def test_a_visit_achieves_nothing():
    assert check_convergence({'x': [1, .01, 5]}, [.05]).achieved == {'x_0.05': False}
    assert check_convergence({'x': [1, .01, 5, .04, .03]}, [.05]).iterations == {'x_0.05': 4}
    assert not check_convergence({'x': [1, .01, nan]}, [.05]).achieved['x_0.05'] and not check_convergence({'x': [1, inf]}, [9]).achieved['x_9']


def test_optimal_tolerance():
    assert check_convergence({'a': [1, .001], 'b': [1, .04]}, [.5, .05, .01]).optimal_tolerance == .05
    assert check_convergence({}, [.5]).optimal_tolerance is None


def test_one_odd_step_does_not_decide_the_rate():
    steady = np.exp(-0.5*np.arange(30))
    last = steady.copy()
    last[-1] = 1.0      # the mean of the differences sees only the two ends: 0 here
    assert check_convergence({'x': last}, [1]).rates['x'] > 0.3 and check_convergence({'x': steady}, [1]).rates['x'] == pytest.approx(0.5)


def test_intervals_and_verdicts():
    rng, steps = np.random.default_rng(0), np.arange(40)
    result = check_convergence({'down': np.exp(-.1*steps + .3*rng.standard_normal(40)), 'up': np.exp(.1*steps + .3*rng.standard_normal(40)),
                                'flat': np.exp(.3*rng.standard_normal(40)), 'two': [1, .5]}, [.1])
    assert [result.verdict(m) for m in result.rates] == ['converging', 'diverging', 'undecided', 'undecided']
    assert result.intervals['two'] == (-inf, inf)


@pytest.mark.parametrize('n, correlation, least', [(10, 0, 0.93), (40, 0, 0.93), (40, 0.6, 0.86)])
def test_the_interval_of_the_rate_holds_it(n, correlation, least):
    rng, held = np.random.default_rng(n), []
    for _ in range(300):
        noise = rng.standard_normal(n)
        for i in range(1, n): noise[i] = correlation*noise[i - 1] + math.sqrt(1 - correlation**2)*noise[i]
        low, high = check_convergence({'x': np.exp(-.2*np.arange(n) + .3*noise)}, []).intervals['x']
        held.append(low <= .2 <= high)
    assert np.mean(held) >= least


def test_edges_of_convergence():
    assert check_convergence({'x': [3]}, [5]).rates == {'x': 0}
    zero = check_convergence({'x': [1, .1, 0, 0]}, [0])
    assert zero.rates['x'] == pytest.approx(math.log(10)) and zero.iterations == {'x_0': 3}
    tiny = check_convergence({'x': [1e-14, 1e-15, 1e-16]}, [1e-15])
    assert tiny.rates['x'] == pytest.approx(math.log(10)) and tiny.achieved['x_1e-15']
    with pytest.raises(StatisticsError, match=r'loss\[1\]: expected a value of at least 0'): check_convergence({'loss': [1, -1]}, [.1])
    with pytest.raises(StatisticsError, match='loss: no values'): check_convergence({'loss': []}, [.1])
    for wrong in (-1, nan):
        with pytest.raises(ConfigError, match='tolerances'): check_convergence({'loss': [1]}, [wrong])


def test_convergence_as_a_record():
    result = check_convergence({'loss': [1, .1, .01]}, [.05, 1e-6])
    assert ConvergenceResult.from_json(result.to_json()) == result and '≤ 0.05 from step' in repr(result) and '<table>' in result._repr_html_()
    old = {'rates': {'loss': 2.3}, 'achieved': {'loss_0.05': True}, 'iterations': {'loss_0.05': 3}, 'optimal_tolerance': 0.05}
    assert ConvergenceResult.from_dict(old).to_dict() == old
    with pytest.raises(ConfigError, match='does not hold its series'): ConvergenceResult.from_dict(old).plot()


def test_plot_of_convergence():
    plt = pytest.importorskip('matplotlib.pyplot')
    figure, axes = check_convergence({'loss': [1, .1, .01, 0]}, [.05]).plot()
    assert axes.get_yscale() == 'log' and axes.get_xlabel() == 'step'
    plt.close(figure)


# --- reports -------------------------------------------------------------------------------------------------------------

def test_report_is_a_plain_container():
    old = {'name': 'a', 'reference': 'b', 'accuracy_metrics': {'mae': 0.1}, 'convergence_metrics': {}, 'violations': ['late'], 'passed': True, 'notes': ''}
    assert ValidationReport.from_dict(old).to_dict() == old and ValidationReport(name='a', reference='b', accuracy_metrics={}).passed


def test_report_from_results():
    checks = {'mae': check_accuracy(0.3, 0.2, metric_type='mae', units='eV'), 'recall': check_accuracy(0.9, 0.8, metric_type='recall')}
    report = ValidationReport.from_results('model', 'DFT', checks, check_convergence({'loss': [1, .1, .02]}, [.05, .01]))
    assert not report.passed and report.violations == ('mae: 0.3 eV instead of 0.2 eV', 'loss: not within 0.01 at the end, but at 0.02')
    assert report.shortfalls == pytest.approx({'mae': 0.1, 'loss_0.01': 0.01})
    assert (report.accuracy_metrics, report.convergence_metrics) == ({'mae': 0.3, 'recall': 0.9}, pytest.approx({'loss': 1.956}, abs=1e-3))
    assert ValidationReport.from_json(report.to_json()) == report and 'failed, 2 violation(s)' in repr(report) and 'violations' in report._repr_html_()


def test_report_with_one_required_tolerance():
    convergence = check_convergence({'loss': [1, .1, .02]}, [.05, .01])
    assert ValidationReport.from_results('m', 'r', convergence=convergence, tolerance=.05).passed
    assert not ValidationReport.from_results('m', 'r', convergence=convergence, tolerance=.01).passed
    with pytest.raises(ConfigError, match='0.2 was not checked'): ValidationReport.from_results('m', 'r', convergence=convergence, tolerance=.2)
    with pytest.raises(ConfigError, match='nothing was checked'): ValidationReport.from_results('m', 'r')


def test_divergence_and_nan_violate():
    report = ValidationReport.from_results('m', 'r', {'acc': check_accuracy(nan, .9)}, check_convergence({'x': [.001, .002, .004, .0081]}, [1]))
    assert not report.passed and report.violations[0] == 'acc: NaN instead of 0.9' and report.violations[1].startswith('x: diverging')


@pytest.mark.parametrize('name, direction', [('samples per second', 'higher'), ('frames_per_second', 'higher'), ('time per step', 'lower'), ('loss per second', 'lower')])
def test_rates_are_better_when_higher(name, direction): assert infer_direction(name) == direction

@pytest.mark.parametrize('call', [lambda: check_accuracy('x', 1), lambda: check_accuracy(1, None), lambda: check_accuracy([1, 2], 1), lambda: check_convergence([1, 0.1], [0.1]),
                                  lambda: check_convergence({'e': ['a']}, [0.1]), lambda: check_convergence({'e': 3}, [0.1]), lambda: check_convergence({'e': [1]}, ['x'])])
def test_what_is_no_number_is_said_to_be_none(call):
    with pytest.raises((ConfigError, StatisticsError), match='expected'): call()

def test_one_tolerance_will_do(): assert check_convergence({'e': [1, 0.1]}, 0.5).optimal_tolerance == 0.5
