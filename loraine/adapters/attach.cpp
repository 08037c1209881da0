// Target resolution by PEFT's rules, and initial values.
#define PCRE2_CODE_UNIT_WIDTH 8
#include "loraine/adapters/attach.h"

#include <fmt/format.h>
#include <pcre2.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <sstream>

#include "loraine/adapters/data_start.h"
#include "loraine/adapters/expert_lora.h"
#include "loraine/adapters/lora.h"
#include "loraine/adapters/methods.h"
#include "loraine/adapters/peft_methods/peft_method.h"
#include "loraine/core/describe.h"
#include "loraine/core/error.h"
#include "loraine/io/files/mapped_file.h"
#include "loraine/kernels/products/row_dots.h"

namespace loraine {
namespace {

// A regular expression that must match the whole text; search limits keep hostile patterns from running for ever.
class Regex {
 public:
  explicit Regex(const std::string& pattern) : pattern_(pattern), code_(nullptr, pcre2_code_free) {
    int error = 0;
    PCRE2_SIZE offset = 0;
    code_.reset(pcre2_compile(reinterpret_cast<PCRE2_SPTR>(pattern.data()), pattern.size(), PCRE2_UTF | PCRE2_ANCHORED | PCRE2_ENDANCHORED,
                              &error, &offset, nullptr));
    if (!code_) {
      char text[200] = {};
      pcre2_get_error_message(error, reinterpret_cast<PCRE2_UCHAR*>(text), sizeof text);
      throw Error(ErrorKind::usage,
                  "the pattern '" + pattern + "' is not a regular expression: " + text + " at character " + std::to_string(offset));
    }
  }
  bool matches(const std::string& text) const { return match(text) != nullptr; }
  // What the pattern's last group holds; empty without a match.
  std::string last_group(const std::string& text) const {
    const Match found = match(text);
    if (!found) return "";
    const PCRE2_SIZE* at = pcre2_get_ovector_pointer(found.get());
    const uint32_t last = pcre2_get_ovector_count(found.get()) - 1;
    return at[2 * last] == PCRE2_UNSET ? "" : text.substr(at[2 * last], at[2 * last + 1] - at[2 * last]);
  }

 private:
  using Match = std::unique_ptr<pcre2_match_data, decltype(&pcre2_match_data_free)>;
  Match match(const std::string& text) const {  // nullptr: no match
    std::unique_ptr<pcre2_match_data, decltype(&pcre2_match_data_free)> match(pcre2_match_data_create_from_pattern(code_.get(), nullptr),
                                                                              pcre2_match_data_free);
    std::unique_ptr<pcre2_match_context, decltype(&pcre2_match_context_free)> limits(pcre2_match_context_create(nullptr),
                                                                                     pcre2_match_context_free);
    pcre2_set_match_limit(limits.get(), 100000);
    pcre2_set_depth_limit(limits.get(), 10000);
    int rc = pcre2_match(code_.get(), reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(), 0, 0, match.get(), limits.get());
    if (rc < 0 && rc != PCRE2_ERROR_NOMATCH)
      throw Error(ErrorKind::usage, "the pattern '" + pattern_ + "' takes too long on '" + text + "'",
                  "write it without nested repetition");
    if (rc < 0) match.reset();
    return match;
  }

  std::string pattern_;
  std::unique_ptr<pcre2_code, decltype(&pcre2_code_free)> code_;
};

}  // namespace

std::string without_wrapper(std::string path) {
  constexpr std::string_view kWrapper = "language_model.";
  if (const size_t at = path.find(kWrapper); at != path.npos && (at == 0 || path[at - 1] == '.')) path.erase(at, kWrapper.size());
  return path;
}

bool matches_whole(const std::string& pattern, const std::string& text) { return Regex(pattern).matches(text); }

namespace {

bool ends_with_name(const std::string& path, const std::string& name) {
  if (path == name) return true;
  return path.size() > name.size() && path.ends_with(name) && path[path.size() - name.size() - 1] == '.';
}

// PEFT: the first numbered segment after a name, "model.layers.3.…" → 3; -1 without one.
int64_t layer_index(const std::string& path) {
  std::stringstream in(path);
  for (std::string segment; std::getline(in, segment, '.');)
    if (!segment.empty() && segment.size() < 10 &&
        std::all_of(segment.begin(), segment.end(), [](unsigned char c) { return std::isdigit(c); }))
      return std::stoll(segment);
  return -1;
}

bool names_module(const std::string& path, const std::string& name) {
  return ends_with_name(path, name) || ends_with_name(without_wrapper(path), without_wrapper(name));
}

struct Targets {
  explicit Targets(const LoraConfig& config) : config(config) {
    if (!config.target_regex.empty()) regex = std::make_unique<Regex>(config.target_regex);
    if (!config.exclude_regex.empty()) exclude = std::make_unique<Regex>(config.exclude_regex);
    for (const std::string& pattern : config.layers_pattern) layers.emplace_back(".*?\\.(?:" + pattern + ")\\.(\\d{1,9})\\..*");
  }
  bool contains(const std::string& path) const {
    if (exclude && exclude->matches(path)) return false;
    for (const std::string& name : config.exclude_modules)
      if (names_module(path, name)) return false;
    const std::string dotted = "." + path + ".";  // a module that is trained whole, and what lies in it, has no adapter
    for (const std::string& name : config.modules_to_save)
      if (dotted.find("." + name + ".") != std::string::npos) return false;
    if (regex) return regex->matches(path) || regex->matches(without_wrapper(path));
    bool named = std::any_of(config.target_modules.begin(), config.target_modules.end(),
                             [&](const std::string& name) { return names_module(path, name); });
    if (!named || config.layers_to_transform.empty()) return named;
    return std::ranges::find(config.layers_to_transform, layer_of(path)) != config.layers_to_transform.end();
  }
  // By layers_pattern, whose first pattern that matches counts, or by the first number in the path.
  int64_t layer_of(const std::string& path) const {
    if (layers.empty()) return layer_index(path);
    for (const Regex& pattern : layers)
      if (const std::string number = pattern.last_group(path); !number.empty()) return std::stoll(number);
    return -1;
  }
  const LoraConfig& config;
  std::unique_ptr<Regex> regex, exclude;
  std::vector<Regex> layers;
};

template <class T>
T by_pattern(const std::vector<std::pair<std::string, T>>& patterns, const std::string& path, T otherwise) {
  for (const auto& [pattern, value] : patterns)
    if (Regex("(.*\\.)?(" + pattern + ")").matches(path)) return value;
  return otherwise;
}

// A comma list of names, or a regular expression.
void read_names(const std::string& text, std::vector<std::string>& names, std::string& regex) {
  names.clear();
  regex.clear();
  if (text.find_first_of("\\*+?([|^${") != std::string::npos) {
    regex = text;
    return;
  }
  std::stringstream in(text);
  for (std::string name; std::getline(in, name, ',');) {
    size_t first = name.find_first_not_of(" \t"), last = name.find_last_not_of(" \t");
    if (first != std::string::npos) names.push_back(name.substr(first, last - first + 1));
  }
}

}  // namespace

bool is_saved_module(const LoraConfig& config, const std::string& path) {
  for (size_t end = path.find('.'); !config.modules_to_save.empty(); end = path.find('.', end + 1)) {  // PEFT: a plain end of the path
    const std::string module = path.substr(0, end);
    for (const std::string& name : config.modules_to_save)
      if (module.ends_with(name)) return true;
    if (end == std::string::npos) break;
  }
  return false;
}

void set_targets(LoraConfig& config, const std::string& lora_target) {
  read_names(lora_target, config.target_modules, config.target_regex);
  config.target_parameters.clear();
  std::erase_if(config.target_modules, [&](const std::string& name) {
    const bool of_experts = name == kExperts || name.starts_with("experts.") || name.find(".experts.") != name.npos;
    if (of_experts) config.target_parameters.push_back(name);
    return of_experts;
  });
  if (config.target_modules.size() == 1 && (config.target_modules[0] == "all" || config.target_modules[0] == "all-linear"))
    config.target_modules = {kAllLinear};
}

void name_experts(LoraConfig& config, const std::vector<std::string>& parameters) {
  const auto word = std::ranges::find(config.target_parameters, kExperts);
  if (word == config.target_parameters.end()) return;
  config.target_parameters.erase(word);
  if (parameters.empty()) throw Error(ErrorKind::usage, "lora_target names experts, and the model has none", "leave experts out of it");
  for (const std::string& path : parameters) {
    const size_t last = path.rfind('.');
    const std::string name = path.substr(path.rfind('.', last - 1) + 1);
    if (std::ranges::find(config.target_parameters, name) == config.target_parameters.end()) config.target_parameters.push_back(name);
  }
}

void set_excluded(LoraConfig& config, const std::string& modules) { read_names(modules, config.exclude_modules, config.exclude_regex); }

namespace {

// The last word of a path; where that is a number (a list of modules), the word before it too: PEFT matches ends of paths, and a number
// alone would be the end of a layer's.
std::string last_name(const std::string& path) {
  const size_t last = path.rfind('.');
  if (last == path.npos || path.find_first_not_of("0123456789", last + 1) != path.npos) return path.substr(last + 1);
  return path.substr(path.rfind('.', last - 1) + 1);
}

}  // namespace

void name_all_linear(LoraConfig& config, const std::vector<const Weight*>& sites, bool whole_paths) {
  if (config.target_modules != std::vector<std::string>{kAllLinear}) return;
  config.target_modules.clear();
  for (const Weight* site : sites)
    for (const WeightPart& part : site->parts) {
      if (site->bare) continue;
      const std::string name = whole_paths ? part.name : last_name(part.name);
      if (!site->is_head && std::ranges::find(config.target_modules, name) == config.target_modules.end())
        config.target_modules.push_back(name);
    }
}

namespace {

double alpha_of_module(const LoraConfig& config, const std::string& module) {
  return by_pattern(config.alpha_pattern, module, config.lora_alpha);
}

TargetRank rank_and_scale(const LoraConfig& config, const std::string& module) {
  if (config.adalora) {  // the divisor stays init_r for ever; ranks that were cut are not in the file, and a module may have none left
    const AdaloraConfig& a = *config.adalora;
    const double alpha = config.lora_alpha > 0 ? config.lora_alpha : static_cast<double>(a.init_r);
    const float scale = static_cast<float>(alpha / (static_cast<double>(a.init_r) + 1e-5));
    if (a.rank_pattern.empty()) return {a.init_r, scale};
    const auto lives = a.rank_pattern.find(module);
    if (lives == a.rank_pattern.end()) throw Error(ErrorKind::usage, "rank_pattern has no entry for " + module);
    return {std::count(lives->second.begin(), lives->second.end(), true), scale};
  }
  const int64_t r = by_pattern(config.rank_pattern, module, config.r);
  const double alpha = alpha_of_module(config, module);
  if (r <= 0 || r > 65536)
    throw Error(ErrorKind::usage, "rank_pattern gives " + module + " rank " + std::to_string(r) + ", expected a number from 1 to 65536");
  const double divisor = static_cast<double>(r);
  return {r, static_cast<float>(alpha / (config.use_rslora ? std::sqrt(divisor) : divisor))};
}

}  // namespace

double target_alpha(const LoraConfig& config, const std::string& path) { return alpha_of_module(config, path); }

std::optional<TargetRank> target_rank(const LoraConfig& config, const std::string& path) {
  if (!Targets(config).contains(path)) return {};
  return rank_and_scale(config, path);
}

void name_bare_weights(LoraConfig& config, const std::vector<const Weight*>& sites) {
  if (!config.target_regex.empty()) return;
  std::vector<std::string> kept;
  for (const std::string& word : config.target_modules) {
    bool bare = false, layer = false;
    for (const Weight* site : sites)
      for (const WeightPart& part : site->parts)
        if (names_module(part.name, word)) (site->bare ? bare : layer) = true;
    if (layer || !bare) kept.push_back(word);
    if (!bare) continue;
    const std::string parameter = word + ".weight";
    const int64_t r = by_pattern(config.rank_pattern, word, config.r);
    const double alpha = by_pattern(config.alpha_pattern, word, config.lora_alpha);
    if (r != by_pattern(config.rank_pattern, parameter, config.r)) config.rank_pattern.insert(config.rank_pattern.begin(), {parameter, r});
    if (alpha != by_pattern(config.alpha_pattern, parameter, config.lora_alpha))
      config.alpha_pattern.insert(config.alpha_pattern.begin(), {parameter, alpha});
    if (std::ranges::find(config.target_parameters, parameter) == config.target_parameters.end())
      config.target_parameters.push_back(parameter);
  }
  config.target_modules = std::move(kept);
}

std::optional<TargetRank> parameter_rank(const LoraConfig& config, const std::string& name) {
  if (std::ranges::none_of(config.target_parameters, [&](const std::string& target) { return ends_with_name(name, target); })) return {};
  return rank_and_scale(config, name);
}

namespace {

// Of a part of a weight: as a layer, or as a parameter of a module that is none.
std::optional<TargetRank> part_rank(const LoraConfig& config, const Targets& targets, const Weight& weight, const std::string& path) {
  if (const auto rank = parameter_rank(config, path + ".weight")) return rank;
  if (weight.bare && !config.target_regex.empty()) return {};
  if (!targets.contains(path)) return {};
  return rank_and_scale(config, path);
}

}  // namespace

std::vector<std::string> words_without_effect(const LoraConfig& config, const std::vector<std::string>& paths) {
  std::vector<std::string> lines, known;
  for (const std::string& path : paths)
    if (const std::string name = last_name(path); std::ranges::find(known, name) == known.end()) known.push_back(name);
  const auto check = [&](const char* key, const std::string& word, const auto& answers) {
    if (std::ranges::any_of(paths, answers)) return;
    const std::string near = nearest_word(word, known);
    lines.push_back(fmt::format("{}: no module of the model answers to '{}', so that it has no effect{}", key, word,
                                near.empty() ? "" : "; did you mean '" + near + "'?"));
  };
  const auto names = [&](const char* key, const std::vector<std::string>& words) {
    for (const std::string& word : words) check(key, word, [&](const std::string& path) { return ends_with_name(path, word); });
  };
  const auto patterns = [&](const char* key, const auto& pairs) {
    for (const auto& pair : pairs) {
      const Regex regex("(.*\\.)?(" + pair.first + ")");
      check(key, pair.first, [&](const std::string& path) { return regex.matches(path); });
    }
  };
  names("lora_target", config.target_modules);
  names("exclude_modules", config.exclude_modules);
  patterns("rank_pattern", config.rank_pattern);
  patterns("alpha_pattern", config.alpha_pattern);
  const Targets targets(config);
  for (int64_t layer : config.layers_to_transform)
    check("layers_to_transform", std::to_string(layer), [&](const std::string& path) { return targets.layer_of(path) == layer; });
  return lines;
}

AdapterSet attach_lora(const std::vector<const Weight*>& sites, const LoraConfig& given, bool trained, const std::string& embedding) {
  LoraConfig config = given;
  name_all_linear(config, sites, false);
  if (config.r <= 0)
    throw Error(ErrorKind::usage, "lora_rank is " + std::to_string(config.r) + ", expected a number above 0", "set lora_rank: 8");
  Targets targets(config);
  AdapterSet set;
  set.sites.resize(sites.size());
  for (size_t s = 0; s < sites.size(); ++s)
    if (sites[s]->is_head) set.head_site = static_cast<int64_t>(s);
  bool any = false;
  std::vector<SiteRequest> requests;
  for (size_t s = 0; s < sites.size(); ++s) {
    std::vector<LoraPart> parts;
    int64_t offset = 0;
    for (size_t p = 0; p < sites[s]->parts.size(); ++p) {
      const WeightPart& weight = sites[s]->parts[p];
      int64_t out = weight.weight.rows();
      if (const auto rank = part_rank(config, targets, *sites[s], weight.name)) {
        if (rank->r > 0) parts.push_back({static_cast<int>(p), offset, out, rank->r, rank->scale, weight.name});
        any = true;
      }
      offset += out;
    }
    if (!parts.empty()) requests.push_back({*sites[s], std::move(parts), s, trained});
  }
  if (config.method) set.shared = config.method->make_shared(requests, trained);
  for (SiteRequest& request : requests) {
    const uint64_t site = request.site;
    request.shared = set.shared;
    set.sites[site] = make_adapter(config, std::move(request));
  }
  if (!any && !targets.contains(embedding) && config.target_parameters.empty()) {
    std::string wanted = config.target_regex;
    for (const std::string& name : config.target_modules) wanted += (wanted.empty() ? "" : ",") + name;
    throw Error(ErrorKind::usage, "the target '" + wanted + "' (lora_target, target_modules) matches no linear layer of the model",
                "use all, or names among q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj, down_proj, embed_tokens, lm_head");
  }
  return set;
}

void check_takes_bias(const WeightPart& part) {
  if (part.bias) return;
  throw Error(
      ErrorKind::unsupported,
      fmt::format("the adapter adds a bias to {} (lora_bias), and the layer has none that it could be merged into, as in PEFT", part.name),
      "run it beside its base");
}

void add_to_weight(WeightPart& part, const std::function<void(const Tensor& sum)>& add, bool keep_codes) {
  const int64_t rows = part.weight.rows(), cols = part.weight.cols();
  const Dtype type = is_packed(part.weight.dtype) ? Dtype::F32 : part.weight.dtype;  // a sum has no packed form
  Buffer sum(static_cast<size_t>(rows * cols) * sizeof(float)), memory(static_cast<size_t>(bytes_of(type, rows * cols)));
  const Tensor f32(sum.data(), Dtype::F32, {rows, cols}), stored(memory.data(), type, {rows, cols});
  widen_row(f32.f32(), part.weight);
  add(f32);
  convert(stored.data, stored.dtype, f32.data, Dtype::F32, f32.numel());
  release_if_mapped(part.weight.data, part.weight.bytes());
  const Quantisation how = part.quant_state ? quantisation_of(part.weight) : Quantisation();
  const std::unique_ptr<QuantState> before = std::move(part.quant_state);
  part.weight = stored;
  part.owned = std::move(memory);
  if (before && keep_codes) quantise_part(part, how, before->values);
}

void merge_into_weights(const std::vector<Weight*>& sites, const AdapterSet& set) {
  Context ctx;
  for (size_t s = 0; s < sites.size(); ++s) {
    const Adapter* adapter = set.sites[s].get();
    if (!adapter) continue;
    for (const BiasToAdd& own : adapter->biases_to_add()) {
      WeightPart& part = sites[s]->parts[static_cast<size_t>(own.part)];
      check_takes_bias(part);
      Buffer sum(own.bias.bytes());
      float* values = static_cast<float*>(sum.data());
      for (int64_t o = 0; o < own.bias.numel(); ++o) values[o] = part.bias[o] + own.scale * own.bias.f32()[o];
      part.owned_bias = std::move(sum);
      part.bias = values;
    }
    for (size_t p = 0; p < sites[s]->parts.size(); ++p) {
      if (!adapter->adapts(static_cast<int>(p))) continue;
      WeightPart& part = sites[s]->parts[p];
      add_to_weight(
          part, [&](const Tensor& sum) { adapter->merge_into(ctx, sum, static_cast<int>(p)); }, false);
      if (const float* factors = adapter->bias_factors(static_cast<int>(p)); factors && part.bias) {
        Buffer memory(static_cast<size_t>(part.weight.rows()) * sizeof(float));
        float* bias = static_cast<float*>(memory.data());
        for (int64_t i = 0; i < part.weight.rows(); ++i) bias[i] = part.bias[i] * factors[i];
        part.bias = bias;
        part.owned_bias = std::move(memory);
      }
    }
  }
}

}  // namespace loraine
