// Large contents to a hub, over git's LFS protocol with Hugging Face's parts. Called by upload.cpp.
#pragma once
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "loraine/io/hub/http.h"

namespace loraine {

struct UploadFile {
  std::string path, place;  // in the repository; on this disk
  uint64_t size = 0;
  bool large = false, ignored = false, there = false;
  std::string sha256 = {};  // of large ones
};

// Those of `files` that are large. Each is sent whole, or in the parts that the hub asks for; the token goes to the hub alone, never to the
// places that the contents go to.
void upload_large_files(HttpClient& client, const std::string& id, const std::string& branch, const std::vector<UploadFile>& files);

HttpRequest json_request(const std::string& method, const std::string& url, const nlohmann::json& body);

}  // namespace loraine
