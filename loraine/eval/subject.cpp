// Planning and running of batches for evaluation.
#include "loraine/eval/subject.h"

#include "loraine/data/examples/batcher.h"
#include "loraine/model/gpu/gpu_answers.h"
#include "loraine/train/gpu/gpu_losses.h"
#include "loraine/train/loss.h"
#include "loraine/train/memory.h"
#include "loraine/train/objectives/reward_objective.h"
#include "loraine/train/token_loss.h"

namespace loraine {
namespace {

std::vector<const AdapterSet*> sets_of(const Subject& subject) {
  if (!subject.adapter) return {};
  return {subject.adapter};
}

size_t activation_bytes(const Subject& subject, int64_t rows) {
  Arena dry;
  plan_activations(subject.loaded.model, rows, false, sets_of(subject), dry);
  return dry.peak();
}

size_t forward_scratch_bytes(const Subject& subject, int64_t rows) {
  const Model& model = subject.loaded.model;
  return std::max(scratch_bytes(model, rows, false, sets_of(subject)),
                  loss_scratch_bytes(model, rows, subject.adapter, token_loss(subject.loaded.config).divergence != 0));
}

size_t checked_activation_bytes(const Subject& subject, int64_t rows) {
  const size_t activations = activation_bytes(subject, rows);
  check_room(subject, activations + forward_scratch_bytes(subject, rows));
  return activations;
}

constexpr int64_t kGpuLogitRows = 1024;  // at a time

// Stacks of threads, tiles of the GEMM library, answers: not planned by us.
constexpr size_t kOverhead = 8u << 20;

MemoryNeed need_of(size_t bytes) { return {resident_size() + bytes + kOverhead, bytes}; }

std::optional<size_t> limit_of(const Subject& subject) {
  const auto& text = subject.loaded.config.memory_limit;
  return text ? std::optional(parse_memory_limit(*text)) : std::nullopt;
}

}  // namespace

bool has_room(const Subject& subject, size_t bytes) { return memory_fits(need_of(bytes), limit_of(subject)); }

void check_room(const Subject& subject, size_t bytes) {
  check_memory(need_of(bytes), limit_of(subject), [](size_t) {
    return "a smaller per_device_eval_batch_size, batch_size (of an examination), cutoff_len, ppl_window or max_new_tokens needs less";
  });
}

Forward::Forward(const Subject& subject, int64_t rows)
    : model_(subject.loaded.model), pass_{&activations_, nullptr, sets_of(subject), &scratch_, false} {
  if (GpuBase* gpu = subject.loaded.gpu.get()) {
    const int64_t columns = subject.adapter ? rank_columns(*subject.adapter) : 1, logit_rows = std::min(rows, kGpuLogitRows);
    check_gpu_room(GpuAnswers::bytes(*gpu, rows, columns, logit_rows), "a smaller per_device_eval_batch_size or cutoff_len needs less");
    gpu_ = std::make_unique<GpuAnswers>(*gpu, rows, columns, logit_rows);
    scratch_ = Arena(reward_scratch_bytes(model_, rows));
    return;
  }
  memory_ = Arena(checked_activation_bytes(subject, rows));
  scratch_ = Arena(forward_scratch_bytes(subject, rows));
  activations_ = plan_activations(model_, rows, false, sets_of(subject), memory_);
}

Forward::~Forward() = default;

void Forward::run(const Batch& batch) {
  if (gpu_) gpu_->forward(batch, pass_.adapters);
  else decoder_forward(ctx, model_, batch, pass_);
}

GpuDecoder* Forward::gpu() const { return gpu_ ? &gpu_->decoder() : nullptr; }

EvalSums Forward::evaluate(std::span<const Example> examples, int64_t batch_size, const std::function<void(int64_t)>& on_batch,
                           const TokenLoss& loss, const std::function<Tensor(const Batch&)>& reference) {
  if (!gpu_) return evaluate_examples(ctx, model_, examples, batch_size, pass_, on_batch, loss, reference);
  return evaluate_examples(ctx, model_, examples, batch_size, pass_, on_batch, loss, reference, [&](const Batch& batch) {
    gpu_->forward(batch, pass_.adapters);
    return losses_on_gpu(gpu_->decoder(), batch, loss, 0);
  });
}

std::vector<std::vector<float>> Forward::last_logits(std::span<const std::vector<int32_t>> prompts, std::span<const int32_t> ids) {
  std::vector<Example> examples;
  std::vector<const Example*> picked;
  for (const auto& prompt : prompts) examples.push_back({prompt, std::vector<int32_t>(prompt.size(), kIgnoreLabel)});
  for (const Example& example : examples) picked.push_back(&example);
  Batch batch = make_batch(picked);
  if (!pass_.adapters.empty()) batch.adapter_rows = {{0, batch.rows(), 0}};
  run(batch);
  std::vector<float> logits(static_cast<size_t>(model_.config.vocab_size));
  std::vector<std::vector<float>> wanted;
  for (const Sequence& sequence : batch.sequences) {
    const Tensor row(logits.data(), Dtype::F32, {1, model_.config.vocab_size});
    const int64_t last = sequence.start + sequence.length - 1;
    if (gpu_) gpu_->logits(row, std::span(&last, 1));
    else
      head_logits(ctx, model_, row, activations_.hidden.row_range(last, 1), pass_.adapters.empty() ? nullptr : pass_.adapters[0], scratch_);
    wanted.emplace_back();
    for (int32_t id : ids) wanted.back().push_back(logits[static_cast<size_t>(id)]);
  }
  return wanted;
}

}  // namespace loraine
