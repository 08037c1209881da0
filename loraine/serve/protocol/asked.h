// What a request asks for, whichever protocol it came in: the neutral form between the readers of requests and the engine.
#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "loraine/generate/sampling.h"
#include "loraine/serve/protocol/asked_shape.h"
#include "loraine/serve/protocol/asked_tools.h"
#include "loraine/serve/protocol/fields.h"

namespace loraine {

struct SamplingDefaults;

struct Asked {
  std::string model;
  std::optional<std::vector<std::pair<std::string, double>>> lora;  // llama-server's: names (or places in the list) and scales
  int64_t n = 1;
  std::optional<int64_t> max_tokens;        // none: what room is left,
  std::optional<int64_t> most_tokens = {};  // and at most this; none: at most what the server's default is
  GenerateOptions options;                  // without stop ids, seed and bad words
  std::optional<int64_t> seed;
  std::vector<std::string> stop, bad_words;
  std::vector<int32_t> stop_token_ids;
  bool include_stop = false, ignore_eos = false;
  bool stream = false, include_usage = false, continuous_usage = false;
  bool echo = false, return_token_ids = false, skip_special_tokens = true;
  bool include_reasoning = true;               // thoughts are in the answer
  std::optional<int64_t> thought_tokens = {};  // most of them
  bool thought_tokens_by_habit = false;        // clients of the protocol name them whatever the model is
  std::string cache_salt = {};                 // the beginning of a prompt is shared with requests of the same salt alone
  AskedTools tools = {};
  AskedShape shape = {};
  const char* prompt_field = "messages";  // where the prompt stands in the request, for errors
};

// What the protocols of OpenAI's kind have in common. vocab: ids are below it. Throws ApiError with the field.
Asked read_asked(Fields& fields, const SamplingDefaults& defaults, int64_t vocab, bool llama_factory);

// A conversation to be answered: what chat completions, responses, Anthropic's messages and Ollama's protocol become.
struct AskedChat {
  Asked asked;
  WireJson messages, kwargs;                 // as chat templates take them
  std::string ignored;                       // fields that nobody knows, for the log
  std::optional<std::string> plain = {};     // the prompt as it is, without the template
  std::vector<int32_t> context_before = {};  // ids that come before the prompt
};
// How much is to be thought, as templates take it: reasoning_effort, and enable_thinking where the request does not say that itself.
void set_reasoning_effort(WireJson& kwargs, const std::string& effort);

// What is left: fields that would change the answer and are not built are refused; others are ignored, those nobody knows with a line for
// the log, which comes back.
std::string refuse_or_ignore(const Fields& fields, const WireJson& body, bool strict);

}  // namespace loraine
