#!/usr/bin/env bash
# Self-Explore, stage 6: DPO from the RFT model on step pairs (PAIRS=step, the method) or on outcome pairs (PAIRS=outcome, its baseline).
# Usage: [PAIRS=step|outcome] bash examples/scripts/self_explore_dpo.sh gsm8k|math|chain [--dry-run [--cluster NxG]] [--section.key VALUE ...]
# PRESET holds the paper's numbers: gsm8k or math, with mistral, llemma or deepseek-math. LOCAL=1: no Ray job.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
PATH=$PWD/.venv/bin:$PATH

TASK=${1:?gsm8k, math or chain} && shift
WORK=${WORK:-runs/self-explore-$TASK}
PAIRS=${PAIRS:-step}
if [ "$TASK" = chain ]; then # a laptop
    PRESET=none LOCAL=1 DPO_CONFIG=${DPO_CONFIG:-examples/configs/self_explore_chain_tiny.yaml}
fi
PRESET=${PRESET:-$TASK-deepseek-math}
CONFIG=${DPO_CONFIG:-examples/configs/self_explore_${TASK}_paper.yaml}

if [ -e "$WORK/$PAIRS/model/config.json" ]; then exit; fi
command=(openrlhf-ext train self-explore --config "$CONFIG" --self_explore.preset "$PRESET" --model.model_name_or_path "$WORK/rft/model"
    --data.dataset "$WORK/${PAIRS}_pairs.jsonl" --run.dir "$WORK/$PAIRS" "$@")
if [ -e "$WORK/$PAIRS/config.yaml" ]; then command+=(--resume); fi
case " $* ${LOCAL:+--dry-run} " in *" --dry-run "*) exec "${command[@]}" ;; esac
exec ray job submit -- env -C "$PWD" "${command[@]}"
