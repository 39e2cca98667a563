#!/usr/bin/env bash
# First light: enrols four devices, starts a key authority and a broker, publishes 7,267 real temperature
# readings under a policy, and counts who could read them.
#
#   scripts/quickstart.sh            build, run, clean up
#   scripts/quickstart.sh --keep     leave the services up and print commands to try by hand
#
# Needs a Rust toolchain and a C compiler, nothing else. Everything it makes is under keys/quickstart/.
# SMQTT_BIN_DIR=DIR takes the programs from DIR instead of building them.
# Exit code 0 only if every number is right.
set -euo pipefail

root=$(cd "$(dirname "$0")/.." && pwd)
dir=$root/keys/quickstart
data=$root/tests/data/ambient_temperature_system_failure.csv
policy='(role = technician and site = berlin) or role = auditor'
topic=building/7/temperature
readers=(technician auditor visitor)
declare -A attributes=(
  [sensor]='type = thermometer'
  [technician]='role = technician, site = berlin'
  [auditor]='role = auditor'
  [visitor]='role = visitor, site = berlin'
)
keep=no

usage() { sed -n '2,11s/^# \{0,1\}//p' "$0"; }
for arg in "$@"; do
  case $arg in
    --keep) keep=yes ;;
    -h|--help) usage; exit 0 ;;
    *) echo "quickstart: unknown argument '$arg'; see --help" >&2; exit 2 ;;
  esac
done

# What is kept stays up when the terminal closes.
if [ "$keep" = yes ]; then trap '' HUP; fi

# ---------------------------------------------------------------- what is shown

if [ -t 1 ]; then bold=$'\e[1m' dim=$'\e[2m' green=$'\e[32m' red=$'\e[31m' off=$'\e[0m'; live=yes
else bold='' dim='' green='' red='' off='' live=no; fi
step() { printf '%s▸ %s%s\n' "$bold" "$*" "$off"; }
note() { printf '  %s%s%s\n' "$dim" "$*" "$off"; }
die() { printf '%squickstart: %s%s\n' "$red" "$*" "$off" >&2; exit 1; }

# ---------------------------------------------------------------- what is stopped again

pids=()
stop_services() {
  local pid
  for pid in "${pids[@]:-}"; do [ -n "$pid" ] && kill "$pid" 2>/dev/null || true; done
  for pid in "${pids[@]:-}"; do [ -n "$pid" ] && wait "$pid" 2>/dev/null || true; done
}
on_exit() {
  local code=$?
  trap - EXIT INT TERM
  # What went wrong is in the logs: show their ends rather than make somebody look for them.
  if [ "$code" -ne 0 ] && [ -d "$dir/log" ]; then
    for log in "$dir"/log/*.log; do
      grep -qiE '^error|warn|error:|panicked' "$log" 2>/dev/null \
        && { printf '%s--- %s%s\n' "$dim" "${log#"$root"/}" "$off" >&2; tail -n 5 "$log" >&2; }
    done
    printf 'quickstart: all logs are in %s\n' "${dir#"$root"/}/log" >&2
  fi
  [ "$keep" = yes ] && [ "$code" -eq 0 ] || stop_services
  exit "$code"
}
trap on_exit EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# wait_for_line FILE PATTERN PID WHAT: the first line of FILE that matches, once it is there.
wait_for_line() {
  local file=$1 pattern=$2 pid=$3 what=$4 tries=0
  until grep -m1 -E "$pattern" "$file" 2>/dev/null; do
    kill -0 "$pid" 2>/dev/null || die "$what stopped before it was ready; see ${file#"$root"/}"
    tries=$((tries + 1)); [ "$tries" -lt 300 ] || die "$what was not ready within 30 s; see ${file#"$root"/}"
    sleep 0.1
  done
}

lines() { if [ -f "$1" ]; then wc -l <"$1" | tr -d ' '; else echo 0; fi; }

# ---------------------------------------------------------------- build

if [ -n "${SMQTT_BIN_DIR:-}" ]; then
  bin=$SMQTT_BIN_DIR
else
  step "Building (the first time takes some minutes)"
  for tool in cargo cc; do
    command -v "$tool" >/dev/null || die "'$tool' is not installed; install a Rust toolchain (https://rustup.rs) and a C compiler"
  done
  (cd "$root" && cargo build --release --locked -p smqtt-cli -p smqtt-broker -p smqtt-authority)
  bin=$(cd "$root" && cargo metadata --format-version 1 --no-deps | sed -n 's/.*"target_directory":"\([^"]*\)".*/\1/p')/release
fi
for program in smqtt smqtt-broker smqtt-authority; do
  [ -x "$bin/$program" ] || die "$bin/$program is missing"
done
started=$SECONDS

# ---------------------------------------------------------------- an earlier run's services and keys

if [ -f "$dir/pids" ]; then
  while read -r pid name; do
    # A process id may have gone to another program since: stop it only if it still is ours.
    case $(ps -o args= -p "$pid" 2>/dev/null || { tr '\0' ' ' <"/proc/$pid/cmdline"; } 2>/dev/null || true) in
      *"$name"*"$dir"*) kill "$pid" 2>/dev/null || true ;;
    esac
  done <"$dir/pids"
fi
rm -rf "$dir"
mkdir -p "$dir/log"
chmod 700 "$dir"

# ---------------------------------------------------------------- setup: authority, broker, devices

step "Setup: a key authority, a broker that holds no key, four devices"
"$bin/smqtt-authority" init --dir "$dir/authority" --name "SMQTT quickstart" --unsealed >"$dir/log/init.log" 2>&1 \
  || die "smqtt-authority init failed; see keys/quickstart/log/init.log"
fingerprint=$("$bin/smqtt-authority" fingerprint --dir "$dir/authority")
"$bin/smqtt-authority" broker issue --dir "$dir/authority" --host 127.0.0.1 --host localhost --out "$dir/broker" \
  >"$dir/log/broker-issue.log" 2>&1 || die "no certificate for the broker; see keys/quickstart/log/broker-issue.log"

capture=$dir/broker-capture.bin
"$bin/smqtt-broker" --listen mqtts://127.0.0.1:0 --tls-cert "$dir/broker/server.crt" --tls-key "$dir/broker/server.key" \
  --tls-client-ca "$dir/broker/ca.crt" --data-dir "$dir/broker/data" --capture "$capture" >"$dir/log/broker.log" 2>&1 &
broker_pid=$!; pids+=("$broker_pid"); echo "$broker_pid smqtt-broker" >>"$dir/pids"
broker=$(wait_for_line "$dir/log/broker.log" 'listening on mqtts://' "$broker_pid" "the broker" | grep -oE 'mqtts://[0-9.:]+')

"$bin/smqtt-authority" serve --dir "$dir/authority" --listen 127.0.0.1:0 --broker "$broker" >"$dir/log/authority.log" 2>&1 &
authority_pid=$!; pids+=("$authority_pid"); echo "$authority_pid smqtt-authority" >>"$dir/pids"
authority=$(wait_for_line "$dir/log/authority.log" 'listening on https://' "$authority_pid" "the authority" | grep -oE 'https://[0-9.:]+')
note "authority  $authority  CA $fingerprint"
note "broker     $broker"

enrol() { # NAME
  local token
  token=$("$bin/smqtt-authority" device add "$1" --dir "$dir/authority" --attributes "${attributes[$1]}" 2>"$dir/log/add-$1.log") \
    || die "device $1 was not registered; see keys/quickstart/log/add-$1.log"
  "$bin/smqtt" enroll --authority "$authority" --ca-fingerprint "$fingerprint" --token "$token" --out "$dir/$1" \
    >"$dir/log/enroll-$1.log" 2>&1 || die "device $1 was not enrolled; see keys/quickstart/log/enroll-$1.log"
  note "$(printf '%-11s %s' "$1" "${attributes[$1]}")"
}
for device in sensor "${readers[@]}"; do enrol "$device"; done

# ---------------------------------------------------------------- publish and read

readings=$dir/readings.csv
tail -n +2 "$data" | tr -d '\r' >"$readings"
total=$(lines "$readings")

declare -A reader_pid
for reader in "${readers[@]}"; do
  "$bin/smqtt" sub -i "$dir/$reader" -t "$topic" >"$dir/$reader.out" 2>"$dir/log/$reader.log" &
  reader_pid[$reader]=$!; pids+=("$!")
done
"$bin/smqtt" sub -i "$dir/visitor" -t "$topic" --raw -C 1 >"$dir/raw.bin" 2>"$dir/log/raw.log" &
raw_pid=$!; pids+=("$raw_pid")
for reader in "${readers[@]}"; do
  wait_for_line "$dir/log/$reader.log" 'subscribed to' "${reader_pid[$reader]}" "reader $reader" >/dev/null
done
wait_for_line "$dir/log/raw.log" 'subscribed to' "$raw_pid" "the raw subscriber" >/dev/null

step "Publish: $total readings to $topic, readable by"
note "$policy"
publishing=$SECONDS
"$bin/smqtt" pub -i "$dir/sensor" -t "$topic" -p "$policy" -l <"$readings" >"$dir/log/sensor.log" 2>&1 &
sensor_pid=$!; pids+=("$sensor_pid")

table() {
  local reader
  printf '  %-12s %-34s %9s\n' device attributes 'can read'
  for reader in "${readers[@]}"; do
    printf '  %-12s %-34s %9s\n' "$reader" "${attributes[$reader]}" "$(lines "$dir/$reader.out")"
  done
}
table_again() { printf '\e[%dA' $((1 + ${#readers[@]})); table; }
finished() {
  ! kill -0 "$sensor_pid" 2>/dev/null \
    && [ "$(lines "$dir/technician.out")" -ge "$total" ] && [ "$(lines "$dir/auditor.out")" -ge "$total" ]
}
deadline=$((SECONDS + 60))
[ "$live" = yes ] && table
until finished; do
  [ "$SECONDS" -lt "$deadline" ] || break
  kill -0 "$broker_pid" 2>/dev/null || die "the broker stopped; see keys/quickstart/log/broker.log"
  sleep 0.2
  if [ "$live" = yes ]; then table_again; fi
done
wait "$sensor_pid" || die "the sensor could not publish; see keys/quickstart/log/sensor.log"
if [ "$live" = yes ]; then table_again; else table; fi
took=$((SECONDS - publishing))

wait "$raw_pid" || die "no message reached the raw subscriber; see keys/quickstart/log/raw.log"
# Readers end as a person would end them, and say what they could not read.
for reader in "${readers[@]}"; do kill -INT "${reader_pid[$reader]}"; done
for reader in "${readers[@]}"; do
  wait "${reader_pid[$reader]}" || die "reader $reader ended with an error; see keys/quickstart/log/$reader.log"
done

step "What the broker sees of one reading"
# The first sealed reading as the broker relayed it to one who may not read it.
od -An -v -tx1 -w32 "$dir/raw.bin" | head -n 4 | sed 's/^ /  /'
note "… $(wc -c <"$dir/raw.bin" | tr -d ' ') bytes; the reader sees: $(head -n 1 "$dir/technician.out")"

# ---------------------------------------------------------------- summary: counted, not assumed

same_as_published() { cmp -s "$readings" "$1"; }
technician=$(lines "$dir/technician.out") auditor=$(lines "$dir/auditor.out") visitor=$(lines "$dir/visitor.out")

# The capture is all that the broker saw after TLS. A reading is "found" if its timestamp or its value is in there.
cut -d, -f1 "$readings" >"$dir/plain-timestamps"
cut -d, -f2 "$readings" >"$dir/plain-values"
captured=$(wc -c <"$capture" | tr -d ' ')
# The first nine bytes of every sealed message (COSE_Encrypt0 with A256GCM, then the key id's label).
sealed=$(LC_ALL=C grep -aoF $'\xd0\x83\x43\xa1\x01\x03\xa2\x04\x48' "$capture" | wc -l | tr -d ' ')
plaintext=$(LC_ALL=C grep -aoF -f "$dir/plain-timestamps" -f "$dir/plain-values" "$capture" | wc -c | tr -d ' ' || true)
# That the search can find something: it must find every reading in what the technician wrote down.
control=$(LC_ALL=C grep -caF -f "$dir/plain-timestamps" "$dir/technician.out" || true)
refusal=$(grep -m1 -i 'not authorised' "$dir/log/visitor.log" || true)
visitor_refused=$(grep -oE 'not-authorised [0-9]+' "$dir/log/visitor.log" | grep -oE '[0-9]+' | tail -n 1 || true)

step "Summary"
printf '  %-34s %s\n' 'published by the sensor' "$total" \
  'read by the technician' "$technician" 'read by the auditor' "$auditor" 'read by the visitor' "$visitor" \
  'refused to the visitor' "${visitor_refused:-0} ($refusal)" \
  'bytes that the broker saw' "$captured ($sealed sealed messages, in and out)" \
  'bytes of plaintext among them' "$plaintext" 'time' "${took} s to publish and read, $((SECONDS - started)) s in all"

wrong=0
expect() { # WHAT CONDITION...
  local what=$1; shift
  if ! "$@"; then printf '  %s✗ %s%s\n' "$red" "$what" "$off"; wrong=1; fi
}
expect "the data holds 7,267 readings" [ "$total" -eq 7267 ]
expect "the technician reads exactly what was published" same_as_published "$dir/technician.out"
expect "the auditor reads exactly what was published" same_as_published "$dir/auditor.out"
expect "the visitor reads nothing" [ ! -s "$dir/visitor.out" ]
expect "the visitor is told why, for every reading" [ "${visitor_refused:-0}" -eq "$total" ]
expect "the capture holds every reading four times: from the sensor, to three readers" [ "$sealed" -ge $((4 * total)) ]
expect "the search for plaintext works" [ "$control" -eq "$total" ]
expect "the broker saw no reading in plaintext" [ "$plaintext" -eq 0 ]
[ "$wrong" -eq 0 ] || die "the numbers are not right"
printf '  %s✓ every number is right%s\n' "$green" "$off"

if [ "$keep" = yes ]; then
  shown=${dir#"$PWD"/}; tool=${bin#"$PWD"/}/smqtt
  cat <<END

The authority (pid $authority_pid) and the broker (pid $broker_pid) stay up. To try by hand:

  $tool sub -i $shown/auditor -t 'building/#' -v
  $tool pub -i $shown/sensor -t building/7/temperature -p 'role = auditor' -m '21.5'
  $tool sub -i $shown/visitor -t 'building/#'          # sees that something is there, and why it may not read it
  ${tool}-authority device list --dir $shown/authority

Stop them:  kill $authority_pid $broker_pid
END
fi
