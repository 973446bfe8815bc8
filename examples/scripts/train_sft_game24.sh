#!/usr/bin/env bash
# One Ray job: supervised fine-tuning on search traces, on the cluster that `ray job submit` finds (RAY_API_SERVER_ADDRESS, or this
# machine). Usage: bash examples/scripts/train_sft_game24.sh [--dry-run] [--section.key VALUE ...]
# The project lies in the same place on all nodes (shared disk or image). With --dry-run nothing is submitted.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
PATH=$PWD/.venv/bin:$PATH

CONFIG=${CONFIG:-examples/configs/sft_game24_paper.yaml}
MODEL=${MODEL:-Qwen/Qwen2.5-0.5B}
DATA=${DATA:-data/game24}
RUN_DIR=${RUN_DIR:-runs/sft-game24}

command=(
    openrlhf-ext train sft
    --config "$CONFIG"
    --model.model_name_or_path "$MODEL"
    --data.dataset "$DATA/sft.jsonl"
    --eval.dataset "$DATA/validation.jsonl"
    --run.dir "$RUN_DIR"
    "$@"
)

case " $* " in
    *" --dry-run "*) exec "${command[@]}" ;;
esac
exec ray job submit -- env -C "$PWD" "${command[@]}"
