"""Tables and pictures for papers: what stands in the file is what was measured, whatever the names hold.

LaTeX is compiled and read back from the PDF, HTML is parsed, Markdown and CSV are read, and pictures are opened."""
import csv
import html.parser
import io
import math
import re
import shutil
import struct
import subprocess
import sys
import unicodedata
from datetime import UTC, datetime, timedelta
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from calibrax.analysis import rank_table
from calibrax.core import Metric, MetricDef, Point, Run, TrendPoint, TrendSeries
from calibrax.core.display import Table
from calibrax.core.errors import ExportError
from calibrax.exporters.base import ExportSettings
from calibrax.exporters.plots import PICTURES, PlotGenerator, file_stem, publication_style
from calibrax.exporters.publication import (FORMATS, CsvExporter, HtmlExporter, LatexExporter, MarkdownExporter, PublicationGenerator, csv_text, latex_text,
                                            markdown_text, to_csv, to_html, to_latex, to_markdown)
from calibrax.exporters.tables import ExportInputError, comparison, interval_of, quantity

DAY = datetime(2026, 3, 1, 12, tzinfo=UTC)
NASTY = r'_ & % $ # { } ~ ^ \ < > | "q" [x] *b* `c` a--b'
DEFS = {'throughput': MetricDef(name='throughput', unit='elem/s', direction='higher', priority='primary'),
        'latency_p50': MetricDef(name='latency_p50', unit='µs', direction='lower'), 'loss': MetricDef(name='loss', unit='', direction='lower')}


def bounded(value, half): return Metric(value=value, lower=value - half, upper=value + half)

def a_run(*names, **more):
    "Each name with a throughput that has an interval, a latency and a small loss"
    return Run(id='r1', timestamp=DAY, metric_defs=DEFS, points=[
        Point(name='CV-1/small', scenario='CV-1', tags={'framework': n}, metrics={
            'throughput': bounded(20158 - 1000*i, 35 + i), 'latency_p50': bounded(12 + i, 0.4), 'loss': Metric(value=1.234e-05 + i*6.5e-07), **more})
        for i, n in enumerate(names)])


def frameworks(*, throughput=(), **columns):
    return Run(id='r1', timestamp=DAY, metric_defs=DEFS, points=[Point(name='p', scenario='s', tags={'framework': chr(65 + i)}, metrics={'throughput': m}) for i, m in enumerate(throughput)])


# --- digits, intervals and marks -------------------------------------------------------------------------------------------

@pytest.mark.parametrize(('metric', 'written'), [
    (bounded(20158, 35), '20158 ± 35'), (bounded(12, 0.0996), '12.00 ± 0.10'), (bounded(0.5, 2), '0.5 ± 2.0'), (bounded(-3.14159, 0.02), '-3.142 ± 0.020'),
    (Metric(value=1.234e-05), '1.234e-05'), (Metric(value=1.299e-05), '1.299e-05'), (bounded(1.234e-05, 1.2e-07), '1.234e-05 ± 1.2e-07'),
    (Metric(value=20158), '20158.00'), (Metric(value=math.nan), 'NaN'), (Metric(value=-math.inf, lower=0, upper=1), '-∞'), (Metric(value=0.0), '0'),
    (Metric(value=13.8, lower=13.1, upper=15.3), '13.8 [13.1, 15.3]'), (Metric(value=5, upper=5.25), '5.00 (≤ 5.25)'), (Metric(value=1, lower=2, upper=3), '1.0 [2.0, 3.0]'),
    (bounded(9.996, 0.04), '9.996 ± 0.040'), (bounded(1e22, 1e20), '1.000e+22 ± 1.0e+20')])
def test_digits_follow_the_interval(metric, written):
    assert quantity(metric).text == written


@settings(max_examples=300, deadline=None)
@given(st.floats(-1e12, 1e12), st.floats(1e-9, 1e9))
def test_written_numbers_read_back_within_the_interval(value, half):
    "What is written differs from the value by less than a tenth of the interval's half, and from the half by less than a tenth of it"
    m = Metric(value=value, lower=value - half, upper=value + half)
    if not m.lower < value < m.upper or half < 1e-13*abs(value): return
    text = quantity(m).text
    number, _, spread = text.partition(' ± ')
    number = float(number.split(' [')[0])
    assert abs(number - value) <= half/10 + 1e-14*abs(value)
    if spread: assert abs(float(spread) - half) <= half*0.06 + 1e-12*abs(value)


def test_the_interval_of_samples_is_that_of_what_the_value_is():
    samples = np.random.default_rng(0).normal(10, 1, 40)
    low, high = interval_of(Metric(value=samples.mean(), samples=samples))
    from scipy import stats
    assert (low, high) == pytest.approx(stats.t.interval(0.95, 39, samples.mean(), stats.sem(samples)))
    low, high = interval_of(Metric(value=np.median(samples), samples=samples))
    assert samples.min() < low < np.median(samples) < high < samples.max()
    assert interval_of(Metric(value=samples.min(), samples=samples)) == (None, None)
    assert interval_of(Metric(value=3, samples=(3,))) == (None, None)


def test_intervals_of_samples_are_computed_once(monkeypatch):
    from calibrax.exporters import tables
    from calibrax.statistics import bootstrap
    computed, original = [], bootstrap.bootstrap_interval
    monkeypatch.setattr(bootstrap, 'bootstrap_interval', lambda *args, **more: computed.append(args) or original(*args, **more))
    tables._sample_interval.cache_clear()
    run = frameworks(throughput=[Metric(value=3.0 + i, samples=(1.0 + i, 2.0 + i, 3.0 + i, 9.0 + i, 50.0 + i)) for i in range(3)])
    for _ in range(2):
        table = comparison(run)
        assert repr(table) and table.to_html() and table.legend
    assert len(computed) == 3


def test_ties_are_all_best_and_what_overlaps_is_not_worse():
    table = comparison(frameworks(throughput=[bounded(100, 1), bounded(100, 2), bounded(98.5, 1), bounded(90, 1), Metric(value=99.9), Metric(value=math.nan)]))
    assert [table.best[i, 'throughput'] for i in range(6)] == [True, True, False, False, False, False]
    assert [table.not_worse[i, 'throughput'] for i in range(6)] == [False, False, True, False, False, False]
    assert any('overlapping intervals' in said for said in table.legend)


def test_samples_decide_before_bounds():
    "Bounds that overlap do not hide what the samples tell apart"
    rng = np.random.default_rng(1)
    a, b = rng.normal(100, 1, 50), rng.normal(98, 1, 50)
    near = rng.normal(a.mean(), 1, 50)
    table = comparison(frameworks(throughput=[Metric(value=s.mean(), lower=90, upper=110, samples=s) for s in (a, b, near)]))
    best = max(range(3), key=lambda i: table.cells[i, 'throughput'].value)
    assert [table.best[i, 'throughput'] for i in range(3)].index(True) == best != 1
    assert not table.not_worse[1, 'throughput'] and table.not_worse[2 - best, 'throughput'] and 'Welch' in ' '.join(table.legend)


def test_many_comparisons_with_the_best_are_corrected():
    "Twenty alike: without a correction one in twenty would be called worse, and often several"
    rng = np.random.default_rng(5)
    marks = []
    for _ in range(20):
        table = comparison(frameworks(throughput=[Metric(value=s.mean(), samples=s) for s in rng.normal(100, 1, (10, 20))]))
        marks.append(all(table.best[i, 'throughput'] or table.not_worse[i, 'throughput'] for i in range(10)))
    assert sum(marks) >= 14


@pytest.mark.parametrize('defs', [{}, {'throughput': MetricDef(name='throughput', unit='', direction='info')}], ids=['undefined', 'info'])
def test_without_a_direction_nothing_is_best(defs):
    table = comparison(Run(points=frameworks(throughput=[Metric(value=1), Metric(value=2)]).points, metric_defs=defs))
    assert not any(table.best.values()) and not any(table.not_worse.values())


def test_the_best_is_sought_among_points_measured_alike():
    "The latency of the small workload does not make the large one's values worse"
    table = comparison(Run(metric_defs=DEFS, points=[Point(name=n, scenario=n, tags={'framework': f}, metrics={'latency_p50': Metric(value=v)})
                                                     for n, f, v in (('small', 'A', 1), ('large', 'A', 10), ('small', 'B', 2), ('large', 'B', 9))]))
    assert [(r.label, table.best[i, 'latency_p50']) for i, r in enumerate(table.rows)] == [('A, small', True), ('B, small', False), ('A, large', False), ('B, large', True)]
    assert table.key_names == ('framework', 'point')


names = st.sampled_from(['a', 'b', 'a, b', ''])

@settings(max_examples=100, deadline=None)
@given(st.lists(st.builds(Point, name=names, scenario=names, tags=st.dictionaries(st.sampled_from(['framework', 'n', '#']), names)), max_size=7))
def test_no_two_rows_have_one_name(points):
    table = comparison(Run(points=points))
    assert len({r.label for r in table.rows}) == len({r.keys for r in table.rows}) == len(points)
    assert sorted(map(repr, (r.point for r in table.rows))) == sorted(map(repr, points)) and all(len(r.keys) == len(table.key_names) for r in table.rows)


def test_definitions_of_the_store_are_used_and_the_runs_win():
    run = Run(points=a_run('A', 'B').points, metric_defs={'loss': DEFS['loss']})
    table = comparison(run, metric_defs={**DEFS, 'loss': MetricDef(name='loss', unit='nats', direction='higher')})
    assert [c.unit for c in table.columns] == ['elem/s', 'µs', ''] and table.best[0, 'loss'] and table.best[0, 'latency_p50']
    assert [c.metric for c in table.columns] == ['throughput', 'latency_p50', 'loss'], 'primary metrics come first, the others sorted'


def test_a_metric_that_is_nowhere_is_a_column_of_dashes_and_a_warning(caplog):
    table = comparison(a_run('A'), ['througput'])
    assert table.text(0, 'througput') == '–' and "did you mean 'throughput'?" in caplog.text


# --- LaTeX ---------------------------------------------------------------------------------------------------------------

needs_latex = pytest.mark.skipif(not (shutil.which('pdflatex') and shutil.which('pdftotext')), reason='pdflatex or pdftotext is not installed: texlive-latex-recommended, poppler-utils')

def compiled(folder, latex):
    "The text of the PDF that pdfLaTeX makes of a document; it must not complain"
    (folder/'paper.tex').write_text(latex)
    done = subprocess.run(['pdflatex', '-interaction=nonstopmode', '-halt-on-error', 'paper.tex'], cwd=folder, capture_output=True, timeout=120)
    assert done.returncode == 0, done.stdout.decode(errors='replace')[-2000:]
    text = subprocess.run(['pdftotext', '-layout', folder/'paper.pdf', '-'], capture_output=True, timeout=60, check=True).stdout.decode()
    return unicodedata.normalize('NFKC', text)

def document(*fragments):
    return '\n'.join([r'\documentclass{article}\usepackage[T1]{fontenc}\IfFileExists{lmodern.sty}{\usepackage{lmodern}}{}\usepackage{booktabs}\usepackage[margin=1cm,paperwidth=60cm]{geometry}',
                      r'\begin{document}', *fragments, r'\end{document}'])


@needs_latex
def test_latex_compiles_and_its_numbers_are_those_of_the_run(tmp_path):
    path = PublicationGenerator(tmp_path).generate_table(a_run(NASTY, 'µ ± Gauß Ω', '[x]', '*'))
    assert path.name == 'table.tex'
    text = compiled(tmp_path, document(r'\input{table.tex}'))
    for shown in ('20158 ± 35', '19158 ± 36', '12.00 ± 0.40', '(1.234', 'latency_p50 ↓', '[µs]', '[elem/s]', 'throughput ↑', 'µ ± Gauß Ω', '[x]'):
        assert shown.replace('(1.234', '1.234×10').replace('µ', 'μ') in text.replace('µ', 'μ'), (shown, text)
    row = next(line for line in text.splitlines() if '20158' in line)
    assert re.sub(r'\s', '', row).startswith(re.sub(r'\s', '', NASTY)), row


@needs_latex
def test_latex_with_caption_label_and_everything_nasty(tmp_path):
    nasty = Run(id=NASTY, timestamp=DAY, metric_defs={NASTY: MetricDef(name=NASTY, unit='%/#_&', direction='lower')}, points=[
        Point(name=NASTY, scenario=NASTY, tags={NASTY: f}, metrics={NASTY: Metric(value=v, lower=v - 1, upper=v + 1)}) for f, v in ((NASTY, 3), ('-1', math.inf), ('b', math.nan))])
    latex = PublicationGenerator(tmp_path).generate_table(nasty, group_by_tag=NASTY, caption=NASTY, label='tab:x_1', standalone=True).read_text()
    text = compiled(tmp_path, latex)
    assert 'Table 1' in text and '3.0 ± 1.0' in text and '∞' in text and 'NaN' in text and '[%/#_&]' in text


@needs_latex
def test_any_text_compiles(tmp_path):
    "Names of all sorts of characters, in cells and in captions, with the old and with the new encoding of fonts"
    rng = np.random.default_rng(0)
    pool = [chr(c) for a, b in ((1, 0x250), (0x370, 0x400), (0x2000, 0x20d0), (0x2190, 0x2300)) for c in range(a, b)] + [*NASTY, '中', '😀', '\u0301', '\ud800']*12
    cells = [latex_text(''.join(rng.choice(pool, rng.integers(1, 12)))) for _ in range(200)]
    tables = [r'\begin{tabular}{l}' + ' \\\\\n'.join(cells[i:i + 40]) + r' \\ \end{tabular}\newpage' for i in range(0, 200, 40)]
    compiled(tmp_path, document(*tables))
    compiled(tmp_path, '\n'.join([r'\documentclass{article}\begin{document}', *tables, r'\end{document}']))


@needs_latex
def test_other_tables_compile(tmp_path):
    table = rank_table(a_run(NASTY, 'B'), 'latency_p50').table()
    assert '12.00' in compiled(tmp_path, to_latex(table, caption='Ranking & more', standalone=True))


def test_latex_is_a_booktabs_fragment_with_the_best_in_bold(tmp_path):
    text = PublicationGenerator(tmp_path).generate_table(Run(points=frameworks(throughput=[Metric(value=1), Metric(value=2)]).points, metric_defs=DEFS)).read_text()
    assert r'\begin{tabular}{lr}' in text and r'\toprule' in text and r'\bottomrule' in text and r'\textbf{2.00}' in text and 'Framework & throughput' in text


def test_a_label_that_latex_would_not_take_is_refused():
    with pytest.raises(ExportInputError, match='label'): to_latex(comparison(a_run('A')), label='a}b')


# --- HTML, Markdown, CSV -------------------------------------------------------------------------------------------------------

class Parsed(html.parser.HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.tags, self.text, self.cells = [], [], []
        self.feed(text); self.close()
    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        if tag in ('td', 'th'): self.cells.append('')
    def handle_data(self, data):
        self.text.append(data)
        if self.cells: self.cells[-1] += data


def test_script_tags_stay_text_in_html(tmp_path):
    script = '<script>alert(1)</script>'
    run = Run(id=script, timestamp=DAY, metric_defs={script: MetricDef(name=script, unit='<b>&', direction='lower', description='"><script>alert(2)</script>')}, points=[
        Point(name=script, scenario='s', tags={'framework': f, script: f}, metrics={script: Metric(value=i)}) for i, f in enumerate((script, f'{script}2'))])
    page = PublicationGenerator(tmp_path).generate_table(run, output_format='html', caption=script).read_text()
    parsed = Parsed(page)
    assert 'script' not in parsed.tags and parsed.cells.count(script) == 1 and f'{script} ↓ [<b>&]' in parsed.cells
    assert page.startswith('<!DOCTYPE html>') and 'charset="utf-8"' in page and 'http' not in page
    assert 'script' not in Parsed(to_html(rank_table(run, script).table(), caption=script)).tags


def test_html_holds_the_numbers_and_marks_the_best():
    page = to_html(comparison(a_run('A', 'B')))
    assert '<b>20158</b> ± 35' in page and '<b>1.234</b>×10<sup>−5</sup>' in page and '[µs]' in page and 'Framework' in Parsed(page).cells


def read_markdown(text):
    "Rows of cells as the pipes divide them"
    lines = [line for line in text.splitlines() if line.startswith('|')]
    rows = [[re.sub(r'\\([!-/:-@\[-`{-~])', r'\1', c.strip()) for c in re.split(r'(?<!\\)(?:\\\\)*\|', line)[1:-1]] for line in lines]
    return rows[0], rows[2:]


def test_markdown_reads_back():
    table = comparison(a_run('A|B', 'tf.data <2>', '_x_'))
    headings, rows = read_markdown(to_markdown(table))
    assert headings == ['Framework', 'throughput ↑ [elem/s]', 'latency_p50 ↓ [µs]', 'loss ↓']
    assert [r[0] for r in rows] == ['A|B', 'tf.data <2>', '_x_']
    assert [[c.strip('*') for c in r[1:]] for r in rows] == [[table.text(i, c.metric).removesuffix(' *') for c in table.columns] for i in range(3)]
    assert rows[0][1] == '**20158 ± 35**'


@settings(max_examples=200, deadline=None)
@given(st.lists(st.text(st.characters(exclude_categories=('Cs', 'Cc', 'Zs', 'Zl', 'Zp'))).map(lambda t: t.strip()), min_size=1, max_size=4))
def test_markdown_cells_hold_any_text(cells):
    headings, rows = read_markdown(to_markdown(Table(tuple(f'c{i}' for i in range(len(cells))), (tuple(cells),))))
    assert rows == [cells] and len(headings) == len(cells)


def test_markdown_of_a_name_is_no_markup():
    assert markdown_text('[a](http://x) <img> `c` $x$ #1') == r'\[a\](http://x) \<img\> \`c\` \$x\$ \#1'


def test_csv_reads_back_in_full_precision(tmp_path):
    run = a_run('=1+1', '@SUM(A1)', "'quoted", '-x', 'a,"b"\nc', speed=Metric(value=0.1 + 0.2, lower=-1e-300))
    rows = list(csv.DictReader(io.StringIO(PublicationGenerator(tmp_path).generate_table(run, output_format='csv').read_text(encoding='utf-8'))))
    for row, point in zip(rows, run.points, strict=True):
        assert row['Framework'].removeprefix("'") == point.tags['framework'] and row['point'] == point.name and row['scenario'] == 'CV-1'
        for name, m in point.metrics.items():
            assert float(row[name]) == m.value and row[f'{name} unit'] == (DEFS[name].unit if name in DEFS else '')
            assert [float(row[f'{name} {end}']) if row[f'{name} {end}'] else None for end in ('lower', 'upper')] == [m.lower, m.upper]
    assert [r['Framework'][0] for r in rows[:4]] == ["'"]*4 and rows[2]['Framework'] == "''quoted" and rows[4]['Framework'] == 'a,"b"\nc'


@settings(max_examples=200, deadline=None)
@given(st.text())
def test_no_spreadsheet_runs_a_cell(text):
    safe = csv_text(text)
    assert safe in (text, "'" + text)
    number = re.fullmatch(r'[-+]\d+(\.\d+)?(e[-+]?\d+)?%?', text)
    if safe == text and not number: assert not text.lstrip(' ').startswith(('=', '+', '-', '@', '\t', '\r', "'"))


def test_csv_of_missing_and_infinite_values():
    run = Run(metric_defs=DEFS, points=[Point(name=n, scenario='s', metrics=m) for n, m in (('a', {'loss': Metric(value=math.nan)}), ('b', {'loss': Metric(value=-math.inf)}), ('c', {}))])
    rows = list(csv.DictReader(io.StringIO(to_csv(comparison(run, ['loss'])))))
    assert [r['loss'] for r in rows] == ['NaN', '-Infinity', '']
    assert math.isnan(float(rows[0]['loss'])) and float(rows[1]['loss']) == -math.inf


# --- faults of the published package (known-faults.md G) ---------------------------------------------------------------------------

def test_small_values_are_told_apart(tmp_path):
    "1.234e-05 and 1.299e-05 were both 0.0000"
    run = a_run('A', 'B')
    run = Run(points=[Point(name=p.name, scenario='s', tags=p.tags, metrics={'loss': Metric(value=v)}) for p, v in zip(run.points, (1.234e-05, 1.299e-05))])
    for form in FORMATS:
        text = PublicationGenerator(tmp_path).generate_table(run, output_format=form).read_text()
        assert '1.234' in text and '1.299' in text and '0.0000' not in text


def test_units_are_in_every_format(tmp_path):
    for form in FORMATS: assert 'elem/s' in PublicationGenerator(tmp_path).generate_table(a_run('A'), output_format=form).read_text()


def test_not_a_number_is_said_so(tmp_path):
    run = frameworks(throughput=[Metric(value=math.nan), Metric(value=1)])
    for form in FORMATS: assert 'NaN' in PublicationGenerator(tmp_path).generate_table(run, output_format=form).read_text()


def test_markdown_is_a_format_and_word_is_none(tmp_path):
    assert PublicationGenerator(tmp_path/'new'/'folder').generate_table(a_run('A'), output_format='markdown').name == 'table.md'
    with pytest.raises(ValueError, match='Unknown output format: word') as raised: PublicationGenerator(tmp_path).generate_table(a_run('A'), output_format='word')
    assert isinstance(raised.value, ExportError) and 'latex' in raised.value.hint


def test_a_slash_in_a_metric_makes_no_folder(tmp_path):
    path = PublicationGenerator(tmp_path).generate_scaling_plot([1, 2, 4, 8], [1, 2, 4, 8.1], metric_name='a/b')
    assert path == tmp_path/'scaling_a_b.png' and path.stat().st_size > 1000
    assert file_stem('../../etc') == '_.._etc' and file_stem('') == 'figure'


def test_plotting_a_missing_value_is_not_plotting_zero(tmp_path):
    "The bar of a metric that was not measured is not there, and the picture says so"
    run = Run(metric_defs=DEFS, points=[*a_run('A', 'B').points, Point(name='CV-1/small', scenario='CV-1', tags={'framework': 'C'})])
    with publication_style(mathematics=False):
        figure, axes = comparison(run, ['loss']).plot()
        assert len(axes[0].patches) == 2 and [t.get_text() for t in axes[0].texts if t.get_style() == 'italic'] == ['not measured']
        import matplotlib.pyplot as plt
        plt.close(figure)


# --- pictures ----------------------------------------------------------------------------------------------------------------

def trend(n=40, point='CV-1/small', **more):
    rng = np.random.default_rng(0)
    return TrendSeries(metric='latency_p50', point_name=point, unit='µs', points=[
        TrendPoint(run_id=f'r{i}', timestamp=DAY + timedelta(days=i), value=v, lower=v - .3, upper=v + .3) for i, v in enumerate([*rng.normal(20, .2, n//2), *rng.normal(22, .2, n - n//2)])])

def roof():
    from calibrax.profiling.hardware import HardwareSpec
    from calibrax.profiling.roofline import roofline
    spec = HardwareSpec(name='example', peak_flops=2e11, memory_bandwidth=4e10)
    return [roofline(2e9, 2.4e7, 0.02, spec, name='matmul'), roofline(1e6, 1.2e7, 6e-4, spec, name='add')], spec

PLOTS = {      # name → (draw, name of the file, a unit on its axes)
    'comparison': (lambda p, f: p.comparison_plot(a_run('A', 'B & C', 'µ $x$ $'), output_format=f), 'comparison', 'elem/s'),
    'trend': (lambda p, f: p.trend_plot(trend(), output_format=f), 'trend_latency_p50_CV-1_small', 'µs'),
    'change points': (lambda p, f: p.trend_plot(trend(point='p'), change_points=True, direction='lower', output_format=f), 'trend_latency_p50_p', 'µs'),
    'scaling': (lambda p, f: p.scaling_plot([1, 2, 4, 8, 16], [3, 6.2, 11.7, 24.5, 47], metric_name='time/call', unit='ms', output_format=f), 'scaling_time_call', 'ms'),
    'convergence': (lambda p, f: p.convergence_plot(trend(20), step='epoch', output_format=f), 'convergence_latency_p50', 'µs'),
    'values': (lambda p, f: p.metric_values_plot({'precision': 0.9, 'recall': 0.8}, title='Detector', filename='a/b', unit='%', output_format=f), 'a_b', '%'),
    'pareto': (lambda p, f: p.pareto_plot(a_run('A', 'B', 'C'), 'latency_p50', 'throughput', output_format=f), 'pareto_latency_p50_throughput', 'elem/s'),
    'rank': (lambda p, f: p.rank_plot(a_run('A', 'B', 'C'), 'throughput', output_format=f), 'rank_throughput', 'elem/s'),
    'roofline': (lambda p, f: p.roofline_plot(*roof(), output_format=f), 'roofline', 'FLOP/byte'),
}


@pytest.mark.parametrize('plot', PLOTS)
def test_every_picture_in_every_format(tmp_path, plot):
    draw, stem, unit = PLOTS[plot]
    import matplotlib.pyplot as plt
    before = plt.get_fignums()
    for form in PICTURES:
        path = draw(PlotGenerator(tmp_path, dpi=80), form)
        data = path.read_bytes()
        assert path == tmp_path/f'{stem}.{form}' and len(data) > 2000
        assert data == draw(PlotGenerator(tmp_path, dpi=80), form).read_bytes(), 'the same data give the same file'
        if form == 'png': assert data[:8] == b'\x89PNG\r\n\x1a\n' and struct.unpack('>I', data[16:20])[0] > 200
        elif form == 'svg':
            root = ElementTree.fromstring(data)
            assert root.tag == '{http://www.w3.org/2000/svg}svg' and b'<dc:date>' not in data
        else:
            assert data[:5] == b'%PDF-' and b'CreationDate' not in data and b'/Type3' not in data
            if shutil.which('pdftotext'):
                text = subprocess.run(['pdftotext', path, '-'], capture_output=True, check=True).stdout.decode()
                assert unit in text.replace('μ', 'µ'), text
    assert plt.get_fignums() == before, 'figures are closed'


def test_fonts_are_embedded_as_truetype(tmp_path):
    if not shutil.which('pdffonts'): pytest.skip('pdffonts is not installed: poppler-utils')
    listed = subprocess.run(['pdffonts', PlotGenerator(tmp_path).rank_plot(a_run('A', 'B'), 'throughput', output_format='pdf')], capture_output=True, check=True).stdout.decode()
    assert 'TrueType' in listed and all(line.split()[-5] == 'yes' for line in listed.splitlines()[2:]), listed


@pytest.mark.parametrize(('width', 'inches'), [('one', 3.5), ('two', 7.2), (5.0, 5.0)])
def test_a_picture_is_as_wide_as_a_column(tmp_path, width, inches):
    for draw in (PLOTS[name][0] for name in ('comparison', 'rank', 'pareto')):
        data = draw(PlotGenerator(tmp_path, width=width, dpi=100), 'png').read_bytes()
        assert struct.unpack('>I', data[16:20])[0] == pytest.approx(100*inches, abs=1)


def test_error_bars_are_the_intervals():
    figure, axes = comparison(a_run('A', 'B'), ['throughput']).plot()
    import matplotlib.pyplot as plt
    ends = sorted(x for c in axes[0].collections for segment in c.get_segments() for x, _ in segment)
    plt.close(figure)
    assert ends == pytest.approx([19158 - 36, 19158 + 36, 20158 - 35, 20158 + 35])


def test_many_rows_and_metrics_are_drawn(tmp_path):
    run = Run(points=[Point(name=f'p{i}', scenario='s', tags={'framework': f'f{j}'}, metrics={f'm{k}': Metric(value=10.0**(k - 5)*(i + j + 1)) for k in range(7)}) for i in range(4) for j in range(9)])
    assert PlotGenerator(tmp_path, dpi=50).comparison_plot(run).stat().st_size > 10_000


def test_what_cannot_be_drawn_is_an_error_with_a_hint(tmp_path):
    p, empty = PlotGenerator(tmp_path), TrendSeries(metric='m', point_name='p')
    for draw in (lambda: p.comparison_plot(Run(points=[])), lambda: p.trend_plot(empty), lambda: p.convergence_plot(empty), lambda: p.scaling_plot([], []),
                 lambda: p.metric_values_plot({}, title='t', filename='f'), lambda: p.rank_plot(a_run('A'), 'no'), lambda: p.pareto_plot(a_run('A'), 'x', 'y'),
                 lambda: p.rank_plot(a_run('A'), 'loss', output_format='bmp')):
        with pytest.raises(ExportInputError) as raised: draw()
        assert raised.value.hint and isinstance(raised.value, ValueError)
    assert not list(tmp_path.iterdir()), 'nothing is written when nothing is drawn'


# --- the older names, and the exporters ----------------------------------------------------------------------------------------------

def test_older_names_give_none_where_nothing_is_to_be_drawn(tmp_path, caplog):
    paper = PublicationGenerator(tmp_path)
    assert paper.generate_comparison_plot(Run(points=[])) is None and paper.generate_convergence_plot(TrendSeries(metric='m', point_name='p')) is None
    assert len(caplog.records) == 2
    with pytest.raises(ValueError): paper.plot_metric_values({}, title='t', filename='f')
    assert paper.plot_metric_values({'a': 1}, title='t', filename='x/y', output_format='svg') == tmp_path/'x_y.svg'
    assert paper.generate_comparison_plot(a_run('A')) == tmp_path/'comparison.png' and paper.generate_convergence_plot(trend(9)) == tmp_path/'convergence_latency_p50.png'


def test_metrics_of_unknown_direction_are_not_ranked(tmp_path, caplog):
    points = [Point(name='p', scenario='s', tags={'framework': f}, metrics={n: Metric(value=v) for n in ('seconds', 'latency', 'threads')}) for f, v in (('slow', 9), ('fast', 1))]
    run = Run(id='r', points=points, metric_defs={'threads': MetricDef(name='threads', unit='', direction='info')})
    defs = {'latency': MetricDef(name='latency', unit='ms', direction='lower')}
    CsvExporter(tmp_path, metric_defs=defs).export_analysis(run)
    rows = list(csv.reader((tmp_path/'rankings.csv').read_text().splitlines()))
    assert [row[:3] for row in rows[1:]] == [['latency ↓ [ms]', '1', 'fast'], ['latency ↓ [ms]', '2', 'slow']]
    assert 'whether more or less of seconds is better, so it is not ranked' in caplog.text
    CsvExporter(tmp_path).export_analysis(run)
    assert len((tmp_path/'rankings.csv').read_text().splitlines()) == 1


@pytest.mark.parametrize('tag', ['rank', 'value', 'metric', 'behind the best', 'interval'])
def test_labels_are_in_the_rankings_whatever_the_tag_is_called(tmp_path, tag):
    run = Run(id='r', metric_defs=DEFS, points=[Point(name='p', scenario='s', tags={tag: t}, metrics={'loss': bounded(v, 0.1)}) for t, v in (('four', 1), ('eight', 2))])
    CsvExporter(tmp_path, options={'group_by_tag': tag}).export_analysis(run)
    heads, *rows = csv.reader((tmp_path/'rankings.csv').read_text().splitlines())
    assert [row[:3] for row in rows] == [['loss ↓', '1', 'four'], ['loss ↓', '2', 'eight']] and len(set(heads)) == 5


@pytest.mark.parametrize('exporter', [LatexExporter, HtmlExporter, MarkdownExporter, CsvExporter])
def test_exporters_write_into_a_folder_or_a_file(tmp_path, exporter):
    run, ending = a_run('A', 'B'), FORMATS[exporter.name]
    made = exporter.from_settings(ExportSettings(output=tmp_path/'paper', metrics=('loss',), metric_defs=DEFS))
    assert made.export_run(run) == str(tmp_path/'paper'/f'table.{ending}')
    text = (tmp_path/'paper'/f'table.{ending}').read_text()
    assert 'loss' in text and 'throughput' not in text
    assert exporter(tmp_path/f'own.{ending}').export_run(run) == str(tmp_path/f'own.{ending}')
    made.export_analysis(run)
    ranked = (tmp_path/'paper'/f'rankings.{ending}').read_text()
    assert 'loss' in ranked and 'throughput' not in ranked and '5.3%' in ranked.replace('\\', '')
    assert not (tmp_path/'paper'/f'changes.{ending}').exists()
    before = Run(id='r0', points=run.points[:1], metric_defs=DEFS)
    made.export_analysis(run, before)
    assert 'new' in (tmp_path/'paper'/f'changes.{ending}').read_text()
    shown = made.preview(run, before)
    assert shown.columns == ('item', 'kind', 'content') and text.splitlines() == [r[2] for r in shown.rows][:len(text.splitlines())]


def test_a_preview_writes_nothing(tmp_path):
    CsvExporter(tmp_path/'x').preview(a_run('A'))
    assert not list(tmp_path.iterdir())


def test_a_file_in_the_way_is_an_export_error(tmp_path):
    (tmp_path/'file').write_text('')
    for make in (lambda: PublicationGenerator(tmp_path/'file'), lambda: PlotGenerator(tmp_path/'file'/'x'), lambda: CsvExporter(tmp_path/'file'/'y').export_run(a_run('A'))):
        with pytest.raises(ExportError) as raised: make()
        assert raised.value.hint
    assert (tmp_path/'file').read_text() == ''


def test_importing_needs_no_plotting_library():
    code = "import sys, calibrax.exporters.tables, calibrax.exporters.publication, calibrax.exporters.plots; print([m for m in ('jax', 'matplotlib', 'scipy', 'pandas') if m in sys.modules])"
    assert subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True).stdout.strip() == '[]'
