// Parsing of adapter lists and of rows; every number is checked.
#include "loraine/train/config/named_adapters.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <set>

#include "loraine/core/error.h"
#include "loraine/train/config/config.h"

namespace loraine {
namespace {

int64_t row_number(const std::string& text, const std::string& item, int64_t rows) {
  const bool digits = !text.empty() && text.size() < 10 && text.find_first_not_of("0123456789") == std::string::npos;
  if (!digits || std::stoll(text) >= rows)
    throw Error(ErrorKind::usage, fmt::format("adapter_rows: '{}' in '{}' is no row of the batch, which has {}", text, item, rows),
                "rows count from 0; write them as --adapter_rows 0-1:en,2:fr");
  return std::stoll(text);
}

}  // namespace

NamedAdapter named_adapter(const std::string& item) {
  const size_t equals = item.find('=');
  std::error_code unreadable;
  NamedAdapter out;
  // A path may hold the sign too: out/lr=1e-4.
  out.own_name = equals != std::string::npos && item.find('/') >= equals && !std::filesystem::exists(item, unreadable);
  out.path = out.own_name ? item.substr(equals + 1) : item;
  while (out.path.size() > 1 && out.path.back() == '/') out.path.pop_back();
  out.name = out.own_name ? item.substr(0, equals) : out.path.substr(out.path.find_last_of('/') + 1);
  if (out.name.empty() || out.name == "all" || out.name == "base")
    throw Error(ErrorKind::usage,
                fmt::format("adapter_name_or_path: '{}' names an adapter '{}', and all and base mean something else", item, out.name),
                "give it a name of its own: name=path");
  return out;
}

std::vector<NamedAdapter> named_adapters(const std::optional<std::string>& list) {
  std::vector<NamedAdapter> all;
  for (const std::string& item : split_list(list)) {
    NamedAdapter next = named_adapter(item);
    for (const NamedAdapter& other : all)
      if (other.name == next.name)
        throw Error(ErrorKind::usage, fmt::format("adapter_name_or_path: two adapters are called '{}'", next.name),
                    "give each a name of its own: name=path,other=path");
    all.push_back(std::move(next));
  }
  return all;
}

std::vector<NamedAdapter> adapters_on(const std::vector<NamedAdapter>& all) {
  std::vector<NamedAdapter> plain;
  for (const NamedAdapter& adapter : all)
    if (!adapter.own_name) plain.push_back(adapter);
  if (plain.size() > 1) return plain;
  return {all.begin(), all.begin() + (all.empty() ? 0 : 1)};
}

std::vector<std::string> joined_adapters(const std::optional<std::string>& list, const std::string& what) {
  std::vector<std::string> paths;
  bool apart = false;
  for (const std::string& item : split_list(list)) {
    const NamedAdapter adapter = named_adapter(item);
    apart = apart || adapter.own_name;
    paths.push_back(adapter.path);
  }
  if (apart && paths.size() > 1)
    throw Error(ErrorKind::usage,
                fmt::format("adapter_name_or_path: {} adapters are given, some of them as name=path, which keeps them apart; {}",
                            paths.size(), what),
                "give one, or plain paths for those that belong together: path,path");
  return paths;
}

std::vector<std::string> adapter_rows(const std::string& text, int64_t rows, const std::vector<NamedAdapter>& names) {
  std::vector<std::string> out(static_cast<size_t>(rows));
  std::set<int64_t> given;
  for (const std::string& item : split_list(text)) {
    const size_t colon = item.find(':');
    if (colon == std::string::npos)
      throw Error(ErrorKind::usage, fmt::format("adapter_rows: '{}' is not of the form ROW:NAME or FIRST-LAST:NAME", item),
                  "write rows as --adapter_rows 0-1:en,2:fr");
    const std::string range = item.substr(0, colon), name = item.substr(colon + 1);
    const size_t dash = range.find('-');
    const int64_t first = row_number(range.substr(0, dash), item, rows),
                  last = dash == std::string::npos ? first : row_number(range.substr(dash + 1), item, rows);
    if (last < first) throw Error(ErrorKind::usage, fmt::format("adapter_rows: '{}' ends before it begins", item));
    if (name != "base" && std::none_of(names.begin(), names.end(), [&](const NamedAdapter& a) { return a.name == name; })) {
      std::string known = "base";
      for (const NamedAdapter& a : names) known += ", " + a.name;
      throw Error(ErrorKind::usage, fmt::format("adapter_rows: no adapter is called '{}'; there are: {}", name, known),
                  "name them in adapter_name_or_path: name=path,other=path");
    }
    for (int64_t row = first; row <= last; ++row) {
      if (!given.insert(row).second) throw Error(ErrorKind::usage, fmt::format("adapter_rows: row {} is given twice", row));
      out[static_cast<size_t>(row)] = name == "base" ? "" : name;
    }
  }
  return out;
}

}  // namespace loraine
