#!/usr/bin/env bash
# One Ray job: greedy answers and value-guided search with what train_oreo.sh left, B = 1, 3, 5, 7 as in the paper.
# Usage: bash examples/scripts/search_oreo.sh gsm8k|math500|chain [OPTION OF openrlhf-ext search ...]      LOCAL=1: on this machine
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
PATH=$PWD/.venv/bin:$PATH

SUITE=${1:?which suite?} && shift
TASK=${TASK:-${SUITE%500}}
RUN_DIR=${RUN_DIR:-runs/oreo-$TASK}
OUT=${OUT:-runs/search-$SUITE}
read -ra BEAMS <<<"${BEAMS:-1 3 5 7}"
case $SUITE in
    gsm8k) how=(--template chat --max-new-tokens 2048) ;;
    *) how=() ;;
esac
submit() { if [ -n "${LOCAL:-}" ]; then "$@"; else ray job submit -- env -C "$PWD" "$@"; fi; }

submit openrlhf-ext search --policy "$RUN_DIR/model" --value "$RUN_DIR/value" --suite "$SUITE" --beams "${BEAMS[@]}" --out "$OUT" \
    "${how[@]}" "$@"
