#!/usr/bin/env bash
# Self-Explore, stage 1: supervised fine-tuning of the base on GSM8K's or MATH's own solutions. With STAGE=rft: the same on rft.jsonl.
# Usage: bash examples/scripts/self_explore_sft.sh gsm8k|math|chain [--dry-run [--cluster NxG]] [--section.key VALUE ...]
# Needs train.jsonl in DATA, for chain slips.jsonl. Started again, it keeps a finished model and goes on with an unfinished run. LOCAL=1: no
# Ray job (as with chain, a tiny model on a laptop).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
PATH=$PWD/.venv/bin:$PATH

TASK=${1:?gsm8k, math or chain} && shift
DATA=${DATA:-data/$TASK}
WORK=${WORK:-runs/self-explore-$TASK}
STAGE=${STAGE:-sft}
if [ "$TASK" = chain ]; then
    LOCAL=1 ROWS=slips SFT_CONFIG=${SFT_CONFIG:-examples/configs/sft_chain_tiny.yaml} # half of the chains are left to learn
    if [ "$STAGE" = sft ]; then
        MODEL=${MODEL:-models/tiny-chain} LR=${LR:-2e-3}
    else # some hundred rows teach a base without knowledge nothing
        MODEL=$WORK/sft/model LR=${LR:-5e-5} && set -- --train.max_epochs 1 "$@"
    fi
fi
MODEL=${MODEL:-deepseek-ai/deepseek-math-7b-base} # both stages start from the base
LR=${LR:-1e-5}                                     # Mistral 1e-6
CONFIG=${SFT_CONFIG:-examples/configs/sft_self_explore_${TASK}_paper.yaml}

mkdir -p "$WORK"
if [ "$STAGE" = sft ] && [ ! -e "$WORK/sft.jsonl" ]; then
    openrlhf-ext prepare sft --from "$DATA/${ROWS:-train}.jsonl" --out "$WORK/sft.jsonl"
fi
if [ -e "$WORK/$STAGE/model/config.json" ]; then exit; fi
command=(openrlhf-ext train sft --config "$CONFIG" --task "$TASK" --model.model_name_or_path "$MODEL" --adam.lr "$LR"
    --data.dataset "$WORK/$STAGE.jsonl" --data.output_key output --run.dir "$WORK/$STAGE" "$@")
if [ -e "$WORK/$STAGE/config.yaml" ]; then command+=(--resume); fi
case " $* ${LOCAL:+--dry-run} " in *" --dry-run "*) exec "${command[@]}" ;; esac
exec ray job submit -- env -C "$PWD" "${command[@]}"
