"""The action and the workflows for GitHub: what is in them holds together, and the steps of the action do what they say.

The steps run here as a runner would run them, with the real command line, a real store, and a stand-in for `gh`."""
import json, os, re, shutil, subprocess, sys
from pathlib import Path

import pytest

from calibrax.core.models import Metric, MetricDef, Point, Run
from calibrax.storage import Store

yaml = pytest.importorskip('yaml', reason='pyyaml is not installed')
ROOT = Path(__file__).parents[1]
FOLDER = ROOT/'.github'/'actions'/'check'
ACTION = yaml.safe_load((FOLDER/'action.yml').read_text(encoding='utf-8'))
WORKFLOWS = {p.stem: yaml.safe_load(p.read_text(encoding='utf-8')) for p in sorted((ROOT/'.github'/'workflows').glob('*.yml'))}
pytestmark = pytest.mark.skipif(sys.platform == 'win32' or not shutil.which('bash'), reason='needs bash')
needs_jq = pytest.mark.skipif(not shutil.which('jq'), reason='jq, which stands in for the one in gh, is not installed')


# --- a runner ------------------------------------------------------------------------------------------------------------

TOKEN = re.compile(r"'(?:[^']|'')*'|[A-Za-z_][\w.-]*|&&|\|\||==|!=|!|[(),]|\s+")
OPERATORS = {'&&': ' and ', '||': ' or ', '!': ' not '}

def evaluate(expression, contexts):
    "An expression of GitHub's, with the few functions that we use"
    def look(path):
        value = contexts
        for part in path.split('.'): value = (value or {}).get(part)
        return '' if value is None else value
    functions = {'always': lambda: True, 'contains': lambda text, part: part in text, 'startsWith': lambda text, part: text.startswith(part),
                 'format': lambda text, *values: text.format(*values)}
    tokens = TOKEN.findall(expression)
    assert ''.join(tokens) == expression, f'cannot read {expression}'
    source = ''.join(repr(t[1:-1].replace("''", "'")) if t[0] == "'" else OPERATORS.get(t, t) if not re.match(r'[A-Za-z_]', t) else t if t in functions
                     else f'look({t!r})' for t in tokens)
    return eval(source.strip(), {'look': look, **functions})

def filled(text, contexts):
    "A value with its expressions replaced; what is true or false becomes the text that GitHub makes of it"
    def one(m):
        value = evaluate(m[1].strip(), contexts)
        return {True: 'true', False: 'false'}.get(value, str(value)) if isinstance(value, bool) else str(value)
    return re.sub(r'\$\{\{(.*?)\}\}', one, str(text))


FAKE_GH = '''import json, os, subprocess, sys
from pathlib import Path
args, file = sys.argv[1:], Path(os.environ['FAKE_GH'])
state = json.loads(file.read_text())
state['calls'].append({'args': args, 'token': os.environ.get('GH_TOKEN'), 'host': os.environ.get('GH_HOST')})
fields = dict(a.split('=', 1) for flag, a in zip(args, args[1:]) if flag in ('-f', '-F'))
body = Path(fields['body'][1:]).read_text() if fields.get('body', '').startswith('@') else fields.get('body')
assert args[0] == 'api'
def refuse(status, why):
    file.write_text(json.dumps(state))
    sys.exit(f'gh: {why} (HTTP {status})')
method = args[args.index('--method') + 1] if '--method' in args else 'GET'
if args[1] == 'graphql':
    assert fields['owner'] + '/' + fields['name'] == 'ada/engine' and fields['number'] == '7' and '--paginate' in args
    if not state['readable']: refuse(401, 'Bad credentials')
    for i in range(0, max(len(state['comments']), 1), 2):    # pages of two
        page = {'data': {'repository': {'pullRequest': {'comments': {'nodes': state['comments'][i:i + 2]}}}}}
        print(subprocess.run(['jq', '-r', args[args.index('--jq') + 1]], input=json.dumps(page), text=True, capture_output=True, check=True).stdout, end='')
elif not state['writable']: refuse(403, 'Resource not accessible by integration')
elif method == 'POST':
    assert 'repos/ada/engine/issues/7/comments' in args and len(body) <= 65536
    state['comments'].append({'databaseId': 100 + len(state['comments']), 'viewerDidAuthor': True, 'body': body})
elif method == 'PATCH':
    comment, = [c for c in state['comments'] if f"repos/ada/engine/issues/comments/{c['databaseId']}" in args]
    comment['body'] = body
file.write_text(json.dumps(state))
'''

class Runner:
    "A job's workspace, and the steps of the action in it"
    def __init__(self, folder):
        self.folder, self.workspace, self.bin, self.cache = folder, folder/'work space', folder/'bin', folder/'cache'
        for each in (self.workspace, self.bin, folder/'temp'): each.mkdir()
        for name, command in (('gh', f'"{sys.executable}" "{folder/"gh.py"}"'), ('python', f'"{sys.executable}"'), ('calibrax', f'"{sys.executable}" -m calibrax')):
            (self.bin/name).write_text(f'#!/bin/sh\nexec {command} "$@"\n')
            (self.bin/name).chmod(0o755)
        (folder/'gh.py').write_text(FAKE_GH)
        self.write_gh(calls=[], comments=[], readable=True, writable=True)

    def write_gh(self, **state): (self.folder/'gh.json').write_text(json.dumps(state))
    def gh(self): return json.loads((self.folder/'gh.json').read_text())
    def change_gh(self, **changes): self.write_gh(**{**self.gh(), **changes})
    def bodies(self): return [c['body'] for c in self.gh()['comments']]

    def github(self, event, branch):
        pull_request = {'number': 7, 'head': {'sha': 'feedc0de' + '0'*32}} if event == 'pull_request' else None
        return {'event_name': event, 'ref': f'refs/heads/{branch}' if pull_request is None else 'refs/pull/7/merge', 'sha': 'a'*40, 'token': 'a-token',
                'workflow': 'Speed', 'job': 'cpu', 'run_id': '11', 'run_attempt': '1', 'event': {'pull_request': pull_request, 'repository': {'default_branch': 'main'}}}

    def run(self, event='pull_request', branch='main', **inputs):
        "The exit status of the action, and what the log says"
        given = {name.replace('_', '-'): value for name, value in inputs.items()}
        assert set(given) <= set(ACTION['inputs']), given
        contexts = {'github': self.github(event, branch), 'runner': {'os': 'Linux', 'arch': 'X64'}, 'steps': {}}
        contexts['inputs'] = {name: given.get(name, filled(spec.get('default', ''), contexts)) for name, spec in ACTION['inputs'].items()}
        self.outputs, self.summary, self.log, status = {}, self.folder/'summary.md', '', 0
        self.summary.write_text('')
        for step in ACTION['runs']['steps']:
            if not evaluate(step.get('if', "'true'"), contexts) or (status and 'always()' not in step.get('if', '')): continue
            if 'uses' in step:
                self.act(step['uses'], {k: filled(v, contexts) for k, v in step['with'].items()})
                continue
            code, outputs = self.shell(step['run'], {k: filled(v, contexts) for k, v in step.get('env', {}).items()})
            if 'id' in step: contexts['steps'][step['id']] = {'outputs': outputs}
            self.outputs.update(outputs)
            status = status or code
        return status

    def shell(self, script, env):
        output = self.folder/'output'
        output.write_text('')
        done = subprocess.run(['bash', '--noprofile', '--norc', '-eo', 'pipefail', '-c', script], cwd=self.workspace, capture_output=True, text=True, timeout=100, env={
            'PATH': f'{self.bin}:/usr/local/bin:/usr/bin:/bin', 'HOME': str(self.folder), 'PYTHONPATH': str(ROOT), 'LC_ALL': 'C.UTF-8', 'CALIBRAX_CACHE_DIR': os.environ['CALIBRAX_CACHE_DIR'],
            'GITHUB_ACTION_PATH': str(FOLDER), 'GITHUB_OUTPUT': str(output), 'GITHUB_STEP_SUMMARY': str(self.summary), 'GITHUB_REPOSITORY': 'ada/engine', 'GITHUB_RUN_ID': '11',
            'GITHUB_SERVER_URL': 'https://github.com', 'RUNNER_TEMP': str(self.folder/'temp'), 'FAKE_GH': str(self.folder/'gh.json'), **env})
        self.log += done.stdout + done.stderr
        return done.returncode, dict(line.split('=', 1) for line in output.read_text().splitlines())

    def act(self, uses, given):
        "The cache: what a job on the default branch keeps, all others find"
        here = self.workspace/given['path']
        if 'restore' in uses:
            assert given['key'].startswith(given['restore-keys'])
            shutil.rmtree(here, ignore_errors=True)
            if self.cache.exists(): shutil.copytree(self.cache, here)
        else:
            shutil.rmtree(self.cache, ignore_errors=True)
            shutil.copytree(here, self.cache)


@pytest.fixture
def runner(tmp_path): return Runner(tmp_path)


DEFS = {'latency': MetricDef(name='latency', unit='ms', direction='lower')}

def results(runner, file='results.json', value=10.0, name='step', **fields):
    "A file of results in the workspace"
    run = Run(metric_defs=DEFS, points=[Point(name=name, scenario='s', metrics={'latency': Metric(value=value)})], **fields)
    (runner.workspace/file).write_text(run.to_json())
    return run

def with_baseline(runner, value=10.0, **fields):
    "What a push to main leaves behind"
    store, run = Store(runner.cache), results(runner, value=value, **fields)
    store.save(run)
    store.set_baseline(run.id)


# --- judged --------------------------------------------------------------------------------------------------------------

def test_main_sets_the_baseline_and_keeps_the_store(runner):
    run = results(runner)
    assert runner.run('push', results='results.json') == 0
    assert Store(runner.cache).get_baseline().id == run.id and runner.outputs == {**runner.outputs, 'exit-code': '0', 'runs': run.id, 'keep': 'true'}
    assert 'Benchmarks: the new baseline' in runner.summary.read_text() and run.id in runner.summary.read_text()
    assert runner.gh()['calls'] == []


@needs_jq
def test_one_comment_that_is_brought_up_to_date(runner):
    with_baseline(runner)
    strangers = [{'databaseId': i, 'viewerDidAuthor': False, 'body': body} for i, body in enumerate(['hello', '<!-- calibrax check: Speed/cpu -->\nnot ours', 'bye'], 1)]
    runner.change_gh(comments=strangers)
    results(runner, value=10.1)
    assert runner.run(results='results.json') == 0
    first = runner.bodies()
    assert len(first) == 4 and first[:3] == [c['body'] for c in strangers]
    assert first[3].startswith('<!-- calibrax check: Speed/cpu -->\n### Benchmarks passed') and '<sub>Commit feedc0de, [log](https://github.com/ada/engine/actions/runs/11)</sub>' in first[3]
    results(runner, value=20)
    assert runner.run(results='results.json') == 1
    second = runner.bodies()
    assert len(second) == 4 and second[:3] == first[:3] and 'Benchmarks failed: 1 regression(s)' in second[3] and 'passed' not in second[3]
    assert second[3].partition('\n')[2] == runner.summary.read_text() == Path(runner.outputs['report']).read_text()
    assert runner.run(results='results.json', comment_key='GPU --> <b>"x"') == 1
    assert len(runner.bodies()) == 5 and runner.bodies()[4].startswith('<!-- calibrax check: GPU-b-x- -->\n')
    assert {(c['token'], c['host']) for c in runner.gh()['calls']} == {('a-token', 'github.com')}


@needs_jq
def test_no_comment_when_none_is_wanted(runner):
    with_baseline(runner)
    results(runner)
    assert runner.run(results='results.json', comment='false') == runner.run('push', branch='topic', results='results.json') == 0
    assert runner.gh()['calls'] == []


@needs_jq
@pytest.mark.parametrize('right, value, status', [('readable', 20, 1), ('writable', 10, 0), ('writable', 20, 1)])
def test_a_fork_may_not_write_and_its_verdict_is_the_same(runner, value, status, right):
    with_baseline(runner)
    runner.change_gh(**{right: False})
    results(runner, value=value)
    assert runner.run(results='results.json') == status and runner.outputs['exit-code'] == str(status)
    assert '::notice title=Benchmarks::no comment on the pull request' in runner.log and runner.bodies() == [] and 'Benchmarks' in runner.summary.read_text()


def test_without_gh_there_is_no_comment(runner):
    (runner.bin/'gh').write_text('#!/bin/sh\nexit 127\n')       # as the shell says when there is none
    results(runner)
    assert runner.run(results='results.json') == 0 and '::notice title=Benchmarks::no comment' in runner.log


def test_only_main_keeps_what_it_measured(runner):
    with_baseline(runner)
    before = sorted(p.name for p in runner.cache.rglob('*'))
    results(runner, value=9)
    for event, branch in (('pull_request', 'main'), ('push', 'topic')):
        assert runner.run(event, branch, results='results.json', comment='false') == 0 and runner.outputs['keep'] == 'false'
    assert sorted(p.name for p in runner.cache.rglob('*')) == before
    assert runner.run('schedule', results='results.json', set_baseline='never') == 0 and runner.outputs['keep'] == 'true'
    assert len(Store(runner.cache).list_runs()) == 2 and 'Benchmarks passed' in runner.summary.read_text()


def test_the_first_run(runner):
    results(runner)
    assert runner.run(results='results.json', comment='false') == 0 and 'is the baseline now' in runner.summary.read_text()
    results(runner)
    assert runner.run(results='results.json', comment='false', first_run='error') == 2
    assert '    Error: No baseline set' in runner.summary.read_text() and '::error title=Benchmarks::there is no verdict' in runner.log


def test_doubts_are_red_only_when_strict(runner):
    with_baseline(runner, environment={'cpu': 'A'})
    results(runner, environment={'cpu': 'B'})
    assert runner.run(results='results.json', comment='false') == 0 and 'warning' in runner.summary.read_text()
    results(runner, environment={'cpu': 'B'})
    assert runner.run(results='results.json', comment='false', options='--strict\n--policy threshold', annotation='warning') == 3 and runner.outputs['exit-code'] == '3'
    assert '::warning title=Benchmarks::there are doubts' in runner.log and '::error' not in runner.log


@pytest.mark.parametrize('inputs, says', [
    (dict(suite='echo measuring; exit 1'), 'the suite ended with exit status 1'),
    (dict(suite='false | true'), 'the suite ended with exit status 1'),
    (dict(suite='true'), 'saved no run in the store'),
    (dict(results='no-such-*.json'), 'wrote no file'),
    (dict(results='absent.json'), 'a file of results cannot be read'),
    (dict(suite='echo "{" > results.json', results='results.json'), 'a file of results cannot be read'),
    (dict(results='results.json', set_baseline='sometimes'), 'none of auto, always and never'),
    (dict(results='results.json', threshold='much'), 'there is no verdict'),
    (dict(module='benches', functions='missing'), 'missing was not measured'),
])
def test_nothing_to_judge_is_never_green(runner, inputs, says):
    "In particular, a suite that measured nothing is not the baseline compared with itself"
    with_baseline(runner)
    if inputs.get('results') == 'results.json': results(runner)
    assert runner.run(comment='false', **inputs) == 2 and runner.outputs['exit-code'] == '2'
    assert says in runner.summary.read_text() and '::error title=Benchmarks::' in runner.log


def test_a_suite_that_saves_by_itself(runner):
    (runner.workspace/'bench.py').write_text('''import os, sys
from calibrax import Metric, MetricDef, Point, Run, Store
Store(os.environ['CALIBRAX_DATA']).save(Run(metric_defs={'latency': MetricDef(name='latency', unit='ms', direction='lower')},
    points=[Point(name='step', scenario='s', metrics={'latency': Metric(value=float(sys.argv[1]))})]))''')
    assert runner.run('push', suite='python bench.py 10') == 0
    assert runner.run(suite='python bench.py 10.2', comment='false') == 0
    assert runner.run(suite='echo warming up\npython bench.py 11', comment='false') == 1


def test_files_with_spaces_and_patterns(runner):
    with_baseline(runner)
    results(runner, 'out a.json', 10)
    newest = results(runner, 'out b.json', 10)
    assert runner.run(results='out *.json\n', comment='false') == 0 and runner.outputs['runs'] == newest.id


def test_functions_have_baselines_of_their_own(runner):
    (runner.workspace/'speed.py').write_text("import time\ndef quick(): return sum(range(100))\ndef slow(): time.sleep(float(open('pause').read()))\n")
    (runner.workspace/'pause').write_text('0.002')
    inputs = dict(module='speed', functions='quick slow', profile_options='--warmup 1 --iterations 5', threshold='5', comment='false')
    assert runner.run('push', **inputs) == 0
    assert list(Store(runner.cache).baselines()) == ['quick', 'slow']
    (runner.workspace/'pause').write_text('0.1')
    assert runner.run(**inputs) == 1
    quick, slow = runner.summary.read_text().split('## slow\n')
    assert quick.startswith('## quick\n\n### Benchmarks passed') and '### Benchmarks failed' in slow and len(runner.outputs['runs'].split()) == 2


def test_the_cached_store_does_not_grow_for_ever(runner):
    with_baseline(runner)
    for _ in range(3): Store(runner.cache).save(results(runner))
    results(runner)
    assert runner.run('push', results='results.json', keep='2') == 0
    assert len(Store(runner.cache).list_runs()) == 2


# --- safe ----------------------------------------------------------------------------------------------------------------

@needs_jq
def test_names_are_never_commands(runner):
    name = '`touch pwned` $(touch pwned) ${HOME} "; touch pwned; \' | [x](javascript:alert(1)) <script>alert(1)</script> ::error::pwned'
    with_baseline(runner, name=name)
    results(runner, value=20, name=name)
    assert runner.run(results='results.json') == 1
    assert not list(runner.workspace.parent.rglob('pwned'))
    body, = runner.bodies()
    assert '$(touch pwned) ${HOME}' in body and '<script>' not in body and '&lt;script&gt;' in body
    assert not re.search(r'^\s*::error::pwned', runner.log, re.M)


@needs_jq
def test_inputs_are_never_commands(runner):
    with_baseline(runner)
    evil = '$(touch pwned)`touch pwned`"; touch pwned; #\''
    results(runner)
    for inputs in (dict(baseline=evil, options=evil, comment_key=evil, token=evil, first_run=evil, keep=evil, annotation=evil), dict(threshold=evil), dict(results=evil)):
        assert runner.run(**{'results': 'results.json', **inputs}) == 2
        assert not list(runner.folder.rglob('pwned')), inputs


@needs_jq
def test_a_long_report_is_cut_to_what_github_takes(runner):
    points = [Point(name=f'ëxample-{i}', scenario='s', metrics={'latency': Metric(value=1)}) for i in range(1500)]
    (runner.workspace/'results.json').write_text(Run(metric_defs=DEFS, points=points).to_json())
    assert runner.run('push', results='results.json') == 0
    slower = [Point(name=p.name, scenario='s', metrics={'latency': Metric(value=2)}) for p in points]
    (runner.workspace/'results.json').write_text(Run(metric_defs=DEFS, points=slower).to_json())
    assert runner.run(results='results.json') == 1
    body, = runner.bodies()
    assert 50_000 < len(body) < 65_536 and 'This is not all' in body[-300:] and 'ëxample-1499' in runner.summary.read_text()


# --- written down --------------------------------------------------------------------------------------------------------

def steps():
    yield from (('action', s) for s in ACTION['runs']['steps'])
    for name, workflow in WORKFLOWS.items():
        for job in workflow['jobs'].values(): yield from ((name, s) for s in job['steps'])

def ours(step): return bool(re.search(r'/actions/check(@|$)', step.get('uses', '')) and 'checkout' not in step['uses'])

def test_actions_of_others_are_pinned_to_a_major_version():
    used = [(where, s['uses']) for where, s in steps() if 'uses' in s]
    assert len(used) > 10
    for where, uses in used:
        assert re.fullmatch(r'[\w.-]+(/[\w.-]+)+@v\d+', uses) or (uses in ('./.github/actions/check', '$/.github/actions/check') and (FOLDER/'action.yml').exists()), (where, uses)


def test_texts_from_outside_reach_the_shell_as_variables_only():
    for where, step in steps(): assert '${{' not in step.get('run', ''), (where, step['run'])


def test_every_input_is_described_and_used():
    text = (FOLDER/'action.yml').read_text(encoding='utf-8')
    for name, spec in ACTION['inputs'].items():
        assert len(spec['description']) > 20 and 'default' in spec and not spec.get('required'), name
        assert re.search(rf'\binputs\.{re.escape(name)}\b', text), name
    assert set(re.findall(r'inputs\.([\w-]+)', text)) == set(ACTION['inputs'])
    scripts = (FOLDER/'check.sh').read_text(encoding='utf-8') + (FOLDER/'comment.sh').read_text(encoding='utf-8')
    for step in ACTION['runs']['steps']:
        for variable in step.get('env', {}): assert variable == 'GH_TOKEN' or re.search(rf'\$\{{?{variable}\b', scripts + step['run']), variable


def reusable(): return WORKFLOWS['benchmark'][True]['workflow_call']      # YAML reads `on` as a truth value

def test_the_workflow_hands_its_inputs_on():
    given = next(s for s in WORKFLOWS['benchmark']['jobs']['benchmarks']['steps'] if s.get('uses', '').startswith('$/'))['with']
    own = {'install', 'calibrax', 'python-version', 'runs-on', 'timeout-minutes', 'retention-days', 'name'}
    assert given == {'cache-key': '${{ inputs.name }}', 'comment-key': '${{ inputs.name }}', **{n: f'${{{{ inputs.{n} }}}}' for n in reusable()['inputs'] if n not in own}}
    assert set(given) <= set(ACTION['inputs'])
    for name, spec in reusable()['inputs'].items():
        assert spec['description'] and spec['type'] in ('string', 'boolean', 'number')
        if name in ACTION['inputs']: assert {True: 'true'}.get(spec['default'], spec['default']) == ACTION['inputs'][name]['default'], name
    text = (ROOT/'.github'/'workflows'/'benchmark.yml').read_text(encoding='utf-8')
    assert set(re.findall(r'inputs\.([\w-]+)', text)) == set(reusable()['inputs'])


def test_rights_are_the_least():
    for name, workflow in WORKFLOWS.items():
        assert workflow['permissions'] == {'contents': 'read'}, name
        for job in workflow['jobs'].values():
            if any(map(ours, job['steps'])): assert job.get('permissions', {}) in ({}, {'contents': 'read', 'pull-requests': 'write'}), name
    assert 'pull_request_target' not in str(WORKFLOWS), 'code of a fork must not run with our token'


def test_templates_use_the_action_with_inputs_that_it_has():
    for name in ('benchmark-gate', 'benchmark-nightly'):
        step, = [s for job in WORKFLOWS[name]['jobs'].values() for s in job['steps'] if ours(s)]
        assert set(step['with']) <= set(ACTION['inputs']) and step['continue-on-error'] is True
        source = (ROOT/(step['with']['module'].replace('.', '/') + '.py')).read_text(encoding='utf-8')
        for function in step['with']['functions'].split(): assert f'\ndef {function}(' in source
    assert WORKFLOWS['benchmark-nightly'][True]['schedule'] == [{'cron': '0 2 * * *'}]
    artifact = next(s for s in WORKFLOWS['benchmark-nightly']['jobs']['cpu']['steps'] if 'upload-artifact' in s.get('uses', ''))
    export = next(s for s in WORKFLOWS['benchmark-nightly']['jobs']['cpu']['steps'] if 'Weights' in s.get('name', ''))
    assert artifact['with']['retention-days'] == 90 and artifact['if'] == 'always()' and export['if'] == "env.WANDB_API_KEY != ''"


COMMANDS = {'runs', 'baseline', 'summary', 'check', 'profile', 'ingest', 'prune'}

def test_the_commands_have_the_options_that_are_given():
    script = (FOLDER/'check.sh').read_text(encoding='utf-8').replace('\\\n', ' ')
    calls = re.findall(r'\bcalibrax ([a-z-]+) (--[^\n|&;]*)', script)
    defaults = [('profile', ACTION['inputs']['profile-options']['default']), ('check', '--policy auto --strict')]
    for name in ('benchmark-gate', 'benchmark-nightly'):
        for job in WORKFLOWS[name]['jobs'].values(): defaults += [('profile', s['with']['profile-options']) for s in job['steps'] if ours(s)]
    assert {c for c, _ in calls} == COMMANDS
    for command in COMMANDS:
        shown = subprocess.run([sys.executable, '-m', 'calibrax', command, '--help'], capture_output=True, text=True, check=True).stdout
        known = set(re.findall(r'--[\w-]+', shown))
        for c, options in [*calls, *defaults]:
            if c == command: assert set(re.findall(r'(?<!\S)--[\w-]+', options)) <= known, (command, options)


def snippets():
    "The YAML on the page about GitHub"
    for cell in json.loads((ROOT/'nbs'/'ci'/'github.ipynb').read_text(encoding='utf-8'))['cells']:
        if cell['cell_type'] == 'markdown': yield from re.findall(r'```yaml\n(.*?)```', ''.join(cell['source']), re.S)

def test_what_the_page_shows_is_right():
    found = [yaml.safe_load(text) for text in snippets()]
    assert len(found) >= 2
    for part in found:
        jobs = part['jobs'] if isinstance(part, dict) and 'jobs' in part else {'steps': {'steps': part if isinstance(part, list) else []}}
        for job in jobs.values():
            if 'uses' in job: assert job['uses'].startswith('example/calibrax/.github/workflows/benchmark.yml@') and set(job.get('with', {})) <= set(reusable()['inputs'])
            for step in job.get('steps', []):
                if ours(step): assert set(step.get('with', {})) <= set(ACTION['inputs'])
