#!/usr/bin/env bash
# Self-Explore, stages 2a, 2b and 3: the RFT selection and the outcome pairs of the samples, then the RFT model, from the base.
# Usage: bash examples/scripts/self_explore_rft.sh gsm8k|math|chain [--dry-run [--cluster NxG]] [--section.key VALUE ...]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
PATH=$PWD/.venv/bin:$PATH

TASK=${1:?gsm8k, math or chain} && shift
WORK=${WORK:-runs/self-explore-$TASK}
PER_PROBLEM=${PER_PROBLEM:-8}

if [ ! -e "$WORK/rft.jsonl" ]; then
    openrlhf-ext prepare sft --from "$WORK/samples.jsonl" --select rft --per-problem "$PER_PROBLEM" --out "$WORK/rft.jsonl"
fi
if [ ! -e "$WORK/outcome_pairs.jsonl" ]; then
    openrlhf-ext prepare pairs --kind outcome --in "$WORK/samples.jsonl" --per-problem "$PER_PROBLEM" --out "$WORK/outcome_pairs.jsonl"
fi
STAGE=rft exec bash examples/scripts/self_explore_sft.sh "$TASK" "$@"
