"The fair baseline against brute force on generated histories, and every way in which there is none."
import os, random, subprocess

import pytest

from calibrax.ci import ancestry
from calibrax.ci.ancestry import Ancestor, GitNotFoundError, nearest_measured_ancestor
from calibrax.core.errors import ConfigError
from calibrax.core.models import Metric, Point, Run
from calibrax.storage.store import Store


def git(repo, *arguments, stdin=''):
    env = {**os.environ, 'GIT_AUTHOR_DATE': '1700000000 +0000', 'GIT_COMMITTER_DATE': '1700000000 +0000', 'GIT_CONFIG_GLOBAL': os.devnull}
    done = subprocess.run(['git', '-c', 'user.name=Ann', '-c', 'user.email=ann@example.org', '-C', str(repo), *arguments], env=env, input=stdin,
                          capture_output=True, text=True)
    assert not done.returncode, done.stderr
    return done.stdout


def import_history(folder, parents, branches):
    "A repository of which `parents` lists the parents (numbers) of commit i, `branches` names some commits; gives the commits by number"
    git('.', 'init', '-q', '-b', 'main', str(folder))
    out = []
    for i, own in enumerate(parents):
        out.append(f'commit refs/heads/made\nmark :{i + 1}\ncommitter Ann <ann@example.org> {1_700_000_000 + 60*i} +0000\ndata <<EOT\n{i}\nEOT\n')
        if not own: out[-1] = f'reset refs/heads/made\n{out[-1]}'
        out += [f'{"merge" if j else "from"} :{p + 1}\n' for j, p in enumerate(own)]
    out += [f'reset refs/heads/{name}\nfrom :{i + 1}\n' for name, i in branches.items()]
    marks = folder/'marks'
    git(folder, 'fast-import', '--quiet', '--force', f'--export-marks={marks}', stdin=''.join(out))
    return [c for _, c in sorted((int(m[1:]), c) for m, c in map(str.split, marks.read_text().splitlines()))]


def history(seed, size):
    "A main line with branches, merges, squashes (a branch whose tip is nobody's parent) and a branch on top"
    draw = random.Random(seed)
    parents, main, tips = [[]], [0], []
    while len(parents) < size:
        kind = draw.random()
        if kind < 0.45 or not tips and kind < 0.7: parents.append([main[-1]]); main.append(len(parents) - 1)
        elif kind < 0.7: tips[-1] = (parents.append([draw.choice([tips[-1], tips[-1]])]), len(parents) - 1)[1]
        elif kind < 0.8: parents.append([draw.choice(main[-20:])]); tips.append(len(parents) - 1)
        elif kind < 0.92 and tips: parents.append([main[-1], tips.pop(draw.randrange(len(tips)))]); main.append(len(parents) - 1)
        elif tips: tips.pop(draw.randrange(len(tips))); parents.append([main[-1]]); main.append(len(parents) - 1)      # squashed
    parents.append([draw.choice(main[-60:])])
    for _ in range(draw.randrange(4)): parents.append([len(parents) - 1])
    if draw.random() < 0.3: parents.append([len(parents) - 1, main[-3]])       # main was merged into the branch
    return parents, main[-1], len(parents) - 1


def distances(parents, start):
    found, level, n = {start: 0}, [start], 0
    while level:
        n += 1
        level = [p for c in level for p in parents[c] if p not in found]
        found.update(dict.fromkeys(level, n))
    return found


def brute_force(parents, head, target, measured):
    "By definition: (distance, the commits that may be chosen)"
    common = set(distances(parents, head)) & set(distances(parents, target))
    base, = common - {a for c in common for a in parents[c]}        # the ancestors of a common one are common too
    line, c = [base], base
    while parents[c]: line.append(c := parents[c][0])
    chosen = [(n, {c}) for n, c in enumerate(line) if c in measured and c != head]
    if chosen: return base, *chosen[0]
    side = {c: n for c, n in distances(parents, base).items() if c in measured and c != head}
    nearest = min(side.values(), default=None)
    return base, nearest, {c for c, n in side.items() if n == nearest}


@pytest.fixture
def calls(monkeypatch):
    "Every process that is started"
    found, run = [], subprocess.run
    monkeypatch.setattr(ancestry.subprocess, 'run', lambda *a, **k: (found.append(a[0]), run(*a, **k))[1])
    return found


@pytest.mark.parametrize('seed', range(6))
def test_as_by_brute_force(tmp_path, calls, seed):
    "500 commits with merges, squashes and unmeasured ones: the same answer, from two calls of git"
    parents, main, head = history(seed, 500)
    at = import_history(tmp_path/'r', parents, {'main': main, 'feature': head})
    draw = random.Random(seed)
    for share in (0.5, 0.05, 0.01, 0.002, 0):
        measured = {i for i in range(len(at)) if draw.random() < share}
        for name, i in (('feature', head), ('main', main)):
            calls.clear()
            found = nearest_measured_ancestor([at[i] for i in measured], name, repo=tmp_path/'r')
            assert len(calls) <= 3
            base, distance, allowed = brute_force(parents, i, main, measured)
            assert found.merge_base == at[base]
            assert found.distance == distance
            assert (found.commit in {at[c] for c in allowed}) if allowed else not found


def test_several_merge_bases(tmp_path):
    "A criss-cross: both branches merged each other"
    #            a  b    c    d (main: b+c)  e (other: c+b)
    parents = [[], [0], [0], [1, 2], [2, 1]]
    at = import_history(tmp_path/'r', parents, {'main': 3, 'other': 4})
    for measured, expected, distance in (({1}, 1, 0), ({2}, 2, 0), ({0}, 0, 1)):
        found = nearest_measured_ancestor([at[i] for i in measured], 'other', repo=tmp_path/'r')
        assert (found.commit, found.distance) == (at[expected], distance)


@pytest.fixture
def line(tmp_path):
    "Five commits on main, and a branch of two from the third"
    at = import_history(tmp_path/'line', [[], [0], [1], [2], [3], [2], [5]], {'main': 4, 'feature': 6})
    return tmp_path/'line', at


def test_of_a_store_the_newest_run_counts(line, tmp_path, calls):
    repo, at = line
    store = Store(tmp_path/'store')
    for id, commit in (('r1', at[0]), ('r2', at[1]), ('r3', at[1][:10]), ('r4', None), ('r5', at[4])):
        store.save(Run(id=id, commit=commit, points=[Point(name='p', scenario='s', metrics={'x': Metric(value=1)})]))
    found = nearest_measured_ancestor(store, 'feature', repo=repo)
    assert (found.commit, found.run_id, found.distance, found.mainline) == (at[1], 'r2', 1, True)     # the whole name before the short one
    assert len(calls) == 2
    assert 'run r2' in found.reason and at[2][:8] in found.reason
    assert Ancestor.from_json(found.to_json()) == found


def test_in_ci_the_target_is_a_remote_branch_and_head_is_detached(line, tmp_path, calls):
    repo, at = line
    clone = tmp_path/'clone'
    git('.', 'clone', '-q', '--branch', 'feature', f'file://{repo}', str(clone))
    git(clone, 'checkout', '-q', '--detach')
    calls.clear()
    assert nearest_measured_ancestor([at[2]], repo=clone).commit == at[2]
    assert len(calls) <= 3


def test_shallow_clone_says_so(line, tmp_path, calls):
    repo, at = line
    clone = tmp_path/'clone'
    git('.', 'clone', '-q', '--depth', '1', '--no-single-branch', f'file://{repo}', str(clone))
    git(clone, 'checkout', '-q', 'origin/feature')
    calls.clear()
    found = nearest_measured_ancestor([at[0]], repo=clone)
    assert not found and 'no history' in found.reason and 'git fetch --unshallow' in found.reason
    found = nearest_measured_ancestor([at[0]], 'main', repo=clone)
    assert not found and 'git fetch --unshallow' in found.reason
    assert len(calls) <= 6


def test_unrelated_history(line):
    repo, at = line
    git(repo, 'checkout', '-q', '--orphan', 'alone')
    git(repo, 'commit', '-q', '--allow-empty', '-m', 'alone')
    found = nearest_measured_ancestor(at, 'alone', repo=repo)
    assert not found and found.reason == 'alone and main share no history'


def test_unborn_branch(line, calls):
    repo, at = line
    git(repo, 'checkout', '-q', '--orphan', 'unborn')
    with pytest.raises(ConfigError, match="'HEAD' does not name a commit") as e: nearest_measured_ancestor(at, repo=repo)
    assert 'no commit yet' in e.value.hint


@pytest.mark.parametrize('head, target, named', [('nope', 'main', 'nope'), ('main', 'nope', 'nope'), ('-x', 'main', '-x'), ('main', '--all', '--all'),
                                                 ('main^{tree}', 'main', 'main'), ('', 'main', '')])
def test_unknown_name(line, head, target, named):
    with pytest.raises(ConfigError, match=f"'{named}.* does not name a commit"): nearest_measured_ancestor([], head, target, repo=line[0])


def test_not_a_repository(tmp_path):
    with pytest.raises(ConfigError, match='not a git repository'): nearest_measured_ancestor([], repo=tmp_path)
    with pytest.raises(ConfigError, match='cannot change to'): nearest_measured_ancestor([], repo=tmp_path/'nowhere')


def test_no_git(line, monkeypatch):
    monkeypatch.setenv('PATH', '')
    with pytest.raises(GitNotFoundError, match='git is not on PATH'): nearest_measured_ancestor([], repo=line[0])


def test_variables_of_a_hook_do_not_mislead(line, monkeypatch, tmp_path):
    repo, at = line
    monkeypatch.setenv('GIT_DIR', str(tmp_path/'elsewhere'))
    assert nearest_measured_ancestor([at[1]], 'feature', repo=repo).commit == at[1]


def test_how_far_back(line):
    repo, at = line
    found = nearest_measured_ancestor([at[0]], 'main', repo=repo, depth=2)
    assert not found and 'none of the 2 commits' in found.reason


def test_shortened_commits(line):
    repo, at = line
    assert nearest_measured_ancestor([at[1][:7]], 'feature', repo=repo).commit == at[1]
    assert not nearest_measured_ancestor([at[1][:4]], 'feature', repo=repo)          # too short to be sure


def test_a_whole_commit_is_shown_short(line):
    repo, at = line[:2]
    whole = git(repo, 'rev-parse', 'HEAD').strip()
    reason = nearest_measured_ancestor([at[0]], whole, 'main', repo=repo).reason
    assert whole[:8] in reason and whole not in reason


def test_an_empty_target_is_refused(line):
    "A variable of a script that is not set must not mean HEAD"
    with pytest.raises(ConfigError, match="'' does not name a commit"): nearest_measured_ancestor([], 'HEAD', '', repo=line[0])
