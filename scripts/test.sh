#!/usr/bin/env bash
# Passes the tests: installs what they need, runs them all, ends with one line that counts them.
#
#   scripts/test.sh            everything
#   scripts/test.sh PATTERN    only the tests whose names contain PATTERN
#
# Needs a Rust toolchain and a C compiler. mosquitto, its clients, openssl, curl, PostgreSQL, valgrind, zsh and fish come from
# Debian's packages, paho-mqtt, prometheus-client, schemathesis and py_ecc from PyPI into target/test-venv, MQTT.js from npm into
# target/test-node if there is node. Where there is no package manager, the tests that need them are skipped: said loudly, and
# counted as skipped.
set -uo pipefail
cd "$(dirname "$0")/.." || exit 2
pattern=${1:-}

loud() { printf '\n!!! %s\n\n' "$*" >&2; }

# ---------------------------------------------------------------- third-party clients

as_root() { if [ "$(id -u)" -eq 0 ]; then "$@"; else sudo -n "$@"; fi; }
have_mosquitto() { command -v mosquitto >/dev/null && command -v mosquitto_pub >/dev/null && command -v mosquitto_sub >/dev/null; }
PATH=$PATH:/usr/sbin # where Debian puts mosquitto
export PATH

have() { command -v "$1" >/dev/null; }
debian() { # PACKAGE...: installs them where there is a package manager
  have apt-get || return 0
  echo "installing $*"
  as_root env DEBIAN_FRONTEND=noninteractive sh -c \
    'apt-get update -qq && apt-get install -y -qq --no-install-recommends "$@"' sh "$@" >/dev/null || true
}

have_mosquitto || debian mosquitto mosquitto-clients

venv=target/test-venv
if [ ! -x "$venv/bin/python" ] || ! "$venv/bin/python" -c 'import paho.mqtt.client' 2>/dev/null; then
  if command -v python3 >/dev/null; then
    echo "installing paho-mqtt into $venv"
    mkdir -p target
    { python3 -m venv "$venv" && "$venv/bin/python" -m pip install -q --disable-pip-version-check 'paho-mqtt>=2.1,<3'; } || true
  fi
fi

# Tests that need a third-party program live under a module of that program's name, so that they can be left out.
skip=()
if ! have_mosquitto; then
  loud "SKIPPED: mosquitto, mosquitto_pub and mosquitto_sub are not installed: every test with 'with_mosquitto' in its name is left out"
  skip+=(with_mosquitto)
fi
if "$venv/bin/python" -c 'import paho.mqtt.client' 2>/dev/null; then
  SMQTT_TEST_PYTHON=$PWD/$venv/bin/python; export SMQTT_TEST_PYTHON
else
  loud "SKIPPED: paho-mqtt is not installed: every test with 'with_paho' in its name is left out"
  skip+=(with_paho)
fi

if [ -x "$venv/bin/python" ] && [ ! -x "$venv/bin/schemathesis" ]; then
  echo "installing schemathesis into $venv"
  "$venv/bin/python" -m pip install -q --disable-pip-version-check 'schemathesis>=4.32,<5' || true
fi
if ! [ -x "$venv/bin/schemathesis" ]; then
  loud "SKIPPED: schemathesis is not installed: every test with 'with_schemathesis' in its name is left out"
  skip+=(with_schemathesis)
fi

if [ -x "$venv/bin/python" ] && ! "$venv/bin/python" -c 'import prometheus_client.openmetrics.parser' 2>/dev/null; then
  echo "installing prometheus-client into $venv"
  "$venv/bin/python" -m pip install -q --disable-pip-version-check 'prometheus-client>=0.22,<1' || true
fi
if ! "$venv/bin/python" -c 'import prometheus_client.openmetrics.parser' 2>/dev/null; then
  loud "SKIPPED: prometheus-client is not installed: every test with 'with_prometheus' in its name is left out"
  skip+=(with_prometheus)
fi

node=target/test-node
if [ ! -d "$node/node_modules/mqtt" ] && command -v npm >/dev/null; then
  echo "installing MQTT.js into $node"
  mkdir -p "$node"
  npm install --prefix "$node" --silent --no-audit --no-fund --no-package-lock 'mqtt@^5' >/dev/null || true
fi
if command -v node >/dev/null && [ -d "$node/node_modules/mqtt" ]; then
  SMQTT_TEST_NODE=$PWD/$node; export SMQTT_TEST_NODE
else
  loud "SKIPPED: node or MQTT.js is not installed: every test with 'with_mqttjs' in its name is left out"
  skip+=(with_mqttjs)
fi

for tool in openssl curl zsh fish; do
  have "$tool" || debian "$tool"
  if ! have "$tool"; then
    loud "SKIPPED: $tool is not installed: every test with 'with_$tool' in its name is left out"
    skip+=("with_$tool")
  fi
done
have valgrind || debian valgrind
have strace || debian strace
if ! strace -f -o /dev/null true 2>/dev/null; then
  loud "SKIPPED: strace is not installed, or may not look at processes: every test with 'with_strace' in its name is left out"
  skip+=(with_strace)
fi
small=$(mktemp -d)
if mount -t tmpfs -o size=1m tmpfs "$small" 2>/dev/null; then umount "$small"
else
  loud "SKIPPED: no file systems can be mounted here: every test with 'with_mount' in its name is left out"
  skip+=(with_mount)
fi
rmdir "$small"

# Debian puts the server's programs beside the path. It refuses to run as root: then it runs as the package's user.
have_postgres() { have setpriv && { have initdb || ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1; }; }
have_postgres || debian postgresql util-linux
if ! have_postgres; then
  loud "SKIPPED: PostgreSQL is not installed: every test with 'with_postgres' in its name is left out"
  skip+=(with_postgres)
fi

if [ -x "$venv/bin/python" ] && ! "$venv/bin/python" -c 'import py_ecc, cbor2' 2>/dev/null; then
  echo "installing py_ecc into $venv"
  "$venv/bin/python" -m pip install -q --disable-pip-version-check py_ecc==8.0.0 cbor2 || true
fi

# ---------------------------------------------------------------- run

export SMQTT_TEST_SH=1 # a missing third-party program is then an error of this script, not a reason to pass
cargo test --workspace --no-run --locked || exit 1
target=$(cargo metadata --format-version 1 --no-deps | sed -n 's/.*"target_directory":"\([^"]*\)".*/\1/p')
SMQTT_BIN_DIR=$target/debug; export SMQTT_BIN_DIR

log=$(mktemp); trap 'rm -f "$log"' EXIT
failed_runs=0

if cargo nextest --version >/dev/null 2>&1; then
  filter='all()'
  for name in ${skip[@]+"${skip[@]}"}; do filter="$filter - test($name)"; done
  [ -n "$pattern" ] && filter="($filter) & test($pattern)"
  cargo nextest run --workspace --locked --no-fail-fast --no-tests pass -E "$filter" 2>&1 | tee -a "$log"
  [ "${PIPESTATUS[0]}" -eq 0 ] || failed_runs=$((failed_runs + 1))
else
  args=()
  for name in ${skip[@]+"${skip[@]}"}; do args+=(--skip "$name"); done
  cargo test --workspace --locked --no-fail-fast --lib --bins --tests -- ${pattern:+"$pattern"} ${args[@]+"${args[@]}"} 2>&1 | tee -a "$log"
  [ "${PIPESTATUS[0]}" -eq 0 ] || failed_runs=$((failed_runs + 1))
fi
# Doctests are programs that a reader copies: they have to run.
cargo test --workspace --locked --no-fail-fast --doc -- ${pattern:+"$pattern"} 2>&1 | tee -a "$log"
[ "${PIPESTATUS[0]}" -eq 0 ] || failed_runs=$((failed_runs + 1))

# ---------------------------------------------------------------- other judges of the encryption

# Counts as one test, in the form of the runners' closing lines.
judge() { # NAME COMMAND...
  local name=$1; shift
  [ -z "$pattern" ] || [[ $name == *$pattern* ]] || return 0
  echo "$name"
  if "$@"; then echo 'test result: ok. 1 passed; 0 failed' >>"$log"
  else echo "FAILED: $name"; echo 'test result: FAILED. 0 passed; 1 failed' >>"$log"; failed_runs=$((failed_runs + 1)); fi
}
leave_out() { loud "SKIPPED: $1: $2"; echo 'test result: ok. 0 passed; 0 failed; 1 ignored' >>"$log"; }

if "$venv/bin/python" -c 'import py_ecc, cbor2' 2>/dev/null; then
  judge second_decoder_agrees "$venv/bin/python" tests/vectors/abe/decode.py
else
  leave_out "py_ecc is not installed" "the second decoder did not check the known answers"
fi
if command -v valgrind >/dev/null && [ "$(uname -m)" = x86_64 ]; then
  # Optimised as releases are, but for the last tenth: with the profile of what counts instructions, which is built already.
  judge constant_time_under_valgrind cargo test -q --profile bench --locked -p smqtt-abe --lib constant_time
else
  leave_out "valgrind is not installed" "nobody looked for branches and addresses that depend on secrets"
fi

# ---------------------------------------------------------------- one line for all runners

count() { # WORD: the sum of 'N WORD' over the runners' closing lines
  sed 's/\x1b\[[0-9;]*m//g' "$log" \
    | grep -E '^ *Summary \[|^test result:' \
    | grep -oE "[0-9]+ $1" | awk '{ sum += $1 } END { print sum + 0 }'
}
passed=$(count passed) failed=$(count failed) skipped=$(($(count skipped) + $(count ignored)))
# cargo test calls what --skip left out "filtered out"; with a PATTERN that would count all the rest, too.
[ -n "$pattern" ] || skipped=$((skipped + $(count 'filtered out')))
[ "${#skip[@]}" -eq 0 ] || loud "left out for want of third-party programs: ${skip[*]}"
printf '\n%d passed, %d failed, %d skipped\n' "$passed" "$failed" "$skipped"
[ "$failed_runs" -eq 0 ] && [ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
