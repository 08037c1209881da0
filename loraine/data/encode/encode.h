// Conversations to token ids and labels: slot by slot with a named template, or with the model's own chat template by position.
// Called by dataset.cpp (training) and by trace and chat for prompts.
#pragma once
#include <span>
#include <string>
#include <vector>

#include "loraine/data/examples/example.h"
#include "loraine/data/templates/templates.h"

namespace loraine {

enum class Role : uint8_t { user, assistant, observation, function };
struct Message {
  Role role = Role::user;
  std::string content;  // function: JSON text of one call or of a list of calls
};

struct Conversation {
  std::vector<Message> messages;  // user or observation, then assistant or function, and so on; the last one is the answer
  std::string system;
  std::string tools;  // JSON text of the list of tools, or empty
};

struct EncodeOptions {
  int64_t cutoff_len = 2048;
  bool train_on_prompt = false, mask_history = false;
  bool split_special_tokens = false;
  std::optional<bool> enable_thinking = true;
  bool preserve_thinking = false;  // with mask_history: thoughts of earlier answers stay
  std::string today;               // the date in llama3's tool text; empty: the machine's
  bool keep_whole = false;         // Encoded.whole_ids and kept are filled in
  bool one_turn = false;           // the last answer is what counts (a prompt to generate from): the others lose their thoughts
};

struct Encoded {
  Example example;
  bool truncated = false;
  int64_t whole = 0;               // tokens before it was cut
  std::vector<int32_t> whole_ids;  // keep_whole: all of them,
  std::vector<bool> kept;          // and which of them are in the example
};

// One turn: what is asked (source) and what is answered (target).
struct Turn {
  std::vector<int32_t> source, target;
};

// How many ids of source and target are kept when `cutoff_len` are left (LLaMA-Factory's infer_seqlen).
std::pair<int64_t, int64_t> kept_lengths(int64_t source, int64_t target, int64_t cutoff_len);

// Turns to one example: cut by infer_seqlen, masks, and (efficient_eos: eos given) the eos rule.
Encoded assemble_turns(std::span<const Turn> turns, const EncodeOptions& options, std::optional<int32_t> efficient_eos);

std::vector<Turn> encode_turns(const Template& chat, const Tokenizer& tokenizer, const SpecialTokens& special,
                               const Conversation& conversation, const EncodeOptions& options);
Encoded encode_with_template(const Template& chat, const Tokenizer& tokenizer, const SpecialTokens& special,
                             const Conversation& conversation, const EncodeOptions& options);

// The whole conversation is rendered once and tokenised once; the label mask covers the assistant's turns by position:
// {% generation %} blocks where the template has them, else renderings of the conversation up to each answer.
std::vector<Turn> chat_template_turns(const ChatTemplate& chat, const Tokenizer& tokenizer, const nlohmann::ordered_json& messages,
                                      const nlohmann::ordered_json& kwargs, const EncodeOptions& options);
Encoded encode_with_chat_template(const ChatTemplate& chat, const Tokenizer& tokenizer, const nlohmann::ordered_json& messages,
                                  const nlohmann::ordered_json& kwargs, const EncodeOptions& options);

// The ids of a conversation that ends with a question, up to where the answer begins: what chat, the API and evaluation generate from.
std::vector<int32_t> encode_prompt(const Template& chat, const Tokenizer& tokenizer, const SpecialTokens& special,
                                   const Conversation& conversation, const EncodeOptions& options);
std::vector<int32_t> encode_prompt(const ChatTemplate& chat, const Tokenizer& tokenizer, const Conversation& conversation,
                                   const std::string& default_system, const EncodeOptions& options);

// split_special_tokens: the texts with the spelling of special tokens broken up, for Tokenizer::encode_guarded; the template's own stay.
nlohmann::ordered_json guarded_messages(const nlohmann::ordered_json& messages, const Tokenizer& tokenizer);

// Messages as a chat template takes them; default_system where the conversation has none. Tools go to kwargs["tools"].
nlohmann::ordered_json template_messages(const Conversation& conversation, const std::string& default_system,
                                         nlohmann::ordered_json& kwargs);

}  // namespace loraine
