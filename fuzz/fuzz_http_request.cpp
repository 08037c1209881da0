// Bytes as an HTTP request, and what is one through the table of routes, with and without a key. It may be refused, but no more. See ./dev
// fuzz.
#include "loraine/serve/routes.h"

using namespace loraine;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static Service open(ServeConfig{}, "0", false, {});
  static Service keyed(
      [] {
        ServeConfig config;
        config.api_key = "k";
        config.allowed_origins = "https://a.example";
        return config;
      }(),
      "0", true, {.root_path = "/v0"});
  ServerRequest request;
  const HttpLimits limits{.max_body = 1 << 16, .max_head = 1 << 12};
  if (!parse_http_request({reinterpret_cast<const char*>(data), size}, limits, request).empty()) return 0;
  for (Service* service : {&open, &keyed}) {
    const auto refusal = check_head(*service, request);
    if (refusal && refusal->status >= 500 && refusal->status != 503) __builtin_trap();
  }
  return 0;
}
