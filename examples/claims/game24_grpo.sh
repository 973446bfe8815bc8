#!/usr/bin/env bash
# GRPO lifts the greedy accuracy of the SFT model on held-out puzzles and cuts unfinished answers: the demo over several seeds.
# Usage: bash examples/claims/game24_grpo.sh [DIR] [--section.key VALUE ...]
# SEEDS="1 2 3"; MOMENTA="0 0.2" also compares plain group normalisation with the running one.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
PATH=$PWD/.venv/bin:$PATH

OUT=runs/claims/game24-grpo
case ${1:-} in
    "" | --*) ;;
    *) OUT=$1 && shift ;;
esac
SEEDS=${SEEDS:-1 2 3}
MOMENTA=${MOMENTA:-0}
CONFIG=${CONFIG:-examples/configs/grpo_game24_demo.yaml}

openrlhf-ext prepare game24-puzzles --out "$OUT/data" --seed 42

runs=()
mkdir -p "$OUT" && : >"$OUT/claim.jobs"
for momentum in $MOMENTA; do
    for seed in $SEEDS; do
        run=$OUT/momentum-$momentum-seed-$seed
        echo "train grpo --config $CONFIG --run.dir $run --run.seed $seed --grpo.max_momentum $momentum" \
            "--data.prompt_dataset $OUT/data/train.jsonl --eval.dataset $OUT/data/test.jsonl $*" >>"$OUT/claim.jobs"
        runs+=("$run")
    done
done

# One process and one Ray session for all seeds: only the first pays for starting.
openrlhf-ext jobs "$OUT/claim.jobs"
openrlhf-ext report "${runs[@]}" --out "$OUT/report.html"
