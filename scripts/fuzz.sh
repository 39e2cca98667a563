#!/usr/bin/env bash
# Fuzzes the parsers, each target from its corpus in tests/fuzz/corpus.
#
#   scripts/fuzz.sh                    every target for 30 seconds
#   scripts/fuzz.sh SECONDS [TARGET…]  these targets, for so long
#   scripts/fuzz.sh --minimise [TARGET…]
#
# Needs a nightly toolchain and cargo-fuzz (cargo install cargo-fuzz --locked); without them nothing is fuzzed,
# said loudly. As many targets run at a time as there are processors. An input that breaks a target is
# kept in target/fuzz/artifacts. What is new is found below target/fuzz/corpus; --minimise takes from it and from
# the repository's corpus what reaches different code, and puts it into the repository's.
set -uo pipefail
cd "$(dirname "$0")/.." || exit 2

if ! cargo +nightly --version >/dev/null 2>&1 || ! cargo fuzz --version >/dev/null 2>&1; then
  printf '\n!!! SKIPPED: no nightly toolchain, or no cargo-fuzz (cargo install cargo-fuzz --locked): nothing is fuzzed\n\n' >&2
  exit 0
fi

mode=${1:-30}; shift || true
all=$(sed -n 's/^name = "\(.*\)"$/\1/p' tests/fuzz/Cargo.toml | grep -v '^smqtt-fuzz$')
read -ra targets <<<"${*:-$(echo $all)}"
root=$PWD/target/fuzz

# On a new machine the build takes longer than the fuzzing: one that is too slow for CI is no failure of what is fuzzed.
mkdir -p "$root"
(cd tests && timeout "${SMQTT_FUZZ_BUILD_LIMIT:-3600}" cargo +nightly fuzz build --target-dir "$root") >"$root/build.log" 2>&1
case $? in
  0) ;;
  124)
    printf '\n!!! SKIPPED: the fuzz targets were not built within %s s: nothing is fuzzed\n\n' "${SMQTT_FUZZ_BUILD_LIMIT:-3600}" >&2
    exit 0 ;;
  *)
    tail -n 40 "$root/build.log"
    echo "the fuzz targets do not build" >&2
    exit 1 ;;
esac
# Leaks are no danger to memory, and looking for them hangs where a process may not be traced.
export ASAN_OPTIONS=detect_leaks=0
programs=$(echo "$root"/*/release)

one() { # TARGET: fuzzes it, or minimises its corpus
  local target=$1 kept=tests/fuzz/corpus/$1 found=$root/corpus/$1 log=$root/$1.log
  mkdir -p "$found" "$root/artifacts/$target"
  if [ "$mode" = --minimise ]; then
    local fresh; fresh=$(mktemp -d)
    "$programs/$target" -merge=1 "$fresh" "$kept" "$found" >"$log" 2>&1 || { tail -n 20 "$log"; return 1; }
    rm -f "$kept"/*; cp "$fresh"/* "$kept"/; rm -rf "$fresh"
    echo "$target: $(find "$kept" -type f | wc -l) inputs, $(du -sh --apparent-size "$kept" | cut -f1)"
    return
  fi
  # New inputs go to the first directory, the others are read only.
  if "$programs/$target" "$found" "$kept" -max_total_time="$mode" -timeout=60 -print_final_stats=1 \
      -artifact_prefix="$root/artifacts/$target/" >"$log" 2>&1; then
    echo "$target: $(sed -n 's/^stat::number_of_executed_units: *//p' "$log") inputs in $mode s, nothing found"
  else
    tail -n 40 "$log"
    echo "$target: FAILED, the input is in $root/artifacts/$target"
    return 1
  fi
}

failed=0
while [ "${#targets[@]}" -gt 0 ]; do
  running=()
  for target in "${targets[@]:0:$(nproc)}"; do one "$target" & running+=($!); done
  for pid in "${running[@]}"; do wait "$pid" || failed=1; done
  targets=("${targets[@]:$(nproc)}")
done
exit "$failed"
