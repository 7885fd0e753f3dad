#!/bin/sh
# Installs packages into a venv, which is made first if missing. Quiet unless something fails.
#
#   install.sh PYTHON check                                      is this Python fit?
#   install.sh PYTHON VENV STAMP [pip install's arguments ...]
#
# STAMP is touched at the end. A venv that could not be finished is removed again.
set -u

python=$1 venv=$2 stamp=${3:-.check}
shift $(($# < 3 ? $# : 3))
log=build/logs/install$(basename "$stamp").log

fail() {
    printf '%s\n' "$1" >&2
    grep -v '^WARNING' "$log" 2>/dev/null | tail -n 15 | sed 's/^/    /' >&2
    [ -n "${made:-}" ] && rm -rf "$venv"
    exit 1
}
# Every command below is a child that gets the terminal's Ctrl-C as well.
trap 'fail "interrupted"' INT TERM HUP

mkdir -p build/logs
: >"$log"

version=$("$python" -c 'import platform; print(platform.python_version())' 2>/dev/null) ||
    fail "'$python' is not a Python interpreter; name one: make PYTHON=python3.11 ..."
case $version in
    3.10.* | 3.11.* | 3.12.*) ;;
    *) fail "'$python' is Python $version, but Covalent needs 3.10, 3.11 or 3.12; name one: make PYTHON=python3.12 ..." ;;
esac
[ "$venv" = check ] && exit

if [ "$("$venv/bin/python" -c 'import platform; print(platform.python_version())' 2>/dev/null)" != "$version" ]; then
    made=yes
    printf 'making %s (Python %s; about a minute)\n' "$venv" "$version"
    rm -rf "$venv"
    "$python" -m venv "$venv" >"$log" 2>&1 ||
        fail "python -m venv $venv failed (on Debian and Ubuntu: apt-get install python3-venv):"
fi
[ $# -eq 0 ] || "$venv/bin/python" -m pip install --quiet --disable-pip-version-check "$@" >"$log" 2>&1 ||
    fail "pip install $* failed; the end of $log:"
touch "$stamp"
