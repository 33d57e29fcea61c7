"The search for a culprit: wrong answers, merges, skips, both ends, and a checkout that is always as it was."
import os, random, subprocess, sys
from dataclasses import replace

import pytest

from calibrax.ci import bisection
from calibrax.ci.bisection import BisectionEngine, BisectionResult, BisectionSkip, bisect_command
from calibrax.core.errors import ConfigError, ProfilingError
from calibrax.core.models import Metric, Point, Run


def git(repo, *arguments, stdin=''):
    env = {**os.environ, 'GIT_CONFIG_GLOBAL': os.devnull, 'GIT_AUTHOR_DATE': '1700000000 +0000', 'GIT_COMMITTER_DATE': '1700000000 +0000'}
    done = subprocess.run(['git', '-c', 'user.name=Ann', '-c', 'user.email=ann@example.org', '-C', str(repo), *arguments], env=env, input=stdin,
                          capture_output=True, text=True)
    assert not done.returncode, done.stderr
    return done.stdout.strip()


def history(folder, contents, parents=None):
    "A repository whose commit i holds `contents[i]` in the file `value`; gives the commits"
    git('.', 'init', '-q', '-b', 'main', str(folder))
    out = []
    for i, text in enumerate(contents):
        own = ([i - 1] if i else []) if parents is None else parents[i]
        out.append(f'commit refs/heads/main\nmark :{i + 1}\ncommitter Ann <ann@example.org> {1_700_000_000 + 60*i} +0000\ndata <<EOT\ncommit {i}\nEOT\n')
        out += [f'{"merge" if j else "from"} :{p + 1}\n' for j, p in enumerate(own)]
        out.append(f'M 644 inline value\ndata <<EOT\n{text}\nEOT\n')
    git(folder, 'fast-import', '--quiet', f'--export-marks={folder}/.git/marks', stdin=''.join(out))
    git(folder, 'reset', '--hard', '-q')
    marks = [l.split() for l in (folder/'.git/marks').read_text().splitlines()]
    return [c for _, c in sorted((int(m[1:]), c) for m, c in marks)]


@pytest.fixture
def repo(tmp_path):
    "Ten commits, the seventh (number 6) of which made the value 11 instead of 10"
    folder = tmp_path/'project'
    return folder, history(folder, ['10']*6 + ['11']*4)

def value(folder): return float((folder/'value').read_text())

def run_of(number): return Run(points=[Point(name='p', scenario='s', metrics={'latency': Metric(value=number)})])

def is_slow(run): return run.points[0].metrics['latency'].value > 10.5


# --- the published engine ------------------------------------------------------------------------------------------------

def test_as_published_in_the_checkout(repo):
    "`benchmark_fn(commit)` finds the commit checked out, and the branch is back afterwards"
    folder, at = repo
    seen = []
    def benchmark(commit):
        assert git(folder, 'rev-parse', 'HEAD') == commit
        seen.append(commit)
        return run_of(value(folder))
    result = BisectionEngine(folder, benchmark, is_slow).bisect(at[0][:10], 'main')
    assert result.culprit_commit == at[6] and result.is_regression_found
    assert len(result.tested_commits) == result.total_steps == len(set(result.tested_commits)) and not {at[0], at[9]} & set(result.tested_commits)
    assert set(seen[:4]) == {at[9], at[0]}                        # both ends first
    assert git(folder, 'symbolic-ref', '--short', 'HEAD') == 'main' and git(folder, 'status', '--porcelain') == ''


def test_adjacent_commits_take_no_steps(repo):
    folder, at = repo
    result = BisectionEngine(folder, lambda commit: run_of(value(folder)), is_slow).bisect(at[5], at[6])
    assert (result.culprit_commit, result.total_steps, result.tested_commits) == (at[6], 0, ())


@pytest.mark.parametrize('good, bad', [(3, 3), (8, 2)])
def test_empty_range(repo, good, bad):
    folder, at = repo
    result = BisectionEngine(folder, lambda commit: pytest.fail('measured'), is_slow).bisect(at[good], at[bad])
    assert (result.culprit_commit, result.is_regression_found, result.total_steps) == (None, False, 0) and 'no later than' in result.reason


def test_unknown_name(repo):
    with pytest.raises(ValueError, match="'nope' does not name a commit in"): BisectionEngine(repo[0], lambda commit: None, is_slow).bisect('nope', 'main')
    with pytest.raises(ValueError, match='not a git repository'): BisectionEngine(repo[0].parent, lambda commit: None, is_slow).bisect('a', 'b')


def test_no_git(repo, monkeypatch):
    monkeypatch.setenv('PATH', '')
    with pytest.raises(FileNotFoundError, match='git is not on PATH'): BisectionEngine(repo[0], lambda commit: None, is_slow).bisect('a', 'b')


def test_old_result_reads(repo):
    old = {'culprit_commit': 'abc', 'total_steps': 2, 'tested_commits': ['a', 'b'], 'is_regression_found': True}
    result = BisectionResult.from_dict(old)
    assert result.to_dict().items() >= old.items() and 'abc' in repr(result) and 'abc' in result._repr_html_()


# --- the two ends --------------------------------------------------------------------------------------------------------

def test_nothing_regresses(repo):
    "The published engine blames the bad commit without testing it"
    folder, at = repo
    result = BisectionEngine(folder, lambda commit: run_of(10), is_slow).bisect(at[0], at[9])
    assert result.culprit_commit is None and not result.is_regression_found and result.reason.startswith('nothing regresses')
    assert result.total_steps == 0


def test_good_end_is_bad(repo):
    folder, at = repo
    result = BisectionEngine(folder, lambda commit: run_of(11), is_slow).bisect(at[0], at[9])
    assert result.culprit_commit is None and not result.is_regression_found and 'bad already' in result.reason


def test_good_on_another_branch(repo):
    "The search begins where the branches parted"
    folder, at = repo
    git(folder, 'checkout', '-q', '-b', 'side', at[2])
    git(folder, 'commit', '-q', '--allow-empty', '-m', 'side')
    git(folder, 'checkout', '-q', 'main')
    result = BisectionEngine(folder, lambda commit, tree: run_of(value(tree)), is_slow).bisect('side', 'main')
    assert result.culprit_commit == at[6] and at[2][:8] in result.notes[0]


def test_unrelated_ends(repo):
    folder, at = repo
    git(folder, 'checkout', '-q', '--orphan', 'alone')
    git(folder, 'commit', '-q', '--allow-empty', '-m', 'alone')
    with pytest.raises(ConfigError, match='share no history'): BisectionEngine(folder, lambda commit, tree: None, is_slow).bisect('alone', 'main')


# --- wrong answers -------------------------------------------------------------------------------------------------------

def search(n, culprit, wrong, seed, parents=None):
    "The outcome and the number of measurements of a search without git; culprit n + 1: nothing regresses, 0: bad from the beginning"
    rng = random.Random(seed)
    commits = [str(i) for i in range(n + 1)]
    made = bisection._Search(bisection._Range(commits, commits, parents or [[i] for i in range(n)]), bisection._Memory(None, ''), bisection._RATES, 50, 0.99)
    count = 0
    while (i := made.next()) is not None:
        bad = culprit == 0 or culprit <= n and bool(made.reach[i, culprit - 1])
        made.memory.add(commits[i], bad != (rng.random() < wrong))
        made.weigh()
        count += 1
    return bisection._outcome(made), count


@pytest.mark.parametrize('n, wrong, most', [(30, 0, 16), (30, 0.1, 30), (30, 0.2, 55), (1, 0.2, 20)])
def test_finds_the_culprit_though_answers_are_wrong(n, wrong, most):
    "At least 95 % found; 0.9 leaves room for chance in 150 trials"
    found = [search(n, 1 + seed*7 % n, wrong, seed) for seed in range(150)]
    assert sum(o['culprit_commit'] == str(1 + seed*7 % n) for seed, (o, _) in enumerate(found)) >= (150 if not wrong else 139)
    assert sum(c for _, c in found)/150 <= most


@pytest.mark.parametrize('culprit, says', [(21, 'nothing regresses'), (0, 'the good commit is bad already')])
def test_innocent_though_answers_are_wrong(culprit, says):
    assert sum(search(20, culprit, 0.15, seed)[0]['reason'].startswith(says) for seed in range(100)) >= 93


def test_exact_answers_halve_the_range(repo):
    folder, at = repo
    calls = []
    def benchmark(commit, tree):
        calls.append(commit)
        return run_of(value(tree))
    result = BisectionEngine(folder, benchmark, is_slow, error_rate=0).bisect(at[0], at[9])
    assert result.culprit_commit == at[6] and len(calls) == len(set(calls)) <= 6
    assert (result.measurements, result.probability) == (len(calls), pytest.approx(1))


def test_coin_flips_stay_unclear(repo):
    folder, at = repo
    rng = random.Random(1)
    result = BisectionEngine(folder, lambda commit, tree: rng.random() < 0.5, lambda r: r, repeats=6).bisect(at[0], at[9])
    assert result.culprit_commit is None and max(c.bad + c.good for c in result.commits) <= 6


def test_merges():
    "Every culprit of a history with branches is found: a branch's commit, a merge, the main line"
    #          1    2    3(branch) 4(branch) 5    6 = merge of 5 and 4   7
    parents = [[0], [1], [1],      [3],      [2], [5, 4],                [6]]
    for culprit in range(1, 8):
        assert search(7, culprit, 0, 0, parents)[0]['culprit_commit'] == str(culprit)


def test_first_parent(tmp_path):
    "The merge is blamed for what its branch brought"
    parents = [[], [0], [0], [2], [1, 3], [4]]
    at = history(tmp_path/'r', ['10', '10', '10', '11', '11', '11'], parents)
    def culprit(**options): return BisectionEngine(tmp_path/'r', lambda commit, tree: run_of(value(tree)), is_slow, **options).bisect(at[0], at[5]).culprit_commit
    assert (culprit(), culprit(first_parent=True)) == (at[3], at[4])


# --- what cannot be measured ---------------------------------------------------------------------------------------------

@pytest.mark.parametrize('way', ['raises', 'no run', 'no verdict'])
def test_skipped_commits(repo, way):
    folder, at = repo
    def benchmark(commit, tree):
        if commit in at[3:5]:
            if way == 'raises': raise BisectionSkip('does not build')
            if way == 'no run': return None
            return run_of(float('nan'))
        return run_of(value(tree))
    result = BisectionEngine(folder, benchmark, lambda run: None if run.points[0].metrics['latency'].value != run.points[0].metrics['latency'].value else is_slow(run)).bisect(at[0], at[9])
    assert result.culprit_commit == at[6]
    assert {c.commit for c in result.commits if c.verdict == 'skipped'} <= set(at[3:5])


def test_culprit_among_skipped(repo):
    folder, at = repo
    def benchmark(commit, tree):
        if commit in at[5:7]: raise BisectionSkip('does not build')
        return run_of(value(tree))
    result = BisectionEngine(folder, benchmark, is_slow).bisect(at[0], at[9])
    assert result.culprit_commit is None and result.is_regression_found and set(at[5:8]) <= set(result.suspects) and 'one of' in result.reason
    assert {'skipped', 'good', 'bad'} <= {c.verdict for c in result.commits}


def test_an_end_must_be_measured(repo):
    folder, at = repo
    with pytest.raises(ConfigError, match=f'the bad commit {at[9][:8]} cannot be measured'): BisectionEngine(folder, lambda commit, tree: None, is_slow).bisect(at[0], at[9])


# --- the checkout --------------------------------------------------------------------------------------------------------

def test_dirty_checkout_is_refused_before_anything(repo):
    folder, at = repo
    (folder/'value').write_text('changed')
    with pytest.raises(ConfigError, match='uncommitted changes: value') as e: BisectionEngine(folder, lambda commit: pytest.fail('measured'), is_slow).bisect(at[0], at[9])
    assert 'commit or stash' in e.value.hint and (folder/'value').read_text() == 'changed'
    assert BisectionEngine(folder, lambda commit, tree: run_of(value(tree)), is_slow).bisect(at[0], at[9]).culprit_commit == at[6]      # not touched, so not refused
    assert (folder/'value').read_text() == 'changed'


def test_a_command_is_not_stopped_by_a_dirty_checkout_but_says_so(repo):
    folder, at = repo
    (folder/'value').write_text('changed')
    result = bisect_command(at[0], 'main', command=[sys.executable, '-c', WRITES], repo=folder)
    assert result.culprit_commit == at[6] and any('1 tracked file(s) with uncommitted changes' in n for n in result.notes)
    assert (folder/'value').read_text() == 'changed'


def test_untracked_files_may_stay(repo):
    folder, at = repo
    (folder/'notes').write_text('mine')
    assert BisectionEngine(folder, lambda commit: run_of(value(folder)), is_slow).bisect(at[0], at[9]).culprit_commit == at[6]
    assert (folder/'notes').read_text() == 'mine'


@pytest.mark.parametrize('detached', [False, True])
@pytest.mark.parametrize('error', [KeyboardInterrupt, RuntimeError, SystemExit])
def test_checkout_is_restored_whatever_happens(repo, error, detached):
    folder, at = repo
    if detached: git(folder, 'checkout', '-q', '--detach', at[4])
    before = git(folder, 'rev-parse', 'HEAD'), git(folder, 'rev-parse', '--abbrev-ref', 'HEAD')
    count = []
    def benchmark(commit):
        count.append(commit)
        (folder/'value').write_text('the benchmark wrote here')
        if len(count) == 6: raise error('now')
        return run_of(11 if at.index(commit) >= 6 else 10)
    with pytest.raises(error): BisectionEngine(folder, benchmark, is_slow).bisect(at[0], at[9])
    assert (git(folder, 'rev-parse', 'HEAD'), git(folder, 'rev-parse', '--abbrev-ref', 'HEAD')) == before and git(folder, 'status', '--porcelain') == ''


def test_tree_of_its_own_is_removed(repo):
    folder, at = repo
    git(folder, 'checkout', '-q', '-b', 'mine', at[8])
    def benchmark(commit, tree):
        assert tree != folder and tree.name == folder.name and git(tree, 'rev-parse', 'HEAD') == commit
        trees.add(tree)
        if len(trees) and at.index(commit) == 6: raise KeyboardInterrupt
        return run_of(value(tree))
    trees = set()
    with pytest.raises(KeyboardInterrupt): BisectionEngine(folder, benchmark, is_slow).bisect(at[0], at[9])
    assert not any(t.exists() for t in trees) and git(folder, 'worktree', 'list').count('\n') == 0
    assert git(folder, 'rev-parse', '--abbrev-ref', 'HEAD') == 'mine'


def test_in_place_with_a_folder(repo):
    folder, at = repo
    def benchmark(commit, tree):
        assert tree == folder
        return run_of(value(tree))
    assert BisectionEngine(folder, benchmark, is_slow, in_place=True).bisect(at[0], at[9]).culprit_commit == at[6]


@pytest.mark.parametrize('options, match', [({'confidence': 1}, 'confidence'), ({'confidence': 0.3}, 'confidence'), ({'error_rate': 0.5}, 'error_rate'), ({'error_rate': -1}, 'error_rate'),
                                            ({'repeats': 0}, 'repeats'), ({'in_place': False}, 'takes the commit alone')])
def test_wrong_arguments(tmp_path, options, match):
    with pytest.raises(ConfigError, match=match): BisectionEngine(tmp_path, lambda commit: None, is_slow, **options)


# --- memory --------------------------------------------------------------------------------------------------------------

def test_an_interrupted_search_goes_on(repo, tmp_path):
    folder, at = repo
    count = []
    def benchmark(commit, tree):
        count.append(commit)
        if len(count) == 8: raise KeyboardInterrupt
        return run_of(value(tree))
    def engine(**options): return BisectionEngine(folder, benchmark, is_slow, cache=tmp_path/'answers.json', question='latency', **options)
    with pytest.raises(KeyboardInterrupt): engine().bisect(at[0], at[9])
    result = engine().bisect(at[0], at[9])
    assert result.culprit_commit == at[6] and result.measurements == len(count) - 1       # nothing was measured twice for the interruption
    before = len(count)
    assert engine().bisect(at[0], at[9]).culprit_commit == at[6] and len(count) == before


def test_answers_to_another_question_are_noticed(tmp_path):
    (tmp_path/'a').write_text('{"question": "memory", "answers": {}}')
    with pytest.raises(ConfigError, match="another question: 'memory'"): BisectionEngine(tmp_path, lambda commit: None, is_slow, cache=tmp_path/'a', question='latency')
    (tmp_path/'b').write_text('[1]')
    with pytest.raises(ConfigError, match='no answers of a bisection'): BisectionEngine(tmp_path, lambda commit: None, is_slow, cache=tmp_path/'b')


# --- display and command -------------------------------------------------------------------------------------------------

def test_display(repo):
    import matplotlib.pyplot as plt
    folder, at = repo
    result = BisectionEngine(folder, lambda commit, tree: run_of(value(tree)), is_slow).bisect(at[0], at[9])
    assert f'{at[6][:8]}  commit 6' in repr(result) and '← culprit' in repr(result) and '<table>' in result._repr_html_()
    assert BisectionResult.from_json(result.to_json()) == result
    figure, axes = result.plot()
    assert axes.get_xlabel() == 'commits, oldest first'
    plt.close(figure)


WRITES = ('import json, os, sys; v = float(open("value").read()); v < 50 or sys.exit("cannot build"); json.dump({"id": "r", "timestamp": "2026-03-01T12:00:00+00:00", '
          '"metric_defs": {"latency": {"unit": "ms", "direction": "lower"}}, "points": [{"name": "p", "scenario": "s", "metrics": {"latency": {"value": v}, '
          '"other": {"value": -v}}}]}, open(os.environ["CALIBRAX_RUN_FILE"], "w"))')

def test_command(tmp_path):
    folder = tmp_path/'r'
    at = history(folder, ['10', '10', '99', '10', '11', '11', '11'])
    result = bisect_command('main~6', 'main', command=[sys.executable, '-c', WRITES], repo=folder, ends=1, search={'error_rate': 0})
    assert result.culprit_commit == at[4] and '10.00 ms at the good end' in result.notes[0]
    result = bisect_command('main~1', 'main', command=[sys.executable, '-c', WRITES], repo=folder, ends=1)
    assert result.culprit_commit is None and result.reason == 'nothing regresses by more than 5%' and 'p latency: 11.00 → 11.00' in result.notes[0]
    with pytest.raises(ConfigError, match="no metric to judge by of the name 'nope'"): bisect_command('main~6', 'main', command=[sys.executable, '-c', WRITES], repo=folder, ends=1, metric='nope')
    with pytest.raises(ConfigError, match='main~6 is no later than main') as wrong: bisect_command('main', 'main~6', command='exit 9', repo=folder)       # nothing is measured
    assert 'good commit is the earlier' in wrong.value.hint
    with pytest.raises(ConfigError, match='threshold'): bisect_command('main~6', 'main', command='exit 9', repo=folder, threshold=-1)
    with pytest.raises(ProfilingError, match=f'commit {at[2][:8]}.*\n.*cannot build'): bisect_command(at[2], 'main', command=[sys.executable, '-c', WRITES], repo=folder, ends=1)


@pytest.mark.parametrize('text', ['cannot build', '{', '[]', '{"id": "r", "timestamp": "2026-03-01T12:00:00+00:00", "points": []}'])
def test_a_commit_without_a_good_run_is_skipped(tmp_path, text):
    "A command that writes nonsense, or a run without the metric, ends the measurement of its commit and not the search"
    folder = tmp_path/'r'
    at = history(folder, ['10', text, text, '10', '11'])
    program = f'import os, sys; text = open("value").read().strip(); text[0] in "1" or (open(os.environ["CALIBRAX_RUN_FILE"], "w").write(text), sys.exit()); {WRITES}'
    result = bisect_command('main~4', 'main', command=[sys.executable, '-c', program], repo=folder)
    assert result.culprit_commit == at[4] and {c.verdict for c in result.commits if c.commit in at[1:3]} <= {'skipped'}


def test_a_folder_that_a_commit_lacks_skips_it(tmp_path):
    folder = tmp_path/'r'
    history(folder, ['10', '10'])
    git(folder, 'mv', 'value', 'top')
    def commit(message): git(folder, 'add', '-A'); git(folder, 'commit', '-q', '-m', message); return git(folder, 'rev-parse', 'HEAD')
    def sub(text): (folder/'sub').mkdir(exist_ok=True); (folder/'sub/value').write_text(text)
    sub('10'); first = commit('sub'); git(folder, 'rm', '-q', '-r', 'sub'); commit('gone'); sub('11'); back = commit('back'); sub('11 '); last = commit('last')
    result = bisect_command(first, last, command=[sys.executable, '-c', WRITES], repo=folder/'sub')
    assert set(result.suspects) >= {back} and any('no folder sub' in c.note for c in result.commits) and result.exit_code == 3


def rounds(shift, seed, *, noise=0.01, wild=0.3):
    "Simulated rounds of two commits: `latency` becomes worse by a share, `wild` only looks like it"
    from calibrax.ci.commits import CommitRound
    from calibrax.core.models import MetricDef
    draw = random.Random(seed).gauss
    defs = {name: MetricDef(name=name, unit='ms', direction='lower') for name in ('latency', 'wild')}
    def made(factor):
        values = {'latency': 10*factor*(1 + noise*draw(0, 1)), 'wild': 5*abs(1 + wild*draw(0, 1))}
        return Run(metric_defs=defs, points=[Point(name='p', scenario='s', metrics={k: Metric(value=v) for k, v in values.items()})])
    return (CommitRound(order='AB', run_a=made(1), run_b=made(1 + shift)) for _ in range(12))


def test_a_wild_metric_does_not_decide():
    "The metric that became worse beyond doubt decides, not the one that jumped most; and noise alone is never searched"
    found = [bisection._ends(rounds(0.1, seed), 3, 0.05, None, None, {}) for seed in range(60)]
    assert sum(worst is not None and worst.metric == 'latency' for _, _, worst in found) >= 59 and max(len(measured) for measured, _, _ in found) <= 9
    found = [bisection._ends(rounds(0, seed), 3, 0.05, None, None, {}) for seed in range(60)]
    assert sum(worst is None and bisection._doubtful(asked) for _, asked, worst in found) >= 59
    assert bisection._ends(rounds(0.1, 1), 3, 0.05, 'latency', 'p', {})[2].metric == 'latency'


def test_exit_codes(repo, tmp_path):
    "0 a culprit, 1 nothing became worse, 3 unclear: at the ends, or among skipped commits"
    folder, at = repo
    rng = random.Random(1)
    coins = BisectionEngine(folder, lambda commit, tree: rng.random() < 0.5, lambda r: r, repeats=6).bisect(at[0], at[9])
    assert coins.unclear and coins.exit_code == 3 and not coins.is_regression_found
    assert BisectionEngine(folder, lambda commit, tree: run_of(10), is_slow).bisect(at[0], at[9]).exit_code == 1
    assert BisectionEngine(folder, lambda commit, tree: run_of(value(tree)), is_slow).bisect(at[0], at[9]).exit_code == 0
    assert BisectionResult(culprit_commit=None, total_steps=1, tested_commits=(), is_regression_found=True).exit_code == 3
    log = str(tmp_path/'count')
    noisy = (f'import random; open({log!r}, "a").write("."); n = len(open({log!r}).read()); '
             + WRITES.replace('open("value").read())', 'open("value").read())*random.Random(n).lognormvariate(0, 0.5)'))
    unclear = bisect_command(at[0], 'main', command=[sys.executable, '-c', noisy], repo=folder)
    assert unclear.exit_code == 3 and 'stay unclear after 12 rounds' in unclear.reason and 'p latency' in repr(unclear)


def test_the_ends_are_remembered_too(repo, tmp_path):
    "With a cache the second search measures nothing: neither the ends nor what is between them"
    folder, at = repo
    count = tmp_path/'count'
    program = f'open({str(count)!r}, "a").write("."); {WRITES}'
    def search(**options): return bisect_command(at[0], 'main', command=[sys.executable, '-c', program], repo=folder, search={'cache': tmp_path/'answers.json'}, **options)
    first = search()
    before = count.stat().st_size
    assert first.culprit_commit == at[6] and search() == replace(first, tested_commits=(), total_steps=0) and count.stat().st_size == before
    with pytest.raises(ConfigError, match='another question'): search(metric='latency')


def test_untracked_files_are_never_lost(repo):
    "A commit of the range may track a file that is untracked now: git refuses, and so does the search"
    folder, at = repo
    git(folder, 'checkout', '-q', '-b', 'side')
    (folder/'notes').write_text('of the commit')
    git(folder, 'add', 'notes'); git(folder, 'commit', '-q', '-m', 'notes'); git(folder, 'rm', '-q', 'notes'); git(folder, 'commit', '-q', '-m', 'gone')
    git(folder, 'checkout', '-q', 'main')
    for ignored in ('', 'notes\n'):
        (folder/'.git/info/exclude').write_text(ignored)
        (folder/'notes').write_text('mine')
        with pytest.raises(ConfigError, match='cannot check out.*') as refused: BisectionEngine(folder, lambda commit: run_of(10), is_slow).bisect(at[8], 'side~1')
        assert (folder/'notes').read_text() == 'mine' and git(folder, 'symbolic-ref', '--short', 'HEAD') == 'main' and 'in the way' in refused.value.hint


@pytest.mark.parametrize('number', ['SIGTERM', 'SIGHUP'])
@pytest.mark.parametrize('in_place', [False, True])
def test_a_polite_kill_restores_everything(repo, in_place, number):
    "CI servers end a cancelled job with SIGTERM: the checkout is restored, the working trees and the benchmark are gone"
    import signal, time
    folder, at = repo
    started = folder.parent/'started'
    command = f'import pathlib, time; pathlib.Path({str(started)!r}).write_text("x"); time.sleep(0.1); '
    search = (f'bisection.BisectionEngine({str(folder)!r}, lambda commit, tree: exec({command!r}) or 1, lambda run: __import__("random").random() < 0.5, in_place=True, repeats=9999)'
              f'.bisect({at[0]!r}, "main")' if in_place else f'bisection.bisect_command({at[0]!r}, "main", command=["{sys.executable}", "-c", {command + "time.sleep(60)"!r}], repo={str(folder)!r})')
    process = subprocess.Popen([sys.executable, '-c', f'from calibrax.ci import bisection; {search}'], stderr=subprocess.PIPE, text=True)
    for _ in range(500):
        if started.exists(): break
        time.sleep(0.02)
    process.send_signal(getattr(signal, number))
    process.communicate(timeout=20)
    assert process.returncode == 128 + getattr(signal, number)
    assert git(folder, 'symbolic-ref', '--short', 'HEAD') == 'main' and git(folder, 'status', '--porcelain') == '' and git(folder, 'worktree', 'list').count('\n') == 0


@pytest.mark.parametrize('in_place', [False, True])
def test_ctrl_c(repo, in_place):
    "A real interrupt, sent to the whole group as a terminal does, at a moment that is not chosen"
    import signal, time
    folder, at = repo
    code = f'''
from calibrax.ci.bisection import BisectionEngine
import time
BisectionEngine({str(folder)!r}, lambda commit, tree: time.sleep(0.02) or 1, lambda run: commit_is_bad(run), in_place={in_place}, repeats=1000).bisect({at[0]!r}, 'main')
'''.replace('commit_is_bad(run)', '__import__("random").random() < 0.5')
    process = subprocess.Popen([sys.executable, '-c', code], start_new_session=True, stderr=subprocess.PIPE, text=True)
    logs = folder/'.git'/('logs/HEAD' if in_place else 'worktrees')
    before = logs.stat().st_size if in_place and logs.exists() else 0
    for _ in range(400):
        if logs.exists() and (not in_place or logs.stat().st_size > before + 500): break
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGINT)
    assert 'KeyboardInterrupt' in process.communicate(timeout=20)[1]
    assert git(folder, 'symbolic-ref', '--short', 'HEAD') == 'main' and git(folder, 'status', '--porcelain') == '' and git(folder, 'worktree', 'list').count('\n') == 0
