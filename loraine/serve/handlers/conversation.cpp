// See conversation.h.
#include "loraine/serve/handlers/conversation.h"

#include <fmt/format.h>

#include "loraine/serve/answer.h"
#include "loraine/serve/chosen_adapter.h"
#include "loraine/serve/handlers/handlers.h"

namespace loraine {
namespace {

const ChatFormat& format_of(const Service& service, const ServedAdapter* adapter) {
  return adapter ? adapter->format : service.loaded->format;
}

// What ends an answer: a grammar allows it where it is complete.
std::vector<int32_t> ends_of(const Service& service, const ServedAdapter* adapter) {
  std::vector<int32_t> ends = service.loaded->eos_ids;
  const std::vector<int32_t>& own = format_of(service, adapter).stop_ids;
  ends.insert(ends.end(), own.begin(), own.end());
  return ends;
}

std::shared_ptr<const grammar::TokenGrammar> find_grammar(Service& service, CallGrammar wanted, const Asked& asked,
                                                          const ServedAdapter* adapter) {
  try {
    return service.grammars->find(std::move(wanted), ends_of(service, adapter));
  } catch (const grammar::GrammarError& error) {
    const bool of_tools = error.path.starts_with("#/tools") || !asked.shape.shape;
    throw ApiError{400, error.what(), of_tools ? "tools" : asked.shape.field, error.code};
  }
}

bool any_strict(const AskedTools& tools) {
  for (const WireJson& tool : tools.list)
    if (tool["function"].contains("strict")) return true;
  return false;
}

// The system text of a model whose template knows no tools (tool_call_parser json): what there is, and how to call it.
std::string tools_text(const WireJson& tools) {
  std::string text = "You can call these functions, described by JSON schemas:\n";
  for (const WireJson& tool : tools) text += wire_text(tool["function"]) + "\n";
  return text + "To call one, answer with a JSON object {\"name\": function, \"arguments\": object} and nothing else.";
}

void write_tools(WireJson& messages, const WireJson& tools) {
  const std::string text = tools_text(tools);
  if (!messages.empty() && messages[0]["role"] == "system") {
    messages[0]["content"] = messages[0]["content"].get<std::string>() + "\n\n" + text;
  } else {
    messages.insert(messages.begin(), WireJson{{"role", "system"}, {"content", text}});
  }
}

ReplyReading reading_of(Service& service, const Asked& asked, const ServedAdapter* adapter, std::string prompt) {
  ReplyReading reading{.format = service.reply_format_of(adapter), .prompt = std::move(prompt)};
  if (!asked.tools.on()) return reading;
  reading.reads_calls = true;
  reading.enforced = asked.tools.choice == AskedTools::Choice::required || any_strict(asked.tools);
  reading.tools = asked.tools.list;
  return reading;
}

std::shared_ptr<const grammar::TokenGrammar> grammar_of(Service& service, const Asked& asked, const ServedAdapter* adapter,
                                                        const ReplyReading& reading) {
  CallGrammar wanted{.required = false};
  // A template of answers reads calls in a form of its own, which is not enforced.
  if (reading.reads_calls && (reading.enforced || !reading.format.response_template)) {
    wanted.format = reading.format.calls;
    wanted.tools = asked.tools.list;
    wanted.required = asked.tools.choice == AskedTools::Choice::required;
    wanted.name = asked.tools.name;
    wanted.parallel = asked.tools.parallel;
  }
  if (!wanted.required) wanted.shape = asked.shape.shape;
  if (!wanted.format && !wanted.shape) return nullptr;
  if (!begins_behind_thought(reading)) wanted.thoughts = reading.format.thoughts;
  wanted.in_thought = begins_in_thought(reading);
  return find_grammar(service, std::move(wanted), asked, adapter);
}

// None where the answer has no thoughts. Where their marks are not known a budget that was named is refused; Anthropic's clients send
// theirs to every model, so the log says it.
std::shared_ptr<const ThoughtLimit> thought_limit(Service& service, const Call& call, const Asked& asked, const ServedAdapter* adapter,
                                                  const ReplyReading& reading) {
  if (!asked.thought_tokens) return nullptr;
  if (!reading.format.thoughts) {
    const std::string why =
        "the marks of this model's thoughts are not known, so thoughts have no budget; reasoning_parser of the server names them";
    if (!asked.thought_tokens_by_habit)
      throw ApiError{400, "thinking_token_budget: " + why + ", or leave it out", "thinking_token_budget", "unsupported_parameter"};
    log_line(fmt::format("{}: budget_tokens: {}", call.request_id, why));
    return nullptr;
  }
  if (begins_behind_thought(reading)) return nullptr;
  const ThoughtMarks& marks = *reading.format.thoughts;
  return std::make_shared<ThoughtLimit>(ThoughtLimit{service.grammars->vocabulary(ends_of(service, adapter)), marks,
                                                     service.loaded->text.tokenizer->encode(marks.close, false), *asked.thought_tokens,
                                                     service.loaded->model.config.vocab_size, begins_in_thought(reading)});
}

}  // namespace

bool refused_early(Service& service, const Call& call) {
  if (service.loop->waiting_requests() < service.config.max_queued_requests) return false;
  call.fail({429, fmt::format("{} requests wait already (max_queued_requests)", service.config.max_queued_requests), "", "queue_full",
             service.retry_after()});
  return true;
}

void note_ignored(const Call& call, const std::string& names) {
  if (!names.empty()) log_line(fmt::format("{}: fields that are not known are ignored: {}", call.request_id, names.substr(0, 200)));
}

ChatPrompt conversation_prompt(Service& service, const AskedChat& chat, const ServedAdapter* adapter) {
  if (chat.plain) return {.text = *chat.plain, .ids = service.loaded->text.tokenizer->encode(*chat.plain, chat.context_before.empty())};
  WireJson kwargs = chat.kwargs, messages = chat.messages;
  if (chat.asked.tools.on()) {
    const ReplyFormat format = service.reply_format_of(adapter);
    if (!format.problem.empty()) throw ApiError{400, "tools: " + format.problem, "tools", "unsupported_parameter"};
    if (!format.template_tools && !format.system_tools)
      throw ApiError{
          400,
          "the model's chat template never reads tools, so it cannot be given any; start the server with tool_call_parser json to "
          "write them into the system text",
          "tools", "unsupported_parameter"};
    if (format.template_tools) kwargs["tools"] = chat.asked.tools.list;
    else write_tools(messages, chat.asked.tools.list);
  }
  return chat_prompt(format_of(service, adapter), *service.loaded->text.tokenizer, messages, kwargs,
                     service.loaded->config.split_special_tokens);
}

std::shared_ptr<const grammar::TokenGrammar> shape_grammar(Service& service, const Asked& asked, const ServedAdapter* adapter) {
  if (!asked.shape.shape) return nullptr;
  return find_grammar(service, {.required = false, .shape = asked.shape.shape}, asked, adapter);
}

void start_conversation(Service& service, Call& call, AskedChat chat, std::string id, const FormMaker& form) {
  note_ignored(call, chat.ignored);
  AnswerStart start;
  start.adapter = chosen_adapter(service, chat.asked.model, chat.asked.lora);
  {
    const std::shared_lock lock(service.text_mutex);
    ChatPrompt prompt = conversation_prompt(service, chat, start.adapter.get());
    prompt.ids.insert(prompt.ids.begin(), chat.context_before.begin(), chat.context_before.end());
    start.prompts.push_back({.ids = std::move(prompt.ids)});
    if (chat.plain) {
      start.grammar = shape_grammar(service, chat.asked, start.adapter.get());
    } else {
      start.reading = reading_of(service, chat.asked, start.adapter.get(), std::move(prompt.text));
      start.grammar = grammar_of(service, chat.asked, start.adapter.get(), start.reading);
      start.thoughts = thought_limit(service, call, chat.asked, start.adapter.get(), start.reading);
    }
    start.reading.in_pieces = start.grammar && chat.asked.stream;
  }
  call.request.body = {};
  start.form = form(chat.asked, id);
  start.asked = std::move(chat.asked);
  start.id = std::move(id);
  Answer::start(service, call, std::move(start));
}

}  // namespace loraine
