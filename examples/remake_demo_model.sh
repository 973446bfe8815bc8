#!/usr/bin/env bash
# Makes the demo's start model again: search traces, an untrained model of 4 layers, supervised fine-tuning. Over an hour on 2 cores.
# The validation rows are other traces of the training puzzles (--validation rows), as when the shipped model was made.
# Usage: bash examples/remake_demo_model.sh [DIR]        The result is DIR/run/model; examples/models/game24-sft-v2 is a copy of it.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
PATH=$PWD/.venv/bin:$PATH # the environment of `make setup`

OUT=${1:-runs/demo-model}
SEED=42

openrlhf-ext prepare game24-puzzles --out "$OUT/data" --seed "$SEED"
openrlhf-ext prepare game24-traces --puzzles "$OUT/data/train.jsonl" --out "$OUT/data" \
    --searches 36 --nodes 6-9 --format v2 --validation rows --seed "$SEED"
openrlhf-ext prepare tiny-model --out "$OUT/init" --task game24 \
    --layers 4 --hidden 192 --heads 6 --context 512 --seed "$SEED"
openrlhf-ext train sft --config examples/configs/sft_game24_demo.yaml \
    --model.model_name_or_path "$OUT/init" \
    --data.dataset "$OUT/data/sft.jsonl" \
    --eval.dataset "$OUT/data/validation.jsonl" \
    --run.dir "$OUT/run" \
    --run.seed "$SEED"

echo "the model: $OUT/run/model"
