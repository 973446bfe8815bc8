#!/usr/bin/env bash
# DPO for the 24-point game, round after round: sample traces of the training puzzles, find each first wrong line with the strict checker,
# prefer what the search writes from there, train, and again with the new policy. All rounds are evaluated on the 100 test puzzles.
# Usage: bash examples/scripts/self_explore_game24.sh [--section.key VALUE ...]           the settings are those of the DPO runs
# Needs DATA of prepare game24-puzzles and an SFT model. Started again, it keeps finished rounds and goes on with the unfinished one.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
PATH=$PWD/.venv/bin:$PATH

DATA=${DATA:-data/game24}
MODEL=${MODEL:-examples/models/game24-sft-v2}
WORK=${WORK:-runs/dpo-game24}
CONFIG=${CONFIG:-examples/configs/dpo_game24_tiny.yaml}
ROUNDS=${ROUNDS:-2}
N=${N:-4}
ENGINES=${ENGINES:-1}

mkdir -p "$WORK" && models=("sft=$MODEL")
for round in $(seq "$ROUNDS"); do
    here=$WORK/round-$round
    if [ ! -e "$here/model/config.json" ]; then
        openrlhf-ext collect --model "$MODEL" --task game24 --prompts "$DATA/train.jsonl" --n "$N" --temperature 1 --seed "$round" \
            --engines "$ENGINES" --out "$here.samples.jsonl" --resume
        openrlhf-ext prepare pairs --kind step --task game24 --in "$here.samples.jsonl" --out "$here.pairs.jsonl"
        resume=() && if [ -e "$here/config.yaml" ]; then resume=(--resume); fi
        openrlhf-ext train dpo --config "$CONFIG" --model.model_name_or_path "$MODEL" --data.dataset "$here.pairs.jsonl" \
            --run.dir "$here" --run.seed "$round" "${resume[@]}" "$@"
    fi
    MODEL=$here/model && models+=("round-$round=$MODEL")
done
openrlhf-ext evaluate --model "${models[@]}" --suite game24 --data "$DATA" --out "$WORK/eval" --resume
