// OpenAI's responses: a new one, and those that are kept.
#include "loraine/serve/protocol/responses.h"

#include <fmt/format.h>

#include "loraine/serve/handlers/conversation.h"
#include "loraine/serve/handlers/handlers.h"
#include "loraine/serve/protocol/json_body.h"

namespace loraine {
namespace {

ApiError no_response(const std::string& id, const char* param) {
  return {404, fmt::format("no response {} is kept here; only those asked for with store are, the latest 256", shown(id)), param,
          "response_not_found"};
}

void respond(Service& service, Call& call) {
  AskedResponse asked = read_response(parse_json_body(call.request.body), service.defaults, service.loaded->model.config.vocab_size,
                                      service.llama_factory, service.loaded->config.strict);
  WireJson messages = WireJson::array();
  if (!asked.previous.empty()) {
    const auto previous = service.responses.find(asked.previous, call.client);
    if (!previous) throw no_response(asked.previous, "previous_response_id");
    messages = previous->messages;
  }
  messages.insert(messages.end(), asked.chat.messages.begin(), asked.chat.messages.end());
  asked.chat.messages = messages;
  if (!asked.instructions.empty())
    asked.chat.messages.insert(asked.chat.messages.begin(), WireJson{{"role", "system"}, {"content", asked.instructions}});
  std::function<void(const WireJson&)> keep;
  if (asked.store)
    keep = [&service, client = call.client, messages](const WireJson& response) {
      WireJson all = messages;
      all.push_back(message_of_response(response));
      service.responses.put({response["id"].get<std::string>(), client, response, std::move(all)});
    };
  start_conversation(service, call, std::move(asked.chat), service.new_id("resp_"), [&](const Asked& wanted, const std::string&) {
    return response_form(wanted, std::move(asked.settings), *service.loaded->text.tokenizer, std::move(keep));
  });
}

}  // namespace

void post_response(Service& service, Call call) {
  if (!refused_early(service, call)) in_worker(service, std::move(call), respond);
}

void get_response(Service& service, Call call) {
  const auto found = service.responses.find(call.argument, call.client);
  if (!found) throw no_response(call.argument, "response_id");
  call.json(found->response);
}

void delete_response(Service& service, Call call) {
  if (!service.responses.erase(call.argument, call.client)) throw no_response(call.argument, "response_id");
  call.json({{"id", call.argument}, {"object", "response"}, {"deleted", true}});
}

// POST /v1/responses/{id}/cancel: only what runs in the background can be cancelled, and nothing does here.
void post_response_action(Service& service, Call call) {
  constexpr std::string_view kCancel = "/cancel";
  const std::string id = call.argument.ends_with(kCancel) ? call.argument.substr(0, call.argument.size() - kCancel.size()) : "";
  if (id.empty()) throw ApiError{404, "there is no route " + call.request.path, "", "not_found"};
  if (!service.responses.find(id, call.client)) throw no_response(id, "response_id");
  throw ApiError{
      400,
      "the response is complete; only one that runs in the background could be cancelled. One that runs ends when its connection is closed",
      "response_id", "invalid_response_status"};
}

}  // namespace loraine
