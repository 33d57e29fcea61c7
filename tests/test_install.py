"""What is shipped: the wheel, made from the source distribution, which is made from a copy of the checkout.

Nothing is downloaded. Building needs setuptools (the dev extra brings it), and the whole takes a few seconds."""
import email, os, shutil, subprocess, sys, tarfile, zipfile
from configparser import ConfigParser
from pathlib import Path

import pytest

pytest.importorskip('setuptools', minversion='70.1', reason='building a wheel needs setuptools 70.1 or newer')

ROOT = Path(__file__).parents[1]
ini = ConfigParser(delimiters=['=']); ini.read(ROOT/'settings.ini', encoding='utf-8')
cfg = ini['DEFAULT']
BUILD = 'import sys; from setuptools import build_meta; print(getattr(build_meta, "build_" + sys.argv[1])(sys.argv[2]))'


def build(kind, source, target):
    target.mkdir(exist_ok=True)
    out = subprocess.run([sys.executable, '-c', BUILD, kind, target], cwd=source, capture_output=True, text=True)
    assert out.returncode == 0, out.stderr[-3000:]
    return target/out.stdout.split()[-1]

@pytest.fixture(scope='module')
def built(tmp_path_factory):
    "(source distribution, wheel)"
    folder = tmp_path_factory.mktemp('build')
    rubbish = shutil.ignore_patterns('.*', '__pycache__', '_*s', 'build', 'dist', '*.egg-info', 'benchmark-data')
    shutil.copytree(ROOT, folder/'checkout', ignore=rubbish)
    sdist = build('sdist', folder/'checkout', folder/'dist')
    with tarfile.open(sdist) as archive: archive.extractall(folder/'unpacked', **({'filter': 'data'} if hasattr(tarfile, 'data_filter') else {}))
    unpacked, = (folder/'unpacked').iterdir()
    return sdist, build('wheel', unpacked, folder/'dist')

def names(archive): return zipfile.ZipFile(archive).namelist()


def test_source_distribution_is_complete(built):
    "All that is needed to read, test and build it again"
    with tarfile.open(built[0]) as archive: held = {n.partition('/')[2] for n in archive.getnames()}
    wanted = {'settings.ini', 'setup.py', 'pyproject.toml', 'Makefile', 'README.md', 'LICENSE', 'CHANGELOG.md', '_quarto.yml', 'tests/conftest.py', 'tools/check.sh'}
    wanted |= {p.relative_to(ROOT).as_posix() for p in (ROOT/'nbs').rglob('*.ipynb') if not any(o[0] in '._' for o in p.relative_to(ROOT).parts)}
    assert not wanted - held


def test_wheel_holds_the_package_and_nothing_else(built):
    held = {n for n in names(built[1]) if '.dist-info/' not in n}
    data = {p for p in (ROOT/'calibrax'/'data').glob('*') if p.is_file()} if (ROOT/'calibrax'/'data').exists() else set()
    wanted = {p.relative_to(ROOT).as_posix() for p in {*(ROOT/'calibrax').rglob('*.py'), ROOT/'calibrax'/'py.typed', *data}}
    assert held == wanted


def test_wheel_says_what_settings_say(built):
    with zipfile.ZipFile(built[1]) as wheel:
        info = next(n for n in wheel.namelist() if n.endswith('.dist-info/METADATA'))
        said = email.message_from_bytes(wheel.read(info))
        scripts = wheel.read(info.replace('METADATA', 'entry_points.txt')).decode()
        assert any('LICENSE' in n for n in wheel.namelist())
    needed = [r for r in said.get_all('Requires-Dist') if 'extra ==' not in r]
    assert said['Version'] == cfg['version'] and said['Requires-Python'] == '>=3.11' and 'MIT' in str(said.items())
    assert len(needed) == len(cfg['requirements'].split()) and 'calibrax = calibrax.cli.main:main' in scripts
    assert {'all', 'dev', 'gpu', 'peers', 'remote', 'wandb'} <= set(said.get_all('Provides-Extra'))


def requirements(built, extra):
    with zipfile.ZipFile(built[1]) as wheel: said = email.message_from_bytes(wheel.read(next(n for n in wheel.namelist() if n.endswith('METADATA'))))
    return {r.partition(';')[0].strip() for r in said.get_all('Requires-Dist') if extra in r.partition('extra ==')[2].strip(' "\'').split()}

EXTRAS = ('wandb', 'mlflow', 'pandas', 'gpu', 'remote', 'carbon', 'changepoint', 'text', 'image', 'publication', 'hub', 'dask')

def test_extras_do_not_drag_in_tools_and_rivals(built):
    everything = requirements(built, 'all')
    assert everything == set().union(*(requirements(built, extra) for extra in EXTRAS))
    tools = [r for r in requirements(built, 'dev') if not any(r in requirements(built, extra) for extra in EXTRAS)]
    assert any(r.startswith('nbdev') for r in tools) and any(r.startswith('pytest-xdist') for r in tools)
    assert not everything & (set(tools) | requirements(built, 'peers'))
    assert not any('torch' in r for r in requirements(built, 'dev'))
    assert not any(r.startswith('fastcore') and '<' in r for r in requirements(built, '')), 'fastcore is unbounded above at run time'


def test_installed_wheel_works_away_from_the_checkout(built, tmp_path):
    with zipfile.ZipFile(built[1]) as wheel: wheel.extractall(tmp_path/'site')
    def run(*arguments):
        return subprocess.run([sys.executable, *arguments], cwd=tmp_path, env={**os.environ, 'PYTHONPATH': str(tmp_path/'site')}, capture_output=True, text=True)
    where = run('-c', 'import calibrax; print(calibrax.__file__, calibrax.__version__, calibrax.Run.__name__)')
    assert where.stdout.split() == [str(tmp_path/'site'/'calibrax'/'__init__.py'), cfg['version'], 'Run'], where.stderr
    assert cfg['version'] in run('-m', 'calibrax', '--version').stdout
