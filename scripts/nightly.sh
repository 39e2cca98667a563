#!/usr/bin/env bash
# What takes too long for every change: 10,000 cases of each property of policies and encryption, 1,000 kills of a broker
# under load, 200 of an authority and 200 of a renewing device, a fleet of a thousand devices, ten minutes of fuzzing for each target.
#
#   scripts/nightly.sh             all of it
#   scripts/nightly.sh properties  the properties only
#   scripts/nightly.sh crashes     the programs that are killed again and again only
#   scripts/nightly.sh fuzzing     the fuzzing only
set -uo pipefail
cd "$(dirname "$0")/.." || exit 2
part=${1:-all} failed=0

if [ "$part" = all ] || [ "$part" = properties ]; then
  # proptest reads the variable; properties that run few cases by default read it as well.
  PROPTEST_CASES=${PROPTEST_CASES:-10000} cargo test --release --locked --no-fail-fast \
    -p smqtt-policy -p smqtt-abe --lib --tests || failed=1
fi
if [ "$part" = all ] || [ "$part" = crashes ]; then
  SMQTT_CRASH_ROUNDS=${SMQTT_CRASH_ROUNDS:-1000} cargo test --release --locked -p smqtt-broker --test crash -- --nocapture || failed=1
  export SMQTT_KILL_ROUNDS=${SMQTT_KILL_ROUNDS:-200}
  cargo test --release --locked -p smqtt-authority --test kill --test root -- --nocapture || failed=1
  cargo build --release --locked -p smqtt-authority -p smqtt-broker -p smqtt-cli && SMQTT_BIN_DIR=target/release \
    SMQTT_LIFE_ENROLLED=998 \
    cargo test --release --locked -p smqtt-tests --test killed_renewal --test life -- --nocapture || failed=1
fi
if [ "$part" = all ] || [ "$part" = fuzzing ]; then
  scripts/fuzz.sh "${SMQTT_FUZZ_SECONDS:-600}" || failed=1
fi
exit "$failed"
