#!/usr/bin/env bash
# deltatune beside PyTorch + PEFT: the same rows, recipe, threads and batch size; accuracy, speed and peak memory as a Markdown table.
set -euo pipefail

usage() {
  cat <<TEXT
usage: run.sh --model FOLDER --data CSV [options]

  --model FOLDER    Hugging Face folder of the base model (all-MiniLM-L6-v2)
  --data CSV        labelled texts, columns text and sentiment
  --program FILE    the deltatune program (default: built here, in a cache folder)
  --methods LIST    default "lora bitfit head full"
  --seeds LIST      default "0 1"; the two programs take turns, seed by seed
  --steps N         instead of one epoch: for a quick look at the speed
  --threads N       default 2
  --out FOLDER      where results go (default: a new temporary folder)
  --reuse           keep the results that lie in --out already

The Python side runs in the virtual environment \$DELTATUNE_PEERS_VENV; without that variable one is made under
\${XDG_CACHE_HOME:-~/.cache}/deltatune with torch 2.13.0, transformers and peft (about 1 GB to download).
TEXT
}

here=$(cd "$(dirname "$0")" && pwd)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/deltatune
model="" data="" program="" methods="lora bitfit head full" seeds="0 1" steps="" threads=2 out="" reuse=""
while (($#)); do
  case $1 in
    --model | --data | --program | --methods | --seeds | --steps | --threads | --out)
      (($# > 1)) || { echo "run.sh: $1 needs a value" >&2; exit 2; }
      printf -v "${1#--}" %s "$2"
      shift 2
      ;;
    --reuse) reuse=yes; shift ;;
    --help | -h) usage; exit 0 ;;
    *) echo "run.sh: unknown option $1" >&2; usage >&2; exit 2 ;;
  esac
done
[[ -n $model && -n $data ]] || { usage >&2; exit 2; }
out=${out:-$(mktemp -d)}
mkdir -p "$out"

venv=${DELTATUNE_PEERS_VENV:-$cache/peers}
if [[ ! -x $venv/bin/python ]]; then
  python3 -m venv "$venv"
  "$venv/bin/pip" install --quiet torch==2.13.0 transformers==4.57.6 peft==0.21.2 safetensors
fi
python=$venv/bin/python
if [[ -z $program ]]; then
  cmake -S "$here/../.." -B "$cache/build" -DCMAKE_BUILD_TYPE=Release -DDELTATUNE_BUILD_TESTS=OFF -DDELTATUNE_WITH_CUDA=OFF >"$out/build.log"
  cmake --build "$cache/build" -j "$threads" >>"$out/build.log"
  program=$(find "$cache/build" -type f -name deltatune -perm -u+x | head -n 1)
fi

export HF_HUB_OFFLINE=1 OMP_NUM_THREADS=$threads TOKENIZERS_PARALLELISM=false
"$python" "$here/make_split.py" "$data" "$out/data"
length=(--epochs 1)
[[ -z $steps ]] || length=(--steps "$steps")

declare -A learning_rate=([lora]=1e-3 [bitfit]=2e-3 [head]=5e-3 [full]=5e-5)

# run SIDE METHOD SEED COMMAND...: the last line of its output is the result
run() {
  local result=$out/$1.$2.$3.json
  [[ -n $reuse && -s $result ]] && return
  echo "$1 $2 seed $3" >&2
  "${@:4}" >"$out/log" 2>"$result.err" || { cat "$result.err" >&2; exit 1; }
  tail -n 1 "$out/log" >"$result"
}

for method in $methods; do
  extra=()
  [[ $method != lora ]] || extra=(--rank 8 --alpha 16 --targets "query,value")
  common=(--model "$model" --method "$method" --learning-rate "${learning_rate[$method]}" --batch-size 32 --max-length 128
    --threads "$threads" "${length[@]}")
  for seed in $seeds; do
    run deltatune "$method" "$seed" "$program" train "${common[@]}" "${extra[@]}" --seed "$seed" --data "$out/data/train.csv" \
      --text-column text --label-column label --eval-data "$out/data/eval.csv" --out "$out/deltatune.$method.$seed" --json
    run peft "$method" "$seed" "$python" -W ignore "$here/peft_train.py" "${common[@]}" --seed "$seed" --train "$out/data/train.csv" \
      --eval "$out/data/eval.csv" --out "$out/peft.$method.$seed"
  done
done
"$python" "$here/table.py" "$out"
