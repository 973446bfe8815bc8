#!/usr/bin/env bash
# Self-Explore, stages 4 and 5: the RFT model explores the wrong solution of every outcome pair; its first pits become step pairs.
# Usage: bash examples/scripts/self_explore_explore.sh gsm8k|math|chain [OPTION OF openrlhf-ext explore ...]
# Started again, it goes on where it stopped. CONFIRM=12: more completions before a step is called a pit.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
PATH=$PWD/.venv/bin:$PATH

TASK=${1:?gsm8k, math or chain} && shift
WORK=${WORK:-runs/self-explore-$TASK}
K=${K:-4}
CONFIRM=${CONFIRM:-0}
length=512
case $TASK in
    math) length=1024 ;;
    chain) length=60 ENGINES=${ENGINES:-1} ;; # a laptop
esac
ENGINES=${ENGINES:-4}

openrlhf-ext explore --model "$WORK/rft/model" --pairs "$WORK/outcome_pairs.jsonl" --k "$K" --confirm "$CONFIRM" --temperature 0.7 \
    --max-new-tokens "${LENGTH:-$length}" --engines "$ENGINES" --out "$WORK/explored.jsonl" --resume "$@"
openrlhf-ext prepare pairs --kind step --in "$WORK/explored.jsonl" --out "$WORK/step_pairs.jsonl"
