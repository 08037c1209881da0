#!/usr/bin/env bash
# Compares build/loraine with the real libraries, installed into virtual environments (some GB). Called by ./dev interop.
# usage: tools/interop.sh [all | serve | a part of interop.py ...]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# environment FOLDER PACKAGE...: with these packages, once
environment() {
  local venv=$1
  shift
  [[ -f $venv/complete ]] && return
  echo "installing $* into $venv"
  python3 -m venv "$venv" || { echo "interop: python3 -m venv failed; on Debian: apt-get install python3-venv" >&2; exit 1; }
  "$venv/bin/pip" install --quiet --disable-pip-version-check "$@"
  touch "$venv/complete"
}

# The frameworks bring an openai of their own, older than the newest.
serve() {
  local clients=${INTEROP_CLIENTS_VENV:-build/venv-clients} frameworks=${INTEROP_FRAMEWORKS_VENV:-build/venv-frameworks}
  environment "$clients" openai anthropic prometheus_client
  environment "$frameworks" litellm langchain-openai llama-index-llms-openai-like ollama
  "$clients/bin/python" tools/interop_serve.py
  "$frameworks/bin/python" tools/interop_frameworks.py
}

libraries() {
  local venv=${INTEROP_VENV:-build/venv}
  environment "$venv" torch transformers peft bitsandbytes scipy safetensors numpy datasets modelscope-hub
  "$venv/bin/python" tools/interop_hub.py
  "$venv/bin/python" tools/interop_modelscope.py
  "$venv/bin/python" tools/interop_data.py
  "$venv/bin/python" tools/interop_families.py
  "$venv/bin/python" -O tools/interop_gguf.py # -O: the converters assert sizes of published models
  "$venv/bin/python" tools/interop_gguf_written.py
  "$venv/bin/python" tools/interop_gguf_imatrix.py
  "$venv/bin/python" tools/interop_adapters.py
  "$venv/bin/python" tools/interop.py "$@"
}

case ${1:-} in
  serve) serve ;;
  all) libraries && serve ;;
  *) libraries "$@" ;;
esac
