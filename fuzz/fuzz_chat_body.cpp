// Bytes as the body of a chat completion, a completion, a response and a message of Anthropic's. It is read, or refused with a status of
// the client's own. See ./dev fuzz.
#include "loraine/serve/protocol/anthropic.h"
#include "loraine/serve/protocol/json_body.h"
#include "loraine/serve/protocol/openai.h"
#include "loraine/serve/protocol/responses.h"
#include "loraine/serve/service.h"

using namespace loraine;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string body(reinterpret_cast<const char*>(data), size);
  for (const bool llama_factory : {false, true})
    for (const int route : {0, 1, 2, 3}) {
      try {
        const WireJson json = parse_json_body(body);
        if (route == 0) read_chat(json, {}, 1000, llama_factory, llama_factory);
        else if (route == 1) read_completion(json, {}, 1000, llama_factory, llama_factory);
        else if (route == 2) read_response(json, {}, 1000, llama_factory, llama_factory);
        else read_anthropic(json, {}, 1000, llama_factory);
      } catch (const ApiError& error) {
        if (error.status < 400 || error.status > 499) __builtin_trap();
        wire_text(error_json(error, ErrorStyle::llama_factory));
      }
    }
  return 0;
}
