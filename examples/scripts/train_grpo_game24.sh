#!/usr/bin/env bash
# One Ray job: GRPO on the 24-point game, on the cluster that `ray job submit` finds (RAY_API_SERVER_ADDRESS, or this machine).
# Usage: bash examples/scripts/train_grpo_game24.sh [--dry-run] [--section.key VALUE ...]
# The project lies in the same place on all nodes (shared disk or image). With --dry-run nothing is submitted.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
PATH=$PWD/.venv/bin:$PATH

CONFIG=${CONFIG:-examples/configs/grpo_game24_paper.yaml}
MODEL=${MODEL:-runs/sft-game24/model}
DATA=${DATA:-data/game24}
RUN_DIR=${RUN_DIR:-runs/grpo-game24}

command=(
    openrlhf-ext train grpo
    --config "$CONFIG"
    --actor.model_name_or_path "$MODEL"
    --data.prompt_dataset "$DATA/train.jsonl"
    --eval.dataset "$DATA/test.jsonl"
    --run.dir "$RUN_DIR"
    "$@"
)

case " $* " in
    *" --dry-run "*) exec "${command[@]}" ;;
esac
exec ray job submit -- env -C "$PWD" "${command[@]}"
