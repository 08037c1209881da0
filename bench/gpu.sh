#!/usr/bin/env bash
# What only a card can say, in ten minutes on a machine with one: bench/gpu.sh [--dry-run] [FOLDER]
# Parts one after the other, each with a limit; what they print goes to FOLDER (default: gpu-results), a table and a verdict to the screen. No setting
# of the card is changed. --dry-run: the same parts on the emulated GPU of build/, with sizes that are soon done, to see that the script runs.
# GPU_BUILD=DIR: programs that were built before (LORAINE_CUDA=ON; targets loraine, gpu_card_tests, gpu_decoder_tests, bench_gpu). docs/cuda.md
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

dry=
if [[ ${1:-} == --dry-run ]]; then dry=1; shift; fi
out=${1:-gpu-results}
mkdir -p "$out"
out=$(cd "$out" && pwd)
rm -f "$out"/*.log "$out"/*.json "$out"/parts.txt
jobs=${JOBS:-$(nproc)}
if [[ $dry ]]; then export LORAINE_GPU=emulated; build=${GPU_BUILD:-build}; tests=gpu_tests; else build=${GPU_BUILD:-build-gpu}; tests=gpu_card_tests; fi

export dry build tests out jobs

# part NAME SECONDS COMMAND...: its output to NAME.log, its end to parts.txt
part() {
  local name=$1 limit=$2 begin=$SECONDS status
  shift 2
  if [[ $(type -t "$1") == function ]]; then export -f "${1?}"; set -- bash -c "$1"; fi  # timeout takes programs alone
  timeout "$limit" "$@" >"$out/$name.log" 2>&1
  status=$?
  printf '%s %s %s\n' "$name" "$status" $((SECONDS - begin)) >>"$out/parts.txt"
  printf '%-12s %4d s  %s\n' "$name" $((SECONDS - begin)) "$(case $status in 0) echo done ;; 77) echo 'not run: see its log' ;; 124) echo 'time over' ;; *) echo "failed ($status)" ;; esac)"
}

machine() {
  uname -mr
  nproc
  if ! command -v nvidia-smi; then echo "no nvidia-smi"; return 77; fi
  nvidia-smi --query-gpu=name,compute_cap,driver_version,memory.total,memory.free,clocks.max.sm,clocks.max.memory,power.limit --format=csv
  ${CUDACXX:-nvcc} --version | tail -2
  ldconfig -p | grep -E 'libcublasLt|libcudnn' || true
}

build_all() {
  if [[ ${GPU_BUILD:-} ]]; then ls -l "$build/loraine" "$build/bench_gpu" "$build/gpu_decoder_tests"; return; fi
  if [[ $dry ]]; then cmake --build "$build" -j "$jobs" --target loraine gpu_tests gpu_decoder_tests bench_gpu; return; fi
  local capability
  capability=$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader | head -1 | tr -d .)
  [[ $capability == 90 ]] && capability=90a
  cmake -G Ninja -S . -B "$build" -DCMAKE_BUILD_TYPE=Release -DLORAINE_CUDA=ON -DLORAINE_PYTHON=OFF -DCMAKE_CUDA_ARCHITECTURES="$capability-real" &&
    cmake --build "$build" -j "$jobs" --target loraine gpu_card_tests gpu_decoder_tests bench_gpu
}

# Recorded cases of transformers and PEFT on the GPU.
cases() {
  LORAINE_PROGRAM=$build/loraine python3 tools/golden.py tests/golden/peft ${dry:+cohere granite} --device cuda
}

sanitizers() {
  command -v compute-sanitizer || { echo "no compute-sanitizer"; return 77; }
  local tool status=0
  for tool in memcheck racecheck initcheck synccheck; do
    timeout 25 compute-sanitizer --tool "$tool" --error-exitcode 9 "$build/$tests" --gtest_filter='NormsCuda.*:RowsCuda.*:ProductsCuda.*:TrainingCuda.*' >"$out/$tool.txt" 2>&1
    local rc=$?
    echo "$tool: $rc $(grep -E 'ERROR SUMMARY|RACECHECK SUMMARY' "$out/$tool.txt" | tail -1)"
    if [[ $rc == 9 ]]; then status=1; fi
  done
  return $status
}

# The three ops furthest below what the card reaches: what they really moved, and what they wait for.
profile() {
  command -v ncu || { echo "no ncu"; return 77; }
  local name
  for name in $(python3 bench/gpu_verdict.py --slowest 3 "$out"); do
    timeout 16 ncu --kernel-name "regex:$name" --launch-count 1 --section MemoryWorkloadAnalysis --section WarpStateStats "$build/bench_gpu" || true
  done
}

part machine 5 machine
part build 300 build_all
part bench 210 "$build/bench_gpu" ${dry:+--tiny}
grep '^{' "$out/bench.log" >"$out/bench.json" || true
part tests 60 "$build/$tests" ${dry:+--gtest_filter=RowsCuda.*:ScaledCuda.*}
part decoder 60 "$build/gpu_decoder_tests" ${dry:+--gtest_filter=GpuDecoder.Updates*:StepCosts.*}
part cases 60 cases
part sanitizers 100 sanitizers
part profile 50 profile
python3 bench/gpu_verdict.py "$out"
