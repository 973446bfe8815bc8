#!/usr/bin/env bash
# One Ray job: OREO on collected trajectories. LEVEL=step or response for the paper's variants.
# Usage: bash examples/scripts/train_oreo.sh gsm8k|math|chain [--dry-run [--cluster NxG]] [--section.key VALUE ...]
# After collect_oreo.sh TASK. LOCAL=1: no Ray job, on this machine. With --dry-run nothing is submitted.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
PATH=$PWD/.venv/bin:$PATH

TASK=${1:?which task?} && shift
SIZE=${SIZE:-paper}
LEVEL=${LEVEL:-token}
MODEL=${MODEL:-runs/sft-oreo-math/model}
DATA=${DATA:-data/$TASK/collected.jsonl}
RUN_DIR=${RUN_DIR:-runs/oreo-$TASK}
CONFIG=${CONFIG:-examples/configs/oreo_${TASK}_$SIZE.yaml}
case " $* " in *" --dry-run "*) LOCAL=1 ;; esac
submit() { if [ -n "${LOCAL:-}" ]; then "$@"; else ray job submit -- env -C "$PWD" "$@"; fi; }

submit openrlhf-ext train oreo --config "$CONFIG" --oreo.level "$LEVEL" --actor.model_name_or_path "$MODEL" \
    --data.prompt_dataset "$DATA" --run.dir "$RUN_DIR" "$@"
