// What is settled before step 1: the adapter, the number of steps, all memory and whether it fits. Called by train().
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "loraine/adapters/dense.h"
#include "loraine/adapters/peft_files.h"
#include "loraine/adapters/start.h"
#include "loraine/data/orders.h"
#include "loraine/kernels/attention/attention.h"
#include "loraine/kernels/base/machine.h"
#include "loraine/kernels/products/matmul.h"
#include "loraine/model/attach.h"
#include "loraine/model/int8.h"
#include "loraine/train/load_options.h"
#include "loraine/train/loraplus.h"
#include "loraine/train/loss.h"
#include "loraine/train/memory.h"
#include "loraine/train/method.h"
#include "loraine/train/run.h"

namespace loraine {
namespace {

// A step count: below 1 it is a share of all steps, rounded up.
int64_t step_count(double value, int64_t total) {
  return value < 1 ? static_cast<int64_t>(std::ceil(value * static_cast<double>(total))) : static_cast<int64_t>(value);
}
OrderedJson step_json(double value) { return value < 1 ? OrderedJson(value) : OrderedJson(static_cast<int64_t>(value)); }

// Rows of the largest micro-batch that `batch_size` examples of a set can make.
int64_t worst_rows(const std::vector<Example>& examples, int64_t batch_size) {
  std::vector<int64_t> lengths;
  for (const Example& e : examples) lengths.push_back(static_cast<int64_t>(e.input_ids.size()));
  size_t n = std::min(lengths.size(), static_cast<size_t>(batch_size));
  std::partial_sort(lengths.begin(), lengths.begin() + static_cast<ptrdiff_t>(n), lengths.end(), std::greater<>());
  int64_t rows = 0;
  for (size_t i = 0; i < n; ++i) rows += lengths[i];
  return rows;
}

// Rows of the largest batch when the first `n` examples of an order (empty: that of the set) are taken batch_size at a time.
int64_t most_rows_in_order(const std::vector<Example>& examples, const std::vector<int64_t>& order, int64_t n, int64_t batch_size) {
  int64_t most = 0, rows = 0;
  for (int64_t i = 0; i < n; ++i) {
    if (i % batch_size == 0) rows = 0;
    rows += static_cast<int64_t>(examples[static_cast<size_t>(order.empty() ? i : order[static_cast<size_t>(i)])].input_ids.size());
    most = std::max(most, rows);
  }
  return most;
}

// Rows of the largest micro-batch that the run will meet: its orders are known. A run too long to look at in advance counts with
// the worst that could be.
int64_t largest_rows(const Run& run) {
  const TrainConfig& c = run.config;
  const std::vector<Example>& examples = run.input.data.train.examples;
  const int64_t n = static_cast<int64_t>(examples.size()), batch = c.per_device_train_batch_size;
  const int64_t epochs = (run.state.max_steps + run.updates_per_epoch - 1) / run.updates_per_epoch;
  constexpr int64_t kMostLookups = 20'000'000;
  if (epochs > kMostLookups / n) return worst_rows(examples, batch);
  int64_t most = 0;
  for (int64_t epoch = 0; epoch < epochs; ++epoch) {
    std::vector<int64_t> order;
    if (!c.disable_shuffling) order = torch_randperm(n, static_cast<uint64_t>(c.data_seed.value_or(c.seed) + epoch));
    const int64_t updates = std::min(run.updates_per_epoch, run.state.max_steps - epoch * run.updates_per_epoch);
    const int64_t micro_batches = std::min(run.micro_batches, updates * c.gradient_accumulation_steps);
    most = std::max(most, most_rows_in_order(examples, order, std::min(n, micro_batches * batch), batch));
    if (c.disable_shuffling) break;  // the first epoch is a whole one, or all there is
  }
  return most;
}

bool inside(const std::string& path, const std::string& folder) {
  namespace fs = std::filesystem;
  std::error_code failed;
  const fs::path relative = fs::weakly_canonical(path, failed).lexically_relative(fs::weakly_canonical(folder, failed));
  return !failed && !relative.empty() && relative != "." && *relative.begin() != "..";
}

// Packed tiles of the GEMM library, thread stacks, buffers of writers: touched in the first steps, not planned by us.
constexpr size_t kStepOverhead = 2u << 20;

// What one level of recomputing takes.
struct Layout {
  size_t activations, scratch;
  MemoryNeed need;
};

// What is resident now holds the weights (their check has read them), the data, and adapter, gradients and optimizer (they start as
// zeros); activations and scratch are yet to be touched. What is saved goes by in pieces.
Layout lay_out(const Run& run, int64_t rows, Recompute recompute) {
  const ModelConfig& model = run.model.config;
  const std::vector<const AdapterSet*> sets = {&run.adapter};
  Arena dry;
  plan_activations(run.model, rows, true, sets, dry, recompute);
  dry.take(Dtype::F32, {rows, model.hidden_size});
  const size_t scratch = std::max(scratch_bytes(run.model, rows, true, sets), loss_scratch_bytes(run.model, rows, &run.adapter));
  const size_t planned = dry.peak() + scratch;
  size_t to_come = planned;
  // Each thread widens a 16-bit or packed weight by tiles; the head's, of vocab_size rows, are the largest.
  to_come +=
      static_cast<size_t>(thread_count()) * widened_bytes(std::min(rows, loss_chunk(run.model)), model.hidden_size, model.vocab_size,
                                                          run.model.head.parts[0].weight.dtype, run.model.use_bf16 && has_bf16_products());
  int64_t widest = 0;
  for (const Weight& site : run.model.blocks.front().sites) widest = std::max({widest, site.in(), site.out()});
  to_come += widened_x_bytes(rows, widest, run.model.activation_dtype());
  if (run.config.frozen_matmul == "int8") to_come += int8_bytes(run.model, rows);
  int64_t longest = 0;
  for (const Example& e : run.input.data.train.examples) longest = std::max(longest, static_cast<int64_t>(e.input_ids.size()));
  const AttentionShape shape{model.num_attention_heads, model.num_key_value_heads, model.head_dim};
  to_come += static_cast<size_t>(thread_count()) * attention_backward_bytes(shape, run.model.activation_dtype(), longest);
  return {dry.peak(), scratch, {resident_size() + to_come + kStepOverhead, planned}};
}

// All memory of the steps, at the fastest level of recomputing that fits; shows the summary.
void plan_memory(Run& run) {
  const TrainConfig& c = run.config;
  const std::vector<Example>& eval = run.input.data.eval.examples;
  const int64_t rows =
      std::max(largest_rows(run), most_rows_in_order(eval, {}, static_cast<int64_t>(eval.size()), c.per_device_eval_batch_size));
  int64_t trainable = 0;
  size_t adapter_bytes = 0;
  for (const Parameter& p : run.optimizer->parameters()) {
    trainable += p.value.numel();
    adapter_bytes += 2 * p.value.bytes();
  }
  const bool whole = c.finetuning_type != "lora";  // what trains takes the place of the base's own
  const int64_t beside = whole ? 0 : trainable;
  run.other_parameters = run.model.parameter_count() - run.model.embedding.numel() + beside;
  if (!whole && run.adapter.dense) run.other_parameters -= run.adapter.dense->embedding.value.data ? run.model.embedding.numel() : 0;
  std::optional<size_t> limit;
  if (c.memory_limit) limit = parse_memory_limit(*c.memory_limit);
  check_memory({resident_size(), 0}, limit);  // the GEMM library does not survive a lack of address space
  warm_up_products(run.model.use_bf16);
  Recompute recompute = least_recompute(c, run.model);
  Layout layout = lay_out(run, rows, recompute);
  if (c.gradient_checkpointing == "auto")
    for (Recompute more : {Recompute::mlp, Recompute::block})
      if (more > recompute && !memory_fits(layout.need, limit)) layout = lay_out(run, rows, recompute = more);
  if (run.screen.summary)
    run.screen.summary({run.model.parameter_count() + beside, trainable,
                        run.model.weight_bytes() - (run.adapter.dense ? run.adapter.dense->replaced_bytes : 0), adapter_bytes,
                        run.optimizer->bytes(), layout.activations, layout.scratch, rows, run.state.max_steps, run.micro_batches, recompute,
                        layout.need.peak});
  check_memory(layout.need, limit);
  if (c.dry_run) return;
  const std::vector<const AdapterSet*> sets = {&run.adapter};
  run.activation_memory = std::make_unique<Arena>(layout.activations);
  run.scratch = std::make_unique<Arena>(layout.scratch);
  run.activations = plan_activations(run.model, rows, true, sets, *run.activation_memory, recompute);
  run.d_hidden = run.activation_memory->take(Dtype::F32, {rows, run.model.config.hidden_size});
  run.pass = {&run.activations, nullptr, sets, run.scratch.get(), true};
}

// Names and patterns that reach nothing; `all` names layers that a model need not have.
void warn_of_words(Run& run) {
  LoraConfig given = run.lora;
  if (run.config.lora_target == "all" || run.config.lora_target == "all-linear") given.target_modules.clear();
  std::vector<std::string> paths = {kEmbeddingPath};
  for (const Weight* site : run.model.sites())
    for (const WeightPart& part : site->parts) paths.push_back(part.name);
  for (const std::string& line : words_without_effect(given, paths)) warn(run, ErrorKind::usage, line);
}

}  // namespace

void attach(Run& run) {
  const TrainConfig& c = run.config;
  if (c.finetuning_type != "lora") return attach_whole(run);
  std::vector<std::string> folders;
  for (const FoundPlace& place : adapter_places(c)) folders.push_back(place.path);
  if (c.overwrite_output_dir && run.input.folder.resume_from.empty())
    for (const std::string& folder : folders)
      if (inside(folder, c.output_dir))
        throw Error(ErrorKind::usage, fmt::format("the adapter {} lies in output_dir, and overwrite_output_dir would remove it", folder),
                    "choose another output_dir");
  const size_t merged = c.create_new_adapter || folders.empty() ? folders.size() : folders.size() - 1;
  for (size_t i = 0; i < folders.size(); ++i) {  // as LLaMA-Factory: all but the last are merged into the base, the last is trained on
    LoraConfig config;
    AdapterSet set = i >= merged ? load_adapter_to_train(run.model, folders[i], &config) : load_adapter(run.model, folders[i], &config);
    for (const auto& [kind, text] : adapter_warnings(config, folders[i], c.model_name_or_path)) warn(run, kind, text);
    if (i >= merged) {
      run.adapter = std::move(set);
      run.lora = config;
    } else {
      if (set.dense || set.embedding || set.head())
        throw Error(ErrorKind::unsupported,
                    folders[i] + ": an adapter that trains whole tensors, the embedding or the head is not merged while training",
                    "merge it first with loraine export, and train on the result");
      merge_into_weights(run.model.sites_to_change(), set);
      if (run.screen.message) run.screen.message("merged " + folders[i] + " into the base");
    }
  }
  if (merged == folders.size()) {
    run.lora = method_config(c);
    warn_of_words(run);
    run.adapter = attach_adapter(run.model, run.lora, true);
    start_adapter(run.adapter, run.model, run.lora, static_cast<uint64_t>(c.seed));
    if (quantises_base(run.lora) && c.quantization_bit.value_or(8) == 4 && c.double_quantization && run.screen.message)
      run.screen.message("LoftQ keeps the scales of its weights in f32; double_quantization goes for the other layers");
  }
  run.lora.base_model_name_or_path = c.model_name_or_path;
  run.optimizer = std::make_unique<Optimizer>(run.adapter.parameters());
  if (c.loraplus_lr_ratio)
    run.optimizer->set_rate_factors(
        loraplus_factors(run.optimizer->parameters(), {*c.loraplus_lr_ratio, c.loraplus_lr_embedding, c.learning_rate}));
}

void plan(Run& run) {
  const TrainConfig& c = run.config;
  int64_t n = static_cast<int64_t>(run.input.data.train.examples.size());
  if (n == 0)
    throw Error(ErrorKind::bad_data, "the training data hold no usable example", "look at the rows that were dropped, and at cutoff_len");
  if (run.input.data.train.num_trained == 0)
    throw Error(ErrorKind::usage, "all labels of the training data are masked: nothing would be trained",
                "check the template and the roles of the data");
  run.micro_batches = (n + c.per_device_train_batch_size - 1) / c.per_device_train_batch_size;
  run.updates_per_epoch = (run.micro_batches + c.gradient_accumulation_steps - 1) / c.gradient_accumulation_steps;
  TrainerState& s = run.state;
  s.max_steps =
      c.max_steps > 0 ? c.max_steps : static_cast<int64_t>(std::ceil(c.num_train_epochs * static_cast<double>(run.updates_per_epoch)));
  s.num_train_epochs = epoch_count(c.max_steps, run.updates_per_epoch, c.num_train_epochs);
  s.train_batch_size = c.per_device_train_batch_size;
  s.logging_steps = step_json(c.logging_steps);
  s.save_steps = step_json(c.save_steps);
  s.eval_steps = step_json(c.eval_steps.value_or(500));
  if (c.eval_strategy == "steps" && !c.eval_steps) s.eval_steps = s.logging_steps;
  s.early_stopping.patience = c.early_stopping_steps.value_or(0);
  run.logging_steps = std::max<int64_t>(1, step_count(c.logging_steps, s.max_steps));
  run.save_steps = std::max<int64_t>(1, step_count(c.save_steps, s.max_steps));
  run.eval_steps = std::max<int64_t>(1, step_count(c.eval_steps.value_or(c.logging_steps), s.max_steps));
  int64_t warmup = warmup_step_count(c.warmup_steps, c.warmup_ratio, s.max_steps);
  nlohmann::json kwargs = c.lr_scheduler_kwargs ? nlohmann::json::parse(*c.lr_scheduler_kwargs) : nlohmann::json::object();
  run.schedule = std::make_unique<Schedule>(c.lr_scheduler_type, c.learning_rate, s.max_steps, warmup,
                                            scheduler_kwargs_with_defaults(c.lr_scheduler_type, kwargs, s.max_steps, warmup));
  if (run.lora.adalora) {
    run.lora.adalora->total_step = s.max_steps;
    run.ranks = std::make_unique<RankBudget>(run.adapter, *run.lora.adalora);
  }
  plan_memory(run);
}

}  // namespace loraine
