// The words in which several adapters and the rows they run on are given: `name=path,path`, `0-1:en,2:fr`. Called by
// load_for_answers, chat and trace.
#pragma once
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace loraine {

struct NamedAdapter {
  std::string name, path;
  bool own_name = false;  // name=path: it stays apart; a plain path is called by its last folder
};

// One item of adapter_name_or_path. Throws usage when the name is empty, or `base` or `all`, which mean something else.
NamedAdapter named_adapter(const std::string& item);
// All items of the list; no name twice.
std::vector<NamedAdapter> named_adapters(const std::optional<std::string>& list);

// `FIRST-LAST:NAME,ROW:NAME,…` for rows [0, rows): for each row the name, empty where none is given. Throws usage for a row outside, a row
// given twice, or a name that is none of `names` (`base` always is one and stands as an empty name).
std::vector<std::string> adapter_rows(const std::string& text, int64_t rows, const std::vector<NamedAdapter>& names);

}  // namespace loraine
