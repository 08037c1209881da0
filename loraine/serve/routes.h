// The one table of routes, and the rules that hold for all of them: keys, methods, origins, the kind of body. Called by server.cpp.
#pragma once
#include <memory>
#include <optional>
#include <span>
#include <string>

#include "loraine/serve/service.h"

namespace loraine {

enum class Key : uint8_t { no, yes, unless_local };  // unless_local: not for requests from this machine

struct Route {
  const char* method;
  const char* path;  // {id} at its end: any one name
  Key key;
  bool needs_model;    // 503 until it is there
  bool changes_state;  // 403 without allow_runtime_lora_updating
  void (*handle)(Service& service, Call call);
};
std::span<const Route> routes();

// The first two hooks of HttpHooks, and what bytes that are no request are told.
std::optional<HttpResponse> check_head(Service& service, const ServerRequest& request);
void route_request(Service& service, ServerRequest request, std::shared_ptr<HttpReply> reply);
HttpResponse bad_request(Service& service, int status, const std::string& why);

// Whether `given` is one of the keys, in a time that does not tell how much of it is right.
bool is_key(const std::vector<std::string>& keys, std::string_view given);

}  // namespace loraine
