#!/usr/bin/env bash
# A model that learns to answer inside tags from rewards alone: make the data, train a small model on sums, then GRPO. docs/methods/grpo.md shows what
# comes out. usage: run.sh [DIR]; the program is build/loraine, or $LORAINE_PROGRAM.
set -euo pipefail
cd "$(dirname "$0")"
dir=${1:-/tmp/loraine_grpo}
program=${LORAINE_PROGRAM:-../../build/loraine}
python3 make.py "$dir"
"$program" train sft.yaml model_name_or_path="$dir/model" dataset="$dir/answers.jsonl" output_dir="$dir/sft"
time "$program" train grpo.yaml model_name_or_path="$dir/sft" dataset="$dir/asks.jsonl" eval_dataset="$dir/held.jsonl" output_dir="$dir/grpo"
echo "before, then after:"
sed -n '1,4p' "$dir/grpo/completions.jsonl"
tail -n 4 "$dir/grpo/completions.jsonl"
