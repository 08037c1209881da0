// The body of a request as JSON, checked: UTF-8, one value, bounded depth and number of values, no key twice. Called before anything of it
// is believed.
#pragma once
#include <string>

#include "loraine/serve/protocol/errors.h"

namespace loraine {

// The object that the body is; throws ApiError (400).
WireJson parse_json_body(const std::string& body);
// The same for a body that may be any value.
WireJson parse_json_value(const std::string& body);

}  // namespace loraine
