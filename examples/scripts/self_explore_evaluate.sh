#!/usr/bin/env bash
# The models of Self-Explore on the test set, greedy, in one engine start: SFT, RFT, DPO on outcomes, DPO on steps.
# Usage: bash examples/scripts/self_explore_evaluate.sh gsm8k|math|chain [OPTION OF openrlhf-ext evaluate ...]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
PATH=$PWD/.venv/bin:$PATH

TASK=${1:?gsm8k, math or chain} && shift
DATA=${DATA:-data/$TASK}
WORK=${WORK:-runs/self-explore-$TASK}
case $TASK in
    math) set -- --template plain --max-new-tokens 1024 "$@" ;; # as it was trained; the suite's own is chat
    chain) ENGINES=${ENGINES:-1} ;;
esac
ENGINES=${ENGINES:-4}
models=("sft=$WORK/sft/model" "rft=$WORK/rft/model")
for pairs in outcome step; do
    if [ -e "$WORK/$pairs/model/config.json" ]; then models+=("$pairs=$WORK/$pairs/model"); fi
done

exec openrlhf-ext evaluate --model "${models[@]}" --suite "$TASK" --data "$DATA" --engines "$ENGINES" --out "$WORK/eval" --resume "$@"
