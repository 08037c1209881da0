// What environment variables say about hubs, with the names and meanings that huggingface_hub and modelscope give them; where settings say
// something themselves (HubAccess), that counts. Read anew at every call. docs/hub.md lists them.
#pragma once
#include <filesystem>
#include <optional>
#include <string>

#include "loraine/io/hub/hub.h"

namespace loraine {

bool is_set(const char* variable);  // to 1, ON, YES or TRUE, in any case
bool offline();                     // HF_HUB_OFFLINE or TRANSFORMERS_OFFLINE: no socket is opened

std::filesystem::path cache_root(Hub hub, const HubAccess& access);

// "https://huggingface.co" or what HF_ENDPOINT (MODELSCOPE_ENDPOINT, MODELSCOPE_DOMAIN) says, without a slash at its end. Throws usage
// where that is no http address.
std::string endpoint(Hub hub);

struct HubToken {
  std::string secret;  // empty: none
  std::string origin;  // "HF_TOKEN", "the file …/token", "hf_hub_token": for messages
};
// To read: none where HF_HUB_DISABLE_IMPLICIT_TOKEN is set and the settings name none. To write it counts all the same.
HubToken hub_token(Hub hub, const HubAccess& access, bool to_write = false);

int64_t download_timeout();  // HF_HUB_DOWNLOAD_TIMEOUT: seconds without a byte; 10
int64_t answer_timeout();    // HF_HUB_ETAG_TIMEOUT: seconds that a first answer may take; 10

}  // namespace loraine
