// Tables and texts of train.cpp. Called through train_screen.h.
#include "loraine/cli/train_screen.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <map>

#include "loraine/adapters/peft_methods/peft_method.h"
#include "loraine/cli/data/marks.h"
#include "loraine/cli/input_warning.h"
#include "loraine/cli/language/language.h"
#include "loraine/cli/progress.h"
#include "loraine/core/batch.h"
#include "loraine/core/context.h"
#include "loraine/core/count_text.h"
#include "loraine/data/examples/batcher.h"
#include "loraine/data/examples/item.h"
#include "loraine/kernels/base/machine.h"
#include "loraine/train/config/load_options.h"
#include "loraine/train/config/method.h"

namespace loraine {
namespace {

constexpr size_t kStretch = 600;  // bytes of a stretch of text that are shown
constexpr size_t kStretches = 16;

std::string size_text(int64_t parameters) {
  const double n = static_cast<double>(parameters);
  if (n >= 1e9) return fmt::format("{:.2f} billion parameters", n / 1e9);
  if (n >= 1e6) return fmt::format("{:.1f} million parameters", n / 1e6);
  return count_text(parameters) + " parameters";
}

std::string lora_text(const TrainConfig& c) {
  const LoraConfig lora = method_config(c);
  std::string text = lora.method    ? lora.method->words()
                     : lora.adalora ? fmt::format("AdaLoRA, rank {} to {}", lora.adalora->init_r, lora.adalora->target_r)
                                    : fmt::format("{}, rank {}", lora.use_dora ? "DoRA" : "LoRA", lora.r);
  if (!lora.method) text += fmt::format(", alpha {}", lora.lora_alpha);
  if (lora.use_rslora) text += ", rsLoRA's scale";
  if (lora.lora_dropout > 0) text += fmt::format(", dropout {}", lora.lora_dropout);
  if (lora.init_lora_weights != "true") text += ", start " + lora.init_lora_weights;
  if (c.loraplus_lr_ratio) text += fmt::format(", LoRA+ ratio {}", *c.loraplus_lr_ratio);
  text += ", targets " + (c.finetuning_type == "oft" ? c.oft_target : c.lora_target);
  if (!lora.modules_to_save.empty()) text += fmt::format(", whole {}", fmt::join(lora.modules_to_save, ","));
  if (!split_list(c.adapter_name_or_path).empty())
    text = (c.create_new_adapter ? text + ", over " : "goes on with ") + *c.adapter_name_or_path;
  return text;
}

std::string method_text(const TrainConfig& c) {
  if (trains_adapter(c)) return lora_text(c);
  if (c.finetuning_type == "full") return "full: all weights";
  return fmt::format("freeze: {} {} layers, {}", c.freeze_trainable_layers < 0 ? "the first" : "the last",
                     std::abs(c.freeze_trainable_layers), c.freeze_trainable_modules);
}

std::string type_text(const TrainConfig& c, const ModelFiles& files) {
  std::map<std::string, int64_t> elements;
  for (const TensorInfo& info : files.tensors->tensors()) elements[info.stored_as] += Tensor(nullptr, info.dtype, info.shape).numel();
  const auto most = std::max_element(elements.begin(), elements.end(), [](const auto& a, const auto& b) { return a.second < b.second; });
  std::string text = most == elements.end() ? "" : most->first;
  if (const auto how = load_options(c).quantisation) text += ", the frozen layers as " + quantisation_text(*how);
  if (c.quant_aware) text += ", the matrices as codes of " + *c.quant_aware;
  if (c.frozen_matmul == "int8") text += ", the frozen layers multiplied in int8";
  return text + (c.bf16 ? "; computed in bf16" : "; computed in f32");
}

// The beginning and the end of a long text; no letter is cut.
std::string shortened(const std::string& text) {
  if (text.size() <= kStretch) return text;
  size_t head = kStretch / 2, tail = text.size() - kStretch / 2;
  const auto inside = [&](size_t at) { return at < text.size() && (static_cast<unsigned char>(text[at]) & 0xc0) == 0x80; };
  while (head > 0 && inside(head)) --head;
  while (inside(tail)) ++tail;
  return text.substr(0, head) + fmt::format(" … ({} bytes) … ", count_text(static_cast<int64_t>(tail - head))) + text.substr(tail);
}

bool shows_colour() {
  const char *no = std::getenv("NO_COLOR"), *terminal = std::getenv("TERM");
  return isatty(STDERR_FILENO) && !(no && *no) && !(terminal && std::string_view(terminal) == "dumb");
}

std::string percent_text(int64_t part, int64_t whole) {
  const double percent = 100.0 * static_cast<double>(part) / static_cast<double>(whole);
  return percent < 0.1 ? "less than 0.1 %" : fmt::format("{:.3g} %", percent);
}

}  // namespace

RunHeading run_heading(const TrainConfig& c, const ModelFiles& files, const std::string& templated) {
  int64_t parameters = 0;
  for (const TensorInfo& info : files.tensors->tensors()) parameters += Tensor(nullptr, info.dtype, info.shape).numel();
  RunHeading heading;
  heading.model = c.model_name_or_path;
  if (const auto type = files.config.find("model_type"); type != files.config.end() && type->is_string())
    heading.model += fmt::format(" ({})", type->get<std::string>());
  heading.size = size_text(parameters);
  heading.type = type_text(c, files);
  heading.templated = templated;
  heading.method = method_text(c);
  heading.machine = fmt::format("{}, {} thread{}", instruction_set(), thread_count(), thread_count() == 1 ? "" : "s");
  return heading;
}

void print_heading(const RunHeading& h) {
  std::vector<std::vector<std::string>> rows;
  for (const auto& [name, value] : std::initializer_list<std::pair<const char*, const std::string&>>{
           {"model", h.model}, {"size", h.size}, {"type", h.type}, {"template", h.templated}, {"method", h.method}, {"machine", h.machine}})
    if (!value.empty()) rows.push_back({name, translated(plain_letters(value))});
  print_stderr(table_text("run", rows, false));
}

void print_data(const char* name, const Dataset& data) {
  if (data.num_rows == 0) return;
  const auto examples = static_cast<int64_t>(data.size());
  std::vector<std::vector<std::string>> rows = {{"examples", count_text(examples)}};
  if (data.num_samples != examples) rows.push_back({"samples packed in them", count_text(data.num_samples)});
  const std::vector<std::vector<std::string>> counts = {{"tokens", count_text(data.num_tokens)},
                                                        {"trained tokens", count_text(data.num_trained)},
                                                        {"longest", count_text(data.longest)},
                                                        {"cut", count_text(data.num_truncated)},
                                                        {"without trained tokens", count_text(data.num_untrained)},
                                                        {"dropped", count_text(data.num_dropped)}};
  rows.insert(rows.end(), counts.begin(), counts.end());
  print_stderr(table_text(fmt::format("{} data", name), rows, false));
  for (const std::string& row : data.dropped_rows) print_stderr("dropped: " + row + "\n");
}

std::string example_text(const Example& example, const Tokenizer* tokenizer, bool colour) {
  const std::vector<Stretch> all = stretches_of(example.labels, example, nullptr);
  const char *open = colour ? "\x1b[32m" : "⟦", *close = colour ? "\x1b[0m" : "⟧";
  std::string out;
  for (size_t i = 0; i < all.size(); ++i) {
    if (all.size() > kStretches && i == kStretches / 2) {
      const size_t next = all.size() - kStretches / 2;
      out += fmt::format(" … ({} tokens) … ", count_text(static_cast<int64_t>(all[next].begin - all[i].begin)));
      i = next;
    }
    const std::string text = shortened(plain_letters(text_between(example.input_ids, all[i], tokenizer)));
    out += all[i].mark == Mark::trained ? open + text + close : text;
  }
  return out;
}

void print_example(const Dataset& data, const Tokenizer* tokenizer) {
  if (data.size() == 0) return;
  const bool colour = shows_colour();
  const Item item = item_of(data, 0);
  const auto print = [&](const char* what, const Example& example) {
    const int64_t trained =
        std::count_if(example.labels.begin(), example.labels.end(), [](int32_t label) { return label != kIgnoreLabel; });
    std::string text = example_text(example, tokenizer, colour);
    for (size_t at = 0; (at = text.find('\n', at)) != std::string::npos; at += 3) text.insert(at + 1, "  ");
    print_stderr(fmt::format("{}: {} tokens, of which {} are trained, {}\n  {}\n", what, count_text(example_rows(example)),
                             count_text(trained), colour ? "in colour" : "between ⟦ and ⟧", text));
  };
  if (item.decision) {
    std::string text = example_text(*item.example, tokenizer, colour);
    for (size_t at = 0; (at = text.find('\n', at)) != std::string::npos; at += 3) text.insert(at + 1, "  ");
    const std::string& right = item.decision->choices->names[static_cast<size_t>(item.decision->label)];
    print_stderr(
        fmt::format("first question: {} tokens, answered with {}\n  {}\n", count_text(item.decision->prompt), plain_letters(right), text));
    return;
  }
  print(data.asked.empty() ? "first example" : "first prompt", *item.example);
  if (!data.pairs.empty()) print("its rejected answer", *item.other);
}

void check_rows(const TrainConfig& c, const Dataset& data, const char* name) {
  const int64_t examples = data.num_samples;
  const bool sees_all = std::ranges::any_of(data.examples, [](const Example& e) { return e.sees_all && e.starts.size() > 1; });
  if (sees_all)
    input_warning(
        fmt::format("packing: in a block of the {} data a sample sees those before it, as in LLaMA-Factory; neat_packing: true keeps "
                    "them apart",
                    name),
        c.strict, ErrorKind::usage);
  if (const int64_t enough = sufficient_cutoff(data, 0); data.num_truncated > 0 && enough > 0 && data.asked.empty()) {
    const int64_t most = sufficient_cutoff(data, 0.05);
    input_warning(
        fmt::format("{} of {} rows ({}) of the {} data are longer than cutoff_len {} and are cut; cutoff_len: {} cuts none{}",
                    count_text(data.num_truncated), count_text(examples), percent_text(data.num_truncated, examples), name, c.cutoff_len,
                    enough, most > c.cutoff_len && most < enough ? fmt::format(", {} leaves 95 % of them whole", most) : ""),
        c.strict, ErrorKind::usage);
  }
  if (data.num_truncated > 0 && !data.asked.empty())
    input_warning(fmt::format("{} of {} prompts of the {} data are longer than max_prompt_length {} and are cut at the left",
                              count_text(data.num_truncated), count_text(examples), name, c.grpo.max_prompt_length.value_or(0)),
                  c.strict, ErrorKind::usage);
  if (data.num_untrained > 0)
    input_warning(fmt::format("{} of {} rows of the {} data hold no trained token: their answers are empty, or lie behind cutoff_len ({})",
                              data.num_untrained, examples, name, c.cutoff_len),
                  c.strict, ErrorKind::usage);
  if (data.num_empty_answers > 0)
    input_warning(fmt::format("{} of {} rows of the {} data have an empty answer, of which only the end token is trained",
                              data.num_empty_answers, examples, name),
                  c.strict, ErrorKind::usage);
}

void print_summary(const TrainSummary& s, bool dry_run) {
  auto bytes = [](size_t n) { return memory_text(static_cast<double>(n)); };
  print_stderr(
      table_text("parameters",
                 {{"trainable", count_text(s.trainable)},
                  {"all", count_text(s.parameters)},
                  {"percent", fmt::format("{:.4f}", 100.0 * static_cast<double>(s.trainable) / static_cast<double>(s.parameters))}},
                 false));
  std::vector<std::vector<std::string>> memory = {{"weights", bytes(s.weight_bytes)},
                                                  {"adapter and gradients", bytes(s.adapter_bytes)},
                                                  {"optimizer", bytes(s.optimizer_bytes)},
                                                  {"activations", bytes(s.activation_bytes)},
                                                  {"recomputed", translated(s.recompute == Recompute::block ? "blocks"
                                                                            : s.recompute == Recompute::mlp ? "gate and up"
                                                                                                            : "nothing")},
                                                  {"scratch", bytes(s.scratch_bytes)}};
  if (s.generation_bytes > 0) memory.push_back({"generation", bytes(s.generation_bytes)});
  memory.push_back(
      {"sum", bytes(s.weight_bytes + s.adapter_bytes + s.optimizer_bytes + s.activation_bytes + s.scratch_bytes + s.generation_bytes)});
  print_stderr(table_text("memory", memory, false));
  print_stderr(
      fmt::format("{} steps, {} micro-batches an epoch, at most {} tokens each\n", s.steps, s.batches_per_epoch, s.micro_batch_rows));
  const std::string forecast = fmt::format("memory forecast: {}\n", bytes(s.peak_bytes));
  if (!dry_run) return print_line(STDOUT_FILENO, forecast);
  std::fputs(forecast.c_str(), stdout);  // what was asked for
  std::fflush(stdout);
}

}  // namespace loraine
