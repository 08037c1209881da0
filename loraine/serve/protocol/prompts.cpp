// See prompts.h.
#include "loraine/serve/protocol/prompts.h"

#include <fmt/format.h>

namespace loraine {

Prompts read_prompts(Fields& fields, const char* name, int64_t vocab, size_t most) {
  Prompts prompts;
  const WireJson* given = fields.any(name);
  const std::string expected =
      fmt::format("a string, a list of token ids below {}, or a list of at most {} such prompts, none of them empty", vocab, most);
  if (!given) fields.fail(name, expected);
  const auto read_ids = [&](const WireJson& list) {
    std::vector<int32_t> ids;
    for (const WireJson& id : list) {
      if (!id.is_number_unsigned() && !(id.is_number_integer() && id.get<int64_t>() >= 0)) fields.fail(name, expected);
      if (id.get<uint64_t>() >= static_cast<uint64_t>(vocab)) fields.fail(name, expected + fmt::format("; it has the id {}", id.dump()));
      ids.push_back(id.get<int32_t>());
    }
    return ids;
  };
  if (given->is_string()) {
    prompts.texts = {given->get<std::string>()};
  } else if (!given->is_array() || given->empty()) {
    fields.fail(name, expected);
  } else if ((*given)[0].is_number()) {
    prompts.ids = {read_ids(*given)};
  } else {
    if (given->size() > most) fields.fail(name, expected);
    for (const WireJson& one : *given) {
      if (one.is_string() && prompts.ids.empty()) prompts.texts.push_back(one.get<std::string>());
      else if (one.is_array() && prompts.texts.empty() && !one.empty()) prompts.ids.push_back(read_ids(one));
      else fields.fail(name, expected);
    }
  }
  return prompts;
}

}  // namespace loraine
