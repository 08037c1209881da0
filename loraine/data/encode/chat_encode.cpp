// Training examples from the model's own chat template, with masks by position. Called through encode.h.
#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>

#include "loraine/core/error.h"
#include "loraine/core/python_json.h"
#include "loraine/data/encode/answer_ranges.h"
#include "loraine/data/encode/encode.h"
#include "loraine/data/encode/results.h"

namespace loraine {
namespace {

using OrderedJson = nlohmann::ordered_json;

// Places in the text that the tokenizer cannot look across: where a special token begins, with its index among the ids.
struct TextCut {
  size_t byte = 0, token = 0;
};

std::vector<TextCut> special_cuts(const Tokenizer& tokenizer, const std::string& text, const std::vector<int32_t>& ids) {
  std::vector<TextCut> cuts;
  std::map<int32_t, std::string> spelling;  // empty: not special
  size_t from = 0;
  for (size_t i = 0; i < ids.size(); ++i) {
    auto [known, added] = spelling.try_emplace(ids[i]);
    if (added && tokenizer.is_special(ids[i])) known->second = tokenizer.id_to_token(ids[i]).value_or("");
    if (known->second.empty()) continue;
    const size_t at = text.find(known->second, from);
    if (at == std::string::npos) return {};  // the text is not what the ids spell
    cuts.push_back({at, i});
    from = at + known->second.size();
  }
  return cuts;
}

// Index of the first token that does not lie wholly before byte `at`; `crossed`: that token began before it. Only the text since the last
// special token before `at` is looked at.
size_t token_at(const Tokenizer& tokenizer, const std::string& text, size_t at, const std::vector<int32_t>& ids,
                const std::vector<TextCut>& cuts, bool split, bool& crossed) {
  crossed = false;
  if (at >= text.size()) return ids.size();
  const auto behind = std::lower_bound(cuts.begin(), cuts.end(), at, [](const TextCut& cut, size_t byte) { return cut.byte < byte; });
  const TextCut cut = behind == cuts.begin() ? TextCut{} : *std::prev(behind);
  const std::string_view before = std::string_view(text).substr(cut.byte, at - cut.byte);
  const auto head = split ? tokenizer.encode_guarded(before) : tokenizer.encode(before);
  size_t same = 0;
  while (same < head.size() && cut.token + same < ids.size() && head[same] == ids[cut.token + same]) ++same;
  crossed = same < head.size();
  return cut.token + same;
}

// What people wrote in a conversation, its roles and kinds left as they are.
void guard_texts(OrderedJson& value, const Tokenizer& tokenizer) {
  for (auto& [key, part] : value.items()) {
    if (key == "role" || key == "type") continue;
    if (part.is_string()) part = tokenizer.guard(part.get_ref<const std::string&>());
    else if (part.is_structured()) guard_texts(part, tokenizer);
  }
}

// Calls of tools and their results with ids of nine letters and digits, where they have none.
OrderedJson with_call_ids(const OrderedJson& messages) {
  OrderedJson numbered = messages;
  std::vector<std::string> open;  // calls whose result has not come yet
  size_t count = 0;
  for (OrderedJson& message : numbered) {
    if (!message.is_object()) continue;
    if (const auto calls = message.find("tool_calls"); calls != message.end() && calls->is_array()) {
      open.clear();
      for (OrderedJson& call : *calls) {
        if (!call.is_object()) continue;
        if (!call.contains("id")) call["id"] = fmt::format("call{:05}", count++ % 100000);
        if (call["id"].is_string()) open.push_back(call["id"].get<std::string>());
      }
    } else if (message.value("role", OrderedJson()) == "tool" && !message.contains("tool_call_id") && !open.empty()) {
      message["tool_call_id"] = open.front();
      if (open.size() > 1) open.erase(open.begin());
    }
  }
  return numbered;
}

// The arguments of calls: objects where they are JSON texts, or the other way round.
OrderedJson with_arguments(const OrderedJson& messages, bool objects) {
  OrderedJson changed = messages;
  for (OrderedJson& message : changed) {
    if (!message.is_object() || !message.contains("tool_calls") || !message["tool_calls"].is_array()) continue;
    for (OrderedJson& call : message["tool_calls"]) {
      if (!call.is_object() || !call.contains("function") || !call["function"].is_object() || !call["function"].contains("arguments"))
        continue;
      OrderedJson& arguments = call["function"]["arguments"];
      if (objects && arguments.is_string()) {
        if (OrderedJson read = OrderedJson::parse(arguments.get<std::string>(), nullptr, false); read.is_object())
          arguments = std::move(read);
      } else if (!objects && arguments.is_object()) {
        arguments = python_json(arguments);
      }
    }
  }
  return changed;
}

// The messages as the template takes them. Arguments of calls are objects, as transformers asks for, and texts where it refuses objects
// (DeepSeek's); calls have ids only where it refuses them without (Mistral's), since others write them.
OrderedJson taken_messages(const ChatTemplate& chat, const OrderedJson& messages, const OrderedJson& kwargs) {
  const auto calls = [](const OrderedJson& message) { return message.is_object() && message.contains("tool_calls"); };
  if (std::none_of(messages.begin(), messages.end(), calls)) return messages;
  const OrderedJson objects = with_arguments(messages, true), texts = with_arguments(messages, false);
  for (const OrderedJson& form : {objects, with_call_ids(objects), texts, with_call_ids(texts)}) {
    try {
      chat.render(form, kwargs);
      return form;
    } catch (const Error&) {}
  }
  return objects;  // it is refused for something else, which the caller gets to see
}

}  // namespace

OrderedJson guarded_messages(const OrderedJson& messages, const Tokenizer& tokenizer) {
  OrderedJson guarded = messages;
  if (guarded.is_structured()) guard_texts(guarded, tokenizer);
  return guarded;
}

std::vector<Turn> chat_template_turns(const ChatTemplate& chat, const Tokenizer& tokenizer, const OrderedJson& messages,
                                      const OrderedJson& kwargs, const EncodeOptions& options) {
  OrderedJson with = kwargs.is_object() ? kwargs : OrderedJson::object();
  if (!with.contains("add_generation_prompt")) with["add_generation_prompt"] = false;
  if (options.enable_thinking && !with.contains("enable_thinking")) with["enable_thinking"] = *options.enable_thinking;
  const OrderedJson written = taken_messages(chat, options.split_special_tokens ? guarded_messages(messages, tokenizer) : messages, with);
  const RenderedChat rendered = chat.render_turns(written, with);
  const auto ranges =
      rendered.has_generation_blocks ? rendered.generation : assistant_ranges(chat, tokenizer, written, with, rendered.text);
  const auto ids = options.split_special_tokens ? tokenizer.encode_guarded(rendered.text) : tokenizer.encode(rendered.text);
  const auto cuts = special_cuts(tokenizer, rendered.text, ids);
  std::vector<Turn> turns;
  size_t from = 0;
  for (const auto& [begin, end] : ranges) {
    if (begin >= end) continue;
    bool crossed = false;
    const size_t first = std::max(from, token_at(tokenizer, rendered.text, begin, ids, cuts, options.split_special_tokens, crossed));
    size_t last = token_at(tokenizer, rendered.text, end, ids, cuts, options.split_special_tokens, crossed);
    last = std::clamp(last + (crossed ? 1 : 0), first, ids.size());
    const auto at = [&](size_t i) { return ids.begin() + static_cast<std::ptrdiff_t>(i); };
    turns.push_back({{at(from), at(first)}, {at(first), at(last)}});
    from = last;
  }
  return turns;  // what follows the last answer trains nothing and is left out
}

Encoded encode_with_chat_template(const ChatTemplate& chat, const Tokenizer& tokenizer, const OrderedJson& messages,
                                  const OrderedJson& kwargs, const EncodeOptions& options) {
  const auto turns = chat_template_turns(chat, tokenizer, messages, kwargs, options);
  return assemble_turns(turns, options, std::nullopt);
}

OrderedJson template_messages(const Conversation& conversation, const std::string& default_system, OrderedJson& kwargs) {
  OrderedJson messages = OrderedJson::array();
  const std::string& system = conversation.system.empty() ? default_system : conversation.system;
  if (!system.empty()) messages.push_back({{"role", "system"}, {"content", system}});
  const auto parse = [](const std::string& text, const char* what) {
    OrderedJson value = OrderedJson::parse(text, nullptr, false);
    if (value.is_discarded())
      throw Error(ErrorKind::bad_data, fmt::format("{}: not JSON", what), "write the list of tools or of calls as JSON text");
    return value.is_array() ? value : OrderedJson::array({value});
  };
  if (!conversation.tools.empty()) {
    OrderedJson tools = OrderedJson::array();
    for (const OrderedJson& tool : parse(conversation.tools, "tools"))
      tools.push_back(tool.is_object() && tool.contains("function") ? tool : OrderedJson{{"type", "function"}, {"function", tool}});
    kwargs["tools"] = std::move(tools);
  }
  for (const Message& message : conversation.messages) {
    switch (message.role) {
      case Role::user: messages.push_back({{"role", "user"}, {"content", message.content}}); break;
      case Role::assistant: messages.push_back({{"role", "assistant"}, {"content", message.content}}); break;
      case Role::observation:  // several results, put together as LLaMA-Factory does (formats.cpp), are a message each again
        for (size_t from = 0, to = 0; to != std::string::npos; from = to + kBetweenResults.size()) {
          to = message.content.find(kBetweenResults, from);
          messages.push_back({{"role", "tool"}, {"content", message.content.substr(from, to == std::string::npos ? to : to - from)}});
        }
        break;
      case Role::function: {
        OrderedJson calls = OrderedJson::array();
        for (const OrderedJson& call : parse(message.content, "function call")) calls.push_back({{"type", "function"}, {"function", call}});
        messages.push_back({{"role", "assistant"}, {"content", ""}, {"tool_calls", calls}});
        break;
      }
    }
  }
  return messages;
}

std::vector<int32_t> encode_prompt(const ChatTemplate& chat, const Tokenizer& tokenizer, const Conversation& conversation,
                                   const std::string& default_system, const EncodeOptions& options) {
  OrderedJson kwargs = {{"add_generation_prompt", true}};
  if (options.enable_thinking) kwargs["enable_thinking"] = *options.enable_thinking;
  const OrderedJson messages = taken_messages(chat, template_messages(conversation, default_system, kwargs), kwargs);
  if (!options.split_special_tokens) return tokenizer.encode(chat.render(messages, kwargs).text);
  return tokenizer.encode_guarded(chat.render(guarded_messages(messages, tokenizer), kwargs).text);
}

}  // namespace loraine
