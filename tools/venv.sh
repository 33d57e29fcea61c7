#!/usr/bin/env bash
# Make or refresh a virtual environment that holds this package:  tools/venv.sh FOLDER [EXTRA]
#
# PYTHON=... names the interpreter. Without it, an environment that works is kept, and a new one is made with python3, or
# with the first of python3.13, python3.12 and python3.11 that runs where python3 is too old.
# Two kinds of file in FOLDER say what has been done: `.calibrax-place` (interpreter and folder; scripts of an environment
# hold its path, so a checkout that was moved needs a new one) and, written last, `.calibrax-<extra>` (the same, and the
# settings installed from). Where they are as wanted there is nothing to do; an interrupted installation left none.
set -euo pipefail
cd "$(dirname "$0")/.."
folder=${1:?usage: tools/venv.sh FOLDER [EXTRA]} extra=${2:-base}

say() { printf '==> %s\n' "$*"; }
stop() { printf 'calibrax: %s\n' "$*" >&2; exit 2; }
version() { "$1" -c 'import sys; print(".".join(map(str, sys.version_info[:3])))' 2>/dev/null; }
new_enough() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; }
# the same for an interpreter and for the environments made of it
place() { "$1" -c 'import os, sys; print(os.path.realpath(sys.base_prefix), *sys.version_info[:2])' 2>/dev/null; pwd -P; }

if [ -n "${PYTHON:-}" ]; then
    python=$PYTHON
    version "$python" >/dev/null || stop "PYTHON=$python does not run; name an interpreter of Python 3.11 or newer"
    new_enough "$python" || stop "PYTHON=$python is Python $(version "$python"), and calibrax needs 3.11 or newer"
else
    for python in "$folder/bin/python" python3 python3.13 python3.12 python3.11 none; do
        if new_enough "$python"; then break; fi
    done
    [ "$python" != none ] || stop "no Python 3.11 or newer found (python3 is ${found:=$(version python3 || echo missing)});" \
                                  "install one, or name it: make PYTHON=/path/to/python3.12 ..."
fi

here=$(place "$python")
wanted=$(printf '%s\n' "$here"; cat settings.ini setup.py pyproject.toml | cksum)
is() { [ "$(cat "$1" 2>/dev/null)" = "$2" ]; }      # does the file hold just this?
ready() { say "$folder is ready (Python $(version "$folder/bin/python"))"; exit 0; }

if is "$folder/.calibrax-place" "$here" && new_enough "$folder/bin/python"; then
    if is "$folder/.calibrax-$extra" "$wanted"; then ready; fi
    if [ "$extra" = base ] && is "$folder/.calibrax-dev" "$wanted"; then ready; fi      # dev holds all that base does
else
    say "making $folder with Python $(version "$python")"
    base=$("$python" -c 'import sys; print(getattr(sys, "_base_executable", None) or sys.executable)')
    "$base" -m venv --clear "$folder" ||
        stop "could not make $folder; on Debian and Ubuntu venv is a package of its own: sudo apt install python3-venv"
    printf '%s\n' "$here" > "$folder/.calibrax-place"
fi

case $extra in base) what=. words='' ;; *) what=".[$extra]" words=" with the extra '$extra'" ;; esac
say "installing calibrax$words; the first time this downloads for a minute or two"
began=$SECONDS
PIP_DISABLE_PIP_VERSION_CHECK=1 "$folder/bin/python" -m pip install --no-input --progress-bar off -e "$what" |
    { grep --line-buffered -v -e '^Requirement already satisfied' -e '^Obtaining' || true; }
printf '%s\n' "$wanted" > "$folder/.calibrax-$extra"
say "installed in $((SECONDS - began)) s"
ready
