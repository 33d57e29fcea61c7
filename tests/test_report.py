"""The report: one file that fetches nothing, says what the analyses say, escapes what it is given, and works in a browser.

Where Chromium is installed it opens the page in the light, in the dark, on a telephone and on paper; the pictures stay in pytest's
temporary folder, and their place is printed. `python tests/test_report.py` takes the picture for the page nbs/exporters/report.ipynb."""
import base64, hashlib, html, json, math, os, re, shutil, subprocess, sys, threading
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from pathlib import Path
from unittest.mock import patch

import pytest
from hypothesis import given, settings, strategies as st

pytest.importorskip('vl_convert', reason='the charts of a report need vl-convert-python')

from calibrax.analysis.changepoint import scan_store
from calibrax.ci.guard import CIGuard
from calibrax.core.errors import ConfigError, ExportError, NoBaselineError, RecordError, StoreError
from calibrax.core.models import Metric, MetricDef, Point, Run
from calibrax.exporters import report_charts
from calibrax.exporters.report import Report, make_report, render_report, write_report
from calibrax.exporters.report_charts import change_chart, chart_svg, charted_series, ranking_chart, trend_chart
from calibrax.exporters.report_data import collect_report, series_events
from calibrax.storage import Store

ROOT = Path(__file__).parents[1]
BEGIN = datetime(2026, 1, 1, 2, tzinfo=UTC)
DEFS = {'latency': MetricDef(name='latency', unit='ms', direction='lower', priority='primary', description='median of a batch'),
        'throughput': MetricDef(name='throughput', unit='elem/s', direction='higher'), 'threads': MetricDef(name='threads', unit='', direction='info')}
HOSTILE = '</script><script>alert(1)</script><img src=x onerror=alert(2)>"\'`${alert(3)} & \u2028\u2029 <!-- ]]> é 漢字 \U0001f600'


# --- stores --------------------------------------------------------------------------------------------------------------

def noise(i, j=0): return ((i*7919 + j*104729) % 1000)/1000 - .5        # of uniform distribution, the same on every machine

def metric(value, i, samples=5):
    found = tuple(value*(1 + .02*noise(i, 17*k + 3)) for k in range(samples))
    mean = math.fsum(found)/samples
    return Metric(value=mean, lower=mean*.985, upper=mean*1.015, samples=found)

def nightly(i, n=60, *, names=('CV-1/small', 'CV-1/large', 'NLP-1/small'), slow=1.08):
    "A run in which one workload is slower from run 41 on, and whose last one has lost throughput and a metric"
    points = []
    for w, name in enumerate(names):
        for f, framework in enumerate(('Datarax', 'Grain')):
            latency = (12, 48, 7.5)[w % 3]*(1 + .06*f)*(slow if (w, f) == (0, 0) and i >= 41 else 1)
            metrics = {'latency': metric(latency, 31*i + 7*w + f), 'throughput': metric(240_000/latency*(.85 if f and i == n - 1 else 1), 31*i + 7*w + f + 500), 'threads': Metric(value=8)}
            if i == n - 1 and (w, f) == (2, 1): del metrics['latency']
            points.append(Point(name=name, scenario=name.split('/')[0], tags={'framework': framework}, metrics=metrics))
    environment = {'cpu': 'EPYC 7B13', 'cores_usable': 8, 'python': '3.12.4' if i > 52 else '3.11.9', 'packages': {'jax': '0.9.0'}, 'devices': [{'kind': 'A100', 'count': 2}]}
    return Run(id=f'run{i:03d}', timestamp=BEGIN + timedelta(days=i), commit=f'{(i + 1)*2654435761 % 2**40:010x}', branch='main', environment=environment, metric_defs=DEFS, points=points)

def simple(run_id, day=0, defs=DEFS, scenario='s', tags=None, **values):
    points = [Point(name='p', scenario=scenario, tags=tags or {}, metrics={k: Metric(value=v) for k, v in values.items()})] if values else []
    return Run(id=run_id, timestamp=BEGIN + timedelta(days=day), metric_defs=defs, points=points)

def stored(folder, *runs, baseline=None):
    store = Store(folder)
    for r in runs: store.save(r)
    if baseline: store.set_baseline(baseline)
    return store

@pytest.fixture(scope='module')
def demo(tmp_path_factory):
    store = stored(tmp_path_factory.mktemp('demo')/'benchmark-data', *(nightly(i) for i in range(60)), baseline='run050')
    store.annotate('latest', note='the fan was broken')
    return store

@pytest.fixture(scope='module')
def page(demo): return render_report(demo)

@pytest.fixture(scope='module')
def hostile(tmp_path_factory):
    "A store in which every text is an attack"
    def run(i):
        point = Point(name=HOSTILE, scenario=HOSTILE + 's', tags={HOSTILE: HOSTILE + str(f) for f in 'ab'} | {'framework': HOSTILE}, metrics={HOSTILE + 'm': Metric(value=10 + i, samples=(1., 2., 3.))})
        other = Point(name=HOSTILE, scenario=HOSTILE, tags={'framework': HOSTILE + 'other'}, metrics={HOSTILE + 'm': Metric(value=9.), 'plain': Metric(value=1.)})
        return Run(id=f'run{i}', timestamp=BEGIN + timedelta(days=i), commit=HOSTILE, branch=HOSTILE, environment={HOSTILE: {HOSTILE: HOSTILE}, 'cpu': HOSTILE}, points=[point, other],
                   metric_defs={HOSTILE + 'm': MetricDef(name=HOSTILE + 'm', unit=HOSTILE, direction='lower', description=HOSTILE)})
    store = stored(tmp_path_factory.mktemp('hostile')/'bench', *(run(i) for i in range(5)), baseline='run0')
    store.annotate('latest', note=HOSTILE, tags={HOSTILE: HOSTILE})
    return store


# --- reading a page ------------------------------------------------------------------------------------------------------

def light(page):
    "The page without the script of 0.9 MB, which holds pieces of HTML and takes long to read"
    start = page.find('<script>')
    return page if start < 0 or len(page) - start < 500_000 else page[:start] + page[page.rindex('<script>'):]

class Parsed(HTMLParser):
    "The elements of a page: (tag, attributes, text inside of it and its children)"
    VOID = {'meta', 'link', 'base', 'img', 'br', 'input'}
    def __init__(self, text, *, small=True): # without the large script, which takes long to read
        super().__init__()
        self.elements, self.open = [], []
        self.feed(light(text) if small else text); self.close()
        assert not self.open, f'not closed: {[e[0] for e in self.open]}'

    def handle_starttag(self, tag, attrs):
        element = (tag, dict(attrs), [], [e[0] for e in self.open])
        self.elements.append(element)
        if tag not in self.VOID: self.open.append(element)

    def handle_endtag(self, tag):
        if tag in self.VOID: return
        assert self.open and self.open[-1][0] == tag, f'</{tag}> closes {self.open[-1][0] if self.open else "nothing"}'
        self.open.pop()

    def handle_startendtag(self, tag, attrs): self.elements.append((tag, dict(attrs), [], [e[0] for e in self.open]))
    def handle_data(self, data):
        for e in self.open: e[2].append(data)
    def of(self, *tags): return [(t, a, ''.join(text), inside) for t, a, text, inside in self.elements if t in tags]

def specs(page): return {a['data-chart']: json.loads(text) for _, a, text, _ in Parsed(page).of('script') if 'data-chart' in a}

def words(page):
    "What a reader sees, in one line"
    page = light(page)
    return re.sub(r'\s+', ' ', html.unescape(re.sub(r'<[^>]*>', ' ', re.sub(r'(?s)<(script|style)\b.*?</\1>', ' ', page))))

def section(page, name): return re.search(rf'(?s)<section id="{name}".*?</section>', page)[0]

def table_of(page, caption):
    "Rows of the table whose caption begins so"
    for table in re.findall(r'(?s)<table>.*?</table>', light(page)):
        if words(re.search(r'(?s)<caption>(.*?)</caption>', table)[1]).strip().startswith(caption):
            return [[words(c).strip() for c in re.findall(r'(?s)<t[hd][^>]*>(.*?)</t[hd]>', row)] for row in re.findall(r'(?s)<tr[^>]*>(.*?)</tr>', table)]


# --- one file, which fetches nothing -------------------------------------------------------------------------------------

def test_nothing_is_linked_and_only_our_scripts_run(page):
    parsed = Parsed(page, small=False)
    for tag, attrs, _, _ in parsed.elements:
        for name in ('src', 'href', 'srcset', 'data', 'action', 'poster', 'xlink:href', 'background'):
            assert attrs.get(name, '#').startswith(('#', 'data:,')), (tag, attrs)
        assert not any(name.startswith('on') for name in attrs), (tag, attrs)
    assert '@import' not in page.split('<script')[0] and 'url(' not in page.split('<script')[0]
    policy = next(a['content'] for _, a, _, _ in parsed.of('meta') if a.get('http-equiv') == 'Content-Security-Policy')
    assert "default-src 'none'" in policy and 'unsafe-eval' not in policy and "script-src 'unsafe" not in policy
    run = [text for _, a, text, _ in parsed.of('script') if a.get('type') != 'application/json']
    assert len(run) == 2 and all(f"'sha256-{base64.b64encode(hashlib.sha256(s.encode()).digest()).decode()}'" in policy for s in run)
    assert page.index('Content-Security-Policy') < page.index('<style') < page.index('<script')


def test_an_equal_store_gives_equal_bytes(demo, page, tmp_path):
    file = write_report(demo, tmp_path/'new'/'report.html')
    assert file.read_bytes().decode() == page == render_report(Store(demo.path))
    assert [f.name for f in file.parent.iterdir()] == ['report.html']


def test_it_is_written_whole_or_not_at_all(demo, tmp_path):
    file = tmp_path/'report.html'
    file.write_text('old')
    with patch('os.replace', side_effect=OSError(28, 'No space left on device')), pytest.raises(StoreError, match='report.html'): write_report(demo, file)
    assert file.read_text() == 'old' and [f.name for f in tmp_path.iterdir()] == ['report.html']


def test_reading_changes_nothing_in_the_store(demo, tmp_path):
    def state(): return sorted((str(f), f.stat().st_mtime_ns) for f in Path(demo.path).rglob('*'))
    before = state()
    write_report(demo, tmp_path/'report.html')
    assert state() == before


def test_without_the_extra_it_says_what_to_install(demo):
    with patch.dict('sys.modules', {'vl_convert': None}), pytest.raises(ExportError, match='vl-convert-python') as e: render_report(demo)
    assert 'calibrax[publication] @ git+' in e.value.hint     # a bare name would bring another project's package


@pytest.mark.parametrize('module', ['vl_convert', 'altair', 'jax', 'matplotlib', 'fastcore', 'pandas', 'scipy'])
def test_importing_it_brings_nothing_large(module):
    code = f"import sys, calibrax.exporters.report; sys.exit({module!r} in sys.modules)"
    assert subprocess.run([sys.executable, '-c', code]).returncode == 0


# --- what it says --------------------------------------------------------------------------------------------------------

def test_the_numbers_are_those_of_the_analyses(demo, page):
    data = collect_report(demo)
    comparison = data.comparison
    assert data.headline == '3 regressions, 1 metric of the baseline missing' and data.headline in words(page) and words(re.search('<title>.*?</title>', page)[0]).strip().startswith('✕ 3 regressions')
    rows = table_of(page, 'Regressions')
    assert rows[0] == ['point', 'metric', 'baseline', 'now', 'change', 'course', 'why']
    for (label, c), row in zip(sorted(comparison.labelled('regressed'), key=lambda r: r[1].delta_pct), rows[1:], strict=True):
        assert row[0] == label and row[1] == 'throughput ↑ , higher is better [elem/s]' and row[2:5] == [f'{c.baseline_value:.2f}', f'{c.current_value:.2f}', f'✕ {c.change}']
    assert table_of(page, 'Missing')[1][0].startswith('NLP-1/small') and len(table_of(page, 'Unchanged')) == 1 + comparison.counts['unchanged'] + comparison.counts['informational']
    first = {s.label: s for s in data.series if s.history.changes and s.metric == 'latency'}
    assert list(first) == ['CV-1/small [framework=Datarax]']
    event = series_events(first['CV-1/small [framework=Datarax]'])[0]
    row = next(r for r in table_of(page, 'Change points') if r[0] == 'CV-1/small [framework=Datarax]' and r[1].startswith('latency'))
    assert row[2:5] == [f'{data.runs[event.place].timestamp:%Y-%m-%d %H:%M}', f'✕ {event.size}', event.interval] and data.runs[event.place].run_id == 'run041'
    assert table_of(page, 'latency by framework')[1][0] == data.rankings[0][0].label == 'Datarax'
    assert 'python: 3.11.9 → 3.12.4' in words(page) and 'the fan was broken' in words(page)


def test_regressions_come_first(page):
    order = [page.index(f'id="{name}"') for name in ('summary', 'regressions', 'missing', 'unchanged', 'rankings', 'trends', 'suite', 'environment', 'runs')]
    assert order == sorted(order)


def test_change_points_are_those_of_the_store(demo):
    scanned = {(h.metric, h.point_name, h.tags): [c.run_id for c in h.changes] for h in scan_store(demo).series}
    data = collect_report(demo)
    assert {(s.metric, s.point_name, s.tags): [data.runs[e.place].run_id for e in series_events(s) if e.kind == 'change'] for s in data.series} == scanned


CASES = {
    'same': [simple('a', latency=10.), simple('b', 1, latency=10.)], 'worse': [simple('a', latency=10.), simple('b', 1, latency=12.)],
    'better': [simple('a', latency=10.), simple('b', 1, latency=8.)], 'missing': [simple('a', latency=10., throughput=1.), simple('b', 1, latency=10.)],
    'became NaN': [simple('a', latency=10.), simple('b', 1, latency=math.nan)], 'new': [simple('a', latency=10.), simple('b', 1, latency=10., throughput=5.)],
    'unit': [simple('a', latency=10.), simple('b', 1, {'latency': MetricDef(name='latency', unit='s', direction='lower')}, latency=10.)]}

@pytest.mark.parametrize('case', CASES)
def test_the_verdict_is_that_of_check(case, tmp_path):
    store = stored(tmp_path/'s', *CASES[case], baseline='a')
    outcome = collect_report(store).outcome
    assert outcome == {0: 'pass', 1: 'fail', 2: 'not comparable'}[CIGuard(store).check().exit_code]
    assert {'pass': '✓', 'fail': '✕', 'not comparable': '≠'}[outcome] in re.search('<title>(.*?)</title>', render_report(store))[1]


def test_the_data_of_the_chart_are_the_values(demo, page):
    data, trend = collect_report(demo), specs(page)['trend-chart']
    columns = next(layer['data']['values'][0] for layer in trend['layer'] if layer.get('data', {}).get('name') == 'runs')
    assert columns['id'] == [r.run_id for r in data.runs] and columns['t'][0] == BEGIN.timestamp()*1000
    for i, s in enumerate(charted_series(data)):
        for letter, values in (('v', s.values), ('l', s.lower), ('u', s.upper)):
            if values: assert columns['columns'][f'{letter}{i}'] == [None if v is None else pytest.approx(v, rel=1e-6) for v in values]


@pytest.mark.parametrize('chart', [trend_chart, change_chart, ranking_chart])
def test_charts_are_valid_vega_lite(demo, chart):
    spec = chart(collect_report(demo))
    assert '<svg' in chart_svg(spec, width=500)
    altair = pytest.importorskip('altair', reason='altair has the schema')
    altair.Chart.from_dict(json.loads(json.dumps(spec)), validate=True)


# --- readers -------------------------------------------------------------------------------------------------------------

def check_structure(page):
    parsed = Parsed(page)
    assert page.startswith('<!DOCTYPE html>\n<html lang="en">') and [a.get('name') for _, a, _, _ in parsed.of('meta') if a.get('name') == 'viewport']
    assert [len(parsed.of(tag)) for tag in ('h1', 'main', 'header', 'footer', 'nav', 'title')] == [1]*6
    levels = [int(t[1]) for t, _, _, _ in parsed.of('h1', 'h2', 'h3', 'h4', 'h5')]
    assert levels[0] == 1 and all(b <= a + 1 for a, b in zip(levels, levels[1:])), levels
    ids = [a['id'] for _, a, _, _ in parsed.elements if 'id' in a]
    assert len(ids) == len(set(ids))
    links = [a['href'] for _, a, _, _ in parsed.of('a')]
    assert links[0] == '#content' and all(h[1:] in ids for h in links), set(h for h in links if h[1:] not in ids)
    for _, a, _, _ in parsed.elements:
        for name in ('aria-labelledby', 'for'): assert a.get(name, ids[0]) in ids
    for table in re.findall(r'(?s)<table>.*?</table>', light(page)):
        assert '<caption>' in table and '<th scope="col"></th>' not in table and not re.search(r'<th(?=[ >])(?![^>]*scope=)', table)
        widths = {len(re.findall('<t[hd][ >]', row)) for row in re.findall(r'(?s)<tr[^>]*>(.*?)</tr>', re.sub('(?s)<tfoot>.*?</tfoot>', '', table))}
        assert len(widths) == 1, widths
    for _, a, text, inside in parsed.of('svg'): assert a['role'] == 'img' and a['aria-label']
    for _, a, text, inside in parsed.of('select'): assert 'label' in inside
    for _, a, text, inside in parsed.of('figure'): assert a['aria-label']
    for _, a, _, _ in parsed.elements: assert a.get('tabindex', '0') == '0' and ('tabindex' not in a or a['role'] == 'group' and a['aria-label'])
    assert all(spec['description'] for spec in specs(page).values())
    return parsed


def test_structure(page):
    parsed = check_structure(page)
    assert len(parsed.of('select')) == 3 and len(parsed.of('details')) > 5 and len(specs(page)) == 3


def luminance(color):
    r, g, b = ((v/12.92 if v <= .04045 else ((v + .055)/1.055)**2.4) for v in (int(color[i:i + 2], 16)/255 for i in (1, 3, 5)))
    return .2126*r + .7152*g + .0722*b

def contrast(a, b):
    high, low = sorted((luminance(a), luminance(b)), reverse=True)
    return (high + .05)/(low + .05)

@pytest.mark.parametrize('mode', ['light', 'dark', 'print'])
def test_contrast(page, mode):
    "WCAG AA: 4.5 to 1 for text on the page and on tinted ground, 3 to 1 for what has to be seen"
    css = re.search('(?s)<style>(.*?)</style>', page)[1]
    colors = dict(re.findall(r'--(\w+): (#\w{6})', re.findall(r'(?s):root \{(.*?)\}', css)[('light', 'dark', 'print').index(mode)]))
    if mode == 'light': assert report_charts.LIGHT.items() <= colors.items()
    mixed = lambda name, share: '#' + ''.join(f'{round(share*int(colors[name][i:i + 2], 16) + (1 - share)*int(colors["paper"][i:i + 2], 16)):02x}' for i in (1, 3, 5))     # noqa: E731
    for ground in (colors['paper'], colors['wash']):
        for name in ('ink', 'muted', 'accent', 'bad', 'good', 'odd', 'warn'): assert contrast(colors[name], ground) >= 4.5, (name, ground)
        assert contrast(colors['edge'], ground) >= 2.6
    assert contrast(colors['edge'], colors['paper']) >= 3
    for name in ('bad', 'good'): assert contrast(colors[name], mixed(name, .09)) >= 4.5 and contrast(colors['ink'], mixed(name, .09)) >= 4.5
    assert contrast(colors['ink'], mixed('warn', .1)) >= 4.5


def test_what_a_color_says_is_also_said_in_words(page):
    for _, a, text, inside in Parsed(page).of('span', 'strong', 'b'):
        if a.get('class') in ('bad', 'good', 'odd') and 'li' not in inside: assert re.search(r'[✕✓≠?]|differs|best|suspect|regressed|missing', text), text


# --- hostile names -------------------------------------------------------------------------------------------------------

KNOWN = set('html head meta title link style body a header h1 h2 h3 h4 p span time strong nav ul li main section b div table caption thead tbody tfoot tr th td svg path circle '
            'figure figcaption label select option optgroup details summary script noscript footer base small sub sup'.split())

def check_escaped(page, *texts):
    parsed = check_structure(page)
    assert {t for t, _, _, _ in parsed.elements} <= KNOWN and len(parsed.of('script')) <= 5
    for t, a, _, _ in parsed.elements: assert not any(name.startswith('on') or name in ('src', 'srcdoc', 'formaction') for name in a), (t, a)
    for text in re.findall(r'(?s)<script type="application/json"[^>]*>(.*?)</script>', page): assert not re.search('[<>&\u2028\u2029]', text)
    seen = re.sub(r'\s+', ' ', ' '.join(text for _, _, text, _ in parsed.of('main', 'header')))
    for text in texts: assert re.sub(r'\s+', ' ', text) in seen, text


def test_hostile_texts_stay_texts(hostile):
    page = render_report(hostile, title=HOSTILE)
    check_escaped(page, HOSTILE, HOSTILE + 'm', HOSTILE + 's')
    charts = specs(page)
    assert HOSTILE + 'm ↓ [' + HOSTILE + ']' in next(p['value'] for p in charts['trend-chart']['params'] if p['name'] == 'metrics')
    assert charts['ranking-chart']['data']['values'] and HOSTILE in charts['changes-chart']['data']['values'][0]['what']
    frame = make_report(hostile, title=HOSTILE)._repr_html_()
    assert [t for t, _, _, _ in Parsed(frame).elements] == ['iframe']


@settings(max_examples=25, deadline=None)
@given(st.text(max_size=40), st.text(max_size=20), st.text(min_size=1, max_size=20))
def test_any_text_is_escaped(name, tag, metric_name):
    store = Store('memory://any-text')
    points = [Point(name=name, scenario=tag, tags={tag: name}, metrics={metric_name: Metric(value=1., samples=(1., 1.1))})]
    defs = {metric_name: MetricDef(name=metric_name, unit=tag, direction='lower')}
    runs = [Run(id=i, timestamp=BEGIN + timedelta(days=d), commit=name, branch=tag, points=points, metric_defs=defs) for d, i in enumerate('ab')]
    try:
        for r in runs: store.save(r)
        page = render_report(store, title=name)
    finally:
        for r in runs: store.delete(r.id)
    check_escaped(page)
    assert next(p['value'] for p in specs(page)['trend-chart']['params'] if p['name'] == 'points') == [name]


# --- stores of every kind ------------------------------------------------------------------------------------------------

def test_an_empty_store_is_an_error_with_a_hint(tmp_path):
    with pytest.raises(StoreError, match='No runs in store') as e: write_report(Store(tmp_path/'nowhere'), tmp_path/'report.html')
    assert 'store.save(run)' in e.value.hint and not any(tmp_path.iterdir())


@pytest.mark.parametrize('wrong, error', [({'run': 'x'}, StoreError), ({'baseline': 'release/1.0'}, NoBaselineError), ({'threshold': -1}, ConfigError), ({'n_runs': 0}, ConfigError),
                                          ({'metrics': ['latancy']}, ConfigError), ({'policy': 'paired'}, ConfigError), ({'branch': 'dev'}, StoreError)])
def test_arguments_that_make_no_sense(demo, tmp_path, wrong, error):
    with pytest.raises(error) as e: write_report(demo, tmp_path/'report.html', **wrong)
    assert e.value.hint and not any(tmp_path.iterdir())


def test_something_else_than_a_store():
    with pytest.raises(RecordError, match='expected a Store, found str'): render_report('benchmark-data')


nan, inf = math.nan, math.inf
STORES = {
    'one run': ([simple('a', latency=10.)], None), 'one run, its own baseline': ([simple('a', latency=10.)], 'a'), 'no points': ([simple('a')], None),
    'lost everything': ([simple('a', latency=10.), simple('b', 1)], 'a'), 'no definitions': ([simple('a', defs={}, latency=10.), simple('b', 1, {}, latency=12.)], 'a'),
    'no numbers': ([simple(c, d, latency=v, throughput=nan) for d, (c, v) in enumerate(zip('abcdef', (10., nan, inf, -inf, 11., nan)))], 'a'),
    'only infinities': ([simple(c, d, latency=inf) for d, c in enumerate('abc')], 'a'), 'equal values': ([simple(c, d, latency=5.) for d, c in enumerate('abcdefghijklmno')], 'b'),
    'zero': ([simple(c, d, latency=0.) for d, c in enumerate('abc')], 'a'), 'huge and tiny': ([simple(c, d, latency=v, throughput=-v) for d, (c, v) in enumerate(zip('abc', (1e308, -1e308, 5e-324)))], 'a'),
    'other points each time': ([simple('a', latency=1.), simple('b', 1, tags={'k': 'v'}, latency=2.), simple('c', 2, throughput=3.)], 'a'),
    'two scenarios': ([Run(id=c, timestamp=BEGIN + timedelta(days=d), metric_defs=DEFS, points=[Point(name='p', scenario=s, metrics={'latency': Metric(value=v)}) for s, v in (('A', 1.), ('B', 20.))]) for d, c in enumerate('ab')], 'a'),
    'measured twice': ([Run(id=c, timestamp=BEGIN + timedelta(days=d), metric_defs=DEFS, points=[Point(name='p', scenario='A', metrics={'latency': Metric(value=v)}) for v in (1., 2.)]) for d, c in enumerate('ab')], 'a'),
    'odd bounds': ([Run(id=c, timestamp=BEGIN + timedelta(days=d), metric_defs=DEFS, points=[Point(name='p', scenario='', metrics={'latency': Metric(value=1., lower=-inf, upper=nan, samples=(nan, inf, 1.)), 'throughput': Metric(value=2., lower=1.)})]) for d, c in enumerate('ab')], 'a'),
    'long names': ([simple('a', defs={}, scenario='s'*300, **{'m'*300: 1.}), simple('b', 1, {}, scenario='s'*300, **{'m'*300: 2.})], 'a'),
    'same time': ([simple(c, 0, latency=float(ord(c))) for c in 'abc'], 'a'),
}

@pytest.mark.parametrize('case', STORES)
def test_every_kind_of_store(case, tmp_path):
    runs, baseline = STORES[case]
    store = stored(tmp_path/'s', *runs, baseline=baseline)
    page = render_report(store)
    check_structure(page)
    for spec in specs(page).values(): assert '<svg' in chart_svg(spec, width=400)


def test_two_scenarios_are_two_series(tmp_path):
    data = collect_report(stored(tmp_path/'s', *STORES['two scenarios'][0], baseline='a'))
    assert [(s.label, s.values) for s in data.series] == [('p [scenario=A]', (1., 1.)), ('p [scenario=B]', (20., 20.))] and data.outcome == 'pass'


def test_tags_are_not_mixed_up(tmp_path):
    "A point without tags is another one than those of its name with tags"
    points = [Point(name='p', scenario='s', tags=t, metrics={'latency': Metric(value=v)}) for t, v in (({'f': 'x'}, 1.), ({}, 2.))]
    data = collect_report(stored(tmp_path/'s', *(Run(id=c, timestamp=BEGIN + timedelta(days=d), metric_defs=DEFS, points=points) for d, c in enumerate('ab'))))
    assert [s.values for s in data.series] == [(1., 1.), (2., 2.)]


def test_a_remote_store():
    store = Store('memory://report-test')
    try:
        for r in STORES['equal values'][0]: store.save(r)
        store.set_baseline('b')
        page = render_report(store)
        assert 'No regressions' in words(page) and 'memory://report-test' in words(page)
        check_structure(page)
    finally: store._files._storage.rm(store._files._folder, recursive=True)


def test_damaged_files_are_named(tmp_path, caplog):
    store = stored(tmp_path/'s', *STORES['equal values'][0], baseline='b')
    (tmp_path/'s'/'runs'/'20270101T000000.000000Z_broken.json').write_text('{"id":')
    assert 'runs/20270101T000000.000000Z_broken.json cannot be read and was left out' in words(section(render_report(store), 'summary'))
    (tmp_path/'s'/'baselines'/'main.json').write_text('{')
    (tmp_path/'s'/'config.json').write_text('[')
    page = render_report(Store(tmp_path/'s'))
    said = words(section(page, 'summary'))
    assert 'the baseline main cannot be read, so nothing was compared' in said and 'config.json were not used' in said and 'No verdict' in words(page)
    for i in range(30): (tmp_path/'s'/'runs'/f'x{i}.json').write_text('')
    assert '11 more' in words(section(render_report(store), 'summary'))


def test_units_that_changed_are_left_out_and_said(tmp_path):
    seconds = {'latency': MetricDef(name='latency', unit='s', direction='lower')}
    data = collect_report(stored(tmp_path/'s', *(simple(f'old{i}', i, seconds, latency=.01) for i in range(3)), *(simple(f'new{i}', 3 + i, latency=10.) for i in range(3))))
    assert data.series[0].values == (None, None, None, 10., 10., 10.) and "3 runs measured latency in 's' and are left out of its trend" in data.warnings


def test_a_report_on_an_older_run_looks_as_on_that_day(tmp_path):
    runs = [nightly(i) for i in range(60)]
    then, now = stored(tmp_path/'then', *runs[:31], baseline='run010'), stored(tmp_path/'now', *runs, baseline='run010')
    plain = lambda page: page.replace(str(tmp_path/'then'), 'STORE').replace(str(tmp_path/'now'), 'STORE')      # noqa: E731
    assert plain(render_report(then)) == plain(render_report(now, run='run030'))


def test_n_runs_branch_and_metrics(demo, tmp_path):
    data = collect_report(demo, n_runs=10, metrics=['latency'])
    assert len(data.runs) == 10 and {s.metric for s in data.series} == {'latency'} == {c.metric for c in data.comparison.changes} and len(data.rankings) == 1
    branch = stored(tmp_path/'s', simple('a', 0, latency=1.), *(Run(id=f'b{i}', timestamp=BEGIN + timedelta(days=i), branch='dev', metric_defs=DEFS, points=simple('x', latency=2.).points) for i in (1, 2)))
    assert [r.run_id for r in collect_report(branch, branch='dev').runs] == ['b1', 'b2'] and [r.run_id for r in collect_report(branch, run='b2', branch='main').runs] == ['b2']


def test_a_policy_that_looks_at_the_noise(demo):
    page = render_report(demo, policy='history')
    assert 'policy history' in words(page) and 'interval' in table_of(page, 'Regressions')[0]
    check_structure(page)


def test_hundreds_of_points(tmp_path):
    def run(i): return Run(id=f'r{i}', timestamp=BEGIN + timedelta(days=i), metric_defs=DEFS, environment={'cpu': 'x'}, points=[
        Point(name=f'suite-{k % 20}/case-{k}', scenario=f'suite-{k % 20}', tags={'framework': 'ab'[k % 2]}, metrics={'latency': metric(10 + k, i + k, 8), 'throughput': metric(1000 + k, i + k, 8)}) for k in range(500)])
    page = render_report(stored(tmp_path/'s', *(run(i) for i in range(4)), baseline='r0'))
    parsed = check_structure(page)
    assert len(page) < 5e6 and len([a for _, a, _, _ in parsed.of('details') if a.get('id', '').startswith('point-')]) == 500


def test_when_there_is_no_room_for_all_series_those_that_tell_most_stay(demo):
    with patch.object(report_charts, '_MOST_VALUES', 60*3*3): page = render_report(demo)
    assert len(next(p['value'] for p in specs(page)['trend-chart']['params'] if p['name'] == 'points')) == 3 and 'offers the 3 series of 18 that tell most' in words(page)
    check_structure(page)


def test_a_thousand_runs_of_fifty_series_stay_small(tmp_path):
    defs = {f'm{j}': MetricDef(name=f'm{j}', unit='ms', direction='lower') for j in range(5)}
    store = Store(tmp_path/'s')
    with patch('os.fsync'):
        for i in range(1000):
            points = [Point(name=f'p{k}', scenario=f's{k % 3}', metrics={n: Metric(value=(v := 10 + k + noise(i, 5*k + j)), lower=v*.98, upper=v*1.02) for j, n in enumerate(defs)}) for k in range(10)]
            store.save(Run(id=f'r{i:04d}', timestamp=BEGIN + timedelta(hours=i), commit=f'{i:040x}', branch='main', metric_defs=defs, points=points))
    store.set_baseline('r0990')
    page = render_report(store)
    assert len(page.encode()) < 5e6 and len(next(p['value'] for p in specs(page)['trend-chart']['params'] if p['name'] == 'points')) == 50


def test_many_reports_at_once(demo, page):
    found = []
    threads = [threading.Thread(target=lambda: found.append(render_report(demo) == page)) for _ in range(3)]
    for t in threads: t.start()
    for t in threads: t.join()
    assert found == [True]*3


def test_the_object_of_a_notebook(demo, page, tmp_path):
    report = make_report(demo)
    assert isinstance(report, Report) and report.html == page and 'run059' in repr(report) and len(repr(report)) < 200
    assert report.save(tmp_path/'a'/'b.html').read_text() == page
    frame = Parsed(report._repr_html_()).of('iframe')[0][1]
    assert frame['title'] and 'allow-same-origin' not in frame['sandbox'] and frame['srcdoc'].replace('<base href="about:srcdoc">', '') == page
    with patch('webbrowser.open') as shown: opened = report.open()
    assert opened.read_text() == page and shown.call_args[0][0] == opened.as_uri()
    shutil.rmtree(opened.parent)


# --- in a browser --------------------------------------------------------------------------------------------------------

CHROMIUM = next(filter(None, map(shutil.which, ('chromium', 'chromium-browser', 'google-chrome', 'google-chrome-stable', 'chrome'))), None)
browser = pytest.mark.skipif(not CHROMIUM, reason='no Chromium or Chrome is installed, so the report is not opened in a browser')

def chromium(folder, file, *options, budget_ms=6000):
    "What headless Chromium writes: (standard output, messages of the page's console)"
    home = Path(folder)/'home'
    home.mkdir(exist_ok=True)
    switches = ['--headless=new', '--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage', '--hide-scrollbars', '--no-first-run', '--disable-background-networking', '--disable-component-update',
                '--host-resolver-rules=MAP * ~NOTFOUND', '--enable-logging=stderr', '--v=0', f'--user-data-dir={home}', f'--virtual-time-budget={budget_ms}']
    done = subprocess.run([CHROMIUM, *switches, *options, Path(file).resolve().as_uri()], capture_output=True, text=True, timeout=120, env={**os.environ, 'HOME': str(home), 'TZ': 'UTC'})
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout, [line for line in done.stderr.splitlines() if ':CONSOLE' in line]

def picture(path):
    from matplotlib.image import imread
    return imread(path)[..., :3]

@pytest.fixture(scope='module')
def kept(tmp_path_factory):
    "Where the pictures stay"
    folder = tmp_path_factory.mktemp('report-pictures')
    yield folder
    print(f'\nthe report as seen by Chromium: {folder}')

def drawn(dom): return {name: len(re.findall('<path|<text', inside)) for name, inside in re.findall(r'(?s)<div id="([\w-]+)" class="chart[^"]*"[^>]*>(.*?)</svg>', dom)}

@browser
def test_the_charts_are_drawn(demo, page, kept):
    file = write_report(demo, kept/'report.html')
    dom, console = chromium(kept, file, '--dump-dom')
    assert console == []
    marks = drawn(dom)
    assert marks.keys() == {'changes-chart', 'ranking-chart', 'trend-chart'} and marks['trend-chart'] > 60 and marks['changes-chart'] > 10
    for svg in re.findall(r'(?s)<div id="[\w-]+" class="chart[^"]*".*?<svg[^>]*>', dom): assert 'aria-label=' in svg or 'aria-label=' in dom[dom.index(svg):][:4000]
    assert dom.count('role="graphics-document"') == 3 and 'throughput ↑ [elem/s]' in re.search(r'(?s)id="trend-chart".*?</svg>', dom)[0]


@browser
def test_the_lists_choose_what_is_drawn(demo, page, kept):
    "A copy of the page, in which another script turns the lists after the charts are there"
    series = next(i for i, s in enumerate(charted_series(collect_report(demo))) if s.label == 'CV-1/small [framework=Datarax]' and s.metric == 'latency')
    turn = f"""setTimeout(() => {{ for (const [id, value] of [['trend-series', '{series}'], ['trend-span', '30'], ['ranking-metric', '1']]) {{
        const e = document.getElementById(id); e.value = value; e.dispatchEvent(new Event('change', {{bubbles: true}})); }} }}, 2000);"""
    (kept/'turned.html').write_text(re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', '', page).removesuffix('</body>\n</html>\n') + f'<script>{turn}</script></body></html>')
    dom, console = chromium(kept, kept/'turned.html', '--dump-dom')
    trend, ranking = (re.search(rf'(?s)id="{name}".*?</svg>', dom)[0] for name in ('trend-chart', 'ranking-chart'))
    assert console == [] and '>latency ↓ [ms]<' in trend and '>CV-1/small [framework=Datarax]<' in trend and re.search(r'✕ \+\d+\.\d% regressed', trend)
    assert '>throughput ↑ [elem/s]<' in ranking and '>throughput by framework, mean of 3 points<' in ranking
    dots = re.findall(r'(?s)<g class="mark-symbol role-mark[^"]*"[^>]*>(.*?)</g>', trend)
    assert max(d.count('<path') for d in dots) == 30


@browser
def test_hostile_texts_do_nothing_in_a_browser(hostile, kept):
    dom, console = chromium(kept, write_report(hostile, kept/'hostile.html', title=HOSTILE), '--dump-dom')
    assert console == [] and not Parsed(dom).of('img') and set(drawn(dom)) == {'changes-chart', 'ranking-chart', 'trend-chart'}


@browser
def test_values_that_are_no_numbers_are_drawn(tmp_path, kept):
    store = stored(tmp_path/'s', *STORES['no numbers'][0], baseline='a')
    dom, console = chromium(kept, write_report(store, kept/'no-numbers.html'), '--dump-dom')
    assert console == [] and drawn(dom)['trend-chart'] > 5


@browser
def test_light_dark_and_telephone(demo, kept):
    pytest.importorskip('matplotlib', reason='matplotlib reads the pictures')
    file = write_report(demo, kept/'report.html')
    for name, size, scheme in (('light', '1200,1500', 1), ('dark', '1200,1500', 0), ('telephone', '500,1500', 1)):
        _, console = chromium(kept, file, f'--screenshot={kept/name}.png', f'--window-size={size}', f'--blink-settings=preferredColorScheme={scheme}')
        assert console == []
    light, dark, telephone = (picture(kept/f'{name}.png') for name in ('light', 'dark', 'telephone'))
    assert light.mean() > .85 and dark.mean() < .25 and telephone.mean() > .8
    assert light[:, :5].min() > .8 and light.std() > .05 and dark.std() > .05        # something is on the page, and nothing runs over its edge


@browser
def test_on_paper_everything_is_unfolded(demo, kept):
    if not shutil.which('pdftotext'): pytest.skip('pdftotext (poppler-utils) is not installed')
    file = write_report(demo, kept/'report.html')
    chromium(kept, file, f'--print-to-pdf={kept/"report.pdf"}', '--no-pdf-header-footer', '--blink-settings=preferredColorScheme=0')
    text = subprocess.run(['pdftotext', '-layout', kept/'report.pdf', '-'], capture_output=True, text=True, check=True).stdout
    sample = collect_report(demo).run.points[0].metrics['latency'].samples[0]
    for said in ('3 regressions', f'{sample:.2f}', 'Unchanged (', 'run059', 'The last 10 runs', 'throughput ↑'): assert said in text, said
    assert 'Skip to the content' not in text
    if shutil.which('pdftoppm'):
        pytest.importorskip('matplotlib', reason='matplotlib reads the pictures')
        subprocess.run(['pdftoppm', '-r', '40', '-png', '-f', '1', '-l', '1', '-singlefile', kept/'report.pdf', kept/'paper'], check=True)
        assert picture(kept/'paper.png').mean() > .85       # dark as the reader's setting may be, paper is white


def main():
    "Put a picture of the report into the page of its notebook, as the output of the cell that shows `store.report()`"
    import tempfile
    from PIL import Image
    notebook = ROOT/'nbs'/'exporters'/'report.ipynb'
    raw = json.loads(notebook.read_text(encoding='utf-8'))
    sources = [''.join(c['source']) for c in raw['cells'] if c['cell_type'] == 'code']
    scope = {}
    for source in sources[:next(i for i, s in enumerate(sources) if s.startswith('store = Store('))]:
        if re.search(r'^(import|from) (numpy|datetime|calibrax\.core|calibrax\.storage)|^defs = ', source, re.M) and '#| ' not in source: exec(re.sub(r'(?m)^from (fastcore|IPython).*$', '', source), scope)
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        os.environ['CALIBRAX_CACHE_DIR'] = f'{folder}/cache'
        store = stored('benchmark-data', *(scope['nightly'](i) for i in range(60)), baseline='run050')
        chromium(folder, write_report(store, f'{folder}/report.html'), f'--screenshot={folder}/report.png', '--window-size=1100,3130', '--blink-settings=preferredColorScheme=1')
        shown = Image.open(f'{folder}/report.png').convert('RGB').resize((737, 2097), Image.Resampling.LANCZOS).quantize(96, kmeans=3)
        shown.save(f'{folder}/small.png', optimize=True)
        data = base64.b64encode(Path(folder, 'small.png').read_bytes()).decode()
    cell = next(c for c in raw['cells'] if ''.join(c['source']).rstrip().endswith('store.report()'))
    cell['outputs'] = [{'output_type': 'display_data', 'metadata': {}, 'data': {'image/png': data, 'text/plain': ['the report as an image']}}]
    notebook.write_text(json.dumps(raw, sort_keys=True, indent=1, ensure_ascii=False) + '\n', encoding='utf-8')
    print(f'{len(data)*3//4//1000} kB into {notebook.relative_to(ROOT)}')


if __name__ == '__main__': main()
