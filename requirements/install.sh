#!/bin/sh
# Installs packages into a venv, which is made first if missing. Quiet unless something fails.
#
#   install.sh PYTHON check [VENV ...]                           is this Python fit?
#   install.sh PYTHON VENV STAMP [pip install's arguments ...]
#   install.sh interrupted VENV ...                              say what Ctrl-C left
#
# STAMP is touched at the end. A venv that could not be finished is removed again; so is, by check,
# one of another Python.
set -u

if [ "$1" = interrupted ]; then
    shift
    kept=nothing
    for venv; do [ ! -d "$venv" ] || kept="what was finished"; done
    printf '\ninterrupted; %s was kept\n' "$kept" >&2
    exit
fi
python=$1 venv=$2
shift 2
stamp=.check
if [ "$venv" != check ]; then
    stamp=$1
    shift
fi
log=build/logs/install$(basename "$stamp").log

fail() {
    printf '%s\n' "$1" >&2
    grep -v '^WARNING' "$log" 2>/dev/null | tail -n 15 | cut -c1-300 | sed 's/^/    /' >&2
    [ -n "${made:-}" ] && rm -rf "$venv"
    exit 1
}
# Every command below is a child that gets the terminal's Ctrl-C as well. The Makefile
# says so, once for all that run side by side.
stop() {
    [ -n "${made:-}" ] && rm -rf "$venv"
    exit 130
}
trap stop INT TERM HUP

version_of() {
    "$1" -S -c 'import sys; print("%d.%d.%d" % sys.version_info[:3])' 2>/dev/null
}

mkdir -p build/logs
: >"$log"

version=$(version_of "$python") ||
    fail "'$python' is not a Python interpreter; name one: make PYTHON=python3.11 ..."
case $version in
    3.10.* | 3.11.* | 3.12.*) ;;
    *) fail "'$python' is Python $version, but Covalent needs 3.10, 3.11 or 3.12; name one: make PYTHON=python3.12 ..." ;;
esac
if [ "$venv" = check ]; then
    for venv; do
        [ -d "$venv" ] && [ "$(version_of "$venv/bin/python")" != "$version" ] || continue
        [ -e build/up/state.json ] && fail "$venv has another Python and 'make up' runs on it; 'make down' first"
        rm -rf "$venv"
    done
    exit
fi

if [ "$(version_of "$venv/bin/python")" != "$version" ] || [ ! -e "$venv/bin/pip" ]; then
    made=yes
    printf 'making %s (Python %s; one to three minutes)\n' "$venv" "$version"
    rm -rf "$venv"
    "$python" -m venv "$venv" >"$log" 2>&1 ||
        fail "python -m venv $venv failed (on Debian and Ubuntu: apt-get install python3-venv):"
fi
[ $# -eq 0 ] || "$venv/bin/python" -m pip install --quiet --disable-pip-version-check "$@" >"$log" 2>&1 ||
    fail "pip install $* failed; the end of $log:"
touch "$stamp"
