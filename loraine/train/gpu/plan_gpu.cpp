// What is planned is what is taken: one piece of device memory each for base, adapter and passes.
#include "loraine/train/gpu/plan_gpu.h"

#include <fmt/format.h>

#include "loraine/core/gpu.h"
#include "loraine/model/gpu/gpu_support.h"
#include "loraine/train/gpu/gpu_training.h"
#include "loraine/train/memory.h"
#include "loraine/train/run.h"

namespace loraine {
namespace {

// What the setting allows, fastest first.
std::vector<Recompute> levels_of(const std::string& gradient_checkpointing) {
  if (gradient_checkpointing == "true") return {Recompute::block};
  if (gradient_checkpointing == "mlp") return {Recompute::mlp};
  if (gradient_checkpointing == "false") return {Recompute::none};
  return {Recompute::none, Recompute::mlp, Recompute::block};
}

int64_t to_mib(size_t bytes) { return static_cast<int64_t>((bytes + (1u << 20) - 1) >> 20); }

}  // namespace

void plan_gpu(Run& run, int64_t most_rows, int64_t side_rows, TrainSummary summary) {
  const TrainConfig& c = run.config;
  if (const std::string lacks = gpu_lacks(run.adapter, true); !lacks.empty())
    throw Error(ErrorKind::unsupported, fmt::format("device: cuda: the adapter has {}, which has no GPU code", lacks),
                "Run it on the CPU (device: cpu).");
  const size_t free = free_gpu_bytes();
  const std::vector<Recompute> levels = levels_of(c.gradient_checkpointing);
  GpuTrainingShape shape{most_rows, Recompute::none, run.objective->needs_side() ? side_rows : 0, run.objective->parameters()};
  const size_t reference = run.reference ? run.reference->gpu_bytes(side_rows) : 0;
  GpuTraining::Bytes bytes{};
  for (const Recompute level : levels) {  // the first that fits, fastest first
    shape.recompute = summary.recompute = level;
    bytes = GpuTraining::bytes(run.model, run.adapter, shape);
    bytes.other += reference;
    if (bytes.all() <= free) break;
  }
  summary.weight_bytes = bytes.base;
  summary.adapter_bytes = bytes.adapter / 2, summary.optimizer_bytes = bytes.adapter / 2;  // values and gradients, two moments
  summary.activation_bytes = bytes.decoder;
  summary.scratch_bytes = bytes.other;
  // Of the host: the base and the adapter as they were loaded, and pinned memory on the way to the card.
  const size_t pinned = size_t{16} << 20, on_host = pinned + bytes.adapter / 4;
  summary.peak_bytes = resident_size() + on_host + (open_gpu().emulated ? bytes.all() : 0);
  if (run.screen.summary) run.screen.summary(summary);
  if (run.screen.message)
    run.screen.message(fmt::format("GPU memory: the table's sum, {} MiB, of {} MiB that are free; the forecast is the host's",
                                   to_mib(bytes.all()), to_mib(free)));
  if (bytes.all() > free)
    throw Error(
        ErrorKind::out_of_memory,
        fmt::format("this run needs {} MiB of GPU memory, and {} MiB of {} are free", to_mib(bytes.all()), to_mib(free), open_gpu().name),
        fmt::format("{}bf16: true and fewer tokens a micro-batch ({} now) need less; or run on the CPU (device: cpu)",
                    levels.back() == Recompute::block ? "" : "gradient_checkpointing: auto, ", most_rows));
  std::optional<size_t> limit;
  if (c.memory_limit) limit = parse_memory_limit(*c.memory_limit);
  check_memory({summary.peak_bytes, on_host}, limit,
               [](size_t) { return std::string("the base is loaded in the host's memory before it is moved; a smaller one needs less"); });
  if (c.dry_run) return;
  run.activation_memory = std::make_unique<Arena>(64);
  run.scratch = std::make_unique<Arena>(64 + run.objective->scratch_bytes_beside_gpu(run.model, most_rows));
  run.pass = {&run.activations, nullptr, {&run.adapter}, run.scratch.get(), true};
  run.gpu = std::make_unique<GpuTraining>(c, run.model, run.adapter, *run.optimizer, shape);
  run.gpu->put();
  if (shape.side_rows > 0)
    run.side = std::make_unique<SidePass>(
        run.model, [gpu = run.gpu.get()](const Batch& batch, bool adapted) { return gpu->side_losses(batch, adapted); });
  if (run.reference) run.reference->plan_pass_on_gpu(side_rows);
  run.d_hidden = run.gpu->d_hidden();
}

}  // namespace loraine
