// Planning and running of batches for evaluation.
#include "loraine/eval/subject.h"

#include "loraine/data/batcher.h"
#include "loraine/train/loss.h"

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

}  // namespace

Forward::Forward(const Subject& subject, int64_t rows)
    : model_(subject.loaded.model),
      memory_(activation_bytes(subject, rows)),
      scratch_(std::max(scratch_bytes(model_, rows, false, sets_of(subject)), loss_scratch_bytes(model_, rows, subject.adapter))),
      activations_(plan_activations(model_, rows, false, sets_of(subject), memory_)),
      pass_{&activations_, nullptr, sets_of(subject), &scratch_, false} {}

std::vector<std::vector<float>> Forward::last_logits(std::span<const std::vector<int32_t>> prompts, std::span<const int32_t> ids) {
  std::vector<Example> examples;
  std::vector<const Example*> picked;
  for (const auto& prompt : prompts) examples.push_back({prompt, std::vector<int32_t>(prompt.size(), kIgnoreLabel)});
  for (const Example& example : examples) picked.push_back(&example);
  Batch batch = make_batch(picked);
  if (!pass_.adapters.empty()) batch.adapter_rows = {{0, batch.rows(), 0}};
  decoder_forward(ctx, model_, batch, pass_);
  std::vector<float> logits(static_cast<size_t>(model_.config.vocab_size));
  std::vector<std::vector<float>> wanted;
  for (const Sequence& sequence : batch.sequences) {
    head_logits(ctx, model_, Tensor(logits.data(), Dtype::F32, {1, model_.config.vocab_size}),
                activations_.hidden.row_range(sequence.start + sequence.length - 1, 1),
                pass_.adapters.empty() ? nullptr : pass_.adapters[0], scratch_);
    wanted.emplace_back();
    for (int32_t id : ids) wanted.back().push_back(logits[static_cast<size_t>(id)]);
  }
  return wanted;
}

}  // namespace loraine
