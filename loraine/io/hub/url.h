// Addresses: their parts, and whether two are of one host, which decides who gets a token. Called by the files of this room.
#pragma once
#include <string>

namespace loraine {

std::string url_host(const std::string& url);                  // "huggingface.co", "localhost:8080"
bool same_origin(const std::string& a, const std::string& b);  // scheme, host and port
// Both over https, and `url` is of the hub's name, or of one below it: lfs.hub.org of hub.org, and of www.hub.org.
bool same_domain(const std::string& url, const std::string& hub);
std::string url_path(const std::string& path);                                 // of a repository's file: each part escaped, slashes kept
std::string url_part(const std::string& text);                                 // escaped whole
std::string joined_url(const std::string& base, const std::string& location);  // of a redirect; empty where it is none

}  // namespace loraine
