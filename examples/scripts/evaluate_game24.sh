#!/usr/bin/env bash
# The SFT model and the GRPO model on the 100 held-out puzzles, in one engine start: greedy on all, pass@8 on the first 32.
# Usage: bash examples/scripts/evaluate_game24.sh [OPTION OF openrlhf-ext evaluate ...]
# SUITE=game24 asks models that were trained without a chat template, such as the demo's.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
PATH=$PWD/.venv/bin:$PATH

BEFORE=${BEFORE:-runs/sft-game24/model}
AFTER=${AFTER:-runs/grpo-game24/model}
SUITE=${SUITE:-game24_chat}
OUT=${OUT:-runs/eval-game24}

exec openrlhf-ext evaluate --model "before=$BEFORE" "after=$AFTER" --suite "$SUITE" --out "$OUT" "$@"
