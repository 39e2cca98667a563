#!/usr/bin/env bash
# What takes too long for every change: 10,000 cases of each property of policies and encryption, ten minutes of
# fuzzing for each target.
#
#   scripts/nightly.sh             both
#   scripts/nightly.sh properties  the properties only
#   scripts/nightly.sh fuzzing     the fuzzing only
set -uo pipefail
cd "$(dirname "$0")/.." || exit 2
part=${1:-all} failed=0

if [ "$part" != fuzzing ]; then
  # proptest reads the variable; properties that run few cases by default read it as well.
  PROPTEST_CASES=${PROPTEST_CASES:-10000} cargo test --release --locked --no-fail-fast \
    -p smqtt-policy -p smqtt-abe --lib --tests || failed=1
fi
if [ "$part" != properties ]; then
  scripts/fuzz.sh "${SMQTT_FUZZ_SECONDS:-600}" || failed=1
fi
exit "$failed"
