// What a template, a tokenizer and the options make of a row. Called through row_encoder.h.
#include "loraine/data/encode/row_encoder.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "loraine/core/batch.h"
#include "loraine/core/error.h"
#include "loraine/data/decisions/label_tree.h"
#include "loraine/data/templates/end_of_turn.h"

namespace loraine {

bool packs(const DataOptions& options) { return options.neat_packing || options.packing.value_or(false); }

int64_t encoding_cutoff(const DataOptions& options) { return options.cutoff_len - (packs(options) ? 1 : 0); }

int32_t Encoder::pad() const { return special->pad.value_or(special->eos.value_or(0)); }

void Encoder::check_model(const Row& row) const {
  if (row.tokens || !row.dropped.empty()) return;
  if (!tokenizer) throw no_tokenizer;
  if (!named && !chat_template) throw no_chat_template;
}

Encoded Encoder::encode(const Row& row) const {
  if (row.tokens) return cut_tokens(*row.tokens);
  if (named) return encode_with_template(*named, *tokenizer, *special, row.conversation, options);
  nlohmann::ordered_json kwargs = nlohmann::ordered_json::object();
  const auto messages = template_messages(row.conversation, default_system, kwargs);
  return assemble_turns(chat_template_turns(*chat_template, *tokenizer, messages, kwargs, options), options, closing);
}

Encoded Encoder::cut_tokens(const Example& whole) const {
  Encoded result{whole, false, static_cast<int64_t>(whole.input_ids.size())};
  const auto most = static_cast<size_t>(std::max<int64_t>(options.cutoff_len, 0));
  result.truncated = whole.input_ids.size() > most;
  if (result.truncated) {
    result.example.input_ids = whole.input_ids.first(most);
    result.example.labels = whole.labels.first(most);
  }
  return result;
}

Prompt Encoder::last_turn(const Conversation& conversation) const {
  EncodeOptions one_turn = options;
  one_turn.one_turn = true;
  std::vector<Turn> turns;
  if (named) {
    turns = encode_turns(*named, *tokenizer, *special, conversation, one_turn);
  } else {
    nlohmann::ordered_json kwargs = nlohmann::ordered_json::object();
    const auto messages = template_messages(conversation, default_system, kwargs);
    turns = chat_template_turns(*chat_template, *tokenizer, messages, kwargs, one_turn);
  }
  Prompt made;
  for (size_t i = 0; i < turns.size(); ++i) {
    made.input_ids.insert(made.input_ids.end(), turns[i].source.begin(), turns[i].source.end());
    auto& place = i + 1 < turns.size() ? made.input_ids : made.label_ids;
    place.insert(place.end(), turns[i].target.begin(), turns[i].target.end());
  }
  if (closing) made.label_ids.push_back(*closing);
  return made;
}

namespace {

// The first `source` ids of the prompt and the first `target` of the answer, which is trained.
Encoded answered(const Prompt& prompt, const std::vector<int32_t>& answer, int64_t source, int64_t target) {
  const int64_t kept = std::min(target, static_cast<int64_t>(answer.size()));
  Encoded made;
  made.whole = static_cast<int64_t>(prompt.input_ids.size() + answer.size());
  made.truncated = source + kept < made.whole;
  std::vector<int32_t> ids(prompt.input_ids.begin(), prompt.input_ids.begin() + source);
  ids.insert(ids.end(), answer.begin(), answer.begin() + kept);
  std::vector<int32_t> labels(static_cast<size_t>(source), kIgnoreLabel);
  labels.insert(labels.end(), answer.begin(), answer.begin() + kept);
  made.example.input_ids = std::move(ids);
  made.example.labels = std::move(labels);
  return made;
}

void refuse_tokens(const Row& row) {
  if (row.tokens)
    throw Error(ErrorKind::usage, "preferences are questions with answers, and these rows are token ids",
                "use a set in the alpaca or sharegpt layout");
}

}  // namespace

std::pair<Encoded, Encoded> Encoder::pair(const Row& row) const {
  refuse_tokens(row);
  const Prompt chosen = last_turn(row.conversation);
  Conversation other = row.conversation;
  other.messages.back() = *row.rejected;
  const std::vector<int32_t> rejected = last_turn(other).label_ids;  // the prompt is the chosen one's
  const auto [source, target] = kept_lengths(static_cast<int64_t>(chosen.input_ids.size()),
                                             static_cast<int64_t>(std::max(chosen.label_ids.size(), rejected.size())), options.cutoff_len);
  return {answered(chosen, chosen.label_ids, source, target), answered(chosen, rejected, source, target)};
}

std::pair<Encoded, Encoded> Encoder::feedback(const Row& row, const Message& kl) const {
  refuse_tokens(row);
  const auto cut = [&](const Conversation& conversation) {
    const Prompt turn = last_turn(conversation);
    const auto [source, target] =
        kept_lengths(static_cast<int64_t>(turn.input_ids.size()), static_cast<int64_t>(turn.label_ids.size()), options.cutoff_len);
    return answered(turn, turn.label_ids, source, target);
  };
  Conversation other = row.conversation;
  other.messages.back() = kl;
  return {cut(row.conversation), cut(other)};
}

Encoded Encoder::asked(const Row& row) const {
  if (row.tokens)
    throw Error(ErrorKind::usage, "answers are generated to questions, and these rows are token ids",
                "use a set in the alpaca, sharegpt or openai layout");
  Conversation question = row.conversation;
  question.messages.pop_back();
  std::vector<int32_t> ids = named ? encode_prompt(*named, *tokenizer, *special, question, options)
                                   : encode_prompt(*chat_template, *tokenizer, question, default_system, options);
  Encoded made;
  made.whole = static_cast<int64_t>(ids.size());
  made.truncated = made.whole > options.cutoff_len;
  if (made.truncated) ids.erase(ids.begin(), ids.end() - options.cutoff_len);
  made.example.labels = std::vector<int32_t>(ids.size(), kIgnoreLabel);
  made.example.input_ids = std::move(ids);
  return made;
}

Prompt Encoder::prompt(const Row& row) const {
  if (row.tokens || !tokenizer)
    throw Error(ErrorKind::usage, "generation needs conversations and a tokenizer, and these rows or this model have none",
                "use a set in the alpaca, sharegpt or openai layout");
  Prompt made;
  if (named) {
    made = last_turn(row.conversation);
  } else {
    Conversation asked = row.conversation;
    made.label_ids = tokenizer->encode(asked.messages.back().content);
    asked.messages.pop_back();
    made.input_ids = encode_prompt(*chat_template, *tokenizer, asked, default_system, options);
  }
  const auto [source, target] =
      kept_lengths(static_cast<int64_t>(made.input_ids.size()), static_cast<int64_t>(made.label_ids.size()), options.cutoff_len);
  made.input_ids.resize(static_cast<size_t>(source));
  made.label_ids.resize(static_cast<size_t>(target));
  return made;
}

DecisionExample Encoder::decision(const Row& row) const {
  if (!row.decision || !tokenizer)
    throw Error(ErrorKind::usage, "stage decision needs texts or conversations with choices and a label, and these rows are token ids",
                "use rows with messages or text, choices and label");
  DecisionWording wording;
  wording.kind = row.decision->kind;
  wording.instructions = row.decision->question;
  wording.shown = wording.kind == DecisionKind::yes_no ? std::vector<std::string>(2) : row.decision->names;
  label_choices(wording);
  Conversation asked = row.conversation;
  asked.messages.back().content += "\n\n" + decision_text(wording);
  EncodeOptions without_thinking = options;
  without_thinking.enable_thinking = false;
  const std::vector<int32_t> prompt = named ? encode_prompt(*named, *tokenizer, *special, asked, without_thinking)
                                            : encode_prompt(*chat_template, *tokenizer, asked, default_system, without_thinking);
  auto choices = std::make_shared<DecisionChoices>();
  choices->names = row.decision->names;
  choices->numbers = row.decision->numbers;
  for (const std::string& label : wording.labels) {
    choices->labels.push_back(tokenizer->encode(label));
    if (choices->labels.back().empty())
      throw Error(ErrorKind::bad_data, fmt::format("the tokenizer has no token for the label {} of the choices", label));
  }
  if (prompt.empty()) throw Error(ErrorKind::bad_data, "it becomes no token at all");
  DecisionExample made;
  made.prompt = static_cast<int32_t>(prompt.size());
  made.label = row.decision->label;
  for (const std::vector<int32_t>& beginning : label_beginnings(choices->labels)) {
    std::vector<int32_t> ids = prompt;
    ids.insert(ids.end(), beginning.begin(), beginning.end());
    if (static_cast<int64_t>(ids.size()) > options.cutoff_len)
      throw Error(
          ErrorKind::bad_data,
          fmt::format(
              "{} tokens with its question, more than cutoff_len {}, which is to be raised: the question stands at the end, and is not "
              "cut off",
              ids.size(), options.cutoff_len));
    Example& sample = made.samples.emplace_back();
    sample.labels = std::vector<int32_t>(ids.size(), kIgnoreLabel);
    sample.input_ids = std::move(ids);
  }
  made.choices = std::move(choices);
  return made;
}

void Encoder::check_ids(const Example& example) const {
  if (vocab_size <= 0) return;
  for (size_t i = 0; i < example.input_ids.size(); ++i) {
    const int32_t id = std::max(example.input_ids[i], example.labels[i]);
    if (id >= vocab_size)
      throw Error(ErrorKind::bad_data, fmt::format("token {} is {}, the model's vocabulary has {}", i, id, vocab_size),
                  "is the tokenizer, or the tokenized file, of another model?");
  }
}

Encoder make_encoder(const DataOptions& options, Tokenizer* tokenizer, const ChatTemplate* chat_template, SpecialTokens& special) {
  Encoder encoder;
  encoder.options = {encoding_cutoff(options), options.train_on_prompt,   options.mask_history, options.split_special_tokens,
                     options.enable_thinking,  options.preserve_thinking, options.today,        false};
  encoder.tokenizer = tokenizer;
  encoder.chat_template = chat_template;
  encoder.special = &special;
  encoder.vocab_size = options.vocab_size;
  if (options.no_tokenizer) encoder.no_tokenizer = *options.no_tokenizer;
  if (options.no_chat_template) encoder.no_chat_template = *options.no_chat_template;
  encoder.default_system = options.default_system.value_or("");
  if (options.tool_format && !options.template_name) refuse_tool_format(*options.tool_format);
  if (options.template_name && tokenizer) {
    if (*options.template_name == "derived")
      encoder.named = chat_template ? derive_template(*chat_template, *tokenizer, true) : named_template("empty");
    else encoder.named = named_template(*options.template_name);
    if (options.default_system) encoder.named->default_system = *options.default_system;
    if (options.tool_format) use_tool_format(*encoder.named, *options.tool_format);
    if (encoder.named->efficient_eos && options.train_on_prompt)
      throw Error(ErrorKind::usage, fmt::format("train_on_prompt does not go with template `{}` (efficient_eos)", *options.template_name));
    apply_template_tokens(*encoder.named, *tokenizer, special, options.vocab_size);
    if (encoder.named->efficient_eos) encoder.closing = special.eos;
  } else if (tokenizer && chat_template) {
    const EndOfTurn end = end_of_turn(*chat_template, *tokenizer, special.eos);
    special.stop.insert(special.stop.end(), end.stop.begin(), end.stop.end());
    if (end.missing) encoder.closing = special.eos;
  }
  return encoder;
}

}  // namespace loraine
