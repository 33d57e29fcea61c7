"Registries: a name keeps its meaning, an unknown one gets the nearest, and installed packages are found without an import."
import importlib, logging, subprocess, sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from calibrax.core.errors import CalibraxError, RegistryError
from calibrax.core.registry import GROUP, BenchmarkRegistry, Registry, SingletonRegistry, get_benchmark, list_benchmarks, register_benchmark

names = st.text('abc', min_size=1, max_size=3)


def defined(name, module='library', qualname=None):
    "A class as if some module had defined it"
    return type(name, (), {'__module__': module, '__qualname__': qualname or name})


@pytest.fixture(autouse=True)
def clean():
    BenchmarkRegistry.reset()
    yield
    BenchmarkRegistry.reset()


# --- one registry ----------------------------------------------------------------------------------------------------------

@given(st.lists(st.tuples(st.sampled_from(['register', 'replace', 'remove', 'clear']), names, st.integers(0, 3))))
def test_behaves_like_a_dict_that_does_not_overwrite(steps):
    registry, model = Registry(), {}
    for step, name, item in steps:
        if step == 'replace': registry.register(name, item, replace=True); model[name] = item
        elif step == 'clear': registry.clear(); model.clear()
        elif step == 'register' and (name not in model or model[name] is item): registry.register(name, item); model[name] = item
        elif step == 'remove' and name in model: registry.remove(name); del model[name]
        else:
            with pytest.raises(KeyError): registry.register(name, item) if step == 'register' else registry.remove(name)
        assert registry.list_names() == list(registry) == list(model) and len(registry) == len(model)
        assert all(registry.get(n) is i and n in registry and registry.has(n) for n, i in model.items())


def test_another_object_needs_replace():
    registry = Registry()
    first, second = defined('First'), defined('Second')
    registry.register('a', first)
    with pytest.raises(RegistryError, match="'a' is registered already, as library.First") as told: registry.register('a', second)
    assert isinstance(told.value, KeyError) and 'replace=True' in told.value.hint and registry.get('a') is first
    registry.register('a', second, replace=True)
    assert registry.get('a') is second


@pytest.mark.parametrize('old, new', [
    (defined('Same'), defined('Same')),
    (defined('Any', '__main__'), defined('Other')),
    (defined('Any'), defined('Other', '__main__')),
    (defined('Any', '__main__')(), defined('Other')()),
], ids=['reloaded', 'old in main', 'new in main', 'instances of main'])
def test_the_same_again_is_silent_and_the_newest_counts(old, new):
    registry = Registry()
    registry.register('a', old)
    registry.register('a', new)
    assert registry.get('a') is new


@pytest.mark.parametrize('old, new', [
    (defined('Same'), defined('Same', 'elsewhere')), (lambda: 1, lambda: 2), (defined('Same')(), defined('Same')()), (1, 2), ('x', None),
], ids=['module', 'lambdas', 'instances', 'numbers', 'none'])
def test_what_only_looks_the_same_is_refused(old, new):
    registry = Registry()
    registry.register('a', old)
    with pytest.raises(RegistryError): registry.register('a', new)


@pytest.mark.parametrize('wrong', ['', None, 3, ('a',)])
def test_names_are_texts(wrong):
    with pytest.raises(RegistryError, match='a name is a text'): Registry().register(wrong, 1)
    assert wrong not in Registry()


def test_none_is_an_item_like_any_other():
    registry = Registry()
    registry.register('nothing', None)
    assert registry.get('nothing') is None and 'nothing' in registry


@pytest.mark.parametrize('asked, hint', [('mlp_trainning', "did you mean 'mlp_training'?"), ('MLP_TRAINING', "did you mean 'mlp_training'?"),
                                         ('zzz', 'registered are mlp_training, cnn')])
def test_unknown_names_suggest_the_nearest(asked, hint):
    registry = Registry()
    for n in ('mlp_training', 'cnn'): registry.register(n, n)
    for look in (registry.get, registry.remove):
        with pytest.raises(KeyError) as told: look(asked)
        assert str(told.value) == f'{asked!r} not found in registry\n  hint: {hint}'


def test_display_shows_what_stands_behind():
    registry = Registry()
    registry.register('<b>', defined('Model'))
    registry.register('instance', defined('Model')())
    assert 'library.Model' in repr(registry) and 'an object of library.Model' in repr(registry)
    assert '&lt;b&gt;' in registry._repr_html_()


# --- shared instances ------------------------------------------------------------------------------------------------------

def test_a_subclass_never_shares_its_parents_instance():
    class Parent(SingletonRegistry[int]): pass
    Parent().register('a', 1)
    class Child(Parent): pass
    assert Parent() is Parent() and Child() is Child() and Child() is not Parent()
    assert Child().list_names() == [] and Parent().list_names() == ['a']
    assert BenchmarkRegistry() is not SingletonRegistry()


def test_reset_empties_in_place():
    class Mine(SingletonRegistry[int]): pass
    kept = Mine()
    kept.register('a', 1)
    Mine.reset()
    assert kept is Mine() and kept.list_names() == []


def test_a_subclass_may_refuse_and_demand_more():
    "As client libraries do"
    class Strict(SingletonRegistry[type]):
        def register(self, name, item):
            if name in self: raise ValueError(f'{name!r} is already registered')
            super().register(name, item)
    Strict().register('a', int)
    with pytest.raises(ValueError, match='already registered'): Strict().register('a', int)


def test_a_subclass_may_take_arguments():
    class Sized(SingletonRegistry[int]):
        def __init__(self, size=1):
            super().__init__()
            self.size = size
    Sized().register('a', 1)
    assert Sized(3).list_names() == ['a'] and Sized(3).size == 3


def test_threads_make_one_instance():
    class Mine(SingletonRegistry[int]): pass
    with ThreadPoolExecutor(16) as pool: made = list(pool.map(lambda _: Mine(), range(200)))
    assert len({id(m) for m in made}) == 1


def test_of_many_threads_one_gets_the_name():
    registry, items = Registry(), [object() for _ in range(200)]
    def attempt(item):
        try: registry.register('a', item)
        except RegistryError: return False
        return True
    with ThreadPoolExecutor(16) as pool: assert sum(pool.map(attempt, items)) == 1


# --- benchmarks of this process and of installed packages ---------------------------------------------------------------------

def test_clients_pin_where_they_live():
    import calibrax.core
    for name in ('BenchmarkRegistry', 'Registry', 'SingletonRegistry', 'register_benchmark', 'get_benchmark', 'list_benchmarks'):
        found = getattr(calibrax.core, name)
        assert found.__module__ == 'calibrax.core.registry' and found.__doc__


def test_decorator():
    made = register_benchmark('mine')(defined('Mine'))
    assert get_benchmark('mine') is made and list_benchmarks() == ['mine'] and 'mine' in BenchmarkRegistry()
    with pytest.raises(RegistryError): register_benchmark('mine')(defined('Other'))
    assert register_benchmark('mine', replace=True)(defined('Other')) is get_benchmark('mine')


def install(folder, package, points, code='', version='1.0'):
    "What `pip install` leaves behind"
    info = folder/f'{package}-{version}.dist-info'
    info.mkdir()
    (info/'METADATA').write_text(f'Metadata-Version: 2.1\nName: {package}\nVersion: {version}\n')
    (info/'entry_points.txt').write_text('\n'.join([f'[{GROUP}]', *(f'{k} = {v}' for k, v in points.items())]))
    (folder/f'{package}.py').write_text(code)

@pytest.fixture
def site(tmp_path, monkeypatch):
    before = set(sys.modules)
    monkeypatch.syspath_prepend(str(tmp_path))
    importlib.invalidate_caches()
    yield tmp_path
    for name in set(sys.modules) - before:
        if name.startswith('suite'): del sys.modules[name]


def test_installed_benchmarks_appear(site):
    install(site, 'suite_a', {'heat': 'suite_a:Heat'}, 'class Heat: pass')
    assert 'suite_a' not in sys.modules
    assert get_benchmark('heat').__name__ == 'Heat' and list_benchmarks() == ['heat']


def test_only_what_is_asked_for_is_loaded(site):
    install(site, 'suite_a', {'heat': 'suite_a:Heat'}, 'class Heat: pass')
    install(site, 'suite_b', {'wave': 'suite_b:Wave'}, 'class Wave: pass')
    register_benchmark('mine')(defined('Mine'))
    get_benchmark('mine')
    assert not {'suite_a', 'suite_b'} & set(sys.modules)
    get_benchmark('wave')
    assert 'suite_a' not in sys.modules
    assert list_benchmarks() == ['mine', 'wave', 'heat']


def test_broken_ones_are_named_and_left_out(site, caplog):
    install(site, 'suite_a', {'heat': 'suite_a:Heat', 'gone': 'suite_a:Gone', 'absent': 'suite_none:X'}, 'class Heat: pass')
    install(site, 'suite_b', {'angry': 'suite_b:Angry'}, 'raise RuntimeError("no licence")')
    with caplog.at_level(logging.WARNING, 'calibrax'): assert list_benchmarks() == ['heat']
    told = [r.getMessage() for r in caplog.records]
    assert len(told) == 3 and all(any(f"'{n}'" in t for t in told) for n in ('gone', 'absent', 'angry'))
    assert set(BenchmarkRegistry().broken) == {'gone', 'absent', 'angry'}
    with pytest.raises(RegistryError, match='suite_b:Angry of suite_b 1.0 does not load: RuntimeError: no licence') as e: get_benchmark('angry')
    assert e.value.hint == 'repair or remove that package'
    assert not BenchmarkRegistry().has('gone')


def test_this_process_wins(site):
    install(site, 'suite_a', {'heat': 'suite_a:Heat'}, 'raise RuntimeError("never asked for")')
    mine = register_benchmark('heat')(defined('Mine'))
    assert get_benchmark('heat') is mine and list_benchmarks() == ['heat'] and not BenchmarkRegistry().broken


def test_a_package_that_registers_itself_too(site):
    install(site, 'suite_a', {'heat': 'suite_a:Heat'}, 'from calibrax.core import register_benchmark, list_benchmarks\n'
            '@register_benchmark("heat")\nclass Heat: pass\n@register_benchmark("more")\nclass More: pass\nlist_benchmarks()')
    assert get_benchmark('heat').__name__ == 'Heat' and set(list_benchmarks()) == {'heat', 'more'}


def test_two_packages_with_one_name(site, caplog):
    install(site, 'suite_a', {'heat': 'suite_a:Heat'}, 'class Heat: pass')
    install(site, 'suite_b', {'heat': 'suite_b:Heat'}, 'class Heat: pass')
    with caplog.at_level(logging.WARNING, 'calibrax'): assert list_benchmarks() == ['heat']
    assert 'is left out' in caplog.text and 'suite_a' in caplog.text and 'suite_b' in caplog.text


def test_reset_looks_again(site):
    assert list_benchmarks() == []
    install(site, 'suite_a', {'heat': 'suite_a:Heat'}, 'class Heat: pass')
    importlib.invalidate_caches()
    assert list_benchmarks() == []
    BenchmarkRegistry.reset()
    assert list_benchmarks() == ['heat']
    BenchmarkRegistry().remove('heat')
    assert list_benchmarks() == []


def test_registering_reads_no_metadata():
    code = '''import sys
from calibrax.core.registry import register_benchmark, get_benchmark
@register_benchmark("mine")
class Mine: pass
get_benchmark("mine")
print("importlib.metadata" in sys.modules, "jax" in sys.modules)'''
    out = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True, cwd=Path(__file__).parents[1]).stdout
    assert out.split()[1] == 'False'


def test_errors_are_ours(): assert issubclass(RegistryError, CalibraxError)
