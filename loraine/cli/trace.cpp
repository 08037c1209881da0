// loraine trace: logits, loss, adapter gradients and greedy continuations of a batch, for anyone who checks the numbers.
#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "loraine/adapters/peft_files.h"
#include "loraine/cli/commands.h"
#include "loraine/cli/input_warning.h"
#include "loraine/cli/print_line.h"
#include "loraine/cli/settings/arguments.h"
#include "loraine/cli/trace_gpu.h"
#include "loraine/core/error.h"
#include "loraine/generate/engine.h"
#include "loraine/io/files/mapped_file.h"
#include "loraine/io/safetensors/safetensors.h"
#include "loraine/model/attach.h"
#include "loraine/model/finite.h"
#include "loraine/model/gpu/gpu_support.h"
#include "loraine/model/int8.h"
#include "loraine/model/load.h"
#include "loraine/train/config/hub_access.h"
#include "loraine/train/config/load_options.h"
#include "loraine/train/config/named_adapters.h"
#include "loraine/train/gpu/device.h"
#include "loraine/train/loss.h"

namespace loraine {
namespace {

constexpr int64_t kMostSequences = 8;  // that are continued at once

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

// The adapters of a trace, and which of them each row of [B, T] runs with.
struct TraceAdapters {
  std::vector<AdapterSet> sets;
  std::vector<int> of_row;  // [B]: an index of sets, or -1 for the base
  std::vector<const AdapterSet*> pointers() const {
    std::vector<const AdapterSet*> all;
    for (const AdapterSet& set : sets) all.push_back(&set);
    return all;
  }
  const AdapterSet* at(int64_t row) const {
    const int set = of_row[static_cast<size_t>(row)];
    return set < 0 ? nullptr : &sets[static_cast<size_t>(set)];
  }
};

AdapterSet open_adapter(Model& model, const ModelFiles& files, const TrainConfig& config, const std::string& folder,
                        bool gradients = false) {
  LoraConfig lora;
  AdapterSet set = gradients ? load_adapter_to_train(model, folder, &lora, false) : load_adapter(model, folder, &lora);
  for (const auto& [kind, text] : adapter_warnings(lora, folder, files)) input_warning(text, config.strict, kind);
  return set;
}

// Ids among the names are looked up in the local caches.
std::vector<std::string> folders_of(const TrainConfig& config, const std::vector<std::string>& names) {
  std::vector<std::string> folders;
  for (const std::string& name : names) {
    const FoundPlace place = find_place(name, hub_access(config), HubKind::adapter);
    print_place(place.note);
    folders.push_back(place.path);
  }
  return folders;
}

// One adapter over all rows, or several that are on together, as if merged in turn.
TraceAdapters adapters_together(Model& model, const ModelFiles& files, const TrainConfig& config, int64_t rows, bool gradients) {
  std::vector<std::string> names;
  for (const NamedAdapter& adapter : adapters_on(named_adapters(config.adapter_name_or_path))) names.push_back(adapter.path);
  const std::vector<std::string> folders = folders_of(config, names);
  TraceAdapters out;
  out.of_row.assign(static_cast<size_t>(rows), 0);
  if (folders.size() == 1) {
    out.sets.push_back(open_adapter(model, files, config, folders[0], gradients));
    return out;
  }
  if (gradients || folders.empty())
    throw Error(ErrorKind::usage, fmt::format("adapter_name_or_path names {} adapters, and gradients are those of one", folders.size()),
                "merge the earlier ones with loraine export, or leave gradients out");
  check_side_by_side(folders);
  std::vector<AdapterSet> sets;
  for (const std::string& folder : folders) sets.push_back(open_adapter(model, files, config, folder));
  std::vector<const AdapterSet*> all;
  for (const AdapterSet& set : sets) all.push_back(&set);
  out.sets.push_back(combine_adapters(all, model.sites()));
  return out;
}

// Each row with the adapter that `text` (adapter_rows) gives it, or none.
TraceAdapters adapters_by_row(Model& model, const ModelFiles& files, const TrainConfig& config, const std::string& text, int64_t rows,
                              bool gradients) {
  if (gradients)
    throw Error(ErrorKind::usage, "adapter_rows and gradients are both given, and gradients are those of one adapter over all rows",
                "leave one of the two out");
  TraceAdapters out;
  const std::vector<NamedAdapter> names = named_adapters(config.adapter_name_or_path);
  for (const std::string& name : adapter_rows(text, rows, names)) {
    const auto at = std::find_if(names.begin(), names.end(), [&](const NamedAdapter& a) { return a.name == name; });
    out.of_row.push_back(name.empty() ? -1 : static_cast<int>(at - names.begin()));
  }
  std::vector<std::string> paths;
  for (const NamedAdapter& adapter : names) paths.push_back(adapter.path);
  const std::vector<std::string> folders = folders_of(config, paths);
  check_side_by_side(folders);
  for (const std::string& folder : folders) out.sets.push_back(open_adapter(model, files, config, folder));
  return out;
}

// Ranges of the batch's rows, one per run of sequences with the same adapter.
void set_adapter_rows(Batch& batch, const TraceAdapters& adapters, const std::vector<int64_t>& from, int64_t columns) {
  for (const Sequence& s : batch.sequences) {
    const int set = adapters.of_row[static_cast<size_t>(from[static_cast<size_t>(s.start)] / columns)];
    if (set < 0) continue;
    if (!batch.adapter_rows.empty()) {
      AdapterRows& last = batch.adapter_rows.back();
      if (last.set == set && last.start + last.length == s.start) {
        last.length += s.length;
        continue;
      }
    }
    batch.adapter_rows.push_back({s.start, s.length, set});
  }
}

// The loss where every row has the head of its own adapter: set by set, with the labels of the others masked.
double loss_by_row(Context& ctx, const Model& model, const Batch& batch, const TraceAdapters& adapters, const std::vector<int64_t>& from,
                   int64_t columns, const Tensor& hidden, Arena& scratch) {
  double sum = 0;
  for (int set = -1; set < static_cast<int>(adapters.sets.size()); ++set) {
    Batch own = batch;
    for (size_t t = 0; t < own.labels.size(); ++t)
      if (adapters.of_row[static_cast<size_t>(from[t] / columns)] != set) own.labels[t] = kIgnoreLabel;
    const LossOptions options{set < 0 ? nullptr : &adapters.sets[static_cast<size_t>(set)]};
    sum += loss_and_head_gradient(ctx, model, own, hidden, Tensor(), 0, options, scratch).loss;
  }
  return sum;
}

// Logits of all rows, the loss where there are labels, and gradients into the adapter's own tensors.
float trace_on_cpu(Context& ctx, const Model& model, const Batch& batch, TraceAdapters& adapters, bool by_row, bool gradients,
                   float grad_scale, double divisor, const TraceInput& in, const std::vector<int64_t>& from, const Tensor& logits) {
  const std::vector<const AdapterSet*> sets = adapters.pointers();
  Arena dry;
  plan_activations(model, batch.rows(), true, sets, dry);
  Arena memory(dry.peak());
  Activations activations = plan_activations(model, batch.rows(), true, sets, memory);
  size_t scratch_size = std::max(scratch_bytes(model, batch.rows(), true, sets), loss_scratch_bytes(model, batch.rows(), nullptr));
  for (const AdapterSet* set : sets) scratch_size = std::max(scratch_size, loss_scratch_bytes(model, batch.rows(), set));
  Arena scratch(scratch_size);
  Pass pass{&activations, nullptr, sets, &scratch, false};
  std::optional<RouterBalance> balance;
  if (model.config.router_aux_loss_coef != 0) {
    balance.emplace(RouterBalance{BalanceSums(model.config.num_experts), model.config.router_aux_loss_coef});
    pass.balance = &*balance;
  }
  decoder_forward(ctx, model, batch, pass);
  for (int64_t t = 0; t < batch.rows(); ++t) {
    const int64_t place = from[static_cast<size_t>(t)];
    head_logits(ctx, model, logits.row_range(place, 1), activations.hidden.row_range(t, 1), adapters.at(place / in.columns), scratch);
  }
  if (in.labels.empty()) return 0;
  Buffer d_memory(static_cast<size_t>(batch.rows() * model.config.hidden_size) * sizeof(float));
  const Tensor d(d_memory.data(), Dtype::F32, {batch.rows(), model.config.hidden_size});
  double sum = 0;
  if (by_row) sum = loss_by_row(ctx, model, batch, adapters, from, in.columns, activations.hidden, scratch);
  else sum = loss_and_head_gradient(ctx, model, batch, activations.hidden, d, grad_scale, {adapters.at(0)}, scratch).loss;
  if (gradients && !adapters.sets.empty()) {
    decoder_backward(ctx, model, batch, pass, adapters.sets[0], d);
    adapters.sets[0].finish_gradients(ctx);
  }
  return static_cast<float>(sum / divisor + (balance ? balance->factor * balance_loss(balance->sums) : 0));
}

// nullptr: it computes on the CPU.
std::unique_ptr<GpuBase> base_on_gpu(const TrainConfig& config, const DeviceChoice& device, const Model& model,
                                     std::span<const AdapterSet* const> sets, bool gradients) {
  if (!device.text.empty()) print_stderr(device.text + "\n");
  if (device.device != Device::cuda) return nullptr;
  for (const AdapterSet* set : sets) {
    const std::string lacks = gpu_lacks(*set, gradients);
    if (lacks.empty()) continue;
    const std::string text = "the adapter has " + lacks + ", which has no GPU code";
    if (config.device == "cuda") throw Error(ErrorKind::unsupported, "device: cuda: " + text, "Leave it out.");
    print_stderr("device: the CPU, since " + text + "\n");
    return nullptr;
  }
  check_gpu_room(GpuModel::shapes(model).bytes(), "a smaller base, or infer_dtype: bfloat16, needs less");
  return std::make_unique<GpuBase>(model);
}

}  // namespace

int run_trace(const std::vector<std::string>& args) {
  TrainConfig config;
  config.max_new_tokens = 0;
  std::string batch_file, output;
  std::optional<std::string> rows_text;
  bool gradients = false;
  const std::vector<Option> extra = {
      {"batch", "trace", &batch_file, "safetensors file with input_ids, labels, attention_mask: int64 [B, T], right-padded"},
      {"output", "trace", &output, "safetensors file that gets logits, loss, gradients and generated_ids"},
      {"adapter_rows", "trace", &rows_text,
       "which adapter each row of the batch runs with: 0-1:en,2:fr with adapter_name_or_path en=path,fr=path (or the folders' last names); "
       "rows count from 0, those not named run the base alone"},
      {"gradients", "trace", &gradients, "write the gradient of every adapter tensor as grad.NAME"}};
  if (!read_config(args, "trace", config, extra)) return 0;
  const int64_t new_tokens = config.max_new_tokens;
  if (config.model_name_or_path.empty() || batch_file.empty() || output.empty())
    throw Error(ErrorKind::usage, "trace needs --model_name_or_path, --batch and --output");
  check_chat_config(config);
  ModelFiles files = open_model_files(config.model_name_or_path, hub_access(config));
  print_place(files.place_note);
  const DeviceChoice device = choose_device_of_answers(config, files);
  input_warning(quantised_already(files, config), config.strict, ErrorKind::usage);
  input_warning(not_computed_in(config), config.strict, ErrorKind::usage);
  Model model = load_model(files, answer_load_options(config));
  input_warning(untied_text(model), config.strict, ErrorKind::bad_data);
  input_warning(not_finite_text(model), config.strict, ErrorKind::numeric);
  if (config.frozen_matmul == "int8") layers_to_integers(model);
  auto source = open_safetensors(batch_file);
  TraceInput in;
  in.ids = read_i64(*source, batch_file, "input_ids", in, true);
  in.labels = read_i64(*source, batch_file, "labels", in, false);
  in.mask = read_i64(*source, batch_file, "attention_mask", in, false);
  std::vector<int64_t> from;
  int64_t labels = 0, vocab = model.config.vocab_size;
  Batch batch = to_batch(in, vocab, from, labels);
  if (batch.rows() == 0) throw Error(ErrorKind::bad_data, batch_file + ": no token to compute");

  TraceAdapters adapters;
  if (rows_text) adapters = adapters_by_row(model, files, config, *rows_text, in.rows, gradients);
  else if (config.adapter_name_or_path) adapters = adapters_together(model, files, config, in.rows, gradients);
  else adapters.of_row.assign(static_cast<size_t>(in.rows), -1);
  set_adapter_rows(batch, adapters, from, in.columns);
  const std::vector<const AdapterSet*> sets = adapters.pointers();
  const double divisor = static_cast<double>(std::max<int64_t>(labels, 1));
  const float grad_scale = gradients ? static_cast<float>(1 / divisor) : 0;
  Buffer logits_memory(static_cast<size_t>(in.rows * in.columns * vocab) * sizeof(float), true);
  const Tensor logits(logits_memory.data(), Dtype::F32, {in.rows * in.columns, vocab});
  Context ctx;
  float loss = 0;
  const std::unique_ptr<GpuBase> gpu = base_on_gpu(config, device, model, sets, gradients);
  if (gpu) {
    loss = static_cast<float>(trace_on_gpu({*gpu, batch, sets, gradients && !sets.empty(), grad_scale, from}, logits) / divisor);
  } else {
    loss = trace_on_cpu(ctx, model, batch, adapters, rows_text.has_value(), gradients, grad_scale, divisor, in, from, logits);
  }
  std::vector<std::pair<std::string, Tensor>> out = {{"logits", Tensor(logits.data, Dtype::F32, {in.rows, in.columns, vocab})}};
  if (!in.labels.empty()) {
    out.push_back({"loss", Tensor(&loss, Dtype::F32, {1})});
    if (gradients && !sets.empty())
      for (const Parameter& p : adapters.sets[0].parameters())
        if (p.gradient.data) out.push_back({"grad." + p.name, p.gradient});
  }
  std::vector<int64_t> generated(static_cast<size_t>(in.rows * new_tokens), -1);
  if (new_tokens > 0) {
    int64_t widest = 1;
    for (const AdapterSet* set : sets) widest = std::max(widest, rank_columns(*set));
    const int64_t together = std::min<int64_t>(in.rows, kMostSequences);
    Engine engine(model, together * (in.columns + new_tokens), widest, together, gpu.get());
    GenerateOptions options;
    options.max_new_tokens = new_tokens;
    options.stop_ids = eos_token_ids(files, model.config);
    std::vector<std::pair<int64_t, int64_t>> requests;  // row, number
    for (const Sequence& s : batch.sequences) {
      const auto first = batch.tokens.begin() + s.start;
      const int64_t row = from[static_cast<size_t>(s.start)] / in.columns;
      requests.emplace_back(row, engine.submit({{first, first + s.length}, adapters.at(row), options, {}}));
    }
    while (engine.step(ctx)) {}
    for (const auto& [row, number] : requests) {
      const std::vector<int32_t> ids = engine.take(number);
      std::copy(ids.begin(), ids.end(), generated.begin() + static_cast<ptrdiff_t>(row * new_tokens));
    }
    out.push_back({"generated_ids", Tensor(generated.data(), Dtype::I64, {in.rows, new_tokens})});
  }
  check_mapped_files();
  write_safetensors(output, out, {{"format", "pt"}});
  return 0;
}

}  // namespace loraine
