#!/bin/sh
# Prints a Python 3.10 that can make environments, for `make test-relay`: the one that is given; if none is,
# python3.10 on PATH (pyenv puts one there also when it does not run) or one of pyenv's. Fails if there is none.
[ $# -gt 0 ] || set -- python3.10 "${PYENV_ROOT:-$HOME/.pyenv}"/versions/3.10.*/bin/python
for python in "$@"; do
  if "$python" -c 'import ensurepip, venv, sys; sys.exit(sys.version_info[:2] != (3, 10))' 2>/dev/null; then
    echo "$python"
    exit
  fi
done
exit 1
