// json.dumps: separators, indentation and numbers as Python has them. See python_json.h.
#include "loraine/core/python_json.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "loraine/core/error.h"

namespace loraine {
namespace {

using OrderedJson = nlohmann::ordered_json;

constexpr int kMaxDepth = 256;

struct Writer {
  PythonJsonStyle style;
  std::string out;

  void text(const std::string& value) { out += OrderedJson(value).dump(-1, ' ', style.ascii, OrderedJson::error_handler_t::replace); }
  void line(int depth) {
    out += '\n';
    out.append(static_cast<size_t>(depth * style.indent), ' ');
  }

  void number(double value) {
    const std::string digits = fmt::format("{}", value);
    out += digits;
    if (digits.find_first_of(".en") == std::string::npos) out += ".0";
  }

  void value(const OrderedJson& v, int depth) {
    if (depth > kMaxDepth) throw Error(ErrorKind::bad_data, fmt::format("JSON nested deeper than {} levels", kMaxDepth));
    if (v.is_string()) return text(v.get_ref<const std::string&>());
    if (v.is_number_float()) return number(v.get<double>());
    if (!v.is_structured()) {
      out += v.dump();
      return;
    }
    const bool object = v.is_object(), broken = style.indent > 0 && !v.empty();
    out += object ? '{' : '[';
    bool first = true;
    for (auto item = v.begin(); item != v.end(); ++item) {
      if (!first) out += broken ? "," : ", ";
      first = false;
      if (broken) line(depth + 1);
      if (object) {
        text(item.key());
        out += ": ";
      }
      value(*item, depth + 1);
    }
    if (broken) line(depth);
    out += object ? '}' : ']';
  }
};

}  // namespace

std::string python_json(const OrderedJson& value, PythonJsonStyle style) {
  Writer writer{style, {}};
  writer.value(value, 0);
  return std::move(writer.out);
}

}  // namespace loraine
