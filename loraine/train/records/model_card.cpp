// README.md of a trained model, laid out as transformers' modelcard.py lays it out.
#include "loraine/train/records/model_card.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <utility>

#include "loraine/io/files/durable_file.h"

namespace loraine {
namespace {

using Row = std::vector<std::pair<std::string, std::string>>;  // column, cell

// Floats with more than four decimals are cut to four.
std::string rounded(const OrderedJson& value) {
  if (value.is_string()) return value.get<std::string>();
  if (value.is_null()) return "None";
  if (!value.is_number_float()) return value.dump();
  const std::string text = python_repr(value.get<double>());
  const size_t point = text.find('.');
  return point != std::string::npos && text.size() - point - 1 > 4 ? python_fixed(value.get<double>(), 4) : text;
}

// "eval_rewards/chosen" from its `skip`-th part on: "Rewards/chosen".
std::string title_of(const std::string& key, size_t skip) {
  std::string out;
  size_t part = 0;
  for (size_t start = 0; start <= key.size(); ++part) {
    const size_t end = std::min(key.find('_', start), key.size());
    if (part >= skip) {
      std::string word = key.substr(start, end - start);
      for (char& c : word) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
      if (!word.empty()) word[0] = static_cast<char>(std::toupper(static_cast<unsigned char>(word[0])));
      out += (part > skip ? " " : "") + word;
    }
    start = end + 1;
  }
  return out;
}

bool is_timing(const std::string& key) {
  return key == "eval_runtime" || key == "eval_samples_per_second" || key == "eval_steps_per_second";
}

struct History {
  std::vector<Row> table;                    // one row per evaluation during training
  OrderedJson last = OrderedJson::object();  // the newest evaluation, by title
};

// As transformers reads it: the table ends before the first entry that holds train_runtime, so runs that count tokens have none.
History read_history(const std::vector<OrderedJson>& log) {
  History out;
  OrderedJson training_loss = "No log";
  size_t end = 0;
  while (end < log.size() && !log[end].contains("train_runtime")) ++end;
  for (size_t i = 0; i < end && end < log.size(); ++i) {
    const OrderedJson& entry = log[i];
    if (entry.contains("loss")) training_loss = entry["loss"];
    if (!entry.contains("eval_loss")) continue;
    Row row = {{"Training Loss", rounded(training_loss)},
               {"Epoch", rounded(entry.value("epoch", OrderedJson()))},
               {"Step", rounded(entry.value("step", OrderedJson()))}};
    for (auto it = entry.begin(); it != entry.end(); ++it) {
      if (it.key() == "total_flos" || it.key() == "epoch" || it.key() == "step" || is_timing(it.key())) continue;
      row.emplace_back(it.key() == "eval_loss" ? "Validation Loss" : title_of(it.key(), 1), rounded(it.value()));
    }
    out.table.push_back(std::move(row));
  }
  for (size_t i = log.size(); i-- > 0;) {
    if (!log[i].contains("eval_loss")) continue;
    for (auto it = log[i].begin(); it != log[i].end(); ++it) {
      if (it.key() == "epoch" || it.key() == "step" || is_timing(it.key())) continue;
      out.last[title_of(it.key(), it.key().starts_with("eval_") ? 1 : 0)] = it.value();
    }
    break;
  }
  return out;
}

std::string markdown_table(const std::vector<Row>& rows) {
  if (rows.empty()) return "";
  // Columns are those of the first row; a row that lacks one gets an empty cell.
  std::vector<std::vector<std::string>> lines(1);
  for (const auto& [name, cell] : rows[0]) lines[0].push_back(name);
  for (const Row& row : rows) {
    auto& line = lines.emplace_back();
    for (const std::string& column : lines[0]) {
      const auto found = std::find_if(row.begin(), row.end(), [&](const auto& item) { return item.first == column; });
      line.push_back(found == row.end() ? "" : found->second);
    }
  }
  std::vector<size_t> widths(lines[0].size(), 0);
  for (const auto& line : lines)
    for (size_t i = 0; i < line.size(); ++i) widths[i] = std::max(widths[i], line[i].size());
  std::string out;
  for (size_t n = 0; n < lines.size(); ++n) {
    for (size_t i = 0; i < widths.size(); ++i) out += fmt::format("| {:<{}} ", lines[n][i], widths[i]);
    out += "|\n";
    if (n > 0) continue;
    for (const size_t width : widths) out += "|:" + std::string(width, '-') + ":";
    out += "|\n";
  }
  return out;
}

// A plain YAML scalar where that reads back as the same string, else in single quotes.
std::string yaml_string(const std::string& text) {
  const bool odd_start = text.empty() || std::string_view("-?:,[]{}#&*!|>'\"%@` ~").find(text[0]) != std::string_view::npos;
  const bool odd_inside = text.find(": ") != std::string::npos || text.find(" #") != std::string::npos ||
                          text.find('\n') != std::string::npos || (!text.empty() && (text.back() == ':' || text.back() == ' '));
  const bool like_number =
      text.find_first_not_of("0123456789.+-eE_xXoO:") == std::string::npos && text.find_first_of("0123456789") != std::string::npos;
  std::string lower = text;
  for (char& c : lower) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  const bool word =
      lower == "true" || lower == "false" || lower == "null" || lower == "yes" || lower == "no" || lower == "on" || lower == "off";
  if (!odd_start && !odd_inside && !like_number && !word) return text;
  std::string out = "'";
  for (const char c : text) out += c == '\'' ? "''" : c == '\n' ? " " : std::string(1, c);
  return out + "'";
}

std::string front_matter(const ModelCard& card, bool peft, bool accuracy) {
  std::vector<std::string> tags;
  if (peft) {
    tags = {"base_model:adapter:" + card.base_model, "llama-factory", card.finetuning_type, "transformers"};
  } else {
    tags = {"llama-factory", card.finetuning_type, "generated_from_trainer"};
    tags.insert(tags.end(), card.extra_tags.begin(), card.extra_tags.end());
  }
  std::string out = fmt::format("---\nlibrary_name: {}\nlicense: {}\nbase_model: {}\ntags:\n", peft ? "peft" : "transformers",
                                yaml_string(card.license), yaml_string(card.base_model));
  for (const std::string& tag : tags) out += "- " + yaml_string(tag) + "\n";
  if (accuracy) out += "metrics:\n- accuracy\n";
  if (peft) out += "pipeline_tag: text-generation\n";
  return out + fmt::format("model-index:\n- name: {}\n  results: []\n---\n\n", yaml_string(card.model_name));
}

std::string dataset_phrase(const std::vector<std::string>& datasets) {
  if (datasets.empty()) return "an unknown dataset.";
  if (datasets.size() == 1) return "the " + datasets[0] + " dataset.";
  std::string out;
  for (size_t i = 0; i + 1 < datasets.size(); ++i) out += (i ? ", the " : "the ") + datasets[i];
  return out + " and the " + datasets.back() + " datasets.";
}

std::string hyperparameters(const ModelCard& card) {
  std::string out;
  const auto line = [&](const char* key, const std::string& value) { out += fmt::format("- {}: {}\n", key, value); };
  line("learning_rate", python_repr(card.learning_rate));
  line("train_batch_size", std::to_string(card.train_batch_size));
  line("eval_batch_size", std::to_string(card.eval_batch_size));
  line("seed", std::to_string(card.seed));
  if (card.devices > 1) {
    line("distributed_type", "multi-GPU");
    line("num_devices", std::to_string(card.devices));
  }
  if (card.gradient_accumulation_steps > 1) line("gradient_accumulation_steps", std::to_string(card.gradient_accumulation_steps));
  const int64_t total = card.train_batch_size * card.devices * card.gradient_accumulation_steps;
  if (total != card.train_batch_size) line("total_train_batch_size", std::to_string(total));
  if (card.devices > 1) line("total_eval_batch_size", std::to_string(card.eval_batch_size * card.devices));
  std::string name = card.optimizer;
  for (char& c : name) c = static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
  const std::string arguments = card.optimizer_args.empty() ? "No additional optimizer arguments" : card.optimizer_args;
  if (card.optimizer.find("adam") != std::string::npos)
    line("optimizer", fmt::format("Use OptimizerNames.{} with betas=({},{}) and epsilon={} and optimizer_args={}", name,
                                  python_repr(card.adam_beta1), python_repr(card.adam_beta2), python_repr(card.adam_epsilon), arguments));
  else line("optimizer", fmt::format("Use OptimizerNames.{} and the args are:\n{}", name, arguments));
  line("lr_scheduler_type", card.lr_scheduler_type);
  // A count of steps is whole, a share has a point.
  if (card.warmup != 0)
    line("lr_scheduler_warmup_steps", card.warmup >= 1 && card.warmup == static_cast<double>(static_cast<int64_t>(card.warmup))
                                          ? std::to_string(static_cast<int64_t>(card.warmup))
                                          : python_repr(card.warmup));
  if (card.max_steps) line("training_steps", std::to_string(*card.max_steps));
  else line("num_epochs", python_repr(card.num_train_epochs));
  if (card.fp16) line("mixed_precision_training", "Native AMP");
  if (card.label_smoothing_factor != 0) line("label_smoothing_factor", python_repr(card.label_smoothing_factor));
  return out;
}

}  // namespace

std::string model_card_text(const ModelCard& card) {
  const bool peft = card.finetuning_type != "full" && card.finetuning_type != "freeze";
  const History history = read_history(card.log_history);
  std::string out = front_matter(card, peft, history.last.contains("Accuracy"));
  out +=
      "<!-- This model card has been generated automatically according to the information the Trainer had access to. You\n"
      "should probably proofread and complete it, then remove this comment. -->\n\n";
  out += fmt::format("# {}\n\n", card.model_name);
  if (card.base_model.empty()) out += "This model was trained from scratch on ";
  else if (card.on_hub) out += fmt::format("This model is a fine-tuned version of [{0}](https://huggingface.co/{0}) on ", card.base_model);
  else out += fmt::format("This model is a fine-tuned version of {} on ", card.base_model);
  out += dataset_phrase(card.datasets) + "\n";
  if (!history.last.empty()) {
    out += "It achieves the following results on the evaluation set:\n";
    for (auto it = history.last.begin(); it != history.last.end(); ++it) out += fmt::format("- {}: {}\n", it.key(), rounded(it.value()));
  }
  for (const char* title : {"Model description", "Intended uses & limitations", "Training and evaluation data"})
    out += fmt::format("\n## {}\n\nMore information needed\n", title);
  out += "\n## Training procedure\n\n### Training hyperparameters\n\nThe following hyperparameters were used during training:\n";
  out += hyperparameters(card);
  out += "\n### Training results\n\n" + markdown_table(history.table) + "\n\n";
  out += "### Framework versions\n\n- loraine " + card.version;
  if (peft) return out + "\n- PEFT 0.18.1 (file format)";
  return out + "\n";
}

void write_model_card(const std::string& output_dir, const ModelCard& card) {
  write_file(output_dir + "/README.md", model_card_text(card));
}

}  // namespace loraine
