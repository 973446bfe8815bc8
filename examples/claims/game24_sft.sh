#!/usr/bin/env bash
# The SFT ablation of the 24-point project, small: which trace format (v1, v2, v3) and which trace length (short, medium, long,
# mixed) teaches a small model the game best. Published order: v2 >= v3 > v1, and medium > short, long. All lengths are of v3.
# Usage: bash examples/claims/game24_sft.sh [DIR]
# Six runs of as many rows each, about 40 minutes on 2 idle cores. Started again, it keeps finished runs (remove an unfinished folder).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
PATH=$PWD/.venv/bin:$PATH

OUT=${1:-runs/claims/game24-sft}
SEED=${SEED:-42}
SEARCHES=${SEARCHES:-6}
NODES=${NODES:-6-9}
BUCKETS=${BUCKETS:-106,140,220} # thirds of the rows, in tokens of the small tokenizer
CONTEXT=${CONTEXT:-256}
ROWS=${ROWS:-8000} # each bucket holds more
EPOCHS=${EPOCHS:-2} # 500 updates of 32 rows; the original made 1000

openrlhf-ext prepare game24-puzzles --out "$OUT/data" --seed "$SEED"
openrlhf-ext prepare tiny-model --out "$OUT/init" --task game24 --context "$CONTEXT" --seed "$SEED" --overwrite
for format in v1 v2 v3; do
    openrlhf-ext prepare game24-traces --puzzles "$OUT/data/train.jsonl" --out "$OUT/data/$format" --seed "$SEED" \
        --searches "$SEARCHES" --nodes "$NODES" --format "$format" --tokenizer "$OUT/init" --buckets "$BUCKETS" --validation rows
done

models=()
mkdir -p "$OUT" && : >"$OUT/claim.jobs"
for data in v1/sft v2/sft v3/sft v3/short v3/medium v3/long; do
    name=${data/\//-}
    name=${name%-sft}
    [ -e "$OUT/$name/model/config.json" ] || echo "train sft --config examples/configs/sft_game24_demo.yaml --run.dir $OUT/$name --run.seed $SEED" \
        "--model.model_name_or_path $OUT/init --data.dataset $OUT/data/$data.jsonl --data.max_samples $ROWS" \
        "--data.max_len $CONTEXT --train.max_epochs $EPOCHS" \
        "--eval.dataset $OUT/data/${data%/*}/validation.jsonl" >>"$OUT/claim.jobs"
    models+=("$name=$OUT/$name/model")
done
echo "evaluate --model ${models[*]} --suite game24 --out $OUT/eval" >>"$OUT/claim.jobs"

# One process and one Ray session for all of them.
openrlhf-ext jobs "$OUT/claim.jobs"
