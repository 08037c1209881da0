// Rows to examples and prompts, with the model's own chat template or a named one. Called by dataset.cpp.
#pragma once
#include "loraine/data/dataset.h"
#include "loraine/data/rows/rows.h"

namespace loraine {

// Whether samples share blocks; neat_packing asks for it, too.
bool packs(const DataOptions& options);
// What a sample is cut to: one less than cutoff_len where packing is set, as LLaMA-Factory does.
int64_t encoding_cutoff(const DataOptions& options);

struct Encoder {
  EncodeOptions options;
  Tokenizer* tokenizer = nullptr;
  const ChatTemplate* chat_template = nullptr;
  std::optional<Template> named;
  const SpecialTokens* special = nullptr;
  std::optional<int32_t> closing;  // put behind the last answer, where the template writes no end of it
  std::string default_system;
  int64_t vocab_size = 0;
  Error no_tokenizer{ErrorKind::usage, "tokenizer: the model folder has none, so only tokenized data sets can be used",
                     "put tokenizer.json into the folder, or use a set with formatting: tokenized"};
  Error no_chat_template{ErrorKind::usage, "template: the model has no chat template and none is named",
                         "set template, for example template: chatml"};

  // What conversations need and the model lacks; no correction of a row would mend it.
  void check_model(const Row& row) const;
  // For rows that passed check_model.
  Encoded encode(const Row& row) const;
  Encoded cut_tokens(const Example& whole) const;
  Prompt prompt(const Row& row) const;
  // The chosen answer's sample and the rejected one's, cut alike.
  std::pair<Encoded, Encoded> pair(const Row& row) const;
  // The row's sample, and its prompt with the answer `kl`.
  std::pair<Encoded, Encoded> feedback(const Row& row, const Message& kl) const;
  // The row's question as serving asks it, with thinking off: data/decisions/question.h. It is never cut.
  DecisionExample decision(const Row& row) const;
  // Its prompt, cut at the left to cutoff_len; nothing is labelled.
  Encoded asked(const Row& row) const;
  int32_t pad() const;  // what fills up a block
  // The last answer of a conversation, and all ids before it.
  Prompt last_turn(const Conversation& conversation) const;
  // Ids below vocab_size, where it is known.
  void check_ids(const Example& example) const;
};

// Arguments as open_data takes them; gives the tokenizer the template's stop words.
Encoder make_encoder(const DataOptions& options, Tokenizer* tokenizer, const ChatTemplate* chat_template, SpecialTokens& special);

}  // namespace loraine
