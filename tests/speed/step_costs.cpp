// Counts what one training step of a small model does: ops, parallel loops and their items, floating point operations, allocations, memory.
// The counts do not scatter, so a step that grew costlier fails here on the busiest machine. Compared with step_costs.json beside this file
// by ctest (label speed); `step_costs --record` writes it anew. Counting: allocations go through the functions defined here, parallel
// loops count themselves (core/thread_team.h).
#include <omp.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>

#include "loraine/adapters/start.h"
#include "loraine/core/error.h"
#include "loraine/core/thread_team.h"
#include "loraine/kernels/base/machine.h"
#include "loraine/model/decoder.h"
#include "loraine/train/loss.h"
#include "loraine/train/optimizers/optimizer.h"
#include "tests/support/formula_model.h"

namespace {

struct Counts {
  std::atomic<int64_t> allocations{0}, allocated_bytes{0};
};
Counts counts;

void count_allocation(size_t bytes) {
  counts.allocations.fetch_add(1, std::memory_order_relaxed);
  counts.allocated_bytes.fetch_add(static_cast<int64_t>(bytes), std::memory_order_relaxed);
}

}  // namespace

// glibc's own allocator behind counters
extern "C" {
void* __libc_malloc(size_t);
void* __libc_calloc(size_t, size_t);
void* __libc_realloc(void*, size_t);
void* __libc_memalign(size_t, size_t);

void* malloc(size_t bytes) {
  count_allocation(bytes);
  return __libc_malloc(bytes);
}
void* calloc(size_t n, size_t bytes) {
  count_allocation(n * bytes);
  return __libc_calloc(n, bytes);
}
void* realloc(void* old, size_t bytes) {
  count_allocation(bytes);
  return __libc_realloc(old, bytes);
}
void* aligned_alloc(size_t alignment, size_t bytes) {
  count_allocation(bytes);
  return __libc_memalign(alignment, bytes);
}
int posix_memalign(void** out, size_t alignment, size_t bytes) {
  count_allocation(bytes);
  *out = __libc_memalign(alignment, bytes);
  return *out ? 0 : 12;  // ENOMEM
}
}

namespace loraine {
namespace {

constexpr FormulaShape kStep{192, 512, 2048, 6, 2, 32, 3};
constexpr int64_t kRank = 8;
constexpr int64_t kFirst = 260, kSecond = 140, kRows = kFirst + kSecond;  // two sequences, more rows than one loss chunk

// Floating point operations that the step needs: frozen products forward and back (not the input gradient of the first q, k, v),
// attention's seven products over the pairs that are seen, adapters 6 per parameter and token.
double needed_flops(int64_t adapter_parameters) {
  const double rows = kRows, qkv = kStep.hidden * (kStep.heads + 2 * kStep.kv_heads) * kStep.head_dim,
               output = kStep.hidden * kStep.heads * kStep.head_dim, mlp = 3 * kStep.hidden * kStep.inner;
  const double frozen = 4 * rows * (kStep.layers * (qkv + output + mlp) + kStep.hidden * kStep.vocab) - 2 * rows * qkv;
  const double pairs = 0.5 * (kFirst * (kFirst + 1) + kSecond * (kSecond + 1));
  return frozen + 14 * pairs * kStep.layers * kStep.heads * kStep.head_dim + 6 * rows * static_cast<double>(adapter_parameters);
}

Batch make_batch() {
  Batch batch;
  for (int64_t t = 0; t < kRows; ++t) {
    batch.tokens.push_back(static_cast<int32_t>(t * 7 % kStep.vocab));
    batch.positions.push_back(static_cast<int32_t>(t < kFirst ? t : t - kFirst));
    batch.labels.push_back(static_cast<int32_t>(t * 11 % kStep.vocab));
  }
  batch.sequences = {{0, kFirst, 0, kFirst}, {kFirst, kSecond, kFirst, kSecond}};
  batch.adapter_rows = {{0, kRows, 0}};
  return batch;
}

nlohmann::json costs(bool bf16) {
  const Model model = make_model(std::make_unique<FormulaWeights>(false, kStep), bf16, kStep);
  LoraConfig lora;
  lora.r = kRank;
  lora.lora_alpha = 2 * kRank;
  set_targets(lora, "all");
  AdapterSet adapter = attach_lora(model.sites(), lora, true);
  init_lora(adapter, model.sites(), lora, 42);
  Optimizer optimizer = adamw_optimizer(adapter.parameters());
  const std::vector<const AdapterSet*> sets = {&adapter};
  Arena dry;
  plan_activations(model, kRows, true, sets, dry, Recompute::none);
  dry.take(Dtype::F32, {kRows, kStep.hidden});
  Arena memory(dry.peak()), scratch(std::max(scratch_bytes(model, kRows, true, sets), loss_scratch_bytes(model, kRows, &adapter)));
  Activations activations = plan_activations(model, kRows, true, sets, memory, Recompute::none);
  const Tensor d_hidden = memory.take(Dtype::F32, {kRows, kStep.hidden});
  Pass pass{&activations, nullptr, sets, &scratch, true};
  const Batch batch = make_batch();
  Context ctx;
  const auto step = [&] {
    optimizer.zero_gradients();
    decoder_forward(ctx, model, batch, pass);
    loss_and_head_gradient(ctx, model, batch, activations.hidden, d_hidden, 1.0f / kRows, {&adapter, true}, scratch);
    decoder_backward(ctx, model, batch, pass, adapter, d_hidden);
    optimizer.step(ctx, 1e-4, optimizer.gradient_norm(ctx), 1.0);
  };
  step();  // code is generated and buffers grow in the first
  step();
  const int64_t allocations = counts.allocations, bytes = counts.allocated_bytes;
  const LoopCounts before = loop_counts;
  step();
  nlohmann::json found = {{"allocations", counts.allocations - allocations},
                          {"allocated bytes", counts.allocated_bytes - bytes},
                          {"parallel loops", loop_counts.loops - before.loops},
                          {"items of parallel loops", loop_counts.items - before.items}};
  OpProfile profile;
  ctx.profile = &profile;
  step();
  int64_t calls = 0, parameters = 0;
  double flops = 0;
  for (const auto& [name, entry] : profile.entries) {
    calls += entry.calls;
    flops += entry.flops;
    found["calls"][name] = entry.calls;
  }
  for (const Parameter& p : optimizer.parameters()) parameters += p.value.numel();
  found["ops"] = calls;
  found["computed / needed FLOPs"] = std::round(1e4 * flops / needed_flops(parameters)) / 1e4;
  found["bytes of activations"] = dry.peak();
  found["bytes of scratch"] = scratch.peak();
  return found;
}

// Says what differs; false when something became costlier.
bool compare(const std::string& path, const nlohmann::json& found, const nlohmann::json& known) {
  constexpr double kLoss = 0.10;
  bool good = true;
  for (const auto& [what, value] : known.items()) {
    if (!value.is_number()) continue;
    const double now = found.at(what).get<double>(), before = value.get<double>();
    std::printf("%s: %s %g, recorded %g\n", path.c_str(), what.c_str(), now, before);
    if (now > before * (1 + kLoss)) {
      std::printf("  costlier by more than a tenth\n");
      good = false;
    } else if (now < before * (1 - kLoss)) {
      std::printf("  cheaper: step_costs --record keeps the gain\n");
    }
  }
  if (!known.contains("calls")) return good;
  nlohmann::json all = found.at("calls");
  all.update(known.at("calls"));
  for (const auto& [op, ignored] : all.items()) {
    const int64_t now = found["calls"].value(op, int64_t{0}), before = known["calls"].value(op, int64_t{0});
    if (now != before) std::printf("  %s: %ld calls, recorded %ld\n", op.c_str(), static_cast<long>(now), static_cast<long>(before));
  }
  return good;
}

// The library's blocks follow the instruction set and the caches: "AVX2, AuthenticAMD family 25 model 17".
std::string machine() {
  std::ifstream in("/proc/cpuinfo");
  std::map<std::string, std::string> first;
  for (std::string line; std::getline(in, line) && !line.empty();) {
    const size_t colon = line.find(':'), end = line.find_last_not_of(" \t", colon - 1);
    if (colon != std::string::npos && colon + 2 < line.size()) first[line.substr(0, end + 1)] = line.substr(colon + 2);
  }
  return instruction_set() + ", " + first["vendor_id"] + " family " + first["cpu family"] + " model " + first["model"];
}

int run(bool record) {
  omp_set_num_threads(1);
  const std::string file = LORAINE_SOURCE_DIR "/tests/speed/step_costs.json";
  nlohmann::json known = nlohmann::json::object();
  if (std::ifstream in(file); in) known = nlohmann::json::parse(in);
  bool good = true;
  for (const bool bf16 : {false, true}) {
    const std::string path = !bf16 ? "f32" : has_bf16_products() ? "bf16" : "bf16 widened";
    nlohmann::json found = costs(bf16);
    const nlohmann::json allocated = {{"allocations", found["allocations"]}, {"allocated bytes", found["allocated bytes"]}};
    found.erase("allocations");
    found.erase("allocated bytes");
    nlohmann::json& allocated_before = known["allocated"][machine()][path];
    if (record) {
      known[path] = found;
      allocated_before = allocated;
      continue;
    }
    if (!known.contains(path)) throw Error(ErrorKind::bad_data, file + " has nothing for " + path, "run step_costs --record");
    good = compare(path, found, known[path]) && good;
    if (allocated_before.is_null())
      std::printf("%s: no allocations are recorded for %s, none compared; step_costs --record does\n", path.c_str(), machine().c_str());
    else good = compare(path, allocated, allocated_before) && good;
  }
  if (record) std::ofstream(file) << known.dump(1) << "\n";
  return good ? 0 : 1;
}

}  // namespace
}  // namespace loraine

int main(int argc, char** argv) {
  try {
    return loraine::run(argc == 2 && std::string(argv[1]) == "--record");
  } catch (const loraine::Error& e) {
    std::fprintf(stderr, "step_costs: %s; %s\n", e.what(), e.hint.c_str());
    return 2;
  }
}
