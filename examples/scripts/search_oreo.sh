#!/usr/bin/env bash
# One Ray job: greedy answers and value-guided search with what train_oreo.sh left, B = 1, 3, 5, 7 as in the paper.
# Usage: bash examples/scripts/search_oreo.sh gsm8k|math500|chain [OPTION OF openrlhf-ext search ...]      LOCAL=1: on this machine
# gsm8k is asked in the words of the suite gsm8k_chat, as in collect_oreo.sh; a DeepSeekMath policy: search_oreo.sh gsm8k_deepseek.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
PATH=$PWD/.venv/bin:$PATH

SUITE=${1:?which suite?} && shift
TASK=${SUITE%_deepseek} && TASK=${TASK%500}
RUN_DIR=${RUN_DIR:-runs/oreo-$TASK}
OUT=${OUT:-runs/search-$SUITE}
read -ra BEAMS <<<"${BEAMS:-1 3 5 7}"
case $SUITE in gsm8k | math) SUITE=${SUITE}_chat ;; esac
submit() { if [ -n "${LOCAL:-}" ]; then "$@"; else ray job submit -- env -C "$PWD" "$@"; fi; }

submit openrlhf-ext search --policy "$RUN_DIR/model" --value "$RUN_DIR/value" --suite "$SUITE" --beams "${BEAMS[@]}" --out "$OUT" "$@"
