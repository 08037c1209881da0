// Ollama's protocol: its requests as those of OpenAI's chat completions, which one reader checks, and answers as lines of JSON. Called by
// the handlers of its routes.
#pragma once
#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include "loraine/serve/protocol/answer_form.h"
#include "loraine/serve/protocol/asked.h"
#include "loraine/serve/protocol/fields.h"

namespace loraine {

// The name of a model without the tag that Ollama puts behind it (":latest").
std::string untagged(const std::string& model);

// What a request of /api/chat or /api/generate says beside what is asked of the model.
struct OllamaRequest {
  std::string model;             // as it was asked for
  WireJson chat;                 // the request as one of chat completions: messages, model, sampling, format, tools
  bool only_loads = false;       // nothing is asked
  bool raw = false;              // /api/generate: the prompt as it is, without the template
  std::string prompt;            // of /api/generate
  std::vector<int32_t> context;  // ids that come before
  bool logprobs = false;
};
// Throw ApiError for what cannot be done, by the name that the client knows. vocab: ids are below it.
OllamaRequest read_ollama_chat(const WireJson& body);
OllamaRequest read_ollama_generate(const WireJson& body, int64_t vocab);

// "2026-11-30T12:34:56.123456789Z"
std::string ollama_time(std::chrono::system_clock::time_point time);

// began: when the request came in.
std::unique_ptr<AnswerForm> ollama_form(const OllamaRequest& request, bool generate, const Asked& asked, const Tokenizer& tokens,
                                        std::chrono::steady_clock::time_point began);
// The answer to a request that only loads.
WireJson ollama_loaded(const OllamaRequest& request, bool generate);

}  // namespace loraine
