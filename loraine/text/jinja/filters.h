// The filters of the Jinja engine by group; filters.cpp looks a name up in all of them.
#pragma once
#include <map>
#include <string>

#include "loraine/text/jinja/builtins.h"

namespace loraine::jinja {

using FilterBody = Value (*)(Engine&, const Value&, Args&);
struct FilterEntry {
  FilterBody body;
  bool takes_arguments;
};
using FilterTable = std::map<std::string, FilterEntry>;

const FilterTable& sequence_filters();
const FilterTable& text_filters();
const FilterTable& number_filters();
const FilterTable& page_filters();

inline bool absent(const Value& v) { return !given(v) || v.type == Type::None; }

}  // namespace loraine::jinja
