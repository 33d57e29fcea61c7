"Carbon: the table of grids, and codecarbon with a stand-in where it is not installed."
import json, logging, subprocess, sys
from importlib.util import find_spec
from types import ModuleType, SimpleNamespace

import pytest
from hypothesis import given, strategies as st

from calibrax.core.errors import ConfigError, ProfilingError
from calibrax.profiling.carbon import GRID_INTENSITY, GRID_INTENSITY_SOURCE, CarbonResult, CarbonTracker, carbon_of, plot_grid_intensity
from calibrax.profiling.energy import CallEnergy, EnergySummary

UNKNOWN = dict(total_gpu_energy_joules=None, total_cpu_energy_joules=None, total_combined_energy_joules=None, mean_gpu_power_watts=None,
               peak_gpu_power_watts=None, duration_sec=2.0, num_samples=3)
KNOWN = {**UNKNOWN, 'total_gpu_energy_joules': 7.2e6, 'total_combined_energy_joules': 7.2e6, 'combined_of': ('gpu',)}


# --- the table -----------------------------------------------------------------------------------------------------------

def test_the_table_is_plausible():
    assert 40 <= len(GRID_INTENSITY) - 1 and all(10 < grams < 1000 for grams in GRID_INTENSITY.values())
    assert all(len(c) == 3 and c.isascii() and c.isupper() for c in GRID_INTENSITY if c != 'WORLD')
    assert GRID_INTENSITY['NOR'] < GRID_INTENSITY['FRA'] < GRID_INTENSITY['DEU'] < GRID_INTENSITY['POL']
    assert '2023' in GRID_INTENSITY_SOURCE and 'Ember' in GRID_INTENSITY_SOURCE
    with pytest.raises(TypeError): GRID_INTENSITY['FRA'] = 0.0


@pytest.mark.skipif(find_spec('pycountry') is None, reason='pycountry knows the codes')
def test_codes_are_those_of_iso_3166():
    import pycountry
    assert not [c for c in GRID_INTENSITY if c != 'WORLD' and pycountry.countries.get(alpha_3=c) is None]


@pytest.mark.skipif(find_spec('codecarbon') is None, reason='codecarbon has the same source')
def test_the_table_agrees_with_codecarbons():
    from codecarbon.input import DataSource
    theirs = {c: v for c, v in DataSource().get_global_energy_mix_data().items() if v.get('year') == 2023}
    for code, grams in GRID_INTENSITY.items():
        if code in theirs: assert abs(theirs[code]['carbon_intensity'] - grams) <= 0.5, code


# --- converting ----------------------------------------------------------------------------------------------------------

@given(joules=st.floats(0, 1e15), code=st.sampled_from(sorted(GRID_INTENSITY)))
def test_a_kilowatt_hour_has_the_grams_of_its_grid(joules, code):
    r = carbon_of(joules, code)
    assert r.energy_consumed_kwh == pytest.approx(joules/3.6e6) and r.emissions_kg_co2 == pytest.approx(joules/3.6e6*GRID_INTENSITY[code]/1000)
    assert r.country_iso_code == code and CarbonResult.from_dict(r.to_dict()) == r


def test_a_summary_and_a_call_bring_their_energy_and_duration():
    s = EnergySummary(**KNOWN)
    r = carbon_of(s, 'deu')
    assert (r.energy_consumed_kwh, r.duration_sec, r.country_iso_code) == (2.0, 2.0, 'DEU') and r.method.startswith('GPU, ')
    per_call = carbon_of(CallEnergy(calls=4, duration_sec=2.0, gpu_joules=1.8e6, cpu_joules=None, summary=s), 'DEU')
    assert (per_call.energy_consumed_kwh, per_call.duration_sec) == (0.5, 0.5)
    assert carbon_of(1.0, 'FRA').duration_sec is None and carbon_of(1.0, 'FRA', duration_sec=3).duration_sec == 3


def test_unknown_energy_has_no_carbon():
    s = EnergySummary(**UNKNOWN, unavailable={'cpu_energy': 'too short'})
    for energy in (s, CallEnergy(calls=4, duration_sec=2.0, gpu_joules=None, cpu_joules=None, summary=s)):
        with pytest.raises(ProfilingError, match='too short'): carbon_of(energy, 'DEU')
    with pytest.raises(ProfilingError, match='measure it first'): carbon_of(EnergySummary(**UNKNOWN), 'DEU')


@pytest.mark.parametrize('code, meant', [('DE', 'DEU'), ('se', 'SWE'), ('Germany', 'DEU'), ('germny', 'DEU'), ('GBE', 'GBR'), ('united states', 'USA'), ('WRLD', 'WORLD')])
def test_an_unknown_country_suggests_the_nearest(code, meant):
    with pytest.raises(ConfigError) as e: carbon_of(1.0, code)
    assert meant in e.value.hint and repr(code) in e.value.message


@pytest.mark.parametrize('code', ['', 'ZZZ', 'D3U', 'ÄÖÜ', None, 276, ['DEU'], '\n'])
def test_what_is_no_country_is_refused(code):
    with pytest.raises(ConfigError, match='no grid intensity is known'): carbon_of(1.0, code)


@pytest.mark.parametrize('energy', [-1.0, float('nan'), float('inf'), 'lots', None, object()])
def test_what_is_no_energy_is_refused(energy):
    with pytest.raises(ConfigError, match='joules'): carbon_of(energy, 'DEU')


def test_results_show_units_that_suit_them():
    for joules, mass, energy in ((3.6e9, '381.00 kg', '1000.00 kWh'), (3.6e4, '3.81 g', '10.00 Wh'), (36, '3.81 mg', '36.00 J')):
        text = repr(carbon_of(joules, 'DEU'))
        assert mass in text and energy in text and 'Germany' in text
    foreign = CarbonResult(emissions_kg_co2=1.0, energy_consumed_kwh=2.0, duration_sec=3.0, country_iso_code='ISL')
    assert 'ISL' in repr(foreign) and '<table>' in foreign._repr_html_() and foreign.intensity_g_per_kwh == 500
    nowhere = CarbonResult(emissions_kg_co2=0.0, energy_consumed_kwh=0.0, duration_sec=None)
    assert 'unknown' in repr(nowhere) and nowhere.intensity_g_per_kwh is None


def test_published_keys():
    fields = dict(emissions_kg_co2=1.0, energy_consumed_kwh=2.0, duration_sec=3.0, country_iso_code=None)
    assert CarbonResult(**fields).to_dict() == fields and CarbonResult.from_dict(fields) == CarbonResult(**fields)


def test_plot():
    import matplotlib.pyplot as plt
    figure, axes = plot_grid_intensity()
    assert 'kWh' in axes.get_xlabel() and len(axes.patches) == 15
    own = plt.figure().add_subplot()
    assert plot_grid_intensity(['deu', 'FRA'], own)[1] is own and [t.get_text() for t in own.get_yticklabels()] == ['Germany', 'France']
    with pytest.raises(ConfigError): plot_grid_intensity(['ISL'])


# --- codecarbon ----------------------------------------------------------------------------------------------------------

DATA = dict(emissions=0.001, energy_consumed=0.002, duration=3.0, country_iso_code='DEU', country_name='Germany', region=None)

class StandIn:
    "codecarbon's tracker as far as it is used; `made` are the trackers so far"
    def __init__(self, output_methods=None, **kwargs):
        self.kwargs = {'output_methods': output_methods, **kwargs}
        self.made.append(self)
    def start(self):
        logging.getLogger('codecarbon').warning('Multiple instances of codecarbon are allowed to run at the same time.')
    def stop(self):
        for text in self.says:
            try: raise text if isinstance(text, Exception) else KeyError('none')
            except Exception: logging.getLogger('codecarbon').warning(str(text), exc_info=isinstance(text, Exception))
        if self.data is not None: self.final_emissions_data = SimpleNamespace(**self.data)

class Older:
    "Before 3.3; a wrong keyword is swallowed and logged, and leaves a tracker that does nothing"
    def __init__(self, save_to_file=True, save_to_api=False, **kwargs): self.kwargs = dict(save_to_file=save_to_file, save_to_api=save_to_api, **kwargs); self.made.append(self)
    start, stop = StandIn.start, StandIn.stop

@pytest.fixture
def codecarbon(monkeypatch):
    "A stand-in under codecarbon's name; called, it sets what is found and said"
    made = []
    def answer(*says, data=DATA, knows=None, old=False):
        module = ModuleType('codecarbon')
        module.__version__, module.__path__ = '9.9', []
        for online, name in enumerate(('OfflineEmissionsTracker', 'EmissionsTracker')):
            setattr(module, name, type(name, (Older if old else StandIn,), dict(online=bool(online), made=made, says=says, data=data)))
        monkeypatch.setitem(sys.modules, 'codecarbon', module)
        source = ModuleType('codecarbon.input')
        source.DataSource = lambda: SimpleNamespace(get_global_energy_mix_data=lambda: dict.fromkeys(knows))
        monkeypatch.setitem(sys.modules, 'codecarbon.input', source if knows is not None else None)
        return made
    answer()
    return answer

def test_offline_with_a_country_and_online_without(codecarbon):
    made = codecarbon()
    for country in ('deu', None):
        with CarbonTracker(country) as tracker: pass
        assert tracker.result() == CarbonResult(emissions_kg_co2=0.001, energy_consumed_kwh=0.002, duration_sec=3.0, country_iso_code='DEU', method='codecarbon 9.9')
    assert [t.online for t in made] == [False, True]
    assert made[0].kwargs == dict(country_iso_code='DEU', log_level=logging.WARNING, allow_multiple_runs=True, output_methods=[])
    assert 'country_iso_code' not in made[1].kwargs


def test_older_codecarbons_are_told_in_their_own_words(codecarbon):
    made = codecarbon(old=True)
    with CarbonTracker('DEU') as tracker: pass
    assert tracker.result().energy_consumed_kwh == 0.002
    assert made[0].kwargs == dict(save_to_file=False, save_to_api=False, country_iso_code='DEU', log_level=logging.WARNING, allow_multiple_runs=True)


def test_result_waits_for_the_end(codecarbon):
    tracker = CarbonTracker('DEU')
    with pytest.raises(ProfilingError, match='nothing was measured yet'): tracker.result()
    with tracker:
        with pytest.raises(ProfilingError, match='nothing was measured yet'): tracker.result()
    assert tracker.result().duration_sec == 3
    with tracker:
        with pytest.raises(ProfilingError, match='nothing was measured yet'): tracker.result()


@pytest.mark.parametrize('said', ["Using 'Canada' as the default value - Exception : timeout", 'We do not have data for XXX, using world average.'])
def test_a_grid_that_nobody_named_is_refused(codecarbon, said):
    codecarbon(said)
    with CarbonTracker() as tracker: pass
    with pytest.raises(ProfilingError, match='assumed a grid') as e: tracker.result()
    assert e.value.details == {'energy_consumed_kwh': 0.002, 'duration_sec': 3.0} and 'timeout' not in e.value.message


def test_a_country_that_codecarbon_does_not_know_is_refused_at_the_start(codecarbon):
    made = codecarbon(knows=['DEU'])
    with pytest.raises(ConfigError, match='XXX'), CarbonTracker('XXX'): pytest.fail('must not begin')
    with CarbonTracker('DEU'): pass
    assert len(made) == 1


def test_failures_of_codecarbon_are_errors(codecarbon, monkeypatch):
    codecarbon(OSError('no sensor'), data=None)
    with CarbonTracker('DEU') as tracker: pass
    with pytest.raises(ProfilingError, match='gave no result: OSError: no sensor'): tracker.result()
    codecarbon(data={**DATA, 'energy_consumed': 0.0})
    with CarbonTracker('DEU') as tracker: pass
    with pytest.raises(ProfilingError, match='measured no energy'): tracker.result()
    def broken(*args): raise RuntimeError('broken')
    for step in ('start', 'stop'):
        codecarbon()
        with monkeypatch.context() as m:
            m.setattr(StandIn, step, broken)
            with pytest.raises(ProfilingError, match=f'did not {step}: RuntimeError: broken'), CarbonTracker('DEU'): pass
            if step == 'stop':
                with pytest.raises(ZeroDivisionError), CarbonTracker('DEU'): 1/0
    assert not logging.getLogger('codecarbon').filters


def test_a_block_that_raises_still_raises_and_is_measured(codecarbon):
    tracker = CarbonTracker('DEU')
    with pytest.raises(ZeroDivisionError), tracker: 1/0
    assert tracker.result().duration_sec == 3


def test_the_log_level_is_kept(codecarbon, caplog):
    codecarbon('it is estimated')
    log = logging.getLogger('codecarbon')
    log.addHandler(caplog.handler)
    try:
        with CarbonTracker('DEU'): pass
        with CarbonTracker('DEU', log_level='ERROR'): pass
    finally: log.removeHandler(caplog.handler)
    assert {r.getMessage() for r in caplog.records} == {'it is estimated'}, 'the noise about instances is left out'


def test_wrong_arguments_are_found_without_codecarbon():
    for code in ('Germany', 'DE', 5):
        with pytest.raises(ConfigError, match='no grid intensity is known'): CarbonTracker(code)
    with pytest.raises(ConfigError, match='needs a country'): CarbonTracker('world')
    for level in ('loud', None, 3):
        with pytest.raises(ConfigError, match='no log level'): CarbonTracker('DEU', log_level=level)


def test_without_codecarbon_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, 'codecarbon', None)
    with pytest.raises(ProfilingError, match='not installed') as e, CarbonTracker('DEU'): pass
    assert 'calibrax[carbon]' in e.value.hint


@pytest.mark.skipif(find_spec('codecarbon') is None, reason='codecarbon is an extra')
def test_the_real_codecarbon_writes_nothing_and_stays_at_home(tmp_path):
    code = '''
import json, os, socket, time
asked = []
socket.socket.connect = lambda self, address: asked.append(address)
from calibrax.profiling.carbon import CarbonTracker
with CarbonTracker('DEU', log_level='error') as tracker: time.sleep(0.5)
print(json.dumps([tracker.result().to_dict(), os.listdir('.'), asked]))
'''
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, cwd=tmp_path, timeout=120)
    result, files, asked = json.loads(done.stdout.splitlines()[-1])
    assert result['energy_consumed_kwh'] > 0 and result['country_iso_code'] == 'DEU' and (files, asked) == ([], [])
