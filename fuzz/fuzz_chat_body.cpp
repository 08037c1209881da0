// Bytes as the body of a chat completion and of a completion. It is read, or refused with a status of the client's own. See ./dev fuzz.
#include "loraine/serve/protocol/json_body.h"
#include "loraine/serve/protocol/openai.h"
#include "loraine/serve/service.h"

using namespace loraine;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string body(reinterpret_cast<const char*>(data), size);
  for (const bool llama_factory : {false, true})
    for (const bool completion : {false, true}) {
      try {
        const WireJson json = parse_json_body(body);
        if (completion) read_completion(json, {}, 1000, llama_factory, llama_factory);
        else read_chat(json, {}, 1000, llama_factory, llama_factory);
      } catch (const ApiError& error) {
        if (error.status < 400 || error.status > 499) __builtin_trap();
        wire_text(error_json(error, ErrorStyle::llama_factory));
      }
    }
  return 0;
}
