// See routes.h.
#include "loraine/serve/routes.h"

#include <fmt/format.h>

#include <algorithm>

#include "loraine/serve/handlers/handlers.h"

namespace loraine {
namespace {

constexpr Route kRoutes[] = {
    {"GET", "/health", Key::no, false, false, get_health},
    {"GET", "/ping", Key::no, false, false, get_health},
    {"GET", "/v1/health", Key::no, false, false, get_health},
    {"GET", "/version", Key::no, false, false, get_version},
    {"GET", "/ready", Key::no, false, false, get_ready},
    {"GET", "/metrics", Key::unless_local, true, false, get_metrics},
    {"GET", "/v1/models", Key::yes, true, false, list_models},
    {"GET", "/v1/models/{id}", Key::yes, true, false, get_model},
    {"GET", "/props", Key::yes, true, false, get_props},
    {"GET", "/lora-adapters", Key::yes, true, false, list_lora},
    {"POST", "/v1/chat/completions", Key::yes, true, false, post_chat},
    {"POST", "/v1/completions", Key::yes, true, false, post_completion},
    {"POST", "/v1/responses", Key::yes, true, false, post_response},
    {"GET", "/v1/responses/{id}", Key::yes, true, false, get_response},
    {"DELETE", "/v1/responses/{id}", Key::yes, true, false, delete_response},
    {"POST", "/v1/responses/{id}", Key::yes, true, false, post_response_action},
    {"POST", "/v1/messages", Key::yes, true, false, post_messages},
    {"POST", "/v1/messages/count_tokens", Key::yes, true, false, post_count_tokens},
    {"POST", "/v1/embeddings", Key::yes, true, false, post_embeddings},
    {"POST", "/v1/decisions", Key::yes, true, false, post_decisions},
    {"POST", "/v1/systemone", Key::yes, true, false, post_system_one},
    {"POST", "/v1/score/evaluation", Key::yes, true, false, post_score},
    {"POST", "/tokenize", Key::yes, true, false, post_tokenize},
    {"POST", "/v1/tokenize", Key::yes, true, false, post_tokenize},
    {"POST", "/detokenize", Key::yes, true, false, post_detokenize},
    {"POST", "/v1/detokenize", Key::yes, true, false, post_detokenize},
    {"POST", "/apply-template", Key::yes, true, false, post_apply_template},
    {"POST", "/v1/apply-template", Key::yes, true, false, post_apply_template},
    {"GET", "/api/version", Key::yes, false, false, get_ollama_version},
    {"GET", "/api/tags", Key::yes, true, false, get_ollama_tags},
    {"GET", "/api/ps", Key::yes, true, false, get_ollama_running},
    {"POST", "/api/show", Key::yes, true, false, post_ollama_show},
    {"POST", "/api/chat", Key::yes, true, false, post_ollama_chat},
    {"POST", "/api/generate", Key::yes, true, false, post_ollama_generate},
    {"POST", "/api/embed", Key::yes, true, false, post_ollama_embed},
    {"POST", "/api/embeddings", Key::yes, true, false, post_ollama_embeddings},
    {"POST", "/api/pull", Key::yes, false, false, refuse_ollama},
    {"POST", "/api/push", Key::yes, false, false, refuse_ollama},
    {"POST", "/api/create", Key::yes, false, false, refuse_ollama},
    {"POST", "/api/copy", Key::yes, false, false, refuse_ollama},
    {"DELETE", "/api/delete", Key::yes, false, false, refuse_ollama},
    {"POST", "/api/blobs/{id}", Key::yes, false, false, refuse_ollama},
    {"POST", "/v1/load_lora_adapter", Key::yes, true, true, post_load_vllm},
    {"POST", "/v1/unload_lora_adapter", Key::yes, true, true, post_unload_vllm},
    {"POST", "/load_lora_adapter", Key::yes, true, true, post_load_sglang},
    {"POST", "/unload_lora_adapter", Key::yes, true, true, post_unload_sglang},
    {"POST", "/lora-adapters", Key::yes, true, true, post_lora},
};

// How errors are written, by whose route it is.
ErrorStyle style_of(const Service& service, const ServerRequest& request) {
  if (request.path.starts_with(service.api.root_path + "/v1/messages")) return ErrorStyle::anthropic;
  if (request.path.starts_with(service.api.root_path + "/api/")) return ErrorStyle::ollama;
  return service.llama_factory ? ErrorStyle::llama_factory : ErrorStyle::openai;
}

// What stands in the place of {id}; none where the route is another.
std::optional<std::string> matches(const Route& route, std::string_view path) {
  const std::string_view pattern = route.path;
  if (!pattern.ends_with("{id}")) return path == pattern ? std::optional<std::string>("") : std::nullopt;
  const std::string_view before = pattern.substr(0, pattern.size() - 4);
  if (!path.starts_with(before) || path.size() == before.size()) return {};
  return std::string(path.substr(before.size()));
}

struct Found {
  const Route* route = nullptr;
  std::string argument, allowed;  // allowed: the methods that the path has
};

Found find_route(const Service& service, const ServerRequest& request) {
  std::string_view path = request.path;
  const std::string& root = service.api.root_path;
  if (!root.empty() && path.starts_with(root) && (path.size() == root.size() || path[root.size()] == '/')) path.remove_prefix(root.size());
  if (path.size() > 1 && path.ends_with('/')) path.remove_suffix(1);
  Found found;
  for (const Route& route : kRoutes) {
    const auto argument = matches(route, path);
    if (!argument) continue;
    found.allowed += (found.allowed.empty() ? "" : ", ") + std::string(route.method);
    if (route.method == std::string_view("GET")) found.allowed += ", HEAD";
    if (request.method == route.method) found.route = &route, found.argument = *argument;
  }
  if (!found.allowed.empty()) found.allowed += ", OPTIONS";
  return found;
}

std::string_view given_key(const ServerRequest& request) {
  const std::string_view bearer = request.header("authorization");
  if (bearer.size() > 7 && (bearer.starts_with("Bearer ") || bearer.starts_with("bearer "))) return bearer.substr(7);
  return request.header("x-api-key");
}

std::string request_id(Service& service, const ServerRequest& request) {
  const std::string_view given = request.header("x-request-id");
  return is_adapter_name(std::string(given)) ? std::string(given) : service.new_id("req-");  // the same letters, and as many
}

enum class Origin : uint8_t { none, allowed, foreign };

// A page of another site may not ask: browsers send its origin.
Origin origin_of(const Service& service, const ServerRequest& request) {
  const std::string_view origin = request.header("origin");
  if (origin.empty()) return Origin::none;
  for (const std::string& one : split_list(service.config.allowed_origins))
    if (one == "*" || one == origin) return Origin::allowed;
  const std::string_view host = request.header("host");
  return origin == fmt::format("http://{}", host) || origin == fmt::format("https://{}", host) ? Origin::none : Origin::foreign;
}

// Without a key, a name that leads a browser here may be anybody's (DNS rebinding): it has to be one of this machine's own.
bool is_own_host(const Service& service, const ServerRequest& request) {
  if (!service.keys.empty() || service.config.unix_socket || service.config.allowed_origins || !is_loopback_name(service.config.host))
    return true;
  std::string host(request.header("host"));
  if (const size_t colon = host.rfind(':'); colon != host.npos && host.find(']', colon) == host.npos) host.erase(colon);
  return is_loopback_name(host);
}

HttpHeaders common_headers(const Service& service, const ServerRequest& request, const std::string& id) {
  HttpHeaders headers = {{"cache-control", "no-store"}, {"x-content-type-options", "nosniff"}, {"x-request-id", id}};
  if (origin_of(service, request) == Origin::allowed) {
    headers.emplace_back("access-control-allow-origin", std::string(request.header("origin")));
    headers.emplace_back("access-control-expose-headers", "x-request-id, retry-after");
    headers.emplace_back("vary", "origin");
  }
  return headers;
}

bool is_json(std::string_view type) {
  std::string kind(type.substr(0, type.find(';')));
  while (!kind.empty() && kind.back() == ' ') kind.pop_back();
  std::ranges::transform(kind, kind.begin(), [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; });
  return kind == "application/json";
}

// Why the request is not taken, by its head alone.
std::optional<ApiError> refusal(Service& service, const ServerRequest& request, const Found& found) {
  if (origin_of(service, request) == Origin::foreign)
    return ApiError{403, fmt::format("pages of {} may not ask this server (allowed_origins)", request.header("origin")), "",
                    "origin_not_allowed"};
  if (!is_own_host(service, request))
    return ApiError{403, "the header Host names another machine; set api_key to serve under that name", "", "host_not_allowed"};
  if (found.allowed.empty()) return ApiError{404, fmt::format("there is no route {}", request.path), "", "not_found"};
  if (!found.route) return ApiError{405, fmt::format("{} is not a method of {}", request.method, request.path), "", "method_not_allowed"};
  const Route& route = *found.route;
  const bool open = route.key == Key::no || (route.key == Key::unless_local && request.local) || service.keys.empty();
  if (!open && !is_key(service.keys, given_key(request))) {
    if (service.llama_factory) return ApiError{401, "Invalid API key.", "", "invalid_api_key"};
    return ApiError{401, given_key(request).empty() ? "a key is needed: Authorization: Bearer KEY" : "the key is not one of this server's",
                    "", "invalid_api_key"};
  }
  if (service.draining && route.needs_model) return ApiError{503, "the server is ending", "", "shutting_down", 1};
  if (route.needs_model && !service.is_open()) return ApiError{503, "the model is still being loaded", "", "loading", 1};
  if (route.changes_state && !service.config.allow_runtime_lora_updating)
    return ApiError{403, "adapters cannot be loaded or unloaded by requests (allow_runtime_lora_updating)", "", "lora_updating_disabled"};
  if (request.method != "POST" || request.path.ends_with("/cancel")) return {};
  if (const std::string_view coding = request.header("content-encoding"); !coding.empty() && coding != "identity")
    return ApiError{415, fmt::format("a body of content-encoding {} is not taken, send it as it is", coding), "", "unsupported_media_type"};
  if (!is_json(request.header("content-type")))
    return ApiError{415, "the body has to be of content-type application/json", "", "unsupported_media_type"};
  return {};
}

HttpResponse preflight(const Service& service, const ServerRequest& request, const Found& found) {
  HttpResponse response{.status = 204};
  response.headers.emplace_back("allow", found.allowed);
  if (origin_of(service, request) != Origin::allowed) return response;
  response.headers.emplace_back("access-control-allow-methods", found.allowed);
  response.headers.emplace_back("access-control-allow-headers", "authorization, content-type, x-api-key, x-request-id, anthropic-version");
  response.headers.emplace_back("access-control-max-age", "600");
  return response;
}

HttpResponse with_headers(HttpResponse response, const HttpHeaders& headers) {
  response.headers.insert(response.headers.end(), headers.begin(), headers.end());
  return response;
}

}  // namespace

std::span<const Route> routes() { return kRoutes; }

bool is_key(const std::vector<std::string>& keys, std::string_view given) {
  bool any = false;
  for (const std::string& key : keys) {
    size_t differs = key.size() ^ given.size();
    for (size_t i = 0; i < key.size(); ++i) differs |= static_cast<unsigned char>(key[i] ^ (given.empty() ? 0 : given[i % given.size()]));
    any |= differs == 0;
  }
  return any && !given.empty();
}

std::optional<HttpResponse> check_head(Service& service, const ServerRequest& request) {
  const Found found = find_route(service, request);
  if (request.method == "OPTIONS" && !found.allowed.empty() && origin_of(service, request) != Origin::foreign)
    return with_headers(preflight(service, request, found), common_headers(service, request, request_id(service, request)));
  const std::optional<ApiError> error = refusal(service, request, found);
  if (!error) return {};
  HttpResponse response = error_response(*error, style_of(service, request));
  if (error->status == 405) response.headers.emplace_back("allow", found.allowed);
  if (error->status == 401) response.headers.emplace_back("www-authenticate", "Bearer");
  return with_headers(std::move(response), common_headers(service, request, request_id(service, request)));
}

void route_request(Service& service, ServerRequest request, std::shared_ptr<HttpReply> reply) {
  const Found found = find_route(service, request);
  Call call;
  call.request_id = request_id(service, request);
  call.headers = common_headers(service, request, call.request_id);
  call.errors = style_of(service, request);
  call.argument = found.argument;
  if (!service.keys.empty()) call.client = given_key(request);
  call.request = std::move(request);
  call.reply = std::move(reply);
  if (service.config.verbose) log_request(call);
  try {
    found.route->handle(service, call);
  } catch (...) { call.fail(api_error(std::current_exception())); }
}

HttpResponse bad_request(Service& service, int status, const std::string& why) {
  ApiError error{status, why};
  if (status == 413) error.code = "body_too_large";
  return with_headers(error_response(error, service.llama_factory ? ErrorStyle::llama_factory : ErrorStyle::openai),
                      {{"cache-control", "no-store"}, {"x-content-type-options", "nosniff"}, {"x-request-id", service.new_id("req-")}});
}

}  // namespace loraine
