#!/bin/sh
# check-python.sh PYTHON: can the sandbox run on it? Works for what is no Python, too.
version=$("$1" -S -c 'import sys; print("%d.%d.%d" % sys.version_info[:3])' 2>/dev/null)
case $version in
    3.10.* | 3.11.* | 3.12.* | 3.13.*) exit ;;
    '') problem="'$1' is not a Python interpreter" ;;
    *) problem="'$1' is Python $version, but Covalent needs 3.10, 3.11, 3.12 or 3.13" ;;
esac
echo "$problem; name one: make PYTHON=python3.12 ..." >&2
exit 1
