#!/usr/bin/env bash
# Builds, on a machine with nvcc but without a GPU, all that run.sh needs on one with a GPU and without a network, and packs it into a folder that
# git ignores. What runs there has to be x86-64 Linux with glibc as new as here's and the CUDA toolkit (runtime and cuBLAS) of the same major version.
set -euo pipefail
cd "$(dirname "$0")/../.."
source cmake/setup.sh

usage() {
  cat <<TEXT
usage: prepare.sh [options]
  --archs LIST     CUDA architectures as CMake names them (default "90-real"; "80-real;90-real" for both)
  --build FOLDER   default build/device
  --kit FOLDER     default benchmarks/device/kit
  --jobs N         default: all processors
  --no-tests       without the device tests, which take nvcc half an hour on two cores
  --only LIST      of the test files, by name: "conformance_test attention_test" (default: all)
  --pack           packs what lies built, without building
TEXT
}
archs="90-real" build=build/device kit=benchmarks/device/kit jobs=$(nproc) tests=ON only="" pack=""
while (($#)); do
  case $1 in
    --archs | --build | --kit | --jobs | --only)
      (($# > 1)) || { echo "prepare.sh: $1 needs a value" >&2; exit 2; }
      printf -v "${1#--}" %s "$2"
      shift 2
      ;;
    --no-tests) tests=OFF; shift ;;
    --pack) pack=yes; shift ;;
    --help | -h) usage; exit 0 ;;
    *) echo "prepare.sh: unknown option $1" >&2; usage >&2; exit 2 ;;
  esac
done

# ---- build ----
if [[ -z $pack ]]; then
  install_packages g++ cmake ninja-build ccache catch2 libbenchmark-dev nlohmann-json3-dev libcli11-dev libyaml-cpp-dev libonig-dev libutf8proc-dev
  if command -v ccache >/dev/null; then export CMAKE_CXX_COMPILER_LAUNCHER=ccache CMAKE_CUDA_COMPILER_LAUNCHER=ccache; fi
  # A processor of the last ten years, and no library that might be missing there: no oneDNN, utf8proc linked in.
  cmake -S . -B "$build" -G Ninja -DCMAKE_BUILD_TYPE=Release -DCMAKE_CUDA_ARCHITECTURES="$archs" -DCMAKE_SKIP_RPATH=ON \
    -DCMAKE_CXX_FLAGS=-march=x86-64-v3 -DCMAKE_CUDA_FLAGS=-Xcompiler=-march=x86-64-v3 -DDELTATUNE_NATIVE=OFF -DDELTATUNE_WITH_ONEDNN=OFF \
    -DDELTATUNE_WITH_CUDA=ON -DDELTATUNE_BUILD_BENCHMARKS=ON -DDELTATUNE_BUILD_DEVICE_TESTS=$tests -DDELTATUNE_DEVICE_TESTS="${only// /;}" \
    -Dutf8proc_LIBRARY="$(gcc -print-file-name=libutf8proc.a)"
  cmake --build "$build" -j "$jobs" --target deltatune_device_step deltatune_products deltatune_program deltatune_cuda_benchmarks
  [[ $tests == OFF ]] || cmake --build "$build" -j "$jobs" --target deltatune_device_tests
fi

# ---- pack ----
rm -rf "$kit"
mkdir -p "$kit/bin" "$kit/lib"
for file in deltatune deltatune_cuda.so benchmarks/deltatune_cuda_benchmarks benchmarks/device/deltatune_device_step benchmarks/device/deltatune_products \
  tests/cuda/deltatune_device_tests; do
  if [[ ! -e $build/$file ]]; then
    echo "prepare.sh: not packed, as it was not built: $file"
    continue
  fi
  strip -o "$kit/bin/${file##*/}" "$build/$file"
  # Shared libraries that come neither with the system's compiler nor with CUDA.
  while read -r library; do cp -L "$library" "$kit/lib/"; done < <(ldd "$build/$file" | awk '/=> \//{print $3}' |
    grep -vE '/(libc|libm|libdl|librt|libpthread|libstdc\+\+|libgcc_s|libcudart|libcublas|libcublasLt|ld-linux[^/]*)\.so' || true)
done
# What a build there needs, for the case that these binaries don't start.
deps=$(mktemp -d)
trap 'rm -rf "$deps"' EXIT
for package in catch2 nlohmann-json3-dev libcli11-dev libyaml-cpp-dev libyaml-cpp0.7 libonig-dev libonig5 libutf8proc-dev libbenchmark-dev libbenchmark1debian; do
  dpkg -L "$package" | grep -E '^/usr/(include|lib|share/(cmake|nlohmann|pkgconfig|Catch2))' | while read -r file; do
    if [[ -f $file ]]; then mkdir -p "$deps/$(dirname "${file#/usr/}")"; cp -P "$file" "$deps/${file#/usr/}"; fi
  done
done
tar -C "$deps" -czf "$kit/deps.tar.gz" .
{
  echo "commit $(git rev-parse --short HEAD 2>/dev/null || echo unknown)$(git diff --quiet HEAD 2>/dev/null || echo ' with changes')"
  echo "architectures $(sed -n 's/^CMAKE_CUDA_ARCHITECTURES:[A-Z]*=//p' "$build/CMakeCache.txt")"
  "$(sed -n 's/^CMAKE_CUDA_COMPILER:[A-Z]*=//p' "$build/CMakeCache.txt")" --version | tail -n 1
} >"$kit/built.txt"
cat "$kit/built.txt"
du -sh "$kit"/bin/*
tar -C "$kit" -czf "$kit/programs.tar.gz" bin lib  # code compiled without optimisation shrinks to a third
rm -rf "${kit:?}/bin" "${kit:?}/lib"
du -ch "$kit"/*
megabytes=$(du -sm "$kit" | cut -f1)
if ((megabytes > 60)); then echo "prepare.sh: the kit has $megabytes MB, more than the 60 that are meant to travel: choose one architecture, or --only some tests" >&2; exit 1; fi
