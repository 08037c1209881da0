// The words in which several adapters and the rows they run on are given: `name=path,path`, `0-1:en,2:fr`. Called wherever
// adapter_name_or_path is read.
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

// Those that are on at first, where adapters can be switched (chat, eval, trace, ChatModel): plain paths together, as if merged in turn; of
// name=path,other=path the first.
std::vector<NamedAdapter> adapters_on(const std::vector<NamedAdapter>& all);

// The folders of all items where a command puts them together, in train, export: plain paths, or one name=path. Throws usage where several
// are kept apart by name=path; `what` says what the command does with several.
std::vector<std::string> joined_adapters(const std::optional<std::string>& list, const std::string& what);

// `FIRST-LAST:NAME,ROW:NAME,…` for rows [0, rows): for each row the name, empty where none is given. Throws usage for a row outside, a row
// given twice, or a name that is none of `names` (`base` always is one and stands as an empty name).
std::vector<std::string> adapter_rows(const std::string& text, int64_t rows, const std::vector<NamedAdapter>& names);

}  // namespace loraine
