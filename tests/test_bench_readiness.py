"""The scores of a readiness report are what their definitions say, in both directions, and what is missing is never 0."""
import dataclasses, json, math, re
from datetime import UTC, datetime
from html.parser import HTMLParser
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from calibrax.bench.efficiency import Efficiency
from calibrax.bench.readiness import DeploymentReadinessReport, deployment_readiness, merge_reports
from calibrax.bench.readiness_plots import plot_latency, plot_pareto, plot_phases
from calibrax.bench.report import format_markdown_summary, read_results, write_reports
from calibrax.bench.results import EvaluationResult
from calibrax.bench.samples import DIFFICULTIES, PHASES, SampleRecord
from calibrax.core.errors import ConfigError, DatasetError, RecordError, StoreError
from calibrax.core.models import MetricDef

WEIGHTS = {'easy': 0.25, 'medium': 0.35, 'hard': 0.40}

class Lower:
    task, primary_metric, direction, unit, phases, difficulty_weights = 'demo', 'error', 'lower', 'm', PHASES, WEIGHTS

class Higher(Lower): direction = 'higher'

class Levels(Lower): phases = ()     # difficulties, but no phases

class Plain(Lower): phases, difficulty_weights = (), {}


def made(rng, *, scenes=5, frames=3, spread=0.05, difficulties=DIFFICULTIES, phases=PHASES):
    "Errors with a level of each scene that all phases share"
    level, out = rng.normal(0, spread, (3, scenes)), []
    for p in PHASES:
        for d in DIFFICULTIES:
            for s in range(scenes):
                for f in range(frames):
                    value = 0.2 + 0.1*(p == 'interaction') + level[DIFFICULTIES.index(d), s] + rng.normal(0, 0.05)
                    if d in difficulties and p in phases:
                        out.append(SampleRecord(index=len(out), id=f'{d}{s}-{p}-{f}', status='scored', batch=0, scene=f'{d}{s}', phase=p, difficulty=d, metrics={'error': value},
                                                latency_ms=5 + rng.random(), previous=f'{d}{s}-{p}-{f - 1}' if f else None, temporal_stability=0.9 + level[0, s]/4 if f else None,
                                                compensated=bool(f % 2) if f else None, coherence_precision=0.6, coherence_recall=0.5 + level[0, s]))
    return out

@pytest.fixture(scope='module')
def records(): return made(np.random.default_rng(0))


# --- brute force: written from the definitions, sharing nothing with the implementation -----------------------------------

def is_number(v): return v is not None and v == v and abs(v) != math.inf

def average(values):
    values = [v for v in values if is_number(v)]
    return sum(values)/len(values) if values else None

def brute_force(rows, phases, weights, higher):
    scored = [r for r in rows if r['status'] == 'scored']
    out = {'mean': average(r['metrics'].get('error') for r in scored)}
    score = {}
    for p in phases:
        score[p] = 0.0
        for d, w in weights.items():
            m = average(r['metrics'].get('error') for r in scored if r.get('phase') == p and r.get('difficulty') == d)
            out['M', p, d] = m
            score[p] = None if m is None or score[p] is None else score[p] + w*m
    out['S'] = score
    out['overall'] = sum(score.values())/3 if all(v is not None for v in score.values()) else None
    for name, before, after in (('int', 'clutter', 'interaction'), ('rec', 'interaction', 'clean')):
        delta = None if score[before] is None or score[after] is None else score[after] - score[before]
        out[name], out['worse', name] = delta, None if delta is None else -delta if higher else delta
    pairs = [r for r in scored if is_number(r.get('temporal_stability'))]
    out['TS'], out['pairs'], out['compensated'] = average(r['temporal_stability'] for r in pairs), len(pairs), sum(r.get('compensated') is True for r in pairs)
    p, r = average(r.get('coherence_precision') for r in scored), average(r.get('coherence_recall') for r in scored)
    out['SGC'] = None if p is None or r is None else 0.0 if p + r == 0 else 2*p*r/(p + r)
    out['statuses'] = {s: sum(r['status'] == s for r in rows) for s in ('scored', 'skipped', 'invalid')}
    return out

def close(a, b): return a is b is None or (a is not None and b is not None and math.isclose(a, b, rel_tol=1e-9, abs_tol=1e-9))

metric = st.one_of(st.floats(-100, 100), st.just(math.nan))
share = st.one_of(st.none(), st.floats(0, 1), st.just(math.nan))
row = st.fixed_dictionaries(
    {'status': st.sampled_from(['scored', 'scored', 'scored', 'skipped', 'invalid']), 'metrics': st.one_of(st.fixed_dictionaries({'error': metric}), st.just({}))},
    optional={'scene': st.sampled_from('abc'), 'phase': st.sampled_from([*PHASES, *PHASES, 'afterwards']), 'difficulty': st.sampled_from([*DIFFICULTIES, *DIFFICULTIES, 'absurd']),
              'temporal_stability': share, 'compensated': st.booleans(), 'coherence_precision': share, 'coherence_recall': share, 'latency_ms': st.floats(0.1, 10)})

@settings(max_examples=150, deadline=None)
@given(st.lists(row, max_size=60), st.booleans())
def test_scores_equal_a_brute_force_over_the_file_of_samples(rows, higher):
    "The file's lines are read as plain JSON, and the scores computed from their definitions alone"
    lines = [SampleRecord(index=i, id=str(i), batch=0, **r).to_json() for i, r in enumerate(rows)]
    report = deployment_readiness(map(SampleRecord.from_json, lines), task=Higher if higher else Lower, model='m', resamples=100)
    plain = [{k: math.nan if v == 'NaN' else v for k, v in json.loads(line).items()} for line in lines]
    for r in plain: r['metrics'] = {k: math.nan if v == 'NaN' else v for k, v in r['metrics'].items()}
    expected, wps = brute_force(plain, PHASES, WEIGHTS, higher), report.weighted_phase_score
    assert close(report.primary.value, expected['mean']) and close(report.overall, expected['overall'])
    for p in PHASES:
        assert close(wps.phases[p].value, expected['S'][p]) and close(report.state_transition.scores[p], expected['S'][p])
        for d in DIFFICULTIES: assert close(wps.cell(p, d).score.value, expected['M', p, d])
    for name, change in zip(('int', 'rec'), report.state_transition.transitions):
        assert close(change.delta.value, expected[name]) and close(change.degradation, expected['worse', name])
    stable = report.temporal_stability
    assert close(stable.score.value, expected['TS']) and (stable.pairs, stable.compensated) == (expected['pairs'], expected['compensated'])
    assert stable.pairs + sum(stable.missing.values()) == (expected['statuses']['scored'] if stable.pairs else 0)
    assert close(report.geometric_coherence.score.value, expected['SGC'])
    assert {s: getattr(report.counts, s) for s in expected['statuses']} == expected['statuses']
    every = [report.primary, wps.overall, *wps.phases.values(), *(c.score for c in wps.cells), *(t.delta for t in report.state_transition.transitions), stable.score, report.geometric_coherence.score]
    for s in every:
        assert (s.value is None) == bool(s.reason), s
        assert s.value is None or (s.lower is None) == bool(s.no_interval), s
        assert s.lower is None or s.lower <= s.upper
    assert DeploymentReadinessReport.from_json(report.to_json()) == report
    assert repr(report) and report._repr_html_() and report.to_markdown()


# --- what is missing -------------------------------------------------------------------------------------------------------

def test_a_missing_difficulty_gives_no_score_and_names_the_run_to_merge(records):
    report = deployment_readiness((r for r in records if r.difficulty != 'hard' or r.phase != 'clutter'), task=Lower, model='m', splits='medium')
    score = report.weighted_phase_score.phases['clutter']
    assert score.value is None and score.reason == 'no sample of difficulty hard in phase clutter; merge the run of split hard'
    assert report.overall is None and report.weighted_phase_score.phases['clean'].value is not None
    assert report.state_transition.between('clutter', 'interaction').degradation is None
    assert report.state_transition.between('interaction', 'clean').delta.value is not None
    assert 'hard' in repr(report) and 'hard' in report.to_html()

def test_a_missing_phase_gives_no_score():
    "0.10 in one phase alone is not 0.033 over all, as a mean with zeros would have it"
    report = deployment_readiness(made(np.random.default_rng(0), phases=('clutter',)), task=Lower, model='m')
    assert report.overall is None and report.weighted_phase_score.overall.reason == 'no sample of phase interaction or clean'
    assert [t.delta.value for t in report.state_transition.transitions] == [None, None]

def test_skipped_invalid_and_undefined_samples_are_told_from_missing_ones(records):
    fates = {'easy': {'status': 'skipped', 'reason': 'no file'}, 'medium': {'status': 'invalid', 'reason': 'depth is 0 everywhere'}, 'hard': {'metrics': {'error': math.nan}}}
    changed = [dataclasses.replace(r, **fates[r.difficulty]) if r.phase == 'clean' else r for r in records]
    report = deployment_readiness(changed, task=Lower, model='m')
    reason = report.weighted_phase_score.phases['clean'].reason
    assert '(15 skipped)' in reason and '(15 invalid)' in reason and '(15 without a value of error)' in reason
    assert (report.counts.skipped, report.counts.invalid, report.counts.undefined) == (15, 15, 15)
    assert any('15 × no file' in n for n in report.notes) and any('depth is 0 everywhere' in n for n in report.notes)
    assert report.weighted_phase_score.cell('clean', 'easy').skipped == 15

def test_a_task_without_phases_still_has_accuracy_and_cost(records):
    cost = Efficiency(batch_size=4, batches=9, latency_ms_median=5.5, parameters=12)
    report = deployment_readiness(records, task=Plain, model='m', efficiency=cost)
    assert report.primary.value == pytest.approx(np.mean([r.metrics['error'] for r in records])) and report.primary.lower < report.primary.value
    assert report.cost('parameters') == 12 and report.overall is None and report.weighted_phase_score.overall.reason == 'the task demo has neither phases nor difficulties'
    assert report.weighted_phase_score.cells == () and len(report.tables()) == 2 and report.state_transition.reason == 'the task demo has no phases'
    for text in (report.to_html(), report.to_markdown(), repr(report)): assert 'neither phases nor difficulties' in text and 'has no phases' in text
    with pytest.raises(ConfigError, match='neither phases nor difficulties'): report.plot_phases()
    with pytest.raises(ConfigError, match='none: the task has neither'): report.weighted_phase_score.cell('clutter')

@settings(max_examples=60, deadline=None)
@given(st.lists(row, max_size=60), st.booleans())
def test_a_task_without_phases_has_one_score_over_its_difficulties(rows, higher):
    "The sum of the means by weight, over samples of all phases or of none; nothing where a difficulty lacks"
    task = type('Task', (Levels,), {'direction': 'higher' if higher else 'lower'})
    report = deployment_readiness([SampleRecord(index=i, id=str(i), batch=0, **r) for i, r in enumerate(rows)], task=task, model='m', resamples=100)
    means = {d: average(r['metrics'].get('error') for r in rows if r['status'] == 'scored' and r.get('difficulty') == d) for d in WEIGHTS}
    expected = None if None in means.values() else sum(w*means[d] for d, w in WEIGHTS.items())
    assert close(report.overall, expected) and report.weighted_phase_score.phases == {} and report.state_transition.transitions == ()
    assert report.state_transition.reason == 'the task demo has no phases' and bool(report.weighted_phase_score.overall.reason) == (expected is None)
    for d in WEIGHTS:
        assert close(report.weighted_phase_score.cell(None, d).score.value, means[d]) and close(report.summary()[f'M_{d}'], means[d])
    assert DeploymentReadinessReport.from_json(report.to_json()) == report and repr(report) and report._repr_html_() and report.to_markdown()

def test_splits_of_a_task_without_phases_are_merged(records):
    of = [dataclasses.replace(r, phase=None, previous=None) for r in records]
    parts = [deployment_readiness([r for r in of if r.difficulty == d], task=Levels, model='m', splits=d) for d in DIFFICULTIES]
    assert parts[2].weighted_phase_score.overall.reason == 'no sample of difficulty easy or medium; merge the runs of splits easy and medium'
    merged = merge_reports(parts)
    assert merged.overall == pytest.approx(sum(w*np.mean([r.metrics['error'] for r in of if r.difficulty == d]) for d, w in WEIGHTS.items())) and merged.weighted_phase_score.overall.lower
    for text in (merged.to_html(), merged.to_markdown(), repr(merged)): assert 'has no phases' in text and 'all' in text
    assert 'id="phases"' in merged.to_html() and merged.cell_table().rows[0][0] == 'all'

def test_the_way_out_is_one():
    "A phase that also the run at hand lacks is not promised by merging others"
    report = deployment_readiness(made(np.random.default_rng(0), phases=('clutter', 'clean'), difficulties=('hard',)), task=Lower, model='m', splits='hard')
    assert report.weighted_phase_score.phases['interaction'].reason == 'no sample of phase interaction; merge the runs of splits easy and medium, though phase interaction, difficulty hard has no sample either'
    assert report.weighted_phase_score.phases['clean'].reason.endswith('merge the runs of splits easy and medium')

def test_a_task_of_one_phase():
    class One(Lower): phases = ('clean',)
    report = deployment_readiness(made(np.random.default_rng(0), phases=('clean',)), task=One, model='m')
    assert report.overall == report.weighted_phase_score.phases['clean'].value and report.state_transition.reason == 'the task demo has one phase only'

def test_no_samples_at_all():
    report = deployment_readiness([], task=Lower, model='m')
    assert report.primary.reason == 'there are no samples' and all(v in (None, 0) for v in report.summary().values())
    assert report.to_html() and repr(report)

def test_samples_with_a_strange_place_count_in_the_mean_only(records):
    strange = SampleRecord(index=999, id='x', status='scored', batch=0, phase='flood', difficulty='easy', metrics={'error': 1e6})
    with_it, without = (deployment_readiness(rs, task=Lower, model='m') for rs in ([*records, strange], records))
    assert with_it.overall == without.overall and with_it.primary.value > 1000
    assert any('phase flood' in n for n in with_it.notes)

def test_names_that_the_task_does_not_know_are_counted_and_named(records):
    "Whoever writes `Easy` for `easy` has samples; a reason that says there are none would be no help"
    wrong = [dataclasses.replace(r, difficulty='Easy') if r.difficulty == 'easy' else dataclasses.replace(r, phase=None) if r.index == len(records) - 1 else r for r in records]
    report = deployment_readiness(wrong, task=Lower, model='m', splits='test')
    unknown = '46 samples of 135 have a phase or difficulty that the task does not know, and are in no score of a phase or difficulty: ' \
              '45 × difficulty Easy and 1 × no phase; the phases are clutter, interaction and clean, the difficulties are easy, medium and hard'
    assert report.counts.unknown == unknown and unknown in report.notes
    for text in (repr(report), report._repr_html_(), report.to_markdown(), report.to_html()): assert text.count('46 samples of 135') == 1
    reason = report.weighted_phase_score.phases['clutter'].reason
    assert reason.startswith('no sample of difficulty easy in phase clutter; ') and 'samples have difficulty Easy, which the task does not know' in reason
    assert 'samples have no phase' in reason and unknown in repr(report.score_table())

def test_all_samples_of_a_phase_have_an_unknown_difficulty():
    class One(Lower): phases = ('p1',)
    records = [SampleRecord(index=i, id=str(i), status='scored', batch=0, phase='p1', difficulty='silly', metrics={'error': float(i)}) for i in range(9)]
    report = deployment_readiness(records, task=One, model='m')
    assert report.weighted_phase_score.phases['p1'].reason == 'no sample of phase p1; samples have difficulty silly, which the task does not know'
    assert report.counts.unknown.startswith('9 samples of 9 have') and 'the phase is p1, the difficulties are' in report.counts.unknown
    assert report.primary.value == 4

def test_names_that_are_all_known_are_not_remarked(records):
    for task in (Lower, Levels, Plain): assert deployment_readiness(records, task=task, model='m', resamples=100).counts.unknown is None

def test_the_first_lines_say_which_samples_the_scores_leave_out(records):
    "A model that fails on what is hard is scored on the rest, and looks better for it"
    failing = [dataclasses.replace(r, status='skipped', metrics={}, reason='no') if r.difficulty == 'hard' or r.index == 0 else r for r in records]
    report = deployment_readiness(failing, task=Lower, model='m')
    assert report.counts.warning == 'Scores leave out 46 of 135 samples: difficulty hard 45 of 45, easy 1 of 45; phase clutter 16 of 45, interaction 15 of 45, clean 15 of 45'
    assert report.counts.warning in repr(report).splitlines()[1] and report.counts.warning in report.to_markdown().split('\n\n')[2]
    page = report.to_html()
    assert report.counts.warning in page[page.index('<header'):page.index('</header>')]
    assert deployment_readiness(failing, task=Plain, model='m', resamples=100).counts.warning.startswith('Scores leave out 46 of 135')
    whole = deployment_readiness(records, task=Lower, model='m', resamples=100)
    assert whole.counts.warning == '' and whole.counts.where is None and 'leave out' not in repr(whole) + whole.to_markdown() + whole.to_html()
    halves = [deployment_readiness([r for r in failing if (r.difficulty == 'hard') is h], task=Lower, model='m', splits=str(h), resamples=100) for h in (False, True)]
    assert merge_reports(halves).counts == report.counts and DeploymentReadinessReport.from_json(report.to_json()).counts == report.counts

def test_reasons_that_differ_in_numbers_or_names_are_one_kind(records):
    changed = [dataclasses.replace(r, status='skipped', reason=f'({r.id}): found values from -{r.index + 4000}.5 to 1e-{r.index}, of float32') if r.index < 27 else
               dataclasses.replace(r, status='skipped', reason='prediction has 12 values that are not finite') if r.index < 30 else r for r in records]
    report = deployment_readiness(changed, task=Lower, model='m')
    expected = '30 samples skipped, of 135: 27 × (…): found values from … to …, of float32; 3 × prediction has 12 values that are not finite'
    assert expected in report.notes and expected in report.to_html() and expected in repr(report)

class Bare(Lower): temporal, coherence = None, None

def without_frames(records): return [dataclasses.replace(r, previous=None, temporal_stability=None, compensated=None, coherence_precision=None, coherence_recall=None) for r in records]

def test_frames_and_geometry_have_no_line_where_a_task_has_none(records):
    report = deployment_readiness(without_frames(records), task=Bare, model='m')
    assert report.temporal_stability.unasked and report.geometric_coherence.unasked and report.summary()['TS'] is None
    assert report.temporal_stability.score.reason == 'the task demo compares no frames' and report.geometric_coherence.score.reason == 'the task demo looks at no geometry'
    for text in (repr(report), report._repr_html_(), report.to_markdown(), report.to_html()): assert not re.search('temporal stability|geometric coherence', text, re.I)
    merged = merge_reports([deployment_readiness(without_frames([r for r in records if r.difficulty == d]), task=Bare, model='m', splits=d) for d in DIFFICULTIES])
    assert merged.temporal_stability.unasked and merged.geometric_coherence.unasked
    assert DeploymentReadinessReport.from_json(report.to_json()) == report

@pytest.mark.parametrize('given, field', [({'temporal_stability': 0.9}, 0), ({'previous': '0'}, 0), ({'notes': {'temporal_stability': 'too dark'}}, 0),
                                          ({'coherence_precision': 0.5}, 1), ({'notes': {'coherence': 'no geometry'}}, 1)])
def test_one_record_that_knows_of_frames_or_geometry_brings_the_line_back(records, given, field):
    of = without_frames(records)
    report = deployment_readiness([*of[:-1], dataclasses.replace(of[-1], **given)], task=Bare, model='m', resamples=100)
    names = ('temporal stability ↑', 'geometric coherence ↑')
    assert [name in [row[0] for row in report.score_table().rows] for name in names] == [field == 0, field == 1]

def test_a_task_that_compares_frames_says_so_also_where_none_was_compared(records):
    class Frames(Bare): temporal, coherence = (lambda *a: None), (lambda *a: None)
    report = deployment_readiness(without_frames(records), task=Frames, model='m')
    rows = {row[0]: row[-1] for row in report.score_table().rows}
    assert rows['temporal stability ↑'] == 'no frame was compared with the one before' and rows['geometric coherence ↑'] == 'no frame was compared with the edges of geometry'

def test_the_way_to_a_missing_score_is_said_once(records):
    report = split(records, 'hard')
    rows = {row[0]: row[-1] for row in report.score_table().rows}
    assert rows['S clutter'] == 'no sample of difficulty easy or medium in phase clutter; merge the runs of splits easy and medium'
    assert {rows[name] for name in ('S interaction', 'S clean', 'S overall', 'Δ clutter → interaction', 'Δ interaction → clean')} == {'as for S clutter'}
    assert 'merge the runs' in report.weighted_phase_score.phases['clean'].reason       # whole where it stands alone
    assert repr(report.score_table()).count('merge the runs') == 1 and report.to_markdown().count('merge the runs') == 1

def test_what_is_new_in_a_later_reason_is_said(records):
    changed = [r for r in records if r.difficulty == 'hard'] + [dataclasses.replace(r, status='skipped', reason='no') for r in records if r.difficulty == 'easy' and r.phase == 'clean']
    rows = {row[0]: row[-1] for row in deployment_readiness(changed, task=Lower, model='m', splits='hard').score_table().rows}
    assert rows['S clean'] == 'no sample of difficulty medium in phase clean; none of 15 samples of phase clean, difficulty easy counts (15 skipped); merge the run of split medium'
    assert rows['S interaction'] == 'as for S clutter'

@pytest.mark.parametrize('task', [Lower, Plain, Levels])
def test_values_that_are_all_equal_say_so_in_the_table(records, task):
    report = deployment_readiness([dataclasses.replace(r, metrics={'error': 1.0}) for r in records], task=task, model='m')
    row = report.score_table().rows[0]
    assert row[2] == 'all equal' and row[-1] == 'all values are equal, which gives no interval' and 'all equal' in repr(report)
    assert 'all equal' in report.to_markdown() and 'all equal' in report.to_html()
    few = deployment_readiness(records[:2], task=task, model='m')
    assert few.primary.interval() == '–'

def test_pairs_never_cross_a_scene_or_a_phase(records):
    first = next(r for r in records if r.phase == 'clean')
    crossing = dataclasses.replace(first, previous=records[0].id, temporal_stability=0.0)
    clean = deployment_readiness(records, task=Lower, model='m').temporal_stability
    found = deployment_readiness([crossing if r is first else r for r in records], task=Lower, model='m').temporal_stability
    assert (found.score.value, found.pairs) == (clean.score.value, clean.pairs) and 'the frame before is of another scene or phase' in found.missing


def test_phases_without_difficulties_and_difficulties_in_any_measure(records):
    class Phases(Lower): difficulty_weights = {}
    report = deployment_readiness(records, task=Phases, model='m')
    assert report.weighted_phase_score.phases['clean'].value == pytest.approx(np.mean([r.metrics['error'] for r in records if r.phase == 'clean'])) and report.overall is not None
    assert [c.difficulty for c in report.weighted_phase_score.cells] == [None]*3 and repr(report) and report.to_html()
    class Tripled(Lower): difficulty_weights = {d: 3*w for d, w in WEIGHTS.items()}
    assert deployment_readiness(records, task=Tripled, model='m').overall == pytest.approx(deployment_readiness(records, task=Lower, model='m').overall)


# --- direction -------------------------------------------------------------------------------------------------------------

@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000))
def test_negating_metric_and_direction_mirrors_the_report(seed):
    records = made(np.random.default_rng(seed), scenes=3, frames=2)
    one = deployment_readiness(records, task=Lower, model='m', resamples=200)
    other = deployment_readiness([dataclasses.replace(r, metrics={'error': -r.metrics['error']}) for r in records], task=Higher, model='m', resamples=200)
    a, b = one.weighted_phase_score, other.weighted_phase_score
    for x, y in ((one.primary, other.primary), (a.overall, b.overall), *((a.phases[p], b.phases[p]) for p in PHASES)):
        assert [x.value, x.lower, x.upper] == pytest.approx([-y.value, -y.upper, -y.lower])
    for x, y in zip(one.state_transition.transitions, other.state_transition.transitions):
        assert x.delta.value == pytest.approx(-y.delta.value) and x.degradation == pytest.approx(y.degradation) and x.words == y.words
    assert one.temporal_stability == other.temporal_stability and one.geometric_coherence == other.geometric_coherence

def test_worse_is_worse_whatever_the_metric(records):
    assert deployment_readiness(records, task=Lower, model='m').state_transition.transitions[0].words.startswith('worse')
    assert deployment_readiness(records, task=Higher, model='m').state_transition.transitions[0].words.startswith('better')

def test_colours_follow_better_and_worse():
    from calibrax.bench.readiness_plots import _goodness
    assert _goodness([1, 3, None, 2], higher=True) == [0, 1, None, 0.5] and _goodness([1, 3, None, 2], higher=False) == [1, 0, None, 0.5]
    assert _goodness([2, 2], higher=True) == [0.5, 0.5] and _goodness([-1e308, 1e308], higher=True) == [0, 1]


# --- intervals -------------------------------------------------------------------------------------------------------------

def test_intervals_cover_the_truth_when_scenes_differ():
    "Scenes are drawn, not samples: 95 % intervals hold the true value in nearly as many of 120 made-up test sets"
    rng, hits, n = np.random.default_rng(3), np.zeros(4), 120
    for _ in range(n):
        r = deployment_readiness(made(rng), task=Lower, model='m', resamples=300)
        truth = ((r.weighted_phase_score.overall, 0.2 + 0.1/3), (r.weighted_phase_score.phases['clean'], 0.2), (r.state_transition.transitions[0].delta, 0.1), (r.primary, 0.2 + 0.1/3))
        hits += [s.lower <= v <= s.upper for s, v in truth]
        assert r.resampling.words == 'random weights for whole scenes'
    assert ((hits/n > 0.87) & (hits/n <= 1)).all() and hits.mean()/n < 0.995, hits/n

def test_intervals_by_sample_agree_with_the_standard_error():
    rng = np.random.default_rng(0)
    records = [SampleRecord(index=i, id=str(i), status='scored', batch=0, metrics={'error': v}) for i, v in enumerate(rng.normal(5, 2, 400))]
    found = deployment_readiness(records, task=Plain, model='m').primary
    assert found.resampled == 'sample' and (found.upper - found.lower)/2 == pytest.approx(1.96*2/20, rel=0.12)

def test_many_samples_in_bundles_tell_the_same():
    rng = np.random.default_rng(0)
    records = [SampleRecord(index=i, id=str(i), status='scored', batch=0, metrics={'error': v}) for i, v in enumerate(rng.normal(5, 2, 6000))]
    found = deployment_readiness(records, task=Plain, model='m').primary
    assert (found.upper - found.lower)/2 == pytest.approx(1.96*2/6000**0.5, rel=0.12)

def test_scenes_make_wider_intervals_than_samples(records):
    clustered = deployment_readiness(records, task=Lower, model='m').weighted_phase_score.overall
    apart = deployment_readiness([dataclasses.replace(r, scene=None) for r in records], task=Lower, model='m').weighted_phase_score.overall
    assert clustered.resampled == 'scene' and apart.resampled == 'sample' and clustered.upper - clustered.lower > 1.3*(apart.upper - apart.lower)

def test_intervals_are_seeded_and_do_not_depend_on_the_order(records):
    one, again, turned, other = (deployment_readiness(rs, task=Lower, model='m', seed=s).weighted_phase_score for rs, s in ((records, 0), (records, 0), (records[::-1], 0), (records, 1)))
    assert one == again and one.overall.lower == pytest.approx(turned.overall.lower) and one.overall.lower != other.overall.lower

def test_an_interval_is_refused_with_the_reason(records):
    few = [r for r in records if r.phase != 'clean' or r.difficulty != 'hard'] + [r for r in records if r.phase == 'clean' and r.difficulty == 'hard'][:3]
    score = deployment_readiness(few, task=Lower, model='m').weighted_phase_score.overall
    assert score.value is not None and score.lower is None and score.no_interval == 'only 3 of the samples of phase clean, difficulty hard count; an interval needs 4'
    equal = deployment_readiness([dataclasses.replace(r, metrics={'error': 1.0}) for r in records], task=Lower, model='m').primary
    assert equal.value == 1 and equal.lower is None and 'all values are equal' in equal.no_interval

@pytest.mark.parametrize('scenes, words', [(1, 'such an interval is too short'), (2, 'intervals are rough'), (5, None)])
def test_few_scenes_are_said_to_be_too_few(scenes, words):
    report = deployment_readiness(made(np.random.default_rng(0), scenes=scenes, frames=6), task=Lower, model='m', resamples=200)
    assert report.overall is not None and any(words in n for n in report.notes) if words else not report.notes


# --- merging ---------------------------------------------------------------------------------------------------------------

def split(records, name, **given): return deployment_readiness([r for r in records if r.difficulty == name], task=Lower, model='m', splits=name, dataset='rooms', **given)

def test_merged_splits_equal_one_run_over_all(records):
    whole, merged = deployment_readiness(records, task=Lower, model='m'), merge_reports([split(records, d) for d in DIFFICULTIES])
    assert merged.splits == DIFFICULTIES and merged.counts == whole.counts
    numbers = whole.summary()
    assert merged.summary() == pytest.approx({k: v for k, v in numbers.items()}, nan_ok=True)

def test_results_and_outcomes_are_merged_like_their_reports(records):
    "From the file of samples, with phases and weights of the registered task"
    def result(name):
        of = [dataclasses.replace(r, metrics={'absrel': r.metrics['error']}) for r in records if r.difficulty == name]
        return SimpleNamespace(records=lambda: iter(of), task='monocular_depth', model='m', split=name, dataset='rooms', device='cpu:0', efficiency=None, primary_metric='absrel', direction='lower',
                               metric_defs={'absrel': MetricDef(name='absrel', unit='', direction='lower')})
    found = merge_reports([result('easy'), SimpleNamespace(report=merge_reports([result('medium')])), result('hard')])
    assert found.overall == pytest.approx(merge_reports([split(records, d) for d in DIFFICULTIES]).overall) and found.splits == DIFFICULTIES

def test_a_sample_that_is_there_twice_is_named(records):
    with pytest.raises(DatasetError, match="45 samples are there twice: 'easy0-clutter-0' of split 'easy'"): merge_reports([split(records, 'easy'), split(records, 'hard'), split(records, 'easy')])
    with pytest.raises(DatasetError, match="1 sample is there twice: 'easy0-clutter-0'"): deployment_readiness([*records, records[0]], task=Lower, model='m')

@pytest.mark.parametrize('field, value', [('model', 'n'), ('task', 'other'), ('dataset', 'streets'), ('primary_metric', 'rmse'), ('unit', 'mm'), ('direction', 'higher')])
def test_what_does_not_belong_together_is_refused(records, field, value):
    other = dataclasses.replace(split(records, 'hard'), **{field: value})
    with pytest.raises(ConfigError, match=f'not of one {field.replace("_", " ")}: ') as e: merge_reports([split(records, 'easy'), other])
    assert e.value.hint

@pytest.mark.parametrize('given, message', [([], 'nothing to merge'), ([3], 'cannot merge a int')])
def test_merging_nothing(given, message):
    with pytest.raises(ConfigError, match=message): merge_reports(given)

def test_a_report_without_samples_cannot_be_merged(records):
    with pytest.raises(ConfigError, match='without its samples'): merge_reports([split(records, 'easy').without_samples(), split(records, 'hard')])

def test_damaged_columns_are_refused(records):
    whole = split(records, 'easy')
    damaged = dataclasses.replace(whole, samples=dataclasses.replace(whole.samples, values=whole.samples.values[:-1]))
    with pytest.raises(RecordError, match='differ in length: 44 and 45'): merge_reports([damaged])

def test_costs_of_merged_runs(records):
    def cost(**given): return Efficiency(**{'batch_size': 4, 'batches': 10, 'latency_ms_median': 9.0, 'throughput': 110.0, 'throughput_end_to_end': 100.0, 'parameters': 12, 'flops_per_sample': 1e6, 'peak_memory_bytes': 10, 'energy_joules': 5.0} | given)
    one, two = split(records, 'easy', efficiency=cost()), split(records, 'hard', efficiency=cost(peak_memory_bytes=20, throughput_end_to_end=50.0, flops_per_sample=2e6))
    found = merge_reports([one, two]).efficiency
    times = [r.latency_ms for r in records if r.difficulty != 'medium']
    assert (found.parameters, found.peak_memory_bytes, found.energy_joules, found.batches, found.batch_size) == (12, 20, 10, 20, 4)
    assert found.latency_ms_p95 == pytest.approx(np.percentile(times, 95)) and found.throughput_end_to_end == pytest.approx(90/(45/100 + 45/50))
    assert found.throughput == pytest.approx(1e3/np.median(times))
    assert found.flops_per_sample is None and 'not the same' in found.unavailable['flops_per_sample']
    several = merge_reports([one, split(records, 'hard', efficiency=cost(batch_size=8))])
    apart = several.efficiency
    assert several.batches == 'batches of different sizes' and 'batches of different sizes' in several.cost_table().caption
    assert apart.latency_ms_median is None and 'batch sizes' in apart.unavailable['latency_ms_median']
    assert merge_reports([one, split(records, 'hard')]).efficiency is None


# --- what is told ----------------------------------------------------------------------------------------------------------

HOSTILE = '<script>alert(1)</script>"\'><img src=x onerror=alert(2)>|`$\\frac{}$\x1b[2J\n# heading\u202e'

def result_of(report, model):
    return EvaluationResult(task=report.task, model=model, split=HOSTILE, dataset='rooms', dataset_identity='i', primary_metric='error', direction='lower', aggregated={'error': report.primary.value, HOSTILE: math.nan},
                            samples=135, scored=135, efficiency=Efficiency(batch_size=1, batches=135), device='cpu:0', started=datetime(2026, 3, 1, tzinfo=UTC), seconds=1.0, seed=7, revision='r1',
                            config={HOSTILE: HOSTILE}, environment={'python': '3.12'}, metric_defs={'error': MetricDef(name='error', unit='m', direction='lower')})

class Tags(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.found = []
        self.feed(text)
    def handle_starttag(self, tag, attrs): self.found.append((tag, dict(attrs)))

def test_hostile_names_do_nothing(records, tmp_path):
    report = deployment_readiness([dataclasses.replace(r, status='skipped', reason=HOSTILE) if r.index < 3 else r for r in records], task=Lower, model=HOSTILE, splits=HOSTILE, dataset=HOSTILE, device=HOSTILE)
    result = result_of(report, HOSTILE)
    paths = write_reports(tmp_path, result, report)
    page = paths['report'].read_text()
    for text in (page, report.to_html(), report._repr_html_()):
        tags = Tags(text).found
        assert {t for t, _ in tags} <= {'html', 'head', 'meta', 'title', 'link', 'style', 'body', 'a', 'header', 'h1', 'h2', 'p', 'strong', 'nav', 'ul', 'li', 'main', 'section', 'span', 'b', 'div', 'table', 'caption',
                                        'thead', 'tbody', 'tr', 'th', 'td', 'figure', 'img', 'figcaption', 'details', 'summary', 'footer', 'dl', 'dt', 'dd'}
        assert not any(a.startswith('on') for _, attrs in tags for a in attrs) and all(attrs['src'].startswith('data:image/svg+xml') for t, attrs in tags if t == 'img')
    assert '\x1b' not in repr(report) + page + paths['summary'].read_text()
    summary = paths['summary'].read_text()
    assert not re.search(r'(?<!\\)<', summary) and '\n# heading' not in summary and summary.count('\n# ') == 0
    assert not re.search(r'(?:src|href)="(?!data:|#)', page) and "default-src 'none'" in page

def test_json_round_trip_and_what_it_holds(records, tmp_path):
    report = deployment_readiness(records, task=Lower, model='m', splits='test', dataset='rooms')
    result = result_of(report, 'm')
    paths = write_reports(tmp_path/'new'/'folder', result, report)
    def refuse(token): raise AssertionError(f'{token} is not RFC 8259')
    document = json.loads(paths['result'].read_text(), parse_constant=refuse)
    assert {'schema_version', 'started', 'config', 'seed', 'revision', 'device', 'environment', 'S_overall', 'summary'} <= document.keys()
    assert document['S_overall'] == report.overall and document['seed'] == 7 and document['revision'] == 'r1'
    again, report_again = read_results(paths['result'])
    assert again == result and report_again == report.without_samples()
    assert sorted(p.name for p in (tmp_path/'new'/'folder').iterdir()) == ['report.html', 'result.json', 'summary.md']
    assert format_markdown_summary(None, report) == report.to_markdown()
    merged = merge_reports([split(records, d) for d in DIFFICULTIES])
    assert read_results(write_reports(tmp_path/'merged', None, merged)['result']) == (None, merged.without_samples())

@pytest.mark.parametrize('text', ['', '[]', '{"schema": "other"}', '{"schema": "calibrax.bench.result", "schema_version": 2}', '{"schema": "calibrax.bench.result", "schema_version": 1}'])
def test_what_is_no_result_is_refused(tmp_path, text):
    (tmp_path/'result.json').write_text(text)
    with pytest.raises((StoreError, RecordError)) as e: read_results(tmp_path/'result.json')
    assert e.value.hint

def test_summary_is_flat_and_json_able(records):
    summary = deployment_readiness(records, task=Lower, model='m').summary()
    assert all(v is None or isinstance(v, float) for v in summary.values()) and json.dumps(summary, allow_nan=False)
    assert {'S_clutter', 'S_overall', 'S_overall_lower', 'delta_clutter_interaction', 'degradation_interaction_clean', 'TS', 'SGC', 'latency_ms_p99', 'parameters', 'skipped', 'invalid'} <= summary.keys()

@pytest.mark.parametrize('wrong', [{'direction': 'info'}, {'direction': 'sideways'}, {'difficulty_weights': {'easy': -1.0}}, {'phases': ('a', 'a')}, {'phases': 'clutter'}, {'splits': ('a', 'b')},
                                   {'resamples': 3}, {'resamples': 10**9}, {'resamples': True}, {'confidence': 2}, {'seed': -1}, {'task': object()}])
def test_wrong_settings_are_refused(records, wrong):
    with pytest.raises(ConfigError) as e: deployment_readiness(records[:5], **{'task': Lower, 'model': 'm'} | wrong)
    assert e.value.hint

def test_pictures(records):
    import matplotlib
    matplotlib.use('Agg')
    import matplotlib.pyplot as plt
    report = deployment_readiness([r for r in records if r.difficulty != 'hard'], task=Lower, model=HOSTILE)
    for figure, axes in (plot_phases(report), plot_latency(report), plot_pareto([report])):
        figure.canvas.draw()
        plt.close(figure)
    with pytest.raises(ConfigError, match='no latencies'): plot_latency(report.without_samples())
    with pytest.raises(ConfigError, match='differ in their task'): plot_pareto([report, dataclasses.replace(report, task='other')])
    with pytest.raises(ConfigError, match='no reports'): plot_pareto([])

def test_names_in_the_pareto_picture_do_not_overlap(records):
    import matplotlib
    matplotlib.use('Agg')
    import matplotlib.pyplot as plt
    report = deployment_readiness(records, task=Lower, model='m', resamples=100)
    rng = np.random.default_rng(0)
    def moved(i):
        ms, shift = float(rng.uniform(4, 6)), float(rng.uniform(0, 0.05))
        wps = report.weighted_phase_score
        value = dataclasses.replace(wps, overall=dataclasses.replace(wps.overall, value=wps.overall.value + shift, lower=None, upper=None, no_interval='made up'))
        return dataclasses.replace(report, model=f'model-number-{i}', weighted_phase_score=value, efficiency=Efficiency(batch_size=1, batches=1, latency_ms_median=ms))
    figure, axes = plot_pareto([moved(i) for i in range(9)])
    figure.canvas.draw()
    boxes = [t.get_window_extent() for t in axes.texts]
    assert len(boxes) == 9 and not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])
    plt.close(figure)
