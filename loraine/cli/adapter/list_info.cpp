// loraine adapter list, info and check: what adapters say of themselves.
#include <fmt/format.h>

#include <algorithm>
#include <cstdio>

#include "loraine/adapters/check/compatibility.h"
#include "loraine/adapters/stored/facts.h"
#include "loraine/cli/adapter/adapter.h"
#include "loraine/cli/adapter/words.h"
#include "loraine/cli/progress.h"
#include "loraine/core/count_text.h"
#include "loraine/core/error.h"

namespace loraine {
namespace {

struct ListSettings {
  bool json = false;
};
std::vector<Option> list_options(ListSettings& s) {
  return {{"json", "adapter list", &s.json, "as JSON, with everything that info says of each"}};
}

struct InfoSettings {
  bool json = false;
};
std::vector<Option> info_options(InfoSettings& s) { return {{"json", "adapter info", &s.json, "as JSON"}}; }

struct CheckSettings {
  bool json = false;
  std::string programs;
};
std::vector<Option> check_options(CheckSettings& s) {
  return {{"for", "adapter check", &s.programs,
           "these programs alone: loraine, peft, vllm, sglang, llama.cpp, mlx-lm; with one of them that does "
           "not load it the exit code is 1"},
          {"json", "adapter check", &s.json, "as JSON"}};
}

std::string rank_text(const AdapterFacts& facts) {
  if (facts.least_rank != facts.largest_rank) return fmt::format("{}–{}", facts.least_rank, facts.largest_rank);
  if (facts.largest_rank > 0) return std::to_string(facts.largest_rank);
  return facts.r.value_or(0) > 0 ? std::to_string(*facts.r) : "–";
}

std::string some_of(const std::vector<std::string>& items, size_t most) {
  const std::vector<std::string> first(items.begin(), items.begin() + static_cast<ptrdiff_t>(std::min(items.size(), most)));
  const std::string text = fmt::format("{}", fmt::join(first, ", "));
  return items.size() > most ? fmt::format("{} and {} more", text, items.size() - most) : text;
}

std::vector<std::string> all_targets(const AdapterFacts& facts) {
  std::vector<std::string> targets = facts.targets;
  targets.insert(targets.end(), facts.target_parameters.begin(), facts.target_parameters.end());
  return targets;
}

Value facts_json(const AdapterFacts& facts) {
  const auto or_null = [](const auto& value) { return value ? Value(*value) : Value(); };
  const auto text = [](const std::string& value) { return value.empty() ? Value() : Value(value); };
  const auto switched = [&](const char* key) { return facts.config.contains(key) ? facts.config[key] : Value(); };
  return {{"path", facts.folder},
          {"method", facts.method},
          {"r", or_null(facts.r)},
          {"lora_alpha", or_null(facts.alpha)},
          {"least_rank", facts.least_rank},
          {"largest_rank", facts.largest_rank},
          {"rank_pattern", switched("rank_pattern")},
          {"alpha_pattern", switched("alpha_pattern")},
          {"target_modules", facts.target_pattern && !facts.targets.empty() ? Value(facts.targets[0]) : Value(facts.targets)},
          {"target_parameters", facts.target_parameters},
          {"modules_to_save", facts.modules_to_save},
          {"bias", switched("bias")},
          {"init_lora_weights", switched("init_lora_weights")},
          {"adapted_modules", facts.modules},
          {"whole_tensors", facts.whole},
          {"dtype", fmt::format("{}", fmt::join(facts.dtypes, ", "))},
          {"parameters", facts.parameters},
          {"bytes", facts.bytes},
          {"base_model_name_or_path", text(facts.base)},
          {"task_type", text(facts.task)},
          {"peft_version", text(facts.peft_version)}};
}

std::string info_text(const AdapterFacts& f) {
  std::vector<std::pair<std::string, std::string>> lines = {
      {"method", f.method},
      {"rank", f.least_rank == f.largest_rank ? rank_text(f) : fmt::format("{} (r: {})", rank_text(f), f.r.value_or(0))},
      {"alpha", f.alpha ? fmt::format("{}", *f.alpha) : "–"},
      {f.target_pattern ? "targets (pattern)" : "targets", some_of(all_targets(f), 16)},
      {"modules", f.largest_rank > 0 ? fmt::format("{} with low-rank matrices", f.modules) : fmt::format("{}", f.modules)}};
  if (!f.modules_to_save.empty()) lines.emplace_back("modules_to_save", some_of(f.modules_to_save, 16));
  if (!f.whole.empty()) lines.emplace_back("whole tensors", some_of(f.whole, 6));
  for (const char* key : {"bias", "rank_pattern", "alpha_pattern", "layers_to_transform", "exclude_modules", "trainable_token_indices",
                          "lora_bias", "alora_invocation_tokens"})
    if (!is_switched_off(f.config, key)) {
      const std::string text = f.config[key].dump();
      lines.emplace_back(key, text.size() > 200 ? text.substr(0, 200) + "…" : text);
    }
  lines.insert(lines.end(), {{"dtype", fmt::format("{}", fmt::join(f.dtypes, ", "))},
                             {"parameters", count_text(f.parameters)},
                             {"size", bytes_text(static_cast<double>(f.bytes))},
                             {"base model", f.base.empty() ? "–" : f.base},
                             {"peft_version", f.peft_version.empty() ? "–" : f.peft_version},
                             {"task", f.task.empty() ? "–" : f.task}});
  std::string text = f.folder + "\n";
  for (const auto& [name, value] : lines) text += fmt::format("  {:<18} {}\n", name, value);
  return text;
}

void put_on_screen(const std::string& text) {
  std::fputs(text.c_str(), stdout);
  std::fflush(stdout);
}

void need_places(const std::vector<std::string>& places, size_t least, size_t most, const char* example) {
  if (places.size() < least || places.size() > most)
    throw Error(ErrorKind::usage,
                fmt::format("{} place{} given, expected {}", places.size(), places.size() == 1 ? " is" : "s are",
                            least == most ? std::to_string(least) : fmt::format("at least {}", least)),
                example);
}

template <class Settings>
void visit_all(std::vector<Option> (*options)(Settings&), const OptionVisitor& visit) {
  static Settings settings;  // the options point into it
  for (const Option& option : options(settings)) visit(option);
}

}  // namespace

void describe_adapter_list(const OptionVisitor& visit) { visit_all(list_options, visit); }
void describe_adapter_info(const OptionVisitor& visit) { visit_all(info_options, visit); }
void describe_adapter_check(const OptionVisitor& visit) { visit_all(check_options, visit); }

int run_adapter_list(const std::vector<std::string>& args) {
  ListSettings settings;
  const auto places = read_adapter_words(args, list_options(settings));
  if (!places) return put_on_screen(adapter_command_help("list")), 0;
  need_places(*places, 1, SIZE_MAX, "loraine adapter list FOLDER");
  Value all = Value::array();
  std::vector<std::vector<std::string>> rows = {{"adapter", "method", "rank", "alpha", "targets", "parameters", "size", "base model"}};
  for (const std::string& root : *places)
    for (const std::string& folder : find_adapters(root)) try {
        const AdapterFacts f = read_adapter_facts(folder);
        all.push_back(facts_json(f));
        rows.push_back({folder, f.method, rank_text(f), f.alpha ? fmt::format("{}", *f.alpha) : "–", some_of(all_targets(f), 3),
                        count_text(f.parameters), bytes_text(static_cast<double>(f.bytes)), f.base});
      } catch (const Error& error) {  // the others are listed all the same
        all.push_back({{"path", folder}, {"error", error.what()}});
        rows.push_back({folder, "unreadable", "", "", error.what(), "", "", ""});
      }
  if (settings.json) put_on_screen(all.dump(2) + "\n");
  else if (rows.size() == 1) put_on_screen("no adapters there\n");
  else put_on_screen(table_text("", rows));
  return 0;
}

int run_adapter_info(const std::vector<std::string>& args) {
  InfoSettings settings;
  const auto places = read_adapter_words(args, info_options(settings));
  if (!places) return put_on_screen(adapter_command_help("info")), 0;
  need_places(*places, 1, SIZE_MAX, "loraine adapter info ADAPTER");
  Value all = Value::array();
  std::string text;
  for (const std::string& place : *places) {
    const AdapterFacts facts = read_adapter_facts(adapter_at(place));
    all.push_back(facts_json(facts));
    text += (text.empty() ? "" : "\n") + info_text(facts);
  }
  put_on_screen(settings.json ? (all.size() == 1 ? all[0] : all).dump(2) + "\n" : text);
  return 0;
}

int run_adapter_check(const std::vector<std::string>& args) {
  CheckSettings settings;
  const auto places = read_adapter_words(args, check_options(settings));
  if (!places) return put_on_screen(adapter_command_help("check")), 0;
  need_places(*places, 1, 1, "loraine adapter check ADAPTER --for vllm");
  const std::vector<std::string> programs = names_of(settings.programs);
  const AdapterFacts facts = read_adapter_facts(adapter_at((*places)[0]));
  Value all = Value::array();
  std::string text;
  bool good = true;
  for (const ProgramVerdict& each : check_compatibility(facts, programs)) {
    good &= each.verdict < LoadVerdict::differs;
    all.push_back({{"program", each.program},
                   {"version", each.version},
                   {"verdict", verdict_text(each.verdict)},
                   {"option", each.option},
                   {"reasons", each.reasons}});
    text += fmt::format("{} ({}): {}{}\n", each.program, each.version, verdict_text(each.verdict),
                        each.option.empty() ? "" : ": " + each.option);
    for (const std::string& reason : each.reasons) text += "  - " + reason + "\n";
  }
  put_on_screen(settings.json ? all.dump(2) + "\n" : text);
  return good || programs.empty() ? 0 : 1;
}

}  // namespace loraine
