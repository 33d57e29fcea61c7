"Package metadata: everything is read from `settings.ini`; edit there, not here."
from configparser import ConfigParser
from pathlib import Path

from setuptools import find_packages, setup

here = Path(__file__).parent
ini = ConfigParser(delimiters=['='])
ini.read(here/'settings.ini', encoding='utf-8')
cfg = ini['DEFAULT']

licences = {'apache2': 'Apache-2.0', 'mit': 'MIT', 'bsd3': 'BSD-3-Clause'}
statuses = ['', '1 - Planning', '2 - Pre-Alpha', '3 - Alpha', '4 - Beta', '5 - Production/Stable', '6 - Mature', '7 - Inactive']
pythons = ['3.11', '3.12', '3.13']

raw = cfg['git_url'].replace('github.com', 'raw.githubusercontent.com') + '/' + cfg['branch'] + '/README_files/'   # PyPI wants full links
readme = (here/'README.md').read_text(encoding='utf-8').replace('](README_files/', f']({raw}')

def words(key): return cfg.get(key, '').split()

# every `<name>_requirements` key is an extra; `all` is what a user may want at once, so neither our tools nor our rivals
extras = {k.removesuffix('_requirements'): words(k) for k in cfg if k.endswith('_requirements')}
extras['all'] = sorted({r for k, rs in extras.items() if k not in ('dev', 'peers') for r in rs})

setup(
    name=cfg['lib_name'], version=cfg['version'], description=cfg['description'], keywords=words('keywords'),
    author=cfg['author'], author_email=cfg['author_email'], license=licences[cfg['license']], url=cfg['git_url'],
    project_urls={'Documentation': cfg['doc_host'] + cfg['doc_baseurl'], 'Source': cfg['git_url']},
    long_description=readme, long_description_content_type='text/markdown',
    packages=find_packages(include=[cfg['lib_path'], cfg['lib_path'] + '.*']),
    package_data={cfg['lib_path']: words('package_data')}, include_package_data=True, zip_safe=False,
    python_requires='>=' + cfg['min_python'], install_requires=words('requirements'), extras_require=extras,
    entry_points={'console_scripts': words('console_scripts'), 'nbdev': [f"{cfg['lib_path']}={cfg['lib_path']}._modidx:d"],
                  'pytest11': [f"{cfg['lib_name']} = {cfg['lib_path']}.pytest_plugin"]},
    classifiers=[f"Development Status :: {statuses[int(cfg['status'])]}", f"Intended Audience :: {cfg['audience']}",
                 f"Natural Language :: {cfg['language']}", 'Operating System :: MacOS', 'Operating System :: POSIX :: Linux',
                 'Typing :: Typed', *(f'Programming Language :: Python :: {p}' for p in pythons)])
