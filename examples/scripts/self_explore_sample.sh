#!/usr/bin/env bash
# Self-Explore, stage 2: N samples of the SFT model for every training problem, graded, over all engines.
# Usage: bash examples/scripts/self_explore_sample.sh gsm8k|math|chain [OPTION OF openrlhf-ext collect ...]
# Started again, it goes on where it stopped.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
PATH=$PWD/.venv/bin:$PATH

TASK=${1:?gsm8k, math or chain} && shift
DATA=${DATA:-data/$TASK}
WORK=${WORK:-runs/self-explore-$TASK}
length=512
case $TASK in
    math) length=1024 ;;
    chain) length=60 N=${N:-8} ENGINES=${ENGINES:-1} && set -- --limit 400 "$@" ;; # a laptop
esac
N=${N:-100}
ENGINES=${ENGINES:-4}

exec openrlhf-ext collect --model "$WORK/sft/model" --task "$TASK" --prompts "$DATA/train.jsonl" --n "$N" --temperature 0.7 \
    --stop Problem: --max-new-tokens "${LENGTH:-$length}" --engines "$ENGINES" --wave 8192 --out "$WORK/samples.jsonl" --resume "$@"
