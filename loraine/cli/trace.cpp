// loraine trace: logits, loss, adapter gradients and greedy continuations of a batch, for anyone who checks the numbers.
#include <fmt/format.h>

#include <cstring>

#include "loraine/adapters/peft_files.h"
#include "loraine/cli/arguments.h"
#include "loraine/cli/commands.h"
#include "loraine/core/error.h"
#include "loraine/generate/engine.h"
#include "loraine/io/mapped_file.h"
#include "loraine/io/safetensors.h"
#include "loraine/model/attach.h"
#include "loraine/model/load.h"
#include "loraine/train/loss.h"

namespace loraine {
namespace {

struct TraceInput {
  int64_t rows = 0, columns = 0;
  std::vector<int64_t> ids, labels, mask;  // [B, T] each; labels and mask may be empty
};

std::vector<int64_t> read_i64(const TensorSource& source, const std::string& file, const char* name, TraceInput& in, bool required) {
  const TensorInfo* info = source.find(name);
  if (!info) {
    if (required) throw Error(ErrorKind::bad_data, fmt::format("{}: no tensor {}, expected int64 [B, T]", file, name));
    return {};
  }
  if (info->dtype != Dtype::I64 || info->shape.size() != 2)
    throw Error(ErrorKind::bad_data, fmt::format("{}: {} is {}, expected I64 [B, T]", file, name, info->stored_as));
  if (in.rows == 0) {
    in.rows = info->shape[0];
    in.columns = info->shape[1];
  }
  if (info->shape[0] != in.rows || info->shape[1] != in.columns)
    throw Error(ErrorKind::bad_data, fmt::format("{}: {} has another shape than input_ids", file, name));
  Tensor view = source.map(*info);
  std::vector<int64_t> values(static_cast<size_t>(in.rows * in.columns));
  std::memcpy(values.data(), view.data, view.bytes());
  return values;
}

// Rows without their padding, laid end to end; labels shifted. from[t] is the place in [B, T] of batch row t.
Batch to_batch(const TraceInput& in, int64_t vocab, std::vector<int64_t>& from, int64_t& label_count) {
  Batch batch;
  for (int64_t b = 0; b < in.rows; ++b) {
    int64_t length = 0, start = batch.rows();
    for (int64_t t = 0; t < in.columns; ++t)
      if (in.mask.empty() || in.mask[static_cast<size_t>(b * in.columns + t)]) ++length;
    for (int64_t t = 0; t < length; ++t) {
      size_t at = static_cast<size_t>(b * in.columns + t);
      if (!in.mask.empty() && !in.mask[at])
        throw Error(ErrorKind::bad_data, "attention_mask: padding before a token; only right padding is taken");
      if (in.ids[at] < 0 || in.ids[at] >= vocab)
        throw Error(ErrorKind::bad_data, fmt::format("input_ids: {} lies outside the vocabulary of {}", in.ids[at], vocab));
      batch.tokens.push_back(static_cast<int32_t>(in.ids[at]));
      batch.positions.push_back(static_cast<int32_t>(t));
      bool next = t + 1 < length && !in.labels.empty();
      batch.labels.push_back(next ? static_cast<int32_t>(in.labels[at + 1]) : kIgnoreLabel);
      if (next && in.labels[at + 1] != kIgnoreLabel) ++label_count;
      from.push_back(static_cast<int64_t>(at));
    }
    if (length) batch.sequences.push_back({start, length, start, length});
  }
  return batch;
}

// One adapter, or several that are on together, as if merged in turn.
AdapterSet open_adapters(const Model& model, const std::vector<std::string>& folders, bool gradients) {
  if (folders.size() == 1) return load_adapter(model, folders[0], true);
  if (gradients || folders.empty())
    throw Error(ErrorKind::usage, fmt::format("adapter_name_or_path names {} adapters, and gradients are those of one", folders.size()),
                "merge the earlier ones with loraine export, or leave gradients out");
  std::vector<AdapterSet> sets;
  for (const std::string& folder : folders) sets.push_back(load_adapter(model, folder, false));
  std::vector<const AdapterSet*> all;
  for (const AdapterSet& set : sets) all.push_back(&set);
  return combine_adapters(all, model.sites());
}

}  // namespace

int run_trace(const std::vector<std::string>& args) {
  TrainConfig config;
  config.max_new_tokens = 0;
  std::string batch_file, output;
  bool gradients = false;
  const std::vector<Option> extra = {
      {"batch", "trace", &batch_file, "safetensors file with input_ids, labels, attention_mask: int64 [B, T], right-padded"},
      {"output", "trace", &output, "safetensors file that gets logits, loss, gradients and generated_ids"},
      {"gradients", "trace", &gradients, "write the gradient of every adapter tensor as grad.NAME"}};
  if (!read_config(args, "trace", config, extra)) return 0;
  const int64_t new_tokens = config.max_new_tokens;
  if (config.model_name_or_path.empty() || batch_file.empty() || output.empty())
    throw Error(ErrorKind::usage, "trace needs --model_name_or_path, --batch and --output");
  ModelFiles files = open_model_files(config.model_name_or_path);
  Model model = load_model(files, config.bf16);
  AdapterSet adapter;
  bool adapted = config.adapter_name_or_path.has_value();
  if (adapted) adapter = open_adapters(model, split_list(config.adapter_name_or_path), gradients);
  auto source = open_safetensors(batch_file);
  TraceInput in;
  in.ids = read_i64(*source, batch_file, "input_ids", in, true);
  in.labels = read_i64(*source, batch_file, "labels", in, false);
  in.mask = read_i64(*source, batch_file, "attention_mask", in, false);
  std::vector<int64_t> from;
  int64_t labels = 0, vocab = model.config.vocab_size;
  Batch batch = to_batch(in, vocab, from, labels);
  if (batch.rows() == 0) throw Error(ErrorKind::bad_data, batch_file + ": no token to compute");

  std::vector<const AdapterSet*> sets;
  if (adapted) {
    sets = {&adapter};
    batch.adapter_rows = {{0, batch.rows(), 0}};
  }
  Context ctx;
  Arena dry;
  plan_activations(model, batch.rows(), true, sets, dry);
  Arena memory(dry.peak());
  Activations activations = plan_activations(model, batch.rows(), true, sets, memory);
  Arena scratch(
      std::max(scratch_bytes(model, batch.rows(), true, sets), loss_scratch_bytes(model, batch.rows(), adapted ? &adapter : nullptr)));
  Pass pass{&activations, nullptr, sets, &scratch, false};
  decoder_forward(ctx, model, batch, pass);

  Buffer logits_memory(static_cast<size_t>(in.rows * in.columns * vocab) * sizeof(float), true);
  Tensor logits(logits_memory.data(), Dtype::F32, {in.rows * in.columns, vocab});
  for (int64_t t = 0; t < batch.rows(); ++t)
    head_logits(ctx, model, logits.row_range(from[static_cast<size_t>(t)], 1), activations.hidden.row_range(t, 1),
                adapted ? &adapter : nullptr, scratch);
  std::vector<std::pair<std::string, Tensor>> out = {{"logits", Tensor(logits.data, Dtype::F32, {in.rows, in.columns, vocab})}};
  float loss = 0;
  if (!in.labels.empty()) {
    Buffer d_memory(static_cast<size_t>(batch.rows() * model.config.hidden_size) * sizeof(float));
    Tensor d(d_memory.data(), Dtype::F32, {batch.rows(), model.config.hidden_size});
    double divisor = static_cast<double>(std::max<int64_t>(labels, 1));
    LossSums sums = loss_and_head_gradient(ctx, model, batch, activations.hidden, d, gradients ? static_cast<float>(1 / divisor) : 0,
                                           {adapted ? &adapter : nullptr}, scratch);
    loss = static_cast<float>(sums.loss / divisor);
    out.push_back({"loss", Tensor(&loss, Dtype::F32, {1})});
    if (gradients && adapted) {
      decoder_backward(ctx, model, batch, pass, adapter, d);
      for (const Parameter& p : adapter.parameters()) out.push_back({"grad." + p.name, p.gradient});
    }
  }
  std::vector<int64_t> generated(static_cast<size_t>(in.rows * new_tokens), -1);
  if (new_tokens > 0) {
    Engine engine(model, in.columns + new_tokens, std::max<int64_t>(1, adapter.widest()));
    GenerateOptions options;
    options.max_new_tokens = new_tokens;
    options.stop_ids = eos_token_ids(files, model.config);
    for (const Sequence& s : batch.sequences) {
      std::span<const int32_t> prompt(batch.tokens.data() + s.start, static_cast<size_t>(s.length));
      std::vector<int32_t> ids = engine.generate(ctx, prompt, adapted ? &adapter : nullptr, options);
      int64_t row = from[static_cast<size_t>(s.start)] / in.columns;
      std::copy(ids.begin(), ids.end(), generated.begin() + static_cast<ptrdiff_t>(row * new_tokens));
    }
    out.push_back({"generated_ids", Tensor(generated.data(), Dtype::I64, {in.rows, new_tokens})});
  }
  check_mapped_files();
  write_safetensors(output, out, {{"format", "pt"}});
  return 0;
}

}  // namespace loraine
