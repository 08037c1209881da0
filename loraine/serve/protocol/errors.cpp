// See errors.h.
#include "loraine/serve/protocol/errors.h"

#include <new>

namespace loraine {

const char* error_type(int status) {
  switch (status) {
    case 401: return "authentication_error";
    case 403: return "permission_error";
    case 429: return "rate_limit_error";
    case 503: return "unavailable_error";
    default: return status >= 500 ? "server_error" : "invalid_request_error";
  }
}

namespace {

const char* anthropic_error_type(int status) {
  switch (status) {
    case 401: return "authentication_error";
    case 403: return "permission_error";
    case 404: return "not_found_error";
    case 413: return "request_too_large";
    case 429: return "rate_limit_error";
    case 503: return "overloaded_error";
    default: return status >= 500 ? "api_error" : "invalid_request_error";
  }
}

}  // namespace

WireJson error_json(const ApiError& error, ErrorStyle style) {
  if (style == ErrorStyle::anthropic)
    return {{"type", "error"}, {"error", {{"type", anthropic_error_type(error.status)}, {"message", error.message}}}};
  if (style == ErrorStyle::ollama) return {{"error", error.message}};
  const auto or_null = [](const std::string& text) { return text.empty() ? WireJson() : WireJson(text); };
  WireJson body = {
      {"error",
       {{"message", error.message}, {"type", error_type(error.status)}, {"param", or_null(error.param)}, {"code", or_null(error.code)}}}};
  if (style == ErrorStyle::llama_factory) body["detail"] = error.message;
  return body;
}

HttpResponse error_response(const ApiError& error, ErrorStyle style) {
  const int status = error.status == 503 && style == ErrorStyle::anthropic ? 529 : error.status;
  HttpResponse response{.status = status, .body = wire_text(error_json(error, style))};
  if (error.retry_after) response.headers.emplace_back("retry-after", std::to_string(*error.retry_after));
  if (error.runs_once) response.headers.emplace_back("x-should-retry", "false");
  return response;
}

ApiError api_error(const Error& error) {
  const std::string words = error.hint.empty() ? std::string(error.what()) : std::string(error.what()) + "; " + error.hint;
  switch (error.kind) {
    case ErrorKind::usage:
    case ErrorKind::unsupported:
    case ErrorKind::bad_data: return {400, words};
    case ErrorKind::not_found: return {404, words};
    case ErrorKind::out_of_memory: return {503, words, "", "out_of_memory", 5};
    default: return {500, words};
  }
}

ApiError api_error(std::exception_ptr failure) {
  try {
    std::rethrow_exception(failure);
  } catch (const ApiError& error) { return error; } catch (const Error& error) {
    return api_error(error);
  } catch (const std::bad_alloc&) {
    return {503, "no memory is left for this request", "", "out_of_memory", 5};
  } catch (const std::exception& error) { return {500, std::string("internal: ") + error.what()}; }
}

std::string wire_text(const WireJson& value) { return value.dump(-1, ' ', false, WireJson::error_handler_t::replace); }

}  // namespace loraine
