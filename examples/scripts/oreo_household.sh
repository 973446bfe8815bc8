#!/usr/bin/env bash
# Collect episodes with a model, train OREO on them, evaluate both models on seen and unseen rooms: tiny by default, CPU, some minutes.
# Usage: bash examples/scripts/oreo_household.sh [--dry-run] [--section.key VALUE ...]   (the words go to `train oreo`)
# Every step goes on where a stopped one left off. Needs the start model of examples/configs/sft_household_tiny.yaml.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
PATH=$PWD/.venv/bin:$PATH

CONFIG=${CONFIG:-examples/configs/oreo_household_tiny.yaml}
MODEL=${MODEL:-runs/sft-household/model}
DATA=${DATA:-data/household}
SUITE=${SUITE:-household_toy}
TASK=${TASK:---task.instruction none --task.max_turns 20}
EPISODES=${EPISODES:-4}
PROBLEMS=${PROBLEMS:-400}
RUN_DIR=${RUN_DIR:-runs/oreo-household}

read -r -a task <<<"$TASK"
openrlhf-ext collect --model "$MODEL" --task household "${task[@]}" --prompts "$DATA/train.jsonl" --n "$EPISODES" \
    --limit "$PROBLEMS" --temperature 1 --max-new-tokens 12 --out "$RUN_DIR.jsonl" --resume
if [ ! -e "$RUN_DIR/model/config.json" ]; then
    resume=() && [ ! -e "$RUN_DIR/config.yaml" ] || resume=(--resume)
    openrlhf-ext train oreo --config "$CONFIG" --actor.model_name_or_path "$MODEL" --data.prompt_dataset "$RUN_DIR.jsonl" \
        --run.dir "$RUN_DIR" "${resume[@]}" "$@"
fi
case " $* " in
    *" --dry-run "*) exit ;;
esac
for split in seen unseen; do
    openrlhf-ext evaluate --model sft="$MODEL" oreo="$RUN_DIR/model" --suite "$SUITE" --split "$split" "${task[@]}" \
        --out "$RUN_DIR-$split" --resume
done
