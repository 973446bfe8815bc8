#!/usr/bin/env bash
# What `make demo` runs: GRPO on the 24-point game, from the shipped SFT model to a trained, evaluated and reported one.
# Usage: bash examples/demo.sh [--seed N] [--out DIR] [--section.key VALUE ...]
# Every other option goes to `openrlhf-ext train grpo`, --resume and --dry-run included.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
PATH=$PWD/.venv/bin:$PATH # the environment of `make setup`

SEED=42
OUT=runs/demo-$(date -u +%Y%m%d-%H%M%S)
CONFIG=examples/configs/grpo_game24_demo.yaml # names the start model, which examples/remake_demo_model.sh makes

settings=()
while [ $# -gt 0 ]; do
    case $1 in
        --seed) SEED=${2:?--seed needs a number} && shift 2 ;;
        --out) OUT=${2:?--out needs a directory} && shift 2 ;;
        *) settings+=("$1") && shift ;;
    esac
done

# The split is the same for every --seed: 1262 puzzles to train on, 100 held out.
openrlhf-ext prepare game24-puzzles --out "$OUT/data" --seed 42

# Evaluates on the held-out puzzles before and after training, and ends with the table of both.
openrlhf-ext train grpo --config "$CONFIG" \
    --data.prompt_dataset "$OUT/data/train.jsonl" \
    --eval.dataset "$OUT/data/test.jsonl" \
    --run.dir "$OUT" \
    --run.seed "$SEED" \
    "${settings[@]}"

if [ -e "$OUT/report.html" ]; then echo "demo: $SECONDS s. Curves and what the model wrote: $OUT/report.html"; fi
