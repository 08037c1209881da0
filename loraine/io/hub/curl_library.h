// libcurl, opened when a hub is first asked: it brings some thirty other libraries with it, whose loading every start of the program would
// pay for. Used by http.cpp and url.cpp alone.
#pragma once
#include <curl/curl.h>
#undef curl_easy_setopt
#undef curl_easy_getinfo

namespace loraine {

struct CurlLibrary {
  decltype(&::curl_easy_cleanup) easy_cleanup;
  decltype(&::curl_easy_getinfo) easy_getinfo;
  decltype(&::curl_easy_init) easy_init;
  decltype(&::curl_easy_perform) easy_perform;
  decltype(&::curl_easy_reset) easy_reset;
  decltype(&::curl_easy_setopt) easy_setopt;
  decltype(&::curl_easy_strerror) easy_strerror;
  decltype(&::curl_free) free;
  decltype(&::curl_global_init) global_init;
  decltype(&::curl_slist_append) slist_append;
  decltype(&::curl_slist_free_all) slist_free_all;
  decltype(&::curl_url) url;
  decltype(&::curl_url_cleanup) url_cleanup;
  decltype(&::curl_url_get) url_get;
  decltype(&::curl_url_set) url_set;
};

// Opened and started. Throws io where it is not on this machine.
const CurlLibrary& curl_library();

}  // namespace loraine
