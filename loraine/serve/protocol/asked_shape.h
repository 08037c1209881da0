// What form a request wants its answer in: a schema, a pattern, one of some texts.
#pragma once
#include <optional>
#include <string>

#include "loraine/grammar/grammar.h"
#include "loraine/serve/protocol/fields.h"

namespace loraine {

struct AskedShape {
  std::optional<grammar::Shape> shape = {};  // none: any text
  std::string field = {};                    // that asked for it, for errors
};

// OpenAI's `response_format`, vLLM's `structured_outputs` and its older `guided_json`, `guided_regex`, `guided_choice`. One of them at
// most. That the schema can be followed is not checked here. Throws ApiError with the field.
AskedShape read_shape(Fields& fields);
// A format as `response_format` and the `format` of other protocols spell it: {"type": text, json_object or json_schema, …}. schema_within:
// where name and schema stand in an object json_schema.
AskedShape read_format(const WireJson& format, const std::string& field, bool schema_within);

}  // namespace loraine
