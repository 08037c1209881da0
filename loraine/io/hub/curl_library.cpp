// The functions by their names.
#include "loraine/io/hub/curl_library.h"

#include <dlfcn.h>
#include <fmt/format.h>

#include "loraine/core/error.h"

namespace loraine {
namespace {

constexpr const char* kName = "libcurl.so.4";

CurlLibrary open_library() {
  void* library = dlopen(kName, RTLD_NOW | RTLD_LOCAL);  // stays open
  if (!library)
    throw Error(ErrorKind::io, fmt::format("{}, which asks hubs, cannot be opened: {}", kName, dlerror()),
                "install it (Debian: apt-get install libcurl4), or give the path of a folder instead of an id");
  CurlLibrary curl{};
  const auto find = [&](auto& function, const char* name) {
    function = reinterpret_cast<std::decay_t<decltype(function)>>(dlsym(library, name));
    if (!function) throw Error(ErrorKind::io, fmt::format("{} has no {}", kName, name), "install a newer one: 7.85 and later do");
  };
  find(curl.easy_cleanup, "curl_easy_cleanup");
  find(curl.easy_getinfo, "curl_easy_getinfo");
  find(curl.easy_init, "curl_easy_init");
  find(curl.easy_perform, "curl_easy_perform");
  find(curl.easy_reset, "curl_easy_reset");
  find(curl.easy_setopt, "curl_easy_setopt");
  find(curl.easy_strerror, "curl_easy_strerror");
  find(curl.free, "curl_free");
  find(curl.global_init, "curl_global_init");
  find(curl.slist_append, "curl_slist_append");
  find(curl.slist_free_all, "curl_slist_free_all");
  find(curl.url, "curl_url");
  find(curl.url_cleanup, "curl_url_cleanup");
  find(curl.url_get, "curl_url_get");
  find(curl.url_set, "curl_url_set");
  if (curl.global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK) throw Error(ErrorKind::internal, "libcurl cannot be started");
  return curl;
}

}  // namespace

const CurlLibrary& curl_library() {
  static const CurlLibrary curl = open_library();
  return curl;
}

}  // namespace loraine
