// What a client is told when its request is not answered. Every protocol writes it in its own form.
#pragma once
#include <cstdint>
#include <exception>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "loraine/core/error.h"
#include "loraine/serve/http/message.h"

namespace loraine {

using WireJson = nlohmann::ordered_json;

struct ApiError {
  int status = 400;
  std::string message;
  std::string param = {};               // the field that is wrong; empty: none in particular
  std::string code = {};                // a short word; empty: null
  std::optional<int> retry_after = {};  // seconds
  bool runs_once = false;               // the official clients must not send it again
};

// Of OpenAI's protocol: invalid_request_error, authentication_error, permission_error, rate_limit_error, server_error, unavailable_error.
const char* error_type(int status);
enum class ErrorStyle : uint8_t {
  openai,         // {"error": {"message", "type", "param", "code"}}
  llama_factory,  // the same and {"detail"}
  anthropic,      // {"type": "error", "error": {"type", "message"}}; 503 is 529 there
  ollama,         // {"error": message}
};
WireJson error_json(const ApiError& error, ErrorStyle style);
HttpResponse error_response(const ApiError& error, ErrorStyle style);

// What a request met, as its client should hear it: the client's own mistakes with their words, ours without.
ApiError api_error(std::exception_ptr failure);
ApiError api_error(const Error& error);

std::string wire_text(const WireJson& value);  // compact; bytes that are no UTF-8 become U+FFFD

}  // namespace loraine
