// See json_body.h. simdjson reads and checks the bytes; what comes out keeps the order of keys, which templates show.
#include "loraine/serve/protocol/json_body.h"

#include <fmt/format.h>
#include <simdjson.h>

#include <algorithm>
#include <string_view>

#include "loraine/io/files/json_text.h"

namespace loraine {
namespace {

constexpr size_t kMaxDepth = 64;
constexpr int64_t kMaxValues = 1 << 21;  // a value takes some forty bytes here, of the body only two

ApiError not_json(const std::string& why) { return {400, "the body is not JSON that can be read: " + why, "", "invalid_json"}; }

class Reader {
 public:
  WireJson value(simdjson::dom::element element) {
    using Type = simdjson::dom::element_type;
    if (++values_ > kMaxValues) throw not_json(fmt::format("it has more than {} values", kMaxValues));
    switch (element.type()) {
      case Type::ARRAY: {
        WireJson list = WireJson::array();
        for (const simdjson::dom::element one : simdjson::dom::array(element)) list.push_back(value(one));
        return list;
      }
      case Type::OBJECT: return object(element);
      case Type::INT64: return int64_t(element);
      case Type::UINT64: return uint64_t(element);
      case Type::DOUBLE: return double(element);
      case Type::STRING: return std::string(std::string_view(element));
      case Type::BOOL: return bool(element);
      case Type::NULL_VALUE: break;
    }
    return nullptr;
  }

 private:
  // The keys are looked at once, sorted: looking each up among those before it would take an hour for a million of them.
  WireJson object(simdjson::dom::object fields) {
    std::vector<std::string_view> keys;
    WireJson made = WireJson::object();
    auto& list = static_cast<std::vector<std::pair<const std::string, WireJson>>&>(made.get_ref<WireJson::object_t&>());
    for (const simdjson::dom::key_value_pair field : fields) {
      keys.push_back(field.key);
      list.emplace_back(std::string(field.key), value(field.value));
    }
    std::sort(keys.begin(), keys.end());
    const auto twice = std::adjacent_find(keys.begin(), keys.end());
    if (twice != keys.end())
      throw not_json(fmt::format("the key {} stands twice in one object; which one counts would be a guess", in_quotes(*twice)));
    return made;
  }
  int64_t values_ = 0;
};

}  // namespace

WireJson parse_json_value(const std::string& body) {
  if (body.empty()) throw ApiError{400, "the body is empty, a JSON value was expected", "", "invalid_json"};
  simdjson::dom::parser parser;
  simdjson::dom::element root;
  simdjson::error_code error = parser.allocate(body.size(), kMaxDepth);
  if (!error) error = parser.parse(body).get(root);
  if (error == simdjson::UTF8_ERROR) throw not_json("its bytes are not UTF-8");
  if (error == simdjson::DEPTH_ERROR) throw not_json(fmt::format("it is nested deeper than {} levels", kMaxDepth));
  if (error == simdjson::MEMALLOC) throw ApiError{503, "no memory is left for this request", "", "out_of_memory", 5};
  if (error) throw not_json(simdjson::error_message(error));
  return Reader().value(root);
}

WireJson parse_json_body(const std::string& body) {
  WireJson root = parse_json_value(body);
  if (!root.is_object())
    throw ApiError{400, std::string("the body is a JSON ") + root.type_name() + ", an object was expected", "", "invalid_json"};
  return root;
}

}  // namespace loraine
