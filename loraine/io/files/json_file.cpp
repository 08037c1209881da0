// Strict reading of JSON files: position of errors, no duplicate keys, bounded depth. nlohmann's parser keeps its own stack, no recursion.
#include "loraine/io/files/json_file.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>
#include <string_view>

#include "loraine/core/error.h"
#include "loraine/core/text_position.h"
#include "loraine/io/files/durable_file.h"
#include "loraine/io/files/json_text.h"

namespace loraine {
namespace {

constexpr uint64_t kMaxJsonFile = 256u << 20;
constexpr int kMaxDepth = 128;

std::string position(const std::string& text, size_t byte) { return text_position(text, byte).text(); }

// First pass: every rule, nothing is built. Counts bytes through an iterator so that duplicate keys can be located too.
class Strict : public nlohmann::json_sax<Json> {
 public:
  Strict(const std::string& file, const std::string& text, const size_t& consumed) : file_(file), text_(text), consumed_(consumed) {}
  bool null() override { return true; }
  bool boolean(bool) override { return true; }
  bool number_integer(number_integer_t) override { return true; }
  bool number_unsigned(number_unsigned_t) override { return true; }
  bool number_float(number_float_t, const string_t&) override { return true; }
  bool string(string_t&) override { return true; }
  bool binary(binary_t&) override { return true; }
  bool start_object(size_t) override {
    open();
    keys_.emplace_back();
    return true;
  }
  bool key(string_t& name) override {
    if (!keys_.back().insert(name).second)
      fail(consumed_, "the key " + in_quotes(name) + " stands twice in one object; which one counts would be a guess");
    return true;
  }
  bool end_object() override {
    keys_.pop_back();
    --depth_;
    return true;
  }
  bool start_array(size_t) override {
    open();
    return true;
  }
  bool end_array() override {
    --depth_;
    return true;
  }
  bool parse_error(size_t byte, const std::string&, const nlohmann::detail::exception& error) override {
    std::string what = error.what();
    size_t colon = what.find("syntax error");
    if (colon != std::string::npos) what = what.substr(colon);
    for (char& c : what)
      if (static_cast<unsigned char>(c) < 0x20) c = ' ';
    if (what.size() > 300) what.resize(300);
    if (!is_utf8(what)) what = "its bytes are not UTF-8";
    fail(byte ? byte - 1 : 0, what);
  }

 private:
  [[noreturn]] void fail(size_t byte, const std::string& what) const {
    throw Error(ErrorKind::bad_data, fmt::format("{}: {}: {}", file_, position(text_, byte), what),
                "correct the file or download it again");
  }
  void open() {
    if (++depth_ > kMaxDepth) fail(consumed_, fmt::format("nested deeper than {} levels", kMaxDepth));
  }
  const std::string& file_;
  const std::string& text_;
  const size_t& consumed_;
  std::vector<std::set<std::string>> keys_;
  int depth_ = 0;
};

struct CountingIterator {
  using iterator_category = std::input_iterator_tag;
  using value_type = char;
  using difference_type = std::ptrdiff_t;
  using pointer = const char*;
  using reference = const char&;
  const char* at;
  size_t* consumed;
  reference operator*() const { return *at; }
  CountingIterator& operator++() {
    ++at;
    ++*consumed;
    return *this;
  }
  CountingIterator operator++(int) {
    CountingIterator before = *this;
    ++*this;
    return before;
  }
  bool operator==(const CountingIterator& other) const { return at == other.at; }
  bool operator!=(const CountingIterator& other) const { return at != other.at; }
};

// Python writes infinite numbers as bare words, which JSON has not; transformers 5 as {"__float__": "Infinity"}. The former become the
// latter.
std::string with_named_floats(const std::string& text) {
  static constexpr std::string_view kWords[] = {"-Infinity", "Infinity", "NaN"};
  std::string out;
  bool quoted = false;
  for (size_t at = 0; at < text.size(); ++at) {
    const std::string_view rest = std::string_view(text).substr(at);
    const auto word = quoted ? std::end(kWords) : std::ranges::find_if(kWords, [&](std::string_view one) { return rest.starts_with(one); });
    if (word != std::end(kWords)) {
      out += fmt::format(R"({{"__float__": "{}"}})", *word);
      at += word->size() - 1;
      continue;
    }
    if (quoted && text[at] == '\\' && at + 1 < text.size()) out += text[at++];
    else if (text[at] == '"') quoted = !quoted;
    out += text[at];
  }
  return out;
}

std::string checked_text(const std::string& path) {
  std::string text = read_file(path, kMaxJsonFile);
  if (text.starts_with("\xef\xbb\xbf")) text.erase(0, 3);
  if (text.empty()) throw Error(ErrorKind::bad_data, path + ": an empty file", "write it again, or download it again");
  if (text.starts_with("\xff\xfe") || text.starts_with("\xfe\xff"))
    throw Error(ErrorKind::bad_data, path + ": the text is UTF-16, and UTF-8 is expected", "save it as UTF-8");
  size_t nul = text.find('\0');
  if (nul != std::string::npos) throw Error(ErrorKind::bad_data, fmt::format("{}: {}: a NUL byte", path, position(text, nul)));
  if (text.find("Infinity") != std::string::npos || text.find("NaN") != std::string::npos) text = with_named_floats(text);
  size_t consumed = 0;
  Strict strict(path, text, consumed);
  Json::sax_parse(CountingIterator{text.data(), &consumed}, CountingIterator{text.data() + text.size(), &consumed}, &strict);
  return text;
}

}  // namespace

Json parse_json_file(const std::string& path) { return Json::parse(checked_text(path)); }
nlohmann::ordered_json parse_json_file_in_order(const std::string& path) { return nlohmann::ordered_json::parse(checked_text(path)); }

}  // namespace loraine
