// JSON text to values, as Python's json.loads reads it: integers of any length, the last of equal keys. Called by the filter from_json.
#include <nlohmann/json.hpp>

#include "loraine/text/jinja/builtins.h"

namespace loraine::jinja {
namespace {

using Json = nlohmann::ordered_json;

class Reader : public nlohmann::json_sax<Json> {
 public:
  Value result;

  bool null() override { return add(none()); }
  bool boolean(bool x) override { return add(jinja::boolean(x)); }
  bool number_integer(int64_t x) override { return add(integer(x)); }
  bool number_unsigned(uint64_t x) override { return add(integer(*BigInteger::from_digits(std::to_string(x), 10))); }
  bool number_float(double x, const std::string& text) override {
    if (text.find_first_of(".eE") != std::string::npos) return add(real(x));
    if (text.size() > 4300) fail("ValueError", "Exceeds the limit (4300 digits) for integer string conversion");
    const bool negative = text[0] == '-';
    const BigInteger whole = *BigInteger::from_digits(std::string_view(text).substr(negative), 10);
    return add(integer(negative ? -whole : whole));
  }
  bool string(std::string& text) override { return add(jinja::string(text)); }
  bool binary(Json::binary_t&) override { return false; }
  bool start_object(size_t) override { return open(true); }
  bool start_array(size_t) override { return open(false); }
  bool key(std::string& text) override {
    open_.back().key = text;
    return true;
  }
  bool end_object() override { return close(); }
  bool end_array() override { return close(); }
  bool parse_error(size_t, const std::string&, const nlohmann::detail::exception&) override { return false; }

 private:
  struct Open {
    bool object;
    std::string key;
    std::vector<Value> items;
    std::vector<std::pair<Value, Value>> entries;
  };

  bool add(Value value) {
    charge(1);
    charge_bytes(sizeof(Value));
    if (open_.empty()) result = std::move(value);
    else if (open_.back().object) open_.back().entries.emplace_back(jinja::string(open_.back().key), std::move(value));
    else open_.back().items.push_back(std::move(value));
    return true;
  }
  bool open(bool object) {
    if (open_.size() >= kMaxValueDepth - 1) fail("RecursionError", "JSON nested too deep");
    open_.push_back({object, {}, {}, {}});
    return true;
  }
  bool close() {
    Open whole = std::move(open_.back());
    open_.pop_back();
    return add(whole.object ? dict(std::move(whole.entries)) : list(std::move(whole.items)));
  }

  std::vector<Open> open_;
};

}  // namespace

Value read_json(const std::string& text) {
  charge(static_cast<int64_t>(text.size() / 4));
  Reader reader;
  if (!Json::sax_parse(text, &reader)) fail("JSONDecodeError", "not JSON: " + repr(string(text.substr(0, 120))));
  return reader.result;
}

}  // namespace loraine::jinja
