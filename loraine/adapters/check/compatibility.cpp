// The rules, a function for each program. Sources: vLLM lora/peft_helper.py and config/lora.py (0.11, and the main branch of November
// 2026); SGLang srt/lora/lora.py, lora_config.py and lora_manager.py (2025 to mid-2026); llama.cpp convert_lora_to_gguf.py (2026); mlx-lm
// tuner/utils.py (0.32); PEFT tuners/lora/config.py of its releases from 0.17 to 0.21.
#include "loraine/adapters/check/compatibility.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>

#include "loraine/adapters/attach.h"
#include "loraine/adapters/peft_files.h"
#include "loraine/adapters/start.h"
#include "loraine/core/error.h"
#include "loraine/core/lower_case.h"

namespace loraine {
namespace {

constexpr const char* kMergeForIt = "loraine export merges it into its base, which every program loads";

// A verdict in the making: the gravest word counts, its reasons come first.
class Judge {
 public:
  Judge(std::string program, std::string version) { out_.program = std::move(program), out_.version = std::move(version); }
  void say(LoadVerdict verdict, std::string reason) {
    if (verdict > out_.verdict) out_.verdict = verdict, out_.reasons.insert(out_.reasons.begin(), std::move(reason));
    else out_.reasons.push_back(std::move(reason));
  }
  void refuses(std::string reason) { say(LoadVerdict::refuses, std::move(reason)); }
  void differs(std::string reason) { say(LoadVerdict::differs, std::move(reason)); }
  void option(const std::string& option, std::string reason) {
    if (!option.empty()) out_.option += (out_.option.empty() ? "" : " ") + option;
    say(LoadVerdict::with_option, std::move(reason));
  }
  void note(std::string reason) { out_.reasons.push_back(std::move(reason)); }
  ProgramVerdict verdict() const { return out_; }

 private:
  ProgramVerdict out_;
};

std::string listed(const std::vector<std::string>& items) {
  const std::vector<std::string> first(items.begin(), items.begin() + static_cast<ptrdiff_t>(std::min<size_t>(items.size(), 4)));
  return fmt::format("{}{}", fmt::join(first, ", "), items.size() > 4 ? ", …" : "");
}

bool has_pattern(const AdapterFacts& facts, const char* key) {
  const auto at = facts.config.find(key);
  return at != facts.config.end() && at->is_object() && !at->empty();
}

std::string start_of(const AdapterFacts& facts) {
  const auto at = facts.config.find("init_lora_weights");
  return at != facts.config.end() && at->is_string() ? lower_case(at->get<std::string>()) : "";
}
bool start_changes_base(const AdapterFacts& facts) {
  const std::string start = start_of(facts);
  return start.starts_with("pissa") || start == "olora" || start == "corda" || start == "loftq";
}

std::string bias_of(const AdapterFacts& facts) {
  const auto at = facts.config.find("bias");
  return at != facts.config.end() && at->is_string() ? at->get<std::string>() : "none";
}

int64_t rank_needed(const AdapterFacts& facts) { return std::max(facts.largest_rank, facts.r.value_or(0)); }

bool is_oft_of_the_series(const AdapterFacts& facts) {
  const auto at = facts.config.find("use_cayley_neumann");
  return facts.method == "oft" && at != facts.config.end() && *at == true;
}

// Releases before 0.18 write no peft_version.
bool is_before_018(const AdapterFacts& facts) {
  int major = 0, minor = 0;
  return std::sscanf(facts.peft_version.c_str(), "%d.%d", &major, &minor) != 2 || (major == 0 && minor < 18);
}

constexpr const char* kOldSeries =
    "OFT's Cayley-Neumann series changed with PEFT 0.18, and this adapter was written before: its rotations come out a little otherwise; "
    "train it again, or merge it with the release that wrote it";

ProgramVerdict judge_loraine(const AdapterFacts& facts) {
  Judge judge("loraine", "this one");
  try {
    const LoraConfig config = read_lora_config(facts.folder);
    if (!config.unknown_keys.empty())
      judge.differs(fmt::format("keys that loraine does not know are left out of account: {}", listed(config.unknown_keys)));
    if (searches_at_random(config)) judge.differs(random_start_text(config, facts.folder));
    if (is_oft_of_the_series(facts) && is_before_018(facts)) judge.differs(kOldSeries);
  } catch (const Error& error) { judge.refuses(error.what()); }
  return judge.verdict();
}

// The first release of PEFT whose LoraConfig has the key: it computes with it; one before leaves it out with a warning.
struct PeftKey {
  const char* key;
  const char* since;
};
constexpr PeftKey kPeftKeys[] = {{"alora_invocation_tokens", "0.18"}, {"arrow_config", "0.18"}, {"ensure_weight_tying", "0.18"},
                                 {"lora_ga_config", "0.19"},          {"use_bdlora", "0.19"},   {"velora_config", "0.20"},
                                 {"monteclora_config", "0.20"},       {"kasa_config", "0.21"},  {"target_parameters", "0.17"}};

ProgramVerdict judge_peft(const AdapterFacts& facts) {
  const char* since = is_oft_of_the_series(facts) && !is_before_018(facts) ? "0.18" : "0.17";
  std::vector<std::string> why;
  for (const PeftKey& key : kPeftKeys)
    if (!is_switched_off(facts.config, key.key)) {
      if (std::string(key.since) > since) since = key.since;
      if (std::string(key.since) > "0.17") why.push_back(fmt::format("{} came with {}", key.key, key.since));
    }
  Judge judge("peft", fmt::format("{} to 0.21", since));
  for (std::string& reason : why) judge.note(std::move(reason));
  if (is_oft_of_the_series(facts) && is_before_018(facts)) judge.differs(kOldSeries);
  else if (is_oft_of_the_series(facts))
    judge.note("OFT's Cayley-Neumann series changed with PEFT 0.18: releases before compute it otherwise");
  int major = 0, minor = 0;
  const bool dated = std::sscanf(facts.peft_version.c_str(), "%d.%d", &major, &minor) == 2;
  if (!facts.target_parameters.empty() && (!dated || (major == 0 && minor < 19)))
    judge.note(
        "target_parameters: 0.19 changed which of A and B has the experts' input; with models where in and out are alike, load it with the "
        "release that wrote it");
  if (start_of(facts).starts_with("pissa_niter_"))
    judge.differs(
        fmt::format("init_lora_weights {}: the start is searched for at random, and PEFT finds another than the one it was trained over",
                    start_of(facts)));
  if (facts.method == "adalora" && is_switched_off(facts.config, "total_step"))
    judge.refuses("total_step is not set, without which PEFT makes no AdaLoRA config");
  if (facts.trained_tokens && is_switched_off(facts.config, "trainable_token_indices"))
    judge.differs("the file has trained tokens, and the config does not name them: PEFT leaves them out with a warning");
  return judge.verdict();
}

// What no server takes: all of them know plain LoRA on layers that they have.
void judge_server_kinds(Judge& judge, const AdapterFacts& facts, const char* program) {
  const auto type = facts.config.find("peft_type");
  if (type == facts.config.end() || *type != "LORA") judge.refuses(fmt::format("it is {}, and {} takes LoRA", facts.method, program));
  if (!is_switched_off(facts.config, "use_dora") || facts.magnitudes) judge.refuses(fmt::format("use_dora: {} has no DoRA", program));
}

// The least of the ranks that --max-lora-rank takes and that is enough.
int64_t vllm_rank(int64_t r) {
  for (const int64_t allowed : {1, 8, 16, 32, 64, 128, 256, 320, 512})
    if (r <= allowed) return allowed;
  return 0;
}

ProgramVerdict judge_vllm(const AdapterFacts& facts, bool newest) {
  Judge judge("vllm", newest ? "main, November 2026" : "releases, read at 0.11");
  judge_server_kinds(judge, facts, "vLLM");
  std::vector<std::string> saved = facts.modules_to_save;
  if (newest) std::erase_if(saved, [](const std::string& name) { return name == "classifier" || name == "score"; });
  if (!saved.empty()) judge.refuses(fmt::format("modules_to_save ({}): vLLM only takes adapters without", listed(saved)));
  else if (!facts.whole.empty() && facts.modules_to_save.empty())
    judge.refuses(fmt::format("tensors that are trained whole: {}", listed(facts.whole)));
  if (bias_of(facts) != "none") judge.refuses(fmt::format("bias is {}: vLLM takes none", bias_of(facts)));
  if (facts.bias_of_b) judge.refuses("lora_bias: vLLM takes none");
  if (facts.trained_tokens) judge.refuses("trainable_token_indices: vLLM takes no trained tokens");
  const auto changed = [&](const std::string& reason) {
    if (newest) judge.refuses(reason);
    else judge.differs(reason + "; this version adds A and B to the base as it is, without a word");
  };
  if (start_changes_base(facts)) changed(fmt::format("init_lora_weights {} counts over a changed base", start_of(facts)));
  for (const char* key : {"alora_invocation_tokens", "layer_replication", "use_bdlora", "use_qalora"})
    if (!is_switched_off(facts.config, key)) changed(fmt::format("{} is set, which vLLM does not compute", key));
  for (const char* key : {"rank_pattern", "alpha_pattern"})
    if (has_pattern(facts, key) && !newest) {
      // r of the config is what the scale is made of, so that a pattern of one alone gives another scale
      const bool both = has_pattern(facts, "rank_pattern") && has_pattern(facts, "alpha_pattern");
      if (both)
        judge.note(fmt::format(
            "{}: this version scales all modules by lora_alpha and r alone, right only where the patterns leave alpha / r as it is", key));
      else judge.differs(fmt::format("{}: this version scales all modules by lora_alpha and r alone", key));
    }
  if (!facts.target_parameters.empty() || !facts.experts.empty())
    judge.differs(
        "target_parameters (experts): loaded only for models whose fused experts vLLM knows as three-dimensional; check the answers");
  if (facts.embedding || facts.head)
    judge.option("", fmt::format("{} is adapted: taken only for models whose class lists it (embedding_modules), as Llama's and Qwen3's do",
                                 facts.embedding && facts.head ? "embedding and head"
                                 : facts.embedding             ? "the embedding"
                                                               : "lm_head"));
  const int64_t r = rank_needed(facts), option = vllm_rank(r);
  if (option == 0) judge.refuses(fmt::format("rank {}: --max-lora-rank takes at most 512", r));
  else if (r > 16)
    judge.option(fmt::format("--max-lora-rank {}", option), fmt::format("rank {} is above 16, the default of --max-lora-rank", r));
  return judge.verdict();
}

ProgramVerdict judge_sglang(const AdapterFacts& facts) {
  Judge judge("sglang", "read in versions of 2025 to mid-2026");
  judge_server_kinds(judge, facts, "SGLang");
  if (!facts.modules_to_save.empty() || !facts.whole.empty())
    judge.differs(fmt::format("tensors that are trained whole ({}) are not among what SGLang applies",
                              listed(facts.whole.empty() ? facts.modules_to_save : facts.whole)));
  if (bias_of(facts) != "none" || facts.bias_of_b) judge.differs("trained biases are not among what SGLang applies");
  if (!is_switched_off(facts.config, "use_rslora"))
    judge.differs("use_rslora: SGLang scales by lora_alpha / r, without the root (loraine adapter resize writes it without rsLoRA)");
  for (const char* key : {"rank_pattern", "alpha_pattern"})
    if (has_pattern(facts, key)) judge.differs(fmt::format("{}: up to mid-2026 one scale and rank counts for all modules", key));
  if (start_changes_base(facts))
    judge.differs(fmt::format("init_lora_weights {} counts over a changed base, which SGLang does not make", start_of(facts)));
  if (facts.target_pattern && facts.targets != std::vector<std::string>{"all-linear"})
    judge.refuses("target_modules is a pattern: SGLang takes names");
  if (!facts.target_parameters.empty() || !facts.experts.empty())
    judge.refuses("target_parameters (experts) are not taken from PEFT's files");
  if (std::filesystem::exists(std::filesystem::path(facts.folder) / "added_tokens.json"))
    judge.option("",
                 "added_tokens.json lies in the folder: tokens beyond the base's vocabulary are refused; versions before mid-2026 refuse "
                 "any such file "
                 "(remove it where the base has those tokens)");
  const int64_t r = rank_needed(facts);
  if (r > 0)
    judge.note(fmt::format(
        "the pool takes what it was started for: --max-lora-rank {} or more, and these names in --lora-target-modules (or `all`)", r));
  return judge.verdict();
}

ProgramVerdict judge_llama_cpp(const AdapterFacts& facts) {
  Judge judge("llama.cpp", "convert_lora_to_gguf.py, 2026");
  judge_server_kinds(judge, facts, "llama.cpp");
  std::vector<std::string> foreign;
  for (const std::string& name : facts.whole)
    if (name.find("_layernorm") == name.npos && name.find(".norm") == name.npos) foreign.push_back(name);
  if (!foreign.empty()) judge.refuses(fmt::format("tensors that are neither lora_A nor lora_B stop the converter: {}", listed(foreign)));
  else if (!facts.whole.empty()) judge.differs("trained norms are converted, and left out when the adapter is loaded");
  if (facts.bias_of_b) judge.refuses("lora_bias: its tensors stop the converter");
  if (facts.trained_tokens) judge.refuses("trainable_token_indices: its tensors stop the converter");
  if (facts.head) judge.say(LoadVerdict::with_option, "lm_head is adapted: refused where the base ties it to the embedding (issue 9065)");
  if (!is_switched_off(facts.config, "use_rslora"))
    judge.differs(
        "use_rslora: the converter writes lora_alpha alone, and alpha / r is computed from it; `loraine export --export_format "
        "gguf_adapter` writes the right one");
  for (const char* key : {"rank_pattern", "alpha_pattern"})
    if (has_pattern(facts, key))
      judge.differs(
          fmt::format("{}: there is one alpha for the file and r is each matrix's own; `loraine export --export_format gguf_adapter` puts "
                      "what differs into B",
                      key));
  if (start_changes_base(facts))
    judge.differs(fmt::format("init_lora_weights {} counts over a changed base, which is not converted", start_of(facts)));
  if (!facts.target_parameters.empty() || !facts.experts.empty())
    judge.refuses("target_parameters (experts): the stacked matrices do not convert");
  return judge.verdict();
}

ProgramVerdict judge_mlx(const AdapterFacts& facts) {
  Judge judge("mlx-lm", "0.32");
  judge_server_kinds(judge, facts, "the conversion to mlx-lm");
  if (!facts.whole.empty() || facts.bias_of_b || facts.trained_tokens) judge.refuses("mlx-lm's adapters hold lora_a, lora_b and m alone");
  if (start_changes_base(facts)) judge.refuses(fmt::format("init_lora_weights {} counts over a changed base", start_of(facts)));
  if (!facts.target_parameters.empty() || !facts.experts.empty()) judge.refuses("experts lie in another form there (SwitchLinear)");
  if (judge.verdict().verdict == LoadVerdict::loads)
    judge.option("loraine adapter convert --to mlx", "its files have other names and turned matrices");
  return judge.verdict();
}

}  // namespace

const char* verdict_text(LoadVerdict verdict) {
  switch (verdict) {
    case LoadVerdict::loads: return "loads";
    case LoadVerdict::with_option: return "loads under a condition";
    case LoadVerdict::differs: return "loads and computes something else";
    case LoadVerdict::refuses: return "refuses";
  }
  return "";
}

const std::vector<std::string>& checked_programs() {
  static const std::vector<std::string> names = {"loraine", "peft", "vllm", "sglang", "llama.cpp", "mlx-lm"};
  return names;
}

std::vector<ProgramVerdict> check_compatibility(const AdapterFacts& facts, const std::vector<std::string>& programs) {
  for (const std::string& name : programs)
    if (std::ranges::find(checked_programs(), name) == checked_programs().end())
      throw Error(ErrorKind::usage, fmt::format("for names {}, whose rules are not known", name),
                  fmt::format("one or more of: {}", fmt::join(checked_programs(), ", ")));
  const auto wanted = [&](const char* name) { return programs.empty() || std::ranges::find(programs, name) != programs.end(); };
  std::vector<ProgramVerdict> all;
  if (wanted("loraine")) all.push_back(judge_loraine(facts));
  if (wanted("peft")) all.push_back(judge_peft(facts));
  if (wanted("vllm")) {
    all.push_back(judge_vllm(facts, false));
    all.push_back(judge_vllm(facts, true));
  }
  if (wanted("sglang")) all.push_back(judge_sglang(facts));
  if (wanted("llama.cpp")) all.push_back(judge_llama_cpp(facts));
  if (wanted("mlx-lm")) all.push_back(judge_mlx(facts));
  for (ProgramVerdict& verdict : all)
    if (verdict.program != "loraine" && verdict.verdict >= LoadVerdict::differs) verdict.reasons.push_back(kMergeForIt);
  return all;
}

}  // namespace loraine
