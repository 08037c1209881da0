// The public C++ interface: a model, with or without adapters, that answers conversations. Everything else of the library is private.
//
//   loraine::ChatModel model({{"model_name_or_path", "llama"}, {"adapter_name_or_path", "poet=a,clerk=b"}, {"template", "llama3"}});
//   auto response = model.chat({{"user", "Hello"}});
//   std::puts(response[0].response_text.c_str());
#pragma once
#include <cstdint>
#include <functional>
#include <initializer_list>
#include <map>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

namespace loraine {

// LLaMA-Factory's keys, as in the YAML file of `loraine chat` (docs/cli.md), with their values as text.
struct Arguments : std::map<std::string, std::string> {
  Arguments() = default;
  Arguments(std::initializer_list<value_type> pairs) : map(pairs) {}
  Arguments(const map& pairs) : map(pairs) {}
};

struct ChatMessage {
  std::string role;  // user, assistant, observation (also: tool), function; system may come first
  std::string content;
};

struct Response {
  std::string response_text;
  int64_t response_length = 0;  // tokens, the one that ended it included
  int64_t prompt_length = 0;    // tokens
  std::string finish_reason;    // stop, length (max_new_tokens, or no room), cancelled (on_text or keep_going gave false)
};

// What a call may set otherwise than the model's arguments do.
struct ChatOptions {
  std::optional<std::string> adapter;        // a name, or `base`; absent: the one that is on
  std::optional<std::string> system, tools;  // tools: a JSON list
  std::optional<int64_t> max_new_tokens, top_k, seed, num_beams;
  std::optional<bool> do_sample;
  std::optional<double> temperature, top_p, repetition_penalty, length_penalty;
  int64_t num_return_sequences = 1;  // the nth answer is sampled with seed + n
  std::function<bool()> keep_going;  // asked after every token; false ends the call, whose last answer is `cancelled`
};

// What get_scores may be told.
struct ScoreOptions {
  std::optional<std::string> adapter;  // as in ChatOptions
  int64_t max_length = 0;              // tokens of a text that count, from its beginning; 0: as many as the model has positions
};

// What every function throws: `kind` is usage, missing_file, bad_data, unsupported, out_of_memory, numeric, io or internal; `hint` says
// what to do.
struct ChatError : std::runtime_error {
  ChatError(const std::string& kind_, const std::string& message, const std::string& hint_)
      : std::runtime_error(message), kind(kind_), hint(hint_) {}
  std::string kind, hint;
};

// Safe to call from several threads: calls that generate wait for each other; those that only look do not wait for an answer.
class ChatModel {
 public:
  explicit ChatModel(const Arguments& arguments);
  ~ChatModel();
  ChatModel(ChatModel&&) noexcept;
  ChatModel& operator=(ChatModel&&) noexcept;

  // The messages end with a question. One response per num_return_sequences.
  std::vector<Response> chat(const std::vector<ChatMessage>& messages, const ChatOptions& options = {});
  // on_text gets the answer piece by piece, whole characters each, and returns false to stop. It must not call the same model.
  Response stream_chat(const std::vector<ChatMessage>& messages, const std::function<bool(std::string_view)>& on_text,
                       const ChatOptions& options = {});

  // Of a reward model (stage rm): the score of each text, as it is, without a template, as LLaMA-Factory's get_scores gives them; or of
  // each conversation, which ends with the answer that is scored, as the model was trained on them.
  std::vector<double> get_scores(const std::vector<std::string>& texts, const ScoreOptions& options = {});
  std::vector<double> get_scores(const std::vector<std::vector<ChatMessage>>& conversations, const ScoreOptions& options = {});

  std::vector<std::string> adapters() const;  // names
  void load_adapter(const std::string& name, const std::string& path);
  void unload_adapter(const std::string& name);
  const std::vector<std::string>& notes() const;  // warnings and keys without effect, from opening

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace loraine
