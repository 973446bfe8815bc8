#!/usr/bin/env bash
# One Ray job: the start model of OREO. math: Qwen2.5-Math-1.5B on the solutions of GSM8K and MATH, each rendered as collect_oreo.sh asks;
# household: MiniCPM-2B on walks, which prepare household --walks-from wrote. Afterwards: MODEL=RUN_DIR/model.
# Usage: bash examples/scripts/sft_oreo.sh math|household [--dry-run [--cluster NxG]] [--section.key VALUE ...]   LOCAL=1: no Ray job
# Started again, it keeps a finished model and goes on with an unfinished run.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
PATH=$PWD/.venv/bin:$PATH

TASK=${1:?math or household} && shift
RUN_DIR=${RUN_DIR:-runs/sft-oreo-$TASK}
case $TASK in
    math)
        MODEL=${MODEL:-Qwen/Qwen2.5-Math-1.5B} DATA=${DATA:-data/oreo-sft/math.jsonl}
        if [ ! -e "$DATA" ]; then
            mkdir -p "${DATA%/*}"
            for part in gsm8k math; do # the suite's own words about the form of the answer
                openrlhf-ext prepare sft --from "data/$part/train.jsonl" --template chat --tokenizer "$MODEL" \
                    --system "$(sed -n 's/^system: //p' "evaluation/suites/${part}_chat.yaml")" --out "$DATA.$part"
            done
            [ ! -e "$DATA.math" ] || cat "$DATA.gsm8k" "$DATA.math" >"$DATA"
        fi
        ;;
    household) MODEL=${MODEL:-openbmb/MiniCPM-2B-dpo-bf16} DATA=${DATA:-data/alfworld/sft.jsonl} ;;
esac
if [ -e "$RUN_DIR/model/config.json" ]; then exit; fi
command=(openrlhf-ext train sft --config "${CONFIG:-examples/configs/sft_oreo_${TASK}_paper.yaml}" --model.model_name_or_path "$MODEL"
    --data.dataset "$DATA" --run.dir "$RUN_DIR" "$@")
if [ -e "$RUN_DIR/config.yaml" ]; then command+=(--resume); fi
case " $* ${LOCAL:+--dry-run} " in *" --dry-run "*) exec "${command[@]}" ;; esac
exec ray job submit -- env -C "$PWD" "${command[@]}"
