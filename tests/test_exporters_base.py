"Exporters: found by name, here or in an installed package; a package that cannot be used is named."
import importlib, logging, subprocess, sys
from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from calibrax.core import Metric, MetricDef, Point, Run
from calibrax.core.errors import ConfigError, ExportError
from calibrax.exporters.base import BUILT_IN, Exporter, ExportSettings, get_exporter, list_exporters, store_settings
from calibrax.storage import Store

RUN = Run(id='r', points=[Point(name='p', scenario='s', metrics={'m': Metric(value=1.0), 'n': Metric(value=2.0)})])
GOOD = '''from calibrax.exporters.base import Exporter
class Good(Exporter):
    name = 'good'
    def export_run(self, run): return run.id
    def export_analysis(self, run, baseline=None): pass
class Other(Good): pass
'''


@pytest.fixture
def install(tmp_path, monkeypatch):
    "Write what pip would write for a package with these entry points"
    modules = set(sys.modules)
    def write(package, entries, code=GOOD):
        site = tmp_path/package
        info = site/f'{package}-1.0.dist-info'
        info.mkdir(parents=True)
        (info/'METADATA').write_text(f'Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n')
        (info/'entry_points.txt').write_text('[calibrax.exporters]\n' + ''.join(f'{k} = {v}\n' for k, v in entries.items()))
        (site/f'{package}.py').write_text(code)
        monkeypatch.setattr(sys, 'path', [*sys.path, str(site)])
        importlib.invalidate_caches()
    yield write
    for name in set(sys.modules) - modules: del sys.modules[name]
    importlib.invalidate_caches()


@pytest.fixture
def told(caplog):
    logger = logging.getLogger('calibrax')
    kept, logger.propagate = logger.propagate, True
    caplog.set_level('WARNING', 'calibrax')
    yield caplog
    logger.propagate = kept


# --- names -----------------------------------------------------------------------------------------------------------------

def test_installed_exporters_are_listed_and_not_imported(install):
    install('team_one', {'good': 'team_one:Good', 'absent': 'team_one:Nothing'})
    assert list_exporters() == (*BUILT_IN, 'absent', 'good') and 'team_one' not in sys.modules
    found = get_exporter('good')
    assert issubclass(found, Exporter) and found.from_settings(ExportSettings()).export_run(RUN) == 'r'


@pytest.mark.parametrize('value, said', [('team_two:Nothing', 'does not load: AttributeError'), ('nowhere.at.all:Good', 'does not load: ModuleNotFoundError'),
                                         ('team_two:number', 'is no exporter'), ('team_two:Lookalike', 'is no exporter')])
def test_a_package_that_cannot_be_used_is_named(install, value, said):
    install('team_two', {'bad': value}, GOOD + 'number = 3\nclass Lookalike:\n    def export_run(self, run): return ""\n')
    with pytest.raises(ExportError, match=said) as told: get_exporter('bad')
    assert value in told.value.message and 'team_two 1.0' in told.value.message and told.value.hint and told.value.details['name'] == 'bad'


def test_a_package_that_raises_at_import_is_named(install):
    install('team_three', {'loud': 'team_three:Good'}, 'raise RuntimeError("no licence")')
    with pytest.raises(ExportError, match='team_three 1.0 does not load: RuntimeError: no licence'): get_exporter('loud')


def test_who_loses_a_name_is_named(install, told):
    install('team_four', {'good': 'team_four:Good', 'csv': 'team_four:Good'})
    install('team_five', {'good': 'team_five:Good'})
    assert list_exporters().count('good') == 1 and list_exporters().count('csv') == 1
    assert "'csv': team_four:Good of team_four 1.0 is left out" in told.text
    assert "'good': team_five:Good of team_five 1.0 is left out, team_four:Good of team_four 1.0 has the name" in told.text
    assert get_exporter('good').__module__ == 'team_four'


@pytest.mark.parametrize('asked, near', [('wandbb', "'wandb'"), ('WANDB', "'wandb'"), ('ml-flow', "'mlflow'"), ('pytestbenchmark', "'pytest-benchmark'")])
def test_unknown_names_suggest_the_nearest(asked, near):
    with pytest.raises(ExportError, match='there is no exporter') as told: get_exporter(asked)
    assert near in told.value.hint


def test_what_is_like_nothing_lists_all():
    with pytest.raises(ExportError) as told: get_exporter('zzz')
    assert all(name in told.value.hint for name in BUILT_IN)


@pytest.mark.parametrize('name', BUILT_IN)
def test_every_built_in_exporter_is_one_and_knows_its_name(name):
    found = get_exporter(name)
    assert issubclass(found, Exporter) and found.name == name


def test_nothing_heavy_is_imported_to_list_them():
    code = ('import sys; from calibrax.exporters.base import list_exporters; list_exporters();'
            'print([m for m in ("jax", "numpy", "matplotlib", "wandb", "mlflow", "pandas", "scipy", "calibrax.exporters.wandb") if m in sys.modules])')
    assert subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True).stdout.strip() == '[]'


# --- settings --------------------------------------------------------------------------------------------------------------

def test_settings_take_lists_and_texts():
    s = ExportSettings(tags=['a', 'b'], metrics=iter(['m']), output='x/y')
    assert (s.tags, s.metrics, s.output) == (('a', 'b'), ('m',), Path('x/y'))


@pytest.mark.parametrize('wrong, said', [({'tags': 'nightly'}, r"tags: .*found 'nightly'"), ({'metrics': 'm'}, 'metrics: '), ({'tags': ['a', 3]}, r'tags\[1\]: .*found 3'),
                                         ({'project': ''}, 'project: '), ({'entity': 3}, 'entity: '), ({'tracking_uri': b'x'}, 'tracking_uri: ')])
def test_wrong_settings_are_named(wrong, said):
    with pytest.raises(ConfigError, match=said) as told: ExportSettings(**wrong)
    assert told.value.hint


@given(project=st.none() | st.text(min_size=1), entity=st.none() | st.text(min_size=1))
def test_what_is_said_wins_over_the_file(project, entity):
    class Configured:
        config = {'wandb_project': 'filed', 'wandb_entity': 'team'}
        metric_defs = {'m': MetricDef(name='m', unit='s', direction='lower')}
    s = store_settings(Configured(), project=project, entity=entity, tags=None)
    assert (s.project, s.entity, s.tags) == (project or 'filed', entity or 'team', ()) and s.metric_defs['m'].unit == 's'


def test_settings_of_a_store(tmp_path):
    store = Store(tmp_path/'store')
    assert store_settings(store).project is None
    store.write_config(wandb_project='p', wandb_entity=3)
    with pytest.raises(ConfigError, match='config.json: wandb_entity: expected a text, found 3'): store_settings(store)


# --- the base class --------------------------------------------------------------------------------------------------------

def test_an_exporter_needs_both_methods():
    class Half(Exporter):
        def export_run(self, run): return ''
    with pytest.raises(TypeError, match='export_analysis'): Half()


def test_preview_says_what_is_there():
    class Whole(Exporter):
        def export_run(self, run): return ''
        def export_analysis(self, run, baseline=None): pass
    assert Whole().preview(RUN).rows == (('r', 'run', '1 point, 2 metrics'),)
    assert Whole().preview(RUN, RUN).rows[-1] == ('r', 'analysis', 'against r')
