#!/usr/bin/env bash
# The SFT model and every trained one of a task on its test set, greedy, from the question, in one engine start.
# Usage: bash examples/scripts/evaluate_reverse_curriculum.sh TASK [OPTION OF openrlhf-ext evaluate ...]
# Of each run the model that the dev split chose, or the last one where the start model was never beaten.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
PATH=$PWD/.venv/bin:$PATH

TASK=${1:?which task?} && shift
DATA=${DATA:-data/$TASK}
OUT=${OUT:-runs/eval-$TASK}
SUITE=${SUITE:-${TASK//-/_}}
models=("sft=${SFT_DIR:-runs/sft-$TASK}/model")
for mode in plain staged mixed adaptive; do
    for model in best model; do
        if [ -e "runs/$mode-$TASK/$model/config.json" ]; then models+=("$mode=runs/$mode-$TASK/$model") && break; fi
    done
done

exec openrlhf-ext evaluate --model "${models[@]}" --suite "$SUITE" --data "$DATA" --template alpaca --out "$OUT" "$@"
