// The report as text and as JSON lines. See report.h.
#include "loraine/cli/data/report.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "loraine/cli/data/marks.h"
#include "loraine/cli/progress.h"
#include "loraine/core/count_text.h"
#include "loraine/io/files/durable_file.h"

namespace loraine {
namespace {

using OrderedJson = nlohmann::ordered_json;

std::string share(int64_t part, int64_t whole) {
  return fmt::format("{} of {} ({:.3g} %)", count_text(part), count_text(whole),
                     100.0 * static_cast<double>(part) / static_cast<double>(whole));
}

std::string histogram(const Inspection& found) {
  int64_t most = 1;
  size_t digits = 1;
  for (const LengthBin& bin : found.lengths) {
    most = std::max(most, bin.count);
    digits = std::max(digits, fmt::format("{} to {}", bin.from, bin.to).size());
  }
  constexpr int64_t kWidth = 40;
  std::string out;
  for (const LengthBin& bin : found.lengths) {
    const int64_t width = (bin.count * kWidth + most - 1) / most;
    std::string bar;
    for (int64_t i = 0; i < width; ++i) bar += "█";
    out += fmt::format("  {:>{}} tokens  {} {}\n",
                       bin.from == bin.to ? fmt::format("{}", bin.from) : fmt::format("{} to {}", bin.from, bin.to), digits, bar,
                       count_text(bin.count));
  }
  return out;
}

// Marks of a text without colour; with it: what is trained green, special tokens faint, what was cut red.
std::string marked_text(const MarkedTokens& tokens, const Tokenizer* tokenizer, bool colour) {
  std::string out;
  const auto begin = [&](Mark mark) { return mark == Mark::trained ? "⟦" : mark == Mark::cut ? "✂{" : ""; };
  const auto end = [&](Mark mark) { return mark == Mark::trained ? "⟧" : mark == Mark::cut ? "}" : ""; };
  Mark open = Mark::prompt;
  for (const Stretch& stretch : tokens.stretches) {
    std::string text = plain_letters(text_between(tokens.ids, stretch, tokenizer));
    if (colour) {
      const char* code = stretch.mark == Mark::cut ? "\x1b[31m" : stretch.mark == Mark::trained ? "\x1b[32m" : "";
      out += fmt::format("{}{}{}\x1b[0m", code, stretch.special ? "\x1b[2m" : "", text);
      continue;
    }
    if (stretch.mark != open) out += end(open), out += begin(stretch.mark);
    open = stretch.mark;
    out += text;
  }
  return colour ? out : out + end(open);
}

std::string indented(std::string text) {
  for (size_t at = 0; (at = text.find('\n', at)) != std::string::npos; at += 3) text.insert(at + 1, "  ");
  return "  " + text + "\n";
}

std::string ids_text(const Example& example) {
  return fmt::format("  ids: {}\n  labels: {}\n", fmt::join(example.input_ids, " "), fmt::join(example.labels, " "));
}

OrderedJson sample_json(const Example& example, const std::string& prefix, OrderedJson line) {
  line[prefix + "input_ids"] = example.input_ids;
  line[prefix + "labels"] = example.labels;
  return line;
}

}  // namespace

std::vector<std::pair<std::string, const Dataset*>> sets_of(const DataSplit& data) {
  std::vector<std::pair<std::string, const Dataset*>> sets;
  if (data.train.num_rows > 0) sets.emplace_back("train", &data.train);
  if (data.eval.num_rows > 0) sets.emplace_back("eval", &data.eval);
  for (const NamedSet& one : data.evals) sets.emplace_back(one.name, &one.set);
  return sets;
}

std::vector<std::string> remarks(const Dataset& set, const Inspection& found, const DataReport& report) {
  std::vector<std::string> lines;
  if (set.num_truncated > 0) {
    const int64_t enough = sufficient_cutoff(set, 0), most = sufficient_cutoff(set, 0.05);
    lines.push_back(fmt::format("cut by {} {}: {}{}", set.asked.empty() ? "cutoff_len" : "max_prompt_length", report.cutoff_len,
                                share(set.num_truncated, std::max(set.num_samples, set.num_truncated)),
                                enough == 0 ? ""
                                            : fmt::format("; {}: {} cuts none, {} leaves 95 % of them whole",
                                                          set.asked.empty() ? "cutoff_len" : "max_prompt_length", enough, most)));
  }
  if (set.num_untrained > 0) lines.push_back("without one trained token: " + share(set.num_untrained, set.num_samples));
  if (set.num_empty_answers > 0)
    lines.push_back("with an empty answer, of which the end alone is trained: " + share(set.num_empty_answers, set.num_samples));
  if (found.repeated > 0) lines.push_back("the same as one before: " + share(found.repeated, found.samples));
  if (found.doubled_bos > 0) lines.push_back("beginning with the token of the beginning twice: " + share(found.doubled_bos, found.samples));
  if (found.ended + found.unended > 0)
    lines.push_back(fmt::format("the end of the last answer is trained: {}{}", share(found.ended, found.ended + found.unended),
                                found.ended == 0 ? "; what is trained so does not learn to stop" : ""));
  return lines;
}

std::string DataReport::text(bool colour) const {
  std::string out = heading + "\n";
  for (const auto& [name, set] : sets_of(data)) {
    const Inspection found = inspect(*set, special);
    out += table_text(fmt::format("{} data", name),
                      {{"examples", count_text(static_cast<int64_t>(set->size()))},
                       {"samples", count_text(found.samples)},
                       {"tokens", count_text(set->num_tokens)},
                       {"trained tokens", count_text(set->num_trained)},
                       {"shortest", count_text(found.shortest)},
                       {"median", count_text(found.median)},
                       {"longest", count_text(found.longest)},
                       {"dropped", count_text(set->num_dropped)}},
                      false);
    for (const std::string& row : set->dropped_rows) out += "dropped: " + row + "\n";
    for (const std::string& line : remarks(*set, found, *this)) out += "- " + line + "\n";
    out += histogram(found);
    const auto show = [&](const std::string& what, const Example& example, const WholeSample* whole) {
      out += fmt::format(
          "{}: {} tokens, of which {} are trained\n", what, count_text(static_cast<int64_t>(example.input_ids.size()) - example.padding),
          count_text(static_cast<int64_t>(example.labels.size()) - std::count(example.labels.begin(), example.labels.end(), -100)));
      out += indented(marked_text(marked_tokens(example, whole, tokenizer), tokenizer, colour));
      if (ids) out += ids_text(example);
    };
    const auto most = static_cast<size_t>(std::max<int64_t>(examples, 0));
    for (size_t i = 0; i < std::min(set->examples.size(), most); ++i)
      show(fmt::format("example {}", i + 1), set->examples[i], i < set->whole_samples.size() ? &set->whole_samples[i] : nullptr);
    for (size_t i = 0; i < std::min(set->pairs.size(), most); ++i) {
      show(fmt::format("pair {}, chosen", i + 1), set->pairs[i].chosen, nullptr);
      show(fmt::format("pair {}, rejected", i + 1), set->pairs[i].rejected, nullptr);
    }
    for (size_t i = 0; i < std::min(set->feedback.size(), most); ++i) {
      show(fmt::format("example {}, {}", i + 1, set->feedback[i].desirable ? "desirable" : "undesirable"), set->feedback[i].example,
           nullptr);
      show(fmt::format("example {}, for KL", i + 1), set->feedback[i].kl, nullptr);
    }
    for (size_t i = 0; i < std::min(set->decisions.size(), most); ++i) {
      const DecisionExample& one = set->decisions[i];
      const std::string& right = one.choices->names[static_cast<size_t>(one.label)];
      show(fmt::format("question {}, answered with {}", i + 1, plain_letters(right)), one.samples.front(), nullptr);
    }
    for (size_t i = 0; i < std::min(set->asked.size(), most); ++i) {
      show(fmt::format("prompt {}", i + 1), set->asked[i].prompt, nullptr);
      if (set->asked[i].reference) out += "reference:\n" + indented(plain_letters(*set->asked[i].reference));
    }
  }
  return out;
}

void DataReport::write_json(const std::string& file) const {
  DurableFile out(file);
  const auto write = [&](const OrderedJson& line) {
    const std::string text = line.dump() + "\n";
    out.write(text.data(), text.size());
  };
  for (const auto& [name, set] : sets_of(data)) {
    OrderedJson head = {{"set", set == &data.train ? "train" : "eval"}};
    if (set != &data.train && set != &data.eval) head["name"] = name;
    for (const Example& example : set->examples) {
      OrderedJson line = sample_json(example, "", head);
      if (!example.starts.empty()) line["starts"] = example.starts;
      write(line);
      example.let_go();
    }
    for (const PairExample& pair : set->pairs) {
      write(sample_json(pair.rejected, "rejected_", sample_json(pair.chosen, "chosen_", head)));
      pair.let_go();
    }
    for (const FeedbackExample& feedback : set->feedback) {
      OrderedJson line = sample_json(feedback.kl, "kl_", sample_json(feedback.example, "", head));
      line["kto_tag"] = feedback.desirable;
      write(line);
      feedback.let_go();
    }
    for (const DecisionExample& decision : set->decisions) {
      OrderedJson line = head;
      line["input_ids"] = decision.samples.front().input_ids.first(static_cast<size_t>(decision.prompt));
      line["choices"] = decision.choices->names;
      line["choice_ids"] = decision.choices->labels;
      line["label"] = decision.label;
      write(line);
      decision.let_go();
    }
    for (const AskedExample& asked : set->asked) {
      OrderedJson line = sample_json(asked.prompt, "", head);
      line["reference"] = asked.reference ? OrderedJson(*asked.reference) : OrderedJson();
      write(line);
    }
  }
  out.commit();
}

}  // namespace loraine
