#!/usr/bin/env bash
# Iterative OREO: collect with the newest policy, train on what it wrote, repeat. Every round starts from the policy of the round before
# and keeps the first model as its reference (REF=newest: the round's own start model). Start it again after a stop: what is done stays.
# Usage: bash examples/scripts/oreo_iterate.sh gsm8k|math|chain [--section.key VALUE ...]          ROUNDS=3, SIZE=paper|tiny, LOCAL=1
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
here=examples/scripts

TASK=${1:?which task?} && shift
ROUNDS=${ROUNDS:-3}
MODEL=${MODEL:-runs/sft-oreo-math/model}
OUT=${OUT:-runs/oreo-iterate-$TASK}
LIMIT=${LIMIT:-} # problems of a round; empty = all
limit=(${LIMIT:+--limit "$LIMIT"})
mkdir -p "$OUT"

policy=$MODEL
for round in $(seq "$ROUNDS"); do
    run=$OUT/round-$round data=$OUT/round-$round.jsonl
    case ${REF:-first} in newest) reference=$policy ;; *) reference=$MODEL ;; esac
    if [ ! -e "$run/model/config.json" ]; then # every round draws anew; a stopped collection or run goes on
        MODEL=$policy OUT=$data bash $here/collect_oreo.sh "$TASK" --seed "$((42 + round))" --resume "${limit[@]}"
        resume=() && [ ! -e "$run/config.yaml" ] || resume=(--resume)
        MODEL=$policy DATA=$data RUN_DIR=$run bash $here/train_oreo.sh "$TASK" "${resume[@]}" --oreo.reference_model "$reference" "$@"
    fi
    policy=$run/model
done
echo "newest policy: $policy"
