#!/usr/bin/env bash
# On a machine with an NVIDIA GPU: do the tests pass, are the kernels clean, how fast are training steps beside PyTorch with PEFT on the same GPU?
# Needs what prepare.sh packed (or, with --emulated, a build here), python3, and for the other side PyTorch, transformers and peft; no network.
set -euo pipefail
cd "$(dirname "$0")/../.."
here=benchmarks/device

usage() {
  cat <<TEXT
usage: run.sh [options] [OUT]     results go to OUT, else to the folder \$OUT, else to a new temporary one

  --seconds N       in all; stages that don't fit are skipped with a note (default 480)
  --stages LIST     default "$all_stages"
                    tests: the CUDA backend's tests; program: deltatune on the GPU against the CPU; memcheck, racecheck: compute-sanitizer on the
                    tests of kernels; steps: times of training steps, after a check of the losses; profile: ncu, kernels of a step; micro: ops alone
  --cases LIST      of steps, such as "minilm/lora bert-base/full" (default: all)
  --kit FOLDER      default benchmarks/device/kit
  --emulated        without a GPU, on the emulated device: tries this script, tiny models, times mean nothing
  --build FOLDER    --emulated: where to build (default build/device-emulated)

OUT gets results.md, results.json, runs.jsonl, log.txt, failures.txt, kernels.csv, micro.json. Exit code 1 when a test, a sanitizer or a check of losses failed.
TEXT
}
all_stages="tests program memcheck racecheck steps profile micro"
seconds=480 stages=$all_stages cases="" kit=$here/kit emulated="" build=build/device-emulated out=${OUT:-}
while (($#)); do
  case $1 in
    --seconds | --stages | --cases | --kit | --build)
      (($# > 1)) || { echo "run.sh: $1 needs a value" >&2; exit 2; }
      printf -v "${1#--}" %s "$2"
      shift 2
      ;;
    --emulated) emulated=yes; shift ;;
    --help | -h) usage; exit 0 ;;
    -*) echo "run.sh: unknown option $1" >&2; usage >&2; exit 2 ;;
    *) out=$1; shift ;;
  esac
done
out=${out:-$(mktemp -d)}
mkdir -p "$out"
pieces=$(mktemp -d)
python=${DELTATUNE_PYTHON:-python3}
export HF_HUB_OFFLINE=1 TOKENIZERS_PARALLELISM=false PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
exec > >(tee "$out/log.txt") 2>&1
echo "results go to $out"

left() { echo $((seconds - SECONDS)); }
record() { printf '{"stage": "%s", "state": "%s", "seconds": %d}\n' "$1" "$2" "$3" >>"$pieces/stages.jsonl"; }

report() {
  local status=0
  cat "$pieces"/kernels.*.csv >"$out/kernels.csv" 2>/dev/null || rm -f "$out/kernels.csv"
  for file in runs.jsonl failures.txt micro.json; do if [[ -s $pieces/$file ]]; then cp "$pieces/$file" "$out/"; fi; done
  "$python" $here/report.py --pieces "$pieces" --out "$out" ${emulated:+--emulated} >"$pieces/report.txt" || status=$?
  return $status
}

# stage NAME LEAST MOST COMMAND...: runs it with at most MOST seconds, if LEAST are left. {} in the command stands for the seconds it has.
stage() {
  local name=$1 least=$2 most=$3 began=$SECONDS status=0 limit
  shift 3
  printf '\n==== %s (%d s left) ====\n' "$name" "$(left)"
  if [[ " $stages " != *" ${name%%-*} "* ]]; then echo "not asked for"; return; fi
  limit=$(($(left) - 5))
  if ((limit > most)); then limit=$most; fi
  if ((limit < least)); then
    echo "SKIPPED: out of time, it needs $least s"
    record "$name" "skipped: out of time" 0
    return
  fi
  timeout -k 5 $((limit + 5)) "${@//\{\}/$limit}" || status=$?
  case $status in
    0) record "$name" ok $((SECONDS - began)) ;;
    124 | 137) record "$name" "out of time, what was done counts" $((SECONDS - began)) ;;
    *) record "$name" "failed: exit code $status" $((SECONDS - began)) ;;
  esac
  echo "---- $name: exit code $status, $((SECONDS - began)) s"
  report || true
}
skip() {
  printf '\n==== %s ====\nSKIPPED: %s\n' "$1" "$2"
  record "$1" "skipped: $2" 0
}

# ---- the programs ----
if [[ -n $emulated ]]; then
  [[ -f $build/CMakeCache.txt ]] || cmake -S . -B "$build" -G Ninja -DCMAKE_BUILD_TYPE=Release -DDELTATUNE_BUILD_EXAMPLES=OFF -DDELTATUNE_BUILD_BENCHMARKS=ON \
    -DDELTATUNE_BUILD_COMPILED=OFF -DDELTATUNE_TEST_ALL=ON \
    -DDELTATUNE_WITH_CUDA=OFF
  cmake --build "$build" --target deltatune_device_step_emulated deltatune_products_emulated deltatune_cuda_alignment_tests
  step=$build/benchmarks/device/deltatune_device_step_emulated products=$build/benchmarks/device/deltatune_products_emulated
  tests=$build/tests/cuda/deltatune_cuda_alignment_tests program="" micro=""
  product_size=64 steps_options=(--emulated --steps 8 --warm-up 2)
  SECONDS=0
else
  if ! nvidia-smi -L 2>/dev/null | grep -q GPU && [[ ! -e /dev/nvidia0 ]]; then
    echo "run.sh: no NVIDIA GPU is here: nvidia-smi lists none; expected a machine with one, or --emulated" >&2
    exit 2
  fi
  # The CUDA libraries: the toolkit's, else those that came with PyTorch.
  folders=()
  for folder in /usr/local/cuda*/lib64 /usr/local/cuda*/targets/x86_64-linux/lib \
    $("$python" -c 'import site, sys; print(*(path + "/nvidia/*/lib" for path in dict.fromkeys(site.getsitepackages() + [p for p in sys.path if p.endswith("-packages")])))'); do
    if compgen -G "$folder/libcudart.so.*" >/dev/null || compgen -G "$folder/libcublas.so.*" >/dev/null; then folders+=("$folder"); fi
  done
  mkdir -p "$pieces/kit"
  if [[ -f $kit/programs.tar.gz ]]; then tar -C "$pieces/kit" -xzf "$kit/programs.tar.gz"; fi
  libraries=$(IFS=:; echo "${folders[*]:-}"):$pieces/kit/lib
  # wrap NAME: a script that starts the kit's binary with those libraries; PyTorch must not see them, it brings its own.
  wrap() {
    if [[ ! -x $bin/$1 ]]; then return; fi
    printf '#!/bin/sh\nLD_LIBRARY_PATH="%s${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}" exec "%s" "$@"\n' "$libraries" "$bin/$1" >"$pieces/$1"
    chmod +x "$pieces/$1"
    echo "$pieces/$1"
  }
  bin=$pieces/kit/bin
  cat "$kit/built.txt" 2>/dev/null || echo "$kit holds no binaries"
  products=$(wrap deltatune_products)
  if [[ -z $products ]] || ! "$products" 64; then
    echo "the kit's binaries don't start here; building"
    deps=$pieces/deps build=$pieces/build
    mkdir -p "$deps" && tar -C "$deps" -xzf "$kit/deps.tar.gz"
    arch=$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader 2>/dev/null | head -n 1 | tr -d . || true)
    bin=$build/bin
    mkdir -p "$bin"
    # As far as half of the time reaches, with a few of the tests; what is not there is skipped below.
    if ! { cmake -S . -B "$build" -G Ninja -DCMAKE_BUILD_TYPE=Release -DCMAKE_PREFIX_PATH="$deps" -DCMAKE_CUDA_ARCHITECTURES="${arch:-90}-real" \
      -DDELTATUNE_WITH_ONEDNN=OFF -DDELTATUNE_WITH_CUDA=ON -DDELTATUNE_BUILD_BENCHMARKS=ON -DDELTATUNE_BUILD_DEVICE_TESTS=ON \
      -Dutf8proc_LIBRARY="$(find "$deps" -name libutf8proc.a)" -Dutf8proc_INCLUDE_DIR="$deps/include" -DDELTATUNE_BUILD_COMPILED=OFF \
      -DOniguruma_LIBRARY="$(find "$deps" -name libonig.so)" -DOniguruma_INCLUDE_DIR="$deps/include" \
      -DDELTATUNE_DEVICE_TESTS="cuda_test;cuda_attention_test;attention_test;reduce_test;layer_norm_test;adamw_test;elementwise_test" &&
      timeout $((seconds / 2)) cmake --build "$build" -j "$(nproc)" -- -k 0 deltatune_device_step deltatune_products deltatune_device_tests deltatune_cuda_benchmarks; }; then
      echo "not all of it was built"
    fi
    find "$build" -type f -executable \( -name 'deltatune_device_*' -o -name deltatune_products -o -name deltatune_cuda_benchmarks \) -exec cp {} "$bin/" \;
    products=$(wrap deltatune_products)
  fi
  step=$(wrap deltatune_device_step) tests=$(wrap deltatune_device_tests) program=$(wrap deltatune) micro=$(wrap deltatune_cuda_benchmarks)
  product_size=8192 steps_options=()
fi

# ---- the machine ----
EMULATED=$emulated "$python" - "$pieces/machine.json" <<'PYTHON'
import json, os, platform, subprocess, sys
from importlib.metadata import PackageNotFoundError, version

def said(*command):
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=30).stdout.strip()
    except (OSError, subprocess.TimeoutExpired):
        return ""

def version_of(name):
    try:
        return version(name)
    except PackageNotFoundError:
        return "none"

machine = {"python": platform.python_version()} | {name: version_of(name) for name in ("torch", "transformers", "peft")}
if os.environ.get("EMULATED"):
    machine["gpu"] = "emulated"
else:
    answer = said("nvidia-smi", "--query-gpu=name,driver_version,memory.total,clocks.max.sm,power.limit", "--format=csv,noheader").splitlines()
    fields = [field.strip() for field in (answer or [""])[0].split(",")]
    machine |= dict(zip(("gpu", "driver", "memory", "largest SM clock", "power limit"), fields))
    machine["nvcc"] = (said("nvcc", "--version") or said("/usr/local/cuda/bin/nvcc", "--version")).splitlines()[-1:]
    machine["nvcc"] = machine["nvcc"][0] if machine["nvcc"] else "none"
json.dump(machine, open(sys.argv[1], "w"))
print("\n".join(f"{key}: {value}" for key, value in machine.items()))
PYTHON
if [[ -z $emulated ]]; then nvidia-smi || true; fi

# ---- the stages ----
run_tests() { # NAME LEAST MOST PROGRAM [options]
  stage "$1" "$2" "$3" "$python" $here/run_tests.py "$4" --name "$1" --out "$pieces/tests.$1.json" --log "$pieces/failures.txt" --seconds {} "${@:5}"
}
processes=$(($(nproc) > 12 ? 12 : $(nproc)))
if [[ -x ${tests:-} ]]; then
  if [[ -n $emulated ]]; then
    run_tests tests 10 120 "$tests" --filter "CUDA attention*" --jobs "$processes"
    skip memcheck "the emulated device checks memory itself"
    skip racecheck "needs a GPU"
  else
    run_tests tests 30 150 "$tests" --jobs "$processes"
    sanitizer=$(command -v compute-sanitizer || compgen -G "/usr/local/cuda*/bin/compute-sanitizer" | head -n 1 || true)
    if [[ -n $sanitizer ]]; then
      # Kernels of every kind, forward and backward. A graph that can't be updated is an error of the API that is expected.
      run_tests memcheck 20 60 "$tests" --filter "[cuda],[ops],[nn],[train]" --prefix "$sanitizer --tool memcheck --report-api-errors no --error-exitcode 99" --jobs 8 --chunk 4
      run_tests racecheck 20 60 "$tests" --filter "[attention],[reduce],[layer_norm],[cross_entropy],[embedding],[clip],[cuda]" --jobs 8 --chunk 1 \
        --prefix "$sanitizer --tool racecheck --report-api-errors no --error-exitcode 99"
    else
      skip memcheck "compute-sanitizer is not there"
      skip racecheck "compute-sanitizer is not there"
    fi
  fi
else
  for name in tests memcheck racecheck; do skip "$name" "the kit has no device tests"; done
fi
if [[ -x ${program:-} ]]; then
  stage program 10 40 "$python" $here/program_check.py "$program" --out "$pieces/tests.program.json" --seconds {}
else
  skip program "the program is not there"
fi
if [[ -x ${step:-} && " $stages " == *" steps "* ]]; then
  "$products" $product_size >"$pieces/products.json" || rm -f "$pieces/products.json"
  cat "$pieces/products.json" || true
  read -ra chosen <<<"$cases"
  stage steps 20 330 "$python" -W ignore $here/steps.py --step-program "$step" --work "$pieces/jobs" --out "$pieces/runs.jsonl" --seconds {} \
    "${steps_options[@]}" ${chosen[@]+--cases "${chosen[@]}"}
elif [[ " $stages " == *" steps "* ]]; then
  skip steps "the step program is not there"
fi
ncu=$(command -v ncu || compgen -G "/usr/local/cuda*/bin/ncu" | head -n 1 || true)
if [[ -n $emulated || -z $ncu || ! -x ${step:-} ]]; then
  skip profile "needs a GPU, ncu and the step program"
  skip micro "needs a GPU"
else
  for case in minilm/lora bert-base/lora gpt2/lora; do
    if [[ ! -d $pieces/jobs/${case%/*} ]]; then continue; fi
    stage "profile-${case//\//-}" 15 40 "$ncu" --csv --clock-control none --metrics gpu__time_duration.sum --profile-from-start off \
      --log-file "$pieces/kernels.${case//\//-}.csv" "$step" --job "$pieces/jobs/${case%/*}" --method "${case#*/}" --no-dropout --steps 4 --warm-up 1 --profile
  done
  if [[ -x ${micro:-} ]]; then
    stage micro 15 60 "$micro" --benchmark_min_time=0.05 --benchmark_out="$pieces/micro.json" --benchmark_out_format=json
  fi
fi

status=0
report || status=$?
cat "$pieces/report.txt"
rm -rf "$pieces"
echo "results are in $out; exit code $status"
exit $status
