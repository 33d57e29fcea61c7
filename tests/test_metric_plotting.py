"""Pictures of metrics, by what is in them: titles, labels, lines, texts and limits; no picture is compared with another."""
import math, subprocess, sys
from abc import ABC, abstractmethod
from pathlib import Path

import matplotlib
matplotlib.use('Agg')
import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from calibrax.core.errors import CalibraxError, MetricError
from calibrax.metrics.declarations import MetricEntry, MetricTier
from calibrax.metrics.drawing import MetricScale, draw_history, draw_matrix, is_confusion
from calibrax.metrics.functional.calibration import reliability_diagram_bins
from calibrax.metrics.functional.curves import det_curve, equal_error_rate, precision_recall_curve, roc_curve
from calibrax.metrics.plotting import MetricPlotMixin, plot_metric
from calibrax.statistics.bootstrap import bootstrap_interval

rng = np.random.default_rng(0)
LABELS = rng.integers(0, 2, 200)
SCORES = LABELS + rng.normal(0, .8, 200)
CLASSES = rng.integers(0, 4, 300)
CLASS_SCORES = np.eye(4)[CLASSES] + rng.normal(0, .6, (300, 4))
CURVES = {'roc': roc_curve(SCORES, LABELS), 'pr': precision_recall_curve(SCORES, LABELS), 'det': det_curve(SCORES, LABELS)}
VALUES = {
    'scalar': 0.9, 'jax': np.float32(.5), 'nan': math.nan, 'infinite': math.inf, 'minus infinite': -math.inf, 'scalars': {'a': 1.0, 'b': math.nan, 'c': math.inf},
    'history': [0.5, math.nan, 0.7], 'infinite history': [math.inf, 1, -math.inf], 'all nan': [math.nan, math.nan], 'dicts': [{'a': 1}, {'a': 2, 'b': 3}], 'steps': {10: 1.0, 20: 2.0},
    'classes': np.array([.2, math.nan, .7]), 'many classes': rng.random(60), 'class histories': [np.ones(3), np.zeros(3)], 'crowd': [rng.random(12), rng.random(12)],
    'confusion': np.eye(3, dtype=int), 'empty confusion': np.zeros((3, 3)), 'nan table': np.full((2, 2), math.nan), 'correlations': np.array([[1, -.5], [-.5, 1]]), 'rectangle': rng.random((2, 5)),
    **CURVES, 'no positives': roc_curve(SCORES, np.zeros(200, int)), 'class curves': roc_curve(CLASS_SCORES, CLASSES), 'curve by name': {'one': CURVES['roc'], 'two': CURVES['roc']},
    'reliability': reliability_diagram_bins(rng.random(50), rng.integers(0, 2, 50)), 'bootstrap': bootstrap_interval(np.mean, rng.random(30)), 'mixture': {'a': 1.0, 'b': np.eye(2), 'c': np.ones(3)},
}

@pytest.fixture(autouse=True)
def no_figures_left():
    plt.close('all')
    yield
    plt.close('all')

def words(axes): return [t.get_text() for t in axes.texts if t.get_text()]
def legend(axes): return [t.get_text() for t in axes.get_legend().get_texts()] if axes.get_legend() else []
def ticks(axes, which='y'): return [t.get_text() for t in getattr(axes, f'get_{which}ticklabels')()]

class Metric(MetricPlotMixin):
    def __init__(self, name, value): self.name, self.value = name, value
    def compute(self): return self.value


# --- for every kind of value -----------------------------------------------------------------------------------------

@pytest.mark.parametrize('value', VALUES.values(), ids=VALUES)
def test_every_value_gives_a_figure_that_draws(value, recwarn):
    before = matplotlib.rcParams.copy()
    figure, axes = plot_metric(value)
    assert isinstance(figure, Figure) and isinstance(axes, Axes) and axes.figure is figure
    assert plt.get_fignums() == [figure.number]
    figure.canvas.draw()
    assert matplotlib.rcParams == before
    assert not [w for w in recwarn if 'matplotlib' in str(w.filename) or 'calibrax' in str(w.filename)]

@pytest.mark.parametrize('value', [v for n, v in VALUES.items() if n != 'mixture'], ids=[n for n in VALUES if n != 'mixture'])
def test_given_axes_are_used_and_their_figure_returned(value):
    figure, (left, right) = plt.subplots(1, 2)
    drawn, axes = plot_metric(value, left, title='here')
    assert drawn is figure and axes is left and len(plt.get_fignums()) == 1
    assert 'here' in left.get_title('center') + left.get_title('left')
    assert not right.lines and not right.patches and not right.get_title()

def test_the_figure_of_a_subfigure_is_the_whole():
    figure = plt.figure()
    axes = figure.subfigures(1, 2)[0].add_subplot()
    assert plot_metric(0.5, axes)[0] is figure

@pytest.mark.parametrize('value, how, word', [
    ([], {}, 'history'), ((), {}, 'history'), ({}, {}, 'empty'), (np.zeros(0), {}, 'empty'), (None, {}, 'nothing'), ('word', {}, 'str'), (np.zeros((2, 2, 2)), {}, '(2, 2, 2)'),
    ([np.eye(2), np.eye(2)], {}, 'matrix'), ([1.0, np.ones(3)], {}, 'history'), ([np.ones(2), np.ones(3)], {}, 'history'),
    (1.0, {'kind': 'pie'}, 'pie'), (1.0, {'class_names': ['a']}, 'class_names'), (1.0, {'interval': (2, 1)}, 'interval'), (1.0, {'interval': 3}, 'interval'), (1.0, {'normalize': 'true'}, 'normalize'),
    (1.0, {'bounds': (1, 0)}, 'bounds'), (1.0, {'direction': 'sideways'}, 'sideways'), (1.0, {'ax': 'axes'}, 'ax'), (1.0, {'ax': np.array([1, 2])}, 'ax'),
    (np.ones(3), {'class_names': ['a', 'b']}, 'class_names'), (np.ones(3), {'class_names': 'abc'}, 'class_names'), (np.ones(3), {'class_names': 3}, 'class_names'), (np.ones(3), {'interval': (0, 1)}, 'interval'),
    (np.eye(3), {'class_names': ['a', 'b']}, 'class_names'), (np.eye(3), {'normalize': 'rows'}, 'normalize'), (-np.eye(3), {'normalize': 'true'}, 'negative'), (np.eye(3), {'interval': (0, 1)}, 'interval'),
    ([.1, .2], {'interval': [1, 2, 3]}, 'interval'), ({'a': 1, 'b': 2}, {'interval': (0, 1)}, 'interval'), ({'a': 1, 'b': 2}, {'interval': {'c': (0, 1)}}, "'c'"),
    (CURVES['roc'], {'interval': (0, 1)}, 'interval'), (VALUES['class curves'], {'class_names': ['a']}, 'class_names'), (VALUES['reliability'], {'class_names': ['a']}, 'class_names'),
    ({'roc': CURVES['roc'], 'pr': CURVES['pr']}, {'ax': 'given'}, 'ax'), (VALUES['mixture'], {'ax': 'given'}, 'ax'),
])
def test_what_does_not_fit_is_told_with_a_hint_and_leaves_no_figure(value, how, word):
    if isinstance(how.get('ax'), str) and how['ax'] == 'given': how = how | {'ax': plt.figure().add_subplot()}
    before = plt.get_fignums()
    with pytest.raises(MetricError, match=word.replace('(', r'\(').replace(')', r'\)')) as e: plot_metric(value, **how)
    assert e.value.hint and isinstance(e.value, ValueError)
    assert plt.get_fignums() == before

def test_traced_values_are_told_from_wrong_ones():
    import jax
    with pytest.raises(MetricError, match='traced') as e: jax.jit(lambda x: plot_metric(x))(1.0)
    assert 'outside of jit' in e.value.hint


# --- numbers ---------------------------------------------------------------------------------------------------------

def test_a_number_stands_on_its_declared_range_with_its_better_end():
    _, axes = plot_metric(0.9, name='accuracy', interval=(.85, .93))
    assert axes.get_title() == 'accuracy' and axes.get_xlim() == (0, 1)
    assert words(axes) == ['0.9  [0.85, 0.93]'] and axes.get_xlabel() == 'higher is better →'
    assert '← lower is better' == plot_metric(3.0, name='mse', unit='mm²')[1].get_xlabel()
    assert words(plt.gca()) == ['3.00 mm²']

def test_half_open_and_open_ranges_hold_the_value():
    for value, bounds in ((7.0, (0, math.inf)), (-7.0, (-math.inf, 1)), (7.0, (-math.inf, math.inf)), (0.0, (0, math.inf)), (1e12, (0, math.inf))):
        low, high = plot_metric(value, bounds=bounds)[1].get_xlim()
        assert low <= value <= high and math.isfinite(low) and math.isfinite(high) and low < high
        assert low == bounds[0] or math.isinf(bounds[0])

def test_values_outside_of_their_bounds_are_not_cut():
    assert plot_metric(1.4, bounds=(0, 1))[1].get_xlim()[1] > 1.4

def test_nan_and_infinity_are_written():
    assert words(plot_metric(math.nan)[1]) == ['NaN'] and words(plot_metric(math.inf)[1]) == ['∞']
    assert {'NaN', '-∞'} <= set(words(plot_metric({'a': math.nan, 'b': -math.inf, 'c': 1.0})[1]))

def test_several_numbers_on_one_range_are_bars_on_one_axis():
    _, axes = plot_metric({'small': .8, 'large': .9}, bounds=(0, 1), direction='higher', interval={'large': (.85, .95)})
    assert ticks(axes) == ['small ↑', 'large ↑'] and axes.get_xlim() == (0, 1) and words(axes) == ['0.8', '0.9']
    assert sorted(round(p.get_width(), 6) for p in axes.patches) == [.8, .9, 1, 1]     # and the range behind each
    assert axes.yaxis_inverted()                     # the first name on top

def test_different_ranges_have_a_track_each_with_their_ends():
    _, axes = plot_metric({'accuracy': .9, 'brier_score': .3, 'mse': 12.0})
    assert ticks(axes) == ['accuracy ↑', 'brier_score ↓', 'mse ↓'] and not axes.patches
    assert {'0', '1', '2', '15', '0.9', '0.3', '12.00 u²'} <= set(words(axes))

def test_a_path_before_a_name_is_seen_through():
    assert ticks(plot_metric({'train': {'accuracy': .9}, 'test': {'accuracy': .8}})[1]) == ['train/accuracy ↑', 'test/accuracy ↑']

def test_dollars_are_no_formula():
    figure, axes = plot_metric({'cost in $ and $': 1.0, '$x': 2.0}, title='$ for $')
    figure.canvas.draw()
    assert axes.get_title() == r'\$ for \$'

def test_names_that_begin_with_an_underscore_are_in_legends_too(): assert [t.strip() for t in legend(plot_metric({'_a': [1, 2], '_b': [2, 3]})[1])] == ['_a', '_b']

def test_names_are_cut_where_they_are_too_long(): assert len(ticks(plot_metric({'n'*200: 1.0, 'm': 2.0})[1])[0]) < 40


# --- histories -------------------------------------------------------------------------------------------------------

def test_a_history_rings_its_best_value_and_says_when():
    _, axes = plot_metric([.5, .9, .7], name='accuracy', step='epoch')
    assert legend(axes) == ['accuracy ↑ (best 0.9 at epoch 2)'] and axes.get_xlabel() == 'epoch' and axes.get_ylabel() == 'accuracy ↑'
    assert any(list(np.ravel(line.get_xdata())) == [2] for line in axes.lines)
    assert 'best 0.5' in legend(plot_metric([.5, .9, .7], name='x', direction='lower')[1])[0]
    assert 'best' not in legend(plot_metric([.5, .9, .7], name='unknown')[1])[0]

def test_gaps_are_gaps_and_counted():
    _, axes = plot_metric([.5, math.nan, .7, math.inf], name='accuracy')
    assert legend(axes) == ['accuracy ↑ (best 0.7 at step 3, 1 NaN, 1 infinite)']
    assert np.isnan(axes.lines[0].get_ydata()).tolist() == [False, True, False, True]
    assert {line.get_marker() for line in axes.lines} >= {'x', '^'}

@pytest.mark.parametrize('interval', [([0, 1, 2], [2, 3, 4]), [[0, 2], [1, 3], [2, 4]]], ids=['ends first', 'steps first'])
def test_a_history_has_a_band(interval):
    _, axes = plot_metric([1.0, 2.0, 3.0], interval=interval)
    band, = axes.collections
    assert band.get_datalim(axes.transData).extents.tolist() == [1, 0, 3, 4]

def test_bootstrap_intervals_bring_their_band():
    history = [bootstrap_interval(np.mean, rng.random(40) + i) for i in range(3)]
    _, axes = plot_metric(history)
    assert len(axes.collections) == 1 and np.allclose(axes.lines[0].get_ydata(), [h.value for h in history])

def test_mappings_over_steps_keep_their_places():
    _, axes = plot_metric({400: 3.0, 100: 1.0}, name='x')
    assert axes.lines[0].get_xdata().tolist() == [100, 400] and axes.lines[0].get_ydata().tolist() == [1, 3]

def test_series_of_different_ranges_get_rows_of_their_own():
    figure, axes = plot_metric([{'accuracy': .5, 'log_loss': 2.0}, {'accuracy': .7, 'log_loss': 1.0}], title='Training')
    assert len(figure.axes) == 2 and axes is figure.axes[0] and axes.get_title() == 'Training'
    assert [a.get_ylabel() for a in figure.axes] == ['accuracy ↑', 'log_loss ↓ [nat]'] and figure.axes[1].get_xlabel() == 'step'
    _, own = plt.subplots()
    assert len(legend(plot_metric([{'accuracy': .5, 'log_loss': 2.0}]*2, own)[1])) == 2

def test_the_axis_does_not_run_past_a_near_bound():
    assert plot_metric([.5, .99], name='accuracy')[1].get_ylim()[1] < 1.02
    assert plot_metric([.5, .51], name='accuracy')[1].get_ylim()[1] < .6      # and a far one does not flatten the line

def test_many_lines_are_grey_but_for_the_ends():
    _, axes = plot_metric([np.arange(40.0), np.arange(40.0) + 1], class_names=[f'c{i}' for i in range(40)])
    assert [t.split()[0] for t in legend(axes)] == ['mean', 'c39', 'c38', 'c1', 'c0']

def test_long_histories_have_no_marker_at_each_step(): assert plot_metric(list(range(1000)))[1].lines[0].get_marker() in ('', 'None')

def test_series_and_steps_must_agree():
    axes = plt.figure().add_subplot()
    for values, how in (({}, {}), ({'a': []}, {}), ({'a': [1], 'b': [1, 2]}, {}), ({'a': [1, 2]}, {'steps': [1]})):
        with pytest.raises(MetricError) as e: draw_history(axes, values, **how)
        assert e.value.hint


# --- classes and tables ----------------------------------------------------------------------------------------------

def test_classes_have_names_values_and_a_mean():
    _, axes = plot_metric(np.array([.5, math.nan, .7]), name='f1_score', class_names=('cat', 'unicorn', 'dog'), interval=np.array([[.4, .1, .6], [.6, .2, .9]]))
    assert ticks(axes) == ['cat', 'unicorn', 'dog'] and words(axes) == ['0.5', 'NaN', '0.7'] and len(axes.patches) == 2
    assert legend(axes) == ['mean 0.6 (1 NaN or infinite left out)'] and axes.get_xlim() == (0, 1) and axes.get_xlabel() == 'f1_score ↑'
    assert ticks(plot_metric(np.ones(2), class_names={1: 'b', 0: 'a'})[1]) == ['a', 'b'] and ticks(plot_metric(np.ones(2))[1]) == ['class 0', 'class 1']

@pytest.mark.parametrize('direction, worst', [('higher', 'c0'), ('lower', 'c99')])
def test_many_classes_are_put_in_order_and_the_worst_named(direction, worst):
    _, axes = plot_metric(np.arange(100.0), direction=direction, class_names=[f'c{i}' for i in range(100)])
    text, = words(axes)
    assert text.split()[:2] == ['worst', worst] and len(text.splitlines()) == 5 and len(axes.patches) == 0

def test_a_confusion_matrix_has_counts_and_shares():
    _, axes = plot_metric(np.array([[8, 2], [0, 5]]), name='confusion', class_names=('cat', 'dog'))
    assert words(axes) == ['8\n80%', '2\n20%', '0\n0%', '5\n100%']
    assert axes.get_xlabel() == 'predicted class' and axes.get_ylabel() == 'true class' and ticks(axes) == ticks(axes, 'x') == ['cat', 'dog']
    assert axes.get_title() == 'confusion' and len(axes.figure.axes) == 1

@pytest.mark.parametrize('normalize, texts', [('true', ['80%', '20%', '0%', '100%']), ('pred', ['100%', '29%', '0%', '71%']), ('all', ['53.3%', '13.3%', '0.0%', '33.3%'])])
def test_shares_of_what_was_asked(normalize, texts):
    _, axes = plot_metric(np.array([[8, 2], [0, 5]]), normalize=normalize)
    assert words(axes) == texts and 'share of' in axes.get_xlabel()

def test_a_class_without_samples_has_no_share(): assert words(plot_metric(np.array([[3, 0], [0, 0]]), normalize='true')[1]) == ['100%', '0%', '–', '–']

def test_forty_classes_are_no_1600_texts():
    table = np.diag(np.full(40, 100)); table[7, 22] = 45; table[3, 2] = 9
    figure, axes = plot_metric(table, title='Species', class_names=[f'species {i}' for i in range(40)])
    assert len(axes.texts) == 0 and len(figure.axes) == 2 and figure.axes[1].get_ylabel() == 'share of the true class'
    assert axes.get_title('left').split('\n') == ['Species', 'most confused: species 7 → species 22: 45', 'species 3 → species 2: 9']
    assert 10 <= len(ticks(axes)) <= 40 and ticks(axes)[0] == 'species 0'
    shown, height = len(ticks(axes)), axes.get_window_extent().height
    figure.canvas.draw()
    assert height/shown > 8         # pixels a name

@pytest.mark.parametrize('n, written', [(6, 36), (15, 225), (16, 0), (200, 0)])
def test_text_up_to_fifteen_classes(n, written): assert len(plot_metric(np.ones((n, n), int))[1].texts) == written

def test_texts_stay_readable_on_their_colours():
    _, axes = plot_metric(np.array([[9, 1], [5, 5]]))
    assert axes.texts[0].get_color() == 'white' and axes.texts[1].get_color() == 'black'

def test_large_counts_are_short(): assert {t.split('\n')[0] for t in words(plot_metric(np.array([[1_234_567, 12_345], [999, 0]]))[1])} == {'1.23M', '12.3k', '999', '0'}

def test_other_tables_are_not_taken_for_confusions():
    _, axes = plot_metric(np.array([[1, -.5], [-.5, 1]]))
    assert axes.get_xlabel() == '' and words(axes) == ['1.00', '-0.5', '-0.5', '1.00']
    low, high = axes.images[0].get_clim()
    assert low == -high                              # white is zero
    assert is_confusion(np.array([[.9, .1], [.4, .6]])) and not is_confusion(np.array([[.9, .2], [.4, .7]])) and not is_confusion(np.ones((2, 3)))
    assert ticks(plot_metric(rng.random((2, 3)), class_names=('a', 'b'))[1]) == ['a', 'b']

def test_draw_matrix_gives_the_frequent_confusions():
    table = np.diag(np.full(8, 9)); table[1, 2], table[5, 0] = 4, 7
    assert draw_matrix(plt.figure().add_subplot(), table) == ['5 → 0: 7', '1 → 2: 4']


# --- curves, calibration, samples ------------------------------------------------------------------------------------

def test_a_roc_curve_has_its_area_and_chance():
    _, axes = plot_metric(CURVES['roc'], name='cats')
    assert legend(axes) == [f'AUC {float(CURVES["roc"].area):.3f}', 'chance'] and axes.get_title() == 'cats'
    chance = next(line for line in axes.lines if line.get_label() == 'chance')
    assert list(chance.get_xdata()) == list(chance.get_ydata()) == [0, 1]
    assert axes.get_xlabel() == 'false positive rate' and axes.get_ylabel() == 'true positive rate' and axes.get_aspect() == 1

def test_a_precision_recall_curve_has_the_share_of_positives():
    _, axes = plot_metric({'good': CURVES['pr'], 'same': CURVES['pr']})
    assert legend(axes) == [f'{n} (AP {float(CURVES["pr"].area):.3f})' for n in ('good', 'same')] + [f'chance ({LABELS.mean():.3g})']

def test_a_det_curve_has_its_equal_error_rate():
    _, axes = plot_metric(CURVES['det'])
    assert legend(axes)[0] == f'EER {float(equal_error_rate(SCORES, LABELS)):.3f}'
    from scipy.special import ndtri
    dot = next(line for line in axes.lines if line.get_marker() == 'o')
    assert np.allclose([*dot.get_xdata(), *dot.get_ydata()], ndtri(float(equal_error_rate(SCORES, LABELS))), atol=1e-3)
    assert '20%' in ticks(axes, 'x')

def test_curves_of_classes_have_their_names():
    names = ('cat', 'dog', 'horse', 'sheep')
    texts = legend(plot_metric(VALUES['class curves'], class_names=names)[1])
    assert [t.split(' (')[0] for t in texts] == [*names, 'chance']
    assert legend(plot_metric(precision_recall_curve(CLASS_SCORES, CLASSES), class_names=names)[1])[-1] == 'chance of each'

def test_many_curves_name_the_worst():
    labels = rng.integers(0, 10, 400)
    scores = np.eye(10)[labels] + rng.normal(0, .3, (400, 10)); scores[:, 3] = rng.normal(size=400)
    texts = legend(plot_metric(roc_curve(scores, labels))[1])
    assert texts[0].startswith('class 3 (AUC') and '10 in all (mean AUC' in texts[-1] and len(texts) == 4

@pytest.mark.parametrize('make', [roc_curve, precision_recall_curve, det_curve])
def test_curves_without_positives_say_so(make): assert any('NaN' in t for t in legend(plot_metric(make(SCORES, np.zeros(200, int)))[1]))

def test_a_list_of_curves_is_one_picture(): assert [t.split(' (')[0] for t in legend(plot_metric([CURVES['roc'], CURVES['roc']])[1])] == ['step 1', 'step 2', 'chance']

def test_a_reliability_diagram_has_gaps_and_counts():
    bins = VALUES['reliability']
    figure, axes = plot_metric(bins, name='cats')
    assert axes.get_title() == f'cats: ECE {float(bins.error):.4g}' and len(figure.axes) == 2
    shares = [p.get_height() for p in figure.axes[1].patches]
    assert np.allclose(shares, np.asarray(bins.bin_counts)/50) and 'calibrated' in legend(axes)
    assert plot_metric(reliability_diagram_bins(np.full(4, math.nan), np.zeros(4, int)))[1].get_title() == 'ECE NaN'

def test_the_error_itself_is_a_number():
    "Its declaration says reliability, its value is one number"
    assert words(plot_metric(0.1, kind='reliability', name='expected_calibration_error')[1]) == ['0.1']

def test_bootstrap_samples_with_their_interval():
    found = VALUES['bootstrap']
    _, axes = plot_metric(found, name='accuracy')
    assert axes.get_xlabel() == 'accuracy ↑' and f'{len(found.samples)} samples' in legend(axes)[0] and '95%' in legend(axes)[1]
    assert sum(p.get_height() for p in axes.containers[0]) == len(found.samples)

def test_samples_are_a_histogram_and_what_is_not_finite_is_counted():
    _, axes = plot_metric([1.0, 2.0, math.nan], kind='distribution', unit='ms')
    assert legend(axes) == ['3 samples (1 NaN or infinite left out)', 'mean 1.50 ms']

def test_a_mixture_has_a_picture_each():
    figure, axes = plot_metric({'accuracy': .9, 'roc_auc': .95, 'table': np.eye(2), 'f1_score': np.ones(2)}, class_names=('a', 'b'), title='All')
    assert len(figure.axes) == 3 and axes is figure.axes[0] and figure._suptitle.get_text() == 'All'
    assert ticks(axes) == ['accuracy ↑', 'roc_auc ↑'] and ticks(figure.axes[1]) == ticks(figure.axes[2]) == ['a', 'b']


# --- the mixin -------------------------------------------------------------------------------------------------------

def test_the_mixin_draws_what_compute_gives_or_another_value():
    metric = Metric('accuracy', {'accuracy': .9})
    assert words(metric.plot()[1]) == ['0.9'] and words(metric.plot(.5)[1]) == ['0.5']
    _, axes = metric.plot([.5, .7])
    assert legend(axes) == ['accuracy ↑ (best 0.7 at step 2)']
    figure, (left, right) = plt.subplots(1, 2)
    assert metric.plot(None, left) == (figure, left) and metric.plot(ax=right)[0] is figure

def test_the_mixin_reads_a_declaration():
    metric = Metric('mine', 3.0)
    metric.entry = MetricEntry(name='declared', fn=None, tier=MetricTier.LEARNED, direction='higher', bounds=(0, 5), unit='dB')
    _, axes = metric.plot()
    assert axes.get_title() == 'mine' and axes.get_xlim() == (0, 5) and words(axes) == ['3.00 dB'] and axes.get_xlabel() == 'higher is better →'
    metric.value = {'declared': 3.0, 'other': 1.0}
    assert ticks(metric.plot()[1]) == ['declared ↑', 'other']
    metric.entry = None
    metric.entries = {'other': MetricEntry(name='x', fn=None, tier=MetricTier.LEARNED, direction='lower', bounds=(0, 2))}
    assert ticks(metric.plot()[1]) == ['declared', 'other ↓']
    assert words(metric.plot(unit='m')[1])[-2:] == ['3.00 m', '1.00 m']

def test_a_declared_distribution_still_has_histories_and_numbers():
    metric = Metric('entropy', 1.5)
    metric.entry = MetricEntry(name='entropy', fn=None, tier=MetricTier.PURE_FUNCTION, plot='distribution')
    assert words(metric.plot()[1]) == ['1.50'] and metric.plot([1.0, 2.0])[1].get_xlabel() == 'step'
    assert metric.plot(rng.random(50))[1].get_ylabel() == 'samples'

def test_the_mixin_stands_beside_other_bases():
    from flax import nnx
    class Abstract(MetricPlotMixin, ABC):
        @abstractmethod
        def compute(self): ...
    class Concrete(Abstract):
        name = 'concrete'
        def compute(self): return {'concrete': 1.0}
    class Module(MetricPlotMixin, nnx.Module):
        def __init__(self): self.total = nnx.Variable(np.float32(2))
        name = property(lambda self: 'module')
        def compute(self): return {'module': self.total[...]}
    with pytest.raises(TypeError): Abstract()
    assert words(Concrete().plot()[1]) == ['1.00'] and words(Module().plot()[1]) == ['2.00']
    assert '__init__' not in vars(MetricPlotMixin) and type(MetricPlotMixin) is type

@pytest.mark.parametrize('ending, start', [('png', b'\x89PNG'), ('svg', b'<?xml'), ('pdf', b'%PDF'), ('.PNG', b'\x89PNG')])
def test_a_file_is_written_and_its_path_returned(tmp_path, ending, start):
    path = Metric('my metric/α: 1', {'a': 1.0, 'b': 2.0}).plot(output_dir=tmp_path/'new'/'figures', output_format=ending)
    assert isinstance(path, Path) and path == tmp_path/'new'/'figures'/f'my_metric_1.{ending.strip(".").lower()}'
    assert path.read_bytes().startswith(start) and plt.get_fignums() == []
    again = path.read_bytes()
    Metric('my metric/α: 1', {'a': 1.0, 'b': 2.0}).plot(output_dir=str(path.parent), output_format=ending)
    assert len(path.read_bytes()) == len(again) and [p.name for p in path.parent.iterdir()] == [path.name]

@pytest.mark.parametrize('name', ['..', '/', '../../etc/passwd', '', 'a\x00b'])
def test_no_name_leaves_the_folder(tmp_path, name):
    path = Metric(name, {'a': 1.0}).plot(output_dir=tmp_path)
    assert path.parent == tmp_path and path.exists()

@pytest.mark.parametrize('empty', [{}, [], (), None, np.zeros(0)], ids=str)
def test_an_empty_metric_is_a_value_error(tmp_path, empty):
    with pytest.raises(ValueError) as e: Metric('mine', empty).plot(output_dir=tmp_path)
    assert isinstance(e.value, CalibraxError) and e.value.hint and not list(tmp_path.iterdir()) and plt.get_fignums() == []

def test_an_unknown_format_is_told_and_leaves_no_figure(tmp_path):
    with pytest.raises(MetricError, match='docx') as e: Metric('mine', 1.0).plot(output_dir=tmp_path, output_format='docx')
    assert 'png' in e.value.hint and plt.get_fignums() == []

def test_a_file_of_given_axes_leaves_their_figure_open(tmp_path):
    figure, axes = plt.subplots()
    assert Metric('mine', 1.0).plot(ax=axes, output_dir=tmp_path).exists() and plt.get_fignums() == [figure.number]


# --- imports ---------------------------------------------------------------------------------------------------------

def run(code): return subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, env={'PATH': '/usr/bin', 'MPLCONFIGDIR': '/tmp', 'JAX_PLATFORMS': 'cpu'}, cwd=Path(__file__).parents[1])

def test_matplotlib_is_loaded_when_something_is_drawn_and_no_display_is_needed():
    out = run('import sys\nfrom calibrax.metrics.plotting import plot_metric\nassert "matplotlib" not in sys.modules\nfigure, axes = plot_metric(0.5)\nfigure.canvas.draw()\nprint(type(figure).__name__)')
    assert out.returncode == 0 and out.stdout.strip() == 'Figure', out.stderr

def test_without_matplotlib_the_error_says_what_to_install():
    out = run('import sys\nsys.modules["matplotlib"] = None\nfrom calibrax.metrics.plotting import plot_metric\nfrom calibrax.core.errors import MetricError\ntry: plot_metric(0.5)\nexcept MetricError as e: print(e)')
    assert 'pip install' in out.stdout and 'matplotlib' in out.stdout, out.stderr

def test_scales_read_numbers():
    scale = MetricScale(name='x')
    assert scale.best([1, 2]) is None and scale.label == 'x'

def test_a_format_alone_writes_into_figures(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert Metric('mine', 1.0).plot(output_format='svg') == Path('figures/mine.svg') and (tmp_path/'figures'/'mine.svg').stat().st_size > 1000
