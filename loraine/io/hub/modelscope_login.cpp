// See modelscope_login.h.
#include "loraine/io/hub/modelscope_login.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cstdlib>
#include <vector>

#include "loraine/core/error.h"
#include "loraine/io/pickle/pickle_machine.h"

namespace loraine {
namespace {

namespace fs = std::filesystem;

constexpr size_t kMaxCookieValues = 100000;

// What would make an object of a class makes a dict of its attributes.
class CookieJar : private PickleMachine {
 public:
  CookieJar(const std::string& file, std::string_view bytes) : PickleMachine(bytes, kMaxCookieValues), file_(file) {}

  std::string session(const std::string& host, int64_t now) {
    run();
    for (const Value& cookie : values()) {
      if (cookie.kind != Kind::dict || text(cookie, "name") != "m_session_id") continue;
      std::string domain = text(cookie, "domain");
      if (domain.starts_with('.')) domain.erase(0, 1);
      const Value* expires = attribute(cookie, "expires");
      const bool good = !expires || seconds_of(*expires, now + 1) > static_cast<double>(now);
      if (good && !domain.empty() && (host == domain || host.ends_with("." + domain))) return text(cookie, "value");
    }
    return "";
  }

 private:
  [[noreturn]] void refuse(const std::string& what) const override {
    throw Error(ErrorKind::bad_data,
                fmt::format("{}: byte {}: {}; expected the cookies that modelscope login writes", file_, place(), what),
                "log in once more, or set MODELSCOPE_API_TOKEN, or remove the file");
  }
  void check_protocol(unsigned) const override {}
  Index global(std::string name) override { return add({Kind::global, 0, std::move(name), {}}); }
  Index call(Index, Index) override { return add({Kind::dict, 0, {}, {}}); }
  [[noreturn]] Index persistent(Index) override { refuse("has an id of something outside"); }
  void build(Index object, Index attributes) override {
    if (value(object).kind != Kind::dict || value(attributes).kind != Kind::dict) return;
    const std::vector<Index> more = value(attributes).items;
    value(object).items.insert(value(object).items.end(), more.begin(), more.end());
  }

  // The last that was set under the name, or nullptr.
  const Value* attribute(const Value& object, std::string_view name) const {
    for (size_t i = object.items.size(); i >= 2; i -= 2) {
      const Value& key = value(object.items[i - 2]);
      if (key.kind == Kind::text && key.text == name) return &value(object.items[i - 1]);
    }
    return nullptr;
  }
  std::string text(const Value& object, std::string_view name) const {
    const Value* found = attribute(object, name);
    return found && found->kind == Kind::text ? found->text : "";
  }
  static double seconds_of(const Value& time, int64_t otherwise) {
    if (time.kind == Kind::real) return std::bit_cast<double>(time.integer);
    return static_cast<double>(time.kind == Kind::integer ? time.integer : otherwise);
  }

  const std::string& file_;
};

}  // namespace

fs::path modelscope_cookies() {
  const auto folder = [](const char* name) -> fs::path {
    const char* value = std::getenv(name);
    if (!value || !*value) return {};
    const std::string path = value;
    if (path != "~" && !path.starts_with("~/")) return path;
    const char* home = std::getenv("HOME");
    return fs::path(home ? home : "/") / path.substr(std::min<size_t>(2, path.size()));
  };
  std::error_code failed;
  if (const fs::path given = folder("MODELSCOPE_CREDENTIALS_PATH"); !given.empty())
    return fs::exists(given / "cookies", failed) ? given / "cookies" : given / "credentials" / "cookies";
  fs::path home = folder("MODELSCOPE_HOME");
  if (home.empty()) home = folder("HOME") / ".modelscope";
  return home / "credentials" / "cookies";
}

std::string session_cookie(const std::string& file, std::string_view bytes, const std::string& host, int64_t now) {
  return CookieJar(file, bytes).session(host, now);
}

}  // namespace loraine
