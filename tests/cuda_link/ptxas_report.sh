#!/usr/bin/env bash
# What the kernels take of a multiprocessor, as a table in Markdown; fails when a kernel spills registers to memory.
#   ptxas_report.sh NVCC INCLUDE_DIR SHARED_MEMORY_PROGRAM [OUT.md]
# Registers and spills are ptxas's; dynamic shared memory is the most that a launch asks for in shared_memory.cpp, "-" where it launches none.
set -euo pipefail
nvcc=$1 include=$2 shared_memory=$3 out=${4:-/dev/stdout}
here=$(cd "$(dirname "$0")" && pwd)
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

"$shared_memory" >"$scratch/shared"
"$nvcc" -std=c++20 -O3 -fatbin --generate-code=arch=compute_80,code=sm_80 --generate-code=arch=compute_90,code=sm_90 -Xptxas -v \
  -I"$include" "$here/kernels.cu" -o "$scratch/kernels" 2>&1 | c++filt >"$scratch/ptxas" || { cat "$scratch/ptxas"; exit 1; }

# Lines of ptxas: "Compiling entry function 'KERNEL' for 'sm_80'", "N bytes stack frame, N bytes spill stores, N bytes spill loads", "Used N registers".
{
  echo "<!-- Written by tests/cuda_link/ptxas_report.sh with $("$nvcc" --version | grep -o 'release [0-9.]*'). -->"
  echo
  awk '
    FNR == NR { bytes = $1; $1 = ""; shared[substr($0, 2)] = bytes; next }
    match($0, /entry function .*. for .sm_[0-9]+/) {
      split(substr($0, RSTART + 16, RLENGTH - 16), part, /. for ./)
      kernel = part[1]; arch = part[2]; names[kernel] = 1
    }
    /spill stores/ { stack[kernel, arch] = $1; spills[kernel, arch] = $5 + $9 }
    match($0, /Used [0-9]+ registers/) { registers[kernel, arch] = substr($0, RSTART + 5, RLENGTH - 15) }
    function short(name) {
      sub(/\(.*/, "", name); sub(/^void /, "", name); gsub(/deltatune::|ops::|detail::/, "", name); gsub(/ >/, ">", name)
      return name
    }
    END {
      print "| kernel | registers sm_80 | sm_90 | dynamic shared memory, bytes | stack, bytes | spills, bytes |"
      print "|:--|--:|--:|--:|--:|--:|"
      for (name in names) {
        spilled = spills[name, "sm_80"] + spills[name, "sm_90"]
        frame = stack[name, "sm_80"] > stack[name, "sm_90"] ? stack[name, "sm_80"] : stack[name, "sm_90"]
        printf "| `%s` | %d | %d | %s | %d | %d |\n", short(name), registers[name, "sm_80"], registers[name, "sm_90"],
          name in shared ? shared[name] : "-", frame, spilled | "LC_ALL=C sort"
      }
    }' "$scratch/shared" "$scratch/ptxas"
} >"$scratch/table"
cat "$scratch/table" >"$out"

kernels=$(grep -c '^| `' "$scratch/table")
spilling=$(grep '^| `' "$scratch/table" | grep -vc '| 0 |$' || true)
echo "$kernels kernels, $spilling with spills" >&2
((kernels > 30 && spilling == 0))
