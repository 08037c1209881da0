// Called through markup.h.
#include "loraine/text/jinja/markup.h"

namespace loraine::jinja {

std::string escape(const std::string& text) {
  std::string out;
  charge(static_cast<int64_t>(text.size() / 8));
  for (char c : text) {
    append(out, "");
    if (c == '&') out += "&amp;";
    else if (c == '<') out += "&lt;";
    else if (c == '>') out += "&gt;";
    else if (c == '\'') out += "&#39;";
    else if (c == '"') out += "&#34;";
    else out += c;
  }
  return out;
}

std::string escaped(const Value& value) { return is_safe(value) ? value.text() : escape(to_text(value)); }

Value marked(const Value& value) {
  if (value.is_string()) return string(value.text(), true);
  if (value.type != Type::List && value.type != Type::Tuple) return value;
  std::vector<Value> items;
  charge_bytes(static_cast<int64_t>(value.items().size() * sizeof(Value)));
  for (const Value& item : value.items()) items.push_back(marked(item));
  return list(std::move(items), value.type);
}

}  // namespace loraine::jinja
