#!/usr/bin/env bash
# One Ray job: right and wrong answers of a model to training problems, graded: the data of OREO. A stopped collection goes on with --resume.
# Usage: MODEL=runs/sft-oreo-math/model bash examples/scripts/collect_oreo.sh gsm8k|math|chain [OPTION OF openrlhf-ext collect ...]
# LOCAL=1: no Ray job, on this machine. The paper samples 10 answers per problem at temperature 1, top-p 0.95; top-k 16 is its script's. TEMPLATE=deepseek-math: its form.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
PATH=$PWD/.venv/bin:$PATH

TASK=${1:?which task?} && shift
MODEL=${MODEL:-runs/sft-oreo-math/model}
PROMPTS=${PROMPTS:-data/$TASK/train.jsonl}
OUT=${OUT:-data/$TASK/collected.jsonl}
N=${N:-10}
case $TASK in
    gsm8k | math)
        how=(--template "${TEMPLATE:-chat}" --top-p 0.95 --top-k 16 --max-new-tokens 2048)
        if [ "${TEMPLATE:-chat}" = chat ]; then # asked in the words of the suite that the policy is evaluated with
            how+=(--system "$(sed -n 's/^system: //p' "evaluation/suites/${TASK}_chat.yaml")")
        fi
        ;;
    *) how=() ;;
esac
submit() { if [ -n "${LOCAL:-}" ]; then "$@"; else ray job submit -- env -C "$PWD" "$@"; fi; }

submit openrlhf-ext collect --model "policy=$MODEL" --task "$TASK" --prompts "$PROMPTS" --n "$N" --temperature 1 "${how[@]}" \
    --out "$OUT" "$@"
