# run.sh PROGRAM OUT: trains ten steps on a few texts with the model in $DELTATUNE_MINILM; 77 (skipped) without it.
set -eu
if [ -z "${DELTATUNE_MINILM:-}" ]; then
  echo "skipped: DELTATUNE_MINILM names no model folder"
  exit 77
fi
mkdir -p "$2"
{
  echo "text,label"
  for i in 1 2 3 4 5 6 7 8; do printf 'what a bad day,0\nit is a table,1\nthis is wonderful,2\n'; done
} >"$2/data.csv"
"$1" "$DELTATUNE_MINILM" "$2/data.csv" "$2/adapter" | tee "$2/log"
grep -q '^10: loss' "$2/log"
test -s "$2/adapter/adapter_model.safetensors"
