// Slot-wise encoding and the cut-off and mask rules of LLaMA-Factory. Called through encode.h.
#include "loraine/data/encode/encode.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "loraine/core/batch.h"
#include "loraine/core/error.h"
#include "loraine/data/encode/trimmed.h"
#include "loraine/data/tools/tools.h"

namespace loraine {
namespace {

// Puts `value` in the place of the first {{name}}; texts that hold braces of their own are not looked at again under the same name.
void fill(std::string& text, std::string_view name, std::string_view value) {
  if (const size_t at = text.find(name); at != std::string::npos) text.replace(at, name.size(), value);
}

struct SlotWriter {
  const Tokenizer& tokenizer;
  const SpecialTokens& special;
  bool split_special_tokens;

  void text(std::vector<int32_t>& ids, const std::string& text) const {
    if (text.empty()) return;
    const auto more = tokenizer.encode(text, false, split_special_tokens);
    ids.insert(ids.end(), more.begin(), more.end());
  }
  void slots(std::vector<int32_t>& ids, const std::vector<Slot>& slots, const std::string& content, const std::string* index) const {
    for (const Slot& slot : slots) {
      if (slot.kind == SlotKind::text) {
        std::string filled = slot.text;
        fill(filled, "{{content}}", content);
        if (index) fill(filled, "{{idx}}", *index);
        text(ids, filled);
      } else if (slot.kind == SlotKind::bos && special.bos) {
        ids.push_back(*special.bos);
      } else if (slot.kind == SlotKind::eos && special.eos) {
        ids.push_back(*special.eos);
      } else if (slot.kind == SlotKind::token) {
        const auto known = tokenizer.token_to_id(slot.text), id = known ? known : special.unk;  // as transformers gives ids of tokens
        if (!id)
          throw Error(ErrorKind::usage, fmt::format("the template writes the token {}, which this tokenizer lacks", slot.text),
                      "choose another template, or leave template out to use the model's own");
        ids.push_back(*id);
      }
    }
  }
};

std::string remove_thoughts(const Template& chat, const std::string& text) {
  const std::string &opens = chat.open_thought, &closes = chat.close_thought;
  std::string kept;
  size_t from = 0;
  for (;;) {
    const size_t open = text.find(opens, from);
    const size_t close = open == std::string::npos ? open : text.find(closes, open + opens.size());
    if (close == std::string::npos) break;
    kept.append(text, from, open - from);
    from = close + closes.size();
  }
  kept.append(text, from, std::string::npos);
  kept.erase(0, std::min(kept.find_first_not_of('\n'), kept.size()));
  return kept;
}

bool has_thought(const Template& chat, const std::string& text) {
  return text.find(trimmed(chat.open_thought)) != std::string::npos || text.find(trimmed(chat.close_thought)) != std::string::npos;
}

}  // namespace

std::pair<int64_t, int64_t> kept_lengths(int64_t source, int64_t target, int64_t cutoff_len) {
  int64_t most = 0;
  if (target * 2 < cutoff_len) most = cutoff_len;
  else if (source * 2 < cutoff_len) most = cutoff_len - source;
  else most = static_cast<int64_t>(static_cast<double>(cutoff_len) * (static_cast<double>(target) / static_cast<double>(source + target)));
  const int64_t kept_target = std::min(most, target);
  return {std::min(std::max<int64_t>(cutoff_len - kept_target, 0), source), kept_target};
}

Encoded assemble_turns(std::span<const Turn> turns, const EncodeOptions& options, std::optional<int32_t> efficient_eos) {
  Encoded result;
  std::vector<int32_t> ids, labels;
  int64_t used = efficient_eos ? 1 : 0;
  std::vector<std::pair<int64_t, int64_t>> kept(turns.size(), {0, 0});  // in the order of the conversation
  for (size_t i = 0; i < turns.size(); ++i) {
    const size_t turn = options.mask_history ? turns.size() - 1 - i : i;  // mask_history: the last turn has the first claim
    const auto source = static_cast<int64_t>(turns[turn].source.size()), target = static_cast<int64_t>(turns[turn].target.size());
    if (used < options.cutoff_len) kept[turn] = kept_lengths(source, target, options.cutoff_len - used);
    used += kept[turn].first + kept[turn].second;
    result.whole += source + target;
    result.truncated |= kept[turn] != std::pair(source, target);
  }
  ids.reserve(static_cast<size_t>(used));
  labels.reserve(static_cast<size_t>(used));
  const auto note_whole = [&](const std::vector<int32_t>& part, int64_t stays) {
    if (!options.keep_whole) return;
    result.whole_ids.insert(result.whole_ids.end(), part.begin(), part.end());
    for (size_t i = 0; i < part.size(); ++i) result.kept.push_back(static_cast<int64_t>(i) < stays);
  };
  for (size_t turn = 0; turn < turns.size(); ++turn) {
    const auto [source, target] = kept[turn];
    const auto& from = turns[turn];
    note_whole(from.source, source);
    note_whole(from.target, target);
    ids.insert(ids.end(), from.source.begin(), from.source.begin() + source);
    ids.insert(ids.end(), from.target.begin(), from.target.begin() + target);
    const bool first_processed = options.mask_history ? turn + 1 == turns.size() : turn == 0;
    if (options.train_on_prompt) {
      labels.insert(labels.end(), from.source.begin(), from.source.begin() + source);
    } else if (source > 0) {
      labels.insert(labels.end(), static_cast<size_t>(source), kIgnoreLabel);
      if (efficient_eos && !first_processed) labels[labels.size() - static_cast<size_t>(source)] = *efficient_eos;
    }
    if (options.mask_history && !first_processed) labels.insert(labels.end(), static_cast<size_t>(target), kIgnoreLabel);
    else labels.insert(labels.end(), from.target.begin(), from.target.begin() + target);
  }
  if (efficient_eos) {
    ids.push_back(*efficient_eos);
    labels.push_back(*efficient_eos);
    note_whole({*efficient_eos}, 1);
    ++result.whole;
  }
  result.example.input_ids = std::move(ids);
  result.example.labels = std::move(labels);
  return result;
}

std::vector<Turn> encode_turns(const Template& chat, const Tokenizer& tokenizer, const SpecialTokens& special,
                               const Conversation& conversation, const EncodeOptions& options) {
  const SlotWriter writer{tokenizer, special, options.split_special_tokens};
  std::vector<Message> messages = conversation.messages;
  const bool reasoning = chat.kind == TemplateClass::reasoning;
  const bool without_history = options.mask_history && !options.preserve_thinking;
  const auto loses_thoughts = [&](size_t i) {
    const bool last = i + 1 >= messages.size(), off = options.enable_thinking == false;
    if (options.one_turn) return last ? off : !options.preserve_thinking;
    return off || (without_history && !last);
  };
  if (reasoning)
    for (size_t i = 1; i < messages.size(); i += 2)
      if (loses_thoughts(i)) messages[i].content = remove_thoughts(chat, messages[i].content);
  const std::string system = (conversation.system.empty() ? chat.default_system : conversation.system);
  const std::string system_content =
      system + (conversation.tools.empty() ? "" : tools_text(chat.tool_format, conversation.tools, options.today));
  const bool with_system = !system.empty() || !conversation.tools.empty();

  std::optional<CallWords> words;
  if (chat.kind != TemplateClass::llama2) words = CallWords{chat.open_thought, chat.close_thought};
  std::vector<Turn> turns;
  for (size_t i = 0; i < messages.size(); ++i) {
    if (i % 2 == 0) turns.emplace_back();
    auto& ids = i % 2 == 0 ? turns.back().source : turns.back().target;
    std::string before_user;
    if (i == 0) {
      writer.slots(ids, chat.prefix, "", nullptr);
      if (with_system && chat.kind == TemplateClass::llama2) {
        before_user = chat.system.empty() ? "" : chat.system.front().text;
        fill(before_user, "{{content}}", system_content);
      } else if (with_system) {
        writer.slots(ids, chat.system, system_content, nullptr);
      }
    }
    const Message& message = messages[i];
    const std::string index = std::to_string(i / 2);
    switch (message.role) {
      case Role::user:
        writer.slots(ids, chat.user, before_user + message.content, chat.kind == TemplateClass::llama2 ? nullptr : &index);
        break;
      case Role::assistant: writer.slots(ids, chat.assistant, message.content, nullptr); break;
      case Role::observation: writer.slots(ids, chat.observation, message.content, nullptr); break;
      case Role::function: writer.slots(ids, chat.function, calls_text(chat.tool_format, message.content, words), nullptr); break;
    }
  }
  // An answer without thoughts gets empty ones: into the prompt without loss, or (thinking on) into the answer. Where earlier answers
  // lose their thoughts, only the last one does.
  if (reasoning) {
    const auto empty = tokenizer.encode(chat.empty_thought, false, options.split_special_tokens);
    const bool last_only = (without_history || options.one_turn) && !turns.empty();
    for (size_t turn = last_only ? turns.size() - 1 : 0; turn < turns.size(); ++turn) {
      if (turn * 2 + 1 >= messages.size() || has_thought(chat, messages[turn * 2 + 1].content)) continue;
      if (options.enable_thinking.value_or(false)) turns[turn].target.insert(turns[turn].target.begin(), empty.begin(), empty.end());
      else turns[turn].source.insert(turns[turn].source.end(), empty.begin(), empty.end());
    }
  }
  return turns;
}

Encoded encode_with_template(const Template& chat, const Tokenizer& tokenizer, const SpecialTokens& special,
                             const Conversation& conversation, const EncodeOptions& options) {
  const auto turns = encode_turns(chat, tokenizer, special, conversation, options);
  return assemble_turns(turns, options, chat.efficient_eos ? special.eos : std::nullopt);
}

std::vector<int32_t> encode_prompt(const Template& chat, const Tokenizer& tokenizer, const SpecialTokens& special,
                                   const Conversation& conversation, const EncodeOptions& options) {
  Conversation asked = conversation;
  asked.messages.push_back({Role::assistant, ""});
  EncodeOptions one_turn = options;
  one_turn.one_turn = true;
  const auto turns = encode_turns(chat, tokenizer, special, asked, one_turn);
  std::vector<int32_t> ids;
  for (size_t i = 0; i < turns.size(); ++i) {
    ids.insert(ids.end(), turns[i].source.begin(), turns[i].source.end());
    if (i + 1 < turns.size()) ids.insert(ids.end(), turns[i].target.begin(), turns[i].target.end());
  }
  return ids;
}

}  // namespace loraine
