#include "loraine/io/hub/url.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>

#include "loraine/core/lower_case.h"
#include "loraine/io/hub/curl_library.h"

namespace loraine {
namespace {

struct CurlUrl {
  CURLU* handle = curl_library().url();
  CurlUrl() = default;
  ~CurlUrl() { curl_library().url_cleanup(handle); }
  CurlUrl(const CurlUrl&) = delete;
  CurlUrl& operator=(const CurlUrl&) = delete;
  bool set(const std::string& url) { return curl_library().url_set(handle, CURLUPART_URL, url.c_str(), 0) == CURLUE_OK; }
  std::string get(CURLUPart part, unsigned flags = 0) const {
    char* text = nullptr;
    if (curl_library().url_get(handle, part, &text, flags) != CURLUE_OK) return {};
    std::string out = text;
    curl_library().free(text);
    return out;
  }
};

}  // namespace

std::string joined_url(const std::string& base, const std::string& location) {
  CurlUrl to;
  if (location.empty() || !to.set(base) || curl_library().url_set(to.handle, CURLUPART_URL, location.c_str(), CURLU_URLENCODE) != CURLUE_OK)
    return {};
  return to.get(CURLUPART_URL);
}

std::string url_host(const std::string& url) {
  CurlUrl parsed;
  if (!parsed.set(url)) return "a hub";
  const std::string host = parsed.get(CURLUPART_HOST), port = parsed.get(CURLUPART_PORT);
  return port.empty() ? host : host + ":" + port;
}

bool same_origin(const std::string& a, const std::string& b) {
  CurlUrl one, other;
  if (!one.set(a) || !other.set(b)) return false;
  const auto same = [&](CURLUPart part, unsigned flags) { return lower_case(one.get(part, flags)) == lower_case(other.get(part, flags)); };
  return same(CURLUPART_SCHEME, 0) && same(CURLUPART_HOST, 0) && same(CURLUPART_PORT, CURLU_DEFAULT_PORT);
}

bool same_domain(const std::string& url, const std::string& hub) {
  CurlUrl one, other;
  if (!one.set(url) || !other.set(hub) || lower_case(one.get(CURLUPART_SCHEME)) != "https" ||
      lower_case(other.get(CURLUPART_SCHEME)) != "https")
    return false;
  const std::string host = lower_case(one.get(CURLUPART_HOST));
  std::string domain = lower_case(other.get(CURLUPART_HOST));
  if (domain.starts_with("www.")) domain.erase(0, 4);
  const bool is_name = domain.find('.') != domain.npos && std::isalpha(static_cast<unsigned char>(domain.back()));  // no number of a host
  return is_name && (host == domain || host.ends_with("." + domain));
}

std::string url_part(const std::string& text) {
  std::string out;
  for (const unsigned char c : text)
    if (std::isalnum(c) || c == '-' || c == '.' || c == '_' || c == '~') out += static_cast<char>(c);
    else out += fmt::format("%{:02X}", c);
  return out;
}

std::string url_path(const std::string& path) {
  std::string out;
  for (size_t start = 0; start <= path.size();) {
    const size_t end = std::min(path.find('/', start), path.size());
    out += (start ? "/" : "") + url_part(path.substr(start, end - start));
    start = end + 1;
  }
  return out;
}

}  // namespace loraine
