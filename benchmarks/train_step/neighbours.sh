#!/bin/bash
# Seconds of training on two threads: alone, beside a busy loop, and two trainings at once, with OpenMP's own waiting, with that of the program
# (examples/cli/wait_policy.hpp) and with a passive one, in turns.
#   neighbours.sh PROGRAM MODEL DATA.csv [STEPS [ROUNDS]]
set -e
program=$1 model=$2 data=$3 steps=${4:-20} rounds=${5:-3}
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT

train() {  # POLICY FOLDER
  env $1 "$program" train --model "$model" --data "$data" --eval-fraction 0 --steps "$steps" --threads 2 --out "$out/$2" >"$out/$2.log" 2>&1 || cat "$out/$2.log" >&2
}
seconds() {  # NAME COMMAND...
  local name=$1 start=$EPOCHREALTIME
  shift
  "$@"
  echo "$name $(bc <<<"$EPOCHREALTIME - $start")"
}
both() {
  train "$1" a &
  local other=$!
  train "$1" b
  wait $other
}

for ((round = 1; round <= rounds; ++round)); do
  for policy in OpenMP=GOMP_SPINCOUNT=300000 program=UNUSED=1 passive=OMP_WAIT_POLICY=passive; do
    name=${policy%%=*} setting=${policy#*=}
    seconds "alone  $name" train "$setting" "alone-$name-$round"
    while :; do :; done &
    loop=$!
    seconds "loop   $name" train "$setting" "loop-$name-$round"
    kill $loop
    wait $loop 2>/dev/null || true
    rm -rf "$out/a" "$out/b"
    seconds "two    $name" both "$setting"
  done
done | sort | awk '{ key = $1 " " $2; if (key != last) printf "\n%-14s", key; last = key; printf " %6.2f", $3 } END { print "" }'
