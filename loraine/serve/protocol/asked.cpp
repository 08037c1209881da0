// See asked.h.
#include "loraine/serve/protocol/asked.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <set>

#include "loraine/core/describe.h"
#include "loraine/serve/chosen_adapter.h"
#include "loraine/serve/service.h"

namespace loraine {
namespace {

constexpr int64_t kMost = std::numeric_limits<int64_t>::max();
constexpr size_t kMostIds = 1024;

std::vector<int32_t> read_ids(Fields& fields, const char* name, int64_t vocab, size_t most) {
  std::vector<int32_t> ids;
  const WireJson* list = fields.array(name, most);
  if (!list) return ids;
  for (const WireJson& one : *list) {
    if (!one.is_number_integer() || one.get<int64_t>() < 0 || one.get<int64_t>() >= vocab ||
        (one.is_number_unsigned() && one.get<uint64_t>() > INT32_MAX))
      fields.fail(name, fmt::format("a list of token ids from 0 to {}; it has {}", vocab - 1, shown(one)));
    ids.push_back(one.get<int32_t>());
  }
  return ids;
}

std::vector<std::string> read_texts(Fields& fields, const char* name, size_t most, size_t longest, bool or_one) {
  std::vector<std::string> texts;
  const WireJson* value = fields.any(name);
  if (!value) return texts;
  const std::string expected = fmt::format("{}a list of at most {} strings of 1 to {} bytes", or_one ? "a string or " : "", most, longest);
  const auto add = [&](const WireJson& one) {
    if (!one.is_string() || one.get_ref<const std::string&>().empty() || one.get_ref<const std::string&>().size() > longest)
      fields.fail(name, expected);
    texts.push_back(one.get<std::string>());
  };
  if (value->is_string() && or_one) add(*value);
  else if (!value->is_array() || value->size() > most) fields.fail(name, expected);
  else
    for (const WireJson& one : *value) add(one);
  return texts;
}

std::vector<std::pair<int32_t, float>> read_bias(Fields& fields, int64_t vocab) {
  std::vector<std::pair<int32_t, float>> bias;
  const WireJson* object = fields.object("logit_bias");
  if (!object) return bias;
  const std::string expected =
      fmt::format("an object of at most {} token ids from 0 to {}, each with a number from -100 to 100", kMostIds, vocab - 1);
  if (object->size() > kMostIds) fields.fail("logit_bias", expected);
  for (const auto& [key, value] : object->items()) {
    const bool digits = !key.empty() && key.size() < 10 && std::ranges::all_of(key, [](char c) { return c >= '0' && c <= '9'; });
    if (!digits || std::stoll(key) >= vocab || !value.is_number() || !(std::abs(value.get<double>()) <= 100))
      fields.fail("logit_bias", expected);
    bias.emplace_back(static_cast<int32_t>(std::stol(key)), value.get<float>());
  }
  return bias;
}

void read_stream(Fields& fields, Asked& asked) {
  asked.stream = fields.boolean("stream").value_or(false);
  const WireJson* options = fields.object("stream_options");
  if (!options) return;
  if (!asked.stream) fields.fail("stream_options", "nothing, since stream is not true");
  Fields inner(*options, "stream_options.");
  asked.include_usage = inner.boolean("include_usage").value_or(false);
  asked.continuous_usage = inner.boolean("continuous_usage_stats").value_or(false);
}

}  // namespace

void set_reasoning_effort(WireJson& kwargs, const std::string& effort) {
  kwargs["reasoning_effort"] = effort;
  if (!kwargs.contains("enable_thinking")) kwargs["enable_thinking"] = effort != "none";
}

Asked read_asked(Fields& fields, const SamplingDefaults& defaults, int64_t vocab, bool llama_factory) {
  Asked asked;
  asked.model = fields.text("model", 512).value_or("");
  asked.n = fields.integer("n", 1, 16).value_or(1);
  const auto short_word = fields.integer("max_tokens", 0, kMost);
  asked.max_tokens = fields.integer("max_completion_tokens", 0, kMost);
  if (!asked.max_tokens) asked.max_tokens = short_word;

  GenerateOptions& o = asked.options;
  const auto temperature = fields.number("temperature", 0, 2);
  o.temperature = temperature.value_or(defaults.temperature);
  o.do_sample = temperature ? *temperature > 0 : defaults.do_sample;
  if (llama_factory) o.do_sample = fields.boolean("do_sample").value_or(o.do_sample);
  o.top_p = fields.number("top_p", 0, 1, true).value_or(defaults.top_p);
  o.top_k = std::max<int64_t>(fields.integer("top_k", -1, kMost).value_or(defaults.top_k), 0);
  o.min_p = fields.number("min_p", 0, 1).value_or(defaults.min_p);
  o.repetition_penalty = fields.number("repetition_penalty", 0, 10, true).value_or(defaults.repetition_penalty);
  o.frequency_penalty = fields.number("frequency_penalty", -2, 2).value_or(0);
  if (llama_factory) o.repetition_penalty = fields.number("presence_penalty", 0, 10, true).value_or(o.repetition_penalty);
  else o.presence_penalty = fields.number("presence_penalty", -2, 2).value_or(0);
  asked.seed = fields.integer("seed", std::numeric_limits<int64_t>::min(), kMost);
  asked.stop = read_texts(fields, "stop", 16, 256, true);
  asked.bad_words = read_texts(fields, "bad_words", kMostIds, 256, false);
  asked.include_stop = fields.boolean("include_stop_str_in_output").value_or(false);
  asked.ignore_eos = fields.boolean("ignore_eos").value_or(false);
  asked.stop_token_ids = read_ids(fields, "stop_token_ids", vocab, kMostIds);
  o.min_tokens = fields.integer("min_tokens", 0, kMost).value_or(0);
  if (asked.max_tokens && o.min_tokens > *asked.max_tokens)
    fields.fail("min_tokens", fmt::format("at most max_tokens, {}", *asked.max_tokens));
  o.logit_bias = read_bias(fields, vocab);
  const WireJson* allowed = fields.any("allowed_token_ids");
  o.allowed_ids = read_ids(fields, "allowed_token_ids", vocab, static_cast<size_t>(vocab));
  if (allowed && o.allowed_ids.empty()) fields.fail("allowed_token_ids", "a list of at least one token id");
  asked.return_token_ids = fields.boolean("return_token_ids").value_or(false);
  asked.thought_tokens = fields.integer("thinking_token_budget", 0, kMost);
  if (const auto salt = fields.text("cache_salt", 1024)) {
    if (salt->empty()) fields.fail("cache_salt", "a string of 1 to 1024 bytes");
    asked.cache_salt = *salt;
  }
  asked.skip_special_tokens = fields.boolean("skip_special_tokens").value_or(true);
  o.prompt_logprobs = fields.integer("prompt_logprobs", 0, 20).value_or(-1);
  fields.text("cache_salt", 1024);  // enters the key of a prefix cache: nothing of one request reaches another without one
  read_stream(fields, asked);
  if (asked.stream && o.prompt_logprobs >= 0) fields.fail("prompt_logprobs", "nothing, since stream is true");
  asked.lora = read_lora_field(fields);
  return asked;
}

std::string refuse_or_ignore(const Fields& fields, const WireJson& body, bool strict) {
  static const std::set<std::string> kNothing = {"user",
                                                 "metadata",
                                                 "store",
                                                 "service_tier",
                                                 "safety_identifier",
                                                 "prompt_cache_key",
                                                 "prompt_cache_retention",
                                                 "modalities",
                                                 "prediction",
                                                 "priority",
                                                 "request_id",
                                                 "session_id",
                                                 "verbosity",
                                                 "spaces_between_special_tokens",
                                                 "parallel_tool_calls",
                                                 "include_reasoning",
                                                 "truncate_prompt_tokens",
                                                 "detokenize",
                                                 "best_of"};
  static const std::set<std::string> kUnbuilt = {"guided_grammar",
                                                 "guided_json",
                                                 "guided_regex",
                                                 "guided_choice",
                                                 "response_format",
                                                 "structured_outputs",
                                                 "grammar",
                                                 "json_schema",
                                                 "tools",
                                                 "tool_choice",
                                                 "functions",
                                                 "function_call",
                                                 "audio",
                                                 "web_search_options",
                                                 "suffix",
                                                 "use_beam_search",
                                                 "best_of",
                                                 "logits_processors",
                                                 "mm_processor_kwargs",
                                                 "documents",
                                                 "length_penalty",
                                                 "typical_p",
                                                 "mirostat",
                                                 "dry_multiplier",
                                                 "xtc_probability",
                                                 "top_n_sigma",
                                                 "prompt_embeds",
                                                 "min_keep",
                                                 "thinking"};
  std::string ignored;
  for (const std::string& name : fields.unread()) {
    const WireJson& value = body.at(name);
    const bool says_nothing = value.is_null() || (value.is_structured() && value.empty());
    if (says_nothing || kNothing.contains(name)) continue;
    if (name == "tool_choice" && value == "none") continue;
    if (kUnbuilt.contains(name))
      throw ApiError{400, fmt::format("{} is not built, and the answer would not be what it asks for; leave it out", name), name,
                     "unsupported_parameter"};
    if (strict) {
      const std::vector<std::string> known(kNothing.begin(), kNothing.end());
      const std::string near = nearest_word(name, known);
      throw ApiError{400, fmt::format("{} is not a known field{}", name, near.empty() ? "" : "; did you mean " + near + "?"), name,
                     "unknown_parameter"};
    }
    ignored += (ignored.empty() ? "" : ", ") + name;
  }
  return ignored;
}

}  // namespace loraine
