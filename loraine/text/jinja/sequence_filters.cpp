// Jinja's filters over lists and mappings: sort, map, select, groupby, join and their kin.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "loraine/text/jinja/eval.h"
#include "loraine/text/jinja/filters.h"
#include "loraine/text/jinja/markup.h"
#include "loraine/text/jinja/text.h"

namespace loraine::jinja {
namespace {

Value generator(std::vector<Value> items) { return list(std::move(items), Type::Generator); }

// A function that gets the attribute of `map(attribute=…)`, `sort(attribute=…)`: a dotted path or an index.
Value get_path(Engine& engine, Value item, const Value& path, const Value& otherwise = {}) {
  if (absent(path)) return item;
  if (path.is_integral()) return get_item(&engine, item, path);
  const std::string text = to_text(path);
  charge(static_cast<int64_t>(text.size() / 16));
  for (size_t at = 0; at <= text.size();) {
    charge(1);
    size_t end = std::min(text.find('.', at), text.size());
    std::string part = text.substr(at, end - at);
    bool number = !part.empty() && part.size() < 10 && part.find_first_not_of("0123456789") == std::string::npos;
    item = get_item(&engine, item, number ? integer(std::stoll(part)) : string(part));
    if (given(otherwise) && otherwise.type != Type::None && item.undefined()) item = otherwise;
    at = end + 1;
  }
  return item;
}

Value fold(const Value& value, bool case_sensitive) { return !case_sensitive && value.is_string() ? string(lower(value.text())) : value; }

void sort_by(std::vector<std::pair<Value, Value>>& keyed, bool reverse, bool as_lists = false) {
  charge(static_cast<int64_t>(keyed.size()));
  std::stable_sort(keyed.begin(), keyed.end(), [&](const auto& a, const auto& b) {
    const Value &x = reverse ? b.first : a.first, &y = reverse ? a.first : b.first;
    return !(as_lists && equal(x, y)) && less(x, y, "<");
  });
}

Value f_sort(Engine& engine, const Value& value, Args& args) {
  auto a = bind_args("do_sort", args, {"reverse", "case_sensitive", "attribute"});
  std::vector<std::string> paths;
  if (!absent(a[2]) && a[2].is_string()) {
    const std::string& text = a[2].text();
    for (size_t at = 0; at <= text.size();) {
      size_t end = std::min(text.find(',', at), text.size());
      paths.push_back(text.substr(at, end - at));
      at = end + 1;
    }
  }
  std::vector<std::pair<Value, Value>> keyed;
  for (Value& item : iterate(value)) {
    Value key;
    if (paths.size() > 1) {
      std::vector<Value> parts;
      for (const std::string& path : paths) parts.push_back(fold(get_path(engine, item, string(path)), truthy(a[1])));
      key = list(std::move(parts), Type::Tuple);
    } else {
      key = fold(get_path(engine, item, a[2]), truthy(a[1]));
    }
    keyed.emplace_back(key, item);
  }
  // Python compares each item with the one before it, later < earlier; errors name the types in that order.
  for (size_t k = 1; k < keyed.size(); ++k)
    if (!equal(keyed[k].first, keyed[k - 1].first)) less(keyed[k].first, keyed[k - 1].first, "<");
  sort_by(keyed, truthy(a[0]), true);  // its keys are lists of one: equal ones are never asked which is less
  std::vector<Value> out;
  for (auto& entry : keyed) out.push_back(std::move(entry.second));
  return list(std::move(out));
}

Value f_dictsort(Engine&, const Value& value, Args& args) {
  auto a = bind_args("do_dictsort", args, {"case_sensitive", "by", "reverse"});
  if (value.type != Type::Dict) fail("TypeError", "dictsort needs a mapping, not " + type_name(value));
  std::string by = given(a[1]) ? to_text(a[1]) : "key";
  if (by != "key" && by != "value") fail("FilterArgumentError", "You can only sort by either \"key\" or \"value\"");
  std::vector<std::pair<Value, Value>> keyed;
  for (const auto& [key, item] : as_dict(value).entries)
    keyed.emplace_back(fold(by == "key" ? key : item, truthy(a[0])), list({key, item}, Type::Tuple));
  sort_by(keyed, truthy(a[2]));
  std::vector<Value> out;
  for (auto& entry : keyed) out.push_back(std::move(entry.second));
  return list(std::move(out));
}

Value f_groupby(Engine& engine, const Value& value, Args& args) {
  auto a = bind_args("do_groupby", args, {"attribute", "default", "case_sensitive"}, 1);
  std::vector<std::pair<Value, Value>> keyed;
  for (Value& item : iterate(value)) keyed.emplace_back(fold(get_path(engine, item, a[0], a[1]), truthy(a[2])), item);
  sort_by(keyed, false);
  std::vector<Value> out;
  for (size_t k = 0; k < keyed.size();) {
    std::vector<Value> members;
    size_t first = k;
    for (; k < keyed.size() && equal(keyed[k].first, keyed[first].first); ++k) members.push_back(keyed[k].second);
    Value grouper = truthy(a[2]) ? keyed[first].first : get_path(engine, members[0], a[0], a[1]);
    Value group = list({grouper, list(std::move(members))}, Type::Tuple);
    static_cast<SequenceObject&>(*group.o).view = "group";
    out.push_back(group);
  }
  return list(std::move(out));
}

Value f_map(Engine& engine, const Value& value, Args& args) {
  std::vector<Value> out;
  if (args.positional.empty()) {
    auto a = bind_args("map", args, {"attribute", "default"});
    if (!given(a[0])) fail("FilterArgumentError", "map requires a filter argument");
    if (truthy(value))
      for (Value& item : iterate(value)) out.push_back(get_path(engine, item, a[0], a[1]));
    return generator(std::move(out));
  }
  std::string name = to_text(args.positional[0]);
  if (!is_filter(name)) fail("TemplateRuntimeError", "No filter named '" + name + "'.");
  if (!truthy(value)) return generator({});  // the filter asks before it iterates
  Args rest{{args.positional.begin() + 1, args.positional.end()}, args.named};
  for (Value& item : iterate(value)) {
    Args copy = rest;
    out.push_back(apply_filter(engine, name, item, copy));
  }
  return generator(std::move(out));
}

// select, reject, selectattr, rejectattr
Value choose(Engine& engine, const Value& value, Args& args, bool by_attribute, bool keep) {
  Value path;
  size_t at = 0;
  if (by_attribute) {
    if (args.positional.empty()) fail("FilterArgumentError", "Missing parameter for attribute name");
    path = args.positional[at++];
  }
  std::string test;
  if (args.positional.size() > at) {
    test = to_text(args.positional[at++]);
    if (!is_test(test)) fail("TemplateRuntimeError", "No test named '" + test + "'.");
  }
  Args rest{{args.positional.begin() + static_cast<std::ptrdiff_t>(at), args.positional.end()}, args.named};
  if (!truthy(value)) return generator({});  // the filter asks before it iterates
  std::vector<Value> out;
  for (Value& item : iterate(value)) {
    Value tested = get_path(engine, item, path);
    Args copy = rest;
    if ((test.empty() ? truthy(tested) : apply_test(test, tested, copy)) == keep) out.push_back(std::move(item));
  }
  return generator(std::move(out));
}

Value extreme(Engine& engine, const Value& value, Args& args, bool smallest) {
  auto a = bind_args(smallest ? "do_min" : "do_max", args, {"case_sensitive", "attribute"});
  Value best, best_key;
  bool first = true;
  for (Value& item : iterate(value)) {
    Value key = fold(get_path(engine, item, a[1]), truthy(a[0]));
    if (first || (smallest ? less(key, best_key, "<") : less(best_key, key, ">"))) best = item, best_key = key;
    first = false;
  }
  return first ? undefined("No aggregated item, sequence was empty.") : best;
}

Value f_sum(Engine& engine, const Value& value, Args& args) {
  auto a = bind_args("do_sum", args, {"attribute", "start"});
  Value total = given(a[1]) ? a[1] : integer(0);
  for (Value& item : iterate(value)) total = binary("+", total, get_path(engine, item, a[0]));
  return total;
}

Value f_unique(Engine& engine, const Value& value, Args& args) {
  auto a = bind_args("do_unique", args, {"case_sensitive", "attribute"});
  DictObject seen;
  std::vector<Value> out;
  for (Value& item : iterate(value)) {
    Value key = fold(get_path(engine, item, a[1]), truthy(a[0]));
    if (seen.find(key)) continue;
    seen.set(key, none());
    out.push_back(item);
  }
  return generator(std::move(out));
}

Value f_join(Engine& engine, const Value& value, Args& args) {
  auto a = bind_args("do_join", args, {"d", "attribute"});
  std::string separator = given(a[0]) ? to_text(a[0]) : "", out;
  bool first = true;
  for (Value& item : iterate(value)) {
    if (!first) append(out, separator);
    first = false;
    append(out, to_text(get_path(engine, item, a[1])));
  }
  return string(std::move(out));
}

Value f_batch(Engine&, const Value& value, Args& args) {
  auto a = bind_args("do_batch", args, {"linecount", "fill_with"}, 1);
  int64_t size = as_integer(a[0]);
  std::vector<Value> out, row;
  for (Value& item : iterate(value)) {
    if (static_cast<int64_t>(row.size()) == size) out.push_back(list(std::exchange(row, {})));
    row.push_back(item);
  }
  if (!row.empty()) {
    if (!absent(a[1]) && size > 100000) fail("OverflowError", "batch too big");
    while (!absent(a[1]) && static_cast<int64_t>(row.size()) < size) row.push_back(a[1]);
    out.push_back(list(std::move(row)));
  }
  return generator(std::move(out));
}

Value f_slice(Engine&, const Value& value, Args& args) {
  auto a = bind_args("do_slice", args, {"slices", "fill_with"}, 1);
  std::vector<Value> items = iterate(value), out;
  int64_t slices = as_integer(a[0]), n = static_cast<int64_t>(items.size()), at = 0;
  if (slices == 0) fail("ZeroDivisionError", "integer division or modulo by zero");
  if (slices > 100000) fail("OverflowError", "too many slices");
  charge(slices);
  for (int64_t k = 0; k < slices; ++k) {
    int64_t size = n / slices + (k < n % slices);
    std::vector<Value> row(items.begin() + at, items.begin() + at + size);
    if (!absent(a[1]) && k >= n % slices) row.push_back(a[1]);
    out.push_back(list(std::move(row)));
    at += size;
  }
  return generator(std::move(out));
}

Value f_first(Engine&, const Value& value, Args&) {
  std::vector<Value> items = iterate(value);
  return items.empty() ? undefined("No first item, sequence was empty.") : items.front();
}

Value f_last(Engine&, const Value& value, Args&) {
  if (value.type == Type::Generator) fail("TypeError", "'generator' object is not reversible");
  std::vector<Value> items = iterate(value);
  if (items.empty()) return undefined("No last item, sequence was empty.");
  return is_safe(value) ? marked(items.back()) : items.back();
}

// Python's choice is another one each time. Here it hangs on the items alone, so that the same conversation gives the same text.
Value f_random(Engine&, const Value& value, Args&) {
  if (value.undefined()) return undefined("No random item, sequence was empty.");
  if (!value.is_sequence() && !value.is_string()) fail("TypeError", "object of type '" + type_name(value) + "' has no len()");
  if (value.type == Type::Generator) fail("TypeError", "object of type 'generator' has no len()");
  const std::vector<Value> items = iterate(value);
  if (items.empty()) return undefined("No random item, sequence was empty.");
  uint64_t hash = 14695981039346656037u;
  for (const unsigned char c : repr(value)) hash = (hash ^ c) * 1099511628211u;
  return items[hash % items.size()];
}

Value f_reverse(Engine&, const Value& value, Args&) {
  std::vector<Value> items = iterate(value);
  std::reverse(items.begin(), items.end());
  if (!value.is_string()) return generator(std::move(items));
  std::string out;
  for (const Value& item : items) append(out, item.text());
  return string(std::move(out), is_safe(value));
}

Value f_items(Engine&, const Value& value, Args&) {
  if (value.undefined()) return generator({});
  if (value.type != Type::Dict) fail("TypeError", "Can only get item pairs from a mapping.");
  std::vector<Value> out;
  for (const auto& [key, item] : as_dict(value).entries) out.push_back(list({key, item}, Type::Tuple));
  return generator(std::move(out));
}

}  // namespace

const FilterTable& sequence_filters() {
  static const FilterBody kLength = [](Engine&, const Value& v, Args&) { return integer(length(v)); };
  static const FilterBody kList = [](Engine&, const Value& v, Args&) { return list(iterate(v)); };
  static const FilterBody kMax = [](Engine& e, const Value& v, Args& a) { return extreme(e, v, a, false); };
  static const FilterBody kMin = [](Engine& e, const Value& v, Args& a) { return extreme(e, v, a, true); };
  static const FilterBody kReject = [](Engine& e, const Value& v, Args& a) { return choose(e, v, a, false, false); };
  static const FilterBody kRejectAttr = [](Engine& e, const Value& v, Args& a) { return choose(e, v, a, true, false); };
  static const FilterBody kSelect = [](Engine& e, const Value& v, Args& a) { return choose(e, v, a, false, true); };
  static const FilterBody kSelectAttr = [](Engine& e, const Value& v, Args& a) { return choose(e, v, a, true, true); };
  static const FilterTable kTable = {{"batch", {f_batch, true}},
                                     {"count", {kLength, false}},
                                     {"dictsort", {f_dictsort, true}},
                                     {"first", {f_first, false}},
                                     {"groupby", {f_groupby, true}},
                                     {"items", {f_items, false}},
                                     {"join", {f_join, true}},
                                     {"last", {f_last, false}},
                                     {"length", {kLength, false}},
                                     {"list", {kList, false}},
                                     {"map", {f_map, true}},
                                     {"max", {kMax, true}},
                                     {"min", {kMin, true}},
                                     {"random", {f_random, false}},
                                     {"reject", {kReject, true}},
                                     {"rejectattr", {kRejectAttr, true}},
                                     {"reverse", {f_reverse, false}},
                                     {"select", {kSelect, true}},
                                     {"selectattr", {kSelectAttr, true}},
                                     {"slice", {f_slice, true}},
                                     {"sort", {f_sort, true}},
                                     {"sum", {f_sum, true}},
                                     {"unique", {f_unique, true}}};
  return kTable;
}

}  // namespace loraine::jinja
