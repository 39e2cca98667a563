#!/usr/bin/env bash
# Checks the architecture's laws (docs/architecture.md) on the workspace that it is given.
#
#   scripts/check-laws.sh [WORKSPACE_DIR]     default: the workspace that holds this script
#
# 1. Arrows point down: a crate depends only on crates of lower floors.
# 2. Floors 0-2 are sans-I/O: no runtime or socket crate is linked, and their code reads no clock,
#    opens no socket and draws no ambient randomness.
# 3. The broker cannot decrypt: nothing that it links, in any kind of build, is ABE or the envelope's cipher.
# 4. Unsafe code lives in smqtt-abe's one curve module.
# 5. Every third-party crate that the workspace names is accounted for in docs/dependencies.md.
#
# Prints every breach with what to do about it. Exit code: 0 all kept, 1 some broken, 2 could not check.
set -uo pipefail

root=$(cd "${1:-$(dirname "$0")/..}" && pwd) || exit 2
cd "$root" || exit 2

declare -A floor=(
  [smqtt-policy]=0 [smqtt-proto]=0 [smqtt-format]=0
  [smqtt-abe]=1 [smqtt-pki]=1
  [smqtt-envelope]=2
  [smqtt-client]=3 [smqtt-broker]=3 [smqtt-authority]=3
  [smqtt-cli]=4
)
# Crates that bring sockets, timers or a runtime. None may be under floors 0-2.
runtimes='^(tokio|tokio-rustls|async-std|smol|mio|socket2|hyper|reqwest|ureq)$'
# Calls that read a clock, open a socket or draw randomness that a test could not repeat.
ambient='Instant::now|SystemTime::now|UnixTime::now|std::net|TcpStream|UdpSocket|OsRng|SysRng|thread_rng|rand::rng\(|rand::random|getrandom'

breaches=0
breach() { printf 'law broken: %s\n' "$*"; breaches=$((breaches + 1)); }

# tree PACKAGE EDGES [MORE...]: the names of what PACKAGE depends on, one a line, without itself.
tree() {
  local package=$1 edges=$2; shift 2
  local out
  if ! out=$(cargo tree --offline -q -p "$package" --edges "$edges" --prefix none --format '{p}' "$@" 2>/dev/null) \
    && ! out=$(cargo tree -q -p "$package" --edges "$edges" --prefix none --format '{p}' "$@"); then
    echo "check-laws: cargo tree failed for $package" >&2; exit 2
  fi
  awk -v self="$package" '$1 != self && $1 != "" { print $1 }' <<<"$out" | sort -u
}

for manifest in crates/*/Cargo.toml; do
  crate=$(basename "$(dirname "$manifest")")
  [ -n "${floor[$crate]:-}" ] || { breach "$crate stands on no floor: add it to $(basename "$0") and to docs/architecture.md"; continue; }

  direct=$(tree "$crate" normal,build --depth 1) || exit 2
  while read -r dep; do
    [ -n "$dep" ] && [ -n "${floor[$dep]:-}" ] || continue
    if [ "${floor[$dep]}" -ge "${floor[$crate]}" ]; then
      breach "$crate (floor ${floor[$crate]}) depends on $dep (floor ${floor[$dep]}): arrows point down only"
    fi
  done <<<"$direct"

  if [ "${floor[$crate]}" -le 2 ]; then
    linked=$(tree "$crate" normal) || exit 2
    while read -r dep; do
      [ -n "$dep" ] && breach "$crate (floor ${floor[$crate]}) links $dep: floors 0-2 do no I/O"
    done < <(grep -E "$runtimes" <<<"$linked")

    while read -r hit; do
      [ -n "$hit" ] && breach "$hit: floors 0-2 are handed their clock and randomness"
    done < <(find "crates/$crate/src" -name '*.rs' -print0 | sort -z | xargs -0 awk -v pattern="$ambient" '
        FNR == 1 { tests = 0 }
        /^#\[cfg\(test\)\]/ { tests = 1 }
        !tests && $0 !~ /^[ \t]*\/\// && $0 ~ pattern { printf "%s:%d: %s\n", FILENAME, FNR, $0 }')
  fi

  index=crates/$crate/src/lib.rs; [ -f "$index" ] || index=crates/$crate/src/main.rs
  if [ "$crate" != smqtt-abe ] && ! grep -q '^#!\[forbid(unsafe_code)\]' "$index"; then
    breach "$index lacks #![forbid(unsafe_code)]"
  fi
done

# Every edge counts here, those of tests too: what is never linked can never be called.
linked=$(tree smqtt-broker all) || exit 2
while read -r dep; do
  [ -n "$dep" ] && breach "smqtt-broker links $dep: the broker must hold nothing that could decrypt"
done < <(grep -E '^(smqtt-abe|smqtt-envelope|blst|rabe)$' <<<"$linked")

unsafe_files=$(grep -rlE '\bunsafe\b[^_]' --include='*.rs' crates/*/src | grep -v '^crates/smqtt-abe/src/curve' || true)
while read -r file; do
  [ -n "$file" ] || continue
  # The word in a comment or in an attribute is no unsafe code.
  if grep -vE '^[ \t]*//|unsafe_code' "$file" | grep -qE '\bunsafe[ \t]*(\{|fn|impl|extern|trait)'; then
    breach "$file has unsafe code: only smqtt-abe's curve module may"
  fi
done <<<"$unsafe_files"

if [ -f docs/dependencies.md ]; then
  while read -r name; do
    grep -qE "^\| \`$name\`" docs/dependencies.md || breach "docs/dependencies.md does not say what \`$name\` is for"
  done < <(awk '/^\[workspace.dependencies\]/ { on = 1; next } /^\[/ { on = 0 } on && /^[a-z0-9_-]+ *=/ { print $1 }' Cargo.toml | grep -v '^smqtt-')
else
  breach "docs/dependencies.md is missing"
fi

if [ "$breaches" -gt 0 ]; then
  echo "$breaches broken; see docs/architecture.md" >&2
  exit 1
fi
echo "architecture: all laws kept"
