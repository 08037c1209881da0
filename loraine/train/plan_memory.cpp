// All memory of a run before step 1, whether it fits, and if not what would need less by how much. Called by plan().
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <functional>

#include "loraine/adapters/dense.h"
#include "loraine/data/examples/batcher.h"
#include "loraine/kernels/attention/attention.h"
#include "loraine/kernels/base/machine.h"
#include "loraine/kernels/products/matmul.h"
#include "loraine/model/int8.h"
#include "loraine/model/smaller_base.h"
#include "loraine/train/config/grpo_options.h"
#include "loraine/train/config/load_options.h"
#include "loraine/train/gpu/plan_gpu.h"
#include "loraine/train/loss.h"
#include "loraine/train/memory.h"
#include "loraine/train/run.h"
#include "loraine/train/sampling.h"
#include "loraine/train/token_batches.h"

namespace loraine {
namespace {

// What of the settings decides how many rows a pass has.
struct Batches {
  int64_t train, accumulation, eval, cutoff;  // examples of a micro-batch, micro-batches of an update, examples, tokens
};

Batches batches_of(const TrainConfig& c) {
  return {c.per_device_train_batch_size, c.gradient_accumulation_steps, c.per_device_eval_batch_size,
          INT64_MAX};  // examples are cut already
}

int64_t longest_prompt(const Dataset& set) {
  int64_t longest = 0;
  for (const AskedExample& asked : set.asked) longest = std::max(longest, example_rows(asked.prompt));
  return longest;
}

// Of a prompt with an answer to come.
int64_t longest_answered(const Run& run, const Dataset& set, const Batches& b) {
  return std::min(longest_prompt(set) + run.config.grpo.max_completion_length, b.cutoff);
}

// Rows of `answers` answers to `prompts` questions at most, in one batch. Where they share prompts, an answer that is not the first to its
// question has its own rows and the prompt's last, and with a prompt too short to be shared all of that.
int64_t most_answer_rows(const Run& run, const Dataset& set, const Batches& b, int64_t answers, int64_t prompts) {
  const int64_t whole = longest_answered(run, set, b);
  if (run.objective->share_up_to() < whole) return answers * whole;
  const int64_t others = answers - std::min(answers, prompts);
  return (answers - others) * whole + others * std::min(whole, run.config.grpo.max_completion_length + kLeastShared);
}

int64_t longest_train(const Run& run, const Batches& b) {
  if (run.input.stream) return std::min(run.config.cutoff_len, b.cutoff);
  if (run.input.rollouts) return longest_answered(run, run.input.data.train, b);
  int64_t longest = 0;
  std::vector<const Example*> samples;
  for (size_t i = 0; i < run.input.data.train.size(); ++i) {
    samples.clear();
    run.objective->samples(item_of(run.input.data.train, i), samples);
    for (const Example* sample : samples) longest = std::max(longest, std::min(example_rows(*sample), b.cutoff));
  }
  return longest;
}

// The rows that each item of a set takes by itself in the pass that trains, or in those beside it.
enum class In { training, beside };
int64_t of_pass(const ItemRows& rows, In pass) { return pass == In::training ? rows.trained : rows.beside; }
std::vector<int64_t> lengths_of(const Run& run, const Dataset& set, const Batches& b, In pass) {
  std::vector<int64_t> lengths(set.size());
  for (size_t i = 0; i < lengths.size(); ++i) {
    const Item item = item_of(set, i);
    const ItemRows rows = item_rows(*run.objective, item, b.cutoff);
    if (run.objective->share_up_to() > 0) item.let_go();  // its tokens were read
    lengths[i] = of_pass(rows, pass);
  }
  return lengths;
}

// Rows of the largest micro-batch that items of these lengths can make.
int64_t worst_rows(std::vector<int64_t> lengths, const Batches& b) {
  const size_t n = std::min(lengths.size(), static_cast<size_t>(b.train));
  std::partial_sort(lengths.begin(), lengths.begin() + static_cast<ptrdiff_t>(n), lengths.end(), std::greater<>());
  int64_t rows = 0;
  for (size_t i = 0; i < n; ++i) rows += lengths[i];
  return rows;
}

// Rows of items [first, last) of an order together, where they share some.
int64_t rows_together(const Run& run, const Dataset& set, const std::vector<int64_t>& order, int64_t first, int64_t last, int64_t cutoff,
                      In pass) {
  std::vector<Item> items;
  for (int64_t i = first; i < last; ++i)
    items.push_back(item_of(set, static_cast<size_t>(order.empty() ? i : order[static_cast<size_t>(i)])));
  const ItemRows rows = rows_of_items(*run.objective, items, cutoff);
  for (const Item& item : items) item.let_go();
  return of_pass(rows, pass);
}

// Rows of the largest batch when the first `n` items of an order (empty: that of the set) are taken `batch` at a time.
int64_t most_rows_in_order(const Run& run, const Dataset& set, const std::vector<int64_t>& lengths, const std::vector<int64_t>& order,
                           int64_t n, int64_t batch, int64_t cutoff, In pass) {
  int64_t most = 0;
  for (int64_t first = 0; first < n; first += batch) {
    const int64_t last = std::min(first + batch, n);
    int64_t rows = 0;
    for (int64_t i = first; i < last; ++i) rows += lengths[static_cast<size_t>(order.empty() ? i : order[static_cast<size_t>(i)])];
    if (rows > most && run.objective->share_up_to() > 0) rows = rows_together(run, set, order, first, last, cutoff, pass);
    most = std::max(most, rows);
  }
  return most;
}

// Rows of the largest micro-batch that the run will meet: its orders are known. A run too long to look at in advance counts with
// the worst that could be.
int64_t largest_train_rows(const Run& run, const Batches& b, In pass) {
  const TrainConfig& c = run.config;
  if (run.input.stream) return b.train * std::min(c.cutoff_len, b.cutoff);  // nobody knows the longest
  if (run.input.rollouts) return most_answer_rows(run, run.input.data.train, b, b.train, generation_sizes(c).prompts);
  if (counts_tokens_of_batches(c)) return b.train * std::min(c.cutoff_len, b.cutoff);  // they are filled
  const Dataset& set = run.input.data.train;
  const std::vector<int64_t> lengths = lengths_of(run, set, b, pass);
  const int64_t n = static_cast<int64_t>(lengths.size()), whole = batch_count(n, b.train, c.dataloader_drop_last);
  const int64_t updates_per_epoch = (whole + b.accumulation - 1) / b.accumulation;
  const int64_t epochs = (run.state.max_steps + updates_per_epoch - 1) / updates_per_epoch;
  constexpr int64_t kMostLookups = 20'000'000;
  if (epochs > kMostLookups / n) return worst_rows(lengths, b);
  int64_t most = 0;
  for (int64_t epoch = 0; epoch < epochs; ++epoch) {
    const std::vector<int64_t> order = epoch_order(c, set, epoch);
    const int64_t updates = std::min(updates_per_epoch, run.state.max_steps - epoch * updates_per_epoch);
    const int64_t micro_batches = std::min(whole, updates * b.accumulation);
    most = std::max(most, most_rows_in_order(run, set, lengths, order, std::min(n, micro_batches * b.train), b.train, b.cutoff, pass));
    if (order.empty()) break;  // the first epoch is a whole one, or all there is
  }
  return most;
}

int64_t largest_rows(const Run& run, const Batches& b, In pass) {
  int64_t most = largest_train_rows(run, b, pass);
  for (const Run::EvalSet& set : run.eval_sets()) {
    if (run.input.rollouts) {
      most = std::max(most, most_answer_rows(run, *set.data, b, b.eval, b.eval / eval_generations(run.config)));
      continue;
    }
    const std::vector<int64_t> lengths = lengths_of(run, *set.data, b, pass);
    most = std::max(most, most_rows_in_order(run, *set.data, lengths, {}, static_cast<int64_t>(lengths.size()), b.eval, b.cutoff, pass));
  }
  return most;
}

struct Rows {
  int64_t training, beside;  // of the largest pass that trains, and of the largest beside it
};
Rows most_rows(const Run& run, const Batches& b) {
  const int64_t training = largest_rows(run, b, In::training);
  return {training, run.objective->needs_side() ? largest_rows(run, b, In::beside) : training};
}

// Packed tiles of the GEMM library, thread stacks, buffers of writers: touched in the first steps, not planned by us.
constexpr size_t kStepOverhead = 2u << 20;

// Of the experts that are used where they lie in a file.
size_t mapped_expert_bytes(const Run& run) {
  size_t bytes = 0;
  for (const ExpertWeights* w : run.model.experts()) {
    const DenseSet* dense = run.adapter.dense.get();
    if (dense && !dense->experts[static_cast<size_t>(w->index)].matrices.empty()) continue;
    for (const ExpertStack& stack : w->stacks)
      for (const WeightPart& part : stack.parts) bytes += part.owned.bytes() == 0 ? part.weight.bytes() : 0;
  }
  return bytes;
}

// The longest prompt that is answered while the run trains and evaluates.
int64_t longest_asked(const Run& run) {
  int64_t longest = longest_prompt(run.input.data.train);
  for (const Run::EvalSet& set : run.eval_sets()) longest = std::max(longest, longest_prompt(*set.data));
  return longest;
}

// What one level of recomputing takes.
struct Layout {
  size_t activations, scratch, generation;
  MemoryNeed need;
};

// What is resident now holds the weights (their check has read them, and let go of experts that lie in a file), the data, and adapter,
// gradients and optimizer (they start as zeros); activations and scratch are yet to be touched. What is saved goes by in pieces.
Layout lay_out(Run& run, const Rows& most, int64_t longest, Recompute recompute) {
  const int64_t rows = most.training;
  const ModelConfig& model = run.model.config;
  const std::vector<const AdapterSet*> sets = {&run.adapter};
  Arena dry;
  plan_activations(run.model, rows, true, sets, dry, recompute);
  dry.take(Dtype::F32, {rows, model.hidden_size});
  const size_t scratch = std::max(scratch_bytes(run.model, rows, true, sets), run.objective->scratch_bytes(run.model, rows, &run.adapter));
  size_t planned = dry.peak() + scratch;
  if (run.objective->needs_side()) planned += SidePass::bytes(run.model, most.beside, &run.adapter);
  if (run.reference) planned += run.reference->pass_bytes(most.beside);
  if (run.evaluates_in_bf16()) planned += Bf16Evaluation::bytes(run.model, rows, sets);
  const size_t generation = run.input.rollouts ? run.input.rollouts->bytes(run.model, run.adapter, longest_asked(run)) : 0;
  planned += generation;
  size_t to_come = planned;
  if (!run.model.reads_experts_ahead) to_come += mapped_expert_bytes(run);
  // Each thread widens a 16-bit or packed weight by tiles; the head's, of vocab_size rows, are the largest.
  to_come += static_cast<size_t>(thread_count()) * widened_bytes(std::min(rows, loss_chunk(run.model)), model.hidden_size, model.vocab_size,
                                                                 run.model.head.weight.parts[0].weight.dtype,
                                                                 run.model.use_bf16 && has_bf16_products());
  int64_t widest = 0;
  for (const Weight* site : run.model.layer_sites()) widest = std::max({widest, site->in(), site->out()});
  to_come += widened_x_bytes(rows, widest, run.model.activation_dtype());
  if (run.config.frozen_matmul == "int8") to_come += int8_bytes(run.model, rows);
  to_come += static_cast<size_t>(thread_count()) * thread_bytes(run.model, rows, longest, run.objective->share_up_to() > 0);
  return {dry.peak(), scratch, generation, {resident_size() + to_come + kStepOverhead, planned}};
}

bool allowed(TrainConfig c, const std::function<void(TrainConfig&)>& change) {
  change(c);
  try {
    check_train_config(c);
  } catch (const Error&) { return false; }
  return true;
}

// What would need less, with what the plan says it saves: the most first. `missing`: bytes beyond what there is.
std::string what_saves(Run& run, Recompute recompute, size_t missing) {
  struct Saving {
    std::string setting;
    size_t bytes;
  };
  const TrainConfig& c = run.config;
  const Batches now = batches_of(c);
  const auto need = [&](const Batches& b, Recompute level) {
    return lay_out(run, most_rows(run, b), longest_train(run, b), level).need.peak;
  };
  const size_t needed = need(now, recompute);
  std::vector<Saving> savings;
  const auto add = [&](const std::string& setting, size_t less) {
    if (less < needed) savings.push_back({setting, needed - less});
  };
  if (!c.quantization_bit && allowed(c, [](TrainConfig& t) { t.quantization_bit = 4; }))
    savings.push_back({"quantization_bit: 4 (QLoRA)", bytes_saved_by_four_bits(run.model)});
  if (!trains_adapter(c) && run.adapter.dense) {
    size_t values = run.optimizer->bytes();
    for (const Parameter& p : run.optimizer->parameters()) values += 2 * p.value.bytes();
    savings.push_back({"finetuning_type: lora", values});
  }
  if (optimizer_form(c.optim) == "adamw_torch" && allowed(c, [](TrainConfig& t) { t.optim = "adamw_8bit"; })) {
    TrainConfig changed = c;
    changed.optim = "adamw_8bit";
    const OptimizerBytes less =
        bytes_needed(run.optimizer->parameters(), recipe_of(changed, run.model.config, run.optimizer->parameters(), 0));
    const size_t bytes = run.optimizer->bytes();
    savings.push_back({"optim: adamw_8bit", bytes - std::min(bytes, less.states + less.scratch)});
  }
  if (!run.model.use_bf16 && allowed(c, [](TrainConfig& t) { t.bf16 = true; })) {
    run.model.use_bf16 = true;
    const size_t less = need(now, recompute);
    run.model.use_bf16 = false;
    savings.push_back({"bf16: true", needed - std::min(needed, less) + bytes_saved_by_bf16(run.model)});
  }
  if (recompute != Recompute::block) add("gradient_checkpointing: auto", need(now, Recompute::block));
  if (const int64_t half = longest_train(run, now) / 2; half > 0) {
    Batches b = now;
    b.cutoff = half;
    add(run.input.rollouts ? fmt::format("max_prompt_length and max_completion_length of {} together (half the longest)", half)
                           : fmt::format("cutoff_len: {} (half the longest example)", half),
        need(b, recompute));
  }
  if (now.train > 1) {
    Batches b = now;
    b.train = (now.train + 1) / 2;
    b.accumulation = now.accumulation * 2;
    add(fmt::format("per_device_train_batch_size: {} with gradient_accumulation_steps: {}", b.train, b.accumulation), need(b, recompute));
  }
  if (now.eval > 1 && run.evaluates()) {
    Batches b = now;
    b.eval = (now.eval + 1) / 2;
    add(fmt::format("per_device_eval_batch_size: {}", b.eval), need(b, recompute));
  }
  constexpr size_t kLeast = 1u << 19;
  std::erase_if(savings, [](const Saving& one) { return one.bytes < kLeast; });
  std::ranges::stable_sort(savings, std::greater<>(), &Saving::bytes);
  if (savings.empty()) return "a smaller base, or one that is stored in fewer bits, needs less";
  std::string text;
  for (const Saving& one : savings)
    text += fmt::format("{}{} saves {} MiB{}", text.empty() ? "" : ", ", one.setting, (one.bytes + (1u << 19)) >> 20,
                        one.bytes >= missing ? " (enough)" : "");
  return text;
}

}  // namespace

void plan_memory(Run& run) {
  const TrainConfig& c = run.config;
  const Batches batches = batches_of(c);
  const Rows most = most_rows(run, batches);
  const int64_t rows = most.training, longest = longest_train(run, batches);
  int64_t trainable = 0;
  size_t adapter_bytes = 0;
  for (const Parameter& p : run.optimizer->parameters()) {
    trainable += p.value.numel();
    adapter_bytes += 2 * p.value.bytes();
  }
  const bool whole = !trains_adapter(c);  // what trains takes the place of the base's own
  const int64_t beside = whole ? 0 : trainable;
  run.other_parameters = run.model.parameter_count() - run.model.embedding.numel() + beside;
  if (!whole && run.adapter.dense) run.other_parameters -= run.adapter.dense->embedding.value.data ? run.model.embedding.numel() : 0;
  if (run.input.device == Device::cuda)
    return plan_gpu(run, rows, most.beside,
                    {.parameters = run.model.parameter_count() + beside,
                     .trainable = trainable,
                     .micro_batch_rows = rows,
                     .steps = run.state.max_steps,
                     .batches_per_epoch = run.micro_batches});
  std::optional<size_t> limit;
  if (c.memory_limit) limit = parse_memory_limit(*c.memory_limit);
  Recompute recompute = least_recompute(c, run.model);
  const auto advice = [&](size_t missing) { return what_saves(run, recompute, missing); };
  if (!memory_fits({resident_size(), 0}, limit)) {  // the GEMM library does not survive a lack of address space
    if (c.gradient_checkpointing == "auto") recompute = Recompute::block;
    check_memory(lay_out(run, most, longest, recompute).need, limit, advice);
  }
  warm_up_products(run.model.use_bf16);
  Layout layout = lay_out(run, most, longest, recompute);
  const Recompute least = recompute;
  const auto recompute_more = [&] {
    if (c.gradient_checkpointing == "auto")
      for (Recompute more : {Recompute::mlp, Recompute::block})
        if (more > recompute && !memory_fits(layout.need, limit)) layout = lay_out(run, most, longest, recompute = more);
  };
  recompute_more();
  const size_t in_file = mapped_expert_bytes(run);
  if (in_file > 0 && !memory_fits(layout.need, limit)) {  // pages of a file that are read give way to others
    run.model.reads_experts_ahead = true;
    layout = lay_out(run, most, longest, recompute = least);
    recompute_more();
    if (run.screen.message && memory_fits(layout.need, limit))
      run.screen.message(
          fmt::format("the experts ({} MiB) do not fit into memory together: they stay in the file, and those that are chosen are read as "
                      "they are needed",
                      in_file >> 20));
  }
  if (c.auto_find_batch_size) check_memory(layout.need, limit, advice);  // before it is shown: the next one may be another
  if (run.screen.summary)
    run.screen.summary({run.model.parameter_count() + beside, trainable,
                        run.model.weight_bytes() - (run.adapter.dense ? run.adapter.dense->replaced_bytes : 0), adapter_bytes,
                        run.optimizer->bytes(), layout.activations, layout.scratch, layout.generation, rows, run.state.max_steps,
                        run.micro_batches, recompute, layout.need.peak});
  check_memory(layout.need, limit, advice);
  if (c.dry_run) return;
  const std::vector<const AdapterSet*> sets = {&run.adapter};
  run.activation_memory = std::make_unique<Arena>(layout.activations);
  run.scratch = std::make_unique<Arena>(layout.scratch);
  run.activations = plan_activations(run.model, rows, true, sets, *run.activation_memory, recompute);
  run.d_hidden = run.activation_memory->take(Dtype::F32, {rows, run.model.config.hidden_size});
  if (run.evaluates_in_bf16()) run.bf16_evaluation = std::make_unique<Bf16Evaluation>(run.model, rows, sets);
  if (run.objective->needs_side()) run.side = std::make_unique<SidePass>(run.model, most.beside, &run.adapter);
  if (run.reference) run.reference->plan_pass(most.beside);
  if (run.input.rollouts) run.input.rollouts->plan(run.model, run.adapter, longest_asked(run));
  run.pass = {&run.activations, nullptr, sets, run.scratch.get(), true};
  if (run.objective->means_over_tokens() && run.model.config.router_aux_loss_coef != 0) {
    run.balance.emplace(RouterBalance{BalanceSums(run.model.config.num_experts), run.model.config.router_aux_loss_coef});
    run.pass.balance = &*run.balance;
  }
}

}  // namespace loraine
