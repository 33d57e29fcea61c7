"Two commits in turns: order, verdicts, working trees that never stay, and errors that say where."
import os, subprocess, sys

import pytest

from calibrax.ci import commits
from calibrax.ci.commits import CommitComparison, compare_commits, worktree
from calibrax.core.errors import ConfigError, ProfilingError

WRITES = '''
import json, os, random, sys
import version
log = os.environ['LOG']
n = len(open(log).read()) if os.path.exists(log) else 0
open(log, 'a').write('%d' % (version.latency > 10))
rng = random.Random(n)
value = version.latency*(1 + 0.01*n)*(1 + rng.gauss(0, 0.003))       # the machine becomes slower all the time
run = {'id': 'r%d' % n, 'timestamp': '2026-03-01T12:00:00+00:00', 'commit': os.environ.get('COMMIT'), 'metric_defs': {'latency': {'unit': 'ms', 'direction': 'lower'}},
       'points': [{'name': 'p', 'scenario': 's', 'metrics': {'latency': {'value': value, 'samples': [value]*3}}}]}
json.dump(run, open(os.environ['CALIBRAX_RUN_FILE'], 'w'))
'''

def git(repo, *arguments):
    env = {**os.environ, 'GIT_CONFIG_GLOBAL': os.devnull}
    done = subprocess.run(['git', '-c', 'user.name=Ann', '-c', 'user.email=ann@example.org', '-C', str(repo), *arguments], env=env, capture_output=True, text=True)
    assert not done.returncode, done.stderr
    return done.stdout.strip()


@pytest.fixture
def repo(tmp_path):
    "Two commits, the second 5 % slower; the benchmark is in a subfolder, the measured module at the top"
    folder = tmp_path/'project'
    (folder/'bench').mkdir(parents=True)
    git('.', 'init', '-q', '-b', 'main', str(folder))
    for latency in (10, 10.5):
        (folder/'version.py').write_text(f'latency = {latency}\n')
        (folder/'bench'/'bench.py').write_text(WRITES)
        git(folder, 'add', '.')
        git(folder, 'commit', '-q', '-m', f'{latency}')
    return folder

@pytest.fixture
def options(repo, tmp_path):
    return {'command': [sys.executable, 'bench/bench.py'], 'repo': repo, 'env': {'LOG': str(tmp_path/'log')}, 'progress': False}

def no_trees(repo): return git(repo, 'worktree', 'list').count('\n') == 0


def test_a_slower_commit(repo, options, tmp_path):
    "5 % are found, though the machine drifts by 1 % with every run"
    found = compare_commits('main~1', 'main', rounds=6, **options)
    assert [c.verdict for c in found.assessment.changes] == ['regressed'] and found.exit_code == 1 and len(found.regressions) == 1
    assert found.assessment.changes[0].delta_pct == pytest.approx(5, abs=1)
    assert (found.commit_a, found.commit_b) == (git(repo, 'rev-parse', 'main~1'), git(repo, 'rev-parse', 'main'))
    order = (tmp_path/'log').read_text()
    assert order == ''.join({'A': '0', 'B': '1'}[v] for r in found.rounds for v in r.order) and sorted(r.order for r in found.rounds) == ['AB']*3 + ['BA']*3
    assert found.headline.startswith(f'main~1 ({found.commit_a[:8]}) → main ({found.commit_b[:8]}), 6 rounds: 1 regressed')
    assert CommitComparison.from_json(found.to_json()) == found and not found.warnings and no_trees(repo)


def test_the_other_way_round(repo, options):
    found = compare_commits('main', 'main~1', rounds=6, **options)
    assert [c.verdict for c in found.assessment.changes] == ['improved'] and found.exit_code == 0


def test_the_same_commit(repo, options):
    found = compare_commits('main', 'HEAD', rounds=6, **options)
    assert not found.regressions and found.commit_a == found.commit_b
    assert not compare_commits('main', 'main', rounds=4, **options).regressions


def test_orders_are_balanced_and_seeded():
    for rounds in range(2, 12):
        orders = commits._orders(rounds, 3)
        assert len(orders) == rounds and abs(orders.count('AB') - orders.count('BA')) <= 1 and orders == commits._orders(rounds, 3)
    assert len({tuple(commits._orders(8, s)) for s in range(20)}) > 5


def test_in_a_subfolder(repo, options):
    found = compare_commits('main~1', 'main', rounds=2, **{**options, 'repo': repo/'bench', 'command': [sys.executable, 'bench.py']})
    assert len(found.rounds) == 2


def test_uncommitted_changes_take_no_part(repo, options, tmp_path):
    (repo/'version.py').write_text('latency = 99\n')
    (repo/'notes').write_text('untracked files need no word')
    found = compare_commits('main~1', 'main', rounds=2, **options)
    assert '1 tracked file(s) with uncommitted changes' in found.warnings[0] and 'part of no commit' in found.warnings[0]
    assert (repo/'version.py').read_text() == 'latency = 99\n' and 'warning: 1 tracked' in repr(found)


def test_a_run_of_other_code_is_noticed(repo, options):
    options['env'] |= {'COMMIT': git(repo, 'rev-parse', 'main')}
    found = compare_commits('main~1', 'main', rounds=2, **options)
    assert len(found.warnings) == 2 and 'does the command import the code of the folder' in found.warnings[1] and found.warnings[0].startswith('2 rounds show large changes only')


def test_failing_command(repo, options):
    options['command'] = 'echo reading; python -c "import version, sys; sys.exit(version.latency > 10)"'
    with pytest.raises(ProfilingError) as e: compare_commits('main~1', 'main', **options)
    assert f'main (commit {git(repo, "rev-parse", "--short=8", "main")})' in e.value.message and 'round 1 of 8' in e.value.message
    assert 'status 1' in e.value.message and '| reading' in e.value.message and no_trees(repo)


def test_failing_setup(repo, options):
    with pytest.raises(ProfilingError, match=r'setup of main~1 \(commit'): compare_commits('main~1', 'main', setup='exit 5', **options)
    assert no_trees(repo)


def test_setup_runs_once_in_each_tree(repo, options):
    found = compare_commits('main~1', 'main', rounds=2, setup='test ! -e built && touch built && pwd >> $LOG.setup', **options)
    assert len(found.rounds) == 2 and len(set(open(options['env']['LOG'] + '.setup').read().split())) == 2


def test_timeout(repo, options):
    with pytest.raises(ProfilingError, match='took longer than 0.3 s'): compare_commits('main~1', 'main', timeout=0.3, **{**options, 'command': 'sleep 20'})
    assert no_trees(repo)


@pytest.mark.parametrize('error', [KeyboardInterrupt, SystemExit, RuntimeError])
def test_trees_are_removed_whatever_happens(repo, error):
    with pytest.raises(error):
        with worktree(repo, 'main~1') as tree:
            (tree.root/'built').mkdir()
            (tree.root/'built'/'file').write_text('x')
            raise error
    assert not tree.root.exists() and not tree.root.parent.exists() and no_trees(repo)


def test_tree_of_a_commit(repo):
    (repo/'src').mkdir()
    with worktree(repo/'bench', 'main~1') as tree:
        assert (tree.folder, tree.root.name) == (tree.root/'bench', 'project') and 'latency = 10\n' in (tree.root/'version.py').read_text()
        assert tree.python_path == [tree.root] and git(tree.root, 'rev-parse', 'HEAD') == tree.commit


def test_hooks_do_not_run(repo, tmp_path):
    hook = repo/'.git'/'hooks'/'post-checkout'
    hook.parent.mkdir(exist_ok=True)
    hook.write_text(f'#!/bin/sh\ntouch {tmp_path}/ran\n')
    hook.chmod(0o755)
    with worktree(repo, 'main'): pass
    assert not (tmp_path/'ran').exists()


@pytest.mark.parametrize('a, b, changed, match', [('nope', 'main', {}, "'nope' does not name a commit"), ('main', 'nope', {}, "'nope' does not name"), ('main', 'main', {'rounds': 1}, 'rounds'),
                                                  ('main', 'main', {'command': None}, 'a workload is'), ('main', 'main', {'module': 'm', 'function': 'f'}, 'a workload is')])
def test_wrong_arguments(repo, options, a, b, changed, match):
    with pytest.raises(ConfigError, match=match): compare_commits(a, b, **{**options, **changed})
    assert no_trees(repo)


def test_not_a_repository(tmp_path):
    with pytest.raises(ConfigError, match='not a git repository'): compare_commits('a', 'b', command='true', repo=tmp_path)


def test_display(repo, options):
    import matplotlib.pyplot as plt
    found = compare_commits('main~1', 'main', rounds=4, **options)
    assert 'latency' in repr(found) and '<table>' in found._repr_html_()
    figure, axes = found.plot()
    assert axes.get_xlabel() == 'main against main~1 [%]'
    plt.close(figure)
