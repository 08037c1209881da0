#!/usr/bin/env bash
# All figures of docs/performance.md that this machine can give, one after the other, and the plots. Called by ./dev bench all, for an hour on
# two cores with nothing else running. What misses a program or a folder is left out, and said.
#   PYTHON        a Python with torch, transformers, peft, llama_cpp, tokenizers, matplotlib (each only for its part)
#   TOKENIZERS    folder with one folder for each tokenizer     LORAINE_DATA  folder with LLaMA-Factory's demo data
#   MODEL         SmolLM2-135M as a folder, for bench/start.py
#   GGUF          a model for bench/decoding.py                 LLAMAFACTORY, JOB  llamafactory-cli and the YAML of bench/whole_job.py
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
python=${PYTHON:-python3}
data=docs/images/data
export LORAINE_PROGRAM=${LORAINE_PROGRAM:-$PWD/build/loraine}
failed=0
mkdir -p "$data"

has() { "$python" -c "import $1" 2>/dev/null || { echo "left out: $python has no $1"; return 1; }; }
given() { [[ -n ${!1:-} ]] || { echo "left out: $1 is not set"; return 1; }; }
part() { printf '\n== %s\n' "$*"; "$@" || { echo "failed: $*"; failed=1; }; }

part "$LORAINE_PROGRAM" bench --tokens 256,512,1024,2048 --repeats 3 --new_tokens 48
part python3 tests/speed/ratios_test.py
part "$python" bench/scaling.py --json $data/scaling.json
if given TOKENIZERS; then part python3 bench/data_size.py --tokenizer "$TOKENIZERS/smollm2" --json $data/data_size.json; fi
if given MODEL && given LORAINE_DATA; then part python3 bench/start.py "$MODEL" "$LORAINE_DATA"; fi
if has peft; then
  part "$python" bench/training_step.py --tokens 512,1024 --rounds 2 --dtype f32,bf16
fi
if has llama_cpp && given GGUF; then part "$python" bench/decoding.py --json $data/decoding.json "$GGUF"; fi
if given LLAMAFACTORY && given JOB; then
  part "$python" bench/whole_job.py --llamafactory "$LLAMAFACTORY" "$JOB"
  part "$python" bench/whole_job.py --llamafactory "$LLAMAFACTORY" "$JOB" bf16=true
fi
if has tokenizers && given TOKENIZERS && given LORAINE_DATA; then
  cmake --build build --target bench_tokenizer >/dev/null
  files=()
  for folder in "$TOKENIZERS"/*/; do  # packed ones are unpacked beside each other
    if [[ -f $folder/tokenizer.json.xz ]]; then
      mkdir -p "build/tokenizers/$(basename "$folder")"
      xz -dc "$folder/tokenizer.json.xz" >"build/tokenizers/$(basename "$folder")/tokenizer.json"
      files+=("build/tokenizers/$(basename "$folder")/tokenizer.json")
    elif [[ -f $folder/tokenizer.json ]]; then
      files+=("$folder/tokenizer.json")
    fi
  done
  part "$python" bench/tokenizer.py --program build/bench_tokenizer --data "$LORAINE_DATA" "${files[@]}"
fi
if has matplotlib; then part "$python" bench/plots.py; fi
exit $failed
