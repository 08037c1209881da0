// Large contents to a hub, over git's LFS protocol: Hugging Face's with its parts, ModelScope's in its envelope. Called by the protocols of
// uploads.
#pragma once
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "loraine/io/hub/upload_protocol.h"

namespace loraine {

// Those of `files` that are large. Each is sent whole, or in the parts that Hugging Face asks for. Its contents go elsewhere without the
// token; ModelScope's go to a name of its own domain with it, or elsewhere without.
void upload_large_files(HttpClient& client, const std::string& id, const std::string& branch, const std::vector<UploadFile>& files);

HttpRequest json_request(const std::string& method, const std::string& url, const nlohmann::json& body);

}  // namespace loraine
